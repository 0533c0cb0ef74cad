"""Erases the text and identity of persons."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import click

from devin_pipeline.cli.environment import open_filled_lake, prepare_dagster_home, settings, use_live_environment
from devin_pipeline.cli.errors import Failed
from devin_pipeline.cli.output import counted
from devin_pipeline.cli.runner import rebuild_days
from devin_pipeline.cli.stopping import stoppable
from devin_pipeline.lake import Kind, Lake, VersionsLost
from devin_pipeline.shell import pipeline_command

if TYPE_CHECKING:
    from devin_pipeline.operations.erase import ErasureResult


@click.command()
@click.option(
    "--user", "users", metavar="ID", multiple=True, help="A user, by the id the API returns or by e-mail. Repeatable."
)
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
    from devin_pipeline.orchestration.resources import lake_resource
    from devin_pipeline.usage_report import STORED_REPORT, Question, make_report, stored_appearance, write_report

    if bool(users or sessions) == text:
        raise Failed("This command cannot be run", "it takes --user and --session, or --text", "Name one", 2)
    if text and settings().keeps_text:
        raise Failed(
            "No text was erased", "DEVIN_TEXT is full, so the next read would bring it back", "Set DEVIN_TEXT=none", 2
        )
    _ = settings().keeps_text
    appearance = stored_appearance(settings().stored_report)
    ids: list[tuple[Kind, str | None]] = [("user", user.strip() or None) for user in users]
    ids += [("session", canonical_id(session.strip())) for session in sessions]
    persons = [(kind, identifier) for kind, identifier in ids if identifier]
    if len(persons) < len(ids):
        raise Failed("This command cannot be run", "that is not an id", "Give the id as the API returns it", 2)
    use_live_environment()
    hour = settings().day_starts_at_utc_hour
    resource = lake_resource(settings())
    lake = resource.open()
    # In the wrong folder, nobody would be erased from where they are stored.
    open_filled_lake(demo=False)
    lake.claim(resource.identity)
    prepare_dagster_home()
    had_report = lake.has_document(STORED_REPORT)
    removed = erase.forget_text(lake, hour) if text else erase.forget(lake, hour, persons, record=_record_rows)
    _require_erased(lake, removed)
    if had_report and appearance is not None:
        make_report(lake, Question(), appearance, hour, partial(write_report, lake))
    of_sessions = f"{counted(removed.sessions, 'stored session')}, on {counted(removed.days, 'day')}"
    click.echo(f"Text and identity were erased from {of_sessions}.")
    if not text:
        click.echo("Later reads keep them out. Devin itself, backups and copies elsewhere are not changed.")


def _record_rows(days: Sequence[date]) -> None:
    """Have Dagster record how many rows the tables have now on these days."""
    # Its report follows, once everything is erased.
    outcome = rebuild_days(days, "forget", with_usage_report=False)
    if not (outcome.succeeded or outcome.reports_wait):
        raise Failed(
            "The tables are erased, but Dagster did not record their new numbers of rows",
            outcome.reason or "a step failed",
            "Remove the cause, then run the same command again",
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
            f"Find the commands that repair it, then run this again: `{pipeline_command('verify')}`",
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
            f"Every table was erased, but {len(files)} files of unfinished writes may still hold text",
            "no version names them, and a run may be about to commit them: " + ", ".join(files),
            f"Run the same command again after {again:%Y-%m-%d %H:%M} UTC. Later runs delete them too",
        )
