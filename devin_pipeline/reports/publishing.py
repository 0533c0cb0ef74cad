"""Builds a report and commits it, again if its inputs change meanwhile. No Dagster.

A report whose inputs are as they were when it was made is left alone, and so is one whose inputs several versions of
the code built.
"""

from collections.abc import Callable, Sequence
from datetime import date

from devin_pipeline.errors import Problem
from devin_pipeline.lake import Commit, Lake
from devin_pipeline.reports.queries import fingerprint, select
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import TABLES, Table

DaysOfOtherCode = Callable[[Lake, Sequence[Table]], list[date]]
"""The stored days that other code than this built, in some derived tables or in what they are made of."""


class BuiltByOtherCode(Problem):
    """Days that other code built stand among the inputs of a report.

    Attributes:
        days: Those days, oldest first.
    """

    def __init__(self, table: Table, days: Sequence[date]) -> None:
        super().__init__(
            f"{table.name} was not written",
            f"another version of the code built {len(days)} of its input days, from {days[0]} to {days[-1]}",
            f"Rebuild them, which asks nothing of the API: `{pipeline_command('rebuild')}`",
        )
        self.days = days


def publish_report(lake: Lake, table: Table, days_of_other_code: DaysOfOtherCode = lambda *_: []) -> Commit:
    """Make a report from what the derived tables hold; nothing is written when it is as before.

    Args:
        lake: Where.
        table: The report.
        days_of_other_code: Finds the days of its inputs that other code built.

    Raises:
        BuiltByOtherCode: There are such days. Its rows would follow two rules at once.
    """
    inputs = [TABLES[name] for name in table.inputs]

    def require_one_code() -> None:
        # guard: a report over days of two versions of the code
        #   | days_of_other_code(lake, [each for each in inputs if each.layer == "derived"]) -> []
        if days := days_of_other_code(lake, [each for each in inputs if each.layer == "derived"]):
            raise BuiltByOtherCode(table, days)

    def make() -> Commit:
        require_one_code()
        fingerprints, code = lake.inputs(inputs, None), fingerprint(table)
        if not lake.to_rebuild(table, fingerprints, code):
            return Commit(table, None, [])
        with lake.connect(inputs) as connection:
            rows = select(connection, table)
        # Again: a process of another version may have written before the rows were read.
        require_one_code()
        commit = lake.replace_all(table, rows)
        lake.record_provenance(table, fingerprints, code)
        return commit

    return lake.retry_until_inputs_stable(inputs, None, make)
