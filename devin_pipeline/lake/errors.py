"""What the lake refuses, each saying what, why and what to do.

LakeError
├── WrongLake: the lake belongs to another kind, host, scope or day hour
├── UnusableLocation: a path that Delta or DuckDB does not take as it is
├── Damaged: what is stored cannot be read, or is not what was written
│   ├── VersionsLost: the newest entries of a table's log are gone
│   └── NotRead: the system refuses to read what may be intact: no permission, a broken disk, a lost volume
├── TooManyConflicts: other writers kept winning the race for the same days
├── NotWritten: the disk is full, read-only or broken
├── NotReadOnly: a query that would write or change settings
├── LimitMet: a query that was stopped at a limit of time, memory or temporary disk space
└── QueryFailed: a query that DuckDB could not run
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
from deltalake.exceptions import DeltaError

from devin_pipeline.errors import Problem
from devin_pipeline.shell import pipeline_command


class LakeError(Problem):
    """A refusal of the lake."""


class WrongLake(LakeError):
    """The lake belongs to another kind, host, scope or day hour than this run."""

    exit_code = 2


class UnusableLocation(LakeError):
    """A path that Delta or DuckDB does not take as it is."""

    exit_code = 2


class Damaged(LakeError):
    """What is stored cannot be read, or is not what was written."""

    def __init__(self, what: str, why: str, todo: str = "") -> None:
        super().__init__(
            what, why, todo or f"Find what is damaged and the command that repairs it: `{pipeline_command('verify')}`"
        )


class VersionsLost(Damaged):
    """The newest entries of a table's log are gone: the table is older than what was last written to it."""


class NotRead(Damaged):
    """The system refuses to read what may be intact: no permission, a broken disk, a lost volume."""

    def __init__(self, what: str, why: str) -> None:
        todo = "Give the user who runs this the right to read it, or bring its disk or volume back, then run it again"
        super().__init__(what, why, todo)


class TooManyConflicts(LakeError):
    """Other writers kept winning the race for the same days."""


class NotWritten(LakeError):
    """The disk is full, read-only or broken; what was stored before stays."""


class NotReadOnly(LakeError):
    """A query that would write or change settings."""

    exit_code = 2


class LimitMet(LakeError):
    """A query that was stopped at a limit of time, memory or temporary disk space."""

    def __init__(self, limit: str, todo: str) -> None:
        super().__init__("This query was stopped", f"it reached its limit of {limit}", f"Ask for less, or {todo}")


class QueryFailed(LakeError):
    """A query that DuckDB could not run."""


_WORDS = [os.strerror(number) for number in errno.errorcode]
# Rust's words for an error of the system, which Delta hands on inside others of its own.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


# DuckDB says which file it meant, and ends with the system's words. Other words of its may hold text of a row.
_FILE_OF_DUCKDB = re.compile(r'file "([^"]+)"')
# What is not there, or not of the kind it should be, was damaged: rights and volumes would not help.
_MISSING = {os.strerror(number) for number in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)}


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Raise an error of the system, met while `what` is read inside, as `NotRead` or `Damaged`; let all others pass."""
    try:
        yield
    except (OSError, DeltaError, duckdb.Error) as error:
        if (refusal := not_read(what, error)) is None:
            raise
        raise refusal from None


def not_read(what: str, error: Exception) -> Damaged | None:
    """What an error of the system means for who reads `what`; None if it is not an error of the system."""
    if isinstance(error, duckdb.Error):
        first_line = str(error).partition("\n")[0]
        why = next((words for words in _WORDS if first_line.endswith(f": {words}")), None)
        what = found[1] if (found := _FILE_OF_DUCKDB.search(first_line)) else what
    else:
        # Of a storage elsewhere, only Arrow and Delta know what it refuses.
        of_storage = str(error).partition("\n")[0][:200] if isinstance(error, OSError) else None
        why = _words_of_the_system(error) or of_storage
    if why is None:
        return None
    return (Damaged if why in _MISSING else NotRead)(f"{what} cannot be read", why)


@contextmanager
def written(what: str) -> Iterator[None]:
    """Tell an error of the system, met while `what` is written inside, as `NotWritten`; let all others pass."""
    try:
        yield
    except (OSError, DeltaError, duckdb.Error) as error:
        # guard: a full disk shown as a traceback | _words_of_the_system(error)) is None -> "") == ""
        if (why := _words_of_the_system(error)) is None:
            raise
        raise NotWritten(
            f"{what} was not written", why, "Correct that and run again; what was stored before is unchanged"
        ) from None


def _words_of_the_system(error: Exception) -> str | None:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    if found := _OS_ERROR.search(str(error)):
        return os.strerror(int(found[1]))
    # DuckDB wraps its IOException in others, and ends with the system's words.
    return str(error).partition("\n")[0] if isinstance(error, duckdb.Error) else None
