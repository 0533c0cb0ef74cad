"""What has not changed is neither made nor written again, and whatever has changed is."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from devin_pipeline.derived import publishing
from devin_pipeline.derived.publishing import publish_rollups, publish_session_tables
from devin_pipeline.lake import Lake
from devin_pipeline.reports.publishing import publish_report
from devin_pipeline.tables import REPORT_TABLES, ROLLUP_TABLES, SESSION_TABLES, SESSIONS, Table
from devin_pipeline_tests.stage import Stage, differences

MakeStage = Callable[..., Stage]
ROLLUP = ROLLUP_TABLES[0]


def written(lake: Lake) -> dict[Path, tuple[int, int]]:
    """Every file of the lake, without the small ones that say when days were read."""
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in Path(lake.uri).rglob("*")
        if path.is_file() and path.parent.name != "last_reads"
    }


def made_again(stage: Stage) -> tuple[list[date], list[date]]:
    """The days whose session tables, and those whose rollups, a run would make."""
    return publish_session_tables(stage.lake, stage.days, 8).days, publish_rollups(stage.lake, stage.days, 8).days


def test_a_run_over_unchanged_days_asks_once_for_each_page_and_writes_no_byte_of_a_table(make_stage: MakeStage) -> None:
    stage = make_stage("both", sessions=80, days=3)
    stage.refresh()
    before = written(stage.lake)
    stage.server.forget_requests()
    stage.refresh()
    assert written(stage.lake) == before
    assert len(stage.server.requests) == len(stage.feeds)


@pytest.mark.notices("inputs other than those it was made of")
def test_after_one_changed_session_only_its_day_is_written(make_stage: MakeStage) -> None:
    stage = make_stage("v2", sessions=80, days=4)
    stage.make()
    before = {table: files_by_day(stage, table) for table in (*SESSION_TABLES, *ROLLUP_TABLES)}
    stage.enterprise.grow_acus(1)
    stage.make()
    assert differences(stage) == {}
    changed = {
        day
        for table, files in before.items()
        for day in stage.days
        if files_by_day(stage, table).get(day) != files.get(day)
    }
    assert len(changed) == 1
    assert made_again(stage) == ([], [])


def days_with_sessions(stage: Stage) -> list[date]:
    return sorted({row["day"] for row in stage.rows("sessions")})


def files_by_day(stage: Stage, table: Table) -> dict[date | None, str]:
    return {file.day: file.path for file in stage.lake.snapshot(table).stored_files()}


@pytest.mark.notices("files that are no longer what was made")
@pytest.mark.parametrize("table", [SESSIONS, ROLLUP], ids=lambda table: table.name)
def test_a_day_whose_file_is_no_longer_what_was_made_is_made_again(make_stage: MakeStage, table: Table) -> None:
    stage = make_stage("v2", sessions=60, days=3)
    stage.make()
    before = stage.everything()
    assert made_again(stage) == ([], [])
    damaged = next(file for file in stage.lake.snapshot(table).stored_files() if file.day == stage.days[1])
    content = bytearray(Path(damaged.path).read_bytes())
    content[len(content) // 2] ^= 1
    Path(damaged.path).write_bytes(content)
    again = made_again(stage)
    assert stage.days[1] in again[table == ROLLUP]
    assert stage.everything() == before
    assert made_again(stage) == ([], [])


@pytest.mark.parametrize("notes", [b"", b"{", b'{"2026-01-01": 1}', b"\xff"])
def test_unreadable_notes_cost_no_more_than_making_all_once(make_stage: MakeStage, notes: bytes) -> None:
    stage = make_stage("v2", sessions=60, days=3)
    stage.make()
    versions = stage.versions()
    for file in (Path(stage.lake.uri) / "made_of").iterdir():
        file.write_bytes(notes)
    told = sorted(
        day for day in stage.days if day in {file.day for file in stage.lake.snapshot(SESSIONS).stored_files()}
    )
    assert made_again(stage) == (told, told)
    assert made_again(stage) == ([], [])
    assert stage.versions() == versions


@pytest.mark.notices("queries other than those it was made by")
def test_everything_is_made_again_when_queries_or_settings_change_or_days_are_invalidated(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage("v2", sessions=60, days=3)
    stage.make()
    every = days_with_sessions(stage)
    stage.lake.invalidate(every)
    assert made_again(stage) == (every, every)
    with monkeypatch.context() as changed:
        changed.setattr(publishing, "fingerprint", lambda table, hour: f"other queries, {hour}")
        assert made_again(stage) == (every, every)
        assert made_again(stage) == ([], [])
    assert made_again(stage) == (every, every)


def test_reports_follow_their_inputs_and_nothing_else(make_stage: MakeStage) -> None:
    stage = make_stage("v2", sessions=80, days=4)
    stage.make()
    assert {publish_report(stage.lake, table).version for table in REPORT_TABLES} == {None}
    weekly = REPORT_TABLES[0]
    (file,) = stage.lake.snapshot(weekly).stored_files()
    before = stage.rows(weekly.name)
    Path(file.path).unlink()
    assert publish_report(stage.lake, weekly).version is not None
    assert stage.rows(weekly.name) == before


def test_a_range_in_parts_comes_to_the_same_as_in_one(make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make_stage("both", sessions=120, days=5)
    stage.make()
    assert stage.lake.snapshot(SESSIONS).version == 1
    whole = stage.everything()
    monkeypatch.setattr(publishing, "_BYTES_AT_ONCE", 1)
    for table in (*SESSION_TABLES, *ROLLUP_TABLES):
        stage.lake.replace_days(table, stage.days, table.schema.empty_table())
    emptied = stage.lake.snapshot(SESSIONS).version or 0
    assert len(made_again(stage)[0]) > 1
    assert (stage.lake.snapshot(SESSIONS).version or 0) == emptied + len(days_with_sessions(stage))
    assert stage.everything() == whole
