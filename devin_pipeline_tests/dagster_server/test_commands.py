"""Dagster's own commands, as a person types them in a fresh clone."""

import collections
import sys
from datetime import UTC, timedelta
from pathlib import Path

import dagster as dg
import pytest

from devin_pipeline.dagster_server.code_location import origin_of
from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline.lake import Lake
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.dagster_server.running import (
    HOUR,
    REPORTS,
    dagster_home,
    environment,
    live_settings,
    run,
    today,
)


@pytest.fixture
def no_key(tmp_path: Path, bytecode: Path) -> dict[str, str]:
    return environment({"DAGSTER_HOME": str(dagster_home(tmp_path)), "DEVIN_LAKE": str(tmp_path / "lake")}, bytecode)


def test_the_definitions_load_without_any_key_and_without_a_warning(no_key: dict[str, str]) -> None:
    loads = "import dagster, devin_pipeline.definitions as d; dagster.Definitions.validate_loadable(d.defs)"
    loaded = run([sys.executable, "-W", "error", "-c", loads], no_key)
    assert (loaded.returncode, loaded.stdout) == (0, "")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("dg list defs", "raw_sessions_v3"),
        ("dg check defs", "All definitions loaded successfully."),
        ("dagster definitions validate -w workspace.yaml", "Validation successful for code location devin_pipeline."),
    ],
)
def test_the_definitions_are_clean_for_the_command(command: str, says: str, no_key: dict[str, str]) -> None:
    result = run(command.split(), no_key)
    assert result.returncode == 0, result.stdout
    assert says in result.stdout
    # Dagster would rather have `dg check defs` than `dagster definitions validate`; that warning is its own.
    warnings = [line for line in result.stdout.splitlines() if "warning" in line.lower()]
    assert [line for line in warnings if "`definitions_validate_command` is superseded" not in line] == []


@pytest.mark.notices("a run of dg launch without a code location")
def test_a_range_launched_by_dg_reads_every_day_and_builds_the_reports(
    tmp_path: Path, bytecode: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = today() - timedelta(days=6), today() - timedelta(days=2)
    days = [first + timedelta(days=n) for n in range(5)]
    with EmulatorServer(Enterprise.synthetic(seed=3, sessions=90, days=10)) as server:
        settings = live_settings(server, tmp_path, today() - timedelta(days=9))
        launch = ["dg", "launch", "--job", "refresh", "--partition-range", f"{first}...{last}"]
        launched = run(launch, environment(settings, bytecode))
        created = [session.created_at for session in server.enterprise.sessions]
    assert launched.returncode == 0, launched.stdout[-3000:]

    sent = collections.Counter((moment.astimezone(UTC) - timedelta(hours=HOUR)).date() for moment in created)
    assert all(sent[day] for day in days), "the test needs sessions on every day"
    with Lake(settings["DEVIN_LAKE"]).connect([TABLES["raw_sessions_v3"]]) as connection:
        kept = connection.rows(
            "select day, count(distinct session_id) as n from raw_sessions_v3 group by day"
        ).to_pylist()
    assert {row["day"]: row["n"] for row in kept} == {day: sent[day] for day in days}

    monkeypatch.setenv("DAGSTER_HOME", settings["DAGSTER_HOME"])
    with dg.DagsterInstance.get() as instance:
        # As the Dagster UI looks for runs of the code location.
        (recorded,) = instance.get_runs(dg.RunsFilter(tags={".dagster/repository": "__repository__@devin_pipeline"}))
        shown = {
            event.partition_key: event.asset_materialization.metadata["dagster/partition_row_count"].value
            for event in instance.fetch_materializations(dg.AssetKey("raw_sessions_v3"), limit=100).records
            if event.asset_materialization
        }
        made = [name for name in REPORTS if instance.get_latest_materialization_event(dg.AssetKey(name))]
    assert recorded.status == dg.DagsterRunStatus.SUCCESS
    assert recorded.remote_job_origin == origin_of("refresh")
    assert shown == {day.isoformat(): sent[day] for day in days}
    assert made == list(REPORTS)
