"""What past runs recorded: the newest materialization of a day, when it was built, which days are up to date."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

import dagster as dg

from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.dagster_server.dagster_home import dagster_instance, has_records
from devin_pipeline.lake import Lake
from devin_pipeline.orchestration.run_metadata import READ_AT
from devin_pipeline.tables import ROLLUP_TABLES, TABLES, Table


def latest_materializations(
    instance: dg.DagsterInstance, table: Table, days: Iterable[date]
) -> dict[date, dg.EventLogRecord]:
    """The newest materialization of each day that has one."""
    newest: dict[date, dg.EventLogRecord] = {}
    missing = {day.isoformat() for day in days}
    while missing:
        wanted = dg.AssetRecordsFilter(dg.AssetKey(table.name), asset_partitions=sorted(missing))
        # Newest first: after a run over just these days, its records are all there is to fetch.
        records = instance.fetch_materializations(wanted, limit=len(missing)).records
        for record in records:
            if record.partition_key in missing:
                missing.remove(record.partition_key)
                newest[date.fromisoformat(record.partition_key)] = record
        if not records:
            break
    return newest


def materialized_at(record: dg.EventLogRecord) -> datetime:
    """When a day was made; of a raw table, when reading it began, by the API's clock."""
    metadata = record.asset_materialization.metadata if record.asset_materialization else {}
    read_at = metadata.get(f"run/{READ_AT}")
    seconds = read_at.value if isinstance(read_at, dg.TimestampMetadataValue) else record.timestamp
    return datetime.fromtimestamp(seconds, UTC)


def days_made(days: Sequence[date], lake: Lake, feeds: Sequence[str], hour: int) -> set[date]:
    """The days that each feed read into this lake after they were over, and whose rollups were built.

    What Dagster recorded counts only as far as the lake still holds it. The day that has begun counts as made once it
    was read; when it is over, it is to be read again.
    """
    if not has_records():
        return set()
    made = set(days)
    now = datetime.now(UTC)
    with dagster_instance() as instance:
        for table in (*(TABLES[feed] for feed in feeds), *ROLLUP_TABLES):
            rows = lake.snapshot(table).rows_per_day()
            made &= {
                day
                for day, record in latest_materializations(instance, table, made).items()
                if ((over := starts_at(day, hour, after=1)) > now or materialized_at(record) >= over)
                and (found := record.asset_materialization)
                # guard: days another lake has | and found.metadata["dagster/uri"].value == lake.location(table)
                and found.metadata["dagster/uri"].value == lake.location(table)
                # guard: days the lake has lost
                #   | and _are_stored(table, found.metadata["dagster/partition_row_count"].value, rows[day])
                and _are_stored(table, found.metadata["dagster/partition_row_count"].value, rows[day])
            }
    return made


def _are_stored(table: Table, recorded: object, rows: int) -> bool:
    # A run over another day may add rows to a raw one: of sessions that moved away from it.
    return isinstance(recorded, int) and (recorded <= rows if table.layer == "raw" else recorded == rows)
