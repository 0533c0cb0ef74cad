"""The bill and the directory of the made-up enterprise add up, follow its sessions, and misbehave on demand."""

import copy
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, get_args
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devin_pipeline.emulator import EmulatorServer, Enterprise, Posting, billing_day
from devin_pipeline.emulator.bill import PRODUCTS, Split
from devin_pipeline.emulator.billing_endpoints import Money
from devin_pipeline.emulator.directory import cycles

ENDS_AT = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)
FIRST, LAST = date(2026, 2, 27), date(2026, 3, 18)
DAYS = [FIRST + timedelta(days=n) for n in range(20)]
DAILY = "/v3/enterprise/consumption/daily"


def small_enterprise(seed: int = 7) -> Enterprise:
    return Enterprise.synthetic(seed=seed, sessions=500, days=20, ends_at=ENDS_AT)


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(small_enterprise()) as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client() as open_client:
        yield open_client


Ask = Callable[..., Any]


@pytest.fixture
def ask(client: httpx.Client, server: EmulatorServer) -> Ask:
    def asked(path: str, key: str | None = None, status: int = 200, **params: str) -> Any:
        known = server.v2_key if path.startswith("/v2") else server.v3_key
        response = client.get(server.url + path, params=params, headers={"Authorization": f"Bearer {key or known}"})
        assert response.status_code == status, response.text
        return json.loads(response.text, parse_float=Decimal, parse_int=Decimal)

    return asked


def window(first: date = FIRST, last: date = LAST) -> dict[str, str]:
    return {"time_after": str(seconds(first)), "time_before": str(seconds(last + timedelta(days=1)))}


def seconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, 8, tzinfo=UTC).timestamp())


def acus(of: Any) -> Decimal:
    return sum((each for each in of), Decimal(0))


def by_day(answer: Any) -> dict[date, Any]:
    return {datetime.fromtimestamp(int(each["date"]), UTC).date(): each for each in answer["consumption_by_date"]}


def every_item(ask: Ask, path: str, first: int = 7) -> list[Any]:
    items: list[Any] = []
    page: dict[str, Any] = {"has_next_page": True, "end_cursor": None}
    while page["has_next_page"]:
        cursor = {"after": page["end_cursor"]} if page["end_cursor"] else {}
        page = ask(path, first=str(first), **cursor)
        items += page["items"]
    assert len(items) == page["total"]
    return items


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_amount_adds_up_to_the_last_digit(seed: int) -> None:
    enterprise = Enterprise.synthetic(seed=seed, sessions=60, days=6, ends_at=ENDS_AT)
    bill = enterprise.bill
    whole = bill.entries("enterprise", None, date.min, date.max)
    for entry in whole:
        assert entry["acus"] == acus(entry["acus_by_product"].values())
    with_sessions = acus(entry["acus_by_product"][name] for entry in whole for name in ("devin",)) + acus(
        entry["acus_by_product"].get("automation", Decimal(0)) for entry in whole
    )
    assert with_sessions == acus(session.acus or 0 for session in enterprise.sessions)
    for session in enterprise.sessions:
        of_session = bill.entries("session", session.session_id, date.min, date.max)
        assert acus(each["acus"] for each in of_session) == (session.acus or 0)
    for entry in whole:
        day = datetime.fromtimestamp(entry["date"], UTC).date()
        organizations = acus(bill.acus("organization", org_id, day) for org_id in bill.ids("organization"))
        people = acus(bill.acus("user", each, day) for each in bill.ids("user"))
        people += acus(bill.acus("service_user", each, day) for each in bill.ids("service_user"))
        assert people <= entry["acus"]
        assert organizations <= entry["acus"]


def test_some_is_used_by_no_organization_and_other_products_than_sessions(ask: Ask, server: EmulatorServer) -> None:
    whole = ask(DAILY, **window())
    organizations = server.enterprise.bill.ids("organization")
    of_organizations = acus(
        ask(f"{DAILY}/organizations/{org_id}", **window())["total_acus"]
        for org_id in organizations
        if server.enterprise.has_organization(org_id)
    )
    assert of_organizations < whole["total_acus"]
    assert whole["total_acus"] == acus(each["acus"] for each in whole["consumption_by_date"])
    assert list(by_day(whole)) == DAYS
    for entry in whole["consumption_by_date"]:
        assert set(PRODUCTS) <= set(entry["acus_by_product"]) <= {*PRODUCTS, "automation"}
    products = {
        name for each in whole["consumption_by_date"] for name, amount in each["acus_by_product"].items() if amount
    }
    assert products == {*PRODUCTS, "automation"}


def test_a_session_is_billed_on_the_days_it_worked_and_grows_on_the_day_it_grew(
    ask: Ask, server: EmulatorServer
) -> None:
    created = datetime(2026, 3, 10, 20, tzinfo=UTC)
    session = server.enterprise.add_session(
        created_at=created, updated_at=created + timedelta(days=2), acus=Decimal("10.000001"), automation_id=None
    )
    path = f"{DAILY}/sessions/devin-{session.session_id}"
    answer = ask(path, **window())
    before = {day: each["acus"] for day, each in by_day(answer).items() if each["acus"]}
    assert list(before) == [date(2026, 3, 10), date(2026, 3, 11), date(2026, 3, 12)]
    assert acus(before.values()) == answer["total_acus"] == session.acus
    session.acus = Decimal("12.5")
    session.updated_at = datetime(2026, 3, 17, 3, tzinfo=UTC)
    after = {day: each["acus"] for day, each in by_day(ask(path, **window())).items() if each["acus"]}
    # 03:00 UTC belongs to the billing day before.
    assert after == before | {date(2026, 3, 16): Decimal("2.499999")}


def test_growth_stays_on_its_day_whatever_changes_later() -> None:
    enterprise = small_enterprise()
    at = datetime(2026, 3, 18, 12, tzinfo=UTC)
    grown = enterprise.grow_acus(5, at=at)
    was = {name: enterprise.bill.acus("session", name, LAST) for name in grown}
    enterprise.session(grown[0]).updated_at = at + timedelta(days=3)
    assert {name: enterprise.bill.acus("session", name, LAST) for name in grown} == was


def test_a_late_posting_changes_its_day_and_no_other(ask: Ask, server: EmulatorServer) -> None:
    org_id = next(each.org_id for each in server.enterprise.organizations if not each.is_deleted)
    path = f"{DAILY}/organizations/{org_id}"
    before = by_day(ask(path, **window()))
    server.enterprise.bill.post(Posting(DAYS[3], "devin", Decimal("1.25"), org_id))
    after = by_day(ask(path, **window()))
    assert {day for day in DAYS if before[day] != after[day]} == {DAYS[3]}
    assert after[DAYS[3]]["acus"] - before[DAYS[3]]["acus"] == Decimal("1.25")


def test_windows_are_of_days_that_begin_in_them(ask: Ask) -> None:
    begin = seconds(DAYS[5])
    one = ask(DAILY, time_after=str(begin), time_before=str(begin + 86_400))
    assert list(by_day(one)) == [DAYS[5]]
    shifted = ask(DAILY, time_after=str(begin + 1), time_before=str(begin + 2 * 86_400 + 1))
    assert list(by_day(shifted)) == [DAYS[6], DAYS[7]]
    assert ask(DAILY, **window(date(2020, 1, 1), date(2020, 2, 1)))["consumption_by_date"] == []
    wrong = ask(DAILY, status=422, time_after="soon")
    assert wrong["detail"][0]["loc"] == ["query", "time_after"]


def test_cycles_begin_on_the_sixteenth_and_meet() -> None:
    found = cycles(date(2026, 1, 3), datetime(2026, 3, 16, 8, tzinfo=UTC))
    assert [f"{begin:%m-%d %H}" for begin, _ in found] == ["03-16 08", "02-16 08", "01-16 08", "12-16 08"]
    assert all(found[place][0] == found[place + 1][1] for place in range(len(found) - 1))


def test_cycles_are_the_same_in_both_versions(ask: Ask) -> None:
    v3 = every_item(ask, "/v3/enterprise/consumption/cycles", first=1)
    v2 = ask("/v2/enterprise/consumption/cycles")
    assert [(each["start"], each["end"]) for each in v2] == [
        tuple(f"{datetime.fromtimestamp(int(each[name]), UTC):%Y-%m-%dT%H:%M:%SZ}" for name in ("after", "before"))
        for each in v3
    ]


PATHS: dict[Money, str] = {
    "organizations": "/v3/enterprise/organizations",
    "users": "/v3/enterprise/members/users",
    "idp_users": "/v3/enterprise/members/idp-users",
    "service_users": "/v3/enterprise/members/service-users",
    "playbooks": "/v3/enterprise/playbooks",
    "organization_playbooks": "/v3/organizations/{org}/playbooks",
    "enterprise_limits": "/v3/enterprise/consumption/acu-limits/devin",
    "organization_limits": "/v3beta1/enterprise/organizations/{org}/consumption/acu-limits",
    "user_limits": "/v3beta1/enterprise/users/consumption/acu-limits",
    "usage_tiers": "/v3beta1/enterprise/usage-policies/tiers",
    "cycles": "/v3/enterprise/consumption/cycles",
    "consumption": DAILY,
    "organization_consumption": f"{DAILY}/organizations/{{org}}",
    "user_consumption": f"{DAILY}/users/{{user}}",
    "service_user_consumption": f"{DAILY}/service-users/{{service_user}}",
    "session_consumption": f"{DAILY}/sessions/{{session}}",
    "v2_cycles": "/v2/enterprise/consumption/cycles",
    "metrics": "/v3/enterprise/metrics/sessions",
    "v2_consumption": "/v2/enterprise/consumption/daily",
}


def path_of(kind: Money, enterprise: Enterprise) -> str:
    org_id = next(each.org_id for each in enterprise.organizations if not each.is_deleted)
    return PATHS[kind].format(
        org=org_id,
        user=quote(next(iter(enterprise.directory.members)), safe=""),
        service_user=next(iter(enterprise.directory.service_users)),
        session=enterprise.sessions[0].session_id,
    )


def test_each_kind_is_refused_by_itself_and_needs_its_key(ask: Ask, server: EmulatorServer) -> None:
    assert set(PATHS) == {kind for part in get_args(Money) for kind in get_args(part)}
    for kind in PATHS:
        path = path_of(kind, server.enterprise)
        of_v2 = path.startswith("/v2")
        ask(path)
        ask(path, key=server.limited_v2_key if of_v2 else server.limited_v3_key, status=403)
        ask(path, key=server.v3_key if of_v2 else server.v2_key, status=401)
        for status in (403, 404):
            server.billing.refused = {kind: status}
            ask(path, status=status)
            others = [other for other in PATHS if other != kind]
            for other in others[:: max(1, len(others) // 4)]:
                ask(path_of(other, server.enterprise))
        server.billing.refused = {}


@pytest.mark.parametrize("kind", get_args(Split))
def test_a_split_is_worded_as_asked_for(kind: Split, ask: Ask, server: EmulatorServer) -> None:
    full = by_day(ask(DAILY, **window()))[DAYS[4]]
    server.enterprise.bill.split = kind
    entry = by_day(ask(DAILY, **window()))[DAYS[4]]
    wanted = {
        "full": full,
        "null": full | {"acus_by_product": None},
        "empty": full | {"acus_by_product": {}},
        "missing": {name: full[name] for name in ("date", "acus")},
        "nulls": full | {"acus_by_product": dict.fromkeys(full["acus_by_product"])},
        "unknown_product": full
        | {"acus": full["acus"] + 1, "acus_by_product": full["acus_by_product"] | {"atlas": Decimal(1)}},
        "not_adding_up": full | {"acus": full["acus"] + Decimal("0.5")},
    }
    assert entry == wanted[kind]


def test_days_can_be_left_out_of_every_answer(ask: Ask, server: EmulatorServer) -> None:
    server.enterprise.bill.left_out = {DAYS[2], DAYS[3]}
    assert list(by_day(ask(DAILY, **window()))) == [*DAYS[:2], *DAYS[4:]]
    assert len(ask("/v2/enterprise/consumption/daily", **v2_window())["consumption_by_date"]) == 18


def v2_window(first: date = FIRST, last: date = LAST) -> dict[str, str]:
    return {"start_date": f"{first}T08:00:00Z", "end_date": f"{last + timedelta(days=1)}T08:00:00Z"}


def test_the_v2_twin_says_the_same_in_maps_and_of_organizations_less(ask: Ask, server: EmulatorServer) -> None:
    path = "/v2/enterprise/consumption/daily"
    answer = ask(path, **v2_window())
    whole = ask(DAILY, **window())
    assert answer["total_acus"] == whole["total_acus"] == acus(answer["consumption_by_date"].values())
    org_id = next(iter(answer["consumption_by_org_id"]))
    of_one = ask(path, org_ids=org_id, **v2_window())
    entries = server.enterprise.bill.entries("organization", org_id, FIRST, LAST)
    left_out = acus(entry["acus_by_product"][name] for entry in entries for name in ("cascade", "terminal"))
    assert left_out > 0
    assert of_one["total_acus"] == answer["consumption_by_org_id"][org_id] - left_out
    assert of_one["consumption_by_user"] == {}
    user_id = next(iter(answer["consumption_by_user"]))
    of_user = ask(f"{DAILY}/users/{quote(user_id, safe='')}", **window())
    assert of_user["total_acus"] == answer["consumption_by_user"][user_id]


def test_lists_have_everybody_once_and_pages_to_their_end(ask: Ask, server: EmulatorServer) -> None:
    directory = server.enterprise.directory
    users = every_item(ask, PATHS["users"])
    idp_users = every_item(ask, PATHS["idp_users"])
    ids = [each["user_id"] for each in (*users, *idp_users)]
    assert sorted(ids) == sorted(directory.members)
    assert all(each["user_id"].startswith("okta|") for each in idp_users)
    assert all(each["name"] and "@" in each["email"] for each in (*users, *idp_users))
    assert {session.user_id for session in server.enterprise.sessions if session.user_id} <= set(ids)
    assert {None} < {each["role_assignments"][0]["org_id"] for each in users}
    listed = {each["org_id"] for each in every_item(ask, PATHS["organizations"], first=2)}
    assert listed == {each.org_id for each in server.enterprise.organizations if not each.is_deleted}
    playbooks = every_item(ask, PATHS["playbooks"])
    for org_id in listed:
        playbooks += every_item(ask, f"/v3/organizations/{org_id}/playbooks")
    assert sorted(each["playbook_id"] for each in playbooks) == sorted(directory.playbooks)
    directory.cut = {"users": 3}
    assert len(every_item(ask, PATHS["users"])) == 3


def test_limits_are_absent_where_there_is_none(ask: Ask, server: EmulatorServer) -> None:
    limits = server.enterprise.directory.limits
    free = next(org_id for org_id, each in limits.items() if each.cloud is None)
    assert ask(f"/v3beta1/enterprise/organizations/{free}/consumption/acu-limits") == {"org_id": free}
    limits[free].cloud = 0
    answer = ask(f"/v3beta1/enterprise/organizations/{free}/consumption/acu-limits")
    assert answer["cloud_agent"] == {"cycle_acu_limit": 0}
    scopes = {each["scope"] for each in every_item(ask, PATHS["enterprise_limits"])}
    assert scopes == {"enterprise", "org", "user"}
    tiers = every_item(ask, PATHS["usage_tiers"])
    assert [("cycle_acu_limit" in tier, tier["is_default"]) for tier in tiers] == [
        (True, True),
        (True, False),
        (False, False),
    ]


def test_who_is_not_there_is_404_and_a_session_is_found_by_either_form_of_its_id(
    ask: Ask, server: EmulatorServer
) -> None:
    for tail in ("organizations/none", "users/none", "service-users/none", "sessions/none"):
        ask(f"{DAILY}/{tail}", status=404)
    session_id = server.enterprise.sessions[5].session_id
    assert ask(f"{DAILY}/sessions/{session_id}") == ask(f"{DAILY}/sessions/devin-{session_id}")
    ask("/v3/organizations/none/consumption/daily", status=404)


def test_an_organization_has_twins_of_its_own(ask: Ask, server: EmulatorServer) -> None:
    bill = server.enterprise.bill
    org_id = next(each.org_id for each in server.enterprise.organizations if not each.is_deleted)
    twin = f"/v3/organizations/{org_id}/consumption/daily"
    assert ask(twin, **window()) == ask(f"{DAILY}/organizations/{org_id}", **window())
    within = acus(
        ask(f"{twin}/users/{quote(user_id, safe='')}", **window())["total_acus"] for user_id in bill.ids("user")
    )
    assert 0 < within < ask(twin, **window())["total_acus"]


def test_a_frozen_bill_stands_while_sessions_say_nothing_was_consumed(ask: Ask, server: EmulatorServer) -> None:
    before = ask(DAILY, **window())
    server.enterprise.bill.freeze()
    for session in server.enterprise.sessions:
        session.acus = Decimal(0)
    assert ask(DAILY, **window()) == before


def test_a_deleted_session_stays_on_the_bill(ask: Ask, server: EmulatorServer) -> None:
    before = ask(DAILY, **window())
    dearest = max(server.enterprise.sessions, key=lambda session: session.acus or 0)
    server.enterprise.delete_session(dearest.session_id)
    assert ask(DAILY, **window()) == before


def test_who_leaves_stays_on_the_bill_of_before(ask: Ask, server: EmulatorServer) -> None:
    before = ask(DAILY, **window())
    server.enterprise.directory.members.clear()
    assert ask(DAILY, **window()) == before


def test_a_copied_enterprise_has_a_bill_and_a_directory_of_its_own() -> None:
    enterprise = small_enterprise()
    twin = copy.deepcopy(enterprise, {id(enterprise.lock): threading.RLock()})
    session = twin.add_session(created_at=ENDS_AT - timedelta(hours=1), acus=Decimal(3))
    twin.rename_organization(session.org_id, "Renamed")
    assert twin.bill.acus("session", session.session_id, billing_day(session.created_at)) == 3
    assert session.session_id not in enterprise.bill.ids("session")
    names = {each["name"] for each in twin.directory.listed("organizations")}
    assert "Renamed" in names
    assert "Renamed" not in {each["name"] for each in enterprise.directory.listed("organizations")}
