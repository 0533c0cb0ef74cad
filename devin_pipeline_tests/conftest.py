"""The stage that whole-pipeline tests share, and the doses of the tests in `chaos/`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest

from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline.lake import Lake, LakeIdentity
from devin_pipeline.settings import Settings
from devin_pipeline_tests.stage import Stage, set_environment, the_last_days

MakeStage = Callable[..., Stage]
Dose = Callable[[int], int]
Figure = Callable[[str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos",
        type=int,
        default=1,
        metavar="N",
        help="Size of the tests in chaos/, in percent of the full dose (default 1; 100 earns the README's figures).",
    )


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
    """A lake that a run has claimed and written nothing to, as a stage in the same folder would claim it."""
    lake = Lake(str(tmp_path / "lake"))
    lake.claim(LakeIdentity("live", "127.0.0.1", "enterprise", 8))
    return lake


@pytest.fixture
def make_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MakeStage]:
    """Build a stage: `make_stage(keys="both", sessions=…, days=…)`."""
    with ExitStack() as opened:

        def make(keys: str = "both", sessions: int = 60, days: int = 4, seed: int = 11) -> Stage:
            enterprise = Enterprise.synthetic(seed=seed, sessions=sessions, days=days)
            server = opened.enter_context(EmulatorServer(enterprise))
            last_days = the_last_days(days)
            set_environment(monkeypatch, server, tmp_path, keys, last_days[0])
            instance = opened.enter_context(dg.DagsterInstance.ephemeral())
            return Stage(server, enterprise, Lake(str(tmp_path / "lake")), instance, last_days, Settings().feeds)

        yield make
