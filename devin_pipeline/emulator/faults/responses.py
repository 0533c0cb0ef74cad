"""Faults of one response: its status, its headers, its bytes, its pace."""

from __future__ import annotations

import dataclasses
import gzip
import json
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Literal
from urllib.parse import urlencode

from devin_pipeline.emulator.faults.exchange import LONGEST_SECONDS, Exchange


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


def _one_line(text: str) -> str:
    return "".join(character if " " <= character <= "~" else "?" for character in text)


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
