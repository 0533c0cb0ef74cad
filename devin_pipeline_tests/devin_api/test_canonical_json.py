"""The same content has the same hash, however it is written, and other content another."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devin_pipeline.devin_api import content_hash, sha256_of

pytestmark = pytest.mark.notices("the order of keys in the content hash", "numbers in the content hash, by value")


def is_same(one: str, other: str) -> bool:
    return content_hash(one.encode()) == content_hash(other.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1, "b": 2}', '{"b":2,\n"a":1}'),
        ('{"o": [{"x": 1, "y": 2}]}', '{"o": [{"y": 2, "x": 1}]}'),
        ('{"a": "ü"}', '{"a": "\\u00fc"}'),
        ('{"a": "/"}', '{"a": "\\/"}'),
        ('{"a": "\\ud800", "b": 1}', '{"b": 1, "a": "\\uD800"}'),
        ('{"a": NaN, "b": 1}', '{"b": 1, "a": NaN}'),
    ],
    ids=["key order", "nested key order", "escapes", "escaped slash", "lone surrogate", "NaN"],
)
def test_the_same_value_written_otherwise_is_the_same_content(one: str, other: str) -> None:
    assert is_same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.50", "1.5"),
        ("1.0", "1"),
        ("0.10", "1e-1"),
        ("1e0", "1"),
        ("10.0", "10"),
        ("1e2", "100"),
        ("-0.0", "0"),
    ],
)
def test_the_same_number_written_otherwise_is_the_same_content(one: str, other: str) -> None:
    assert is_same(f'{{"x": [{one}]}}', f'{{"x": [{other}]}}')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "2"),
        ("1.5", "1.50000000000000000001"),
        ("1", '"1"'),
        ("1.5", '"1.5"'),
        ("0", "false"),
        ("null", "0"),
        ("[1,2]", "[2,1]"),
        ("[1]", "[1,1]"),
        ('""', "null"),
        ('{"k": null}', "{}"),
        ("9007199254740992", "9007199254740993"),
        ('"\\ud800"', '"\\ud801"'),
        ("NaN", "null"),
        ("0.12345678901234567890123456788", "0.12345678901234567890123456789"),
    ],
)
def test_another_value_is_other_content(one: str, other: str) -> None:
    assert not is_same(f'{{"x": {one}}}', f'{{"x": {other}}}')


@pytest.mark.parametrize("length", [0, 2_047, 2_048, 4_094, 4_095, 10_000])
def test_a_hash_is_sha256_however_long_the_bytes(length: int) -> None:
    long = bytes(range(256)) * 40
    parts = (b"head", memoryview(long[:length]), b"tail")
    assert sha256_of(*parts) == hashlib.sha256(b"".join(parts)).hexdigest()


# Instants by value, tags as a set

# With room for an offset on either side.
INSTANTS = st.datetimes(timezones=st.just(UTC)).filter(lambda at: 1 < at.year < 9999)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
NUMBERS = st.one_of(st.integers(-(10**30), 10**30), st.decimals(-(10**9), 10**9, places=6))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), TEXTS, NUMBERS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "created_at": INSTANTS,
        "updated_at": st.one_of(INSTANTS, NUMBERS, st.none()),
        "tags": st.one_of(st.lists(TEXTS, max_size=4), st.lists(VALUES, max_size=3)),
        "acus_consumed": NUMBERS,
        "title": TEXTS,
        "structured_output": VALUES,
    },
)


def spelled(value: object, draw: st.DrawFn, *, name: str = "") -> str:
    """One of the ways to write a value as JSON."""
    space = draw(st.sampled_from(["", " ", "\n"]))
    if isinstance(value, datetime):
        return f'"{spelled_instant(value, draw)}"'
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | Decimal):
        return spelled_number(Decimal(value), draw)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=draw(st.booleans()))
    if isinstance(value, list):
        parts = list(value)
        if name == "tags" and all(isinstance(tag, str) for tag in value):
            parts = draw(st.permutations(parts)) + parts[: draw(st.integers(0, len(parts)))]
        return f"[{space}" + f",{space}".join(spelled(part, draw) for part in parts) + "]"
    assert isinstance(value, dict)
    members = [
        f"{json.dumps(key)}{space}:{space}{spelled(value[key], draw, name=key)}"
        for key in draw(st.permutations(sorted(value)))
    ]
    return "{" + f"{space},".join(members) + "}"


def spelled_instant(at: datetime, draw: st.DrawFn) -> str:
    offset = draw(st.sampled_from([0, 0, 120, -330, 845]))
    local = (at + timedelta(minutes=offset)).replace(tzinfo=None)
    digits = f"{local.microsecond:06}".rstrip("0")
    digits += "0" * draw(st.integers(0, 9 - len(digits)))
    zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}{{}}{abs(offset) % 60:02}"
    zones = [zone.format(":"), zone.format(""), *(["Z", "-00:00"] if offset == 0 else [])]
    day, time = local.replace(microsecond=0).isoformat().split("T")
    return f"{day}{draw(st.sampled_from('T '))}{time}" + (f".{digits}" if digits else "") + draw(st.sampled_from(zones))


def spelled_number(value: Decimal, draw: st.DrawFn) -> str:
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    more = draw(st.integers(0, 3))
    written = f"{'-' if sign else ''}{int(''.join(map(str, digits)) + '0' * more)}"
    scientific = f"{written}{draw(st.sampled_from('eE'))}{exponent - more}"
    return draw(st.sampled_from([scientific, f"{value:f}", f"{value:f}" + ("0" if "." in f"{value:f}" else ".0")]))


@given(st.data(), ITEMS)
def test_no_spelling_of_an_item_changes_its_hash(data: st.DataObject, item: dict[str, object]) -> None:
    one, other = (data.draw(st.composite(lambda draw: spelled(item, draw))()) for _ in range(2))
    assert is_same(one, other)


def as_value(item: dict[str, object]) -> object:
    tags = item.get("tags")
    is_set = isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)
    return kinds(item | ({"tags": sorted(set(tags))} if is_set and isinstance(tags, list) else {}))


def kinds(value: object) -> object:
    """A value that equals another only if its parts are of the same kinds too: 1 is not true."""
    if isinstance(value, dict):
        return {key: kinds(part) for key, part in value.items()}
    if isinstance(value, list):
        return [kinds(part) for part in value]
    return (type(value).__name__ if not isinstance(value, int | Decimal) or isinstance(value, bool) else "n", value)


@given(st.data(), ITEMS, ITEMS)
def test_another_value_of_an_item_is_another_hash(
    data: st.DataObject, item: dict[str, object], changes: dict[str, object]
) -> None:
    changed = item | changes
    one, other = (data.draw(st.composite(lambda draw, of=of: spelled(of, draw))()) for of in (item, changed))
    assert is_same(one, other) == (as_value(item) == as_value(changed))


@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("created_at", '"2026-01-31T08:00:00Z"', '"2026-01-31T08:00:00.000001Z"'),
        ("created_at", '"2026-01-31T08:00:00.0000001Z"', '"2026-01-31T08:00:00Z"'),
        ("updated_at", '"2026-01-31T08:00:00+01:00"', '"2026-01-31T08:00:00Z"'),
        ("updated_at", '"2026-01-31T08:00:00"', '"2026-01-31T08:00:00Z"'),
        ("updated_at", '"0001-01-01T00:00:00+01:00"', '"0001-01-01T00:00:00+02:00"'),
        ("title", '"2026-01-31T08:00:00+00:00"', '"2026-01-31T08:00:00Z"'),
        ("tags", '["a"]', '["a","b"]'),
        ("tags", "[1,2]", "[2,1]"),
        ("tags", '["a",null]', '[null,"a"]'),
        ("child_session_ids", '["a","b"]', '["b","a"]'),
    ],
)
def test_other_instants_other_tags_and_other_lists_are_other_content(field: str, one: str, other: str) -> None:
    assert not is_same(f'{{"{field}": {one}}}', f'{{"{field}": {other}}}')


@pytest.mark.parametrize(("one", "other"), [("-0e9999", "0"), ("0.0e-9999", "0"), ("1e9999", "10e9998")])
def test_no_exponent_is_too_large_to_be_compared(one: str, other: str) -> None:
    assert is_same(one, other)


def test_an_item_that_only_the_standard_library_reads_is_compared_by_value_too() -> None:
    one = '{"title": "\\ud800", "created_at": "2026-01-31T08:00:00Z", "tags": ["a", "b"]}'
    other = '{"tags": ["b", "a"], "title": "\\ud800", "created_at": "2026-01-31T08:00:00.000+00:00"}'
    assert is_same(one, other)
