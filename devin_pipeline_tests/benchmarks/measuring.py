"""Runs a piece of work in a process of its own, and says what it took."""

import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


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
    told = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in told)


def _peak_bytes() -> int:
    # Not ru_maxrss of this process: an exec keeps the peak of the process that started it.
    own = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert own is not None
    return 1024 * max(int(own[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def in_own_process(module: str, **arguments: object) -> Cost:
    """Run a module that measures its work and prints its `Cost` as JSON.

    Args:
        module: A module with a `main` of its own.
        arguments: What it is told, as JSON on its standard input.

    Raises:
        RuntimeError: It failed; with the end of what it said.
    """
    ran = subprocess.run(
        [sys.executable, "-m", module], input=json.dumps(arguments), capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise RuntimeError(f"{module} {arguments}: {ran.stderr[-3000:]}")
    return Cost(**json.loads(ran.stdout.splitlines()[-1]))


@dataclass(frozen=True)
class Disk:
    """What a folder holds: its files, and the newest version of each Delta table in it."""

    files: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, folder: Path) -> "Disk":
        """Look at a folder."""
        found = {}
        for file in folder.rglob("*") if folder.exists() else ():
            if file.is_file():
                told = file.stat()
                found[str(file.relative_to(folder))] = (told.st_size, told.st_mtime_ns)
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
        return sum(told[0] for name, told in self.files.items() if before.files.get(name) != told)
