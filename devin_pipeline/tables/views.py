"""The views with names: a table, and what the ids in it are called. For people and BI tools; nothing is stored of them.

Which there are, what they read and what their columns mean belongs here. Their SELECTs are in the room `lake`.
"""

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa

from devin_pipeline.tables.table import Column

_WHEN = "at the end of the day; before it was first seen, the first one known. Null where the id is unknown."

ORGANIZATION_NAME = Column("organization_name", pa.string(), f"Name of `org_id` {_WHEN}")
USER_NAME = Column("user_name", pa.string(), f"Name of `user_id` {_WHEN}")
USER_EMAIL = Column("user_email", pa.string(), f"E-mail of `user_id` {_WHEN}")
SERVICE_USER_NAME = Column("service_user_name", pa.string(), f"Name of `service_user_id` {_WHEN}")
PLAYBOOK_TITLE = Column("playbook_title", pa.string(), f"Title of `playbook_id` {_WHEN}")

_EVERY_NAME = (ORGANIZATION_NAME, USER_NAME, USER_EMAIL, SERVICE_USER_NAME, PLAYBOOK_TITLE)
_DIRECTORY = ("organizations", "users", "playbooks")


@dataclass(frozen=True)
class NamedView:
    """The rows of a table with names next to its ids. Its name is its `.sql` file.

    Attributes:
        name: The one name.
        of_table: The table whose rows and columns it has, in their order.
        directory: The tables that its names are from.
        names: The columns that it adds, in their order.
        description: What it is, in a sentence.
    """

    name: str
    of_table: str
    directory: tuple[str, ...]
    names: tuple[Column, ...]
    description: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tables it reads."""
        return (self.of_table, *self.directory)


def _with_every_name(table: str, description: str) -> NamedView:
    return NamedView(f"{table}_named", table, _DIRECTORY, _EVERY_NAME, description)


NAMED_VIEWS = (
    _with_every_name("sessions", "Sessions, with the names of organization, user, service user and playbook."),
    _with_every_name("acu_daily", "The ACUs of `acu_daily`, with the names of whom they belong to."),
    _with_every_name("acu_consumed_daily", "The ACUs of `acu_consumed_daily`, with the names of who consumed them."),
    NamedView(
        "reconciliation_daily_named",
        "reconciliation_daily",
        ("organizations",),
        (ORGANIZATION_NAME,),
        "The bill beside what sessions consumed, with the names of organizations.",
    ),
)


def named_views_over(tables: Collection[str]) -> list[NamedView]:
    """The views that read none but these tables, given by their names."""
    return [view for view in NAMED_VIEWS if set(view.inputs) <= set(tables)]
