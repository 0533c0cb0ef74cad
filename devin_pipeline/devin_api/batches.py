"""SessionBatch: what was read of some windows, handed over together; and what is put together until it is one."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from threading import Lock

from devin_pipeline.devin_api.endpoints import Feed
from devin_pipeline.devin_api.errors import DevinError
from devin_pipeline.devin_api.items import Item
from devin_pipeline.devin_api.paging import PAGE_SIZE, WindowResult, once
from devin_pipeline.devin_api.windows import Group, Window

PAGES_PER_BATCH = 16
"""About how many pages are handed over together: large enough to be worth a commit, small enough for memory."""

_ITEMS_PER_BATCH = PAGES_PER_BATCH * PAGE_SIZE


@dataclass
class SessionBatch:
    """What a read of some windows returned.

    Attributes:
        windows: those it holds, read whole or failed, oldest first.
        items: accepted and rejected ones, each session once, each inside the windows read.
        failures: the windows that could not be read whole, and why; nothing of them is in `items`.
        duplicates: how many times a session was listed again.
        out_of_window: how many items lay outside the window asked for (its end included) and were dropped.
        unknown_fields: how many of the items have a field that the API reference does not list, by its name.
        acus_as_text: how many of the items have ACUs that are written as text.
        requests: requests sent since the batch before, tries included.
        pages: pages that arrived whole, repeated passes included.
        retries: requests that asked for a page again.
        bytes_read: size of those pages, decompressed.
    """

    windows: list[Window] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    failures: dict[Window, DevinError] = field(default_factory=dict)
    duplicates: int = 0
    out_of_window: int = 0
    unknown_fields: Counter[str] = field(default_factory=Counter)
    acus_as_text: int = 0
    requests: int = 0
    pages: int = 0
    retries: int = 0
    bytes_read: int = 0


class Tally:
    """What a read cost since the batch before, counted from all of its threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[str] = Counter()

    def add(self, **counts: int) -> None:
        """Count requests, pages, retries or bytes, under their names in a batch."""
        with self._lock:
            self._counts.update(counts)

    def take(self) -> Counter[str]:
        """Return the counts and begin again."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return counts


class BatchBuilder:
    """Puts the results of windows together until they make up a batch.

    Args:
        feed: the feed that is read.
        groups: what is to be read of it.
        tally: what that costs.
    """

    def __init__(self, feed: Feed, groups: Iterable[Group], tally: Tally) -> None:
        self._fields = feed.fields
        self._ends = frozenset(group[-1].end for group in groups)
        self._tally = tally
        self._results: dict[Group, WindowResult] = {}
        self._failures: dict[Window, DevinError] = {}

    def add(self, group: Group, result: WindowResult) -> None:
        """Take what a group held."""
        self._results[group] = result

    def fail(self, window: Window, error: DevinError) -> None:
        """Take note of a window that could not be read."""
        self._failures[window] = error

    def full(self) -> Iterator[SessionBatch]:
        """Return batches as long as enough is there for one."""
        while sum(len(result.items) for result in self._results.values()) >= _ITEMS_PER_BATCH // 2:
            yield self._next()

    def rest(self) -> Iterator[SessionBatch]:
        """Return all that is there."""
        while self._results or self._failures:
            yield self._next()

    def _next(self) -> SessionBatch:
        """Put the oldest results together, as many as a batch holds; a session in two of them is kept once."""
        taken = self._take_oldest()
        failures, self._failures = dict(sorted(self._failures.items())), {}
        windows = sorted([*(window for group in taken for window in group), *failures])
        items, duplicates = once(item for result in taken.values() for item in result.items)
        batch = SessionBatch(windows, items, failures, duplicates)
        for name, count in self._tally.take().items():
            setattr(batch, name, count)
        for group, result in taken.items():
            batch.duplicates += result.duplicates
            # What lies where a group was cut off is listed by the next one.
            # guard: sessions just where a range was cut | (0 if group[-1].end in self._ends else result.at_end) -> 0
            batch.out_of_window += result.out_of_window - (0 if group[-1].end in self._ends else result.at_end)
        batch.acus_as_text = sum(item.acus_are_text for item in items)
        for fields, count in Counter(item.fields for item in items).items():
            # guard: fields the API reference does not list | self._fields -> fields
            batch.unknown_fields.update(dict.fromkeys(fields - self._fields, count))
        return batch

    def _take_oldest(self) -> dict[Group, WindowResult]:
        taken: dict[Group, WindowResult] = {}
        items = 0
        for group in sorted(self._results):
            items += len(self._results[group].items)
            # guard: the size of a batch
            if taken and items > _ITEMS_PER_BATCH:
                break
            taken[group] = self._results.pop(group)
        return taken
