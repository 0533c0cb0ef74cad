"""A command where no lake is says so, and where it looked; the commands it prints are those that work there."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from devin_pipeline import shell
from devin_pipeline.cli import main
from devin_pipeline.lake import Lake, LakeIdentity

pytestmark = pytest.mark.notices("a lake that is not there")

READING = [["tables"], ["query", "from sesions"], ["query", "show tables"], ["verify"], ["verify", "--json"]]
ERASING = ["forget", "--user", "somebody"]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("DEVIN_LAKE", "DAGSTER_HOME"):
        # Set first: whatever a command sets is undone with it.
        monkeypatch.setenv(name, "")
    return tmp_path


def call(words: list[str]) -> Result:
    return CliRunner().invoke(main, words)


@pytest.mark.parametrize("words", [*READING, ERASING], ids=" ".join)
def test_what_reads_a_lake_says_that_there_is_none_and_where_it_looked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    unset = call(words)
    assert (unset.exit_code, unset.stdout) == (2, "")
    assert unset.stderr.splitlines() == [
        f"There is no lake in {folder}/data.",
        "No run has written there. DEVIN_LAKE says where a lake is; without it, `data` in the current folder.",
        "Go to the folder of the lake, set DEVIN_LAKE to it, or fill a new one: "
        "devin-pipeline backfill --from DAY --to DAY",
    ]
    monkeypatch.setenv("DEVIN_LAKE", "elsewhere")
    assert call(words).stderr.splitlines()[0] == f"There is no lake in {folder}/elsewhere."
    assert list(folder.iterdir()) == []


def test_next_to_a_demo_the_way_to_its_lake_is_named(folder: Path) -> None:
    Lake("data/demo").claim(LakeIdentity("demo", "127.0.0.1", "enterprise", 8))
    assert call(["tables"]).stderr.splitlines()[-1].startswith("For the lake of the demo, add --demo. Go to the folder")


def test_a_query_that_names_no_table_needs_no_lake() -> None:
    result = call(["query", "select 1 as one", "--format", "csv"])
    assert (result.exit_code, result.stdout.split()) == (0, ["one", "1"])


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_what_reads_the_demo_says_that_none_was_run_there(folder: Path, words: list[str]) -> None:
    assert call([*words, "--demo"]).stderr.splitlines() == [
        f"There is no lake in {folder}/data/demo.",
        "No demo was run in this folder.",
        "Go to the folder of the demo, or run it here: devin-pipeline demo",
    ]


@pytest.mark.parametrize("words", [["tables"], ["query", "from sessions"], ["verify"]], ids=" ".join)
def test_a_lake_without_rows_is_one(lake_of_no_rows: Lake, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setenv("DEVIN_LAKE", lake_of_no_rows.uri)
    result = call(words)
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_query_of_the_demo_that_fails_names_the_command_for_the_demo(folder: Path) -> None:
    Lake("data/demo").claim(LakeIdentity("demo", "127.0.0.1", "enterprise", 8))
    result = call(["query", "--demo", "from sesions"])
    assert result.stderr.splitlines()[-1] == "List what there is: devin-pipeline tables --demo"


def test_a_command_is_printed_as_it_works_in_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert shell.pipeline_command("verify") == "devin-pipeline verify"
    root = Path(shell.__file__).parents[1]
    monkeypatch.chdir(root)
    assert shell.typed("dg dev") == "uv run dg dev"
    monkeypatch.chdir(root / "devin_pipeline")
    assert shell.pipeline_command("verify") == "uv run devin-pipeline verify"
    # As a wheel, whatever folder it is called in.
    monkeypatch.setattr(shell, "_PACKAGE", tmp_path / "site-packages" / "devin_pipeline")
    assert shell.pipeline_command("verify") == "devin-pipeline verify"
