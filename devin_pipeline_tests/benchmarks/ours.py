"""What a benchmark asks of the pipeline: every call into rooms whose signatures may change is here, once."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.derived.publishing import publish_rollups, publish_session_tables
from devin_pipeline.devin_api import FEED_BY_TABLE, DevinClient, Item, SessionBatch, Window, pages
from devin_pipeline.lake import Lake, LakeIdentity
from devin_pipeline.raw.sessions.landing import land
from devin_pipeline.raw.sessions.moved_sessions import HeldSessions
from devin_pipeline.reports.publishing import publish_report
from devin_pipeline.tables import REPORT_TABLES, Table
from devin_pipeline.tables.raw import RAW_SESSION_INSIGHTS_V2
from devin_pipeline_tests.benchmarks.server import V2_KEY, V3_KEY
from devin_pipeline_tests.benchmarks.sessions import DAY_STARTS_AT_UTC_HOUR as HOUR

RAW = RAW_SESSION_INSIGHTS_V2
REPORTS = REPORT_TABLES
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
