"""Forgetting through the command: nothing of the forgotten is left in any byte of the lake, and the spend is."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from devin_pipeline.cli import main
from devin_pipeline.emulator import Session
from devin_pipeline.tables import ALL_TABLES
from devin_pipeline.verification import verify
from devin_pipeline_tests.stage import Stage, differences

MakeStage = Callable[..., Stage]


def places_that_tell(stage: Stage, *words: str) -> list[str]:
    """Files of the lake in whose bytes, or in whose values, a word stands."""
    found = []
    for file in sorted(path for path in Path(stage.lake.uri).rglob("*") if path.is_file()):
        texts = [file.read_bytes()]
        if file.suffix == ".parquet":
            texts.append(repr(pq.ParquetFile(file).read().to_pylist()).encode())
        found += [f"{file.name}: {word}" for word in words if any(word.encode() in text for text in texts)]
    return found


def spend(stage: Stage) -> list[tuple[object, ...]]:
    """ACUs of every table that has them, by what does not tell who."""
    with stage.lake.connect() as reader:
        return [
            tuple(row.values())
            for query in (
                "select day, org_id, sum(sessions), sum(acus) from acu_daily group by all order by all",
                "from acu_daily_by_tag order by all",
                "from acu_daily_by_repository order by all",
                "select week, org_id, sum(acus) from acu_weekly group by all order by all",
                "select * exclude (first_session_id) from pull_requests order by all",
                "from acus_per_merged_pull_request order by all",
            )
            for row in reader.rows(query).to_pylist()
        ]


def forget(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["forget", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def one_with_a_child_and_an_analysis(stage: Stage) -> Session:
    return next(s for s in stage.enterprise.sessions if s.child_session_ids and s.user_id and s.acus)


@pytest.fixture
def stage(make_stage: MakeStage) -> Stage:
    stage = make_stage("both", sessions=60, days=2)
    for number, session in enumerate(stage.enterprise.sessions):
        session.title = f"canarytitle{number}x"
        session.initial_user_message = f"canaryprompt{number}x"
    stage.make()
    # A second version of each, so that there are older ones, and older files, to be rid of.
    for number, session in enumerate(stage.enterprise.sessions):
        session.title = f"canarysecond{number}x"
        session.acus = (session.acus or Decimal(0)) + 1
    stage.make()
    return stage


def test_a_forgotten_session_and_then_a_forgotten_user_are_nowhere_and_their_spend_is(stage: Stage) -> None:
    session = one_with_a_child_and_an_analysis(stage)
    number = stage.enterprise.sessions.index(session)
    words = (session.session_id, *(f"canary{what}{number}x" for what in ("title", "prompt", "second")))
    before = spend(stage)
    assert {place.split(": ")[1] for place in places_that_tell(stage, *words)} == set(words)

    assert "from 1 stored sessions" in forget("--session", f"devin-{session.session_id}")
    assert places_that_tell(stage, *words) == []
    assert spend(stage) == before
    with duckdb.connect(f"{stage.lake.uri}/devin.duckdb", read_only=True) as catalog:
        assert catalog.sql("select count(*) from sessions").fetchall() == [(60,)]

    user = next(s.user_id for s in stage.enterprise.sessions if s.user_id and s is not session)
    theirs = [n for n, s in enumerate(stage.enterprise.sessions) if s.user_id == user]
    of_user = [user, *(f"canary{what}{n}x" for n in theirs for what in ("title", "prompt", "second"))]
    assert places_that_tell(stage, user) != []
    forget("--user", user)
    assert places_that_tell(stage, *of_user) == []
    assert spend(stage) == before
    assert verify(stage.lake, 8).is_clean

    # It stays in force: what changes is told, and what is forgotten is not.
    for n in (*theirs, number):
        stage.enterprise.sessions[n].acus = Decimal(1)
    stage.enterprise.add_analyses(5)
    stage.make()
    assert places_that_tell(stage, *words, *of_user) == []
    pseudonyms = {row["user_id"] for row in stage.rows("sessions") if row["user_id"]}
    assert sum(name.startswith("forgotten-") for name in pseudonyms) == 2
    assert sum(row["acus"] or 0 for row in stage.rows("acu_daily")) == sum(
        s.acus or 0 for s in stage.enterprise.sessions
    )


def test_without_text_every_figure_is_as_with_it_and_no_file_holds_any(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {name: len(stage.rows(name)) for name in (table.name for table in ALL_TABLES)}
    before = spend(stage)
    lengths = [len(row["title"] or "") for row in stage.rows("sessions")]
    monkeypatch.setenv("DEVIN_TEXT", "none")
    assert "from 60 stored sessions" in forget("--text")
    assert places_that_tell(stage, "canary") == []
    assert spend(stage) == before
    assert verify(stage.lake, 8).is_clean
    assert {name: len(stage.rows(name)) for name in figures} == figures
    assert [len(row["title"] or "") for row in stage.rows("sessions")] == lengths

    # With `full` the newest text comes back, and no version with it.
    monkeypatch.setenv("DEVIN_TEXT", "full")
    stage.make()
    assert {name: len(stage.rows(name)) for name in figures} == figures
    assert differences(stage).keys() <= {"raw_session_insights_v2", "raw_sessions_v3", "raw_session_insights_v3"}


@pytest.mark.parametrize(
    ("arguments", "text", "told"),
    [
        ((), "", "takes one of --user, --session and --text"),
        (("--user", "a", "--session", "b"), "", "takes one of"),
        (("--text",), "full", "Set DEVIN_TEXT=none"),
        (("--session", "devin-"), "", "hat is no id"),
        (("--user", "a"), "some", "t is neither full nor none"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused(
    arguments: tuple[str, ...], text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("DEVIN_TEXT", text)
    result = CliRunner().invoke(main, ["forget", *arguments])
    assert result.exit_code == 2
    assert told in result.output
    assert not (tmp_path / "lake").exists()
