"""How a value of each DuckDB type is written: one form to read, one in JSON.

Both are SQL over the value, so that DuckDB writes them: Python and Arrow lack infinite dates, years beyond 9999,
integers of 39 digits and more. What becomes of the texts, a table, CSV or JSON, is the caller's.
"""

import json
from collections.abc import Callable

from duckdb.sqltypes import DuckDBPyType

_INTEGERS = {
    *("tinyint", "smallint", "integer", "bigint", "hugeint"),
    *("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint", "bignum"),
}
_FLOATS = {"float", "double"}
_NUMBERS = {*_INTEGERS, *_FLOATS, "decimal"}
_INSTANTS = {
    *("timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"),
    *("timestamp with time zone", "timestamptz_ns"),
}
_TIMES = {*_INSTANTS, "date", "time", "time_ns", "time with time zone", "interval"}
_NESTED = {"list", "array", "struct", "tuple", "map"}

# Years that ISO 8601 does not write without agreement (before Christ) and infinities stay in DuckDB's words.
_DATE_AND_TIME = r"'^(\d+-\d\d-\d\d) (\d\d:[0-9:.]+)'"
_HOUR_OF_TWO_DIGITS = r"'(^| |-)0(\d:)'"
_STRING_IN_JSON = r"""'"(\\.|[^"\\])*"'"""
# What DuckDB takes for JSON and nobody else does: NaN, infinities, a comma before the end.
_NOT_JSON = r"'(?i)nan|inf|,\s*[\]}]'"


def quoted(text: str) -> str:
    """`text` as a SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def is_number(kind: DuckDBPyType) -> bool:
    """True for a type whose values are numbers."""
    return kind.id in _NUMBERS


def is_text(kind: DuckDBPyType) -> bool:
    """True for a type whose values may read as any text."""
    return kind.id not in _NUMBERS | _TIMES | _NESTED | {"boolean", "null"}


def readable(kind: DuckDBPyType, value: str) -> str:
    """SQL for the form to read: DuckDB's own text, but instants in ISO 8601 and nested values in JSON."""
    text = f"({value})::varchar"
    if kind.id in _FLOATS:
        named = "when 'nan' then 'NaN' when '-nan' then 'NaN' when 'inf' then 'Infinity' when '-inf' then '-Infinity'"
        return f"case {text} {named} else {text} end"
    if kind.id == "interval":
        return rf"regexp_replace({text}, {_HOUR_OF_TWO_DIGITS}, '\1\2')"
    if kind.id in _INSTANTS:
        iso = rf"regexp_replace({text}, {_DATE_AND_TIME}, '\1T\2')"
        return f"regexp_replace({iso}, '\\+00$', 'Z')" if "tz" in kind.id or "zone" in kind.id else iso
    if kind.id == "union":
        return _of_union(kind, value, readable)
    return in_json(kind, value) if kind.id in _NESTED else text


def in_json(kind: DuckDBPyType, value: str, depth: int = 0) -> str:
    """SQL for the JSON text: numbers as numbers with all their digits, null for null, text for what JSON lacks.

    Args:
        kind: The value's type.
        value: SQL of the value.
        depth: How many lists and maps `value` is an item of.
    """
    item = f"item_{depth}"

    def inner(kind: DuckDBPyType, value: str) -> str:
        return f"coalesce({in_json(kind, value, depth + 1)}, 'null')"

    def listed(items: str, of_each: str) -> str:
        return f"array_to_string(list_transform({items}, lambda {item}: {of_each}), ',')"

    if kind.id not in _NESTED:
        return _scalar_in_json(kind, value)
    parts = _parts(kind)
    if kind.id in ("list", "array"):
        text = f"'[' || {listed(value, inner(parts[0][1], item))} || ']'"
    elif kind.id == "struct":
        members = (
            f"{quoted(json.dumps(name, ensure_ascii=False) + ':')} || "
            + inner(part, f"struct_extract({value}, {quoted(name)})")
            for name, part in parts
        )
        text = "'{' || " + " || ',' || ".join(members) + " || '}'"
    elif kind.id == "tuple":
        members = (
            inner(part, f"struct_extract_at({value}, {place})") for place, (_, part) in enumerate(parts, start=1)
        )
        text = "'[' || " + " || ',' || ".join(members) + " || ']'"
    else:
        (_, key), (_, held) = parts
        pair = f"to_json({readable(key, f'{item}.key')})::varchar || ':' || {inner(held, f'{item}.value')}"
        text = "'{' || " + listed(f"map_entries({value})", pair) + " || '}'"
    return f"case when {value} is not null then {text} end"


def _scalar_in_json(kind: DuckDBPyType, value: str) -> str:
    text = readable(kind, value)
    if kind.id == "union":
        return _of_union(kind, value, in_json)
    # guard: NaN in JSON
    if kind.id in _FLOATS:
        return f"case when isfinite({value}) then {text} else to_json({text})::varchar end"
    if kind.id in _NUMBERS | {"boolean", "null"}:
        return text
    if str(kind) == "JSON" or kind.id == "variant":
        as_json = f"to_json({value})::varchar" if kind.id == "variant" else text
        bare = f"""regexp_replace({as_json}, {_STRING_IN_JSON}, '""', 'g')"""
        return f"case when regexp_matches({bare}, {_NOT_JSON}) then to_json({text})::varchar else {as_json} end"
    return f"to_json({text})::varchar"


def _of_union(kind: DuckDBPyType, value: str, form: Callable[[DuckDBPyType, str], str]) -> str:
    """SQL for the form of the member that a union holds; the first child is its tag."""
    members = (
        f"when {quoted(name)} then {form(part, f'union_extract({value}, {quoted(name)})')}"
        for name, part in _parts(kind)[1:]
    )
    return f"case union_tag({value})::varchar " + " ".join(members) + " end"


def _parts(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    """The types inside a list, array, struct, tuple, map or union, with their names."""
    return [(name, part) for name, part in kind.children if isinstance(part, DuckDBPyType)]
