"""Every operation on a lake covers every raw table: those there are, and toys that are not shaped like sessions."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from devin_pipeline import doctor, tables
from devin_pipeline.lake import Lake, Person, Rewrite, VersionsLost
from devin_pipeline.operations.erase import forget, forget_text, old_files_with_persons
from devin_pipeline.operations.maintain import maintain
from devin_pipeline.operations.repair import repair
from devin_pipeline.operations.verify import VerificationReport, verify
from devin_pipeline.settings import Settings
from devin_pipeline.tables import RAW_TABLES, Partition, RawTable
from devin_pipeline_tests.tables.rows import DAY, after
from devin_pipeline_tests.tables.toys import CANARY, PERSON, TOYS, add_version, plant

# Also a raw table that is new to the project, without a line here.
EVERY = (*RAW_TABLES, *TOYS)

# What is not by day is also looked at in a lake that has no days.
BY_DAY_OR_NOT = pytest.mark.parametrize(
    "some", [[table for table in EVERY if table.by_day == by_day] for by_day in (True, False)], ids=["by day", "not"]
)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    plant(monkeypatch, *TOYS)
    for name in ("DEVIN_V2_API_KEY", "DEVIN_V3_API_KEY", "DEVIN_FEEDS", "DEVIN_ORG_ID", "DEVIN_TEXT", "DEVIN_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DEVIN_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    return Lake(str(tmp_path / "lake"))


def person_in(table: RawTable) -> Person:
    """Somebody whom `add_version` puts into a table: a user, or the session where rows are of sessions alone."""
    names_users = table.user_columns or table.fields is None or table.fields.users
    return ("user", PERSON) if names_users else ("session", "a")


# A session that is erased takes its user along, so that those of users are asked for alone.
PERSONS = sorted({person_in(table) for table in EVERY})
BY_PERSON = pytest.mark.parametrize(
    ("person", "some"),
    [(person, [table for table in EVERY if person_in(table) == person]) for person in PERSONS],
    ids=[kind for kind, _ in PERSONS],
)


def add_versions(lake: Lake, some: Sequence[RawTable], count: int = 2) -> None:
    for table in some:
        for hour in range(count):
            add_version(lake, table, hour)


def partition_of(lake: Lake, table: RawTable) -> Partition:
    (file,) = lake.snapshot(table).stored_files()
    return file.partition


def rows_of(lake: Lake, table: RawTable) -> pa.Table:
    """What is stored, as it was fetched."""
    return lake.snapshot(table).rows().sort_by("fetched_at")


def verified(lake: Lake) -> VerificationReport:
    return verify(lake, 8, tables=tables.RAW_TABLES)


def damaged_days(report: VerificationReport, table: RawTable) -> dict[date, bool]:
    """The days that what was found in one table would have repaired."""
    return replace(report, findings=[f for f in report.findings if f.table == table]).damaged_days()


def found(check: str) -> doctor.CheckResult:
    (finding,) = (f for f in doctor.lake.findings(Settings()) if f.name == check)
    return finding


def last_versions(some: Sequence[RawTable]) -> set[str]:
    """What the health check says of the last versions of some tables."""
    findings = (f for f in doctor.lake.findings(Settings()) if f.name == "last_version")
    outcomes = {f.subject: f.outcome for f in findings}
    return {outcomes[table.name] for table in some}


def places_with(lake: Lake, *words: str) -> list[str]:
    """The files, and folders, of a lake with one of some words in their names, bytes or values."""
    places = []
    for path in Path(lake.uri).rglob("*"):
        text = str(path.relative_to(lake.uri)).encode()
        if path.is_file():
            text += path.read_bytes()
            text += repr(pq.ParquetFile(path).read().to_pylist()).encode() if path.suffix == ".parquet" else b""
        places += [str(path) for word in words if word.encode() in text]
    return places


def changed_row(lake: Lake, table: RawTable) -> None:
    """A stored row with another value, past everything that would refuse it."""
    rows = rows_of(lake, table).to_pylist()
    rows[-1] |= {"fetched_at": after(9)}
    partition = partition_of(lake, table)
    lake.rewrite(table, lambda _: Rewrite([partition], pa.Table.from_pylist(rows, table.schema)))


def truncated_file(lake: Lake, table: RawTable) -> None:
    (file,) = map(Path, lake.snapshot(table).files())
    file.write_bytes(file.read_bytes()[:-1])


def lost_entry(lake: Lake, table: RawTable) -> None:
    max(Path(lake.location(table), "_delta_log").glob("*.json")).unlink()


@pytest.mark.notices(
    "a raw table that repair passes over",
    "a raw table whose rows verification passes over",
    "damage of a raw table that is not by day, without a command that repairs it",
)
@pytest.mark.parametrize("damage", [changed_row, truncated_file])
@BY_DAY_OR_NOT
def test_damage_is_named_with_a_command_and_repaired(
    lake: Lake, some: Sequence[RawTable], damage: Callable[[Lake, RawTable], None]
) -> None:
    add_versions(lake, some)
    before = {table: rows_of(lake, table) for table in some}
    partitions = {table: partition_of(lake, table) for table in some}
    assert verified(lake).is_clean

    for table in some:
        damage(lake, table)
    report = verified(lake)
    assert {(finding.table, finding.partition) for finding in report.findings} == set(partitions.items())
    (day,) = report.damaged_days()
    assert all(damaged_days(report, table) == {day: True} for table in some)
    results = repair(lake, [day], 8, keeps_text=True)
    assert [(each.table, each.partition, each.day) for each in results] == [
        (table, partition, DAY if table.by_day else None) for table, partition in partitions.items()
    ]
    assert verified(lake).is_clean
    for table, rows in before.items():
        # What no older file holds is lost.
        assert rows_of(lake, table).equals(rows if damage is changed_row else rows.slice(0, 1)), table.name
    assert repair(lake, [day], 8, keeps_text=True) == []


@pytest.mark.notices("a raw table whose lost versions doctor passes over")
@BY_DAY_OR_NOT
def test_lost_versions_are_named_by_every_look_and_repaired(lake: Lake, some: Sequence[RawTable]) -> None:
    add_versions(lake, some)
    before = {table: rows_of(lake, table) for table in some}
    assert last_versions(some) == {"ok"}
    for table in some:
        lost_entry(lake, table)
        with pytest.raises(VersionsLost, match="--repair"):
            lake.snapshot(table)
    report = verified(lake)
    assert [(f.table, f.partition, f.lost_versions) for f in report.findings] == [(table, None, True) for table in some]
    assert all(list(damaged_days(report, table).values()) == [True] for table in some)
    assert last_versions(some) == {"failed"}
    results = repair(lake, list(report.damaged_days()), 8, keeps_text=True)
    assert [(each.table, each.kept, each.brought_back, each.lost) for each in results] == [
        (table, 1, 1, 0) for table in some
    ]
    for table, rows in before.items():
        assert rows_of(lake, table).equals(rows), table.name
    assert verified(lake).is_clean


@pytest.mark.notices("a raw table that erasure passes over", "rows of persons in a raw table")
@BY_PERSON
def test_a_person_is_named_and_erased_from_every_version_and_file(
    lake: Lake, person: Person, some: Sequence[RawTable]
) -> None:
    add_versions(lake, some)
    lake.add_to_erasure_list([person])
    places = [(table, partition_of(lake, table)) for table in some]
    assert [(f.table, f.partition) for f in verified(lake).findings] == [place for place in places for _ in range(2)]
    in_doctor = found("erasure_list")
    assert in_doctor.outcome == "failed"
    assert all(re.search(rf"\b{table.name}\b", in_doctor.found) for table in some)

    forget(lake, 8, [person])
    assert places_with(lake, PERSON, CANARY) == []
    assert all(lake.snapshot(table).rows().num_rows == 2 for table in some)
    assert verified(lake).is_clean
    assert found("erasure_list").outcome == "ok"


@pytest.mark.notices(
    "a raw table whose old files verification passes over", "a raw table whose old files maintenance passes over"
)
@BY_PERSON
def test_an_old_file_with_a_person_is_named_and_maintenance_deletes_it(
    lake: Lake, person: Person, some: Sequence[RawTable]
) -> None:
    add_versions(lake, some, 1)
    contents = {}
    for table in some:
        (file,) = map(Path, lake.snapshot(table).files())
        contents[table, file] = file.read_bytes()
    forget(lake, 8, [person])
    for (table, file), content in contents.items():
        file.write_bytes(content)
        assert old_files_with_persons(lake, table) == [str(file)]
    assert [(f.table, f.path) for f in verified(lake).findings] == [(table, str(file)) for table, file in contents]
    maintain(lake, 8)
    assert places_with(lake, PERSON, CANARY) == []


@pytest.mark.notices("a raw table whose text is passed over", "a raw table whose text doctor passes over")
def test_all_text_is_erased(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    add_versions(lake, EVERY)
    rows = {table: lake.snapshot(table).rows().num_rows for table in EVERY}
    monkeypatch.setenv("DEVIN_TEXT", "none")
    in_doctor = found("text")
    assert (in_doctor.outcome, f" {sum(rows.values())} versions " in in_doctor.found) == ("warning", True)
    forget_text(lake, 8)
    assert places_with(lake, CANARY) == []
    assert found("text").outcome == "ok"
    assert {table: lake.snapshot(table).rows().num_rows for table in EVERY} == rows
    assert verified(lake).is_clean


def test_small_files_are_joined_unless_a_row_in_them_is_damaged(lake: Lake) -> None:
    add_versions(lake, EVERY)
    before = {table: rows_of(lake, table) for table in EVERY}
    partitions = {table: partition_of(lake, table) for table in EVERY}

    def split(table: RawTable, later: pa.Table) -> None:
        lake.rewrite(table, lambda _: Rewrite([partitions[table]], later))
        write_deltalake(lake.location(table), before[table].slice(0, 1), mode="append")
        assert len(lake.snapshot(table).files()) == 2

    for table, rows in before.items():
        split(table, rows.slice(1))
    assert maintain(lake, 8).left == []
    for table, rows in before.items():
        assert len(lake.snapshot(table).files()) == 1
        assert rows_of(lake, table).equals(rows), table.name

    for table, rows in before.items():
        split(table, pa.Table.from_pylist([rows.to_pylist()[1] | {"fetched_at": after(9)}], table.schema))
    left = maintain(lake, 8).left
    assert len(left) == len(EVERY)
    for table in EVERY:
        assert any(re.match(rf"{table.name}\b.* stays in several files, .*row_hash", each) for each in left)
        assert len(lake.snapshot(table).files()) == 2


@pytest.mark.notices("a raw table that others may read")
def test_a_file_that_others_may_read_is_named(lake: Lake, tmp_path: Path) -> None:
    add_versions(lake, EVERY, 1)
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o011:
            folder.chmod(folder.stat().st_mode | 0o011)
    for path in (Path(lake.uri), *Path(lake.uri).rglob("*")):
        path.chmod(0o755)
    in_doctor = found("lake_permissions")
    assert in_doctor.outcome == "warning"
    assert all(re.search(rf"\b{table.name}\b", in_doctor.found) for table in EVERY)
