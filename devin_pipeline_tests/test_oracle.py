"""The oracle against examples small enough to work out by hand."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from devin_pipeline_tests.oracle import (
    INSIGHTS_V2,
    INSIGHTS_V3,
    SESSIONS_V3,
    Oracle,
    Row,
    content_hash,
    instant,
    parts_of_url,
    read_json,
    state_of,
    text,
)

MONDAY = date(2025, 12, 1)
TUESDAY = date(2025, 12, 2)
NOON_OF_MONDAY = 1764590400
FETCHED = datetime(2025, 12, 10, tzinfo=UTC)
LATER = FETCHED + timedelta(days=1)


def item(session_id: str = "a", /, **fields: object) -> str:
    return json.dumps({"session_id": session_id, "created_at": NOON_OF_MONDAY, "org_id": "org-1"} | fields)


def item_with_acus(acus: str, session_id: str = "a") -> str:
    return item(session_id, acus_consumed="ACUS").replace('"ACUS"', acus)


def read(*items: str, feed: str = SESSIONS_V3, day: date = MONDAY) -> Oracle:
    oracle = Oracle()
    oracle.observe(feed, [day], items, FETCHED)
    return oracle


def only(rows: list[Row]) -> Row:
    (row,) = rows
    return row


def pull_request(number: int, state: str | None = "open", repository: str = "o/r") -> dict[str, object]:
    return {"pr_url": f"https://github.com/{repository}/pull/{number}", "pr_state": state}


def test_a_day_starts_at_eight_and_other_days_are_ignored() -> None:
    at = "2025-12-02T07:59:59.999999Z", "2025-12-02T08:00:00Z", "2025-12-02T00:00:00-08:00"
    items = [item(f"s{i}", created_at=created_at) for i, created_at in enumerate(at)]
    assert [row["session_id"] for row in read(*items).table("sessions")] == ["s0"]
    assert [row["session_id"] for row in read(*items, day=TUESDAY).table("sessions")] == ["s1", "s2"]


def test_changes_add_versions_and_repetitions_do_not() -> None:
    oracle = Oracle()
    for hours, written in enumerate(["1.0", "1.00", "2", "1", "1e0"]):
        oracle.observe(SESSIONS_V3, [MONDAY], [item_with_acus(written)], FETCHED + timedelta(hours=hours))
    raw = oracle.table(SESSIONS_V3)
    assert [row["fetched_at"] for row in raw] == [FETCHED + timedelta(hours=h) for h in (0, 2, 3)]
    session = only(oracle.table("sessions"))
    assert (session["versions"], session["first_seen_at"]) == (3, FETCHED)
    assert session["last_changed_at"] == FETCHED + timedelta(hours=3)


def test_a_session_that_vanished_keeps_counting_unlisted_and_may_come_back() -> None:
    oracle = read(item(acus_consumed=2))
    for _ in range(2):
        oracle.observe(SESSIONS_V3, [MONDAY], [], LATER)
    tombstone = oracle.table(SESSIONS_V3)[1]
    assert (tombstone["is_listed"], tombstone["payload"], tombstone["content_hash"]) == (False, None, None)
    assert only(oracle.table("acu_daily"))["acus"] == Decimal("2.000000")
    assert only(oracle.table("sessions"))["is_listed"] is False
    oracle.observe(SESSIONS_V3, [MONDAY], [item(acus_consumed=2)], LATER)
    assert [row["is_listed"] for row in oracle.table(SESSIONS_V3)] == [True, False, True]
    assert only(oracle.table("sessions"))["versions"] == 2


def test_a_read_of_another_day_or_feed_buries_nobody() -> None:
    oracle = read(item())
    oracle.observe(SESSIONS_V3, [TUESDAY], [], LATER)
    oracle.observe(INSIGHTS_V3, [MONDAY], [], LATER)
    assert len(oracle.table(SESSIONS_V3)) == 1


def test_of_a_repeated_id_the_newest_counts_and_on_a_tie_the_later() -> None:
    items = [item(title="old", updated_at=1), item(title="tie", updated_at=9), item(title="new", updated_at=9)]
    assert only(read(*items, item(title="never", updated_at=None)).table("sessions"))["title"] == "new"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("[]", "not an object"),
        (item(""), "session_id"),
        (item("devin-"), "session_id"),
        (item("x" * 201), "session_id"),
        (item(" x"), "session_id"),
        (item("x\n"), "session_id"),
        (item(created_at=True), "created_at"),
        (item(created_at="2025-12-01"), "created_at"),
        (item(created_at="2025-12-01T12:00:00"), "created_at"),
        (item(created_at=1575158400), "created_at"),
        (item(created_at=1765500000), "created_at"),
        (item(created_at=1764590400000), "created_at"),
        (item_with_acus("NaN"), "acus_consumed"),
        (item_with_acus("1e400"), "acus_consumed"),
        (item_with_acus("-0.1"), "acus_consumed"),
        (item_with_acus("-0.0000005"), "acus_consumed"),
        (item_with_acus("999999999.9999995"), "acus_consumed"),
        (item_with_acus("1000000000"), "acus_consumed"),
        (item_with_acus("true"), "acus_consumed"),
        (item_with_acus('"many"'), "acus_consumed"),
        (item_with_acus("{}"), "acus_consumed"),
    ],
)
def test_what_cannot_be_accepted_is_quarantined_once(payload: str, reason: str) -> None:
    oracle = read(payload, payload)
    oracle.observe(SESSIONS_V3, [MONDAY], [payload], LATER)
    row = only(oracle.table("raw_quarantine"))
    assert (row["reason"], row["day"], row["feed"], row["fetched_at"]) == (reason, MONDAY, SESSIONS_V3, FETCHED)
    assert oracle.table("sessions") == []


def test_a_quarantined_item_keeps_its_session_listed() -> None:
    oracle = read(item())
    oracle.observe(SESSIONS_V3, [MONDAY], [item(acus_consumed=-1)], LATER)
    assert only(oracle.table("sessions"))["is_listed"] is True


@pytest.mark.parametrize(
    ("sent", "acus"),
    [
        ("0.0000005", "0.000001"),
        ("2.5e-6", "0.000003"),
        ("-4.44e-16", "0.000000"),
        ('"25.5"', "25.500000"),
        ("7", "7.000000"),
        ("null", None),
    ],
)
def test_acus_are_read_from_their_text(sent: str, acus: str | None) -> None:
    found = only(read(item_with_acus(sent)).table("sessions"))["acus"]
    assert str(found) == str(acus)


def test_each_field_comes_from_the_first_feed_that_carries_it() -> None:
    oracle = Oracle()
    v2 = {"created_at": "2025-12-01T12:00:00Z", "session_analysis": {"issues": []}}
    newest = item("devin-a", **v2, status="running", updated_at="2025-12-02T00:00:01Z", initial_user_message="hi")
    oracle.observe(INSIGHTS_V2, [MONDAY], [newest], FETCHED)
    insights: dict[str, object] = {
        "origin": None,
        "status_detail": "finished",
        "analysis": {},
        "acus_consumed": 9,
        "session_size": "s",
    }
    oracle.observe(INSIGHTS_V3, [MONDAY], [item(**insights, updated_at=1764633600)], FETCHED)
    oracle.observe(SESSIONS_V3, [MONDAY], [item(origin="slack", updated_at=1764633600)], FETCHED)
    session = only(oracle.table("sessions"))
    assert session["session_id"] == "a"
    assert session["acus"] is None, "v2 is the newest, and does not know"
    assert session["origin"] is None, "of two v3 versions equally new, insights comes first, its null included"
    assert (session["status_detail"], session["state"]) == (None, "running"), "the detail is older than the status"
    assert (session["has_analysis"], session["session_size"], session["initial_user_message"]) == (True, "s", "hi")
    assert session["feeds"] == [INSIGHTS_V2, INSIGHTS_V3, SESSIONS_V3]


@pytest.mark.parametrize(
    ("feed", "fields", "has_analysis"),
    [
        (SESSIONS_V3, {"analysis": {"issues": []}}, None),
        (INSIGHTS_V3, {"analysis": {"issues": []}}, True),
        (INSIGHTS_V3, {"analysis": {}}, False),
        (INSIGHTS_V2, {"session_analysis": None}, False),
        (INSIGHTS_V2, {}, False),
    ],
)
def test_an_analysis_is_present_absent_or_unknown(
    feed: str, fields: dict[str, object], has_analysis: bool | None
) -> None:
    assert only(read(item(**fields), feed=feed).table("sessions"))["has_analysis"] is has_analysis


def test_a_field_of_another_type_costs_only_itself() -> None:
    fields = {"title": 5, "tags": ["x", None, 1, True], "is_archived": "yes", "org_id": {"a": [1, None]}}
    session = only(read(item(**fields, pull_requests=None, child_session_ids=["devin-b", None])).table("sessions"))
    assert (session["title"], session["tags"], session["is_archived"]) == ("5", ["x", "1", "true"], None)
    assert (session["org_id"], session["child_session_ids"]) == ('{"a":[1,null]}', ["b"])


def test_states() -> None:
    pairs = [("exit", None), ("running", "finished"), ("suspended", "waiting_for_user"), ("claimed", "working")]
    assert [state_of(*pair) for pair in pairs] == ["finished", "finished", "waiting", "running"]
    pairs = [("suspended", "inactivity"), ("error", None), ("creating", None)]
    assert [state_of(*pair) for pair in pairs] == ["suspended", "error", "other:creating"]
    assert state_of(None, None) == "other:"


@pytest.mark.parametrize(
    ("sent", "url", "host", "repository", "number"),
    [
        ("HTTPS://GitHub.com/O/r/pull/7/files/?w=1#x", "HTTPS://GitHub.com/O/r/pull/7", "github.com", "o/r", 7),
        ("https://gl.io:8/g/s/-/merge_requests/3/diffs", "https://gl.io:8/g/s/-/merge_requests/3", "gl.io:8", "g/s", 3),
        ("https://gl.io/g/n/merge_requests/3/", "https://gl.io/g/n/merge_requests/3", "gl.io", "g/n", 3),
        ("https://bb.org/o/r/pull-requests/4/commits", "https://bb.org/o/r/pull-requests/4", "bb.org", "o/r", 4),
        ("https://github.com/pull/pull/pulls/5", "https://github.com/pull/pull/pulls/5", "github.com", "pull/pull", 5),
        ("https://x.visualstudio.com/_git/R/pullrequest/6", "https://x.visualstudio.com/_git/R/pullrequest/6",
         "dev.azure.com", "x/r/r", 6),
        ("https://bb.io/users/J/repos/r/pull-requests/6", "https://bb.io/users/J/repos/r/pull-requests/6",
         "bb.io", "~j/r", 6),
        ("https://github.com/o/r/pull/new", "https://github.com/o/r/pull/new", "github.com", None, None),
        ("o/r#5", "o/r", None, None, None),
    ],
)  # fmt: skip
def test_urls(sent: str, url: str, host: str | None, repository: str | None, number: int | None) -> None:
    assert parts_of_url(sent) == (url, host, repository, number)


def test_pull_requests_in_four_shapes_keep_their_places() -> None:
    url = "https://github.com/o/r/pull/1"
    shapes: list[object] = [{"url": url, "state": "Open"}, {"pr_url": url, "pr_state": "MERGED"}, None]
    shapes += [{"pr_url": url, "pr_state": "closed", "state": "open"}, {"pr_url": url, "state": "draft"}, {}]
    oracle = read(item(pull_requests=shapes, acus_consumed=1))
    rows = oracle.table("session_pull_requests")
    assert [(row["ordinal"], row["state"]) for row in rows] == [
        (0, "open"), (1, "merged"), (3, "closed"), (4, "draft"), (5, None)
    ]  # fmt: skip
    cell = only(oracle.table("acu_daily"))
    assert (cell["pull_request_links"], cell["merged_pull_request_links"]) == (5, 1)
    assert (only(oracle.table("pull_requests"))["state"], only(oracle.table("pull_requests"))["sessions"]) == (
        "draft",
        1,
    )
    shares = {row["repository"]: row["acus_split"] for row in oracle.table("acu_daily_by_repository")}
    assert shares == {"o/r": Decimal("0.5"), "(none)": Decimal("0.5")}


def test_the_parts_of_an_analysis() -> None:
    prompt = {"original_prompt": "fix", "suggested_prompt": "fix x", "feedback_items": [{"summary": "vague"}, 3]}
    parts = {"issues": [{"id": "i1", "issue": "no key"}] * 2, "action_items": [{}], "timeline": {"title": "no array"}}
    oracle = read(item(session_analysis=parts | {"suggested_prompt": prompt}), feed=INSIGHTS_V2)
    assert [row["ordinal"] for row in oracle.table("session_issues")] == [0, 1]
    assert only(oracle.table("session_action_items"))["type"] is None
    assert oracle.table("session_timeline") == []
    assert only(oracle.table("prompt_feedback"))["summary"] == "vague"
    assert only(oracle.table("prompt_suggestions"))["feedback_items"] == 1
    empty = read(item(session_analysis={"suggested_prompt": {}}), feed=INSIGHTS_V2)
    assert empty.table("prompt_suggestions") == []
    assert only(empty.table("acu_daily"))["analysed_sessions"] == 1


def test_shares_are_cut_and_the_first_tag_takes_the_rest() -> None:
    oracle = read(item(tags=["c", "a", "b", "a"], acus_consumed=1), item("b", tags=[], acus_consumed=None))
    rows = {row["tag"]: row for row in oracle.table("acu_daily_by_tag")}
    assert {tag: str(row["acus_split"]) for tag, row in rows.items()} == {
        "c": "0.333334", "a": "0.333333", "b": "0.333333", "(untagged)": "None"
    }  # fmt: skip
    assert (rows["a"]["acus_touching"], rows["a"]["sessions"]) == (Decimal(1), 1)


def test_unknown_acus_are_counted_and_never_nought() -> None:
    oracle = read(item("a"), item("b"), item("c", org_id="org-2", acus_consumed=0), item("d", org_id="org-2"))
    cells = {row["org_id"]: (row["acus"], row["sessions_with_unknown_acus"]) for row in oracle.table("acu_weekly")}
    assert cells == {"org-1": (None, 2), "org-2": (Decimal(0), 1)}


def test_weeks_start_on_monday_and_months_on_the_first() -> None:
    sunday = int(datetime(2025, 12, 8, 7, 59, tzinfo=UTC).timestamp())
    oracle = read(item(created_at=sunday), day=date(2025, 12, 7))
    assert only(oracle.table("acu_weekly"))["week"] == MONDAY
    assert only(oracle.table("acu_monthly"))["month"] == MONDAY


def test_a_pull_request_counts_once_in_the_week_and_organization_that_opened_it() -> None:
    oracle = Oracle()
    one, two = pull_request(1), pull_request(2, "merged")
    next_monday, a_week = MONDAY + timedelta(days=7), 7 * 86400
    first = item("a", pull_requests=[one, two], acus_consumed=1, updated_at=1)
    again = item("b", org_id="org-2", pull_requests=[one | {"pr_state": "merged"}], acus_consumed=4, updated_at=2)
    again = again.replace(str(NOON_OF_MONDAY), str(NOON_OF_MONDAY + a_week))
    oracle.observe(SESSIONS_V3, [MONDAY, next_monday], [first, again, item("c", acus_consumed=6)], FETCHED)
    by_url = {row["url"]: row for row in oracle.table("pull_requests")}
    shared = by_url["https://github.com/o/r/pull/1"]
    assert (shared["state"], shared["sessions"], shared["acus"]) == ("merged", 2, Decimal("4.5"))
    assert (shared["first_session_id"], shared["first_day"], shared["repository"]) == ("a", MONDAY, "o/r")
    weeks = {row["week"]: row for row in oracle.table("acus_per_merged_pull_request")}
    assert weeks[MONDAY] == {
        "week": MONDAY,
        "org_id": "org-1",
        "acus": Decimal(7),
        "merged_pull_requests": 2,
        "acus_per_merged_pull_request": Decimal("3.5"),
        "acus_of_merging_sessions": Decimal(1),
    }
    later = weeks[next_monday]
    assert (later["merged_pull_requests"], later["acus_per_merged_pull_request"]) == (0, None)
    assert (later["org_id"], later["acus_of_merging_sessions"]) == ("org-2", Decimal(4))


def test_the_ratio_is_rounded_half_away_from_zero() -> None:
    merged = [pull_request(n, "merged") for n in range(8)]
    row = only(read(item(pull_requests=merged, acus_consumed="0.000004")).table("acus_per_merged_pull_request"))
    assert str(row["acus_per_merged_pull_request"]) == "0.000001"


def test_instants_of_both_versions_meet() -> None:
    expected = datetime(2024, 12, 5, 8, 0, 0, 123456, tzinfo=UTC)
    for sent in ("2024-12-05T08:00:00.1234567Z", "2024-12-05T09:00:00.123456+01:00", "1733385600.123456"):
        assert instant(sent) == expected
    for sent in ("2024-12-05T24:00:00Z", "2024-12-05T08:00:60Z", "20241205T080000Z", "0001-01-01T00:00:00+05:00"):
        assert instant(sent) is None


def test_items_that_say_the_same_hash_the_same() -> None:
    assert content_hash(read_json('{"a": 100, "b": -0.0}')) == content_hash(read_json('{"b":0,"a":1.00e2}'))
    assert content_hash(read_json('{"a": 1}')) != content_hash(read_json('{"a": true}'))
    assert content_hash(read_json('{"a": 1}')) != content_hash(read_json('{"a": "1"}'))


def test_text_is_kept_and_lone_surrogates_are_marked() -> None:
    assert text(read_json('"\\ud800x\\ud83d\\ude00"')) == "\ufffdx\U0001f600"
    assert text(read_json("1.50")) == "1.50"
    assert text(read_json("NaN")) is None
