"""Runs the SELECTs of this room: derived tables in, rows of one report out. No Dagster."""

from pathlib import Path

import pyarrow as pa

from devin_pipeline.lake import Connection, code_fingerprint
from devin_pipeline.tables import Table


def fingerprint(table: Table) -> str:
    """The fingerprint of the code that builds a report: all that its rows follow from but its inputs."""
    return code_fingerprint(_query_file(table), Path(__file__), table=table)


def select(connection: Connection, table: Table) -> pa.Table:
    """The rows of a report, in its schema and key order.

    Args:
        connection: Holds the report's inputs under their table names.
        table: The report.
    """
    return connection.rows(_query_file(table).read_text()).cast(table.schema)


def _query_file(table: Table) -> Path:
    (file,) = Path(__file__).parent.glob(f"*/{table.name}.sql")
    return file
