"""One version of a table as it is read: its files, its rows, and whether they are those of a table in memory."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from devin_pipeline.lake.connection import Connection, parquet_scan_sql
from devin_pipeline.lake.errors import Damaged
from devin_pipeline.lake.file_integrity import StoredFile, narrow_columns, rows_by_arrow
from devin_pipeline.tables import Partition, Table

# The columns a table was made with, which every file of it has.
MADE_WITH = "devin.columns"
# The fingerprint of the code that built all days of a table; empty while days of several stand next to each other.
BUILT_BY = "devin.codeFingerprint"
_CHANGED_DAYS = """
    select distinct day from (
        (from new except all from stored) union all (from stored except all from new)
    )
"""


@dataclass(frozen=True)
class Snapshot:
    """One version of a table: its files will be the same however often they are asked for."""

    table: Table
    location: str
    delta: DeltaTable | None

    @property
    def version(self) -> int | None:
        """Delta's version number; None for a table never written."""
        return None if self.delta is None else self.delta.version()

    def files(self, partitions: Iterable[Partition] | None = None) -> list[str]:
        """The Parquet files of this version, all of them or those of some partitions."""
        return [file.path for file in self.stored_files(partitions)]

    def stored_files(self, partitions: Iterable[Partition] | None = None) -> list[StoredFile]:
        """What the log says of each file of this version, or of those of some partitions, oldest day first.

        Days leave out nothing of a table that is not partitioned by day: all of it belongs to each.
        """
        if partitions is None or self.table.partitioned_by is None:
            return list(self._stored_files)
        wanted = set(partitions)
        if not self.table.by_day and any(isinstance(partition, date) for partition in wanted):
            return list(self._stored_files)
        return [file for file in self._stored_files if file.partition in wanted]

    def rows_per_day(self) -> Counter[date]:
        """How many rows each day has, oldest first, as the log says; nothing of a table without days."""
        rows: Counter[date] = Counter()
        for file in self.stored_files():
            if file.day is not None:
                rows[file.day] += file.rows
        return rows

    @cached_property
    def _stored_files(self) -> Sequence[StoredFile]:
        if self.delta is None:
            return []
        actions = pa.table(self.delta.get_add_actions(flatten=True)).to_pylist()
        # Not `file_uris()`: it percent-encodes the table's own folder, and DuckDB takes paths literally.
        return sorted(
            StoredFile(
                f"{self.location}/{action['path']}",
                action.get(f"partition.{self.table.partitioned_by}"),
                action["num_records"],
                action["size_bytes"],
            )
            for action in actions
        )

    def query(self, partitions: Iterable[Partition] | None = None) -> str:
        """A SELECT of this version's rows, all of them or those of some partitions."""
        return parquet_scan_sql(
            self.table, self.stored_files(partitions), some_lack_columns=not self._was_made_with_all_columns()
        )

    def _was_made_with_all_columns(self) -> bool:
        return set(self.table.column_names) <= set(self._property(MADE_WITH).split(","))

    @property
    def built_by(self) -> str:
        """The fingerprint of the code that built all of its days; empty when no such code is known."""
        return self._property(BUILT_BY)

    def _property(self, name: str) -> str:
        return "" if self.delta is None else str(self.delta.metadata().configuration.get(name, ""))

    def rows(self, partitions: Iterable[Partition] | None = None) -> pa.Table:
        """This version's rows in the table's schema and key order, all of them or those of some partitions.

        Raises:
            Damaged: They cannot be read, or hold a null where none may be.
        """
        with Connection() as connection:
            rows = connection.rows(f"{self.query(partitions)} order by {key_columns(self.table)}")
        try:
            return rows.cast(self.table.schema)
        except ValueError as error:
            raise Damaged(f"What {self.table.name} holds could not be read", str(error)) from None

    def readable_days(self, columns: str, days: Iterable[date]) -> list[date]:
        """The days of which DuckDB can read these columns, oldest first.

        Args:
            columns: Their names, as a SELECT lists them.
            days: Stored days to look at.
        """
        readable = []
        for day in sorted(days):
            with Connection() as connection, suppress(Damaged):
                connection.create_table("looked_at", f"select {columns} from ({self.query([day])})")  # noqa: S608 - our own names
                readable.append(day)
        return readable

    def changed_days(self, rows: pa.Table, days: Sequence[date]) -> set[date]:
        """Of some days those that hold anything but `rows`, or hold them in a file that is not sound.

        Args:
            rows: Rows of those days, in the table's schema.
            days: The days to look at.
        """
        held = {file.day for file in self.stored_files() if file.day in days}
        if len(held) < len(days):
            # Nothing is stored of the others: there is nothing to compare.
            new = set(pc.unique(rows.column("day")).to_pylist()) - held
            compared = sorted(day for day in held if day)
            return new | (self.changed_days(of_days(rows, compared), compared) if compared else set())
        try:
            with Connection() as connection:
                connection.register("new", rows)
                connection.create_view("stored", self.query(days))
                others = set(connection.rows(_CHANGED_DAYS).column("day").to_pylist())
        except Damaged:
            if len(days) == 1:
                return set(days)
            return set().union(*(self.changed_days(of_days(rows, [day]), [day]) for day in days))
        files = [file for file in self.stored_files() if file.day in days and file.day not in others]
        # guard: damage: a file no reader takes, when made again
        #   | {f.day for f in files if f.day and not self._day_equals_stored(of_days(rows, [f.day]), f.day)} -> set()
        return others | {f.day for f in files if f.day and not self._day_equals_stored(of_days(rows, [f.day]), f.day)}

    def equals_stored(self, rows: pa.Table, *, in_key_order: bool = False) -> bool:
        """True when an unpartitioned table is just these rows and its files are valid.

        Args:
            rows: Rows in the table's schema and key order.
            in_key_order: Whether they must be stored in that order, too.
        """
        files = self.stored_files()
        if self.delta is None or sum(file.rows for file in files) != rows.num_rows:
            return False
        try:
            # First by what costs least and mostly suffices; last by both readers, one after the other.
            narrow = [narrow_columns(self.table, file) for file in files] if in_key_order else []
            if narrow and not pa.concat_tables(narrow).equals(rows.select(narrow[0].column_names)):
                return False
            stored = self._by_arrow(files)
            # guard: order: right rows in another order, taken for wrong ones
            #   | (not in_key_order and sorted_by_key(self.table, stored).equals(rows)) -> False
            are_stored = stored.equals(rows) or (not in_key_order and sorted_by_key(self.table, stored).equals(rows))
            return bool(are_stored and self.rows().equals(rows))
        except Damaged:
            return False

    def _day_equals_stored(self, rows: pa.Table, day: date) -> bool:
        """True when Arrow reads just these rows in the files of a day, in any order, and they are sound."""
        try:
            stored = self._by_arrow([file for file in self.stored_files() if file.day == day])
        except Damaged:
            return False
        return bool(stored.equals(rows) or sorted_by_key(self.table, stored).equals(sorted_by_key(self.table, rows)))

    def _by_arrow(self, files: Iterable[StoredFile]) -> pa.Table:
        return pa.concat_tables([self.table.schema.empty_table(), *(rows_by_arrow(self.table, f) for f in files)])


def of_days(rows: pa.Table, days: Sequence[date]) -> pa.Table:
    """The rows of some days."""
    wanted = pc.is_in(rows.column("day"), pa.array(days, pa.date32()))
    # Mostly all are, and copying long texts takes longer than making them did.
    # guard: days that were not asked for, left out | .filter(wanted)
    return rows if pc.all(wanted).as_py() else rows.filter(wanted)


def sorted_by_key(table: Table, rows: pa.Table) -> pa.Table:
    """The rows in the order of their key."""
    order = pc.sort_indices(rows, table.key_order)
    # Mostly they are: see `of_days`.
    # guard: the order of rows in a file | .take(order)
    return rows if order.equals(pa.array(range(rows.num_rows), pa.uint64())) else rows.take(order)


def key_columns(table: Table) -> str:
    """The key of a table, as `order by` takes it."""
    return ", ".join(f'"{name}"' for name in table.key)
