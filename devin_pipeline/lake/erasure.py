"""How far the erasure list has been applied to what is stored: small files in the lake's folder `forgotten`.

A note per table names the files that were checked against entries of the list. A file's name holds a UUID and its
content never changes, so each is checked once against an entry. Another note says since when an erasure is unfinished:
until it is removed, files of older versions may still hold what was erased. Neither names a person.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from pyarrow import fs

from devin_pipeline.lake.atomic import write_file
from devin_pipeline.lake.erasure_list import FOLDER, ErasureList
from devin_pipeline.lake.errors import readable, written
from devin_pipeline.lake.file_integrity import StoredFile

# Without the ending of an entry, so that no version of the code takes them for one.
_CHECKED = f"{FOLDER}/checked"
_UNFINISHED = f"{FOLDER}/unfinished"


State = frozenset[tuple[str, int]]
"""What differs between two moments of the erasure list."""


class Unchecked(NamedTuple):
    """Files and the entries that they are still to be checked against."""

    entries: ErasureList
    files: Sequence[StoredFile]


class _Note(msgspec.Struct, frozen=True):
    """Files that hold nobody of these entries."""

    entries: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()


def unchecked(uri: str, table: str, files: Iterable[StoredFile], erasure_list: ErasureList) -> list[Unchecked]:
    """Which of the files of a table are still to be checked, and against which entries of the list."""
    if not erasure_list:
        return []
    note = _read(uri, table)
    by_note: dict[bool, list[StoredFile]] = {True: [], False: []}
    for file in files:
        by_note[_name(file) in note.files].append(file)
    # guard: files that were checked against older entries of the erasure list only
    #   | note.entries -> erasure_list.digests
    found = [Unchecked(erasure_list.without(note.entries), by_note[True]), Unchecked(erasure_list, by_note[False])]
    return [each for each in found if each.entries and each.files]


def note_checked(uri: str, table: str, files: Iterable[StoredFile], erasure_list: ErasureList) -> None:
    """Note that these files of a table, and no others, were checked against all entries.

    Raises:
        NotWritten: The disk is full, read-only or broken.
    """
    note = _Note(erasure_list.digests, frozenset(map(_name, files)))
    if note != _read(uri, table):
        write_file(uri, f"{_CHECKED}/{table}", msgspec.json.encode(note))


def state(uri: str) -> State:
    """The entries of the list and the unfinished erasure, distinguished by one listing; empty when there is neither."""
    with readable(f"{uri}/{FOLDER}"):
        filesystem, folder = fs.FileSystem.from_uri(uri)
        found = filesystem.get_file_info(fs.FileSelector(f"{folder}/{FOLDER}", allow_not_found=True))
    return frozenset(
        (file.base_name, file.mtime_ns)
        for file in found
        if file.base_name.endswith(".json") or file.base_name == _UNFINISHED.rpartition("/")[2]
    )


class Unfinished(msgspec.Struct, frozen=True):
    """An erasure whose old files may remain.

    Attributes:
        began: When.
        is_purged: Whether the files of older versions were deleted when it ended.
    """

    began: datetime
    is_purged: bool = False


def read_unfinished(uri: str) -> Unfinished | None:
    """The newest erasure whose old files may remain; None when there is none."""
    with readable(f"{uri}/{_UNFINISHED}"):
        filesystem, folder = fs.FileSystem.from_uri(uri)
        file = filesystem.get_file_info(f"{folder}/{_UNFINISHED}")
        if file.type != fs.FileType.File:
            return None
        with filesystem.open_input_stream(f"{folder}/{_UNFINISHED}") as stream:
            try:
                return msgspec.json.decode(stream.read(), type=Unfinished)
            except msgspec.DecodeError:
                return Unfinished(datetime.fromtimestamp(file.mtime_ns / 1e9, UTC))


def note_unfinished(uri: str, unfinished: Unfinished | None) -> None:
    """Note an erasure whose old files may remain, or with None that there is none.

    Raises:
        NotWritten: The disk is full, read-only or broken.
    """
    if unfinished is not None:
        write_file(uri, _UNFINISHED, msgspec.json.encode(unfinished), "That an erasure has begun")
        return
    with written(_UNFINISHED), suppress(FileNotFoundError):
        filesystem, folder = fs.FileSystem.from_uri(uri)
        filesystem.delete_file(f"{folder}/{_UNFINISHED}")


def _read(uri: str, table: str) -> _Note:
    with readable(f"{uri}/{_CHECKED}/{table}"):
        filesystem, folder = fs.FileSystem.from_uri(uri)
        path = f"{folder}/{_CHECKED}/{table}"
        if filesystem.get_file_info(path).type != fs.FileType.File:
            return _Note()
        with filesystem.open_input_stream(path) as stream:
            try:
                return msgspec.json.decode(stream.read(), type=_Note)
            except msgspec.DecodeError:
                # It only spares work.
                return _Note()


def _name(file: StoredFile) -> str:
    return file.path.rpartition("/")[2]
