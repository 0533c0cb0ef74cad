"""The weekly care for a whole lake: by the function, by Dagster's job, by the command."""

from collections.abc import Callable
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
from devin_pipeline.lake import Rewrite
from devin_pipeline.operations.maintain import maintain
from devin_pipeline.operations.verify import verify
from devin_pipeline.settings import Settings
from devin_pipeline.tables import ALL_TABLES, TABLES, Table
from devin_pipeline_tests.stage import Stage, differences

pytestmark = pytest.mark.notices(
    "a raw row that breaks its seal joined with others", "views over files that maintain deletes"
)

MakeStage = Callable[..., Stage]
RAW = TABLES["raw_sessions_v3"]


@pytest.fixture
def stage(make_stage: MakeStage) -> Stage:
    stage = make_stage("v3", sessions=40, days=3)
    stage.make()
    return stage


def split(stage: Stage, table: Table, odd: pa.Table | None = None) -> None:
    """Write a table's first day, or an unpartitioned table, as two files, the later rows first."""
    lake = stage.lake
    rows = lake.snapshot(table).rows()
    if table.by_day:
        rows = rows.filter(pc.equal(rows.column("day"), pa.scalar(stage.days[0])))
        later = rows.slice(1) if odd is None else odd
        lake.rewrite(table, lambda _: Rewrite([stage.days[0]], later))
    else:
        lake.replace_all(table, rows.slice(1))
    write_deltalake(lake.location(table), rows.slice(0, 1), mode="append")


def maintain_job(stage: Stage) -> dg.ExecuteInProcessResult:
    job = pipeline(Settings()).resolve_job_def("maintain")
    return job.execute_in_process(
        instance=stage.instance,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def test_a_lake_in_many_files_gets_few_again_and_everything_is_sound_and_as_it_was(stage: Stage) -> None:
    rows = stage.everything()
    for table in (RAW, TABLES["sessions"], TABLES["acu_daily"], TABLES["acu_weekly"]):
        split(stage, table)
    assert stage.everything() == rows
    done = maintain(stage.lake, 8)

    assert not done.left
    fewer = {each.table.name: each.files_before - each.files for each in done.tables}
    assert {name: count for name, count in fewer.items() if count} == {
        "raw_sessions_v3": 1,
        "sessions": 1,
        "acu_daily": 1,
        "acu_weekly": 1,
    }
    assert stage.everything() == rows
    assert verify(stage.lake, 8).is_clean
    # The views name the new files, so that none breaks when the old ones go.
    with duckdb.connect(f"{stage.lake.uri}/devin.duckdb", read_only=True) as catalog:
        views = " ".join(sql for (sql,) in catalog.sql("select sql from duckdb_views() where not internal").fetchall())
    assert all(file.replace("'", "''") in views for table in ALL_TABLES for file in stage.lake.snapshot(table).files())

    versions = stage.versions()
    assert all(each.files == each.files_before for each in maintain(stage.lake, 8).tables)
    assert stage.versions() == versions
    stage.refresh()
    assert stage.versions() == versions
    assert differences(stage) == {}


def test_a_raw_day_whose_row_breaks_its_seal_is_told_and_left(stage: Stage) -> None:
    rows = stage.lake.snapshot(RAW).rows()
    rows = rows.filter(pc.equal(rows.column("day"), pa.scalar(stage.days[0]))).slice(1)
    acus = rows.column_names.index("acus")
    odd = rows.set_column(acus, rows.schema.field(acus), pa.array([None] * rows.num_rows, rows.schema.field(acus).type))
    split(stage, RAW, odd)
    files = stage.lake.snapshot(RAW).files()
    (left,) = maintain(stage.lake, 8).left
    assert left.startswith(f"raw_sessions_v3 {stage.days[0]} stays in several files")
    assert "its values do not give its row_hash" in left
    assert stage.lake.snapshot(RAW).files() == files

    result = maintain_job(stage)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "row_hash" in str(failure.step_failure_data.error)
    result_of_command = CliRunner().invoke(main, ["maintain"])
    assert result_of_command.exit_code == 1
    assert "row_hash" in result_of_command.stderr


def test_a_table_whose_log_is_broken_is_told_and_the_others_are_joined(stage: Stage) -> None:
    split(stage, TABLES["sessions"])
    (Path(stage.lake.location(RAW)) / "_delta_log" / f"{0:020}.json").write_text("{")
    told = maintain(stage.lake, 8).left
    assert any("log of raw_sessions_v3 cannot be read" in each for each in told)
    days = [file.day for file in stage.lake.snapshot(TABLES["sessions"]).stored_files()]
    assert len(days) == len(set(days))


def test_the_job_does_it_and_a_refresh_does_not(stage: Stage) -> None:
    split(stage, RAW)
    assert stage.run(stage.days[1:]).success
    assert len(stage.lake.snapshot(RAW).files(stage.days[:1])) == 2
    result = maintain_job(stage)
    assert result.success
    assert len(stage.lake.snapshot(RAW).files(stage.days[:1])) == 1
    assert not any(event.event_type_value == "HANDLED_OUTPUT" for event in result.all_events)


def test_the_command_says_what_it_did(stage: Stage) -> None:
    split(stage, RAW)
    result = CliRunner().invoke(main, ["maintain"])
    assert result.exit_code == 0, result.output
    (line,) = [line.split() for line in result.stdout.splitlines() if "raw_sessions_v3" in line]
    assert [word for word in line if word.isdigit()] == ["4", "3", "0", "0", "0"]


def test_the_command_writes_nothing_where_no_run_has_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVIN_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(main, ["maintain"])
    assert result.exit_code == 0
    assert "No run has written" in result.stderr
    assert list(tmp_path.iterdir()) == []
