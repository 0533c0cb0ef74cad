"""How far a run is: what its steps report, and how far the bar is."""

import io
from collections import defaultdict
from collections.abc import Callable
from datetime import date, timedelta

import pytest
from rich.console import Console
from rich.progress import Progress

from devin_pipeline.cli.days_shown import DaysShown
from devin_pipeline.progress import followed
from devin_pipeline_tests.harness import PipelineHarness

pytestmark = pytest.mark.notices("a full bar after a failure")

DAYS = [date(2026, 7, 28) + timedelta(days=n) for n in range(119)]


def test_a_run_reports_days_as_they_are_stored_and_each_step_to_its_end(
    make_harness: Callable[..., PipelineHarness],
) -> None:
    harness = make_harness("v3", sessions=4000, days=8)
    seen = defaultdict(list)
    with followed(lambda step, share: seen[step].append(share)):
        assert harness.run().success
    reading = seen["reading raw_sessions_v3"]
    assert len(reading) > 1
    assert 0 < reading[0] < 1
    assert all(shares == sorted(shares) and shares[-1] == 1 for shares in seen.values())
    assert set(seen) >= {"reading raw_sessions_v3", "building tables", "building rollups"}


def test_the_bar_moves_with_the_days_of_the_run_and_counts_those_that_are_done() -> None:
    bar = Progress(console=Console(file=io.StringIO()))
    shown = DaysShown(119, bar)
    (task,) = bar.tasks
    shown.begin(DAYS[:100], 4)
    shown.follow("reading raw_sessions_v3", 0.5)
    assert (task.completed, task.description) == (12.5, "reading raw_sessions_v3")
    shown.follow("reading raw_sessions_v3", 1)
    shown.follow("building tables", 1)
    assert task.completed == 50
    shown.end(DAYS[:100], "done", made=True)
    assert (task.completed, task.finished) == (100, False)
    shown.begin(DAYS[100:], 4)
    shown.follow("reading raw_sessions_v3", 1)
    assert task.completed == 104.75
    shown.end(DAYS[100:], "failed", made=False)
    assert (task.completed, task.finished) == (100, False)
