"""Removes what Dagster recorded of old runs: the runs, their events, their compute logs.

Runs are removed by Dagster's own `delete_run`, whatever the storage. These stay, since they are read later: the newest
materialization of each partition, which from then on belongs to no run, like one that was reported by hand; the newest
result of each check; the run that the next range of the schedule follows; and the newest run of all.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import dagster as dg
import sqlalchemy as sa
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._serdes import deserialize_value, serialize_value

_SECONDS = 120.0
_SECONDS_TO_WAIT = 5.0
_RUNS_AT_ONCE = 50

_EVENTS = SqlEventLogStorageTable.c
_CHECKS = AssetCheckExecutionsTable.c
_PLANNED = AssetCheckExecutionRecordStatus.PLANNED.value
_MATERIALIZATION = dg.DagsterEventType.ASSET_MATERIALIZATION


@dataclass(frozen=True)
class RemovedRuns:
    """What was removed.

    Attributes:
        days: The age from which on runs are removed.
        runs: How many were removed.
        remaining: How many more are that old, for the next time.
    """

    days: int
    runs: int
    remaining: int

    def __str__(self) -> str:
        """In words."""
        rest = f" {self.remaining} more remain for the next time." if self.remaining else ""
        return f"Removed from Dagster's records: {self.runs} runs that ended more than {self.days} days ago.{rest}"


def remove_old_runs(
    instance: dg.DagsterInstance, days: int, schedule: str, *, seconds: float = _SECONDS
) -> RemovedRuns | None:
    """Remove what was recorded of runs that ended some days ago, oldest first.

    Args:
        instance: Dagster's records.
        days: How many days to keep.
        schedule: The schedule whose newest successful run is to stay.
        seconds: After how long no more are begun with; fifty at once. What remains is for the next time.

    Returns:
        What was removed; None when the instance stores its events elsewhere than in a database of Dagster's.
    """
    events = instance.event_log_storage
    if not isinstance(events, SqlEventLogStorage):
        return None
    ends_at = monotonic() + seconds
    needed = _needed_runs(instance, schedule)
    before = datetime.now(UTC) - timedelta(days=days)
    # guard: old runs that have not ended | statuses=FINISHED_STATUSES,
    old = dg.RunsFilter(statuses=FINISHED_STATUSES, updated_before=before)
    removed = 0
    newest: _Newest | None = None
    while runs := _oldest_runs(instance, old, needed):
        newest = newest or _newest(instance, events)
        _detach(events, runs, newest)
        for run_id in runs:
            instance.delete_run(run_id)
            instance.compute_log_manager.delete_logs(prefix=[run_id])
        removed += len(runs)
        if monotonic() >= ends_at:
            break
    if removed and isinstance(events, SqliteEventLogStorage):
        give_back_space(Path(events.path_for_shard(INDEX_SHARD_NAME)))
    remaining = instance.get_runs_count(old)
    if needed:
        staying = dg.RunsFilter(run_ids=sorted(needed), statuses=FINISHED_STATUSES, updated_before=before)
        remaining -= instance.get_runs_count(staying)
    return RemovedRuns(days, removed, remaining)


def give_back_space(index: Path) -> None:
    """Shrink the index of events if more than half of it is empty and nothing else writes to it.

    Less than that is used by the next events. SQLite copies what is left, and puts the copy in place in one
    transaction.
    """
    with closing(sqlite3.connect(index, _SECONDS_TO_WAIT)) as stored:
        size, empty = (stored.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
        # An error means that another process writes, or that the disk has no room for the copy.
        with suppress(sqlite3.OperationalError):
            if empty > size / 2:
                stored.execute("vacuum")
                stored.execute("pragma wal_checkpoint(truncate)")


def _oldest_runs(instance: dg.DagsterInstance, old: dg.RunsFilter, needed: set[str]) -> list[str]:
    limit = _RUNS_AT_ONCE + len(needed)
    records = instance.get_run_records(old, limit=limit, order_by="update_timestamp", ascending=True)
    runs = [record.dagster_run.run_id for record in records]
    return [run_id for run_id in runs if run_id not in needed][:_RUNS_AT_ONCE]


def _needed_runs(instance: dg.DagsterInstance, schedule: str) -> set[str]:
    scheduled = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], tags={"dagster/schedule_name": schedule})
    # guard: the run that the schedule follows | *instance.get_runs(scheduled, limit=1)
    newest = [*instance.get_runs(limit=1), *instance.get_runs(scheduled, limit=1)]
    return {run.run_id for run in newest}


@dataclass(frozen=True)
class _Newest:
    """What stays: ids of events, and of rows of checks."""

    materializations: set[int]
    checks: set[int]


def _newest(instance: dg.DagsterInstance, events: SqlEventLogStorage) -> _Newest:
    materializations: set[int] = set()
    for asset_key in instance.all_asset_keys():
        materializations.update(events.get_latest_storage_id_by_partition(asset_key, _MATERIALIZATION).values())
        # Of an asset without partitions.
        materializations.update(each.storage_id for each in instance.fetch_materializations(asset_key, limit=1).records)
    with events.index_connection() as connection:
        # Of a range Dagster's own storages leave each partition of a check "planned", for the result comes without any.
        newest = sa.select(sa.func.max(_CHECKS.id)).where(_CHECKS.execution_status != _PLANNED)
        checks = connection.execute(newest.group_by(_CHECKS.asset_key, _CHECKS.check_name, _CHECKS.partition))
        return _Newest(materializations, {row[0] for row in checks})


def _detach(events: SqlEventLogStorage, runs: Sequence[str], newest: _Newest) -> None:
    """Let what stays of some runs belong to none, and remove what `delete_run` leaves of their checks."""
    with events.index_connection() as connection:
        materialized = _EVENTS.run_id.in_(runs) & (_EVENTS.dagster_event_type == _MATERIALIZATION.value)
        ids = connection.execute(sa.select(_EVENTS.id).where(materialized)).scalars().all()
        # guard: the newest materialization of each day of an old run
        #   | = [event_id for event_id in ids if event_id in newest.materializations] -> : list[int] = []
        stay = [event_id for event_id in ids if event_id in newest.materializations]
        kept = connection.execute(sa.select(_EVENTS.id, _EVENTS.event).where(_EVENTS.id.in_(stay))).all()
        for event_id, stored in kept:
            event = deserialize_value(stored, dg.EventLogEntry)._replace(run_id=RUNLESS_RUN_ID)
            values = {"run_id": RUNLESS_RUN_ID, "event": serialize_value(event)}
            connection.execute(SqlEventLogStorageTable.update().where(_EVENTS.id == event_id).values(values))
        checked = connection.execute(sa.select(_CHECKS.id).where(_CHECKS.run_id.in_(runs))).scalars().all()
        # guard: the newest result of each check of an old run
        #   | [row for row in checked if row not in newest.checks] -> list(checked)
        gone = [row for row in checked if row not in newest.checks]
        connection.execute(AssetCheckExecutionsTable.delete().where(_CHECKS.id.in_(gone)))
