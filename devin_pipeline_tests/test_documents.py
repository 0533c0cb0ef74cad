"""The README tells the truth about tables, commands and settings."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from devin_pipeline.cli import main
from devin_pipeline.cli.environment import _DEMO_HOME, use_live_environment
from devin_pipeline.dagster_server.code_location import CODE_LOCATION, DEFINITIONS
from devin_pipeline.settings import Settings
from devin_pipeline.tables import ALL_TABLES

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text()


def rows(section: str) -> dict[str, str]:
    """First and second cell of each row of the first table after a heading."""
    text = README.split(f"\n## {section}\n")[-1].split(f"\n### {section}\n")[-1]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    cells = [line.strip("| \n").split(" | ") for line in table.group().splitlines()[2:]]
    return {cell[0].strip("`"): cell[1] for cell in cells}


def test_every_table_is_in_the_readme_with_its_grain() -> None:
    assert rows("The tables") == {table.name: table.grain.removeprefix("One row per ") for table in ALL_TABLES}


def test_every_command_is_in_the_readme() -> None:
    assert set(rows("Use it")) == set(main.commands)


def test_every_option_a_readme_command_uses_exists() -> None:
    for line in re.findall(r"uv run devin-pipeline (.+)", README):
        words = re.sub(r"\"[^\"]*\"|`.*", "", line).split()
        known = {option for parameter in main.commands[words[0]].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_every_setting_is_in_the_readme_and_every_one_that_the_code_names_is_declared() -> None:
    code = "".join(path.read_text() for path in (PROJECT / "devin_pipeline").rglob("*.py"))
    named = set(re.findall(r"\"(DEVIN_[A-Z0-9_]+|DAGSTER_HOME)\"", code))
    assert named <= set(Settings.model_fields)
    assert set(rows("Settings")) == set(Settings.model_fields) - {"DEVIN_PIPELINE_DEMO"}


def test_dagsters_own_commands_get_the_home_that_ours_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (exported,) = re.findall(r'^export DAGSTER_HOME="\$PWD/(.+)"$', README, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    for name in ("DAGSTER_HOME", "DEVIN_LAKE"):
        monkeypatch.setenv(name, "")
    use_live_environment()
    assert os.environ["DAGSTER_HOME"] == str(tmp_path / exported)
    assert f"The demo's is `{_DEMO_HOME}`" in README


def test_the_two_commands_of_a_fresh_machine_are_there_and_ci_calls_them() -> None:
    assert "pip install uv && uv run devin-pipeline demo\n" in README
    assert "pip install uv && uv run pytest\n" in README
    ci = (PROJECT / ".ci/run").read_text()
    assert "uv run pytest" in ci
    assert "uv run devin-pipeline demo" in ci


def test_dagster_tells_nobody_of_its_use_and_git_takes_neither_keys_nor_rows() -> None:
    assert "telemetry:\n  enabled: false\n" in (PROJECT / "dagster.yaml").read_text()
    for path in (
        ".env",
        "data/raw_sessions_v3/part.parquet",
        ".dagster_home/history.db",
        ".dagster_home_demo/x",
        ".tmp_dagster_home_1/x",
    ):
        ignored = subprocess.run(["git", "check-ignore", "-q", path], cwd=PROJECT, check=False)
        assert ignored.returncode == 0, path


def test_workspace_and_pyproject_name_the_code_location_alike() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    workspace = (PROJECT / "workspace.yaml").read_text()
    assert f"location_name: {project['code_location_name']}\n" in workspace
    assert f"module_name: {project['code_location_target_module']}\n" in workspace
    assert (project["code_location_name"], project["code_location_target_module"]) == (CODE_LOCATION, DEFINITIONS)
