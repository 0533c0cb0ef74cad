"""Per tag: ACUs of the sessions it touches, and shares that add up to the day."""

import pytest

from devin_pipeline_tests.derived.builders import columns, only, rolled_up
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, Row, acus

pytestmark = pytest.mark.notices("what division leaves over")


def by_tag(*sessions: tuple[list[str], str | None]) -> dict[str, tuple[object, ...]]:
    rows: list[Row] = [
        {"session_id": f"s{n}", "tags": tags, "acus": None if used is None else acus(used)}
        for n, (tags, used) in enumerate(sessions)
    ]
    rolled = rolled_up("acu_daily_by_tag", sessions=rows)
    assert [row["tag"] for row in rolled] == sorted(row["tag"] for row in rolled)
    return {row["tag"]: (row["sessions"], row["acus_touching"], row["acus_split"]) for row in rolled}


def test_shares_are_truncated_and_the_remainder_goes_to_the_first_tag_sent() -> None:
    assert by_tag((["z", "a", "m"], "1.000001")) == {
        "z": (1, acus("1.000001"), acus("0.333335")),
        "a": (1, acus("1.000001"), acus("0.333333")),
        "m": (1, acus("1.000001"), acus("0.333333")),
    }


def test_a_repeated_tag_counts_once_at_its_first_place() -> None:
    assert by_tag((["b", "a", "b", "a"], "0.000003")) == {
        "b": (1, acus("0.000003"), acus("0.000002")),
        "a": (1, acus("0.000003"), acus("0.000001")),
    }


def test_tags_overlap_when_touching_and_add_up_when_split() -> None:
    split = by_tag((["x", "y"], "1"), (["x"], "2"), ([], "4"))
    assert split == {
        "x": (2, acus("3"), acus("2.5")),
        "y": (1, acus("1"), acus("0.5")),
        "(untagged)": (1, acus("4"), acus("4")),
    }


def test_unknown_acus_stay_unknown_and_known_ones_count_next_to_them() -> None:
    assert by_tag((["x", "y"], None), (["y"], "1"), ([], None)) == {
        "x": (1, None, None),
        "y": (2, acus("1"), acus("1")),
        "(untagged)": (1, None, None),
    }


def test_organizations_and_days_are_kept_apart() -> None:
    sessions: list[Row] = [
        {"session_id": "a", "org_id": "o", "tags": ["x"], "acus": acus("1")},
        {"session_id": "b", "org_id": None, "tags": ["x"], "acus": acus("2")},
        {"session_id": "a", "day": NEXT_DAY, "org_id": "o", "tags": ["x"], "acus": acus("4")},
        {"session_id": "c", "day": NEXT_DAY.replace(day=3), "tags": ["x"]},
    ]
    rows = rolled_up("acu_daily_by_tag", [DAY, NEXT_DAY], sessions=sessions)
    assert columns(rows, "day", "org_id", "acus_split") == [
        (DAY, "o", acus("1")),
        (DAY, None, acus("2")),
        (NEXT_DAY, "o", acus("4")),
    ]


@pytest.mark.parametrize(
    "used",
    [
        "999999.999999",
        "1000000",
    ],
)
def test_a_session_may_have_used_very_much(used: str) -> None:
    row = only(rolled_up("acu_daily_by_tag", sessions=[{"session_id": "a", "tags": ["x"], "acus": acus(used)}]))
    assert row["acus_split"] == acus(used)
