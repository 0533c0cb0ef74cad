"""Raw tables that are not shaped like sessions, planted among those of the project, and rows for any raw table."""

import importlib
import json
import pkgutil
import sys

import pyarrow as pa
import pytest

import devin_pipeline
from devin_pipeline.devin_api import content_hash
from devin_pipeline.lake import Lake
from devin_pipeline.raw.row_hash import with_row_hash
from devin_pipeline.raw.versions import rewrite_with
from devin_pipeline.tables import ACUS, ALL_TABLES, INSTANT, RAW, RAW_TABLES, TABLES, Column, PayloadFields, RawTable
from devin_pipeline.tables.raw import RAW_SESSIONS_V3, SESSION_FIELDS
from devin_pipeline.tables.table import required
from devin_pipeline_tests.tables.rows import NOON, after, row

_VERSION = (
    required("fetched_at", INSTANT, "When this version was first seen."),
    Column("content_hash", pa.string(), "SHA-256 of the canonical JSON."),
    required("is_listed", pa.bool_(), "False on a tombstone."),
)
_STATE = (
    Column("redacted", pa.string(), "What is not as sent."),
    Column("row_hash", pa.string(), "SHA-256 of the other columns."),
)

ROSTER = RawTable(
    name="raw_toy_roster",
    layer="raw",
    grain="One row per version of a member or team.",
    columns=(
        required("kind", pa.string(), "Kind of the object."),
        required("object_id", pa.string(), "Its id; of a member, that of the person."),
        *_VERSION,
        Column("item", pa.string(), "Its JSON as sent."),
        *_STATE,
    ),
    key=("kind", "object_id", "fetched_at"),
    partitioned_by="kind",
    payload="item",
    fields=PayloadFields(plain=frozenset({"id", "seats"}), users=("id", "email"), is_of_one_user=True),
    user_columns=("object_id",),
)
"""Partitioned by a kind; its key may be the id of a person, whom its payload names by e-mail too."""

LEDGER = RawTable(
    name="raw_toy_ledger",
    layer="raw",
    grain="One row per version of an entry.",
    columns=(
        required("entry_id", pa.string(), "Id of the entry."),
        Column("asked_acus", ACUS, "ACUs at which it was asked for."),
        *_VERSION,
        Column("payload", pa.string(), "Its JSON as sent."),
        *_STATE,
    ),
    key=("entry_id", "fetched_at"),
    partitioned_by=None,
    fields=PayloadFields(plain=frozenset({"id", "amount", "owner"}), users=("owner",)),
    compared=("content_hash", "asked_acus"),
)
"""Not partitioned; the amount that was asked at makes a version too."""

TOYS = (ROSTER, LEDGER)

CANARY = "canarytext"
PERSON = "canaryperson"


def plant(patch: pytest.MonkeyPatch, *toys: RawTable) -> None:
    """Add raw tables to those of the project, wherever these are named."""
    # Loaded later, a module would keep them after the test.
    for module in pkgutil.walk_packages(devin_pipeline.__path__, "devin_pipeline."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name, was, is_now in (
        ("RAW_TABLES", RAW_TABLES, (*RAW_TABLES, *toys)),
        ("ALL_TABLES", ALL_TABLES, (*RAW_TABLES, *toys, *ALL_TABLES[len(RAW_TABLES) :])),
    ):
        for module_name, loaded in list(sys.modules.items()):
            if module_name.startswith("devin_pipeline.") and getattr(loaded, name, None) is was:
                patch.setattr(loaded, name, is_now)
    for toy in toys:
        patch.setitem(TABLES, toy.name, toy)
        patch.setitem(RAW, toy.name, toy)


def add_version(lake: Lake, table: RawTable, hours: float = 0, *, person: str = PERSON) -> None:
    """Add to any raw table, past what asks the API, a row of a person with free text, as it would have been landed."""
    fields = table.fields or SESSION_FIELDS
    members = {"session_id": "a", "created_at": int(NOON.timestamp()), "title": f"{CANARY} {hours}"}
    payload = json.dumps(members | dict.fromkeys(fields.users[:1], person))
    columns: dict[str, object] = {
        **dict.fromkeys(table.user_columns, person),
        **dict.fromkeys(table.session_columns, "a"),
        "fetched_at": after(hours),
        "content_hash": content_hash(payload.encode()),
        table.payload: payload,
    }
    if "feed" in table.column_names:
        columns["feed"] = RAW_SESSIONS_V3.name
    rows = with_row_hash(table, pa.Table.from_pylist([row(table, columns)], table.schema))
    lake.rewrite(table, lambda snapshot: rewrite_with(snapshot, table, rows))
