"""Lists the tables of the lake."""

import click
import pyarrow as pa

from devin_pipeline.cli.environment import open_filled_lake, print_demo_notice
from devin_pipeline.cli.output import draw
from devin_pipeline.cli.stopping import stoppable
from devin_pipeline.lake import renew_moved_catalog
from devin_pipeline.tables import ALL_TABLES


@click.command()
@click.option("--demo", is_flag=True, help="Use the lake of the demo.")
# guard: a lake that does not answer | @stoppable()
@stoppable()
def tables(demo: bool) -> None:
    """List the tables: name, grain, rows, days."""
    lake = open_filled_lake(demo)
    renew_moved_catalog(lake)
    print_demo_notice(demo)
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
