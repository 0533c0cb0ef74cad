"""One session as the enterprise knows it, and how each feed returns it.

The model and its renderings belong here; which sessions exist, and who may see them, does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, Protocol

import msgspec

JsonObject = dict[str, Any]
Feed = Literal["session_insights_v2", "sessions_v3", "session_insights_v3", "sessions_v2"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Numbers leave as the text of their decimal: a float would add digits nobody consumed.
_ENCODER = msgspec.json.Encoder(decimal_format="number")


def microseconds_since_epoch(instant: datetime) -> int:
    """Count whole microseconds exactly; a float timestamp would lose the last digits."""
    return (instant - _EPOCH) // _MICROSECOND


@dataclasses.dataclass(frozen=True, slots=True)
class Organization:
    """An organization of the enterprise; a deleted one keeps its sessions, mostly out of sight."""

    org_id: str
    name: str
    is_deleted: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request link; `v2_shape` names which of the three v2 key sets it has (v3 has one shape only)."""

    url: str
    state: str | None = None
    v2_shape: Literal["url,state", "pr_url,pr_state,state", "pr_url,state"] = "url,state"

    def v2(self) -> JsonObject:
        """Render as v2 does; `state` is optional in the generated specification and left out there when unknown."""
        if self.v2_shape == "url,state":
            return {"url": self.url} if self.state is None else {"url": self.url, "state": self.state}
        if self.v2_shape == "pr_url,state":
            return {"pr_url": self.url, "state": self.state}
        return {"pr_url": self.url, "pr_state": self.state, "state": self.state}

    def v3(self) -> JsonObject:
        """Render as v3 does: the key is always there, the state may be null."""
        return {"pr_url": self.url, "pr_state": self.state}


class SessionOwner(Protocol):
    """What a session reports when one of its attributes is assigned."""

    def apply(self, name: str, assign: Callable[[], None]) -> None:
        """Run `assign` while no request is being answered, and remember that the attribute changed."""


@dataclasses.dataclass(eq=False)
class Session:
    """A session, free to be edited: assign attributes, do not change their containers in place.

    Renderings are kept until an attribute is assigned, so an edit inside a dict or list would go unnoticed.
    `session_id` and the ids of parents and children are held without the `devin-` prefix.
    """

    session_id: str
    org_id: str
    created_at: datetime
    updated_at: datetime | None
    user_id: str | None = None
    service_user_id: str | None = None
    title: str | None = None
    tags: tuple[str, ...] = ()
    status: str = "exit"
    status_detail: str | None = None
    acus: Decimal | None = Decimal(0)
    pull_requests: tuple[PullRequest, ...] = ()
    origin: str | None = "webapp"
    category: str | None = None
    subcategory: str | None = None
    playbook_id: str | None = None
    schedule_id: str | None = None
    automation_id: str | None = None
    devin_mode: str | None = None
    security_profile: str | None = None
    repo_names: tuple[str, ...] = ()
    parent_session_id: str | None = None
    child_session_ids: tuple[str, ...] = ()
    is_archived: bool | None = False
    structured_output: Any = None
    initial_user_message: str | None = None
    num_user_messages: int = 1
    num_devin_messages: int = 1
    session_size: str = "s"
    analysis: JsonObject | None = None
    """In v3's vocabulary; v2 has less of it."""
    pending_analysis: JsonObject | None = None
    """What `Enterprise.add_analyses` will publish."""
    better_prompt: str | None = None
    """What an analysis will suggest in place of the first message; sent nowhere else."""
    absent_analysis: Literal["null", "{}", "missing"] = "null"
    """How a session without an analysis says so."""
    v2_issues_have_ids: bool = False
    v3_prefixed: bool = False
    """Whether v3 writes this session's ids with `devin-`; v2 never does."""
    omitted_when_null: frozenset[str] = frozenset()
    """Keys left out instead of sent as null."""
    extras: JsonObject = dataclasses.field(default_factory=dict)
    """Fields that no published page lists, sent by every feed."""

    def __setattr__(self, name: str, value: object) -> None:
        owner: SessionOwner | None = self.__dict__.get("_owner")
        if owner is None:
            self._assign(name, value)
        else:
            owner.apply(name, lambda: self._assign(name, value))

    def _assign(self, name: str, value: object) -> None:
        if name in ("created_at", "updated_at"):
            if isinstance(value, datetime) and value.tzinfo is None:
                raise ValueError(f"{name} needs a time zone: {value.isoformat()}")
            # Windows are compared for thousands of sessions per request: counted once, here.
            self.__dict__[f"_{name}"] = microseconds_since_epoch(value) if isinstance(value, datetime) else None
        self.__dict__[name] = value
        self.__dict__["_texts"] = {}

    def belongs_to(self, owner: SessionOwner) -> None:
        """Tell `owner` of every later assignment."""
        self.__dict__["_owner"] = owner

    @property
    def created_microseconds(self) -> int:
        """Microseconds since the epoch."""
        microseconds: int = self.__dict__["_created_at"]
        return microseconds

    @property
    def updated_microseconds(self) -> int | None:
        """Microseconds since the epoch, None without `updated_at`."""
        microseconds: int | None = self.__dict__["_updated_at"]
        return microseconds

    def json(self, feed: Feed) -> bytes:
        """Render as `feed` sends it, once until the session changes."""
        texts: dict[Feed, bytes] = self.__dict__["_texts"]
        if feed not in texts:
            texts[feed] = _ENCODER.encode(_RENDERINGS[feed](self))
        return texts[feed]


def _url(session: Session) -> str:
    return f"https://app.devin.ai/sessions/{session.session_id}"


def _v2_instant(instant: datetime | None) -> str | None:
    if instant is None:
        return None
    precision = (
        "seconds" if not instant.microsecond else "microseconds" if instant.microsecond % 1000 else "milliseconds"
    )
    return instant.astimezone(UTC).isoformat(timespec=precision).removesuffix("+00:00") + "Z"


def _v3_id(session: Session, session_id: str) -> str:
    return f"devin-{session_id}" if session.v3_prefixed else session_id


def _as_sent(session: Session, item: JsonObject) -> JsonObject:
    item.update(session.extras)
    if session.omitted_when_null:
        return {key: value for key, value in item.items() if value is not None or key not in session.omitted_when_null}
    return item


def _with_analysis(item: JsonObject, key: str, session: Session, analysis: JsonObject | None) -> JsonObject:
    if analysis is not None:
        item[key] = analysis
    elif session.absent_analysis != "missing":
        item[key] = {} if session.absent_analysis == "{}" else None
    return item


def _without(entries: list[JsonObject] | None, *keys: str) -> list[JsonObject] | None:
    if entries is None:
        return None
    return [{key: value for key, value in entry.items() if key not in keys} for entry in entries]


def _v2_analysis(session: Session) -> JsonObject | None:
    """Tell what v2 knows of an analysis: no classification, no note usage, no colours, seldom an issue's id."""
    if session.analysis is None:
        return None
    known = ("issues", "timeline", "action_items", "suggested_prompt")
    sent = {key: session.analysis[key] for key in known if key in session.analysis}
    if "timeline" in sent:
        sent["timeline"] = _without(sent["timeline"], "color", "issue_id")
    if "issues" in sent and not session.v2_issues_have_ids:
        sent["issues"] = _without(sent["issues"], "id")
    return sent


def v2_item(session: Session) -> JsonObject:
    """One item of `GET /v2/enterprise/sessions`."""
    item: JsonObject = {
        "acus_consumed": session.acus,
        "created_at": _v2_instant(session.created_at),
        "org_id": session.org_id,
        "pull_requests": [pull_request.v2() for pull_request in session.pull_requests],
        "session_id": session.session_id,
        "status": session.status,
        "tags": list(session.tags),
        "updated_at": _v2_instant(session.updated_at),
        "url": _url(session),
        "title": session.title,
        "user_id": session.user_id,
    }
    return _as_sent(session, item)


def v2_insights_item(session: Session) -> JsonObject:
    """One item of `GET /v2/enterprise/sessions/insights`."""
    item = v2_item(session)
    item["initial_user_message"] = session.initial_user_message
    return _with_analysis(item, "session_analysis", session, _v2_analysis(session))


def v3_item(session: Session) -> JsonObject:
    """One item of `GET /v3/enterprise/sessions`: instants are whole seconds, cut off, not rounded."""
    children = [_v3_id(session, child) for child in session.child_session_ids]
    parent = session.parent_session_id
    updated = session.updated_microseconds
    item: JsonObject = {
        "acus_consumed": session.acus,
        "created_at": session.created_microseconds // 1_000_000,
        "org_id": session.org_id,
        "pull_requests": [pull_request.v3() for pull_request in session.pull_requests],
        "session_id": _v3_id(session, session.session_id),
        "status": session.status,
        "tags": list(session.tags),
        "updated_at": None if updated is None else updated // 1_000_000,
        "url": _url(session),
        "category": session.category,
        "child_session_ids": children or None,
        "is_archived": session.is_archived,
        "origin": session.origin,
        "parent_session_id": None if parent is None else _v3_id(session, parent),
        "playbook_id": session.playbook_id,
        "service_user_id": session.service_user_id,
        "status_detail": session.status_detail,
        "structured_output": session.structured_output,
        "subcategory": session.subcategory,
        "title": session.title,
        "user_id": session.user_id,
        "automation_id": session.automation_id,
        "devin_mode": session.devin_mode,
        "security_profile": session.security_profile,
    }
    return _as_sent(session, item)


def v3_insights_item(session: Session) -> JsonObject:
    """One item of `GET /v3/enterprise/sessions/insights`."""
    item = v3_item(session)
    item["num_user_messages"] = session.num_user_messages
    item["num_devin_messages"] = session.num_devin_messages
    item["session_size"] = session.session_size
    return _with_analysis(item, "analysis", session, session.analysis)


_RENDERINGS: dict[Feed, Callable[[Session], JsonObject]] = {
    "sessions_v2": v2_item,
    "session_insights_v2": v2_insights_item,
    "sessions_v3": v3_item,
    "session_insights_v3": v3_insights_item,
}
