r"""The contract's second reading: every table in plain Python, from the items the API sent.

Shares no code with `devin_pipeline` and must not: the SQL pipeline is compared to this, to the last digit.
How fast it is does not matter; that each rule can be read off does.

Where tables.md leaves room, this takes (a change of mind belongs here first):

Reading items
- Numbers keep their text; NaN, infinities and exponents no decimal holds are null outside ACUs. Of a repeated key
  the last counts.
- Text: a number is its text as sent, a bool true/false, an object or array its JSON without whitespace, keys as
  sent. Lone surrogates become U+FFFD, in ids too. "" is not null. Enums keep their case (session_size too).
- Anything else in place of an array is an empty one. Null tags and child ids are dropped; "" and repeated ones stay.
- `structured_output` is such JSON text whatever its type, so a string keeps its quotes; JSON null is null.
- Integers: an integral JSON number (5.0 too) inside int32, else null; a string is not an integer.
- Instants: extended ISO with a zone (seconds optional, T or blank), or epoch seconds 0..1e11 as a number or as
  digits in a string; what is finer than microseconds is cut. The bounds (2020, one day ahead) are created_at's only.
- ACU strings follow JSON's number grammar, no blanks. Bounds hold for the value as sent, unrounded; -0 is 0.
- Ids: at most 200 characters as sent; no control character anywhere; no outer whitespace before or after `devin-`.

raw
- content_hash is sha-256 of our own canonical form: compare for sameness, never with the pipeline's digest. The
  reasons are ours too: not an object, session_id, created_at, acus_consumed; the first that fits.
- Histories are per feed, day and id; a session that is new to a day leaves the others of its feed. In one read an id
  has one winner, over all days asked. A version older by
  `updated_at` than the latest is added all the same. A quarantined item keeps its session listed, revives none.

sessions
- Both v3 endpoints carry every v3 field of section 8; only `analysis`, session_size and num_*_messages are the insights
  feed's alone. Section 3.1's "only get/list" is not followed: an insights item without status_detail has null there.
- `status_detail`: two null updated_at are equal. An analysis that is a list or text is as null.
- `versions` counts raw rows without tombstones (A, B, A is 3), of every day it was on; last_changed_at is over the
  tombstones too.
- `feeds`: every feed that ever had a version, unlisted by now or not.

details
- Elements that are not objects make no row but use up their ordinal; `{}` makes a row of nulls. `feedback_items` is
  the number of rows.
- `issue_id` of an issue is its `id`, null when missing; a missing action item `type` stays null.
- Pull request: a null or empty `pr_url` falls to `url`, `pr_state` to `state`. Without `scheme://host`: no host,
  repository, number. Host and url lose `user@`, the host also the default port. The url of a known form is as sent up
  to the number; of any other, scheme and host are in lower case. A number is digits that fit int64.

sums
- `acus` over several sessions: the sum of the known, null when none is known. Only `acus_of_merging_sessions` can
  be over no session at all: that is 0, since nothing about it is unknown.
- A pull request without url is a link and a `(none)` repository, but no row of, nor share in, `pull_requests`.
- First session of a pull request: smallest day, created_at, session_id. Its state, when one session lists it
  twice: the last. One linked twice counts once in shares and twice in links.
- The ratio is rounded to 6 places, half away from zero; null also when `acus` is.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, InvalidOperation
from functools import cached_property
from typing import TypeAlias, TypeVar
from urllib.parse import unquote

from devin_pipeline_tests.derived.spend import acu_consumed_daily, session_acus_by_day

OF_THE_BILL = (
    *("raw_directory", "raw_consumption", "raw_session_consumption", "consumption_daily", "reconciliation_daily"),
    *("organizations", "users", "playbooks", "billing_cycles", "acu_limits"),
)
FEEDS = ("raw_session_insights_v2", "raw_sessions_v3", "raw_session_insights_v3")
INSIGHTS_V2, SESSIONS_V3, INSIGHTS_V3 = FEEDS
PRECEDENCE = (INSIGHTS_V3, SESSIONS_V3, INSIGHTS_V2)
V3 = (INSIGHTS_V3, SESSIONS_V3)
ANALYSIS_FIELD = {INSIGHTS_V2: "session_analysis", INSIGHTS_V3: "analysis"}

MICRO = Decimal("0.000001")
NO_ACUS = Decimal("0.000000")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_CREATION = datetime(2020, 1, 1, tzinfo=UTC)
LONG_AGO = datetime.min.replace(tzinfo=UTC)

Json: TypeAlias = "bool | str | Number | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = dict[str, Json]
Row: TypeAlias = dict[str, object]
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


# Reading JSON ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """A JSON number by its text as sent."""

    text: str

    @property
    def value(self) -> Decimal | None:
        """The exact number; None for NaN, an infinity or an exponent out of reach."""
        try:
            number = Decimal(self.text)
        except InvalidOperation:
            return None
        return number if number.is_finite() else None


def read_json(payload: str) -> Json:
    """The item, its numbers as text and its lone surrogates as U+FFFD."""
    return _without_lone_surrogates(
        json.loads(payload, parse_float=Number, parse_int=Number, parse_constant=Number),
    )


def _without_lone_surrogates(value: Json) -> Json:
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [_without_lone_surrogates(element) for element in value]
    if isinstance(value, dict):
        return {re.sub("[\ud800-\udfff]", "\ufffd", key): _without_lone_surrogates(v) for key, v in value.items()}
    return value


def json_text(value: Json) -> str:
    """JSON without whitespace: keys in the order sent, numbers as sent (null when not finite)."""
    if isinstance(value, Number):
        return "null" if value.value is None else value.text
    if isinstance(value, list):
        return "[" + ",".join(json_text(element) for element in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{json_text(v)}" for k, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def content_hash(value: Json) -> str:
    """Equal exactly when two items say the same: keys sorted, numbers compared as decimals."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def _canonical(value: Json) -> str:
    if isinstance(value, Number):
        if value.value is None:
            return value.text
        sign, digits, exponent = value.value.as_tuple()
        written = "".join(map(str, digits)).lstrip("0")
        significant = written.rstrip("0")
        return f"{'-' * sign}{significant}e{int(exponent) + len(written) - len(significant)}" if significant else "0"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_canonical(value[key])}" for key in sorted(value)) + "}"
    return json.dumps(value)


def text(value: Json) -> str | None:
    """What a text column holds for this value."""
    if value is None or (isinstance(value, Number) and value.value is None):
        return None
    return value if isinstance(value, str) else json_text(value)


def texts(value: Json) -> list[str]:
    """What a list<string> column holds for this value."""
    return [element for element in map(text, value if isinstance(value, list) else []) if element is not None]


def boolean(value: Json) -> bool | None:
    """What a bool column holds for this value."""
    return value if isinstance(value, bool) else None


def int32(value: Json) -> int | None:
    """What an int32 column holds for this value."""
    number = value.value if isinstance(value, Number) else None
    if number is None or abs(number) > 2**31 or number != int(number):
        return None
    return int(number) if int(number) < 2**31 else None


def an_object(value: Json) -> JsonObject:
    """The object, empty for anything else."""
    return value if isinstance(value, dict) else {}


def numbered_objects(value: Json) -> list[tuple[int, JsonObject]]:
    """The objects of an array with their places in it."""
    return [(i, e) for i, e in enumerate(value if isinstance(value, list) else []) if isinstance(e, dict)]


def instant(value: Json) -> datetime | None:
    """An instant from ISO text with a zone or epoch seconds; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        value = Number(value)
    if isinstance(value, Number):
        seconds = value.value
        if seconds is None or not 0 <= seconds <= Decimal("1e11"):
            return None
        return EPOCH + timedelta(microseconds=int(seconds.quantize(MICRO, ROUND_DOWN).scaleb(6)))
    return _instant_of_iso(value) if isinstance(value, str) else None


ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r"(?:[Zz]|([+-])([0-9]{2})(?::?([0-5][0-9]))?)",
)


def _instant_of_iso(written: str) -> datetime | None:
    found = ISO.fullmatch(written)
    if not found:
        return None
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = found.groups()
    microsecond = int((fraction or "0").ljust(6, "0")[:6])
    offset = timedelta(hours=int(zone_hours or 0), minutes=int(zone_minutes or 0))
    try:
        zone = timezone(-offset if sign == "-" else offset)
        clock = (int(hour), int(minute), int(second or 0), microsecond)
        return datetime(int(year), int(month), int(day), *clock, tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def canonical_id(session_id: str) -> str:
    """The id by which v2 and v3 rows meet."""
    return session_id.removeprefix("devin-")


def usable_id(value: Json) -> str | None:
    """The canonical id, None when this cannot be one."""
    if not isinstance(value, str) or len(value) > 200 or re.search(r"[\x00-\x1f\x7f-\x9f]", value):
        return None
    canonical = canonical_id(value)
    return canonical if canonical and canonical == canonical.strip() and value == value.strip() else None


def usable_creation(value: Json, fetched_at: datetime) -> datetime | None:
    """The instant of creation, None when it is unreadable or absurd."""
    created_at = instant(value)
    if created_at is None or not FIRST_CREATION <= created_at <= fetched_at + timedelta(days=1):
        return None
    return created_at


def acus_of(item: JsonObject) -> Decimal | None:
    """ACUs to 6 places, None when unknown; ValueError for what cannot be ACUs."""
    value = item.get("acus_consumed")
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", value):
        value = Number(value)
    acus = value.value if isinstance(value, Number) else None
    if acus is None or abs(acus) >= 10**9:
        raise ValueError(value)
    rounded = acus.quantize(MICRO, ROUND_HALF_UP)
    if not 0 <= rounded < 10**9:
        raise ValueError(value)
    return abs(rounded)


def reason_to_quarantine(item: Json, fetched_at: datetime) -> str | None:
    """Why the item is quarantined, None when it is accepted."""
    if not isinstance(item, dict):
        return "not an object"
    if usable_id(item.get("session_id")) is None:
        return "session_id"
    if usable_creation(item.get("created_at"), fetched_at) is None:
        return "created_at"
    try:
        acus_of(item)
    except ValueError:
        return "acus_consumed"
    return None


# Raw: versions of sessions --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Version:
    """One row of a raw table; a tombstone has neither hash nor payload."""

    feed: str
    day: date
    session_id: str
    created_at: datetime
    updated_at: datetime | None
    fetched_at: datetime
    content_hash: str | None
    payload: str | None
    moved_to: date | None = None

    @property
    def is_listed(self) -> bool:
        return self.payload is not None

    @cached_property
    def item(self) -> JsonObject:
        return an_object(read_json(self.payload)) if self.payload is not None else {}

    def row(self) -> Row:
        columns = "day session_id created_at updated_at fetched_at content_hash is_listed payload moved_to"
        return {column: getattr(self, column) for column in columns.split()}


class Oracle:
    """What every table must hold after the reads observed so far."""

    def __init__(self, day_starts_at_utc_hour: int = 8) -> None:
        self._day_start = timedelta(hours=day_starts_at_utc_hour)
        self._histories: dict[tuple[str, date, str], list[Version]] = {}
        self._quarantine: dict[tuple[str, date, str], Row] = {}
        self._tables: dict[str, list[Row]] = {}
        self._bill: dict[str, list[Row]] = {}

    def observe_bill(self, tables: Mapping[str, list[Row]]) -> None:
        """What the tables of the bill hold after a read of it that nothing disturbed."""
        self._tables = {}
        self._bill = dict(tables)

    def observe(self, feed: str, days: Iterable[date], items: Iterable[str], fetched_at: datetime) -> None:
        """One complete read of `days` by `feed`; items of other days among `items` are ignored."""
        if feed not in FEEDS:
            raise ValueError(feed)
        self._tables = {}
        asked = frozenset(days)
        winners: dict[str, Version] = {}
        listed: set[tuple[date, str]] = set()
        for payload in items:
            item = read_json(payload)
            day = self._day_of_item(item, fetched_at) or min(asked)
            if day not in asked:
                continue
            reason = reason_to_quarantine(item, fetched_at)
            if reason is None:
                version = self._version(feed, an_object(item), payload, fetched_at)
                earlier = winners.get(version.session_id)
                if earlier is None or (version.updated_at or LONG_AGO) >= (earlier.updated_at or LONG_AGO):
                    winners[version.session_id] = version
            else:
                self._set_aside(feed, day, item, payload, reason, fetched_at)
                session_id = usable_id(an_object(item).get("session_id"))
                listed |= {(any_day, session_id) for any_day in asked if session_id is not None}
        listed |= {(version.day, version.session_id) for version in winners.values()}
        arrived = self._add_versions(winners.values())
        self._move(feed, arrived, fetched_at)
        self._add_tombstones(feed, asked, listed, fetched_at)

    def table(self, name: str) -> list[Row]:
        """The rows of a raw, derived or report table, or of raw_quarantine, by its name in tables.md."""
        if not self._tables:
            self._tables = self._all_tables()
        return [dict(row) for row in self._tables[name]]

    def day_of(self, created_at: datetime) -> date:
        """The billing day of an instant."""
        return (created_at.astimezone(UTC) - self._day_start).date()

    def _day_of_item(self, item: Json, fetched_at: datetime) -> date | None:
        created_at = usable_creation(an_object(item).get("created_at"), fetched_at)
        return None if created_at is None else self.day_of(created_at)

    def _version(self, feed: str, item: JsonObject, payload: str, fetched_at: datetime) -> Version:
        session_id = usable_id(item["session_id"])
        created_at = usable_creation(item["created_at"], fetched_at)
        assert session_id is not None
        assert created_at is not None
        updated_at = instant(item.get("updated_at"))
        day = self.day_of(created_at)
        return Version(feed, day, session_id, created_at, updated_at, fetched_at, content_hash(item), payload)

    def _set_aside(self, feed: str, day: date, item: Json, payload: str, reason: str, fetched_at: datetime) -> None:
        digest = content_hash(item)
        row: Row = {"day": day, "feed": feed, "fetched_at": fetched_at, "content_hash": digest}
        self._quarantine.setdefault((feed, day, digest), row | {"reason": reason, "payload": payload})

    def _add_versions(self, versions: Iterable[Version]) -> dict[str, date]:
        """Add what differs; the day of each session that is new to it."""
        arrived: dict[str, date] = {}
        for version in versions:
            history = self._histories.setdefault((version.feed, version.day, version.session_id), [])
            if not history or history[-1].moved_to is not None:
                arrived[version.session_id] = version.day
            if not history or history[-1].content_hash != version.content_hash:
                history.append(version)
        return arrived

    def _move(self, feed: str, arrived: Mapping[str, date], fetched_at: datetime) -> None:
        """Have each session that is new to a day leave the others of its feed."""
        for (of_feed, day, session_id), history in self._histories.items():
            moved_to = arrived.get(session_id, day)
            if of_feed == feed and moved_to != day and history[-1].moved_to is None:
                history.append(_tombstone(history[-1], fetched_at, moved_to))

    def _add_tombstones(
        self, feed: str, asked: frozenset[date], listed: set[tuple[date, str]], fetched_at: datetime
    ) -> None:
        for (of_feed, day, session_id), history in self._histories.items():
            if of_feed == feed and day in asked and history[-1].is_listed and (day, session_id) not in listed:
                history.append(_tombstone(history[-1], fetched_at))

    def _all_tables(self) -> dict[str, list[Row]]:
        versions = [version for history in self._histories.values() for version in history]
        tables: dict[str, list[Row]] = {
            feed: [version.row() for version in versions if version.feed == feed] for feed in FEEDS
        }
        by_session = grouped(self._histories.values(), lambda history: history[0].session_id)
        sessions = sorted(
            map(merged_session, by_session.values()), key=lambda session: (session.row.day, session.row.session_id)
        )
        of_sessions = tables_of_sessions(sessions)
        return (
            tables
            | {"raw_quarantine": list(self._quarantine.values())}
            | of_sessions
            | rollups(sessions)
            | pull_request_reports(sessions)
            | {table: self._bill.get(table, []) for table in OF_THE_BILL}
            | consumed(of_sessions["sessions"], versions, self._bill.get("raw_session_consumption", []))
        )


def _tombstone(version: Version, fetched_at: datetime, moved_to: date | None = None) -> Version:
    return replace(version, fetched_at=fetched_at, content_hash=None, payload=None, moved_to=moved_to)


def grouped(things: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Things by key, in the order they came."""
    groups: dict[K, list[T]] = {}
    for thing in things:
        groups.setdefault(key(thing), []).append(thing)
    return groups


# Derived: the sessions, merged from their versions --------------------------------------------------------------------


@dataclass(frozen=True)
class SessionRow:
    """One row of `sessions`."""

    day: date
    session_id: str
    session_url: str | None
    org_id: str | None
    user_id: str | None
    service_user_id: str | None
    title: str | None
    tags: list[str]
    child_session_ids: list[str]
    status: str | None
    status_detail: str | None
    state: str
    origin: str | None
    category: str | None
    subcategory: str | None
    playbook_id: str | None
    parent_session_id: str | None
    is_archived: bool | None
    is_listed: bool
    created_at: datetime
    updated_at: datetime | None
    acus: Decimal | None
    session_size: str | None
    num_user_messages: int | None
    num_devin_messages: int | None
    initial_user_message: str | None
    structured_output: str | None
    has_analysis: bool | None
    first_seen_at: datetime
    last_changed_at: datetime
    versions: int
    feeds: list[str]


@dataclass(frozen=True)
class PullRequestLink:
    """What one element of `pull_requests` holds."""

    ordinal: int
    url: str | None
    host: str | None
    repository: str | None
    number: int | None
    state: str | None

    @property
    def identity(self) -> Hashable | None:
        """What makes it one pull request with another link: never the text of its address, if that has a known form."""
        return self.url if self.number is None else (self.host, self.repository, self.number)

    @property
    def place(self) -> tuple[str | None, str]:
        """Its host and repository as the rollup names them."""
        return ("(none)", "(none)") if self.repository is None else (self.host, self.repository)


@dataclass(frozen=True)
class MergedSession:
    """A session after merging its feeds, with the parts of it that other tables list."""

    row: SessionRow
    links: list[PullRequestLink]
    analysis: JsonObject

    @property
    def feedback(self) -> list[tuple[int, JsonObject]]:
        return numbered_objects(an_object(self.analysis.get("suggested_prompt")).get("feedback_items"))

    @property
    def has_merged(self) -> bool:
        return any(link.state == "merged" for link in self.links)

    @property
    def pull_requests(self) -> list[Hashable]:
        return list(dict.fromkeys(link.identity for link in self.links if link.identity is not None))


def merged_session(histories: list[list[Version]]) -> MergedSession:
    """One session from all its versions, a list for each feed and day."""
    versions = [version for history in histories for version in history]
    # Each feed has it on one day: the others say that it moved.
    counting = [history for history in histories if history[-1].moved_to is None]
    ordered = in_order_of_precedence([version for history in counting for version in history])
    first = ordered[0]
    every, v3 = first.item, _item_of_first(ordered, V3)
    insights_v3, v2 = _item_of_first(ordered, (INSIGHTS_V3,)), _item_of_first(ordered, (INSIGHTS_V2,))
    analysis = chosen_analysis(ordered)
    listed = [version for version in versions if version.is_listed]
    status, status_detail = text(every.get("status")), counting_status_detail(ordered)
    parent = text(v3.get("parent_session_id"))
    output = v3.get("structured_output")
    row = SessionRow(
        day=first.day,
        session_id=first.session_id,
        session_url=text(every.get("url")),
        org_id=text(every.get("org_id")),
        user_id=text(every.get("user_id")),
        service_user_id=text(v3.get("service_user_id")),
        title=text(every.get("title")),
        tags=texts(every.get("tags")),
        child_session_ids=[canonical_id(child) for child in texts(v3.get("child_session_ids"))],
        status=status,
        status_detail=status_detail,
        state=state_of(status, status_detail),
        origin=text(v3.get("origin")),
        category=text(v3.get("category")),
        subcategory=text(v3.get("subcategory")),
        playbook_id=text(v3.get("playbook_id")),
        parent_session_id=None if parent is None else canonical_id(parent),
        is_archived=boolean(v3.get("is_archived")),
        is_listed=any(history[-1].is_listed for history in counting),
        created_at=first.created_at,
        updated_at=first.updated_at,
        acus=acus_of(every),
        session_size=text(insights_v3.get("session_size")),
        num_user_messages=int32(insights_v3.get("num_user_messages")),
        num_devin_messages=int32(insights_v3.get("num_devin_messages")),
        initial_user_message=text(v2.get("initial_user_message")),
        structured_output=None if output is None else json_text(output),
        has_analysis=bool(analysis) if any(version.feed in ANALYSIS_FIELD for version in ordered) else None,
        first_seen_at=min(version.fetched_at for version in listed),
        last_changed_at=max(version.fetched_at for version in versions),
        versions=len(listed),
        feeds=sorted(version.feed for version in ordered),
    )
    links = [link_of(i, element) for i, element in numbered_objects(every.get("pull_requests"))]
    return MergedSession(row, links, analysis)


def in_order_of_precedence(versions: list[Version]) -> list[Version]:
    """Each feed's latest version that is not a tombstone: newest updated_at, then the richer feed."""
    latest = {version.feed: version for version in versions if version.is_listed}
    by_feed = [latest[feed] for feed in PRECEDENCE if feed in latest]
    return sorted(by_feed, key=lambda version: version.updated_at or LONG_AGO, reverse=True)


def _item_of_first(ordered: list[Version], feeds: tuple[str, ...]) -> JsonObject:
    return next((version.item for version in ordered if version.feed in feeds), {})


def counting_status_detail(ordered: list[Version]) -> str | None:
    """The detail, from a version as new as the one that the status is from."""
    current = [version for version in ordered if version.updated_at == ordered[0].updated_at]
    return text(_item_of_first(current, V3).get("status_detail"))


def chosen_analysis(ordered: list[Version]) -> JsonObject:
    """The first analysis with something in it, else an empty one."""
    analysed = [version for version in ordered if version.feed in ANALYSIS_FIELD]
    analyses = (an_object(version.item.get(ANALYSIS_FIELD[version.feed])) for version in analysed)
    return next((analysis for analysis in analyses if analysis), {})


def state_of(status: str | None, status_detail: str | None) -> str:
    """How far the session is, in one word."""
    if status == "exit" or status_detail == "finished":
        return "finished"
    if status_detail in ("waiting_for_user", "waiting_for_approval"):
        return "waiting"
    if status in ("new", "claimed", "running", "resuming"):
        return "running"
    return status if status in ("suspended", "error") else f"other:{status or ''}"


def link_of(ordinal: int, sent: JsonObject) -> PullRequestLink:
    """One pull request in any of the four shapes."""
    sent_url = text(sent.get("pr_url")) or text(sent.get("url")) or None
    state = text(sent.get("pr_state")) or text(sent.get("state"))
    url, host, repository, number = (None, None, None, None) if sent_url is None else parts_of_url(sent_url)
    return PullRequestLink(ordinal, url, host, repository, number, None if state is None else state.lower())


def parts_of_url(sent: str) -> tuple[str | None, str | None, str | None, int | None]:
    """The url, host, repository and number of a pull request's address."""
    bare = re.split(r"[?#]", sent.strip(" "), maxsplit=1)[0]
    found = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)(.*)", bare, re.DOTALL)
    if not found:
        return re.sub("/+", "/", bare).rstrip("/") or None, None, None, None
    scheme, authority, path = found[1], found[2].rpartition("@")[2], re.sub("/+", "/", found[3])
    host = authority.lower().removesuffix({"https": ":443", "http": ":80"}.get(scheme.lower(), ":"))
    segments = path.split("/")[1:]
    for place in range(1, len(segments)):
        number = re.match(r"[0-9]+(?![0-9A-Za-z_-])", segments[place])
        kind = segments[place - 1].lower()
        if number is None or kind not in _KINDS:
            continue
        owner = _page_of(host, kind, segments[: place - 1])
        if owner is None or not host or int(number[0]) >= 2**63:
            break
        else:
            page_host, repository = owner
            url = f"{scheme}://{authority}/{'/'.join(segments[:place])}/{number[0]}"
            return url, page_host, repository, int(number[0])
    return f"{scheme.lower()}://{host}{path.rstrip('/')}", host or None, None, None


_KINDS = ("pull", "pulls", "pull-requests", "pullrequests", "pullrequest", "merge_requests")


def _page_of(host: str, kind: str, before: list[str]) -> tuple[str, str] | None:
    """The host and the repository of a pull request's page, from what is before the kind of its link."""
    lower, parts = [part.lower() for part in before], [_decoded(part) for part in before]
    for mark in (["_git"], ["_apis", "git", "repositories"]):
        if kind.startswith("pullrequest") and lower[-1 - len(mark) : -1] == mark:
            return _azure_page(host, parts[: -1 - len(mark)], parts[-1])
    if kind == "merge_requests":
        if lower[:3] == ["api", "v4", "projects"]:
            return None if len(before) != 4 or before[3].isdigit() else (host, parts[3])
        group = parts[:-1] if parts[-1:] == ["-"] else parts
        return (host, "/".join(group)) if len(group) > 1 else None
    if kind == "pull-requests" and len(before) > 3 and lower[-2] == "repos" and lower[-4] in ("projects", "users"):
        return host, ("~" if lower[-4] == "users" else "") + f"{parts[-3]}/{parts[-1]}"
    if kind == "pullrequests" and (lower[:2] != ["2.0", "repositories"] or len(before) != 4):
        return None
    if kind == "pullrequest" or len(before) < 2:
        return None
    return {"api.github.com": "github.com", "api.bitbucket.org": "bitbucket.org"}.get(host, host), "/".join(parts[-2:])


def _azure_page(host: str, scope: list[str], repository: str) -> tuple[str, str] | None:
    organization, dot, domain = host.partition(".")
    if dot and domain == "visualstudio.com":
        host, scope = "dev.azure.com", [organization, *(scope[1:] if scope[:1] == ["defaultcollection"] else scope)]
    elif host != "dev.azure.com" and scope[:1] == ["tfs"]:
        scope = scope[1:]
    if not scope:
        return None
    return host, "/".join([*scope[-2:], *([] if len(scope) > 1 else [repository]), repository])


def _decoded(part: str) -> str:
    try:
        return unquote(part, errors="strict").lower()
    except UnicodeDecodeError:
        return part.lower()


def consumed(sessions: list[Row], versions: list[Version], answers: list[Row]) -> dict[str, list[Row]]:
    """What sessions consumed by day: as the API answered, or else as far as their versions say it."""
    by_feed: dict[str, list[Row]] = {feed: [] for feed in FEEDS}
    for version in versions:
        by_feed[version.feed].append(version.row() | {"acus": acus_of(version.item)})
    by_day = session_acus_by_day(sessions, by_feed, answers)
    return {"session_acus_by_day": by_day, "acu_consumed_daily": acu_consumed_daily(by_day, sessions)}


def tables_of_sessions(sessions: list[MergedSession]) -> dict[str, list[Row]]:
    """The seven tables with one row per session or per part of one."""
    issues = ("issues", {"issue_id": "id", "issue": "issue", "impact": "impact", "label": "label"})
    actions = ("action_items", {"issue_id": "issue_id", "type": "type", "action_item": "action_item"})
    timeline = ("timeline", {name: name for name in ("title", "description", "color", "issue_id")})
    feedback = {name: name for name in ("issue_id", "summary", "excerpt", "details")}
    tables: dict[str, list[Row]] = {
        "sessions": [columns_of(session.row) for session in sessions],
        "session_pull_requests": [key_of(session) | columns_of(link) for session in sessions for link in session.links],
        "prompt_suggestions": [row for session in sessions for row in suggestion_rows(session)],
        "prompt_feedback": [row for session in sessions for row in part_rows(session, session.feedback, feedback)],
    }
    for table, (array, columns) in {
        "session_issues": issues,
        "session_action_items": actions,
        "session_timeline": timeline,
    }.items():
        tables[table] = [
            row
            for session in sessions
            for row in part_rows(session, numbered_objects(session.analysis.get(array)), columns)
        ]
    return tables


def columns_of(record: SessionRow | PullRequestLink) -> Row:
    """A dataclass as a row."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def key_of(session: MergedSession) -> Row:
    """The columns that name the session."""
    return {"day": session.row.day, "session_id": session.row.session_id}


def part_rows(session: MergedSession, parts: list[tuple[int, JsonObject]], columns: dict[str, str]) -> list[Row]:
    """One row per part, its columns read as text from the fields named."""
    return [
        key_of(session) | {"ordinal": i} | {column: text(part.get(field)) for column, field in columns.items()}
        for i, part in parts
    ]


def suggestion_rows(session: MergedSession) -> list[Row]:
    """The session's row of `prompt_suggestions`, if it has one."""
    suggested = an_object(session.analysis.get("suggested_prompt"))
    prompts: Row = {name: text(suggested.get(name)) for name in ("original_prompt", "suggested_prompt")}
    return [key_of(session) | prompts | {"feedback_items": len(session.feedback)}] if suggested else []


# Rollups: sums over sessions ------------------------------------------------------------------------------------------


def known_sum(acus: Iterable[Decimal | None]) -> Decimal | None:
    """The sum of what is known, None when nothing is."""
    known = [figure for figure in acus if figure is not None]
    return sum(known, NO_ACUS) if known else None


def equal_shares(acus: Decimal | None, among: list[K]) -> Mapping[K, Decimal | None]:
    """ACUs in equal shares cut to 6 places; the first also gets what is left over."""
    if acus is None:
        return dict.fromkeys(among)  # an unknown amount has unknown parts
    share = Decimal(int(acus.scaleb(6)) // len(among)).scaleb(-6)
    return {among[0]: acus - share * (len(among) - 1)} | dict.fromkeys(among[1:], share)


def week_of(day: date) -> date:
    """The Monday of the day's week."""
    return day - timedelta(days=day.weekday())


def measures(sessions: list[MergedSession]) -> Row:
    """The measures of the cube over these sessions."""
    return {
        "sessions": len(sessions),
        "acus": known_sum(session.row.acus for session in sessions),
        "sessions_with_unknown_acus": sum(session.row.acus is None for session in sessions),
        "pull_request_links": sum(len(session.links) for session in sessions),
        "merged_pull_request_links": sum(link.state == "merged" for session in sessions for link in session.links),
        "sessions_with_pull_request": sum(bool(session.links) for session in sessions),
        "sessions_with_merged_pull_request": sum(session.has_merged for session in sessions),
        "analysed_sessions": sum(session.row.has_analysis is True for session in sessions),
        "feedback_items": sum(len(session.feedback) for session in sessions),
    }


def rollups(sessions: list[MergedSession]) -> dict[str, list[Row]]:
    """The cube, its two siblings and its two coarser forms."""
    people = ("org_id", "user_id", "service_user_id")
    by_day = cube(sessions, "day", lambda day: day, (*people, "origin", "category", "playbook_id", "state"))
    return {
        "acu_daily": by_day,
        "acu_weekly": cube(sessions, "week", week_of, people),
        "acu_monthly": cube(sessions, "month", lambda day: day.replace(day=1), people),
        "acu_daily_by_tag": shared_rollup(
            sessions, ("tag",), lambda session: [(tag,) for tag in session.row.tags or ["(untagged)"]]
        ),
        "acu_daily_by_repository": shared_rollup(
            sessions,
            ("host", "repository"),
            lambda session: [link.place for link in session.links] or [("(none)", "(none)")],
        ),
    }


def cube(
    sessions: list[MergedSession], period: str, period_of: Callable[[date], date], by: tuple[str, ...]
) -> list[Row]:
    """The measures per period and the session columns named."""
    cells = grouped(
        sessions, lambda session: (period_of(session.row.day), *(getattr(session.row, column) for column in by))
    )
    return [dict(zip((period, *by), cell, strict=True)) | measures(inside) for cell, inside in cells.items()]


def shared_rollup(
    sessions: list[MergedSession],
    columns: tuple[str, ...],
    values_of: Callable[[MergedSession], Sequence[tuple[str | None, ...]]],
) -> list[Row]:
    """Per day, organization and values: the ACUs that touch them, and their equal share of these."""
    touches = [
        (session.row, value, share)
        for session in sessions
        for value, share in equal_shares(session.row.acus, list(dict.fromkeys(values_of(session)))).items()
    ]
    cells = grouped(touches, lambda touch: (touch[0].day, touch[0].org_id, *touch[1]))
    return [
        dict(zip(("day", "org_id", *columns), cell, strict=True))
        | {
            "sessions": len(inside),
            "acus_touching": known_sum(row.acus for row, _, _ in inside),
            "acus_split": known_sum(share for _, _, share in inside),
        }
        for cell, inside in cells.items()
    ]


# Reports: pull requests across days -----------------------------------------------------------------------------------


def pull_request_reports(sessions: list[MergedSession]) -> dict[str, list[Row]]:
    """The two reports that count a pull request once, however many sessions link it."""
    by_identity = grouped(((pr, session) for session in sessions for pr in session.pull_requests), lambda pair: pair[0])
    pull_requests: list[Row] = []
    merged_in: Counter[tuple[date, str | None]] = Counter()
    for identity, pairs in by_identity.items():
        linking = [session for _, session in pairs]
        first = min((session.row for session in linking), key=lambda row: (row.day, row.created_at, row.session_id))
        latest = max(linking, key=lambda session: (session.row.updated_at or LONG_AGO, session.row.session_id))
        link = [link for link in latest.links if link.identity == identity][-1]
        row: Row = {
            "url": link.url,
            "host": link.host,
            "repository": link.repository,
            "number": link.number,
            "state": link.state,
            "first_session_id": first.session_id,
            "first_day": first.day,
            "sessions": len(linking),
            "acus": known_sum(equal_shares(session.row.acus, session.pull_requests)[identity] for session in linking),
        }
        pull_requests.append(row)
        merged_in[week_of(first.day), first.org_id] += link.state == "merged"
    return {
        "pull_requests": pull_requests,
        "acus_per_merged_pull_request": acus_per_merged_pull_request(sessions, merged_in),
    }


def acus_per_merged_pull_request(
    sessions: list[MergedSession], merged_in: Counter[tuple[date, str | None]]
) -> list[Row]:
    """Per week and organization: what was spent, and how much of it for each merged pull request."""
    cells = grouped(sessions, lambda session: (week_of(session.row.day), session.row.org_id))
    rows: list[Row] = []
    for (week, org_id), inside in cells.items():
        acus, merged = known_sum(session.row.acus for session in inside), merged_in[week, org_id]
        merging = [session.row.acus for session in inside if session.has_merged]
        row: Row = {
            "week": week,
            "org_id": org_id,
            "acus": acus,
            "merged_pull_requests": merged,
            "acus_per_merged_pull_request": ratio(acus, merged) if acus and merged else None,
            "acus_of_merging_sessions": known_sum(merging) if merging else NO_ACUS,
        }
        rows.append(row)
    return rows


def ratio(acus: Decimal, count: int) -> Decimal:
    """The quotient to 6 places, half away from zero, by whole numbers so that nothing is rounded twice."""
    micro_acus = int(acus.scaleb(6))
    return Decimal((2 * micro_acus + count) // (2 * count)).scaleb(-6)
