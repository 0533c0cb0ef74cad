"""The figures people decide from: name, unit, meaning and SQL of each, and what they may be summed over.

A measure of a period and a scope becomes one SELECT, which a reader who doubts a figure can run. Running it does not
belong here, nor what a figure looks like.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

Unit = Literal["ACUs", "sessions", "users", "pull requests", "items", "days", "share", "ACUs each", "items each"]

TIMES = {"day": "day", "week": "date_trunc('week', day)::date", "month": "date_trunc('month', day)::date"}
"""By what a measure may be grouped in time, as SQL over `day`; a week begins on Monday."""

_OF_SESSIONS = ("org_id", "user_id", "service_user_id", "origin", "category", "playbook_id", "state")


class NotAdditive(ValueError):
    """Values of a measure would be added up that overlap, or that are no amounts."""


class NoSuchDimension(ValueError):
    """A measure is asked for by what its rows do not have."""


@dataclass(frozen=True)
class Source:
    """The rows that measures aggregate; each has a `day` and may have an `org_id`.

    Attributes:
        tables: The tables it reads; measures are documented with the first of them.
        dimensions: The columns that measures may be grouped by, besides time.
        query: A SELECT over the tables; the first table itself when left out.
        whole: The `org_id` of rows that are about all organizations, if there are such: they count when no organization
            is asked for, and no row of a single one next to them.
    """

    tables: tuple[str, ...]
    dimensions: tuple[str, ...]
    query: str = ""
    whole: str = ""

    @property
    def relation(self) -> str:
        """What stands behind `from`."""
        return self.tables[0] if not self.query else f"(\n{_indented(self.query, 1)}\n)"

    def scope(self, org_id: str | None, by: Sequence[str]) -> str:
        """The condition on organizations; empty where every row counts."""
        if org_id is not None:
            return f"org_id = {_quoted(org_id)}"
        if not self.whole:
            return ""
        # guard: an enterprise's bill next to those of its organizations | "org_id" in by -> True
        compared = "<>" if "org_id" in by else "="
        return f"org_id {compared} {_quoted(self.whole)}"


@dataclass(frozen=True)
class Period:
    """Billing days, both ends included."""

    first_day: date
    last_day: date


@dataclass(frozen=True)
class Measure:
    """One figure.

    Attributes:
        name: Its name in SQL and in documents.
        title: Its name on a page.
        unit: What is counted. `share` is a fraction of one; `… each` is an amount per something.
        definition: What it is, in one sentence.
        when_null: When its value is null, in one sentence.
        source: The rows it aggregates.
        sql: The aggregate over these rows; of a ratio, both parts come in its place.
        numerator: Of a ratio: what is divided.
        denominator: Of a ratio: by what. 0 gives null.
        additive_over: `day` or columns over which its values add up: the value of the whole is their sum.
        why_not: Why its values do not add up over others, in one sentence.
    """

    name: str
    title: str
    unit: Unit
    definition: str
    when_null: str
    source: Source
    sql: str = ""
    numerator: "Measure | None" = None
    denominator: "Measure | None" = None
    additive_over: tuple[str, ...] = ()
    why_not: str = ""
    tables: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        parts = [part.source for part in (self.numerator, self.denominator) if part] or [self.source]
        object.__setattr__(self, "tables", tuple(dict.fromkeys(name for part in parts for name in part.tables)))

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The columns it may be grouped by, besides time."""
        if self.numerator is None or self.denominator is None:
            return self.source.dimensions
        return tuple(name for name in self.numerator.dimensions if name in self.denominator.dimensions)

    def require_additive(self, dimension: str) -> None:
        """Refuse to add up values of one dimension that do not add up.

        Raises:
            NotAdditive: They do not; the reason and what to ask for instead are said.
            NoSuchDimension: It has no values per value of this dimension.
        """
        self._require_dimension(dimension)
        if ("day" if dimension in TIMES else dimension) not in self.additive_over:
            raise NotAdditive(
                f"{self.name} cannot be summed over {dimension}: {self.why_not} Ask for it without {dimension} instead"
            )

    def query(self, period: Period, *, org_id: str | None = None, by: Sequence[str] = ()) -> str:
        """One SELECT: a row per group with the columns of `by` and one named like the measure, ordered by `by`.

        Args:
            period: The billing days.
            org_id: The only organization to look at; all when left out.
            by: `day`, `week` or `month`, and columns of `dimensions`.

        Raises:
            NoSuchDimension: It cannot be grouped by one of these.
        """
        for name in by:
            self._require_dimension(name)
        if self.numerator is None or self.denominator is None:
            return _select(self.name, self.sql, self.source, period, org_id, by) + _ordered(by)
        # Where the API gives 0 ACUs for every session, nothing can be said of what one of anything cost.
        # guard: what seems to cost nothing | "nullif(divided.micro, 0)" if -> "divided.micro" if
        divided = "nullif(divided.micro, 0)" if self.unit == "ACUs each" else "divided.micro"
        return (
            "with\n"
            f"divided as (\n{_indented(self.numerator._part(period, org_id, by), 1)}\n),\n\n"
            f"divisor as (\n{_indented(self.denominator._part(period, org_id, by), 1)}\n)\n\n"
            "select\n"
            + "".join(f"    divided.{name},\n" for name in by)
            # In whole micro-units, as `exact_ratio` does: a decimal that is divided becomes a double.
            + f"    ((2000000 * {divided} + sign(divided.micro) * divisor.micro)\n"
            + f"        // nullif(2 * divisor.micro, 0))::bigint * 0.000001 as {self.name}\n"
            + "from divided\n"
            + (_matched(by) if by else "cross join divisor")
            + _ordered(by, "divided.")
        )

    def _require_dimension(self, name: str) -> None:
        if name not in TIMES and name not in self.dimensions:
            known = ", ".join((*TIMES, *self.dimensions))
            raise NoSuchDimension(f"{self.name} cannot be grouped by {name}: only by {known}")

    def _part(self, period: Period, org_id: str | None, by: Sequence[str]) -> str:
        micro = f"(({self.sql})::decimal(38, 6) * 1000000)::hugeint"
        return _select("micro", micro, self.source, period, org_id, by)


def _select(name: str, sql: str, source: Source, period: Period, org_id: str | None, by: Sequence[str]) -> str:
    groups = [f"{TIMES[each]} as {each}" if each in ("week", "month") else each for each in by]
    columns = ",\n".join(f"    {each}" for each in (*groups, f"{sql} as {name}"))
    scope = f"\n    and {condition}" if (condition := source.scope(org_id, by)) else ""
    return (
        f"select\n{columns}\nfrom {source.relation}\n"
        f"where\n    day between date '{period.first_day}' and date '{period.last_day}'{scope}"
        + (f"\ngroup by {', '.join(TIMES.get(each, each) for each in by)}" if by else "")
    )


def _matched(by: Sequence[str]) -> str:
    equal = " and ".join(f"divided.{name} is not distinct from divisor.{name}" for name in by)
    return f"left join divisor on {equal}"


def _ordered(by: Sequence[str], prefix: str = "") -> str:
    return f"\norder by {', '.join(prefix + name for name in by)}" if by else ""


def _indented(text: str, depth: int) -> str:
    return "\n".join("    " * depth + line if line else line for line in text.splitlines())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


WHOLE = "(enterprise)"
"""The `org_id` of the rows of a bill that are about the enterprise."""

CUBE = Source(("acu_daily",), _OF_SESSIONS)
SESSIONS_WITH_OUTCOME = Source(
    ("sessions", "session_pull_requests"),
    (*_OF_SESSIONS, "session_id", "session_size", "outcome"),
    """\
select
    sessions.*,
    coalesce(linked.outcome, 'none') as outcome
from sessions
left join (
    select
        day,
        session_id,
        case
            when count(*) filter (where state = 'merged') > 0 then 'merged'
            when count(*) filter (where state = 'closed') = count(*) then 'closed'
            else 'open'
        end as outcome
    from session_pull_requests
    group by day, session_id
) as linked on sessions.day = linked.day and sessions.session_id = linked.session_id""",
)
PULL_REQUESTS_OF_SESSIONS = Source(
    ("pull_requests", "sessions"),
    ("org_id", "user_id", "service_user_id", "origin", "category", "playbook_id", "host", "repository"),
    """\
select
    pull_requests.*,
    pull_requests.first_day as day,
    sessions.user_id,
    sessions.service_user_id,
    sessions.origin,
    sessions.category,
    sessions.playbook_id
from pull_requests
left join sessions
    on pull_requests.first_day = sessions.day and pull_requests.first_session_id = sessions.session_id""",
)
TAGS = Source(("acu_daily_by_tag",), ("org_id", "tag"))
REPOSITORIES = Source(("acu_daily_by_repository",), ("org_id", "host", "repository"))
BILL = Source(("reconciliation_daily",), ("org_id", "status"), whole=WHOLE)
BILL_BY_PRODUCT = Source(
    ("consumption_daily",),
    ("org_id", "product"),
    """\
select
    *,
    scope_id as org_id
from consumption_daily
where scope in ('enterprise', 'organization')""",
    WHOLE,
)
CONSUMED = Source(
    ("acu_consumed_daily",), ("org_id", "user_id", "service_user_id", "origin", "category", "playbook_id")
)
CONSUMED_BY_METHOD = Source(
    ("session_acus_by_day", "sessions"),
    ("org_id", "user_id", "service_user_id", "origin", "category", "playbook_id", "attribution_method"),
    """\
select
    session_acus_by_day.consumed_day as day,
    session_acus_by_day.attribution_method,
    session_acus_by_day.acus,
    sessions.org_id,
    sessions.user_id,
    sessions.service_user_id,
    sessions.origin,
    sessions.category,
    sessions.playbook_id
from session_acus_by_day
left join sessions
    on session_acus_by_day.day = sessions.day and session_acus_by_day.session_id = sessions.session_id""",
)


def _of_analyses(table: str, *columns: str) -> Source:
    return Source(
        (table, "sessions"),
        ("org_id", "origin", "category", "playbook_id", *columns),
        f"""\
select
    {table}.*,
    sessions.org_id,
    sessions.origin,
    sessions.category,
    sessions.playbook_id,
    sessions.acus
from {table}
inner join sessions on {table}.day = sessions.day and {table}.session_id = sessions.session_id""",  # noqa: S608 - names
    )


ISSUES = _of_analyses("session_issues", "label", "impact")
ACTION_ITEMS = _of_analyses("session_action_items", "type")
FEEDBACK = _of_analyses("prompt_feedback", "summary")

_NEVER_NULL = "Never null."
_NO_ROWS = "Null when there are no such sessions."
_NO_ACUS = "Null when there are no such sessions, or none has ACUs."
_ALL_OF_SESSIONS = ("day", *_OF_SESSIONS)
_ALL_OF_OUTCOMES = (*_ALL_OF_SESSIONS, "session_id", "session_size", "outcome")
_ALL_OF_PULL_REQUESTS = ("day", *PULL_REQUESTS_OF_SESSIONS.dimensions)
_IS_RATIO = "it is a ratio, and ratios do not add up."
_OVERLAPS = "one session may count for several of them."

# Of what a conversation with Devin took place in, and which is not at work any more.
_IS_ELIGIBLE = "state <> 'running' and (num_devin_messages > 0 or initial_user_message is not null)"

ACUS = Measure(
    "acus",
    "Cohort ACUs",
    "ACUs",
    "Cohort ACUs: those that the sessions created in the period took to date, on whichever day; they grow while these "
    "are at work. What was used on the days of the period is `consumed_acus`.",
    "Null when the ACUs of all these sessions are unknown.",
    CUBE,
    "sum(acus)",
    additive_over=_ALL_OF_SESSIONS,
)
NUMBER_OF_SESSIONS = Measure(
    "sessions",
    "Sessions",
    "sessions",
    "Sessions created in the period, those started by other sessions included.",
    _NEVER_NULL,
    CUBE,
    "coalesce(sum(sessions), 0)::bigint",
    additive_over=_ALL_OF_SESSIONS,
)
SESSIONS_WITH_UNKNOWN_ACUS = Measure(
    "sessions_with_unknown_acus",
    "Sessions with unknown ACUs",
    "sessions",
    "Sessions created in the period whose ACUs the API did not give; they count in no sum of ACUs.",
    _NEVER_NULL,
    CUBE,
    "coalesce(sum(sessions_with_unknown_acus), 0)::bigint",
    additive_over=_ALL_OF_SESSIONS,
)
RUNNING_SESSIONS = Measure(
    "running_sessions",
    "Sessions still at work",
    "sessions",
    "Sessions created in the period that were at work when they were last read; their ACUs may still grow.",
    _NEVER_NULL,
    CUBE,
    "coalesce(sum(sessions) filter (where state = 'running'), 0)::bigint",
    additive_over=_ALL_OF_SESSIONS,
)
ACTIVE_USERS = Measure(
    "active_users",
    "Active users",
    "users",
    "Distinct users who created at least one session in the period; service users are not counted.",
    _NEVER_NULL,
    CUBE,
    "count(distinct user_id)",
    why_not="one user may count for several of them.",
)
SESSIONS_WITH_MERGED_PULL_REQUEST = Measure(
    "sessions_with_merged_pull_request",
    "Sessions with a merged pull request",
    "sessions",
    "Sessions created in the period that link at least one merged pull request.",
    _NEVER_NULL,
    CUBE,
    "coalesce(sum(sessions_with_merged_pull_request), 0)::bigint",
    additive_over=_ALL_OF_SESSIONS,
)
ACUS_OF_MERGING_SESSIONS = Measure(
    "acus_of_merging_sessions",
    "ACUs of sessions with a merged pull request",
    "ACUs",
    "ACUs of the sessions created in the period that link at least one merged pull request.",
    "Null when there are such sessions and the ACUs of all of them are unknown.",
    CUBE,
    "case when coalesce(sum(sessions_with_merged_pull_request), 0) = 0 then 0 else sum(acus_of_merging_sessions) end",
    additive_over=_ALL_OF_SESSIONS,
)
ANALYSED_SESSIONS = Measure(
    "analysed_sessions",
    "Analysed sessions",
    "sessions",
    "Sessions created in the period that have a non-empty analysis.",
    _NEVER_NULL,
    CUBE,
    "coalesce(sum(analysed_sessions), 0)::bigint",
    additive_over=_ALL_OF_SESSIONS,
)
FEEDBACK_ITEMS = Measure(
    "feedback_items",
    "Feedback items",
    "items",
    "Feedback items on the prompts of the sessions created in the period.",
    _NEVER_NULL,
    CUBE,
    "coalesce(sum(feedback_items), 0)::bigint",
    additive_over=_ALL_OF_SESSIONS,
)


def _acus_of(name: str, title: str, what: str, condition: str) -> Measure:
    return Measure(
        name,
        title,
        "ACUs",
        f"ACUs of the sessions created in the period that {what}.",
        "Null when there are such sessions and the ACUs of all of them are unknown.",
        SESSIONS_WITH_OUTCOME,
        f"case when count(*) filter (where {condition}) = 0 then 0 else sum(acus) filter (where {condition}) end",
        additive_over=_ALL_OF_OUTCOMES,
    )


ACUS_WITHOUT_PULL_REQUEST = _acus_of(
    "acus_without_pull_request", "ACUs without a pull request", "link no pull request", "outcome = 'none'"
)
ACUS_WITHOUT_MERGED_PULL_REQUEST = _acus_of(
    "acus_without_merged_pull_request",
    "ACUs without a merged pull request",
    "link no merged pull request (yet)",
    "outcome <> 'merged'",
)
ACUS_OF_SESSIONS = Measure(
    "acus_of_sessions",
    "ACUs of sessions",
    "ACUs",
    "ACUs of the sessions created in the period, by outcome, size or session. An outcome is merged when any pull "
    "request is merged, else open when any is not closed, else closed; none is without a pull request.",
    "Null when the ACUs of all these sessions are unknown.",
    SESSIONS_WITH_OUTCOME,
    "sum(acus)",
    additive_over=_ALL_OF_OUTCOMES,
)
COUNT_OF_SESSIONS = Measure(
    "count_of_sessions",
    "Sessions, counted one by one",
    "sessions",
    "Sessions created in the period, by outcome, size or state; outcomes as in `acus_of_sessions`.",
    _NEVER_NULL,
    SESSIONS_WITH_OUTCOME,
    "count(*)",
    additive_over=_ALL_OF_OUTCOMES,
)
ACUS_PER_SESSION_MEDIAN = Measure(
    "acus_per_session_median",
    "ACUs per session, median",
    "ACUs each",
    "Half of the sessions created in the period with known ACUs consumed at most so much.",
    _NO_ACUS,
    SESSIONS_WITH_OUTCOME,
    "case when sum(acus) <> 0 then quantile_cont(acus, 0.5) end",
    why_not="it is a median, and medians do not add up.",
)
ACUS_PER_SESSION_P90 = Measure(
    "acus_per_session_p90",
    "ACUs per session, 90th percentile",
    "ACUs each",
    "Nine of ten sessions created in the period with known ACUs consumed at most so much.",
    _NO_ACUS,
    SESSIONS_WITH_OUTCOME,
    "case when sum(acus) <> 0 then quantile_cont(acus, 0.9) end",
    why_not="it is a percentile, and percentiles do not add up.",
)
ELIGIBLE_SESSIONS = Measure(
    "eligible_sessions",
    "Sessions that can be analysed",
    "sessions",
    "Sessions created in the period that are not at work any more and had a message.",
    _NEVER_NULL,
    SESSIONS_WITH_OUTCOME,
    f"count(*) filter (where {_IS_ELIGIBLE})",
    additive_over=_ALL_OF_OUTCOMES,
)
ANALYSED_ELIGIBLE_SESSIONS = Measure(
    "analysed_eligible_sessions",
    "Those of them that are analysed",
    "sessions",
    "Sessions created in the period that are not at work any more, had a message and have a non-empty analysis.",
    _NEVER_NULL,
    SESSIONS_WITH_OUTCOME,
    f"count(*) filter (where has_analysis and {_IS_ELIGIBLE})",
    additive_over=_ALL_OF_OUTCOMES,
)
ACUS_OF_ELIGIBLE_SESSIONS = _acus_of(
    "acus_of_eligible_sessions",
    "ACUs of sessions that can be analysed",
    "are not at work any more and had a message",
    _IS_ELIGIBLE,
)
ACUS_OF_ANALYSED_ELIGIBLE_SESSIONS = _acus_of(
    "acus_of_analysed_eligible_sessions",
    "ACUs of those of them that are analysed",
    "are not at work any more, had a message and have a non-empty analysis",
    f"has_analysis and {_IS_ELIGIBLE}",
)


def _pull_requests(name: str, title: str, what: str, condition: str = "") -> Measure:
    return Measure(
        name,
        title,
        "pull requests",
        f"Distinct pull requests first linked by a session created in the period{what}.",
        _NEVER_NULL,
        PULL_REQUESTS_OF_SESSIONS,
        f"count(*) filter (where {condition})" if condition else "count(*)",
        additive_over=_ALL_OF_PULL_REQUESTS,
    )


PULL_REQUESTS = _pull_requests("pull_requests", "Pull requests", ", however many sessions link them")
MERGED_PULL_REQUESTS = _pull_requests(
    "merged_pull_requests", "Merged pull requests", " that are merged", "state = 'merged'"
)
CLOSED_PULL_REQUESTS = _pull_requests(
    "closed_pull_requests", "Closed pull requests", " that are closed and not merged", "state = 'closed'"
)
DECIDED_PULL_REQUESTS = _pull_requests(
    "decided_pull_requests", "Decided pull requests", " that are merged or closed", "state in ('merged', 'closed')"
)
OPEN_PULL_REQUESTS = _pull_requests(
    "open_pull_requests",
    "Open pull requests",
    " that are neither merged nor closed, or whose state is unknown",
    "coalesce(state, '') not in ('merged', 'closed')",
)


def _ratio(
    name: str,
    title: str,
    unit: Unit,
    definition: str,
    numerator: Measure,
    denominator: Measure,
    when_null: str,
) -> Measure:
    return Measure(
        name,
        title,
        unit,
        definition,
        when_null,
        numerator.source,
        numerator=numerator,
        denominator=denominator,
        why_not=_IS_RATIO,
    )


MERGE_RATE = _ratio(
    "merge_rate",
    "Merge rate",
    "share",
    "Merged pull requests divided by those that are merged or closed; open ones are not decided yet.",
    MERGED_PULL_REQUESTS,
    DECIDED_PULL_REQUESTS,
    "Null when none is decided.",
)
ACUS_PER_MERGED_PULL_REQUEST = _ratio(
    "acus_per_merged_pull_request",
    "ACUs per merged pull request",
    "ACUs each",
    "ACUs of all sessions created in the period, those without a result too, divided by the merged pull requests.",
    ACUS,
    MERGED_PULL_REQUESTS,
    "Null when none is merged, or no session has ACUs.",
)
ACUS_PER_MERGED_PULL_REQUEST_DIRECT = _ratio(
    "acus_per_merged_pull_request_direct",
    "ACUs per merged pull request, direct",
    "ACUs each",
    "ACUs of the sessions with a merged pull request alone, divided by the merged pull requests.",
    ACUS_OF_MERGING_SESSIONS,
    MERGED_PULL_REQUESTS,
    "Null when none is merged, or no such session has ACUs.",
)
ACUS_PER_SESSION = _ratio(
    "acus_per_session",
    "ACUs per session",
    "ACUs each",
    "ACUs divided by all sessions created in the period, those with unknown ACUs too.",
    ACUS,
    NUMBER_OF_SESSIONS,
    _NO_ACUS,
)
ACUS_PER_ACTIVE_USER = _ratio(
    "acus_per_active_user",
    "ACUs per active user",
    "ACUs each",
    "ACUs divided by the active users.",
    ACUS,
    ACTIVE_USERS,
    "Null when no user created a session, or no session has ACUs.",
)
SHARE_OF_MERGING_SESSIONS = _ratio(
    "share_of_merging_sessions",
    "Sessions that merged",
    "share",
    "Sessions with at least one merged pull request divided by all sessions created in the period.",
    SESSIONS_WITH_MERGED_PULL_REQUEST,
    NUMBER_OF_SESSIONS,
    _NO_ROWS,
)
SHARE_WITHOUT_MERGED_PULL_REQUEST = _ratio(
    "share_of_acus_without_merged_pull_request",
    "Share of ACUs without a merged pull request",
    "share",
    "ACUs of sessions without a merged pull request (yet), divided by the ACUs of all sessions created in the period.",
    ACUS_WITHOUT_MERGED_PULL_REQUEST,
    ACUS_OF_SESSIONS,
    "Null when nothing was consumed.",
)
ANALYSIS_COVERAGE = _ratio(
    "analysis_coverage",
    "Analysis coverage",
    "share",
    "Sessions with an analysis divided by those that can be analysed: not at work any more, and with a message. People "
    "start an analysis by hand, so analysed sessions are no random choice.",
    ANALYSED_ELIGIBLE_SESSIONS,
    ELIGIBLE_SESSIONS,
    "Null when none can be analysed.",
)
ANALYSIS_COVERAGE_OF_ACUS = _ratio(
    "analysis_coverage_of_acus",
    "Analysis coverage of ACUs",
    "share",
    "ACUs of the sessions with an analysis divided by those of the sessions that can be analysed: not at work any "
    "more, and with a message. It says how much of the spend is judged by prompts to fix, issues and action items.",
    ACUS_OF_ANALYSED_ELIGIBLE_SESSIONS,
    ACUS_OF_ELIGIBLE_SESSIONS,
    "Null when none can be analysed, and when their ACUs are unknown.",
)
FEEDBACK_ITEMS_PER_ANALYSED_SESSION = _ratio(
    "feedback_items_per_analysed_session",
    "Feedback items per analysed session",
    "items each",
    "Feedback items on prompts divided by the sessions with an analysis.",
    FEEDBACK_ITEMS,
    ANALYSED_SESSIONS,
    "Null when none is analysed.",
)

ACUS_SPLIT_BY_TAG = Measure(
    "acus_split_by_tag",
    "ACUs, shared over tags",
    "ACUs",
    "ACUs of the sessions created in the period, each session's shared equally over its tags.",
    "Null when the ACUs of all these sessions are unknown.",
    TAGS,
    "sum(acus_split)",
    additive_over=("day", "org_id", "tag"),
)
SESSIONS_WITH_TAG = Measure(
    "sessions_with_tag",
    "Sessions with a tag",
    "sessions",
    "Sessions created in the period that have the tag.",
    _NEVER_NULL,
    TAGS,
    "coalesce(sum(sessions), 0)::bigint",
    additive_over=("day", "org_id", "origin", "category", "playbook_id"),
    why_not=_OVERLAPS,
)
ACUS_SPLIT_BY_REPOSITORY = Measure(
    "acus_split_by_repository",
    "ACUs, shared over repositories",
    "ACUs",
    "ACUs of the sessions created in the period, each session's shared equally over the repositories of its pull "
    "requests.",
    "Null when the ACUs of all these sessions are unknown.",
    REPOSITORIES,
    "sum(acus_split)",
    additive_over=("day", "org_id", "host", "repository"),
)
SESSIONS_WITH_REPOSITORY = Measure(
    "sessions_with_repository",
    "Sessions with a repository",
    "sessions",
    "Sessions created in the period that link a pull request of the repository.",
    _NEVER_NULL,
    REPOSITORIES,
    "coalesce(sum(sessions), 0)::bigint",
    additive_over=("day", "org_id", "origin", "category", "playbook_id"),
    why_not=_OVERLAPS,
)
SESSIONS_WITH_ISSUE = Measure(
    "sessions_with_issue",
    "Sessions with an issue",
    "sessions",
    "Sessions created in the period whose analysis names an issue.",
    _NEVER_NULL,
    ISSUES,
    "count(distinct (day, session_id))",
    additive_over=("day", "org_id", "origin", "category", "playbook_id"),
    why_not=_OVERLAPS,
)
NUMBER_OF_ACTION_ITEMS = Measure(
    "action_items",
    "Action items",
    "items",
    "Action items in the analyses of the sessions created in the period.",
    _NEVER_NULL,
    ACTION_ITEMS,
    "count(*)",
    additive_over=("day", "org_id", "origin", "category", "playbook_id", "type"),
)
SESSIONS_WITH_FEEDBACK = Measure(
    "sessions_with_feedback",
    "Sessions with feedback",
    "sessions",
    "Sessions created in the period whose analysis has feedback on the prompt.",
    _NEVER_NULL,
    FEEDBACK,
    "count(distinct (day, session_id))",
    additive_over=("day", "org_id", "origin", "category", "playbook_id"),
    why_not=_OVERLAPS,
)
ACUS_WITH_FEEDBACK = Measure(
    "acus_with_feedback",
    "ACUs of sessions with feedback",
    "ACUs",
    "ACUs of the sessions created in the period whose analysis has feedback on the prompt, each counted once.",
    "Null when there are no such sessions, and when the ACUs of all of them are unknown.",
    FEEDBACK,
    # A session may have one summary twice, and several summaries.
    "list_sum(list_transform(list_distinct(list((day, session_id, acus))), lambda each: each[3]))",
    additive_over=("day", "org_id", "origin", "category", "playbook_id"),
    why_not=_OVERLAPS,
)

_OF_BILL = ("day", "status")
_IS_REFUSED_TO_SOME = (
    "the bill of an organization may be refused, and what is left of the enterprise's is then unknown."
)


def _billed(name: str, title: str, what: str, when_null: str) -> Measure:
    return Measure(
        name,
        title,
        "ACUs",
        f"Billed ACUs of the days of the period{what}; of the enterprise, or of one organization.",
        when_null,
        BILL,
        f"sum({name})",
        additive_over=_OF_BILL,
        why_not=_IS_REFUSED_TO_SOME,
    )


_NO_BILL = "Null when no bill of these days could be read."
_NO_SPLIT = "Null when no bill of these days could be read, and when none says the products."
BILLED_ACUS = _billed("billed_acus", "Billed ACUs", ", of all products", _NO_BILL)
BILLED_ACUS_OF_PRODUCTS_WITH_SESSIONS = _billed(
    "billed_acus_of_products_with_sessions",
    "Billed ACUs of products with sessions",
    ", of the products that sessions use",
    _NO_SPLIT,
)
BILLED_ACUS_OF_PRODUCTS_WITHOUT_SESSIONS = _billed(
    "billed_acus_of_products_without_sessions",
    "Billed ACUs of products without sessions",
    ", of the products that have no sessions",
    _NO_SPLIT,
)
BILLED_ACUS_UNSPLIT = _billed(
    "billed_acus_unsplit", "Billed ACUs of no product", ", of which the bill does not say the product", _NO_BILL
)
BILLED_ACUS_BY_PRODUCT = Measure(
    "billed_acus_by_product",
    "Billed ACUs by product",
    "ACUs",
    "Billed ACUs of the days of the period, by the product that the bill names; of the enterprise, or of one "
    "organization. `(all)` is a bill that names none, `(unsplit)` what the products leave of one.",
    "Null when no bill of these days could be read.",
    BILL_BY_PRODUCT,
    "sum(acus)",
    additive_over=("day", "product"),
    why_not="what is billed to the enterprise alone is missing from their sum.",
)
CONSUMED_ACUS = Measure(
    "consumed_acus",
    "Consumed ACUs",
    "ACUs",
    "Consumed ACUs: those that sessions used on the days of the period, whenever the sessions were created. Those of "
    "the sessions created in the period are cohort ACUs, `acus`.",
    "Null when no session with known ACUs was at work.",
    CONSUMED,
    "sum(acus)",
    additive_over=("day", *CONSUMED.dimensions),
)
RESIDUAL_ACUS = Measure(
    "residual_acus",
    "Residual",
    "ACUs",
    "ACUs billed for products with sessions, minus those that sessions consumed on the same days: what no session "
    "explains. Only closed days count, which ended more than 48 hours ago; below 0, sessions consumed more.",
    "Null when no closed day has a bill that can be compared.",
    BILL,
    "sum(residual_acus) filter (where is_closed)",
    additive_over=_OF_BILL,
    why_not=_IS_REFUSED_TO_SOME,
)
BILLED_ACUS_COMPARED = Measure(
    "billed_acus_compared",
    "Billed ACUs that are compared",
    "ACUs",
    "ACUs billed for products with sessions on the closed days whose residual is known.",
    "Null when no closed day has a bill that can be compared.",
    BILL,
    "sum(billed_acus_of_products_with_sessions) filter (where is_closed and residual_acus is not null)",
    additive_over=_OF_BILL,
    why_not=_IS_REFUSED_TO_SOME,
)
DAYS_ASKED_FOR = Measure(
    "days_asked_for",
    "Days whose bill was asked for",
    "days",
    "Days of the period whose bill was asked for, by what came of it.",
    _NEVER_NULL,
    BILL,
    "count(distinct day)",
    additive_over=_OF_BILL,
    why_not="one day has a row for each of them.",
)
DAYS_OF_INCOMPLETE_HISTORY = Measure(
    "days_of_incomplete_history",
    "Days that lack earlier sessions",
    "days",
    "Closed days with a residual for which not all sessions of the 35 days before are read: what those consumed on the "
    "day is part of the residual.",
    _NEVER_NULL,
    BILL,
    "count(distinct day) filter (where is_closed and not history_is_complete and abs(residual_acus) > 0.000001)",
    additive_over=_OF_BILL,
    why_not="one day has a row for each of them.",
)
CONSUMED_ACUS_BY_METHOD = Measure(
    "consumed_acus_by_method",
    "Consumed ACUs by method",
    "ACUs",
    "Consumed ACUs of the days of the period, by the method that says on which day a session consumed them.",
    "Null when no session with known ACUs was at work.",
    CONSUMED_BY_METHOD,
    "sum(acus)",
    additive_over=("day", *CONSUMED_BY_METHOD.dimensions),
)
CONSUMED_ACUS_OF_SURE_DAY = Measure(
    "consumed_acus_of_sure_day",
    "Consumed ACUs whose day is sure",
    "ACUs",
    "Consumed ACUs whose day the API says (`api_daily`), or of sessions that began and ended on it (`single_day`).",
    "Null when no session with known ACUs was at work.",
    CONSUMED_BY_METHOD,
    "case\n"
    "        when count(acus) > 0\n"
    "            then coalesce(sum(acus) filter (where attribution_method in ('api_daily', 'single_day')), 0)\n"
    "    end",
    additive_over=("day", *CONSUMED_BY_METHOD.dimensions),
)
RESIDUAL_SHARE = _ratio(
    "residual_share",
    "Residual share",
    "share",
    "The residual divided by the ACUs billed for products with sessions on the same closed days.",
    RESIDUAL_ACUS,
    BILLED_ACUS_COMPARED,
    "Null when no closed day has a bill that can be compared, and when nothing was billed.",
)
ATTRIBUTION_COVERAGE = _ratio(
    "attribution_coverage",
    "Coverage of sure days",
    "share",
    "Consumed ACUs whose day the API says, or of sessions that began and ended on it, divided by all consumed ACUs; "
    "the day of the others is estimated.",
    CONSUMED_ACUS_OF_SURE_DAY,
    CONSUMED_ACUS_BY_METHOD,
    "Null when nothing was consumed.",
)

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        ACUS,
        NUMBER_OF_SESSIONS,
        SESSIONS_WITH_UNKNOWN_ACUS,
        RUNNING_SESSIONS,
        ACTIVE_USERS,
        ACUS_PER_SESSION,
        ACUS_PER_SESSION_MEDIAN,
        ACUS_PER_SESSION_P90,
        ACUS_PER_ACTIVE_USER,
        PULL_REQUESTS,
        MERGED_PULL_REQUESTS,
        CLOSED_PULL_REQUESTS,
        DECIDED_PULL_REQUESTS,
        OPEN_PULL_REQUESTS,
        MERGE_RATE,
        ACUS_PER_MERGED_PULL_REQUEST,
        ACUS_PER_MERGED_PULL_REQUEST_DIRECT,
        SESSIONS_WITH_MERGED_PULL_REQUEST,
        SHARE_OF_MERGING_SESSIONS,
        ACUS_OF_MERGING_SESSIONS,
        ACUS_OF_SESSIONS,
        COUNT_OF_SESSIONS,
        ACUS_WITHOUT_PULL_REQUEST,
        ACUS_WITHOUT_MERGED_PULL_REQUEST,
        SHARE_WITHOUT_MERGED_PULL_REQUEST,
        ACUS_SPLIT_BY_TAG,
        SESSIONS_WITH_TAG,
        ACUS_SPLIT_BY_REPOSITORY,
        SESSIONS_WITH_REPOSITORY,
        ELIGIBLE_SESSIONS,
        ANALYSED_ELIGIBLE_SESSIONS,
        ANALYSED_SESSIONS,
        ANALYSIS_COVERAGE,
        ACUS_OF_ELIGIBLE_SESSIONS,
        ACUS_OF_ANALYSED_ELIGIBLE_SESSIONS,
        ANALYSIS_COVERAGE_OF_ACUS,
        FEEDBACK_ITEMS,
        FEEDBACK_ITEMS_PER_ANALYSED_SESSION,
        SESSIONS_WITH_ISSUE,
        NUMBER_OF_ACTION_ITEMS,
        SESSIONS_WITH_FEEDBACK,
        ACUS_WITH_FEEDBACK,
        BILLED_ACUS,
        BILLED_ACUS_OF_PRODUCTS_WITH_SESSIONS,
        BILLED_ACUS_OF_PRODUCTS_WITHOUT_SESSIONS,
        BILLED_ACUS_UNSPLIT,
        BILLED_ACUS_BY_PRODUCT,
        CONSUMED_ACUS,
        RESIDUAL_ACUS,
        BILLED_ACUS_COMPARED,
        RESIDUAL_SHARE,
        DAYS_ASKED_FOR,
        DAYS_OF_INCOMPLETE_HISTORY,
        CONSUMED_ACUS_BY_METHOD,
        CONSUMED_ACUS_OF_SURE_DAY,
        ATTRIBUTION_COVERAGE,
    )
}


def measures_of(table: str) -> list[Measure]:
    """The measures that are documented with a table: those whose rows come from it first."""
    return [measure for measure in MEASURES.values() if measure.tables[0] == table]
