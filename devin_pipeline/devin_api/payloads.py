"""What a page of answers looks like, and the few fields we read of an item.

An item stays the bytes the API sent; only what places it (id, creation time, ACUs) is read strictly here. What the
other fields mean does not belong here, nor does anything about HTTP.

Shapes: the v2 page ("List Enterprise Sessions (Insights)") and the v3 page ("List account sessions") of the API
reference.
"""

import json
import re
import struct
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from devin_pipeline.devin_api.canonical_json import (
    ISO_INSTANT,
    Content,
    NonStandardJson,
    OutOfRangeNumber,
    content_hash,
    number,
    read_json,
    respell,
)
from devin_pipeline.devin_api.errors import InvalidResponse

EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
"""Devin did not exist before; an earlier creation time is a default or a mistake."""

LATEST_AHEAD = timedelta(days=1)
"""How far ahead of our clock a creation time may lie before it is a mistake rather than clock skew."""

MOST_ACUS = Decimal(1_000_000_000)
LONGEST_ID = 200

# A damaged body is usually a cut connection and heals when asked for again; a body of the wrong shape rarely does.
_TRIES_FOR_DAMAGE = 5
_TRIES_FOR_SHAPE = 2

_MILLISECONDS_FROM = 100_000_000_000
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SPACE = re.compile(r"[ \t\n\r]*")
_SIX_PLACES = Decimal("0.000001")
# guard: ACUs rounded half to even | , rounding=ROUND_HALF_UP
_EXACT = Context(prec=40, rounding=ROUND_HALF_UP)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# A second one of these would let whoever wrote the payload choose which id or amount is believed.
_UNIQUE_KEYS = ("session_id", "acus_consumed")


def _spelled(key: str) -> str:
    """A pattern of a key as JSON may spell it: any letter may be escaped."""
    # guard: a key said twice, once with an escaped letter
    #   | rf"(?:{letter}|\\u00(?i:{letter.encode().hex()}))" -> letter
    return '"' + "".join(rf"(?:{letter}|\\u00(?i:{letter.encode().hex()}))" for letter in key) + '"'


_ANY_UNIQUE_KEY = "|".join(map(_spelled, _UNIQUE_KEYS))
_EACH_UNIQUE_KEY = [re.compile(_spelled(key).encode()) for key in _UNIQUE_KEYS]


class Item(msgspec.Struct, frozen=True, gc=False):
    """One session as a feed told it.

    Attributes:
        payload: the item's JSON exactly as sent.
        session_id: canonical id (one leading `devin-` stripped); None when the item has no usable one.
        created_at: UTC; None when unusable.
        updated_at: UTC; None when missing or unusable.
        acus: to six places, half away from zero, from the number's text as sent; None when missing or null.
        unplaced_because: why the item cannot be placed; None when it can.
        content_hash: SHA-256 of its canonical JSON, which is the same however the item is written.
        fields: the names of its fields.
        acus_are_text: whether its ACUs came as text.
        org_id: the organization it belongs to; None when the item has no usable one.
        is_respelled: whether the hash is of another spelling of its instants or tags than the one sent.
    """

    payload: bytes
    session_id: str | None
    created_at: datetime | None
    updated_at: datetime | None
    acus: Decimal | None
    unplaced_because: str | None
    content_hash: str
    fields: frozenset[str]
    acus_are_text: bool
    org_id: str | None = None
    is_respelled: bool = False

    def __repr__(self) -> str:
        """Without the payload: reprs end up in reports of errors, and payloads hold prompts."""
        # guard: a payload in a repr | f"<Item {self.session_id!r}, {len(self.payload)} bytes>" -> repr(self.payload)
        return f"<Item {self.session_id!r}, {len(self.payload)} bytes>"


class OffsetPage(msgspec.Struct, frozen=True):
    """A v2 page: where it starts, and how many sessions the whole answer has."""

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
    """Whose key it is, as `GET /v3/self` tells; a person's id and name are not read.

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
        InvalidResponse: the body is no v2 page.
    """
    envelope, items = _split(body, _offset_decoder, now)
    return OffsetPage(items, envelope.has_more, envelope.total, envelope.skip, envelope.limit)


def cursor_page(body: bytes, now: datetime) -> CursorPage:
    """Read a v3 page.

    Args:
        body: the decoded response body.
        now: creation times more than a day after it are unusable.

    Raises:
        InvalidResponse: the body is no v3 page.
    """
    envelope, items = _split(body, _cursor_decoder, now)
    return CursorPage(items, envelope.has_next_page, envelope.end_cursor, envelope.total)


def principal(body: bytes) -> Principal:
    """Read whose key it is.

    Raises:
        InvalidResponse: the body tells no principal.
    """
    try:
        return msgspec.json.decode(body, type=Principal)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise InvalidResponse(
            "The owner of the key could not be read",
            "the answer is not JSON, or tells no principal",
            "Check that DEVIN_API_URL leads to the Devin API; if it does, the API has changed",
        ) from None


def read_item(payload: bytes, latest: datetime) -> Item:
    """Read one item as a page of it would be.

    Args:
        payload: the item's JSON as sent.
        latest: creation and update times after it are unusable.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    return _read_item_carefully(payload, latest)


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
        return envelope, _read_items(body, payloads, latest)
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
        _as_column(body).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _as_column(body: bytes) -> pa.StringArray:
    """A column of one text, without a copy of it."""
    bounds = pa.py_buffer(struct.pack("ii", 0, len(body)))
    return pa.StringArray.from_buffers(1, bounds, pa.py_buffer(body))


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
        f"it is JSON, but no page of sessions ({why})",
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
    fields: dict[str, object] = {}
    payloads: list[bytes] = []
    scan = json.JSONDecoder().raw_decode
    try:
        at = _skip_space(text, 0)
        if text[at : at + 1] == "<":
            raise InvalidResponse(
                "A page could not be read",
                "it is not JSON but HTML",
                "Check that DEVIN_API_URL leads to the API and not to a login page or proxy in between",
                more_tries=_TRIES_FOR_SHAPE,
            )
        if text[at : at + 1] != "{":
            scan(text, at)
            raise _wrong_shape("expected an object")
        at = _skip_space(text, at + 1)
        while text[at : at + 1] != "}":
            key, at = scan(text, at)
            if not isinstance(key, str):
                raise _not_json()
            at = _skip_space(text, _expect(text, _skip_space(text, at), ":"))
            if key == "items" and text[at : at + 1] == "[":
                payloads, at = _split_array(text, at, scan)
                fields[key] = []
            else:
                fields[key], at = scan(text, at)
            at = _next_or_end(text, at, "}")
        if _skip_space(text, at + 1) != len(text):
            raise _not_json()
    except json.JSONDecodeError:
        raise _not_json() from None
    return fields, payloads


def _split_array(text: str, at: int, scan: Callable[[str, int], tuple[object, int]]) -> tuple[list[bytes], int]:
    payloads: list[bytes] = []
    at = _skip_space(text, at + 1)
    while text[at : at + 1] != "]":
        start = at
        _, at = scan(text, start)
        payloads.append(text[start:at].encode("utf-8"))
        at = _next_or_end(text, at, "]")
    return payloads, at + 1


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _expect(text: str, at: int, character: str) -> int:
    if text[at : at + 1] != character:
        raise _not_json()
    return at + 1


def _next_or_end(text: str, at: int, end: str) -> int:
    """Step over a comma to the next member, or stay on the closing bracket."""
    at = _skip_space(text, at)
    if text[at : at + 1] == end:
        return at
    at = _skip_space(text, _expect(text, at, ","))
    if text[at : at + 1] == end:
        raise _not_json()
    return at


def _read_items(body: bytes, payloads: list[bytes], latest: datetime) -> list[Item]:
    """Read the items of a page; with care if any may say a key twice."""
    read = [_read_item(payload, latest) for payload in payloads]
    # Counted by Arrow, while other threads have the interpreter's lock.
    said = pc.count_substring_regex(_as_column(body), _ANY_UNIQUE_KEY)[0].as_py()
    # guard: an amount said twice beside an item without one | sum(keys for _, keys in read) -> 2 * len(read)
    if said > sum(keys for _, keys in read):
        return [_read_item_carefully(payload, latest) for payload in payloads]
    return [item for item, _ in read]


def _read_item_carefully(payload: bytes, latest: datetime) -> Item:
    if any(len(key.findall(payload)) > 1 for key in _EACH_UNIQUE_KEY):
        return _read_item_leniently(payload, latest)
    return _read_item(payload, latest)[0]


def _read_item(payload: bytes, latest: datetime) -> tuple[Item, int]:
    """Read an item that says no key twice, and how many of those that may be said once it says."""
    try:
        content = read_json(payload)
    except NonStandardJson:
        return _read_item_leniently(payload, latest), 0
    members = content.value
    if not isinstance(members, dict):
        return _read_item_leniently(payload, latest), 0
    said = ("session_id" in members) + ("acus_consumed" in members)
    return _item(payload, members, latest, content), said


class NonJsonConstant(str):
    """NaN, Infinity or -Infinity, which JSON does not have but Python's reader accepts."""

    __slots__ = ()


# guard: a number beyond any as an id | OutOfRangeNumber,
_NOT_TEXT = (OutOfRangeNumber, NonJsonConstant)


class _Members(dict[str, object]):
    """A JSON object that remembers which of its keys were said more than once."""

    __slots__ = ("repeated",)

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.repeated: set[str] = set()
        if len(self) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                (self.repeated if key in seen else seen).add(key)


def _read_item_leniently(payload: bytes, latest: datetime) -> Item:
    """Read an item the fast path would not, and say what is wrong with it, if anything is."""
    members = json.loads(
        payload, parse_int=number, parse_float=number, parse_constant=NonJsonConstant, object_pairs_hook=_Members
    )
    if not isinstance(members, _Members):
        return Item(payload, None, None, None, None, "it is not an object", content_hash(payload), frozenset(), False)
    item = _item(payload, members, latest, Content(members, content_hash(payload), respell(dict(members))))
    for key in _UNIQUE_KEYS:
        if key in members.repeated:
            # guard: an id or amount said twice
            item = msgspec.structs.replace(item, acus=None, unplaced_because=f"{key} is said twice")
    if "session_id" in members.repeated:
        item = msgspec.structs.replace(item, session_id=None)
    return item


def _item(payload: bytes, members: Mapping[str, object], latest: datetime, content: Content) -> Item:
    session_id = canonical_id(members.get("session_id"))
    created_at = _instant(members.get("created_at"), latest)
    acus_as_sent = members.get("acus_consumed")
    acus, problem = _acus(acus_as_sent)
    if session_id is None:
        problem = problem or "session_id is not usable"
    elif created_at is None:
        problem = problem or "created_at is not usable"
    updated_at = _instant(members.get("updated_at"), latest)
    acus_are_text = isinstance(acus_as_sent, str) and not isinstance(acus_as_sent, _NOT_TEXT)
    fields = _fields(tuple(members))
    org_id = members.get("org_id")
    if not isinstance(org_id, str) or isinstance(org_id, _NOT_TEXT) or len(org_id) > LONGEST_ID:
        org_id = None
    return Item(
        payload,
        session_id,
        created_at,
        updated_at,
        acus,
        problem,
        content.hash,
        fields,
        acus_are_text,
        org_id,
        content.is_respelled,
    )


@lru_cache(256)
def _fields(names: tuple[str, ...]) -> frozenset[str]:
    # Most items of a feed have the same.
    return frozenset(names)


def canonical_id(value: object) -> str | None:
    """Give the id under which v2 and v3 meet: the API's without one leading `devin-`; None when it is not usable."""
    if not isinstance(value, str) or isinstance(value, _NOT_TEXT):
        return None
    # guard: one session under two ids | .removeprefix("devin-")
    session_id = value.removeprefix("devin-")
    # guard: an id with space around it | or session_id != session_id.strip()
    # guard: an id of any length | or len(session_id) > LONGEST_ID
    if not session_id or len(session_id) > LONGEST_ID or session_id != session_id.strip():
        return None
    if not session_id.isprintable() and any(
        # guard: an id with control characters | unicodedata.category(character) in ("Cc", "Cs") -> False
        unicodedata.category(character) in ("Cc", "Cs")
        for character in session_id
    ):
        return None
    return session_id


def _instant(value: object, latest: datetime) -> datetime | None:
    """Read an ISO 8601 instant with a zone or epoch seconds; digits beyond the microsecond are cut."""
    try:
        if isinstance(value, str):
            # guard: a date that is no instant
            if ISO_INSTANT.fullmatch(value) is None:
                return None
            at = datetime.fromisoformat(value)
            if at.tzinfo is not UTC:
                at = at.astimezone(UTC)
        elif isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not 0 <= value < _MILLISECONDS_FROM:
            return None
        else:
            # guard: an instant read by the host's zone | float(value), UTC) -> float(value)).replace(tzinfo=UTC)
            at = datetime.fromtimestamp(float(value), UTC)
    except (ValueError, OverflowError, OSError):
        return None
    # guard: an instant before there was Devin or of the future | if EARLIEST <= at <= latest else None
    return at if EARLIEST <= at <= latest else None


def _acus(value: object) -> tuple[Decimal | None, str | None]:
    """Read an amount, as a number or as the text of one; tell what is wrong with it, if anything is."""
    if value is None:
        return None, None
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        return None, "acus_consumed is not a number"
    return _acus_of_text(str(value))


@lru_cache(4096)
def _acus_of_text(text: str) -> tuple[Decimal | None, str | None]:
    # guard: ACUs that are no number
    if _JSON_NUMBER.fullmatch(text) is None:
        return None, "acus_consumed is not a number"
    try:
        # guard: ACUs as floats | text -> float(text)
        exact = Decimal(text)
    except InvalidOperation:
        return None, "acus_consumed is beyond any number"
    # Rounded first, unless there are too many digits for that: what rounds to zero is zero, and never negative.
    # guard: ACUs judged before they are rounded
    #   | if exact.copy_abs() >= MOST_ACUS else exact.quantize(_SIX_PLACES, context=_EXACT)
    acus = exact if exact.copy_abs() >= MOST_ACUS else exact.quantize(_SIX_PLACES, context=_EXACT)
    # guard: negative ACUs
    if acus < 0:
        return None, "acus_consumed is negative"
    # guard: absurdly many ACUs
    if acus >= MOST_ACUS:
        return None, "acus_consumed is absurdly large"
    return acus.copy_abs(), None
