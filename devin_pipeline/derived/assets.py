"""The derived assets: the seven session tables as one step, the rollups as one step each."""

from collections.abc import Iterator

import dagster as dg
import pyarrow as pa

from devin_pipeline.asset_facts import acus_of_days, facts, report_days, table_asset
from devin_pipeline.derived.queries import pass_gate, select, tell_sessions
from devin_pipeline.partitions import RANGES, days_of
from devin_pipeline.resources import LakeResource
from devin_pipeline.tables import RAW_SESSION_TABLES, ROLLUP_TABLES, SESSION_TABLES, SESSIONS, TABLES, Table

INPUTS = {
    "acu_daily": ("sessions", "session_pull_requests", "prompt_feedback"),
    "acu_daily_by_tag": ("sessions",),
    "acu_daily_by_repository": ("sessions", "session_pull_requests"),
}


def derived_assets(billing_days: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """Every derived asset, partitioned by the billing day."""
    return [_session_tables(billing_days), *(_rollup(table, billing_days) for table in ROLLUP_TABLES)]


def _session_tables(billing_days: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    # One step for all seven, because their payloads are parsed once.
    @dg.multi_asset(
        name="session_tables",
        specs=[
            dg.AssetSpec(**facts(table), deps=[raw.name for raw in RAW_SESSION_TABLES], partitions_def=billing_days)
            for table in SESSION_TABLES
        ],
        can_subset=True,
        backfill_policy=RANGES,
    )
    def session_tables(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[dg.MaterializeResult[None]]:
        opened = lake.open()
        opened.claim(lake.identity)
        days = days_of(context)
        selected = [table for table in SESSION_TABLES if dg.AssetKey(table.name) in context.selected_asset_keys]

        def make() -> dict[Table, pa.Table]:
            with opened.connect(RAW_SESSION_TABLES, days=days) as reader:
                tell_sessions(reader, days)
                made = {table: select(reader, table, days) for table in selected}
                if SESSIONS in made:
                    pass_gate(reader, SESSIONS, made[SESSIONS], lake.day_starts_at_utc_hour)
            for table, rows in made.items():
                opened.replace_days(table, days, rows)
            return made

        for table, rows in opened.while_inputs_move(RAW_SESSION_TABLES, days, make).items():
            report_days(context, opened, table, acus_of_days(days, rows))
            yield dg.MaterializeResult(asset_key=table.name)

    return session_tables


def _rollup(table: Table, billing_days: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    inputs = [TABLES[name] for name in INPUTS[table.name]]

    @table_asset(
        table,
        deps=INPUTS[table.name],
        partitions_def=billing_days,
        backfill_policy=RANGES,
    )
    def rollup(context: dg.AssetExecutionContext, lake: LakeResource) -> None:
        opened = lake.open()
        days = days_of(context)

        def make() -> pa.Table:
            with opened.connect(inputs, days=days) as reader:
                made = select(reader, table, days)
                pass_gate(reader, table, made, lake.day_starts_at_utc_hour)
            opened.replace_days(table, days, made)
            return made

        rows = opened.while_inputs_move(inputs, days, make)
        report_days(context, opened, table, acus_of_days(days, rows))

    return rollup
