"""A disk that is full, read-only or gone: what fails says so, and what was stored stays."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from devin_pipeline.lake import Lake, LakeIdentity, NotWritten, UnusableLocation, write_catalog
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.lake.full_disk import no_file_beyond
from devin_pipeline_tests.tables.rows import DAY, rows_of

pytestmark = pytest.mark.notices(
    "a full disk shown as a traceback",
    "tables that may not be written",
    "a volume that is not mounted",
    "half a lake.json left behind",
    "devin.duckdb written in place",
    "an empty devin.duckdb on a full disk",
)

SESSIONS = TABLES["sessions"]
ACU_WEEKLY = TABLES["acu_weekly"]
OURS = LakeIdentity("live", "api.devin.ai", "enterprise", 8)
NOBODY = 65534


def fill(lake: Lake, *ids: str) -> None:
    lake.replace_days(SESSIONS, [DAY], rows_of(SESSIONS, [{"session_id": i} for i in ids]))


def report(lake: Lake, *ids: str) -> None:
    lake.replace_all(ACU_WEEKLY, rows_of(ACU_WEEKLY, [{"org_id": i} for i in ids]))


def catalog(lake: Lake, *_: str) -> None:
    write_catalog(lake)


def files(lake: Lake) -> list[str]:
    return sorted(str(path.relative_to(lake.uri)) for path in Path(lake.uri).rglob("*") if path.is_file())


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.mark.parametrize("size", [0, 100, 3000])
@pytest.mark.parametrize(("write", "what"), [(fill, "sessions"), (report, "acu_weekly"), (catalog, "devin.duckdb")])
def test_on_a_full_disk_a_write_says_so_leaves_the_old_version_and_no_half_file(
    lake: Lake, write: Callable[..., None], what: str, size: int
) -> None:
    write(lake, "a")
    if write is catalog:
        # Otherwise there would be nothing to write.
        fill(lake, "a")
    stored, versions = files(lake), [lake.snapshot(table).rows() for table in (SESSIONS, ACU_WEEKLY)]
    with no_file_beyond(size), pytest.raises(NotWritten) as refused:
        write(lake, "b", "c")
    assert refused.value.what == f"{what} was not written"
    assert "File too large" in refused.value.why
    assert files(lake) == stored
    assert [lake.snapshot(table).rows() for table in (SESSIONS, ACU_WEEKLY)] == versions
    write(lake, "b", "c")
    assert (files(lake) == stored) == (write is catalog)


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_on_a_full_disk_the_first_write_of_a_table_leaves_nothing_to_read_and_can_be_repeated(
    lake: Lake, size: int
) -> None:
    with no_file_beyond(size), pytest.raises(NotWritten, match="File too large"):
        fill(lake, "a")
    assert lake.snapshot(SESSIONS).rows().num_rows == 0
    fill(lake, "a")
    assert lake.snapshot(SESSIONS).rows().num_rows == 1


def test_the_log_entry_of_a_commit_that_does_not_fit_changes_nothing(lake: Lake) -> None:
    days = [DAY + timedelta(days=n) for n in range(60)]
    fill(lake, "a")
    largest = max(file.stat().st_size for file in Path(lake.uri).rglob("*") if file.is_file())
    stored = lake.snapshot(SESSIONS).rows()
    # Every data file fits; the entry that names sixty of them does not.
    with no_file_beyond(largest + 1500), pytest.raises(NotWritten, match="File too large"):
        lake.replace_days(SESSIONS, days, rows_of(SESSIONS, [{"day": day, "session_id": "b"} for day in days]))
    assert lake.snapshot(SESSIONS).rows().equals(stored)


def test_on_a_disk_that_fills_up_half_way_devin_duckdb_stays_as_it_was_and_nothing_is_left_next_to_it(
    lake: Lake,
) -> None:
    made = write_catalog(lake)
    assert made is not None
    before = made.file.read_bytes()
    fill(lake, "a")
    stored = files(lake)
    # DuckDB fails while it collects the views, or only at the end, when it writes them to their place.
    for share in (0.1, 0.2, 0.4, 0.8, 0.999):
        with no_file_beyond(int(len(before) * share)), pytest.raises(NotWritten, match="File too large"):
            write_catalog(lake)
        assert files(lake) == stored
    assert made.file.read_bytes() == before


def test_on_a_full_disk_a_lake_is_claimed_by_nobody(lake: Lake) -> None:
    with no_file_beyond(10), pytest.raises(NotWritten, match=r"lake\.json was not written"):
        lake.claim(OURS)
    assert lake.identity is None
    assert files(lake) == []
    lake.claim(OURS)
    assert lake.identity == OURS


def test_on_a_full_disk_the_erasure_list_is_not_half_written(lake: Lake) -> None:
    with no_file_beyond(10), pytest.raises(NotWritten, match="The erasure list was not written"):
        lake.add_to_erasure_list([("user", "u")])
    assert not lake.erasure_list()
    assert lake.add_to_erasure_list([("user", "u")]).pseudonym("user", "u") is not None


def test_a_link_to_a_volume_that_is_not_mounted_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(tmp_path / "volume" / "lake")
    for path in ("data", "data/lake"):
        with pytest.raises(UnusableLocation, match="is a link to what is not there; is a volume not mounted"):
            Lake(str(tmp_path / path)).require_identity(OURS)
    (tmp_path / "volume" / "lake").mkdir(parents=True)
    Lake(str(tmp_path / "data")).require_identity(OURS)


def test_a_link_in_place_of_the_duckdb_file_is_replaced_and_not_written_through(lake: Lake, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"somebody's")
    Path(lake.uri).mkdir()
    (Path(lake.uri) / "devin.duckdb").symlink_to(elsewhere)
    write_catalog(lake)
    assert elsewhere.read_bytes() == b"somebody's"
    assert not (Path(lake.uri) / "devin.duckdb").is_symlink()


def test_a_duckdb_file_that_another_process_has_locked_is_replaced_all_the_same(lake: Lake) -> None:
    fill(lake, "a")
    made = write_catalog(lake)
    assert made is not None
    hold = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", hold, str(made.file)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        fill(lake, "b")
        write_catalog(lake)
        holder.communicate()
    assert holder.returncode == 0
    assert lake.query("select session_id from sessions").to_pylist() == [{"session_id": "b"}]


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Inside, root is nobody: permissions do not stop root."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.parametrize("locked", ["", "sessions", "sessions/_delta_log"], ids=["lake", "table", "log"])
def test_a_lake_that_may_not_be_written_is_refused_before_anything_is_read(locked: str) -> None:
    # Not in pytest's own folder, which nobody else may look into.
    with tempfile.TemporaryDirectory() as opened:
        lake = Lake(f"{opened}/lake")
        fill(lake, "a")
        for folder in (Path(opened), *(path for path in Path(opened).rglob("*") if path.is_dir())):
            folder.chmod(0o777)
        lake.require_identity(OURS)
        (Path(lake.uri) / locked).chmod(0o555)
        with as_somebody_else(), pytest.raises(UnusableLocation, match="you may not write to") as refused:
            lake.require_identity(OURS)
        assert refused.value.why.endswith(f"/lake/{locked}".rstrip("/"))
        (Path(lake.uri) / locked).chmod(0o755)
