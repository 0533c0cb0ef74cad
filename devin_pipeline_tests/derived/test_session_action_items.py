"""One row per action item of an analysis, as sent."""

from devin_pipeline_tests.derived.builders import columns, derived, version


def test_action_items_keep_their_order_and_repetitions() -> None:
    item = {"issue_id": "i1", "type": "machine_setup", "action_item": "install it"}
    rows = derived(
        "session_action_items",
        insights=[version("b", analysis={"action_items": [item, None, item]})],
        v2=[version("a", session_analysis={"action_items": [{"action_item": "do"}]})],
    )
    assert columns(rows, "session_id", "ordinal", "issue_id", "type", "action_item") == [
        ("a", 0, None, None, "do"),
        ("b", 0, "i1", "machine_setup", "install it"),
        ("b", 2, "i1", "machine_setup", "install it"),
    ]


def test_what_is_missing_at_any_level_makes_no_row() -> None:
    sent: list[object] = [None, {}, {"action_items": None}, {"action_items": []}, {"action_items": {}}]
    versions = [version(f"s{n}", analysis=analysis) for n, analysis in enumerate(sent)]
    assert derived("session_action_items", insights=versions) == []
