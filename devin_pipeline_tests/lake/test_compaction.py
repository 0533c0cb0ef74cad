"""Files joined, old ones deleted, logs shortened: what goes, what stays, and that no row changes."""

import json
import os
import time
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from devin_pipeline.lake import (
    Lake,
    Skipped,
    Snapshot,
    TooManyConflicts,
    VacuumResult,
    compact,
    expire_log,
    files_ever,
    vacuum,
)
from devin_pipeline.tables import TABLES, Partition, Table
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, rows_of

pytestmark = pytest.mark.notices(
    "files of the last week deleted", "joined rows out of order", "older files lost with their entries"
)

SESSIONS = TABLES["sessions"]
ACU_WEEKLY = TABLES["acu_weekly"]
DAY_OF_SECONDS = 86_400


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "it's a lake"))


def sessions(*ids: str, day: date = DAY) -> pa.Table:
    return rows_of(SESSIONS, [{"day": day, "session_id": each, "title": f"canary {each}"} for each in ids])


def add_file(lake: Lake, rows: pa.Table, table: Table = SESSIONS) -> None:
    """Add a file to those there are, as other writers of Delta do."""
    write_deltalake(lake.location(table), rows, mode="append")


def weeks(*ids: str) -> pa.Table:
    return rows_of(ACU_WEEKLY, [{"org_id": each} for each in ids])


def none_damaged(snapshot: Snapshot, partitions: object) -> dict[Partition, str]:
    return {}


def log(lake: Lake) -> Path:
    return Path(lake.location(SESSIONS)) / "_delta_log"


def stored(lake: Lake) -> list[tuple[str, int]]:
    found = [path for path in Path(lake.uri).rglob("*") if path.is_file()]
    return sorted((str(path), path.stat().st_mtime_ns) for path in found)


def age(path: Path, days: int) -> None:
    then = time.time() - days * DAY_OF_SECONDS
    os.utime(path, (then, then))


def age_removals(lake: Lake, days: int) -> None:
    """Make the log say that what was removed so far was removed so many days ago."""
    then = int((time.time() - days * DAY_OF_SECONDS) * 1000)
    for entry in log(lake).glob("*.json"):
        actions = [json.loads(line) for line in entry.read_text().splitlines()]
        for action in actions:
            if "remove" in action:
                action["remove"]["deletionTimestamp"] = then
        entry.write_text("".join(json.dumps(action) + "\n" for action in actions))


def test_a_day_in_several_files_becomes_one_in_key_order_and_every_other_file_stays(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY, NEXT_DAY], pa.concat_tables([sessions("c"), sessions("x", day=NEXT_DAY)]))
    add_file(lake, sessions("d", "a"))
    add_file(lake, sessions("b"))
    before = lake.snapshot(SESSIONS)
    assert compact(lake, SESSIONS, none_damaged) == []

    after = lake.snapshot(SESSIONS)
    assert after.version == (before.version or 0) + 1
    assert [(file.day, file.rows) for file in after.stored_files()] == [(DAY, 4), (NEXT_DAY, 1)]
    assert after.files([NEXT_DAY]) == before.files([NEXT_DAY])
    assert after.rows().equals(before.rows())
    (file,) = after.files([DAY])
    written = pq.ParquetFile(file)
    assert written.read().column("session_id").to_pylist() == ["a", "b", "c", "d"]
    assert not written.metadata.row_group(0).column(0).has_column_index
    assert not any(b"canary" in entry.read_bytes() for entry in log(lake).iterdir())


def test_what_is_one_file_a_day_is_not_touched(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY, NEXT_DAY], pa.concat_tables([sessions("b", "a"), sessions("x", day=NEXT_DAY)]))
    lake.replace_all(ACU_WEEKLY, weeks("a"))
    before = stored(lake)
    for table in (SESSIONS, ACU_WEEKLY, TABLES["acu_daily"]):
        assert compact(lake, table, none_damaged) == []
    assert stored(lake) == before


def test_a_damaged_day_is_reported_and_left_and_the_other_days_are_joined(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY, NEXT_DAY], pa.concat_tables([sessions("a"), sessions("x", day=NEXT_DAY)]))
    add_file(lake, sessions("b"))
    add_file(lake, sessions("y", day=NEXT_DAY))
    of_day = lake.snapshot(SESSIONS).files([DAY])
    Path(of_day[1]).write_bytes(Path(of_day[1]).read_bytes()[:-1])
    (left,) = compact(lake, SESSIONS, none_damaged)
    assert left.partition == DAY
    assert "bytes, where the log says" in left.why
    assert lake.snapshot(SESSIONS).files([DAY]) == of_day
    assert [file.rows for file in lake.snapshot(SESSIONS).stored_files()] == [1, 1, 2]


def test_a_day_whose_rows_are_found_damaged_is_reported_and_left(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY], sessions("a"))
    add_file(lake, sessions("b"))
    before = stored(lake)
    assert compact(lake, SESSIONS, lambda snapshot, days: dict.fromkeys(days, "a hash")) == [Skipped(DAY, "a hash")]
    assert stored(lake) == before


def test_an_unpartitioned_table_in_several_files_becomes_one_unless_one_is_damaged(lake: Lake) -> None:
    lake.replace_all(ACU_WEEKLY, weeks("b"))
    add_file(lake, weeks("a"), ACU_WEEKLY)
    first, second = map(Path, lake.snapshot(ACU_WEEKLY).files())
    whole = second.read_bytes()
    second.write_bytes(whole[:-1])
    (left,) = compact(lake, ACU_WEEKLY, none_damaged)
    assert left.partition is None
    assert lake.snapshot(ACU_WEEKLY).files() == [str(first), str(second)]

    second.write_bytes(whole)
    assert compact(lake, ACU_WEEKLY, none_damaged) == []
    (file,) = lake.snapshot(ACU_WEEKLY).files()
    assert pq.ParquetFile(file).read().column("org_id").to_pylist() == ["a", "b"]


def test_a_faster_writer_is_planned_around_and_one_that_never_rests_is_given_way_to(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY], sessions("a"))
    add_file(lake, sessions("b"))
    asked = 0

    def once(snapshot: Snapshot, partitions: object) -> dict[Partition, str]:
        nonlocal asked
        asked += 1
        if asked == 1:
            add_file(Lake(lake.uri), sessions("c"))
        return {}

    compact(lake, SESSIONS, once)
    assert [file.rows for file in lake.snapshot(SESSIONS).stored_files()] == [3]

    def always(snapshot: Snapshot, partitions: object) -> dict[Partition, str]:
        add_file(Lake(lake.uri), sessions(f"more {snapshot.version}"))
        return {}

    add_file(lake, sessions("d"))
    with pytest.raises(TooManyConflicts):
        compact(lake, SESSIONS, always)
    assert lake.snapshot(SESSIONS).rows().num_rows == 4 + 6


def test_a_report_that_a_run_writes_meanwhile_stays_as_the_run_wrote_it(lake: Lake) -> None:
    lake.replace_all(ACU_WEEKLY, weeks("a"))
    add_file(lake, weeks("b"), ACU_WEEKLY)

    class Slower(Lake):
        """A run is faster between its look and its write."""

        def snapshot(self, table: Table) -> Snapshot:
            read = super().snapshot(table)
            lake.replace_all(ACU_WEEKLY, weeks("new"))
            return read

    assert compact(Slower(lake.uri), ACU_WEEKLY, none_damaged) == []
    assert lake.snapshot(ACU_WEEKLY).rows().equals(weeks("new"))


def test_only_what_no_version_of_the_last_week_names_is_deleted(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY], sessions("oldest"))
    long_removed = Path(lake.snapshot(SESSIONS).files()[0])
    lake.replace_days(SESSIONS, [DAY], sessions("older"))
    age_removals(lake, 8)
    removed_now = Path(lake.snapshot(SESSIONS).files()[0])
    lake.replace_days(SESSIONS, [DAY], sessions("new"))
    newest = Path(lake.snapshot(SESSIONS).files()[0])
    left_long_ago, being_written = (newest.with_name(f"{name}.parquet") for name in ("killed", "now"))
    for path in (left_long_ago, being_written):
        path.write_bytes(b"half a file")
    for path in (long_removed, removed_now, newest, left_long_ago, *log(lake).iterdir()):
        age(path, 60)
    size = long_removed.stat().st_size + left_long_ago.stat().st_size

    assert vacuum(lake, SESSIONS) == VacuumResult(2, size)
    assert sorted(newest.parent.iterdir()) == sorted([removed_now, newest, being_written])
    assert lake.snapshot(SESSIONS).rows().equals(sessions("new"))
    before = stored(lake)
    assert vacuum(lake, SESSIONS) == VacuumResult(0, 0)
    assert stored(lake) == before


def test_old_entries_of_the_log_go_and_the_table_is_as_it_was(lake: Lake) -> None:
    for number in range(12):
        lake.replace_days(SESSIONS, [DAY], sessions(f"{number:02}"))
    entries = sorted(log(lake).glob("*.json"))
    for entry in entries[:10]:
        age(entry, 31)
    rows = lake.snapshot(SESSIONS).rows()
    # No checkpoint is as old as the entries, so they are still needed to open that time's versions.
    assert expire_log(lake, SESSIONS) == 0
    before = stored(lake)
    assert expire_log(lake, SESSIONS) == 0
    assert stored(lake) == before
    for entry in log(lake).iterdir():
        age(entry, 31)
    assert expire_log(lake, SESSIONS) == len(entries) - 1
    assert lake.snapshot(SESSIONS).rows().equals(rows)
    assert not any(b"canary" in entry.read_bytes() for entry in log(lake).iterdir())
    lake.replace_days(SESSIONS, [DAY], sessions("new"))
    assert lake.snapshot(SESSIONS).rows().equals(sessions("new"))


def test_an_older_file_of_a_day_is_found_though_the_entry_that_added_it_is_gone(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY, NEXT_DAY], pa.concat_tables([sessions("a"), sessions("x", day=NEXT_DAY)]))
    (old,) = lake.snapshot(SESSIONS).files([DAY])
    expire_log(lake, SESSIONS)
    for entry in log(lake).iterdir():
        age(entry, 31)
    lake.replace_days(SESSIONS, [DAY], sessions("b"))
    (new,) = lake.snapshot(SESSIONS).files([DAY])
    listed = [(file.path, file.rows) for file in files_ever(SESSIONS, lake.location(SESSIONS), DAY)]
    assert listed == [(new, 1), (old, 1)]
    assert expire_log(lake, SESSIONS) == 1
    listed = [(file.path, file.rows) for file in files_ever(SESSIONS, lake.location(SESSIONS), DAY)]
    assert listed == [(new, 1), (old, 0)]


def test_a_table_never_written_stays_unwritten(lake: Lake) -> None:
    assert compact(lake, SESSIONS, none_damaged) == []
    assert vacuum(lake, SESSIONS) == VacuumResult(0, 0)
    assert expire_log(lake, SESSIONS) == 0
    assert not Path(lake.uri).exists()
