"""The weekly care for a lake: small files joined, old ones deleted, logs shortened; no row changes.

Only rows of persons on the erasure list do: first of all, they are erased.

What each of these does to a table is known to `lake.compaction`. This knows for which tables, in which order, and
what else must hold: a raw row is looked at as `verify` does before it is written again, and `devin.duckdb` names the
newest files before older ones go.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from devin_pipeline.lake import (
    Damage,
    Damaged,
    Lake,
    LakeError,
    Snapshot,
    Unfinished,
    VacuumResult,
    compact,
    expire_log,
    vacuum,
    write_catalog,
)
from devin_pipeline.operations.erase import erase, old_files_with_persons
from devin_pipeline.raw.row_integrity import damaged_partitions
from devin_pipeline.tables import ALL_TABLES, RAW_TABLES, Partition, RawTable, Table


@dataclass(frozen=True)
class TableMaintenance:
    """What was done to a table.

    Attributes:
        table: The table.
        files_before: How many files its newest version had.
        files: How many it has now.
        deleted: The old files that are gone.
        log_entries: How many entries of its log are gone.
    """

    table: Table
    files_before: int
    files: int
    deleted: VacuumResult
    log_entries: int


@dataclass(frozen=True)
class Maintenance:
    """What was done to each table that has been written, and what was left as it is, in words."""

    tables: Sequence[TableMaintenance]
    left: Sequence[str]


def maintain(lake: Lake, hour: int) -> Maintenance:
    """Erase persons on the erasure list, join small files, delete those that no version of the last week names.

    A run may write meanwhile: who is slower plans again, and a table that is never at rest is left for the next time.

    Args:
        lake: The lake.
        hour: Hour of the UTC day at which a billing day starts.
    """
    with suppress(Damaged):  # of a log, which is named below
        # guard: a raw table whose old files maintenance passes over | RAW_TABLES -> RAW_TABLES[:4]
        if any(old_files_with_persons(lake, table) for table in RAW_TABLES):
            # Put back next to a newer log, or left by a killed run.
            lake.note_unfinished_erasure(Unfinished(datetime.now(UTC)))
    erased = erase(lake, hour, sweeps=True)
    left = [f"{table.name} {day} could not be erased: {e.why}" for (table, day), e in erased.damaged.items() if day]
    files_before: dict[Table, int] = {}
    for table in ALL_TABLES:
        try:
            snapshot = lake.snapshot(table)
            if snapshot.version is not None:
                files_before[table] = len(snapshot.files())
                left += [_words(table, partition, why) for partition, why in compact(lake, table, _damage(table, hour))]
        except LakeError as error:
            left.append(f"{error.what}: {error.why}")
    if not files_before:
        return Maintenance([], left)
    try:
        # guard: views over files that maintain deletes
        write_catalog(lake)
    except LakeError as error:
        left.append(f"{error.what}: {error.why}; old files stay, since devin.duckdb may read them")
        return Maintenance([], left)
    done = []
    for table, before in files_before.items():
        try:
            deleted, entries = vacuum(lake, table), expire_log(lake, table)
            done.append(TableMaintenance(table, before, len(lake.snapshot(table).files()), deleted, entries))
        except LakeError as error:
            left.append(f"{error.what}: {error.why}")
    return Maintenance(done, left)


def _damage(table: Table, hour: int) -> Damage:
    def found(snapshot: Snapshot, partitions: Sequence[Partition]) -> Mapping[Partition, str]:
        # guard: a raw row with a wrong hash joined with others
        if isinstance(table, RawTable):
            return damaged_partitions(snapshot, partitions, hour)
        return {}

    return found


def _words(table: Table, partition: Partition, why: str) -> str:
    return f"{table.name}{f' {partition}' if partition else ''} stays in several files, because it is damaged: {why}"
