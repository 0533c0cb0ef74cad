"""What the made-up enterprise is billed: by billing day, product, organization, user, service user and session.

Sessions are billed on the days on which they worked, to the last digit of their ACUs. Other products are used besides
them, some of that by nobody's organization. Amounts belong here; windows, keys and the wording of answers do not.
"""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from hashlib import blake2b
from typing import Literal, NamedTuple, Protocol

from devin_pipeline.emulator.directory import Directory
from devin_pipeline.emulator.sessions import JsonObject, Session
from devin_pipeline.emulator.synthesis import billing_day_start

Scope = Literal["enterprise", "organization", "user", "service_user", "session"]
Split = Literal["full", "null", "empty", "missing", "nulls", "unknown_product", "not_adding_up"]

PRODUCTS = ("devin", "cascade", "terminal", "review")
"""Each entry has an amount of these, if only 0; of `automation` only where there is one."""
_MICRO = Decimal("0.000001")
_NOTHING = Decimal(0)

Amounts = dict[date, dict[str, Decimal]]


class HasSessions(Protocol):
    """What a bill follows."""

    @property
    def sessions(self) -> list[Session]:
        """All that were not deleted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Posting:
    """An amount on the bill.

    Attributes:
        day: The billing day.
        product: What was used.
        acus: How much.
        org_id: Whose use it is, as far as that is known; the same for the others.
        user_id: The same.
        service_user_id: The same.
        session_id: The same.
    """

    day: date
    product: str
    acus: Decimal
    org_id: str | None = None
    user_id: str | None = None
    service_user_id: str | None = None
    session_id: str | None = None


class _Sums(NamedTuple):
    days: tuple[date, date] | None
    of: dict[tuple[Scope, str | None, str | None], Amounts]


def billing_day(instant: datetime) -> date:
    """The billing day an instant lies in."""
    return billing_day_start(instant).date()


class Bill:
    """The bill of one enterprise, which follows its sessions.

    Attributes:
        split: How an entry says what its ACUs were used for.
        left_out: Days that no answer lists.
    """

    def __init__(self, seed: int, directory: Directory, enterprise: HasSessions) -> None:
        self.split: Split = "full"
        self.left_out: set[date] = set()
        self._seed = seed
        self._directory = directory
        self._enterprise = enterprise
        self._worked: dict[str, dict[date, Decimal]] = {}
        self._posted: list[Posting] = []
        self._of_day: dict[date, list[Posting]] = {}
        self._is_frozen = False
        self._sums: _Sums | None = None

    def note(self, session: Session) -> None:
        """Bill what a session consumed since it was last noted, on the day of its `updated_at`.

        The first time, over all days from its creation to then.
        """
        if self._is_frozen:
            return
        worked = self._worked.get(session.session_id)
        if worked is None:
            self._worked[session.session_id] = _spread(session)
        elif more := (session.acus or _NOTHING) - sum(worked.values(), _NOTHING):
            day = billing_day(session.updated_at or session.created_at)
            worked[day] = worked.get(day, _NOTHING) + more
        self._sums = None

    def post(self, posting: Posting) -> None:
        """Put an amount on the bill that no session has: a late correction, or a residual."""
        self._posted.append(posting)
        self._sums = None

    def keep(self, session: Session) -> None:
        """Leave on the bill what a session consumed that will be deleted."""
        self.note(session)
        self._posted += self._of_session(session)
        self._worked.pop(session.session_id, None)

    def freeze(self) -> None:
        """Bill sessions no further: what changes of them from now on, the bill does not show."""
        for session in self._enterprise.sessions:
            self.note(session)
        self._is_frozen = True

    def changed(self) -> None:
        """Add up again when asked next: sessions have changed."""
        self._sums = None

    def days(self) -> tuple[date, date] | None:
        """The first and last day with a session at work; None when there is none."""
        return self._added_up().days

    def entries(
        self, scope: Scope, scope_id: str | None, first: date, last: date, org_id: str | None = None
    ) -> list[JsonObject]:
        """What an entity is billed on each day of a window that the bill covers, as the API says it.

        Args:
            scope: What kind of entity.
            scope_id: Which; None for the enterprise.
            first: First day.
            last: Last day.
            org_id: Count only what it used in this organization.
        """
        sums = self._added_up()
        covered = sums.days
        if covered is None:
            return []
        amounts = sums.of.get((scope, scope_id, org_id), {})
        days = (covered[0] + timedelta(days=n) for n in range((covered[1] - covered[0]).days + 1))
        return [
            self._entry(day, amounts.get(day, {})) for day in days if first <= day <= last and day not in self.left_out
        ]

    def acus(self, scope: Scope, scope_id: str | None, day: date, *, without: tuple[str, ...] = ()) -> Decimal:
        """What an entity is billed on a day, some products left out."""
        products = self._added_up().of.get((scope, scope_id, None), {}).get(day, {})
        return sum((acus for product, acus in products.items() if product not in without), _NOTHING)

    def ids(self, scope: Scope) -> list[str]:
        """The entities of a kind that are on the bill."""
        of = self._added_up().of
        return sorted(key[1] for key in of if key[0] == scope and key[1] is not None and key[2] is None)

    def names(self, scope: Scope, scope_id: str) -> bool:
        """Tell whether an entity is on the bill."""
        return (scope, scope_id, None) in self._added_up().of

    def _entry(self, day: date, products: dict[str, Decimal]) -> JsonObject:
        split = dict.fromkeys(PRODUCTS, _NOTHING) | products
        acus = sum(products.values(), _NOTHING)
        entry: JsonObject = {"date": int(_start(day).timestamp()), "acus": acus, "acus_by_product": split}
        if self.split == "null":
            entry["acus_by_product"] = None
        elif self.split == "empty":
            entry["acus_by_product"] = {}
        elif self.split == "missing":
            del entry["acus_by_product"]
        elif self.split == "nulls":
            entry["acus_by_product"] = dict.fromkeys(split)
        elif self.split == "unknown_product":
            entry |= {"acus": acus + 1, "acus_by_product": split | {"atlas": Decimal(1)}}
        elif self.split == "not_adding_up":
            entry["acus"] = acus + Decimal("0.5")
        return entry

    def _added_up(self) -> _Sums:
        if self._sums is None:
            for session in self._enterprise.sessions:
                self.note(session)
            covered = self._covered()
            of: dict[tuple[Scope, str | None, str | None], Amounts] = defaultdict(lambda: defaultdict(dict))
            for posting in self._postings(covered):
                keys: list[tuple[Scope, str | None]] = [("enterprise", None)]
                keys += [("organization", posting.org_id)] if posting.org_id else []
                keys += [("user", posting.user_id)] if posting.user_id else []
                keys += [("service_user", posting.service_user_id)] if posting.service_user_id else []
                keys += [("session", posting.session_id)] if posting.session_id else []
                for scope, scope_id in keys:
                    # As a whole, and as what is used in the posting's organization.
                    for within in {None, posting.org_id}:
                        of_day = of[scope, scope_id, within][posting.day]
                        of_day[posting.product] = of_day.get(posting.product, _NOTHING) + posting.acus
            self._sums = _Sums(covered, dict(of))
        return self._sums

    def _covered(self) -> tuple[date, date] | None:
        days = {day for worked in self._worked.values() for day in worked}
        days |= {posting.day for posting in self._posted}
        days |= {billing_day(session.created_at) for session in self._enterprise.sessions}
        return (min(days), max(days)) if days else None

    def _postings(self, covered: tuple[date, date] | None) -> Iterator[Posting]:
        for session in self._enterprise.sessions:
            yield from self._of_session(session)
        if covered is not None:
            for number in range((covered[1] - covered[0]).days + 1):
                yield from self._other_use(covered[0] + timedelta(days=number))
        yield from self._posted

    def _of_session(self, session: Session) -> list[Posting]:
        product = "devin" if session.automation_id is None else "automation"
        who = (session.org_id, session.user_id, session.service_user_id, session.session_id)
        return [Posting(day, product, acus, *who) for day, acus in self._worked.get(session.session_id, {}).items()]

    def _other_use(self, day: date) -> list[Posting]:
        """What is used without sessions; the same whenever it is asked for, also of people who have left since."""
        if day not in self._of_day:
            found = []
            is_weekend = day.weekday() > 4
            for member in self._directory.members.values():
                draw = _draw(self._seed, member.user_id, day)
                chance = draw % 100
                if chance < (4 if is_weekend else 30):
                    acus = Decimal(1 + (draw >> 8) % 900_000).scaleb(-6)
                    product = "terminal" if chance % 4 == 0 else "cascade"
                    found.append(Posting(day, product, acus, member.org_id, member.user_id))
            for organization in self._directory.organizations():
                draw = _draw(self._seed, organization.org_id, day)
                if draw % 100 < (5 if is_weekend else 70):
                    acus = Decimal(1 + (draw >> 8) % 2_000_000).scaleb(-6)
                    found.append(Posting(day, "review", acus, organization.org_id))
            self._of_day[day] = found
        return self._of_day[day]


def _spread(session: Session) -> dict[date, Decimal]:
    """A session's ACUs over the billing days from its creation to its last update."""
    total = session.acus or _NOTHING
    first, last = billing_day(session.created_at), billing_day(session.updated_at or session.created_at)
    if not total:
        return {}
    if first >= last:
        return {first: total}
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    rng = random.Random(f"{session.session_id}/days")  # noqa: S311 - repeatable, not secret
    weights = [rng.random() + 0.05 for _ in days]
    worked = {
        day: (total * Decimal(weight / sum(weights))).quantize(_MICRO, ROUND_DOWN)
        for day, weight in zip(days, weights, strict=True)
    }
    worked[days[-1]] += total - sum(worked.values(), _NOTHING)
    return {day: acus for day, acus in worked.items() if acus}


def _draw(seed: int, identifier: str, day: date) -> int:
    return int.from_bytes(blake2b(f"{seed}/{identifier}/{day}".encode(), digest_size=8).digest())


def _start(day: date) -> datetime:
    return datetime.fromisoformat(f"{day}T08:00:00+00:00")
