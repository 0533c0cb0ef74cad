"""Raw versions from the few fields a test is about, and the derived rows they lead to."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime

from devin_pipeline.derived.queries import create_session_views, select
from devin_pipeline.lake import Connection
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.tables.rows import DAY, NOON, Row, rows_of

_PLACING = {"day", "created_at", "fetched_at", "acus", "is_listed", "payload", "moved_to"}


def version(session_id: str = "a", *, updated_at: datetime | None = NOON, **values: object) -> Row:
    """A version of a session; what is not a column of raw becomes a field of its payload."""
    columns = {name: value for name, value in values.items() if name in _PLACING}
    fields = {name: value for name, value in values.items() if name not in _PLACING}
    payload = None if values.get("is_listed") is False else json.dumps(fields)
    return {"session_id": session_id, "updated_at": updated_at, "payload": payload} | columns


def as_sent(payload: str, session_id: str = "a") -> Row:
    return version(session_id, payload=payload)


@contextmanager
def connection_over(
    *, v2: Sequence[Row] = (), v3: Sequence[Row] = (), insights: Sequence[Row] = (), days: Sequence[date] = (DAY,)
) -> Iterator[Connection]:
    """A connection with the views of the sessions of these versions."""
    feeds = {"raw_session_insights_v2": v2, "raw_sessions_v3": v3, "raw_session_insights_v3": insights}
    with Connection() as connection:
        for name, versions in feeds.items():
            connection.register(name, rows_of(TABLES[name], versions))
        create_session_views(connection, days)
        yield connection


def derived(
    name: str,
    *,
    v2: Sequence[Row] = (),
    v3: Sequence[Row] = (),
    insights: Sequence[Row] = (),
    days: Sequence[date] = (DAY,),
) -> list[Row]:
    """The rows of a session table that these versions lead to."""
    with connection_over(v2=v2, v3=v3, insights=insights, days=days) as connection:
        rows: list[Row] = select(connection, TABLES[name], days).to_pylist()
    return rows


def rolled_up(name: str, days: Sequence[date] = (DAY,), **tables: Sequence[Mapping[str, object]]) -> list[Row]:
    """The rows of a rollup of these rows of session tables; a table not given is empty."""
    with Connection() as connection:
        for input_ in ("sessions", "session_pull_requests", "prompt_feedback"):
            connection.register(input_, rows_of(TABLES[input_], tables.get(input_, ())))
        rows: list[Row] = select(connection, TABLES[name], days).to_pylist()
    return rows


def only(rows: Sequence[Row]) -> Row:
    (row,) = rows
    return row


def columns(rows: Sequence[Row], *names: str) -> list[tuple[object, ...]]:
    return [tuple(row[name] for name in names) for row in rows]
