"""The whole pipeline on one screen. Loads without any key; what needs one says so."""

import warnings

import dagster as dg

from devin_pipeline.automation.jobs import maintain_job, refresh_job
from devin_pipeline.automation.schedules import daily_refresh, weekly_maintenance
from devin_pipeline.automation.sensors import late_updates, reports_after_backfill, rerun_unaffected_days
from devin_pipeline.derived import days_of_other_code, derived_assets, derived_checks
from devin_pipeline.operations.erase import erased
from devin_pipeline.orchestration.partitions import billing_days
from devin_pipeline.orchestration.resources import devin_api_resource, lake_resource
from devin_pipeline.raw import raw_assets, raw_checks
from devin_pipeline.reports import report_assets
from devin_pipeline.settings import Settings
from devin_pipeline.usage_report import usage_report_assets


def pipeline(settings: Settings) -> dg.Definitions:
    """The pipeline of some settings; several may stand next to each other in one process."""
    days = billing_days(settings)
    maintain = maintain_job(settings)
    with warnings.catch_warnings():
        # Ranges in one run rest on it; the lock file holds Dagster still until we have looked at a new one.
        warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)
        assets = [
            *raw_assets(days, settings.feeds, erased),
            *derived_assets(days, erased),
            *report_assets(days_of_other_code, erased),
            *usage_report_assets(settings.stored_report, erased),
        ]
    return dg.Definitions(
        assets=dg.map_asset_specs(_demo, assets) if settings.is_demo else assets,
        asset_checks=[*raw_checks(settings.feeds, settings.start_date), *derived_checks()],
        jobs=[refresh_job, maintain],
        schedules=[daily_refresh(settings), weekly_maintenance(settings, maintain)],
        sensors=[late_updates(settings), rerun_unaffected_days(), reports_after_backfill()],
        resources={"devin_api": devin_api_resource(settings), "lake": lake_resource(settings)},
        # A process per step costs seconds each, and backfills of the Dagster UI take this executor too.
        executor=dg.in_process_executor,
    )


def _demo(spec: dg.AssetSpec) -> dg.AssetSpec:
    return spec.replace_attributes(description=f"DEMO DATA of the emulator. {spec.description}")


defs = pipeline(Settings())
