"""The erasure list: salted hashes of ids, one small file each in the lake, and the pseudonyms in their place.

No id is stored. A file per entry, so that two commands at once cannot lose each other's.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import msgspec
from pyarrow import fs

from devin_pipeline.lake.atomic import write_file
from devin_pipeline.lake.errors import Damaged, readable
from devin_pipeline.shell import pipeline_command

Kind = Literal["user", "session"]
Person = tuple[Kind, str]
"""A user or a session, by its id."""

FOLDER = "forgotten"
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


class ErasureList:
    """The entries of a lake at one moment. False when there are none.

    Args:
        entries: The entries.
        known: The ids of some entries, as `forget` was given them: these need no hashing.
    """

    def __init__(self, entries: tuple[_Entry, ...] = (), known: Mapping[Person, _Entry] | None = None) -> None:
        self._entries = entries
        self._known = dict(known or {})
        self._hashed = [entry for entry in entries if entry not in self._known.values()]
        self._users: dict[str, str | None] = {}
        self._pseudonyms = frozenset(entry.pseudonym for entry in entries)

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ErasureList) and self._entries == other._entries

    __hash__ = None  # type: ignore[assignment] # it remembers what it was asked

    @property
    def digests(self) -> frozenset[str]:
        """What differs between two lists of entries."""
        return frozenset(entry.digest for entry in self._entries)

    def without(self, digests: Iterable[str]) -> "ErasureList":
        """The other entries than these."""
        left = tuple(entry for entry in self._entries if entry.digest not in frozenset(digests))
        return ErasureList(left, {person: entry for person, entry in self._known.items() if entry in left})

    def knowing(self, persons: Iterable[Person]) -> "ErasureList":
        """The same entries; those of these persons need no hashing."""
        found = {p: entry for p in persons for entry in self._entries if entry.fits(*p)}
        return ErasureList(self._entries, found)

    def has(self, kind: Kind) -> bool:
        """Whether any entry is of this kind."""
        return any(entry.kind == kind for entry in self._entries)

    def pseudonym(self, kind: Kind, identifier: str) -> str | None:
        """The pseudonym of an id on the list; None for any other id."""
        # Users are few and come again and again; sessions are many, and each comes once or twice.
        if kind == "user" and identifier in self._users:
            return self._users[identifier]
        entry = self._known.get((kind, identifier)) or next(
            (entry for entry in self._hashed if entry.fits(kind, identifier)), None
        )
        pseudonym = None if entry is None else entry.pseudonym
        if kind == "user":
            self._users[identifier] = pseudonym
        return pseudonym

    def alias(self, kind: Kind, identifier: str | None) -> str | None:
        """What an erased id is stored under; it may be that already. None for an id that is not erased."""
        if identifier is None or identifier in self._pseudonyms:
            return identifier
        return self.pseudonym(kind, identifier)


def read_erasure_list(uri: str) -> ErasureList:
    """What the lake at `uri` is to forget.

    Raises:
        Damaged: An entry cannot be read. Without it, what is to be gone would come back with the next run.
    """
    with readable(f"{uri}/{FOLDER}"):
        filesystem, path = fs.FileSystem.from_uri(uri)
        files = filesystem.get_file_info(fs.FileSelector(f"{path}/{FOLDER}", allow_not_found=True))
    entries = []
    for file in sorted(files, key=lambda file: file.path):
        if file.path.endswith(".json"):
            with readable(file.path), filesystem.open_input_stream(file.path) as stream:
                entries.append(_entry(file.path, stream.read()))
    return ErasureList(tuple(entries))


def _entry(path: str, stored: bytes) -> _Entry:
    try:
        return msgspec.json.decode(stored, type=_Entry)
    except msgspec.DecodeError:
        raise Damaged(
            f"The erasure list cannot be read ({path})",
            "the entry is damaged",
            "Restore it from a backup, or remove it and give that user or session again to "
            f"`{pipeline_command('forget --user ID')}`",
        ) from None


def add_to_erasure_list(uri: str, persons: Iterable[Person]) -> ErasureList:
    """Add an entry for each of some users and sessions that has none, and give all entries."""
    wanted = list(dict.fromkeys(persons))
    known = read_erasure_list(uri)
    for kind, identifier in wanted:
        if known.pseudonym(kind, identifier) is None:
            entry = _Entry.of(kind, identifier)
            write_file(uri, f"{FOLDER}/{entry.digest}.json", msgspec.json.encode(entry), "The erasure list")
    return read_erasure_list(uri).knowing(wanted)


def _digest(salt: str, identifier: str) -> str:
    return hmac.digest(bytes.fromhex(salt), identifier.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()
