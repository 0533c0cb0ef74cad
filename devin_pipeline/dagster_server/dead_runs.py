"""Recognises runs whose process is gone, and fails them, so that they block no later run.

Dagster's own launcher cannot say whether a run's process is alive, and a run of a command has no launcher. So the
process of each run holds a lock, which the system releases however the process ends. An id of a process would not do:
another process may have it by now.
"""

import fcntl
import logging
import os
import platform
import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import dagster as dg
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from devin_pipeline.shell import typed

# The states in which Dagster's queue counts a run.
_BLOCKING = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
_LONG = timedelta(hours=1)
_BACKFILL = "dagster/backfill"
_MAX_RETRIES = "dagster/max_retries"
_MESSAGE = "The process of this run is gone, as after a restart of the machine."

RunProcess = Literal["alive", "gone", "unknown"]
_log = logging.getLogger(__name__)


class RunLocks:
    """The locks of the runs of this process.

    Args:
        home: The DAGSTER_HOME.
    """

    def __init__(self, home: Path) -> None:
        self._folder = _folder(home)
        self._held: dict[str, int] = {}
        self._ended: set[str] = set()

    def take(self, run_id: str) -> None:
        """Show from now on that the process of this run is alive; no lock where the file system knows none."""
        with suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            self._held[run_id] = file = os.open(self._folder / run_id, os.O_RDWR | os.O_CREAT, 0o600)
            # A shared one: it waits for a look at the file, but never for another lock of the same run.
            fcntl.flock(file, fcntl.LOCK_SH)
            os.write(file, "\n".join(_machine()).encode())

    def end(self, run_id: str) -> None:
        """Have the file of the run removed with its lock; Dagster does not say yet that the run has ended."""
        self._ended.add(run_id)

    def release(self) -> None:
        """Release all locks: no run goes on in this process."""
        while self._held:
            run_id, file = self._held.popitem()
            if run_id in self._ended:
                with suppress(OSError):
                    (self._folder / run_id).unlink()
            os.close(file)


def process_of(home: Path, run_id: str) -> RunProcess:
    """Whether the process of a run that has started is alive: `unknown` if it may be on another machine."""
    try:
        file = os.open(_folder(home) / run_id, os.O_RDWR)
    except OSError:
        return "unknown"
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # guard: a run of another machine | if _machine() & set(os.read(file, 1000).decode().split("\n")) else "unknown"
        return "gone" if _machine() & set(os.read(file, 1000).decode().split("\n")) else "unknown"
    except BlockingIOError:
        return "alive"
    except OSError:
        return "unknown"
    finally:
        os.close(file)


@dataclass(frozen=True)
class BlockingRun:
    """A run that Dagster's queue counts as running.

    Attributes:
        run: As Dagster has it.
        started_at: When it started, if it has.
        process: Whether its process is alive.
    """

    run: dg.DagsterRun
    started_at: datetime | None
    process: RunProcess

    @property
    def may_be_dead(self) -> bool:
        """False too while it starts: Dagster itself fails one that does not within three minutes."""
        return self.process == "unknown" and self.run.status == dg.DagsterRunStatus.STARTED

    @property
    def is_long(self) -> bool:
        """True when it takes longer than most runs."""
        return self.started_at is not None and datetime.now(UTC) - self.started_at > _LONG

    @property
    def is_dead(self) -> bool:
        """True when its process had begun with it and is gone."""
        return self.process == "gone" and self.run.status != dg.DagsterRunStatus.STARTING


def blocking_runs(instance: dg.DagsterInstance) -> list[BlockingRun]:
    """The runs that count as running."""
    found = []
    for seen in instance.get_run_records(dg.RunsFilter(statuses=_BLOCKING)):
        process = process_of(Path(instance.root_directory), seen.dagster_run.run_id)
        # As it is after that look: a run that has ended since has released its lock.
        record = instance.get_run_record_by_id(seen.dagster_run.run_id)
        if record and record.dagster_run.status in _BLOCKING:
            started_at = datetime.fromtimestamp(record.start_time, UTC) if record.start_time else None
            found.append(BlockingRun(record.dagster_run, started_at, process))
    return found


def command_to_end(instance: dg.DagsterInstance, run_id: str) -> str:
    """Dagster's own command that ends a run whose process is gone, without asking that process."""
    call = f'terminateRun(runId: "{run_id}", terminatePolicy: MARK_AS_CANCELED_IMMEDIATELY) {{ __typename }}'
    home, mutation = shlex.quote(instance.root_directory), f"mutation {{ {call} }}"
    return f"DAGSTER_HOME={home} {typed(f'dagster-graphql --empty-workspace -t {shlex.quote(mutation)}')}"


@contextmanager
def dead_runs_failed(
    instance: dg.DagsterInstance, *, seconds_between_looks: float = 10, seconds_to_start: float = 30
) -> Iterator[None]:
    """Fail runs whose process is gone, as long as what is inside goes on.

    Args:
        instance: Dagster's records, of which no daemon has started a run yet.
        seconds_between_looks: How often to look.
        seconds_to_start: Of a run that a daemon was to start before, how long its process may still load the code.
    """
    stopped = threading.Event()
    watch = _Watch(instance, seconds_to_start)
    thread = threading.Thread(target=watch.look_until, args=(stopped, seconds_between_looks))
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


class _Watch:
    def __init__(self, instance: dg.DagsterInstance, seconds_to_start: float) -> None:
        self._instance = instance
        self._home = Path(instance.root_directory)
        self._given_up_at = time.monotonic() + seconds_to_start
        # The daemon that was to start them is gone; a storage that machines share may hold those of another machine.
        is_of_one_machine = isinstance(instance.event_log_storage, SqliteEventLogStorage)
        runs = blocking_runs(instance) if is_of_one_machine else []
        self._left_starting = {each.run.run_id for each in runs if _has_not_started(each)}

    def look_until(self, stopped: threading.Event, seconds_between_looks: float) -> None:
        while True:
            try:
                self.look()
            except Exception as error:  # as when the storage is busy: the next look may find it free
                _log.warning("The processes of runs could not be checked (%s)", type(error).__name__)
            if stopped.wait(seconds_between_looks):
                return

    def look(self) -> None:
        had_time_to_start = time.monotonic() >= self._given_up_at
        for each in blocking_runs(self._instance):
            is_left = each.run.run_id in self._left_starting and _has_not_started(each)
            # guard: a run that a killed daemon was starting | or (is_left and had_time_to_start)
            # guard: a run whose process was killed
            #   | each.is_dead or (is_left and had_time_to_start) -> is_left and had_time_to_start
            if each.is_dead or (is_left and had_time_to_start):
                self._end(each.run)
        self._remove_files()

    def _end(self, run: dg.DagsterRun) -> None:
        # First: Dagster does not free the slots of a run that has ended.
        # guard: the pool slots of a killed run
        self._instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        if run.status == dg.DagsterRunStatus.CANCELING:
            self._instance.report_run_canceled(run, _MESSAGE)
            return
        # guard: a dead run of a backfill
        if _BACKFILL in run.tags and _MAX_RETRIES not in run.tags:
            # Once, so that a backfill of the Dagster UI goes on.
            self._instance.add_run_tags(run.run_id, {_MAX_RETRIES: "1"})
        self._instance.report_run_failed(run, _MESSAGE)

    def _remove_files(self) -> None:
        """Remove the files that killed processes have left."""
        for file in _folder(self._home).glob("*"):
            run = self._instance.get_run_by_id(file.name)
            if (run is None or run.is_finished) and process_of(self._home, file.name) == "gone":
                file.unlink(missing_ok=True)


def _has_not_started(each: BlockingRun) -> bool:
    """Of one that was canceled too: a run that has started has a lock."""
    return each.process != "alive" and each.run.status != dg.DagsterRunStatus.STARTED


def _folder(home: Path) -> Path:
    return home / "running"


def _machine() -> set[str]:
    """The name and the boot: a restart keeps the one, another container of the same machine the other."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {platform.node(), boot.read_text().strip() if boot.exists() else ""} - {""}
