"""Old runs go from Dagster's records, and whatever is read later stays."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage

from devin_pipeline.automation.jobs import DAILY_REFRESH
from devin_pipeline.automation.schedules import _last_day_read
from devin_pipeline.cli import main
from devin_pipeline.dagster_server.run_retention import give_back_space, remove_old_runs
from devin_pipeline.definitions import pipeline
from devin_pipeline.errors import ConfigurationError
from devin_pipeline.orchestration.partitions import billing_days, range_tags
from devin_pipeline.orchestration.run_history import latest_materializations
from devin_pipeline.settings import Settings
from devin_pipeline.tables import DERIVED_TABLES, RAW_SESSION_TABLES, REPORT_TABLES, Table
from devin_pipeline_tests.harness import PipelineHarness, warnings

PROJECT = Path(__file__).parents[2]
MakeHarness = Callable[..., PipelineHarness]
BY_DAY = [*RAW_SESSION_TABLES, *DERIVED_TABLES]


@pytest.fixture
def harness(make_harness: MakeHarness) -> PipelineHarness:
    """Both keys, few days, and the instance of DAGSTER_HOME."""
    return make_harness("both", sessions=12, days=3)


@pytest.fixture
def instance(harness: PipelineHarness) -> Iterator[dg.DagsterInstance]:
    home = Path(os.environ["DAGSTER_HOME"])
    home.mkdir()
    shutil.copyfile(PROJECT / "dagster.yaml", home / "dagster.yaml")
    with dg.DagsterInstance.get() as instance:
        harness.instance = instance
        yield instance


@pytest.fixture(params=["sqlite", "one database for all runs"])
def any_instance(request: pytest.FixtureRequest, harness: PipelineHarness) -> dg.DagsterInstance:
    """The instance of DAGSTER_HOME, or one that keeps all events in one database, as in Postgres."""
    if request.param == "sqlite":
        harness.instance = request.getfixturevalue("instance")
    return harness.instance


@dg.job
def empty() -> None:
    """For a run that materializes nothing."""


def age(instance: dg.DagsterInstance, days: int = 200, *, but: frozenset[str] = frozenset()) -> list[str]:
    """Let every run but some have begun and ended some days ago; their ids."""
    at = (datetime.now(UTC) - timedelta(days=days)).replace(tzinfo=None)
    aged = [run.run_id for run in instance.get_runs() if run.run_id not in but]
    assert isinstance(instance.run_storage, SqlRunStorage)
    with instance.run_storage.connect() as connection:
        update = sa.text("update runs set create_timestamp = :at, update_timestamp = :at where run_id = :run_id")
        connection.execute(update, [{"at": str(at), "run_id": run_id} for run_id in aged])
    return aged


def remove(instance: dg.DagsterInstance, seconds: float = 60) -> tuple[int, int]:
    removed = remove_old_runs(instance, 180, DAILY_REFRESH, seconds=seconds)
    assert removed
    return removed.runs, removed.remaining


def cached_snapshot(harness: PipelineHarness) -> dict[str, dict[str, object]]:
    """What the newest record of each day and of each report says, and what each check found last."""
    found: dict[str, dict[str, object]] = {}
    for table in (*BY_DAY, *REPORT_TABLES):
        if table in BY_DAY:
            for day, record in latest_materializations(harness.instance, table, harness.days).items():
                made = record.asset_materialization
                assert made
                found[f"{table.name} {day}"] = {**made.metadata, **(made.tags or {}), "at": record.timestamp}
        elif event := harness.instance.get_latest_materialization_event(dg.AssetKey(table.name)):
            found[table.name] = {"at": event.timestamp}
    events = harness.instance.event_log_storage
    keys = [key for checks in pipeline(Settings()).asset_checks or [] for key in checks.check_keys]
    for key, execution in events.get_latest_asset_check_execution_by_key(keys).items():
        found[str(key)] = {"status": execution.status, "at": execution.create_timestamp}
    return found


def statuses(harness: PipelineHarness, table: Table) -> set[str]:
    keys = [day.isoformat() for day in harness.days]
    with partition_loading_context(dynamic_partitions_store=harness.instance):
        statuses = harness.instance.get_status_by_partition(dg.AssetKey(table.name), keys, billing_days(Settings()))
    return {each.name if each else "MISSING" for each in (statuses or {}).values()}


@pytest.mark.notices("the newest materialization of each day of an old run")
def test_old_runs_go_and_what_is_read_of_them_later_stays(
    harness: PipelineHarness, any_instance: dg.DagsterInstance
) -> None:
    assert harness.run().success
    harness.enterprise.grow_acus(1)
    for _ in range(2):
        assert harness.run().success
    before = cached_snapshot(harness)
    assert len(before) > len(harness.days) * len(BY_DAY)
    runs = age(any_instance)
    assert remove(any_instance) == (2, 0)

    assert [run.run_id for run in any_instance.get_runs()] == runs[:1]
    assert cached_snapshot(harness) == before
    for table in BY_DAY:
        assert any_instance.get_materialized_partitions(dg.AssetKey(table.name)) == set(map(str, harness.days))
        assert statuses(harness, table) == {"MATERIALIZED"}
    events = any_instance.event_log_storage
    assert isinstance(events, SqlEventLogStorage)
    with events.index_connection() as index:
        for name in ("event_logs", "asset_check_executions"):
            rows = sa.text(f"select count(*) from {name} where run_id not in ('', '{runs[0]}')")
            assert index.execute(rows).scalar_one() == 0
        tags = "select count(*) from asset_event_tags where event_id not in (select id from event_logs)"
        assert index.execute(sa.text(tags)).scalar_one() == 0
    assert remove(any_instance) == (0, 0)
    result = harness.run()
    assert result.success
    assert "items_read_are_placed_or_quarantined" not in warnings(result)


@pytest.mark.notices("the file of a run that is gone")
def test_after_the_command_nothing_is_missing_and_files_of_the_runs_are_gone(
    harness: PipelineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["backfill", "--from", str(harness.days[0]), "--to", str(harness.days[-1])]
    for _ in range(3):
        assert CliRunner().invoke(main, words).exit_code == 0
    home = Path(os.environ["DAGSTER_HOME"])
    with dg.DagsterInstance.get() as instance:
        harness.instance = instance
        last, *old = age(instance)
        before = cached_snapshot(harness)
    result = CliRunner().invoke(main, ["maintain"])
    assert result.exit_code == 0, result.output
    assert "2 runs that ended more than 180 days ago" in result.stdout
    assert {file.stem for file in (home / "history" / "runs").glob("*-*.db*")} == {last}
    assert {folder.name for folder in (home / "storage").iterdir()} == {last}
    assert not [path for path in home.rglob("*") for run in old if run in path.name]

    missing = CliRunner().invoke(main, [*words, "--only-missing"])
    assert (missing.exit_code, missing.stdout) == (0, "Nothing is missing.\n")
    with dg.DagsterInstance.get() as instance:
        harness.instance = instance
        assert cached_snapshot(harness) == before
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 0, again.output


@pytest.mark.notices("the run that the schedule follows", "old runs that have not ended")
def test_runs_that_have_not_ended_or_are_younger_stay_and_so_does_the_one_the_schedule_follows(
    harness: PipelineHarness, any_instance: dg.DagsterInstance
) -> None:
    job = pipeline(Settings()).resolve_job_def("refresh")
    empty_job = dg.Definitions(jobs=[empty]).resolve_job_def("empty")

    def run(status: dg.DagsterRunStatus, **tags: str) -> str:
        named = {name.replace("__", "/"): value for name, value in tags.items()}
        return any_instance.create_run_for_job(job_def=empty_job, status=status, tags=named).run_id

    ends = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    gone = {run(status) for status in ends}
    scheduled = any_instance.create_run_for_job(
        job_def=job,
        status=dg.DagsterRunStatus.SUCCESS,
        tags=range_tags(harness.days[0], harness.days[2]) | {"dagster/schedule_name": DAILY_REFRESH},
    ).run_id
    # Dagster takes a queued run from a code server only.
    stay = {run(status) for status in set(dg.DagsterRunStatus) - {*ends, dg.DagsterRunStatus.QUEUED}}
    gone.add(run(dg.DagsterRunStatus.FAILURE, dagster__schedule_name=DAILY_REFRESH))
    age(any_instance)
    young = run(dg.DagsterRunStatus.SUCCESS)
    age(any_instance, 170, but=frozenset(each.run_id for each in any_instance.get_runs()) - {young})
    newest_run = run(dg.DagsterRunStatus.SUCCESS)

    assert remove(any_instance) == (len(gone), 0)
    assert {each.run_id for each in any_instance.get_runs()} == {*stay, scheduled, young, newest_run}
    assert _last_day_read(any_instance) == harness.days[2]


def test_more_runs_than_there_is_time_for_are_left_for_the_next_time_and_the_oldest_go_first(
    instance: dg.DagsterInstance,
) -> None:
    job = dg.Definitions(jobs=[empty]).resolve_job_def("empty")
    for number in range(230):
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.SUCCESS)
        if number < 5:
            age(instance, 300, but=frozenset(each.run_id for each in instance.get_runs()) - {run.run_id})
    oldest = {run.run_id for run in instance.get_runs()[-5:]}
    age(instance, 200, but=frozenset(oldest))
    assert remove(instance, seconds=0) == (50, 179)
    assert not oldest & {run.run_id for run in instance.get_runs()}
    assert remove(instance) == (179, 0)
    assert len(instance.get_runs()) == 1


@pytest.mark.notices("the newest result of each check of an old run")
def test_the_newest_result_of_a_check_stays_however_old_its_run_is(
    harness: PipelineHarness, any_instance: dg.DagsterInstance
) -> None:
    assert harness.run().success
    before = cached_snapshot(harness)
    any_instance.create_run_for_job(dg.Definitions(jobs=[empty]).resolve_job_def("empty"))
    age(any_instance)
    assert remove(any_instance) == (1, 0)
    assert cached_snapshot(harness) == before
    results = sum("status" in found for found in before.values())
    assert results > 40
    events = any_instance.event_log_storage
    assert isinstance(events, SqlEventLogStorage)
    with events.index_connection() as index:
        assert index.execute(sa.text("select count(*) from asset_check_executions")).scalar_one() == results


@pytest.mark.notices("days shown as failed because of a run that is gone")
def test_days_that_an_old_run_failed_for_show_as_they_were_before_it(
    harness: PipelineHarness, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert harness.run().success
    with monkeypatch.context() as changed:
        changed.setenv("DEVIN_V3_API_KEY", "cog_" + "x" * 40)
        assert not harness.run().success
    assert {name for table in BY_DAY for name in statuses(harness, table)} == {"FAILED", "MATERIALIZED"}
    instance.create_run_for_job(dg.Definitions(jobs=[empty]).resolve_job_def("empty"))
    age(instance)
    assert remove(instance) == (2, 0)
    assert {name for table in BY_DAY for name in statuses(harness, table)} == {"MATERIALIZED"}


@pytest.mark.parametrize("is_written", [False, True])
def test_an_index_that_is_mostly_empty_shrinks_unless_another_process_writes(
    instance: dg.DagsterInstance, is_written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devin_pipeline.dagster_server.run_retention._SECONDS_TO_WAIT", 0.1)
    index = Path(os.environ["DAGSTER_HOME"]) / "history" / "runs" / "index.db"
    for number in range(600):
        instance.report_runless_asset_event(dg.AssetMaterialization("made", str(number), partition=str(number)))
    instance.wipe_assets([dg.AssetKey("made")])
    with closing(sqlite3.connect(index, isolation_level=None)) as other:
        other.execute("pragma wal_checkpoint(truncate)")
        before = index.stat().st_size
        if is_written:
            other.execute("begin immediate")
        give_back_space(index)
        if is_written:
            other.execute("rollback")
    assert (index.stat().st_size < before / 2) != is_written
    with closing(sqlite3.connect(index)) as stored:
        assert stored.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_the_job_removes_old_runs(instance: dg.DagsterInstance) -> None:
    for _ in range(2):
        job = dg.Definitions(jobs=[empty]).resolve_job_def("empty")
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.SUCCESS)
    age(instance)
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    assert (
        pipeline(Settings()).resolve_job_def("maintain").execute_in_process(instance=instance, run_config=quiet).success
    )
    assert [run.job_name for run in instance.get_runs()] == ["maintain"]


def test_runs_are_kept_for_180_days_when_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVIN_KEEP_RUNS_DAYS", " ")
    assert Settings().keep_runs_days == 180
    monkeypatch.setenv("DEVIN_KEEP_RUNS_DAYS", "7")
    assert Settings().keep_runs_days == 7


@pytest.mark.parametrize("text", ["6", "0", "-1", "36501", "9" * 5000, "180.0", "a year", "\u0667\u0667", "²"])
def test_a_setting_that_is_not_a_number_of_days_is_refused_with_what_to_set(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_KEEP_RUNS_DAYS", text)
    with pytest.raises(ConfigurationError, match="Set it to 180"):
        _ = Settings().keep_runs_days
    result = CliRunner().invoke(main, ["maintain"])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 3)
