"""One run of the pipeline without Dagster, for tests that need hundreds: read, land, derive, report, catalogue."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from devin_pipeline.billing_calendar import UNTIL_CLOSED, day_of, starts_at
from devin_pipeline.derived.publishing import publish_rollups, publish_session_tables, publish_spend
from devin_pipeline.devin_api import FEED_BY_TABLE, DevinClient, DevinError, SessionBatch, Window
from devin_pipeline.lake import Lake, LakeIdentity, ReportClock, write_catalog
from devin_pipeline.operations.erase import erased
from devin_pipeline.raw.consumption.assets import read_bill
from devin_pipeline.raw.consumption.landing import land_bill
from devin_pipeline.raw.consumption.session_days import due_sessions, land_session_days
from devin_pipeline.raw.directory.assets import land_lists, read_lists
from devin_pipeline.raw.sessions.landing import land
from devin_pipeline.reports.publishing import publish_report
from devin_pipeline.tables import (
    ALL_TABLES,
    DIRECTORY_TABLES,
    RAW,
    RAW_CONSUMPTION,
    RAW_SESSION_TABLES,
    REPORT_TABLES,
    SPEND_TABLES,
)
from devin_pipeline.tables.reports import RECONCILIATION_DAILY

HOUR = 8
SESSION_PRODUCTS = ("automation", "devin")


@dataclass(frozen=True)
class Run:
    """What a run needs to know; it can be handed to another process.

    Attributes:
        url: Root of the emulator.
        v2_key: Its key for v2.
        v3_key: Its key for v3.
        lake: Folder of the lake.
        feeds: The raw tables to read.
        days: The days to read, oldest first.
        kind: Whose rows the lake is said to hold.
        reads_bill: Whether the lists and the bill are read too.
        as_of: When it is said to be; now when left out.
    """

    url: str
    v2_key: str
    v3_key: str
    lake: str
    feeds: Sequence[str]
    days: Sequence[date]
    kind: Literal["live", "demo"] = "live"
    reads_bill: bool = False
    as_of: datetime | None = None

    def __call__(self) -> None:
        """Do it; raise what stops it."""
        lake = Lake(self.lake)
        identity = LakeIdentity(self.kind, "127.0.0.1", "enterprise", HOUR)
        lake.require_identity(identity)
        with self.client() as client:
            for feed in self.feeds:
                lake.claim(identity)
                with erased(lake, HOUR):
                    read_feed(client, lake, feed, self.days)
            if self.reads_bill:
                with erased(lake, HOUR):
                    publish_session_tables(lake, self.days, HOUR)
                read_money(client, lake, self.days)
        publish(lake, self.days, self.as_of)

    def of_the_bill(self) -> None:
        """What of it the tables of the bill follow from, and these."""
        lake = Lake(self.lake)
        with self.client() as client:
            for feed in self.feeds:
                read_feed(client, lake, feed, self.days)
            publish_session_tables(lake, self.days, HOUR)
            read_money(client, lake, self.days)
        for table in SPEND_TABLES:
            publish_spend(lake, self.days, HOUR, table)
        set_clock(lake, self.as_of)
        for table in (*DIRECTORY_TABLES, RECONCILIATION_DAILY):
            publish_report(lake, table)

    def into(self, lake: Path) -> "Run":
        """The same run into another lake."""
        return replace(self, lake=str(lake))

    def client(self) -> DevinClient:
        """A client that does not wait between tries."""
        return DevinClient(
            base_url=self.url, v2_key=self.v2_key, v3_key=self.v3_key, timeout_seconds=10, sleep=lambda _: None
        )


Stored = Callable[[list[date], SessionBatch, datetime], None]
"""Called with the days that are now in the lake, how they were read, and when the read began."""


def read_feed(
    client: DevinClient, lake: Lake, feed: str, days: Sequence[date], stored: Stored = lambda *_: None
) -> None:
    """Land what a feed returns for some days, and call `stored` for each batch.

    Raises:
        DevinError: A day could not be read; the others have landed.
    """
    read_at = datetime.now(UTC)
    windows = {Window(starts_at(day, HOUR), starts_at(day, HOUR, after=1)): day for day in days}
    failures: list[DevinError] = []
    for listing in client.read(FEED_BY_TABLE[feed], list(windows)):
        if whole := [windows[window] for window in listing.windows if window not in listing.failures]:
            land(lake, RAW[feed], listing, whole, read_at, HOUR)
            lake.note_read(RAW[feed], whole, read_at)
            stored(whole, listing, read_at)
        failures += listing.failures.values()
    for failure in failures:
        raise failure


def read_money(client: DevinClient, lake: Lake, days: Sequence[date]) -> None:
    """Land the lists, the bill of some days, and the days of sessions on which they consumed their ACUs.

    Raises:
        DevinError: The API could not be read.
    """
    read_at = datetime.now(UTC)
    with erased(lake, HOUR):
        land_lists(lake, list(read_lists(client, lake, has_v3_key=True)), read_at)
    with erased(lake, HOUR):
        land_bill(lake, read_bill(client, lake, list(days), everybody=True, organization=None), read_at)
        lake.note_read(RAW_CONSUMPTION, days, read_at)
    with erased(lake, HOUR):
        if due := due_sessions(lake, days):
            windows = {session.session_id: session.window for session in due}
            land_session_days(
                lake, due, client.consumption("session", list(windows), windows), read_at, keeps_text=True
            )


def publish(lake: Lake, days: Sequence[date], as_of: datetime | None = None) -> None:
    """Make what follows from raw: the derived tables of some days, every report, as of now or then, the catalogue."""
    with erased(lake, HOUR):
        publish_session_tables(lake, days, HOUR)
    with erased(lake, HOUR):
        publish_rollups(lake, days, HOUR)
    for table in SPEND_TABLES:
        with erased(lake, HOUR):
            publish_spend(lake, days, HOUR, table)
    set_clock(lake, as_of)
    for table in REPORT_TABLES:
        with erased(lake, HOUR):
            publish_report(lake, table)
    with erased(lake, HOUR, sweeps=True):
        write_catalog(lake)


def set_clock(lake: Lake, as_of: datetime | None) -> None:
    """Have the reports of money made as of then, or of now."""
    now = as_of or datetime.now(UTC)
    lake.set_report_clock(ReportClock(day_of(now, HOUR), day_of(now - UNTIL_CLOSED, HOUR), None, SESSION_PRODUCTS))


def counted_twice(lake: Lake) -> list[str]:
    """Keys that are twice in a table, sessions that are in two days, tables not read as the version they have."""
    found: list[str] = []
    with lake.connect() as connection:
        for table in ALL_TABLES:
            stored = sum(file.rows for file in lake.snapshot(table).stored_files())
            if connection.rows(f'from "{table.name}"').num_rows != stored:
                found.append(f"{table.name}: not the {stored} rows of its latest version")
            key = ", ".join(f'"{name}"' for name in table.key)
            rows = connection.rows(f'select {key} from "{table.name}" group by all having count(*) > 1')
            found += [f"{table.name}: {row}" for row in rows.to_pylist()]
        twice = "select session_id from ({}) group by all having count(distinct day) > 1"
        held = 'select day, session_id from "{}" group by all having arg_max_null(moved_to, fetched_at) is null'
        holders = {table.name: held.format(table.name) for table in RAW_SESSION_TABLES} | {"sessions": "from sessions"}
        for name, rows_of_days in holders.items():
            found += [f"{name}: {row} on two days" for row in connection.rows(twice.format(rows_of_days)).to_pylist()]
    return found
