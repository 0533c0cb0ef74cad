"""The derived assets: the seven session tables as one step, the three rollups as another, spend as a third."""

from collections.abc import Iterator, Sequence
from datetime import date

import dagster as dg

from devin_pipeline.derived.publishing import (
    BuildResult,
    publish_rollups,
    publish_session_tables,
    publish_spend,
)
from devin_pipeline.lake import Lake
from devin_pipeline.orchestration.asset_specs import asset_spec_kwargs
from devin_pipeline.orchestration.partitions import RANGES, days_of
from devin_pipeline.orchestration.resources import Erased, LakeResource
from devin_pipeline.orchestration.run_metadata import acus_of_days, record_partition_metadata, report_other_days
from devin_pipeline.tables import RAW_SESSION_TABLES, ROLLUP_TABLES, SESSION_TABLES, SPEND_TABLES, Table


def derived_assets(billing_days: dg.PartitionsDefinition[str], erased: Erased) -> list[dg.AssetsDefinition]:
    """Every derived asset, partitioned by the billing day."""
    return [_session_tables(billing_days, erased), _rollups(billing_days, erased), _spend(billing_days, erased)]


def _session_tables(billing_days: dg.PartitionsDefinition[str], erased: Erased) -> dg.AssetsDefinition:
    # One step for all seven, because their payloads are parsed once.
    @dg.multi_asset(
        name="session_tables",
        specs=[
            dg.AssetSpec(
                **asset_spec_kwargs(table), deps=[raw.name for raw in RAW_SESSION_TABLES], partitions_def=billing_days
            )
            for table in SESSION_TABLES
        ],
        can_subset=True,
        backfill_policy=RANGES,
    )
    def session_tables(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[dg.MaterializeResult[None]]:
        opened = lake.open()
        opened.claim(lake.identity)
        days, selected = days_of(context, lake.day_starts_at_utc_hour), _selected(context, SESSION_TABLES)
        with erased(opened, lake.day_starts_at_utc_hour):
            made = publish_session_tables(opened, days, lake.day_starts_at_utc_hour, selected, log=context.log.info)
        yield from _results(context, opened, selected, days, made, lake.day_starts_at_utc_hour)

    return session_tables


def _rollups(billing_days: dg.PartitionsDefinition[str], erased: Erased) -> dg.AssetsDefinition:
    # One step for all three, because their sessions are read once.
    @dg.multi_asset(
        name="rollups",
        specs=[
            dg.AssetSpec(**asset_spec_kwargs(table), deps=table.inputs, partitions_def=billing_days)
            for table in ROLLUP_TABLES
        ],
        can_subset=True,
        backfill_policy=RANGES,
    )
    def rollups(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[dg.MaterializeResult[None]]:
        opened = lake.open()
        days, selected = days_of(context, lake.day_starts_at_utc_hour), _selected(context, ROLLUP_TABLES)
        with erased(opened, lake.day_starts_at_utc_hour):
            made = publish_rollups(opened, days, lake.day_starts_at_utc_hour, selected, log=context.log.info)
        yield from _results(context, opened, selected, days, made, lake.day_starts_at_utc_hour)

    return rollups


def _spend(billing_days: dg.PartitionsDefinition[str], erased: Erased) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="spend",
        specs=[
            dg.AssetSpec(**asset_spec_kwargs(table), deps=table.inputs, partitions_def=billing_days)
            for table in SPEND_TABLES
        ],
        can_subset=True,
        backfill_policy=RANGES,
    )
    def spend(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[dg.MaterializeResult[None]]:
        opened = lake.open()
        opened.claim(lake.identity)
        hour = lake.day_starts_at_utc_hour
        days = days_of(context, hour)
        for table in _selected(context, SPEND_TABLES):
            with erased(opened, hour):
                made = publish_spend(opened, days, hour, table, log=context.log.info)
            yield from _results(context, opened, [table], days, made, hour)

    return spend


def _selected(context: dg.AssetExecutionContext, tables: Sequence[Table]) -> list[Table]:
    return [table for table in tables if dg.AssetKey(table.name) in context.selected_asset_keys]


def _results(
    context: dg.AssetExecutionContext,
    lake: Lake,
    tables: Sequence[Table],
    days: Sequence[date],
    made: BuildResult,
    hour: int,
) -> Iterator[dg.MaterializeResult[None]]:
    if unchanged := len(set(days) - set(made.days)):
        context.log.info(f"{unchanged} of {len(days)} days are up to date and were not rebuilt.")
    for table in tables:
        record_partition_metadata(context, lake, table, acus_of_days(lake, table, days, made.acus[table.name]), hour)
        others = [day for day in made.days if day not in days]
        report_other_days(context, lake, table, acus_of_days(lake, table, others, made.acus[table.name]))
        yield dg.MaterializeResult(asset_key=table.name)
