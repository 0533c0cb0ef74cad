"""Checks of the lake: whose it is, its text, what is missing, outdated or still holds an erased person."""

import os
import shlex
import shutil
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from devin_pipeline.billing_calendar import contiguous, days_between, newest_closed_day
from devin_pipeline.derived import days_of_other_code
from devin_pipeline.devin_api import KeyKind, Window, endpoint_of
from devin_pipeline.doctor.check_result import CheckResult, Said, look, minute
from devin_pipeline.lake import Lake
from devin_pipeline.operations.erase import partitions_with_persons
from devin_pipeline.orchestration.freshness import older_days
from devin_pipeline.orchestration.resources import lake_resource
from devin_pipeline.orchestration.run_history import days_made
from devin_pipeline.settings import V3_KEY, Settings
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import ALL_TABLES, MONEY_TABLES, RAW_TABLES, SESSION_TABLES, SESSIONS, Table
from devin_pipeline.tables.derived import SESSION_PULL_REQUESTS
from devin_pipeline.usage_report import STORED_REPORT

LEAST_FREE_BYTES = 2**30
_FORBIDDEN = 403
TIME_TO_READ_A_DAY = timedelta(hours=2)
"""How long after a day's end it may still be unread: the schedule starts half an hour after it."""
_RANGES_SHOWN = 5
_COUNTED = timedelta(days=28)
_TICK = timedelta(microseconds=1)
_COUNTED_SESSIONS = """
    select
        count(*) filter (where created_at >= $start and created_at < $end)::integer as sessions,
        timezone('UTC', date_trunc('day', timezone('UTC', min(created_at))) + interval 1 day) as first_whole_day
    from sessions
"""
_COUNTED_PULL_REQUESTS = """
    select count(distinct url)::integer as pull_requests
    from session_pull_requests
    where session_created_at >= $start and session_created_at < $end
"""
_WITH_TEXT = "select 1 from {table} where {payload} is not null and redacted is distinct from 'text'"


def findings(settings: Settings) -> Iterator[CheckResult]:
    """Every finding, as soon as it is made."""
    is_ours = look("lake", "", partial(_whose_lake, settings))
    yield is_ours
    yield look("text", "", partial(_text, settings, can_read=is_ours.outcome == "ok"))
    yield look("stored_report", "", partial(_stored_report, settings, can_read=is_ours.outcome == "ok"))
    # guard: a raw table whose lost versions doctor passes over | RAW_TABLES -> RAW_TABLES[:4]
    for table in RAW_TABLES:
        look_at = partial(_last_version, settings, table) if is_ours.outcome == "ok" else not_of_this_lake
        yield look("last_version", table.name, look_at)
    for table in MONEY_TABLES:
        look_at = partial(_refusals, settings, table) if is_ours.outcome == "ok" else not_of_this_lake
        yield look("refusals", table.name, look_at)
    for name, check in (
        ("lake_is_writable", _writable),
        ("disk", _disk),
        ("lake_permissions", _access),
        ("closed_days", _closed_days),
        ("late_updates", _late_updates),
        ("code_of_derived_days", _code_of_derived_days),
        ("erasure_list", _erasure_list),
    ):
        yield look(name, "", partial(check, settings) if is_ours.outcome == "ok" else not_of_this_lake)


def open_lake(settings: Settings) -> Lake:
    """The lake of the settings."""
    return lake_resource(settings).open()


def _whose_lake(settings: Settings) -> Said:
    lake = open_lake(settings)
    if (identity := lake.identity) is None:
        return "ok", f"{lake.uri}: the first run claims it", ""
    return "ok", f"{lake.uri}: {identity.kind}, {identity.host}, {identity.scope}, as the settings say", ""


def _text(settings: Settings, can_read: bool) -> Said:
    if settings.keeps_text:
        return "ok", "DEVIN_TEXT=full: prompts, titles and analyses are stored as sent, whatever secrets they hold", ""
    if not can_read:
        return "ok", "DEVIN_TEXT=none: no free text is stored", ""
    with open_lake(settings).connect(RAW_TABLES) as connection:
        # Our own names; one SELECT over all of them.
        # guard: a raw table whose text doctor passes over | RAW_TABLES -> RAW_TABLES[:4]
        queries = [_WITH_TEXT.format(table=table.name, payload=table.payload) for table in RAW_TABLES]
        with_text = connection.rows(" union all ".join(queries)).num_rows
    if with_text:
        found = f"DEVIN_TEXT=none, but {with_text} versions stored before still have their text"
        return "warning", found, f"Remove it: `{pipeline_command('forget --text')}`"
    return "ok", "DEVIN_TEXT=none: no free text is stored", ""


def _stored_report(settings: Settings, can_read: bool) -> Said:
    kind = settings.stored_report
    if kind != "none" and not settings.keeps_text:
        return "ok", "each run writes one; no free text is stored", ""
    if kind != "none":
        return "ok", f"each run writes one with{'' if kind == 'full' else 'out'} prompts and feedback", ""
    if can_read and (lake := open_lake(settings)).has_document(STORED_REPORT):
        found = "DEVIN_REPORT=none, but one that an earlier run wrote is still stored"
        return "warning", found, f"Delete {lake.document_uri(STORED_REPORT)}"
    return "ok", "runs write none", ""


def _last_version(settings: Settings, table: Table) -> Said:
    if (version := open_lake(settings).snapshot(table).version) is None:
        return "ok", "nothing is stored in it yet", ""
    return "ok", f"version {version}, no older than what was last written to it", ""


def _refusals(settings: Settings, table: Table) -> Said:
    """What of the bill or the lists the API refused, or cut short, when it was last asked for."""
    if settings.why_not_read(table.name):
        return "skipped", "it is not read", ""
    note = open_lake(settings).bill_note(table)
    if not (note.read or note.refused):
        return "ok", "no run has asked for it yet", ""
    version: KeyKind = "v3" if settings.key_is_set(V3_KEY) else "v2"
    found, todo = [], []
    # A single organization that is not found was deleted; no permission is missing.
    for name, status in sorted(note.refused.items()):
        if "/" not in name:
            endpoint = endpoint_of(name, version)
            path = unquote(endpoint.path_for(settings.organization, "{id}"))
            found.append(f"{endpoint.name} is refused ({status}) at {path}, so what needs it is null")
            is_missing = status != _FORBIDDEN
            advice = f"this enterprise does not have it: leave {table.name} out of DEVIN_FEEDS if that is known"
            todo.append(advice if is_missing else f"{endpoint.key_variable} must be {endpoint.needs}")
    for name, number in sorted(note.forbidden.items()):
        endpoint = endpoint_of(name, version)
        found.append(f"{endpoint.name} is refused ({_FORBIDDEN}) for {number}; what is stored of them stands")
        todo.append(f"{endpoint.key_variable} must be {endpoint.needs}")
    for name, (before, now) in sorted(note.shrunk.items()):
        found.append(f"of {before} entries of {name} listed before, {now} are listed now; the others are kept")
        todo.append(f"if they were removed, run a backfill with `{pipeline_command('backfill … --accept-removals')}`")
    for name, number in sorted(note.unreadable.items()):
        found.append(f"{number} entries of {name} cannot be read, or are of the same day as another")
    if found:
        return "warning", "; ".join(found), "; ".join(dict.fromkeys(todo))
    unknown = sum(note.not_found.values())
    return (
        "ok",
        "nothing is refused" + (f"; the API does not know {unknown} that were asked for" if unknown else ""),
        "",
    )


class StoredCounts(NamedTuple):
    """Sessions and pull requests that are stored of some days of UTC."""

    window: Window
    sessions: int
    pull_requests: int

    @property
    def days(self) -> str:
        """The days, in words."""
        return f"created from {self.window.start:%Y-%m-%d} to {self.window.end - _TICK:%Y-%m-%d} (UTC)"


def stored_counts(settings: Settings, now: datetime) -> StoredCounts | None:
    """What is stored of the last four weeks that ended two days ago; None if there is nothing.

    Args:
        settings: The settings.
        now: The time.
    """
    end = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    with open_lake(settings).connect([SESSIONS, SESSION_PULL_REQUESTS]) as connection:
        params = {"start": end - _COUNTED, "end": end}
        (of_sessions,) = connection.rows(_COUNTED_SESSIONS, params).to_pylist()
        if not of_sessions["sessions"]:
            return None
        # Not days of before the first one that is stored.
        start = max(end - _COUNTED, of_sessions["first_whole_day"])
        if start >= end:
            return None
        params = {"start": start, "end": end}
        (of_sessions,) = connection.rows(_COUNTED_SESSIONS, params).to_pylist()
        (links,) = connection.rows(_COUNTED_PULL_REQUESTS, params).to_pylist()
    return StoredCounts(Window(start, end), of_sessions["sessions"], links["pull_requests"])


def not_of_this_lake() -> Said:
    """What is found where the lake cannot be opened."""
    return "skipped", "the lake cannot be used", ""


def _writable(settings: Settings) -> Said:
    open_lake(settings).require_writable()
    return "ok", "a small file was written and removed", ""


def _disk(settings: Settings) -> Said:
    folder = open_lake(settings).nearest_folder
    if folder is None:
        return "skipped", "the lake is in an object store", ""
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**30:.1f} GiB are free"
    if free < LEAST_FREE_BYTES:
        return "warning", found, "Free space: a run fails if the disk is full, and the days keep their last version"
    return "ok", found, ""


def _access(settings: Settings) -> Said:
    lake = open_lake(settings)
    if os.name != "posix" or lake.nearest_folder != Path(lake.uri):
        return "skipped", "there is not a folder with modes to look at", ""
    if settings.is_demo or not settings.keeps_text:
        return "ok", "it holds no prompts of yours", ""
    root = Path(lake.uri)
    # Others must pass every folder on the way; one that is closed to them keeps them out.
    if all(_mode(folder) & 0o011 for folder in (root, *root.parents)):
        # guard: a raw table that others may read | *RAW_TABLES -> *RAW_TABLES[:4]
        with_text = (root / table.name for table in (*RAW_TABLES, *SESSION_TABLES))
        if opened := [folder.name for folder in with_text if _others_can_read(folder)]:
            found = f"other users of this machine can read files of {', '.join(opened)}, which hold prompts"
            return "warning", found, f"Close the lake: chmod 700 {shlex.quote(lake.uri)}"
    return "ok", "no other user of this machine can read prompts of yours in it", ""


def _others_can_read(folder: Path) -> bool:
    """Whether other users can read a file of a table, whose folder they reach."""
    if not folder.is_dir() or not _mode(folder) & 0o011:
        return False
    return any(
        _others_can_read(entry) if entry.is_dir() else entry.suffix == ".parquet" and _mode(entry) & 0o044
        for entry in folder.iterdir()
    )


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _closed_days(settings: Settings) -> Said:
    hour = settings.day_starts_at_utc_hour
    first, last = settings.start_date, newest_closed_day(datetime.now(UTC) - TIME_TO_READ_A_DAY, hour)
    if first > last:
        return "skipped", f"no day has ended since DEVIN_START_DATE ({first})", ""
    closed = days_between(first, last)
    made = days_made(closed, open_lake(settings), settings.feeds, hour)
    if made and not settings.has_start_date:
        # No day before the first one made was asked for.
        first = min(made)
        closed = [day for day in closed if day >= first]
    missing = [day for day in closed if day not in made]
    if not missing:
        return "ok", f"all {len(closed)} from {first} to {last} are made", ""
    todo = pipeline_command(f"backfill --from {missing[0]} --to {missing[-1]} --only-missing")
    if not made:
        return "warning", f"none of {len(closed)} since DEVIN_START_DATE ({first}) has been read", todo
    found = f"{len(missing)} of {len(closed)} are not made: {_ranges(missing)}"
    # Days before the first one made were never asked for; a gap after it is spend that nobody sees.
    # guard: a hole between days | "failed" if missing[-1] > min(made) else
    return "failed" if missing[-1] > min(made) else "warning", found, todo


def _late_updates(settings: Settings) -> Said:
    older = older_days(
        open_lake(settings), settings.feeds, settings.start_date, settings.day_starts_at_utc_hour, datetime.now(UTC)
    )
    days = older.to_read_again
    if not days:
        return "ok", "the sensor late_updates reads those of every stored day that daily_refresh leaves out", ""
    todo = pipeline_command(f"backfill --from {days[0]} --to {days[-1]}")
    reasons = []
    if older.of_unknown_age:
        found = _ranges(sorted(older.of_unknown_age))
        reasons.append(f"nothing says when {len(older.of_unknown_age)} of the older days were last read: {found}")
    if older.with_missed_updates:
        found = _ranges(sorted(older.with_missed_updates))
        reasons.append(f"updates of {len(older.with_missed_updates)} days were too many for the sensor: {found}")
    if older.left_unread:
        found = _ranges(sorted(older.left_unread))
        reasons.append(f"daily_refresh did not read {len(older.left_unread)} days before it left them: {found}")
    return "warning", "; ".join(reasons), todo


def _code_of_derived_days(settings: Settings) -> Said:
    days = days_of_other_code(open_lake(settings), settings.day_starts_at_utc_hour)
    if not days:
        return "ok", "this version of the code built all of them", ""
    found = f"another version of the code built {len(days)} of them, and reports wait: {_ranges(days)}"
    return "failed", found, pipeline_command(f"rebuild --from {days[0]} --to {days[-1]}")


def _erasure_list(settings: Settings) -> Said:
    lake = open_lake(settings)
    if not lake.erasure_list():
        return "ok", "it is empty", ""
    todo = pipeline_command("maintain")
    found = {table.name: partitions_with_persons(lake, lake.as_stored(table)) for table in ALL_TABLES}
    if any(found.values()):
        days = sorted({day for of_table in found.values() for day in of_table if isinstance(day, date)})
        names = ", ".join(name for name, of_table in found.items() if of_table)
        where = f" on {len(days)} days: {_ranges(days)}" if days else ""
        return "failed", f"rows of persons on it are stored in {names}{where}", todo
    if unfinished := lake.unfinished_erasure():
        began = unfinished.began.timestamp()
        unfinished_writes = [file for table in ALL_TABLES for file in lake.files_of_unfinished_writes(table)]
        old = [file for file in unfinished_writes if file.mtime_ns < began * 1e9]
        if old:
            what = f"{len(old)} files of unfinished writes remain from before the erasure of {minute(began)}"
            return "warning", what, todo
    return "ok", "no row of a person on it is stored", ""


def _ranges(days: Sequence[date]) -> str:
    groups = contiguous(days)
    shown = [str(group[0]) if len(group) == 1 else f"{group[0]} … {group[-1]}" for group in groups[:_RANGES_SHOWN]]
    more = len(groups) - len(shown)
    return ", ".join(shown) + (f" and {more} more ranges" if more else "")
