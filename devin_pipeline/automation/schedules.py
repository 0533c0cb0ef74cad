"""The schedules: the newest closed days every day, the bill and upkeep once a week. On by default, off for the demo."""

from datetime import date, timedelta

import dagster as dg

from devin_pipeline.automation.jobs import DAILY_REFRESH, REFRESH, bill_job, refresh_job
from devin_pipeline.billing_calendar import newest_closed_day
from devin_pipeline.orchestration.freshness import CLOSED_DAYS_READ_AGAIN, first_day_read_daily
from devin_pipeline.orchestration.partitions import LAST_TAG, range_tags
from devin_pipeline.orchestration.run_metadata import TRIGGER, WEEKLY_BILL
from devin_pipeline.settings import Settings
from devin_pipeline.tables import RAW_CONSUMPTION

DAYS_OF_WEEKLY_BILL = 100
WEEKLY_MAINTENANCE = "weekly_maintenance"
NO_KEY = "No key is set: set DEVIN_V3_API_KEY, DEVIN_V2_API_KEY or both."
"""Why schedule and sensor request nothing."""


def daily_refresh(settings: Settings) -> dg.ScheduleDefinition:
    """Half an hour after each billing day's end: the newest closed days in one range.

    The range reaches back to the last day the schedule succeeded for, so that days missed while it was off are read.
    """
    hour = settings.day_starts_at_utc_hour

    @dg.schedule(
        name=DAILY_REFRESH,
        job=refresh_job,
        cron_schedule=f"30 {hour} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED if settings.is_demo else dg.DefaultScheduleStatus.RUNNING,
        description=f"Reads the last {CLOSED_DAYS_READ_AGAIN} closed days again.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if not settings.feeds:
            return dg.SkipReason(NO_KEY)
        last = newest_closed_day(context.scheduled_execution_time, hour)
        first = max(settings.start_date, _first_day_to_read(last, _last_day_read(context.instance)))
        if first > last:
            return dg.SkipReason(f"No day has ended since DEVIN_START_DATE ({settings.start_date}).")
        return dg.RunRequest(run_key=last.isoformat(), tags=range_tags(first, last))

    return schedule


def _first_day_to_read(last: date, last_read: date | None) -> date:
    usual = first_day_read_daily(last)
    # guard: days missed while the schedule was off | min(usual, last_read + timedelta(days=1)) -> usual
    return usual if last_read is None else min(usual, last_read + timedelta(days=1))


def _last_day_read(instance: dg.DagsterInstance) -> date | None:
    """The last day of the newest scheduled run that succeeded."""
    runs = instance.get_runs(
        dg.RunsFilter(
            job_name=REFRESH, statuses=[dg.DagsterRunStatus.SUCCESS], tags={"dagster/schedule_name": DAILY_REFRESH}
        ),
        limit=1,
    )
    return date.fromisoformat(runs[0].tags[LAST_TAG]) if runs else None


def weekly_bill(settings: Settings) -> dg.ScheduleDefinition:
    """On Sundays: the bill of the last days, of everybody, since it may be corrected late."""
    hour = settings.day_starts_at_utc_hour

    @dg.schedule(
        name=WEEKLY_BILL,
        job=bill_job,
        cron_schedule=f"0 {(hour + 4) % 24} * * 0",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED if settings.is_demo else dg.DefaultScheduleStatus.RUNNING,
        description=f"Reads the lists, and the bill of the last {DAYS_OF_WEEKLY_BILL} days, of everybody.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if not settings.money_tables:
            return dg.SkipReason(f"No bill is read: {settings.why_not_read(RAW_CONSUMPTION.name)}.")
        last = newest_closed_day(context.scheduled_execution_time, hour)
        first = max(settings.start_date, last - timedelta(days=DAYS_OF_WEEKLY_BILL - 1))
        if first > last:
            return dg.SkipReason(f"No day has ended since DEVIN_START_DATE ({settings.start_date}).")
        return dg.RunRequest(run_key=last.isoformat(), tags=range_tags(first, last) | {TRIGGER: WEEKLY_BILL})

    return schedule


def weekly_maintenance(settings: Settings, maintain: dg.JobDefinition) -> dg.ScheduleDefinition:
    """On Sundays, half a day away from the daily refresh."""
    return dg.ScheduleDefinition(
        name=WEEKLY_MAINTENANCE,
        job=maintain,
        cron_schedule=f"30 {(settings.day_starts_at_utc_hour + 12) % 24} * * 0",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED if settings.is_demo else dg.DefaultScheduleStatus.RUNNING,
        description="Maintains the lake's files and logs, and removes old runs.",
    )
