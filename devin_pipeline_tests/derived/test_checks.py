"""Each check of derived finds what it should, and nothing else."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, NOON, Row, acus, findings

pytestmark = pytest.mark.notices("an organization that vanished", "a day far too quiet", "a rollup of no organization")


def session(session_id: str = "a", **values: object) -> Row:
    return {"session_id": session_id, **values}


def test_a_session_in_two_rows_of_a_day_is_found() -> None:
    fine = [session("a"), session("b"), session("c", day=NEXT_DAY), session("a", day=NEXT_DAY)]
    assert findings("derived", "session_ids_are_unique", sessions=fine) == []
    found = findings("derived", "session_ids_are_unique", sessions=[*fine, session("b")])
    assert found == [{"day": DAY, "rows_of_one_session": 2}]


def test_a_session_counted_on_two_days_is_found_whichever_days_are_checked() -> None:
    stored = [session("a"), session("b"), session("c", day=NEXT_DAY)]
    check = "sessions_stay_in_one_day"
    assert findings("derived", check, sessions=stored, views={"all_sessions": stored}) == []
    twice = [*stored, session("a", day=NEXT_DAY)]
    for checked in (twice[:2], twice[2:]):
        found = findings("derived", check, sessions=checked, views={"all_sessions": twice})
        assert found == [{"day": NEXT_DAY, "days_of_one_session": 2}]
    assert findings("derived", check, sessions=twice[1:2], views={"all_sessions": twice}) == []


def test_sessions_outside_their_day_are_found_to_the_microsecond() -> None:
    start = NOON - timedelta(hours=4)
    instant = timedelta(microseconds=1)
    inside = [session("a", created_at=start), session("b", created_at=start + timedelta(days=1) - instant)]
    check = "sessions_are_inside_their_day"
    assert findings("derived", check, params={"hour": 8}, sessions=inside) == []
    outside = [session("c", created_at=start - instant), session("d", created_at=start + timedelta(days=1))]
    found = findings("derived", check, params={"hour": 8}, sessions=inside + outside)
    assert found == [{"day": DAY, "sessions_outside": 2}]


def test_raw_sessions_that_are_not_derived_and_derived_ones_without_raw_are_found() -> None:
    raw: dict[str, Any] = {
        "raw_session_insights_v2": [session("a"), session("a", fetched_at=NOON + timedelta(hours=1))],
        "raw_sessions_v3": [session("a"), session("b", is_listed=False)],
        "raw_session_insights_v3": [session("c", day=NEXT_DAY)],
    }
    right = [session("a"), session("b"), session("c", day=NEXT_DAY)]
    assert findings("derived", "every_raw_session_is_derived", params={"days": None}, sessions=right, **raw) == []
    wrong = [session("a"), session("b", day=NEXT_DAY), session("x"), session("y")]
    assert findings("derived", "every_raw_session_is_derived", params={"days": None}, sessions=wrong, **raw) == [
        {"day": DAY, "missing": 1, "without_raw": 2},
        {"day": NEXT_DAY, "missing": 1, "without_raw": 1},
    ]


def test_a_rollup_that_does_not_add_up_is_found_to_the_last_digit() -> None:
    sessions = [
        session("a", org_id="o", acus=acus("1")),
        session("b", org_id="o", acus=acus("0.000001")),
        session("c", org_id=None, acus=acus("2")),
        session("d", org_id="unknown"),
        session("e", day=NEXT_DAY, acus=acus("4")),
    ]
    right: list[Row] = [
        {"org_id": "o", "acus": acus("0.5")},
        {"org_id": "o", "acus": acus("0.500001")},
        {"org_id": None, "acus": acus("2")},
        {"org_id": "unknown"},
        {"day": NEXT_DAY, "acus": acus("4")},
    ]

    def found(rolled_up: list[Row]) -> list[Row]:
        return findings("derived", "acus_add_up", sessions=sessions, rollup=rolled_up)

    def finding(day: date, summed: str | None, rolled: str | None) -> Row:
        values = (None if text is None else acus(text) for text in (summed, rolled))
        return {"day": day} | dict(zip(("acus_of_sessions", "acus_rolled_up"), values, strict=True))

    assert found(right) == []
    assert found(right[1:]) == [finding(DAY, "1.000001", "0.500001")]
    assert found(right[:-1]) == [finding(NEXT_DAY, "4", None)]
    assert found([*right, {"org_id": "nobody", "acus": acus("1")}]) == [finding(DAY, None, "1")]
    swapped = [row | {"org_id": "o"} if row.get("org_id", "") is None else row for row in right]
    assert found(swapped) == [finding(DAY, "3.000001", "3.000001")]
    assert found([row | {"acus": acus("0")} if row.get("org_id") == "unknown" else row for row in right]) == [
        finding(DAY, None, "0")
    ]


def test_values_of_no_known_enum_are_named_when_they_read_like_one_and_null_is_none_of_them() -> None:
    fine = [
        session("a"),
        session("b", status="exit", status_detail="finished", origin="cli", category="bug_fixing", session_size="xl"),
    ]
    assert findings("derived", "enum_values_are_known", sessions=fine) == []
    fields = ("status", "status_detail", "origin", "category", "session_size")
    odd = dict.fromkeys(fields, "paused") | {"category": "[click](http://evil.example)"}
    found = findings("derived", "enum_values_are_known", sessions=[*fine, session("c", **odd), session("d", status="")])
    assert found == [
        {"day": DAY, "field": "category", "value": "(unprintable)", "sessions": 1},
        {"day": DAY, "field": "origin", "value": "paused", "sessions": 1},
        {"day": DAY, "field": "session_size", "value": "paused", "sessions": 1},
        {"day": DAY, "field": "status", "value": "(unprintable)", "sessions": 1},
        {"day": DAY, "field": "status", "value": "paused", "sessions": 1},
        {"day": DAY, "field": "status_detail", "value": "paused", "sessions": 1},
    ]


def test_an_organization_without_a_listed_session_is_found() -> None:
    fine = [
        session("a", org_id="o"),
        session("b", org_id="o", is_listed=False),
        session("c", org_id=None),
        session("d", org_id="moved", is_listed=False),
        session("e", org_id="moved", day=NEXT_DAY),
    ]
    assert findings("derived", "organizations_stay_listed", sessions=fine) == []
    lost = [session("f", org_id="lost", is_listed=False), session("g", org_id="lost", day=NEXT_DAY, is_listed=False)]
    found = findings("derived", "organizations_stay_listed", sessions=[*fine, *lost])
    assert found == [{"day": NEXT_DAY, "unlisted_sessions": 2}]


def newest_closed(hour: int = 8) -> date:
    return (datetime.now(UTC) - timedelta(hours=24 + hour)).date()


def busy(*weekly: int, last: date | None = None) -> dict[date, int]:
    """So many sessions on one weekday, oldest week first; the last of them on the newest closed day, unless given."""
    newest = last or newest_closed()
    days = [newest - timedelta(weeks=week) for week in range(len(weekly) - 1, -1, -1)]
    return {day: sessions for day, sessions in zip(days, weekly, strict=True) if sessions}


@pytest.mark.parametrize(
    ("weekly", "quiet"),
    [
        ((40, 40, 40, 9), {"sessions": 9, "usual": 40}),
        ((40, 40, 40, 0), {"sessions": 0, "usual": 40}),
        ((10, 40, 200, 9), {"sessions": 9, "usual": 40}),
        ((40, 40, 40, 10), None),
        ((40, 40, 9), None),
        ((7, 7, 7, 1), None),
        ((8, 8, 8, 1), {"sessions": 1, "usual": 8}),
        ((40, 40, 40, 200), None),
    ],
)
def test_a_closed_day_far_below_its_weekdays_median_is_found(weekly: tuple[int, ...], quiet: Row | None) -> None:
    params = {"hour": 8, "first_day": newest_closed(), "last_day": newest_closed()}
    found = findings("derived", "days_are_as_busy_as_usual", params=params, rows_per_day=busy(*weekly))
    assert found == ([] if quiet is None else [{"day": newest_closed(), **quiet}])


def test_only_the_days_checked_are_reported_and_all_when_none_are_named() -> None:
    rows = busy(40, 40, 40, 0, 40)
    quiet = newest_closed() - timedelta(weeks=1)
    check = "days_are_as_busy_as_usual"
    everywhere = findings("derived", check, params={"hour": 8, "first_day": None, "last_day": None}, rows_per_day=rows)
    assert {"day": quiet, "sessions": 0, "usual": 40} in everywhere
    elsewhere = {"hour": 8, "first_day": newest_closed(), "last_day": newest_closed()}
    assert findings("derived", check, params=elsewhere, rows_per_day=rows) == []


def test_the_day_that_has_begun_is_never_too_quiet() -> None:
    today = newest_closed() + timedelta(days=1)
    rows = busy(40, 40, 40, 40, 0, last=today)
    params = {"hour": 8, "first_day": today, "last_day": today}
    assert findings("derived", "days_are_as_busy_as_usual", params=params, rows_per_day=rows) == []
