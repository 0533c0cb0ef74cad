"""Checks of Dagster: its records, schedules and sensors, its daemon, runs that block others."""

import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from devin_pipeline.dagster_server.dagster_home import BrokenHome, dagster_instance
from devin_pipeline.dagster_server.dead_runs import BlockingRun, blocking_runs, command_to_end
from devin_pipeline.doctor.check_result import CheckResult, Said, look, minute
from devin_pipeline.orchestration.partitions import FIRST_TAG, LAST_TAG
from devin_pipeline.settings import Settings
from devin_pipeline.shell import pipeline_command, shipped, typed

LONGEST_SILENCE = timedelta(minutes=5)
"""The daemon reports that it is alive every half minute."""


def findings(settings: Settings) -> Iterator[CheckResult]:
    """Every finding, as soon as it is made."""
    home = Path(settings.DAGSTER_HOME)
    if not home.is_dir() or not any(home.iterdir()):
        yield CheckResult("DAGSTER_HOME", "", "skipped", f"{home} is not there yet: the first run or `ui` makes it", "")
        return
    with ExitStack() as opened:
        try:
            instance = opened.enter_context(dagster_instance())
        except BrokenHome as error:
            yield CheckResult("DAGSTER_HOME", "", "failed", f"{error.what}: {error.why}", error.todo)
            return
        except Exception as error:  # its configuration may name any storage, and each fails in its own way
            found = f"Dagster cannot open {home} ({type(error).__name__})"
            todo = "Check its dagster.yaml and the storage named there"
            yield CheckResult("DAGSTER_HOME", "", "failed", found, todo)
            return
        yield CheckResult("DAGSTER_HOME", "", "ok", str(home), "")
        yield from _switches(instance, settings)
        yield look("daemon", "", partial(_daemon, settings, instance))
        yield look("last_run", "", partial(_last_run, instance))
        yield from _runs(instance)


def _switches(instance: dg.DagsterInstance, settings: Settings) -> Iterator[CheckResult]:
    try:
        # Not above: the module makes the pipeline as it is loaded, and a bad setting raises there.
        from devin_pipeline.definitions import pipeline

        definitions = pipeline(settings)
        states = {state.name: state for state in instance.all_instigator_state()}
    except Exception as error:  # a bad setting, which has its own check, or a storage that fails
        found = f"they could not be read ({type(error).__name__})"
        yield CheckResult("schedules_and_sensors", "", "skipped", found, "Fix what the other checks name first")
        return
    for kind, switches in (("schedule", definitions.schedules), ("sensor", definitions.sensors)):
        for switch in switches or ():
            if isinstance(switch, dg.ScheduleDefinition | dg.SensorDefinition):
                yield look(kind, switch.name, partial(_switch, settings, instance, switch, states.get(switch.name)))


def _switch(
    settings: Settings,
    instance: dg.DagsterInstance,
    switch: dg.ScheduleDefinition | dg.SensorDefinition,
    state: Any,  # of a class that Dagster does not publish; None for one that was never switched
) -> Said:
    is_on = switch.default_status.value == "RUNNING"
    # guard: a schedule that was switched off | in ("RUNNING", "STOPPED") -> == "RUNNING"
    if state is not None and state.status.value in ("RUNNING", "STOPPED"):
        is_on = state.status.value == "RUNNING"
    if not is_on:
        if settings.is_demo:
            return "ok", "it is off, as it is for a demo", ""
        return "warning", "it is off", f"Switch it on under Automation in the Dagster UI: `{pipeline_command('ui')}`"
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1) if state else []
    if ticks and ticks[0].status.value == "FAILURE":
        found = f"it is on, but its last tick failed, at {minute(ticks[0].timestamp)}"
        return "warning", found, f"Look under Automation in the Dagster UI why: `{pipeline_command('ui')}`"
    return "ok", "it is on", ""


def _daemon(settings: Settings, instance: dg.DagsterInstance) -> Said:
    last = max((beat.timestamp for beat in instance.get_daemon_heartbeats().values()), default=None)
    # guard: a daemon that is silent | <= LONGEST_SILENCE.total_seconds() -> < 10**9
    if last is not None and datetime.now(UTC).timestamp() - last <= LONGEST_SILENCE.total_seconds():
        return "ok", "it is alive", ""
    if settings.is_demo:
        return "skipped", "a demo needs none", ""
    start = (
        f"with the Dagster UI, `{pipeline_command('ui')}`, or alone: "
        f"`DAGSTER_HOME={shlex.quote(settings.DAGSTER_HOME)} "
        f"{typed('dagster-daemon run -w ' + shlex.quote(str(shipped('workspace.yaml'))))}`"
    )
    if last is None:
        # A lake that only commands fill needs none.
        return "skipped", f"none has run yet; schedules and sensors work once one is started, {start}", ""
    return (
        "warning",
        f"it has sent no heartbeat since {minute(last)}: no schedule or sensor does anything",
        f"Start it, {start}",
    )


def _last_run(instance: dg.DagsterInstance) -> Said:
    runs = instance.get_run_records(limit=1)
    if not runs:
        return "skipped", "there is none yet", ""
    run = runs[0].dagster_run
    first, last = run.tags.get(FIRST_TAG), run.tags.get(LAST_TAG)
    found = f"{run.status.value.lower()}, of {runs[0].create_timestamp:%Y-%m-%d %H:%M} UTC" + (
        f", over {first} … {last}" if first else ""
    )
    if run.status != dg.DagsterRunStatus.FAILURE:
        return "ok", found, ""
    todo = f"Its days keep their last version. See why in the Dagster UI: `{pipeline_command('ui')}`"
    return "warning", found, todo


def _runs(instance: dg.DagsterInstance) -> Iterator[CheckResult]:
    try:
        runs = [each for each in blocking_runs(instance) if each.is_dead or each.may_be_dead]
    except Exception as error:  # the storage may be any, and each fails in its own way
        found = f"they could not be read ({type(error).__name__})"
        yield CheckResult("runs", "", "failed", found, "Check the storage that dagster.yaml names")
        return
    if not runs:
        yield CheckResult("runs", "", "ok", "none blocks others though its process is gone", "")
    for each in runs:
        yield look("runs", each.run.run_id, partial(_dead_run, instance, each))


def _dead_run(instance: dg.DagsterInstance, each: BlockingRun) -> Said:
    since = f"it counts as running since {each.started_at:%Y-%m-%d %H:%M} UTC" if each.started_at else "it is canceled"
    if each.is_dead:
        found = f"{since}, its process is gone, and it may block the runs after it"
        return "warning", found, f"The Dagster UI fails it within a minute: `{pipeline_command('ui')}`"
    return (
        "warning" if each.is_long else "unknown",
        f"{since}, and it cannot be known here whether its process is alive",
        f"If it is not, end it: `{command_to_end(instance, each.run.run_id)}`",
    )
