"""Runs the SELECTs of this room: derived tables in, rows of one report out. No Dagster."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path

import pyarrow as pa

from devin_pipeline.lake import Connection, Lake, ReportClock, code_fingerprint
from devin_pipeline.tables import RAW_CONSUMPTION, RAW_DIRECTORY, RAW_SESSION_TABLES, Table

_HERE = Path(__file__).parent
_DAYS = pa.schema([("day", pa.date32())])
_REFUSALS = pa.schema([("table_name", pa.string()), ("name", pa.string()), ("status", pa.int32())])
_KINDS = pa.schema([("kind", pa.string())])
_FACTS = pa.schema(
    [
        ("today", pa.date32()),
        ("first_open_day", pa.date32()),
        ("organization", pa.string()),
        ("session_products", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class Facts:
    """What reports of money follow from besides tables, each as a relation that their queries name.

    Attributes:
        relations: By name: `_facts` (one row: today, first_open_day, organization, session_products), `_asked_days`
            (the days whose bill was asked for), `_read_days` (those whose sessions were read), `_refusals`
            (table_name, name, status) and `_kinds_read` (the lists that were ever answered).
    """

    relations: dict[str, pa.Table] = field(
        default_factory=lambda: {
            "_facts": pa.Table.from_pylist([{"session_products": []}], _FACTS),
            "_asked_days": _DAYS.empty_table(),
            "_read_days": _DAYS.empty_table(),
            "_refusals": _REFUSALS.empty_table(),
            "_kinds_read": _KINDS.empty_table(),
        }
    )


def facts(clock: ReportClock, lake: Lake) -> Facts:
    """What the lake knows besides tables, as of a clock."""
    reads = lake.last_reads()
    notes = {table: lake.bill_note(table) for table in (RAW_DIRECTORY, RAW_CONSUMPTION)}
    read_days = set[date]().union(*(reads.of(table.name) for table in RAW_SESSION_TABLES))
    refusals = [
        {"table_name": table.name, "name": name, "status": status}
        for table, note in notes.items()
        for name, status in sorted(note.refused.items())
    ]
    row = {
        "today": clock.today,
        "first_open_day": clock.first_open_day,
        "organization": clock.organization,
        "session_products": list(clock.session_products),
    }
    return Facts(
        {
            "_facts": pa.Table.from_pylist([row], _FACTS),
            "_asked_days": _days(reads.of(RAW_CONSUMPTION.name)),
            "_read_days": _days(read_days),
            "_refusals": pa.Table.from_pylist(refusals, _REFUSALS),
            "_kinds_read": pa.Table.from_pylist([{"kind": kind} for kind in sorted(notes[RAW_DIRECTORY].read)], _KINDS),
        }
    )


def follows_from_facts(table: Table) -> bool:
    """Whether a report follows from what the lake knows besides tables."""
    return bool(_named_by(table))


def _days(days: Iterable[date]) -> pa.Table:
    return pa.table({"day": pa.array(sorted(days), pa.date32())})


def fingerprint(table: Table, facts: Facts | None = None) -> str:
    """The fingerprint of the code that builds a report: all that its rows follow from but its inputs.

    Args:
        table: The report.
        facts: What the lake knows besides tables; a fact that a report does not name is not in its fingerprint.
    """
    code = code_fingerprint(_query_file(table), *_views(table), Path(__file__), table=table)
    named = _named_by(table)
    if not named or facts is None:
        return code
    known = [(name, facts.relations[name].to_pylist()) for name in named]
    return hashlib.sha256(f"{code} {known}".encode()).hexdigest()


def select(connection: Connection, table: Table, facts: Facts | None = None) -> pa.Table:
    """The rows of a report, in its schema and key order.

    Args:
        connection: Holds the report's inputs under their table names.
        table: The report.
        facts: What the lake knows besides tables; nothing when left out.
    """
    for name in _named_by(table):
        connection.register(name, (facts or Facts()).relations[name])
    for view in _views(table):
        connection.create_view(view.stem, view.read_text())
    return connection.rows(_query_file(table).read_text()).cast(table.schema)


def _query_file(table: Table) -> Path:
    (file,) = _HERE.glob(f"*/{table.name}.sql")
    return file


@cache
def _views(table: Table) -> tuple[Path, ...]:
    """The views of a report's room that it reads, each after those that it reads itself."""
    found: list[Path] = []

    def look_into(query: str, room: Path) -> None:
        for view in sorted(room.glob("_*.sql")):
            if view.stem in query and view not in found:
                look_into(view.read_text(), room)
                found.append(view)

    file = _query_file(table)
    look_into(file.read_text(), file.parent)
    return tuple(found)


@cache
def _named_by(table: Table) -> tuple[str, ...]:
    """The relations of facts that a report, or a view that it reads, names."""
    queries = "".join(file.read_text() for file in (_query_file(table), *_views(table)))
    return tuple(name for name in Facts().relations if name in queries)
