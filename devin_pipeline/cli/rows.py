"""Shows rows as a table, CSV or JSON; text of the API is data, for terminals and spreadsheets too."""

import csv
import io
import json
import re
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import IO

import click
import msgspec
import pyarrow as pa
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

_NUMBERS = (pa.types.is_integer, pa.types.is_decimal, pa.types.is_floating)
_JSON = msgspec.json.Encoder(decimal_format="number")
# A table is laid out as a whole before its first line is written, a millisecond or more per row.
_MOST_DRAWN = 1_000


def show(rows: pa.Table, shape: str) -> None:
    """Write rows to stdout as `table`, `csv` or `json`."""
    if shape == "json":
        click.echo(as_json_text(rows.to_pylist()))
    elif shape == "csv":
        sys.stdout.write(_csv_line(rows.column_names))
        sys.stdout.writelines(_csv_line(row.values()) for row in rows.to_pylist())
    else:
        draw(rows.slice(0, _MOST_DRAWN), sys.stdout)
        if rows.num_rows > _MOST_DRAWN:
            click.echo(f"{_MOST_DRAWN} of {rows.num_rows} rows; --format csv or json gives all.", err=True)


def draw(rows: pa.Table, to: IO[str]) -> None:
    """Draw rows as a table for people."""
    console = Console(file=to, width=None if to.isatty() else 200)
    table = RichTable(box=None, header_style="bold")
    for field in rows.schema:
        is_number = (
            pa.types.is_integer(field.type) or pa.types.is_decimal(field.type) or pa.types.is_floating(field.type)
        )
        table.add_column(field.name, justify="right" if is_number else "left", overflow="fold")
    for row in rows.to_pylist():
        table.add_row(*(Text(printable(_plain(value))) for value in row.values()))
    console.print(table)


def as_json_text(value: object) -> str:
    """JSON with decimals as numbers with all their digits, dates and instants in ISO form."""
    return _JSON.encode(value).decode()


def _plain(value: object) -> str:
    """One value as text: nothing for null, JSON for lists and structs."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, list | dict):
        return as_json_text(value)
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _csv_line(values: Iterable[object]) -> str:
    line = io.StringIO(newline="")
    # Ending its lines with CR LF, the writer also quotes text with a lone CR, which would start a row of its own.
    csv.writer(line).writerow(map(_harmless, values))
    return line.getvalue().removesuffix("\r\n") + "\n"


# A spreadsheet runs what starts with one of these (OWASP, "CSV Injection"), also behind what it strips or hides.
_FORMULA = re.compile(r"""[\s"'\x00-\x1f\u200b-\u200f\u2060\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]""")


def _harmless(value: object) -> str:
    """One value as text that no spreadsheet runs as a formula; numbers stay numbers."""
    text = _plain(value)
    return f"'{text}" if isinstance(value, str | bytes) and _FORMULA.match(text) else text


def printable(text: str) -> str:
    """Text with escapes in place of what a terminal would obey."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
