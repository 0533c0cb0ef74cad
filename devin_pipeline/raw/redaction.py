"""What of a raw row may not be stored: free text under DEVIN_TEXT=none, and whatever would show who was erased.

Blanked text keeps its length, an `x` for each character. Ids, instants, enums, tags, numbers and links of pull
requests stay: the spend must add up as before. Which columns and members hold what is declared in `tables`; members
that no published page of the API knows count as text.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from devin_pipeline.devin_api import canonical_id
from devin_pipeline.devin_api.lenient_json import value_without_lone_surrogates
from devin_pipeline.lake import ErasureList
from devin_pipeline.raw.row_hash import ROW_HASH, bytes_of, row_hashes, with_row_hash
from devin_pipeline.tables import RAW, PayloadFields, RawTable
from devin_pipeline.tables.raw import DIRECTORY_FIELDS, SESSION_FIELDS

Redacted = Literal["text", "ids"]

_BLANK = "x"
_ROWS_AT_ONCE = 2_000

_Row = dict[str, Any]
_Members = dict[str, msgspec.Raw]
_members = msgspec.json.Decoder(_Members)
_objects = msgspec.json.Decoder(list[_Members])
_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True)
class Redaction:
    """What may be stored at this moment.

    Attributes:
        keeps_text: False under DEVIN_TEXT=none.
        erased: Whose text and identity were erased.
    """

    keeps_text: bool
    erased: ErasureList

    def __bool__(self) -> bool:
        # guard: text under DEVIN_TEXT=none | not self.keeps_text or
        return not self.keeps_text or bool(self.erased)

    def keys(self, table: RawTable, rows: pa.Table) -> pa.Table:
        """Rows that were read, under the ids that they are stored under: their own, or pseudonyms.

        They are compared with what is stored by these. All else is redacted by `new_rows`, of what differs only.

        Args:
            table: The raw table that they are for.
            rows: Rows with some of its columns.
        """
        columns = [name for name in _id_columns(table) if name in rows.column_names]
        if not self.erased or not columns:
            return rows
        looked_at = {*columns, table.payload, table.fields_by} & set(rows.column_names)
        stored = [row | self._aliases_of_columns(table, row) for row in rows.select(sorted(looked_at)).to_pylist()]
        for name in columns:
            place = rows.column_names.index(name)
            rows = rows.set_column(place, name, pa.array([row[name] for row in stored], pa.string()))
        return rows

    def new_rows(self, table: RawTable, rows: pa.Table) -> pa.Table:
        """Rows to be added to a raw table as they are stored, with their `row_hash`.

        Args:
            table: The raw table.
            rows: Rows in its schema, under the ids that `keys` gave.
        """
        if self and rows.num_rows:
            rows = pa.Table.from_pylist([self._row(table, row) for row in rows.to_pylist()], table.schema)
        return with_row_hash(table, rows)

    def stored_rows(self, table: RawTable, rows: pa.Table) -> pa.Table:
        """Stored rows of a raw table as they may be stored from now on; those that change get a new `row_hash`."""
        if not self or not rows.num_rows:
            return rows
        stored = rows.to_pylist()
        redacted = [self._row(table, row) for row in stored]
        new = pa.Table.from_pylist(redacted, table.schema)
        hashes = [
            before[ROW_HASH] if after == before else row_hash
            for before, after, row_hash in zip(stored, redacted, row_hashes(table, new), strict=True)
        ]
        return new.set_column(table.column_names.index(ROW_HASH), ROW_HASH, pa.array(hashes, pa.string()))

    def may_change(self, table: RawTable, rows: pa.Table) -> pa.Array:
        """Which stored rows `stored_rows` may change; every one that it does change is among them.

        Args:
            table: The raw table.
            rows: Rows with its payload and the columns that hold ids; with `redacted` where text is to go.
        """
        if not self.keeps_text:
            is_plain = pc.not_equal(pc.fill_null(rows.column("redacted"), ""), "text")
            blanks = pc.and_(pc.is_valid(rows.column(table.payload)), is_plain).combine_chunks()
        if not self.erased:
            return pa.array([False] * rows.num_rows, pa.bool_()) if self.keeps_text else blanks
        named: list[bool] = []
        looked_at = {*_id_columns(table), table.payload, table.fields_by} & set(rows.column_names)
        for batch in rows.select(sorted(looked_at)).to_batches(max_chunksize=_ROWS_AT_ONCE):
            kinds = batch.column(table.fields_by).to_pylist() if table.fields is None else [""] * batch.num_rows
            payloads = bytes_of(batch.column(table.payload))
            may_name = [self._may_name(p, _fields(table, kind)) for p, kind in zip(payloads, kinds, strict=True)]
            for name in _id_columns(table):
                of: Literal["user", "session"] = "user" if name in table.user_columns else "session"
                if self.erased.has(of):
                    for place, id_ in enumerate(batch.column(name).to_pylist()):
                        may_name[place] |= self.erased.alias(of, id_) not in (None, id_)
            named += may_name
        found = pa.array(named, pa.bool_())
        return found if self.keeps_text else pc.or_(found, blanks)

    def payload(
        self, payload: bytes, fields: PayloadFields, *, person: str | None = None, is_of_erased: bool = False
    ) -> tuple[bytes, Redacted | None]:
        """A payload as it may be stored, and what of it is not as sent.

        Args:
            payload: An object's JSON.
            fields: What its members hold.
            person: What stands for the one user whom all of it is about, if that user was erased.
            is_of_erased: Whether it is about somebody who was erased, whatever it says itself.
        """
        if not self or not payload:
            return payload, None
        try:
            return self._redacted(payload, fields, person, is_of_erased)
        # guard: text of absurd depth under DEVIN_TEXT=none | RecursionError -> ZeroDivisionError
        except RecursionError:
            # Nested too deeply to be looked into: nothing of it is known to be no text.
            return bytes(_blank(payload.decode())), "text"

    def _redacted(
        self, payload: bytes, fields: PayloadFields, person: str | None, is_of_erased: bool
    ) -> tuple[bytes, Redacted | None]:
        members = _members_of(payload)
        if members is None:
            # No object, so no ids to look at: nothing of it is known to be no text.
            keeps = self.keeps_text and not is_of_erased
            return (payload, None) if keeps else (bytes(_blank(payload.decode())), "text")
        aliases = self._aliases(members, fields, person)
        if self.keeps_text and not is_of_erased and not any(name in aliases for name in fields.about):
            return (_encode(members | aliases), "ids") if aliases else (payload, None)
        without_text = {name: _without_text(name, value, fields) for name, value in members.items()}
        return _encode(without_text | aliases), "text"

    def _row(self, table: RawTable, row: _Row) -> _Row:
        aliases = self._aliases_of_columns(table, row)
        stored = row | aliases
        payload = row[table.payload]
        if not isinstance(payload, str):
            return stored
        fields = _fields(table, row.get(table.fields_by, ""))
        person = next(iter(aliases.values()), None) if fields.is_of_one_user else None
        # Blanked before, it stays blanked, whatever is allowed now.
        if row["redacted"] != "text":
            text, redacted = self.payload(payload.encode(), fields, person=person, is_of_erased=bool(aliases))
            return stored | {table.payload: text.decode(), "redacted": redacted or row["redacted"]}
        if self.erased:
            text, _ = Redaction(True, self.erased).payload(payload.encode(), fields, person=person)
            stored[table.payload] = text.decode()
        return stored

    def _aliases_of_columns(self, table: RawTable, row: _Row) -> dict[str, str]:
        """The columns that name somebody erased, with pseudonyms in place of ids."""
        if not self.erased:
            return {}
        users = {name: self.erased.alias("user", row[name]) for name in table.user_columns if row[name] is not None}
        fields = _fields(table, row.get(table.fields_by, ""))
        if fields.is_of_one_user:
            names = [*users.values(), *self._users_of_payload(table, row, fields)]
            person = next((name for name in names if name is not None), None)
            users = dict.fromkeys(users, person)
        sessions = {name: self.erased.alias("session", row[name]) for name in table.session_columns}
        return {name: alias for name, alias in (users | sessions).items() if alias is not None}

    def _users_of_payload(self, table: RawTable, row: _Row, fields: PayloadFields) -> list[str | None]:
        """What stands for the users whom a payload names, as far as they were erased."""
        if not isinstance(payload := row.get(table.payload), str):
            return []
        members = _members_of(payload.encode()) or {}
        users = [_value(members.get(name)) for name in fields.users]
        return [self.erased.pseudonym("user", user) for user in users if isinstance(user, str)]

    def _may_name(self, payload: memoryview, fields: PayloadFields) -> bool:
        """Whether a payload may name somebody erased; a quick look, and the same answer as `_aliases`."""
        if not payload or not fields.identity:
            return False
        try:
            ids = _ids_of(fields).decode(payload)
        except msgspec.ValidationError:
            return False  # no object, so no ids
        except (msgspec.DecodeError, RecursionError):
            return True  # the standard module, or a whole redaction, is to look at it
        users = (getattr(ids, name) for name in (*fields.users, *fields.other_users))
        if any(isinstance(user, str) and self.erased.pseudonym("user", user) for user in users):
            return True
        if not self.erased.has("session"):
            return False
        sessions = [getattr(ids, name) for name in (*fields.session_members, *fields.other_sessions)]
        for name in fields.session_lists:
            if isinstance(listed := getattr(ids, name), list):
                sessions += listed
        return any(self._alias_of(session_id) for session_id in sessions if session_id is not None)

    def _aliases(self, members: _Members, fields: PayloadFields, person: str | None) -> _Members:
        """The members that name somebody erased, with pseudonyms in place of ids."""
        if not self.erased:
            return {}
        aliases: dict[str, object] = {}
        for name in fields.session_members:
            if of_session := self._alias_of(_value(members.get(name))):
                person = of_session
                aliases |= {name: of_session} | dict.fromkeys(fields.session_links)
        for name in fields.users:
            user = _value(members.get(name))
            if isinstance(user, str) and (pseudonym := person or self.erased.pseudonym("user", user)):
                aliases[name] = pseudonym
        for name in fields.other_users:
            user = _value(members.get(name))
            if isinstance(user, str) and (pseudonym := self.erased.pseudonym("user", user)):
                aliases[name] = pseudonym
        for name in fields.other_sessions:
            if other := self._alias_of(_value(members.get(name))):
                aliases[name] = other
        for name in fields.session_lists:
            listed = _value(members.get(name))
            if isinstance(listed, list):
                redacted = [self._alias_of(each) or each for each in listed]
                aliases |= {name: redacted} if redacted != listed else {}
        return {name: msgspec.Raw(_encode(value)) for name, value in aliases.items() if name in members}

    def _alias_of(self, session_id: object) -> str | None:
        canonical = canonical_id(session_id)
        return canonical and self.erased.pseudonym("session", canonical)


def _id_columns(table: RawTable) -> tuple[str, ...]:
    return (*table.user_columns, *table.session_columns)


def _fields(table: RawTable, kind: str) -> PayloadFields:
    """What the members of a payload hold; of a feed that is not known, what those of sessions do."""
    if table.fields is not None:
        return table.fields
    if kind in DIRECTORY_FIELDS:
        return DIRECTORY_FIELDS[kind]
    # guard: persons in the quarantine of a feed that is gone | SESSION_FIELDS -> PayloadFields()
    return (RAW[kind].fields if kind in RAW else None) or SESSION_FIELDS


@cache
def _ids_of(fields: PayloadFields) -> msgspec.json.Decoder[Any]:
    """Reads of a payload what names a user or a session; all else of it is passed over."""
    return msgspec.json.Decoder(msgspec.defstruct("Ids", [(name, Any, None) for name in fields.identity]))


def _members_of(payload: bytes) -> _Members | None:
    """An item's members as sent; None when it is not an object."""
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


def _without_text(name: str, raw: msgspec.Raw, fields: PayloadFields) -> msgspec.Raw:
    for list_, plain in fields.plain_in_lists:
        if name == list_:
            return _objects_without_text(raw, plain)
    value = _value(raw)
    if name in fields.plain:
        parts = value if isinstance(value, list) else [value]
        is_plain = not any(isinstance(part, list | dict) for part in parts)
        return raw if is_plain else _blank(bytes(raw).decode())
    for object_, plain in fields.plain_within:
        if name == object_ and isinstance(value, dict):
            return msgspec.Raw(_encode(_object_without_text(value, plain)))
    if isinstance(value, str):
        return _blank(value)
    return _blank(bytes(raw).decode()) if isinstance(value, list | dict) else raw


def _objects_without_text(raw: msgspec.Raw, plain: frozenset[str]) -> msgspec.Raw:
    try:
        redacted = [
            {
                name: value if name in plain else _without_text("", value, PayloadFields())
                for name, value in each.items()
            }
            for each in _objects.decode(raw)
        ]
    except msgspec.ValidationError:
        return _without_text("", raw, PayloadFields())
    return msgspec.Raw(_encode(redacted))


def _object_without_text(value: object, plain: frozenset[str]) -> object:
    if isinstance(value, str):
        return _BLANK * len(value)
    if isinstance(value, list):
        return [_object_without_text(part, plain) for part in value]
    if isinstance(value, Mapping):
        return {
            name: part if name in plain and isinstance(part, str) else _object_without_text(part, plain)
            for name, part in value.items()
        }
    return value


def _blank(text: str) -> msgspec.Raw:
    return msgspec.Raw(_encode(_BLANK * len(text)))
