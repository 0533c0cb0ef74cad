"""A payload parsed: what is of another type is null or text, and costs neither the session nor its neighbours."""

import json
from collections.abc import Sequence

import pytest

from devin_pipeline_tests.derived.builders import as_sent, connection_over, derived, only, version
from devin_pipeline_tests.tables.rows import Row

pytestmark = pytest.mark.notices("a payload Python cannot read", "lone surrogates and NaN")

FIELDS: Row = {
    "title": "T",
    "tags": ["x"],
    "is_archived": True,
    "num_user_messages": 3,
    "child_session_ids": ["c"],
    "structured_output": {"x": 1},
    "pull_requests": [{"url": "https://h/o/r/pull/1"}],
    "analysis": {"issues": [{"issue": "i"}]},
}


def parsed(*payloads: str, v2: Sequence[str] = (), v3: Sequence[str] = ()) -> list[Row]:
    """Payloads of v3 insights, or of another feed, parsed."""
    versions = [[as_sent(payload, f"s{n:02}") for n, payload in enumerate(sent)] for sent in (payloads, v2, v3)]
    with connection_over(insights=versions[0], v2=versions[1], v3=versions[2]) as connection:
        rows: list[Row] = connection.rows("from _parsed_versions order by session_id").to_pylist()
    return rows


WRONG: list[tuple[str, object]] = [
    ("tags", "x"),
    ("tags", {"x": 1}),
    ("tags", 5),
    ("is_archived", "perhaps"),
    ("is_archived", [True]),
    ("num_user_messages", "many"),
    ("num_user_messages", 3_000_000_000),
    ("num_user_messages", {"n": 1}),
    ("child_session_ids", "c"),
    ("pull_requests", "none"),
    ("pull_requests", {"url": "https://h/o/r/pull/1"}),
]


def test_a_field_of_another_type_is_null_and_the_others_stay() -> None:
    right, *rows = parsed(json.dumps(FIELDS), *(json.dumps(FIELDS | {field: wrong}) for field, wrong in WRONG))
    differing = [{name for name in row if row[name] != right[name]} for row in rows]
    assert differing == [{field, "session_id"} for field, _ in WRONG]
    assert {row[field] for row, (field, _) in zip(rows, WRONG, strict=True)} == {None}


def test_an_analysis_of_another_type_is_none() -> None:
    wrong: list[object] = ["text", [], ["x"], 5, True]
    right, *rows = parsed(json.dumps(FIELDS), *(json.dumps(FIELDS | {"analysis": analysis}) for analysis in wrong))
    assert right["has_analysis"] is True
    for row in rows:
        assert {name for name in row if row[name] != right[name]} == {"analysis", "has_analysis", "session_id"}
        assert row["has_analysis"] is False
        assert set((row["analysis"] or {}).values()) <= {None}


def test_a_payload_of_another_shape_is_a_session_without_fields() -> None:
    odd = ["{}", "[]", "5", "null", '"text"', '[{"title": "T"}]']
    versions = [as_sent(payload, f"a{n}") for n, payload in enumerate(odd)]
    *rows, neighbour = derived("sessions", insights=[*versions, version("b", title="T")])
    assert [(row["title"], row["tags"], row["state"]) for row in rows] == [(None, [], "other:")] * len(odd)
    assert neighbour["title"] == "T"


ABSURD = {
    "deep": "[" * 400 + "]" * 400,
    "as deep as it goes": "[" * 980 + "]" * 980,
    "deeper": "[" * 5_000 + "]" * 5_000,
    "long number": "9" * 5_000,
}


@pytest.mark.parametrize("oddity", ["", ', "x": NaN', ', "x": "NaN"', ', "x": "\\ud800"'])
@pytest.mark.parametrize("absurd", ABSURD)
def test_a_payload_of_any_depth_or_number_is_a_session_and_costs_no_neighbour(absurd: str, oddity: str) -> None:
    payload = f'{{"title": "T", "structured_output": {ABSURD[absurd]}{oddity}}}'
    versions = [as_sent(payload, "a"), version("b", title="T")]
    session, neighbour = derived("sessions", insights=versions)
    assert session["title"] in ("T", None)
    assert neighbour["title"] == "T"


def test_unknown_fields_change_nothing() -> None:
    right, row = parsed(json.dumps(FIELDS), json.dumps({"shiny": {"deep": [1]}} | FIELDS))
    assert {name for name in row if row[name] != right[name]} == {"session_id"}


TEXTS = {
    "\\ud800": "\N{REPLACEMENT CHARACTER}",
    "a\\udc00b": "a\N{REPLACEMENT CHARACTER}b",
    "\\udc00\\ud800": "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}",
    "\\ud83d\\ude00 \\ud83d": "😀 \N{REPLACEMENT CHARACTER}",
    "\\\\ud800": "\\ud800",
    "a\\u0000b": "a\x00b",
    "a\\u0000\\ud800": "a\x00\N{REPLACEMENT CHARACTER}",
    "\\ud83d\\ude00": "😀",
    "Grüße 数据": "Grüße 数据",
    "\\u2028\\t\\n": "\u2028\t\n",
}


def test_text_is_stored_as_sent_but_for_lone_surrogates() -> None:
    rows = parsed(*(f'{{"title": "{sent}", "status": "exit"}}' for sent in TEXTS))
    assert [row["title"] for row in rows] == list(TEXTS.values())
    assert {row["status"] for row in rows} == {"exit"}


def test_a_lone_surrogate_deep_in_an_analysis_is_replaced_too() -> None:
    payload = '{"title": "T", "analysis": {"issues": [{"issue": "a\\ud800"}, {"issue": "b"}]}}'
    rows = derived("session_issues", insights=[as_sent(payload)])
    assert [row["issue"] for row in rows] == ["a\N{REPLACEMENT CHARACTER}", "b"]


def test_a_payload_is_repaired_for_its_own_feed_and_session_only() -> None:
    rows = derived("sessions", v2=[as_sent('{"initial_user_message": "\\ud800"}')], v3=[version(title="T")])
    assert only(rows)["initial_user_message"] == "\N{REPLACEMENT CHARACTER}"
    assert only(rows)["title"] == "T"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ('{"b": [1, null], "a": "ü"}', {"b": [1, None], "a": "ü"}),
        ('"text"', "text"),
        ("5", 5),
        ("[]", []),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ('{"x": NaN}', {"x": None}),
    ],
)
def test_structured_output_is_json_text(sent: str, expected: object) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    text = only(derived("sessions", v3=[as_sent(f'{{"structured_output": {sent}}}')]))["structured_output"]
    assert json.loads(text, parse_constant=refuse) == expected


def test_no_structured_output_is_null() -> None:
    rows = derived("sessions", v3=[as_sent('{"structured_output": null}', "a"), as_sent("{}", "b")])
    assert [row["structured_output"] for row in rows] == [None, None]


ANALYSES = {
    '{"issues": []}': True,
    '{"issues": null}': True,
    '{"new_kind": 1}': True,
    '{"classification": {}}': True,
    "{}": False,
    "{ \n }": False,
    "null": False,
    '""': False,
    "[]": False,
}


def test_an_analysis_counts_when_it_is_an_object_that_holds_something() -> None:
    of_v3 = parsed(*(f'{{"analysis": {analysis}}}' for analysis in ANALYSES))
    of_v2 = parsed(v2=[f'{{"session_analysis": {analysis}}}' for analysis in ANALYSES])
    expected = list(ANALYSES.values())
    assert [row["has_analysis"] for row in of_v3] == [row["has_analysis"] for row in of_v2] == expected


def test_each_feed_has_its_own_name_for_the_analysis() -> None:
    both = json.dumps({"analysis": {"issues": [{"issue": "v3"}]}, "session_analysis": {"issues": [{"issue": "v2"}]}})
    assert [row["issue"] for row in derived("session_issues", insights=[as_sent(both)])] == ["v3"]
    assert [row["issue"] for row in derived("session_issues", v2=[as_sent(both)])] == ["v2"]
    assert derived("session_issues", v3=[as_sent(both)]) == []
    assert only(parsed(v3=[both]))["has_analysis"] is None
