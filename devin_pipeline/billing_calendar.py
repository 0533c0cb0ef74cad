"""The billing day: the one partition of every table, and why it starts at 08:00 UTC.

Devin bills by days that start at 08:00 UTC all year (its pages call it midnight PST). The time zone
America/Los_Angeles would give days of 23 and 25 hours, so the day is a fixed offset from UTC. What Dagster makes of it,
its partitions, does not belong here.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

BILLING_HOUR = 8
"""Hour of the UTC day at which a day of Devin's bill starts."""

UNTIL_CLOSED = timedelta(hours=48)
"""How long after its end a day's bill may still change; then the day is closed."""


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


def days_in_words(days: Sequence[date]) -> str:
    """How many days, and from which to which: `30 days, 2026-01-01 … 2026-01-30`."""
    if len(days) < 2:
        return f"day {days[0]}" if days else "0 days"
    return f"{len(days)} days, {days[0]} … {days[-1]}"


def contiguous(days: Iterable[date]) -> list[Sequence[date]]:
    """The days as runs of neighbours, oldest first, without repeats."""
    groups: list[list[date]] = []
    for day in sorted(set(days)):
        if groups and day - groups[-1][-1] == timedelta(days=1):
            groups[-1].append(day)
        else:
            groups.append([day])
    return list(groups)
