import pytest

from devin_pipeline.devin_api import InvalidResponse
from devin_pipeline.devin_api.pages import cursor_page, offset_page
from devin_pipeline_tests.devin_api.scripted import NOW
from devin_pipeline_tests.devin_api.test_items import GOOD

pytestmark = pytest.mark.notices(
    "text of another encoding",
    "bytes that only look like UTF-8",
    "absurd nesting and numbers",
    "an answer without items",
    "a payload in a repr",
)


def test_a_page_of_each_version_says_where_it_is() -> None:
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
    with pytest.raises(InvalidResponse, match="not a page of sessions") as caught:
        cursor_page(body.encode(), NOW)
    assert caught.value.more_tries == 2


@pytest.mark.parametrize("name", ["items", "has_more", "total", "skip", "limit"])
@pytest.mark.parametrize("value", ["missing", "null", '"1"', "-1", "1.5"])
def test_a_v2_page_needs_each_of_its_promised_fields(name: str, value: str) -> None:
    fields = {"items": "[]", "has_more": "false", "total": "0", "skip": "0", "limit": "200"}
    fields[name] = value
    body = "{" + ",".join(f'"{key}":{text}' for key, text in fields.items() if text != "missing") + "}"
    with pytest.raises(InvalidResponse, match="not a page of sessions"):
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


def test_the_repr_of_a_page_shows_ids_and_no_payload() -> None:
    body = b'{"items": [{"session_id": "a", "created_at": 1740830400, "title": "a prompt"}]}'
    shown = repr(cursor_page(body, NOW))
    assert "'a'" in shown
    assert "a prompt" not in shown
