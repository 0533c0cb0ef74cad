"""The tags of a run, and the figures of days and tables that it records with Dagster.

Numbers and fixed words only. Text from the API is data and never becomes metadata, tags or descriptions.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import dagster as dg
from dagster._core.execution.context.metadata_logging import AssetMetadataHandle, OutputMetadataAccumulator

from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.dagster_server.event_log import FINGERPRINT
from devin_pipeline.devin_api import DevinError
from devin_pipeline.errors import ConfigurationError
from devin_pipeline.lake import Commit, Lake
from devin_pipeline.tables import Table

# Tags of a run: that it makes the reports itself, what started it, that organizations new to the lake are welcome, and
# that what a list or a bill leaves out was really removed.
MAKES_REPORTS = "devin/makes_reports"
TRIGGER = "devin/trigger"
ACCEPTS_NEW_ORGANIZATIONS = "devin/accepts_new_organizations"
ACCEPTS_REMOVALS = "devin/accepts_removals"
BACKFILL = "backfill"
WEEKLY_BILL = "weekly_bill"
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


@contextmanager
def problems_as_failures() -> Iterator[None]:
    """Fail a step that the API or a setting refuses in the words of that, without another try.

    Raises:
        Failure: Inside, the API could not be read, or a setting cannot be used.
    """
    try:
        yield
    except (DevinError, ConfigurationError) as error:
        raise dg.Failure(str(error), metadata={ASK_NO_MORE: True}, allow_retries=False) from None


def record_partition_metadata(
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
    snapshot = lake.cached_snapshot(table)
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
    rows = lake.cached_snapshot(table).rows_per_day()
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


def report_table(context: dg.AssetExecutionContext, lake: Lake, table: Table, commit: Commit) -> None:
    """Record and log an unpartitioned table's rows and whether this run changed it."""
    rows = sum(file.rows for file in lake.cached_snapshot(table).stored_files())
    context.add_asset_metadata(
        {
            "dagster/row_count": rows,
            "dagster/uri": lake.location(table),
            "changed": commit.version is not None,
        },
        asset_key=table.name,
    )
    context.log.info(f"{table.name}: {rows:,} rows, {'unchanged' if commit.version is None else 'written'}.")


def add_partition_metadata(
    context: dg.AssetExecutionContext, asset: str, metadata: Mapping[str, Mapping[str, Any]]
) -> None:
    """What `add_asset_metadata` does, for many partitions at once.

    That looks at every partition of the run and at all that was added before, for each that is added: for a year a
    quarter of the time that Dagster takes.

    Args:
        context: The step.
        asset: The asset.
        metadata: The metadata of each partition, by its key.
    """
    step = context.op_execution_context._step_execution_context
    per_output = dict(step._metadata_accumulator.per_output_metadata)
    for partition, of_partition in metadata.items():
        per_output[AssetMetadataHandle(asset_key=dg.AssetKey(asset), partition_key=partition)] = of_partition
    step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata=per_output)


def days_not_read(metadata: Mapping[str, dg.MetadataValue[Any]]) -> dict[str, str]:
    """Why each day could not be read, by day in ISO form, from the metadata of a failed step."""
    days = metadata.get(DAYS_NOT_READ)
    return dict(days.value) if isinstance(days, dg.JsonMetadataValue) and isinstance(days.value, dict) else {}


def acus_of_days(
    lake: Lake, table: Table, days: Sequence[date], known: Mapping[date, Decimal]
) -> dict[date, dict[str, Decimal]]:
    """The ACUs a table holds per day, if it has them; nothing per day otherwise.

    Args:
        lake: Where.
        table: A table by day.
        days: The days to record.
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


def _fingerprint(*content: object) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def _shown(value: int | Decimal | None) -> int | float | None:
    # The page plots numbers and is for people; the exact figure is in the table.
    return float(round(value, 2)) if isinstance(value, Decimal) else value
