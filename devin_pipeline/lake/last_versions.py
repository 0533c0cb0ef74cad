"""Which version of each raw table was written last; a small file for each table, next to the tables.

A log whose newest entries are lost looks like one that never had them: only what is kept outside of it shows the loss.
The version is noted after its commit: a killed run leaves a note that is behind the table, which the next run corrects.
A note ahead of the table means that versions are lost. What follows from that does not belong here.
"""

from typing import Annotated

import msgspec
from pyarrow import fs

from devin_pipeline.lake.atomic import write_file
from devin_pipeline.lake.errors import readable

FOLDER = "last_versions"

_Version = Annotated[int, msgspec.Meta(ge=0)]


def read_last_version(uri: str, table: str) -> int | None:
    """The version of a table that was noted last; None when none was, or the file is damaged."""
    name = f"{FOLDER}/{table}.json"
    with readable(f"{uri}/{name}"):
        filesystem, folder = fs.FileSystem.from_uri(uri)
        try:
            with filesystem.open_input_stream(f"{folder}/{name}") as stream:
                return msgspec.json.decode(stream.read(), type=_Version | None)
        except (FileNotFoundError, msgspec.DecodeError):
            return None


def note_last_version(uri: str, table: str, version: int | None) -> None:
    """Note the version of a table that is stored now; None when nothing is.

    Raises:
        NotWritten: The disk is full, read-only or broken.
    """
    write_file(uri, f"{FOLDER}/{table}.json", msgspec.json.encode(version), f"The last version of {table}")
