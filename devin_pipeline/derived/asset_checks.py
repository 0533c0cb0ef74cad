"""Checks of what derived stores: sessions against raw, rollups against sessions."""

from pathlib import Path

import dagster as dg

from devin_pipeline.billing_calendar import contiguous
from devin_pipeline.dagster_server.dead_runs import blocking_runs, command_to_end
from devin_pipeline.derived.publishing import days_of_other_code
from devin_pipeline.derived.queries import rollup_sql
from devin_pipeline.orchestration.asset_checks import Check, CheckContext, Findings, checks_of, sql_check
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import RAW_SESSION_TABLES, ROLLUP_TABLES

_QUERIES = Path(__file__).parent / "checks"

_CHECKED_OF_SESSIONS = (
    "day, session_id, org_id, created_at, is_listed, status, status_detail, origin, category, session_size"
)


def derived_checks() -> list[dg.AssetChecksDefinition]:
    """Every check of the derived tables."""
    of_sessions = [
        sql_check(_QUERIES / "session_ids_are_unique.sql", blocking=True),
        sql_check(_QUERIES / "sessions_are_inside_their_day.sql", blocking=True),
        sql_check(_QUERIES / "every_raw_session_is_derived.sql", blocking=True),
        sql_check(_QUERIES / "sessions_stay_in_one_day.sql", all_days_of="sessions"),
        sql_check(_QUERIES / "organizations_stay_listed.sql"),
        sql_check(_QUERIES / "enum_values_are_known.sql"),
        sql_check(_QUERIES / "days_are_as_busy_as_usual.sql", rows_per_day_of="sessions"),
        Check(
            "running_runs_are_alive",
            "No run is recorded as running, and may block others, without a process; where that is not known, "
            "none does for more than an hour.",
            _dead_runs,
        ),
    ]
    of_rollups = {
        table.name: [sql_check(_QUERIES / "acus_add_up.sql", blocking=True, views={"rollup": rollup_sql(table)})]
        for table in ROLLUP_TABLES
    }
    of_rollups["acu_daily"].append(
        Check(
            "days_are_of_this_code",
            "No day of a derived table was built by another version of the code; reports wait until it is rebuilt.",
            _days_of_other_code,
        )
    )
    return [
        checks_of(
            "sessions_checks",
            ["sessions", *(table.name for table in RAW_SESSION_TABLES)],
            {"sessions": of_sessions},
            read_once={"sessions": _CHECKED_OF_SESSIONS},
            with_linked_days=True,
        ),
        checks_of(
            "rollups_checks",
            ["sessions", *of_rollups],
            of_rollups,
            read_once={"sessions": "day, org_id, acus"},
        ),
        checks_of(
            "spend_checks",
            ["sessions", "session_acus_by_day", "consumption_daily"],
            {
                "session_acus_by_day": [sql_check(_QUERIES / "acus_of_days_add_up.sql", blocking=True)],
                "consumption_daily": [
                    sql_check(_QUERIES / "products_add_up.sql"),
                    sql_check(_QUERIES / "bills_are_within_the_enterprise.sql"),
                ],
            },
        ),
    ]


def _dead_runs(checked: CheckContext) -> Findings:
    """Each such run, and the command that ends it."""
    return [
        {"run": each.run.run_id, "end_it": command_to_end(checked.instance, each.run.run_id)}
        for each in blocking_runs(checked.instance)
        if each.run.run_id != checked.run_id and (each.is_dead or (each.may_be_dead and each.is_long))
    ]


def _days_of_other_code(checked: CheckContext) -> Findings:
    """Each range of such days, whichever days the run is over, and the command that rebuilds them."""
    return [
        {
            "first_day": days[0],
            "last_day": days[-1],
            "rebuild": pipeline_command(f"rebuild --from {days[0]} --to {days[-1]}"),
        }
        for days in contiguous(days_of_other_code(checked.lake, checked.hour))
    ]
