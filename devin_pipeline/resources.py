"""Dagster's configuration of devin_api and lake, read from the environment. No behaviour of its own.

Keys are named by `dg.EnvVar`, so that the UI, run configs and events hold the variables' names, never their values.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

import dagster as dg
from pydantic import Field

from devin_pipeline.devin_api import (
    DevinClient,
    Feed,
    Misconfigured,
    check_key,
    check_organization,
    check_surroundings,
    check_url,
)
from devin_pipeline.lake import Lake, LakeIdentity
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import RAW_SESSION_TABLES

V2_KEY = "DEVIN_V2_API_KEY"
V3_KEY = "DEVIN_V3_API_KEY"
KEY_OF_FEED = {table.name: V2_KEY if table.name.endswith("_v2") else V3_KEY for table in RAW_SESSION_TABLES}
ASKED_OF: dict[str, Feed] = {
    "raw_session_insights_v2": "session_insights_v2",
    "raw_sessions_v3": "sessions_v3",
    "raw_session_insights_v3": "session_insights_v3",
}
"""What the client is asked for, by raw table."""


class DevinApiResource(dg.ConfigurableResource):  # type: ignore[type-arg] # its parameter is for internal use
    """Where Devin's API is and with which keys it is asked."""

    base_url: str
    # So marked, Dagster's page masks what somebody may have typed in place of a variable's name.
    v2_key: str | None = Field(default=None, json_schema_extra={"dagster__is_secret": True})
    # guard: a key typed into the page | Field(default=None, json_schema_extra={"dagster__is_secret": True}) -> None
    v3_key: str | None = Field(default=None, json_schema_extra={"dagster__is_secret": True})
    org_id: str | None = None

    def client(self, *, is_awaited: bool = False) -> DevinClient:
        """A client; close it after use.

        Args:
            is_awaited: Whether the address is waited for even if it has not answered this process yet.

        Raises:
            Misconfigured: A key or the URL is malformed; nothing was sent.
        """
        return DevinClient(
            base_url=self.base_url,
            v2_key=self.v2_key,
            v3_key=self.v3_key,
            org_id=self.org_id,
            is_awaited=is_awaited,
        )

    def __repr__(self) -> str:
        """Without the keys, which Dagster's own repr would show, and the URL, which may carry a password by mistake."""
        return f"DevinApiResource(org_id={self.org_id!r})"

    __str__ = __repr__


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg] # its parameter is for internal use
    """Where the lake lies and whose rows it holds."""

    uri: str
    kind: str
    host: str
    scope: str
    day_starts_at_utc_hour: int
    keeps_text: bool = True

    @property
    def identity(self) -> LakeIdentity:
        """Whose rows the lake must hold."""
        return LakeIdentity(
            kind="demo" if self.kind == "demo" else "live",
            host=self.host,
            scope=self.scope,
            day_starts_at_utc_hour=self.day_starts_at_utc_hour,
        )

    def open(self) -> Lake:
        """The lake, if it is ours or nobody's yet. Who writes to it first claims it, once there is something to write.

        Raises:
            WrongLake: It belongs to another kind, host, scope or day hour.
        """
        lake = Lake(self.uri)
        lake.require_identity(self.identity)
        return lake


Erased = Callable[..., AbstractContextManager[None]]
"""Keeps persons on the erasure list out of what a step reads and writes: `forgetting.erased`."""


def is_demo() -> bool:
    """True when the rows come from the emulator (set by the CLI, never by hand)."""
    return os.environ.get("DEVIN_PIPELINE_DEMO") == "1"


def api_url() -> str:
    """Root of the API (DEVIN_API_URL, default https://api.devin.ai).

    Raises:
        Misconfigured: It is no https URL, nor http to a loopback address.
    """
    return check_url(os.environ.get("DEVIN_API_URL") or "https://api.devin.ai")


def organization() -> str | None:
    """The one organization to read (DEVIN_ORG_ID); None for the whole enterprise."""
    return os.environ.get("DEVIN_ORG_ID", "").strip() or None


def keeps_text() -> bool:
    """False when no free text may be stored (DEVIN_TEXT, `full` or `none`, default `full`).

    Raises:
        Misconfigured: It is neither.
    """
    text = os.environ.get("DEVIN_TEXT", "").strip() or "full"
    if text not in ("full", "none"):
        raise Misconfigured("DEVIN_TEXT cannot be used", "it is neither full nor none", "Set it to one of them")
    return text == "full"


def key_is_set(variable: str) -> bool:
    """True when the variable holds something."""
    return bool(os.environ.get(variable, "").strip())


def feeds_turned_on() -> list[str]:
    """The raw tables to read: DEVIN_FEEDS, or all that the keys allow.

    Raises:
        Misconfigured: DEVIN_FEEDS names no raw table, or one whose key is not set.
    """
    allowed = [feed for feed, variable in KEY_OF_FEED.items() if key_is_set(variable)]
    named = [name.strip() for name in os.environ.get("DEVIN_FEEDS", "").split(",") if name.strip()]
    for name in named:
        if name not in KEY_OF_FEED:
            raise Misconfigured(
                f"DEVIN_FEEDS names {name!r}", "there is no such feed", f"Use some of {', '.join(KEY_OF_FEED)}"
            )
        if allowed and name not in allowed:
            raise Misconfigured(
                f"DEVIN_FEEDS names {name}", f"its key {KEY_OF_FEED[name]} is not set", "Set the key or drop the feed"
            )
    return [feed for feed in allowed if not named or feed in named]


def require_configuration() -> None:
    """Refuse settings that no run could work with, before any request.

    Raises:
        Misconfigured: No key is set, or a key, the URL, the organization, DEVIN_TEXT, DEVIN_FEEDS, or a proxy or
            certificates of the environment are unusable.
    """
    api_url()
    keeps_text()
    if org_id := organization():
        check_organization(org_id)
    for variable in (V2_KEY, V3_KEY):
        if key_is_set(variable):
            check_key("v2" if variable == V2_KEY else "v3", os.environ[variable])
    if not feeds_turned_on():
        raise Misconfigured(
            "There is nothing to read",
            f"neither {V3_KEY} nor {V2_KEY} is set",
            f"Set one or both; `{pipeline_command('demo')}` needs none",
        )
    # guard: a proxy of the environment that cannot be used, before any work
    check_surroundings(api_url())


def devin_api_resource() -> DevinApiResource:
    """The API as the environment says; keys, and a URL that is set, by name."""
    return DevinApiResource(
        base_url=dg.EnvVar("DEVIN_API_URL") if os.environ.get("DEVIN_API_URL") else "https://api.devin.ai",
        v2_key=dg.EnvVar(V2_KEY) if key_is_set(V2_KEY) else None,
        v3_key=dg.EnvVar(V3_KEY) if key_is_set(V3_KEY) else None,
        org_id=organization(),
    )


def lake_resource(hour: int) -> LakeResource:
    """The lake as the environment says (DEVIN_LAKE, default `data`), its days starting at `hour` UTC."""
    try:
        url = urlsplit(os.environ.get("DEVIN_API_URL") or "https://api.devin.ai")
    except ValueError:
        # It is no address at all, and this says so.
        url = urlsplit(api_url())
    return LakeResource(
        uri=os.environ.get("DEVIN_LAKE") or "data",
        kind="demo" if is_demo() else "live",
        # Without the port, on which a server may listen anew.
        host=url.hostname or "",
        scope=organization() or "enterprise",
        day_starts_at_utc_hour=hour,
        keeps_text=keeps_text(),
    )
