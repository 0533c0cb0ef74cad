"""What is billed is read to the last digit, with one request for each entity, several at once."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, get_args

import pytest

from devin_pipeline.devin_api import (
    Consumption,
    ConsumptionV2,
    DevinClient,
    InvalidResponse,
    Refused,
    Scope,
    Unreachable,
    Window,
)
from devin_pipeline.emulator import EmulatorServer, Enterprise, Posting
from devin_pipeline.emulator.billing_endpoints import Money
from devin_pipeline.emulator.faults import FaultScript, Status
from devin_pipeline.errors import ConfigurationError
from devin_pipeline_tests.devin_api.scripted import V3_KEY, Asked, FakeTime, Reply, client_of, json_reply, serving

ENDS_AT = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)
FIRST, LAST = date(2026, 3, 9), date(2026, 3, 18)
DAYS = [FIRST + timedelta(days=n) for n in range(10)]
SCOPES: tuple[Scope, ...] = get_args(Scope)
STRANGE = "okta|Group A/b ?#%7C+ü"


def start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 8, tzinfo=UTC)


WINDOW = Window(start(FIRST), start(LAST + timedelta(days=1)))


@pytest.fixture(scope="module")
def enterprise() -> Enterprise:
    made = Enterprise.synthetic(seed=7, sessions=200, days=10, ends_at=ENDS_AT)
    made.bill.post(Posting(DAYS[4], "devin", Decimal("1234567890.123456789012345678"), None, STRANGE))
    return made


@pytest.fixture(scope="module")
def running(enterprise: Enterprise) -> Iterator[EmulatorServer]:
    with EmulatorServer(enterprise) as server:
        yield server


@pytest.fixture
def server(running: EmulatorServer) -> EmulatorServer:
    running.script(None)
    running.billing.refused = {}
    running.forget_requests()
    return running


def client(server: EmulatorServer, **options: Any) -> DevinClient:
    return DevinClient(base_url=server.url, v2_key=server.v2_key, v3_key=server.v3_key, **options)


def billed(found: Consumption | ConsumptionV2) -> Decimal:
    amounts = found.by_date.values() if isinstance(found, ConsumptionV2) else [day.acus for day in found.days]
    return sum((acus for acus in amounts if acus is not None), Decimal(0))


def owed(enterprise: Enterprise, scope: Scope, scope_id: str | None, days: list[date] = DAYS) -> Decimal:
    return sum((enterprise.bill.acus(scope, scope_id, day) for day in days), Decimal(0))


def kind_of(scope: Scope) -> Money:
    return "consumption" if scope == "enterprise" else f"{scope}_consumption"  # type: ignore[return-value]


def ids_of(enterprise: Enterprise, scope: Scope) -> list[str]:
    ids = [] if scope == "enterprise" else enterprise.bill.ids(scope)
    # Those that were deleted are on the bill, but cannot be asked for.
    return [each for each in ids if scope != "organization" or enterprise.has_organization(each)][:40]


@pytest.mark.notices("amounts of the bill as floats")
@pytest.mark.parametrize("scope", SCOPES)
def test_each_entity_is_read_once_to_the_last_digit(scope: Scope, server: EmulatorServer) -> None:
    ids: list[Any] = ids_of(server.enterprise, scope) or [None]
    with client(server) as opened:
        found = list(opened.consumption(scope, ids if scope != "enterprise" else ["ignored"], WINDOW))
        assert opened.clock_ahead is not None
    assert sorted(each.scope_id or "" for each in found) == sorted(each or "" for each in ids)
    for each in found:
        assert (each.scope, each.refused, each.unreadable_days) == (scope, None, 0)
        assert [day.starts_at for day in each.days] == [start(day) for day in DAYS]
        assert billed(each) == owed(server.enterprise, scope, each.scope_id)
        for day in each.days:
            assert str(day.acus) == str(json.loads(day.payload, parse_float=Decimal, parse_int=Decimal)["acus"])
            assert day.payload in each.payload
    assert len(server.requests) == len(ids)
    assert {request.query for request in server.requests} == {
        (("time_after", str(int(WINDOW.start.timestamp()))), ("time_before", str(int(WINDOW.end.timestamp()))))
    }


def test_a_window_of_a_day_lists_that_day_and_windows_may_differ(server: EmulatorServer) -> None:
    one, two = ids_of(server.enterprise, "organization")[:2]
    windows = {one: Window(start(DAYS[2]), start(DAYS[3])), two: Window(start(DAYS[5]), start(DAYS[7]))}
    with client(server) as opened:
        found = {each.scope_id: each for each in opened.consumption("organization", [one, two], windows)}
        assert next(opened.consumption("organization", [one], None)).refused is None
    assert [day.starts_at for day in found[one].days] == [start(DAYS[2])]
    assert [day.starts_at for day in found[two].days] == [start(DAYS[5]), start(DAYS[6])]
    assert server.requests[-1].query == ()


@pytest.mark.notices("an id that is not percent-encoded", "an id that leads to another endpoint")
def test_an_id_is_one_step_of_the_path_whatever_is_in_it(server: EmulatorServer) -> None:
    ids = [STRANGE, "a?time_after=1", "..", ".", "", "a|b/../.."]
    with client(server) as opened:
        found = {each.scope_id: each for each in opened.consumption("user", [*ids, STRANGE], WINDOW)}
    assert list(map(str, (day.acus for day in found[STRANGE].days if day.acus))) == ["1234567890.123456789012345678"]
    assert {each: found[each].refused for each in ids[1:]} == dict.fromkeys(ids[1:], 404)
    daily = "/v3/enterprise/consumption/daily/users/"
    with serving(lambda asked: json_reply({"consumption_by_date": []})) as served, client_of(served) as opened:
        assert len(list(opened.consumption("user", ids, WINDOW))) == 6
    assert {asked.path for asked in served.asked} == {
        f"{daily}okta%7CGroup%20A%2Fb%20%3F%23%257C%2B%C3%BC",
        f"{daily}a%3Ftime_after%3D1",
        f"{daily}a%7Cb%2F..%2F..",
    }
    assert all(set(asked.query) == {"time_after", "time_before"} for asked in served.asked)


@pytest.mark.notices("a session asked for without its prefix")
def test_a_session_is_asked_for_with_its_prefix_and_named_as_it_was_asked_for() -> None:
    with serving(lambda asked: json_reply({"consumption_by_date": []})) as served, client_of(served) as opened:
        assert {each.scope_id for each in opened.consumption("session", ["a", "devin-b"], WINDOW)} == {"a", "devin-b"}
    assert {asked.path.rpartition("/")[2] for asked in served.asked} == {"devin-a", "devin-b"}


@pytest.mark.notices("sessions that are known without their prefix")
def test_sessions_are_asked_for_as_the_server_knows_them() -> None:
    def script(asked: Asked) -> Reply:
        name = asked.path.rpartition("/")[2]
        is_known = name != "gone" and not name.startswith("devin-")
        return json_reply({"consumption_by_date": []}) if is_known else Reply(status=404)

    ids = ["gone", *(f"session-{n}" for n in range(99)), "devin-last"]
    with serving(script) as served, client_of(served) as opened:
        found = {each.scope_id: each.refused for each in opened.consumption("session", ids, WINDOW)}
    assert found == dict.fromkeys(ids) | {"gone": 404}
    # Once one was answered, the others are asked for as it was.
    assert len(ids) + 2 <= len(served.asked) < len(ids) + 50


REQUESTS_UNTIL_REFUSED = {"enterprise": 1, "session": 1, "user": 8, "service_user": 8}


@pytest.mark.notices("a whole kind that is refused, asked for each person")
@pytest.mark.parametrize("status", [403, 404, 405, 410])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_kind_without_permission_costs_eight_requests_and_sessions_one(
    scope: Scope, status: int, server: EmulatorServer
) -> None:
    server.billing.refused = {kind_of(scope): status}
    ids = [f"entity-{n}" for n in range(30)]
    with client(server) as opened:
        found = list(opened.consumption(scope, ids, WINDOW))
        # Not found is one thing alone, and any may be found still; so may the bill of one organization be permitted.
        each_of = 60 if (scope, status) == ("session", 404) else 1 if scope == "enterprise" else 30
        expected = REQUESTS_UNTIL_REFUSED.get(scope, 30) if status in (403, 405) else each_of
        assert len(server.requests) == expected
        other: Scope = "organization" if scope != "organization" else "enterprise"
        assert [each.refused for each in opened.consumption(other, ids_of(server.enterprise, other), WINDOW)][:1] == [
            None
        ]
    assert len(found) == (1 if scope == "enterprise" else 30)
    assert {(each.refused, each.payload, len(each.days)) for each in found} == {(status, b"", 0)}
    assert {each.scope_id for each in found} == ({None} if scope == "enterprise" else set(ids))


@pytest.mark.notices("one thing that is not found, as a refusal of its kind")
@pytest.mark.parametrize("scope", ["organization", "user", "session"])
def test_many_that_are_not_found_cost_those_after_them_nothing(scope: Scope) -> None:
    def script(asked: Asked) -> Reply:
        return json_reply({"consumption_by_date": []}) if asked.path.endswith("known") else Reply(status=404)

    ids = [*(f"gone-{n}" for n in range(20)), "known"]
    with serving(script) as served, client_of(served) as opened:
        found = {each.scope_id: each.refused for each in opened.consumption(scope, ids, WINDOW)}
    assert found == dict.fromkeys(ids, 404) | {"known": None}


def test_a_session_without_permission_stops_the_rest_also_after_others_were_answered() -> None:
    def script(asked: Asked) -> Reply:
        # Those that are under way may still be answered.
        return Reply(status=403) if asked.number in (2, 3) else json_reply({"consumption_by_date": []})

    ids = [f"session-{n}" for n in range(200)]
    with serving(script) as served, client_of(served) as opened:
        found = {each.scope_id: each.refused for each in opened.consumption("session", ids, WINDOW)}
    assert found.keys() == set(ids)
    assert set(found.values()) == {None, 403}
    assert found[ids[-1]] == 403
    assert len(served.asked) < 50


def test_entities_that_are_gone_cost_the_others_nothing(server: EmulatorServer) -> None:
    known = ids_of(server.enterprise, "organization")
    gone = [f"gone-{n}" for n in range(60)]
    with client(server) as opened:
        found = {each.scope_id: each.refused for each in opened.consumption("organization", [*known, *gone], WINDOW)}
    assert found == dict.fromkeys(known) | dict.fromkeys(gone, 404)
    assert len(server.requests) == len(known) + 60


def test_refusals_that_differ_stop_nothing() -> None:
    def script(asked: Asked) -> Reply:
        return Reply(status=403 if asked.number % 2 else 404)

    with serving(script) as served, client_of(served) as opened:
        assert {each.refused for each in opened.consumption("user", list(map(str, range(20))), WINDOW)} == {403, 404}
    assert len(served.asked) > 8


@pytest.mark.parametrize("status", [401, 400, 422, 302, 451])
def test_any_other_refusal_is_raised_and_stops_the_rest(status: int, server: EmulatorServer) -> None:
    server.script(FaultScript.of({n: Status(status) for n in range(20, 600)}))
    ids = [each.session_id for each in server.enterprise.sessions]
    with client(server) as opened, pytest.raises(Refused) as caught:
        list(opened.consumption("session", ids, WINDOW))
    assert caught.value.status == status
    assert len(server.requests) < 19 + 20


def test_what_passes_by_itself_is_retried_and_what_does_not_is_raised(server: EmulatorServer) -> None:
    fake = FakeTime()
    server.script(FaultScript.of({1: Status(500), 2: Status(429, retry_after="7")}))
    with client(server, sleep=fake.sleep, clock=fake.clock, random=lambda: 1.0) as opened:
        (found,) = opened.consumption("enterprise", [], WINDOW)
        assert billed(found) == owed(server.enterprise, "enterprise", None)
        assert [request.status for request in server.requests] == [500, 429, 200]
        assert fake.slept == [0.5, 7.0]
        server.script(FaultScript.of({0: Status(503)}))
        with pytest.raises(Unreachable, match="the consumption of a user"):
            list(opened.consumption("user", ids_of(server.enterprise, "user"), WINDOW))
    assert len(server.requests) <= 3 + 6 * 8


def test_reading_takes_requests_times_latency_by_concurrency(enterprise: Enterprise) -> None:
    ids = [each.session_id for each in enterprise.sessions[:80]]
    with EmulatorServer(enterprise, latency_seconds=0.1) as server, client(server) as opened:
        next(opened.consumption("enterprise", [], WINDOW))
        began = time.monotonic()
        assert len(list(opened.consumption("session", ids, WINDOW))) == 80
        took = time.monotonic() - began
    assert 0.9 < took < 4


@pytest.mark.notices("requests that go on after their reader has stopped")
def test_a_reader_that_stops_early_leaves_no_request_behind() -> None:
    def script(asked: Asked) -> Reply:
        if asked.path.endswith("/0"):
            return json_reply({"consumption_by_date": []})
        return Reply(status=503)

    before = set(threading.enumerate())
    with serving(script) as served:
        with DevinClient(base_url=served.url, v3_key=V3_KEY, random=lambda: 1.0) as opened:
            reading = opened.consumption("user", [str(n) for n in range(100)], WINDOW)
            assert next(reading).scope_id == "0"
            reading.close()
            time.sleep(0.2)
            sent = len(served.asked)
            assert sent < 40
            # Retries would come within half a second.
            time.sleep(1)
            assert len(served.asked) == sent
        for each in set(threading.enumerate()) - before:
            if each.name.startswith("devin-api"):
                each.join(10)
                assert not each.is_alive()


@pytest.mark.notices("a read cut off by the end of its client, taken as whole")
def test_a_client_that_is_closed_ends_its_reads_with_an_error(server: EmulatorServer) -> None:
    opened = client(server)
    reading = opened.consumption("session", [each.session_id for each in server.enterprise.sessions], WINDOW)
    next(reading)
    opened.close()
    with pytest.raises(CancelledError):
        list(reading)
    assert len(server.requests) < 200


def test_a_client_of_one_organization_reads_what_was_used_in_it(server: EmulatorServer) -> None:
    org_id = ids_of(server.enterprise, "organization")[0]
    session = next(each for each in server.enterprise.sessions if each.org_id == org_id and each.acus)
    user_id = next(
        each
        for each in server.enterprise.bill.ids("user")
        if any(entry["acus"] for entry in server.enterprise.bill.entries("user", each, FIRST, LAST, org_id))
    )
    with client(server, org_id=org_id) as opened:
        assert list(opened.consumption("enterprise", ["x"], WINDOW)) == []
        assert server.requests == []
        (own,) = opened.consumption("organization", ["another", "third"], WINDOW)
        (user,) = opened.consumption("user", [user_id], WINDOW)
        (of_session,) = opened.consumption("session", [session.session_id], WINDOW)
        (missing,) = opened.consumption("service_user", ["none"], WINDOW)
    assert (own.scope_id, billed(own)) == (org_id, owed(server.enterprise, "organization", org_id))
    entries = server.enterprise.bill.entries("user", user_id, FIRST, LAST, org_id)
    assert billed(user) == sum(entry["acus"] for entry in entries) > 0
    assert billed(of_session) == session.acus
    assert missing.refused == 404
    daily = f"/v3/organizations/{org_id}/consumption/daily"
    assert [request.path for request in server.requests] == [
        daily,
        f"{daily}/users/{user_id}",
        f"{daily}/sessions/devin-{session.session_id}",
        f"{daily}/service-users/none",
    ]


def read(body: str | bytes) -> Consumption:
    reply = Reply(body.encode() if isinstance(body, str) else body)
    with serving(lambda asked: reply) as served, client_of(served) as opened:
        (found,) = opened.consumption("enterprise", [], WINDOW)
    return found


@pytest.mark.notices("the earlier of two entries of a day", "the hour at which a billing day starts")
def test_dates_are_read_however_they_are_written_and_entries_without_one_are_counted() -> None:
    at = int(start(FIRST).timestamp())
    dates = [
        f"{at}",
        f"{at + 86400}.0",
        f'"{at + 2 * 86400}"',
        '"2026-03-12"',
        '"2026-03-13T08:00:00Z"',
        '"2026-03-14T09:00:00+01:00"',
        f"{at + 6 * 86400}000",
        f"{at}.0",
    ]
    odd = [
        "null",
        "true",
        '"soon"',
        '"2026-03-14T08:00:00"',
        "NaN",
        "1e400",
        "-1",
        "0",
        "[]",
        '"2026-13-01"',
        "1e99999",
    ]
    entries = [f'{{"date":{value},"acus":{place}}}' for place, value in enumerate([*dates, *odd])]
    body = f'{{"total_acus":1,"consumption_by_date":[{",".join([*entries, "7", "{}"])}]}}'
    found = read(body)
    assert found.payload == body.encode()
    assert {day.starts_at: day.acus for day in found.days} == {
        start(day): Decimal(acus) for day, acus in zip(DAYS, [7, 1, 2, 3, 4, 5, 6], strict=False)
    }
    # One of the dates comes twice.
    assert found.unreadable_days == len(odd) + 2 + 1


@pytest.mark.parametrize(
    ("sent", "acus"),
    [
        ("1.50", "1.50"),
        ("0.1234567890123456789012345678901234567890", "0.1234567890123456789012345678901234567890"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("-3", "-3"),
        ("1e-7", "1E-7"),
        ('"2.5"', "2.5"),
        ("null", None),
        ("true", None),
        ("NaN", None),
        ("Infinity", None),
        ('"NaN"', None),
        ('"much"', None),
        ("[1]", None),
        ("1e99999999999999999999", None),
    ],
)
def test_an_amount_keeps_every_digit_or_is_unknown(sent: str, acus: str | None) -> None:
    entry = f'{{ "acus":{sent},\n"date":1773043200, "x":"\\ud800" }}'
    (day,) = read(f'{{"consumption_by_date":[{entry}]}}').days
    assert day.acus is None if acus is None else str(day.acus) == acus
    assert day.payload == entry.encode()
    (day,) = read('{"consumption_by_date":[{"date":1773043200}]}').days
    assert day.acus is None


UNREADABLE = {
    "HTML": b"<html>canary</html>",
    "cut short": b'{"consumption_by_date":[{"date":1,"canary"',
    "no days": b'{"total_acus":1,"canary":2}',
    "days that are null": b'{"consumption_by_date":null}',
    "a list": b'["canary"]',
    "not UTF-8": b'{"consumption_by_date":["\xff\xfe"]}',
    "nested": b'{"consumption_by_date":' + b"[" * 99_999,
}


@pytest.mark.parametrize("shape", UNREADABLE)
def test_what_is_not_a_bill_is_invalid_and_names_neither_entity_nor_body(shape: str) -> None:
    fine = b'{"consumption_by_date":[]}'
    with (
        serving(lambda asked: Reply(fine if asked.path.endswith("/a") else UNREADABLE[shape])) as served,
        client_of(served) as opened,
        pytest.raises(InvalidResponse, match="the consumption of a user") as caught,
    ):
        list(opened.consumption("user", ["a", *(f"somebody{n}" for n in range(100))], WINDOW))
    text = f"{caught.value} {vars(caught.value)}"
    for hidden in ("canary0", "canary", "somebody", served.url, "users/", V3_KEY):
        assert hidden not in text
    assert len(served.asked) < 100


def test_an_entry_that_is_nested_too_deeply_costs_its_neighbours_nothing() -> None:
    entry = '{"date":1773043200,"acus":1,"x":NaN}'
    deep = '{"date":' + "[" * 400 + "]" * 400 + "}"
    found = read(f'{{"consumption_by_date":[{entry},{deep}]}}')
    assert (len(found.days), found.unreadable_days) == (1, 1)


def test_neither_amounts_nor_entities_nor_keys_are_in_a_repr() -> None:
    body = '{"consumption_by_date":[{"date":1773043200,"acus":4711}]}'
    with serving(lambda asked: Reply(body.encode())) as served, client_of(served) as opened:
        (found,) = opened.consumption("user", ["somebody"], WINDOW)
    shown = f"{found!r} {found.days!r} {ConsumptionV2(by_user={'somebody': Decimal(4711)})!r}"
    assert "somebody" not in shown
    assert "4711" not in shown


def test_the_bill_without_its_key_is_misconfigured_before_any_request(server: EmulatorServer) -> None:
    with (
        DevinClient(base_url=server.url, v2_key=server.v2_key) as opened,
        pytest.raises(ConfigurationError, match="DEVIN_V3_API_KEY is not set"),
    ):
        opened.consumption("user", ["a"], WINDOW)
    with (
        DevinClient(base_url=server.url, v3_key=server.v3_key) as opened,
        pytest.raises(ConfigurationError, match="DEVIN_V2_API_KEY is not set"),
    ):
        opened.consumption_v2([WINDOW])
    assert server.requests == []


WINDOWS = [Window(start(day), start(day + timedelta(days=1))) for day in DAYS]


@pytest.mark.notices("amounts of the bill of v2 as floats")
def test_v2_says_by_day_organization_and_user_what_v3_says(server: EmulatorServer) -> None:
    bill = server.enterprise.bill
    with client(server) as opened:
        found = dict(opened.consumption_v2([*WINDOWS, WINDOWS[0]]))
    assert sorted(found) == WINDOWS
    for day, window in zip(DAYS, WINDOWS, strict=True):
        of_day = found[window]
        assert of_day.by_date == {window.start: bill.acus("enterprise", None, day)}
        for scope, amounts in (("organization", of_day.by_organization), ("user", of_day.by_user)):
            owed_by_id = {each: bill.acus(scope, each, day) for each in bill.ids(scope)}  # type: ignore[arg-type]
            assert amounts == {each: acus for each, acus in owed_by_id.items() if acus}
        assert json.loads(of_day.payload)["consumption_by_date"]
        assert (of_day.refused, of_day.unreadable_days) == (None, 0)
    assert (found[WINDOWS[4]].by_user or {})[STRANGE] == Decimal("1234567890.123456789012345678")
    assert sorted(request.query for request in server.requests) == [
        (("start_date", f"{day}T08:00:00Z"), ("end_date", f"{day + timedelta(days=1)}T08:00:00Z")) for day in DAYS
    ]


def test_v2_of_one_organization_is_asked_for_that(server: EmulatorServer) -> None:
    org_id = ids_of(server.enterprise, "organization")[0]
    with client(server, org_id=org_id) as opened:
        found = dict(opened.consumption_v2(WINDOWS))
    without = sum(
        (server.enterprise.bill.acus("organization", org_id, day, without=("cascade", "terminal")) for day in DAYS),
        Decimal(0),
    )
    assert sum(map(billed, found.values())) == without > 0
    assert {id_ for each in found.values() for id_ in each.by_organization or ()} == {org_id}
    assert all(("org_ids", org_id) in request.query for request in server.requests)


@pytest.mark.parametrize("status", [403, 404])
def test_v2_that_is_refused_costs_one_request(status: int, server: EmulatorServer) -> None:
    server.billing.refused = {"v2_consumption": status}
    with client(server) as opened:
        found = dict(opened.consumption_v2(WINDOWS))
    assert len(server.requests) == 1
    assert {each.refused for each in found.values()} == {status}
    assert sorted(found) == WINDOWS


def test_v2_that_is_refused_on_the_way_is_asked_no_further(server: EmulatorServer) -> None:
    server.script(FaultScript.of({n: Status(403) for n in range(4, 400)}))
    many = [Window(start(FIRST - timedelta(days=n + 1)), start(FIRST - timedelta(days=n))) for n in range(200)]
    with client(server) as opened:
        found = dict(opened.consumption_v2(many))
    assert sorted(found) == sorted(many)
    assert sum(each.refused is None for each in found.values()) == 3
    assert len(server.requests) < 60


V2_BODIES: dict[str, tuple[bytes, Callable[[ConsumptionV2], bool]]] = {
    "dates and instants": (
        b'{"consumption_by_date":{"2026-03-09":1.50,"2026-03-10T08:00:00Z":"2","soon":3},"consumption_by_org_id":{}}',
        lambda found: (
            found.by_date == {start(DAYS[0]): Decimal("1.50"), start(DAYS[1]): Decimal(2)}
            and found.unreadable_days == 1
        ),
    ),
    "what is no amount": (
        b'{"consumption_by_date":{"2026-03-09":NaN},"consumption_by_org_id":null,"consumption_by_user":{"a|b":null}}',
        lambda found: (
            found.by_date == {start(DAYS[0]): None}
            and (found.by_organization or {}, found.by_user) == ({}, {"a|b": None})
        ),
    ),
    "many digits": (
        b'{"consumption_by_date":{},"consumption_by_user":{"\\ud800":0.12345678901234567890123}}',
        lambda found: [str(acus) for acus in (found.by_user or {}).values()] == ["0.12345678901234567890123"],
    ),
}


@pytest.mark.parametrize("body", V2_BODIES)
def test_maps_of_v2_are_read_however_they_are_written(body: str) -> None:
    sent, is_expected = V2_BODIES[body]
    with serving(lambda asked: Reply(sent)) as served, client_of(served) as opened:
        ((_, found),) = opened.consumption_v2([WINDOW])
    assert is_expected(found)
    assert found.payload == sent


@pytest.mark.parametrize("sent", [b"[]", b"{}", b'{"consumption_by_date":[]}', b"<html>", b"", b'{"x":NaN}'])
def test_what_is_not_maps_of_v2_is_invalid(sent: bytes) -> None:
    with (
        serving(lambda asked: Reply(sent)) as served,
        client_of(served) as opened,
        pytest.raises(InvalidResponse, match="the consumption of v2"),
    ):
        list(opened.consumption_v2(WINDOWS))
