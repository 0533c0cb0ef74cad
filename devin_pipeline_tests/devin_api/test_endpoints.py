"""Each endpoint is declared once, and all that describes it agrees."""

from datetime import UTC, datetime, timedelta

import pytest

from devin_pipeline.devin_api import FEED_BY_TABLE, FEEDS, Window, lightest_feeds
from devin_pipeline.devin_api import endpoints as declared
from devin_pipeline.devin_api.endpoints import (
    CONSUMPTION_V2_WINDOW,
    CONSUMPTION_WINDOW,
    SESSION_INSIGHTS_V2,
    SESSION_INSIGHTS_V3,
    SESSIONS_V3,
    Endpoint,
    Feed,
)
from devin_pipeline.tables import RAW_SESSION_TABLES

ENDPOINTS = [each for each in vars(declared).values() if isinstance(each, Endpoint)]


def test_every_raw_session_table_has_a_feed_whose_path_its_grain_names() -> None:
    assert [table.name for table in RAW_SESSION_TABLES] == [feed.table for feed in FEEDS]
    for table in RAW_SESSION_TABLES:
        assert f"`GET {FEED_BY_TABLE[table.name].path}`" in table.grain


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_a_path_begins_with_the_version_whose_key_it_takes(endpoint: Endpoint) -> None:
    begin = (f"/{endpoint.key}/", f"/{endpoint.key}beta1/")
    assert endpoint.path.startswith(begin)
    assert endpoint.path_for("org a/b").startswith(begin)
    assert endpoint.path_for("org a/b", "a/b").count("a/b") == 0
    assert endpoint.path_for(None, "x{y}") == endpoint.path.replace("{object_id}", "x%7By%7D")


def test_no_two_endpoints_have_the_same_name_or_path() -> None:
    assert len({endpoint.name for endpoint in ENDPOINTS}) == len(ENDPOINTS) == 24
    assert len({endpoint.path for endpoint in ENDPOINTS}) == len(ENDPOINTS)


@pytest.mark.parametrize(
    ("tables", "feeds"),
    [
        ([], []),
        (["raw_session_insights_v3"], [SESSION_INSIGHTS_V3]),
        (["raw_session_insights_v3", "raw_sessions_v3"], [SESSIONS_V3]),
        (FEED_BY_TABLE, [SESSION_INSIGHTS_V2, SESSIONS_V3]),
    ],
)
def test_of_feeds_that_list_the_same_sessions_the_lightest_is_read_for_updates(
    tables: list[str], feeds: list[Feed]
) -> None:
    assert lightest_feeds(tables) == feeds


def test_a_window_is_asked_for_as_its_version_writes_it() -> None:
    start = datetime(2026, 3, 1, 8, 0, 0, 250_000, tzinfo=UTC)
    window = Window(start, start + timedelta(seconds=1))
    assert SESSION_INSIGHTS_V2.window.query("created", window) == [
        ("created_date_from", "2026-03-01T08:00:00.250000Z"),
        ("created_date_to", "2026-03-01T08:00:01.250000Z"),
    ]
    seconds = int(start.timestamp())
    # Whole seconds, of those that it touches.
    assert SESSIONS_V3.window.query("updated", window) == [
        ("updated_after", str(seconds)),
        ("updated_before", str(seconds + 2)),
        ("include_deleted_orgs", "true"),
    ]


def test_a_window_of_the_bill_is_asked_for_under_other_names() -> None:
    window = Window(datetime(2026, 3, 1, 8, tzinfo=UTC), datetime(2026, 3, 3, 8, tzinfo=UTC))
    assert CONSUMPTION_WINDOW.query("created", window) == [("time_after", "1772352000"), ("time_before", "1772524800")]
    assert CONSUMPTION_V2_WINDOW.query("created", window) == [
        ("start_date", "2026-03-01T08:00:00Z"),
        ("end_date", "2026-03-03T08:00:00Z"),
    ]


def test_only_insights_of_v3_may_have_an_analysis_and_only_v2_a_session_analysis() -> None:
    fields = {feed: {"analysis", "session_analysis"} & feed.fields for feed in FEEDS}
    assert fields == {
        SESSION_INSIGHTS_V2: {"session_analysis"},
        SESSIONS_V3: set(),
        SESSION_INSIGHTS_V3: {"analysis"},
    }
