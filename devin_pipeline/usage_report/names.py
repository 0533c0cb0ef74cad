"""What the ids of organizations, people and playbooks are called. An id without a name of its own stands for itself."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from devin_pipeline.lake import Connection
from devin_pipeline.usage_report.text import MOST_CHARACTERS_OF_A_LABEL, NONE, label

# By table: its id, what that is called, and what distinguishes two of one name.
_COLUMNS = {
    "organizations": ("org_id", "name", "org_id"),
    "users": ("user_id", "name", "case when trim(email, 'x') <> '' then email else user_id end"),
    "playbooks": ("playbook_id", "title", "playbook_id"),
}
_TABLES = {"org_id": "organizations", "user_id": "users", "service_user_id": "users", "playbook_id": "playbooks"}
# What a page says of rows without an id, or of several.
_TAKEN = {NONE, "others"}


@dataclass(frozen=True)
class Names:
    """Names of ids, by the table that they are from.

    Attributes:
        by_table: For a page: no two ids of a table have the same one.
    """

    by_table: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def has(self, dimension: str, value: object) -> bool:
        """Whether a value of a dimension is an id that has a name."""
        return str(value) in self.by_table.get(_TABLES.get(dimension, ""), {})

    def shown(self, dimension: str, value: object) -> str:
        """A value of a dimension for a page: its name, else itself."""
        return self.by_table[_TABLES[dimension]][str(value)] if self.has(dimension, value) else label(value)

    def without_users(self) -> "Names":
        """The others: no name of a person or service user."""
        return Names({table: names for table, names in self.by_table.items() if table != "users"})


def read_names(connection: Connection, tables: Collection[str], at: datetime) -> Names:
    """The names that held at an instant, else those known last.

    Args:
        connection: Holds the tables.
        tables: Which of `organizations`, `users` and `playbooks` can be read.
        at: The instant, the end of a period.
    """
    return Names({table: _distinct(_rows(connection, table, at)) for table in _COLUMNS if table in tables})


def _rows(connection: Connection, table: str, at: datetime) -> list[tuple[str, str, str]]:
    """Each id that has a name, the name, and what distinguishes it from others of that name."""
    id_, name, apart = _COLUMNS[table]
    rows = connection.rows(
        f"""
        select
            {id_} as id,
            {name} as name,
            {apart} as apart
        from {table}
        qualify row_number() over (partition by {id_} order by valid_from < $at desc, valid_from desc) = 1
        """,  # noqa: S608 - our own names
        {"at": at},
    ).to_pylist()
    # Of a text that was not stored, or was erased, an x is left for each character.
    return [(row["id"], label(row["name"]), label(row["apart"])) for row in rows if set(row["name"] or "") - {"x", " "}]


def _distinct(rows: Collection[tuple[str, str, str]]) -> dict[str, str]:
    """Names with what distinguishes them where several have the same; the id alone where that does not help."""
    number = Counter(name for _, name, _ in rows)
    ids = {label(id_) for id_, _, _ in rows}
    wanted = {}
    for id_, name, apart in rows:
        is_clear = number[name] == 1 and name not in ids | _TAKEN
        wanted[id_] = name if is_clear else f"{name} ({apart})"
    numbers = Counter(wanted.values())
    return {
        id_: name
        for id_, name in wanted.items()
        if numbers[name] == 1 and len(name) <= MOST_CHARACTERS_OF_A_LABEL and name.strip()
    }
