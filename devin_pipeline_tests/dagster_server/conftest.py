"""One Dagster UI and daemon over an emulator, and where commands keep their bytecode."""

import contextlib
import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline_tests.dagster_server.running import (
    PARTITIONED,
    DagsterUi,
    environment,
    eventually,
    free_port,
    live_settings,
    started,
    today,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WEBSERVER = "devin_pipeline.dagster_server.webserver"
REBOUND = "rebound.example"
DAYS = 50
BACKFILLED = [today() - timedelta(days=n) for n in range(49, 39, -1)]


@dataclasses.dataclass(frozen=True)
class LiveUi:
    """What is going on: the Dagster UI, its settings, and what was asked of it before the daemon started.

    Attributes:
        changed_session: A session older than the schedule reads, changed since the sensor's cursor.
        scheduled_tags: The tags of the run request of a dry tick of `daily_refresh`.
        backfill: The backfill of the partitioned assets over `BACKFILLED`.
    """

    ui: DagsterUi
    settings: dict[str, str]
    changed_session: str
    scheduled_tags: dict[str, str]
    backfill: str


@pytest.fixture(scope="session")
def bytecode(pytestconfig: pytest.Config) -> Path:
    """Where commands keep their bytecode on machines that forbid it next to the sources."""
    cache = pytestconfig.cache
    assert cache is not None
    return cache.mkdir("bytecode")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, in which the name `rebound.example` leads to this machine."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed to look at the Dagster UI with")
    rebound = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", rebound])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory, bytecode: Path) -> Iterator[LiveUi]:
    folder = tmp_path_factory.mktemp("live")
    enterprise = Enterprise.synthetic(seed=11, sessions=200, days=DAYS)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(EmulatorServer(enterprise))
        settings = live_settings(server, folder, today() - timedelta(days=DAYS - 1))
        env = environment(settings, bytecode)
        port = free_port()
        ui = DagsterUi(f"http://127.0.0.1:{port}")
        stack.enter_context(
            started(
                [
                    sys.executable,
                    "-m",
                    WEBSERVER,
                    "-w",
                    "workspace.yaml",
                    "-p",
                    str(port),
                ],
                env,
                folder / "ui.log",
            )
        )
        eventually(ui.answers, 60, "the Dagster UI answers")

        # All of it before the daemon starts, so that its first tick finds everything at once. The sensor's cursor is
        # an hour back, the session changed since.
        changed = next(
            session for session in enterprise.sessions if session.created_at < datetime.now(UTC) - timedelta(days=38)
        )
        with enterprise.lock:
            changed.acus = Decimal(1000)
            changed.updated_at = datetime.now(UTC)
        ui.ask(
            """mutation($sensor: SensorSelector!, $cursor: String) {
                 setSensorCursor(sensorSelector: $sensor, cursor: $cursor) { __typename } }""",
            sensor=_selector("sensorName", "late_updates"),
            cursor=json.dumps({"until": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}),
        )
        tags = _tags_of_a_tick(ui)
        backfill = _backfill(ui)
        stack.enter_context(started(["dagster-daemon", "run", "-w", "workspace.yaml"], env, folder / "daemon.log"))
        yield LiveUi(ui, settings, changed.session_id, tags, backfill)


def _selector(of: str, name: str) -> dict[str, str]:
    return {"repositoryName": "__repository__", "repositoryLocationName": "devin_pipeline", of: name}


def _tags_of_a_tick(ui: DagsterUi) -> dict[str, str]:
    tick = ui.ask(
        """mutation($schedule: ScheduleSelector!, $at: Float!) {
             scheduleDryRun(selectorData: $schedule, timestamp: $at) { ... on DryRunInstigationTick {
               evaluationResult { runRequests { tags { key value } } skipReason error { message } } } } }""",
        schedule=_selector("scheduleName", "daily_refresh"),
        at=datetime.now(UTC).timestamp(),
    )["scheduleDryRun"]["evaluationResult"]
    (request,) = tick["runRequests"]
    return {tag["key"]: tag["value"] for tag in request["tags"]}


def _backfill(ui: DagsterUi) -> str:
    launched = ui.ask(
        """mutation($backfill: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $backfill) {
             __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
        backfill={
            "assetSelection": [{"path": [name]} for name in PARTITIONED],
            "partitionNames": [day.isoformat() for day in BACKFILLED],
            # Behind the sensor's run, which makes the reports itself: only the automation can make them afterwards.
            "tags": [{"key": "dagster/priority", "value": "-1"}],
        },
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    backfill_id: str = launched["backfillId"]
    return backfill_id
