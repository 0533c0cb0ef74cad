"""What every stored table promises: its name, grain, key, schema and the meaning of its columns.

Schemas belong here and nowhere else. How rows are made, stored or read does not.
"""

from devin_pipeline.tables.derived import (
    ROLLUP_TABLES,
    SESSION_TABLES,
    SESSIONS,
)
from devin_pipeline.tables.raw import RAW, RAW_QUARANTINE, RAW_SESSION_TABLES, RAW_TABLES
from devin_pipeline.tables.reports import REPORT_TABLES
from devin_pipeline.tables.table import ACUS, INSTANT, Column, Partition, PayloadFields, RawTable, Table, by_name

DERIVED_TABLES: tuple[Table, ...] = (*SESSION_TABLES, *ROLLUP_TABLES)
ALL_TABLES: tuple[Table, ...] = (*RAW_TABLES, *DERIVED_TABLES, *REPORT_TABLES)
TABLES: dict[str, Table] = by_name(ALL_TABLES)

__all__ = [
    "ACUS",
    "ALL_TABLES",
    "DERIVED_TABLES",
    "INSTANT",
    "RAW",
    "RAW_QUARANTINE",
    "RAW_SESSION_TABLES",
    "RAW_TABLES",
    "REPORT_TABLES",
    "ROLLUP_TABLES",
    "SESSIONS",
    "SESSION_TABLES",
    "TABLES",
    "Column",
    "Partition",
    "PayloadFields",
    "RawTable",
    "Table",
]
