"""The views with names: a table, and what the ids in it are called. For people and BI tools; nothing is stored of them.

Which there are, what they read and what their columns mean belongs here. Their SELECT is in the room `lake`.
"""

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa

from devin_pipeline.tables.table import Column

_WHEN = "at the end of the day; before it was first seen, the first one known. Null where the id is unknown."


@dataclass(frozen=True)
class Naming:
    """What an id in a table is called.

    Attributes:
        id_column: The id.
        directory: The table of its names, which has the spans in which it had each.
        key: The id in that table.
        names: Columns of that table, and what they are in a view.
    """

    id_column: str
    directory: str
    key: str
    names: tuple[tuple[str, Column], ...]


def _named(name: str, what: str, id_column: str) -> Column:
    return Column(name, pa.string(), f"{what} of `{id_column}` {_WHEN}")


_ORGANIZATION = Naming("org_id", "organizations", "org_id", (("name", _named("organization_name", "Name", "org_id")),))
_USER = Naming(
    "user_id",
    "users",
    "user_id",
    (("name", _named("user_name", "Name", "user_id")), ("email", _named("user_email", "E-mail", "user_id"))),
)
_SERVICE_USER = Naming(
    "service_user_id", "users", "user_id", (("name", _named("service_user_name", "Name", "service_user_id")),)
)
_PLAYBOOK = Naming(
    "playbook_id", "playbooks", "playbook_id", (("title", _named("playbook_title", "Title", "playbook_id")),)
)
_EVERY_ID = (_ORGANIZATION, _USER, _SERVICE_USER, _PLAYBOOK)


@dataclass(frozen=True)
class NamedView:
    """The rows of a table with names next to its ids.

    Attributes:
        of_table: The table whose rows and columns it has, in their order.
        namings: The ids that it names, in the order of the columns it adds.
        description: What it is, in a sentence.
    """

    of_table: str
    namings: tuple[Naming, ...]
    description: str

    @property
    def name(self) -> str:
        """The one name."""
        return f"{self.of_table}_named"

    @property
    def directory(self) -> tuple[str, ...]:
        """The tables that its names are from."""
        return tuple(dict.fromkeys(naming.directory for naming in self.namings))

    @property
    def names(self) -> tuple[Column, ...]:
        """The columns that it adds, in their order."""
        return tuple(column for naming in self.namings for _, column in naming.names)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tables it reads."""
        return (self.of_table, *self.directory)


NAMED_VIEWS = (
    NamedView("sessions", _EVERY_ID, "Sessions, with the names of organization, user, service user and playbook."),
    NamedView(
        "acu_daily",
        _EVERY_ID,
        "The rows of `acu_daily`, with the same names.",
    ),
    NamedView("acu_consumed_daily", _EVERY_ID, "The rows of `acu_consumed_daily`, with the same names."),
    NamedView(
        "reconciliation_daily",
        (_ORGANIZATION,),
        "The bill next to what sessions consumed, with the names of organizations.",
    ),
)


def named_views_over(tables: Collection[str]) -> list[NamedView]:
    """The views that read none but these tables, given by their names."""
    return [view for view in NAMED_VIEWS if set(view.inputs) <= set(tables)]
