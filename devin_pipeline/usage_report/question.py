"""What is asked of a report: its period and scope, and how its page looks."""

from dataclasses import dataclass
from datetime import date

from devin_pipeline.settings import StoredReport

STORED_REPORT = "usage_report.html"
"""The one that every run writes: of the newest days, as DEVIN_REPORT says."""


@dataclass(frozen=True)
class Question:
    """What a report is about.

    Attributes:
        first_day: First billing day; chosen when left out.
        last_day: Last billing day; chosen when left out.
        org_id: The only organization; all when left out.
    """

    first_day: date | None = None
    last_day: date | None = None
    org_id: str | None = None


@dataclass(frozen=True)
class Appearance:
    """What a page leaves out or shows otherwise.

    Attributes:
        static: Charts are pictures and there are no scripts, for mail.
        masks_users: Users have numbers in place of their ids.
        with_text: Prompts and feedback are shown.
    """

    static: bool = False
    masks_users: bool = False
    with_text: bool = True


def stored_appearance(kind: StoredReport) -> Appearance | None:
    """How the stored report looks under DEVIN_REPORT; None when runs write none."""
    return None if kind == "none" else Appearance(with_text=kind == "full")
