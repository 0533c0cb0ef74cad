"""Keeps the lake and Dagster's records small and quick."""

import click
import pyarrow as pa

from devin_pipeline.cli.environment import has_dagster_home, open_lake, print_demo_notice, settings
from devin_pipeline.cli.errors import Failed
from devin_pipeline.cli.output import draw
from devin_pipeline.cli.stopping import stoppable
from devin_pipeline.shell import pipeline_command


@click.command()
@click.option("--demo", is_flag=True, help="Use the lake of the demo.")
@stoppable()
def maintain(demo: bool) -> None:
    """Join small files, delete files that no version of the last seven days names, shorten the tables' logs.

    Removes what Dagster recorded of runs that ended more than DEVIN_KEEP_RUNS_DAYS ago. Changes no row, except those of
    persons on the erasure list, which it erases. May run while anything else does. Dagster does the same every Sunday.
    """
    from devin_pipeline.operations.maintain import maintain as maintain_lake

    keep_days = settings().keep_runs_days
    lake = open_lake(demo)
    print_demo_notice(demo)
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
    if has_dagster_home(demo):
        _remove_old_runs(keep_days)
    if done.left:
        raise Failed(
            "Some tables were skipped",
            "; ".join(done.left),
            f"Find the damage and the commands that repair it, then run this again: `{pipeline_command('verify')}`",
        )


def _remove_old_runs(days: int) -> None:
    from devin_pipeline.automation.jobs import DAILY_REFRESH
    from devin_pipeline.dagster_server.dagster_home import dagster_instance
    from devin_pipeline.dagster_server.run_retention import remove_old_runs

    with dagster_instance() as instance:
        removed = remove_old_runs(instance, days, DAILY_REFRESH)
    if removed and (removed.runs or removed.remaining):
        click.echo(str(removed))
