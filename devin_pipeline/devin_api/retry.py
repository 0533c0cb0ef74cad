"""Which failures are worth a retry, and how long to wait before it.

The pipeline's only layer of retries. Which error a response is, is decided in `transport`; what a page must look like,
in `pages`.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from random import SystemRandom
from re import ASCII, compile
from typing import TypeVar

from devin_pipeline.devin_api.cancellation import CancelToken
from devin_pipeline.devin_api.errors import DevinError, RateLimited, Unreachable

MORE_TRIES = 5
"""Six tries in all for what usually passes."""

MORE_TRIES_BY_STATUS = {
    # guard: 401 asked for again | 408: MORE_TRIES, -> 408: MORE_TRIES, 401: MORE_TRIES,
    408: MORE_TRIES,
    # guard: 409 asked for too often | 409: 2 -> 409: MORE_TRIES
    409: 2,
    425: MORE_TRIES,
    # guard: 429 given up at once | 429: MORE_TRIES,
    429: MORE_TRIES,
    500: MORE_TRIES,
    502: MORE_TRIES,
    503: MORE_TRIES,
    504: MORE_TRIES,
    # A content network's own words for 502 and 504.
    520: MORE_TRIES,
    521: MORE_TRIES,
    522: MORE_TRIES,
    523: MORE_TRIES,
    524: MORE_TRIES,
}
BACKOFF_BASE_SECONDS = 0.5
BACKOFF_CAP_SECONDS = 30.0
SHORTEST_RETRY_AFTER_SECONDS = 1.0
LONGEST_RETRY_AFTER_SECONDS = 300.0
LONG_WAIT_SECONDS = 10.0
"""A longer wait before a retry is logged: without that, it looks like a run that hangs."""

_SECONDS = compile(r"\d{1,12}(?:\.\d{1,9})?", ASCII)
jitter = SystemRandom().random
_T = TypeVar("_T")
_Response = TypeVar("_Response")


def requested_wait(retry_after: str | None, date: str | None, now: datetime) -> float | None:
    """Read a Retry-After header: seconds, or an HTTP date measured against the response's own Date.

    Args:
        retry_after: the header's value.
        date: the same response's Date header, so that a skewed clock on either side does not matter.
        now: what to measure against when the response has no Date.

    Returns:
        Seconds to wait, at least one; None when there is no usable header.
    """
    if retry_after is None:
        return None
    text = retry_after.strip()
    if _SECONDS.fullmatch(text):
        # guard: Retry-After below a second | max(float(text), SHORTEST_RETRY_AFTER_SECONDS) -> float(text)
        return max(float(text), SHORTEST_RETRY_AFTER_SECONDS)
    until = http_date(text)
    if until is None:
        return None
    # guard: Retry-After by our own clock | (http_date(date) or now) -> now
    return max((until - (http_date(date) or now)).total_seconds(), SHORTEST_RETRY_AFTER_SECONDS)


def http_date(value: str | None) -> datetime | None:
    """Read an HTTP date; None when it is missing or is not one."""
    if not value:
        return None
    try:
        at = parsedate_to_datetime(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def backoff_seconds(tries: int, random: Callable[[], float]) -> float:
    """Wait a random share of a growing span ("full jitter"), so that many clients do not come back at once."""
    return random() * min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** (tries - 1))


@dataclass
class Deadline:
    """The instant, on a monotonic clock, after which a read gives up."""

    clock: Callable[[], float]
    at: float

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> "Deadline":
        """Set a deadline that many seconds from now."""
        return cls(clock, clock() + seconds)

    def remaining(self) -> float:
        """Seconds left; negative once it has passed."""
        return self.at - self.clock()


class Retrier:
    """Tries a request until it succeeds, waiting between tries as the API and the deadline allow.

    Shared by all threads of a client: when the API asks one of them to wait, the others wait as well.

    Args:
        at_once: requests in flight at most.
        sleep: how to wait; None waits in a way that cancelling the read ends.
        clock: a monotonic clock, in seconds.
        random: a number in [0, 1).
        log: takes a line about each long wait: the reason, and the instant at which it ends.
    """

    def __init__(
        self,
        *,
        at_once: int,
        sleep: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = jitter,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.clock = clock
        self._slots = threading.Semaphore(at_once)
        self._sleep = sleep
        self._random = random
        self._log = log
        self._lock = threading.Lock()
        self._quiet_until = float("-inf")
        self._logged_until = float("-inf")

    def call(
        self,
        send: Callable[[], _Response],
        read: Callable[[_Response], _T],
        *,
        deadline: Deadline,
        cancel: CancelToken,
        more_tries: int = MORE_TRIES,
    ) -> _T:
        """Send a request and read its response until that succeeds or its error is final.

        Args:
            send: sends the request.
            read: reads its response.
            deadline: when to give up.
            cancel: set when nobody needs the response any more.
            more_tries: after the first, at most.

        Raises:
            DevinError: the last attempt's, once it is not worth another or the wait would pass the deadline.
            CancelledError: the read was cancelled.
        """
        failures: Counter[int] = Counter()
        while True:
            try:
                # guard: the requests in flight | with self._slots -> if True
                with self._slots:
                    # guard: a pause one thread was asked for, for the others
                    self._keep_quiet(deadline, cancel)
                    response = send()
                # Others may send while this one reads.
                return read(response)
            except DevinError as error:
                # Counted per kind: three resets must not use up the two further tries a wrong shape deserves.
                failures[error.more_tries] += 1
                tries = failures.total()
                # guard: more tries by mixing kinds of failure | tries > more_tries -> False
                if failures[error.more_tries] > error.more_tries or tries > more_tries:
                    raise
                wait = self._wait_after(error, tries)
                # guard: a wait beyond the deadline
                if wait >= deadline.remaining():
                    error.is_out_of_time = True
                    raise
                self._log_long_wait(error, wait)
            self._pause(wait, cancel)

    def _wait_after(self, error: DevinError, tries: int) -> float:
        if error.wait_seconds is None:
            return backoff_seconds(tries, self._random)
        with self._lock:
            self._quiet_until = max(self._quiet_until, self.clock() + error.wait_seconds)
        # guard: Retry-After not waited for | error.wait_seconds -> 0.0
        return error.wait_seconds

    def _log_long_wait(self, error: DevinError, seconds: float) -> None:
        with self._lock:
            until = self.clock() + seconds
            # Threads that wait for about the same instant are one line.
            # guard: one line for each thread that waits | until - self._logged_until -> seconds
            if seconds <= LONG_WAIT_SECONDS or until - self._logged_until <= LONG_WAIT_SECONDS:
                return
            self._logged_until = until
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        self._log(f"{error.what}: {error.why}. Waiting for {seconds:.0f} s, until {at:%H:%M:%S} UTC, before a retry.")

    def _keep_quiet(self, deadline: Deadline, cancel: CancelToken) -> None:
        if cancel.is_set():
            raise CancelledError
        with self._lock:
            wait = self._quiet_until - self.clock()
        if wait > 0 and wait >= deadline.remaining():
            raise RateLimited(
                "Devin asked for a pause longer than this read may last",
                f"{wait:.0f} s are left of it",
                "Run again later; the days already stored stay as they are",
            )
        if deadline.remaining() <= 0:
            raise Unreachable(
                "Reading took longer than it may",
                "its time was used up by slow answers or repeated tries",
                "Run again later, or for fewer days at once",
            )
        if wait > 0:
            self._pause(wait, cancel)

    def _pause(self, seconds: float, cancel: CancelToken) -> None:
        if self._sleep is not None:
            self._sleep(seconds)
        else:
            cancel.wait(seconds)
        if cancel.is_set():
            raise CancelledError
