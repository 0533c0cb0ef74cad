"""Checks of what derived stores: sessions against raw, rollups against sessions."""

from pathlib import Path

import dagster as dg

from devin_pipeline.asset_checks import sql_check
from devin_pipeline.tables import RAW_SESSION_TABLES, ROLLUP_TABLES

_QUERIES = Path(__file__).parent / "checks"


def derived_checks() -> list[dg.AssetChecksDefinition]:
    """Every check of the derived tables."""
    raw = [table.name for table in RAW_SESSION_TABLES]
    return [
        sql_check("sessions", _QUERIES / "session_ids_are_unique.sql", ["sessions"], blocking=True),
        sql_check("sessions", _QUERIES / "sessions_are_inside_their_day.sql", ["sessions"], blocking=True),
        sql_check("sessions", _QUERIES / "every_raw_session_is_told.sql", ["sessions", *raw], blocking=True),
        *(
            sql_check(table.name, _QUERIES / f"{table.name}_adds_up.sql", ["sessions", table.name], blocking=True)
            for table in ROLLUP_TABLES
        ),
        sql_check("sessions", _QUERIES / "enum_values_are_known.sql", ["sessions"]),
        sql_check("acu_daily", _QUERIES / "days_are_as_busy_as_usual.sql", ["acu_daily"], every_day=True),
    ]
