"""Derived tables: facts of one day, rewritten per day from that day's raw versions."""

import pyarrow as pa

from devin_pipeline.tables.table import ACUS, INSTANT, TEXTS, Column, Table, required

_DAY = required("day", pa.date32(), "Billing day the session was created in.")
_SESSION_ID = required("session_id", pa.string(), "Canonical session id.")
_ORDINAL = required("ordinal", pa.int32(), "Position in the list as sent, from 0.")
_ISSUE_ID = Column("issue_id", pa.string(), "The issue this refers to, as sent.")

SESSIONS = Table(
    name="sessions",
    layer="derived",
    grain="One row per session, merged from the latest version in each feed.",
    columns=(
        _DAY,
        _SESSION_ID,
        Column("session_url", pa.string(), "Where the session opens in Devin."),
        Column("org_id", pa.string(), "Organization."),
        Column("user_id", pa.string(), "User who created it; null for a service user."),
        Column("service_user_id", pa.string(), "Service user who created it (v3 only)."),
        Column("title", pa.string(), "Title."),
        required("tags", TEXTS, "Tags in the order sent; may be empty."),
        required("child_session_ids", TEXTS, "Canonical ids of child sessions; may be empty."),
        Column("status", pa.string(), "Status as sent."),
        Column("status_detail", pa.string(), "Detail of the status, as sent (v3 only)."),
        required("state", pa.string(), "finished, waiting, running, suspended or error; else other: and the status."),
        Column("origin", pa.string(), "Where it was started from (v3 only)."),
        Column("category", pa.string(), "Use case (v3 only)."),
        Column("subcategory", pa.string(), "Use case, finer (v3 only)."),
        Column("playbook_id", pa.string(), "Playbook it ran (v3 only)."),
        Column("parent_session_id", pa.string(), "Canonical id of the session that started it (v3 only)."),
        Column("is_archived", pa.bool_(), "Archived; null = unknown (v2)."),
        required("is_listed", pa.bool_(), "True when any feed's latest version is not a tombstone."),
        required("created_at", INSTANT, "When it was created."),
        Column("updated_at", INSTANT, "When it last changed, by the latest version."),
        Column("acus", ACUS, "ACUs consumed to date; null = unknown."),
        Column("session_size", pa.string(), "xs, s, m, l or xl (v3 insights only)."),
        Column("num_user_messages", pa.int32(), "Messages by the user (v3 insights only)."),
        Column("num_devin_messages", pa.int32(), "Messages by Devin (v3 insights only)."),
        Column("initial_user_message", pa.string(), "First prompt (v2 only)."),
        Column("structured_output", pa.string(), "Structured output as JSON text (v3 only)."),
        Column("has_analysis", pa.bool_(), "A non-empty analysis exists; null when no insights feed is read."),
        required("first_seen_at", INSTANT, "When the first version was fetched."),
        required("last_changed_at", INSTANT, "When the last version or tombstone was fetched."),
        required("versions", pa.int32(), "How many versions raw holds, tombstones left out."),
        required("feeds", TEXTS, "Raw tables this row was built from."),
    ),
    key=("day", "session_id"),
)

SESSION_PULL_REQUESTS = Table(
    name="session_pull_requests",
    layer="derived",
    grain="One row per session and pull request it links, as sent.",
    columns=(
        _DAY,
        _SESSION_ID,
        _ORDINAL,
        Column("url", pa.string(), "The address as sent, up to the number; normalised where it has no known form."),
        Column("host", pa.string(), "Host of the pull request's page, in lower case."),
        Column("repository", pa.string(), "`owner/name`, in lower case; null when the address has no known form."),
        Column("number", pa.int64(), "Number of the pull request; null when the address has no known form."),
        Column("state", pa.string(), "State in lower case: open, closed, merged, …; null when not returned."),
        Column("org_id", pa.string(), "Organization of the session."),
        required("session_created_at", INSTANT, "When the session was created."),
        Column("session_updated_at", INSTANT, "When the session last changed."),
        Column(
            "acus_share",
            ACUS,
            "The session's ACUs shared equally over its distinct pull requests, on the first row of each; else null.",
        ),
    ),
    key=("day", "session_id", "ordinal"),
)

SESSION_ISSUES = Table(
    name="session_issues",
    layer="derived",
    grain="One row per issue found in a session's analysis.",
    columns=(
        _DAY,
        _SESSION_ID,
        _ORDINAL,
        Column("issue_id", pa.string(), "Id of the issue, as sent (v3)."),
        Column("issue", pa.string(), "What went wrong."),
        Column("impact", pa.string(), "Impact, as sent."),
        Column("label", pa.string(), "Label, as sent."),
    ),
    key=("day", "session_id", "ordinal"),
)

SESSION_ACTION_ITEMS = Table(
    name="session_action_items",
    layer="derived",
    grain="One row per action item in a session's analysis.",
    columns=(
        _DAY,
        _SESSION_ID,
        _ORDINAL,
        _ISSUE_ID,
        Column("type", pa.string(), "Kind of action, such as machine_setup."),
        Column("action_item", pa.string(), "What to do."),
    ),
    key=("day", "session_id", "ordinal"),
)

SESSION_TIMELINE = Table(
    name="session_timeline",
    layer="derived",
    grain="One row per step in the timeline of a session's analysis.",
    columns=(
        _DAY,
        _SESSION_ID,
        _ORDINAL,
        Column("title", pa.string(), "What happened."),
        Column("description", pa.string(), "What happened, in full."),
        Column("color", pa.string(), "Color Devin shows it in (v3)."),
        _ISSUE_ID,
    ),
    key=("day", "session_id", "ordinal"),
)

PROMPT_SUGGESTIONS = Table(
    name="prompt_suggestions",
    layer="derived",
    grain="One row per session whose analysis suggests a better prompt.",
    columns=(
        _DAY,
        _SESSION_ID,
        Column("original_prompt", pa.string(), "The prompt as it was given."),
        Column("suggested_prompt", pa.string(), "The prompt Devin suggests instead."),
        required("feedback_items", pa.int32(), "How many feedback items come with it."),
    ),
    key=("day", "session_id"),
)

PROMPT_FEEDBACK = Table(
    name="prompt_feedback",
    layer="derived",
    grain="One row per feedback item on a session's prompt.",
    columns=(
        _DAY,
        _SESSION_ID,
        _ORDINAL,
        _ISSUE_ID,
        Column("summary", pa.string(), "The feedback in short."),
        Column("excerpt", pa.string(), "The part of the prompt it is about."),
        Column("details", pa.string(), "The feedback in full."),
    ),
    key=("day", "session_id", "ordinal"),
)

CONSUMPTION_DAILY = Table(
    name="consumption_daily",
    layer="derived",
    grain="One row per billing day, whose bill it is, and product: the ACUs billed.",
    columns=(
        required("day", pa.date32(), "Billing day that is billed."),
        required("scope", pa.string(), "Whose bill: enterprise, organization, user or service_user."),
        required("scope_id", pa.string(), "Id of the one who is billed; `(enterprise)` for the enterprise."),
        required(
            "product",
            pa.string(),
            "Product as sent. `(all)` where the bill names none, `(unsplit)` = what the products leave of it.",
        ),
        Column("acus", ACUS, "ACUs billed; those of a day and scope_id add up to its bill. Null = cannot be read."),
    ),
    key=("day", "scope", "scope_id", "product"),
    inputs=("raw_consumption",),
)

SESSION_ACUS_BY_DAY = Table(
    name="session_acus_by_day",
    layer="derived",
    grain="One row per session, day on which it consumed ACUs, and method by which that day is known.",
    columns=(
        _DAY,
        _SESSION_ID,
        required("consumed_day", pa.date32(), "Billing day on which the ACUs were consumed."),
        required(
            "attribution_method",
            pa.string(),
            "api_daily, single_day, version_delta, updated_day or created_day; remainder = what that leaves.",
        ),
        Column("acus", ACUS, "ACUs consumed on that day; those of a session add up to its ACUs. May be negative."),
    ),
    key=("day", "session_id", "consumed_day", "attribution_method"),
    inputs=(
        "sessions",
        "raw_session_insights_v2",
        "raw_sessions_v3",
        "raw_session_insights_v3",
        "raw_session_consumption",
    ),
)

SPEND_TABLES = (CONSUMPTION_DAILY, SESSION_ACUS_BY_DAY)

SESSION_TABLES = (
    SESSIONS,
    SESSION_PULL_REQUESTS,
    SESSION_ISSUES,
    SESSION_ACTION_ITEMS,
    SESSION_TIMELINE,
    PROMPT_SUGGESTIONS,
    PROMPT_FEEDBACK,
)

CUBE_MEASURES = (
    required("sessions", pa.int64(), "Sessions created."),
    Column("acus", ACUS, "ACUs to date of those sessions; null when all are unknown."),
    required("sessions_with_unknown_acus", pa.int64(), "Sessions whose ACUs are unknown."),
    required("pull_request_links", pa.int64(), "Pull requests linked by those sessions, repeats included."),
    required("merged_pull_request_links", pa.int64(), "Those links whose state is merged."),
    required("sessions_with_pull_request", pa.int64(), "Sessions with at least one link."),
    required("sessions_with_merged_pull_request", pa.int64(), "Sessions with at least one merged link."),
    Column("acus_of_merging_sessions", ACUS, "ACUs of sessions with at least one merged link."),
    required("analysed_sessions", pa.int64(), "Sessions with a non-empty analysis."),
    required("feedback_items", pa.int64(), "Feedback items on their prompts."),
)

ACU_DAILY = Table(
    name="acu_daily",
    layer="derived",
    grain="One row per day, organization, user, service user, origin, category, playbook and state.",
    columns=(
        _DAY,
        Column("org_id", pa.string(), "Organization."),
        Column("user_id", pa.string(), "User."),
        Column("service_user_id", pa.string(), "Service user."),
        Column("origin", pa.string(), "Where sessions were started from."),
        Column("category", pa.string(), "Use case."),
        Column("playbook_id", pa.string(), "Playbook."),
        required("state", pa.string(), "State of the sessions."),
        *CUBE_MEASURES,
    ),
    key=("day", "org_id", "user_id", "service_user_id", "origin", "category", "playbook_id", "state"),
    inputs=("sessions", "session_pull_requests", "prompt_feedback"),
)


def _acu_daily_by(name: str, grain: str, *dimensions: Column, inputs: tuple[str, ...]) -> Table:
    dimension = dimensions[-1].name
    return Table(
        name=name,
        layer="derived",
        grain=grain,
        columns=(
            _DAY,
            Column("org_id", pa.string(), "Organization."),
            *dimensions,
            required("sessions", pa.int64(), f"Sessions with this {dimension}; they overlap."),
            Column("acus_touching", ACUS, f"Full ACUs of every session with this {dimension}; they overlap."),
            Column("acus_split", ACUS, f"Each session's ACUs shared equally over its {dimension} values; adds up."),
        ),
        key=("day", "org_id", *(column.name for column in dimensions)),
        inputs=inputs,
    )


ACU_DAILY_BY_TAG = _acu_daily_by(
    "acu_daily_by_tag",
    "One row per day, organization and tag (`(untagged)` when none).",
    required("tag", pa.string(), "Tag, or (untagged)."),
    inputs=("sessions",),
)
ACU_DAILY_BY_REPOSITORY = _acu_daily_by(
    "acu_daily_by_repository",
    "One row per day, organization, host and repository (`(none)` for both when none).",
    Column("host", pa.string(), "Host of the repository, or (none)."),
    required("repository", pa.string(), "Repository of the sessions' pull requests, or (none)."),
    inputs=("sessions", "session_pull_requests"),
)

ROLLUP_TABLES = (ACU_DAILY, ACU_DAILY_BY_TAG, ACU_DAILY_BY_REPOSITORY)
