"""The same content has the same hash, however it is written, and other content another."""

import hashlib

import pytest

from devin_pipeline.devin_api import content_hash, sha256_of


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
