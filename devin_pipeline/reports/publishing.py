"""Makes a report anew and commits it, again if its inputs move meanwhile. No Dagster."""

from devin_pipeline.lake import Commit, Lake
from devin_pipeline.reports.queries import INPUTS, select
from devin_pipeline.tables import TABLES, Table


def publish_report(lake: Lake, table: Table) -> Commit:
    """Make a report from what the derived tables hold; nothing is written when it is as before."""
    inputs = [TABLES[name] for name in INPUTS[table.name]]

    def make() -> Commit:
        with lake.connect(inputs) as reader:
            rows = select(reader, table)
        return lake.replace_all(table, rows)

    return lake.while_inputs_move(inputs, None, make)
