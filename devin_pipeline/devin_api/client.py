"""DevinClient: one method per thing one asks of the API.

How many windows are read at once lives in `range_reader`, how pages follow one another in `paging`, which failures are
tried again in `retry`, a single request in `transport`. Nothing here knows what a billing day is.
"""

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from devin_pipeline.devin_api import pages
from devin_pipeline.devin_api.batches import SessionBatch
from devin_pipeline.devin_api.connections import Connections
from devin_pipeline.devin_api.consumption import (
    Consumption,
    ConsumptionV2,
    Scope,
    endpoint_of,
    read_consumption,
    read_consumption_v2,
)
from devin_pipeline.devin_api.credentials import (
    KeyKind,
    Secret,
    check_key,
    check_organization,
    check_url,
)
from devin_pipeline.devin_api.directory import DirectoryKind, Listing, endpoint_of_list, read_list
from devin_pipeline.devin_api.endpoints import (
    CONSUMPTION_WINDOW,
    KEY_OWNER,
    PULL_REQUEST_COUNTS,
    SESSION_COUNTS,
    Clock,
    Endpoint,
    Feed,
)
from devin_pipeline.devin_api.errors import DevinError, TooLarge
from devin_pipeline.devin_api.items import Item
from devin_pipeline.devin_api.metrics import Counts, counts
from devin_pipeline.devin_api.page_fetcher import PageFetcher
from devin_pipeline.devin_api.pages import Principal
from devin_pipeline.devin_api.paging import Limits
from devin_pipeline.devin_api.range_reader import RangeReader
from devin_pipeline.devin_api.retry import Retrier, jitter
from devin_pipeline.devin_api.smaller_pages import SIZES
from devin_pipeline.devin_api.transport import Request, Transport
from devin_pipeline.devin_api.updates import Updated, updated_in
from devin_pipeline.devin_api.windows import Window
from devin_pipeline.errors import ConfigurationError

BUDGET_SECONDS = 600.0
"""How long a window may take, all its tries and waits included; as much again for every hundred pages."""

_DEFAULT_URL = "https://api.devin.ai"


@dataclass(frozen=True)
class FirstPage:
    """The first page of a window just as the API returned it: nothing dropped, nothing sorted.

    Attributes:
        items: what it lists, in its order.
        more: true when it says that more follow.
        total: how many sessions it says the whole window has, if it says so.
        clock_ahead: by how much our clock is ahead of the server's, negative when behind; None if it sends no time.
    """

    items: list[Item]
    more: bool
    total: int | None
    clock_ahead: timedelta | None


class DevinClient:
    """Asks Devin's API about sessions, with a handful of threads over one pool of connections.

    Args:
        base_url: https; http for a loopback address only.
        v2_key: an Enterprise Admin's personal key, `apk_user_…`; needed for `session_insights_v2`.
        v3_key: an enterprise service user's credential, `cog_…`; needed for the two v3 feeds.
        org_id: asks about this organization only, through its own endpoints.
        concurrency: requests in flight at most.
        timeout_seconds: how long one response may take in all, its headers included.
        budget_seconds: how long a window may take, waits included (per hundred pages).
        limits: how much one window may hold.
        is_awaited: whether the address is waited for even if it has not responded to this process yet; else it is given
            up within seconds.
        sleep: how to wait between tries; None waits so that a failed read does not hold its other threads back.
        clock: a monotonic clock, in seconds.
        random: a number in [0, 1), for the jitter.
        now: the wall clock, by which creation times in the future are recognised.
        log: takes a line about each wait before a retry that is longer than ten seconds; no text of the API is in it.

    Raises:
        ConfigurationError: a key or the address cannot be used.
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
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        # Before anything can fail: error reporters ask for reprs, and show the locals of every frame.
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
        self._connections = Connections(
            Transport(self.base_url, timeout_seconds=timeout_seconds, is_awaited=is_awaited),
            Retrier(at_once=concurrency, sleep=sleep, clock=clock, random=random, log=log),
            concurrency=concurrency,
            budget_seconds=budget_seconds,
            limits=limits or Limits(),
            now=now or _utc_now,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # guard: an interrupt that waits for answers | error is None or isinstance(error, Exception) -> True
        if error is None or isinstance(error, Exception):
            self.close()
        else:
            # Someone stops the process, and must not wait for responses that may take a minute or never come.
            self._connections.end(wait=False)

    def __repr__(self) -> str:
        keys = "+".join(sorted(self._keys)) or "no"
        return f"<DevinClient {self.base_url} org_id={self.org_id!r} with {keys} key>"

    @property
    def clock_ahead(self) -> timedelta | None:
        """By how much our clock was ahead of the API's when a page last arrived, negative when behind.

        None as long as no response had a time.
        """
        return self._connections.clock_ahead

    def close(self) -> None:
        """End the threads and close every connection."""
        self._connections.end(wait=True)

    def read(self, feed: Feed, windows: Iterable[Window]) -> Generator[SessionBatch]:
        """Read every session a feed lists as created in these windows, some windows at a time.

        Adjoining windows are asked for together. If such a request fails, its windows are read one by one, so that only
        those fail that must. While the caller is busy with a batch, the next are read, but no more than some: a batch
        holds about `PAGES_PER_BATCH` pages, or one window if that has more, and memory a handful of batches.

        Args:
            feed: which feed to read.
            windows: what to read, in any order; they may have gaps but may not overlap.

        Yields:
            Each window in one batch, in no certain order.

        Raises:
            Refused: the API said no; nothing more is read.
            NotConnected: the address has never responded; nothing more is sent.
            ConfigurationError: the key for this feed is not set.
            ValueError: windows overlap.
        """
        fetcher = PageFetcher(self._connections, feed, self._request(feed))
        return RangeReader(self._connections, fetcher, windows).batches()

    def updated_in(self, feed: Feed, window: Window, *, max_pages: int, deadline_seconds: float) -> Updated:
        """Return the sessions that were updated in a window, in one attempt without retries.

        Args:
            feed: which feed to read.
            window: the span of `updated_at`; bounds are asked for in whole seconds and cut to the window here.
            max_pages: read no further than this.
            deadline_seconds: give up after this.

        Raises:
            DevinError: whatever went wrong, at once.
        """
        fetcher = PageFetcher(self._connections, feed, self._request(feed), "updated")
        try:
            return updated_in(fetcher, window, max_pages, self._connections.deadline(deadline_seconds))
        except DevinError as error:
            raise fetcher.located(error, window) from None

    def first_page(
        self, feed: Feed, window: Window, *, by: Clock = "created", size: int, deadline_seconds: float
    ) -> FirstPage:
        """Return the first page of a window, in one attempt without retries; a smaller one if it is too large.

        Args:
            feed: which feed to read.
            window: the span asked for.
            by: whether the window is of creation or of the last update.
            size: how many sessions the page may hold, 200 at most.
            deadline_seconds: give up after this.

        Raises:
            DevinError: whatever went wrong, at once.
        """
        fetcher = PageFetcher(self._connections, feed, self._request(feed), by)
        effort = fetcher.effort(self._connections.deadline(deadline_seconds), more_tries=0)
        try:
            page = (
                fetcher.offset_page(0, window, effort, size)
                if feed.paging == "offset"
                else fetcher.cursor_page(None, window, effort, size)
            )
            return FirstPage(page.items, page.more, page.total, self.clock_ahead)
        except DevinError as error:
            smaller = [each for each in SIZES if each < size]
            if not smaller or not isinstance(error, TooLarge):
                raise error.without_frames() from None
        return self.first_page(feed, window, by=by, size=smaller[0], deadline_seconds=deadline_seconds)

    def owner_of_v3_key(self, *, deadline_seconds: float) -> Principal:
        """Return whose the v3 key is, in one attempt. v2 has no endpoint for it.

        Raises:
            DevinError: whatever went wrong, at once.
        """
        request = self._request(KEY_OWNER)
        transport, deadline = self._connections.transport, self._connections.deadline(deadline_seconds)
        try:
            # In one expression: error reporters show locals, and the response may name a person.
            return pages.principal(transport.get(request, [], deadline).body)
        except DevinError as error:
            raise error.without_frames() from None

    def directory(self, kind: DirectoryKind, org_ids: Sequence[str] = (), *, version: KeyKind = "v3") -> Listing:
        """Return a list of what the API knows besides sessions, read to its end.

        A client of one organization asks about no other, through its own endpoint where the API has one.

        Args:
            kind: which list.
            org_ids: for which organizations, of `organization_playbooks` and `organization_limits`; each is one
                request, or one for each page of 200. A client of one organization asks for its own instead.
            version: which version of the API to ask; v2 has `cycles` only.

        Returns:
            The list; if the endpoint is refused or missing (403, 404, 405, 410), an empty one that says so.

        Raises:
            Refused: the API said no to the key or to the request (400, 401, 422, a redirect).
            NoProgress: its pages never end.
            InvalidResponse: an answer is not what the API promises.
            DevinError: the API could not be reached, also after retries.
            ConfigurationError: the key of this version is not set.
            ValueError: v2 has no such list.
        """
        request = self._request(endpoint_of_list(kind, version))
        return read_list(self._connections, request, kind, org_ids if self.org_id is None else [self.org_id])

    def directory_in_background(self, kind: DirectoryKind, org_ids: Sequence[str] = ()) -> Future[Listing]:
        """Begin to read a list in a thread of this client, which waits for it when it is closed.

        Args:
            kind: which list.
            org_ids: for which organizations, as `directory` takes them.

        Returns:
            What `directory` returns or raises, once it does; cancelled if the client is closed before it began.
        """
        return self._connections.window_threads.submit(self.directory, kind, org_ids)

    def consumption(
        self, scope: Scope, scope_ids: Sequence[str], window: Window | Mapping[str, Window] | None
    ) -> Generator[Consumption]:
        """Read what is billed by day to some entities of a kind, several at once, each with one request.

        A client of one organization reads what they used in it: nothing of the `enterprise`, and of `organization` its
        own, whatever the ids.

        Args:
            scope: what kind of entity.
            scope_ids: which, as the API writes them; ignored for `enterprise`. Sessions with or without `devin-`.
            window: the days asked for, from 08:00 UTC to 08:00 UTC, or those of each id; sent in whole seconds. Without
                one the API chooses.

        Yields:
            Each entity once, in no certain order. One that is refused or missing (403, 404, 405, 410) says so. If the
            first eight people are refused by 403 or 405, so are all others, without a request; of sessions, one such
            answer is enough. A 404 is about one entity: where an endpoint is missing, each costs a request.

        Raises:
            Refused: the API said no to the key or to the request (400, 401, 422, a redirect); nothing more is read.
            InvalidResponse: an answer is not what the API promises; nothing more is read.
            DevinError: the API could not be reached, also after retries; nothing more is read.
            ConfigurationError: the v3 key is not set.
        """
        request = self._request(endpoint_of(scope))
        return read_consumption(self._connections, request, scope, scope_ids, window, self.org_id)

    def consumption_v2(self, windows: Sequence[Window]) -> Generator[tuple[Window, ConsumptionV2]]:
        """Read what v2 says is billed in some windows, several at once, each with one request.

        Of one organization, v2 leaves out the ACUs of Cascade and of the terminal.

        Args:
            windows: the days asked for, from 08:00 UTC to 08:00 UTC.

        Yields:
            Each window once, in no certain order. If one is refused or missing (403, 404, 405, 410), so are all that
            were not asked for yet, without a request.

        Raises:
            Refused: the API said no to the key or to the request (400, 401, 422, a redirect); nothing more is read.
            InvalidResponse: an answer is not what the API promises; nothing more is read.
            DevinError: the API could not be reached, also after retries; nothing more is read.
            ConfigurationError: the v2 key is not set.
        """
        return read_consumption_v2(
            self._connections, self._request(endpoint_of("enterprise", "v2")), windows, self.org_id
        )

    def counts(self, window: Window, *, deadline_seconds: float) -> Counts:
        """Return how many sessions and pull requests the API says were created in a window, in one attempt each.

        Args:
            window: asked for in whole seconds.
            deadline_seconds: give up after this.

        Raises:
            DevinError: whatever went wrong, at once.
        """
        transport, deadline = self._connections.transport, self._connections.deadline(deadline_seconds)
        query = CONSUMPTION_WINDOW.query("created", window)
        try:
            return counts(
                *(
                    transport.get(self._request(each), query, deadline).body
                    for each in (SESSION_COUNTS, PULL_REQUEST_COUNTS)
                )
            )
        except DevinError as error:
            raise error.without_frames() from None

    def _request(self, endpoint: Endpoint) -> Request:
        if endpoint.key not in self._keys:
            raise ConfigurationError(
                f"{endpoint.name} cannot be read",
                f"{endpoint.key_variable} is not set",
                f"Set {endpoint.key_variable}, or leave this table out of DEVIN_FEEDS",
            )
        return Request(endpoint, endpoint.path_for(self.org_id), self._keys[endpoint.key])


def _utc_now() -> datetime:
    return datetime.now(UTC)
