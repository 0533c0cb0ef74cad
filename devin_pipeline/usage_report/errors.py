"""Errors of the report."""

from datetime import date

from devin_pipeline.errors import Problem
from devin_pipeline.shell import pipeline_command


class NoDays(Problem):
    """None of the days that a report is asked for has been read."""

    exit_code = 2

    def __init__(
        self, first: date | None, last: date | None, first_read: date | None = None, last_read: date | None = None
    ) -> None:
        asked = f"from {first} to {last}" if first and last else "at all"
        command = pipeline_command(f"backfill --from {first or 'DAY'} --to {last or 'DAY'}")
        there = f"; the lake has days from {first_read} to {last_read}" if first_read else ""
        super().__init__(
            "No report was written",
            f"no day {asked} has been read{there}",
            f"Read them: `{command}`",
        )
