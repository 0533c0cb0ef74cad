"""The dotted path of the event log that the dagster.yaml of existing homes names."""

from devin_pipeline.dagster_server.event_log_storage import SqliteEventLog as SqliteEventLog
