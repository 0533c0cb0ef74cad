"""What other people do to the enterprise while somebody reads."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from devin_pipeline.emulator.enterprise import Enterprise


class Event(Protocol):
    """Something other people do while somebody reads: changes the enterprise, or gives False when it cannot."""

    __name__: str

    def __call__(self, enterprise: Enterprise, rng: random.Random) -> bool:
        """Let it happen."""


def created_in_a_closed_day(enterprise: Enterprise, rng: random.Random) -> bool:
    """A session appears next to one that is more than a day old, as if it had been hidden until now."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    return _created_near(enterprise, rng, lambda created_at: created_at < yesterday - timedelta(hours=1))


def created_now(enterprise: Enterprise, rng: random.Random) -> bool:
    """A session is created now."""
    enterprise.add_session(created_at=datetime.now(UTC).replace(microsecond=0))
    return True


def created_at_the_start_of_a_day(enterprise: Enterprise, rng: random.Random) -> bool:
    """A session appears whose creation is the bound between two billing days, to the second."""
    if not (sessions := enterprise.sessions):
        return False
    near = rng.choice(sessions).created_at - timedelta(hours=8)
    enterprise.add_session(created_at=near.replace(hour=8, minute=0, second=0, microsecond=0))
    return True


def updated(enterprise: Enterprise, rng: random.Random) -> bool:
    """A few sessions consume more; one pull request is merged."""
    return bool(enterprise.grow_acus(rng.randrange(1, 4)) + enterprise.merge_pull_requests(1))


def analysed(enterprise: Enterprise, rng: random.Random) -> bool:
    """An analysis arrives."""
    return bool(enterprise.add_analyses(1))


def session_deleted(enterprise: Enterprise, rng: random.Random) -> bool:
    """A session is deleted."""
    if sessions := enterprise.sessions:
        enterprise.delete_session(rng.choice(sessions).session_id)
    return bool(sessions)


def organization_deleted(enterprise: Enterprise, rng: random.Random) -> bool:
    """An organization is deleted, unless it is the last."""
    standing = [organization for organization in enterprise.organizations if not organization.is_deleted]
    if len(standing) > 1:
        enterprise.delete_organization(rng.choice(standing).org_id)
    return len(standing) > 1


def _created_near(enterprise: Enterprise, rng: random.Random, is_wanted: Callable[[datetime], bool]) -> bool:
    if instants := [session.created_at for session in enterprise.sessions if is_wanted(session.created_at)]:
        enterprise.add_session(created_at=rng.choice(instants) + timedelta(seconds=rng.randrange(3_600)))
    return bool(instants)


EVENTS: tuple[Event, ...] = (
    created_in_a_closed_day,
    created_now,
    created_at_the_start_of_a_day,
    updated,
    analysed,
    session_deleted,
)
"""What happens between pages (H36-H38, H40). `organization_deleted` is apart: there are only a few of them."""
