"""What an item says, however it is written: its canonical JSON and the hash of that.

Which field means what is told in `payloads`.
"""

import hashlib
import json
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation
from functools import lru_cache

import msgspec

# For longer pieces hashlib lets go of the interpreter's lock, for microseconds, and waits for milliseconds to have it
# back while another thread reads an answer.
_BYTES_AT_ONCE = 2_047

_MOST_DIGITS = 100
_EXACT = Context(prec=100_000, Emax=MAX_EMAX, Emin=MIN_EMIN)


class Endless(str):
    """The text of a number beyond any Decimal."""

    __slots__ = ()


class Odd(ValueError):
    """JSON that only the standard library reads, if anything does: NaN, a lone surrogate, an endless number."""


def content_hash(payload: bytes) -> str:
    """SHA-256 of an item's canonical JSON: keys sorted, no white space, numbers by value.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return read_json(payload)[1]
    except Odd:
        item = json.loads(payload, parse_float=number, parse_int=number)
        return sha256_of(json.dumps(item, sort_keys=True, separators=(",", ":"), default=str).encode())
    except RecursionError:
        # Nested too deeply for either; as it came, it can still be told from others.
        return sha256_of(payload)


def read_json(payload: bytes) -> tuple[object, str]:
    """Give what an item says, its numbers as `number` gives them, and the hash of its content.

    Raises:
        Odd: only the standard library reads it, if anything does.
        RecursionError: it is nested too deeply.
    """
    try:
        item = _DECODER.decode(payload)
        return item, sha256_of(_ENCODER.encode(item))
    except (msgspec.MsgspecError, ValueError) as error:
        raise Odd(type(error).__name__) from None


@lru_cache(4096)
def number(text: str) -> int | Decimal | Endless:
    """A JSON number by its value, however it is written: 10.0, 1e1 and 10 alike."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return Endless(text)
    if -_MOST_DIGITS < value.adjusted() < _MOST_DIGITS and value == value.to_integral_value():
        return int(value)
    return value.normalize(_EXACT)


_DECODER = msgspec.json.Decoder(float_hook=number)
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
