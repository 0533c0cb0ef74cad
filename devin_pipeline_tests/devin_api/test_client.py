import base64
import gzip
import json
import logging
import os
import signal
import subprocess
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote

import pytest

import devin_pipeline.devin_api
from devin_pipeline.devin_api import (
    DevinClient,
    DevinError,
    Feed,
    InvalidResponse,
    RateLimited,
    Refused,
    Unreachable,
    Window,
)
from devin_pipeline.devin_api.endpoints import SESSION_INSIGHTS_V2, SESSION_INSIGHTS_V3, SESSIONS_V3
from devin_pipeline.errors import ConfigurationError
from devin_pipeline_tests.devin_api.scripted import (
    NOW,
    START,
    V2_KEY,
    V3_KEY,
    Asked,
    FakeTime,
    Reply,
    client_of,
    cut_short,
    days,
    honest_v2,
    honest_v3,
    json_reply,
    page_v2,
    page_v3,
    read_all,
    reset,
    serving,
    sessions,
    trickle,
    trickle_headers,
)

pytestmark = pytest.mark.notices(
    "how far our clock is ahead",
    "409 asked for too often",
    "401 asked for again",
    "padding behind a gzip body",
    "headers or a body that never end",
    "a body that looks whole because we cut it",
    "compression nobody asked for",
    "a bad key in a traceback",
    "a bad key in the client's frame",
    "pages in a traceback",
    "what an error's body says",
    "an interrupt that waits for answers",
)

DAY = days(1)
ONE = [{"session_id": "a", "created_at": int(START.timestamp()), "acus_consumed": 1}]
GOOD = page_v3(ONE)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def reset_half_way(handler: BaseHTTPRequestHandler) -> None:
    cut_short(GOOD.body)(handler)
    reset(handler)


def close_within_a_chunk(handler: BaseHTTPRequestHandler) -> None:
    half = GOOD.body[: len(GOOD.body) // 2]
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(GOOD.body) + half)


def close_without_a_length(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD.body[: len(GOOD.body) // 2])


def talk_nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"garbage\r\n\r\n")


TRANSIENT = {
    **{f"status {status}": Reply(status=status) for status in (408, 409, 425, 429, 500, 502, 503, 504)},
    "reset": Reply(instead=reset),
    "hung up": Reply(instead=hang_up),
    "cut short": Reply(instead=cut_short(GOOD.body)),
    "reset half-way": Reply(instead=reset_half_way),
    "closed within a chunk": Reply(instead=close_within_a_chunk),
    "closed half-way, without a length": Reply(instead=close_without_a_length),
    "no HTTP": Reply(instead=talk_nonsense),
    "truncated JSON": Reply(GOOD.body[:-5]),
    "empty": Reply(b""),
    "no content": Reply(status=204),
    "HTML": Reply(b"<html>sign in</html>", headers={"Content-Type": "text/html"}),
    "wrong shape": json_reply({"detail": "oops"}),
    "bad gzip": Reply(b"not gzip", headers={"Content-Encoding": "gzip"}),
    "gzip cut short": Reply(gzip.compress(GOOD.body)[:-6], headers={"Content-Encoding": "gzip"}),
    "gzip with a wrong sum": Reply(gzip.compress(GOOD.body)[:-8] + b"\0" * 8, headers={"Content-Encoding": "gzip"}),
    "unknown compression": Reply(GOOD.body, headers={"Content-Encoding": "br"}),
}


@pytest.mark.notices("429 given up at once", "gzip that ends early")
@pytest.mark.parametrize("fault", TRANSIENT)
def test_what_passes_by_itself_is_retried(fault: str) -> None:
    fake = FakeTime()
    with (
        serving(lambda asked: TRANSIENT[fault] if asked.number <= 2 else GOOD) as served,
        client_of(served, fake=fake) as client,
    ):
        batch = read_all(client, SESSIONS_V3, DAY)
    assert [item.session_id for item in batch.items] == ["a"]
    assert batch.failures == {}
    assert (batch.requests, batch.retries, batch.pages) == (3, 2, 1)
    assert fake.slept == [0.5, 1.0]


@pytest.mark.parametrize(
    ("fault", "hits"),
    [("status 503", 6), ("reset", 6), ("truncated JSON", 6), ("status 409", 3), ("HTML", 3), ("wrong shape", 3)],
)
def test_what_does_not_pass_fails_its_day_after_so_many_tries_and_three_requests_for_one_item(
    fault: str, hits: int
) -> None:
    with serving(lambda asked: TRANSIENT[fault]) as served, client_of(served) as client:
        batch = read_all(client, SESSIONS_V3, DAY)
    assert batch.items == []
    assert list(batch.failures) == DAY
    assert [asked.one("first") for asked in served.asked] == ["200"] * hits + ["1"] * 3
    assert "sign in" not in str(batch.failures[DAY[0]])


REFUSALS = {
    400: "does not accept the request",
    401: "DEVIN_V3_API_KEY",
    403: "ViewAccountSessions",
    404: "API version v3",
    405: "API version v3",
    410: "API version v3",
    402: "proxy",
    301: "DEVIN_API_URL",
    307: "DEVIN_API_URL",
}


@pytest.mark.notices("a redirect")
@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_is_raised_at_once_and_says_what_to_change(status: int) -> None:
    reply = Reply(b"secret body", status, {"Location": "/elsewhere"})
    with (
        serving(lambda asked: reply) as served,
        client_of(served) as client,
        pytest.raises(Refused, match=REFUSALS[status]) as caught,
    ):
        read_all(client, SESSIONS_V3, days(40))
    assert len(served.asked) == 1
    assert "secret body" not in str(caught.value)


def test_v2_names_the_enterprise_admin_and_its_own_variable() -> None:
    with (
        serving(lambda asked: Reply(status=403)) as served,
        client_of(served) as client,
        pytest.raises(Refused, match=r"DEVIN_V2_API_KEY.*Enterprise Admin"),
    ):
        read_all(client, SESSION_INSIGHTS_V2, DAY)


@pytest.mark.parametrize("feed", [SESSION_INSIGHTS_V2, SESSIONS_V3])
def test_a_refusal_half_way_returns_nothing(feed: Feed) -> None:
    over = days(30)
    every = sessions(3000, over, "v2" if feed == SESSION_INSIGHTS_V2 else "v3")
    serve = honest_v2 if feed == SESSION_INSIGHTS_V2 else honest_v3
    with (
        serving(lambda asked: serve(every, asked) if asked.number < 6 else Reply(status=401)) as served,
        client_of(served) as client,
        pytest.raises(Refused, match="401"),
    ):
        read_all(client, feed, over)
    assert len(served.asked) <= 5 + 8


def test_a_validation_error_shows_where_and_what_in_words_we_know_and_nothing_else() -> None:
    detail = [
        {"loc": ["query", "first", "prompt"], "msg": "Input should be less than or equal to 100, not prompt"},
        {"loc": ["prompt", V3_KEY], "msg": "prompt " + V3_KEY, "input": "prompt", "ctx": {"prompt": V3_KEY}},
        {"loc": ["query", {}, 1, "created_after"], "msg": "prompt"},
        {"loc": "prompt", "msg": "Input should be a valid integer, unable to parse prompt"},
    ]
    with (
        serving(lambda asked: json_reply({"detail": detail}, 422)) as served,
        client_of(served) as client,
        pytest.raises(Refused) as caught,
    ):
        read_all(client, SESSIONS_V3, DAY)
    sent = "query.first Input should be less than or equal to 100; query.created_after; Input should be a valid integer"
    assert f"does not accept the request: {sent}." in str(caught.value)
    assert "prompt" not in str(caught.value)
    assert V3_KEY not in str(caught.value)
    assert len(served.asked) == 1


@pytest.mark.parametrize(
    "body", [b'{"detail":"prompt"}', b"prompt", b'["prompt"]', b'{"detail":[1,{"msg":2}]}', b"[" * 9999]
)
def test_an_unreadable_validation_error_is_not_quoted(body: bytes) -> None:
    with (
        serving(lambda asked: Reply(body, 422)) as served,
        client_of(served) as client,
        pytest.raises(Refused, match=r"does not accept the request\.") as caught,
    ):
        read_all(client, SESSIONS_V3, DAY)
    assert "prompt" not in str(caught.value)


def test_a_redirect_takes_no_key_anywhere() -> None:
    with serving(lambda asked: GOOD) as other:
        reply = Reply(status=302, headers={"Location": f"{other.url}/v3/enterprise/sessions"})
        with serving(lambda asked: reply) as served, client_of(served) as client, pytest.raises(Refused):
            read_all(client, SESSIONS_V3, DAY)
    assert other.asked == []


@pytest.mark.parametrize(
    ("header", "slept"),
    [
        ("2", 2.0),
        ("Sat, 01 Mar 2025 12:00:20 GMT", 20.0),
        ("Sat, 01 Mar 2025 11:00:20 GMT", 1.0),
        ("-1", 0.5),
        ("1e9", 0.5),
        ("300", 300.0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_pause_the_api_asks_for_is_kept(header: str, slept: float, status: int) -> None:
    fake = FakeTime()
    busy = Reply(status=status, headers={"Retry-After": header})
    with (
        serving(lambda asked: busy if asked.number == 1 else GOOD) as served,
        client_of(served, fake=fake) as client,
    ):
        assert read_all(client, SESSIONS_V3, DAY).failures == {}
    assert fake.slept == [slept]


@pytest.mark.notices("Retry-After of years")
@pytest.mark.parametrize("seconds", ["301", "1000000000"])
@pytest.mark.parametrize("feed", [SESSION_INSIGHTS_V2, SESSIONS_V3])
def test_a_pause_beyond_reason_fails_every_day_at_once_as_rate_limited(feed: Feed, seconds: str) -> None:
    fake = FakeTime()
    over = [*days(3), *days(3, START + timedelta(days=9))]
    busy = Reply(status=429, headers={"Retry-After": seconds})
    with serving(lambda asked: busy) as served, client_of(served, fake=fake) as client:
        batch = read_all(client, feed, over)
    assert sorted(batch.failures) == over
    assert {type(error) for error in batch.failures.values()} == {RateLimited}
    assert fake.slept == []
    assert len(served.asked) <= 2


def test_too_many_requests_for_ever_is_rate_limited_within_the_budget() -> None:
    fake = FakeTime()
    busy = Reply(status=429, headers={"Retry-After": "250"})
    with serving(lambda asked: busy) as served, client_of(served, fake=fake) as client:
        batch = read_all(client, SESSIONS_V3, DAY)
    assert isinstance(batch.failures[DAY[0]], RateLimited)
    assert sum(fake.slept) <= 600


@pytest.mark.parametrize("feed", [SESSION_INSIGHTS_V2, SESSIONS_V3])
def test_only_the_days_that_fail_are_lost(feed: Feed) -> None:
    over = days(90)
    every = sessions(900, over, "v2" if feed == SESSION_INSIGHTS_V2 else "v3")
    serve = honest_v2 if feed == SESSION_INSIGHTS_V2 else honest_v3
    bad = [over[n] for n in (2, 3, 40, 77, 89)]

    def script(asked: Asked) -> Reply:
        if feed == SESSION_INSIGHTS_V2:
            start, end = (datetime.fromisoformat(asked.one(f"created_date_{bound}")) for bound in ("from", "to"))
        else:
            start, end = (
                datetime.fromtimestamp(int(asked.one(f"created_{bound}")), UTC) for bound in ("after", "before")
            )
        return Reply(b"[]") if any(start < day.end and day.start < end for day in bad) else serve(every, asked)

    with serving(script) as served, client_of(served) as client:
        batch = read_all(client, feed, over)
    assert list(batch.failures) == bad
    assert {type(error) for error in batch.failures.values()} == {InvalidResponse}
    assert "2025-03-03T08:00:00Z to 2025-03-04T08:00:00Z" in str(batch.failures[over[2]])
    assert len(batch.items) == 850
    assert not any(day.start <= item.created_at < day.end for item in batch.items if item.created_at for day in bad)


@pytest.mark.notices("a server that is down, asked once for each window")
def test_a_server_that_is_down_is_not_asked_once_for_each_day_of_a_year() -> None:
    over = days(365)
    with serving(lambda asked: Reply(instead=reset)) as served, client_of(served) as client:
        batch = read_all(client, SESSIONS_V3, over)
    assert sorted(batch.failures) == over
    assert {type(error) for error in batch.failures.values()} == {Unreachable}
    assert len(served.asked) <= 6 * (1 + 3 * 8)


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_clock_an_hour_off_costs_no_session_and_how_far_it_is_off_is_known(hours: int) -> None:
    there = START + timedelta(hours=4)
    newest = {"session_id": "b", "created_at": int(there.timestamp()), "acus_consumed": 1}
    with (
        serving(lambda asked: page_v3([*ONE, newest])) as served,
        DevinClient(base_url=served.url, v3_key=V3_KEY, now=lambda: there + timedelta(hours=hours)) as client,
    ):
        assert client.clock_ahead is None
        assert [item.rejection_reason for item in read_all(client, SESSIONS_V3, DAY).items] == [None, None]
        assert client.clock_ahead == timedelta(hours=hours)


def in_one_go(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD.body)


def trickle_without_a_length(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD.body)
    time.sleep(10)


def keep_silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(10)


@pytest.mark.parametrize(
    "slowly",
    [trickle(GOOD.body, 0.05), trickle_headers, trickle_without_a_length, keep_silent],
    ids=["body", "headers", "body of no length", "nothing"],
)
def test_a_response_that_never_ends_is_cut_at_the_deadline_whatever_part_of_it_is_slow(
    slowly: Callable[[BaseHTTPRequestHandler], None],
) -> None:
    began = time.monotonic()
    with (
        serving(lambda asked: Reply(instead=slowly if asked.number == 1 else in_one_go)) as served,
        DevinClient(base_url=served.url, v3_key=V3_KEY, timeout_seconds=0.3) as client,
    ):
        with pytest.raises(Unreachable, match=r"answer came in time") as caught:
            client.first_page(SESSIONS_V3, DAY[0], size=200, deadline_seconds=5)
        assert caught.value.more_tries == 5
        assert time.monotonic() - began < 5
        # The next request gets a connection of its own.
        assert len(client.first_page(SESSIONS_V3, DAY[0], size=200, deadline_seconds=5).items) == 1


@contextmanager
def set_at_an_interrupt(event: threading.Event) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        event.set()
        raise


def test_an_interrupt_does_not_wait_for_a_response_that_never_comes() -> None:
    interrupted, let_go, waited = threading.Event(), threading.Event(), threading.Event()

    def script(asked: Asked) -> Reply:
        for _ in range(3):
            # Again if need be: Python drops an interrupt that arrives while it collects garbage.
            if not interrupted.is_set():
                os.kill(os.getpid(), signal.SIGINT)
            if let_go.wait(3):
                return Reply()
        waited.set()
        return Reply()

    with serving(script) as served:
        client = client_of(served, timeout_seconds=60)
        with pytest.raises(KeyboardInterrupt), client, set_at_an_interrupt(interrupted):
            read_all(client, SESSIONS_V3, days(1))
        assert not waited.is_set()
        let_go.set()
        client.close()


@pytest.mark.notices("a gzip bomb")
def test_a_bomb_is_stopped_at_the_cap_in_bounded_memory_and_asked_for_again_only_as_one_item() -> None:
    bomb = gzip.compress(b" " * (10 * 2**20)) * 20
    assert len(bomb) < 250_000
    with (
        serving(lambda asked: Reply(bomb, headers={"Content-Encoding": "gzip"})) as served,
        client_of(served) as client,
    ):
        tracemalloc.start()
        try:
            batch = read_all(client, SESSIONS_V3, DAY)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert "larger than 64 MB" in str(batch.failures[DAY[0]])
    assert "DEVIN_API_URL" not in str(batch.failures[DAY[0]])
    assert [asked.one("first") for asked in served.asked] == ["200", "1", "1", "1"]
    assert most < 70 * 2**20


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {"Content-Encoding": "identity"}, {}])
def test_json_under_another_name_is_read(headers: dict[str, str]) -> None:
    with serving(lambda asked: Reply(GOOD.body, headers=headers)) as served, client_of(served) as client:
        assert len(read_all(client, SESSIONS_V3, DAY).items) == 1


def test_a_compressed_page_of_several_members_is_read() -> None:
    body = gzip.compress(GOOD.body[:20]) + gzip.compress(GOOD.body[20:])
    reply = Reply(body, headers={"Content-Encoding": "gzip"})
    with serving(lambda asked: reply) as served, client_of(served) as client:
        batch = read_all(client, SESSIONS_V3, DAY)
    assert len(batch.items) == 1
    assert batch.bytes_read == len(GOOD.body)


MEMBER = gzip.compress(GOOD.body)
BEHIND_A_BODY = {
    "nothing": b"",
    "a zero byte": b"\0",
    "zero bytes": b"\0" * 700,
    "many zero bytes": b"\0" * 300_000,
    "an empty member": gzip.compress(b""),
    "an empty member and zero bytes": gzip.compress(b"") + b"\0" * 3,
    "a byte": b"x",
    "two bytes": b"xy",
    "text": b"some words of a proxy",
    "zero bytes and text": b"\0\0xy",
    "zero bytes and a member": b"\0\0" + gzip.compress(b"{"),
    "text and a zero byte": b"x\0",
    "half of the sign of a member": b"\x1f",
    "half of the sign of a member and text": b"\x1fx",
    "the sign of a member": b"\x1f\x8b",
    "half of a member": MEMBER[: len(MEMBER) // 2],
    "a member with a wrong sum": gzip.compress(b" ")[:-8] + b"\0" * 8,
    "a member compressed otherwise": b"\x1f\x8b\x09" + b"\0" * 20,
    "an empty member and a byte": gzip.compress(b"") + b"x",
}


def in_chunks(*chunks: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Send a compressed body in chunks that arrive one after the other."""

    def instead(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in filter(None, chunks):
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            time.sleep(0.01)
        handler.wfile.write(b"0\r\n\r\n")

    return instead


@pytest.mark.parametrize("tail", BEHIND_A_BODY)
@pytest.mark.parametrize("way", ["at once", "apart", "by the byte"])
def test_what_follows_a_compressed_body_is_taken_as_gunzip_takes_it(tail: str, way: str) -> None:
    behind = BEHIND_A_BODY[tail]
    unpacked = subprocess.run(["gzip", "-dc"], input=MEMBER + behind, capture_output=True, check=False)
    # 2 is a warning: decompression OK, trailing garbage ignored.
    is_whole = unpacked.returncode in (0, 2)
    assert not is_whole or unpacked.stdout == GOOD.body
    chunks = {
        "at once": [MEMBER + behind],
        "apart": [MEMBER, behind],
        "by the byte": [MEMBER, *(behind[at : at + 1] for at in range(min(len(behind), 40))), behind[40:]],
    }[way]
    with serving(lambda asked: Reply(instead=in_chunks(*chunks))) as served, client_of(served) as client:
        batch = read_all(client, SESSIONS_V3, DAY)
    assert [item.session_id for item in batch.items] == (["a"] if is_whole else [])
    assert (batch.failures == {}) == is_whole


def test_each_feed_sends_its_own_key_and_who_is_asking() -> None:
    with (
        serving(lambda asked: page_v2([], total=0) if "v2" in asked.path else page_v3([])) as served,
        client_of(served) as client,
    ):
        read_all(client, SESSION_INSIGHTS_V2, DAY)
        read_all(client, SESSIONS_V3, DAY)
        read_all(client, SESSION_INSIGHTS_V3, DAY)
    assert [asked.headers["Authorization"] for asked in served.asked] == [
        f"Bearer {V2_KEY}",
        f"Bearer {V3_KEY}",
        f"Bearer {V3_KEY}",
    ]
    assert all(asked.headers["User-Agent"].startswith("devin-pipeline/") for asked in served.asked)


def test_one_organization_is_asked_through_its_own_endpoints() -> None:
    with (
        serving(lambda asked: page_v2([], total=0) if "v2" in asked.path else page_v3([])) as served,
        client_of(served, org_id="org-a.b|c") as client,
    ):
        read_all(client, SESSION_INSIGHTS_V2, DAY)
        read_all(client, SESSIONS_V3, DAY)
        read_all(client, SESSION_INSIGHTS_V3, DAY)
    assert [asked.path for asked in served.asked] == [
        "/v2/enterprise/organizations/org-a.b%7Cc/sessions/insights",
        "/v3/organizations/org-a.b%7Cc/sessions",
        "/v3/organizations/org-a.b%7Cc/sessions/insights",
    ]


def test_a_feed_without_its_key_is_misconfigured_before_any_request() -> None:
    with (
        serving(lambda asked: GOOD) as served,
        DevinClient(base_url=served.url, v3_key=V3_KEY) as client,
        pytest.raises(ConfigurationError, match="DEVIN_V2_API_KEY is not set"),
    ):
        read_all(client, SESSION_INSIGHTS_V2, DAY)
    assert served.asked == []


@pytest.mark.parametrize("feed", [SESSION_INSIGHTS_V2, SESSIONS_V3])
def test_updates_are_returned_with_how_complete_they_are(feed: Feed) -> None:
    over = days(2)
    every = sessions(450, over, "v2" if feed == SESSION_INSIGHTS_V2 else "v3")
    serve = honest_v2 if feed == SESSION_INSIGHTS_V2 else honest_v3
    whole = Window(over[0].start, over[1].end)
    with serving(lambda asked: serve(every, asked)) as served, client_of(served) as client:
        all_of_it = client.updated_in(feed, whole, max_pages=20, deadline_seconds=45)
        part = client.updated_in(feed, whole, max_pages=2, deadline_seconds=45)
    assert (len(all_of_it.items), all_of_it.complete, all_of_it.pages, all_of_it.total) == (450, True, 3, 450)
    assert (len(part.items), part.complete, part.pages) == (400, False, 2)


def test_updates_are_asked_for_without_a_retry_and_then_as_one_item() -> None:
    fake = FakeTime()
    with (
        serving(lambda asked: Reply(status=503)) as served,
        client_of(served, fake=fake) as client,
        pytest.raises(Unreachable, match="updated 2025-03-01"),
    ):
        client.updated_in(SESSIONS_V3, DAY[0], max_pages=20, deadline_seconds=45)
    assert [asked.one("first") for asked in served.asked] == ["200", "1", "1", "1"]
    assert fake.slept == []


@pytest.mark.notices("updates under a filter that is ignored")
def test_updates_under_an_ignored_filter_are_a_failure() -> None:
    old = sessions(20, days(1, START - timedelta(days=30)), "v3")
    with (
        serving(lambda asked: page_v3(old)) as served,
        client_of(served) as client,
        pytest.raises(InvalidResponse, match="ignored the window asked for"),
    ):
        client.updated_in(SESSIONS_V3, DAY[0], max_pages=20, deadline_seconds=45)


@pytest.mark.notices("updates whose pages moved")
def test_updates_whose_pages_moved_are_not_complete() -> None:
    every = sessions(450, DAY, "v2")
    with serving(lambda asked: honest_v2(every[asked.number :], asked)) as served, client_of(served) as client:
        updated = client.updated_in(SESSION_INSIGHTS_V2, DAY[0], max_pages=20, deadline_seconds=45)
    assert updated.complete is False


@pytest.mark.parametrize("feed", [SESSION_INSIGHTS_V2, SESSIONS_V3])
def test_a_first_page_is_returned_as_it_came(feed: Feed) -> None:
    over = days(2)
    every = sessions(30, over, "v2" if feed == SESSION_INSIGHTS_V2 else "v3")
    shuffled = [*every[20:], *every[:20]]
    serve = honest_v2 if feed == SESSION_INSIGHTS_V2 else honest_v3
    clock = NOW + timedelta(seconds=90)
    with serving(lambda asked: serve(shuffled, asked), clock=clock) as served, client_of(served) as client:
        page = client.first_page(feed, Window(over[0].start, over[1].end), size=5, deadline_seconds=5)
        updated = client.first_page(feed, over[0], by="updated", size=200, deadline_seconds=5)
    assert [item.session_id for item in page.items] == [session["session_id"] for session in shuffled[:5]]
    assert (page.more, page.total, page.clock_ahead) == (True, 30, timedelta(seconds=-90))
    # The script takes the end of v2 windows as inclusive.
    assert (len(updated.items), updated.more) == (16 if feed == SESSION_INSIGHTS_V2 else 15, False)
    assert any(name.startswith("updated_") for name in served.asked[1].query)


def test_a_first_page_of_a_server_without_a_clock_has_no_time() -> None:
    def without_date(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(GOOD.body) + GOOD.body)

    with serving(lambda asked: Reply(instead=without_date)) as served, client_of(served) as client:
        assert client.first_page(SESSIONS_V3, DAY[0], size=1, deadline_seconds=5).clock_ahead is None


def test_a_first_page_is_asked_for_once_without_a_retry() -> None:
    with serving(lambda asked: Reply(status=503)) as served, client_of(served) as client, pytest.raises(Unreachable):
        client.first_page(SESSIONS_V3, DAY[0], size=1, deadline_seconds=5)
    assert len(served.asked) == 1


def test_the_owner_of_the_v3_key_is_returned_without_who_a_person_is() -> None:
    owner_sent = {
        "principal_type": "pat_user",
        "user_id": "email|canary",
        "user_name": "canary",
        "org_id": "org-1",
        "more": 1,
    }
    with serving(lambda asked: json_reply(owner_sent)) as served, client_of(served) as client:
        owner = client.owner_of_v3_key(deadline_seconds=5)
    assert (owner.principal_type, owner.service_user_name, owner.org_id) == ("pat_user", None, "org-1")
    assert "canary" not in repr(owner)
    assert (served.asked[0].path, served.asked[0].headers["Authorization"]) == ("/v3/self", f"Bearer {V3_KEY}")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"principal_type": 1}', b"[" * 99999, b"\xff"])
def test_a_response_that_names_no_owner_is_invalid(body: bytes) -> None:
    with (
        serving(lambda asked: Reply(body)) as served,
        client_of(served) as client,
        pytest.raises(InvalidResponse, match="names no principal"),
    ):
        client.owner_of_v3_key(deadline_seconds=5)


def test_without_a_v3_key_nobody_is_asked_for_its_owner() -> None:
    with (
        serving(lambda asked: GOOD) as served,
        DevinClient(base_url=served.url, v2_key=V2_KEY) as client,
        pytest.raises(ConfigurationError, match="DEVIN_V3_API_KEY is not set"),
    ):
        client.owner_of_v3_key(deadline_seconds=5)
    assert served.asked == []


@pytest.mark.notices("a key in a repr", "users in httpx's log")
def test_the_key_is_in_no_message_repr_traceback_or_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    faults = [*TRANSIENT.values(), *(Reply(V3_KEY.encode(), status) for status in (*REFUSALS, 422))]
    for fault in faults:
        with serving(lambda asked, fault=fault: fault) as served, client_of(served) as client:  # type: ignore[misc]
            shown += [repr(client), str(client), repr(vars(client))]
            try:
                shown += [repr(error) for error in read_all(client, SESSIONS_V3, DAY).failures.values()]
            except DevinError as error:
                shown += [str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]
    text = "\n".join([*shown, caplog.text])
    assert len(shown) > 60
    for form in (V3_KEY, quote(V3_KEY), base64.b64encode(V3_KEY.encode()).decode(), V3_KEY[5:]):
        assert form not in text
    assert "created_after" not in caplog.text


def with_locals(error: BaseException) -> str:
    """As reporters of errors show it: every frame but the test's own, with its locals."""
    assert error.__traceback__ is not None
    frames = error.__traceback__.tb_next
    return "".join(traceback.TracebackException(type(error), error, frames, capture_locals=True).format())


def test_a_page_is_in_no_traceback_even_with_locals() -> None:
    items = [*ONE, {**ONE[0], "session_id": "b", "title": "a prompt"}]
    bodies = [
        Reply(b'{"items": [], "has_next_page": "a prompt"}'),
        page_v3(items, cursor="x", more=True),  # the same cursor again and again
        page_v3(items, total=9),
        Reply(b'{"detail": "a prompt"}', 422),
    ]
    for body in bodies:
        with serving(lambda asked, body=body: body) as served, client_of(served) as client:  # type: ignore[misc]
            with pytest.raises(DevinError) as caught:
                raise next(iter(read_all(client, SESSIONS_V3, DAY).failures.values()))
            shown = [with_locals(caught.value)]
            assert caught.value.__context__ is None
            for ask in (
                partial(client.updated_in, SESSIONS_V3, DAY[0], max_pages=3),
                partial(client.first_page, SESSIONS_V3, DAY[0], size=10),
                client.owner_of_v3_key,
            ):
                try:
                    shown.append(repr(ask(deadline_seconds=5)))
                except DevinError as error:
                    shown.append(with_locals(error))
        assert "a prompt" not in "".join(shown)


def test_a_read_that_is_refused_half_way_shows_no_page_it_has_read() -> None:
    every = [{**session, "title": "a prompt"} for session in sessions(600, days(3), "v3")]
    with (
        serving(lambda asked: honest_v3(every, asked) if asked.number < 3 else Reply(status=401)) as served,
        client_of(served) as client,
        pytest.raises(Refused) as caught,
    ):
        read_all(client, SESSIONS_V3, [days(5)[0], days(5)[2], days(5)[4]])
    assert "a prompt" not in with_locals(caught.value)


@pytest.mark.parametrize(("kind", "key"), [("v2", "cog_livelivelive"), ("v3", "cog_live live live")])
def test_a_bad_key_is_in_no_traceback_even_with_locals(kind: str, key: str) -> None:
    keys = {f"{kind}_key": key}
    with pytest.raises(ConfigurationError) as caught:
        DevinClient(v2_key=keys.get("v2_key"), v3_key=keys.get("v3_key"))
    shown = with_locals(caught.value)
    assert "<DevinClient" in shown
    assert key not in shown


def test_httpx_is_imported_only_where_it_is_called_and_where_its_surroundings_are_checked() -> None:
    room = Path(devin_pipeline.devin_api.__file__).parent
    importing = {path.name for path in room.glob("*.py") if "import httpx" in path.read_text()}
    assert importing == {"surroundings.py", "transport.py"}


def test_decoding_keeps_numbers_as_sent() -> None:
    text = b'{"session_id":"a","created_at":1740830400,"acus_consumed":1.10,"deep":{"n":1.000}}'
    with serving(lambda asked: Reply(b'{"items":[' + text + b"]}")) as served, client_of(served) as client:
        (item,) = read_all(client, SESSIONS_V3, DAY).items
    assert item.payload == text
    assert json.loads(item.payload)["deep"] == {"n": 1.0}
