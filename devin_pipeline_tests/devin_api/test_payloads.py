import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from devin_pipeline.devin_api import FEEDS, InvalidResponse, Item
from devin_pipeline.devin_api.endpoints import SESSION_INSIGHTS_V2, SESSION_INSIGHTS_V3, SESSIONS_V3
from devin_pipeline.devin_api.payloads import cursor_page, offset_page
from devin_pipeline_tests.devin_api.scripted import NOW

pytestmark = pytest.mark.notices(
    "an id or amount said twice",
    "an amount said twice beside an item without one",
    "a key said twice, once with an escaped letter",
    "a number beyond any as an id",
    "ACUs as floats",
    "negative ACUs",
    "ACUs judged before they are rounded",
    "a date that is no instant",
    "an instant before there was Devin or of the future",
    "absurdly many ACUs",
    "ACUs that are no number",
    "ACUs rounded half to even",
    "an id of any length",
    "an id with space around it",
    "an id with control characters",
    "one session under two ids",
    "text of another encoding",
    "bytes that only look like UTF-8",
    "absurd nesting and numbers",
    "an answer without items",
    "a payload in a repr",
)

GOOD = '{"session_id": "a", "created_at": 1740830400, "acus_consumed": 2}'


def read_one(text: str) -> Item:
    """Read an item in the middle of a page, between two good ones."""
    page = cursor_page(b'{"items": [%s, %s , %s]}' % (GOOD.encode(), text.encode(), GOOD.encode()), NOW)
    before, item, after = page.items
    assert before == after
    assert before.unplaced_because is None
    return item


def item_with(**members: str) -> str:
    """Write an item from the JSON text of its members."""
    told = {"session_id": '"b"', "created_at": "1740830400", "acus_consumed": "1", **members}
    return "{" + ", ".join(f'"{name}": {text}' for name, text in told.items() if text) + "}"


def test_an_items_payload_is_kept_byte_for_byte() -> None:
    text = '{ "session_id":"x",\t"created_at" : 1740830400 , "acus_consumed":1.50, "title": "Ä \\u00e4 \\" 🦊"}'
    assert read_one(text).payload == text.encode()


def test_a_numbers_spelling_survives_even_beside_a_damaged_item() -> None:
    text = '{"session_id":"x","created_at":1740830400,"acus_consumed":1.50,"n":NaN}'
    item = read_one(text)
    assert item.payload == text.encode()
    assert item.acus == Decimal("1.5")
    assert item.unplaced_because is None


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
    assert item.unplaced_because is None


@pytest.mark.parametrize("sent", ["null", ""])
def test_missing_acus_are_unknown_and_not_zero(sent: str) -> None:
    item = read_one(item_with(acus_consumed=sent))
    assert item.acus is None
    assert item.unplaced_because is None


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
def test_acus_that_are_no_amount_make_an_item_unplaceable(sent: str) -> None:
    item = read_one(item_with(acus_consumed=sent))
    assert item.acus is None
    assert item.unplaced_because is not None
    assert "acus_consumed" in item.unplaced_because
    assert item.session_id == "b"


@pytest.mark.parametrize(
    ("sent", "session_id"),
    [("devin-abc", "abc"), ("abc", "abc"), ("devin-devin-x", "devin-x"), ("Ünï", "Ünï"), ("x" * 200, "x" * 200)],
)
def test_an_id_loses_one_leading_prefix(sent: str, session_id: str) -> None:
    item = read_one(item_with(session_id=json.dumps(sent)))
    assert item.session_id == session_id
    assert item.unplaced_because is None


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
def test_an_unusable_id_makes_an_item_unplaceable(sent: str) -> None:
    item = read_one(item_with(session_id=sent))
    assert item.session_id is None
    assert item.unplaced_because == "session_id is not usable"


@pytest.mark.parametrize("sent", ["7", '"text"', "null", "[]", "true", "NaN"])
def test_an_item_that_is_no_object_is_unplaceable(sent: str) -> None:
    assert read_one(sent).unplaced_because == "it is not an object"


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
        assert item.unplaced_because is None


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
def test_an_unusable_creation_time_makes_an_item_unplaceable_and_an_unusable_update_time_does_not(sent: str) -> None:
    item = read_one(item_with(created_at=sent))
    assert item.created_at is None
    assert item.unplaced_because == "created_at is not usable"
    item = read_one(item_with(updated_at=sent))
    assert item.updated_at is None
    assert item.unplaced_because is None


def test_a_creation_time_may_lie_a_day_ahead_of_our_clock_but_no_more() -> None:
    edge = int((NOW + timedelta(days=1)).timestamp())
    assert read_one(item_with(created_at=str(edge))).created_at == NOW + timedelta(days=1)
    assert read_one(item_with(created_at=str(edge + 1))).created_at is None


def test_a_lone_surrogate_costs_neither_the_page_nor_the_item() -> None:
    text = item_with(title='"half \\ud800 pair"')
    item = read_one(text)
    assert item.unplaced_because is None
    assert item.payload == text.encode()
    assert (item.session_id, item.created_at) == ("b", datetime(2025, 3, 1, 12, tzinfo=UTC))


def test_an_id_or_amount_said_twice_makes_an_item_unplaceable() -> None:
    assert read_one(
        '{"session_id":"b","created_at":1740830400,"acus_consumed":1,"acus_consumed":99}'
    ).unplaced_because == ("acus_consumed is said twice")
    item = read_one('{"session_id":"b","session_id":"c","created_at":1740830400}')
    assert item.session_id is None
    assert item.unplaced_because == "session_id is said twice"


def test_an_amount_said_twice_shows_beside_items_that_say_none() -> None:
    twice = item_with(acus_consumed='1, "acus_consumed": 99')
    body = f'{{"items": [{{"session_id": "n", "created_at": 1740830400}}, {twice}, {GOOD}]}}'
    problems = [item.unplaced_because for item in cursor_page(body.encode(), NOW).items]
    assert problems == [None, "acus_consumed is said twice", None]


@pytest.mark.parametrize("again", ['"acus_consum\\u0065d"', '"\\u0061cus\\u005Fconsumed"', '"acus_c\\u006fnsumed"'])
def test_a_key_said_again_with_escaped_letters_is_said_twice(again: str) -> None:
    assert read_one(f'{{"session_id":"b","created_at":1740830400,"acus_consumed":1,{again}:99}}').unplaced_because == (
        "acus_consumed is said twice"
    )


def test_a_number_beyond_any_is_no_id_and_costs_nobody_else() -> None:
    assert read_one(item_with(session_id="1e9999999999999999999")).unplaced_because == "session_id is not usable"
    assert read_one(item_with(session_id='"1e99"')).session_id == "1e99"
    for absurd in ("1e9999999999999999999", "9" * 5000):
        item = read_one(item_with(structured_output=absurd))
        assert (item.session_id, item.unplaced_because) == ("b", None)


def test_the_same_keys_deeper_down_are_no_repetition() -> None:
    item = read_one(item_with(structured_output='{"session_id": "z", "acus_consumed": 5}'))
    assert (item.session_id, item.acus, item.unplaced_because) == ("b", Decimal(1), None)


def test_a_page_of_each_version_tells_where_it_stands() -> None:
    page = offset_page(b'{"items":[],"has_more":false,"total":7,"skip":5,"limit":2,"new":{"a":[]}}', NOW)
    assert (page.items, page.has_more, page.total, page.skip, page.limit) == ([], False, 7, 5, 2)
    cursors = cursor_page(b'\xef\xbb\xbf {"items":[],"end_cursor":"c=","has_next_page":true}', NOW)
    assert (cursors.items, cursors.has_next_page, cursors.end_cursor, cursors.total) == ([], True, "c=", None)
    assert cursor_page(b'{"items":[]}', NOW).has_next_page is False


def test_a_nan_in_the_envelope_changes_nothing() -> None:
    body = f'{{"took": NaN, "items": [{GOOD}], "has_more": false, "total": 1, "skip": 0, "limit": 200}}'
    assert [item.session_id for item in offset_page(body.encode(), NOW).items] == ["a"]


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "null",
        "{}",
        '"x"',
        "7",
        "NaN",
        '{"items":null}',
        '{"detail":"oops"}',
        '{"items":{},"x":NaN}',
        '{"x":NaN}',
        '{"items":[],"has_next_page":"false"}',
        '{"items":[],"total":"1"}',
        '{"items":[],"total":-1}',
        '{"items":[],"end_cursor":7}',
    ],
)
def test_json_of_another_shape_is_an_error_and_never_an_empty_page(body: str) -> None:
    with pytest.raises(InvalidResponse, match="no page of sessions") as caught:
        cursor_page(body.encode(), NOW)
    assert caught.value.more_tries == 2


@pytest.mark.parametrize("name", ["items", "has_more", "total", "skip", "limit"])
@pytest.mark.parametrize("value", ["missing", "null", '"1"', "-1", "1.5"])
def test_a_v2_page_needs_each_of_its_promised_fields(name: str, value: str) -> None:
    fields = {"items": "[]", "has_more": "false", "total": "0", "skip": "0", "limit": "200"}
    fields[name] = value
    body = "{" + ",".join(f'"{key}":{text}' for key, text in fields.items() if text != "missing") + "}"
    with pytest.raises(InvalidResponse, match="no page of sessions"):
        offset_page(body.encode(), NOW)


WHOLE = f'{{"items": [{GOOD}, {{"t": "é\\ud800"}}], "has_next_page": true, "x": [1, {{"y": NaN}}]}} '


def test_a_page_cut_short_anywhere_is_worth_another_try() -> None:
    whole = WHOLE.encode()
    assert len(cursor_page(whole, NOW).items) == 2
    for end in range(len(whole) - 1):
        with pytest.raises(InvalidResponse) as caught:
            cursor_page(whole[:end], NOW)
        assert caught.value.more_tries == 5, end


@pytest.mark.parametrize(
    "body",
    [
        WHOLE + "x",
        '{"items":[,]}',
        '{"items":[1,],"x":NaN}',
        '{1:NaN,"items":[]}',
        '{"items":[] "x":NaN}',
        '{"items" NaN}',
    ],
)
def test_what_is_not_json_is_worth_another_try(body: str) -> None:
    with pytest.raises(InvalidResponse, match="not JSON") as caught:
        cursor_page(body.encode(), NOW)
    assert caught.value.more_tries == 5


@pytest.mark.parametrize("body", [b"<html><body>secret</body></html>", '{"items":["é"]}'.encode("latin-1")])
def test_html_and_other_encodings_are_named_and_not_quoted(body: bytes) -> None:
    with pytest.raises(InvalidResponse, match=r"HTML|UTF-8") as caught:
        cursor_page(body, NOW)
    assert caught.value.more_tries == 2
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("bytes_of_text", ["é€😀".encode(), b"\xf4\x8f\xbf\xbf", b"\xee\x80\x80", b"\xef\xbf\xbf"])
def test_all_of_utf8_is_kept_as_sent(bytes_of_text: bytes) -> None:
    payload = GOOD.encode().replace(b"{", b'{"t":"' + bytes_of_text + b'",', 1)
    (item,) = cursor_page(b'{"items":[%s]}' % payload, NOW).items
    assert item.payload == payload


@pytest.mark.parametrize(
    "no_text",
    [
        pytest.param(b"\xc0\x80", id="overlong, two bytes"),
        pytest.param(b"\xe0\x9f\xbf", id="overlong, three bytes"),
        pytest.param(b"\xf0\x8f\xbf\xbf", id="overlong, four bytes"),
        pytest.param(b"\xed\xa0\x80", id="surrogate"),
        pytest.param(b"\xf4\x90\x80\x80", id="beyond Unicode"),
        pytest.param(b"\x80", id="continuation alone"),
        pytest.param(b"\xe2\x82", id="continuation missing"),
    ],
)
def test_what_only_looks_like_utf8_is_refused(no_text: bytes) -> None:
    with pytest.raises(InvalidResponse, match="UTF-8"):
        cursor_page(b'{"items":[%s]}' % GOOD.encode().replace(b"{", b'{"t":"' + no_text + b'",', 1), NOW)


@pytest.mark.parametrize(
    "body", ['{"items":[%s]}' % ("[" * 100_000 + "]" * 100_000), '{"x":NaN,"n":%s,"items":[]}' % ("9" * 5000)]
)
def test_absurd_nesting_and_numbers_fail_cleanly(body: str) -> None:
    with pytest.raises(InvalidResponse, match="nested too deeply or holds an absurd number") as caught:
        cursor_page(body.encode(), NOW)
    assert caught.value.more_tries == 0


def test_the_repr_of_a_page_tells_ids_and_no_payload() -> None:
    body = b'{"items": [{"session_id": "a", "created_at": 1740830400, "title": "a prompt"}]}'
    told = repr(cursor_page(body, NOW))
    assert "'a'" in told
    assert "a prompt" not in told


def test_an_item_tells_its_fields_and_whether_its_acus_are_text() -> None:
    for oddity in ("1", "NaN"):
        item = read_one(item_with(acus_consumed='"2.5"', shiny=oddity))
        assert item.fields == {"session_id", "created_at", "acus_consumed", "shiny"}
        assert item.acus_are_text
        assert not read_one(item_with(shiny=oddity)).acus_are_text
    assert not read_one(item_with(acus_consumed="1e9999999999999999999")).acus_are_text
    assert read_one("7").fields == frozenset()


def test_only_insights_of_v3_may_tell_an_analysis_and_only_v2_a_session_analysis() -> None:
    fields = {feed: {"analysis", "session_analysis"} & feed.fields for feed in FEEDS}
    assert fields == {
        SESSION_INSIGHTS_V2: {"session_analysis"},
        SESSIONS_V3: set(),
        SESSION_INSIGHTS_V3: {"analysis"},
    }
