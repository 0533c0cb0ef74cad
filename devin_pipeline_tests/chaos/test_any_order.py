"""Any order of edits, reads, faults, kills and races leaves the tables that the independent computation expects.

Reads go through the client, landing and publishing over real sockets and files; the last one through Dagster. A kill
is an exception nothing catches, raised before or after a commit; real ones are in `test_kills.py`.
"""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import dagster as dg
import deltalake
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.devin_api import FEED_BY_TABLE, DevinClient, Window
from devin_pipeline.emulator import EmulatorServer, Enterprise, FaultScript
from devin_pipeline.lake import Lake
from devin_pipeline.operations.maintain import maintain
from devin_pipeline.operations.verify import verify
from devin_pipeline.raw.sessions.landing import land
from devin_pipeline.settings import Settings
from devin_pipeline.tables import ALL_TABLES, RAW, TABLES
from devin_pipeline_tests.conftest import Dose, Figure
from devin_pipeline_tests.harness import PipelineHarness, differences, set_environment, the_last_days
from devin_pipeline_tests.runs import counted_twice, publish

DAYS = the_last_days(3)
RANGES = st.sampled_from([DAYS[:1], DAYS[1:2], DAYS[2:], DAYS[:2], DAYS[1:], DAYS])
SEEDS = st.integers(0, 10_000)


class Killed(BaseException):
    """Stands for a process that ends here: nothing catches it."""


@contextmanager
def killed_at(commit: int, *, before: bool) -> Iterator[None]:
    """End whatever runs inside at its n-th commit, just before it or just after."""
    commits = 0
    write = deltalake.write_deltalake

    def write_or_die(*args: Any, **kwargs: Any) -> None:
        nonlocal commits
        commits += 1
        if commits == commit and before:
            raise Killed
        write(*args, **kwargs)
        if commits == commit:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("devin_pipeline.lake.lake.write_deltalake", write_or_die)
        with suppress(Killed):
            yield


class AnyOrder(RuleBasedStateMachine):
    """An enterprise that changes, a lake that follows it, and everything that may come between."""

    steps = damaged = 0
    scripts: ClassVar[list[FaultScript]] = []

    @initialize(seed=SEEDS, keys=st.sampled_from(["v2", "v3", "both"]))
    def begin(self, seed: int, keys: str) -> None:
        self.opened = ExitStack()
        folder = Path(self.opened.enter_context(TemporaryDirectory()))
        patch = self.opened.enter_context(pytest.MonkeyPatch.context())
        enterprise = Enterprise.synthetic(seed=seed, sessions=24, days=len(DAYS))
        server = self.opened.enter_context(EmulatorServer(enterprise))
        set_environment(patch, server, folder, keys, DAYS[0])
        instance = self.opened.enter_context(dg.DagsterInstance.ephemeral())
        self.harness = PipelineHarness(server, enterprise, Lake(str(folder / "lake")), instance, DAYS, Settings().feeds)
        self.random = random.Random(seed)
        self.client = DevinClient(
            base_url=server.url,
            v2_key=server.v2_key,
            v3_key=server.v3_key,
            timeout_seconds=2,
            sleep=lambda _: None,
        )
        self.opened.callback(self.client.close)

    # What the enterprise does

    # One rule for all: with a rule for each, most orders would hardly ever let the pipeline run.
    @rule(what=st.sampled_from(["create", "update", "analyse", "delete_a_session", "delete_an_organization"]))
    def edit(self, what: str) -> None:
        enterprise, chosen = self.harness.enterprise, self.random
        match what:
            case "create":
                at = starts_at(chosen.choice(DAYS[:-1]), 8) + timedelta(seconds=chosen.randrange(86_400))
                enterprise.add_session(created_at=at)
            case "update":
                enterprise.grow_acus(chosen.randint(1, 5))
                enterprise.merge_pull_requests(chosen.randint(1, 5))
            case "analyse":
                enterprise.add_analyses(chosen.randint(1, 5))
            case "delete_a_session":
                if sessions := enterprise.sessions:
                    enterprise.delete_session(chosen.choice(sessions).session_id)
            case "delete_an_organization":
                enterprise.delete_organization(chosen.choice(enterprise.organizations).org_id)

    # What the pipeline does, and what is done to it

    @rule(days=RANGES)
    def refresh(self, days: Sequence[date]) -> None:
        self.read(days)

    @rule(days=RANGES, commit=st.integers(1, 24), before=st.booleans())
    def be_killed(self, days: Sequence[date], commit: int, before: bool) -> None:
        with killed_at(commit, before=before):
            self.read(days)

    @rule(some=RANGES, others=RANGES)
    def run_two_at_once(self, some: Sequence[date], others: Sequence[date]) -> None:
        failed: list[Exception] = []

        def run(days: Sequence[date]) -> None:
            try:
                self.read(days)
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=run, args=(days,)) for days in (some, others)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed

    @rule()
    def vacuum(self) -> None:
        for table in ALL_TABLES:
            self.harness.lake.purge(table)

    @rule()
    def maintain(self) -> None:
        maintain(self.harness.lake, 8)

    @rule(seed=SEEDS, rate=st.sampled_from([0.1, 0.3, 0.6]))
    def arm_faults(self, seed: int, rate: float) -> None:
        """From now on some responses are wrong; days that cannot be read stay as they are."""
        script = FaultScript.seeded(seed, rate=rate)
        self.harness.server.script(script)
        type(self).scripts.append(script)

    @rule(how=st.sampled_from(["flip", "truncate", "delete"]))
    def damage_a_data_file(self, how: str) -> None:
        lake = self.harness.lake
        files = [(table, file) for table in ALL_TABLES for file in lake.snapshot(table).stored_files()]
        if not files:
            return
        table, file = self.random.choice(files)
        path = Path(file.path)
        content = path.read_bytes()
        if how == "delete":
            path.unlink()
        elif how == "truncate":
            path.write_bytes(content[: self.random.randrange(len(content))])
        else:
            place = self.random.randrange(len(content))
            path.write_bytes(
                content[:place] + bytes([content[place] ^ 1 << self.random.randrange(8)]) + content[place + 1 :]
            )
        named = [(finding.table, finding.day) for finding in verify(lake, 8).findings]
        # A flipped bit may change nothing that is read; which ones do is judged in `test_flips.py`.
        assert how == "flip" or (table, file.day) in named
        if table.layer == "raw":
            # Only this file may hold some of it, so here it comes back from a backup; repair has tests of its own.
            path.write_bytes(content)
        publish(lake, DAYS)
        assert verify(lake, 8).findings == []
        type(self).damaged += 1

    def read(self, days: Sequence[date]) -> None:
        """Do what a run does, and have the oracle observe what was read as soon as it is stored."""
        harness, lake = self.harness, self.harness.lake
        windows = {Window(starts_at(day, 8), starts_at(day, 8, after=1)): day for day in days}
        for feed in harness.feeds:
            read_at = datetime.now(UTC)
            items = harness.enterprise.items(FEED_BY_TABLE[feed].name)
            failed = False
            for listing in self.client.read(FEED_BY_TABLE[feed], list(windows)):
                whole = [windows[window] for window in listing.windows if window not in listing.failures]
                if whole:
                    version = lake.snapshot(TABLES[feed]).version
                    try:
                        land(lake, RAW[feed], listing, whole, read_at, 8)
                    except Killed:
                        if lake.snapshot(TABLES[feed]).version != version:
                            self.observed(feed, whole, items, read_at)
                        raise
                    self.observed(feed, whole, items, read_at)
                failed = failed or bool(listing.failures)
            if failed:
                return
        publish(lake, days)

    def observed(self, feed: str, days: Sequence[date], items: Sequence[str], read_at: datetime) -> None:
        self.harness.oracle.observe(feed, days, items, read_at)

    # What must hold

    @invariant()
    def no_session_is_counted_twice_and_every_reader_sees_one_whole_version(self) -> None:
        type(self).steps += 1
        assert counted_twice(self.harness.lake) == []

    def teardown(self) -> None:
        try:
            self.harness.server.script(None)
            self.harness.refresh()
            assert differences(self.harness) == {}
        finally:
            self.opened.close()


def test_any_order_of_everything_ends_with_the_tables_of_a_clean_run(dose: Dose, figure: Figure) -> None:
    AnyOrder.steps = AnyOrder.damaged = 0
    AnyOrder.scripts = []
    examples = max(dose(50), 2)  # the first is hypothesis's simplest: one step over and over
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=examples,
            stateful_step_count=8 if examples == 2 else 20,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # a failing order is printed whole: shrinking it takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
    faults = sum(script.sent.total() for script in AnyOrder.scripts)
    figure(
        f"{AnyOrder.steps} steps in {examples} orders of edits, reads, kills, races, vacuums, {faults} HTTP faults and "
        f"{AnyOrder.damaged} damaged files: every table as expected"
    )
