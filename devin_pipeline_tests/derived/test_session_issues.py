"""One row per issue of an analysis, as sent."""

from devin_pipeline_tests.derived.builders import columns, derived, version


def issues(*sent: object) -> list[tuple[object, ...]]:
    rows = derived("session_issues", insights=[version(analysis={"issues": list(sent)})])
    return columns(rows, "session_id", "ordinal", "issue_id", "issue", "impact", "label")


def test_issues_keep_their_order_and_repetitions() -> None:
    one = {"id": "i1", "issue": "slow", "impact": "high", "label": "build"}
    two = {"issue": "", "impact": None}
    assert issues(one, two, one) == [
        ("a", 0, "i1", "slow", "high", "build"),
        ("a", 1, None, "", None, None),
        ("a", 2, "i1", "slow", "high", "build"),
    ]


def test_an_issue_may_name_itself_id_or_issue_id() -> None:
    assert [row[2] for row in issues({"id": "x"}, {"issue_id": "y"}, {"id": "x", "issue_id": "y"})] == ["x", "y", "x"]


def test_null_items_are_left_out_and_the_others_keep_their_place() -> None:
    assert [row[1] for row in issues(None, {"issue": "x"}, None, {})] == [1, 3]


def test_what_is_missing_at_any_level_makes_no_row() -> None:
    sent: list[object] = [None, {}, {"issues": None}, {"issues": []}, {"issues": "x"}, {"timeline": []}]
    versions = [version(f"s{n}", analysis=analysis) for n, analysis in enumerate(sent)]
    assert derived("session_issues", insights=versions) == []


def test_issues_of_v2_have_no_id() -> None:
    rows = derived("session_issues", v2=[version(session_analysis={"issues": [{"issue": "x", "label": "l"}]})])
    assert columns(rows, "issue_id", "issue", "label") == [(None, "x", "l")]
