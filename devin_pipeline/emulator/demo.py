"""The enterprise of the demo: sessions like any other's, and two stories that its report and tables let one find.

- A playbook that upgrades repositories every night cannot reach a private registry: it consumes much, merges nothing.
- A person who asked in half a sentence learns, over the weeks, what a good prompt says: sessions become cheaper and
  their pull requests are merged.

Nothing in it is odd: what clients stumble over belongs to `Enterprise.synthetic`.
"""

from __future__ import annotations

import dataclasses
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from devin_pipeline.emulator import synthesis
from devin_pipeline.emulator.enterprise import Enterprise
from devin_pipeline.emulator.phrases import COMPONENTS, FINDINGS, REPOSITORIES, TASKS, Finding, Task
from devin_pipeline.emulator.sessions import PullRequest, Session

_UPGRADES = next(task for task in TASKS if task.subcategory == "Framework upgrades")
_NO_REGISTRY = [finding for finding in FINDINGS if finding.label in ("Access", "Configuration")]
_POOR_PROMPT = [finding for finding in FINDINGS if finding.label in ("Prompt", "Scope")]
_BURNING_SINCE = timedelta(days=35)
_SETTLED_AFTER = timedelta(days=6)


def demo_enterprise(*, seed: int, sessions: int, days: int, ends_at: datetime) -> Enterprise:
    """Invent the enterprise of the demo: equal arguments give byte-identical items.

    Args:
        seed: Any integer.
        sessions: How many sessions, those of the deleted organization included.
        days: How many billing days (from 08:00 UTC) they are spread over, the day `ends_at` lies in included.
        ends_at: No session is created or updated later; needs a time zone.
    """
    now = ends_at.astimezone(UTC).replace(microsecond=0)
    rng = random.Random(f"{seed}/demo")  # noqa: S311 - repeatable, not secret
    cast = synthesis.Cast(seed)
    instants = synthesis.created_instants(rng, sessions, days, now)
    first_live = len(instants) - max(3, len(instants) // 300)
    # Index 0 is the plain one.
    invented = [
        cast.session(rng, 0, instant, now, is_live=index >= first_live) for index, instant in enumerate(instants)
    ]
    synthesis.relate(rng, invented)
    for session in invented:
        # v3 gives whole seconds: a v2 version with more would be the newer one, which knows no `status_detail`.
        session.status = "exit" if session.status == "creating" else session.status
        session.created_at = session.created_at.replace(microsecond=0)
        session.updated_at = session.updated_at and session.updated_at.replace(microsecond=0)
        # The first one is kept for the nightly upgrades.
        if session.playbook_id == cast.playbooks[0]:
            session.playbook_id = cast.playbooks[1]
    _settle(rng, invented, now)
    payments, _, _, data, *_ = (organization.org_id for organization in cast.organizations)
    _burn(rng, cast, [session for session in invented if session.org_id == payments], now)
    _improve(rng, cast.users[data][0][0], [session for session in invented if session.org_id == data], now)
    return Enterprise(cast.organizations, invented, seed=seed, cast=cast)


def _settle(rng: random.Random, sessions: list[Session], now: datetime) -> None:
    """Let pull requests be merged or closed within a week, as reviewers do."""
    states: dict[str, str] = {}
    for session in sessions:
        if now - session.created_at > _SETTLED_AFTER:
            session.pull_requests = tuple(
                dataclasses.replace(link, state=states.setdefault(link.url, rng.choice(("merged", "merged", "closed"))))
                if link.state in ("open", "draft")
                else link
                for link in session.pull_requests
            )


def _burn(rng: random.Random, cast: synthesis.Cast, sessions: list[Session], now: datetime) -> None:
    """Turn some sessions of the last weeks into the nightly upgrades."""
    ended = [s for s in sessions if now - s.created_at < _BURNING_SINCE and s.status_detail != "working"]
    for session in ended[::5]:
        repository = rng.choice(REPOSITORIES)
        _ask(session, _UPGRADES, _blanks(rng, repository), is_good=True)
        session.user_id, session.service_user_id = None, cast.service_users[session.org_id][0]
        session.origin, session.schedule_id = "automation", cast.schedules[0]
        session.playbook_id = cast.playbooks[0]
        session.parent_session_id, session.child_session_ids = None, ()
        session.pull_requests = (_pull_request(rng, repository, "closed"),) if rng.random() < 0.2 else ()
        session.status, session.status_detail = "suspended", "inactivity"
        _consume(session, rng.uniform(6, 16))
        _analyse(rng, session, _UPGRADES, _NO_REGISTRY)


def _improve(rng: random.Random, user_id: str, sessions: list[Session], now: datetime) -> None:
    """Let one person start half of an organization's sessions, better with each week."""
    of_people = [s for s in sessions if s.user_id is not None and s.status_detail != "working"]
    theirs = [s for place, s in enumerate(of_people) if s.user_id == user_id or place % 4 == 0]
    tasks = [task for task in TASKS if task.languages]
    for place, session in enumerate(theirs):
        has_learnt = rng.random() < 1.3 * place / len(theirs) - 0.15
        repository, task = rng.choice(REPOSITORIES), rng.choice(tasks)
        _ask(session, task, _blanks(rng, repository), is_good=has_learnt)
        session.user_id = user_id
        session.playbook_id = None
        merges = rng.random() < (0.95 if has_learnt else 0.1)
        is_recent = now - session.created_at < timedelta(days=2)
        state = "open" if is_recent else "merged" if merges else "closed"
        session.pull_requests = (_pull_request(rng, repository, state),) if merges or rng.random() < 0.5 else ()
        _consume(session, rng.uniform(1, 4) if has_learnt else rng.uniform(4, 11))
        _analyse(rng, session, task, [] if has_learnt else _POOR_PROMPT)


def _blanks(rng: random.Random, repository: tuple[str, str, str]) -> dict[str, str]:
    return {"repo": repository[1], "component": rng.choice(COMPONENTS), "ticket": f"ENG-{rng.randrange(100, 9999)}"}


def _ask(session: Session, task: Task, blanks: dict[str, str], *, is_good: bool) -> None:
    session.title = task.title.format(**blanks)
    session.initial_user_message = (task.good if is_good else task.vague).format(**blanks)
    session.better_prompt = None if is_good else task.good.format(**blanks)
    session.category, session.subcategory = task.category, task.subcategory
    session.repo_names = (blanks["repo"],)


def _consume(session: Session, acus: float) -> None:
    session.acus = Decimal(acus).quantize(Decimal("0.000001"))
    session.session_size = synthesis.size_of(session.acus)


def _analyse(rng: random.Random, session: Session, task: Task, findings: list[Finding]) -> None:
    chosen = rng.sample(findings, min(len(findings), rng.choice((1, 2))))
    session.analysis, session.pending_analysis = synthesis.analysis_of(rng, session, task, chosen), None


def _pull_request(rng: random.Random, repository: tuple[str, str, str], state: str) -> PullRequest:
    host, name, between = repository
    return PullRequest(f"https://{host}/{name}/{between}/{rng.randrange(4000, 9000)}", state)
