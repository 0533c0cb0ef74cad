"""Builds a report and writes it into the lake, where `forget` knows of it."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from devin_pipeline.lake import Lake, TooManyConflicts
from devin_pipeline.shell import pipeline_command
from devin_pipeline.usage_report.figures import Figures, missing_in_words, read_figures
from devin_pipeline.usage_report.question import STORED_REPORT, Appearance, Question

_TRIES = 3


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        figures: What it shows.
        appearance: How it looks.
        html: The page.
    """

    figures: Figures
    appearance: Appearance
    html: str

    @property
    def name(self) -> str:
        """A file name that says what it shows."""
        period, appearance = self.figures.period, self.appearance
        org_id = self.figures.org_id
        # An id may be any text, and too long for a file's name.
        digest = "" if org_id is None else f"organization-{sha256(org_id.encode()).hexdigest()[:8]}"
        parts = [
            *(f"{period.first_day}_{period.last_day}", digest),
            *("static" if appearance.static else "", "masked" if appearance.masks_users else ""),
            "" if appearance.with_text else "no-text",
        ]
        return f"usage_report_{'_'.join(filter(None, parts))}.html"

    @property
    def warnings(self) -> list[str]:
        """What it lacks, in sentences."""
        found = []
        coverage = self.figures.coverage
        if coverage.missing:
            found.append(f"these days have not been read: {missing_in_words(coverage.missing)}")
        if self.figures.unreadable:
            tables = ", ".join(self.figures.unreadable)
            found.append(f"these tables cannot be read: {tables}. Find the repair: `{pipeline_command('verify')}`")
        return found


def build_report(lake: Lake, question: Question, appearance: Appearance, hour: int) -> Report:
    """Read the lake and write the page; nothing is stored.

    Args:
        lake: The lake.
        question: What the report is about.
        appearance: How it looks.
        hour: Hour of the UTC day at which a billing day starts.

    Raises:
        NoDays: None of the days that are asked for has been read.
        NoSuchOrganization: No session of the organization is in the lake.
        TooManyConflicts: Other runs wrote the tables all the time.
    """
    # Not above: its libraries take a second to import, which loading the pipeline need not wait for.
    from devin_pipeline.usage_report.page import write_page

    figures = read_figures(lake, question, hour, with_text=appearance.with_text)
    return Report(figures, appearance, write_page(figures, appearance))


def make_report(
    lake: Lake, question: Question, appearance: Appearance, hour: int, write: Callable[[Report], str]
) -> tuple[Report, str]:
    """Build a report and write it, and again when persons were erased meanwhile.

    Args:
        lake: The lake.
        question: What the report is about.
        appearance: How it looks.
        hour: Hour of the UTC day at which a billing day starts.
        write: Writes it as a whole or not at all, over an older one, and gives its path or URI.

    Raises:
        NoDays: None of the days that are asked for has been read.
        NoSuchOrganization: No session of the organization is in the lake.
        TooManyConflicts: Other runs wrote the tables, or erased persons, all the time.
        NotWritten: The disk is full, read-only or broken; an older report stays.
    """
    for _ in range(_TRIES):
        before = lake.erasure_state()
        report = build_report(lake, question, appearance, hour)
        path = write(report)
        # guard: a report of what was erased while it was made | lake.erasure_state() == before -> True
        if lake.erasure_state() == before:
            return report, path
    lake.delete_documents()
    raise TooManyConflicts("No report was written", f"persons were erased {_TRIES} times in a row", "Run it again")


def write_report(lake: Lake, report: Report, name: str = STORED_REPORT) -> str:
    """Store a report in the lake, as a whole or not at all; give its path or URI.

    Raises:
        NotWritten: The disk is full, read-only or broken; an older report stays.
    """
    return lake.write_document(name, report.html.encode(), "The report")
