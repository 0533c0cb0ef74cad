"""Each single write that a run does fails once: before it took effect, after it did, and cut short by the kernel.

After each, readers see whole versions, and the next run ends with the expected tables. Writes of Delta and DuckDB are
done in their own code, so the call into them fails; the kernel's errors reach into them as well.
"""

import copy
import errno
import functools
import multiprocessing
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import deltalake
import duckdb
import pytest
from pyarrow import fs

from devin_pipeline.lake import Lake, NotWritten
from devin_pipeline.operations.erase import forget
from devin_pipeline_tests.chaos.test_kills import change
from devin_pipeline_tests.conftest import Dose, Figure
from devin_pipeline_tests.harness import Moment, PipelineHarness, differences
from devin_pipeline_tests.lake.full_disk import no_file_beyond
from devin_pipeline_tests.operations.test_erase import places_holding, spend
from devin_pipeline_tests.runs import Run

MakeHarness = Callable[..., PipelineHarness]


@dataclass
class Disk:
    """Counts the writes of a run, and fails the n-th of them, before or after it took effect.

    Attributes:
        fails_at: Which one; 0 fails none.
        before: Fail instead of writing, or having written.
        writes: What was written so far.
    """

    fails_at: int = 0
    before: bool = True
    writes: list[str] = field(default_factory=list)

    def writing(self, name: str, write: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(write)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.writes.append(name)
            fails = len(self.writes) == self.fails_at
            if fails and self.before:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done = write(*args, **kwargs)
            if fails:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return done

        return counted

    @contextmanager
    def attached(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            delta = self.writing("commit", deltalake.write_deltalake)
            patch.setattr("devin_pipeline.lake.lake.write_deltalake", delta)
            patch.setattr(deltalake.DeltaTable, "create", self.writing("create", deltalake.DeltaTable.create))
            for name in ("mkdir", "replace", "unlink"):
                patch.setattr(Path, name, self.writing(name, getattr(Path, name)))
            for name in ("vacuum", "create_checkpoint", "cleanup_metadata"):
                patch.setattr(deltalake.DeltaTable, name, self.writing(name, getattr(deltalake.DeltaTable, name)))
            patch.setattr("devin_pipeline.lake.atomic.fs", _Files(self))
            patch.setattr("devin_pipeline.lake.connection.duckdb", _DuckDB(self))
            yield


class _Files:
    """`pyarrow.fs`, whose file systems write through a `Disk`."""

    LocalFileSystem = fs.LocalFileSystem

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.FileSystem = self

    def from_uri(self, uri: str) -> tuple["_Opened", str]:
        filesystem, path = fs.FileSystem.from_uri(uri)
        return _Opened(filesystem, self._disk, ("create_dir", "open_output_stream", "move")), path


class _DuckDB:
    """`duckdb`, whose files are written through a `Disk`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(duckdb, name)

    def connect(self) -> "_Connection":
        return _Connection(duckdb.connect(), self._disk)


class _Connection:
    """One of DuckDB's, which writes once a file was attached to be written to."""

    def __init__(self, opened: Any, disk: Disk) -> None:
        self._opened = opened
        self._disk = disk
        self._has_file = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)

    def execute(self, sql: str, *params: Any) -> Any:
        execute = self._opened.execute
        self._has_file |= sql.startswith("attach") and "(read_only)" not in sql
        if self._has_file and sql.startswith(("attach", 'create view "', "checkpoint")):
            execute = self._disk.writing(sql.partition('"')[0], execute)
        return execute(sql, *params)

    def close(self) -> None:
        (self._disk.writing("close", self._opened.close) if self._has_file else self._opened.close)()


class _Opened:
    """Something of a library's, some of whose methods write."""

    def __init__(self, opened: Any, disk: Disk, writes: tuple[str, ...]) -> None:
        self._opened = opened
        self._disk = disk
        self._writes = writes

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._opened, name)
        return self._disk.writing(name, method) if name in self._writes else method


@pytest.fixture
def harness(make_harness: MakeHarness) -> PipelineHarness:
    # One version of the API, since the feeds of both are written by the same code.
    return make_harness("v3", sessions=12, days=2, reads_bill=True)


def require_recovery(harness: PipelineHarness, moment: Moment, run: Run) -> None:
    moment.require_whole_versions()
    moment.observe_landed_feeds()
    run()
    harness.observe(moment)
    assert differences(harness) == {}
    left = [file.name for file in Path(run.lake).iterdir() if file.is_file()]
    assert sorted(left) == ["devin.duckdb", "lake.json"]


def test_whichever_write_fails_readers_see_whole_versions_and_the_next_run_completes_them(
    harness: PipelineHarness, tmp_path: Path, dose: Dose, figure: Figure
) -> None:
    chosen = random.Random(13)
    of_a_first_run, of_a_later_run = Disk(), Disk()
    run = harness.run_into(tmp_path / "counted")
    with of_a_first_run.attached():
        run()
    change(harness.enterprise, chosen, harness)
    with of_a_later_run.attached():
        run()
    assert {"create", "commit", "replace"} <= set(of_a_first_run.writes)
    every = [
        (is_first, before, n + 1)
        for is_first, disk in ((True, of_a_first_run), (False, of_a_later_run))
        for before in (True, False)
        for n in range(len(disk.writes))
    ]
    failed = 0
    base = harness.run_into(tmp_path / "base")
    base()
    harness.observe()
    filled, undisturbed = tmp_path / "filled", harness.undisturbed.rename(tmp_path / "undisturbed")
    oracle = harness.oracle
    shutil.copytree(base.lake, filled)
    for is_first, before, n in chosen.sample(every, dose(len(every))):
        run = harness.run_into(tmp_path / f"lake {is_first} {before} {n}")
        if not is_first:
            # Where it was written: `devin.duckdb` answers from no other place.
            run = harness.run_into(Path(base.lake))
            for made, place in ((filled, Path(run.lake)), (undisturbed, harness.undisturbed)):
                shutil.rmtree(place, ignore_errors=True)
                shutil.copytree(made, place)
            harness.oracle = copy.deepcopy(oracle)
            change(harness.enterprise, chosen, harness)
        moment = Moment(harness)
        disk = Disk(n, before)
        with disk.attached():
            try:
                run()
            except NotWritten:
                failed += 1
            else:
                # A change may need fewer writes than the one that was counted.
                assert len(disk.writes) < n
        require_recovery(harness, moment, run)
    figure(
        f"{failed} of the {len(every)} single writes of a first and of a later run failed, before or after they took "
        "effect: readers saw whole versions, and the next run left every table as expected"
    )


def test_whichever_write_of_forget_fails_the_spend_stays_and_the_same_command_again_erases(
    harness: PipelineHarness, tmp_path: Path, dose: Dose, figure: Figure
) -> None:
    base = harness.run_into(tmp_path / "base")
    base()
    change(harness.enterprise, random.Random(15), harness)
    base()
    user = next(session.user_id for session in harness.enterprise.sessions if session.user_id)
    spent = spend(harness)

    def erase_in(folder: Path) -> None:
        harness.lake = Lake(str(folder))
        forget(harness.lake, 8, [("user", user)])

    disk = Disk()
    shutil.copytree(base.lake, tmp_path / "counted")
    with disk.attached():
        erase_in(tmp_path / "counted")
    every = [(before, n + 1) for before in (True, False) for n in range(len(disk.writes))]
    assert {"open_output_stream", "commit", "vacuum", "replace"} <= set(disk.writes)
    chosen = random.Random(16).sample(every, dose(len(every)))
    for before, n in chosen:
        folder = tmp_path / f"lake {before} {n}"
        shutil.copytree(base.lake, folder)
        with Disk(n, before).attached(), pytest.raises((NotWritten, OSError)):
            erase_in(folder)
        assert spend(harness) == spent
        erase_in(folder)
        assert spend(harness) == spent
        assert places_holding(harness, user) == []
    figure(
        f"{len(chosen)} of the {len(every)} single writes of `forget` failed: the same again erased, and spend stayed"
    )


_DISK_WAS_FULL = 3
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["devin_pipeline_tests.runs"])


def _run_on_a_full_disk(run: Run, largest: int) -> None:
    try:
        with no_file_beyond(largest):
            run()
    except NotWritten:
        sys.exit(_DISK_WAS_FULL)


def test_whichever_file_is_cut_short_readers_see_whole_versions_and_the_next_run_completes_them(
    harness: PipelineHarness, tmp_path: Path, dose: Dose, figure: Figure
) -> None:
    run = harness.run_into(tmp_path / "measured")
    run()
    sizes = sorted({file.stat().st_size for file in Path(run.lake).rglob("*") if file.is_file()})
    # Just below each file's size, so that each is once the first that does not fit; and half of the smallest.
    limits = [sizes[0] // 2, *(size - 1 for size in sizes)]
    chosen = random.Random(14).sample(limits, dose(len(limits)))
    for limit in sorted(chosen):
        run = harness.run_into(tmp_path / f"lake{limit}")
        moment = Moment(harness)
        process = _forks.Process(target=_run_on_a_full_disk, args=(run, limit))
        process.start()
        process.join()
        assert process.exitcode == _DISK_WAS_FULL
        require_recovery(harness, moment, run)
    figure(
        f"{len(chosen)} of {len(limits)} sizes at which the kernel cut a file short: each run failed and said so, "
        "and the next run completed it"
    )
