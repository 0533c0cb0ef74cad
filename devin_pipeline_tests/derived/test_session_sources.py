"""Which feed's version counts for which field."""

from datetime import datetime

import pytest

from devin_pipeline_tests.derived.builders import derived, only, version
from devin_pipeline_tests.tables.rows import NOON, Row, acus, after

pytestmark = pytest.mark.notices("the newest version before the richest feed", "a detail of a state left since")


def session(**feeds: list[Row]) -> Row:
    return only(derived("sessions", **feeds))  # type: ignore[arg-type]


def issues(**feeds: list[Row]) -> list[object]:
    return [row["issue"] for row in derived("session_issues", **feeds)]  # type: ignore[arg-type]


# When v3 insights, v3 sessions and v2 were updated, and which of them counts.
ORDERS: list[tuple[tuple[datetime | None, datetime | None, datetime | None], str]] = [
    ((NOON, NOON, NOON), "insights"),
    ((NOON, after(1), NOON), "v3"),
    ((NOON, NOON, after(1)), "v2"),
    ((NOON, after(1), after(1)), "v3"),
    ((after(1), NOON, after(1)), "insights"),
    ((None, None, NOON), "v2"),
    ((None, NOON, None), "v3"),
    ((None, None, None), "insights"),
]


def test_the_latest_version_counts_and_among_equals_the_richer_feed() -> None:
    insights, v3, v2 = (
        # Fetched in the opposite order: when a feed was read says nothing.
        [
            version(f"s{n}", updated_at=order[place], title=feed, acus=acus(str(place)), fetched_at=after(place))
            for n, (order, _) in enumerate(ORDERS)
        ]
        for place, feed in enumerate(("insights", "v3", "v2"))
    )
    rows = derived("sessions", insights=insights, v3=v3, v2=v2)
    expected = [feed for _, feed in ORDERS]
    assert [row["title"] for row in rows] == expected
    assert [row["acus"] for row in rows] == [acus(str(("insights", "v3", "v2").index(feed))) for feed in expected]
    assert {tuple(row["feeds"]) for row in rows} == {
        ("raw_session_insights_v2", "raw_session_insights_v3", "raw_sessions_v3")
    }


def test_a_null_of_the_latest_version_counts_too() -> None:
    row = session(
        v3=[version(updated_at=after(1), title=None, acus=None, tags=None)],
        insights=[version(title="old", acus=acus("5"), tags=["old"], org_id="o")],
    )
    assert (row["title"], row["acus"], row["tags"], row["org_id"]) == (None, None, [], None)


def test_fields_of_v3_come_from_the_latest_v3_version_though_v2_is_newer() -> None:
    row = session(
        v2=[version(updated_at=after(2), title="v2", origin="never", is_archived=False, service_user_id="never")],
        v3=[version(updated_at=after(1), title="v3", origin="slack", category=None, is_archived=True)],
        insights=[version(title="insights", origin="webapp", category="old", playbook_id="old")],
    )
    assert (row["title"], row["origin"], row["category"], row["playbook_id"]) == ("v2", "slack", None, None)
    assert (row["is_archived"], row["service_user_id"]) == (True, None)


def test_fields_of_one_feed_come_from_that_feed_however_old() -> None:
    row = session(
        v3=[version(updated_at=after(2), session_size="never", num_user_messages=9, initial_user_message="never")],
        v2=[version(updated_at=after(1), initial_user_message="hello", session_size="never")],
        insights=[version(session_size="xl", num_user_messages=1, num_devin_messages=2)],
    )
    assert (row["session_size"], row["num_user_messages"], row["num_devin_messages"]) == ("xl", 1, 2)
    assert row["initial_user_message"] == "hello"


def test_what_only_v2_has_returned_leaves_fields_of_v3_unknown() -> None:
    row = session(v2=[version(status="exit", status_detail="never", is_archived=True, structured_output=1)])
    unknown = ("status_detail", "origin", "is_archived", "structured_output", "session_size", "num_user_messages")
    assert {row[name] for name in unknown} == {None}
    assert (row["status"], row["state"], row["child_session_ids"]) == ("exit", "finished", [])


def test_a_detail_counts_only_with_the_updated_at_of_the_latest_version() -> None:
    v2 = [version(updated_at=after(1), status="running")]
    same = session(v2=v2, v3=[version(updated_at=after(1), status="running", status_detail="waiting_for_user")])
    assert (same["status_detail"], same["state"]) == ("waiting_for_user", "waiting")
    older = session(v2=v2, v3=[version(updated_at=NOON, status="running", status_detail="waiting_for_user")])
    assert (older["status_detail"], older["state"]) == (None, "running")


def test_a_detail_counts_when_no_feed_has_an_updated_at() -> None:
    row = session(v2=[version(updated_at=None)], v3=[version(updated_at=None, status_detail="finished")])
    assert (row["status_detail"], row["state"]) == ("finished", "finished")


def test_the_first_analysis_that_is_not_empty_counts() -> None:
    analysis = {"issues": [{"issue": "v2"}]}
    v2 = [version(session_analysis=analysis)]
    assert issues(insights=[version(updated_at=after(1), analysis=None)], v2=v2) == ["v2"]
    assert issues(insights=[version(updated_at=after(1), analysis={})], v2=v2) == ["v2"]
    assert issues(insights=[version(updated_at=after(1), analysis={"issues": []})], v2=v2) == []
    assert issues(insights=[version(analysis={"issues": [{"issue": "v3"}]})], v2=v2) == ["v3"]
    newer = [version(updated_at=after(1), session_analysis=analysis)]
    assert issues(insights=[version(analysis={"issues": [{"issue": "v3"}]})], v2=newer) == ["v2"]


def test_has_analysis_is_unknown_until_an_insights_feed_is_read() -> None:
    assert session(v3=[version(analysis={"issues": [1]})])["has_analysis"] is None
    assert session(v3=[version()], insights=[version()])["has_analysis"] is False
    assert session(v3=[version()], v2=[version(session_analysis={})])["has_analysis"] is False
    row = session(insights=[version(updated_at=after(1))], v2=[version(session_analysis={"timeline": []})])
    assert row["has_analysis"] is True


def test_a_tombstoned_feed_does_not_list_but_its_last_version_still_counts() -> None:
    gone = [
        version(updated_at=after(1), title="last words", acus=acus("2")),
        version(fetched_at=after(2), is_listed=False),
    ]
    row = session(insights=gone)
    assert (row["title"], row["acus"], row["is_listed"], row["versions"]) == ("last words", acus("2"), False, 1)
    row = session(insights=gone, v2=[version(title="older", fetched_at=after(1))])
    assert (row["title"], row["is_listed"], row["versions"]) == ("last words", True, 2)
    assert row["feeds"] == ["raw_session_insights_v2", "raw_session_insights_v3"]


def test_first_and_last_are_taken_over_the_versions_of_every_feed() -> None:
    row = session(
        v2=[version(fetched_at=after(3)), version(fetched_at=after(8), title="x")],
        v3=[version(fetched_at=after(1)), version(fetched_at=after(5), title="x"), version(fetched_at=after(6))],
    )
    assert (row["first_seen_at"], row["last_changed_at"], row["versions"]) == (after(1), after(8), 5)


def test_one_row_per_session_and_day() -> None:
    rows = derived(
        "sessions", v2=[version("a"), version("b")], v3=[version("b"), version("c")], insights=[version("a")]
    )
    assert [row["session_id"] for row in rows] == ["a", "b", "c"]
