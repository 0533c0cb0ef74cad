"""Runs a piece of work in a process of its own, and says what it took."""

import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import msgspec


@dataclass
class Cost:
    """What a piece of work took.

    Attributes:
        wall_seconds: By the clock on the wall.
        cpu_seconds: Of the process and those it started, in user and system mode.
        peak_bytes: Most memory its largest process held at once, what was there before the work included.
        facts: What the work says of itself.
    """

    wall_seconds: float = 0
    cpu_seconds: float = 0
    peak_bytes: int = 0
    facts: dict[str, float] = field(default_factory=dict)


@contextmanager
def measured(cost: Cost) -> Iterator[None]:
    """Add what happens in the block to `cost`."""
    cpu, wall = _cpu_seconds(), time.perf_counter()
    try:
        yield
    finally:
        cost.wall_seconds += time.perf_counter() - wall
        cost.cpu_seconds += _cpu_seconds() - cpu
        cost.peak_bytes = max(cost.peak_bytes, _peak_bytes())


def _cpu_seconds() -> float:
    usages = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usages)


def _peak_bytes() -> int:
    # Not ru_maxrss of this process: an exec keeps the peak of the process that started it.
    own = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert own is not None
    return 1024 * max(int(own[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


@dataclass(frozen=True)
class Place:
    """Where a piece of work is done, and of which billing days.

    Attributes:
        url: The server.
        folder: Where to write; what is there is found.
        start: The first day that has sessions.
        first: The first day to work on.
        last: The last day to work on.
        sessions: How many sessions the server lists over all its days.
    """

    url: str
    folder: Path
    start: date
    first: date
    last: date
    sessions: int


Work = Callable[[Place, Cost], None]
"""It does what it is named for at a place, and adds to the cost what of that is to be measured."""


class _Task(msgspec.Struct):
    name: str
    place: Place


def in_own_process(module: str, name: str, place: Place) -> Cost:
    """Have a module do a piece of work in a new process.

    Args:
        module: One that calls `run_named_work` when it is run.
        name: Which piece of its work.
        place: Where.

    Raises:
        RuntimeError: It failed; with the end of what it said.
    """
    task = msgspec.json.encode(_Task(name, place), enc_hook=str)
    ran = subprocess.run([sys.executable, "-m", module], input=task, capture_output=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"{name} {place}: {ran.stderr[-3000:].decode(errors='replace')}")
    return msgspec.json.decode(ran.stdout.splitlines()[-1], type=Cost)


def run_named_work(works: Mapping[str, Work]) -> None:
    """Do the piece of work that standard input names, and print what it cost as the last line."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=_Task, dec_hook=lambda kind, text: kind(text))
    cost = Cost()
    works[task.name](task.place, cost)
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode(cost) + b"\n")


@dataclass(frozen=True)
class Disk:
    """What a folder holds: its files, and the latest version of each Delta table in it."""

    files: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, folder: Path) -> "Disk":
        """Look at a folder."""
        found = {}
        for file in folder.rglob("*") if folder.exists() else ():
            if file.is_file():
                status = file.stat()
                found[str(file.relative_to(folder))] = (status.st_size, status.st_mtime_ns)
        return cls(found)

    def bytes_of(self, *tables: str) -> int:
        """Size of the data files of some tables, or of all."""
        return sum(
            size
            for name, (size, _) in self.files.items()
            if name.endswith(".parquet") and "_delta_log" not in name and (not tables or name.split("/")[0] in tables)
        )

    def commits_since(self, before: "Disk") -> int:
        """Delta versions that were added."""
        commits = {name for name in self.files if re.search(r"_delta_log/\d{20}\.json$", name)}
        return len(commits - set(before.files))

    def bytes_since(self, before: "Disk") -> int:
        """Size of the files that are new or were written again, logs included."""
        return sum(state[0] for name, state in self.files.items() if before.files.get(name) != state)
