"""Tables in Delta: one snapshot to read, one commit to replace days or a whole table."""

import errno
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import ColumnProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from pyarrow import fs

from devin_pipeline.lake import erasure, provenance
from devin_pipeline.lake.connection import Connection, QueryLimits, parquet_scan_sql, quoted, tables_in
from devin_pipeline.lake.delta_log import (
    add_entry_of_checkpoint,
    broken_log,
    clear_lost_checkpoint,
    lacks_entry,
    names_lost_checkpoint,
    partition_of_path,
    remove_empty_entry,
    versions_lost,
)
from devin_pipeline.lake.erasure import Unchecked, Unfinished
from devin_pipeline.lake.erasure_list import ErasureList, Person, add_to_erasure_list, read_erasure_list
from devin_pipeline.lake.errors import Damaged, NotRead, TooManyConflicts, UnusableLocation, not_read, readable, written
from devin_pipeline.lake.file_integrity import StoredFile, narrow_columns, rows_by_arrow
from devin_pipeline.lake.identity import LakeIdentity, claim, read_identity, require_identity
from devin_pipeline.lake.last_reads import (
    LastReads,
    note_read,
    note_updates_missed,
    read_last_reads,
    read_updates_missed_until,
)
from devin_pipeline.lake.last_versions import note_last_version, read_last_version
from devin_pipeline.lake.linked_days import Links, note_links, read_links
from devin_pipeline.lake.organizations import note_organizations, read_organizations
from devin_pipeline.lake.provenance import Inputs
from devin_pipeline.tables import ALL_TABLES, Partition, Table

Result = TypeVar("Result")

_TRIES = 6
_SECONDS_UNTIL_A_COMMIT = 3600
_CHANGED_DAYS = """
    select distinct day from (
        (from new except all from stored) union all (from stored except all from new)
    )
"""
# A file with fewer bytes per column is a thin one. There zstd's start, 60 µs a column, takes as long as all else does,
# and a dictionary, a page more for each, saves nothing.
_THIN = 40_000
# Values this long are rarely equal, and a dictionary of them is thrown away once it is full.
_TOO_LONG_FOR_A_DICTIONARY = 256
# DuckDB's threads share a file out by its row groups, and long texts, payloads most of all, are work enough to share.
_LONG_ROWS_OF_A_GROUP = 1_024
# Least and greatest values of a text column would leave pieces of prompts in the log, where no vacuum reaches.
# guard: pieces of text in the log | "delta.dataSkippingNumIndexedCols": "0"
_CONFIGURATION: dict[str, str] = {"delta.dataSkippingNumIndexedCols": "0"}
# Of the log's entries behind the last checkpoint each costs half a millisecond whenever the table is opened.
_CHECKPOINT_INTERVAL = "20"
# All of ASCII was tried. Delta panics at some, splits or decodes others, and DuckDB expands what looks like a pattern.
_NOT_IN_A_PATH = re.compile(r"[\x00-\x1f%*?\[\\\]^|\x7f]")
# Arrow takes what RFC 3986 has in a path, and each library decodes for itself what is encoded.
_NOT_IN_A_URI = re.compile(r"[^A-Za-z0-9\-._~!$&'()+,;=:@/]")
# Names a folder as it is; anything else, Delta would encode.
_PARTITION = re.compile(r"[A-Za-z0-9_.-]+")
_SET_LAKE = "Set DEVIN_LAKE to a folder of yours"
# The columns a table was made with, which every file of it has.
_MADE_WITH = "devin.columns"
# The fingerprint of the code that built all days of a table; empty while days of several stand next to each other.
_BUILT_BY = "devin.codeFingerprint"


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
        return set(self.table.column_names) <= set(self._property(_MADE_WITH).split(","))

    @property
    def built_by(self) -> str:
        """The fingerprint of the code that built all of its days; empty when no such code is known."""
        return self._property(_BUILT_BY)

    def _property(self, name: str) -> str:
        return "" if self.delta is None else str(self.delta.metadata().configuration.get(name, ""))

    def rows(self, partitions: Iterable[Partition] | None = None) -> pa.Table:
        """This version's rows in the table's schema and key order, all of them or those of some partitions.

        Raises:
            Damaged: They cannot be read, or hold a null where none may be.
        """
        with Connection() as connection:
            rows = connection.rows(f"{self.query(partitions)} order by {_key(self.table)}")
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
            return new | (self.changed_days(_of_days(rows, compared), compared) if compared else set())
        try:
            with Connection() as connection:
                connection.register("new", rows)
                connection.create_view("stored", self.query(days))
                others = set(connection.rows(_CHANGED_DAYS).column("day").to_pylist())
        except Damaged:
            if len(days) == 1:
                return set(days)
            return set().union(*(self.changed_days(_of_days(rows, [day]), [day]) for day in days))
        files = [file for file in self.stored_files() if file.day in days and file.day not in others]
        # guard: damage: a file no reader takes, when made again
        #   | {f.day for f in files if f.day and not self._holds(_of_days(rows, [f.day]), f.day)} -> set()
        return others | {f.day for f in files if f.day and not self._holds(_of_days(rows, [f.day]), f.day)}

    def holds(self, rows: pa.Table, *, in_key_order: bool = False) -> bool:
        """True when an unpartitioned table is just these rows and its files are valid.

        Args:
            rows: Rows in the table's schema and key order.
            in_key_order: Whether they must be stored in that order, too.
        """
        files = self.stored_files()
        if self.delta is None or sum(file.rows for file in files) != rows.num_rows:
            return False
        try:
            # First by what costs least, and mostly tells the two apart; last by both readers, one after the other.
            narrow = [narrow_columns(self.table, file) for file in files] if in_key_order else []
            if narrow and not pa.concat_tables(narrow).equals(rows.select(narrow[0].column_names)):
                return False
            stored = self._by_arrow(files)
            # guard: order: right rows in another order, taken for wrong ones
            #   | (not in_key_order and _in_order(self.table, stored).equals(rows)) -> False
            are_stored = stored.equals(rows) or (not in_key_order and _in_order(self.table, stored).equals(rows))
            return bool(are_stored and self.rows().equals(rows))
        except Damaged:
            return False

    def _holds(self, rows: pa.Table, day: date) -> bool:
        """True when Arrow reads just these rows in the files of a day, in any order, and they are sound."""
        try:
            stored = self._by_arrow([file for file in self.stored_files() if file.day == day])
        except Damaged:
            return False
        return bool(stored.equals(rows) or _in_order(self.table, stored).equals(_in_order(self.table, rows)))

    def _by_arrow(self, files: Iterable[StoredFile]) -> pa.Table:
        return pa.concat_tables([self.table.schema.empty_table(), *(rows_by_arrow(self.table, f) for f in files)])


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


class _Opened(NamedTuple):
    """A snapshot, and the last entry of its log: another one there, or one after it, is another version."""

    snapshot: Snapshot
    version: int
    entry: object


_opened: dict[str, _Opened] = {}
# The last version of each raw table as this process has read or written it.
_noted: dict[str, int | None] = {}


def _keep_open(snapshot: Snapshot) -> None:
    version = snapshot.version
    entry = None if version is None else _entry(snapshot.location, version)
    if version is not None and entry is not None:
        _opened[snapshot.location] = _Opened(snapshot, version, entry)


def _entry(location: str, version: int) -> object:
    """What tells the entry of a version in a table's log from any other; None when it is missing or not the last."""
    with readable(f"{location}/_delta_log"):
        filesystem, path = fs.FileSystem.from_uri(location)
        entry, next_entry = filesystem.get_file_info(
            [f"{path}/_delta_log/{number:020}.json" for number in (version, version + 1)]
        )
    is_last = entry.type == fs.FileType.File and next_entry.type == fs.FileType.NotFound
    return (entry.mtime_ns, entry.size) if is_last else None


class Lake:
    """Delta tables below one folder or object-store URI.

    Raises:
        UnusableLocation: The path has a character that Delta or DuckDB does not take as it is.
    """

    _takes_raw_as_stored = False

    def __init__(self, uri: str) -> None:
        is_uri = _has_scheme(uri)
        try:
            self.uri = uri if is_uri else str(Path(uri).expanduser().absolute())
            self.uri.encode()
        except RuntimeError:
            raise _unusable(uri, "its ~ names a user whose home is not known") from None
        except UnicodeError:
            raise _unusable(uri, "its name is not UTF-8") from None
        # guard: a path that a library takes for another
        #   | (_NOT_IN_A_URI if is_uri else _NOT_IN_A_PATH).findall(self.uri)
        if unusable := set((_NOT_IN_A_URI if is_uri else _NOT_IN_A_PATH).findall(self.uri)):
            characters = " or ".join(map(_shown, sorted(unusable)))
            raise _unusable(self.uri, f"Delta or DuckDB does not take {characters} in a path as it is")

    def require_identity(self, identity: LakeIdentity) -> None:
        """Refuse a lake that belongs to another identity, or whose folder cannot be written; writes nothing itself.

        Raises:
            WrongLake: It belongs to another kind, host, scope or day hour.
            UnusableLocation: It is no folder, or none that this user may write to.
        """
        if _has_scheme(self.uri):
            self._require_storage()
        else:
            self._require_folders(Path(self.uri), os.W_OK | os.X_OK)
        require_identity(self.uri, identity)

    def require_readable(self) -> None:
        """Refuse a lake that is there and cannot be looked into, before anything takes it for an empty one.

        Raises:
            UnusableLocation: It is not a folder, a link to what is not there, or this user may not look into it.
            NotRead: The storage cannot be reached.
        """
        if _has_scheme(self.uri):
            self._require_storage()
        else:
            self._require_folders(Path(self.uri), os.X_OK)

    def _require_storage(self) -> None:
        try:
            with readable(self.uri):
                fs.FileSystem.from_uri(self.uri)
        except ValueError:
            raise UnusableLocation(
                f"The lake cannot lie in {self.uri}", "it is neither a folder nor a storage known here", _SET_LAKE
            ) from None

    def require_writable(self) -> None:
        """Write a small file where the lake lies, or in the nearest folder there is, and remove it again.

        Raises:
            UnusableLocation: It cannot be written, or not removed.
        """
        filesystem, path = fs.FileSystem.from_uri(str(self.nearest_folder or self.uri))
        file = f"{path}/.written-to-see-whether-it-can-be.{uuid4().hex}"
        try:
            try:
                with filesystem.open_output_stream(file) as stream:
                    stream.write(b"This file may be removed.")
            finally:
                # A full disk leaves an empty file behind.
                if filesystem.get_file_info(file).type != fs.FileType.NotFound:
                    filesystem.delete_file(file)
        except OSError as error:
            raise UnusableLocation(
                f"Nothing can be written to {self.uri}",
                f"a small file could not be written and removed again ({os.strerror(error.errno or errno.EIO)})",
                "Give the user who runs the pipeline the right to write there, or free space",
            ) from None

    def claim(self, identity: LakeIdentity) -> None:
        """Make an unwritten lake belong to `identity`; refuse one that belongs to another (see `WrongLake`)."""
        claim(self.uri, identity)

    @property
    def nearest_folder(self) -> Path | None:
        """The lake's folder or the nearest one above it that exists; None in an object store."""
        if _has_scheme(self.uri):
            return None
        return next(folder for folder in (Path(self.uri), *Path(self.uri).parents) if folder.exists())

    @property
    def identity(self) -> LakeIdentity | None:
        """Whose lake it is; None before its first run."""
        return read_identity(self.uri)

    def erasure_list(self) -> ErasureList:
        """Who is to stay forgotten."""
        return read_erasure_list(self.uri)

    def add_to_erasure_list(self, persons: Iterable[Person]) -> ErasureList:
        """Have users and sessions forgotten from now on; what is stored of them is still to be redacted."""
        return add_to_erasure_list(self.uri, persons)

    def unchecked(self, snapshot: Snapshot, forgotten: ErasureList) -> list[Unchecked]:
        """Which files of a version are still to be checked against which entries of the erasure list."""
        return erasure.unchecked(self.uri, snapshot.table.name, snapshot.stored_files(), forgotten)

    def note_checked(self, table: Table, files: Iterable[StoredFile], forgotten: ErasureList) -> None:
        """Note which files of a table, and no others, were checked against the erasure list.

        Raises:
            NotWritten: The disk is full, read-only or broken.
        """
        erasure.note_checked(self.uri, table.name, files, forgotten)

    def erasure_state(self) -> erasure.State:
        """What changes when an erasure begins; empty when the erasure list is, and nothing of it is unfinished."""
        return erasure.state(self.uri)

    def unfinished_erasure(self) -> Unfinished | None:
        """The newest erasure whose old files may remain; None when there is none."""
        return erasure.read_unfinished(self.uri)

    def note_unfinished_erasure(self, unfinished: Unfinished | None) -> None:
        """Note an erasure whose old files may remain, so that later runs delete them; or that there is none.

        Raises:
            NotWritten: The disk is full, read-only or broken.
        """
        erasure.note_unfinished(self.uri, unfinished)

    def location(self, table: Table) -> str:
        """Folder or URI of a table."""
        return f"{self.uri}/{table.name}"

    def snapshot(self, table: Table) -> Snapshot:
        """The newest version of a table.

        Raises:
            VersionsLost: It is a raw table, and older than what was last written to it.
            Damaged: Its log is missing or garbled. Its files without the log are old and new rows mixed.
            NotRead: The system refuses to read its log.
        """
        if table.layer != "raw" or self._takes_raw_as_stored:
            # What is lost of the others is built again.
            return self._open(table)
        location = self.location(table)
        # Read before the log: what was noted was committed before.
        noted = _noted[location] = read_last_version(self.uri, table.name)
        try:
            snapshot = self._open(table)
        except Damaged:
            if noted is None or not names_lost_checkpoint(location):
                raise
            raise versions_lost(table, location, "names a checkpoint that is missing", noted) from None
        # guard: lost versions: a raw table that is older than it was | snapshot.version, noted -> snapshot.version, -1
        if noted is not None and _is_older(snapshot.version, noted):
            end = "is gone" if snapshot.version is None else f"ends at version {snapshot.version}"
            raise versions_lost(table, location, end, noted)
        # guard: lost versions: an emptied newest entry | snapshot.version -> None
        if lacks_entry(location, snapshot.version):
            end = f"has nothing in the entry of version {snapshot.version}"
            raise versions_lost(table, location, end, noted or snapshot.version or 0)
        return snapshot

    def snapshot_to_repair(self, table: Table) -> Snapshot:
        """The newest version of a raw table that its log still has, even if it is older than what was last written.

        Raises:
            Damaged: Its log is missing or garbled.
            NotRead: The system refuses to read its log.
            NotWritten: Its log could not be made one that Delta reads and writes.
        """
        location = self.location(table)
        try:
            snapshot = self._open(table)
        except Damaged:
            if read_last_version(self.uri, table.name) is None or not names_lost_checkpoint(location):
                raise
            clear_lost_checkpoint(location)
            snapshot = self._open(table)
        while snapshot.version is not None and lacks_entry(location, snapshot.version):
            remove_empty_entry(location, snapshot.version)
            older = self._open(table)
            if older.version == snapshot.version:
                add_entry_of_checkpoint(location, snapshot.version)
            snapshot = older
        return snapshot

    @contextmanager
    def raw_as_stored(self) -> Iterator[None]:
        """Inside, raw tables that lack versions are read as they are; they are not to be written."""
        self._takes_raw_as_stored = True
        try:
            yield
        finally:
            self._takes_raw_as_stored = False

    def as_stored(self, table: Table) -> Snapshot:
        """The newest version that the log of a table has, even if it is older than what was last written to it.

        Raises:
            Damaged: Its log is missing, garbled or lacks an entry.
            NotRead: The system refuses to read its log.
        """
        snapshot = self._open(table)
        if table.layer == "raw" and lacks_entry(snapshot.location, snapshot.version):
            raise versions_lost(table, snapshot.location, "lacks its newest entry", snapshot.version or 0)
        return snapshot

    def _open(self, table: Table) -> Snapshot:
        location = self.location(table)
        try:
            return Snapshot(table, location, DeltaTable(location))
        except TableNotFoundError:
            # guard: a table on a volume that is not mounted
            if Path(location).is_symlink():
                why = f"{location} is a link to what is not there; is a volume not mounted?"
                raise NotRead(f"The log of {table.name} cannot be read", why) from None
            with readable(location):
                # guard: damage: files without their log | not _holds_files(location) -> True
                if not _holds_files(location):
                    return Snapshot(table, location, None)
            if DeltaTable.is_deltatable(location):
                # Another run has made it meanwhile, log first.
                return self._open(table)
            raise broken_log(table, location, "it is missing") from None
        except (OSError, DeltaError) as error:
            refusal = not_read(f"The log of {table.name}", error)
            if isinstance(refusal, NotRead):
                raise refusal from None
            why = refusal.why if refusal else str(error).partition("\n")[0][:100]
            raise broken_log(table, location, why) from None

    def is_older(self, snapshot: Snapshot) -> bool:
        """Whether a raw table is older than what was last written to it."""
        return _is_older(snapshot.version, read_last_version(self.uri, snapshot.table.name))

    def accept_version(self, table: Table) -> None:
        """Take what is stored of a raw table now for what was last written to it.

        Raises:
            NotWritten: The disk is full, read-only or broken.
        """
        version = self.snapshot_to_repair(table).version
        note_last_version(self.uri, table.name, version)
        _noted[self.location(table)] = version

    def _keep_note_ahead(self, table: Table, snapshot: Snapshot) -> None:
        """Before a commit to a table that lacks versions: its new versions must not make up for those that are lost."""
        noted = read_last_version(self.uri, table.name)
        if noted is not None and _is_older(snapshot.version, noted):
            note_last_version(self.uri, table.name, noted + 1)

    def _note_version(self, table: Table, version: int | None) -> None:
        """Note what was last written to a raw table, by a run that was killed before it did, too."""
        location = self.location(table)
        if table.layer != "raw" or version is None or not _is_older(_noted.get(location), version):
            return
        if _is_older(read_last_version(self.uri, table.name), version):
            note_last_version(self.uri, table.name, version)
        _noted[location] = version

    def cached_snapshot(self, table: Table) -> Snapshot:
        """The newest version of a table, as `snapshot` gives it, but not opened again while it stays the newest.

        Opening costs as much as reading some days does. Damage to older entries of the log goes unnoticed here.
        """
        location = self.location(table)
        if self._takes_raw_as_stored and table.layer == "raw":
            return self.snapshot(table)
        opened = _opened.get(location)
        # guard: a log that has moved on | and _entry(location, opened.version) == opened.entry
        if opened is not None and _entry(location, opened.version) == opened.entry:
            return opened.snapshot
        snapshot = self.snapshot(table)
        _keep_open(snapshot)
        return snapshot

    def connect(self, tables: Iterable[Table] = ALL_TABLES, *, days: Sequence[date] | None = None) -> Connection:
        """A connection with one view per table, each over one snapshot; with `days`, over those days only."""
        connection = Connection(remembers_footers=True)
        for table in tables:
            connection.create_view(table.name, self.cached_snapshot(table).query(days))
        return connection

    def query(self, query: str) -> pa.Table:
        """The rows of one SELECT over the tables; it reads their newest versions, no other file, and changes nothing.

        Raises:
            NotReadOnly: It is none, several, or one that writes or changes settings.
            QueryFailed: DuckDB could not run it.
        """
        with self.connection_for(query) as connection:
            return connection.query(query)

    @contextmanager
    def connection_for(self, query: str, limits: QueryLimits | None = None) -> Iterator[Connection]:
        """A connection for one SELECT of a person's: of the tables it names and no other file, within limits.

        Raises:
            NotReadOnly: It is none, several, or one that writes or changes settings.
            QueryFailed: It does not parse.
        """
        snapshots = [self.snapshot(table) for table in tables_in(query)]
        with Connection.sandboxed((file for snapshot in snapshots for file in snapshot.files()), limits) as connection:
            for snapshot in snapshots:
                connection.create_view(snapshot.table.name, snapshot.query())
            yield connection

    def readable_days(self, tables: Iterable[Table], days: Sequence[date]) -> list[date]:
        """Of some days those that DuckDB can read in all of these tables: a damaged day need not hold back others."""
        readable = set(days)
        for snapshot in map(self.cached_snapshot, tables):
            stored = readable & set(snapshot.rows_per_day())
            readable -= stored - set(snapshot.readable_days("*", stored))
        return sorted(readable)

    def retry_until_inputs_stable(
        self, inputs: Sequence[Table], days: Sequence[date] | None, work: Callable[[], Result], tries: int = _TRIES
    ) -> Result:
        """Do `work`, and again if another run has written its inputs meanwhile.

        Without this, a slow run could put what it made of an older snapshot over what a faster one made of a newer.

        Args:
            inputs: The tables that `work` reads.
            days: The days of them that it reads; None for all.
            work: Reads the inputs' newest snapshots and commits what it makes of them.
            tries: How often at most.

        Raises:
            TooManyConflicts: The inputs changed each time.
        """
        for _ in range(tries):
            read = [self.cached_snapshot(table).files(days) for table in inputs]
            result = work()
            # guard: inputs that move meanwhile
            #   | read == [self.cached_snapshot(table).files(days) for table in inputs] -> True
            if read == [self.cached_snapshot(table).files(days) for table in inputs]:
                return result
        raise TooManyConflicts(
            "What follows from " + ", ".join(table.name for table in inputs) + " was not made",
            f"other runs wrote them {tries} times in a row",
            "Run it again when they are done",
        )

    def inputs(self, tables: Sequence[Table], days: Sequence[date] | None, links: Links | None = None) -> Inputs:
        """A digest of what each of some days is made of; with None, of what a whole table is made of.

        Args:
            tables: The tables that are read.
            days: The days.
            links: The other days that each is made of too.
        """
        return provenance.digest_of([self.cached_snapshot(table).stored_files() for table in tables], days, links or {})

    def to_rebuild(self, table: Table, inputs: Inputs, code: str) -> list[date | None]:
        """The days of `inputs` that do not soundly hold what this code made of just these inputs."""
        return provenance.to_rebuild(self.uri, table.name, self.cached_snapshot(table).stored_files(), inputs, code)

    def without_provenance(self, snapshot: Snapshot, inputs: Inputs) -> list[date | None]:
        """The stored days of `inputs` of which no note says that just these inputs gave their files."""
        return provenance.without_provenance(self.uri, snapshot.table.name, snapshot.stored_files(), inputs)

    def record_provenance(self, table: Table, inputs: Inputs, code: str) -> None:
        """Note, after a commit, what the days of `inputs` were made of, so that they are not made again.

        Raises:
            NotWritten: The disk is full, read-only or broken.
        """
        provenance.record(self.uri, table.name, self.cached_snapshot(table).stored_files(), inputs, code)

    def invalidate(self, days: Sequence[date]) -> None:
        """Have derived tables of some days, and all reports, built again and compared by the next run over them.

        Raises:
            NotWritten: The disk is full, read-only or broken.
        """
        for table in ALL_TABLES:
            provenance.invalidate(self.uri, table.name, days if table.by_day else None)

    def days_of_other_code(self, table: Table, code: str) -> list[date]:
        """The stored days of a table that are not known to be built by this code, oldest first."""
        return self._of_other_code(self.cached_snapshot(table), code)

    def _of_other_code(self, snapshot: Snapshot, code: str) -> list[date]:
        if snapshot.built_by == code:
            return []
        return provenance.of_other_code(self.uri, snapshot.table.name, snapshot.stored_files(), code)

    def note_read(self, table: Table, days: Sequence[date], at: datetime) -> None:
        """Note that days of a raw table were read whole, and when that began, by the API's clock.

        Raises:
            NotWritten: The disk is full, read-only or broken.
        """
        note_read(self.uri, table.name, days, at)

    def last_reads(self) -> LastReads:
        """When each day of each raw table was last read, as far as that was noted."""
        return read_last_reads(self.uri)

    def organizations(self) -> frozenset[str] | None:
        """The organizations whose sessions the lake holds; None when they were never noted."""
        return read_organizations(self.uri)

    def note_organizations(self, organizations: Iterable[str]) -> None:
        """Note all organizations whose sessions the lake holds.

        Raises:
            NotWritten: The disk is full, read-only or broken.
        """
        note_organizations(self.uri, organizations)

    def links(self) -> Links:
        """Which days have sessions in common, as far as that was noted."""
        return read_links(self.uri)

    def note_links(self, pairs: Iterable[tuple[date, date]]) -> None:
        """Note pairs of days that have sessions in common.

        Raises:
            NotWritten: The disk is full, read-only or broken.
        """
        note_links(self.uri, pairs)

    def note_updates_missed(self, until: datetime) -> None:
        """Note that the updates before an instant were too many to be read.

        Raises:
            NotWritten: The disk is full, read-only or broken.
        """
        note_updates_missed(self.uri, until)

    def updates_missed_until(self) -> datetime | None:
        """The instant before which updates were too many to be read; None when all were read."""
        return read_updates_missed_until(self.uri)

    def begin_to_build(self, table: Table, code: str) -> None:
        """Before days of a table are written: make a new table one that this code builds, and any other one of several.

        Raises:
            NotWritten: The disk is full, read-only or broken.
        """
        built_by = self.cached_snapshot(table).built_by
        if self.cached_snapshot(table).version is None:
            with written(table.name):
                _keep_open(Snapshot(table, self.location(table), self._create(table, {_BUILT_BY: code})))
        # guard: a table of one version that another one writes to
        elif built_by not in ("", code):
            self._set_built_by(table, "")

    def end_of_build(self, table: Table, code: str) -> None:
        """After days of a table were written: note it when this code has built all of them by now.

        Raises:
            NotWritten: The disk is full, read-only or broken.
        """
        snapshot = self.cached_snapshot(table)
        if snapshot.version is not None and snapshot.built_by != code and not self._of_other_code(snapshot, code):
            self._set_built_by(table, code)

    def _set_built_by(self, table: Table, code: str) -> None:
        for _ in range(_TRIES):
            snapshot = self.snapshot(table)
            # Judged on the version that is written over: a process of another version may have written meanwhile.
            if snapshot.delta is None or snapshot.built_by == code or (code and self._of_other_code(snapshot, code)):
                return
            with written(table.name), suppress(CommitFailedError):
                snapshot.delta.alter.set_table_properties({_BUILT_BY: code}, raise_if_not_exists=False)
        raise TooManyConflicts(
            f"{table.name} was not written",
            f"other runs wrote it {_TRIES} times in a row",
            "Run it again when they are done",
        )

    def rewrite(self, table: Table, plan: Callable[[Snapshot], Rewrite | None], *, repairs: bool = False) -> Commit:
        """Commit what `plan` makes of the newest snapshot, planning again when another writer was faster.

        Args:
            table: The table.
            plan: From a snapshot to the partitions to replace and all their rows; None leaves the table as it is.
            repairs: Whether a raw table may be older than what was last written to it.

        Raises:
            TooManyConflicts: Another writer was faster six times in a row.
            NotWritten: The disk is full, read-only or broken.
        """
        for conflicts in range(_TRIES):
            planned_from = self.snapshot_to_repair(table) if repairs else self.cached_snapshot(table)
            change = plan(planned_from)
            if change is None or not change.partitions:
                # guard: lost versions: noted after a run was killed before it could
                self._note_version(table, planned_from.version)
                return Commit(table, None, [], conflicts)
            # Opened again, since writing moves a snapshot on, and others may read the one that was planned from.
            snapshot = self.snapshot_to_repair(table) if repairs else self.snapshot(table)
            # guard: another writer between plan and commit
            if snapshot.version != planned_from.version:
                continue
            if repairs:
                self._keep_note_ahead(table, snapshot)
            partitions = sorted(set(change.partitions), key=str)
            try:
                version = self._overwrite(snapshot, change.rows, _predicate(table, partitions))
            except CommitFailedError:
                continue
            if repairs:
                # The next reader opens it again, which shows whether versions are lost.
                _opened.pop(snapshot.location, None)
            return Commit(table, version, partitions, conflicts)
        raise TooManyConflicts(
            f"{table.name} was not written",
            f"other runs wrote the same days {_TRIES} times in a row",
            "Run it again when they are done",
        )

    def replace_days(self, table: Table, days: Sequence[date], rows: pa.Table, *, compares: bool = True) -> Commit:
        """Make `rows` all there is of `days`, in one commit; days that soundly hold just these rows are left alone.

        Args:
            table: The table, partitioned by day.
            days: The days to replace, in any order; a day without rows becomes empty.
            rows: Rows of those days only, in the table's columns and key order.
            compares: False to write all days that are stored or have rows, without a look at what they hold.

        Raises:
            ValueError: A row lies outside the days, or is null where none may be.
            TooManyConflicts: Another writer was faster six times in a row.
            NotWritten: The disk is full, read-only or broken.
        """
        rows = rows.cast(table.schema)
        if strays := set(rows.column("day").unique().to_pylist()) - set(days):
            raise ValueError(f"{table.name}: rows of days that are not to be replaced: {sorted(map(str, strays))}")

        def changed_days(snapshot: Snapshot) -> Rewrite | None:
            held = {file.day for file in snapshot.stored_files(days)} | set(pc.unique(rows.column("day")).to_pylist())
            changed = sorted(snapshot.changed_days(rows, days)) if compares else [day for day in days if day in held]
            return Rewrite(changed, _in_order(table, _of_days(rows, changed))) if changed else None

        return self.rewrite(table, changed_days)

    def replace_all(self, table: Table, rows: pa.Table) -> Commit:
        """Make `rows` all there is of an unpartitioned table; nothing is written when it soundly holds just these."""
        rows = rows.cast(table.schema)
        for conflicts in range(_TRIES):
            compared = self.cached_snapshot(table)
            if compared.holds(rows, in_key_order=True):
                return Commit(table, None, [], conflicts)
            snapshot = self.snapshot(table)
            if snapshot.version != compared.version:
                continue
            # Delta sees no conflict between two writers of an empty table, and would keep the rows of both.
            expected = 1 if snapshot.version is None else snapshot.version + 1
            with suppress(CommitFailedError):
                # guard: two writers of one report | == expected
                if self._overwrite(snapshot, rows, None) == expected:
                    return Commit(table, expected, [], conflicts)
        raise TooManyConflicts(
            f"{table.name} was not written",
            f"other runs wrote it {_TRIES} times in a row",
            "Run it again when they are done",
        )

    def purge(
        self,
        table: Table,
        *,
        partitions: Sequence[Partition] | None = None,
        at_once: bool = True,
        spent: Collection[str] = (),
    ) -> list[str]:
        """Delete every file of a table that its newest version does not name, and what its log tells of rows.

        Who still reads an older version gets an error. Files that no version has named may be another writer's, about
        to be committed, so they stay for an hour.

        Args:
            table: The table.
            partitions: Only the files of these.
            at_once: False to let files of older versions stay for an hour, too.
            spent: Files that no writer is about to commit, though no version that is known has named them.

        Returns:
            The files that stay because they are not an hour old.
        """
        snapshot = self.as_stored(table)
        # What is lost of a table may be in files that its log does not know; `--repair` looks for it there.
        lacks_versions = table.layer == "raw" and self.is_older(snapshot)
        delta = snapshot.delta
        if delta is None:
            return []
        # Delta's own deletion would be two more versions each time, and passes over files it did not finish writing.
        once_named = _once_named(delta) | {path.rpartition("/")[2] for path in spent}
        left = []
        with written(table.name):
            filesystem, _ = fs.FileSystem.from_uri(self.location(table))
            for file in self.unnamed_files(table, partitions):
                is_old = file.mtime_ns < (time.time() - _SECONDS_UNTIL_A_COMMIT) * 1e9 and not lacks_versions
                if is_old or (at_once and file.base_name in once_named):
                    with suppress(FileNotFoundError):
                        filesystem.delete_file(file.path)
                else:
                    left.append(file.path)
        if not _CONFIGURATION.items() <= delta.metadata().configuration.items():
            # Made before `_CONFIGURATION`: the log tells least and greatest values of text columns.
            delta.alter.set_table_properties(_CONFIGURATION | {"delta.logRetentionDuration": "interval 0 days"})
            delta.create_checkpoint()
            delta.cleanup_metadata()
            delta.alter.set_table_properties({"delta.logRetentionDuration": "interval 30 days"})
        return left

    def unnamed_files(self, table: Table, partitions: Sequence[Partition] | None = None) -> list[fs.FileInfo]:
        """The files in a table's folder, or those of some partitions, that its newest version does not name."""
        with readable(self.location(table)):
            filesystem, path = fs.FileSystem.from_uri(self.location(table))
            found = filesystem.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
        # Asked after the listing: what was committed in between is named.
        named = {file.rpartition("/")[2] for file in self.as_stored(table).files()}
        return [
            file
            for file in found
            if file.type == fs.FileType.File
            and file.base_name not in named
            and not file.path.startswith(f"{path}/_delta_log/")
            and (partitions is None or partition_of_path(table, file.path) in partitions)
        ]

    def files_of_unfinished_writes(self, table: Table) -> list[fs.FileInfo]:
        """The files in a table's folder that no version of it has named."""
        delta = self.snapshot(table).delta
        once_named = set() if delta is None else _once_named(delta)
        return [file for file in self.unnamed_files(table) if file.base_name not in once_named]

    def old_files(self, table: Table) -> list[StoredFile]:
        """The Parquet files in the folder of a table that its newest version does not name."""
        return [
            StoredFile(f"{self.location(table)}/{file.path.partition(f'/{table.name}/')[2]}", partition, 0, file.size)
            for file in self.unnamed_files(table)
            if file.base_name.endswith(".parquet")
            and ((partition := partition_of_path(table, file.path)) is None) == (table.partitioned_by is None)
        ]

    def _require_folders(self, lake: Path, mode: int) -> None:
        # Now, not after everything was read from the API and cannot be stored.
        try:
            why = _why_not_usable(lake, [Path(self.location(table)) for table in ALL_TABLES], mode)
        except OSError as error:
            why = f"{error.filename} cannot be looked at ({os.strerror(error.errno or errno.EIO)})"
        if why:
            raise UnusableLocation(f"The lake cannot lie in {self.uri}", why, _SET_LAKE)

    def _overwrite(self, snapshot: Snapshot, rows: pa.Table, predicate: str | None) -> int:
        with written(snapshot.table.name):
            # guard: two writers of one day | .delta -> .delta and DeltaTable(snapshot.location)
            delta = snapshot.delta
            if delta is None:
                delta = self._create(snapshot.table)
                if delta.version() > 0:
                    raise CommitFailedError("another writer was the first one")
            # Writing to the DeltaTable that was read, not to its path, is what lets Delta notice another writer.
            write_deltalake(
                delta,
                _without_descriptions(rows),
                mode="overwrite",
                predicate=predicate,
                schema_mode="merge",
                writer_properties=_written_as(snapshot.table, rows),
            )
            # Writing has moved it on to the version it made.
            _keep_open(Snapshot(snapshot.table, snapshot.location, delta))
            # guard: lost versions: noted after a commit
            self._note_version(snapshot.table, delta.version())
            return delta.version()

    def _create(self, table: Table, properties: dict[str, str] | None = None) -> DeltaTable:
        location = self.location(table)
        if not _has_scheme(location):
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
                configuration=_CONFIGURATION
                | {_MADE_WITH: ",".join(table.column_names), "delta.checkpointInterval": _CHECKPOINT_INTERVAL}
                | (properties or {}),
                # Or Delta takes no property but its own.
                raise_if_key_not_exists=False,
            )
        return DeltaTable(location)


def _is_older(version: int | None, other: int | None) -> bool:
    return other is not None and (version is None or version < other)


def _without_descriptions(rows: pa.Table) -> pa.Table:
    """Rows as Delta merges them into a table whose columns an older version of the code described otherwise.

    In one batch: Delta's threads write several in whichever order they are done, and the rows lose theirs.
    """
    schema = pa.schema([field.remove_metadata() for field in rows.schema])
    # guard: order: rows that Delta's threads would displace | .combine_chunks()
    return pa.Table.from_arrays(rows.columns, schema=schema).combine_chunks()


def _why_not_usable(lake: Path, tables: Sequence[Path], mode: int) -> str | None:
    # guard: a volume that is not mounted | or folder.is_symlink()
    nearest = next(folder for folder in (lake, *lake.parents) if folder.exists() or folder.is_symlink())
    stored = [] if mode == os.X_OK else [f for table in tables for f in (table, table / "_delta_log") if f.exists()]
    # guard: tables that may not be written | *stored
    for folder in (nearest, *stored):
        if not folder.exists():
            return f"{folder} is a link to what is not there; is a volume not mounted?"
        if not folder.is_dir():
            return f"{folder} is no folder"
        if not os.access(folder, mode):
            return f"you may not {'write to' if mode & os.W_OK else 'look into'} {folder}"
    return None


def _written_as(table: Table, rows: pa.Table) -> WriterProperties:
    files = len(table.partitions_of(rows)) if table.partitioned_by else 1
    are_thin = rows.nbytes < _THIN * files * len(table.columns)
    long = [
        column.name
        for column in table.columns
        if column.type == pa.string()
        and (pc.mean(pc.binary_length(rows.column(column.name))).as_py() or 0) >= _TOO_LONG_FOR_A_DICTIONARY
    ]
    # No index of pages: a flipped bit in it would mislead the readers that use it, and nothing here could tell.
    return WriterProperties(
        max_row_group_size=_LONG_ROWS_OF_A_GROUP if long else None,
        compression="SNAPPY" if are_thin else "ZSTD",
        default_column_properties=ColumnProperties(statistics_enabled="CHUNK", dictionary_enabled=not are_thin),
        column_properties={
            # Nobody looks for a long text by its order, and the least and the greatest are a tenth of a thin file.
            name: ColumnProperties(statistics_enabled="NONE", dictionary_enabled=False)
            for name in long
        },
    )


def _has_scheme(uri: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", uri) is not None


def _unusable(where: str, why: str) -> UnusableLocation:
    return UnusableLocation(
        f"The lake cannot lie in {_shown(where)}", why, "Set DEVIN_LAKE to a folder of letters, digits, - and _"
    )


def _shown(text: str) -> str:
    if text == " ":
        return "a space"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _holds_files(location: str) -> bool:
    filesystem, path = fs.FileSystem.from_uri(location)
    for _ in range(_TRIES):
        # A writer may move a file of its own into place while the folder is listed.
        with suppress(FileNotFoundError):
            found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
            return any(file.base_name.startswith("day=") or file.base_name.endswith(".parquet") for file in found)
    return True


def _once_named(delta: DeltaTable) -> set[str]:
    """The names of files that older versions of a table name."""
    old = delta.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=True)
    return {path.rpartition("/")[2] for path in old}


def _predicate(table: Table, partitions: Sequence[Partition]) -> str:
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


def _of_days(rows: pa.Table, days: Sequence[date]) -> pa.Table:
    wanted = pc.is_in(rows.column("day"), pa.array(days, pa.date32()))
    # Mostly all are, and copying long texts takes longer than making them did.
    # guard: days that were not asked for, left out | .filter(wanted)
    return rows if pc.all(wanted).as_py() else rows.filter(wanted)


def _in_order(table: Table, rows: pa.Table) -> pa.Table:
    order = pc.sort_indices(rows, table.key_order)
    # Mostly they are: see `_of_days`.
    # guard: the order of rows in a file | .take(order)
    return rows if order.equals(pa.array(range(rows.num_rows), pa.uint64())) else rows.take(order)


def _key(table: Table) -> str:
    return ", ".join(f'"{name}"' for name in table.key)
