"""The stage that whole-pipeline tests share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest

from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline.lake import Lake
from devin_pipeline.resources import feeds_turned_on
from devin_pipeline_tests.stage import Stage, set_environment, the_last_days

MakeStage = Callable[..., Stage]


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
