"""JSON that msgspec does not read or the standard forbids, read by the standard library.

NaN, lone surrogates, numbers beyond any Decimal, keys that occur twice. What becomes of an item of such JSON is decided
in `items`.
"""

import json
import re
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation
from functools import lru_cache

_MOST_DIGITS = 100
_EXACT = Context(prec=100_000, Emax=MAX_EMAX, Emin=MIN_EMIN)
_SPACE = re.compile(r"[ \t\n\r]*")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_scan = json.JSONDecoder().raw_decode


class NonStandardJson(ValueError):
    """JSON that only the standard library reads, if anything does: NaN, a lone surrogate, an endless number."""


class OutOfRangeNumber(str):
    """The text of a number beyond any Decimal."""

    __slots__ = ()


class NonJsonConstant(str):
    """NaN, Infinity or -Infinity, which JSON does not have but Python's reader accepts."""

    __slots__ = ()


# guard: a number beyond any as an id | OutOfRangeNumber,
NOT_TEXT = (OutOfRangeNumber, NonJsonConstant)
"""Texts that were not texts in the JSON."""


@lru_cache(4096)
def number(text: str) -> int | Decimal | OutOfRangeNumber:
    """A JSON number by its value, however it is written: 10.0, 1e1 and 10 alike."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return OutOfRangeNumber(text)
    if not value:
        return 0
    if -_MOST_DIGITS < value.adjusted() < _MOST_DIGITS and value == value.to_integral_value():
        return int(value)
    return value.normalize(_EXACT)


class Members(dict[str, object]):
    """A JSON object that remembers which of its keys occurred more than once."""

    __slots__ = ("repeated",)

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.repeated: set[str] = set()
        if len(self) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                (self.repeated if key in seen else seen).add(key)


def read_leniently(payload: bytes) -> object:
    """Read JSON, its numbers as `number` returns them, its objects as `Members`.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(
        payload, parse_int=number, parse_float=number, parse_constant=NonJsonConstant, object_pairs_hook=Members
    )


def without_lone_surrogates(text: str) -> str:
    """A text in which U+FFFD replaces each lone surrogate, which no encoder takes."""
    return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def value_without_lone_surrogates(value: object) -> object:
    """A JSON value, its texts and names as `without_lone_surrogates` returns them."""
    if isinstance(value, str):
        return without_lone_surrogates(value)
    if isinstance(value, list):
        return [value_without_lone_surrogates(part) for part in value]
    if isinstance(value, dict):
        return {without_lone_surrogates(name): value_without_lone_surrogates(part) for name, part in value.items()}
    return value


def split_object(text: str, name: str) -> tuple[dict[str, object], list[bytes]] | None:
    """Split an object into its members, with an empty list as `name`, and the text of each item of that list.

    Returns:
        None if it is JSON but not an object.

    Raises:
        ValueError: it is not JSON.
    """
    members: dict[str, object] = {}
    items: list[bytes] = []
    at = _skip_space(text, 0)
    if text[at : at + 1] != "{":
        _scan(text, at)
        return None
    at = _skip_space(text, at + 1)
    while text[at : at + 1] != "}":
        key, at = _scan(text, at)
        if not isinstance(key, str):
            raise _unexpected(text, at)
        at = _skip_space(text, _expect(text, _skip_space(text, at), ":"))
        if key == name and text[at : at + 1] == "[":
            items, at = _split_array(text, at)
            members[key] = []
        else:
            members[key], at = _scan(text, at)
        at = _next_or_end(text, at, "}")
    if _skip_space(text, at + 1) != len(text):
        raise _unexpected(text, at)
    return members, items


def _split_array(text: str, at: int) -> tuple[list[bytes], int]:
    items: list[bytes] = []
    at = _skip_space(text, at + 1)
    while text[at : at + 1] != "]":
        start = at
        _, at = _scan(text, start)
        items.append(text[start:at].encode("utf-8"))
        at = _next_or_end(text, at, "]")
    return items, at + 1


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _expect(text: str, at: int, character: str) -> int:
    if text[at : at + 1] != character:
        raise _unexpected(text, at)
    return at + 1


def _next_or_end(text: str, at: int, end: str) -> int:
    """Step over a comma to the next member, or stay on the closing bracket."""
    at = _skip_space(text, at)
    if text[at : at + 1] == end:
        return at
    at = _skip_space(text, _expect(text, at, ","))
    if text[at : at + 1] == end:
        raise _unexpected(text, at)
    return at


def _unexpected(text: str, at: int) -> json.JSONDecodeError:
    return json.JSONDecodeError("Unexpected character", text, at)
