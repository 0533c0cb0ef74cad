"""What made tables were made of, so that what would come out the same is neither made nor written again.

A small JSON file per table in the lake's folder `made_of`, an entry per day (or one for a whole table). An entry counts
only while the table's files are, byte for byte, those that were made: whatever else writes, damages or removes them
makes it void.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

import msgspec
from pyarrow import fs

from devin_pipeline.lake.atomic import write_file
from devin_pipeline.lake.connection import MONEY_RULES
from devin_pipeline.lake.errors import readable
from devin_pipeline.lake.file_integrity import StoredFile
from devin_pipeline.lake.linked_days import Links
from devin_pipeline.tables import Table

FOLDER = "made_of"

Inputs = Mapping[date | None, str]
"""A digest of what each day is made of; of a table without days under None. Empty where there is nothing."""

_AT_ONCE = 1 << 20
_COMMENT_LINE = re.compile(rb"^[ ]*(?:#|--).*\n", re.MULTILINE)


class _Entry(msgspec.Struct, frozen=True):
    """What a day was made of, a digest of each file that came out, by its name, and the code that built it.

    Entries of before code fingerprints were kept have none.
    """

    inputs: str
    files: dict[str, str]
    code: str = ""


_Entries = dict[str, _Entry]


def code_fingerprint(*sources: Path, table: Table, settings: object = None) -> str:
    """A digest of all that a table's rows follow from other than its inputs.

    Args:
        sources: The files that say how it is built; lines of comments in them do not count.
        table: The table; its columns and key count, what is said of them does not.
        settings: The settings it follows from.
    """
    columns = [(column.name, column.sql_type) for column in table.columns]
    digest = hashlib.sha256(repr((columns, table.key, settings)).encode())
    for source in sorted((*sources, MONEY_RULES)):
        code = _COMMENT_LINE.sub(b"", source.read_bytes())
        digest.update(b"%s %d\n%s" % (source.name.encode(), len(code), code))
    return digest.hexdigest()


def digest_of(inputs: Sequence[Sequence[StoredFile]], days: Sequence[date] | None, links: Links) -> Inputs:
    """What each of some days is made of; with None, what the whole is made of.

    Args:
        inputs: The files of each table that is read.
        days: The days whose inputs are wanted.
        links: The other days that each is made of too.
    """
    names: dict[date | None, list[str]] = {day: [] for day in (days if days is not None else [None])}
    for place, files in enumerate(inputs):
        for file in files:
            # A table that is not by day is an input of every day.
            built_from = names.keys() if days is None or file.day is None else {file.day, *links.get(file.day, ())}
            for day in built_from & names.keys():
                # A file's name holds a UUID, and its content never changes.
                names[day].append(f"{place}:{_name(file)}")
    return {day: _sha256("\n".join(sorted(found))) if found else "" for day, found in names.items()}


def to_rebuild(uri: str, table: str, files: Sequence[StoredFile], inputs: Inputs, code: str) -> list[date | None]:
    """Of the days in `inputs` those whose stored files are not what this code made of just these inputs."""
    entries = _read(uri, table)
    stored = _by_day(files)
    return [
        day
        for day, digest in inputs.items()
        if (digest or stored[day]) and not _is_made(entries.get(str(day)), digest, code, stored[day])
    ]


def without_provenance(uri: str, table: str, files: Sequence[StoredFile], inputs: Inputs) -> list[date | None]:
    """Of the days in `inputs` those stored in other files than are noted as made of just these inputs, by any code."""
    entries = _read(uri, table)
    stored = _by_day(files)

    def is_proven(day: date | None, digest: str) -> bool:
        entry = entries.get(str(day))
        return entry is not None and entry.inputs == digest and entry.files.keys() == set(map(_name, stored[day]))

    return [day for day, digest in inputs.items() if stored[day] and not is_proven(day, digest)]


def of_other_code(uri: str, table: str, files: Sequence[StoredFile], code: str) -> list[date]:
    """The stored days that other code built, or of which no entry says what built them; oldest first."""
    entries = _read(uri, table)
    days = []
    for day, stored in _by_day(files).items():
        entry = entries.get(str(day))
        # guard: a day whose files are not those that this code built
        #   | and entry.files.keys() == set(map(_name, stored))
        is_of_code = entry is not None and entry.code == code and entry.files.keys() == set(map(_name, stored))
        if day is not None and not is_of_code:
            days.append(day)
    return sorted(days)


def record(uri: str, table: str, files: Sequence[StoredFile], inputs: Inputs, code: str) -> None:
    """Note what the days in `inputs` were made of and by which code, just after `files` were made of them.

    Another run may note other days in the same moment and one of the two be lost: those days are made once more.
    """
    stored = _by_day(files)
    built = {
        str(day): _Entry(digest, {_name(f): _digest(f) for f in stored[day]}, code) for day, digest in inputs.items()
    }
    entries = _read(uri, table) | {day: made for day, made in built.items() if all(made.files.values())}
    _write(uri, table, entries)


def _write(uri: str, table: str, entries: _Entries) -> None:
    write_file(uri, f"{FOLDER}/{table}.json", msgspec.json.encode(entries))


def invalidate(uri: str, table: str, days: Sequence[date] | None) -> None:
    """Drop the entries of some days, or with None that of a table without days: the next run builds them again."""
    entries = _read(uri, table)
    dropped = entries.keys() & {str(day) for day in (days if days is not None else [None])}
    if dropped:
        _write(uri, table, {day: made for day, made in entries.items() if day not in dropped})


def _is_made(entry: _Entry | None, digest: str, code: str, files: Iterable[StoredFile]) -> bool:
    # guard: queries other than those it was made by | or entry.code != code
    # guard: inputs other than those it was made of | entry.inputs != digest or
    if entry is None or entry.inputs != digest or entry.code != code:
        return False
    by_name = {_name(file): file for file in files}
    # Contents last: they are read whole, since a flipped bit shows in nothing less.
    # guard: files that are no longer what was made
    #   | all(_digest(by_name[n]) == d for n, d in entry.files.items()) -> True
    return by_name.keys() == entry.files.keys() and all(_digest(by_name[n]) == d for n, d in entry.files.items())


def _read(uri: str, table: str) -> _Entries:
    with readable(f"{uri}/{FOLDER}/{table}.json"):
        filesystem, folder = fs.FileSystem.from_uri(uri)
        path = f"{folder}/{FOLDER}/{table}.json"
        if filesystem.get_file_info(path).type != fs.FileType.File:
            return {}
        with filesystem.open_input_stream(path) as stream:
            try:
                return msgspec.json.decode(stream.read(), type=_Entries)
            except msgspec.DecodeError:
                # Of no worth but to spare work.
                return {}


def _by_day(files: Iterable[StoredFile]) -> defaultdict[date | None, list[StoredFile]]:
    by_day: defaultdict[date | None, list[StoredFile]] = defaultdict(list)
    for file in files:
        by_day[file.day].append(file)
    return by_day


def _name(file: StoredFile) -> str:
    return file.path.rpartition("/")[2]


def _digest(file: StoredFile) -> str:
    """SHA-256 of a file's content; empty when it cannot be read."""
    filesystem, path = fs.FileSystem.from_uri(file.path)
    digest = hashlib.sha256()
    try:
        with filesystem.open_input_stream(path) as stream:
            while piece := stream.read(_AT_ONCE):
                digest.update(piece)
    except OSError:
        return ""
    return digest.hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
