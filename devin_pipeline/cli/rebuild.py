"""Builds derived tables and reports again from the raw ones."""

import os
from datetime import date

import click

from devin_pipeline.cli.days_shown import days_shown
from devin_pipeline.cli.environment import prepare_dagster_home, settings, use_live_environment
from devin_pipeline.cli.errors import Failed
from devin_pipeline.cli.runner import rebuild_days, reports_waiting
from devin_pipeline.cli.stopping import stoppable
from devin_pipeline.cli.words import range_given
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import DERIVED_TABLES, RAW_SESSION_TABLES, RAW_TABLES


@click.command()
@click.option("--from", "first", metavar="DAY", help="First billing day, as 2026-01-31; the first that is stored.")
@click.option("--to", "last", metavar="DAY", help="Last billing day, included; the last that is stored.")
@stoppable()
def rebuild(first: str | None, last: str | None) -> None:
    """Build derived tables and reports again from the raw tables, without asking the API.

    After an update of the pipeline that builds tables by other rules, it builds all stored days by the new ones. Until
    then, reports are not written. A session that a feed holds on several days stays on the one with its newest version.
    """
    from devin_pipeline.billing_calendar import contiguous
    from devin_pipeline.derived.publishing import note_all_days_sharing_sessions
    from devin_pipeline.operations.erase import erase
    from devin_pipeline.orchestration.resources import lake_resource
    from devin_pipeline.orchestration.run_metadata import REBUILD
    from devin_pipeline.raw.row_integrity import damaged_days
    from devin_pipeline.raw.sessions.moved_sessions import settle

    first_day, last_day = range_given(first, last)
    # What no run could use is refused before anything is erased or rebuilt.
    _ = settings().stored_report
    use_live_environment()
    hour = settings().day_starts_at_utc_hour
    lake = lake_resource(settings()).open()
    erase(lake, hour)
    # Days that only a report has are left out: sessions of other days consumed ACUs on them.
    tables = [table for table in (*RAW_TABLES, *DERIVED_TABLES) if table.by_day]
    stored = sorted({day for table in tables for day in lake.snapshot(table).rows_per_day()})
    days = [day for day in stored if (first_day or day) <= day <= (last_day or day)]
    if not days:
        click.echo(f"Nothing is stored of these days in {lake.uri}.", err=True)
        return
    prepare_dagster_home()
    moved = set().union(*(settle(lake, table, hour) for table in RAW_SESSION_TABLES))
    note_all_days_sharing_sessions(lake)
    days = sorted({*days, *moved})
    # Days that are stored may be older than those that are read.
    os.environ["DEVIN_START_DATE"] = min(settings().start_date, days[0]).isoformat()
    lake.invalidate(days)
    damaged: set[date] = set()
    with days_shown(len(days)) as shown:
        outcome = rebuild_days(days, REBUILD, shown)
        if not (outcome.succeeded or outcome.reports_wait):
            damaged = {day for table in RAW_SESSION_TABLES for day in damaged_days(lake.snapshot(table), days, hour)}
            if damaged and (others := [day for day in days if day not in damaged]):
                outcome = rebuild_days(others, REBUILD, shown)
    if damaged and (outcome.succeeded or outcome.reports_wait):
        ranges = contiguous(damaged)
        commands = [pipeline_command(f"backfill --from {some[0]} --to {some[-1]} --repair") for some in ranges]
        raise Failed(
            f"{len(damaged)} of {len(days)} days were not rebuilt; they keep their last good version",
            "what the raw tables hold of them is damaged: " + ", ".join(f"{some[0]} … {some[-1]}" for some in ranges),
            f"Repair them, which rebuilds them too: `{' && '.join(commands)}`",
        )
    if outcome.reports_wait:
        raise reports_waiting(outcome.reports_wait)
    if not outcome.succeeded:
        raise Failed(
            "Not everything was rebuilt; what was not keeps its last good version",
            outcome.reason or "a step failed",
            "Remove the cause, then run the same command again",
        )
