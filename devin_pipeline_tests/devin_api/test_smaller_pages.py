"""A page that cannot be read is asked for in smaller ones; what cannot be read even alone is named, the rest kept."""

import gzip
import json
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler

import pytest

from devin_pipeline.devin_api import DevinClient, Feed, InvalidResponse, RateLimited, Refused, SessionBatch, Unreachable
from devin_pipeline.devin_api.endpoints import SESSION_INSIGHTS_V2, SESSION_INSIGHTS_V3, SESSIONS_V3
from devin_pipeline_tests.devin_api.scripted import (
    V2_KEY,
    V3_KEY,
    Asked,
    Reply,
    Script,
    Session,
    client_of,
    cut_short,
    days,
    honest_v2,
    honest_v3,
    instant,
    json_reply,
    page_v2,
    read_all,
    reset,
    serving,
    sessions,
)

pytestmark = pytest.mark.notices(
    "what lies at the end of a narrower window",
    "narrower windows that hold less than their window states",
    "unread items behind one of their second",
)

DAY = days(1)
V2: Feed = SESSION_INSIGHTS_V2
V3: Feed = SESSIONS_V3
FEEDS: list[Feed] = [V2, V3, SESSION_INSIGHTS_V3]
TOO_LARGE = gzip.compress(b'{"items": [' + b" " * (65 * 2**20), compresslevel=1)

FAULTS = {
    "500": Reply(status=500),
    "504": Reply(status=504),
    "reset": Reply(instead=reset),
    "cut short": Reply(instead=cut_short(b"x" * 100)),
    "truncated JSON": Reply(b'{"items": [{"session_id": "'),
    "nested too deeply": Reply(b'{"items": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}"),
    "not UTF-8": Reply(b'{"items": [{"session_id": "\xe4"}]}'),
    "too large": Reply(TOO_LARGE, headers={"Content-Encoding": "gzip"}),
    "an error instead of a page": json_reply({"detail": "oops"}),
}


def honest(feed: Feed, every: Sequence[Session], asked: Asked) -> Reply:
    if feed == V2:
        return honest_v2(every, asked)
    return honest_v3(every, asked, with_total=feed != V3)


def fails_with(
    feed: Feed, every: Sequence[Session], bad: Collection[str], fault: Reply = FAULTS["500"]
) -> Callable[[Asked], Reply]:
    """A server that fails on every page that holds one of these sessions."""

    def script(asked: Asked) -> Reply:
        reply = honest(feed, every, asked)
        held = {item["session_id"] for item in json.loads(reply.body)["items"]}
        return fault if held & set(bad) else reply

    return script


def read(feed: Feed, script: Script, *, over: int = 1) -> tuple[SessionBatch, list[Asked]]:
    with serving(script) as served, client_of(served) as client:
        return read_all(client, feed, days(over)), served.asked


def made(feed: Feed, count: int, over: int = 1) -> list[Session]:
    return sessions(count, days(over), "v2" if feed == V2 else "v3")


def ids(batch: SessionBatch) -> set[str]:
    return {item.session_id for item in batch.items if item.session_id is not None}


def names(every: Sequence[Session]) -> set[str]:
    return {str(session["session_id"]) for session in every}


def unread(batch: SessionBatch) -> list[str]:
    """Why each item without content is one."""
    items = [item for item in batch.items if not item.payload]
    assert all(item.session_id is None and item.acus is None and len(item.content_hash) == 64 for item in items)
    return [str(item.rejection_reason) for item in items]


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_one_item_on_which_the_server_fails_is_named_and_all_others_are_read(feed: Feed, fault: str) -> None:
    every = made(feed, 200)
    batch, asked = read(feed, fails_with(feed, every, ["s77"], FAULTS[fault]))
    assert (batch.failures, batch.windows) == ({}, DAY)
    assert ids(batch) == names(every) - {"s77"}
    (why,) = unread(batch)
    if feed == V2:
        assert why.startswith(f"{V2.name}, created 2025-03-01T08:00:00Z to 2025-03-02T08:00:00Z, position 122: ")
    else:
        # Down to the second, and the one after it, which is asked for with it.
        at = instant(next(session for session in every if session["session_id"] == "s77"))
        start, end = (f"{at + timedelta(seconds=n):%Y-%m-%dT%H:%M:%SZ}" for n in (0, 2))
        assert why.startswith(f"{feed.name}, created {start} to {end}, position 0: ")
    assert len(asked) < (60 if feed == V2 else 220)


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize(
    "bad", [["s0"], ["s449"], ["s250"], ["s251"], ["s449", "s0"], ["s100", "s101", "s102", "s300"]]
)
def test_wherever_it_is_and_however_many_there_are(feed: Feed, bad: list[str]) -> None:
    every = made(feed, 450)
    batch, _ = read(feed, fails_with(feed, every, bad))
    assert batch.failures == {}
    assert ids(batch) == names(every) - set(bad)
    assert len(unread(batch)) == len(bad)
    assert len(batch.items) == 450


@pytest.mark.parametrize("feed", FEEDS)
def test_a_day_of_one_session_that_cannot_be_read_is_read_without_it(feed: Feed) -> None:
    every = made(feed, 1)
    batch, _ = read(feed, fails_with(feed, every, ["s0"]))
    assert (batch.failures, len(unread(batch)), len(batch.items)) == ({}, 1, 1)


@pytest.mark.notices("smaller pages of several windows")
@pytest.mark.parametrize("feed", FEEDS)
def test_of_several_days_only_the_one_with_the_item_is_asked_for_in_smaller_pages(feed: Feed) -> None:
    every = made(feed, 300, over=10)
    batch, asked = read(feed, fails_with(feed, every, ["s77"]), over=10)
    assert batch.failures == {}
    assert ids(batch) == names(every) - {"s77"}
    (item,) = (item for item in batch.items if not item.payload)
    day = days(10)[2]
    assert item.created_at is not None
    assert day.start <= item.created_at < day.end
    small = [one for one in asked if (one.one("limit") or one.one("first")) != "200"]
    for one in small:
        start = one.one("created_date_from") or one.one("created_after")
        at = datetime.fromisoformat(start).timestamp() if feed == V2 else int(start)
        assert day.start.timestamp() <= at < day.end.timestamp()


@pytest.mark.parametrize("feed", FEEDS)
def test_seven_sessions_that_are_too_large_together_are_all_read(feed: Feed) -> None:
    every = [{**session, "initial_user_message": "x" * 10 * 2**20} for session in made(feed, 7)]
    batch, asked = read(feed, partial(honest, feed, every))
    assert batch.failures == {}
    assert ids(batch) == names(every)
    assert unread(batch) == []
    # No page of them twice: that it is too large is certain at once.
    assert len(asked) <= 10


@pytest.mark.parametrize("feed", FEEDS)
def test_pages_that_are_too_slow_are_asked_for_in_smaller_ones(feed: Feed) -> None:
    every = made(feed, 450)

    def slow(asked: Asked) -> Reply:
        reply = honest(feed, every, asked)
        if len(json.loads(reply.body)["items"]) <= 25:
            return reply

        def late(handler: BaseHTTPRequestHandler) -> None:
            time.sleep(3)

        return Reply(instead=late)

    with (
        serving(slow) as served,
        DevinClient(
            base_url=served.url, v2_key=V2_KEY, v3_key=V3_KEY, timeout_seconds=0.3, sleep=lambda _: None
        ) as client,
    ):
        batch = read_all(client, feed, DAY)
    assert batch.failures == {}
    assert ids(batch) == names(every)
    assert unread(batch) == []


@pytest.mark.parametrize("feed", FEEDS)
def test_a_place_that_cannot_be_read_is_named_alike_each_time_and_once_it_can_be_is_read(feed: Feed) -> None:
    every = made(feed, 200)
    first, _ = read(feed, fails_with(feed, every, ["s77"]))
    again, _ = read(feed, fails_with(feed, every, ["s77"], FAULTS["truncated JSON"]))
    other, _ = read(feed, fails_with(feed, every, ["s78"]))
    hashes = [next(item.content_hash for item in each.items if not item.payload) for each in (first, again, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    whole, asked = read(feed, partial(honest, feed, every))
    assert ids(whole) == names(every)
    assert (unread(whole), len(asked)) == ([], 1)


def test_v3_items_behind_an_unreadable_one_of_their_second_are_counted_by_the_total() -> None:
    feed: Feed = SESSION_INSIGHTS_V3
    every = made(feed, 200)
    at = every[50]["created_at"]
    every[51:51] = [{**every[50], "session_id": name} for name in ("before", "bad", "behind", "behind too")]
    batch, _ = read(feed, fails_with(feed, every, ["bad"]))
    assert batch.failures == {}
    assert ids(batch) == names(every) - {"bad", "behind", "behind too"}
    assert len(unread(batch)) == 3
    assert len({item.content_hash for item in batch.items if not item.payload}) == 3
    assert {int(item.created_at.timestamp()) for item in batch.items if not item.payload and item.created_at} == {at}


@pytest.mark.parametrize("feed", FEEDS)
def test_where_no_smaller_page_gets_through_either_the_day_fails_after_a_few_more_requests(feed: Feed) -> None:
    batch, asked = read(feed, lambda asked: Reply(status=500))
    assert isinstance(batch.failures[DAY[0]], Unreachable)
    assert len(asked) == 6 + 3


@pytest.mark.notices("smaller pages of a server that is down")
@pytest.mark.parametrize("feed", FEEDS)
def test_a_server_that_is_down_is_asked_no_more_for_smaller_pages_after_the_first_day(feed: Feed) -> None:
    batch, asked = read(feed, lambda asked: Reply(status=500), over=60)
    assert sorted(batch.failures) == days(60)
    small = [one for one in asked if (one.one("limit") or one.one("first")) != "200"]
    assert len(small) == 3
    assert len(asked) <= 6 * (1 + 3 * 8)


@pytest.mark.notices("each item asked for of a server that went down")
@pytest.mark.parametrize("feed", FEEDS)
def test_a_server_that_goes_down_among_the_smaller_pages_is_not_asked_once_for_each_item(feed: Feed) -> None:
    every = made(feed, 200)
    fails = fails_with(feed, every, ["s77"])

    def goes_down(asked: Asked) -> Reply:
        return fails(asked) if asked.number < 10 else Reply(status=500)

    batch, asked = read(feed, goes_down)
    assert isinstance(batch.failures[DAY[0]], Unreachable)
    assert "DEVIN_API_URL" not in str(batch.failures[DAY[0]])
    assert batch.items == []
    assert len(asked) <= 10 + 6 * 20


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("bad", ["s20", "s77", "s199"])
def test_a_refusal_among_the_smaller_pages_is_one(feed: Feed, bad: str) -> None:
    fails = fails_with(feed, made(feed, 200), [bad])
    with (
        serving(lambda asked: fails(asked) if asked.number < 12 else Reply(status=401)) as served,
        client_of(served) as client,
        pytest.raises(Refused),
    ):
        read_all(client, feed, DAY)
    assert len(served.asked) == 12


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("after", [0, 8, 12])
def test_a_rate_limit_is_never_answered_by_smaller_pages(feed: Feed, after: int) -> None:
    fails = fails_with(feed, made(feed, 200), ["s77"])
    busy = Reply(status=429, headers={"Retry-After": "86400"})
    batch, asked = read(feed, lambda asked: fails(asked) if asked.number <= after else busy)
    assert isinstance(batch.failures[DAY[0]], RateLimited)
    assert len(asked) == after + 1


@pytest.mark.notices("smaller pages where a pause is asked for")
def test_a_server_that_asks_for_a_pause_is_not_asked_for_smaller_pages() -> None:
    batch, asked = read(V3, lambda asked: Reply(status=503, headers={"Retry-After": "1"}))
    assert isinstance(batch.failures[DAY[0]], Unreachable)
    assert {one.one("first") for one in asked} == {"200"}


@pytest.mark.parametrize("most", [1, 2, 10, 100])
def test_v2_smaller_pages_step_by_the_limit_the_server_returns(most: int) -> None:
    every = made(V2, 60)

    def clamps(asked: Asked) -> Reply:
        skip, limit = int(asked.one("skip")), min(most, int(asked.one("limit")))
        page = every[skip : skip + limit]
        bad = any(session["session_id"] == "s7" for session in page)
        return Reply(status=500) if bad else page_v2(page, skip=skip, limit=limit, total=len(every))

    batch, _ = read(V2, clamps)
    assert batch.failures == {}
    assert ids(batch) == names(every) - {"s7"}
    assert len(unread(batch)) == 1


@pytest.mark.notices("pieces of a page that contradict one another")
@pytest.mark.parametrize("moved", ["deleted", "deleted and another added", "added"])
def test_v2_a_pass_whose_smaller_pages_saw_a_session_move_does_not_count(moved: str) -> None:
    every = made(V2, 300)
    after = list(every)
    if moved != "added":
        del after[110]
    if moved != "deleted":
        after.append({**after[-1], "session_id": "new"})
    seen: list[str] = []

    def script(asked: Asked) -> Reply:
        if asked.one("limit") == "25" and int(asked.one("skip")) > 115 and not seen:
            seen.append("moves")
        return fails_with(V2, after if seen else every, ["s249"])(asked)

    batch, _ = read(V2, script)
    assert seen
    assert batch.failures == {}
    assert ids(batch) == names(after) - {"s249"}
    assert len(unread(batch)) == 1


def test_v2_smaller_pages_that_start_elsewhere_than_asked_do_not_count() -> None:
    every = made(V2, 200)

    def ignores(asked: Asked) -> Reply:
        if asked.one("limit") == "25":
            return page_v2(every[:25], skip=0, limit=25, total=200)
        return fails_with(V2, every, ["s77"])(asked)

    batch, _ = read(V2, ignores)
    assert isinstance(batch.failures[DAY[0]], InvalidResponse)


def test_v3_a_day_whose_narrower_windows_hold_less_than_it_states_fails() -> None:
    feed: Feed = SESSION_INSIGHTS_V3
    every = made(feed, 200)

    def hides(asked: Asked) -> Reply:
        is_day = int(asked.one("created_before")) - int(asked.one("created_after")) == 86_400
        return fails_with(feed, every, ["s77"])(asked) if is_day else honest(feed, every[:100], asked)

    batch, _ = read(feed, hides)
    assert list(batch.failures) == DAY
    assert batch.items == []


def test_v3_a_server_that_takes_no_bounds_within_a_day_fails_that_day() -> None:
    every = made(V3, 200)
    whole = {
        "created_after": [str(int(DAY[0].start.timestamp()))],
        "created_before": [str(int(DAY[0].end.timestamp()))],
    }

    def whole_days_only(asked: Asked) -> Reply:
        if int(asked.one("created_before")) - int(asked.one("created_after")) == 86_400:
            return fails_with(V3, every, ["s77"])(asked)
        others = [session for session in every if session["session_id"] != "s77"]
        return honest(V3, others, Asked(asked.number, asked.path, {**asked.query, **whole}, asked.headers))

    batch, _ = read(V3, whole_days_only)
    assert list(batch.failures) == DAY
    assert batch.items == []


@pytest.mark.parametrize(
    ("includes_start", "includes_end"), [(True, False), (False, False), (False, True), (True, True)]
)
def test_v3_whichever_side_a_bound_belongs_to_every_other_second_is_read(
    includes_start: bool, includes_end: bool
) -> None:
    start = int(DAY[0].start.timestamp())
    every = [{**one, "created_at": start + 40_000 - place} for place, one in enumerate(made(V3, 60))]
    fails = fails_with(V3, every, ["s33"])

    def serve(asked: Asked) -> Reply:
        after, before = int(asked.one("created_after")), int(asked.one("created_before"))
        query = {
            **asked.query,
            "created_after": [str(after if includes_start else after + 1)],
            "created_before": [str(before + 1 if includes_end else before)],
        }
        return fails(Asked(asked.number, asked.path, query, asked.headers))

    batch, _ = read(V3, serve)
    assert batch.failures == {}
    assert ids(batch) == names(every) - {"s33"}
    assert len(unread(batch)) == 1


@pytest.mark.parametrize("feed", FEEDS)
def test_updates_are_listed_though_a_page_of_them_is_too_large(feed: Feed) -> None:
    every = [{**session, "title": "x" * 10 * 2**20} for session in made(feed, 8)]
    with serving(partial(honest, feed, every)) as served, client_of(served) as client:
        updated = client.updated_in(feed, DAY[0], max_pages=20, deadline_seconds=45)
    assert {item.session_id for item in updated.items} == names(every)
    assert updated.complete


@pytest.mark.parametrize("feed", FEEDS)
def test_updates_are_listed_without_the_one_that_cannot_be_read(feed: Feed) -> None:
    every = made(feed, 200)
    with serving(fails_with(feed, every, ["s77"])) as served, client_of(served) as client:
        updated = client.updated_in(feed, DAY[0], max_pages=20, deadline_seconds=45)
    assert {item.session_id for item in updated.items} == names(every) - {"s77"}
    assert updated.complete


@pytest.mark.parametrize("feed", FEEDS)
def test_a_first_page_that_is_too_large_is_asked_for_smaller(feed: Feed) -> None:
    every = [{**session, "title": "x" * 10 * 2**20} for session in made(feed, 8)]
    with serving(partial(honest, feed, every)) as served, client_of(served) as client:
        page = client.first_page(feed, DAY[0], size=200, deadline_seconds=20)
    assert len(page.items) == 3
    assert page.more
