"""An item: one session as a feed returned it, and the few fields we read of it.

An item stays the bytes the API sent; only what places it in time and in sums (id, creation time, ACUs) is read strictly
here. What the other fields mean does not belong here.
"""

import re
import struct
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from functools import lru_cache

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from devin_pipeline.devin_api.canonical_json import ISO_INSTANT, Content, content_hash, read_json, respell
from devin_pipeline.devin_api.lenient_json import NOT_TEXT, Members, NonStandardJson, read_leniently

EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
"""Devin did not exist before; an earlier creation time is a default or a mistake."""

LATEST_AHEAD = timedelta(days=1)
"""How far ahead of our clock a creation time may lie before it is a mistake rather than clock skew."""

MOST_ACUS = Decimal(1_000_000_000)
LONGEST_ID = 200

_MILLISECONDS_FROM = 100_000_000_000
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SIX_PLACES = Decimal("0.000001")
# guard: ACUs rounded half to even | , rounding=ROUND_HALF_UP
_EXACT = Context(prec=40, rounding=ROUND_HALF_UP)

# A second one of these would let the writer of the payload choose which id or amount is believed.
_UNIQUE_KEYS = ("session_id", "acus_consumed")


def _spelled(key: str) -> str:
    """A pattern of a key as JSON may spell it: any letter may be escaped."""
    # guard: a key said twice, once with an escaped letter
    #   | rf"(?:{letter}|\\u00(?i:{letter.encode().hex()}))" -> letter
    return '"' + "".join(rf"(?:{letter}|\\u00(?i:{letter.encode().hex()}))" for letter in key) + '"'


_ANY_UNIQUE_KEY = "|".join(map(_spelled, _UNIQUE_KEYS))
_EACH_UNIQUE_KEY = [re.compile(_spelled(key).encode()) for key in _UNIQUE_KEYS]


class Item(msgspec.Struct, frozen=True, gc=False):
    """One session as a feed returned it.

    Attributes:
        payload: the item's JSON exactly as sent.
        session_id: canonical id (one leading `devin-` stripped); None when the item has no usable one.
        created_at: UTC; None when unusable.
        updated_at: UTC; None when missing or unusable.
        acus: to six places, half away from zero, from the number's text as sent; None when missing or null.
        rejection_reason: why the item is quarantined; None when it is accepted.
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
    rejection_reason: str | None
    content_hash: str
    fields: frozenset[str]
    acus_are_text: bool
    org_id: str | None = None
    is_respelled: bool = False

    def __repr__(self) -> str:
        """Without the payload: reprs end up in reports of errors, and payloads hold prompts."""
        # guard: a payload in a repr | f"<Item {self.session_id!r}, {len(self.payload)} bytes>" -> repr(self.payload)
        return f"<Item {self.session_id!r}, {len(self.payload)} bytes>"


def read_item(payload: bytes, latest: datetime) -> Item:
    """Read one item as a page of it would be.

    Args:
        payload: the item's JSON as sent.
        latest: creation and update times after it are unusable.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return _read_item_carefully(payload, latest)


def read_items(body: bytes, payloads: list[bytes], latest: datetime) -> list[Item]:
    """Read the items of a page; with care if any may say a key twice."""
    read = [_read_item(payload, latest) for payload in payloads]
    # Counted by Arrow, while other threads have the interpreter's lock.
    said = pc.count_substring_regex(text_column(body), _ANY_UNIQUE_KEY)[0].as_py()
    # guard: an amount said twice next to an item without one | sum(keys for _, keys in read) -> 2 * len(read)
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


def _read_item_leniently(payload: bytes, latest: datetime) -> Item:
    """Read an item the fast path would not, and say what is wrong with it, if anything is."""
    members = read_leniently(payload)
    if not isinstance(members, Members):
        return Item(payload, None, None, None, None, "it is not an object", content_hash(payload), frozenset(), False)
    item = _item(payload, members, latest, Content(members, content_hash(payload), respell(dict(members))))
    for key in _UNIQUE_KEYS:
        if key in members.repeated:
            # guard: an id or amount said twice
            item = msgspec.structs.replace(item, acus=None, rejection_reason=f"{key} is said twice")
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
    acus_are_text = isinstance(acus_as_sent, str) and not isinstance(acus_as_sent, NOT_TEXT)
    fields = _fields(tuple(members))
    org_id = members.get("org_id")
    if not isinstance(org_id, str) or isinstance(org_id, NOT_TEXT) or len(org_id) > LONGEST_ID:
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
    """Return the id under which v2 and v3 meet: the API's without one leading `devin-`; None when it is not usable."""
    if not isinstance(value, str) or isinstance(value, NOT_TEXT):
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
            # guard: a date that is not an instant
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
    """Read an amount, as a number or as the text of one; return what is wrong with it, if anything is."""
    if value is None:
        return None, None
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        return None, "acus_consumed is not a number"
    return _acus_of_text(str(value))


@lru_cache(4096)
def _acus_of_text(text: str) -> tuple[Decimal | None, str | None]:
    # guard: ACUs that are not a number
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


def text_column(body: bytes) -> pa.StringArray:
    """A column of one text, without a copy of it."""
    bounds = pa.py_buffer(struct.pack("ii", 0, len(body)))
    return pa.StringArray.from_buffers(1, bounds, pa.py_buffer(body))
