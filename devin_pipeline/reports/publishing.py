"""Makes reports anew and commits them, again if their inputs move meanwhile. No Dagster.

A report whose inputs are as they were when it was made is left alone.
"""

from collections import Counter
from collections.abc import Sequence

from devin_pipeline.lake import Commit, Lake
from devin_pipeline.reports.queries import INPUTS, recipe, select
from devin_pipeline.tables import TABLES, Table


def publish_reports(lake: Lake, tables: Sequence[Table]) -> dict[str, Commit]:
    """Make reports from what other tables hold; nothing is written of one that is as before.

    Args:
        lake: Where.
        tables: The reports, none made of another of them.

    Returns:
        The commit of each, by its name.
    """
    inputs = {table: [TABLES[name] for name in INPUTS[table.name]] for table in tables}
    of_any = list(dict.fromkeys(input_ for of_one in inputs.values() for input_ in of_one))

    def make() -> dict[str, Commit]:
        made_of = {table: lake.inputs(recipe(table), inputs[table], None) for table in tables}
        to_make = [table for table in tables if lake.not_made(table, made_of[table])]
        commits = {table.name: Commit(table, None, []) for table in tables}
        if not to_make:
            return commits
        readers_of = Counter(input_.name for table in to_make for input_ in inputs[table])
        with lake.connect([TABLES[name] for name in readers_of]) as reader:
            for name, readers in readers_of.items():
                if readers > 1:
                    reader.read_once(name)
            for table in to_make:
                commits[table.name] = lake.replace_all(table, select(reader, table))
                lake.remember_made(table, made_of[table])
        return commits

    return lake.while_inputs_move(of_any, None, make)
