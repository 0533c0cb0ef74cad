"""SIGKILL at random moments of a run: readers see whole versions, and the next run ends with the expected tables.

Most kills hit the run of `runs.py`, forked from a process that has everything imported, so that hundreds take minutes;
some hit `devin-pipeline backfill`, Dagster included.
"""

import multiprocessing
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import dagster as dg
import pytest

from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.emulator import Enterprise
from devin_pipeline_tests.cli.running import Running, run
from devin_pipeline_tests.conftest import Dose, Figure
from devin_pipeline_tests.harness import Moment, PipelineHarness, differences
from devin_pipeline_tests.runs import Run

MakeHarness = Callable[..., PipelineHarness]

# Kills on one lake before the next begins with an empty one: first writes and later ones differ.
_KILLS_OF_A_LAKE = 5

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["devin_pipeline_tests.runs"])


def _begin(run: Run, sender: Connection) -> None:
    sender.send("began")
    run()
    sender.send("done")


def killed(run: Run, after: float) -> tuple[bool, float]:
    """Start a run in a process of its own and SIGKILL it so many seconds later; was it still running, and for how long.

    With infinity, it runs to its end.
    """
    receiver, sender = _forks.Pipe(duplex=False)
    with closing(receiver), closing(sender):
        process = _forks.Process(target=_begin, args=(run, sender))
        process.start()
        sender.close()
        assert receiver.recv() == "began"
        began = time.monotonic()
        ended = receiver.poll(after if after < float("inf") else None)
        lasted = time.monotonic() - began
        process.kill()
        process.join()
        if ended and receiver.recv() != "done":
            raise AssertionError("the run failed by itself")
        return not ended, lasted


def change(enterprise: Enterprise, chosen: random.Random, harness: PipelineHarness) -> None:
    """Let a day's work happen; now and then something vanishes."""
    enterprise.grow_acus(chosen.randint(1, 6))
    enterprise.merge_pull_requests(2)
    enterprise.add_analyses(2)
    if chosen.random() < 0.5:
        second = timedelta(seconds=chosen.randint(0, 86_399))
        enterprise.add_session(created_at=starts_at(chosen.choice(harness.days[:-1]), 8) + second)
    if chosen.random() < 0.3 and enterprise.sessions:
        enterprise.delete_session(chosen.choice(enterprise.sessions).session_id)


@pytest.fixture
def harness(make_harness: MakeHarness) -> PipelineHarness:
    """Three days, both keys, and an item that belongs in the quarantine."""
    harness = make_harness("both", sessions=24, days=3, reads_bill=True)
    owed = '{"session_id": "owed", "created_at": %d, "acus_consumed": -1}'
    at = harness.enterprise.sessions[0].created_at
    harness.enterprise.insert_verbatim("sessions_v3", at, owed % at.timestamp())
    return harness


def test_a_run_killed_at_any_moment_leaves_whole_versions_that_the_next_run_completes(
    harness: PipelineHarness, tmp_path: Path, dose: Dose, figure: Figure
) -> None:
    chosen = random.Random(11)
    kills = dose(200)
    done = too_late = 0
    commits: list[int] = []
    while done < kills:
        if done % _KILLS_OF_A_LAKE == 0:
            # Numbered by attempts: a kill that came too late leaves the lake filled.
            folder = tmp_path / f"lake{len(commits)}"
            run = harness.run_into(folder)
            # Where there is nothing yet, a run takes longer; either is measured undisturbed.
            length = killed(run.into(tmp_path / f"clean{len(commits)}"), float("inf"))[1]
        moment = Moment(harness)

        was_running, lasted = killed(run, chosen.uniform(0, length))

        moment.require_whole_versions()
        commits.append(len(moment.commits()))
        moment.observe_landed_feeds()
        if was_running:
            done += 1
        else:
            too_late += 1
            length = lasted
            assert too_late < 20 + kills
        changes = chosen.random() < 0.5
        if changes:
            change(harness.enterprise, chosen, harness)
        run()
        harness.observe(None if changes else moment)
        assert differences(harness) == {}
        change(harness.enterprise, chosen, harness)
    between = sum(0 < number < max(commits) for number in commits)
    figure(
        f"{done} SIGKILLs of a run at random ({between} between its first and last commit, after {len(set(commits))} "
        "different numbers of commits): every reader saw whole versions, and the next run left every table as expected"
    )


def test_a_killed_backfill_blocks_nobody_and_the_next_one_completes_it(
    harness: PipelineHarness, tmp_path: Path, dose: Dose, figure: Figure
) -> None:
    chosen = random.Random(12)
    kills = dose(10)
    begun = 0
    for number in range(kills):
        moment = Moment(harness)
        harness.server.forget_requests()
        words = ["backfill", "--from", str(harness.days[0]), "--to", str(harness.days[-1])]
        nowhere = subprocess.DEVNULL
        with Running(*words, folder=tmp_path, stdout=nowhere, stderr=nowhere) as backfill:
            while not harness.server.requests:
                assert backfill.poll() is None
                time.sleep(0.02)
            # From its first request to its end takes a second or two.
            time.sleep(chosen.uniform(0, 2))
            backfill.send_signal(signal.SIGKILL)
        begun += backfill.returncode == -signal.SIGKILL
        moment.require_whole_versions()
        moment.observe_landed_feeds()
        with dg.DagsterInstance.get() as instance:
            left = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            assert len(left) == begun, number

        again = run(*words, folder=tmp_path)
        assert again.returncode == 0, again.stderr
        harness.observe(moment)
        assert differences(harness) == {}
        change(harness.enterprise, chosen, harness)
    figure(f"{begun} SIGKILLs of `devin-pipeline backfill`: the next backfill left every table as expected")
