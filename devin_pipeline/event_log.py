"""The name by which the dagster.yaml of existing homes finds the event log; `dagster_server` chooses the class."""

from devin_pipeline.dagster_server.event_log import event_log_class

SqliteEventLog = event_log_class()
