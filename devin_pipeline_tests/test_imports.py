"""The import contract holds, and would not if a forbidden import were added."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    # The copy in `folder` is to be found before the installed package.
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(folder)})


def copy(folder: Path) -> Path:
    shutil.copytree(PROJECT / "devin_pipeline", folder / "devin_pipeline")
    shutil.copy(PROJECT / "pyproject.toml", folder)
    return folder


def test_the_contract_is_kept() -> None:
    done = lint(PROJECT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("tables/raw.py", "import devin_pipeline.lake"),
        ("derived/queries.py", "import devin_pipeline.raw"),
        ("lake/lake.py", "import dagster"),
        ("emulator/server.py", "import devin_pipeline.devin_api"),
        ("dagster_server/processes.py", "import devin_pipeline.lake"),
        ("raw/sessions/landing.py", "import duckdb"),
        ("reports/queries.py", "import httpx"),
        ("helpers.py", ""),
    ],
)
def test_a_forbidden_import_or_an_unplaced_room_breaks_it(tmp_path: Path, room: str, line: str) -> None:
    module = copy(tmp_path) / "devin_pipeline" / room
    module.write_text((module.read_text() if module.exists() else "") + f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout or "helpers" in done.stdout
