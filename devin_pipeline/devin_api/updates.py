"""Which sessions of a feed were updated in a window, as far as one attempt without retries shows."""

from dataclasses import dataclass
from datetime import UTC, datetime

from devin_pipeline.devin_api.errors import InvalidResponse
from devin_pipeline.devin_api.items import EARLIEST, Item
from devin_pipeline.devin_api.page_fetcher import PageFetcher
from devin_pipeline.devin_api.pages import CursorPage, OffsetPage
from devin_pipeline.devin_api.paging import MAX_OUT_OF_WINDOW_SHARE, is_newer
from devin_pipeline.devin_api.retry import Deadline
from devin_pipeline.devin_api.smaller_pages import PageFailed
from devin_pipeline.devin_api.windows import ONE_SECOND, Window

_NO_UPPER_BOUND = Window(EARLIEST, datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True)
class Updated:
    """What changed in a window, as far as it could be read in one attempt.

    Attributes:
        items: sessions whose `updated_at` lies in the window or is unknown, each once.
        complete: false when there were more pages than allowed, or the pages did not agree.
        pages: pages read.
        total: how many sessions the API says there are, if it says so.
    """

    items: list[Item]
    complete: bool
    pages: int
    total: int | None


def updated_in(fetcher: PageFetcher, window: Window, max_pages: int, deadline: Deadline) -> Updated:
    """Read what was updated in a window; the windows of `fetcher` are of updates.

    Raises:
        DevinError: whatever went wrong, at once.
    """
    effort = fetcher.effort(deadline, more_tries=0)
    kept: dict[str | int, Item] = {}
    seen: set[str] = set()
    total: int | None = None
    cursor: str | None = None
    skip = pages = listed = 0
    steady = True
    while True:
        if fetcher.feed.paging == "offset":
            page: OffsetPage | CursorPage = fetcher.offset_page_or_pieces(skip, window, effort)
        else:
            try:
                page = fetcher.cursor_page_or_pieces(cursor, window, effort)
            except PageFailed:
                result, _ = fetcher.around(window, effort, created=_NO_UPPER_BOUND)
                page, kept = CursorPage(result.items, has_next_page=False, end_cursor=None, total=None), {}
                total = None
        pages += 1
        for item in page.items:
            listed += 1
            # The day of an item that cannot be read is unknown; no read of that day could read it either.
            key = listed if item.session_id is None else item.session_id
            if key not in kept or is_newer(item, kept[key]):
                kept[key] = item
        if isinstance(page, OffsetPage):
            steady = steady and page.skip == skip and total in (None, page.total)
            skip += page.limit
            more = page.more
        else:
            more = page.more
            cursor = page.end_cursor
            steady = steady and (not more or bool(cursor and cursor not in seen))
            seen.add(cursor or "")
        total = page.total if page.total is not None else total
        if not more or not steady or pages >= max_pages or deadline.remaining() <= 0:
            break
    # A session may be updated again while we read, so only one that was not updated since betrays an ignored filter.
    stale = sum(1 for item in kept.values() if item.updated_at and item.updated_at < window.start - ONE_SECOND)
    # guard: updates under a filter that is ignored
    if stale > len(kept) * MAX_OUT_OF_WINDOW_SHARE:
        raise InvalidResponse(
            "The API ignored the window asked for",
            f"{stale} of {len(kept)} sessions were last updated before it",
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
