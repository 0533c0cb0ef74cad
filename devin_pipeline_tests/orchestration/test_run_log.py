"""What the log of a run says while it works: each batch, each group of days, each report, each long wait."""

import re
from collections.abc import Callable

import dagster as dg
import pytest

from devin_pipeline.devin_api import retry
from devin_pipeline.emulator import FaultScript
from devin_pipeline.emulator.faults import Status
from devin_pipeline.tables import DIRECTORY_TABLES, REPORT_TABLES, SESSION_TABLES
from devin_pipeline_tests.harness import PipelineHarness


def log_of(harness: PipelineHarness, result: dg.ExecuteInProcessResult) -> list[str]:
    """The lines of a run's log that are not Dagster's own."""
    return [entry.user_message for entry in harness.instance.all_logs(result.run_id) if not entry.is_dagster_event]


def test_a_run_logs_each_batch_group_of_days_and_report_and_no_text_of_the_api(
    make_harness: Callable[..., PipelineHarness],
) -> None:
    harness = make_harness("v3", sessions=60, days=4)
    result = harness.run()
    assert result.success
    lines = log_of(harness, result)
    days = f"4 days, {harness.days[0]} … {harness.days[-1]}"
    sessions = harness.lake.query("select count(*) as n from sessions").to_pylist()[0]["n"]
    for feed in harness.feeds:
        (line,) = (line for line in lines if line.startswith(f"{feed}: "))
        assert re.fullmatch(
            rf"{feed}: landed {days}: {sessions} sessions, [\d,]+ per second, pages: [1-9]\d*, retries: 0\.", line
        )
    rows = sum(len(harness.rows(table.name)) for table in SESSION_TABLES)
    built = [line for line in lines if line.startswith("Rebuilt ")]
    # Of the session tables, of the rollups, and of spend.
    assert len(built) == 3
    assert any(line.startswith(f"Rebuilt {days}: {rows:,} rows in 7 tables, ") for line in built)
    assert all(line.endswith(" s. 4 of 4 days are done.") for line in built)
    for report in REPORT_TABLES:
        state = "unchanged" if report in DIRECTORY_TABLES else "written"
        assert f"{report.name}: {len(harness.rows(report.name)):,} rows, {state}." in lines

    again = log_of(harness, harness.run())
    assert again.count("4 of 4 days are up to date and were not rebuilt.") == 4
    assert not any(line.startswith("Rebuilt ") for line in again)
    assert f"acu_weekly: {len(harness.rows('acu_weekly')):,} rows, unchanged." in again


def test_a_run_logs_why_and_until_when_it_waits_before_a_retry(
    make_harness: Callable[..., PipelineHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The shortest wait that the API can ask for is a second.
    monkeypatch.setattr(retry, "LONG_WAIT_SECONDS", 0.9)
    harness = make_harness("v3", sessions=20, days=2)
    harness.server.script(FaultScript.of({1: Status(429, retry_after="1")}))
    result = harness.run()
    assert result.success
    lines = log_of(harness, result)
    (line,) = (line for line in lines if "Waiting" in line)
    assert re.fullmatch(
        r".+: Devin answers that there are too many requests \(429\)\. "
        r"Waiting for 1 s, until \d\d:\d\d:\d\d UTC, before a retry\.",
        line,
    )
    assert sum("retries: 1." in line for line in lines) == 1
