"""Repairs damaged raw days, so that they can be read and added to again.

Raw is history that the API may no longer return, so a damaged day is never simply read again. What is kept: every
stored row that is intact by either reader, and whatever intact rows older versions' files of that day still hold. What
is lost: rows that only a damaged part held and no older file has; that is, versions and tombstones added by the day's
last commit, or all of them once older files were deleted: `maintain` does so after a week, `forget` at once. A session
that is lost so and that the API no longer returns leaves the derived tables too. Finding damage does not belong here.

A raw table whose newest log entries are lost gets back, on every day, the rows they added as far as files in its folder
still hold them; files that no version names are valid row by row only. What is stored then is its last version.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from operator import itemgetter
from typing import Any

import pyarrow as pa

from devin_pipeline.lake import (
    Damaged,
    Lake,
    NotRead,
    Rewrite,
    Snapshot,
    StoredFile,
    files_ever,
    files_in_folder,
    rows_by_arrow,
    rows_by_duckdb,
)
from devin_pipeline.raw.redaction import Redaction
from devin_pipeline.raw.row_hash import ROW_HASH
from devin_pipeline.raw.row_integrity import damaged_partitions, problems_of
from devin_pipeline.raw.sessions.moved_sessions import settle
from devin_pipeline.raw.versions import joined
from devin_pipeline.tables import RAW_SESSION_TABLES, RAW_TABLES, Partition, RawTable, Table

_Row = dict[str, Any]
_Rows = dict[tuple[object, ...], _Row]
"""Rows of a table by their key."""
_FETCHED_AT = itemgetter("fetched_at")

_READERS: tuple[Callable[[Table, StoredFile], pa.Table], ...] = (rows_by_duckdb, rows_by_arrow)


@dataclass(frozen=True)
class RepairResult:
    """What became of a damaged partition of a raw table, in rows.

    Attributes:
        kept: Those its newest files still held.
        brought_back: Those taken from files of older versions, or of versions whose log entries are lost.
        lost: Those that should be there and are not.
    """

    table: RawTable
    partition: Partition
    kept: int
    brought_back: int
    lost: int

    @property
    def day(self) -> date | None:
        """The damaged day; None of a table that is not by day."""
        return self.partition if isinstance(self.partition, date) else None

    @property
    def place(self) -> str:
        """The table and its damaged partition, in words."""
        return self.table.name if self.partition is None else f"{self.table.name} {self.partition}"


def repair(lake: Lake, days: Sequence[date], hour: int, *, keeps_text: bool) -> list[RepairResult]:
    """Repair the damaged ones of some days in every raw table; the others are left alone.

    Of a table that is not by day, all is looked at. So are all days of a table that is older than what was last written
    to it; it is accepted from then on.

    Args:
        lake: The lake.
        days: The days to look at.
        hour: Hour of the UTC day at which a billing day starts.
        keeps_text: What DEVIN_TEXT says; text and identity that are to be gone are not brought back.

    Raises:
        Damaged: A table's log cannot be read, so what it should hold is unknown.
        NotRead: The system refuses to read a file of a damaged day.
    """
    results: list[RepairResult] = []
    # guard: a raw table that repair passes over | RAW_TABLES -> RAW_TABLES[:4]
    for table in RAW_TABLES:
        snapshot = lake.snapshot_to_repair(table)
        is_older = lake.is_older(snapshot)
        found = files_in_folder(table, snapshot.location) if is_older else {}
        # Days leave out nothing of a table that is not by day.
        damaged = damaged_partitions(snapshot, {*days, *found}, hour)
        # guard: lost versions: days outside the range that is repaired | {*damaged, *found} -> damaged
        for partition in sorted({*damaged, *found}, key=str):
            in_folder, is_damaged = found.get(partition, ()), partition in damaged
            each = _repair_partition(lake, table, partition, hour, keeps_text, in_folder, is_damaged)
            results += [each] if is_damaged or each.brought_back else []
        if is_older:
            # Last: killed before, the same command does it all again.
            lake.accept_version(table)
            if lake.erasure_list():
                # What they held of others is stored again.
                lake.purge(table, spent=[file.path for files in found.values() for file in files])
        if table in RAW_SESSION_TABLES and (is_older or damaged):
            # A session may have moved to a day that lost it.
            settle(lake, table, hour)
    return results


def _repair_partition(
    lake: Lake,
    table: RawTable,
    partition: Partition,
    hour: int,
    keeps_text: bool,
    in_folder: Sequence[StoredFile],
    is_damaged: bool,
) -> RepairResult:
    result = RepairResult(table, partition, 0, 0, 0)

    def repaired(snapshot: Snapshot) -> Rewrite | None:
        nonlocal result
        redaction = Redaction(keeps_text, lake.erasure_list())
        newest = snapshot.stored_files([partition])
        found: _Rows = {}
        _add_new(found, table, (row for file in newest for row in _intact_rows(table, file, hour, redaction)))
        kept = len(found)
        if is_damaged:
            # guard: damage: rows of older files, repaired
            #   | = files_ever(table, snapshot.location, partition) -> : list[StoredFile] = []
            older = files_ever(table, snapshot.location, partition)
            _add_new(found, table, (row for file in older for row in _intact_rows(table, file, hour, redaction)))
        names = {file.path for file in newest}
        unnamed = (file for file in in_folder if file.path not in names)
        # guard: lost versions: rows without a row hash | if row[ROW_HASH]
        lost = [row for file in unnamed for row in _intact_rows(table, file, hour, redaction) if row[ROW_HASH]]
        # Next to whole rows, what was written later only: a killed run's file may hold what later reads did not find.
        # guard: lost versions: what a killed run left | if is_damaged else _added_later(table, found, lost)
        _add_new(found, table, lost if is_damaged else _added_later(table, found, lost))
        result = RepairResult(
            table, partition, kept, len(found) - kept, max(0, sum(file.rows for file in newest) - len(found))
        )
        if not is_damaged and len(found) == kept:
            return None
        rows = pa.Table.from_pylist(list(found.values()), table.schema)
        return Rewrite([partition], joined(table, rows, table.schema.empty_table()))

    lake.rewrite(table, repaired, repairs=True)
    # guard: persons in the damaged file that a repair replaces
    if lake.erasure_list():
        # What of its older files could be read is in the new one; the rest of them may be of persons to be erased.
        lake.purge(table, partitions=[partition])
    return result


def _add_new(found: _Rows, table: RawTable, rows: Iterable[_Row]) -> None:
    for row in rows:
        found.setdefault(tuple(row[name] for name in table.key), row)


def _added_later(table: RawTable, found: _Rows, lost: Sequence[_Row]) -> Iterator[_Row]:
    """Of rows of lost versions those that each object's history goes on with, from the last row that is stored."""

    def history(row: _Row) -> tuple[object, ...]:
        return tuple(row[name] for name in table.object_key)

    def content(row: _Row) -> tuple[object, ...]:
        return row.get("is_listed"), *(row[name] for name in table.compared), row.get("moved_to")

    last: dict[tuple[object, ...], _Row] = {}
    for row in sorted(found.values(), key=_FETCHED_AT):
        last[history(row)] = row
    for row in sorted(lost, key=_FETCHED_AT):
        before = last.get(history(row))
        if before is None or (before["fetched_at"] < row["fetched_at"] and content(before) != content(row)):
            last[history(row)] = row
            yield row


def _intact_rows(table: RawTable, file: StoredFile, hour: int, redaction: Redaction) -> Iterator[dict[str, Any]]:
    for read in _READERS:
        try:
            rows = read(table, file)
        except NotRead:
            # It may be intact, and what is left out here is lost.
            # guard: repair that loses what only cannot be read now | raise -> continue
            raise
        except Damaged:
            continue
        # guard: damage: rows that are not intact, repaired
        #   | [problem is None for problem in problems_of(table, rows, hour)] -> [True] * rows.num_rows
        intact = rows.filter(pa.array([problem is None for problem in problems_of(table, rows, hour)], pa.bool_()))
        # guard: damage: text that is to be gone, repaired | redaction.stored_rows(table, intact) -> intact
        yield from redaction.stored_rows(table, intact).to_pylist()
