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
from devin_pipeline_tests.harness import PipelineHarness, differences, warnings

MakeHarness = Callable[..., PipelineHarness]


def look(harness: PipelineHarness, cursor: str | None = None) -> dg.SensorResult:
    """A tick of the sensor."""
    with dg.build_sensor_context(
        instance=harness.instance, cursor=cursor, resources={"devin_api": devin_api_resource(Settings())}
    ) as context:
        result = late_updates(Settings())(context)
    assert isinstance(result, dg.SensorResult)
    return result


def let_hours_pass(harness: PipelineHarness, hours: int) -> None:
    """Make what the lake knows of its reads older."""
    for file in (Path(harness.lake.uri) / "last_reads").glob("*.json"):
        reads = msgspec.json.decode(file.read_bytes())
        for read in reads:
            read["at"] = (datetime.fromisoformat(read["at"]) - timedelta(hours=hours)).isoformat()
        file.write_bytes(msgspec.json.encode(reads))


@pytest.mark.notices("updates before the sensor's first look")
@pytest.mark.parametrize("keys", ["v2", "v3"])
def test_an_update_between_the_backfill_and_the_sensors_first_look_is_read(
    make_harness: MakeHarness, keys: str
) -> None:
    harness = make_harness(keys, sessions=0, days=42)
    old = harness.days[1]
    session = harness.enterprise.add_session(
        created_at=starts_at(old, 8) + timedelta(hours=1), updated_at=starts_at(old, 8), acus=Decimal(3)
    )
    harness.build_unobserved()
    let_hours_pass(harness, 3)
    session.acus, session.updated_at = Decimal(9), datetime.now(UTC)

    tick = look(harness)
    (request,) = tick.run_requests or ()
    assert span(request.tags) == (old, old)
    assert harness.run(days_between(*span(request.tags))).success
    assert [row["acus"] for row in harness.rows("sessions")] == [Decimal(9)]
    assert [row["acus"] for row in harness.rows("acu_monthly")] == [Decimal(9)]
    # It was read since: another look, without the cursor, asks for nothing.
    let_hours_pass(harness, -3)
    assert not look(harness).run_requests


@pytest.mark.notices("days of unknown age")
def test_days_of_unknown_age_are_named_with_the_backfill_that_closes_the_gap(make_harness: MakeHarness) -> None:
    harness = make_harness("v3", sessions=84, days=42)
    harness.build()
    shutil.rmtree(Path(harness.lake.uri) / "last_reads")
    first = day_of(datetime.now(UTC), 8) - timedelta(days=34)
    older = sorted({row["day"] for row in harness.rows("raw_sessions_v3") if row["day"] < first})
    assert older
    # A run over other days names them too.
    assert "late_updates_are_read" in warnings(harness.run(harness.days[-2:]))
    (found,) = [finding for finding in examine(Settings()) if finding.name == "late_updates"]
    assert found.outcome == "warning"
    assert found.todo == pipeline_command(f"backfill --from {older[0]} --to {older[-1]}")
    assert "late_updates_are_read" not in warnings(harness.run(days_between(older[0], older[-1])))
    assert differences(harness) == {}


def test_a_read_that_changes_nothing_writes_its_small_file_and_to_no_table(make_harness: MakeHarness) -> None:
    harness = make_harness("v3", sessions=20, days=3)
    harness.build()
    before, versions = harness.lake.last_reads(), harness.versions()
    harness.refresh()
    assert harness.versions() == versions
    after = harness.lake.last_reads()
    for feed in harness.feeds:
        assert after.of(feed).keys() == before.of(feed).keys() == set(harness.days)
        assert all(after.of(feed)[day] > at for day, at in before.of(feed).items())
    assert sum(file.stat().st_size for file in (Path(harness.lake.uri) / "last_reads").iterdir()) < 2_000
