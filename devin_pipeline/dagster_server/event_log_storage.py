"""Dagster's event log in SQLite, written in groups: a run over a year records more than ten thousand events.

Files, tables and rows are those of Dagster's own `SqliteEventLogStorage`, so either may take over from the other. That
one opens a connection, compiles its statements and commits up to five times for each event, and keeps every event
forever. This one stores what a reader would miss, and no more:

- no materialization whose fingerprint is that of its partition's newest one;
- one event for all partitions that a run plans to materialize of an asset. They show as in progress or, after a
  failure, as failed, until they are materialized;
- in the index, of each check its newest event, and of each asset what was planned last.
"""

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.partitions.subset import DefaultPartitionsSubset
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    AssetMaterializationPlannedData,
    DagsterEventType,
)
from dagster._core.storage.event_log.base import PlannedMaterializationInfo
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster._record import copy
from dagster._serdes import ConfigurableClassData, deserialize_value, serialize_value
from sqlalchemy.engine import Connection, Engine

from devin_pipeline.dagster_server.code_location import name_origin
from devin_pipeline.dagster_server.dead_runs import RunLocks
from devin_pipeline.dagster_server.event_log import FINGERPRINT, PlainEventLog

_OF_ASSETS = {kind.value for kind in ASSET_EVENTS}
_OF_CHECKS = {kind.value for kind in ASSET_CHECK_EVENTS}
# Kept in the index too, so that it answers questions across runs.
_IN_INDEX = _OF_ASSETS | _OF_CHECKS | {kind.value for kind in EVENT_TYPE_TO_PIPELINE_RUN_STATUS}

_ENDS_EARLY = {
    kind.value for kind in (DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED)
}

_ENDS_RUN = {
    kind.value for kind in (DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED)
}

# Enough for the days of three years at once.
_EVENTS_AT_ONCE = "1100"

# The index and the newest runs: the Dagster UI may look at hundreds.
_OPEN_FILES = 4

_REVISIONS = "select version_num from alembic_version"
_TABLES = """
    select sql, version_num
    from sqlite_master cross join alembic_version
    where sql is not null and name not like 'sqlite_%'
    order by sqlite_master.rowid
"""

_MATERIALIZATION = DagsterEventType.ASSET_MATERIALIZATION.value
_PLANNED = DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value
_LOGS = SqlEventLogStorageTable.c
_HAS_PARTITIONS = '%"partitions_subset": {%'

_Row = dict[str, Any]


class SqliteEventLog(PlainEventLog):
    """Dagster's event log in the usual place of DAGSTER_HOME, named in its dagster.yaml."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._lock = threading.RLock()
        self._engines: dict[str, Engine] = {}
        self._connections: dict[str, Connection] = {}
        self._last_millisecond: dict[str, int] = {}

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        """Open the files of the instance's home, wherever that is by now; let Dagster hand over events in groups."""
        self._locks = RunLocks(Path(instance.root_directory))
        super().register_instance(instance)
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", _EVENTS_AT_ONCE)

    @property
    def supports_partition_subset_in_asset_materialization_planned_events(self) -> bool:
        """One event per asset names the partitions that a run plans to materialize."""
        return True

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Store one event."""
        self.store_event_batch([event])

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store events, all or none of a run's, but for those that say nothing new."""
        for run_id, of_run in groupby([*self._left_behind(events), *events], attrgetter("run_id")):
            lean = [_lean(event) for event in of_run]
            kinds = {_kind(event) for event in lean}
            if DagsterEventType.RUN_START.value in kinds:
                # Before Dagster says that the run has started, and in the process that runs it.
                # guard: a run that is alive
                self._locks.take(run_id)
                # guard: a run of dg launch without a code location
                name_origin(self._instance, run_id)
            if kinds & _ENDS_RUN:
                self._locks.end(run_id)
            materialized = _materialized(lean)
            unchanged = self._unchanged(run_id, materialized)
            kept = [self._in_own_millisecond(event) for event in lean if _partition(event) not in unchanged]
            rows = [(event, self._event_to_row(event)) for event in kept]
            in_index = [(event, row) for event, row in rows if _kind(event) in _IN_INDEX]
            with self.run_connection(run_id) as run:
                if rows:
                    run.execute(SqlEventLogStorageTable.insert(), [row for _, row in rows])
                if in_index or materialized:
                    with self.index_connection() as index:
                        self._store_in_index(index, in_index)
                        for asset, partitions in materialized.items():
                            # guard: plans that a run has carried out
                            _end_plans(index, run_id, asset, set(partitions))
            # What watches a run looks at the time of this file, and SQLite keeps new rows in another one for a while.
            # guard: news for who watches a run
            os.utime(self.path_for_shard(run_id))

    def _in_own_millisecond(self, event: dg.EventLogEntry) -> dg.EventLogEntry:
        """A materialization a millisecond or more after the last one of its asset.

        Of those of a run that carry the same millisecond, the Dagster UI lists one.
        """
        if (materialized := _partition(event)) is None:
            return event
        (asset, _), given = materialized, int(event.timestamp * 1000)
        # guard: a materialization that the Dagster UI does not list
        #   | max(given, self._last_millisecond.get(asset, 0) + 1) -> given
        self._last_millisecond[asset] = own = max(given, self._last_millisecond.get(asset, 0) + 1)
        # In the middle of it, so that no rounding leads into another.
        return event if own == given else event._replace(timestamp=(own + 0.5) / 1000)

    def _unchanged(self, run_id: str, materialized: "_Materialized") -> set["_Partition"]:
        """Those whose newest materialization has the same fingerprint, and that no other run has planned since.

        Dagster shows a partition as failed until a later materialization of it is stored.
        """
        found: set[_Partition] = set()
        if materialized and self._is_of_backfill(run_id):
            return found
        for asset, fingerprints in materialized.items():
            marked = {key: f'"{mark}"' for key, mark in fingerprints.items() if key and mark}
            if not marked:
                continue
            with self.index_connection() as index:
                newest = _newest_materializations(index, asset, marked)
                query = sa.select(_LOGS.partition, _LOGS.event).where(_LOGS.id.in_(newest.values()))
                # guard: nothing stored of an unchanged day | marked[key] in event -> False
                same = {key for key, event in index.execute(query) if marked[key] in event}
                planned = self._attempts(index, dg.AssetKey(json.loads(asset)), not_of=run_id) if same else {}
            # guard: unchanged days of a failed run | - planned.keys()
            found |= {(asset, key) for key in same - planned.keys()}
        return found

    def _is_of_backfill(self, run_id: str) -> bool:
        """Whether a backfill of the Dagster UI waits for materializations of this very run."""
        run = self._instance.get_run_by_id(run_id)
        return run is not None and BACKFILL_ID_TAG in run.tags

    def _attempts(
        self, index: Connection, asset_key: dg.AssetKey, after: int | None = None, *, not_of: str | None = None
    ) -> dict[str, tuple[str, int]]:
        """The partitions planned since their newest materialization: by which run, and the id of that event.

        Args:
            index: The index.
            asset_key: The asset.
            after: Look at later events only.
            not_of: A run to leave out.
        """
        # What Dagster's own storage wrote: an event for each partition.
        found = dict(
            super().get_latest_asset_partition_materialization_attempts_without_materializations(asset_key, after)
        )
        for event_id, run_id, keys in _plans(index, asset_key.to_string()):
            if event_id > (after or 0) and run_id != not_of:
                newest = _newest_materializations(index, asset_key.to_string(), keys)
                # guard: days that a run planned and did not materialize | newest.get(key, 0) < event_id -> False
                found |= {key: (run_id, event_id) for key in keys if newest.get(key, 0) < event_id}
        return found

    def get_latest_asset_partition_materialization_attempts_without_materializations(
        self, asset_key: dg.AssetKey, after_storage_id: int | None = None
    ) -> Mapping[str, tuple[str, int]]:
        """The partitions planned since their newest materialization: by which run, and the id of that event."""
        with self.index_connection() as index:
            return self._attempts(index, asset_key, after_storage_id)

    def get_latest_planned_materialization_info(
        self, asset_key: dg.AssetKey, partition: str | None = None
    ) -> PlannedMaterializationInfo | None:
        """The run that planned last to materialize an asset, or a partition that it has not materialized since."""
        if partition:
            attempts = self.get_latest_asset_partition_materialization_attempts_without_materializations(asset_key)
            if attempt := attempts.get(partition):
                return PlannedMaterializationInfo(storage_id=attempt[1], run_id=attempt[0])
        return super().get_latest_planned_materialization_info(asset_key, partition)

    def _store_in_index(self, index: Connection, stored: Sequence[tuple[dg.EventLogEntry, _Row]]) -> None:
        if not stored:
            return
        index.execute(SqlEventLogStorageTable.insert(), [row for _, row in stored])
        # Nothing else can write in between, so the ids are those up to the last.
        last_id = index.execute(sa.select(sa.func.max(_LOGS.id))).scalar_one()
        of_assets: list[tuple[dg.EventLogEntry, int]] = []
        newest: dict[tuple[str, str], tuple[dg.EventLogEntry, int]] = {}
        for event_id, (event, row) in enumerate(stored, last_id - len(stored) + 1):
            if (kind := _kind(event)) in _OF_ASSETS:
                of_assets.append((event, event_id))
                newest[row["asset_key"], kind] = (event, event_id)
            elif kind in _OF_CHECKS:
                self.store_asset_check_event(event, event_id)
        self._store_asset_event_tags(index, [event for event, _ in of_assets], [event_id for _, event_id in of_assets])
        for (asset, kind), (event, event_id) in newest.items():
            self._store_asset_event(index, event, event_id)
            if kind == _PLANNED:
                ended = _planned(asset) & (_LOGS.id < event_id) & _LOGS.event.not_like(_HAS_PARTITIONS)
                index.execute(SqlEventLogStorageTable.delete().where(ended, _LOGS.partition.is_(None)))

    def _left_behind(self, events: Sequence[dg.EventLogEntry]) -> list[dg.EventLogEntry]:
        """Events that Dagster still holds of a group whose step, before its last event, was interrupted."""
        if not any(_kind(event) in _ENDS_EARLY for event in events):
            return []
        runs = {event.run_id for event in events}
        groups = self._instance._event_buffer
        # guard: events of an interrupted step | group and group[0].run_id in runs -> False
        ended = [key for key, group in list(groups.items()) if group and group[0].run_id in runs]
        return [event for key in ended for event in groups.pop(key)]

    def store_asset_check_event(self, event: dg.EventLogEntry, event_id: int | None) -> None:
        """Store what a check found, or that it is planned.

        The row added last counts as the newest, and of two runs the one planned first may end last. The row holds the
        event too, so that in the log of the index the newest is enough.
        """
        dagster_event = event.get_dagster_event()
        is_planned = dagster_event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
        check = dagster_event.asset_check_planned_data if is_planned else dagster_event.asset_check_evaluation_data
        rows = AssetCheckExecutionsTable.c
        of_check = (rows.asset_key == check.asset_key.to_string()) & (rows.check_name == check.check_name)
        with self.index_connection() as index:
            if not is_planned:
                # What this run planned, and the result before.
                older = sa.select(rows.evaluation_event_storage_id).where(of_check).order_by(rows.id.desc()).limit(2)
                index.execute(SqlEventLogStorageTable.delete().where(_LOGS.id.in_(older)))
                index.execute(
                    AssetCheckExecutionsTable.delete().where(
                        of_check, rows.run_id == event.run_id, rows.partition.is_(None)
                    )
                )
            super().store_asset_check_event(event, event_id)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        """A transaction on the file of a run or on the index; the one that this thread is in already, if it is."""
        with self._lock:
            if shard in self._connections:
                yield self._connections[shard]
                return
            with self._engine(shard).connect() as connection, connection.begin():
                self._connections[shard] = connection
                try:
                    yield connection
                finally:
                    del self._connections[shard]

    def _engine(self, shard: str) -> Engine:
        engine = self._engines.pop(shard, None)
        if engine is None:
            engine = sa.create_engine(
                self.conn_string_for_shard(shard), connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
            )
            sa.event.listen(engine, "connect", _commit_without_waiting_for_the_disk)
            if shard not in self._initialized_dbs:
                self._make_file(shard, engine)
                self._initialized_dbs.add(shard)
        self._engines[shard] = engine
        for oldest in [name for name in self._engines if name not in self._connections][:-_OPEN_FILES]:
            self._engines.pop(oldest).dispose()
        return engine

    def _make_file(self, shard: str, engine: Engine) -> None:
        """Give a file its tables and its revision, if it has none.

        Dagster's own way looks for the revision in its migrations, all read several times: 45 ms for a new file,
        12 ms for one that needs nothing.
        """
        if Path(self.path_for_shard(shard)).exists():
            # An error means that it has no such table.
            with suppress(sa.exc.OperationalError), engine.connect() as stored:
                # guard: an index of several revisions
                #   | len(stored.exec_driver_sql(_REVISIONS).all()) == 1 -> stored.exec_driver_sql(_REVISIONS).all()
                if len(stored.exec_driver_sql(_REVISIONS).all()) == 1:
                    return
        elif shard != INDEX_SHARD_NAME and self._begin_as_index(engine):
            return
        self._initdb(engine)

    def _begin_as_index(self, engine: Engine) -> bool:
        """Make a new file as the index is; False when that cannot be said, or another process was faster."""
        with self.index_connection() as index:
            # In one statement: the tables of a moment, with the revision they had then.
            tables = index.exec_driver_sql(_TABLES).all()
        revisions = {revision for _, revision in tables}
        if len(revisions) != 1:
            return False
        try:
            with engine.connect() as run:
                # Of the thirty tables and indexes each takes a page at least.
                run.exec_driver_sql("pragma page_size = 1024")
                run.exec_driver_sql("pragma journal_mode = wal")
                run.exec_driver_sql("begin immediate")
                for statement, _ in tables:
                    run.exec_driver_sql(statement)
                # guard: the revision of a run's file | revisions.pop() -> "other"
                run.exec_driver_sql("insert into alembic_version values (?)", (revisions.pop(),))
                run.commit()
        except sa.exc.OperationalError as error:
            # guard: a run's file that another process makes in the same moment
            if "already exists" in str(error.orig) or "locked" in str(error.orig):
                return False
            raise
        return True

    def delete_events(self, run_id: str) -> None:
        """Remove the events of a run, and its file, which Dagster's own storage leaves as large as it was."""
        if not run_id:
            super().delete_events(run_id)
            return
        with self.index_connection() as index:
            planned = sa.select(_LOGS.asset_key).where(_LOGS.run_id == run_id, _LOGS.dagster_event_type == _PLANNED)
            assets = index.execute(planned.distinct()).scalars().all()
            self.delete_events_for_run(index, run_id)
            for asset in assets:
                # It may show partitions as failed because of this run, until they are materialized again.
                # guard: days shown as failed because of a run that is gone
                self.wipe_asset_cached_status(dg.AssetKey(json.loads(asset)))
        self.free_concurrency_slots_for_run(run_id)
        with self._lock:
            if engine := self._engines.pop(run_id, None):
                engine.dispose()
            self._initialized_dbs.discard(run_id)
        for suffix in ("", "-wal", "-shm"):
            # guard: the file of a run that is gone
            Path(f"{self.path_for_shard(run_id)}{suffix}").unlink(missing_ok=True)

    def has_table(self, table_name: str) -> bool:
        """Whether the index has a table."""
        with self.index_connection() as index:
            return sa.inspect(index).has_table(table_name)

    def wipe(self) -> None:
        """Remove every event."""
        self._close()
        super().wipe()

    def dispose(self) -> None:
        """Close the files, and say no more that runs of this process are alive."""
        self._close()
        self._locks.release()
        super().dispose()

    def _close(self) -> None:
        with self._lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


_Partition = tuple[str, str | None]
_Materialized = dict[str, dict[str | None, str | None]]


def _kind(event: dg.EventLogEntry) -> str:
    return event.dagster_event.event_type_value if event.dagster_event else ""


def _lean(event: dg.EventLogEntry) -> dg.EventLogEntry:
    """An event without what nobody reads of it."""
    if event.dagster_event is None:
        return event
    lean = event.dagster_event._replace(logging_tags={})
    if isinstance(planned := lean.event_specific_data, AssetCheckEvaluationPlanned):
        # The result comes without partitions, and would leave each of them "planned" forever.
        lean = lean._replace(event_specific_data=copy(planned, partitions_subset=None))
    return event._replace(dagster_event=lean)


def _partition(event: dg.EventLogEntry) -> _Partition | None:
    """The asset and partition that an event materializes, if it does."""
    if _kind(event) != _MATERIALIZATION:
        return None
    materialization = event.get_dagster_event().step_materialization_data.materialization
    return materialization.asset_key.to_string(), materialization.partition


def _materialized(events: Sequence[dg.EventLogEntry]) -> _Materialized:
    """The partitions that events materialize, by asset, each with its fingerprint if it has one."""
    found: _Materialized = {}
    for event in events:
        if of := _partition(event):
            mark = event.get_dagster_event().step_materialization_data.materialization.metadata.get(FINGERPRINT)
            found.setdefault(of[0], {})[of[1]] = str(mark.value) if mark else None
    return found


def _newest_materializations(index: Connection, asset: str, partitions: Iterable[str]) -> dict[str, int]:
    """The id of the newest materialization of each partition that has one."""
    of_asset = (_LOGS.asset_key == asset) & (_LOGS.dagster_event_type == _MATERIALIZATION)
    query = sa.select(_LOGS.partition, sa.func.max(_LOGS.id)).where(of_asset, _LOGS.partition.in_(partitions))
    return {partition: newest for partition, newest in index.execute(query.group_by(_LOGS.partition))}


def _planned(asset: str) -> sa.ColumnElement[bool]:
    return (_LOGS.asset_key == asset) & (_LOGS.dagster_event_type == _PLANNED)


def _plans(index: Connection, asset: str) -> list[tuple[int, str, set[str]]]:
    """What runs have planned of an asset and not yet materialized: id, run and partitions, oldest first."""
    query = sa.select(_LOGS.id, _LOGS.event).where(_planned(asset), _LOGS.event.like(_HAS_PARTITIONS))
    found = []
    for event_id, stored in index.execute(query.order_by(_LOGS.id)):
        event = deserialize_value(stored, dg.EventLogEntry)
        planned = event.get_dagster_event().asset_materialization_planned_data.partitions_subset
        found.append((event_id, event.run_id, set(planned.get_partition_keys()) if planned else set()))
    return found


def _end_plans(index: Connection, run_id: str, asset: str, partitions: set[str | None]) -> None:
    """Leave in the event with which a run planned an asset the partitions alone that it has yet to materialize.

    Those of other runs go once all that they planned has been materialized after them.
    """
    for event_id, planned_by, keys in _plans(index, asset):
        row = SqlEventLogStorageTable.c.id == event_id
        rest = set() if None in partitions else keys - partitions
        if planned_by == run_id and rest != keys:
            stored = index.execute(sa.select(_LOGS.event).where(row)).scalar_one()
            event = deserialize_value(stored, dg.EventLogEntry)
            asset_key = event.get_dagster_event().asset_materialization_planned_data.asset_key
            subset = DefaultPartitionsSubset(rest) if rest else None
            left = _with_data(event, AssetMaterializationPlannedData(asset_key, partitions_subset=subset))
            index.execute(SqlEventLogStorageTable.update().where(row).values(event=serialize_value(left)))
        elif planned_by != run_id and not rest:
            index.execute(SqlEventLogStorageTable.delete().where(row))


def _with_data(event: dg.EventLogEntry, data: AssetMaterializationPlannedData) -> dg.EventLogEntry:
    return event._replace(dagster_event=event.get_dagster_event()._replace(event_specific_data=data))


def _commit_without_waiting_for_the_disk(connection: Any, _: object) -> None:
    # A killed process loses nothing by it; a power failure may take the last events, but leaves the file whole.
    connection.execute("pragma synchronous = normal")
