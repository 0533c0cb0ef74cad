"""Checks of the API: what its endpoints, filters, pages and clock do. A few requests each, and no more."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

from devin_pipeline.devin_api import (
    FEED_BY_TABLE,
    VARIABLES,
    Clock,
    DevinClient,
    DevinError,
    FirstPage,
    Item,
    Refused,
    Window,
    check_key,
)
from devin_pipeline.doctor.check_result import CheckResult, Said, look
from devin_pipeline.doctor.lake import not_of_this_lake, open_lake, stored_counts
from devin_pipeline.doctor.settings import feeds_to_look_at
from devin_pipeline.errors import ConfigurationError
from devin_pipeline.lake import LakeError
from devin_pipeline.raw.sessions.account import named
from devin_pipeline.settings import V2_KEY, V3_KEY, Settings
from devin_pipeline.shell import pipeline_command

LARGEST_CLOCK_SKEW = timedelta(seconds=60)
_SAMPLE = 20
_MOST_AT_ONCE = 200
_SECONDS_PER_ANSWER = 20.0
_SECOND = timedelta(seconds=1)
# Devin did not exist then: a filter that works finds nothing.
_BEFORE_DEVIN = Window(datetime(2015, 1, 1, tzinfo=UTC), datetime(2015, 1, 2, tzinfo=UTC))
_LONGEST_NAME = 100
# Of the sessions that the API counts in itself, so many may not be stored before somebody is to look.
_MOST_MISSING = 0.02


def findings(settings: Settings) -> Iterator[CheckResult]:
    """Every finding, as soon as it is made."""
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
        yield CheckResult(
            "endpoint", "", "skipped", f"nothing was asked, because {error.what}: {error.why}", error.todo
        )
        return
    with client:
        yield from _Endpoints(client, keys, settings).findings()


class _Endpoints:
    """One look at the API; the later checks ask about what its endpoints returned first."""

    def __init__(self, client: DevinClient, usable_keys: Collection[str], settings: Settings) -> None:
        self._client = client
        self._usable_keys = usable_keys
        self._settings = settings
        self._feeds = feeds_to_look_at(settings)
        self._answering: list[str] = []
        self._samples: dict[str, list[Item]] = {}
        self._clock_ahead: timedelta | None = None
        now = datetime.now(UTC).replace(microsecond=0)
        # Not up to now: a session created while we ask would look like a page that does not repeat.
        self._last_year = Window(now - timedelta(days=365), now - timedelta(hours=1))

    def findings(self) -> Iterator[CheckResult]:
        for variable in self._usable_keys:
            yield look("owner", variable, self._owner_of_v3_key if variable == V3_KEY else _owner_of_v2_key)
        for table in FEED_BY_TABLE:
            yield self._of(table, "endpoint", self._endpoint)
        yield look("clock", "", self._clock)
        for table in self._feeds:
            if table not in self._answering:
                yield CheckResult("pages_and_windows", table, "skipped", "its endpoint gave no response to check", "")
                continue
            yield self._of(table, "page_is_stable", self._page_repeats)
            yield self._of(table, "items", self._items)
            yield self._of(table, "filter", self._filter)
            yield self._of(table, "created_window", partial(self._window, by="created"))
            yield self._of(table, "updated_window", partial(self._window, by="updated"))
        yield look("account", "", self._account)
        yield look("counts", "", self._counts)
        if len({FEED_BY_TABLE[table].key for table in self._answering}) > 1:
            yield look("ids_match_across_versions", "", self._one_id)

    def _of(self, table: str, name: str, check: Callable[[str], Said]) -> CheckResult:
        return look(name, table, partial(check, table))

    def _first_page(self, table: str, window: Window, by: Clock = "created", size: int = _SAMPLE) -> FirstPage:
        feed = FEED_BY_TABLE[table]
        return self._client.first_page(feed, window, by=by, size=size, deadline_seconds=_SECONDS_PER_ANSWER)

    def _owner_of_v3_key(self) -> Said:
        try:
            owner = self._client.owner_of_v3_key(deadline_seconds=_SECONDS_PER_ANSWER)
        except DevinError as error:
            # A run does not ask this; the endpoints that it reads show whether it can.
            return "unknown", f"{error.what}: {error.why}", ""
        whole = "the whole enterprise" if owner.org_id is None else f"the organization {owner.org_id} only"
        found = f"{owner.principal_type} {owner.service_user_name or ''}".strip()[:_LONGEST_NAME] + f", of {whole}"
        if owner.principal_type != "service_user":
            return "warning", f"{found}: no service user", f"Set {V3_KEY} to a key of a service user, which stays"
        if owner.org_id is not None and owner.org_id != self._settings.organization:
            todo = f"Set DEVIN_ORG_ID to it, or {V3_KEY} to a key of an enterprise service user"
            return "warning", f"{found}, which is not what is to be read", todo
        return "ok", found, ""

    def _endpoint(self, table: str) -> Said:
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

    def _clock(self) -> Said:
        if self._clock_ahead is None:
            return "unknown", "no response had a Date header", ""
        seconds = round(self._clock_ahead.total_seconds())
        # guard: a clock that is behind | abs(self._clock_ahead) -> self._clock_ahead
        if abs(self._clock_ahead) <= LARGEST_CLOCK_SKEW:
            return "ok", "this machine's clock and the API's agree to the minute", ""
        found = f"this machine's clock is {abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} the API's"
        return "warning", found, "Set it by NTP: this machine's clock decides which days have ended"

    def _page_repeats(self, table: str) -> Said:
        first = self._first_page(table, self._last_year)
        again = self._first_page(table, self._last_year)
        self._samples[table] = first.items
        if len(first.items) < 2 and len(again.items) < 2:
            return "unknown", "there are not enough sessions to check it", ""
        ids, ids_again = ([item.session_id or item.payload for item in page.items] for page in (first, again))
        # guard: a page that comes in another order | ids != ids_again -> set(ids) != set(ids_again)
        if ids != ids_again:
            how = "in another order" if Counter(ids) == Counter(ids_again) else "with other sessions"
            return (
                "warning",
                f"the same page came {how} the second time",
                'No session is lost, but days may fail with "The pages of a window never agreed": report it to Devin',
            )
        times = [item.created_at for item in first.items if item.created_at]
        order = "in no order of creation"
        if times == sorted(times, reverse=True):
            order = "newest first"
        elif times == sorted(times):
            order = "oldest first"
        return "ok", f"the same page came twice the same, {order}", ""

    def _items(self, table: str) -> Said:
        items = self._samples.get(table, [])
        if not items:
            return "unknown", "there is no session to check", ""
        reasons = Counter(item.rejection_reason for item in items if item.rejection_reason)
        if not reasons:
            return "ok", f"all of {len(items)} sessions have a usable id, creation time and ACUs", ""
        why = ", ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items()))
        return (
            "warning",
            f"{reasons.total()} of {len(items)} sessions cannot be placed: {why}",
            "They go to raw_quarantine and their ACUs are in no sum: report them to Devin's support",
        )

    def _filter(self, table: str) -> Said:
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
        outside = sum(1 for item in page.items if item.created_at and not window.start <= item.created_at <= window.end)
        if outside:
            return "failed", f"{outside} of {len(page.items)} sessions lie outside the hour asked for", todo
        if page.total is not None and not page.more and page.total != len(page.items):
            return "failed", f"{page.total} sessions are stated for an hour that lists {len(page.items)}", todo
        return "ok", "asked for 2015 the API lists no session, asked for an hour only those of it", ""

    def _window(self, table: str, by: Clock) -> Said:
        if (sample := self._session(table, by)) is None:
            return "unknown", "there is no session to ask about", ""
        session_id, at = sample
        after = self._first_page(table, Window(at, at + _SECOND), by, _MOST_AT_ONCE)
        before = self._first_page(table, Window(at - _SECOND, at), by, _MOST_AT_ONCE)
        starts, ends = (any(item.session_id == session_id for item in page.items) for page in (after, before))
        if not starts and (after.more or by == "updated"):
            # Another update may have moved it meanwhile; the sensor's windows overlap by an hour in any case.
            return "unknown", "the session asked about was not found again", ""
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

    def _account(self) -> Said:
        found = {item.org_id for items in self._samples.values() for item in items if item.org_id is not None}
        try:
            known = open_lake(self._settings).organizations()
        except LakeError:
            return not_of_this_lake()
        if not found or not known:
            return "unknown", "there are no organizations to compare with those of the lake", ""
        if found & known:
            return "ok", "the keys read organizations that the lake holds", ""
        return (
            "failed",
            f"the keys read {named(found)}, and the lake holds {named(known)}: another enterprise",
            "Set the keys of the enterprise whose lake this is, or another DEVIN_LAKE; if they belong to it, read them "
            f"once with `{pipeline_command('backfill --from DAY --to DAY --accept-new-organizations')}`",
        )

    def _counts(self) -> Said:
        """What Devin itself counts next to what is stored, over the last days that cannot change much any more."""
        if V3_KEY not in self._usable_keys:
            return "skipped", f"{V3_KEY} is not set, and v2 does not say it", ""
        try:
            stored = stored_counts(self._settings, datetime.now(UTC))
        except LakeError:
            return not_of_this_lake()
        if stored is None:
            return "unknown", "no session of the last days is stored", ""
        try:
            counted = self._client.counts(stored.window, deadline_seconds=_SECONDS_PER_ANSWER)
        except Refused as error:
            return "skipped", f"{error.what}: {error.why}", ""
        if counted.sessions is None:
            return "unknown", "the API gives no number", ""
        found = (
            f"Devin counts {counted.sessions} sessions and {counted.pull_requests} pull requests {stored.days}; stored "
            f"are {stored.sessions} and {stored.pull_requests}. Its numbers leave out deleted organizations, and date "
            "pull requests by themselves, not by their sessions"
        )
        # guard: sessions that Devin counts and nobody stored
        #   | counted.sessions - stored.sessions > _MOST_MISSING * counted.sessions -> False
        if counted.sessions - stored.sessions > _MOST_MISSING * counted.sessions:
            first, last = stored.window.start.date(), stored.window.end.date()
            return "warning", found, pipeline_command(f"backfill --from {first} --to {last}")
        return "ok", found, ""

    def _one_id(self) -> Said:
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
            return "unknown", "there are not enough sessions to check it", ""
        found = f"none of {len(asked)} sessions of v3 has the same id in v2, so each would count twice"
        return "failed", found, "Turn the feeds of one version off with DEVIN_FEEDS, and report it"


def _owner_of_v2_key() -> Said:
    return "unknown", "v2 has no endpoint for it; if it answers, the owner is an Enterprise Admin", ""
