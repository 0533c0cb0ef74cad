"""Of each feed, the latest version of a session that is not a tombstone."""

from collections.abc import Sequence
from datetime import date

import pytest

from devin_pipeline_tests.derived.builders import columns, connection_over, only, version
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, NOON, Row, after

pytestmark = pytest.mark.notices("what a session said before it vanished")


def latest(days: Sequence[date] = (DAY,), **feeds: Sequence[Row]) -> list[Row]:
    with connection_over(days=days, **feeds) as connection:
        rows: list[Row] = connection.rows("from _latest_versions order by day, session_id, precedence").to_pylist()
    return rows


def test_the_version_fetched_last_counts_whatever_its_updated_at_and_place() -> None:
    versions = [
        version(fetched_at=after(2), updated_at=NOON, title="last"),
        version(fetched_at=after(0), updated_at=after(9), title="first"),
        version(fetched_at=after(1), updated_at=None, title="middle"),
    ]
    row = only(latest(v3=versions))
    assert row["payload"] == '{"title": "last"}'
    assert (row["first_seen_at"], row["last_changed_at"], row["versions"]) == (after(0), after(2), 3)
    assert row["is_listed"] is True


def test_a_tombstone_unlists_a_session_but_its_last_version_still_counts() -> None:
    versions = [version(title="kept"), version(fetched_at=after(1), is_listed=False)]
    row = only(latest(v3=versions))
    assert (row["payload"], row["is_listed"], row["versions"]) == ('{"title": "kept"}', False, 1)
    assert row["last_changed_at"] == after(1)


def test_a_session_that_came_back_is_listed_again() -> None:
    versions = [version(), version(fetched_at=after(1), is_listed=False), version(fetched_at=after(2), title="back")]
    row = only(latest(v3=versions))
    assert (row["payload"], row["is_listed"], row["versions"]) == ('{"title": "back"}', True, 2)


def test_a_session_with_nothing_but_a_tombstone_is_left_out() -> None:
    assert latest(v3=[version(is_listed=False)]) == []


def test_each_feed_has_its_own_row_in_the_order_of_precedence() -> None:
    rows = latest(v2=[version()], v3=[version(), version("b")], insights=[version()])
    assert columns(rows, "session_id", "feed", "precedence") == [
        ("a", "raw_session_insights_v3", 1),
        ("a", "raw_sessions_v3", 2),
        ("a", "raw_session_insights_v2", 3),
        ("b", "raw_sessions_v3", 2),
    ]


def test_only_the_days_asked_for_are_read() -> None:
    versions = [version("a"), version("b", day=NEXT_DAY)]
    assert columns(latest([NEXT_DAY], v3=versions), "session_id") == [("b",)]
    assert columns(latest([DAY, NEXT_DAY], v3=versions), "session_id") == [("a",), ("b",)]
