"""Where a lake may be: paths and URIs that every library takes alike, folders that this user may use."""

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

from pyarrow import fs

from devin_pipeline.lake.errors import UnusableLocation, readable

_SET_LAKE = "Set DEVIN_LAKE to a folder of yours"
# All of ASCII was tried. Delta panics at some, splits or decodes others, and DuckDB expands what looks like a pattern.
_NOT_IN_A_PATH = re.compile(r"[\x00-\x1f%*?\[\\\]^|\x7f]")
# Arrow takes what RFC 3986 has in a path, and each library decodes for itself what is encoded.
_NOT_IN_A_URI = re.compile(r"[^A-Za-z0-9\-._~!$&'()+,;=:@/]")


def absolute_location(uri: str) -> str:
    """The folder or URI of a lake, a folder as an absolute path.

    Raises:
        UnusableLocation: The path has a character that Delta or DuckDB does not take as it is.
    """
    is_uri = has_scheme(uri)
    try:
        location = uri if is_uri else str(Path(uri).expanduser().absolute())
        location.encode()
    except RuntimeError:
        raise _unusable(uri, "its ~ names a user whose home is not known") from None
    except UnicodeError:
        raise _unusable(uri, "its name is not UTF-8") from None
    # guard: a path that a library takes for another
    #   | (_NOT_IN_A_URI if is_uri else _NOT_IN_A_PATH).findall(location)
    if unusable := set((_NOT_IN_A_URI if is_uri else _NOT_IN_A_PATH).findall(location)):
        characters = " or ".join(map(_shown, sorted(unusable)))
        raise _unusable(location, f"Delta or DuckDB does not take {characters} in a path as it is")
    return location


def has_scheme(uri: str) -> bool:
    """True for a URI, such as `s3://…`, and not for a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", uri) is not None


def require_storage(uri: str) -> None:
    """Refuse an object store that is not known here or cannot be reached.

    Raises:
        UnusableLocation: It is not known.
        NotRead: It cannot be reached.
    """
    try:
        with readable(uri):
            fs.FileSystem.from_uri(uri)
    except ValueError:
        raise UnusableLocation(
            f"The lake cannot be in {uri}", "it is neither a folder nor a storage known here", _SET_LAKE
        ) from None


def require_folders(uri: str, tables: Sequence[Path], mode: int) -> None:
    """Refuse a lake whose folder, or a table's, this user may not use; `mode` says how, as for `os.access`.

    Raises:
        UnusableLocation: It is not a folder, a link to what is not there, or not for this user.
    """
    try:
        why = _why_not_usable(Path(uri), tables, mode)
    except OSError as error:
        why = f"{error.filename} cannot be looked at ({os.strerror(error.errno or errno.EIO)})"
    if why:
        raise UnusableLocation(f"The lake cannot be in {uri}", why, _SET_LAKE)


def _why_not_usable(lake: Path, tables: Sequence[Path], mode: int) -> str | None:
    # guard: a volume that is not mounted | or folder.is_symlink()
    nearest = next(folder for folder in (lake, *lake.parents) if folder.exists() or folder.is_symlink())
    stored = [] if mode == os.X_OK else [f for table in tables for f in (table, table / "_delta_log") if f.exists()]
    # guard: tables that may not be written | *stored
    for folder in (nearest, *stored):
        if not folder.exists():
            return f"{folder} is a link to what is not there; is a volume not mounted?"
        if not folder.is_dir():
            return f"{folder} is not a folder"
        if not os.access(folder, mode):
            return f"you may not {'write to' if mode & os.W_OK else 'look into'} {folder}"
    return None


def _unusable(where: str, why: str) -> UnusableLocation:
    return UnusableLocation(
        f"The lake cannot be in {_shown(where)}", why, "Set DEVIN_LAKE to a folder of letters, digits, - and _"
    )


def _shown(text: str) -> str:
    if text == " ":
        return "a space"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
