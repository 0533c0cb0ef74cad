"""PageFetcher: fetches the pages of one feed for one read, if need be in smaller ones.

It sends, retries and counts requests, and decides which errors call for smaller pages. How pages follow one another
lives in `paging`, how smaller ones make up a page in `smaller_pages`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from threading import Lock
from typing import ParamSpec, TypeVar

from devin_pipeline.devin_api import pages
from devin_pipeline.devin_api.batches import Tally
from devin_pipeline.devin_api.cancellation import CancelToken
from devin_pipeline.devin_api.connections import Connections
from devin_pipeline.devin_api.endpoints import Clock, Feed, Params
from devin_pipeline.devin_api.errors import (
    DevinError,
    InvalidResponse,
    NotConnected,
    Refused,
    TooSlow,
    Unreachable,
)
from devin_pipeline.devin_api.pages import CursorPage, OffsetPage
from devin_pipeline.devin_api.paging import PAGE_SIZE, WindowResult
from devin_pipeline.devin_api.retry import MORE_TRIES, Deadline
from devin_pipeline.devin_api.smaller_pages import (
    OffsetPieces,
    PageFailed,
    cursor_page_in_pieces,
    read_around,
    unread_item,
)
from devin_pipeline.devin_api.transport import Request, Response
from devin_pipeline.devin_api.windows import ONE_SECOND, Window

# Of smaller pages: a server that goes down is not asked once for each item of a page.
_MAX_FAILURES_IN_A_ROW = 16
_BUDGETS_FOR_SMALLER_PAGES = 3
# With the tries of the page itself that is enough to show that it is not an accident; each costs the whole timeout.
_MORE_TRIES_WHEN_SLOW = 1
_REPORT = "Run again; if it stays, report these days to Devin's support"


_Page = TypeVar("_Page", OffsetPage, CursorPage)
_Place = ParamSpec("_Place")


@dataclass(frozen=True)
class Effort:
    """How long and how often a page is tried.

    Attributes:
        deadline: when to give up.
        cancel: set when nobody needs the page any more.
        more_tries: after the first, at most.
    """

    deadline: Deadline
    cancel: CancelToken
    more_tries: int = MORE_TRIES


class PageFetcher:
    """Fetches pages of one feed.

    Args:
        connections: what carries the requests.
        feed: the feed.
        request: what to send, but for the query.
        clock: whether windows are of creation or of the last update.
    """

    def __init__(self, connections: Connections, feed: Feed, request: Request, clock: Clock = "created") -> None:
        self.cancel = connections.cancel.part()
        self.tally = Tally()
        self.feed = feed
        self._clock = clock
        self._request = request
        self._connections = connections
        # What a v2 page holds, as the server says.
        self._limit = PAGE_SIZE
        self._probing = Lock()
        self._is_down = False

    def effort(self, deadline: Deadline | None = None, *, more_tries: int = MORE_TRIES) -> Effort:
        """Return the effort for a page that is wanted as long as the read is; by default within a window's budget."""
        return Effort(deadline or self._connections.deadline(), self.cancel, more_tries)

    def located(self, error: DevinError, window: Window) -> DevinError:
        """Return an error of a page, with the feed and the window asked for."""
        if self._connections.transport.base_url in error.what:
            # No request was sent, whatever was to be asked.
            return error.without_frames()
        when = f"{self._clock} {window}"
        return error.located(when if self.feed.name in error.what else f"{self.feed.name}, {when}").without_frames()

    def offset_page(self, skip: int, window: Window, effort: Effort, size: int = PAGE_SIZE) -> OffsetPage:
        """Fetch a v2 page."""
        query = [("skip", str(skip)), ("limit", str(size)), *self.feed.window.query(self._clock, window)]
        page = self._page(query, pages.offset_page, effort, size)
        if size == PAGE_SIZE:
            self._limit = page.limit
        return page

    def cursor_page(self, cursor: str | None, window: Window, effort: Effort, size: int = PAGE_SIZE) -> CursorPage:
        """Fetch a v3 page."""
        query = [("first", str(size)), *self.feed.window.query(self._clock, window)]
        if cursor is not None:
            query.append(("after", cursor))
        return self._page(query, pages.cursor_page, effort, size)

    def offset_page_or_pieces(self, skip: int, window: Window, effort: Effort) -> OffsetPage:
        """Fetch a v2 page, if need be in pieces; an item that cannot be read even alone is in it without content."""

        def ask(at: int, size: int, effort: Effort = effort) -> OffsetPage:
            return self.offset_page(at, window, effort, size)

        try:
            return ask(skip, PAGE_SIZE)
        except DevinError as error:
            failure = error.without_frames()
        once = replace(effort, more_tries=0)
        # The first one lies past the end of most listings: it shows that the server is there.
        probes = [partial(ask, skip + at, 1, once) for at in (self._limit, 0, self._limit // 2)]
        self._require_smaller_ones(failure, probes, effort)
        unread = partial(unread_item, self.feed.name, window)
        pieces = OffsetPieces(self._or_page_failed(ask, effort), skip, self._limit, unread)
        try:
            return pieces.page()
        except PageFailed as failed:
            failure = failed.error
        raise failure

    def cursor_page_or_pieces(self, cursor: str | None, window: Window, effort: Effort) -> CursorPage:
        """Fetch a v3 page, if need be in pieces.

        Raises:
            PageFailed: an item of it cannot be read even alone.
        """

        def ask(place: str | None, size: int, within: Window = window, effort: Effort = effort) -> CursorPage:
            return self.cursor_page(place, within, effort, size)

        try:
            return ask(cursor, PAGE_SIZE)
        except DevinError as error:
            failure = error.without_frames()
        once = replace(effort, more_tries=0)
        # The last one hardly holds an item: it shows that the server is there.
        early = Window(window.start, window.start + (window.end - window.start) / 2)
        last_second = Window(max(window.start, window.end - ONE_SECOND), window.end)
        places = ((cursor, window), (None, early), (None, last_second))
        probes = [partial(ask, place, 1, within, once) for place, within in places]
        self._require_smaller_ones(failure, probes, effort)
        return cursor_page_in_pieces(self._or_page_failed(ask, effort), cursor, PAGE_SIZE)

    def around(
        self, window: Window, effort: Effort, *, created: Window | None = None
    ) -> tuple[WindowResult, list[Window]]:
        """Read a v3 window by narrower ones, as `read_around` does."""

        def ask(within: Window, cursor: str | None, size: int) -> CursorPage:
            return self.cursor_page(cursor, within, effort, size)

        return read_around(self._or_page_failed(ask, effort), window, self._connections.limits, created=created)

    def _require_smaller_ones(self, error: DevinError, probes: Sequence[Callable[[], object]], effort: Effort) -> None:
        """Raise the error of a page again unless its cause may lie in the page: a smaller one gets through.

        Nothing is asked of a server that is down, of which no smaller page got through since any did.
        """
        if not _may_be_of_the_page(error, effort.deadline):
            raise error
        with self._probing:
            # guard: smaller pages of a server that is down
            if self._is_down:
                raise error
            for probe in probes:
                try:
                    probe()
                except DevinError as other:
                    if not _may_be_of_the_page(other.without_frames(), effort.deadline):
                        raise
                else:
                    # The address and the network are not what keeps it from being read.
                    error.todo = _REPORT
                    if effort.more_tries:
                        effort.deadline.at += _BUDGETS_FOR_SMALLER_PAGES * self._connections.budget_seconds
                    return
            self._is_down = True
        raise error

    def _or_page_failed(self, ask: Callable[_Place, _Page], effort: Effort) -> Callable[_Place, _Page]:
        """Have a page that fails for what it holds raise `PageFailed`, unlike everything else that may go wrong."""
        in_a_row = 0

        def ask_or_fail(*place: _Place.args, **more: _Place.kwargs) -> _Page:
            nonlocal in_a_row
            try:
                page = ask(*place, **more)
            except DevinError as error:
                in_a_row += 1
                may_be_of_the_page = _may_be_of_the_page(error, effort.deadline)
                error.todo = _REPORT if may_be_of_the_page else error.todo
                # guard: each item asked for of a server that went down | in_a_row <= _MAX_FAILURES_IN_A_ROW and
                if in_a_row <= _MAX_FAILURES_IN_A_ROW and may_be_of_the_page:
                    raise PageFailed(error.without_frames()) from None
                if in_a_row > _MAX_FAILURES_IN_A_ROW:
                    self._is_down = True
                raise
            in_a_row = 0
            return page

        return ask_or_fail

    def _page(self, query: Params, read: Callable[[bytes, datetime], _Page], effort: Effort, size: int) -> _Page:
        connections = self._connections
        tries = 0

        def send() -> Response:
            nonlocal tries
            self.tally.add(requests=1, retries=int(tries > 0))
            tries += 1
            try:
                return connections.transport.get(self._request, query, effort.deadline)
            except Refused:
                # At once, from this thread: no other may go on sending a key that was just refused.
                self.cancel.set()
                raise
            except TooSlow as error:
                if size < PAGE_SIZE:
                    error.more_tries = min(error.more_tries, _MORE_TRIES_WHEN_SLOW)
                raise

        def understand(response: Response) -> _Page:
            now = connections.now()
            if response.answered_at is not None:
                # guard: how far our clock is ahead | now - response.answered_at -> None
                connections.clock_ahead = now - response.answered_at
            with connections.parse_lock:
                page = read(response.body, now)
            self.tally.add(pages=1, bytes_read=len(response.body))
            self._is_down = False
            return page

        return connections.retrier.call(
            send, understand, deadline=effort.deadline, cancel=effort.cancel, more_tries=effort.more_tries
        )


def _may_be_of_the_page(error: DevinError, deadline: Deadline) -> bool:
    """Whether a request may have failed for what its page holds, and not for a limit, a pause or want of time."""
    if isinstance(error, NotConnected) or not isinstance(error, Unreachable | InvalidResponse):
        return False
    # guard: smaller pages where a pause is asked for | error.wait_seconds is None and
    return error.wait_seconds is None and not error.is_out_of_time and deadline.remaining() > 0
