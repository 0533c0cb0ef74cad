"""Prints as JSON what became of the toys, without further code: `python -m devin_pipeline_tests.recipes.following`.

To be run in the copy of the project that holds them, with an empty folder to work in as its argument.
"""

import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
from click.testing import CliRunner

from devin_pipeline.billing_calendar import day_of
from devin_pipeline.cli import main
from devin_pipeline.definitions import pipeline
from devin_pipeline.devin_api import FEED_BY_TABLE
from devin_pipeline.doctor.settings import findings
from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline.lake import Connection, Lake, Rewrite
from devin_pipeline.operations.verify import verify
from devin_pipeline.settings import Settings
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.runs import HOUR, Run

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_OF_TOYS: dict[str, Any] = {"DEVIN_TOY_DAYS": "9"}
_DERIVED = ("session_titles", "acu_daily_by_category")
_REPORT, _RAW = "acus_by_organization", "raw_members"


def follow(folder: Path) -> dict[str, Any]:
    """Run the pipeline with the toys in it, damage their rows, and look."""
    day = day_of(datetime.now(UTC), HOUR) - timedelta(days=1)
    lake = Lake(str(folder / "lake"))
    with (
        EmulatorServer(Enterprise.synthetic(seed=5, sessions=30, days=2)) as server,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        settings = Settings(
            DEVIN_API_URL=server.url,
            DEVIN_LAKE=lake.uri,
            DEVIN_V3_API_KEY=server.v3_key,  # type: ignore[arg-type]
            **_OF_TOYS,
        )
        definitions = pipeline(settings)
        for _ in range(2):
            members = definitions.resolve_job_def("__ASSET_JOB").execute_in_process(
                instance=instance, asset_selection=[dg.AssetKey(_RAW)], run_config=_QUIET
            )
            assert members.success
        Run(server.url, server.v2_key, server.v3_key, lake.uri, [*FEED_BY_TABLE], [day])()
        requested = _requested_after_a_run_of("acu_daily", definitions, instance)
    return {
        "assets": {
            key.to_user_string(): [column.name for column in spec.metadata["dagster/column_schema"].columns]
            for key, spec in ((spec.key, spec) for spec in definitions.resolve_all_asset_specs())
            if "dagster/column_schema" in spec.metadata
        },
        "requested": requested,
        "rows": {name: lake.snapshot(TABLES[name]).rows().num_rows for name in (*_DERIVED, _REPORT, _RAW)},
        "comments": _comments(lake),
        "damaged": [name for name in (_RAW, *_DERIVED, _REPORT) if _is_named_when_damaged(lake, name)],
        "help": CliRunner().invoke(main, ["--help"]).output,
        "output": CliRunner().invoke(main, ["toys", "--many"]).output,
        "doctor": {each.name: each.found for each in findings(settings)},
    }


def _requested_after_a_run_of(table: str, definitions: dg.Definitions, instance: dg.DagsterInstance) -> list[str]:
    """The reports that Dagster builds by itself after a backfill of a table."""
    reports = dg.AssetSelection.groups("reports")
    first = dg.evaluate_automation_conditions(definitions, instance, asset_selection=reports)
    instance.report_runless_asset_event(dg.AssetMaterialization(table, partition="2026-01-01"))
    tick = dg.evaluate_automation_conditions(definitions, instance, asset_selection=reports, cursor=first.cursor)
    return [each.key.to_user_string() for each in tick.results if each.true_subset.size]


def _comments(lake: Lake) -> dict[str, list[str]]:
    """What `devin.duckdb` says of each table and its columns."""
    columns = """
        select
            view_name,
            any_value(duckdb_views.comment) as of_view,
            list(duckdb_columns.comment order by column_index) as each
        from duckdb_views() inner join duckdb_columns() on table_name = view_name
        where not duckdb_views.internal
        group by view_name
    """
    with Connection.open_database(str(Path(lake.uri) / "devin.duckdb")) as connection:
        return {row["view_name"]: [row["of_view"], *row["each"]] for row in connection.rows(columns).to_pylist()}


def _is_named_when_damaged(lake: Lake, name: str) -> bool:
    """Whether verification names a table, and it alone, once a row of it is lost; its rows are put back."""
    table = TABLES[name]
    assert verify(lake, HOUR).is_clean, name
    rows = lake.snapshot(table).rows()
    write: Callable[[pa.Table], object] = {
        "raw": lambda kept: lake.rewrite(table, lambda _: Rewrite([None], kept)),
        "derived": lambda kept: lake.replace_days(table, sorted(set(rows["day"].to_pylist())), kept),
        "reports": lambda kept: lake.replace_all(table, kept),
    }[table.layer]
    write(_changed(rows) if table.layer == "raw" else rows.slice(1))
    found = {finding.table.name for finding in verify(lake, HOUR).findings}
    write(rows)
    return found == {name}


def _changed(rows: pa.Table) -> pa.Table:
    """The rows, each fetched a second later than its hash says."""
    later = [instant + timedelta(seconds=1) for instant in rows["fetched_at"].to_pylist()]
    place = rows.schema.get_field_index("fetched_at")
    return rows.set_column(place, rows.schema.field(place), pa.array(later, rows.schema.field(place).type))


if __name__ == "__main__":
    result: Mapping[str, Any] = follow(Path(sys.argv[1]))
    print(json.dumps(result))  # noqa: T201 - what this is for
