"""The billing day: the one partition of every table, and why it starts at 08:00 UTC.

Devin bills by days that start at 08:00 UTC all year (its pages call it midnight PST). The time zone
America/Los_Angeles would give days of 23 and 25 hours, so the day is a fixed offset from UTC.
"""

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from devin_pipeline.errors import ConfigurationError

FIRST_TAG = "dagster/asset_partition_range_start"
LAST_TAG = "dagster/asset_partition_range_end"
# A range is one run. A mix of policies would silently fall back to one run per day, and `dg launch` refuses ranges of
# a selection in which any asset lacks the policy, so the unpartitioned reports carry it too.
RANGES = dg.BackfillPolicy.single_run()


_BEFORE_DEVIN = date(2020, 1, 1)


def a_date(text: str, name: str) -> date:
    """The date written as YYYY-MM-DD in the setting or option `name`.

    Raises:
        ConfigurationError: It is written otherwise (`20261105` too) or is no date.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    # guard: a date written otherwise | or day.isoformat() != text
    if day is None or day.isoformat() != text:
        raise ConfigurationError(f"{name} is {text!r}", "that is no date", "Write it as 2026-01-31")
    return day


def day_starts_at_utc_hour() -> int:
    """Hour of the UTC day at which a billing day starts (DEVIN_DAY_STARTS_AT_UTC_HOUR, default 8).

    Raises:
        ConfigurationError: It is no whole hour of the day.
    """
    text = os.environ.get("DEVIN_DAY_STARTS_AT_UTC_HOUR") or "8"
    if not (text.isascii() and text.isdigit() and int(text) < 24):
        raise ConfigurationError(f"DEVIN_DAY_STARTS_AT_UTC_HOUR is {text!r}", "that is no hour", "Set it to 0 … 23")
    return int(text)


def start_date() -> date:
    """First day of the partitions (DEVIN_START_DATE, default 2025-01-01).

    Raises:
        ConfigurationError: It is no date, lies in the future, or before anything that is counted here.
    """
    text = os.environ.get("DEVIN_START_DATE") or "2025-01-01"
    day = a_date(text, "DEVIN_START_DATE")
    if day > day_of(datetime.now(UTC), day_starts_at_utc_hour()):
        raise ConfigurationError(
            f"DEVIN_START_DATE is {text}", "that lies in the future", "Set it to a day that has begun"
        )
    if day < _BEFORE_DEVIN:
        why = f"that lies before {_BEFORE_DEVIN}, when there was no Devin"
        raise ConfigurationError(f"DEVIN_START_DATE is {text}", why, "Set it to the first day with sessions")
    return day


def billing_days() -> dg.DailyPartitionsDefinition:
    """Every billing day since DEVIN_START_DATE, the one that has begun included."""
    return dg.DailyPartitionsDefinition(
        start_date().isoformat(), timezone="UTC", hour_offset=day_starts_at_utc_hour(), end_offset=1
    )


def starts_at(day: date, hour: int, *, after: int = 0) -> datetime:
    """The instant at which a billing day starts, or the one `after` days later; a day ends where the next starts."""
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC) + timedelta(days=after)


def day_of(instant: datetime, hour: int) -> date:
    """The billing day that holds an instant."""
    # guard: the day of an instant of another zone | .astimezone(UTC)
    return (instant.astimezone(UTC) - timedelta(hours=hour)).date()


def newest_closed_day(now: datetime, hour: int) -> date:
    """The last billing day that is over."""
    return day_of(now, hour) - timedelta(days=1)


def days_between(first: date, last: date) -> list[date]:
    """Every day from `first` to `last`, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def days_of(context: dg.AssetExecutionContext) -> list[date]:
    """The days of this run, oldest first: one, or every day of a range.

    Raises:
        Failure: One of them has not begun. Dagster refuses it as a partition, but not as the end of a range.
    """
    days = sorted(date.fromisoformat(key) for key in context.partition_keys)
    today = day_of(datetime.now(UTC), day_starts_at_utc_hour())
    # guard: a day that has not begun
    if days[-1] > today:
        raise dg.Failure(
            f"{days[-1]} cannot be made: it has not begun. Ask for days up to {today}.", allow_retries=False
        )
    return days


def range_tags(first: date, last: date) -> dict[str, str]:
    """The run tags with which a job runs over a range of days."""
    return {FIRST_TAG: first.isoformat(), LAST_TAG: last.isoformat()}


def contiguous(days: Iterable[date]) -> list[Sequence[date]]:
    """The days as runs of neighbours, oldest first, without repeats."""
    groups: list[list[date]] = []
    for day in sorted(set(days)):
        if groups and day - groups[-1][-1] == timedelta(days=1):
            groups[-1].append(day)
        else:
            groups.append([day])
    return list(groups)
