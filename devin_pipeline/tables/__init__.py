"""What every stored table promises: its name, grain, key, schema and the meaning of its columns.

Schemas belong here and nowhere else. How rows are made, stored or read does not.
"""

from devin_pipeline.tables.derived import (
    CONSUMPTION_DAILY,
    ROLLUP_TABLES,
    SESSION_ACUS_BY_DAY,
    SESSION_TABLES,
    SESSIONS,
    SPEND_TABLES,
)
from devin_pipeline.tables.raw import (
    MONEY_TABLES,
    RAW,
    RAW_CONSUMPTION,
    RAW_DIRECTORY,
    RAW_QUARANTINE,
    RAW_SESSION_CONSUMPTION,
    RAW_SESSION_TABLES,
    RAW_TABLES,
)
from devin_pipeline.tables.reports import DIRECTORY_TABLES, REPORT_TABLES
from devin_pipeline.tables.table import ACUS, INSTANT, Column, Partition, PayloadFields, RawTable, Table, by_name

DERIVED_TABLES: tuple[Table, ...] = (*SESSION_TABLES, *ROLLUP_TABLES, *SPEND_TABLES)
ALL_TABLES: tuple[Table, ...] = (*RAW_TABLES, *DERIVED_TABLES, *REPORT_TABLES)
TABLES: dict[str, Table] = by_name(ALL_TABLES)

__all__ = [
    "ACUS",
    "ALL_TABLES",
    "CONSUMPTION_DAILY",
    "DERIVED_TABLES",
    "DIRECTORY_TABLES",
    "INSTANT",
    "MONEY_TABLES",
    "RAW",
    "RAW_CONSUMPTION",
    "RAW_DIRECTORY",
    "RAW_QUARANTINE",
    "RAW_SESSION_CONSUMPTION",
    "RAW_SESSION_TABLES",
    "RAW_TABLES",
    "REPORT_TABLES",
    "ROLLUP_TABLES",
    "SESSIONS",
    "SESSION_ACUS_BY_DAY",
    "SESSION_TABLES",
    "SPEND_TABLES",
    "TABLES",
    "Column",
    "Partition",
    "PayloadFields",
    "RawTable",
    "Table",
]
