"""How a window is written into a query, by version of the API."""

import math
from typing import Literal

from devin_pipeline.devin_api.windows import Window, iso

Clock = Literal["created", "updated"]
Params = list[tuple[str, str]]


def created_v2(window: Window) -> Params:
    """The query of a v2 window of creation."""
    return window_v2("created", window)


def updated_v2(window: Window) -> Params:
    """The query of a v2 window of updates."""
    return window_v2("updated", window)


def created_v3(window: Window) -> Params:
    """The query of a v3 window of creation."""
    return window_v3("created", window)


def updated_v3(window: Window) -> Params:
    """The query of a v3 window of updates."""
    return window_v3("updated", window)


def window_v2(clock: Clock, window: Window) -> Params:
    """The query of a v2 window."""
    return [(f"{clock}_date_from", iso(window.start)), (f"{clock}_date_to", iso(window.end))]


def window_v3(clock: Clock, window: Window) -> Params:
    """The query of a v3 window."""
    return [
        (f"{clock}_after", str(math.floor(window.start.timestamp()))),
        (f"{clock}_before", str(math.ceil(window.end.timestamp()))),
        # By default the sessions of deleted organizations are hidden, and their ACUs with them.
        # guard: sessions of deleted organizations | ("include_deleted_orgs", "true"),
        ("include_deleted_orgs", "true"),
    ]
