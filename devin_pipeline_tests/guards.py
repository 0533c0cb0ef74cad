"""Shows that the suite can fail: removes each guard in turn, in a copy of the project, and names the test that fails.

    uv run python -m devin_pipeline_tests.guards [PART OF A NAME …]

prints one row per guard and exits 1 when the suite passes without one. Tests of the guards stay where they belong.
"""

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

_PROJECT = Path(__file__).parent.parent
_COPIED = ("devin_pipeline", "devin_pipeline_tests", "pyproject.toml", "dagster.yaml", "workspace.yaml", "README.md")
_AT_ONCE = 2
_SECONDS = 300


@dataclass(frozen=True)
class Guard:
    """One guard: what it is, how to remove it, and where a test must fail then.

    Attributes:
        name: What it guards against.
        file: Below `devin_pipeline`.
        text: The guard, found exactly once in that file.
        without: What stands there when it is removed.
        tests: Below `devin_pipeline_tests`.
    """

    name: str
    file: str
    text: str
    without: str
    tests: str

    def source(self, project: Path) -> Path:
        """The guard's file in a project."""
        return project / "devin_pipeline" / self.file


_CLIENT, _PAGING, _LANDING = "devin_api/test_client.py", "devin_api/test_paging.py", "raw/test_landing.py"

GUARDS = (
    # Paging
    Guard("a cursor that repeats", "devin_api/paging.py", "if page.end_cursor in seen:", "if False:", _PAGING),
    Guard("empty pages for ever", "devin_api/paging.py", "if empty > EMPTY_PAGES_IN_A_ROW:", "if False:", _PAGING),
    Guard("a missing cursor", "devin_api/paging.py", "if not page.end_cursor:", "if False:", _PAGING),
    Guard("v2 total unlike what came", "devin_api/paging.py", "if distinct != first.total:", "if False:", _PAGING),
    Guard(
        "v3 total unlike what came",
        "devin_api/paging.py",
        "if stated is None or stated == sieve.distinct:",
        "if True:",
        _PAGING,
    ),
    Guard(
        "an offset that is ignored",
        "devin_api/paging.py",
        "if sorted(page.skip for page in pages) != [0, *offsets]:",
        "if False:",
        _PAGING,
    ),
    Guard(
        "a filter that is ignored",
        "devin_api/paging.py",
        "if strays > read * STRAYS_TOLERATED:",
        "if False:",
        _PAGING,
    ),
    Guard(
        "a session at the window's end",
        "devin_api/paging.py",
        "start <= item.created_at < end]",
        "start <= item.created_at <= end]",
        _PAGING,
    ),
    Guard("more pages than the limit", "devin_api/paging.py", "if pages >= limits.pages:", "if False:", _PAGING),
    Guard(
        "the older of two tellings",
        "devin_api/paging.py",
        "return (item.updated_at or EARLIEST) >= (known.updated_at or EARLIEST)",
        "return True",
        _PAGING,
    ),
    # Retries
    Guard("409 asked for too often", "devin_api/retry.py", "409: 2,", "409: MORE_TRIES,", _CLIENT),
    Guard("429 given up at once", "devin_api/retry.py", "429: MORE_TRIES,", "", "devin_api"),
    Guard(
        "401 asked for again", "devin_api/retry.py", "408: MORE_TRIES,", "408: MORE_TRIES, 401: MORE_TRIES,", _CLIENT
    ),
    Guard(
        "Retry-After not waited for",
        "devin_api/retry.py",
        "return error.wait_seconds",
        "return 0.0",
        "devin_api/test_retry.py",
    ),
    Guard(
        "Retry-After of years",
        "devin_api/wire.py",
        "if wait is not None and wait > LONGEST_RETRY_AFTER_SECONDS:",
        "if False:",
        "devin_api",
    ),
    # The body of an answer
    Guard(
        "a body that never ends",
        "devin_api/wire.py",
        "if deadline.remaining() <= 0:\n            raise",
        "if False:\n            raise",
        "devin_api",
    ),
    Guard("a gzip bomb", "devin_api/wire.py", "if size > LARGEST_BODY:", "if False:", "devin_api"),
    Guard("gzip that ends early", "devin_api/wire.py", "unfold.require_end()", "pass", "devin_api"),
    Guard("a redirect", "devin_api/wire.py", "follow_redirects=False", "follow_redirects=True", "devin_api"),
    Guard(
        "an id or amount said twice",
        "devin_api/payloads.py",
        'acus, acus_problem = None, f"{key} is said twice"',
        "pass",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "ACUs as floats",
        "devin_api/payloads.py",
        "exact = Decimal(text)",
        "exact = Decimal(float(text))",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "negative ACUs",
        "devin_api/payloads.py",
        "if exact.is_signed() and exact:",
        "if False:",
        "devin_api/test_payloads.py",
    ),
    # Keys
    Guard(
        "a key of the wrong kind",
        "devin_api/keys.py",
        "if _SHAPES[kind].fullmatch(key):",
        "if True:",
        "devin_api/test_keys.py",
    ),
    Guard("a key in a repr", "devin_api/keys.py", 'return "<secret>"', "return self._value", "devin_api"),
    Guard(
        "a key over plain http",
        "devin_api/keys.py",
        'if parts.scheme == "http" and not is_loopback(parts.hostname):',
        "if False:",
        "devin_api/test_keys.py",
    ),
    Guard(
        "users in httpx's log",
        "devin_api/wire.py",
        "logging.getLogger(name).setLevel(logging.WARNING)",
        "pass",
        "devin_api",
    ),
    # Landing
    Guard(
        "the gate: a session twice",
        "raw/landing.py",
        '!= items.num_rows:\n        raise GateClosed("A session',
        '< 0:\n        raise GateClosed("A session',
        _LANDING,
    ),
    Guard(
        "the gate: other days", "raw/landing.py", "- set(days):", "- set(items.column('day').to_pylist()):", _LANDING
    ),
    Guard("the order of keys in the content hash", "raw/landing.py", 'order="sorted"', "order=None", _LANDING),
    Guard(
        "an older run over a newer one",
        "raw/new_versions.sql",
        "fetched_at between $read_at and $now as is_newer",
        "fetched_at between $read_at and $now and false as is_newer",
        _LANDING,
    ),
    Guard(
        "a tombstone for what is quarantined",
        "raw/new_versions.sql",
        "where quarantined.session_id = latest.session_id",
        "where false",
        _LANDING,
    ),
    Guard("text under DEVIN_TEXT=none", "raw/redaction.py", "return not self.keeps_text or", "return", "raw"),
    Guard(
        "who is forgotten during a read",
        "raw/landing.py",
        "if lake.forgotten() != redaction.forgotten:",
        "if False:",
        _LANDING,
    ),
    # The lake
    Guard(
        "two writers of one day",
        "lake/lake.py",
        "        delta = snapshot.delta\n",
        "        delta = snapshot.delta and DeltaTable(snapshot.location)\n",
        "lake/test_lake.py",
    ),
    Guard(
        "two writers of one report",
        "lake/lake.py",
        "if self._overwrite(snapshot, rows, None) == expected:",
        "if self._overwrite(snapshot, rows, None):",
        "lake/test_lake.py",
    ),
    Guard(
        "inputs that move meanwhile",
        "lake/lake.py",
        "if read == [self.snapshot(table).files(days) for table in inputs]:",
        "if True:",
        "lake/test_lake.py",
    ),
    Guard(
        "a lake of another enterprise",
        "lake/identity.py",
        "if stored is not None and stored != identity:",
        "if False:",
        "lake/test_identity.py",
    ),
    Guard(
        "pieces of text in the log", "lake/lake.py", '"delta.dataSkippingNumIndexedCols": "0"', "", "test_forgetting.py"
    ),
    Guard("a query that writes", "lake/reader.py", "if len(statements) != 1 or", "if False and", "lake/test_reader.py"),
    Guard(
        "a query that reads elsewhere",
        "lake/reader.py",
        '    "set enable_external_access = false",\n',
        "",
        "lake/test_reader.py",
    ),
    Guard(
        "a query that loads an extension",
        "lake/reader.py",
        "set autoinstall_known_extensions = false",
        "select 1",
        "lake/test_reader.py",
    ),
    Guard(
        "a query that reads a replaced version",
        "lake/reader.py",
        "set allowed_paths = [{', '.join(quoted(file) for file in files)}]",
        "set allowed_directories = [{', '.join(quoted(file.split('/part-')[0]) for file in files)}]",
        "lake/test_reader.py",
    ),
    Guard(
        "a formula in a CSV",
        "cli.py",
        "if isinstance(value, str | bytes) and _FORMULA.match(text)",
        "if False",
        "test_cli.py",
    ),
    # Derived
    Guard(
        "the gate: a rollup that does not add up",
        "derived/queries.py",
        "        if found:",
        "        if False:",
        "derived",
    ),
)


def main(wanted: list[str]) -> int:
    """Print the table; give the exit code."""
    guards = [guard for guard in GUARDS if not wanted or any(part in guard.name for part in wanted)]
    print("| guard removed | the test that then fails |\n|---|---|")  # noqa: T201 - this is its output
    unguarded = 0
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for guard, test in zip(guards, threads.map(failing_test, guards), strict=True):
            unguarded += test is None
            print(f"| {guard.name} | {f'`{test}`' if test else '**none**'} |", flush=True)  # noqa: T201
    print(f"\n{len(guards)} guards removed, {len(guards) - unguarded} noticed.")  # noqa: T201
    return 1 if unguarded else 0


def failing_test(guard: Guard) -> str | None:
    """The first test that fails without a guard; None when all pass.

    Raises:
        ValueError: The guard is not where the table says.
    """
    with TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in _COPIED:
            source = _PROJECT / name
            shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy / name)
        file = guard.source(copy)
        text = file.read_text()
        if text.count(guard.text) != 1:
            raise ValueError(f"{guard.name}: {guard.text!r} stands {text.count(guard.text)} times in {guard.file}")
        file.write_text(text.replace(guard.text, guard.without))
        tests = [str(copy / "devin_pipeline_tests" / part) for part in guard.tests.split()]
        pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider", "--no-header", "-rfE"]
        try:
            told = subprocess.run(
                [*pytest, *tests], cwd=copy, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            # What would end it was removed.
            return f"{guard.tests}, which then never ends"
        failed = re.search(r"^(?:FAILED|ERROR) (?:\S*/)?(\S+\.py(?:::[^\s\[]+)?)", told.stdout, re.MULTILINE)
        if told.returncode not in (0, 1) or (told.returncode == 1 and failed is None):
            raise ValueError(f"{guard.name}: the tests did not run\n{told.stdout[-2000:]}{told.stderr[-2000:]}")
        return failed[1] if failed else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
