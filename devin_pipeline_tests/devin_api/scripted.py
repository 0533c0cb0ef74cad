"""A tiny scripted server, and sessions to serve from it."""

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from devin_pipeline.devin_api import DevinClient, Feed, SessionBatch, Window
from devin_pipeline.devin_api.paging import Limits

V2_KEY = "apk_user_canary0123456789"
V3_KEY = "cog_canary0123456789"
START = datetime(2025, 3, 1, 8, tzinfo=UTC)
NOW = datetime(2025, 12, 1, tzinfo=UTC)

Session = dict[str, object]


def read_all(client: DevinClient, feed: Feed, days: Sequence[Window]) -> SessionBatch:
    """All that a read gives, as one batch."""
    whole = SessionBatch()
    for batch in client.read(feed, days):
        whole.windows += batch.windows
        whole.items += batch.items
        whole.failures |= batch.failures
        for name in ("duplicates", "out_of_window", "requests", "pages", "retries", "bytes_read"):
            setattr(whole, name, getattr(whole, name) + getattr(batch, name))
    return whole


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    number: int
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]


@dataclass(frozen=True)
class Reply:
    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    # Takes the connection over instead of answering.
    instead: Callable[[BaseHTTPRequestHandler], None] | None = None


Script = Callable[[Asked], Reply]


@dataclass
class Served:
    url: str
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def serving(
    script: Script,
    *,
    clock: datetime = datetime(2025, 3, 1, 12, tzinfo=UTC),
    tls: ssl.SSLContext | None = None,
    tunnel: int = 403,
) -> Iterator[Served]:
    """Serve a script on loopback; `clock` is the server's, which stands still.

    As a proxy it opens no tunnel, and says so by the status `tunnel`.
    """
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else the second of two small writes waits for the other side's delayed acknowledgement.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            with lock:
                asked = Asked(len(served.asked) + 1, parts.path, parse_qs(parts.query), dict(self.headers.items()))
                served.asked.append(asked)
            reply = script(asked)
            if reply.instead is not None:
                self.close_connection = True
                reply.instead(self)
                return
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def do_CONNECT(self) -> None:
            with lock:
                served.asked.append(Asked(len(served.asked) + 1, self.path, {}, dict(self.headers.items())))
            self.send_error(tunnel)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return format_datetime(clock, usegmt=True)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # clients under test hang up on purpose

    server = Quiet(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    served = Served(f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class FakeTime:
    """A clock that moves only by sleeping."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def clock(self) -> float:
        with self._lock:
            return self.at

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self.at += seconds


def client_of(
    served: Served,
    *,
    org_id: str | None = None,
    fake: FakeTime | None = None,
    limits: Limits | None = None,
    timeout_seconds: float = 5,
    is_awaited: bool = False,
) -> DevinClient:
    fake = fake or FakeTime()
    return DevinClient(
        base_url=served.url,
        v2_key=V2_KEY,
        v3_key=V3_KEY,
        org_id=org_id,
        timeout_seconds=timeout_seconds,
        limits=limits,
        is_awaited=is_awaited,
        sleep=fake.sleep,
        clock=fake.clock,
        random=lambda: 1.0,
        now=lambda: NOW,
    )


def days(count: int, start: datetime = START) -> list[Window]:
    return [Window(start + timedelta(days=n), start + timedelta(days=n + 1)) for n in range(count)]


def sessions(count: int, over: Sequence[Window], kind: str) -> list[Session]:
    """Sessions spread evenly over days, newest first."""
    whole = over[-1].end - over[0].start
    made: list[Session] = []
    for n in reversed(range(count)):
        at = (over[0].start + whole * n / count).replace(microsecond=0)
        stamp: object = at.strftime("%Y-%m-%dT%H:%M:%SZ") if kind == "v2" else int(at.timestamp())
        made.append({"session_id": f"s{n}", "created_at": stamp, "updated_at": stamp, "acus_consumed": 1.5})
    return made


def instant(session: Session, name: str = "created_at") -> datetime:
    return _instant(session[name])


@cache
def _instant(value: object) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(float(str(value)), UTC)


def honest_v2(listed: Callable[[], Sequence[Session]] | Sequence[Session], asked: Asked) -> Reply:
    every = listed() if callable(listed) else listed
    name = "updated" if "updated_date_from" in asked.query else "created"
    start = datetime.fromisoformat(asked.one(f"{name}_date_from"))
    end = datetime.fromisoformat(asked.one(f"{name}_date_to"))
    fitting = [session for session in every if start <= instant(session, f"{name}_at") <= end]
    skip, limit = int(asked.one("skip")), int(asked.one("limit"))
    return page_v2(fitting[skip : skip + limit], skip=skip, limit=limit, total=len(fitting))


def page_v2(items: Sequence[object], *, skip: int = 0, limit: int = 200, total: int, more: object = None) -> Reply:
    has_more = skip + limit < total if more is None else more
    return json_reply({"items": items, "has_more": has_more, "total": total, "skip": skip, "limit": limit})


def honest_v3(every: Sequence[Session], asked: Asked, *, with_total: bool = True) -> Reply:
    name = "updated" if "updated_after" in asked.query else "created"
    start, end = (datetime.fromtimestamp(int(asked.one(f"{name}_{of}")), UTC) for of in ("after", "before"))
    fitting = [session for session in every if start <= instant(session, f"{name}_at") < end]
    skip, first = int(asked.one("after", "at=0").removeprefix("at=")), int(asked.one("first"))
    more = skip + first < len(fitting)
    return page_v3(
        fitting[skip : skip + first],
        cursor=f"at={skip + first}" if more else None,
        more=more,
        total=len(fitting) if with_total else None,
    )


def page_v3(items: Sequence[object], *, cursor: str | None = None, more: bool = False, total: object = None) -> Reply:
    return json_reply({"items": items, "end_cursor": cursor, "has_next_page": more, "total": total})


def json_reply(value: object, status: int = 200) -> Reply:
    return Reply(json.dumps(value).encode(), status, {"Content-Type": "application/json"})


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Hang up with a reset instead of a response."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def cut_short(body: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Announce a whole body, send half of it and hang up."""

    def instead(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[: len(body) // 2])

    return instead


def trickle_headers(handler: BaseHTTPRequestHandler) -> None:
    """Send headers one byte at a time, longer than any test waits."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(200):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def trickle(body: bytes, seconds: float) -> Callable[[BaseHTTPRequestHandler], None]:
    """Send one byte at a time."""

    def instead(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for n in range(len(body)):
            handler.wfile.write(body[n : n + 1])
            time.sleep(seconds)

    return instead
