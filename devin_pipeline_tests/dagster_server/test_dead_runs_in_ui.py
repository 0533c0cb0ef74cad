"""A run whose process was killed is given up by the daemon, so that it does not hold back the next one for ever."""

import logging
import time
from pathlib import Path

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.events.log import EventLogEntry
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from devin_pipeline_tests.dagster_server.running import dagster_home


def left_started(instance: dg.DagsterInstance, hours_ago: float, retry_of: str | None = None) -> str:
    """A run that began so long ago and was never heard of again."""
    run = instance.add_run(
        dg.DagsterRun(
            job_name="refresh",
            status=dg.DagsterRunStatus.NOT_STARTED,
            root_run_id=retry_of,
            parent_run_id=retry_of,
        )
    )
    began = DagsterEvent("PIPELINE_START", "refresh")
    at = time.time() - hours_ago * 3600
    # Dagster does not type it.
    entry = EventLogEntry(None, logging.DEBUG, "", run.run_id, at, dagster_event=began)  # type: ignore[no-untyped-call]
    instance.handle_new_event(entry)
    return run.run_id


def test_a_run_left_started_is_given_up_after_half_a_day_and_one_that_may_still_run_is_not(tmp_path: Path) -> None:
    with dg.DagsterInstance.from_config(str(dagster_home(tmp_path))) as instance:
        dead, alive = left_started(instance, 12.1), left_started(instance, 11.9)
        assert instance.run_launcher.supports_check_run_worker_health is False
        with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as workspace:
            assert list(execute_run_monitoring_iteration(workspace, logging.getLogger())) == [None, None]
        found = {record.dagster_run.run_id: record.dagster_run.status for record in instance.get_run_records()}
        assert found == {dead: dg.DagsterRunStatus.FAILURE, alive: dg.DagsterRunStatus.STARTED}
