"""The event log of DAGSTER_HOME: what a run records is all there, and Dagster's own storage reads it the same."""

import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from queue import Queue
from threading import Barrier
from typing import Any

import alembic.util
import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.events import (
    DagsterEvent,
    DagsterEventBatchMetadata,
    DagsterEventType,
    StepMaterializationData,
)
from dagster._core.execution.api import execute_run
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.storage.event_log import SqliteEventLogStorage

from devin_pipeline.billing_calendar import day_of
from devin_pipeline.dagster_server.event_log_storage import SqliteEventLog
from devin_pipeline.definitions import pipeline
from devin_pipeline.orchestration import run_metadata
from devin_pipeline.orchestration.partitions import FIRST_TAG, LAST_TAG, billing_days, range_tags
from devin_pipeline.raw.sessions import assets as raw_assets
from devin_pipeline.settings import Settings
from devin_pipeline.tables import REPORT_TABLES, ROLLUP_TABLES, SESSION_TABLES, TABLES, Table
from devin_pipeline_tests.conftest import MakeHarness
from devin_pipeline_tests.harness import PipelineHarness, the_last_days, warnings

PROJECT = Path(__file__).parents[2]

Open = Callable[..., AbstractContextManager[dg.DagsterInstance]]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Dagster over a home under a name, with the shipped dagster.yaml or with none, and so Dagster's own storage."""

    @contextmanager
    def open_home(name: str = "home", *, stock: bool = False) -> Iterator[dg.DagsterInstance]:
        settings = tmp_path / name / "dagster.yaml"
        settings.parent.mkdir(exist_ok=True)
        settings.unlink(missing_ok=True)
        if not stock:
            # Under any version of Dagster, as `event_log` would not.
            shipped = (PROJECT / "dagster.yaml").read_text()
            settings.write_text(
                shipped.replace("module: devin_pipeline.event_log\n", f"module: {SqliteEventLog.__module__}\n")
            )
        with dg.DagsterInstance.from_config(str(settings.parent)) as instance:
            assert type(instance.event_log_storage) is (SqliteEventLogStorage if stock else SqliteEventLog)
            yield instance

    return open_home


def refresh(
    harness: PipelineHarness, instance: dg.DagsterInstance, only: Sequence[Table] | None = None
) -> dg.ExecuteInProcessResult:
    return replace(harness, instance=instance).run(only=only)


def some_tables() -> list[Table]:
    """Of each kind of table by day some, and a report."""
    return [TABLES[name] for name in (*Settings().feeds, "sessions", "session_issues", "acu_daily", "acu_monthly")]


def stored(home: Path) -> dict[str, Counter[tuple[Any, ...]]]:
    """What the files of a home with one run hold, without ids, times and what is written in JSON.

    Of what was planned, each step and asset counts once: Dagster's own storage has an event for each partition.
    """
    runs = home / "history" / "runs"
    (run,) = (file for file in runs.glob("*-*.db"))
    columns = "dagster_event_type, step_key, asset_key, partition"
    queries = {
        f"select {columns} from event_logs where dagster_event_type not in"
        " ('ENGINE_EVENT', 'LOGS_CAPTURED', 'ASSET_MATERIALIZATION_PLANNED')": run,
        f"select {columns} from event_logs where dagster_event_type not like '%_PLANNED'": runs / "index.db",
        "select distinct step_key, asset_key from event_logs"
        " where dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED'": run,
        "select distinct asset_key from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED'": runs
        / "index.db",
        "select asset_key, key, value from asset_event_tags": runs / "index.db",
        "select asset_key, last_run_id is null, last_materialization is null from asset_keys": runs / "index.db",
        "select asset_key, check_name, execution_status from asset_check_executions where partition is null"
        " and evaluation_event_storage_id in (select id from event_logs)": runs / "index.db",
    }
    answers = {}
    for query, file in queries.items():
        with sqlite3.connect(file) as connection:
            answers[query] = Counter(connection.execute(query).fetchall())
        connection.close()
    return answers


@pytest.mark.newest_dagster
def test_a_run_leaves_what_dagsters_own_storage_would_have_stored(
    make_harness: MakeHarness, opened: Open, tmp_path: Path
) -> None:
    harness = make_harness()
    with opened("ours") as instance:
        assert refresh(harness, instance).success
    with opened("stock", stock=True) as instance:
        assert refresh(harness, instance).success
    ours, stocks = stored(tmp_path / "ours"), stored(tmp_path / "stock")
    assert all(ours.values())
    assert ours == stocks


def test_dagsters_own_storage_reads_each_day_while_ours_is_open(make_harness: MakeHarness, opened: Open) -> None:
    harness = make_harness()
    keys = [day.isoformat() for day in harness.days]
    with opened() as instance, opened(stock=True) as reader:
        result = refresh(harness, instance)
        assert result.success
        for table in (*Settings().feeds, *(table.name for table in (*SESSION_TABLES, *ROLLUP_TABLES))):
            key = dg.AssetKey(table)
            assert reader.get_materialized_partitions(key) == set(keys)
            with partition_loading_context(dynamic_partitions_store=reader):
                status = reader.get_status_by_partition(key, keys, billing_days(Settings()))
            assert {name: str(shown) for name, shown in (status or {}).items()} == dict.fromkeys(
                keys, "AssetPartitionStatus.MATERIALIZED"
            )
            for day in keys:
                wanted = dg.AssetRecordsFilter(key, asset_partitions=[day])
                (record,) = reader.fetch_materializations(wanted, limit=5).records
                assert record.asset_materialization
                assert record.asset_materialization.metadata["dagster/partition_row_count"].value is not None
            newest = reader.get_latest_materialization_event(key)
            assert newest
            assert newest.asset_materialization
            assert newest.asset_materialization.partition == keys[-1]
        for report in REPORT_TABLES:
            assert reader.get_latest_materialization_event(dg.AssetKey(report.name))
        for evaluation in result.get_asset_check_evaluations():
            (execution,) = reader.event_log_storage.get_asset_check_execution_history(
                evaluation.asset_check_key, limit=5
            )
            assert execution.status.value == ("SUCCEEDED" if evaluation.passed else "FAILED")
        planned = reader.get_asset_partitions_for_run(result.run_id, DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
        assert dg.AssetKey("acu_daily") in planned
        stored_events = reader.get_records_for_run(result.run_id).records
        assert [record.event_log_entry for record in stored_events] == instance.all_logs(result.run_id)
        (done,) = reader.fetch_run_status_changes(DagsterEventType.RUN_SUCCESS, limit=5).records
        assert done.run_id == result.run_id


def test_of_two_runs_the_check_that_ran_last_is_the_newest_whichever_run_was_planned_first(
    make_harness: MakeHarness, opened: Open
) -> None:
    harness = make_harness()
    job = pipeline(Settings()).resolve_job_def("refresh")
    check = dg.AssetCheckKey(dg.AssetKey("sessions"), "session_ids_are_unique")
    with opened() as instance:
        queued = instance.create_run_for_job(job_def=job, tags=range_tags(harness.days[0], harness.days[-1]))
        assert refresh(harness, instance).success
        assert execute_run(InMemoryJob(job), queued, instance).success
        newest = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check]
        assert newest.run_id == queued.run_id
        assert newest.status.value == "SUCCEEDED"


@pytest.mark.notices("days that a run planned and did not materialize")
def test_a_step_that_fails_loses_nothing_and_its_days_show_as_failed(
    make_harness: MakeHarness, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness()
    keys = [day.isoformat() for day in harness.days]
    monkeypatch.setenv("DEVIN_V3_API_KEY", "cog_" + "x" * 40)
    with opened() as instance:
        assert not refresh(harness, instance).success
        with opened() as reader:
            assert reader.get_materialized_partitions(dg.AssetKey("raw_session_insights_v2")) == set(keys)
            assert status(reader, "raw_session_insights_v2", keys) == {"MATERIALIZED"}
            assert status(reader, "raw_sessions_v3", keys) == {"FAILED"}
            assert reader.get_latest_planned_materialization_info(dg.AssetKey("raw_sessions_v3"), keys[0])


def status(instance: dg.DagsterInstance, asset: str, keys: list[str]) -> set[str]:
    """How Dagster shows partitions of an asset."""
    with partition_loading_context(dynamic_partitions_store=instance):
        statuses = instance.get_status_by_partition(dg.AssetKey(asset), keys, billing_days(Settings()))
    return {each.name if each else "MISSING" for each in (statuses or {}).values()}


def recorded(instance: dg.DagsterInstance) -> Counter[tuple[str, str | None]]:
    """How many materializations of each partition are stored."""
    tables = [*Settings().feeds, *(table.name for table in (*SESSION_TABLES, *ROLLUP_TABLES))]
    return Counter(
        (name, record.partition_key)
        for name in tables
        for record in instance.fetch_materializations(dg.AssetKey(name), limit=1000).records
    )


def bytes_of(home: Path) -> int:
    """The files of a home once SQLite has put all it holds into its databases."""
    for file in home.rglob("*.db"):
        with sqlite3.connect(file) as connection:
            connection.execute("pragma wal_checkpoint(truncate)")
        connection.close()
    return sum(file.stat().st_size for file in home.rglob("*") if file.is_file())


@pytest.mark.notices("nothing stored of an unchanged day")
def test_a_run_over_35_unchanged_days_adds_less_than_a_tenth_of_what_dagster_alone_adds(
    make_harness: MakeHarness, opened: Open, tmp_path: Path
) -> None:
    harness = make_harness("both", sessions=700, days=35)
    sizes = []
    for _ in range(3):
        with opened() as instance:
            assert refresh(harness, instance).success
        sizes.append(bytes_of(tmp_path / "home"))
    added = [later - earlier for earlier, later in pairwise(sizes)]
    # 6.7 MB with thirteen tables by day, of which there are fifteen now.
    assert max(added) < 670_000 * 15 / 13, added
    with opened(stock=True) as reader:
        keys = {day.isoformat() for day in harness.days}
        assert set(recorded(reader).values()) == {1}
        for name, _ in recorded(reader):
            assert reader.get_materialized_partitions(dg.AssetKey(name)) == keys


def test_of_a_later_run_only_days_that_changed_are_recorded_and_all_show_as_materialized(
    make_harness: MakeHarness, opened: Open
) -> None:
    harness = make_harness("both", sessions=80, days=6)
    keys = [day.isoformat() for day in harness.days]
    with opened() as instance:
        assert refresh(harness, instance, some_tables()).success
        before = recorded(instance)
        (session_id,) = harness.enterprise.grow_acus(1)
        changed = day_of(harness.enterprise.session(session_id).created_at, 8).isoformat()
        assert refresh(harness, instance, some_tables()).success
        news = recorded(instance) - before
        assert {key for _, key in news} == {changed}
        # A session's children are as they were, whatever it cost.
        assert {name for name, _ in news} >= {*Settings().feeds, "sessions", "acu_daily"}
        assert set(news.values()) == {1}
        for name, _ in before:
            assert status(instance, name, keys) == {"MATERIALIZED"}
        assert refresh(harness, instance, some_tables()).success
        assert recorded(instance) == before + news


def test_a_backfill_of_the_dagster_ui_gets_the_materializations_it_waits_for(
    make_harness: MakeHarness, opened: Open
) -> None:
    harness = make_harness("v3", sessions=40, days=3)
    with opened() as instance:
        harness.instance = instance
        assert harness.run().success
        before = recorded(instance)
        assert harness.run(tags={"dagster/backfill": "one"}).success
        assert recorded(instance).keys() == before.keys()
        assert set((recorded(instance) - before).values()) == {1}


@pytest.mark.notices("a materialization that the Dagster UI does not list")
def test_each_materialization_of_an_asset_has_a_millisecond_of_its_own_for_the_dagster_ui_to_list_it(
    opened: Open,
) -> None:
    keys = [day.isoformat() for day in the_last_days(28)]

    @dg.asset(partitions_def=dg.DailyPartitionsDefinition(keys[0], end_offset=1))
    def made(context: dg.AssetExecutionContext) -> None:
        for key in keys[:8]:
            context.log_event(dg.AssetMaterialization("made", partition=key))

    with opened() as instance:
        job = dg.Definitions([made], jobs=[dg.define_asset_job("all")]).resolve_job_def("all")
        tags = {FIRST_TAG: keys[8], LAST_TAG: keys[-1]}
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        assert job.execute_in_process(instance=instance, tags=tags, run_config=quiet).success
        records = instance.fetch_materializations(dg.AssetKey("made"), limit=100, ascending=True).records
    assert [record.partition_key for record in records] == keys
    milliseconds = [int(record.timestamp * 1000) for record in records]
    assert milliseconds == sorted(set(milliseconds))


def test_a_finding_of_a_read_is_recorded_and_so_is_that_the_next_read_has_none(
    make_harness: MakeHarness, opened: Open
) -> None:
    harness = make_harness("v3", sessions=80, days=4)
    with opened() as instance:
        assert refresh(harness, instance, some_tables()).success
        harness.enterprise.delete_session(harness.enterprise.sessions[0].session_id)
        assert "sessions_stay_listed" in warnings(refresh(harness, instance, some_tables()))
        assert "sessions_stay_listed" not in warnings(refresh(harness, instance, some_tables()))
        before = recorded(instance)
        refresh(harness, instance, some_tables())
        assert recorded(instance) == before


@pytest.mark.notices("a day that is over by now")
def test_a_day_is_recorded_once_more_when_it_is_over(
    make_harness: MakeHarness, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # the plain one is what is stored
            return datetime.now(tz) + timedelta(days=1)

    harness = make_harness("both", sessions=60, days=3)
    with opened() as instance:
        assert refresh(harness, instance, some_tables()).success
        before = recorded(instance)
        for module in (run_metadata, raw_assets):
            monkeypatch.setattr(module, "datetime", Tomorrow)
        assert refresh(harness, instance, some_tables()).success
        news = recorded(instance) - before
        assert news == Counter({(name, harness.days[-1].isoformat()): 1 for name, _ in before})
        assert refresh(harness, instance, some_tables()).success
        assert recorded(instance) == before + news


@pytest.mark.notices("unchanged days of a failed run", "plans that a run has carried out")
def test_days_of_a_failed_run_show_as_materialized_after_one_that_found_them_unchanged(
    make_harness: MakeHarness, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness("both", sessions=60, days=3)
    keys = [day.isoformat() for day in harness.days]
    with opened() as instance:
        assert refresh(harness, instance, some_tables()).success
        with monkeypatch.context() as changed:
            changed.setenv("DEVIN_V3_API_KEY", "cog_" + "x" * 40)
            assert not refresh(harness, instance, some_tables()).success
        assert status(instance, "raw_session_insights_v2", keys) == {"MATERIALIZED"}
        failed = [name for name in sorted({name for name, _ in recorded(instance)}) if "v2" not in name]
        for name in failed:
            assert status(instance, name, keys) == {"FAILED"}
        assert refresh(harness, instance, some_tables()).success
        for name in failed:
            assert status(instance, name, keys) == {"MATERIALIZED"}
        before = recorded(instance)
        assert refresh(harness, instance, some_tables()).success
        assert recorded(instance) == before


@pytest.mark.newest_dagster
def test_of_what_a_run_planned_the_partitions_it_did_not_materialize_show_as_failed(opened: Open) -> None:
    keys = [day.isoformat() for day in the_last_days(4)]
    days = dg.DailyPartitionsDefinition(keys[0], end_offset=1)

    @dg.asset(partitions_def=days)
    def stopped(context: dg.AssetExecutionContext) -> None:
        for key in (keys[0], keys[2]):
            context.log_event(dg.AssetMaterialization("stopped", partition=key))
        raise dg.Failure

    with opened() as instance:
        job = dg.Definitions([stopped], jobs=[dg.define_asset_job("all")]).resolve_job_def("all")
        tags = {FIRST_TAG: keys[1], LAST_TAG: keys[3]}
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        assert not job.execute_in_process(instance=instance, tags=tags, raise_on_error=False, run_config=quiet).success
        with partition_loading_context(dynamic_partitions_store=instance):
            statuses = instance.get_status_by_partition(dg.AssetKey("stopped"), keys, days) or {}
    made, failed = "AssetPartitionStatus.MATERIALIZED", "AssetPartitionStatus.FAILED"
    assert [str(statuses[key]) for key in keys] == [made, failed, made, failed]


def test_partitions_that_a_run_has_planned_show_as_in_progress_until_it_has_materialized_them(
    make_harness: MakeHarness, opened: Open
) -> None:
    harness = make_harness("v3", sessions=40, days=3)
    keys = [day.isoformat() for day in harness.days]
    job = pipeline(Settings()).resolve_job_def("refresh")
    with opened() as instance:
        assert refresh(harness, instance).success
        tags = range_tags(harness.days[1], harness.days[2])
        queued = instance.create_run_for_job(job_def=job, tags=tags, status=dg.DagsterRunStatus.NOT_STARTED)
        assert status(instance, "acu_daily", keys[1:]) == {"IN_PROGRESS"}
        assert status(instance, "acu_daily", keys[:1]) == {"MATERIALIZED"}
        planned = instance.get_latest_planned_materialization_info(dg.AssetKey("acu_daily"), keys[1])
        assert planned
        assert planned.run_id == queued.run_id
        assert execute_run(InMemoryJob(job), queued, instance).success
        assert status(instance, "acu_daily", keys) == {"MATERIALIZED"}


@pytest.mark.notices("events of an interrupted step")
def test_what_an_interrupted_step_left_unfinished_is_stored_with_its_failure(opened: Open) -> None:
    def event(what: DagsterEventType, data: Any) -> DagsterEvent:
        return DagsterEvent(what.value, "job", step_key="step", event_specific_data=data)

    made = [dg.AssetMaterialization("made", partition=key) for key in ("2026-01-01", "2026-01-02")]
    with opened() as instance, opened(stock=True) as reader:
        run = instance.create_run_for_job(dg.Definitions(jobs=[empty]).resolve_job_def("empty"))
        for materialization in made:
            instance.report_dagster_event(
                event(DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(materialization)),
                run.run_id,
                batch_metadata=DagsterEventBatchMetadata("group", is_end=False),
            )
        assert reader.get_materialized_partitions(dg.AssetKey("made")) == set()
        failed = StepFailureData(error=None, user_failure_data=None)  # type: ignore[no-untyped-call]
        instance.report_dagster_event(event(DagsterEventType.STEP_FAILURE, failed), run.run_id)
        assert reader.get_materialized_partitions(dg.AssetKey("made")) == {"2026-01-01", "2026-01-02"}
        types = [entry.dagster_event_type for entry in reader.all_logs(run.run_id)]
        assert types == [DagsterEventType.ASSET_MATERIALIZATION] * 2 + [DagsterEventType.STEP_FAILURE]


@dg.job
def empty() -> None:
    """For a run that makes nothing."""


@pytest.mark.newest_dagster
def test_a_home_of_dagsters_own_storage_goes_on_with_ours_and_back(opened: Open) -> None:
    with opened(stock=True) as instance:
        run = instance.create_run_for_job(dg.Definitions(jobs=[empty]).resolve_job_def("empty"))
        instance.report_engine_event("before", run)
    with opened() as instance:
        assert [entry.message for entry in instance.all_logs(run.run_id)] == ["before"]
        instance.report_engine_event("after", run)
    with opened(stock=True) as instance:
        assert [entry.message for entry in instance.all_logs(run.run_id)] == ["before", "after"]


def tables_of(home: Path, run_id: str) -> tuple[list[Any], list[Any], Any]:
    """The tables of a run's file in any order, their revision, and how it is written."""
    with sqlite3.connect(home / "history" / "runs" / f"{run_id}.db") as connection:
        tables = connection.execute("select type, name, sql from sqlite_master order by name").fetchall()
        revisions = connection.execute("select version_num from alembic_version").fetchall()
        (how,) = connection.execute("pragma journal_mode").fetchone()
    connection.close()
    return tables, revisions, how


@pytest.mark.newest_dagster
@pytest.mark.notices("the revision of a run's file")
def test_the_file_of_a_run_is_what_dagsters_own_storage_would_have_made(opened: Open, tmp_path: Path) -> None:
    for name in ("ours", "stock"):
        with opened(name, stock=name == "stock") as instance:
            instance.report_engine_event("message", job_name="job", run_id="run")
    ours, stocks = tables_of(tmp_path / "ours", "run"), tables_of(tmp_path / "stock", "run")
    assert len(ours[0]) > 20
    assert ours == stocks


@pytest.mark.notices("an index of several revisions")
def test_the_file_of_a_run_is_at_the_newest_revision_where_that_of_the_index_is_unknown(
    opened: Open, tmp_path: Path
) -> None:
    with opened() as instance:
        instance.report_engine_event("message", job_name="job", run_id="before")
    index = tmp_path / "home" / "history" / "runs" / "index.db"
    with sqlite3.connect(index) as connection:
        connection.execute("insert into alembic_version values ('another')")
    connection.close()
    with opened() as instance, pytest.raises(alembic.util.CommandError, match="more than one head"):
        instance.report_engine_event("message", job_name="job", run_id="after")
    with sqlite3.connect(index) as connection:
        connection.execute("delete from alembic_version where version_num = 'another'")
    connection.close()
    with opened() as instance:
        instance.report_engine_event("message", job_name="job", run_id="after")
    assert tables_of(tmp_path / "home", "after") == tables_of(tmp_path / "home", "before")


@pytest.mark.notices("a run's file that another process makes in the same moment")
def test_a_file_that_many_make_at_once_or_a_kill_left_empty_is_whole(opened: Open, tmp_path: Path) -> None:
    writers = 6
    with ExitStack() as homes:
        instances = [homes.enter_context(opened()) for _ in range(writers)]
        (tmp_path / "home" / "history" / "runs" / "run0.db").touch()
        at_once = Barrier(writers, timeout=20)

        def report(instance: dg.DagsterInstance) -> None:
            for number in range(8):
                at_once.wait()
                instance.report_engine_event("message", job_name="job", run_id=f"run{number}")

        with ThreadPoolExecutor(writers) as threads:
            list(threads.map(report, instances))
    with opened(stock=True) as reader:
        for number in range(8):
            assert len(reader.all_logs(f"run{number}")) == writers
            assert tables_of(tmp_path / "home", f"run{number}")[1:] == tables_of(tmp_path / "home", "index")[1:]


def test_more_runs_than_files_are_kept_open_are_all_written_and_read(opened: Open) -> None:
    job = dg.Definitions(jobs=[empty]).resolve_job_def("empty")
    with opened() as instance, opened(stock=True) as reader:
        runs = [instance.create_run_for_job(job) for _ in range(7)]
        for text in ("one", "two"):
            for run in runs:
                instance.report_engine_event(text, run)
        for run in runs:
            assert [entry.message for entry in instance.all_logs(run.run_id)] == ["one", "two"]
            assert [entry.message for entry in reader.all_logs(run.run_id)] == ["one", "two"]


@pytest.mark.notices("news for who watches a run")
@pytest.mark.parametrize("stock", [False, True])
def test_who_watches_a_run_gets_each_event_at_once(opened: Open, stock: bool) -> None:
    received: Queue[str] = Queue()
    with opened() as instance:
        run = instance.create_run_for_job(dg.Definitions(jobs=[empty]).resolve_job_def("empty"))
        instance.report_engine_event("before", run)
        with opened(stock=stock) as watcher:
            watcher.watch_event_logs(run.run_id, None, lambda event, cursor: received.put(event.message))
            for text in ("one", "two"):
                instance.report_engine_event(text, run)
                while received.get(timeout=20) != text:
                    pass


def test_a_home_that_was_wiped_can_be_written_again(opened: Open) -> None:
    job = dg.Definitions(jobs=[empty]).resolve_job_def("empty")
    with opened() as instance:
        instance.report_engine_event("before", instance.create_run_for_job(job))
        instance.wipe()
        run = instance.create_run_for_job(job)
        instance.report_engine_event("after", run)
        assert [entry.message for entry in instance.all_logs(run.run_id)] == ["after"]


def test_a_killed_process_loses_no_event_it_had_stored(opened: Open, tmp_path: Path) -> None:
    dies = """
import os, signal, sys
import dagster as dg

with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    for number in range(50):
        instance.report_engine_event(str(number), job_name="job", run_id="killed")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with opened():
        killed = subprocess.run([sys.executable, "-c", dies, str(tmp_path / "home")])
        assert killed.returncode == -signal.SIGKILL
    with opened(stock=True) as reader:
        assert [entry.message for entry in reader.all_logs("killed")] == [str(number) for number in range(50)]
