"""Writes what the documents say about settings, tables and checks from where these are declared.

    uv run python -m devin_pipeline_tests.documents

In a page, the text between two comments is generated and the rest is written by hand; .env.example is generated whole.
This is not part of the product, since an installed pipeline has no documents.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

import dagster as dg
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from devin_pipeline.definitions import pipeline
from devin_pipeline.orchestration.asset_checks import IS_ERROR
from devin_pipeline.settings import Settings
from devin_pipeline.tables import ALL_TABLES, DERIVED_TABLES, RAW_TABLES, REPORT_TABLES, Table
from devin_pipeline.tables.measures import MEASURES, Period
from devin_pipeline.tables.views import NAMED_VIEWS

PROJECT = Path(__file__).parent.parent
_OF_VIEWS = "The rows of a table with the names of its ids as of each day, for people and BI tools."
COMMAND = "uv run python -m devin_pipeline_tests.documents"

_KEYS = ("DEVIN_V3_API_KEY", "DEVIN_V2_API_KEY")
_LAYERS = {
    "Raw tables": ("What the API returned: rows are only ever added.", RAW_TABLES),
    "Derived tables": ("Facts of one day, built from the raw rows of that day.", DERIVED_TABLES),
    "Reports": ("Answers across days, built whole from derived tables.", REPORT_TABLES),
}


def document(path: str) -> str:
    """How a document with generated text should read."""
    return "".join(_example_of_settings()) if path == ".env.example" else _page(path, _GENERATED[path]())


def documented_settings() -> dict[str, FieldInfo]:
    """The settings that a person may set."""
    return {name: field for name, field in Settings.model_fields.items() if kind_of(field) != "internal"}


def kind_of(setting: FieldInfo) -> str:
    """What a setting holds, in a word or two."""
    assert isinstance(setting.json_schema_extra, dict)
    return str(setting.json_schema_extra["kind"])


def _page(path: str, generated: Iterable[str]) -> str:
    begin, end = f"<!-- Generated: `{COMMAND}` rewrites it. -->\n", "<!-- End of what is generated. -->\n"
    before, _, rest = (PROJECT / path).read_text().partition(begin)
    _, found, after = rest.partition(end)
    assert found, f"{path} has no place for generated text"
    return f"{before}{begin}\n{''.join(generated)}\n{end}{after}"


def _rows(*rows: Iterable[str]) -> Iterator[str]:
    """A table of Markdown, its heading first."""
    heading, *others = [list(row) for row in rows]
    for row in (heading, ["---"] * len(heading), *others):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n"


def _settings() -> Iterator[str]:
    yield from _rows(
        ("variable", "type", "default", "meaning"),
        *(
            (
                f"`{name}`",
                kind_of(setting),
                f"`{setting.default}`" if setting.default else "not set",
                setting.description or "",
            )
            for name, setting in documented_settings().items()
        ),
    )


def _example_of_settings() -> Iterator[str]:
    yield "# Copy this file to .env and fill in at least one key. Commands read .env in the folder they start in.\n"
    yield f"# Generated from devin_pipeline/settings.py: `{COMMAND}` rewrites it.\n"
    for name, setting in documented_settings().items():
        yield "\n"
        yield from (f"# {line}\n" for line in textwrap.wrap(setting.description or "", 110))
        yield f"{'' if name in _KEYS else '# '}{name}={setting.default or ''}\n"


def _tables_in_short() -> Iterator[str]:
    yield from _rows(
        ("table", "one row per"),
        *((f"[`{table.name}`](docs/tables.md#{table.name})", one_row_per(table)) for table in ALL_TABLES),
    )


def one_row_per(table: Table) -> str:
    """The grain of a table, where its heading says the rest."""
    return table.grain.removeprefix("One row per ").removesuffix(".")


def _tables() -> Iterator[str]:
    for layer, (meaning, tables) in _LAYERS.items():
        yield f"- [{layer}](#{re.sub(' ', '-', layer.lower())}): {meaning}\n"
        yield from (f"  - [`{table.name}`](#{table.name})\n" for table in tables)
    yield f"- [Views with names](#views-with-names): {_OF_VIEWS}\n"
    for layer, (meaning, tables) in _LAYERS.items():
        yield f"\n## {layer}\n\n{meaning}\n"
        for table in tables:
            yield from _table(table)
    yield f"\n## Views with names\n\n{_OF_VIEWS}\n\n"
    yield from _rows(
        ("view", "what it is", "columns besides those of the table"),
        *(
            (f"`{view.name}`", view.description, ", ".join(f"`{column.name}`" for column in view.names))
            for view in NAMED_VIEWS
        ),
    )
    yield "\n"
    columns = {column.name: column for view in NAMED_VIEWS for column in view.names}
    yield from _rows(
        ("column", "type", "meaning"),
        *((f"`{column.name}`", column.sql_type, column.description) for column in columns.values()),
    )


def _table(table: Table) -> Iterator[str]:
    stored = f"stored by `{table.partitioned_by}`" if table.partitioned_by else "stored in one part"
    key = ", ".join(f"`{name}`" for name in table.key)
    yield f"\n### `{table.name}`\n\n{table.grain}\n\nLayer `{table.layer}`; {stored}; key: {key}.\n\n"
    yield from _rows(
        ("column", "type", "null", "meaning"),
        *(
            (f"`{column.name}`", column.sql_type, "yes" if column.nullable else "no", column.description)
            for column in table.columns
        ),
    )


def _measures() -> Iterator[str]:
    yield from _rows(
        ("measure", "unit", "meaning"),
        *((f"[`{measure.name}`](#{measure.name})", measure.unit, measure.definition) for measure in MEASURES.values()),
    )
    period = Period(date(2026, 11, 1), date(2026, 11, 28))
    for measure in MEASURES.values():
        over = [f"`{name}`" for name in measure.additive_over]
        yield f"\n## `{measure.name}`\n\n{measure.title} ({measure.unit}). {measure.definition} {measure.when_null}\n\n"
        yield f"- By: time, {', '.join(f'`{name}`' for name in measure.dimensions)}\n"
        yield f"- Adds up over: {', '.join(over) if over else 'nothing'}\n\n"
        yield f"```sql\n{measure.query(period)};\n```\n"


def definitions() -> dg.Definitions:
    """The pipeline as Dagster loads it when all feeds are read."""
    keys = {"DEVIN_V2_API_KEY": "apk_user_" + "a1" * 20, "DEVIN_V3_API_KEY": "cog_" + "a1" * 20}
    return pipeline(Settings(**{name: SecretStr(key) for name, key in keys.items()}))  # type: ignore[arg-type]


def _checks() -> Iterator[str]:
    of_tables: dict[str, list[str]] = {}
    specs: dict[str, dg.AssetCheckSpec] = {}
    for each in definitions().asset_checks or ():
        for spec in each.check_specs:
            specs[spec.name] = spec
            of_tables.setdefault(spec.name, []).append(f"`{spec.asset_key.to_user_string()}`")
    yield from _rows(
        ("check", "of", "if it fails", "true when green"),
        *(
            (
                f"`{name}`",
                ", ".join(of_tables[name]),
                "stops" if spec.blocking else "is an error" if spec.metadata[IS_ERROR] else "warns",
                spec.description or "",
            )
            for name, spec in specs.items()
        ),
    )


_GENERATED = {
    "README.md": _tables_in_short,
    "docs/configuration.md": _settings,
    "docs/measures.md": _measures,
    "docs/operations.md": _checks,
    "docs/tables.md": _tables,
}
DOCUMENTS = (*_GENERATED, ".env.example")


if __name__ == "__main__":
    for path in DOCUMENTS:
        (PROJECT / path).write_text(document(path))
