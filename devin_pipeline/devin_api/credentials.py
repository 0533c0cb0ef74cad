"""The keys and the address: checked before any socket opens, and never shown.

Which environment variable a key comes from is named here, because it is what the reader must change; reading the
environment does not belong here.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from devin_pipeline.errors import ConfigurationError

KeyKind = Literal["v2", "v3"]


@dataclass(frozen=True)
class KeyDeclaration:
    """A kind of key.

    Attributes:
        variable: the environment variable that it comes from.
        shape: what every key of it looks like.
        wanted: what it is, for a reader who sets it.
        needed: what it is, for a reader whose key was refused.
    """

    variable: str
    shape: re.Pattern[str]
    wanted: str
    needed: str


KEYS: dict[KeyKind, KeyDeclaration] = {
    "v2": KeyDeclaration(
        "DEVIN_V2_API_KEY",
        re.compile(r"apk_user_[A-Za-z0-9_-]+"),
        "an Enterprise Admin's personal API key, which starts with apk_user_",
        "a personal API key (apk_user_…) whose owner is an Enterprise Admin",
    ),
    "v3": KeyDeclaration(
        "DEVIN_V3_API_KEY",
        re.compile(r"cog_[A-Za-z0-9_.~+/=-]+"),
        "an enterprise service user's credential, which starts with cog_",
        "an enterprise service user's credential (cog_…)",
    ),
}
VARIABLES: dict[KeyKind, str] = {kind: key.variable for kind, key in KEYS.items()}

_HOST_AND_PORT = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*/*")
_API_VERSION = re.compile(r"/v[0-9][a-z0-9]*(?:/|$)")
_ORGANIZATION = re.compile(r"[A-Za-z0-9_.|-]{1,200}")


class Secret:
    """A key that shows itself only when asked by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key itself, for the one header it belongs in."""
        return self._value

    def __repr__(self) -> str:
        # guard: a key in a repr | "<secret>" -> self._value
        return "<secret>"

    # guard: a key in a pickle | __reduce__ -> reduced
    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


def check_key(kind: KeyKind, value: str) -> str:
    """Return the key stripped of surrounding white space, if it has the shape of its kind.

    Args:
        kind: the API version the key is meant for.
        value: the key as it was configured.

    Raises:
        ConfigurationError: it cannot be a key of that kind. The message never holds any of it.
    """
    # guard: white space around a key | .strip()
    key = value.strip()
    # guard: a key of the wrong kind | KEYS[kind].shape.fullmatch(key) -> True
    if KEYS[kind].shape.fullmatch(key):
        return key
    variable = VARIABLES[kind]
    todo = f"Set {variable} to {KEYS[kind].wanted}"
    if not key:
        why = "it is empty"
    elif any(character.isspace() for character in key):
        why = "it has white space inside"
    elif not key.isascii():
        why = "it has characters that no key has"
    elif kind == "v2" and key.startswith("cog_"):
        why = "it is a service user's credential (cog_…), which v2 does not accept"
        todo = f"That one belongs in {VARIABLES['v3']}. {todo}, or unset it"
    elif kind == "v3" and key.startswith("apk_user_"):
        why = "it is a personal API key (apk_user_…), which v3 does not accept"
        todo = f"That one belongs in {VARIABLES['v2']}. {todo}, or unset it"
    elif key.startswith("apk_") and not key.startswith("apk_user_"):
        why = "it is an organization's service key (apk_…), which only the old v1 API accepts"
    else:
        why = "it does not have the shape of a key"
    # Reporters of errors show the locals of every frame.
    # guard: a bad key in a traceback
    del value, key
    raise ConfigurationError(f"{variable} cannot be used", why, todo)


def masked(value: str) -> str:
    """As much of a key as distinguishes it from others: `cog_…3f9a`.

    Its kind, and of what follows at most an eighth and never more than the last four characters. Of a value that has
    not the shape of a key, its kind at most.
    """
    key = value.strip()
    kind = next((prefix for prefix in ("apk_user_", "apk_", "cog_") if key.startswith(prefix)), "")
    # guard: a key shown whole | min(4, (len(key) - len(kind)) // 8) -> len(key)
    shown = min(4, (len(key) - len(kind)) // 8)
    is_a_key = any(each.shape.fullmatch(key) for each in KEYS.values())
    return f"{kind}…{key[-shown:] if is_a_key and shown else ''}"


def check_url(value: str) -> str:
    """Return the API's base address without a trailing slash, if a key may be sent there.

    Args:
        value: an https address; http is accepted for a loopback address or `localhost` only.

    Raises:
        ConfigurationError: it is not such an address. The message never holds any of it: it may carry a password.
    """
    url = value.strip()
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise _bad_url("it is not an address") from None
    if any(character.isspace() or not character.isprintable() for character in url) or not url.isascii():
        raise _bad_url("it has characters that no address has")
    if parts.scheme not in ("https", "http"):
        raise _bad_url("it does not start with https://")
    if "@" in parts.netloc:
        raise _bad_url("it carries a user name or password")
    if "?" in url or "#" in url:
        raise _bad_url("it carries a query or a fragment")
    if not port_is_valid or not _HOST_AND_PORT.fullmatch(parts.netloc) or not parts.hostname:
        raise _bad_url("its host cannot be read")
    if not _PATH.fullmatch(parts.path) or any(part in (".", "..") for part in parts.path.split("/")):
        raise _bad_url("its path cannot be read")
    if _API_VERSION.search(parts.path):
        raise _bad_url("it names an API version, which is added by the pipeline")
    # guard: a key over plain http
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise _bad_url("keys are sent over http:// to a loopback address only")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Is this host this very machine, by its number or exactly as `localhost`?"""
    # guard: a host that only looks like loopback | host == "localhost" -> "localhost" in host or "127.0.0.1" in host
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_organization(value: str) -> str:
    """Return the organization's id, if it can stand in a path.

    Raises:
        ConfigurationError: it is empty, too long, or has other characters than letters, digits, `_`, `-`, `.` and `|`.
    """
    organization = value.strip()
    # guard: an organization that is a path | _ORGANIZATION.fullmatch(organization) and
    if _ORGANIZATION.fullmatch(organization) and organization not in (".", ".."):
        return organization
    raise ConfigurationError(
        "DEVIN_ORG_ID cannot be used",
        "it is empty or has characters that no organization id has",
        "Set it to an id such as org-…, or unset it to read the whole enterprise",
    )


def _bad_url(why: str) -> ConfigurationError:
    return ConfigurationError(
        "DEVIN_API_URL cannot be used",
        why,
        "Unset it to use https://api.devin.ai, or set it to an https:// address",
    )
