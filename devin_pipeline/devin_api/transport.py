"""One request: what is sent, what may come back, and which error each response is.

Only it and `surroundings` import httpx. Whether to try again is decided in `retry`; what the body says, in `pages`.
"""

import json
import logging
import math
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx
from socksio.exceptions import SOCKSError

from devin_pipeline.devin_api.credentials import Secret
from devin_pipeline.devin_api.endpoints import Endpoint
from devin_pipeline.devin_api.errors import (
    DevinError,
    InvalidResponse,
    NotConnected,
    RateLimited,
    Refused,
    TooLarge,
    TooSlow,
    Unreachable,
)
from devin_pipeline.devin_api.reach import (
    MORE_TRIES_AT_FIRST,
    SECONDS_TO_CONNECT,
    causes,
    host_or_proxy,
    reach_of,
    why_not_connected,
)
from devin_pipeline.devin_api.retry import (
    LONGEST_RETRY_AFTER_SECONDS,
    MORE_TRIES,
    MORE_TRIES_BY_STATUS,
    Deadline,
    http_date,
    requested_wait,
)
from devin_pipeline.devin_api.surroundings import check_proxies, proxy_variable, tls_context

LARGEST_BODY = 64 * 1024 * 1024
"""Decoded. 200 sessions of 300 kB each fit; 200 kB of gzip that unfold to 200 MB do not."""

_LARGEST_ERROR_BODY = 64 * 1024
# The beginnings of the sentences of FastAPI, with which the API says what is wrong with a query.
_VALIDATION_MESSAGE = re.compile(
    r"Field required"
    r"|Input should be (?:greater|less) than (?:or equal to )?-?[0-9]{1,19}"
    r"|Input should be a valid (?:integer|number|boolean|string|list|datetime|date)"
)
_GZIP_STEP = 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_PORTS = {"http": 80, "https": 443}

# At INFO httpx prints whole URLs, user ids in the query included; httpcore prints the response's headers at DEBUG.
_TALKATIVE = ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))


@dataclass(frozen=True)
class Request:
    """What is sent but for the query: to which endpoint, at which path, with which key."""

    endpoint: Endpoint
    path: str
    key: Secret

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.endpoint.name


class Response(NamedTuple):
    """A 200 that arrived whole: its body, decoded, and when the server says it sent it."""

    body: bytes
    answered_at: datetime | None


def check_surroundings(base_url: str) -> None:
    """Refuse proxies and certificates of the environment with which no request could be sent.

    Args:
        base_url: a checked address, without a trailing slash.

    Raises:
        ConfigurationError: a variable cannot be used; it is named.
    """
    Transport(base_url, timeout_seconds=1).close()


class Transport:
    """Sends requests, over one connection per thread.

    Args:
        base_url: a checked address, without a trailing slash.
        timeout_seconds: how long one whole response may take, its headers included.
        is_awaited: whether the address is waited for even if it has not responded to this process yet.

    Raises:
        ConfigurationError: a proxy or certificates of the environment cannot be used.
    """

    def __init__(self, base_url: str, *, timeout_seconds: float, is_awaited: bool = False) -> None:
        for name in _TALKATIVE:
            # guard: users in httpx's log
            logging.getLogger(name).addFilter(_is_a_warning)
        self.base_url = base_url
        self._timeout_seconds = timeout_seconds
        self._is_awaited = is_awaited
        is_plain = urlsplit(base_url).scheme == "http"
        # Plain http is loopback only: a proxy from the environment could not reach it and would see the key.
        # guard: a proxy before loopback | not is_plain -> True
        trust_env = not is_plain
        if not is_plain:
            check_proxies()
        # Not the proxies themselves: they may hold a password.
        self._reach = reach_of(base_url, None if is_plain else hash(frozenset(getproxies().items())))
        # Loading the certificates takes 0.1 s; without TLS there is nothing to hold them against.
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else tls_context()
        first = _Connection(_new_http(tls, trust_env=trust_env))
        self._new_connection: Callable[[], _Connection] = lambda: _Connection(_new_http(tls, trust_env=trust_env))
        self._connections = [first]
        self._watch = _DeadlineWatchdog()
        self._of_thread = threading.local()
        self._of_thread.connection = first

    def close(self) -> None:
        """Close every connection; no thread may be sending any more."""
        self._watch.end()
        for connection in self._connections:
            connection.close()

    def get(self, request: Request, params: Sequence[tuple[str, str]], deadline: Deadline) -> Response:
        """Send one request.

        Args:
            request: what to send, and with which key.
            params: the query; arrays as repeated names.
            deadline: when the whole read gives up; this request may not outlast it.

        Raises:
            DevinError: anything but a 200 whose body arrived whole. Its `more_tries` says whether to try again.
        """
        seconds = max(0.001, min(self._timeout_seconds, deadline.remaining()))
        connection = self._connection_of_thread()
        if self.is_awaited:
            return self._send(connection, request, params, seconds)
        # guard: an address that was just given up
        self._reach.require_not_given_up()
        connection.is_connected.clear()
        response = self._reach.connect(
            lambda: self._send(connection, request, params, seconds),
            connection.is_connected,
            min(seconds, SECONDS_TO_CONNECT),
        )
        if response is None:
            self._leave(connection)
            raise self._reach.give_up(self._not_connected(None, connection))
        return response

    @property
    def is_awaited(self) -> bool:
        """Whether the address is waited for when it is down, as it is once it has responded to this process."""
        return self._is_awaited or self._reach.has_responded

    def _send(
        self, connection: "_Connection", request: Request, params: Sequence[tuple[str, str]], seconds: float
    ) -> Response:
        connection.is_connected.clear()
        try:
            with (
                self._watch.over(connection, seconds),
                connection.http.stream(
                    "GET",
                    f"{self.base_url}{request.path}",
                    params=httpx.QueryParams(list(params)),
                    headers={"Authorization": f"Bearer {request.key.reveal()}"},
                    timeout=seconds,
                    extensions={"trace": connection.see},
                ) as response,
            ):
                self._reach.has_responded = True
                if response.status_code != HTTPStatus.OK:
                    raise _error_of(response, request)
                whole = Response(_whole_body(response, request), http_date(response.headers.get("date")))
        except (httpx.RequestError, SOCKSError) as error:
            if not connection.is_cut:
                # `from None`: the chained exception may quote the header it could not send.
                raise self._failed(error, request, connection) from None
        # A body that ends where its connection does looks whole when we cut it.
        # guard: a body that looks whole because we cut it
        if connection.is_cut:
            raise self._failed(None, request, connection)
        return whole

    def _failed(self, error: Exception | None, request: Request, connection: "_Connection") -> DevinError:
        """The error of a request without a response: what was raised, or None when it took too long."""
        proxy = self._proxy_of(connection)
        if connection.is_connected.is_set():
            is_late = error is None or isinstance(error, httpx.TimeoutException)
            other = host_or_proxy(urlsplit(self.base_url).netloc, proxy)
            why = f"{other} ended the connection before its answer was whole ({type(error).__name__})"
            if is_late:
                why = "no whole answer came in time" + (f", through {other}" if proxy else "")
            return (TooSlow if is_late else Unreachable)(
                f"{request.name} could not be read",
                why,
                "Check the network, then run again",
                more_tries=MORE_TRIES,
            )
        certificate = next((each for each in causes(error) if isinstance(each, ssl.SSLCertVerificationError)), None)
        # guard: a certificate that does not hold, asked again
        if certificate is not None:
            return Refused(
                f"{self.base_url} was not asked",
                f"its certificate does not hold ({certificate.verify_message}), so no key was sent",
                "Check DEVIN_API_URL; behind a company proxy, point SSL_CERT_FILE at the company's certificates",
            )
        # Of a proxy's own words only the status: the rest may hold anything.
        if proxy and isinstance(error, httpx.ProxyError) and str(error).startswith("407"):
            return Refused(
                f"{self.base_url} was not asked",
                f"the proxy of {proxy} asks for another user name and password (407)",
                f"Set {proxy} to http://user:password@host:port, or unset it",
            )
        return self._not_connected(error, connection)

    def _not_connected(self, error: Exception | None, connection: "_Connection") -> NotConnected:
        proxy = self._proxy_of(connection)
        return NotConnected(
            f"{self.base_url} cannot be reached",
            why_not_connected(error, urlsplit(self.base_url).netloc, proxy),
            f"Check {f'{proxy}, ' if proxy else ''}DEVIN_API_URL and the network, then run again",
            more_tries=MORE_TRIES if self.is_awaited else MORE_TRIES_AT_FIRST,
        )

    def _leave(self, connection: "_Connection") -> None:
        """Have a connection that is not established send nothing if it ever is, and use another for this thread."""
        connection.cut()
        connection.close()
        self._connections.remove(connection)
        del self._of_thread.connection

    def _proxy_of(self, connection: "_Connection") -> str | None:
        """The variable that names the proxy through which a connection was to go, if through any."""
        api = urlsplit(self.base_url)
        is_direct = connection.goes_to in (None, (api.hostname, api.port or _PORTS[api.scheme]))
        return None if is_direct else proxy_variable(api.scheme)

    def _connection_of_thread(self) -> "_Connection":
        connection: _Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = self._of_thread.connection = self._new_connection()
            self._connections.append(connection)
        return connection


class _Connection:
    """One thread's connection, which can be cut while the thread waits for it.

    httpx bounds each read of a socket, so a response that comes byte by byte, headers included, would never end.
    """

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.is_cut = False
        self.is_connected = threading.Event()
        self.goes_to: tuple[str, int] | None = None
        self._stream: Any = None
        self._socket: socket.socket | None = None

    def see(self, event: str, info: Mapping[str, Any]) -> None:
        """Note where a new connection leads, and its socket; httpx reports both, of a SOCKS proxy as `socks.…`."""
        if event.endswith(".connect_tcp.started"):
            self.goes_to = (info["host"], info["port"])
        # guard: a SOCKS proxy that never answers
        #   | .endswith(".connect_tcp.complete") -> == "connection.connect_tcp.complete"
        if event.endswith(".connect_tcp.complete"):
            self._let_go()
            self._stream = info["return_value"]
            # A second handle on it: TLS takes the first one over, and shutting down either ends both.
            self._socket = self._stream.get_extra_info("socket").dup()
            # guard: a connection that comes about after it was given up
            if self.is_cut:
                # Too late: nothing is to be sent any more.
                self._stream.close()
                self._let_go()
        if event == "http11.send_request_headers.started" and info["request"].method != b"CONNECT":
            self.is_connected.set()
        if event == "socks.setup_socks5_connection.failed":
            # Left open by httpx.
            self._stream.close()

    def cut(self) -> None:
        """End what the thread waits for."""
        self.is_cut = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self.http.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._socket is not None:
            self._socket.close()


class _DeadlineWatchdog:
    """Cuts connections whose time is over, from one thread for all of them.

    A thread for each request would wait for the interpreter's lock, to begin and to end, while others read pages.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[_Connection, float] = {}
        self._looks_at = math.inf
        self._thread: threading.Thread | None = None
        self._is_over = False

    @contextmanager
    def over(self, connection: _Connection, seconds: float) -> Iterator[None]:
        """Cut a connection unless the block ends in time."""
        connection.is_cut = False
        with self._changed:
            self._due[connection] = at = time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="devin-api-watch", daemon=True)
                # guard: headers or a body that never end
                self._thread.start()
            if at < self._looks_at:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._due.pop(connection, None)

    def end(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._is_over:
                now = time.monotonic()
                for connection in [connection for connection, at in self._due.items() if at <= now]:
                    del self._due[connection]
                    connection.cut()
                self._looks_at = min(self._due.values(), default=math.inf)
                self._changed.wait(min(self._looks_at - now, threading.TIMEOUT_MAX))


def _new_http(tls: ssl.SSLContext, *, trust_env: bool) -> httpx.Client:
    return httpx.Client(
        headers={
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": f"devin-pipeline/{_own_version()}",
        },
        limits=httpx.Limits(max_connections=1),
        # guard: a redirect | False -> True
        follow_redirects=False,
        trust_env=trust_env,
        verify=tls,
    )


def _is_a_warning(record: logging.LogRecord) -> bool:
    # A filter, not a level: setting every logger to DEBUG, before or after us, does not undo it.
    return record.levelno >= logging.WARNING


def _own_version() -> str:
    try:
        return version("devin-pipeline")
    except PackageNotFoundError:
        return "0"


def _whole_body(response: httpx.Response, request: Request) -> bytes:
    """Read a body piece by piece, so that a bomb meets the cap."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        unfold = None
    elif encoding in ("gzip", "x-gzip"):
        unfold = _Gunzip(request)
    else:
        # guard: compression nobody asked for | raise _damaged -> unfold = None and
        raise _damaged(request, "it is compressed in a way that was not asked for")
    pieces: list[bytes] = []
    size = 0
    for raw in response.iter_raw():
        for piece in unfold.feed(raw) if unfold else (raw,):
            pieces.append(piece)
            size += len(piece)
            # guard: a gzip bomb
            if size > LARGEST_BODY:
                raise TooLarge(
                    f"{request.name} could not be read",
                    f"a page is larger than {LARGEST_BODY // 2**20} MB",
                    "Run again; if it stays, report these days to Devin's support",
                )
    if unfold is not None:
        # guard: gzip that ends early
        unfold.require_end()
    return b"".join(pieces)


class _Gunzip:
    """gzip in small steps, as strict as the program of that name; unlike httpx's own, it notices an early end.

    Of what follows a member, another member is read. Anything else, such as padding with zero bytes, is ignored: the
    member's checksum and the JSON in it show whether the body is whole. A single byte that is not zero may be the
    beginning of a member, so that the body was cut short.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._after_member = b""
        self._is_over = False

    def feed(self, raw: bytes) -> Iterator[bytes]:
        while raw and not self._is_over:
            if self._member.eof:
                raw = self._after_member + raw
                if len(raw) < len(_GZIP_MAGIC):
                    self._after_member = raw
                    return
                self._after_member = b""
                # guard: padding behind a gzip body
                if not raw.startswith(_GZIP_MAGIC):
                    self._is_over = True
                    return
                self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                piece = self._member.decompress(raw, _GZIP_STEP)
            except zlib.error:
                raise _damaged(self._request, "its compression is damaged") from None
            yield piece
            raw = self._member.unconsumed_tail or self._member.unused_data

    def require_end(self) -> None:
        if not self._member.eof or self._after_member.strip(b"\0"):
            raise _damaged(self._request, "it was cut short")


def _damaged(request: Request, why: str) -> Unreachable:
    return Unreachable(
        f"{request.name} could not be read",
        f"an answer arrived damaged: {why}",
        "Check the network and any proxy in between, then run again",
        more_tries=MORE_TRIES,
    )


def _error_of(response: httpx.Response, request: Request) -> DevinError:
    """Return the error for a status other than 200: what it means and what to do about it."""
    status = response.status_code
    name, variable, needs = request.name, request.endpoint.key_variable, request.endpoint.needs
    if status in MORE_TRIES_BY_STATUS:
        return _transient(response, request)
    if status == HTTPStatus.UNAUTHORIZED:
        return Refused(
            f"{name} was refused (401)",
            f"Devin does not know the key in {variable}, or it has expired",
            f"Set {variable} to {needs}",
            status=status,
        )
    if status == HTTPStatus.FORBIDDEN:
        return Refused(
            f"{name} was refused (403)",
            f"the key in {variable} lacks the permission",
            f"{variable} must be {needs}; or leave this table out of DEVIN_FEEDS",
            status=status,
        )
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE):
        return Refused(
            f"{name} was refused ({status})",
            f"this endpoint, API version {request.endpoint.key} or the organization is gone, or the key has no "
            "enterprise scope",
            "Check DEVIN_API_URL and DEVIN_ORG_ID; or leave this table out of DEVIN_FEEDS",
            status=status,
        )
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
        detail = _validation_detail(response)
        return Refused(
            f"{name} was refused ({status})",
            f"Devin does not accept the request{f': {detail}' if detail else ''}",
            "Check DEVIN_ORG_ID and the days asked for; if they are right, the API has changed",
            status=status,
        )
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Refused(
            f"{name} was redirected ({status})",
            "a key is never sent on to another address",
            "Set DEVIN_API_URL to the API's own address",
            status=status,
        )
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return InvalidResponse(
            f"{name} could not be read",
            f"Devin answered {status} where 200 is promised",
            "Run again; if it stays, the API has changed",
            more_tries=2,
        )
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Refused(
            f"{name} was refused ({status})",
            "Devin, or a proxy in between, does not accept the request",
            f"Check DEVIN_API_URL and {variable}",
            status=status,
        )
    return Unreachable(
        f"{name} could not be read",
        f"Devin answered {status}",
        "Run again later",
    )


def _transient(response: httpx.Response, request: Request) -> DevinError:
    status = response.status_code
    wait = requested_wait(response.headers.get("retry-after"), response.headers.get("date"), datetime.now(UTC))
    more_tries = MORE_TRIES_BY_STATUS[status]
    # guard: Retry-After of years
    if wait is not None and wait > LONGEST_RETRY_AFTER_SECONDS:
        return RateLimited(
            f"{request.name} could not be read",
            f"Devin asks for a pause of {wait:.0f} s ({status})",
            "Run again after that; the days already stored stay as they are",
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(
            f"{request.name} could not be read",
            "Devin answers that there are too many requests (429)",
            "Run again later, or for fewer days at once",
            more_tries=more_tries,
            wait_seconds=wait,
        )
    return Unreachable(
        f"{request.name} could not be read",
        f"Devin answered {status} each time",
        "Run again later",
        more_tries=more_tries,
        wait_seconds=wait,
    )


def _validation_detail(response: httpx.Response) -> str:
    """Return where and what of a validation error, in words that are ours or the framework's; never what it quotes."""
    try:
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > _LARGEST_ERROR_BODY:
                return ""
        reported = json.loads(bytes(body))
    except (httpx.RequestError, ValueError, RecursionError):
        return ""
    details = reported.get("detail") if isinstance(reported, dict) else None
    if not isinstance(details, list):
        return ""
    asked = {"query", *response.request.url.params.keys()}
    lines = []
    for detail in details[:5]:
        if isinstance(detail, dict) and isinstance(detail.get("msg"), str):
            loc = detail.get("loc")
            where = (
                ".".join(step for step in loc if isinstance(step, str) and step in asked)
                if isinstance(loc, list)
                else ""
            )
            what = _VALIDATION_MESSAGE.match(detail["msg"])
            # guard: what an error's body says | what.group() if what else '' -> detail['msg']
            lines.append(f"{where} {what.group() if what else ''}".strip())
    return "; ".join(line for line in lines if line)
