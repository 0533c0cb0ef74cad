"""The data contract, against what is written down here a second time."""

import pyarrow as pa
import pytest

from devin_pipeline.tables import ALL_TABLES, RAW_SESSION_TABLES, TABLES, Table

_OF_MONEY = (
    *("raw_directory", "raw_consumption", "raw_session_consumption", "consumption_daily", "session_acus_by_day"),
    *("acu_consumed_daily", "reconciliation_daily"),
    *("organizations", "users", "playbooks", "billing_cycles", "acu_limits"),
)
_EVERY_TABLE = pytest.mark.parametrize("table", ALL_TABLES, ids=lambda table: table.name)


def types_of(name: str) -> dict[str, str]:
    return {field.name: str(field.type) for field in TABLES[name].schema}


def test_there_are_the_tables_of_the_contract() -> None:
    assert {(table.name, table.layer) for table in ALL_TABLES} == {
        ("raw_session_insights_v2", "raw"),
        ("raw_sessions_v3", "raw"),
        ("raw_session_insights_v3", "raw"),
        ("raw_quarantine", "raw"),
        ("raw_directory", "raw"),
        ("raw_consumption", "raw"),
        ("raw_session_consumption", "raw"),
        ("sessions", "derived"),
        ("session_pull_requests", "derived"),
        ("session_issues", "derived"),
        ("session_action_items", "derived"),
        ("session_timeline", "derived"),
        ("prompt_suggestions", "derived"),
        ("prompt_feedback", "derived"),
        ("acu_daily", "derived"),
        ("acu_daily_by_tag", "derived"),
        ("acu_daily_by_repository", "derived"),
        ("consumption_daily", "derived"),
        ("session_acus_by_day", "derived"),
        ("acu_weekly", "reports"),
        ("acu_monthly", "reports"),
        ("pull_requests", "reports"),
        ("acus_per_merged_pull_request", "reports"),
        ("organizations", "reports"),
        ("users", "reports"),
        ("playbooks", "reports"),
        ("billing_cycles", "reports"),
        ("acu_limits", "reports"),
        ("acu_consumed_daily", "reports"),
        ("reconciliation_daily", "reports"),
    }


def test_no_two_tables_share_a_name() -> None:
    assert [TABLES[table.name] for table in ALL_TABLES] == list(ALL_TABLES)
    assert len(TABLES) == len(ALL_TABLES)


@_EVERY_TABLE
def test_a_table_says_what_its_rows_and_columns_are(table: Table) -> None:
    assert table.grain.startswith("One row per ")
    assert [column.name for column in table.columns if not column.description.endswith(".")] == []
    described = {field.name: field.metadata[b"description"].decode() for field in table.schema}
    assert described == {column.name: column.description for column in table.columns}


@_EVERY_TABLE
def test_column_names_are_unique_and_plain(table: Table) -> None:
    assert len(set(table.column_names)) == len(table.column_names)
    assert [name for name in table.column_names if not name.isidentifier() or name != name.lower()] == []


@_EVERY_TABLE
def test_a_key_names_columns_and_what_it_is_cut_by_is_never_null(table: Table) -> None:
    assert len(set(table.key)) == len(table.key) > 0
    assert set(table.key) <= set(table.column_names)
    may_be_null = {column.name for column in table.columns if column.nullable}
    of_nobody = {"org_id", "user_id", "service_user_id", "origin", "category", "playbook_id"}
    # Never null in new rows; files of before it was a column lack it.
    added_later = {"host"}
    assert set(table.key) & may_be_null <= of_nobody | added_later
    # One that is compared with other days as a whole.
    assert table.by_day == (table.key[0] == "day" and table.name != "reconciliation_daily")


@_EVERY_TABLE
def test_units_have_one_type_everywhere(table: Table) -> None:
    for name, type_ in types_of(table.name).items():
        if name == "acus" or name.startswith("acus_"):
            assert type_ == "decimal128(18, 6)"
        if name.endswith("_at"):
            assert type_ == "timestamp[us, tz=UTC]"
        if name in ("day", "week", "month") or name.endswith("_day"):
            assert type_ == "date32[day]"
        if name.endswith("_id"):
            assert type_ == "string"
        if name.startswith(("is_", "has_")):
            assert type_ == "bool"


def test_unknown_acus_are_null_in_every_table() -> None:
    required = {
        f.name for table in ALL_TABLES for f in table.schema if f.type == pa.decimal128(18, 6) and not f.nullable
    }
    assert required == set()


def test_the_three_raw_feeds_share_one_schema_with_payloads_as_sent() -> None:
    assert len({tuple(types_of(table.name).items()) for table in RAW_SESSION_TABLES}) == 1
    assert types_of("raw_sessions_v3") == {
        "day": "date32[day]",
        "session_id": "string",
        "created_at": "timestamp[us, tz=UTC]",
        "updated_at": "timestamp[us, tz=UTC]",
        "fetched_at": "timestamp[us, tz=UTC]",
        "content_hash": "string",
        "is_listed": "bool",
        "acus": "decimal128(18, 6)",
        "payload": "string",
        "redacted": "string",
        "moved_to": "date32[day]",
        "row_hash": "string",
    }
    assert [f.name for f in TABLES["raw_sessions_v3"].schema if f.nullable] == [
        "updated_at",
        "content_hash",
        "acus",
        "payload",
        "redacted",
        "moved_to",
        "row_hash",
    ]


def test_sessions_has_the_columns_of_the_contract() -> None:
    text = dict.fromkeys(
        (
            *("session_url", "org_id", "user_id", "service_user_id", "title", "status", "status_detail", "state"),
            *("origin", "category", "subcategory", "playbook_id", "parent_session_id", "session_id"),
            *("session_size", "initial_user_message", "structured_output"),
        ),
        "string",
    )
    assert types_of("sessions") == text | {
        "day": "date32[day]",
        "tags": "list<item: string>",
        "child_session_ids": "list<item: string>",
        "is_archived": "bool",
        "is_listed": "bool",
        "created_at": "timestamp[us, tz=UTC]",
        "updated_at": "timestamp[us, tz=UTC]",
        "acus": "decimal128(18, 6)",
        "num_user_messages": "int32",
        "num_devin_messages": "int32",
        "has_analysis": "bool",
        "first_seen_at": "timestamp[us, tz=UTC]",
        "last_changed_at": "timestamp[us, tz=UTC]",
        "versions": "int32",
        "feeds": "list<item: string>",
    }
    assert TABLES["sessions"].key == ("day", "session_id")


def test_acu_daily_has_the_dimensions_and_measures_of_the_contract() -> None:
    dimensions = ("org_id", "user_id", "service_user_id", "origin", "category", "playbook_id", "state")
    counts = (
        *("sessions", "sessions_with_unknown_acus", "pull_request_links", "merged_pull_request_links"),
        *("sessions_with_pull_request", "sessions_with_merged_pull_request", "analysed_sessions", "feedback_items"),
    )
    assert types_of("acu_daily") == (
        {"day": "date32[day]", "acus": "decimal128(18, 6)", "acus_of_merging_sessions": "decimal128(18, 6)"}
        | dict.fromkeys(dimensions, "string")
        | dict.fromkeys(counts, "int64")
    )
    assert TABLES["acu_daily"].key == ("day", *dimensions)


def test_the_tables_of_money_have_the_columns_of_the_contract() -> None:
    acus, day, instant, text, yes = "decimal128(18, 6)", "date32[day]", "timestamp[us, tz=UTC]", "string", "bool"
    spans = {"valid_from": instant, "valid_to": instant, "is_current": yes}
    version = {"fetched_at": instant, "content_hash": text, "is_listed": yes, "payload": text}
    version |= {"redacted": text, "row_hash": text}
    entity = {"scope": text, "scope_id": text}
    assert {table: types_of(table) for table in _OF_MONEY} == {
        "raw_directory": {"kind": text, "object_id": text} | version,
        "raw_consumption": {"day": day, "acus": acus} | entity | version,
        "raw_session_consumption": {"day": day, "session_id": text, "session_acus": acus} | version,
        "consumption_daily": {"day": day, "product": text, "acus": acus} | entity,
        "session_acus_by_day": {
            **{"day": day, "session_id": text, "consumed_day": day, "attribution_method": text, "acus": acus}
        },
        "acu_consumed_daily": {
            **{"day": day, "org_id": text, "user_id": text, "service_user_id": text, "origin": text, "category": text},
            **{"playbook_id": text, "acus": acus, "sessions_active": "int64"},
        },
        "reconciliation_daily": {
            **{"day": day, "org_id": text, "billed_acus": acus, "billed_acus_of_products_without_sessions": acus},
            **{"billed_acus_of_products_with_sessions": acus, "billed_acus_unsplit": acus, "session_acus": acus},
            **{"sessions_with_unknown_acus": "int64", "child_session_acus": acus, "residual_acus": acus},
            **{"residual_share": acus, "is_closed": yes, "history_is_complete": yes, "status": text},
        },
        "organizations": {
            **{"org_id": text, "name": text, "is_listed": yes},
            **{"max_cycle_acu_limit": "int64", "max_session_acu_limit": "int64"},
        }
        | spans,
        "users": {
            **{"user_id": text, "email": text, "name": text, "idp_groups": "list<item: string>", "kind": text},
            "is_listed": yes,
        }
        | spans,
        "playbooks": {
            **{"playbook_id": text, "title": text, "access_type": text, "org_id": text, "body_hash": text},
            **{"body_length": "int64", "is_listed": yes},
        }
        | spans,
        "billing_cycles": {
            **{"cycle_start": instant, "cycle_end": instant, "first_day": day, "last_day": day, "is_current": yes}
        },
        "acu_limits": {"limit_kind": text, "cycle_acu_limit": "int64", "source": text} | entity | spans,
    }
    assert {table: TABLES[table].key for table in _OF_MONEY} == {
        "raw_directory": ("kind", "object_id", "fetched_at"),
        "raw_consumption": ("day", "scope", "scope_id", "fetched_at"),
        "raw_session_consumption": ("day", "session_id", "fetched_at"),
        "consumption_daily": ("day", "scope", "scope_id", "product"),
        "session_acus_by_day": ("day", "session_id", "consumed_day", "attribution_method"),
        "acu_consumed_daily": ("day", "org_id", "user_id", "service_user_id", "origin", "category", "playbook_id"),
        "reconciliation_daily": ("day", "org_id"),
        "organizations": ("org_id", "valid_from"),
        "users": ("user_id", "valid_from"),
        "playbooks": ("playbook_id", "valid_from"),
        "billing_cycles": ("cycle_start",),
        "acu_limits": ("scope", "scope_id", "limit_kind", "valid_from"),
    }
