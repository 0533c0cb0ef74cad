"""The report assets, and `devin.duckdb` as the last of them."""

import dagster as dg

from devin_pipeline.asset_facts import CODE_VERSION, OWNERS, report_table, table_asset
from devin_pipeline.lake import write_catalog
from devin_pipeline.reports.queries import INPUTS, select
from devin_pipeline.resources import LakeResource
from devin_pipeline.tables import ALL_TABLES, RAW_QUARANTINE, REPORT_TABLES, TABLES, Table

DUCKDB_CATALOG = "duckdb_catalog"

# After a run that changed what a report is made of without making the report; `refresh` makes both in one run.
WHEN_LEFT_BEHIND = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
)


def report_assets() -> list[dg.AssetsDefinition]:
    """Every report asset, and the catalogue of all tables."""
    return [*(_report(table) for table in REPORT_TABLES), duckdb_catalog]


def _report(table: Table) -> dg.AssetsDefinition:
    inputs = [TABLES[name] for name in INPUTS[table.name]]

    @table_asset(table, deps=INPUTS[table.name], automation_condition=WHEN_LEFT_BEHIND)
    def report(context: dg.AssetExecutionContext, lake: LakeResource) -> None:
        opened = lake.open()
        with opened.connect(inputs) as reader:
            rows = select(reader, table)
        report_table(context, opened, table, opened.replace_all(table, rows))

    return report


@dg.asset(
    key=DUCKDB_CATALOG,
    group_name="reports",
    kinds={"duckdb"},
    owners=OWNERS,
    code_version=CODE_VERSION,
    deps=[table.name for table in ALL_TABLES if table != RAW_QUARANTINE],
    automation_condition=WHEN_LEFT_BEHIND,
)
def duckdb_catalog(context: dg.AssetExecutionContext, lake: LakeResource) -> None:
    """One view per table in `devin.duckdb`, for the duckdb CLI and BI tools."""
    file = write_catalog(lake.open())
    context.add_asset_metadata({"views": len(ALL_TABLES)} | ({"dagster/uri": str(file)} if file else {}))
