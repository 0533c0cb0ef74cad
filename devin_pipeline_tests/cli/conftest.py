"""A lake to ask where a test is about the asking."""

from pathlib import Path

import pytest

from devin_pipeline.lake import Lake, LakeIdentity


@pytest.fixture
def lake_of_no_rows(tmp_path: Path) -> Lake:
    """A lake that a run has claimed and written nothing to, as a stage in the same folder would claim it."""
    lake = Lake(str(tmp_path / "lake"))
    lake.claim(LakeIdentity("live", "127.0.0.1", "enterprise", 8))
    return lake
