import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from devin_pipeline.devin_api import Item
from devin_pipeline.devin_api.pages import cursor_page
from devin_pipeline_tests.devin_api.scripted import NOW

pytestmark = pytest.mark.notices(
    "an id or amount said twice",
    "an amount said twice next to an item without one",
    "a key said twice, once with an escaped letter",
    "a number beyond any as an id",
    "ACUs as floats",
    "negative ACUs",
    "ACUs judged before they are rounded",
    "a date that is not an instant",
    "an instant before there was Devin or of the future",
    "absurdly many ACUs",
    "ACUs that are not a number",
    "ACUs rounded half to even",
    "an id of any length",
    "an id with space around it",
    "an id with control characters",
    "one session under two ids",
)

GOOD = '{"session_id": "a", "created_at": 1740830400, "acus_consumed": 2}'


def read_one(text: str) -> Item:
    """Read an item in the middle of a page, between two good ones."""
    page = cursor_page(b'{"items": [%s, %s , %s]}' % (GOOD.encode(), text.encode(), GOOD.encode()), NOW)
    before, item, after = page.items
    assert before == after
    assert before.rejection_reason is None
    return item


def item_with(**members: str) -> str:
    """Write an item from the JSON text of its members."""
    texts = {"session_id": '"b"', "created_at": "1740830400", "acus_consumed": "1", **members}
    return "{" + ", ".join(f'"{name}": {text}' for name, text in texts.items() if text) + "}"


def test_an_items_payload_is_kept_byte_for_byte() -> None:
    text = '{ "session_id":"x",\t"created_at" : 1740830400 , "acus_consumed":1.50, "title": "Ä \\u00e4 \\" 🦊"}'
    assert read_one(text).payload == text.encode()


def test_a_numbers_spelling_survives_even_next_to_a_damaged_item() -> None:
    text = '{"session_id":"x","created_at":1740830400,"acus_consumed":1.50,"n":NaN}'
    item = read_one(text)
    assert item.payload == text.encode()
    assert item.acus == Decimal("1.5")
    assert item.rejection_reason is None


@pytest.mark.parametrize(
    ("sent", "acus"),
    [
        ("25.5", "25.500000"),
        ("3", "3.000000"),
        ("0", "0.000000"),
        ("-0.0", "0.000000"),
        ("0.0000005", "0.000001"),
        ("0.00000049999999999999999999999999", "0.000000"),
        ("1.0000015", "1.000002"),
        ("2.675e1", "26.750000"),
        ("999999999.999999", "999999999.999999"),
        ('"25.5"', "25.500000"),
        ("1e-400", "0.000000"),
        # What is left of sums of floats.
        ("-4.44e-16", "0.000000"),
        ('"-4.44e-16"', "0.000000"),
        ("-0.00000049999999999999999999999999", "0.000000"),
        ("-1e-400", "0.000000"),
        ("999999999.9999994", "999999999.999999"),
    ],
)
def test_acus_are_read_from_their_text_and_rounded_half_away_from_zero(sent: str, acus: str) -> None:
    item = read_one(item_with(acus_consumed=sent))
    assert str(item.acus) == acus
    assert item.rejection_reason is None


@pytest.mark.parametrize("sent", ["null", ""])
def test_missing_acus_are_unknown_and_not_zero(sent: str) -> None:
    item = read_one(item_with(acus_consumed=sent))
    assert item.acus is None
    assert item.rejection_reason is None


@pytest.mark.parametrize(
    "sent",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "true",
        "-0.5",
        "-0.0000005",
        "-1e9",
        "-1e400",
        "1e9",
        "999999999.9999995",
        "9" * 40,
        '"many"',
        '" 1"',
        '""',
        '"NaN"',
        "{}",
        "[1]",
    ],
)
def test_acus_that_are_not_an_amount_reject_an_item(sent: str) -> None:
    item = read_one(item_with(acus_consumed=sent))
    assert item.acus is None
    assert item.rejection_reason is not None
    assert "acus_consumed" in item.rejection_reason
    assert item.session_id == "b"


@pytest.mark.parametrize(
    ("sent", "session_id"),
    [("devin-abc", "abc"), ("abc", "abc"), ("devin-devin-x", "devin-x"), ("Ünï", "Ünï"), ("x" * 200, "x" * 200)],
)
def test_an_id_loses_one_leading_prefix(sent: str, session_id: str) -> None:
    item = read_one(item_with(session_id=json.dumps(sent)))
    assert item.session_id == session_id
    assert item.rejection_reason is None


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "null",
        '""',
        "7",
        "true",
        "NaN",
        '"devin-"',
        '" a"',
        '"a "',
        '"a\\u0000b"',
        '"a\\nb"',
        '"\\ud800"',
        f'"{"x" * 201}"',
        '["a"]',
    ],
)
def test_an_unusable_id_rejects_an_item(sent: str) -> None:
    item = read_one(item_with(session_id=sent))
    assert item.session_id is None
    assert item.rejection_reason == "session_id is not usable"


@pytest.mark.parametrize("sent", ["7", '"text"', "null", "[]", "true", "NaN"])
def test_an_item_that_is_not_an_object_is_rejected(sent: str) -> None:
    assert read_one(sent).rejection_reason == "it is not an object"


@pytest.mark.parametrize(
    ("sent", "instant"),
    [
        ('"2025-03-01T12:00:00Z"', "2025-03-01T12:00:00+00:00"),
        ('"2025-03-01T12:00:00.5Z"', "2025-03-01T12:00:00.500000+00:00"),
        ('"2025-03-01T12:00:00.123456789Z"', "2025-03-01T12:00:00.123456+00:00"),
        ('"2025-03-01T12:00:00.1239999+05:30"', "2025-03-01T06:30:00.123999+00:00"),
        ("1740830400", "2025-03-01T12:00:00+00:00"),
        ("1740830400.25", "2025-03-01T12:00:00.250000+00:00"),
        ("1.7408304e9", "2025-03-01T12:00:00+00:00"),
        ("1577836800", "2020-01-01T00:00:00+00:00"),
    ],
)
def test_both_kinds_of_time_become_utc(sent: str, instant: str) -> None:
    for oddity in ("1", "NaN"):
        item = read_one(item_with(created_at=sent, updated_at=sent, other=oddity))
        assert item.created_at == item.updated_at == datetime.fromisoformat(instant)
        assert item.rejection_reason is None


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "null",
        "true",
        "NaN",
        "1e400",
        "-1",
        "0",
        "1577836799",
        "1740830400000",
        "9" * 30,
        '"1740830400"',
        '"20231107"',
        '"2025-03-01"',
        '"2025-03-01T12:00:00"',
        '"2025-03-01T24:00:00Z"',
        '"2025-03-01T12:00:60Z"',
        '"2025-02-29T12:00:00Z"',
        '"0001-01-01T00:00:00+14:00"',
        '"2025-03-01T12:00Z"',
        '"2025-03-01T12:00:00Z\\n"',
        '"2025-03-01T12:00:00.1234567890Z"',
        "{}",
    ],
)
def test_an_unusable_creation_time_rejects_an_item_and_an_unusable_update_time_does_not(sent: str) -> None:
    item = read_one(item_with(created_at=sent))
    assert item.created_at is None
    assert item.rejection_reason == "created_at is not usable"
    item = read_one(item_with(updated_at=sent))
    assert item.updated_at is None
    assert item.rejection_reason is None


def test_a_creation_time_may_be_a_day_ahead_of_our_clock_but_no_more() -> None:
    edge = int((NOW + timedelta(days=1)).timestamp())
    assert read_one(item_with(created_at=str(edge))).created_at == NOW + timedelta(days=1)
    assert read_one(item_with(created_at=str(edge + 1))).created_at is None


def test_a_lone_surrogate_costs_neither_the_page_nor_the_item() -> None:
    text = item_with(title='"half \\ud800 pair"')
    item = read_one(text)
    assert item.rejection_reason is None
    assert item.payload == text.encode()
    assert (item.session_id, item.created_at) == ("b", datetime(2025, 3, 1, 12, tzinfo=UTC))


def test_an_id_or_amount_said_twice_rejects_an_item() -> None:
    assert read_one(
        '{"session_id":"b","created_at":1740830400,"acus_consumed":1,"acus_consumed":99}'
    ).rejection_reason == ("acus_consumed is said twice")
    item = read_one('{"session_id":"b","session_id":"c","created_at":1740830400}')
    assert item.session_id is None
    assert item.rejection_reason == "session_id is said twice"


def test_an_amount_said_twice_shows_next_to_items_that_say_none() -> None:
    twice = item_with(acus_consumed='1, "acus_consumed": 99')
    body = f'{{"items": [{{"session_id": "n", "created_at": 1740830400}}, {twice}, {GOOD}]}}'
    problems = [item.rejection_reason for item in cursor_page(body.encode(), NOW).items]
    assert problems == [None, "acus_consumed is said twice", None]


@pytest.mark.parametrize("again", ['"acus_consum\\u0065d"', '"\\u0061cus\\u005Fconsumed"', '"acus_c\\u006fnsumed"'])
def test_a_key_said_again_with_escaped_letters_is_said_twice(again: str) -> None:
    assert read_one(f'{{"session_id":"b","created_at":1740830400,"acus_consumed":1,{again}:99}}').rejection_reason == (
        "acus_consumed is said twice"
    )


def test_a_number_beyond_any_is_not_an_id_and_costs_no_other_item() -> None:
    assert read_one(item_with(session_id="1e9999999999999999999")).rejection_reason == "session_id is not usable"
    assert read_one(item_with(session_id='"1e99"')).session_id == "1e99"
    for absurd in ("1e9999999999999999999", "9" * 5000):
        item = read_one(item_with(structured_output=absurd))
        assert (item.session_id, item.rejection_reason) == ("b", None)


def test_the_same_keys_deeper_down_are_not_a_repetition() -> None:
    item = read_one(item_with(structured_output='{"session_id": "z", "acus_consumed": 5}'))
    assert (item.session_id, item.acus, item.rejection_reason) == ("b", Decimal(1), None)


def test_an_item_knows_its_fields_and_whether_its_acus_are_text() -> None:
    for oddity in ("1", "NaN"):
        item = read_one(item_with(acus_consumed='"2.5"', shiny=oddity))
        assert item.fields == {"session_id", "created_at", "acus_consumed", "shiny"}
        assert item.acus_are_text
        assert not read_one(item_with(shiny=oddity)).acus_are_text
    assert not read_one(item_with(acus_consumed="1e9999999999999999999")).acus_are_text
    assert read_one("7").fields == frozenset()
