"""Small files next to the tables, written so that a reader sees a whole one or none."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from uuid import uuid4

from pyarrow import fs

from devin_pipeline.lake.errors import written


def write_file(uri: str, name: str, content: bytes, what: str = "") -> None:
    """Write a small file of the lake at `uri` aside and move it into place, over the one that is there.

    Args:
        uri: The lake.
        name: The file, below the lake; folders on the way are made.
        content: All it holds.
        what: What it says, for a person; its name when left out.

    Raises:
        NotWritten: The disk is full, read-only or broken; the file that was there stays.
    """
    filesystem, _ = fs.FileSystem.from_uri(uri)
    _write(uri, name, content, what or name, filesystem.move)


def create_file(uri: str, name: str, content: bytes, what: str = "") -> None:
    """Write a small file of the lake at `uri` unless there is one: of several writers the first one's stays.

    In an object store, and on a disk without hard links, the last of several that write in the same moment stays.

    Args:
        uri: The lake.
        name: The file, below the lake; folders on the way are made.
        content: All it holds.
        what: What it says, for a person; its name when left out.

    Raises:
        NotWritten: The disk is full, read-only or broken.
    """
    filesystem, _ = fs.FileSystem.from_uri(uri)
    is_local = isinstance(filesystem, fs.LocalFileSystem)
    # guard: a lake that two claim in the same moment | partial(_link, filesystem) if is_local else
    put_into_place = partial(_link, filesystem) if is_local else filesystem.move
    _write(uri, name, content, what or name, put_into_place)


def _link(filesystem: fs.FileSystem, new: str, path: str) -> None:
    try:
        os.link(new, path)
    except FileExistsError:
        filesystem.delete_file(new)
    except OSError:
        filesystem.move(new, path)
    else:
        filesystem.delete_file(new)


def _write(uri: str, name: str, content: bytes, what: str, put_into_place: Callable[[str, str], None]) -> None:
    filesystem, folder = fs.FileSystem.from_uri(uri)
    path = f"{folder}/{name}"
    new = f"{path}.{uuid4().hex}"
    with written(what):
        filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        try:
            with filesystem.open_output_stream(new) as stream:
                stream.write(content)
            put_into_place(new, path)
        except OSError:
            with suppress(OSError):
                # guard: half a lake.json left behind
                filesystem.delete_file(new)
            raise
