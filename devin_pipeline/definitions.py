"""The whole pipeline on one screen. Loads without any key; what needs one says so."""

import warnings

import dagster as dg

from devin_pipeline.derived import days_of_other_code, derived_assets, derived_checks
from devin_pipeline.forgetting import erased
from devin_pipeline.partitions import billing_days, day_starts_at_utc_hour
from devin_pipeline.raw import raw_assets, raw_checks
from devin_pipeline.reports import report_assets
from devin_pipeline.resources import devin_api_resource, feeds_turned_on, lake_resource
from devin_pipeline.schedules import (
    daily_refresh,
    days_beside_a_bad_one,
    late_updates,
    maintain_job,
    refresh_job,
    reports_after_backfill,
    weekly_maintenance,
)


def pipeline() -> dg.Definitions:
    """The pipeline as the environment says now."""
    days = billing_days()
    feeds = feeds_turned_on()
    with warnings.catch_warnings():
        # Ranges in one run rest on it; the lock file holds Dagster still until we have looked at a new one.
        warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)
        assets = [
            *raw_assets(days, feeds, erased),
            *derived_assets(days, erased),
            *report_assets(days_of_other_code, erased),
        ]
    return dg.Definitions(
        assets=assets,
        asset_checks=[*raw_checks(feeds), *derived_checks()],
        jobs=[refresh_job, maintain_job],
        schedules=[daily_refresh(), weekly_maintenance()],
        sensors=[late_updates(), days_beside_a_bad_one(), reports_after_backfill()],
        resources={"devin_api": devin_api_resource(), "lake": lake_resource(day_starts_at_utc_hour())},
        # A process per step costs seconds each, and backfills from the page take this executor too.
        executor=dg.in_process_executor,
    )


defs = pipeline()
