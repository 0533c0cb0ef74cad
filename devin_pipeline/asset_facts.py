"""What Dagster shows of a table: the facts of its asset, and the figures of a run.

Numbers and fixed words only. Text from the API is data and never becomes metadata, tags or descriptions.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg

from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.dagster_server.dagster_home import dagster_instance
from devin_pipeline.dagster_server.event_log import FINGERPRINT
from devin_pipeline.lake import Commit, Lake
from devin_pipeline.orchestration.run_metadata import add_partition_metadata
from devin_pipeline.tables import ROLLUP_TABLES, TABLES, Table

OWNERS = ["team:devin-pipeline"]
CODE_VERSION = "1"

# Tags of a run: that it makes the reports itself, what started it, and that organizations new to the lake are welcome.
MAKES_REPORTS = "devin/makes_reports"
TRIGGER = "devin/trigger"
ACCEPTS_NEW_ORGANIZATIONS = "devin/accepts_new_organizations"
BACKFILL = "backfill"
REBUILD = "rebuild"
DEMO = "demo"

# Figures of a run that asked the API: when it began, by the API's own clock, how far ours was ahead of that, and how
# many items have which field that the API reference does not list.
READ_AT = "read_at"
CLOCK_AHEAD = "clock_ahead_seconds"
UNKNOWN_FIELDS = "unknown_fields"
CLOCKS_APART_SECONDS = 60

# The one figure of a day that says what a read did, not what the day holds.
NEW_VERSIONS = "new_versions"

# Metadata of a failure: why each day could not be read, or that other days would be refused alike.
DAYS_NOT_READ = "days_not_read"
ASK_NO_MORE = "ask_no_more"

# Metadata of a failure: a report waits until days that other code built are rebuilt.
REPORTS_WAIT = "reports_wait"


def starts_by_itself(run: dg.DagsterRun | None) -> bool:
    """Whether the schedule or a sensor started a run, and no person waits for it."""
    return run is not None and not {"dagster/schedule_name", "dagster/sensor_name"}.isdisjoint(run.tags)


def table_asset(table: Table, **more: Any) -> Callable[[Callable[..., None]], dg.AssetsDefinition]:
    """`dg.asset` with the facts of a table."""
    decorator: Callable[[Callable[..., None]], dg.AssetsDefinition] = dg.asset(**facts(table), **more)
    return decorator


def facts(table: Table) -> dict[str, Any]:
    """What stays the same from run to run: key, grain, group, kinds, owners, columns and code version."""
    return {
        "key": table.name,
        "description": table.grain,
        "group_name": table.layer,
        "kinds": {"python" if table.layer == "raw" else "duckdb", "deltalake", "parquet"},
        "owners": OWNERS,
        "code_version": CODE_VERSION,
        "metadata": {
            "dagster/column_schema": dg.TableSchema(
                columns=[
                    dg.TableColumn(
                        column.name,
                        column.sql_type,
                        column.description,
                        constraints=dg.TableColumnConstraints(nullable=column.nullable),
                    )
                    for column in table.columns
                ]
            ),
            "dagster/table_name": table.name,
        },
    }


def report_days(
    context: dg.AssetExecutionContext,
    lake: Lake,
    table: Table,
    figures: Mapping[date, Mapping[str, int | Decimal | None]],
    hour: int,
    run_figures: Mapping[str, int | dg.TimestampMetadataValue | dg.JsonMetadataValue] | None = None,
    *,
    at: datetime | None = None,
    findings: Sequence[object] = (),
) -> None:
    """Record the figures of each day of a run on its partition, and those of the whole run on each.

    One result for a range would copy the same number onto every day and flatten the plots. A day that is as its newest
    record says is not recorded again by DAGSTER_HOME.

    Args:
        context: The step.
        lake: The lake.
        table: The table.
        figures: The figures of each day.
        hour: Hour of the UTC day at which a billing day starts.
        run_figures: What the run cost and met; a day is not recorded again for these.
        at: Since when what is stored of the days is known to be right; now when left out.
        findings: What checks read from `run_figures`.
    """
    snapshot = lake.newest(table)
    rows = snapshot.rows_per_day()
    files = defaultdict(list)
    for file in snapshot.stored_files(figures):
        files[file.day].append(file.path)
    at = at or datetime.now(UTC)
    of_all = {
        "dagster/uri": dg.MetadataValue.text(lake.location(table)),
        **{
            f"run/{name}": dg.MetadataValue.int(value) if isinstance(value, int) else value
            for name, value in (run_figures or {}).items()
        },
    }
    add_partition_metadata(
        context,
        table.name,
        {
            day.isoformat(): {
                "dagster/partition_row_count": rows[day],
                **{name: _shown(value) for name, value in of_day.items()},
                **of_all,
                FINGERPRINT: _fingerprint(
                    [lake.location(table), *files[day]],
                    {name: value for name, value in of_day.items() if name != NEW_VERSIONS},
                    # Read again after it is over, a day counts as read, whether or not it has changed.
                    # guard: a day that is over by now | at >= starts_at(day, hour, after=1) -> True
                    at >= starts_at(day, hour, after=1),
                    findings,
                ),
            }
            for day, of_day in figures.items()
        },
    )


def report_other_days(
    context: dg.AssetExecutionContext,
    lake: Lake,
    table: Table,
    figures: Mapping[date, Mapping[str, int | Decimal | None]],
) -> None:
    """Record that a run built days outside its own range, which had sessions in common with days of it."""
    rows = lake.newest(table).rows_per_day()
    for day, of_day in figures.items():
        context.log_event(
            dg.AssetMaterialization(
                table.name,
                partition=day.isoformat(),
                metadata={
                    "dagster/partition_row_count": rows[day],
                    **{name: _shown(value) for name, value in of_day.items()},
                    "dagster/uri": dg.MetadataValue.text(lake.location(table)),
                },
            )
        )


def _fingerprint(*content: object) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def acus_of_days(
    lake: Lake, table: Table, days: Sequence[date], known: Mapping[date, Decimal]
) -> dict[date, dict[str, Decimal]]:
    """The ACUs a table holds per day, if it has them; nothing per day otherwise.

    Args:
        lake: Where.
        table: A table by day.
        days: The days to tell.
        known: Those of days that were just made.
    """
    column = table.acus_column
    if column is None:
        return {day: {} for day in days}
    acus = dict(known)
    if left_alone := [day for day in days if day not in known]:
        with lake.connect([table], days=left_alone) as reader:
            sums = reader.rows(f'select day, sum({column}) as acus from "{table.name}" group by day').to_pylist()  # noqa: S608 - our own names
        acus |= {row["day"]: row["acus"] or Decimal(0) for row in sums}
    return {day: {"acus": acus.get(day, Decimal(0))} for day in days}


def days_not_read(metadata: Mapping[str, dg.MetadataValue[Any]]) -> dict[str, str]:
    """Why each day could not be read, by day in ISO form, from the metadata of a failed step."""
    days = metadata.get(DAYS_NOT_READ)
    return dict(days.value) if isinstance(days, dg.JsonMetadataValue) and isinstance(days.value, dict) else {}


def newest_records(instance: dg.DagsterInstance, table: Table, days: Iterable[date]) -> dict[date, dg.EventLogRecord]:
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


def made_at(record: dg.EventLogRecord) -> datetime:
    """When a day was made; of a raw table, when reading it began, by the API's clock."""
    metadata = record.asset_materialization.metadata if record.asset_materialization else {}
    told = metadata.get(f"run/{READ_AT}")
    seconds = told.value if isinstance(told, dg.TimestampMetadataValue) else record.timestamp
    return datetime.fromtimestamp(seconds, UTC)


def days_made(days: Sequence[date], lake: Lake, feeds: Sequence[str], hour: int) -> set[date]:
    """The days that each feed read into this lake after they were over, and whose rollups were built.

    What Dagster recorded counts only as far as the lake still holds it. The day that has begun counts as made once it
    was read; when it is over, it is to be read again.
    """
    if not Path(os.environ["DAGSTER_HOME"]).is_dir():
        return set()
    made = set(days)
    now = datetime.now(UTC)
    with dagster_instance() as instance:
        for table in (*(TABLES[feed] for feed in feeds), *ROLLUP_TABLES):
            rows = lake.snapshot(table).rows_per_day()
            made &= {
                day
                for day, record in newest_records(instance, table, made).items()
                if ((over := starts_at(day, hour, after=1)) > now or made_at(record) >= over)
                and (told := record.asset_materialization)
                # guard: days another lake has | and told.metadata["dagster/uri"].value == lake.location(table)
                and told.metadata["dagster/uri"].value == lake.location(table)
                # guard: days the lake has lost
                #   | and _are_stored(table, told.metadata["dagster/partition_row_count"].value, rows[day])
                and _are_stored(table, told.metadata["dagster/partition_row_count"].value, rows[day])
            }
    return made


def _are_stored(table: Table, recorded: object, rows: int) -> bool:
    # A run over another day may add rows to a raw one: of sessions that moved away from it.
    return isinstance(recorded, int) and (recorded <= rows if table.layer == "raw" else recorded == rows)


def report_table(context: dg.AssetExecutionContext, lake: Lake, table: Table, commit: Commit) -> None:
    """Record an unpartitioned table's rows and whether this run changed it."""
    rows = sum(file.rows for file in lake.newest(table).stored_files())
    context.add_asset_metadata(
        {
            "dagster/row_count": rows,
            "dagster/uri": lake.location(table),
            "changed": commit.version is not None,
        },
        asset_key=table.name,
    )


def _shown(value: int | Decimal | None) -> int | float | None:
    # The page plots numbers and is for people; the exact figure is in the table.
    return float(round(value, 2)) if isinstance(value, Decimal) else value
