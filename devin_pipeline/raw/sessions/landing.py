"""From one read of the API to the lake: days, versions, quarantine, and validation before the commit."""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from devin_pipeline.billing_calendar import day_of
from devin_pipeline.devin_api import Item, SessionBatch, content_hash, content_hash_as_spelled
from devin_pipeline.errors import ValidationFailed
from devin_pipeline.lake import Connection, Lake, Rewrite, Snapshot
from devin_pipeline.raw.erasure import redact_if_changed
from devin_pipeline.raw.redaction import Redaction
from devin_pipeline.raw.sessions.moved_sessions import HeldSessions, Pairs, settle, with_moves
from devin_pipeline.raw.versions import new_versions, redacted_otherwise, rows_to_add, with_rows
from devin_pipeline.tables import ACUS, INSTANT, RAW_QUARANTINE, RawTable

_UNKNOWN_ITEMS = (Path(__file__).parent / "unknown_items.sql").read_text()
# Of a version with the same instants, which may say the same in the spelling that its hash was taken of, the hash.
_OF_SESSIONS = """
    (latest.fetched_at is null or latest.moved_to is not null) as is_new,
    if(
        latest.created_at = items.created_at and latest.updated_at is not distinct from items.updated_at,
        latest.content_hash,
        null
    ) as last_content_hash
"""
_LAST_AS_SENT = """
    select doubtful.place, doubtful.content_hash, known.payload
    from doubtful inner join known
        on doubtful.day = known.day
        and doubtful.session_id = known.session_id
        and doubtful.last_fetched_at = known.fetched_at
    where known.redacted is null and known.payload is not null
"""
# What is looked at of every stored row; payloads are most of what there is to read.
_COMPARED = (
    "day",
    "session_id",
    "created_at",
    "updated_at",
    "fetched_at",
    "content_hash",
    "is_listed",
    "redacted",
    "moved_to",
)


@dataclass
class LandingResult:
    """What one read did to the lake, per day.

    Attributes:
        placed: Sessions the API lists, each once.
        acus: Their ACUs to date, the unknown ones left out.
        new_versions: Versions added.
        unlisted: Tombstones added, other than of sessions that moved to another day.
        quarantined: Items of this read that could not be placed.
        items_read: Items of this read, each session once.
        moved: Sessions that were found on another day.
    """

    placed: Counter[date] = field(default_factory=Counter)
    acus: dict[date, Decimal] = field(default_factory=dict)
    new_versions: Counter[date] = field(default_factory=Counter)
    unlisted: Counter[date] = field(default_factory=Counter)
    quarantined: Counter[date] = field(default_factory=Counter)
    items_read: Counter[date] = field(default_factory=Counter)
    moved: Counter[date] = field(default_factory=Counter)

    def figures(self, day: date) -> dict[str, int | Decimal]:
        """The figures of one day, under the names Dagster plots them by."""
        return {
            "items_read": self.items_read[day],
            "placed": self.placed[day],
            "quarantined": self.quarantined[day],
            "acus": self.acus.get(day, Decimal(0)),
            "new_versions": self.new_versions[day],
            "unlisted": self.unlisted[day],
        }


def land(
    lake: Lake,
    table: RawTable,
    listing: SessionBatch,
    days: Sequence[date],
    read_at: datetime,
    hour: int,
    *,
    keeps_text: bool = True,
    held: HeldSessions | None = None,
) -> LandingResult:
    """Add to `table` what `listing` has new of `days`, and to the quarantine what cannot be accepted.

    Args:
        lake: Where to.
        table: The raw table of the feed that was read.
        listing: A read of `days`, each of them whole.
        days: The days that were read whole, oldest first.
        read_at: When the read began; versions fetched later than that are newer than it.
        hour: Hour of the UTC day at which a billing day starts.
        keeps_text: False when free text may not be stored (DEVIN_TEXT=none).
        held: The sessions that the feed holds, kept from one part of a read to the next.

    Raises:
        ValidationFailed: A session stands twice or outside the days, or items got lost on the way here.
        Damaged: What is stored cannot be read, or a stored row that would be written again has changed.
    """
    held = HeldSessions() if held is None else held
    redaction = Redaction(keeps_text, lake.erasure_list())
    items = _placed(table, listing.items, hour, redaction)
    quarantine = redaction.keys(table, _quarantined(listing.items, table, days[0], read_at, hour))
    _pass_gate(items, quarantine, listing, days)

    if quarantine.num_rows or not keeps_text:
        lake.rewrite(RAW_QUARANTINE, lambda snapshot: _with_unknown(snapshot, quarantine, days, redaction))
    added = pa.table({})
    planned_from: int | None = None

    def with_new_versions(snapshot: Snapshot) -> Rewrite | None:
        nonlocal added, planned_from
        planned_from = snapshot.version
        added, is_redacted, pairs = _new_versions(snapshot, table, items, quarantine, days, read_at, hour, held)
        lake.note_links(pairs)
        returned = items.append_column("hash_of_before", _hashes_of_before(items)) if is_redacted else None
        again = redacted_otherwise(snapshot, table, days, redaction, returned)
        return with_rows(snapshot, table, redaction, added, again)

    commit = lake.rewrite(table, with_new_versions)
    held.add(items.column("session_id"), planned_from, commit.version)
    # guard: a session that two runs land on two days at once | commit.version > (planned_from or 0) + 1 -> False
    if commit.version is not None and commit.version > (planned_from or 0) + 1:
        # Another run wrote other days meanwhile, perhaps of the same sessions.
        settle(lake, table, hour, pc.unique(added.column("session_id")).to_pylist())
    redact_if_changed(lake, [table, RAW_QUARANTINE], redaction, days)
    landed = _landed(items, quarantine, added)
    # Counted again from what was read, not from what became of it: a check compares the two.
    read_of = _days_of(pa.array([item.created_at for item in listing.items], INSTANT), hour).fill_null(days[0])
    landed.items_read = _counted(read_of)
    return landed


_QUARANTINED = pa.schema(
    [
        *RAW_QUARANTINE.schema,
        ("session_id", pa.string()),
        ("has_day", pa.bool_()),
        ("hash_of_before", pa.string()),
    ]
)


def _days_of(instants: pa.Array, hour: int) -> pa.Array:
    """The billing day of each instant, as `day_of` gives it for one."""
    return pc.subtract(instants, timedelta(hours=hour)).cast(pa.date32())


def _placed(table: RawTable, items: Sequence[Item], hour: int, redaction: Redaction) -> pa.Table:
    placed = [item for item in items if item.rejection_reason is None]
    created_at = pa.array([item.created_at for item in placed], INSTANT)
    keys = pa.table(
        {
            "day": _days_of(created_at, hour),
            "session_id": pa.array([item.session_id for item in placed], pa.string()),
            "created_at": created_at,
            "updated_at": pa.array([item.updated_at for item in placed], INSTANT),
            "acus": pa.array([item.acus for item in placed], ACUS),
            "content_hash": pa.array([item.content_hash for item in placed], pa.string()),
            "is_respelled": pa.array([item.is_respelled for item in placed], pa.bool_()),
        }
    )
    keys = redaction.keys(table, keys)
    # In key order from here on: payloads are most of the bytes, and sorting rows later would copy them.
    order = pc.sort_indices(keys, [("day", "ascending"), ("session_id", "ascending")])
    payloads = [placed[place].payload for place in order.to_pylist()]
    place = pa.array(range(len(placed)), pa.int64())
    return keys.take(order).append_column("place", place).append_column("payload", _texts(payloads))


def _texts(texts: Sequence[bytes]) -> pa.Array | pa.ChunkedArray:
    """A column of texts, each copied once; their pages were UTF-8 as a whole."""
    try:
        bounds = array("i", accumulate(map(len, texts), initial=0))
    except OverflowError:
        # More bytes than 32 bits count; Arrow makes several chunks of them.
        return pa.array(texts, pa.string())
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(bounds), pa.py_buffer(b"".join(texts)))


def _quarantined(items: Sequence[Item], table: RawTable, first_day: date, read_at: datetime, hour: int) -> pa.Table:
    unplaced = [item for item in items if item.rejection_reason is not None]
    rows = [
        {
            "day": day_of(item.created_at, hour) if item.created_at else first_day,
            "feed": table.name,
            "fetched_at": read_at,
            "content_hash": item.content_hash,
            "hash_of_before": content_hash_as_spelled(item.payload) if item.is_respelled else item.content_hash,
            "reason": item.rejection_reason,
            "payload": item.payload.decode(),
            "session_id": item.session_id,
            "has_day": item.created_at is not None,
        }
        for item in unplaced
    ]
    return pa.Table.from_pylist(rows, _QUARANTINED)


def _pass_gate(items: pa.Table, quarantine: pa.Table, listing: SessionBatch, days: Sequence[date]) -> None:
    if items.num_rows + quarantine.num_rows != len(listing.items):
        raise _failed(f"({len(listing.items)}) {items.num_rows} are accepted and {quarantine.num_rows} quarantined")
    # guard: validation: a session twice | != items.num_rows -> < 0
    if pc.count_distinct(items.column("session_id")).as_py() != items.num_rows:
        raise _failed("two are of one session")
    # guard: validation: other days | days -> items.column('day').to_pylist()
    if others := set(pc.unique(items.column("day")).to_pylist()) - set(days):
        raise _failed(f"some are of days that were not asked for: {', '.join(map(str, sorted(others)))}")


def _failed(why: str) -> ValidationFailed:
    return ValidationFailed("What the API returned was not stored", f"of the items read {why}")


def _with_unknown(
    snapshot: Snapshot, quarantine: pa.Table, days: Sequence[date], redaction: Redaction
) -> Rewrite | None:
    with Connection() as connection:
        connection.register("quarantine", quarantine)
        connection.create_view("known", snapshot.query())
        unknown = connection.rows(_UNKNOWN_ITEMS).cast(RAW_QUARANTINE.schema)
    again = redacted_otherwise(snapshot, RAW_QUARANTINE, days, redaction, None)
    return with_rows(snapshot, RAW_QUARANTINE, redaction, unknown, again)


def _new_versions(
    snapshot: Snapshot,
    table: RawTable,
    items: pa.Table,
    quarantine: pa.Table,
    days: Sequence[date],
    read_at: datetime,
    hour: int,
    held: HeldSessions,
) -> tuple[pa.Table, bool, Pairs]:
    """The versions and tombstones to add, and whether anything that is stored of these days was redacted.

    Also the pairs of days that have sessions in common from now on.
    """
    if not snapshot.files(days) and not held.has_any(snapshot, items.column("session_id")):
        return _first_versions(table, items, read_at), False, set()
    with Connection() as connection:
        connection.create_table("known", f"select {', '.join(_COMPARED)} from ({snapshot.query(days)})")  # noqa: S608 - our own names
        connection.register("items", items.drop_columns(["payload"]))
        connection.register("read_whole", pa.table({"day": pa.array(days, pa.date32())}))
        added = new_versions(connection, table, read_at, ["day"], _OF_SESSIONS)
        redacted = connection.rows("from known where redacted is not null limit 1").num_rows
    added = _without_respelled(snapshot, _without_quarantined(added, quarantine), items)
    moved_to = pa.nulls(added.num_rows, pa.date32())
    added = added.append_column("moved_to", moved_to).set_column(
        added.column_names.index("is_new"), "is_new", pc.fill_null(added.column("is_new"), False)
    )
    # guard: the day a session left
    #   | with_moves(snapshot, added, days, read_at, hour) -> added.drop_columns(["is_new"]), Pairs()
    added, pairs = with_moves(snapshot, added, days, read_at, hour)
    return rows_to_add(table, added, items), redacted > 0, pairs


def _without_quarantined(added: pa.Table, quarantine: pa.Table) -> pa.Table:
    """The versions and tombstones to add without tombstones of sessions that are listed in a form that is unusable."""
    if not quarantine.num_rows:
        return added
    # guard: a tombstone for what is quarantined | combine_chunks() -> combine_chunks().slice(0, 0)
    is_quarantined = pc.is_in(added.column("session_id"), quarantine.column("session_id").combine_chunks())
    # An item that could not be read may be any session of its day.
    unread = quarantine.filter(pc.equal(quarantine.column("payload"), "")).column("day")
    # guard: a tombstone for what may be unread | combine_chunks() -> combine_chunks().slice(0, 0)
    may_be_unread = pc.is_in(added.column("day"), unread.combine_chunks())
    return added.filter(pc.or_(added.column("is_listed"), pc.invert(pc.or_(is_quarantined, may_be_unread))))


def _without_respelled(snapshot: Snapshot, added: pa.Table, items: pa.Table) -> pa.Table:
    """The versions to add without those that the last version of their session equals but for the rule of its hash.

    A hash of before instants counted by value and tags as a set is that of the spelling it was sent in.
    """
    doubtful = added.filter(pc.is_valid(added.column("last_content_hash")))
    added = added.drop_columns(["last_content_hash", "last_fetched_at"])
    if not doubtful.num_rows:
        return added
    of_before = _hashes_of_before(items.take(doubtful.column("place")))
    is_same = pc.equal(of_before, doubtful.column("last_content_hash"))
    # guard: spelling: versions that a lake of before has, in its spelling | is_same -> pc.and_(is_same, False)
    same = set(doubtful.column("place").filter(is_same).to_pylist())
    if len(same) < doubtful.num_rows:
        with Connection() as connection:
            connection.register("doubtful", doubtful.filter(pc.invert(is_same)))
            connection.create_view("known", snapshot.query(pc.unique(doubtful.column("day")).to_pylist()))
            last = connection.rows(_LAST_AS_SENT).to_pylist()
        same |= {row["place"] for row in last if _has_content(row["payload"], row["content_hash"])}
    places = added.column("place")
    return added.filter(pc.invert(pc.is_in(places, pa.array(same, places.type)))) if same else added


def _has_content(payload: str, content: str) -> bool:
    try:
        # guard: spelling: versions that a lake of before has, in another
        #   | content_hash(payload.encode()) == content -> False
        return content_hash(payload.encode()) == content
    except ValueError:
        # It changed on disk, which is found before it would be written again.
        return False


def _hashes_of_before(items: pa.Table) -> pa.ChunkedArray:
    """What each item's `content_hash` was before instants counted by value and tags as a set."""
    hashes, respelled = items.column("content_hash").combine_chunks(), items.column("is_respelled").combine_chunks()
    payloads = items.column("payload").filter(respelled).to_pylist()
    of_before = pa.array([content_hash_as_spelled(payload.encode()) for payload in payloads], pa.string())
    return pa.chunked_array([pc.replace_with_mask(hashes, respelled, of_before)], pa.string())


def _first_versions(table: RawTable, items: pa.Table, read_at: datetime) -> pa.Table:
    """What `new_versions.sql` gives where nothing is known: every item."""
    first = {
        "fetched_at": pa.repeat(pa.scalar(read_at, INSTANT), items.num_rows),
        "is_listed": pa.repeat(True, items.num_rows),
        "redacted": pa.nulls(items.num_rows),
        "moved_to": pa.nulls(items.num_rows),
        "row_hash": pa.nulls(items.num_rows),
    }
    columns = {name: first[name] if name in first else items.column(name) for name in table.column_names}
    return pa.table(columns).cast(table.schema)


def _landed(items: pa.Table, quarantine: pa.Table, added: pa.Table) -> LandingResult:
    landed = LandingResult()
    for row in items.group_by("day").aggregate([([], "count_all"), ("acus", "sum")]).to_pylist():
        landed.placed[row["day"]] = row["count_all"]
        landed.acus[row["day"]] = row["acus_sum"] or Decimal(0)
    landed.quarantined = _counted(quarantine.column("day"))
    landed.new_versions = _counted(added.column("day").filter(added.column("is_listed")))
    is_unlisted = pc.and_(pc.invert(added.column("is_listed")), pc.is_null(added.column("moved_to")))
    landed.unlisted = _counted(added.column("day").filter(is_unlisted))
    landed.moved = _counted(added.column("day").filter(pc.is_valid(added.column("moved_to"))))
    return landed


def _counted(days: pa.Array) -> "Counter[date]":
    return Counter({row["values"].as_py(): row["counts"].as_py() for row in pc.value_counts(days)})
