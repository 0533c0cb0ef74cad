"""Takes out of the stored rows of a raw table what may not be stored. What that is, is known to `raw.redaction`."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from devin_pipeline.lake import (
    Connection,
    Damaged,
    Lake,
    NotRead,
    Rewrite,
    Snapshot,
    StoredFile,
    in_portions,
    rows_by_duckdb,
)
from devin_pipeline.raw.redaction import Redaction
from devin_pipeline.tables import Partition, RawTable

# What is redacted at once; a row counts as so many bytes at least, since blanked text is stored in next to none.
_BYTES_AT_ONCE = 32 * 2**20
_BYTES_OF_A_ROW = 2_000


class RedactResult(NamedTuple):
    """What `redact` did.

    Attributes:
        changed: The partitions that changed.
        damaged: The partitions that could not be read, and the error of each.
    """

    changed: set[Partition]
    damaged: dict[Partition, Damaged]


def redact(
    lake: Lake,
    table: RawTable,
    redaction: Redaction,
    partitions: Iterable[Partition],
    before_commit: Callable[[], None] = lambda: None,
    *,
    lacks_versions: bool = False,
) -> RedactResult:
    """Take out of what is stored what may not be. Old files stay until vacuumed.

    Args:
        lake: Where.
        table: The raw table.
        redaction: What may not be stored.
        partitions: The partitions to look at; some of them are read at once.
        before_commit: Called before something is changed.
        lacks_versions: Whether the table may be older than what was last written to it.
    """
    done = RedactResult(set(), {})
    wanted = set(partitions)
    sizes: dict[Partition, int] = {}
    for file in (lake.as_stored(table) if lacks_versions else lake.cached_snapshot(table)).stored_files():
        if file.partition in wanted:
            sizes[file.partition] = sizes.get(file.partition, 0) + max(file.size, _BYTES_OF_A_ROW * file.rows)
    waiting = list(in_portions(sizes, _BYTES_AT_ONCE))
    while waiting:
        some = waiting.pop()
        try:
            plan = partial(_redacted, table=table, redaction=redaction, partitions=some, before_commit=before_commit)
            done.changed.update(lake.rewrite(table, plan, repairs=lacks_versions).partitions)
        except NotRead:
            raise
        except (Damaged, ValueError) as error:
            if len(some) > 1:
                waiting += [[partition] for partition in some]
            else:
                damaged = error if isinstance(error, Damaged) else Damaged(f"{table.name} cannot be read", str(error))
                done.damaged[some[0]] = damaged
    return done


def redact_if_changed(
    lake: Lake, tables: Iterable[RawTable], redaction: Redaction, partitions: Iterable[Partition] | None
) -> None:
    """Redact what was just stored of persons who were put on the erasure list while it was read.

    Args:
        lake: The lake.
        tables: The raw tables that were written to.
        redaction: What was thought to be allowed.
        partitions: Those that were written to, if not all.

    Raises:
        Damaged: What was stored cannot be read.
    """
    erased = lake.erasure_list()
    # guard: a person erased during a read
    if erased != redaction.erased:
        # Perhaps on partitions that had nothing of them yet.
        for table in tables:
            written = (file.partition for file in lake.cached_snapshot(table).stored_files(partitions))
            if damaged := redact(lake, table, Redaction(redaction.keeps_text, erased), set(written)).damaged:
                raise next(iter(damaged.values()))
            lake.purge(table)


def rows_to_redact(
    snapshot: Snapshot, table: RawTable, redaction: Redaction, partitions: Iterable[Partition]
) -> Counter[Partition]:
    """How many stored rows of each partition `redact` would change; a file that cannot be read has none.

    Args:
        snapshot: Of the table.
        table: The raw table.
        redaction: What may not be stored.
        partitions: The partitions to look at.
    """
    found: Counter[Partition] = Counter()
    for partition in partitions:
        with suppress(Damaged, ValueError):
            found[partition] = _found(table, _stored(snapshot, [partition]), redaction)[2].num_rows
    return +found


def is_to_redact(table: RawTable, file: StoredFile, redaction: Redaction) -> bool:
    """Whether a file of a raw table has such a row; one that cannot be read has none."""
    try:
        return len(_found(table, rows_by_duckdb(table, file), redaction)[2]) > 0
    except NotRead:
        raise
    except Damaged:
        return False


def _redacted(
    snapshot: Snapshot,
    table: RawTable,
    redaction: Redaction,
    partitions: Sequence[Partition],
    before_commit: Callable[[], None],
) -> Rewrite | None:
    stored, may_change, new = _found(table, _stored(snapshot, partitions), redaction)
    changed = table.partitions_of(new)
    if not changed:
        return None
    before_commit()
    others = stored.filter(pc.and_not(table.are_in(stored, changed), may_change))
    rows = pa.concat_tables([others, new])
    return Rewrite(changed, rows.sort_by(table.key_order))


def _stored(snapshot: Snapshot, partitions: Sequence[Partition]) -> pa.Table:
    with Connection() as connection:
        return connection.rows(snapshot.query(partitions)).cast(snapshot.table.schema)


def _found(table: RawTable, stored: pa.Table, redaction: Redaction) -> tuple[pa.Table, pa.Array, pa.Table]:
    """Stored rows, which of them are to be stored otherwise, and these as they are to be stored."""
    places = pc.indices_nonzero(redaction.may_change(table, stored))
    old = stored.take(places)
    new = redaction.stored_rows(table, old)
    is_other = pa.array([a != b for a, b in zip(new.to_pylist(), old.to_pylist(), strict=True)], pa.bool_())
    is_to_change = pc.is_in(pa.array(range(stored.num_rows), pa.uint64()), places.filter(is_other))
    return stored, is_to_change, new.filter(is_other)
