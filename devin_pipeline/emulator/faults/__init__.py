"""What may go wrong between a client and the API, sent on purpose over the real socket.

A fault changes one response: its status, its bytes, what its page says. An event changes the enterprise just before a
response, as other people do while somebody reads. Which request meets which of them is a script's business. What the
correct response is does not belong here.
"""

from devin_pipeline.emulator.faults.events import EVENTS, Event, organization_deleted, updated
from devin_pipeline.emulator.faults.exchange import LONGEST_SECONDS, Exchange
from devin_pipeline.emulator.faults.pages import LIES, Edited, Misheard, TwoAtOnce, WhereListed
from devin_pipeline.emulator.faults.responses import (
    REFUSALS,
    TRANSIENT,
    Body,
    Compressed,
    CutShort,
    Echo,
    Fault,
    Reset,
    Silence,
    Status,
    Trickle,
    Typed,
)
from devin_pipeline.emulator.faults.script import FaultScript

__all__ = [
    "EVENTS",
    "LIES",
    "LONGEST_SECONDS",
    "REFUSALS",
    "TRANSIENT",
    "Body",
    "Compressed",
    "CutShort",
    "Echo",
    "Edited",
    "Event",
    "Exchange",
    "Fault",
    "FaultScript",
    "Misheard",
    "Reset",
    "Silence",
    "Status",
    "Trickle",
    "TwoAtOnce",
    "Typed",
    "WhereListed",
    "organization_deleted",
    "updated",
]
