"""What can go wrong between us and the API, as one small tree.

    DevinError
    ├── Refused         the API understood and said no; a retry changes nothing
    ├── Unreachable     no usable response after the last try
    │   ├── NotConnected  nothing was sent, as no connection came about
    │   └── TooSlow     the last response did not come in time
    ├── RateLimited     asked to wait longer than we may
    └── InvalidResponse a response that is not what the API promises
        ├── NoProgress  pages say that more follow, and lead nowhere
        └── TooLarge    a page that does not fit

A key or address that cannot work is a `ConfigurationError`, raised before any socket opens.

Each error says what happened, why, and what to do. None carries a key, a query string, a response body or the
text of a prompt: messages end up in logs and in Dagster's event store. How an error is handled does not live here.
"""

from typing import Self

from devin_pipeline.errors import Problem


class DevinError(Problem):
    """Anything that kept a request from getting a usable response.

    Attributes:
        more_tries: how many more times the same request may be sent before this is final.
        wait_seconds: how long the API asked us to wait before the next try, if it did.
        is_out_of_time: whether there would have been more tries, had there been time.
    """

    def __init__(
        self, what: str, why: str, todo: str, *, more_tries: int = 0, wait_seconds: float | None = None
    ) -> None:
        super().__init__(what, why, todo)
        self.more_tries = more_tries
        self.wait_seconds = wait_seconds
        self.is_out_of_time = False

    def located(self, where: str) -> Self:
        """Name the request, e.g. the feed and the window asked for."""
        self.what = f"{self.what} ({where})"
        return self

    def without_frames(self) -> Self:
        """Drop its frames: they hold pages, pages hold prompts, and error reporters show both."""
        self.__context__ = None
        # guard: pages in a traceback | .with_traceback(None)
        return self.with_traceback(None)


class Refused(DevinError):
    """401, 403, 404, 405, 410, 400, 422, a redirect, or a certificate that does not hold.

    Attributes:
        status: the HTTP status; None when there was no response.
    """

    def __init__(self, what: str, why: str, todo: str, *, status: int | None = None) -> None:
        super().__init__(what, why, todo)
        self.status = status


class Unreachable(DevinError):
    """Connection errors, timeouts, 5xx, or the deadline."""


class NotConnected(Unreachable):
    """No connection to the API, or to the proxy before it."""


class TooSlow(Unreachable):
    """No whole response in the time a request may take."""


class RateLimited(DevinError):
    """429 (or 503 with Retry-After) beyond what we may wait."""


class InvalidResponse(DevinError):
    """Not JSON, the wrong shape, a repeated cursor, an ignored filter, totals that never agree, too much data."""


class NoProgress(InvalidResponse):
    """Empty pages, repeated cursors or a last page of which each says that more follow."""


class TooLarge(InvalidResponse):
    """A page of more bytes than may be read at once."""
