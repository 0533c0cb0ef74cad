"""Raw tables: what the API returned. Rows are only ever added.

A new one is declared here and added to `RAW_TABLES`; it is verified, repaired, erased from, compacted and looked at by
`doctor` like the others.
"""

import pyarrow as pa

from devin_pipeline.tables.table import ACUS, INSTANT, Column, PayloadFields, RawTable, by_name, required

# Of the pages "List Enterprise Sessions (Insights)" (v2) and "List account sessions" (v3) of the API reference.
_IN_ANALYSIS = frozenset({"id", "issue_id", "type", "color"})
SESSION_FIELDS = PayloadFields(
    plain=frozenset(
        """
        session_id url status tags user_id org_id created_at updated_at acus_consumed service_user_id status_detail
        origin category subcategory playbook_id parent_session_id child_session_ids is_archived automation_id devin_mode
        num_user_messages num_devin_messages session_size
        """.split()  # noqa: SIM905 - a literal list would be a line per field
    ),
    plain_in_lists=(("pull_requests", frozenset({"url", "state", "pr_url", "pr_state"})),),
    plain_within=(("analysis", _IN_ANALYSIS), ("session_analysis", _IN_ANALYSIS)),
    users=("user_id", "service_user_id"),
    session="session_id",
    session_links=("url",),
    other_sessions=("parent_session_id",),
    session_lists=("child_session_ids",),
)

_REDACTED = Column(
    "redacted",
    pa.string(),
    "How the payload differs from what was sent: `text` = its text is blanked, `ids` = only ids of erased persons are "
    "replaced; null = nothing.",
)
_ROW_HASH = Column("row_hash", pa.string(), "SHA-256 of the row's other columns; null in rows older than this column.")


def _raw_sessions(name: str, endpoint: str) -> RawTable:
    return RawTable(
        name=name,
        layer="raw",
        grain=f"One row per version of a session, as returned by `GET {endpoint}`.",
        columns=(
            required("day", pa.date32(), "Billing day of `created_at`."),
            required("session_id", pa.string(), "Canonical id: the API's without one leading `devin-`."),
            required("created_at", INSTANT, "When the session was created, as the item says."),
            Column("updated_at", INSTANT, "When the session last changed, as the item says."),
            required("fetched_at", INSTANT, "When this version was first seen."),
            Column(
                "content_hash",
                pa.string(),
                "SHA-256 of the canonical JSON (sorted keys; instants and numbers by value, tags as a set) as sent, "
                "redacted or not; null on a tombstone. In older rows instants and tags count as spelled.",
            ),
            required("is_listed", pa.bool_(), "False on a tombstone: the API no longer lists this session."),
            Column("acus", ACUS, "ACUs consumed to date, read from the number's text as sent; null = unknown."),
            Column("payload", pa.string(), "The item's JSON as sent, unless `redacted`; null on a tombstone."),
            _REDACTED,
            Column(
                "moved_to",
                pa.date32(),
                "On a tombstone, the day on which this feed lists the session now: it no longer belongs to this day.",
            ),
            _ROW_HASH,
        ),
        key=("day", "session_id", "fetched_at"),
        fields=SESSION_FIELDS,
        kept_by_tombstones=("created_at", "updated_at"),
        session_columns=("session_id",),
        added_later=("moved_to",),
    )


RAW_SESSION_INSIGHTS_V2 = _raw_sessions("raw_session_insights_v2", "/v2/enterprise/sessions/insights")
RAW_SESSIONS_V3 = _raw_sessions("raw_sessions_v3", "/v3/enterprise/sessions")
RAW_SESSION_INSIGHTS_V3 = _raw_sessions("raw_session_insights_v3", "/v3/enterprise/sessions/insights")

RAW_SESSION_TABLES = (RAW_SESSION_INSIGHTS_V2, RAW_SESSIONS_V3, RAW_SESSION_INSIGHTS_V3)

RAW_QUARANTINE = RawTable(
    name="raw_quarantine",
    layer="raw",
    grain="One row per feed, day and content of an item that was not accepted.",
    columns=(
        required("day", pa.date32(), "Billing day of `created_at` if that is usable, else the first day asked for."),
        required("feed", pa.string(), "The raw table the item was meant for."),
        required("fetched_at", INSTANT, "When the item was first seen."),
        required(
            "content_hash",
            pa.string(),
            "SHA-256 of the item's canonical JSON (sorted keys) as sent; of an unread item, that of its feed, window "
            "and position.",
        ),
        required("reason", pa.string(), "Why it was not accepted; of an unread item, also where it is."),
        required(
            "payload",
            pa.string(),
            "The item's JSON as sent, unless `redacted`; empty for an item that cannot be read even alone.",
        ),
        _REDACTED,
        _ROW_HASH,
    ),
    key=("day", "feed", "content_hash"),
    fields=None,
)

_VERSION = (
    required("fetched_at", INSTANT, "When this version was first seen."),
    Column("content_hash", pa.string(), "SHA-256 of the canonical JSON as sent; null on a tombstone."),
    required("is_listed", pa.bool_(), "False on a tombstone: the API does not list it any more."),
)

# Of the pages of the lists below in the API reference. Names, e-mails, titles and bodies are text.
_OF_PERSON = PayloadFields(
    plain=frozenset({"user_id", "service_user_id", "expires_at", "billing_org_id"}),
    plain_in_lists=(
        ("role_assignments", frozenset({"org_id"})),
        ("idp_role_assignments", frozenset({"org_id", "idp_group_name"})),
    ),
    plain_within=(("cloud_agent", frozenset()), ("local_agent", frozenset())),
    users=("user_id", "service_user_id", "email"),
    is_of_one_user=True,
)
DIRECTORY_FIELDS = {
    "organizations": PayloadFields(
        plain=frozenset({"org_id", "created_at", "updated_at", "max_session_acu_limit", "max_cycle_acu_limit"})
    ),
    "users": _OF_PERSON,
    "idp_users": _OF_PERSON,
    "service_users": _OF_PERSON,
    "user_limits": _OF_PERSON,
    "cycles": PayloadFields(plain=frozenset({"after", "before", "start", "end"})),
    "enterprise_limits": PayloadFields(
        plain=frozenset({"scope", "cycle_acu_limit", "org_id", "user_id"}), users=("user_id",)
    ),
    "organization_limits": PayloadFields(
        plain=frozenset({"org_id"}), plain_within=(("cloud_agent", frozenset()), ("local_agent", frozenset()))
    ),
    "usage_tiers": PayloadFields(plain=frozenset({"tier_id", "cycle_acu_limit", "is_default", "idp_group_names"})),
    **dict.fromkeys(
        ("playbooks", "organization_playbooks"),
        PayloadFields(
            plain=frozenset(
                {"playbook_id", "access_type", "org_id", "created_by", "updated_by", "created_at", "updated_at"}
            ),
            other_users=("created_by", "updated_by"),
        ),
    ),
}
"""What the payloads of each kind of `raw_directory` hold."""

RAW_DIRECTORY = RawTable(
    name="raw_directory",
    layer="raw",
    grain="One row per version of an entry of a list: organizations, people, playbooks, billing cycles, limits.",
    columns=(
        required("kind", pa.string(), f"The list: {', '.join(DIRECTORY_FIELDS)}."),
        required(
            "object_id",
            pa.string(),
            "Id of the entry; of an organization's playbook `organization/playbook`, of a cycle its start, and in "
            "`enterprise_limits` `enterprise`, `organization/<id>` or the id of a user.",
        ),
        *_VERSION,
        Column("payload", pa.string(), "The entry's JSON as sent, unless `redacted`; null on a tombstone."),
        _REDACTED,
        _ROW_HASH,
    ),
    key=("kind", "object_id", "fetched_at"),
    partitioned_by="kind",
    fields=None,
    fields_by="kind",
    user_columns=("object_id",),
)

RAW_CONSUMPTION = RawTable(
    name="raw_consumption",
    layer="raw",
    grain="One row per version of what the enterprise, an organization or a person is billed for a day.",
    columns=(
        required("day", pa.date32(), "Billing day that is billed; it starts at 08:00 UTC."),
        required("scope", pa.string(), "Whose bill: enterprise, organization, user or service_user."),
        required("scope_id", pa.string(), "Id of the one who is billed; `(enterprise)` for the enterprise."),
        Column("acus", ACUS, "ACUs billed, of all products; null on a tombstone, or when they cannot be read."),
        *_VERSION,
        Column("payload", pa.string(), "The day's entry as sent; null on a tombstone."),
        _REDACTED,
        _ROW_HASH,
    ),
    key=("day", "scope", "scope_id", "fetched_at"),
    fields=PayloadFields(plain=frozenset({"date", "acus"}), plain_within=(("acus_by_product", frozenset()),)),
    user_columns=("scope_id",),
)

RAW_SESSION_CONSUMPTION = RawTable(
    name="raw_session_consumption",
    layer="raw",
    grain="One row per version of the days on which a session consumed its ACUs.",
    columns=(
        required("day", pa.date32(), "Billing day the session was created in."),
        required("session_id", pa.string(), "Canonical session id."),
        Column("session_acus", ACUS, "ACUs of the session, in `sessions`, when it was asked for."),
        *_VERSION,
        Column("payload", pa.string(), "The whole answer as sent; null on a tombstone."),
        _REDACTED,
        _ROW_HASH,
    ),
    key=("day", "session_id", "fetched_at"),
    fields=PayloadFields(
        plain=frozenset({"total_acus"}),
        plain_in_lists=(("consumption_by_date", frozenset({"date", "acus", "acus_by_product"})),),
    ),
    compared=("content_hash", "session_acus"),
    session_columns=("session_id",),
)

MONEY_TABLES = (RAW_DIRECTORY, RAW_CONSUMPTION, RAW_SESSION_CONSUMPTION)
"""What says whom and what ACUs are billed to. A refusal turns one of them off and fails no run."""

RAW_TABLES: tuple[RawTable, ...] = (*RAW_SESSION_TABLES, RAW_QUARANTINE, *MONEY_TABLES)
RAW: dict[str, RawTable] = by_name(RAW_TABLES)
"""The raw tables by their names."""
