"""Tables in Delta: one snapshot to read, one commit to replace days or a whole table."""

import errno
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from pyarrow import fs

from devin_pipeline.billing_calendar import BILLING_HOUR
from devin_pipeline.lake import erasure, provenance
from devin_pipeline.lake.atomic import write_file
from devin_pipeline.lake.bill_notes import (
    BillNote,
    ReportClock,
    note_bill,
    read_bill_note,
    read_report_clock,
    set_report_clock,
)
from devin_pipeline.lake.commits import CONFIGURATION, Commit, Rewrite, create_table, predicate, without_descriptions
from devin_pipeline.lake.connection import Connection, QueryLimits, named_in, named_view_sql
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
from devin_pipeline.lake.file_integrity import StoredFile
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
from devin_pipeline.lake.location import absolute_location, has_scheme, require_folders, require_storage
from devin_pipeline.lake.organizations import note_organizations, read_organizations
from devin_pipeline.lake.parquet_options import writer_properties
from devin_pipeline.lake.provenance import Inputs
from devin_pipeline.lake.snapshot import BUILT_BY, Snapshot, of_days, sorted_by_key
from devin_pipeline.tables import ALL_TABLES, Partition, Table
from devin_pipeline.tables.views import NamedView, named_views_over

Result = TypeVar("Result")

DOCUMENTS = "documents"
"""The folder of what people look at that is made from the tables."""

_TRIES = 6
_SECONDS_UNTIL_A_COMMIT = 3600


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
    """What distinguishes a version's entry in a log from any other; None when it is missing or not the last."""
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
        self.uri = absolute_location(uri)

    def require_identity(self, identity: LakeIdentity) -> None:
        """Refuse a lake that belongs to another identity, or whose folder cannot be written; writes nothing itself.

        Raises:
            WrongLake: It belongs to another kind, host, scope or day hour.
            UnusableLocation: It is not a folder, or none that this user may write to.
        """
        self._require_usable(os.W_OK | os.X_OK)
        require_identity(self.uri, identity)

    def require_readable(self) -> None:
        """Refuse a lake that is there and cannot be looked into, before anything takes it for an empty one.

        Raises:
            UnusableLocation: It is not a folder, a link to what is not there, or this user may not look into it.
            NotRead: The storage cannot be reached.
        """
        self._require_usable(os.X_OK)

    def _require_usable(self, mode: int) -> None:
        if has_scheme(self.uri):
            require_storage(self.uri)
        else:
            # Now, not after everything was read from the API and cannot be stored.
            require_folders(self.uri, [Path(self.location(table)) for table in ALL_TABLES], mode)

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
        if has_scheme(self.uri):
            return None
        return next(folder for folder in (Path(self.uri), *Path(self.uri).parents) if folder.exists())

    @property
    def identity(self) -> LakeIdentity | None:
        """Whose lake it is; None before its first run."""
        return read_identity(self.uri)

    @property
    def day_starts_at_utc_hour(self) -> int:
        """Hour of the UTC day at which a billing day starts here; Devin's own in a lake nobody has written yet."""
        identity = self.identity
        return BILLING_HOUR if identity is None else identity.day_starts_at_utc_hour

    def erasure_list(self) -> ErasureList:
        """The persons to be erased from whatever is stored or read."""
        return read_erasure_list(self.uri)

    def add_to_erasure_list(self, persons: Iterable[Person]) -> ErasureList:
        """Put users and sessions on the erasure list; what is stored of them is still to be redacted."""
        return add_to_erasure_list(self.uri, persons)

    def unchecked(self, snapshot: Snapshot, erasure_list: ErasureList) -> list[Unchecked]:
        """Which files of a version are still to be checked against which entries of the erasure list."""
        return erasure.unchecked(self.uri, snapshot.table.name, snapshot.stored_files(), erasure_list)

    def note_checked(self, table: Table, files: Iterable[StoredFile], erasure_list: ErasureList) -> None:
        """Note which files of a table, and no others, were checked against the erasure list.

        Raises:
            NotWritten: The disk is full, read-only or broken.
        """
        erasure.note_checked(self.uri, table.name, files, erasure_list)

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
        """A connection with one view per table, each over one snapshot; with `days`, over those days only.

        It has the views with names, too, of which all tables are there.
        """
        connection, names = Connection(remembers_footers=True), set()
        for table in tables:
            connection.create_view(table.name, self.cached_snapshot(table).query(days))
            names.add(table.name)
        self._create_named_views(connection, named_views_over(names))
        return connection

    def _create_named_views(self, connection: Connection, views: Sequence[NamedView]) -> None:
        # Read only if there are any.
        hour = self.day_starts_at_utc_hour if views else BILLING_HOUR
        for view in views:
            connection.create_view(view.name, named_view_sql(view, hour))

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
        named = named_in(query)
        snapshots = [self.snapshot(table) for table in named.tables]
        with Connection.sandboxed((file for snapshot in snapshots for file in snapshot.files()), limits) as connection:
            for snapshot in snapshots:
                connection.create_view(snapshot.table.name, snapshot.query())
            self._create_named_views(connection, named.views)
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
            Damaged: `work` could not read them, though they did not change.
        """
        for _ in range(tries):
            read = [self.cached_snapshot(table).files(days) for table in inputs]
            try:
                result = work()
            except Damaged:
                # An erasure deletes the files of older versions; those of a newest one stay, and are damaged.
                # guard: files that an erasure deletes meanwhile | != [ -> == [
                if read != [self.cached_snapshot(table).files(days) for table in inputs]:
                    continue
                raise
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
        """The days of `inputs` that do not hold, intact, what this code made of just these inputs."""
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

    def write_document(self, name: str, content: bytes, what: str) -> str:
        """Store a document about the rows, over the one that is there; give its path or URI.

        Args:
            name: Its file.
            content: All it holds.
            what: What it is, for a person.

        Raises:
            NotWritten: The disk is full, read-only or broken; the document that was there stays.
        """
        write_file(self.uri, f"{DOCUMENTS}/{name}", content, what)
        return self.document_uri(name)

    def document_uri(self, name: str) -> str:
        """The path or URI of such a document, whether or not it is stored."""
        return f"{self.uri}/{DOCUMENTS}/{name}"

    def has_document(self, name: str) -> bool:
        """Whether such a document is stored."""
        filesystem, path = fs.FileSystem.from_uri(self.uri)
        return bool(filesystem.get_file_info(f"{path}/{DOCUMENTS}/{name}").type == fs.FileType.File)

    def delete_documents(self) -> None:
        """Delete all such documents: what they show of persons is to be gone.

        Raises:
            NotWritten: They cannot be deleted.
        """
        filesystem, path = fs.FileSystem.from_uri(self.uri)
        # Not their folder: another process may be writing into it.
        with written(DOCUMENTS):
            for file in filesystem.get_file_info(fs.FileSelector(f"{path}/{DOCUMENTS}", allow_not_found=True)):
                with suppress(FileNotFoundError):
                    filesystem.delete_file(file.path)

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

    def bill_note(self, table: Table) -> BillNote:
        """What was refused, or shrank, of what a raw table of the bill asks for."""
        return read_bill_note(self.uri, table.name)

    def note_bill(self, table: Table, asked: Iterable[str], new: BillNote) -> None:
        """Note what a read of the bill, or of the lists, came to.

        Args:
            table: The raw table.
            asked: What was asked for.
            new: What is to be known of that from now on.

        Raises:
            NotWritten: The disk is full, read-only or broken.
        """
        note_bill(self.uri, table.name, frozenset(asked), new)

    def report_clock(self) -> ReportClock:
        """As of when, and by which settings, the reports of money are made."""
        return read_report_clock(self.uri)

    def set_report_clock(self, clock: ReportClock) -> None:
        """Have the reports of money made as of that, from now on.

        Raises:
            NotWritten: The disk is full, read-only or broken.
        """
        set_report_clock(self.uri, clock)

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
                _keep_open(
                    Snapshot(table, self.location(table), create_table(table, self.location(table), {BUILT_BY: code}))
                )
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
                snapshot.delta.alter.set_table_properties({BUILT_BY: code}, raise_if_not_exists=False)
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
                version = self._overwrite(snapshot, change.rows, predicate(table, partitions))
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
        """Make `rows` all there is of `days`, in one commit; days that hold just these rows, intact, are left alone.

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
        if others := set(rows.column("day").unique().to_pylist()) - set(days):
            raise ValueError(f"{table.name}: rows of days that are not to be replaced: {sorted(map(str, others))}")

        def changed_days(snapshot: Snapshot) -> Rewrite | None:
            held = {file.day for file in snapshot.stored_files(days)} | set(pc.unique(rows.column("day")).to_pylist())
            changed = sorted(snapshot.changed_days(rows, days)) if compares else [day for day in days if day in held]
            return Rewrite(changed, sorted_by_key(table, of_days(rows, changed))) if changed else None

        return self.rewrite(table, changed_days)

    def replace_all(self, table: Table, rows: pa.Table) -> Commit:
        """Make `rows` all there is of an unpartitioned table; nothing is written when it holds just these, intact."""
        rows = rows.cast(table.schema)
        for conflicts in range(_TRIES):
            compared = self.cached_snapshot(table)
            if compared.equals_stored(rows, in_key_order=True):
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
        """Delete every file of a table that its newest version does not name, and what its log holds of rows.

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
        if not CONFIGURATION.items() <= delta.metadata().configuration.items():
            # Made before `CONFIGURATION`: the log has least and greatest values of text columns.
            delta.alter.set_table_properties(CONFIGURATION | {"delta.logRetentionDuration": "interval 0 days"})
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

    def _overwrite(self, snapshot: Snapshot, rows: pa.Table, predicate: str | None) -> int:
        with written(snapshot.table.name):
            # guard: two writers of one day | .delta -> .delta and DeltaTable(snapshot.location)
            delta = snapshot.delta
            if delta is None:
                delta = create_table(snapshot.table, snapshot.location)
                if delta.version() > 0:
                    raise CommitFailedError("another writer was the first one")
            # Writing to the DeltaTable that was read, not to its path, is what lets Delta notice another writer.
            write_deltalake(
                delta,
                without_descriptions(rows),
                mode="overwrite",
                predicate=predicate,
                schema_mode="merge",
                writer_properties=writer_properties(snapshot.table, rows),
            )
            # Writing has moved it on to the version it made.
            _keep_open(Snapshot(snapshot.table, snapshot.location, delta))
            # guard: lost versions: noted after a commit
            self._note_version(snapshot.table, delta.version())
            return delta.version()


def _is_older(version: int | None, other: int | None) -> bool:
    return other is not None and (version is None or version < other)


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
