"""On which days sessions consumed their ACUs: which of them are to be asked, and what becomes of the answers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path

import pyarrow as pa

from devin_pipeline.billing_calendar import BILLING_HOUR, day_of, starts_at
from devin_pipeline.devin_api import Consumption, Window, content_hash
from devin_pipeline.lake import BillNote, Commit, Lake
from devin_pipeline.raw.consumption.landing import is_refused_as_a_whole
from devin_pipeline.raw.versions import append_versions
from devin_pipeline.tables import ACUS, RAW_SESSION_CONSUMPTION, SESSIONS

_DUE_SESSIONS = (Path(__file__).parent / "due_sessions.sql").read_text()
_SCOPE = "session"
_ITEM = pa.schema(
    [
        ("day", pa.date32()),
        ("session_id", pa.string()),
        ("session_acus", ACUS),
        ("content_hash", pa.string()),
        ("payload", pa.string()),
    ]
)


@dataclass(frozen=True)
class DueSession:
    """A session to ask for: the day it was created in, its ACUs now, and the days on which it may have worked."""

    day: date
    session_id: str
    acus: Decimal
    window: Window


def due_sessions(lake: Lake, days: Sequence[date] | None) -> list[DueSession]:
    """The sessions whose days of consumption are to be asked for, dearest first.

    Args:
        lake: The lake.
        days: The days they were created in; None for all.
    """
    with lake.connect([SESSIONS, RAW_SESSION_CONSUMPTION], days=days) as connection:
        rows = connection.rows(_DUE_SESSIONS, {"hour": BILLING_HOUR}).to_pylist()
    erased = lake.erasure_list()
    return [
        DueSession(row["day"], row["session_id"], row["session_acus"], _window(row["created_at"], row["updated_at"]))
        for row in rows
        # A pseudonym is not known to the API.
        if erased.alias("session", row["session_id"]) is None
    ]


def land_session_days(
    lake: Lake, asked: Sequence[DueSession], answers: Iterable[Consumption], read_at: datetime, *, keeps_text: bool
) -> tuple[Commit, int]:
    """Store on which days sessions consumed their ACUs; give the number of sessions that were answered too.

    Args:
        lake: The lake.
        asked: The sessions that were asked for.
        answers: What the API said of them, in any order.
        read_at: When reading began.
        keeps_text: False when free text may not be stored.
    """
    by_id = {session.session_id: session for session in asked}
    rows = []
    statuses = []
    for answer in answers:
        session = by_id[answer.scope_id or ""]
        if answer.refused is not None:
            statuses.append(answer.refused)
            continue
        rows.append(
            {
                "day": session.day,
                "session_id": session.session_id,
                "session_acus": session.acus,
                "content_hash": content_hash(answer.payload),
                "payload": answer.payload.decode(),
            }
        )
    items = pa.Table.from_pylist(rows, _ITEM)
    commit = append_versions(lake, RAW_SESSION_CONSUMPTION, items, read_at, keeps_text=keeps_text)
    if asked:
        was_read = _SCOPE in lake.bill_note(RAW_SESSION_CONSUMPTION).read
        is_refused = not rows and is_refused_as_a_whole(statuses, was_read=was_read)
        refused = {_SCOPE: statuses[0]} if is_refused else {}
        forbidden = statuses.count(HTTPStatus.FORBIDDEN)
        missing = len(statuses) - forbidden
        note = BillNote(
            frozenset([_SCOPE] if rows else []),
            refused,
            not_found={_SCOPE: missing} if missing and not is_refused else {},
            forbidden={_SCOPE: forbidden} if forbidden and not is_refused else {},
        )
        lake.note_bill(RAW_SESSION_CONSUMPTION, [_SCOPE], note)
    return commit, len(rows)


def _window(created_at: datetime, updated_at: datetime) -> Window:
    first, last = day_of(created_at, BILLING_HOUR), day_of(updated_at, BILLING_HOUR)
    return Window(starts_at(first, BILLING_HOUR), starts_at(max(first, last), BILLING_HOUR, after=1))
