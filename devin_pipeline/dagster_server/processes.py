"""The processes of Dagster's own `dagster dev`, with a guarded webserver in the place of its own.

One code server holds the pipeline's code, so that "Reload" in the Dagster UI is for the daemon too.
"""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

_SECONDS_TO_LOAD = 180
_SECONDS_TO_STOP = 7.5
_SECONDS_TO_STOP_UI_AND_DAEMON = 4
_SECONDS_FOR_LAST_DAEMON = 6
# An address of a socket has room for 103 bytes on macOS and 107 on Linux, 29 of which are names of ours. What else may
# stand in a path, gRPC would decode.
_IN_AN_ADDRESS = re.compile(r"/[A-Za-z0-9/._-]{0,72}")


class StoppedByItself(Exception):
    """A process ended though nobody asked it to.

    Attributes:
        name: Which one, with its article.
        exit_code: Its exit code; negative for the signal that ended it. None when it never became ready.
    """

    def __init__(self, name: str, exit_code: int | None) -> None:
        super().__init__(name)
        self.name = name
        self.exit_code = exit_code


class NoFolderForSocket(Exception):
    """No folder for temporary files can be written and has a path that a socket's address has room for."""


class DaemonRuns(Exception):
    """The DAGSTER_HOME has a daemon already.

    Attributes:
        url: Of the Dagster UI next to it; empty where it is not known.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


@contextlib.contextmanager
def right_to_daemon(port: int) -> Iterator[int | None]:
    """Hold the right of the DAGSTER_HOME to a daemon, as a file that is locked; None where no file can be.

    Of two daemons each would start the runs that are due. The daemon gets the file, so that it keeps the lock should it
    outlive this process.

    Raises:
        DaemonRuns: Another process holds it.
    """
    with contextlib.ExitStack() as opened:
        file: IO[str] | None = None
        with contextlib.suppress(OSError):
            file = opened.enter_context((Path(os.environ["DAGSTER_HOME"]) / ".daemon").open("a+"))
            # guard: two daemons over one DAGSTER_HOME
            _lock(file.fileno())
            file.truncate(0)
            file.write(f"http://127.0.0.1:{port}")
            file.flush()
        yield file.fileno() if file else None


def _lock(file: int) -> None:
    deadline = time.monotonic() + _SECONDS_FOR_LAST_DAEMON
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # That of a process that was killed ends a little later.
            if time.monotonic() > deadline:
                raise DaemonRuns(os.pread(file, 100, 0).decode()) from None
            time.sleep(0.1)
        else:
            return


def run_until(
    stopped: threading.Event,
    *,
    module: str,
    location: str,
    port: int,
    read_only: bool,
    locked: int | None = None,
    when_ready: Callable[[], None] = lambda: None,
) -> bool:
    """Run the Dagster UI of the DAGSTER_HOME at 127.0.0.1 and, unless it is for reading only, the daemon.

    Args:
        stopped: Ends it when set.
        module: Module of the definitions.
        location: Name of the code location, by which Dagster keeps states and cursors.
        port: Port of the Dagster UI.
        read_only: Every mutation is refused, and no daemon runs: a deployment may have one.
        locked: A file to hand to the daemon, which keeps its lock.
        when_ready: Called once the Dagster UI accepts connections.

    Returns:
        True if the code server is not done yet, as while a run is going on: it ends by itself, in the background.

    Raises:
        StoppedByItself: A process ended, and so the others were stopped.
        NoFolderForSocket: No folder for temporary files has a short enough path.
    """
    temporary = _folder_for_sockets()
    with tempfile.TemporaryDirectory(prefix="devin-pipeline-", dir=temporary) as folder:
        code = Path(folder) / "code"
        workspace = Path(folder) / "workspace.yaml"
        served_code = {"grpc_server": {"socket": str(code), "location_name": location}}
        workspace.write_text(json.dumps({"load_from": [served_code]}))
        running: dict[str, subprocess.Popen[bytes]] = {}

        def start(name: str, *words: str, seconds_to_stop: float, files: Sequence[int] = ()) -> None:
            # Sessions of their own: Ctrl-C in a terminal is for us, and they are stopped in order.
            # Dagster lets a .env in its folder override the environment, and so the demo's keys with live ones.
            running[name] = subprocess.Popen(  # noqa: S603 - our own words
                [sys.executable, "-m", "devin_pipeline.dagster_server.child", str(seconds_to_stop), *words],
                cwd=os.environ["DAGSTER_HOME"],
                # The code server makes a socket of its own.
                env={**os.environ, "TMPDIR": str(temporary)},
                # It stops when this ends, which it does with this process, too, whatever ends that.
                stdin=subprocess.PIPE,
                pass_fds=files,
                start_new_session=True,
            )

        try:
            served = ["--socket", str(code), "--module-name", module, "--location-name", location]
            # Never killed: it waits for a run that is going on. Such a run would stay "started" for ever, and with
            # `max_concurrent_runs: 1` no other would start.
            words = ["dagster", "code-server", "start", "--log-level", "warning", *served]
            start("the code server", *words, seconds_to_stop=0)
            _wait_for(code, running, stopped)
            seconds = _SECONDS_TO_STOP_UI_AND_DAEMON
            # guard: a second daemon next to a Dagster UI for reading | not read_only -> True
            if not read_only:
                words = ["dagster._daemon", "run", "--workspace", str(workspace)]
                start("the daemon", *words, seconds_to_stop=seconds, files=[] if locked is None else [locked])
            words = ["devin_pipeline.dagster_server.webserver", "--workspace", str(workspace), "--port", str(port)]
            # guard: a Dagster UI for reading that changes things | , *(["--read-only"] if read_only else [])
            start("the Dagster UI", *words, *(["--read-only"] if read_only else []), seconds_to_stop=seconds)
            is_ready = False
            while not stopped.wait(timeout=0.5):
                # guard: a Dagster UI that died unnoticed
                _require_alive(running)
                if not is_ready and _accepts_connections(port):
                    is_ready = True
                    when_ready()
        finally:
            deadline = time.monotonic() + _SECONDS_TO_STOP
            code_servers, others = list(running.values())[:1], list(running.values())[1:]
            _stop(others)
            for code_server in code_servers:
                # guard: a run killed with the Dagster UI | _ask_to_stop(code_server) -> _stop([code_server])
                _ask_to_stop(code_server)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code_server.wait(timeout=deadline - time.monotonic())
        return any(code_server.poll() is None for code_server in code_servers)


def _folder_for_sockets() -> Path:
    """The folder for temporary files, or another if its path cannot be part of a socket's address."""
    others = ("/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR", ""))  # noqa: S108 - with a folder of its own inside
    for folder in (os.environ.get("TMPDIR", ""), *others):
        # guard: a path too long for a socket | _IN_AN_ADDRESS.fullmatch(folder) and
        if _IN_AN_ADDRESS.fullmatch(folder) and os.access(folder, os.W_OK | os.X_OK):
            return Path(folder)
    raise NoFolderForSocket


def _wait_for(code: Path, running: dict[str, subprocess.Popen[bytes]], stopped: threading.Event) -> None:
    """Wait until the code is loaded: the socket listens from then on."""
    deadline = time.monotonic() + _SECONDS_TO_LOAD
    while not stopped.wait(timeout=0.1):
        _require_alive(running)
        with socket.socket(socket.AF_UNIX) as probe:
            if code.exists() and probe.connect_ex(str(code)) == 0:
                return
        if time.monotonic() > deadline:
            raise StoppedByItself("the code server", None)


def _accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _require_alive(running: dict[str, subprocess.Popen[bytes]]) -> None:
    for name, process in running.items():
        if process.poll() is not None:
            raise StoppedByItself(name, process.returncode)


def _ask_to_stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin:
        process.stdin.close()


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask all to stop; whatever is left after a few seconds is killed, with all it started."""
    for process in processes:
        _ask_to_stop(process)
    deadline = time.monotonic() + _SECONDS_TO_STOP_UI_AND_DAEMON
    for process in processes:
        try:
            process.wait(timeout=max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
