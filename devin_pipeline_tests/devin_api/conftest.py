"""Names tests by their feed."""

import pytest

from devin_pipeline.devin_api import Feed


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    return val.name if isinstance(val, Feed) else None
