"""The two paging loops, v2 by offset and v3 by cursor, and the rules that end them.

A loop ends when the server says so, and its answer counts only if it is whole: totals agree, no cursor repeats,
every item lies in the window asked for. Nothing here knows HTTP: a loop is given a function that fetches a page.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from devin_pipeline.devin_api.errors import InvalidResponse, NoProgress
from devin_pipeline.devin_api.payloads import EARLIEST, CursorPage, Item, OffsetPage

PAGE_SIZE = 200
"""The most either API gives at once."""

OFFSET_PASSES = 8
CURSOR_PASSES = 3
EMPTY_PAGES_IN_A_ROW = 3
MAX_OUT_OF_WINDOW_SHARE = 0.1

_MORE_FOLLOW = "the last page says that more follow"

MIN_PAGES_TO_PARALLELIZE = 3
"""A cursor chain up to this long is read as it is: cutting it into windows would cost more requests than it saves."""


@dataclass(frozen=True, order=True)
class Window:
    """A half-open span of time, `[start, end)`, in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.utcoffset() is None or self.end.utcoffset() is None:
            raise ValueError("a window needs instants with a zone")
        if self.start >= self.end:
            raise ValueError("a window ends after it starts")
        object.__setattr__(self, "start", self.start.astimezone(UTC))
        object.__setattr__(self, "end", self.end.astimezone(UTC))

    def __str__(self) -> str:
        return f"{iso(self.start)} to {iso(self.end)}"


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
        duplicates: how many were told more than once.
        outside: how many lay outside and were dropped.
        at_end: how many of those lay just at its end, where the next window begins.
    """

    items: list[Item]
    duplicates: int
    outside: int
    at_end: int


def iso(at: datetime) -> str:
    """Write an instant as the v2 API does, in UTC with `Z`."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def adjoining(days: Iterable[Window]) -> list[tuple[Window, ...]]:
    """Group days into runs without a gap, oldest first.

    Raises:
        ValueError: two days overlap.
    """
    runs: list[list[Window]] = []
    for day in sorted(set(days)):
        # guard: days that overlap
        if runs and day.start < runs[-1][-1].end:
            raise ValueError("days overlap")
        if runs and day.start == runs[-1][-1].end:
            runs[-1].append(day)
        else:
            runs.append([day])
    return [tuple(run) for run in runs]


def span(days: Sequence[Window]) -> Window:
    """Give the one window that adjoining days make up."""
    return Window(days[0].start, days[-1].end)


def once(items: Iterable[Item]) -> tuple[list[Item], int]:
    """Give each session once, as it was updated last, and how many other tellings of one there were."""
    newest: dict[str, Item] = {}
    nameless: list[Item] = []
    others = 0
    for item in items:
        if item.session_id is None:
            nameless.append(item)
            continue
        # guard: a session told in two windows | newest.get(item.session_id) -> None
        known = newest.get(item.session_id)
        if known is not None:
            others += 1
            if not is_newer(item, known):
                continue
        newest[item.session_id] = item
    return [*newest.values(), *nameless], others


def is_newer(item: Item, known: Item) -> bool:
    """Is this telling of a session the one to keep? On a tie the later read is."""
    # guard: the older of two tellings | (item.updated_at or EARLIEST) >= (known.updated_at or EARLIEST) -> True
    return (item.updated_at or EARLIEST) >= (known.updated_at or EARLIEST)


def joined(readings: Sequence[WindowResult]) -> WindowResult:
    """Make one of what the parts of a window held, oldest first, though the same may be told in several of them."""
    items, _ = once(item for reading in readings for item in reading.items)
    different = {item.session_id or item.content_hash: item for item in items}
    at_bounds = sum(reading.at_end for reading in readings[:-1])
    return WindowResult(
        list(different.values()),
        sum(reading.duplicates for reading in readings),
        sum(reading.outside for reading in readings) - at_bounds,
        readings[-1].at_end,
    )


class WindowCollector:
    """Gathers one pass over a window: each session once, and only those of the window."""

    def __init__(self, window: Window, limits: Limits) -> None:
        self._window = window
        self._limits = limits
        self._items: dict[str | int, Item] = {}
        self._duplicates = 0
        self._read = 0
        self._strays = 0

    @property
    def distinct(self) -> int:
        """Sessions told so far; an item without a usable id counts as one of its own."""
        return len(self._items)

    def take(self, items: Iterable[Item], *, known: int = 0) -> None:
        """Take a page.

        Args:
            items: its items.
            known: how many of the first were asked for again on purpose; they are no duplicates.

        Raises:
            InvalidResponse: too many rows, or a filter that is plainly ignored.
        """
        kept, start, end = self._items, self._window.start, self._window.end
        for position, item in enumerate(items):
            if position < known and item.session_id is None:
                continue  # without an id it would count as another one
            self._read += 1
            if item.created_at is not None and not start <= item.created_at <= end:
                self._strays += 1
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
            self._require_filter(self._strays, self._read)

    def reading(self) -> WindowResult:
        """Give what lies in the window.

        Raises:
            InvalidResponse: more than a tenth of the sessions do not.
        """
        start, end = self._window.start, self._window.end
        # guard: a session at the window's end | < end -> <= end
        inside = [item for item in self._items.values() if item.created_at is None or start <= item.created_at < end]
        # The bound itself is no stray: whether the API's upper bound is inclusive is not documented for v2.
        strays = sum(
            1 for item in self._items.values() if item.created_at is not None and not start <= item.created_at <= end
        )
        self._require_filter(strays, len(self._items))
        outside = len(self._items) - len(inside)
        return WindowResult(inside, self._duplicates, outside, outside - strays)

    def _require_filter(self, strays: int, read: int) -> None:
        # guard: a filter that is ignored
        if strays > read * MAX_OUT_OF_WINDOW_SHARE:
            raise InvalidResponse(
                "The window asked for was not kept to",
                f"{strays} of {read} sessions were created outside it: the filter is ignored",
                "The API has changed, or DEVIN_API_URL leads elsewhere; nothing of these days was stored",
            )


def too_much(window: Window) -> InvalidResponse:
    """Say that a window holds more than may be read at once."""
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
            return collector.reading()
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
            return collector.reading()
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
    """Take every page of one pass; give the total that was stated last, if any was."""
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


def estimated_pages(page: CursorPage, window: Window) -> int:
    """Estimate how many pages a window has, from its first page: by the stated total, else by the time it covers."""
    if not page.has_next_page or not page.items:
        return 1
    if page.total is not None:
        return math.ceil(page.total / len(page.items))
    instants = _created(page)
    if not instants:
        return 1
    # Newest first, nothing lies after the newest, however long the window still is.
    oldest, newest = min(instants), max(instants)
    left, covered = (
        (newest - window.start, newest - oldest)
        if instants[0] >= instants[-1]
        else (window.end - window.start, newest - window.start)
    )
    return max(1, math.ceil(left / max(covered, timedelta(seconds=1))))


def _created(page: CursorPage) -> list[datetime]:
    return [item.created_at for item in page.items if item.created_at is not None]


def cut(days: Sequence[Window], pages: int, pages_of_a_part: float) -> list[tuple[Window, ...]]:
    """Cut adjoining days into parts of about so many pages each, a day at least."""
    parts = min(len(days), max(1, math.ceil(pages / pages_of_a_part)))
    bounds = [len(days) * part // parts for part in range(parts + 1)]
    return [tuple(days[start:end]) for start, end in pairwise(bounds)]


def split(window: Window, page: CursorPage, parts: int) -> list[Window]:
    """Split a window into so many parts of equal length, of a second each at least.

    Args:
        window: what to split.
        page: its first page. Where it tells the newest session, what comes after that is one more part: most of a day
            that has just begun lies ahead.
        parts: how many.
    """
    first, last = math.floor(window.start.timestamp()), math.ceil(window.end.timestamp())
    instants = _created(page)
    # guard: the hours ahead of a day that has begun | max(instants) -> window.end
    newest = max(instants) if instants and instants[0] > instants[-1] else window.end
    told = max(first + 1, min(last, math.floor(newest.timestamp()) + 1))
    parts = min(told - first, parts)
    bounds = [datetime.fromtimestamp(first + (told - first) * part // parts, UTC) for part in range(1, parts + 1)]
    return [Window(*each) for each in pairwise([window.start, *(at for at in bounds if at < window.end), window.end])]
