"""What stays the same of a table's asset from run to run: key, grain, group, kinds, owners, columns, code version."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from devin_pipeline.tables import Table
from devin_pipeline.tables.measures import measures_of

OWNERS = ["team:devin-pipeline"]
CODE_VERSION = "1"


def table_asset(table: Table, **more: Any) -> Callable[[Callable[..., None]], dg.AssetsDefinition]:
    """`dg.asset` with the facts of a table."""
    decorator: Callable[[Callable[..., None]], dg.AssetsDefinition] = dg.asset(**asset_spec_kwargs(table), **more)
    return decorator


def not_read_spec(table: Table, why: str, **more: Any) -> dg.AssetSpec:
    """A raw table that stands in the graph without being read.

    Args:
        table: The table.
        why: Why it is not read.
        more: Further arguments of the spec.
    """
    spec = asset_spec_kwargs(table)
    return dg.AssetSpec(**spec | {"description": f"{spec['description']}\n\nNot read: {why}."}, **more)


def asset_spec_kwargs(table: Table) -> dict[str, Any]:
    """What stays the same from run to run: key, grain, group, kinds, owners, columns and code version."""
    return {
        "key": table.name,
        "description": table.grain,
        "group_name": table.layer,
        "kinds": {"python" if table.layer == "raw" else "duckdb", "deltalake", "parquet"},
        "owners": OWNERS,
        "code_version": CODE_VERSION,
        "metadata": {
            "dagster/column_schema": dg.TableSchema(
                columns=[
                    dg.TableColumn(
                        column.name,
                        column.sql_type,
                        column.description,
                        constraints=dg.TableColumnConstraints(nullable=column.nullable),
                    )
                    for column in table.columns
                ]
            ),
            "dagster/table_name": table.name,
            **_measures(table),
        },
    }


def _measures(table: Table) -> dict[str, dg.TableMetadataValue]:
    """What may be computed from the rows of a table, if something is declared."""
    records = [
        dg.TableRecord(
            {
                "measure": measure.name,
                "unit": measure.unit,
                "definition": f"{measure.definition} {measure.when_null}",
                "adds_up_over": ", ".join(measure.additive_over),
            }
        )
        for measure in measures_of(table.name)
    ]
    return {"measures": dg.MetadataValue.table(records)} if records else {}
