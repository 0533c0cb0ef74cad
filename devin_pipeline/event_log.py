"""Dagster's event log in SQLite, written in groups: a run over a year records more than ten thousand events.

Files, tables and rows are those of Dagster's own `SqliteEventLogStorage`, so either may take over from the other. That
one opens a connection, compiles its statements and commits up to five times for each event.
"""

import json
import os
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

import dagster as dg
import sqlalchemy as sa
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    AssetMaterializationPlannedData,
    DagsterEventType,
)
from dagster._core.instance.ref import _event_logs_directory
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._record import copy
from dagster._serdes import ConfigurableClassData
from sqlalchemy.engine import Connection, Engine

from devin_pipeline.dead_runs import RunLocks

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

# The index and the newest runs: Dagster's page may look at hundreds.
_OPEN_FILES = 4

_REVISIONS = "select version_num from alembic_version"
_TABLES = """
    select sql, version_num
    from sqlite_master cross join alembic_version
    where sql is not null and name not like 'sqlite_%'
    order by sqlite_master.rowid
"""

_Row = dict[str, Any]


class SqliteEventLog(SqliteEventLogStorage):
    """Dagster's event log in the usual place of DAGSTER_HOME, named in its dagster.yaml."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        # The files are opened when the instance, and with it the home, is known.
        self._inst_data = inst_data
        self._lock = threading.RLock()
        self._engines: dict[str, Engine] = {}
        self._connections: dict[str, Connection] = {}

    @classmethod
    def config_type(cls) -> Mapping[str, object]:
        """There is nothing to configure."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, object]) -> Self:
        """What Dagster makes of the entry in dagster.yaml."""
        return cls(inst_data)

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        """Open the files of the instance's home, wherever that lies by now; let Dagster hand over events in groups."""
        SqliteEventLogStorage.__init__(self, _event_logs_directory(instance.root_directory), self._inst_data)
        self._locks = RunLocks(Path(instance.root_directory))
        super().register_instance(instance)
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", _EVENTS_AT_ONCE)

    @property
    def supports_partition_subset_in_asset_materialization_planned_events(self) -> bool:
        """One event per asset tells which partitions a run intends to make; it is stored as one for each."""
        return True

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Store one event."""
        self.store_event_batch([event])

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store events, all or none of a run's."""
        for run_id, of_run in groupby([*self._left_behind(events), *events], attrgetter("run_id")):
            told = [(event, self._rows(event)) for event in of_run]
            kinds = {_kind(event) for event, _ in told}
            if DagsterEventType.RUN_START.value in kinds:
                # Before Dagster says that the run has started, and in the process that runs it.
                self._locks.take(run_id)
            if kinds & _ENDS_RUN:
                self._locks.end(run_id)
            in_index = [(event, rows) for event, rows in told if _kind(event) in _IN_INDEX]
            with self.run_connection(run_id) as run:
                run.execute(SqlEventLogStorageTable.insert(), [row for _, rows in told for row in rows])
                if in_index:
                    with self.index_connection() as index:
                        self._store_in_index(index, in_index)
            # Who watches a run watches this file, and SQLite keeps what is new in the one beside it for a while.
            os.utime(self.path_for_shard(run_id))

    def _store_in_index(self, index: Connection, told: Sequence[tuple[dg.EventLogEntry, Sequence[_Row]]]) -> None:
        rows = [row for _, of_event in told for row in of_event]
        if not rows:
            return
        index.execute(SqlEventLogStorageTable.insert(), rows)
        # Nobody else writes meanwhile, so the ids are those up to the last.
        last_id = index.execute(sa.select(sa.func.max(SqlEventLogStorageTable.c.id))).scalar_one() - len(rows)
        of_assets: list[tuple[dg.EventLogEntry, int]] = []
        newest: dict[tuple[str, str], tuple[dg.EventLogEntry, int]] = {}
        for event, of_event in told:
            last_id += len(of_event)
            if (kind := _kind(event)) in _OF_ASSETS:
                of_assets.append((event, last_id))
                newest[of_event[0]["asset_key"], kind] = (event, last_id)
            elif kind in _OF_CHECKS:
                self.store_asset_check_event(event, last_id)
        self._store_asset_event_tags(index, [event for event, _ in of_assets], [event_id for _, event_id in of_assets])
        for event, event_id in newest.values():
            self._store_asset_event(index, event, event_id)

    def _left_behind(self, events: Sequence[dg.EventLogEntry]) -> list[dg.EventLogEntry]:
        """Events that Dagster still holds of a group whose step, before its last event, was interrupted."""
        if not any(_kind(event) in _ENDS_EARLY for event in events):
            return []
        runs = {event.run_id for event in events}
        groups = self._instance._event_buffer
        ended = [key for key, group in list(groups.items()) if group and group[0].run_id in runs]
        return [event for key in ended for event in groups.pop(key)]

    def _rows(self, event: dg.EventLogEntry) -> list[_Row]:
        """The rows of an event: one for each partition it tells to be made, as Dagster's own storage gets them."""
        planned = event.dagster_event.event_specific_data if event.dagster_event else None
        if not isinstance(planned, AssetMaterializationPlannedData) or not planned.partitions_subset:
            return [self._event_to_row(event)]
        place = uuid.uuid4().hex
        row = self._event_to_row(_with_data(event, AssetMaterializationPlannedData(planned.asset_key, place)))
        return [
            {**row, "event": row["event"].replace(place, json.dumps(key)[1:-1]), "partition": key}
            for key in planned.partitions_subset.get_partition_keys()
        ]

    def _store_asset_check_evaluation_planned(self, event: dg.EventLogEntry, event_id: int | None) -> None:
        # The result comes without a partition, and would leave a row for each "planned" for ever.
        planned = event.get_dagster_event().event_specific_data
        if isinstance(planned, AssetCheckEvaluationPlanned):
            event = _with_data(event, copy(planned, partitions_subset=None))
        super()._store_asset_check_evaluation_planned(event, event_id)

    def _update_asset_check_evaluation(self, event: dg.EventLogEntry, event_id: int | None) -> None:
        # The row added last counts as the newest, and of two runs the one planned first may end last.
        told = event.get_dagster_event().asset_check_evaluation_data
        rows = AssetCheckExecutionsTable.c
        with self.index_connection() as index:
            index.execute(
                AssetCheckExecutionsTable.delete().where(
                    rows.asset_key == told.asset_key.to_string(),
                    rows.check_name == told.check_name,
                    rows.run_id == event.run_id,
                    rows.partition.is_(None),
                )
            )
        super()._update_asset_check_evaluation(event, event_id)

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

        Dagster's own way looks for the revision in its migrations, all read anew several times: 45 ms for a new file,
        12 ms for one that needs nothing.
        """
        if Path(self.path_for_shard(shard)).exists():
            # An error means that it has no such table.
            with suppress(sa.exc.OperationalError), engine.connect() as stored:
                if len(stored.exec_driver_sql(_REVISIONS).all()) == 1:
                    return
        elif shard != INDEX_SHARD_NAME and self._begin_as_index(engine):
            return
        self._initdb(engine)

    def _begin_as_index(self, engine: Engine) -> bool:
        """Make a new file as the index is; False when that cannot be said, or another process was faster."""
        with self.index_connection() as index:
            # In one statement: the tables of a moment, with the revision they had then.
            told = index.exec_driver_sql(_TABLES).all()
        revisions = {revision for _, revision in told}
        if len(revisions) != 1:
            return False
        try:
            with engine.connect() as run:
                run.exec_driver_sql("pragma journal_mode = wal")
                run.exec_driver_sql("begin immediate")
                for statement, _ in told:
                    run.exec_driver_sql(statement)
                run.exec_driver_sql("insert into alembic_version values (?)", (revisions.pop(),))
                run.commit()
        except sa.exc.OperationalError as error:
            if "already exists" in str(error.orig) or "locked" in str(error.orig):
                return False
            raise
        return True

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


def _kind(event: dg.EventLogEntry) -> str:
    return event.dagster_event.event_type_value if event.dagster_event else ""


def _with_data(
    event: dg.EventLogEntry, data: AssetMaterializationPlannedData | AssetCheckEvaluationPlanned
) -> dg.EventLogEntry:
    return event._replace(dagster_event=event.get_dagster_event()._replace(event_specific_data=data))


def _commit_without_waiting_for_the_disk(connection: Any, _: object) -> None:
    # A killed process loses nothing by it; a power failure may take the last events, but leaves the file whole.
    connection.execute("pragma synchronous = normal")
