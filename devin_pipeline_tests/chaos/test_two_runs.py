"""Two runs at once over the same days, as processes: nothing is lost, and the newer version wins whatever the order."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from devin_pipeline_tests.chaos.test_kills import change
from devin_pipeline_tests.conftest import Dose, Figure
from devin_pipeline_tests.harness import Moment, PipelineHarness, differences
from devin_pipeline_tests.runs import Run

MakeHarness = Callable[..., PipelineHarness]

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["devin_pipeline_tests.runs"])


def _run_together(run: Run, both_are_ready: Barrier) -> None:
    both_are_ready.wait(60)
    run()


@pytest.fixture
def harness(make_harness: MakeHarness) -> PipelineHarness:
    return make_harness("both", sessions=24, days=3)


def require_the_latest_versions(harness: PipelineHarness, moment: Moment) -> None:
    assert differences(harness) == {}
    # `devin.duckdb` too.
    moment.before = moment.after
    moment.require_whole_versions()


def test_of_two_runs_at_once_neither_loses_nor_doubles_anything(
    harness: PipelineHarness, tmp_path: Path, dose: Dose, figure: Figure
) -> None:
    chosen = random.Random(17)
    pairs = dose(50)
    for number in range(pairs):
        # A lake that is empty, and one that is not: first writers race for the creation of each table.
        if number % 2 == 0:
            run = harness.run_into(tmp_path / f"lake{number}")
        moment = Moment(harness)
        both_are_ready = _forks.Barrier(2)
        runs = [_forks.Process(target=_run_together, args=(run, both_are_ready)) for _ in range(2)]
        for process in runs:
            process.start()
        for process in runs:
            process.join()
        assert [process.exitcode for process in runs] == [0, 0]
        harness.observe(moment)
        require_the_latest_versions(harness, moment)
        change(harness.enterprise, chosen, harness)
    figure(f"{pairs} times two runs at once over the same days: every table as expected")


def test_an_older_run_that_ends_after_a_newer_one_overwrites_nothing_newer(
    harness: PipelineHarness, tmp_path: Path, dose: Dose, figure: Figure
) -> None:
    chosen = random.Random(18)
    pairs = dose(50)
    run = harness.run_into(tmp_path / "lake")
    run()
    harness.observe()
    held, length = 0, 0.1
    while held < pairs:
        change(harness.enterprise, chosen, harness)
        moment = Moment(harness)
        older = _forks.Process(target=run)
        older.start()
        time.sleep(chosen.uniform(0, length))
        os.kill(older.pid or 0, signal.SIGSTOP)
        moment.observe_landed_feeds()
        change(harness.enterprise, chosen, harness)
        newest = Moment(harness)
        begun = time.monotonic()
        run()
        length = time.monotonic() - begun
        harness.observe(newest)
        if older.exitcode is None:
            held += 1
            os.kill(older.pid or 0, signal.SIGCONT)
        older.join()
        assert older.exitcode == 0
        require_the_latest_versions(harness, newest)
    figure(f"{held} runs held up while a newer one ran, then let go: every table holds what the newer one read")
