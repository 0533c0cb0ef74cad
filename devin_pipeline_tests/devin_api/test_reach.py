"""An address that cannot be reached: which one, why, and how soon that is known. Real sockets on loopback."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from devin_pipeline.devin_api import DevinClient, DevinError, Refused
from devin_pipeline.devin_api import transport as transport_module
from devin_pipeline.devin_api.endpoints import SESSIONS_V3
from devin_pipeline.devin_api.errors import NotConnected
from devin_pipeline_tests.dagster_server.running import free_port
from devin_pipeline_tests.devin_api.scripted import (
    V3_KEY,
    Asked,
    Reply,
    client_of,
    days,
    page_v3,
    read_all,
    reset,
    serving,
)
from devin_pipeline_tests.devin_api.test_tls import certificate, no_settings, serving_tls

pytestmark = pytest.mark.notices(
    "an address that has never answered ends the read",
    "a connect that never ends",
    "a connection that comes about after it was given up",
    "an address that was just given up",
)

__all__ = ["no_settings"]

DAYS = days(119)
ELSEWHERE = "https://api.devin.invalid"


@contextmanager
def black_hole() -> Iterator[tuple[socket.socket, ExitStack]]:
    """A port that answers no connect, because others wait there to be accepted: the port, and those others."""
    with ExitStack() as others, socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            waiting = others.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server, others


def url_of(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def read(url: str) -> DevinError:
    """The error with which a read of 119 days ends, by real clocks."""
    with DevinClient(base_url=url, v3_key=V3_KEY) as client, pytest.raises(DevinError) as caught:
        read_all(client, SESSIONS_V3, DAYS)
    return caught.value


@pytest.fixture
def within_ten_seconds() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 10


def test_an_address_that_refuses_is_named_with_the_reason_within_seconds(within_ten_seconds: None) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    error = read(url)
    host = url.removeprefix("http://")
    assert isinstance(error, NotConnected)
    assert error.what == f"{url} cannot be reached"
    assert error.why == f"no connection to the host {host} came about (Connection refused)"
    assert error.todo == "Check DEVIN_API_URL and the network, then run again"


def test_a_host_that_nobody_knows_is_named_with_the_reason_within_seconds(
    monkeypatch: pytest.MonkeyPatch, within_ten_seconds: None
) -> None:
    def unknown(*args: object, **more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = read(ELSEWHERE)
    assert error.what == f"{ELSEWHERE} cannot be reached"
    assert error.why == "the name of the host api.devin.invalid could not be looked up (Name or service not known)"


def test_a_lookup_or_a_connect_that_never_ends_is_given_up_within_seconds_and_for_all_that_ask_next(
    monkeypatch: pytest.MonkeyPatch, within_ten_seconds: None
) -> None:
    with black_hole() as (server, _):
        url = url_of(server)
        error = read(url)
        assert (error.what, isinstance(error, NotConnected)) == (f"{url} cannot be reached", True)
        assert error.why.endswith("came about in time")
        # The next feed of the same run.
        began = time.monotonic()
        assert (read(url).why, time.monotonic() - began < 1) == (error.why, True)
    monkeypatch.setattr(transport_module, "SECONDS_TO_CONNECT", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1))
    assert read(ELSEWHERE).why == "no connection to the host api.devin.invalid came about in time"


def test_a_connection_that_comes_about_after_it_was_given_up_sends_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "SECONDS_TO_CONNECT", 0.1)
    with black_hole() as (server, others):
        assert read(url_of(server)).why.endswith("came about in time")
        others.close()
        server.settimeout(2)
        received = []
        with suppress(TimeoutError):
            while True:
                accepted, _ = server.accept()
                with accepted:
                    accepted.settimeout(4)
                    received.append(accepted.recv(4096))
    # Of the others, and of the late connection.
    assert len(received) > 1
    assert set(received) == {b""}


def test_an_invalid_certificate_is_named_with_the_reason_and_the_address(
    tmp_path: Path, within_ten_seconds: None
) -> None:
    with serving_tls(certificate(tmp_path)) as served:
        error = read(served.url)
    assert isinstance(error, Refused)
    assert error.what == f"{served.url} was not asked"
    assert error.why == "its certificate does not hold (self-signed certificate), so no key was sent"


def test_a_server_without_tls_is_named_as_such(within_ten_seconds: None) -> None:
    with serving(lambda asked: page_v3([])) as served:
        error = read(served.url.replace("http:", "https:"))
    assert error.why.startswith("no TLS connection to the host 127.0.0.1:")


@pytest.mark.parametrize(("tunnel", "why"), [(None, "Connection refused"), (502, "did not connect (502)")])
def test_a_proxy_that_is_down_or_leads_nowhere_is_named_with_the_reason(
    tunnel: int | None, why: str, monkeypatch: pytest.MonkeyPatch, within_ten_seconds: None
) -> None:
    with serving(lambda asked: page_v3([]), tunnel=tunnel or 502) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url if tunnel else f"http://user:hunter2@127.0.0.1:{free_port()}")
        error = read(ELSEWHERE)
    assert error.what == f"{ELSEWHERE} cannot be reached"
    assert "the proxy of HTTPS_PROXY" in error.why
    assert why in error.why
    assert error.todo == "Check HTTPS_PROXY, DEVIN_API_URL and the network, then run again"
    assert "hunter2" not in str(error)


def test_a_proxy_that_accepts_and_never_answers_is_given_up_within_seconds(
    monkeypatch: pytest.MonkeyPatch, within_ten_seconds: None
) -> None:
    monkeypatch.setattr(transport_module, "SECONDS_TO_CONNECT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for scheme in ("http", "socks5h"):
            monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{silent.getsockname()[1]}")
            assert read(ELSEWHERE).why == "no connection to the proxy of ALL_PROXY came about in time"


def test_a_service_that_has_answered_is_waited_for_when_it_is_down() -> None:
    with serving(lambda asked: page_v3([])) as served, client_of(served) as client:
        read_all(client, SESSIONS_V3, DAYS[:1])
    with client_of(served) as client:
        # By a clock that moves only by sleeping: six tries, and the day fails alone.
        batch = read_all(client, SESSIONS_V3, DAYS[:1])
    assert batch.requests == 6
    assert isinstance(batch.failures[DAYS[0]], NotConnected)


def test_an_address_that_a_run_without_a_person_asks_is_waited_for_from_the_start() -> None:
    with serving(lambda asked: page_v3([])) as served:
        pass
    with client_of(served, is_awaited=True) as client:
        batch = read_all(client, SESSIONS_V3, DAYS[:1])
    assert batch.requests == 6
    with client_of(served) as client, pytest.raises(NotConnected):
        read_all(client, SESSIONS_V3, DAYS[:1])


def test_a_service_that_resets_the_first_connections_gets_all_tries(within_ten_seconds: None) -> None:
    def script(asked: Asked) -> Reply:
        return Reply(instead=reset) if asked.number < 6 else page_v3([])

    with serving(script) as served, client_of(served) as client:
        assert read_all(client, SESSIONS_V3, DAYS[:1]).failures == {}
