"""Errors of the report."""

from collections.abc import Collection
from datetime import date

from devin_pipeline.errors import Problem
from devin_pipeline.shell import pipeline_command

_MOST_NAMED = 5


class NoDays(Problem):
    """None of the days that a report is asked for has been read."""

    exit_code = 2

    def __init__(self, first: date | None, last: date | None, read: tuple[date, date] | None, *, is_demo: bool) -> None:
        asked = f"from {first} to {last}" if first and last else "at all"
        there = f"; the lake has days from {read[0]} to {read[1]}" if read else ""
        others = f"Ask for days from {read[0]} to {read[1]}" if read else ""
        if is_demo:
            todo = others or f"Run the demo: `{pipeline_command('demo')}`"
        else:
            command = pipeline_command("backfill --from DAY --to DAY")
            todo = f"{others}, or read others first: `{command}`" if others else f"Read days first: `{command}`"
        super().__init__("No report was written", f"no day {asked} has been read{there}", todo)


class NoSuchOrganization(Problem):
    """No session of the organization that a report is asked for is in the lake."""

    exit_code = 2

    def __init__(self, org_id: str, known: Collection[str]) -> None:
        names = sorted(known)
        more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
        todo = f"Ask for one of {', '.join(names[:_MOST_NAMED])}{more}" if names else "Read its sessions first"
        super().__init__("No report was written", f"the lake has no session of the organization {org_id!r}", todo)
