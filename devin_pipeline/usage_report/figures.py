"""Reads what a report shows from the lake: figures by their measures, prompts, and how fresh and complete they are.

What a figure looks like does not belong here.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal

from devin_pipeline.billing_calendar import contiguous, days_between, starts_at
from devin_pipeline.lake import Connection, Damaged, Lake
from devin_pipeline.tables import RAW_SESSION_TABLES, TABLES, Table
from devin_pipeline.tables import measures as m
from devin_pipeline.tables.measures import Measure, Period
from devin_pipeline.usage_report.errors import NoDays, NoSuchOrganization
from devin_pipeline.usage_report.names import Names, read_names
from devin_pipeline.usage_report.question import Question

Value = Decimal | int | float | None
Key = tuple[str | date | None, ...]

DEFAULT_DAYS = 28
"""Four whole weeks, so that a period and the one before it have the same weekdays."""
TREND_DAYS = 84
MOST_DAYS_BY_DAY = 120
MOST_PROMPTS = 8
MOST_CHARACTERS_OF_A_PROMPT = 4_000
MOST_RANGES = 6
CAUSES = ("playbook_id", "category", "origin")
"""What sessions that merge little may have in common."""

TABLES_READ = (
    *("sessions", "session_pull_requests", "session_issues", "session_action_items", "prompt_suggestions"),
    *("prompt_feedback", "acu_daily", "acu_daily_by_tag", "acu_daily_by_repository", "pull_requests"),
    *("reconciliation_daily", "consumption_daily", "acu_consumed_daily", "session_acus_by_day"),
    *("organizations", "users", "playbooks"),
)
_KEPT = {
    # Of a message figures ask only whether there is one.
    "sessions": """* exclude (title, structured_output)
        replace (nullif(initial_user_message is not null, false) as initial_user_message)""",
    **dict.fromkeys(
        (
            *("session_pull_requests", "session_acus_by_day", "acu_daily", "acu_daily_by_tag"),
            *("acu_daily_by_repository", "pull_requests", "reconciliation_daily"),
        ),
        "*",
    ),
}
"""Columns that many figures ask for, and which are read but once; not texts, which are long."""


@dataclass(frozen=True)
class Figure:
    """One value of a measure, and the query that gives it."""

    measure: Measure
    value: Value
    period: Period
    org_id: str | None = None
    key: Mapping[str, str | date | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """One row of a breakdown: its key, and a figure per measure."""

    key: Key
    figures: Mapping[str, Figure]

    def value(self, measure: Measure) -> Value:
        """The value of a measure of this row."""
        return self.figures[measure.name].value


@dataclass(frozen=True)
class Prompt:
    """A prompt for which an analysis suggests a better one; texts are cut."""

    session_id: str
    user_id: str | None
    category: str | None
    acus: Figure
    original: str
    suggested: str
    feedback: Sequence[str]


@dataclass(frozen=True)
class Coverage:
    """Which days are there.

    Attributes:
        through: The last day that was read after it was over; the last day with sessions when none was.
        is_over: Whether that day was over when it was read.
        read_at: When the days of the period were last read; None when that is unknown.
        missing: Days of the period that some feed has not been read for.
        present: How many of its days are there.
        feeds: The raw tables that are read.
    """

    through: date
    is_over: bool
    read_at: datetime | None
    missing: Sequence[date]
    present: int
    feeds: Sequence[str]


@dataclass
class Figures:
    """All that a report shows."""

    period: Period
    before: Period | None
    trend: Period
    org_id: str | None
    day_starts_at_utc_hour: int
    is_demo: bool
    coverage: Coverage
    quarantined: int
    unreadable: Mapping[str, str]
    names: Names = field(default_factory=Names)
    totals: dict[str, Figure] = field(default_factory=dict)
    earlier: dict[str, Figure] = field(default_factory=dict)
    groups: dict[str, list[Group]] = field(default_factory=dict)
    prompts: list[Prompt] = field(default_factory=list)

    @property
    def by_week(self) -> bool:
        """Whether the trend is shown by week because it has too many days."""
        return (self.trend.last_day - self.trend.first_day).days >= MOST_DAYS_BY_DAY


HEADLINES = (
    m.ACUS,
    m.ACUS_PER_MERGED_PULL_REQUEST,
    m.NUMBER_OF_SESSIONS,
    m.MERGED_PULL_REQUESTS,
    m.MERGE_RATE,
    m.ACTIVE_USERS,
)
OTHER_TOTALS = (
    m.OPEN_PULL_REQUESTS,
    m.ACUS_WITHOUT_MERGED_PULL_REQUEST,
    m.SHARE_WITHOUT_MERGED_PULL_REQUEST,
    m.ACUS_WITHOUT_PULL_REQUEST,
    m.ACUS_PER_MERGED_PULL_REQUEST_DIRECT,
    m.ACUS_PER_SESSION,
    m.ACUS_PER_SESSION_MEDIAN,
    m.ACUS_PER_SESSION_P90,
    m.SHARE_OF_MERGING_SESSIONS,
    m.ANALYSIS_COVERAGE,
    m.ANALYSIS_COVERAGE_OF_ACUS,
    m.FEEDBACK_ITEMS_PER_ANALYSED_SESSION,
    m.RUNNING_SESSIONS,
    m.SESSIONS_WITH_UNKNOWN_ACUS,
)
TOTALS_OF_BILL = (
    m.BILLED_ACUS,
    m.BILLED_ACUS_OF_PRODUCTS_WITH_SESSIONS,
    m.BILLED_ACUS_OF_PRODUCTS_WITHOUT_SESSIONS,
    m.CONSUMED_ACUS,
    m.RESIDUAL_ACUS,
    m.RESIDUAL_SHARE,
    m.DAYS_OF_INCOMPLETE_HISTORY,
    m.ATTRIBUTION_COVERAGE,
)
_OF_BILL = (
    # First, as it has each day that was asked for.
    m.DAYS_ASKED_FOR,
    m.BILLED_ACUS,
    m.BILLED_ACUS_OF_PRODUCTS_WITH_SESSIONS,
    m.BILLED_ACUS_OF_PRODUCTS_WITHOUT_SESSIONS,
    m.BILLED_ACUS_UNSPLIT,
    m.RESIDUAL_ACUS,
    m.CONSUMED_ACUS,
)
_OF_GROUPS = (
    m.ACUS,
    m.NUMBER_OF_SESSIONS,
    m.MERGED_PULL_REQUESTS,
    m.ACUS_PER_MERGED_PULL_REQUEST,
)
_OF_CAUSES = (m.ACUS, m.NUMBER_OF_SESSIONS, m.ACUS_WITHOUT_MERGED_PULL_REQUEST, m.SHARE_WITHOUT_MERGED_PULL_REQUEST)

_PROMPTS = """
select
    prompt_suggestions.day,
    prompt_suggestions.session_id,
    sessions.user_id,
    sessions.category,
    left(prompt_suggestions.original_prompt, $characters) as original,
    left(prompt_suggestions.suggested_prompt, $characters) as suggested,
    (
        select list(left(summary, 300) order by ordinal)
        from prompt_feedback
        where
            prompt_feedback.day = prompt_suggestions.day
            and prompt_feedback.session_id = prompt_suggestions.session_id
    ) as feedback
from prompt_suggestions
inner join sessions
    on prompt_suggestions.day = sessions.day and prompt_suggestions.session_id = sessions.session_id
where
    prompt_suggestions.day between $first and $last
    and ($org_id::varchar is null or sessions.org_id = $org_id)
    and prompt_suggestions.suggested_prompt is distinct from prompt_suggestions.original_prompt
    -- Of text that was not stored an x is left for each character.
    and trim(prompt_suggestions.suggested_prompt, 'x') <> ''
order by sessions.acus desc nulls last, prompt_suggestions.session_id
limit $most
"""


def read_figures(lake: Lake, question: Question, hour: int, *, with_text: bool = True) -> Figures:
    """All that a report shows, from one version of each table.

    Args:
        lake: The lake.
        question: What the report is about.
        hour: Hour of the UTC day at which a billing day starts.
        with_text: Whether prompts are read.

    Raises:
        NoDays: None of the days that are asked for has been read.
        NoSuchOrganization: No session of the organization is in these days or the weeks before them.
        TooManyConflicts: Other runs wrote the tables all the time.
    """
    tables = [TABLES[name] for name in TABLES_READ]
    return lake.retry_until_inputs_stable(tables, None, lambda: _read(lake, question, hour, with_text))


def _read(lake: Lake, question: Question, hour: int, with_text: bool) -> Figures:
    reads, feeds = _reads(lake)
    identity = lake.identity
    is_demo = identity is not None and identity.kind == "demo"
    period, coverage = _period(question, reads, feeds, hour, is_demo=is_demo)
    before, trend = _before(period, coverage, reads), _trend(period, reads)
    first_day = min(each.first_day for each in (period, trend, before or period))
    unreadable: dict[str, str] = {}
    with Connection(remembers_footers=True) as connection:

        def open_table(name: str, days: Sequence[date] | None) -> None:
            try:
                connection.create_view(name, lake.cached_snapshot(TABLES[name]).query(days))
                connection.rows(f'select count(columns(*)) from "{name}"')  # noqa: S608 - our own names
                if name in _KEPT:
                    connection.cache_columns(name, _KEPT[name])
            except Damaged as error:
                unreadable[name] = error.why

        # Not the years before: they are read by few figures, and are large.
        days = days_between(first_day, period.last_day)
        open_table("session_acus_by_day", None)
        earlier = [] if "session_acus_by_day" in unreadable else _days_consumed_from(connection, period)
        for name in TABLES_READ:
            if name == "sessions":
                open_table(name, sorted({*days, *earlier}))
            elif name != "session_acus_by_day":
                open_table(name, days if TABLES[name].by_day else None)
        if question.org_id is not None and "acu_daily" not in unreadable:
            _require_organization(connection, question.org_id)
        figures = Figures(
            period,
            before,
            trend,
            question.org_id,
            hour,
            is_demo,
            coverage,
            _quarantined(lake, period),
            unreadable,
            read_names(connection, TABLES.keys() - unreadable.keys(), starts_at(period.last_day, hour, after=1)),
        )
        reader = _Reader(connection, figures, question.org_id)
        reader.read(with_text=with_text)
        # The bill of a lake of one organization has no rows of the enterprise.
        of_one = None if identity is None or identity.scope == "enterprise" else identity.scope
        _Reader(connection, figures, question.org_id or of_one).read_bill()
        if with_text and not {"prompt_suggestions", "prompt_feedback", "sessions"} & unreadable.keys():
            reader.read_prompts()
    return figures


class _Reader:
    """Asks a connection for the figures of one report."""

    def __init__(self, connection: Connection, figures: Figures, org_id: str | None) -> None:
        self._connection = connection
        self._figures = figures
        self._org_id = org_id

    def read(self, *, with_text: bool) -> None:
        """Every figure, in the order in which a page shows them; those by what analyses say, with text only."""
        f = self._figures
        f.totals = {measure.name: self._total(measure, f.period) for measure in (*HEADLINES, *OTHER_TOTALS)}
        if f.before is not None:
            compared = (*HEADLINES, m.OPEN_PULL_REQUESTS)
            f.earlier = {measure.name: self._total(measure, f.before) for measure in compared}
        when = "week" if f.by_week else "day"
        f.groups["time"] = self._groups([m.ACUS], (when, "org_id"), f.trend)
        f.groups["organization"] = self._groups(_OF_GROUPS, ("org_id",))
        f.groups["outcome"] = self._groups([m.ACUS_OF_SESSIONS, m.COUNT_OF_SESSIONS], ("outcome",))
        costs = (m.ACUS_PER_MERGED_PULL_REQUEST, m.ACUS_PER_MERGED_PULL_REQUEST_DIRECT, m.MERGED_PULL_REQUESTS)
        f.groups["week"] = self._groups(costs, ("week",), f.trend)
        by_size = ("org_id", "session_size")
        f.groups["size"] = self._groups([m.ACUS_OF_SESSIONS, m.COUNT_OF_SESSIONS], by_size)
        f.groups["state"] = self._groups([m.ACUS_OF_SESSIONS, m.COUNT_OF_SESSIONS], ("state",))
        for name in CAUSES:
            f.groups[name] = self._groups(_OF_CAUSES, (name,))
            issues = self._groups_of_text([m.SESSIONS_WITH_ISSUE], (name, "label")) if with_text else []
            f.groups[f"issue_of_{name}"] = issues
        f.groups["cause"] = self._groups([m.ACUS, m.ACUS_WITHOUT_MERGED_PULL_REQUEST], CAUSES)
        by_repository = (m.ACUS_SPLIT_BY_REPOSITORY, m.SESSIONS_WITH_REPOSITORY)
        f.groups["repository"] = self._groups(by_repository, ("host", "repository"))
        f.groups["tag"] = self._groups([m.ACUS_SPLIT_BY_TAG, m.SESSIONS_WITH_TAG], ("tag",))
        f.groups["user"] = self._groups(_OF_GROUPS, ("user_id", "service_user_id"))
        of_feedback = (m.ACUS_WITH_FEEDBACK, m.SESSIONS_WITH_FEEDBACK)
        f.groups["feedback"] = self._groups_of_text(of_feedback, ("summary",)) if with_text else []
        f.groups["issue"] = self._groups_of_text([m.SESSIONS_WITH_ISSUE], ("label", "impact")) if with_text else []
        f.groups["action_item"] = self._groups([m.NUMBER_OF_ACTION_ITEMS], ("type",))

    def read_bill(self) -> None:
        """The bill, and what sessions consumed, on the days of the period."""
        f = self._figures
        f.totals |= {measure.name: self._total(measure, f.period) for measure in TOTALS_OF_BILL}
        f.groups["bill"] = self._groups(_OF_BILL, ("day",))
        f.groups["bill_status_of_day"] = self._groups([m.DAYS_ASKED_FOR], ("day", "status"))
        f.groups["bill_status"] = self._groups([m.DAYS_ASKED_FOR], ("status",))
        f.groups["product"] = self._groups([m.BILLED_ACUS_BY_PRODUCT], ("product",))

    def read_prompts(self) -> None:
        """The suggestions of the sessions that consumed most."""
        f = self._figures
        rows = self._connection.rows(
            _PROMPTS,
            {
                "first": f.period.first_day,
                "last": f.period.last_day,
                "org_id": self._org_id,
                "characters": MOST_CHARACTERS_OF_A_PROMPT,
                "most": MOST_PROMPTS,
            },
        ).to_pylist()
        for row in rows:
            day = Period(row["day"], row["day"])
            acus = {group.key: group for group in self._groups([m.ACUS_OF_SESSIONS], ("session_id",), day)}
            f.prompts.append(
                Prompt(
                    row["session_id"],
                    row["user_id"],
                    row["category"],
                    acus[row["session_id"],].figures[m.ACUS_OF_SESSIONS.name],
                    row["original"] or "",
                    row["suggested"] or "",
                    [summary for summary in row["feedback"] or () if summary],
                )
            )

    def _total(self, measure: Measure, period: Period) -> Figure:
        (value,) = self._values(measure, (), period).values() or (None,)
        return Figure(measure, value, period, self._org_id)

    def _groups(self, measures: Sequence[Measure], by: Sequence[str], period: Period | None = None) -> list[Group]:
        """A row per group that the first measure has, the greatest value of that first; times in their order."""
        f = self._figures
        within = period or f.period
        values = {measure.name: self._values(measure, by, within) for measure in measures}
        groups = [
            Group(
                key,
                {
                    measure.name: Figure(
                        measure,
                        values[measure.name].get(key),
                        within,
                        self._org_id,
                        dict(zip(by, key, strict=True)),
                    )
                    for measure in measures
                },
            )
            for key in values[measures[0].name]
        ]
        if by[0] in m.TIMES:
            return groups
        # Equal ones by their key, so that the same rows give the same page.
        return sorted(groups, key=lambda group: (-(group.value(measures[0]) or -1), tuple(map(str, group.key))))

    def _groups_of_text(self, measures: Sequence[Measure], by: Sequence[str]) -> list[Group]:
        """The same, without those of a text that was not stored: of that an x is left for each character."""
        return [group for group in self._groups(measures, by) if set(str(group.key[-1])) != {"x"}]

    def _values(self, measure: Measure, by: Sequence[str], period: Period) -> dict[Key, Value]:
        if set(measure.tables) & self._figures.unreadable.keys():
            return {}
        rows = self._connection.rows(measure.query(period, org_id=self._org_id, by=by)).to_pylist()
        return {tuple(row[name] for name in by): row[measure.name] for row in rows}


def _period(
    question: Question, reads: Mapping[date, datetime | None], feeds: Sequence[str], hour: int, *, is_demo: bool
) -> tuple[Period, Coverage]:
    days = sorted(reads)
    if not days:
        raise NoDays(question.first_day, question.last_day, None, is_demo=is_demo)
    over = [day for day in days if _is_over(day, reads[day], hour)]
    through = over[-1] if over else days[-1]
    last = question.last_day or max(through, question.first_day or through)
    first = question.first_day or max(days[0], last - timedelta(days=DEFAULT_DAYS - 1))
    period = Period(min(first, last), last)
    wanted = days_between(period.first_day, period.last_day)
    present = [day for day in wanted if day in reads]
    if not present:
        raise NoDays(period.first_day, period.last_day, (days[0], days[-1]), is_demo=is_demo)
    instants = [at for day in present if (at := reads[day]) is not None]
    read_over = [day for day in present if _is_over(day, reads[day], hour)]
    coverage = Coverage(
        read_over[-1] if read_over else present[-1],
        bool(read_over),
        max(instants, default=None),
        [day for day in wanted if day not in reads],
        len(present),
        feeds,
    )
    return period, coverage


def _days_consumed_from(connection: Connection, period: Period) -> list[date]:
    """The days of the sessions that consumed ACUs in a period, whenever they were created."""
    rows = connection.rows(
        "select distinct day from session_acus_by_day where consumed_day between $first and $last",
        {"first": period.first_day, "last": period.last_day},
    )
    days: list[date] = rows.column("day").to_pylist()
    return days


def _require_organization(connection: Connection, org_id: str) -> None:
    known = [row["org_id"] for row in connection.rows("select distinct org_id from acu_daily").to_pylist()]
    if org_id not in known:
        raise NoSuchOrganization(org_id, [each for each in known if each is not None])


def _is_over(day: date, read_at: datetime | None, hour: int) -> bool:
    """Whether a day was over when it was read; where that was not noted, nothing says that it was not."""
    return read_at is None or read_at >= starts_at(day, hour, after=1)


def _reads(lake: Lake) -> tuple[dict[date, datetime | None], list[str]]:
    """When each day was last read in all feeds, None where only its rows show that it was; and the feeds."""
    known = lake.last_reads()
    by_feed = {table.name: known.of(table.name) for table in RAW_SESSION_TABLES if known.of(table.name)}
    days = _days_with_rows([TABLES["sessions"], TABLES["acu_daily"]], lake)
    reads: dict[date, datetime | None] = dict.fromkeys(days)
    if by_feed:
        everywhere = set.intersection(*(set(of_feed) for of_feed in by_feed.values()))
        reads |= {day: min(of_feed[day] for of_feed in by_feed.values()) for day in everywhere}
    feeds = list(by_feed) or [table.name for table in RAW_SESSION_TABLES if _days_with_rows([table], lake)]
    return reads, feeds


def _days_with_rows(tables: Iterable[Table], lake: Lake) -> set[date]:
    found: set[date] = set()
    for table in tables:
        try:
            found |= set(lake.cached_snapshot(table).rows_per_day())
        except Damaged:
            continue
    return found


def _before(period: Period, coverage: Coverage, reads: Collection[date]) -> Period | None:
    """As many days before the period as of it are there; None when some of them are not."""
    length = (period.last_day - period.first_day).days + 1
    elapsed = (min(period.last_day, coverage.through) - period.first_day).days + 1
    first = period.first_day - timedelta(days=length)
    last = first + timedelta(days=elapsed - 1)
    return Period(first, last) if elapsed > 0 and all(day in reads for day in days_between(first, last)) else None


def _trend(period: Period, reads: Collection[date]) -> Period:
    """The period and the weeks before it that are there, from a Monday on."""
    first = max(period.last_day - timedelta(days=TREND_DAYS - 1), min(reads))
    # A week that is cut looks like one in which little happened.
    first += timedelta(days=-first.weekday() % 7)
    return Period(min(first, period.first_day), period.last_day)


def _quarantined(lake: Lake, period: Period) -> int:
    try:
        rows = lake.cached_snapshot(TABLES["raw_quarantine"]).rows_per_day()
    except Damaged:
        return 0
    return sum(count for day, count in rows.items() if period.first_day <= day <= period.last_day)


def missing_in_words(days: Sequence[date]) -> str:
    """Days as ranges: `2026-11-03, 2026-11-07 … 2026-11-09`; of many ranges the newest, and how many days more."""
    runs = contiguous(days)
    shown = runs[-MOST_RANGES:]
    words = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} … {run[-1]}" for run in shown)
    more = len(days) - sum(map(len, shown))
    return f"{words}, and {more:,} days before" if more else words
