"""`forget` at every step of a run that is under way, which then goes on or is killed: nothing of the person remains.

The run is a process of its own, held before or after one of its commits, so that what it has read, and perhaps landed,
is of before the erasure.
"""

import importlib
import multiprocessing
import random
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import pytest

from devin_pipeline.lake import Lake
from devin_pipeline.operations.erase import forget
from devin_pipeline.operations.verify import verify
from devin_pipeline.tables import ALL_TABLES
from devin_pipeline_tests.conftest import Dose, Figure
from devin_pipeline_tests.harness import PipelineHarness
from devin_pipeline_tests.operations.test_erase import make_older, places_holding
from devin_pipeline_tests.runs import Run

MakeHarness = Callable[..., PipelineHarness]
Then = Literal["goes on", "is killed", "is killed a commit later"]

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["devin_pipeline_tests.runs"])


def _run_with_stops(run: Run, stops: list[int], pipe: Connection) -> None:
    """Run; before and after each commit is a step, and at some of them wait until they may go on."""
    names = vars(importlib.import_module("devin_pipeline.lake.lake"))
    write = names["write_deltalake"]
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps in stops:
            pipe.send(steps)
            pipe.recv()

    def stopping(*args: Any, **kwargs: Any) -> None:
        step()
        write(*args, **kwargs)
        step()

    names["write_deltalake"] = stopping
    run()
    pipe.send(-steps)


class Held:
    """A run in a process of its own."""

    def __init__(self, run: Run, stops: list[int]) -> None:
        self._pipe, its_end = _forks.Pipe()
        self._process = _forks.Process(target=_run_with_stops, args=(run, stops, its_end))
        self._process.start()
        its_end.close()

    def next_stop(self) -> int:
        """The step at which it waits; its steps in all, negative, once it is done."""
        return int(self._pipe.recv())

    def go_on(self) -> None:
        self._pipe.send("go on")

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def join(self) -> None:
        self._process.join()
        assert self._process.exitcode == 0


def erase_all(lake: Lake, user: str) -> None:
    """`forget`, and once more when the hour is over that files of a killed run stay for."""
    left = forget(lake, 8, [("user", user)]).erased.left
    for file in left:
        make_older(Path(file))
    if left:
        assert forget(lake, 8, [("user", user)]).erased.left == []


@pytest.fixture
def harness(make_harness: MakeHarness) -> PipelineHarness:
    harness = make_harness("both", sessions=24, days=2, reads_bill=True)
    for session in harness.enterprise.sessions:
        session.title = session.initial_user_message = f"canary{session.user_id}x"
    return harness


def test_a_person_erased_at_any_step_of_a_run_is_nowhere_once_it_ends_or_is_killed(
    harness: PipelineHarness, tmp_path: Path, dose: Dose, figure: Figure
) -> None:
    run = harness.run_without_dagster()
    user = next(session.user_id for session in harness.enterprise.sessions if session.user_id)
    counted = Held(run.into(tmp_path / "counted"), [])
    steps = -counted.next_stop()
    counted.join()
    assert steps > 20
    thens: list[Then] = ["goes on", "is killed", "is killed a commit later"]
    every = [(step, then) for step in range(1, steps + 1) for then in thens]
    chosen = random.Random(19).sample(every, max(3, dose(len(every))))
    for step, then in chosen:
        folder = tmp_path / f"lake {step} {then}"
        harness.lake = Lake(str(folder))
        held = Held(run.into(folder), [step, step + 2] if then == "is killed a commit later" else [step])
        assert held.next_stop() == step
        erase_all(harness.lake, user)
        if then != "is killed a commit later":
            # It still runs, and has its last commit before it, or is behind it.
            assert places_holding(harness, user, f"canary{user}x") == []
        if then == "goes on":
            held.go_on()
            assert held.next_stop() < 0
            held.join()
            # A write that lost to one of the erasure leaves its file: no version names it.
            lost = [Path(file.path) for table in ALL_TABLES for file in harness.lake.unnamed_files(table)]
            left = places_holding(harness, user, f"canary{user}x")
            assert [place for place in left if place.partition(":")[0] not in {file.name for file in lost}] == []
            if left:
                for file in lost:
                    make_older(file)
                run_over_a_day(run, folder, harness)
        elif then == "is killed":
            held.kill()
        else:
            held.go_on()
            held.next_stop()
            held.kill()
            # What it left is found by the next run, over whatever days, and deleted after an hour.
            for file in (file for table in ALL_TABLES for file in harness.lake.unnamed_files(table)):
                make_older(Path(file.path))
            run_over_a_day(run, folder, harness)
        assert places_holding(harness, user, f"canary{user}x") == [], (step, then)
        assert {f.what for f in verify(harness.lake, 8).findings if f.is_of_persons} == set()
        run.into(folder)()
        assert places_holding(harness, user, f"canary{user}x") == [], (step, then)
        assert verify(harness.lake, 8).is_clean
    figure(
        f"{len(chosen)} of {len(every)} times somebody was erased in the middle of a run, which went on or was "
        "killed: no file held a byte of them in the end"
    )


def run_over_a_day(run: Run, folder: Path, harness: PipelineHarness) -> None:
    Run(run.url, run.v2_key, run.v3_key, str(folder), run.feeds, harness.days[-1:])()
