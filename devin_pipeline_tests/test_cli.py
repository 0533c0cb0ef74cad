"""The commands as a person meets them: what they print, what they write, how they end."""

import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import click
import dagster as dg
import httpx
import pytest
from click.testing import CliRunner, Result

from devin_pipeline.cli import main
from devin_pipeline.cli.errors import Commands
from devin_pipeline.emulator import EmulatorServer
from devin_pipeline.lake import Lake, LakeIdentity
from devin_pipeline.tables import ALL_TABLES, TABLES
from devin_pipeline.tables.views import NAMED_VIEWS
from devin_pipeline_tests.cli.running import COMMAND, Running
from devin_pipeline_tests.cli.running import run as run_process
from devin_pipeline_tests.dagster_server.running import eventually, free_port
from devin_pipeline_tests.harness import Moment, PipelineHarness, differences
from devin_pipeline_tests.lake.full_disk import no_file_beyond
from devin_pipeline_tests.lake.test_disk import as_somebody_else

pytestmark = pytest.mark.notices(
    "a proxy of the environment that cannot be used, before any work",
    "a formula in a CSV",
    "a stop taken for a failed run",
    "an interrupt that got lost",
    "what heeds no interrupt",
)

MakeHarness = Callable[..., PipelineHarness]

URL = 'https://host/"quoted", \x1b[2J [bold]\nnext line'


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def lines(result: Result) -> list[str]:
    return result.stderr.strip().splitlines()


@pytest.fixture
def harness(make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PipelineHarness:
    """A server with four days of sessions; commands run in an empty folder, as on a fresh machine."""
    monkeypatch.chdir(tmp_path)
    return make_harness("v3", sessions=40)


def backfill(harness: PipelineHarness, *words: str) -> Result:
    return run("backfill", "--from", str(harness.days[0]), "--to", str(harness.days[-1]), *words)


# What a wrong call or configuration gets


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("DEVIN_V3_API_KEY", "", "neither DEVIN_V3_API_KEY nor DEVIN_V2_API_KEY"),
        ("DEVIN_V3_API_KEY", "apk_user_abcdefghijklmnop", "DEVIN_V2_API_KEY"),
        ("DEVIN_V3_API_KEY", "cog_with a space", "DEVIN_V3_API_KEY"),
        ("DEVIN_V2_API_KEY", "cog_abcdefghijklmnop", "belongs in DEVIN_V3_API_KEY"),
        ("DEVIN_API_URL", "http://api.devin.ai", "loopback"),
        ("DEVIN_API_URL", "http://localhost.evil.example", "loopback"),
        ("DEVIN_FEEDS", "raw_sessions_v4", "no such feed"),
        ("DEVIN_FEEDS", "raw_session_insights_v2", "DEVIN_V2_API_KEY"),
        ("DEVIN_START_DATE", "2026-02-30", "not a date"),
        ("DEVIN_START_DATE", "0001-01-01", "no Devin"),
        ("DEVIN_DAY_STARTS_AT_UTC_HOUR", "24", "not an hour"),
        ("DEVIN_LAKE", "100%", "DEVIN_LAKE"),
        ("DEVIN_LAKE", "a^b", "does not take ^"),
        ("DEVIN_LAKE", "a\nb", "does not take \\n"),
        ("DEVIN_LAKE", "~nobody.has.this.name", "home is not known"),
        ("DAGSTER_HOME", "a?b", "do not take ?"),
        ("DAGSTER_HOME", "a%41b", "do not take %"),
        ("DAGSTER_HOME", "~nobody.has.this.name", "home is not known"),
        ("DEVIN_ORG_ID", "org with a space", "DEVIN_ORG_ID"),
        ("DEVIN_ORG_ID", "a/b?x=1", "DEVIN_ORG_ID"),
        ("DEVIN_LAKE", "/etc/hostname/lake", "is not a folder"),
    ],
)
def test_a_wrong_setting_gets_three_lines_and_exit_2_before_any_request_and_writes_nothing(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str, value: str, says: str
) -> None:
    monkeypatch.setenv(setting, value)
    result = backfill(harness)
    assert result.exit_code == 2
    assert len(lines(result)) == 3
    assert says.lower() in result.stderr.lower()
    assert harness.server.requests == []
    assert list(tmp_path.iterdir()) == []
    if "KEY" in setting and value:
        assert value not in result.output


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", "foo://hunter2"),
        ("https_proxy", "http://[::1"),
        ("NO_PROXY", "[::1"),
        ("SSL_CERT_FILE", "/nowhere"),
    ],
)
def test_a_proxy_or_certificates_that_cannot_be_used_get_three_lines_and_exit_2_and_nothing_is_written(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str
) -> None:
    monkeypatch.setenv("DEVIN_API_URL", "https://127.0.0.1:9")
    monkeypatch.setenv(variable, value)
    result = backfill(harness)
    assert (result.exit_code, len(lines(result))) == (2, 3)
    assert all(variable in line for line in lines(result)[1:])
    assert value not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_lake_that_may_not_be_written_gets_three_lines_and_exit_2_before_any_request(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert backfill(harness, "--dry-run").exit_code == 0
    # Not in pytest's own folder, which nobody else may look into.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        monkeypatch.setenv("DEVIN_LAKE", f"{folder}/lake")
        with as_somebody_else():
            result = backfill(harness)
    assert (result.exit_code, len(lines(result))) == (2, 3)
    assert f"You may not write to {folder}" in result.stderr
    assert harness.server.requests == []


def test_a_home_of_dagsters_that_does_not_fit_on_the_disk_gets_three_lines_and_can_be_made_later(
    harness: PipelineHarness,
) -> None:
    with no_file_beyond(100):
        result = backfill(harness)
    assert (result.exit_code, len(lines(result))) == (1, 3)
    assert "File too large" in lines(result)[1]
    assert harness.server.requests == []
    assert backfill(harness).exit_code == 0


@pytest.mark.notices("records of Dagster's that do not fit on the disk")
@pytest.mark.parametrize("largest", [10_000, 60_000, 120_000, 200_000])
def test_records_of_dagsters_that_do_not_fit_on_the_disk_get_three_lines_and_can_be_kept_later(
    harness: PipelineHarness, largest: int
) -> None:
    with no_file_beyond(largest):
        result = backfill(harness)
    what, why, todo = lines(result)[-3:]
    assert (result.exit_code, "Traceback" in result.stderr) == (1, False)
    assert what == f"Dagster cannot keep its records in {os.environ['DAGSTER_HOME']}."
    assert "disk" in why
    assert "Make room" in todo
    assert backfill(harness).exit_code == 0
    harness.observe()
    assert differences(harness) == {}


@pytest.mark.parametrize(
    ("first", "last", "says"),
    [
        ("2026-13-01", "2026-13-02", "not a date"),
        ("20261101", "2026-11-02", "not a date"),
        ("yesterday", "2026-11-02", "not a date"),
        ("+3", "+2", "comes after"),
        ("-1", "+0", "outside the partitions"),
        ("+0", "+99", "outside the partitions"),
    ],
)
def test_a_wrong_range_gets_three_lines_and_exit_2(
    harness: PipelineHarness, tmp_path: Path, first: str, last: str, says: str
) -> None:
    def day(text: str) -> str:
        offset = re.fullmatch(r"[+-]\d+", text)
        return str(harness.days[0] + timedelta(days=int(text))) if offset else text

    result = run("backfill", "--from", day(first), "--to", day(last))
    assert (result.exit_code, len(lines(result))) == (2, 3)
    assert says in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["backfill"], ["nonsense"], ["query"], ["demo", "--days", "0"]])
def test_a_call_that_cannot_be_run_gets_three_lines_and_exit_2(words: list[str]) -> None:
    result = run(*words)
    assert (result.exit_code, len(lines(result))) == (2, 3)
    assert "--help" in lines(result)[2]


# What backfill does


@pytest.mark.notices("days the lake has lost", "a run of a command without a code location")
def test_a_backfill_builds_every_table_and_a_dry_run_and_only_missing_know_it(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    planned = backfill(harness, "--dry-run", "--days-per-run", "3")
    assert planned.exit_code == 0
    assert [line.split()[0] for line in planned.stdout.splitlines()] == [str(harness.days[0]), str(harness.days[3])]
    assert "dg launch" in planned.stdout
    assert list(tmp_path.iterdir()) == []

    first = run("backfill", "--from", str(harness.days[0]), "--to", str(harness.days[1]))
    assert first.exit_code == 0, first.output
    assert "Warning" not in first.output
    harness.server.forget_requests()
    rest = backfill(harness, "--only-missing")
    assert rest.exit_code == 0, rest.output
    # The days made already are not asked for again.
    earliest = min(int(dict(request.query)["created_after"]) for request in harness.server.requests)
    assert datetime.fromtimestamp(earliest, UTC).date() == harness.days[2]
    assert {row["day"] for row in harness.rows("sessions")} == set(harness.days)
    assert "Nothing is missing" in backfill(harness, "--only-missing").stdout

    with dg.DagsterInstance.get() as instance:
        made = instance.get_materialized_partitions(dg.AssetKey("acu_daily"))
        # As the Dagster UI looks for runs of the code location.
        of_location = instance.get_runs(dg.RunsFilter(tags={".dagster/repository": "__repository__@devin_pipeline"}))
        assert len(of_location) == instance.get_runs_count() == 2
    assert made == {day.isoformat() for day in harness.days}

    # What Dagster recorded does not count once the lake has lost it.
    shutil.move(harness.lake.location(TABLES["acu_daily"]), tmp_path / "lost")
    assert backfill(harness, "--only-missing", "--dry-run").stdout.startswith(
        f"{harness.days[0]} … {harness.days[-1]}  4 days"
    )
    shutil.move(tmp_path / "lost", harness.lake.location(TABLES["acu_daily"]))

    monkeypatch.setenv("DEVIN_ORG_ID", harness.enterprise.organizations[0].org_id)
    refused = backfill(harness)
    assert (refused.exit_code, len(lines(refused))) == (2, 3)
    assert "scope" in refused.stderr

    listed = run("tables")
    assert listed.exit_code == 0
    for table in ALL_TABLES:
        assert re.search(rf"^ {table.name} .*{re.escape(table.grain[:30])}", listed.stdout, re.MULTILINE)
    assert re.search(
        rf" sessions .* {len(harness.rows('sessions'))} +4 +{harness.days[0]} +{harness.days[3]}", listed.stdout
    )


def test_a_warning_begins_with_how_many_were_found_and_names_what_and_where(harness: PipelineHarness) -> None:
    session = next(
        each for each in harness.enterprise.sessions if (each.created_at - timedelta(hours=8)).date() == harness.days[1]
    )
    session.extras = {"brand_new": 1}
    result = backfill(harness)
    assert result.exit_code == 0, result.output
    first = harness.days[0]
    assert sorted(line for line in result.stderr.splitlines() if "Warning" in line) == [
        f"  Warning: 1 found: day {first}, field brand_new, sessions of the run 1 (fields_are_known of {feed})"
        for feed in sorted(harness.feeds)
    ]


@pytest.mark.notices("a day that could not be read, taken for an empty one")
def test_a_day_that_cannot_be_read_costs_the_others_nothing(harness: PipelineHarness) -> None:
    harness.build()
    bad = harness.days[2]
    kept = [row for row in harness.rows("sessions") if row["day"] == bad]
    harness.enterprise.grow_acus(40)
    # Among so many sessions of another year, the response for this day does not answer the request.
    at = next(s.created_at for s in harness.enterprise.sessions if (s.created_at - timedelta(hours=8)).date() == bad)
    for number in range(40):
        outside = f'{{"session_id": "outside{number}", "created_at": 1700000000, "acus_consumed": 1}}'
        harness.enterprise.insert_verbatim("sessions_v3", at, outside)
    result = backfill(harness)

    assert result.exit_code == 1
    assert f": devin-pipeline backfill --from {bad} --to {bad}" in lines(result)[-1]
    assert not result.stderr.strip().endswith(".")
    assert "--only-missing" not in lines(result)[-1]
    assert [row for row in harness.rows("sessions") if row["day"] == bad] == kept
    assert all(row["is_listed"] for row in harness.rows("raw_sessions_v3"))
    by_id = {session.session_id.removeprefix("devin-"): session for session in harness.enterprise.sessions}
    for row in harness.rows("sessions"):
        if row["day"] != bad and (acus := by_id[row["session_id"]].acus) is not None:
            assert row["acus"] == Decimal(str(acus))


def test_an_address_that_cannot_be_reached_is_named_with_the_reason_and_nothing_is_written(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("DEVIN_API_URL", url)
    result = backfill(harness, "--days-per-run", "2")
    what, why, todo = lines(result)[-3:]
    assert result.exit_code == 1
    assert what == "4 of 4 days were not made; they keep their last good version."
    assert why.startswith(f"{url} cannot be reached: no connection to the host 127.0.0.1:")
    assert "(Connection refused)" in why
    assert f"--from {harness.days[0]} --to {harness.days[-1]}" in todo
    # Not the second of the two runs: it would fail alike.
    assert [line for line in lines(result) if "days]" in line] == [
        f"[0/4 days] {harness.days[0]} … {harness.days[1]}  failed"
    ]


def test_an_organization_that_is_not_there_does_not_claim_the_lake(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_ORG_ID", "org-typo")
    refused = backfill(harness)
    assert refused.exit_code == 1
    assert "404" in refused.stderr
    assert harness.lake.identity is None


# How backfill is stopped

STOPPED = ["Interrupted.", "It was asked to stop.", "Run the same command again to resume."]


def stop(running: Running | subprocess.Popen[bytes], number: int) -> str:
    """What a process still says after a signal. It ends within ten seconds, which is what is promised."""
    # As a terminal does: to whatever the command has started, too.
    os.killpg(running.pid, number) if number == signal.SIGINT else running.send_signal(number)
    try:
        output, errors = running.communicate(timeout=10)
    finally:
        running.kill()
    assert running.returncode == 1
    return ((output or b"") + (errors or b"")).decode()


def begun(words: list[str], folder: Path) -> Running:
    """A command, started as by a terminal: with a process group of its own."""
    return Running(*words, folder=folder, stdout=subprocess.DEVNULL, leads_session=True)


def stopped(harness: PipelineHarness, tmp_path: Path, number: int, once: Callable[[], object]) -> None:
    """Send a signal to a backfill `once` something has happened; it must stop in order within ten seconds."""
    words = ["backfill", "--from", str(harness.days[0]), "--to", str(harness.days[-1]), "--days-per-run", "2"]
    with begun(words, tmp_path) as running:
        once()
        output = stop(running, number)
    assert output.splitlines()[-3:] == STOPPED
    assert "Traceback" not in output
    with dg.DagsterInstance.get() as instance:
        # The first of two runs.
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.CANCELED]


@pytest.mark.notices(
    "a stop that Dagster takes for a failure",
    "Ctrl-C at the processes that copy the output of steps",
    "a closed terminal",
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_backfill_that_gets_a_signal_stops_at_once_publishes_nothing_half_and_can_go_on(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    moment = Moment(harness, harness.days[:2])
    # So slow that the run is not done before it is stopped.
    with EmulatorServer(harness.enterprise, latency_seconds=2) as slow:
        monkeypatch.setenv("DEVIN_API_URL", slow.url)
        stopped(harness, tmp_path, number, lambda: eventually(lambda: slow.requests, 60, "the first request"))
    assert not set(moment.commits()) & {"sessions", "acu_daily"}
    moment.require_whole_versions()
    moment.observe_landed_feeds()
    monkeypatch.setenv("DEVIN_API_URL", harness.server.url)
    # The same command again, once; what it does is the same after either signal.
    if number == signal.SIGTERM:
        assert backfill(harness).exit_code == 0
        harness.observe()
    else:
        harness.build()
    assert differences(harness) == {}


def test_a_backfill_whose_request_hangs_stops_all_the_same(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as never_answers, ExitStack() as connections:
        monkeypatch.setenv("DEVIN_API_URL", f"http://127.0.0.1:{never_answers.getsockname()[1]}")
        stopped(harness, tmp_path, signal.SIGTERM, lambda: connections.enter_context(never_answers.accept()[0]))
    assert not Path(harness.lake.uri).exists()


def test_a_backfill_that_gets_a_signal_before_it_has_begun_asks_nothing(
    harness: PipelineHarness, tmp_path: Path
) -> None:
    words = ["backfill", "--from", str(harness.days[0]), "--to", str(harness.days[-1])]
    with begun(words, tmp_path) as running:
        assert running.stderr is not None
        assert b"4 days in one run. As Dagster's own command:" in running.stderr.readline()
        output = stop(running, signal.SIGTERM)
    assert output.splitlines()[-3:] == STOPPED
    assert harness.server.requests == []


def test_a_stop_that_what_runs_takes_for_its_own_failure_stops_all_the_same() -> None:
    mistaken = """if True:
        import contextlib, signal
        from devin_pipeline.cli import stopping
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with stopping.stoppable(), contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print("stopped")
    """
    done = subprocess.run([sys.executable, "-c", mistaken], capture_output=True, text=True, check=True)
    assert done.stdout == "stopped\n"


def test_what_heeds_no_interrupt_is_cut_off() -> None:
    stubborn = """if True:
        import os, signal, time
        from devin_pipeline.cli import stopping
        signal.signal(signal.SIGINT, lambda *_: os.write(1, b"interrupted "))
        with stopping.stoppable(0.5):
            os.write(1, b"begun\\n")
            while True:
                time.sleep(60)
    """
    words = [sys.executable, "-c", stubborn]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"begun\n"
        output = stop(running, signal.SIGINT)
    # Reminded now and then, since Python drops an interrupt that arrives at the wrong moment.
    assert output.count("interrupted") > 1


# What query returns


@pytest.fixture
def small_lake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lake:
    """A lake with one quarantined item and nothing else."""
    import pyarrow as pa

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVIN_LAKE", str(tmp_path / "lake"))
    lake = Lake(str(tmp_path / "lake"))
    lake.claim(LakeIdentity(kind="live", host="127.0.0.1", scope="enterprise", day_starts_at_utc_hour=8))
    table = TABLES["session_pull_requests"]
    values = {name: [None] for name in table.column_names} | {
        "day": [date(2026, 1, 31)],
        "session_id": ["s"],
        "ordinal": [0],
        "url": [URL],
        "acus_share": [Decimal("1.500000")],
        "session_created_at": pa.array([1769900000_000000], pa.timestamp("us", "UTC")),
    }
    lake.replace_days(table, [date(2026, 1, 31)], pa.table(values, schema=table.schema))
    return lake


def test_json_has_every_digit_of_a_decimal_and_iso_dates_and_instants(small_lake: Lake) -> None:
    asked = "select day, acus_share, session_created_at, number, ['a'] as texts, true as yes from session_pull_requests"
    result = run("query", asked, "--format", "json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout, parse_float=str)
    assert rows == [
        {
            "day": "2026-01-31",
            "acus_share": "1.500000",
            "session_created_at": "2026-01-31T22:53:20Z",
            "number": None,
            "texts": ["a"],
            "yes": True,
        }
    ]


def test_csv_is_what_a_csv_reader_reads(small_lake: Lake) -> None:
    result = run("query", "select day, url, acus_share, number from session_pull_requests", "--format", "csv")
    rows = list(csv.reader(io.StringIO(result.stdout)))
    assert rows[0] == ["day", "url", "acus_share", "number"]
    assert rows[1] == [
        "2026-01-31",
        small_lake.snapshot(TABLES["session_pull_requests"]).rows()["url"][0].as_py(),
        "1.500000",
        "",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-2+3",
        "@SUM(1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "\tx",
        "\rx",
        ' "=1',
        "'=1",
        "\ufeff=1",
        "\u200b=1",
        "\uff1d1",
    ],
)
def test_text_that_a_spreadsheet_would_run_is_neutralised_in_csv(small_lake: Lake, text: str) -> None:
    query = "select " + " || ".join(f"chr({ord(character)})" for character in text) + " as a"
    output = run("query", query, "--format", "csv").stdout_bytes.decode()
    assert list(csv.reader(io.StringIO(output, newline=""))) == [["a"], [f"'{text}"]]
    assert json.loads(run("query", query, "--format", "json").stdout) == [{"a": text}]


def test_a_column_named_like_a_formula_is_neutralised_in_csv(small_lake: Lake) -> None:
    assert run("query", 'select 1 as "=1+1"', "--format", "csv").stdout == "'=1+1\n1\n"


def test_numbers_dates_and_harmless_text_stay_as_they_are_in_csv(small_lake: Lake) -> None:
    query = "select -1 as a, -1.50::decimal(9,2) as b, date '2026-01-31' as c, 'x = -1' as d, ['=1'] as e, null as f"
    assert run("query", query, "--format", "csv").stdout.splitlines()[1] == '-1,-1.50,2026-01-31,x = -1,"[""=1""]",'


def test_a_table_shows_text_without_obeying_it(small_lake: Lake) -> None:
    result = run("query", "select url from session_pull_requests")
    assert "\x1b" not in result.stdout
    assert "[bold]" in result.stdout


@pytest.mark.parametrize(
    "statement",
    ["drop view sessions", "create table t (a int)", "copy sessions to 'x.csv'", "attach 'x.db'", "set threads = 1",
     "select 1; select 2", "", "pragma version", "install httpfs"],
)  # fmt: skip
def test_a_statement_that_does_more_than_read_is_refused(small_lake: Lake, statement: str) -> None:
    result = run("query", statement)
    assert (result.exit_code, len(lines(result))) == (2, 3)


def test_columns_of_one_name_are_kept_apart(small_lake: Lake) -> None:
    asked = "select 1 as a, 2 as a, 3 as b from session_pull_requests"
    assert json.loads(run("query", asked, "--format", "json").stdout) == [{"a": 1, "a_1": 2, "b": 3}]
    assert run("query", asked, "--format", "csv").stdout == "a,a_1,b\n1,2,3\n"


def test_show_tables_lists_them(small_lake: Lake) -> None:
    listed = json.loads(run("query", "show tables", "--format", "json").stdout)
    assert {row["name"] for row in listed} == {*TABLES, *(view.name for view in NAMED_VIEWS)}


def test_a_query_reads_no_other_file(small_lake: Lake) -> None:
    result = run("query", "select * from read_text('/etc/hostname')")
    assert (result.exit_code, len(lines(result))) == (1, 3)
    assert "Permission" in result.stderr


# What the demo, the emulator and their ends look like


def test_a_table_for_people_ends_somewhere_and_says_so(small_lake: Lake) -> None:
    shown = run("query", "select unnest(range(1002)) as n")
    assert shown.stdout.split() == ["n", *map(str, range(1000))]
    assert "1000 of 1002 rows; --format csv or json gives all." in shown.stderr


def test_a_process_that_ends_at_once_has_written_all(small_lake: Lake, tmp_path: Path) -> None:
    asked = ["query", "select unnest(range(200000)) as n", "--format", "csv"]
    # Where Python buffers nothing, there is nothing to lose.
    buffering = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    asking = buffering | {"DEVIN_LAKE": str(tmp_path / "lake"), "DEVIN_API_URL": "http://127.0.0.1:9"}
    result = subprocess.run([COMMAND, *asked], cwd=tmp_path, env=asking, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["n", *map(str, range(200_000))]
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as deaf:
        deaf.wait()
        assert deaf.stdin is not None
        with Running(*asked, folder=tmp_path, env=asking, stdout=deaf.stdin.fileno()) as unheard:
            unheard.communicate()
    assert unheard.returncode == 1
    with Path("/dev/full").open("w") as full:
        few = ["query", "select 1 as n", "--format", "csv"]
        with Running(*few, folder=tmp_path, env=asking, stdout=full.fileno()) as lost:
            _, errors = lost.communicate()
    assert lost.returncode == 1
    assert b"The output was truncated.\nIt could not be written (No space left on device)." in errors


def test_the_demo_runs_without_any_key_and_says_demo(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DEVIN_", "DAGSTER_"))}
    # A live key in the environment must not reach the demo.
    environment = clean | {"DEVIN_V3_API_KEY": "cog_livelivelivelive"}
    done = subprocess.run(
        [COMMAND, "demo", "--days", "2"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("DEMO DATA")
    assert re.search(r"^Done: all \d+ checks of the tables passed\.$", done.stdout, re.MULTILINE)
    # No key, and no command that would work only while the emulator served.
    assert "API_KEY" not in done.stdout
    assert "dg launch" not in done.stdout
    # Outside a checkout.
    assert done.stdout.endswith("  devin-pipeline ui --demo\n")
    assert re.search(
        r"^From \S+ to \S+:\n\n organization .*\n\n\d+ sessions consumed [\d.]+ ACUs, ",
        done.stdout,
        re.MULTILINE | re.DOTALL,
    )
    report = tmp_path / "data/demo/documents/usage_report.html"
    assert f"The report:      {report}\n" in done.stdout
    assert "DEMO DATA" in report.read_text()
    identity = Lake(str(tmp_path / "data/demo")).identity
    assert identity is not None
    assert identity.kind == "demo"
    assert (tmp_path / "data/demo/devin.duckdb").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".dagster_home_demo", "data"]

    asked = ["query", "--demo", "select count(*) as sessions from sessions", "--format", "json"]
    counted = run_process(*asked, folder=tmp_path, env=clean)
    assert json.loads(counted.stdout) == [{"sessions": 40}]
    assert counted.stderr.startswith(b"DEMO DATA")

    looked = run_process("doctor", "--demo", folder=tmp_path, env=environment)
    assert (looked.returncode, b"failed" in looked.stdout) == (0, False), looked.stdout
    assert "→" not in looked.stdout.decode()
    assert "…live" not in looked.stdout.decode()

    # The demo's rows and live ones never share a lake.
    live = environment | {"DEVIN_LAKE": "data/demo", "DEVIN_API_URL": "http://127.0.0.1:9"}
    refused = run_process("backfill", "--from", "2026-11-01", "--to", "2026-11-01", folder=tmp_path, env=live)
    assert refused.returncode == 2
    assert b"kind is 'demo', not 'live'" in refused.stderr


def is_answered(url: str, key: str) -> bool:
    try:
        response = httpx.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=5)
    except httpx.RequestError:
        return False
    return response.status_code == 200 and "service_user_id" in response.text


def test_the_emulator_serves_with_faults_as_asked_until_it_is_stopped(tmp_path: Path) -> None:
    words = ["emulator", "--port", "0", "--sessions", "5", "--days", "2", "--faults", "0.5"]
    with Running(*words, folder=tmp_path) as served:
        assert served.stdout is not None
        output = b"".join(served.stdout.readline() for _ in range(4)).decode()
        exported = dict(re.findall(r"^export (\w+)=(\S+)$", output, re.MULTILINE))
        assert set(exported) == {"DEVIN_API_URL", "DEVIN_V2_API_KEY", "DEVIN_V3_API_KEY"}
        honest = [is_answered(f"{exported['DEVIN_API_URL']}/v3/self", exported["DEVIN_V3_API_KEY"]) for _ in range(30)]
        assert True in honest
        assert False in honest
        served.send_signal(signal.SIGTERM)
        assert served.wait(timeout=20) == 0


# How a command ends when something else is not as it should be


@pytest.mark.parametrize("words", [["query", "select 1"], ["doctor"], ["tables"]])
def test_a_dotenv_that_cannot_be_read_gets_three_lines_and_exit_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"\xff\xfe=\n")
    result = run(*words)
    assert (result.exit_code, len(lines(result))) == (2, 3)
    assert "The file .env cannot be read" in result.stderr


@pytest.mark.parametrize("words", [["rebuild"], ["forget", "--user", "u"]])
def test_an_invalid_address_gets_three_lines_from_every_command_that_needs_it(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("DEVIN_API_URL", "http://[")
    result = run(*words)
    assert (result.exit_code, len(lines(result))) == (2, 3)
    assert "DEVIN_API_URL cannot be used" in result.stderr


@pytest.mark.parametrize("only_missing", [True, False])
@pytest.mark.parametrize("settings", [b"\xff", b"foo: bar", b"run_coordinator: 5", b"{: [", None])
def test_a_dagster_yaml_that_cannot_be_used_gets_three_lines(
    harness: PipelineHarness, tmp_path: Path, settings: bytes | None, only_missing: bool
) -> None:
    file = tmp_path / "home" / "dagster.yaml"
    file.parent.mkdir()
    file.mkdir() if settings is None else file.write_bytes(settings)
    result = backfill(harness, *(["--only-missing"] if only_missing else []))
    what, why, todo = lines(result)[-3:]
    assert result.exit_code == 1
    assert what == f"Dagster cannot open {tmp_path / 'home'}."
    assert "its dagster.yaml cannot be read or used" in why.lower()
    assert "Traceback" not in result.stderr
    assert todo.endswith("set DAGSTER_HOME to another folder.")
    assert harness.server.requests == []


@pytest.mark.parametrize(("home", "code"), [("~nobody-of-this-name/home", 2), ("/etc/hostname", 1)])
@pytest.mark.parametrize("only_missing", [True, False])
def test_a_home_of_dagsters_that_cannot_be_one_gets_three_lines(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch, home: str, code: int, only_missing: bool
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", home)
    result = backfill(harness, *(["--only-missing"] if only_missing else []))
    assert (result.exit_code, len(lines(result))) == (code, 3)
    assert "DAGSTER_HOME cannot be" in result.stderr


def test_an_error_of_the_system_gets_three_lines_and_one_of_ours_its_traceback() -> None:
    @click.group(cls=Commands)
    def group() -> None: ...

    @group.command()
    def system() -> None:
        Path("/nowhere/at-all").read_text()

    @group.command()
    def ours() -> None:
        raise OSError("a mistake of ours")

    result = CliRunner().invoke(group, ["system"])
    assert (result.exit_code, lines(result)[:2]) == (
        1,
        ["/nowhere/at-all cannot be used.", "No such file or directory."],
    )
    assert isinstance(CliRunner().invoke(group, ["ours"]).exception, OSError)


@pytest.mark.notices("a file opened in place of a closed stdout")
def test_what_is_opened_while_stdout_is_closed_is_not_printed_into(tmp_path: Path) -> None:
    opened = """if True:
        import sys
        from devin_pipeline.cli.errors import exit_process, open_closed_streams
        open_closed_streams()
        held = open(sys.argv[1], "w")
        print("not for the file")
        exit_process(0)
    """
    words = ["sh", "-c", 'exec "$0" "$@" >&-', sys.executable, "-c", opened, str(tmp_path / "file")]
    result = subprocess.run(words, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, (tmp_path / "file").read_text()) == (1, "")
    assert result.stderr.splitlines()[0] == "The output was truncated."


@pytest.mark.parametrize("words", [["doctor", "--demo"], ["ui", "--demo"]])
@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b"\xff"), Path.mkdir])
def test_a_demo_whose_enterprise_cannot_be_read_gets_three_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: Callable[[Path], None], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("DEVIN_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    (tmp_path / ".dagster_home_demo").mkdir()
    damage(tmp_path / ".dagster_home_demo" / "enterprise.json")
    result = run(*words)
    assert result.exit_code == 2
    assert lines(result)[-3] == "The demo's enterprise cannot be read."
