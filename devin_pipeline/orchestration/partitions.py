"""The partitions of Dagster's assets: one per billing day, and the runs over ranges of them."""

from datetime import UTC, date, datetime

import dagster as dg

from devin_pipeline.billing_calendar import day_of
from devin_pipeline.settings import Settings

FIRST_TAG = "dagster/asset_partition_range_start"
LAST_TAG = "dagster/asset_partition_range_end"
# A range is one run. A mix of policies would silently fall back to one run per day, and `dg launch` refuses ranges of
# a selection in which any asset lacks the policy, so the unpartitioned reports carry it too.
RANGES = dg.BackfillPolicy.single_run()


def billing_days(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Every billing day since DEVIN_START_DATE, the one that has begun included."""
    return dg.DailyPartitionsDefinition(
        settings.start_date.isoformat(), timezone="UTC", hour_offset=settings.day_starts_at_utc_hour, end_offset=1
    )


def days_of(context: dg.AssetExecutionContext, hour: int) -> list[date]:
    """The days of this run, oldest first: one, or every day of a range.

    Raises:
        Failure: One of them has not begun. Dagster refuses it as a partition, but not as the end of a range.
    """
    days = sorted(date.fromisoformat(key) for key in context.partition_keys)
    today = day_of(datetime.now(UTC), hour)
    # guard: a day that has not begun
    if days[-1] > today:
        raise dg.Failure(
            f"{days[-1]} cannot be made: it has not begun. Ask for days up to {today}.", allow_retries=False
        )
    return days


def range_tags(first: date, last: date) -> dict[str, str]:
    """The run tags with which a job runs over a range of days."""
    return {FIRST_TAG: first.isoformat(), LAST_TAG: last.isoformat()}
