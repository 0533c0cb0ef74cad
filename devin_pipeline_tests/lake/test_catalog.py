"""`devin.duckdb`, opened as the duckdb CLI or a BI tool would."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from devin_pipeline.cli import main
from devin_pipeline.lake import Lake, LakeIdentity, Snapshot, renew_moved_catalog, write_catalog
from devin_pipeline.tables import ALL_TABLES, TABLES, Table
from devin_pipeline.tables.measures import MEASURES
from devin_pipeline.tables.views import NAMED_VIEWS
from devin_pipeline_tests.tables.rows import DAY, acus, rows_of

pytestmark = pytest.mark.notices("a damaged devin.duckdb left as it is", "older views over newer ones")

SESSIONS = TABLES["sessions"]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "it's a lake"))


def fill(lake: Lake, *ids: str) -> None:
    lake.replace_days(SESSIONS, [DAY], rows_of(SESSIONS, [{"session_id": i, "acus": acus("0.1")} for i in ids]))


@contextmanager
def opened(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the file as it is now; `connect` would share an older one to the same path."""
    with duckdb.connect() as connection:
        path = f"{lake.uri}/devin.duckdb".replace("'", "''")
        connection.execute(f"attach '{path}' as devin (read_only)")
        connection.execute("use devin")
        yield connection


def ids(connection: duckdb.DuckDBPyConnection) -> list[str]:
    return [row[0] for row in connection.sql("select session_id from sessions order by all").fetchall()]


def test_every_table_is_a_view_with_its_grain_measures_and_columns_described(lake: Lake) -> None:
    lake.claim(LakeIdentity("live", "api.devin.ai", "enterprise", 8))
    fill(lake, "a")
    file = Path(lake.uri) / "devin.duckdb"
    assert write_catalog(lake) == (file, [], True)
    with duckdb.connect(str(file), read_only=True) as connection:
        assert ids(connection) == ["a"]
    with opened(lake) as connection:
        views = connection.sql("select view_name, comment from duckdb_views() where not internal").fetchall()
        described = {name: comment.split("\n") for name, comment in views}
        meanings = {t.name: t.grain for t in ALL_TABLES} | {view.name: view.description for view in NAMED_VIEWS}
        assert {name: meaning for name, (meaning, *_) in described.items()} == meanings
        (acus_,) = [line for line in described["acu_daily"] if line.startswith("acus (ACUs): ")]
        assert acus_ == f"acus (ACUs): {MEASURES['acus'].definition}"
        assert sum(len(lines) - 1 for lines in described.values()) == len(MEASURES)
        columns = connection.sql(
            "select table_name, column_name, comment from duckdb_columns() where database_name = 'devin'"
        ).fetchall()
        of_tables = sorted(row for row in columns if row[0] in TABLES)
        assert of_tables == sorted((t.name, c.name, c.description) for t in ALL_TABLES for c in t.columns)
        assert connection.sql("select session_id, acus from sessions").fetchall() == [("a", acus("0.1"))]
        assert connection.sql("from pull_requests").fetchall() == []


def test_who_has_the_old_file_open_keeps_it_and_who_opens_it_now_gets_the_new_one(lake: Lake) -> None:
    fill(lake, "a")
    write_catalog(lake)
    with opened(lake) as old:
        fill(lake, "b", "c")
        # What a process that was killed long ago left behind.
        left = Path(lake.uri) / ".devin.duckdb.12345"
        left.write_bytes(b"half a file")
        os.utime(left, (0, 0))
        write_catalog(lake)
        assert ids(old) == ["a"]
        with opened(lake) as new:
            assert ids(new) == ["b", "c"]
    assert [file.name for file in Path(lake.uri).iterdir() if file.is_file()] == ["devin.duckdb"]


def test_a_slow_run_does_not_put_older_views_over_those_of_a_faster_one(lake: Lake) -> None:
    fill(lake, "old")

    class Slower(Lake):
        """A faster run writes a table and the file between this one's look at the tables and its file."""

        looks = 0

        def cached_snapshot(self, table: Table) -> Snapshot:
            read = super().cached_snapshot(table)
            self.looks += table == SESSIONS
            # The first look finds that the file is to be written, the second is the one that it is made of.
            if table == SESSIONS and self.looks == 3:
                fill(lake, "new")
                write_catalog(lake)
            return read

    write_catalog(Slower(lake.uri))
    with opened(lake) as connection:
        assert ids(connection) == ["new"]


def test_a_damaged_table_is_left_out_and_holds_no_other_back(lake: Lake) -> None:
    fill(lake, "a")
    lake.replace_all(TABLES["acu_weekly"], rows_of(TABLES["acu_weekly"], [{}]))
    Path(lake.snapshot(SESSIONS).files()[0]).unlink()
    made = write_catalog(lake)
    assert made is not None
    assert made.left_out == [SESSIONS]
    with opened(lake) as connection:
        assert connection.sql("select count(*) from acu_weekly").fetchall() == [(1,)]
        with pytest.raises(duckdb.CatalogException):
            ids(connection)


def test_a_table_that_was_left_out_gets_its_view_once_its_file_is_back(lake: Lake) -> None:
    fill(lake, "a")
    file = Path(lake.snapshot(SESSIONS).files()[0])
    whole = file.read_bytes()
    file.unlink()
    catalog = Path(lake.uri) / "devin.duckdb"
    for _ in range(2):
        assert write_catalog(lake) == (catalog, [SESSIONS], True)
    file.write_bytes(whole)
    assert write_catalog(lake) == (catalog, [], True)
    with opened(lake) as connection:
        assert ids(connection) == ["a"]


def test_nothing_is_written_when_no_table_changed(lake: Lake) -> None:
    fill(lake, "a")
    made = write_catalog(lake)
    assert made is not None

    def stored() -> list[tuple[str, int, int]]:
        found = [(path, path.stat()) for path in [Path(lake.uri), *Path(lake.uri).rglob("*")]]
        return sorted((str(path), status.st_ino, status.st_mtime_ns) for path, status in found)

    before = stored()
    assert write_catalog(lake) == (made.file, [], False)
    assert stored() == before
    fill(lake, "b")
    assert write_catalog(lake) == (made.file, [], True)
    # As much changes when the lake turns out to be a demo's.
    lake.claim(LakeIdentity("demo", "localhost", "enterprise", 8))
    assert write_catalog(lake) == (made.file, [], True)


def foreign(file: Path) -> None:
    file.unlink()
    with duckdb.connect(str(file)) as connection:
        connection.execute("create table sessions as select 'somebody' as session_id")


def older(file: Path) -> None:
    """As made before the file held its fingerprint: the same views, no fingerprint."""
    with duckdb.connect(str(file)) as connection:
        connection.execute("drop macro catalog_fingerprint")


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[content.index(b"sessions")] ^= 1
    file.write_bytes(content)


def linked(file: Path) -> None:
    file.symlink_to(file.rename(file.with_name("elsewhere.duckdb")))


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        lambda file: file.write_bytes(b""),
        lambda file: os.truncate(file, 100_000),
        flipped,
        foreign,
        older,
        linked,
    ],
    ids=["gone", "empty", "cut short", "flipped", "foreign", "older", "a link"],
)
def test_a_file_that_is_not_what_was_written_is_rewritten_though_no_table_changed(
    lake: Lake, spoil: Callable[[Path], object]
) -> None:
    fill(lake, "a")
    made = write_catalog(lake)
    assert made is not None
    spoil(made.file)
    assert write_catalog(lake) == (made.file, [], True)
    assert write_catalog(lake) == (made.file, [], False)
    assert not made.file.is_symlink()
    with opened(lake) as connection:
        assert ids(connection) == ["a"]


def test_the_look_at_the_file_leaves_no_lock_on_it(lake: Lake) -> None:
    write_catalog(lake)
    made = write_catalog(lake)
    assert made is not None
    assert not made.changed
    # In another process: locks do not hold against one's own.
    writing = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('create table t as select 1')"
    subprocess.run([sys.executable, "-c", writing, str(made.file)], check=True)


def elsewhere(connection: duckdb.DuckDBPyConnection, *files: Path) -> None:
    for number, file in enumerate(files):
        path = str(file).replace("'", "''")
        connection.execute(f"attach '{path}' as alias_{number} (read_only)")


@pytest.mark.notices("a file of views in another place than it was written for")
@pytest.mark.parametrize("keep", [True, False])
def test_the_file_of_a_copied_or_moved_lake_does_not_answer_from_the_other_one(
    lake: Lake, tmp_path: Path, keep: bool
) -> None:
    fill(lake, "a")
    write_catalog(lake)
    here, there = Path(lake.uri), tmp_path / "there"
    shutil.copytree(here, there) if keep else here.rename(there)
    with duckdb.connect() as connection:
        elsewhere(connection, there / "devin.duckdb")
        for table in ALL_TABLES:
            with pytest.raises(duckdb.Error) as refused:
                connection.execute(f"from alias_0.{table.name}")
            if keep or table != SESSIONS:
                # DuckDB looks for the files of a view before anything else, and names the one that is gone.
                assert "devin-pipeline tables" in str(refused.value)
                assert str(there) in str(refused.value)
            assert str(here).replace("'", "") in str(refused.value).replace("'", "").replace(chr(92), "")
    if keep:
        with duckdb.connect() as connection:
            elsewhere(connection, here / "devin.duckdb")
            assert connection.sql("select session_id from alias_0.sessions").fetchall() == [("a",)]

    moved = Lake(str(there))
    fill(moved, "b")
    renew_moved_catalog(moved)
    with duckdb.connect() as connection:
        elsewhere(connection, there / "devin.duckdb")
        assert connection.sql("select session_id from alias_0.sessions").fetchall() == [("b",)]


def test_a_copy_that_is_attached_next_to_the_original_does_not_answer_from_it(lake: Lake, tmp_path: Path) -> None:
    fill(lake, "a")
    write_catalog(lake)
    shutil.copytree(lake.uri, tmp_path / "there")
    with duckdb.connect() as connection:
        elsewhere(connection, Path(lake.uri) / "devin.duckdb", tmp_path / "there" / "devin.duckdb")
        with pytest.raises(duckdb.Error, match="written for"):
            connection.execute("from alias_1.sessions")


def test_two_lakes_answer_next_to_each_other_each_from_its_own_files(lake: Lake, tmp_path: Path) -> None:
    other = Lake(str(tmp_path / "other"))
    fill(lake, "a")
    fill(other, "b")
    write_catalog(lake)
    write_catalog(other)
    with duckdb.connect() as connection:
        elsewhere(connection, Path(lake.uri) / "devin.duckdb", Path(other.uri) / "devin.duckdb")
        both = "select session_id from alias_0.sessions union all select session_id from alias_1.sessions order by 1"
        assert connection.sql(both).fetchall() == [("a",), ("b",)]


def test_the_file_answers_through_a_link_and_a_relative_path(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lake, "a")
    write_catalog(lake)
    (tmp_path / "link").symlink_to(lake.uri)
    monkeypatch.chdir(tmp_path)
    for path in ("link/devin.duckdb", f"{tmp_path}/link/devin.duckdb", f"{Path(lake.uri).name}/devin.duckdb"):
        with duckdb.connect() as connection:
            elsewhere(connection, Path(path))
            assert connection.sql("select session_id from alias_0.sessions").fetchall() == [("a",)]
    # And one that was written through the link.
    through = Lake(str(tmp_path / "link"))
    write_catalog(through)
    with opened(through) as connection:
        assert ids(connection) == ["a"]


@pytest.mark.parametrize("command", [["tables"], ["query", "select 1"]])
def test_the_first_command_in_the_new_place_writes_the_file_again(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    lake.claim(LakeIdentity("live", "api.devin.ai", "enterprise", 8))
    fill(lake, "a")
    write_catalog(lake)
    there = tmp_path / "there"
    Path(lake.uri).rename(there)
    monkeypatch.setenv("DEVIN_LAKE", str(there))
    assert CliRunner().invoke(main, command).exit_code == 0
    with opened(Lake(str(there))) as connection:
        assert ids(connection) == ["a"]
    before = (there / "devin.duckdb").stat().st_mtime_ns
    assert CliRunner().invoke(main, command).exit_code == 0
    assert (there / "devin.duckdb").stat().st_mtime_ns == before


def test_a_demo_lake_says_so_on_every_view(lake: Lake) -> None:
    lake.claim(LakeIdentity("demo", "localhost", "enterprise", 8))
    write_catalog(lake)
    with opened(lake) as connection:
        comments = connection.sql("select comment from duckdb_views() where not internal").fetchall()
    assert {comment.startswith("DEMO DATA") for (comment,) in comments} == {True}


def test_a_lake_in_an_object_store_has_no_such_file() -> None:
    assert write_catalog(Lake("s3://bucket/lake")) is None
