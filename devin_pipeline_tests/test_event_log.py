"""The event log of DAGSTER_HOME: what a run records is all there, and Dagster's own storage reads it the same."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
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

from devin_pipeline.definitions import pipeline
from devin_pipeline.event_log import SqliteEventLog
from devin_pipeline.partitions import billing_days, range_tags
from devin_pipeline.resources import feeds_turned_on
from devin_pipeline.tables import REPORT_TABLES, ROLLUP_TABLES, SESSION_TABLES
from devin_pipeline_tests.conftest import MakeStage
from devin_pipeline_tests.stage import Stage

PROJECT = Path(__file__).parent.parent

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
            shutil.copyfile(PROJECT / "dagster.yaml", settings)
        with dg.DagsterInstance.from_config(str(settings.parent)) as instance:
            assert type(instance.event_log_storage) is (SqliteEventLogStorage if stock else SqliteEventLog)
            yield instance

    return open_home


def refresh(stage: Stage, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return replace(stage, instance=instance).run()


def stored(home: Path) -> dict[str, Counter[tuple[Any, ...]]]:
    """What the files of a home with one run hold, without ids, times and what is written in JSON."""
    runs = home / "history" / "runs"
    (run,) = (file for file in runs.glob("*-*.db"))
    columns = "dagster_event_type, step_key, asset_key, partition"
    queries = {
        f"select {columns} from event_logs where dagster_event_type not in ('ENGINE_EVENT', 'LOGS_CAPTURED')": run,
        f"select {columns} from event_logs": runs / "index.db",
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


def test_a_run_leaves_what_dagsters_own_storage_would_have_stored(
    make_stage: MakeStage, opened: Open, tmp_path: Path
) -> None:
    stage = make_stage()
    with opened("ours") as instance:
        assert refresh(stage, instance).success
    with opened("stock", stock=True) as instance:
        assert refresh(stage, instance).success
    ours, stocks = stored(tmp_path / "ours"), stored(tmp_path / "stock")
    assert all(ours.values())
    assert ours == stocks


def test_dagsters_own_storage_reads_each_day_while_ours_is_open(make_stage: MakeStage, opened: Open) -> None:
    stage = make_stage()
    keys = [day.isoformat() for day in stage.days]
    with opened() as instance, opened(stock=True) as reader:
        result = refresh(stage, instance)
        assert result.success
        for table in (*feeds_turned_on(), *(table.name for table in (*SESSION_TABLES, *ROLLUP_TABLES))):
            key = dg.AssetKey(table)
            assert reader.get_materialized_partitions(key) == set(keys)
            with partition_loading_context(dynamic_partitions_store=reader):
                status = reader.get_status_by_partition(key, keys, billing_days())
            assert {name: str(told) for name, told in (status or {}).items()} == dict.fromkeys(
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
        assert planned[dg.AssetKey("acu_daily")] == set(keys)
        stored_events = reader.get_records_for_run(result.run_id).records
        assert [told.event_log_entry for told in stored_events] == instance.all_logs(result.run_id)
        (done,) = reader.fetch_run_status_changes(DagsterEventType.RUN_SUCCESS, limit=5).records
        assert done.run_id == result.run_id


def test_of_two_runs_the_check_that_ran_last_is_the_newest_whichever_run_was_planned_first(
    make_stage: MakeStage, opened: Open
) -> None:
    stage = make_stage()
    job = pipeline().resolve_job_def("refresh")
    check = dg.AssetCheckKey(dg.AssetKey("sessions"), "session_ids_are_unique")
    with opened() as instance:
        queued = instance.create_run_for_job(job_def=job, tags=range_tags(stage.days[0], stage.days[-1]))
        assert refresh(stage, instance).success
        assert execute_run(InMemoryJob(job), queued, instance).success
        newest = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check]
        assert newest.run_id == queued.run_id
        assert newest.status.value == "SUCCEEDED"


def test_a_step_that_fails_loses_nothing_and_its_days_show_as_failed(
    make_stage: MakeStage, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage()
    keys = [day.isoformat() for day in stage.days]
    monkeypatch.setenv("DEVIN_V3_API_KEY", "cog_" + "x" * 40)
    with opened() as instance:
        assert not refresh(stage, instance).success
        with opened(stock=True) as reader, partition_loading_context(dynamic_partitions_store=reader):
            assert reader.get_materialized_partitions(dg.AssetKey("raw_session_insights_v2")) == set(keys)
            failed = reader.get_status_by_partition(dg.AssetKey("raw_sessions_v3"), keys, billing_days())
    assert {str(told) for told in (failed or {}).values()} == {"AssetPartitionStatus.FAILED"}


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
        types = [told.dagster_event_type for told in reader.all_logs(run.run_id)]
        assert types == [DagsterEventType.ASSET_MATERIALIZATION] * 2 + [DagsterEventType.STEP_FAILURE]


@dg.job
def empty() -> None:
    """For a run that makes nothing."""


def test_a_home_of_dagsters_own_storage_goes_on_with_ours_and_back(opened: Open) -> None:
    with opened(stock=True) as instance:
        run = instance.create_run_for_job(dg.Definitions(jobs=[empty]).resolve_job_def("empty"))
        instance.report_engine_event("before", run)
    with opened() as instance:
        assert [told.message for told in instance.all_logs(run.run_id)] == ["before"]
        instance.report_engine_event("after", run)
    with opened(stock=True) as instance:
        assert [told.message for told in instance.all_logs(run.run_id)] == ["before", "after"]


def tables_of(home: Path, run_id: str) -> tuple[list[Any], list[Any], Any]:
    """The tables of a run's file in any order, their revision, and how it is written."""
    with sqlite3.connect(home / "history" / "runs" / f"{run_id}.db") as connection:
        tables = connection.execute("select type, name, sql from sqlite_master order by name").fetchall()
        revisions = connection.execute("select version_num from alembic_version").fetchall()
        (how,) = connection.execute("pragma journal_mode").fetchone()
    connection.close()
    return tables, revisions, how


def test_the_file_of_a_run_is_what_dagsters_own_storage_would_have_made(opened: Open, tmp_path: Path) -> None:
    for name in ("ours", "stock"):
        with opened(name, stock=name == "stock") as instance:
            instance.report_engine_event("told", job_name="job", run_id="run")
    ours, stocks = tables_of(tmp_path / "ours", "run"), tables_of(tmp_path / "stock", "run")
    assert len(ours[0]) > 20
    assert ours == stocks


def test_the_file_of_a_run_is_at_the_newest_revision_where_that_of_the_index_cannot_be_told(
    opened: Open, tmp_path: Path
) -> None:
    with opened() as instance:
        instance.report_engine_event("told", job_name="job", run_id="before")
    index = tmp_path / "home" / "history" / "runs" / "index.db"
    with sqlite3.connect(index) as connection:
        connection.execute("insert into alembic_version values ('another')")
    connection.close()
    with opened() as instance, pytest.raises(alembic.util.CommandError, match="more than one head"):
        instance.report_engine_event("told", job_name="job", run_id="after")
    with sqlite3.connect(index) as connection:
        connection.execute("delete from alembic_version where version_num = 'another'")
    connection.close()
    with opened() as instance:
        instance.report_engine_event("told", job_name="job", run_id="after")
    assert tables_of(tmp_path / "home", "after") == tables_of(tmp_path / "home", "before")


def test_a_file_that_many_make_at_once_or_a_kill_left_empty_is_whole(opened: Open, tmp_path: Path) -> None:
    tellers = 6
    with ExitStack() as homes:
        instances = [homes.enter_context(opened()) for _ in range(tellers)]
        (tmp_path / "home" / "history" / "runs" / "run0.db").touch()
        at_once = Barrier(tellers, timeout=20)

        def tell(instance: dg.DagsterInstance) -> None:
            for number in range(8):
                at_once.wait()
                instance.report_engine_event("told", job_name="job", run_id=f"run{number}")

        with ThreadPoolExecutor(tellers) as threads:
            list(threads.map(tell, instances))
    with opened(stock=True) as reader:
        for number in range(8):
            assert len(reader.all_logs(f"run{number}")) == tellers
            assert tables_of(tmp_path / "home", f"run{number}")[1:] == tables_of(tmp_path / "home", "index")[1:]


def test_more_runs_than_files_are_kept_open_are_all_written_and_read(opened: Open) -> None:
    job = dg.Definitions(jobs=[empty]).resolve_job_def("empty")
    with opened() as instance, opened(stock=True) as reader:
        runs = [instance.create_run_for_job(job) for _ in range(7)]
        for text in ("one", "two"):
            for run in runs:
                instance.report_engine_event(text, run)
        for run in runs:
            assert [told.message for told in instance.all_logs(run.run_id)] == ["one", "two"]
            assert [told.message for told in reader.all_logs(run.run_id)] == ["one", "two"]


@pytest.mark.parametrize("stock", [False, True])
def test_who_watches_a_run_is_told_of_each_event_at_once(opened: Open, stock: bool) -> None:
    told: Queue[str] = Queue()
    with opened() as instance:
        run = instance.create_run_for_job(dg.Definitions(jobs=[empty]).resolve_job_def("empty"))
        instance.report_engine_event("before", run)
        with opened(stock=stock) as page:
            page.watch_event_logs(run.run_id, None, lambda event, cursor: told.put(event.message))
            for text in ("one", "two"):
                instance.report_engine_event(text, run)
                while told.get(timeout=20) != text:
                    pass


def test_a_home_that_was_wiped_can_be_written_again(opened: Open) -> None:
    job = dg.Definitions(jobs=[empty]).resolve_job_def("empty")
    with opened() as instance:
        instance.report_engine_event("before", instance.create_run_for_job(job))
        instance.wipe()
        run = instance.create_run_for_job(job)
        instance.report_engine_event("after", run)
        assert [told.message for told in instance.all_logs(run.run_id)] == ["after"]


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
        assert [told.message for told in reader.all_logs("killed")] == [str(number) for number in range(50)]
