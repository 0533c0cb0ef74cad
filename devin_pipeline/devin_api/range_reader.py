"""RangeReader: reads many windows of one feed in parallel, each whole or not at all.

When which window is read, and whether together with others, alone or in parts, is decided here. How the pages
of one follow one another lives in `paging`, how windows are cut and split in `windows`, how a page is fetched in
`page_fetcher`.
"""

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from threading import Lock

from devin_pipeline.devin_api.batches import PAGES_PER_BATCH, BatchBuilder, SessionBatch
from devin_pipeline.devin_api.cancellation import CancelToken
from devin_pipeline.devin_api.connections import WINDOWS_AT_ONCE, Connections
from devin_pipeline.devin_api.errors import (
    DevinError,
    NoProgress,
    NotConnected,
    RateLimited,
    Refused,
    Unreachable,
)
from devin_pipeline.devin_api.page_fetcher import Effort, PageFetcher
from devin_pipeline.devin_api.pages import CursorPage, OffsetPage
from devin_pipeline.devin_api.paging import (
    WindowCollector,
    WindowResult,
    joined,
    read_by_cursor,
    read_by_offset,
    too_much,
)
from devin_pipeline.devin_api.smaller_pages import PageFailed, unread_item
from devin_pipeline.devin_api.windows import ONE_SECOND, Group, Window, adjoining, cut, estimated_pages, span, split

_PAGES_PER_BUDGET = 100
# A window holds its pages until it is whole. So many of them are read in parallel; a window with more, alone.
_MAX_PAGES_AT_ONCE = 128
# Cursor chains per thread that are under way or wait for one: the threads go on while a batch is being stored.
_CHAINS_PER_THREAD = 3
_PAGES_PER_CHAIN = 1.5
_MAX_WINDOWS_WITHOUT_PROGRESS = 3
# A cursor chain that is shorter is read as it is: cutting it into windows would cost more requests than it saves.
_MIN_PAGES_TO_PARALLELIZE = 3
# What was cut is cut again only if its first page shows so many: its estimate was too low.
_MIN_PAGES_TO_RESPLIT = 6
# A window's cursor chain that is longer is split, if it would take longer than all others in parallel or hold too much.
_MIN_PAGES_TO_SPLIT = 8
_PAGES_PER_SPLIT = 3
# At most; a part that is full is split again. A first page that shows a burst makes the whole window seem as full.
_MAX_PARTS_PER_WINDOW = 40
_MAX_PARTS_PER_PART = 8


@dataclass
class _Split:
    """A window that is read in parts.

    Attributes:
        parts: those still to be read.
        stated: how many sessions the window has, if its first page said so.
        results: what the others held.
    """

    parts: set[Window]
    stated: int | None
    results: dict[Window, WindowResult] = field(default_factory=dict)


_Outcome = WindowResult | list[Group] | _Split


class RangeReader:
    """Reads windows of one feed.

    Args:
        connections: what carries the requests.
        fetcher: fetches the pages of the feed.
        windows: what to read.

    Raises:
        ValueError: windows overlap.
    """

    def __init__(self, connections: Connections, fetcher: PageFetcher, windows: Iterable[Window]) -> None:
        groups = adjoining(windows)
        self._connections = connections
        self._fetcher = fetcher
        self._uncut = frozenset(groups)
        self._schedule = _Schedule(groups)
        self._splits = _SplitWindows(connections.limits.rows)
        self._streak = _Streak(connections.concurrency)
        self._batches = BatchBuilder(fetcher.feed, groups, fetcher.tally)
        self._pages_per_window = 0.0
        self._pages_in_all = 0
        self._counting = Lock()

    def batches(self) -> Generator[SessionBatch]:
        """Read them until each is read or has failed for good.

        Raises:
            Refused: the API said no; nothing more is read.
            NotConnected: the address has never responded; nothing more is sent.
        """
        connections = self._connections
        try:
            if self._fetcher.feed.paging == "offset":
                yield from self._settle(self._read_by_offset, connections.window_threads, 1, WINDOWS_AT_ONCE)
            else:
                least = connections.threads
                yield from self._settle(
                    self._read_by_cursor, connections.page_threads, least, _CHAINS_PER_THREAD * least
                )
        finally:
            self._fetcher.cancel.set()

    def _settle(
        self, read: Callable[[Group], _Outcome], threads: ThreadPoolExecutor, least: int, most: int
    ) -> Iterator[SessionBatch]:
        """Read the groups on some threads: from `least` to `most` at once, as many as do not hold too many pages."""
        schedule = self._schedule
        try:
            while schedule.waiting or schedule.running:
                # One at a time as long as the last one led nowhere: perhaps none of them leads anywhere.
                # guard: windows asked for at once though the last one led nowhere
                #   | (1, 1) if self._streak.without_progress else (least, most) -> (least, most)
                fewest, highest = (1, 1) if self._streak.without_progress else (least, most)
                while schedule.waiting and (
                    len(schedule.running) < fewest or (len(schedule.running) < highest and self._has_room())
                ):
                    self._streak.begin(schedule.start(threads, read))
                for group, future in schedule.done():
                    try:
                        outcome = future.result()
                    except Refused:
                        raise
                    except DevinError as error:
                        # guard: an address that has never answered ends the read
                        if isinstance(error, NotConnected) and not self._connections.transport.is_awaited:
                            raise
                        self._take_failure(group, error)
                    except CancelledError:
                        continue  # cancelled by another window's refusal, which comes up here as well
                    else:
                        self._streak.end()
                        self._take(group, outcome)
                yield from self._batches.full()
            yield from self._batches.rest()
        finally:
            schedule.cancel()

    def _has_room(self) -> bool:
        groups = [*self._schedule.running.values(), self._schedule.waiting[0]]
        return sum(map(self._pages_of, groups)) <= _MAX_PAGES_AT_ONCE

    def _pages_of(self, group: Group) -> float:
        """About how many pages a group that is to be read will hold."""
        return _PAGES_PER_SPLIT if self._splits.is_part(group[0]) else len(group) * self._pages_per_window

    def _take(self, group: Group, outcome: _Outcome) -> None:
        window = self._splits.whole_of(group[0])
        if isinstance(outcome, _Split):
            self._schedule.push((part,) for part in self._splits.begin(group[0], outcome))
        elif isinstance(outcome, list):
            self._schedule.push(outcome)
        elif window is group[0]:
            self._batches.add(group, outcome)
        else:
            try:
                whole = self._splits.add(group[0], outcome)
            except _PartsDisagree:
                self._read_in_one(window)
            else:
                if whole is not None:
                    self._batches.add((window,), whole)

    def _take_failure(self, group: Group, error: DevinError) -> None:
        # Of a part, the whole window is read once more, and that counts.
        # guard: other windows given up for the parts of one | not self._splits.is_part(group[0]) -> True
        if not self._splits.is_part(group[0]):
            self._streak.fail(group, error)
        # Neither a rate limit nor a server that is down is helped by hundreds of further requests.
        if isinstance(error, RateLimited) or self._streak.is_hopeless:
            self._give_up(group, error)
        elif self._splits.is_part(group[0]):
            self._read_in_one(self._splits.whole_of(group[0]))
        elif len(group) == 1:
            self._batches.fail(group[0], error)
        else:
            self._schedule.push((window,) for window in group)

    def _read_in_one(self, window: Window) -> None:
        """Have a window read along one chain, unless it is already; its parts no longer count."""
        if self._splits.abandon(window):
            # guard: parts of a window that is read along one chain by now
            self._schedule.withdraw(lambda group: self._splits.whole_of(group[0]) == window)
            self._schedule.push([(window,)])

    def _give_up(self, group: Group, error: DevinError) -> None:
        """Fail the windows of a group and of every one that has not begun; of a part, its whole window."""
        for window in (window for group in [group, *self._schedule.withdraw()] for window in group):
            whole = self._splits.whole_of(window)
            # guard: parts of a window that was given up | or self._splits.abandon(whole) -> or True
            if whole is window or self._splits.abandon(whole):
                self._batches.fail(whole, error)

    def _read_by_offset(self, group: Group) -> WindowResult | list[Group]:
        """Read a group, its pages in parallel, or cut it if it has more pages than a batch may hold."""
        window, limits = span(group), self._connections.limits
        effort = self._fetcher.effort()

        def page(skip: int, effort: Effort) -> OffsetPage:
            # Of several windows, each is read alone once a page of them fails: an unread item must be of one.
            # guard: smaller pages of several windows
            if len(group) > 1:
                return self._fetcher.offset_page(skip, window, effort)
            return self._fetcher.offset_page_or_pieces(skip, window, effort)

        def ask(skip: int) -> OffsetPage:
            # On the threads that fetch, so that no more requests are in flight than may be.
            for only in ask_at_once([skip]):
                return only
            raise CancelledError

        def ask_at_once(skips: Sequence[int]) -> Iterable[OffsetPage]:
            cancel = self._fetcher.cancel.part()
            return self._at_once(lambda skip: page(skip, replace(effort, cancel=cancel)), skips, cancel)

        try:
            first = ask(0)
            pages = min(first.total // first.limit, limits.pages)
            self._pages_per_window = max(self._pages_per_window, pages / len(group))
            if len(group) > 1 and pages > PAGES_PER_BATCH * (1 if group in self._uncut else 2):
                # Before any cutting: an ignored filter would look like a very full range.
                WindowCollector(window, limits).take(first.items)
                return cut(group, pages, PAGES_PER_BATCH)
            effort.deadline.at += self._connections.budget_seconds * (pages // _PAGES_PER_BUDGET)
            return read_by_offset(ask, ask_at_once, window, limits, first=first)
        except DevinError as error:
            raise self._fetcher.located(error, window) from None

    def _at_once(
        self, ask: Callable[[int], OffsetPage], skips: Sequence[int], cancel: CancelToken
    ) -> Iterator[OffsetPage]:
        """Fetch pages on all threads; the first error cancels the others."""
        futures = [self._connections.page_threads.submit(ask, skip) for skip in skips]
        try:
            for future in as_completed(futures):
                try:
                    page = future.result()
                except CancelledError:
                    continue  # cancelled by another page's refusal, which comes up here as well
                yield page
        finally:
            cancel.set()
            for future in futures:
                future.cancel()

    def _read_by_cursor(self, group: Group) -> _Outcome:
        """Read a group along its cursors, or, if that would take too long, cut or split it."""
        window = asked_for = span(group)
        limits = self._connections.limits
        is_part = self._splits.is_part(window)
        if window.start > self._splits.whole_of(window).start:
            # The API does not say to which side of it a bound belongs: both list what lies there, and it counts once.
            # guard: sessions on a bound within a window | Window(window.start - ONE_SECOND, window.end) -> window
            asked_for = Window(window.start - ONE_SECOND, window.end)
        effort = self._fetcher.effort()
        asked = 0
        stated: int | None = None

        def ask(cursor: str | None) -> CursorPage:
            nonlocal asked, stated
            asked += 1
            if asked % _PAGES_PER_BUDGET == 0:
                effort.deadline.at += self._connections.budget_seconds
            if len(group) == 1 and not is_part:
                page = self._fetcher.cursor_page_or_pieces(cursor, asked_for, effort)
            else:
                page = self._fetcher.cursor_page(cursor, asked_for, effort)
            stated = page.total if page.total is not None else stated
            return page

        try:
            first = ask(None)
            # Before any cutting: an ignored filter would look like a very full range.
            WindowCollector(asked_for, limits).take(first.items)
            pages = estimated_pages(first, asked_for)
            if parts := self._parts(group, window, first, pages):
                return parts
            return read_by_cursor(ask, asked_for, limits, first=first)
        except DevinError as error:
            raise self._fetcher.located(error, window) from None
        except PageFailed as failed:
            failure = failed.error
            stated = failed.total if failed.total is not None else stated
        try:
            return self._read_around_unread(window, failure, stated, effort)
        except DevinError as error:
            raise self._fetcher.located(error, window) from None

    def _parts(self, group: Group, window: Window, first: CursorPage, pages: int) -> list[Group] | _Split | None:
        """What a group of so many pages is cut or split into, if that is worth it."""
        is_uncut, is_part = group in self._uncut, self._splits.is_part(window)
        if is_uncut:
            with self._counting:
                self._pages_in_all += pages
        if not is_part:
            self._pages_per_window = max(self._pages_per_window, pages / len(group))
        if len(group) > 1:
            is_long = pages > (_MIN_PAGES_TO_PARALLELIZE if is_uncut else _MIN_PAGES_TO_RESPLIT)
            return cut(group, pages, _PAGES_PER_CHAIN) if is_long else None
        share = min(self._pages_in_all, _MAX_PAGES_AT_ONCE) / self._connections.concurrency
        if pages <= max(_MIN_PAGES_TO_SPLIT, share) or not self._splits.may_be_split(window):
            return None
        limits = self._connections.limits
        # guard: a window split though it states more than may be read
        if first.total is not None and (first.total > limits.rows or pages > limits.pages):
            raise too_much(window)
        most = _MAX_PARTS_PER_PART if is_part else _MAX_PARTS_PER_WINDOW
        parts = split(window, first, min(most, math.ceil(pages / _PAGES_PER_SPLIT)))
        return _Split(set(parts), first.total) if len(parts) > 1 else None

    def _read_around_unread(
        self, window: Window, error: DevinError, stated: int | None, effort: Effort
    ) -> WindowResult:
        """Read a window by narrower ones, one of its items being unreadable even alone.

        Several items of one second are distinguished only by the total that the window states.
        """
        result, seconds = self._fetcher.around(window, effort)
        missing = (stated or 0) - len(result.items) - result.out_of_window
        places = [span(run) for run in adjoining(seconds)]
        feed = self._fetcher.feed.name
        unread = [unread_item(feed, place, 0, error) for place in places]
        # guard: narrower windows that hold less than their window states
        if not unread and missing > 0:
            raise error
        unread += [
            unread_item(feed, places[0], position, error)
            # guard: unread items behind one of their second | missing - len(unread) +
            for position in range(1, missing - len(unread) + 1)
        ]
        result.items.extend(unread)
        return result


class _Schedule:
    """Which groups wait, as a heap, and which are being read.

    Oldest first: the parts of a window come before the windows after it, so that few windows are held at once.
    """

    def __init__(self, groups: Iterable[Group]) -> None:
        self.waiting = sorted(groups)
        self.running: dict[Future[_Outcome], Group] = {}

    def push(self, groups: Iterable[Group]) -> None:
        for group in groups:
            # guard: parts of many windows, all of them held
            #   | heappush(self.waiting, group) -> self.waiting.insert(0, group)
            heappush(self.waiting, group)

    def start(self, threads: ThreadPoolExecutor, read: Callable[[Group], _Outcome]) -> Group:
        """Have the first group read that waits, and return it."""
        group = heappop(self.waiting)
        self.running[threads.submit(read, group)] = group
        return group

    def done(self) -> Iterator[tuple[Group, Future[_Outcome]]]:
        """Wait until some groups are read, and return them."""
        for future in wait(self.running, return_when=FIRST_COMPLETED).done:
            yield self.running.pop(future), future

    def withdraw(self, is_unwanted: Callable[[Group], bool] = lambda _: True) -> list[Group]:
        """Take back and return groups that no thread has begun with."""
        withdrawn = [group for group in self.waiting if is_unwanted(group)]
        self.waiting[:] = [group for group in self.waiting if not is_unwanted(group)]
        heapify(self.waiting)
        for future, group in list(self.running.items()):
            if is_unwanted(group) and future.cancel():
                del self.running[future]
                withdrawn.append(group)
        return withdrawn

    def cancel(self) -> None:
        for future in self.running:
            future.cancel()


class _PartsDisagree(Exception):
    """The parts of a window hold another number of sessions than it states, or sessions of one another."""


class _SplitWindows:
    """The windows that are read in parts, and what the parts held so far.

    Args:
        max_rows: how many sessions a window may hold.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._splits: dict[Window, _Split] = {}
        self._whole_of_part: dict[Window, Window] = {}
        self._abandoned: set[Window] = set()

    def is_part(self, window: Window) -> bool:
        return window in self._whole_of_part

    def whole_of(self, window: Window) -> Window:
        """The window that a part belongs to; any other window is its own."""
        return self._whole_of_part.get(window, window)

    def may_be_split(self, window: Window) -> bool:
        """False once its parts could not be read, and for a part once there are too many of them."""
        found = self._splits.get(self.whole_of(window))
        # guard: a request for every second of a window of bursts
        #   | len(found.parts) + len(found.results) > 2 * _MAX_PARTS_PER_WINDOW -> False
        if found and len(found.parts) + len(found.results) > 2 * _MAX_PARTS_PER_WINDOW:
            return False
        # guard: a window split again after its parts could not be read | window not in self._abandoned -> True
        return window not in self._abandoned

    def begin(self, window: Window, split_window: _Split) -> Iterable[Window]:
        """Read a window, or a part that has too many pages itself, in parts; return those that are to be read."""
        whole = self.whole_of(window)
        if whole is window:
            self._splits[whole] = split_window
        elif whole in self._splits:
            self._splits[whole].parts.remove(window)
            self._splits[whole].parts |= split_window.parts
        else:
            return ()
        self._whole_of_part |= dict.fromkeys(split_window.parts, whole)
        return split_window.parts

    def add(self, part: Window, result: WindowResult) -> WindowResult | None:
        """Take what a part held; return what the window held once all are there.

        Raises:
            _PartsDisagree: only a chain can show what the window holds.
        """
        whole = self.whole_of(part)
        found = self._splits.get(whole)
        if found is None:
            return None
        found.parts.remove(part)
        found.results[part] = result
        if sum(len(of_part.items) for of_part in found.results.values()) > self._max_rows:
            # What lies on a bound is counted on both sides of it: a chain shows for certain whether it is too much.
            raise _PartsDisagree
        if found.parts:
            return None
        joint = joined([of_part for _, of_part in sorted(found.results.items())])
        is_strange = any(of_part.out_of_window > of_part.at_end for of_part in found.results.values())
        # guard: sessions that a part lists and another holds | is_strange or
        # guard: a window of which the parts hold less than it states
        #   | or len(joint.items) + joint.out_of_window < (found.stated or 0)
        if is_strange or len(joint.items) + joint.out_of_window < (found.stated or 0):
            # Something was deleted in between, or the bounds asked for do not hold within the window.
            raise _PartsDisagree
        del self._splits[whole]
        return joint

    def abandon(self, window: Window) -> bool:
        """Take back that a window is read in parts; False if it is not."""
        self._abandoned.add(window)
        return self._splits.pop(window, None) is not None


class _Streak:
    """Failures in a row, so that a server that is down, or leads nowhere, is not asked once for each window.

    Args:
        max_unreachable: how many windows in a row may fail as their requests got no response.
    """

    def __init__(self, max_unreachable: int) -> None:
        self._max_unreachable = max_unreachable
        self._unreachable = 0
        self.without_progress = 0
        # What was known when a group was begun: those in parallel do not count as in a row.
        self._known_then: dict[Group, int] = {}

    def begin(self, group: Group) -> None:
        self._known_then[group] = self.without_progress

    def fail(self, group: Group, error: DevinError) -> None:
        self._unreachable = self._unreachable + 1 if isinstance(error, Unreachable) else 0
        if not isinstance(error, NoProgress):
            self.without_progress = 0
        # guard: windows in parallel counted as in a row
        #   | elif self._known_then[group] == self.without_progress -> else
        elif self._known_then[group] == self.without_progress:
            self.without_progress += 1

    def end(self) -> None:
        self._unreachable = self.without_progress = 0

    @property
    def is_hopeless(self) -> bool:
        # guard: a server that is down, asked once for each window | self._unreachable > self._max_unreachable -> False
        is_down = self._unreachable > self._max_unreachable
        # guard: a feed that leads nowhere, asked once for each window
        #   | self.without_progress >= _MAX_WINDOWS_WITHOUT_PROGRESS -> False
        leads_nowhere = self.without_progress >= _MAX_WINDOWS_WITHOUT_PROGRESS
        return is_down or leads_nowhere
