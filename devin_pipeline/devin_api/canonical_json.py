"""What an item says, however it is written: its canonical JSON and the hash of that.

Keys are sorted, numbers and instants count by value, and tags as a set. What each field means is known to `items`.
"""

import hashlib
import json
import re
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from devin_pipeline.devin_api.lenient_json import NonStandardJson, number

# For longer pieces hashlib lets go of the interpreter's lock, for microseconds, and waits for milliseconds to have it
# back while another thread parses a page.
_BYTES_AT_ONCE = 2_047

ISO_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)", re.ASCII
)
"""An ISO 8601 instant with a zone: date, time of day, fraction of a second, zone."""

_INSTANTS = ("created_at", "updated_at")
_WHOLE_SECONDS = len("2026-01-31T08:00:00Z")


class Content(msgspec.Struct, frozen=True, gc=False):
    """What an item says.

    Attributes:
        value: The item, its numbers as `number` gives them, its instants and tags in their canonical spelling.
        hash: SHA-256 of its canonical JSON.
        is_respelled: Whether its instants or tags were written in another spelling.
    """

    value: object
    hash: str
    is_respelled: bool


def content_hash(payload: bytes) -> str:
    """SHA-256 of an item's canonical JSON.

    Raises:
        ValueError: It is not JSON.
    """
    return _hash(payload, by_value=True)


def content_hash_as_spelled(payload: bytes) -> str:
    """The hash that an item had before its instants counted by value and its tags as a set.

    Raises:
        ValueError: It is not JSON.
    """
    return _hash(payload, by_value=False)


def _hash(payload: bytes, *, by_value: bool) -> str:
    try:
        return _read(payload, by_value=by_value).hash
    except NonStandardJson:
        item = json.loads(payload, parse_float=number, parse_int=number)
        if by_value:
            respell(item)
        return sha256_of(json.dumps(item, sort_keys=True, separators=(",", ":"), default=str).encode())
    except RecursionError:
        # Nested too deeply for either; as it came, it still differs from others.
        return sha256_of(payload)


def read_json(payload: bytes) -> Content:
    """What an item says.

    Raises:
        NonStandardJson: only the standard library reads it, if anything does.
        RecursionError: it is nested too deeply.
    """
    return _read(payload, by_value=True)


def _read(payload: bytes, *, by_value: bool) -> Content:
    try:
        item = _DECODER.decode(payload)
        is_respelled = by_value and respell(item)
        return Content(item, sha256_of(_ENCODER.encode(item)), is_respelled)
    except (msgspec.MsgspecError, ValueError) as error:
        raise NonStandardJson(type(error).__name__) from None


def respell(item: object) -> bool:
    """Give the instants and tags of an item their canonical spelling; return whether one had another.

    Most are canonical as sent, and a look at some letters costs less than reading them: it is done for every item.
    """
    if not isinstance(item, dict):
        return False
    is_respelled = False
    for name in _INSTANTS:
        value = item.get(name)
        if type(value) is not str:
            continue
        if len(value) == _WHOLE_SECONDS and value[19] == "Z" and value[10] == "T":
            continue
        if len(value) > _WHOLE_SECONDS and value[-1] == "Z" and value[10] == "T" and value[-2] != "0":
            continue
        if (by_value := _instant_by_value(value)) != value:
            # guard: spelling: instants by value | by_value -> value
            item[name] = by_value
            is_respelled = True
    tags = item.get("tags")
    if type(tags) is list and len(tags) > 1:
        try:
            ordered = sorted(set(tags))
        except TypeError:
            return is_respelled
        # What sorts next to a text is one.
        if ordered != tags and type(ordered[0]) is str:
            # guard: spelling: tags as a set | ordered -> tags
            item["tags"] = ordered
            return True
    return is_respelled


@lru_cache(4096)
def _instant_by_value(text: str) -> str:
    """An instant in UTC without needless digits, as 2026-01-31T08:00:00.5Z; any other text as it is."""
    if (found := ISO_INSTANT.fullmatch(text)) is None:
        return text
    day, time, fraction, zone = found.groups("")
    try:
        at = datetime.fromisoformat(f"{day}T{time}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return text
    return f"{at.replace(tzinfo=None).isoformat()}.{fraction}".rstrip("0").rstrip(".") + "Z"


# guard: numbers in the content hash, by value | float_hook=number
_DECODER = msgspec.json.Decoder(float_hook=number)
# guard: the order of keys in the content hash | "sorted" -> None
_ENCODER = msgspec.json.Encoder(order="sorted", decimal_format="number", enc_hook=str)


def sha256_of(*parts: bytes | memoryview) -> str:
    """SHA-256, in hex, of some bytes one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        if len(part) <= _BYTES_AT_ONCE:
            digest.update(part)
            continue
        whole = memoryview(part)
        for start in range(0, len(whole), _BYTES_AT_ONCE):
            digest.update(whole[start : start + _BYTES_AT_ONCE])
    return digest.hexdigest()
