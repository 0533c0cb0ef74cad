"""Whose lake it is. Stored once in the lake; a run with another identity is refused.

Without this, one changed setting would mark every other organization's sessions as vanished.
"""

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from pyarrow import fs

from devin_pipeline.lake.atomic import create_file
from devin_pipeline.lake.errors import Damaged, WrongLake, readable

_FILE = "lake.json"


class LakeIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every row of a lake has in common.

    Attributes:
        kind: `demo` (rows made by the emulator) or `live`.
        host: Host of the API.
        scope: `enterprise`, or the id of the one organization that is read.
        day_starts_at_utc_hour: Hour of the UTC day at which a billing day starts.
    """

    kind: Literal["demo", "live"]
    host: str
    scope: str
    day_starts_at_utc_hour: Annotated[int, msgspec.Meta(ge=0, le=23)]

    def differences(self, other: "LakeIdentity") -> list[str]:
        """The fields that differ, as `field: ours, not theirs`."""
        return [
            f"{field} is {getattr(other, field)!r}, not {getattr(self, field)!r}"
            for field in self.__struct_fields__
            if getattr(self, field) != getattr(other, field)
        ]


def read_identity(uri: str) -> LakeIdentity | None:
    """The identity stored in the lake at `uri`; None for a lake nobody has written yet.

    Raises:
        Damaged: What is stored there is not an identity, or cannot be read.
    """
    with readable(f"{uri}/{_FILE}"):
        filesystem, path = fs.FileSystem.from_uri(uri)
        file = f"{path}/{_FILE}"
        found = filesystem.get_file_info(file).type
        # A link that leads nowhere is not a lake nobody has written.
        # guard: a link in place of lake.json | and not Path(file).is_symlink()
        if found == fs.FileType.NotFound and not Path(file).is_symlink():
            return None
        if found == fs.FileType.File:
            with filesystem.open_input_stream(file) as stream, suppress(msgspec.DecodeError):
                return msgspec.json.decode(stream.read(), type=LakeIdentity)
    raise Damaged(
        f"The lake's identity cannot be read ({file})",
        "the file is damaged",
        "Restore it from a backup, or remove it if you know whose lake this is: the next run writes it again",
    )


def require_identity(uri: str, identity: LakeIdentity) -> None:
    """Refuse a lake of another identity; an unwritten lake fits any.

    Raises:
        WrongLake: The lake at `uri` belongs to another kind, host, scope or day hour.
    """
    stored = read_identity(uri)
    # guard: a lake of another enterprise
    if stored is not None and stored != identity:
        raise WrongLake(
            f"This lake cannot be used ({uri})",
            "of the stored rows " + "; ".join(identity.differences(stored)),
            "Point DEVIN_LAKE at another folder, or set the variables back to what the lake was filled with",
        )


def claim(uri: str, identity: LakeIdentity) -> None:
    """Store `identity` in an unwritten lake, or refuse a lake of another identity.

    Raises:
        WrongLake: The lake at `uri` belongs to another kind, host, scope or day hour.
        NotWritten: The disk is full, read-only or broken.
    """
    if read_identity(uri) is None:
        create_file(uri, _FILE, msgspec.json.encode(identity))
    # Another process may have claimed it for somebody else in the same moment.
    require_identity(uri, identity)
