"""When days were last read: noted in small files that stay few, whatever writes or reads meanwhile."""

import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyarrow import fs

from devin_pipeline.lake import Lake, last_reads
from devin_pipeline.tables import RAW_SESSION_TABLES

FEED, OTHER, _ = RAW_SESSION_TABLES
FIRST = date(2026, 1, 1)
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def days(*numbers: int) -> list[date]:
    return [FIRST + timedelta(days=number) for number in numbers]


def later(hours: int) -> datetime:
    return AT + timedelta(hours=hours)


def test_of_each_feed_the_newest_read_of_a_day_counts(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    assert lake.last_reads().of(FEED.name) == {}
    lake.note_read(FEED, days(0, 1, 2, 5), later(1))
    lake.note_read(FEED, days(1), later(3))
    lake.note_read(FEED, days(2), later(0))
    lake.note_read(OTHER, days(0), later(9))
    expected = dict(zip(days(0, 1, 2, 5), map(later, (1, 3, 1, 1)), strict=True))
    assert lake.last_reads().of(FEED.name) == expected
    assert lake.last_reads().of(OTHER.name) == {FIRST: later(9)}


def test_many_reads_stay_few_files_and_say_the_same(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for hour in range(120):
        lake.note_read(FEED, days(hour % 7, 10), later(hour))
    assert len(list((tmp_path / "last_reads").iterdir())) <= 25
    known = lake.last_reads().of(FEED.name)
    assert known[days(10)[0]] == later(119)
    assert {day: known[day] for day in days(*range(7))} == dict(
        zip(days(*range(7)), (later(max(h for h in range(120) if h % 7 == n)) for n in range(7)), strict=True)
    )


def test_a_damaged_file_makes_its_days_unknown_and_no_others(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.note_read(FEED, days(0), AT)
    (file,) = (tmp_path / "last_reads").iterdir()
    file.write_bytes(b"{")
    lake.note_read(FEED, days(1), AT)
    assert lake.last_reads().of(FEED.name) == {days(1)[0]: AT}


class Joining:
    """The folder as a file system may list it once while another run joins files: the old ones gone, the new not there.

    Args:
        wraps: The file system.
    """

    listings = 0

    def __init__(self, wraps: fs.FileSystem) -> None:
        self._wraps = wraps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wraps, name)

    @classmethod
    def from_uri(cls, uri: str) -> tuple["Joining", str]:
        filesystem, path = fs.FileSystem.from_uri(uri)
        return cls(filesystem), path

    def get_file_info(self, wanted: fs.FileSelector) -> list[fs.FileInfo]:
        Joining.listings += 1
        found: list[fs.FileInfo] = self._wraps.get_file_info(wanted)
        return found[1:] if Joining.listings == 1 else found


@pytest.mark.notices("files that another run joins meanwhile")
def test_a_folder_that_changes_while_it_is_listed_is_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(str(tmp_path))
    lake.note_read(FEED, days(0), AT)
    monkeypatch.setattr(last_reads, "fs", SimpleNamespace(FileSystem=Joining, FileSelector=fs.FileSelector))
    assert lake.last_reads().of(FEED.name) == {days(0)[0]: AT}
    assert Joining.listings >= 3


def test_nobody_who_reads_while_files_are_joined_misses_a_day(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.note_read(FEED, days(0), AT)

    def note(number: int) -> None:
        for hour in range(60):
            lake.note_read(FEED, days(number), later(hour))

    writing = [threading.Thread(target=note, args=(number,)) for number in (1, 2)]
    for thread in writing:
        thread.start()
    reads = 0
    while any(thread.is_alive() for thread in writing):
        assert days(0)[0] in lake.last_reads().of(FEED.name)
        reads += 1
    assert reads
    known = lake.last_reads().of(FEED.name)
    assert (known[days(1)[0]], known[days(2)[0]]) == (later(59), later(59))


def test_updates_that_were_missed_are_noted_up_to_the_latest(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    assert lake.updates_missed_until() is None
    lake.note_updates_missed(later(2))
    lake.note_updates_missed(later(1))
    assert lake.updates_missed_until() == later(2)
    (tmp_path / "last_reads" / "updates_missed_until").write_bytes(b"?")
    known = lake.updates_missed_until()
    assert known is not None
    assert timedelta(0) <= datetime.now(UTC) - known < timedelta(minutes=5)
