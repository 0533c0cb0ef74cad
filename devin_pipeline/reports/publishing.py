"""Builds a report and commits it, again if its inputs change meanwhile. No Dagster.

A report whose inputs are as they were when it was made is left alone, and so is one whose inputs several versions of
the code built.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import date

from devin_pipeline.errors import Problem
from devin_pipeline.lake import Commit, Inputs, Lake
from devin_pipeline.reports.queries import facts, fingerprint, follows_from_facts, select
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
        known = facts(lake.report_clock(), lake) if follows_from_facts(table) else None
        code = fingerprint(table, known)
        # Before its rows are read: if an input moves meanwhile, the note is of the older one, and it is made again.
        of_whole = lake.inputs(inputs, None)
        if not lake.to_rebuild(table, _by_day(lake, table, (), of_whole), code):
            return Commit(table, None, [])
        with lake.connect(inputs) as connection:
            rows = select(connection, table, known)
        # Again: a process of another version may have written before the rows were read.
        require_one_code()
        days: list[date] = rows.column("day").unique().to_pylist() if table.by_day else []
        # guard: an input that moves after the rows of a report were read | of_whole) -> lake.inputs(inputs, None))
        made_from = _by_day(lake, table, days, of_whole)
        if table.by_day:
            commit = lake.replace_days(table, [day for day in made_from if day is not None], rows)
        else:
            commit = lake.replace_all(table, rows)
        lake.record_provenance(table, made_from, code)
        return commit

    return lake.retry_until_inputs_stable(inputs, None, make)


def made_of(lake: Lake, table: Table, days: Iterable[date]) -> Inputs:
    """What a report is made of; one that is stored by day is made of all its inputs on each of them.

    Args:
        lake: Where.
        table: The report.
        days: The days that it has rows of now; those that are stored count too.
    """
    return _by_day(lake, table, days, lake.inputs([TABLES[name] for name in table.inputs], None))


def _by_day(lake: Lake, table: Table, days: Iterable[date], of_whole: Inputs) -> Inputs:
    if not table.by_day:
        return of_whole
    stored = {file.day for file in lake.cached_snapshot(table).stored_files()}
    # guard: a day of a report that no longer has rows | {*days, *stored} -> set(days)
    found = sorted(day for day in {*days, *stored} if day is not None)
    return dict.fromkeys(found, of_whole[None]) if found else of_whole
