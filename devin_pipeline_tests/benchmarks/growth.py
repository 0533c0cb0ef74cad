"""How the cost of each stage grows with sessions and with days: the exponent of a power law through the rows."""

import math
from collections.abc import Callable, Sequence
from statistics import linear_regression

from rich.table import Table

from devin_pipeline_tests.benchmarks.rows import Row

DAYS = (30, 365, 1_095)
USUAL_DAYS = 365


def sizes(most_sessions: int) -> list[tuple[int, int]]:
    """Sessions and days of the lakes to make, each by three sizes: a hundredth, a tenth and all of the sessions."""
    by_sessions = [(most_sessions // part, USUAL_DAYS) for part in (100, 10, 1)]
    by_days = [(most_sessions // 10, days) for days in DAYS]
    return list(dict.fromkeys([*by_sessions, *by_days]))


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """The slope of a line through the logarithms of the points; None when there are not two."""
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len({x for x, _ in logs}) < 2:
        return None
    return linear_regression(*zip(*logs, strict=True)).slope


def as_table(rows: Sequence[Row]) -> Table:
    """An exponent per stage, of time, CPU and memory, as sessions grow and as days grow."""
    table = Table(title="Growth: the cost is about (how many) to the power of", title_justify="left")
    table.add_column("stage", no_wrap=True)
    for what in ("sessions", "days"):
        for cost in ("wall", "CPU", "peak"):
            table.add_column(f"{cost} by {what}", justify="right")
    usual_sessions = max(row.sessions for row in rows) // 10
    for stage in dict.fromkeys(row.stage for row in rows):
        mine = [row for row in rows if row.stage == stage]
        by_sessions = [row for row in mine if row.days == USUAL_DAYS]
        by_days = [row for row in mine if row.sessions == usual_sessions]
        table.add_row(
            stage,
            *(_exponent_text(by_sessions, lambda row: row.sessions, cost) for cost in _COSTS),
            *(_exponent_text(by_days, lambda row: row.days, cost) for cost in _COSTS),
        )
    return table


_COSTS: tuple[Callable[[Row], float], ...] = (
    lambda row: row.wall_seconds,
    lambda row: row.cpu_seconds,
    lambda row: row.peak_bytes,
)


def _exponent_text(rows: Sequence[Row], size: Callable[[Row], float], cost: Callable[[Row], float]) -> str:
    found = exponent([(size(row), cost(row)) for row in rows])
    return "" if found is None else f"{found:.2f}"
