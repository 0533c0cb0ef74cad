"""The stand-in API over HTTP: endpoints, keys, errors, and a server to run them on loopback.

What a request gets back belongs here. Which sessions exist, and how they are rendered, does not.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import hashlib
import ipaddress
import json
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Literal, Self

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from devin_pipeline.emulator.billing_endpoints import BillingEndpoints
from devin_pipeline.emulator.enterprise import Enterprise, Key
from devin_pipeline.emulator.faults import Exchange, FaultScript
from devin_pipeline.emulator.queries import Invalid, read_v2, read_v3
from devin_pipeline.emulator.sessions import Feed

KeyKind = Literal["v2", "v3", "limited_v2", "limited_v3", "unknown", "none"]
Handler = Callable[[Request], Awaitable[Response]]

_EVOLUTIONS: dict[str, str] = {
    "grow_acus": "how many sessions consume more",
    "merge_pull_requests": "how many open pull requests are merged",
    "add_analyses": "how many analyses arrive",
    "delete_sessions": "ids of sessions to delete",
    "delete_organizations": "ids of organizations to delete",
}


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request the emulator answered; the kind of its key, never the key. Status 0: a fault left it without one."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    status: int
    key_kind: KeyKind


class _Keys:
    """The keys of one seed. They open nothing but this emulator."""

    def __init__(self, seed: int) -> None:
        def key(prefix: str, kind: KeyKind) -> str:
            return prefix + hashlib.sha256(f"{seed}/{kind}".encode()).hexdigest()[:40]

        self.v2 = key("apk_user_", "v2")
        self.v3 = key("cog_", "v3")
        self.limited_v2 = key("apk_user_", "limited_v2")
        self.limited_v3 = key("cog_", "limited_v3")
        self._kinds: dict[str, KeyKind] = {
            self.v2: "v2",
            self.v3: "v3",
            self.limited_v2: "limited_v2",
            self.limited_v3: "limited_v3",
        }

    def kind(self, headers: Headers) -> KeyKind:
        """Tell which key a request carries."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return "none"
        return self._kinds.get(key.strip(), "unknown")


def _require(kind: KeyKind, version: Literal["v2", "v3"]) -> None:
    if kind == version:
        return
    if kind == f"limited_{version}":
        needs = "Enterprise admin access required" if version == "v2" else "Missing permission"
        raise HTTPException(403, needs)
    raise HTTPException(401, "Not authenticated" if kind == "none" else "Invalid API key")


def _cursor(key: Key) -> str:
    text = json.dumps(key)
    # A remainder on purpose: the API's cursors contain "=", which a client that does not encode them loses.
    text += " " * (1 if len(text) % 3 == 0 else 0)
    return base64.b64encode(text.encode()).decode()


def _key_of(cursor: str | None) -> Key | None:
    if cursor is None:
        return None
    try:
        microseconds, session_id = json.loads(base64.b64decode(cursor.encode(), validate=True))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        microseconds = session_id = None
    if not isinstance(microseconds, int) or not isinstance(session_id, str):
        raise Invalid([{"type": "value_error", "loc": ["query", "after"], "msg": "Invalid cursor", "input": cursor}])
    return microseconds, session_id


class _Api:
    """The endpoints over one enterprise."""

    def __init__(self, enterprise: Enterprise, keys: _Keys, largest_page: int) -> None:
        self._enterprise = enterprise
        self._keys = keys
        self._largest_page = largest_page

    def routes(self) -> list[Route]:
        v2_feeds: tuple[tuple[str, Feed], ...] = (
            ("sessions", "sessions_v2"),
            ("sessions/insights", "session_insights_v2"),
        )
        v3_feeds: tuple[tuple[str, Feed], ...] = (
            ("sessions", "sessions_v3"),
            ("sessions/insights", "session_insights_v3"),
        )
        routes = [Route("/v3/self", self._self), Route("/_emulator/evolve", self._evolve, methods=["POST"])]
        for tail, feed in v2_feeds:
            routes.append(Route(f"/v2/enterprise/{tail}", self._v2(feed)))
            routes.append(Route(f"/v2/enterprise/organizations/{{org_id}}/{tail}", self._v2(feed)))
        for tail, feed in v3_feeds:
            routes.append(Route(f"/v3/enterprise/{tail}", self._v3(feed)))
            routes.append(Route(f"/v3/organizations/{{org_id}}/{tail}", self._v3(feed)))
        return routes

    def _organization(self, request: Request) -> str | None:
        org_id: str | None = request.path_params.get("org_id")
        if org_id is not None and not self._enterprise.has_organization(org_id):
            raise HTTPException(404, "Organization not found")
        return org_id

    def _v2(self, feed: Feed) -> Handler:
        async def sessions(request: Request) -> Response:
            _require(self._keys.kind(request.headers), "v2")
            query, skip, limit = read_v2(request.query_params, feed, request.path_params.get("org_id"))
            self._organization(request)
            limit = min(limit, self._largest_page)
            page = self._enterprise.page_at(query, skip, limit)
            return _listing(
                page.texts,
                before={"has_more": page.has_more},
                after={
                    "limit": limit,
                    "skip": skip,
                    "total": page.total,
                    "next_cursor": skip + limit if page.has_more else None,
                },
            )

        return sessions

    def _v3(self, feed: Feed) -> Handler:
        async def sessions(request: Request) -> Response:
            _require(self._keys.kind(request.headers), "v3")
            query, cursor, first = read_v3(request.query_params, feed, request.path_params.get("org_id"))
            key = _key_of(cursor)
            org_id = self._organization(request)
            page = self._enterprise.page_after(query, key, min(first, self._largest_page))
            is_counted = feed == "session_insights_v3" or org_id is not None
            return _listing(
                page.texts,
                before={},
                after={
                    "end_cursor": _cursor(page.last_key) if page.has_more and page.last_key else None,
                    "has_next_page": page.has_more,
                    "total": page.total if is_counted else None,
                },
            )

        return sessions

    async def _self(self, request: Request) -> Response:
        kind = self._keys.kind(request.headers)
        if kind not in ("v3", "limited_v3"):
            _require(kind, "v3")
        number = hashlib.sha256(f"{self._enterprise.seed}/{kind}".encode()).hexdigest()[:16]
        return JSONResponse(
            {
                "principal_type": "service_user",
                "service_user_id": f"service-user-{number}",
                "service_user_name": "analytics pipeline" if kind == "v3" else "newcomer without permissions",
                "org_id": None,
            }
        )

    async def _evolve(self, request: Request) -> Response:
        kind = self._keys.kind(request.headers)
        if kind not in ("v2", "v3"):
            _require(kind, "v3" if kind == "limited_v3" else "v2")
        try:
            body = json.loads(await request.body())
        except (ValueError, RecursionError):
            body = None
        return JSONResponse(self._evolved(body))

    def _evolved(self, body: Any) -> dict[str, list[str]]:
        enterprise = self._enterprise
        if not isinstance(body, dict) or set(body) - set(_EVOLUTIONS):
            raise _not_accepted("the body must be a JSON object with known keys only")
        for name in ("grow_acus", "merge_pull_requests", "add_analyses"):
            count = body.get(name, 0)
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise _not_accepted(f"{name} must be an integer of at least 0")
        for name in ("delete_sessions", "delete_organizations"):
            ids = body.get(name, [])
            if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
                raise _not_accepted(f"{name} must be a list of strings")
        with enterprise.lock:
            sessions = list(dict.fromkeys(each.removeprefix("devin-") for each in body.get("delete_sessions", [])))
            organizations = list(dict.fromkeys(body.get("delete_organizations", [])))
            known = {session.session_id for session in enterprise.sessions}
            # Everything is checked before anything is done: a refused body changes nothing.
            for each in sessions:
                if each not in known:
                    raise _not_accepted(f"there is no session {each}")
            for each in organizations:
                if each not in {organization.org_id for organization in enterprise.organizations}:
                    raise _not_accepted(f"there is no organization {each}")
            affected: dict[str, list[str]] = {}
            if "grow_acus" in body:
                affected["grow_acus"] = enterprise.grow_acus(body["grow_acus"])
            if "merge_pull_requests" in body:
                affected["merge_pull_requests"] = enterprise.merge_pull_requests(body["merge_pull_requests"])
            if "add_analyses" in body:
                affected["add_analyses"] = enterprise.add_analyses(body["add_analyses"])
            if "delete_sessions" in body:
                affected["delete_sessions"] = [gone for each in sessions for gone in enterprise.delete_session(each)]
            if "delete_organizations" in body:
                affected["delete_organizations"] = [
                    hidden for each in organizations for hidden in enterprise.delete_organization(each)
                ]
        return affected


def _not_accepted(problem: str) -> Invalid:
    accepted = ", ".join(f"{name} ({meaning})" for name, meaning in _EVOLUTIONS.items())
    return Invalid([{"type": "value_error", "loc": ["body"], "msg": f"{problem}; accepted: {accepted}", "input": None}])


def _listing(texts: list[bytes], before: dict[str, Any], after: dict[str, Any]) -> Response:
    # Items are joined as texts: they were encoded once, and verbatim ones need not be JSON at all.
    head = "".join(f"{json.dumps(key)}:{json.dumps(value)}," for key, value in before.items())
    tail = "".join(f",{json.dumps(key)}:{json.dumps(value)}" for key, value in after.items())
    body = b'{%b"items":[%b]%b}' % (head.encode(), b",".join(texts), tail.encode())
    return Response(body, media_type="application/json")


async def _refusal(_: Request, error: Exception) -> Response:
    if isinstance(error, Invalid):
        return JSONResponse({"detail": error.detail}, status_code=422)
    if isinstance(error, HTTPException):
        return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=error.headers)
    raise error


class _Recorder:
    """The outermost layer: delays, marks and records every answer, and lets the fault script have its way with it."""

    def __init__(self, app: ASGIApp, server: EmulatorServer, latency_seconds: float) -> None:
        self._app = app
        self._server = server
        self._latency_seconds = latency_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        def record(status: int) -> None:
            self._server._record(
                RecordedRequest(
                    method=scope["method"],
                    path=scope["path"],
                    query=tuple(QueryParams(scope["query_string"]).multi_items()),
                    status=status,
                    key_kind=self._server._keys.kind(Headers(scope=scope)),
                )
            )

        async def mark_and_record(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Devin-Emulator"] = "1"
                # Recorded before the first byte leaves: a client that has its answer finds its request in the record.
                record(message["status"])
            await send(message)

        if self._latency_seconds:
            await asyncio.sleep(self._latency_seconds)
        if (script := self._server._faults) is not None:
            connection = self._server._connection(scope)
            enterprise = self._server.enterprise
            exchange = Exchange(self._app, scope, receive, mark_and_record, connection, record, enterprise)
            if await script.play(exchange):
                return
        await self._app(scope, receive, mark_and_record)


class EmulatorServer:
    """Serves an enterprise on loopback from a thread of its own, for as long as the `with` block lasts.

    Args:
        enterprise: What to serve; it may change meanwhile.
        port: 0 takes a free one.
        host: A loopback address: anybody who reaches the emulator can read its keys and change its sessions.
        latency_seconds: How long each request waits before it is answered.
        largest_page: More items than this are in no page, whatever was asked for; v2 says so in `limit`.

    Raises:
        ValueError: `host` is not a loopback address.
    """

    def __init__(
        self,
        enterprise: Enterprise,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        latency_seconds: float = 0,
        largest_page: int = 200,
    ) -> None:
        self._address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        if not self._address.is_loopback:
            raise ValueError(f"the emulator serves loopback only, not {host}")
        self.enterprise = enterprise
        self._keys = _Keys(enterprise.seed)
        self._faults: FaultScript | None = None
        self.billing = BillingEndpoints(enterprise, self._require_key, largest_page)
        """The endpoints of the bill and the directory, each of which can be refused."""
        self._port = port
        self._requests: list[RecordedRequest] = []
        self._requests_lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._server: uvicorn.Server | None = None
        app = Starlette(
            routes=[*_Api(enterprise, self._keys, largest_page).routes(), *self.billing.routes()],
            # Level 1: the pages of a benchmark are large, and the server shares its cores with the client measured.
            middleware=[Middleware(GZipMiddleware, minimum_size=1000, compresslevel=1)],
            exception_handlers={HTTPException: _refusal, Invalid: _refusal},
        )
        app.router.redirect_slashes = False
        self.app: ASGIApp = _Recorder(app, self, latency_seconds)

    @property
    def url(self) -> str:
        """Where it answers, without a trailing slash.

        Raises:
            RuntimeError: Not started.
        """
        if self._socket is None:
            raise RuntimeError("the emulator is not running")
        host = f"[{self._address}]" if self._address.version == 6 else str(self._address)
        return f"http://{host}:{self._port}"

    @property
    def v2_key(self) -> str:
        """A personal key of an Enterprise Admin."""
        return self._keys.v2

    @property
    def v3_key(self) -> str:
        """A service user's credential with `ViewAccountSessions`."""
        return self._keys.v3

    @property
    def limited_v2_key(self) -> str:
        """A personal key of someone who is not an Enterprise Admin: 403."""
        return self._keys.limited_v2

    @property
    def limited_v3_key(self) -> str:
        """A service user's credential without permissions: 403."""
        return self._keys.limited_v3

    def _require_key(self, request: Request, version: Literal["v2", "v3"]) -> None:
        _require(self._keys.kind(request.headers), version)

    @property
    def requests(self) -> list[RecordedRequest]:
        """What was asked so far, in the order it was answered."""
        with self._requests_lock:
            return list(self._requests)

    def forget_requests(self) -> None:
        """Empty the record."""
        with self._requests_lock:
            self._requests.clear()

    def _record(self, request: RecordedRequest) -> None:
        with self._requests_lock:
            self._requests.append(request)

    def script(self, script: FaultScript | None) -> None:
        """Let a script of faults loose on the requests from now on; None ends it."""
        self._faults = script

    def _connection(self, scope: Scope) -> asyncio.Transport:
        """The connection a request came over, for faults that no answer expresses.

        Raises:
            RuntimeError: Not started.
        """
        if self._server is None:
            raise RuntimeError("the emulator is not running")
        client = tuple(scope["client"])
        connections = self._server.server_state.connections
        return next(each.transport for each in connections if getattr(each, "client", None) == client)

    def start(self) -> None:
        """Bind, and answer from now on.

        Raises:
            OSError: The port is taken.
        """
        if self._thread is not None:
            raise RuntimeError("the emulator is running already")
        family = socket.AF_INET6 if self._address.version == 6 else socket.AF_INET
        # asyncio switches Nagle's algorithm off only where the protocol is spelled out; with it, each page takes 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((str(self._address), self._port))
            # Listening before the thread runs: the first request waits in the backlog instead of being refused.
            listener.listen(256)
        except OSError:
            listener.close()
            raise
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            lifespan="off",
            ws="none",
            loop="asyncio",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        self._server = uvicorn.Server(config)
        self._socket = listener
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="devin-emulator", daemon=True
        )
        self._thread.start()
        # Not before it runs: one that is stopped while it starts would leave its transports to the garbage collector.
        while not self._server.started and self._thread.is_alive():
            self._thread.join(0.005)

    def stop(self) -> None:
        """Stop answering and give the port back; requests under way get half a second."""
        if self._server is None or self._thread is None or self._socket is None:
            return
        self._server.should_exit = True
        self._thread.join(0.5)
        if self._thread.is_alive():
            # Requests cut off here are not errors; the next start sets the level again.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            self._server.force_exit = True
            self._thread.join(5)
        self._socket.close()
        self._server = self._thread = self._socket = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
