"""Redaction: an item's JSON in, what may be stored of it out."""

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from devin_pipeline.devin_api.pages import cursor_page
from devin_pipeline.emulator import Enterprise, Feed
from devin_pipeline.lake import ErasureList, Lake
from devin_pipeline.raw.redaction import Redaction
from devin_pipeline.tables.raw import RAW_QUARANTINE, RAW_SESSIONS_V3, SESSION_FIELDS
from devin_pipeline_tests.tables.rows import after, rows_of

pytestmark = pytest.mark.notices("text of absurd depth under DEVIN_TEXT=none")

NO_TEXT = Redaction(keeps_text=False, erased=ErasureList())
ITEM = {
    "session_id": "devin-a",
    "url": "https://app.devin.ai/sessions/a",
    "status": "running",
    "title": "Secret ünïcode 👩‍💻 title",
    "tags": ["cost-centre:a b", "größe:m"],
    "user_id": "email|jo",
    "org_id": "org-1",
    "created_at": 1767225600,
    "acus_consumed": 1.5,
    "pull_requests": [{"pr_url": "https://github.com/a/b/pull/1", "pr_state": "open", "title": "Secret"}],
    "initial_user_message": "Secret",
    "structured_output": {"Secret": [1, "Secret"]},
    "is_archived": False,
    "parent_session_id": "devin-p",
    "child_session_ids": ["devin-c", "d"],
    "x_new_field": "Secret",
    "x_new_object": {"Secret": "Secret"},
    "x_new_number": 3,
    "analysis": {
        "classification": {"category": "Secret", "confidence": 0.5, "programming_languages": ["Secret"]},
        "issues": [{"id": "i1", "issue": "Secret", "impact": "Secret", "label": "Secret"}],
        "action_items": None,
        "timeline": [],
        "suggested_prompt": {"original_prompt": "Secret", "suggested_prompt": "", "feedback_items": [None]},
    },
}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def redacted(redaction: Redaction, item: object) -> dict[str, object]:
    payload, _ = redaction.payload(json.dumps(item).encode(), SESSION_FIELDS)
    read: dict[str, object] = json.loads(payload)
    return read


def test_text_goes_and_its_length_and_everything_else_stay() -> None:
    kept = redacted(NO_TEXT, ITEM)
    assert "Secret" not in json.dumps(kept)
    plain = set(ITEM) - {
        "title",
        "initial_user_message",
        "structured_output",
        "pull_requests",
        "x_new_field",
        "x_new_object",
        "analysis",
    }
    assert {name: kept[name] for name in plain} == {name: ITEM[name] for name in plain}
    assert kept["title"] == "x" * len(str(ITEM["title"]))
    assert kept["structured_output"] == "x" * len(json.dumps(ITEM["structured_output"]))
    assert kept["pull_requests"] == [{"pr_url": "https://github.com/a/b/pull/1", "pr_state": "open", "title": "xxxxxx"}]
    assert kept["analysis"] == {
        "classification": {"category": "xxxxxx", "confidence": 0.5, "programming_languages": ["xxxxxx"]},
        "issues": [{"id": "i1", "issue": "xxxxxx", "impact": "xxxxxx", "label": "xxxxxx"}],
        "action_items": None,
        "timeline": [],
        "suggested_prompt": {"original_prompt": "xxxxxx", "suggested_prompt": "", "feedback_items": [None]},
    }


@pytest.mark.parametrize(
    "payload",
    [
        '{"session_id": "a", "title": "\\ud800Secret", "acus_consumed": 1.50, "tags": ["\\udc00"]}',
        '{"session_id": "a", "title": "Secret", "acus_consumed": NaN}',
        '{"session_id": "a", "status": {"Secret": 1}, "tags": ["t", ["Secret"]], "pull_requests": "Secret"}',
        '{"session_id": "a", "analysis": ["Secret"], "pull_requests": [["Secret"]], "url": ["ok", {"a": "Secret"}]}',
        '["Secret"]',
        '"Secret"',
        '{"title": "Secret", "title": "Secret too"}',
        '{"title": "\\u0053ecret"}',
    ],
)
def test_no_odd_shape_brings_text_past_it(payload: str) -> None:
    kept, redacted = NO_TEXT.payload(payload.encode(), SESSION_FIELDS)
    assert redacted == "text"
    assert b"ecret" not in kept
    assert json.loads(kept) is not None


@pytest.mark.parametrize("depth", [100, 400, 900, 2_000])
@pytest.mark.parametrize("oddity", ["", ', "x": NaN', ', "x": "\\ud800"'])
def test_no_depth_brings_text_past_it_or_stops_it(depth: int, oddity: str, lake: Lake) -> None:
    lake.add_to_erasure_list([("user", "jo")])
    deep = "[" * depth + '"Secret"' + "]" * depth
    payload = f'{{"user_id": "jo", "session_id": "a", "analysis": {{"issues": {deep}}}{oddity}}}'.encode()
    for redaction in (NO_TEXT, Redaction(keeps_text=True, erased=lake.erasure_list())):
        kept, redacted = redaction.payload(payload, SESSION_FIELDS)
        assert redacted == "text"
        assert b"Secret" not in kept


def test_numbers_keep_every_digit_they_were_sent_with() -> None:
    for number in ("1.5000000000000000000001", "1E-7", "12345678901234567890123"):
        for oddity in ("", ', "x": NaN'):
            kept, _ = NO_TEXT.payload(f'{{"acus_consumed": {number}, "title": "t"{oddity}}}'.encode(), SESSION_FIELDS)
            assert json.loads(kept, parse_float=Decimal)["acus_consumed"] == Decimal(number)


def test_blanking_twice_is_blanking_once() -> None:
    enterprise = Enterprise.synthetic(seed=3, sessions=60, days=3)
    feeds: list[Feed] = ["session_insights_v2", "sessions_v3", "session_insights_v3"]
    for feed in feeds:
        for text in enterprise.items(feed):
            sent = text.encode()
            once, _ = NO_TEXT.payload(sent, SESSION_FIELDS)
            assert NO_TEXT.payload(once, SESSION_FIELDS)[0] == once
            (before,) = cursor_page(b'{"items":[%b]}' % sent, after(1_000_000)).items
            (then,) = cursor_page(b'{"items":[%b]}' % once, after(1_000_000)).items
            assert (then.session_id, then.created_at, then.updated_at, then.acus) == (
                before.session_id,
                before.created_at,
                before.updated_at,
                before.acus,
            )


def test_nothing_to_take_out_leaves_the_bytes_alone() -> None:
    assert Redaction(True, ErasureList()).payload(b'{ "a" : 1 }', SESSION_FIELDS) == (b'{ "a" : 1 }', None)


def test_an_erased_user_has_a_pseudonym_and_no_text(lake: Lake) -> None:
    erased = lake.add_to_erasure_list([("user", "email|jo")])
    redaction = Redaction(True, erased)
    kept = redacted(redaction, ITEM)
    assert "Secret" not in json.dumps(kept)
    assert "email|jo" not in json.dumps(kept)
    assert kept["user_id"] == erased.pseudonym("user", "email|jo")
    assert kept["session_id"] == "devin-a"
    other = ITEM | {"user_id": "email|jim"}
    assert redacted(redaction, other) == other
    assert redacted(redaction, ITEM | {"user_id": None, "service_user_id": "email|jo"})["title"] != ITEM["title"]


def test_an_erased_session_has_a_pseudonym_wherever_it_is_named(lake: Lake) -> None:
    redaction = Redaction(True, lake.add_to_erasure_list([("session", "a")]))
    kept = redacted(redaction, ITEM)
    pseudonym = redaction.erased.pseudonym("session", "a")
    assert (kept["session_id"], kept["user_id"], kept["url"]) == (pseudonym, pseudonym, None)
    assert "Secret" not in json.dumps(kept)
    child = {"session_id": "b", "parent_session_id": "devin-a", "child_session_ids": ["devin-z", "a"], "title": "T"}
    assert redacted(redaction, child) == child | {
        "parent_session_id": pseudonym,
        "child_session_ids": ["devin-z", pseudonym],
    }
    assert redaction.payload(json.dumps(child).encode(), SESSION_FIELDS)[1] == "ids"


@pytest.mark.parametrize(
    "payload",
    [
        '{"user_id": "jo"}',
        '{"user_id": "j\\u006f"}',
        '{"us\\u0065r_id": "jo"}',
        '{"user_id": "x", "user_id": "jo"}',
        '{"service_user_id": "jo", "acus_consumed": NaN}',
        '{"title": "\\ud800", "user_id": "jo"}',
        '{"session_id": "devin-a"}',
        '{"session_id": "b", "parent_session_id": "devin-a"}',
        '{"session_id": "b", "child_session_ids": [1, null, "c", "a"]}',
        '{"user_id": "jo", "analysis": ' + "[" * 2_000 + "]" * 2_000 + "}",
        '{"user_id": "jim"}',
        '{"user_id": ["jo"], "child_session_ids": "a"}',
        '["jo"]',
        '"jo"',
        "",
    ],
)
def test_the_quick_look_finds_every_item_that_redaction_changes(payload: str, lake: Lake) -> None:
    erased = lake.add_to_erasure_list([("user", "jo"), ("session", "a")])
    for redaction in (Redaction(True, erased), Redaction(True, lake.erasure_list())):
        rows = pa.table({"session_id": ["b", None], "payload": [payload, None]}, pa.schema(_COLUMNS))
        changes = redaction.payload(payload.encode(), SESSION_FIELDS)[0] != payload.encode()
        assert redaction.may_change(RAW_SESSIONS_V3, rows).to_pylist() == [changes, False]
    rows = pa.table({"session_id": ["a", "b"], "payload": ["{}", "{}"]}, pa.schema(_COLUMNS))
    assert redaction.may_change(RAW_SESSIONS_V3, rows).to_pylist() == [True, False]
    assert redaction.may_change(RAW_SESSIONS_V3, rows.slice(1)).to_pylist() == [False]


@pytest.mark.notices("persons in the quarantine of a feed that is gone")
def test_a_quarantined_item_of_a_feed_that_is_gone_is_redacted_like_a_session(lake: Lake) -> None:
    redaction = Redaction(True, lake.add_to_erasure_list([("user", "jo")]))
    item = {"feed": "raw_of_before", "payload": '{"user_id": "jo", "title": "Secret"}'}
    rows = rows_of(RAW_QUARANTINE, [item])
    assert redaction.may_change(RAW_QUARANTINE, rows).to_pylist() == [True]
    (payload,) = redaction.stored_rows(RAW_QUARANTINE, rows).column("payload").to_pylist()
    assert json.loads(payload) == {"user_id": redaction.erased.pseudonym("user", "jo"), "title": "xxxxxx"}


_COLUMNS = [("session_id", pa.string()), ("payload", pa.string())]


def test_the_erasure_list_holds_no_id_and_recognizes_each(lake: Lake) -> None:
    lake.add_to_erasure_list([("user", "email|jo")])
    lake.add_to_erasure_list([("session", "a")])
    again = lake.add_to_erasure_list([("user", "email|jo")])
    files = [file for file in Path(lake.uri).rglob("*") if file.is_file()]
    assert len(files) == 2
    assert not any("email|jo" in file.read_text() or "email|jo" in file.name for file in files)
    assert again == lake.erasure_list()
    assert again.pseudonym("user", "a") is None
    assert again.pseudonym("user", "email|jo") == lake.erasure_list().pseudonym("user", "email|jo")
