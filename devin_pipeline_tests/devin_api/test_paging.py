import math
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest

from devin_pipeline.devin_api import BrokenPromise, Feed, Limits, Listing, Window
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
    serving,
    sessions,
)

DAY = days(1)


def read(
    feed: Feed, over: list[Window], script: Script, *, limits: Limits | None = None
) -> tuple[Listing, list[Asked]]:
    with serving(script) as served, client_of(served, limits=limits) as client:
        return client.read(feed, over), served.asked


def ids(listing: Listing) -> list[str]:
    return sorted(str(item.session_id) for item in listing.items)


def names(every: list[Session]) -> list[str]:
    return sorted(str(session["session_id"]) for session in every)


def test_v2_reads_every_page_once_when_nothing_moves() -> None:
    over = days(3)
    every = sessions(950, over, "v2")
    listing, asked = read("session_insights_v2", over, lambda asked: honest_v2(every, asked))
    assert ids(listing) == names(every)
    assert listing.failures == {}
    assert sorted(int(one.one("skip")) for one in asked) == [0, 200, 400, 600, 800]
    assert {one.path for one in asked} == {"/v2/enterprise/sessions/insights"}
    assert {(one.one("created_date_from"), one.one("created_date_to"), one.one("limit")) for one in asked} == {
        ("2025-03-01T08:00:00Z", "2025-03-04T08:00:00Z", "200")
    }
    assert (listing.requests, listing.pages, listing.retries) == (5, 5, 0)
    assert listing.bytes_read > 950 * 50


def test_v2_steps_by_the_limit_the_server_returns() -> None:
    every = sessions(450, DAY, "v2")

    def clamps(asked: Asked) -> Reply:
        skip = int(asked.one("skip"))
        return page_v2(every[skip : skip + 100], skip=skip, limit=100, total=len(every))

    listing, asked = read("session_insights_v2", DAY, clamps)
    assert ids(listing) == names(every)
    assert sorted(int(one.one("skip")) for one in asked) == [0, 100, 200, 300, 400]


def test_v2_an_empty_day_is_read_and_empty() -> None:
    listing, _ = read("session_insights_v2", DAY, lambda asked: page_v2([], total=0))
    assert (listing.items, listing.failures, listing.pages) == ([], {}, 1)


def test_v2_a_session_deleted_between_pages_costs_a_pass_and_no_neighbour() -> None:
    every = sessions(450, DAY, "v2")

    def shrinks(asked: Asked) -> Reply:
        if asked.number == 2:
            del every[0]
        return honest_v2(every, asked)

    listing, _ = read("session_insights_v2", DAY, shrinks)
    assert ids(listing) == names(every)
    assert listing.failures == {}
    assert listing.pages > 3


def test_v2_a_shift_behind_an_unchanged_total_costs_a_pass_and_no_session() -> None:
    every = sessions(450, DAY, "v2")

    def shifts(asked: Asked) -> Reply:
        reply = honest_v2(every, asked)
        if asked.number == 1:
            every.insert(0, {**every.pop(), "session_id": "new"})
        return reply

    listing, _ = read("session_insights_v2", DAY, shifts)
    assert ids(listing) == names(every)


def page_of(every: list[Session], asked: Asked, **changes: object) -> Reply:
    skip = int(asked.one("skip"))
    told: dict[str, object] = {"items": every[skip : skip + 200], "total": len(every), "skip": skip, "limit": 200}
    return json_reply({**told, "has_more": skip + 200 < len(every), **changes})


NEVER_WHOLE: dict[str, Callable[[list[Session], Asked], Reply]] = {
    "the total is larger than what comes": lambda every, asked: page_of(every, asked, total=451),
    "the total grows with each answer": lambda every, asked: page_of(every, asked, total=450 + asked.number),
    "the last page says more": lambda every, asked: page_of(every, asked, has_more=True),
    "skip is ignored": lambda every, asked: page_of(every, asked, skip=0, items=every[:200]),
    "skip is echoed but ignored": lambda every, asked: page_of(every, asked, items=every[:200]),
    "one page is empty": lambda every, asked: page_of([] if asked.one("skip") == "200" else every, asked, total=450),
}


@pytest.mark.parametrize("oddity", [{"total": 451}, {"skip": 0}, {"limit": 100}, {"has_more": True}])
def test_v2_a_page_at_odds_with_the_first_costs_a_pass_even_if_no_session_is_missing(oddity: dict[str, object]) -> None:
    every = sessions(450, DAY, "v2")
    odd: list[Asked] = []

    def contradicts_once(asked: Asked) -> Reply:
        if asked.one("skip") == "400" and not odd:
            odd.append(asked)
            return page_of(every, asked, **oddity)
        return page_of(every, asked)

    listing, asked = read("session_insights_v2", DAY, contradicts_once)
    assert ids(listing) == names(every)
    assert len(asked) == 6


@pytest.mark.parametrize("fault", NEVER_WHOLE)
def test_v2_pages_that_never_agree_fail_after_eight_passes(fault: str) -> None:
    every = sessions(450, DAY, "v2")
    listing, asked = read("session_insights_v2", DAY, lambda asked: NEVER_WHOLE[fault](every, asked))
    assert listing.items == []
    assert list(listing.failures) == DAY
    assert isinstance(listing.failures[DAY[0]], BrokenPromise)
    assert "never agreed" in str(listing.failures[DAY[0]])
    assert sum(one.one("skip") == "0" for one in asked) == 8


def test_v2_items_at_the_windows_end_count_for_the_total_and_not_for_the_day() -> None:
    every = sessions(10, DAY, "v2")
    end = {"session_id": "end", "created_at": DAY[0].end.isoformat(), "acus_consumed": 1}
    listing, _ = read(
        "session_insights_v2", DAY, lambda asked: page_v2([*every, end, {**end, "session_id": "e2"}], total=12)
    )
    assert ids(listing) == names(every)
    assert (listing.outside, listing.failures) == (2, {})


def test_each_session_falls_in_exactly_one_of_two_adjoining_days() -> None:
    over = days(2)
    every = sessions(20, over, "v2")
    every.append({"session_id": "noon", "created_at": over[1].start.isoformat(), "acus_consumed": 1})
    first, _ = read("session_insights_v2", over[:1], lambda asked: honest_v2(every, asked))
    second, _ = read("session_insights_v2", over[1:], lambda asked: honest_v2(every, asked))
    assert sorted(ids(first) + ids(second)) == names(every)
    assert "noon" in ids(second)


def test_items_without_an_id_count_for_the_total_each() -> None:
    nameless = {"created_at": "2025-03-01T12:00:00Z", "acus_consumed": 1}
    listing, _ = read("session_insights_v2", DAY, lambda asked: page_v2([nameless, nameless], total=2))
    assert [item.unplaced_because for item in listing.items] == ["session_id is not usable"] * 2
    assert listing.failures == {}


@pytest.mark.parametrize("feed", ["session_insights_v2", "sessions_v3"])
def test_of_a_session_told_twice_the_newest_is_kept_and_on_a_tie_the_later(feed: Feed) -> None:
    def told(name: str, minute: int | None, acus: int) -> Session:
        stamp = None if minute is None else f"2025-03-02T00:{minute:02}:00Z"
        return {"session_id": name, "created_at": "2025-03-01T12:00:00Z", "updated_at": stamp, "acus_consumed": acus}

    items = [
        told("a", 5, 1),
        told("devin-a", 3, 2),
        told("b", 1, 3),
        told("b", 1, 4),
        told("c", None, 5),
        told("c", 1, 6),
    ]
    reply = page_v2(items, total=3) if feed == "session_insights_v2" else page_v3(items, total=3)
    listing, _ = read(feed, DAY, lambda asked: reply)
    assert {item.session_id: str(item.acus) for item in listing.items} == {
        "a": "1.000000",
        "b": "4.000000",
        "c": "6.000000",
    }
    assert (listing.duplicates, listing.failures) == (3, {})


@pytest.mark.parametrize("feed", ["session_insights_v2", "sessions_v3", "session_insights_v3"])
def test_an_ignored_filter_fails_every_day_without_reading_the_history(feed: Feed) -> None:
    over = days(30)
    history = sessions(4_000, days(400, START - timedelta(days=390)), "v2" if feed == "session_insights_v2" else "v3")

    def ignores(asked: Asked) -> Reply:
        skip = int(asked.one("skip", "0") or 0)
        if feed == "session_insights_v2":
            return page_v2(history[skip : skip + 200], skip=skip, total=len(history))
        return page_v3(history[:200], cursor="next", more=True, total=len(history))

    listing, asked = read(feed, over, ignores)
    assert listing.items == []
    assert sorted(listing.failures) == over
    assert all("filter is ignored" in str(error) for error in listing.failures.values())
    assert len(asked) == 1 + len(over)


@pytest.mark.parametrize(("strays", "fails"), [(1, False), (2, True)])
def test_a_stray_in_ten_is_dropped_and_more_are_an_ignored_filter(strays: int, fails: bool) -> None:
    late = int(DAY[0].end.timestamp()) + 60
    inside = sessions(10 - strays, DAY, "v3")
    items = [*inside, *({"session_id": f"late{n}", "created_at": late} for n in range(strays))]
    listing, _ = read("sessions_v3", DAY, lambda asked: page_v3(items))
    assert bool(listing.failures) is fails
    assert (ids(listing), listing.outside) == (([], 0) if fails else (names(inside), 1))


def test_v3_follows_the_cursors_to_the_end() -> None:
    every = sessions(450, DAY, "v3")
    listing, asked = read("session_insights_v3", DAY, lambda asked: honest_v3(every, asked))
    assert ids(listing) == names(every)
    assert [one.one("after") for one in asked] == ["", "at=200", "at=400"]
    assert {one.path for one in asked} == {"/v3/enterprise/sessions/insights"}
    assert {(one.one("first"), one.one("include_deleted_orgs")) for one in asked} == {("200", "true")}
    assert {(one.one("created_after"), one.one("created_before")) for one in asked} == {("1740816000", "1740902400")}


@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"]])
def test_a_repeated_cursor_fails_instead_of_looping(cursors: list[str]) -> None:
    every = sessions(1000, DAY, "v3")

    def circles(asked: Asked) -> Reply:
        at = (asked.number - 1) % len(cursors)
        return page_v3(every[at * 200 : at * 200 + 200], cursor=cursors[at], more=True)

    listing, asked = read("sessions_v3", DAY, circles)
    assert "a cursor came a second time" in str(listing.failures[DAY[0]])
    assert listing.items == []
    assert len(asked) == len(cursors)


@pytest.mark.parametrize("cursor", [None, ""])
def test_more_pages_without_a_cursor_are_a_failure(cursor: str | None) -> None:
    listing, asked = read("sessions_v3", DAY, lambda asked: page_v3(sessions(9, DAY, "v3"), cursor=cursor, more=True))
    assert "but not where" in str(listing.failures[DAY[0]])
    assert len(asked) == 1


@pytest.mark.parametrize(("empty", "fails"), [(3, False), (4, True)])
def test_three_empty_pages_in_a_row_are_borne_and_a_fourth_is_not(empty: int, fails: bool) -> None:
    every = sessions(5, DAY, "v3")

    def hesitates(asked: Asked) -> Reply:
        is_last = asked.number > empty
        return page_v3(every if is_last else [], cursor=f"c{asked.number}", more=not is_last)

    listing, asked = read("sessions_v3", DAY, hesitates)
    assert bool(listing.failures) is fails
    assert ids(listing) == ([] if fails else names(every))
    assert len(asked) == 4


def test_v3_a_total_that_comes_true_on_the_second_pass_is_believed() -> None:
    every = sessions(5, DAY, "v3")
    listing, asked = read("sessions_v3", DAY, lambda asked: page_v3(every, total=6 if asked.number == 1 else 5))
    assert ids(listing) == names(every)
    assert len(asked) == 2


def test_v3_a_total_that_never_comes_true_fails_after_three_passes() -> None:
    listing, asked = read("sessions_v3", DAY, lambda asked: page_v3(sessions(5, DAY, "v3"), total=6))
    assert "5 sessions came where 6 were stated" in str(listing.failures[DAY[0]])
    assert len(asked) == 3


@pytest.mark.parametrize("with_total", [True, False])
def test_v3_a_full_range_is_cut_into_windows_of_one_to_two_pages(with_total: bool) -> None:
    over = days(15)
    every = sessions(3000, over, "v3")
    listing, asked = read("sessions_v3", over, lambda asked: honest_v3(every, asked, with_total=with_total))
    assert ids(listing) == names(every)
    assert listing.failures == {}
    windows = Counter((one.one("created_after"), one.one("created_before")) for one in asked[1:])
    assert 8 <= len(windows) <= 13
    assert max(windows.values()) <= 3
    assert len(asked) <= 1.6 * math.ceil(len(every) / 200)


def test_v3_a_sparse_year_costs_as_many_requests_as_it_has_pages() -> None:
    over = days(240)
    every = sessions(590, over, "v3")
    listing, asked = read("sessions_v3", over, lambda asked: honest_v3(every, asked))
    assert ids(listing) == names(every)
    assert len(asked) == 3


def test_v3_a_day_far_fuller_than_the_others_is_read_whole() -> None:
    over = days(10)
    every = sessions(900, over, "v3") + [
        {**one, "session_id": f"x{n}"} for n, one in enumerate(sessions(1500, over[4:5], "v3"))
    ]
    every.sort(key=instant, reverse=True)
    listing, _ = read("sessions_v3", over, lambda asked: honest_v3(every, asked, with_total=False))
    assert ids(listing) == names(every)


def test_days_with_a_gap_between_them_are_read_without_the_gap() -> None:
    over = days(5)
    every = sessions(50, over, "v3")
    listing, asked = read("sessions_v3", [over[4], over[0], over[0]], lambda asked: honest_v3(every, asked))
    assert len(asked) == 2
    assert sorted({item.created_at.date().day for item in listing.items if item.created_at}) == [1, 2, 5, 6]
    assert len(listing.items) == 20


def test_no_days_are_no_request() -> None:
    for feed in ("session_insights_v2", "sessions_v3"):
        listing, asked = read(feed, [], lambda asked: page_v3([]))
        assert (listing.items, asked) == ([], [])


@pytest.mark.parametrize("limits", [Limits(pages=2), Limits(rows=500)])
@pytest.mark.parametrize("feed", ["session_insights_v2", "sessions_v3"])
def test_more_than_the_limit_is_a_failure_and_no_truncation(feed: Feed, limits: Limits) -> None:
    every = sessions(900, DAY, "v2" if feed == "session_insights_v2" else "v3")
    serve = honest_v2 if feed == "session_insights_v2" else honest_v3
    listing, _ = read(feed, DAY, lambda asked: serve(every, asked), limits=limits)
    assert listing.items == []
    assert "more than may be read at once" in str(listing.failures[DAY[0]])


def test_days_may_not_overlap_and_instants_need_a_zone() -> None:
    half = timedelta(hours=12)
    with pytest.raises(ValueError, match="overlap"):
        read("sessions_v3", [*DAY, Window(START + half, START + 3 * half)], lambda asked: page_v3([]))
    with pytest.raises(ValueError, match="zone"):
        Window(START.replace(tzinfo=None), START)
    with pytest.raises(ValueError, match="after it starts"):
        Window(START, START)
