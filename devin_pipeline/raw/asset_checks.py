"""Checks of what raw stores, for each feed that is read."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg

from devin_pipeline.asset_checks import Findings, days_checked, finding_check, sql_check
from devin_pipeline.partitions import newest_closed_day, start_date
from devin_pipeline.resources import LakeResource
from devin_pipeline.tables import TABLES

_QUERIES = Path(__file__).parent / "checks"

_LISTED_SESSIONS = (Path(__file__).parent / "listed_sessions.sql").read_text()

# A day that closed less than this ago may still be on its way: the schedule starts half an hour after its end.
_GRACE = timedelta(hours=3)

# Of the pages "List Enterprise Sessions (Insights)" (v2) and "List account sessions" (v3) of the API reference.
_V2_FIELDS = """
    session_id url status title tags user_id org_id created_at updated_at acus_consumed pull_requests
    initial_user_message session_analysis
""".split()  # noqa: SIM905 - a literal list would be a line per field
_V3_FIELDS = """
    session_id url org_id user_id service_user_id title tags status status_detail created_at updated_at
    acus_consumed pull_requests origin category subcategory playbook_id parent_session_id child_session_ids
    is_archived structured_output automation_id devin_mode
""".split()  # noqa: SIM905 - as above
KNOWN_FIELDS = {
    "raw_session_insights_v2": _V2_FIELDS,
    "raw_sessions_v3": _V3_FIELDS,
    "raw_session_insights_v3": [*_V3_FIELDS, "num_user_messages", "num_devin_messages", "session_size", "analysis"],
}


def raw_checks(feeds: Sequence[str]) -> list[dg.AssetChecksDefinition]:
    """The checks of every feed that is read."""
    return [check for feed in feeds for check in _checks_of(feed)]


def _checks_of(feed: str) -> list[dg.AssetChecksDefinition]:
    return [
        sql_check(feed, _QUERIES / "versions_are_unique.sql", [feed], blocking=True),
        sql_check(feed, _QUERIES / "versions_are_inside_their_day.sql", [feed], blocking=True),
        finding_check(
            feed,
            "items_read_are_placed_or_quarantined",
            "Items read are those placed and those quarantined, and what was placed is stored.",
            lambda context, lake: _items_lost(context, lake, feed),
            blocking=True,
        ),
        sql_check(feed, _QUERIES / "nothing_is_quarantined.sql", ["raw_quarantine", feed], params={"feed": feed}),
        sql_check(feed, _QUERIES / "acus_did_not_fall.sql", [feed]),
        sql_check(feed, _QUERIES / "fields_are_known.sql", [feed], params={"known_fields": KNOWN_FIELDS[feed]}),
        finding_check(
            feed,
            "newest_closed_day_is_read",
            "The newest day that is over has been read.",
            lambda context, lake: _newest_day_missing(context, lake, feed),
        ),
    ]


def _items_lost(context: dg.AssetCheckExecutionContext, lake: LakeResource, feed: str) -> Findings:
    days = days_checked(context) or [
        date.fromisoformat(key) for key in context.instance.get_materialized_partitions(dg.AssetKey(feed))
    ]
    with lake.open().connect([TABLES[feed]], days=days) as reader:
        reader.view("versions", f'from "{feed}"')
        listed = {row["day"]: row["listed"] for row in reader.rows(_LISTED_SESSIONS).to_pylist()}
    findings = []
    for day in days:
        figures = _figures(context, feed, day)
        stored = listed.get(day, 0)
        read, placed, quarantined = (figures.get(name, 0) for name in ("items_read", "placed", "quarantined"))
        # A quarantined item whose id is known keeps its session listed without being placed.
        if read != placed + quarantined or not placed <= stored <= placed + quarantined:
            findings.append({"day": day, "read": read, "placed": placed, "quarantined": quarantined, "stored": stored})
    return findings


def _figures(context: dg.AssetCheckExecutionContext, feed: str, day: date) -> dict[str, int]:
    """What the newest read of a day counted, as recorded with its materialization."""
    records = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(feed), asset_partitions=[day.isoformat()]), limit=1
    ).records
    told = records[0].asset_materialization if records else None
    return {name: int(str(value.value)) for name, value in told.metadata.items() if name in _COUNTS} if told else {}


_COUNTS = ("items_read", "placed", "quarantined")


def _newest_day_missing(context: dg.AssetCheckExecutionContext, lake: LakeResource, feed: str) -> Findings:
    newest = newest_closed_day(datetime.now(UTC) - _GRACE, lake.day_starts_at_utc_hour)
    read = context.instance.get_materialized_partitions(dg.AssetKey(feed))
    return [{"day": newest}] if newest >= start_date() and newest.isoformat() not in read else []
