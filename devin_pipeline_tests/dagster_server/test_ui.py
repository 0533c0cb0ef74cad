"""`devin-pipeline ui`: what runs while it runs, and how it ends."""

import os
import shutil
import signal
import socket
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest

from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline_tests.dagster_server.running import (
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

LONGER_THAN_STOPPING_TAKES = 12
pytestmark = [
    pytest.mark.skipif(shutil.which("ps") is None, reason="no ps is installed to look at processes with"),
    pytest.mark.notices(
        "a run killed with the Dagster UI",
        "a Dagster UI for reading that changes things",
        "a second daemon next to a Dagster UI for reading",
        "a Dagster UI that died unnoticed",
    ),
]


def processes_of(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """The processes that a command started: the module that each runs, and its id."""
    lines = [line.split() for line in _ps("ppid=,pid=,args=", "-A", "-ww").splitlines()]
    child = ["-m", "devin_pipeline.dagster_server.child"]
    return {words[6]: int(words[1]) for words in lines if words[0] == str(process.pid) and words[3:5] == child}


def require_nothing_left(process: subprocess.Popen[bytes], number: int, port: int) -> None:
    """Within ten seconds of a signal, neither the process is left nor what it started, nor is the port taken."""
    known = processes_under(process.pid)
    # The code server has a process of its own.
    assert len(known) == 5
    process.send_signal(number)
    try:
        eventually(lambda: not any(runs_still(pid) for pid in known), 10, "every process ends")
    finally:
        for pid in filter(runs_still, known):
            os.kill(pid, signal.SIGKILL)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def runs_still(pid: int) -> bool:
    """False too for what has ended and waits for its end to be noticed."""
    return _ps("stat=", "-p", str(pid)).strip()[:1] not in ("", "Z")


def _ps(columns: str, *which: str) -> str:
    return subprocess.run(["ps", *which, "-o", columns], check=False, capture_output=True, text=True).stdout


def test_a_run_that_is_going_on_when_the_ui_is_stopped_ends_well_in_the_background(
    tmp_path: Path, bytecode: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enterprise = Enterprise.synthetic(seed=3, sessions=20, days=3)
    with EmulatorServer(enterprise, latency_seconds=LONGER_THAN_STOPPING_TAKES) as server:
        settings = live_settings(server, tmp_path, today() - timedelta(days=2))
        port, log = free_port(), tmp_path / "log"
        ui = DagsterUi(f"http://127.0.0.1:{port}")
        command = ["devin-pipeline", "ui", "--port", str(port)]
        with started(command, environment(settings, bytecode), log, tmp_path) as process:
            eventually(lambda: "The Dagster UI starts" in log.read_text(), 60, "the command starts the others")
            # Now, before any of them can: they would make it in the same moment.
            assert (Path(settings["DAGSTER_HOME"]) / "history" / "runs" / "index.db").exists()
            ready = f"It is ready: open {ui.url}\n"
            eventually(lambda: ready in log.read_text(), 60, "the command says that the Dagster UI is ready")
            assert httpx.get(ui.url, headers={"Host": "evil.example"}).status_code == 403
            running = processes_of(process)
            assert set(running) == {"dagster", "dagster._daemon", "devin_pipeline.dagster_server.webserver"}
            run_id = _launch(ui)
            eventually(lambda: ui.run_status(run_id) == "STARTED", 60, "the daemon starts the run")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0, log.read_text()
            assert not runs_still(running["dagster._daemon"])
            assert not runs_still(running["devin_pipeline.dagster_server.webserver"])
            assert "The code server is still busy" in log.read_text()

            monkeypatch.setenv("DAGSTER_HOME", settings["DAGSTER_HOME"])
            with dg.DagsterInstance.get() as instance:
                eventually(lambda: _is_finished(instance, run_id), 60, "the run ends")
                assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.SUCCESS  # type: ignore[union-attr] # it was launched
            eventually(lambda: not runs_still(running["dagster"]), 30, "the code server ends after it")


@pytest.mark.notices("a path too long for a socket", "processes that outlive the ui")
@pytest.mark.parametrize(
    ("name", "number"), [("x" * 130, signal.SIGHUP), ("a%41 b", signal.SIGKILL)], ids=["SIGHUP", "SIGKILL"]
)
def test_the_ui_opens_whatever_the_folder_for_temporary_files_and_leaves_nothing_whatever_ends_it(
    tmp_path: Path, bytecode: Path, name: str, number: int
) -> None:
    temporary = tmp_path / name
    temporary.mkdir()
    port, log = free_port(), tmp_path / "log"
    ui = DagsterUi(f"http://127.0.0.1:{port}")
    env = environment({"TMPDIR": str(temporary)}, bytecode)
    with started(["devin-pipeline", "ui", "--demo", "--port", str(port)], env, log, tmp_path) as process:
        eventually(ui.answers, 120, "the Dagster UI answers")
        assert _locations(ui) == ["devin_pipeline"]
        require_nothing_left(process, number, port)
    assert not [line for line in log.read_text().splitlines() if "Traceback" in line or "socket" in line.lower()]


def test_a_read_only_ui_changes_nothing_runs_no_daemon_and_says_when_it_stopped_by_itself(
    tmp_path: Path, bytecode: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    ui = DagsterUi(f"http://127.0.0.1:{port}")
    command = ["devin-pipeline", "ui", "--demo", "--read-only", "--port", str(port)]
    env = environment({}, bytecode)
    with started(command, env, log, tmp_path) as process:
        eventually(ui.answers, 60, "the Dagster UI answers")
        running = processes_of(process)
        assert set(running) == {"dagster", "devin_pipeline.dagster_server.webserver"}
        assert _locations(ui) == ["devin_pipeline"]
        wiped = ui.ask(
            """mutation { wipeAssets(assetPartitionRanges: [{assetKey: {path: ["sessions"]}}]) { __typename } }"""
        )
        assert wiped["wipeAssets"]["__typename"] == "UnauthorizedError"

        another = run(["devin-pipeline", "ui", "--demo", "--port", str(port)], env)
        assert another.returncode == 2
        assert f"Port {port} cannot be used.\n" in another.stdout

        os.kill(running["devin_pipeline.dagster_server.webserver"], signal.SIGKILL)
        assert process.wait(timeout=30) == 1
        assert "The Dagster UI ended unexpectedly.\nExit code -9.\n" in log.read_text()
        assert "DEMO DATA" in log.read_text()
        eventually(lambda: not runs_still(running["dagster"]), 30, "the code server ends too")


def _launch(ui: DagsterUi) -> str:
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "devin_pipeline",
        "jobName": "__ASSET_JOB",
        "assetSelection": [{"path": ["raw_sessions_v3"]}],
    }
    day = (today() - timedelta(days=1)).isoformat()
    launched = ui.ask(
        """mutation($run: ExecutionParams!) { launchRun(executionParams: $run) {
             __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }""",
        run={"selector": selector, "executionMetadata": {"tags": [{"key": "dagster/partition", "value": day}]}},
    )["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id: str = launched["run"]["runId"]
    return run_id


def _is_finished(instance: dg.DagsterInstance, run_id: str) -> bool:
    found = instance.get_run_by_id(run_id)
    return found is not None and found.is_finished


def _locations(ui: DagsterUi) -> list[Any]:
    found = ui.ask("{ workspaceOrError { ... on Workspace { locationEntries { name } } } }")
    return [entry["name"] for entry in found["workspaceOrError"]["locationEntries"]]


@pytest.mark.notices("two daemons over one DAGSTER_HOME")
def test_a_backfill_and_a_reader_open_the_home_of_the_ui_at_once_and_a_second_daemon_does_not(
    tmp_path: Path, bytecode: Path
) -> None:
    with EmulatorServer(Enterprise.synthetic(seed=3, sessions=20, days=3)) as server:
        settings = live_settings(server, tmp_path, today() - timedelta(days=2))
        env = environment(settings, bytecode)
        port, day = free_port(), str(today() - timedelta(days=1))
        log = tmp_path / "log"
        with started(["devin-pipeline", "ui", "--port", str(port)], env, log, tmp_path) as process:
            backfill = run(["devin-pipeline", "backfill", "--from", day, "--to", day], env, 120)
            assert backfill.returncode == 0, backfill.stdout
            ui = DagsterUi(f"http://127.0.0.1:{port}")
            eventually(ui.answers, 60, "the Dagster UI answers")

            reader = free_port()
            with started(["devin-pipeline", "ui", "--read-only", "--port", str(reader)], env, tmp_path / "reader"):
                second = run(["devin-pipeline", "ui", "--port", str(free_port())], env)
                assert second.returncode == 2
                assert second.stdout.splitlines()[-3].endswith(f"is open already, at http://127.0.0.1:{port}.")
                eventually(DagsterUi(f"http://127.0.0.1:{reader}").answers, 60, "one for reading opens next to it")
            assert ui.answers()

            require_nothing_left(process, signal.SIGINT, port)
            assert process.wait(timeout=1) == 0
