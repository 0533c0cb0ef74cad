"""Integrity of raw rows: they must give their row hash, and their payload its content hash and key columns."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from devin_pipeline.billing_calendar import day_of
from devin_pipeline.devin_api import content_hash, content_hash_as_spelled, read_item
from devin_pipeline.lake import Damaged, Snapshot, read_verified
from devin_pipeline.raw.row_hash import ROW_HASH, row_hashes
from devin_pipeline.tables import RAW, RAW_SESSION_TABLES, Partition, RawTable

# Instants later than the clock of the read count as unusable in landing; when that was is no longer known.
_NO_UPPER_BOUND = datetime.max.replace(tzinfo=UTC)
_NO_JSON = "its payload is not JSON"
_NO_INSTANT = "an instant or day that no calendar has"


class RowProblem(NamedTuple):
    """What is wrong with a partition of a raw table; never with words of a row."""

    partition: Partition
    what: str
    path: str


def row_problems(snapshot: Snapshot, partitions: Iterable[Partition], hour: int) -> Iterator[RowProblem]:
    """What is wrong with some partitions of a raw table, a file at a time.

    Args:
        snapshot: Of a raw table.
        partitions: The partitions to look at.
        hour: Hour of the UTC day at which a billing day starts.
    """
    table = RAW[snapshot.table.name]
    keys: Counter[tuple[object, ...]] = Counter()
    for file in snapshot.stored_files(partitions):
        try:
            stored = read_verified(table, file)
        except Damaged as error:
            yield RowProblem(file.partition, error.why, file.path)
            continue
        rows = stored.to_pylist()
        found = Counter(problem for problem in problems_of(table, stored, hour) if problem)
        keys.update(tuple(row[name] for name in table.key) for row in rows)
        # guard: damage: a raw row twice | 1 -> 2
        found["a row with the key of another"] = sum(keys[tuple(row[name] for name in table.key)] > 1 for row in rows)
        for what, count in sorted((+found).items()):
            yield RowProblem(file.partition, f"{count} of {len(rows)} rows: {what}", file.path)


def damaged_partitions(snapshot: Snapshot, partitions: Iterable[Partition], hour: int) -> dict[Partition, str]:
    """The damaged ones of some partitions of a raw table, and a reason for each. As `row_problems`."""
    return {problem.partition: problem.what for problem in row_problems(snapshot, partitions, hour)}


def damaged_days(snapshot: Snapshot, days: Iterable[date], hour: int) -> dict[date, str]:
    """The damaged ones of some days of a raw table that is by day, and a reason for each. As `row_problems`."""
    damaged = damaged_partitions(snapshot, days, hour)
    return {day: why for day, why in damaged.items() if isinstance(day, date)}


def problems_of(table: RawTable, rows: pa.Table, hour: int) -> list[str | None]:
    """What shows of each row that it is not what was landed; None when nothing does.

    Args:
        table: A raw table.
        rows: Rows of it.
        hour: Hour of the UTC day at which a billing day starts.
    """
    hashed = zip(_in_python(rows), row_hashes(table, rows), strict=True)
    return [_NO_INSTANT if row is None else _problem_of(table, row, row_hash, hour) for row, row_hash in hashed]


def _in_python(rows: pa.Table) -> list[dict[str, Any] | None]:
    """The rows; None for one with a damaged instant or day that Python's calendar does not reach."""
    try:
        found: list[dict[str, Any] | None] = rows.to_pylist()
    except (OverflowError, ValueError):
        if rows.num_rows == 1:
            return [None]
        # guard: damage: an instant beyond the calendar
        return [row for place in range(rows.num_rows) for row in _in_python(rows.slice(place, 1))]
    return found


def _problem_of(table: RawTable, row: Mapping[str, Any], row_hash: str, hour: int) -> str | None:
    # guard: damage: a raw row's hash
    if row[ROW_HASH] is not None and row[ROW_HASH] != row_hash:
        return "its values do not give its row_hash"
    if not table.has_versions:
        return _problem_of_item(table, row)
    is_of_session = table in RAW_SESSION_TABLES
    if is_of_session and (problem := _problem_of_day(row, hour)):
        return problem
    if not row["is_listed"]:
        is_bare = all(row[name] is None for name in table.columns_of_versions)
        return None if is_bare else "a tombstone with content"
    if row[table.payload] is None or row["content_hash"] is None:
        return "a version without content"
    return _problem_of_session(table, row) if is_of_session else _problem_of_content(table, row)


def _problem_of_day(row: Mapping[str, Any], hour: int) -> str | None:
    if day_of(row["created_at"], hour) != row["day"]:
        return "its created_at is outside its day"
    if row["is_listed"]:
        return None if row["moved_to"] is None else "a version that says its session moved to another day"
    return "a tombstone that says its session moved to its own day" if row["moved_to"] == row["day"] else None


def _problem_of_item(table: RawTable, row: Mapping[str, Any]) -> str | None:
    # An item may be meant for any raw table of versions.
    if "feed" in row and not (row["feed"] in RAW and RAW[row["feed"]].has_versions):
        return "its feed is none of the raw tables"
    # An empty payload is of an item that could not be read.
    return _problem_of_content(table, row) if row[table.payload] else None


def _problem_of_content(table: RawTable, row: Mapping[str, Any], content: str | None = None) -> str | None:
    # What was redacted no longer gives the hash of what was sent; its row hash and key columns are left to show damage.
    if row["redacted"] is not None:
        return None
    payload = row[table.payload].encode()
    try:
        # guard: damage: a payload unlike its content hash
        #   | row["content_hash"] == (content or content_hash(payload)) -> True
        if row["content_hash"] == (content or content_hash(payload)):
            return None
        # It may be of before instants counted by value and tags as a set.
        # guard: spelling: hashes of before, taken for damage
        #   | row["content_hash"] == content_hash_as_spelled(payload) -> False
        is_of_before = row["content_hash"] == content_hash_as_spelled(payload)
    except (ValueError, RecursionError):
        return _NO_JSON
    return None if is_of_before else "its payload does not give its content_hash"


def _problem_of_session(table: RawTable, row: Mapping[str, Any]) -> str | None:
    try:
        item = read_item(row[table.payload].encode(), _NO_UPPER_BOUND)
    except (ValueError, RecursionError):
        return _NO_JSON
    unusable_then = row["updated_at"] is None and item.updated_at is not None and item.updated_at > row["fetched_at"]
    expected = {
        "session_id": item.session_id,
        "created_at": item.created_at,
        "updated_at": None if unusable_then else item.updated_at,
        "acus": item.acus,
    }
    differing = [name for name, value in expected.items() if value != row[name]]
    contradiction = f"its payload has another {', '.join(differing)}" if differing else None
    # guard: damage: key columns unlike the payload | or contradiction
    return _problem_of_content(table, row, item.content_hash) or contradiction
