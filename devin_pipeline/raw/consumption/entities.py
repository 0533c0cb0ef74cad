"""Whom to ask for a bill: the enterprise, its organizations, and its people, as lists, sessions and bills know them."""

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

from devin_pipeline.devin_api import DevinClient, DirectoryKind, Scope
from devin_pipeline.lake import Lake
from devin_pipeline.tables import RAW_CONSUMPTION, RAW_DIRECTORY, SESSIONS

_ENTITIES = (Path(__file__).parent / "entities.sql").read_text()
_LISTS_OF_PEOPLE: Mapping[Scope, tuple[DirectoryKind, ...]] = {
    "user": ("users", "idp_users"),
    "service_user": ("service_users",),
}

ENTERPRISE = "(enterprise)"
"""The `scope_id` of the enterprise's own bill."""


class Entity(NamedTuple):
    """One that is billed: under which id it is asked for, and under which it is stored."""

    asked_as: str
    stored_as: str


def entities(
    lake: Lake, client: DevinClient, since: date, *, everybody: bool, organization: str | None
) -> dict[Scope, list[Entity]]:
    """Whom to ask for a bill, by what they are.

    Args:
        lake: The lake.
        client: Is asked who persons that were erased are now, if there are any.
        since: People are asked for who had a session, or something on their bill, since then.
        everybody: True to ask for all people.
        organization: The one organization that is read; None for the whole enterprise.

    Raises:
        DevinError: Who they are now cannot be read.
    """
    with lake.connect([SESSIONS, RAW_DIRECTORY, RAW_CONSUMPTION]) as connection:
        known = connection.rows(_ENTITIES, {"since": since}).to_pylist()
    erased = lake.erasure_list()
    asked: dict[Scope, list[Entity]] = {"enterprise": [], "organization": [], "user": [], "service_user": []}
    pseudonyms: dict[Scope, set[str]] = {"user": set(), "service_user": set()}
    if organization is None:
        asked["enterprise"].append(Entity("", ENTERPRISE))
        asked["organization"] = [_same(row["scope_id"]) for row in known if row["scope"] == "organization"]
    else:
        asked["organization"].append(_same(organization))
    for scope, of_scope in pseudonyms.items():
        for row in known:
            # guard: a person without use, asked for by each run | everybody or row["is_active"] -> True
            if row["scope"] == scope and (everybody or row["is_active"]):
                # guard: a pseudonym sent to the API | erased.alias("user", row["scope_id"]) -> None
                if erased.alias("user", row["scope_id"]) is None:
                    asked[scope].append(_same(row["scope_id"]))
                else:
                    of_scope.add(row["scope_id"])
        if of_scope:
            ids = _listed(client, _LISTS_OF_PEOPLE[scope])
            stored = {each: erased.pseudonym("user", each) for each in ids}
            asked[scope] += [Entity(each, name) for each, name in sorted(stored.items()) if name and name in of_scope]
    return asked


def _listed(client: DevinClient, kinds: Iterable[DirectoryKind]) -> set[str]:
    return {entry.object_id for kind in kinds for entry in client.directory(kind).entries}


def _same(scope_id: str) -> Entity:
    return Entity(scope_id, scope_id)
