"""How long a query may take and how much memory, and how it is cut off: by a limit, Ctrl-C or SIGTERM."""

import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from devin_pipeline.cli.environment import settings
from devin_pipeline.cli.errors import Failed
from devin_pipeline.cli.stopping import stoppable
from devin_pipeline.lake import LimitMet, QueryLimits

_SECONDS = "DEVIN_QUERY_SECONDS"
_MEMORY = "DEVIN_QUERY_MEMORY"
_DEFAULT_SECONDS = "300"
_SECONDS_TO_STOP = 1.0
_LEAST_MEMORY = 32_000_000
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT])(i?)B", re.IGNORECASE)
# What Python, Arrow and DuckDB hold next to what DuckDB counts.
_UNCOUNTED = 256_000_000


@contextmanager
def within_limits(timeout: str | None) -> Iterator[QueryLimits]:
    """End this process if what runs inside takes too long or too much memory, or if a signal asks for it.

    DuckDB counts most of its memory itself, but not the texts it is working on: of these the process is watched. While
    it works on one, it heeds no interrupt. So it is cut off, which leaves nothing behind but its output so far.

    Args:
        timeout: Seconds in the place of DEVIN_QUERY_SECONDS, as typed.
    """
    seconds = (
        _seconds("--timeout", timeout) if timeout is not None else _seconds(_SECONDS, settings().DEVIN_QUERY_SECONDS)
    )
    memory = _memory(settings().DEVIN_QUERY_MEMORY.strip())
    try:
        spills_to = TemporaryDirectory(prefix="devin-pipeline-", ignore_cleanup_errors=True)
    except OSError as error:
        raise Failed(
            "A query needs a folder for temporary files", error.strerror or "there is none", "Set TMPDIR to one", 2
        ) from None
    with spills_to as folder:
        limits = QueryLimits(memory, shutil.disk_usage(folder).free // 2, folder)
        watched = _watch(seconds, limits)
        # guard: spills that a query leaves behind | shutil.rmtree(folder, ignore_errors=True) -> None
        with stoppable(_SECONDS_TO_STOP, limit_met=watched, cut_off=lambda: shutil.rmtree(folder, ignore_errors=True)):
            yield limits


def _watch(seconds: float, limits: QueryLimits) -> Callable[[], LimitMet | None]:
    ends_at = time.monotonic() + seconds
    most = _memory_in_use() + limits.memory_bytes * 5 // 4 + _UNCOUNTED

    def limit_met() -> LimitMet | None:
        # guard: a query without a limit of time
        if time.monotonic() > ends_at:
            return LimitMet(f"time, {seconds:g} seconds", f"raise {_SECONDS} or --timeout (0 is no limit)")
        # guard: texts that DuckDB does not count | _memory_in_use() > most -> False
        return limits.met_memory() if _memory_in_use() > most else None

    return limit_met


def _memory_in_use() -> int:
    """Memory of this process in bytes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _seconds(name: str, text: str | None) -> float:
    """How long a query may take; infinite for 0."""
    try:
        seconds = float((text or "").strip() or _DEFAULT_SECONDS)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise Failed(f"{name} is {text!r}", "that is not a number of seconds", "Set it to 300, or to 0 for no limit", 2)
    return seconds or math.inf


def _memory(text: str) -> int:
    """How much memory a query may take, in bytes: half of the machine's, if nothing is set."""
    if not text:
        return max(_LEAST_MEMORY, _memory_of_machine() // 2)
    size = _SIZE.fullmatch(text)
    if size is None:
        raise Failed(f"{_MEMORY} is {text!r}", "that is not a size of memory", "Set it to one such as 4GB or 500MB", 2)
    number, unit, is_binary = size.groups()
    memory = int(float(number) * (1024 if is_binary else 1000) ** ("KMGT".index(unit.upper()) + 1))
    if memory < _LEAST_MEMORY:
        raise Failed(f"{_MEMORY} is {text!r}", "no query can be run in so little", "Set it to 32MB or more", 2)
    return memory


def _memory_of_machine() -> int:
    """Memory of the machine in bytes, or of the container, where that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return memory
    return min(memory, int(limit)) if limit.isdigit() else memory
