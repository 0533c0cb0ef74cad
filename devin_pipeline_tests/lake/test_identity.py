"""Whose lake it is, and that nobody else's rows come in."""

from pathlib import Path

import msgspec
import pytest

from devin_pipeline.lake import Lake, LakeIdentity, WrongLake

OURS = LakeIdentity(kind="live", host="api.devin.ai", scope="enterprise", day_starts_at_utc_hour=8)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "a new" / "lake"))


def test_an_unwritten_lake_belongs_to_nobody_and_fits_everybody(lake: Lake) -> None:
    assert lake.identity is None
    lake.require_identity(OURS)
    assert not Path(lake.uri).exists()


def test_a_claimed_lake_says_whose_it_is_and_may_be_claimed_again(lake: Lake) -> None:
    lake.claim(OURS)
    lake.claim(OURS)
    lake.require_identity(OURS)
    assert Lake(lake.uri).identity == OURS
    assert [file.name for file in Path(lake.uri).iterdir()] == ["lake.json"]


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (msgspec.structs.replace(OURS, kind="demo"), "kind is 'live', not 'demo'"),
        (msgspec.structs.replace(OURS, host="devin.example.com"), "host is 'api.devin.ai', not 'devin.example.com'"),
        (msgspec.structs.replace(OURS, scope="org-1"), "scope is 'enterprise', not 'org-1'"),
        (msgspec.structs.replace(OURS, day_starts_at_utc_hour=0), "day_starts_at_utc_hour is 8, not 0"),
    ],
    ids=["kind", "host", "scope", "hour"],
)
def test_another_identity_is_refused_naming_what_differs_and_nothing_else(
    lake: Lake, theirs: LakeIdentity, told: str
) -> None:
    lake.claim(OURS)
    for ask in (lake.claim, lake.require_identity):
        with pytest.raises(WrongLake) as refused:
            ask(theirs)
        assert refused.value.why == f"of the stored rows {told}"
        assert lake.uri in refused.value.what
        assert "DEVIN_LAKE" in refused.value.todo
    assert lake.identity == OURS


def test_every_field_that_differs_is_named(lake: Lake) -> None:
    lake.claim(OURS)
    with pytest.raises(WrongLake, match=r"kind is .* host is .* scope is .* day_starts_at_utc_hour is "):
        lake.claim(LakeIdentity(kind="demo", host="h", scope="s", day_starts_at_utc_hour=0))
