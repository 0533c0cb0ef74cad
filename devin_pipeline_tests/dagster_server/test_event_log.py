"""Which class stores events: ours, and with a Dagster that it was not tested under Dagster's own, on the same files."""

import json
import os
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from devin_pipeline.dagster_server.event_log import TESTED_VERSIONS
from devin_pipeline.dagster_server.event_log_storage import SqliteEventLog
from devin_pipeline.orchestration.partitions import range_tags
from devin_pipeline_tests.conftest import MakeHarness
from devin_pipeline_tests.dagster_server.running import PROJECT, dagster_home


def test_ours_was_tested_under_the_dagster_that_is_locked() -> None:
    packages = tomllib.loads((PROJECT / "uv.lock").read_text())["package"]
    assert {package["version"] for package in packages if package["name"] == "dagster"} <= set(TESTED_VERSIONS)


def events(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [event.to_json() for event in instance.all_logs(run_id)]  # type: ignore[no-untyped-call] # Dagster does not


UNDER_ANOTHER_DAGSTER = """
import json, sys
import dagster as dg

dg.__version__ = "1.13.999"
with dg.DagsterInstance.get() as instance:
    (run,) = instance.get_runs()
    before = [event.to_json() for event in instance.all_logs(run.run_id)]
    days = sorted(instance.get_materialized_partitions(dg.AssetKey("sessions")))
    from devin_pipeline.definitions import defs
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    job = defs.resolve_job_def("refresh")
    done = job.execute_in_process(instance=instance, tags=json.loads(sys.argv[1]), run_config=quiet)
    after = [event.to_json() for event in instance.all_logs(done.run_id)]
    kind = type(instance.event_log_storage).__name__
print(json.dumps({"kind": kind, "before": before, "days": days, "run": done.run_id, "after": after}))
"""


@pytest.mark.newest_dagster
@pytest.mark.notices("an event log that was not tested under this Dagster")
def test_with_another_dagster_its_own_class_reads_what_ours_stored_and_ours_reads_what_that_stores(
    make_harness: MakeHarness, tmp_path: Path
) -> None:
    harness = make_harness("v3", sessions=40, days=3)
    home = dagster_home(tmp_path)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        if dg.__version__ in TESTED_VERSIONS:
            assert type(instance.event_log_storage) is SqliteEventLog
        first = replace(harness, instance=instance).run()
        assert first.success
        stored = events(instance, first.run_id)
    done = subprocess.run(
        [sys.executable, "-c", UNDER_ANOTHER_DAGSTER, json.dumps(range_tags(harness.days[0], harness.days[-1]))],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kind"] == "PlainEventLog"
    assert found["before"] == stored
    assert found["days"] == [day.isoformat() for day in harness.days]
    # A line for each process.
    assert [line.endswith("is not tested with Dagster 1.13.999") for line in done.stderr.splitlines()] == [True]
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert events(instance, found["run"]) == found["after"]
        assert len(found["after"]) > 100
        records = instance.fetch_materializations(dg.AssetKey("sessions"), limit=100).records
        assert Counter(record.run_id for record in records) == {first.run_id: 3, found["run"]: 3}
