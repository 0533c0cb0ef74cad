"""Which class keeps the event log of a DAGSTER_HOME: ours, or Dagster's own where ours may not fit Dagster.

Ours relies on private parts of Dagster. Under a version of Dagster that its tests have not run under, Dagster's own
class reads and writes the same files. How ours stores events does not belong here.
"""

import logging
from collections.abc import Mapping
from typing import Self

import dagster as dg
from dagster._core.instance.ref import _event_logs_directory
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData

TESTED_VERSIONS = ("1.13.27", "1.13.29")
"""The versions of Dagster that all tests of `event_log_storage` have passed under."""

FINGERPRINT = "devin/fingerprint"
"""Metadata of a materialization: what it says of its partition. One that says the same as the newest is not stored."""

_log = logging.getLogger(__name__)


class PlainEventLog(SqliteEventLogStorage):
    """Dagster's own event log in the usual place of DAGSTER_HOME, though dagster.yaml does not name the place."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        # The files are opened when the instance, and with it the home, is known.
        self._inst_data = inst_data

    @classmethod
    def config_type(cls) -> Mapping[str, object]:
        """There is nothing to configure."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, object]) -> Self:
        """What Dagster makes of the entry in dagster.yaml."""
        return cls(inst_data)

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        """Open the files of the instance's home, wherever that is by now."""
        SqliteEventLogStorage.__init__(self, _event_logs_directory(instance.root_directory), self._inst_data)
        super().register_instance(instance)


def event_log_class() -> type[PlainEventLog]:
    """The class for this version of Dagster; a line in the log says so when it is Dagster's own."""
    # guard: an event log that was not tested under this Dagster | in TESTED_VERSIONS -> != ""
    if dg.__version__ in TESTED_VERSIONS:
        from devin_pipeline.dagster_server.event_log_storage import SqliteEventLog

        return SqliteEventLog
    _log.warning(
        "Dagster's own event log is in use, which is slower: devin_pipeline's is not tested with Dagster %s",
        dg.__version__,
    )
    return PlainEventLog
