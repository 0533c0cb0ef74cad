"""Faults of the API and of the network, with other people at work meanwhile: nothing lost, nothing twice, no ACU off.

Runs go through the client, landing and publishing over real sockets; waits between tries pass at once. What a run
must have seen is known from the emulator, what the tables must hold from the oracle and a clean run into a lake of its
own.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import pytest

from devin_pipeline.devin_api import FEED_BY_TABLE, DevinClient, DevinError, SessionBatch, range_reader
from devin_pipeline.emulator import EmulatorServer, Enterprise, FaultScript
from devin_pipeline.emulator.faults import EVENTS, LIES, REFUSALS, TRANSIENT, Event, organization_deleted
from devin_pipeline.lake import Lake
from devin_pipeline.tables import ALL_TABLES, RAW_SESSION_TABLES, TABLES
from devin_pipeline_tests.conftest import Dose, Figure
from devin_pipeline_tests.harness import PipelineHarness, Row, comparable, differences, the_last_days
from devin_pipeline_tests.oracle import an_object, canonical_id, content_hash, instant, read_json, text
from devin_pipeline_tests.runs import counted_twice, publish, read_feed

DAYS = the_last_days(4)
FEEDS = [table.name for table in RAW_SESSION_TABLES]
SESSIONS = 200
RUNS_IN_A_WORLD = 12
TENTH = 0.1
HIGHER = (0.3, 0.45, 0.6)
FEWEST_RUNS_FOR_A_SHARE = 100

# What follows from when something was read, not from what is there now.
OF_HISTORY = {"first_seen_at", "last_changed_at", "versions"}

Truth = dict[str, tuple[date, str]]


@dataclass
class Counts:
    """What all worlds together came to."""

    faults: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    published: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    sessions_checked: int = 0


class World:
    """An enterprise that changes, a server that fails, a lake that follows, and what it must have seen."""

    def __init__(self, seed: int, counts: Counts, folder: Path, instance: dg.DagsterInstance) -> None:
        self.random = random.Random(seed)
        self.counts = counts
        self.folder = folder
        enterprise = Enterprise.synthetic(seed=seed, sessions=SESSIONS, days=len(DAYS))
        # A run at a tenth asks a few dozen times, as for a month of 200 to a page: five pages or so of each feed.
        at_a_tenth = seed % 2 == 0
        self.rates = (TENTH, *HIGHER) if at_a_tenth else HIGHER
        server = EmulatorServer(enterprise, largest_page=self.random.choice((40, 60) if at_a_tenth else (12, 20)))
        feeds = self.random.choice((FEEDS[:1], FEEDS[1:], FEEDS, FEEDS))
        self.harness = PipelineHarness(server, enterprise, Lake(str(folder / "lake")), instance, DAYS, list(feeds))

    @contextmanager
    def client(self) -> Iterator[DevinClient]:
        server = self.harness.server
        with DevinClient(
            base_url=server.url,
            v2_key=server.v2_key,
            v3_key=server.v3_key,
            timeout_seconds=2,
            sleep=lambda _: None,
        ) as client:
            yield client

    def truth(self, feed: str) -> Truth:
        """Every session the feed returns now, with its day and its content."""
        sessions: Truth = {}
        for payload in self.harness.enterprise.items(FEED_BY_TABLE[feed].name):
            item = an_object(read_json(payload))
            session_id, created_at = text(item["session_id"]), instant(item["created_at"])
            assert session_id is not None
            assert created_at is not None
            sessions[canonical_id(session_id)] = (self.harness.oracle.day_of(created_at), content_hash(item))
        return sessions

    def run(self, client: DevinClient, how: str, script: FaultScript | None, days: Sequence[date] = DAYS) -> bool:
        """A run under a script; whatever it published is checked at once."""
        harness = self.harness
        before = {feed: self.truth(feed) for feed in harness.feeds}
        versions = harness.versions()
        raw = {feed: harness.rows(feed) for feed in harness.feeds}
        stored: dict[str, list[date]] = {}

        def check(feed: str, whole: list[date], listing: SessionBatch, read_at: datetime) -> None:
            stored[feed] = whole
            self.check_listing(before[feed], self.truth(feed), whole, listing)
            harness.oracle.observe(feed, whole, [item.payload.decode() for item in listing.items], read_at)

        harness.server.script(script)
        try:
            for feed in harness.feeds:
                read_feed(client, harness.lake, feed, days, partial(check, feed))
            publish(harness.lake, days)
            is_published = True
        except DevinError:
            is_published = False
        finally:
            harness.server.script(None)
        if script is not None:
            self.counts.faults += script.sent
            self.counts.events += script.happened
            (self.counts.published if is_published else self.counts.refused)[how] += 1
        if is_published:
            assert counted_twice(harness.lake) == []
            assert total(harness.rows("acu_daily")) == total(harness.oracle.table("sessions"))
        else:
            self.check_refusal(versions, raw, stored)
        return is_published

    def check_listing(self, before: Truth, after: Truth, whole: Sequence[date], listing: SessionBatch) -> None:
        """No session twice; none lost, and none with another content, of those that were listed throughout."""
        returned = {item.session_id: item for item in listing.items}
        assert len(returned) == len(listing.items)
        throughout = {name for name in before.keys() & after.keys() if before[name][0] in whole}
        assert throughout - returned.keys() == set()
        for name in throughout:
            if before[name] == after[name]:
                assert content_hash(read_json(returned[name].payload.decode())) == before[name][1]
        self.counts.sessions_checked += len(throughout)

    def check_refusal(
        self, versions: dict[str, int | None], raw: dict[str, list[Row]], stored: dict[str, list[date]]
    ) -> None:
        """What could not be read is as it was before, and so is everything that would follow from it."""
        now = self.harness.versions()
        for table in ALL_TABLES:
            if table.layer != "raw":
                assert now[table.name] == versions[table.name]
        for feed, rows in raw.items():
            kept = [row for row in self.harness.rows(feed) if row["day"] not in stored.get(feed, [])]
            assert kept == [row for row in rows if row["day"] not in stored.get(feed, [])]

    def compare_with_a_clean_run(self, client: DevinClient) -> None:
        """After a quiet refresh every table is the oracle's, and what is listed is what a clean lake holds."""
        assert self.run(client, "quiet", None)
        assert differences(self.harness) == {}
        for feed in self.harness.feeds:
            listed = {row["session_id"] for row in self.harness.rows(feed) if row["is_listed"]}
            assert self.truth(feed).keys() <= listed
        clean = PipelineHarness(
            self.harness.server,
            self.harness.enterprise,
            Lake(str(self.folder / "clean")),
            self.harness.instance,
            DAYS,
            self.harness.feeds,
        )
        for feed in clean.feeds:
            read_feed(client, clean.lake, feed, DAYS)
        publish(clean.lake, DAYS)
        clean_rows = {row["session_id"]: row for row in clean.rows("sessions")}
        rows = [row for row in self.harness.rows("sessions") if row["session_id"] in clean_rows]
        assert {row["session_id"]: row["acus"] for row in rows} == {n: row["acus"] for n, row in clean_rows.items()}
        # A feed that no longer lists a session (v2, of a deleted organization) still says what it last knew.
        alike = [row for row in rows if row["feeds"] == clean_rows[row["session_id"]]["feeds"]]
        columns = [name for name in TABLES["sessions"].schema.names if name not in OF_HISTORY]
        assert comparable(alike, columns) == comparable([clean_rows[row["session_id"]] for row in alike], columns)


def total(rows: Sequence[Row]) -> Decimal:
    """All known ACUs."""
    return sum((row["acus"] for row in rows if row["acus"] is not None), Decimal(0))


def scripts(chance: random.Random, rates: Sequence[float]) -> Iterator[tuple[str, FaultScript]]:
    """The runs of a world: every other one at its first rate, the last one of refusals only, the rest at any."""
    events: tuple[Event, ...] = (*EVENTS * 5, organization_deleted)
    for number in range(RUNS_IN_A_WORLD):
        seed = chance.randrange(2**32)
        rate, kinds = chance.choice(rates[1:]) if number % 2 else rates[0], (*TRANSIENT, *LIES)
        how = f"{rate:.0%}"
        if number == RUNS_IN_A_WORLD - 1:
            how, rate, kinds = "refusals only", TENTH, REFUSALS
        yield how, FaultScript.seeded(seed, rate=rate, kinds=kinds, event_rate=0.15, events=events)


def test_no_session_is_lost_or_doubled_and_no_acu_is_off_whatever_the_api_does(
    dose: Dose, figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The days here are small; those of more than two pages are split as full ones are.
    monkeypatch.setattr(range_reader, "_MIN_PAGES_TO_SPLIT", 2)
    monkeypatch.setattr(range_reader, "_PAGES_PER_SPLIT", 1)
    counts = Counts()
    wanted = dose(10_000)
    with dg.DagsterInstance.ephemeral() as instance:
        for seed in range(1, 1 + max(1, wanted // 20)):
            with TemporaryDirectory() as folder:
                world = World(seed, counts, Path(folder), instance)
                with world.harness.server, world.client() as client:
                    assert world.run(client, "quiet", None)
                    for how, script in scripts(world.random, world.rates):
                        world.run(client, how, script)
                        if counts.faults.total() >= wanted:
                            break
                    world.compare_with_a_clean_run(client)
            if counts.faults.total() >= wanted:
                break
    assert counts.faults.total() >= wanted
    published, refused = counts.published["10%"], counts.refused["10%"]
    if published + refused >= FEWEST_RUNS_FOR_A_SHARE:
        assert published >= 0.95 * (published + refused)
    figure(
        f"{counts.faults.total()} HTTP faults of {len(counts.faults)} kinds, {counts.events.total()} changes meanwhile,"
        f" {counts.sessions_checked} versions of sessions checked: 0 lost, 0 doubled, 0 ACUs off"
    )
    figure(
        f"runs published at a fault rate of 10 %: {published} of {published + refused};"
        f" at 30 to 60 %: {sum(counts.published[f'{rate:.0%}'] for rate in HIGHER)} of"
        f" {sum((counts.published + counts.refused)[f'{rate:.0%}'] for rate in HIGHER)};"
        f" refused in all: {counts.refused.total()}, each with the version before untouched"
    )
