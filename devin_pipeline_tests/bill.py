"""Enterprises over past days, read whole: sessions, lists and the bill, without Dagster."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from devin_pipeline.billing_calendar import days_between
from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline.lake import Lake
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.runs import Run, publish, read_money

Row = dict[str, Any]

ENDS_AT = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)
LAST = date(2026, 3, 18)
"""In these weeks a billing cycle ends, and clocks change in America."""
V3 = ("raw_sessions_v3",)


def enterprise_of(seed: int, sessions: int = 60, days: int = 12) -> Enterprise:
    """An enterprise whose last day is `LAST`."""
    return Enterprise.synthetic(seed=seed, sessions=sessions, days=days, ends_at=ENDS_AT)


@dataclass
class Reading:
    """An emulator, the lake that it was read into, and how.

    Attributes:
        server: The emulator.
        lake: The lake.
        run: A run over its days.
    """

    server: EmulatorServer
    lake: Lake
    run: Run

    @property
    def enterprise(self) -> Enterprise:
        return self.server.enterprise

    @property
    def days(self) -> Sequence[date]:
        return self.run.days

    def rows(self, name: str) -> list[Row]:
        rows: list[Row] = self.lake.snapshot(TABLES[name]).rows().to_pylist()
        return rows

    def read_money(self) -> None:
        """Read the lists and the bill again, and build what follows."""
        with self.run.client() as client:
            read_money(client, self.lake, self.days)
        publish(self.lake, self.days)

    def statuses(self, *, of: str = "(enterprise)") -> dict[date, str]:
        """The status of each day but the first, which is before there was any bill."""
        rows = self.rows("reconciliation_daily")
        return {row["day"]: row["status"] for row in rows if row["org_id"] == of and row["day"] != self.days[0]}


@contextmanager
def reading(enterprise: Enterprise, folder: Path, *, days: int = 13, feeds: Sequence[str] = V3) -> Iterator[Reading]:
    """Read an enterprise into a new lake; the first day is empty, so that nothing before it is missing."""
    with EmulatorServer(enterprise) as server:
        span = days_between(LAST - timedelta(days=days - 1), LAST)
        run = Run(server.url, server.v2_key, server.v3_key, str(folder / "lake"), feeds, span, reads_bill=True)
        run()
        yield Reading(server, Lake(str(folder / "lake")), run)


def copied(made: Reading, server: EmulatorServer, folder: Path) -> Reading:
    """The same lake at another place, read from another emulator."""
    run = replace(made.run, url=server.url, v2_key=server.v2_key, v3_key=server.v3_key, lake=str(folder / "lake"))
    return Reading(server, Lake(str(folder / "lake")), run)


def summed(rows: Sequence[Row], by: Sequence[str], of: str = "acus") -> Mapping[tuple[Any, ...], Decimal]:
    """The sums of a column by some others."""
    sums: dict[tuple[Any, ...], Decimal] = {}
    for row in rows:
        if row[of] is not None:
            key = tuple(row[name] for name in by)
            sums[key] = sums.get(key, Decimal(0)) + row[of]
    return sums
