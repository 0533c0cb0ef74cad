"""What a benchmark asks of the pipeline: every call into rooms whose signatures may change is here, once."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.derived.publishing import publish_rollups, publish_session_tables, publish_spend
from devin_pipeline.devin_api import FEED_BY_TABLE, DevinClient, Item, Listing, SessionBatch, Window, pages
from devin_pipeline.lake import Lake, LakeIdentity, ReportClock
from devin_pipeline.raw.consumption.assets import read_bill
from devin_pipeline.raw.consumption.landing import Bill, land_bill
from devin_pipeline.raw.consumption.session_days import due_sessions, land_session_days
from devin_pipeline.raw.directory.assets import land_lists, read_lists
from devin_pipeline.raw.sessions.landing import land
from devin_pipeline.raw.sessions.moved_sessions import HeldSessions
from devin_pipeline.reports.publishing import publish_report
from devin_pipeline.tables import RAW_CONSUMPTION, REPORT_TABLES, SPEND_TABLES, Table
from devin_pipeline.tables.raw import RAW_SESSION_INSIGHTS_V2
from devin_pipeline.tables.reports import ACU_CONSUMED_DAILY, DIRECTORY_TABLES, RECONCILIATION_DAILY
from devin_pipeline_tests.benchmarks.server import V2_KEY, V3_KEY
from devin_pipeline_tests.benchmarks.sessions import DAY_STARTS_AT_UTC_HOUR as HOUR

RAW = RAW_SESSION_INSIGHTS_V2
SPEND = SPEND_TABLES
"""The derived tables of the bill."""
BILL_REPORTS = (*DIRECTORY_TABLES, ACU_CONSUMED_DAILY, RECONCILIATION_DAILY)
"""The reports of the lists and the bill."""
REPORTS = tuple(table for table in REPORT_TABLES if table not in BILL_REPORTS)
"""The others, which are of sessions."""
IN_FLIGHT = 8
"""The requests that the client has in flight."""


def client(url: str) -> DevinClient:
    """A client of the benchmark's server."""
    return DevinClient(base_url=url, v2_key=V2_KEY, v3_key=V3_KEY, concurrency=IN_FLIGHT)


def read(asking: DevinClient, days: Sequence[date], feed: Table = RAW) -> Iterator[tuple[SessionBatch, list[date]]]:
    """Read some days of a feed, each batch with its days."""
    windows = {Window(starts_at(day, HOUR), starts_at(day, HOUR, after=1)): day for day in days}
    for listing in asking.read(FEED_BY_TABLE[feed.name], list(windows)):
        for failure in listing.failures.values():
            raise failure
        yield listing, [windows[window] for window in listing.windows]


def decode(bodies: Sequence[bytes]) -> SessionBatch:
    """Make of v2 pages that arrived what a read of them would give."""
    now = datetime.now(UTC)
    items: dict[str | None, Item] = {
        item.session_id: item for body in bodies for item in pages.offset_page(body, now).items
    }
    return SessionBatch(items=list(items.values()))


def land_days(lake: Lake, listing: SessionBatch, days: Sequence[date], held: HeldSessions) -> None:
    """Commit what was read of some days to raw."""
    land(lake, RAW, listing, days, datetime.now(UTC), HOUR, held=held)


def read_into(lake: Lake, url: str, days: Sequence[date]) -> None:
    """From the API to committed raw versions."""
    lake.claim(LakeIdentity("live", "127.0.0.1", "enterprise", HOUR))
    held = HeldSessions()
    with client(url) as asking:
        for listing, some in read(asking, days):
            land_days(lake, listing, some, held)


def derive(lake: Lake, days: Sequence[date]) -> None:
    """Make every derived table of some days."""
    publish_session_tables(lake, days, HOUR)
    publish_rollups(lake, days, HOUR)


def read_lists_and_bill(
    lake: Lake, asking: DevinClient, days: Sequence[date], *, everybody: bool
) -> tuple[list[Listing], Bill]:
    """Read the lists, and what the bill says of some days: of all people, or of those with use."""
    lists = list(read_lists(asking, lake, has_v3_key=True))
    return lists, read_bill(asking, lake, list(days), everybody=everybody, organization=None)


def read_bill_into(lake: Lake, url: str, days: Sequence[date], *, everybody: bool) -> None:
    """From the API to committed raw versions of the lists and the bill, as `raw_directory` and `raw_consumption` do."""
    read_at = datetime.now(UTC)
    lake.claim(LakeIdentity("live", "127.0.0.1", "enterprise", HOUR))
    with client(url) as asking:
        # Whom to ask is known from the lists that are stored.
        land_lists(lake, list(read_lists(asking, lake, has_v3_key=True)), read_at)
        land_bill(lake, read_bill(asking, lake, list(days), everybody=everybody, organization=None), read_at)
    lake.note_read(RAW_CONSUMPTION, days, read_at)


def read_session_days_into(lake: Lake, url: str, most: int) -> int:
    """Ask for the days of the dearest sessions that are due; give how many."""
    due = due_sessions(lake, None)[:most]
    with client(url) as asking:
        windows = {session.session_id: session.window for session in due}
        answers = asking.consumption("session", list(windows), windows)
        land_session_days(lake, due, answers, datetime.now(UTC), keeps_text=True)
    return len(due)


def derive_spend(lake: Lake, table: Table, days: Sequence[date]) -> None:
    """Make a derived table of the bill, or of the days on which sessions consumed ACUs."""
    publish_spend(lake, days, HOUR, table)


def prepare_bill_reports(lake: Lake, days: Sequence[date]) -> None:
    """Have the reports of the bill made as if each day had been read, and was closed."""
    lake.note_read(RAW, days, datetime.now(UTC))
    lake.set_report_clock(ReportClock(days[-1], days[-1], None, ("automation", "devin")))


def report(lake: Lake, table: Table) -> None:
    """Make a report."""
    publish_report(lake, table)


def rows(lake: Lake, table: Table) -> int:
    """How many rows the latest version of a table has."""
    return sum(file.rows for file in lake.snapshot(table).stored_files())


def backfill(folder: Path, url: str, first_day: date, days: Sequence[date]) -> None:
    """Run the command `backfill` over the v2 feed, with the lake and Dagster's storage in `folder`."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("DEVIN_", "DAGSTER_"))}
    settings |= {
        "DEVIN_API_URL": url,
        "DEVIN_V2_API_KEY": V2_KEY,
        "DEVIN_LAKE": str(folder / "lake"),
        "DEVIN_START_DATE": first_day.isoformat(),
        "DEVIN_REPORT": "none",
        "DAGSTER_HOME": str(folder / "home"),
    }
    command = shutil.which("devin-pipeline", path=str(Path(sys.executable).parent))
    assert command is not None
    asked = [command, "backfill", "--from", days[0].isoformat(), "--to", days[-1].isoformat()]
    ran = subprocess.run(asked, env=settings, cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr[-2000:])
