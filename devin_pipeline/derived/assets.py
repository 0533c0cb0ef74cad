"""The derived assets: the seven session tables as one step, the rollups as one step each."""

from collections.abc import Iterator

import dagster as dg

from devin_pipeline.asset_facts import acus_of_days, facts, report_days, table_asset
from devin_pipeline.derived.publishing import publish_rollup, publish_session_tables
from devin_pipeline.derived.queries import INPUTS
from devin_pipeline.partitions import RANGES, days_of
from devin_pipeline.resources import LakeResource
from devin_pipeline.tables import RAW_SESSION_TABLES, ROLLUP_TABLES, SESSION_TABLES, Table


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

        publish_session_tables(opened, days, lake.day_starts_at_utc_hour, selected)
        for table in selected:
            report_days(context, opened, table, acus_of_days(opened, table, days))
            yield dg.MaterializeResult(asset_key=table.name)

    return session_tables


def _rollup(table: Table, billing_days: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    @table_asset(
        table,
        deps=INPUTS[table.name],
        partitions_def=billing_days,
        backfill_policy=RANGES,
    )
    def rollup(context: dg.AssetExecutionContext, lake: LakeResource) -> None:
        opened = lake.open()
        days = days_of(context)

        publish_rollup(opened, table, days, lake.day_starts_at_utc_hour)
        report_days(context, opened, table, acus_of_days(opened, table, days))

    return rollup
