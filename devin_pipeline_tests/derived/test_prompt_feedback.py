"""One row per feedback item on a session's prompt, as sent."""

from devin_pipeline_tests.derived.builders import columns, derived, version
from devin_pipeline_tests.tables.rows import Row


def feedback(*sent: object) -> list[Row]:
    versions = [version(f"s{n}", analysis={"suggested_prompt": suggestion}) for n, suggestion in enumerate(sent)]
    return derived("prompt_feedback", insights=versions)


def test_feedback_keeps_its_order_and_repetitions() -> None:
    item = {"issue_id": "i", "summary": "s", "excerpt": "e", "details": "d"}
    rows = feedback({"feedback_items": [item, None, {"summary": ""}, item]})
    assert columns(rows, "session_id", "ordinal", "issue_id", "summary", "excerpt", "details") == [
        ("s0", 0, "i", "s", "e", "d"),
        ("s0", 2, None, "", None, None),
        ("s0", 3, "i", "s", "e", "d"),
    ]


def test_what_is_missing_at_any_level_makes_no_row() -> None:
    assert feedback(None, {}, "x", {"feedback_items": None}, {"feedback_items": []}) == []


def test_there_are_as_many_rows_as_the_suggestion_says() -> None:
    versions = [version(analysis={"suggested_prompt": {"feedback_items": [{}, None, {"summary": "x"}]}})]
    (suggestion,) = derived("prompt_suggestions", insights=versions)
    assert suggestion["feedback_items"] == len(derived("prompt_feedback", insights=versions)) == 2
