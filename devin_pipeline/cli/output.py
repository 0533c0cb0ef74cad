"""Shows rows as a table, CSV or JSON; text of the API is data, for terminals and spreadsheets too."""

import csv
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

import click
import msgspec
import pyarrow as pa
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from devin_pipeline.cli.errors import Failed, truncated
from devin_pipeline.lake import Answer, Connection

_JSON = msgspec.json.Encoder(decimal_format="number")
# A table is laid out as a whole before its first line is written, a millisecond or more per row.
_MOST_DRAWN = 1_000
# All columns are drawn elsewhere than on a terminal, and this wide if that is enough.
_WIDTH_OF_NO_TERMINAL = 200
_LEAST_WIDTH_OF_WORDS = 24
_LEAST_WIDTH_OF_AN_ID = 36
_LEAST_WIDTH_OF_HALF_AN_ID = 20
_BETWEEN_COLUMNS = 2
_WORDS = re.compile(r"[ ,]")

Row = Sequence[str | None]


def show(connection: Connection, query: str, shape: str) -> None:
    """Write the rows of a person's query to stdout as `table`, `csv` or `json`, the last two in UTF-8.

    They are written as they are read: of many rows only some are in memory at a time.
    """
    if shape == "json":
        _write(_json_array(connection.query_as_json(query)))
        return
    answer = connection.query_as_text(query)
    if shape == "csv":
        _write(_csv_lines(answer))
        return
    drawn = islice(chain.from_iterable(answer.batches), _MOST_DRAWN)
    left_out = _draw(answer.names, answer.are_numbers, list(drawn), null="NULL", elides=True)
    if left_out:
        shown = len(answer.names) - left_out
        click.echo(f"{shown} of {len(answer.names)} columns; a wider terminal or --format csv shows all.", err=True)
    if answer.rows > _MOST_DRAWN:
        click.echo(f"{_MOST_DRAWN} of {answer.rows} rows; --format csv or json gives all.", err=True)


def _json_array(some_objects: Iterable[list[str]]) -> Iterator[str]:
    yield "["
    for number, objects in enumerate(some_objects):
        yield ("," if number else "") + ",".join(objects)
    yield "]\n"


def _csv_lines(answer: Answer) -> Iterator[str]:
    yield _csv_line(map(_harmless, answer.names))
    for rows in answer.batches:
        yield "".join(_csv_line(_csv_row(row, answer.are_texts)) for row in rows)


def _write(texts: Iterable[str]) -> None:
    """Write text for programs to stdout: in UTF-8, whatever encoding the environment gives to people's."""
    for text in texts:
        with _output_kept():
            click.echo(text.encode(), nl=False)


@contextmanager
def _output_kept() -> Iterator[None]:
    """Raise `Failed` if stdout does not accept what is written inside.

    A large text is written at once, so that the error comes here and not when the process ends.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in its buffer would fail again when the process ends.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until this process ends
        raise Failed(*truncated(error)) from None


def draw(rows: pa.Table) -> None:
    """Draw rows of numbers, dates and text on stdout, as a table for people."""
    are_numbers = [pa.types.is_integer(kind) or pa.types.is_decimal(kind) for kind in rows.schema.types]
    columns = (column.cast(pa.string()).to_pylist() for column in rows.columns)
    _draw(rows.column_names, are_numbers, list(zip(*columns, strict=True)))


def _draw(
    names: Sequence[str],
    are_numbers: Sequence[bool],
    rows: Sequence[Row],
    *,
    null: str = "",
    elides: bool = False,
) -> int:
    """Draw a table on stdout, as wide as its terminal; give how many columns in its middle were left out to fit.

    Args:
        names: The columns' names.
        are_numbers: Which of them hold numbers.
        rows: The rows.
        null: What stands for null.
        elides: Whether columns may be left out.
    """
    is_terminal = sys.stdout.isatty()
    console = Console(width=None if is_terminal else _WIDTH_OF_NO_TERMINAL)

    def shown(text: str) -> Text:
        # Here, not by the stream: an escape is wider than what it stands for.
        return Text(printable(text).encode(console.encoding, "backslashreplace").decode(console.encoding))

    headings = [shown(name) for name in names]
    nothing = Text(null, style="dim italic")
    # guard: null in a table | row[n] is None -> False
    columns = [[nothing if row[n] is None else shown(row[n] or "") for row in rows] for n in range(len(names))]
    widest = [max((text.cell_len for text in column), default=0) for column in columns]
    least = [_least_width(column, widest[n]) for n, column in enumerate(columns)]
    first, last = len(names), 0
    if not is_terminal:
        console.width = max(console.width, _width_of(headings, least))
    elif elides and _width_of(headings, least) > console.width:
        headings = [Text(_in_two_lines(each.plain, width)) for each, width in zip(headings, least, strict=True)]
        folded = [min(width, _LEAST_WIDTH_OF_HALF_AN_ID) for width in least]
        if _width_of(headings, folded) <= console.width:
            # Rather an id in two lines than a column left out.
            least = folded
        else:
            first, last = _columns_at_the_ends(headings, least, console.width)
    left_out = len(names) - first - last
    table = RichTable(box=None, header_style="bold")
    for n, (heading, is_number) in enumerate(zip(headings, are_numbers, strict=True)):
        if n < first or n >= len(names) - last:
            is_fixed = elides and widest[n] <= max(least[n], _width(heading))
            table.add_column(heading, justify="right" if is_number else "left", overflow="fold", no_wrap=is_fixed)
        elif n == first:
            table.add_column(_elided(left_out), style="dim", no_wrap=True)
    middle = ["…"] if left_out else []
    for row in zip(*columns, strict=True):
        table.add_row(*row[:first], *middle, *row[len(row) - last :])
    with _output_kept():
        console.print(table)
    return left_out


def _least_width(column: Sequence[Text], widest: int) -> int:
    """The width to which a column may be folded: none of numbers, dates and ids."""
    has_words = any(_WORDS.search(text.plain) for text in column)
    return min(widest, _LEAST_WIDTH_OF_WORDS if has_words else _LEAST_WIDTH_OF_AN_ID)


def _width(heading: Text) -> int:
    return max(map(cell_len, heading.plain.split("\n")))


def _width_of(headings: Sequence[Text], least: Sequence[int]) -> int:
    """The width of columns with the space between them."""
    return sum(max(_width(heading), width) + _BETWEEN_COLUMNS for heading, width in zip(headings, least, strict=True))


def _in_two_lines(name: str, width: int) -> str:
    """A column's name, broken behind the `_` that gives the shortest lines if it is wider than the column."""
    ends = [place.end() for place in re.finditer("_+(?=[^_])", name)]
    end = min(ends, key=lambda end: max(end, len(name) - end), default=None)
    return name if end is None or cell_len(name) <= width else f"{name[:end]}\n{name[end:]}"


def _elided(columns: int) -> str:
    return f"… {columns} more …"


def _columns_at_the_ends(headings: Sequence[Text], least: Sequence[int], width: int) -> tuple[int, int]:
    """How many columns fit at the left and how many at the right, taken in turn; one at least."""
    widths = [_width_of([heading], [of_column]) for heading, of_column in zip(headings, least, strict=True)]
    first, last = 1, 0
    room = width - widths[0] - len(_elided(len(widths))) - _BETWEEN_COLUMNS
    while first + last < len(widths):
        next_ones = [(widths[first], True), (widths[-1 - last], False)]
        fitting = [each for each in sorted(next_ones, key=lambda each: each[1] == (first > last)) if each[0] <= room]
        if not fitting:
            break
        of_column, is_left = fitting[0]
        first, last, room = first + is_left, last + (not is_left), room - of_column
    return first, last


def json_bytes(value: object) -> bytes:
    """JSON with decimals as numbers with all their digits, dates and instants in ISO form."""
    return _JSON.encode(value)


def _csv_line(values: Iterable[str | None]) -> str:
    line = io.StringIO(newline="")
    # Ending its lines with CR LF, the writer also quotes text with a lone CR, which would start a row of its own.
    csv.writer(line).writerow(values)
    return line.getvalue().removesuffix("\r\n") + "\n"


def _csv_row(row: Row, are_texts: Sequence[bool]) -> Iterator[str | None]:
    for text, is_text in zip(row, are_texts, strict=True):
        yield _harmless(text) if is_text and text else text


# A spreadsheet runs what starts with one of these (OWASP, "CSV Injection"), also behind what it strips or hides.
_FORMULA = re.compile(r"""[\s"'\x00-\x1f\u200b-\u200f\u2060\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]""")


def _harmless(text: str) -> str:
    """Text that no spreadsheet runs as a formula."""
    # guard: a formula in a CSV | _FORMULA.match(text) -> False
    return f"'{text}" if _FORMULA.match(text) else text


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 day`, `2 days`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def printable(text: str) -> str:
    """Text with escapes in place of what a terminal would obey."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
