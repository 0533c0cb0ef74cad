"""Opens Dagster's records in DAGSTER_HOME: one process at a time, since those of a new home are made by the first.

What the records say does not belong here.
"""

import fcntl
import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import yaml  # type: ignore[import-untyped]  # types are no dependency of ours
from dagster._core.errors import DagsterInvalidConfigError, DagsterInvariantViolationError

from devin_pipeline.errors import Problem
from devin_pipeline.shell import typed

_LOCK = ".opening"
_DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")


class BrokenHome(Problem):
    """A DAGSTER_HOME that Dagster does not open."""


def has_records() -> bool:
    """Whether there is a DAGSTER_HOME yet."""
    return Path(os.environ["DAGSTER_HOME"]).is_dir()


@contextmanager
def dagster_instance() -> Iterator[dg.DagsterInstance]:
    """Dagster's records in DAGSTER_HOME, whose databases are made if it is new.

    Of several processes that made them in the same moment each could write a revision, and then Dagster reads none.

    Raises:
        BrokenHome: This has happened to it, or its dagster.yaml cannot be read or used.
    """
    home = Path(os.environ["DAGSTER_HOME"])
    with _alone_in(home):
        _require_one_revision(home)
        instance = _open(home)
    with instance:
        yield instance


def _open(home: Path) -> dg.DagsterInstance:
    try:
        return dg.DagsterInstance.get()
    except (DagsterInvalidConfigError, DagsterInvariantViolationError, yaml.YAMLError, UnicodeError, OSError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
        raise BrokenHome(
            f"Dagster cannot open {home}",
            f"its dagster.yaml cannot be read or used ({why})",
            "Correct dagster.yaml, remove it to get the one of this version, or set DAGSTER_HOME to another folder",
        ) from None


@contextmanager
def _alone_in(home: Path) -> Iterator[None]:
    with ExitStack() as opened:
        # Without it where the home may not be written: then nothing is made in it either.
        with suppress(OSError):
            lock = opened.enter_context((home / _LOCK).open("w"))
            # Given back by the system if this process is killed.
            # guard: two processes that make Dagster's databases at once
            #   | fcntl.flock(lock, fcntl.LOCK_EX) -> lock.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_one_revision(home: Path) -> None:
    broken = _with_two_revisions(home)
    if not broken:
        return
    files = " ".join(shlex.quote(str(file)) for file in broken)
    command = typed(f"python -c {shlex.quote(_remove_revision())} {files}")
    raise BrokenHome(
        f"Dagster cannot open {home}",
        "two processes that opened it when it was new have each written a revision into "
        + " and ".join(str(file.relative_to(home)) for file in broken),
        f"Remove the older revision; all else stays as it is: `{command}`",
    )


def _older_revision() -> str:
    """The revision that Dagster writes into a database of before it wrote revisions."""
    from dagster._core.storage.sqlite import LAST_KNOWN_STAMPED_SQLITE_ALEMBIC_REVISION

    return LAST_KNOWN_STAMPED_SQLITE_ALEMBIC_REVISION


def _remove_revision() -> str:
    """A line of Python that removes it from the databases named after it."""
    statement = f"delete from alembic_version where version_num = '{_older_revision()}'"  # noqa: S608 - Dagster's own
    return (
        "import sqlite3, sys; "
        f'[sqlite3.connect(file, isolation_level=None).execute("{statement}") for file in sys.argv[1:]]'
    )


def _with_two_revisions(home: Path) -> list[Path]:
    """The databases whose revision was written twice: as of a new one, and as of one of before revisions."""
    found = []
    for file in filter(Path.exists, (home / name for name in _DATABASES)):
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as stored:
            revisions = {revision for (revision,) in stored.execute("select version_num from alembic_version")}
            if len(revisions) == 2 and _older_revision() in revisions:
                found.append(file)
    return found
