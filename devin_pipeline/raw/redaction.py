"""What of an item may not be stored: free text under DEVIN_TEXT=none, and whatever would tell who is forgotten.

Blanked text keeps its length, an `x` for each character. Ids, instants, enums, tags, numbers and links of pull
requests stay: the spend must add up as before. Fields no published page knows count as text.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from devin_pipeline.devin_api import canonical_id
from devin_pipeline.devin_api.lenient_json import value_without_lone_surrogates
from devin_pipeline.lake import ErasureList
from devin_pipeline.raw.row_hash import ROW_HASH, bytes_of, row_hashes
from devin_pipeline.tables import Table

Redacted = Literal["text", "ids"]

_BLANK = "x"

# Of the pages "List Enterprise Sessions (Insights)" (v2) and "List account sessions" (v3) of the API reference: the
# fields that hold no free text.
_PLAIN_FIELDS = frozenset(
    """
    session_id url status tags user_id org_id created_at updated_at acus_consumed service_user_id status_detail origin
    category subcategory playbook_id parent_session_id child_session_ids is_archived automation_id devin_mode
    num_user_messages num_devin_messages session_size
    """.split()  # noqa: SIM905 - a literal list would be a line per field
)
_ANALYSES = ("analysis", "session_analysis")
_PLAIN_IN_ANALYSIS = frozenset({"id", "issue_id", "type", "color"})
_PLAIN_IN_PULL_REQUEST = frozenset({"url", "state", "pr_url", "pr_state"})
_USERS = ("user_id", "service_user_id")

_ROWS_AT_ONCE = 2_000


class _Ids(msgspec.Struct):
    """What of an item names a user or a session; all else of it is passed over."""

    session_id: Any = None
    user_id: Any = None
    service_user_id: Any = None
    parent_session_id: Any = None
    child_session_ids: Any = None


_ids = msgspec.json.Decoder(_Ids)
_Members = dict[str, msgspec.Raw]
_members = msgspec.json.Decoder(_Members)
_pull_requests = msgspec.json.Decoder(list[_Members])
_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True)
class Redaction:
    """What may be stored at this moment.

    Attributes:
        keeps_text: False under DEVIN_TEXT=none.
        forgotten: Whom to forget.
    """

    keeps_text: bool
    forgotten: ErasureList

    def __bool__(self) -> bool:
        # guard: text under DEVIN_TEXT=none | not self.keeps_text or
        return not self.keeps_text or bool(self.forgotten)

    def session_id(self, session_id: str | None) -> str | None:
        """The id a session is stored under: its own, or a pseudonym."""
        if session_id is None or not self.forgotten:
            return session_id
        return self.forgotten.pseudonym("session", session_id) or session_id

    def payload(self, payload: bytes) -> tuple[bytes, Redacted | None]:
        """An item's JSON as it may be stored, and what of it is not as sent."""
        if not self or not payload:
            return payload, None
        try:
            return self._redacted(payload)
        # guard: text of absurd depth under DEVIN_TEXT=none | RecursionError -> ZeroDivisionError
        except RecursionError:
            # Nested too deeply to be looked into: nothing of it is known to be no text.
            return bytes(_blank(payload.decode())), "text"

    def _redacted(self, payload: bytes) -> tuple[bytes, Redacted | None]:
        members = _members_of(payload)
        if members is None:
            # No object, so no ids to look at: nothing of it is known to be no text.
            return (payload, None) if self.keeps_text else (bytes(_blank(payload.decode())), "text")
        aliases = self._aliases(members)
        is_forgotten = any(name in aliases for name in ("session_id", *_USERS))
        if self.keeps_text and not is_forgotten:
            return (_encode(members | aliases), "ids") if aliases else (payload, None)
        told = {name: _without_text(name, value) for name, value in members.items()}
        return _encode(told | aliases), "text"

    def may_change(self, rows: pa.Table) -> pa.Array:
        """Which rows of a raw table `rows` may change; every one that it does change is among them.

        Args:
            rows: Rows with `payload` and, except in the quarantine, `session_id`; with `redacted` where text is to go.
        """
        if not self.keeps_text:
            is_plain = pc.not_equal(pc.fill_null(rows.column("redacted"), ""), "text")
            blanks = pc.and_(pc.is_valid(rows.column("payload")), is_plain).combine_chunks()
        if not self.forgotten:
            return pa.array([False] * rows.num_rows, pa.bool_()) if self.keeps_text else blanks
        named: list[bool] = []
        for batch in rows.select([c for c in ("session_id", "payload") if c in rows.column_names]).to_batches(
            max_chunksize=_ROWS_AT_ONCE
        ):
            named += map(self._may_name, bytes_of(batch.column("payload")))
            if "session_id" in batch.schema.names and self.forgotten.has("session"):
                start = len(named) - batch.num_rows
                for place, session_id in enumerate(batch.column("session_id").to_pylist(), start):
                    named[place] |= self.session_id(session_id) != session_id
        found = pa.array(named, pa.bool_())
        return found if self.keeps_text else pc.or_(found, blanks)

    def rows(self, table: Table, rows: pa.Table) -> pa.Table:
        """Rows of a raw table as they may be stored; those that change get a new `row_hash`.

        Args:
            table: A raw session table or the quarantine.
            rows: Rows in its schema.
        """
        if not self or not rows.num_rows:
            return rows
        stored = rows.to_pylist()
        told = [self._row(row) for row in stored]
        redacted = pa.Table.from_pylist(told, table.schema)
        seals = [
            old[ROW_HASH] if new == old else seal
            for old, new, seal in zip(stored, told, row_hashes(table, redacted), strict=True)
        ]
        return redacted.set_column(table.column_names.index(ROW_HASH), ROW_HASH, pa.array(seals, pa.string()))

    def _row(self, row: dict[str, object]) -> dict[str, object]:
        told = dict(row)
        if isinstance(session_id := row.get("session_id"), str):
            told["session_id"] = self.session_id(session_id)
        # Blanked before, it stays blanked, whatever is allowed now.
        if isinstance(payload := row["payload"], str) and row["redacted"] != "text":
            text, redacted = self.payload(payload.encode())
            told |= {"payload": text.decode(), "redacted": redacted or row["redacted"]}
        elif isinstance(payload, str) and self.forgotten:
            text, _ = Redaction(True, self.forgotten).payload(payload.encode())
            told["payload"] = text.decode()
        return told

    def _may_name(self, payload: memoryview) -> bool:
        """Whether an item may name somebody forgotten; a quick look, and the same answer as `_aliases`."""
        if not payload:
            return False
        try:
            ids = _ids.decode(payload)
        except msgspec.ValidationError:
            return False  # no object, so no ids
        except (msgspec.DecodeError, RecursionError):
            return True  # the standard module, or a whole redaction, is to look at it
        users = (ids.user_id, ids.service_user_id)
        if any(isinstance(user, str) and self.forgotten.pseudonym("user", user) for user in users):
            return True
        if not self.forgotten.has("session"):
            return False
        sessions = [ids.session_id, ids.parent_session_id]
        if isinstance(ids.child_session_ids, list):
            sessions += ids.child_session_ids
        return any(self._alias_of(session_id) for session_id in sessions if session_id is not None)

    def _aliases(self, members: _Members) -> _Members:
        """The members that name somebody forgotten, with pseudonyms in place of ids."""
        if not self.forgotten:
            return {}
        aliases: dict[str, object] = {}
        of_session = self._alias_of(_value(members.get("session_id")))
        if of_session:
            aliases |= {"session_id": of_session, "url": None}
        for name in _USERS:
            user = _value(members.get(name))
            if isinstance(user, str) and (pseudonym := of_session or self.forgotten.pseudonym("user", user)):
                aliases[name] = pseudonym
        if parent := self._alias_of(_value(members.get("parent_session_id"))):
            aliases["parent_session_id"] = parent
        children = _value(members.get("child_session_ids"))
        if isinstance(children, list):
            told = [self._alias_of(child) or child for child in children]
            aliases |= {"child_session_ids": told} if told != children else {}
        return {name: msgspec.Raw(_encode(value)) for name, value in aliases.items() if name in members}

    def _alias_of(self, session_id: object) -> str | None:
        canonical = canonical_id(session_id)
        return canonical and self.forgotten.pseudonym("session", canonical)


def _members_of(payload: bytes) -> _Members | None:
    """An item's members as sent; None when it is no object."""
    try:
        return _members.decode(payload)
    except msgspec.ValidationError:
        return None
    except msgspec.DecodeError:
        # NaN or a lone surrogate, which the standard module takes.
        item = json.loads(payload, parse_constant=lambda _: None, parse_float=Decimal)
        return _members.decode(_encode(value_without_lone_surrogates(item))) if isinstance(item, dict) else None


def _value(raw: msgspec.Raw | None) -> object:
    return None if raw is None else msgspec.json.decode(raw)


def _without_text(name: str, raw: msgspec.Raw) -> msgspec.Raw:
    if name == "pull_requests":
        return _pull_requests_without_text(raw)
    value = _value(raw)
    if name in _PLAIN_FIELDS:
        parts = value if isinstance(value, list) else [value]
        is_plain = not any(isinstance(part, list | dict) for part in parts)
        return raw if is_plain else _blank(bytes(raw).decode())
    if name in _ANALYSES and isinstance(value, dict):
        return msgspec.Raw(_encode(_analysis_without_text(value)))
    if isinstance(value, str):
        return _blank(value)
    return _blank(bytes(raw).decode()) if isinstance(value, list | dict) else raw


def _pull_requests_without_text(raw: msgspec.Raw) -> msgspec.Raw:
    try:
        told = [
            {
                name: value if name in _PLAIN_IN_PULL_REQUEST else _without_text("", value)
                for name, value in each.items()
            }
            for each in _pull_requests.decode(raw)
        ]
    except msgspec.ValidationError:
        return _without_text("", raw)
    return msgspec.Raw(_encode(told))


def _analysis_without_text(value: object) -> object:
    if isinstance(value, str):
        return _BLANK * len(value)
    if isinstance(value, list):
        return [_analysis_without_text(part) for part in value]
    if isinstance(value, Mapping):
        return {
            name: part if name in _PLAIN_IN_ANALYSIS and isinstance(part, str) else _analysis_without_text(part)
            for name, part in value.items()
        }
    return value


def _blank(text: str) -> msgspec.Raw:
    return msgspec.Raw(_encode(_BLANK * len(text)))
