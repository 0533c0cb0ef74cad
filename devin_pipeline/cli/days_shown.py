"""How far a command is over its days: a bar on a terminal, a line per range elsewhere."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from devin_pipeline.progress import followed


class DaysShown:
    """Shows the days that are made, and on a terminal how far the run over the next ones is.

    Args:
        total: How many days there are.
        bar: What draws the bar; None elsewhere than on a terminal.
    """

    def __init__(self, total: int, bar: Progress | None) -> None:
        self._total = total
        self._made = 0
        self._days_of_run = self._steps = 1
        self._shares: dict[str, float] = {}
        self._bar = bar
        self._task = bar.add_task("", total=total) if bar else None

    def begin(self, days: Sequence[date], steps: int) -> None:
        """Begin with a run over some days, in so many steps that report them."""
        self._days_of_run, self._steps, self._shares = len(days), steps, {}

    def follow(self, step: str, share: float) -> None:
        """Move the bar: a step has stored a share of the run's days. All steps count alike."""
        self._shares[step] = share
        self._draw(step, self._made + self._days_of_run * sum(self._shares.values()) / self._steps)

    def end(self, days: Sequence[date], how: str, warnings: Sequence[str] = (), *, made: bool) -> None:
        """Say how a run over some days ended; the bar stands at the days that are made."""
        # guard: a full bar after a failure | * made
        self._made += len(days) * made
        line, more = f"{days[0]} … {days[-1]}  {how}", [f"  Warning: {warning}" for warning in warnings]
        if self._bar is None:
            click.echo(f"[{self._made}/{self._total} days] {line}", err=True)
            for each in more:
                click.echo(each, err=True)
            return
        for each in (line, *more):
            self._bar.console.print(each, markup=False, highlight=False)
        self._draw("", self._made)

    def _draw(self, what: str, days: float) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=what, completed=days, refresh=True)


@contextmanager
def days_shown(total: int) -> Iterator[DaysShown]:
    """Show how far the runs inside are."""
    if not sys.stderr.isatty():
        yield DaysShown(total, None)
        return
    columns = (
        TextColumn("{task.description}"),
        # The default one is that of an empty bar where a terminal has few colours.
        BarColumn(finished_style="green"),
        MofNCompleteColumn(),
        TextColumn("days"),
        TimeElapsedColumn(),
    )
    with (
        # While a run goes on, Dagster redirects stderr into a file; the bar needs the terminal.
        os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors) as terminal,
        Progress(
            *columns,
            # guard: a bar that is drawn while Dagster leads stderr into a file | file=terminal -> stderr=True
            console=Console(file=terminal),
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as bar,
    ):
        shown = DaysShown(total, bar)
        with followed(shown.follow):
            yield shown
