"""DevinClient: one method per question asked of the API.

How pages follow one another lives in `paging`, which answers are asked for again in `retry`, a single request in
`transport`. Days of the caller are the smallest units that can fail; nothing here knows what a billing day is.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from heapq import heapify, heappop, heappush
from types import TracebackType
from typing import Literal, ParamSpec, Self, TypeVar
from urllib.parse import quote

from devin_pipeline.devin_api import payloads
from devin_pipeline.devin_api.cancellation import CancelToken
from devin_pipeline.devin_api.credentials import (
    VARIABLES,
    KeyKind,
    Secret,
    check_key,
    check_organization,
    check_url,
)
from devin_pipeline.devin_api.errors import (
    DevinError,
    InvalidResponse,
    Misconfigured,
    NoProgress,
    NotConnected,
    RateLimited,
    Refused,
    TooLarge,
    TooSlow,
    Unreachable,
)
from devin_pipeline.devin_api.paging import (
    MAX_OUT_OF_WINDOW_SHARE,
    MIN_PAGES_TO_PARALLELIZE,
    PAGE_SIZE,
    Limits,
    Window,
    WindowCollector,
    WindowResult,
    adjoining,
    cut,
    estimated_pages,
    is_newer,
    iso,
    joined,
    once,
    read_by_cursor,
    read_by_offset,
    span,
    split,
    too_much,
)
from devin_pipeline.devin_api.payloads import CursorPage, Item, OffsetPage, Principal
from devin_pipeline.devin_api.retry import MORE_TRIES, Deadline, Retrier, jitter
from devin_pipeline.devin_api.smaller_pages import (
    SIZES,
    OffsetPieces,
    PageFailed,
    cursor_page_in_pieces,
    read_around,
    unread_item,
)
from devin_pipeline.devin_api.transport import Request, Response, Transport

Feed = Literal["session_insights_v2", "sessions_v3", "session_insights_v3"]
Clock = Literal["created", "updated"]

BUDGET_SECONDS = 600.0
"""How long a window may take, all its tries and waits included; as much again for every hundred pages."""

PAGES_OF_A_LISTING = 16
"""About how many pages are handed over together: large enough to be worth a commit, small enough for memory."""

_ITEMS_OF_A_LISTING = PAGES_OF_A_LISTING * PAGE_SIZE
_PAGES_PER_BUDGET = 100
# A window holds its pages until it is whole. So much of them is read side by side; a window with more, alone.
_PAGES_AT_ONCE = 128
_WINDOWS_AT_ONCE = 8
_THREADS_PER_REQUEST = 1.5
# Cursor chains per thread that are under way or wait for one: the threads go on while a listing is being stored.
_CHAINS_AT_ONCE = 3
_PAGES_OF_A_CHAIN = 1.5
_WINDOWS_WITHOUT_PROGRESS = 3
# Of smaller pages: a server that goes down meanwhile is not asked once for each item of a page.
_FAILURES_IN_A_ROW = 16
_BUDGETS_FOR_SMALLER_PAGES = 3
# With the tries of the page itself that is enough to show that it is no accident; each costs the whole timeout.
_MORE_TRIES_WHEN_SLOW = 1
_ONE_SECOND = timedelta(seconds=1)
_EVER = Window(payloads.EARLIEST, datetime.max.replace(tzinfo=UTC))
_REPORT = "Run again; if it stays, report these days to Devin's support"
_DEFAULT_URL = "https://api.devin.ai"

_PATHS: dict[Feed, tuple[KeyKind, str, str]] = {
    "session_insights_v2": (
        "v2",
        "/v2/enterprise/sessions/insights",
        "/v2/enterprise/organizations/{org_id}/sessions/insights",
    ),
    "sessions_v3": ("v3", "/v3/enterprise/sessions", "/v3/organizations/{org_id}/sessions"),
    "session_insights_v3": (
        "v3",
        "/v3/enterprise/sessions/insights",
        "/v3/organizations/{org_id}/sessions/insights",
    ),
}

# A first page of a part of a range: its estimate was too low by this much before it is worth cutting again.
_PAGES_WORTH_CUTTING_AGAIN = 6
# A day's cursor chain that is longer is split, if it would take longer than all others side by side or hold too much.
_PAGES_WORTH_SPLITTING = 8
_PAGES_OF_A_PART_OF_A_DAY = 3
# At most; a part that is full is split again. A first page that tells a burst makes the whole day seem as full.
_PARTS_OF_A_DAY = 40
_PARTS_OF_A_PART = 8

_Params = list[tuple[str, str]]
_Days = tuple[Window, ...]
_Page = TypeVar("_Page", OffsetPage, CursorPage)
_Place = ParamSpec("_Place")


@dataclass
class SessionBatch:
    """What a read of some days gave.

    Attributes:
        days: the days it tells of, read whole or failed, oldest first.
        items: placeable and unplaceable ones, each session once, each inside the days read.
        failures: the days that could not be read whole, and why; nothing of them is in `items`.
        duplicates: how many times a session was told again.
        outside: how many items lay outside the window asked for (its end included) and were dropped.
        unknown_fields: how many of the items have a field that the API reference does not list, by its name.
        acus_as_text: how many of the items have ACUs that are written as text.
        requests: requests sent since the listing before, tries included.
        pages: pages that arrived whole, repeated passes included.
        retries: requests that asked for a page again.
        bytes_read: size of those pages, decompressed.
    """

    days: list[Window] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    failures: dict[Window, DevinError] = field(default_factory=dict)
    duplicates: int = 0
    outside: int = 0
    unknown_fields: Counter[str] = field(default_factory=Counter)
    acus_as_text: int = 0
    requests: int = 0
    pages: int = 0
    retries: int = 0
    bytes_read: int = 0


@dataclass(frozen=True)
class Updated:
    """What changed in a window, as far as it could be read in one attempt.

    Attributes:
        items: sessions whose `updated_at` lies in the window or is not told, each once.
        complete: false when there were more pages than allowed, or the pages did not agree.
        pages: pages read.
        total: how many sessions the API says there are, if it says so.
    """

    items: list[Item]
    complete: bool
    pages: int
    total: int | None


@dataclass(frozen=True)
class FirstPage:
    """The first page of a listing just as the API told it: nothing dropped, nothing sorted.

    Attributes:
        items: what it listed, in its order.
        more: true when it says that more follow.
        total: how many sessions it says the whole listing has, if it says so.
        clock_ahead: by how much our clock is ahead of the server's, negative when behind; None when it tells no time.
    """

    items: list[Item]
    more: bool
    total: int | None
    clock_ahead: timedelta | None


@dataclass
class _Counts:
    """What was asked since the listing before."""

    requests: int = 0
    pages: int = 0
    retries: int = 0
    bytes_read: int = 0


@dataclass
class _Tally:
    """What a read cost, counted from all of its threads."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: _Counts = field(default_factory=_Counts)


@dataclass
class _SplitDay:
    """A day that is read in parts of it.

    Attributes:
        parts: those still to be read.
        stated: how many sessions the day has, if its first page said so.
        readings: what the others held.
    """

    parts: set[Window]
    stated: int | None
    readings: dict[Window, WindowResult] = field(default_factory=dict)


_Outcome = WindowResult | list[_Days] | _SplitDay
_Reading = dict[Future[_Outcome], _Days]


class DevinClient:
    """Asks Devin's API about sessions, with a handful of threads over one pool of connections.

    Args:
        base_url: https; http for a loopback address only.
        v2_key: an Enterprise Admin's personal key, `apk_user_…`; needed for `session_insights_v2`.
        v3_key: an enterprise service user's credential, `cog_…`; needed for the two v3 feeds.
        org_id: asks about this organization only, through its own endpoints.
        concurrency: requests in flight at most.
        timeout_seconds: how long one answer may take in all, its headers included.
        budget_seconds: how long a window may take, waits included (per hundred pages).
        limits: how much one window may hold.
        is_awaited: whether the address is waited for even if it has not answered this process yet; else it is given up
            within seconds.
        sleep: how to wait between tries; None waits so that a failed read does not hold its other threads back.
        clock: a monotonic clock, in seconds.
        random: a number in [0, 1), for the jitter.
        now: the wall clock, against which creation times in the future are told.

    Attributes:
        clock_ahead: by how much our clock was ahead of the API's when a page of it last arrived, negative when behind;
            None as long as none has told a time.

    Raises:
        Misconfigured: a key or the address cannot be used.
    """

    def __init__(
        self,
        *,
        base_url: str = _DEFAULT_URL,
        v2_key: str | None = None,
        v3_key: str | None = None,
        org_id: str | None = None,
        concurrency: int = 8,
        timeout_seconds: float = 60,
        budget_seconds: float = BUDGET_SECONDS,
        limits: Limits | None = None,
        is_awaited: bool = False,
        sleep: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = jitter,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        # Before anything can fail: who reports an error asks for reprs, and shows the locals of every frame.
        self.base_url, self.org_id = "", org_id
        self._keys: dict[KeyKind, Secret] = {}
        named: dict[KeyKind, Secret | None] = {
            "v2": None if v2_key is None else Secret(v2_key),
            "v3": None if v3_key is None else Secret(v3_key),
        }
        # guard: a bad key in the client's frame
        del v2_key, v3_key
        for kind, key in named.items():
            if key is not None:
                self._keys[kind] = Secret(check_key(kind, key.reveal()))
        self.base_url = check_url(base_url)
        self.org_id = None if org_id is None else check_organization(org_id)
        self._budget_seconds = budget_seconds
        self._limits = limits or Limits()
        self._now = now or _utc_now
        self._retrier = Retrier(at_once=concurrency, sleep=sleep, clock=clock, random=random)
        self._concurrency = concurrency
        self._transport = Transport(self.base_url, timeout_seconds=timeout_seconds, is_awaited=is_awaited)
        self.clock_ahead: timedelta | None = None
        self._cancel = CancelToken()
        # More than may ask at once: some read their answer meanwhile.
        threads = math.ceil(concurrency * _THREADS_PER_REQUEST)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="devin-api")
        # Python reads no two pages at once; those that tried would stand in the way of threads that wait for bytes.
        self._reading = threading.Lock()
        # Each waits for the pages of one v2 window, which the others fetch.
        self._windows = ThreadPoolExecutor(_WINDOWS_AT_ONCE, thread_name_prefix="devin-api-window")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # guard: an interrupt that waits for answers | error is None or isinstance(error, Exception) -> True
        if error is None or isinstance(error, Exception):
            self.close()
        else:
            # Someone stops the process, and must not wait for answers that may take a minute or never come.
            self._end(wait=False)

    def __repr__(self) -> str:
        keys = "+".join(sorted(self._keys)) or "no"
        return f"<DevinClient {self.base_url} org_id={self.org_id!r} with {keys} key>"

    def close(self) -> None:
        """End the threads and close every connection."""
        self._end(wait=True)
        self._transport.close()

    def _end(self, *, wait: bool) -> None:
        self._cancel.set()
        self._windows.shutdown(wait, cancel_futures=True)
        # Pages that wait for a thread end as soon as they have one. Cancelled here, they would be waited for for ever:
        # a pool that is shut down tells nobody who waits for a future.
        self._threads.shutdown(wait)

    def read(self, feed: Feed, days: Sequence[Window]) -> Generator[SessionBatch]:
        """Read every session a feed lists as created in these days, some days at a time.

        Adjoining days are asked for together. When such a request fails, its days are read one by one, so that only
        those fail that must. While the caller is busy with a listing, the next are read, but no more than some: a
        listing holds about `PAGES_OF_A_LISTING` pages, or one day if that has more, and memory a handful of listings.

        Args:
            feed: which listing to read.
            days: the spans to read, in any order; they may have gaps but may not overlap.

        Yields:
            Each day in one listing, in no certain order.

        Raises:
            Refused: the API said no; nothing more is read.
            NotConnected: the address has never answered; nothing more is asked.
            Misconfigured: the key for this feed is not set.
            ValueError: days overlap.
        """
        return _Read(self, feed, self._question(feed)).listings(adjoining(days))

    def updated_in(self, feed: Feed, window: Window, *, max_pages: int, deadline_seconds: float) -> Updated:
        """Tell which sessions were updated in a window, in one attempt without retries.

        Args:
            feed: which listing to ask.
            window: the span of `updated_at`; bounds are asked for in whole seconds and cut to the window here.
            max_pages: read no further than this.
            deadline_seconds: stop asking after this.

        Raises:
            DevinError: whatever went wrong, at once.
        """
        return _Read(self, feed, self._question(feed)).updated(window, max_pages, deadline_seconds)

    def first_page(
        self, feed: Feed, window: Window, *, by: Clock = "created", size: int, deadline_seconds: float
    ) -> FirstPage:
        """Tell what the first page of a window holds, in one attempt without retries; a smaller one if it is too large.

        Args:
            feed: which listing to ask.
            window: the span asked for.
            by: whether the window is of creation or of the last update.
            size: how many sessions the page may hold, 200 at most.
            deadline_seconds: give up after this.

        Raises:
            DevinError: whatever went wrong, at once.
        """
        deadline = Deadline.after(deadline_seconds, self._retrier.clock)
        try:
            return self._first_page(self._question(feed), window, by, size, deadline)
        except DevinError as error:
            smaller = [each for each in SIZES if each < size]
            if not smaller or not isinstance(error, TooLarge):
                raise error.without_frames() from None
        return self.first_page(feed, window, by=by, size=smaller[0], deadline_seconds=deadline_seconds)

    def _first_page(self, question: Request, window: Window, by: Clock, size: int, deadline: Deadline) -> FirstPage:
        page: OffsetPage | CursorPage
        if question.kind == "v2":
            params = [("skip", "0"), ("limit", str(size)), *(_created_v2 if by == "created" else _updated_v2)(window)]
            body, answered_at = self._transport.get(question, params, deadline)
            now = self._now()
            page = payloads.offset_page(body, now)
            more = page.has_more
        else:
            params = [("first", str(size)), *_seconds_v3(by, window)]
            body, answered_at = self._transport.get(question, params, deadline)
            now = self._now()
            page = payloads.cursor_page(body, now)
            more = page.has_next_page
        return FirstPage(page.items, more, page.total, None if answered_at is None else now - answered_at)

    def owner_of_v3_key(self, *, deadline_seconds: float) -> Principal:
        """Tell whose the v3 key is, in one attempt. v2 has no endpoint that says.

        Raises:
            DevinError: whatever went wrong, at once.
        """
        question = Request("the owner of the key", "v3", "/v3/self", self._key("the owner of the key", "v3"))
        deadline = Deadline.after(deadline_seconds, self._retrier.clock)
        try:
            return payloads.principal(self._transport.get(question, [], deadline).body)
        except DevinError as error:
            raise error.without_frames() from None

    def _question(self, feed: Feed) -> Request:
        kind, enterprise, organization = _PATHS[feed]
        key = self._key(feed, kind)
        path = enterprise if self.org_id is None else organization.format(org_id=quote(self.org_id, safe=""))
        return Request(feed, kind, path, key)

    def _key(self, asked: str, kind: KeyKind) -> Secret:
        if kind not in self._keys:
            raise Misconfigured(
                f"{asked} cannot be read",
                f"{VARIABLES[kind]} is not set",
                f"Set {VARIABLES[kind]}, or leave this feed out of DEVIN_FEEDS",
            )
        return self._keys[kind]


class _Read:
    """One read of one feed: its threads, its counters, and how to call it off."""

    def __init__(self, client: DevinClient, feed: Feed, question: Request) -> None:
        self._client = client
        self._feed = feed
        self._question = question
        self._tally = _Tally()
        self._cancel = client._cancel.part()
        self._readings: dict[_Days, WindowResult] = {}
        self._failures: dict[Window, DevinError] = {}
        self._uncut: frozenset[_Days] = frozenset()
        self._ends: frozenset[datetime] = frozenset()
        self._pages_of_a_day = 0.0
        self._pages_in_all = 0
        self._split: dict[Window, _SplitDay] = {}
        self._day_of_part: dict[Window, Window] = {}
        self._unsplit: set[Window] = set()
        # What a v2 page holds, as the server says.
        self._limit = PAGE_SIZE
        self._probing = threading.Lock()
        self._is_down = False

    def listings(self, runs: Sequence[_Days]) -> Generator[SessionBatch]:
        try:
            if self._question.kind == "v2":
                threads, at_once = self._client._windows, _WINDOWS_AT_ONCE
                yield from self._settle(runs, self._read_days_by_offset, threads, 1, at_once)
            else:
                threads, least = self._client._threads, math.ceil(self._client._concurrency * _THREADS_PER_REQUEST)
                yield from self._settle(runs, self._read_days_by_cursor, threads, least, _CHAINS_AT_ONCE * least)
        finally:
            self._cancel.set()

    def updated(self, window: Window, max_pages: int, deadline_seconds: float) -> Updated:
        try:
            return self._updated(window, max_pages, deadline_seconds)
        except DevinError as error:
            raise self._located(error, f"updated {window}") from None

    def _updated(self, window: Window, max_pages: int, deadline_seconds: float) -> Updated:
        deadline = Deadline.after(deadline_seconds, self._client._retrier.clock)
        kept: dict[str | int, Item] = {}
        seen: set[str] = set()
        total: int | None = None
        cursor: str | None = None
        skip = pages = told = 0
        steady = True
        while True:
            if self._question.kind == "v2":
                page: OffsetPage | CursorPage = self._offset_page_however(
                    skip, window, _updated_v2(window), deadline, self._cancel, more_tries=0
                )
            else:
                try:
                    page = self._cursor_page_however(cursor, window, _updated_v3, deadline, more_tries=0)
                except PageFailed:
                    reading, _ = self._read_around(window, _updated_v3, deadline, more_tries=0, created=_EVER)
                    page, kept = CursorPage(reading.items, has_next_page=False, end_cursor=None, total=None), {}
                    total = None
            pages += 1
            for item in page.items:
                told += 1
                # Of an item that cannot be read nobody knows the day; no read of that could read it either.
                key = told if item.session_id is None else item.session_id
                if key not in kept or is_newer(item, kept[key]):
                    kept[key] = item
            if isinstance(page, OffsetPage):
                steady = steady and page.skip == skip and total in (None, page.total)
                skip += page.limit
                more = page.has_more
            else:
                more = page.has_next_page
                cursor = page.end_cursor
                steady = steady and (not more or bool(cursor and cursor not in seen))
                seen.add(cursor or "")
            total = page.total if page.total is not None else total
            if not more or not steady or pages >= max_pages or deadline.remaining() <= 0:
                break
        # A session may be updated again while we ask, so only one that was not updated since betrays an ignored filter.
        stale = sum(1 for item in kept.values() if item.updated_at and item.updated_at < window.start - _ONE_SECOND)
        # guard: updates under a filter that is ignored
        if stale > len(kept) * MAX_OUT_OF_WINDOW_SHARE:
            raise InvalidResponse(
                "The window asked for was not kept to",
                f"{stale} of {len(kept)} sessions were last updated before it: the filter is ignored",
                "The API has changed, or DEVIN_API_URL leads elsewhere",
            )
        inside = [
            item
            for item in kept.values()
            if item.payload and (item.updated_at is None or window.start <= item.updated_at < window.end)
        ]
        # guard: updates whose pages moved | steady and not more and total in (None, len(kept)) -> True
        complete = steady and not more and total in (None, len(kept))
        return Updated(inside, complete, pages, total)

    def _read_days_by_offset(self, days: _Days) -> WindowResult | list[_Days]:
        """Read a window, its pages at once, or, if it has more pages than a listing may hold, cut it into parts."""
        window = span(days)
        deadline = self._deadline()
        params = _created_v2(window)

        def ask(skip: int) -> OffsetPage:
            # On the threads that fetch, so that no more requests are in flight than may be.
            for page in ask_at_once([skip]):
                return page
            raise CancelledError

        def ask_at_once(skips: Sequence[int]) -> Iterable[OffsetPage]:
            return self._at_once(lambda skip, stop: self._page_of_days(days, skip, params, deadline, stop), skips)

        try:
            first = ask(0)
            pages = min(first.total // first.limit, self._client._limits.pages)
            self._pages_of_a_day = max(self._pages_of_a_day, pages / len(days))
            worth_cutting = PAGES_OF_A_LISTING * (1 if days in self._uncut else 2)
            if len(days) > 1 and pages > worth_cutting:
                # Before any cutting: an ignored filter would look like a very full range.
                WindowCollector(window, self._client._limits).take(first.items)
                return cut(days, pages, PAGES_OF_A_LISTING)
            deadline.at += self._client._budget_seconds * (pages // _PAGES_PER_BUDGET)
            return read_by_offset(ask, ask_at_once, window, self._client._limits, first=first)
        except DevinError as error:
            raise self._located(error, f"created {window}") from None

    def _page_of_days(
        self, days: _Days, skip: int, params: _Params, deadline: Deadline, cancel: CancelToken
    ) -> OffsetPage:
        # Of several days, each is read by itself once a page of them fails: an unread item must be of a certain one.
        # guard: smaller pages of several days
        if len(days) > 1:
            return self._offset_page(skip, PAGE_SIZE, params, deadline, cancel)
        return self._offset_page_however(skip, days[0], params, deadline, cancel)

    def _offset_page_however(
        self,
        skip: int,
        window: Window,
        params: _Params,
        deadline: Deadline,
        cancel: CancelToken,
        *,
        more_tries: int = MORE_TRIES,
    ) -> OffsetPage:
        """Read a v2 page, if need be in pieces; an item that cannot be read even alone stands in it without content."""

        def ask(at: int, size: int, more_tries: int = more_tries) -> OffsetPage:
            return self._offset_page(at, size, params, deadline, cancel, more_tries=more_tries)

        try:
            return ask(skip, PAGE_SIZE)
        except DevinError as error:
            failure = error.without_frames()
        # The first one lies past the end of most listings: it shows that the server is there.
        probes = [partial(ask, skip + at, 1, 0) for at in (self._limit, 0, self._limit // 2)]
        self._require_smaller_ones(failure, probes, deadline, more_tries)
        pieces = OffsetPieces(
            self._or_failed(ask, deadline), skip, self._limit, partial(unread_item, self._feed, window)
        )
        try:
            return pieces.page()
        except PageFailed as failed:
            failure = failed.error
        raise failure

    def _cursor_page_however(
        self,
        cursor: str | None,
        window: Window,
        params_of: Callable[[Window], _Params],
        deadline: Deadline,
        *,
        more_tries: int = MORE_TRIES,
    ) -> CursorPage:
        """Read a v3 page, if need be in pieces.

        Raises:
            PageFailed: an item of it cannot be read even alone.
        """

        def ask(place: str | None, size: int, within: Window = window, more_tries: int = more_tries) -> CursorPage:
            return self._cursor_page(place, size, params_of(within), deadline, self._cancel, more_tries=more_tries)

        try:
            return ask(cursor, PAGE_SIZE)
        except DevinError as error:
            failure = error.without_frames()
        # The last one hardly holds an item: it shows that the server is there.
        early = Window(window.start, window.start + (window.end - window.start) / 2)
        last_second = Window(max(window.start, window.end - _ONE_SECOND), window.end)
        probes = [partial(ask, cursor, 1, window, 0), *(partial(ask, None, 1, w, 0) for w in (early, last_second))]
        self._require_smaller_ones(failure, probes, deadline, more_tries)
        return cursor_page_in_pieces(self._or_failed(ask, deadline), cursor, PAGE_SIZE)

    def _read_around(
        self,
        window: Window,
        params_of: Callable[[Window], _Params],
        deadline: Deadline,
        *,
        more_tries: int = MORE_TRIES,
        created: Window | None = None,
    ) -> tuple[WindowResult, list[Window]]:
        def ask(within: Window, cursor: str | None, size: int) -> CursorPage:
            return self._cursor_page(cursor, size, params_of(within), deadline, self._cancel, more_tries=more_tries)

        return read_around(self._or_failed(ask, deadline), window, self._client._limits, created=created)

    def _require_smaller_ones(
        self, error: DevinError, probes: Sequence[Callable[[], object]], deadline: Deadline, more_tries: int
    ) -> None:
        """Raise the error of a page again unless its cause may lie in the page: a smaller one gets through.

        Nothing is asked of a server that is down, of which no smaller page got through since any did.
        """
        if not _may_be_of_the_page(error, deadline):
            raise error
        with self._probing:
            # guard: smaller pages of a server that is down
            if self._is_down:
                raise error
            for probe in probes:
                try:
                    probe()
                except DevinError as other:
                    if not _may_be_of_the_page(other.without_frames(), deadline):
                        raise
                else:
                    # The address and the network are not what keeps it from being read.
                    error.todo = _REPORT
                    if more_tries:
                        deadline.at += _BUDGETS_FOR_SMALLER_PAGES * self._client._budget_seconds
                    return
            self._is_down = True
        raise error

    def _or_failed(self, ask: Callable[_Place, _Page], deadline: Deadline) -> Callable[_Place, _Page]:
        """Have a page that fails by itself told apart from everything else that may go wrong."""
        in_a_row = 0

        def ask_or_fail(*place: _Place.args, **more: _Place.kwargs) -> _Page:
            nonlocal in_a_row
            try:
                page = ask(*place, **more)
            except DevinError as error:
                in_a_row += 1
                error.todo = _REPORT if _may_be_of_the_page(error, deadline) else error.todo
                # guard: each item asked for of a server that went down | in_a_row <= _FAILURES_IN_A_ROW and
                if in_a_row <= _FAILURES_IN_A_ROW and _may_be_of_the_page(error, deadline):
                    raise PageFailed(error.without_frames()) from None
                if in_a_row > _FAILURES_IN_A_ROW:
                    self._is_down = True
                raise
            in_a_row = 0
            return page

        return ask_or_fail

    def _at_once(self, ask: Callable[[int, CancelToken], OffsetPage], skips: Sequence[int]) -> Iterable[OffsetPage]:
        """Ask for pages on all threads; the first error calls the others off."""
        cancel = self._cancel.part()
        futures = [self._client._threads.submit(ask, skip, cancel) for skip in skips]
        try:
            for future in as_completed(futures):
                try:
                    page = future.result()
                except CancelledError:
                    continue  # called off by another page's refusal, which comes up here as well
                yield page
        finally:
            cancel.set()
            for future in futures:
                future.cancel()

    def _read_days_by_cursor(self, days: _Days) -> _Outcome:
        """Read a window along its cursors, or, if it is longer than it is worth, cut or split it into parts."""
        window = asked_for = span(days)
        if window.start > self._day_of_part.get(window, window).start:
            # Nobody says for certain to which side of it a bound belongs: both tell it, and it counts once.
            # guard: sessions on a bound within a day | Window(window.start - _ONE_SECOND, window.end) -> window
            asked_for = Window(window.start - _ONE_SECOND, window.end)
        deadline = self._deadline()
        asked = 0
        stated: int | None = None
        is_a_day = len(days) == 1 and window not in self._day_of_part

        def ask(cursor: str | None) -> CursorPage:
            nonlocal asked, stated
            asked += 1
            if asked % _PAGES_PER_BUDGET == 0:
                deadline.at += self._client._budget_seconds
            if is_a_day:
                page = self._cursor_page_however(cursor, asked_for, _created_v3, deadline)
            else:
                page = self._cursor_page(cursor, PAGE_SIZE, _created_v3(asked_for), deadline, self._cancel)
            stated = page.total if page.total is not None else stated
            return page

        try:
            first = ask(None)
            # Before any cutting: an ignored filter would look like a very full range.
            WindowCollector(asked_for, self._client._limits).take(first.items)
            pages = estimated_pages(first, asked_for)
            if days in self._uncut:
                with self._tally.lock:
                    self._pages_in_all += pages
            if window not in self._day_of_part:
                self._pages_of_a_day = max(self._pages_of_a_day, pages / len(days))
            if len(days) > 1 and pages > self._worth_chaining(days):
                return cut(days, pages, _PAGES_OF_A_CHAIN)
            if len(days) == 1 and pages > self._worth_splitting(window):
                limits = self._client._limits
                # guard: a day split though it states more than may be read
                if first.total is not None and (first.total > limits.rows or pages > limits.pages):
                    raise too_much(window)
                most = _PARTS_OF_A_PART if window in self._day_of_part else _PARTS_OF_A_DAY
                parts = split(window, first, min(most, math.ceil(pages / _PAGES_OF_A_PART_OF_A_DAY)))
                if len(parts) > 1:
                    return _SplitDay(set(parts), first.total)
            return read_by_cursor(ask, asked_for, self._client._limits, first=first)
        except DevinError as error:
            raise self._located(error, f"created {window}") from None
        except PageFailed as failed:
            failure = failed.error
            stated = failed.total if failed.total is not None else stated
        try:
            return self._read_around_unread(window, failure, stated, deadline)
        except DevinError as error:
            raise self._located(error, f"created {window}") from None

    def _read_around_unread(
        self, day: Window, error: DevinError, stated: int | None, deadline: Deadline
    ) -> WindowResult:
        """Read a day by narrower windows, one of its items being unreadable even alone.

        Several items of one second are told apart only by the total that the day states.
        """
        reading, seconds = self._read_around(day, _created_v3, deadline)
        missing = (stated or 0) - len(reading.items) - reading.outside
        unread = [unread_item(self._feed, span(run), 0, error) for run in adjoining(seconds)]
        # guard: narrower windows that hold less than their day states
        if not unread and missing > 0:
            raise error
        unread += [
            unread_item(self._feed, span(adjoining(seconds)[0]), position, error)
            # guard: unread items behind one of their second | missing - len(unread) +
            for position in range(1, missing - len(unread) + 1)
        ]
        reading.items.extend(unread)
        return reading

    def _worth_chaining(self, days: _Days) -> int:
        return MIN_PAGES_TO_PARALLELIZE if days in self._uncut else _PAGES_WORTH_CUTTING_AGAIN

    def _worth_splitting(self, window: Window) -> float:
        of_day = self._split.get(self._day_of_part.get(window, window))
        # guard: a day split again after its parts could not be read | window in self._unsplit or
        # guard: a request for every second of a day of bursts
        #   | (of_day and len(of_day.parts) + len(of_day.readings) > 2 * _PARTS_OF_A_DAY) -> False
        if window in self._unsplit or (of_day and len(of_day.parts) + len(of_day.readings) > 2 * _PARTS_OF_A_DAY):
            return math.inf
        return max(_PAGES_WORTH_SPLITTING, min(self._pages_in_all, _PAGES_AT_ONCE) / self._client._concurrency)

    def _settle(
        self,
        groups: Iterable[_Days],
        read: Callable[[_Days], _Outcome],
        threads: ThreadPoolExecutor,
        least: int,
        most: int,
    ) -> Iterator[SessionBatch]:
        """Read groups of days on some threads until each day is read or has failed for good.

        From `least` to `most` groups are read at once, as many as do not hold too many pages.
        """
        self._uncut = frozenset(groups)
        self._ends = frozenset(days[-1].end for days in self._uncut)
        # A heap, oldest first: the parts of a day come before the days after it, so that few days are held at once.
        to_read = sorted(self._uncut)
        reading: _Reading = {}
        unreachable_in_a_row = without_progress = 0
        # What was known when a group was begun: those side by side do not count as in a row.
        known_then: dict[_Days, int] = {}
        try:
            while to_read or reading:
                # One at a time as long as the last one led nowhere: perhaps none of them leads anywhere.
                # guard: windows asked for at once though the last one led nowhere
                #   | (1, 1) if without_progress else (least, most) -> (least, most)
                fewest, highest = (1, 1) if without_progress else (least, most)
                while to_read and (
                    len(reading) < fewest
                    or (
                        len(reading) < highest
                        and sum(map(self._pages_of, [*reading.values(), to_read[0]])) <= _PAGES_AT_ONCE
                    )
                ):
                    days = heappop(to_read)
                    known_then[days] = without_progress
                    reading[threads.submit(read, days)] = days
                for future in wait(reading, return_when=FIRST_COMPLETED).done:
                    days = reading.pop(future)
                    try:
                        outcome = future.result()
                    except (Refused, Misconfigured):
                        raise
                    except DevinError as error:
                        # guard: an address that has never answered ends the read
                        if isinstance(error, NotConnected) and not self._client._transport.is_awaited:
                            raise
                        # Of a part, the whole day is asked for once more, and that counts.
                        # guard: other days given up for the parts of one | days[0] not in self._day_of_part -> True
                        if days[0] not in self._day_of_part:
                            unreachable_in_a_row = unreachable_in_a_row + 1 if isinstance(error, Unreachable) else 0
                            if not isinstance(error, NoProgress):
                                without_progress = 0
                            # guard: windows side by side counted as in a row
                            #   | elif known_then[days] == without_progress -> else
                            elif known_then[days] == without_progress:
                                without_progress += 1
                        # Neither a rate limit nor a server that is down is helped by hundreds of further requests.
                        if (
                            isinstance(error, RateLimited)
                            # guard: a server that is down, asked once a day of a year
                            #   | or unreachable_in_a_row > self._client._concurrency
                            or unreachable_in_a_row > self._client._concurrency
                            # guard: a feed that leads nowhere, asked once a day
                            #   | or without_progress >= _WINDOWS_WITHOUT_PROGRESS
                            or without_progress >= _WINDOWS_WITHOUT_PROGRESS
                        ):
                            self._give_up(days, reading, to_read, error)
                        elif days[0] in self._day_of_part:
                            self._read_in_one(days[0], reading, to_read)
                        elif len(days) == 1:
                            self._failures[days[0]] = error
                        else:
                            _push(to_read, ((day,) for day in days))
                        continue
                    except CancelledError:
                        continue  # called off by another window's refusal, which comes up here as well
                    unreachable_in_a_row = without_progress = 0
                    if isinstance(outcome, _SplitDay):
                        self._read_in_parts(days[0], outcome, to_read)
                    elif isinstance(outcome, list):
                        _push(to_read, outcome)
                    elif days[0] in self._day_of_part:
                        self._read_a_part(days[0], outcome, reading, to_read)
                    else:
                        self._readings[days] = outcome
                while sum(len(each.items) for each in self._readings.values()) >= _ITEMS_OF_A_LISTING // 2:
                    yield self._listing()
            while self._readings or self._failures:
                yield self._listing()
        finally:
            for future in reading:
                future.cancel()

    def _pages_of(self, days: _Days) -> float:
        """About how many pages a group that is to be read will hold."""
        return _PAGES_OF_A_PART_OF_A_DAY if days[0] in self._day_of_part else len(days) * self._pages_of_a_day

    def _read_in_parts(self, window: Window, split_day: _SplitDay, to_read: list[_Days]) -> None:
        """Have a day, or a part of one that has too many pages itself, read in parts."""
        day = self._day_of_part.get(window, window)
        if day is window:
            self._split[day] = split_day
        elif day in self._split:
            self._split[day].parts.remove(window)
            self._split[day].parts |= split_day.parts
        else:
            return
        self._day_of_part |= dict.fromkeys(split_day.parts, day)
        _push(to_read, ((part,) for part in split_day.parts))

    def _read_a_part(self, part: Window, held: WindowResult, reading: _Reading, to_read: list[_Days]) -> None:
        """Take what a part of a day held; once all are there, they are what the day held."""
        day = self._day_of_part[part]
        of_day = self._split.get(day)
        if of_day is None:
            return
        of_day.parts.remove(part)
        of_day.readings[part] = held
        if sum(len(of_part.items) for of_part in of_day.readings.values()) > self._client._limits.rows:
            # What lies on a bound is counted on both sides of it: a chain tells for certain whether it is too much.
            self._read_in_one(part, reading, to_read)
            return
        if of_day.parts:
            return
        whole = joined([of_part for _, of_part in sorted(of_day.readings.items())])
        has_strays = any(of_part.outside > of_part.at_end for of_part in of_day.readings.values())
        # guard: sessions that a part tells and another holds | has_strays or
        # guard: a day of which the parts tell less than it states
        #   | or len(whole.items) + whole.outside < (of_day.stated or 0)
        if has_strays or len(whole.items) + whole.outside < (of_day.stated or 0):
            # Something was deleted meanwhile, or the bounds asked for do not hold within a day.
            self._read_in_one(part, reading, to_read)
            return
        del self._split[day]
        self._readings[(day,)] = whole

    def _read_in_one(self, part: Window, reading: _Reading, to_read: list[_Days]) -> None:
        """Have the day of a part read along one chain, unless it is already; its other parts no longer count."""
        day = self._day_of_part[part]
        if self._split.pop(day, None) is None:
            return
        self._unsplit.add(day)
        for future, days in list(reading.items()):
            # guard: parts of a day that is read along one chain by now
            if self._day_of_part.get(days[0]) == day and future.cancel():
                del reading[future]
        to_read[:] = [(day,), *(days for days in to_read if self._day_of_part.get(days[0]) != day)]
        heapify(to_read)

    def _give_up(
        self,
        days: _Days,
        reading: _Reading,
        to_read: list[_Days],
        error: DevinError,
    ) -> None:
        """Fail these days and every group no thread has begun with; of a part, its whole day."""
        failed = [days, *to_read]
        to_read.clear()
        for future, others in list(reading.items()):
            if future.cancel():
                del reading[future]
                failed.append(others)
        for window in (window for group in failed for window in group):
            day = self._day_of_part.get(window)
            if day is None:
                self._failures[window] = error
            # guard: parts of a day that was given up | self._split.pop(day, None) is not None -> day in self._split
            elif self._split.pop(day, None) is not None:
                self._failures[day] = error

    def _located(self, error: DevinError, when: str) -> DevinError:
        if self._client.base_url in error.what:
            # No request was sent, whatever was to be asked.
            return error.without_frames()
        return error.located(when if self._feed in error.what else f"{self._feed}, {when}").without_frames()

    def _deadline(self) -> Deadline:
        return Deadline.after(self._client._budget_seconds, self._client._retrier.clock)

    def _offset_page(
        self,
        skip: int,
        size: int,
        params: _Params,
        deadline: Deadline,
        cancel: CancelToken,
        *,
        more_tries: int = MORE_TRIES,
    ) -> OffsetPage:
        query = [("skip", str(skip)), ("limit", str(size)), *params]
        page = self._page(query, payloads.offset_page, deadline, cancel, size, more_tries)
        if size == PAGE_SIZE:
            self._limit = page.limit
        return page

    def _cursor_page(
        self,
        cursor: str | None,
        size: int,
        params: _Params,
        deadline: Deadline,
        cancel: CancelToken,
        *,
        more_tries: int = MORE_TRIES,
    ) -> CursorPage:
        query = [("first", str(size)), *params]
        if cursor is not None:
            query.append(("after", cursor))
        return self._page(query, payloads.cursor_page, deadline, cancel, size, more_tries)

    def _page(
        self,
        query: _Params,
        read: Callable[[bytes, datetime], _Page],
        deadline: Deadline,
        cancel: CancelToken,
        size: int,
        more_tries: int,
    ) -> _Page:
        tally = self._tally
        tries = 0

        def send() -> Response:
            nonlocal tries
            with tally.lock:
                tally.counts.requests += 1
                tally.counts.retries += tries > 0
            tries += 1
            try:
                return self._client._transport.get(self._question, query, deadline)
            except Refused:
                # At once, from this thread: no other may go on asking with a key that was just refused.
                self._cancel.set()
                raise
            except TooSlow as error:
                if size < PAGE_SIZE:
                    error.more_tries = min(error.more_tries, _MORE_TRIES_WHEN_SLOW)
                raise

        def understand(answer: Response) -> _Page:
            now = self._client._now()
            if answer.answered_at is not None:
                # guard: how far our clock is ahead | now - answer.answered_at -> None
                self._client.clock_ahead = now - answer.answered_at
            with self._client._reading:
                page = read(answer.body, now)
            with tally.lock:
                tally.counts.pages += 1
                tally.counts.bytes_read += len(answer.body)
            self._is_down = False
            return page

        return self._client._retrier.call(send, understand, deadline=deadline, cancel=cancel, more_tries=more_tries)

    def _next_readings(self) -> dict[_Days, WindowResult]:
        """Take the oldest windows read so far, as many as a listing holds."""
        taken: dict[_Days, WindowResult] = {}
        items = 0
        for days in sorted(self._readings):
            items += len(self._readings[days].items)
            # guard: the size of a listing
            if taken and items > _ITEMS_OF_A_LISTING:
                break
            taken[days] = self._readings.pop(days)
        return taken

    def _listing(self) -> SessionBatch:
        """Put the windows read so far together, oldest first; a session told in two of them is kept once."""
        read = sorted(self._next_readings().items())
        failed, self._failures = self._failures, {}
        listing = SessionBatch(
            days=sorted([*(day for days, _ in read for day in days), *failed]), failures=dict(sorted(failed.items()))
        )
        listing.items, listing.duplicates = once(item for _, reading in read for item in reading.items)
        for days, reading in read:
            listing.duplicates += reading.duplicates
            # What lies where a window was cut off is told by the next one.
            # guard: sessions just where a range was cut | (0 if days[-1].end in self._ends else reading.at_end) -> 0
            listing.outside += reading.outside - (0 if days[-1].end in self._ends else reading.at_end)
        listing.acus_as_text = sum(item.acus_are_text for item in listing.items)
        for fields, items in Counter(item.fields for item in listing.items).items():
            # guard: fields the API reference does not list | payloads.KNOWN_FIELDS[self._feed] -> fields
            listing.unknown_fields.update(dict.fromkeys(fields - payloads.KNOWN_FIELDS[self._feed], items))
        with self._tally.lock:
            tally, self._tally.counts = self._tally.counts, _Counts()
        listing.requests, listing.pages, listing.retries = tally.requests, tally.pages, tally.retries
        listing.bytes_read = tally.bytes_read
        return listing


def _may_be_of_the_page(error: DevinError, deadline: Deadline) -> bool:
    """Whether a request may have failed for what its page holds, and not for a limit, a pause or want of time."""
    if isinstance(error, NotConnected) or not isinstance(error, Unreachable | InvalidResponse):
        return False
    # guard: smaller pages where a pause is asked for | error.wait_seconds is None and
    return error.wait_seconds is None and not error.is_out_of_time and deadline.remaining() > 0


def _push(to_read: list[_Days], groups: Iterable[_Days]) -> None:
    for days in groups:
        # guard: parts of many days, all of them held | heappush(to_read, days) -> to_read.insert(0, days)
        heappush(to_read, days)


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _created_v2(window: Window) -> _Params:
    return [("created_date_from", iso(window.start)), ("created_date_to", iso(window.end))]


def _updated_v2(window: Window) -> _Params:
    return [("updated_date_from", iso(window.start)), ("updated_date_to", iso(window.end))]


def _created_v3(window: Window) -> _Params:
    return _seconds_v3("created", window)


def _updated_v3(window: Window) -> _Params:
    return _seconds_v3("updated", window)


def _seconds_v3(what: Clock, window: Window) -> _Params:
    return [
        (f"{what}_after", str(math.floor(window.start.timestamp()))),
        (f"{what}_before", str(math.ceil(window.end.timestamp()))),
        # By default the sessions of deleted organizations are hidden, and their ACUs with them.
        # guard: sessions of deleted organizations | ("include_deleted_orgs", "true"),
        ("include_deleted_orgs", "true"),
    ]
