"""The lists and the bill of the enterprise whose sessions a benchmark serves, each answer made when it is asked for.

Everybody who may have sessions is billed something on each day; the others that are listed are billed zeros, as the
emulator does. Amounts are drawn by who and when: they do not follow the sessions.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import count, islice
from typing import Any

ORGANIZATIONS = 40
USERS = 2000
SERVICE_USERS = 300
_PLAYBOOKS = 5
_LIMITED = 100
_DAILY = "/v3/enterprise/consumption/daily"
_LARGEST_PAGE = 200
_DAY = 86400
_MICROS = 900_000

Asked = Mapping[str, Sequence[str]]
_Entries = list[dict[str, Any]]


@dataclass(frozen=True)
class Person:
    """A user or service user, and the organization they belong to."""

    person_id: str
    org_id: str
    is_service_user: bool


class Bill:
    """Answers about lists and the bill.

    Args:
        people: Those who may have sessions.
        starts_at: The first second that is billed, in seconds since the epoch.
        ends_at: The second after the last.
    """

    def __init__(self, people: Sequence[Person], starts_at: int, ends_at: int) -> None:
        self._starts_at, self._ends_at = starts_at, ends_at
        self._active = {person.person_id for person in people} | {person.org_id for person in people} | {""}
        organizations = _filled({person.org_id for person in people}, "org-{:032x}", ORGANIZATIONS)
        users, service_users = (
            _filled({person.person_id for person in people if person.is_service_user is service}, name, total)
            for service, name, total in (
                (False, "email|{:024x}", USERS),
                (True, "service-user-{:016x}", SERVICE_USERS),
            )
        )
        self._organizations = set(organizations)
        org_of = {person.person_id: person.org_id for person in people}
        self._lists: dict[str, _Entries] = {
            "/v3/enterprise/organizations": [_organization(*each) for each in enumerate(organizations)],
            "/v3/enterprise/members/users": [_user(user_id, org_of.get(user_id)) for user_id in users],
            "/v3/enterprise/members/idp-users": [],
            "/v3/enterprise/members/service-users": [_service_user(each, org_of.get(each)) for each in service_users],
            "/v3/enterprise/playbooks": [_playbook(f"playbook-{number}", None) for number in range(_PLAYBOOKS)],
            "/v3/enterprise/consumption/cycles": self._cycles(),
            "/v3/enterprise/consumption/acu-limits/devin": [
                {"scope": "org", "cycle_acu_limit": 1000, "org_id": org_id, "user_id": None} for org_id in organizations
            ],
            "/v3beta1/enterprise/users/consumption/acu-limits": [
                {"user_id": user_id, "cloud_agent": {"cycle_acu_limit": 150}} for user_id in users[:_LIMITED]
            ],
            "/v3beta1/enterprise/usage-policies/tiers": [
                {"tier_id": "tier-standard", "name": "Standard", "is_default": True, "cycle_acu_limit": 100}
            ],
        }

    def answer(self, path: str, asked: Asked) -> bytes:
        """The body of the answer to a request."""
        if path in self._lists:
            return _page(self._lists[path], asked)
        if path == "/v2/enterprise/consumption/cycles":
            cycles = [{"start": _iso(cycle["after"]), "end": _iso(cycle["before"])} for cycle in self._cycles()]
            return json.dumps(cycles).encode()
        if path == "/v2/enterprise/consumption/daily":
            return self._maps(_seconds(asked["start_date"][0]), _seconds(asked["end_date"][0]))
        if path.startswith(_DAILY):
            return self._daily(path.removeprefix(_DAILY), asked)
        org_id = path.split("/")[3 if path.endswith("/playbooks") else 4]
        if path.endswith("/playbooks"):
            return _page([_playbook(f"playbook-of-{org_id}", org_id)], asked)
        return json.dumps({"org_id": org_id, "cloud_agent": {"cycle_acu_limit": 1000}}).encode()

    def _daily(self, tail: str, asked: Asked) -> bytes:
        scope, _, scope_id = tail.removeprefix("/").partition("/")
        is_billed = scope == "sessions" or scope_id in self._active
        days = self._days(int(asked["time_after"][0]), int(asked["time_before"][0]))
        entries = b",".join(_entry(scope_id, day) if is_billed else _NOTHING % day for day in days)
        return b'{"total_acus":0,"consumption_by_date":[%b]}' % entries

    def _maps(self, after: int, before: int) -> bytes:
        days = self._days(after, before)

        def summed(name: str) -> float:
            return sum(sum(_micros(name, day)) for day in days) / 1_000_000

        found = {
            "total_acus": summed(""),
            "consumption_by_date": {_iso(day): sum(_micros("", day)) / 1_000_000 for day in days},
            "consumption_by_org_id": {name: summed(name) for name in self._active & self._organizations},
            "consumption_by_user": {name: summed(name) for name in self._active - self._organizations - {""}},
        }
        return json.dumps(found).encode()

    def _days(self, after: int, before: int) -> range:
        """The billed days that begin in a window."""
        whole_days_before = -((self._starts_at - max(after, self._starts_at)) // _DAY)
        return range(self._starts_at + whole_days_before * _DAY, min(before, self._ends_at), _DAY)

    def _cycles(self) -> _Entries:
        bounds = range(self._starts_at, self._ends_at + 30 * _DAY, 30 * _DAY)
        return [{"after": start, "before": start + 30 * _DAY} for start in reversed(bounds)]


_NOTHING = b'{"date":%d,"acus":0,"acus_by_product":{"devin":0,"cascade":0,"terminal":0,"review":0}}'


def _entry(scope_id: str, day: int) -> bytes:
    devin, cascade = _micros(scope_id, day)
    return (
        b'{"date":%d,"acus":%d.%06d,"acus_by_product":{"devin":%d.%06d,"cascade":0.%06d,"terminal":0,"review":0}}'
        % (day, *divmod(devin + cascade, 1_000_000), *divmod(devin, 1_000_000), cascade)
    )


def _micros(scope_id: str, day: int) -> tuple[int, int]:
    """Millionths of ACUs, of Devin and of Cascade."""
    drawn = int.from_bytes(blake2b(b"%b/%d" % (scope_id.encode(), day), digest_size=8).digest())
    return 1 + drawn % (20 * _MICROS), (drawn >> 32) % _MICROS


def _page(entries: Sequence[dict[str, Any]], asked: Asked) -> bytes:
    start = int(asked["after"][0]) if "after" in asked else 0
    end = start + min(int(asked["first"][0]), _LARGEST_PAGE)
    more = end < len(entries)
    return json.dumps(
        {
            "items": entries[start:end],
            "end_cursor": str(end) if more else None,
            "has_next_page": more,
            "total": len(entries),
        }
    ).encode()


def _filled(names: set[str], pattern: str, total: int) -> list[str]:
    """These names, and others until there are as many as wanted."""
    more = (name for name in map(pattern.format, count()) if name not in names)
    return [*sorted(names), *islice(more, max(0, total - len(names)))]


def _organization(number: int, org_id: str) -> dict[str, Any]:
    return {"org_id": org_id, "name": f"Team {number}", "max_session_acu_limit": None, "max_cycle_acu_limit": 1000}


def _user(user_id: str, org_id: str | None) -> dict[str, Any]:
    name = user_id[-12:]
    return {
        "user_id": user_id,
        "email": f"{name}@example.com",
        "name": f"Person {name}",
        "role_assignments": [_role(org_id)],
    }


def _service_user(service_user_id: str, org_id: str | None) -> dict[str, Any]:
    return {
        "service_user_id": service_user_id,
        "name": f"Automation {service_user_id[-12:]}",
        "expires_at": None,
        "role_assignments": [_role(org_id)],
    }


def _role(org_id: str | None) -> dict[str, Any]:
    return {"org_id": org_id, "role": {"role_id": "role-member", "role_name": "Member", "role_type": "org"}}


def _playbook(playbook_id: str, org_id: str | None) -> dict[str, Any]:
    return {
        "playbook_id": playbook_id,
        "title": "Upgrade a repository",
        "body": "State what you tried.",
        "access_type": "enterprise" if org_id is None else "org",
        "org_id": org_id,
    }


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _seconds(instant: str) -> int:
    return int(datetime.fromisoformat(instant).timestamp())
