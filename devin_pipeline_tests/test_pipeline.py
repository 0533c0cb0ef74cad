"""The whole pipeline against an emulator and an independent computation, to the last digit."""

from collections.abc import Callable
from datetime import date, timedelta

import dagster as dg
import pytest

from devin_pipeline.partitions import FIRST_TAG, LAST_TAG, days_between
from devin_pipeline.schedules import days_beside_a_bad_one
from devin_pipeline.tables import RAW_SESSION_TABLES
from devin_pipeline_tests.stage import Stage, differences, warnings

MakeStage = Callable[..., Stage]


@pytest.mark.parametrize("keys", ["v2", "v3", "both"])
def test_every_table_equals_the_independent_computation_whatever_the_server_does(
    make_stage: MakeStage, keys: str
) -> None:
    # The whole of ten days once; either key alone tells the same story on fewer.
    stage = make_stage(keys, sessions=200, days=10 if keys == "both" else 4)
    stage.refresh()
    assert differences(stage) == {}
    told = [row["session_id"] for row in stage.rows("sessions")]
    assert len(told) == len(set(told)) > 50

    # The same again appends no version and changes no row.
    versions, rows = stage.versions(), stage.everything()
    stage.refresh()
    assert stage.versions() == versions
    assert stage.everything() == rows

    # What changed is told, and raw keeps what was told before.
    stage.enterprise.grow_acus(12)
    stage.enterprise.merge_pull_requests(5)
    stage.enterprise.add_analyses(6)
    stage.refresh()
    assert differences(stage) == {}
    for table in RAW_SESSION_TABLES:
        after = stage.rows(table.name)
        assert all(row in after for row in rows[table.name])
        assert (len(after) > len(rows[table.name])) == (table.name in stage.feeds)

    # What is deleted stays, and its ACUs keep counting.
    spent = sum(row["acus"] or 0 for row in stage.rows("acu_daily"))
    listed = [row for row in stage.rows("sessions") if row["is_listed"]]
    session = listed[0]["session_id"]
    organization = next(row["org_id"] for row in listed if row["session_id"] != session)
    stage.enterprise.delete_session(session)
    stage.enterprise.delete_organization(organization)
    warned = warnings(stage.refresh())
    assert differences(stage) == {}
    assert "sessions_stay_listed" in warned
    is_listed = {row["session_id"]: row["is_listed"] for row in stage.rows("sessions")}
    assert is_listed.pop(session) is False
    # v3 is always asked for deleted organizations too; v2 cannot be.
    of_organization = [row["session_id"] for row in stage.rows("sessions") if row["org_id"] == organization]
    assert {is_listed[told] for told in of_organization if told in is_listed} == {keys != "v2"}
    assert ("organizations_stay_listed" in warned) == (keys == "v2")
    assert sum(row["acus"] or 0 for row in stage.rows("acu_daily")) == spent


def test_a_day_that_lost_its_sessions_keeps_them_as_unlisted_until_they_come_back(make_stage: MakeStage) -> None:
    stage = make_stage("v3")
    stage.refresh()
    day = stage.days[1]
    lost = [session for session in stage.enterprise.sessions if (session.created_at - timedelta(hours=8)).date() == day]
    for session in lost:
        stage.enterprise.delete_session(session.session_id)
    assert "sessions_stay_listed" in warnings(stage.refresh())
    listed = [row["is_listed"] for row in stage.rows("sessions") if row["day"] == day]
    assert listed == [False] * len(lost) != []

    fields = {name: getattr(lost[0], name) for name in ("session_id", "org_id", "title", "updated_at")}
    stage.enterprise.add_session(created_at=lost[0].created_at, **fields)
    # What is told once is not told for ever.
    assert "sessions_stay_listed" not in warnings(stage.refresh())
    assert differences(stage) == {}
    listed = [row["is_listed"] for row in stage.rows("sessions") if row["day"] == day]
    assert sorted(listed) == [False] * (len(lost) - 1) + [True]


def test_a_range_run_asks_for_every_day_and_records_each(make_stage: MakeStage) -> None:
    stage = make_stage("v3", sessions=300, days=30)
    stage.refresh()
    stored = {row["day"] for row in stage.rows("raw_sessions_v3")}
    assert stored == {(session.created_at - timedelta(hours=8)).date() for session in stage.enterprise.sessions}

    recorded = {}
    for event in stage.instance.fetch_materializations(dg.AssetKey("raw_sessions_v3"), limit=100).records:
        told = event.asset_materialization
        assert told is not None
        recorded[told.partition] = told.metadata["dagster/partition_row_count"].value
    assert len(set(recorded.values())) > 5
    rows = [row["day"].isoformat() for row in stage.rows("raw_sessions_v3")]
    assert recorded == {day.isoformat(): rows.count(day.isoformat()) for day in stage.days}


def test_items_that_cannot_be_placed_are_kept_aside_and_warned_of(make_stage: MakeStage) -> None:
    stage = make_stage("v3", sessions=20)
    at = stage.enterprise.sessions[3].created_at
    second = int(at.timestamp())
    common = f'"created_at": {second}, "updated_at": {second}, "org_id": "o", "status": "new", "tags": []'
    for item in (
        f'{{"session_id": "nan", "acus_consumed": NaN, {common}}}',
        f'{{"session_id": "owed", "acus_consumed": -1, {common}}}',
        f'{{"session_id": "absurd", "acus_consumed": 1e12, {common}}}',
        f'{{"session_id": "", "acus_consumed": 1, {common}}}',
        '{"session_id": "when", "acus_consumed": 1, "created_at": null}',
        f'{{"session_id": "surrogate", "acus_consumed": 2.5, "title": "\\ud800", {common}}}',
        f'{{"session_id": "text", "acus_consumed": "2.5", {common}}}',
    ):
        stage.enterprise.insert_verbatim("sessions_v3", at, item)
    result = stage.run()
    stage.observe()

    assert result.success
    assert differences(stage) == {}
    assert len(stage.rows("raw_quarantine")) == 5
    kept = next(row for row in stage.rows("sessions") if row["session_id"] == "surrogate")
    assert kept["title"] == "\N{REPLACEMENT CHARACTER}"
    assert {"nothing_is_quarantined", "acus_are_numbers"} <= warnings(result)

    stage.refresh()
    assert len(stage.rows("raw_quarantine")) == 5


def test_a_refused_key_fails_the_run_names_the_permission_and_changes_nothing(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage("v3")
    stage.refresh()
    rows = stage.everything()
    monkeypatch.setenv("DEVIN_V3_API_KEY", stage.server.limited_v3_key)
    result = stage.run()
    assert not result.success
    told = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    assert told[0] is not None
    assert "ViewAccountSessions" in (told[0].description or "")
    assert not any(stage.server.limited_v3_key in repr(event) for event in result.all_events)
    assert stage.everything() == rows


def test_an_item_that_lost_its_creation_time_stays_listed_and_stops_nothing(make_stage: MakeStage) -> None:
    stage = make_stage("v3", sessions=20)
    stage.refresh()
    session = stage.enterprise.sessions[2]
    stage.enterprise.delete_session(session.session_id)
    for feed in ("sessions_v3", "session_insights_v3"):
        lost = f'{{"session_id": "{session.session_id}", "acus_consumed": 1, "created_at": null}}'
        stage.enterprise.insert_verbatim(feed, session.created_at, lost)
    stage.refresh()
    assert differences(stage) == {}
    told = next(row for row in stage.rows("sessions") if row["session_id"] == session.session_id.removeprefix("devin-"))
    assert told["is_listed"] is True


def test_after_a_run_with_a_bad_day_the_days_beside_it_are_requested(make_stage: MakeStage) -> None:
    stage = make_stage("v3")
    bad = stage.days[1]
    at = next(s.created_at for s in stage.enterprise.sessions if (s.created_at - timedelta(hours=8)).date() == bad)
    for number in range(60):
        stray = f'{{"session_id": "stray{number}", "created_at": 1700000000, "acus_consumed": 1}}'
        stage.enterprise.insert_verbatim("sessions_v3", at, stray)
    result = stage.run()
    assert not result.success

    (failure,) = [event for event in result.all_events if event.is_run_failure]
    context = dg.build_run_status_sensor_context(
        sensor_name="days_beside_a_bad_one",
        dagster_event=failure,
        dagster_instance=stage.instance,
        dagster_run=result.dagster_run,
    ).for_run_failure()
    requested = days_beside_a_bad_one()(context)
    assert isinstance(requested, dg.SensorResult)
    assert [range_of(request) for request in requested.run_requests or []] == [
        (stage.days[0], stage.days[0]),
        (stage.days[2], stage.days[3]),
    ]
    for request in requested.run_requests or []:
        first, last = range_of(request)
        assert stage.run(days_between(first, last)).success
    assert {row["day"] for row in stage.rows("sessions")} == {stage.days[0], *stage.days[2:]}


def range_of(request: dg.RunRequest) -> tuple[date, date]:
    return date.fromisoformat(request.tags[FIRST_TAG]), date.fromisoformat(request.tags[LAST_TAG])


def test_one_organization_is_read_alone(make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make_stage("both", sessions=120)
    organization = next(o.org_id for o in stage.enterprise.organizations if not o.is_deleted)
    monkeypatch.setenv("DEVIN_ORG_ID", organization)
    assert stage.run().success
    assert {row["org_id"] for row in stage.rows("sessions")} == {organization}
    assert {request.path for request in stage.server.requests} == {
        f"/v2/enterprise/organizations/{organization}/sessions/insights",
        f"/v3/organizations/{organization}/sessions",
        f"/v3/organizations/{organization}/sessions/insights",
    }
