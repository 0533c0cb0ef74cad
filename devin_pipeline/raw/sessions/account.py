"""Whether what a key reads is of the enterprise whose sessions the lake holds. Nothing is written before that is clear.

The API does not say whose a key is, so the organizations of a read are compared with those of the lake. Another key of
the same enterprise sees the same ones.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date

from devin_pipeline.devin_api import SessionBatch
from devin_pipeline.errors import Problem
from devin_pipeline.lake import Damaged, Lake
from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import SESSIONS, Table

# Of so many sessions that were listed before, this share may be missing next to sessions of new organizations.
_LEAST_SESSIONS = 20
_LARGEST_SHARE_MISSING = 0.9
# So many listings with new organizations only are held in memory until one shows a known organization.
_MOST_DOUBTFUL = 3

_LISTED = """
    select session_id
    from versions
    qualify row_number() over (partition by day, session_id order by fetched_at desc) = 1 and is_listed
"""
_READABLE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_SHOWN = 5


class AnotherAccount(Problem):
    """What was read is of other organizations than what is stored."""

    def __init__(self, why: str, new: Collection[str], known: Collection[str]) -> None:
        super().__init__(
            "This key reads another enterprise than the one whose sessions are stored",
            f"{why}. Read: {named(new)}. Stored: {named(known)}. None of it was stored",
            "Set the key of the enterprise whose lake this is, or another DEVIN_LAKE; if these organizations belong to "
            f"it, read these days with `{pipeline_command('backfill --from … --to … --accept-new-organizations')}`",
        )


@dataclass
class AccountCheck:
    """Compares one read of a feed, a listing after the other, with what the lake holds.

    Attributes:
        lake: The lake.
        table: The raw table of the feed.
        accepts_new: True when somebody said that new organizations are welcome.
    """

    lake: Lake
    table: Table
    accepts_new: bool
    _new: set[str] = field(default_factory=set)
    _found_known: bool = False
    _doubtful: int = 0

    def is_of_lake(self, listing: SessionBatch) -> bool:
        """Whether this listing, or one before it, shows that the read is of the lake's enterprise.

        Until one does, nothing may be stored: sessions of the lake would be missing from what another enterprise lists.

        Raises:
            AnotherAccount: Several listings in a row hold new organizations only.
        """
        known = self._known()
        if self.accepts_new or not known or self._found_known:
            return True
        found = _organizations(listing)
        self._found_known = not found.isdisjoint(known)
        self._new |= found - known
        self._doubtful += bool(found)
        if self._doubtful >= _MOST_DOUBTFUL:
            self.require_of_lake()
        return self._found_known

    def require_of_lake(self) -> None:
        """Refuse a read that held new organizations and none that the lake knows.

        Raises:
            AnotherAccount: It is one.
        """
        # guard: an enterprise of which no organization is known
        if self._new and not self._found_known:
            raise AnotherAccount("none of its organizations is known", self._new, self._known())

    def check(self, listing: SessionBatch, days: Sequence[date]) -> None:
        """Refuse a listing in which nearly all sessions of the lake are missing; note the organizations of any other.

        Args:
            listing: What was read.
            days: Its days that were read whole.

        Raises:
            AnotherAccount: Of the sessions listed before, nearly all are missing next to new organizations.
        """
        noted, known = self.lake.organizations(), self._known()
        new = _organizations(listing) - known
        if new and known and not self.accepts_new:
            listed = self._listed(days)
            missing = len(listed - {item.session_id for item in listing.items})
            # guard: an enterprise that shares an organization with ours
            #   | missing >= _LARGEST_SHARE_MISSING * len(listed) -> False
            if len(listed) >= _LEAST_SESSIONS and missing >= _LARGEST_SHARE_MISSING * len(listed):
                raise AnotherAccount(f"{missing} of {len(listed)} sessions listed before are missing", new, known)
        if new or (noted is None and known):
            self.lake.note_organizations(known | new)

    def _known(self) -> frozenset[str]:
        noted = self.lake.organizations()
        return self._stored() if noted is None else noted

    def _stored(self) -> frozenset[str]:
        """The organizations of a lake of before they were noted."""
        try:
            with self.lake.connect([SESSIONS]) as connection:
                ids = connection.rows("select distinct org_id from sessions where org_id is not null").column("org_id")
        except Damaged:
            return frozenset()
        return frozenset(ids.to_pylist())

    def _listed(self, days: Sequence[date]) -> set[str]:
        try:
            with self.lake.connect([self.table], days=days) as connection:
                connection.create_view("versions", f'from "{self.table.name}"')
                return set(connection.rows(_LISTED).column("session_id").to_pylist())
        except Damaged:
            # Nothing is written over days that are damaged; the others are judged by their organizations.
            return set()


def _organizations(listing: SessionBatch) -> set[str]:
    return {item.org_id for item in listing.items if item.org_id is not None}


def named(organizations: Collection[str]) -> str:
    """Some organizations for a person, the first few of them; an id that is not plain is not shown."""
    shown = [name if _READABLE_ID.fullmatch(name) else "(unprintable)" for name in sorted(organizations)[:_SHOWN]]
    more = len(organizations) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
