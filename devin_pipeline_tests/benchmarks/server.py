"""Serves the sessions of a benchmark from a process of its own, so that no client shares its interpreter lock.

It returns what Devin's API returns, as fast as it may: no checks of keys, no faults. The emulator is for those. Each
response takes as long as was asked for, and the log says how long that was: the limit of a client is what its requests
waited, divided by how many it had in flight.
"""

import argparse
import asyncio
import base64
import gzip
import json
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import parse_qs

import httpx
import uvicorn

from devin_pipeline_tests.benchmarks.sessions import Feed, Sessions

V2_KEY = "apk_user_benchmark"
V3_KEY = "cog_benchmark"
V2_PATH = "/v2/enterprise/sessions/insights"

_V3_PATHS: dict[str, Feed] = {
    "/v3/enterprise/sessions": "sessions_v3",
    "/v3/enterprise/sessions/insights": "session_insights_v3",
}
_LONG_AGO = 0
_FAR_AWAY = 2**62
_LARGEST_PAGE = 200
_Send = Callable[[dict[str, Any]], Awaitable[None]]
_Asked = dict[str, list[str]]


@dataclass(frozen=True)
class Latency:
    """How long a response takes, in milliseconds: drawn evenly between two bounds, by a seed."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least} ms" if self.least == self.most else f"{self.least}-{self.most} ms"


@dataclass(frozen=True)
class Log:
    """What the server answered since it was last asked.

    Attributes:
        requests: How many requests.
        waited_seconds: The latencies that were asked for, added up.
        bytes_sent: Size of the bodies.
        in_flight: The most requests that waited at once.
        cpu_seconds: What serving them cost.
    """

    requests: int
    waited_seconds: float
    bytes_sent: int
    in_flight: int
    cpu_seconds: float


class _Api:
    """The listings of v2 and v3, the bill, and under `/_benchmark` what a benchmark wants of its server."""

    def __init__(self, sessions: Sessions, *, compresses: bool) -> None:
        self._sessions = sessions
        self._compresses = compresses
        self._set_latency(Latency(0, 0))
        self._answers: list[tuple[float, float, int]] = []
        self._waiting = self._most_waiting = 0
        self._cpu_before = time.process_time()

    async def __call__(self, scope: dict[str, Any], _: object, send: _Send) -> None:
        path, asked = scope["path"], parse_qs(scope["query_string"].decode())
        if path.startswith("/_benchmark/"):
            await _answer(send, json.dumps(self._ordered(path.rpartition("/")[2], asked)).encode())
            return
        started = time.perf_counter()
        latency = self._random.uniform(self._latency.least, self._latency.most) / 1000
        self._waiting += 1
        self._most_waiting = max(self._most_waiting, self._waiting)
        body = self._body(path, asked)
        encoding = []
        if self._compresses and (b"accept-encoding", b"gzip") in [
            (name, value[:4]) for name, value in scope["headers"]
        ]:
            body, encoding = gzip.compress(body, 1), [(b"content-encoding", b"gzip")]
        # Making the page is part of the latency, as it is with any API.
        await asyncio.sleep(max(0.0, started + latency - time.perf_counter()))
        self._waiting -= 1
        self._answers.append((started, latency, len(body)))
        await _answer(send, body, encoding)

    def _ordered(self, order: str, asked: _Asked) -> dict[str, Any]:
        if order == "latency":
            self._set_latency(Latency(_number(asked, "least", 0), _number(asked, "most", 0)))
        elif order == "change":
            self._sessions.change(date.fromordinal(_number(asked, "day", 0)))
        elif order == "log":
            log = {
                "requests": len(self._answers),
                "waited_seconds": sum(latency for _, latency, _ in self._answers),
                "bytes_sent": sum(size for *_, size in self._answers),
                "in_flight": self._most_waiting,
                "cpu_seconds": time.process_time() - self._cpu_before,
            }
            self._answers, self._most_waiting, self._cpu_before = [], 0, time.process_time()
            return log
        return {}

    def _set_latency(self, latency: Latency) -> None:
        self._latency = latency
        self._random = random.Random(f"{latency}")

    def _body(self, path: str, asked: _Asked) -> bytes:
        if path == V2_PATH:
            return self._page_v2(asked)
        if path in _V3_PATHS:
            return self._page_v3(_V3_PATHS[path], asked)
        return self._sessions.bill.answer(path, asked)

    def _page_v2(self, asked: _Asked) -> bytes:
        first = self._sessions.created_before(_instant(asked, "created_date_from", _LONG_AGO))
        # v2's upper bound is taken as inclusive.
        after = self._sessions.created_before(_instant(asked, "created_date_to", _FAR_AWAY - 1) + 1)
        skip, limit = _number(asked, "skip", 0), min(_number(asked, "limit", 100), _LARGEST_PAGE)
        total = after - first
        items = self._items("session_insights_v2", after - skip, min(limit, total - skip))
        more = skip + limit < total
        return b'{"has_more":%b,"items":[%b],"limit":%d,"skip":%d,"total":%d,"next_cursor":%b}' % (
            b"true" if more else b"false",
            items,
            limit,
            skip,
            total,
            b"%d" % (skip + limit) if more else b"null",
        )

    def _page_v3(self, feed: Feed, asked: _Asked) -> bytes:
        first = self._sessions.created_before(_number(asked, "created_after", _LONG_AGO) * 10**6)
        after = self._sessions.created_before(_number(asked, "created_before", _FAR_AWAY // 10**6) * 10**6)
        total = after - first
        if "after" in asked:
            after = int(base64.b64decode(asked["after"][0]))
        count = min(_number(asked, "first", 100), _LARGEST_PAGE, after - first)
        more = after - count > first
        return b'{"items":[%b],"end_cursor":%b,"has_next_page":%b,"total":%b}' % (
            self._items(feed, after, count),
            b'"%b"' % base64.b64encode(b"%d" % (after - count)) if more else b"null",
            b"true" if more else b"false",
            b"%d" % total if feed == "session_insights_v3" else b"null",
        )

    def _items(self, feed: Feed, after: int, count: int) -> bytes:
        """Newest first, down from the session before number `after`."""
        return b",".join(self._sessions.item(feed, number) for number in range(after - 1, after - 1 - count, -1))


async def _answer(send: _Send, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    all_headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *(headers or [])]
    await send({"type": "http.response.start", "status": 200, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


def _number(asked: _Asked, name: str, default: int) -> int:
    return int(asked[name][0]) if name in asked else default


def _instant(asked: _Asked, name: str, default: int) -> int:
    """Microseconds since the epoch."""
    if name not in asked:
        return default
    instant = datetime.fromisoformat(asked[name][0])
    since = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86400 * 10**6 + since.seconds * 10**6 + since.microseconds


class Server:
    """A server that runs in another process, and how to speak to it."""

    def __init__(self, url: str, process_id: int) -> None:
        self.url = url
        self.process_id = process_id

    def take(self, latency: Latency) -> None:
        """Answer that slowly from now on, drawing the same latencies as before."""
        self._order("latency", least=latency.least, most=latency.most)

    def change(self, day: date) -> None:
        """Let the first session of a billing day consume one more ACU."""
        self._order("change", day=day.toordinal())

    def log(self) -> Log:
        """What was answered since this was last asked."""
        return Log(**self._order("log"))

    def _order(self, order: str, **asked: int) -> dict[str, Any]:
        response = httpx.get(f"{self.url}/_benchmark/{order}", params=asked, trust_env=False, timeout=60)
        reply: dict[str, Any] = response.raise_for_status().json()
        return reply


@contextmanager
def serving(
    count: int,
    days: int,
    last_day: date,
    *,
    compresses: bool = False,
    texts: int | None = None,
    people: int | None = None,
) -> Iterator[Server]:
    """A server over `count` sessions in `days` billing days, for as long as the block lasts.

    Args:
        count: How many sessions.
        days: Over how many billing days.
        last_day: The last of these.
        compresses: Answer clients that accept gzip so, as a server would that compresses while it responds (level 1).
        texts: How many different texts each pool holds; the usual thousands when left out.
        people: How many users and service users have sessions and are billed; the usual number when left out.
    """
    arguments = [str(count), str(days), last_day.isoformat(), *(["--gzip"] if compresses else [])]
    arguments += [] if texts is None else ["--texts", str(texts)]
    arguments += [] if people is None else ["--people", str(people)]
    with subprocess.Popen([sys.executable, "-m", __name__, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url, "the server did not start"
            yield Server(url, process.pid)
        finally:
            process.terminate()


def _serve() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sessions", type=int)
    parser.add_argument("days", type=int)
    parser.add_argument("last_day", type=date.fromisoformat)
    parser.add_argument("--gzip", action="store_true")
    parser.add_argument("--texts", type=int)
    parser.add_argument("--people", type=int)
    given = parser.parse_args()
    pools = {name: value for name in ("texts", "people") if (value := getattr(given, name)) is not None}
    sessions = Sessions(given.sessions, given.days, given.last_day, **pools)
    sessions.render_if_few("session_insights_v2")
    api = _Api(sessions, compresses=given.gzip)

    class Announced(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            port = self.servers[0].sockets[0].getsockname()[1]
            sys.stdout.write(f"http://127.0.0.1:{port}\n")
            sys.stdout.flush()

    config = uvicorn.Config(api, port=0, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=60)
    Announced(config).run()


if __name__ == "__main__":
    _serve()
