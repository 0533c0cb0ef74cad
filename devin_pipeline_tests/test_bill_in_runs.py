"""The bill in runs of Dagster and in commands: what is said of it, with which key, and who is erased from it."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from devin_pipeline.billing_calendar import day_of, days_between
from devin_pipeline.cli import main
from devin_pipeline.definitions import pipeline
from devin_pipeline.emulator import Enterprise, Posting
from devin_pipeline.emulator.billing_endpoints import Money
from devin_pipeline.orchestration.run_history import latest_materializations
from devin_pipeline.orchestration.run_metadata import TRIGGER, WEEKLY_BILL
from devin_pipeline.settings import Settings
from devin_pipeline.tables import MONEY_TABLES, TABLES, Table
from devin_pipeline_tests.bill import ENDS_AT, LAST
from devin_pipeline_tests.harness import PipelineHarness, open_harness
from devin_pipeline_tests.tables.rows import findings

MakeBill = Callable[..., PipelineHarness]


@pytest.fixture
def make_bill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MakeBill]:
    """Makes a harness that reads the bill: `make_bill(keys="v3", sessions=…, days=…)`."""
    with ExitStack() as opened:

        def make(keys: str = "v3", sessions: int = 60, days: int = 6, seed: int = 5) -> PipelineHarness:
            enterprise = Enterprise.synthetic(seed=seed, sessions=sessions, days=days, ends_at=ENDS_AT)
            # The day before the first session too: nothing is missing before it.
            span = days_between(LAST - timedelta(days=days), LAST)
            return open_harness(opened, monkeypatch, tmp_path, enterprise, span, keys, reads_bill=True)

        yield make


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def tables(*names: str) -> list[Table]:
    return [TABLES[name] for name in names]


def found_by(result: dg.ExecuteInProcessResult) -> dict[str, tuple[str, str]]:
    """The checks that found something: how severe it is, and what they say."""
    return {
        check.check_name: (check.severity.value, check.description or "")
        for check in result.get_asset_check_evaluations()
        if (not check.passed and "bill" in check.check_name) or (not check.passed and "residual" in check.check_name)
    }


@pytest.mark.notices(
    "a residual of more than 1 %",
    "a residual of more than 5 %",
)
def test_a_residual_is_passed_over_warned_of_or_fails_by_its_size_and_names_day_and_organization(
    make_bill: MakeBill,
) -> None:
    harness = make_bill()
    healthy = harness.run()
    assert healthy.success
    assert found_by(healthy) == {}
    day = harness.days[3]
    rows = {row["org_id"]: row for row in harness.rows("reconciliation_daily") if row["day"] == day}
    org_id = max(
        (name for name in rows if not name.startswith("(")),
        key=lambda name: rows[name]["billed_acus_of_products_with_sessions"] or Decimal(0),
    )
    session_acus = rows[org_id]["session_acus"]
    posted = Decimal(0)
    # The residual as a share of what is billed then.
    for share, expected in (
        ("0.009", {}),
        ("0.03", {"bills_are_explained": "WARN"}),
        ("0.07", {"bills_are_explained": "WARN", "residuals_are_small": "ERROR"}),
    ):
        wanted = (session_acus * Decimal(share) / (1 - Decimal(share))).quantize(Decimal("0.000001"))
        harness.enterprise.bill.post(Posting(day, "devin", wanted - posted, org_id))
        posted = wanted
        result = harness.run(only=tables("raw_consumption", "consumption_daily", "reconciliation_daily"))
        assert result.success
        found = {name: said for name, said in found_by(result).items() if org_id in said[1]}
        assert {name: severity for name, (severity, _) in found.items()} == expected
        assert all(day.isoformat() in said for _, said in found.values())
        (row,) = [r for r in harness.rows("reconciliation_daily") if (r["day"], r["org_id"]) == (day, org_id)]
        assert row["residual_acus"] == posted
        assert row["status"] == {"0.009": "within_1_percent", "0.03": "within_5_percent"}.get(share, "unexplained")


@pytest.mark.notices(
    "an id with markup in a finding, bills_are_explained", "an id with markup in a finding, residuals_are_small"
)
def test_an_organization_whose_id_is_not_plain_is_not_shown_by_a_check() -> None:
    rows = [
        {
            **{"day": LAST, "org_id": org_id, "is_closed": True, "history_is_complete": True, "status": "unexplained"},
            **{"billed_acus_of_products_with_sessions": Decimal(10), "session_acus": Decimal(5)},
        }
        for org_id in ("org-1", "(no organization)", "<img src=x>")
    ]
    for check in ("bills_are_explained", "residuals_are_small"):
        params = {"days": None, "least_acus": Decimal(1)}
        found = findings("reports", check, params=params, reconciliation_daily=rows)
        assert {row["organization"] for row in found} == {"org-1", "(no organization)", "(unprintable)"}


@pytest.mark.notices("a residual of a lake that has just begun, as a warning")
def test_a_residual_is_passed_over_while_sessions_of_before_may_be_missing() -> None:
    row = {
        **{"day": LAST, "org_id": "org-1", "is_closed": True, "status": "unexplained"},
        **{"billed_acus_of_products_with_sessions": Decimal(10), "session_acus": Decimal(5)},
    }
    params = {"days": None, "least_acus": Decimal(1)}
    for check in ("bills_are_explained", "residuals_are_small"):
        for is_complete, number in ((True, 1), (False, 0)):
            rows = [row | {"history_is_complete": is_complete}]
            assert len(findings("reports", check, params=params, reconciliation_daily=rows)) == number


@pytest.mark.notices("a bill that was changed after its day had closed, unsaid")
def test_a_late_posting_is_recorded_as_a_restatement_of_its_day(make_bill: MakeBill) -> None:
    harness = make_bill()
    harness.build_unobserved()
    day = harness.days[2]
    harness.enterprise.bill.post(Posting(day, "review", Decimal("1.25")))
    assert harness.run(only=tables("raw_consumption")).success
    made = latest_materializations(harness.instance, TABLES["raw_consumption"], harness.days)
    restated = {
        each: record.asset_materialization.metadata["restated_acus"].value
        for each, record in made.items()
        if record.asset_materialization and "restated_acus" in record.asset_materialization.metadata
    }
    assert restated == {day: 1.25}


def test_with_a_v2_key_only_the_bill_has_no_products_and_every_other_table_says_why_it_is_empty(
    make_bill: MakeBill,
) -> None:
    harness = make_bill("v2")
    harness.refresh()
    bill = harness.enterprise.bill
    rows = harness.rows("consumption_daily")
    assert {row["product"] for row in rows} == {"(all)"}
    whole = {row["day"]: row["acus"] for row in rows if row["scope"] == "enterprise"}
    assert whole == {day: bill.acus("enterprise", None, day) for day in harness.days[1:]}
    assert {row["status"] for row in harness.rows("reconciliation_daily")} <= {"no_split", "no_bill"}
    assert {row["attribution_method"] for row in harness.rows("session_acus_by_day")} <= {
        *("single_day", "updated_day", "created_day", "version_delta", "remainder")
    }
    assert {row["cycle_start"].day for row in harness.rows("billing_cycles")} == {16}
    assert {name for name in ("organizations", "users", "playbooks", "acu_limits") if harness.rows(name)} == set()
    specs = {spec.key.to_user_string(): spec.description for spec in pipeline(Settings()).resolve_all_asset_specs()}
    assert "DEVIN_V3_API_KEY is not set" in (specs["raw_session_consumption"] or "")
    said = doctor_says("bill")
    assert said["raw_session_consumption"][0] == "skipped"
    assert "v2 does not say it" in said["raw_session_consumption"][1]
    assert said["raw_directory"][0] == said["raw_consumption"][0] == "ok"


def doctor_says(check: str) -> dict[str, tuple[str, str]]:
    checks = json.loads(run("doctor", "--json").stdout)["checks"]
    return {each["subject"]: (each["outcome"], each["found"]) for each in checks if each["name"] == check}


def test_what_is_refused_is_said_by_doctor_and_by_a_check_and_fails_nothing(make_bill: MakeBill) -> None:
    harness = make_bill()
    refused: dict[Money, int] = {"organization_consumption": 403, "usage_tiers": 404, "session_consumption": 403}
    harness.server.billing.refused = refused
    result = harness.run()
    assert result.success
    said = {
        check.check_name: check.description or "" for check in result.get_asset_check_evaluations() if not check.passed
    }
    assert "refused organization, status 403" in said["bills_are_permitted"]
    assert "refused usage_tiers, status 404" in said["lists_are_permitted"]
    assert "refused session, status 403" in said["days_of_sessions_are_permitted"]
    doctor = doctor_says("refusals")
    assert {name: outcome for name, (outcome, _) in doctor.items()} == dict.fromkeys(
        (table.name for table in MONEY_TABLES), "warning"
    )
    assert "/consumption/daily/organizations" in doctor["raw_consumption"][1]
    assert "/v3beta1/enterprise/usage-policies/tiers" in doctor["raw_directory"][1]
    rows = [row for row in harness.rows("reconciliation_daily") if not row["org_id"].startswith("(")]
    assert {row["status"] for row in rows} == {"not_permitted"}
    assert {row["billed_acus"] for row in rows} == {None}


@pytest.mark.notices("spend by days that the bill does not have")
def test_another_hour_of_the_day_leaves_the_tables_of_money_empty_and_says_why(
    make_bill: MakeBill, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_bill(sessions=20, days=2)
    monkeypatch.setenv("DEVIN_DAY_STARTS_AT_UTC_HOUR", "0")
    result = harness.run()
    assert result.success
    for name in ("raw_consumption", "consumption_daily", "session_acus_by_day", "reconciliation_daily"):
        assert harness.rows(name) == []
    assert harness.rows("users")
    assert "start at 08:00 UTC" in doctor_says("bill")["raw_consumption"][1]


def test_feeds_of_sessions_alone_read_no_bill_and_doctor_says_so(
    make_bill: MakeBill, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_bill(sessions=20, days=2)
    monkeypatch.setenv("DEVIN_FEEDS", "raw_sessions_v3")
    before = len(harness.server.requests)
    assert harness.run().success
    asked = {request.path for request in harness.server.requests[before:]}
    assert asked == {"/v3/enterprise/sessions"}
    assert {said for _, said in doctor_says("bill").values()} == {"it is not read: DEVIN_FEEDS does not name it"}
    monkeypatch.setenv("DEVIN_FEEDS", "raw_consumption")
    result = run("backfill", "--from", str(harness.days[0]), "--to", str(harness.days[-1]))
    assert result.exit_code == 2
    assert "DEVIN_FEEDS names no feed of sessions" in result.stderr


@pytest.mark.notices("a list that was cut short, unsaid")
def test_a_list_that_was_cut_short_is_said_with_the_command_that_believes_it(make_bill: MakeBill) -> None:
    harness = make_bill(sessions=20, days=2)
    harness.build_unobserved()
    listed = len([row for row in harness.rows("users") if row["is_listed"]])
    harness.enterprise.directory.cut = {"users": 2}
    result = harness.run(only=tables("raw_directory", "users"))
    assert result.success
    (said,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "lists_are_whole"]
    assert "of users" in (said.description or "")
    assert "--accept-removals" in (said.description or "")
    assert doctor_says("refusals")["raw_directory"][0] == "warning"
    assert len([row for row in harness.rows("users") if row["is_listed"]]) == listed

    span = ("backfill", "--from", str(harness.days[0]), "--to", str(harness.days[-1]))
    believed = run(*span, "--accept-removals")
    assert believed.exit_code == 0, believed.output
    assert len([row for row in harness.rows("users") if row["is_listed"]]) < listed
    assert doctor_says("refusals")["raw_directory"][0] == "ok"


@pytest.mark.notices(
    "sessions that the limit left over, older than the range", "a session whose ACUs are as they were, asked for again"
)
def test_sessions_left_over_by_the_limit_are_counted_and_asked_for_by_the_weekly_bill(
    make_bill: MakeBill, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_bill(sessions=40, days=4)
    created = datetime(2026, 3, 15, 20, tzinfo=UTC)
    for acus in (5, 9, 7):
        harness.enterprise.add_session(
            created_at=created, updated_at=created + timedelta(days=1), acus=Decimal(acus), automation_id=None
        )
    monkeypatch.setenv("DEVIN_SESSION_CONSUMPTION_REQUESTS", "1")

    def asked(days: list[date], tags: dict[str, str]) -> tuple[int, str]:
        before = len(harness.server.requests)
        names = ("raw_sessions_v3", "sessions", "raw_session_consumption", "session_acus_by_day")
        result = harness.run(days, tags, only=tables(*names))
        assert result.success
        (left,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "days_of_sessions_are_known"]
        paths = [request.path for request in harness.server.requests[before:]]
        return sum("/daily/sessions/" in path for path in paths), left.description or ""

    assert asked(harness.days, {})[0] == 1
    dearest = {row["session_acus"] for row in harness.rows("raw_session_consumption")}
    assert dearest == {max(row["acus"] for row in harness.rows("sessions") if row["acus"] and works_on_days(row))}
    monkeypatch.setenv("DEVIN_SESSION_CONSUMPTION_REQUESTS", "400")
    # A run over other days leaves them to the weekly one, which asks for them whatever their day.
    number, left = asked(harness.days[-1:], {})
    assert left.startswith("1 found: sessions ")
    assert asked(harness.days[-1:], {TRIGGER: WEEKLY_BILL}) == (int(left.split()[3].rstrip(",")), "")
    assert asked(harness.days, {TRIGGER: WEEKLY_BILL}) == (0, "")
    methods = {row["attribution_method"] for row in harness.rows("session_acus_by_day")}
    assert methods <= {"api_daily", "single_day"}
    assert number == 0


def works_on_days(session: dict[str, Any]) -> bool:
    """Whether a session was last updated on another billing day than it was created on."""
    return bool(session["updated_at"]) and day_of(session["updated_at"], 8) != session["day"]


@pytest.mark.notices("a person without use, asked for by each run")
def test_a_refresh_asks_for_people_with_use_and_the_weekly_bill_for_all(make_bill: MakeBill) -> None:
    harness = make_bill(sessions=12, days=3)
    harness.build_unobserved()
    people = "/v3/enterprise/consumption/daily/users/"

    def asked(tags: dict[str, str]) -> set[str]:
        before = len(harness.server.requests)
        assert harness.run(tags=tags, only=tables("raw_consumption")).success
        return {r.path.removeprefix(people) for r in harness.server.requests[before:] if r.path.startswith(people)}

    # All of it is long ago.
    assert asked({}) == set()
    everybody = asked({TRIGGER: WEEKLY_BILL})
    assert len(everybody) == len(harness.enterprise.directory.members)
    assert any("|" in name for name in harness.enterprise.directory.members)


@pytest.mark.notices("a pseudonym sent to the API")
def test_who_is_erased_by_e_mail_is_in_no_version_file_log_or_catalogue_and_stays_billed(make_bill: MakeBill) -> None:
    harness = make_bill()
    directory, bill = harness.enterprise.directory, harness.enterprise.bill
    user_id = max(
        directory.members,
        key=lambda each: sum(bill.acus("user", each, day) for day in harness.days) if "|" in each else 0,
    )
    member = directory.members[user_id]
    member.name, member.email = "Canary Person", "Canary.Person@example.com"
    harness.build_unobserved()
    billed = {
        (row["day"], row["product"]): row["acus"]
        for row in harness.rows("consumption_daily")
        if row["scope_id"] == user_id and row["acus"]
    }
    assert billed
    assert user_id in {row["user_id"] for row in harness.rows("sessions")}
    result = run("forget", "--user", member.email.lower())
    assert result.exit_code == 0, result.output
    names = [user_id, member.name, member.email]
    assert places_with(Path(harness.lake.uri).parent, names) == []
    assert run("verify").exit_code == 0
    # Read again, from a roster that still has them: stored under the pseudonym, with the same amounts.
    assert harness.run(tags={TRIGGER: WEEKLY_BILL}).success
    assert places_with(Path(harness.lake.uri).parent, names) == []
    again_billed = {
        (row["day"], row["product"]): row["acus"]
        for row in harness.rows("consumption_daily")
        if row["scope_id"].startswith("forgotten-") and row["acus"]
    }
    assert again_billed == billed
    assert [r.path for r in harness.server.requests if "forgotten-" in r.path] == []
    (row,) = [row for row in harness.rows("users") if row["user_id"].startswith("forgotten-") and row["is_current"]]
    assert set(row["name"] or "x") == {"x"}
    assert run("verify").exit_code == 0


def places_with(folder: Path, words: list[str]) -> list[str]:
    """The files below a folder with one of some words in their bytes, values or names."""
    places = []
    for path in folder.rglob("*"):
        if not path.is_file() or path.suffix == ".lock":
            continue
        text = str(path).encode() + path.read_bytes()
        if path.suffix == ".parquet":
            text += repr(pq.ParquetFile(path).read().to_pylist()).encode()
        places += [f"{path}: {word}" for word in words if word.encode() in text]
    return places
