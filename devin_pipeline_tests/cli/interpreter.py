"""An interpreter that has imported what commands import and forks a process for each, which saves seconds of imports.

Started by `running`, which sends it calls over a socket. It ends when that socket is closed.
"""

import importlib
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from devin_pipeline.cli import command

WITHOUT_DAGSTER = ("query", "tables")
IMPORTED = ("devin_pipeline.lake", "deltalake", "duckdb", "rich.table")


def serve(calls: socket.socket) -> None:
    """Start a command for each call, until nobody sends any more."""
    while True:
        message, fds, _, _ = socket.recv_fds(calls, 2**20, 4)
        if not message:
            return
        call = json.loads(message)
        _import_for(call["words"][1:2])
        # A process between this one and the command waits for its end.
        if os.fork() == 0:
            calls.close()
            _run(call, *fds)
        for fd in fds:
            os.close(fd)
        _reap()


def _import_for(name: Sequence[str]) -> None:
    for module in (*IMPORTED, *(f"devin_pipeline.cli.{word}" for word in name)):
        with suppress(ImportError, ValueError):
            importlib.import_module(module)
    if not set(name) & set(WITHOUT_DAGSTER):
        importlib.import_module("devin_pipeline.definitions")


def _reap() -> None:
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def _run(call: dict[str, Any], report: int, *streams: int) -> None:
    pid = os.fork()
    if pid == 0:
        os.close(report)
        _become(call, streams)
    for stream in streams:
        os.close(stream)
    os.write(report, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(report, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(call: dict[str, Any], streams: Sequence[int]) -> None:
    if call["leads_session"]:
        os.setsid()
    if call["ignores_interrupts"]:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # Of the same encodings, but over what the command was given.
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        own = getattr(sys, name)
        mode, buffering = "r" if name == "stdin" else "w", 1 if name == "stderr" else -1
        replaced = open(number, mode, buffering, own.encoding, own.errors, closefd=False)  # noqa: SIM115 - stays open
        setattr(sys, name, replaced)
    random.seed()
    os.chdir(call["folder"])
    os.environ.clear()
    os.environb.update({name.encode("latin-1"): value.encode("latin-1") for name, value in call["env"].items()})
    sys.argv = [os.fsdecode(word.encode("latin-1")) for word in call["words"]]
    command()


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
