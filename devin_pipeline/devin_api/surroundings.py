"""Proxies and certificates that the environment names: which variable is at fault when no connection can be built.

httpx reads them for every address over TLS. It does not say which of them it cannot take, and of some it notices only
when it connects. No message here holds a value: it may hold a password.
"""

import os
import re
import ssl
from pathlib import Path
from urllib.request import getproxies

import httpx

from devin_pipeline.errors import ConfigurationError

_WHAT = "No connection can be prepared"
_HOST = re.compile(r"[0-9A-Za-z._:-]+")
_SCHEMES = ("http", "https", "socks5", "socks5h")
# One byte says how long each is.
_LONGEST_SOCKS_CREDENTIAL = 255


def tls_context() -> ssl.SSLContext:
    """What a server's certificate is held against.

    Raises:
        ConfigurationError: SSL_CERT_FILE, SSL_CERT_DIR or SSLKEYLOGFILE cannot be used.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if not file and folder and not (Path(folder).is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        # OpenSSL would take it for a folder without certificates, and hold every server for an unknown one.
        raise _bad_certificates(
            "SSL_CERT_DIR", "it does not name a folder that can be read", "a folder of certificates"
        )
    try:
        # guard: a certificate that does not hold | create_ssl_context() -> create_ssl_context(verify=False)
        return httpx.create_ssl_context()
    except OSError as error:
        if file and not _holds_certificates(file):
            why = "it holds no certificates" if isinstance(error, ssl.SSLError) else os.strerror(error.errno or 0)
            raise _bad_certificates("SSL_CERT_FILE", why, "a file of certificates in PEM form") from None
        if not os.environ.get("SSLKEYLOGFILE"):
            raise
        raise _bad_certificates("SSLKEYLOGFILE", os.strerror(error.errno or 0), "a file of yours") from None


def check_proxies() -> None:
    """Look at each proxy that the environment names.

    Raises:
        ConfigurationError: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or NO_PROXY cannot be used.
    """
    proxies = getproxies()
    for kind in ("http", "https", "all"):
        if proxies.get(kind) and not _is_proxy(proxies[kind]):
            variable = _variable(kind)
            raise ConfigurationError(
                _WHAT,
                f"the value of {variable} is not the address of a proxy",
                f"Set {variable} to http://host:port, https://…, socks5://… or socks5h://…, or unset it",
            )
    try:
        httpx.Client(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)).close()
    except (httpx.InvalidURL, ValueError):
        variable = _variable("no")
        raise ConfigurationError(
            _WHAT,
            f"the value of {variable} holds what is neither a host, a domain nor an address",
            f"Set {variable} to hosts, domains and addresses, separated by commas and without brackets, or unset it",
        ) from None


def proxy_variable(scheme: str) -> str:
    """The variable that names the proxy for addresses of a scheme, if one does."""
    return _variable(scheme if getproxies().get(scheme) else "all")


def _variable(kind: str) -> str:
    # As `getproxies` looks for them: in any case, and in lower case before all others.
    set_ones = [name for name, value in os.environ.items() if name.lower() == f"{kind}_proxy" and value]
    return min(set_ones, key=lambda name: not name.islower(), default=f"{kind.upper()}_PROXY")


def _is_proxy(address: str) -> bool:
    try:
        url = httpx.URL(address if "://" in address else f"http://{address}")
        host = url.raw_host.decode("ascii")
        # As a socket does, which refuses more than httpx.
        # guard: a proxy that httpx takes and no socket does
        host.encode("idna")
    except (httpx.InvalidURL, ValueError):
        return False
    is_too_long = max(len(url.username), len(url.password)) > _LONGEST_SOCKS_CREDENTIAL
    return (
        url.scheme in _SCHEMES
        and _HOST.fullmatch(host) is not None
        and (url.port is None or 0 < url.port < 2**16)
        and not (url.scheme.startswith("socks") and is_too_long)
    )


def _holds_certificates(file: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except OSError:
        return False
    return True


def _bad_certificates(variable: str, why: str, what: str) -> ConfigurationError:
    return ConfigurationError(_WHAT, f"{variable} cannot be used ({why})", f"Set {variable} to {what}, or unset it")
