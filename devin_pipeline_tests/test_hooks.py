"""What a commit is checked for, by hooks and by `just check`, is what CI checks over every file."""

import re
import subprocess
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # types are not a dependency of ours

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
    (tests,) = re.findall(r'^quick_tests := tests \+ "(.+)"$', recipes, re.MULTILINE)
    for name in ("lint", "coverage"):
        (lines,) = re.findall(rf"^{name}:\n((?:    .+\n)+)", recipes, re.MULTILINE)
        for line in lines.splitlines():
            command = line.replace("{{ quick_tests }}", f"devin_pipeline_tests{tests}").replace("{{ run }} ", RUN)
            assert " ".join(command.split()) in ci, line


def test_every_hook_has_files_that_it_checks() -> None:
    files = subprocess.check_output(["git", "ls-files"], cwd=PROJECT, text=True).splitlines()
    for hook in HOOKS:
        assert any(re.search(hook.get("files", ""), file) for file in files), hook["id"]
