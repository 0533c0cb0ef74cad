"""A machine restarts: whatever runs below `devin-pipeline ui` is killed in one moment, and it is started again."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline_tests.dagster_server.running import (
    FIRST,
    LAST,
    PARTITIONED,
    DagsterUi,
    environment,
    eventually,
    free_port,
    live_settings,
    processes_under,
    run,
    started,
    today,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ps") is None, reason="no ps is installed to look at processes with"),
]
DAYS = [today() - timedelta(days=n) for n in (3, 2, 1)]
SECONDS_TO_START = 120
STRIDE = 3


class Machine:
    """One DAGSTER_HOME, over which the Dagster UI is started and killed again and again."""

    def __init__(self, folder: Path, settings: dict[str, str], bytecode: Path) -> None:
        self._history = Path(settings["DAGSTER_HOME"]) / "history"
        self.env = environment(settings, bytecode)
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def ui(self) -> Iterator[DagsterUi]:
        """The Dagster UI, once it answers."""
        port = free_port()
        ui = DagsterUi(f"http://127.0.0.1:{port}")
        command = ["devin-pipeline", "ui", "--port", str(port)]
        with started(command, self.env, self.folder / "log", self.folder) as self._process:
            eventually(ui.answers, 60, "the Dagster UI answers")
            yield ui

    def kill_when(self, is_time: Callable[[], bool], is_near: Callable[[], bool] = lambda: True) -> None:
        """Kill every process of the Dagster UI, those of its runs included, in the moment when it is time.

        Args:
            is_time: Whether the moment has come.
            is_near: Whether it is about to come: which processes there are is looked up before it.
        """
        assert self._process is not None
        _soon(is_near, "the moment to kill is near")
        known = processes_under(self._process.pid)
        _soon(is_time, "the moment to kill comes")
        # Stopped first, so that none sees another end.
        _signal(known, signal.SIGSTOP)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            _signal({*known, *processes_under(self._process.pid)}, number)
        self._process.wait()

    def status(self, run_id: str) -> str:
        """The status of a run."""
        return str(_asked(self._history / "runs.db", "select status from runs where run_id = ?", run_id))

    def newest_run(self) -> str:
        """The run that was added last."""
        return str(_asked(self._history / "runs.db", "select run_id from runs order by id desc limit 1"))

    def steps_begun(self, run_id: str) -> int:
        """How many steps of a run have begun."""
        steps = "select count(*) from event_logs where dagster_event_type = 'STEP_START'"
        return _asked(self._history / "runs" / f"{run_id}.db", steps) or 0


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _asked(file: Path, query: str, *params: str) -> Any:
    # The file may not be there yet, or have no tables.
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database,
    ):
        row = database.execute(query, params).fetchone()
        return row and row[0]


def _soon(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def _launch(ui: DagsterUi) -> str:
    launched = ui.ask(
        """mutation($run: ExecutionParams!) { launchRun(executionParams: $run) {
             __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }""",
        run={
            "selector": {
                "repositoryName": "__repository__",
                "repositoryLocationName": "devin_pipeline",
                "jobName": "refresh",
            },
            "executionMetadata": {"tags": [{"key": tag, "value": str(DAYS[-1])} for tag in (FIRST, LAST)]},
        },
    )["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id: str = launched["run"]["runId"]
    return run_id


@pytest.fixture
def machine(tmp_path: Path, bytecode: Path) -> Iterator[Machine]:
    with EmulatorServer(Enterprise.synthetic(seed=3, sessions=20, days=4)) as server:
        yield Machine(tmp_path, live_settings(server, tmp_path, DAYS[0]), bytecode)


# Each on a machine of its own, side by side.
@pytest.mark.parametrize("first", range(-1, STRIDE - 1))
def test_after_a_kill_at_every_step_of_a_run_the_next_one_starts_within_two_minutes(
    machine: Machine, first: int
) -> None:
    with machine.ui() as ui:
        whole = _launch(ui)
        _soon(lambda: machine.status(whole) == "SUCCESS", "a run ends")
    steps = machine.steps_begun(whole)
    assert steps > 10
    killed: list[str] = []
    # Before its process says that it has started, before its first step, and after each step begins.
    for step in range(first, steps + 1, STRIDE):
        restarted = time.monotonic()
        with machine.ui() as ui:
            killed.append(_launch(ui))
            _soon(lambda: not _is_waiting(machine.status(killed[-1])), "the run starts after the restart")
            assert time.monotonic() - restarted < SECONDS_TO_START
            assert {machine.status(run_id) for run_id in killed[:-1]} <= {"FAILURE"}
            machine.kill_when(
                partial(_is_at, machine, killed[-1], step), partial(_is_at, machine, killed[-1], step - 1)
            )
        assert machine.status(killed[-1]) == ("STARTING" if step < 0 else "STARTED")


def test_a_run_of_a_killed_command_is_failed_before_and_while_the_dagster_ui_is_up(machine: Machine) -> None:
    before = _killed_backfill(machine)
    assert machine.status(before) == "STARTED"
    with machine.ui() as ui:
        meanwhile = _killed_backfill(machine)
        run_id = _launch(ui)
        _soon(lambda: not _is_waiting(machine.status(run_id)), "the next run starts")
        assert [machine.status(each) for each in (before, meanwhile)] == ["FAILURE", "FAILURE"]
        again = run(_backfill_command(), machine.env)
        assert again.returncode == 0, again.stdout


def test_a_backfill_of_the_dagster_ui_goes_on_after_a_restart(machine: Machine) -> None:
    with machine.ui() as ui:
        launched = ui.ask(
            """mutation($backfill: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $backfill) {
                 __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
            backfill={
                "assetSelection": [{"path": [name]} for name in PARTITIONED],
                "partitionNames": [str(day) for day in DAYS],
            },
        )["launchPartitionBackfill"]
        backfill_id = launched["backfillId"]
        (killed,) = eventually(lambda: ui.runs(dagster__backfill=backfill_id), 60, "the backfill starts a run")
        machine.kill_when(lambda: machine.steps_begun(killed["runId"]) >= 5)
    with machine.ui() as ui:

        def ended() -> Any:
            backfill = ui.ask(
                """query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
                     status error { message } } } }""",
                id=backfill_id,
            )["partitionBackfillOrError"]
            return None if backfill["status"] in ("REQUESTED", "COMPLETING") else backfill

        assert eventually(ended, 180, "the backfill ends") == {"status": "COMPLETED_SUCCESS", "error": None}
        assert machine.status(killed["runId"]) == "FAILURE"


def _is_at(machine: Machine, run_id: str, step: int) -> bool:
    if step < -1:
        return True
    return machine.status(run_id) == ("STARTING" if step < 0 else "STARTED") and machine.steps_begun(run_id) >= step


def _backfill_command() -> list[str]:
    return ["devin-pipeline", "backfill", "--from", str(DAYS[0]), "--to", str(DAYS[-1])]


def _killed_backfill(machine: Machine) -> str:
    """The run of a command that was killed in the middle of it."""
    newest = machine.newest_run()
    with started(_backfill_command(), machine.env, machine.folder / "backfill.log") as process:
        _soon(lambda: machine.newest_run() != newest and machine.steps_begun(machine.newest_run()) > 3, "it runs")
        process.kill()
    return machine.newest_run()


def _is_waiting(status: str) -> bool:
    return status in ("NOT_STARTED", "QUEUED")
