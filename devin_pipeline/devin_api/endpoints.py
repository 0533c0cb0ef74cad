"""What each endpoint of the API is, declared once: paths, key, permission, paging, windows, fields and raw table.

An endpoint is added here. How its pages follow one another lives in `paging`, what one holds in `pages`.
"""

import math
from collections.abc import Container
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from devin_pipeline.devin_api.credentials import KEYS, KeyKind
from devin_pipeline.devin_api.windows import Window, iso

Clock = Literal["created", "updated"]
Params = list[tuple[str, str]]


@dataclass(frozen=True)
class Endpoint:
    """One endpoint.

    Attributes:
        name: what messages call it.
        key: the kind of key it takes, which is also its version of the API.
        permission: what the owner of the key must have been given; None if the kind of key is enough.
        path: for the whole enterprise; with `{object_id}` if it is about one object of it.
        organization_path: for one organization, with `{org_id}`; None if there is none.
    """

    name: str
    key: KeyKind
    permission: str | None
    path: str
    organization_path: str | None

    @property
    def key_variable(self) -> str:
        """The environment variable that its key comes from."""
        return KEYS[self.key].variable

    @property
    def needs(self) -> str:
        """Which key it needs, in words."""
        return KEYS[self.key].needed + (f" with the permission {self.permission}" if self.permission else "")

    def path_for(self, org_id: str | None, object_id: str = "") -> str:
        """Its path for one organization, or for the whole enterprise; about one object, if it is about objects."""
        path = self.path if org_id is None or self.organization_path is None else self.organization_path
        # guard: an id that is not percent-encoded | object_id=quote(object_id, safe="") -> object_id=object_id
        return path.format(org_id=quote(org_id or "", safe=""), object_id=quote(object_id, safe=""))


@dataclass(frozen=True)
class WindowParameters:
    """How a window is asked for.

    Attributes:
        start: the parameter of its start; `{clock}` stands for `created` or `updated`.
        end: that of its end.
        in_seconds: whether its bounds are whole seconds since the epoch; else they are written as ISO 8601.
        always: what every query for a window has besides.
    """

    start: str
    end: str
    in_seconds: bool
    always: tuple[tuple[str, str], ...] = ()

    def query(self, clock: Clock, window: Window) -> Params:
        """The query for a window; in whole seconds, of those that it touches."""
        bounds = (
            (str(math.floor(window.start.timestamp())), str(math.ceil(window.end.timestamp())))
            if self.in_seconds
            else (iso(window.start), iso(window.end))
        )
        return [*zip((name.format(clock=clock) for name in (self.start, self.end)), bounds, strict=True), *self.always]


@dataclass(frozen=True)
class Feed(Endpoint):
    """An endpoint that lists sessions.

    Attributes:
        name: what it is called.
        table: the raw table its sessions are stored in.
        paging: whether its pages are asked for by offset or by cursor.
        window: how its windows are asked for.
        fields: those of a session that the API reference lists.
    """

    name: Literal["session_insights_v2", "sessions_v3", "session_insights_v3"]
    table: str
    paging: Literal["offset", "cursor"]
    window: WindowParameters
    fields: frozenset[str]


_V2_WINDOW = WindowParameters("{clock}_date_from", "{clock}_date_to", in_seconds=False)
_V3_WINDOW = WindowParameters(
    "{clock}_after",
    "{clock}_before",
    in_seconds=True,
    # By default the sessions of deleted organizations are hidden, and their ACUs with them.
    # guard: sessions of deleted organizations | ("include_deleted_orgs", "true"),
    always=(("include_deleted_orgs", "true"),),
)

# Of the pages "List Enterprise Sessions (Insights)" (v2) and "List account sessions" (v3) of the API reference.
_V2_FIELDS = """
    session_id url status title tags user_id org_id created_at updated_at acus_consumed pull_requests
    initial_user_message session_analysis
""".split()  # noqa: SIM905 - a literal list would be a line per field
_V3_FIELDS = """
    session_id url org_id user_id service_user_id title tags status status_detail created_at updated_at
    acus_consumed pull_requests origin category subcategory playbook_id parent_session_id child_session_ids
    is_archived structured_output
""".split()  # noqa: SIM905 - as above
# Listed since; which versions of the API send them is not said.
_NEWER_FIELDS = ["automation_id", "devin_mode", "security_profile", "skill_usage"]

SESSION_INSIGHTS_V2 = Feed(
    name="session_insights_v2",
    key="v2",
    permission=None,
    path="/v2/enterprise/sessions/insights",
    organization_path="/v2/enterprise/organizations/{org_id}/sessions/insights",
    table="raw_session_insights_v2",
    paging="offset",
    window=_V2_WINDOW,
    fields=frozenset([*_V2_FIELDS, *_NEWER_FIELDS]),
)
SESSIONS_V3 = Feed(
    name="sessions_v3",
    key="v3",
    permission="ViewAccountSessions",
    path="/v3/enterprise/sessions",
    organization_path="/v3/organizations/{org_id}/sessions",
    table="raw_sessions_v3",
    paging="cursor",
    window=_V3_WINDOW,
    fields=frozenset([*_V3_FIELDS, *_NEWER_FIELDS]),
)
SESSION_INSIGHTS_V3 = Feed(
    name="session_insights_v3",
    key="v3",
    permission="ViewAccountSessions",
    path="/v3/enterprise/sessions/insights",
    organization_path="/v3/organizations/{org_id}/sessions/insights",
    table="raw_session_insights_v3",
    paging="cursor",
    window=_V3_WINDOW,
    fields=SESSIONS_V3.fields | {"num_user_messages", "num_devin_messages", "session_size", "analysis"},
)

FEEDS = (SESSION_INSIGHTS_V2, SESSIONS_V3, SESSION_INSIGHTS_V3)
"""All of them. Those with the same key list the same sessions; the first of them sends the fewest bytes."""

FEED_BY_TABLE = {feed.table: feed for feed in FEEDS}

KEY_OWNER = Endpoint(name="the owner of the key", key="v3", permission=None, path="/v3/self", organization_path=None)

# The newest name first. Older pages, and the endpoints of one organization, name the second.
_CONSUMPTION_PERMISSION = "ViewAccountConsumption (or ManageBilling)"
# Which permission lists organizations and playbooks is not in the API reference; it was seen with other clients.
ORGANIZATIONS = Endpoint(
    name="the list of organizations",
    key="v3",
    permission="ViewAccountOrganizations",
    path="/v3/enterprise/organizations",
    organization_path=None,
)
USERS = Endpoint(
    name="the list of users",
    key="v3",
    permission="ManageAccountMembership",
    path="/v3/enterprise/members/users",
    organization_path="/v3beta1/organizations/{org_id}/members/users",
)
IDP_USERS = Endpoint(
    name="the list of users of the identity provider",
    key="v3",
    permission="ManageAccountMembership",
    path="/v3/enterprise/members/idp-users",
    organization_path=None,
)
SERVICE_USERS = Endpoint(
    name="the list of service users",
    key="v3",
    permission="ManageAccountMembership",
    path="/v3/enterprise/members/service-users",
    organization_path=None,
)
PLAYBOOKS = Endpoint(
    name="the list of playbooks",
    key="v3",
    permission="ManageAccountPlaybooks",
    path="/v3/enterprise/playbooks",
    organization_path="/v3/organizations/{org_id}/playbooks",
)
ORGANIZATION_PLAYBOOKS = Endpoint(
    name="the list of an organization's playbooks",
    key="v3",
    permission="ManageAccountPlaybooks",
    path="/v3/organizations/{object_id}/playbooks",
    organization_path=None,
)
CYCLES = Endpoint(
    name="the list of billing cycles",
    key="v3",
    permission=_CONSUMPTION_PERMISSION,
    path="/v3/enterprise/consumption/cycles",
    organization_path=None,
)
CYCLES_V2 = Endpoint(
    name="the list of billing cycles of v2",
    key="v2",
    permission=None,
    path="/v2/enterprise/consumption/cycles",
    organization_path=None,
)
ENTERPRISE_LIMITS = Endpoint(
    name="the list of ACU limits",
    key="v3",
    permission=_CONSUMPTION_PERMISSION,
    path="/v3/enterprise/consumption/acu-limits/devin",
    organization_path=None,
)
ORGANIZATION_LIMITS = Endpoint(
    name="the ACU limits of an organization",
    key="v3",
    permission=_CONSUMPTION_PERMISSION,
    path="/v3beta1/enterprise/organizations/{object_id}/consumption/acu-limits",
    organization_path=None,
)
USER_LIMITS = Endpoint(
    name="the list of ACU limits of users",
    key="v3",
    permission=_CONSUMPTION_PERMISSION,
    path="/v3beta1/enterprise/users/consumption/acu-limits",
    organization_path=None,
)
USAGE_TIERS = Endpoint(
    name="the list of usage tiers",
    key="v3",
    permission=_CONSUMPTION_PERMISSION,
    path="/v3beta1/enterprise/usage-policies/tiers",
    organization_path=None,
)

_DAILY = "/v3/enterprise/consumption/daily"
_DAILY_OF_ONE = "/v3/organizations/{org_id}/consumption/daily"
CONSUMPTION = Endpoint(
    name="the consumption of the enterprise",
    key="v3",
    permission=_CONSUMPTION_PERMISSION,
    path=_DAILY,
    organization_path=None,
)
ORGANIZATION_CONSUMPTION = Endpoint(
    name="the consumption of an organization",
    key="v3",
    permission=_CONSUMPTION_PERMISSION,
    path=f"{_DAILY}/organizations/{{object_id}}",
    organization_path=_DAILY_OF_ONE,
)
USER_CONSUMPTION = Endpoint(
    name="the consumption of a user",
    key="v3",
    permission=_CONSUMPTION_PERMISSION,
    path=f"{_DAILY}/users/{{object_id}}",
    organization_path=f"{_DAILY_OF_ONE}/users/{{object_id}}",
)
SERVICE_USER_CONSUMPTION = Endpoint(
    name="the consumption of a service user",
    key="v3",
    permission=_CONSUMPTION_PERMISSION,
    path=f"{_DAILY}/service-users/{{object_id}}",
    organization_path=f"{_DAILY_OF_ONE}/service-users/{{object_id}}",
)
SESSION_CONSUMPTION = Endpoint(
    name="the consumption of a session",
    key="v3",
    permission=_CONSUMPTION_PERMISSION,
    path=f"{_DAILY}/sessions/{{object_id}}",
    organization_path=f"{_DAILY_OF_ONE}/sessions/{{object_id}}",
)
CONSUMPTION_V2 = Endpoint(
    name="the consumption of v2",
    key="v2",
    permission=None,
    path="/v2/enterprise/consumption/daily",
    organization_path=None,
)
SESSION_COUNTS = Endpoint(
    name="the count of sessions",
    key="v3",
    permission="ViewAccountMetrics",
    path="/v3/enterprise/metrics/sessions",
    organization_path="/v3/organizations/{org_id}/metrics/sessions",
)
PULL_REQUEST_COUNTS = Endpoint(
    name="the count of pull requests",
    key="v3",
    permission="ViewAccountMetrics",
    path="/v3/enterprise/metrics/prs",
    organization_path="/v3/organizations/{org_id}/metrics/prs",
)
CONSUMPTION_WINDOW = WindowParameters("time_after", "time_before", in_seconds=True)
CONSUMPTION_V2_WINDOW = WindowParameters("start_date", "end_date", in_seconds=False)


def lightest_feeds(tables: Container[str]) -> list[Feed]:
    """Of the feeds of these raw tables, one for each kind of key: together they list every session."""
    by_key: dict[KeyKind, Feed] = {}
    for feed in FEEDS:
        if feed.table in tables:
            by_key.setdefault(feed.key, feed)
    return list(by_key.values())
