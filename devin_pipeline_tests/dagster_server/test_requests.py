"""The days that the schedule and the sensor ask for, and when the reports are asked for; evaluated in this process."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from devin_pipeline.automation.jobs import maintain_job
from devin_pipeline.automation.schedules import daily_refresh, weekly_maintenance
from devin_pipeline.automation.sensors import late_updates
from devin_pipeline.definitions import pipeline
from devin_pipeline.devin_api import DevinClient
from devin_pipeline.doctor import examine
from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline.lake import Lake
from devin_pipeline.orchestration.freshness import older_days
from devin_pipeline.orchestration.resources import devin_api_resource
from devin_pipeline.settings import Settings
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import DIRECTORY_TABLES, TABLES
from devin_pipeline.usage_report import USAGE_REPORT
from devin_pipeline_tests.dagster_server.running import FIRST, HOUR, LAST, REPORTS, SESSION_FEEDS, days_ago, span
from devin_pipeline_tests.devin_api.scripted import Session, honest_v3, serving
from devin_pipeline_tests.runs import read_feed

pytestmark = pytest.mark.notices(
    "days missed while the schedule was off",
    "updates beyond a tick",
    "updates of a clock ahead",
    "updates of a clock set back",
    "a day neither schedule nor sensor reads",
    "another update of the same day",
)


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(Enterprise.synthetic(seed=5, sessions=200, days=60)) as server:
        yield server


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def settings(server: EmulatorServer, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DEVIN_LAKE": lake.uri,
        "DAGSTER_HOME": f"{lake.uri}-home",
        "DEVIN_API_URL": server.url,
        "DEVIN_V2_API_KEY": server.v2_key,
        "DEVIN_V3_API_KEY": server.v3_key,
        "DEVIN_START_DATE": days_ago(59).isoformat(),
        "DEVIN_DAY_STARTS_AT_UTC_HOUR": str(HOUR),
        "DEVIN_REPORT": "full",
        "DEVIN_FEEDS": SESSION_FEEDS,
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("DEVIN_ORG_ID", "DEVIN_PIPELINE_DEMO"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def tick_of_the_schedule(instance: dg.DagsterInstance) -> Any:
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=datetime.now(UTC)) as context:
        return daily_refresh(Settings())(context)


def tick_of_the_sensor(instance: dg.DagsterInstance, cursor: str | None) -> Any:
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"devin_api": devin_api_resource(Settings())}
    ) as context:
        return late_updates(Settings())(context)


def cursor_an_hour_back() -> str:
    return json.dumps({"until": (datetime.now(UTC) - timedelta(hours=1)).isoformat()})


@pytest.mark.usefixtures("settings")
def test_the_schedule_reads_the_last_35_closed_days(instance: dg.DagsterInstance) -> None:
    assert span(tick_of_the_schedule(instance).tags) == (days_ago(35), days_ago(1))


@pytest.mark.usefixtures("settings")
def test_the_schedule_reaches_back_to_the_day_after_its_last_success(instance: dg.DagsterInstance) -> None:
    @dg.job(name="refresh")
    def stands_for_the_job() -> None:
        pass

    def succeeded(last: date, by: str) -> None:
        tags = {"dagster/schedule_name": by, FIRST: (last - timedelta(days=34)).isoformat(), LAST: last.isoformat()}
        assert stands_for_the_job.execute_in_process(instance=instance, tags=tags).success

    succeeded(days_ago(50), by="daily_refresh")
    succeeded(days_ago(2), by="another")
    assert span(tick_of_the_schedule(instance).tags) == (days_ago(49), days_ago(1))
    succeeded(days_ago(2), by="daily_refresh")
    assert span(tick_of_the_schedule(instance).tags) == (days_ago(35), days_ago(1))


@pytest.mark.usefixtures("settings")
def test_the_sensors_first_tick_sets_its_cursor_and_asks_nothing(
    server: EmulatorServer, instance: dg.DagsterInstance
) -> None:
    before = datetime.now(UTC)
    first = tick_of_the_sensor(instance, None)
    assert not first.run_requests
    assert before <= datetime.fromisoformat(json.loads(first.cursor)["until"]) <= datetime.now(UTC)
    assert server.requests == []


@pytest.mark.usefixtures("settings")
def test_old_days_with_a_changed_session_become_ranges_and_recent_days_are_left_to_the_schedule(
    server: EmulatorServer, instance: dg.DagsterInstance
) -> None:
    # The schedule's next tick starts 34 days before today: the day before would be read by nobody.
    for ago in (50, 49, 48, 35, 34, 20):
        noon = datetime(*days_ago(ago).timetuple()[:3], HOUR + 4, tzinfo=UTC)
        server.enterprise.add_session(created_at=noon, updated_at=datetime.now(UTC))
    second = tick_of_the_sensor(instance, cursor_an_hour_back())
    requested = [span(request.tags) for request in second.run_requests]
    assert requested == [(days_ago(50), days_ago(48)), (days_ago(35), days_ago(35))]
    assert len({request.run_key for request in second.run_requests}) == 2

    # The overlap shows the same changes again; the same key makes no second run.
    third = tick_of_the_sensor(instance, second.cursor)
    assert [request.run_key for request in third.run_requests] == [request.run_key for request in second.run_requests]


@pytest.mark.notices("days that a session is on in the lake")
@pytest.mark.usefixtures("settings")
def test_a_session_that_moved_has_the_day_asked_for_that_the_api_returns_and_the_one_the_lake_holds(
    server: EmulatorServer, lake: Lake, instance: dg.DagsterInstance
) -> None:
    noon = {ago: datetime(*days_ago(ago).timetuple()[:3], HOUR + 4, tzinfo=UTC) for ago in (52, 50, 20)}
    session = server.enterprise.add_session(created_at=noon[50])
    with DevinClient(base_url=server.url, v2_key=server.v2_key, v3_key=server.v3_key) as client:
        for feed in ("raw_session_insights_v2", "raw_sessions_v3"):
            read_feed(client, lake, feed, [days_ago(50)])
    for ago, asked in ((52, [52, 50]), (20, [50])):
        session.created_at = noon[ago]
        session.updated_at = datetime.now(UTC)
        requested = [span(request.tags) for request in tick_of_the_sensor(instance, cursor_an_hour_back()).run_requests]
        assert requested == [(days_ago(day), days_ago(day)) for day in asked]


@pytest.mark.usefixtures("settings")
def test_more_updates_than_a_tick_may_read_are_asked_for_in_ever_shorter_spans_and_never_passed_over(
    server: EmulatorServer, instance: dg.DagsterInstance
) -> None:
    noon = datetime(*days_ago(40).timetuple()[:3], HOUR + 4, tzinfo=UTC)
    burst = datetime.now(UTC) - timedelta(minutes=30)
    for number in range(2100):
        server.enterprise.add_session(
            created_at=noon, updated_at=burst + timedelta(seconds=number / 10), session_id=f"burst{number}"
        )
    cursor, ticks = cursor_an_hour_back(), 0
    requests: list[dg.RunRequest] = []
    while not requests:
        ticks += 1
        assert ticks < 12
        tick = tick_of_the_sensor(instance, cursor)
        assert datetime.fromisoformat(json.loads(tick.cursor)["until"]) <= burst or tick.run_requests
        cursor, requests = tick.cursor, tick.run_requests
    assert ticks > 1
    assert {span(request.tags) for request in requests} == {(days_ago(40), days_ago(40))}


FEEDS = (TABLES["raw_session_insights_v2"], TABLES["raw_sessions_v3"], TABLES["raw_session_insights_v3"])


def note_reads(lake: Lake, days: list[date], at: datetime) -> None:
    for feed in FEEDS:
        lake.note_read(feed, days, at)


@pytest.mark.usefixtures("settings")
def test_without_a_cursor_the_sensor_begins_at_the_earliest_last_read_of_the_older_days(
    server: EmulatorServer, lake: Lake, instance: dg.DagsterInstance
) -> None:
    now = datetime.now(UTC)
    note_reads(lake, [days_ago(50), days_ago(45)], now - timedelta(hours=30))
    note_reads(lake, [days_ago(45), days_ago(40)], now - timedelta(hours=2))
    # Read daily, so that it does not matter how long ago.
    note_reads(lake, [days_ago(5)], now - timedelta(days=4))
    for ago, hours in ((50, 29), (45, 28), (40, 1)):
        noon = datetime(*days_ago(ago).timetuple()[:3], HOUR + 4, tzinfo=UTC)
        server.enterprise.add_session(created_at=noon, updated_at=now - timedelta(hours=hours))
    tick = tick_of_the_sensor(instance, None)
    # The update of the day in the middle came before it was read the last time.
    requested = [span(request.tags) for request in tick.run_requests]
    assert requested == [(days_ago(50), days_ago(50)), (days_ago(40), days_ago(40))]
    assert datetime.fromisoformat(json.loads(tick.cursor)["until"]) >= now - timedelta(seconds=10)


@pytest.mark.notices("a day that the schedule left unread")
@pytest.mark.usefixtures("settings")
def test_a_day_that_the_schedule_did_not_read_before_it_left_it_is_asked_for_by_the_sensor(
    server: EmulatorServer, lake: Lake, instance: dg.DagsterInstance
) -> None:
    now = datetime.now(UTC)
    note_reads(lake, [days_ago(38), days_ago(37)], now - timedelta(days=20))
    note_reads(lake, [days_ago(37)], now - timedelta(hours=30))
    tick = tick_of_the_sensor(instance, cursor_an_hour_back())
    assert [span(request.tags) for request in tick.run_requests] == [(days_ago(38), days_ago(38))]
    older = older_days(lake, [feed.name for feed in FEEDS], Settings().start_date, HOUR, now)
    assert older.to_read_again == [days_ago(38)]
    # It is not asked for at each tick, and not at all once it is read.
    assert tick_of_the_sensor(instance, tick.cursor).run_requests == []
    note_reads(lake, [days_ago(38)], datetime.now(UTC))
    assert older_days(lake, [feed.name for feed in FEEDS], Settings().start_date, HOUR, now).to_read_again == []


@pytest.mark.notices("a requested run that did not read its day")
@pytest.mark.usefixtures("settings")
def test_a_day_whose_run_failed_is_asked_for_again_until_it_is_read(
    server: EmulatorServer, lake: Lake, instance: dg.DagsterInstance
) -> None:
    now = datetime.now(UTC)
    day = days_ago(40)
    note_reads(lake, [day], now - timedelta(hours=8))
    noon = datetime(*day.timetuple()[:3], HOUR + 4, tzinfo=UTC)
    server.enterprise.add_session(created_at=noon, updated_at=now - timedelta(minutes=1))
    (first,) = tick_of_the_sensor(instance, cursor_an_hour_back()).run_requests
    # Hours later the update is behind the cursor, and no run has read the day.
    later = {"until": now.isoformat(), "awaited": {day.isoformat(): (now - timedelta(hours=7)).isoformat()}}
    server.enterprise.delete_session(
        next(each.session_id for each in server.enterprise.sessions if each.created_at == noon)
    )
    tick = tick_of_the_sensor(instance, json.dumps(later))
    (again,) = tick.run_requests
    assert span(again.tags) == (day, day)
    assert again.run_key != first.run_key
    note_reads(lake, [day], datetime.now(UTC))
    assert tick_of_the_sensor(instance, json.dumps(later)).run_requests == []


@pytest.mark.usefixtures("settings")
def test_more_updates_in_a_second_than_a_tick_may_read_are_named_until_their_days_are_read_again(
    server: EmulatorServer, lake: Lake, instance: dg.DagsterInstance
) -> None:
    now = datetime.now(UTC)
    noon = datetime(*days_ago(40).timetuple()[:3], HOUR + 4, tzinfo=UTC)
    note_reads(lake, [days_ago(41), days_ago(40)], now - timedelta(hours=2))
    burst = now - timedelta(minutes=30)
    for number in range(2100):
        server.enterprise.add_session(created_at=noon, updated_at=burst, session_id=f"burst{number}")
    cursor = cursor_an_hour_back()
    ticks = 0
    while datetime.fromisoformat(json.loads(cursor)["until"]) <= burst:
        ticks += 1
        assert ticks < 30
        cursor = tick_of_the_sensor(instance, cursor).cursor
    # And the time since is worked off.
    while datetime.fromisoformat(json.loads(cursor)["until"]) < now - timedelta(minutes=1):
        ticks += 1
        assert ticks < 40
        cursor = tick_of_the_sensor(instance, cursor).cursor
    older = older_days(lake, [feed.name for feed in FEEDS], Settings().start_date, HOUR, now)
    assert older.to_read_again == [days_ago(41), days_ago(40)]
    (found,) = [finding for finding in examine(Settings()) if finding.name == "late_updates"]
    assert found.outcome == "warning"
    assert found.todo == pipeline_command(f"backfill --from {days_ago(41)} --to {days_ago(40)}")
    note_reads(lake, [days_ago(41), days_ago(40)], datetime.now(UTC))
    assert older_days(lake, [feed.name for feed in FEEDS], Settings().start_date, HOUR, now).to_read_again == []


@pytest.mark.usefixtures("settings")
def test_another_change_to_a_day_makes_another_run_even_if_it_is_older(
    server: EmulatorServer, instance: dg.DagsterInstance
) -> None:
    noon = datetime(*days_ago(40).timetuple()[:3], HOUR + 4, tzinfo=UTC)
    now = datetime.now(UTC)
    server.enterprise.add_session(created_at=noon, updated_at=now)
    (first,) = tick_of_the_sensor(instance, cursor_an_hour_back()).run_requests
    server.enterprise.add_session(created_at=noon, updated_at=now - timedelta(minutes=1))
    (second,) = tick_of_the_sensor(instance, cursor_an_hour_back()).run_requests
    assert first.run_key != second.run_key


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("hours", [-1, 1, 5])
def test_an_update_is_seen_though_our_clock_runs_ahead_of_the_apis_or_behind_it(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    there = datetime.now(UTC) - timedelta(hours=hours)
    noon = datetime(*days_ago(40).timetuple()[:3], HOUR + 4, tzinfo=UTC)
    updated: list[Session] = []
    with serving(lambda asked: honest_v3(updated, asked), clock=there) as served:
        monkeypatch.setenv("DEVIN_API_URL", served.url)
        monkeypatch.delenv("DEVIN_V2_API_KEY")
        monkeypatch.setenv("DEVIN_FEEDS", "raw_sessions_v3")
        cursor = tick_of_the_sensor(instance, None).cursor
        # What is updated while our clock is behind is in our future: for this test, an hour of ticks has passed.
        at = min(there, datetime.now(UTC)).timestamp()
        updated.append({"session_id": "a", "created_at": int(noon.timestamp()), "updated_at": int(at)})
        requests: list[dg.RunRequest] = []
        for _ in range(3):
            tick = tick_of_the_sensor(instance, cursor)
            cursor, requests = tick.cursor, requests + tick.run_requests
    assert {span(request.tags) for request in requests} == {(days_ago(40), days_ago(40))}


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("span_seconds", [None, 60])
def test_an_update_is_seen_after_our_clock_was_set_back(
    server: EmulatorServer, instance: dg.DagsterInstance, span_seconds: int | None
) -> None:
    noon = datetime(*days_ago(40).timetuple()[:3], HOUR + 4, tzinfo=UTC)
    server.enterprise.add_session(created_at=noon, updated_at=datetime.now(UTC) - timedelta(seconds=1))
    ahead = {"until": (datetime.now(UTC) + timedelta(hours=5)).isoformat(), "span_seconds": span_seconds}
    cursor = json.dumps(ahead)
    requests: list[dg.RunRequest] = []
    for _ in range(2):
        tick = tick_of_the_sensor(instance, cursor)
        cursor, requests = tick.cursor, requests + tick.run_requests
    assert {span(request.tags) for request in requests} == {(days_ago(40), days_ago(40))}


@pytest.mark.usefixtures("settings")
def test_without_a_key_schedule_and_sensor_skip_and_say_why(
    server: EmulatorServer, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEVIN_V2_API_KEY")
    monkeypatch.delenv("DEVIN_V3_API_KEY")
    for skipped in (tick_of_the_schedule(instance), tick_of_the_sensor(instance, cursor_an_hour_back())):
        assert isinstance(skipped, dg.SkipReason)
        assert "DEVIN_V3_API_KEY" in str(skipped.skip_message)
    assert server.requests == []


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(("demo", "expected"), [("0", "RUNNING"), ("1", "STOPPED")])
def test_schedules_and_sensor_are_on_by_default_for_a_live_lake_and_off_for_the_demos(
    demo: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_PIPELINE_DEMO", demo)
    assert daily_refresh(Settings()).default_status.value == expected
    assert late_updates(Settings()).default_status.value == expected
    assert weekly_maintenance(Settings(), maintain_job(Settings())).default_status.value == expected


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(("hour", "cron"), [("8", "30 20 * * 0"), ("13", "30 1 * * 0")])
def test_the_lake_is_maintained_every_sunday_half_a_day_away_from_the_refresh(
    hour: str, cron: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_DAY_STARTS_AT_UTC_HOUR", hour)
    (schedule,) = [each for each in pipeline(Settings()).schedules or () if each.name == "weekly_maintenance"]
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.cron_schedule, schedule.execution_timezone, schedule.job_name) == (cron, "UTC", "maintain")


@pytest.mark.usefixtures("settings")
def test_reports_are_requested_once_after_a_run_without_them_and_never_after_one_with_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEVIN_LAKE", str(tmp_path / "lake"))
    defs = pipeline(Settings())
    instance = dg.DagsterInstance.ephemeral()

    def made(*names: str) -> None:
        # Backfills from the Dagster UI run assets in the job that Dagster makes of all of them.
        ran = defs.resolve_job_def("__ASSET_JOB" if names else "refresh").execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(name) for name in names] or None,
            tags={FIRST: days_ago(4).isoformat(), LAST: days_ago(3).isoformat()},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        assert ran.success

    def requested(cursor: Any) -> tuple[int, Any]:
        tick = dg.evaluate_automation_conditions(
            defs, instance, cursor=cursor, asset_selection=dg.AssetSelection.groups("reports")
        )
        return tick.total_requested, tick.cursor

    # Dagster cannot say what is new since a tick that saw no event at all.
    instance.report_runless_asset_event(dg.AssetMaterialization("something_else"))
    count, cursor = requested(None)
    assert count == 0
    made()
    count, cursor = requested(cursor)
    assert count == 0
    # Both between two ticks, as when a backfill waits for the scheduled run to end.
    made()
    made("sessions", "session_pull_requests", "acu_daily")
    count, cursor = requested(cursor)
    # Those of the lists are as they were.
    assert count == len({*REPORTS, USAGE_REPORT} - {table.name for table in DIRECTORY_TABLES})
    count, _ = requested(cursor)
    assert count == 0
    instance.dispose()
