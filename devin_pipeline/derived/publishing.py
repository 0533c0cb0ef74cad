"""Makes the tables of this room for some days and commits them, again if their inputs move meanwhile. No Dagster."""

from collections.abc import Sequence
from datetime import date

import pyarrow as pa

from devin_pipeline.derived.queries import INPUTS, pass_gate, select, tell_sessions
from devin_pipeline.lake import Lake
from devin_pipeline.tables import RAW_SESSION_TABLES, SESSION_TABLES, SESSIONS, TABLES, Table


def publish_session_tables(
    lake: Lake, days: Sequence[date], hour: int, tables: Sequence[Table] = SESSION_TABLES
) -> dict[Table, pa.Table]:
    """Make session tables anew from what raw holds of `days`, and give their rows.

    Args:
        lake: Where.
        days: Neighbouring days, oldest first.
        hour: Hour of the UTC day at which a billing day starts.
        tables: The session tables to make; their payloads are parsed once for all of them.

    Raises:
        GateClosed: What was made contradicts raw; no table was written.
    """

    def make() -> dict[Table, pa.Table]:
        with lake.connect(RAW_SESSION_TABLES, days=days) as reader:
            tell_sessions(reader, days)
            made = {table: select(reader, table, days) for table in tables}
            if SESSIONS in made:
                pass_gate(reader, SESSIONS, made[SESSIONS], hour)
        for table, rows in made.items():
            lake.replace_days(table, days, rows)
        return made

    return lake.while_inputs_move(RAW_SESSION_TABLES, days, make)


def publish_rollup(lake: Lake, table: Table, days: Sequence[date], hour: int) -> pa.Table:
    """Make a rollup anew from what the session tables hold of `days`, and give its rows.

    Args:
        lake: Where.
        table: The rollup.
        days: Neighbouring days, oldest first.
        hour: Hour of the UTC day at which a billing day starts.

    Raises:
        GateClosed: It does not add up to its sessions; it was not written.
    """
    inputs = [TABLES[name] for name in INPUTS[table.name]]

    def make() -> pa.Table:
        with lake.connect(inputs, days=days) as reader:
            made = select(reader, table, days)
            pass_gate(reader, table, made, hour)
        lake.replace_days(table, days, made)
        return made

    return lake.while_inputs_move(inputs, days, make)
