"""Makes the tables of this room for some days and commits them, again if their inputs move meanwhile. No Dagster.

Days whose inputs are as they were when they were made are left alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from typing import NamedTuple

import pyarrow as pa

from devin_pipeline.derived.queries import INPUTS, fingerprint, keep_inputs, pass_gate, select, tell_sessions
from devin_pipeline.lake import Lake, Reader, in_portions
from devin_pipeline.tables import (
    DERIVED_TABLES,
    RAW_SESSION_TABLES,
    ROLLUP_TABLES,
    SESSION_TABLES,
    SESSIONS,
    TABLES,
    Table,
)

# What is read at once, in bytes as stored: a range is made in parts of this size, so that memory does not grow with it.
_BYTES_AT_ONCE = 48 * 2**20
_WRITES_AT_ONCE = 2


class Made(NamedTuple):
    """What was made anew: the days, oldest first, and each table's ACUs of each, by its name.

    A table without ACUs tells none of any day.
    """

    days: list[date]
    acus: dict[str, dict[date, Decimal]]


def publish_session_tables(
    lake: Lake, days: Sequence[date], hour: int, tables: Sequence[Table] = SESSION_TABLES
) -> Made:
    """Make session tables anew from what raw holds of `days`, and tell what was made.

    Args:
        lake: Where.
        days: Neighbouring days, oldest first.
        hour: Hour of the UTC day at which a billing day starts.
        tables: The session tables to make; their payloads are parsed once for all of them.

    Raises:
        GateClosed: What was made contradicts raw; none of these days was written.
    """

    def make(reader: Reader, some: Sequence[date]) -> Iterator[tuple[Table, pa.Table]]:
        tell_sessions(reader, some)
        # The gate of the sessions comes before the others are written.
        for table in sorted(tables, key=lambda table: table != SESSIONS):
            rows = select(reader, table, some)
            if table == SESSIONS:
                pass_gate(reader, table, rows, hour)
            yield table, rows

    return _publish(lake, tables, RAW_SESSION_TABLES, days, hour, make)


def publish_rollups(lake: Lake, days: Sequence[date], hour: int, tables: Sequence[Table] = ROLLUP_TABLES) -> Made:
    """Make rollups anew from what the session tables hold of `days`, and tell what was made.

    Args:
        lake: Where.
        days: Neighbouring days, oldest first.
        hour: Hour of the UTC day at which a billing day starts.
        tables: The rollups to make; what they are made of is read once for all of them.

    Raises:
        GateClosed: One does not add up to its sessions; none of these days was written.
    """
    inputs = [TABLES[name] for name in dict.fromkeys(name for table in tables for name in INPUTS[table.name])]

    def make(reader: Reader, some: Sequence[date]) -> Iterator[tuple[Table, pa.Table]]:
        keep_inputs(reader, inputs)
        made = {table: select(reader, table, some) for table in tables}
        for table, rows in made.items():
            pass_gate(reader, table, rows, hour)
        yield from made.items()

    return _publish(lake, tables, inputs, days, hour, make)


def days_of_other_code(lake: Lake, hour: int, tables: Sequence[Table] = DERIVED_TABLES) -> list[date]:
    """The stored days that other code than this built, in some derived tables or in what they are made of.

    Args:
        lake: Where.
        hour: Hour of the UTC day at which a billing day starts.
        tables: The derived tables.
    """
    followed = {table.name for table in tables}
    followed |= {name for table in tables for name in INPUTS.get(table.name, ())}
    days = (lake.days_of_other_code(TABLES[name], fingerprint(TABLES[name], hour)) for name in followed)
    return sorted(set().union(*days))


def _publish(
    lake: Lake,
    tables: Sequence[Table],
    inputs: Sequence[Table],
    days: Sequence[date],
    hour: int,
    make: Callable[[Reader, Sequence[date]], Iterator[tuple[Table, pa.Table]]],
) -> Made:
    def make_all() -> Made:
        made_of = lake.inputs(inputs, days)
        code = {table: fingerprint(table, hour) for table in tables}
        to_make = {day for table in tables for day in lake.not_made(table, made_of, code[table]) if day is not None}
        made = Made(sorted(to_make), {table.name: {} for table in tables})

        def write(table: Table, some: Sequence[date], rows: pa.Table) -> None:
            made.acus[table.name].update(_acus_of(table, some, rows))
            if rows.num_rows:
                lake.begin_to_build(table, code[table])
            lake.replace_days(table, some, rows)
            lake.remember_made(table, {day: made_of[day] for day in some}, code[table])

        # A table is written while the next is made.
        with ThreadPoolExecutor(_WRITES_AT_ONCE, thread_name_prefix="write") as threads:
            for some in in_portions(_sizes(lake, inputs, made.days), _BYTES_AT_ONCE):
                with lake.connect(inputs, days=some) as reader:
                    writes = [threads.submit(write, table, some, rows) for table, rows in make(reader, some)]
                for written in writes:
                    written.result()
        for table in tables:
            lake.end_of_build(table, code[table])
        return made

    return lake.while_inputs_move(inputs, days, make_all)


def _acus_of(table: Table, days: Sequence[date], rows: pa.Table) -> dict[date, Decimal]:
    """The ACUs of each of `days` among rows of them, if the table has any."""
    if table.acus_column is None:
        return {}
    days_of_rows, sums = rows.group_by("day").aggregate([(table.acus_column, "sum")]).to_pydict().values()
    return dict.fromkeys(days, Decimal(0)) | {
        day: acus or Decimal(0) for day, acus in zip(days_of_rows, sums, strict=True)
    }


def _sizes(lake: Lake, inputs: Sequence[Table], days: Iterable[date]) -> dict[date | None, int]:
    """The bytes that the inputs have of each day, as stored."""
    sizes: dict[date | None, int] = dict.fromkeys(days, 0)
    for table in inputs:
        for file in lake.newest(table).stored_files():
            if file.day in sizes:
                sizes[file.day] += file.size
    return sizes
