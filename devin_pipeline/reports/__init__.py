"""Report assets: answers across days, rebuilt whole from derived tables, and the DuckDB file made of them all.

One SELECT per table in `<table>.sql` next to this file. Facts of one day do not belong here.
"""

from devin_pipeline.reports.asset_checks import report_checks
from devin_pipeline.reports.assets import DUCKDB_CATALOG, WHEN_LEFT_BEHIND, report_assets

__all__ = ["DUCKDB_CATALOG", "WHEN_LEFT_BEHIND", "report_assets", "report_checks"]
