"""What a page of the API looks like: its envelope, and where its items begin and end.

Shapes: the v2 page ("List Enterprise Sessions (Insights)") and the v3 page ("List account sessions") of the API
reference. What an item is lives in `items`. Nothing here knows HTTP.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, TypeVar

import msgspec
import pyarrow as pa

from devin_pipeline.devin_api.errors import InvalidResponse
from devin_pipeline.devin_api.items import LATEST_AHEAD, Item, read_items, text_column
from devin_pipeline.devin_api.lenient_json import split_object

# A damaged body is usually a cut connection, and a retry helps; it rarely helps with a body of the wrong shape.
_TRIES_FOR_DAMAGE = 5
_TRIES_FOR_SHAPE = 2

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HTML = re.compile(r"[ \t\n\r]*<")


class OffsetPage(msgspec.Struct, frozen=True):
    """A v2 page: where it starts, and how many sessions there are in all."""

    items: list[Item]
    has_more: bool
    total: int
    skip: int
    limit: int

    @property
    def more(self) -> bool:
        """Whether more pages follow."""
        return self.has_more


class CursorPage(msgspec.Struct, frozen=True):
    """A v3 page: whether more follow, and the cursor that leads there."""

    items: list[Item]
    has_next_page: bool
    end_cursor: str | None
    total: int | None

    @property
    def more(self) -> bool:
        """Whether more pages follow."""
        return self.has_next_page


class Principal(msgspec.Struct, frozen=True):
    """Whose key it is, as `GET /v3/self` returns it; a person's id and name are not read.

    Attributes:
        principal_type: `service_user`, `pat_user`, ….
        service_user_name: the name of a service user, as somebody typed it.
        org_id: the one organization the key is of; None for the whole enterprise.
    """

    principal_type: str
    service_user_name: str | None = None
    org_id: str | None = None


_Count = Annotated[int, msgspec.Meta(ge=0)]


class _OffsetEnvelope(msgspec.Struct):
    items: list[msgspec.Raw]
    has_more: bool
    total: _Count
    skip: _Count
    limit: Annotated[int, msgspec.Meta(ge=1)]


class _CursorEnvelope(msgspec.Struct):
    # guard: an answer without items | [msgspec.Raw] -> [msgspec.Raw] = []
    items: list[msgspec.Raw]
    end_cursor: str | None = None
    has_next_page: bool = False
    total: _Count | None = None


_Envelope = TypeVar("_Envelope", _OffsetEnvelope, _CursorEnvelope)

_offset_decoder = msgspec.json.Decoder(_OffsetEnvelope)
_cursor_decoder = msgspec.json.Decoder(_CursorEnvelope)


def offset_page(body: bytes, now: datetime) -> OffsetPage:
    """Read a v2 page.

    Args:
        body: the decoded response body.
        now: creation times more than a day after it are unusable.

    Raises:
        InvalidResponse: the body is not a v2 page.
    """
    envelope, items = _split(body, _offset_decoder, now)
    return OffsetPage(items, envelope.has_more, envelope.total, envelope.skip, envelope.limit)


def cursor_page(body: bytes, now: datetime) -> CursorPage:
    """Read a v3 page.

    Args:
        body: the decoded response body.
        now: creation times more than a day after it are unusable.

    Raises:
        InvalidResponse: the body is not a v3 page.
    """
    envelope, items = _split(body, _cursor_decoder, now)
    return CursorPage(items, envelope.has_next_page, envelope.end_cursor, envelope.total)


def principal(body: bytes) -> Principal:
    """Read whose key it is.

    Raises:
        InvalidResponse: the body names no principal.
    """
    try:
        return msgspec.json.decode(body, type=Principal)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise InvalidResponse(
            "The owner of the key could not be read",
            "the answer is not JSON, or names no principal",
            "Check that DEVIN_API_URL leads to the Devin API; if it does, the API has changed",
        ) from None


def _split(body: bytes, decoder: "msgspec.json.Decoder[_Envelope]", now: datetime) -> tuple[_Envelope, list[Item]]:
    if body.startswith(_BYTE_ORDER_MARK):
        body = body[len(_BYTE_ORDER_MARK) :]
    # guard: text of another encoding
    _require_utf8(body)
    latest = now + LATEST_AHEAD
    try:
        try:
            envelope = decoder.decode(body)
            payloads = [bytes(raw) for raw in envelope.items]
        except msgspec.ValidationError as error:
            raise _wrong_shape(str(error)) from None
        except msgspec.DecodeError:
            # msgspec gives up on the whole page for one NaN or one lone surrogate (and calls the latter "truncated");
            # the standard library reads both, so that one odd item does not cost its neighbours.
            fields, payloads = _split_slowly(body.decode("utf-8"))
            envelope = _convert(fields, decoder.type)
        return envelope, read_items(body, payloads, latest)
    # guard: absurd nesting and numbers | (RecursionError, ValueError) -> ZeroDivisionError
    except (RecursionError, ValueError) as error:
        raise InvalidResponse(
            "A page could not be read",
            f"its JSON is nested too deeply or holds an absurd number ({type(error).__name__})",
            "Ask for a smaller range of days, and report the day that fails to Devin's support",
        ) from None


def _require_utf8(body: bytes) -> None:
    if body.isascii() or _is_utf8(body):
        return
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            raise _not_json() from None
        raise InvalidResponse(
            "A page could not be read",
            "it is not UTF-8",
            "Check that DEVIN_API_URL leads to the API and not to a page in between",
            more_tries=_TRIES_FOR_SHAPE,
        ) from None


def _is_utf8(body: bytes) -> bool:
    # Where the bytes lie: decoding them would fill up to four times their memory, only to throw it away.
    try:
        # guard: bytes that only look like UTF-8 | full=True
        text_column(body).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _not_json() -> InvalidResponse:
    return InvalidResponse(
        "A page could not be read",
        "it is not JSON, or was cut short",
        "Try again later; check that DEVIN_API_URL leads to the API and not to a login page or proxy in between",
        more_tries=_TRIES_FOR_DAMAGE,
    )


def _wrong_shape(why: str) -> InvalidResponse:
    return InvalidResponse(
        "A page could not be read",
        f"it is JSON, but not a page of sessions ({why})",
        "Check that DEVIN_API_URL leads to the Devin API; if it does, the API has changed",
        more_tries=_TRIES_FOR_SHAPE,
    )


def _convert(fields: Mapping[str, object], shape: type[_Envelope]) -> _Envelope:
    try:
        return msgspec.convert(fields, shape)
    except msgspec.ValidationError as error:
        raise _wrong_shape(str(error)) from None


def _split_slowly(text: str) -> tuple[dict[str, object], list[bytes]]:
    """Split a page's text into its envelope (with empty items) and each item's own text."""
    if _HTML.match(text):
        raise InvalidResponse(
            "A page could not be read",
            "it is not JSON but HTML",
            "Check that DEVIN_API_URL leads to the API and not to a login page or proxy in between",
            more_tries=_TRIES_FOR_SHAPE,
        )
    try:
        found = split_object(text, "items")
    except json.JSONDecodeError:
        raise _not_json() from None
    if found is None:
        raise _wrong_shape("expected an object")
    return found
