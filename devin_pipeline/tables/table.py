"""What a stored table promises. Nothing here knows how or where it is stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

Layer = Literal["raw", "derived", "reports"]

ACUS = pa.decimal128(18, 6)
INSTANT = pa.timestamp("us", tz="UTC")
TEXTS = pa.list_(pa.string())


@dataclass(frozen=True)
class Column:
    """One column: its name, type, what it means, and whether it may be null."""

    name: str
    type: pa.DataType
    description: str
    nullable: bool = True

    @property
    def sql_type(self) -> str:
        """The type as DuckDB writes it."""
        return _sql_type(self.type)


@dataclass(frozen=True)
class Table:
    """One stored table. Its name is its asset, its folder, its `.sql` file and its view.

    Attributes:
        name: The one name.
        layer: The room whose assets write it.
        grain: What one row is, in a sentence.
        columns: The columns in their stored order.
        key: The columns that identify a row; rows are stored in this order.
        by_day: True when the table is partitioned by `day` and rewritten a day at a time.
    """

    name: str
    layer: Layer
    grain: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    by_day: bool = True

    @property
    def schema(self) -> pa.Schema:
        """The pyarrow schema every write is cast to; descriptions ride along as field metadata."""
        return pa.schema(
            [pa.field(c.name, c.type, c.nullable, metadata={"description": c.description}) for c in self.columns]
        )

    @property
    def column_names(self) -> list[str]:
        """The columns' names in their stored order."""
        return [column.name for column in self.columns]

    @property
    def acus_column(self) -> str | None:
        """The column whose sum over the rows of a day is what was spent on it; None when the table has none."""
        return next((name for name in ("acus", "acus_split", "acus_share") if name in self.column_names), None)


def required(name: str, type_: pa.DataType, description: str) -> Column:
    """A column that may not be null."""
    return Column(name, type_, description, nullable=False)


def by_name(tables: Sequence[Table]) -> dict[str, Table]:
    """The tables by their names."""
    return {table.name: table for table in tables}


def _sql_type(type_: pa.DataType) -> str:
    if pa.types.is_list(type_):
        return f"{_sql_type(type_.value_type)}[]"
    if pa.types.is_decimal(type_):
        return f"decimal({type_.precision}, {type_.scale})"
    return {
        pa.string(): "varchar",
        pa.date32(): "date",
        pa.bool_(): "boolean",
        pa.int32(): "integer",
        pa.int64(): "bigint",
        INSTANT: "timestamptz",
    }[type_]
