"""Pages that cannot be read as asked for, in smaller ones: down to one item, in v3 down to a second around it.

An item that cannot be read even so is in the result without content, where it is counted like any other. Which errors
call for smaller pages is decided in `page_fetcher`. Nothing here knows HTTP: a function is given that fetches a page.
"""

from collections.abc import Callable, Sequence

from devin_pipeline.devin_api.canonical_json import sha256_of
from devin_pipeline.devin_api.errors import DevinError, InvalidResponse
from devin_pipeline.devin_api.items import Item
from devin_pipeline.devin_api.pages import CursorPage, OffsetPage
from devin_pipeline.devin_api.paging import PAGE_SIZE, Limits, WindowCollector, WindowResult, joined, read_by_cursor
from devin_pipeline.devin_api.windows import ONE_SECOND, Window, split

SIZES = (25, 3, 1)
"""Few steps, as each of them costs a page that fails with all its tries."""

# A window of a day becomes hours, these two and a half minutes, these seven seconds, and these seconds.
_PARTS_PER_WINDOW = 24
_NOTHING = CursorPage([], has_next_page=False, end_cursor=None, total=None)


class PageFailed(Exception):
    """A page cannot be read for a reason that a smaller one may not share.

    Attributes:
        error: The reason.
        total: How many items there are, as far as pieces of the page said so.
    """

    def __init__(self, error: DevinError) -> None:
        super().__init__(error.why)
        self.error = error
        self.total: int | None = None


def unread_item(feed: str, window: Window, position: int, error: DevinError) -> Item:
    """Return what stands for an item that cannot be read: where it is, and nothing of it.

    The hash is of feed, window and position alone, so that every read of it returns the same.

    Args:
        feed: The feed it belongs to.
        window: The creation window it lies in.
        position: Its place in that window, from 0.
        error: Why it cannot be read.
    """
    place = f"{feed}, created {window}, position {position}"
    why = f"{place}: it cannot be read even alone, as {error.why}"
    return Item(b"", None, window.start, None, None, why, sha256_of(place.encode()), frozenset(), False)


class OffsetPieces:
    """A v2 page in pieces that overlap by an item, as pages do.

    Args:
        ask: Fetches a page by its offset and its size, or raises `PageFailed`.
        skip: Where the page starts.
        limit: How many items it holds.
        unread: Returns what stands for the item at an offset that cannot be read.
    """

    def __init__(
        self,
        ask: Callable[[int, int], OffsetPage],
        skip: int,
        limit: int,
        unread: Callable[[int, DevinError], Item],
    ) -> None:
        self._ask = ask
        self._skip = skip
        self._limit = limit
        self._unread = unread
        self._items: dict[int, Item] = {}
        self._last: OffsetPage | None = None
        # The most that the server puts into a page, as far as it has shown.
        self._most = PAGE_SIZE
        self._fits = True

    def page(self) -> OffsetPage:
        """Return the page; without items, so that its pass does not count, if its pieces contradict one another.

        Raises:
            PageFailed: No piece of it can be read, nor what follows it.
        """
        end = self._skip + self._limit
        self._cover(self._skip, end, SIZES)
        # Where none of it can be read, the page after it says how many there are.
        last = self._last or self._ask(end, 1)
        total = last.total
        offsets = range(self._skip, min(end, total))
        # guard: pieces of a page that contradict one another | if self._fits else []
        items = [self._items[at] for at in offsets if at in self._items] if self._fits else []
        # In a piece before an item that cannot be read, the server rightly says that more follow.
        ends_unread = bool(items) and not items[-1].payload
        return OffsetPage(items, end < total or (last.has_more and not ends_unread), total, self._skip, self._limit)

    def _cover(self, start: int, end: int, sizes: Sequence[int]) -> None:
        """Read what lies between two offsets."""
        size, covered = sizes[0], start
        while covered < end and (self._last is None or covered < self._last.total):
            before = self._items.get(covered - 1)
            overlaps = covered > start and min(size, self._most) > 1 and before is not None and before.payload
            at = covered - 1 if overlaps else covered
            try:
                page = self._ask(at, size)
            except PageFailed as failed:
                if size == 1:
                    self._items[at] = self._unread(at, failed.error)
                else:
                    self._cover(at, min(at + size, end), sizes[1:])
                covered = at + size
            else:
                self._take(page, at)
                self._most = min(self._most, page.limit) if page.limit < size else self._most
                covered = at + min(page.limit, size)

    def _take(self, page: OffsetPage, asked_at: int) -> None:
        self._fits &= page.skip == asked_at and (self._last is None or page.total == self._last.total)
        for at, item in enumerate(page.items, asked_at):
            other = self._items.get(at)
            self._fits &= other is None or not other.payload or _name(other) == _name(item)
            self._items[at] = item
        self._last = page


def _name(item: Item) -> str:
    return item.session_id or item.content_hash


def cursor_page_in_pieces(
    ask: Callable[[str | None, int], CursorPage], cursor: str | None, limit: int, sizes: Sequence[int] = SIZES
) -> CursorPage:
    """Read a v3 page in pieces along its cursors.

    Args:
        ask: Fetches the page of a size that a cursor leads to, or raises `PageFailed`.
        cursor: Where the page starts.
        limit: How many items it holds.
        sizes: Those of the pieces.

    Raises:
        PageFailed: An item cannot be read even alone, and where to go on after it stands in its page.
    """
    items: list[Item] = []
    total: int | None = None
    left = limit
    while True:
        size = min(sizes[0], left)
        try:
            try:
                page = ask(cursor, size)
            except PageFailed:
                if len(sizes) == 1:
                    raise
                page = cursor_page_in_pieces(ask, cursor, size, sizes[1:])
        except PageFailed as failed:
            failed.total = failed.total if total is None else total
            raise
        items += page.items
        total = page.total if page.total is not None else total
        left -= max(1, len(page.items))
        if not page.has_next_page or not page.end_cursor or left <= 0:
            return CursorPage(items, page.has_next_page, page.end_cursor, total)
        cursor = page.end_cursor


def read_around(
    ask: Callable[[Window, str | None, int], CursorPage],
    window: Window,
    limits: Limits,
    *,
    created: Window | None = None,
) -> tuple[WindowResult, list[Window]]:
    """Read a v3 window by narrower ones, down to a second around each item that cannot be read.

    Args:
        ask: Fetches a page by the window asked for, the cursor and the size, or raises `PageFailed`.
        window: What to read.
        limits: How much is too much.
        created: When its sessions may have been created, if it is not a window of creation.

    Returns:
        What could be read, and the seconds of which something could not. Both of two neighbours may be named for one
        item, as each is asked for with the second before it.

    Raises:
        InvalidResponse: The bounds of the narrower windows do not hold.
    """
    results: list[WindowResult] = []
    unread: list[Window] = []
    to_read = _parts_of(window)
    while to_read:
        part = to_read.pop()
        # The API does not say to which side of it a bound belongs: both list what lies there, and it counts once.
        asked = part if part.start == window.start else Window(part.start - ONE_SECOND, part.end)
        # Perhaps what lies at its end, too: the next one may not be readable.
        # guard: what lies at the end of a narrower window | min(part.end + ONE_SECOND, window.end) -> part.end
        inside = created or Window(asked.start, min(part.end + ONE_SECOND, window.end))
        seen: list[Item] = []

        def piece(cursor: str | None, size: int, asked: Window = asked, seen: list[Item] = seen) -> CursorPage:
            page = ask(asked, cursor, size)
            seen += page.items
            return page

        def page(cursor: str | None, part: Window = part, piece: Callable[..., CursorPage] = piece) -> CursorPage:
            try:
                return piece(cursor, PAGE_SIZE)
            except PageFailed:
                if part.end - part.start > ONE_SECOND:
                    raise
                return cursor_page_in_pieces(piece, cursor, PAGE_SIZE, SIZES[-1:])

        try:
            result = read_by_cursor(page, inside, limits)
        except PageFailed:
            if part.end - part.start > ONE_SECOND:
                to_read += _parts_of(part)
                continue
            unread.append(part)
            collector = WindowCollector(inside, limits)
            collector.take(seen)
            result = collector.result()
        if result.out_of_window > result.at_end:
            raise InvalidResponse(
                "The API ignored the window asked for",
                "sessions were listed that lie outside the narrower windows asked for",
                "Run again; if it stays, report these days to Devin's support",
            )
        results.append(result)
    return joined(results), unread


def _parts_of(window: Window) -> list[Window]:
    """The narrower windows, the newest first."""
    return split(window, _NOTHING, _PARTS_PER_WINDOW)[::-1]
