"""The endpoints of the bill, of the directory and of counts: windows, pages, refusals, and how amounts are worded.

v3 as far as it is documented, its beta endpoints of limits, and the v2 twin of consumption.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from devin_pipeline.emulator.bill import Scope, billing_day
from devin_pipeline.emulator.directory import Roster, cycles
from devin_pipeline.emulator.enterprise import Enterprise
from devin_pipeline.emulator.queries import Invalid, QueryReader
from devin_pipeline.emulator.sessions import JsonObject, Session

Handler = Callable[[Request], Awaitable[Response]]
Version = Literal["v2", "v3"]
RequireKey = Callable[[Request, Version], None]
Money = (
    Roster
    | Literal[
        "consumption",
        "organization_consumption",
        "user_consumption",
        "service_user_consumption",
        "session_consumption",
        "cycles",
        "organization_limits",
        "v2_consumption",
        "v2_cycles",
        "metrics",
    ]
)
"""The kinds of these endpoints, each of which can be refused by itself."""

_ENCODER = msgspec.json.Encoder(decimal_format="number")
# v2 leaves these out when it is asked for organizations.
_NOT_OF_ORGANIZATIONS = ("cascade", "terminal")
_ENTERPRISE_LISTS: dict[str, Roster] = {
    "/v3/enterprise/organizations": "organizations",
    "/v3/enterprise/members/users": "users",
    "/v3/enterprise/members/idp-users": "idp_users",
    "/v3/enterprise/members/service-users": "service_users",
    "/v3/enterprise/playbooks": "playbooks",
    "/v3/enterprise/consumption/acu-limits/devin": "enterprise_limits",
    "/v3beta1/enterprise/users/consumption/acu-limits": "user_limits",
    "/v3beta1/enterprise/usage-policies/tiers": "usage_tiers",
}


class BillingEndpoints:
    """These endpoints over one enterprise.

    Attributes:
        refused: The status that a kind of endpoint answers instead: 403 without the permission, 404 where it is not
            rolled out.
    """

    def __init__(self, enterprise: Enterprise, require_key: RequireKey, largest_page: int) -> None:
        self.refused: dict[Money, int] = {}
        self._enterprise = enterprise
        self._require_key = require_key
        self._largest_page = largest_page

    def routes(self) -> list[Route]:
        """What is served, by path."""
        routes = [Route(path, self._list(roster)) for path, roster in _ENTERPRISE_LISTS.items()]
        routes += [
            Route("/v3/organizations/{org_id}/playbooks", self._list("organization_playbooks")),
            Route("/v3beta1/enterprise/organizations/{org_id}/consumption/acu-limits", self._organization_limits),
            Route("/v3/enterprise/consumption/cycles", self._cycles),
            Route("/v2/enterprise/consumption/cycles", self._v2_cycles),
            Route("/v2/enterprise/consumption/daily", self._v2_consumption),
            Route("/v3/enterprise/metrics/sessions", self._session_counts),
            Route("/v3/enterprise/metrics/prs", self._pull_request_counts),
        ]
        scopes: tuple[tuple[str, Scope, Money], ...] = (
            ("", "enterprise", "consumption"),
            ("/organizations/{scope_id}", "organization", "organization_consumption"),
            # An id may hold a slash; percent-encoded it is one all the same.
            ("/users/{scope_id:path}", "user", "user_consumption"),
            ("/service-users/{scope_id:path}", "service_user", "service_user_consumption"),
            ("/sessions/{scope_id}", "session", "session_consumption"),
        )
        for tail, scope, kind in scopes:
            routes.append(Route(f"/v3/enterprise/consumption/daily{tail}", self._consumption(scope, kind)))
            if scope != "organization":
                # What is billed to one organization as a whole is refused like that of any.
                of_one: Money = "organization_consumption" if scope == "enterprise" else kind
                path = f"/v3/organizations/{{org_id}}/consumption/daily{tail}"
                routes.append(Route(path, self._consumption(scope, of_one)))
        return routes

    def _admit(self, request: Request, kind: Money, version: Version = "v3") -> None:
        self._require_key(request, version)
        status = self.refused.get(kind)
        if status is not None:
            raise HTTPException(status, "Missing permission" if status == 403 else "Not Found")

    def _organization(self, request: Request) -> str | None:
        org_id: str | None = request.path_params.get("org_id")
        if org_id is not None and not self._enterprise.has_organization(org_id):
            raise HTTPException(404, "Organization not found")
        return org_id

    def _list(self, roster: Roster) -> Handler:
        async def listed(request: Request) -> Response:
            self._admit(request, roster)
            return self._page(request, self._enterprise.directory.listed(roster, self._organization(request)))

        return listed

    async def _organization_limits(self, request: Request) -> Response:
        self._admit(request, "organization_limits")
        org_id = self._organization(request) or ""
        return _json(self._enterprise.directory.limits_of(org_id))

    async def _cycles(self, request: Request) -> Response:
        self._admit(request, "cycles")
        found = [{"after": int(a.timestamp()), "before": int(b.timestamp())} for a, b in self._known_cycles()]
        return self._page(request, found)

    async def _v2_cycles(self, request: Request) -> Response:
        self._admit(request, "v2_cycles", "v2")
        return _json([{"start": _instant(begin), "end": _instant(end)} for begin, end in self._known_cycles()])

    def _known_cycles(self) -> list[tuple[datetime, datetime]]:
        with self._enterprise.lock:
            covered = self._enterprise.bill.days()
        now = datetime.now(UTC)
        return cycles(covered[0] if covered else billing_day(now), now)

    def _consumption(self, scope: Scope, kind: Money) -> Handler:
        async def consumption(request: Request) -> Response:
            self._admit(request, kind)
            org_id = self._organization(request)
            reader = QueryReader(request.query_params)
            after, before = reader.seconds("time_after"), reader.seconds("time_before")
            reader.check()
            scope_id = self._entity(scope, request.path_params.get("scope_id"))
            first, last = self._window(after, before)
            with self._enterprise.lock:
                if scope == "enterprise" and org_id is not None:
                    entries = self._enterprise.bill.entries("organization", org_id, first, last)
                else:
                    entries = self._enterprise.bill.entries(scope, scope_id, first, last, org_id)
            total = sum((entry["acus"] for entry in entries), Decimal(0))
            return _json({"total_acus": total, "consumption_by_date": entries})

        return consumption

    def _entity(self, scope: Scope, scope_id: str | None) -> str | None:
        """The id of an entity that there is.

        Raises:
            HTTPException: 404, there is none.
        """
        if scope_id is None:
            return None
        enterprise = self._enterprise
        bare = scope_id.removeprefix("devin-") if scope == "session" else scope_id
        known = {
            "organization": lambda: enterprise.has_organization(bare),
            "user": lambda: bare in enterprise.directory.members,
            "service_user": lambda: bare in enterprise.directory.service_users,
        }
        with enterprise.lock:
            if not (
                (scope in known and known[scope]()) or (scope != "organization" and enterprise.bill.names(scope, bare))
            ):
                raise HTTPException(404, f"{scope.replace('_', ' ').capitalize()} not found")
        return bare

    def _window(self, after: int | None, before: int | None) -> tuple[date, date]:
        """The days that begin in a window; bounds that are left out are those of the current cycle."""
        begin, end = self._known_cycles()[0]
        if after is not None:
            begin = datetime.fromtimestamp(after / 1_000_000, UTC)
        if before is not None:
            end = datetime.fromtimestamp(before / 1_000_000, UTC)
        first = billing_day(begin)
        if _begin(first) < begin:
            first += timedelta(days=1)
        last = billing_day(end)
        if _begin(last) >= end:
            last -= timedelta(days=1)
        return first, last

    async def _v2_consumption(self, request: Request) -> Response:
        self._admit(request, "v2_consumption", "v2")
        reader = QueryReader(request.query_params)
        after = _first_of(reader.instant("start_date"), reader.instant("start"))
        before = _first_of(reader.instant("end_date"), reader.instant("end"))
        org_ids = reader.texts("org_ids")
        reader.check()
        first, last = self._window(after, before)
        with self._enterprise.lock:
            return _json(self._maps(first, last, org_ids))

    def _maps(self, first: date, last: date, org_ids: frozenset[str] | None) -> JsonObject:
        """What v2 says of a window: maps by day, organization and user, without products."""
        bill = self._enterprise.bill
        without = () if org_ids is None else _NOT_OF_ORGANIZATIONS
        covered = bill.days()
        by_date: dict[str, Decimal] = {}
        by_org: dict[str, Decimal] = {}
        by_user: dict[str, Decimal] = {}
        number_of_days = (last - first).days + 1 if covered else 0
        for day in (first + timedelta(days=number) for number in range(max(0, number_of_days))):
            if covered is None or not covered[0] <= day <= covered[1] or day in bill.left_out:
                continue
            whole: Decimal | None = None
            for org_id in bill.ids("organization"):
                if org_ids is None or org_id in org_ids:
                    acus = bill.acus("organization", org_id, day, without=without)
                    by_org[org_id] = by_org.get(org_id, Decimal(0)) + acus
                    whole = (whole or Decimal(0)) + acus
            for user_id in bill.ids("user") if org_ids is None else ():
                by_user[user_id] = by_user.get(user_id, Decimal(0)) + bill.acus("user", user_id, day)
            if org_ids is None:
                whole = bill.acus("enterprise", None, day)
            by_date[_instant(_begin(day))] = whole or Decimal(0)
        return {
            "total_acus": sum(by_date.values(), Decimal(0)),
            "consumption_by_date": by_date,
            "consumption_by_org_id": {key: acus for key, acus in by_org.items() if acus},
            "consumption_by_user": {key: acus for key, acus in by_user.items() if acus},
        }

    async def _session_counts(self, request: Request) -> Response:
        return _json({"sessions_created_count": len(self._created(request))})

    async def _pull_request_counts(self, request: Request) -> Response:
        links = {link.url: link.state for session in self._created(request) for link in session.pull_requests}
        merged = sum(state == "merged" for state in links.values())
        return _json({"prs_created_count": len(links), "prs_merged_count": merged})

    def _created(self, request: Request) -> list[Session]:
        """The sessions created in the window of a request, which has both bounds."""
        self._admit(request, "metrics")
        reader = QueryReader(request.query_params)
        bounds = [reader.seconds(name) for name in ("time_after", "time_before")]
        reader.check()
        after, before = (datetime.fromtimestamp((bound or 0) / 1_000_000, UTC) for bound in bounds)
        with self._enterprise.lock:
            return [session for session in self._enterprise.sessions if after <= session.created_at < before]

    def _page(self, request: Request, entries: Sequence[JsonObject]) -> Response:
        reader = QueryReader(request.query_params)
        first = reader.integer("first", 100, at_least=1, at_most=200) or 100
        cursor = reader.text("after")
        reader.check()
        start = 0 if cursor is None else _place(cursor)
        end = start + min(first, self._largest_page)
        has_more = end < len(entries)
        return _json(
            {
                "items": entries[start:end],
                "end_cursor": _cursor(end) if has_more else None,
                "has_next_page": has_more,
                "total": len(entries),
            }
        )


def _cursor(place: int) -> str:
    return base64.b64encode(f"at:{place}".encode()).decode()


def _place(cursor: str) -> int:
    try:
        mark, _, place = base64.b64decode(cursor.encode(), validate=True).decode().partition(":")
        if mark != "at":
            raise ValueError(cursor)
        return int(place)
    except (ValueError, binascii.Error):
        message = "Invalid cursor"
        raise Invalid([{"type": "value_error", "loc": ["query", "after"], "msg": message, "input": cursor}]) from None


def _first_of(one: int | None, other: int | None) -> int | None:
    return other if one is None else one


def _begin(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 8, tzinfo=UTC)


def _instant(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def _json(content: object) -> Response:
    return Response(_ENCODER.encode(content), media_type="application/json")
