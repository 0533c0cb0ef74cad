"""Writes the report that people look at."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from devin_pipeline.cli.environment import has_desktop, open_filled_lake, print_demo_notice, settings
from devin_pipeline.cli.stopping import stoppable
from devin_pipeline.cli.words import range_given
from devin_pipeline.lake.atomic import write_file

if TYPE_CHECKING:
    from devin_pipeline.usage_report import Report


@click.command()
@click.option("--from", "first", metavar="DAY", help="First billing day; the last 28 days when left out.")
@click.option("--to", "last", metavar="DAY", help="Last billing day; the newest that is over when left out.")
@click.option("--org", metavar="ID", help="One organization only.")
@click.option("--static", is_flag=True, help="Pictures in place of scripts, for mail.")
@click.option("--mask-users", is_flag=True, help="Numbers in place of users.")
@click.option("--no-text", is_flag=True, help="Without prompts and feedback, for sharing.")
@click.option("--output", metavar="PATH", help="Write it there. `forget` deletes those in the lake only.")
@click.option("--open", "opens", is_flag=True, help="Open it in the browser.")
@click.option("--demo", is_flag=True, help="Of the lake of the demo.")
@stoppable()
def report(
    first: str | None,
    last: str | None,
    org: str | None,
    static: bool,
    mask_users: bool,
    no_text: bool,
    output: str | None,
    opens: bool,
    demo: bool,
) -> None:
    """Write where the ACUs went and which prompts to fix as one HTML file."""
    from devin_pipeline.usage_report import (
        STORED_REPORT,
        Appearance,
        Question,
        make_report,
        stored_appearance,
        write_report,
    )

    question = Question(*range_given(first, last), org)
    appearance = Appearance(static, mask_users, not no_text)
    # The demo's runs know no settings.
    of_runs = Appearance() if demo else stored_appearance(settings().stored_report)
    is_stored = question == Question() and appearance == of_runs
    lake = open_filled_lake(demo)
    print_demo_notice(demo)
    identity = lake.identity
    hour = settings().day_starts_at_utc_hour if identity is None else identity.day_starts_at_utc_hour

    def write(report: "Report") -> str:
        if output is None:
            return write_report(lake, report, STORED_REPORT if is_stored else report.name)
        file = Path(output).expanduser().absolute()
        write_file(str(file.parent), file.name, report.html.encode(), "The report")
        return str(file)

    made, path = make_report(lake, question, appearance, hour, write)
    for warning in made.warnings:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(path)
    if opens and not (has_desktop() and click.launch(path) == 0):
        click.echo("There is no browser here that could be started: open the file in one.", err=True)
