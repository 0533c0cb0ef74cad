"""Lists of what the API knows besides sessions: organizations, people, playbooks, billing cycles, limits.

How everything that is not about sessions is asked for belongs here too, `consumption` included: one request (`Asker`),
many in parallel (`in_parallel`), and JSON read so that an odd entry does not cost its neighbours (`decoded`). What an
entry means, but for its id, does not.

Shapes: the pages about organizations, members, playbooks and consumption of https://docs.devin.ai/api-reference/v3.
"""

import json
import math
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Literal, TypeVar, get_args

import msgspec

from devin_pipeline.billing_calendar import BILLING_HOUR
from devin_pipeline.devin_api import endpoints, pages
from devin_pipeline.devin_api.canonical_json import ISO_INSTANT
from devin_pipeline.devin_api.connections import Connections
from devin_pipeline.devin_api.credentials import KeyKind
from devin_pipeline.devin_api.endpoints import Endpoint, Params
from devin_pipeline.devin_api.errors import DevinError, InvalidResponse, NoProgress, Refused
from devin_pipeline.devin_api.items import EARLIEST, canonical_id
from devin_pipeline.devin_api.lenient_json import NOT_TEXT, Members, number, read_leniently, split_object
from devin_pipeline.devin_api.paging import EMPTY_PAGES_IN_A_ROW, PAGE_SIZE
from devin_pipeline.devin_api.transport import Request, Response

DirectoryKind = Literal[
    "organizations",
    "users",
    "idp_users",
    "service_users",
    "playbooks",
    "organization_playbooks",
    "cycles",
    "enterprise_limits",
    "organization_limits",
    "user_limits",
    "usage_tiers",
]

REFUSED = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE)
"""What refuses one thing that is asked for: without the permission, not rolled out, or removed."""

# Requests per thread that are under way or wait for one: the threads go on while an answer is being stored.
_REQUESTS_PER_THREAD = 2
_TRIES_FOR_SHAPE = 2
_OF_LIMITS = {"cloud_agent", "local_agent"}
_OF_OTHER_ANSWERS = {"detail", "error", "items"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HTML = re.compile(r"[ \t\n\r]*<")
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?", re.ASCII)
_MILLISECONDS_FROM = 100_000_000_000
_LARGEST_INSTANT = 1_000 * _MILLISECONDS_FROM
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_T = TypeVar("_T")
_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Entry:
    """One entry of a list.

    Attributes:
        object_id: what it is about; unique in its list.
        payload: its JSON as sent, byte for byte.
    """

    # Neither is in a repr: reprs end up in reports of errors, and these name people.
    object_id: str = field(repr=False)
    # guard: people in a repr | field(repr=False) -> field()
    payload: bytes = field(repr=False)


@dataclass(frozen=True)
class Listing:
    """A whole list.

    Attributes:
        kind: which one.
        entries: each object once.
        refused: 403, 404, 405 or 410 if the list is refused, or those of all organizations are; then there are no
            entries.
        unreadable: how many entries have no usable id; they are left out.
        refused_organizations: of the lists that are asked for by organization, the status of each organization that is
            refused while others are not.
        total: how many such entries there are, if the pages say so.
    """

    kind: DirectoryKind
    entries: list[Entry] = field(repr=False)
    refused: int | None = None
    unreadable: int = 0
    refused_organizations: dict[str, int] = field(default_factory=dict)
    total: int | None = None


class _Page(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw]
    end_cursor: str | None = None
    has_next_page: bool = False
    total: Annotated[int, msgspec.Meta(ge=0)] | None = None


_page_decoder = msgspec.json.Decoder(_Page)
_object_decoder = msgspec.json.Decoder(dict[str, object])


class Asker:
    """Asks for things that are not sessions, for one read.

    Args:
        connections: what carries the requests.

    Attributes:
        cancel: ends the read.
    """

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.cancel = connections.cancel.part()

    def ask(self, request: Request, query: Params, read: Callable[[bytes], _T]) -> _T:
        """Send a request, again if need be, and read the body of its response.

        Raises:
            DevinError: whatever went wrong, without the frames that hold the response.
            CancelledError: the read was cancelled.
        """
        connections, deadline = self.connections, self.connections.deadline()

        def send() -> Response:
            try:
                return connections.transport.get(request, query, deadline)
            except Refused as error:
                if error.status not in REFUSED:
                    # At once, from this thread: no other may go on sending a key that was just refused.
                    self.cancel.set()
                raise

        def understand(response: Response) -> _T:
            if response.answered_at is not None:
                connections.clock_ahead = connections.now() - response.answered_at
            with connections.parse_lock:
                return read(response.body)

        try:
            return connections.retrier.call(send, understand, deadline=deadline, cancel=self.cancel)
        except DevinError as error:
            if request.name not in error.what and connections.transport.base_url not in error.what:
                error.located(request.name)
            raise error.without_frames() from None


@dataclass(frozen=True)
class Stop:
    """When things of a kind that were not asked for yet count as refused, without a request.

    Attributes:
        statuses: the statuses that refuse the kind, not one thing alone.
        refusals: so many of them in a row.
        is_of_all: whether also after another was answered.
    """

    statuses: tuple[int, ...]
    refusals: int
    is_of_all: bool = False


NEVER = Stop((), 1)
"""Each is asked for: what one organization has may be refused, and that of another not."""


def in_parallel(
    asker: Asker, keys: Iterable[_Key], ask: Callable[[_Key], _T], until: Stop
) -> Generator[tuple[_Key, _T | int]]:
    """Ask for several things at once, and yield what is answered as it arrives: a status of `REFUSED` or the answer.

    Args:
        asker: whose read this is; it is over when this ends, however it ends.
        keys: what to ask for.
        ask: asks for one of them.
        until: when what was not asked for yet is yielded as refused, without a request.

    Raises:
        DevinError: anything but such a refusal; nothing more is asked for.
        CancelledError: the client was closed.
    """
    connections = asker.connections
    waiting = deque(keys)
    running: dict[Future[_T], _Key] = {}
    in_a_row = refusal_of_rest = 0
    is_answered = is_cancelled = False
    try:
        while running or (waiting and not asker.cancel.is_set()):
            if refusal_of_rest and not running:
                yield from ((key, refusal_of_rest) for key in waiting)
                return
            # Until one is answered, no more are under way than could be refused in vain.
            most = _REQUESTS_PER_THREAD * connections.threads if is_answered else max(1, until.refusals - in_a_row)
            while waiting and not refusal_of_rest and len(running) < most and not asker.cancel.is_set():
                key = waiting.popleft()
                running[connections.page_threads.submit(ask, key)] = key
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                key = running.pop(future)
                try:
                    answer: _T | int = future.result()
                except CancelledError:
                    is_cancelled = True  # by another's error, which comes up here as well
                    continue
                except DevinError as error:
                    status = error.status if isinstance(error, Refused) else None
                    if status not in REFUSED:
                        raise error.without_frames() from None
                    answer = int(status or 0)
                # guard: one thing that is not found, as a refusal of its kind
                #   | isinstance(answer, int) and answer in until.statuses -> isinstance(answer, int)
                if isinstance(answer, int) and answer in until.statuses:
                    in_a_row += 1
                    # guard: a whole kind that is refused, asked for each person
                    #   | in_a_row >= until.refusals and (until.is_of_all or not is_answered) -> False
                    if in_a_row >= until.refusals and (until.is_of_all or not is_answered):
                        refusal_of_rest = answer
                else:
                    is_answered, in_a_row = True, 0
                yield key, answer
        # guard: a read cut off by the end of its client, taken as whole
        if is_cancelled or waiting:
            raise CancelledError
    finally:
        # guard: requests that go on after their reader has stopped
        asker.cancel.set()
        for future in running:
            future.cancel()


def read_list(connections: Connections, request: Request, kind: DirectoryKind, org_ids: Sequence[str]) -> Listing:
    """Read a list to its end.

    Args:
        connections: what carries the requests.
        request: what to send, with the endpoint that `endpoint_of_list` returns.
        kind: which list.
        org_ids: for which organizations, if it is asked for by organization.

    Raises:
        Refused: the API said no to the key or to the request.
        DevinError: the list could not be read to its end.
    """
    asker = Asker(connections)
    try:
        if kind in _BY_ORGANIZATION:
            return _read_by_organization(asker, request, kind, org_ids)
        return _read_whole(asker, request, kind)
    except DevinError as error:
        raise error.without_frames() from None


def endpoint_of_list(kind: str, version: KeyKind = "v3") -> Endpoint:
    """The endpoint of a list.

    Raises:
        KeyError: the list is unknown.
        ValueError: v2 does not have the list.
    """
    if version == "v3":
        return _ENDPOINTS[kind]
    if kind != "cycles":
        raise ValueError(f"v2 has no list of {kind}")
    return endpoints.CYCLES_V2


@dataclass
class _Entries:
    """What was read of a list so far."""

    by_id: dict[str, bytes] = field(default_factory=dict, repr=False)
    unreadable: int = 0
    total: int | None = None

    def take(self, payload: bytes, object_id: str | None) -> None:
        if object_id is None:
            self.unreadable += 1
        else:
            # An entry may move to a later page while they are read.
            # guard: the earlier of two entries of one object
            #   | self.by_id[object_id] = payload -> self.by_id.setdefault(object_id, payload)
            self.by_id[object_id] = payload

    def listed(self) -> list[Entry]:
        return [Entry(object_id, payload) for object_id, payload in self.by_id.items()]


def _read_whole(asker: Asker, request: Request, kind: DirectoryKind) -> Listing:
    try:
        found = _read_pages(asker, request, _ID_OF[kind])
    except Refused as error:
        # guard: a list that is refused, as the end of the run
        if error.status in REFUSED:
            return Listing(kind, [], error.status)
        raise
    return Listing(kind, found.listed(), unreadable=found.unreadable, total=found.total)


def _read_by_organization(asker: Asker, request: Request, kind: DirectoryKind, org_ids: Iterable[str]) -> Listing:
    def ask(org_id: str) -> _Entries:
        own = replace(request, path=request.endpoint.path_for(None, org_id))
        if kind == "organization_limits":
            return _Entries({org_id: asker.ask(own, [], _only_limits)})
        found = _read_pages(asker, own, _ID_OF[kind])
        found.by_id = {f"{org_id}/{object_id}": payload for object_id, payload in found.by_id.items()}
        return found

    refused: dict[str, int] = {}
    answered: list[_Entries] = []
    wanted = dict.fromkeys(org_ids)
    for org_id in [each for each in wanted if not is_askable(each)]:
        refused[org_id] = int(HTTPStatus.NOT_FOUND)
    asked = [org_id for org_id in wanted if org_id not in refused]
    for org_id, found in in_parallel(asker, asked, ask, NEVER):
        if isinstance(found, int):
            refused[org_id] = found
        else:
            answered.append(found)
    if refused and not answered:
        return Listing(kind, [], refused[next(reversed(refused))])
    totals = [found.total for found in answered if found.total is not None]
    return Listing(
        kind,
        [entry for found in answered for entry in found.listed()],
        unreadable=sum(found.unreadable for found in answered),
        refused_organizations=refused,
        total=sum(totals) if answered and len(totals) == len(answered) else None,
    )


def _read_pages(asker: Asker, request: Request, id_of: Callable[[Members], str | None]) -> _Entries:
    entries = _Entries()
    for page in _pages(asker, request):
        for raw in page.items:
            payload = bytes(raw)
            members = members_of(payload)
            entries.take(payload, id_of(members) if members is not None else None)
        entries.total = page.total if page.total is not None else entries.total
    return entries


def _pages(asker: Asker, request: Request) -> Iterator[_Page]:
    if request.endpoint.key == "v2":
        yield asker.ask(request, [], _bare_list)
        return
    first: Params = [("first", str(PAGE_SIZE))]
    page = asker.ask(request, first, _page)
    seen: set[str] = set()
    empty = 0
    for _ in range(asker.connections.limits.pages):
        yield page
        # guard: a page of a list that follows | not page.has_next_page -> True
        if not page.has_next_page:
            return
        empty = 0 if page.items else empty + 1
        # guard: empty pages of a list for ever
        if empty > EMPTY_PAGES_IN_A_ROW:
            raise _lost_its_way(f"{empty} empty pages in a row say that more follow", request)
        # guard: a missing cursor of a list
        if not page.end_cursor:
            raise _lost_its_way("a page says that more follow, but not where", request)
        # guard: a cursor of a list that repeats
        if page.end_cursor in seen:
            raise _lost_its_way("a cursor came a second time", request)
        seen.add(page.end_cursor)
        page = asker.ask(request, [*first, ("after", page.end_cursor)], _page)
    raise _lost_its_way("there are more pages than any list has", request)


def _lost_its_way(why: str, request: Request) -> NoProgress:
    todo = "Run again; if it stays, report it to Devin's support"
    return NoProgress("Paging went nowhere", why, todo).located(request.name)


def _page(body: bytes) -> _Page:
    return decoded(body, _page_decoder, lambda text: split_list(text, "items"))


def _bare_list(body: bytes) -> _Page:
    """A list of v2 that has no envelope, as a page that has one."""
    return _page(b'{"items":%b}' % body.removeprefix(_BYTE_ORDER_MARK))


def _only_limits(body: bytes) -> bytes:
    """The text of an answer that is the limits of an organization; one without limits may have an empty answer."""
    limits = decoded(body, _object_decoder, json.loads)
    # guard: an error sent as 200, taken for the limits of an organization | limits.keys() & _OF_OTHER_ANSWERS -> False
    if limits.keys() & _OF_OTHER_ANSWERS and not limits.keys() & _OF_LIMITS:
        raise _wrong_shape("Object is an error or a page, not limits")
    return body.removeprefix(_BYTE_ORDER_MARK).strip(b" \t\r\n")


def decoded(body: bytes, decoder: "msgspec.json.Decoder[_T]", read_slowly: Callable[[str], object]) -> _T:
    """Read the body of a response.

    Args:
        body: decompressed.
        decoder: reads it.
        read_slowly: reads what msgspec does not, NaN and lone surrogates, into what the decoder's type is made of.

    Raises:
        InvalidResponse: it is not of that type.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    pages._require_utf8(body)
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as error:
            raise _wrong_shape(str(error)) from None
        except msgspec.DecodeError:
            return _decoded_slowly(body.decode(), decoder, read_slowly)
    except (RecursionError, ValueError) as error:
        raise InvalidResponse(
            "An answer could not be read",
            f"its JSON is nested too deeply or holds an absurd number ({type(error).__name__})",
            "Run again; if it stays, report it to Devin's support",
        ) from None


def _decoded_slowly(text: str, decoder: "msgspec.json.Decoder[_T]", read_slowly: Callable[[str], object]) -> _T:
    if _HTML.match(text):
        raise InvalidResponse(
            "An answer could not be read",
            "it is not JSON but HTML",
            "Check that DEVIN_API_URL leads to the API and not to a login page or proxy in between",
            more_tries=_TRIES_FOR_SHAPE,
        )
    try:
        members = read_slowly(text)
    except json.JSONDecodeError:
        raise pages._not_json() from None
    try:
        shape: type[_T] = decoder.type
        return msgspec.convert(members, shape)
    except msgspec.ValidationError as error:
        raise _wrong_shape(str(error)) from None


def split_list(text: str, name: str) -> object:
    """An object as `decoded` wants it of `read_slowly`, each item of its list `name` as it was sent."""
    found = split_object(text, name)
    if found is None:
        return None
    members, items = found
    if isinstance(members.get(name), list):
        members[name] = [msgspec.Raw(item) for item in items]
    return members


def _wrong_shape(why: str) -> InvalidResponse:
    return InvalidResponse(
        "An answer could not be read",
        f"it is JSON, but not what the API promises ({why})",
        "Check that DEVIN_API_URL leads to the Devin API; if it does, the API has changed",
        more_tries=_TRIES_FOR_SHAPE,
    )


def members_of(payload: bytes) -> Members | None:
    """What an entry says; None if it is not an object, or nested too deeply."""
    try:
        members = read_leniently(payload)
    except (ValueError, RecursionError):
        return None
    return members if isinstance(members, Members) else None


def usable_id(value: object) -> str | None:
    """An id of anything but a session; None if it is not usable as one."""
    if not isinstance(value, str) or isinstance(value, NOT_TEXT):
        return None
    # The prefix is removed again: what begins with it stays as it is.
    return canonical_id(f"devin-{value}")


def is_askable(object_id: str) -> bool:
    """Whether an id can be a part of a path. A dot or two would lead to another endpoint."""
    # guard: an id that leads to another endpoint | and object_id not in (".", "..")
    return usable_id(object_id) is not None and object_id not in (".", "..")


def instant_of(value: object) -> datetime | None:
    """Read when a day or a cycle starts, in UTC: seconds since the epoch, an ISO 8601 instant with a zone, or a date.

    A date is that of a billing day, which starts at 08:00 UTC. Seconds may be fractions or text, or be milliseconds.

    Returns:
        None if it is none of these, or was before there was Devin.
    """
    if isinstance(value, str) and not isinstance(value, NOT_TEXT):
        if _NUMBER.fullmatch(value):
            value = number(value)
        elif _DATE.fullmatch(value):
            # guard: the hour at which a billing day starts | {BILLING_HOUR:02} -> 00
            value = f"{value}T{BILLING_HOUR:02}:00:00Z"
    try:
        if isinstance(value, str):
            if ISO_INSTANT.fullmatch(value) is None:
                return None
            at = datetime.fromisoformat(value).astimezone(UTC)
        elif isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value < _LARGEST_INSTANT:
            return None
        else:
            at = _EPOCH + timedelta(seconds=float(value if value < _MILLISECONDS_FROM else value / 1000))
    except (ValueError, OverflowError):
        return None
    return at if at >= EARLIEST else None


def _id_in(name: str) -> Callable[[Members], str | None]:
    return lambda members: None if name in members.repeated else usable_id(members.get(name))


def _id_of_cycle(members: Members) -> str | None:
    starts_at = instant_of(members.get("after", members.get("start")))
    return None if starts_at is None else str(math.floor(starts_at.timestamp()))


def _id_of_limit(members: Members) -> str | None:
    scope, org_id = _id_in("scope")(members), _id_in("org_id")(members)
    if scope == "user":
        # Alone: within a longer id, a person's would escape erasure.
        return _id_in("user_id")(members)
    if scope in ("org", "organization"):
        return None if org_id is None else f"organization/{org_id}"
    return scope if scope == "enterprise" else None


_ENDPOINTS: dict[str, Endpoint] = {
    "organizations": endpoints.ORGANIZATIONS,
    "users": endpoints.USERS,
    "idp_users": endpoints.IDP_USERS,
    "service_users": endpoints.SERVICE_USERS,
    "playbooks": endpoints.PLAYBOOKS,
    "organization_playbooks": endpoints.ORGANIZATION_PLAYBOOKS,
    "cycles": endpoints.CYCLES,
    "enterprise_limits": endpoints.ENTERPRISE_LIMITS,
    "organization_limits": endpoints.ORGANIZATION_LIMITS,
    "user_limits": endpoints.USER_LIMITS,
    "usage_tiers": endpoints.USAGE_TIERS,
}
_BY_ORGANIZATION = ("organization_playbooks", "organization_limits")
_ID_OF: dict[DirectoryKind, Callable[[Members], str | None]] = {
    "organizations": _id_in("org_id"),
    "users": _id_in("user_id"),
    "idp_users": _id_in("user_id"),
    "service_users": _id_in("service_user_id"),
    "playbooks": _id_in("playbook_id"),
    "organization_playbooks": _id_in("playbook_id"),
    "cycles": _id_of_cycle,
    "enterprise_limits": _id_of_limit,
    "user_limits": _id_in("user_id"),
    "usage_tiers": _id_in("tier_id"),
}

DIRECTORY_KINDS: tuple[DirectoryKind, ...] = get_args(DirectoryKind)
"""All of them, organizations first: some lists are asked for by organization."""
