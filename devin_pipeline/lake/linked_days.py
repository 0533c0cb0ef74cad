"""Days that have sessions in common: what follows from one of them follows from the other too.

A session's versions lie on two days when the API corrected its creation time, or when two feeds disagree about it. A
small file for each pair of days, so that two runs at once cannot lose each other's. Which sessions these are is not
stored.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date

import msgspec
from pyarrow import fs

from devin_pipeline.lake.atomic import write_file
from devin_pipeline.lake.errors import readable

FOLDER = "linked_days"

_DAY = r"(\d{4}-\d{2}-\d{2})"
_NAME = re.compile(rf"{_DAY}_{_DAY}\.json")

Links = Mapping[date, frozenset[date]]
"""The days that have sessions in common with a day; a day without any is missing."""


def linked_with(links: Links, days: Iterable[date]) -> list[date]:
    """The other days that have sessions in common with some of these, oldest first."""
    given = set(days)
    return sorted(set().union(*(links.get(day, ()) for day in given)) - given)


def read_links(uri: str) -> Links:
    """The pairs of days noted for the lake at `uri`, each from both sides."""
    return links_of(_pairs(uri))


def links_of(pairs: Iterable[tuple[date, date]]) -> Links:
    """Pairs of days, each from both sides."""
    links: dict[date, set[date]] = {}
    for first, last in pairs:
        links.setdefault(first, set()).add(last)
        links.setdefault(last, set()).add(first)
    return {day: frozenset(others) for day, others in links.items()}


def note_links(uri: str, pairs: Iterable[tuple[date, date]]) -> None:
    """Note pairs of different days that have sessions in common; a pair that is noted already costs nothing.

    Raises:
        NotWritten: The disk is full, read-only or broken.
    """
    wanted = {(min(pair), max(pair)) for pair in pairs}
    for first, last in sorted(wanted - _pairs(uri)) if wanted else ():
        content = msgspec.json.encode([first, last])
        write_file(uri, f"{FOLDER}/{first}_{last}.json", content, "Which days have sessions in common")


def _pairs(uri: str) -> set[tuple[date, date]]:
    with readable(f"{uri}/{FOLDER}"):
        filesystem, folder = fs.FileSystem.from_uri(uri)
        found = filesystem.get_file_info(fs.FileSelector(f"{folder}/{FOLDER}", allow_not_found=True))
    # Whatever else lies there is not ours.
    pairs = set()
    for name in filter(None, (_NAME.fullmatch(file.base_name) for file in found)):
        with suppress(ValueError):
            pairs.add((date.fromisoformat(name[1]), date.fromisoformat(name[2])))
    return pairs
