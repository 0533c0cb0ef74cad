"""Appends versions and tombstones to raw tables, whatever they hold; history is only ever added to.

An object that a read returned gets a version where it differs from what is stored of it last. One that is missing from
what was read whole gets a tombstone. What is read, and what else sessions need, does not belong here.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from devin_pipeline.errors import ValidationFailed
from devin_pipeline.lake import Commit, Connection, Damaged, Lake, Rewrite, Snapshot
from devin_pipeline.raw.erasure import redact_if_changed
from devin_pipeline.raw.redaction import Redaction
from devin_pipeline.raw.row_hash import ROW_HASH, with_row_hash
from devin_pipeline.tables import Partition, RawTable

_NEW_VERSIONS = (Path(__file__).parent / "new_versions.sql").read_text()
_IS_NEW = "latest.fetched_at is null as is_new"


def append_versions(
    lake: Lake,
    table: RawTable,
    items: pa.Table,
    read_at: datetime,
    *,
    read_whole: pa.Table | None = None,
    keeps_text: bool = True,
) -> Commit:
    """Add what a read returned that is not stored yet, and tombstones for what it no longer returned.

    Args:
        lake: The lake.
        table: A raw table of versions.
        items: What was read, a row per object: the table's columns but `fetched_at`, `is_listed`, `redacted` and
            `row_hash`.
        read_at: When the read began; versions fetched later than that are newer than it.
        read_whole: What was read whole, as values of some key columns: stored objects with these that are not among
            the items get a tombstone. None writes no tombstone.
        keeps_text: False when free text may not be stored.

    Raises:
        ValidationFailed: An object is among the items twice.
        Damaged: What is stored cannot be read, or a stored row that would be written again has changed.
    """
    redaction = Redaction(keeps_text, lake.erasure_list())
    items = redaction.keys(table, items).sort_by([(name, "ascending") for name in table.object_key])
    if items.group_by(list(table.object_key)).aggregate([]).num_rows != items.num_rows:
        raise ValidationFailed("What the API returned was not stored", f"an object of {table.name} was returned twice")
    items = items.append_column("place", pa.array(range(items.num_rows), pa.int64()))
    whole = table.schema.empty_table().select(table.object_key[:1]) if read_whole is None else read_whole
    partitions: list[Partition] | None = None
    if whole.num_rows == 0:
        partitions = table.partitions_of(items)
    elif table.partitioned_by in whole.column_names:
        partitions = [*table.partitions_of(items), *table.partitions_of(whole)]

    def added(snapshot: Snapshot) -> Rewrite | None:
        compared = [name for name in table.column_names if name not in (table.payload, ROW_HASH)]
        with Connection() as connection:
            connection.create_table("known", f"select {', '.join(compared)} from ({snapshot.query(partitions)})")  # noqa: S608 - our own names
            connection.register("items", items.drop_columns([table.payload]))
            connection.register("read_whole", whole)
            new = new_versions(connection, table, read_at, whole.column_names)
            some_redacted = connection.rows("from known where redacted is not null limit 1").num_rows > 0
        again = redacted_otherwise(snapshot, table, partitions, redaction, items if some_redacted else None)
        return with_rows(snapshot, table, redaction, rows_to_add(table, new, items), again)

    commit = lake.rewrite(table, added)
    redact_if_changed(lake, [table], redaction, partitions)
    return commit


def new_versions(
    connection: Connection, table: RawTable, read_at: datetime, read_whole: Sequence[str], more: str = _IS_NEW
) -> pa.Table:
    """The versions and tombstones to add, in key order; `place` is null for a tombstone.

    Args:
        connection: Holds `known` (stored rows), `items` (what was read, by its `place`) and `read_whole`.
        table: A raw table of versions.
        read_at: When the read began.
        read_whole: The columns of `read_whole`.
        more: Further columns of a version, of `items` and `latest`, the last that is stored of the same object.
    """
    names = {
        "$object": ", ".join(table.object_key),
        "$whole": ", ".join(read_whole),
        "$kept": ", ".join(f"latest.{name}" for name in (*table.object_key, *table.kept_by_tombstones)),
        # A tombstone has none of them, so what comes back unchanged differs from it.
        # guard: a session that comes back unchanged | is distinct from -> <>
        "$differs": " or ".join(f"latest.{name} is distinct from items.{name}" for name in table.compared),
        "$more": more,
    }
    query = _NEW_VERSIONS
    for name, columns in names.items():
        query = query.replace(name, columns)
    return connection.rows(query, {"read_at": read_at, "now": datetime.now(UTC)})


def rows_to_add(table: RawTable, new: pa.Table, items: pa.Table) -> pa.Table:
    """Versions and tombstones as rows of the table, each version with the payload of its item.

    Args:
        table: The raw table.
        new: Versions and tombstones; columns of the table that they lack are null.
        items: What was read; a version's `place` is its place among them.
    """
    is_all = new.num_rows == items.num_rows and new.column("place").equals(items.column("place"))
    payloads = items.column(table.payload)
    columns = {
        field.name: new.column(field.name) if field.name in new.column_names else pa.nulls(new.num_rows, field.type)
        for field in table.schema
    }
    columns[table.payload] = payloads if is_all else payloads.take(new.column("place"))
    return pa.table(columns).cast(table.schema)


def redacted_otherwise(
    snapshot: Snapshot,
    table: RawTable,
    partitions: Sequence[Partition] | None,
    redaction: Redaction,
    items: pa.Table | None,
) -> pa.Table:
    """Stored rows that are to be stored otherwise now that DEVIN_TEXT has changed, before they are redacted.

    Text that is to go is taken out of every version; of what was blanked and is allowed again, the version that the API
    still returns comes back. No version is added: the content is the same.

    Args:
        snapshot: Of the raw table.
        table: The table.
        partitions: Those to look at; None for all.
        redaction: What may be stored.
        items: What was read, if something that is stored may come back. A column `hash_of_before` holds hashes that
            older versions of the code gave the same content.
    """
    if items is None and redaction.keeps_text:
        return table.schema.empty_table()
    with Connection() as connection:
        connection.create_view("known", snapshot.query(partitions))
        if items is None or not redaction.keeps_text:
            query = f"from known where {table.payload} is not null and redacted is distinct from 'text'"
        else:
            connection.register("items", items)
            hashes = [f"items.{name}" for name in ("content_hash", "hash_of_before") if name in items.column_names]
            objects = ", ".join(table.object_key)
            query = f"""
                select known.* replace (items.{table.payload} as {table.payload}, null as redacted)
                from known inner join items using ({objects})
                where
                    known.redacted = 'text' and known.is_listed
                    and known.content_hash in ({", ".join(hashes)})
                qualify row_number() over (partition by {objects} order by known.fetched_at desc) = 1
            """  # noqa: S608 - our own names
        return connection.rows(query).cast(table.schema)


def with_rows(
    snapshot: Snapshot, table: RawTable, redaction: Redaction, added: pa.Table, again: pa.Table
) -> Rewrite | None:
    """What the partitions of some new rows hold once these are stored, redacted in one pass; None when nothing is new.

    Args:
        snapshot: Of the raw table.
        table: The table.
        redaction: What may be stored.
        added: New rows, in key order.
        again: Stored rows that are to be stored otherwise.
    """
    rows = redaction.new_rows(table, pa.concat_tables([added, again]) if again.num_rows else added)
    if again.num_rows:
        if redaction.keeps_text:
            # Blanked again: of somebody who was erased.
            is_blank = pc.equal(pc.fill_null(rows.column("redacted"), ""), "text")
            is_new = pa.array([place < added.num_rows for place in range(rows.num_rows)], pa.bool_())
            rows = rows.filter(pc.or_(is_new, pc.invert(is_blank)))
        rows = rows.sort_by(table.key_order)
    return rewrite_with(snapshot, table, rows)


def rewrite_with(snapshot: Snapshot, table: RawTable, new: pa.Table) -> Rewrite | None:
    """The partitions of some rows with what they hold and these; None when there are none.

    Args:
        snapshot: Of the raw table.
        table: The table.
        new: Rows with their row hash, in key order. They replace stored rows of the same key.

    Raises:
        Damaged: As `joined`.
    """
    if not new.num_rows:
        return None
    partitions = table.partitions_of(new)
    if not snapshot.files(partitions):
        return Rewrite(partitions, new)
    with Connection() as connection:
        connection.register("new", new.select(list(table.key)))
        connection.create_view("stored", snapshot.query(partitions))
        kept = connection.rows(f"from stored anti join new using ({', '.join(table.key)})").cast(table.schema)
    return Rewrite(partitions, joined(table, kept, new))


def joined(table: RawTable, stored: pa.Table, new: pa.Table) -> pa.Table:
    """Stored rows and new ones in key order; a stored row from before `row_hash` gets one now.

    Args:
        table: A raw table.
        stored: Rows as they are stored in it.
        new: Rows with their row hash, in key order.

    Raises:
        Damaged: A stored row does not give its row hash. Written again it would seem intact, and the file that still
            holds what it was would be vacuumed.
    """
    hashed = with_row_hash(table, stored)
    stored_hashes, hashes = stored.column(ROW_HASH), hashed.column(ROW_HASH)
    broken = stored.filter(pc.not_equal(pc.coalesce(stored_hashes, hashes), hashes))
    # guard: damage: a changed raw row written again
    if broken.num_rows:
        where = ", ".join(sorted(str(partition) for partition in table.partitions_of(broken) if partition is not None))
        raise Damaged(f"{table.name} was not written", f"stored rows{f' of {where}' if where else ''} changed")
    if not stored.num_rows:
        return new
    return pa.concat_tables([hashed, new]).sort_by(table.key_order)
