"""Commands as processes of their own: what they print, in bytes, and how they end.

A command is forked by an interpreter that has imported the pipeline, since a new one spends a second or two on that.
The interpreter was started with the settings of Python that the command would be started with, so that its streams and
encodings are those of a new one. What the shell or the system does before Python starts is tested with `COMMAND`.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache
from io import BufferedReader, BufferedWriter
from pathlib import Path
from types import TracebackType

COMMAND = str(Path(sys.executable).with_name("devin-pipeline"))
PROJECT = Path(__file__).parents[2]
SETTINGS_OF_PYTHON = ("PYTHONIOENCODING", "PYTHONUTF8", "PYTHONCOERCECLOCALE", "LC_ALL", "LANG", "LC_CTYPE")
PIPE = subprocess.PIPE


def environment(**settings: str) -> dict[str, str]:
    """Our environment without what it says about encodings, and these settings."""
    inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS_OF_PYTHON}
    # The code next to these tests, wherever the command is installed from.
    return inherited | {"PYTHONPATH": str(PROJECT)} | settings


@cache
def _interpreter(python_settings: frozenset[tuple[str, str]]) -> socket.socket:
    """Where calls are sent to."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    env = {name: value for name, value in environment().items() if not name.startswith(("DEVIN_", "DAGSTER_"))}
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("interpreter.py"), str(theirs.fileno())],
        env=env | dict(python_settings), pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


class Running:
    """A command under way, to be used as a `subprocess.Popen` in binary mode."""

    def __init__(
        self,
        *words: str | bytes,
        folder: Path,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int = PIPE,
        stderr: int = PIPE,
        leads_session: bool = False,
        ignores_interrupts: bool = False,
    ) -> None:
        env = environment() if env is None else env
        call = {
            # In bytes, since the other side may decode them otherwise.
            "words": [os.fsencode(word).decode("latin-1") for word in (COMMAND, *words)],
            "env": {os.fsencode(n).decode("latin-1"): os.fsencode(value).decode("latin-1") for n, value in env.items()},
            "folder": str(folder),
            "leads_session": leads_session,
            "ignores_interrupts": ignores_interrupts,
        }
        self.stdin: BufferedWriter | None = None
        self.stdout: BufferedReader | None = None
        self.stderr: BufferedReader | None = None
        self.returncode: int | None = None
        read, report = os.pipe()
        self._report = os.fdopen(read, "rb", buffering=0)
        theirs = [report]
        for name, stream in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            if stream == subprocess.DEVNULL:
                theirs.append(os.open(os.devnull, os.O_RDWR))
            elif stream == PIPE:
                ends = os.pipe()
                reads = name == "stdin"
                theirs.append(ends[0 if reads else 1])
                setattr(self, name, os.fdopen(ends[1 if reads else 0], "wb" if reads else "rb"))
            else:
                theirs.append(os.dup(stream))
        settings = frozenset((name, env[name]) for name in SETTINGS_OF_PYTHON if name in env)
        socket.send_fds(_interpreter(settings), [json.dumps(call).encode()], theirs)
        for fd in theirs:
            os.close(fd)
        self.pid = int(self._line())

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += self._report.read(1) or b"\n"
        return line

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        return self.wait(0) if self._has_ended(0) else None

    def _has_ended(self, timeout: float | None) -> bool:
        return self.returncode is not None or bool(select.select([self._report], [], [], timeout)[0])

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit code.

        Raises:
            subprocess.TimeoutExpired: It goes on.
        """
        if not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(COMMAND, timeout or 0)
        if self.returncode is None:
            self.returncode = int(self._line())
        return self.returncode

    def communicate(self, given: bytes = b"", timeout: float | None = None) -> tuple[bytes, bytes]:
        """Give it this on standard input and wait for its end; what it still wrote to stdout and stderr."""
        read: dict[str, bytes] = {"stdout": b"", "stderr": b""}

        def keep(name: str, stream: BufferedReader) -> None:
            read[name] = stream.read()

        streams = {"stdout": self.stdout, "stderr": self.stderr}
        threads = [
            threading.Thread(target=keep, args=(name, stream), daemon=True)
            for name, stream in streams.items()
            if stream
        ]
        for thread in threads:
            thread.start()
        if self.stdin:
            try:
                self.stdin.write(given)
                self.stdin.close()
            except BrokenPipeError:
                pass
        self.wait(timeout)
        for thread in threads:
            thread.join(timeout)
        return read["stdout"], read["stderr"]

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        if kind is not None:
            self.kill()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream:
                stream.close()
        self.wait()
        self._report.close()


def run(
    *words: str | bytes, folder: Path, env: Mapping[str, str] | None = None, given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    with Running(*words, folder=folder, env=env, stdin=PIPE) as running:
        output, errors = running.communicate(given, timeout=120)
    return subprocess.CompletedProcess([COMMAND, *words], running.wait(), output, errors)
