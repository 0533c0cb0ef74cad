"""Each recipe of CONTRIBUTING.md, followed on a toy, touches the files that it names, and no other is needed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devin_pipeline_tests.recipes.toys import GENERATED, TOYS, Toy

PROJECT = Path(__file__).parent.parent.parent
GIT = ("git", "-c", "core.excludesFile=/dev/null")


def files_named(recipe: str) -> set[str]:
    """The files in the first column of a recipe's table, as patterns."""
    section = (PROJECT / "CONTRIBUTING.md").read_text().split(f"\n### {recipe}\n")[1].split("\n#")[0]
    cells = [line.split(" | ")[0] for line in re.findall(r"^\| (`.+)$", section, re.MULTILINE)]
    return {re.sub(r"<\w+>", "[a-z_]+", re.escape(path)) for cell in cells for path in re.findall("`(.+?)`", cell)}


def named_for(files: set[str], patterns: set[str]) -> dict[str, set[str]]:
    return {pattern: {file for file in files if re.fullmatch(pattern, file)} for pattern in patterns}


def run(folder: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DEVIN_", "DAGSTER_"))}
    ran = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, check=False, env=environment | {"PYTHONPATH": str(folder)}
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    return ran.stdout


def follow(toy: Toy, folder: Path) -> None:
    for path, edits in toy.items():
        if isinstance(edits, str):
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(edits)
        for put in edits if isinstance(edits, list) else ():
            put.into(folder / path)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with all toys in it."""
    folder = tmp_path_factory.mktemp("recipes") / "project"
    for path in run(PROJECT, "git", "ls-files").splitlines():
        if (PROJECT / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / path, folder / path)
    run(folder, *GIT, "init", "--quiet")
    run(folder, *GIT, "add", "--all", "--force")
    for toy in TOYS.values():
        follow(toy, folder)
    run(folder, sys.executable, "-m", "devin_pipeline_tests.documents")
    return folder


@pytest.fixture(scope="module")
def followed(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of the toys."""
    folder = tmp_path_factory.mktemp("followed")
    result: dict[str, Any] = json.loads(
        run(copy, sys.executable, "-m", "devin_pipeline_tests.recipes.following", str(folder)).splitlines()[-1]
    )
    return result


in_one_process = pytest.mark.xdist_group("recipes")


@pytest.mark.parametrize("recipe", TOYS)
def test_a_toy_touches_the_files_that_its_recipe_names(recipe: str) -> None:
    patterns, files = files_named(recipe), set(TOYS[recipe])
    named = named_for(files, patterns)
    assert files == set().union(*named.values())
    assert all(named.values()), "a file is named that need not be touched"


@in_one_process
def test_no_other_file_of_the_project_changes(copy: Path) -> None:
    changed = run(copy, *GIT, "diff", "--name-only").splitlines()
    added = run(copy, *GIT, "ls-files", "--others", "--exclude-standard").splitlines()
    assert set(changed) | set(added) == set().union(*TOYS.values())
    assert {path for toy in TOYS.values() for path, edits in toy.items() if edits is GENERATED} <= set(changed)


@in_one_process
def test_a_derived_table_is_an_asset_a_view_and_verified(followed: dict[str, Any]) -> None:
    for name, columns, last in (
        ("session_titles", ["day", "session_id", "title_characters"], "How long its title is."),
        (
            "acu_daily_by_category",
            ["day", "org_id", "category", "acus"],
            "ACUs to date; null when all are unknown.",
        ),
    ):
        assert followed["assets"][name] == columns
        assert followed["rows"][name] > 0
        assert followed["comments"][name][0].startswith("One row per ")
        assert followed["comments"][name][-1] == last
        assert name in followed["damaged"]


@in_one_process
def test_a_report_is_an_asset_a_view_verified_and_built_again_after_a_backfill(followed: dict[str, Any]) -> None:
    name = "acus_by_organization"
    assert followed["assets"][name] == ["org_id", "acus"]
    assert followed["rows"][name] > 0
    assert followed["comments"][name] == ["One row per organization.", "Organization.", "ACUs to date."]
    assert name in followed["damaged"]
    assert name in followed["requested"]


@in_one_process
def test_a_raw_table_is_an_asset_that_keeps_what_the_emulator_returns_and_verified(followed: dict[str, Any]) -> None:
    name = "raw_members"
    assert followed["assets"][name][0] == "member_id"
    # Read twice, and the same each time.
    assert followed["rows"][name] == 2
    assert followed["comments"][name][0].endswith("`GET /v3/enterprise/members`.")
    assert name in followed["damaged"]


@in_one_process
def test_a_command_is_in_the_help_and_runs(followed: dict[str, Any]) -> None:
    assert re.search(r"^  toys +Count toys\.$", followed["help"], re.MULTILINE)
    assert followed["output"] == "2\n"


@in_one_process
def test_a_setting_is_read_and_in_the_health_check_and_the_documents(copy: Path, followed: dict[str, Any]) -> None:
    assert followed["doctor"]["toys"] == "kept for 9 days"
    assert "| `DEVIN_TOY_DAYS` | days | `7` | How long a toy stays. |\n" in (copy / "docs/configuration.md").read_text()
    assert "\n# How long a toy stays.\n# DEVIN_TOY_DAYS=7\n" in (copy / ".env.example").read_text()


@pytest.mark.slow
@in_one_process
def test_the_checks_of_the_project_pass_with_the_toys_in_it(copy: Path) -> None:
    """The raw table goes through every operation; contract, documents, imports, an earlier lake, lint and spelling."""
    tests = [path for toy in TOYS.values() for path in toy if "/test_" in path]
    tests += ["devin_pipeline_tests/operations/test_every_raw_table.py", "devin_pipeline_tests/test_update.py"]
    tests += ["devin_pipeline_tests/test_documents.py", "devin_pipeline_tests/test_imports.py"]
    run(copy, sys.executable, "-m", "pytest", "-n2", "--quiet", *dict.fromkeys(tests))
    run(copy, *GIT, "add", "--all")
    queries = [path for toy in TOYS.values() for path in toy if path.endswith(".sql")]
    run(copy, sys.executable, "-m", "ruff", "check", ".")
    run(copy, sys.executable, "-m", "ruff", "format", "--check", ".")
    run(copy, sys.executable, "-m", "sqlfluff", "lint", *queries)
    run(copy, sys.executable, "-m", "codespell_lib", *run(copy, "git", "ls-files").splitlines())
