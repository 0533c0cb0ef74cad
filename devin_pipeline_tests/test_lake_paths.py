"""Where the lake is says nothing about what it holds."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable

from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.cli import main
from devin_pipeline.lake import Lake
from devin_pipeline.operations.verify import verify
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.harness import PipelineHarness, differences
from devin_pipeline_tests.runs import publish

MakeHarness = Callable[..., PipelineHarness]


@pytest.mark.notices("a path of the lake that looks like columns")
@pytest.mark.parametrize(
    "folder",
    [
        "org_id=finance/acus=1/filename=z/lake",
        "a/b=c/day=2020-01-01",
        "DAY=x/session_id=y",
    ],
)
def test_no_column_takes_its_value_from_the_path_of_the_lake(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    harness = make_harness("both", sessions=0, days=2)
    monkeypatch.setenv("DEVIN_LAKE", str(tmp_path / folder))
    harness.lake = Lake(str(tmp_path / folder))
    for organization, acus in (("org-a", "3"), ("org-b", "5")):
        at = starts_at(harness.days[0], 8)
        harness.enterprise.add_session(created_at=at, org_id=organization, acus=Decimal(acus), updated_at=at)
    # Once through Dagster is enough.
    is_by_dagster = folder.startswith("org_id")
    (harness.refresh if is_by_dagster else harness.build)()
    assert differences(harness) == {}
    expected = [("org-a", Decimal(3)), ("org-b", Decimal(5))]
    assert sorted((row["org_id"], row["acus"]) for row in harness.rows("sessions")) == expected
    assert sorted((row["org_id"], row["acus"]) for row in harness.rows("acu_daily")) == expected
    assert {row["day"] for name in ("sessions", "acu_daily", "raw_sessions_v3") for row in harness.rows(name)} == {
        harness.days[0]
    }
    # Every door for readers, and every command that reads.
    assert verify(harness.lake, 8).findings == []
    query = "select day, org_id, acus from acu_daily order by org_id"
    rows = [(harness.days[0], *row) for row in expected]
    assert [tuple(row.values()) for row in harness.lake.query(query).to_pylist()] == rows
    with duckdb.connect() as bi:
        bi.execute(f"attach '{harness.lake.uri}/devin.duckdb' as devin (read_only)")
        assert bi.sql(query.replace("from ", "from devin.")).fetchall() == rows
    asked = CliRunner().invoke(main, ["query", "--format", "csv", query])
    assert asked.stdout.splitlines()[1:] == [f"{harness.days[0]},org-a,3.000000", f"{harness.days[0]},org-b,5.000000"]
    delta = DeltaTable(harness.lake.location(TABLES["acu_daily"])).to_pyarrow_table().to_pylist()
    assert sorted((row["day"], row["org_id"], row["acus"]) for row in delta) == rows
    before = harness.everything()
    maintained = CliRunner().invoke(main, ["maintain"])
    assert maintained.exit_code == 0, maintained.output
    if is_by_dagster:
        assert CliRunner().invoke(main, ["rebuild"]).exit_code == 0
    else:
        harness.lake.invalidate(harness.days)
        publish(harness.lake, harness.days)
    assert harness.everything() == before


@pytest.mark.parametrize("folder", ["plain", "org_id=finance/lake"])
def test_a_lake_that_is_named_by_a_file_uri_has_its_days(
    make_harness: MakeHarness, tmp_path: Path, folder: str
) -> None:
    harness = make_harness("v2", sessions=10, days=2)
    harness.lake = Lake(f"file://{tmp_path / folder}")
    harness.build()
    assert differences(harness) == {}
