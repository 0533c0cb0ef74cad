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
from devin_pipeline.definitions import pipeline
from devin_pipeline.doctor import examine
from devin_pipeline.orchestration.partitions import range_tags
from devin_pipeline.orchestration.run_metadata import ACCEPTS_NEW_ORGANIZATIONS
from devin_pipeline.settings import Settings
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.stage import Row, Stage, differences

MakeStage = Callable[..., Stage]


def add(stage: Stage, organization: str, acus: int, sessions: int = 1, **fields: object) -> None:
    for number in range(sessions):
        at = starts_at(stage.days[number % len(stage.days)], 8) + timedelta(minutes=5)
        stage.enterprise.add_session(created_at=at, updated_at=at, org_id=organization, acus=Decimal(acus), **fields)


def exchange_enterprise(stage: Stage) -> None:
    """From now on the server answers for an enterprise without any of these sessions."""
    for session in stage.enterprise.sessions:
        stage.enterprise.delete_session(session.session_id)


def reasons(result: dg.ExecuteInProcessResult) -> list[str]:
    return [
        event.step_failure_data.user_failure_data.description or ""
        for event in result.all_events
        if event.is_step_failure and event.step_failure_data.user_failure_data
    ]


def acus(stage: Stage) -> Decimal:
    return sum((row["acus"] for row in stage.rows("acu_daily")), Decimal(0))


@pytest.mark.notices("an enterprise of which no organization is known")
@pytest.mark.parametrize("keys", ["v2", "v3", "both"])
def test_sessions_of_another_enterprise_are_not_added_to_ours(make_stage: MakeStage, keys: str) -> None:
    stage = make_stage(keys, sessions=0, days=3)
    add(stage, "org-ours-1", 16)
    add(stage, "org-ours-2", 8)
    stage.refresh()
    before = stage.versions()
    exchange_enterprise(stage)
    add(stage, "org-theirs", 20)

    refused = CliRunner().invoke(main, ["backfill", "--from", str(stage.days[0]), "--to", str(stage.days[-1])])
    assert refused.exit_code == 1
    for named in ("another enterprise", "org-ours-1, org-ours-2", "org-theirs", "--accept-new-organizations"):
        assert named in refused.stderr
    assert stage.versions() == before
    assert acus(stage) == Decimal(24)
    (found,) = [finding for finding in examine(Settings()) if finding.name == "account"]
    assert (found.outcome, "org-theirs" in found.found) == ("failed", True)

    accepted = CliRunner().invoke(
        main,
        ["backfill", "--from", str(stage.days[0]), "--to", str(stage.days[-1]), "--accept-new-organizations"],
    )
    assert accepted.exit_code == 0, accepted.output
    assert acus(stage) == Decimal(44)
    # They are known from now on.
    assert stage.run().success
    (found,) = [finding for finding in examine(Settings()) if finding.name == "account"]
    assert found.outcome == "ok"


@pytest.mark.notices("an enterprise that shares an organization with ours")
def test_another_enterprise_that_shares_an_organization_is_known_by_the_sessions_that_are_missing(
    make_stage: MakeStage,
) -> None:
    stage = make_stage("v3", sessions=0, days=2)
    add(stage, "org-shared", 1, sessions=2)
    add(stage, "org-ours", 1, sessions=20)
    stage.land()
    before = stage.versions()
    for session in stage.enterprise.sessions:
        if session.org_id == "org-ours":
            stage.enterprise.delete_session(session.session_id)
    # That sessions of ours are gone is no reason, without new organizations next to it.
    add(stage, "org-new", 5)
    result = stage.run()
    assert not result.success
    assert "20 of 22 sessions listed before are missing" in reasons(result)[0]
    assert stage.versions() == before


def test_sessions_that_vanish_without_new_organizations_are_not_of_another_enterprise(make_stage: MakeStage) -> None:
    stage = make_stage("v3", sessions=0, days=2)
    add(stage, "org-ours", 1, sessions=30)
    stage.land()
    exchange_enterprise(stage)
    stage.refresh()
    assert differences(stage) == {}


def test_another_key_of_the_same_enterprise_and_an_organization_that_is_new_are_welcome(make_stage: MakeStage) -> None:
    stage = make_stage("v3", sessions=0, days=2)
    add(stage, "org-ours", 1, service_user_id="service-user-1")
    stage.land()
    add(stage, "org-ours", 2, service_user_id="service-user-2")
    add(stage, "org-new", 3)
    stage.refresh()
    assert set(stage.lake.organizations() or ()) == {"org-ours", "org-new"}
    assert differences(stage) == {}


def test_a_lake_of_before_organizations_were_noted_is_guarded_as_well(make_stage: MakeStage) -> None:
    stage = make_stage("v2", sessions=0, days=2)
    add(stage, "org-ours", 1)
    stage.refresh()
    for content in (None, b"{"):
        noted = Path(stage.lake.uri) / "organizations.json"
        noted.unlink()
        if content is not None:
            noted.write_bytes(content)
        before = stage.versions()
        exchange_enterprise(stage)
        add(stage, "org-theirs", 1)
        result = stage.run()
        assert not result.success
        assert "org-theirs" in reasons(result)[0]
        assert stage.versions() == before
        exchange_enterprise(stage)
        add(stage, "org-ours", 1)
        stage.refresh()
    assert set(stage.lake.organizations() or ()) == {"org-ours"}


def test_the_tag_of_a_run_accepts_them_too(make_stage: MakeStage) -> None:
    stage = make_stage("v3", sessions=0, days=2)
    add(stage, "org-ours", 1)
    stage.land()
    exchange_enterprise(stage)
    add(stage, "org-renamed", 1)
    result = (
        pipeline(Settings())
        .resolve_job_def("refresh")
        .execute_in_process(
            instance=stage.instance,
            tags=range_tags(stage.days[0], stage.days[-1]) | {ACCEPTS_NEW_ORGANIZATIONS: "yes"},
            raise_on_error=False,
        )
    )
    assert result.success


def test_an_organization_whose_id_is_not_plain_is_not_quoted(make_stage: MakeStage) -> None:
    stage = make_stage("v3", sessions=0, days=1)
    add(stage, "org-ours", 1)
    stage.land()
    exchange_enterprise(stage)
    add(stage, "![x](http://evil)\n", 1)
    reason = reasons(stage.run())[0]
    assert "(unprintable)" in reason
    assert "evil" not in reason


def add_many(stage: Stage, organization: str, days: Sequence[date], sessions: int) -> None:
    for day in days:
        for number in range(sessions):
            at = starts_at(day, 8) + timedelta(seconds=number)
            stage.enterprise.add_session(created_at=at, updated_at=at, org_id=organization, acus=Decimal(1))


def small_listings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a read handed over in many listings, as a large one is."""
    monkeypatch.setattr("devin_pipeline.devin_api.batches._ITEMS_PER_BATCH", 2)


def test_days_on_which_another_enterprise_has_no_session_lose_none_of_ours(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage("v2", sessions=0, days=6)
    add_many(stage, "org-ours", stage.days, 3)
    stage.land()
    before = stage.versions()
    exchange_enterprise(stage)
    add_many(stage, "org-theirs", stage.days[4:], 3)
    small_listings(monkeypatch)
    assert "org-theirs" in reasons(stage.run())[0]
    assert stage.versions() == before


def test_an_organization_that_only_some_of_the_days_know_is_of_our_enterprise_in_whatever_order_they_come(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage("v2", sessions=0, days=6)
    add_many(stage, "org-ours", stage.days[4:], 3)
    stage.land()
    add_many(stage, "org-before", stage.days[:2], 3)
    small_listings(monkeypatch)
    stage.refresh()
    assert differences(stage) == {}


def test_a_new_organization_next_to_a_damaged_day_costs_that_day_only(make_stage: MakeStage) -> None:
    stage = make_stage("v3", sessions=0, days=3)
    add_many(stage, "org-ours", stage.days, 8)
    stage.land()
    table = TABLES["raw_sessions_v3"]
    (file,) = stage.lake.snapshot(table).stored_files([stage.days[0]])
    Path(file.path).write_bytes(Path(file.path).read_bytes()[:-9])
    add_many(stage, "org-new", stage.days[2:], 1)
    result = stage.run()
    assert not result.success
    assert not any("another enterprise" in reason for reason in reasons(result))
    assert "org-new" in {
        row["org_id"] for row in map(payload, stage.lake.snapshot(table).rows(stage.days[2:]).to_pylist())
    }


def payload(row: Row) -> Row:
    told: Row = json.loads(row["payload"])
    return told
