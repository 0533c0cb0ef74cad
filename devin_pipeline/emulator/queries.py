"""Reading query strings the way the API's framework does: every mistake is collected and reported with where it was.

Which parameters exist and what their bounds mean in each version belongs here. Answering does not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import QueryParams

from devin_pipeline.emulator.enterprise import Query
from devin_pipeline.emulator.sessions import Feed, microseconds_since_epoch

# The published filter values; responses carry others too.
ORIGINS = ("webapp", "slack", "teams", "api", "linear", "jira", "scheduled", "automation", "cli", "desktop", "other")
CATEGORIES = (
    "bug_fixing",
    "ci_cd_and_devops",
    "code_quality_and_security",
    "code_review_and_analysis",
    "data_and_automation",
    "documentation_and_content",
    "feature_development",
    "migrations_and_upgrades",
    "other",
    "refactoring_and_optimization",
    "research_and_exploration",
    "unit_test_generation",
)
_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}", re.ASCII)
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?",
    re.ASCII,
)
_TRUTHS = {"true": True, "1": True, "yes": True, "on": True, "t": True, "y": True}
_FALSEHOODS = {"false": False, "0": False, "no": False, "off": False, "f": False, "n": False}


class Invalid(Exception):
    """The query string breaks the contract; `detail` is the body of the 422."""

    def __init__(self, detail: list[dict[str, Any]]) -> None:
        super().__init__("invalid query")
        self.detail = detail


class QueryReader:
    """Reads parameters one by one and remembers what was wrong; unknown parameters are never looked at."""

    def __init__(self, params: QueryParams) -> None:
        self._params = params
        self._detail: list[dict[str, Any]] = []

    def check(self) -> None:
        """Raise `Invalid` when anything read so far was wrong."""
        if self._detail:
            raise Invalid(self._detail)

    def wrong(self, where: Sequence[str | int], kind: str, message: str, value: str, **context: Any) -> None:
        """Remember a mistake in the framework's words."""
        entry: dict[str, Any] = {"type": kind, "loc": ["query", *where], "msg": message, "input": value}
        if context:
            entry["ctx"] = context
        self._detail.append(entry)

    def text(self, name: str) -> str | None:
        """Read a single value; of several the last counts."""
        return self._params.get(name)

    def texts(self, name: str) -> frozenset[str] | None:
        """Read repeated keys; a comma separates nothing."""
        return frozenset(self._params.getlist(name)) or None

    def integer(
        self, name: str, default: int | None = None, at_least: int | None = None, at_most: int | None = None
    ) -> int | None:
        """Read an integer within bounds."""
        text = self.text(name)
        if text is None:
            return default
        if not _INTEGER.fullmatch(text.strip()):
            message = "Input should be a valid integer, unable to parse string as an integer"
            self.wrong([name], "int_parsing", message, text)
            return default
        value = int(text)
        if at_least is not None and value < at_least:
            message = f"Input should be greater than or equal to {at_least}"
            self.wrong([name], "greater_than_equal", message, text, ge=at_least)
        elif at_most is not None and value > at_most:
            self.wrong([name], "less_than_equal", f"Input should be less than or equal to {at_most}", text, le=at_most)
        return value

    def boolean(self, name: str) -> bool:
        """Read a boolean in any of the framework's spellings; False when left out."""
        text = self.text(name)
        value = False if text is None else {**_TRUTHS, **_FALSEHOODS}.get(text.lower())
        if value is None:
            self.wrong([name], "bool_parsing", "Input should be a valid boolean, unable to interpret input", text or "")
        return bool(value)

    def choices(self, name: str, allowed: Sequence[str]) -> frozenset[str] | None:
        """Read repeated keys of an enumeration."""
        for position, value in enumerate(self._params.getlist(name)):
            if value not in allowed:
                self._wrong_choice([name, position], value, allowed)
        return self.texts(name)

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """Read a single value of an enumeration."""
        value = self.text(name)
        if value is not None and value not in allowed:
            self._wrong_choice([name], value, allowed)
        return value

    def _wrong_choice(self, where: Sequence[str | int], value: str, allowed: Sequence[str]) -> None:
        quoted = [f"'{each}'" for each in allowed]
        expected = f"{', '.join(quoted[:-1])} or {quoted[-1]}"
        self.wrong(where, "enum", f"Input should be {expected}", value, expected=expected)

    def instant(self, name: str) -> int | None:
        """Read an ISO date-time (or Unix seconds) as microseconds; without an offset it is taken as UTC."""
        text = self.text(name)
        if text is None:
            return None
        try:
            if _INTEGER.fullmatch(text):
                return microseconds_since_epoch(datetime.fromtimestamp(int(text), UTC))
            if not _INSTANT.fullmatch(text):
                raise ValueError(text)
            instant = datetime.fromisoformat(text)
        except (ValueError, OverflowError, OSError):
            self.wrong([name], "datetime_from_date_parsing", "Input should be a valid datetime or date", text)
            return None
        return microseconds_since_epoch(instant if instant.tzinfo else instant.replace(tzinfo=UTC))

    def seconds(self, name: str) -> int | None:
        """Read Unix seconds as microseconds."""
        value = self.integer(name)
        return None if value is None else value * 1_000_000


def _bare(session_ids: frozenset[str] | None) -> frozenset[str] | None:
    # Pages of the documentation disagree on whether ids carry the prefix here: both are understood.
    return None if session_ids is None else frozenset(each.removeprefix("devin-") for each in session_ids)


def _after(bound: int | None) -> int | None:
    return None if bound is None else bound + 1


def read_v2(params: QueryParams, feed: Feed, org_id: str | None) -> tuple[Query, int, int]:
    """Read a v2 listing: the query, `skip` and `limit`.

    The upper bounds of v2 are taken as inclusive. No page says so; a client that survives this survives the other too.
    """
    reader = QueryReader(params)
    skip = reader.integer("skip", 0, at_least=0)
    limit = reader.integer("limit", 100, at_least=1, at_most=200)
    query = Query(
        feed,
        created_from=reader.instant("created_date_from"),
        created_until=_after(reader.instant("created_date_to")),
        updated_from=reader.instant("updated_date_from"),
        updated_until=_after(reader.instant("updated_date_to")),
        session_ids=_bare(reader.texts("session_ids")),
        org_ids=reader.texts("org_ids") if org_id is None else frozenset([org_id]),
        user_ids=reader.texts("user_ids"),
    )
    reader.check()
    return query, skip or 0, limit or 100


def read_v3(params: QueryParams, feed: Feed, org_id: str | None) -> tuple[Query, str | None, int]:
    """Read a v3 listing: the query, the cursor as sent and `first`. Windows are half-open."""
    reader = QueryReader(params)
    first = reader.integer("first", 100, at_least=1, at_most=200)
    query = Query(
        feed,
        created_from=reader.seconds("created_after"),
        created_until=reader.seconds("created_before"),
        updated_from=reader.seconds("updated_after"),
        updated_until=reader.seconds("updated_before"),
        session_ids=_bare(reader.texts("session_ids")),
        org_ids=reader.texts("org_ids") if org_id is None else frozenset([org_id]),
        user_ids=reader.texts("user_ids"),
        service_user_ids=reader.texts("service_user_ids"),
        tags=reader.texts("tags"),
        origins=reader.choices("origins", ORIGINS),
        repo_names=reader.texts("repo_names"),
        category=reader.choice("category", CATEGORIES),
        playbook_id=reader.text("playbook_id"),
        schedule_id=reader.text("schedule_id"),
        include_deleted_orgs=reader.boolean("include_deleted_orgs"),
    )
    reader.check()
    return query, reader.text("after"), first or 100
