"""A stand-in Devin API on loopback, with a made-up enterprise behind it.

What the API answers, as read from its published pages, belongs here: endpoints, keys, validation, paging, item shapes,
faults on demand, and the invented sessions that fill them. Nothing of the pipeline does: this room imports only the
standard library, starlette, uvicorn and msgspec, so that it and the client are two separate readings of the API and
neither hides the other's mistakes.
"""

from devin_pipeline.emulator.bill import Posting, billing_day
from devin_pipeline.emulator.demo import demo_enterprise
from devin_pipeline.emulator.enterprise import Enterprise, Query
from devin_pipeline.emulator.faults import FaultScript
from devin_pipeline.emulator.server import EmulatorServer, RecordedRequest
from devin_pipeline.emulator.sessions import (
    Feed,
    Organization,
    PullRequest,
    Session,
    v2_insights_item,
    v2_item,
    v3_insights_item,
    v3_item,
)

__all__ = [
    "EmulatorServer",
    "Enterprise",
    "FaultScript",
    "Feed",
    "Organization",
    "Posting",
    "PullRequest",
    "Query",
    "RecordedRequest",
    "Session",
    "billing_day",
    "demo_enterprise",
    "v2_insights_item",
    "v2_item",
    "v3_insights_item",
    "v3_item",
]
