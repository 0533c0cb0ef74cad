"""What a benchmark asks of the pipeline: every call into rooms whose signatures may change stands here, once."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from devin_pipeline.derived.publishing import publish_rollup, publish_session_tables
from devin_pipeline.devin_api import DevinClient, Item, Listing, Window, payloads
from devin_pipeline.lake import Lake, LakeIdentity
from devin_pipeline.partitions import starts_at
from devin_pipeline.raw.landing import land
from devin_pipeline.reports.publishing import publish_report
from devin_pipeline.resources import ASKED_OF
from devin_pipeline.tables import REPORT_TABLES, ROLLUP_TABLES, TABLES, Table
from devin_pipeline_tests.benchmarks.server import V2_KEY, V3_KEY
from devin_pipeline_tests.benchmarks.sessions import DAY_STARTS_AT_UTC_HOUR as HOUR

RAW = TABLES["raw_session_insights_v2"]
REPORTS = REPORT_TABLES
DAYS_AT_ONCE = 31
"""The days that `backfill` gives to one run of Dagster."""

IN_FLIGHT = 8
"""The requests that the client has in flight."""


def client(url: str) -> DevinClient:
    """A client of the benchmark's server."""
    return DevinClient(base_url=url, v2_key=V2_KEY, v3_key=V3_KEY, concurrency=IN_FLIGHT)


def read(asking: DevinClient, days: Sequence[date], feed: Table = RAW) -> Listing:
    """Read what a feed tells of some days."""
    listing = asking.read(
        ASKED_OF[feed.name], [Window(starts_at(day, HOUR), starts_at(day, HOUR, after=1)) for day in days]
    )
    for failure in listing.failures.values():
        raise failure
    return listing


def decode(bodies: Sequence[bytes]) -> Listing:
    """Make of v2 pages that arrived what a read of them would give."""
    now = datetime.now(UTC)
    items: dict[str | None, Item] = {
        item.session_id: item for body in bodies for item in payloads.offset_page(body, now).items
    }
    return Listing(items=list(items.values()))


def land_days(lake: Lake, listing: Listing, days: Sequence[date]) -> None:
    """Commit what was read of some days to raw."""
    land(lake, RAW, listing, days, datetime.now(UTC), HOUR)


def read_into(lake: Lake, url: str, days: Sequence[date]) -> None:
    """From the API to committed raw versions, as many days at once as `backfill` takes."""
    lake.claim(LakeIdentity("live", "127.0.0.1", "enterprise", HOUR))
    with client(url) as asking:
        for some in at_once(days):
            land_days(lake, read(asking, some), some)


def derive(lake: Lake, days: Sequence[date]) -> None:
    """Make every derived table of some days, as many at once as `backfill` takes."""
    for some in at_once(days):
        publish_session_tables(lake, some, HOUR)
        for table in ROLLUP_TABLES:
            publish_rollup(lake, table, some, HOUR)


def report(lake: Lake, table: Table) -> None:
    """Make a report."""
    publish_report(lake, table)


def rows(lake: Lake, table: Table) -> int:
    """How many rows the newest version of a table has."""
    return sum(file.rows for file in lake.snapshot(table).stored_files())


def at_once(days: Sequence[date]) -> list[Sequence[date]]:
    """The days in the portions of one run each."""
    return [days[start : start + DAYS_AT_ONCE] for start in range(0, len(days), DAYS_AT_ONCE)]


def backfill(folder: Path, url: str, first_day: date, days: Sequence[date]) -> None:
    """Run the command `backfill` over the v2 feed, with the lake and Dagster's storage in `folder`."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("DEVIN_", "DAGSTER_"))}
    settings |= {
        "DEVIN_API_URL": url,
        "DEVIN_V2_API_KEY": V2_KEY,
        "DEVIN_LAKE": str(folder / "lake"),
        "DEVIN_START_DATE": first_day.isoformat(),
        "DAGSTER_HOME": str(folder / "home"),
    }
    command = shutil.which("devin-pipeline", path=str(Path(sys.executable).parent))
    assert command is not None
    asked = [command, "backfill", "--from", days[0].isoformat(), "--to", days[-1].isoformat()]
    ran = subprocess.run(asked, env=settings, cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr[-2000:])
