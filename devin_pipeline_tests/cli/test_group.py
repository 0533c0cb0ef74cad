"""How commands are found: a file each, which is loaded when the command is called and not before."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devin_pipeline.cli import main
from devin_pipeline_tests.cli.running import environment, run

PROJECT = Path(__file__).parents[2]

LOADED = """
import atexit, sys
from devin_pipeline.cli import command

# Behind the command's own output.
atexit.register(lambda: print("loaded:", *sorted(sys.modules)))
command()
"""

TOY = '''
"""A toy."""

import click


@click.command()
@click.option("--loud", is_flag=True)
def toy(loud: bool) -> None:
    """Say what a toy says. Not in the list."""
    click.echo("SQUEAK" if loud else "squeak")
'''


def loaded_by(folder: Path, *words: str) -> set[str]:
    """The modules that a command loads."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_the_help_lists_every_command_and_loads_none(tmp_path: Path) -> None:
    shown = run("--help", folder=tmp_path).stdout.decode()
    assert {line.split()[0] for line in shown.partition("Commands:\n")[2].splitlines()} == set(main.commands)
    modules = loaded_by(tmp_path, "--help")
    assert not modules & {f"devin_pipeline.cli.{name}" for name in main.commands}
    assert not modules & {"dagster", "duckdb", "deltalake", "pyarrow", "httpx", "rich", "dotenv"}


@pytest.mark.parametrize("words", [["query", "select 1"], ["query", "--format", "csv", "select 1"]])
def test_a_query_waits_neither_for_dagster_nor_for_the_http_client(tmp_path: Path, words: list[str]) -> None:
    modules = loaded_by(tmp_path, *words)
    assert "devin_pipeline.lake" in modules
    assert not modules & {"dagster", "httpx", "devin_pipeline.devin_api", "devin_pipeline.doctor", "rich.progress"}


def test_a_command_that_is_added_is_one_more_file(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "devin_pipeline", tmp_path / "devin_pipeline")
    (tmp_path / "devin_pipeline" / "cli" / "toy.py").write_text(TOY.lstrip())
    call = [sys.executable, "-c", "from devin_pipeline.cli import command; command()"]

    def said(*words: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run([*call, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout

    assert "  toy       Say what a toy says.\n" in said("--help")
    assert said("toy", "--loud") == "SQUEAK\n"
    assert "--loud" in said("toy", "--help")


@pytest.mark.parametrize("word", ["errors", "days_shown", "__init__", "../doctor"])
def test_a_file_that_is_not_a_command_is_not_called(tmp_path: Path, word: str) -> None:
    done = run(word, folder=tmp_path)
    assert done.returncode == 2
    assert f"No such command '{word}'." in done.stderr.decode()


def test_a_misspelt_command_gets_the_one_that_may_be_meant(tmp_path: Path) -> None:
    assert b"Did you mean 'query'?" in run("quer", folder=tmp_path).stderr
