"""A query that asks for too much: it ends at a limit of time, memory or disk, and says which."""

import json
import time
from pathlib import Path

import pytest

from devin_pipeline_tests.cli.running import environment, run

pytestmark = pytest.mark.usefixtures("lake_of_no_rows")

ENDLESS = "with recursive t(x) as (select 1::bigint union all select x + 1 from t) select count(*) from t"
# In one text, on which DuckDB heeds no interrupt.
STUBBORN = "select levenshtein(repeat('a', 1000000), repeat('b', 1000000))"
# Texts that DuckDB does not count.
LARGE_TEXTS = "select sum(length(repeat(i::varchar, 20000000))) from range(100) t(i)"
LARGE_LIST = "select list(i) from range(1000000000) t(i)"
LARGE_ORDER = "select md5(i::varchar) || repeat('x', 200) as x from range(20000000) t(i) order by x"


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def stopped(folder: Path, temporary: Path, words: list[str], **settings: str) -> list[str]:
    """The error of a query that was stopped, which leaves nothing behind."""
    env = environment(DEVIN_LAKE=str(folder / "lake"), TMPDIR=str(temporary), **settings)
    called = run("query", *words, folder=folder, env=env)
    assert (called.returncode, called.stdout) == (1, b"")
    assert list(temporary.iterdir()) == []
    return called.stderr.decode().splitlines()[-3:]


@pytest.mark.notices("a query without a limit of time", "spills that a query leaves behind")
@pytest.mark.parametrize("query", [ENDLESS, STUBBORN])
@pytest.mark.parametrize("shape", ["table", "csv", "json"])
def test_a_query_ends_at_its_limit_of_time(tmp_path: Path, temporary: Path, query: str, shape: str) -> None:
    began = time.monotonic()
    error = stopped(tmp_path, temporary, [query, "--timeout", "1.5", "--format", shape])
    assert time.monotonic() - began < 15
    assert error == [
        "This query was stopped.",
        "It reached its limit of time, 1.5 seconds.",
        "Ask for less, or raise DEVIN_QUERY_SECONDS or --timeout (0 is no limit).",
    ]


def test_the_limit_of_time_may_be_a_setting_and_holds_for_the_output_too(tmp_path: Path, temporary: Path) -> None:
    assert "2 seconds" in stopped(tmp_path, temporary, [ENDLESS], DEVIN_QUERY_SECONDS="2")[1]
    env = environment(DEVIN_LAKE=str(tmp_path / "lake"), DEVIN_QUERY_SECONDS="4")
    rows = run("query", "select unnest(range(100000000)) as n", "--format", "csv", folder=tmp_path, env=env)
    assert (rows.returncode, rows.stderr.decode().splitlines()[-2]) == (1, "It reached its limit of time, 4 seconds.")


@pytest.mark.notices("texts that DuckDB does not count")
@pytest.mark.parametrize("query", [LARGE_TEXTS, LARGE_LIST])
def test_a_query_ends_at_its_limit_of_memory(tmp_path: Path, temporary: Path, query: str) -> None:
    error = stopped(tmp_path, temporary, [query], DEVIN_QUERY_MEMORY="200MB")
    assert error == [
        "This query was stopped.",
        "It reached its limit of memory, 200 MB.",
        "Ask for less, or raise DEVIN_QUERY_MEMORY.",
    ]


@pytest.mark.notices("spills without a limit")
def test_a_query_that_spills_more_than_there_is_room_for_names_the_place(tmp_path: Path, temporary: Path) -> None:
    from devin_pipeline.lake import Connection, LimitMet, QueryLimits

    limits = QueryLimits(memory_bytes=200_000_000, disk_bytes=100_000_000, spills_to=str(temporary))
    with Connection.sandboxed([], limits) as connection, pytest.raises(LimitMet) as met:
        connection.query_as_text(LARGE_ORDER)
    assert met.value.why == f"it reached its limit of temporary disk space, 100 MB in {temporary}"
    assert "TMPDIR" in met.value.todo


def test_what_is_larger_than_memory_but_not_than_the_disk_is_answered(tmp_path: Path, temporary: Path) -> None:
    env = environment(DEVIN_LAKE=str(tmp_path / "lake"), TMPDIR=str(temporary), DEVIN_QUERY_MEMORY="150MB")
    query = f"select count(*) as n from ({LARGE_ORDER.replace('20000000', '1000000')} limit 900000)"
    called = run("query", query, "--format", "json", folder=tmp_path, env=env)
    assert json.loads(called.stdout) == [{"n": 900_000}], called.stderr
    assert list(temporary.iterdir()) == []


def test_no_limit_of_time_is_0(tmp_path: Path) -> None:
    env = environment(DEVIN_LAKE=str(tmp_path / "lake"), DEVIN_QUERY_SECONDS="0.001")
    # Half a second of work: the clock is looked at ten times a second.
    query = "select levenshtein(repeat('a', 15000), repeat('b', 15000)) as n"
    assert run("query", query, folder=tmp_path, env=env).returncode == 1
    assert run("query", query, "--timeout", "0", folder=tmp_path, env=env).returncode == 0


@pytest.mark.parametrize(
    ("words", "settings", "says"),
    [
        ([], {"DEVIN_QUERY_SECONDS": "soon"}, "DEVIN_QUERY_SECONDS is 'soon'"),
        ([], {"DEVIN_QUERY_SECONDS": "-1"}, "DEVIN_QUERY_SECONDS is '-1'"),
        ([], {"DEVIN_QUERY_SECONDS": "nan"}, "DEVIN_QUERY_SECONDS is 'nan'"),
        ([], {"DEVIN_QUERY_SECONDS": "1e999"}, "DEVIN_QUERY_SECONDS is '1e999'"),
        ([], {"DEVIN_QUERY_MEMORY": "much"}, "DEVIN_QUERY_MEMORY is 'much'"),
        ([], {"DEVIN_QUERY_MEMORY": "4"}, "DEVIN_QUERY_MEMORY is '4'"),
        ([], {"DEVIN_QUERY_MEMORY": "-4GB"}, "DEVIN_QUERY_MEMORY is '-4GB'"),
        ([], {"DEVIN_QUERY_MEMORY": "1MB"}, "DEVIN_QUERY_MEMORY is '1MB'"),
        (["--timeout", "soon"], {}, "--timeout is 'soon'"),
        (["--timeout", "inf"], {}, "--timeout is 'inf'"),
        (["--timeout", "-0.5"], {}, "--timeout is '-0.5'"),
    ],
)
def test_a_limit_that_cannot_be_used_gets_three_lines_and_exit_2(
    tmp_path: Path, words: list[str], settings: dict[str, str], says: str
) -> None:
    env = environment(DEVIN_LAKE=str(tmp_path / "lake"), **settings)
    called = run("query", "select 1", *words, folder=tmp_path, env=env)
    error = called.stderr.decode().splitlines()
    assert (called.returncode, len(error), error[0]) == (2, 3, f"{says}.")


@pytest.mark.parametrize("size", ["100MB", "100mb", "0.5 GiB", "1TB", "32 MB"])
def test_a_limit_of_memory_may_be_written_as_duckdb_writes_sizes(tmp_path: Path, size: str) -> None:
    env = environment(DEVIN_LAKE=str(tmp_path / "lake"), DEVIN_QUERY_MEMORY=size)
    assert run("query", "select 1", folder=tmp_path, env=env).returncode == 0
