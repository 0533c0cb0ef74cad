"""What one check found, and how a check is made so that it cannot stop the others."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from devin_pipeline.devin_api import (
    DevinError,
)
from devin_pipeline.errors import ConfigurationError
from devin_pipeline.lake import LakeError

Outcome = Literal["ok", "warning", "failed", "skipped", "unknown"]
Said = tuple[Outcome, str, str]
"""An outcome, what was found, what to do about it."""


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: The check.
        subject: What was looked at: a variable, a raw table, a sensor; empty when there is only one.
        outcome: `ok`, `warning` (runs work, but …), `failed` (they do not, or lose something), `skipped` (it does not
            apply), or `unknown` (the API does not say).
        found: What was found.
        todo: What to do about it; empty when nothing is.
    """

    name: str
    subject: str
    outcome: Outcome
    found: str
    todo: str


def look(name: str, subject: str, at: Callable[[], Said]) -> CheckResult:
    """Make one check."""
    try:
        return CheckResult(name, subject, *at())
    except (DevinError, LakeError, ConfigurationError) as error:
        return CheckResult(name, subject, "failed", f"{error.what}: {error.why}", error.todo)
    # guard: a check that stops the others | Exception -> ZeroDivisionError
    except Exception as error:  # whatever one check meets, the others are to be made
        # The kind only: the text may hold anything.
        found = f"the check failed unexpectedly ({type(error).__name__})"
        return CheckResult(name, subject, "failed", found, "Fix what the other checks name; if they pass, report this")


def minute(timestamp: float) -> str:
    """An instant to the minute, as findings show it."""
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M} UTC"
