"""What a person types: text that begins with a dash, options in any order, a query in a file or on standard input."""

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from devin_pipeline.cli import main
from devin_pipeline.lake import Lake
from devin_pipeline_tests.cli.running import COMMAND

pytestmark = pytest.mark.notices("text that begins with a dash", "a typo taken for text")

COMMENTED = "-- What we spent.\nselect 1 as n"
ROWS = b"n\n1\n"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lake_of_no_rows: Lake) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVIN_LAKE", lake_of_no_rows.uri)
    return tmp_path


def call(*words: str, given: bytes = b"") -> Result:
    return CliRunner().invoke(main, words, input=given)


def lines(result: Result) -> list[str]:
    return result.stderr.splitlines()


@pytest.mark.parametrize(
    "words",
    [
        [COMMENTED, "--format", "csv"],
        ["--format", "csv", COMMENTED],
        ["--format=csv", COMMENTED],
        ["--format=csv", "--", COMMENTED],
        [COMMENTED, "--timeout", "60", "--format=csv"],
        ["--format", "csv", "--\nselect 1 as n"],
        ["--format", "csv", "-- --format json\nselect 1 as n"],
        ["--format", "csv", "--formta\nselect 1 as n"],
        ["--format", "csv", "/* x */ select 1 as n -- y"],
        ["--format", "csv", "-- x\r\nselect 1 as n;\n-- end"],
    ],
)
def test_a_query_that_begins_with_a_dash_is_answered_with_the_options_in_any_order(words: list[str]) -> None:
    result = call("query", *words)
    assert (result.exit_code, result.stdout_bytes) == (0, ROWS), result.stderr


@pytest.mark.parametrize("words", [["--formta", "csv", "select 1"], ["select 1", "--formta"], ["-x", "select 1"]])
def test_an_option_that_does_not_exist_is_still_named(words: list[str]) -> None:
    result = call("query", *words)
    assert (result.exit_code, len(lines(result))) == (2, 3)
    assert "No such option" in lines(result)[1]


def test_a_query_is_read_from_standard_input_or_a_file_with_or_without_a_byte_order_mark(folder: Path) -> None:
    (folder / "-q.sql").write_bytes(COMMENTED.encode())
    (folder / "bom.sql").write_bytes(b"\xef\xbb\xbf" + COMMENTED.replace("\n", "\r\n").encode())
    for words in (["-"], ["--file", "-"], ["--file", "-q.sql"], ["--file=bom.sql"]):
        result = call("query", *words, "--format", "csv", given=COMMENTED.encode())
        assert (result.exit_code, result.stdout_bytes) == (0, ROWS), result.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "It takes one SELECT"),
        (["select 1", "--file", "q.sql"], "It takes one SELECT"),
        (["-", "--file", "q.sql"], "It takes one SELECT"),
        (["-"], "It is empty"),
        (["--file", "missing.sql"], "No such file"),
        (["--file", "."], "Is a directory"),
        (["--file", "latin.sql"], "It is not UTF-8"),
        (["--file", "utf16.sql"], "It is not UTF-8"),
        (["--file", "blank.sql"], "It is empty"),
        (["--file", "a\0b"], "It cannot be read"),
    ],
)
def test_a_query_that_cannot_be_had_gets_three_lines_and_exit_2(folder: Path, words: list[str], says: str) -> None:
    (folder / "latin.sql").write_bytes("select 'ü'".encode("latin-1"))
    (folder / "utf16.sql").write_bytes("select 1".encode("utf-16"))
    (folder / "blank.sql").write_bytes(b"\xef\xbb\xbf \n")
    result = call("query", *words)
    assert (result.exit_code, len(lines(result))) == (2, 3)
    assert says in lines(result)[1]


@pytest.mark.parametrize("given", ["<&-", "</dev/null"])
def test_a_closed_or_empty_standard_input_gets_three_lines_and_exit_2(folder: Path, given: str) -> None:
    called = subprocess.run(
        ["sh", "-c", f'"$0" query - {given}', COMMAND], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (called.returncode, len(called.stderr.splitlines())) == (2, 3), called.stderr
    assert called.stderr.startswith("No query can be read from standard input.\n")


def test_a_file_with_a_nul_gets_three_lines(folder: Path) -> None:
    result = call("query", "-", given=b"select 1 \x00 x")
    assert (result.exit_code in (1, 2), len(lines(result))) == (True, 3)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["backfill", "--from", "-1", "--to", "-2"], "--from is '-1'"),
        (["backfill", "--from=-- x", "--to", "-2"], "--from is '-- x'"),
        (["verify", "--from", "-1"], "--from is '-1'"),
        (["verify", "--to", "--json"], "--to is '--json'"),
        (["forget", "--user", "-x", "--session", "--y", "--text"], "it takes --user and --session, or --text"),
        (["query", "--timeout", "-1", "select 1"], "--timeout is '-1'"),
        (["query", "--file", "--x", "--format", "csv"], "No query can be read from --x"),
    ],
)
def test_a_value_of_an_option_may_begin_with_a_dash(words: list[str], says: str) -> None:
    result = call(*words)
    assert (result.exit_code, len(lines(result))) == (2, 3)
    assert says.lower() in result.stderr.lower()
