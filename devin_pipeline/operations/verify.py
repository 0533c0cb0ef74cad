"""Checks what is stored: logs, files, raw rows, and every derived and report row against a re-derivation.

Reads only, and asks nothing of the API. What repairs it is named as a command; it is done elsewhere. A finding holds
no word of any row.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from devin_pipeline.billing_calendar import contiguous, newest_closed_day
from devin_pipeline.derived import queries as derived
from devin_pipeline.lake import (
    Connection,
    Damaged,
    Lake,
    Links,
    NotRead,
    Snapshot,
    VersionsLost,
    emptied_entries,
    files_in_folder,
    linked_with,
    links_of,
    partition_of_path,
    read_verified,
)
from devin_pipeline.operations.erase import old_files_with_persons, partitions_with_persons
from devin_pipeline.raw.row_integrity import row_problems
from devin_pipeline.raw.sessions.moved_sessions import tombstones_of_pairs
from devin_pipeline.reports import queries as reports
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import (
    ALL_TABLES,
    RAW_SESSION_CONSUMPTION,
    RAW_SESSION_TABLES,
    RAW_TABLES,
    REPORT_TABLES,
    ROLLUP_TABLES,
    SESSION_TABLES,
    SPEND_TABLES,
    TABLES,
    Partition,
    RawTable,
    Table,
)

_DAYS_AT_ONCE = 31
# A null where none may be and a payload that is not JSON raise ValueError.
_DAMAGED_INPUTS = (Damaged, ValueError)
# Rows of a session may lie on each day that it was ever on.
_BY_SESSION = (*RAW_SESSION_TABLES, RAW_SESSION_CONSUMPTION)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        table: The table.
        partition: The day, or another part of a raw table; None for a report, or for the whole table.
        what: What is wrong.
        path: The file or folder; None when rows of intact files are wrong.
        is_of_log: True when the table as a whole cannot be read, and no backfill repairs it.
        needs_rebuild: True when the rows are as they were written, and `rebuild` puts right what they lead to.
        lost_versions: True when a raw table is older than what was last written to it.
        is_of_persons: True when rows of persons on the erasure list are stored.
    """

    table: Table
    partition: Partition
    what: str
    path: str | None = None
    is_of_log: bool = False
    needs_rebuild: bool = False
    lost_versions: bool = False
    is_of_persons: bool = False

    @property
    def day(self) -> date | None:
        """The day; None for anything else than a day of a table."""
        return self.partition if isinstance(self.partition, date) else None


@dataclass
class VerificationReport:
    """What was found, and what could not be checked because its inputs are damaged.

    Attributes:
        findings: What is wrong, nearest to the API first.
        not_checked: Tables and days (None for a report) that were not compared with a re-derivation.
        days: The days looked at.
        stored_days: Every day that is stored.
        any_day: A day to name where `--repair` looks at a whole table, whatever the days.
        files: Files looked at.
        rows: Rows in them.
        changed_during_check: Tables that another run wrote to: what was found of them, or of what follows, may be old.
    """

    findings: list[Finding] = field(default_factory=list)
    not_checked: list[tuple[Table, date | None]] = field(default_factory=list)
    days: list[date] = field(default_factory=list)
    stored_days: list[date] = field(default_factory=list)
    any_day: date = date.min
    files: int = 0
    rows: int = 0
    changed_during_check: list[Table] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """True when nothing is wrong and everything was checked."""
        return not self.findings and not self.not_checked

    def damaged_days(self) -> dict[date, bool]:
        """The days that a backfill repairs, each with whether it must repair (raw, or what seems up to date)."""
        days: dict[date, bool] = {}
        for finding in self.findings:
            is_by_day = finding.table.by_day
            if finding.lost_versions and is_by_day:
                # What they held may be of any day.
                days |= dict.fromkeys(self.stored_days, True)
            # guard: damage of a raw table that is not by day, without a command that repairs it
            if finding.table.layer == "raw" and not is_by_day and not (finding.is_of_log or finding.is_of_persons):
                days[self.any_day] = True
            if finding.day is not None and not (finding.needs_rebuild or finding.is_of_persons):
                must_repair = finding.table.layer == "raw" or finding.path is None
                days[finding.day] = days.get(finding.day, False) or must_repair
        return days

    @property
    def days_to_rebuild(self) -> list[date]:
        """The days that `rebuild` puts right, oldest first."""
        return sorted({finding.day for finding in self.findings if finding.needs_rebuild and finding.day is not None})


def verify(
    lake: Lake,
    hour: int,
    *,
    first: date | None = None,
    last: date | None = None,
    tables: Iterable[Table] = ALL_TABLES,
) -> VerificationReport:
    """Look at everything that is stored, or at some tables and days of it; about a month of days at once.

    Args:
        lake: The lake.
        hour: Hour of the UTC day at which a billing day starts.
        first: Leaves out days before it.
        last: Leaves out days after it.
        tables: The tables to look at. Their inputs are read, but damage of those is named only if it is among
            them. A report is looked at whole, whatever the days.
    """
    return _Verification(lake, hour, list(tables)).run(first or date.min, last or date.max)


class _Verification:
    def __init__(self, lake: Lake, hour: int, tables: Sequence[Table]) -> None:
        self._lake = lake
        self._hour = hour
        self._tables = tables
        self._report = VerificationReport()
        self._snapshots: dict[str, Snapshot] = {}
        self._damaged: set[tuple[str, Partition]] = set()
        self._links: Links = {}
        self._days_in_folders: set[date] = set()

    def run(self, first: date, last: date) -> VerificationReport:
        for table in ALL_TABLES:
            self._open(table)
        # A report by day may have days on which no session was created.
        by_day = [each for each in self._snapshots.values() if each.table not in REPORT_TABLES]
        named = {file.day for snapshot in by_day for file in snapshot.stored_files()}
        self._report.stored_days = sorted(self._days_in_folders | {day for day in named if day is not None})
        self._report.days = [day for day in self._report.stored_days if first <= day <= last]
        self._report.any_day = max(self._report.stored_days, default=newest_closed_day(datetime.now(UTC), self._hour))
        self._links = self._days_sharing_sessions()
        for start in range(0, len(self._report.days), _DAYS_AT_ONCE):
            days = self._report.days[start : start + _DAYS_AT_ONCE]
            for table in self._tables:
                if table.by_day and table not in REPORT_TABLES:
                    self._look_at_files(table, days)
            self._derive(days)
        self._find_sessions_on_several_days()
        for table in self._tables:
            if not table.by_day or table in REPORT_TABLES:
                self._look_at_files(table, None)
            if table in REPORT_TABLES:
                self._compare_report(table)
        # guard: a raw table whose old files verification passes over | RAW_TABLES -> RAW_TABLES[:4]
        for table in RAW_TABLES:
            if table not in self._tables or table.name not in self._snapshots:
                continue
            for path in old_files_with_persons(self._lake, table):
                what = "a file that no version names holds rows of persons on the erasure list"
                self._find_persons(table, partition_of_path(table, path), what, path)
        self._report.findings.sort(key=lambda f: (ALL_TABLES.index(f.table), str(f.partition or "")))
        self._report.changed_during_check = [
            snapshot.table for snapshot in self._snapshots.values() if self._moved(snapshot)
        ]
        return self._report

    def _open(self, table: Table) -> None:
        try:
            snapshot = self._lake.snapshot(table)
            snapshot.stored_files()
        except NotRead:
            # What repairs a damaged log would cost one that is intact.
            # guard: removing a log that only cannot be read now | raise -> return
            raise
        except VersionsLost as error:
            location = self._lake.location(table)
            partitions = files_in_folder(table, location)
            self._days_in_folders |= {partition for partition in partitions if isinstance(partition, date)}
            if table in self._tables:
                self._find(table, None, error.why, location, lost_versions=True)
                with suppress(Damaged):
                    self._look_for_persons(self._lake.as_stored(table), None)
            return
        except Damaged as error:
            if table in self._tables:
                why = f"its log cannot be read: {error.why}"
                self._find(table, None, why, self._lake.location(table), is_of_log=True)
            return
        self._snapshots[table.name] = snapshot
        if table in self._tables:
            for entry in emptied_entries(snapshot.location):
                self._find(table, None, "an entry of its log is empty: a commit is lost", entry, is_of_log=True)

    def _moved(self, snapshot: Snapshot) -> bool:
        try:
            return self._lake.snapshot(snapshot.table).version != snapshot.version
        except Damaged:
            return True

    def _days_sharing_sessions(self) -> Links:
        """The days that have sessions in common, by what raw holds; as far as noted, if that cannot be read."""
        try:
            with Connection() as connection:
                for table in RAW_SESSION_TABLES:
                    connection.create_view(table.name, self._snapshots[table.name].query())
                pairs = derived.days_sharing_sessions(connection)
        except (KeyError, *_DAMAGED_INPUTS):
            return self._lake.links()
        return links_of(pairs)

    def _find_sessions_on_several_days(self) -> None:
        # What is damaged may seem to be on another day.
        damaged = {finding.table for finding in self._report.findings}
        for table in RAW_SESSION_TABLES:
            if table in self._tables and table.name in self._snapshots and table not in damaged:
                days = tombstones_of_pairs(self._snapshots[table.name]).column("day").to_pylist()
                for day, sessions in Counter(days).items():
                    if day in self._report.days:
                        what = f"{sessions} of its sessions, which moved, do not count on exactly one day"
                        self._report.findings.append(Finding(table, day, what, needs_rebuild=True))

    def _find(
        self,
        table: Table,
        partition: Partition,
        what: str,
        path: str | None = None,
        *,
        is_of_log: bool = False,
        lost_versions: bool = False,
    ) -> None:
        needs_rebuild = table in SESSION_TABLES and path is None and partition in self._links
        self._report.findings.append(Finding(table, partition, what, path, is_of_log, needs_rebuild, lost_versions))
        self._damaged.add((table.name, partition))

    def _look_at_files(self, table: Table, days: Sequence[date] | None) -> None:
        """Look at the files of some days, or of a table that is not by day; and at the rows of raw ones."""
        snapshot = self._snapshots.get(table.name)
        if snapshot is None:
            return
        files = snapshot.stored_files(days)
        self._report.files += len(files)
        self._report.rows += sum(file.rows for file in files)
        partitions = {file.partition for file in files}
        # guard: a raw table whose rows verification passes over
        if isinstance(table, RawTable):
            for problem in row_problems(snapshot, partitions, self._hour):
                self._find(table, problem.partition, problem.what, problem.path)
        for file in files if not isinstance(table, RawTable) else ():
            try:
                read_verified(table, file)
            except Damaged as error:
                self._find(table, file.partition, error.why, file.path)
        self._look_for_persons(snapshot, partitions)

    def _look_for_persons(self, snapshot: Snapshot, partitions: Iterable[Partition] | None) -> None:
        for partition, rows in partitions_with_persons(self._lake, snapshot, partitions).items():
            self._find_persons(snapshot.table, partition, f"{rows} rows are of persons on the erasure list")

    def _find_persons(self, table: Table, partition: Partition, what: str, path: str | None = None) -> None:
        self._report.findings.append(Finding(table, partition, what, path, is_of_persons=True))
        if path is None:
            self._damaged.add((table.name, partition))

    def _derive(self, days: Sequence[date]) -> None:
        """Compare the derived tables of some days with what their inputs give."""
        session_tables = [table for table in SESSION_TABLES if table in self._tables]
        if session_tables:

            def create_views(connection: Connection, some: Sequence[date]) -> None:
                derived.create_session_views(connection, some, linked_with(self._links, some))

            self._compare(session_tables, RAW_SESSION_TABLES, days, create_views)
        for table in (*ROLLUP_TABLES, *SPEND_TABLES):
            if table in self._tables:
                self._compare([table], [TABLES[name] for name in table.inputs], days)

    def _compare(
        self,
        tables: Sequence[Table],
        inputs: Sequence[Table],
        days: Sequence[date],
        prepare: Callable[[Connection, Sequence[date]], None] = lambda *_: None,
    ) -> None:
        bad = {
            day
            for table in inputs
            for day in days
            # guard: damage: what follows from it is not blamed
            #   | any(self._is_damaged(table, each) for each in self._built_from(table, [day])) -> False
            if any(self._is_damaged(table, each) for each in self._built_from(table, [day]))
        }
        self._leave(tables, sorted(bad))
        for some in contiguous(day for day in days if day not in bad):
            try:
                made = self._made(tables, inputs, some, prepare)
            except _DAMAGED_INPUTS:
                self._leave(tables, some)
                continue
            for table, rows in made.items():
                self._compare_days(table, rows, some)

    def _made(
        self,
        tables: Sequence[Table],
        inputs: Sequence[Table],
        days: Sequence[date],
        prepare: Callable[[Connection, Sequence[date]], None],
    ) -> Mapping[Table, pa.Table]:
        with Connection() as connection:
            for table in inputs:
                connection.create_view(table.name, self._snapshots[table.name].query(self._built_from(table, days)))
            prepare(connection, days)
            return {table: derived.select(connection, table, days, self._hour) for table in tables}

    def _built_from(self, table: Table, days: Sequence[date]) -> list[date]:
        """The days of an input that rows of some days follow from."""
        return [*days, *(linked_with(self._links, days) if table in _BY_SESSION else [])]

    def _compare_days(self, table: Table, rows: pa.Table, days: Sequence[date]) -> None:
        # Days whose file was named already are not named again.
        intact = [day for day in days if not self._is_damaged(table, day)]
        if table.name not in self._snapshots or not intact:
            return
        of_intact = rows.filter(pc.is_in(rows.column("day"), pa.array(intact, pa.date32())))
        # guard: damage: a derived row unlike its inputs
        #   | sorted(self._snapshots[table.name].changed_days(of_intact, intact)) -> ()
        for day in sorted(self._snapshots[table.name].changed_days(of_intact, intact)):
            inputs = "the session tables" if table in ROLLUP_TABLES else "raw"
            self._find(table, day, f"its rows are not what {inputs} of that day give")

    def _compare_report(self, table: Table) -> None:
        """Compare a report with what the derived tables give."""
        inputs = [TABLES[name] for name in table.inputs]
        names = {each.name for each in inputs}
        if names & {name for name, _ in self._damaged} or not names <= self._snapshots.keys():
            self._leave([table], [None])
            return
        try:
            with Connection() as connection:
                for each in inputs:
                    connection.create_view(each.name, self._snapshots[each.name].query())
                made = reports.select(connection, table, reports.facts(self._lake.report_clock(), self._lake))
        except _DAMAGED_INPUTS:
            # Damage on days that were not asked for is not a finding.
            if len(self._report.days) == len(self._report.stored_days):
                self._leave([table], [None])
            return
        snapshot = self._snapshots.get(table.name)
        is_damaged = any(name == table.name for name, _ in self._damaged)
        # guard: damage: a report unlike its inputs | snapshot.equals_stored(made) -> True
        if snapshot is None or is_damaged or snapshot.equals_stored(made):
            return
        if made.num_rows or snapshot.version is not None:
            self._find(table, None, "its rows are not what the derived tables give")

    def _is_damaged(self, table: Table, day: date) -> bool:
        """True when something is wrong with a day, or with the table as a whole."""
        return table.name not in self._snapshots or not self._damaged.isdisjoint(
            {(table.name, None), (table.name, day)}
        )

    def _leave(self, tables: Sequence[Table], days: Sequence[date | None]) -> None:
        self._report.not_checked += [(table, day) for table in tables for day in days]


def repair_commands(lake: Lake, report: VerificationReport, demo: bool) -> list[str]:
    """What to do about the findings: commands, oldest days first, after what must be done by hand."""
    if report.findings and demo:
        return [pipeline_command("demo")]
    by_hand = []
    days = report.damaged_days()
    for finding in report.findings:
        if finding.is_of_persons:
            by_hand.append(pipeline_command("maintain"))
        elif finding.is_of_log and finding.table.layer == "raw":
            by_hand.append(
                f"restore {lake.location(finding.table)} from a backup: the API may not return all of it again"
            )
        elif finding.is_of_log:
            by_hand.append(f"rm -r {shlex.quote(lake.location(finding.table))}")
            days = dict.fromkeys(report.stored_days, False) | days
        elif finding.day is None and not (days or report.days_to_rebuild):
            # Every run rebuilds reports.
            days = dict.fromkeys(report.stored_days[-1:], False)
    rebuilds = [
        pipeline_command(f"rebuild --from {some[0]} --to {some[-1]}") for some in contiguous(report.days_to_rebuild)
    ]
    commands = [
        pipeline_command(f"backfill --from {some[0]} --to {some[-1]}") + (" --repair" if repair else "")
        for repair in (True, False)
        for some in contiguous(day for day, must_repair in days.items() if must_repair == repair)
    ]
    return [*dict.fromkeys(by_hand), *rebuilds, *commands]
