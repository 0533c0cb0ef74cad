"""From one read of the API to the lake: days, versions, quarantine, and the gate before the commit."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from devin_pipeline.billing_calendar import day_of
from devin_pipeline.devin_api import Item, SessionBatch, content_hash, content_hash_as_spelled
from devin_pipeline.errors import ValidationFailed
from devin_pipeline.lake import (
    Damaged,
    Lake,
    NotRead,
    Reader,
    Rewrite,
    Snapshot,
    StoredFile,
    in_portions,
    rows_by_duckdb,
)
from devin_pipeline.raw.moved_sessions import HeldSessions, Pairs, settle, with_moves
from devin_pipeline.raw.redaction import Redaction
from devin_pipeline.raw.row_hash import extended_days, with_row_hash
from devin_pipeline.tables import ACUS, INSTANT, RAW_QUARANTINE, Table

_NEW_VERSIONS = (Path(__file__).parent / "new_versions.sql").read_text()
_UNKNOWN_ITEMS = (Path(__file__).parent / "unknown_items.sql").read_text()
_NOT_BLANKED = "from known where payload is not null and redacted is distinct from 'text'"
_BLANKED = """
    select known.* replace (items.payload as payload, null as redacted)
    from known inner join items using (day, session_id)
    where
        known.redacted = 'text' and known.is_listed
        and known.content_hash in (items.content_hash, items.hash_of_before)
    qualify row_number() over (partition by known.day, known.session_id order by known.fetched_at desc) = 1
"""
_LAST_AS_SENT = """
    select doubtful.place, doubtful.content_hash, known.payload
    from doubtful inner join known
        on doubtful.day = known.day
        and doubtful.session_id = known.session_id
        and doubtful.last_fetched_at = known.fetched_at
    where known.redacted is null and known.payload is not null
"""
# What is redacted at once; a row counts as so many bytes at least, since blanked text is stored in next to none.
_BYTES_AT_ONCE = 32 * 2**20
_BYTES_OF_A_ROW = 2_000
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
class Landed:
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
    table: Table,
    listing: SessionBatch,
    days: Sequence[date],
    read_at: datetime,
    hour: int,
    *,
    keeps_text: bool = True,
    held: HeldSessions | None = None,
) -> Landed:
    """Add to `table` what `listing` tells anew about `days`, and to the quarantine what cannot be placed.

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
    items = _placed(listing.items, hour, redaction)
    quarantine = _quarantined(listing.items, table, days[0], read_at, hour, redaction)
    _pass_gate(items, quarantine, listing, days)

    if quarantine.num_rows or not keeps_text:
        lake.rewrite(RAW_QUARANTINE, lambda snapshot: _with_unknown(snapshot, quarantine, days, redaction))
    added = pa.table({})
    planned_from: int | None = None

    def with_new_versions(snapshot: Snapshot) -> Rewrite | None:
        nonlocal added, planned_from
        planned_from = snapshot.version
        added, is_redacted, pairs = _new_versions(snapshot, items, quarantine, days, read_at, hour, held)
        lake.note_links(pairs)
        added = redaction.rows(table, added)
        retold = _retold(snapshot, days, redaction, items) if is_redacted or not keeps_text else added.slice(0, 0)
        return _extended(snapshot, with_row_hash(table, added), with_row_hash(table, retold))

    commit = lake.rewrite(table, with_new_versions)
    held.add(items.column("session_id"), planned_from, commit.version)
    # guard: a session that two runs land on two days at once | commit.version > (planned_from or 0) + 1 -> False
    if commit.version is not None and commit.version > (planned_from or 0) + 1:
        # Another run wrote other days meanwhile, perhaps of the same sessions.
        settle(lake, table, hour, pc.unique(added.column("session_id")).to_pylist())
    # guard: who is forgotten during a read
    if lake.erasure_list() != redaction.forgotten:
        # Somebody was to be forgotten meanwhile, perhaps on days that had nothing of them yet.
        for written in (table, RAW_QUARANTINE):
            if damaged := redact(lake, written, Redaction(keeps_text, lake.erasure_list()), days).damaged:
                raise next(iter(damaged.values()))
            lake.purge(written)
    landed = _landed(items, quarantine, added)
    # Counted anew from what was read, not from what became of it: a check compares the two.
    read_of = _days_of(pa.array([item.created_at for item in listing.items], INSTANT), hour).fill_null(days[0])
    landed.items_read = _counted(read_of)
    return landed


class RedactResult(NamedTuple):
    """What `redact` did.

    Attributes:
        changed: The days that changed.
        damaged: The days that could not be read, and the error of each.
    """

    changed: set[date]
    damaged: dict[date, Damaged]


def redact(
    lake: Lake,
    table: Table,
    redaction: Redaction,
    days: Iterable[date | None],
    before_commit: Callable[[], None] = lambda: None,
    *,
    lacks_versions: bool = False,
) -> RedactResult:
    """Take out of what is stored what may not be. Old files stay until vacuumed.

    Args:
        lake: Where.
        table: A raw session table or the quarantine.
        redaction: What may not be stored.
        days: The days to look at; some of them are read at once.
        before_commit: Called before something is changed.
        lacks_versions: Whether the table may be older than what was last written to it.
    """
    done = RedactResult(set(), {})
    wanted = set(days)
    sizes: dict[date | None, int] = {}
    for file in (lake.as_stored(table) if lacks_versions else lake.newest(table)).stored_files():
        if file.day in wanted:
            sizes[file.day] = sizes.get(file.day, 0) + max(file.size, _BYTES_OF_A_ROW * file.rows)
    waiting = list(in_portions(sizes, _BYTES_AT_ONCE))
    while waiting:
        some = waiting.pop()
        try:
            plan = partial(_redacted, redaction=redaction, days=some, before_commit=before_commit)
            done.changed.update(lake.rewrite(table, plan, repairs=lacks_versions).days)
        except NotRead:
            raise
        except (Damaged, ValueError) as error:
            if len(some) > 1:
                waiting += [[day] for day in some]
            else:
                damaged = error if isinstance(error, Damaged) else Damaged(f"{table.name} cannot be read", str(error))
                done.damaged[some[0]] = damaged
    return done


def rows_to_redact(snapshot: Snapshot, redaction: Redaction, days: Iterable[date]) -> Counter[date]:
    """How many stored rows of each day `redact` would change; a file that cannot be read has none.

    Args:
        snapshot: Of a raw session table or the quarantine.
        redaction: What may not be stored.
        days: The days to look at.
    """
    found: Counter[date] = Counter()
    for day in days:
        with suppress(Damaged, ValueError):
            found[day] = _found(snapshot.table, _stored(snapshot, [day]), redaction)[2].num_rows
    return +found


def is_to_redact(table: Table, file: StoredFile, redaction: Redaction) -> bool:
    """Whether a file of a raw session table or the quarantine has such a row; one that cannot be read has none."""
    try:
        return len(_found(table, rows_by_duckdb(table, file), redaction)[2]) > 0
    except NotRead:
        raise
    except Damaged:
        return False


def _redacted(
    snapshot: Snapshot, redaction: Redaction, days: Sequence[date], before_commit: Callable[[], None]
) -> Rewrite | None:
    table = snapshot.table
    stored, may_change, new = _found(table, _stored(snapshot, days), redaction)
    changed = pc.unique(new.column("day"))
    if not len(changed):
        return None
    before_commit()
    others = stored.filter(pc.and_not(pc.is_in(stored.column("day"), changed), may_change))
    rows = pa.concat_tables([others, new])
    return Rewrite(sorted(changed.to_pylist()), rows.sort_by(_in_key_order(table)))


def _stored(snapshot: Snapshot, days: Sequence[date]) -> pa.Table:
    with Reader() as reader:
        return reader.rows(snapshot.query(days)).cast(snapshot.table.schema)


def _found(table: Table, stored: pa.Table, redaction: Redaction) -> tuple[pa.Table, pa.Array, pa.Table]:
    """Stored rows, which of them are to be stored otherwise, and these as they are to be stored."""
    places = pc.indices_nonzero(redaction.may_change(stored))
    old = stored.take(places)
    new = redaction.rows(table, old)
    is_other = pa.array([a != b for a, b in zip(new.to_pylist(), old.to_pylist(), strict=True)], pa.bool_())
    is_to_change = pc.is_in(pa.array(range(stored.num_rows), pa.uint64()), places.filter(is_other))
    return stored, is_to_change, new.filter(is_other)


_QUARANTINED = pa.schema(
    [
        *RAW_QUARANTINE.schema,
        ("session_id", pa.string()),
        ("has_day", pa.bool_()),
        ("hash_of_before", pa.string()),
    ]
)


def _days_of(instants: pa.Array, hour: int) -> pa.Array:
    """The billing day of each instant, as `day_of` tells it of one."""
    return pc.subtract(instants, timedelta(hours=hour)).cast(pa.date32())


def _placed(items: Sequence[Item], hour: int, redaction: Redaction) -> pa.Table:
    placed = [item for item in items if item.rejection_reason is None]
    created_at = pa.array([item.created_at for item in placed], INSTANT)
    keys = pa.table(
        {
            "day": _days_of(created_at, hour),
            "session_id": pa.array([redaction.session_id(item.session_id) for item in placed], pa.string()),
            "created_at": created_at,
            "updated_at": pa.array([item.updated_at for item in placed], INSTANT),
            "acus": pa.array([item.acus for item in placed], ACUS),
            "content_hash": pa.array([item.content_hash for item in placed], pa.string()),
            "is_respelled": pa.array([item.is_respelled for item in placed], pa.bool_()),
        }
    )
    # In key order from here on: payloads are most of the bytes, and sorting rows later would copy them.
    order = pc.sort_indices(keys, [("day", "ascending"), ("session_id", "ascending")])
    payloads = [placed[place].payload for place in order.to_pylist()]
    return keys.take(order).append_column("payload", _texts(payloads))


def _texts(texts: Sequence[bytes]) -> pa.Array | pa.ChunkedArray:
    """A column of texts, each copied once; their pages were UTF-8 as a whole."""
    try:
        bounds = array("i", accumulate(map(len, texts), initial=0))
    except OverflowError:
        # More bytes than 32 bits count; Arrow makes several chunks of them.
        return pa.array(texts, pa.string())
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(bounds), pa.py_buffer(b"".join(texts)))


def _quarantined(
    items: Sequence[Item], table: Table, first_day: date, read_at: datetime, hour: int, redaction: Redaction
) -> pa.Table:
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
            "session_id": redaction.session_id(item.session_id),
            "has_day": item.created_at is not None,
        }
        for item in unplaced
    ]
    return pa.Table.from_pylist(rows, _QUARANTINED)


def _pass_gate(items: pa.Table, quarantine: pa.Table, listing: SessionBatch, days: Sequence[date]) -> None:
    if items.num_rows + quarantine.num_rows != len(listing.items):
        raise _failed(f"({len(listing.items)}) {items.num_rows} are accepted and {quarantine.num_rows} quarantined")
    # guard: the gate: a session twice | != items.num_rows -> < 0
    if pc.count_distinct(items.column("session_id")).as_py() != items.num_rows:
        raise _failed("two are of one session")
    # guard: the gate: other days | days -> items.column('day').to_pylist()
    if strays := set(pc.unique(items.column("day")).to_pylist()) - set(days):
        raise _failed(f"some are of days that were not asked for: {', '.join(map(str, sorted(strays)))}")


def _failed(why: str) -> ValidationFailed:
    return ValidationFailed("What the API returned was not stored", f"of the items read {why}")


def _with_unknown(
    snapshot: Snapshot, quarantine: pa.Table, days: Sequence[date], redaction: Redaction
) -> Rewrite | None:
    with Reader() as reader:
        reader.give("quarantine", quarantine)
        reader.view("known", snapshot.query())
        unknown = redaction.rows(RAW_QUARANTINE, reader.rows(_UNKNOWN_ITEMS).cast(RAW_QUARANTINE.schema))
    retold = _retold(snapshot, days, redaction)
    return _extended(snapshot, with_row_hash(RAW_QUARANTINE, unknown), with_row_hash(RAW_QUARANTINE, retold))


def _new_versions(
    snapshot: Snapshot,
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
        return _first_versions(snapshot.table, items, read_at), False, set()
    keys = items.drop_columns(["payload"]).append_column("place", pa.array(range(items.num_rows), pa.int64()))
    with Reader() as reader:
        reader.keep("known", f"select {', '.join(_COMPARED)} from ({snapshot.query(days)})")  # noqa: S608 - our own names
        reader.give("items", keys)
        reader.give("quarantined", quarantine)
        added = reader.rows(_NEW_VERSIONS, {"read_at": read_at, "now": datetime.now(UTC)})
        redacted = reader.rows("from known where redacted is not null limit 1").num_rows
    added = _without_respelled(snapshot, added, items)
    # guard: the day a session left
    #   | with_moves(snapshot, added, days, read_at, hour) -> added.drop_columns(["is_new"]), Pairs()
    added, pairs = with_moves(snapshot, added, days, read_at, hour)
    is_all = added.column("place").equals(keys.column("place"))
    payloads = items.column("payload") if is_all else items.column("payload").take(added.column("place"))
    columns = {name: payloads if name == "payload" else added.column(name) for name in snapshot.table.column_names}
    return pa.table(columns).cast(snapshot.table.schema), redacted > 0, pairs


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
        with Reader() as reader:
            reader.give("doubtful", doubtful.filter(pc.invert(is_same)))
            reader.view("known", snapshot.query(pc.unique(doubtful.column("day")).to_pylist()))
            last = reader.rows(_LAST_AS_SENT).to_pylist()
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


def _first_versions(table: Table, items: pa.Table, read_at: datetime) -> pa.Table:
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


def _retold(snapshot: Snapshot, days: Sequence[date], redaction: Redaction, items: pa.Table | None = None) -> pa.Table:
    """Stored rows that were redacted otherwise than DEVIN_TEXT says now, as they are to be stored from now on.

    Text that is to go is taken out of every version; of what was blanked and is allowed again, the version that the
    API still tells comes back. No version is added: the content is the same.
    """
    table = snapshot.table
    with Reader() as reader:
        reader.view("known", snapshot.query(days))
        if not redaction.keeps_text:
            rows = redaction.rows(table, reader.rows(_NOT_BLANKED).cast(table.schema))
        elif items is None:
            rows = table.schema.empty_table()
        else:
            reader.give("items", items.append_column("hash_of_before", _hashes_of_before(items)))
            rows = redaction.rows(table, reader.rows(_BLANKED).cast(table.schema))
            # Blanked again: of somebody forgotten.
            rows = rows.filter(pc.not_equal(pc.fill_null(rows.column("redacted"), ""), "text"))
    return rows


def _extended(snapshot: Snapshot, added: pa.Table, retold: pa.Table) -> Rewrite | None:
    """The days of `added` and `retold` with what they hold and what is new; None when nothing is."""
    news = pa.concat_tables([added, retold]).sort_by(_in_key_order(snapshot.table)) if retold.num_rows else added
    return extended_days(snapshot, news)


def _in_key_order(table: Table) -> list[tuple[str, str]]:
    return [(name, "ascending") for name in table.key]


def _landed(items: pa.Table, quarantine: pa.Table, added: pa.Table) -> Landed:
    landed = Landed()
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
