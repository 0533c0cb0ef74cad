"""The made-up enterprise behind the emulator: its sessions, who may see them, and how they change.

Selecting, ordering and evolving sessions belongs here. HTTP, keys and the wording of errors do not.
"""

from __future__ import annotations

import bisect
import dataclasses
import random
import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from devin_pipeline.emulator import synthesis
from devin_pipeline.emulator.bill import Bill
from devin_pipeline.emulator.directory import Directory
from devin_pipeline.emulator.sessions import (
    Feed,
    Organization,
    PullRequest,
    Session,
    microseconds_since_epoch,
    v2_insights_item,
    v2_item,
    v3_insights_item,
    v3_item,
)

__all__ = ["Enterprise", "Key", "Page", "Query", "v2_insights_item", "v2_item", "v3_insights_item", "v3_item"]

Key = tuple[int, str]
"""Where an item stands in the listing: microseconds of its creation, then its id."""

_REMEMBERED_SELECTIONS = 256
_LIVE = ("new", "claimed", "running", "resuming")


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """What a listing was asked for. Bounds are microseconds, `from` inclusive, `until` exclusive; None means any."""

    feed: Feed
    created_from: int | None = None
    created_until: int | None = None
    updated_from: int | None = None
    updated_until: int | None = None
    session_ids: frozenset[str] | None = None
    org_ids: frozenset[str] | None = None
    user_ids: frozenset[str] | None = None
    service_user_ids: frozenset[str] | None = None
    tags: frozenset[str] | None = None
    origins: frozenset[str] | None = None
    repo_names: frozenset[str] | None = None
    category: str | None = None
    playbook_id: str | None = None
    schedule_id: str | None = None
    include_deleted_orgs: bool = False

    def asks_for_a_window_only(self) -> bool:
        """Tell whether nothing but the creation window and deleted organizations narrows the listing."""
        window = dataclasses.replace(self, created_from=None, created_until=None, include_deleted_orgs=False)
        return window == Query(self.feed)


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing, newest first: the items' JSON texts and where the last of them stands."""

    texts: list[bytes]
    total: int
    has_more: bool
    last_key: Key | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    key: Key
    session: Session | None
    verbatim: bytes = b""

    def json(self, feed: Feed) -> bytes:
        return self.verbatim if self.session is None else self.session.json(feed)


class Enterprise:
    """Sessions and organizations, served by the emulator and edited by the code that holds it.

    Requests are answered from another thread. Each method and each assignment to a session's attribute takes `lock`
    itself; hold it around several edits that belong together.

    Args:
        organizations: All organizations, deleted ones included; those of the cast when left out.
        sessions: All sessions, in any order.
        seed: What names the keys and the choices of the evolving methods.
        cast: Who may appear in sessions added later.
    """

    def __init__(
        self,
        organizations: Collection[Organization] | None = None,
        sessions: Collection[Session] = (),
        *,
        seed: int = 7,
        cast: synthesis.Cast | None = None,
    ) -> None:
        self.seed = seed
        self.lock = threading.RLock()
        self._cast = cast or synthesis.Cast(seed)
        known = self._cast.organizations if organizations is None else organizations
        self._organizations = {organization.org_id: organization for organization in known}
        self._sessions: dict[str, Session] = {}
        self._listing: list[_Row] | None = None
        self._verbatim: dict[Feed, list[_Row]] = {}
        self._selections: dict[Query, list[_Row]] = {}
        self._evolutions = 0
        self.directory = Directory(self._cast, self)
        """People, service users, playbooks, limits and cycles."""
        self.bill = Bill(seed, self.directory, self)
        """What all of it is billed."""
        for session in sessions:
            self._adopt(session)

    @classmethod
    def synthetic(
        cls,
        *,
        seed: int = 7,
        sessions: int = 600,
        days: int = 30,
        ends_at: datetime | None = None,
        has_odd_fields: bool = False,
    ) -> Enterprise:
        """Invent an enterprise: equal arguments give byte-identical items.

        Args:
            seed: Any integer.
            sessions: How many sessions, those of the deleted organization included.
            days: How many billing days (from 08:00 UTC) they are spread over, the day `ends_at` lies in included.
            ends_at: No session is created or updated later; now when left out.
            has_odd_fields: Whether some sessions have fields that the API reference does not list.
        """
        if sessions < 0 or days < 1:
            raise ValueError("an enterprise needs sessions >= 0 and days >= 1")
        if ends_at is not None and ends_at.tzinfo is None:
            raise ValueError(f"ends_at needs a time zone: {ends_at.isoformat()}")
        now = _now() if ends_at is None else ends_at.astimezone(UTC).replace(microsecond=0)
        rng = random.Random(f"{seed}/sessions")  # noqa: S311 - repeatable, not secret
        cast = synthesis.Cast(seed)
        instants = synthesis.created_instants(rng, sessions, days, now)
        # The newest are at work whatever the hour: on a quiet Sunday too a client meets sessions that still change.
        first_live = len(instants) - max(3, len(instants) // 100)
        invented = [
            cast.session(rng, index, instant, now, is_live=index >= first_live)
            for index, instant in enumerate(instants)
        ]
        synthesis.relate(rng, invented)
        for session in invented[11::37] if has_odd_fields else ():
            session.extras = {"x_beta_score": 0.25, "x_beta_notes": {"nested": [1, None, "two"]}}
        return cls(cast.organizations, invented, seed=seed, cast=cast)

    # What there is

    @property
    def organizations(self) -> list[Organization]:
        """All organizations, deleted ones included."""
        with self.lock:
            return list(self._organizations.values())

    @property
    def sessions(self) -> list[Session]:
        """All sessions that were not deleted, those of deleted organizations included, newest first."""
        with self.lock:
            return [row.session for row in reversed(self._ordered()) if row.session is not None]

    def session(self, session_id: str) -> Session:
        """Find a session by its id, with or without `devin-`.

        Raises:
            KeyError: No such session, or it was deleted.
        """
        with self.lock:
            return self._sessions[session_id.removeprefix("devin-")]

    def has_organization(self, org_id: str) -> bool:
        """Tell whether the organization exists and was not deleted."""
        with self.lock:
            organization = self._organizations.get(org_id)
            return organization is not None and not organization.is_deleted

    def items(self, feed: Feed, *, include_deleted_orgs: bool = True) -> list[str]:
        """Tell every item `feed` would send now, as JSON texts, newest first (v2 never shows deleted organizations)."""
        query = Query(feed, include_deleted_orgs=include_deleted_orgs and feed.endswith("v3"))
        with self.lock:
            return [row.json(feed).decode("utf-8", "surrogatepass") for row in self._selected(query)]

    # Listings

    def page_at(self, query: Query, skip: int, limit: int) -> Page:
        """Give the page at an offset: it shifts when rows come or go, as v2's does."""
        with self.lock:
            rows = self._selected(query)
            return self._page(query, rows, skip, limit)

    def page_after(self, query: Query, key: Key | None, first: int) -> Page:
        """Give the page behind a place in the listing: it stays put when rows come or go, as v3's does."""
        with self.lock:
            rows = self._selected(query)
            start = (
                0 if key is None else bisect.bisect_right(rows, _descending(key), key=lambda row: _descending(row.key))
            )
            return self._page(query, rows, start, first)

    def _page(self, query: Query, rows: list[_Row], start: int, count: int) -> Page:
        shown = rows[start : start + count]
        return Page(
            texts=[row.json(query.feed) for row in shown],
            total=len(rows),
            has_more=start + count < len(rows),
            last_key=shown[-1].key if shown else None,
        )

    def _ordered(self) -> list[_Row]:
        if self._listing is None:
            rows = (
                _Row((session.created_microseconds, session.session_id), session) for session in self._sessions.values()
            )
            self._listing = sorted(rows, key=lambda row: row.key)
        return self._listing

    def _selected(self, query: Query) -> list[_Row]:
        # Kept between the pages of a listing: each page then costs its own items, not the whole enterprise.
        rows = self._selections.get(query)
        if rows is None:
            rows = self._select(query)
            if len(self._selections) >= _REMEMBERED_SELECTIONS:
                self._selections.clear()
            self._selections[query] = rows
        return rows

    def _select(self, query: Query) -> list[_Row]:
        rows = _in_window(self._ordered(), query)
        deleted = {organization.org_id for organization in self._organizations.values() if organization.is_deleted}
        if not query.asks_for_a_window_only():
            rows = [row for row in rows if row.session is not None and _fits(row.session, query)]
        if deleted and not query.include_deleted_orgs:
            rows = [row for row in rows if row.session is not None and row.session.org_id not in deleted]
        verbatim = self._verbatim.get(query.feed)
        if verbatim and query.asks_for_a_window_only():
            rows = sorted([*rows, *_in_window(verbatim, query)], key=lambda row: row.key)
        return rows[::-1]

    # Changes

    def _changed(self) -> None:
        self._selections.clear()
        self.bill.changed()

    def apply(self, name: str, assign: Callable[[], None]) -> None:
        """Run one assignment to a session's attribute while no request is being answered."""
        with self.lock:
            assign()
            if name in ("created_at", "session_id"):
                self._sessions = {session.session_id: session for session in self._sessions.values()}
                self._listing = None
            self._changed()

    def _adopt(self, session: Session) -> None:
        if session.session_id.startswith("devin-"):
            raise ValueError(f"{session.session_id}: ids are held bare, `v3_prefixed` adds the prefix")
        if session.session_id in self._sessions:
            raise ValueError(f"session {session.session_id} exists already")
        session.belongs_to(self)
        self._sessions[session.session_id] = session
        self.bill.note(session)
        self._listing = None
        self._changed()

    def add_session(self, *, created_at: datetime, **fields: Any) -> Session:
        """Add a session, invented except for the attributes given; never in a deleted organization by chance.

        Args:
            created_at: When it is created; needs a time zone.
            **fields: Attributes of `Session`.
        """
        unknown = set(fields) - {field.name for field in dataclasses.fields(Session)}
        if unknown:
            raise TypeError(f"a session has no {', '.join(sorted(unknown))}")
        with self.lock:
            rng = self._next_rng("add_session")
            now = max(_now(), created_at)
            # Index 0 is the plain one: the oddities belong to the sessions of the seed.
            session = self._cast.session(rng, 0, created_at.astimezone(UTC), now)
            while not self.has_organization(session.org_id) and any(map(self.has_organization, self._cast.users)):
                session = self._cast.session(rng, 0, created_at.astimezone(UTC), now)
            for name, value in fields.items():
                setattr(session, name, value)
            self._adopt(session)
            return session

    def insert_verbatim(self, feed: Feed, created_at: datetime, json_text: str) -> None:
        """Have `feed` send this text as an item, character for character.

        Sent to enterprise-wide requests whose creation window holds `created_at` and that ask for nothing else.

        Args:
            feed: The only feed that sends it.
            created_at: Where it stands in the listing, whatever the text says.
            json_text: Need not be valid JSON.
        """
        with self.lock:
            rows = self._verbatim.setdefault(feed, [])
            key = (microseconds_since_epoch(created_at), f"verbatim-{len(rows)}")
            rows.append(_Row(key, None, json_text.encode("utf-8", "surrogatepass")))
            rows.sort(key=lambda row: row.key)
            self._changed()

    def remove_verbatim(self, feed: Feed) -> None:
        """Stop sending what `insert_verbatim` gave this feed."""
        with self.lock:
            self._verbatim.pop(feed, None)
            self._changed()

    def grow_acus(self, n: int, *, at: datetime | None = None) -> list[str]:
        """Let up to `n` sessions consume more, living ones first, and bump their `updated_at`; return their ids."""
        with self.lock:
            rng = self._next_rng("grow_acus")
            candidates = [session for session in self._visible() if session.acus is not None]
            living = [
                session for session in candidates if session.status in _LIVE and session.status_detail != "finished"
            ]
            chosen = rng.sample(living, min(n, len(living)))
            if len(chosen) < n:
                # Consumption may be posted after the work ended.
                others = [session for session in candidates if session not in living]
                chosen += rng.sample(others, min(n - len(chosen), len(others)))
            for session in chosen:
                self.bill.note(session)
                session.acus = (session.acus or Decimal(0)) + synthesis.more_acus(rng)
            _bump(chosen, at)
            for session in chosen:
                # On the day it grew, which a later change of the session does not move.
                self.bill.note(session)
            return _ids(chosen)

    def merge_pull_requests(self, n: int, *, at: datetime | None = None) -> list[str]:
        """Merge up to `n` open pull requests in every listed session that links them; return those sessions' ids.

        `updated_at` moves for every second one only: whether the API moves it is not known.
        """
        with self.lock:
            rng = self._next_rng("merge_pull_requests")
            linking: dict[str, list[Session]] = {}
            for session in self._visible():
                for url in dict.fromkeys(link.url for link in session.pull_requests if link.state == "open"):
                    linking.setdefault(url, []).append(session)
            merged = set(rng.sample(list(linking), min(n, len(linking))))
            chosen = list(dict.fromkeys(session for url in linking if url in merged for session in linking[url]))
            for session in chosen:
                session.pull_requests = tuple(_merged(link, merged) for link in session.pull_requests)
            _bump(chosen[::2], at)
            return _ids(chosen)

    def add_analyses(self, n: int, *, at: datetime | None = None) -> list[str]:
        """Publish up to `n` analyses, those long expected first; return the sessions' ids.

        `updated_at` moves for every second one only: whether the API moves it is not known.
        """
        with self.lock:
            rng = self._next_rng("add_analyses")
            waiting = [session for session in self._visible() if session.analysis is None]
            expected = [session for session in waiting if session.pending_analysis is not None]
            chosen = rng.sample(expected, min(n, len(expected)))
            if len(chosen) < n:
                others = [session for session in waiting if session.pending_analysis is None]
                chosen += rng.sample(others, min(n - len(chosen), len(others)))
            for session in chosen:
                session.analysis = session.pending_analysis or synthesis.draw_analysis(rng, session)
                session.pending_analysis = None
            _bump(chosen[::2], at)
            return _ids(chosen)

    def delete_session(self, session_id: str) -> list[str]:
        """Delete a session, given with or without `devin-`: no feed lists it any more.

        Raises:
            KeyError: No such session.
        """
        with self.lock:
            session = self._sessions[session_id.removeprefix("devin-")]
            self.bill.keep(session)
            del self._sessions[session.session_id]
            self._listing = None
            self._changed()
            return [session.session_id]

    def delete_organization(self, org_id: str) -> list[str]:
        """Delete an organization: its sessions leave v2, and v3 unless deleted organizations are asked for.

        Raises:
            KeyError: No such organization.
        """
        with self.lock:
            self._organizations[org_id] = dataclasses.replace(self._organizations[org_id], is_deleted=True)
            self._changed()
            return [session.session_id for session in self.sessions if session.org_id == org_id]

    def rename_organization(self, org_id: str, name: str) -> None:
        """Give an organization another name; its id stays.

        Raises:
            KeyError: No such organization.
        """
        with self.lock:
            self._organizations[org_id] = dataclasses.replace(self._organizations[org_id], name=name)

    def _visible(self) -> list[Session]:
        rows = self._selected(Query("sessions_v3"))
        return [row.session for row in rows if row.session is not None]

    def _next_rng(self, change: str) -> random.Random:
        self._evolutions += 1
        return random.Random(f"{self.seed}/{change}/{self._evolutions}")  # noqa: S311 - repeatable, not secret


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _descending(key: Key) -> tuple[int, tuple[int, ...]]:
    """Turn a key round, so that a listing that falls can be searched by bisection."""
    return -key[0], tuple(-ord(character) for character in key[1])


def _in_window(rows: list[_Row], query: Query) -> list[_Row]:
    start = (
        0 if query.created_from is None else bisect.bisect_left(rows, query.created_from, key=lambda row: row.key[0])
    )
    if query.created_until is None:
        return rows[start:]
    return rows[start : bisect.bisect_left(rows, query.created_until, key=lambda row: row.key[0])]


def _fits(session: Session, query: Query) -> bool:
    updated = session.updated_microseconds
    if query.updated_from is not None and (updated is None or updated < query.updated_from):
        return False
    if query.updated_until is not None and (updated is None or updated >= query.updated_until):
        return False
    return (
        (query.org_ids is None or session.org_id in query.org_ids)
        and (query.session_ids is None or session.session_id in query.session_ids)
        and (query.user_ids is None or session.user_id in query.user_ids)
        and (query.service_user_ids is None or session.service_user_id in query.service_user_ids)
        and (query.tags is None or not query.tags.isdisjoint(session.tags))
        and (query.origins is None or session.origin in query.origins)
        and (query.repo_names is None or not query.repo_names.isdisjoint(session.repo_names))
        and (query.category is None or session.category == query.category)
        and (query.playbook_id is None or session.playbook_id == query.playbook_id)
        and (query.schedule_id is None or session.schedule_id == query.schedule_id)
    )


def _merged(link: PullRequest, merged: Collection[str]) -> PullRequest:
    return dataclasses.replace(link, state="merged") if link.url in merged and link.state == "open" else link


def _bump(sessions: Collection[Session], at: datetime | None) -> None:
    instant = _now() if at is None else at
    for session in sessions:
        # Never backwards: an enterprise that ends in the future would otherwise look restored from a backup.
        session.updated_at = instant if session.updated_at is None else max(instant, session.updated_at)


def _ids(sessions: Collection[Session]) -> list[str]:
    return [session.session_id for session in sessions]
