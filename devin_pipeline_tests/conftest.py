"""What whole-pipeline tests share, and the doses of the tests in `chaos/`."""

import gc
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path

import pytest

from devin_pipeline.devin_api import FEED_BY_TABLE, reach
from devin_pipeline.emulator import Enterprise
from devin_pipeline.lake import Lake, LakeIdentity
from devin_pipeline_tests.harness import PipelineHarness, open_harness, the_last_days

MakeHarness = Callable[..., PipelineHarness]
Dose = Callable[[int], int]
Figure = Callable[[str], None]

# Ten times less often than by default: looking through all that is imported takes a tenth of a test's time.
gc.set_threshold(50_000, 20, 50)

# The rooms of `source` in pyproject.toml.
COVERED_BY_THEIR_OWN_TESTS = {"derived", "lake", "raw", "reports", "tables"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos",
        type=int,
        default=1,
        metavar="N",
        help="Size of the tests in chaos/, in percent of the full dose (default 1; docs/reliability.md: 100).",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have `--cov` measure what the tests of some rooms reach, and slow down no others."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] not in COVERED_BY_THEIR_OWN_TESTS:
            item.add_marker("no_cover")


@pytest.fixture(autouse=True)
def _no_address_has_responded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A free port may have been that of another test's server: a read would wait for that to come back."""
    monkeypatch.setattr(reach, "_reaches", defaultdict(reach.Reach))


@pytest.fixture
def dose(request: pytest.FixtureRequest) -> Dose:
    """Scale a full dose to what was asked for: `dose(10_000)` faults are 100 in the ordinary run."""
    percent = int(request.config.getoption("--chaos"))
    return lambda full: max(1, full * percent // 100)


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Record a sentence with what was counted; the run ends with all of them."""
    return lambda sentence: record_property("figure", sentence)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    sentences = [
        str(value)
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "figure"
    ]
    if sentences:
        terminalreporter.section("figures")
        for sentence in sentences:
            terminalreporter.write_line(sentence)


@pytest.fixture
def lake_of_no_rows(tmp_path: Path) -> Lake:
    """A lake that a run has claimed and written nothing to, as a harness in the same folder would claim it."""
    lake = Lake(str(tmp_path / "lake"))
    lake.claim(LakeIdentity("live", "127.0.0.1", "enterprise", 8))
    return lake


@pytest.fixture
def make_harness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MakeHarness]:
    """Build a harness: `make_harness(keys="both", sessions=…, days=…)`."""
    with ExitStack() as opened:

        def make(
            keys: str = "both", sessions: int = 60, days: int = 4, seed: int = 11, *, reads_bill: bool = False
        ) -> PipelineHarness:
            enterprise = Enterprise.synthetic(seed=seed, sessions=sessions, days=days)
            span = the_last_days(days)
            return open_harness(opened, monkeypatch, tmp_path, enterprise, span, keys, reads_bill=reads_bill)

        yield make


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[PipelineHarness], PipelineHarness]]:
    """Copy a harness that was made once for several tests: its lake, DAGSTER_HOME, enterprise and oracle."""
    with ExitStack() as opened:

        def copy_of(harness: PipelineHarness) -> PipelineHarness:
            folder = Path(harness.lake.uri).parent
            for name in ("lake", "home"):
                if (folder / name).exists():
                    shutil.copytree(folder / name, tmp_path / name)
            # All of it but its lock, which cannot be copied.
            enterprise = deepcopy(harness.enterprise, {id(harness.enterprise.lock): threading.RLock()})
            kinds = sorted({FEED_BY_TABLE[feed].key for feed in harness.feeds})
            keys = kinds[0] if len(kinds) == 1 else "both"
            ours = open_harness(opened, monkeypatch, tmp_path, enterprise, harness.days, keys)
            ours.oracle = deepcopy(harness.oracle)
            return ours

        yield copy_of
