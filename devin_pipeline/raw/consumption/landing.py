"""From the answers about the bill to the lake: a version per day and entity, and tombstones for what is left out."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from http import HTTPStatus

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from devin_pipeline.billing_calendar import BILLING_HOUR, day_of
from devin_pipeline.devin_api import Consumption, ConsumptionV2, Scope, content_hash
from devin_pipeline.lake import BillNote, Lake, in_portions
from devin_pipeline.raw.answers import shrunk
from devin_pipeline.raw.consumption.entities import ENTERPRISE, Entity
from devin_pipeline.raw.versions import append_versions
from devin_pipeline.tables import ACUS, RAW_CONSUMPTION

_SIX_PLACES = Decimal("0.000001")
_MOST_ACUS = Decimal(1_000_000_000)
_encode = msgspec.json.Encoder(decimal_format="number").encode
_ITEM = pa.schema(
    [
        ("day", pa.date32()),
        ("scope", pa.string()),
        ("scope_id", pa.string()),
        ("acus", ACUS),
        ("content_hash", pa.string()),
        ("payload", pa.string()),
    ]
)
_SURELY_ALL = 8
# What is stored at once, so that a year of bills takes little more memory than a month.
_BYTES_AT_ONCE = 16 * 2**20


@dataclass
class Bill:
    """What one read of the bill came to.

    Attributes:
        days: The days that were asked for.
        known: The scopes of which a bill was ever read.
        rows: A row per day, scope and entity that is listed.
        whole: What was read whole, as values of columns of the key.
        by: The columns that identify one answer, of which the entries are compared with those listed before.
        asked: Scopes, and organizations as `organization/<id>`, that were asked for.
        answered: Those of them that were answered.
        refused: Those of them that were refused, and the status.
        not_found: How many entities of a scope the API does not know, though it answered others of it.
        forbidden: How many of them may not be read, though others may.
        outside: Entries of days that were not asked for.
        unreadable: Entries whose day cannot be read, or is that of another entry, by scope.
    """

    days: Sequence[date]
    known: frozenset[str] = frozenset()
    rows: list[dict[str, object]] = field(default_factory=list)
    whole: list[dict[str, object]] = field(default_factory=list)
    by: Sequence[str] = ("scope", "scope_id")
    asked: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)
    not_found: Counter[str] = field(default_factory=Counter)
    forbidden: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)

    def take(self, scope: Scope, asked: Sequence[Entity], answers: Iterable[Consumption]) -> None:
        """Take in what v3 answers about the entities of a scope, in any order."""
        stored_as = {entity.asked_as: entity.stored_as for entity in asked}
        statuses: dict[str, int] = {}
        known_days = set(self.days)
        for answer in answers:
            scope_id = ENTERPRISE if answer.scope_id is None else stored_as[answer.scope_id]
            if answer.refused is not None:
                statuses[scope_id] = answer.refused
                continue
            # Of entries of one billing day the last counts.
            entries = {day_of(entry.starts_at, BILLING_HOUR): entry for entry in answer.days}
            # guard: two entries of one billing day, unsaid | + len(answer.days) - len(entries)
            if unusable := answer.unreadable_days + len(answer.days) - len(entries):
                self.unreadable[scope] += unusable
            else:
                self.whole.append({"scope": scope, "scope_id": scope_id})
            self.outside += len(entries.keys() - known_days)
            self.rows += [
                _row(day, scope, scope_id, entry.acus, entry.payload)
                for day, entry in entries.items()
                if day in known_days
            ]
        self._note_refusals(scope, stored_as.values(), statuses)

    def take_v2(self, day: date, answer: ConsumptionV2, organization: str | None = None) -> None:
        """Take in what v2 answers about one day: the enterprise, organizations and users at once, without products.

        Args:
            day: The day that was asked for.
            answer: What was answered.
            organization: The one organization that was asked for; None for the whole enterprise.
        """
        self.by = ("day", "scope")
        of_enterprise = ("enterprise",) if organization is None else ()
        scopes: tuple[str, ...] = (*of_enterprise, "organization", "user")
        self.asked |= set(scopes)
        if answer.refused is not None:
            self.refused |= dict.fromkeys(scopes, answer.refused)
            return
        found = {day_of(instant, BILLING_HOUR): acus for instant, acus in answer.by_date.items()}
        self.outside += len(found.keys() - {day})
        # guard: a map of v2 that was not sent, taken for an empty one | is None -> is ...
        not_sent = {
            scope
            for scope, sent in (("organization", answer.by_organization), ("user", answer.by_user))
            if sent is None
        }
        organizations, users = answer.by_organization or {}, answer.by_user or {}
        if organization is not None:
            # guard: a filter by organization that was ignored | organizations.keys() <= {organization} -> True
            if not organizations.keys() <= {organization}:
                # The users are those of all organizations.
                users, not_sent = {}, {*not_sent, "user"}
            organizations = {key: acus for key, acus in organizations.items() if key == organization}
        scopes = tuple(scope for scope in scopes if scope not in not_sent)
        self.answered |= set(scopes)
        # guard: days of v2 that cannot be read, unsaid | answer.unreadable_days + -> 0 +
        if unusable := answer.unreadable_days + len(answer.by_date) - len(found):
            self.unreadable.update(dict.fromkeys(scopes, unusable))
            whole: tuple[str, ...] = ()
        # guard: organizations of several days at once, taken for those of one | found.keys() <= {day} -> True
        elif found.keys() <= {day} and (found or not (organizations or users)):
            whole = scopes
            self.rows += [_row_v2(day, "organization", key, acus) for key, acus in organizations.items()]
            self.rows += [_row_v2(day, "user", key, acus) for key, acus in users.items()]
        else:
            # guard: maps of no day, taken for those of the day asked for | whole = of_enterprise -> whole = scopes
            whole = of_enterprise
        self.whole += [{"day": day, "scope": scope} for scope in whole]
        if day in found and organization is None:
            self.rows.append(_row_v2(day, "enterprise", ENTERPRISE, found[day]))

    def _note_refusals(self, scope: Scope, asked: Iterable[str], statuses: dict[str, int]) -> None:
        names = list(asked)
        self.asked.add(scope)
        if scope == "organization":
            self.asked |= {f"organization/{name}" for name in names}
        # There is always an enterprise.
        was_read = scope in self.known and scope != "enterprise"
        if len(statuses) == len(names) and is_refused_as_a_whole(list(statuses.values()), was_read=was_read):
            self.refused[scope] = next(iter(statuses.values()))
            return
        if len(statuses) < len(names):
            self.answered.add(scope)
        for status in statuses.values():
            # guard: people whose bill may not be read, unsaid | == HTTPStatus.FORBIDDEN -> == 0
            counted = self.forbidden if status == HTTPStatus.FORBIDDEN else self.not_found
            counted[scope] += 1
        if scope == "organization":
            self.refused |= {f"organization/{name}": status for name, status in statuses.items()}


def is_refused_as_a_whole(statuses: Sequence[int], *, was_read: bool) -> bool:
    """Whether a kind of bill is refused, given that all its entities that were asked for are; they may just be deleted.

    Args:
        statuses: The status of each of them.
        was_read: Whether any of the kind was ever answered.
    """
    if len(set(statuses)) != 1:
        return False
    # guard: the last entities of a kind that were deleted, taken for a refused kind | or not was_read -> or True
    return statuses[0] == HTTPStatus.FORBIDDEN or len(statuses) >= _SURELY_ALL or not was_read


def land_bill(
    lake: Lake, bill: Bill, read_at: datetime, *, keeps_text: bool = True, accepts_removals: bool = False
) -> None:
    """Store what a read of the bill returned, some days at a time, and note what of it was refused or cut short.

    Args:
        lake: The lake.
        bill: What was read.
        read_at: When reading it began.
        keeps_text: False when free text may not be stored.
        accepts_removals: True when somebody said that what is missing was really removed.
    """
    items = pa.Table.from_pylist(bill.rows, _ITEM)
    cut: dict[str, tuple[int, int]] = {}
    # guard: a bill that was cut short, believed | not accepts_removals -> False
    if not accepts_removals:
        bill.whole, cut = _believed(lake, bill, items)
    columns = [name for name in RAW_CONSUMPTION.object_key if name == "day" or name in bill.by]
    for days in in_portions(_bytes_of_days(bill.days, items), _BYTES_AT_ONCE):
        some = items.filter(pc.is_in(items.column("day"), pa.array(days, pa.date32())))
        by_day = (
            [row for row in bill.whole if row["day"] in days]
            if "day" in bill.by
            else [row | {"day": day} for day in days for row in bill.whole]
        )
        read_whole = _table(by_day, columns)
        append_versions(lake, RAW_CONSUMPTION, some, read_at, read_whole=read_whole, keeps_text=keeps_text)
    note = BillNote(
        frozenset(bill.answered),
        bill.refused,
        cut,
        dict(bill.unreadable),
        dict(bill.not_found),
        dict(bill.forbidden),
    )
    lake.note_bill(RAW_CONSUMPTION, bill.asked, note)


def _bytes_of_days(days: Sequence[date], items: pa.Table) -> dict[date, int]:
    """The bytes that the entries of each day have."""
    sizes = pa.table({"day": items.column("day"), "bytes": pc.binary_length(items.column("payload"))})
    found = sizes.group_by("day").aggregate([("bytes", "sum")]).to_pydict()
    return dict.fromkeys(days, 0) | dict(zip(found["day"], found["bytes_sum"], strict=True))


def _believed(lake: Lake, bill: Bill, items: pa.Table) -> tuple[list[dict[str, object]], dict[str, tuple[int, int]]]:
    """What was read whole and did not shrink; and of what shrank, by scope, how much was listed before and is now."""
    whole, cut = bill.whole, dict[str, tuple[int, int]]()
    # One answer of v2 is about a day and lists entities, so that nothing but a look at all days shows missing ones: of
    # the enterprise, or of the one organization that is read.
    # guard: a bill of v2 of one organization that was cut short, believed | in bill.asked -> in ("enterprise",)
    whole_scope = "enterprise" if "enterprise" in bill.asked else "organization"
    for by in dict.fromkeys((tuple(bill.by), ("scope",))) if "day" in bill.by else (tuple(bill.by),):
        answers = [row for row in whole if by != ("scope",) or row["scope"] == whole_scope]
        answered = _table([dict(each) for each in {tuple((name, row[name]) for name in by) for row in answers}], by)
        found = shrunk(lake, RAW_CONSUMPTION, items, answered, by, list(bill.days)).to_pylist()
        for row in found:
            before, now = cut.get(row["scope"], (0, 0))
            cut[row["scope"]] = (before + row["listed_before"], now + row["listed_now"])
        left_out = {tuple(row[name] for name in by) for row in found}
        # Where days are missing, so may be what the same answers have of anybody.
        are_days_missing = found and by == ("scope",)
        whole = [] if are_days_missing else [row for row in whole if tuple(row[name] for name in by) not in left_out]
    return whole, cut


def _row(day: date, scope: Scope, scope_id: str, acus: Decimal | None, payload: bytes) -> dict[str, object]:
    return {
        "day": day,
        "scope": scope,
        "scope_id": scope_id,
        "acus": to_six_places(acus),
        "content_hash": content_hash(payload),
        "payload": payload.decode(),
    }


def _row_v2(day: date, scope: Scope, scope_id: str, acus: Decimal | None) -> dict[str, object]:
    # v2 sends maps; this is the part of one day and entity.
    return _row(day, scope, scope_id, acus, _encode({"date": day.isoformat(), "acus": acus}))


def to_six_places(acus: Decimal | None) -> Decimal | None:
    """An amount as it is stored, half away from zero; None for one that is not an amount of ACUs."""
    if acus is None or not acus.is_finite() or acus.copy_abs() >= _MOST_ACUS:
        return None
    return acus.quantize(_SIX_PLACES, ROUND_HALF_UP)


def _table(rows: Sequence[dict[str, object]], columns: Sequence[str]) -> pa.Table:
    return pa.Table.from_pylist(rows, pa.schema([_ITEM.field(name) for name in columns]))
