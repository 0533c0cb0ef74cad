"""Dagster's configuration of devin_api and lake, made from the settings. No behaviour of its own.

Keys are named by their variables, so that the UI, run configs and events hold the names, never the values. A key is
looked up when a client opens.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

import dagster as dg
from pydantic import Field

from devin_pipeline.devin_api import DevinClient
from devin_pipeline.lake import Lake, LakeIdentity
from devin_pipeline.settings import V2_KEY, V3_KEY, Settings

_URL = "DEVIN_API_URL"


class DevinApiResource(dg.ConfigurableResource):  # type: ignore[type-arg] # its parameter is for internal use
    """Where Devin's API is and with which keys it is asked."""

    base_url: str
    # So marked, the Dagster UI masks what somebody may have typed in place of a variable's name.
    v2_key: str | None = Field(default=None, json_schema_extra={"dagster__is_secret": True})
    # guard: a key typed into the Dagster UI
    #   | Field(default=None, json_schema_extra={"dagster__is_secret": True}) -> None
    v3_key: str | None = Field(default=None, json_schema_extra={"dagster__is_secret": True})
    org_id: str | None = None

    def client(self, *, is_awaited: bool = False, log: Callable[[str], None] = lambda _: None) -> DevinClient:
        """A client; close it after use.

        Args:
            is_awaited: Whether the address is waited for even if it has not responded to this process yet.
            log: Takes a line about each long wait before a retry.

        Raises:
            ConfigurationError: A key or the URL is malformed; nothing was sent.
        """
        return DevinClient(
            base_url=self.value(self.base_url) or "",
            v2_key=self.value(self.v2_key),
            v3_key=self.value(self.v3_key),
            org_id=self.org_id,
            is_awaited=is_awaited,
            log=log,
        )

    def value(self, given: str | None) -> str | None:
        """What an address or key of the configuration stands for: itself, unless it names a variable."""
        return given

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
"""Keeps persons on the erasure list out of what a step reads and writes: `operations.erase.erased`."""


def devin_api_resource(settings: Settings) -> DevinApiResource:
    """The API of some settings; keys, and a URL that is set, by the names of their variables."""

    class DevinApi(DevinApiResource):
        """Devin's API, at the address and with the keys of the settings."""

        def value(self, given: str | None) -> str | None:
            if given in (V2_KEY, V3_KEY):
                return settings.key(given)
            return settings.api_url if given == _URL else given

    return DevinApi(
        base_url=_URL if _URL in settings.model_fields_set else settings.DEVIN_API_URL,
        v2_key=V2_KEY if settings.key_is_set(V2_KEY) else None,
        v3_key=V3_KEY if settings.key_is_set(V3_KEY) else None,
        org_id=settings.organization,
    )


def lake_resource(settings: Settings) -> LakeResource:
    """The lake of some settings."""
    try:
        url = urlsplit(settings.DEVIN_API_URL)
    except ValueError:
        # It is not an address at all, and this says so.
        url = urlsplit(settings.api_url)
    return LakeResource(
        uri=settings.DEVIN_LAKE,
        kind="demo" if settings.is_demo else "live",
        # Without the port, which may change with each start of a server.
        host=url.hostname or "",
        scope=settings.organization or "enterprise",
        day_starts_at_utc_hour=settings.day_starts_at_utc_hour,
        keeps_text=settings.keeps_text,
    )
