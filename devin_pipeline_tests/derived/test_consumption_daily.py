"""What the bill of a day says of each product: rows in, rows out."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings

import devin_pipeline
from devin_pipeline.lake import Connection
from devin_pipeline.tables.derived import CONSUMPTION_DAILY
from devin_pipeline.tables.raw import RAW_CONSUMPTION
from devin_pipeline_tests.derived import spend
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, NOON, Row, acus, after, rows_of

QUERY = (Path(devin_pipeline.__file__).parent / "derived" / "spend" / "consumption_daily.sql").read_text()


def consumption_daily(bills: Sequence[Row], first_day: object = DAY, last_day: object = NEXT_DAY) -> list[Row]:
    with Connection() as connection:
        connection.register("raw_consumption", rows_of(RAW_CONSUMPTION, bills))
        rows: list[Row] = (
            connection.rows(QUERY, {"first_day": first_day, "last_day": last_day})
            .cast(CONSUMPTION_DAILY.schema)
            .to_pylist()
        )
    return rows


def bill(split: str | None = None, total: str | None = "10", **values: object) -> Row:
    entry = '{"date": 1764576000, "acus": 10}' if split is None else f'{{"acus": 10, "acus_by_product": {split}}}'
    return {
        "scope": "enterprise",
        "scope_id": "(enterprise)",
        "acus": None if total is None else acus(total),
        "payload": entry,
    } | values


def products(split: str | None, total: str | None = "10") -> dict[str, Decimal | None]:
    return {row["product"]: row["acus"] for row in consumption_daily([bill(split, total)])}


def test_each_product_sent_as_a_number_has_a_row_of_zero_too() -> None:
    assert consumption_daily([bill('{"devin": 7.5, "cascade": 2.5, "terminal": 0.0, "review": null}')]) == [
        {"day": DAY, "scope": "enterprise", "scope_id": "(enterprise)", "product": product, "acus": acus(used)}
        for product, used in (("cascade", "2.5"), ("devin", "7.5"), ("terminal", "0"))
    ]


@pytest.mark.parametrize("value", ["null", '"5"', '"#5"', "true", "{}", "[5]", "NaN", "Infinity", "-Infinity", "1e9"])
def test_what_is_not_a_number_is_no_product(value: str) -> None:
    assert products(f'{{"devin": 10, "review": {value}}}') == {"devin": acus("10")}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("1e-6", "0.000001"),
        ("2.5E1", "25"),
        ("25E-1", "2.5"),
        ("-3", "-3"),
        ("-0.0", "0"),
        ("0.0000005", "0.000001"),
        ("-0.0000005", "-0.000001"),
        ("0.00000049999999999999999999999999999999", "0"),
        ("30695353007478e-8", "306953.530075"),
        ("999999999.999999", "999999999.999999"),
    ],
)
def test_an_amount_is_exact_to_six_places_however_it_is_written(sent: str, read: str) -> None:
    assert products(f'{{"devin": {sent}}}', total=read) == {"devin": acus(read)}


@pytest.mark.notices("a billed amount read as a double")
def test_an_amount_is_read_from_its_digits_and_not_as_a_double() -> None:
    assert products('{"devin": 0.12345649999999999999999}', total="0.123456") == {"devin": acus("0.123456")}


@pytest.mark.parametrize("split", [None, "{}", "null", '{"devin": null, "cascade": null}', "[1, 2]", "3", '"devin"'])
def test_a_bill_that_names_no_product_is_one_row(split: str | None) -> None:
    assert products(split) == {"(all)": acus("10")}


@pytest.mark.parametrize("payload", ["[]", "null", "{", None, '{"acus_by_product": {"devin": 1}'])
def test_an_entry_that_cannot_be_read_names_no_product(payload: str | None) -> None:
    rows = consumption_daily([bill(payload=payload)])
    assert [(row["product"], row["acus"]) for row in rows] == [("(all)", acus("10"))]


@pytest.mark.notices("what the products leave of a bill")
def test_what_the_split_leaves_of_a_bill_is_a_row_of_its_own_that_may_be_negative() -> None:
    assert products('{"devin": 7}') == {"devin": acus("7"), "(unsplit)": acus("3")}
    assert products('{"devin": 7, "cascade": 4}') == {
        "devin": acus("7"),
        "cascade": acus("4"),
        "(unsplit)": acus("-1"),
    }
    assert products('{"devin": 0}') == {"devin": acus("0"), "(unsplit)": acus("10")}
    assert products('{"devin": 10}') == {"devin": acus("10")}


def test_a_bill_whose_amount_cannot_be_read_is_its_products_or_unknown() -> None:
    assert products('{"devin": 7}', total=None) == {"devin": acus("7")}
    assert products("{}", total=None) == {"(all)": None}


def test_a_bill_of_nothing_is_a_row() -> None:
    assert products("{}", total="0") == {"(all)": acus("0")}


def test_a_product_may_have_any_name() -> None:
    split = '{":1": 1, "a\\"b": 2, "#": 3, "": 1.5, "5": 0.5, "d\\u00e9": 2}'
    assert products(split) == {name: acus(used) for name, used in ((":1", "1"), ('a"b', "2"), ("#", "3"))} | {
        "": acus("1.5"),
        "5": acus("0.5"),
        "dé": acus("2"),
    }


def test_of_a_product_sent_twice_the_last_counts() -> None:
    assert products('{"devin": 1, "d\\u0065vin": 10}') == {"devin": acus("10")}


def test_the_newest_version_counts() -> None:
    rows = consumption_daily(
        [
            bill('{"devin": 10}', fetched_at=after(2)),
            bill('{"cascade": 10}', fetched_at=after(3)),
            bill('{"terminal": 10}', fetched_at=NOON),
        ]
    )
    assert [row["product"] for row in rows] == ["cascade"]


@pytest.mark.notices("a day that was removed from the bill")
def test_a_day_that_is_no_longer_on_the_bill_has_no_rows_until_it_is_again() -> None:
    gone = bill(fetched_at=after(1), is_listed=False, payload=None, acus=None)
    assert consumption_daily([bill(), gone]) == []
    assert len(consumption_daily([bill(), gone, bill(fetched_at=after(2))])) == 1


def test_bills_of_different_days_scopes_and_ids_are_kept_apart_and_other_days_left_out() -> None:
    rows = consumption_daily(
        [
            bill(day=DAY - timedelta(days=1)),
            bill(day=NEXT_DAY),
            bill(scope="user", scope_id="b"),
            bill(scope="organization", scope_id="b"),
            bill(scope="organization", scope_id="a"),
        ],
        DAY,
        DAY,
    )
    assert [(row["day"], row["scope"], row["scope_id"]) for row in rows] == [
        (DAY, "organization", "a"),
        (DAY, "organization", "b"),
        (DAY, "user", "b"),
    ]


@settings(max_examples=60, deadline=None)
@given(spend.worlds(spend.some_bills, 30))
def test_the_products_of_any_bills_are_as_computed_in_plain_python_and_add_up(bills: list[Row]) -> None:
    rows = consumption_daily(bills)
    assert rows == spend.consumption_daily(bills)
    newest = {(b["day"], b["scope"], b["scope_id"]): b for b in sorted(bills, key=lambda b: b["fetched_at"])}
    for key, newest_bill in newest.items():
        amounts = [row["acus"] for row in rows if (row["day"], row["scope"], row["scope_id"]) == key]
        if newest_bill["acus"] is not None:
            assert sum(amounts) == newest_bill["acus"]
