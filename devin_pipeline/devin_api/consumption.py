"""What is billed by day: to the enterprise, organizations, users, service users and sessions.

Amounts keep every digit that was sent. What a product or a day of the bill means does not belong here.

Shapes: https://docs.devin.ai/api-reference/v3/consumption/consumption-daily and, for v2,
https://docs.devin.ai/api-reference/v2/consumption/daily-consumption.
"""

import json
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from typing import Literal

import msgspec

from devin_pipeline.devin_api import endpoints
from devin_pipeline.devin_api.connections import Connections
from devin_pipeline.devin_api.credentials import KeyKind
from devin_pipeline.devin_api.directory import (
    NEVER,
    REFUSED,
    Asker,
    Stop,
    decoded,
    endpoint_of_list,
    in_parallel,
    instant_of,
    is_askable,
    split_list,
)
from devin_pipeline.devin_api.endpoints import CONSUMPTION_V2_WINDOW, CONSUMPTION_WINDOW, Endpoint
from devin_pipeline.devin_api.errors import Refused
from devin_pipeline.devin_api.lenient_json import NOT_TEXT, NonJsonConstant, OutOfRangeNumber
from devin_pipeline.devin_api.transport import Request
from devin_pipeline.devin_api.windows import Window

Scope = Literal["enterprise", "organization", "user", "service_user", "session"]

_ENDPOINTS: dict[str, Endpoint] = {
    "enterprise": endpoints.CONSUMPTION,
    "organization": endpoints.ORGANIZATION_CONSUMPTION,
    "user": endpoints.USER_CONSUMPTION,
    "service_user": endpoints.SERVICE_USER_CONSUMPTION,
    "session": endpoints.SESSION_CONSUMPTION,
}
# A permission is of a key, and a method is of an endpoint: they concern all of a kind. A 404 is about one entity only.
_OF_ALL = (int(HTTPStatus.FORBIDDEN), int(HTTPStatus.METHOD_NOT_ALLOWED))
_STOPS: dict[str, Stop] = {
    "user": Stop(_OF_ALL, 8),
    "service_user": Stop(_OF_ALL, 8),
    "session": Stop(_OF_ALL, 1, is_of_all=True),
}
_PREFIX_OF_SESSIONS = "devin-"
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


# Neither ids nor amounts are in a repr: reprs end up in reports of errors.
@dataclass(frozen=True)
class BilledDay:
    """What is billed to an entity on a day.

    Attributes:
        starts_at: when the day starts, as the API says it; UTC.
        acus: of all products, every digit as sent; None if it is missing, null or not a number. It may be negative, and
            larger than any column holds.
        payload: the entry's JSON as sent, byte for byte; `acus_by_product` is in it.
    """

    starts_at: datetime
    acus: Decimal | None = field(repr=False)
    payload: bytes = field(repr=False)


@dataclass(frozen=True)
class Consumption:
    """What is billed to an entity in a window.

    Attributes:
        scope: what kind of entity.
        scope_id: which, as it was asked for; None for the enterprise.
        days: those that were listed, each once, in the API's order. Nothing says that they lie in the window.
        payload: the whole answer as sent; empty if it was refused.
        refused: 403, 404, 405 or 410 if it was refused; then there are no days.
        unreadable_days: how many entries have no date that can be read, or that of a later entry; they are left out.
    """

    scope: Scope
    scope_id: str | None = field(repr=False)
    days: list[BilledDay] = field(repr=False)
    payload: bytes = field(repr=False)
    refused: int | None = None
    unreadable_days: int = 0


@dataclass(frozen=True)
class ConsumptionV2:
    """What v2 says is billed in a window: sums by day, by organization and by user, without products.

    Attributes:
        refused: 403, 404, 405 or 410 if it was refused; then the rest is empty.
        by_date: ACUs by when the day starts, in UTC; None for what is not a number, here and below.
        by_organization: ACUs of the window by id of the organization; None if they were not sent.
        by_user: ACUs of the window by id of the user; the same.
        payload: the whole answer as sent.
        unreadable_days: how many dates cannot be read; they are left out.
    """

    refused: int | None = None
    by_date: dict[datetime, Decimal | None] = field(default_factory=dict, repr=False)
    by_organization: dict[str, Decimal | None] | None = field(default=None, repr=False)
    by_user: dict[str, Decimal | None] | None = field(default=None, repr=False)
    payload: bytes = field(default=b"", repr=False)
    unreadable_days: int = 0


class _Daily(msgspec.Struct, frozen=True):
    consumption_by_date: list[msgspec.Raw]


class _Maps(msgspec.Struct, frozen=True):
    consumption_by_date: dict[str, object]
    consumption_by_org_id: dict[str, object] | None = None
    consumption_by_user: dict[str, object] | None = None


def _exact(text: str) -> Decimal | OutOfRangeNumber:
    """A number with every digit that was sent."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return OutOfRangeNumber(text)


def _read_exactly(text: str | bytes) -> object:
    return json.loads(text, parse_int=_exact, parse_float=_exact, parse_constant=NonJsonConstant)


_daily_decoder = msgspec.json.Decoder(_Daily)
# guard: amounts of the bill as floats | float_hook=_exact
_day_decoder = msgspec.json.Decoder(float_hook=_exact)
# guard: amounts of the bill of v2 as floats | , float_hook=_exact
_maps_decoder = msgspec.json.Decoder(_Maps, float_hook=_exact)


def endpoint_of(name: str, version: KeyKind = "v3") -> Endpoint:
    """The endpoint of what is billed to entities of a scope, or of a list of a kind; that of v3 where v2 has none.

    Raises:
        KeyError: there is neither a scope nor a kind of this name.
    """
    if name not in _ENDPOINTS:
        return endpoint_of_list(name, version if name == "cycles" else "v3")
    return endpoints.CONSUMPTION_V2 if version == "v2" else _ENDPOINTS[name]


def read_consumption(
    connections: Connections,
    request: Request,
    scope: Scope,
    scope_ids: Sequence[str],
    window: Window | Mapping[str, Window] | None,
    org_id: str | None,
) -> Generator[Consumption]:
    """Read what is billed to some entities, several at once, each with one request.

    Args:
        connections: what carries the requests.
        request: what to send, with the endpoint that `endpoint_of` returns.
        scope: what kind of entity.
        scope_ids: which.
        window: of which days; or of which days of each.
        org_id: the only organization that may be asked about.

    Raises:
        DevinError: anything but the refusal of one entity; nothing more is read.
    """
    wanted: list[str | None] = [*dict.fromkeys(scope_ids)]
    if scope == "enterprise":
        # Of one organization, the enterprise has no bill.
        wanted = [None] if org_id is None else []
    elif scope == "organization" and org_id is not None:
        wanted = [org_id]
    asker = Asker(connections)
    # How sessions are named in a path: the docs have the prefix, some servers know only the id without it.
    known_prefix: str | None = None

    def ask(scope_id: str | None) -> Consumption:
        days = window.get(scope_id or "") if isinstance(window, Mapping) else window
        query = [] if days is None else CONSUMPTION_WINDOW.query("created", days)

        def ask_as(object_id: str) -> Consumption:
            own = replace(request, path=request.endpoint.path_for(org_id, object_id))
            return replace(asker.ask(own, query, lambda body: _consumption(body, scope)), scope_id=scope_id)

        return ask_as(scope_id or "") if scope != "session" else ask_for_session(scope_id or "", ask_as)

    def ask_for_session(session_id: str, ask_as: Callable[[str], Consumption]) -> Consumption:
        nonlocal known_prefix
        bare = session_id.removeprefix(_PREFIX_OF_SESSIONS)
        # guard: a session asked for without its prefix | _PREFIX_OF_SESSIONS if -> "" if
        prefix = _PREFIX_OF_SESSIONS if known_prefix is None else known_prefix
        try:
            found = ask_as(prefix + bare)
        except Refused as error:
            # guard: sessions that are known without their prefix | prefix == known_prefix -> True
            if prefix == known_prefix or error.status != HTTPStatus.NOT_FOUND:
                raise
            prefix = "" if prefix else _PREFIX_OF_SESSIONS
            found = ask_as(prefix + bare)
        known_prefix = prefix
        return found

    for scope_id in wanted:
        if scope_id is not None and not is_askable(scope_id):
            yield Consumption(scope, scope_id, [], b"", int(HTTPStatus.NOT_FOUND))
    askable = [scope_id for scope_id in wanted if scope_id is None or is_askable(scope_id)]
    with closing(in_parallel(asker, askable, ask, _STOPS.get(scope, NEVER))) as answers:
        for scope_id, found in answers:
            yield Consumption(scope, scope_id, [], b"", found) if isinstance(found, int) else found


def _consumption(body: bytes, scope: Scope) -> Consumption:
    envelope = decoded(body, _daily_decoder, lambda text: split_list(text, "consumption_by_date"))
    days: dict[datetime, BilledDay] = {}
    unreadable = 0
    for raw in envelope.consumption_by_date:
        payload = bytes(raw)
        members = _entry(payload)
        starts_at = instant_of(members.get("date"))
        if starts_at is None:
            unreadable += 1
        else:
            unreadable += starts_at in days
            # guard: the earlier of two entries of a day
            #   | days[starts_at] = -> days[starts_at] = days.get(starts_at) or
            days[starts_at] = BilledDay(starts_at, _amount(members.get("acus")), payload)
    return Consumption(scope, None, list(days.values()), body, unreadable_days=unreadable)


def _entry(payload: bytes) -> Mapping[str, object]:
    """What an entry says; nothing if it is not an object, or nested too deeply."""
    try:
        try:
            members = _day_decoder.decode(payload)
        except msgspec.DecodeError:
            members = _read_exactly(payload)
    except (ValueError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}


def _amount(value: object) -> Decimal | None:
    """An amount, as a number or as the text of one."""
    if isinstance(value, int | Decimal):
        return None if isinstance(value, bool) else Decimal(value)
    if not isinstance(value, str) or isinstance(value, NOT_TEXT) or _JSON_NUMBER.fullmatch(value) is None:
        return None
    found = _exact(value)
    return found if isinstance(found, Decimal) else None


def read_consumption_v2(
    connections: Connections, request: Request, windows: Sequence[Window], org_id: str | None
) -> Generator[tuple[Window, ConsumptionV2]]:
    """Read what v2 says is billed in some windows, several at once, each with one request.

    Args:
        connections: what carries the requests.
        request: what to send, to the endpoint of v2.
        windows: what to ask for.
        org_id: the only organization that may be asked about.

    Raises:
        DevinError: anything but a refusal; nothing more is read.
    """
    asker = Asker(connections)
    only = [] if org_id is None else [("org_ids", org_id)]

    def ask(window: Window) -> ConsumptionV2:
        return asker.ask(request, [*CONSUMPTION_V2_WINDOW.query("created", window), *only], _consumption_v2)

    wanted = list(dict.fromkeys(windows))
    with closing(in_parallel(asker, wanted, ask, Stop(REFUSED, 1, is_of_all=True))) as answers:
        for window, found in answers:
            yield window, ConsumptionV2(found) if isinstance(found, int) else found


def _consumption_v2(body: bytes) -> ConsumptionV2:
    maps = decoded(body, _maps_decoder, _read_exactly)
    by_date: dict[datetime, Decimal | None] = {}
    unreadable = 0
    for name, value in maps.consumption_by_date.items():
        starts_at = instant_of(name)
        if starts_at is None:
            unreadable += 1
        else:
            by_date[starts_at] = _amount(value)
    return ConsumptionV2(
        None,
        by_date,
        _amounts(maps.consumption_by_org_id),
        _amounts(maps.consumption_by_user),
        body,
        unreadable,
    )


def _amounts(sent: Mapping[str, object] | None) -> dict[str, Decimal | None] | None:
    return None if sent is None else {name: _amount(value) for name, value in sent.items()}
