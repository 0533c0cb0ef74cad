"""Runs whose process is gone, of every origin: who recognises them, what becomes of them, and who is left alone."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from devin_pipeline.dagster_server.dagster_home import dagster_instance
from devin_pipeline.dagster_server.dead_runs import blocking_runs, dead_runs_failed, process_of
from devin_pipeline.doctor import CheckResult, examine
from devin_pipeline.settings import Settings
from devin_pipeline_tests.conftest import MakeHarness
from devin_pipeline_tests.dagster_server.running import eventually
from devin_pipeline_tests.dagster_server.test_dead_runs_in_ui import left_started

PROJECT = Path(__file__).parents[2]
STARTING, STARTED, CANCELING = dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING
FAILURE, CANCELED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED
BOOT = Path("/proc/sys/kernel/random/boot_id")

_GOES_ON = """
import sys, time
import dagster as dg

@dg.op
def goes_on():
    time.sleep(float(sys.argv[1]))

@dg.job
def refresh():
    goes_on()

with dg.DagsterInstance.get() as instance:
    refresh.execute_in_process(instance=instance)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    shutil.copyfile(PROJECT / "dagster.yaml", tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dagster_instance() as instance:
        yield instance


@contextlib.contextmanager
def going_on(home: dg.DagsterInstance, seconds: float = 60) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A run in a process of its own, once it has started."""
    before = {run.run_id for run in home.get_runs()}

    def new() -> str | None:
        runs = home.get_runs(dg.RunsFilter(statuses=[STARTED]))
        return next((run.run_id for run in runs if run.run_id not in before), None)

    command = [sys.executable, "-c", _GOES_ON, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield eventually(new, 60, "it starts"), process
        finally:
            process.kill()


def killed(home: dg.DagsterInstance) -> str:
    """A run whose process got SIGKILL."""
    with going_on(home) as (run_id, process):
        process.kill()
    return run_id


def status(home: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = home.get_run_by_id(run_id)
    assert run is not None
    return run.status


def look(home: dg.DagsterInstance, seconds_to_start: float = 30) -> None:
    """One look at every run."""
    with dead_runs_failed(home, seconds_to_start=seconds_to_start):
        pass


@pytest.mark.newest_dagster
@pytest.mark.notices("a run whose process was killed", "the pool slots of a killed run")
def test_a_run_whose_process_was_killed_is_failed_and_the_pool_slots_it_held_are_free(home: dg.DagsterInstance) -> None:
    home.event_log_storage.set_concurrency_slots("devin_api", 1)
    dead = killed(home)
    assert home.event_log_storage.claim_concurrency_slot("devin_api", dead, "goes_on").is_claimed
    assert not home.event_log_storage.claim_concurrency_slot("devin_api", "next", "goes_on").is_claimed
    assert status(home, dead) == STARTED
    look(home)
    assert status(home, dead) == FAILURE
    assert home.event_log_storage.claim_concurrency_slot("devin_api", "next", "goes_on").is_claimed
    assert list((Path(home.root_directory) / "running").iterdir()) == []


def test_a_run_that_dies_while_the_dagster_ui_is_up_is_failed_too(home: dg.DagsterInstance) -> None:
    with dead_runs_failed(home, seconds_between_looks=0.1):
        dead = killed(home)
        eventually(lambda: status(home, dead) == FAILURE, 10, "it is failed")


@pytest.mark.notices("a run that is alive")
def test_a_run_whose_process_is_alive_is_left_alone_and_leaves_no_file(home: dg.DagsterInstance) -> None:
    with going_on(home, seconds=3) as (run_id, process):
        look(home, seconds_to_start=0)
        assert [(each.run.run_id, each.process) for each in blocking_runs(home)] == [(run_id, "alive")]
        process.wait()
    assert status(home, run_id) == dg.DagsterRunStatus.SUCCESS
    assert list((Path(home.root_directory) / "running").iterdir()) == []


def test_a_run_that_was_being_canceled_when_its_process_was_killed_is_canceled(home: dg.DagsterInstance) -> None:
    dead = killed(home)
    run = home.get_run_by_id(dead)
    assert run is not None
    home.report_run_canceling(run)
    look(home)
    assert status(home, dead) == CANCELED


@pytest.mark.notices("a dead run of a backfill")
def test_a_dead_run_of_a_backfill_is_retried_once_and_no_other(home: dg.DagsterInstance) -> None:
    def will_retry(run_id: str, **tags: str) -> str:
        home.add_run_tags(run_id, {f"dagster/{name}": value for name, value in tags.items()})
        home.event_log_storage.dispose()  # gives back the lock, as the end of a process does
        look(home)
        run = home.get_run_by_id(run_id)
        assert run is not None
        assert run.status == FAILURE
        return run.tags["dagster/will_retry"]

    assert will_retry(left_started(home, 0)) == "false"
    first = left_started(home, 0)
    assert will_retry(first, backfill="some") == "true"
    # As Dagster retries it.
    tags = {"backfill": "some", "max_retries": "1", "root_run_id": first}
    assert will_retry(left_started(home, 0, retry_of=first), **tags) == "false"


@pytest.mark.notices("a run that a killed daemon was starting")
def test_a_run_that_a_killed_daemon_was_starting_fails_unless_it_starts_and_later_ones_stay(
    home: dg.DagsterInstance,
) -> None:
    def starting(status: dg.DagsterRunStatus = STARTING) -> str:
        return home.add_run(dg.DagsterRun(job_name="refresh", status=status)).run_id

    left, canceled = starting(), starting(CANCELING)
    with dead_runs_failed(home, seconds_between_looks=0.1, seconds_to_start=2):
        later = starting()
        time.sleep(0.5)
        assert [status(home, run_id) for run_id in (left, canceled)] == [STARTING, CANCELING]
        eventually(lambda: status(home, left) == FAILURE, 10, "it is failed")
        eventually(lambda: status(home, canceled) == CANCELED, 10, "it is canceled")
        time.sleep(0.5)
        assert status(home, later) == STARTING


@pytest.mark.notices("a run of another machine")
@pytest.mark.parametrize(
    ("name", "boot", "process"),
    [
        (os.uname().nodename, "another", "gone"),  # a restart
        pytest.param(
            "another", BOOT, "gone", marks=pytest.mark.skipif(not BOOT.exists(), reason="no boot has a name here")
        ),  # another container
        ("another", "another", "unknown"),
        ("another", "", "unknown"),
        ("", "", "unknown"),
    ],
)
def test_a_run_of_another_machine_is_left_alone(
    home: dg.DagsterInstance, name: str, boot: str | Path, process: str
) -> None:
    dead = left_started(home, 0)
    home.event_log_storage.dispose()  # gives back the lock, as the end of a process does
    file = Path(home.root_directory) / "running" / dead
    file.write_text(f"{name}\n{boot.read_text().strip() if isinstance(boot, Path) else boot}")
    assert process_of(Path(home.root_directory), dead) == process
    look(home, seconds_to_start=0)
    assert status(home, dead) == (FAILURE if process == "gone" else STARTED)


def findings() -> dict[str, CheckResult]:
    return {each.subject: each for each in examine(Settings()) if each.name == "runs"}


def test_the_doctor_names_a_run_whose_process_is_gone(home: dg.DagsterInstance) -> None:
    dead = killed(home)
    finding = findings()[dead]
    assert (finding.outcome, "its process is gone" in finding.found) == ("warning", True)
    assert finding.todo.endswith("devin-pipeline ui")
    look(home)
    assert [each.outcome for each in findings().values()] == ["ok"]


@pytest.mark.parametrize(("hours", "outcome"), [(0.5, "unknown"), (2, "warning")])
def test_the_command_that_the_doctor_names_ends_a_run_of_which_nothing_is_known(
    home: dg.DagsterInstance, hours: float, outcome: str
) -> None:
    dead = left_started(home, hours)
    (Path(home.root_directory) / "running" / dead).unlink()
    finding = findings()[dead]
    assert finding.outcome == outcome
    since = datetime.now(UTC) - timedelta(hours=hours)
    assert f"{since:%Y-%m-%d %H}" in finding.found
    setting, *command = shlex.split(finding.todo.partition("end it: ")[2])
    assert setting == f"DAGSTER_HOME={home.root_directory}"
    command = command[2:] if command[:2] == ["uv", "run"] else command
    subprocess.run([Path(sys.executable).with_name(command[0]), *command[1:]], check=True, stdout=subprocess.DEVNULL)
    assert status(home, dead) == CANCELED
    assert [each.outcome for each in findings().values()] == ["ok"]


def test_a_check_names_the_runs_that_may_block_others_and_not_its_own(make_harness: MakeHarness) -> None:
    def found() -> Any:
        evaluations = harness.refresh().get_asset_check_evaluations()
        (check,) = [each for each in evaluations if each.check_name == "running_runs_are_alive"]
        assert check.passed == (check.metadata["findings"].value == 0)
        return check.metadata["first"].value

    harness = make_harness("v3", sessions=20, days=2)
    assert found() == []
    left_started(harness.instance, 0.5)
    assert found() == []
    dead = left_started(harness.instance, 2)
    (named,) = found()
    assert named["run"] == dead
    assert f'terminateRun(runId: "{dead}"' in named["end_it"]
