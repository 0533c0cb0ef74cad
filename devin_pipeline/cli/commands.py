"""The commands themselves, one function each, with what only that one needs below it."""

import os
import shlex
import shutil
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
import pyarrow as pa
from dotenv import load_dotenv

from devin_pipeline.cli.days_shown import DaysShown, days_shown
from devin_pipeline.cli.endings import Commands, Failed, stop_signals
from devin_pipeline.cli.job import dg_command, run_job, settings_shown, stoppable, warn_of_dotenv
from devin_pipeline.cli.limits import within_limits
from devin_pipeline.cli.rows import counted, draw, json_bytes, printable, show
from devin_pipeline.cli.stage import (
    DEMO_DAYS,
    DEMO_NOTICE,
    DEMO_SESSIONS_PER_DAY,
    DemoEnterprise,
    begin_dagsters_records,
    demo_enterprise,
    demo_stage,
    has_dagsters_records,
    lake_of,
    lake_with_tables,
    live_stage,
    prepare_dagster_home,
    say_demo,
    settings,
    use_dagster_home,
)
from devin_pipeline.cli.words import TakesText, sql_of
from devin_pipeline.lake import Kind, Lake, QueryFailed, VersionsLost, may_name_tables, renew_moved_catalog
from devin_pipeline.shell import pipeline_command, shipped, typed
from devin_pipeline.tables import (
    ALL_TABLES,
    DERIVED_TABLES,
    RAW_QUARANTINE,
    RAW_SESSION_TABLES,
    REPORT_TABLES,
    TABLES,
    Table,
)

if TYPE_CHECKING:
    from devin_pipeline.cli.job import Outcome as RunOutcome
    from devin_pipeline.doctor import Finding, Outcome
    from devin_pipeline.operations.erase import ErasureResult
    from devin_pipeline.operations.verify import VerificationReport

_DAYS_PER_RUN = 366
# Of the session tables, of the rollups, and of the reports, which hold no days.
_BUILDING_STEPS = 3


@click.group(cls=Commands)
@click.version_option(package_name="devin-pipeline")
def main() -> None:
    """Where do our ACUs go, and which prompts should we fix."""
    try:
        load_dotenv(Path(".env"))
    except (OSError, ValueError) as error:
        why = "it is not UTF-8" if isinstance(error, ValueError) else os.strerror(error.errno or 0)
        raise Failed("The file .env cannot be read", why, "Put it right, or move it away", 2) from None


@main.command()
@click.option("--days", default=DEMO_DAYS, show_default=True, type=click.IntRange(1, 400), help="Days of sessions.")
@stoppable()
def demo(days: int) -> None:
    """Run the whole pipeline on the bundled emulator. Needs no key."""
    from devin_pipeline.asset_facts import DEMO
    from devin_pipeline.billing_calendar import days_between

    demo_stage()
    prepare_dagster_home()
    lake = lake_of(demo=True)
    if lake.identity is not None and lake.identity.kind == "demo":
        # The emulator's sessions are of today: yesterday's demo would stand beside them as vanished.
        shutil.rmtree(lake.uri)
    enterprise = DemoEnterprise(days * DEMO_SESSIONS_PER_DAY, days, 7, datetime.now(UTC))
    enterprise.file().write_bytes(msgspec.json.encode(enterprise))
    click.echo(DEMO_NOTICE)
    with enterprise.served():
        run = days_between(enterprise.first_day, enterprise.last_day)
        click.echo(f"Running the job `refresh` over {counted(days, 'day')}.")
        outcome = run_job(run, DEMO)
        if not outcome.succeeded:
            raise Failed(
                "The demo failed",
                outcome.reason or "a step failed",
                f"Look at the run: `{pipeline_command('ui --demo')}`",
            )
        passed = outcome.checks - len(outcome.warnings)
        click.echo(f"Done: {f'{passed} of' if outcome.warnings else 'all'} {outcome.checks} checks passed.")
        for warning in outcome.warnings:
            click.echo(f"  Warning: {warning}")
    draw(_demo_summary(lake))
    click.echo(
        f"""
The lake:        {lake.uri}
For DuckDB:      {lake.uri}/devin.duckdb
Dagster's home:  {os.environ["DAGSTER_HOME"]}

Next:
  {pipeline_command('query --demo "from prompt_feedback limit 5"')}
  {pipeline_command("tables --demo")}
  {pipeline_command("ui --demo")}"""
    )


def _demo_summary(lake: Lake) -> pa.Table:
    with lake.connect([TABLES["acu_daily"]]) as reader:
        return reader.rows(
            """
            select
                org_id as organization,
                sum(sessions)::bigint as sessions,
                sum(acus) as acus,
                sum(merged_pull_request_links)::bigint as merged_pull_requests,
                sum(analysed_sessions)::bigint as analysed_sessions,
                sum(feedback_items)::bigint as feedback_items
            from acu_daily
            group by org_id
            order by acus desc nulls last, org_id
            """
        )


@main.command()
@click.option("--from", "first", required=True, metavar="DAY", help="First billing day, as 2026-01-31.")
@click.option("--to", "last", required=True, metavar="DAY", help="Last billing day, included.")
@click.option(
    "--days-per-run", default=_DAYS_PER_RUN, show_default=True, type=click.IntRange(1, 366), help="Days of one run."
)
@click.option("--only-missing", is_flag=True, help="Leave out days that have been made already.")
@click.option("--dry-run", is_flag=True, help="Show the runs, start none.")
@click.option("--repair", is_flag=True, help="Save what can be saved of damaged raw days, make all anew.")
@click.option("--accept-new-organizations", is_flag=True, help="Store them though none of them is known to the lake.")
@stoppable()
def backfill(
    first: str,
    last: str,
    days_per_run: int,
    only_missing: bool,
    dry_run: bool,
    repair: bool,
    accept_new_organizations: bool,
) -> None:
    """Read a range of days and rebuild what follows from it.

    With --repair, damaged days of the raw tables keep every row that is still sound, get back what files of older
    versions hold, and are then read again. What neither has is lost if the API no longer tells it. What follows from
    them is made anew even where it seems not to have changed.

    A key that reads none of the organizations the lake knows is refused as one of another enterprise, unless
    --accept-new-organizations says that they belong to this one.
    """
    from devin_pipeline.asset_facts import ACCEPTS_NEW_ORGANIZATIONS
    from devin_pipeline.billing_calendar import contiguous

    if repair and (only_missing or dry_run):
        raise Failed(
            "This call cannot be run", "--repair changes what is stored of every day", "Give it without the others", 2
        )
    live_stage()
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
    failed, reports_wait = _run_all(runs, {ACCEPTS_NEW_ORGANIZATIONS: "yes"} if accept_new_organizations else {})
    if failed:
        rest = contiguous(failed)
        commands = [
            pipeline_command(f"backfill --from {days[0]} --to {days[-1]} --days-per-run {days_per_run}")
            for days in rest
        ]
        reasons = [*dict.fromkeys(failed[day] for day in sorted(failed))]
        raise Failed(
            f"{len(failed)} of {len(days)} days were not made; they keep their last good version",
            reasons[0] if len(reasons) == 1 else f"{rest[0][0]}: {reasons[0]}",
            f"For the rest: `{' && '.join(commands)}`",
        )
    if reports_wait:
        raise _reports_waiting(reports_wait)


def _repair(days: Sequence[date]) -> None:
    """Make damaged raw days sound again, and tell what became of each."""
    from devin_pipeline.operations.repair import repair
    from devin_pipeline.resources import lake_resource

    hour = settings().day_starts_at_utc_hour
    lake = lake_resource(settings()).open()
    lake.invalidate(days)
    older = [table for table in (*RAW_SESSION_TABLES, RAW_QUARANTINE) if lake.is_older(lake.snapshot_to_repair(table))]
    results = repair(lake, days, hour, keeps_text=settings().keeps_text)
    for table in older:
        click.echo(
            f"{table.name} is older than what was last written to it: what no file holds any more is lost, and what is "
            "stored from now on counts.",
            err=True,
        )
    for each in results:
        click.echo(
            f"{each.table.name} {each.day}: {each.kept} rows kept, {each.brought_back} brought back from older files, "
            f"{each.lost} lost",
            err=True,
        )
    if not results:
        click.echo("No raw day is damaged." if not older else "No file of theirs holds more.", err=True)
    if outside := sorted({each.day for each in results} - set(days)):
        click.echo(
            "Rows of days outside the range came back too. When this is done, build what follows from them:\n  "
            + pipeline_command(f"rebuild --from {outside[0]} --to {outside[-1]}"),
            err=True,
        )


def _days_to_backfill(first: str, last: str, only_missing: bool) -> list[date]:
    """The days of the range, checked against the partitions, the configuration and the lake."""
    from devin_pipeline.asset_facts import days_made
    from devin_pipeline.billing_calendar import days_between
    from devin_pipeline.resources import lake_resource
    from devin_pipeline.settings import a_date

    _range_given(first, last)
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


def _reports_waiting(why: str) -> Failed:
    return Failed(
        "The days were made, but reports were not written", why, "Run the command that is named, then look at them"
    )


def _run_all(runs: Sequence[Sequence[date]], tags: Mapping[str, str]) -> tuple[dict[date, str], str]:
    """Run the job over each range; the days that could not be made and why, and why reports wait in the end."""
    from devin_pipeline.asset_facts import BACKFILL
    from devin_pipeline.billing_calendar import contiguous

    failed: dict[date, str] = {}
    reports_wait = ""
    waiting = [list(run) for run in runs]
    total = sum(map(len, runs))
    with days_shown(total) as shown:
        while waiting:
            days = waiting.pop(0)
            shown.begin(days, len(settings().feeds) + _BUILDING_STEPS)
            outcome = run_job(days, BACKFILL, tags=tags)
            bad = {date.fromisoformat(day): reason for day, reason in outcome.days_not_read.items()}
            if outcome.succeeded or outcome.reports_wait:
                reports_wait = outcome.reports_wait
                shown.end(days, "done, but reports wait" if reports_wait else "done", outcome.warnings, made=True)
            elif bad:
                failed |= bad
                shown.end(sorted(bad), "not read", made=False)
                # The days that were read whole are in raw; what follows from them is still to be made.
                waiting[:0] = [list(group) for group in contiguous(day for day in days if day not in bad)]
            else:
                failed |= dict.fromkeys(days, outcome.reason)
                shown.end(days, "failed", made=False)
                if outcome.is_final:
                    failed |= {day: outcome.reason for run in waiting for day in run}
                    break
    return failed, reports_wait


@main.command()
@click.option("--from", "first", metavar="DAY", help="First billing day, as 2026-01-31; the first that is stored.")
@click.option("--to", "last", metavar="DAY", help="Last billing day, included; the last that is stored.")
@stoppable()
def rebuild(first: str | None, last: str | None) -> None:
    """Build derived tables and reports again from the raw tables, without asking the API.

    After an update of the pipeline that builds tables by other rules, it builds all stored days by the new ones. Until
    then, reports are not written. A session that a feed holds on several days stays on the one with its newest version.
    """
    from devin_pipeline.asset_facts import REBUILD
    from devin_pipeline.billing_calendar import contiguous
    from devin_pipeline.derived.publishing import note_all_days_sharing_sessions
    from devin_pipeline.operations.erase import erase
    from devin_pipeline.raw.moved_sessions import settle
    from devin_pipeline.raw.row_integrity import damaged_days
    from devin_pipeline.resources import lake_resource

    first_day, last_day = _range_given(first, last)
    live_stage()
    hour = settings().day_starts_at_utc_hour
    lake = lake_resource(settings()).open()
    erase(lake, hour)
    tables = [table for table in ALL_TABLES if table.by_day]
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
        outcome = _rebuild(days, REBUILD, shown)
        if not (outcome.succeeded or outcome.reports_wait):
            damaged = {day for table in RAW_SESSION_TABLES for day in damaged_days(lake.snapshot(table), days, hour)}
            if damaged and (others := [day for day in days if day not in damaged]):
                outcome = _rebuild(others, REBUILD, shown)
    if damaged and (outcome.succeeded or outcome.reports_wait):
        ranges = contiguous(damaged)
        commands = [pipeline_command(f"backfill --from {some[0]} --to {some[-1]} --repair") for some in ranges]
        raise Failed(
            f"{len(damaged)} of {len(days)} days were not rebuilt; they keep their last good version",
            "what the raw tables hold of them is damaged: " + ", ".join(f"{some[0]} … {some[-1]}" for some in ranges),
            f"Repair them, which rebuilds them too: `{' && '.join(commands)}`",
        )
    if outcome.reports_wait:
        raise _reports_waiting(outcome.reports_wait)
    if not outcome.succeeded:
        raise Failed(
            "Not everything was rebuilt; what was not keeps its last good version",
            outcome.reason or "a step failed",
            "Run the same command again when the reason is gone",
        )


def _rebuild(days: Sequence[date], trigger: str, shown: DaysShown | None = None) -> "RunOutcome":
    """Build again what follows from the raw tables on these days; the outcome of the last run, or of one that failed.

    Reports come with the last run: over days of which some are still to be built, they would not be written.
    """
    from devin_pipeline.billing_calendar import contiguous
    from devin_pipeline.reports import DUCKDB_CATALOG

    runs = [
        group[start : start + _DAYS_PER_RUN]
        for group in contiguous(days)
        for start in range(0, len(group), _DAYS_PER_RUN)
    ]
    derived = [table.name for table in DERIVED_TABLES]
    reports = [*(table.name for table in REPORT_TABLES), DUCKDB_CATALOG]
    for run in runs:
        is_last = run is runs[-1]
        if shown:
            shown.begin(run, _BUILDING_STEPS)
        outcome = run_job(run, trigger, only=[*derived, *reports] if is_last else derived)
        is_done = outcome.succeeded or (is_last and bool(outcome.reports_wait))
        if shown:
            shown.end(run, "done" if is_done else "failed", outcome.warnings, made=is_done)
        if not is_done:
            break
    return outcome


def _range_given(first: str | None, last: str | None) -> tuple[date | None, date | None]:
    """The days of `--from` and `--to`, each None where it is not given."""
    from devin_pipeline.settings import a_date

    first_day = a_date(first, "--from") if first else None
    last_day = a_date(last, "--to") if last else None
    if first_day and last_day and first_day > last_day:
        raise Failed("The range is empty", f"{first_day} comes after {last_day}", "Swap --from and --to", 2)
    return first_day, last_day


def _require_partitions(first_day: date, last_day: date) -> None:
    """Refuse days that Dagster has no partition for."""
    from devin_pipeline.billing_calendar import day_of

    earliest, latest = settings().start_date, day_of(datetime.now(UTC), settings().day_starts_at_utc_hour)
    if first_day < earliest or last_day > latest:
        raise Failed(
            f"{first_day} … {last_day} lies outside the partitions",
            f"they go from {earliest} (DEVIN_START_DATE) to {latest}, the day that has begun",
            "Choose days between these, or set DEVIN_START_DATE",
            2,
        )


@main.command(cls=TakesText)
@click.argument("sql", required=False, metavar="SQL|-")
@click.option("--file", metavar="PATH", help="Read the SELECT from a file; - is standard input.")
@click.option("--format", "shape", default="table", show_default=True, type=click.Choice(["table", "csv", "json"]))
@click.option("--timeout", metavar="SECONDS", help="Stop after so long, the output included; 0 for no limit.")
@click.option("--demo", is_flag=True, help="Ask the demo's lake.")
def query(sql: str | None, file: str | None, shape: str, timeout: str | None, demo: bool) -> None:
    """Ask the lake one SELECT, given as SQL, in a file or, for -, on standard input.

    `devin-pipeline tables` lists what there is. A query may take DEVIN_QUERY_SECONDS and DEVIN_QUERY_MEMORY.
    """
    select = sql_of(sql, file)
    with within_limits(timeout) as limits:
        lake = lake_with_tables(demo) if may_name_tables(select) else lake_of(demo)
        renew_moved_catalog(lake)
        say_demo(demo)
        try:
            with lake.reader_for(select, limits) as reader:
                show(reader, select, shape)
        except QueryFailed as error:
            if demo:
                error.todo = f"List what there is: `{pipeline_command('tables --demo')}`"
            raise


@main.command()
@click.option("--demo", is_flag=True, help="Of the demo's lake.")
# guard: a lake that does not answer | @stoppable()
@stoppable()
def tables(demo: bool) -> None:
    """List the tables: name, grain, rows, days."""
    lake = lake_with_tables(demo)
    renew_moved_catalog(lake)
    say_demo(demo)
    rows = []
    for table in ALL_TABLES:
        snapshot = lake.snapshot(table)
        days = list(snapshot.rows_per_day())
        rows.append(
            {
                "table": table.name,
                "grain": table.grain,
                "rows": sum(file.rows for file in snapshot.stored_files()),
                "days": len(days) if table.by_day else None,
                "first_day": days[0] if days else None,
                "last_day": days[-1] if days else None,
            }
        )
    draw(pa.Table.from_pylist(rows))


@main.command()
@click.option("--from", "first", metavar="DAY", help="Look at no day before it.")
@click.option("--to", "last", metavar="DAY", help="Look at no day after it.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--demo", is_flag=True, help="Of the demo's lake.")
@stoppable()
def verify(first: str | None, last: str | None, as_json: bool, demo: bool) -> None:
    """Prove what is stored: logs, files, raw rows, and every other row by making it again.

    Names what is damaged and the commands that heal it. Changes nothing and asks nothing of the API. Exit code 0 when
    all is sound, 1 when something is not.
    """
    from devin_pipeline.operations.verify import verify as verify_lake

    first_day, last_day = _range_given(first, last)
    lake = lake_with_tables(demo)
    say_demo(demo)
    identity = lake.identity
    hour = identity.day_starts_at_utc_hour if identity else settings().day_starts_at_utc_hour
    verdict = verify_lake(lake, hour, first=first_day, last=last_day)
    findings = pa.Table.from_pylist(
        [
            {
                "table": finding.table.name,
                "day": finding.day,
                "what": finding.what,
                "file": finding.path and finding.path.removeprefix(f"{lake.uri}/"),
            }
            for finding in verdict.findings
        ],
        pa.schema([("table", pa.string()), ("day", pa.date32()), ("what", pa.string()), ("file", pa.string())]),
    )
    unjudged = _by_table(verdict.not_checked)
    heal = _healing(lake, verdict, demo)
    if as_json:
        told = {
            "lake": lake.uri,
            "files": verdict.files,
            "rows": verdict.rows,
            "days": len(verdict.days),
            "findings": findings.to_pylist(),
            "unjudged": unjudged,
            "written_meanwhile": [table.name for table in verdict.changed_during_check],
            "heal": heal,
        }
        click.echo(json_bytes(told))
    else:
        _tell_verdict(verdict, findings, unjudged, heal)
    if not verdict.is_clean:
        sys.exit(1)


def _tell_verdict(
    verdict: "VerificationReport", findings: pa.Table, unjudged: Mapping[str, str], heal: Sequence[str]
) -> None:
    if findings.num_rows:
        draw(findings)
    for days in dict.fromkeys(unjudged.values()):
        names = ", ".join(name for name, of_table in unjudged.items() if of_table == days)
        click.echo(f"Not judged, because what they are made of is damaged: {names}" + (f" ({days})" if days else ""))
    if verdict.changed_during_check:
        names = ", ".join(table.name for table in verdict.changed_during_check)
        click.echo(f"Another run wrote {names} meanwhile: what is said of these, and of what follows, may be old.")
    looked_at = ", ".join(
        counted(number, noun)
        for number, noun in ((verdict.files, "file"), (verdict.rows, "row"), (len(verdict.days), "day"))
    )
    if verdict.is_clean:
        click.echo(f"All is sound: {looked_at}.")
        return
    click.echo(f"{counted(findings.num_rows, 'finding')} in {looked_at}. What heals them:")
    for command in heal:
        click.echo(f"  {command}")


def _by_table(unjudged: Sequence[tuple[Table, date | None]]) -> dict[str, str]:
    """The days of each table, as ranges."""
    from devin_pipeline.billing_calendar import contiguous

    days: dict[str, set[date]] = {}
    for table, day in unjudged:
        days.setdefault(table.name, set()).update([day] if day else [])
    return {
        name: ", ".join(f"{some[0]} … {some[-1]}" if len(some) > 1 else str(some[0]) for some in contiguous(of_table))
        for name, of_table in days.items()
    }


def _healing(lake: Lake, verdict: "VerificationReport", demo: bool) -> list[str]:
    """What to do about the findings: commands, oldest days first, after what must be done by hand."""
    from devin_pipeline.billing_calendar import contiguous

    if verdict.findings and demo:
        return [pipeline_command("demo")]
    by_hand = []
    days = verdict.damaged_days()
    for finding in verdict.findings:
        if finding.is_of_persons:
            by_hand.append(pipeline_command("maintain"))
        elif finding.is_of_log and finding.table.layer == "raw":
            by_hand.append(
                f"put {lake.location(finding.table)} back from a backup: the API may not tell all of it again"
            )
        elif finding.is_of_log:
            by_hand.append(f"rm -r {shlex.quote(lake.location(finding.table))}")
            days = dict.fromkeys(verdict.stored_days, False) | days
        elif finding.day is None and not (days or verdict.days_to_rebuild):
            # Reports are made by every run.
            days = dict.fromkeys(verdict.stored_days[-1:], False)
    rebuilds = [
        pipeline_command(f"rebuild --from {some[0]} --to {some[-1]}") for some in contiguous(verdict.days_to_rebuild)
    ]
    commands = [
        pipeline_command(f"backfill --from {some[0]} --to {some[-1]}") + (" --repair" if repair else "")
        for repair in (True, False)
        for some in contiguous(day for day, must_repair in days.items() if must_repair == repair)
    ]
    return [*dict.fromkeys(by_hand), *rebuilds, *commands]


@main.command()
@click.option("--demo", is_flag=True, help="Of the demo's lake.")
@stoppable()
def maintain(demo: bool) -> None:
    """Join small files, delete those that no version of the last week names, shorten the tables' logs.

    Removes what Dagster recorded of runs that ended more than DEVIN_KEEP_RUNS_DAYS ago. Changes no row, except those of
    persons on the erasure list, which it erases. May run while anything else does. Dagster does the same every Sunday.
    """
    from devin_pipeline.operations.maintain import maintain as maintain_lake

    keep_days = settings().keep_runs_days
    lake = lake_of(demo)
    say_demo(demo)
    identity = lake.identity
    done = maintain_lake(lake, identity.day_starts_at_utc_hour if identity else settings().day_starts_at_utc_hour)
    rows = [
        {
            "table": each.table.name,
            "files_before": each.files_before,
            "files": each.files,
            "deleted_files": each.deleted.files,
            "freed_bytes": each.deleted.bytes,
            "deleted_log_entries": each.log_entries,
        }
        for each in done.tables
    ]
    if rows:
        draw(pa.Table.from_pylist(rows))
    elif not done.left:
        click.echo(f"No run has written to {lake.uri} yet.", err=True)
    if has_dagsters_records(demo):
        _remove_old_runs(keep_days)
    if done.left:
        raise Failed(
            "Something was left as it is",
            "; ".join(done.left),
            f"Find what is damaged and what repairs it, then run this again: `{pipeline_command('verify')}`",
        )


def _remove_old_runs(days: int) -> None:
    from devin_pipeline.dagster_server.dagster_home import dagster_instance
    from devin_pipeline.dagster_server.run_retention import remove_old_runs
    from devin_pipeline.schedules import DAILY_REFRESH

    with dagster_instance() as instance:
        removed = remove_old_runs(instance, days, DAILY_REFRESH)
    if removed and (removed.runs or removed.remaining):
        click.echo(str(removed))


@main.command()
@click.option("--user", "users", metavar="ID", multiple=True, help="A user, by the id the API returns. Repeatable.")
@click.option("--session", "sessions", metavar="ID", multiple=True, help="A session and its user in it. Repeatable.")
@click.option("--text", is_flag=True, help="All free text of everybody; needs DEVIN_TEXT=none.")
@stoppable()
def forget(users: Sequence[str], sessions: Sequence[str], text: bool) -> None:
    """Remove text and identity from every version and file; the spend stays, under a pseudonym.

    An erased user or session stays erased in whatever is read or restored later. This cannot be undone. Several take
    about as long as one: --user A --user B.
    """
    from devin_pipeline.devin_api import canonical_id
    from devin_pipeline.operations import erase
    from devin_pipeline.resources import lake_resource

    if bool(users or sessions) == text:
        raise Failed("This call cannot be run", "it takes --user and --session, or --text", "Name one", 2)
    if text and settings().keeps_text:
        raise Failed(
            "All text is to stay", "DEVIN_TEXT is full, so the next read would bring it back", "Set DEVIN_TEXT=none", 2
        )
    _ = settings().keeps_text
    ids: list[tuple[Kind, str | None]] = [("user", user.strip() or None) for user in users]
    ids += [("session", canonical_id(session.strip())) for session in sessions]
    persons = [(kind, identifier) for kind, identifier in ids if identifier]
    if len(persons) < len(ids):
        raise Failed("This call cannot be run", "that is no id", "Give the id as the API tells it", 2)
    live_stage()
    hour = settings().day_starts_at_utc_hour
    resource = lake_resource(settings())
    lake = resource.open()
    # In the wrong folder, nobody would be erased from where they are stored.
    lake_with_tables(demo=False)
    lake.claim(resource.identity)
    prepare_dagster_home()
    removed = erase.forget_text(lake, hour) if text else erase.forget(lake, hour, persons, record=_record_rows)
    _require_erased(lake, removed)
    of_sessions = f"{counted(removed.sessions, 'stored session')}, on {counted(removed.days, 'day')}"
    click.echo(f"Text and identity are gone from {of_sessions}.")
    if not text:
        click.echo("Later reads keep them out. Devin itself, backups and copies elsewhere are not changed.")


def _record_rows(days: Sequence[date]) -> None:
    """Have Dagster record how many rows the tables have now on these days."""
    outcome = _rebuild(days, "forget")
    if not (outcome.succeeded or outcome.reports_wait):
        raise Failed(
            "The tables are erased, but Dagster did not record their new numbers of rows",
            outcome.reason or "a step failed",
            "Run the same command again when the reason is gone",
        )


def _require_erased(lake: Lake, removed: "ErasureResult") -> None:
    """Refuse to say that text and identity are gone while any of them may remain."""
    erased = removed.erased
    for error in erased.damaged.values():
        if isinstance(error, VersionsLost):
            raise error
    if erased.damaged:
        places = [f"{table.name} {day or ''}".strip() for table, day in erased.damaged]
        raise Failed(
            "Not everything was erased: some of what is stored is damaged",
            "this cannot be read or rebuilt: " + ", ".join(places),
            f"Find the commands that repair them, then run this again: `{pipeline_command('verify')}`",
        )
    if erased.reports_wait:
        raise Failed(
            "The reports were not rebuilt; raw and derived tables are erased already",
            str(erased.reports_wait),
            f"Rebuild them, then run this again: `{pipeline_command('rebuild')}`",
        )
    # guard: files of a killed run that forget leaves
    if erased.left:
        files = [file.removeprefix(f"{lake.uri}/") for file in erased.left]
        again = datetime.now(UTC) + timedelta(hours=1, minutes=1)
        raise Failed(
            f"Text and identity are gone from every table, but may remain in {len(files)} files of unfinished writes",
            "no version names them, and a run may be about to commit them: " + ", ".join(files),
            f"Run the same command again after {again:%Y-%m-%d %H:%M} UTC. Later runs delete them too",
        )


@main.command()
@click.option("--json", "as_json", is_flag=True, help="All findings as one JSON document.")
@click.option("--demo", is_flag=True, help="Of the demo, with the emulator running meanwhile.")
@stoppable()
def doctor(as_json: bool, demo: bool) -> None:
    """Look at settings, keys, API, lake and Dagster, and say what to do. Changes nothing."""
    from devin_pipeline.doctor import Finding, examine

    enterprise: DemoEnterprise | None = None
    if demo:
        if not DemoEnterprise.file().exists():
            raise Failed("There is no demo to look at", "none was run here", f"Run `{pipeline_command('demo')}`", 2)
        demo_stage()
        enterprise = demo_enterprise()
    else:
        use_dagster_home(Path(settings().DAGSTER_HOME))
    say_demo(demo)
    findings: list[Finding] = []
    with enterprise.served() if enterprise else nullcontext():
        for finding in examine(settings()):
            findings.append(finding)
            if not as_json:
                _show_finding(finding)
    if as_json:
        click.echo(json_bytes({"checks": findings}))
    else:
        outcomes = Counter(finding.outcome for finding in findings)
        click.echo(", ".join(f"{outcomes[name]} {name}" for name in _COLOURS if outcomes[name]) + ".")
    if any(finding.outcome == "failed" for finding in findings):
        sys.exit(1)


_COLOURS: "dict[Outcome, str | None]" = {
    "ok": "green",
    "warning": "yellow",
    "failed": "red",
    "skipped": None,
    "not told": None,
}


def _show_finding(finding: "Finding") -> None:
    mark = click.style(f"{finding.outcome:8}", fg=_COLOURS[finding.outcome])
    click.echo(f"{mark}  {printable(f'{finding.name} {finding.subject}'.strip() + ': ' + finding.found)}")
    if finding.todo:
        click.echo(f"{'':10}→ {printable(finding.todo)}")


@main.command()
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535))
@click.option("--sessions", default=600, show_default=True, type=click.IntRange(0, 1_000_000))
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 2000))
@click.option("--seed", default=7, show_default=True)
@click.option(
    "--faults", default=0.0, metavar="RATE", type=click.FloatRange(0, 1), help="Share of requests answered wrongly."
)
@click.option("--fault-seed", default=7, show_default=True, help="Which of them, and how.")
def emulator(port: int, sessions: int, days: int, seed: int, faults: float, fault_seed: int) -> None:
    """Serve the stand-in Devin API on loopback, for any client, until it is stopped."""
    from devin_pipeline.emulator import EmulatorServer, Enterprise, FaultScript

    enterprise = Enterprise.synthetic(seed=seed, sessions=sessions, days=days)
    # Only now: a large enterprise takes a minute, which an interrupt ends.
    stopped = _stop_on_signal()
    server = EmulatorServer(enterprise, port=port)
    server.script(FaultScript.seeded(fault_seed, rate=faults) if faults else None)
    try:
        server.start()
    except OSError as error:
        raise _unusable(port, error) from None
    try:
        click.echo(DEMO_NOTICE)
        click.echo(f"export DEVIN_API_URL={server.url}")
        click.echo(f"export DEVIN_V2_API_KEY={server.v2_key}")
        click.echo(f"export DEVIN_V3_API_KEY={server.v3_key}")
        click.echo("Change what it tells: POST /_emulator/evolve. Stop it with Ctrl-C.")
        stopped.wait()
    finally:
        server.stop()


@main.command()
@click.option("--demo", is_flag=True, help="The demo's Dagster, with the emulator running beside it.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--read-only", is_flag=True, help="The page alone, for looking: it changes nothing, and no daemon runs.")
def ui(demo: bool, port: int, read_only: bool) -> None:
    """Open Dagster's page and its daemon on loopback, until stopped.

    The page answers its own tabs and programs on this machine; what other sites make a browser send it refuses.
    """
    from devin_pipeline.dagster_server.code_location import CODE_LOCATION, DEFINITIONS
    from devin_pipeline.dagster_server.processes import NoFolderForSocket, StoppedByItself, run_until

    enterprise: DemoEnterprise | None = None
    if demo:
        demo_stage()
        prepare_dagster_home()
        enterprise = demo_enterprise()
    else:
        live_stage()
        prepare_dagster_home()
    with ExitStack() as held:
        locked = None if read_only else held.enter_context(_only_daemon(port))
        _require_free(port)
        # guard: databases that several processes make at once
        begin_dagsters_records()
        stopped = _stop_on_signal()
        if enterprise:
            held.enter_context(enterprise.served())
        if not read_only:
            # Without a daemon of ours, that of another deployment may be at work.
            held.enter_context(_dead_runs_failed())
        say_demo(demo)
        click.echo(f"Dagster's own command, without the guard: {_page_command(port, read_only)}")
        if enterprise:
            click.echo("In another shell, a run: " + dg_command(enterprise.last_day, enterprise.last_day))
            warn_of_dotenv()
        click.echo(f"Opening http://127.0.0.1:{port} … stop it with Ctrl-C.")
        try:
            still_busy = run_until(
                stopped,
                module=DEFINITIONS,
                location=CODE_LOCATION,
                port=port,
                read_only=read_only,
                locked=locked,
            )
        except StoppedByItself as error:
            why = "it was not ready in time" if error.exit_code is None else f"exit code {error.exit_code}"
            raise Failed(f"{error.name} stopped by itself", why, "Its last lines above say more") from None
        except NoFolderForSocket:
            raise Failed(
                "Dagster's processes have no place for their socket",
                "the path of no folder for temporary files is short enough, or none can be written",
                "Set TMPDIR to a folder with a path of up to 70 letters and digits",
                2,
            ) from None
    if still_busy:
        click.echo("The code server is not done yet, perhaps because of a run; it ends by itself.", err=True)


@contextmanager
def _only_daemon(port: int) -> Iterator[int | None]:
    from devin_pipeline.dagster_server.processes import DaemonRuns, right_to_daemon

    with ExitStack() as held:
        try:
            locked = held.enter_context(right_to_daemon(port))
        except DaemonRuns as error:
            raise Failed(
                f"The Dagster UI of {os.environ['DAGSTER_HOME']} is open already"
                + (f", at {error.url}" if error.url else ""),
                "a second daemon would start each run that is due a second time",
                "Open that address, or stop it first; `--read-only` opens a further one that changes nothing",
                2,
            ) from None
        yield locked


@contextmanager
def _dead_runs_failed() -> Iterator[None]:
    from devin_pipeline.dagster_server.dagster_home import dagster_instance
    from devin_pipeline.dagster_server.dead_runs import dead_runs_failed

    with dagster_instance() as instance, dead_runs_failed(instance):
        yield


def _page_command(port: int, read_only: bool) -> str:
    """Dagster's own command for a page, with the daemon or for reading only."""
    if read_only:
        workspace = shlex.quote(str(shipped("workspace.yaml")))
        return f"{settings_shown()} {typed(f'dagster-webserver --read-only -w {workspace} -p {port}')}"
    return f"{settings_shown()} {typed(f'dg dev --port {port}')}"


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        # As the page binds it: connections that are still closing do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise _unusable(port, error) from None


def _unusable(port: int, error: OSError) -> Failed:
    return Failed(f"Port {port} cannot be used", error.strerror or "it is taken", "Choose another --port", 2)


def _stop_on_signal() -> threading.Event:
    """Set when the user or the system asks us to stop.

    A handler of our own also matters to children: Dagster would inherit a shell's ignored SIGINT and never stop.
    """
    stopped = threading.Event()
    for number in stop_signals():
        signal.signal(number, lambda *_: stopped.set())
    return stopped
