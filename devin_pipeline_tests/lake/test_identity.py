"""Whose lake it is, and that nobody else's rows come in."""

import resource
import threading
from pathlib import Path

import msgspec
import pytest

from devin_pipeline.lake import Damaged, Lake, LakeIdentity, UnusableLocation, WrongLake

pytestmark = pytest.mark.notices("a lake of another enterprise")

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


@pytest.mark.parametrize("left", [b"", b"\xff\x00", b'{"kind": "life"}'])
def test_an_identity_that_cannot_be_read_fits_nobody(lake: Lake, left: bytes) -> None:
    lake.claim(OURS)
    Path(lake.uri, "lake.json").write_bytes(left)
    with pytest.raises(Damaged, match="backup"):
        lake.require_identity(OURS)


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (msgspec.structs.replace(OURS, kind="demo"), "kind is 'live', not 'demo'"),
        (msgspec.structs.replace(OURS, host="devin.example.com"), "host is 'api.devin.ai', not 'devin.example.com'"),
        (msgspec.structs.replace(OURS, scope="org-1"), "scope is 'enterprise', not 'org-1'"),
        (msgspec.structs.replace(OURS, day_starts_at_utc_hour=0), "day_starts_at_utc_hour is 8, not 0"),
    ],
    ids=["kind", "host", "scope", "hour"],
)
def test_another_identity_is_refused_naming_what_differs_and_nothing_else(
    lake: Lake, theirs: LakeIdentity, expected: str
) -> None:
    lake.claim(OURS)
    for ask in (lake.claim, lake.require_identity):
        with pytest.raises(WrongLake) as refused:
            ask(theirs)
        assert refused.value.why == f"of the stored rows {expected}"
        assert lake.uri in refused.value.what
        assert "DEVIN_LAKE" in refused.value.todo
    assert lake.identity == OURS


@pytest.mark.notices("a lake that two claim in the same moment")
def test_a_new_lake_that_is_claimed_for_several_at_once_belongs_to_one_and_refuses_the_others(tmp_path: Path) -> None:
    for turn in range(30):
        lake = Lake(str(tmp_path / str(turn)))
        starts = threading.Barrier(4)
        claimed: list[str] = []
        refused: list[str] = []

        def claim(
            scope: str,
            lake: Lake = lake,
            starts: threading.Barrier = starts,
            claimed: list[str] = claimed,
            refused: list[str] = refused,
        ) -> None:
            starts.wait()
            try:
                lake.claim(msgspec.structs.replace(OURS, scope=scope))
                claimed.append(scope)
            except WrongLake:
                refused.append(scope)

        claims = [threading.Thread(target=claim, args=(scope,)) for scope in ("org-1", "org-2", "org-3", "org-4")]
        for thread in claims:
            thread.start()
        for thread in claims:
            thread.join()
        assert (len(claimed), len(refused)) == (1, 3)
        identity = lake.identity
        assert identity is not None
        assert [identity.scope] == claimed


def test_every_field_that_differs_is_named(lake: Lake) -> None:
    lake.claim(OURS)
    with pytest.raises(WrongLake, match=r"kind is .* host is .* scope is .* day_starts_at_utc_hour is "):
        lake.claim(LakeIdentity(kind="demo", host="h", scope="s", day_starts_at_utc_hour=0))


def test_that_a_lake_can_be_written_is_tried_and_leaves_nothing_behind(lake: Lake, tmp_path: Path) -> None:
    lake.require_writable()
    assert list(tmp_path.iterdir()) == []
    lake.claim(OURS)
    lake.require_writable()
    assert [file.name for file in Path(lake.uri).iterdir()] == ["lake.json"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that even root cannot write to")
def test_a_lake_that_cannot_be_written_is_refused_even_to_root() -> None:
    with pytest.raises(UnusableLocation, match="/proc/self/lake: a small file could not be written"):
        Lake("/proc/self/lake").require_writable()


def test_a_lake_on_a_full_disk_is_refused_and_no_empty_file_stays(lake: Lake, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(UnusableLocation, match="File too large"):
            lake.require_writable()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
