"""Every place where something a run met may stay, as bytes that can be searched; and the search itself."""

import asyncio
import base64
import json
import logging
import math
import sqlite3
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, quote_plus

import dagster as dg
import duckdb
import pyarrow.parquet as pq
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster_graphql.schema import create_schema
from graphql import (
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLType,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
)

Sinks = Mapping[str, bytes]

_REPOSITORY = '(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "devin_pipeline"})'
_QUERIES = {
    "runsOrError": "",
    "assetNodes": "",
    "repositoriesOrError": "",
    "allTopLevelResourceDetailsOrError": _REPOSITORY,
    "schedulesOrError": _REPOSITORY,
    "sensorsOrError": _REPOSITORY,
    "utilizedEnvVarsOrError": _REPOSITORY,
    "assetsOrError": "",
    "instance": "",
    "workspaceOrError": "",
}
_FOLLOWED = set(
    """
    results nodes eventConnection events error errorChain cause causes failureMetadata metadataEntries tags evaluation
    assetKey assetMaterializations configuredValues configFields runConfig schema columns capturedLogs stats
    """.split()  # noqa: SIM905 - a literal list would be a line per field
)
# Promised by Dagster's schema, and missing from the events it responds with.
_BROKEN = {"pipelineName"}


def forms(secret: str) -> dict[str, bytes]:
    """The spellings under which a secret may occur, by name."""
    raw = secret.encode()
    spellings = {
        "plain": raw,
        "URL-encoded": quote(secret, safe="").encode(),
        "URL-encoded path": quote(secret).encode(),
        "form-encoded": quote_plus(secret).encode(),
        "JSON": json.dumps(secret)[1:-1].encode(),
        "JSON in UTF-8": json.dumps(secret, ensure_ascii=False)[1:-1].encode(),
        "JSON in JSON": json.dumps(json.dumps(secret)[1:-1])[1:-1].encode(),
        "repr": repr(secret)[1:-1].encode(),
        "repr of bytes": repr(raw)[2:-1].encode(),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
    }
    for shift in range(3):
        # Only the characters that no neighbour has a part in.
        whole = base64.b64encode(bytes(shift) + raw)[math.ceil(shift * 8 / 6) : (shift + len(raw)) * 8 // 6]
        spellings |= {
            f"base64, {shift} bytes in": whole,
            f"urlsafe base64, {shift} bytes in": whole.translate(_URLSAFE),
        }
    return spellings


_URLSAFE = bytes.maketrans(b"+/", b"-_")


def found(sinks: Sinks, secrets: Iterable[str]) -> list[str]:
    """Where secrets are: their beginning, their spelling and the sink."""
    return [
        f"{secret[:12]}… as {form} in {name}"
        for secret in secrets
        for spelling, form in {spelling: form for form, spelling in forms(secret).items()}.items()  # each once
        for name, content in sinks.items()
        if spelling in content
    ]


class Recorder(logging.Handler):
    """Keeps every record as a careless formatter would write it: message, arguments, traceback and all."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(f"{record.name} {record.getMessage()} {record.args!r} {vars(record)!r}")
        if record.exc_info and record.exc_info[1]:
            self.written.append(full_text_of(record.exc_info[1]))


@contextmanager
def every_logger_at_debug() -> Iterator[Recorder]:
    """Turn the root and every logger there is to DEBUG, and record what they say."""
    handler = Recorder()
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    levels = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    loggers[0].addHandler(handler)
    try:
        yield handler
    finally:
        loggers[0].removeHandler(handler)
        for logger, level in levels:
            logger.setLevel(level)


def full_text_of(error: BaseException) -> str:
    """All that an error shows: text, repr, attributes, and the traceback with the locals of every frame but ours."""
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    whole = traceback.TracebackException(type(error), error, frames, capture_locals=True)
    return "\n".join([str(error), repr(error), repr(vars(error)), repr(error.args), *whole.format()])


def files(folder: Path) -> dict[str, bytes]:
    """What is in the files of a folder, by name and kind; databases and Parquet also as the values they hold."""
    sinks: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = str(path.relative_to(folder))
        content = path.read_bytes()
        sinks[name] = content
        if content.startswith(b"SQLite format 3"):
            sinks[f"{name}, its rows"] = _sqlite_rows(path)
        elif path.suffix == ".parquet":
            sinks[f"{name}, its values"] = repr(pq.ParquetFile(path).read().to_pylist()).encode()
        elif path.suffix == ".duckdb":
            sinks[f"{name}, its views"] = _duckdb_views(path)
    return sinks


def _sqlite_rows(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        tables = [
            name.decode() for (name,) in connection.execute("select name from sqlite_master where type = 'table'")
        ]
        return b"\n".join(
            b"\t".join(value if isinstance(value, bytes) else str(value).encode() for value in row)
            for table in tables
            for row in connection.execute(f'select * from "{table}"')
        )


def _duckdb_views(path: Path) -> bytes:
    with duckdb.connect(str(path), read_only=True) as connection:
        views = connection.execute("select * from duckdb_views()").fetchall()
        return repr([*views, *connection.execute("select * from duckdb_columns()").fetchall()]).encode()


def graphql_dump(instance: dg.DagsterInstance) -> dict[str, bytes]:
    """What the Dagster UI could be sent: runs with all events and errors, assets with metadata, resources, sensors …"""
    schema = create_schema()
    fields = schema.graphql_schema.query_type.fields
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name="devin_pipeline.definitions")
    origin = InProcessCodeLocationOrigin(loadable_target_origin=target, location_name="devin_pipeline")
    sinks: dict[str, bytes] = {}
    with WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget([origin])) as workspace:
        context = workspace.create_request_context()
        for name, arguments in _QUERIES.items():
            query = f"query {{ {name}{arguments} {_everything(schema.graphql_schema, fields[name].type, 6)} }}"
            result = asyncio.run(schema.execute_async(query, context_value=context))
            assert not result.errors, result.errors
            sinks[f"GraphQL {name}"] = json.dumps(result.data, ensure_ascii=False, default=str).encode()
    return sinks


def _everything(schema: GraphQLSchema, kind: GraphQLType, depth: int) -> str:
    """A selection of every field that needs no argument, down to a depth; aliases keep types from disagreeing."""
    named = get_named_type(kind)
    if isinstance(named, GraphQLUnionType | GraphQLInterfaceType):
        members = schema.get_possible_types(named)
        return "{ " + " ".join(f"... on {each.name} {_everything(schema, each, depth)}" for each in members) + " }"
    assert isinstance(named, GraphQLObjectType)
    chosen = ["__typename"]
    for name, field in named.fields.items():
        if any(is_required_argument(argument) for argument in field.args.values()) or "artition" in name:
            continue
        if name in _BROKEN:
            continue
        if is_leaf_type(get_named_type(field.type)):
            chosen.append(f"{named.name}_{name}: {name}")
        elif depth and name in _FOLLOWED:
            chosen.append(f"{named.name}_{name}: {name} {_everything(schema, field.type, depth - 1)}")
    return "{ " + " ".join(chosen) + " }"
