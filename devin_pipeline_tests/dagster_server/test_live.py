"""The Dagster UI and daemon over an emulator, watched over GraphQL and in a real browser.

One webserver and one daemon serve it all; the tests are in the order in which things happen.
"""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from playwright.sync_api import Page as Tab

from devin_pipeline.lake import Lake
from devin_pipeline.tables import DIRECTORY_TABLES, TABLES
from devin_pipeline_tests.dagster_server.conftest import BACKFILLED, LiveUi
from devin_pipeline_tests.dagster_server.running import REPORTS, days_ago, environment, eventually, run, span

WEEKLY = ("weekly_bill", "weekly_maintenance")
OF_LISTS = {table.name for table in DIRECTORY_TABLES}

pytestmark = pytest.mark.xdist_group("live")


def test_the_daemon_finds_the_one_code_location_with_everything_switched_on(live: LiveUi) -> None:
    found = live.ui.ask(
        """{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError {
             ... on RepositoryLocation { repositories { name
               sensors { name sensorState { status } } schedules { name scheduleState { status } } } } } } } } }"""
    )
    (location,) = found["workspaceOrError"]["locationEntries"]
    assert location["name"] == "devin_pipeline"
    (repository,) = location["locationOrLoadError"]["repositories"]
    states = {each["name"]: each["sensorState"]["status"] for each in repository["sensors"]}
    states |= {each["name"]: each["scheduleState"]["status"] for each in repository["schedules"]}
    assert states == dict.fromkeys(
        ("late_updates", "rerun_unaffected_days", "reports_after_backfill", "daily_refresh", *WEEKLY),
        "RUNNING",
    )


def test_a_tick_of_the_schedule_asks_for_35_days_in_one_range(live: LiveUi) -> None:
    first, last = span(live.scheduled_tags)
    assert (last - first).days == 34


def test_a_tick_of_the_sensor_reads_the_old_day_of_a_changed_session_again(live: LiveUi) -> None:
    _run_of_the_sensor(live)
    rows = _rows(live, "sessions", "select acus from sessions where session_id = $id", id=live.changed_session)
    assert [row["acus"] for row in rows] == [1000]


def test_the_doctor_finds_the_daemon_alive_and_everything_switched_on(live: LiveUi, bytecode: Path) -> None:
    _run_of_the_sensor(live)
    result = run(["devin-pipeline", "doctor", "--json"], environment(live.settings, bytecode))
    checks = {(each["name"], each["subject"]): each for each in json.loads(result.stdout.splitlines()[-1])["checks"]}
    on = {subject: each["found"] for (name, subject), each in checks.items() if name in ("schedule", "sensor")}
    assert on == dict.fromkeys(
        ("late_updates", "rerun_unaffected_days", "reports_after_backfill", "daily_refresh", *WEEKLY),
        "it is on",
    )
    assert checks["daemon", ""]["outcome"] == "ok"
    assert checks["last_run", ""]["outcome"] == "ok"


@pytest.fixture(scope="module")
def tab(live: LiveUi, browser: Browser) -> Tab:
    # A run must have been there, or there is nothing to see.
    _run_of_the_sensor(live)
    tab = browser.new_page(viewport={"width": 1600, "height": 1000}, base_url=live.ui.url)
    tab.set_default_timeout(20_000)
    expect.set_options(timeout=20_000)
    return tab


def test_the_graph_shows_the_three_groups_in_order(tab: Tab) -> None:
    tab.goto("/asset-groups")
    for group in ("raw", "derived", "reports"):
        expect(tab.get_by_text(group, exact=True).first).to_be_visible()
    expect(tab.get_by_text("Materialize all")).to_be_visible()


def test_the_dagster_ui_shows_grain_columns_group_kinds_and_figures_of_an_asset(tab: Tab) -> None:
    sessions = TABLES["sessions"]
    tab.goto("/assets/sessions?view=overview")
    expect(tab.get_by_text(sessions.grain)).to_be_visible()
    for column in sessions.columns:
        expect(tab.get_by_role("cell", name=column.name, exact=True).first).to_be_attached()
    shown = " ".join(tab.inner_text("body").split())
    assert [column.name for column in sessions.columns if " ".join(column.description.split()) not in shown] == []
    for text in ("derived", "Delta Lake", "DuckDB", "devin-pipeline", "dagster/partition_row_count", "acus"):
        expect(tab.get_by_text(text, exact=True).first).to_be_attached()


def test_the_dagster_ui_shows_the_checks_of_an_asset_and_how_they_ended(tab: Tab) -> None:
    tab.goto("/assets/sessions?view=checks")
    for check in ("session_ids_are_unique", "sessions_are_inside_their_day", "every_raw_session_is_derived"):
        expect(tab.get_by_text(check, exact=True).first).to_be_visible()
    expect(tab.get_by_text("Succeeded").first).to_be_visible()


def test_a_backfill_from_the_dagster_ui_is_one_run_and_ends_with_fresh_reports(live: LiveUi) -> None:
    def ended() -> Any:
        backfill = live.ui.ask(
            """query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
                 status error { message } runs(limit: 10) { runId status } } } }""",
            id=live.backfill,
        )["partitionBackfillOrError"]
        return backfill if backfill["status"].startswith(("COMPLETED", "FAILED", "CANCEL")) else None

    backfill = eventually(ended, 90, "the backfill ends")
    assert backfill["status"] == "COMPLETED_SUCCESS", backfill
    (run,) = backfill["runs"]
    assert _days_of_run(live, run["runId"]) == set(BACKFILLED)

    def refreshed() -> bool:
        newest = _newest_materializations(live)
        inputs = max(newest["acu_daily"], newest["acu_daily_by_repository"])
        # The lists were not read, and neither was what follows from them made.
        return all(newest[name] > inputs for name in REPORTS if name not in OF_LISTS)

    eventually(refreshed, 60, "the reports are made after the backfill")
    (week,) = _rows(live, "acu_weekly", "select sum(acus) as acus from acu_weekly")
    (day,) = _rows(live, "acu_daily", "select sum(acus) as acus, count(distinct day) as days from acu_daily")
    assert week["acus"] == day["acus"]
    assert day["acus"] > 1000


def test_the_events_of_an_asset_are_listed_one_by_one_in_the_dagster_ui(live: LiveUi, tab: Tab) -> None:
    tab.goto("/assets/acu_daily?view=events")
    for day in BACKFILLED:
        expect(tab.get_by_text(day.isoformat(), exact=True).first).to_be_visible()
    expect(tab.get_by_text(f"{live.settings['DEVIN_LAKE']}/acu_daily", exact=True)).to_be_visible()


def test_a_run_of_a_command_is_one_of_the_code_location_which_executes_it_again(
    live: LiveUi, tab: Tab, bytecode: Path
) -> None:
    day = str(days_ago(37))
    command = ["devin-pipeline", "backfill", "--from", day, "--to", day]
    assert run(command, environment(live.settings, bytecode)).returncode == 0
    (of_command,) = live.ui.runs(devin__trigger="backfill")
    listed = live.ui.ask(
        """query($job: PipelineSelector!) { pipelineOrError(params: $job) { ... on Pipeline { runs { runId } } } }""",
        job={
            "pipelineName": "refresh",
            "repositoryName": "__repository__",
            "repositoryLocationName": "devin_pipeline",
        },
    )
    assert of_command["runId"] in [each["runId"] for each in listed["pipelineOrError"]["runs"]]

    tab.goto(f"/runs/{of_command['runId']}")
    tab.get_by_text("Re-execute all").first.click()
    again = eventually(lambda: live.ui.runs(dagster__parent_run_id=of_command["runId"]), 60, "it is executed again")
    eventually(lambda: live.ui.run_status(again[0]["runId"]) == "SUCCESS", 60, "that succeeds")


def _run_of_the_sensor(live: LiveUi) -> None:
    (run,) = eventually(lambda: live.ui.runs(dagster__sensor_name="late_updates"), 60, "the sensor requests a run")
    eventually(lambda: live.ui.run_status(run["runId"]) == "SUCCESS", 60, "its run succeeds")


def _days_of_run(live: LiveUi, run_id: str) -> set[date]:
    events = live.ui.ask(
        """query($id: ID!) { runOrError(runId: $id) { ... on Run { assetMaterializations {
             assetKey { path } partition } } } }""",
        id=run_id,
    )["runOrError"]["assetMaterializations"]
    return {date.fromisoformat(each["partition"]) for each in events if each["assetKey"]["path"] == ["sessions"]}


def _newest_materializations(live: LiveUi) -> dict[str, float]:
    nodes = live.ui.ask("{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { timestamp } } }")
    return {
        node["assetKey"]["path"][0]: max(
            (float(each["timestamp"]) for each in node["assetMaterializations"]), default=0
        )
        for node in nodes["assetNodes"]
    }


def _rows(live: LiveUi, table: str, query: str, **params: object) -> list[dict[str, Any]]:
    with Lake(live.settings["DEVIN_LAKE"]).connect([TABLES[table]]) as connection:
        rows: list[dict[str, Any]] = connection.rows(query, params).to_pylist()
    return rows
