"""What stands out in the figures of a report, in sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import measures as m
from devin_pipeline.usage_report.bill import why_no_bill
from devin_pipeline.usage_report.figures import CAUSES, Figure, Figures
from devin_pipeline.usage_report.text import label

# In the order of `figures.CAUSES`.
_NAMES = dict(zip(CAUSES, ("Playbook", "Category", "Origin"), strict=True))
_LEAST_SHARE_OF_ALL = Decimal("0.01")
_ABOUT_AS_MUCH = Decimal("0.8")
_MOST_ISSUES = 2


@dataclass(frozen=True)
class Cause:
    """Sessions with something in common of whose ACUs less than in general led to a merged pull request.

    Attributes:
        dimension: What they have in common.
        key: Its value.
        name: What they have in common, in words.
        without: Their ACUs without a merged pull request.
        acus: All of their ACUs.
        sessions: How many they are.
        share: The first divided by the second.
        issues: How many of them have an issue of each label in their analyses, most first.
    """

    dimension: str
    key: str
    name: str
    without: Figure
    acus: Figure
    sessions: Figure
    share: Figure
    issues: Sequence[tuple[str, Figure]]


@dataclass(frozen=True)
class _Cell:
    """The sessions of one playbook, category and origin."""

    keys: Mapping[str, str | date | None]
    acus: Decimal
    without: Decimal


def dearest_causes(figures: Figures, most: int = 3) -> list[Cause]:
    """The playbooks, categories and origins with most ACUs without a merged pull request beyond the general share.

    Each is found among the sessions that those before it leave, so that one playbook does not show as its category and
    origin too; of those that exceed the share by about as much, it is the one of which least was merged. Its figures
    are of all its sessions.
    """
    cells = [
        _Cell(dict(zip(_NAMES, group.key, strict=True)), Decimal(str(acus)), Decimal(str(without)))
        for group in figures.groups["cause"]
        if (acus := group.value(m.ACUS)) is not None
        and (without := group.value(m.ACUS_WITHOUT_MERGED_PULL_REQUEST)) is not None
    ]
    least = _LEAST_SHARE_OF_ALL * sum((cell.acus for cell in cells), Decimal(0))
    causes: list[Cause] = []
    while cells and len(causes) < most:
        acus, without = (
            sum(amounts, Decimal(0)) for amounts in zip(*((c.acus, c.without) for c in cells), strict=True)
        )
        general = without / acus if acus else Decimal(0)
        alike = _by_what_they_have_in_common(cells)
        excesses = {common: theirs.without - general * theirs.acus for common, theirs in alike.items()}
        greatest = max(excesses.values(), default=Decimal(0))
        if greatest <= least:
            break
        about_as_much = [common for common, excess in excesses.items() if excess >= _ABOUT_AS_MUCH * greatest]
        # Of equal ones the first: a playbook can be changed, a category or origin cannot.
        dimension, key = max(about_as_much, key=lambda common: alike[common].without / alike[common].acus)
        causes.append(_cause(figures, dimension, key))
        cells = [cell for cell in cells if cell.keys[dimension] != key]
    return causes


def _by_what_they_have_in_common(cells: Sequence[_Cell]) -> dict[tuple[str, str], _Cell]:
    """The sums of the cells of each playbook, then category, then origin."""
    found: dict[tuple[str, str], _Cell] = {}
    for dimension in _NAMES:
        for cell in cells:
            key = cell.keys[dimension]
            if key is not None:
                before = found.get((dimension, str(key)), _Cell({}, Decimal(0), Decimal(0)))
                found[dimension, str(key)] = _Cell({}, before.acus + cell.acus, before.without + cell.without)
    return found


def _cause(figures: Figures, dimension: str, key: str) -> Cause:
    (group,) = (group for group in figures.groups[dimension] if group.key == (key,))
    issues = [
        (label(of_label.key[1]), of_label.figures[m.SESSIONS_WITH_ISSUE.name])
        for of_label in figures.groups[f"issue_of_{dimension}"]
        if of_label.key[0] == key
    ]
    return Cause(
        dimension,
        key,
        f"{_NAMES[dimension]} {figures.names.shown(dimension, key)}",
        group.figures[m.ACUS_WITHOUT_MERGED_PULL_REQUEST.name],
        group.figures[m.ACUS.name],
        group.figures[m.NUMBER_OF_SESSIONS.name],
        group.figures[m.SHARE_WITHOUT_MERGED_PULL_REQUEST.name],
        issues[:_MOST_ISSUES],
    )


def reasons_for_absence(figures: Figures) -> dict[str, str]:
    """Why a section has nothing to show, by section."""
    reasons: dict[str, str] = {}
    nothing = "No session was created in the period."
    for section, tables in _TABLES_OF_SECTIONS.items():
        damaged = [name for name in tables if name in figures.unreadable]
        if damaged:
            reasons[section] = (
                f"The table {' and '.join(damaged)} cannot be read. Find the command that repairs it: "
                f"`{pipeline_command('verify')}`"
            )
    if why := why_no_bill(figures):
        reasons.setdefault("bill", why)
    has_sessions = bool(figures.totals[m.NUMBER_OF_SESSIONS.name].value)
    shown: dict[str, Sequence[object]] = {**figures.groups, "prompts": figures.prompts}
    for section, rows in shown.items():
        if section not in reasons and not rows:
            reasons[section] = _WHY_NOT.get(section, nothing) if has_sessions else nothing
    if all(group.key[-1] is None for group in figures.groups["size"]):
        reasons.setdefault("size", _WHY_NOT["size"])
    return reasons


_TABLES_OF_SECTIONS: dict[str, Sequence[str]] = {
    "time": ("acu_daily",),
    "organization": ("acu_daily", "pull_requests", "sessions"),
    "outcome": ("sessions", "session_pull_requests"),
    "week": ("acu_daily", "pull_requests", "sessions"),
    "size": ("sessions", "session_pull_requests"),
    "state": ("sessions", "session_pull_requests"),
    "category": ("acu_daily", "sessions", "session_pull_requests"),
    "origin": ("acu_daily", "sessions", "session_pull_requests"),
    "playbook_id": ("acu_daily", "sessions", "session_pull_requests"),
    "repository": ("acu_daily_by_repository",),
    "tag": ("acu_daily_by_tag",),
    "user": ("acu_daily", "pull_requests", "sessions"),
    "issue": ("session_issues", "sessions"),
    "action_item": ("session_action_items", "sessions"),
    "feedback": ("prompt_feedback", "sessions"),
    "prompts": ("prompt_suggestions", "prompt_feedback", "sessions"),
    "bill": ("reconciliation_daily", "acu_consumed_daily"),
    "product": ("consumption_daily",),
}
_NO_ANALYSES = (
    "No analysis of these sessions names one. Analyses come with the feeds `raw_session_insights_v2` and "
    "`raw_session_insights_v3`, for sessions that somebody had analysed."
)
_WHY_NOT = {
    "size": "No session of the period has a size: sizes come with the feed `raw_session_insights_v3`.",
    "issue": _NO_ANALYSES,
    "action_item": _NO_ANALYSES,
    "feedback": _NO_ANALYSES.replace("names one", "has feedback"),
    "prompts": _NO_ANALYSES.replace("names one", "suggests a better prompt")
    + " With `DEVIN_TEXT=none` no text is stored.",
}
