"""Talks HTTP with Devin's enterprise API and returns sessions, lists and amounts of the bill as they came.

Keys, requests, retries, paging, the shape of a page and what goes wrong with any of them belong here. Dagster,
storage, the days of a run and the meaning of a session's fields do not. This is the only room that imports httpx.
"""

from devin_pipeline.devin_api.batches import SessionBatch
from devin_pipeline.devin_api.canonical_json import content_hash, content_hash_as_spelled, sha256_of
from devin_pipeline.devin_api.client import DevinClient, FirstPage
from devin_pipeline.devin_api.consumption import BilledDay, Consumption, ConsumptionV2, Scope, endpoint_of
from devin_pipeline.devin_api.credentials import VARIABLES, KeyKind, check_key, check_organization, check_url, masked
from devin_pipeline.devin_api.directory import DIRECTORY_KINDS, DirectoryKind, Entry, Listing
from devin_pipeline.devin_api.endpoints import FEED_BY_TABLE, FEEDS, Clock, Endpoint, Feed, lightest_feeds
from devin_pipeline.devin_api.errors import (
    DevinError,
    InvalidResponse,
    NoProgress,
    RateLimited,
    Refused,
    Unreachable,
)
from devin_pipeline.devin_api.items import Item, canonical_id, read_item
from devin_pipeline.devin_api.pages import Principal
from devin_pipeline.devin_api.paging import Limits
from devin_pipeline.devin_api.transport import check_surroundings
from devin_pipeline.devin_api.updates import Updated
from devin_pipeline.devin_api.windows import Window

__all__ = [
    "DIRECTORY_KINDS",
    "FEEDS",
    "FEED_BY_TABLE",
    "VARIABLES",
    "BilledDay",
    "Clock",
    "Consumption",
    "ConsumptionV2",
    "DevinClient",
    "DevinError",
    "DirectoryKind",
    "Endpoint",
    "Entry",
    "Feed",
    "FirstPage",
    "InvalidResponse",
    "Item",
    "KeyKind",
    "Limits",
    "Listing",
    "NoProgress",
    "Principal",
    "RateLimited",
    "Refused",
    "Scope",
    "SessionBatch",
    "Unreachable",
    "Updated",
    "Window",
    "canonical_id",
    "check_key",
    "check_organization",
    "check_surroundings",
    "check_url",
    "content_hash",
    "content_hash_as_spelled",
    "endpoint_of",
    "lightest_feeds",
    "masked",
    "read_item",
    "sha256_of",
]
