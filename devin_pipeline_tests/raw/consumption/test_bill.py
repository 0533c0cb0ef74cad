"""The bill beside sessions, from the emulator to the reports: whatever it answers, no amount is lost or made up."""

import copy
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from devin_pipeline.billing_calendar import day_of, days_between, starts_at
from devin_pipeline.devin_api import BilledDay, Consumption, ConsumptionV2
from devin_pipeline.emulator import EmulatorServer, Posting
from devin_pipeline.emulator.bill import Scope, Split
from devin_pipeline.emulator.billing_endpoints import Money
from devin_pipeline.lake import Lake
from devin_pipeline.operations.erase import forget
from devin_pipeline.operations.verify import verify
from devin_pipeline.orchestration.asset_checks import CheckContext
from devin_pipeline.raw.consumption.assets import RESTATED_ACUS, figures_of_days
from devin_pipeline.raw.consumption.entities import Entity
from devin_pipeline.raw.consumption.landing import Bill, is_refused_as_a_whole, land_bill
from devin_pipeline.raw.money_checks import _refused
from devin_pipeline.tables import RAW_CONSUMPTION
from devin_pipeline.tables import TABLES as TABLE
from devin_pipeline_tests.bill import LAST, Reading, Row, copied, enterprise_of, reading, summed
from devin_pipeline_tests.derived import spend
from devin_pipeline_tests.runs import publish
from devin_pipeline_tests.tables.rows import acus, findings

PEOPLE: tuple[Scope, ...] = ("organization", "user", "service_user")
ZONES = ("UTC", "America/Los_Angeles", "Asia/Kolkata")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    with reading(enterprise_of(5, sessions=120), tmp_path_factory.mktemp("bill")) as found:
        yield found


@pytest.fixture
def read(made: Reading, tmp_path: Path) -> Iterator[Reading]:
    """A copy of what was read once, whose emulator may change."""
    shutil.copytree(made.lake.uri, tmp_path / "lake")
    enterprise = copy.deepcopy(made.enterprise, {id(made.enterprise.lock): threading.RLock()})
    with EmulatorServer(enterprise) as server:
        yield copied(made, server, tmp_path)


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts this process into a time zone."""

    def put(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield put
    monkeypatch.undo()
    time.tzset()


def reconciled(read: Reading, refusals: dict[str, int] | None = None, first_open_day: date | None = None) -> list[Row]:
    """What the reconciliation is to hold, computed in Python from the tables that it is made of."""
    facts = spend.Facts(
        read.days,
        read.days,
        refusals or {},
        first_open_day or day_of(datetime.now(UTC) - timedelta(hours=48), 8),
    )
    return spend.reconciliation_daily(
        read.rows("consumption_daily"), read.rows("session_acus_by_day"), read.rows("sessions"), facts
    )


def plain(rows: list[Row]) -> list[str]:
    return sorted(str(sorted(row.items())) for row in rows)


@pytest.mark.parametrize(("zone", "seed"), [("UTC", 20), ("America/Los_Angeles", 36), ("Asia/Kolkata", 29)])
def test_every_amount_adds_up_to_the_last_digit_wherever_the_host_is(
    zone: str, seed: int, in_zone: Callable[[str], None], tmp_path: Path
) -> None:
    in_zone(zone)
    with reading(enterprise_of(seed), tmp_path) as read:
        sessions = {row["session_id"]: row for row in read.rows("sessions")}
        by_session = summed(read.rows("session_acus_by_day"), ["session_id"])
        assert by_session == {(name,): row["acus"] for name, row in sessions.items() if row["acus"] is not None}
        bill = read.enterprise.bill
        by_bill = summed(read.rows("consumption_daily"), ["day", "scope", "scope_id"])
        assert by_bill == {
            (day, scope, each): bill.acus(scope, None if scope == "enterprise" else each, day)
            for day, scope, each in by_bill
        }
        gone = {("organization", each) for each in deleted(read)}
        billed = {(scope, each) for scope in PEOPLE for each in bill.ids(scope)} - gone
        assert {key[1:] for key in by_bill} >= {("enterprise", "(enterprise)"), *billed}
        assert {key[0] for key in by_bill} == set(read.days[1:])
        for name, row in sessions.items():
            # What the API says of a session's days is what the bill has of it.
            of_api = [day for day in read.rows("session_acus_by_day") if day["session_id"] == name]
            if row["acus"] and {each["attribution_method"] for each in of_api} == {"api_daily"}:
                entries = bill.entries("session", name, read.days[0], read.days[-1])
                assert {each["consumed_day"]: each["acus"] for each in of_api} == {
                    day_of(datetime.fromtimestamp(each["date"], UTC), 8): each["acus"]
                    for each in entries
                    if each["acus"]
                }
        rows = read.rows("reconciliation_daily")
        assert plain(rows) == plain(reconciled(read, {f"organization/{each}": 404 for each in deleted(read)}))
        for row in rows:
            if row["status"] not in ("no_bill", "not_permitted"):
                parts = ("without_sessions", "with_sessions")
                of_products = [row[f"billed_acus_of_products_{part}"] for part in parts]
                assert row["billed_acus"] == sum(of_products) + row["billed_acus_unsplit"]
                assert of_products[1] == row["session_acus"] + row["residual_acus"]
        assert set(read.statuses().values()) == {"exact"}
        assert verify(read.lake, 8).is_clean


def deleted(read: Reading) -> list[str]:
    return [each.org_id for each in read.enterprise.organizations if each.is_deleted]


def add_session(read: Reading, created_at: datetime, updated_at: datetime, acus: str, **fields: Any) -> str:
    values = {"acus": Decimal(acus), "automation_id": None, **fields}
    return read.enterprise.add_session(created_at=created_at, updated_at=updated_at, **values).session_id


def days_of(read: Reading, session_id: str) -> dict[str, tuple[str, Decimal]]:
    return {
        row["consumed_day"].isoformat(): (row["attribution_method"], row["acus"])
        for row in read.rows("session_acus_by_day")
        if row["session_id"] == session_id
    }


def test_a_session_over_three_days_lands_on_the_days_of_the_bill_or_on_those_of_the_next_method(read: Reading) -> None:
    created = datetime(2026, 3, 7, 20, tzinfo=UTC)
    long = add_session(read, created, created + timedelta(days=2), "10.000001")
    # Within one day of UTC, on both sides of 08:00.
    short = add_session(
        read, datetime(2026, 3, 12, 7, tzinfo=UTC), datetime(2026, 3, 12, 9, tzinfo=UTC), "4", automation_id=None
    )
    read.run()
    billed = {
        day: acus
        for day in ("2026-03-07", "2026-03-08", "2026-03-09")
        if (acus := read.enterprise.bill.acus("session", long, date.fromisoformat(day)))
    }
    assert len(billed) == 3
    assert days_of(read, long) == {day: ("api_daily", acus) for day, acus in billed.items()}
    assert list(days_of(read, short)) == ["2026-03-11", "2026-03-12"]
    assert {row["day"] for row in read.rows("sessions") if row["session_id"] == short} == {date(2026, 3, 11)}

    read.server.billing.refused = {"session_consumption": 403}
    session = read.enterprise.session(long)
    session.acus, session.updated_at = Decimal("12.5"), datetime(2026, 3, 17, 3, tzinfo=UTC)
    fresh = add_session(read, created, created + timedelta(days=2), "3")
    read.run()
    # The answer stands that was had before; what it does not know is left over.
    assert days_of(read, long) == {day: ("api_daily", acus) for day, acus in billed.items()} | {
        "2026-03-16": ("remainder", Decimal("2.499999"))
    }
    assert days_of(read, fresh) == {"2026-03-09": ("updated_day", Decimal("3.000000"))}
    note = read.lake.bill_note(TABLE["raw_session_consumption"])
    assert note.refused == {"session": 403}


def test_a_cycle_from_the_sixteenth_and_a_week_of_daylight_saving_come_out_right(made: Reading) -> None:
    cycles = {row["cycle_start"]: row for row in made.rows("billing_cycles")}
    march = cycles[datetime(2026, 3, 16, 8, tzinfo=UTC)]
    assert (march["cycle_end"], march["first_day"], march["last_day"], march["is_current"]) == (
        *(datetime(2026, 4, 16, 8, tzinfo=UTC), date(2026, 3, 16), date(2026, 4, 15), False),
    )
    assert sum(row["is_current"] for row in cycles.values()) == 1
    assert {str(row["cycle_start"].time()) for row in cycles.values()} == {"08:00:00"}
    # Each day has 24 hours of bill, also 8 March, on which a day of California has 23.
    assert set(made.statuses()) == set(made.days[1:])


def test_growth_of_an_old_session_moves_only_the_days_it_touches(read: Reading) -> None:
    created = datetime(2026, 3, 7, 12, tzinfo=UTC)
    name = add_session(read, created, created + timedelta(hours=1), "5")
    read.run()
    before = summed(read.rows("acu_consumed_daily"), ["day"])
    versions = read.lake.snapshot(TABLE["acu_consumed_daily"]).stored_files()
    session = read.enterprise.session(name)
    session.acus, session.updated_at = Decimal("7.25"), datetime(2026, 3, 18, 12, tzinfo=UTC)
    read.run()
    after = summed(read.rows("acu_consumed_daily"), ["day"])
    changed = {day: after[day] - before.get(day, Decimal(0)) for day in after if after[day] != before.get(day)}
    assert changed == {(LAST,): Decimal("2.25")}
    # What did not change was not written.
    kept = {file.path for file in read.lake.snapshot(TABLE["acu_consumed_daily"]).stored_files()}
    assert {file.day for file in versions if file.path not in kept} <= {LAST}
    assert [row["day"] for row in read.rows("sessions") if row["session_id"] == name] == [date(2026, 3, 7)]


KINDS_OF_BILL: tuple[Money, ...] = (
    *("consumption", "organization_consumption", "user_consumption", "service_user_consumption"),
)
LISTS: tuple[Money, ...] = (
    *("organizations", "users", "idp_users", "service_users", "playbooks", "organization_playbooks", "cycles"),
    *("enterprise_limits", "organization_limits", "user_limits", "usage_tiers"),
)


@pytest.mark.parametrize("status", [403, 404])
def test_a_refused_bill_is_null_and_costs_nothing_else(read: Reading, status: int) -> None:
    before = {name: read.rows(name) for name in ("raw_consumption", "sessions", "acu_consumed_daily", "users")}
    stored = read.rows("consumption_daily")
    for kind in KINDS_OF_BILL:
        read.server.billing.refused = {kind: status}
        read.read_money()
        assert {name: read.rows(name) for name in before} == before, kind
        assert read.rows("consumption_daily") == stored
        scope = kind.removesuffix("_consumption") if kind != "consumption" else "enterprise"
        noted = {name.partition("/")[0]: status for name, status in refusals(read).items()}
        # A few organizations that are gone are no refusal of all.
        assert noted == {scope: status} | ({"organization": 404} if status == 404 or scope != "organization" else {})
        if scope in ("enterprise", "organization"):
            rows = read.rows("reconciliation_daily")
            refused = [
                row
                for row in rows
                if (scope == "enterprise") == (row["org_id"] == "(enterprise)") and row["org_id"] != "(no organization)"
            ]
            assert {row["status"] for row in refused} == {"not_permitted" if status == 403 else "no_bill"}
            for row in refused:
                assert row["billed_acus"] is row["residual_acus"] is row["billed_acus_unsplit"] is None
                assert row["session_acus"] is not None
            assert plain(rows) == plain(reconciled(read, refusals(read)))
    read.server.billing.refused = {}
    read.read_money()
    assert set(read.statuses().values()) == {"exact"}


def refusals(read: Reading) -> dict[str, int]:
    return dict(read.lake.bill_note(TABLE["raw_consumption"]).refused)


@pytest.mark.notices(
    "a list that is refused, taken for an empty one", "what organizations have that were not asked for"
)
@pytest.mark.parametrize("status", [403, 404])
def test_a_refused_list_keeps_its_names_and_costs_the_others_nothing(read: Reading, status: int) -> None:
    tables = ("raw_directory", "organizations", "users", "playbooks", "billing_cycles", "acu_limits")
    before = {name: read.rows(name) for name in tables}
    refused: dict[Money, int] = dict.fromkeys(LISTS[::2], status)
    read.server.billing.refused = refused
    read.read_money()
    assert {name: read.rows(name) for name in tables} == before
    refused = dict.fromkeys(LISTS[1::2], status)
    read.server.billing.refused = refused
    read.read_money()
    assert {name: read.rows(name) for name in tables} == before
    assert read.lake.bill_note(TABLE["raw_directory"]).refused == refused
    assert set(read.statuses().values()) == {"exact"}


@pytest.mark.parametrize(
    ("split", "status"),
    [
        ("null", "no_split"),
        ("empty", "no_split"),
        ("missing", "no_split"),
        ("nulls", "no_split"),
        ("unknown_product", "exact"),
        ("not_adding_up", "exact"),
    ],
)
def test_a_split_worded_otherwise_changes_what_is_known_and_no_amount(read: Reading, split: Split, status: str) -> None:
    bill = read.enterprise.bill
    bill.split = split
    read.read_money()
    assert set(read.statuses().values()) <= {status}
    whole = summed([row for row in read.rows("consumption_daily") if row["scope"] == "enterprise"], ["day"])
    more = {"unknown_product": Decimal(1), "not_adding_up": Decimal("0.5")}.get(split, Decimal(0))
    assert whole == {(day,): bill.acus("enterprise", None, day) + more for day in read.days[1:]}
    products = {row["product"] for row in read.rows("consumption_daily")}
    assert ("(all)" in products, "(unsplit)" in products) == (status == "no_split", split == "not_adding_up")
    for row in read.rows("reconciliation_daily"):
        if status == "no_split" and row["status"] == "no_split":
            assert row["billed_acus"] == row["billed_acus_unsplit"] is not None
            assert row["billed_acus_of_products_with_sessions"] is row["residual_acus"] is None


@pytest.mark.notices("a bill that was cut short, believed", "a list that was cut short, believed")
def test_what_leaves_out_more_than_half_is_not_believed_and_said(read: Reading) -> None:
    lists, bills = TABLE["raw_directory"], TABLE["raw_consumption"]
    before = {name: read.rows(name) for name in ("raw_directory", "raw_consumption", "users", "reconciliation_daily")}
    listed = len([row for row in read.rows("users") if row["kind"] == "user"])
    read.enterprise.directory.cut = {"users": 3}
    read.enterprise.bill.left_out = set(read.days[3:])
    read.read_money()
    assert {name: read.rows(name) for name in before} == before
    assert read.lake.bill_note(lists).shrunk["users"][1] == 3
    assert read.lake.bill_note(bills).shrunk["enterprise"] == (12, 2)
    assert listed > 10

    # A few left out are believed: those days have no bill, and their people are not listed.
    read.enterprise.directory.cut = {}
    read.enterprise.bill.left_out = {read.days[4], read.days[5]}
    gone = next(iter(read.enterprise.directory.members))
    del read.enterprise.directory.members[gone]
    read.read_money()
    assert {day for day, status in read.statuses().items() if status == "no_bill"} == {*read.days[4:6]}
    (row,) = [row for row in read.rows("users") if row["user_id"] == gone]
    assert (row["is_listed"], row["is_current"]) == (False, True)
    assert row["name"]
    assert read.lake.bill_note(lists).shrunk == read.lake.bill_note(bills).shrunk == {}


def test_zero_acus_of_all_sessions_under_a_bill_is_a_broken_source(tmp_path: Path) -> None:
    enterprise = enterprise_of(9)
    enterprise.bill.freeze()
    for session in enterprise.sessions:
        session.acus = Decimal(0)
    with reading(enterprise, tmp_path) as read:
        rows = [row for row in read.rows("reconciliation_daily") if row["status"] == "source_broken"]
        assert {row["day"] for row in rows if row["org_id"] == "(enterprise)"} == {
            row["day"] for row in read.rows("sessions")
        }
        for row in rows:
            assert row["session_acus"] is row["residual_acus"] is row["child_session_acus"] is None
            assert row["billed_acus_of_products_with_sessions"]
        assert plain(read.rows("reconciliation_daily")) == plain(
            reconciled(read, {f"organization/{each}": 404 for each in deleted(read)})
        )


def test_a_late_posting_changes_its_day_and_no_other(read: Reading) -> None:
    before = {row["day"]: row for row in read.rows("reconciliation_daily") if row["org_id"] == "(enterprise)"}
    files = {file.day: file.path for file in read.lake.snapshot(TABLE["consumption_daily"]).stored_files()}
    day = read.days[5]
    org_id = next(each.org_id for each in read.enterprise.organizations if not each.is_deleted)
    read.enterprise.bill.post(Posting(day, "review", Decimal("1.25"), org_id))
    read.read_money()
    after = {row["day"]: row for row in read.rows("reconciliation_daily") if row["org_id"] == "(enterprise)"}
    assert {each for each in after if after[each] != before[each]} == {day}
    assert after[day]["billed_acus"] - before[day]["billed_acus"] == Decimal("1.25")
    now = {file.day: file.path for file in read.lake.snapshot(TABLE["consumption_daily"]).stored_files()}
    assert {each for each in files if files[each] != now[each]} == {day}


def test_reading_again_writes_nothing(read: Reading) -> None:
    read.read_money()
    versions = {name: read.lake.snapshot(table).version for name, table in TABLE.items()}
    read.read_money()
    assert {name: read.lake.snapshot(table).version for name, table in TABLE.items()} == versions


@pytest.mark.notices("a day of a report that no longer has rows")
def test_a_day_on_which_nothing_was_consumed_after_all_has_no_rows(read: Reading) -> None:
    created = datetime(2026, 3, 6, 12, tzinfo=UTC)
    name = add_session(read, created, created + timedelta(hours=1), "5")
    read.run()
    assert read.days[0] in {row["day"] for row in read.rows("acu_consumed_daily")}
    session = read.enterprise.session(name)
    session.acus, session.updated_at = None, created + timedelta(hours=2)
    read.run()
    assert read.days[0] not in {row["day"] for row in read.rows("acu_consumed_daily")}


def test_who_is_erased_by_id_leaves_no_name_or_e_mail(read: Reading) -> None:
    user_id = next(row["user_id"] for row in read.rows("sessions") if row["user_id"])
    member = read.enterprise.directory.members[user_id]
    member.name, member.email = "Canary Person", "canary@example.com"
    read.read_money()
    assert "Canary Person" in {row["name"] for row in read.rows("users")}
    forget(read.lake, 8, [("user", user_id)])
    names = (user_id, "Canary Person", "canary@example.com")
    for path in Path(read.lake.uri).rglob("*"):
        text = path.read_bytes() if path.is_file() else b""
        text += repr(pq.ParquetFile(path).read().to_pylist()).encode() if path.suffix == ".parquet" else b""
        assert [name for name in names if name.encode() in text] == [], path
    assert verify(read.lake, 8).is_clean


@pytest.mark.notices("days that a table of spend lacks")
def test_a_lake_of_before_gets_the_spend_of_all_its_days_with_the_next_run(read: Reading) -> None:
    before = {name: read.rows(name) for name in ("session_acus_by_day", "consumption_daily", "acu_consumed_daily")}
    for name in ("session_acus_by_day", "consumption_daily"):
        shutil.rmtree(read.lake.location(TABLE[name]))
        (Path(read.lake.uri) / "made_of" / f"{name}.json").unlink()
    publish(read.lake, read.days[-1:])
    assert {name: read.rows(name) for name in before} == before


@pytest.mark.notices("organizations of several days at once, taken for those of one")
def test_maps_of_v2_count_for_their_day_only_if_they_are_of_that_day_alone() -> None:
    day, other = date(2026, 3, 10), date(2026, 3, 11)
    amounts = {"org-1": Decimal("1.5")}
    for days, scopes in (([day], {"enterprise", "organization", "user"}), ([day, other], {"enterprise"})):
        by_date: dict[datetime, Decimal | None] = {starts_at(each, 8): Decimal(2) for each in days}
        bill = Bill([day])
        bill.take_v2(day, ConsumptionV2(None, by_date, dict(amounts), {"user|1": Decimal(1)}, b"{}"))
        assert {row["scope"] for row in bill.rows} == {row["scope"] for row in bill.whole} == scopes
        assert bill.outside == len(days) - 1


@pytest.mark.notices("days of v2 that cannot be read, unsaid", "maps of no day, taken for those of the day asked for")
def test_maps_of_v2_without_a_day_that_can_be_read_are_not_those_of_the_day_asked_for() -> None:
    day = date(2026, 3, 10)
    amounts: dict[str, Decimal | None] = {"org-1": Decimal("1.5")}
    unreadable, of_no_day, empty = Bill([day]), Bill([day]), Bill([day])
    unreadable.take_v2(day, ConsumptionV2(None, {}, amounts, {}, b"{}", unreadable_days=1))
    of_no_day.take_v2(day, ConsumptionV2(None, {}, amounts, {}, b"{}"))
    empty.take_v2(day, ConsumptionV2(None, {}, {}, {}, b"{}"))
    assert [bill.rows for bill in (unreadable, of_no_day, empty)] == [[], [], []]
    assert [{row["scope"] for row in bill.whole} for bill in (unreadable, of_no_day, empty)] == [
        set(),
        {"enterprise"},
        {"enterprise", "organization", "user"},
    ]
    assert unreadable.unreadable == {"enterprise": 1, "organization": 1, "user": 1}


@pytest.mark.notices("a filter by organization that was ignored")
def test_v2_of_one_organization_has_no_enterprise_and_no_other_organization() -> None:
    day = date(2026, 3, 10)
    for others, expected in (
        ({}, {("organization", "o1"), ("user", "u")}),
        ({"o2": Decimal(2)}, {("organization", "o1")}),
    ):
        bill = Bill([day])
        by_date: dict[datetime, Decimal | None] = {starts_at(day, 8): Decimal(7)}
        by_organization: dict[str, Decimal | None] = {"o1": Decimal(5), **others}
        bill.take_v2(day, ConsumptionV2(None, by_date, by_organization, {"u": Decimal(1)}, b"{}"), "o1")
        assert {(row["scope"], row["scope_id"]) for row in bill.rows} == expected
        assert "enterprise" not in bill.asked


@pytest.mark.notices("a map of v2 that was not sent, taken for an empty one")
def test_a_map_that_v2_did_not_send_says_nothing_of_its_scope() -> None:
    day = date(2026, 3, 10)
    by_date: dict[datetime, Decimal | None] = {starts_at(day, 8): Decimal(7)}
    bill = Bill([day])
    bill.take_v2(day, ConsumptionV2(None, by_date, {"o1": Decimal(5)}, None, b"{}"))
    assert {row["scope"] for row in bill.whole} == bill.answered == {"enterprise", "organization"}


@pytest.mark.notices("a bill of v2 of one organization that was cut short, believed")
@pytest.mark.parametrize("organization", [None, "o1"])
def test_a_bill_of_v2_that_lacks_most_days_takes_nothing_off(organization: str | None, tmp_path: Path) -> None:
    lake, days = Lake(str(tmp_path / "lake")), days_between(date(2026, 3, 1), date(2026, 3, 12))
    bills: list[dict[str, Decimal | None]] = [{"o1": Decimal(5)}, {}]
    for number, amounts in enumerate(bills):
        bill = Bill(days)
        for day in days:
            by_date: dict[datetime, Decimal | None] = {starts_at(day, 8): Decimal(7)} if amounts else {}
            bill.take_v2(day, ConsumptionV2(None, by_date, amounts, amounts, b"{}"), organization)
        land_bill(lake, bill, datetime(2026, 3, 20, number, tzinfo=UTC))
    rows = lake.snapshot(RAW_CONSUMPTION).rows().to_pylist()
    assert {row["is_listed"] for row in rows} == {True}
    assert len(rows) == len(days) * (2 if organization else 3)
    assert lake.bill_note(RAW_CONSUMPTION).shrunk


@pytest.mark.notices("two entries of one billing day, unsaid")
def test_two_entries_of_one_billing_day_are_said_and_nothing_is_taken_off() -> None:
    day = date(2026, 3, 8)
    entries = [BilledDay(starts_at(day, hour), Decimal(hour), b'{"date": 0}') for hour in (8, 9)]
    bill = Bill([day])
    bill.take("enterprise", [Entity("(enterprise)", "(enterprise)")], [Consumption("enterprise", None, entries, b"{}")])
    assert [row["acus"] for row in bill.rows] == [Decimal(9)]
    assert (bill.unreadable, bill.whole) == ({"enterprise": 1}, [])


def test_a_closed_day_that_is_taken_off_the_bill_is_restated_too() -> None:
    day, now = date(2026, 3, 8), datetime(2026, 3, 20, tzinfo=UTC)
    assert figures_of_days({day: Decimal(5)}, {}, [day], now) == {day: {"acus": None, RESTATED_ACUS: Decimal(-5)}}
    assert figures_of_days({}, {day: Decimal(5)}, [day], now) == {day: {"acus": Decimal(5)}}
    # An amount that cannot be read is not 0.
    assert figures_of_days({day: Decimal(5)}, {day: None}, [day], now) == {day: {"acus": None}}
    assert figures_of_days({day: None}, {day: Decimal(5)}, [day], now) == {day: {"acus": Decimal(5)}}


@pytest.mark.notices("people whose bill may not be read, unsaid")
def test_people_whose_bill_may_not_be_read_are_counted_and_found_by_the_check(read: Reading) -> None:
    everybody = sorted(read.enterprise.directory.members)
    bill = Bill(read.days, frozenset(["user"]))
    answers = [Consumption("user", each, [], b"{}", 403 if n < 3 else None) for n, each in enumerate(everybody)]
    bill.take("user", [Entity(each, each) for each in everybody], answers)
    land_bill(read.lake, bill, datetime.now(UTC))
    note = read.lake.bill_note(RAW_CONSUMPTION)
    assert (note.forbidden, note.not_found.get("user"), "user" in note.refused) == ({"user": 3}, None, False)
    with read.lake.connect([]) as connection, dg.DagsterInstance.ephemeral() as instance:
        checked = CheckContext(RAW_CONSUMPTION.name, read.lake, 8, None, connection, instance, "")
        assert list(_refused(checked)) == [{"refused": "user", "status": 403, "number": 3}]


@pytest.mark.notices("the last entities of a kind that were deleted, taken for a refused kind")
@pytest.mark.parametrize(
    ("statuses", "was_read", "expected"),
    [
        ([403], True, True),
        ([404], False, True),
        ([404, 404], True, False),
        ([404] * 8, True, True),
        ([404, 403], False, False),
        ([], False, False),
    ],
)
def test_a_kind_is_refused_if_all_of_it_is_and_not_if_its_last_entities_are_deleted(
    statuses: list[int], was_read: bool, expected: bool
) -> None:
    assert is_refused_as_a_whole(statuses, was_read=was_read) == expected


@pytest.mark.notices("organizations billed more than the enterprise")
def test_bills_of_organizations_or_people_above_that_of_the_enterprise_are_found_on_closed_days() -> None:
    day, open_day = date(2026, 3, 10), date(2026, 3, 11)

    def bills(day: date, **of: str) -> list[Row]:
        return [
            {"day": day, "scope": scope, "scope_id": f"{scope}-{place}", "product": "devin", "acus": acus(amount)}
            for scope, amounts in of.items()
            for place, amount in enumerate(amounts.split())
        ]

    def found(rows: list[Row]) -> list[tuple[date, str]]:
        check, params = "bills_are_within_the_enterprise", {"first_open_day": open_day}
        rows_found = findings("derived", check, params=params, consumption_daily=rows)
        return [(row["day"], row["of_whom"]) for row in rows_found]

    assert found(bills(day, enterprise="10", organization="6 4", user="5", service_user="5")) == []
    assert found(bills(day, enterprise="10", organization="6 4.1")) == [(day, "organization")]
    assert found(bills(day, enterprise="10", user="6", service_user="4.1")) == [(day, "people")]
    assert found(bills(open_day, enterprise="10", organization="6 4.1")) == []
