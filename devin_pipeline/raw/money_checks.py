"""Checks of the lists and the bill: what of them is refused, and what was cut short."""

from collections.abc import Sequence
from http import HTTPStatus

import dagster as dg

from devin_pipeline.orchestration.asset_checks import Check, CheckContext, Findings, checks_of
from devin_pipeline.raw.consumption.session_days import due_sessions
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import RAW_CONSUMPTION, RAW_DIRECTORY, RAW_SESSION_CONSUMPTION, TABLES


def money_checks(tables: Sequence[str]) -> list[dg.AssetChecksDefinition]:
    """The checks of the raw tables of the bill and the lists, as far as they are read.

    Args:
        tables: The names of those that are read.
    """
    checks = {
        RAW_DIRECTORY.name: [
            Check("lists_are_permitted", "The API lets this key read every list.", _refused),
            Check("lists_are_whole", "No list left out more than half of what it had before.", _cut_short),
        ],
        RAW_CONSUMPTION.name: [
            Check("bills_are_permitted", "The API lets this key read the bill of everybody.", _refused),
            Check("bills_are_whole", "No bill left out more than half of the days it had before.", _cut_short),
        ],
        RAW_SESSION_CONSUMPTION.name: [
            Check("days_of_sessions_are_permitted", "The API lets this key read the days of a session.", _refused),
            Check(
                "days_of_sessions_are_known",
                "Every session at work on several days was asked for them; the next runs ask for those left over.",
                _left_over,
            ),
        ],
    }
    read = {name: of_table for name, of_table in checks.items() if name in tables}
    return [checks_of("bill_checks", [], read)] if read else []


def _refused(checked: CheckContext) -> Findings:
    """What is refused, and what follows; of a kind that is refused in part how many."""
    note = checked.lake.bill_note(TABLES[checked.asset])
    kinds = [{"refused": name, "status": status} for name, status in sorted(note.refused.items()) if "/" not in name]
    # One that is not found was deleted; no permission is missing.
    alone = [
        {"refused": name, "status": int(HTTPStatus.FORBIDDEN), "number": number}
        for name, number in sorted(note.forbidden.items())
    ]
    return [*kinds, *alone]


def _cut_short(checked: CheckContext) -> Findings:
    note = checked.lake.bill_note(TABLES[checked.asset])
    last = checked.days[-1] if checked.days else None
    first = checked.days[0] if checked.days else "DAY"
    believe = pipeline_command(f"backfill --from {first} --to {last or 'DAY'} --accept-removals")
    # guard: a list that was cut short, unsaid | in sorted(note.shrunk.items()) -> in ()
    cut: list[dict[str, object]] = [
        {"of": name, "listed_before": before, "listed_now": now, "if_they_were_removed": believe}
        for name, (before, now) in sorted(note.shrunk.items())
    ]
    return [*cut, *({"of": name, "unreadable": number} for name, number in sorted(note.unreadable.items()))]


def _left_over(checked: CheckContext) -> Findings:
    """The sessions that the limit left over; those that the API does not know are asked for in vain."""
    note = checked.lake.bill_note(RAW_SESSION_CONSUMPTION)
    unknown = note.not_found.get("session", 0) + note.forbidden.get("session", 0)
    left = due_sessions(checked.lake, None)
    if len(left) <= unknown:
        return []
    return [{"sessions": len(left), "acus": sum(session.acus for session in left), "unknown_to_the_api": unknown}]
