"""Report tables: answers across days, rebuilt whole from derived tables."""

import pyarrow as pa

from devin_pipeline.tables.derived import CUBE_MEASURES
from devin_pipeline.tables.table import ACUS, Column, Table, required

_WEEK = required("week", pa.date32(), "Monday of the ISO week.")
_MONTH = required("month", pa.date32(), "First day of the month.")


def _acus_by(period: Column, name: str) -> Table:
    return Table(
        name=name,
        layer="reports",
        grain=f"One row per {period.name}, organization, user and service user.",
        columns=(
            period,
            Column("org_id", pa.string(), "Organization."),
            Column("user_id", pa.string(), "User."),
            Column("service_user_id", pa.string(), "Service user."),
            *CUBE_MEASURES,
        ),
        key=(period.name, "org_id", "user_id", "service_user_id"),
        partitioned_by=None,
        inputs=("acu_daily",),
    )


ACU_WEEKLY = _acus_by(_WEEK, "acu_weekly")
ACU_MONTHLY = _acus_by(_MONTH, "acu_monthly")

PULL_REQUESTS = Table(
    name="pull_requests",
    layer="reports",
    grain="One row per distinct pull request, whichever sessions link it.",
    columns=(
        required("url", pa.string(), "Its address, as sent by its session that changed last, up to the number."),
        Column("host", pa.string(), "Host of the pull request's page, in lower case."),
        Column("repository", pa.string(), "`owner/name`, in lower case; null when the address has no known form."),
        Column("number", pa.int64(), "Number of the pull request; null when the address has no known form."),
        Column("state", pa.string(), "State as sent by its session that changed last."),
        Column("org_id", pa.string(), "Organization of the first session that links it."),
        required("first_session_id", pa.string(), "The first session that links it."),
        required("first_day", pa.date32(), "Billing day of that session; the pull request counts once, in its week."),
        required("sessions", pa.int64(), "Sessions that link it."),
        Column("acus", ACUS, "Its share of those sessions' ACUs; null when all are unknown."),
    ),
    key=("url",),
    partitioned_by=None,
    inputs=("session_pull_requests",),
)

ACUS_PER_MERGED_PULL_REQUEST = Table(
    name="acus_per_merged_pull_request",
    layer="reports",
    grain="One row per week and organization: what a merged pull request cost.",
    columns=(
        _WEEK,
        Column("org_id", pa.string(), "Organization."),
        Column("acus", ACUS, "ACUs to date of all sessions created in the week."),
        required("merged_pull_requests", pa.int64(), "Distinct merged pull requests first linked in the week."),
        Column("acus_per_merged_pull_request", ACUS, "The first divided by the second; null when none is merged."),
        Column("acus_of_merging_sessions", ACUS, "ACUs of those sessions with at least one merged pull request."),
    ),
    key=("week", "org_id"),
    partitioned_by=None,
    inputs=("acu_daily", "pull_requests"),
)

REPORT_TABLES = (ACU_WEEKLY, ACU_MONTHLY, PULL_REQUESTS, ACUS_PER_MERGED_PULL_REQUEST)
