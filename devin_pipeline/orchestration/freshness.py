"""How old what is stored is: which days nobody reads again by themselves, and when each of them was last read.

The schedule `daily_refresh` reads the newest closed days again, the sensor `late_updates` the older ones that have an
updated session. What is asked of the API, and when, does not belong here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from devin_pipeline.billing_calendar import day_of, starts_at
from devin_pipeline.lake import Lake
from devin_pipeline.tables import TABLES

CLOSED_DAYS_READ_AGAIN = 35
"""Long enough for late analyses, and for the month that finance is closing."""


# The schedule starts half an hour after a day's end.
_TIME_TO_READ = timedelta(hours=3)


def first_day_read_daily(last: date) -> date:
    """The first of the days that `daily_refresh` reads when `last` is the newest closed one."""
    return last - timedelta(days=CLOSED_DAYS_READ_AGAIN - 1)


@dataclass
class OlderDays:
    """The days that were read and that `daily_refresh` leaves out.

    Attributes:
        last_read: When the last read of each began, by the API's clock; the earliest of all feeds.
        of_unknown_age: Those that are stored, though no record says when they were read.
        with_missed_updates: Those last read before updates that were too many for the sensor.
        left_unread: Those that `daily_refresh` did not read any more before it left them to the sensor. Of days that
            are read daily, the sensor passes over updates.
    """

    last_read: dict[date, datetime] = field(default_factory=dict)
    of_unknown_age: set[date] = field(default_factory=set)
    with_missed_updates: set[date] = field(default_factory=set)
    left_unread: set[date] = field(default_factory=set)

    @property
    def to_read_again(self) -> list[date]:
        """The days whose late updates may never be read, unless somebody backfills them; oldest first."""
        return sorted(self.of_unknown_age | self.with_missed_updates | self.left_unread)


def older_days(lake: Lake, feeds: Sequence[str], first: date, hour: int, now: datetime) -> OlderDays:
    """What the lake knows of the days that `daily_refresh` leaves out.

    Args:
        lake: The lake.
        feeds: The raw tables to look at.
        first: The first day of the partitions.
        hour: Hour of the UTC day at which a billing day starts.
        now: The time.
    """
    # The range of the schedule's next tick: the day that today's tick read last will not be in it.
    before = first_day_read_daily(day_of(now, hour))
    reads, missed_until = lake.last_reads(), lake.updates_missed_until()
    older = OlderDays()
    for feed in feeds:
        known = {day: at for day, at in reads.of(feed).items() if first <= day < before}
        stored = {day for day in lake.cached_snapshot(TABLES[feed]).rows_per_day() if first <= day < before}
        # guard: days of unknown age
        older.of_unknown_age |= stored - known.keys()
        for day, at in known.items():
            older.last_read[day] = min(older.last_read.get(day, at), at)
    if missed_until is not None:
        older.with_missed_updates = {day for day, at in older.last_read.items() if at < missed_until}
    for day, at in older.last_read.items():
        left = starts_at(day, hour, after=CLOSED_DAYS_READ_AGAIN)
        # guard: a day that the schedule left unread
        if at < left < now - _TIME_TO_READ:
            older.left_unread.add(day)
    return older
