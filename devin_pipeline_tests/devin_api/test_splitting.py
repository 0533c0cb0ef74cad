"""A v3 day with many pages is read in parts, in parallel, and is read whole or fails all the same."""

import json
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from itertools import pairwise

import pytest

from devin_pipeline.devin_api import DevinClient, Feed, Limits, RateLimited, SessionBatch, Unreachable, Window
from devin_pipeline.devin_api.endpoints import SESSION_INSIGHTS_V3
from devin_pipeline.devin_api.items import read_item
from devin_pipeline.devin_api.paging import WindowResult, joined
from devin_pipeline_tests.devin_api.scripted import (
    NOW,
    V3_KEY,
    Asked,
    Reply,
    Script,
    Session,
    client_of,
    days,
    honest_v3,
    instant,
    json_reply,
    page_v3,
    read_all,
    serving,
    sessions,
)

pytestmark = pytest.mark.notices("a window split again after its parts could not be read")

DAY = days(1)
FEED: Feed = SESSION_INSIGHTS_V3
MANY = 4000
PAGES = MANY // 200


def read(script: Script, over: list[Window] = DAY, limits: Limits | None = None) -> tuple[SessionBatch, list[Asked]]:
    with serving(script) as served, client_of(served, limits=limits) as client:
        return read_all(client, FEED, over), served.asked


def ids(batch: SessionBatch) -> list[str]:
    return sorted(str(item.session_id) for item in batch.items)


def names(every: Sequence[Session]) -> list[str]:
    return sorted(str(session["session_id"]) for session in every)


def bounds(asked: Asked) -> tuple[int, int]:
    return int(asked.one("created_after")), int(asked.one("created_before"))


WHOLE = (int(DAY[0].start.timestamp()), int(DAY[0].end.timestamp()))


def is_whole(asked: Asked) -> bool:
    return bounds(asked) == WHOLE


@pytest.mark.notices("sessions on a bound within a window")
@pytest.mark.parametrize("with_total", [True, False])
@pytest.mark.parametrize("newest_first", [True, False])
def test_the_parts_of_a_full_day_are_read_in_parallel(with_total: bool, newest_first: bool) -> None:
    every = sessions(MANY, DAY, "v3")[:: 1 if newest_first else -1]
    batch, asked = read(partial(honest_v3, every, with_total=with_total))
    assert ids(batch) == names(every)
    assert (batch.windows, batch.failures, batch.duplicates, batch.out_of_window) == (DAY, {}, 0, 0)
    parts = Counter(bounds(one) for one in asked if not is_whole(one))
    assert len(parts) >= PAGES // 4
    assert max(parts.values()) <= 6
    # Both sides of a bound are asked for what is on it.
    assert all(before[1] == after[0] + 1 for before, after in pairwise(sorted(parts)))
    assert (min(parts)[0], max(parts)[1]) == WHOLE
    assert len(asked) <= 1 + 1.5 * PAGES
    assert batch.requests == batch.pages == len(asked)


def test_a_day_of_a_few_pages_costs_a_request_for_each() -> None:
    every = sessions(8 * 200, DAY, "v3")
    batch, asked = read(partial(honest_v3, every))
    assert ids(batch) == names(every)
    assert len(asked) == 8
    assert all(map(is_whole, asked))


@pytest.mark.notices("the hours ahead of a day that has begun")
@pytest.mark.parametrize("with_total", [True, False])
def test_of_a_day_that_has_just_begun_the_hours_ahead_cost_a_request(with_total: bool) -> None:
    begun = [Window(DAY[0].start, DAY[0].start + timedelta(hours=1))]
    every = sessions(MANY, begun, "v3")
    batch, asked = read(partial(honest_v3, every, with_total=with_total))
    assert ids(batch) == names(every)
    assert sum(1 for one in asked if bounds(one)[0] >= begun[0].end.timestamp()) <= 2
    assert len(asked) <= 2 + 2 * PAGES


def test_sessions_of_one_second_are_read_along_one_chain() -> None:
    burst = WHOLE[0] + 40_000
    every = sessions(400, DAY, "v3") + [{"session_id": f"x{number}", "created_at": burst} for number in range(MANY)]
    every.sort(key=instant, reverse=True)
    batch, asked = read(partial(honest_v3, every))
    assert ids(batch) == names(every)
    assert Counter(bounds(one) for one in asked)[burst - 1, burst + 1] == PAGES
    assert len(asked) < 10 * PAGES


def test_a_page_that_seems_to_cover_a_second_does_not_cost_a_request_for_each_of_the_day() -> None:
    every = sessions(100, DAY, "v3") + [
        {"session_id": f"x{number}", "created_at": WHOLE[1] - 1} for number in range(300)
    ]
    every.sort(key=instant, reverse=True)
    batch, asked = read(partial(honest_v3, every, with_total=False))
    assert ids(batch) == names(every)
    assert len(asked) < 200


def test_neighbouring_days_are_split_only_where_that_saves_time() -> None:
    over = days(10)
    every = sessions(10 * 1800, over, "v3")
    batch, asked = read(partial(honest_v3, every), over)
    assert ids(batch) == names(every)
    # Nine pages of each, and there are days enough to read side by side.
    starts = {int(day.start.timestamp()) for day in over}
    assert {bounds(one)[0] for one in asked} <= starts


@pytest.mark.notices("parts of many windows, all of them held")
def test_of_many_full_days_one_after_the_other_is_read_so_that_few_are_held() -> None:
    over = days(12)
    every = sessions(12 * 4000, over, "v3")
    whole = {(int(day.start.timestamp()), int(day.end.timestamp())) for day in over}
    oldest_first = [int(str(one["created_at"])) for one in reversed(every)]

    def quickly(asked: Asked) -> Reply:
        start, end = (bisect_left(oldest_first, bound) for bound in bounds(asked))
        return honest_v3(every[len(every) - end : len(every) - start], asked)

    with serving(quickly) as served, client_of(served) as client:
        batch = read_all(client, FEED, over)
    assert ids(batch) == names(every)
    # When parts of each day were asked for, and so of how many days some are there and some are not.
    asked_for: dict[int, list[int]] = {}
    for place, asked in enumerate(served.asked):
        if bounds(asked) not in whole and bounds(asked)[1] - bounds(asked)[0] < 86_400:
            asked_for.setdefault((bounds(asked)[1] - 1 - WHOLE[0]) // 86_400, []).append(place)
    held = [sum(min(of) <= place <= max(of) for of in asked_for.values()) for place in range(len(served.asked))]
    assert len(asked_for) == len(over)
    assert max(held) <= len(over) / 2


@pytest.mark.parametrize("with_total", [True, False])
@pytest.mark.parametrize(
    ("includes_start", "includes_end"), [(True, False), (False, False), (False, True), (True, True)]
)
def test_whichever_side_a_bound_belongs_to_what_is_on_it_is_returned_once(
    includes_start: bool, includes_end: bool, with_total: bool
) -> None:
    # Every other second, so that many are on a bound; none on those of the day.
    every = [
        {**one, "created_at": WHOLE[0] + 2 * (MANY - place)} for place, one in enumerate(sessions(MANY, DAY, "v3"))
    ]

    def serve(asked: Asked) -> Reply:
        start, end = bounds(asked)
        query = {
            **asked.query,
            "created_after": [str(start if includes_start else start + 1)],
            "created_before": [str(end + 1 if includes_end else end)],
        }
        return honest_v3(every, Asked(asked.number, asked.path, query, asked.headers), with_total=with_total)

    batch, asked = read(serve)
    assert ids(batch) == names(every)
    assert (batch.duplicates, batch.out_of_window) == (0, 0)
    assert sum(map(is_whole, asked)) == 1


@pytest.mark.notices("sessions that a part lists and another holds")
def test_a_day_is_read_along_one_chain_where_what_a_part_lists_is_in_another() -> None:
    every = sessions(MANY, DAY, "v3")
    # The filter goes by another clock than the times it shows, but not across the bounds of the day.
    shown = {str(one["session_id"]): {**one, "created_at": int(str(one["created_at"])) - 5} for one in every[:-1]}

    def serve(asked: Asked) -> Reply:
        page = json.loads(honest_v3(every, asked).body)
        return json_reply({**page, "items": [shown.get(item["session_id"], item) for item in page["items"]]})

    batch, asked = read(serve)
    assert ids(batch) == names(every)
    assert sum(map(is_whole, asked)) == 1 + PAGES


@pytest.mark.notices("a request for every second of a window of bursts")
@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("with_total", [True, False])
def test_bursts_do_not_cost_many_times_the_requests(newest_first: bool, with_total: bool) -> None:
    every = [
        {"session_id": f"s{burst}-{number}", "created_at": WHOLE[0] + 1000 + 2000 * burst}
        for burst in range(40)
        for number in range(300)
    ][:: -1 if newest_first else 1]
    batch, asked = read(partial(honest_v3, every, with_total=with_total))
    assert ids(batch) == names(every)
    assert len(asked) < 5 * len(every) / 200


@pytest.mark.notices("other windows given up for the parts of one")
def test_parts_that_fail_in_a_row_give_up_no_other_day() -> None:
    over = days(5)
    every = sessions(5 * 2000, over, "v3")
    whole = {(int(day.start.timestamp()), int(day.end.timestamp())) for day in over}

    def no_parts(asked: Asked) -> Reply:
        start, end = bounds(asked)
        return Reply(status=500) if end - start < 86_400 else honest_v3(every, asked)

    batch, asked = read(no_parts, over)
    assert batch.failures == {}
    assert ids(batch) == names(every)
    assert {bounds(one) for one in asked} > whole


def test_a_server_that_takes_no_bounds_within_a_day_is_read_along_one_chain() -> None:
    every = sessions(MANY, DAY, "v3")

    def whole_days_only(asked: Asked) -> Reply:
        query = {**asked.query, "created_after": [str(WHOLE[0])], "created_before": [str(WHOLE[1])]}
        return honest_v3(every, Asked(asked.number, asked.path, query, asked.headers))

    batch, _ = read(whole_days_only)
    assert ids(batch) == names(every)
    assert batch.failures == {}


@pytest.mark.notices("a window of which the parts hold less than it states")
def test_sessions_deleted_during_the_read_are_not_returned() -> None:
    every = sessions(MANY, DAY, "v3")

    def deletes(asked: Asked) -> Reply:
        return honest_v3(every if asked.number == 1 else every[:-10], asked)

    batch, asked = read(deletes)
    assert ids(batch) == names(every[:-10])
    assert sum(map(is_whole, asked)) == 1 + PAGES


@pytest.mark.notices("parts of a window that is read along one chain by now")
def test_where_a_part_cannot_be_read_its_day_is_along_one_chain_and_no_other_part() -> None:
    every = sessions(3 * MANY, DAY, "v3")

    def loses_its_way(asked: Asked) -> Reply:
        if not is_whole(asked) and bounds(asked)[0] < WHOLE[0] + 10_000:
            return page_v3([], cursor=None, more=True)
        if not is_whole(asked):
            # Until the failure is known.
            time.sleep(0.3)
        return honest_v3(every, asked)

    batch, asked = read(loses_its_way)
    assert ids(batch) == names(every)
    assert batch.failures == {}
    assert sum(map(is_whole, asked)) == 1 + 3 * PAGES
    # Of 21 parts, twelve threads have begun one, and three of them another, until then.
    assert len({bounds(one) for one in asked if not is_whole(one)}) < 18


@pytest.mark.notices("parts of a window that was given up")
def test_a_day_that_was_given_up_is_not_read_after_all() -> None:
    every = sessions(MANY, DAY, "v3")

    def limits(asked: Asked) -> Reply:
        if is_whole(asked):
            return honest_v3(every, asked)
        if bounds(asked)[0] == WHOLE[0]:
            return Reply(status=429, headers={"Retry-After": "86400"})
        # After the refusal has arrived.
        time.sleep(0.3)
        return page_v3([], cursor=None, more=True)

    batch, asked = read(limits)
    assert (batch.items, batch.windows) == ([], DAY)
    assert isinstance(batch.failures[DAY[0]], RateLimited)
    assert sum(map(is_whole, asked)) == 1


def test_a_day_that_cannot_be_read_fails_alone_and_nothing_of_it_is_returned() -> None:
    over = [days(3)[0], days(3)[2]]
    every = sessions(3 * MANY, days(3), "v3")
    bad = over[1]

    def half_of_a_day(asked: Asked) -> Reply:
        is_a_later_page = "after" in asked.query and bounds(asked)[1] == bad.end.timestamp()
        if is_a_later_page or bounds(asked)[0] >= bad.start.timestamp() + 40_000:
            return Reply(status=500)
        return honest_v3(every, asked)

    batch, _ = read(half_of_a_day, over)
    assert ids(batch) == names([one for one in every if instant(one) < days(3)[1].start])
    assert {day: type(error) for day, error in batch.failures.items()} == {bad: Unreachable}
    assert batch.windows == over


@pytest.mark.parametrize("after", [1, 3, 12])
def test_a_rate_limit_in_the_middle_of_a_day_fails_it_and_those_to_come(after: int) -> None:
    over = days(3)
    every = sessions(3 * MANY, over, "v3")

    def limits(asked: Asked) -> Reply:
        if asked.number > after:
            return json_reply({"detail": "slow down"}, 429)
        return honest_v3(every, asked)

    batch, _ = read(limits, over)
    assert batch.windows == over
    assert batch.items == []
    assert {day: type(error) for day, error in batch.failures.items()} == dict.fromkeys(over, RateLimited)


@pytest.mark.notices("a window split though it states more than may be read")
@pytest.mark.parametrize("limits", [Limits(rows=MANY - 1), Limits(pages=PAGES - 1)])
def test_a_day_that_states_more_than_a_window_may_hold_fails_at_once(limits: Limits) -> None:
    every = sessions(MANY, DAY, "v3")
    batch, asked = read(partial(honest_v3, every), limits=limits)
    assert batch.items == []
    assert "more than may be read at once" in str(batch.failures[DAY[0]])
    assert len(asked) == 1


def test_more_sessions_than_a_window_may_hold_are_a_failure_though_no_part_has_as_many() -> None:
    every = sessions(MANY, DAY, "v3")
    batch, _ = read(partial(honest_v3, every, with_total=False), limits=Limits(rows=MANY - 1))
    assert batch.items == []
    assert "more than may be read at once" in str(batch.failures[DAY[0]])


def test_parts_are_asked_for_in_whole_seconds_wherever_a_day_begins() -> None:
    start = DAY[0].start + timedelta(milliseconds=300)
    over = [Window(start, start + timedelta(days=1))]
    every = sessions(MANY, DAY, "v3")
    batch, asked = read(partial(honest_v3, every), over)
    assert ids(batch) == names([one for one in every if over[0].start <= instant(one) < over[0].end])
    assert len({bounds(one) for one in asked}) > 2


def test_a_session_listed_in_two_parts_is_kept_once_as_it_was_updated_last() -> None:
    def part(updated: int) -> WindowResult:
        item = read_item(b'{"session_id": "a", "created_at": 1740830000, "updated_at": %d}' % updated, NOW)
        return WindowResult([item], duplicates=1, out_of_window=3, at_end=2)

    whole = joined([part(1740840000), part(1740850000), part(1740845000)])
    (item,) = whole.items
    assert item.updated_at is not None
    assert item.updated_at.timestamp() == 1740850000
    assert (whole.duplicates, whole.out_of_window, whole.at_end) == (3, 5, 2)


def test_what_has_neither_id_nor_time_is_listed_by_every_part_and_kept_once() -> None:
    timed = sessions(MANY, DAY, "v3")
    timeless: list[Session] = [{"title": "nobody's"}, {"title": "somebody's"}]

    def serve(asked: Asked) -> Reply:
        start, end = bounds(asked)
        listed = [*(one for one in timed if start <= instant(one).timestamp() < end), *timeless]
        skip = int(asked.one("after", "at=0").removeprefix("at="))
        more = skip + 200 < len(listed)
        return page_v3(listed[skip : skip + 200], cursor=f"at={skip + 200}" if more else None, more=more)

    batch, _ = read(serve)
    assert len(batch.items) == MANY + len(timeless)


def test_as_many_requests_as_allowed_are_in_flight_and_no_more() -> None:
    every = sessions(MANY, DAY, "v3")
    lock = threading.Lock()
    now = most = 0

    def counts(asked: Asked) -> Reply:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return honest_v3(every, asked)

    with serving(counts) as served, DevinClient(base_url=served.url, v3_key=V3_KEY, concurrency=4) as client:
        batch = read_all(client, FEED, DAY)
    assert ids(batch) == names(every)
    assert most == 4
