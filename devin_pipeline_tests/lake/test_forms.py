"""What a query prints for a value of each DuckDB type: one form to read, one in JSON."""

import json
from decimal import Decimal
from typing import NamedTuple

import duckdb
import pytest

from devin_pipeline.lake import Connection

pytestmark = pytest.mark.notices("NaN in JSON")


class Form(NamedTuple):
    """A value in SQL, the form to read, and that in JSON; where it is None, the same text."""

    value: str
    text: str | None
    json: str | None = None


LEAST, GREATEST = str(-(2**127)), str(2**128 - 1)
LONG = "-12345678901234567890123456789.123456789"
FORMS = {
    "NULL": [Form("null", None, "null")],
    "BOOLEAN": [Form("true", "true", "true"), Form("null::boolean", None, "null")],
    "TINYINT": [Form("(-128)::tinyint", "-128", "-128")],
    "SMALLINT": [Form("(-32768)::smallint", "-32768", "-32768")],
    "INTEGER": [Form("1::integer", "1", "1")],
    "BIGINT": [Form("-9223372036854775808", "-9223372036854775808", "-9223372036854775808")],
    "HUGEINT": [Form(f"'{LEAST}'::hugeint", LEAST, LEAST)],
    "UTINYINT": [Form("255::utinyint", "255", "255")],
    "USMALLINT": [Form("65535::usmallint", "65535", "65535")],
    "UINTEGER": [Form("4294967295::uinteger", "4294967295", "4294967295")],
    "UBIGINT": [Form("18446744073709551615::ubigint", "18446744073709551615", "18446744073709551615")],
    "UHUGEINT": [Form(f"'{GREATEST}'::uhugeint", GREATEST, GREATEST)],
    "BIGNUM": [Form(f"'{'9' * 60}'::bignum", "9" * 60, "9" * 60), Form("'-1'::bignum", "-1", "-1")],
    "DECIMAL": [
        Form("1.5::decimal(18,6)", "1.500000", "1.500000"),
        Form("0::decimal(18,10)", "0.0000000000", "0.0000000000"),
        Form(f"'{LONG}'::decimal(38,9)", LONG, LONG),
    ],
    "DOUBLE": [
        Form("0.1::double", "0.1", "0.1"),
        Form("5::double", "5.0", "5.0"),
        Form("1e300::double", "1e+300", "1e+300"),
        Form("'nan'::double", "NaN"),
        Form("'-nan'::double", "NaN"),
        Form("'inf'::double", "Infinity"),
        Form("'-inf'::double", "-Infinity"),
        Form("null::double", None, "null"),
    ],
    "FLOAT": [Form("0.1::float", "0.1", "0.1"), Form("'-inf'::float", "-Infinity")],
    "VARCHAR": [
        Form("'Grüße 😀 \"x\"' || chr(10) || chr(0)", 'Grüße 😀 "x"\n\x00', '"Grüße 😀 \\"x\\"\\n\\u0000"'),
        Form("''", ""),
    ],
    "BLOB": [Form(r"'\xAA\x00a\x5C'::blob", r"\xAA\x00a\x5C")],
    "BIT": [Form("'0101'::bit", "0101")],
    "UUID": [Form("'4ac7a9e9-607c-4c8a-84f3-843f0191e3fd'::uuid", "4ac7a9e9-607c-4c8a-84f3-843f0191e3fd")],
    "ENUM": [Form("'a'::enum('a', 'b')", "a")],
    "TYPE": [Form("get_type(1)", "INTEGER")],
    "GEOMETRY": [Form("'POINT(1 2)'::geometry", "POINT (1 2)")],
    "DATE": [
        Form("date '2026-01-31'", "2026-01-31"),
        Form("date 'infinity'", "infinity"),
        Form("date '-infinity'", "-infinity"),
        Form("date '10000-01-01'", "10000-01-01"),
        Form("date '0044-03-15 (BC)'", "0044-03-15 (BC)"),
    ],
    "TIME": [Form("time '01:34:56.7'", "01:34:56.7")],
    "TIME_NS": [Form("'12:34:56.123456789'::time_ns", "12:34:56.123456789")],
    "TIME WITH TIME ZONE": [Form("timetz '12:34:56.7+05:30'", "12:34:56.7+05:30")],
    "TIMESTAMP": [
        Form("timestamp '2026-01-31 22:53:20.5'", "2026-01-31T22:53:20.5"),
        Form("timestamp 'infinity'", "infinity"),
        Form("timestamp '10000-01-01 00:00:01'", "10000-01-01T00:00:01"),
        Form("timestamp '0044-03-15 (BC) 10:00:00'", "0044-03-15 (BC) 10:00:00"),
    ],
    "TIMESTAMP_S": [Form("'2026-01-31 22:53:20'::timestamp_s", "2026-01-31T22:53:20")],
    "TIMESTAMP_MS": [Form("'2026-01-31 22:53:20.12'::timestamp_ms", "2026-01-31T22:53:20.12")],
    "TIMESTAMP_NS": [Form("'2026-01-31 22:53:20.123456789'::timestamp_ns", "2026-01-31T22:53:20.123456789")],
    "TIMESTAMP WITH TIME ZONE": [
        Form("timestamptz '2026-01-31 22:53:20+02'", "2026-01-31T20:53:20Z"),
        Form("timestamptz '-infinity'", "-infinity"),
    ],
    "TIMESTAMPTZ_NS": [Form("'2026-01-31 22:53:20.123456789+02'::timestamptz_ns", "2026-01-31T20:53:20.123456789Z")],
    "INTERVAL": [
        Form("timestamp '2026-01-31 12:31:00' - timestamp '2026-01-31 10:00:01'", "2:30:59"),
        Form("interval '0 seconds'", "0:00:00"),
        Form("interval '-2 hours'", "-2:00:00"),
        Form("interval '14 months 3 days 25 hours 1.000001 seconds'", "1 year 2 months 3 days 25:00:01.000001"),
        Form("interval '-1 month 3 days -0.5 seconds'", "-1 month 3 days -0:00:00.5"),
        Form("interval '1 day'", "1 day"),
        Form("null::interval", None, "null"),
    ],
    "LIST": [
        Form("[1, null]", "[1,null]", "[1,null]"),
        Form("[]", "[]", "[]"),
        Form("null::integer[]", None, "null"),
        Form("['=1', 'ü\"']", '["=1","ü\\""]', '["=1","ü\\""]'),
        Form("[[0.1::float, 'nan'], null]", '[[0.1,"NaN"],null]', '[[0.1,"NaN"],null]'),
    ],
    "ARRAY": [Form("array_value(1, 2)", "[1,2]", "[1,2]")],
    "STRUCT": [
        Form("{'a': null::date, 'b\"''c': 1.50::decimal(9,2)}", *['{"a":null,"b\\"\'c":1.50}'] * 2),
        Form("null::struct(a integer)", None, "null"),
        Form("{'at': timestamptz '2026-01-31 22:53:20+00'}", *['{"at":"2026-01-31T22:53:20Z"}'] * 2),
    ],
    "TUPLE": [Form("row(1, interval '1 hour')", '[1,"1:00:00"]', '[1,"1:00:00"]')],
    "MAP": [
        Form("map {'a': 1, 'b': null}", '{"a":1,"b":null}', '{"a":1,"b":null}'),
        Form("map {interval '1 hour': [1]}", '{"1:00:00":[1]}', '{"1:00:00":[1]}'),
        Form("map {}", "{}", "{}"),
        Form(
            "map {'x': {'y': [interval '2 hours 30 minutes 59 seconds', null]}}",
            *['{"x":{"y":["2:30:59",null]}}'] * 2,
        ),
    ],
    "UNION": [
        Form("union_value(n := 2)", "2", "2"),
        Form("'x'::union(s varchar, d date)", "x"),
        Form("[union_value(i := interval '1 hour')]", '["1:00:00"]', '["1:00:00"]'),
    ],
    "VARIANT": [
        Form("42::variant", "42", "42"),
        Form("{'a': [1.5, null]}::variant", "{'a': [1.5, NULL]}", '{"a":[1.5,null]}'),
        Form("['inf'::double]::variant", "[inf]"),
    ],
    "JSON": [
        Form("""'{"a": [2.50, "NaN, ]"]}'::json""", '{"a": [2.50, "NaN, ]"]}', '{"a": [2.50, "NaN, ]"]}'),
        Form("'[1, NaN]'::json", "[1, NaN]"),
        Form("'[1,]'::json", "[1,]"),
    ],
}  # fmt: skip
ALL = [pytest.param(form, id=f"{kind}-{form.value[:30]}") for kind, forms in FORMS.items() for form in forms]


def test_no_type_of_duckdb_is_left_out() -> None:
    with duckdb.connect() as database:
        found = {name for (name,) in database.sql("select logical_type from duckdb_types()").fetchall()}
    assert found <= set(FORMS)


@pytest.mark.parametrize("form", ALL)
def test_a_value_of_any_type_has_one_form_to_read_and_one_in_json(form: Form) -> None:
    with Connection.sandboxed([]) as connection:
        result = connection.query_as_text(f"select {form.value} as x")
        ((shown,),) = [row for rows in result.batches for row in rows]
    assert shown == form.text
    with Connection.sandboxed([]) as connection:
        ((row,),) = list(connection.query_as_json(f"select {form.value} as x"))
    expected = json.dumps(form.text, ensure_ascii=False) if form.json is None else form.json
    assert row == f'{{"x":{expected}}}'

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(row, parse_constant=refuse, parse_float=Decimal)


def test_the_end_of_a_query_may_be_a_semicolon_and_a_comment() -> None:
    for query in (
        "select ';' as x; -- ;",
        "select ';' as x /* ; */ ;; /* end */",
        "select ';' as x -- ;",
        "-- ;\nselect ';' as x;",
    ):
        with Connection.sandboxed([]) as connection:
            assert list(connection.query_as_json(query)) == [['{"x":";"}']]


def test_rows_come_in_order_and_all_of_them_whatever_their_number() -> None:
    with Connection.sandboxed([]) as connection:
        result = connection.query_as_text("select unnest(range(123456)) as n order by n desc")
        shown = [row[0] for rows in result.batches for row in rows]
    assert (result.rows, shown) == (123456, [str(n) for n in reversed(range(123456))])


def test_what_holds_a_result_is_not_among_the_tables() -> None:
    with Connection.sandboxed([]) as connection:
        connection.create_view("sessions", "select 1 as a")
        assert list(connection.query_as_json("show tables")) == [['{"name":"sessions"}']]
