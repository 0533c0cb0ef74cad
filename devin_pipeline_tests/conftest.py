"""The stage that whole-pipeline tests share, and the doses of the tests in `chaos/`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage import sql
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage

from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline.lake import Lake
from devin_pipeline.resources import feeds_turned_on
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


@pytest.fixture(scope="session", autouse=True)
def kept_engines() -> Iterator[None]:
    """Keep the engines of Dagster's SQLite storages.

    They make a new one for each event, which compiles its statements anew: a fifth of a run's CPU seconds.
    """
    engines: dict[str, Any] = {}

    def create_engine(url: str, **options: Any) -> Any:
        if url not in engines:
            engines[url] = sql.create_engine(url, **options)
        return engines[url]

    with pytest.MonkeyPatch.context() as patch:
        for storage in (sqlite_event_log, sqlite_run_storage):
            patch.setattr(storage, "create_engine", create_engine)
        yield


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
            return Stage(server, enterprise, Lake(str(tmp_path / "lake")), instance, last_days, feeds_turned_on())

        yield make
