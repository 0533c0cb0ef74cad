"""The demo's enterprise: nothing odd, every day filled, and two stories that one can find."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from statistics import mean

import pytest

from devin_pipeline.emulator import Enterprise, Session, demo_enterprise

ENDS_AT = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def demo() -> Enterprise:
    return demo_enterprise(seed=7, sessions=1680, days=84, ends_at=ENDS_AT)


def acus(sessions: list[Session]) -> Decimal:
    return sum((session.acus or Decimal(0) for session in sessions), Decimal(0))


def merges(session: Session) -> bool:
    return any(link.state == "merged" for link in session.pull_requests)


def test_equal_arguments_give_the_same_enterprise(demo: Enterprise) -> None:
    again = demo_enterprise(seed=7, sessions=1680, days=84, ends_at=ENDS_AT)
    for feed in ("session_insights_v2", "sessions_v3", "session_insights_v3"):
        assert again.items(feed) == demo.items(feed)
    assert demo_enterprise(seed=8, sessions=40, days=2, ends_at=ENDS_AT).sessions


def test_every_day_has_sessions_and_weekends_are_quiet(demo: Enterprise) -> None:
    days = [(session.created_at - timedelta(hours=8)).date() for session in demo.sessions]
    assert len(set(days)) == 84
    assert max(days) == ENDS_AT.date()
    of_weekends = sum(day.weekday() > 4 for day in days)
    assert of_weekends / len(days) < 0.12
    assert all(session.updated_at and session.updated_at <= ENDS_AT for session in demo.sessions)


def test_no_text_is_made_to_confuse_a_client(demo: Enterprise) -> None:
    texts = "".join(demo.items("session_insights_v3"))
    for oddity in ("<script>", "\\u0000", "=cmd|", "drop table"):
        assert oddity not in texts


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_one_playbook_consumes_most_and_merges_nothing(seed: int) -> None:
    sessions = demo_enterprise(seed=seed, sessions=1680, days=84, ends_at=ENDS_AT).sessions
    of_last_weeks = [s for s in sessions if s.playbook_id and ENDS_AT - s.created_at < timedelta(days=28)]
    of_playbook: dict[str, list[Session]] = {}
    for session in of_last_weeks:
        of_playbook.setdefault(str(session.playbook_id), []).append(session)
    burning = max(of_playbook.values(), key=acus)
    assert not any(map(merges, burning))
    assert acus(burning) > acus(of_last_weeks) / 3
    issues = [issue["label"] for session in burning if session.analysis for issue in session.analysis["issues"]]
    assert "Access" in issues
    assert all(any(map(merges, others)) for others in of_playbook.values() if others is not burning)


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_one_persons_prompts_improve_over_the_weeks(seed: int) -> None:
    sessions = demo_enterprise(seed=seed, sessions=1680, days=84, ends_at=ENDS_AT).sessions[::-1]
    theirs = [s for s in sessions if s.user_id and "dataandinsights.example" in s.user_id and s.analysis]
    first, last = theirs[: len(theirs) // 4], theirs[-len(theirs) // 4 :]
    assert len(first) > 15
    # The newest are still open.
    assert mean(map(merges, first)) + 0.2 < mean(map(merges, last[:-5]))
    assert acus(last) / len(last) < acus(first) / len(first) * Decimal("0.75")
    feedback = [
        mean(len(((s.analysis or {}).get("suggested_prompt") or {}).get("feedback_items") or ()) for s in part)
        for part in (first, last)
    ]
    assert feedback[1] < feedback[0] / 2


def test_a_demo_of_one_day_is_possible() -> None:
    assert len(demo_enterprise(seed=7, sessions=20, days=1, ends_at=ENDS_AT).sessions) == 20
    day_start = ENDS_AT.replace(hour=8, minute=0)
    assert demo_enterprise(seed=7, sessions=20, days=1, ends_at=day_start).sessions == []
