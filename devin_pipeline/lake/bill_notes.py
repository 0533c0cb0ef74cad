"""What reads of the bill and of the lists came to besides rows: what was refused, what shrank, and as of which day.

A refusal leaves no row, and a bill that says nothing of a day none either; the reports of money say which it was. A
small file for each raw table, and one for the clock of the reports, so that who looks at them later sees what they
were made by. No file holds the id or name of a person.
"""

from collections.abc import Mapping
from datetime import date

import msgspec
from pyarrow import fs

from devin_pipeline.lake.atomic import write_file
from devin_pipeline.lake.errors import readable

FOLDER = "bill"
_CLOCK = "clock"


class BillNote(msgspec.Struct, frozen=True):
    """What is known of the answers to one raw table: of lists by their kind, of bills by whose they are.

    Attributes:
        read: What was ever answered.
        refused: The HTTP status of what is refused now.
        shrunk: What left out more than half of what was listed before, so that nothing was taken off the list: how
            many were listed before, and how many are now.
        unreadable: How many entries could not be read, or were of the same day as another.
        not_found: How many the API does not know, though it answered others of their kind.
        forbidden: How many may not be read, though others of their kind may.
    """

    read: frozenset[str] = frozenset()
    refused: dict[str, int] = {}
    shrunk: dict[str, tuple[int, int]] = {}
    unreadable: dict[str, int] = {}
    not_found: dict[str, int] = {}
    forbidden: dict[str, int] = {}

    def updated(self, asked: frozenset[str], new: "BillNote") -> "BillNote":
        """This note once some were asked again.

        Args:
            asked: What was asked now.
            new: What that came to.
        """

        def of(before: Mapping[str, object], now: Mapping[str, object]) -> dict[str, object]:
            return {name: value for name, value in before.items() if name not in asked} | dict(now)

        return msgspec.convert(
            {
                "read": self.read | new.read,
                "refused": of(self.refused, new.refused),
                "shrunk": of(self.shrunk, new.shrunk),
                "unreadable": of(self.unreadable, new.unreadable),
                "not_found": of(self.not_found, new.not_found),
                "forbidden": of(self.forbidden, new.forbidden),
            },
            BillNote,
        )


class ReportClock(msgspec.Struct, frozen=True):
    """As of when, and by which settings, the reports of money are made.

    Attributes:
        today: The billing day that has begun; None when none was made yet.
        first_open_day: Days before it are closed: their bill is final, as far as is known.
        organization: The one organization that is read; None for the whole enterprise.
        session_products: The products whose ACUs sessions consume.
    """

    today: date | None = None
    first_open_day: date | None = None
    organization: str | None = None
    session_products: tuple[str, ...] = ()


def read_bill_note(uri: str, table: str) -> BillNote:
    """What was noted of a raw table of the lake at `uri`; nothing when the file is damaged."""
    content = _read(uri, table)
    try:
        return BillNote() if content is None else msgspec.json.decode(content, type=BillNote)
    except msgspec.DecodeError:
        # The next read notes it again.
        return BillNote()


def note_bill(uri: str, table: str, asked: frozenset[str], new: BillNote) -> None:
    """Note what reads of a raw table came to.

    Raises:
        NotWritten: The disk is full, read-only or broken.
    """
    before = read_bill_note(uri, table)
    after = before.updated(asked, new)
    if after != before:
        write_file(uri, f"{FOLDER}/{table}.json", msgspec.json.encode(after), "What was refused of the bill")


def read_report_clock(uri: str) -> ReportClock:
    """As of when the reports of money of the lake at `uri` are made."""
    content = _read(uri, _CLOCK)
    try:
        return ReportClock() if content is None else msgspec.json.decode(content, type=ReportClock)
    except msgspec.DecodeError:
        return ReportClock()


def set_report_clock(uri: str, clock: ReportClock) -> None:
    """Have the reports of money made as of now.

    Raises:
        NotWritten: The disk is full, read-only or broken.
    """
    if read_report_clock(uri) != clock:
        write_file(uri, f"{FOLDER}/{_CLOCK}.json", msgspec.json.encode(clock), "As of when the bill is compared")


def _read(uri: str, name: str) -> bytes | None:
    with readable(f"{uri}/{FOLDER}/{name}.json"):
        filesystem, folder = fs.FileSystem.from_uri(uri)
        path = f"{folder}/{FOLDER}/{name}.json"
        if filesystem.get_file_info(path).type != fs.FileType.File:
            return None
        with filesystem.open_input_stream(path) as stream:
            content: bytes = stream.read()
            return content
