"""What the system refuses to read, or what is not what it should be: an error, and never taken for an empty lake."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

from devin_pipeline.lake import Damaged, Lake, LakeIdentity, NotRead, UnusableLocation, emptied_entries, files_ever
from devin_pipeline.operations.repair import repair
from devin_pipeline.operations.verify import verify
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.lake.test_disk import as_somebody_else
from devin_pipeline_tests.tables.rows import DAY, rows_of

pytestmark = pytest.mark.notices(
    "repair that loses what only cannot be read now",
    "removing a log that only cannot be read now",
    "a table on a volume that is not mounted",
    "a link in place of lake.json",
)

SESSIONS, RAW = TABLES["sessions"], TABLES["raw_sessions_v3"]
OURS = LakeIdentity("live", "api.devin.ai", "enterprise", 8)


@pytest.fixture
def lake() -> Iterator[Lake]:
    """A lake with a day of sessions and of raw, in a folder that anybody may look into."""
    with tempfile.TemporaryDirectory() as opened:
        lake = Lake(f"{opened}/lake")
        lake.claim(OURS)
        lake.add_to_erasure_list([("user", "u")])
        for table in (SESSIONS, RAW):
            lake.replace_days(table, [DAY], rows_of(table, [{"session_id": "a"}]))
        for path in (Path(opened), *Path(opened).rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        yield lake


def only(lake: Lake, pattern: str) -> Path:
    return min(Path(lake.uri).glob(pattern))


READS: dict[str, tuple[str, Callable[[Lake], object]]] = {
    "lake.json": ("lake.json", lambda lake: lake.identity),
    "an entry of the erasure list": ("forgotten/*.json", lambda lake: lake.erasure_list()),
    "the erasure list": ("forgotten", lambda lake: lake.erasure_list()),
    "a table": ("sessions", lambda lake: lake.snapshot(SESSIONS)),
    "a log": ("sessions/_delta_log", lambda lake: lake.snapshot(SESSIONS)),
    "an entry of a log": ("sessions/_delta_log/*1.json", lambda lake: lake.snapshot(SESSIONS)),
    "a log, by its entries": ("sessions/_delta_log", lambda lake: emptied_entries(lake.location(SESSIONS))),
    "a file": ("sessions/day=*/*", lambda lake: lake.snapshot(SESSIONS).rows()),
    "a file, by a query": ("sessions/day=*/*", lambda lake: lake.query("from sessions")),
    "a file, by a run": ("sessions/day=*/*", lambda lake: lake.connect([SESSIONS]).rows("from sessions")),
    "a log, by verify": ("sessions/_delta_log", lambda lake: verify(lake, 8)),
    "a log, by repair": ("raw_sessions_v3/_delta_log", lambda lake: repair(lake, [DAY], 8, keeps_text=True)),
}


@pytest.mark.parametrize("what", READS)
def test_what_this_user_may_not_read_is_reported_with_the_systems_words(lake: Lake, what: str) -> None:
    pattern, read = READS[what]
    only(lake, pattern).chmod(0)
    with as_somebody_else(), pytest.raises(NotRead) as refused:
        read(lake)
    assert refused.value.why == "Permission denied"
    assert "right to read" in refused.value.todo
    only(lake, pattern).chmod(0o777)


def test_verify_names_a_file_that_cannot_be_read_and_goes_on(lake: Lake) -> None:
    only(lake, "raw_sessions_v3/day=*/*").chmod(0)
    with as_somebody_else():
        found = verify(lake, 8, tables=[RAW]).findings
    assert [(finding.day, finding.what) for finding in found] == [(DAY, "Permission denied")]


def test_repair_loses_no_row_of_a_file_that_only_cannot_be_read_now(lake: Lake) -> None:
    version = lake.snapshot(RAW).version
    only(lake, "raw_sessions_v3/day=*/*").chmod(0)
    with as_somebody_else(), pytest.raises(NotRead, match="Permission denied"):
        repair(lake, [DAY], 8, keeps_text=True)
    assert lake.snapshot(RAW).version == version


def as_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def as_a_link_to_nowhere(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to("/nowhere/at-all")


def as_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


def with_an_invalid_hour(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"day_starts_at_utc_hour": 99}))


@pytest.mark.parametrize(
    "damage", [as_a_folder, as_a_link_to_nowhere, with_an_invalid_hour, lambda file: file.write_bytes(b"\xff")]
)
def test_a_lake_whose_identity_is_damaged_is_not_one_that_nobody_has_written(
    lake: Lake, damage: Callable[[Path], None]
) -> None:
    damage(Path(lake.uri) / "lake.json")
    with pytest.raises(Damaged, match="The lake's identity cannot be read"):
        _ = lake.identity


@pytest.mark.parametrize("entry", [b"\xff", b"{}", b'{"kind":"user","salt":"zz","digest":"zz"}'])
def test_a_damaged_entry_of_the_erasure_list_stops_whatever_would_restore_text(lake: Lake, entry: bytes) -> None:
    only(lake, "forgotten/*.json").write_bytes(entry)
    with pytest.raises(Damaged, match="The erasure list cannot be read"):
        lake.erasure_list()


@pytest.mark.parametrize("damage", [as_a_file, as_a_link_to_nowhere])
def test_what_is_not_a_folder_is_not_taken_for_an_empty_lake(lake: Lake, damage: Callable[[Path], None]) -> None:
    damage(Path(lake.uri))
    with pytest.raises(UnusableLocation, match=r"is not a folder|is a link to what is not there"):
        lake.require_readable()


def test_a_lake_that_this_user_may_not_look_into_is_refused(lake: Lake) -> None:
    for folder in (Path(lake.uri), Path(lake.uri).parent):
        folder.chmod(0)
        with as_somebody_else(), pytest.raises(UnusableLocation, match=r"may not look into|cannot be looked at"):
            lake.require_readable()
        folder.chmod(0o777)
    lake.require_readable()


@pytest.mark.parametrize("uri", ["foo://bucket/lake", "~nobody-of-this-name/lake", "\udcff"])
def test_a_place_that_no_lake_can_be_in_is_refused(uri: str) -> None:
    with pytest.raises(UnusableLocation):
        Lake(uri).require_readable()


def test_a_table_on_a_volume_that_is_not_mounted_is_not_empty(lake: Lake) -> None:
    as_a_link_to_nowhere(Path(lake.location(SESSIONS)))
    with pytest.raises(NotRead, match="is a volume not mounted"):
        lake.snapshot(SESSIONS)


@pytest.mark.parametrize("damage", [as_a_file, shutil.rmtree])
def test_a_table_without_its_log_is_damaged(lake: Lake, damage: Callable[[Path], None]) -> None:
    damage(Path(lake.location(SESSIONS)) / "_delta_log")
    with pytest.raises(Damaged, match="The log of sessions cannot be read") as refused:
        lake.snapshot(SESSIONS)
    assert not isinstance(refused.value, NotRead)


def test_an_entry_of_a_log_that_is_a_folder_is_a_lost_commit(lake: Lake) -> None:
    entry = only(lake, "sessions/_delta_log/*1.json")
    as_a_folder(entry)
    assert emptied_entries(lake.location(SESSIONS)) == [str(entry)]


def test_a_garbled_entry_that_delta_no_longer_reads_is_reported_by_repair(lake: Lake) -> None:
    delta = lake.snapshot(RAW).delta
    assert delta is not None
    delta.create_checkpoint()
    only(lake, "raw_sessions_v3/_delta_log/*0.json").write_text("{")
    assert lake.snapshot(RAW).version == 1
    with pytest.raises(Damaged, match="An entry of a log cannot be read"):
        list(files_ever(RAW, lake.location(RAW), date.fromisoformat(str(DAY))))


def test_no_word_of_a_row_is_in_the_error_of_a_file_that_cannot_be_read(lake: Lake) -> None:
    file = only(lake, "sessions/day=*/*")
    file.write_bytes(b"PAR1 hunter2")
    with pytest.raises(Damaged) as refused:
        lake.query("from sessions")
    assert "hunter2" not in str(refused.value)
    assert os.fspath(file.parent.parent) not in refused.value.why
