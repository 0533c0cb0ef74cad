"""Reads a range of days, or repairs it."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import click

from devin_pipeline.cli.environment import prepare_dagster_home, settings, use_live_environment
from devin_pipeline.cli.errors import Failed
from devin_pipeline.cli.output import counted
from devin_pipeline.cli.runner import DAYS_PER_RUN, dg_command, reports_waiting, run_ranges
from devin_pipeline.cli.stopping import stoppable
from devin_pipeline.cli.words import range_given
from devin_pipeline.lake import Lake
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import RAW_TABLES


@click.command()
@click.option("--from", "first", required=True, metavar="DAY", help="First billing day, as 2026-01-31.")
@click.option("--to", "last", required=True, metavar="DAY", help="Last billing day, included.")
@click.option(
    "--days-per-run", default=DAYS_PER_RUN, show_default=True, type=click.IntRange(1, 366), help="Days of one run."
)
@click.option("--only-missing", is_flag=True, help="Leave out days that are stored already.")
@click.option("--dry-run", is_flag=True, help="Show the runs without starting them.")
@click.option("--repair", is_flag=True, help="Repair damaged raw days first, and rebuild every day.")
@click.option("--accept-new-organizations", is_flag=True, help="Store them though none of them is known to the lake.")
@click.option("--accept-removals", is_flag=True, help="Believe lists and bills that leave out most of what was there.")
@stoppable()
def backfill(
    first: str,
    last: str,
    days_per_run: int,
    only_missing: bool,
    dry_run: bool,
    repair: bool,
    accept_new_organizations: bool,
    accept_removals: bool,
) -> None:
    """Read a range of days and rebuild what depends on it.

    With --repair, damaged days of the raw tables keep every row that is intact, get back what files of older versions
    hold, and are then read again. What neither has is lost if the API no longer returns it. What depends on them is
    rebuilt even where it seems unchanged.

    A key that reads none of the organizations the lake knows is refused as one of another enterprise, unless
    --accept-new-organizations says that they belong to this one.

    A list, or a bill, that leaves out more than half of what it had before may have been cut short: what is missing
    stays listed, unless --accept-removals says that it was removed.
    """
    from devin_pipeline.billing_calendar import contiguous
    from devin_pipeline.orchestration.run_metadata import ACCEPTS_NEW_ORGANIZATIONS, ACCEPTS_REMOVALS

    if repair and (only_missing or dry_run):
        raise Failed(
            "This command cannot be run",
            "--repair changes what is stored of every day",
            "Use it without the other options",
            2,
        )
    use_live_environment()
    days = _days_to_backfill(first, last, only_missing)
    runs = [
        group[start : start + days_per_run]
        for group in contiguous(days)
        for start in range(0, len(group), days_per_run)
    ]
    if not runs:
        click.echo("Nothing is missing.")
        return
    if dry_run:
        for run in runs:
            click.echo(f"{run[0]} … {run[-1]}  {counted(len(run), 'day')}  {dg_command(run[0], run[-1])}")
        return
    prepare_dagster_home()
    if repair:
        _repair(days)
    how = "one run. As" if len(runs) == 1 else f"{len(runs)} runs. The first as"
    click.echo(f"{counted(len(days), 'day')} in {how} Dagster's own command:", err=True)
    click.echo(f"  {dg_command(runs[0][0], runs[0][-1])}", err=True)
    accepted = {ACCEPTS_NEW_ORGANIZATIONS: accept_new_organizations, ACCEPTS_REMOVALS: accept_removals}
    failed, reports_wait = run_ranges(runs, {tag: "yes" for tag, is_accepted in accepted.items() if is_accepted})
    if failed:
        rest = contiguous(failed)
        in_runs = "" if days_per_run == DAYS_PER_RUN else f" --days-per-run {days_per_run}"
        commands = [pipeline_command(f"backfill --from {days[0]} --to {days[-1]}{in_runs}") for days in rest]
        reasons = [*dict.fromkeys(failed[day] for day in sorted(failed))]
        raise Failed(
            f"{len(failed)} of {len(days)} days were not made; they keep their last good version",
            reasons[0] if len(reasons) == 1 else f"{rest[0][0]}: {reasons[0]}",
            f"For the rest: `{' && '.join(commands)}`",
        )
    if reports_wait:
        raise reports_waiting(reports_wait)


def _repair(days: Sequence[date]) -> None:
    """Repair damaged raw days, and print what became of each."""
    from devin_pipeline.operations.repair import repair
    from devin_pipeline.orchestration.resources import lake_resource

    hour = settings().day_starts_at_utc_hour
    lake = lake_resource(settings()).open()
    lake.invalidate(days)
    older = [table for table in RAW_TABLES if lake.is_older(lake.snapshot_to_repair(table))]
    results = repair(lake, days, hour, keeps_text=settings().keeps_text)
    for table in older:
        click.echo(
            f"{table.name} is older than what was last written to it: what no file holds any more is lost, and what is "
            "stored from now on counts.",
            err=True,
        )
    for each in results:
        click.echo(
            f"{each.place}: {each.kept} rows kept, {each.brought_back} brought back from older files, {each.lost} lost",
            err=True,
        )
    if not results:
        click.echo("No raw day is damaged." if not older else "Older files of these days hold no more.", err=True)
    if outside := sorted({each.day for each in results if each.day} - set(days)):
        click.echo(
            "Rows of days outside the range came back too. When this is done, build what follows from them:\n  "
            + pipeline_command(f"rebuild --from {outside[0]} --to {outside[-1]}"),
            err=True,
        )


def _days_to_backfill(first: str, last: str, only_missing: bool) -> list[date]:
    """The days of the range, checked against the partitions, the configuration and the lake."""
    from devin_pipeline.billing_calendar import days_between
    from devin_pipeline.orchestration.resources import lake_resource
    from devin_pipeline.orchestration.run_history import days_made
    from devin_pipeline.settings import a_date

    range_given(first, last)
    first_day, last_day = a_date(first, "--from"), a_date(last, "--to")
    hour = settings().day_starts_at_utc_hour
    _require_partitions(first_day, last_day)
    settings().require_usable()
    lake = lake_resource(settings())
    Lake(lake.uri).require_identity(lake.identity)
    days = days_between(first_day, last_day)
    if only_missing:
        made = days_made(days, Lake(lake.uri), settings().feeds, hour)
        days = [day for day in days if day not in made]
    return days


def _require_partitions(first_day: date, last_day: date) -> None:
    """Refuse days that Dagster has no partition for."""
    from devin_pipeline.billing_calendar import day_of

    earliest, latest = settings().start_date, day_of(datetime.now(UTC), settings().day_starts_at_utc_hour)
    if first_day < earliest or last_day > latest:
        raise Failed(
            f"{first_day} … {last_day} lies outside the partitions",
            f"they go from {earliest} (DEVIN_START_DATE) to {latest}, the day that has begun",
            "Choose days in this range, or set DEVIN_START_DATE",
            2,
        )
