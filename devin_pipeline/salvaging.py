"""Saves what can be saved of damaged raw days, so that they can be read and added to again.

Raw is history that the API may no longer tell, so a damaged day is never simply read anew. What is kept: every stored
row that is sound by either reader, and whatever sound rows older versions' files of that day still hold. What is lost:
rows that only a damaged part held and no older file has; that is, versions and tombstones added by the day's last
commit, or all of them once older files were deleted: `maintain` does so after a week, `forget` at once. A session that
is lost so and that the API no longer tells leaves the derived tables too. Finding damage does not belong here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
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
    rows_by_arrow,
    rows_by_duckdb,
)
from devin_pipeline.raw.redaction import Redaction
from devin_pipeline.raw.row_hashes import extended
from devin_pipeline.raw.soundness import damaged_days, faults_of
from devin_pipeline.tables import RAW_QUARANTINE, RAW_SESSION_TABLES, Table

_READERS: tuple[Callable[[Table, StoredFile], pa.Table], ...] = (rows_by_duckdb, rows_by_arrow)


@dataclass(frozen=True)
class Salvaged:
    """What became of a damaged day of a raw table, in rows.

    Attributes:
        kept: Those its newest files still held.
        brought_back: Those taken from files of older versions.
        lost: Those that should be there and are not.
    """

    table: Table
    day: date
    kept: int
    brought_back: int
    lost: int


def salvage(lake: Lake, days: Sequence[date], hour: int, *, keeps_text: bool) -> list[Salvaged]:
    """Make the damaged ones of some days sound again, in every raw table; the others are left alone.

    Args:
        lake: The lake.
        days: The days to look at.
        hour: Hour of the UTC day at which a billing day starts.
        keeps_text: What DEVIN_TEXT says; text and identity that are to be gone are not brought back.

    Raises:
        Damaged: A table's log cannot be read, so what it should hold is unknown.
        NotRead: The system refuses to read a file of a damaged day.
    """
    return [
        _salvage(lake, table, day, hour, keeps_text)
        for table in (*RAW_SESSION_TABLES, RAW_QUARANTINE)
        for day in sorted(damaged_days(lake.snapshot(table), days, hour))
    ]


def _salvage(lake: Lake, table: Table, day: date, hour: int, keeps_text: bool) -> Salvaged:
    told = Salvaged(table, day, 0, 0, 0)

    def saved(snapshot: Snapshot) -> Rewrite:
        nonlocal told
        redaction = Redaction(keeps_text, lake.forgotten())
        newest = [file for file in snapshot.stored_files() if file.day == day]
        found: dict[tuple[object, ...], dict[str, Any]] = {}
        kept = 0
        for file in (*newest, *files_ever(snapshot.location, day)):
            for row in _sound_rows(table, file, hour, redaction):
                found.setdefault(tuple(row[name] for name in table.key), row)
            if file == newest[-1]:
                kept = len(found)
        told = Salvaged(table, day, kept, len(found) - kept, max(0, sum(file.rows for file in newest) - len(found)))
        rows = pa.Table.from_pylist(list(found.values()), table.schema)
        return Rewrite([day], extended(table, rows, table.schema.empty_table()))

    lake.rewrite(table, saved)
    return told


def _sound_rows(table: Table, file: StoredFile, hour: int, redaction: Redaction) -> Iterator[dict[str, Any]]:
    for read in _READERS:
        try:
            rows = read(table, file)
        except NotRead:
            # It may be intact, and what is left out here is lost.
            raise
        except Damaged:
            continue
        sound = rows.filter(pa.array([fault is None for fault in faults_of(table, rows, hour)], pa.bool_()))
        yield from redaction.rows(table, sound).to_pylist()
