"""Runs one SELECT of a person over the lake."""

import click

from devin_pipeline.cli.environment import open_filled_lake, open_lake, print_demo_notice
from devin_pipeline.cli.limits import within_limits
from devin_pipeline.cli.output import show
from devin_pipeline.cli.words import TakesText, sql_of
from devin_pipeline.lake import QueryFailed, may_name_tables, renew_moved_catalog
from devin_pipeline.shell import pipeline_command


@click.command(cls=TakesText)
@click.argument("sql", required=False, metavar="SQL|-")
@click.option("--file", metavar="PATH", help="Read the SELECT from a file; - is standard input.")
@click.option("--format", "shape", default="table", show_default=True, type=click.Choice(["table", "csv", "json"]))
@click.option("--timeout", metavar="SECONDS", help="Stop after this time, the output included; 0 for no limit.")
@click.option("--demo", is_flag=True, help="Query the lake of the demo.")
def query(sql: str | None, file: str | None, shape: str, timeout: str | None, demo: bool) -> None:
    """Run one SELECT on the lake, given as SQL, in a file or, for -, on standard input.

    `devin-pipeline tables` lists what there is. A query may take DEVIN_QUERY_SECONDS and DEVIN_QUERY_MEMORY.
    """
    select = sql_of(sql, file)
    with within_limits(timeout) as limits:
        lake = open_filled_lake(demo) if may_name_tables(select) else open_lake(demo)
        renew_moved_catalog(lake)
        print_demo_notice(demo)
        try:
            with lake.connection_for(select, limits) as connection:
                show(connection, select, shape)
        except QueryFailed as error:
            if demo:
                error.todo = f"List what there is: `{pipeline_command('tables --demo')}`"
            raise
