"""Sessions that the API moved to another day: within a feed, a session belongs to exactly one.

Which day counts where feeds disagree is decided in `derived`.
"""

from collections.abc import Callable, Container, Iterable
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from devin_pipeline.lake import Connection, Damaged, Lake, Rewrite, Snapshot
from devin_pipeline.raw.row_hash import with_row_hash
from devin_pipeline.raw.row_integrity import damaged_days
from devin_pipeline.raw.versions import rewrite_with
from devin_pipeline.tables import RawTable, Table

_HERE = Path(__file__).parent
_HOLDINGS = (_HERE / "holdings.sql").read_text()
_MOVES = (_HERE / "moves.sql").read_text()
_PAIRS = (_HERE / "pairs.sql").read_text()
_DAYS_WITH_VERSIONS = (_HERE / "days_with_versions.sql").read_text()
_LOOKED_AT = "day, session_id, created_at, updated_at, fetched_at, is_listed, moved_to"
_ON_SEVERAL_DAYS = """
    select session_id from stored group by session_id having min(day) <> max(day) or bool_or(moved_to is not null)
"""

# At some hundred bytes each.
_MOST_IDS = 3_000_000

Pairs = set[tuple[date, date]]
"""Days that have sessions in common."""


def with_moves(
    snapshot: Snapshot, added: pa.Table, days: Container[date], read_at: datetime, hour: int
) -> tuple[pa.Table, Pairs]:
    """The versions and tombstones to add, with a tombstone on each day that a session left for another.

    Also the pairs of days that have versions of a session that moves.

    Args:
        snapshot: Of the raw table they are added to.
        added: They, with `is_new`: true for a version of a session that its day does not have.
        days: The days of the read.
        read_at: When the read began.
        hour: Hour of the UTC day at which a billing day starts.
    """
    wanted = added.filter(pc.or_(added.column("is_new"), pc.invert(added.column("is_listed"))))
    if not wanted.num_rows:
        return added.drop_columns(["is_new"]), set()
    holdings = _holdings(snapshot, wanted.select(["session_id"]))
    if not holdings.num_rows:
        return added.drop_columns(["is_new"]), set()
    with Connection() as connection:
        connection.register("added", added)
        connection.register("holdings", holdings)
        rows = connection.rows(_MOVES, {"read_at": read_at, "now": datetime.now(UTC)})
    left = {day for day in pc.unique(rows.column("day")).to_pylist() if day not in days}
    # A damaged day is not written over. Once it is repaired and read again, what left it is missing from that read. Its
    # link has what left it count once until then.
    # guard: a damaged day that a session left
    #   | = damaged_days(snapshot, left, hour) if left else -> : dict[date, str] =
    damaged = damaged_days(snapshot, left, hour) if left else {}
    pairs = _pairs(holdings, rows)
    rows = rows.filter(pc.invert(pc.is_in(rows.column("day"), pa.array(damaged, pa.date32())))) if damaged else rows
    return rows, pairs


class HeldSessions:
    """The ids of the sessions that a feed holds, for all parts of a read.

    A part of new days asks whether another day holds some of its sessions. Were the stored files read for each part,
    the first backfill of a large enterprise would read them hundreds of times.
    """

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._version: int | None = None
        self._lookups = 0

    def has_any(self, snapshot: Snapshot, session_ids: pa.ChunkedArray) -> bool:
        """Whether any day of a feed has a row of some of these sessions.

        Args:
            snapshot: Of the raw table of the feed.
            session_ids: The ids of the sessions.
        """
        if not snapshot.files():
            self._ids, self._version = set(), snapshot.version
        # guard: what another run stored between two parts of a read
        elif self._version != snapshot.version:
            self._lookups += 1
            if self._lookups == 1 or snapshot.rows_per_day().total() > _MOST_IDS:
                # One look at these sessions takes less than one at all ids, which pays from the second on.
                return bool(_holdings(snapshot, pa.table({"session_id": session_ids})).num_rows)
            self._ids, self._version = set(_ids_of(snapshot)), snapshot.version
        ids: list[str] = session_ids.to_pylist()
        return not self._ids.isdisjoint(ids)

    def add(self, session_ids: pa.ChunkedArray, planned_from: int | None, version: int | None) -> None:
        """Take in the sessions of a part that was landed.

        Args:
            session_ids: The ids of its sessions.
            planned_from: The version of the table that it was added to.
            version: The version that has it; None when there was nothing to add.
        """
        # guard: what another run stored before a part of a stored day | self._version != planned_from -> False
        if self._version != planned_from or (version or 0) > (planned_from or 0) + 1:
            # Another run wrote in between.
            return
        self._ids.update(session_ids.to_pylist())
        self._version = planned_from if version is None else version


def settle(lake: Lake, table: RawTable, hour: int, session_ids: Iterable[str] | None = None) -> set[date]:
    """Have each session of a feed on one day, where several hold it or none does: on that of its newest version.

    Args:
        lake: The lake.
        table: The raw table of the feed.
        hour: Hour of the UTC day at which a billing day starts.
        session_ids: The sessions to look at; all when left out.

    Returns:
        The days that were written: those that sessions left or are on again. Damaged ones are not.
    """
    wanted = None if session_ids is None else pa.table({"session_id": pa.array(session_ids, pa.string())})

    def moved(snapshot: Snapshot) -> Rewrite | None:
        holdings = _holdings(snapshot, wanted)
        tombstones = _tombstones(snapshot.table, holdings)
        damaged = damaged_days(snapshot, pc.unique(tombstones.column("day")).to_pylist(), hour)
        tombstones = tombstones.filter(pc.invert(pc.is_in(tombstones.column("day"), pa.array(damaged, pa.date32()))))
        lake.note_links(_pairs(holdings, tombstones))
        return rewrite_with(snapshot, table, with_row_hash(table, tombstones))

    return set(lake.rewrite(table, moved).days)


def tombstones_of_pairs(snapshot: Snapshot) -> pa.Table:
    """The tombstones that sessions lack which are not on exactly one day, in the table's schema and key order."""
    return _tombstones(snapshot.table, _holdings(snapshot, None))


def _tombstones(table: Table, holdings: pa.Table) -> pa.Table:
    with Connection() as connection:
        connection.register("holdings", holdings)
        rows = connection.rows(_PAIRS, {"now": datetime.now(UTC)})
    columns = {name: rows.column(name) if name in rows.column_names else None for name in table.column_names}
    nulls = pa.nulls(rows.num_rows)
    return pa.table({name: nulls if column is None else column for name, column in columns.items()}).cast(table.schema)


def days_held(snapshot: Snapshot, session_ids: Iterable[str]) -> dict[str, set[date]]:
    """The days on which a feed holds each of these sessions, as far as it holds them."""
    held: dict[str, set[date]] = {}
    wanted = pa.table({"session_id": pa.array(session_ids, pa.string())})
    for row in _holdings(snapshot, wanted).select(["session_id", "day", "has_moved"]).to_pylist():
        if row["has_moved"]:
            continue
        held.setdefault(row["session_id"], set()).add(row["day"])
    return held


def _pairs(holdings: pa.Table, moves: pa.Table) -> Pairs:
    if not moves.num_rows or moves.column("moved_to").null_count == moves.num_rows:
        return set()
    with Connection() as connection:
        connection.register("holdings", holdings)
        connection.register("moves", moves.select(["session_id", "moved_to"]))
        pairs = connection.rows(_DAYS_WITH_VERSIONS).to_pylist()
    return {(pair["day"], pair["other_day"]) for pair in pairs}


def _holdings(snapshot: Snapshot, wanted: pa.Table | None) -> pa.Table:
    """What each day holds of the sessions wanted (None: of those that several days have)."""

    def holdings(connection: Connection) -> pa.Table:
        if wanted is None:
            connection.create_table("wanted", _ON_SEVERAL_DAYS)
        else:
            connection.register("wanted", wanted)
        return connection.rows(_HOLDINGS)

    return _of_readable_days(snapshot, holdings)


def _ids_of(snapshot: Snapshot) -> list[str]:
    """The ids of all sessions that a feed holds."""
    ids = _of_readable_days(snapshot, lambda connection: connection.rows("select distinct session_id from stored"))
    found: list[str] = ids.column("session_id").to_pylist()
    return found


def _of_readable_days(snapshot: Snapshot, select: Callable[[Connection], pa.Table]) -> pa.Table:
    """What is selected from `stored`, which lacks damaged days: they hold back no other."""

    def selected(query: str) -> pa.Table:
        with Connection(remembers_footers=True) as connection:
            connection.create_view("stored", f"select {_LOOKED_AT} from ({query})")  # noqa: S608 - our own names
            return select(connection)

    try:
        return selected(snapshot.query())
    except Damaged:
        return selected(snapshot.query(snapshot.readable_days(_LOOKED_AT, snapshot.rows_per_day())))
