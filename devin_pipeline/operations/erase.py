"""Takes text and identity out of what is stored, in every version and file; the spend stays.

The erasure list holds for what is stored as well as for what is read: every run begins with `erase`, which finds stored
rows of persons on the list, however they came there, and erases them before anything is built from them. Which parts of
an item are text or identity is known to `raw.redaction`. Derived tables and reports are rebuilt from the erased
versions, not edited. Interrupted and run again, each function goes on.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial

import pyarrow as pa

from devin_pipeline.derived import days_of_other_code
from devin_pipeline.derived.publishing import inputs_of, publish_rollups, publish_session_tables, publish_spend
from devin_pipeline.errors import ValidationFailed
from devin_pipeline.lake import (
    Connection,
    Damaged,
    ErasureList,
    Kind,
    Lake,
    Person,
    Snapshot,
    TooManyConflicts,
    Unfinished,
    VersionsLost,
    write_catalog,
)
from devin_pipeline.raw.erasure import is_to_redact, redact, rows_to_redact
from devin_pipeline.raw.redaction import Redaction
from devin_pipeline.reports.publishing import BuiltByOtherCode, made_of, publish_report
from devin_pipeline.tables import (
    ALL_TABLES,
    DERIVED_TABLES,
    RAW_DIRECTORY,
    RAW_SESSION_TABLES,
    RAW_TABLES,
    REPORT_TABLES,
    ROLLUP_TABLES,
    SESSION_ACUS_BY_DAY,
    SESSION_TABLES,
    SESSIONS,
    SPEND_TABLES,
    TABLES,
    Partition,
    RawTable,
    Table,
)

_TRIES = 6
# A run that had begun before an erasure, and is killed in the middle of a write, may leave a file behind as late as so.
_LONGEST_RUN = timedelta(days=1)
_SECONDS_OF_A_COMMIT = 1.0

_USER_COLUMNS = ("user_id", "service_user_id", "scope_id")
_SESSION_COLUMNS = ("session_id", "parent_session_id", "first_session_id", "child_session_ids")

_ALSO_KNOWN_AS = """
    with
    people as (
        select
            object_id,
            case when json_valid(payload) then payload ->> '$.email' end as email
        from raw_directory
        where kind in ('users', 'idp_users', 'service_users') and payload is not null and redacted is null
    ),

    asked_for as (
        select object_id
        from people
        where list_contains($users, object_id) or list_contains([lower(each) for each in $users], lower(email))
    )

    select distinct unnest([object_id, email]) as name
    from people
    semi join asked_for using (object_id)
"""

_Partitions = Callable[[Snapshot], Iterable[Partition]]


@dataclass
class ErasureProgress:
    """What an erasure did.

    Attributes:
        days: The days of raw tables whose rows were erased.
        damaged: Partitions that cannot be read or rebuilt, or whole tables (None): nothing of them could be erased.
        reports_wait: Why reports could not be rebuilt; None when they could.
        left: Files that no version names and that are too young to be deleted: a run may be about to commit them.
    """

    days: set[date] = field(default_factory=set)
    damaged: dict[tuple[Table, Partition], Damaged] = field(default_factory=dict)
    reports_wait: BuiltByOtherCode | None = None
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ErasureResult:
    """How many stored sessions have lost text or identity and on how many days, and what could not be done."""

    sessions: int
    days: int
    erased: ErasureProgress


def forget(
    lake: Lake, hour: int, persons: Sequence[Person], *, record: Callable[[Sequence[date]], None] = lambda _: None
) -> ErasureResult:
    """Remove text and identity of users and sessions, now and from whatever is read later.

    Args:
        lake: The lake.
        hour: Hour of the UTC day at which a billing day starts.
        persons: Users, by their ids as the API returns them or by their e-mails, and sessions by their ids without
            `devin-`. The user of a session is erased for that session.
        record: Is given the days whose tables have another number of rows than before.
    """
    before = _rows_of_rollups(lake)
    # Before the lists are erased, which say who else they are.
    persons = [*persons, *_also_known_as(lake, persons)]
    lake.note_unfinished_erasure(Unfinished(datetime.now(UTC)))
    erasure_list = lake.add_to_erasure_list(persons)
    erased = _erase(lake, hour, erasure_list, waits=True)
    after = _rows_of_rollups(lake)
    if others := sorted({day for (_, day), _ in before.items() ^ after.items()}):
        record(others)
        _finish(lake, erased, waits=True)
    pseudonyms = [erasure_list.pseudonym(*person) for person in persons]
    with lake.connect([SESSIONS]) as connection:
        columns = ("session_id", "user_id", "service_user_id")
        named = " or ".join(f"list_contains($pseudonyms, {column})" for column in columns)
        query = f"select count(*) as sessions, count(distinct day) as days from sessions where {named}"  # noqa: S608 - our own names
        (found,) = connection.rows(query, {"pseudonyms": pseudonyms}).to_pylist()
    return ErasureResult(found["sessions"], found["days"], erased)


def _also_known_as(lake: Lake, persons: Sequence[Person]) -> list[Person]:
    """The ids and e-mails that the lists ever had of some users, who are named by either."""
    users = [identifier for kind, identifier in persons if kind == "user"]
    if not users:
        return []
    try:
        with lake.connect([RAW_DIRECTORY]) as connection:
            found = connection.rows(_ALSO_KNOWN_AS, {"users": users}).to_pylist()
    except Damaged:
        # Erasing it finds the same, and says what repairs it.
        return []
    return [("user", row["name"]) for row in found if row["name"] not in (None, *users)]


def forget_text(lake: Lake, hour: int) -> ErasureResult:
    """Remove all text that was stored before DEVIN_TEXT was `none`."""
    lake.note_unfinished_erasure(Unfinished(datetime.now(UTC)))
    erased = ErasureProgress()
    # guard: a raw table whose text is passed over | RAW_TABLES -> RAW_TABLES[:4]
    for table in RAW_TABLES:
        done = redact(lake, table, Redaction(False, lake.erasure_list()), _all_partitions(lake.cached_snapshot(table)))
        erased.days |= _days_among(done.changed)
        erased.damaged |= {(table, partition): error for partition, error in done.damaged.items()}
    _rebuild(lake, hour, _all_partitions, erased)
    _finish(lake, erased, waits=True)
    with lake.connect(RAW_SESSION_TABLES) as connection:
        ids = " union ".join(f'select day, session_id from "{table.name}"' for table in RAW_SESSION_TABLES)  # noqa: S608 - our own names
        query = f"select count(distinct session_id) as sessions, count(distinct day) as days from ({ids})"  # noqa: S608 - as above
        (found,) = connection.rows(query).to_pylist()
    return ErasureResult(found["sessions"], found["days"], erased)


@contextmanager
def erased(lake: Lake, hour: int, *, sweeps: bool = False) -> Iterator[None]:
    """Erase before the work inside what is stored of persons on the list, and after it what it wrote of new ones.

    As `erase`, which says what the arguments are.
    """
    before = lake.erasure_state()
    # guard: rows that a backup brings back
    if before:
        erase(lake, hour, sweeps=sweeps)
    try:
        yield
    finally:
        # What was read before may have been written after all else was erased.
        # guard: an erasure while a step is under way
        if lake.erasure_state() != before:
            _erase(lake, hour, lake.erasure_list())


def erase(lake: Lake, hour: int, *, sweeps: bool = False) -> ErasureProgress:
    """Erase what is stored of persons on the list, and rebuild what was built from it.

    Files that were checked before are not checked again, so that nothing is read when nothing has changed.

    Args:
        lake: The lake.
        hour: Hour of the UTC day at which a billing day starts.
        sweeps: Delete what runs left behind that were under way during an earlier erasure.
    """
    erasure_list = lake.erasure_list()
    if not erasure_list and not (sweeps and lake.unfinished_erasure()):
        return ErasureProgress()
    return _erase(lake, hour, erasure_list, sweeps=sweeps, has_begun=False)


def partitions_with_persons(
    lake: Lake, snapshot: Snapshot, partitions: Iterable[Partition] | None = None
) -> Mapping[Partition, int]:
    """How many rows of each partition of a table are of persons on the erasure list.

    Args:
        lake: The lake.
        snapshot: The version to look at.
        partitions: Those to look at; those with files that are not yet checked when left out.
    """
    erasure_list = lake.erasure_list()
    if partitions is None:
        partitions = _unchecked(lake, erasure_list)(snapshot)
    wanted = set(partitions) & {file.partition for file in snapshot.stored_files()}
    if not erasure_list or not wanted:
        return {}
    # guard: rows of persons in a raw table
    if isinstance(snapshot.table, RawTable):
        return rows_to_redact(snapshot, snapshot.table, Redaction(True, erasure_list), wanted)
    return _rows_with_persons(lake, snapshot, erasure_list, wanted)


def old_files_with_persons(lake: Lake, table: RawTable) -> list[str]:
    """The files of a raw table that its newest version does not name and that hold persons on the erasure list."""
    redaction = Redaction(True, lake.erasure_list())
    return [file.path for file in lake.old_files(table) if is_to_redact(table, file, redaction)] if redaction else []


def _erase(
    lake: Lake,
    hour: int,
    erasure_list: ErasureList,
    *,
    sweeps: bool = False,
    has_begun: bool = True,
    waits: bool = False,
) -> ErasureProgress:
    """Do the work of `erase`, and delete old files if anything was erased, or if an erasure has begun."""
    erased = ErasureProgress()
    unfinished = lake.unfinished_erasure()
    has_begun = has_begun or (unfinished is not None and not unfinished.is_purged)

    def begin() -> None:
        nonlocal has_begun
        if not has_begun:
            lake.note_unfinished_erasure(Unfinished(datetime.now(UTC)))
            has_begun = True

    unchecked = _unchecked(lake, erasure_list)
    # guard: a raw table that erasure passes over | RAW_TABLES -> RAW_TABLES[:4]
    for table in RAW_TABLES:
        with _damage_noted(erased, table):
            _erase_raw(lake, table, erasure_list, erased, begin)
    # Persons leave derived tables also while raw ones lack versions.
    with lake.raw_as_stored():
        _rebuild(lake, hour, unchecked, erased, begin)
        _note_checked(lake, erasure_list, erased)
        if has_begun:
            _finish(lake, erased, waits=waits)
        elif sweeps and unfinished is not None:
            erased.left = _purge(lake, erased, at_once=False)
            if datetime.now(UTC) - unfinished.began > _LONGEST_RUN:
                lake.note_unfinished_erasure(None)
    return erased


def _erase_raw(
    lake: Lake, table: RawTable, erasure_list: ErasureList, erased: ErasureProgress, begin: Callable[[], None]
) -> None:
    """Erase the unchecked rows of a raw table; what is written is checked in its turn."""
    lost: VersionsLost | None = None
    for _ in range(_TRIES):
        try:
            snapshot = lake.cached_snapshot(table)
        except VersionsLost as error:
            # What is stored of persons is erased all the same; then runs refuse the table until it is repaired.
            lost, snapshot = error, lake.as_stored(table)
        to_check = lake.unchecked(snapshot, erasure_list)
        changed: set[Partition] = set()
        damaged: set[Partition] = set()
        for entries, files in to_check:
            partitions = {file.partition for file in files}
            done = redact(lake, table, Redaction(True, entries), partitions, begin, lacks_versions=lost is not None)
            changed |= done.changed
            damaged |= done.damaged.keys()
            erased.damaged |= {(table, partition): error for partition, error in done.damaged.items()}
        erased.days |= _days_among(changed)
        if to_check:
            clean = [file for file in snapshot.stored_files() if file.partition not in changed | damaged]
            lake.note_checked(table, clean, erasure_list)
        # Who commits meanwhile looks at the list again after that.
        if not changed:
            if lost:
                raise lost
            return
    raise TooManyConflicts(
        f"Persons were not erased from {table.name}",
        f"other runs wrote it {_TRIES} times in a row",
        "Run it again when they are done",
    )


def _rebuild(
    lake: Lake, hour: int, days: _Partitions, erased: ErasureProgress, begin: Callable[[], None] = lambda: None
) -> None:
    """Rebuild what of some days of derived tables, and of reports, is not known to follow from what is stored now."""

    def publish_session_tables_of(some: Sequence[date]) -> None:
        publish_session_tables(lake, some, hour, compares=False)

    def publish_rollups_of(some: Sequence[date]) -> None:
        # A damaged file of the session tables is replaced first.
        publish_session_tables(lake, some, hour, compares=False)
        publish_rollups(lake, some, hour, compares=False)

    def publish_spend_of(table: Table, some: Sequence[date]) -> None:
        publish_session_tables(lake, some, hour, compares=False)
        publish_spend(lake, some, hour, table, compares=False)

    groups: list[tuple[Sequence[Table], Callable[[Sequence[date]], object]]] = [
        (SESSION_TABLES, publish_session_tables_of),
        (ROLLUP_TABLES, publish_rollups_of),
        *(((table,), partial(publish_spend_of, table)) for table in SPEND_TABLES),
    ]
    for tables, publish in groups:
        without_provenance = set().union(*(_unproven(lake, table, days, erased) for table in tables))
        damaged = {partition for _, partition in erased.damaged}
        if wanted := sorted(_days_among(without_provenance - damaged)):
            begin()
            _publish(publish, tables[0], wanted, erased)
    for table in REPORT_TABLES:
        if not _unproven(lake, table, days, erased):
            continue
        derived = [TABLES[name] for name in table.inputs if TABLES[name].layer == "derived"]
        if others := days_of_other_code(lake, hour, derived):
            erased.reports_wait = BuiltByOtherCode(table, others)
            continue
        begin()
        with _damage_noted(erased, table):
            publish_report(lake, table)


def _publish(
    publish: Callable[[Sequence[date]], object], table: Table, days: Sequence[date], erased: ErasureProgress
) -> None:
    """Publish days at once, or one by one where what they are built from is damaged."""
    try:
        publish(days)
    except (Damaged, ValidationFailed) as error:
        if len(days) > 1:
            for day in days:
                _publish(publish, table, [day], erased)
        else:
            why = error if isinstance(error, Damaged) else Damaged(f"{table.name} was not rebuilt", str(error))
            erased.damaged[table, days[0]] = why


def _unproven(lake: Lake, table: Table, partitions: _Partitions, erased: ErasureProgress) -> set[Partition]:
    with _damage_noted(erased, table):
        snapshot = lake.cached_snapshot(table)
        wanted = set(partitions(snapshot))
        if wanted:
            of_days = sorted(_days_among(wanted)) if table.by_day else None
            if table in REPORT_TABLES:
                outdated = lake.without_provenance(snapshot, made_of(lake, table, of_days or ()))
                return {day for day in outdated if day in wanted}
            links = lake.links() if table in (*SESSION_TABLES, SESSION_ACUS_BY_DAY) else None
            return set(lake.without_provenance(snapshot, lake.inputs(_inputs(table), of_days, links)))
    return set()


def _inputs(table: Table) -> Sequence[Table]:
    """What a table was built from, as its note names it."""
    if table in SESSION_TABLES:
        return RAW_SESSION_TABLES
    if table in ROLLUP_TABLES:
        # All of them are built at once, and each note names what all are built from.
        return inputs_of(ROLLUP_TABLES)
    return [TABLES[name] for name in table.inputs]


def _note_checked(lake: Lake, erasure_list: ErasureList, erased: ErasureProgress) -> None:
    """Note the files of derived tables and reports that follow from checked ones."""
    for table in (*DERIVED_TABLES, *REPORT_TABLES):
        with _damage_noted(erased, table):
            snapshot = lake.cached_snapshot(table)
            unchecked = set(_unchecked(lake, erasure_list)(snapshot))
            bad = _unproven(lake, table, _unchecked(lake, erasure_list), erased)
            bad |= {partition for _, partition in erased.damaged} & unchecked
            if unchecked and (table, None) not in erased.damaged:
                lake.note_checked(
                    table, [file for file in snapshot.stored_files() if file.day not in bad], erasure_list
                )


@contextmanager
def _damage_noted(erased: ErasureProgress, table: Table) -> Iterator[None]:
    """Go on with the other tables where one cannot be read; every command names it."""
    try:
        yield
    except Damaged as error:
        erased.damaged[table, None] = error


def _finish(lake: Lake, erased: ErasureProgress, *, waits: bool = False) -> None:
    """Delete documents and the files of older versions, once `devin.duckdb` names the newest ones.

    Args:
        lake: The lake.
        erased: Is given the files that no version ever named and that a run may be about to commit.
        waits: Give a run that is under way the time to commit them.
    """
    with suppress(Damaged):  # of a log; which one is noted
        write_catalog(lake)
    # guard: a report with what was erased
    lake.delete_documents()
    erased.left = _purge(lake, erased)
    for _ in range(_TRIES if waits else 0):
        if not erased.left:
            break
        time.sleep(_SECONDS_OF_A_COMMIT)
        # Not those that came since: what began later has read the list.
        erased.left = sorted(set(_purge(lake, erased)) & set(erased.left))
    if (unfinished := lake.unfinished_erasure()) and not unfinished.is_purged:
        lake.note_unfinished_erasure(Unfinished(unfinished.began, is_purged=True))
    # One that was made of what was read before, and written by who had not seen that note.
    # guard: a report that is written while an erasure ends
    lake.delete_documents()


def _purge(lake: Lake, erased: ErasureProgress, *, at_once: bool = True) -> list[str]:
    left: list[str] = []
    for table in ALL_TABLES:
        with _damage_noted(erased, table):
            left += lake.purge(table, at_once=at_once)
    return left


def _unchecked(lake: Lake, erasure_list: ErasureList) -> _Partitions:
    def partitions(snapshot: Snapshot) -> Iterable[Partition]:
        return {file.partition for each in lake.unchecked(snapshot, erasure_list) for file in each.files}

    return partitions


def _all_partitions(snapshot: Snapshot) -> set[Partition]:
    return {file.partition for file in snapshot.stored_files()}


def _days_among(partitions: Iterable[Partition]) -> set[date]:
    return {partition for partition in partitions if isinstance(partition, date)}


def _rows_with_persons(
    lake: Lake, snapshot: Snapshot, erasure_list: ErasureList, partitions: Iterable[Partition]
) -> dict[Partition, int]:
    """Rows of a derived table or a report whose ids are on the list; a file that cannot be read has none."""
    table = snapshot.table
    found: Counter[Partition] = Counter()
    columns_of: Mapping[Kind, Sequence[str]] = {"user": _USER_COLUMNS, "session": _SESSION_COLUMNS}
    for kind, names in columns_of.items():
        columns = [column for column in table.columns if column.name in names]
        if not columns or not erasure_list.has(kind):
            continue
        day = "day" if table.by_day else "null::date as day"
        ids = " union all ".join(
            f"select {day}, {f'unnest({c.name})' if pa.types.is_list(c.type) else c.name} as id from stored"  # noqa: S608 - our own names
            for c in columns
        )
        with suppress(Damaged), Connection() as connection:
            connection.create_view("stored", snapshot.query(partitions))
            query = f"select day, id, count(*) as rows from ({ids}) where id is not null group by all"  # noqa: S608 - our own names
            for row in connection.rows(query).to_pylist():
                if erasure_list.pseudonym(kind, row["id"]):
                    found[row["day"]] += row["rows"]
    return found


def _rows_of_rollups(lake: Lake) -> dict[tuple[str, date], int]:
    return {
        (table.name, day): rows
        for table in ROLLUP_TABLES
        for day, rows in lake.cached_snapshot(table).rows_per_day().items()
    }
