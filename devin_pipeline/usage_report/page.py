"""Writes figures as one HTML page that needs nothing else: no network, no file next to it."""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import jinja2
import vl_convert
from markupsafe import Markup

from devin_pipeline.tables import measures as m
from devin_pipeline.tables.measures import Measure
from devin_pipeline.usage_report import charts, text
from devin_pipeline.usage_report.bill import (
    BillTime,
    bands_shown,
    bill_over_time,
    days_by_status,
    days_of_status,
    why_no_bill,
)
from devin_pipeline.usage_report.figures import (
    HEADLINES,
    MOST_CHARACTERS_OF_A_PROMPT,
    Figure,
    Figures,
    Group,
    missing_in_words,
)
from devin_pipeline.usage_report.findings import dearest_causes, reasons_for_absence
from devin_pipeline.usage_report.question import Appearance

_FOLDER = Path(__file__).parent
_MOST_SERIES = 12
_MOST_ROWS = 8
_MOST_LABELS = 12
_ENOUGH_MERGED = 5
# Of a chart without scripts, which does not fit itself to its place.
_WIDTHS = {"time": 760, "outcome": 420, "week": 420, "size": 420, "state": 420, "issue": 420, "bill": 760}
# In a table whose heading says the rest.
_SHORT_TITLES = {
    m.ACUS.name: "ACUs",
    m.BILLED_ACUS_BY_PRODUCT.name: "Billed ACUs",
    m.ACUS_OF_SESSIONS.name: "ACUs",
    m.ACUS_SPLIT_BY_REPOSITORY.name: "ACUs",
    m.ACUS_SPLIT_BY_TAG.name: "ACUs",
    m.ACUS_PER_MERGED_PULL_REQUEST.name: "ACUs per merged",
    m.ACUS_PER_MERGED_PULL_REQUEST_DIRECT.name: "direct",
    m.COUNT_OF_SESSIONS.name: "Sessions",
    m.SESSIONS_WITH_REPOSITORY.name: "Sessions",
    m.SESSIONS_WITH_TAG.name: "Sessions",
    m.SESSIONS_WITH_ISSUE.name: "Sessions",
    m.SESSIONS_WITH_FEEDBACK.name: "Sessions",
    m.ACUS_WITH_FEEDBACK.name: "ACUs",
    m.MERGED_PULL_REQUESTS.name: "Merged",
    m.SHARE_WITHOUT_MERGED_PULL_REQUEST.name: "Not merged",
}
# What the rows of a section are ids of, where that is not its name.
_IDS = {"organization": "org_id", "user": "user_id"}
_WITHOUT_TEXT = dict.fromkeys(
    ("feedback", "prompts", "issue"), "This report was made without prompts and what analyses say of them."
)
_FEEDBACK = (
    "What analyses say of prompts, by the ACUs of the sessions that got it. A session may count in several rows."
)
_GOOD_WHEN_LESS = {m.ACUS_PER_MERGED_PULL_REQUEST.name}
_GOOD_WHEN_MORE = {m.MERGED_PULL_REQUESTS.name, m.MERGE_RATE.name}
_CHANGED_BY_MERGING = {m.MERGED_PULL_REQUESTS.name, m.ACUS_PER_MERGED_PULL_REQUEST.name}


def write_page(figures: Figures, appearance: Appearance, now: datetime | None = None) -> str:
    """The page.

    Args:
        figures: What it shows.
        appearance: How.
        now: When it is written; now when left out.
    """
    if appearance.masks_users:
        figures = _masked(figures)
    script = "" if appearance.static else _script()
    style = (_FOLDER / "page.css").read_text()
    times_of_bill = [] if why_no_bill(figures) else bill_over_time(figures)
    drawn = _charts(figures) | _chart_of_bill(figures, times_of_bill)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_source(script)}" if script else "script-src 'none'",
            f"style-src {_source(style)}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            f=figures,
            appearance=appearance,
            policy=policy,
            script=Markup(script),  # noqa: S704 - our own and vl-convert's code
            style=Markup(style),  # noqa: S704 - our own
            charts=drawn,
            pictures=_pictures(drawn) if appearance.static else {},
            table_of_time=_table_of_time(figures),
            kpis=[_headline(figures, measure) for measure in HEADLINES],
            causes=dearest_causes(figures),
            absent=reasons_for_absence(figures) | ({} if appearance.with_text else _WITHOUT_TEXT),
            breakdowns=_breakdowns(figures),
            sizes=_sizes_of_dearest(figures),
            names=figures.names,
            bill=_Bill(figures, times_of_bill),
            prompts=[(prompt, *text.difference(prompt.original, prompt.suggested)) for prompt in figures.prompts],
            measures=list(m.MEASURES.values()),
            m=m,
            now=now or datetime.now(UTC),
            version=version("devin-pipeline"),
            enough_merged=_ENOUGH_MERGED,
            most_characters=MOST_CHARACTERS_OF_A_PROMPT,
        )
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "label": text.label,
        "shown": text.shown,
        "missing": missing_in_words,
        "figure": lambda figure: text.number(figure.value, figure.measure.unit),
        "key_of": _key_of,
        "width_of": _width,
        "code": text.code,
        "acus": lambda value: text.number(value, "ACUs"),
        "short": lambda measure: _SHORT_TITLES.get(measure.name, measure.title),
    }
    return environment


@cache
def _script() -> str:
    """Vega's libraries and what draws the charts with them."""
    bundle: str = vl_convert.javascript_bundle((_FOLDER / "page.js").read_text())
    # It ends where it says so, whatever its texts hold.
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _source(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"


def _pictures(drawn: Mapping[str, charts.Chart]) -> dict[str, Markup]:
    pictures = {}
    for name, chart in drawn.items():
        svg = vl_convert.vegalite_to_svg({**chart.spec, "width": _WIDTHS[name]})
        # Vega escapes the texts in it.
        pictures[name] = Markup(svg)  # noqa: S704
    return pictures


def _charts(f: Figures) -> dict[str, charts.Chart]:
    """The chart of each section that has rows."""
    found: dict[str, charts.Chart] = {}
    groups = f.groups
    if groups["time"]:
        rows, series = _over_time(f)
        begins = f.period.first_day if f.trend.first_day < f.period.first_day and not f.by_week else None
        found["time"] = charts.acus_over_time(rows, series, by_week=f.by_week, period_begins=begins)
    if groups["outcome"]:
        found["outcome"] = charts.outcomes(_with_sessions(groups["outcome"], "outcome"))
    weeks = [
        {
            "week": f"{group.key[0]}T00:00:00Z",
            "kind": kind,
            "acus": _float(group.value(measure)),
            "merged": _float(group.value(m.MERGED_PULL_REQUESTS)),
        }
        for group in groups["week"]
        for kind, measure in (
            ("all sessions", m.ACUS_PER_MERGED_PULL_REQUEST),
            ("merging sessions", m.ACUS_PER_MERGED_PULL_REQUEST_DIRECT),
        )
        if group.value(measure) is not None
    ]
    if weeks:
        found["week"] = charts.cost_by_week(weeks, _ENOUGH_MERGED)
    sizes = _sizes_of_dearest(f)
    if any(group.key[-1] is not None for group in sizes):
        found["size"] = charts.sizes(
            [
                {"organization": f.names.shown("org_id", group.key[0]), **row}
                for group, row in zip(sizes, _with_sessions(sizes, "size"), strict=True)
            ]
        )
    if groups["state"]:
        found["state"] = charts.states(_with_sessions(groups["state"], "state"))
    if groups["issue"]:
        labels = list(dict.fromkeys(text.label(group.key[0]) for group in groups["issue"]))[:_MOST_LABELS]
        found["issue"] = charts.heat_map(
            [
                {
                    "label": text.label(group.key[0]),
                    "impact": text.label(group.key[1]).lower(),
                    "sessions": group.value(m.SESSIONS_WITH_ISSUE),
                }
                for group in groups["issue"]
                if text.label(group.key[0]) in labels
            ]
        )
    return found


def _chart_of_bill(f: Figures, times: Sequence[BillTime]) -> dict[str, charts.Chart]:
    if not times:
        return {}
    bands = bands_shown(times)
    rows = [
        {
            "time": f"{time.time}T00:00:00Z",
            "band": band,
            "acus": float(time.bands[band]),
            "status": time.status,
            "is_closed": time.is_closed,
        }
        for time in times
        for band in bands
        if band in time.bands
    ]
    return {"bill": charts.bill(rows, bands, by_week=f.by_week)}


class _Bill:
    """What the template asks of the bill."""

    def __init__(self, figures: Figures, times: Sequence[BillTime]) -> None:
        self.times = times
        self.statuses = days_by_status(figures)
        self.broken_days = days_of_status(figures, "source_broken")
        self.has_open_days = not all(time.is_closed for time in times)
        period = figures.period
        days = (period.last_day - period.first_day).days + 1
        self.days_not_asked_for = days - sum(int(number.value or 0) for _, number in self.statuses)


def _sizes_of_dearest(f: Figures) -> list[Group]:
    """Sizes of session of the organizations that consumed most, in the order of these."""
    consumed: dict[object, Decimal] = {}
    for group in f.groups["size"]:
        acus = Decimal(str(group.value(m.ACUS_OF_SESSIONS) or 0))
        consumed[group.key[0]] = consumed.get(group.key[0], Decimal(0)) + acus
    dearest = sorted(consumed, key=lambda org_id: (-consumed[org_id], str(org_id)))[:_MOST_ROWS]
    sizes = [group for group in f.groups["size"] if group.key[0] in dearest]
    return sorted(sizes, key=lambda group: dearest.index(group.key[0]))


def _with_sessions(groups: Sequence[Group], column: str) -> list[dict[str, object]]:
    return [
        {
            column: text.label(group.key[-1]),
            "acus": _float(group.value(m.ACUS_OF_SESSIONS)),
            "sessions": group.value(m.COUNT_OF_SESSIONS),
        }
        for group in groups
    ]


def _over_time(f: Figures) -> tuple[list[dict[str, object]], list[str]]:
    """ACUs by time and series, and the series: the organizations that consumed most, then all others as one."""
    named = _organizations(f)
    sums: dict[tuple[str, str], Decimal] = {}
    for group in f.groups["time"]:
        time, org_id = group.key
        series = named.get(org_id, charts.OTHERS)
        key = f"{time}T00:00:00Z", series
        sums[key] = sums.get(key, Decimal(0)) + Decimal(str(group.value(m.ACUS) or 0))
    series_shown = [*dict.fromkeys(named.values()), *([charts.OTHERS] if len({*named}) < _count(f) else [])]
    return [{"time": time, "series": name, "acus": float(acus)} for (time, name), acus in sums.items()], series_shown


def _organizations(f: Figures) -> dict[object, str]:
    """The organizations that have a series of their own, and its name."""
    # What is left of them is added up.
    m.ACUS.require_additive("org_id")
    sums: dict[object, Decimal] = {}
    for group in f.groups["time"]:
        sums[group.key[1]] = sums.get(group.key[1], Decimal(0)) + Decimal(str(group.value(m.ACUS) or 0))
    order = sorted(sums, key=lambda org_id: (-sums[org_id], str(org_id)))
    return {org_id: f.names.shown("org_id", org_id) for org_id in order[:_MOST_SERIES]}


def _count(f: Figures) -> int:
    return len({group.key[1] for group in f.groups["time"]})


@dataclass(frozen=True)
class _TableOfTime:
    series: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


def _table_of_time(f: Figures) -> _TableOfTime:
    rows, series = _over_time(f)
    by_time: dict[str, dict[str, str]] = {}
    for row in rows:
        by_time.setdefault(str(row["time"])[:10], {})[str(row["series"])] = text.number(_float(row["acus"]), "ACUs")
    return _TableOfTime(
        series, [(time, [cells.get(name, "0.0") for name in series]) for time, cells in sorted(by_time.items())]
    )


@dataclass(frozen=True)
class _Headline:
    figure: Figure
    before: Figure | None
    change: str
    tone: str


def _headline(f: Figures, measure: Measure) -> _Headline:
    figure, before = f.totals[measure.name], f.earlier.get(measure.name)
    if before is None or before.value is None or figure.value is None:
        return _Headline(figure, None, "", "")
    now, then = Decimal(str(figure.value)), Decimal(str(before.value))
    changed = text.change(now, then)
    # From nothing there is no share of it.
    of_amount = "" if changed is None else text.percent(changed)
    words = text.points(now, then) if measure.unit == "share" else of_amount
    tone = ""
    # While more pull requests are open than before, fewer are merged as yet, which is neither good nor bad.
    is_open = (f.totals[m.OPEN_PULL_REQUESTS.name].value or 0) > (f.earlier[m.OPEN_PULL_REQUESTS.name].value or 0)
    is_settled = measure.name not in _CHANGED_BY_MERGING or not is_open
    if is_settled and measure.name in _GOOD_WHEN_LESS | _GOOD_WHEN_MORE and not words.startswith("\N{PLUS-MINUS SIGN}"):
        is_good = (now < then) == (measure.name in _GOOD_WHEN_LESS)
        tone = "good" if is_good else "bad"
    return _Headline(figure, before, words, tone)


@dataclass(frozen=True)
class _Breakdown:
    section: str
    dimension: str
    title: str
    heading: str
    measures: Sequence[Measure]
    groups: Sequence[Group]
    left_out: int
    note: str = ""

    @property
    def most(self) -> Decimal:
        return max((Decimal(str(group.value(self.measures[0]) or 0)) for group in self.groups), default=Decimal(0))


def _breakdowns(f: Figures) -> dict[str, _Breakdown]:
    causes = (
        m.ACUS,
        m.NUMBER_OF_SESSIONS,
        m.SHARE_WITHOUT_MERGED_PULL_REQUEST,
    )
    results = (m.ACUS, m.NUMBER_OF_SESSIONS, m.MERGED_PULL_REQUESTS, m.ACUS_PER_MERGED_PULL_REQUEST)
    made = (
        ("organization", "By organization", "organization", results, ""),
        ("playbook_id", "By playbook", "playbook", causes, ""),
        ("category", "By category", "category", causes, ""),
        ("origin", "By origin", "origin", causes, ""),
        (
            *("repository", "By repository", "repository"),
            (m.ACUS_SPLIT_BY_REPOSITORY, m.SESSIONS_WITH_REPOSITORY),
            "A session of several repositories counts as a session of each; its ACUs are shared equally.",
        ),
        (
            *("tag", "By tag", "tag", (m.ACUS_SPLIT_BY_TAG, m.SESSIONS_WITH_TAG)),
            "A session of several tags counts as a session of each; its ACUs are shared equally between all of them, "
            "so a cost centre gets a part only where other tags stand beside it.",
        ),
        ("user", "Top users", "user", results, "Service users included."),
        ("feedback", "Feedback on prompts", "feedback", (m.ACUS_WITH_FEEDBACK, m.SESSIONS_WITH_FEEDBACK), _FEEDBACK),
        ("action_item", "Action items by type", "type", (m.NUMBER_OF_ACTION_ITEMS,), ""),
        ("product", "Billed ACUs by product", "product", (m.BILLED_ACUS_BY_PRODUCT,), ""),
    )
    return {
        section: _Breakdown(
            section,
            _IDS.get(section, section),
            title,
            heading,
            measures,
            f.groups[section][:_MOST_ROWS],
            max(0, len(f.groups[section]) - _MOST_ROWS),
            note,
        )
        for section, title, heading, measures, note in made
    }


def _masked(f: Figures) -> Figures:
    """The figures with a number in place of each user, and no name of one."""
    names: dict[object, str] = {}
    groups = []
    for group in f.groups["user"]:
        who = names.setdefault(group.key, f"User {len(names) + 1}") if any(group.key) else None
        figures = {name: replace(figure, key={}) for name, figure in group.figures.items()}
        groups.append(Group((who, None), figures))
    prompts = [replace(prompt, user_id=None) for prompt in f.prompts]
    return replace(f, groups={**f.groups, "user": groups}, prompts=prompts, names=f.names.without_users())


def _key_of(figure: Figure) -> str:
    """By what a figure is of a group, as JSON; empty where a text of it is too long or odd to be repeated."""
    key = {name: None if value is None else str(value) for name, value in figure.key.items()}
    is_plain = all(value is None or text.label(value) == value for value in key.values())
    return json.dumps(key) if key and is_plain else ""


def _width(value: Decimal | float | None, most: Decimal) -> str:
    return f"{float(Decimal(str(value or 0)) / most) * 100:.1f}" if most else "0"


def _float(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]
