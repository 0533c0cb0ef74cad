"""What all reads of one client share: its transport and threads, what bounds a read, and its clocks."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from devin_pipeline.devin_api.cancellation import CancelToken
from devin_pipeline.devin_api.paging import Limits
from devin_pipeline.devin_api.retry import Deadline, Retrier
from devin_pipeline.devin_api.transport import Transport

WINDOWS_AT_ONCE = 8
_THREADS_PER_REQUEST = 1.5


class Connections:
    """The connections of a client to the API, and the threads that use them.

    Args:
        transport: sends the requests.
        retrier: tries them again.
        concurrency: requests in flight at most.
        budget_seconds: how long a window may take, waits included (per hundred pages).
        limits: how much one window may hold.
        now: the wall clock.

    Attributes:
        page_threads: fetch pages; so many that some may read a response while others send.
        window_threads: each waits for the pages of one v2 window, which the others fetch.
        parse_lock: Python parses no two pages at once; threads that tried would hold up those that wait for bytes.
        cancel: ends every read.
        clock_ahead: by how much our clock was ahead of the API's when a page last arrived; None if that is unknown.
    """

    def __init__(
        self,
        transport: Transport,
        retrier: Retrier,
        *,
        concurrency: int,
        budget_seconds: float,
        limits: Limits,
        now: Callable[[], datetime],
    ) -> None:
        self.transport = transport
        self.retrier = retrier
        self.concurrency = concurrency
        self.budget_seconds = budget_seconds
        self.limits = limits
        self.now = now
        self.clock_ahead: timedelta | None = None
        self.cancel = CancelToken()
        self.threads = math.ceil(concurrency * _THREADS_PER_REQUEST)
        self.page_threads = ThreadPoolExecutor(self.threads, thread_name_prefix="devin-api")
        self.window_threads = ThreadPoolExecutor(WINDOWS_AT_ONCE, thread_name_prefix="devin-api-window")
        self.parse_lock = threading.Lock()

    def deadline(self, seconds: float | None = None) -> Deadline:
        """Return a deadline, by default that of a window."""
        return Deadline.after(self.budget_seconds if seconds is None else seconds, self.retrier.clock)

    def end(self, *, wait: bool) -> None:
        """End every read and the threads; if `wait`, once they have ended, close every connection."""
        self.cancel.set()
        # guard: a list that is read after its client was closed | shutdown(wait, -> shutdown(False,
        self.window_threads.shutdown(wait, cancel_futures=True)
        # Pages that wait for a thread end as soon as they have one. Cancelled here, they would be waited for for ever:
        # a pool that is shut down does not notify those that wait for a future.
        self.page_threads.shutdown(wait)
        if wait:
            self.transport.close()
