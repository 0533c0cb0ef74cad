"""Who and what the made-up enterprise has besides sessions: people, service users, playbooks, limits, billing cycles.

What the lists hold belongs here. Who asks for them, and how they are paged, does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Literal, Protocol

from devin_pipeline.emulator.sessions import JsonObject, Organization
from devin_pipeline.emulator.synthesis import Cast

Roster = Literal[
    "organizations",
    "users",
    "idp_users",
    "service_users",
    "playbooks",
    "organization_playbooks",
    "enterprise_limits",
    "user_limits",
    "usage_tiers",
]

CYCLE_BEGINS_ON = 16
"""Day of the month on which a billing cycle begins, at 08:00 UTC."""
_GENESIS = datetime(2025, 1, 16, 8, tzinfo=UTC)
_TITLES = ("Upgrade a repository", "Triage an alert", "Raise coverage", "Write release notes", "Answer a question")


class HasOrganizations(Protocol):
    """What a directory lists the organizations of."""

    @property
    def organizations(self) -> list[Organization]:
        """All of them, deleted ones included."""


@dataclasses.dataclass
class Member:
    """A person of the enterprise.

    Attributes:
        user_id: As in sessions.
        name: Shown in the directory.
        email: The same.
        org_id: The only organization; None for one whose use is billed to none.
        is_from_idp: Listed among `idp-users` only, with groups in the place of roles.
        groups: Groups of the identity provider.
        cloud_limit: ACUs of a cycle that an override allows; None without one.
    """

    user_id: str
    name: str | None
    email: str | None
    org_id: str | None
    is_from_idp: bool = False
    groups: tuple[str, ...] = ()
    cloud_limit: int | None = None


@dataclasses.dataclass
class ServiceUser:
    """A service user of one organization."""

    service_user_id: str
    name: str
    org_id: str


@dataclasses.dataclass
class Playbook:
    """A playbook of the enterprise, or of one organization."""

    playbook_id: str
    title: str
    body: str
    org_id: str | None
    updated_at: datetime = _GENESIS


@dataclasses.dataclass
class Tier:
    """A usage tier: what a member may consume in a cycle."""

    tier_id: str
    name: str
    cycle_acu_limit: int | None
    is_default: bool = False
    groups: tuple[str, ...] = ()


@dataclasses.dataclass
class Limits:
    """ACUs of a cycle that an organization may consume: 0 blocks it, None does not limit it."""

    cloud: int | None = None
    local: int | None = None
    session: int | None = None


class Directory:
    """The lists of one enterprise; edit them as a test needs.

    Attributes:
        members: By their ids.
        service_users: By their ids.
        playbooks: By their ids.
        tiers: In the order in which they are listed.
        limits: Of organizations, by their ids; those left out have none.
        enterprise_limit: ACUs of a cycle for all; None without a limit.
        cut: How many entries of a list are sent at most: a roster that was cut short.
    """

    def __init__(self, cast: Cast, enterprise: HasOrganizations) -> None:
        self._enterprise = enterprise
        self.members: dict[str, Member] = {}
        self.service_users: dict[str, ServiceUser] = {}
        self.limits: dict[str, Limits] = {}
        self.enterprise_limit: int | None = 20_000
        self.cut: dict[Roster, int] = {}
        for place, organization in enumerate(cast.organizations):
            group = f"devin-{organization.name.lower().replace(' ', '-')}"
            self.limits[organization.org_id] = Limits(
                cloud=(2_000, 1_000, None)[place % 3], session=(None, 60)[place % 2]
            )
            for number, user_id in enumerate(cast.users[organization.org_id][0]):
                name, email = cast.names[user_id]
                self.members[user_id] = Member(
                    user_id,
                    name,
                    email,
                    # The use of some belongs to no organization.
                    None if number == 7 else organization.org_id,
                    is_from_idp=user_id.startswith("okta|"),
                    groups=(group, "devin-all") if user_id.startswith("okta|") else (),
                    cloud_limit=150 if number == 0 else None,
                )
            for number, service_user_id in enumerate(cast.service_users[organization.org_id], start=1):
                self.service_users[service_user_id] = ServiceUser(
                    service_user_id, f"{organization.name} automation {number}", organization.org_id
                )
        owners = [None, None, None, *(organization.org_id for organization in cast.organizations[:2])]
        self.playbooks = {
            playbook_id: Playbook(playbook_id, title, f"# {title}\n\nState what you tried.", org_id)
            for playbook_id, title, org_id in zip(cast.playbooks, _TITLES, owners, strict=True)
        }
        self.tiers = [
            Tier("tier-standard", "Standard", 100, is_default=True),
            Tier("tier-heavy", "Heavy", 400, groups=("devin-platform",)),
            Tier("tier-guests", "Guests", None),
        ]

    def listed(self, roster: Roster, org_id: str | None = None) -> list[JsonObject]:
        """The entries of a list, in its order; those of one organization where the list has them."""
        entries = list(_LISTS[roster](self, org_id))
        return entries[: self.cut.get(roster, len(entries))]

    def limits_of(self, org_id: str) -> JsonObject:
        """What one organization may consume; a limit that it does not have is absent."""
        limits = self.limits.get(org_id, Limits())
        found: JsonObject = {"org_id": org_id}
        for name, limit in (("cloud_agent", limits.cloud), ("local_agent", limits.local)):
            if limit is not None:
                found[name] = {"cycle_acu_limit": limit}
        return found

    def organizations(self) -> list[Organization]:
        """Those that were not deleted."""
        return [organization for organization in self._enterprise.organizations if not organization.is_deleted]

    def _list_organizations(self, _: str | None) -> Iterator[JsonObject]:
        for organization in self.organizations():
            limits = self.limits.get(organization.org_id, Limits())
            yield {
                "org_id": organization.org_id,
                "name": organization.name,
                "created_at": _seconds(_GENESIS),
                "updated_at": _seconds(_GENESIS),
                "max_session_acu_limit": limits.session,
                "max_cycle_acu_limit": limits.cloud,
            }

    def _list_users(self, _: str | None) -> Iterator[JsonObject]:
        for member in self.members.values():
            if not member.is_from_idp:
                role = {"role_id": "role-member", "role_name": "Member", "role_type": "org"}
                yield {
                    "user_id": member.user_id,
                    "email": member.email,
                    "name": member.name,
                    "role_assignments": [{"org_id": member.org_id, "role": role}],
                }

    def _list_idp_users(self, _: str | None) -> Iterator[JsonObject]:
        for member in self.members.values():
            if member.is_from_idp:
                role = {"role_id": "role-member", "role_name": "Member", "role_type": "org"}
                yield {
                    "user_id": member.user_id,
                    "email": member.email,
                    "name": member.name,
                    "idp_role_assignments": [
                        {"idp_group_name": group, "role": role, "org_id": member.org_id} for group in member.groups
                    ],
                }

    def _list_service_users(self, _: str | None) -> Iterator[JsonObject]:
        for each in self.service_users.values():
            role = {"role_id": "role-member", "role_name": "Member", "role_type": "org"}
            yield {
                "service_user_id": each.service_user_id,
                "name": each.name,
                "expires_at": None,
                "role_assignments": [{"org_id": each.org_id, "role": role}],
            }

    def _list_playbooks(self, org_id: str | None) -> Iterator[JsonObject]:
        # The list of the enterprise leaves out those of organizations.
        for playbook in self.playbooks.values():
            if playbook.org_id == org_id:
                yield {
                    "playbook_id": playbook.playbook_id,
                    "title": playbook.title,
                    "body": playbook.body,
                    "macro": None,
                    "access_type": "enterprise" if playbook.org_id is None else "org",
                    "org_id": playbook.org_id,
                    "created_by": None,
                    "updated_by": None,
                    "created_at": _seconds(_GENESIS),
                    "updated_at": _seconds(playbook.updated_at),
                }

    def _list_enterprise_limits(self, _: str | None) -> Iterator[JsonObject]:
        if self.enterprise_limit is not None:
            yield _limit("enterprise", self.enterprise_limit)
        for org_id, limits in self.limits.items():
            if limits.cloud is not None:
                yield _limit("org", limits.cloud, org_id=org_id)
        for member in self.members.values():
            if member.cloud_limit is not None:
                yield _limit("user", member.cloud_limit, user_id=member.user_id)

    def _list_user_limits(self, _: str | None) -> Iterator[JsonObject]:
        for member in self.members.values():
            if member.cloud_limit is not None:
                yield {
                    "user_id": member.user_id,
                    "cloud_agent": {"cycle_acu_limit": member.cloud_limit},
                    "billing_org_id": member.org_id,
                }

    def _list_usage_tiers(self, _: str | None) -> Iterator[JsonObject]:
        for tier in self.tiers:
            entry: JsonObject = {"tier_id": tier.tier_id, "name": tier.name, "is_default": tier.is_default}
            if tier.cycle_acu_limit is not None:
                entry["cycle_acu_limit"] = tier.cycle_acu_limit
            yield entry | {"idp_group_names": list(tier.groups)}


_LISTS: dict[Roster, Callable[[Directory, str | None], Iterator[JsonObject]]] = {
    "organizations": Directory._list_organizations,
    "users": Directory._list_users,
    "idp_users": Directory._list_idp_users,
    "service_users": Directory._list_service_users,
    "playbooks": Directory._list_playbooks,
    "organization_playbooks": Directory._list_playbooks,
    "enterprise_limits": Directory._list_enterprise_limits,
    "user_limits": Directory._list_user_limits,
    "usage_tiers": Directory._list_usage_tiers,
}


def cycles(first_day: date, now: datetime) -> list[tuple[datetime, datetime]]:
    """Begin and end of each billing cycle from the one that `first_day` lies in up to the current one, newest first."""
    begin = _cycle_at(datetime(first_day.year, first_day.month, first_day.day, 8, tzinfo=UTC))
    found = []
    while begin <= now:
        end = _cycle_at(begin + timedelta(days=31))
        found.append((begin, end))
        begin = end
    return found[::-1]


def _cycle_at(instant: datetime) -> datetime:
    begin = instant.replace(day=CYCLE_BEGINS_ON, hour=8, minute=0, second=0, microsecond=0)
    if begin <= instant:
        return begin
    return (begin.replace(day=1) - timedelta(days=1)).replace(day=CYCLE_BEGINS_ON)


def _limit(scope: str, acus: int, org_id: str | None = None, user_id: str | None = None) -> JsonObject:
    return {"scope": scope, "cycle_acu_limit": acus, "org_id": org_id, "user_id": user_id}


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())
