"""Each measure's formula on hand-written rows, and what a measure refuses."""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

import pytest

from devin_pipeline.lake import Connection
from devin_pipeline.reports.queries import select
from devin_pipeline.tables import TABLES
from devin_pipeline.tables.measures import (
    MEASURES,
    TIMES,
    Measure,
    NoSuchDimension,
    NotAdditive,
    Period,
    measures_of,
)
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, Row, acus, rows_of

WEEK_LATER = DAY + timedelta(days=7)
PERIOD = Period(DAY, NEXT_DAY)

CUBE: list[Row] = [
    {
        **{"day": DAY, "org_id": "a", "user_id": "u", "state": "finished", "sessions": 3, "acus": acus("7.5")},
        **{"sessions_with_unknown_acus": 1, "sessions_with_merged_pull_request": 1, "analysed_sessions": 2},
        **{"acus_of_merging_sessions": acus("4.5"), "feedback_items": 3},
    },
    {
        **{"day": NEXT_DAY, "org_id": "a", "user_id": "u", "state": "running", "sessions": 2, "acus": acus("0.25")},
        **{"sessions_with_merged_pull_request": 0, "analysed_sessions": 0, "feedback_items": 0},
    },
    {
        **{"day": DAY, "org_id": "b", "user_id": "v", "state": "error", "sessions": 1, "acus": acus("2.25")},
        **{"sessions_with_merged_pull_request": 0, "analysed_sessions": 1, "feedback_items": 4},
    },
    {
        "day": DAY,
        "org_id": None,
        "user_id": None,
        "service_user_id": "s",
        "sessions": 1,
        "sessions_with_unknown_acus": 1,
    },
    {"day": WEEK_LATER, "org_id": "a", "user_id": "w", "state": "running", "sessions": 99, "acus": acus("999")},
]
SESSIONS: list[Row] = [
    {
        **{"session_id": "merged", "org_id": "a", "user_id": "u", "state": "finished", "acus": acus("4.5")},
        **{"has_analysis": True, "num_devin_messages": 2, "category": "bug_fixing"},
    },
    {"session_id": "open", "org_id": "a", "state": "waiting", "acus": acus("2"), "initial_user_message": "Hi"},
    {"session_id": "closed", "org_id": "a", "state": "error", "acus": acus("1"), "num_devin_messages": 0},
    {"session_id": "none", "org_id": "b", "state": "finished", "acus": acus("10"), "num_devin_messages": 1},
    {"session_id": "running", "state": "running", "has_analysis": True, "num_devin_messages": 5, "day": NEXT_DAY},
    {"session_id": "later", "org_id": "a", "state": "finished", "acus": acus("500"), "day": WEEK_LATER},
]
LINKS: list[Row] = [
    {"session_id": "merged", "ordinal": 0, "state": "closed"},
    {"session_id": "merged", "ordinal": 1, "state": "merged"},
    {"session_id": "open", "ordinal": 0, "state": "closed"},
    {"session_id": "open", "ordinal": 1, "state": None},
    {"session_id": "closed", "ordinal": 0, "state": "closed"},
]
REQUESTS: list[Row] = [
    {"url": "1", "state": "merged", "org_id": "a", "first_session_id": "merged", "first_day": DAY},
    {"url": "2", "state": "merged", "org_id": "b", "first_session_id": "none", "first_day": NEXT_DAY},
    {"url": "3", "state": "closed", "org_id": "a", "first_session_id": "closed", "first_day": DAY},
    {"url": "4", "state": None, "org_id": "a", "first_session_id": "gone", "first_day": DAY},
    {"url": "5", "state": "merged", "org_id": "a", "first_session_id": "later", "first_day": WEEK_LATER},
]


def bill_row(
    org_id: str,
    status: str,
    billed: str | None,
    of_sessions: str | None,
    of_others: str | None,
    residual: str | None,
    **given: object,
) -> Row:
    amounts = {
        "billed_acus": billed,
        "billed_acus_of_products_with_sessions": of_sessions,
        "billed_acus_of_products_without_sessions": of_others,
        "billed_acus_unsplit": None if billed is None else "0",
        "residual_acus": residual,
    }
    known = {name: None if text is None else acus(text) for name, text in amounts.items()}
    return {"org_id": org_id, "status": status, **known, **given}


def consumption(session_id: str, method: str, amount: str, **given: object) -> Row:
    return {"session_id": session_id, "attribution_method": method, "acus": acus(amount), **given}


TABLES_ROWS: dict[str, list[Row]] = {
    "acu_daily": CUBE,
    "sessions": SESSIONS,
    "session_pull_requests": LINKS,
    "pull_requests": REQUESTS,
    "acu_daily_by_tag": [
        {"org_id": "a", "tag": "x", "sessions": 2, "acus_split": acus("1.5"), "acus_touching": acus("3")},
        {"org_id": "a", "tag": "y", "sessions": 2, "acus_split": acus("1.5"), "acus_touching": acus("3")},
        {"org_id": "a", "tag": "x", "sessions": 1, "acus_split": None, "day": NEXT_DAY},
        {"org_id": "a", "tag": "x", "sessions": 9, "acus_split": acus("9"), "day": WEEK_LATER},
    ],
    "acu_daily_by_repository": [
        {"org_id": "a", "host": "h", "repository": "o/r", "sessions": 2, "acus_split": acus("1.25")},
        {"org_id": "b", "host": "h", "repository": "(none)", "sessions": 3, "acus_split": acus("2.5")},
    ],
    "session_issues": [
        {"session_id": "merged", "ordinal": 0, "label": "Scope", "impact": "High"},
        {"session_id": "merged", "ordinal": 1, "label": "Scope", "impact": "Low"},
        {"session_id": "none", "ordinal": 0, "label": "Scope", "impact": "High"},
        {"session_id": "later", "ordinal": 0, "day": WEEK_LATER},
    ],
    "session_action_items": [
        {"session_id": "merged", "ordinal": 0, "type": "knowledge"},
        {"session_id": "merged", "ordinal": 1, "type": "knowledge"},
        {"session_id": "none", "ordinal": 0, "type": "machine_setup"},
    ],
    "prompt_feedback": [
        {"session_id": "merged", "ordinal": 0, "summary": "Too vague"},
        {"session_id": "merged", "ordinal": 1, "summary": "Too vague"},
        {"session_id": "merged", "ordinal": 2, "summary": "Several tasks"},
        {"session_id": "none", "ordinal": 0, "summary": "Too vague"},
        {"session_id": "running", "ordinal": 0, "summary": "Too vague", "day": NEXT_DAY},
        {"session_id": "later", "ordinal": 0, "summary": "Too vague", "day": WEEK_LATER},
    ],
    "reconciliation_daily": [
        bill_row("(enterprise)", "within_5_percent", "12", "9", "3", "0.5", history_is_complete=False),
        bill_row("a", "exact", "7", "6", "1", "0", history_is_complete=False),
        bill_row("b", "no_bill", None, None, None, None),
        bill_row("(no organization)", "unexplained", "5", "3", "2", "0.5"),
        # Not closed, so that its residual does not count yet; and one that says no products.
        bill_row("(enterprise)", "provisional", "4", "4", "0", "-1", day=NEXT_DAY, is_closed=False),
        bill_row("a", "no_split", "2", None, None, None, day=NEXT_DAY) | {"billed_acus_unsplit": acus("2")},
        bill_row("(enterprise)", "exact", "500", "500", "0", "0", day=WEEK_LATER),
    ],
    "consumption_daily": [
        {"scope": "enterprise", "scope_id": "(enterprise)", "product": "devin", "acus": acus("9")},
        {"scope": "enterprise", "scope_id": "(enterprise)", "product": "review", "acus": acus("3")},
        {"scope": "enterprise", "scope_id": "(enterprise)", "product": "devin", "acus": acus("4"), "day": NEXT_DAY},
        {"scope": "organization", "scope_id": "a", "product": "devin", "acus": acus("6")},
        {"scope": "organization", "scope_id": "a", "product": "(all)", "acus": acus("2"), "day": NEXT_DAY},
        {"scope": "user", "scope_id": "a", "product": "devin", "acus": acus("100")},
        {"scope": "enterprise", "scope_id": "(enterprise)", "product": "devin", "acus": acus("9"), "day": WEEK_LATER},
    ],
    "acu_consumed_daily": [
        {"org_id": "a", "user_id": "u", "sessions_active": 1, "acus": acus("6")},
        {"org_id": "a", "user_id": "v", "sessions_active": 1, "acus": acus("-0.5"), "day": NEXT_DAY},
        {"sessions_active": 1, "acus": acus("2.5")},
        {"org_id": "a", "sessions_active": 1, "acus": acus("70"), "day": WEEK_LATER},
    ],
    "session_acus_by_day": [
        consumption("merged", "single_day", "3"),
        consumption("merged", "remainder", "1.5"),
        # Of a session created before, and consumed after the period.
        consumption("none", "api_daily", "2.5", consumed_day=NEXT_DAY),
        consumption("open", "updated_day", "1", consumed_day=WEEK_LATER),
    ],
}


def values(
    measure: Measure,
    by: Sequence[str] = (),
    *,
    org_id: str | None = None,
    period: Period = PERIOD,
    rows: dict[str, list[Row]] = TABLES_ROWS,
) -> dict[tuple[object, ...], object]:
    """The values of a measure over these rows, by the values of `by`."""
    with Connection() as connection:
        for name in measure.tables:
            connection.register(name, rows_of(TABLES[name], rows.get(name, ())))
        found = connection.rows(measure.query(period, org_id=org_id, by=by)).to_pylist()
    return {tuple(row[name] for name in by): row[measure.name] for row in found}


def value(name: str, *, org_id: str | None = None, rows: dict[str, list[Row]] = TABLES_ROWS) -> object:
    (found,) = values(MEASURES[name], org_id=org_id, rows=rows).values()
    return found


# Of everything, and of organization a.
WANTED: dict[str, tuple[object, object]] = {
    "acus": (acus("10"), acus("7.75")),
    "sessions": (7, 5),
    "sessions_with_unknown_acus": (2, 1),
    "running_sessions": (2, 2),
    "active_users": (2, 1),
    "acus_per_session": (acus("1.428571"), acus("1.55")),
    "acus_per_session_median": (acus("3.25"), acus("2")),
    "acus_per_session_p90": (acus("8.35"), acus("4")),
    "acus_per_active_user": (acus("5"), acus("7.75")),
    "pull_requests": (4, 3),
    "merged_pull_requests": (2, 1),
    "closed_pull_requests": (1, 1),
    "decided_pull_requests": (3, 2),
    "open_pull_requests": (1, 1),
    "merge_rate": (acus("0.666667"), acus("0.5")),
    "acus_per_merged_pull_request": (acus("5"), acus("7.75")),
    "acus_per_merged_pull_request_direct": (acus("2.25"), acus("4.5")),
    "sessions_with_merged_pull_request": (1, 1),
    "share_of_merging_sessions": (acus("0.142857"), acus("0.2")),
    "acus_of_merging_sessions": (acus("4.5"), acus("4.5")),
    "acus_of_sessions": (acus("17.5"), acus("7.5")),
    "count_of_sessions": (5, 3),
    "acus_without_pull_request": (acus("10"), acus("0")),
    "acus_without_merged_pull_request": (acus("13"), acus("3")),
    "share_of_acus_without_merged_pull_request": (acus("0.742857"), acus("0.4")),
    "acus_split_by_tag": (acus("3"), acus("3")),
    "sessions_with_tag": (5, 5),
    "acus_split_by_repository": (acus("3.75"), acus("1.25")),
    "sessions_with_repository": (5, 2),
    "eligible_sessions": (3, 2),
    "analysed_eligible_sessions": (1, 1),
    "analysed_sessions": (3, 2),
    "analysis_coverage": (acus("0.333333"), acus("0.5")),
    "acus_of_eligible_sessions": (acus("16.5"), acus("6.5")),
    "acus_of_analysed_eligible_sessions": (acus("4.5"), acus("4.5")),
    "analysis_coverage_of_acus": (acus("0.272727"), acus("0.692308")),
    "feedback_items": (7, 3),
    "feedback_items_per_analysed_session": (acus("2.333333"), acus("1.5")),
    "sessions_with_issue": (2, 1),
    "action_items": (3, 2),
    "sessions_with_feedback": (3, 1),
    "acus_with_feedback": (acus("14.5"), acus("4.5")),
    "billed_acus": (acus("16"), acus("9")),
    "billed_acus_of_products_with_sessions": (acus("13"), acus("6")),
    "billed_acus_of_products_without_sessions": (acus("3"), acus("1")),
    "billed_acus_unsplit": (acus("0"), acus("2")),
    "billed_acus_by_product": (acus("16"), acus("8")),
    "consumed_acus": (acus("8"), acus("5.5")),
    "residual_acus": (acus("0.5"), acus("0")),
    "billed_acus_compared": (acus("9"), acus("6")),
    "residual_share": (acus("0.055556"), acus("0")),
    "days_asked_for": (2, 2),
    "days_of_incomplete_history": (1, 0),
    "consumed_acus_by_method": (acus("7"), acus("4.5")),
    "consumed_acus_of_sure_day": (acus("5.5"), acus("3")),
    "attribution_coverage": (acus("0.785714"), acus("0.666667")),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_what_its_formula_gives_of_the_rows_of_its_period(name: str) -> None:
    assert (value(name), value(name, org_id="a")) == WANTED[name]


@pytest.mark.parametrize("measure", MEASURES.values(), ids=lambda measure: measure.name)
def test_of_no_rows_an_amount_is_unknown_a_count_is_zero_and_a_ratio_is_null(measure: Measure) -> None:
    (found,) = values(measure, rows={}).values()
    is_amount = measure.additive_over != () and measure.unit == "ACUs"
    if measure.when_null == "Never null.":
        assert found == 0
    elif is_amount and "there are such sessions" in measure.when_null:
        # None of them consumed nothing, which is known.
        assert found == 0
    else:
        assert found is None


def test_acus_that_are_unknown_are_not_nothing() -> None:
    unknown: dict[str, list[Row]] = {
        "acu_daily": [{"sessions": 1, "sessions_with_unknown_acus": 1, "sessions_with_merged_pull_request": 1}],
        "sessions": [{"session_id": "a", "state": "finished"}],
    }
    names = ("acus", "acus_of_merging_sessions", "acus_without_pull_request", "acus_per_session", "acus_of_sessions")
    assert {name: value(name, rows=unknown) for name in names} == dict.fromkeys(names)


def test_outcomes_add_up_to_all_acus() -> None:
    assert values(MEASURES["acus_of_sessions"], ["outcome"]) == {
        ("merged",): acus("4.5"),
        ("open",): acus("2"),
        ("closed",): acus("1"),
        ("none",): acus("10"),
    }


def test_a_pull_request_has_the_user_of_its_first_session() -> None:
    assert values(MEASURES["merged_pull_requests"], ["user_id"]) == {("u",): 1, (None,): 1}


def test_a_ratio_by_a_column_divides_what_has_the_same_value_null_too() -> None:
    assert values(MEASURES["acus_per_merged_pull_request"], ["org_id"]) == {
        ("a",): acus("7.75"),
        ("b",): acus("2.25"),
        (None,): None,
    }


@pytest.mark.notices("what seems to cost nothing")
def test_sessions_without_acus_cost_an_unknown_amount_each() -> None:
    without = {
        name: [row | {column: acus("0") for column in row if column.startswith("acus")} for row in rows]
        for name, rows in TABLES_ROWS.items()
    }
    each = [measure.name for measure in MEASURES.values() if measure.unit == "ACUs each"]
    assert {name: value(name, rows=without) for name in each} == dict.fromkeys(each)
    assert value("acus", rows=without) == 0


def test_weeks_and_months_begin_with_their_first_day() -> None:
    long = Period(DAY, WEEK_LATER)
    assert values(MEASURES["sessions"], ["week"], period=long) == {(DAY,): 7, (WEEK_LATER,): 99}
    assert values(MEASURES["sessions"], ["month"], period=long) == {(date(2025, 12, 1),): 106}


def test_a_week_of_an_organization_costs_what_the_report_table_says() -> None:
    with Connection() as connection:
        for name in ("acu_daily", "pull_requests"):
            connection.register(name, rows_of(TABLES[name], TABLES_ROWS[name]))
        table = TABLES["acus_per_merged_pull_request"]
        wanted = {(row["week"], row["org_id"]): row[table.name] for row in select(connection, table).to_pylist()}
    measure = MEASURES["acus_per_merged_pull_request"]
    assert values(measure, ["week", "org_id"], period=Period(DAY, WEEK_LATER)) == wanted


@pytest.mark.parametrize("measure", MEASURES.values(), ids=lambda measure: measure.name)
def test_values_that_may_be_summed_add_up_to_the_whole_and_the_others_say_why_not(measure: Measure) -> None:
    (whole,) = values(measure).values()
    for dimension in (*TIMES, *measure.dimensions):
        if ("day" if dimension in TIMES else dimension) in measure.additive_over:
            measure.require_additive(dimension)
            parts = [part for part in values(measure, [dimension]).values() if isinstance(part, int | Decimal)]
            assert sum(parts) == whole, dimension
        else:
            with pytest.raises(NotAdditive, match=f"{measure.name} cannot be summed over {dimension}: .*[.] Ask for"):
                measure.require_additive(dimension)


@pytest.mark.notices("an enterprise's bill next to those of its organizations")
def test_a_bill_is_the_enterprises_unless_organizations_are_asked_for() -> None:
    assert values(MEASURES["billed_acus"], ["day"]) == {(DAY,): acus("12"), (NEXT_DAY,): acus("4")}
    wanted = {("a",): acus("9"), ("b",): None, ("(no organization)",): acus("5")}
    assert values(MEASURES["billed_acus"], ["org_id"]) == wanted


def test_a_residual_below_nothing_is_a_share_below_nothing_rounded_like_one_above() -> None:
    for residual, share in (("-1", "-0.333333"), ("1", "0.333333"), ("-2", "-0.666667"), ("2", "0.666667")):
        rows = {"reconciliation_daily": [bill_row("(enterprise)", "unexplained", "3", "3", "0", residual)]}
        assert value("residual_share", rows=rows) == acus(share)


def test_a_day_whose_residual_is_unknown_is_no_part_of_the_share() -> None:
    broken = bill_row("(enterprise)", "source_broken", "90", "90", "0", None, day=NEXT_DAY)
    rows = {"reconciliation_daily": [bill_row("(enterprise)", "unexplained", "10", "10", "0", "1"), broken]}
    assert value("residual_share", rows=rows) == acus("0.1")


def test_cohort_acus_and_consumed_acus_say_which_they_are() -> None:
    assert MEASURES["acus"].title == "Cohort ACUs"
    assert MEASURES["consumed_acus"].title == "Consumed ACUs"
    assert "cohort" in MEASURES["consumed_acus"].definition
    assert "`consumed_acus`" in MEASURES["acus"].definition


def test_users_of_two_days_are_not_summed() -> None:
    with pytest.raises(NotAdditive) as raised:
        MEASURES["active_users"].require_additive("day")
    assert str(raised.value) == (
        "active_users cannot be summed over day: one user may count for several of them. Ask for it without day instead"
    )


def test_what_a_measure_has_no_column_for_is_refused_with_those_it_has() -> None:
    wanted = "acus_split_by_tag cannot be grouped by user_id: only by day, week, month, org_id, tag"
    with pytest.raises(NoSuchDimension, match=wanted):
        MEASURES["acus_split_by_tag"].query(PERIOD, by=["user_id"])
    with pytest.raises(NoSuchDimension, match=wanted):
        MEASURES["acus_split_by_tag"].require_additive("user_id")


def test_an_id_is_a_text_of_the_query_whatever_it_holds() -> None:
    odd = "o'; drop table sessions; --"
    rows = {"acu_daily": [{"org_id": odd, "sessions": 2}, {"org_id": "a", "sessions": 5}]}
    assert value("sessions", org_id=odd, rows=rows) == 2


@pytest.mark.parametrize("measure", MEASURES.values(), ids=lambda measure: measure.name)
def test_a_measure_says_what_it_is_in_sentences(measure: Measure) -> None:
    assert measure.definition.endswith(".")
    assert measure.when_null in ("Never null.",) or measure.when_null.startswith("Null when ")
    assert measure.title[0].isupper()
    assert measure in measures_of(measure.tables[0])
    assert set(measure.tables) <= set(TABLES)
