"""One DuckDB connection: tables in, rows out. Every DuckDB statement of the project runs through it."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

import duckdb
import pyarrow as pa

from devin_pipeline.lake.errors import Damaged, LimitMet, NotReadOnly, QueryFailed, not_read
from devin_pipeline.lake.forms import in_json, is_number, is_text, readable
from devin_pipeline.lake.forms import quoted as quoted
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import TABLES, Table
from devin_pipeline.tables.views import NamedView, named_views_over

if TYPE_CHECKING:
    from devin_pipeline.lake.file_integrity import StoredFile

Params = Mapping[str, object]

_ROWS_OF_A_BATCH = 10_000


@dataclass(frozen=True)
class QueryLimits:
    """What a person's query may take.

    Attributes:
        memory_bytes: Memory of DuckDB's.
        disk_bytes: Temporary files, where it spills what does not fit into memory.
        spills_to: The folder for them, which the caller removes.
    """

    memory_bytes: int
    disk_bytes: int
    spills_to: str

    def met_memory(self) -> LimitMet:
        """The error of a query that needs more memory."""
        return LimitMet(f"memory, {_in_words(self.memory_bytes)}", "raise DEVIN_QUERY_MEMORY")

    def met_disk(self) -> LimitMet:
        """The error of a query that spills more than there is room for."""
        return LimitMet(
            f"temporary disk space, {_in_words(self.disk_bytes)} in {self.spills_to}",
            "set TMPDIR to a folder with more room, or raise DEVIN_QUERY_MEMORY",
        )


def _in_words(count: float) -> str:
    units = ["bytes", "kB", "MB", "GB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        del units[0]
    return f"{count:.4g} {units[0]}"


@dataclass(frozen=True)
class Answer:
    """The rows of a person's query, each value as text.

    Attributes:
        names: The columns' names, no two of them alike.
        are_numbers: Which columns hold numbers.
        are_texts: Which columns may hold any text.
        rows: How many rows there are.
        batches: The rows, some at a time, in order; None for null.
    """

    names: Sequence[str]
    are_numbers: Sequence[bool]
    are_texts: Sequence[bool]
    rows: int
    batches: Iterator[Iterable[Sequence[str | None]]]


def typed_nulls(table: Table) -> str:
    """The table's columns, each a null of its type, as a SELECT lists them."""
    return ", ".join(f'null::{c.sql_type} as "{c.name}"' for c in table.columns)


def parquet_scan_sql(table: Table, files: Iterable["StoredFile"], *, some_lack_columns: bool = True) -> str:
    """A SELECT of the table's columns over Parquet files, or of no rows when there are none.

    The typed SELECT of no rows comes first: it gives older files the columns they lack, as nulls, and an
    empty table its columns. The partition of a file is that of the log.

    Args:
        table: The table.
        files: Its files.
        some_lack_columns: False when every file has all columns: comparing their footers costs more than most queries.
    """
    columns = ", ".join(f'"{c.name}"' for c in table.columns)
    typed = typed_nulls(table)
    stored = list(files)
    if not stored:
        return f"select {typed} where false"
    paths = ", ".join(quoted(file.path) for file in stored)
    read = f"read_parquet([{paths}], union_by_name = {some_lack_columns}"
    if (column := table.partitioned_by) is None:
        rows = f"from {read}, hive_partitioning = false)"
    elif all(
        # guard: a path of the lake that looks like columns | file.path.count("=") == 1 and
        file.path.count("=") == 1 and file.path.rpartition("/")[0].endswith(f"/{column}={file.partition}")
        for file in stored
    ):
        # DuckDB takes each `name=value` of a path for a column. Here there is but this one, and the log says the same.
        rows = f"from {read}, hive_partitioning = true, hive_types = {{'{column}': {_type_of(table, column)}}})"
    else:
        # DuckDB gives a file's path without that scheme.
        partitions = ", ".join(
            f"{quoted(file.path.removeprefix('file://'))}: {quoted(str(file.partition))}" for file in stored
        )
        partition = f"map {{{partitions}}}[stored_in]::{_type_of(table, column)}"
        rows = (
            f"select * exclude (stored_in), {partition} as {column} "  # noqa: S608 - paths are quoted
            f"from {read}, hive_partitioning = false, filename = 'stored_in')"
        )
    return f"select {columns} from (select {typed} where false union all by name {rows})"  # noqa: S608 - as above


def _type_of(table: Table, name: str) -> str:
    return next(column.sql_type for column in table.columns if column.name == name)


@contextmanager
def _explained(limits: QueryLimits | None = None) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        if limits is not None and isinstance(error, duckdb.OutOfMemoryException):
            is_disk = "max_temp_directory_size" in str(error)
            raise (limits.met_disk() if is_disk else limits.met_memory()) from None
        if refusal := not_read("What is stored", error):
            raise refusal from None
        todo = f"List what there is: `{pipeline_command('tables')}`"
        raise QueryFailed("This query failed", _why(error), todo) from None


def _why(error: duckdb.Error) -> str:
    """DuckDB's words with their hint, in one line; behind an empty one come the query and what nobody can do here."""
    words = " ".join(str(error).partition("\n\n")[0].split())
    unknown = _UNKNOWN_TABLE.match(words)
    if unknown is None:
        return words
    # DuckDB knows only tables that the query names, and would propose tables of its own.
    known = [*TABLES, *(view.name for view in named_views_over(TABLES))]
    near = get_close_matches(unknown[1].rpartition(".")[2].lower(), known)
    return unknown[0] + (f" Did you mean {' or '.join(near)}?" if near else "")


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        if refusal := not_read("What is stored", error):
            raise refusal from None
        # Only what speaks of the query itself is shown: other words of DuckDB's may hold text of a row.
        is_of_query = isinstance(error, duckdb.ParserException | duckdb.BinderException | duckdb.CatalogException)
        words = f": {error}".partition("\n")[0] if is_of_query else ""
        raise Damaged("What is stored could not be read", f"DuckDB ended with {type(error).__name__}{words}") from None


def _new_database() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("set global TimeZone = 'UTC'")
    return connection


@cache
def _shared_database() -> duckdb.DuckDBPyConnection:
    """The DuckDB that the readers of a process share, since starting one takes longer than most queries."""
    connection = _new_database()
    connection.execute(MONEY_RULES.read_text())
    return connection


MONEY_RULES = Path(__file__).parent / "money.sql"
"""The macros by which queries divide money."""

# The spans in which an id had its names, in microseconds: a reader's time zone would move a day. Before its first row,
# the first one holds. A day has one row of an id at most, as its spans do not overlap.
# guard: names before the first row | lag(valid_from) over seen is null -> false
_NAMES = """left join (
    select
        *,
        case when lag(valid_from) over seen is null then 0 else epoch_us(valid_from) end as begins_at,
        coalesce(lead(epoch_us(valid_from)) over seen, 9223372036854775807) as ends_at
    from {naming.directory}
    window seen as (partition by {naming.key} order by valid_from)
) as {alias}
    on
        dated.{naming.id_column} = {alias}.{naming.key}
        and dated.day_ends_at >= {alias}.begins_at
        and dated.day_ends_at < {alias}.ends_at"""


def named_view_sql(view: NamedView, hour: int) -> str:
    """The SELECT of a view with names: the rows of a table, with the names that their ids had at the end of the day.

    Args:
        view: The view; its tables are readable under their names.
        hour: Hour of the UTC day at which a billing day starts.
    """
    aliases = {f"names_of_{naming.id_column}": naming for naming in view.namings}
    names = (f"{alias}.{of} as {name.name}" for alias, naming in aliases.items() for of, name in naming.names)
    dated = f"select *, epoch_us(day) + {24 + hour} * 3600000000 as day_ends_at from {view.of_table}"  # noqa: S608 - our own names
    joins = "\n".join(_NAMES.format(naming=naming, alias=alias) for alias, naming in aliases.items())
    return f"select dated.* exclude (day_ends_at), {', '.join(names)}\nfrom ({dated}) as dated\n{joins}"


_LOCKS = (
    # guard: a query that loads an extension | set autoinstall_known_extensions = false -> select 1
    "set autoinstall_known_extensions = false",
    "set autoload_known_extensions = false",
    "set allow_community_extensions = false",
    # guard: a query that reads elsewhere | "set enable_external_access = false",
    "set enable_external_access = false",
    "set lock_configuration = true",
)
_UNKNOWN_TABLE = re.compile(r'Catalog Error: Table with name "?([^ "]+)"? does not exist[^.!]*[.!]')
# Of its own, so that `show tables` lists the lake's alone.
_ANSWER = "answers.answer"


_NAMES_TABLES = re.compile(r"\b(?:from|join|table|tables|pivot|unpivot|show|describe|summarize)\b", re.IGNORECASE)


def may_name_tables(query: str) -> bool:
    """Whether a person's query has a word with which it names tables, ours or others; `select 1` has none."""
    return _NAMES_TABLES.search(query) is not None


class Named(NamedTuple):
    """What a person's query names: tables, those that its views read among them, and views with names."""

    tables: list[Table]
    views: list[NamedView]


def named_in(query: str) -> Named:
    """What of the contract a person's query names, so that only the files of these tables are looked at.

    Raises:
        NotReadOnly: It is none, several, or one that writes or changes settings.
        QueryFailed: It does not parse.
    """
    with _explained():
        statements = _shared_database().extract_statements(query)
        # guard: a query that writes | len(statements) != 1 or -> False and
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise NotReadOnly(
                "This query was not run",
                "the lake is read-only here, and takes one SELECT (or WITH, FROM, DESCRIBE, SUMMARIZE) at a time",
                "Send one statement that reads",
            )
    text, known = query.lower(), named_views_over(TABLES)
    views = [view for view in known if view.name in text]
    read = {name for view in views for name in view.inputs}
    tables = [table for name, table in TABLES.items() if name in text or name in read]
    # `show tables` and the like name none and mean all; `select 1` means none.
    is_of_all = not tables and may_name_tables(query)
    return Named(list(TABLES.values()), known) if is_of_all else Named(tables, views)


# Where the end of a statement may be.
_END = re.compile(r";[\s;]*(?:--|/\*|$)")


def _without_end(query: str) -> str:
    """A query without its last semicolon and what follows: DuckDB's relations take it at the very end only."""
    parses = _shared_database().extract_statements
    for end in _END.finditer(query):
        # Or it is of a text, a name or a comment.
        with suppress(duckdb.Error):
            if len(parses(query[: end.start()])) == 1 and not parses(query[end.start() :]):
                return query[: end.start()]
    return query


def _unique(names: Iterable[str]) -> list[str]:
    """The names, where later ones of those alike get a number."""
    unique: list[str] = []
    for name in names:
        number, free = 1, name
        while free in unique:
            free, number = f"{name}_{number}", number + 1
        unique.append(free)
    return unique


class Connection:
    """A DuckDB connection whose clock shows UTC and whose tables and views are its own.

    One thread at a time: a second query on the same connection ends the first one's result.
    """

    _spills_to: TemporaryDirectory[str] | None = None
    _limits: QueryLimits | None = None

    def __init__(self, *, remembers_footers: bool = False) -> None:
        self._duckdb = _shared_database().cursor()
        if remembers_footers:
            # Of files read before by such readers of this process. Files never change: only damage goes unnoticed.
            self._duckdb.execute("set session parquet_metadata_cache = true")

    @classmethod
    def sandboxed(cls, files: Iterable[str], limits: QueryLimits | None = None) -> Self:
        """A connection for a person's query: it reads these files and no other, loads nothing, and stays so."""
        connection = cls._apart()
        connection._limits = limits
        # DuckDB always lets a query read where it spills to, which would be `.tmp` in the current folder.
        if limits is None:
            connection._spills_to = TemporaryDirectory(prefix="devin-pipeline-")
            spills_to = connection._spills_to.name
        else:
            spills_to = limits.spills_to
            connection._duckdb.execute(f"set memory_limit = '{limits.memory_bytes}B'")
            # guard: spills without a limit | set max_temp_directory_size = '{limits.disk_bytes}B' -> select 1
            connection._duckdb.execute(f"set max_temp_directory_size = '{limits.disk_bytes}B'")
        connection._duckdb.execute(f"set temp_directory = {quoted(spills_to)}")
        connection._duckdb.execute("create schema answers")
        # guard: a query that reads a replaced version
        #   | allowed_paths = [{', '.join(quoted(file) for file in files)}]
        #   -> allowed_directories = [{', '.join(quoted(file.split('/part-')[0]) for file in files)}]
        connection._duckdb.execute(f"set allowed_paths = [{', '.join(quoted(file) for file in files)}]")
        for lock in _LOCKS:
            connection._duckdb.execute(lock)
        return connection

    @classmethod
    def new_database(cls, file: str) -> Self:
        """A connection whose `execute_all` stores views in `file`, a new database that DuckDB 1.0 and later open."""
        connection = cls._apart()
        connection._duckdb.execute(f"attach {quoted(file)} as catalog (STORAGE_VERSION 'v1.0.0')")
        connection._duckdb.execute("use catalog")
        return connection

    @classmethod
    def open_database(cls, file: str) -> Self:
        """A connection of a database that `new_database` made. While it is open, nobody can open `file` to write.

        Raises:
            duckdb.Error: It is none, is damaged, or is open for writing elsewhere.
        """
        connection = cls._apart()
        try:
            connection._duckdb.execute(f"attach {quoted(file)} as catalog (read_only)")
            connection._duckdb.execute("use catalog")
        except duckdb.Error:
            connection.close()
            raise
        return connection

    @classmethod
    def _apart(cls) -> Self:
        # A DuckDB of its own: settings and attached files would touch every connection that shares one.
        connection = cls.__new__(cls)
        connection._duckdb = _new_database()
        return connection

    def register(self, name: str, rows: pa.Table) -> None:
        """Make `rows` readable under `name`."""
        self._duckdb.register(name, rows)

    def create_view(self, name: str, query: str) -> None:
        """Make the rows of `query` readable under `name`; they are read when asked for."""
        with _readable():
            self._duckdb.execute(f'create or replace temp view "{name}" as {query}')

    def create_table(self, name: str, query: str, params: Params | None = None) -> None:
        """Run `query` now and make its rows readable under `name`."""
        with _readable():
            self._duckdb.execute(f'create or replace temp table "{name}" as {query}', params or {})

    def cache_columns(self, name: str, columns: str) -> None:
        """Read some columns of what is readable under `name` now; later queries of `name` get them."""
        self.create_table(f"kept_{name}", f'select {columns} from "{name}"')  # noqa: S608 - our own names
        self.create_view(name, f'from "kept_{name}"')

    def rows(self, query: str, params: Params | None = None) -> pa.Table:
        """The rows of `query`, with its `$name` parameters bound.

        Raises:
            Damaged: DuckDB could not read what it asks for.
        """
        with _readable():
            return self._duckdb.sql(query, params=params or {}).to_arrow_table()

    def execute_all(self, statements: Iterable[str]) -> None:
        """Run statements that make and describe something in the database of `new_database`, all of them or none.

        Raises:
            duckdb.Error: What a view reads cannot be read, or the disk is full or broken.
        """
        self._duckdb.begin()
        try:
            for statement in statements:
                self._duckdb.execute(statement)
        except duckdb.Error:
            self._duckdb.rollback()
            raise
        self._duckdb.commit()

    def checkpoint(self) -> None:
        """Write to its end the database of `new_database`. Left to `close`, an error of the disk would go unnoticed.

        Raises:
            duckdb.Error: The disk is full or broken.
        """
        self._duckdb.execute("checkpoint catalog")

    def query(self, query: str) -> pa.Table:
        """The rows of a person's query in Arrow's types; of columns with one name the later ones get a number.

        Raises:
            QueryFailed: DuckDB could not run it.
        """
        with _explained():
            rows = self._duckdb.sql(query).to_arrow_table()
        return rows.rename_columns(_unique(rows.column_names))

    def query_as_text(self, query: str) -> Answer:
        """The rows of a person's query in forms to read; all are computed before the first is given.

        Raises:
            QueryFailed: DuckDB could not run it.
            LimitMet: It needs more memory or temporary disk space than it may take.
        """
        with _explained(self._limits):
            relation = self._duckdb.sql(_without_end(query))
            kinds = list(relation.types)
            # By place: names may be alike.
            forms = (f"{readable(kind, f'#{n}')} as c{n}" for n, kind in enumerate(kinds, start=1))
            relation.project(", ".join(forms)).create(_ANSWER)
            (rows,) = self._duckdb.table(_ANSWER).count("*").fetchall()[0]
        batches = (zip(*(column.to_pylist() for column in batch.columns), strict=True) for batch in self._batches())
        names = _unique(relation.columns)
        return Answer(names, list(map(is_number, kinds)), list(map(is_text, kinds)), rows, batches)

    def query_as_json(self, query: str) -> Iterator[list[str]]:
        """The rows of a person's query as JSON objects, some at a time; all are computed before the first is given.

        Raises:
            QueryFailed: DuckDB could not run it.
            LimitMet: It needs more memory or temporary disk space than it may take.
        """
        with _explained(self._limits):
            relation = self._duckdb.sql(_without_end(query))
            members = (
                f"{quoted(json.dumps(name, ensure_ascii=False) + ':')} || coalesce({in_json(kind, f'#{n}')}, 'null')"
                for n, (name, kind) in enumerate(zip(_unique(relation.columns), relation.types, strict=True), start=1)
            )
            relation.project("'{' || " + " || ',' || ".join(members) + " || '}' as row").create(_ANSWER)
        return (batch.column(0).to_pylist() for batch in self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with _explained(self._limits):
            yield from self._duckdb.table(_ANSWER).to_arrow_reader(_ROWS_OF_A_BATCH)

    def close(self) -> None:
        """Give the connection back."""
        self._duckdb.close()
        if self._spills_to is not None:
            self._spills_to.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
