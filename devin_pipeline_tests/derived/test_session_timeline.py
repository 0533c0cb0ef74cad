"""One row per step of an analysis' timeline, as sent."""

from devin_pipeline_tests.derived.builders import columns, derived, version


def test_steps_keep_their_order_beyond_nine() -> None:
    steps = [{"title": f"t{n}", "description": "d", "color": "red", "issue_id": "i"} for n in range(12)]
    rows = derived("session_timeline", insights=[version(analysis={"timeline": steps})])
    assert columns(rows, "ordinal", "title", "description", "color", "issue_id") == [
        (n, f"t{n}", "d", "red", "i") for n in range(12)
    ]


def test_steps_of_v2_have_no_color_and_null_steps_are_left_out() -> None:
    analysis = {"timeline": [None, {"title": "t", "description": "d"}]}
    rows = derived("session_timeline", v2=[version(session_analysis=analysis)])
    assert columns(rows, "ordinal", "title", "color", "issue_id") == [(1, "t", None, None)]


def test_what_is_missing_at_any_level_makes_no_row() -> None:
    sent: list[object] = [None, {}, {"timeline": None}, {"timeline": []}, {"timeline": 1}]
    versions = [version(f"s{n}", analysis=analysis) for n, analysis in enumerate(sent)]
    assert derived("session_timeline", insights=versions) == []
