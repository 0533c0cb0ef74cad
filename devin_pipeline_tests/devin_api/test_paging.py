import math
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from devin_pipeline.devin_api import Feed, InvalidResponse, Limits, SessionBatch, Window
from devin_pipeline.devin_api.batches import PAGES_PER_BATCH
from devin_pipeline.devin_api.endpoints import SESSION_INSIGHTS_V2, SESSION_INSIGHTS_V3, SESSIONS_V3
from devin_pipeline.devin_api.errors import NoProgress
from devin_pipeline.devin_api.paging import OFFSET_PASSES, PAGE_SIZE
from devin_pipeline_tests.devin_api.scripted import (
    START,
    Asked,
    Reply,
    Script,
    Session,
    client_of,
    days,
    honest_v2,
    honest_v3,
    instant,
    json_reply,
    page_v2,
    page_v3,
    read_all,
    serving,
    sessions,
)

pytestmark = pytest.mark.notices("sessions of deleted organizations", "the size of a batch")

DAY = days(1)


def read(
    feed: Feed, over: list[Window], script: Script, *, limits: Limits | None = None
) -> tuple[SessionBatch, list[Asked]]:
    with serving(script) as served, client_of(served, limits=limits) as client:
        return read_all(client, feed, over), served.asked


def served_honestly(feed: Feed, count: int, over: list[Window]) -> tuple[list[Session], Script]:
    """So many sessions, evenly spread, and a server that keeps every promise about them."""
    kind = "v2" if feed.paging == "offset" else "v3"
    every = sessions(count, over, kind)
    return every, partial(honest_v2 if kind == "v2" else honest_v3, every)


def ids(batch: SessionBatch) -> list[str]:
    return sorted(str(item.session_id) for item in batch.items)


def names(every: list[Session]) -> list[str]:
    return sorted(str(session["session_id"]) for session in every)


def test_v2_reads_every_page_once_when_nothing_moves() -> None:
    over = days(3)
    every = sessions(950, over, "v2")
    batch, asked = read(SESSION_INSIGHTS_V2, over, lambda asked: honest_v2(every, asked))
    assert ids(batch) == names(every)
    assert batch.failures == {}
    assert sorted(int(one.one("skip")) for one in asked) == [0, 199, 398, 597, 796]
    assert {one.path for one in asked} == {"/v2/enterprise/sessions/insights"}
    assert {(one.one("created_date_from"), one.one("created_date_to"), one.one("limit")) for one in asked} == {
        ("2025-03-01T08:00:00Z", "2025-03-04T08:00:00Z", "200")
    }
    assert (batch.requests, batch.pages, batch.retries) == (5, 5, 0)
    assert batch.bytes_read > 950 * 50


def test_v2_steps_by_the_limit_the_server_returns() -> None:
    every = sessions(450, DAY, "v2")

    def clamps(asked: Asked) -> Reply:
        skip = int(asked.one("skip"))
        return page_v2(every[skip : skip + 100], skip=skip, limit=100, total=len(every))

    batch, asked = read(SESSION_INSIGHTS_V2, DAY, clamps)
    assert ids(batch) == names(every)
    assert sorted(int(one.one("skip")) for one in asked) == [0, 99, 198, 297, 396]


@pytest.mark.parametrize(
    ("count", "skips"), [(199, [0]), (200, [0]), (201, [0, 199]), (399, [0, 199]), (400, [0, 199, 398])]
)
def test_v2_asks_for_the_last_session_of_a_page_again_and_for_no_page_without_a_new_one(
    count: int, skips: list[int]
) -> None:
    every = sessions(count, DAY, "v2")
    batch, asked = read(SESSION_INSIGHTS_V2, DAY, lambda asked: honest_v2(every, asked))
    assert ids(batch) == names(every)
    assert batch.duplicates == 0
    assert sorted(int(one.one("skip")) for one in asked) == skips


def test_v2_pages_of_one_session_follow_one_another() -> None:
    every = sessions(3, DAY, "v2")

    def one_by_one(asked: Asked) -> Reply:
        skip = int(asked.one("skip"))
        return page_v2(every[skip : skip + 1], skip=skip, limit=1, total=len(every))

    batch, asked = read(SESSION_INSIGHTS_V2, DAY, one_by_one)
    assert ids(batch) == names(every)
    assert len(asked) == 3


def test_v2_an_item_without_an_id_where_two_pages_meet_counts_once() -> None:
    nameless = {"created_at": "2025-03-01T12:00:00Z", "acus_consumed": 1}
    every = [*sessions(199, DAY, "v2"), nameless, *sessions(50, DAY, "v2")[::-1]]
    for number, session in enumerate(every[200:]):
        session["session_id"] = f"t{number}"
    batch, _ = read(SESSION_INSIGHTS_V2, DAY, lambda asked: page_of(every, asked))
    assert batch.failures == {}
    assert len(batch.items) == 250


def test_v2_an_empty_day_is_read_and_empty() -> None:
    batch, _ = read(SESSION_INSIGHTS_V2, DAY, lambda asked: page_v2([], total=0))
    assert (batch.items, batch.failures, batch.pages) == ([], {}, 1)


def new(session: Session) -> Session:
    return {**session, "session_id": "new"}


DRIFT: dict[str, Callable[[list[Session]], None]] = {
    "deleted": lambda every: every.__delitem__(0),
    "created": lambda every: every.insert(0, new(every[0])),
    # The listing is sorted by update: the last of it comes first, and a page's worth of others move.
    "updated": lambda every: every.insert(0, {**every.pop(), "updated_at": "2025-03-02T00:00:00Z", "acus_consumed": 9}),
    "deleted and created": lambda every: every.insert(0, new(every.pop())),
}


@pytest.mark.notices("v2 total unlike what came", "pages that contradict the first")
@pytest.mark.parametrize("drift", DRIFT)
@pytest.mark.parametrize("during", [1, 2, 3])
def test_v2_what_moves_between_pages_costs_a_pass_at_most_and_no_session(drift: str, during: int) -> None:
    every = sessions(450, DAY, "v2")
    before = list(every)

    def moves(asked: Asked) -> Reply:
        reply = honest_v2(list(every), asked)
        if asked.number == during:
            DRIFT[drift](every)
        return reply

    batch, asked = read(SESSION_INSIGHTS_V2, DAY, moves)
    assert batch.failures == {}
    assert len(asked) in (3, 6)
    # As it was before or after, never a mix; it can be as before only when all had been listed by then.
    read_as = {item.session_id: float(item.acus or 0) for item in batch.items}
    now, then = ({one["session_id"]: one["acus_consumed"] for one in state} for state in (every, before))
    assert read_as == now or (read_as == then and len(asked) == 3 and during > 1)


@pytest.mark.parametrize("drift", DRIFT)
def test_v3_what_moves_between_pages_costs_nobody_a_neighbour(drift: str) -> None:
    every = sessions(450, DAY, "v3")
    before = names(every)

    def moves(asked: Asked) -> Reply:
        # As v3's cursors do: a page starts behind a session, wherever that is by now.
        last = asked.one("after")
        start = next((n + 1 for n, one in enumerate(every) if one["session_id"] == last), 0)
        items = every[start : start + 200]
        more = start + 200 < len(every)
        reply = page_v3(items, cursor=str(items[-1]["session_id"]) if more else None, more=more)
        if asked.number == 2:
            DRIFT[drift](every)
        return reply

    batch, _ = read(SESSIONS_V3, DAY, moves)
    assert batch.failures == {}
    # Only the one that moved may be listed as it was, or not yet; the next read lists it.
    assert len(set(ids(batch)) ^ set(before)) <= 1
    assert len(ids(batch)) == len(set(ids(batch)))


@pytest.mark.parametrize("cursor", [-200, 0, 1, 199, 399, 10**9, "200", None, "missing"])
def test_v2_no_next_cursor_misleads(cursor: object) -> None:
    every = sessions(450, DAY, "v2")
    extra = {} if cursor == "missing" else {"next_cursor": cursor}
    batch, asked = read(SESSION_INSIGHTS_V2, DAY, lambda asked: page_of(every, asked, **extra))
    assert ids(batch) == names(every)
    assert len(asked) == 3


@pytest.mark.parametrize("feed", [SESSION_INSIGHTS_V2, SESSIONS_V3])
def test_pages_fuller_or_emptier_than_asked_for_cost_no_session(feed: Feed) -> None:
    every = sessions(450, DAY, "v2" if feed == SESSION_INSIGHTS_V2 else "v3")
    sizes = [250, 30, 170]

    def uneven(asked: Asked) -> Reply:
        # v2 lists more than its limit, so that pages overlap; v3 as much as it likes.
        if feed == SESSION_INSIGHTS_V2:
            skip = int(asked.one("skip"))
            return page_v2(every[skip : skip + 250], skip=skip, total=len(every))
        page = int(asked.one("after", "0"))
        start = sum(sizes[:page])
        more = page < 2
        return page_v3(every[start : start + sizes[page]], cursor=str(page + 1) if more else None, more=more)

    batch, asked = read(feed, DAY, uneven)
    assert ids(batch) == names(every)
    assert len(asked) == 3
    assert batch.failures == {}


def test_a_page_of_50_megabytes_is_read() -> None:
    every = [{**session, "title": "x" * 250_000} for session in sessions(200, DAY, "v3")]
    batch, _ = read(SESSIONS_V3, DAY, lambda asked: page_v3(every))
    assert ids(batch) == names(every)
    assert batch.bytes_read > 50 * 10**6


def test_v2_a_deletion_and_a_creation_that_cancel_out_in_the_total_cost_a_pass_and_no_session() -> None:
    every = sessions(450, DAY, "v2")

    def cancels_out(asked: Asked) -> Reply:
        reply = honest_v2(every, asked)
        if asked.number == 1:
            del every[0]
            every.insert(300, {**every[300], "session_id": "new"})
        return reply

    batch, _ = read(SESSION_INSIGHTS_V2, DAY, cancels_out)
    assert ids(batch) == names(every)
    assert batch.pages == 6


@pytest.mark.notices("sessions that move between pages behind an unchanged total")
def test_v2_shifts_that_cancel_out_in_total_and_distinct_sessions_cost_a_pass_and_no_session() -> None:
    every = sessions(450, DAY, "v2")
    new = [{**every[300], "session_id": f"new{number}"} for number in range(3)]
    # Two go and two come later: the second page begins two further. Then one comes early and one goes late: the third
    # page begins one earlier, and lists again what makes up for the session lost between the first and the second.
    moved = [*every[2:300], *new[:2], *every[300:]]
    moved_again = [new[2], *moved[:-1]]

    def moves(asked: Asked) -> Reply:
        at_first = {"0": every, "199": moved} if asked.number <= 3 else {}
        return honest_v2(at_first.get(asked.one("skip"), moved_again), asked)

    batch, _ = read(SESSION_INSIGHTS_V2, DAY, moves)
    assert ids(batch) == names(moved_again)
    assert batch.pages == 6


def page_of(every: list[Session], asked: Asked, **changes: object) -> Reply:
    skip = int(asked.one("skip"))
    page: dict[str, object] = {"items": every[skip : skip + 200], "total": len(every), "skip": skip, "limit": 200}
    return json_reply({**page, "has_more": skip + 200 < len(every), **changes})


NEVER_WHOLE: dict[str, Callable[[list[Session], Asked], Reply]] = {
    "the total is larger than what comes": lambda every, asked: page_of(every, asked, total=451),
    "the total grows with each response": lambda every, asked: page_of(every, asked, total=450 + asked.number),
    "the last page says more": lambda every, asked: page_of(every, asked, has_more=True),
    "skip is ignored": lambda every, asked: page_of(every, asked, skip=0, items=every[:200]),
    "skip is echoed but ignored": lambda every, asked: page_of(every, asked, items=every[:200]),
    "one page is empty": lambda every, asked: page_of([] if asked.one("skip") == "199" else every, asked, total=450),
}


@pytest.mark.notices("a last page that says more follow")
@pytest.mark.parametrize("oddity", [{"total": 451}, {"skip": 0}, {"limit": 100}, {"has_more": True}])
def test_v2_a_page_at_odds_with_the_first_costs_a_pass_even_if_no_session_is_missing(oddity: dict[str, object]) -> None:
    every = sessions(450, DAY, "v2")
    odd: list[Asked] = []

    def contradicts_once(asked: Asked) -> Reply:
        if asked.one("skip") == "398" and not odd:
            odd.append(asked)
            return page_of(every, asked, **oddity)
        return page_of(every, asked)

    batch, asked = read(SESSION_INSIGHTS_V2, DAY, contradicts_once)
    assert ids(batch) == names(every)
    assert len(asked) == 6


@pytest.mark.notices("an offset that is ignored")
@pytest.mark.parametrize("fault", NEVER_WHOLE)
def test_v2_pages_that_never_agree_fail_after_eight_passes(fault: str) -> None:
    every = sessions(450, DAY, "v2")
    batch, asked = read(SESSION_INSIGHTS_V2, DAY, lambda asked: NEVER_WHOLE[fault](every, asked))
    assert batch.items == []
    assert list(batch.failures) == DAY
    assert isinstance(batch.failures[DAY[0]], InvalidResponse)
    assert "never agreed" in str(batch.failures[DAY[0]])
    assert ("starts elsewhere" in str(batch.failures[DAY[0]])) == (fault == "skip is ignored")
    assert sum(one.one("skip") == "0" for one in asked) == 8


@pytest.mark.notices("sessions just where a range was cut", "a session at the window's end")
@pytest.mark.parametrize("feed", [SESSION_INSIGHTS_V2, SESSIONS_V3])
def test_a_long_range_comes_in_batches_of_whole_days_and_where_it_is_cut_nothing_is_out_of_window(feed: Feed) -> None:
    # Evenly spread, so that a session is just where each day begins.
    over = days(20)
    every, script = served_honestly(feed, 8_000, over)
    with serving(script) as served, client_of(served) as client:
        batches = list(client.read(feed, over))
    assert len(batches) > 1
    assert sorted(day for batch in batches for day in batch.windows) == over
    for batch in batches:
        assert batch.failures == {}
        bounds = [item.created_at for item in batch.items]
        assert all(any(day.start <= at < day.end for day in batch.windows) for at in bounds if at)
        assert len(batch.items) <= 400 * len(batch.windows)
    assert sorted(str(item.session_id) for batch in batches for item in batch.items) == names(every)
    assert sum(batch.out_of_window for batch in batches) == 0
    assert sum(batch.requests for batch in batches) == len(served.asked)


@pytest.mark.parametrize("feed", [SESSION_INSIGHTS_V2, SESSIONS_V3])
def test_what_was_read_while_the_caller_was_busy_comes_in_batches_as_small_as_the_others(feed: Feed) -> None:
    over = days(48)
    every, script = served_honestly(feed, 19_200, over)
    with serving(script) as served, client_of(served) as client:
        batches = client.read(feed, over)
        sizes = [len(next(batches).items)]
        at_rest = -1
        while len(served.asked) > at_rest:
            at_rest = len(served.asked)
            time.sleep(0.5)
        sizes += [len(batch.items) for batch in batches]
    assert sum(sizes) == len(every)
    assert max(sizes) <= PAGES_PER_BATCH * PAGE_SIZE


@pytest.mark.parametrize("closes", [True, False], ids=["closes the read", "closes the client"])
def test_a_caller_that_stops_listening_ends_the_read(closes: bool) -> None:
    over = days(80)
    every = sessions(48_000, over, "v2")
    with serving(partial(honest_v2, every)) as served, client_of(served) as client:
        batches = client.read(SESSION_INSIGHTS_V2, over)
        next(batches)
        if closes:
            batches.close()
    # Two batches' worth of pages at most are under way when the first is handed over; there are 240.
    assert len(served.asked) < 150


def test_v2_items_at_the_windows_end_count_for_the_total_and_not_for_the_day() -> None:
    every = sessions(10, DAY, "v2")
    end = {"session_id": "end", "created_at": DAY[0].end.isoformat(), "acus_consumed": 1}
    batch, _ = read(
        SESSION_INSIGHTS_V2, DAY, lambda asked: page_v2([*every, end, {**end, "session_id": "e2"}], total=12)
    )
    assert ids(batch) == names(every)
    assert (batch.out_of_window, batch.failures) == (2, {})


@pytest.mark.parametrize("feed", [SESSION_INSIGHTS_V2, SESSIONS_V3])
@pytest.mark.parametrize("bounds", ["both in", "end out", "a second wider"])
def test_a_session_at_a_days_edge_is_in_one_day_to_the_microsecond_whatever_bounds_the_server_keeps(
    feed: Feed, bounds: str
) -> None:
    over = days(2)
    tick = timedelta(microseconds=1)
    edges = {"first": over[0].start, "end": over[1].start - tick, "start": over[1].start, "last": over[1].end - tick}
    spread = sessions(40, over, "v2")
    every = spread + [
        {"session_id": name, "created_at": at.isoformat(), "acus_consumed": 1}
        if feed == SESSION_INSIGHTS_V2
        else {"session_id": name, "created_at": at.timestamp(), "acus_consumed": 1}
        for name, at in edges.items()
    ]

    def serve(asked: Asked) -> Reply:
        if feed == SESSION_INSIGHTS_V2:
            start, end = (datetime.fromisoformat(asked.one(f"created_date_{bound}")) for bound in ("from", "to"))
        else:
            start, end = (
                datetime.fromtimestamp(int(asked.one(f"created_{bound}")), UTC) for bound in ("after", "before")
            )
        wider = timedelta(seconds=bounds == "a second wider")
        fitting = [
            one
            for one in every
            if start - wider <= instant(one) < end + wider or (bounds == "both in" and instant(one) == end)
        ]
        return page_v2(fitting, total=len(fitting)) if feed == SESSION_INSIGHTS_V2 else page_v3(fitting)

    first, _ = read(feed, over[:1], serve)
    second, _ = read(feed, over[1:], serve)
    both, _ = read(feed, over, serve)
    assert not first.failures
    assert not second.failures
    assert {"first", "end"} <= set(ids(first))
    assert {"start", "last"} <= set(ids(second))
    assert sorted(ids(first) + ids(second)) == ids(both) == names(every)


def test_items_without_an_id_count_for_the_total_each() -> None:
    nameless = {"created_at": "2025-03-01T12:00:00Z", "acus_consumed": 1}
    batch, _ = read(SESSION_INSIGHTS_V2, DAY, lambda asked: page_v2([nameless, nameless], total=2))
    assert [item.rejection_reason for item in batch.items] == ["session_id is not usable"] * 2
    assert batch.failures == {}


@pytest.mark.notices("the older of two items of a session")
@pytest.mark.parametrize("feed", [SESSION_INSIGHTS_V2, SESSIONS_V3])
def test_of_a_session_listed_twice_the_newest_is_kept_and_on_a_tie_the_later(feed: Feed) -> None:
    def session(name: str, minute: int | None, acus: int) -> Session:
        stamp = None if minute is None else f"2025-03-02T00:{minute:02}:00Z"
        return {"session_id": name, "created_at": "2025-03-01T12:00:00Z", "updated_at": stamp, "acus_consumed": acus}

    items = [
        session("a", 5, 1),
        session("devin-a", 3, 2),
        session("b", 1, 3),
        session("b", 1, 4),
        session("c", None, 5),
        session("c", 1, 6),
    ]
    reply = page_v2(items, total=3) if feed == SESSION_INSIGHTS_V2 else page_v3(items, total=3)
    batch, _ = read(feed, DAY, lambda asked: reply)
    assert {item.session_id: str(item.acus) for item in batch.items} == {
        "a": "1.000000",
        "b": "4.000000",
        "c": "6.000000",
    }
    assert (batch.duplicates, batch.failures) == (3, {})


@pytest.mark.notices("a filter that is ignored", "a whole history read before the filter is missed")
@pytest.mark.parametrize("feed", [SESSION_INSIGHTS_V2, SESSIONS_V3, SESSION_INSIGHTS_V3])
def test_an_ignored_filter_fails_every_day_without_reading_the_history(feed: Feed) -> None:
    over = days(30)
    history = sessions(4_000, days(400, START - timedelta(days=390)), "v2" if feed == SESSION_INSIGHTS_V2 else "v3")

    def ignores(asked: Asked) -> Reply:
        skip = int(asked.one("skip", "0") or 0)
        if feed == SESSION_INSIGHTS_V2:
            return page_v2(history[skip : skip + 200], skip=skip, total=len(history))
        return page_v3(history[:200], cursor="next", more=True, total=len(history))

    batch, asked = read(feed, over, ignores)
    assert batch.items == []
    assert sorted(batch.failures) == over
    assert all("ignored the window asked for" in str(error) for error in batch.failures.values())
    assert len(asked) == 1 + len(over)


@pytest.mark.parametrize(("out_of_window", "fails"), [(1, False), (2, True)])
def test_one_item_out_of_window_in_ten_is_dropped_and_more_are_an_ignored_filter(
    out_of_window: int, fails: bool
) -> None:
    late = int(DAY[0].end.timestamp()) + 60
    inside = sessions(10 - out_of_window, DAY, "v3")
    items = [*inside, *({"session_id": f"late{n}", "created_at": late} for n in range(out_of_window))]
    batch, _ = read(SESSIONS_V3, DAY, lambda asked: page_v3(items))
    assert bool(batch.failures) is fails
    assert (ids(batch), batch.out_of_window) == (([], 0) if fails else (names(inside), 1))


def test_v3_follows_the_cursors_to_the_end() -> None:
    every = sessions(450, DAY, "v3")
    batch, asked = read(SESSION_INSIGHTS_V3, DAY, lambda asked: honest_v3(every, asked))
    assert ids(batch) == names(every)
    assert [one.one("after") for one in asked] == ["", "at=200", "at=400"]
    assert {one.path for one in asked} == {"/v3/enterprise/sessions/insights"}
    assert {(one.one("first"), one.one("include_deleted_orgs")) for one in asked} == {("200", "true")}
    assert {(one.one("created_after"), one.one("created_before")) for one in asked} == {("1740816000", "1740902400")}


@pytest.mark.notices("a cursor that repeats")
@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"]])
def test_a_repeated_cursor_fails_instead_of_looping(cursors: list[str]) -> None:
    every = sessions(1000, DAY, "v3")

    def circles(asked: Asked) -> Reply:
        at = (asked.number - 1) % len(cursors)
        return page_v3(every[at * 200 : at * 200 + 200], cursor=cursors[at], more=True)

    batch, asked = read(SESSIONS_V3, DAY, circles)
    assert "a cursor came a second time" in str(batch.failures[DAY[0]])
    assert batch.items == []
    assert len(asked) == len(cursors)


@pytest.mark.notices("a missing cursor")
@pytest.mark.parametrize("cursor", [None, ""])
def test_more_pages_without_a_cursor_are_a_failure(cursor: str | None) -> None:
    batch, asked = read(SESSIONS_V3, DAY, lambda asked: page_v3(sessions(9, DAY, "v3"), cursor=cursor, more=True))
    assert "but not where" in str(batch.failures[DAY[0]])
    assert len(asked) == 1


@pytest.mark.notices("empty pages for ever")
@pytest.mark.parametrize(("empty", "fails"), [(3, False), (4, True)])
def test_three_empty_pages_in_a_row_are_borne_and_a_fourth_is_not(empty: int, fails: bool) -> None:
    every = sessions(5, DAY, "v3")

    def hesitates(asked: Asked) -> Reply:
        is_last = asked.number > empty
        return page_v3(every if is_last else [], cursor=f"c{asked.number}", more=not is_last)

    batch, asked = read(SESSIONS_V3, DAY, hesitates)
    assert bool(batch.failures) is fails
    assert ids(batch) == ([] if fails else names(every))
    assert len(asked) == 4


NOWHERE: dict[str, tuple[Feed, Script, int]] = {
    "v2, empty": (SESSION_INSIGHTS_V2, lambda asked: page_v2([], total=0, more=True), 3 * OFFSET_PASSES),
    "v3, empty": (SESSIONS_V3, lambda asked: page_v3([], cursor=f"c{asked.number}", more=True), 3 * 4),
    "v3 insights, empty": (SESSION_INSIGHTS_V3, lambda asked: page_v3([], cursor=f"{asked.number}", more=True), 12),
    "v3, the same cursor": (SESSIONS_V3, lambda asked: page_v3([], cursor="c", more=True), 3 * 2),
    "v3, no cursor": (SESSIONS_V3, lambda asked: page_v3([], more=True), 3),
}


@pytest.mark.notices(
    "a feed that leads nowhere, asked once for each window", "windows asked for at once though the last one led nowhere"
)
@pytest.mark.parametrize("how", NOWHERE)
def test_a_feed_that_leads_nowhere_in_three_windows_in_a_row_is_given_up_for_all_its_days(how: str) -> None:
    feed, script, requests = NOWHERE[how]
    over = days(12)
    batch, asked = read(feed, over, script)
    assert len(asked) == requests
    assert batch.windows == sorted(batch.failures) == over
    assert len({str(error) for error in batch.failures.values()}) <= 2
    assert {type(error) for error in batch.failures.values()} == {NoProgress}


@pytest.mark.notices("windows in parallel counted as in a row")
@pytest.mark.parametrize("feed", [SESSION_INSIGHTS_V2, SESSIONS_V3])
def test_days_that_lead_nowhere_between_others_that_do_fail_alone(feed: Feed) -> None:
    over = days(30)
    every, honest = served_honestly(feed, 300, over)
    # More than two of them side by side, which end while the others are still under way.
    bad = [*over[2:8], *over[15:17]]

    def some_lead_nowhere(asked: Asked) -> Reply:
        if feed.paging == "offset":
            start = datetime.fromisoformat(asked.one("created_date_from"))
            end = datetime.fromisoformat(asked.one("created_date_to"))
            nowhere = page_v2([], total=0, more=True)
        else:
            start, end = (datetime.fromtimestamp(int(asked.one(f"created_{n}")), UTC) for n in ("after", "before"))
            nowhere = page_v3([], more=True)
        if any(start < day.end and day.start < end for day in bad):
            return nowhere
        time.sleep(0.3)
        return honest(asked)

    batch, _ = read(feed, over, some_lead_nowhere)
    assert list(batch.failures) == bad
    assert ids(batch) == names([one for one in every if not any(day.start <= instant(one) < day.end for day in bad)])


@pytest.mark.notices("v3 total unlike what came")
def test_v3_a_total_that_comes_true_on_the_second_pass_is_believed() -> None:
    every = sessions(5, DAY, "v3")
    batch, asked = read(SESSIONS_V3, DAY, lambda asked: page_v3(every, total=6 if asked.number == 1 else 5))
    assert ids(batch) == names(every)
    assert len(asked) == 2


def test_v3_a_total_that_never_comes_true_fails_after_three_passes() -> None:
    batch, asked = read(SESSIONS_V3, DAY, lambda asked: page_v3(sessions(5, DAY, "v3"), total=6))
    assert "5 sessions came where 6 were stated" in str(batch.failures[DAY[0]])
    assert len(asked) == 3


@pytest.mark.parametrize("with_total", [True, False])
def test_v3_a_full_range_is_cut_into_windows_of_one_to_two_pages(with_total: bool) -> None:
    over = days(15)
    every = sessions(3000, over, "v3")
    batch, asked = read(SESSIONS_V3, over, lambda asked: honest_v3(every, asked, with_total=with_total))
    assert ids(batch) == names(every)
    assert batch.failures == {}
    windows = Counter((one.one("created_after"), one.one("created_before")) for one in asked[1:])
    assert 8 <= len(windows) <= 13
    assert max(windows.values()) <= 3
    assert len(asked) <= 1.6 * math.ceil(len(every) / 200)


def test_v3_a_sparse_year_costs_as_many_requests_as_it_has_pages() -> None:
    over = days(240)
    every = sessions(590, over, "v3")
    batch, asked = read(SESSIONS_V3, over, lambda asked: honest_v3(every, asked))
    assert ids(batch) == names(every)
    assert len(asked) == 3


def test_v3_a_day_far_fuller_than_the_others_is_read_whole() -> None:
    over = days(10)
    every = sessions(900, over, "v3") + [
        {**one, "session_id": f"x{n}"} for n, one in enumerate(sessions(1500, over[4:5], "v3"))
    ]
    every.sort(key=instant, reverse=True)
    batch, _ = read(SESSIONS_V3, over, lambda asked: honest_v3(every, asked, with_total=False))
    assert ids(batch) == names(every)


def test_days_with_a_gap_between_them_are_read_without_the_gap() -> None:
    over = days(5)
    every = sessions(50, over, "v3")
    batch, asked = read(SESSIONS_V3, [over[4], over[0], over[0]], lambda asked: honest_v3(every, asked))
    assert len(asked) == 2
    assert sorted({item.created_at.date().day for item in batch.items if item.created_at}) == [1, 2, 5, 6]
    assert len(batch.items) == 20


@pytest.mark.notices("a session listed in two windows")
@pytest.mark.parametrize("feed", [SESSION_INSIGHTS_V2, SESSIONS_V3])
@pytest.mark.parametrize("newest_first", [True, False])
def test_a_session_listed_on_two_days_is_kept_once_as_it_was_last_updated(feed: Feed, newest_first: bool) -> None:
    # Days with a gap between them are windows of their own.
    over = [days(5)[0], days(5)[4]]

    def serve(asked: Asked) -> Reply:
        bound = asked.one("created_date_from") or asked.one("created_after")
        is_first = bound in (f"{over[0].start:%Y-%m-%dT%H:%M:%SZ}", str(int(over[0].start.timestamp())))
        at, updated = over[0 if is_first else 1].start, START + timedelta(days=9 if is_first is newest_first else 8)
        listed = {
            "session_id": "a",
            "created_at": at.isoformat(),
            "updated_at": updated.isoformat(),
            "acus_consumed": 1,
        }
        return page_v2([listed], total=1) if feed == SESSION_INSIGHTS_V2 else page_v3([listed])

    batch, _ = read(feed, over, serve)
    (item,) = batch.items
    assert item.created_at == over[0 if newest_first else 1].start
    assert batch.duplicates == 1


def test_no_windows_cost_no_request() -> None:
    for feed in (SESSION_INSIGHTS_V2, SESSIONS_V3):
        batch, asked = read(feed, [], lambda asked: page_v3([]))
        assert (batch.items, asked) == ([], [])


@pytest.mark.notices("more pages than the limit", "more sessions than the limit", "more in a v2 window than the limit")
@pytest.mark.parametrize("limits", [Limits(pages=2), Limits(rows=500)])
@pytest.mark.parametrize("feed", [SESSION_INSIGHTS_V2, SESSIONS_V3])
def test_more_than_the_limit_is_a_failure_and_no_truncation(feed: Feed, limits: Limits) -> None:
    every = sessions(900, DAY, "v2" if feed == SESSION_INSIGHTS_V2 else "v3")
    serve = honest_v2 if feed == SESSION_INSIGHTS_V2 else honest_v3
    batch, _ = read(feed, DAY, lambda asked: serve(every, asked), limits=limits)
    assert batch.items == []
    assert "more than may be read at once" in str(batch.failures[DAY[0]])


@pytest.mark.notices("windows that overlap")
def test_days_may_not_overlap_and_instants_need_a_zone() -> None:
    half = timedelta(hours=12)
    with pytest.raises(ValueError, match="overlap"):
        read(SESSIONS_V3, [*DAY, Window(START + half, START + 3 * half)], lambda asked: page_v3([]))
    with pytest.raises(ValueError, match="zone"):
        Window(START.replace(tzinfo=None), START)
    with pytest.raises(ValueError, match="after it starts"):
        Window(START, START)
