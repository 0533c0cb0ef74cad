"""Shows rows as a table, CSV or JSON; text of the API is data, for terminals and spreadsheets too."""

import csv
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import IO

import click
import msgspec
import pyarrow as pa
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from devin_pipeline.cli.endings import Failed
from devin_pipeline.lake import Answer, Reader

_JSON = msgspec.json.Encoder(decimal_format="number")
# A table is laid out as a whole before its first line is written, a millisecond or more per row.
_MOST_DRAWN = 1_000

Row = Sequence[str | None]


def show(reader: Reader, query: str, shape: str) -> None:
    """Write the rows of a person's query to stdout as `table`, `csv` or `json`, the last two in UTF-8.

    They are written as they are read: of many rows only some are in memory at a time.
    """
    if shape == "json":
        _write(_json_array(reader.answer_as_json(query)))
        return
    answer = reader.answer_as_text(query)
    if shape == "csv":
        _write(_csv_lines(answer))
        return
    drawn = islice(chain.from_iterable(answer.batches), _MOST_DRAWN)
    _draw(answer.names, answer.are_numbers, drawn, sys.stdout)
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
        try:
            click.echo(text.encode(), nl=False)
        except BrokenPipeError:
            raise
        except OSError as error:
            # What is left in its buffer would fail again when the process ends.
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until this process ends
            why = f"it could not be written ({error.strerror})"
            raise Failed("The output is not whole", why, "Free space, then run it again") from None


def draw(rows: pa.Table) -> None:
    """Draw rows of numbers, dates and text on stdout, as a table for people."""
    are_numbers = [pa.types.is_integer(kind) or pa.types.is_decimal(kind) for kind in rows.schema.types]
    columns = (column.cast(pa.string()).to_pylist() for column in rows.columns)
    _draw(rows.column_names, are_numbers, zip(*columns, strict=True), sys.stdout)


def _draw(names: Sequence[str], are_numbers: Sequence[bool], rows: Iterable[Row], to: IO[str]) -> None:
    console = Console(file=to, width=None if to.isatty() else 200)

    def shown(text: str) -> Text:
        # Here, not by the stream: an escape is wider than what it stands for.
        return Text(printable(text).encode(console.encoding, "backslashreplace").decode(console.encoding))

    table = RichTable(box=None, header_style="bold")
    for name, is_number in zip(names, are_numbers, strict=True):
        table.add_column(shown(name), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(shown(text or "") for text in row))
    console.print(table)


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
    return f"'{text}" if _FORMULA.match(text) else text


def printable(text: str) -> str:
    """Text with escapes in place of what a terminal would obey."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
