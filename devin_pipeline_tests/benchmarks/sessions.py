"""Any number of made-up sessions, each rendered when it is asked for: a million of them are never held in memory.

A session's number decides all of it. Long texts come from pools that are walked in an order of their own each, so that
no two sessions are alike and no text comes twice among neighbours: a compressor finds in a day's file what it would
find in real prose, no more.
"""

import bisect
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from itertools import accumulate
from pydoc_data.topics import topics
from typing import Literal

from devin_pipeline.emulator.phrases import COMPONENTS, FINDINGS, REPOSITORIES, TASKS
from devin_pipeline_tests.benchmarks.bill import Bill, Person

Feed = Literal["session_insights_v2", "sessions_v3", "session_insights_v3"]

DAY_STARTS_AT_UTC_HOUR = 8
_WEEKDAYS = (1.0, 1.15, 1.1, 1.05, 0.8, 0.22, 0.17)  # Monday first
_TEXTS = 8192
_PICKS = 4096
_FEW = 30_000
_SESSIONS_PER_LONG_ONE = 16
_ORGANIZATIONS = 24
_PEOPLE = 1500
_REPOSITORIES = 240
_ORIGINS = ("webapp",) * 9 + ("slack",) * 4 + ("api",) * 2 + ("linear",)
_STATUSES = (
    ("exit", "finished"),
    ("exit", "finished"),
    ("running", "finished"),
    ("suspended", "inactivity"),
    ("suspended", "inactivity"),
    ("suspended", "user_request"),
    ("running", "waiting_for_user"),
    ("error", None),
)
_COLORS = ("green", "green", "yellow", "red")
_TAGS = ('"cost-centre:4711"', '"cost-centre:0815"', '"bug-fix"', '"q3-migration"', '"on-call"', '"größe:m"')


class Sessions:
    """Numbered sessions 0 … count - 1, oldest first, spread over billing days as work is over a week.

    `bill` is what the people who work with them are billed.

    Args:
        count: How many.
        days: Over how many billing days.
        last_day: The last of these.
        seed: Equal arguments give equal bytes.
        texts: How many different texts each pool holds.
        people: How many users and service users there are.
    """

    def __init__(
        self,
        count: int,
        days: int,
        last_day: date,
        *,
        seed: int = 7,
        texts: int = _TEXTS,
        people: int = _PEOPLE,
    ) -> None:
        self.count = count
        self.days = [last_day - timedelta(days=back) for back in range(days - 1, -1, -1)]
        self._seed = seed
        self._texts = texts
        weights = list(accumulate((_WEEKDAYS[day.weekday()] for day in self.days), initial=0.0))
        self._first_of_day = [round(count * weight / weights[-1]) for weight in weights]
        first = datetime(self.days[0].year, self.days[0].month, self.days[0].day, DAY_STARTS_AT_UTC_HOUR, tzinfo=UTC)
        self._starts_at = int(first.timestamp())
        self._ends_at = self._starts_at + days * 86400
        self._changes: dict[int, int] = {}
        self._rendered: dict[tuple[Feed, int], bytes] = {}
        self._pools = _Pools(seed, texts, people)
        self.bill = Bill([_person(who) for who in self._pools.people], self._starts_at, self._ends_at)

    def change(self, day: date) -> None:
        """Let the first session of a billing day consume one more ACU."""
        number = self._first_of_day[self.days.index(day)]
        self._changes[number] = self._changes.get(number, 0) + 1
        self._rendered.clear()

    def render_if_few(self, feed: Feed) -> None:
        """Have every item of a feed ready, if they fit into some hundred megabytes."""
        if self.count <= _FEW:
            self._rendered |= {(feed, number): self._item(feed, number) for number in range(self.count)}

    def created_at(self, number: int) -> int:
        """Seconds since the epoch; never less than those of the session before."""
        day = bisect.bisect_right(self._first_of_day, number) - 1
        first, after = self._first_of_day[day], self._first_of_day[day + 1]
        return self._starts_at + day * 86400 + (number - first) * 86400 // (after - first)

    def created_before(self, microseconds: int) -> int:
        """How many sessions were created before an instant: the number of the first that was not."""
        return bisect.bisect_left(range(self.count), microseconds, key=lambda number: self.created_at(number) * 10**6)

    def item(self, feed: Feed, number: int) -> bytes:
        """One session as JSON, as a feed returns it."""
        return self._rendered.get((feed, number)) or self._item(feed, number)

    def _item(self, feed: Feed, number: int) -> bytes:
        drawn = blake2b(b"%d/%d" % (self._seed, number), digest_size=32).digest()
        session_id = drawn[:16].hex().encode()
        pools, pick = self._pools, int.from_bytes(drawn[16:], "little")
        low, pick = pick % _PICKS, pick // _PICKS
        who, pick = pools.users[pick % _PICKS], pick // _PICKS
        status, pick = _STATUSES[pick % 8], pick // 8
        changes = self._changes.get(number, 0)
        created = self.created_at(number)
        updated = created + 60 + low // 8 + changes
        if low % _SESSIONS_PER_LONG_ONE == 0:
            # One that goes on for days, so that its ACUs were consumed on several; not after the last of all days.
            updated = min(updated + 86400 * (1 + low % 3), self._ends_at - 1 + changes)
        acus = b"null" if low < 60 else b"%d.%06d" % (pools.acus[low] + changes, pick % 10**6)
        pick //= 10**6
        pull_requests = self._pull_requests(feed, number, pick)
        pick //= 2**24
        tags = b",".join(pools.tags[pick % 16])
        prompt = self._of(pools.prompts, number, 1)
        title = self._of(pools.titles, number, 5)
        is_v2 = feed == "session_insights_v2"
        is_analysed = (pick // 16) % 100 < 85
        common = (
            b'{"acus_consumed":%b,"created_at":%b,"org_id":"%b","pull_requests":[%b],"session_id":"%b","status":"%b",'
            b'"tags":[%b],"updated_at":%b,"url":"https://app.devin.ai/sessions/%b","title":"%b",'
            % (
                acus,
                _instant(created) if is_v2 else b"%d" % created,
                who.org_id,
                pull_requests,
                session_id,
                status[0].encode(),
                tags,
                _instant(updated) if is_v2 else b"%d" % updated,
                session_id,
                title,
            )
        )
        if is_v2:
            analysis = self._analysis_v2(number, prompt) if is_analysed else b"null"
            return b'%b"user_id":%b,"initial_user_message":"%b","session_analysis":%b}' % (
                common,
                who.user_id,
                prompt,
                analysis,
            )
        task = TASKS[(pick // 1600) % len(TASKS)]
        of_v3 = (
            b'%b"category":"%b","child_session_ids":null,"is_archived":false,"origin":"%b","parent_session_id":null,'
            b'"playbook_id":null,"service_user_id":%b,"status_detail":%b,"structured_output":null,"subcategory":"%b",'
            b'"user_id":%b'
            % (
                common,
                task.category.encode(),
                _ORIGINS[low % len(_ORIGINS)].encode(),
                who.service_user_id,
                _json(status[1]),
                task.subcategory.encode(),
                who.user_id,
            )
        )
        if feed == "sessions_v3":
            return of_v3 + b"}"
        return b'%b,"num_user_messages":%d,"num_devin_messages":%d,"session_size":"%b","analysis":%b}' % (
            of_v3,
            1 + low % 9,
            2 + low % 31,
            b"m" if low % 3 else b"s",
            self._analysis_v3(number, prompt, task.subcategory) if is_analysed else b"null",
        )

    def _of(self, pool: Sequence[bytes], number: int, stride: int) -> bytes:
        """Walk a pool once around in an order of its own before any entry comes again."""
        return pool[(number * stride + number // self._texts) % self._texts]

    def _pull_requests(self, feed: Feed, number: int, pick: int) -> bytes:
        if pick % 20 >= 13:
            return b""
        repository = self._pools.repositories[(pick // 20) % _PICKS]
        state = (b"merged", b"merged", b"merged", b"open", b"closed")[(pick // 2**18) % 5]
        # Some sessions go on with the pull request of the one before.
        url = b"https://%b/%d" % (repository, number // 2 if number % 16 < 2 else number)
        if feed == "session_insights_v2":
            return b'{"url":"%b","state":"%b"}' % (url, state)
        return b'{"pr_url":"%b","pr_state":"%b"}' % (url, state)

    def _analysis_v2(self, number: int, prompt: bytes) -> bytes:
        pools = self._pools
        found = pools.findings[(number * 3 + number // self._texts) % self._texts]
        return (
            b'{"issues":[%b],"timeline":[%b],"action_items":[%b],"suggested_prompt":{"original_prompt":"%b",'
            b'"suggested_prompt":"%b","feedback_items":[%b]}}'
            % (
                found.issues_v2,
                self._of(pools.timelines_v2, number, 7),
                found.action_items,
                prompt,
                self._of(pools.suggestions, number, 11),
                found.feedback_items,
            )
        )

    def _analysis_v3(self, number: int, prompt: bytes, category: str) -> bytes:
        pools = self._pools
        found = pools.findings[(number * 3 + number // self._texts) % self._texts]
        return (
            b'{"classification":{"category":%b,"confidence":0.%d,"programming_languages":["Python"],'
            b'"tools_and_frameworks":["pytest"]},"issues":[%b],"timeline":[%b],"action_items":[%b],"suggested_prompt":'
            b'{"original_prompt":"%b","suggested_prompt":"%b","feedback_items":[%b]},'
            b'"note_usage":{"good_usages":[],"bad_usages":[]}}'
            % (
                _json(category),
                40 + number % 60,
                found.issues_v3,
                self._of(pools.timelines_v3, number, 7),
                found.action_items,
                prompt,
                self._of(pools.suggestions, number, 11),
                found.feedback_items,
            )
        )


@dataclass(frozen=True)
class _Who:
    org_id: bytes
    user_id: bytes
    service_user_id: bytes


@dataclass(frozen=True)
class _Found:
    issues_v2: bytes
    issues_v3: bytes
    action_items: bytes
    feedback_items: bytes


class _Pools:
    """The texts and names that sessions are put together from."""

    def __init__(self, seed: int, texts: int, people: int) -> None:
        rng = random.Random(f"{seed}/texts")
        prose = _Prose(rng)
        self.titles = [prose.escaped(5, 9) for _ in range(texts)]
        self.prompts = [prose.escaped(8, 240) for _ in range(texts)]
        self.suggestions = [prose.escaped(70, 205) for _ in range(texts)]
        self.findings = [_findings(rng, prose) for _ in range(texts)]
        timelines = [_timeline(rng, prose) for _ in range(texts)]
        self.timelines_v2 = [two for two, _ in timelines]
        self.timelines_v3 = [three for _, three in timelines]
        self.people = [_someone(rng) for _ in range(people)]
        # Few do most of the work, as everywhere.
        self.users = rng.choices(self.people, [1 / (rank + 10) for rank in range(people)], k=_PICKS)
        self.acus = [min(60, int(rng.lognormvariate(0.9, 1.15))) for _ in range(_PICKS)]
        self.tags = [tuple(tag.encode() for tag in rng.sample(_TAGS, rng.randrange(4))) for _ in range(16)]
        repositories = [
            f"{host}/{name}-{number}/{between}".encode()
            for number in range(_REPOSITORIES // len(REPOSITORIES))
            for host, name, between in REPOSITORIES
        ]
        self.repositories = rng.choices(repositories, [1 / (rank + 5) for rank in range(len(repositories))], k=_PICKS)


class _Prose:
    """Text that reads, and compresses, like technical English: words follow one another as in Python's own manual."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._words = " ".join(topics[name] for name in sorted(topics)).split()
        self._followers: dict[str, list[str]] = {}
        for word, next_word in zip(self._words, self._words[1:], strict=False):
            self._followers.setdefault(word, []).append(next_word)

    def text(self, least: int, most: int) -> str:
        """So many words, names of files and tickets among them."""
        draw, followers = self._rng.random, self._followers
        word = self._words[int(draw() * len(self._words))]
        words = []
        for _ in range(least + int(draw() * (most - least + 1))):
            words.append(word)
            if draw() < 0.1:
                words.append(self._name())
            # A jump now and then, or whole phrases of the manual would come again and again.
            known = followers.get(word, self._words) if draw() < 0.75 else self._words
            word = known[int(draw() * len(known))]
        return " ".join(words)

    def escaped(self, least: int, most: int) -> bytes:
        """The same as the inside of a JSON string."""
        return _json(self.text(least, most))[1:-1]

    def _name(self) -> str:
        number = self._rng.randrange(10**7)
        component = COMPONENTS[number % len(COMPONENTS)]
        return (f"src/{component}/{number % 997}.py:{number % 613}", f"ENG-{number}", f"{number:07x}")[number % 3]


def _someone(rng: random.Random) -> _Who:
    org_id = b"org-%032x" % (0xA3C59AC2F0E1D4B7 * (1 + rng.randrange(_ORGANIZATIONS)))
    if rng.random() < 0.06:
        return _Who(org_id, b"null", b'"service-user-%016x"' % rng.getrandbits(64))
    return _Who(org_id, b'"email|%024x"' % rng.getrandbits(96), b"null")


def _person(who: _Who) -> Person:
    is_service_user = who.user_id == b"null"
    person_id: str = json.loads(who.service_user_id if is_service_user else who.user_id)
    return Person(person_id, who.org_id.decode(), is_service_user)


def _findings(rng: random.Random, prose: _Prose) -> _Found:
    findings = rng.choices(FINDINGS, k=rng.choices((0, 1, 2, 3), (10, 30, 35, 25))[0])
    issues, actions, feedback = [], [], []
    for number, finding in enumerate(findings, start=1):
        issue_id = f"issue_{number}"
        component = COMPONENTS[int(rng.random() ** 2 * len(COMPONENTS))]
        issue = {"issue": f"{finding.issue}: {prose.text(8, 24)}", "impact": finding.impact, "label": finding.label}
        issues.append({"id": issue_id, **issue})
        action = f"{finding.action_item} {prose.text(8, 24)}"
        actions.append({"issue_id": issue_id, "type": finding.action_type, "action_item": action})
        feedback.append(
            {
                "issue_id": issue_id,
                "summary": f"{finding.summary} ({component})",
                "excerpt": prose.text(6, 12),
                "details": f"{finding.details} {prose.text(15, 45)}",
            }
        )
    without_ids = [{key: value for key, value in issue.items() if key != "id"} for issue in issues]
    return _Found(_entries(without_ids), _entries(issues), _entries(actions), _entries(feedback))


def _timeline(rng: random.Random, prose: _Prose) -> tuple[bytes, bytes]:
    steps: list[dict[str, object]] = [
        {"title": prose.text(3, 6), "description": prose.text(12, 36)} for _ in range(rng.randrange(4, 10))
    ]
    colored = [{**step, "color": rng.choice(_COLORS), "issue_id": None} for step in steps]
    return _entries(steps), _entries(colored)


def _entries(entries: Sequence[object]) -> bytes:
    return _json(entries)[1:-1]


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _instant(seconds: int) -> bytes:
    return b'"%bZ"' % datetime.fromtimestamp(seconds, UTC).isoformat()[:19].encode()
