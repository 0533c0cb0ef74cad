"""Who is to stay forgotten: salted hashes of ids, one small file each in the lake, and the pseudonyms in their place.

No id is stored. A file per entry, so that two commands at once cannot lose each other's.
"""

import hashlib
import hmac
import secrets
from typing import Annotated, Literal

import msgspec
from pyarrow import fs

from devin_pipeline.lake.atomic import write_file
from devin_pipeline.lake.errors import Damaged, readable

Kind = Literal["user", "session"]

_FOLDER = "forgotten"
_Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One user or session to forget.

    Attributes:
        kind: What the id is of.
        salt: Random, hex.
        digest: HMAC-SHA256 of the id under the salt, hex.
    """

    kind: Kind
    salt: _Hex
    digest: _Hex

    @classmethod
    def of(cls, kind: Kind, identifier: str) -> "_Entry":
        salt = secrets.token_hex(32)
        return cls(kind, salt, _digest(salt, identifier))

    def fits(self, kind: Kind, identifier: str) -> bool:
        return kind == self.kind and hmac.compare_digest(self.digest, _digest(self.salt, identifier))

    @property
    def pseudonym(self) -> str:
        return f"forgotten-{self.digest[:24]}"


class Forgotten:
    """The entries of a lake at one moment. False when there are none."""

    def __init__(self, entries: tuple[_Entry, ...] = ()) -> None:
        self._entries = entries
        self._pseudonyms: dict[tuple[Kind, str], str | None] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Forgotten) and self._entries == other._entries

    __hash__ = None  # type: ignore[assignment] # it remembers what it was asked

    def pseudonym(self, kind: Kind, identifier: str) -> str | None:
        """What stands for a forgotten id; None for an id that is not to be forgotten."""
        asked = (kind, identifier)
        if asked not in self._pseudonyms:
            fitting = (entry.pseudonym for entry in self._entries if entry.fits(kind, identifier))
            self._pseudonyms[asked] = next(fitting, None)
        return self._pseudonyms[asked]


def read_forgotten(uri: str) -> Forgotten:
    """What the lake at `uri` is to forget.

    Raises:
        Damaged: An entry cannot be read. Without it, what is to be gone would come back with the next run.
    """
    with readable(f"{uri}/{_FOLDER}"):
        filesystem, path = fs.FileSystem.from_uri(uri)
        files = filesystem.get_file_info(fs.FileSelector(f"{path}/{_FOLDER}", allow_not_found=True))
    entries = []
    for file in sorted(files, key=lambda file: file.path):
        if file.path.endswith(".json"):
            with readable(file.path), filesystem.open_input_stream(file.path) as stream:
                entries.append(_entry(file.path, stream.read()))
    return Forgotten(tuple(entries))


def _entry(path: str, stored: bytes) -> _Entry:
    try:
        return msgspec.json.decode(stored, type=_Entry)
    except msgspec.DecodeError:
        raise Damaged(
            f"Who is to be erased cannot be read ({path})",
            "the entry is damaged",
            "Put it back from a backup, or remove it and run `devin-pipeline forget` for that user or session again",
        ) from None


def remember_to_forget(uri: str, kind: Kind, identifier: str) -> Forgotten:
    """Add an entry, unless there is one for this id, and give all of them."""
    known = read_forgotten(uri)
    if known.pseudonym(kind, identifier) is not None:
        return known
    entry = _Entry.of(kind, identifier)
    write_file(uri, f"{_FOLDER}/{entry.digest}.json", msgspec.json.encode(entry), "Who is to be forgotten")
    return read_forgotten(uri)


def _digest(salt: str, identifier: str) -> str:
    return hmac.digest(bytes.fromhex(salt), identifier.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()
