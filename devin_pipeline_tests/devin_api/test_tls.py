"""TLS and proxies of the environment: whom the key is shown to. Servers on loopback, certificates made on the spot."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from devin_pipeline.devin_api import DevinClient, Refused, Unreachable
from devin_pipeline.devin_api.endpoints import SESSIONS_V3
from devin_pipeline_tests.devin_api.scripted import V3_KEY, Reply, Served, days, page_v3, serving, trickle_headers

pytestmark = pytest.mark.notices(
    "a proxy before loopback", "a certificate that does not hold", "a certificate that does not hold, asked again"
)

DAY = days(1)
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def certificate(folder: Path, host: str = "127.0.0.1", ends: timedelta = timedelta(days=1)) -> Path:
    """A certificate that vouches for itself, with its private key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=9))
        .not_valid_after(NOW + ends)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return file


@contextmanager
def serving_tls(file: Path, reply: Reply | None = None) -> Iterator[Served]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with serving(lambda asked: reply or page_v3([]), tls=context) as served:
        yield served


def ask(url: str) -> None:
    with DevinClient(base_url=url, v3_key=V3_KEY, timeout_seconds=5) as client:
        client.updated_in(SESSIONS_V3, DAY[0], max_pages=1, deadline_seconds=9)


UNTRUSTED: dict[str, tuple[bool, Callable[[Path], Path]]] = {
    "of nobody we know": (False, certificate),
    "of another host": (True, lambda folder: certificate(folder, host="127.0.0.9")),
    "expired": (True, lambda folder: certificate(folder, ends=-timedelta(days=1))),
}


@pytest.mark.parametrize("why", UNTRUSTED)
def test_a_certificate_that_does_not_hold_is_shown_no_key(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_known, make = UNTRUSTED[why]
    file = make(tmp_path)
    if is_known:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with serving_tls(file) as served, pytest.raises(Refused, match="certificate does not hold") as caught:
        ask(served.url)
    assert caught.value.more_tries == 0
    assert served.asked == []


def test_a_companys_own_certificates_are_trusted_when_the_environment_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with serving_tls(file) as served:
        ask(served.url)
    assert len(served.asked) == 1


def test_over_tls_too_a_response_is_cut_at_its_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with (
        serving_tls(file, Reply(instead=trickle_headers)) as served,
        DevinClient(base_url=served.url, v3_key=V3_KEY, timeout_seconds=0.5) as client,
        pytest.raises(Unreachable, match="answer came in time"),
    ):
        client.updated_in(SESSIONS_V3, DAY[0], max_pages=1, deadline_seconds=9)


def test_a_proxy_of_the_environment_sees_no_request_to_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda asked: page_v3([])) as proxy, serving(lambda asked: page_v3([])) as served:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        ask(served.url)
    assert len(served.asked) == 1
    assert proxy.asked == []


def test_a_proxy_of_the_environment_is_asked_for_a_tunnel_and_shown_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda asked: page_v3([])) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(Unreachable):
            ask("https://api.devin.invalid")
    (asked,) = proxy.asked
    assert asked.path == "api.devin.invalid:443"
    assert V3_KEY not in repr(asked)
