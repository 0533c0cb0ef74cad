"""Runs the whole pipeline on the emulator, in a lake and a DAGSTER_HOME of its own."""

import os
import shutil
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import pyarrow as pa

from devin_pipeline.cli.days_shown import days_shown
from devin_pipeline.cli.environment import (
    DEMO_DAYS,
    DEMO_NOTICE,
    DEMO_SESSIONS_PER_DAY,
    DEMO_VERSION,
    DemoEnterprise,
    has_desktop,
    open_lake,
    prepare_dagster_home,
    settings,
    use_demo_environment,
)
from devin_pipeline.cli.errors import Failed
from devin_pipeline.cli.output import counted, draw, printable
from devin_pipeline.cli.runner import BUILDING_STEPS, run_job
from devin_pipeline.cli.stopping import stoppable
from devin_pipeline.shell import pipeline_command

if TYPE_CHECKING:
    from devin_pipeline.usage_report.figures import Figure, Figures


_SHOWN_BY_ORGANIZATION = ("sessions", "acus", "merged_pull_requests")


@click.command()
@click.option("--days", default=DEMO_DAYS, show_default=True, type=click.IntRange(1, 400), help="Days of sessions.")
@click.option("--no-open", is_flag=True, help="Do not open the report, where there is a desktop.")
@stoppable()
def demo(days: int, no_open: bool) -> None:
    """Run the whole pipeline on the bundled emulator. Needs no key."""
    from devin_pipeline.billing_calendar import days_between
    from devin_pipeline.orchestration.run_metadata import DEMO
    from devin_pipeline.usage_report import STORED_REPORT, Question, read_figures

    use_demo_environment()
    prepare_dagster_home()
    lake = open_lake(demo=True)
    if lake.identity is not None and lake.identity.kind == "demo":
        # The emulator's sessions are of today: those of yesterday's demo would count as vanished.
        shutil.rmtree(lake.uri)
    enterprise = DemoEnterprise(days * DEMO_SESSIONS_PER_DAY, days, 7, datetime.now(UTC), DEMO_VERSION)
    enterprise.store()
    click.echo(DEMO_NOTICE)
    with enterprise.served():
        run = days_between(enterprise.first_day, enterprise.last_day)
        click.echo(f"Running the job `refresh` over {counted(days, 'day')}.")
        with days_shown(len(run)) as shown:
            shown.begin(run, len(settings().feeds) + BUILDING_STEPS)
            outcome = run_job(run, DEMO)
            shown.end(run, "done" if outcome.succeeded else "failed", made=outcome.succeeded)
        if not outcome.succeeded:
            raise Failed(
                "The demo failed",
                outcome.reason or "a step failed",
                f"Look at the run: `{pipeline_command('ui --demo')}`",
            )
        passed = outcome.checks - len(outcome.warnings)
        click.echo(
            f"Done: {f'{passed} of' if outcome.warnings else 'all'} {outcome.checks} checks of the tables passed."
        )
        for warning in outcome.warnings:
            click.echo(f"  Warning: {warning}")
    figures = read_figures(lake, Question(), 8, with_text=False)
    click.echo(f"\nFrom {figures.period.first_day} to {figures.period.last_day}:\n")
    draw(_by_organization(figures))
    click.echo(f"\n{_found(figures)}")
    path = lake.document_uri(STORED_REPORT)
    click.echo(
        f"""
The report:      {path}
The lake:        {lake.uri}
For DuckDB:      {lake.uri}/devin.duckdb
Dagster's home:  {os.environ["DAGSTER_HOME"]}

Next:
  {pipeline_command('query --demo "from prompt_feedback limit 5"')}
  {pipeline_command("tables --demo")}
  {pipeline_command("ui --demo")}"""
    )
    if not no_open and sys.stdout.isatty() and has_desktop():
        click.launch(path)


def _found(figures: "Figures") -> str:
    """What the report begins with: the total, and what it was spent on without a result."""
    from devin_pipeline.usage_report import dearest_causes

    total, sessions = (figures.totals[name] for name in ("acus", "sessions"))
    without = figures.totals["acus_without_merged_pull_request"]
    found = (
        f"{_shown(sessions)} sessions consumed {_shown(total)} ACUs, {_shown(without)} of them without a merged pull "
        "request (yet)."
    )
    causes = [
        f"  {place}. {printable(cause.name)}: {_shown(cause.without)} of {_shown(cause.acus)} ACUs without one, in "
        f"{counted(int(cause.sessions.value or 0), 'session')}"
        for place, cause in enumerate(dearest_causes(figures), start=1)
    ]
    return "\n".join([found, "What stands out:", *causes]) if causes else found


def _shown(figure: "Figure") -> str:
    from devin_pipeline.usage_report.text import number

    return number(figure.value, figure.measure.unit)


def _by_organization(figures: "Figures") -> pa.Table:
    """What the report shows by organization."""
    rows = [
        {"organization": figures.names.shown("org_id", group.key[0]), "org_id": group.key[0]}
        | {figure.measure.name: figure.value for figure in group.figures.values()}
        for group in figures.groups["organization"]
    ]
    return pa.table({name: [row[name] for row in rows] for name in ("organization", *_SHOWN_BY_ORGANIZATION, "org_id")})
