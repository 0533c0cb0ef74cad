"""Tables on disk: what a write changes, what it leaves alone, what it refuses, and what a reader sees meanwhile."""

import dataclasses
import os
import shutil
from datetime import date
from pathlib import Path
from threading import Barrier, Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from devin_pipeline.lake import Commit, Lake, LakeError, Rewrite, Snapshot, TooManyConflicts, rows_by_arrow
from devin_pipeline.tables import ALL_TABLES, RAW_QUARANTINE, TABLES, Table
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, Row, acus, after, rows_of

pytestmark = pytest.mark.notices(
    "the order of rows in a file",
    "days that were not asked for, left out",
    "two writers of one day",
    "two writers of one report",
    "inputs that move meanwhile",
    "tables others may read",
)

SESSIONS = TABLES["sessions"]
ACU_DAILY, ACU_WEEKLY = TABLES["acu_daily"], TABLES["acu_weekly"]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def sessions(*ids: str, day: date = DAY, **values: object) -> pa.Table:
    return rows_of(SESSIONS, [{"day": day, "session_id": session_id, **values} for session_id in ids])


def ids(lake: Lake, table: Table = SESSIONS) -> list[tuple[date, str]]:
    return [(row["day"], row["session_id"]) for row in lake.snapshot(table).rows().to_pylist()]


@dataclasses.dataclass
class Adding:
    """A plan that adds one session to a day; each time it is asked, it first does what `meanwhile` says."""

    session_id: str
    day: date = DAY
    asked: int = 0

    def __call__(self, snapshot: Snapshot) -> Rewrite:
        self.asked += 1
        self.meanwhile()
        return Rewrite(
            [self.day], pa.concat_tables([snapshot.rows([self.day]), sessions(self.session_id, day=self.day)])
        )

    def meanwhile(self) -> None:
        """Nothing."""


def test_rows_are_stored_in_key_order_whatever_order_they_are_given_in(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY], sessions("c", "a", "b"))
    (file,) = lake.snapshot(SESSIONS).files()
    assert pq.read_table(file, columns=["session_id"]).column("session_id").to_pylist() == ["a", "b", "c"]


def test_what_is_written_is_read_back_in_key_order_and_schema(lake: Lake) -> None:
    values: Row = {
        "tags": ["b", "a", "b"],
        "acus": acus("0.1"),
        "title": "Grüße\x00 ✓",
        "updated_at": after(0.25),
        "feeds": ["f"],
    }
    commit = lake.replace_days(
        SESSIONS, [DAY, NEXT_DAY], pa.concat_tables([sessions("a", "b", **values), sessions("c", day=NEXT_DAY)])
    )
    assert commit == Commit(SESSIONS, 1, [DAY, NEXT_DAY])
    rows = lake.snapshot(SESSIONS).rows()
    assert rows.schema.equals(SESSIONS.schema)
    assert rows.equals(pa.concat_tables([sessions("a", "b", **values), sessions("c", day=NEXT_DAY)]))


def test_replacing_days_leaves_every_other_day_alone(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY, NEXT_DAY], pa.concat_tables([sessions("a", "b"), sessions("c", day=NEXT_DAY)]))
    kept = lake.snapshot(SESSIONS).files([NEXT_DAY])
    lake.replace_days(SESSIONS, [DAY], sessions("b", "d"))
    assert ids(lake) == [(DAY, "b"), (DAY, "d"), (NEXT_DAY, "c")]
    assert lake.snapshot(SESSIONS).files([NEXT_DAY]) == kept


def test_equal_rows_make_no_new_version(lake: Lake) -> None:
    rows = sessions("a", "b", tags=["x", "y"], acus=acus("1.5"), title=None)
    first = lake.replace_days(SESSIONS, [DAY], rows)
    assert lake.replace_days(SESSIONS, [DAY], rows) == Commit(SESSIONS, None, [])
    assert lake.snapshot(SESSIONS).version == first.version


def test_of_several_days_only_the_changed_ones_are_written(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY, NEXT_DAY], pa.concat_tables([sessions("a"), sessions("b", day=NEXT_DAY)]))
    commit = lake.replace_days(
        SESSIONS, [DAY, NEXT_DAY], pa.concat_tables([sessions("a"), sessions("b", day=NEXT_DAY, title="new")])
    )
    assert commit.days == [NEXT_DAY]


def test_any_changed_value_makes_a_new_version(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY], sessions("a"))
    values: Row = {}
    changes: list[Row] = [{"title": "t"}, {"acus": acus("0.000001")}, {"tags": ["x"]}, {"is_listed": False}]
    for change in changes:
        values |= change
        assert lake.replace_days(SESSIONS, [DAY], sessions("a", **values)).days == [DAY]
        assert lake.snapshot(SESSIONS).rows().equals(sessions("a", **values))


def test_one_row_twice_differs_from_the_row_once(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY], sessions("a"))
    assert lake.replace_days(SESSIONS, [DAY], sessions("a", "a")).days == [DAY]
    assert ids(lake) == [(DAY, "a"), (DAY, "a")]


def test_a_day_without_rows_becomes_empty(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY, NEXT_DAY], pa.concat_tables([sessions("a"), sessions("b", day=NEXT_DAY)]))
    assert lake.replace_days(SESSIONS, [DAY, NEXT_DAY], sessions("b", day=NEXT_DAY)).days == [DAY]
    assert ids(lake) == [(NEXT_DAY, "b")]
    assert lake.snapshot(SESSIONS).files([DAY]) == []


def test_an_empty_day_that_was_never_written_needs_no_commit(lake: Lake) -> None:
    assert lake.replace_days(SESSIONS, [DAY], sessions()).version is None
    assert lake.snapshot(SESSIONS).version is None


def test_a_null_where_none_may_be_is_refused_and_nothing_is_written(lake: Lake) -> None:
    nameless = sessions("a").set_column(1, "session_id", pa.array([None], pa.string()))
    with pytest.raises(ValueError, match="session_id"):
        lake.replace_days(SESSIONS, [DAY], nameless)
    assert lake.snapshot(SESSIONS).version is None


def test_a_planned_row_outside_its_days_is_refused_and_nothing_is_written(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [NEXT_DAY], sessions("kept", day=NEXT_DAY))
    with pytest.raises(DeltaError):
        lake.rewrite(SESSIONS, lambda _: Rewrite([DAY], sessions("outside", day=NEXT_DAY)))
    assert ids(lake) == [(NEXT_DAY, "kept")]


def test_rows_outside_the_days_to_replace_never_touch_another_day(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [NEXT_DAY], sessions("kept", day=NEXT_DAY))
    with pytest.raises((LakeError, DeltaError, ValueError)):
        lake.replace_days(SESSIONS, [DAY], pa.concat_tables([sessions("a"), sessions("outside", day=NEXT_DAY)]))
    assert ids(lake) == [(NEXT_DAY, "kept")]


def test_a_snapshot_and_a_connection_stay_as_they_are_while_another_commit_lands(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY], sessions("a"))
    snapshot = lake.snapshot(SESSIONS)
    with lake.connect([SESSIONS]) as connection:
        lake.replace_days(SESSIONS, [DAY], sessions("b"))
        assert connection.rows("select session_id from sessions").to_pylist() == [{"session_id": "a"}]
    assert snapshot.rows().equals(sessions("a"))
    assert snapshot.version == 1
    assert ids(lake) == [(DAY, "b")]


def test_a_connection_to_some_days_shows_those_days_only(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY, NEXT_DAY], pa.concat_tables([sessions("a"), sessions("b", day=NEXT_DAY)]))
    with lake.connect([SESSIONS], days=[NEXT_DAY]) as connection:
        assert connection.rows("select day, session_id from sessions").to_pylist() == [
            {"day": NEXT_DAY, "session_id": "b"}
        ]


def test_a_column_that_older_files_lack_reads_as_null_next_to_newer_files(lake: Lake) -> None:
    older = dataclasses.replace(SESSIONS, columns=tuple(c for c in SESSIONS.columns if c.name != "title"))
    lake.replace_days(older, [DAY], sessions("old").drop_columns("title"))
    assert lake.snapshot(SESSIONS).rows().column("title").to_pylist() == [None]
    lake.replace_days(SESSIONS, [NEXT_DAY], sessions("new", day=NEXT_DAY, title="known"))
    rows = lake.snapshot(SESSIONS).rows()
    assert rows.schema.equals(SESSIONS.schema)
    assert rows.column("title").to_pylist() == [None, "known"]


def test_two_writers_of_one_day_keep_both_additions(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY], sessions("first"))
    both_have_read = Barrier(2, timeout=10)

    class Racing(Adding):
        def meanwhile(self) -> None:
            if self.asked == 1:
                both_have_read.wait()

    plans = [Racing("left"), Racing("right")]
    commits: list[Commit] = []
    writers = [
        Thread(target=lambda plan=plan: commits.append(Lake(lake.uri).rewrite(SESSIONS, plan))) for plan in plans
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=20)
    assert ids(lake) == [(DAY, "first"), (DAY, "left"), (DAY, "right")]
    assert sorted(commit.conflicts for commit in commits) == [0, 1]
    assert sorted(plan.asked for plan in plans) == [1, 2]


@pytest.mark.parametrize("held", [DAY, NEXT_DAY], ids=["that day", "another day"])
def test_a_writer_overtaken_just_before_it_writes_plans_again(lake: Lake, held: date) -> None:
    lake.replace_days(SESSIONS, [held], sessions("a", day=held))
    plan = Adding("slower")

    class Overtaken(Lake):
        """Another writer is faster once what was planned from is opened to be written to."""

        is_overtaken = False

        def snapshot(self, table: Table) -> Snapshot:
            read = super().snapshot(table)
            if plan.asked and not self.is_overtaken:
                self.is_overtaken = True
                lake.rewrite(SESSIONS, Adding("faster"))
            return read

    assert Overtaken(lake.uri).rewrite(SESSIONS, plan).conflicts == 1
    assert sorted(ids(lake)) == sorted([(held, "a"), (DAY, "faster"), (DAY, "slower")])


@pytest.mark.notices("a log that has moved on")
def test_what_another_process_writes_is_seen_at_once(lake: Lake, tmp_path: Path) -> None:
    lake.replace_days(SESSIONS, [DAY], sessions("a"))
    # As another process does, whose versions nobody here keeps open.
    DeltaTable(lake.location(SESSIONS)).delete()
    assert lake.cached_snapshot(SESSIONS).rows().num_rows == 0
    assert lake.replace_days(SESSIONS, [DAY], sessions("b")).conflicts == 0

    # A table created again in the same place, with as many versions.
    other = Lake(str(tmp_path / "other"))
    for session_id in ("x", "y", "z"):
        other.replace_days(SESSIONS, [DAY], sessions(session_id))
    assert other.snapshot(SESSIONS).version == lake.snapshot(SESSIONS).version
    shutil.rmtree(lake.location(SESSIONS))
    shutil.copytree(other.location(SESSIONS), lake.location(SESSIONS))
    assert lake.cached_snapshot(SESSIONS).rows().column("session_id").to_pylist() == ["z"]


def test_two_writers_of_different_days_both_commit(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY, NEXT_DAY], pa.concat_tables([sessions("a"), sessions("b", day=NEXT_DAY)]))

    class Interrupted(Adding):
        def meanwhile(self) -> None:
            Lake(lake.uri).replace_days(SESSIONS, [NEXT_DAY], sessions("c", day=NEXT_DAY))

    lake.rewrite(SESSIONS, Interrupted("d"))
    assert ids(lake) == [(DAY, "a"), (DAY, "d"), (NEXT_DAY, "c")]


@pytest.mark.notices("another writer between plan and commit")
def test_two_writers_of_a_day_that_held_nothing_keep_both_additions(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [NEXT_DAY], sessions("other", day=NEXT_DAY))

    class Interrupted(Adding):
        def meanwhile(self) -> None:
            if self.asked == 1:
                Lake(lake.uri).rewrite(SESSIONS, Adding("faster"))

    assert lake.rewrite(SESSIONS, Interrupted("slower")).conflicts == 1
    assert ids(lake) == [(DAY, "faster"), (DAY, "slower"), (NEXT_DAY, "other")]


def test_two_first_writers_of_a_table_keep_both_additions(lake: Lake) -> None:
    class Interrupted(Adding):
        def meanwhile(self) -> None:
            if self.asked == 1:
                Lake(lake.uri).rewrite(SESSIONS, Adding("faster"))

    lake.rewrite(SESSIONS, Interrupted("slower"))
    assert ids(lake) == [(DAY, "faster"), (DAY, "slower")]


def test_a_writer_that_keeps_losing_gives_up_and_undoes_nobody(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY], sessions("0"))

    class Losing(Adding):
        def meanwhile(self) -> None:
            Lake(lake.uri).rewrite(SESSIONS, Adding(str(self.asked)))

    loser = Losing("never")
    with pytest.raises(TooManyConflicts, match="sessions was not written"):
        lake.rewrite(SESSIONS, loser)
    assert loser.asked == 6
    assert ids(lake) == [(DAY, str(n)) for n in range(7)]


def test_two_writers_of_an_empty_unpartitioned_table_leave_the_rows_of_one(lake: Lake) -> None:
    report = TABLES["acu_weekly"]
    rows = rows_of(report, [{"org_id": "o"}])
    lake.replace_all(report, rows.slice(0, 0))

    class Slower(Lake):
        """Another writer is faster between its first read and its write."""

        def snapshot(self, table: Table) -> Snapshot:
            read = super().snapshot(table)
            if not read.rows().num_rows:
                lake.replace_all(report, rows)
            return read

    Slower(lake.uri).replace_all(report, rows)
    assert lake.snapshot(report).rows().equals(rows)


def test_work_is_done_again_when_its_inputs_were_written_meanwhile(lake: Lake) -> None:
    lake.replace_days(SESSIONS, [DAY], sessions("old"))
    seen: list[list[str]] = []

    def work() -> int:
        seen.append([session for _, session in ids(lake)])
        if len(seen) == 1:
            Lake(lake.uri).replace_days(SESSIONS, [DAY], sessions("new"))
            # Another day's rows are none of its inputs.
            Lake(lake.uri).replace_days(SESSIONS, [NEXT_DAY], sessions("other", day=NEXT_DAY))
        return len(seen)

    assert lake.retry_until_inputs_stable([SESSIONS], [DAY], work) == 2
    assert seen == [["old"], ["new", "other"]]


def test_a_plan_of_nothing_leaves_the_table_as_it_is(lake: Lake) -> None:
    assert lake.rewrite(SESSIONS, lambda _: None).version is None
    assert lake.rewrite(SESSIONS, lambda _: Rewrite([], sessions())).version is None
    assert not Path(lake.location(SESSIONS)).exists()


def test_a_table_never_written_is_a_view_of_no_rows_with_its_columns(lake: Lake) -> None:
    with lake.connect() as connection:
        for table in ALL_TABLES:
            assert connection.rows(f"from {table.name}").cast(table.schema).equals(table.schema.empty_table())
    assert (lake.snapshot(SESSIONS).version, lake.snapshot(SESSIONS).files()) == (None, [])
    assert not Path(lake.uri).exists()


@pytest.mark.parametrize("name", ["it's a folder", 'Müllers "數據" #1;&{x}~'])
def test_a_lake_may_be_in_any_folder_a_person_makes(tmp_path: Path, name: str) -> None:
    lake = Lake(str(tmp_path / name / "lake"))
    lake.replace_days(SESSIONS, [DAY], sessions("a"))
    lake.replace_days(SESSIONS, [DAY], sessions("b"))
    lake.replace_all(ACU_WEEKLY, rows_of(ACU_WEEKLY, [{}]))
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert ids(lake) == [(DAY, "b")]
    assert lake.query("select session_id from sessions, acu_weekly").to_pylist() == [{"session_id": "b"}]


@pytest.mark.parametrize("name", ["100%", "a%20b", "a*", "why?", "a[1]"])
def test_a_folder_that_delta_or_duckdb_would_not_take_literally_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LakeError, match="Set DEVIN_LAKE to a folder of letters"):
        Lake(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_tables_folder_is_its_owners_only_whatever_the_umask(lake: Lake, umask: int) -> None:
    before = os.umask(umask)
    try:
        lake.replace_days(SESSIONS, [DAY], sessions("a"))
    finally:
        os.umask(before)
    assert Path(lake.location(SESSIONS)).stat().st_mode & 0o777 == 0o700


def test_a_relative_folder_stays_the_same_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = Lake("lake")
    monkeypatch.chdir("/")
    assert lake.uri == str(tmp_path / "lake")


def test_a_whole_table_is_replaced_and_unchanged_when_equal(lake: Lake) -> None:
    weeks = rows_of(ACU_WEEKLY, [{"org_id": "a", "sessions": 1}, {"org_id": "b", "acus": acus("2")}])
    assert lake.replace_all(ACU_WEEKLY, weeks).version == 1
    assert lake.replace_all(ACU_WEEKLY, weeks).version is None
    assert lake.snapshot(ACU_WEEKLY).rows().equals(weeks)
    assert lake.replace_all(ACU_WEEKLY, weeks.slice(1)).version == 2
    assert lake.snapshot(ACU_WEEKLY).rows().equals(weeks.slice(1))
    lake.replace_all(ACU_WEEKLY, weeks.slice(2))
    assert lake.snapshot(ACU_WEEKLY).rows().num_rows == 0


# Arrow and DuckDB give rows in batches of at most 122,880.
MANY = 300_000


def many(table: Table) -> pa.Table:
    """Rows that fill several batches, in key order."""
    (first,) = rows_of(table, [{"org_id": "a", "acus": acus("1")}]).to_pylist()
    columns = {name: pa.repeat(pa.scalar(value, table.schema.field(name).type), MANY) for name, value in first.items()}
    columns["user_id"] = pa.array([f"{number:06}" for number in range(MANY)])
    return pa.Table.from_batches(pa.table(columns, table.schema).to_batches(max_chunksize=100_000))


def stored_as_written(lake: Lake, table: Table) -> pa.Table:
    return pa.concat_tables(rows_by_arrow(table, file) for file in lake.snapshot(table).stored_files())


@pytest.mark.notices("order: rows that Delta's threads would displace")
def test_a_whole_table_is_stored_in_key_order_whatever_its_size(lake: Lake) -> None:
    rows = many(ACU_WEEKLY)
    lake.replace_all(ACU_WEEKLY, rows)
    assert stored_as_written(lake, ACU_WEEKLY).equals(rows)
    assert lake.replace_all(ACU_WEEKLY, rows).version is None


def test_a_day_is_stored_in_key_order_whatever_its_size(lake: Lake) -> None:
    rows = many(ACU_DAILY)
    lake.replace_days(ACU_DAILY, [DAY], rows)
    assert stored_as_written(lake, ACU_DAILY).equals(rows)
    assert lake.replace_days(ACU_DAILY, [DAY], rows).version is None


def test_rows_in_another_order_are_the_same_rows_and_are_put_in_order_when_written(lake: Lake) -> None:
    rows = rows_of(ACU_WEEKLY, [{"org_id": org_id, "acus": acus("1")} for org_id in "abc"])
    write_deltalake(lake.location(ACU_WEEKLY), rows.take([2, 0, 1]))
    assert lake.snapshot(ACU_WEEKLY).equals_stored(rows)
    assert not lake.snapshot(ACU_WEEKLY).equals_stored(rows, in_key_order=True)
    others = (rows.take([0, 0, 1]), rows.slice(1), rows_of(ACU_WEEKLY, [{"org_id": org_id} for org_id in "abc"]))
    assert not any(lake.snapshot(ACU_WEEKLY).equals_stored(other) for other in others)
    assert lake.replace_all(ACU_WEEKLY, rows).version == 1
    assert stored_as_written(lake, ACU_WEEKLY).equals(rows)


def test_the_log_lists_each_file_with_its_day_and_rows(lake: Lake) -> None:
    lake.replace_days(
        RAW_QUARANTINE,
        [DAY, NEXT_DAY],
        rows_of(RAW_QUARANTINE, [{}, {"content_hash": "b"}, {"day": NEXT_DAY}]),
    )
    files = lake.snapshot(RAW_QUARANTINE).stored_files()
    assert [(file.day, file.rows) for file in files] == [(DAY, 2), (NEXT_DAY, 1)]
    assert all(Path(file.path).is_file() for file in files)
