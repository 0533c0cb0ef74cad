"""What stands out in the figures of a report, in sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import measures as m
from devin_pipeline.usage_report.figures import Figure, Figures
from devin_pipeline.usage_report.text import label

_NAMES = {"playbook_id": "Playbook", "category": "Category", "origin": "Origin"}
_LEAST_SHARE_OF_ALL = Decimal("0.02")


@dataclass(frozen=True)
class Cause:
    """Sessions with something in common of whose ACUs less than in general led to a merged pull request.

    Attributes:
        dimension: What they have in common.
        key: Its value.
        without: Their ACUs without a merged pull request.
        acus: All of their ACUs.
        sessions: How many they are.
        share: The first divided by the second.
        excess: ACUs without a merged pull request beyond what the general share of their ACUs would be.
    """

    dimension: str
    key: str
    without: Figure
    acus: Figure
    sessions: Figure
    share: Figure
    excess: Decimal

    @property
    def name(self) -> str:
        """What they have in common, in words."""
        return f"{_NAMES[self.dimension]} {label(self.key)}"


def dearest_causes(figures: Figures, most: int = 3) -> list[Cause]:
    """The playbooks, categories and origins with most ACUs without a merged pull request beyond the general share."""
    general = figures.totals[m.SHARE_WITHOUT_MERGED_PULL_REQUEST.name].value
    total = figures.totals[m.ACUS.name].value
    if general is None or not total:
        return []
    causes = []
    for dimension in _NAMES:
        for group in figures.groups[dimension]:
            (key,) = group.key
            acus, without = group.value(m.ACUS), group.value(m.ACUS_WITHOUT_MERGED_PULL_REQUEST)
            if key is None or acus is None or without is None:
                continue
            excess = Decimal(str(without)) - Decimal(str(general)) * Decimal(str(acus))
            if excess > _LEAST_SHARE_OF_ALL * Decimal(str(total)):
                causes.append(
                    Cause(
                        dimension,
                        str(key),
                        group.figures[m.ACUS_WITHOUT_MERGED_PULL_REQUEST.name],
                        group.figures[m.ACUS.name],
                        group.figures[m.NUMBER_OF_SESSIONS.name],
                        group.figures[m.SHARE_WITHOUT_MERGED_PULL_REQUEST.name],
                        excess,
                    )
                )
    return sorted(causes, key=lambda cause: (-cause.excess, cause.name))[:most]


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
    has_sessions = bool(figures.totals[m.NUMBER_OF_SESSIONS.name].value)
    shown: dict[str, Sequence[object]] = {**figures.groups, "prompts": figures.prompts}
    for section, rows in shown.items():
        if section not in reasons and not rows:
            reasons[section] = _WHY_NOT.get(section, nothing) if has_sessions else nothing
    if not figures.groups["size"] or all(group.key == (None,) for group in figures.groups["size"]):
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
    "prompts": ("prompt_suggestions", "prompt_feedback", "sessions"),
}
_NO_ANALYSES = (
    "No analysis of these sessions names one. Analyses come with the feeds `raw_session_insights_v2` and "
    "`raw_session_insights_v3`, for sessions that somebody had analysed."
)
_WHY_NOT = {
    "size": "No session of the period has a size: sizes come with the feed `raw_session_insights_v3`.",
    "issue": _NO_ANALYSES,
    "action_item": _NO_ANALYSES,
    "prompts": _NO_ANALYSES.replace("names one", "suggests a better prompt")
    + " With `DEVIN_TEXT=none` no text is stored.",
}
