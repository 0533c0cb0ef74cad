"""The whole pipeline on one screen. Loads without any key; what needs one says so."""

import warnings

import dagster as dg

from devin_pipeline.automation.jobs import bill_job, maintain_job, refresh_job
from devin_pipeline.automation.schedules import daily_refresh, weekly_bill, weekly_maintenance
from devin_pipeline.automation.sensors import late_updates, reports_after_backfill, rerun_unaffected_days
from devin_pipeline.derived import days_of_other_code, derived_assets, derived_checks
from devin_pipeline.operations.erase import erased
from devin_pipeline.orchestration.partitions import billing_days
from devin_pipeline.orchestration.resources import devin_api_resource, lake_resource
from devin_pipeline.raw import consumption_assets, directory_asset, money_checks, raw_assets, raw_checks
from devin_pipeline.reports import report_assets, report_checks
from devin_pipeline.settings import V3_KEY, Settings
from devin_pipeline.tables import MONEY_TABLES, RAW_DIRECTORY
from devin_pipeline.usage_report import usage_report_assets


def pipeline(settings: Settings) -> dg.Definitions:
    """The pipeline of some settings; several may stand next to each other in one process."""
    days = billing_days(settings)
    maintain = maintain_job(settings)
    why_not_read = {table.name: settings.why_not_read(table.name) for table in MONEY_TABLES}
    has_v3_key = settings.key_is_set(V3_KEY)
    with warnings.catch_warnings():
        # Ranges in one run rest on it; the lock file holds Dagster still until we have looked at a new one.
        warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)
        assets = [
            *raw_assets(days, settings.feeds, erased),
            directory_asset(why_not_read[RAW_DIRECTORY.name], has_v3_key=has_v3_key, erased=erased),
            *consumption_assets(
                days,
                why_not_read,
                has_v3_key=has_v3_key,
                session_requests=settings.session_consumption_requests,
                erased=erased,
            ),
            *derived_assets(days, erased),
            *report_assets(days_of_other_code, erased, settings.organization, settings.session_products),
            *usage_report_assets(settings.stored_report, erased),
        ]
    return dg.Definitions(
        assets=dg.map_asset_specs(_demo, assets) if settings.is_demo else assets,
        asset_checks=[
            *raw_checks(settings.feeds, settings.start_date),
            *money_checks(settings.money_tables),
            *derived_checks(),
            *report_checks(settings.residual_least_acus),
        ],
        jobs=[refresh_job, bill_job, maintain],
        schedules=[daily_refresh(settings), weekly_bill(settings), weekly_maintenance(settings, maintain)],
        sensors=[late_updates(settings), rerun_unaffected_days(), reports_after_backfill()],
        resources={"devin_api": devin_api_resource(settings), "lake": lake_resource(settings)},
        # A process per step costs seconds each, and backfills of the Dagster UI take this executor too.
        executor=dg.in_process_executor,
    )


def _demo(spec: dg.AssetSpec) -> dg.AssetSpec:
    return spec.replace_attributes(description=f"DEMO DATA of the emulator. {spec.description}")


defs = pipeline(Settings())
