"""Dagster's own commands as processes: the settings they get, the webserver and daemon side by side, and how they end.

Nothing here knows what the pipeline should do.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import dagster
import httpx

from devin_pipeline.emulator import EmulatorServer
from devin_pipeline.tables import RAW_SESSION_TABLES, REPORT_TABLES

PROJECT = Path(__file__).parents[2]
HOUR = 8
PARTITIONED = (
    "raw_session_insights_v2",
    "raw_sessions_v3",
    "raw_session_insights_v3",
    "sessions",
    "session_pull_requests",
    "session_issues",
    "session_action_items",
    "session_timeline",
    "prompt_suggestions",
    "prompt_feedback",
    "acu_daily",
    "acu_daily_by_tag",
    "acu_daily_by_repository",
    "consumption_daily",
    "session_acus_by_day",
)
SESSION_FEEDS = ",".join(table.name for table in RAW_SESSION_TABLES)
"""What DEVIN_FEEDS names where requests are counted: no bill is read."""

REPORTS = (*(table.name for table in REPORT_TABLES), "duckdb_catalog")

FIRST, LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

Answer = TypeVar("Answer")


def today() -> date:
    """The billing day that has begun."""
    return (datetime.now(UTC) - timedelta(hours=HOUR)).date()


def days_ago(days: int) -> date:
    """A billing day before today's."""
    return today() - timedelta(days=days)


def span(tags: Mapping[str, str]) -> tuple[date, date]:
    """The first and last day of a run, by its tags."""
    return date.fromisoformat(tags[FIRST]), date.fromisoformat(tags[LAST])


def dagster_home(folder: Path) -> Path:
    """A DAGSTER_HOME under `folder` with the shipped settings."""
    home = folder / "home"
    home.mkdir()
    shutil.copyfile(PROJECT / "dagster.yaml", home / "dagster.yaml")
    return home


def live_settings(server: EmulatorServer, folder: Path, first_day: date) -> dict[str, str]:
    """The variables of a live pipeline that asks the emulator, with its lake and DAGSTER_HOME under `folder`."""
    return {
        "DAGSTER_HOME": str(dagster_home(folder)),
        "DEVIN_API_URL": server.url,
        "DEVIN_V2_API_KEY": server.v2_key,
        "DEVIN_V3_API_KEY": server.v3_key,
        "DEVIN_LAKE": str(folder / "lake"),
        "DEVIN_START_DATE": first_day.isoformat(),
        "DEVIN_DAY_STARTS_AT_UTC_HOUR": str(HOUR),
        "DEVIN_REPORT": "none",
        "DEVIN_FEEDS": SESSION_FEEDS,
    }


def environment(settings: dict[str, str], bytecode: Path) -> dict[str, str]:
    """The environment of a command: ours without the settings of the person who runs the tests, and the given ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DEVIN_", "DAGSTER_"))}
    if sys.dont_write_bytecode and not Path(importlib.util.cache_from_source(dagster.__file__)).exists():
        # Dagster without bytecode costs each process three seconds of compiling; with it next to the packages already
        # (`UV_COMPILE_BYTECODE`), a folder of our own would be the one that lacks it.
        del inherited["PYTHONDONTWRITEBYTECODE"]
        inherited["PYTHONPYCACHEPREFIX"] = str(bytecode)
    commands = str(Path(sys.executable).parent)
    return inherited | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": sys.prefix,  # as `uv run` sets it
        "COLUMNS": "200",
        "PYTHONPATH": str(PROJECT),  # the code next to these tests, wherever the command is installed from
        **settings,
    }


def run(command: Sequence[str], env: dict[str, str], seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder to its end; its output and errors together."""
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        finally:
            _kill_group(process)
    return subprocess.CompletedProcess(list(command), process.returncode, output)


@contextlib.contextmanager
def started(
    command: Sequence[str], env: dict[str, str], log: Path, folder: Path = PROJECT
) -> Iterator[subprocess.Popen[bytes]]:
    """A command that keeps running in the project's or another folder; stopped at the end with all it started."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            _kill_group(process)


def _kill_group(process: subprocess.Popen[Any]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def processes_under(pid: int) -> list[int]:
    """A process and all that it started, and these, and so on."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True).stdout
    pairs = [line.split() for line in listed.splitlines()]
    found = [pid]
    for parent in found:
        found += [int(child) for child, its_parent in pairs if int(its_parent) == parent]
    return found


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(ask: Callable[[], Answer | None], seconds: float, what: str) -> Answer:
    """The first answer that is not false or None."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.25)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


class DagsterUi:
    """The Dagster UI, queried over GraphQL as a browser does."""

    def __init__(self, url: str) -> None:
        self.url = url

    def answers(self) -> bool:
        """True once it serves requests."""
        try:
            return httpx.get(f"{self.url}/server_info", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, query: str, **variables: object) -> Any:
        """The data of a query, or an assertion that shows what is wrong with it."""
        answer = httpx.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=30).json()
        assert "errors" not in answer, json.dumps(answer["errors"])[:2000]
        return answer["data"]

    def runs(self, **tags: str) -> list[dict[str, Any]]:
        """The runs that carry these tags (`__` for `/`), the newest first."""
        wanted = [{"key": name.replace("__", "/"), "value": value} for name, value in tags.items()]
        found = self.ask(
            """query($filter: RunsFilter!) { runsOrError(filter: $filter) { ... on Runs { results {
                 runId status jobName startTime endTime assetSelection { path } tags { key value } } } } }""",
            filter={"tags": wanted},
        )
        runs: list[dict[str, Any]] = found["runsOrError"]["results"]
        return runs

    def run_status(self, run_id: str) -> str:
        """SUCCESS, FAILURE, QUEUED …"""
        found = self.ask("query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", id=run_id)
        status: str = found["runOrError"]["status"]
        return status
