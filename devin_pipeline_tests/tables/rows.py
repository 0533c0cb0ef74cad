"""Rows of any table, from the few values a test is about."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

import devin_pipeline
from devin_pipeline.lake import Connection
from devin_pipeline.orchestration.asset_checks import counted
from devin_pipeline.tables import RAW_SESSION_TABLES, TABLES, Table

Row = dict[str, Any]

DAY = date(2025, 12, 1)
"""A Monday."""
NEXT_DAY = DAY + timedelta(days=1)
NOON = datetime(2025, 12, 1, 12, tzinfo=UTC)


def after(hours: float) -> datetime:
    """So many hours after noon of the day."""
    return NOON + timedelta(hours=hours)


def acus(text: str) -> Decimal:
    return Decimal(text).quantize(Decimal("0.000001"))


def row(table: Table, values: Mapping[str, object]) -> Row:
    """A row of the table: null where that may be, else a value of the column's type, unless given."""
    assert values.keys() <= set(table.column_names), "a column the table has not"
    return {c.name: None if c.nullable else _some(c.name, c.type) for c in table.columns} | dict(values)


def rows_of(table: Table, rows: Iterable[Mapping[str, object]]) -> pa.Table:
    return pa.Table.from_pylist([row(table, values) for values in rows], table.schema)


def findings(
    room: str,
    check: str,
    versions: Sequence[Row] = (),
    params: Mapping[str, object] | None = None,
    rollup: Sequence[Row] = (),
    rows_per_day: Mapping[date, int] | None = None,
    views: Mapping[str, Sequence[Row]] | None = None,
    **tables: Sequence[Row],
) -> list[Row]:
    """What the SELECT of a check finds: `versions` are of raw, `rollup` of `acu_daily`, `views` of `sessions`."""
    package = Path(devin_pipeline.__file__).parent
    query = (package / room / "checks" / f"{check}.sql").read_text()
    with Connection() as connection:
        connection.register("versions", rows_of(RAW_SESSION_TABLES[0], versions))
        connection.register("rollup", rows_of(TABLES["acu_daily"], rollup))
        connection.register("rows_per_day", counted(rows_per_day or {}))
        for name, rows in (views or {}).items():
            connection.register(name, rows_of(TABLES["sessions"], rows))
        for name, rows in tables.items():
            connection.register(name, rows_of(TABLES[name], rows))
        found: list[Row] = connection.rows(query, params).to_pylist()
    return found


def _some(name: str, type_: pa.DataType) -> object:
    if pa.types.is_list(type_):
        return []
    if pa.types.is_integer(type_):
        return 0
    return {pa.date32(): DAY, pa.timestamp("us", "UTC"): NOON, pa.bool_(): True, pa.string(): name}[type_]
