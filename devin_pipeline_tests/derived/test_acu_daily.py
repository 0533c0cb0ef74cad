"""The additive cube: every count over sessions, links and feedback of one day."""

from devin_pipeline.tables import TABLES
from devin_pipeline_tests.derived.builders import columns, only, rolled_up
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, Row, acus

_DIMENSIONS = ("org_id", "user_id", "service_user_id", "origin", "category", "playbook_id", "state")


def link(session_id: str, ordinal: int = 0, state: str | None = "open", **values: object) -> Row:
    return {"session_id": session_id, "ordinal": ordinal, "state": state, **values}


def test_every_measure_of_one_group() -> None:
    sessions: list[Row] = [
        {"session_id": "a", "acus": acus("0.1"), "has_analysis": True},
        {"session_id": "b", "acus": acus("0.2"), "has_analysis": False},
        {"session_id": "c", "acus": None, "has_analysis": None},
    ]
    links = [link("a", 0, "merged"), link("a", 1, "merged"), link("a", 2), link("b", 0, "closed"), link("c", 0, None)]
    feedback: list[Row] = [{"session_id": "a", "ordinal": 0}, {"session_id": "a", "ordinal": 1}, {"session_id": "b"}]
    row = only(rolled_up("acu_daily", sessions=sessions, session_pull_requests=links, prompt_feedback=feedback))
    assert {name: row[name] for name in row if name not in _DIMENSIONS} == {
        "day": DAY,
        "sessions": 3,
        "acus": acus("0.3"),
        "sessions_with_unknown_acus": 1,
        "pull_request_links": 5,
        "merged_pull_request_links": 2,
        "sessions_with_pull_request": 3,
        "sessions_with_merged_pull_request": 1,
        "acus_of_merging_sessions": acus("0.1"),
        "analysed_sessions": 1,
        "feedback_items": 3,
    }


def test_acus_are_null_only_when_all_are_unknown() -> None:
    sessions: list[Row] = [
        {"session_id": "a", "org_id": "some", "acus": acus("0")},
        {"session_id": "b", "org_id": "some"},
        {"session_id": "c", "org_id": "none"},
    ]
    rows = rolled_up("acu_daily", sessions=sessions)
    assert columns(rows, "org_id", "acus", "sessions_with_unknown_acus") == [("none", None, 1), ("some", acus("0"), 1)]
    assert {row["acus_of_merging_sessions"] for row in rows} == {None}


def test_each_dimension_makes_its_own_row_and_null_is_a_value_of_its_own() -> None:
    sessions: list[Row] = [{"session_id": "plain", "state": "x"}, {"session_id": "again", "state": "x"}]
    sessions += [{"session_id": name, "state": "x", name: "y"} for name in _DIMENSIONS]
    rows = rolled_up("acu_daily", sessions=sessions)
    assert sorted(row["sessions"] for row in rows) == [1] * len(_DIMENSIONS) + [2]
    assert len({tuple(row[name] for name in TABLES["acu_daily"].key) for row in rows}) == len(rows)
    assert rolled_up("acu_daily", sessions=sessions[::-1]) == rows


def test_only_the_days_asked_for_are_counted_each_apart() -> None:
    later = NEXT_DAY.replace(day=3)
    sessions: list[Row] = [{"session_id": "a", "day": day} for day in (DAY, NEXT_DAY, later)]
    links = [link("a", day=NEXT_DAY), link("a", 1, day=NEXT_DAY), link("a", day=later)]
    rows = rolled_up("acu_daily", [DAY, NEXT_DAY], sessions=sessions, session_pull_requests=links)
    assert columns(rows, "day", "sessions", "pull_request_links") == [(DAY, 1, 0), (NEXT_DAY, 1, 2)]


def test_a_session_and_the_one_it_started_count_each_with_its_own_acus() -> None:
    sessions: list[Row] = [
        {"session_id": "parent", "acus": acus("5"), "child_session_ids": ["child"]},
        {"session_id": "child", "acus": acus("2"), "parent_session_id": "parent"},
    ]
    assert columns(rolled_up("acu_daily", sessions=sessions), "sessions", "acus") == [(2, acus("7"))]


def test_a_day_without_sessions_has_no_rows() -> None:
    assert rolled_up("acu_daily") == []
