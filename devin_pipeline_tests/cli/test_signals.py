"""Ctrl-C and SIGTERM: how soon each command ends, whatever it is doing and however it was started."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from devin_pipeline.lake import Lake
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.cli.running import COMMAND, Running, environment
from devin_pipeline_tests.cli.test_limits import ENDLESS, STUBBORN
from devin_pipeline_tests.dagster_server.running import eventually
from devin_pipeline_tests.harness import PipelineHarness

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to see who handles signals"),
    pytest.mark.usefixtures("lake_of_no_rows"),
]
STOPPED = ["Interrupted.", "It was asked to stop.", "Run the same command again to resume."]
# Python itself needs some time to start and to say goodbye on a busy machine.
MARGIN = 3.0
both_signals = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])


@contextmanager
def begun(
    words: list[str], folder: Path, env: dict[str, str], stdin: int = subprocess.DEVNULL, until_it_works: float = 1
) -> Iterator[Running]:
    """A command that handles signals by now, started as by a shell without jobs in the background: ignoring SIGINT."""
    with Running(
        *words, folder=folder, env=env, stdin=stdin, leads_session=True, ignores_interrupts=True
    ) as running:  # fmt: skip
        try:
            eventually(lambda: handles_signals(running.pid), 60, "the command starts")
            # What it was started for begins.
            time.sleep(until_it_works)
            yield running
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)


def handles_signals(pid: int) -> bool:
    """True for a process with handlers of its own for SIGINT and SIGTERM."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    assert caught is not None
    wanted = 1 << (signal.SIGINT - 1) | 1 << (signal.SIGTERM - 1)
    return int(caught[1], 16) & wanted == wanted


def seconds_to_end(running: Running, number: int, within: float) -> tuple[float, list[str]]:
    """How long it takes to end after a signal, and what it says last."""
    sent = time.monotonic()
    running.send_signal(number)
    _, errors = running.communicate(timeout=within + MARGIN)
    return time.monotonic() - sent, errors.decode().splitlines()[-3:]


@both_signals
@pytest.mark.parametrize("query", [ENDLESS, STUBBORN], ids=["endless", "stubborn"])
def test_a_query_ends_within_two_seconds_and_leaves_nothing_behind(tmp_path: Path, query: str, number: int) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = environment(DEVIN_LAKE=str(tmp_path / "lake"), TMPDIR=str(temporary))
    with begun(["query", query], tmp_path, env, until_it_works=0) as running:
        eventually(lambda: list(temporary.iterdir()), 60, "the query begins")
        time.sleep(0.5)
        seconds, error = seconds_to_end(running, number, 2)
    assert seconds < 2
    assert (running.returncode, error) == (1, STOPPED)
    assert list(temporary.iterdir()) == []


@both_signals
def test_a_query_whose_output_nobody_reads_ends_too(tmp_path: Path, number: int) -> None:
    env = environment(DEVIN_LAKE=str(tmp_path / "lake"))
    words = ["query", "select unnest(range(1000000)) as n", "--format", "csv"]
    with begun(words, tmp_path, env, until_it_works=0) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"n\n"
        time.sleep(1)
        sent = time.monotonic()
        running.send_signal(number)
        running.wait(timeout=2 + MARGIN)
        assert time.monotonic() - sent < 2
    assert running.returncode == 1


@both_signals
def test_a_query_that_waits_for_its_text_ends_too(tmp_path: Path, number: int) -> None:
    with begun(["query", "-"], tmp_path, environment(), stdin=subprocess.PIPE) as running:
        seconds, error = seconds_to_end(running, number, 2)
    assert seconds < 2
    assert (running.returncode, error) == (1, STOPPED)


@pytest.mark.notices("a command that nohup keeps running")
@pytest.mark.parametrize("keeper", ["", "nohup"])
def test_a_closed_terminal_ends_a_command_unless_nohup_keeps_it_running(tmp_path: Path, keeper: str) -> None:
    with subprocess.Popen(
        [*keeper.split(), COMMAND, "query", "-", "--format", "csv"],
        cwd=tmp_path, env=environment(DEVIN_LAKE=str(tmp_path / "lake")),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        eventually(lambda: handles_signals(running.pid), 60, "the command starts")
        time.sleep(1)
        running.send_signal(signal.SIGHUP)
        output, errors = running.communicate("select 1 as one", timeout=2 + MARGIN + 5)
    if keeper:
        assert (running.returncode, output) == (0, "one\n1\n")
    else:
        assert (running.returncode, errors.splitlines()[-3:]) == (1, STOPPED)


def test_a_query_ends_when_timeout_stops_it(tmp_path: Path) -> None:
    began = time.monotonic()
    words = ["timeout", "4", COMMAND, "query", ENDLESS]
    env = environment(DEVIN_LAKE=str(tmp_path / "lake"))
    called = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert time.monotonic() - began < 4 + 2 + MARGIN
    assert called.returncode == 124
    assert called.stderr.splitlines()[-3:] == STOPPED


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@both_signals
@pytest.mark.parametrize(
    "words",
    [
        ["doctor"],
        ["doctor", "--json"],
        ["demo"],
        ["emulator", "--port", "0", "--sessions", "1000000", "--days", "2000"],
    ],
    ids=" ".join,
)
def test_a_command_that_waits_or_works_long_ends_within_ten_seconds(
    make_harness: Callable[..., PipelineHarness], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, silent_server: str,
    words: list[str], number: int,
) -> None:  # fmt: skip
    make_harness("v3", sessions=4, days=2)
    monkeypatch.setenv("DEVIN_API_URL", silent_server)
    with begun(words, tmp_path, environment()) as running:
        assert running.poll() is None
        seconds, error = seconds_to_end(running, number, 10)
    assert seconds < 10
    assert (running.returncode, error) == (1, STOPPED)


@pytest.mark.notices("a lake that does not answer")
@both_signals
def test_a_command_whose_lake_does_not_answer_ends_within_ten_seconds(
    make_harness: Callable[..., PipelineHarness], tmp_path: Path, number: int
) -> None:
    harness = make_harness("v3", sessions=4, days=2)
    harness.build()
    with ExitStack() as all_begun:
        commands: list[tuple[list[str], Running]] = []
        # At once, since each waits for seconds; the one that has to end soonest is asked first.
        for words in (["query", "from sessions"], ["tables"], ["verify"], ["maintain"]):
            folder = tmp_path / words[0]
            shutil.copytree(harness.lake.uri, folder / "lake")
            sessions = Path(Lake(str(folder / "lake")).location(TABLES["sessions"]))
            # Opening a pipe for reading waits until somebody writes to it, as reading from a disk that hangs does.
            os.mkfifo(sessions / "_delta_log/_last_checkpoint")
            env = environment(DEVIN_LAKE=str(folder / "lake"), DAGSTER_HOME=str(folder / "home"))
            commands.append((words, all_begun.enter_context(begun(words, folder, env, until_it_works=0))))
        # What they were started for begins.
        time.sleep(2)
        assert [words for words, running in commands if running.poll() is not None] == []
        (words, query), *others = commands
        seconds, error = seconds_to_end(query, number, 2)
        assert (seconds < 2, query.returncode, error) == (True, 1, STOPPED), words
        sent = time.monotonic()
        for _, running in others:
            running.send_signal(number)
        for words, running in others:
            _, errors = running.communicate(timeout=10 + MARGIN)
            assert time.monotonic() - sent < 10, words
            assert (running.returncode, errors.decode().splitlines()[-3:]) == (1, STOPPED), words
