"""How Parquet files are written: compression, dictionaries, statistics and row groups, by what rows hold."""

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import ColumnProperties, WriterProperties

from devin_pipeline.tables import Table

# A file with fewer bytes per column is a small one. There zstd's start, 60 µs a column, takes as long as all else does,
# and a dictionary, a page more for each, saves nothing.
_SMALL_FILE_BYTES_PER_COLUMN = 40_000
# Values this long are rarely equal, and a dictionary of them is thrown away once it is full.
_DICTIONARY_MAX_MEAN_LENGTH = 256
# DuckDB's threads share a file out by its row groups, and long texts, payloads most of all, are work enough to share.
_LONG_ROWS_PER_GROUP = 1_024


def writer_properties(table: Table, rows: pa.Table) -> WriterProperties:
    """How Delta writes these rows of a table."""
    files = len(table.partitions_of(rows)) if table.partitioned_by else 1
    are_small = rows.nbytes < _SMALL_FILE_BYTES_PER_COLUMN * files * len(table.columns)
    long = [
        column.name
        for column in table.columns
        if column.type == pa.string()
        and (pc.mean(pc.binary_length(rows.column(column.name))).as_py() or 0) >= _DICTIONARY_MAX_MEAN_LENGTH
    ]
    # No index of pages: a flipped bit in it would mislead the readers that use it, and nothing here could tell.
    return WriterProperties(
        max_row_group_size=_LONG_ROWS_PER_GROUP if long else None,
        compression="SNAPPY" if are_small else "ZSTD",
        default_column_properties=ColumnProperties(statistics_enabled="CHUNK", dictionary_enabled=not are_small),
        column_properties={
            # Nobody looks for a long text by its order, and the least and the greatest are a tenth of a small file.
            name: ColumnProperties(statistics_enabled="NONE", dictionary_enabled=False)
            for name in long
        },
    )
