"""Whether a stored file is what was written: there, whole, readable by both readers, and true in its footer.

Two readers, because one bit can mislead either: queries run through DuckDB, much else reads through Arrow. What the
rows mean does not belong here.

Both read in this process. Of 130,000 files with one bit flipped in the footer none made a reader hang or die, as long
as the rows are read before the statistics (which end the process when the types in the footer disagree).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from devin_pipeline.lake.connection import Connection, parquet_scan_sql
from devin_pipeline.lake.errors import Damaged, NotRead, not_read, readable
from devin_pipeline.tables import Partition, Table


class StoredFile(NamedTuple):
    """One Parquet file of a snapshot, as the log has it.

    Attributes:
        path: Where it lies.
        partition: The part of the table that it holds.
        rows: How many rows it holds.
        size: Its size in bytes.
    """

    path: str
    partition: Partition
    rows: int
    size: int

    @property
    def day(self) -> date | None:
        """The day it holds; None in a table that is not partitioned by day."""
        return self.partition if isinstance(self.partition, date) else None


def read_verified(table: Table, file: StoredFile) -> pa.Table:
    """The rows of a file in the table's schema, once everything about it holds.

    Raises:
        Damaged: It is missing, has another size or number of rows than the log says, cannot be read, its footer is
            not true of its rows, or DuckDB and Arrow read different rows.
    """
    rows = rows_by_arrow(table, file)
    if not rows_by_duckdb(table, file).equals(rows):
        raise _damaged(file, "DuckDB and Arrow read different rows in it")
    return rows


def rows_by_duckdb(table: Table, file: StoredFile) -> pa.Table:
    """The rows of a file as queries read them.

    Raises:
        Damaged: DuckDB cannot read it, or reads a null where none may be.
    """
    with Connection() as connection, _explained(file, "DuckDB"):
        return connection.rows(parquet_scan_sql(table, [file])).cast(table.schema)


def rows_by_arrow(table: Table, file: StoredFile) -> pa.Table:
    """The rows of a file as Arrow reads them, once its size, its columns and its footer hold.

    Raises:
        Damaged: Any of that does not, or Arrow cannot read it.
    """
    with readable(file.path):
        filesystem, path = fs.FileSystem.from_uri(file.path)
        found = filesystem.get_file_info(path)
    if found.type == fs.FileType.NotFound:
        raise _damaged(file, "it is missing")
    # guard: damage: a file of another size
    if found.size != file.size:
        raise _damaged(file, f"it has {found.size} bytes, where the log says {file.size}")
    folder = path.rpartition("/")[0]
    if table.partitioned_by and not folder.endswith(f"/{table.partitioned_by}={file.partition}"):
        raise _damaged(file, f"it is in another {table.partitioned_by}'s folder than the log says ({file.partition})")
    with _explained(file, "Arrow"), filesystem.open_input_file(path) as opened:
        parquet = pq.ParquetFile(opened)
        stored = parquet.read()
        # Text is taken as it comes otherwise, and fails its reader.
        stored.validate(full=True)
        # guard: damage: another number of rows
        if stored.num_rows != file.rows:
            raise _damaged(file, f"it has {stored.num_rows} rows, where the log says {file.rows}")
        # guard: damage: a renamed column | _wrong_columns(table, stored.schema) -> []
        if wrong := _wrong_columns(table, stored.schema):
            raise _damaged(file, f"its columns are not the table's: {', '.join(wrong)}")
        # guard: damage: a footer that lies | _untrue_statistics(parquet.metadata, stored) -> []
        if untrue := _untrue_statistics(parquet.metadata, stored):
            raise _damaged(file, f"its footer does not fit its rows: {', '.join(untrue)}")
        columns = {c.name: _column(stored, table, c.name, c.type, file.partition) for c in table.columns}
        return pa.table(columns).cast(table.schema)


def narrow_columns(table: Table, file: StoredFile) -> pa.Table:
    """The columns of a file that hold no text, as Arrow reads them; nothing else about the file is looked at.

    Raises:
        Damaged: Arrow cannot read them.
    """
    names = [c.name for c in table.columns if not (pa.types.is_string(c.type) or pa.types.is_list(c.type))]
    filesystem, path = fs.FileSystem.from_uri(file.path)
    with _explained(file, "Arrow"), filesystem.open_input_file(path) as opened:
        stored = pq.ParquetFile(opened).read(columns=names)
        types = {c.name: c.type for c in table.columns}
        return pa.table({name: _column(stored, table, name, types[name], file.partition) for name in names}).cast(
            pa.schema([table.schema.field(name) for name in names])
        )


def _column(
    stored: pa.Table, table: Table, name: str, type_: pa.DataType, partition: Partition
) -> pa.ChunkedArray | pa.Array:
    if name in stored.column_names:
        return stored.column(name).cast(type_)
    # The partition is in the folder's name; any other column is newer than this file.
    return pa.array([partition if name == table.partitioned_by else None] * stored.num_rows, type_)


def _wrong_columns(table: Table, schema: pa.Schema) -> list[str]:
    """Columns that the table does not have, or has with another type; a column it lacks is newer than the file."""
    expected = {column.name: column.type for column in table.columns if column.name != table.partitioned_by}
    return [field.name for field in schema if _plain(field.type) != expected.get(field.name)]


def _plain(type_: pa.DataType) -> pa.DataType:
    """The type without the name of a list's items."""
    return pa.list_(type_.value_type) if pa.types.is_list(type_) else type_


def _untrue_statistics(metadata: pq.FileMetaData, rows: pa.Table) -> list[str]:
    """Columns whose least, greatest or number of null values is not what the footer says; queries rely on these."""
    untrue = []
    start = 0
    for group in (metadata.row_group(number) for number in range(metadata.num_row_groups)):
        of_group = rows.slice(start, group.num_rows)
        start += group.num_rows
        for number in range(group.num_columns):
            column = group.column(number)
            # Asked before the statistics: see the module.
            is_true = column.physical_type == metadata.schema.column(number).physical_type and _is_true(
                column.statistics, of_group.column(column.path_in_schema.partition(".")[0])
            )
            if not is_true:
                untrue.append(column.path_in_schema)
    return untrue


def _is_true(statistics: pq.Statistics | None, values: pa.ChunkedArray) -> bool:
    if statistics is None:
        return True
    nulls = values.null_count
    if pa.types.is_list(values.type):
        # A list without items is a null to its items' column.
        nulls += pc.sum(pc.equal(pc.list_value_length(values), 0)).as_py() or 0
        values = pc.list_flatten(values)
        nulls += values.null_count
    if statistics.has_null_count and statistics.null_count != nulls:
        return False
    if not statistics.has_min_max:
        return True
    extremes = pc.min_max(values)
    least, greatest = extremes["min"].as_py(), extremes["max"].as_py()
    return _bounds(statistics.min, least, 0) and _bounds(statistics.max, greatest, 1)


def _bounds(stated: object, actual: object, cut: int) -> bool:
    """True when a statistic is the value, or begins a long text; of a greatest one the last letter is raised."""
    if isinstance(stated, str) and isinstance(actual, str) and len(stated.encode()) < len(actual.encode()):
        return actual.startswith(stated[: len(stated) - cut]) and (stated > actual if cut else True)
    return stated == actual


@contextmanager
def _explained(file: StoredFile, reader: str) -> Iterator[None]:
    try:
        yield
    except NotRead:
        raise
    except Damaged as error:
        raise error if error.what.endswith(file.path) else _damaged(file, f"{reader} cannot read it") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None and (refusal := not_read(file.path, error)):
            raise refusal from None
        # Arrow raises nearly everything over broken bytes, UnicodeDecodeError and NotImplementedError too; and its
        # words may hold text of a row.
        raise _damaged(file, f"{reader} cannot read it ({type(error).__name__})") from None


def _damaged(file: StoredFile, why: str) -> Damaged:
    return Damaged(f"A stored file is damaged, {file.path}", why)
