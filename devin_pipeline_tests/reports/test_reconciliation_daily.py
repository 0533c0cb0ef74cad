"""The bill next to what sessions consumed: rows in, rows out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings

import devin_pipeline
from devin_pipeline.lake import Connection
from devin_pipeline.tables import TABLES
from devin_pipeline.tables.derived import CONSUMPTION_DAILY, SESSION_ACUS_BY_DAY
from devin_pipeline.tables.reports import RECONCILIATION_DAILY
from devin_pipeline_tests.derived import spend
from devin_pipeline_tests.derived.spend import ENTERPRISE, NO_ORGANIZATION, Facts
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, Row, acus, rows_of

QUERY = (Path(devin_pipeline.__file__).parent / "reports" / "reconciliation" / "reconciliation_daily.sql").read_text()
CLOSED = Facts(asked_days=[DAY], read_days=[DAY], first_open_day=NEXT_DAY)
"""One day was asked for, and is closed."""
BILLED = (
    "billed_acus",
    "billed_acus_of_products_without_sessions",
    "billed_acus_of_products_with_sessions",
    "billed_acus_unsplit",
)
RESIDUAL = ("residual_acus", "residual_share")


def reconciliation_daily(
    consumption: Sequence[Row], acus_by_day: Sequence[Row], sessions: Sequence[Row], facts: Facts = CLOSED
) -> list[Row]:
    days = pa.schema([("day", pa.date32())])
    refusals = pa.schema([("table_name", pa.string()), ("name", pa.string()), ("status", pa.int32())])
    said = pa.schema(
        [
            ("today", pa.date32()),
            ("first_open_day", pa.date32()),
            ("organization", pa.string()),
            ("session_products", pa.list_(pa.string())),
        ]
    )
    refused = [{"table_name": "raw_consumption", "name": name, "status": n} for name, n in facts.refusals.items()]
    # Of another table, and another kind of bill.
    refused += [
        {"table_name": "raw_directory", "name": "organization", "status": 403},
        {"table_name": "raw_consumption", "name": "user", "status": 403},
        {"table_name": "raw_consumption", "name": "user/o1", "status": 404},
    ]
    facts_row = {
        "today": DAY + timedelta(days=30),
        "first_open_day": min(facts.first_open_day, date(2100, 1, 1)),
        "organization": facts.organization,
        "session_products": list(facts.session_products),
    }
    with Connection() as connection:
        connection.register("consumption_daily", rows_of(CONSUMPTION_DAILY, consumption))
        connection.register("session_acus_by_day", rows_of(SESSION_ACUS_BY_DAY, acus_by_day))
        connection.register("sessions", rows_of(TABLES["sessions"], sessions))
        connection.register("_asked_days", pa.Table.from_pylist([{"day": day} for day in facts.asked_days], days))
        connection.register("_read_days", pa.Table.from_pylist([{"day": day} for day in facts.read_days], days))
        connection.register("_refusals", pa.Table.from_pylist(refused, refusals))
        connection.register("_facts", pa.Table.from_pylist([facts_row], said))
        rows: list[Row] = connection.rows(QUERY).cast(RECONCILIATION_DAILY.schema).to_pylist()
    assert [(row["day"], row["org_id"]) for row in rows] == sorted((row["day"], row["org_id"]) for row in rows)
    return rows


def bill(org_id: str = ENTERPRISE, day: date = DAY, **products: str | None) -> list[Row]:
    """The rows of a bill; `all` and `unsplit` are not products."""
    return [
        {
            "day": day,
            "scope": "enterprise" if org_id == ENTERPRISE else "organization",
            "scope_id": org_id,
            "product": f"({product})" if product in ("all", "unsplit") else product,
            "acus": None if used is None else acus(used),
        }
        for product, used in products.items()
    ]


def session(session_id: str, used: str | None, org_id: str | None = None, **values: object) -> Row:
    acus_ = None if used is None else acus(used)
    return {"day": DAY, "session_id": session_id, "acus": acus_, "org_id": org_id, "parent_session_id": None} | values


def world(*sessions: Row, **values: object) -> dict[str, list[Row]]:
    """Sessions that consumed all on the day they were created."""
    rows = [
        {
            "day": a_session["day"],
            "session_id": a_session["session_id"],
            "consumed_day": a_session["day"],
            "attribution_method": "single_day",
            "acus": a_session["acus"],
        }
        | values
        for a_session in sessions
        if a_session["acus"] is not None
    ]
    return {"acus_by_day": rows, "sessions": list(sessions)}


def by_organization(consumption: Sequence[Row], made: Mapping[str, list[Row]], facts: Facts = CLOSED) -> dict[str, Row]:
    """The rows of one day."""
    rows = reconciliation_daily(consumption, made["acus_by_day"], made["sessions"], facts)
    assert rows == spend.reconciliation_daily(consumption, made["acus_by_day"], made["sessions"], facts)
    return {row["org_id"]: row for row in rows}


def enterprise(consumption: Sequence[Row], made: Mapping[str, list[Row]], facts: Facts = CLOSED) -> Row:
    return by_organization(consumption, made, facts)[ENTERPRISE]


def values(row: Row, *names: str) -> tuple[object, ...]:
    return tuple(row[name] for name in names)


def statuses(rows: Mapping[str, Row]) -> dict[str, str]:
    return {org_id: row["status"] for org_id, row in rows.items()}


def test_a_bill_is_what_has_sessions_what_has_none_and_what_is_not_split() -> None:
    consumption = bill(devin="6", automation="4", cascade="3", terminal="2", unsplit="-0.5")
    child = session("b", "4", parent_session_id="a")
    rows = by_organization(consumption, world(session("a", "6"), child, session("c", None)))
    assert rows[ENTERPRISE] == {
        "day": DAY,
        "org_id": ENTERPRISE,
        "billed_acus": acus("14.5"),
        "billed_acus_of_products_without_sessions": acus("5"),
        "billed_acus_of_products_with_sessions": acus("10"),
        "billed_acus_unsplit": acus("-0.5"),
        "session_acus": acus("10"),
        "sessions_with_unknown_acus": 1,
        "child_session_acus": acus("4"),
        "residual_acus": acus("0"),
        "residual_share": acus("0"),
        "is_closed": True,
        "history_is_complete": False,
        "status": "exact",
    }
    assert rows[NO_ORGANIZATION] == rows[ENTERPRISE] | {"org_id": NO_ORGANIZATION}


def test_which_products_have_sessions_is_a_setting() -> None:
    facts = replace(CLOSED, session_products=["cascade"])
    row = enterprise(bill(devin="6", cascade="3"), world(), facts)
    assert values(row, *BILLED[1:3]) == (acus("6"), acus("3"))
    row = enterprise(bill(devin="6"), world(), replace(CLOSED, session_products=[]))
    assert values(row, *BILLED[1:3], "status") == (acus("6"), acus("0"), "exact")


@pytest.mark.notices("bounds of the rounded share")
@pytest.mark.parametrize(
    ("billed", "used", "residual", "share", "status"),
    [
        ("100", "100", "0", "0", "exact"),
        ("100", "99.999999", "0.000001", "0", "exact"),
        ("100", "100.000001", "-0.000001", "0", "exact"),
        ("0.000002", "0.000001", "0.000001", "0.5", "exact"),
        ("100", "99.999998", "0.000002", "0", "within_1_percent"),
        ("100", "99.1", "0.9", "0.009", "within_1_percent"),
        ("100", "99", "1", "0.01", "within_1_percent"),
        ("100", "101", "-1", "-0.01", "within_1_percent"),
        ("100", "98.999999", "1.000001", "0.01", "within_5_percent"),
        ("100", "97", "3", "0.03", "within_5_percent"),
        ("100", "95", "5", "0.05", "within_5_percent"),
        ("100", "94.999999", "5.000001", "0.05", "unexplained"),
        ("100", "93", "7", "0.07", "unexplained"),
        ("100", "107", "-7", "-0.07", "unexplained"),
        ("0", "2", "-2", None, "unexplained"),
        ("0", "0", "0", None, "exact"),
        ("-100", "-99", "-1", "0.01", "within_1_percent"),
        ("-2", "1", "-3", "1.5", "unexplained"),
        ("3", "1", "2", "0.666667", "unexplained"),
        ("3", "5", "-2", "-0.666667", "unexplained"),
        ("200", "199.9999", "0.0001", "0.000001", "within_1_percent"),
        ("200", "200.0001", "-0.0001", "-0.000001", "within_1_percent"),
        ("0.000001", "999999999999", "-999999999998.999999", None, "unexplained"),
        ("999999999999", "123456789.123456", "999876543209.876544", "0.999877", "unexplained"),
    ],
)
def test_a_residual_has_an_exact_share_and_the_status_of_its_size(
    billed: str, used: str, residual: str, share: str | None, status: str
) -> None:
    row = enterprise(bill(devin=billed), world(session("a", used)))
    assert values(row, *RESIDUAL, "status") == (acus(residual), None if share is None else acus(share), status)


def test_an_organization_has_a_row_if_it_has_a_bill_is_refused_by_name_or_its_sessions_consumed() -> None:
    made = world(session("a", "1", "o1"), session("b", "0", "o2"), session("c", None, "o3"))
    facts = replace(CLOSED, refusals={"organization/o4": 404})
    rows = by_organization([*bill(devin="1"), *bill("o5", devin="0")], made, facts)
    assert rows.keys() == {ENTERPRISE, NO_ORGANIZATION, "o1", "o2", "o4", "o5"}
    assert [row for row in rows.values() if row["sessions_with_unknown_acus"]] == [
        rows[ENTERPRISE],
        rows[NO_ORGANIZATION],
    ]


def test_only_days_whose_bill_was_asked_for_have_rows_and_an_unlisted_day_has_no_bill() -> None:
    facts = Facts(asked_days=[DAY, DAY + timedelta(days=2)], first_open_day=date(2026, 1, 1))
    consumption = [*bill(devin="1"), *bill(day=NEXT_DAY, devin="2")]
    made = world(session("a", "1"), session("b", "2", day=NEXT_DAY), session("c", "3", day=DAY + timedelta(days=2)))
    rows = reconciliation_daily(consumption, made["acus_by_day"], made["sessions"], facts)
    assert [values(row, "day", "status", "session_acus") for row in rows if row["org_id"] == ENTERPRISE] == [
        (DAY, "exact", acus("1")),
        (DAY + timedelta(days=2), "no_bill", acus("3")),
    ]


def test_sessions_count_on_the_day_they_consumed_and_unknown_ones_on_the_day_they_were_created() -> None:
    made = world(session("a", "5", day=DAY - timedelta(days=3)), consumed_day=DAY)
    made["sessions"] += [session("b", None, day=NEXT_DAY), session("c", None), session("d", None)]
    row = enterprise(bill(devin="5"), made)
    assert values(row, "session_acus", "sessions_with_unknown_acus", "status") == (acus("5"), 2, "exact")


def test_no_organization_is_the_enterprise_less_all_organizations_and_may_be_negative() -> None:
    consumption = [
        *bill(devin="10", cascade="3", unsplit="1"),
        *bill("o1", devin="6", cascade="1"),
        *bill("o2", devin="5", terminal="1", unsplit="1"),
    ]
    made = world(session("a", "6", "o1"), session("b", "5", "o2"), session("c", "0.5"))
    row = by_organization(consumption, made)[NO_ORGANIZATION]
    assert values(row, *BILLED) == (acus("0"), acus("1"), acus("-1"), acus("0"))
    assert values(row, "session_acus", *RESIDUAL, "status") == (acus("0.5"), acus("-1.5"), acus("1.5"), "unexplained")


def test_sessions_of_no_organization_belong_to_no_organization() -> None:
    made = world(session("a", "6", "o1"), session("b", "4", parent_session_id="a"), session("c", None))
    row = by_organization([*bill(devin="10"), *bill("o1", devin="6")], made)[NO_ORGANIZATION]
    assert values(row, "session_acus", "child_session_acus", "sessions_with_unknown_acus", "status") == (
        acus("4"),
        acus("4"),
        1,
        "exact",
    )


@pytest.mark.notices("sessions of an organization without a bill")
@pytest.mark.parametrize("refusals", [{}, {"organization/o1": 404}, {"organization": 404}])
def test_an_organization_without_a_bill_stays_in_no_organization_and_its_own_row_repeats_it(
    refusals: Mapping[str, int],
) -> None:
    made = world(session("a", "6", "o1", parent_session_id="x"), session("b", "4"), session("c", None, "o1"))
    rows = by_organization(bill(devin="10"), made, replace(CLOSED, refusals=refusals))
    assert values(rows[NO_ORGANIZATION], "billed_acus", "session_acus", "child_session_acus", "status") == (
        acus("10"),
        acus("10"),
        acus("6"),
        "exact",
    )
    assert values(rows["o1"], *BILLED, *RESIDUAL) == (None,) * 6
    assert values(rows["o1"], "session_acus", "sessions_with_unknown_acus", "child_session_acus", "status") == (
        acus("6"),
        1,
        acus("6"),
        "no_bill",
    )
    assert rows[NO_ORGANIZATION]["sessions_with_unknown_acus"] == 1


def test_what_is_stored_of_an_organization_whose_bill_is_gone_does_not_count() -> None:
    facts = replace(CLOSED, refusals={"organization/o1": 404})
    consumption = [*bill(devin="10"), *bill("o1", devin="6"), *bill("o2", devin="3")]
    rows = by_organization(consumption, world(), facts)
    assert values(rows[NO_ORGANIZATION], "billed_acus") == (acus("7"),)
    assert values(rows["o1"], *BILLED, "status") == (None, None, None, None, "no_bill")


@pytest.mark.notices("statuses in their order")
def test_a_refused_bill_is_not_permitted_and_its_sessions_still_stand() -> None:
    facts = replace(CLOSED, refusals={"enterprise": 403})
    rows = by_organization(bill("o1", devin="6"), world(session("a", "6", "o1"), session("b", "1")), facts)
    assert statuses(rows) == {ENTERPRISE: "not_permitted", NO_ORGANIZATION: "not_permitted", "o1": "exact"}
    for org_id, used in ((ENTERPRISE, "7"), (NO_ORGANIZATION, "1")):
        assert values(rows[org_id], *BILLED, *RESIDUAL, "session_acus") == (*(None,) * 6, acus(used))


@pytest.mark.notices("a remainder of a bill of which a part is refused")
@pytest.mark.parametrize("refusals", [{"organization/o2": 403}, {"organization": 403}])
def test_nothing_is_known_of_no_organization_if_an_organizations_bill_is_refused(refusals: Mapping[str, int]) -> None:
    made = world(session("a", "6", "o1"), session("b", "1"))
    rows = by_organization([*bill(devin="10"), *bill("o1", devin="6")], made, replace(CLOSED, refusals=refusals))
    assert values(rows[NO_ORGANIZATION], *BILLED, *RESIDUAL, "session_acus", "status") == (
        *(None,) * 6,
        acus("1"),
        "not_permitted",
    )
    assert rows["o1"]["status"] == ("exact" if "organization/o2" in refusals else "not_permitted")
    assert rows[ENTERPRISE]["status"] == "unexplained"


def test_all_organizations_are_refused_though_none_is_known() -> None:
    rows = by_organization(bill(devin="0"), world(), replace(CLOSED, refusals={"organization": 403}))
    assert statuses(rows) == {ENTERPRISE: "exact", NO_ORGANIZATION: "not_permitted"}


def test_a_bill_that_is_gone_or_lists_no_day_has_no_figures() -> None:
    for consumption, refusals in (((), {}), (bill(devin="5"), {"enterprise": 404})):
        rows = by_organization(consumption, world(session("a", "5")), replace(CLOSED, refusals=refusals))
        assert statuses(rows) == {ENTERPRISE: "no_bill", NO_ORGANIZATION: "no_bill"}
        assert values(rows[ENTERPRISE], *BILLED, *RESIDUAL, "session_acus") == (*(None,) * 6, acus("5"))


def test_a_bill_without_a_split_is_unsplit_and_has_no_residual() -> None:
    rows = by_organization([*bill(all="10"), *bill("o1", devin="6")], world(session("a", "9")))
    for org_id, billed in ((ENTERPRISE, "10"), (NO_ORGANIZATION, "4")):
        assert values(rows[org_id], *BILLED, *RESIDUAL, "status") == (
            acus(billed),
            None,
            None,
            acus(billed),
            None,
            None,
            "no_split",
        )
    assert rows["o1"]["status"] == "unexplained"


def test_an_organization_without_a_split_leaves_none_to_no_organization() -> None:
    rows = by_organization([*bill(devin="10"), *bill("o1", all="6"), *bill("o2", devin="1")], world())
    assert statuses(rows) == {
        ENTERPRISE: "unexplained",
        NO_ORGANIZATION: "no_split",
        "o1": "no_split",
        "o2": "unexplained",
    }
    assert values(rows[NO_ORGANIZATION], *BILLED) == (acus("3"), None, None, acus("3"))


def test_a_bill_that_cannot_be_read_is_unknown_and_so_is_what_is_left_of_it() -> None:
    rows = by_organization([*bill(devin="10"), *bill("o1", all=None)], world())
    for org_id in ("o1", NO_ORGANIZATION):
        assert values(rows[org_id], *BILLED, *RESIDUAL, "status") == (*(None,) * 6, "no_split")


def test_a_day_is_provisional_until_it_is_closed() -> None:
    facts = replace(CLOSED, first_open_day=DAY)
    rows = by_organization([*bill(devin="10"), *bill("o1", all="1")], world(session("a", "4")), facts)
    assert statuses(rows) == {ENTERPRISE: "provisional", NO_ORGANIZATION: "no_split", "o1": "no_split"}
    assert values(rows[ENTERPRISE], *RESIDUAL, "is_closed") == (acus("6"), acus("0.6"), False)


def broken(**values: object) -> dict[str, list[Row]]:
    return world(session("a", "0", "o1", **values), session("b", "0", "o2"))


ALL_BILLED = [*bill(devin="10", cascade="1"), *bill("o1", devin="6"), *bill("o2", cascade="1")]


def test_a_day_that_is_billed_though_all_sessions_have_no_acus_has_a_broken_source() -> None:
    rows = by_organization(ALL_BILLED, broken())
    assert statuses(rows) == {
        ENTERPRISE: "source_broken",
        NO_ORGANIZATION: "source_broken",
        "o1": "source_broken",
        "o2": "exact",
    }
    for org_id, billed in ((ENTERPRISE, "11"), (NO_ORGANIZATION, "4"), ("o1", "6")):
        assert values(rows[org_id], "billed_acus", "session_acus", "child_session_acus", *RESIDUAL) == (
            acus(billed),
            *(None,) * 4,
        )
    assert values(rows["o2"], "session_acus", "child_session_acus", *RESIDUAL) == (acus("0"),) * 3 + (None,)


@pytest.mark.notices("unknown ACUs taken for none")
def test_a_source_is_not_broken_if_anything_is_unknown_was_consumed_or_was_not_billed() -> None:
    nothing: dict[str, list[Row]] = {"acus_by_day": [], "sessions": []}
    unknown = world(session("a", "0"), session("b", None))
    elsewhere = world(session("a", "0"))
    elsewhere["sessions"].append(session("z", "2", day=DAY - timedelta(days=1)))
    elsewhere["acus_by_day"] += world(session("z", "2", day=DAY - timedelta(days=1)), consumed_day=DAY)["acus_by_day"]
    later = broken()
    later["sessions"].append(session("z", "2"))
    for made in (nothing, unknown, elsewhere, later):
        assert enterprise(bill(devin="10"), made)["status"] == "unexplained"
    assert enterprise(bill(devin="0", cascade="5"), broken())["status"] == "exact"
    assert enterprise(bill(devin="-1"), broken())["status"] == "unexplained"


def test_other_statuses_go_before_a_broken_source() -> None:
    facts = replace(CLOSED, first_open_day=DAY)
    rows = by_organization(ALL_BILLED, broken(), facts)
    assert set(statuses(rows).values()) == {"provisional"}
    assert rows[ENTERPRISE]["session_acus"] == acus("0")
    refused = by_organization(ALL_BILLED, broken(), replace(CLOSED, refusals={"organization/o1": 403}))
    assert statuses(refused) == {
        ENTERPRISE: "source_broken",
        NO_ORGANIZATION: "not_permitted",
        "o1": "not_permitted",
        "o2": "exact",
    }
    unsplit = by_organization([*bill(all="10"), *bill("o1", devin="6")], broken())
    assert statuses(unsplit) == {
        ENTERPRISE: "no_split",
        NO_ORGANIZATION: "no_split",
        "o1": "unexplained",
        "o2": "no_bill",
    }


def test_one_organization_alone_has_a_row_a_day_and_is_judged_by_itself() -> None:
    facts = replace(CLOSED, asked_days=[DAY, NEXT_DAY], organization="o1")
    consumption = [*bill(devin="10"), *bill("o1", devin="6"), *bill("o2", devin="3")]
    made = world(session("a", "0", "o1"), session("b", "3", "o2"), session("c", "4"))
    rows = reconciliation_daily(consumption, made["acus_by_day"], made["sessions"], facts)
    assert rows == spend.reconciliation_daily(consumption, made["acus_by_day"], made["sessions"], facts)
    assert [values(row, "day", "org_id", "billed_acus", "status") for row in rows] == [
        (DAY, "o1", acus("6"), "source_broken"),
        (NEXT_DAY, "o1", None, "no_bill"),
    ]
    refused = by_organization(
        consumption, made, replace(CLOSED, organization="o1", refusals={"organization": 403, "organization/o1": 404})
    )
    assert statuses(refused) == {"o1": "not_permitted"}


def before(days: int) -> date:
    return DAY - timedelta(days=days)


@pytest.mark.notices("days before the first session taken for gaps")
@pytest.mark.parametrize(
    ("read", "sessions", "is_complete"),
    [
        # All 35 days before, whenever the first session was.
        (range(35, 0, -1), [40, 35], True),
        (range(34, -1, -1), [34, 40], False),
        ([n for n in range(35, -1, -1) if n != 9], [35, 20], False),
        # A lake that begins in the midst of sessions.
        (range(10, -1, -1), [10, 3], False),
        # An enterprise whose first session is inside the lake: the day before it was read, and is empty.
        (range(10, -1, -1), [9, 3], True),
        (range(10, -1, -1), [0], True),
        (range(1, -1, -1), [0], True),
        (range(10, -1, -1), [], True),
        # Days that were not read may have sessions, other than those before an empty one.
        ([10, 9, 6, 5, 4, 3, 2, 1, 0], [5], True),
        ([10, 9, 4, 3, 2, 1, 0], [4], False),
        ([10, 9, 8, 6, 5, 4, 3, 2, 1, 0], [8], False),
        ([10, 9, 8, 7, 6, 5, 4, 3, 2], [8], False),
        ([], [], False),
        ([], [3], False),
    ],
)
def test_a_history_is_complete_if_no_session_of_35_days_can_be_missing(
    read: Sequence[int], sessions: Sequence[int], is_complete: bool
) -> None:
    facts = replace(CLOSED, read_days=[before(n) for n in read])
    made = world(*(session(str(n), "0", day=before(n)) for n in sessions))
    assert enterprise(bill(devin="1"), made, facts)["history_is_complete"] is is_complete


@settings(max_examples=60, deadline=None)
@given(spend.worlds(spend.some_money, 15))
def test_any_bill_is_reconciled_as_computed_in_plain_python_and_adds_up(made: spend.MoneyWorld) -> None:
    rows = reconciliation_daily(made.consumption, made.acus_by_day, made.sessions, made.facts)
    assert rows == spend.reconciliation_daily(made.consumption, made.acus_by_day, made.sessions, made.facts)
    for row in rows:
        billed, without, with_sessions, unsplit = (row[name] for name in BILLED)
        if with_sessions is not None:
            assert billed == with_sessions + without + unsplit
        if row["residual_acus"] is not None:
            assert with_sessions == row["session_acus"] + row["residual_acus"]
    for day in {row["day"] for row in rows}:
        of_day = [row for row in rows if row["day"] == day and row["status"] != "no_bill"]
        whole = [row for row in of_day if row["org_id"] == ENTERPRISE]
        rest = [row for row in of_day if row["org_id"] != ENTERPRISE]
        for name in ("billed_acus", "session_acus", "child_session_acus"):
            amounts: list[Decimal | None] = [row[name] for row in (*whole, *rest)]
            if whole and None not in amounts:
                assert whole[0][name] == sum(row[name] for row in rest)
