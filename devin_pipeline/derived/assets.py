"""The derived assets: the seven session tables as one step, the rollups as one step each."""

from collections.abc import Iterator

import dagster as dg

from devin_pipeline.asset_facts import acus_of_days, facts, report_days, table_asset
from devin_pipeline.derived.queries import select, tell_sessions
from devin_pipeline.partitions import RANGES, days_of
from devin_pipeline.resources import LakeResource
from devin_pipeline.tables import RAW_SESSION_TABLES, ROLLUP_TABLES, SESSION_TABLES, TABLES, Table

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
        days = days_of(context)
        with opened.connect(RAW_SESSION_TABLES, days=days) as reader:
            tell_sessions(reader, days)
            for table in SESSION_TABLES:
                if dg.AssetKey(table.name) in context.selected_asset_keys:
                    rows = select(reader, table, days)
                    opened.replace_days(table, days, rows)
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
        with opened.connect(inputs, days=days) as reader:
            rows = select(reader, table, days)
        opened.replace_days(table, days, rows)
        report_days(context, opened, table, acus_of_days(days, rows))

    return rollup
