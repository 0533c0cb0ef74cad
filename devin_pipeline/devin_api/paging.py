"""The two paging loops, v2 by offset and v3 by cursor, and the rules that end them.

A loop ends when the server says so, and its result counts only if it is whole: totals agree, no cursor repeats,
every item lies in the window asked for. Nothing here knows HTTP: a loop is given a function that fetches a page.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from devin_pipeline.devin_api.errors import InvalidResponse, NoProgress
from devin_pipeline.devin_api.items import EARLIEST, Item
from devin_pipeline.devin_api.pages import CursorPage, OffsetPage
from devin_pipeline.devin_api.windows import Window

PAGE_SIZE = 200
"""The most either API returns at once."""

OFFSET_PASSES = 8
CURSOR_PASSES = 3
EMPTY_PAGES_IN_A_ROW = 3
MAX_OUT_OF_WINDOW_SHARE = 0.1

_MORE_FOLLOW = "the last page says that more follow"


@dataclass(frozen=True)
class Limits:
    """How much one window may hold; more is a failure, never a truncation."""

    pages: int = 10_000
    rows: int = 1_000_000


@dataclass(frozen=True)
class WindowResult:
    """What one window held.

    Attributes:
        items: its items.
        duplicates: how many were listed more than once.
        out_of_window: how many lay outside and were dropped.
        at_end: how many of those lay just at its end, where the next window begins.
    """

    items: list[Item]
    duplicates: int
    out_of_window: int
    at_end: int


def once(items: Iterable[Item]) -> tuple[list[Item], int]:
    """Return each session once, as it was updated last, and how many other items of one there were."""
    newest: dict[str, Item] = {}
    nameless: list[Item] = []
    others = 0
    for item in items:
        if item.session_id is None:
            nameless.append(item)
            continue
        # guard: a session listed in two windows | newest.get(item.session_id) -> None
        known = newest.get(item.session_id)
        if known is not None:
            others += 1
            if not is_newer(item, known):
                continue
        newest[item.session_id] = item
    return [*newest.values(), *nameless], others


def is_newer(item: Item, known: Item) -> bool:
    """Whether this item of a session is the one to keep. On a tie the later read is."""
    # guard: the older of two items of a session
    #   | (item.updated_at or EARLIEST) >= (known.updated_at or EARLIEST) -> True
    return (item.updated_at or EARLIEST) >= (known.updated_at or EARLIEST)


def joined(results: Sequence[WindowResult]) -> WindowResult:
    """Join what the parts of a window held, oldest first; an item may be in several of them."""
    items, _ = once(item for result in results for item in result.items)
    different = {item.session_id or item.content_hash: item for item in items}
    at_bounds = sum(result.at_end for result in results[:-1])
    return WindowResult(
        list(different.values()),
        sum(result.duplicates for result in results),
        sum(result.out_of_window for result in results) - at_bounds,
        results[-1].at_end,
    )


class WindowCollector:
    """Collects one pass over a window: each session once, and only those of the window."""

    def __init__(self, window: Window, limits: Limits) -> None:
        self._window = window
        self._limits = limits
        self._items: dict[str | int, Item] = {}
        self._duplicates = 0
        self._read = 0
        self._out_of_window = 0

    @property
    def distinct(self) -> int:
        """Sessions listed so far; an item without a usable id counts as one of its own."""
        return len(self._items)

    def take(self, items: Iterable[Item], *, known: int = 0) -> None:
        """Take a page.

        Args:
            items: its items.
            known: how many of the first were asked for again on purpose; they are not duplicates.

        Raises:
            InvalidResponse: too many rows, or a filter that is plainly ignored.
        """
        kept, start, end = self._items, self._window.start, self._window.end
        for position, item in enumerate(items):
            if position < known and item.session_id is None:
                continue  # without an id it would count as another one
            self._read += 1
            if item.created_at is not None and not start <= item.created_at <= end:
                self._out_of_window += 1
            key = self._read if item.session_id is None else item.session_id
            other = kept.get(key)
            if other is not None:
                self._duplicates += position >= known
                if not is_newer(item, other):
                    continue
            kept[key] = item
        # guard: more sessions than the limit
        if len(kept) > self._limits.rows:
            raise too_much(self._window)
        # Early, so that an ignored filter does not cost a read of the whole history.
        # guard: a whole history read before the filter is missed
        if self._read >= PAGE_SIZE / 2:
            self._require_filter(self._out_of_window, self._read)

    def result(self) -> WindowResult:
        """Return what lies in the window.

        Raises:
            InvalidResponse: more than a tenth of the sessions do not.
        """
        start, end = self._window.start, self._window.end
        # guard: a session at the window's end | < end -> <= end
        inside = [item for item in self._items.values() if item.created_at is None or start <= item.created_at < end]
        # The end itself does not count: whether the API's upper bound is inclusive is not documented for v2.
        beyond = sum(
            1 for item in self._items.values() if item.created_at is not None and not start <= item.created_at <= end
        )
        self._require_filter(beyond, len(self._items))
        out_of_window = len(self._items) - len(inside)
        return WindowResult(inside, self._duplicates, out_of_window, out_of_window - beyond)

    def _require_filter(self, out_of_window: int, read: int) -> None:
        # guard: a filter that is ignored
        if out_of_window > read * MAX_OUT_OF_WINDOW_SHARE:
            raise InvalidResponse(
                "The API ignored the window asked for",
                f"{out_of_window} of {read} sessions were created outside it",
                "The API has changed, or DEVIN_API_URL leads elsewhere; nothing of these days was stored",
            )


def too_much(window: Window) -> InvalidResponse:
    """Return the error of a window that holds more than may be read at once."""
    return InvalidResponse(
        "There is more than may be read at once",
        f"the window {window} holds more pages or sessions than the limit",
        "Ask for fewer days at once",
    )


def read_by_offset(
    ask: Callable[[int], OffsetPage],
    ask_all: Callable[[Sequence[int]], Iterable[OffsetPage]],
    window: Window,
    limits: Limits,
    *,
    first: OffsetPage | None = None,
) -> WindowResult:
    """Read a v2 window: once the first page states the total, the others may be asked for all at once.

    Offsets shift while sessions are added or deleted, so a pass counts only if nothing moved: every page states the
    same total, echoes its offset, begins with a session of the page before, the distinct sessions are that many and the
    last page says it is the last. A page thus asks for the last session of the one before again: totals alone do not
    betray a session deleted here while another appears there.

    Args:
        ask: fetches the page that starts at an offset.
        ask_all: fetches several, in any order or at once.
        window: the creation window the pages were asked for.
        limits: how much is too much.
        first: the page at offset 0, if it was fetched already.

    Raises:
        InvalidResponse: no pass of eight was whole, a filter is ignored, or there is too much.
    """
    moved = ""
    for _ in range(OFFSET_PASSES):
        first = first or ask(0)
        # Before the others: an ignored filter is not to cost a read of the whole history.
        WindowCollector(window, limits).take(first.items)
        overlap = 1 if first.limit > 1 else 0
        step = first.limit - overlap
        offsets = range(step, first.total - overlap, step)
        # guard: more in a v2 window than the limit
        if first.total > limits.rows or len(offsets) >= limits.pages:
            raise too_much(window)
        pages = sorted([first, *ask_all(offsets)], key=lambda page: page.skip)
        collector = WindowCollector(window, limits)
        for page in pages:
            collector.take(page.items, known=overlap if page.skip else 0)
        moved = _what_moved(pages, offsets, overlap, collector.distinct)
        if not moved:
            return collector.result()
        first = None
    kind = NoProgress if moved == _MORE_FOLLOW else InvalidResponse
    raise kind(
        "The pages of a window never agreed",
        f"{moved}, in each of {OFFSET_PASSES} passes",
        "Run again when fewer sessions change, or for fewer days at once",
    )


def _what_moved(pages: Sequence[OffsetPage], offsets: Sequence[int], overlap: int, distinct: int) -> str:
    first = pages[0]
    # guard: an offset that is ignored
    if [page.skip for page in pages] != [0, *offsets]:
        return "a page starts elsewhere than asked"
    # guard: pages that contradict the first
    if any(page.total != first.total or page.limit != first.limit for page in pages):
        return "the total changed between pages"
    # guard: a last page that says more follow
    if pages[-1].has_more:
        return _MORE_FOLLOW
    for before, page in pairwise(pages):
        # guard: sessions that move between pages behind an unchanged total
        if {_name(item) for item in page.items[:overlap]} - {_name(item) for item in before.items}:
            return "sessions moved from one page to another"
    # guard: v2 total unlike what came
    if distinct != first.total:
        return f"{distinct} sessions came where {first.total} were stated"
    return ""


def _name(item: Item) -> str | bytes:
    return item.payload if item.session_id is None else item.session_id


def read_by_cursor(
    ask: Callable[[str | None], CursorPage], window: Window, limits: Limits, *, first: CursorPage | None = None
) -> WindowResult:
    """Read a v3 window along its cursors until the server says that no page follows.

    Args:
        ask: fetches the page a cursor leads to; None is the first page.
        window: the creation window the pages were asked for.
        limits: how much is too much.
        first: the first page, if it was fetched already.

    Raises:
        InvalidResponse: a repeated or missing cursor, too many empty pages, a stated total that does not come true in
            three passes, an ignored filter, or too much.
    """
    stated: int | None = None
    collector = WindowCollector(window, limits)
    for _ in range(CURSOR_PASSES):
        collector = WindowCollector(window, limits)
        stated = _follow_cursors(ask, collector, window, limits, first)
        # guard: v3 total unlike what came | stated is None or stated == collector.distinct -> True
        if stated is None or stated == collector.distinct:
            return collector.result()
        first = None
    raise InvalidResponse(
        "The pages of a window never agreed",
        f"{collector.distinct} sessions came where {stated} were stated, in each of {CURSOR_PASSES} passes",
        "Run again when fewer sessions change, or for fewer days at once",
    )


def _follow_cursors(
    ask: Callable[[str | None], CursorPage],
    collector: WindowCollector,
    window: Window,
    limits: Limits,
    first: CursorPage | None,
) -> int | None:
    """Take every page of one pass; return the total that was stated last, if any was."""
    stated: int | None = None
    seen: set[str] = set()
    empty = pages = 0
    page = first or ask(None)
    while True:
        pages += 1
        collector.take(page.items)
        stated = page.total if page.total is not None else stated
        if not page.has_next_page:
            return stated
        empty = 0 if page.items else empty + 1
        # guard: empty pages for ever
        if empty > EMPTY_PAGES_IN_A_ROW:
            raise _lost_its_way(f"{empty} empty pages in a row say that more follow")
        # guard: a missing cursor
        if not page.end_cursor:
            raise _lost_its_way("a page says that more follow, but not where")
        # guard: a cursor that repeats
        if page.end_cursor in seen:
            raise _lost_its_way("a cursor came a second time")
        seen.add(page.end_cursor)
        # guard: more pages than the limit
        if pages >= limits.pages:
            raise too_much(window)
        page = ask(page.end_cursor)


def _lost_its_way(why: str) -> NoProgress:
    return NoProgress("Paging went nowhere", why, "Run again; if it stays, report it to Devin's support")
