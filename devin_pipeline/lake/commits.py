"""What a commit is, and how a Delta table is created and written."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from devin_pipeline.lake.connection import quoted
from devin_pipeline.lake.location import has_scheme
from devin_pipeline.lake.snapshot import MADE_WITH
from devin_pipeline.tables import Partition, Table

# Least and greatest values of a text column would leave pieces of prompts in the log, where no vacuum reaches.
# guard: pieces of text in the log | "delta.dataSkippingNumIndexedCols": "0"
CONFIGURATION: dict[str, str] = {"delta.dataSkippingNumIndexedCols": "0"}
# Of the log's entries behind the last checkpoint each costs half a millisecond whenever the table is opened.
_CHECKPOINT_INTERVAL = "20"
# Names a folder as it is; anything else, Delta would encode.
_PARTITION = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Rewrite:
    """What some partitions of a table are to hold from now on: `rows` are all their rows."""

    partitions: Sequence[Partition]
    rows: pa.Table


@dataclass(frozen=True)
class Commit:
    """What a write did. `version` is None and `partitions` empty when what is stored was already so."""

    table: Table
    version: int | None
    partitions: Sequence[Partition]
    conflicts: int = 0

    @property
    def days(self) -> list[date]:
        """The days that it wrote."""
        return [partition for partition in self.partitions if isinstance(partition, date)]


def create_table(table: Table, location: str, properties: dict[str, str] | None = None) -> DeltaTable:
    """Create a Delta table without rows, or open the one that another writer created in the same moment."""
    if not has_scheme(location):
        # Prompts lie here: for the owner only, until the owner says otherwise.
        # guard: tables others may read | 0o700 -> 0o777
        Path(location).mkdir(mode=0o700, parents=True, exist_ok=True)
    # An error means another writer created it in the same moment; if not, opening it says what is wrong.
    with suppress(DeltaError):
        DeltaTable.create(
            location,
            schema=table.schema,
            partition_by=[table.partitioned_by] if table.partitioned_by else None,
            name=table.name,
            description=table.grain,
            mode="ignore",
            configuration=CONFIGURATION
            | {MADE_WITH: ",".join(table.column_names), "delta.checkpointInterval": _CHECKPOINT_INTERVAL}
            | (properties or {}),
            # Or Delta takes no property but its own.
            raise_if_key_not_exists=False,
        )
    return DeltaTable(location)


def without_descriptions(rows: pa.Table) -> pa.Table:
    """Rows as Delta merges them into a table whose columns an older version of the code described otherwise.

    In one batch: Delta's threads write several in whichever order they are done, and the rows lose theirs.
    """
    schema = pa.schema([field.remove_metadata() for field in rows.schema])
    # guard: order: rows that Delta's threads would displace | .combine_chunks()
    return pa.Table.from_arrays(rows.columns, schema=schema).combine_chunks()


def predicate(table: Table, partitions: Sequence[Partition]) -> str:
    """Which rows a commit replaces.

    Raises:
        ValueError: A partition cannot be the name of a folder as it is.
    """
    if table.partitioned_by is None:
        # Not without one: Delta then sees no conflict between two writers of an empty table.
        # guard: two first writers of a table in one part | "true" -> ""
        return "true"
    names = [str(partition) for partition in partitions]
    if unusable := [name for name in names if not _PARTITION.fullmatch(name)]:
        raise ValueError(f"{table.name} cannot have a partition {unusable[0]!r}")
    return f"{table.partitioned_by} in ({', '.join(map(quoted, names))})"
