"""Makes the tables of this room for some days and commits them, again if their inputs move meanwhile. No Dagster.

Days whose inputs are as they were when they were made are left alone.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from devin_pipeline import progress
from devin_pipeline.billing_calendar import contiguous, days_in_words
from devin_pipeline.derived.queries import (
    assert_publishable,
    cache_inputs,
    create_session_views,
    days_sharing_sessions,
    fingerprint,
    select,
    sessions_lacking_a_feed,
)
from devin_pipeline.lake import Connection, Damaged, Inputs, Lake, Links, in_portions, linked_with
from devin_pipeline.tables import (
    DERIVED_TABLES,
    RAW_CONSUMPTION,
    RAW_SESSION_CONSUMPTION,
    RAW_SESSION_TABLES,
    ROLLUP_TABLES,
    SESSION_ACUS_BY_DAY,
    SESSION_TABLES,
    SESSIONS,
    TABLES,
    Table,
)

# What is read at once, in bytes as stored: a range is made in parts of this size, so that memory does not grow with it.
_BYTES_AT_ONCE = 48 * 2**20
# What a row counts for at least: bills that are alike compress to nearly nothing, and take memory all the same.
_LEAST_BYTES_OF_ROW = 200
_WRITES_AT_ONCE = 2


class BuildResult(NamedTuple):
    """What was built again: the days, oldest first, and each table's ACUs of each, by its name.

    A table without ACUs has none for any day.
    """

    days: list[date]
    acus: dict[str, dict[date, Decimal]]


def publish_session_tables(
    lake: Lake,
    days: Sequence[date],
    hour: int,
    tables: Sequence[Table] = SESSION_TABLES,
    *,
    compares: bool = True,
    log: Callable[[str], None] = lambda _: None,
) -> BuildResult:
    """Build session tables again from what raw holds of `days`; return what was built.

    Args:
        lake: Where.
        days: Neighbouring days, oldest first. Changed days that have sessions in common with them are made too.
        hour: Hour of the UTC day at which a billing day starts.
        tables: The session tables to make; their payloads are parsed once for all of them.
        compares: False to write days without a look at what is stored of them, which takes longer than to make them.
        log: Takes a line about each group of days that was rebuilt.

    Raises:
        ValidationFailed: What was made contradicts raw; none of these days was written.
    """
    _note_days_sharing_sessions(lake, tables, days, hour)
    links = lake.links()

    def make(connection: Connection, some: Sequence[date], linked: Sequence[date]) -> Iterator[tuple[Table, pa.Table]]:
        create_session_views(connection, some, linked)
        # Sessions are validated before the other tables are written.
        for table in sorted(tables, key=lambda table: table != SESSIONS):
            rows = select(connection, table, some, hour)
            if table == SESSIONS:
                assert_publishable(connection, table, rows, hour, some)
            yield table, _of_days(rows, some) if linked else rows

    def publish(some: Sequence[date]) -> BuildResult:
        return _publish(lake, tables, RAW_SESSION_TABLES, some, hour, make, links, compares=compares, log=log)

    return _with_linked(publish, days, links)


def publish_rollups(
    lake: Lake,
    days: Sequence[date],
    hour: int,
    tables: Sequence[Table] = ROLLUP_TABLES,
    *,
    compares: bool = True,
    log: Callable[[str], None] = lambda _: None,
) -> BuildResult:
    """Build rollups again from what the session tables hold of `days`; return what was built.

    Args:
        lake: Where.
        days: Neighbouring days, oldest first. Changed days that have sessions in common with them are made too.
        hour: Hour of the UTC day at which a billing day starts.
        tables: The rollups to make; what they are made of is read once for all of them.
        compares: As for `publish_session_tables`.
        log: As for `publish_session_tables`.

    Raises:
        ValidationFailed: One does not add up to its sessions; none of these days was written.
    """
    inputs = inputs_of(tables)

    def make(connection: Connection, some: Sequence[date], _: Sequence[date]) -> Iterator[tuple[Table, pa.Table]]:
        cache_inputs(connection, inputs)
        made = {table: select(connection, table, some, hour) for table in tables}
        for table, rows in made.items():
            assert_publishable(connection, table, rows, hour)
        yield from made.items()

    def publish(some: Sequence[date]) -> BuildResult:
        return _publish(lake, tables, inputs, some, hour, make, compares=compares, log=log)

    return _with_linked(publish, days, lake.links())


def publish_spend(
    lake: Lake,
    days: Sequence[date],
    hour: int,
    table: Table,
    *,
    compares: bool = True,
    log: Callable[[str], None] = lambda _: None,
) -> BuildResult:
    """Build a table of spend again, and any other day of it that is missing or made from other inputs.

    Args:
        lake: Where.
        days: Neighbouring days, oldest first.
        hour: Hour of the UTC day at which a billing day starts.
        table: One of `SPEND_TABLES`.
        compares: As for `publish_session_tables`.
        log: As for `publish_session_tables`.
    """
    inputs, links = inputs_of([table]), lake.links() if table == SESSION_ACUS_BY_DAY else {}

    def make(connection: Connection, some: Sequence[date], linked: Sequence[date]) -> Iterator[tuple[Table, pa.Table]]:
        rows = select(connection, table, some, hour)
        yield table, _of_days(rows, some) if linked else rows

    def publish(some: Sequence[date]) -> BuildResult:
        return _publish(lake, [table], inputs, some, hour, make, links, compares=compares, log=log)

    made = _with_linked(publish, days, links)
    for some in contiguous(_other_days(lake, table, days, links)) if compares else ():
        try:
            made = _both(made, publish(some))
        except Damaged:
            # A damaged day holds back no other; what repairs it builds what follows from it.
            for day in some:
                with suppress(Damaged):
                    made = _both(made, publish([day]))
    return made


def _other_days(lake: Lake, table: Table, days: Sequence[date], links: Links) -> list[date]:
    """Days outside a run that a table of spend lacks, or that are of other inputs than those that are stored now.

    The weekly bill asks for sessions of any day, and a lake that is older than the table has none of its days.
    """
    followed = (SESSIONS, RAW_SESSION_CONSUMPTION) if table == SESSION_ACUS_BY_DAY else (RAW_CONSUMPTION,)
    snapshot = lake.cached_snapshot(table)
    stored = {file.day for file in snapshot.stored_files()}
    others = {file.day for each in followed for file in lake.cached_snapshot(each).stored_files()} - set(days)
    # guard: days that a table of spend lacks | others - stored -> set[date | None]()
    missing = others - stored
    to_compare = sorted(day for day in others & stored if day is not None)
    outdated = set(lake.without_provenance(snapshot, lake.inputs(inputs_of([table]), to_compare, links)))
    return sorted(day for day in missing | outdated if day is not None)


def _both(one: BuildResult, other: BuildResult) -> BuildResult:
    acus = {name: of_days | other.acus[name] for name, of_days in one.acus.items()}
    return BuildResult(sorted({*one.days, *other.days}), acus)


def _with_linked(publish: Callable[[Sequence[date]], BuildResult], days: Sequence[date], links: Links) -> BuildResult:
    """Publish some days, and the days that have sessions in common with them, as far as these changed."""
    made = publish(days)
    linked = linked_with(links, days)
    # guard: the day that lost a session is built again | not linked -> True
    if not linked:
        return made
    try:
        also = publish(linked)
    except Damaged:
        # A damaged day holds back no other; what repairs it builds what follows from it.
        return made
    return _both(made, also)


def _note_days_sharing_sessions(lake: Lake, tables: Sequence[Table], days: Sequence[date], hour: int) -> None:
    """Note the days that have sessions in common with those that are to be built, because feeds disagree."""
    stored = [table for table in RAW_SESSION_TABLES if lake.cached_snapshot(table).stored_files()]
    if len(stored) < 2:
        return
    to_build = _to_build(lake, tables, lake.inputs(RAW_SESSION_TABLES, days, lake.links()), hour)
    if not to_build:
        return
    with lake.connect(RAW_SESSION_TABLES, days=to_build) as connection:
        looked_for = sessions_lacking_a_feed(connection, len(stored))
    if looked_for.num_rows:
        # guard: feeds that disagree about the day
        lake.note_links(_pairs(lake, looked_for))


def note_all_days_sharing_sessions(lake: Lake) -> None:
    """Note which days have sessions in common, by what raw holds of all days: in a lake of before, or after a loss.

    Raises:
        NotWritten: The disk is full, read-only or broken.
    """
    lake.note_links(_pairs(lake))


def _pairs(lake: Lake, looked_for: pa.Table | None = None) -> set[tuple[date, date]]:
    try:
        with lake.connect(RAW_SESSION_TABLES) as connection:
            return days_sharing_sessions(connection, looked_for)
    except Damaged:
        stored = {file.day for table in RAW_SESSION_TABLES for file in lake.cached_snapshot(table).stored_files()}
        readable = lake.readable_days(RAW_SESSION_TABLES, sorted(day for day in stored if day is not None))
        with lake.connect(RAW_SESSION_TABLES, days=readable) as connection:
            return days_sharing_sessions(connection, looked_for)


def inputs_of(rollups: Sequence[Table]) -> list[Table]:
    """The tables that some rollups, built at once, are built from."""
    return [TABLES[name] for name in dict.fromkeys(name for table in rollups for name in table.inputs)]


def days_of_other_code(lake: Lake, hour: int, tables: Sequence[Table] = DERIVED_TABLES) -> list[date]:
    """The stored days that other code than this built, in some derived tables or in what they are made of.

    Args:
        lake: Where.
        hour: Hour of the UTC day at which a billing day starts.
        tables: The derived tables.
    """
    followed = {table.name for table in tables}
    followed |= {name for table in tables for name in table.inputs if TABLES[name].layer == "derived"}
    days = (lake.days_of_other_code(TABLES[name], fingerprint(TABLES[name], hour)) for name in followed)
    return sorted(set().union(*days))


def _publish(
    lake: Lake,
    tables: Sequence[Table],
    inputs: Sequence[Table],
    days: Sequence[date],
    hour: int,
    make: Callable[[Connection, Sequence[date], Sequence[date]], Iterator[tuple[Table, pa.Table]]],
    links: Links = MappingProxyType({}),
    *,
    compares: bool = True,
    log: Callable[[str], None],
) -> BuildResult:
    def make_all() -> BuildResult:
        fingerprints = lake.inputs(inputs, days, links)
        code = {table: fingerprint(table, hour) for table in tables}
        made = BuildResult(_to_build(lake, tables, fingerprints, hour), {table.name: {} for table in tables})

        def write(table: Table, some: Sequence[date], rows: pa.Table) -> int:
            made.acus[table.name].update(_acus_of(table, some, rows))
            if rows.num_rows:
                lake.begin_to_build(table, code[table])
            lake.replace_days(table, some, rows, compares=compares)
            lake.record_provenance(table, {day: fingerprints[day] for day in some}, code[table])
            return len(rows)

        # A table is written while the next is made.
        with ThreadPoolExecutor(_WRITES_AT_ONCE, thread_name_prefix="write") as threads:

            def build(some: Sequence[date], linked: Sequence[date]) -> int:
                with lake.connect(inputs, days=[*some, *linked]) as connection:
                    writes = [
                        threads.submit(write, table, some, rows) for table, rows in make(connection, some, linked)
                    ]
                return sum(written.result() for written in writes)

            built = 0
            for some in in_portions(_sizes(lake, inputs, made.days), _BYTES_AT_ONCE):
                linked, began_at = linked_with(links, some), time.monotonic()
                try:
                    rows = build(some, linked)
                except Damaged:
                    readable = lake.readable_days(inputs, linked)
                    if readable == linked:
                        raise
                    # A damaged day holds back no other. These are built again once it is repaired.
                    rows = build(some, readable)
                built += len(some)
                log(
                    f"Rebuilt {days_in_words(some)}: {rows:,} rows in {len(tables)} tables, "
                    f"{time.monotonic() - began_at:.1f} s. {built} of {len(made.days)} days are done."
                )
                progress.report("building tables" if SESSIONS in tables else "building rollups", built, len(made.days))
        for table in tables:
            lake.end_of_build(table, code[table])
        return made

    return lake.retry_until_inputs_stable(inputs, [*days, *linked_with(links, days)], make_all)


def _to_build(lake: Lake, tables: Sequence[Table], inputs: Inputs, hour: int) -> list[date]:
    """The days that some of the tables do not hold as this code builds them of these inputs, oldest first."""
    days = {day for table in tables for day in lake.to_rebuild(table, inputs, fingerprint(table, hour))}
    return sorted(day for day in days if day is not None)


def _of_days(rows: pa.Table, days: Sequence[date]) -> pa.Table:
    return rows.filter(pc.is_in(rows.column("day"), pa.array(days, pa.date32())))


def _acus_of(table: Table, days: Sequence[date], rows: pa.Table) -> dict[date, Decimal]:
    """The ACUs of each of `days` among rows of them, if the table has any."""
    if table.acus_column is None:
        return {}
    days_of_rows, sums = rows.group_by("day").aggregate([(table.acus_column, "sum")]).to_pydict().values()
    return dict.fromkeys(days, Decimal(0)) | {
        day: acus or Decimal(0) for day, acus in zip(days_of_rows, sums, strict=True)
    }


def _sizes(lake: Lake, inputs: Sequence[Table], days: Iterable[date]) -> dict[date, int]:
    """The bytes that the inputs have of each day, as stored, or more where rows are many."""
    sizes = dict.fromkeys(days, 0)
    for table in inputs:
        for file in lake.cached_snapshot(table).stored_files():
            if file.day is not None and file.day in sizes:
                sizes[file.day] += max(file.size, file.rows * _LEAST_BYTES_OF_ROW)
    return sizes
