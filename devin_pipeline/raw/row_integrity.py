"""Whether raw rows are what was landed: their seal, their content and their key columns, beside their files."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from devin_pipeline.billing_calendar import day_of
from devin_pipeline.devin_api import content_hash, content_hash_as_spelled, read_item
from devin_pipeline.lake import Damaged, Snapshot, read_verified
from devin_pipeline.raw.row_hash import ROW_HASH, row_hashes
from devin_pipeline.tables import RAW_QUARANTINE, RAW_SESSION_TABLES, Table

# Instants later than the clock of the read count as unusable in landing; when that was is no longer known.
_EVER = datetime.max.replace(tzinfo=UTC)
_NO_JSON = "its payload is no JSON"
_OF_A_VERSION = ("content_hash", "payload", "acus", "redacted")


class RowProblem(NamedTuple):
    """What is wrong with a day of a raw table; never with words of a row."""

    day: date
    what: str
    path: str


def row_problems(snapshot: Snapshot, days: Iterable[date], hour: int) -> Iterator[RowProblem]:
    """What is wrong with some days of a raw table, a file at a time.

    Args:
        snapshot: Of a raw session table or the quarantine.
        days: The days to look at.
        hour: Hour of the UTC day at which a billing day starts.
    """
    table = snapshot.table
    wanted = set(days)
    keys: Counter[tuple[object, ...]] = Counter()
    for file in snapshot.stored_files():
        if file.day is None or file.day not in wanted:
            continue
        try:
            stored = read_verified(table, file)
        except Damaged as error:
            yield RowProblem(file.day, error.why, file.path)
            continue
        rows = stored.to_pylist()
        found = Counter(problem for problem in problems_of(table, stored, hour) if problem)
        keys.update(tuple(row[name] for name in table.key) for row in rows)
        # guard: damage: a raw row twice | 1 -> 2
        found["a row with the key of another"] = sum(keys[tuple(row[name] for name in table.key)] > 1 for row in rows)
        for what, count in sorted((+found).items()):
            yield RowProblem(file.day, f"{count} of {len(rows)} rows: {what}", file.path)


def damaged_days(snapshot: Snapshot, days: Iterable[date], hour: int) -> dict[date, str]:
    """The days of a raw table that are not sound, and a reason for each. As `row_problems`."""
    return {problem.day: problem.what for problem in row_problems(snapshot, days, hour)}


def problems_of(table: Table, rows: pa.Table, hour: int) -> list[str | None]:
    """What shows of each row that it is not what was landed; None when nothing does.

    Args:
        table: A raw session table or the quarantine.
        rows: Rows of it.
        hour: Hour of the UTC day at which a billing day starts.
    """
    sealed = zip(rows.to_pylist(), row_hashes(table, rows), strict=True)
    return [_problem_of(table, row, seal, hour) for row, seal in sealed]


def _problem_of(table: Table, row: Mapping[str, Any], seal: str, hour: int) -> str | None:
    # guard: damage: a raw row's seal
    if row[ROW_HASH] is not None and row[ROW_HASH] != seal:
        return "its values do not give its row_hash"
    if table == RAW_QUARANTINE:
        is_of_a_feed = row["feed"] in [feed.name for feed in RAW_SESSION_TABLES]
        return _problem_of_item(row) if is_of_a_feed else "its feed is none of the raw tables"
    if day_of(row["created_at"], hour) != row["day"]:
        return "its created_at lies outside its day"
    if not row["is_listed"]:
        is_bare = all(row[name] is None for name in _OF_A_VERSION)
        if row["moved_to"] == row["day"]:
            return "a tombstone that says its session moved to its own day"
        return None if is_bare else "a tombstone with content"
    if row["moved_to"] is not None:
        return "a version that says its session moved to another day"
    if row["payload"] is None or row["content_hash"] is None:
        return "a version without content"
    return _problem_of_version(row)


def _problem_of_item(row: Mapping[str, Any]) -> str | None:
    if not row["payload"]:
        return None  # an item that could not be read
    try:
        return None if row["redacted"] is not None else _problem_of_content(row, content_hash(row["payload"].encode()))
    except ValueError:
        return _NO_JSON


def _problem_of_content(row: Mapping[str, Any], content: str) -> str | None:
    # What was redacted no longer gives the hash of what was sent; its seal and its key columns are left to show damage.
    # guard: damage: a payload unlike its content hash | row["content_hash"] == content -> True
    if row["redacted"] is not None or row["content_hash"] == content:
        return None
    # It may be of before instants counted by value and tags as a set.
    # guard: spelling: hashes of before, taken for damage
    #   | row["content_hash"] == content_hash_as_spelled(row["payload"].encode()) -> False
    is_of_before = row["content_hash"] == content_hash_as_spelled(row["payload"].encode())
    return None if is_of_before else "its payload does not give its content_hash"


def _problem_of_version(row: Mapping[str, Any]) -> str | None:
    try:
        item = read_item(row["payload"].encode(), _EVER)
    except (ValueError, RecursionError):
        return _NO_JSON
    unusable_then = row["updated_at"] is None and item.updated_at is not None and item.updated_at > row["fetched_at"]
    told = {
        "session_id": item.session_id,
        "created_at": item.created_at,
        "updated_at": None if unusable_then else item.updated_at,
        "acus": item.acus,
    }
    differing = [name for name, value in told.items() if value != row[name]]
    told_otherwise = f"its payload tells another {', '.join(differing)}" if differing else None
    # guard: damage: key columns unlike the payload | or told_otherwise
    return _problem_of_content(row, item.content_hash) or told_otherwise
