"""Takes text and identity out of what is stored, in every version and file; the spend stays.

Which parts of an item are text, or tell who it is of, is known to `raw.redaction`. Derived tables and reports are made
anew from the redacted versions, not edited. Stopped half-way and run again, each function goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from devin_pipeline.lake import Kind, Lake
from devin_pipeline.raw.landing import redact
from devin_pipeline.raw.redaction import Redaction
from devin_pipeline.tables import ALL_TABLES, RAW_QUARANTINE, RAW_SESSION_TABLES

MakeAnew = Callable[[Sequence[date]], None]
"""Makes derived tables and reports of some days from what raw holds then."""

_TOLD_BY = """
    select distinct day, case when session_id = $pseudonym or $of_user then session_id end as session_id
    from versions
    where session_id = $pseudonym or contains(payload, $pseudonym)
"""


@dataclass(frozen=True)
class Removed:
    """How many sessions lost text or identity, and the days whose tables were made anew."""

    sessions: int
    days: Sequence[date]


def forget(lake: Lake, kind: Kind, identifier: str, *, keeps_text: bool, make_anew: MakeAnew) -> Removed:
    """Remove text and identity of a user or a session, now and from whatever is read later.

    Args:
        lake: The lake.
        kind: What `identifier` is of. The user of a forgotten session is forgotten for that session.
        identifier: The id as the API tells it, a session's without `devin-`.
        keeps_text: What DEVIN_TEXT says of everybody else's text.
        make_anew: Makes what follows from raw.
    """
    forgotten = lake.remember_to_forget(kind, identifier)
    _redact(lake, Redaction(keeps_text, forgotten))
    told_by = {"pseudonym": forgotten.pseudonym(kind, identifier), "of_user": kind == "user"}
    days: set[date] = set()
    sessions: set[str] = set()
    for table in RAW_SESSION_TABLES:
        with lake.connect([table]) as reader:
            reader.view("versions", f'from "{table.name}"')
            told = reader.rows(_TOLD_BY, told_by)
        days.update(told.column("day").to_pylist())
        sessions.update(told.column("session_id").drop_null().to_pylist())
    _finish(lake, sorted(days), make_anew)
    return Removed(len(sessions), sorted(days))


def forget_text(lake: Lake, *, make_anew: MakeAnew) -> Removed:
    """Remove all text that was stored before DEVIN_TEXT was `none`.

    Args:
        lake: The lake.
        make_anew: Makes what follows from raw.
    """
    _redact(lake, Redaction(False, lake.forgotten()))
    files = [file for table in RAW_SESSION_TABLES for file in lake.snapshot(table).stored_files()]
    days = sorted({file.day for file in files if file.day is not None})
    with lake.connect(RAW_SESSION_TABLES) as reader:
        ids = " union ".join(f'select session_id from "{table.name}"' for table in RAW_SESSION_TABLES)  # noqa: S608 - our own names
        sessions = reader.rows(ids).num_rows
    _finish(lake, days, make_anew)
    return Removed(sessions, days)


def _redact(lake: Lake, redaction: Redaction) -> None:
    for table in (*RAW_SESSION_TABLES, RAW_QUARANTINE):
        days = {file.day for file in lake.snapshot(table).stored_files()}
        redact(lake, table, redaction, sorted(day for day in days if day is not None))


def _finish(lake: Lake, days: Sequence[date], make_anew: MakeAnew) -> None:
    if days:
        make_anew(days)
    for table in ALL_TABLES:
        lake.purge(table)
