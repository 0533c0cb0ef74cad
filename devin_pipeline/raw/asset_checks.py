"""Checks of what raw stores, for each feed that is read."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from devin_pipeline.billing_calendar import contiguous, newest_closed_day, starts_at
from devin_pipeline.orchestration.asset_checks import Check, CheckContext, Findings, checks_of, sql_check
from devin_pipeline.orchestration.freshness import older_days
from devin_pipeline.orchestration.run_history import latest_materializations, materialized_at
from devin_pipeline.orchestration.run_metadata import (
    CLOCK_AHEAD,
    CLOCKS_APART_SECONDS,
    UNKNOWN_FIELDS,
    starts_by_itself,
)
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import TABLES

_QUERIES = Path(__file__).parent / "checks"

_LISTED_SESSIONS = (Path(__file__).parent / "listed_sessions.sql").read_text()

# A day that closed less than this ago may still be on its way: the schedule starts half an hour after its end.
_GRACE = timedelta(hours=3)

_COUNTS = ("items_read", "placed", "quarantined")


def raw_checks(feeds: Sequence[str], first: date) -> list[dg.AssetChecksDefinition]:
    """The checks of every feed that is read, over partitions from the day `first` on."""
    return [
        checks_of(
            f"{feed}_checks",
            [feed, "raw_quarantine"],
            {feed: _checks_of(feed, first)},
            read_once={feed: "day, session_id, created_at, fetched_at, acus, is_listed, moved_to"},
            views={"versions": f'from "{feed}"'},
        )
        for feed in feeds
    ]


def _checks_of(feed: str, first: date) -> list[Check]:
    return [
        sql_check(_QUERIES / "versions_are_unique.sql", blocking=True),
        sql_check(_QUERIES / "versions_are_inside_their_day.sql", blocking=True),
        Check(
            "items_read_are_placed_or_quarantined",
            "Every item read was accepted or quarantined, and every accepted one is stored.",
            _items_lost,
            blocking=True,
        ),
        sql_check(_QUERIES / "nothing_is_quarantined.sql", params={"feed": feed}),
        Check(
            "acus_are_numbers",
            "ACUs are JSON numbers. ACUs sent as text are read too, but mean that the API has changed.",
            _acus_as_text,
        ),
        sql_check(_QUERIES / "acus_did_not_fall.sql"),
        Check(
            "sessions_stay_listed", "The newest read of each day listed every session known before.", _sessions_unlisted
        ),
        Check(
            "api_respects_time_filters",
            "The API returned no session from outside the days asked for.",
            _sessions_outside,
        ),
        Check(
            "fields_are_known",
            "Items have only fields that the API reference lists. Raw keeps the other ones too.",
            _unknown_fields,
        ),
        Check(
            "newest_closed_day_is_read",
            "The latest day that has ended was read. Runs over other days that a person starts skip this check.",
            partial(_newest_day_missing, first),
        ),
        Check(
            "late_updates_are_read",
            "Late updates are read for every stored day that the daily schedule no longer reads.",
            partial(_updates_missed, first),
        ),
        Check("clocks_agree", "The clocks of this machine and of the API differ by at most a minute.", _clocks_apart),
    ]


def _items_lost(checked: CheckContext) -> Findings:
    stored = {row["day"]: row["listed"] for row in checked.connection.rows(_LISTED_SESSIONS).to_pylist()}
    findings = []
    for day, metadata in _of_newest_reads(checked):
        read, placed, quarantined = (int(str(metadata[name].value)) for name in _COUNTS)
        # More may be stored: a quarantined item whose id is known keeps its session listed without being placed.
        if read != placed + quarantined or stored.get(day, 0) < placed:
            counts = {"read": read, "placed": placed, "quarantined": quarantined, "stored": stored.get(day, 0)}
            findings.append({"day": day, **counts})
    return findings


def _sessions_unlisted(checked: CheckContext) -> Findings:
    unlisted = _figures(checked, "unlisted")
    # guard: sessions a read misses | if sessions -> if False
    return [{"day": day, "sessions": sessions} for day, sessions in unlisted if sessions]


def _sessions_outside(checked: CheckContext) -> Findings:
    outside = _figures(checked, "run/outside_the_days")
    # guard: sessions outside the days asked for | if sessions -> if False
    return [{"day": day, "sessions_of_the_run": sessions} for day, sessions in outside if sessions]


def _acus_as_text(checked: CheckContext) -> Findings:
    as_text = _figures(checked, "run/acus_as_text")
    # guard: ACUs as text | if sessions -> if False
    return [{"day": day, "sessions_of_the_run": sessions} for day, sessions in as_text if sessions]


def _unknown_fields(checked: CheckContext) -> Findings:
    """Each field with the first day whose newest read had it."""
    first: dict[str, Mapping[str, object]] = {}
    for day, metadata in _of_newest_reads(checked):
        recorded = metadata.get(f"run/{UNKNOWN_FIELDS}")
        for name, sessions in (recorded.value if recorded else {}).items():
            first.setdefault(name, {"day": day, "field": name, "sessions_of_the_run": sessions})
    return [first[name] for name in sorted(first)]


def _clocks_apart(checked: CheckContext) -> Findings:
    ahead = _figures(checked, f"run/{CLOCK_AHEAD}")
    # guard: clocks apart | CLOCKS_APART_SECONDS -> 10**9
    return [{"day": day, "ahead_seconds": seconds} for day, seconds in ahead if abs(seconds) > CLOCKS_APART_SECONDS]


def _figures(checked: CheckContext, name: str) -> list[tuple[date, int]]:
    """One figure of the newest read of each day, as far as it recorded that."""
    reads = _of_newest_reads(checked)
    return [(day, int(str(figure.value))) for day, metadata in reads if (figure := metadata.get(name))]


def _of_newest_reads(checked: CheckContext) -> list[tuple[date, Mapping[str, dg.MetadataValue[Any]]]]:
    """What the newest read of each day recorded, oldest day first."""
    records = checked.records.items()
    return [(day, made.metadata) for day, record in records if (made := record.asset_materialization)]


def _updates_missed(first: date, checked: CheckContext) -> Findings:
    """Each range of days whose updates nothing reads automatically, whichever days the run is over, and what does."""
    older = older_days(checked.lake, [checked.asset], first, checked.hour, datetime.now(UTC))
    return [
        {
            "first_day": days[0],
            "last_day": days[-1],
            "read_again": pipeline_command(f"backfill --from {days[0]} --to {days[-1]}"),
        }
        for days in contiguous(older.to_read_again)
    ]


def _newest_day_missing(first: date, checked: CheckContext) -> Findings:
    newest = newest_closed_day(datetime.now(UTC) - _GRACE, checked.hour)
    if newest < first or not _asks_for_newest_day(checked, newest):
        return []
    record = latest_materializations(checked.instance, TABLES[checked.asset], [newest]).get(newest)
    # A read while the day was still open does not count.
    # guard: a day over by our clock only | and materialized_at(record) >= starts_at(newest, checked.hour, after=1)
    was_over = record is not None and materialized_at(record) >= starts_at(newest, checked.hour, after=1)
    return [] if was_over else [{"day": newest}]


def _asks_for_newest_day(checked: CheckContext, newest: date) -> bool:
    """Whether the run is over that day, over none, or one of those that keep the lake up to date."""
    if not checked.days or newest in checked.days:
        return True
    return starts_by_itself(checked.instance.get_run_by_id(checked.run_id))
