"""Windows: spans of time asked of the API, and how they are put together, cut, split and estimated.

What a window held lives in `paging`; when which one is read, in `range_reader`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from devin_pipeline.devin_api.pages import CursorPage

ONE_SECOND = timedelta(seconds=1)


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


Group = tuple[Window, ...]
"""Adjoining windows that are asked for together, oldest first."""


def iso(at: datetime) -> str:
    """Write an instant as the v2 API does, in UTC with `Z`."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def adjoining(windows: Iterable[Window]) -> list[Group]:
    """Group windows that have no gap between them, oldest first.

    Raises:
        ValueError: two windows overlap.
    """
    groups: list[list[Window]] = []
    for window in sorted(set(windows)):
        # guard: windows that overlap
        if groups and window.start < groups[-1][-1].end:
            raise ValueError("windows overlap")
        if groups and window.start == groups[-1][-1].end:
            groups[-1].append(window)
        else:
            groups.append([window])
    return [tuple(group) for group in groups]


def span(group: Sequence[Window]) -> Window:
    """Return the one window that adjoining windows make up."""
    return Window(group[0].start, group[-1].end)


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
    return max(1, math.ceil(left / max(covered, ONE_SECOND)))


def _created(page: CursorPage) -> list[datetime]:
    return [item.created_at for item in page.items if item.created_at is not None]


def cut(group: Sequence[Window], pages: int, pages_per_group: float) -> list[Group]:
    """Cut adjoining windows into groups of about so many pages each, a window at least."""
    groups = min(len(group), max(1, math.ceil(pages / pages_per_group)))
    bounds = [len(group) * number // groups for number in range(groups + 1)]
    return [tuple(group[start:end]) for start, end in pairwise(bounds)]


def split(window: Window, page: CursorPage, parts: int) -> list[Window]:
    """Split a window into so many parts of equal length, of a second each at least.

    Args:
        window: what to split.
        page: its first page. Where it holds the newest session, what comes after that is one more part: most of a day
            that has just begun lies ahead.
        parts: how many.
    """
    first, last = math.floor(window.start.timestamp()), math.ceil(window.end.timestamp())
    instants = _created(page)
    # guard: the hours ahead of a day that has begun | max(instants) -> window.end
    newest = max(instants) if instants and instants[0] > instants[-1] else window.end
    filled = max(first + 1, min(last, math.floor(newest.timestamp()) + 1))
    parts = min(filled - first, parts)
    bounds = [datetime.fromtimestamp(first + (filled - first) * part // parts, UTC) for part in range(1, parts + 1)]
    return [Window(*each) for each in pairwise([window.start, *(at for at in bounds if at < window.end), window.end])]
