"""Answers across days, from hand-written rows of the derived tables."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

import pytest

from devin_pipeline.lake import Connection
from devin_pipeline.reports.queries import select
from devin_pipeline.tables import REPORT_TABLES, TABLES
from devin_pipeline_tests.tables.rows import DAY, Row, acus, after, rows_of


def report(name: str, **tables: Sequence[Row]) -> list[Row]:
    with Connection() as connection:
        for input_ in TABLES[name].inputs:
            connection.register(input_, rows_of(TABLES[input_], tables.get(input_, ())))
        rows: list[Row] = select(connection, TABLES[name]).to_pylist()
    return rows


def cube(day: date, **values: object) -> Row:
    return {"day": day, "sessions": 1, **values}


def link(session_id: str, number: int | None = 1, **values: object) -> Row:
    return {
        "session_id": session_id,
        "url": f"https://h/o/r/pull/{number}",
        "host": "h",
        "repository": "o/r",
        "number": number,
        "session_created_at": after(0),
        "session_updated_at": after(0),
        **values,
    }


def only(rows: Sequence[Row]) -> Row:
    (row,) = rows
    return row


# Days, and the Mondays of their weeks.
WEEKS = {
    date(2024, 2, 29): date(2024, 2, 26),
    date(2025, 12, 28): date(2025, 12, 22),
    date(2025, 12, 29): date(2025, 12, 29),
    date(2025, 12, 31): date(2025, 12, 29),
    date(2026, 1, 1): date(2025, 12, 29),
    date(2026, 1, 4): date(2025, 12, 29),
    date(2026, 1, 5): date(2026, 1, 5),
    date(2027, 1, 3): date(2026, 12, 28),
}


def test_a_week_starts_on_monday_across_the_years_end() -> None:
    rows = report("acu_weekly", acu_daily=[cube(day, org_id=day.isoformat()) for day in WEEKS])
    assert {date.fromisoformat(row["org_id"]): row["week"] for row in rows} == WEEKS
    assert all(monday.isocalendar() == (*day.isocalendar()[:2], 1) for day, monday in WEEKS.items())


def test_a_month_is_its_first_day() -> None:
    days = date(2025, 12, 31), date(2026, 1, 1), date(2024, 2, 29)
    rows = report("acu_monthly", acu_daily=[cube(day) for day in days])
    assert [row["month"] for row in rows] == [date(2024, 2, 1), date(2025, 12, 1), date(2026, 1, 1)]


@pytest.mark.parametrize(("name", "period"), [("acu_weekly", "week"), ("acu_monthly", "month")])
def test_every_measure_is_summed_over_the_days_and_dimensions_of_a_period(name: str, period: str) -> None:
    counts = (
        *("sessions", "sessions_with_unknown_acus", "pull_request_links", "merged_pull_request_links"),
        *("sessions_with_pull_request", "sessions_with_merged_pull_request", "analysed_sessions", "feedback_items"),
    )
    measures = {count: place for place, count in enumerate(counts, start=1)}
    used = {"acus": acus("0.1"), "acus_of_merging_sessions": acus("0.2")}
    rows = [
        cube(DAY, **measures, **used, origin="slack"),
        cube(DAY, **measures, **used, origin=None),
        cube(DAY.replace(day=7), **measures),
    ]
    assert report(name, acu_daily=rows) == [
        {period: DAY, "org_id": None, "user_id": None, "service_user_id": None}
        | {count: 3 * place for count, place in measures.items()}
        | {"acus": acus("0.2"), "acus_of_merging_sessions": acus("0.4")}
    ]


@pytest.mark.parametrize(("name", "period"), [("acu_weekly", "week"), ("acu_monthly", "month")])
def test_people_and_periods_are_kept_apart_and_unknown_acus_stay_unknown(name: str, period: str) -> None:
    next_period = DAY.replace(day=8) if period == "week" else date(2026, 1, 1)
    rows = report(
        name,
        acu_daily=[
            cube(next_period, acus=acus("1")),
            cube(DAY, org_id="o", user_id="u", acus=acus("2")),
            cube(DAY, org_id="o", service_user_id="u"),
            cube(DAY, org_id="p", user_id="u", acus=acus("3")),
        ],
    )
    assert [(row[period], row["org_id"], row["user_id"], row["service_user_id"], row["acus"]) for row in rows] == [
        (DAY, "o", "u", None, acus("2")),
        (DAY, "o", None, "u", None),
        (DAY, "p", "u", None, acus("3")),
        (next_period, None, None, None, acus("1")),
    ]


def test_a_shared_pull_request_is_one_row_of_the_session_that_was_created_first() -> None:
    later = DAY.replace(day=9)
    links = [
        link("a", day=later, org_id="late", session_created_at=after(200), acus_share=acus("0.2")),
        link("z", org_id="early", session_created_at=after(1), acus_share=acus("0.1")),
        link("y", org_id="middle", session_created_at=after(2)),
        link("z", number=2, acus_share=acus("5")),
    ]
    first, second = report("pull_requests", session_pull_requests=links)
    assert first == {
        "url": "https://h/o/r/pull/1",
        "host": "h",
        "repository": "o/r",
        "number": 1,
        "state": None,
        "org_id": "early",
        "first_session_id": "z",
        "first_day": DAY,
        "sessions": 3,
        "acus": acus("0.3"),
    }
    assert (second["url"], second["sessions"], second["acus"]) == ("https://h/o/r/pull/2", 1, acus("5"))


def test_of_sessions_created_in_one_instant_the_least_id_is_first() -> None:
    assert only(report("pull_requests", session_pull_requests=[link("b"), link("a")]))["first_session_id"] == "a"


@pytest.mark.parametrize(
    ("links", "state"),
    [
        ([link("a", state="open", session_updated_at=after(2)), link("b", state="merged")], "open"),
        ([link("a", state="open"), link("b", state="merged", session_updated_at=after(2))], "merged"),
        ([link("b", state="closed"), link("a", state="open")], "closed"),
        ([link("a", state="open"), link("z", state="merged", session_updated_at=None)], "open"),
        ([link("a", state="x", session_updated_at=None), link("b", state="y", session_updated_at=None)], "y"),
        ([link("a", state="merged"), link("b", state=None, session_updated_at=after(1))], None),
        ([link("a", state="open", ordinal=0), link("a", state="merged", ordinal=1)], "merged"),
        ([link("a", state="open", ordinal=1), link("a", state="merged", ordinal=0)], "open"),
    ],
)
def test_the_state_is_that_of_the_session_that_changed_last_or_has_the_greatest_id(
    links: list[Row], state: str | None
) -> None:
    assert only(report("pull_requests", session_pull_requests=links))["state"] == state
    assert only(report("pull_requests", session_pull_requests=links[::-1]))["state"] == state


def test_a_pull_request_is_its_host_repository_and_number_whatever_its_address() -> None:
    links = [
        link("a", url="https://api.h/repos/o/r/pulls/1", session_updated_at=after(2), acus_share=acus("1")),
        link("b", url="https://h/o/r/pull/1", acus_share=acus("2")),
        link("c", host="i", url="https://i/o/r/pull/1"),
        link("d", repository="o/s", url="https://h/o/s/pull/1"),
        link("e", host="h", repository=None, number=None, url="https://h/x"),
        link("f", host="h", repository=None, number=None, url="https://h/y"),
        link("g", host="h", repository=None, number=None, url="https://h/y"),
    ]
    rows = report("pull_requests", session_pull_requests=links)
    assert [(row["url"], row["host"], row["repository"], row["number"], row["sessions"]) for row in rows] == [
        ("https://api.h/repos/o/r/pulls/1", "h", "o/r", 1, 2),
        ("https://h/o/s/pull/1", "h", "o/s", 1, 1),
        ("https://h/x", "h", None, None, 1),
        ("https://h/y", "h", None, None, 2),
        ("https://i/o/r/pull/1", "i", "o/r", 1, 1),
    ]
    assert rows[0]["acus"] == acus("3")


def test_a_session_that_links_a_pull_request_twice_counts_once() -> None:
    links = [link("a", ordinal=0, acus_share=acus("1")), link("a", ordinal=1)]
    row = only(report("pull_requests", session_pull_requests=links))
    assert (row["sessions"], row["acus"]) == (1, acus("1"))


def test_links_without_url_are_not_pull_requests_and_unknown_acus_stay_unknown() -> None:
    row = only(report("pull_requests", session_pull_requests=[link("a"), link("b", url=None, acus_share=acus("1"))]))
    assert (row["sessions"], row["acus"]) == (1, None)


def cost(used: str | None, merged: int, **values: object) -> Row:
    pull_requests = [{"url": str(n), "state": "merged", "first_day": DAY} for n in range(merged)]
    daily = [cube(DAY, acus=None if used is None else acus(used), **values)]
    return only(report("acus_per_merged_pull_request", acu_daily=daily, pull_requests=pull_requests))


# ACUs used, pull requests merged, and what each of them cost.
COSTS = [
    ("10", 4, "2.5"),
    ("1", 3, "0.333333"),
    ("2", 3, "0.666667"),
    ("0.000001", 2, "0.000001"),
    ("0.000003", 2, "0.000002"),
    ("0.000001", 3, "0"),
    ("0.000005", 2, "0.000003"),
    ("999999999999.999999", 1, "999999999999.999999"),
    ("123456789012.345678", 2, "61728394506.172839"),
]


def test_acus_per_merged_pull_request_are_rounded_half_up_from_exact_acus() -> None:
    rows = report(
        "acus_per_merged_pull_request",
        acu_daily=[cube(DAY, org_id=f"o{n}", acus=acus(used)) for n, (used, *_) in enumerate(COSTS)],
        pull_requests=[
            {"url": f"{n}/{place}", "state": "merged", "org_id": f"o{n}", "first_day": DAY}
            for n, (_, merged, _) in enumerate(COSTS)
            for place in range(merged)
        ],
    )
    found = [(row["merged_pull_requests"], row["acus_per_merged_pull_request"]) for row in rows]
    assert found == [(merged, Decimal(each)) for _, merged, each in COSTS]


def test_without_a_merged_pull_request_there_is_no_cost_of_one() -> None:
    row = cost("10", 0)
    assert (row["acus"], row["merged_pull_requests"], row["acus_per_merged_pull_request"]) == (acus("10"), 0, None)


@pytest.mark.notices("a merged pull request that seems to cost nothing")
@pytest.mark.parametrize("used", [None, "0"])
def test_unknown_acus_and_none_at_all_make_an_unknown_cost(used: str | None) -> None:
    row = cost(used, 2)
    assert (row["acus"], row["merged_pull_requests"]) == (acus(used) if used else None, 2)
    assert row["acus_per_merged_pull_request"] is None


def test_sessions_that_merge_nothing_cost_nothing_and_unknown_ones_an_unknown_amount() -> None:
    assert cost("10", 0)["acus_of_merging_sessions"] == acus("0")
    assert cost("10", 1, sessions_with_merged_pull_request=1)["acus_of_merging_sessions"] is None
    found = cost("10", 1, sessions_with_merged_pull_request=1, acus_of_merging_sessions=acus("3"))
    assert found["acus_of_merging_sessions"] == acus("3")


def test_pull_requests_count_in_the_week_and_organization_of_their_first_session() -> None:
    next_week = DAY.replace(day=8)
    rows = report(
        "acus_per_merged_pull_request",
        acu_daily=[
            cube(DAY, org_id="o", acus=acus("1")),
            cube(DAY.replace(day=7), org_id="o", acus=acus("2")),
            cube(next_week, org_id="o", acus=acus("4")),
            cube(DAY, org_id=None, acus=acus("8")),
        ],
        pull_requests=[
            {"url": "1", "state": "merged", "org_id": "o", "first_day": DAY.replace(day=7)},
            {"url": "2", "state": "open", "org_id": "o", "first_day": DAY},
            {"url": "3", "state": "closed", "org_id": "o", "first_day": DAY},
            {"url": "4", "state": None, "org_id": "o", "first_day": next_week},
            {"url": "5", "state": "merged", "org_id": None, "first_day": DAY},
            {"url": "6", "state": "merged", "org_id": None, "first_day": DAY},
        ],
    )
    found = [
        (r["week"], r["org_id"], r["acus"], r["merged_pull_requests"], r["acus_per_merged_pull_request"]) for r in rows
    ]
    assert found == [
        (DAY, "o", acus("3"), 1, acus("3")),
        (DAY, None, acus("8"), 2, acus("4")),
        (next_week, "o", acus("4"), 0, None),
    ]


@pytest.mark.parametrize("name", [table.name for table in REPORT_TABLES])
def test_a_report_of_nothing_has_no_rows(name: str) -> None:
    assert report(name) == []
