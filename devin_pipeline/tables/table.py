"""What a stored table promises. Nothing here knows how or where it is stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

Layer = Literal["raw", "derived", "reports"]

ACUS = pa.decimal128(18, 6)
INSTANT = pa.timestamp("us", tz="UTC")
TEXTS = pa.list_(pa.string())

Partition = date | str | None
"""A part of a table that is written as a whole: a day, a value of another column, or None for a table in one part."""


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
        partitioned_by: The column by whose values the table is stored and written in parts; None for one part.
        inputs: The tables that a rollup or a report is built from; session tables are built from the raw ones.
    """

    name: str
    layer: Layer
    grain: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partitioned_by: str | None = "day"
    inputs: tuple[str, ...] = ()

    @property
    def by_day(self) -> bool:
        """True when the table is partitioned by `day` and rewritten a day at a time."""
        return self.partitioned_by == "day"

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
    def key_order(self) -> list[tuple[str, str]]:
        """The order in which rows are stored, as pyarrow sorts by it."""
        return [(name, "ascending") for name in self.key]

    def partitions_of(self, rows: pa.Table) -> list[Partition]:
        """The partitions that some rows are in."""
        if self.partitioned_by is None:
            return [None] if rows.num_rows else []
        found: list[Partition] = pc.unique(rows.column(self.partitioned_by)).to_pylist()
        return found

    def are_in(self, rows: pa.Table, partitions: Sequence[Partition]) -> pa.Array:
        """Of each of some rows whether it is in one of these partitions."""
        if self.partitioned_by is None:
            return pa.repeat(bool(partitions), rows.num_rows)
        column = rows.column(self.partitioned_by)
        return pc.is_in(column, pa.array(partitions, column.type))

    @property
    def acus_column(self) -> str | None:
        """The column whose sum over the rows of a day is what was spent on it; None when the table has none."""
        return next((name for name in ("acus", "acus_split", "acus_share") if name in self.column_names), None)


@dataclass(frozen=True)
class PayloadFields:
    """What the members of a payload hold that is a JSON object. Members that are not named here hold free text.

    Attributes:
        plain: Those without free text.
        plain_in_lists: Those that list objects, and which members of these are without free text.
        plain_within: Those that hold an object, and which members, at any depth in it, are texts that are not free.
        users: Those that name the users whom the payload is about, by id or e-mail.
        is_of_one_user: Whether all of `users` name the same person: once one of them is erased, all are.
        other_users: Those that name another user, by id.
        session: The one that names the session which the payload is about.
        session_links: Those that lead to this session.
        other_sessions: Those that name another session.
        session_lists: Those that list other sessions.
    """

    plain: frozenset[str] = frozenset()
    plain_in_lists: tuple[tuple[str, frozenset[str]], ...] = ()
    plain_within: tuple[tuple[str, frozenset[str]], ...] = ()
    users: tuple[str, ...] = ()
    is_of_one_user: bool = False
    other_users: tuple[str, ...] = ()
    session: str | None = None
    session_links: tuple[str, ...] = ()
    other_sessions: tuple[str, ...] = ()
    session_lists: tuple[str, ...] = ()

    @property
    def session_members(self) -> tuple[str, ...]:
        """The member that names the session which the payload is about, if there is one."""
        return () if self.session is None else (self.session,)

    @property
    def about(self) -> tuple[str, ...]:
        """The members that name whom or what the payload is about."""
        return (*self.session_members, *self.users)

    @property
    def identity(self) -> tuple[str, ...]:
        """All members that name a user or a session."""
        return (*self.about, *self.other_users, *self.other_sessions, *self.session_lists)


@dataclass(frozen=True)
class RawTable(Table):
    """A table of what the API returned; rows are only ever added. All that is done to raw rows follows from this.

    A row holds one object as returned, `payload`, and what identifies it. A table with the columns `fetched_at` and
    `is_listed` holds versions of objects, the last part of its key being `fetched_at`; its other key columns identify
    an object. A version that is not listed is a tombstone: the API no longer returns this object.

    Attributes:
        payload: The column with the JSON as returned: all free text that a row may hold. Rows are hashed over it and
            every other column but `row_hash`.
        fields: What the payload's members hold; None where that depends on the column `fields_by`.
        fields_by: The column by which it does.
        compared: The columns in which a new version differs from the one before it.
        kept_by_tombstones: The columns that a tombstone has of the last version, other than those of the key.
        user_columns: The columns with ids of users.
        session_columns: The columns with ids of sessions.
        added_later: Columns that older rows lack; a null in them leaves a row's hash as it was without the column.
    """

    payload: str = "payload"
    fields: PayloadFields | None = PayloadFields()
    fields_by: str = "feed"
    compared: tuple[str, ...] = ("content_hash",)
    kept_by_tombstones: tuple[str, ...] = ()
    user_columns: tuple[str, ...] = ()
    session_columns: tuple[str, ...] = ()
    added_later: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a partition column that no erasure could reach: its values are names of folders and in Delta's log."""
        # guard: an id in the name of a folder
        if self.partitioned_by in (*self.user_columns, *self.session_columns, self.payload):
            raise ValueError(f"{self.name} cannot be partitioned by {self.partitioned_by}, which may name a person")

    @property
    def has_versions(self) -> bool:
        """Whether its rows are versions and tombstones of objects."""
        return "is_listed" in self.column_names

    @property
    def object_key(self) -> tuple[str, ...]:
        """The columns that identify the object whose version a row is."""
        return tuple(name for name in self.key if name != "fetched_at")

    @property
    def columns_of_versions(self) -> list[str]:
        """The columns that a tombstone has no value in."""
        kept = {*self.key, *self.kept_by_tombstones, *self.added_later, "is_listed", "row_hash"}
        return [name for name in self.column_names if name not in kept]


T = TypeVar("T", bound=Table)


def required(name: str, type_: pa.DataType, description: str) -> Column:
    """A column that may not be null."""
    return Column(name, type_, description, nullable=False)


def by_name(tables: Sequence[T]) -> dict[str, T]:
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
