"""Updates of older days are read, whenever the sensor looks for the first time; what it cannot read is named."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import msgspec
import pytest

from devin_pipeline.automation.sensors import late_updates
from devin_pipeline.billing_calendar import day_of, days_between, starts_at
from devin_pipeline.doctor import examine
from devin_pipeline.orchestration.resources import devin_api_resource
from devin_pipeline.settings import Settings
from devin_pipeline.shell import pipeline_command
from devin_pipeline_tests.dagster_server.running import span
from devin_pipeline_tests.stage import Stage, differences, warnings

MakeStage = Callable[..., Stage]


def look(stage: Stage, cursor: str | None = None) -> dg.SensorResult:
    """A tick of the sensor."""
    with dg.build_sensor_context(
        instance=stage.instance, cursor=cursor, resources={"devin_api": devin_api_resource(Settings())}
    ) as context:
        result = late_updates(Settings())(context)
    assert isinstance(result, dg.SensorResult)
    return result


def let_hours_pass(stage: Stage, hours: int) -> None:
    """Make what the lake knows of its reads older."""
    for file in (Path(stage.lake.uri) / "last_reads").glob("*.json"):
        reads = msgspec.json.decode(file.read_bytes())
        for read in reads:
            read["at"] = (datetime.fromisoformat(read["at"]) - timedelta(hours=hours)).isoformat()
        file.write_bytes(msgspec.json.encode(reads))


@pytest.mark.notices("updates before the sensor's first look")
@pytest.mark.parametrize("keys", ["v2", "v3"])
def test_an_update_between_the_backfill_and_the_sensors_first_look_is_read(make_stage: MakeStage, keys: str) -> None:
    stage = make_stage(keys, sessions=0, days=42)
    old = stage.days[1]
    session = stage.enterprise.add_session(
        created_at=starts_at(old, 8) + timedelta(hours=1), updated_at=starts_at(old, 8), acus=Decimal(3)
    )
    stage.refresh()
    let_hours_pass(stage, 3)
    session.acus, session.updated_at = Decimal(9), datetime.now(UTC)

    tick = look(stage)
    (request,) = tick.run_requests or ()
    assert span(request.tags) == (old, old)
    assert stage.run(days_between(*span(request.tags))).success
    assert [row["acus"] for row in stage.rows("sessions")] == [Decimal(9)]
    assert [row["acus"] for row in stage.rows("acu_monthly")] == [Decimal(9)]
    # It was read since: another look, without the cursor, asks for nothing.
    let_hours_pass(stage, -3)
    assert not look(stage).run_requests


@pytest.mark.notices("days of unknown age")
def test_days_of_unknown_age_are_named_with_the_backfill_that_closes_the_gap(make_stage: MakeStage) -> None:
    stage = make_stage("v3", sessions=84, days=42)
    assert "late_updates_are_read" not in warnings(stage.refresh())
    shutil.rmtree(Path(stage.lake.uri) / "last_reads")
    first = day_of(datetime.now(UTC), 8) - timedelta(days=34)
    older = sorted({row["day"] for row in stage.rows("raw_sessions_v3") if row["day"] < first})
    assert older
    # A run over other days names them too.
    assert "late_updates_are_read" in warnings(stage.run(stage.days[-2:]))
    (found,) = [finding for finding in examine(Settings()) if finding.name == "late updates"]
    assert found.outcome == "warning"
    assert found.todo == pipeline_command(f"backfill --from {older[0]} --to {older[-1]}")
    assert "late_updates_are_read" not in warnings(stage.run(days_between(older[0], older[-1])))
    assert differences(stage) == {}


def test_a_read_that_changes_nothing_writes_its_small_file_and_to_no_table(make_stage: MakeStage) -> None:
    stage = make_stage("v3", sessions=20, days=3)
    stage.refresh()
    before, versions = stage.lake.last_reads(), stage.versions()
    stage.refresh()
    assert stage.versions() == versions
    after = stage.lake.last_reads()
    for feed in stage.feeds:
        assert after.of(feed).keys() == before.of(feed).keys() == set(stage.days)
        assert all(after.of(feed)[day] > at for day, at in before.of(feed).items())
    assert sum(file.stat().st_size for file in (Path(stage.lake.uri) / "last_reads").iterdir()) < 2_000
