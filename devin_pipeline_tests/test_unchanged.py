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
from devin_pipeline_tests.harness import PipelineHarness, differences

MakeHarness = Callable[..., PipelineHarness]
ROLLUP = ROLLUP_TABLES[0]


def written(lake: Lake) -> dict[Path, tuple[int, int]]:
    """Every file of the lake, without the small ones that say when days were read."""
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in Path(lake.uri).rglob("*")
        if path.is_file() and path.parent.name != "last_reads"
    }


def rebuilt_days(harness: PipelineHarness) -> tuple[list[date], list[date]]:
    """The days whose session tables, and those whose rollups, a run would make."""
    return publish_session_tables(harness.lake, harness.days, 8).days, publish_rollups(
        harness.lake, harness.days, 8
    ).days


def test_a_run_over_unchanged_days_asks_once_for_each_page_and_writes_no_byte_of_a_table(
    make_harness: MakeHarness,
) -> None:
    harness = make_harness("both", sessions=80, days=3)
    harness.refresh()
    before = written(harness.lake)
    harness.server.forget_requests()
    harness.refresh()
    assert written(harness.lake) == before
    assert len(harness.server.requests) == len(harness.feeds)


@pytest.mark.notices("inputs other than those it was made of")
def test_after_one_changed_session_only_its_day_is_written(make_harness: MakeHarness) -> None:
    harness = make_harness("v2", sessions=80, days=4)
    harness.build()
    before = {table: files_by_day(harness, table) for table in (*SESSION_TABLES, *ROLLUP_TABLES)}
    harness.enterprise.grow_acus(1)
    harness.build()
    assert differences(harness) == {}
    changed = {
        day
        for table, files in before.items()
        for day in harness.days
        if files_by_day(harness, table).get(day) != files.get(day)
    }
    assert len(changed) == 1
    assert rebuilt_days(harness) == ([], [])


def days_with_sessions(harness: PipelineHarness) -> list[date]:
    return sorted({row["day"] for row in harness.rows("sessions")})


def files_by_day(harness: PipelineHarness, table: Table) -> dict[date | None, str]:
    return {file.day: file.path for file in harness.lake.snapshot(table).stored_files()}


@pytest.mark.notices("files that are no longer what was made")
@pytest.mark.parametrize("table", [SESSIONS, ROLLUP], ids=lambda table: table.name)
def test_a_day_whose_file_is_no_longer_what_was_built_is_rebuilt(make_harness: MakeHarness, table: Table) -> None:
    harness = make_harness("v2", sessions=60, days=3)
    harness.build()
    before = harness.everything()
    assert rebuilt_days(harness) == ([], [])
    damaged = next(file for file in harness.lake.snapshot(table).stored_files() if file.day == harness.days[1])
    content = bytearray(Path(damaged.path).read_bytes())
    content[len(content) // 2] ^= 1
    Path(damaged.path).write_bytes(content)
    again = rebuilt_days(harness)
    assert harness.days[1] in again[table == ROLLUP]
    assert harness.everything() == before
    assert rebuilt_days(harness) == ([], [])


@pytest.mark.parametrize("notes", [b"", b"{", b'{"2026-01-01": 1}', b"\xff"])
def test_unreadable_notes_cost_no_more_than_making_all_once(make_harness: MakeHarness, notes: bytes) -> None:
    harness = make_harness("v2", sessions=60, days=3)
    harness.build()
    versions = harness.versions()
    for file in (Path(harness.lake.uri) / "made_of").iterdir():
        file.write_bytes(notes)
    with_files = sorted(
        day for day in harness.days if day in {file.day for file in harness.lake.snapshot(SESSIONS).stored_files()}
    )
    assert rebuilt_days(harness) == (with_files, with_files)
    assert rebuilt_days(harness) == ([], [])
    assert harness.versions() == versions


@pytest.mark.notices("queries other than those it was made by")
def test_everything_is_rebuilt_when_queries_or_settings_change_or_days_are_invalidated(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness("v2", sessions=60, days=3)
    harness.build()
    every = days_with_sessions(harness)
    harness.lake.invalidate(every)
    assert rebuilt_days(harness) == (every, every)
    with monkeypatch.context() as changed:
        changed.setattr(publishing, "fingerprint", lambda table, hour: f"other queries, {hour}")
        assert rebuilt_days(harness) == (every, every)
        assert rebuilt_days(harness) == ([], [])
    assert rebuilt_days(harness) == (every, every)


def test_reports_follow_their_inputs_and_nothing_else(make_harness: MakeHarness) -> None:
    harness = make_harness("v2", sessions=80, days=4)
    harness.build()
    assert {publish_report(harness.lake, table).version for table in REPORT_TABLES} == {None}
    weekly = REPORT_TABLES[0]
    (file,) = harness.lake.snapshot(weekly).stored_files()
    before = harness.rows(weekly.name)
    Path(file.path).unlink()
    assert publish_report(harness.lake, weekly).version is not None
    assert harness.rows(weekly.name) == before


def test_a_range_in_parts_comes_to_the_same_as_in_one(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness("both", sessions=120, days=5)
    harness.build()
    assert harness.lake.snapshot(SESSIONS).version == 1
    whole = harness.everything()
    monkeypatch.setattr(publishing, "_BYTES_AT_ONCE", 1)
    for table in (*SESSION_TABLES, *ROLLUP_TABLES):
        harness.lake.replace_days(table, harness.days, table.schema.empty_table())
    emptied = harness.lake.snapshot(SESSIONS).version or 0
    assert len(rebuilt_days(harness)[0]) > 1
    assert (harness.lake.snapshot(SESSIONS).version or 0) == emptied + len(days_with_sessions(harness))
    assert harness.everything() == whole
