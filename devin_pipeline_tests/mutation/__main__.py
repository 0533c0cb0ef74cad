"""Shows that the suite can fail: removes each guard in turn, in a copy of the project, and names the test that fails.

    uv run python -m devin_pipeline_tests.mutation [PART OF A NAME …]

prints one row per guard and exits 1 when the suite passes without one.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from devin_pipeline_tests.mutation.markers import Guard, guards_of
from devin_pipeline_tests.mutation.noticing import noticing_tests

PROJECT = Path(__file__).parent.parent.parent
_COPIED = ("devin_pipeline", "devin_pipeline_tests", "pyproject.toml", "dagster.yaml", "workspace.yaml", "README.md")
_IN_PARALLEL = 2
_SECONDS = 300


def main(wanted: list[str]) -> int:
    """Print the table; return the exit code."""
    guards = [
        guard
        for guard in guards_of(PROJECT / "devin_pipeline")
        if not wanted or any(part in guard.name for part in wanted)
    ]
    tests = noticing_tests(PROJECT / "devin_pipeline_tests")
    print("| guard removed | the test that then fails |\n|---|---|")  # noqa: T201 - this is its output
    unnoticed = 0
    with ThreadPoolExecutor(_IN_PARALLEL) as threads:
        failing = threads.map(lambda guard: failing_test(guard, tests.get(guard.name, ())), guards)
        for guard, test in zip(guards, failing, strict=True):
            unnoticed += test is None
            print(f"| {guard.name} | {f'`{test}`' if test else '**none**'} |", flush=True)  # noqa: T201
    print(f"\n{len(guards)} guards removed, {len(guards) - unnoticed} noticed.")  # noqa: T201
    return 1 if unnoticed else 0


def failing_test(guard: Guard, tests: Sequence[str]) -> str | None:
    """The first of some tests that fails without a guard; None when all pass, or there are none.

    Raises:
        ValueError: The marker does not fit the code below it, or the tests did not run.
    """
    if not tests:
        return None
    with TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in _COPIED:
            source = PROJECT / name
            shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy / name)
        file = copy / "devin_pipeline" / guard.file
        file.write_text(guard.mutant(file.read_text()))
        pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-m", "", "--no-header", "-rfE"]
        paths = [str(copy / "devin_pipeline_tests" / test) for test in tests]
        try:
            run = subprocess.run(
                [*pytest, *paths], cwd=copy, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            # What would end it was removed.
            return f"{tests[0]}, which then never ends"
        failed = re.search(r"^(?:FAILED|ERROR) (?:\S*/)?(\S+\.py(?:::[^\s\[]+)?)", run.stdout, re.MULTILINE)
        if run.returncode not in (0, 1) or (run.returncode == 1 and failed is None):
            raise ValueError(f"{guard.name}: the tests did not run\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
        return failed[1] if failed else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
