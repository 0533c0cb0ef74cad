"""Runs the SELECTs of this room: derived tables in, rows of one report out. No Dagster."""

from pathlib import Path

import pyarrow as pa

from devin_pipeline.lake import Reader
from devin_pipeline.tables import Table

INPUTS = {
    "acu_weekly": ("acu_daily",),
    "acu_monthly": ("acu_daily",),
    "pull_requests": ("session_pull_requests",),
    "acus_per_merged_pull_request": ("acu_daily", "pull_requests"),
}


def select(reader: Reader, table: Table) -> pa.Table:
    """The rows of a report, in its schema and key order.

    Args:
        reader: Holds the report's INPUTS under their table names.
        table: The report.
    """
    query = (Path(__file__).parent / f"{table.name}.sql").read_text()
    return reader.rows(query).cast(table.schema)
