"""When each day was last read from the API, by the API's own clock; a small file for each read, next to the tables.

A read that finds nothing new writes to no table, so tables cannot say it. What follows from a day's age does not belong
here.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from uuid import uuid4

import msgspec
from pyarrow import fs

from devin_pipeline.lake.atomic import write_file
from devin_pipeline.lake.errors import not_read, readable

FOLDER = "last_reads"
_MISSED = f"{FOLDER}/updates_missed_until"

# So many files are joined to one, so that they stay quick to read.
_MOST_FILES = 24
_TRIES = 100


class _Read(msgspec.Struct, frozen=True):
    """Neighbouring days of a feed that were read at one instant."""

    feed: str
    first: date
    last: date
    at: datetime


class LastReads:
    """When each day of each feed was last read, as far as the lake knows."""

    def __init__(self, by_feed: Mapping[str, Mapping[date, datetime]]) -> None:
        self._by_feed = by_feed

    def of(self, feed: str) -> Mapping[date, datetime]:
        """The days of a feed, each with the instant at which its last read began."""
        return self._by_feed.get(feed, {})


def read_last_reads(uri: str) -> LastReads:
    """What the lake at `uri` knows of its last reads; a file that is damaged is passed over."""
    reads: dict[str, list[_Read]] = {}
    for _ in range(_TRIES):
        # What a file said stays true when another run has joined it with others meanwhile: these are read next.
        with suppress(FileNotFoundError):
            listed = _files(uri)
            reads |= {name: _read(uri, name) for name in listed if name not in reads}
            # A folder that changes while it is listed may show neither the old file nor the new one.
            # guard: files that another run joins meanwhile | listed == _files(uri) -> True
            if listed == _files(uri):
                break
    return LastReads(_newest(reads.values()))


def note_read(uri: str, feed: str, days: Sequence[date], at: datetime) -> None:
    """Note that days of a feed were read whole.

    Args:
        uri: The lake.
        feed: The raw table.
        days: The days, in any order.
        at: When the read began, by the API's clock.

    Raises:
        NotWritten: The disk is full, read-only or broken.
    """
    _write(uri, [_Read(feed, first, last, at) for first, last in _ranges(days)])
    files = _files(uri)
    if len(files) > _MOST_FILES:
        # Another run may join them in the same moment.
        with suppress(FileNotFoundError):
            _join(uri, files)


def read_updates_missed_until(uri: str) -> datetime | None:
    """The instant before which updates were too many to be read; None when all were read."""
    with readable(f"{uri}/{_MISSED}"):
        filesystem, folder = fs.FileSystem.from_uri(uri)
        file = filesystem.get_file_info(f"{folder}/{_MISSED}")
        if file.type == fs.FileType.NotFound:
            return None
        with filesystem.open_input_stream(f"{folder}/{_MISSED}") as stream:
            try:
                return msgspec.json.decode(stream.read(), type=datetime)
            except msgspec.DecodeError:
                # It was written after the updates it spoke of.
                return datetime.fromtimestamp(file.mtime_ns / 1e9, UTC)


def note_updates_missed(uri: str, until: datetime) -> None:
    """Note that updates before an instant were too many to be read; days read after it have them.

    Raises:
        NotWritten: The disk is full, read-only or broken.
    """
    known = read_updates_missed_until(uri)
    write_file(uri, _MISSED, msgspec.json.encode(until if known is None else max(known, until)))


def _join(uri: str, files: Sequence[str]) -> None:
    """Write what some files say into one, and then remove them: in between it is said twice, which changes nothing."""
    read_at_once: defaultdict[tuple[str, datetime], list[date]] = defaultdict(list)
    for feed, known in _newest(_read(uri, name) for name in files).items():
        for day, at in known.items():
            read_at_once[feed, at].append(day)
    _write(uri, [_Read(feed, *some, at) for (feed, at), days in read_at_once.items() for some in _ranges(days)])
    filesystem, folder = fs.FileSystem.from_uri(uri)
    for name in files:
        filesystem.delete_file(f"{folder}/{FOLDER}/{name}")


def _newest(files: Iterable[Iterable[_Read]]) -> dict[str, dict[date, datetime]]:
    """Of each feed the newest instant at which each of its days was read."""
    by_feed: defaultdict[str, dict[date, datetime]] = defaultdict(dict)
    for read in chain.from_iterable(files):
        known = by_feed[read.feed]
        for day in _days(read.first, read.last):
            known[day] = max(known.get(day, read.at), read.at)
    return by_feed


def _files(uri: str) -> list[str]:
    with readable(f"{uri}/{FOLDER}"):
        filesystem, folder = fs.FileSystem.from_uri(uri)
        found = filesystem.get_file_info(fs.FileSelector(f"{folder}/{FOLDER}", allow_not_found=True))
    return sorted(file.base_name for file in found if file.base_name.endswith(".json"))


def _read(uri: str, name: str) -> list[_Read]:
    """What a file says; nothing if it is damaged, and then its days are of unknown age.

    Raises:
        FileNotFoundError: Another run has joined it with others meanwhile.
    """
    filesystem, folder = fs.FileSystem.from_uri(uri)
    path = f"{folder}/{FOLDER}/{name}"
    try:
        with filesystem.open_input_stream(path) as stream:
            return msgspec.json.decode(stream.read(), type=list[_Read])
    except msgspec.DecodeError:
        return []
    except FileNotFoundError:
        raise
    except OSError as error:
        raise not_read(path, error) or error from None


def _write(uri: str, reads: Sequence[_Read]) -> None:
    write_file(uri, f"{FOLDER}/{uuid4().hex}.json", msgspec.json.encode(reads), "When the days were read")


def _ranges(days: Sequence[date]) -> list[tuple[date, date]]:
    """The days as first and last of neighbours, oldest first."""
    ranges: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if ranges and day - ranges[-1][1] == timedelta(days=1):
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
