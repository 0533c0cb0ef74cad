"""One request and its response as a fault meets them: the page to edit, the bytes to send, the connection to end."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from devin_pipeline.emulator.enterprise import Enterprise

LONGEST_SECONDS = 3.0
"""No fault holds a request longer than this, whatever it is set to; to hang up takes a second more at most."""

_SECONDS_TO_HANG_UP = 1.0

Params = list[tuple[str, str]]


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
        self.params: Params = QueryParams(scope["query_string"]).multi_items()

    def counted_by(self, counts: Callable[[], None]) -> None:
        """Have a fault counted before its first byte leaves: a client that met it finds it counted."""
        self._counts = counts

    async def honest(self, params: Params | None = None) -> Answer:
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

    async def page(self, params: Params | None = None) -> Page | None:
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
