"""A key of another enterprise on the same host is refused before anything is written; another key of ours is not."""

import json
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.cli import main
from devin_pipeline.doctor import examine
from devin_pipeline.orchestration.run_metadata import ACCEPTS_NEW_ORGANIZATIONS
from devin_pipeline.settings import Settings
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.harness import PipelineHarness, Row, differences

MakeHarness = Callable[..., PipelineHarness]


def add(harness: PipelineHarness, organization: str, acus: int, sessions: int = 1, **fields: object) -> None:
    for number in range(sessions):
        at = starts_at(harness.days[number % len(harness.days)], 8) + timedelta(minutes=5)
        harness.enterprise.add_session(created_at=at, updated_at=at, org_id=organization, acus=Decimal(acus), **fields)


def exchange_enterprise(harness: PipelineHarness) -> None:
    """From now on the server answers for an enterprise without any of these sessions."""
    for session in harness.enterprise.sessions:
        harness.enterprise.delete_session(session.session_id)


def reasons(result: dg.ExecuteInProcessResult) -> list[str]:
    return [
        event.step_failure_data.user_failure_data.description or ""
        for event in result.all_events
        if event.is_step_failure and event.step_failure_data.user_failure_data
    ]


def acus(harness: PipelineHarness) -> Decimal:
    return sum((row["acus"] for row in harness.rows("acu_daily")), Decimal(0))


@pytest.mark.notices("an enterprise of which no organization is known")
@pytest.mark.parametrize("keys", ["v2", "both"])
def test_sessions_of_another_enterprise_are_not_added_to_ours(make_harness: MakeHarness, keys: str) -> None:
    harness = make_harness(keys, sessions=0, days=3)
    add(harness, "org-ours-1", 16)
    add(harness, "org-ours-2", 8)
    harness.refresh()
    before = harness.versions()
    exchange_enterprise(harness)
    add(harness, "org-theirs", 20)

    refused = CliRunner().invoke(main, ["backfill", "--from", str(harness.days[0]), "--to", str(harness.days[-1])])
    assert refused.exit_code == 1
    for named in ("another enterprise", "org-ours-1, org-ours-2", "org-theirs", "--accept-new-organizations"):
        assert named in refused.stderr
    assert harness.versions() == before
    assert acus(harness) == Decimal(24)
    (found,) = [finding for finding in examine(Settings()) if finding.name == "account"]
    assert (found.outcome, "org-theirs" in found.found) == ("failed", True)

    accepted = CliRunner().invoke(
        main,
        ["backfill", "--from", str(harness.days[0]), "--to", str(harness.days[-1]), "--accept-new-organizations"],
    )
    assert accepted.exit_code == 0, accepted.output
    assert acus(harness) == Decimal(44)
    # They are known from now on.
    harness.land()
    (found,) = [finding for finding in examine(Settings()) if finding.name == "account"]
    assert found.outcome == "ok"


@pytest.mark.notices("an enterprise that shares an organization with ours")
def test_another_enterprise_that_shares_an_organization_is_known_by_the_sessions_that_are_missing(
    make_harness: MakeHarness,
) -> None:
    harness = make_harness("v3", sessions=0, days=2)
    add(harness, "org-shared", 1, sessions=2)
    add(harness, "org-ours", 1, sessions=20)
    harness.land()
    before = harness.versions()
    for session in harness.enterprise.sessions:
        if session.org_id == "org-ours":
            harness.enterprise.delete_session(session.session_id)
    # That sessions of ours are gone is not a reason without new organizations next to it.
    add(harness, "org-new", 5)
    result = harness.run()
    assert not result.success
    assert "20 of 22 sessions listed before are missing" in reasons(result)[0]
    assert harness.versions() == before


def test_sessions_that_vanish_without_new_organizations_are_not_of_another_enterprise(
    make_harness: MakeHarness,
) -> None:
    harness = make_harness("v3", sessions=0, days=2)
    add(harness, "org-ours", 1, sessions=30)
    harness.land()
    exchange_enterprise(harness)
    harness.refresh()
    assert differences(harness) == {}


def test_another_key_of_the_same_enterprise_and_an_organization_that_is_new_are_welcome(
    make_harness: MakeHarness,
) -> None:
    harness = make_harness("v3", sessions=0, days=2)
    add(harness, "org-ours", 1, service_user_id="service-user-1")
    harness.land()
    add(harness, "org-ours", 2, service_user_id="service-user-2")
    add(harness, "org-new", 3)
    harness.refresh()
    assert set(harness.lake.organizations() or ()) == {"org-ours", "org-new"}
    assert differences(harness) == {}


def test_a_lake_of_before_organizations_were_noted_is_guarded_as_well(make_harness: MakeHarness) -> None:
    harness = make_harness("v2", sessions=0, days=2)
    add(harness, "org-ours", 1)
    harness.refresh()
    for content in (None, b"{"):
        noted = Path(harness.lake.uri) / "organizations.json"
        noted.unlink()
        if content is not None:
            noted.write_bytes(content)
        before = harness.versions()
        exchange_enterprise(harness)
        add(harness, "org-theirs", 1)
        result = harness.run()
        assert not result.success
        assert "org-theirs" in reasons(result)[0]
        assert harness.versions() == before
        exchange_enterprise(harness)
        add(harness, "org-ours", 1)
        harness.refresh()
    assert set(harness.lake.organizations() or ()) == {"org-ours"}


def test_the_tag_of_a_run_accepts_them_too(make_harness: MakeHarness) -> None:
    harness = make_harness("v3", sessions=0, days=2)
    add(harness, "org-ours", 1)
    harness.land()
    exchange_enterprise(harness)
    add(harness, "org-renamed", 1)
    raw = [TABLES[feed] for feed in harness.feeds]
    assert not harness.run(only=raw).success
    assert harness.run(tags={ACCEPTS_NEW_ORGANIZATIONS: "yes"}, only=raw).success


def test_an_organization_whose_id_is_not_plain_is_not_quoted(make_harness: MakeHarness) -> None:
    harness = make_harness("v3", sessions=0, days=1)
    add(harness, "org-ours", 1)
    harness.land()
    exchange_enterprise(harness)
    add(harness, "![x](http://evil)\n", 1)
    reason = reasons(harness.run())[0]
    assert "(unprintable)" in reason
    assert "evil" not in reason


def add_many(harness: PipelineHarness, organization: str, days: Sequence[date], sessions: int) -> None:
    for day in days:
        for number in range(sessions):
            at = starts_at(day, 8) + timedelta(seconds=number)
            harness.enterprise.add_session(created_at=at, updated_at=at, org_id=organization, acus=Decimal(1))


def small_listings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a read handed over in many listings, as a large one is."""
    monkeypatch.setattr("devin_pipeline.devin_api.batches._ITEMS_PER_BATCH", 2)


def test_days_on_which_another_enterprise_has_no_session_lose_none_of_ours(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness("v2", sessions=0, days=6)
    add_many(harness, "org-ours", harness.days, 3)
    harness.land()
    before = harness.versions()
    exchange_enterprise(harness)
    add_many(harness, "org-theirs", harness.days[4:], 3)
    small_listings(monkeypatch)
    assert "org-theirs" in reasons(harness.run())[0]
    assert harness.versions() == before


def test_an_organization_that_only_some_days_have_is_of_our_enterprise_whatever_their_order(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness("v2", sessions=0, days=6)
    add_many(harness, "org-ours", harness.days[4:], 3)
    harness.land()
    add_many(harness, "org-before", harness.days[:2], 3)
    small_listings(monkeypatch)
    harness.refresh()
    assert differences(harness) == {}


def test_a_new_organization_next_to_a_damaged_day_costs_that_day_only(make_harness: MakeHarness) -> None:
    harness = make_harness("v3", sessions=0, days=3)
    add_many(harness, "org-ours", harness.days, 8)
    harness.land()
    table = TABLES["raw_sessions_v3"]
    (file,) = harness.lake.snapshot(table).stored_files([harness.days[0]])
    Path(file.path).write_bytes(Path(file.path).read_bytes()[:-9])
    add_many(harness, "org-new", harness.days[2:], 1)
    result = harness.run()
    assert not result.success
    assert not any("another enterprise" in reason for reason in reasons(result))
    assert "org-new" in {
        row["org_id"] for row in map(payload, harness.lake.snapshot(table).rows(harness.days[2:]).to_pylist())
    }


def payload(row: Row) -> Row:
    item: Row = json.loads(row["payload"])
    return item
