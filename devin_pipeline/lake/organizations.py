"""Which organizations the lake holds sessions of: one small file next to the tables, written when one is new."""

from collections.abc import Iterable

import msgspec
from pyarrow import fs

from devin_pipeline.lake.atomic import write_file

_FILE = "organizations.json"


def read_organizations(uri: str) -> frozenset[str] | None:
    """The organizations noted for the lake at `uri`; None when none were, or when the file is damaged."""
    filesystem, folder = fs.FileSystem.from_uri(uri)
    if filesystem.get_file_info(f"{folder}/{_FILE}").type != fs.FileType.File:
        return None
    with filesystem.open_input_stream(f"{folder}/{_FILE}") as stream:
        try:
            return frozenset(msgspec.json.decode(stream.read(), type=list[str]))
        except msgspec.DecodeError:
            return None


def note_organizations(uri: str, organizations: Iterable[str]) -> None:
    """Note all organizations of the lake at `uri`.

    Of two runs that meet a new one in the same moment one may be lost: the next read of it notes it.

    Raises:
        NotWritten: The disk is full, read-only or broken.
    """
    write_file(uri, _FILE, msgspec.json.encode(sorted(organizations)), "Which organizations the lake holds")
