"""The weekly care for a whole lake: by the function, by Dagster's job, by the command."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner
from deltalake import write_deltalake

from devin_pipeline.cli import main
from devin_pipeline.definitions import pipeline
from devin_pipeline.emulator import Enterprise
from devin_pipeline.lake import Rewrite
from devin_pipeline.operations.maintain import maintain
from devin_pipeline.operations.verify import verify
from devin_pipeline.settings import Settings
from devin_pipeline.tables import ALL_TABLES, TABLES, Table
from devin_pipeline_tests.harness import PipelineHarness, differences, open_harness, the_last_days

pytestmark = pytest.mark.notices(
    "a raw row with a wrong hash joined with others", "views over files that maintain deletes"
)

RAW = TABLES["raw_sessions_v3"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PipelineHarness:
    """A lake of two days, made once."""
    enterprise = Enterprise.synthetic(seed=11, sessions=30, days=2)
    with ExitStack() as opened, pytest.MonkeyPatch.context() as patch:
        harness = open_harness(opened, patch, tmp_path_factory.mktemp("made"), enterprise, the_last_days(2), "v3")
        harness.build()
        return harness


@pytest.fixture
def harness(made: PipelineHarness, copied: Callable[[PipelineHarness], PipelineHarness]) -> PipelineHarness:
    return copied(made)


def split(harness: PipelineHarness, table: Table, odd: pa.Table | None = None) -> None:
    """Write a table's first day, or an unpartitioned table, as two files, the later rows first."""
    lake = harness.lake
    rows = lake.snapshot(table).rows()
    if table.by_day:
        rows = rows.filter(pc.equal(rows.column("day"), pa.scalar(harness.days[0])))
        later = rows.slice(1) if odd is None else odd
        lake.rewrite(table, lambda _: Rewrite([harness.days[0]], later))
    else:
        lake.replace_all(table, rows.slice(1))
    write_deltalake(lake.location(table), rows.slice(0, 1), mode="append")


def maintain_job(harness: PipelineHarness) -> dg.ExecuteInProcessResult:
    job = pipeline(Settings()).resolve_job_def("maintain")
    return job.execute_in_process(
        instance=harness.instance,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def test_a_lake_in_many_files_gets_few_again_and_everything_is_intact_and_as_it_was(harness: PipelineHarness) -> None:
    rows = harness.everything()
    for table in (RAW, TABLES["sessions"], TABLES["acu_daily"], TABLES["acu_weekly"]):
        split(harness, table)
    assert harness.everything() == rows
    done = maintain(harness.lake, 8)

    assert not done.left
    fewer = {each.table.name: each.files_before - each.files for each in done.tables}
    assert {name: count for name, count in fewer.items() if count} == {
        "raw_sessions_v3": 1,
        "sessions": 1,
        "acu_daily": 1,
        "acu_weekly": 1,
    }
    assert harness.everything() == rows
    assert verify(harness.lake, 8).is_clean
    # The views name the new files, so that none breaks when the old ones go.
    with duckdb.connect(f"{harness.lake.uri}/devin.duckdb", read_only=True) as catalog:
        views = " ".join(sql for (sql,) in catalog.sql("select sql from duckdb_views() where not internal").fetchall())
    assert all(
        file.replace("'", "''") in views for table in ALL_TABLES for file in harness.lake.snapshot(table).files()
    )

    versions = harness.versions()
    assert all(each.files == each.files_before for each in maintain(harness.lake, 8).tables)
    assert harness.versions() == versions
    harness.build()
    assert harness.versions() == versions
    assert differences(harness) == {}


def test_a_raw_day_whose_row_does_not_give_its_row_hash_is_reported_and_left(harness: PipelineHarness) -> None:
    rows = harness.lake.snapshot(RAW).rows()
    rows = rows.filter(pc.equal(rows.column("day"), pa.scalar(harness.days[0]))).slice(1)
    acus = rows.column_names.index("acus")
    odd = rows.set_column(acus, rows.schema.field(acus), pa.array([None] * rows.num_rows, rows.schema.field(acus).type))
    split(harness, RAW, odd)
    files = harness.lake.snapshot(RAW).files()
    (left,) = maintain(harness.lake, 8).left
    assert left.startswith(f"raw_sessions_v3 {harness.days[0]} stays in several files")
    assert "its values do not give its row_hash" in left
    assert harness.lake.snapshot(RAW).files() == files

    result = maintain_job(harness)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "row_hash" in str(failure.step_failure_data.error)
    result_of_command = CliRunner().invoke(main, ["maintain"])
    assert result_of_command.exit_code == 1
    assert "row_hash" in result_of_command.stderr


def test_a_table_whose_log_is_broken_is_reported_and_the_others_are_joined(harness: PipelineHarness) -> None:
    split(harness, TABLES["sessions"])
    (Path(harness.lake.location(RAW)) / "_delta_log" / f"{0:020}.json").write_text("{")
    skipped = maintain(harness.lake, 8).left
    assert any("log of raw_sessions_v3 cannot be read" in each for each in skipped)
    days = [file.day for file in harness.lake.snapshot(TABLES["sessions"]).stored_files()]
    assert len(days) == len(set(days))


def test_the_job_does_it_and_a_refresh_does_not(harness: PipelineHarness) -> None:
    split(harness, RAW)
    assert harness.run(harness.days[1:]).success
    assert len(harness.lake.snapshot(RAW).files(harness.days[:1])) == 2
    result = maintain_job(harness)
    assert result.success
    assert len(harness.lake.snapshot(RAW).files(harness.days[:1])) == 1
    assert not any(event.event_type_value == "HANDLED_OUTPUT" for event in result.all_events)


def test_the_command_says_what_it_did(harness: PipelineHarness) -> None:
    split(harness, RAW)
    result = CliRunner().invoke(main, ["maintain"])
    assert result.exit_code == 0, result.output
    (line,) = [line.split() for line in result.stdout.splitlines() if "raw_sessions_v3" in line]
    assert [word for word in line if word.isdigit()] == ["3", "2", "0", "0", "0"]


def test_the_command_writes_nothing_where_no_run_has_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVIN_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(main, ["maintain"])
    assert result.exit_code == 0
    assert "No run has written" in result.stderr
    assert list(tmp_path.iterdir()) == []
