"""One row per session whose analysis suggests a better prompt."""

from devin_pipeline_tests.derived.builders import columns, derived, version
from devin_pipeline_tests.tables.rows import Row

# What is sent, and original prompt, suggested prompt and number of feedback items read from it.
SUGGESTIONS: list[tuple[Row, tuple[object, ...]]] = [
    ({"original_prompt": "o", "suggested_prompt": "s", "feedback_items": [{}, {}]}, ("o", "s", 2)),
    ({"suggested_prompt": "s"}, (None, "s", 0)),
    ({"original_prompt": "o", "feedback_items": None}, ("o", None, 0)),
    ({"feedback_items": [None, {"summary": "x"}]}, (None, None, 1)),
    ({"suggested_prompt": "", "feedback_items": []}, (None, "", 0)),
]


def suggestions(*sent: object) -> list[Row]:
    versions = [version(f"s{n}", analysis={"suggested_prompt": suggestion}) for n, suggestion in enumerate(sent)]
    return derived("prompt_suggestions", insights=versions)


def test_a_suggestion_has_a_row_with_the_number_of_its_feedback_items() -> None:
    rows = suggestions(*(sent for sent, _ in SUGGESTIONS))
    assert columns(rows, "original_prompt", "suggested_prompt", "feedback_items") == [
        expected for _, expected in SUGGESTIONS
    ]
    assert [row["session_id"] for row in rows] == [f"s{n}" for n in range(len(SUGGESTIONS))]


def test_nothing_suggested_makes_no_row() -> None:
    assert suggestions(None, {}, "text", [], {"suggested_prompt": None, "original_prompt": None}) == []


def test_v2_and_v3_give_the_same_rows() -> None:
    analysis = {"suggested_prompt": {"original_prompt": "o", "suggested_prompt": "s", "feedback_items": [{}]}}
    of_v2 = derived("prompt_suggestions", v2=[version(session_analysis=analysis)])
    assert of_v2 == derived("prompt_suggestions", insights=[version(analysis=analysis)]) != []
