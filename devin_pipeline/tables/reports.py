"""Report tables: answers across days, rebuilt whole from derived tables."""

import pyarrow as pa

from devin_pipeline.tables.derived import CUBE_MEASURES
from devin_pipeline.tables.table import ACUS, INSTANT, TEXTS, Column, Table, required

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
        Column(
            "acus_per_merged_pull_request",
            ACUS,
            "The first divided by the second; null when none is merged, or no session has ACUs.",
        ),
        Column("acus_of_merging_sessions", ACUS, "ACUs of those sessions with at least one merged pull request."),
    ),
    key=("week", "org_id"),
    partitioned_by=None,
    inputs=("acu_daily", "pull_requests"),
)

_VALID_FROM = required("valid_from", INSTANT, "When this was first seen.")
_VALID_TO = Column("valid_to", INSTANT, "When something else was first seen; null = still valid.")
_IS_CURRENT = required("is_current", pa.bool_(), "Whether nothing newer is known.")
_IS_LISTED = required("is_listed", pa.bool_(), "False in the newest row of what the API no longer lists.")

ACU_CONSUMED_DAILY = Table(
    name="acu_consumed_daily",
    layer="reports",
    grain="One row per day of consumption, organization, user, service user, origin, category and playbook.",
    columns=(
        required("day", pa.date32(), "Billing day on which the ACUs were consumed, whenever the session was created."),
        Column("org_id", pa.string(), "Organization."),
        Column("user_id", pa.string(), "User."),
        Column("service_user_id", pa.string(), "Service user."),
        Column("origin", pa.string(), "Where the sessions were started from."),
        Column("category", pa.string(), "Use case."),
        Column("playbook_id", pa.string(), "Playbook."),
        Column("acus", ACUS, "ACUs consumed on the day."),
        required("sessions_active", pa.int64(), "Distinct sessions that consumed ACUs on the day."),
    ),
    key=("day", "org_id", "user_id", "service_user_id", "origin", "category", "playbook_id"),
    inputs=("session_acus_by_day", "sessions"),
)

RECONCILIATION_DAILY = Table(
    name="reconciliation_daily",
    layer="reports",
    grain="One row per day whose bill was asked for and organization: the bill next to what sessions consumed.",
    columns=(
        required("day", pa.date32(), "Billing day."),
        required(
            "org_id", pa.string(), "Organization; `(enterprise)` = all, `(no organization)` = all minus organizations."
        ),
        Column("billed_acus", ACUS, "ACUs billed, of all products; null where no bill could be read."),
        Column("billed_acus_of_products_without_sessions", ACUS, "Of these, those of products that have no sessions."),
        Column("billed_acus_of_products_with_sessions", ACUS, "Those of products that sessions use."),
        Column("billed_acus_unsplit", ACUS, "Those of which the bill does not say the product; may be negative."),
        Column("session_acus", ACUS, "ACUs that sessions consumed on the day; null where their source is broken."),
        required("sessions_with_unknown_acus", pa.int64(), "Sessions created on the day whose ACUs are unknown."),
        Column("child_session_acus", ACUS, "Of `session_acus`, those of sessions that another session started."),
        Column("residual_acus", ACUS, "Billed for products with sessions, minus `session_acus`."),
        Column("residual_share", ACUS, "That divided by what is billed for products with sessions; null when 0."),
        required("is_closed", pa.bool_(), "Whether the day ended more than 48 hours ago."),
        required(
            "history_is_complete",
            pa.bool_(),
            "Whether the sessions of the 35 days before are read, or the first session is later.",
        ),
        required(
            "status",
            pa.string(),
            "not_permitted, no_bill, no_split, provisional, source_broken, exact, within_1_percent, within_5_percent "
            "or unexplained.",
        ),
    ),
    key=("day", "org_id"),
    partitioned_by=None,
    inputs=("consumption_daily", "session_acus_by_day", "sessions"),
)

ORGANIZATIONS = Table(
    name="organizations",
    layer="reports",
    grain="One row per organization and time span in which what is known of it stayed the same.",
    columns=(
        required("org_id", pa.string(), "Organization."),
        _VALID_FROM,
        Column("name", pa.string(), "Name; blank under DEVIN_TEXT=none."),
        _VALID_TO,
        _IS_CURRENT,
        _IS_LISTED,
        Column("max_cycle_acu_limit", pa.int64(), "ACUs that it may consume in a billing cycle, by its cloud agents."),
        Column("max_session_acu_limit", pa.int64(), "ACUs that one session may consume."),
    ),
    key=("org_id", "valid_from"),
    partitioned_by=None,
    inputs=("raw_directory",),
)

USERS = Table(
    name="users",
    layer="reports",
    grain="One row per user or service user and time span in which what is known of them stayed the same.",
    columns=(
        required("user_id", pa.string(), "User, or service user."),
        _VALID_FROM,
        Column("email", pa.string(), "E-mail; null for a service user, blank under DEVIN_TEXT=none."),
        Column("name", pa.string(), "Name; blank under DEVIN_TEXT=none."),
        Column("idp_groups", TEXTS, "Groups of the identity provider, sorted; null when that list cannot be read."),
        required("kind", pa.string(), "user or service_user."),
        _VALID_TO,
        _IS_CURRENT,
        _IS_LISTED,
    ),
    key=("user_id", "valid_from"),
    partitioned_by=None,
    inputs=("raw_directory",),
)

PLAYBOOKS = Table(
    name="playbooks",
    layer="reports",
    grain="One row per playbook and time span in which what is known of it stayed the same.",
    columns=(
        required("playbook_id", pa.string(), "Playbook."),
        _VALID_FROM,
        Column("title", pa.string(), "Title; blank under DEVIN_TEXT=none."),
        Column("access_type", pa.string(), "enterprise or org, as sent."),
        Column("org_id", pa.string(), "Organization it belongs to; null for one of the enterprise."),
        Column("body_hash", pa.string(), "SHA-256 of its text in UTF-8, as hex; null where the text is not stored."),
        Column("body_length", pa.int64(), "Characters of its text."),
        _VALID_TO,
        _IS_CURRENT,
        _IS_LISTED,
    ),
    key=("playbook_id", "valid_from"),
    partitioned_by=None,
    inputs=("raw_directory",),
)

BILLING_CYCLES = Table(
    name="billing_cycles",
    layer="reports",
    grain="One row per billing cycle.",
    columns=(
        required("cycle_start", INSTANT, "When it starts."),
        required("cycle_end", INSTANT, "When it ends, and the next one starts."),
        required("first_day", pa.date32(), "First billing day."),
        required("last_day", pa.date32(), "Last billing day."),
        required("is_current", pa.bool_(), "Whether the newest day that has begun lies in it."),
    ),
    key=("cycle_start",),
    partitioned_by=None,
    inputs=("raw_directory",),
)

ACU_LIMITS = Table(
    name="acu_limits",
    layer="reports",
    grain="One row per limit of ACUs and time span in which it stayed the same.",
    columns=(
        required("scope", pa.string(), "Whom it limits: enterprise, organization, user, or those of a tier."),
        required("scope_id", pa.string(), "Id of the one it limits; `(enterprise)` for the enterprise."),
        required("limit_kind", pa.string(), "What it limits: devin, cloud_agent, local_agent or tier."),
        _VALID_FROM,
        Column("cycle_acu_limit", pa.int64(), "ACUs of a billing cycle; 0 = blocked, null = no limit."),
        required("source", pa.string(), "The endpoint that says so."),
        _VALID_TO,
        _IS_CURRENT,
    ),
    key=("scope", "scope_id", "limit_kind", "valid_from"),
    partitioned_by=None,
    inputs=("raw_directory",),
)

DIRECTORY_TABLES = (ORGANIZATIONS, USERS, PLAYBOOKS, BILLING_CYCLES, ACU_LIMITS)

REPORT_TABLES = (
    ACU_WEEKLY,
    ACU_MONTHLY,
    PULL_REQUESTS,
    ACUS_PER_MERGED_PULL_REQUEST,
    *DIRECTORY_TABLES,
    ACU_CONSUMED_DAILY,
    RECONCILIATION_DAILY,
)
