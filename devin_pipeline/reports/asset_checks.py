"""Checks of the reports of money: what is billed next to what sessions consumed."""

from decimal import Decimal
from pathlib import Path

import dagster as dg

from devin_pipeline.orchestration.asset_checks import checks_of, sql_check
from devin_pipeline.tables.reports import RECONCILIATION_DAILY

_QUERIES = Path(__file__).parent / "checks"


def report_checks(least_acus: Decimal) -> list[dg.AssetChecksDefinition]:
    """Every check of the reports.

    Args:
        least_acus: Days and organizations billed less than this are not compared with their sessions.
    """
    params = {"least_acus": least_acus}
    of_reconciliation = [
        sql_check(_QUERIES / "bills_are_explained.sql", params=params),
        sql_check(_QUERIES / "residuals_are_small.sql", params=params, fails=True),
        sql_check(_QUERIES / "sessions_have_acus.sql"),
    ]
    name = RECONCILIATION_DAILY.name
    return [checks_of("reconciliation_checks", [name], {name: of_reconciliation})]
