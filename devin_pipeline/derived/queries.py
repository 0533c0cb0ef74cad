"""Runs the SELECTs of this room: raw versions or session tables in, rows of one derived table out. No Dagster."""

import hashlib
import json
import math
from collections.abc import Collection, Sequence
from datetime import date
from functools import cache
from pathlib import Path

import msgspec
import pyarrow as pa

from devin_pipeline.billing_calendar import BILLING_HOUR
from devin_pipeline.devin_api import lenient_json
from devin_pipeline.errors import ValidationFailed
from devin_pipeline.lake import Connection, code_fingerprint
from devin_pipeline.tables import ROLLUP_TABLES, SESSION_TABLES, SPEND_TABLES, TABLES, Table

_COLUMNS_ROLLED_UP = {
    "sessions": (
        "day, session_id, org_id, user_id, service_user_id, origin, category, playbook_id, state, tags, acus, "
        "has_analysis"
    ),
    "session_pull_requests": "day, session_id, ordinal, host, repository, state",
    "prompt_feedback": "day, session_id",
}

_HERE = Path(__file__).parent
_WITH_REPAIRS = (
    "from _parsed_versions anti join _repaired_payloads using (feed, session_id) union all from _parsed_repairs"
)
_REPAIRED = pa.schema([("feed", pa.string()), ("session_id", pa.string()), ("payload", pa.string())])


class EqualCode(msgspec.Struct):
    """Code of which it was shown that it builds the rows of an earlier version.

    Attributes:
        code: Its digest.
        fingerprints: Those of the earlier version, by the hour at which a billing day starts.
    """

    code: str
    fingerprints: list[str]


@cache
def fingerprint(table: Table, hour: int) -> str:
    """The fingerprint of the code that builds a table of this room: all that its rows follow from but its inputs.

    Of code that builds the rows of an earlier version, as `equal_code.json` says, it is that version's, so that an
    update which only renames or moves asks for no rebuild.
    """
    code = code_of(table)
    equal = msgspec.json.decode((_HERE / "equal_code.json").read_bytes(), type=dict[str, EqualCode]).get(table.name)
    if equal and equal.code == code:
        return equal.fingerprints[hour]
    return hashlib.sha256(f"{code} {hour}".encode()).hexdigest()


@cache
def code_of(table: Table) -> str:
    """A digest of the code of a table, whatever the hour at which a billing day starts."""
    # The views on the way are those of the session tables.
    views = (_HERE / "sessions").glob("_*.sql") if table in SESSION_TABLES else ()
    # What a rollup is built from changes with the code of its session tables.
    inputs = [code_of(TABLES[name]) for name in table.inputs if TABLES[name].layer == "derived"]
    sources = (_file(table.name), *views, Path(__file__), Path(lenient_json.__file__))
    return code_fingerprint(*sources, table=table, settings=inputs)


def select(connection: Connection, table: Table, days: Sequence[date], hour: int = BILLING_HOUR) -> pa.Table:
    """The rows of a derived table for a range of days, in its schema and key order.

    Args:
        connection: Holds the inputs of `<table>.sql` under their table names.
        table: The derived table.
        days: Neighbouring days, oldest first.
        hour: Hour of the UTC day at which a billing day starts.
    """
    # The bill is by days that start at one hour; by other days nothing could be compared with it.
    # guard: spend by days that the bill does not have | hour != BILLING_HOUR -> False
    if table in SPEND_TABLES and hour != BILLING_HOUR:
        return table.schema.empty_table()
    query = _sql(table.name)
    known = _range(days) | {"hour": hour} if days else {}
    params = {name: value for name, value in known.items() if f"${name}" in query}
    return connection.rows(query, params or None).cast(table.schema)


def create_session_views(connection: Connection, days: Sequence[date], linked: Collection[date] = ()) -> None:
    """Parse each payload once; `_session_sources` and `_latest_analyses` say which feed each field comes from.

    Args:
        connection: Holds the three raw tables under their names.
        days: Days, oldest first.
        linked: Other days that it holds; what they have of the sessions of `days` counts too, and only that.
    """
    # Versions stay in their files, which DuckDB reads and parses on several threads; a table this small it would not.
    if linked:
        connection.create_view("_all_versions", _sql("_versions"))
        connection.register("_days_built", _days_built(days))
        connection.create_view("_versions", _sql("_versions_of_days"))
    else:
        connection.create_view("_versions", _sql("_versions"))
    connection.create_table("_version_history", _sql("_version_history"), _range(sorted({*days, *linked})))
    connection.create_view("_latest_versions", _sql("_latest_versions"))
    connection.create_view("_versions_to_parse", "from _latest_versions")
    connection.create_table("_parsed_versions", _sql("_parsed_versions"))
    repaired = _repaired_payloads_of(connection)
    # guard: lone surrogates and NaN
    if repaired.num_rows:
        connection.register("_repaired_payloads", repaired)
        connection.create_view("_versions_to_parse", _sql("_repaired_versions"))
        connection.create_table("_parsed_repairs", _sql("_parsed_versions"))
        # Kept, since DuckDB would read whole analyses through a union where one field is asked for.
        connection.create_table("_parsed_versions", _WITH_REPAIRS)
    connection.create_table("_session_sources", _sql("_session_sources"))
    connection.create_view("_latest_analyses", _sql("_latest_analyses"))


def sessions_lacking_a_feed(connection: Connection, feeds: int) -> pa.Table:
    """The sessions that not every feed holds on a day, as `day` and `session_id`: another day may hold them too.

    Args:
        connection: Holds the three raw tables under their names, over the days to look at.
        feeds: How many of the tables hold anything on any day.
    """
    connection.create_view("_versions", _sql("_versions"))
    return connection.rows(_sql("_sessions_lacking_a_feed"), {"feeds": feeds})


def days_sharing_sessions(connection: Connection, looked_for: pa.Table | None = None) -> set[tuple[date, date]]:
    """Pairs of a day and another one that have a session in common.

    Args:
        connection: Holds the three raw tables under their names, with all their days.
        looked_for: The sessions, as `day` and `session_id`; all when left out.
    """
    connection.create_view("_versions", _sql("_versions"))
    if looked_for is None:
        connection.create_table("_looked_for", _sql("_sessions_on_several_days"))
    else:
        connection.register("_looked_for", looked_for)
    pairs = connection.rows(_sql("_days_sharing_sessions")).to_pylist()
    return {(pair["day"], pair["other_day"]) for pair in pairs}


def _days_built(days: Sequence[date]) -> pa.Table:
    return pa.table({"day": pa.array(days, pa.date32())})


def cache_inputs(connection: Connection, inputs: Sequence[Table]) -> None:
    """Read once, for several rollups and their validation, what they need of their inputs."""
    for table in inputs:
        connection.cache_columns(table.name, _COLUMNS_ROLLED_UP.get(table.name, "*"))


def _repaired_payloads_of(connection: Connection) -> pa.Table:
    """Payloads that are not standard JSON: a lone surrogate becomes U+FFFD, NaN null; raw keeps them as sent."""
    doubtful = connection.rows(
        "select feed, session_id, is_json from _parsed_versions where not is_json or may_have_constants"
    )
    if not doubtful.num_rows:
        return _REPAIRED.empty_table()
    connection.register("_doubtful", doubtful)
    rows = connection.rows(
        "select feed, session_id, is_json, payload from _latest_versions inner join _doubtful using (feed, session_id)"
    )
    parsed = [(row, *_repaired(row["payload"])) for row in rows.to_pylist()]
    repaired = [row | {"payload": payload} for row, payload, constants in parsed if constants or not row["is_json"]]
    return pa.Table.from_pylist(repaired, _REPAIRED)


def _repaired(payload: str) -> tuple[str, int]:
    """A payload as JSON that DuckDB reads, and how many constants were in it that JSON does not have."""
    constants: list[str] = []
    try:
        # Appending gives None, which takes the constant's place.
        item = json.loads(payload, parse_constant=constants.append, parse_float=_finite)
    # guard: a payload Python cannot read | (RecursionError, ValueError) -> ZeroDivisionError
    except (RecursionError, ValueError):
        # Nested more deeply or a number longer than Python reads: a session of which nothing is known, but a session.
        return "null", len(constants)
    # json.loads joins the pairs, so what is left of them stands alone.
    return lenient_json.without_lone_surrogates(json.dumps(item, ensure_ascii=False)), len(constants)


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


_CHECKS_OF_SESSIONS = ("session_ids_are_unique", "sessions_are_inside_their_day", "every_raw_session_is_derived")


def rollup_sql(table: Table) -> str:
    """A SELECT of a rollup by day and organization, as the check `acus_add_up` reads it."""
    return f'select day, org_id, {table.acus_column} as acus from "{table.name}"'  # noqa: S608 - our own names


def assert_publishable(
    connection: Connection, table: Table, rows: pa.Table, hour: int, days: Sequence[date] | None = None
) -> None:
    """Assert on rows about to be written what the blocking checks assert on stored ones.

    Args:
        connection: Holds what the rows were made of.
        table: `sessions` or a rollup.
        rows: All its rows of some days.
        hour: Hour of the UTC day at which a billing day starts.
        days: The days of which all sessions are there; None for all days.

    Raises:
        ValidationFailed: A check of `checks/` finds something.
    """
    connection.register(table.name, rows)
    if table in ROLLUP_TABLES:
        connection.create_view("rollup", rollup_sql(table))
    for check in ("acus_add_up",) if table in ROLLUP_TABLES else _CHECKS_OF_SESSIONS:
        query = _sql(check)
        params = {"hour": hour, "days": days}
        found = connection.rows(
            query, {name: value for name, value in params.items() if f"${name}" in query}
        ).to_pylist()
        # guard: validation: a rollup that does not add up
        if found:
            raise ValidationFailed(f"{table.name} was not written", f"the check {check} finds {found[:3]}")


def _sql(name: str) -> str:
    return _file(name).read_text()


def _range(days: Sequence[date]) -> dict[str, object]:
    return {"first_day": days[0], "last_day": days[-1]}


@cache
def _file(name: str) -> Path:
    """The file of a query, in the room of its subject."""
    (file,) = _HERE.glob(f"*/{name}.sql")
    return file
