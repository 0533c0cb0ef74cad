"""The whole pipeline against an emulator and an independent computation, to the last digit."""

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest
from dagster._record import copy

from devin_pipeline.automation.sensors import rerun_unaffected_days
from devin_pipeline.billing_calendar import days_between, starts_at
from devin_pipeline.definitions import pipeline
from devin_pipeline.devin_api import retry
from devin_pipeline.emulator import FaultScript
from devin_pipeline.emulator.faults import Status, WhereListed
from devin_pipeline.operations.verify import verify
from devin_pipeline.orchestration.partitions import FIRST_TAG, LAST_TAG
from devin_pipeline.orchestration.run_metadata import BACKFILL, TRIGGER
from devin_pipeline.settings import Settings
from devin_pipeline.tables import RAW_SESSION_TABLES, ROLLUP_TABLES, SESSION_TABLES, TABLES
from devin_pipeline_tests.devin_api.scripted import Reply, page_v3, serving
from devin_pipeline_tests.harness import Moment, PipelineHarness, Row, differences, warnings
from devin_pipeline_tests.lake.full_disk import no_file_beyond

MakeHarness = Callable[..., PipelineHarness]


@pytest.mark.parametrize("keys", ["v2", "v3", "both"])
def test_every_table_equals_the_independent_computation_whatever_the_server_does(
    make_harness: MakeHarness, keys: str
) -> None:
    harness = make_harness(keys, sessions=100, days=3)
    # Once through Dagster is enough for what each of these does.
    run = harness.refresh if keys == "both" else harness.build
    run()
    assert differences(harness) == {}
    ids = [row["session_id"] for row in harness.rows("sessions")]
    assert len(ids) == len(set(ids)) > 50

    # The same again appends no version and changes no row.
    versions, rows = harness.versions(), harness.everything()
    run()
    assert harness.versions() == versions
    assert harness.everything() == rows

    # What changed is derived, and raw keeps the versions before it.
    harness.enterprise.grow_acus(12)
    harness.enterprise.merge_pull_requests(5)
    harness.enterprise.add_analyses(6)
    run()
    assert differences(harness) == {}
    for table in RAW_SESSION_TABLES:
        after = harness.rows(table.name)
        assert all(row in after for row in rows[table.name])
        assert (len(after) > len(rows[table.name])) == (table.name in harness.feeds)

    # What is deleted stays, and its ACUs keep counting.
    spent = sum(row["acus"] or 0 for row in harness.rows("acu_daily"))
    listed = [row for row in harness.rows("sessions") if row["is_listed"]]
    session = listed[0]["session_id"]
    organization = next(row["org_id"] for row in listed if row["session_id"] != session)
    harness.enterprise.delete_session(session)
    harness.enterprise.delete_organization(organization)
    warned = warnings(harness.refresh())
    assert differences(harness) == {}
    assert "sessions_stay_listed" in warned
    is_listed = {row["session_id"]: row["is_listed"] for row in harness.rows("sessions")}
    assert is_listed.pop(session) is False
    # v3 is always asked for deleted organizations too; v2 cannot be.
    of_organization = [row["session_id"] for row in harness.rows("sessions") if row["org_id"] == organization]
    assert {is_listed[session_id] for session_id in of_organization if session_id in is_listed} == {keys != "v2"}
    assert ("organizations_stay_listed" in warned) == (keys == "v2")
    assert sum(row["acus"] or 0 for row in harness.rows("acu_daily")) == spent


@pytest.mark.notices("sessions a read misses")
def test_a_day_that_lost_its_sessions_keeps_them_as_unlisted_until_they_come_back(make_harness: MakeHarness) -> None:
    harness = make_harness("v3", sessions=20, days=2)
    harness.build()
    day = harness.days[1]
    lost = [
        session for session in harness.enterprise.sessions if (session.created_at - timedelta(hours=8)).date() == day
    ]
    for session in lost:
        harness.enterprise.delete_session(session.session_id)
    assert "sessions_stay_listed" in warnings(harness.refresh())
    listed = [row["is_listed"] for row in harness.rows("sessions") if row["day"] == day]
    assert listed == [False] * len(lost) != []

    fields = {name: getattr(lost[0], name) for name in ("session_id", "org_id", "title", "updated_at")}
    harness.enterprise.add_session(created_at=lost[0].created_at, **fields)
    # What is reported once is not reported for ever.
    assert "sessions_stay_listed" not in warnings(harness.refresh())
    assert differences(harness) == {}
    listed = [row["is_listed"] for row in harness.rows("sessions") if row["day"] == day]
    assert sorted(listed) == [False] * (len(lost) - 1) + [True]


def test_a_range_run_asks_for_every_day_and_records_each(make_harness: MakeHarness) -> None:
    harness = make_harness("v3", sessions=300, days=30)
    harness.land()
    stored = {row["day"] for row in harness.rows("raw_sessions_v3")}
    assert stored == {(session.created_at - timedelta(hours=8)).date() for session in harness.enterprise.sessions}

    recorded = {}
    for event in harness.instance.fetch_materializations(dg.AssetKey("raw_sessions_v3"), limit=100).records:
        materialization = event.asset_materialization
        assert materialization is not None
        recorded[materialization.partition] = materialization.metadata["dagster/partition_row_count"].value
    assert len(set(recorded.values())) > 5
    rows = [row["day"].isoformat() for row in harness.rows("raw_sessions_v3")]
    assert recorded == {day.isoformat(): rows.count(day.isoformat()) for day in harness.days}


@pytest.mark.notices("ACUs as text")
def test_items_that_cannot_be_accepted_are_quarantined_and_warned_of(make_harness: MakeHarness) -> None:
    harness = make_harness("v3", sessions=20)
    at = harness.enterprise.sessions[3].created_at
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
        harness.enterprise.insert_verbatim("sessions_v3", at, item)
    result = harness.run()
    harness.observe()

    assert result.success
    assert differences(harness) == {}
    assert len(harness.rows("raw_quarantine")) == 5
    kept = next(row for row in harness.rows("sessions") if row["session_id"] == "surrogate")
    assert kept["title"] == "\N{REPLACEMENT CHARACTER}"
    assert {"nothing_is_quarantined", "acus_are_numbers"} <= warnings(result)

    harness.build()
    assert len(harness.rows("raw_quarantine")) == 5


def test_a_day_of_sessions_that_do_not_fit_into_one_page_is_stored(make_harness: MakeHarness) -> None:
    harness = make_harness("v2", sessions=0, days=2)
    prompts = {f"s{number}": str(number) * (10 * 2**20) for number in range(7)}
    for number, (session_id, prompt) in enumerate(prompts.items()):
        at = starts_at(harness.days[0], 8) + timedelta(hours=number)
        harness.enterprise.add_session(created_at=at, session_id=session_id, initial_user_message=prompt)
    harness.build_unobserved()
    assert {row["session_id"]: row["initial_user_message"] for row in harness.rows("sessions")} == prompts
    assert harness.rows("raw_quarantine") == []


@pytest.mark.parametrize("keys", ["v2", "v3"])
def test_an_item_that_cannot_be_read_costs_no_other_and_while_it_is_unread_its_day_gets_no_tombstone(
    make_harness: MakeHarness, keys: str
) -> None:
    harness = make_harness(keys, sessions=60, days=2)
    harness.build()
    listed = [[each for each in harness.rows(feed) if each["day"] == harness.days[0]] for feed in harness.feeds]
    bad, gone = (row["session_id"] for row in listed[0][10:12])
    elsewhere = next(row["session_id"] for row in harness.rows("sessions") if row["day"] == harness.days[1])
    harness.enterprise.delete_session(gone)
    harness.enterprise.delete_session(elsewhere)
    harness.enterprise.session(bad).acus = Decimal("77")
    harness.enterprise.add_session(created_at=starts_at(harness.days[0], 8) + timedelta(hours=3), session_id="new")

    harness.server.script(FaultScript.of({0: WhereListed(frozenset({bad, f"devin-{bad}"}), Status(500))}))
    for _ in range(2):
        harness.build_unobserved()
        is_listed = {row["session_id"]: row["is_listed"] for row in harness.rows("sessions")}
        assert (is_listed[bad], is_listed[gone], is_listed[elsewhere], is_listed["new"]) == (True, True, False, True)
        quarantine = harness.rows("raw_quarantine")
        assert [(row["feed"], row["day"], row["payload"]) for row in quarantine] == [
            (feed, harness.days[0], "") for feed in sorted(harness.feeds)
        ]
        assert all("position" in row["reason"] and "answered 500" in row["reason"] for row in quarantine)
    assert verify(harness.lake, 8).is_clean

    harness.server.script(None)
    harness.build()
    sessions = {row["session_id"]: row for row in harness.rows("sessions")}
    assert (sessions[bad]["acus"], sessions[bad]["is_listed"], sessions[gone]["is_listed"]) == (77, True, False)
    assert harness.rows("raw_quarantine") == quarantine


@pytest.mark.notices("fields the API reference does not list", "text in the name of a field")
def test_fields_the_reference_does_not_list_are_counted(make_harness: MakeHarness) -> None:
    harness = make_harness("v3", sessions=0, days=3)
    monday, tuesday, wednesday = (starts_at(day, 8) for day in harness.days)
    for name, at, more in (
        ("known", monday, ""),
        ("b", wednesday, ', "shiny": 1, "title": {"nested": 1}'),
        ("c", tuesday, ', "shiny": null'),
        ("d", tuesday, ', "<script>": 1, "a b": NaN'),
    ):
        item = f'{{"session_id": "{name}", "created_at": {int(at.timestamp())}, "acus_consumed": 1{more}}}'
        harness.enterprise.insert_verbatim("sessions_v3", at, item)
    result = harness.run()
    assert result.success
    (evaluation,) = (
        evaluation
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.check_name == "fields_are_known" and evaluation.metadata["findings"].value
    )
    first_day = str(harness.days[0])
    assert evaluation.description == (
        f"2 found: day {first_day}, field (unprintable), sessions of the run 2; "
        f"day {first_day}, field shiny, sessions of the run 2"
    )
    assert evaluation.metadata["first"].value == [
        {"day": first_day, "field": "(unprintable)", "sessions_of_the_run": 2},
        {"day": first_day, "field": "shiny", "sessions_of_the_run": 2},
    ]

    assert "fields_are_known" not in warnings(harness.run(harness.days[:1]))


def test_each_run_reports_the_acus_of_each_day_rebuilt_or_unchanged(make_harness: MakeHarness) -> None:
    harness = make_harness("v2", sessions=40, days=2)
    harness.build()
    for changed in (1, 0):
        harness.enterprise.grow_acus(changed)
        result = harness.refresh()
        reported = {
            (event.asset_key.to_user_string(), event.partition): event.materialization.metadata.get("acus")
            for event in result.get_asset_materialization_events()
            if event.asset_key
        }
        for table in (*SESSION_TABLES, *ROLLUP_TABLES):
            for day in harness.days:
                figure = reported[table.name, day.isoformat()]
                spent = [
                    row[table.acus_column] or 0
                    for row in harness.rows(table.name)
                    if row["day"] == day
                    if table.acus_column
                ]
                wanted = float(round(sum(spent, Decimal(0)), 2)) if table.acus_column else None
                assert (figure.value if figure else None) == wanted


def test_a_report_that_cannot_be_built_holds_up_no_other(make_harness: MakeHarness) -> None:
    harness = make_harness("v2", sessions=40, days=2)
    harness.build_unobserved()
    harness.enterprise.grow_acus(20)
    log = Path(harness.lake.uri) / "pull_requests" / "_delta_log"
    for file in log.glob("*.json"):
        file.write_text("{")
    assert not harness.run().success
    spent = sum(row["acus"] or 0 for row in harness.rows("acu_daily"))
    for name in ("acu_weekly", "acu_monthly"):
        assert sum(row["acus"] or 0 for row in harness.rows(name)) == spent


@pytest.mark.notices("a check that is asked for alone")
def test_one_check_may_run_alone_where_what_others_read_is_damaged(make_harness: MakeHarness) -> None:
    harness = make_harness("v2", sessions=40, days=1)
    harness.build_unobserved()
    for file in harness.lake.snapshot(TABLES["raw_session_insights_v2"]).stored_files():
        content = bytearray(Path(file.path).read_bytes())
        # Its pages; the footer stays.
        content[4:2000] = bytes(1996)
        Path(file.path).write_bytes(content)
    key = dg.AssetCheckKey(dg.AssetKey("raw_session_insights_v2"), "clocks_agree")
    job = dg.define_asset_job("alone", dg.AssetSelection.checks(key))
    made = dg.Definitions.merge(pipeline(Settings()), dg.Definitions(jobs=[job])).resolve_job_def("alone")
    result = made.execute_in_process(instance=harness.instance)
    (evaluation,) = result.get_asset_check_evaluations()
    assert (evaluation.check_name, evaluation.passed) == ("clocks_agree", True)


def test_one_rollup_or_report_may_be_built_and_checked_alone(make_harness: MakeHarness) -> None:
    harness = make_harness("v3", sessions=20, days=2)
    harness.build_unobserved()
    job = pipeline(Settings()).resolve_job_def("refresh")
    for name, checks in (("acu_daily_by_tag", ["acu_daily_by_tag"]), ("acu_weekly", [])):
        result = job.execute_in_process(
            instance=harness.instance, partition_key=harness.days[0].isoformat(), asset_selection=[dg.AssetKey(name)]
        )
        made = [event.asset_key for event in result.get_asset_materialization_events()]
        checked = [evaluation.asset_key.to_user_string() for evaluation in result.get_asset_check_evaluations()]
        assert (result.success, made, checked) == (True, [dg.AssetKey(name)], checks)


def test_a_refused_key_fails_the_run_names_the_permission_and_changes_nothing(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness("v3")
    harness.build()
    rows = harness.everything()
    monkeypatch.setenv("DEVIN_V3_API_KEY", harness.server.limited_v3_key)
    result = harness.run()
    assert not result.success
    failures = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    assert failures[0] is not None
    assert "ViewAccountSessions" in (failures[0].description or "")
    assert not any(harness.server.limited_v3_key in repr(event) for event in result.all_events)
    assert harness.everything() == rows


def test_a_run_on_a_full_disk_fails_saying_so_publishes_nothing_half_and_the_next_one_succeeds(
    make_harness: MakeHarness,
) -> None:
    harness = make_harness("both")
    for size in (0, 14_000):
        moment = Moment(harness)
        with no_file_beyond(size):
            result = harness.run()
        assert not result.success
        reasons = [e.step_failure_data.error for e in result.all_events if e.is_step_failure]
        assert any("was not written: " in str(reason) and "File too large" in str(reason) for reason in reasons)
        moment.require_whole_versions()
        moment.observe_landed_feeds()
        harness.enterprise.grow_acus(9)
    harness.refresh()
    assert differences(harness) == {}


def test_a_lake_on_a_volume_that_is_not_mounted_fails_the_run_before_the_api_is_asked(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    harness = make_harness("both")
    (tmp_path / "link").symlink_to(tmp_path / "volume")
    monkeypatch.setenv("DEVIN_LAKE", str(tmp_path / "link" / "lake"))
    result = harness.run()
    assert not result.success
    reasons = [e.step_failure_data.error for e in result.all_events if e.is_step_failure]
    assert all("is a volume not mounted" in str(reason) for reason in reasons)
    assert harness.server.requests == []


def test_an_item_that_lost_its_creation_time_stays_listed_and_stops_nothing(make_harness: MakeHarness) -> None:
    harness = make_harness("v3", sessions=20)
    harness.build()
    session = harness.enterprise.sessions[2]
    harness.enterprise.delete_session(session.session_id)
    for feed in ("sessions_v3", "session_insights_v3"):
        lost = f'{{"session_id": "{session.session_id}", "acus_consumed": 1, "created_at": null}}'
        harness.enterprise.insert_verbatim(feed, session.created_at, lost)
    harness.build()
    assert differences(harness) == {}
    row = next(
        row for row in harness.rows("sessions") if row["session_id"] == session.session_id.removeprefix("devin-")
    )
    assert row["is_listed"] is True


@pytest.mark.notices("a bad day among good ones")
def test_after_a_run_with_a_bad_day_the_other_days_are_requested(make_harness: MakeHarness) -> None:
    harness = make_harness("v3")
    bad = harness.days[1]
    result = run_with_bad_day(harness, bad)
    requested = after_failure(harness, result, result.dagster_run)
    assert isinstance(requested, dg.SensorResult)
    assert [range_of(request) for request in requested.run_requests or []] == [
        (harness.days[0], harness.days[0]),
        (harness.days[2], harness.days[3]),
    ]
    for request in requested.run_requests or []:
        first, last = range_of(request)
        # Dagster's daemon adds the name of the sensor.
        retried = harness.run(days_between(first, last), {"dagster/sensor_name": "rerun_unaffected_days"})
        assert retried.success
        assert "newest_closed_day_is_read" in warnings(retried) or last > bad
    assert {row["day"] for row in harness.rows("sessions")} == {harness.days[0], *harness.days[2:]}


def test_a_run_that_a_person_starts_over_other_days_does_not_ask_for_the_newest(make_harness: MakeHarness) -> None:
    harness = make_harness("v3", sessions=20, days=4)
    # For three hours after a day has ended, the one before it is the newest that must have been read.
    assert "newest_closed_day_is_read" not in warnings(harness.run(harness.days[:1]))
    by_itself = harness.run(harness.days[:1], {"dagster/sensor_name": "late_updates"})
    assert "newest_closed_day_is_read" in warnings(by_itself)


def test_days_next_to_a_bad_one_are_left_to_the_command_unless_the_dagster_ui_executes_its_run_again(
    make_harness: MakeHarness,
) -> None:
    harness = make_harness("v3", sessions=20, days=3)
    result = run_with_bad_day(harness, harness.days[1])
    of_command = result.dagster_run.with_tags({**result.dagster_run.tags, TRIGGER: BACKFILL})
    assert isinstance(after_failure(harness, result, of_command), dg.SkipReason)
    again = copy(of_command, root_run_id=of_command.run_id, parent_run_id=of_command.run_id)
    assert isinstance(after_failure(harness, result, again), dg.SensorResult)


def run_with_bad_day(harness: PipelineHarness, bad: date) -> dg.ExecuteInProcessResult:
    """A run over all days, in which the API returns other sessions than those asked for of one."""
    at = next(s.created_at for s in harness.enterprise.sessions if (s.created_at - timedelta(hours=8)).date() == bad)
    for number in range(60):
        other = f'{{"session_id": "other{number}", "created_at": 1700000000, "acus_consumed": 1}}'
        harness.enterprise.insert_verbatim("sessions_v3", at, other)
    result = harness.run()
    assert not result.success
    return result


def after_failure(harness: PipelineHarness, result: dg.ExecuteInProcessResult, run: dg.DagsterRun) -> object:
    """What the sensor `rerun_unaffected_days` requests after a run that failed."""
    (failure,) = [event for event in result.all_events if event.is_run_failure]
    context = dg.build_run_status_sensor_context(
        sensor_name="rerun_unaffected_days",
        dagster_event=failure,
        dagster_instance=harness.instance,
        dagster_run=run,
    )
    return rerun_unaffected_days()(context.for_run_failure())


def range_of(request: dg.RunRequest) -> tuple[date, date]:
    return date.fromisoformat(request.tags[FIRST_TAG]), date.fromisoformat(request.tags[LAST_TAG])


def test_days_without_a_session_are_read_and_recorded_as_empty(make_harness: MakeHarness) -> None:
    harness = make_harness("both", sessions=0, days=3)
    harness.refresh()
    for table in (*RAW_SESSION_TABLES, TABLES["sessions"], TABLES["acu_daily"]):
        records = harness.instance.fetch_materializations(dg.AssetKey(table.name), limit=100).records
        rows = [
            materialization.metadata["dagster/partition_row_count"].value
            for r in records
            if (materialization := r.asset_materialization)
        ]
        assert rows == [0] * 3
        stored = harness.lake.query(f"select * from {table.name}")
        assert (stored.num_rows, stored.column_names) == (0, table.column_names)
    assert harness.rows("acu_monthly") == []


@pytest.mark.notices("a day over by our clock only", "clocks apart")
def test_a_day_is_over_by_the_apis_clock_and_clocks_apart_are_warned_of(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness("v3", sessions=0)
    monkeypatch.setenv("DEVIN_FEEDS", "raw_sessions_v3")
    found = []
    for ahead in (timedelta(days=2), timedelta(0)):
        with serving(lambda asked: page_v3([]), clock=datetime.now(UTC) - ahead) as served:
            monkeypatch.setenv("DEVIN_API_URL", served.url)
            found.append(warnings(harness.run()) & {"clocks_agree", "newest_closed_day_is_read"})
    assert found == [{"clocks_agree", "newest_closed_day_is_read"}, set()]


@pytest.mark.notices("sessions outside the days asked for")
def test_a_few_sessions_of_other_days_are_left_out_and_warned_of(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness("v3", sessions=0, days=1)
    monkeypatch.setenv("DEVIN_FEEDS", "raw_sessions_v3")
    at = int(starts_at(harness.days[0], 8).timestamp())
    sent = [{"session_id": f"s{n}", "created_at": at - (n == 0) * 99, "acus_consumed": 1} for n in range(12)]
    with serving(lambda asked: page_v3(sent)) as served:
        monkeypatch.setenv("DEVIN_API_URL", served.url)
        result = harness.run()
    assert result.success
    assert "api_respects_time_filters" in warnings(result)
    assert {row["session_id"] for row in harness.rows("sessions")} == {f"s{n}" for n in range(1, 12)}


def test_no_second_layer_asks_again_what_the_client_has_asked_six_times(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness("v3", sessions=0)
    monkeypatch.setenv("DEVIN_FEEDS", "raw_sessions_v3")
    monkeypatch.setattr(retry, "BACKOFF_BASE_SECONDS", 0)
    with serving(lambda asked: Reply(status=503)) as served:
        monkeypatch.setenv("DEVIN_API_URL", served.url)
        result = harness.run(harness.days[:1])
    assert not result.success
    # Three more, each for one item, show that it is not for what the page holds.
    assert [asked.one("first") for asked in served.asked] == ["200"] * 6 + ["1"] * 3
    assert harness.lake.identity is None


@pytest.mark.notices("a day that has not begun")
@pytest.mark.parametrize("as_range", [False, True])
@pytest.mark.parametrize(
    "key",
    ["tomorrow", "1999-12-31", "2025-12-5", "20251205", "../../x", "2026-01-01 ", "2026-01-01'", "2026-02-30", "", "x"],
)
def test_a_day_there_is_not_is_refused_before_any_request_and_writes_nothing(
    make_harness: MakeHarness, key: str, as_range: bool
) -> None:
    harness = make_harness("v3", sessions=0)
    day = (harness.days[-1] + timedelta(days=1)).isoformat() if key == "tomorrow" else key
    asked: Row = {"tags": {FIRST_TAG: day, LAST_TAG: day}} if as_range else {"partition_key": day}
    with suppress(dg.DagsterError, ValueError):
        job = pipeline(Settings()).resolve_job_def("refresh")
        assert not job.execute_in_process(instance=harness.instance, raise_on_error=False, **asked).success
    assert harness.server.requests == []
    assert not Path(harness.lake.uri).exists()


ODD = {
    "NUL": "a\x00b",
    "byte order mark": "\ufeffa",
    "bidi override": "\u202eabc\u202c",
    "joined emoji": "👩\u200d👩\u200d👧",
    "composed": "é",
    "decomposed": "e\u0301",
    "separators": "\u2028\u2029\x85\x0b",
    "markup": "<script>alert(1)</script> ![x](/graphql?query=mutation) =cmd|'/c calc'!A0",
}


@pytest.mark.notices("prompts in a log")
def test_texts_of_any_kind_and_size_are_stored_as_sent_and_appear_in_no_event_or_log(
    make_harness: MakeHarness, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    harness = make_harness("v2", sessions=0, days=1)
    at = starts_at(harness.days[0], 8)
    texts = ODD | {"ten megabytes": "canary" * 1_700_000}
    deep = "[" * 900 + "]" * 900
    tags = [f"t{n}" for n in range(10_000)]
    for name, text in texts.items():
        item: Row = {"session_id": name.replace(" ", "_"), "created_at": at.isoformat(), "updated_at": at.isoformat()}
        item |= {
            "acus_consumed": 1,
            "title": text[:90],
            "initial_user_message": text,
            "org_id": "../../x",
            "status": "new",
        }
        harness.enterprise.insert_verbatim("session_insights_v2", at, json.dumps(item))
    for name, extra in {"deep": f'"session_analysis": {deep}', "tagged": f'"tags": {json.dumps(tags)}'}.items():
        common = f'"session_id": "{name}", "created_at": "{at.isoformat()}", "acus_consumed": 1.000001'
        harness.enterprise.insert_verbatim("session_insights_v2", at, f"{{{common}, {extra}}}")
    result = harness.run()

    assert result.success
    sessions = {row["session_id"]: row for row in harness.rows("sessions")}
    assert {name: sessions[name.replace(" ", "_")]["initial_user_message"] for name in texts} == texts
    assert sessions["tagged"]["tags"] == tags
    assert sessions["deep"]["has_analysis"] is False
    split = [row["acus_split"] for row in harness.rows("acu_daily_by_tag") if row["tag"] != "(untagged)"]
    assert sorted(split) == [Decimal("0.000100")] * 9_999 + [Decimal("0.000101")]
    events = [repr(entry) for entry in harness.instance.all_logs(result.run_id)]
    shown = capfd.readouterr()
    for shown_text in (*events, caplog.text, shown.out, shown.err):
        assert "canarycanary" not in shown_text
        assert "alert(1)" not in shown_text
    assert max(map(len, events)) < 100_000
    # No text is part of a path, and no value passes through Dagster's pickles.
    assert {path.name for path in tmp_path.iterdir()} <= {"lake", "home"}
    others = {"lake.json", "devin.duckdb", "made_of", "last_reads", "last_versions", "organizations.json", "bill"}
    assert {path.name for path in Path(harness.lake.uri).iterdir()} <= {*TABLES, *others}
    assert not any(event.event_type_value == "HANDLED_OUTPUT" for event in result.all_events)


def test_one_organization_is_read_alone(make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = make_harness("both", sessions=40, days=2)
    organization = next(o.org_id for o in harness.enterprise.organizations if not o.is_deleted)
    monkeypatch.setenv("DEVIN_ORG_ID", organization)
    assert harness.run().success
    assert {row["org_id"] for row in harness.rows("sessions")} == {organization}
    assert {request.path for request in harness.server.requests} == {
        f"/v2/enterprise/organizations/{organization}/sessions/insights",
        f"/v3/organizations/{organization}/sessions",
        f"/v3/organizations/{organization}/sessions/insights",
    }
