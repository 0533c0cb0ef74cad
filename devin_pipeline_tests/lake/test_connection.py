"""A person's query: what it may read, and that it can do nothing else."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from devin_pipeline.lake import Connection, Lake, LakeIdentity, NotReadOnly, QueryFailed
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.tables.rows import DAY, acus, rows_of

pytestmark = pytest.mark.notices(
    "a query that writes",
    "a query that reads elsewhere",
    "a query that loads an extension",
    "a query that reads a replaced version",
)

SESSIONS = TABLES["sessions"]


# One for all: nothing here may change it.
@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(str(tmp_path_factory.mktemp("queries") / "lake"))
    lake.claim(LakeIdentity("live", "api.devin.ai", "enterprise", 8))
    rows = [{"session_id": "a", "acus": acus("0.1"), "tags": ["x"]}, {"session_id": "b", "acus": acus("0.2")}]
    lake.replace_days(SESSIONS, [DAY], rows_of(SESSIONS, rows))
    return lake


def everything_in(lake: Lake) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in Path(lake.uri).parent.rglob("*")}


def test_a_query_gets_its_rows_with_decimals_exactly(lake: Lake) -> None:
    result = lake.query("select sum(acus) as acus, sum(acus) = 0.3 as is_exact from sessions")
    assert result.to_pylist() == [{"acus": Decimal("0.300000"), "is_exact": True}]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT session_id FROM Sessions ORDER BY 1 LIMIT 1;", [{"session_id": "a"}]),
        ("with s as (from sessions) select count(*) as n from s", [{"n": 2}]),
        ("from sessions select session_id where acus > 0.1", [{"session_id": "b"}]),
        ("select unnest(tags) as tag from sessions", [{"tag": "x"}]),
        ("select count(*) as n from sessions left join pull_requests on true", [{"n": 2}]),
    ],
)
def test_one_statement_that_reads_is_answered(lake: Lake, query: str, rows: list[dict[str, object]]) -> None:
    assert lake.query(query).to_pylist() == rows


def test_describe_and_summarize_list_the_columns(lake: Lake) -> None:
    for query in ("describe sessions", "summarize sessions"):
        assert lake.query(query).column("column_name").to_pylist() == SESSIONS.column_names


@pytest.mark.parametrize(
    "query",
    [
        "",
        "-- nothing",
        "create table t (a int)",
        "create view v as select 1",
        "drop view sessions",
        "insert into sessions select * from sessions",
        "update sessions set title = 'x'",
        "delete from sessions",
        "copy sessions to 'out.csv'",
        "copy (select 1) to 'out.parquet'",
        "export database 'out'",
        "attach 'other.duckdb'",
        "detach memory",
        "use memory",
        "set threads = 1",
        "reset threads",
        "set enable_external_access = true",
        "set lock_configuration = false",
        "set variable x = 1",
        "pragma database_list",
        "pragma enable_external_access",
        "install httpfs",
        "load httpfs",
        "call pragma_version()",
        "begin",
        "checkpoint",
        "prepare p as select 1",
        "select 1; select 2",
        "select 1; set threads = 1",
        "/* select */ drop view sessions",
    ],
)
def test_anything_but_one_statement_that_reads_is_refused_and_changes_nothing(lake: Lake, query: str) -> None:
    before = everything_in(lake)
    with pytest.raises(NotReadOnly, match="one SELECT"):
        lake.query(query)
    assert everything_in(lake) == before
    assert not [name for name in ("out.csv", "out.parquet", "out", "other.duckdb") if Path(name).exists()]


@pytest.mark.parametrize(
    "query",
    [
        "from read_text('{file}')",
        "from read_blob('{file}')",
        "from read_csv('{file}')",
        "from read_json('{file}')",
        "from read_parquet('{file}')",
        "from parquet_metadata('{file}')",
        "from sniff_csv('{file}')",
        "from '{file}'",
        "from glob('{file}')",
        "from glob('{folder}/*')",
        "from read_text('{lake}/../secret.csv')",
        "from glob('{lake}/../*')",
        "from read_text('file://{file}')",
        "from read_text('/etc/hostname')",
        "from 'https://localhost:1/x.csv'",
        "from read_csv('s3://bucket/x.csv')",
        "select * from query('from read_text(''{file}'')')",
        "with gone as (delete from sessions returning *) from gone",
        "from enable_logging()",
        "from glob('{lake}/**')",
        "from read_text('{lake}/lake.json')",
        "from read_text('{lake}/link')",
        "from read_text('.tmp/../pyproject.toml')",
        "from read_blob('/proc/self/environ')",
        "from secret_rows",
        "from sqlite_scan('{file}', 't')",
        "select getenv('HOME')",
    ],
)
def test_a_query_reads_the_files_of_its_tables_and_nothing_else(lake: Lake, query: str) -> None:
    secret = Path(lake.uri).parent / "secret.csv"
    secret.write_text("a,b\n1,hunter2\n")
    secret_rows = pa.table({"a": ["hunter2"]})  # DuckDB finds Python's variables by name, if it may
    link = Path(lake.uri) / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    asked = query.format(file=secret, folder=secret.parent, lake=lake.uri)
    with pytest.raises(QueryFailed) as refused:
        lake.query(asked)
    assert "hunter2" not in str(refused.value)
    assert secret_rows.num_rows


def test_a_query_cannot_read_a_version_that_was_replaced(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.replace_days(SESSIONS, [DAY], rows_of(SESSIONS, [{"session_id": "a", "title": "hunter2"}]))
    (old,) = lake.snapshot(SESSIONS).files()
    lake.replace_days(SESSIONS, [DAY], rows_of(SESSIONS, [{"session_id": "a", "title": "new"}]))
    assert lake.query("select title from sessions").to_pylist() == [{"title": "new"}]
    with pytest.raises(QueryFailed):
        lake.query(f"select title from read_parquet('{old}')")


def test_a_query_loads_no_extension(lake: Lake) -> None:
    with pytest.raises(QueryFailed) as refused:
        lake.query("from st_read('x')")
    assert "install" not in str(refused.value)
    settings = "autoinstall_known_extensions", "autoload_known_extensions", "allow_community_extensions"
    settled = lake.query(f"select name, value from duckdb_settings() where name in {settings}")
    assert {row["value"] for row in settled.to_pylist()} == {"false"}


def test_a_query_larger_than_memory_leaves_no_spill_behind(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(lake.uri).parent / "spills"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert lake.query("select count(*) as n from sessions").to_pylist() == [{"n": 2}]
    assert not list(folder.iterdir())


def test_the_same_files_are_readable_without_the_lock_so_the_lock_is_what_refuses(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,hunter2\n")
    query = f"from read_csv('{secret}') select b"
    with Connection() as connection:
        assert connection.query(query).to_pylist() == [{"b": "hunter2"}]
    with Connection.sandboxed([str(tmp_path / "other.parquet")]) as connection:
        with pytest.raises(QueryFailed):
            connection.query(query)
        with pytest.raises(QueryFailed):
            connection.query("set enable_external_access = true")


@pytest.mark.parametrize("query", ["selec 1", "select nothing from sessions", "from no_such_table", "select 1 / 'x'"])
def test_a_query_that_does_not_work_says_so_in_one_line(lake: Lake, query: str) -> None:
    with pytest.raises(QueryFailed) as failed:
        lake.query(query)
    assert "\n" not in str(failed.value)
    assert "devin-pipeline tables" in failed.value.todo


def test_a_readers_clock_shows_utc() -> None:
    with Connection() as connection:
        shown = connection.rows("select timestamptz '2025-12-01 23:30:00-08'::text as shown").to_pylist()
        (instant,) = connection.rows(
            "select $at::timestamptz as at", {"at": datetime(2025, 12, 1, tzinfo=UTC)}
        ).to_pylist()
    assert shown == [{"shown": "2025-12-02 07:30:00+00"}]
    assert instant["at"] == datetime(2025, 12, 1, tzinfo=UTC)
