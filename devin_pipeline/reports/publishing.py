"""Makes a report anew and commits it, again if its inputs move meanwhile. No Dagster.

A report whose inputs are as they were when it was made is left alone.
"""

from devin_pipeline.lake import Commit, Lake
from devin_pipeline.reports.queries import INPUTS, recipe, select
from devin_pipeline.tables import TABLES, Table


def publish_report(lake: Lake, table: Table) -> Commit:
    """Make a report from what the derived tables hold; nothing is written when it is as before."""
    inputs = [TABLES[name] for name in INPUTS[table.name]]

    def make() -> Commit:
        made_of = lake.inputs(recipe(table), inputs, None)
        if not lake.not_made(table, made_of):
            return Commit(table, None, [])
        with lake.connect(inputs) as reader:
            rows = select(reader, table)
        commit = lake.replace_all(table, rows)
        lake.remember_made(table, made_of)
        return commit

    return lake.while_inputs_move(inputs, None, make)
