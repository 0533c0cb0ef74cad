"""Months of an enterprise's life, by the schedule and the sensor on a moving clock; every week equal to the oracle.

Sessions are created, grow, move to other days, vanish and return; ids change their form; organizations are renamed and
deleted; feeds disagree. The clock is that of the process: what waits, and what a disk stamps, goes by the real one.
"""

import dataclasses
import json
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import time_machine

from devin_pipeline.automation.schedules import daily_refresh
from devin_pipeline.automation.sensors import late_updates
from devin_pipeline.billing_calendar import days_between, starts_at
from devin_pipeline.cli.environment import prepare_dagster_home
from devin_pipeline.dagster_server.dagster_home import dagster_instance
from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline.emulator.sessions import Session
from devin_pipeline.lake import Lake
from devin_pipeline.operations.verify import verify
from devin_pipeline.orchestration.partitions import FIRST_TAG, LAST_TAG
from devin_pipeline.orchestration.resources import devin_api_resource
from devin_pipeline.settings import Settings
from devin_pipeline_tests.harness import PipelineHarness, differences, set_environment
from devin_pipeline_tests.runs import counted_twice

FIRST = date(2026, 3, 2)
# From a fifth of the full dose on.
DAYS = 60
# In CI: the enterprise's days cost a run or two each.
DAYS_OF_A_SMALL_DOSE = 30
SESSIONS_A_DAY = 12
HOURS = (5, 12, 20)

Figure = Callable[[str], None]
Dose = Callable[[int], int]


@dataclasses.dataclass
class Life:
    """The enterprise, the pipeline that follows it, and the clock both live by.

    Attributes:
        harness: The emulator, the lake, Dagster's records and the oracle.
        clock: The clock of this process.
        cursor: Of the sensor.
        run_keys: Of runs that the sensor requested.
        deleted: Sessions that may return.
    """

    harness: PipelineHarness
    clock: time_machine.Traveller
    rng: random.Random = dataclasses.field(default_factory=lambda: random.Random(15))
    cursor: str | None = None
    run_keys: set[str | None] = dataclasses.field(default_factory=set)
    deleted: list[Session] = dataclasses.field(default_factory=list)
    runs: int = 0

    def go_to(self, instant: datetime) -> None:
        self.clock.move_to(instant)

    def pass_hours(self, day: date, hours: int) -> None:
        """Let the enterprise work until so many hours after the start of a day."""
        now = starts_at(day, 8) + timedelta(hours=hours)
        self.go_to(now)
        enterprise, rng = self.harness.enterprise, self.rng
        for _ in range(SESSIONS_A_DAY // len(HOURS)):
            enterprise.add_session(created_at=now - timedelta(seconds=rng.randrange(4 * 3600)), updated_at=now)
        if hours == HOURS[-1]:
            enterprise.grow_acus(4, at=now)
            enterprise.merge_pull_requests(1, at=now)
            enterprise.add_analyses(2, at=now)
        sessions = enterprise.sessions
        # Those of before are not read again by themselves: each costs a run.
        recent = [session for session in sessions if now - session.created_at < timedelta(days=30)]
        for session in rng.sample(recent, min(3, len(recent))):
            # Also to a day long read, once in a while.
            far = -24 * 40 if rng.random() < 0.05 else 24
            moved = session.created_at + timedelta(hours=rng.choice([-30, -24, 24, far]))
            if starts_at(FIRST, 8) <= moved <= now:
                session.created_at, session.updated_at = moved, now
        for session in rng.sample(recent, min(2, len(recent))):
            session.v3_prefixed = not session.v3_prefixed
        if self.deleted and rng.random() < 0.4:
            back = self.deleted.pop(0)
            fields = {f.name: getattr(back, f.name) for f in dataclasses.fields(back) if f.name != "created_at"}
            enterprise.add_session(created_at=back.created_at, **fields | {"updated_at": now})
        if rng.random() < 0.4 and len(sessions) > 20:
            gone = rng.choice(sessions)
            enterprise.delete_session(gone.session_id)
            self.deleted.append(gone)

    def look(self) -> None:
        """A tick of the sensor, and the runs it requests."""
        context = dg.build_sensor_context(
            instance=self.harness.instance, cursor=self.cursor, resources={"devin_api": devin_api_resource(Settings())}
        )
        with context:
            seen = late_updates(Settings())(context)
        assert isinstance(seen, dg.SensorResult)
        self.cursor = seen.cursor
        for request in seen.run_requests or ():
            if request.run_key not in self.run_keys:
                self.run_keys.add(request.run_key)
                self.run(request.tags)

    def tick(self, day: date) -> None:
        """The tick of the schedule after a day's end, and its run."""
        at = starts_at(day, 8, after=1) + timedelta(minutes=30)
        self.go_to(at)
        with dg.build_schedule_context(instance=self.harness.instance, scheduled_execution_time=at) as context:
            request = daily_refresh(Settings())(context)
        assert isinstance(request, dg.RunRequest)
        self.run({**request.tags, "dagster/schedule_name": "daily_refresh"})

    def run(self, tags: Mapping[str, str]) -> None:
        """One run over the days of these tags, which the oracle sees too."""
        days = days_between(date.fromisoformat(tags[FIRST_TAG]), date.fromisoformat(tags[LAST_TAG]))
        result = self.harness.run(days, tags)
        assert result.success, [event.message for event in result.all_events if event.is_failure]
        self.runs += 1
        for feed in self.harness.feeds:
            self.harness.oracle.observe(feed, days, self.harness.listed(feed), datetime.now(UTC))


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Life]:
    with time_machine.travel(starts_at(FIRST, 8), tick=True) as clock:
        enterprise = Enterprise.synthetic(seed=15, sessions=0, days=1, ends_at=starts_at(FIRST, 8))
        with EmulatorServer(enterprise) as server:
            set_environment(monkeypatch, server, tmp_path, "both", FIRST)
            prepare_dagster_home()
            with dagster_instance() as instance:
                lake = Lake(str(tmp_path / "lake"))
                yield Life(PipelineHarness(server, enterprise, lake, instance, [FIRST], Settings().feeds), clock)


def disagree(life: Life, day: date) -> None:
    """A session that v3 has on the day after v2's."""
    edge = starts_at(day, 8)
    fields = {"session_id": "edge", "org_id": "org-edge", "acus_consumed": 3, "title": "At the edge", "status": "exit"}
    v2 = json.dumps(fields | {"created_at": (edge - timedelta(milliseconds=300)).isoformat(), "updated_at": None})
    v3 = json.dumps(fields | {"created_at": int(edge.timestamp()), "updated_at": int(edge.timestamp())})
    life.harness.enterprise.insert_verbatim("session_insights_v2", edge - timedelta(milliseconds=300), v2)
    life.harness.enterprise.insert_verbatim("sessions_v3", edge, v3)
    life.harness.enterprise.insert_verbatim("session_insights_v3", edge, v3)


def bytes_below(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.slow
def test_every_week_of_its_life_every_table_equals_the_oracle(
    life: Life, tmp_path: Path, figure: Figure, dose: Dose
) -> None:
    harness = life.harness
    days = DAYS if dose(100) >= 20 else DAYS_OF_A_SMALL_DOSE
    for number in range(days):
        day = FIRST + timedelta(days=number)
        for hours in HOURS:
            life.pass_hours(day, hours)
            life.look()
        if number == 10:
            disagree(life, day)
        organizations = [one for one in harness.enterprise.organizations if not one.is_deleted]
        if number in (20, 45):
            harness.enterprise.delete_organization(organizations[0].org_id)
        if number == 25:
            harness.enterprise.rename_organization(organizations[-1].org_id, "Another name")
        life.tick(day)
        if number % 7 == 6 or number == days - 1:
            assert differences(harness) == {}, f"after {number + 1} days"
            assert counted_twice(harness.lake) == []
    assert verify(harness.lake, 8).is_clean
    moved = [row for row in harness.rows("raw_sessions_v3") if row["moved_to"] is not None]
    sessions = len(harness.rows("sessions"))
    assert len(moved) > days // 3
    assert sessions > days * 10
    figure(
        f"{days} days of schedule and sensor: {life.runs} runs, {sessions} sessions, {len(moved)} moves in one feed; "
        f"the lake has {bytes_below(tmp_path / 'lake') / 1e6:.1f} MB, "
        f"DAGSTER_HOME {bytes_below(tmp_path / 'home') / 1e6:.1f} MB"
    )
