"""Proxies and certificates of the environment: used if they can be, and else named by their variable."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from devin_pipeline.devin_api import DevinClient, Refused, Unreachable
from devin_pipeline.devin_api.endpoints import SESSIONS_V3
from devin_pipeline.errors import ConfigurationError
from devin_pipeline_tests.devin_api.scripted import V3_KEY, Asked, page_v3, serving
from devin_pipeline_tests.devin_api.socks import serving_socks
from devin_pipeline_tests.devin_api.test_tls import DAY, ask, certificate, no_settings, serving_tls

pytestmark = pytest.mark.notices("a proxy that httpx takes and no socket does", "a SOCKS proxy that never answers")

__all__ = ["no_settings"]

ELSEWHERE = "https://api.devin.invalid"
PROXIES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
NO_PROXIES = [
    "socks4://127.0.0.1:1080",
    "foo://x",
    "http://[",
    "http://",
    "://",
    ":::",
    "::1",
    "[]",
    "host:port",
    "http://host:99999",
    "http://host:0",
    "http://host:-1",
    "http://.example.com",
    "http://ex\u00e4mple..com",
    "http://" + "a" * 300,
    "http://\udcff",
    "http://host:1\n",
    "http://user:hunter2\x07@host:1",
    "socks5://user:" + "hunter2" * 40 + "@host:1",
]


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY"])
@pytest.mark.parametrize("scheme", ["socks5h", "socks5"])
def test_a_socks_proxy_of_the_environment_is_gone_through_and_shown_no_key(
    scheme: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with serving_tls(file) as served, serving_socks(port_of(served.url)) as proxy:
        monkeypatch.setenv(variable, f"{scheme}://{proxy.address}")
        ask(served.url)
        assert len(served.asked) == 1
        assert proxy.asked == [served.url.removeprefix("https://")]
        # Names are looked up by the proxy: where it is needed, nobody else may know them.
        with pytest.raises(Refused, match="certificate does not hold"):
            ask(ELSEWHERE)
        assert proxy.asked[1:] == ["api.devin.invalid:443"]
        assert V3_KEY.encode() not in proxy.passed_on


def test_a_socks_proxy_that_never_answers_is_given_up_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_socks(says=b"") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5h://{proxy.address}")
        with (
            DevinClient(base_url=ELSEWHERE, v3_key=V3_KEY, timeout_seconds=0.5) as client,
            pytest.raises(Unreachable, match="no connection to the proxy of ALL_PROXY came about in time"),
        ):
            client.updated_in(SESSIONS_V3, DAY[0], max_pages=1, deadline_seconds=9)


@pytest.mark.parametrize("says", [b"\x05\xff", b"\x05\x02", b"\x05", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x04\x5b"])
def test_a_socks_proxy_that_wants_a_password_or_is_not_one_is_named(
    says: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving_socks(says=says) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5h://{proxy.address}")
        with pytest.raises(Unreachable, match="the proxy of ALL_PROXY did not connect") as caught:
            ask(ELSEWHERE)
    assert "ALL_PROXY" in caught.value.todo


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_that_cannot_be_reached_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "http://user:hunter2@127.0.0.1:9")
    with pytest.raises(Unreachable) as caught:
        ask(ELSEWHERE)
    assert f"to the proxy of {variable}" in caught.value.why
    assert variable in caught.value.todo
    assert "hunter2" not in str(caught.value)
    # Where no proxy is gone through, none is named.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1, ::1, .devin.invalid, 10.0.0.0/8")
    with pytest.raises(Unreachable) as caught:
        ask(ELSEWHERE)
    assert "PROXY" not in str(caught.value).upper()


def test_a_proxy_that_wants_another_password_is_named_and_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda asked: page_v3([]), tunnel=407) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//user:hunter2@"))
        with pytest.raises(Refused, match=r"the proxy of HTTPS_PROXY .* \(407\)") as caught:
            ask(ELSEWHERE)
    assert "hunter2" not in str(caught.value)
    assert [type(asked) for asked in proxy.asked] == [Asked]


@pytest.mark.parametrize("value", NO_PROXIES)
@pytest.mark.parametrize("variable", PROXIES)
def test_what_is_not_a_proxy_is_refused_by_the_variables_name_and_never_shown(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two that can be used: neither is blamed.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        DevinClient(v3_key=V3_KEY)
    assert caught.value.why == f"the value of {variable} is not the address of a proxy"
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize(
    "value", ["[::1", "[::1]", ":::", "fe80::/10", "host:port", "localhost,\udcff", "a,http://x:y"]
)
def test_what_no_proxy_cannot_hold_is_refused_by_the_variables_name(
    value: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=f"the value of {variable} holds"):
        DevinClient(v3_key=V3_KEY)


@pytest.mark.parametrize("value", ["*", "", " ", ",,", "::1, 127.0.0.1", "10.0.0.0/8", ".example.com, *.x.y,*", "a b"])
def test_what_no_proxy_can_hold_is_taken(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", value)
    DevinClient(v3_key=V3_KEY).close()


@pytest.mark.parametrize("value", ["127.0.0.1:9", "http://u:p%40ss@127.0.0.1:9/", "https://[::1]:9", "", "proxy"])
def test_any_form_of_a_proxys_address_is_taken(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    DevinClient(v3_key=V3_KEY).close()


@pytest.mark.parametrize(
    ("variable", "holds", "why"),
    [
        ("SSL_CERT_FILE", None, "No such file or directory"),
        ("SSL_CERT_FILE", "a folder", "Is a directory"),
        ("SSL_CERT_FILE", "garbage", "it holds no certificates"),
        ("SSL_CERT_FILE", "", "it holds no certificates"),
        ("SSL_CERT_FILE", "-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n", "it holds no certificates"),
        ("SSL_CERT_DIR", None, "does not name a folder"),
        ("SSL_CERT_DIR", "garbage", "does not name a folder"),
        ("SSLKEYLOGFILE", "a folder", "Is a directory"),
    ],
)
def test_certificates_that_cannot_be_used_are_refused_by_the_variables_name(
    variable: str, holds: str | None, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "hunter2"
    if holds == "a folder":
        named.mkdir()
    elif holds is not None:
        named.write_text(holds)
    monkeypatch.setenv(variable, str(named))
    with pytest.raises(ConfigurationError, match=f"{variable} cannot be used") as caught:
        DevinClient(v3_key=V3_KEY)
    assert why in caught.value.why
    assert f"Set {variable} to" in caught.value.todo


def test_over_plain_http_on_this_machine_neither_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "NO_PROXY"):
        monkeypatch.setenv(name, "foo://[")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    with serving(lambda asked: page_v3([])) as served:
        ask(served.url)
    assert len(served.asked) == 1
