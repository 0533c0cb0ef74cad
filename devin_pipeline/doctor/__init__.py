"""Looks at all that a run needs, one check after the other, and says what it found and what to do.

It reads and asks only; the one thing it writes is a small file in the lake, which it removes. No check keeps another
from being made: what cannot be looked at says why. Nothing it says holds a key, a person's id or text of a session.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from devin_pipeline.doctor import api, dagster, lake
from devin_pipeline.doctor import settings as of_settings
from devin_pipeline.doctor.check_result import CheckResult, Outcome
from devin_pipeline.settings import Settings
from devin_pipeline.shell import with_command_last

__all__ = ["CheckResult", "Outcome", "examine"]


def examine(settings: Settings) -> Iterator[CheckResult]:
    """Every finding, as soon as it is made."""
    for finding in chain.from_iterable(room.findings(settings) for room in (of_settings, api, lake, dagster)):
        yield replace(finding, todo=with_command_last(finding.todo) or finding.todo)
