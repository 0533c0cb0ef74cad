"""What a commit is checked for, by hooks and by `just check`, is what CI checks over every file."""

import re
import subprocess
import tomllib
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # types are not a dependency of ours

from devin_pipeline_tests.conftest import COVERED_BY_THEIR_OWN_TESTS

PROJECT = Path(__file__).parent.parent
HOOKS = [
    hook
    for repository in yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in repository["hooks"]
    if repository["repo"] == "local"
]
RUN = "uv run --locked --quiet "


def test_every_hook_is_a_step_of_ci() -> None:
    ci = (PROJECT / ".ci/run").read_text()
    for hook in HOOKS:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(RUN)
        tool = re.split(r" --|$", hook["entry"].removeprefix(RUN))[0]
        assert f"{RUN}{tool}" in ci, hook["id"]


def test_the_shortcuts_lint_and_measure_what_ci_does() -> None:
    # In CI a command is a step, or a part of one.
    ci = " ".join((PROJECT / ".ci/run").read_text().replace("\\\n", " ").split())
    recipes = (PROJECT / "justfile").read_text()
    (lines,) = re.findall(r"^lint:\n((?:    .+\n)+)", recipes, re.MULTILINE)
    for line in lines.splitlines():
        assert " ".join(line.replace("{{ run }} ", RUN).split()) in ci, line
    assert re.findall(r"--cov .*?skip-covered", ci) == re.findall(r"--cov .*?skip-covered", recipes) != []


def test_the_rooms_whose_coverage_is_measured_are_those_whose_tests_count() -> None:
    measured = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["coverage"]["run"]["source"]
    assert {f"devin_pipeline/{room}" for room in COVERED_BY_THEIR_OWN_TESTS} == set(measured)
    (rooms,) = re.findall(r'^quick_tests := tests \+ "/\{(.+)\}"$', (PROJECT / "justfile").read_text(), re.MULTILINE)
    assert set(rooms.split(",")) == COVERED_BY_THEIR_OWN_TESTS


def test_every_hook_has_files_that_it_checks() -> None:
    files = subprocess.check_output(["git", "ls-files"], cwd=PROJECT, text=True).splitlines()
    for hook in HOOKS:
        assert any(re.search(hook.get("files", ""), file) for file in files), hook["id"]
