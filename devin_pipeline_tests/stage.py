"""The stage of a whole-pipeline test: an emulator over real sockets, a lake on disk, a Dagster instance."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from devin_pipeline.definitions import pipeline
from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline.lake import Lake
from devin_pipeline.partitions import day_of, days_between, range_tags
from devin_pipeline.resources import ASKED_OF
from devin_pipeline.tables import ALL_TABLES, TABLES
from devin_pipeline_tests.oracle import Oracle

Row = dict[str, Any]

# Told by clocks, not by the server's data.
_OF_CLOCKS = {"fetched_at", "first_seen_at", "last_changed_at", "content_hash", "reason"}


@dataclass
class Stage:
    """Everything a whole-pipeline test needs; the environment points at it while the test runs."""

    server: EmulatorServer
    enterprise: Enterprise
    lake: Lake
    instance: dg.DagsterInstance
    days: list[date]
    feeds: list[str]
    oracle: Oracle = field(default_factory=Oracle)

    def run(self, days: Sequence[date] | None = None) -> dg.ExecuteInProcessResult:
        """The job `refresh` over a range of days."""
        asked = days or self.days
        return (
            pipeline()
            .resolve_job_def("refresh")
            .execute_in_process(
                instance=self.instance,
                tags=range_tags(asked[0], asked[-1]),
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
        )

    def refresh(self) -> dg.ExecuteInProcessResult:
        """A run that must succeed, which the oracle sees too."""
        result = self.run()
        assert result.success, [event.message for event in result.all_events if event.is_failure]
        self.observe()
        return result

    def observe(self) -> None:
        """Let the oracle read what the server sends now."""
        for feed in self.feeds:
            items = self.enterprise.items(ASKED_OF[feed], include_deleted_orgs=True)
            self.oracle.observe(feed, self.days, items, datetime.now(UTC))

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
    """Rows as text in one order, without what clocks tell."""
    return sorted(repr([_plain(row[column], column) for column in columns]) for row in rows)


def _plain(value: object, column: str) -> object:
    if column == "structured_output" and isinstance(value, str):
        return json.loads(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value


def differences(stage: Stage) -> dict[str, tuple[list[str], list[str]]]:
    """Per table: rows only the oracle has, rows only the lake has. Empty when all is equal to the last digit."""
    found = {}
    for table in ALL_TABLES:
        expected = stage.oracle.table(table.name)
        columns = [name for name in (expected[0] if expected else {}) if name not in _OF_CLOCKS]
        wanted = comparable(expected, columns)
        got = comparable(stage.rows(table.name), columns) if columns else [str(row) for row in stage.rows(table.name)]
        if wanted != got:
            found[table.name] = ([r for r in wanted if r not in got][:3], [r for r in got if r not in wanted][:3])
    return found


def set_environment(
    monkeypatch: pytest.MonkeyPatch, server: EmulatorServer, folder: Path, keys: str, start: date
) -> None:
    """Point every setting at the server and the folder; `keys` is `v2`, `v3` or `both`."""
    for name in ("DEVIN_FEEDS", "DEVIN_ORG_ID", "DEVIN_DAY_STARTS_AT_UTC_HOUR", "DEVIN_PIPELINE_DEMO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DEVIN_API_URL", server.url)
    monkeypatch.setenv("DEVIN_LAKE", str(folder / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "home"))
    monkeypatch.setenv("DEVIN_START_DATE", start.isoformat())
    for name, kind, value in (("V2", "v2", server.v2_key), ("V3", "v3", server.v3_key)):
        if keys in (kind, "both"):
            monkeypatch.setenv(f"DEVIN_{name}_API_KEY", value)
        else:
            monkeypatch.delenv(f"DEVIN_{name}_API_KEY", raising=False)


def the_last_days(count: int) -> list[date]:
    """The billing days up to the one that has begun."""
    today = day_of(datetime.now(UTC), 8)
    return days_between(today - timedelta(days=count - 1), today)
