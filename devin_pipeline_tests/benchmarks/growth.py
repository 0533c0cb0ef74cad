"""How the cost of each stage grows with sessions and with days: the exponent of a power law through the rows."""

import math
from collections.abc import Callable, Sequence
from statistics import linear_regression

from rich.table import Table

from devin_pipeline_tests.benchmarks.rows import Row

SESSIONS = (10_000, 100_000, 1_000_000)
DAYS = (30, 365, 1_095)
USUAL_DAYS = 365
USUAL_SESSIONS = 100_000


def sizes(most_sessions: int) -> list[tuple[int, int]]:
    """Sessions and days of the lakes to make: one of both varies at a time."""
    by_sessions = [(sessions, USUAL_DAYS) for sessions in SESSIONS if sessions <= most_sessions]
    by_days = [(min(USUAL_SESSIONS, most_sessions), days) for days in DAYS]
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
    most = max(row.sessions for row in rows)
    fixed = min(USUAL_SESSIONS, most)
    for stage in dict.fromkeys(row.stage for row in rows):
        mine = [row for row in rows if row.stage == stage]
        by_sessions = [row for row in mine if row.days == USUAL_DAYS]
        by_days = [row for row in mine if row.sessions == fixed]
        table.add_row(
            stage,
            *(_told(by_sessions, lambda row: row.sessions, cost) for cost in _COSTS),
            *(_told(by_days, lambda row: row.days, cost) for cost in _COSTS),
        )
    return table


_COSTS: tuple[Callable[[Row], float], ...] = (
    lambda row: row.wall_seconds,
    lambda row: row.cpu_seconds,
    lambda row: row.peak_bytes,
)


def _told(rows: Sequence[Row], size: Callable[[Row], float], cost: Callable[[Row], float]) -> str:
    found = exponent([(size(row), cost(row)) for row in rows])
    return "" if found is None else f"{found:.2f}"
