"""What the API itself counts of sessions and pull requests, to be set next to what is stored.

Shapes: `metrics/sessions` and `metrics/prs` of https://docs.devin.ai/api-reference/v3.
"""

from dataclasses import dataclass

import msgspec

from devin_pipeline.devin_api.errors import InvalidResponse


@dataclass(frozen=True)
class Counts:
    """What the API counts in a window; None where it does not say.

    Attributes:
        sessions: created in it.
        pull_requests: created in it, in whatever state they are.
    """

    sessions: int | None
    pull_requests: int | None


class _Sessions(msgspec.Struct, frozen=True):
    sessions_created_count: int | None = None


class _PullRequests(msgspec.Struct, frozen=True):
    prs_created_count: int | None = None


def counts(sessions: bytes, pull_requests: bytes) -> Counts:
    """Read both answers.

    Raises:
        InvalidResponse: one of them is not what the API promises.
    """
    try:
        return Counts(
            msgspec.json.decode(sessions, type=_Sessions).sessions_created_count,
            msgspec.json.decode(pull_requests, type=_PullRequests).prs_created_count,
        )
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise InvalidResponse(
            "The counts of sessions and pull requests could not be read",
            "the answer is not JSON, or counts are no whole numbers",
            "Check that DEVIN_API_URL leads to the Devin API; if it does, the API has changed",
        ) from None
