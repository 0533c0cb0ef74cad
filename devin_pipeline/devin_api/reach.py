"""Whether an address can be connected to: what this process knows of it, and why not."""

import os
import re
import socket
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from devin_pipeline.devin_api.errors import NotConnected

SECONDS_TO_CONNECT = 6.5
"""How long the first connection to an address may take: the lookup of its name, the proxy and TLS included."""

MORE_TRIES_AT_FIRST = 2
"""To an address that has not responded yet; the waits between them take a second and a half at most."""

# The other feeds of a run and the other checks of the doctor ask within it.
_GIVEN_UP_SECONDS = 5.0
_STATUS = re.compile(r"\d{3}\b")
_Response = TypeVar("_Response")


class Reach:
    """What this process knows of an address, shared by every client of it.

    One that has responded is waited for when it is down. One that never has is most likely wrong or out of reach, and
    is given up within seconds by all that ask.
    """

    def __init__(self) -> None:
        self.has_responded = False
        self._given_up: NotConnected | None = None
        self._given_up_until = float("-inf")

    def connect(self, send: Callable[[], _Response], connected: threading.Event, seconds: float) -> _Response | None:
        """Send in a thread of its own, which is left behind if it has not `connected` in time.

        Nothing ends the lookup of a name or a connect that waits for one address after the other.

        Returns:
            The response; None when no connection came about in time.
        """
        response: Future[_Response] = Future()

        def send_and_notify() -> None:
            try:
                response.set_result(send())
            except BaseException as error:
                response.set_exception(error)
            connected.set()

        threading.Thread(target=send_and_notify, name="devin-api-first", daemon=True).start()
        # guard: a connect that never ends | wait(seconds) -> wait(seconds + 10)
        return response.result() if connected.wait(seconds) else None

    def give_up(self, error: NotConnected) -> NotConnected:
        """Make an error final, for all that ask within the next seconds, too."""
        error.more_tries = 0
        self._given_up, self._given_up_until = error, time.monotonic() + _GIVEN_UP_SECONDS
        return error

    def require_not_given_up(self) -> None:
        """Raise the error with which another request was just given up."""
        error = self._given_up
        if error is not None and time.monotonic() < self._given_up_until:
            raise NotConnected(error.what, error.why, error.todo)


_reaches: defaultdict[Hashable, Reach] = defaultdict(Reach)


def reach_of(address: str, proxies: Hashable) -> Reach:
    """What is known of an address, over these proxies."""
    return _reaches[address, proxies]


def host_or_proxy(host: str, proxy: str | None) -> str:
    """What a connection goes to, in words: the proxy that a variable names, or the host."""
    return f"the proxy of {proxy}" if proxy else f"the host {host}"


def why_not_connected(error: Exception | None, host: str, proxy: str | None) -> str:
    """Why no connection came about; of what the other side sent, a status at most.

    Args:
        error: What was raised; None when it took too long.
        host: The host that was to be reached.
        proxy: The variable that names the proxy on the way, if there is one.
    """
    other = host_or_proxy(host, proxy)
    for cause in causes(error or TimeoutError()):
        if isinstance(cause, socket.gaierror):
            return f"the name of {other} could not be looked up ({cause.strerror})"
        if isinstance(cause, TimeoutError):
            return f"no connection to {other} came about in time"
        if isinstance(cause, ssl.SSLError):
            return f"no TLS connection to {other} came about ({cause.reason or type(cause).__name__})"
        if isinstance(cause, OSError) and cause.errno:
            return f"no connection to {other} came about ({os.strerror(cause.errno)})"
    status = _STATUS.match(str(error))
    return f"{other} did not connect" + (f" ({status[0]})" if status else "")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what caused it, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
