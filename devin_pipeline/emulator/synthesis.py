"""How the made-up sessions are drawn: who works when, what it costs, how it ends.

Every draw comes from one seeded generator, so equal arguments give equal sessions. Serving and changing them does not
belong here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from devin_pipeline.emulator.phrases import COMPONENTS, FINDINGS, HOSTILE, REPOSITORIES, STEPS, TASKS, Finding, Task
from devin_pipeline.emulator.sessions import JsonObject, Organization, PullRequest, Session

DAY_STARTS_AT = timedelta(hours=8)  # Devin's billing day, in UTC, all year
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_WEEKDAY_WEIGHTS = (1.0, 1.15, 1.1, 1.05, 0.8, 0.22, 0.17)  # Monday first
# Hours of a billing day, 08:00 UTC first: Europe's working day, then America's, then the automations of the night.
_HOUR_WEIGHTS = (9, 10, 10, 8, 7, 9, 10, 11, 10, 8, 7, 6, 5, 4, 3, 3, 2, 1, 1, 1, 1, 1, 1, 3)
_ORGANIZATIONS = ("Payments", "Platform", "Mobile", "Data & Insights", "Field Tools", "Skunkworks")
_ORGANIZATION_WEIGHTS = (30, 26, 19, 12, 8, 5)
_NAMES = (
    "amara",
    "bjorn",
    "chiara",
    "dmitri",
    "esra",
    "farid",
    "greta",
    "hana",
    "ivo",
    "jun",
    "katya",
    "liam",
    "mei",
    "nuno",
)
_DEPARTMENTS = ("4711", "4712", "0815", "2301")
_SHAPES: tuple[Literal["url,state", "pr_url,pr_state,state", "pr_url,state"], ...] = (
    "url,state",
    "pr_url,pr_state,state",
    "pr_url,state",
)
_ABSENCES: tuple[Literal["null", "{}", "missing"], ...] = ("null", "null", "null", "{}", "missing")
_OPTIONAL_KEYS = (
    "title",
    "user_id",
    "service_user_id",
    "category",
    "subcategory",
    "child_session_ids",
    "parent_session_id",
    "playbook_id",
    "origin",
    "status_detail",
    "structured_output",
    "initial_user_message",
    "is_archived",
    "acus_consumed",
)
_SUSPENSIONS = (
    "inactivity",
    "inactivity",
    "inactivity",
    "inactivity",
    "user_request",
    "usage_limit_exceeded",
    "org_usage_limit_exceeded",
    "out_of_credits",
    "error",
)


def billing_day_start(instant: datetime) -> datetime:
    """Give the 08:00 UTC at or before the instant."""
    return (instant - DAY_STARTS_AT).replace(hour=0, minute=0, second=0, microsecond=0) + DAY_STARTS_AT


def hexadecimal(rng: random.Random, digits: int = 32) -> str:
    """Draw an id."""
    return f"{rng.getrandbits(4 * digits):0{digits}x}"


class Cast:
    """The people and organizations of one seed, and the sessions they start."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"{seed}/cast")  # noqa: S311 - invented sessions need a repeatable generator, not a secret one
        separators = ("-", "-", "_", "-", "-", "-")  # both spellings have been seen
        self.organizations = [
            Organization(f"org{separator}{hexadecimal(rng)}", name, is_deleted=name == "Skunkworks")
            for separator, name in zip(separators, _ORGANIZATIONS, strict=True)
        ]
        self.users: dict[str, tuple[list[str], list[float]]] = {}
        self.service_users: dict[str, list[str]] = {}
        self.names: dict[str, tuple[str, str]] = {}
        for organization in self.organizations:
            compact = organization.name.replace(" & ", "And").replace(" ", "")
            people = rng.sample(_NAMES, 9)
            ids = [
                f"okta|{compact}|{hexadecimal(rng, 20)}" if rng.random() < 0.4 else f"email|{hexadecimal(rng, 24)}"
                for _ in people
            ]
            # One address in clear: ids are opaque and may be anything.
            ids[0] = f"email|{people[0]}@{compact.lower()}.example"
            for user_id, person in zip(ids, people, strict=True):
                self.names[user_id] = (person.capitalize(), f"{person}@{compact.lower()}.example")
            self.users[organization.org_id] = (ids, [1 / (rank + 1) for rank in range(len(ids))])
            self.service_users[organization.org_id] = [f"service-user-{hexadecimal(rng, 16)}" for _ in range(2)]
        self.playbooks = [f"playbook-{hexadecimal(rng)}" for _ in range(5)]
        self.schedules = [f"sched-{hexadecimal(rng, 16)}" for _ in range(3)]

    def session(
        self, rng: random.Random, index: int, created_at: datetime, now: datetime, *, is_live: bool = False
    ) -> Session:
        """Draw one session; `index` decides which of the rarer oddities it shows."""
        organization = rng.choices(self.organizations, _ORGANIZATION_WEIGHTS)[0]
        org_id = organization.org_id
        task = rng.choice(TASKS)
        component = rng.choice(COMPONENTS)
        repository = rng.choice(REPOSITORIES)
        by_service_user = rng.random() < 0.12
        users, weights = self.users[org_id]
        acus = _acus(rng)
        age = now - created_at
        lasted = timedelta(seconds=60 + round(float(acus or 1) * rng.uniform(200, 900)))
        ended = created_at.replace(microsecond=0) + lasted
        is_live = is_live or ended > now or (age < timedelta(days=2) and rng.random() < 0.12)
        status, detail = _ending(rng, is_live)
        # A fraction on some only: the API's examples have none, its format allows them.
        fraction = timedelta(milliseconds=rng.randrange(1, 999)) if rng.random() < 0.15 else timedelta(0)
        last_heard_of = now - timedelta(seconds=rng.randrange(1, 900)) if is_live else min(ended, now - _SECOND)
        updated_at = max(created_at, last_heard_of + fraction)
        if age < timedelta(minutes=5) and acus is not None:
            acus = Decimal(0)
        blanks = {"repo": repository[1], "component": component, "ticket": f"ENG-{rng.randrange(100, 9999)}"}
        is_good = rng.random() < 0.55
        message: str | None = (task.good if is_good else task.vague).format(**blanks)
        title: str | None = task.title.format(**blanks)
        pull_requests: tuple[PullRequest, ...] = ()
        if not is_live and task.languages and rng.random() < 0.62:
            pull_requests = tuple(_pull_request(rng, repository) for _ in range(rng.choices((1, 2, 3), (85, 12, 3))[0]))
        messages = max(1, round(float(acus or 0) * rng.uniform(0.2, 1.2)))
        playbook = rng.choice(self.playbooks) if rng.random() < 0.18 else None
        origin = _origin(rng, by_service_user)
        is_categorised = not is_live and rng.random() < 0.9
        schedule = rng.choice(self.schedules) if origin == "automation" else None
        session = Session(
            session_id=hexadecimal(rng),
            org_id=org_id,
            created_at=created_at,
            updated_at=updated_at,
            user_id=None if by_service_user else rng.choices(users, weights)[0],
            service_user_id=rng.choice(self.service_users[org_id]) if by_service_user else None,
            title=title,
            tags=_tags(rng, organization),
            status=status,
            status_detail=detail,
            acus=acus,
            pull_requests=pull_requests,
            origin=origin,
            category=task.category if is_categorised else None,
            subcategory=task.subcategory if is_categorised else None,
            playbook_id=playbook,
            schedule_id=schedule,
            automation_id=schedule and schedule.replace("sched", "automation"),
            repo_names=(repository[1],),
            is_archived=rng.random() < 0.06,
            structured_output=_structured_output(rng, blanks) if rng.random() < 0.06 else None,
            initial_user_message=message,
            num_user_messages=messages,
            num_devin_messages=messages + rng.randrange(1, 12),
            session_size=size_of(acus),
            absent_analysis=rng.choice(_ABSENCES),
            v2_issues_have_ids=rng.random() < 0.3,
            v3_prefixed=rng.random() < 0.3,
        )
        session.better_prompt = None if is_good else task.good.format(**blanks)
        if not is_live:
            _analyse(rng, session, task, is_good, age)
        _distort(rng, session, index)
        return session


def created_instants(rng: random.Random, count: int, days: int, now: datetime) -> list[datetime]:
    """Draw creation instants of the `days` billing days that end with the one `now` lies in, oldest first."""
    today = billing_day_start(now)
    starts = [today - _DAY * back for back in range(days - 1, -1, -1)]
    elapsed = int((now - today).total_seconds())
    hours_today = elapsed // 3600
    weights = [_WEEKDAY_WEIGHTS[start.weekday()] for start in starts]
    weights[-1] *= sum(_HOUR_WEIGHTS[:hours_today]) / sum(_HOUR_WEIGHTS)
    if elapsed < 2:
        # Nothing can have been created in a day that has only just begun.
        starts, weights = starts[:-1], weights[:-1]
    if not starts:
        return []
    # Each day once before chance decides: an empty day should be a test's choice.
    chosen = starts[:count] if count >= 2 * days else []
    chosen = chosen + rng.choices(starts, [weight + 1e-9 for weight in weights], k=count - len(chosen))
    instants = [_instant(rng, index, start, now) for index, start in enumerate(chosen)]
    return sorted(instants)


def _instant(rng: random.Random, index: int, start: datetime, now: datetime) -> datetime:
    if index % 53 == 7:
        return start  # belongs to this day, not to the one before
    latest = min(start + _DAY, now) - timedelta(seconds=1)
    if index % 53 == 8:
        return latest
    elapsed = (latest - start).total_seconds()
    hours = max(1, int(elapsed // 3600) + (elapsed > 80_000))
    hour = rng.choices(range(hours), _HOUR_WEIGHTS[:hours])[0]
    instant = min(start + timedelta(hours=hour, seconds=rng.randrange(min(3600, int(elapsed) + 1))), latest)
    fraction = rng.random()
    if fraction < 0.1:
        return instant + timedelta(milliseconds=rng.randrange(1, 999))
    if fraction < 0.2:
        return instant + timedelta(microseconds=rng.randrange(1, 999_999))
    return instant


def relate(rng: random.Random, sessions: Sequence[Session]) -> None:
    """Make some sessions children of an earlier one of their organization, and let some share a pull request."""
    newest: dict[str, Session] = {}
    for index, session in enumerate(sessions):
        earlier = newest.get(session.org_id)
        if earlier is not None and rng.random() < 0.06:
            session.parent_session_id = earlier.session_id
            earlier.child_session_ids = (*earlier.child_session_ids, session.session_id)
        if earlier is not None and earlier.pull_requests and (rng.random() < 0.03 or index % 40 == 20):
            session.pull_requests = (*session.pull_requests, earlier.pull_requests[0])
        newest[session.org_id] = session


def _acus(rng: random.Random) -> Decimal | None:
    draw = rng.random()
    if draw < 0.015:
        return None
    if draw < 0.045:
        return Decimal(0)
    consumed = min(60.0, rng.lognormvariate(0.9, 1.15))
    places = rng.choice(("1", "0.1", "0.01", "0.001", "0.000001", "0.000001"))
    return Decimal(consumed).quantize(Decimal(places))


def more_acus(rng: random.Random) -> Decimal:
    """Draw what a living session consumes between two looks."""
    return max(Decimal("0.01"), Decimal(rng.lognormvariate(-0.5, 0.8)).quantize(Decimal("0.0001")))


def size_of(acus: Decimal | None) -> str:
    """Give the size of a session that consumed so much."""
    return next((size for size, bound in (("xs", 1), ("s", 4), ("m", 12), ("l", 30)) if (acus or 0) < bound), "xl")


def _ending(rng: random.Random, is_live: bool) -> tuple[str, str | None]:
    draw = rng.random()
    if is_live:
        if draw < 0.08:
            return "new", None
        if draw < 0.16:
            return "claimed", None
        if draw < 0.2:
            return "resuming", None
        return "running", rng.choice(("working", "working", "working", "waiting_for_user", "waiting_for_approval"))
    if draw < 0.42:
        return "exit", rng.choice(("finished", None, None))
    if draw < 0.60:
        return "running", "finished"
    if draw < 0.65:
        return "running", "waiting_for_user"
    if draw < 0.93:
        return "suspended", rng.choice(_SUSPENSIONS)
    if draw < 0.99:
        return "error", None
    return "creating", None  # seen in one snapshot of the documentation only


def _origin(rng: random.Random, by_service_user: bool) -> str | None:
    if by_service_user:
        return rng.choice(("api", "api", "automation"))
    values = ("webapp", "slack", "teams", "linear", "jira", "cli", "desktop", "automation", "other", "code_scan", None)
    return rng.choices(values, (44, 22, 4, 7, 6, 6, 5, 2, 1, 1, 2))[0]


def _tags(rng: random.Random, organization: Organization) -> tuple[str, ...]:
    if rng.random() < 0.3:
        return ()
    tags = [f"cost-centre:{rng.choice(_DEPARTMENTS)}"]
    tags += rng.sample(("bug-fix", "auth", "Auth", "q3-migration", "on-call", "größe:m"), rng.randrange(0, 3))
    if rng.random() < 0.3:
        tags.append(f"team:{organization.name.lower()}")
    if rng.random() < 0.05:
        tags.append(tags[0])  # the API does not promise that tags differ
    return tuple(tags)


def _pull_request(rng: random.Random, repository: tuple[str, str, str]) -> PullRequest:
    host, name, between = repository
    url = f"https://{host}/{name}/{between}/{rng.randrange(1, 4000)}"
    draw = rng.random()
    if draw < 0.16:
        url += rng.choice(
            ("/", "/files", "/commits", "?diff=split&w=1", "#issuecomment-2205", "/files?w=1#diff-0a1b", "/diffs")
        )
    elif draw < 0.19:
        url = url.replace(f"https://{host}", f"HTTPS://{host.title()}")
    elif draw < 0.21:
        url = rng.choice(
            (
                f"https://{host}/{name}/tree/devin/{hexadecimal(rng, 8)}",
                f"https://dev.azure.com/larkspur/erp/_git/core/pullrequest/{rng.randrange(1, 99)}",
                "see the branch I pushed",
            )
        )
    states = ("merged", "open", "closed", None, "MERGED", "draft")
    return PullRequest(url, rng.choices(states, (54, 24, 12, 5, 2, 3))[0], rng.choice(_SHAPES))


def _structured_output(rng: random.Random, blanks: dict[str, str]) -> JsonObject:
    output: JsonObject = {
        "summary": f"{blanks['component']} in {blanks['repo']}",
        "files_changed": rng.randrange(0, 40),
    }
    if rng.random() < 0.3:
        output["checks"] = [
            {"name": f"check {number}", "ok": number % 3 > 0, "ratio": 0.1 * number} for number in range(40)
        ]
    return output


def _analyse(rng: random.Random, session: Session, task: Task, is_good: bool, age: timedelta) -> None:
    """Analyse about two sessions in three; the younger a session, the likelier its analysis is still to come."""
    draw = rng.random()
    if draw < 0.3:
        return
    analysis = draw_analysis(rng, session, task, is_good)
    if draw < 0.42 or (age < timedelta(days=2) and draw < 0.7):
        session.pending_analysis = analysis
    else:
        session.analysis = analysis


def draw_analysis(rng: random.Random, session: Session, task: Task | None = None, is_good: bool = False) -> JsonObject:
    """Draw an analysis in v3's vocabulary; anything optional is sometimes null, empty or not there."""
    task = task or next((known for known in TASKS if known.category == session.category), TASKS[-1])
    findings = rng.sample(
        FINDINGS, rng.choices((0, 1, 2, 3), (5, 45, 35, 15))[0] if not is_good else rng.randrange(0, 2)
    )
    analysis = analysis_of(rng, session, task, findings)
    _thin_out(rng, analysis)
    return analysis


def analysis_of(rng: random.Random, session: Session, task: Task, findings: Sequence[Finding]) -> JsonObject:
    """Write an analysis that found this, in v3's vocabulary, with all that is optional."""
    issue_ids = [f"issue_{number}" for number in range(1, len(findings) + 1)]
    found = list(zip(issue_ids, findings, strict=True))
    message = session.initial_user_message or session.title or ""
    steps = STEPS[: rng.randrange(2, len(STEPS) + 1)]
    return {
        "classification": {
            "category": task.subcategory,
            "confidence": rng.randrange(40, 100) / 100,
            "programming_languages": list(task.languages),
            "tools_and_frameworks": list(task.tools),
        },
        "issues": [
            {"id": issue_id, "issue": finding.issue, "impact": finding.impact, "label": finding.label}
            for issue_id, finding in found
        ],
        "action_items": [
            {"issue_id": issue_id, "type": finding.action_type, "action_item": finding.action_item}
            for issue_id, finding in found
        ],
        "timeline": [
            {
                "title": title,
                "description": description,
                "color": color,
                "issue_id": issue_ids[0] if color == "red" and issue_ids else None,
            }
            for title, description, color in steps
        ],
        "suggested_prompt": {
            "original_prompt": message,
            "suggested_prompt": session.better_prompt
            or f"{message.rstrip()} Name the files, the command that proves it and what not to touch.",
            "feedback_items": [
                {
                    "issue_id": issue_id,
                    "summary": finding.summary,
                    "excerpt": message[:60],
                    "details": finding.details,
                }
                for issue_id, finding in found
            ],
        },
        "note_usage": {
            "good_usages": [],
            "bad_usages": [
                {
                    "note_id": f"note-{hexadecimal(rng, 8)}",
                    "message": "Ignored the note on naming.",
                    "reason": "Not in context.",
                }
            ],
        },
        "skill_usage": {"good_usages": [], "bad_usages": []},
    }


def _thin_out(rng: random.Random, analysis: JsonObject) -> None:
    draw = rng.randrange(14)
    if draw == 0:
        analysis["suggested_prompt"] = None
    elif draw == 1:
        del analysis["suggested_prompt"]
    elif draw == 2:
        del analysis["suggested_prompt"]["feedback_items"]
    elif draw == 3:
        analysis["suggested_prompt"]["feedback_items"] = None
    elif draw == 4:
        analysis["action_items"] = None
        analysis["note_usage"] = None
    elif draw == 5:
        del analysis["timeline"]
        analysis["classification"] = None
    elif draw == 6:
        for key in ("issues", "action_items", "timeline"):
            analysis[key] = []
        analysis["suggested_prompt"] = None
    elif draw == 7:
        for item in analysis["action_items"]:
            item["type"] = None
            del item["issue_id"]
        for item in analysis["suggested_prompt"]["feedback_items"]:
            item.pop("issue_id")
    elif draw == 8 and analysis["issues"]:
        # Repeated entries are sent as they are.
        analysis["issues"].append(dict(analysis["issues"][0]))


def _distort(rng: random.Random, session: Session, index: int) -> None:
    """Give some sessions what clients stumble over: odd texts, nulls, missing keys."""
    if index % 19 == 3:
        oddity = HOSTILE[index // 19 % len(HOSTILE)]
        session.title = oddity
        if index % 2:
            session.initial_user_message = f"{oddity}\n\nPlease fix {oddity}"
        if index % 3 == 0:
            session.tags = (*session.tags, oddity[:40])
    if index % 23 == 5:
        session.title = None
    if index % 29 == 6:
        session.initial_user_message = None
    if index % 31 == 9:
        session.is_archived = None
    if index % 7 == 2:
        session.omitted_when_null = frozenset(_OPTIONAL_KEYS)
    elif index % 7 == 4:
        session.omitted_when_null = frozenset(rng.sample(_OPTIONAL_KEYS, 5))
    if index % 11 == 1:
        session.devin_mode = rng.choice(("normal", "fast", "lite"))
