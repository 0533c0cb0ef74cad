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
from typing import Any

import dagster as dg
import deltalake
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from devin_pipeline.devin_api import DevinClient, Window
from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline.lake import Lake
from devin_pipeline.partitions import starts_at
from devin_pipeline.raw.landing import land
from devin_pipeline.resources import ASKED_OF, feeds_turned_on
from devin_pipeline.tables import ALL_TABLES, TABLES
from devin_pipeline_tests.conftest import Dose, Figure
from devin_pipeline_tests.runs import counted_twice, publish
from devin_pipeline_tests.stage import Stage, differences, set_environment, the_last_days

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

    steps = 0

    @initialize(seed=SEEDS, keys=st.sampled_from(["v2", "v3", "both"]))
    def begin(self, seed: int, keys: str) -> None:
        self.opened = ExitStack()
        folder = Path(self.opened.enter_context(TemporaryDirectory()))
        patch = self.opened.enter_context(pytest.MonkeyPatch.context())
        enterprise = Enterprise.synthetic(seed=seed, sessions=24, days=len(DAYS))
        server = self.opened.enter_context(EmulatorServer(enterprise))
        set_environment(patch, server, folder, keys, DAYS[0])
        instance = self.opened.enter_context(dg.DagsterInstance.ephemeral())
        self.stage = Stage(server, enterprise, Lake(str(folder / "lake")), instance, DAYS, feeds_turned_on())
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

    @rule(day=st.sampled_from(DAYS[:-1]), second=st.integers(0, 86_399))
    def create(self, day: date, second: int) -> None:
        self.stage.enterprise.add_session(created_at=starts_at(day, 8) + timedelta(seconds=second))

    @rule(count=st.integers(1, 5))
    def update(self, count: int) -> None:
        self.stage.enterprise.grow_acus(count)
        self.stage.enterprise.merge_pull_requests(count)

    @rule(count=st.integers(1, 5))
    def analyse(self, count: int) -> None:
        self.stage.enterprise.add_analyses(count)

    @rule()
    def delete_a_session(self) -> None:
        if sessions := self.stage.enterprise.sessions:
            self.stage.enterprise.delete_session(self.random.choice(sessions).session_id)

    @rule()
    def delete_an_organization(self) -> None:
        self.stage.enterprise.delete_organization(self.random.choice(self.stage.enterprise.organizations).org_id)

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
            self.stage.lake.purge(table)

    def read(self, days: Sequence[date]) -> None:
        """Do what a run does, and tell the oracle what was read as soon as it is stored."""
        stage, lake = self.stage, self.stage.lake
        windows = {Window(starts_at(day, 8), starts_at(day, 8, after=1)): day for day in days}
        for feed in stage.feeds:
            read_at = datetime.now(UTC)
            items = stage.enterprise.items(ASKED_OF[feed])
            listing = self.client.read(ASKED_OF[feed], list(windows))
            whole = [day for window, day in windows.items() if window not in listing.failures]
            if whole:
                version = lake.snapshot(TABLES[feed]).version
                try:
                    land(lake, TABLES[feed], listing, whole, read_at, 8)
                except Killed:
                    if lake.snapshot(TABLES[feed]).version != version:
                        self.told(feed, whole, items, read_at)
                    raise
                self.told(feed, whole, items, read_at)
            if listing.failures:
                return
        publish(lake, days)

    def told(self, feed: str, days: Sequence[date], items: Sequence[str], read_at: datetime) -> None:
        self.stage.oracle.observe(feed, days, items, read_at)

    # What must hold

    @invariant()
    def no_session_is_counted_twice_and_every_reader_sees_one_whole_version(self) -> None:
        type(self).steps += 1
        assert counted_twice(self.stage.lake) == []

    def teardown(self) -> None:
        try:
            self.stage.refresh()
            assert differences(self.stage) == {}
        finally:
            self.opened.close()


def test_any_order_of_everything_ends_with_the_tables_of_a_clean_run(dose: Dose, figure: Figure) -> None:
    AnyOrder.steps = 0
    examples = dose(50)
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=examples,
            stateful_step_count=8 if examples == 1 else 20,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # a failing order is told whole: shrinking it takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
    figure(f"{AnyOrder.steps} steps in {examples} orders of edits, reads, kills and races: every table as expected")
