"""What the guarded Dagster UI refuses, over real sockets and from real pages of other sites in a real browser.

Each attack is made on the unguarded webserver of the same instance too, where it must succeed: else it proves nothing.
"""

import asyncio
import contextlib
import http.client
import http.server
import itertools
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser
from playwright.sync_api import Page as Tab
from starlette.responses import PlainTextResponse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from devin_pipeline.dagster_server.origin_guard import OriginGuard
from devin_pipeline_tests.dagster_server.conftest import REBOUND, LiveUi
from devin_pipeline_tests.dagster_server.running import DagsterUi, environment, eventually, free_port, started

pytestmark = [
    pytest.mark.xdist_group("live"),
    pytest.mark.notices(
        "a Dagster UI under another host's name",
        "another site's Origin",
        "another site's Sec-Fetch-Site",
        "another site's Referer",
        "a websocket without Origin",
        "GraphQL under a path like its own",
        "events reported from outside",
        "GraphQL by GET",
        "GraphQL as text/plain",
        "a Dagster UI in another site's frame",
        "a Dagster UI without its guard",
    ),
]

Headers = tuple[tuple[str, str], ...]
JSON = ("Content-Type", "application/json")
UPGRADE: Headers = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "x3JJHMbDL1EzLkh9GBhXDw=="),
    ("Sec-WebSocket-Protocol", "graphql-ws"),
)
_fresh = itertools.count()


def a_pool() -> str:
    """A name that no pool of the instance has yet."""
    return f"pool_{next(_fresh)}"


def limit(pool: str) -> str:
    """A mutation that shows in the instance and harms nothing."""
    return f'mutation {{ setConcurrencyLimit(concurrencyKey: "{pool}", limit: 1) }}'


def pools(ui: DagsterUi) -> set[str]:
    """The pools whose limit somebody has set."""
    return {
        each["concurrencyKey"]
        for each in ui.ask("{ instance { concurrencyLimits { concurrencyKey } } }")["instance"]["concurrencyLimits"]
    }


def forged_events(ui: DagsterUi) -> set[str]:
    """The assets that are not ours and have an event."""
    found = ui.ask("{ assetsOrError { ... on AssetConnection { nodes { key { path } } } } }")
    names = {node["key"]["path"][0] for node in found["assetsOrError"]["nodes"]}
    return {name for name in names if name.startswith("pool_")}


def changed(ui: DagsterUi) -> set[str]:
    """What was changed by name, as a limit or as an event."""
    return pools(ui) | forged_events(ui)


@pytest.fixture(scope="module")
def unguarded(live: LiveUi, bytecode: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterUi]:
    """Dagster's own webserver over the same instance."""
    port = free_port()
    ui = DagsterUi(f"http://127.0.0.1:{port}")
    command = ["dagster-webserver", "--empty-workspace", "-h", "127.0.0.1", "-p", str(port)]
    log = tmp_path_factory.mktemp("unguarded") / "log"
    with started(command, environment(live.settings, bytecode), log):
        eventually(ui.answers, 60, "the unguarded Dagster UI answers")
        yield ui


# Request by request


def status(ui: DagsterUi, method: str, path: str, headers: Headers = (), body: str = "") -> int:
    """The status of one request with these headers and, unless they have one, the Host of the Dagster UI."""
    return response_of(ui, method, path, headers, body)[0]


def response_of(ui: DagsterUi, method: str, path: str, headers: Headers = (), body: str = "") -> tuple[int, str]:
    """The status and the text of a response."""
    own = ui.url.removeprefix("http://")
    connection = http.client.HTTPConnection(own, timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in (*(() if dict(headers).keys() & {"Host"} else (("Host", own),)), *headers):
        connection.putheader(name, value.replace("OWN", own))
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body.encode())
    try:
        response = connection.getresponse()
        # After an upgrade there is no end to wait for.
        return response.status, "" if response.status == 101 else response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", ()),
        ("/runs", (("Accept", "text/html"),)),
        ("/server_info", (("Host", "localhost:PORT"),)),
        ("/server_info", (("Origin", "http://OWN"),)),
        ("/server_info", (("Sec-Fetch-Site", "none"),)),
        ("/server_info", (("Sec-Fetch-Site", "same-origin"), ("Referer", "http://OWN/runs"))),
    ],
)
def test_the_dagster_ui_and_programs_on_this_machine_are_answered(live: LiveUi, path: str, headers: Headers) -> None:
    port = live.ui.url.rpartition(":")[2]
    assert status(live.ui, "GET", path, tuple((name, value.replace("PORT", port)) for name, value in headers)) == 200


@pytest.mark.parametrize(
    "headers",
    [
        (("Host", "rebound.example:PORT"),),
        (("Host", "127.0.0.1"),),
        (("Host", "127.0.0.1:1"),),
        (("Host", "127.0.0.1.nip.example:PORT"),),
        (("Host", ""),),
        (("Origin", "http://evil.example"),),
        (("Origin", "null"),),
        (("Origin", "http://127.0.0.1"),),
        (("Origin", "https://OWN"),),
        (("Origin", "http://OWN.evil.example"),),
        # The names of loopback are two origins: who listens on [::1] at this port is not us.
        (("Origin", "http://localhost:PORT"),),
        (("Origin", "http://OWN"), ("Origin", "http://evil.example")),
        (("Sec-Fetch-Site", "cross-site"),),
        (("Sec-Fetch-Site", "same-site"),),
        (("Referer", "http://evil.example/"),),
        (("Referer", "http://OWN.evil.example/"),),
        (("Referer", "http://127.0.0.1:1/"),),
    ],
)
def test_what_is_addressed_to_another_host_or_made_by_another_site_is_refused(
    live: LiveUi, unguarded: DagsterUi, headers: Headers
) -> None:
    port = live.ui.url.rpartition(":")[2]
    sent = tuple((name, value.replace("PORT", port)) for name, value in headers)
    assert status(live.ui, "GET", "/server_info", sent) == 403
    origin = () if "Origin" in dict(sent) else (("Origin", "http://OWN"),)
    assert status(live.ui, "GET", "/graphql", (*UPGRADE, *origin, *sent)) != 101
    assert status(unguarded, "GET", "/server_info", sent) == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "body"),
    [
        ("GET", "/graphql?query=MUTATION", (), ""),
        ("GET", "/graphql?query=MUTATION", (JSON,), ""),
        ("GET", "/graphql?query=MUTATION", (("Origin", "http://OWN"), ("Sec-Fetch-Site", "same-origin")), ""),
        # Dagster's route takes a line feed at its end for nothing.
        ("GET", "/graphql%0A?query=MUTATION", (), ""),
        ("POST", "/graphql?query=MUTATION", (), ""),
        ("POST", "/graphql?query=MUTATION", (("Content-Type", "text/plain"),), ""),
        ("POST", "/graphql?query=MUTATION", (("Content-Type", "multipart/form-data; boundary=x"),), "--x--"),
        ("POST", "/graphql?query=MUTATION", (("Content-Type", "application/x-www-form-urlencoded"),), ""),
        ("POST", "/graphql?query=MUTATION", (("Content-Type", "Application/JSON"),), "{}"),
        ("POST", "/graphql", (("Content-Type", "application/graphql"),), "PLAIN"),
        ("POST", "/graphql", (("Content-Type", "text/plain; application/json"),), "BODY"),
        ("POST", "/graphql", (("Content-Type", "application/jsonp"),), "BODY"),
        ("POST", "/report_asset_materialization/NAME", (JSON,), "{}"),
        ("POST", "/report_asset_materialization/NAME", (), ""),
        ("POST", "/report_asset_observation/NAME", (JSON,), '{"metadata": {"a": "b"}}'),
        ("POST", "/report_asset_check/NAME?check_name=c&passed=true", (), ""),
    ],
)
def test_nothing_but_json_posted_to_graphql_changes_anything(
    live: LiveUi, unguarded: DagsterUi, method: str, path: str, headers: Headers, body: str
) -> None:
    def attack(ui: DagsterUi, name: str) -> int:
        mutation = limit(name)
        text = body.replace("BODY", f'{{"query": {json.dumps(mutation)}}}').replace("PLAIN", mutation)
        return status(ui, method, path.replace("MUTATION", quote(mutation)).replace("NAME", name), headers, text)

    ours, theirs = a_pool(), a_pool()
    assert attack(live.ui, ours) == 403
    assert attack(unguarded, theirs) == 200
    assert ours not in changed(live.ui)
    # An evaluation alone makes no asset.
    assert "report_asset_check" in path or theirs in changed(live.ui)


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "HEAD"])
def test_no_other_method_reaches_graphql(live: LiveUi, method: str) -> None:
    assert status(live.ui, method, "/graphql", (("Access-Control-Request-Method", "POST"),)) == 403


def test_a_websocket_opens_for_the_dagster_ui_alone(live: LiveUi, unguarded: DagsterUi) -> None:
    assert status(live.ui, "GET", "/graphql", (*UPGRADE, ("Origin", "http://OWN"))) == 101
    for foreign in ((), (("Origin", "http://evil.example"),)):
        assert status(live.ui, "GET", "/graphql", (*UPGRADE, *foreign)) == 403
        assert status(unguarded, "GET", "/graphql", (*UPGRADE, *foreign)) == 101


NO_BODY = ""
QUERY = '{"query": "{ version }"}'


@pytest.mark.notices("input that Dagster's webserver cannot use", "values that GraphQL cannot use")
@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/graphql", f"[{QUERY}]", 400),
        ("/graphql", "[]", 400),
        ("/graphql", "null", 400),
        ("/graphql", "[" * 200_000, 400),
        ("/graphql", "1" * 5000, 400),
        ("/graphql", '{"query": 1}', 400),
        ("/graphql", '{"query": "{ version }", "variables": [1]}', 400),
        ("/graphql", '{"query": "{ capturedLogs(logKey: [\\"..\\", \\"..\\"]) { stdout } }"}', 400),
        ("/graphql", '{"query": "{ runsFeedOrError(limit: 1, cursor: \\"x\\", view: RUNS) { __typename } }"}', 400),
        ("/logs/..%2f..%2fhistory%2fruns.db", NO_BODY, 404),
        ("/logs/..", NO_BODY, 404),
        ("/logs/x", NO_BODY, 404),
        ("/logs/a%00/err", NO_BODY, 404),
        ("/download_debug/unknown", NO_BODY, 404),
        ("/download_debug/%00", NO_BODY, 404),
    ],
)
def test_what_dagster_cannot_use_of_a_request_gets_an_answer_of_4xx_without_a_traceback(
    live: LiveUi, unguarded: DagsterUi, path: str, body: str, expected: int
) -> None:
    method, headers = ("POST", (JSON,)) if body else ("GET", ())
    assert response_of(unguarded, method, path, headers, body)[0] == 500
    found, text = response_of(live.ui, method, path, headers, body)
    assert found == expected, text
    assert all(word not in text for word in ("Traceback", "stack", ".py"))
    assert "Traceback" not in log_of(live)


@pytest.mark.parametrize(
    "message",
    ["junk", "[]", b"\0", '{"type": "start"}', '{"type": "start", "id": [], "payload": {"query": "{ version }"}}'],
)
def test_what_dagster_cannot_use_on_a_websocket_closes_it_without_a_traceback(
    live: LiveUi, message: str | bytes
) -> None:
    url = live.ui.url.replace("http", "ws")
    with connect(f"{url}/graphql", origin=Origin(live.ui.url), subprotocols=[Subprotocol("graphql-ws")]) as opened:
        opened.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            opened.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    assert "Traceback" not in log_of(live)


@pytest.mark.notices("a head of 200 kB")
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/server_info", (("X-Long", "x" * 200_000),)),
        ("/server_info", tuple((f"X-{number}", "x" * 100) for number in range(2000))),
        (f"/server_info?{'x' * 200_000}", ()),
    ],
)
def test_an_address_and_headers_of_200_kb_are_refused(
    live: LiveUi, unguarded: DagsterUi, path: str, headers: Headers
) -> None:
    # Dagster's own webserver takes any header, and an address of up to 64 kB.
    assert status(unguarded, "GET", path, headers) == (400 if "?" in path else 200)
    assert status(live.ui, "GET", path, headers) == 431


@pytest.mark.notices("a head without end")
def test_headers_without_end_are_not_read_to_their_end(live: LiveUi, unguarded: DagsterUi) -> None:
    def bytes_read(ui: DagsterUi) -> int:
        host, _, port = ui.url.removeprefix("http://").partition(":")
        sent = 0
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
            while sent < 16_000_000:
                sent += connection.send(b"x" * 100_000)
        return sent

    assert bytes_read(live.ui) < 8_000_000
    assert bytes_read(unguarded) >= 16_000_000


def log_of(live: LiveUi) -> str:
    """What the webserver has logged."""
    return (Path(live.settings["DAGSTER_HOME"]).parent / "ui.log").read_text()


@pytest.mark.notices("two hosts at once")
def test_a_request_with_two_hosts_is_refused_by_the_server_and_by_the_guard(live: LiveUi) -> None:
    async def ask(*hosts: str) -> int:
        guarded = httpx.ASGITransport(OriginGuard(PlainTextResponse("seen"), port=3000))
        async with httpx.AsyncClient(transport=guarded) as client:
            headers = [("Host", host) for host in hosts]
            return (await client.get("http://127.0.0.1:3000/", headers=headers)).status_code

    assert status(live.ui, "GET", "/server_info", (("Host", "OWN"), ("Host", "rebound.example"))) == 400
    assert asyncio.run(ask("127.0.0.1:3000")) == 200
    assert asyncio.run(ask("127.0.0.1:3000", "rebound.example")) == 403


def test_at_the_default_port_hosts_and_origins_have_none() -> None:
    async def ask(url: str) -> int:
        guarded = httpx.ASGITransport(OriginGuard(PlainTextResponse("seen"), port=80))
        async with httpx.AsyncClient(transport=guarded) as client:
            return (await client.get(url, headers={"Origin": "http://localhost"})).status_code

    assert asyncio.run(ask("http://localhost/")) == 200
    assert asyncio.run(ask("http://localhost:3000/")) == 403


# From pages in a browser

# Functions (ui, name, mutation) of a page of another site; each ends when the browser is done with it.
DONE_BY_AN_ELEMENT = """(ui, name, mutation) => new Promise(done => {
    const element = document.createElement(TAG);
    element.onload = element.onerror = () => done();
    element[ATTRIBUTE] = `${ui}/graphql?query=${encodeURIComponent(mutation)}`;
    document.body.append(element); })"""
DONE_BY_A_FORM = """(ui, name, mutation) => new Promise(done => {
    const frame = document.createElement('iframe'), form = document.createElement('form');
    frame.name = name;
    document.body.append(frame, form);
    frame.onload = () => done();
    Object.assign(form, {method: 'post', enctype: ENCTYPE, target: name,
                         action: `${ui}/graphql?query=${encodeURIComponent(mutation)}`});
    form.submit(); })"""
ATTACKS = {
    "an image": DONE_BY_AN_ELEMENT.replace("TAG", "'img'").replace("ATTRIBUTE", "'src'"),
    "a script": DONE_BY_AN_ELEMENT.replace("TAG", "'script'").replace("ATTRIBUTE", "'src'"),
    "a form": DONE_BY_A_FORM.replace("ENCTYPE", "'application/x-www-form-urlencoded'"),
    "a form with files": DONE_BY_A_FORM.replace("ENCTYPE", "'multipart/form-data'"),
    "a GET": """(ui, name, mutation) =>
        fetch(`${ui}/graphql?query=${encodeURIComponent(mutation)}`, {mode: 'no-cors'})""",
    "a text with ?query=": """(ui, name, mutation) =>
        fetch(`${ui}/graphql?query=${encodeURIComponent(mutation)}`, {method: 'POST', mode: 'no-cors', body: 'x'})""",
    "JSON that calls itself text": """(ui, name, mutation) =>
        fetch(`${ui}/graphql`, {method: 'POST', mode: 'no-cors', body: JSON.stringify({query: mutation}),
                                  headers: {'Content-Type': 'text/plain; application/json'}})""",
    "an event": """(ui, name) =>
        fetch(`${ui}/report_asset_materialization/${name}`, {method: 'POST', mode: 'no-cors'})""",
}
AS_JSON = """([ui, mutation]) => fetch(`${ui}/graphql`, {
    method: 'POST', body: JSON.stringify({query: mutation}), headers: {'Content-Type': 'application/json'}
}).then(response => response.status, () => 'refused by the browser')"""
WEBSOCKET = """ui => new Promise(done => {
    const socket = new WebSocket(`${ui.replace('http', 'ws')}/graphql`, 'graphql-ws');
    socket.onopen = () => done('opened');
    socket.onerror = () => done('refused'); })"""


class _ASite(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A site</title><body>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port_of_a_site() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _ASite) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module", params=["127.0.0.1", "evil.localhost"])
def site(request: pytest.FixtureRequest, browser: Browser, port_of_a_site: int) -> Iterator[Tab]:
    """A page of a neighbour on this machine, and one of a site that the browser takes for another."""
    tab = browser.new_page()
    tab.goto(f"http://{request.param}:{port_of_a_site}/")
    yield tab
    tab.close()


@pytest.mark.parametrize("attack", ATTACKS)
def test_another_site_changes_nothing(site: Tab, live: LiveUi, unguarded: DagsterUi, attack: str) -> None:
    ours, theirs = a_pool(), a_pool()
    for ui, name in ((live.ui, ours), (unguarded, theirs)):
        site.evaluate(f"([ui, name, mutation]) => ({ATTACKS[attack]})(ui, name, mutation)", [ui.url, name, limit(name)])
    assert changed(unguarded) & {ours, theirs} == {theirs}


def test_another_site_opens_no_websocket_and_frames_nothing(site: Tab, live: LiveUi, unguarded: DagsterUi) -> None:
    assert site.evaluate(WEBSOCKET, live.ui.url) == "refused"
    assert site.evaluate(WEBSOCKET, unguarded.url) == "opened"
    assert site.evaluate(AS_JSON, [live.ui.url, limit(a_pool())]) == "refused by the browser"
    shown = {ui.url: _framed(site, ui.url) for ui in (live.ui, unguarded)}
    assert "Dagster" not in shown[live.ui.url]
    assert "Dagster" in shown[unguarded.url]


def _framed(site: Tab, url: str) -> str:
    site.evaluate(
        """url => new Promise(done => { const frame = document.createElement('iframe');
             frame.onload = () => done(); frame.src = url; document.body.append(frame); })""",
        url,
    )
    return site.frames[-1].content()


def test_a_name_that_was_pointed_at_this_machine_changes_nothing(
    browser: Browser, live: LiveUi, unguarded: DagsterUi
) -> None:
    # To the browser its page is of the same origin as what it asks: no Origin is foreign, no preflight is needed.
    ours, theirs = a_pool(), a_pool()
    statuses = [
        _ask_from_its_own_page(browser, ui.url.replace("127.0.0.1", REBOUND), name)
        for ui, name in ((live.ui, ours), (unguarded, theirs))
    ]
    assert statuses == [403, 200]
    assert pools(unguarded) & {ours, theirs} == {theirs}


def test_the_dagster_ui_itself_may_change_settings(browser: Browser, live: LiveUi) -> None:
    name = a_pool()
    assert _ask_from_its_own_page(browser, live.ui.url, name) == 200
    assert name in pools(live.ui)


def _ask_from_its_own_page(browser: Browser, url: str, pool: str) -> object:
    tab = browser.new_page()
    try:
        tab.goto(f"{url}/server_info")
        return tab.evaluate(AS_JSON, [url, limit(pool)])
    finally:
        tab.close()


def test_a_picture_in_what_the_dagster_ui_shows_changes_nothing(browser: Browser, live: LiveUi) -> None:
    # Dagster draws Markdown of metadata and descriptions with its pictures: they are asked from its own origin.
    name = a_pool()
    tab = browser.new_page()
    tab.goto(f"{live.ui.url}/server_info")
    tab.evaluate(
        f"([ui, name, mutation]) => ({ATTACKS['an image']})(ui, name, mutation)", [live.ui.url, name, limit(name)]
    )
    tab.close()
    assert name not in pools(live.ui)


def test_no_other_page_may_frame_it(browser: Browser, live: LiveUi) -> None:
    tab = browser.new_page()
    response = tab.goto(live.ui.url)
    assert response is not None
    assert response.headers["x-frame-options"] == "DENY"
    assert "object-src 'none'" in response.headers["content-security-policy"]
    tab.close()
