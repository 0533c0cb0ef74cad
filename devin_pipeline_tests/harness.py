"""What a whole-pipeline test runs on: an emulator over real sockets, a lake on disk, a Dagster instance."""

import copy
import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest

from devin_pipeline.billing_calendar import day_of, days_between
from devin_pipeline.definitions import pipeline
from devin_pipeline.derived.publishing import publish_rollups, publish_session_tables, publish_spend
from devin_pipeline.devin_api import FEED_BY_TABLE, FEEDS
from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline.lake import Lake
from devin_pipeline.orchestration.partitions import range_tags
from devin_pipeline.reports.publishing import publish_report
from devin_pipeline.settings import Settings
from devin_pipeline.tables import ALL_TABLES, MONEY_TABLES, REPORT_TABLES, ROLLUP_TABLES, SPEND_TABLES, TABLES, Table
from devin_pipeline_tests.oracle import OF_THE_BILL, Oracle
from devin_pipeline_tests.runs import Run

Row = dict[str, Any]

# Set by clocks, not by the server's data.
_OF_CLOCKS = {"fetched_at", "first_seen_at", "last_changed_at", "content_hash", "reason", "valid_from", "valid_to"}
_OF_CLOCKS |= {"row_hash"}


@dataclass
class PipelineHarness:
    """Everything a whole-pipeline test needs; the environment points at it while the test runs."""

    server: EmulatorServer
    enterprise: Enterprise
    lake: Lake
    instance: dg.DagsterInstance
    days: list[date]
    feeds: list[str]
    oracle: Oracle = field(default_factory=Oracle)
    reads_bill: bool = False

    def run(
        self,
        days: Sequence[date] | None = None,
        tags: Mapping[str, str] | None = None,
        only: Sequence[Table] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """The job `refresh` over a range of days, or some of its tables."""
        asked = days or self.days
        return (
            pipeline(Settings())
            .resolve_job_def("refresh")
            .execute_in_process(
                instance=self.instance,
                tags={**range_tags(asked[0], asked[-1]), **(tags or {})},
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                asset_selection=None if only is None else [dg.AssetKey(table.name) for table in only],
            )
        )

    def build(self) -> None:
        """Build what a run builds, in a third of its time and without Dagster's record; the oracle observes it too."""
        self.build_unobserved()
        self.observe()

    def build_unobserved(self) -> None:
        """The same, and the oracle does not observe it."""
        self.run_without_dagster()()

    def run_without_dagster(self, days: Sequence[date] | None = None) -> Run:
        """A run over its days, or some, that can be handed to another process."""
        server, lake, days = self.server, self.lake.uri, days or self.days
        return Run(server.url, server.v2_key, server.v3_key, lake, self.feeds, days, reads_bill=self.reads_bill)

    def run_into(self, folder: Path) -> Run:
        """Such a run into another, empty lake, which this and its oracle follow from now on."""
        self.lake, self.oracle = Lake(str(folder)), Oracle()
        return self.run_without_dagster()

    def refresh(self) -> dg.ExecuteInProcessResult:
        """A run that must succeed, which the oracle observes too."""
        return self._refresh(None)

    def land(self) -> dg.ExecuteInProcessResult:
        """What such a run does for raw, in a third of the time."""
        return self._refresh([TABLES[feed] for feed in self.feeds])

    def _refresh(self, only: Sequence[Table] | None) -> dg.ExecuteInProcessResult:
        result = self.run(only=only)
        assert result.success, [event.message for event in result.all_events if event.is_failure]
        self.observe()
        return result

    def observe(self, since: "Moment | None" = None) -> None:
        """Let the oracle observe what the server sends now; the bill of a moment, if nothing changed `since`."""
        for feed in self.feeds:
            self.oracle.observe(feed, self.days, self.listed(feed), datetime.now(UTC))
        if self.reads_bill:
            if since is not None:
                shutil.copytree(since.undisturbed, self.undisturbed, dirs_exist_ok=True)
            self.oracle.observe_bill(since.bill if since else bill_after(self, self.undisturbed))

    @property
    def undisturbed(self) -> Path:
        """A lake into which the bill is read too, whenever the oracle observes, and which nothing disturbs."""
        return Path(f"{self.lake.uri} undisturbed")

    def listed(self, feed: str) -> Sequence[str]:
        """The items that the server lists in a feed now."""
        return self.enterprise.items(FEED_BY_TABLE[feed].name, include_deleted_orgs=True)

    def rows(self, name: str) -> list[Row]:
        rows: list[Row] = self.lake.snapshot(TABLES[name]).rows().to_pylist()
        return rows

    def everything(self) -> dict[str, list[Row]]:
        return {table.name: self.rows(table.name) for table in ALL_TABLES}

    def versions(self) -> dict[str, int | None]:
        return {table.name: self.lake.snapshot(table).version for table in ALL_TABLES}


def warnings(result: dg.ExecuteInProcessResult) -> set[str]:
    """The checks of a run that found something."""
    return {check.check_name for check in result.get_asset_check_evaluations() if not check.passed}


def comparable(rows: Iterable[Row], columns: Sequence[str]) -> list[str]:
    """Rows as text in one order, without what clocks set."""
    return sorted(repr([_plain(row[column], column) for column in columns]) for row in rows)


def _plain(value: object, column: str) -> object:
    if column == "structured_output" and isinstance(value, str):
        return json.loads(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value


def differences(harness: PipelineHarness) -> dict[str, tuple[list[str], list[str]]]:
    """Per table: rows only the oracle has, rows only the lake has. Empty when all is equal to the last digit."""
    wanted, got = contents(harness.oracle.table, harness.oracle), contents(harness.rows, harness.oracle)
    return {
        name: ([r for r in wanted[name] if r not in got[name]][:3], [r for r in got[name] if r not in wanted[name]][:3])
        for name in wanted
        if wanted[name] != got[name]
    }


def contents(rows: Callable[[str], Sequence[Row]], oracle: Oracle) -> dict[str, list[str]]:
    """Every table's rows as text in one order: the columns the oracle knows, without what clocks set."""
    found = {}
    for table in ALL_TABLES:
        expected = oracle.table(table.name)
        columns = [name for name in (expected[0] if expected else {}) if name not in _OF_CLOCKS]
        stored = rows(table.name)
        found[table.name] = comparable(stored, columns) if columns else [str(row) for row in stored]
    return found


def bill_after(harness: PipelineHarness, folder: Path) -> dict[str, list[Row]]:
    """What the tables of the bill hold once it was read into an undisturbed lake."""
    harness.run_without_dagster().into(folder).of_the_bill()
    lake = Lake(str(folder))
    return {name: lake.snapshot(TABLES[name]).rows().to_pylist() for name in OF_THE_BILL}


class Moment:
    """What the tables hold before a run over some days (all by default), and what they will hold after it."""

    def __init__(self, harness: PipelineHarness, days: Sequence[date] | None = None) -> None:
        self.harness = harness
        self.days = harness.days if days is None else days
        self.files = self._files()
        self.oracle = copy.deepcopy(harness.oracle)
        for feed in harness.feeds:
            self.oracle.observe(feed, self.days, harness.listed(feed), datetime.now(UTC))
        self.undisturbed = Path()
        self.bill: dict[str, list[Row]] = {}
        if harness.reads_bill:
            self.undisturbed = Path(f"{harness.lake.uri} moment")
            shutil.rmtree(self.undisturbed, ignore_errors=True)
            if harness.undisturbed.exists():
                shutil.copytree(harness.undisturbed, self.undisturbed, dirs_exist_ok=True)
            self.bill = bill_after(harness, self.undisturbed)
            self.oracle.observe_bill(self.bill)
        self.before = contents(harness.rows, self.oracle)
        self.after = contents(self.oracle.table, self.oracle)

    def require_whole_versions(self) -> None:
        """Every reader sees of every table the version before the run or the whole one after it."""
        lake = self.harness.lake
        with lake.connect() as connection:
            self._require_whole(lambda name: connection.rows(f'from "{name}"'))
        # As `query` does, for all at once.
        every = ", ".join(f'"{table.name}"' for table in ALL_TABLES)
        with lake.connection_for(f"from {every}") as sandbox:
            self._require_whole(lambda name: sandbox.query(f'from "{name}"'))
        if (file := Path(lake.uri) / "devin.duckdb").exists():
            with duckdb.connect() as bi:
                bi.execute("set TimeZone = 'UTC'")
                bi.execute(f"attach '{file}' as devin (read_only)")
                self._require_whole(lambda name: bi.sql(f'from devin."{name}"').to_arrow_table())

    def _require_whole(self, read: Callable[[str], pa.Table]) -> None:
        seen = contents(lambda name: read(name).to_pylist(), self.oracle)
        torn = [name for name in seen if seen[name] not in (self.before[name], self.after[name])]
        assert torn == []

    def _files(self) -> dict[str, list[str]]:
        return {table.name: self.harness.lake.snapshot(table).files() for table in ALL_TABLES}

    def commits(self) -> list[str]:
        """The tables that have been written since; one that was created only is as it was."""
        return [name for name, files in self._files().items() if files != self.files[name]]

    def observe_landed_feeds(self) -> None:
        """Have the oracle observe the feeds that the run had landed before it ended."""
        for feed in set(self.harness.feeds) & set(self.commits()):
            self.harness.oracle.observe(feed, self.days, self.harness.listed(feed), datetime.now(UTC))


def rebuild(lake: Lake, table: Table, days: Sequence[date]) -> None:
    """Rebuild days of a derived table, or a report, as a run does, without Dagster and the API."""
    if table in REPORT_TABLES:
        publish_report(lake, table)
    elif table in ROLLUP_TABLES:
        publish_rollups(lake, days, 8, [table])
    elif table in SPEND_TABLES:
        publish_spend(lake, days, 8, table)
    else:
        publish_session_tables(lake, days, 8, [table])


def open_harness(
    opened: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    enterprise: Enterprise,
    days: list[date],
    keys: str = "both",
    *,
    reads_bill: bool = False,
) -> PipelineHarness:
    """A harness over the lake in a folder, until what it is opened with is closed."""
    server = opened.enter_context(EmulatorServer(enterprise))
    set_environment(monkeypatch, server, folder, keys, days[0], reads_bill=reads_bill)
    instance = opened.enter_context(dg.DagsterInstance.ephemeral())
    keep_connection(instance)
    lake = Lake(str(folder / "lake"))
    return PipelineHarness(server, enterprise, lake, instance, days, Settings().feeds, reads_bill=reads_bill)


def keep_connection(instance: dg.DagsterInstance) -> None:
    """Have an ephemeral instance open no new connection for each event, which takes a fifth of a run."""
    storage: Any = instance.event_log_storage
    opened_for_each, thread = storage._connect, threading.get_ident()

    @contextmanager
    def connect() -> Iterator[Any]:
        if threading.get_ident() == thread:
            with storage._db_lock, storage._held_conn.begin():
                yield storage._held_conn
        else:
            # SQLite's connections belong to a thread.
            with opened_for_each() as connection:
                yield connection

    storage._connect = connect


def set_environment(
    monkeypatch: pytest.MonkeyPatch,
    server: EmulatorServer,
    folder: Path,
    keys: str,
    start: date,
    *,
    reads_bill: bool = False,
) -> None:
    """Point every setting at the server and the folder; `keys` is `v2`, `v3` or `both`."""
    for name in ("DEVIN_ORG_ID", "DEVIN_DAY_STARTS_AT_UTC_HOUR", "DEVIN_PIPELINE_DEMO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DEVIN_API_URL", server.url)
    monkeypatch.setenv("DEVIN_LAKE", str(folder / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "home"))
    monkeypatch.setenv("DEVIN_START_DATE", start.isoformat())
    # Most tests count requests of sessions; those of the bill ask for it.
    feeds = [feed.table for feed in FEEDS if keys in (feed.key, "both")]
    monkeypatch.setenv("DEVIN_FEEDS", ",".join([*feeds, *(table.name for table in MONEY_TABLES if reads_bill)]))
    # A page is made in two seconds, which few tests look at.
    monkeypatch.setenv("DEVIN_REPORT", "none")
    for name, kind, value in (("V2", "v2", server.v2_key), ("V3", "v3", server.v3_key)):
        if keys in (kind, "both"):
            monkeypatch.setenv(f"DEVIN_{name}_API_KEY", value)
        else:
            monkeypatch.delenv(f"DEVIN_{name}_API_KEY", raising=False)


def the_last_days(count: int) -> list[date]:
    """The billing days up to the one that has begun."""
    today = day_of(datetime.now(UTC), 8)
    return days_between(today - timedelta(days=count - 1), today)
