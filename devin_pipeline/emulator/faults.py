"""What may go wrong between a client and the API, sent on purpose over the real socket.

A fault spoils one answer: its status, its bytes on the wire, what its page says. An event changes the enterprise just
before an answer, as other people do while somebody reads. Which request meets which of them is a script's business,
by number or by chance from a seed. What the honest answer is does not belong here.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import gzip
import json
import random
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Literal, Protocol
from urllib.parse import urlencode

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from devin_pipeline.emulator.enterprise import Enterprise

LONGEST_SECONDS = 3.0
"""No fault holds a request longer than this, whatever it is set to; to hang up takes a second more at most."""

_SECONDS_TO_HANG_UP = 1.0

_Params = list[tuple[str, str]]
_Edit = Callable[["Page"], bool]


@dataclasses.dataclass
class Answer:
    """A whole answer, not compressed."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Page:
    """An honest page of a listing, to be edited: its items as sent, and the members next to them.

    Attributes:
        items: JSON texts.
        fields: The rest of the envelope; `total`, `has_more`, `end_cursor` …
        asked: The query it answers; of repeated names the last counts.
    """

    def __init__(self, body: bytes, asked: Mapping[str, str]) -> None:
        envelope = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        self.items = msgspec.json.decode(envelope.pop("items"), type=list[msgspec.Raw])
        self.fields: dict[str, Any] = {name: msgspec.json.decode(value) for name, value in envelope.items()}
        self.asked = asked

    @property
    def is_v2(self) -> bool:
        """True when pages differ by offset."""
        return "skip" in self.fields

    @property
    def more(self) -> str:
        """The name of the field that says whether a page follows."""
        return "has_more" if self.is_v2 else "has_next_page"

    @property
    def has_more(self) -> bool:
        """True when a page follows."""
        return bool(self.fields[self.more])

    @property
    def is_counted(self) -> bool:
        """True when the page states a total, so that a client can notice what is missing."""
        return self.fields["total"] is not None

    def body(self) -> bytes:
        """The page as JSON."""
        return msgspec.json.encode(self.fields | {"items": self.items})


class Exchange:
    """One request under way, with everything a fault may do to it.

    Attributes:
        enterprise: Whose sessions are asked for.
        params: The query.
        headers: The request's headers.
    """

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope,
        receive: Receive,
        send: Send,
        transport: asyncio.Transport,
        record: Callable[[int], None],
        enterprise: Enterprise,
    ) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._transport = transport
        self._record = record
        self._counts: Callable[[], None] = lambda: None
        self.enterprise = enterprise
        self.headers = Headers(scope=scope)
        self.params: _Params = QueryParams(scope["query_string"]).multi_items()

    def counted_by(self, counts: Callable[[], None]) -> None:
        """Have a fault counted before its first byte leaves: a client that met it finds it counted."""
        self._counts = counts

    async def honest(self, params: _Params | None = None) -> Answer:
        """The answer the API would give, to this query or another; nothing is sent yet."""
        answer = Answer(500, [], b"")

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], list(message["headers"])
            else:
                answer.body += message.get("body", b"")

        headers = [(name, value) for name, value in self._scope["headers"] if name != b"accept-encoding"]
        query = urlencode(self.params if params is None else params).encode()
        await self._app({**self._scope, "headers": headers, "query_string": query}, self._receive, keep)
        return answer

    async def page(self, params: _Params | None = None) -> Page | None:
        """The honest answer as a page; None when it is none, or one whose items are not JSON."""
        answer = await self.honest(params)
        try:
            return Page(answer.body, dict(self.params)) if answer.status == HTTPStatus.OK else None
        except (msgspec.MsgspecError, KeyError):
            return None

    async def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a response that is valid HTTP."""
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        if status != HTTPStatus.NO_CONTENT:
            raw.append((b"content-length", str(len(body)).encode()))
        self._counts()
        await self._send({"type": "http.response.start", "status": status, "headers": raw})
        await self._send({"type": "http.response.body", "body": body})

    async def answer_page(self, page: Page) -> None:
        """Send a page."""
        await self.answer(200, {"Content-Type": "application/json"}, page.body())

    def write_head(self, headers: Mapping[str, str]) -> None:
        """Write the beginning of a 200 past the server; what follows is up to the fault, which must hang up."""
        self._counts()
        self._record(200)
        lines = ["HTTP/1.1 200 OK", "X-Devin-Emulator: 1", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._transport.write("\r\n".join([*lines, "", ""]).encode())

    def write(self, raw: bytes) -> None:
        """Write bytes past the server."""
        self._transport.write(raw)

    async def wait(self, seconds: float) -> bool:
        """Wait, but no longer than any fault may, nor than the client does; True while the client is there."""
        left = asyncio.ensure_future(self._until_gone())
        await asyncio.wait([left], timeout=min(seconds, LONGEST_SECONDS))
        is_there = not left.done()
        left.cancel()
        return is_there

    async def hang_up(self, *, reset: bool = False) -> None:
        """End the connection, after what was written or with a reset."""
        if reset:
            # What was written leaves first: the client is to see the connection break there and nowhere else.
            for _ in range(50):
                if not self._transport.get_write_buffer_size():
                    break
                await asyncio.sleep(0.01)
            connection = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()
        if await self.wait(_SECONDS_TO_HANG_UP):
            self._transport.abort()
            await self._until_gone()

    def nothing_is_said(self) -> None:
        """Record a request that gets no status."""
        self._counts()
        self._record(0)

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Fault(ABC):
    """Something that spoils one answer."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What it is counted as."""

    @abstractmethod
    async def spoil(self, exchange: Exchange) -> bool:
        """Answer wrongly. False, and nothing sent, when this answer leaves no room for it."""


@dataclasses.dataclass(frozen=True)
class Status(Fault):
    """A status other than 200.

    Args:
        status: The status.
        retry_after: The header's text; a time span is sent as the HTTP date that long from now.
        location: Where a redirect leads.
    """

    status: int
    retry_after: str | timedelta | None = None
    location: str | None = None

    @property
    def kind(self) -> str:
        """Such as `status 429, Retry-After: 2`."""
        about = f"status {self.status}"
        if isinstance(self.retry_after, timedelta):
            about += f", Retry-After: a date {self.retry_after.total_seconds():+.0f} s"
        elif self.retry_after is not None:
            about += f", Retry-After: {self.retry_after}"
        return about if self.location is None else f"{about} to {self.location.partition('//')[0] or 'a path'}"

    async def spoil(self, exchange: Exchange) -> bool:
        """Send the status, with a body as the API's own."""
        headers = {"Content-Type": "application/json"}
        if isinstance(self.retry_after, timedelta):
            headers["Retry-After"] = format_datetime(datetime.now(UTC) + self.retry_after, usegmt=True)
        elif self.retry_after is not None:
            headers["Retry-After"] = self.retry_after
        if self.location is not None:
            headers["Location"] = self.location
        body = b"" if self.status == HTTPStatus.NO_CONTENT else b'{"detail": "scripted"}'
        await exchange.answer(self.status, headers, body)
        return True


@dataclasses.dataclass(frozen=True)
class Echo(Fault):
    """An error whose body and headers repeat what was asked, key included, wherever a client may look."""

    status: int
    text: str = ""

    @property
    def kind(self) -> str:
        """Such as `echo 422`."""
        return f"echo {self.status}"

    async def spoil(self, exchange: Exchange) -> bool:
        """Send it; a 200 is not a page either."""
        authorization = exchange.headers.get("authorization", "")
        said = f"{self.text} Authorization: {authorization} {urlencode(exchange.params)}"
        detail = {"type": said, "loc": ["query", said, authorization], "msg": said, "input": said, "ctx": {said: said}}
        headers = {"Content-Type": "application/json", "X-Echo": said, "Retry-After": authorization}
        body = json.dumps({"detail": [detail], said: said, "items": [said], "total": said}).encode()
        await exchange.answer(self.status, {name: _one_line(value) for name, value in headers.items()}, body)
        return True


@dataclasses.dataclass(frozen=True)
class Body(Fault):
    """A 200 whose body is something else than a page."""

    name: str
    body: bytes
    content_type: str = "application/json"

    @property
    def kind(self) -> str:
        """Its name."""
        return self.name

    async def spoil(self, exchange: Exchange) -> bool:
        """Send it."""
        await exchange.answer(200, {"Content-Type": self.content_type}, self.body)
        return True


@dataclasses.dataclass(frozen=True)
class Typed(Fault):
    """The honest page under another content type, or none."""

    content_type: str | None

    @property
    def kind(self) -> str:
        """Such as `sent as text/plain`."""
        return f"sent as {self.content_type or 'no type'}"

    async def spoil(self, exchange: Exchange) -> bool:
        """Send it."""
        answer = await exchange.honest()
        await exchange.answer(
            answer.status, {"Content-Type": self.content_type} if self.content_type else {}, answer.body
        )
        return True


@dataclasses.dataclass(frozen=True)
class Reset(Fault):
    """The connection breaks with a reset: before the status, or after a share of the body."""

    after: float | None = None

    @property
    def kind(self) -> str:
        """Such as `reset after 50 % of the body`."""
        return "reset before the status" if self.after is None else f"reset after {self.after:.0%} of the body"

    async def spoil(self, exchange: Exchange) -> bool:
        """Break it."""
        if self.after is None:
            exchange.nothing_is_said()
        else:
            body = (await exchange.honest()).body
            exchange.write_head({"Content-Length": str(len(body))})
            exchange.write(body[: int(len(body) * self.after)])
        await exchange.hang_up(reset=True)
        return True


@dataclasses.dataclass(frozen=True)
class CutShort(Fault):
    """Half a body, then an orderly end, under one of HTTP's three ways to state how long a body is."""

    framing: Literal["length", "chunks", "close"]

    @property
    def kind(self) -> str:
        """Such as `cut short, framed by length`."""
        return f"cut short, framed by {self.framing}"

    async def spoil(self, exchange: Exchange) -> bool:
        """Send half."""
        body = (await exchange.honest()).body
        half = body[: len(body) // 2]
        if self.framing == "length":
            exchange.write_head({"Content-Length": str(len(body))})
            exchange.write(half)
        elif self.framing == "chunks":
            exchange.write_head({"Transfer-Encoding": "chunked"})
            exchange.write(b"%x\r\n%b" % (len(body), half))
        else:
            exchange.write_head({"Connection": "close"})
            exchange.write(half)
        await exchange.hang_up()
        return True


@dataclasses.dataclass(frozen=True)
class Compressed(Fault):
    """A body said to be gzip, and damaged."""

    damage: Literal["garbage", "sum", "truncated", "bomb"]

    @property
    def kind(self) -> str:
        """Such as `gzip with a wrong sum`."""
        return {
            "garbage": "gzip that is garbage",
            "sum": "gzip with a wrong sum",
            "truncated": "gzip cut short",
            "bomb": "gzip bomb",
        }[self.damage]

    async def spoil(self, exchange: Exchange) -> bool:
        """Send it, whole as HTTP goes."""
        if self.damage == "bomb":
            packed = gzip.compress(bytes(200 * 2**20), compresslevel=9)
        else:
            packed = gzip.compress((await exchange.honest()).body, compresslevel=1)
        if self.damage == "garbage":
            packed = packed[:10] + b"\xff" * 20
        elif self.damage == "sum":
            packed = packed[:-8] + bytes(byte ^ 0xFF for byte in packed[-8:-4]) + packed[-4:]
        elif self.damage == "truncated":
            packed = packed[:-6]
        await exchange.answer(200, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, packed)
        return True


@dataclasses.dataclass(frozen=True)
class Trickle(Fault):
    """A body that comes a byte at a time for so many seconds, and then breaks off."""

    seconds: float
    pause_seconds: float = 0.05

    @property
    def kind(self) -> str:
        """One kind, however long."""
        return "trickle"

    async def spoil(self, exchange: Exchange) -> bool:
        """Let it trickle."""
        body = (await exchange.honest()).body
        exchange.write_head({"Content-Length": str(len(body))})
        bytes_sent = min(len(body) - 1, round(min(self.seconds, LONGEST_SECONDS) / self.pause_seconds))
        for position in range(bytes_sent):
            exchange.write(body[position : position + 1])
            if not await exchange.wait(self.pause_seconds):
                return True
        await exchange.hang_up()
        return True


@dataclasses.dataclass(frozen=True)
class Silence(Fault):
    """A request that is taken and never answered; after so many seconds the connection ends."""

    seconds: float

    @property
    def kind(self) -> str:
        """One kind, however long."""
        return "silence"

    async def spoil(self, exchange: Exchange) -> bool:
        """Say nothing."""
        exchange.nothing_is_said()
        if await exchange.wait(self.seconds):
            await exchange.hang_up()
        return True


@dataclasses.dataclass(frozen=True)
class Edited(Fault):
    """A page that says something untrue.

    Args:
        name: What it is counted as.
        edit: Changes the page; False when the page leaves no room for it.
    """

    name: str
    edit: _Edit

    @property
    def kind(self) -> str:
        """Its name."""
        return self.name

    async def spoil(self, exchange: Exchange) -> bool:
        """Send the page as edited."""
        page = await exchange.page()
        if page is None or not self.edit(page):
            return False
        await exchange.answer_page(page)
        return True


@dataclasses.dataclass(frozen=True)
class Misheard(Fault):
    """The honest answer to another query than was asked.

    Args:
        name: What it is counted as.
        hear: Gives the query answered; None when this one leaves no room for it.
        echoes: True when a v2 page claims to start and end where it was asked to.
    """

    name: str
    hear: Callable[[_Params], _Params | None]
    echoes: bool = False

    @property
    def kind(self) -> str:
        """Its name."""
        return self.name

    async def spoil(self, exchange: Exchange) -> bool:
        """Answer what was not asked."""
        heard = self.hear(exchange.params)
        page = None if heard is None else await exchange.page(heard)
        if page is None:
            return False
        if self.echoes and page.is_v2:
            page.fields["skip"] = int(page.asked["skip"])
        await exchange.answer_page(page)
        return True


@dataclasses.dataclass(frozen=True)
class WhereListed(Fault):
    """Another fault, for each page that lists one of some sessions; all other pages are honest.

    Args:
        session_ids: The sessions, as the listing names them.
        fault: What its pages meet.
    """

    session_ids: frozenset[str]
    fault: Fault

    @property
    def kind(self) -> str:
        """That of the fault."""
        return self.fault.kind

    async def spoil(self, exchange: Exchange) -> bool:
        """Have the fault answer if one of the sessions is listed."""
        page = await exchange.page()
        if page is None:
            return False
        listed = {msgspec.json.decode(item, type=_Named).session_id for item in page.items}
        return bool(listed & self.session_ids) and await self.fault.spoil(exchange)


class _Named(msgspec.Struct):
    session_id: str | None = None


@dataclasses.dataclass(frozen=True)
class TwoAtOnce(Fault):
    """A page and the one after it as one: more items than asked for."""

    kind: str = "more items than asked for"

    async def spoil(self, exchange: Exchange) -> bool:
        """Send both, if there are two."""
        page = await exchange.page()
        if page is None or not page.has_more:
            return False
        if page.is_v2:
            params = _with(exchange.params, "skip", str(page.fields["skip"] + page.fields["limit"]))
        else:
            params = _with(exchange.params, "after", page.fields["end_cursor"])
        following = await exchange.page(params)
        if following is None:
            return False
        page.items += following.items
        if not page.is_v2:
            page.fields = following.fields
        await exchange.answer_page(page)
        return True


def _one_line(text: str) -> str:
    return "".join(character if " " <= character <= "~" else "?" for character in text)


def _with(params: _Params, name: str, value: str) -> _Params:
    return [*((key, old) for key, old in params if key != name), (name, value)]


def _set(field: str, value: object, *, of: Literal["v2", "v3", "both"] = "both", more: bool = False) -> _Edit:
    """Set a field of the envelope, where the page has it (and, if so asked, is not the last)."""

    def edit(page: Page) -> bool:
        if field not in page.fields or (more and not page.has_more) or of not in ("both", "v2" if page.is_v2 else "v3"):
            return False
        page.fields[field] = value
        return True

    return edit


def _total_is_larger(page: Page) -> bool:
    if page.is_counted:
        page.fields["total"] += 1
    return page.is_counted


def _says_it_is_the_last(page: Page) -> bool:
    if not (page.has_more and page.is_counted):
        return False
    page.fields |= {page.more: False, "next_cursor" if page.is_v2 else "end_cursor": None}
    return True


def _says_that_more_follow(page: Page) -> bool:
    if page.has_more or not page.is_v2:
        return False
    page.fields |= {"has_more": True, "next_cursor": page.fields["skip"] + page.fields["limit"]}
    return True


def _more_is_text(page: Page) -> bool:
    page.fields[page.more] = str(page.has_more).lower()
    return True


def _more_is_missing(page: Page) -> bool:
    # On v3 that means the last page: a client without a total cannot know better.
    if not page.is_v2 and page.has_more and not page.is_counted:
        return False
    del page.fields[page.more]
    return True


def _is_empty(page: Page) -> bool:
    if page.is_v2:
        page.items, page.fields["has_more"] = [], True
        return True
    after = page.asked.get("after")
    start = json.dumps([2**53, ""]) if after is None else base64.b64decode(after).decode()
    if len(start) > 2_000:
        return False
    # Another spelling of the same place: the client that goes on there misses nothing.
    page.items, page.fields["has_next_page"] = [], True
    page.fields["end_cursor"] = base64.b64encode(f"{start}    ".encode()).decode()
    return True


def _cursor_repeats(page: Page) -> bool:
    if page.is_v2 or not page.has_more or "after" not in page.asked:
        return False
    page.fields["end_cursor"] = page.asked["after"]
    return True


def _items_are_left_out(page: Page) -> bool:
    if not page.is_counted or not page.items:
        return False
    page.items = page.items[: len(page.items) // 2]
    return True


def _an_item_comes_twice(page: Page) -> bool:
    page.items = [*page.items, *page.items[:1]]
    return len(page.items) > 1


def _next_cursor(value: object) -> _Edit:
    return _set("next_cursor", value, of="v2", more=True)


def _fewer(params: _Params) -> _Params | None:
    name = "limit" if "limit" in dict(params) else "first"
    asked = int(dict(params).get(name, "0"))
    return _with(params, name, str(asked // 2)) if asked > 1 else None


def _from_the_start(params: _Params) -> _Params | None:
    left = [(name, value) for name, value in params if name not in ("skip", "after")]
    return left if dict(params).get("skip", "0") != "0" or "after" in dict(params) else None


def _everything(params: _Params) -> _Params | None:
    left = [(name, value) for name, value in params if not name.startswith(("created_", "updated_"))]
    return left if left != params else None


REFUSALS: tuple[Fault, ...] = (
    *(Status(status) for status in (400, 401, 403, 404, 405, 410, 422)),
    Status(301, location="/elsewhere"),
    Status(302, location="https://elsewhere.invalid/"),
    Status(307, location="http://elsewhere.invalid/"),
)
"""What no further try resolves (H01-H04, H07, H25)."""

TRANSIENT: tuple[Fault, ...] = (
    *(Status(status) for status in (204, 408, 409, 425, 429, 500, 502, 503, 504)),
    *(Status(429, retry_after=text) for text in ("2", "soon", "-1", "1e9")),
    Status(429, retry_after=timedelta(seconds=3)),
    Status(429, retry_after=timedelta(hours=-1)),
    Status(503, retry_after="1"),
    Reset(),
    Reset(after=0),
    Reset(after=0.5),
    CutShort("length"),
    CutShort("chunks"),
    CutShort("close"),
    Body("a login page", b"<!doctype html><title>Sign in</title>", "text/html"),
    Body("an empty body", b""),
    *(
        Body(f"the body {text}", text.encode())
        for text in ("[]", "null", "{}", '{"items": null}', '{"detail": "scripted"}')
    ),
    Typed("text/plain"),
    Typed(None),
    Compressed("garbage"),
    Compressed("sum"),
    Compressed("truncated"),
    Trickle(0.3),
    Silence(0.3),
)
"""What passes on a retry (H05, H06, H08-H10, H12-H21, H23)."""

LIES: tuple[Fault, ...] = (
    TwoAtOnce(),
    Misheard("fewer items than asked for", _fewer),
    Misheard("the place asked for is ignored", _from_the_start),
    Misheard("the place asked for is ignored, and claimed", _from_the_start, echoes=True),
    Misheard("the window asked for is ignored", _everything),
    Edited("an empty page with more to come", _is_empty),
    Edited("a cursor comes again", _cursor_repeats),
    Edited("more to come, and no cursor", _set("end_cursor", None, of="v3", more=True)),
    Edited("next_cursor is null", _next_cursor(None)),
    Edited("next_cursor is 0", _next_cursor(0)),
    Edited("next_cursor jumps", _next_cursor(10**6)),
    Edited("next_cursor is text", _next_cursor("200")),
    Edited("the total is larger", _total_is_larger),
    Edited("the total is null", _set("total", None)),
    Edited("the total is negative", _set("total", -1)),
    Edited("the total is text", _set("total", "12")),
    Edited("the last page too early", _says_it_is_the_last),
    Edited("more to come after the last page", _says_that_more_follow),
    Edited("whether more follow is text", _more_is_text),
    Edited("whether more follow is missing", _more_is_missing),
    Edited("items are left out", _items_are_left_out),
    Edited("an item comes twice", _an_item_comes_twice),
)
"""Pages that contradict themselves, each other or the query (H26-H35, H39).

What nobody could notice is left out: items missing from a listing that states no total.
"""


class Event(Protocol):
    """Something other people do while somebody reads: changes the enterprise, or gives False when it cannot."""

    __name__: str

    def __call__(self, enterprise: Enterprise, rng: random.Random) -> bool:
        """Let it happen."""


def created_in_a_closed_day(enterprise: Enterprise, rng: random.Random) -> bool:
    """A session appears next to one that is more than a day old, as if it had been hidden until now."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    return _created_near(enterprise, rng, lambda created_at: created_at < yesterday - timedelta(hours=1))


def created_now(enterprise: Enterprise, rng: random.Random) -> bool:
    """A session is created now."""
    enterprise.add_session(created_at=datetime.now(UTC).replace(microsecond=0))
    return True


def created_at_the_start_of_a_day(enterprise: Enterprise, rng: random.Random) -> bool:
    """A session appears whose creation is the bound between two billing days, to the second."""
    if not (sessions := enterprise.sessions):
        return False
    near = rng.choice(sessions).created_at - timedelta(hours=8)
    enterprise.add_session(created_at=near.replace(hour=8, minute=0, second=0, microsecond=0))
    return True


def updated(enterprise: Enterprise, rng: random.Random) -> bool:
    """A few sessions consume more; one pull request is merged."""
    return bool(enterprise.grow_acus(rng.randrange(1, 4)) + enterprise.merge_pull_requests(1))


def analysed(enterprise: Enterprise, rng: random.Random) -> bool:
    """An analysis arrives."""
    return bool(enterprise.add_analyses(1))


def session_deleted(enterprise: Enterprise, rng: random.Random) -> bool:
    """A session is deleted."""
    if sessions := enterprise.sessions:
        enterprise.delete_session(rng.choice(sessions).session_id)
    return bool(sessions)


def organization_deleted(enterprise: Enterprise, rng: random.Random) -> bool:
    """An organization is deleted, unless it is the last."""
    standing = [organization for organization in enterprise.organizations if not organization.is_deleted]
    if len(standing) > 1:
        enterprise.delete_organization(rng.choice(standing).org_id)
    return len(standing) > 1


def _created_near(enterprise: Enterprise, rng: random.Random, is_wanted: Callable[[datetime], bool]) -> bool:
    if instants := [session.created_at for session in enterprise.sessions if is_wanted(session.created_at)]:
        enterprise.add_session(created_at=rng.choice(instants) + timedelta(seconds=rng.randrange(3_600)))
    return bool(instants)


EVENTS: tuple[Event, ...] = (
    created_in_a_closed_day,
    created_now,
    created_at_the_start_of_a_day,
    updated,
    analysed,
    session_deleted,
)
"""What happens between pages (H36-H38, H40). `organization_deleted` is apart: there are only a few of them."""

_Plan = Callable[[int], tuple[Sequence[Event], Fault | None, random.Random]]


class FaultScript:
    """Which request meets which fault and which event; counts what really took place.

    Requests are numbered from 1 in the order they arrive once the script is armed.
    """

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._asked = 0
        self._sent: Counter[str] = Counter()
        self._happened: Counter[str] = Counter()

    @classmethod
    def of(cls, faults: Mapping[int, Fault], events: Mapping[int, Event] | None = None) -> FaultScript:
        """Faults and events at exact requests; 0 stands for every request without one of its own."""
        before = events or {}

        def plan(number: int) -> tuple[Sequence[Event], Fault | None, random.Random]:
            event = before.get(number, before.get(0))
            rng = random.Random(number)  # noqa: S311 - repeatable, not secret
            return [event] if event else [], faults.get(number, faults.get(0)), rng

        return cls(plan)

    @classmethod
    def seeded(
        cls,
        seed: int,
        *,
        rate: float = 0.1,
        kinds: Collection[Fault] = (*TRANSIENT, *LIES),
        event_rate: float = 0.0,
        events: Collection[Event] = EVENTS,
    ) -> FaultScript:
        """Faults and events by chance: the same seed plans the same for the same number of a request.

        Args:
            seed: Any integer.
            rate: The share of requests that are to meet a fault, 0 to 1.
            kinds: What may be sent.
            event_rate: The share of requests before which something happens.
            events: What may happen.
        """
        faults, happenings = list(kinds), list(events)

        def plan(number: int) -> tuple[Sequence[Event], Fault | None, random.Random]:
            rng = random.Random(f"{seed}/faults/{number}")  # noqa: S311 - repeatable, not secret
            fault = rng.choice(faults) if rng.random() < rate else None
            event = [rng.choice(happenings)] if rng.random() < event_rate else []
            return event, fault, rng

        return cls(plan)

    @property
    def sent(self) -> Counter[str]:
        """How many faults were really sent, by kind."""
        with self._lock:
            return self._sent.copy()

    @property
    def happened(self) -> Counter[str]:
        """How many events took place, by name."""
        with self._lock:
            return self._happened.copy()

    @property
    def asked(self) -> int:
        """How many requests have arrived."""
        with self._lock:
            return self._asked

    async def play(self, exchange: Exchange) -> bool:
        """Let happen what is planned for the next request; True when it was answered, if only by a silence."""
        with self._lock:
            self._asked += 1
            events, fault, rng = self._plan(self._asked)
        for event in events:
            with exchange.enterprise.lock:
                took_place = event(exchange.enterprise, rng)
            if took_place:
                with self._lock:
                    self._happened[event.__name__] += 1
        if fault is None:
            return False
        exchange.counted_by(partial(self._count, fault))
        return await fault.spoil(exchange)

    def _count(self, fault: Fault) -> None:
        with self._lock:
            self._sent[fault.kind] += 1
