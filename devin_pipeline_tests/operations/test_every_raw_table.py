"""Every operation on a lake covers every raw table: those there are, and toys that are not shaped like sessions."""

import re
from collections.abc import Callable
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
EVERY = pytest.mark.parametrize("table", [*RAW_TABLES, *TOYS], ids=lambda table: table.name)


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


def partition_of(lake: Lake, table: RawTable) -> Partition:
    (file,) = lake.snapshot(table).stored_files()
    return file.partition


def rows_of(lake: Lake, table: RawTable) -> pa.Table:
    """What is stored, as it was fetched."""
    return lake.snapshot(table).rows().sort_by("fetched_at")


def verified(lake: Lake) -> VerificationReport:
    return verify(lake, 8, tables=tables.RAW_TABLES)


def found(check: str, subject: str = "") -> doctor.CheckResult:
    (finding,) = (f for f in doctor.lake.findings(Settings()) if f.name == check and f.subject == subject)
    return finding


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
@EVERY
def test_damage_is_named_with_a_command_and_repaired(
    lake: Lake, table: RawTable, damage: Callable[[Lake, RawTable], None]
) -> None:
    add_version(lake, table)
    add_version(lake, table, 1)
    before = rows_of(lake, table)
    partition = partition_of(lake, table)
    assert verified(lake).is_clean

    damage(lake, table)
    report = verified(lake)
    assert {(finding.table, finding.partition) for finding in report.findings} == {(table, partition)}
    (day,) = report.damaged_days()
    assert report.damaged_days() == {day: True}
    (result,) = repair(lake, [day], 8, keeps_text=True)
    assert (result.table, result.partition, result.day) == (table, partition, DAY if table.by_day else None)
    assert verified(lake).is_clean
    # What no older file holds is lost.
    kept = rows_of(lake, table)
    assert kept.equals(before if damage is changed_row else before.slice(0, 1))
    assert repair(lake, [day], 8, keeps_text=True) == []


@pytest.mark.notices("a raw table whose lost versions doctor passes over")
@EVERY
def test_lost_versions_are_named_by_every_look_and_repaired(lake: Lake, table: RawTable) -> None:
    add_version(lake, table)
    add_version(lake, table, 1)
    before = rows_of(lake, table)
    assert found("last_version", table.name).outcome == "ok"
    lost_entry(lake, table)
    with pytest.raises(VersionsLost, match="--repair"):
        lake.snapshot(table)
    report = verified(lake)
    assert [(f.table, f.partition, f.lost_versions) for f in report.findings] == [(table, None, True)]
    assert list(report.damaged_days().values()) == [True]
    assert found("last_version", table.name).outcome == "failed"
    (result,) = repair(lake, list(report.damaged_days()), 8, keeps_text=True)
    assert (result.kept, result.brought_back, result.lost) == (1, 1, 0)
    assert rows_of(lake, table).equals(before)
    assert verified(lake).is_clean


@pytest.mark.notices("a raw table that erasure passes over", "rows of persons in a raw table")
@EVERY
def test_a_person_is_named_and_erased_from_every_version_and_file(lake: Lake, table: RawTable) -> None:
    add_version(lake, table)
    add_version(lake, table, 1)
    lake.add_to_erasure_list([person_in(table)])
    partition = partition_of(lake, table)
    assert [(f.table, f.partition) for f in verified(lake).findings] == [(table, partition)] * 2
    assert found("erasure_list").outcome == "failed"
    assert table.name in found("erasure_list").found

    forget(lake, 8, [person_in(table)])
    assert places_with(lake, PERSON, CANARY) == []
    assert lake.snapshot(table).rows().num_rows == 2
    assert verified(lake).is_clean
    assert found("erasure_list").outcome == "ok"


@pytest.mark.notices(
    "a raw table whose old files verification passes over", "a raw table whose old files maintenance passes over"
)
@EVERY
def test_an_old_file_with_a_person_is_named_and_maintenance_deletes_it(lake: Lake, table: RawTable) -> None:
    add_version(lake, table)
    (file,) = map(Path, lake.snapshot(table).files())
    content = file.read_bytes()
    forget(lake, 8, [person_in(table)])
    file.write_bytes(content)
    assert old_files_with_persons(lake, table) == [str(file)]
    assert [(f.table, f.path) for f in verified(lake).findings] == [(table, str(file))]
    maintain(lake, 8)
    assert places_with(lake, PERSON, CANARY) == []


@pytest.mark.notices("a raw table whose text is passed over", "a raw table whose text doctor passes over")
@EVERY
def test_all_text_is_erased(lake: Lake, table: RawTable, monkeypatch: pytest.MonkeyPatch) -> None:
    add_version(lake, table)
    add_version(lake, table, 1)
    rows = lake.snapshot(table).rows().num_rows
    monkeypatch.setenv("DEVIN_TEXT", "none")
    assert found("text").outcome == "warning"
    forget_text(lake, 8)
    assert places_with(lake, CANARY) == []
    assert found("text").outcome == "ok"
    assert lake.snapshot(table).rows().num_rows == rows
    assert verified(lake).is_clean


@EVERY
def test_small_files_are_joined_unless_a_row_in_them_is_damaged(lake: Lake, table: RawTable) -> None:
    add_version(lake, table)
    add_version(lake, table, 1)
    rows = rows_of(lake, table)
    partition = partition_of(lake, table)
    lake.rewrite(table, lambda _: Rewrite([partition], rows.slice(1)))
    write_deltalake(lake.location(table), rows.slice(0, 1), mode="append")
    assert len(lake.snapshot(table).files()) == 2
    assert maintain(lake, 8).left == []
    assert len(lake.snapshot(table).files()) == 1
    assert rows_of(lake, table).equals(rows)

    odd = pa.Table.from_pylist([rows.to_pylist()[1] | {"fetched_at": after(9)}], table.schema)
    lake.rewrite(table, lambda _: Rewrite([partition], odd))
    write_deltalake(lake.location(table), rows.slice(0, 1), mode="append")
    (left,) = maintain(lake, 8).left
    assert re.match(rf"{table.name}\b.* stays in several files, .*row_hash", left)
    assert len(lake.snapshot(table).files()) == 2


@pytest.mark.notices("a raw table that others may read")
@EVERY
def test_a_file_that_others_may_read_is_named(lake: Lake, table: RawTable, tmp_path: Path) -> None:
    add_version(lake, table)
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o011:
            folder.chmod(folder.stat().st_mode | 0o011)
    for path in (Path(lake.uri), Path(lake.location(table)), *Path(lake.location(table)).rglob("*")):
        path.chmod(0o755)
    assert found("lake_permissions").outcome == "warning"
    assert table.name in found("lake_permissions").found
