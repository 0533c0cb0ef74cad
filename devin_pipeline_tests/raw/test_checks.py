"""Each check of raw finds what it should, and nothing else."""

from datetime import timedelta
from pathlib import Path

import pytest

import devin_pipeline
from devin_pipeline.lake import Connection
from devin_pipeline.tables import RAW_SESSION_TABLES
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, NOON, Row, acus, after, findings, rows_of

pytestmark = pytest.mark.notices("ACUs that fell")


def version(session_id: str = "a", hours: float = 0, **values: object) -> Row:
    return {"session_id": session_id, "fetched_at": after(hours), **values}


def test_two_versions_of_one_instant_are_found() -> None:
    fine = [version("a"), version("a", 1), version("b"), version("b", 1, day=NEXT_DAY)]
    assert findings("raw", "versions_are_unique", fine) == []
    twice = [*fine, version("b"), version("b")]
    assert findings("raw", "versions_are_unique", twice) == [{"day": DAY, "versions_of_one_instant": 3}]


def test_versions_outside_their_day_are_found_to_the_microsecond() -> None:
    start = NOON - timedelta(hours=4)
    instant = timedelta(microseconds=1)
    inside = [version(created_at=start), version(created_at=start + timedelta(days=1) - instant)]
    assert findings("raw", "versions_are_inside_their_day", inside, {"hour": 8}) == []
    outside = [version(created_at=start - instant), version(created_at=start + timedelta(days=1))]
    assert findings("raw", "versions_are_inside_their_day", inside + outside, {"hour": 8}) == [
        {"day": DAY, "versions_outside": 2}
    ]
    assert findings("raw", "versions_are_inside_their_day", inside, {"hour": 0}) == [
        {"day": DAY, "versions_outside": 1}
    ]


def test_quarantined_items_are_counted_by_day_and_reason_of_their_feed_only() -> None:
    quarantine: list[Row] = [
        {"feed": "raw_sessions_v3", "reason": "negative", "content_hash": "1"},
        {"feed": "raw_sessions_v3", "reason": "negative", "content_hash": "2"},
        {"feed": "raw_sessions_v3", "reason": "no id", "day": NEXT_DAY},
        {"feed": "raw_session_insights_v2", "reason": "no id"},
    ]
    found = findings("raw", "nothing_is_quarantined", params={"feed": "raw_sessions_v3"}, raw_quarantine=quarantine)
    assert found == [
        {"day": DAY, "reason": "negative", "items": 2},
        {"day": NEXT_DAY, "reason": "no id", "items": 1},
    ]
    none = findings(
        "raw", "nothing_is_quarantined", params={"feed": "raw_session_insights_v3"}, raw_quarantine=quarantine
    )
    assert none == []


def test_acus_that_fell_in_the_latest_version_are_found() -> None:
    fell = [version("fell", acus=acus("2.5")), version("fell", 1, acus=acus("2")), version("fell", 2, is_listed=False)]
    fine = [
        version("rose", acus=acus("1")),
        version("rose", 1, acus=acus("1")),
        version("recovered", acus=acus("3")),
        version("recovered", 1, acus=acus("1")),
        version("recovered", 2, acus=acus("4")),
        version("became unknown", acus=acus("3")),
        version("became unknown", 1),
        version("gone", acus=acus("3")),
        version("gone", 1, is_listed=False),
        version("new", acus=acus("0")),
    ]
    assert findings("raw", "acus_did_not_fall", fine) == []
    assert findings("raw", "acus_did_not_fall", fine + fell) == [{"day": DAY, "sessions": 1, "acus_lost": acus("0.5")}]


def test_listed_sessions_are_those_whose_latest_version_is_not_a_tombstone() -> None:
    query = (Path(devin_pipeline.__file__).parent / "raw" / "listed_sessions.sql").read_text()
    versions = [
        version("stays"),
        version("stays", 1),
        version("gone"),
        version("gone", 2, is_listed=False),
        version("back"),
        version("back", 1, is_listed=False),
        version("back", 2),
        version("lost", 3, day=NEXT_DAY, is_listed=False),
    ]
    with Connection() as connection:
        connection.register("versions", rows_of(RAW_SESSION_TABLES[0], versions))
        assert connection.rows(query).to_pylist() == [{"day": DAY, "listed": 2}, {"day": NEXT_DAY, "listed": 0}]
