"""The table that a benchmark prints: a row for each piece of work, and what the rows are compared with."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from rich.table import Table


@dataclass(frozen=True)
class Row:
    """What a piece of work took.

    Attributes:
        stage: What was done.
        latency: How slowly the server answered.
        sessions: How many sessions there were.
        days: Over how many days.
        wall_seconds: By the clock on the wall.
        cpu_seconds: User and system, processes started included.
        peak_bytes: Most memory of the largest process.
        disk_bytes: Size of the data files written.
        written_bytes: Size of all files written, logs included.
        requests: Requests that the server answered.
        in_flight: The most of them at once.
        commits: Delta versions added.
        limit_seconds: What no client could be faster than; None where there is no such limit.
        facts: What the work says of itself.
        wall_to_dlt: Its time by that of dlt's `rest_api` on the same server; None where dlt does no such work.
        cpu_to_dlt: Its CPU seconds by those of dlt's `rest_api`.
        wall_to_dlt_by_month: Its time by that of dlt with a resource per month, which asks for several pages at once.
    """

    stage: str
    latency: str
    sessions: int
    days: int
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    disk_bytes: int
    written_bytes: int
    requests: int
    in_flight: int
    commits: int
    limit_seconds: float | None
    facts: dict[str, float]
    wall_to_dlt: float | None = None
    cpu_to_dlt: float | None = None
    wall_to_dlt_by_month: float | None = None


def middle(rows: Sequence[Row]) -> Row:
    """Of rows of the same work, one with the medians of wall and CPU seconds."""
    return replace(
        sorted(rows, key=lambda row: row.wall_seconds)[len(rows) // 2],
        wall_seconds=median(row.wall_seconds for row in rows),
        cpu_seconds=median(row.cpu_seconds for row in rows),
    )


def compared(rows: Sequence[Row], dlt: Row, dlt_by_month: Row) -> list[Row]:
    """Rows with their ratios to dlt in both of its configurations."""
    return [
        replace(
            row,
            wall_to_dlt=row.wall_seconds / dlt.wall_seconds,
            cpu_to_dlt=row.cpu_seconds / dlt.cpu_seconds,
            wall_to_dlt_by_month=row.wall_seconds / dlt_by_month.wall_seconds,
        )
        for row in rows
    ]


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for a machine to read."""
    return [asdict(row) for row in rows]


def as_table(rows: Sequence[Row], title: str) -> Table:
    """The rows for a person to read."""
    table = Table(title=title, title_justify="left")
    table.add_column("stage", no_wrap=True)
    for name in (
        "latency",
        "sessions",
        "days",
        "wall s",
        "CPU s",
        "sessions per CPU s",
        "peak MB",
        "disk B per session",
        "written MB",
        "requests",
        "in flight",
        "commits",
        "wall ÷ limit",
        "wall ÷ dlt",
        "CPU ÷ dlt",
        "wall ÷ dlt by month",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row.stage,
            row.latency,
            f"{row.sessions:,}",
            f"{row.days:,}",
            _seconds(row.wall_seconds),
            _seconds(row.cpu_seconds),
            f"{row.sessions / row.cpu_seconds:,.0f}" if row.cpu_seconds and row.disk_bytes else "",
            f"{row.peak_bytes / 1e6:,.0f}",
            f"{row.disk_bytes / row.sessions:,.0f}" if row.disk_bytes else "",
            f"{row.written_bytes / 1e6:,.1f}",
            f"{row.requests:,}" if row.requests else "",
            str(row.in_flight) if row.in_flight else "",
            f"{row.commits:,}",
            _ratio(row.wall_seconds / row.limit_seconds if row.limit_seconds else None),
            _ratio(row.wall_to_dlt),
            _ratio(row.cpu_to_dlt),
            _ratio(row.wall_to_dlt_by_month),
        )
    return table


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f}" if seconds >= 10 else f"{seconds:.3f}"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:,.1f}" if ratio >= 10 else f"{ratio:.3f}"
