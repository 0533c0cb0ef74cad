"""The tables of money computed again in plain Python, and small random worlds to compute them from.

Shares no code with the product, as `oracle.py` does not: how fast it is does not matter, that each rule can be read off
does. Rows go in and come out as dicts with the columns of the tables.

Where tables.md leaves room, this takes (a change of mind belongs here first):

Amounts
- A number follows JSON's grammar; 1,000,000,000 and more is a mistake and counts as not sent. Half away from zero.
- Of a product that is sent twice the last counts. A split that is not an object is none.
- A bill that cannot be read, with a split, is the products' rows; without one it is `(all)` of null.

session_acus_by_day
- The created day is `sessions.day`, also when `created_at` lies elsewhere. `updated_at` is that of `sessions`, but for
  `version_delta`, whose versions have their own.
- A session of 0 ACUs has one row, whatever its versions were or the API answered.
- Amounts of one session, day and method are one row; "ACUs > 0" and "0 ACUs" are said of that row.
- An entry of an answer counts if its date is epoch seconds and its amount a number. "All 0" is said of days.
- Of versions with one `updated_at` and `fetched_at`, that of the richest feed is the last.
- A remainder without a day of ACUs > 0 is on the billing day of `updated_at`, else on the created day.

acu_consumed_daily
- A session that consumed something and gave as much back on one day was not active then.

reconciliation_daily
- An organization has a row on a day if it has a bill, its bill is refused by name, or a session of its has a row of
  `session_acus_by_day`, of 0 ACUs too. With one organization only, that has a row on each day asked for.
- "Sums leave `no_bill` rows out": whatever is 404 or not listed on a day stays in `(no organization)` with its
  sessions' ACUs, its sessions of unknown ACUs too. So the other rows add up to `(enterprise)`.
- A refusal goes before what is stored: a bill that was read before it does not count any more.
- If the bills of all organizations are refused (403), `(no organization)` is too, though none may be known.
- A share that has no place in the column is null.
- `history_is_complete`: see `has_complete_history`.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from random import Random
from typing import Any, TypeVar

from hypothesis import strategies as st

Row = dict[str, Any]
T = TypeVar("T")

FEEDS_BY_RICHNESS = ("raw_session_insights_v2", "raw_sessions_v3", "raw_session_insights_v3")
SESSION_PRODUCTS = ("devin", "automation")
ENTERPRISE, NO_ORGANIZATION = "(enterprise)", "(no organization)"

_MICRO = Decimal("0.000001")
_ZERO = Decimal("0.000000")
_EXACT = Context(prec=2000, rounding=ROUND_HALF_UP)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Number(str):
    """A JSON number by its text as sent."""

    __slots__ = ()


def read_json(payload: str | None) -> Any:
    """The value of a payload, its numbers as they were sent; None if there is none."""
    if payload is None:
        return None
    try:
        return json.loads(payload, parse_int=_Number, parse_float=_Number, parse_constant=lambda _: None)
    except ValueError:
        return None


def amount(value: object) -> Decimal | None:
    """ACUs of a JSON value; None when it is not a number."""
    if not isinstance(value, _Number) or _NUMBER.fullmatch(value) is None:
        return None
    rounded = Decimal(value).quantize(_MICRO, context=_EXACT) + _ZERO
    return rounded if abs(rounded) < 10**9 else None


def billing_day(instant: datetime, hour: int) -> date:
    """The day in which an instant lies, if days start at that hour of UTC."""
    utc = instant.astimezone(UTC)
    return utc.date() if utc.hour >= hour else utc.date() - timedelta(days=1)


def _newest(versions: Iterable[Row], *key: str) -> list[Row]:
    """The newest version of each object that is listed now."""
    newest: dict[tuple[object, ...], Row] = {}
    for version in sorted(versions, key=lambda version: version["fetched_at"]):
        newest[tuple(version[name] for name in key)] = version
    return [version for version in newest.values() if version["is_listed"]]


# consumption_daily ----------------------------------------------------------------------------------------------------


def consumption_daily(raw_consumption: Iterable[Row]) -> list[Row]:
    """What the bills say of each product."""
    rows: list[Row] = []
    for bill in _newest(raw_consumption, "day", "scope", "scope_id"):
        entry = read_json(bill["payload"])
        split = entry.get("acus_by_product") if isinstance(entry, dict) else None
        sent = split if isinstance(split, dict) else {}
        products = {name: acus for name, value in sent.items() if (acus := amount(value)) is not None}
        if not products:
            products["(all)"] = bill["acus"]
        elif bill["acus"] is not None and (left := bill["acus"] - sum(products.values())):
            products["(unsplit)"] = left
        key = {name: bill[name] for name in ("day", "scope", "scope_id")}
        rows += [key | {"product": product, "acus": acus} for product, acus in products.items()]
    return sorted(rows, key=lambda row: (row["day"], row["scope"], row["scope_id"], row["product"]))


# session_acus_by_day --------------------------------------------------------------------------------------------------


def session_acus_by_day(
    sessions: Iterable[Row],
    versions: Mapping[str, Iterable[Row]],
    raw_session_consumption: Iterable[Row],
    hour: int = 8,
) -> list[Row]:
    """On which days the sessions consumed their ACUs. `versions` are the rows of each raw table of sessions."""
    histories: dict[str, list[tuple[datetime, datetime, int, Decimal]]] = defaultdict(list)
    for feed, of_feed in versions.items():
        for version in of_feed:
            if version["is_listed"] and version["acus"] is not None and version["updated_at"] is not None:
                histories[version["session_id"]].append(
                    (version["updated_at"], version["fetched_at"], FEEDS_BY_RICHNESS.index(feed), version["acus"])
                )
    answers = {answer["session_id"]: answer for answer in _newest(raw_session_consumption, "session_id")}
    rows: list[Row] = []
    for session in sessions:
        if session["acus"] is not None:
            parts = _parts_of(
                session, sorted(histories[session["session_id"]]), answers.get(session["session_id"]), hour
            )
            rows += [
                {
                    "day": session["day"],
                    "session_id": session["session_id"],
                    "consumed_day": day,
                    "attribution_method": method,
                    "acus": acus,
                }
                for (day, method), acus in parts.items()
            ]
    return sorted(rows, key=lambda row: (row["day"], row["session_id"], row["consumed_day"], row["attribution_method"]))


def _parts_of(
    session: Row, history: list[tuple[datetime, datetime, int, Decimal]], answer: Row | None, hour: int
) -> dict[tuple[date, str], Decimal]:
    acus: Decimal = session["acus"]
    updated_day = None if session["updated_at"] is None else billing_day(session["updated_at"], hour)
    answered = {} if answer is None else _days_of_answer(answer, hour)
    was_answered = bool(answered) and (acus == 0 or any(answered.values()))
    amounts: list[tuple[date, Decimal]] = []
    for updated_at, _, _, known in history:
        if not amounts or amounts[-1][1] != known:
            amounts.append((billing_day(updated_at, hour), known))
    days: dict[date, Decimal] = defaultdict(Decimal)
    if was_answered:
        method = "api_daily"
        days |= answered
    elif updated_day == session["day"]:
        method = "single_day"
        days[updated_day] = acus
    elif len(amounts) > 1:
        method = "version_delta"
        before = Decimal(0)
        for day, known in amounts:
            days[day] += known - before
            before = known
    elif updated_day is not None:
        method = "updated_day"
        days[updated_day] = acus
    else:
        method = "created_day"
        days[session["day"]] = acus
    if acus == 0:
        return {(session["day"], method): acus}
    parts = {(day, method): of_day for day, of_day in days.items() if of_day}
    if left := acus - sum(days.values()):
        busy_days = [day for day, of_day in days.items() if of_day > 0]
        asked_at = None if answer is None or not was_answered else answer["session_acus"]
        if asked_at is not None and asked_at < acus and updated_day is not None:
            last = updated_day
        else:
            last = max(busy_days) if busy_days else updated_day or session["day"]
        parts[last, "remainder"] = left
    return parts


def _days_of_answer(answer: Row, hour: int) -> dict[date, Decimal]:
    days: dict[date, Decimal] = {}
    said = read_json(answer["payload"])
    entries = said.get("consumption_by_date") if isinstance(said, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        starts, acus = entry.get("date"), amount(entry.get("acus"))
        if isinstance(starts, _Number) and re.fullmatch(r"[0-9]{1,11}(\.[0-9]+)?", starts) and acus is not None:
            day = billing_day(_EPOCH + timedelta(seconds=int(Decimal(starts))), hour)
            days[day] = days.get(day, _ZERO) + acus
    return days


# acu_consumed_daily ---------------------------------------------------------------------------------------------------

_DIMENSIONS = ("org_id", "user_id", "service_user_id", "origin", "category", "playbook_id")


def acu_consumed_daily(acus_by_day: Iterable[Row], sessions: Iterable[Row]) -> list[Row]:
    """Who consumed ACUs on which day, and for what."""
    by_id = {session["session_id"]: session for session in sessions}
    groups: dict[tuple[Any, ...], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for row in acus_by_day:
        session = by_id[row["session_id"]]
        groups[row["consumed_day"], *(session[name] for name in _DIMENSIONS)][row["session_id"]] += row["acus"]
    rows = [
        dict(zip(("day", *_DIMENSIONS), key, strict=True))
        | {"acus": sum(group.values(), _ZERO), "sessions_active": sum(acus > 0 for acus in group.values())}
        for key, group in groups.items()
    ]
    # As they are stored: nulls last.
    return sorted(rows, key=lambda row: (row["day"], *((row[name] is None, row[name] or "") for name in _DIMENSIONS)))


# reconciliation_daily -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What a reconciliation needs to know other than tables.

    Attributes:
        asked_days: Days whose bill was asked for.
        read_days: Days whose sessions are read.
        refusals: The status with which a bill was refused, by `enterprise`, `organization` or `organization/<org_id>`.
        first_open_day: Days before it are closed.
        organization: The one that is read, if only one is.
        session_products: Products with sessions.
    """

    asked_days: Sequence[date]
    read_days: Sequence[date] = ()
    refusals: Mapping[str, int] = field(default_factory=dict)
    first_open_day: date = date.max
    organization: str | None = None
    session_products: Sequence[str] = SESSION_PRODUCTS


@dataclass(frozen=True)
class _Bill:
    """What is billed; `split` is None where nothing says of which products, `total` where that cannot be read."""

    total: Decimal | None
    split: tuple[Decimal, Decimal, Decimal] | None

    def without(self, others: Sequence["_Bill"]) -> "_Bill":
        total: Decimal | None = None
        if self.total is not None and all(other.total is not None for other in others):
            total = self.total - sum((other.total or _ZERO for other in others), _ZERO)
        if self.split is None or any(other.split is None for other in others):
            return _Bill(total, None)
        first, second, third = (
            mine - sum((other.split[n] for other in others if other.split), _ZERO) for n, mine in enumerate(self.split)
        )
        return _Bill(total, (first, second, third))


@dataclass(frozen=True)
class _Work:
    """What sessions did on a day."""

    acus: Decimal
    of_children: Decimal
    unknown: int


def reconciliation_daily(
    consumption: Iterable[Row], acus_by_day: Iterable[Row], sessions: Iterable[Row], facts: Facts
) -> list[Row]:
    """The bill next to what sessions consumed."""
    of_sessions = list(sessions)
    by_id = {session["session_id"]: session for session in of_sessions}
    bills: dict[tuple[date, str, str], dict[str, Decimal | None]] = defaultdict(dict)
    for row in consumption:
        bills[row["day"], row["scope"], row["scope_id"]][row["product"]] = row["acus"]
    worked = list(acus_by_day)
    rows: list[Row] = []
    for day in sorted(set(facts.asked_days)):
        consumed = [(by_id[row["session_id"]], row["acus"]) for row in worked if row["consumed_day"] == day]
        created = [session for session in of_sessions if session["day"] == day]
        rows += _rows_of_day(
            day,
            {key[1:]: _bill(products, facts) for key, products in bills.items() if key[0] == day},
            consumed,
            created,
            facts,
            has_complete_history(day, facts.read_days, [session["day"] for session in of_sessions]),
        )
    return rows


def has_complete_history(day: date, read_days: Iterable[date], session_days: Iterable[date]) -> bool:
    """Whether no session of the 35 days before can be missing.

    A day that was read and is empty, with no session before it, shows that there were none up to it. A lake that begins
    with a day of sessions shows nothing of the days before.
    """
    read, with_sessions = set(read_days), set(session_days)
    first = min(with_sessions, default=date.max)
    known_to_be_empty_until = max((a_day for a_day in read if a_day < first), default=date.min)
    before = [day - timedelta(days=n) for n in range(1, 36)]
    return all(a_day in read or a_day <= known_to_be_empty_until for a_day in before)


def _bill(products: Mapping[str, Decimal | None], facts: Facts) -> _Bill:
    if "(all)" in products:
        return _Bill(products["(all)"], None)
    parts = [_ZERO, _ZERO, _ZERO]
    for product, acus in products.items():
        place = 2 if product == "(unsplit)" else 0 if product in facts.session_products else 1
        parts[place] += acus or _ZERO
    return _Bill(sum(parts, _ZERO), (parts[0], parts[1], parts[2]))


def _rows_of_day(
    day: date,
    bills: Mapping[tuple[str, str], _Bill],
    consumed: Sequence[tuple[Row, Decimal]],
    created: Sequence[Row],
    facts: Facts,
    is_complete: bool,
) -> list[Row]:
    def work(org_ids: set[str | None] | None) -> _Work:
        acus = [(s, a) for s, a in consumed if org_ids is None or s["org_id"] in org_ids]
        return _Work(
            sum((a for _, a in acus), _ZERO),
            sum((a for s, a in acus if s["parent_session_id"] is not None), _ZERO),
            sum(s["acus"] is None for s in created if org_ids is None or s["org_id"] in org_ids),
        )

    def refusal(*names: str) -> int | None:
        statuses = [facts.refusals[name] for name in names if name in facts.refusals]
        return 403 if 403 in statuses else 404 if 404 in statuses else None

    def judged(status: int | None, bill: _Bill | None) -> "_Bill | str":
        if status == 403:
            return "not_permitted"
        return "no_bill" if status == 404 or bill is None else bill

    if facts.organization is not None:
        org_ids = {facts.organization}
    else:
        org_ids = {scope_id for scope, scope_id in bills if scope == "organization"}
        org_ids |= {s["org_id"] for s, _ in consumed if s["org_id"] is not None}
        org_ids |= {name.partition("/")[2] for name in facts.refusals if name.startswith("organization/")}
    found: dict[str, tuple[_Bill | str, _Work]] = {
        org_id: (
            judged(refusal("organization", f"organization/{org_id}"), bills.get(("organization", org_id))),
            work({org_id}),
        )
        for org_id in org_ids
    }
    whole, created_there = facts.organization, [s for s in created if s["org_id"] == facts.organization]
    if whole is None:
        whole, created_there = ENTERPRISE, list(created)
        enterprise = judged(refusal("enterprise"), bills.get(("enterprise", ENTERPRISE)))
        rest: _Bill | str = enterprise
        if refusal("organization") == 403 or any(bill == "not_permitted" for bill, _ in found.values()):
            rest = "not_permitted"
        elif isinstance(enterprise, _Bill):
            rest = enterprise.without([bill for bill, _ in found.values() if isinstance(bill, _Bill)])
        elsewhere = {org_id for org_id, (bill, _) in found.items() if bill != "no_bill"}
        everyone = {s["org_id"] for s, _ in consumed} | {s["org_id"] for s in created} | {None}
        found[NO_ORGANIZATION] = (rest, work(everyone - elsewhere))
        found[ENTERPRISE] = (enterprise, work(None))
    bill, done = found[whole]
    is_broken = (
        isinstance(bill, _Bill)
        and bill.split is not None
        and bill.split[0] > 0
        and bool(created_there)
        and all(s["acus"] == 0 for s in created_there)
        and done.acus == 0
    )
    is_closed = day < facts.first_open_day
    return [
        {"day": day, "org_id": org_id}
        | _figures(*found[org_id], is_closed=is_closed, is_broken=is_broken)
        | {"is_closed": is_closed, "history_is_complete": is_complete}
        for org_id in sorted(found)
    ]


def _figures(bill: "_Bill | str", work: _Work, *, is_closed: bool, is_broken: bool) -> Row:
    total = without = with_sessions = unsplit = residual = share = None
    acus: Decimal | None = work.acus
    of_children: Decimal | None = work.of_children
    if isinstance(bill, str):
        status = bill
    elif bill.split is None:
        status, total, unsplit = "no_split", bill.total, bill.total
    else:
        total = bill.total
        with_sessions, without, unsplit = bill.split
        residual = with_sessions - work.acus
        if not is_closed:
            status = "provisional"
        elif is_broken and with_sessions:
            status, acus, of_children, residual = "source_broken", None, None, None
        elif abs(residual) <= _MICRO:
            status = "exact"
        elif with_sessions and abs(Fraction(residual) / Fraction(with_sessions)) <= Fraction(1, 100):
            status = "within_1_percent"
        elif with_sessions and abs(Fraction(residual) / Fraction(with_sessions)) <= Fraction(5, 100):
            status = "within_5_percent"
        else:
            status = "unexplained"
        if residual is not None and with_sessions:
            share = _EXACT.divide(residual, with_sessions).quantize(_MICRO, context=_EXACT) + _ZERO
            if abs(share) >= 10**12:
                share = None
    return {
        "billed_acus": total,
        "billed_acus_of_products_without_sessions": without,
        "billed_acus_of_products_with_sessions": with_sessions,
        "billed_acus_unsplit": unsplit,
        "session_acus": acus,
        "sessions_with_unknown_acus": work.unknown,
        "child_session_acus": of_children,
        "residual_acus": residual,
        "residual_share": share,
        "status": status,
    }


# Small random worlds --------------------------------------------------------------------------------------------------
# Made by a `random.Random` of a seed, which hypothesis draws: a draw for each value takes longer than the SQL.

START = date(2025, 12, 1)
DAYS = [START + timedelta(days=n) for n in range(5)]
_SOME_ACUS = [Decimal(text).quantize(_MICRO) for text in ("0", "0", "0.000001", "1", "1.5", "2", "7.25")]
_NUMBERS = ("0", "1", "2.5", "2.50", "-1", "1e-6", "2.5E1", "0.0000005", "-0.0000005", "0.1234565", "-0", "9e8", "1e9")
_OTHER_VALUES = ("null", "true", '"5"', '"#5"', "{}", "[1]", '""')
_NAMES = ('"devin"', '"devin"', '"cascade"', '"terminal"', '"a\\"b"', '":1"', '"#"', '"d\\u0065vin"')


def worlds(make: Callable[[Random, int], T], most: int) -> st.SearchStrategy[T]:
    """Random worlds of 1 … `most` things."""
    return st.builds(lambda seed, size: make(Random(seed), size), st.integers(0, 2**32), st.integers(1, most))


def _some_acus(random: Random) -> Decimal:
    # Few different ones: equal amounts and zeros matter.
    return random.choice(_SOME_ACUS)


def _some_instant(random: Random) -> datetime:
    """An instant near the edge of a billing day or a day of UTC."""
    start = datetime(START.year, START.month, START.day, 8, tzinfo=UTC) + timedelta(days=random.randrange(5))
    return start + random.choice([timedelta(0), timedelta(microseconds=-1), timedelta(hours=5), timedelta(hours=-8)])


def _or_none(random: Random, value: T) -> T | None:
    return value if random.random() < 0.7 else None


def _some_entry(random: Random) -> str:
    """A day's entry on a bill, as sent."""
    value = random.choice(_NUMBERS + _OTHER_VALUES)
    if random.random() < 0.8:
        sent = (
            f"{random.choice(_NAMES)}: {random.choice(_NUMBERS + _OTHER_VALUES)}" for _ in range(random.randrange(5))
        )
        value = f"{{{', '.join(sent)}}}"
    return random.choice([f'{{"date": 1764576000, "acus": 1, "acus_by_product": {value}}}'] * 9 + ["{}"])


def some_bills(random: Random, size: int) -> list[Row]:
    """Rows of `raw_consumption`: versions and tombstones of bills."""
    owners = [("enterprise", ENTERPRISE), ("organization", "o1"), ("organization", "o2"), ("user", "o1")]
    keys = {(random.choice(DAYS[:2]), random.choice(owners), random.choice(DAYS)) for _ in range(size)}
    rows: list[Row] = []
    for day, (scope, scope_id), fetched in sorted(keys):
        is_listed = random.random() < 0.8
        rows.append(
            {
                "day": day,
                "scope": scope,
                "scope_id": scope_id,
                "fetched_at": datetime(fetched.year, fetched.month, fetched.day, tzinfo=UTC),
                "is_listed": is_listed,
                "acus": _or_none(random, _some_acus(random)) if is_listed else None,
                "payload": _some_entry(random) if is_listed else None,
            }
        )
    return rows


@dataclass(frozen=True)
class SessionWorld:
    """Sessions, their versions in each feed, and what the API answered of their days."""

    sessions: list[Row]
    versions: dict[str, list[Row]]
    answers: list[Row]


def some_sessions(random: Random, size: int) -> SessionWorld:
    """Sessions that live for some days."""
    world = SessionWorld([], {feed: [] for feed in FEEDS_BY_RICHNESS}, [])
    for n in range(size):
        session_id = f"s{n}"
        world.sessions.append(
            {
                "day": random.choice(DAYS[:2]),
                "session_id": session_id,
                "acus": _or_none(random, _some_acus(random)),
                "updated_at": _or_none(random, _some_instant(random)),
                "org_id": random.choice([None, "o1", "o2", "o3"]),
                "user_id": random.choice([None, "u1"]),
                "service_user_id": None,
                "origin": random.choice(["api", "slack"]),
                "category": None,
                "playbook_id": None,
                "parent_session_id": random.choice([None, "s0"]),
            }
        )
        times = {(random.choice(FEEDS_BY_RICHNESS), _some_instant(random)) for _ in range(random.randrange(6))}
        for feed, fetched_at in sorted(times):
            world.versions[feed].append(
                {
                    "day": random.choice(DAYS[:2]),
                    "session_id": session_id,
                    "fetched_at": fetched_at,
                    "updated_at": _or_none(random, _some_instant(random)),
                    "acus": _or_none(random, _some_acus(random)),
                    "is_listed": random.random() < 0.8,
                }
            )
        for fetched_at in sorted({_some_instant(random) for _ in range(random.randrange(3))}):
            is_listed = random.random() < 0.8
            world.answers.append(
                {
                    "day": random.choice(DAYS[:2]),
                    "session_id": session_id,
                    "fetched_at": fetched_at,
                    "session_acus": _or_none(random, _some_acus(random)),
                    "is_listed": is_listed,
                    "payload": _some_answer(random) if is_listed else None,
                }
            )
    return world


def _some_answer(random: Random) -> str:
    entries: list[str] = []
    for _ in range(random.randrange(4)):
        starts = random.choice([str(int(_some_instant(random).timestamp()))] * 8 + ["null", '"x"', "1.5", "-1"])
        acus = random.choice(("0", "0", "1", "1.5", "-1", "0.0000005", "null", '"1"'))
        entries.append(random.choice([f'{{"date": {starts}, "acus": {acus}}}'] * 8 + ["{}", "1"]))
    answer = f'{{"consumption_by_date": [{", ".join(entries)}]}}'
    return random.choice([answer] * 8 + ["{}", "[]", '{"consumption_by_date": null}'])


@dataclass(frozen=True)
class MoneyWorld:
    """What a reconciliation is made from."""

    consumption: list[Row]
    acus_by_day: list[Row]
    sessions: list[Row]
    facts: Facts


def some_money(random: Random, size: int) -> MoneyWorld:
    """Bills and sessions of a few days, which mostly agree or nearly do."""
    sessions = some_sessions(random, size).sessions
    if random.random() < 0.3:
        sessions = [session | {"acus": _ZERO} for session in sessions if session["acus"] is not None]
    acus_by_day: list[Row] = []
    for session in sessions:
        if session["acus"] is not None:
            day = random.choice(DAYS[:3])
            for method, sign in random.choice([[("api_daily", 1)], [("api_daily", 1), ("remainder", -1)]]):
                acus = _some_acus(random) * sign if session["acus"] else _ZERO
                key = {"day": session["day"], "session_id": session["session_id"], "consumed_day": day}
                acus_by_day.append(key | {"attribution_method": method, "acus": acus})
    consumption: list[Row] = []
    for day in DAYS[:3]:
        owners = [("enterprise", ENTERPRISE), ("organization", "o1"), ("organization", "o2"), ("user", "o1")]
        for scope, scope_id in owners:
            if random.random() < 0.2:
                continue
            own = {s["session_id"] for s in sessions if scope == "enterprise" or s["org_id"] == scope_id}
            near = sum((r["acus"] for r in acus_by_day if r["consumed_day"] == day and r["session_id"] in own), _ZERO)
            key = {"day": day, "scope": scope, "scope_id": scope_id}
            consumption += [key | {"product": name, "acus": acus} for name, acus in _some_split(random, near).items()]
    names = ["enterprise", "organization", "organization/o1", "organization/o9"]
    facts = Facts(
        asked_days=random.sample(DAYS[:4], random.randrange(1, 5)),
        read_days=random.sample([START - timedelta(days=1), *DAYS], random.randrange(7)),
        refusals={random.choice(names): random.choice([403, 404]) for _ in range(random.choice([0, 0, 1, 2]))},
        first_open_day=random.choice([DAYS[2], DAYS[4], DAYS[4]]),
        organization=random.choice([None, None, None, "o1"]),
    )
    return MoneyWorld(consumption, acus_by_day, sessions, facts)


def _some_split(random: Random, near: Decimal) -> dict[str, Decimal | None]:
    """A bill that has about as much for sessions as they consumed, or anything."""
    if random.random() < 0.1:
        return {"(all)": _or_none(random, near)}
    products = random.sample(["devin", "automation", "cascade", "terminal", "(unsplit)"], random.randrange(1, 5))
    if random.random() < 0.5:
        products = ["devin", "cascade"]
    split: dict[str, Decimal | None] = {name: _some_acus(random) * random.choice([1, 1, 1, -1]) for name in products}
    if "devin" in split and random.random() < 0.7:
        factor = random.choice(["1", "1.000001", "1.009", "1.01", "0.97", "1.05", "1.07"])
        split["devin"] = (near * Decimal(factor)).quantize(_MICRO)
    return split
