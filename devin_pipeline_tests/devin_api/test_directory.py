"""Lists are read to their end, each entry once and as sent; what is refused is refused alone."""

import json
import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, get_args
from urllib.parse import quote

import pytest

from devin_pipeline.devin_api import (
    DIRECTORY_KINDS,
    DevinClient,
    DirectoryKind,
    InvalidResponse,
    Listing,
    NoProgress,
    Refused,
    Scope,
    Unreachable,
    endpoint_of,
)
from devin_pipeline.devin_api.paging import Limits
from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline.emulator.faults import FaultScript, Status
from devin_pipeline.errors import ConfigurationError
from devin_pipeline_tests.devin_api.scripted import (
    V3_KEY,
    Asked,
    FakeTime,
    Reply,
    client_of,
    json_reply,
    page_v3,
    serving,
)

ENDS_AT = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)
BY_ORGANIZATION = ("organization_playbooks", "organization_limits")


@pytest.fixture(scope="module")
def enterprise() -> Enterprise:
    return Enterprise.synthetic(seed=7, sessions=120, days=10, ends_at=ENDS_AT)


@pytest.fixture(scope="module")
def running(enterprise: Enterprise) -> Iterator[EmulatorServer]:
    with EmulatorServer(enterprise, largest_page=3) as server:
        yield server


@pytest.fixture
def server(running: EmulatorServer) -> EmulatorServer:
    running.script(None)
    running.billing.refused = {}
    running.forget_requests()
    return running


def client(server: EmulatorServer, **options: Any) -> DevinClient:
    return DevinClient(base_url=server.url, v2_key=server.v2_key, v3_key=server.v3_key, **options)


def organizations(enterprise: Enterprise) -> list[str]:
    return [each.org_id for each in enterprise.organizations if not each.is_deleted]


def by_id(listing: Listing) -> dict[str, Any]:
    return {entry.object_id: json.loads(entry.payload) for entry in listing.entries}


def test_each_list_and_each_bill_has_an_endpoint() -> None:
    assert get_args(DirectoryKind) == DIRECTORY_KINDS
    for name in (*DIRECTORY_KINDS, *get_args(Scope)):
        assert endpoint_of(name).key == "v3"
        assert endpoint_of(name, "v2").key == ("v2" if name == "cycles" or name in get_args(Scope) else "v3")
    with pytest.raises(KeyError):
        endpoint_of("sessions")


@pytest.mark.notices("a page of a list that follows")
@pytest.mark.parametrize("kind", DIRECTORY_KINDS)
def test_each_list_is_read_to_its_end(kind: DirectoryKind, server: EmulatorServer) -> None:
    directory, org_ids = server.enterprise.directory, organizations(server.enterprise)
    with client(server) as opened:
        listing = opened.directory(kind, org_ids if kind in BY_ORGANIZATION else ())
    found = by_id(listing)
    assert (listing.kind, listing.refused, listing.unreadable, listing.refused_organizations) == (kind, None, 0, {})
    assert len(listing.entries) == len(found) > 0
    expected: dict[DirectoryKind, Any] = {
        "organizations": org_ids,
        "users": [each.user_id for each in directory.members.values() if not each.is_from_idp],
        "idp_users": [each.user_id for each in directory.members.values() if each.is_from_idp],
        "service_users": directory.service_users,
        "playbooks": [each.playbook_id for each in directory.playbooks.values() if each.org_id is None],
        "organization_playbooks": [
            f"{each.org_id}/{each.playbook_id}" for each in directory.playbooks.values() if each.org_id is not None
        ],
        "enterprise_limits": ["enterprise"]
        + [f"organization/{org_id}" for org_id, each in directory.limits.items() if each.cloud is not None]
        + [each.user_id for each in directory.members.values() if each.cloud_limit is not None],
        "organization_limits": org_ids,
        "user_limits": [each.user_id for each in directory.members.values() if each.cloud_limit is not None],
        "usage_tiers": [each.tier_id for each in directory.tiers],
        "cycles": [str(each["after"]) for each in found.values() if kind == "cycles"],
    }
    assert sorted(found) == sorted(expected[kind])
    if kind in BY_ORGANIZATION:
        assert {request.path.split("/")[-2 if "playbooks" in kind else -3] for request in server.requests} == set(
            org_ids
        )
    else:
        assert len(server.requests) == -(-len(found) // 3)
    if kind != "organization_limits":
        assert listing.total == len(found)
        assert all(("first", "200") in request.query for request in server.requests)


def test_both_versions_list_the_same_cycles(server: EmulatorServer) -> None:
    with client(server) as opened:
        v3, v2 = by_id(opened.directory("cycles")), by_id(opened.directory("cycles", version="v2"))
        with pytest.raises(ValueError, match="v2 has no list of users"):
            opened.directory("users", version="v2")
    assert list(v3) == list(v2)
    assert {name for each in v2.values() for name in each} == {"start", "end"}
    assert server.requests[-1].path == "/v2/enterprise/consumption/cycles"
    assert server.requests[-1].query == ()


@pytest.mark.notices("a list that is refused, as the end of the run")
@pytest.mark.parametrize("status", [403, 404, 405, 410])
@pytest.mark.parametrize("kind", DIRECTORY_KINDS)
def test_each_list_is_refused_by_itself(kind: DirectoryKind, status: int, server: EmulatorServer) -> None:
    org_ids = organizations(server.enterprise)
    server.billing.refused = {kind: status}
    other: DirectoryKind = "usage_tiers" if kind != "usage_tiers" else "playbooks"
    with client(server) as opened:
        listing = opened.directory(kind, org_ids)
        assert (listing.entries, listing.refused, listing.refused_organizations) == ([], status, {})
        assert len(server.requests) == (len(org_ids) if kind in BY_ORGANIZATION else 1)
        assert opened.directory(other).refused is None


@pytest.mark.parametrize("kind", ["organization_playbooks", "organization_limits"])
def test_an_organization_is_refused_alone(kind: DirectoryKind, server: EmulatorServer) -> None:
    org_ids = organizations(server.enterprise)
    with client(server) as opened:
        listing = opened.directory(kind, [*org_ids, "gone", "..", *org_ids])
        assert listing.refused_organizations == {"gone": 404, "..": 404}
        assert listing.refused is None
        assert by_id(listing) == by_id(opened.directory(kind, org_ids))
        assert opened.directory(kind).entries == []


@pytest.mark.parametrize(("status", "match"), [(401, "DEVIN_V3_API_KEY"), (422, "does not accept"), (302, "sent on")])
def test_a_refusal_of_the_key_or_the_request_is_raised(status: int, match: str, server: EmulatorServer) -> None:
    server.script(FaultScript.of({0: Status(status, location="/x" if status == 302 else None)}))
    for kind in ("users", "organization_limits"):
        with client(server) as opened, pytest.raises(Refused, match=match) as caught:
            opened.directory(kind, organizations(server.enterprise))
        assert caught.value.status == status
    assert len(server.requests) <= 1 + 8


def test_what_passes_by_itself_is_retried(server: EmulatorServer) -> None:
    fake = FakeTime()
    server.script(FaultScript.of({1: Status(500), 2: Status(429, retry_after="7"), 3: Status(503)}))
    with client(server, sleep=fake.sleep, clock=fake.clock, random=lambda: 1.0) as opened:
        assert len(opened.directory("usage_tiers").entries) == 3
        assert opened.clock_ahead is not None
    assert [request.status for request in server.requests] == [500, 429, 503, 200]
    assert fake.slept == [0.5, 7.0, 2.0]


def test_a_client_of_one_organization_asks_for_its_own(server: EmulatorServer) -> None:
    org_id = organizations(server.enterprise)[0]
    own = [each.playbook_id for each in server.enterprise.directory.playbooks.values() if each.org_id == org_id]
    with client(server, org_id=org_id) as opened:
        assert sorted(by_id(opened.directory("playbooks"))) == sorted(own)
        assert list(by_id(opened.directory("organization_playbooks", ["another"]))) == [f"{org_id}/{own[0]}"]
        assert list(by_id(opened.directory("organization_limits"))) == [org_id]
        # Not served by the emulator.
        assert opened.directory("users").refused == 404
        assert opened.directory("idp_users").refused is None
    assert [request.path for request in server.requests if request.status == 404] == [
        f"/v3beta1/organizations/{org_id}/members/users"
    ]


def test_a_list_without_its_key_is_misconfigured_before_any_request(server: EmulatorServer) -> None:
    with (
        DevinClient(base_url=server.url, v3_key=server.v3_key) as opened,
        pytest.raises(ConfigurationError, match="DEVIN_V2_API_KEY is not set"),
    ):
        opened.directory("cycles", version="v2")
    assert server.requests == []


@pytest.mark.notices("a list that is read after its client was closed")
def test_closing_a_client_waits_for_a_list_in_the_background() -> None:
    began, let_go = threading.Event(), threading.Event()

    def script(asked: Asked) -> Reply:
        began.set()
        assert let_go.wait(5)
        return page_v3([{"user_id": "a"}])

    with serving(script) as served:
        client = client_of(served)
        listing = client.directory_in_background("users")
        assert began.wait(5)
        threading.Timer(0.3, let_go.set).start()
        client.close()
        assert listing.done()
        assert list(by_id(listing.result())) == ["a"]


def scripted(*replies: Reply, kind: DirectoryKind = "users", version: Any = "v3", **options: Any) -> Listing:
    """What a list returns whose pages are these; the last one for all that follow."""
    with (
        serving(lambda asked: replies[min(asked.number, len(replies)) - 1]) as served,
        client_of(served, **options) as opened,
    ):
        return opened.directory(kind, ["o1"], version=version)


@pytest.mark.notices("the earlier of two entries of one object")
def test_an_entry_that_moves_between_pages_is_kept_once_as_it_was_listed_last() -> None:
    listing = scripted(
        page_v3([{"user_id": "a", "n": 1}, {"user_id": "b"}], cursor="c=", more=True, total=2),
        page_v3([{"user_id": "a", "n": 2}], total=2),
    )
    assert by_id(listing) == {"a": {"user_id": "a", "n": 2}, "b": {"user_id": "b"}}
    assert listing.total == 2


def test_entries_stay_as_they_were_sent_and_those_without_an_id_are_counted() -> None:
    odd = [
        '{ "user_id" :"a|b/c",  "name":"\\ud83d", "n":NaN, "x": 1.50 }',
        '{"user_id":"devin-ä"}',
        '{"user_id":"twice","user_id":"b"}',
        '{"user_id":null}',
        '{"user_id":NaN}',
        '{"user_id":" b"}',
        '{"name":"nobody"}',
        '"text"',
    ]
    listing = scripted(Reply(f'\ufeff{{"items":[{" , ".join(odd)}], "total":null}}'.encode()))
    assert {entry.object_id: entry.payload.decode() for entry in listing.entries} == {
        "a|b/c": odd[0],
        "devin-ä": odd[1],
    }
    assert (listing.unreadable, listing.total) == (6, None)


def test_cycles_are_named_by_their_start_however_it_is_written() -> None:
    begin = 1771228800
    v3 = [{"after": begin}, {"after": str(begin + 1)}, {"after": (begin + 2) * 1000}, {"after": None}]
    v2 = [{"start": "2026-02-16T08:00:00Z"}, {"start": "2026-02-17"}, {"start": "2026-02-18T00:00:00"}, 1]
    found = scripted(page_v3(v3), kind="cycles")
    assert list(by_id(found)) == [str(begin), str(begin + 1), str(begin + 2)]
    assert found.unreadable == 1
    found = scripted(json_reply(v2), kind="cycles", version="v2")
    assert list(by_id(found)) == [str(begin), str(begin + 86_400)]
    assert found.unreadable == 2


def test_limits_are_those_of_the_enterprise_of_organizations_and_of_users() -> None:
    entries = [
        {"scope": "enterprise", "cycle_acu_limit": 5},
        {"scope": "organization", "org_id": "o"},
        {"scope": "user", "user_id": "somebody"},
        {"scope": "org", "org_id": None},
        {"scope": "team"},
    ]
    listing = scripted(page_v3(entries, total=5), kind="enterprise_limits")
    assert list(by_id(listing)) == ["enterprise", "organization/o", "somebody"]
    assert (listing.unreadable, listing.total) == (2, 5)


def one(asked: Asked) -> list[dict[str, str]]:
    return [{"user_id": str(asked.number)}]


NOWHERE: dict[str, Callable[[Asked], Reply]] = {
    "second time": lambda asked: page_v3(one(asked), cursor="same", more=True),
    "not where": lambda asked: page_v3(one(asked), more=True),
    "4 empty pages": lambda asked: page_v3([], cursor=str(asked.number), more=True),
    "more pages than": lambda asked: page_v3(one(asked), cursor=str(asked.number), more=True),
}


@pytest.mark.notices(
    "a cursor of a list that repeats",
    "a missing cursor of a list",
    "empty pages of a list for ever",
    "people in a repr",
)
@pytest.mark.parametrize("why", NOWHERE)
@pytest.mark.parametrize("kind", ["users", "organization_playbooks"])
def test_pages_that_lead_nowhere_are_a_failure_that_names_the_list(why: str, kind: DirectoryKind) -> None:
    with (
        serving(NOWHERE[why]) as served,
        client_of(served, limits=Limits(pages=6)) as opened,
        pytest.raises(NoProgress, match=f"{why}.*") as caught,
    ):
        opened.directory(kind, ["o1"])
    assert "the list of" in str(caught.value)
    assert len(served.asked) <= 7


UNREADABLE = {
    "HTML": Reply(b" <html>sign in, canary</html>"),
    "cut short": Reply(b'{"items":[{"user_id":"canary"'),
    "not UTF-8": Reply(b'{"items":["\xff\xfe"]}'),
    "nested": Reply(b'{"items":' + b"[" * 99_999),
    "no items": json_reply({"detail": "canary"}),
    "no list": json_reply({"items": {"canary": 1}}),
    "a bare list": json_reply(["canary"]),
    "empty": Reply(b""),
    "an odd total": json_reply({"items": [], "total": "canary"}),
    "NaN in an odd shape": Reply(b'{"items":NaN}'),
    "a text": Reply(b'"\\ud800"'),
}


@pytest.mark.notices("an error sent as 200, taken for the limits of an organization")
@pytest.mark.parametrize("shape", UNREADABLE)
@pytest.mark.parametrize("kind", ["users", "cycles", "organization_limits"])
def test_what_is_not_a_list_is_invalid_and_not_quoted(shape: str, kind: DirectoryKind) -> None:
    version = "v2" if kind == "cycles" else "v3"
    if version == "v2" and shape == "a bare list":
        assert scripted(UNREADABLE[shape], kind=kind, version=version).unreadable == 1
        return
    with pytest.raises(InvalidResponse) as caught:
        scripted(UNREADABLE[shape], kind=kind, version=version)
    text = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert "canary" not in text.replace(V3_KEY, "")
    assert V3_KEY not in text


@pytest.mark.notices("people in a repr")
def test_neither_people_nor_keys_are_in_reprs_messages_and_frames() -> None:
    page = page_v3([{"user_id": "somebody", "email": "somebody@example.com"}], cursor="c", more=True)
    listing = scripted(page, page_v3([{"user_id": "other"}]))
    shown = [repr(listing), repr(listing.entries)]
    for fault in (Reply(status=500), Reply(b"somebody", 401), Reply(b"somebody")):
        with pytest.raises((Unreachable, Refused, InvalidResponse)) as caught:
            scripted(page, fault)
        frames = [
            frame.f_locals
            for frame, _ in traceback.walk_tb(caught.value.__traceback__)
            if frame.f_code.co_filename != __file__
        ]
        shown += [str(caught.value), repr(vars(caught.value)), repr(frames)]
        assert "the list of users" in str(caught.value)
    text = "\n".join(shown)
    assert "somebody" not in text
    for form in (V3_KEY, quote(V3_KEY)):
        assert form not in text
