"""Which requests the Dagster UI takes: those of its own tabs and of programs on this machine, not of other sites.

Dagster's webserver knows no login, takes mutations over GET and in bodies that a browser sends across sites without
asking, and believes any Host. So any site that is open in a browser on the same machine could operate it. The guard
stands before all its routes and looks at headers only, never at bodies.

Nor does the webserver look at what it is sent: a GraphQL body that is not an object, a log's path that leads elsewhere,
the id of an unknown run raise somewhere in it. The guard responds in its place, without the traceback.
"""

import logging

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

_log = logging.getLogger(__name__)

LARGEST_HEAD_BYTES = 2**16
"""Of the address and all headers together."""

_POLICY_VIOLATION = 1008
# The routes that take more from a request than which file of Dagster's to send, and what is wrong where they fail.
_TAKING_INPUT = {
    "/graphql": (400, "This is not a GraphQL request: one JSON object with a query."),
    "/logs/": (404, "There is no such log."),
    "/download_debug/": (404, "There is no such run."),
    "/notebook": (404, "There is no such notebook."),
    "/dagit/notebook": (404, "There is no such notebook."),
}


class OriginGuard:
    """ASGI middleware for a webserver of plain HTTP on loopback.

    Args:
        app: What is guarded.
        port: The port of 127.0.0.1 it is served at.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._url = f"http://127.0.0.1:{port}"
        # Browsers leave the port out where it is the default one.
        suffix = "" if port == 80 else f":{port}"
        self._hosts = (f"127.0.0.1{suffix}", f"localhost{suffix}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it: 403 with a text that says why; a websocket is closed before it opens."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        # guard: a head of 200 kB
        elif scope["type"] == "http" and _head_bytes(scope) > LARGEST_HEAD_BYTES:
            await PlainTextResponse("The address and headers of this request are too long.", 431)(scope, receive, send)
        elif (why := self._why_not(scope)) is None:
            await self._pass_on(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(_POLICY_VIOLATION, why)(scope, receive, send)
        else:
            todo = f"To open the UI, type {self._url} into the browser."
            text = f"This request is refused.\nThe reason: {why}.\n{todo}"
            await PlainTextResponse(text, status_code=403)(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and respond to it if the app fails on what is in it."""
        is_answered = False

        async def send_on(message: Message) -> None:
            nonlocal is_answered
            is_answered = is_answered or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception as error:
            response = next((found for path, found in _TAKING_INPUT.items() if scope["path"].startswith(path)), None)
            # guard: input that Dagster's webserver cannot use | response is None or is_answered -> True
            if response is None or is_answered:
                raise
            # The kind only: the text may quote what was sent.
            _log.warning("A request to the Dagster UI failed (%s)", type(error).__name__)
            if scope["type"] == "websocket":
                await WebSocketClose(_POLICY_VIOLATION, response[1])(scope, receive, send)
            else:
                await PlainTextResponse(response[1], response[0])(scope, receive, send)

    def _why_not(self, scope: Scope) -> str | None:
        """Why a request is refused; None if it is not."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        # A name of another's domain may be pointed at 127.0.0.1 (DNS rebinding); its pages would then be of our origin.
        # guard: two hosts at once | len(hosts) != 1 or
        # guard: a Dagster UI under another host's name | or hosts[0] not in self._hosts
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return f"it is not addressed to {' or '.join(self._hosts)}"
        own = f"http://{hosts[0]}"
        # guard: another site's Origin
        if any(origin != own for origin in headers.getlist("origin")):
            return "another site makes it (Origin)"
        # Images, scripts, links and frames of another site carry no Origin.
        # guard: another site's Sec-Fetch-Site
        if any(site not in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")):
            return "another site makes it (Sec-Fetch-Site)"
        # guard: another site's Referer
        if any(not referer.startswith(f"{own}/") for referer in headers.getlist("referer")):
            return "another site makes it (Referer)"
        if scope["type"] == "websocket":
            # guard: a websocket without Origin | if "origin" in headers else "a websocket must send its Origin"
            return None if "origin" in headers else "a websocket must send its Origin"
        return _why_not_asked_so(scope["method"], scope["path"], headers.getlist("content-type"))


def _head_bytes(scope: Scope) -> int:
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return headers + len(scope["path"]) + len(scope["query_string"])


def _why_not_asked_so(method: str, path: str, content_types: list[str]) -> str | None:
    # By its beginning: Starlette's route for it matches "/graphql\n" too.
    # guard: GraphQL under a path like its own | not path.startswith("/graphql") -> path != "/graphql"
    if not path.startswith("/graphql"):
        # Nothing but GraphQL changes anything: events are not to be reported from outside (`/report_asset_…`).
        # guard: events reported from outside | if method in ("GET", "HEAD") else "only /graphql takes it"
        return None if method in ("GET", "HEAD") else "only /graphql takes it"
    # guard: GraphQL by GET
    if method != "POST":
        return "/graphql takes POST only"
    # Dagster looks for this name anywhere in the header, and takes `?query=` with any other: both would let through
    # what a browser sends across sites without asking first, such as "text/plain; application/json".
    # guard: GraphQL as text/plain
    #   | [content_type.partition(";")[0].strip() for content_type in content_types] != ["application/json"]
    #   -> not any("application/json" in content_type for content_type in content_types)
    if [content_type.partition(";")[0].strip() for content_type in content_types] != ["application/json"]:
        return "/graphql takes application/json only"
    return None
