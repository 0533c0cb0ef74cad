"""What commands write where the environment names an encoding that lacks some characters."""

import csv
import io
import json
import os
import pty
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from devin_pipeline.cli import main
from devin_pipeline.lake import Lake, LakeIdentity
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.cli.running import Running, environment, run
from devin_pipeline_tests.dagster_server.running import free_port
from devin_pipeline_tests.harness import PipelineHarness
from devin_pipeline_tests.tables.rows import DAY, NOON, rows_of

pytestmark = pytest.mark.notices(
    "a bar that is drawn while Dagster leads stderr into a file", "null in a table", "characters that a terminal lacks"
)

TITLE = "Grüße 😀 日本"
ENVIRONMENTS = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1:strict"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "C with UTF-8": {"LC_ALL": "C"},
    "UTF-8": {"PYTHONUTF8": "1"},
    "ascii over UTF-8": {"PYTHONUTF8": "1", "PYTHONIOENCODING": "ascii"},
}
every_encoding = pytest.mark.parametrize("settings", [pytest.param(env, id=name) for name, env in ENVIRONMENTS.items()])


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(str(tmp_path_factory.mktemp("output") / "lake"))
    lake.claim(LakeIdentity("live", "api.devin.ai", "enterprise", 8))
    sessions = TABLES["sessions"]
    updated = NOON + timedelta(hours=2, minutes=30, seconds=59)
    values = {"session_id": "a", "title": TITLE, "tags": ["ü"], "created_at": NOON, "updated_at": updated}
    lake.replace_days(sessions, [DAY], rows_of(sessions, [values]))
    return lake


def test_the_time_between_two_instants_is_hours_minutes_and_seconds(lake: Lake) -> None:
    folder, env = Path(lake.uri).parent, environment(DEVIN_LAKE=lake.uri)
    query = "select max(updated_at - created_at) from sessions"
    name = "max((updated_at - created_at))"
    assert run("query", query, folder=folder, env=env).stdout.decode().split("\n")[1].strip() == "2:30:59"
    assert run("query", query, "--format", "csv", folder=folder, env=env).stdout == f"{name}\n2:30:59\n".encode()
    assert json.loads(run("query", query, "--format", "json", folder=folder, env=env).stdout) == [{name: "2:30:59"}]


@every_encoding
def test_csv_and_json_are_utf8_and_a_table_escapes_what_cannot_be_shown(lake: Lake, settings: dict[str, str]) -> None:
    env = environment(DEVIN_LAKE=lake.uri, **settings)
    folder = Path(lake.uri).parent
    query = 'select title, tags, 1 as "größe" from sessions'

    as_csv = run("query", query, "--format", "csv", folder=folder, env=env)
    assert list(csv.reader(io.StringIO(as_csv.stdout.decode()))) == [["title", "tags", "größe"], [TITLE, '["ü"]', "1"]]
    as_json = run("query", query, "--format", "json", folder=folder, env=env)
    assert json.loads(as_json.stdout.decode()) == [{"title": TITLE, "tags": ["ü"], "größe": 1}]

    table = run("query", query, folder=folder, env=env)
    encoding = settings.get("PYTHONIOENCODING", "ascii" if settings.get("PYTHONUTF8") == "0" else "utf-8")
    encoding = encoding.partition(":")[0]
    heading, row = table.stdout.decode(encoding).splitlines()
    shown = TITLE.encode(encoding, "backslashreplace").decode(encoding)
    assert shown in row
    # What follows an escape is still under its heading.
    if encoding == "ascii":
        assert row.index('["\\xfc"]') == heading.index("tags")
    assert [called.returncode for called in (as_csv, as_json, table)] == [0, 0, 0]


def test_every_command_says_what_it_has_to_say_in_any_encoding(
    make_harness: Callable[..., PipelineHarness], tmp_path: Path
) -> None:
    harness = make_harness("v3", sessions=4, days=2)
    harness.build_unobserved()
    days = ("--from", str(harness.days[0]), "--to", str(harness.days[1]))
    calls: list[tuple[int, tuple[str, ...]]] = [
        (0, ("backfill", *days, "--dry-run")),
        (0, ("verify", "--json")),
        (0, ("maintain",)),
        (1, ("query", "select nothing as größe from 😀")),
        (2, ("backfill", "--from", "😀", "--to", "…")),
    ]
    for name in ("cp1252", "C"):
        env = environment(**ENVIRONMENTS[name])
        for code, words in calls:
            called = run(*words, folder=tmp_path, env=env)
            expected = (code, False)
            assert (called.returncode, b"Traceback" in called.stderr) == expected, (name, words, called.stderr.decode())
        doctor = run("doctor", folder=tmp_path, env=env)
        assert b"Traceback" not in doctor.stderr, name
        assert b"lake" in doctor.stdout, name


def on_a_terminal(words: list[str], folder: Path, env: dict[str, str]) -> tuple[int, bytes]:
    """The exit code of a command on a terminal, and all that is to be seen there."""
    ours, theirs = pty.openpty()
    with Running(*words, folder=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        seen = b""
        while True:
            try:
                some = os.read(ours, 65536)
            except OSError:
                break
            if not some:
                break
            seen += some
    os.close(ours)
    return running.wait(), seen


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_of_any_encoding_shows_a_table(lake: Lake, encoding: str) -> None:
    env = environment(DEVIN_LAKE=lake.uri, TERM="xterm", PYTHONIOENCODING=encoding)
    code, seen = on_a_terminal(["query", "select title from sessions"], Path(lake.uri).parent, env)
    assert (code, b"Traceback" in seen) == (0, False), seen
    assert TITLE.encode(encoding, "backslashreplace") in seen


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_columns_whole_and_the_number_of_those_left_out_in_the_middle(
    lake: Lake, columns: int
) -> None:
    env = environment(DEVIN_LAKE=lake.uri, TERM="dumb", COLUMNS=str(columns))
    _, seen = on_a_terminal(["query", "from sessions"], Path(lake.uri).parent, env)
    *table, note = seen.decode().splitlines()
    assert max(map(len, table)) <= columns
    # A heading has two lines at most, and this row one.
    assert len(table) == 3
    names = TABLES["sessions"].column_names
    shown = [name for name in names if name in table[1] or name.rpartition("_")[2] in table[1].split()]
    assert (names[0] in shown, names[-1] in shown) == (True, True)
    assert f"… {len(names) - int(note.split()[0])} more …" in table[1]
    assert note.endswith(f" of {len(names)} columns; a wider terminal or --format csv shows all.")
    assert str(DAY) in table[2]
    assert "NULL" in table[2]


def test_a_terminal_folds_ids_where_no_column_has_to_be_left_out_then(lake: Lake) -> None:
    env = environment(DEVIN_LAKE=lake.uri, TERM="dumb", COLUMNS="80")
    query = f"select '{'a' * 36}' as org_id, '{'b' * 32}' as user_id, null as service_user_id, 1.5 as acus"
    _, seen = on_a_terminal(["query", query], Path(lake.uri).parent, env)
    _, heading, *rows = seen.decode().splitlines()
    assert heading.split() == ["org_id", "user_id", "user_id", "acus"]
    assert "".join(row.split()[0] for row in rows) == "a" * 36
    assert rows[0].split()[2:] == ["NULL", "1.5"]


def test_elsewhere_than_on_a_terminal_a_table_has_all_columns_with_whole_headings(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_LAKE", lake.uri)
    heading, row = CliRunner().invoke(main, ["query", "from sessions"]).stdout.splitlines()
    assert heading.split() == list(TABLES["sessions"].column_names)
    assert "NULL" in row


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("from sesions", "Catalog Error: Table with name sesions does not exist! Did you mean sessions or "),
        # A table that is named rightly does not keep the others from being proposed.
        ("from acu_daly, sessions", "Catalog Error: Table with name acu_daly does not exist! Did you mean acu_daily"),
        ("select titel from sessions", 'Binder Error: Referenced column "titel" not found in FROM clause! Candidate '
         'bindings: "title", '),
        ("select summ(1)", 'Catalog Error: Scalar Function with name summ does not exist! Did you mean "sum"?'),
    ],
)  # fmt: skip
def test_a_misspelt_name_gets_the_whole_hint(lake: Lake, monkeypatch: pytest.MonkeyPatch, query: str, why: str) -> None:
    monkeypatch.setenv("DEVIN_LAKE", lake.uri)
    result = CliRunner().invoke(main, ["query", query])
    assert (result.exit_code, result.stderr.splitlines()[1].startswith(why)) == (1, True), result.stderr


# UTF-8 as other tests use it, whose interpreter is there already.
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_of_any_encoding_shows_how_far_a_backfill_is(
    make_harness: Callable[..., PipelineHarness], tmp_path: Path, encoding: str
) -> None:
    harness = make_harness("v3", sessions=20, days=2)
    settings = {} if encoding == "utf-8" else {"PYTHONIOENCODING": encoding}
    env = environment(**settings, TERM="xterm")
    words = ["backfill", "--from", str(harness.days[0]), "--to", str(harness.days[1])]
    code, seen = on_a_terminal(words, tmp_path, env)
    assert (code, b"Traceback" in seen) == (0, False), seen
    # While the run goes on, and when it is over.
    assert b"reading raw_sessions_v3" in seen
    assert b"1/2" in seen
    assert b"2/2" in seen
    assert " … ".encode(encoding, "backslashreplace") in seen


def test_the_bar_of_a_backfill_that_fails_shows_the_days_that_are_done(
    make_harness: Callable[..., PipelineHarness], tmp_path: Path
) -> None:
    harness = make_harness("v3", sessions=20, days=2)
    env = environment(TERM="xterm", DEVIN_API_URL=f"http://127.0.0.1:{free_port()}")
    words = ["backfill", "--from", str(harness.days[0]), "--to", str(harness.days[-1])]
    code, seen = on_a_terminal(words, tmp_path, env)
    assert (code, b"Traceback" in seen) == (1, False), seen
    assert b"0/2" in seen
    assert b"2/2" not in seen


@pytest.mark.parametrize("word", [b"select '\xff'", b"-- \xff\nselect 1"])
def test_a_word_that_is_not_utf8_gets_three_lines_and_exit_2(tmp_path: Path, word: bytes) -> None:
    for words in ([b"query", word], [b"forget", b"--user", word], [b"backfill", b"--from", word]):
        called = run(*words, folder=tmp_path)
        assert called.stderr.decode().splitlines()[:2] == ["This command cannot be run.", "A word of it is not UTF-8."]
        assert called.returncode == 2


def test_a_query_is_utf8_where_the_environment_knows_ascii_only(lake: Lake, tmp_path: Path) -> None:
    ascii_only = environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", DEVIN_LAKE=lake.uri)
    called = run("query", "select 'Grüße 😀' as x", "--format", "json", folder=tmp_path, env=ascii_only)
    assert json.loads(called.stdout) == [{"x": "Grüße 😀"}]
