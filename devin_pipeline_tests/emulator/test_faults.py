import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import pytest

from devin_pipeline.emulator import EmulatorServer, Enterprise, FaultScript
from devin_pipeline.emulator.faults import (
    EVENTS,
    LIES,
    LONGEST_SECONDS,
    REFUSALS,
    TRANSIENT,
    Body,
    Compressed,
    CutShort,
    Echo,
    Fault,
    Reset,
    Silence,
    Status,
    Trickle,
    TwoAtOnce,
    Typed,
    WhereListed,
    organization_deleted,
    updated,
)

ENDS_AT = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)
V2 = "/v2/enterprise/sessions/insights"
V3 = "/v3/enterprise/sessions"
V3_INSIGHTS = "/v3/enterprise/sessions/insights"
WINDOW = {
    "v2": {"created_date_from": "2026-03-08T08:00:00Z", "created_date_to": "2026-03-13T08:00:00Z", "limit": "40"},
    "v3": {"created_after": "1772956800", "created_before": "1773388800", "first": "40"},
}
LIE = {fault.kind: fault for fault in LIES}

Page = dict[str, Any]


def small_enterprise() -> Enterprise:
    return Enterprise.synthetic(sessions=400, days=15, ends_at=ENDS_AT)


@pytest.fixture(scope="module")
def shared() -> Iterator[EmulatorServer]:
    with EmulatorServer(small_enterprise()) as running:
        yield running


@pytest.fixture
def server(shared: EmulatorServer) -> EmulatorServer:
    """Of the tests that change no session."""
    shared.script(None)
    shared.forget_requests()
    return shared


@pytest.fixture
def own() -> Iterator[EmulatorServer]:
    """A test's own, to change at will."""
    with EmulatorServer(small_enterprise()) as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=LONGEST_SECONDS + 2) as opened:
        yield opened


def ask(client: httpx.Client, server: EmulatorServer, path: str, **more: str) -> httpx.Response:
    version = path[1:3]
    key = server.v2_key if version == "v2" else server.v3_key
    return client.get(server.url + path, params=WINDOW[version] | more, headers={"Authorization": f"Bearer {key}"})


def page(client: httpx.Client, server: EmulatorServer, path: str, **more: str) -> Page:
    body: Page = ask(client, server, path, **more).json()
    return body


def second(client: httpx.Client, server: EmulatorServer, path: str) -> dict[str, str]:
    """What asks for the second page."""
    return {"skip": "40"} if path == V2 else {"after": page(client, server, path)["end_cursor"]}


def bytes_received(server: EmulatorServer, path: str = V3) -> tuple[bytes, bool]:
    """Everything that arrives over a connection until it ends, and whether it ended with a reset."""
    parts = urlsplit(server.url)
    key = server.v2_key if path.startswith("/v2") else server.v3_key
    query = urlencode(WINDOW[path[1:3]])
    came = b""
    with socket.create_connection(
        (str(parts.hostname), int(parts.port or 0)), timeout=LONGEST_SECONDS + 2
    ) as connection:
        connection.sendall(f"GET {path}?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        try:
            while piece := connection.recv(65_536):
                came += piece
        except ConnectionResetError:
            return came, True
    return came, False


def armed(server: EmulatorServer, fault: Fault, number: int = 1) -> FaultScript:
    script = FaultScript.of({number: fault})
    server.script(script)
    return script


# Statuses


@pytest.mark.parametrize("fault", [each for each in (*REFUSALS, *TRANSIENT) if isinstance(each, Status)], ids=str)
def test_a_status_comes_once_with_its_headers_and_the_next_request_is_answered_honestly(
    server: EmulatorServer, client: httpx.Client, fault: Status
) -> None:
    script = armed(server, fault, 2)
    assert [ask(client, server, V3).status_code for _ in range(3)] == [200, fault.status, 200]
    assert script.sent == {fault.kind: 1}
    assert [request.status for request in server.requests] == [200, fault.status, 200]


@pytest.mark.parametrize("text", ["2", "soon", "-1", "1e9"])
def test_retry_after_is_sent_as_written(server: EmulatorServer, client: httpx.Client, text: str) -> None:
    armed(server, Status(429, retry_after=text))
    assert ask(client, server, V3).headers["Retry-After"] == text


@pytest.mark.parametrize("span", [timedelta(seconds=30), timedelta(hours=-1)])
def test_retry_after_is_sent_as_a_date_for_a_time_span(
    server: EmulatorServer, client: httpx.Client, span: timedelta
) -> None:
    armed(server, Status(429, retry_after=span))
    headers = ask(client, server, V3).headers
    wait = parsedate_to_datetime(headers["Retry-After"]) - parsedate_to_datetime(headers["Date"])
    assert abs(wait - span) <= timedelta(seconds=2)


def test_a_redirect_names_its_place(server: EmulatorServer, client: httpx.Client) -> None:
    armed(server, Status(302, location="https://elsewhere.invalid/"))
    assert ask(client, server, V3).headers["Location"] == "https://elsewhere.invalid/"


def test_an_echo_repeats_the_key_in_body_and_headers(server: EmulatorServer, client: httpx.Client) -> None:
    armed(server, Echo(422, "a prompt"))
    response = ask(client, server, V3)
    assert server.v3_key in response.json()["detail"][0]["msg"]
    assert server.v3_key in response.headers["X-Echo"]
    assert "a prompt" in response.text


# The connection


def test_a_reset_before_the_status_sends_nothing(server: EmulatorServer) -> None:
    script = armed(server, Reset())
    assert bytes_received(server) == (b"", True)
    assert script.sent == {"reset before the status": 1}
    assert [request.status for request in server.requests] == [0]


@pytest.mark.parametrize("after", [0.0, 0.5])
def test_a_reset_in_the_body_comes_after_its_share(server: EmulatorServer, after: float) -> None:
    armed(server, Reset(after=after))
    came, is_reset = bytes_received(server)
    head, _, body = came.partition(b"\r\n\r\n")
    announced = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    assert is_reset
    assert len(body) == int(announced * after)


def test_a_body_may_be_shorter_than_its_content_length(server: EmulatorServer, client: httpx.Client) -> None:
    armed(server, CutShort("length"))
    came, is_reset = bytes_received(server)
    head, _, body = came.partition(b"\r\n\r\n")
    assert not is_reset
    assert len(body) == int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]) // 2
    armed(server, CutShort("length"))
    with pytest.raises(httpx.RemoteProtocolError):
        ask(client, server, V3)


def test_a_chunk_may_break_off(server: EmulatorServer, client: httpx.Client) -> None:
    armed(server, CutShort("chunks"))
    came, _ = bytes_received(server)
    size, _, chunk = came.partition(b"\r\n\r\n")[2].partition(b"\r\n")
    assert len(chunk) == int(size, 16) // 2
    armed(server, CutShort("chunks"))
    with pytest.raises(httpx.RemoteProtocolError):
        ask(client, server, V3)


def test_a_body_framed_by_the_end_of_the_connection_may_be_cut_without_a_trace(
    server: EmulatorServer, client: httpx.Client
) -> None:
    armed(server, CutShort("close"))
    response = ask(client, server, V3)
    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        response.json()


def test_a_trickle_is_slow_and_breaks_off(server: EmulatorServer) -> None:
    script = armed(server, Trickle(0.3, pause_seconds=0.1))
    came, _ = bytes_received(server)
    assert len(came.partition(b"\r\n\r\n")[2]) == 3
    assert script.sent == {"trickle": 1}


def test_a_silence_ends_without_a_word_and_counts(server: EmulatorServer) -> None:
    script = armed(server, Silence(0.2))
    assert bytes_received(server) == (b"", False)
    assert script.sent == {"silence": 1}


@pytest.mark.parametrize("fault", [Silence(3_600), Trickle(3_600, pause_seconds=0.5)], ids=lambda each: each.kind)
def test_no_fault_lasts_longer_than_it_may(server: EmulatorServer, fault: Fault) -> None:
    armed(server, fault)
    bytes_received(server)  # the socket's own timeout is the bound


def test_a_client_that_leaves_a_silence_leaves_the_server_working(server: EmulatorServer, client: httpx.Client) -> None:
    armed(server, Silence(3_600))
    with httpx.Client(timeout=0.2) as hasty, pytest.raises(httpx.ReadTimeout):
        ask(hasty, server, V3)
    assert ask(client, server, V3).status_code == 200


# Bodies


@pytest.mark.parametrize("fault", [each for each in TRANSIENT if isinstance(each, Body)], ids=lambda each: each.kind)
def test_a_body_of_another_kind_comes_as_it_is(server: EmulatorServer, client: httpx.Client, fault: Body) -> None:
    armed(server, fault)
    response = ask(client, server, V3)
    assert (response.status_code, response.content, response.headers["Content-Type"]) == (
        200,
        fault.body,
        fault.content_type,
    )


@pytest.mark.parametrize("content_type", ["text/plain", None])
def test_a_page_may_come_under_another_type(
    server: EmulatorServer, client: httpx.Client, content_type: str | None
) -> None:
    honest = page(client, server, V3)
    armed(server, Typed(content_type))
    response = ask(client, server, V3)
    assert response.headers.get("Content-Type") == content_type
    assert response.json() == honest


def test_gzip_may_be_garbage_have_a_wrong_sum_or_end_early(server: EmulatorServer, client: httpx.Client) -> None:
    def packed(fault: Fault) -> bytes:
        armed(server, fault)
        with client.stream("GET", server.url + V3, headers={"Authorization": f"Bearer {server.v3_key}"}) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            return b"".join(response.iter_raw())

    with pytest.raises(zlib.error):
        gzip.decompress(packed(Compressed("garbage")))
    with pytest.raises(gzip.BadGzipFile, match="CRC"):
        gzip.decompress(packed(Compressed("sum")))
    with pytest.raises(EOFError):
        gzip.decompress(packed(Compressed("truncated")))
    bomb = packed(Compressed("bomb"))
    assert len(bomb) < 250_000
    assert len(gzip.decompress(bomb)) == 200 * 2**20


# Pages that contradict themselves or the request


@pytest.mark.parametrize("path", [V2, V3])
def test_two_pages_may_come_as_one(server: EmulatorServer, client: httpx.Client, path: str) -> None:
    pages = [page(client, server, path), page(client, server, path, **second(client, server, path))]
    armed(server, TwoAtOnce())
    returned = page(client, server, path)
    assert returned["items"] == pages[0]["items"] + pages[1]["items"]
    assert returned.get("end_cursor") == pages[1].get("end_cursor")


@pytest.mark.parametrize("path", [V2, V3])
def test_a_page_may_hold_fewer_items_than_asked_for(server: EmulatorServer, client: httpx.Client, path: str) -> None:
    honest = page(client, server, path)
    armed(server, LIE["fewer items than asked for"])
    returned = page(client, server, path)
    assert returned["items"] == honest["items"][:20]
    assert returned.get("limit", 20) == 20


@pytest.mark.parametrize(("kind", "claimed"), [("ignored", 0), ("ignored, and claimed", 40)])
def test_the_place_asked_for_may_be_ignored(
    server: EmulatorServer, client: httpx.Client, kind: str, claimed: int
) -> None:
    for path in (V2, V3):
        first, asked = page(client, server, path), second(client, server, path)
        script = armed(server, LIE[f"the place asked for is {kind}"], 2)
        assert page(client, server, path) == first
        returned = page(client, server, path, **asked)
        assert returned["items"] == first["items"]
        assert returned.get("skip", claimed) == claimed
        assert script.sent.total() == 1


@pytest.mark.parametrize("path", [V2, V3])
def test_the_window_asked_for_may_be_ignored(server: EmulatorServer, client: httpx.Client, path: str) -> None:
    armed(server, LIE["the window asked for is ignored"])
    returned = page(client, server, path)
    assert returned["items"] != page(client, server, path)["items"]
    assert len(returned["items"]) == 40


def test_an_empty_page_may_say_that_more_follow_and_lead_to_the_same_place(
    server: EmulatorServer, client: httpx.Client
) -> None:
    fault = LIE["an empty page with more to come"]
    for asked in ({}, second(client, server, V3)):
        honest = page(client, server, V3, **asked)
        armed(server, fault)
        returned = page(client, server, V3, **asked)
        assert (returned["items"], returned["has_next_page"]) == ([], True)
        assert returned["end_cursor"] not in (honest["end_cursor"], asked.get("after"))
        assert page(client, server, V3, after=returned["end_cursor"]) == honest
    armed(server, fault)
    returned = page(client, server, V2)
    assert (returned["items"], returned["has_more"]) == ([], True)


def test_a_cursor_may_come_again_or_be_missing(server: EmulatorServer, client: httpx.Client) -> None:
    asked = second(client, server, V3)
    armed(server, LIE["a cursor comes again"])
    assert page(client, server, V3, **asked)["end_cursor"] == asked["after"]
    armed(server, LIE["more to come, and no cursor"])
    returned = page(client, server, V3, **asked)
    assert (returned["has_next_page"], returned["end_cursor"]) == (True, None)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("next_cursor is null", None),
        ("next_cursor is 0", 0),
        ("next_cursor jumps", 10**6),
        ("next_cursor is text", "200"),
    ],
)
def test_next_cursor_may_be_anything(server: EmulatorServer, client: httpx.Client, kind: str, value: object) -> None:
    armed(server, LIE[kind])
    assert page(client, server, V2)["next_cursor"] == value


@pytest.mark.parametrize("path", [V2, V3_INSIGHTS])
def test_the_total_may_be_anything(server: EmulatorServer, client: httpx.Client, path: str) -> None:
    honest = page(client, server, path)["total"]
    for kind, value in {"is larger": honest + 1, "is null": None, "is negative": -1, "is text": "12"}.items():
        armed(server, LIE[f"the total {kind}"])
        assert page(client, server, path)["total"] == value


def test_whether_more_follow_may_be_wrong_text_or_missing(server: EmulatorServer, client: httpx.Client) -> None:
    for path, more in ((V2, "has_more"), (V3_INSIGHTS, "has_next_page")):
        armed(server, LIE["the last page too early"])
        assert page(client, server, path)[more] is False
        armed(server, LIE["whether more follow is text"])
        assert page(client, server, path)[more] == "true"
        armed(server, LIE["whether more follow is missing"])
        assert more not in page(client, server, path)
    last = {"skip": str(page(client, server, V2)["total"] - 1)}
    armed(server, LIE["more to come after the last page"])
    assert page(client, server, V2, **last)["has_more"] is True


@pytest.mark.parametrize("path", [V2, V3_INSIGHTS])
def test_items_may_be_left_out_or_come_twice(server: EmulatorServer, client: httpx.Client, path: str) -> None:
    honest = page(client, server, path)["items"]
    armed(server, LIE["items are left out"])
    assert page(client, server, path)["items"] == honest[:20]
    armed(server, LIE["an item comes twice"])
    assert page(client, server, path)["items"] == [*honest, honest[0]]


@pytest.mark.parametrize("path", [V2, V3])
def test_a_fault_may_be_tied_to_a_session_wherever_it_is_listed(
    server: EmulatorServer, client: httpx.Client, path: str
) -> None:
    listed = page(client, server, path)["items"]
    size = "limit" if path == V2 else "first"
    script = FaultScript.of({0: WhereListed(frozenset([listed[10]["session_id"]]), Status(500))})
    server.script(script)
    assert ask(client, server, path).status_code == 500
    assert page(client, server, path, **{size: "10"})["items"] == listed[:10]
    assert ask(client, server, path, **{size: "11"}).status_code == 500
    assert script.sent == {"status 500": 2}


def test_a_fault_that_finds_no_place_is_not_counted_and_the_response_is_honest(
    server: EmulatorServer, client: httpx.Client
) -> None:
    for kind in ("items are left out", "the last page too early", "the total is larger", "next_cursor is 0"):
        honest = page(client, server, V3)
        script = armed(server, LIE[kind])
        assert page(client, server, V3) == honest
        assert (script.sent, script.asked) == ({}, 1)


# Scripts and events


def test_a_seed_plans_the_same_faults_and_another_seed_others(server: EmulatorServer, client: httpx.Client) -> None:
    def statuses(seed: int) -> list[int]:
        script = FaultScript.seeded(seed, rate=0.3, kinds=[Status(500), Status(503)])
        server.script(script)
        received = [ask(client, server, V3).status_code for _ in range(60)]
        assert script.sent.total() == sum(status != 200 for status in received)
        assert script.asked == 60
        return received

    first = statuses(1)
    assert set(first) == {200, 500, 503}
    assert statuses(1) == first
    assert statuses(2) != first


def test_a_script_may_spoil_every_request_and_ends_when_it_is_removed(
    server: EmulatorServer, client: httpx.Client
) -> None:
    armed(server, Status(500), 0)
    assert [ask(client, server, V3).status_code for _ in range(3)] == [500] * 3
    server.script(None)
    assert ask(client, server, V3).status_code == 200


@pytest.mark.parametrize("event", [*EVENTS, organization_deleted], ids=lambda each: each.__name__)
def test_an_event_changes_the_enterprise_between_two_pages(
    own: EmulatorServer, client: httpx.Client, event: Any
) -> None:
    before = sorted(own.enterprise.items("session_insights_v2"))
    script = FaultScript.of({}, events={2: event})
    own.script(script)
    page(client, own, V2)
    assert sorted(own.enterprise.items("session_insights_v2")) == before
    page(client, own, V2)
    after = sorted(own.enterprise.items("session_insights_v2"))
    assert after != before
    grown = {"session_deleted": -1, "updated": 0, "analysed": 0}.get(event.__name__, 1)
    assert event is organization_deleted or len(after) - len(before) == grown
    assert script.happened == {event.__name__: 1}


def test_a_fault_and_an_event_may_meet_in_one_request(own: EmulatorServer, client: httpx.Client) -> None:
    script = FaultScript.of({1: Status(503)}, events={1: updated})
    own.script(script)
    assert ask(client, own, V3).status_code == 503
    assert (script.sent, script.happened) == ({"status 503": 1}, {"updated": 1})


def test_the_last_organization_is_not_deleted(own: EmulatorServer, client: httpx.Client) -> None:
    script = FaultScript.of({}, events={0: organization_deleted})
    own.script(script)
    for _ in own.enterprise.organizations:
        ask(client, own, V3)
    assert sum(not each.is_deleted for each in own.enterprise.organizations) == 1
    assert script.happened.total() < script.asked


def test_a_server_may_give_smaller_pages_than_asked_for(client: httpx.Client) -> None:
    with EmulatorServer(Enterprise.synthetic(sessions=50, days=15, ends_at=ENDS_AT), largest_page=7) as own:
        returned = page(client, own, V2)
        assert (len(returned["items"]), returned["limit"], returned["next_cursor"]) == (7, 7, 7)
        returned = page(client, own, V3)
        assert (len(returned["items"]), returned["has_next_page"]) == (7, True)
