"""Looks at all that a run needs, one check after the other, and says what it found and what to do.

It reads and asks only; the one thing it writes is a small file in the lake, which it removes. No check keeps another
from being made: what cannot be looked at says why. Nothing it says holds a key, a person's id or text of a session.
"""

import os
import shlex
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from devin_pipeline.billing_calendar import contiguous, days_between, newest_closed_day
from devin_pipeline.dagster_server.dagster_home import BrokenHome, dagster_instance
from devin_pipeline.dagster_server.dead_runs import BlockingRun, blocking_runs, command_to_end
from devin_pipeline.derived import days_of_other_code
from devin_pipeline.devin_api import (
    FEED_BY_TABLE,
    VARIABLES,
    Clock,
    DevinClient,
    DevinError,
    FirstPage,
    Item,
    Window,
    check_key,
    check_organization,
    check_surroundings,
    masked,
)
from devin_pipeline.errors import ConfigurationError
from devin_pipeline.lake import Lake, LakeError
from devin_pipeline.operations.erase import partitions_with_persons
from devin_pipeline.orchestration.freshness import older_days
from devin_pipeline.orchestration.partitions import FIRST_TAG, LAST_TAG
from devin_pipeline.orchestration.resources import lake_resource
from devin_pipeline.orchestration.run_history import days_made
from devin_pipeline.raw.account import named
from devin_pipeline.settings import V2_KEY, V3_KEY, Settings
from devin_pipeline.shell import pipeline_command, shipped, typed, with_command_last
from devin_pipeline.tables import ALL_TABLES, RAW_TABLES, SESSION_TABLES, Table

Outcome = Literal["ok", "warning", "failed", "skipped", "not told"]
_Said = tuple[Outcome, str, str]

LARGEST_CLOCK_SKEW = timedelta(seconds=60)
LEAST_FREE_BYTES = 2**30
LONGEST_SILENCE = timedelta(minutes=5)
"""The daemon tells that it is alive every half minute."""

TIME_TO_READ_A_DAY = timedelta(hours=2)
"""How long after a day's end it may still be unread: the schedule starts half an hour after it."""

_SAMPLE = 20
_MOST_AT_ONCE = 200
_SECONDS_PER_ANSWER = 20.0
_RANGES_SHOWN = 5
_LONGEST_NAME = 100
_SECOND = timedelta(seconds=1)
# Devin did not exist then: a filter that works finds nothing.
_BEFORE_DEVIN = Window(datetime(2015, 1, 1, tzinfo=UTC), datetime(2015, 1, 2, tzinfo=UTC))
_WITH_TEXT = "select 1 from {table} where {payload} is not null and redacted is distinct from 'text'"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: The check.
        subject: What was looked at: a variable, a raw table, a sensor; empty when there is only one.
        outcome: `ok`, `warning` (runs work, but …), `failed` (they do not, or lose something), `skipped` (it does not
            apply), or `not told` (the API does not say).
        found: What was found.
        todo: What to do about it; empty when nothing is.
    """

    name: str
    subject: str
    outcome: Outcome
    found: str
    todo: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding, as soon as it is made."""
    for finding in chain(_settings(settings), _api(settings), _lake(settings), _dagster(settings)):
        yield replace(finding, todo=with_command_last(finding.todo) or finding.todo)


def _look(name: str, subject: str, at: Callable[[], _Said]) -> Finding:
    try:
        return Finding(name, subject, *at())
    except (DevinError, LakeError, ConfigurationError) as error:
        return Finding(name, subject, "failed", f"{error.what}: {error.why}", error.todo)
    # guard: a check that stops the others | Exception -> ZeroDivisionError
    except Exception as error:  # whatever one check meets, the others are to be made
        # The kind only: the text may hold anything.
        found = f"it could not be looked at ({type(error).__name__})"
        return Finding(name, subject, "failed", found, "Look at what the other checks say; if they are fine, report it")


# Settings


def _settings(settings: Settings) -> Iterator[Finding]:
    yield _look("address", "", lambda: ("ok", settings.api_url, ""))
    yield _look("proxies and certificates", "", partial(_surroundings, settings))
    for kind, variable in VARIABLES.items():
        yield _look("key", variable, partial(_key, settings, kind, variable))
    yield _look("feeds", "", partial(_feeds, settings))
    yield _look("scope", "", partial(_scope, settings))
    yield _look("days", "", partial(_days, settings))
    yield _look(
        "old runs", "", lambda: ("ok", f"removed by `maintain` {settings.keep_runs_days} days after they ended", "")
    )


def _old_runs(settings: Settings) -> _Said:
    return "ok", f"removed by `maintain` {settings.keep_runs_days} days after they ended", ""


def _surroundings(settings: Settings) -> _Said:
    if (url := _address(settings)) is None:
        return "skipped", "there is no address to connect to", ""
    if url.startswith("http:"):
        return "ok", "an address of this machine is asked without either", ""
    check_surroundings(url)
    return "ok", "those of the environment can be used", ""


def _address(settings: Settings) -> str | None:
    try:
        return settings.api_url
    except ConfigurationError:
        return None  # the check `address` says what is wrong


def _key(settings: Settings, kind: Literal["v2", "v3"], variable: str) -> _Said:
    if not settings.key_is_set(variable):
        feeds = " and ".join(table for table, feed in FEED_BY_TABLE.items() if feed.key == kind)
        return "skipped", f"it is not set, so {feeds} cannot be read", ""
    shown = masked(settings.key(variable) or "")
    try:
        check_key(kind, settings.key(variable) or "")
    except ConfigurationError as error:
        return "failed", f"{shown} cannot be used: {error.why}", error.todo
    return "ok", f"{shown} has the shape of a key", ""


def _feeds(settings: Settings) -> _Said:
    if feeds := settings.feeds:
        return "ok", f"read are {', '.join(feeds)}", ""
    return "failed", f"neither {V3_KEY} nor {V2_KEY} is set, so there is nothing to read", "Set one or both"


def _turned_on(settings: Settings) -> list[str]:
    try:
        return settings.feeds
    except ConfigurationError:
        return list(FEED_BY_TABLE)  # the check `feeds` says what is wrong


def _scope(settings: Settings) -> _Said:
    org_id = settings.organization
    return "ok", "the whole enterprise" if org_id is None else f"the organization {check_organization(org_id)}", ""


def _days(settings: Settings) -> _Said:
    hour = settings.day_starts_at_utc_hour
    return "ok", f"from {settings.start_date} on; a day starts at {hour:02}:00 UTC", ""


# The API


def _api(settings: Settings) -> Iterator[Finding]:
    keys = {}
    for kind, variable in VARIABLES.items():
        try:
            keys[variable] = check_key(kind, settings.key(variable) or "")
        except ConfigurationError:
            continue  # the check `key` says why
    try:
        client = DevinClient(
            base_url=settings.api_url,
            v2_key=keys.get(V2_KEY),
            v3_key=keys.get(V3_KEY),
            org_id=settings.organization,
            concurrency=1,
            timeout_seconds=_SECONDS_PER_ANSWER,
        )
    except ConfigurationError as error:
        yield Finding("endpoint", "", "skipped", f"nothing was asked, because {error.what}: {error.why}", error.todo)
        return
    with client:
        yield from _Endpoints(client, keys, settings).findings()


class _Endpoints:
    """One look at the API; what its endpoints tell first is what the later checks ask about."""

    def __init__(self, client: DevinClient, usable_keys: Collection[str], settings: Settings) -> None:
        self._client = client
        self._usable_keys = usable_keys
        self._settings = settings
        self._feeds = _turned_on(settings)
        self._answering: list[str] = []
        self._samples: dict[str, list[Item]] = {}
        self._clock_ahead: timedelta | None = None
        now = datetime.now(UTC).replace(microsecond=0)
        # Not up to now: a session created while we ask would look like a page that does not repeat.
        self._last_year = Window(now - timedelta(days=365), now - timedelta(hours=1))

    def findings(self) -> Iterator[Finding]:
        for variable in self._usable_keys:
            yield _look("owner", variable, self._owner_of_v3_key if variable == V3_KEY else _owner_of_v2_key)
        for table in FEED_BY_TABLE:
            yield self._of(table, "endpoint", self._endpoint)
        yield _look("clock", "", self._clock)
        for table in self._feeds:
            if table not in self._answering:
                yield Finding("pages and windows", table, "skipped", "its endpoint gave no answer to look at", "")
                continue
            yield self._of(table, "page repeats", self._page_repeats)
            yield self._of(table, "items", self._items)
            yield self._of(table, "filter", self._filter)
            yield self._of(table, "window", partial(self._window, by="created"))
            yield self._of(table, "window of updates", partial(self._window, by="updated"))
        yield _look("account", "", self._account)
        if len({FEED_BY_TABLE[table].key for table in self._answering}) > 1:
            yield _look("one id in v2 and v3", "", self._one_id)

    def _of(self, table: str, name: str, check: Callable[[str], _Said]) -> Finding:
        return _look(name, table, partial(check, table))

    def _first_page(self, table: str, window: Window, by: Clock = "created", size: int = _SAMPLE) -> FirstPage:
        feed = FEED_BY_TABLE[table]
        return self._client.first_page(feed, window, by=by, size=size, deadline_seconds=_SECONDS_PER_ANSWER)

    def _owner_of_v3_key(self) -> _Said:
        try:
            owner = self._client.owner_of_v3_key(deadline_seconds=_SECONDS_PER_ANSWER)
        except DevinError as error:
            # A run does not ask this; whether it can read is told by its endpoints.
            return "not told", f"{error.what}: {error.why}", ""
        whole = "the whole enterprise" if owner.org_id is None else f"the organization {owner.org_id} only"
        found = f"{owner.principal_type} {owner.service_user_name or ''}".strip()[:_LONGEST_NAME] + f", of {whole}"
        if owner.principal_type != "service_user":
            return "warning", f"{found}: no service user", f"Set {V3_KEY} to a key of a service user, which stays"
        if owner.org_id is not None and owner.org_id != self._settings.organization:
            todo = f"Set DEVIN_ORG_ID to it, or {V3_KEY} to a key of an enterprise service user"
            return "warning", f"{found}, which is not what is to be read", todo
        return "ok", found, ""

    def _endpoint(self, table: str) -> _Said:
        variable = FEED_BY_TABLE[table].key_variable
        if variable not in self._usable_keys:
            return (
                "skipped",
                f"{variable} {'cannot be used' if self._settings.key_is_set(variable) else 'is not set'}",
                "",
            )
        try:
            page = self._first_page(table, self._last_year, size=1)
        except DevinError as error:
            if table in self._feeds:
                raise
            return "skipped", f"DEVIN_FEEDS leaves it out; it would fail: {error.why}", ""
        if self._clock_ahead is None:
            self._clock_ahead = page.clock_ahead
        if table not in self._feeds:
            return "skipped", "DEVIN_FEEDS leaves it out; it would answer", ""
        self._answering.append(table)
        if not page.items:
            return "ok", "it answers, and lists no session of the last year", ""
        return "ok", "it answers" + ("" if page.total is None else f", with {page.total} sessions of the last year"), ""

    def _clock(self) -> _Said:
        if self._clock_ahead is None:
            return "not told", "no answer told the time", ""
        seconds = round(self._clock_ahead.total_seconds())
        # guard: a clock that is behind | abs(self._clock_ahead) -> self._clock_ahead
        if abs(self._clock_ahead) <= LARGEST_CLOCK_SKEW:
            return "ok", "this machine's clock and the API's agree to the minute", ""
        found = f"this machine's clock is {abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} the API's"
        return "warning", found, "Let NTP set it: this machine's clock tells which days are over"

    def _page_repeats(self, table: str) -> _Said:
        first = self._first_page(table, self._last_year)
        again = self._first_page(table, self._last_year)
        self._samples[table] = first.items
        if len(first.items) < 2 and len(again.items) < 2:
            return "not told", "there are not enough sessions to see it", ""
        told, told_again = ([item.session_id or item.payload for item in page.items] for page in (first, again))
        # guard: a page that comes in another order | told != told_again -> set(told) != set(told_again)
        if told != told_again:
            how = "in another order" if Counter(told) == Counter(told_again) else "with other sessions"
            return (
                "warning",
                f"the same page came {how} the second time",
                'Nothing gets lost, but days may fail with "The pages of a window never agreed": report it to Devin',
            )
        times = [item.created_at for item in first.items if item.created_at]
        order = "in no order of creation"
        if times == sorted(times, reverse=True):
            order = "newest first"
        elif times == sorted(times):
            order = "oldest first"
        return "ok", f"the same page came twice the same, {order}", ""

    def _items(self, table: str) -> _Said:
        items = self._samples.get(table, [])
        if not items:
            return "not told", "there is no session to look at", ""
        reasons = Counter(item.rejection_reason for item in items if item.rejection_reason)
        if not reasons:
            return "ok", f"all of {len(items)} sessions have a usable id, creation time and ACUs", ""
        why = ", ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items()))
        return (
            "warning",
            f"{reasons.total()} of {len(items)} sessions cannot be placed: {why}",
            "They go to raw_quarantine and their ACUs are in no sum: report them to Devin's support",
        )

    def _filter(self, table: str) -> _Said:
        todo = "The API has changed, or DEVIN_API_URL leads elsewhere; runs refuse what comes"
        # guard: a filter of updates that is ignored | "updated"
        clocks: tuple[Clock, ...] = ("created", "updated")
        for by in clocks:
            page = self._first_page(table, _BEFORE_DEVIN, by)
            if page.items or page.total:
                return "failed", f"it is ignored: asked for sessions {by} in 2015, the API lists some", todo
        if (sample := self._session(table, "created")) is None:
            return "ok", "asked for sessions of 2015, the API lists none", ""
        _, at = sample
        window = Window(at, at + timedelta(hours=1))
        page = self._first_page(table, window, size=_MOST_AT_ONCE)
        strays = sum(1 for item in page.items if item.created_at and not window.start <= item.created_at <= window.end)
        if strays:
            return "failed", f"{strays} of {len(page.items)} sessions lie outside the hour asked for", todo
        if page.total is not None and not page.more and page.total != len(page.items):
            return "failed", f"{page.total} sessions are stated for an hour that lists {len(page.items)}", todo
        return "ok", "asked for 2015 the API lists no session, asked for an hour only those of it", ""

    def _window(self, table: str, by: Clock) -> _Said:
        if (sample := self._session(table, by)) is None:
            return "not told", "there is no session to ask about", ""
        session_id, at = sample
        after = self._first_page(table, Window(at, at + _SECOND), by, _MOST_AT_ONCE)
        before = self._first_page(table, Window(at - _SECOND, at), by, _MOST_AT_ONCE)
        starts, ends = (any(item.session_id == session_id for item in page.items) for page in (after, before))
        if not starts and (after.more or by == "updated"):
            # Another update may have moved it meanwhile; the sensor's windows overlap by an hour in any case.
            return "not told", "the session asked about was not found again", ""
        if not starts:
            found = "its start does not belong to it: sessions created in the first second of a day are not listed"
            return "failed", found, "Do not rely on these figures, and report it to Devin's support"
        # guard: a window that includes its end
        if ends:
            return "ok", "[start, end]: its end belongs to it too; the pipeline drops what lies there", ""
        return "ok", "[start, end): half-open, as the pipeline asks", ""

    def _session(self, table: str, by: Clock) -> tuple[str, datetime] | None:
        """The oldest of the sample that can be asked for, and its instant as precisely as the API takes it."""
        known = [
            (at, item.session_id)
            for item in self._samples.get(table, [])
            if item.session_id and (at := item.created_at if by == "created" else item.updated_at)
        ]
        if not known:
            return None
        at, session_id = min(known)
        return session_id, at.replace(microsecond=0) if FEED_BY_TABLE[table].window.in_seconds else at

    def _account(self) -> _Said:
        found = {item.org_id for items in self._samples.values() for item in items if item.org_id is not None}
        try:
            known = _open_lake(self._settings).organizations()
        except LakeError:
            return _not_of_this_lake()
        if not found or not known:
            return "not told", "there are no organizations to compare with those of the lake", ""
        if found & known:
            return "ok", "the keys read organizations that the lake holds", ""
        return (
            "failed",
            f"the keys read {named(found)}, and the lake holds {named(known)}: another enterprise",
            "Set the keys of the enterprise whose lake this is, or another DEVIN_LAKE; if they belong to it, read them "
            f"once with `{pipeline_command('backfill --from DAY --to DAY --accept-new-organizations')}`",
        )

    def _one_id(self) -> _Said:
        v2, v3 = (
            {
                item.session_id: item.created_at.replace(microsecond=0)
                for table in self._answering
                if FEED_BY_TABLE[table].key == kind
                for item in self._samples.get(table, [])
                if item.session_id and item.created_at
            }
            for kind in VARIABLES
        )
        # Of both, only what lies in the time that both pages cover.
        asked = [name for name, at in v3.items() if v2 and min(v2.values()) <= at <= max(v2.values())]
        met = sum(1 for name in asked if name in v2)
        if met:
            return "ok", f"{met} of {len(asked)} sessions of v3 have the same id in v2", ""
        if len(asked) < _SAMPLE // 2:
            return "not told", "there are not enough sessions to see it", ""
        found = f"none of {len(asked)} sessions of v3 has the same id in v2, so each would count twice"
        return "failed", found, "Turn the feeds of one version off with DEVIN_FEEDS, and report it"


def _owner_of_v2_key() -> _Said:
    return "not told", "v2 has no endpoint for it; if it answers, the owner is an Enterprise Admin", ""


# The lake


def _lake(settings: Settings) -> Iterator[Finding]:
    is_ours = _look("lake", "", partial(_whose_lake, settings))
    yield is_ours
    yield _look("text", "", partial(_text, settings, can_read=is_ours.outcome == "ok"))
    # guard: a raw table whose lost versions doctor passes over | RAW_TABLES -> RAW_TABLES[:4]
    for table in RAW_TABLES:
        look_at = partial(_last_version, settings, table) if is_ours.outcome == "ok" else _not_of_this_lake
        yield _look("last version", table.name, look_at)
    for name, check in (
        ("lake is writable", _writable),
        ("disk", _disk),
        ("access to the lake", _access),
        ("closed days", _closed_days),
        ("late updates", _late_updates),
        ("code of derived days", _code_of_derived_days),
        ("erasure list", _erasure_list),
    ):
        yield _look(name, "", partial(check, settings) if is_ours.outcome == "ok" else _not_of_this_lake)


def _open_lake(settings: Settings) -> Lake:
    return lake_resource(settings).open()


def _whose_lake(settings: Settings) -> _Said:
    lake = _open_lake(settings)
    if (identity := lake.identity) is None:
        return "ok", f"{lake.uri}: the first run makes it ours", ""
    return "ok", f"{lake.uri}: {identity.kind}, {identity.host}, {identity.scope}, as the settings say", ""


def _text(settings: Settings, can_read: bool) -> _Said:
    if settings.keeps_text:
        return "ok", "DEVIN_TEXT=full: prompts, titles and analyses are stored as sent, whatever secrets they hold", ""
    if not can_read:
        return "ok", "DEVIN_TEXT=none: no free text is stored", ""
    with _open_lake(settings).connect(RAW_TABLES) as reader:
        # Our own names; one SELECT over all of them.
        # guard: a raw table whose text doctor passes over | RAW_TABLES -> RAW_TABLES[:4]
        queries = [_WITH_TEXT.format(table=table.name, payload=table.payload) for table in RAW_TABLES]
        with_text = reader.rows(" union all ".join(queries)).num_rows
    if with_text:
        found = f"DEVIN_TEXT=none, but {with_text} versions stored before still have their text"
        return "warning", found, f"Remove it: `{pipeline_command('forget --text')}`"
    return "ok", "DEVIN_TEXT=none: no free text is stored", ""


def _last_version(settings: Settings, table: Table) -> _Said:
    if (version := _open_lake(settings).snapshot(table).version) is None:
        return "ok", "nothing is stored in it yet", ""
    return "ok", f"version {version}, no older than what was last written to it", ""


def _not_of_this_lake() -> _Said:
    return "skipped", "the lake cannot be used", ""


def _writable(settings: Settings) -> _Said:
    _open_lake(settings).require_writable()
    return "ok", "a small file was written and removed again", ""


def _disk(settings: Settings) -> _Said:
    folder = _open_lake(settings).nearest_folder
    if folder is None:
        return "skipped", "the lake lies in an object store", ""
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**30:.1f} GiB are free"
    if free < LEAST_FREE_BYTES:
        return "warning", found, "Free space: a run that meets a full disk fails, and the days keep their last version"
    return "ok", found, ""


def _access(settings: Settings) -> _Said:
    lake = _open_lake(settings)
    if os.name != "posix" or lake.nearest_folder != Path(lake.uri):
        return "skipped", "there is no folder with modes to look at", ""
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


def _closed_days(settings: Settings) -> _Said:
    hour = settings.day_starts_at_utc_hour
    first, last = settings.start_date, newest_closed_day(datetime.now(UTC) - TIME_TO_READ_A_DAY, hour)
    if first > last:
        return "skipped", f"no day is over yet since DEVIN_START_DATE ({first})", ""
    closed = days_between(first, last)
    made = days_made(closed, _open_lake(settings), settings.feeds, hour)
    if made and not settings.has_start_date:
        # No day before the first one made was asked for.
        first = min(made)
        closed = [day for day in closed if day >= first]
    missing = [day for day in closed if day not in made]
    if not missing:
        return "ok", f"all {len(closed)} from {first} to {last} are made", ""
    todo = pipeline_command(f"backfill --from {missing[0]} --to {missing[-1]} --only-missing")
    if not made:
        return "warning", f"none of {len(closed)} since DEVIN_START_DATE ({first}) is made", todo
    found = f"{len(missing)} of {len(closed)} are not made: {_ranges(missing)}"
    # Days before the first one made were never asked for; a gap after it is spend that nobody sees.
    # guard: a hole between days | "failed" if missing[-1] > min(made) else
    return "failed" if missing[-1] > min(made) else "warning", found, todo


def _late_updates(settings: Settings) -> _Said:
    older = older_days(
        _open_lake(settings), settings.feeds, settings.start_date, settings.day_starts_at_utc_hour, datetime.now(UTC)
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


def _code_of_derived_days(settings: Settings) -> _Said:
    days = days_of_other_code(_open_lake(settings), settings.day_starts_at_utc_hour)
    if not days:
        return "ok", "this version of the code built all of them", ""
    found = f"another version of the code built {len(days)} of them, and reports wait: {_ranges(days)}"
    return "failed", found, pipeline_command(f"rebuild --from {days[0]} --to {days[-1]}")


def _erasure_list(settings: Settings) -> _Said:
    lake = _open_lake(settings)
    if not lake.erasure_list():
        return "ok", "nobody is on it", ""
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
            what = f"{len(old)} files of unfinished writes remain from before the erasure of {_minute(began)}"
            return "warning", what, todo
    return "ok", "no row of a person on it is stored", ""


def _ranges(days: Sequence[date]) -> str:
    groups = contiguous(days)
    shown = [str(group[0]) if len(group) == 1 else f"{group[0]} … {group[-1]}" for group in groups[:_RANGES_SHOWN]]
    more = len(groups) - len(shown)
    return ", ".join(shown) + (f" and {more} more ranges" if more else "")


# Dagster


def _dagster(settings: Settings) -> Iterator[Finding]:
    home = Path(settings.DAGSTER_HOME)
    if not home.is_dir() or not any(home.iterdir()):
        yield Finding("DAGSTER_HOME", "", "skipped", f"{home} is not there yet: the first run or `ui` makes it", "")
        return
    with ExitStack() as opened:
        try:
            instance = opened.enter_context(dagster_instance())
        except BrokenHome as error:
            yield Finding("DAGSTER_HOME", "", "failed", f"{error.what}: {error.why}", error.todo)
            return
        except Exception as error:  # its configuration may name any storage, and each fails in its own way
            found = f"Dagster cannot open {home} ({type(error).__name__})"
            todo = "Look at its dagster.yaml and at the storage named there"
            yield Finding("DAGSTER_HOME", "", "failed", found, todo)
            return
        yield Finding("DAGSTER_HOME", "", "ok", str(home), "")
        yield from _switches(instance, settings)
        yield _look("daemon", "", partial(_daemon, settings, instance))
        yield _look("last run", "", partial(_last_run, instance))
        yield from _runs(instance)


def _switches(instance: dg.DagsterInstance, settings: Settings) -> Iterator[Finding]:
    try:
        # Not above: the module makes the pipeline as it is loaded, and a bad setting raises there.
        from devin_pipeline.definitions import pipeline

        definitions = pipeline(settings)
        states = {state.name: state for state in instance.all_instigator_state()}
    except Exception as error:  # a bad setting, which has its own check, or a storage that fails
        found = f"they could not be looked at ({type(error).__name__})"
        yield Finding("schedules and sensors", "", "skipped", found, "Heed what the other checks say first")
        return
    for kind, switches in (("schedule", definitions.schedules), ("sensor", definitions.sensors)):
        for switch in switches or ():
            if isinstance(switch, dg.ScheduleDefinition | dg.SensorDefinition):
                yield _look(kind, switch.name, partial(_switch, settings, instance, switch, states.get(switch.name)))


def _switch(
    settings: Settings,
    instance: dg.DagsterInstance,
    switch: dg.ScheduleDefinition | dg.SensorDefinition,
    state: Any,  # of a class that Dagster does not publish; None for one that was never switched
) -> _Said:
    is_on = switch.default_status.value == "RUNNING"
    # guard: a schedule that was switched off | in ("RUNNING", "STOPPED") -> == "RUNNING"
    if state is not None and state.status.value in ("RUNNING", "STOPPED"):
        is_on = state.status.value == "RUNNING"
    if not is_on:
        if settings.is_demo:
            return "ok", "it is off, as it is for a demo", ""
        return "warning", "it is off", f"Switch it on under Automation in the Dagster UI: `{pipeline_command('ui')}`"
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1) if state else []
    if ticks and ticks[0].status.value == "FAILURE":
        found = f"it is on, but its last tick failed, at {_minute(ticks[0].timestamp)}"
        return "warning", found, f"Look under Automation in the Dagster UI why: `{pipeline_command('ui')}`"
    return "ok", "it is on", ""


def _daemon(settings: Settings, instance: dg.DagsterInstance) -> _Said:
    last = max((beat.timestamp for beat in instance.get_daemon_heartbeats().values()), default=None)
    # guard: a daemon that is silent | <= LONGEST_SILENCE.total_seconds() -> < 10**9
    if last is not None and datetime.now(UTC).timestamp() - last <= LONGEST_SILENCE.total_seconds():
        return "ok", "it is alive", ""
    if settings.is_demo:
        return "skipped", "a demo needs none", ""
    start = (
        f"with the Dagster UI, `{pipeline_command('ui')}`, or alone: "
        f"`DAGSTER_HOME={shlex.quote(settings.DAGSTER_HOME)} "
        f"{typed('dagster-daemon run -w ' + shlex.quote(str(shipped('workspace.yaml'))))}`"
    )
    if last is None:
        # A lake that only commands fill needs none.
        return "skipped", f"none has run yet; schedules and sensors work once one is started, {start}", ""
    return "warning", f"it is silent since {_minute(last)}: no schedule or sensor does anything", f"Start it, {start}"


def _last_run(instance: dg.DagsterInstance) -> _Said:
    runs = instance.get_run_records(limit=1)
    if not runs:
        return "skipped", "there is none yet", ""
    run = runs[0].dagster_run
    first, last = run.tags.get(FIRST_TAG), run.tags.get(LAST_TAG)
    found = f"{run.status.value.lower()}, of {runs[0].create_timestamp:%Y-%m-%d %H:%M} UTC" + (
        f", over {first} … {last}" if first else ""
    )
    if run.status != dg.DagsterRunStatus.FAILURE:
        return "ok", found, ""
    todo = f"Its days keep their last version. See why in the Dagster UI: `{pipeline_command('ui')}`"
    return "warning", found, todo


def _runs(instance: dg.DagsterInstance) -> Iterator[Finding]:
    try:
        runs = [each for each in blocking_runs(instance) if each.is_dead or each.may_be_dead]
    except Exception as error:  # the storage may be any, and each fails in its own way
        found = f"they could not be looked at ({type(error).__name__})"
        yield Finding("runs", "", "failed", found, "Look at the storage that dagster.yaml names")
        return
    if not runs:
        yield Finding("runs", "", "ok", "none blocks others though its process is gone", "")
    for each in runs:
        yield _look("runs", each.run.run_id, partial(_dead_run, instance, each))


def _dead_run(instance: dg.DagsterInstance, each: BlockingRun) -> _Said:
    since = f"it counts as running since {each.started_at:%Y-%m-%d %H:%M} UTC" if each.started_at else "it is canceled"
    if each.is_dead:
        found = f"{since}, its process is gone, and it may block the runs after it"
        return "warning", found, f"The Dagster UI fails it within a minute: `{pipeline_command('ui')}`"
    return (
        "warning" if each.is_long else "not told",
        f"{since}, and it cannot be known here whether its process is alive",
        f"If it is not, end it: `{command_to_end(instance, each.run.run_id)}`",
    )


def _minute(timestamp: float) -> str:
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M} UTC"
