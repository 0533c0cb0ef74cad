"""The views with names: which there are, that no row is lost or doubled, and the names of a day."""

import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devin_pipeline.lake import Connection, Lake, LakeIdentity, QueryFailed, write_catalog
from devin_pipeline.lake.connection import named_view_sql
from devin_pipeline.tables import TABLES
from devin_pipeline.tables.views import NAMED_VIEWS, NamedView, named_views_over
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, Row, acus, rows_of

NAMES = ("organization_name", "user_name", "user_email", "service_user_name", "playbook_title")
IDS = ("org_id", "user_id", "user_id", "service_user_id", "playbook_id")
BY_NAME = {view.name: view for view in NAMED_VIEWS}
every_view = pytest.mark.parametrize("view", NAMED_VIEWS, ids=lambda view: view.name)


def ends(day: date, hour: int = 8) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC) + timedelta(days=1)


def named(view: NamedView, rows: Sequence[Row], hour: int = 8, **directory: Sequence[Row]) -> list[Row]:
    with Connection() as connection:
        connection.register(view.of_table, rows_of(TABLES[view.of_table], rows))
        for name in view.directory:
            connection.register(name, rows_of(TABLES[name], directory.get(name, ())))
        found: list[Row] = connection.rows(named_view_sql(view, hour)).to_pylist()
    return found


def history(key: str, id_: str, column: str, *rows: tuple[datetime, str | None]) -> list[Row]:
    """Rows of one object: from when on it was called what."""
    ends_at = [begin for begin, _ in rows[1:]]
    return [
        {key: id_, "valid_from": begin, "valid_to": end, column: name}
        for (begin, name), end in zip_longest(rows, ends_at)
    ]


@every_view
def test_a_view_has_the_columns_of_its_table_and_then_the_names_it_declares(view: NamedView) -> None:
    table = TABLES[view.of_table]
    with Connection() as connection:
        for name in view.inputs:
            connection.register(name, TABLES[name].schema.empty_table())
        rows = connection.rows(named_view_sql(view, 8))
    assert rows.column_names == [*table.column_names, *(column.name for column in view.names)]
    assert rows.schema.types == [*table.schema.types, *(column.type for column in view.names)]
    ids = set(IDS) & set(table.column_names)
    assert [column.name for column in view.names] == [n for n, id_ in zip(NAMES, IDS, strict=True) if id_ in ids]


@every_view
def test_a_row_has_the_names_of_its_days_end_or_the_first_ones_or_none(view: NamedView) -> None:
    end, second = ends(DAY), timedelta(microseconds=1)
    ids = {"org_id": "o", "user_id": "u", "service_user_id": "s", "playbook_id": "p"}
    columns = set(TABLES[view.of_table].column_names)
    has = [n for n, id_ in zip(NAMES, IDS, strict=True) if id_ in columns]

    def names(*rows: tuple[datetime, str | None], **changed: str | None) -> list[str | None]:
        values = {name: id_ for name, id_ in (ids | changed).items() if name in columns}
        users = [
            row | {"email": row["name"], "kind": kind}
            for kind, id_ in (("user", "u"), ("service_user", "s"))
            for row in history("user_id", id_, "name", *rows)
        ]
        (row,) = named(
            view,
            [{"day": DAY} | values],
            organizations=history("org_id", "o", "name", *rows),
            users=users,
            playbooks=history("playbook_id", "p", "title", *rows),
        )
        assert {name: row[name] for name in values} == values
        return [row[name] for name in has]

    assert names((end - second, "A"), (end, "B"), (end + second, "C")) == ["B"] * len(has)
    assert names((end - second, "A"), (end + second, "B")) == ["A"] * len(has)
    assert names((end - 9 * second, "A"), (end - second, "B")) == ["B"] * len(has)
    assert names((end - second, "A"), (end, None)) == [None] * len(has)
    assert names() == [None] * len(has)
    unknown: dict[str, str | None] = dict.fromkeys(ids, "unknown")
    assert names((end, "A"), **unknown) == [None] * len(has)


@pytest.mark.notices("names before the first row")
def test_a_day_before_the_first_row_has_the_first_names() -> None:
    later = ends(DAY) + timedelta(days=99)
    organizations = history("org_id", "o", "name", (later, "A"), (later + timedelta(days=1), "B"))
    (row,) = named(BY_NAME["sessions_named"], [{"day": DAY, "org_id": "o"}], organizations=organizations)
    assert row["organization_name"] == "A"


@every_view
def test_null_ids_have_no_names_and_keep_their_row(view: NamedView) -> None:
    columns = TABLES[view.of_table].column_names
    optional = [name for name in ("org_id", "user_id", "service_user_id", "playbook_id") if name in columns]
    rows = [{"day": DAY} | (dict.fromkeys(optional) if len(optional) > 1 else {"org_id": "(enterprise)"})]
    organizations = history("org_id", "o", "name", (ends(DAY), "O"))
    (row,) = named(view, rows, organizations=organizations)
    assert {row[column.name] for column in view.names} == {None}


def test_a_day_ends_at_the_hour_of_the_lake() -> None:
    organizations = history("org_id", "o", "name", (ends(DAY, 3), "A"), (ends(DAY, 8), "B"))
    for hour, name in ((3, "A"), (7, "A"), (8, "B"), (23, "B")):
        (row,) = named(BY_NAME["sessions_named"], [{"day": DAY, "org_id": "o"}], hour, organizations=organizations)
        assert row["organization_name"] == name


_INSTANTS = [ends(DAY) + timedelta(hours=hours) for hours in (-30, -24, -1, 0, 1, 24, 30)]
_HISTORIES = st.dictionaries(st.sampled_from(_INSTANTS), st.sampled_from(["A", "B", None]), max_size=5)
_IDS = st.sampled_from(["a", "b", "unknown", None])


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(-2, 2), _IDS, _IDS, _IDS, _IDS), max_size=8),
    histories=st.lists(_HISTORIES, min_size=6, max_size=6),
)
def test_no_row_is_lost_or_doubled_and_all_names_are_as_plain_python_finds_them(
    rows: list[tuple[int, str | None, str | None, str | None, str | None]],
    histories: list[dict[datetime, str | None]],
) -> None:
    ids = ("org_id", "user_id", "service_user_id", "playbook_id")
    sessions: list[Row] = [
        {"day": DAY + timedelta(days=days), "session_id": str(number)} | dict(zip(ids, of, strict=True))
        for number, (days, *of) in enumerate(rows)
    ]
    known = {
        (key, id_): sorted(histories[2 * place + number].items())
        for place, key in enumerate(("org_id", "user_id", "playbook_id"))
        for number, id_ in enumerate("ab")
    }

    def called(key: str, id_: Any, day: date) -> str | None:
        own = known.get((key, id_), [])
        until = [name for begin, name in own if begin <= ends(day)]
        return until[-1] if until else own[0][1] if own else None

    found = named(
        BY_NAME["sessions_named"],
        sessions,
        organizations=[row for id_ in "ab" for row in history("org_id", id_, "name", *known["org_id", id_])],
        users=[row for id_ in "ab" for row in history("user_id", id_, "name", *known["user_id", id_])],
        playbooks=[row for id_ in "ab" for row in history("playbook_id", id_, "title", *known["playbook_id", id_])],
    )
    assert sorted(
        (row["session_id"], *(row[name] or "" for name in (*NAMES[:2], *NAMES[3:]))) for row in found
    ) == sorted(
        (
            row["session_id"],
            called("org_id", row["org_id"], row["day"]) or "",
            called("user_id", row["user_id"], row["day"]) or "",
            called("user_id", row["service_user_id"], row["day"]) or "",
            called("playbook_id", row["playbook_id"], row["day"]) or "",
        )
        for row in sessions
    )


# In a lake


def fill(lake: Lake) -> None:
    sessions, users = TABLES["sessions"], TABLES["users"]
    rows = [{"session_id": id_, "user_id": "u", "acus": acus("0.1")} for id_ in ("a", "b")]
    lake.replace_days(sessions, [DAY], rows_of(sessions, rows))
    people = history("user_id", "u", "name", (ends(DAY), "Ann"), (ends(DAY) + timedelta(days=1), "Ann B"))
    lake.replace_all(users, rows_of(users, people))
    reconciliation = TABLES["reconciliation_daily"]
    lake.replace_all(reconciliation, rows_of(reconciliation, [{"org_id": "(enterprise)"}]))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake that nothing here changes."""
    lake = Lake(str(tmp_path_factory.mktemp("named") / "it's a lake"))
    lake.claim(LakeIdentity("live", "api.devin.ai", "enterprise", 8))
    fill(lake)
    write_catalog(lake)
    return lake


@pytest.fixture
def lake(stored: Lake, tmp_path: Path) -> Lake:
    """A lake of one test."""
    lake = Lake(str(tmp_path / "lake"))
    fill(lake)
    return lake


NAMED = "select session_id, user_name from sessions_named order by all"
ANN = [("a", "Ann"), ("b", "Ann")]


def rows_as_tuples(rows: Any) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in rows.to_pylist()]


def attached(connection: duckdb.DuckDBPyConnection, folder: str, alias: str) -> None:
    path = f"{folder}/devin.duckdb".replace("'", "''")
    connection.execute(f"attach '{path}' as {alias} (read_only)")


@pytest.fixture
def bi(stored: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        attached(connection, stored.uri, "devin")
        yield connection


def test_a_query_of_a_view_reads_all_tables_it_is_made_of(stored: Lake) -> None:
    assert rows_as_tuples(stored.query(NAMED)) == ANN
    assert rows_as_tuples(stored.query(NAMED.upper().replace("SESSIONS_NAMED", "Sessions_Named"))) == ANN
    assert stored.query("select count(*) as n from reconciliation_daily_named").to_pylist() == [{"n": 1}]
    for view in NAMED_VIEWS:
        columns = [*TABLES[view.of_table].column_names, *(column.name for column in view.names)]
        assert stored.query(f"describe {view.name}").column("column_name").to_pylist() == columns


def test_show_tables_lists_the_views_after_nothing_was_named(stored: Lake) -> None:
    names = stored.query("show tables").column("name").to_pylist()
    assert names == sorted([*TABLES, *BY_NAME])


def test_a_query_that_names_no_view_has_none(stored: Lake) -> None:
    with stored.connection_for("from sessions") as connection:
        assert connection.query("show tables").column("name").to_pylist() == ["sessions"]
    with pytest.raises(QueryFailed, match="Did you mean sessions_named"):
        stored.query("from session_named")


def test_a_connection_has_the_views_whose_tables_it_has(stored: Lake) -> None:
    with stored.connect() as connection:
        assert rows_as_tuples(connection.rows(NAMED)) == ANN
    tables = [TABLES[name] for name in ("organizations", "reconciliation_daily", "sessions")]
    with stored.connect(tables) as connection:
        found = connection.rows("select view_name from duckdb_views() where not internal").column(0).to_pylist()
    assert sorted(found) == ["organizations", "reconciliation_daily", "reconciliation_daily_named", "sessions"]


def test_a_view_is_there_only_if_all_tables_it_reads_are() -> None:
    assert named_views_over(TABLES) == list(NAMED_VIEWS)
    for view in NAMED_VIEWS:
        for name in view.inputs:
            assert view not in named_views_over(set(TABLES) - {name})


def test_the_file_for_bi_has_the_views_with_what_they_and_their_columns_mean(
    bi: duckdb.DuckDBPyConnection,
) -> None:
    assert bi.sql(NAMED.replace("sessions_named", "devin.sessions_named")).fetchall() == ANN
    comments = dict(bi.sql("select view_name, comment from duckdb_views() where not internal").fetchall())
    assert {name: comments[name] for name in BY_NAME} == {name: view.description for name, view in BY_NAME.items()}
    columns = bi.sql("select table_name, column_name, comment from duckdb_columns() where database_name = 'devin'")
    found = sorted(row for row in columns.fetchall() if row[0] in BY_NAME)
    assert found == sorted(
        (view.name, column.name, column.description)
        for view in NAMED_VIEWS
        for column in (*TABLES[view.of_table].columns, *view.names)
    )


def test_the_readers_time_zone_and_own_tables_change_nothing(bi: duckdb.DuckDBPyConnection) -> None:
    bi.execute("create table sessions as select 1 as x; create table users as select 1 as x")
    for zone in ("Pacific/Kiritimati", "America/Los_Angeles"):
        bi.execute(f"set TimeZone = '{zone}'")
        assert bi.sql(NAMED.replace("sessions_named", "devin.sessions_named")).fetchall() == ANN


@every_view
def test_the_views_of_a_copied_lake_do_not_answer_from_the_other_one(
    stored: Lake, tmp_path: Path, view: NamedView
) -> None:
    shutil.copytree(stored.uri, tmp_path / "there")
    with duckdb.connect() as connection:
        attached(connection, str(tmp_path / "there"), "copy")
        with pytest.raises(duckdb.Error, match="written for"):
            connection.execute(f"from copy.{view.name}")


@pytest.mark.notices("a view of names over a table that is left out")
def test_a_view_of_a_damaged_table_is_left_out_and_comes_back_with_it(lake: Lake) -> None:
    file = Path(lake.snapshot(TABLES["users"]).files()[0])
    whole = file.read_bytes()
    file.unlink()
    made = write_catalog(lake)
    assert made is not None
    assert made.left_out == [TABLES["users"]]
    with duckdb.connect() as connection:
        attached(connection, lake.uri, "devin")
        views = {name for (name,) in connection.sql("select view_name from duckdb_views()").fetchall()}
    assert views & set(BY_NAME) == {"reconciliation_daily_named"}
    file.write_bytes(whole)
    again = write_catalog(lake)
    assert again is not None
    assert (again.left_out, again.changed) == ([], True)
    assert write_catalog(lake) == (made.file, [], False)
    with duckdb.connect() as connection:
        attached(connection, lake.uri, "devin")
        assert connection.sql(NAMED.replace("sessions_named", "devin.sessions_named")).fetchall() == ANN


def test_a_demo_lake_says_so_on_the_views_with_names_too(lake: Lake) -> None:
    lake.claim(LakeIdentity("demo", "localhost", "enterprise", 8))
    write_catalog(lake)
    with duckdb.connect() as connection:
        attached(connection, lake.uri, "devin")
        comments = connection.sql("select comment from duckdb_views() where view_name like '%\\_named' escape '\\'")
        assert {comment.startswith("DEMO DATA") for (comment,) in comments.fetchall()} == {True}


def test_the_day_of_a_lake_ends_when_that_lake_says(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.claim(LakeIdentity("live", "api.devin.ai", "enterprise", 9))
    fill(lake)
    lake.replace_all(
        TABLES["users"],
        rows_of(TABLES["users"], history("user_id", "u", "name", (ends(DAY, 8), "A"), (ends(DAY, 9), "B"))),
    )
    assert rows_as_tuples(lake.query(NAMED)) == [("a", "B"), ("b", "B")]
    with lake.connect() as connection:
        assert rows_as_tuples(connection.rows(NAMED)) == [("a", "B"), ("b", "B")]
    write_catalog(lake)
    with duckdb.connect() as connection:
        attached(connection, lake.uri, "devin")
        assert connection.sql(NAMED.replace("sessions_named", "devin.sessions_named")).fetchall() == [
            ("a", "B"),
            ("b", "B"),
        ]


def test_a_filter_by_day_reads_the_files_of_that_day_only(lake: Lake) -> None:
    lake.replace_days(TABLES["sessions"], [NEXT_DAY], rows_of(TABLES["sessions"], [{"day": NEXT_DAY}]))
    write_catalog(lake)
    with duckdb.connect() as connection:
        attached(connection, lake.uri, "devin")
        ((_, plan),) = connection.sql(f"explain from devin.sessions_named where day = date '{DAY}'").fetchall()
    assert "Scanning Files: 1/2" in plan
