"""Days that another version of the code built: named, kept out of reports, and rebuilt from raw without a request."""

import json
import os
import tarfile
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from devin_pipeline.cli import main
from devin_pipeline.derived import days_of_other_code, queries
from devin_pipeline.derived import publishing as derived_publishing
from devin_pipeline.lake import Lake, compact
from devin_pipeline.reports.publishing import BuiltByOtherCode, publish_report
from devin_pipeline.tables import (
    ALL_TABLES,
    DERIVED_TABLES,
    DIRECTORY_TABLES,
    RAW_SESSION_TABLES,
    REPORT_TABLES,
    SPEND_TABLES,
    TABLES,
)
from devin_pipeline_tests.harness import PipelineHarness, contents, warnings
from devin_pipeline_tests.oracle import Oracle

MakeHarness = Callable[..., PipelineHarness]

# Three days of the emulator's, read by the code of before fingerprints were kept. Of its pull requests many are linked
# by different tabs, some on other hosts.
OLD_LAKE = Path(__file__).parent / "lakes" / "before_code_fingerprints.tar.gz"
DAYS = [date(2026, 1, 5), date(2026, 1, 6), date(2026, 1, 7)]


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


@pytest.fixture
def old_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """The old lake, in an environment without a key, whose API nobody serves."""
    with tarfile.open(OLD_LAKE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    # Those too that a command of another test has left in this process.
    for name in [name for name in os.environ if name.startswith("DEVIN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DEVIN_API_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DEVIN_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DEVIN_START_DATE", "2026-01-01")
    return Lake(str(tmp_path / "lake"))


def rows_by_oracle(lake: Lake) -> Oracle:
    """What follows from the stored payloads, by the oracle."""
    oracle = Oracle()
    for table in RAW_SESSION_TABLES:
        payloads = [row["payload"] for row in lake.snapshot(table).rows().to_pylist()]
        oracle.observe(table.name, DAYS, payloads, datetime(2026, 1, 8, 12, tzinfo=UTC))
    return oracle


def differing(lake: Lake) -> list[str]:
    oracle = rows_by_oracle(lake)
    wanted = contents(oracle.table, oracle)
    got = contents(lambda name: lake.snapshot(TABLES[name]).rows().to_pylist(), oracle)
    return [name for name in wanted if wanted[name] != got[name]]


def finding_of_doctor() -> dict[str, str]:
    (found,) = [check for check in json.loads(run("doctor", "--json").stdout)["checks"] if "code" in check["name"]]
    return dict(found)


def versions(lake: Lake) -> dict[str, int | None]:
    return {table.name: lake.snapshot(table).version for table in ALL_TABLES}


@pytest.mark.notices("a report over days of two versions of the code")
def test_what_older_code_built_is_named_and_rebuilt_without_a_request(old_lake: Lake) -> None:
    before = versions(old_lake)
    assert "pull_requests" in differing(old_lake)
    found = finding_of_doctor()
    assert found["outcome"] == "failed"
    assert "3 of them" in found["found"]
    assert "2026-01-05 … 2026-01-07" in found["found"]
    assert found["todo"] == "devin-pipeline rebuild --from 2026-01-05 --to 2026-01-07"

    one_day = run("rebuild", "--from", "2026-01-06", "--to", "2026-01-06")
    assert one_day.exit_code == 1, one_day.output
    assert "reports were not written" in one_day.stderr
    assert "2026-01-05 to 2026-01-07" in one_day.stderr
    assert {table.name: before[table.name] for table in REPORT_TABLES} == {
        table.name: versions(old_lake)[table.name] for table in REPORT_TABLES
    }
    assert "2 of them" in finding_of_doctor()["found"]

    whole = run("rebuild")
    assert whole.exit_code == 0, whole.output
    assert differing(old_lake) == []
    assert finding_of_doctor()["outcome"] == "ok"
    raw = [table.name for table in RAW_SESSION_TABLES]
    rebuilt = versions(old_lake)
    assert {name: rebuilt[name] for name in raw} == {name: before[name] for name in raw}
    # What is up to date is not written again.
    assert run("rebuild").exit_code == 0
    assert versions(old_lake) == rebuilt


def test_a_rebuild_of_days_that_are_not_stored_says_so(old_lake: Lake) -> None:
    result = run("rebuild", "--from", "2026-02-01")
    assert (result.exit_code, "Nothing is stored" in result.stderr) == (0, True)


def test_a_rebuild_covers_days_from_before_the_start_date(old_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVIN_START_DATE", "2026-01-06")
    assert run("rebuild").exit_code == 0
    assert differing(old_lake) == []


def test_a_rebuild_leaves_out_damaged_raw_days_and_names_what_repairs_them(old_lake: Lake) -> None:
    (file,) = old_lake.snapshot(RAW_SESSION_TABLES[0]).stored_files([DAYS[1]])
    Path(file.path).write_bytes(Path(file.path).read_bytes()[:-9])
    result = run("rebuild")
    assert result.exit_code == 1
    assert "1 of 3 days were not rebuilt" in result.stderr
    assert f"devin-pipeline backfill --from {DAYS[1]} --to {DAYS[1]} --repair" in result.stderr
    assert days_of_other_code(old_lake, 8) == [DAYS[1]]


def build(harness: PipelineHarness, days: Sequence[date], monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Build the derived tables of some days as another version of the code would."""
    with monkeypatch.context() as changed:
        changed.setattr(derived_publishing, "fingerprint", lambda table, hour: f"{code} {table.name}")
        derived_publishing.publish_session_tables(harness.lake, days, 8)
        derived_publishing.publish_rollups(harness.lake, days, 8)
        for table in SPEND_TABLES:
            derived_publishing.publish_spend(harness.lake, days, 8, table)


def older_days(harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch, code: str) -> list[date]:
    with monkeypatch.context() as changed:
        changed.setattr(derived_publishing, "fingerprint", lambda table, hour: f"{code} {table.name}")
        return days_of_other_code(harness.lake, 8)


@pytest.fixture
def harness(make_harness: MakeHarness) -> PipelineHarness:
    harness = make_harness("v2", sessions=24, days=4)
    harness.build()
    return harness


@pytest.mark.notices(
    "a table of one version that another one writes to", "a day whose files are not those that this code built"
)
def test_days_of_two_versions_of_the_code_are_distinguished_in_both_directions(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = sorted({file.day for file in harness.lake.snapshot(TABLES["sessions"]).stored_files() if file.day})
    assert days_of_other_code(harness.lake, 8) == []
    build(harness, days[1:3], monkeypatch, "new")
    assert older_days(harness, monkeypatch, "new") == [days[0], *days[3:]]
    # After a return to the version before, what the newer one built is not its own.
    assert days_of_other_code(harness.lake, 8) == days[1:3]
    # Nor is what somebody else wrote since.
    harness.lake.replace_days(TABLES["sessions"], days[1:2], TABLES["sessions"].schema.empty_table())
    sessions = harness.lake.snapshot(TABLES["sessions"]).rows(days[2:3])
    harness.lake.replace_days(TABLES["sessions"], days[2:3], sessions.slice(1))
    assert days[2] in older_days(harness, monkeypatch, "new")
    build(harness, days, monkeypatch, "new")
    assert older_days(harness, monkeypatch, "new") == []
    assert days_of_other_code(harness.lake, 8) == days


def test_rollups_of_sessions_that_other_code_built_are_of_other_code_themselves(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As after an update of one session table, when a rebuild was stopped before the rollups.
    own = queries.code_of.__wrapped__
    with monkeypatch.context() as changed:
        changed.setattr(queries, "code_of", lambda table: "new" if table.name == "sessions" else own(table))
        changed.setattr(derived_publishing, "fingerprint", queries.fingerprint.__wrapped__)
        derived_publishing.publish_session_tables(harness.lake, harness.days, 8)
        assert days_of_other_code(harness.lake, 8) != []
        derived_publishing.publish_rollups(harness.lake, harness.days, 8)
        for table in SPEND_TABLES:
            derived_publishing.publish_spend(harness.lake, harness.days, 8, table)
        assert days_of_other_code(harness.lake, 8) == []


def test_notes_that_are_lost_name_no_day_of_a_lake_that_one_version_built(harness: PipelineHarness) -> None:
    for file in (Path(harness.lake.uri) / "made_of").iterdir():
        file.unlink()
    assert days_of_other_code(harness.lake, 8) == []
    for table in DERIVED_TABLES:
        compact(harness.lake, table, lambda *_: {})
    assert days_of_other_code(harness.lake, 8) == []


def test_a_report_over_days_of_two_versions_is_not_written(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(harness, harness.days[:1], monkeypatch, "old")
    before = harness.versions()
    for table in (table for table in REPORT_TABLES if table not in DIRECTORY_TABLES):
        with pytest.raises(BuiltByOtherCode, match="devin-pipeline rebuild"):
            publish_report(
                harness.lake, table, lambda lake, tables: derived_publishing.days_of_other_code(lake, 8, tables)
            )
    assert harness.versions() == before


def test_a_run_says_that_reports_wait_and_the_next_whole_one_writes_them(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(harness, harness.days, monkeypatch, "old")
    result = harness.run(harness.days[-1:])
    assert not result.success
    failed = {event.step_key for event in result.all_events if event.is_step_failure}
    assert failed == {"acu_weekly", "acu_monthly", "pull_requests", "acu_consumed_daily", "reconciliation_daily"}
    assert "days_are_of_this_code" in warnings(result)
    assert harness.run().success


def test_a_backfill_says_that_its_days_are_built_and_reports_wait(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(harness, harness.days, monkeypatch, "old")
    last = str(harness.days[-1])
    result = run("backfill", "--from", last, "--to", last)
    assert result.exit_code == 1
    assert "The days were stored, but reports were not written." in result.stderr
    assert "devin-pipeline rebuild" in result.stderr
