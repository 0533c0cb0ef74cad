"""Runs the job `refresh` in this process, over one range of days or several, and says what it came to."""

import os
import re
import shlex
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import click

from devin_pipeline.cli.days_shown import DaysShown, days_shown
from devin_pipeline.cli.environment import settings
from devin_pipeline.cli.errors import Failed, stop_signals
from devin_pipeline.cli.stopping import stoppable
from devin_pipeline.shell import typed
from devin_pipeline.tables import DERIVED_TABLES, REPORT_TABLES

if TYPE_CHECKING:
    import dagster as dg

DAYS_PER_RUN = 366
# Of the session tables, of the rollups, and of the reports, which hold no days.
BUILDING_STEPS = 3
_SECONDS_TO_PREPARE = 3.0


@dataclass(frozen=True)
class RunOutcome:
    """What a run of the job over some days came to.

    Attributes:
        succeeded: Everything was made.
        days_not_read: Why each day that could not be read was not, by day.
        reason: Why the run failed, when not for single days.
        is_final: True when asking for other days would fail alike.
        warnings: What checks found that did not stop the run, the number of findings first.
        checks: Checks that ran.
        reports_wait: Why nothing but the reports failed; empty when that is not so.
    """

    succeeded: bool
    days_not_read: dict[str, str]
    reason: str
    is_final: bool
    warnings: list[str]
    checks: int
    reports_wait: str = ""


def run_job(
    days: Sequence[date], trigger: str, *, only: Sequence[str] | None = None, tags: Mapping[str, str] | None = None
) -> RunOutcome:
    """Run `refresh` over neighbouring days in this process, with DAGSTER_HOME.

    Args:
        days: The days.
        trigger: What started it.
        only: Some of its assets; all when left out.
        tags: Further tags of the run.
    """
    from devin_pipeline.automation.jobs import REFRESH
    from devin_pipeline.dagster_server.dagster_home import dagster_instance
    from devin_pipeline.dagster_server.in_process_run import run_in_process
    from devin_pipeline.definitions import pipeline
    from devin_pipeline.orchestration.partitions import range_tags
    from devin_pipeline.orchestration.run_metadata import TRIGGER

    run_id = str(uuid4())
    with dagster_instance() as instance, _canceled_by_stop(instance, run_id):
        result = run_in_process(
            instance,
            pipeline(settings()).resolve_job_def(REFRESH),
            run_id,
            tags=range_tags(days[0], days[-1]) | {TRIGGER: trigger, **(tags or {})},
            only=only,
        )
    return _outcome(result)


@contextmanager
def _canceled_by_stop(instance: "dg.DagsterInstance", run_id: str) -> Iterator[None]:
    """Let what stops the command cancel its run.

    Dagster takes an interrupt for a failure, unless it knows before that the run is to be canceled.
    """
    is_known = threading.Event()

    def cancel() -> None:
        # Where Dagster cannot write its records now, the run ends as failed.
        with suppress(Exception):
            if (run := instance.get_run_by_id(run_id)) and not run.is_finished:
                # guard: a stop that Dagster takes for a failure
                instance.report_run_canceling(run)

    def interrupt(*_: object) -> None:
        if is_known.is_set():
            raise KeyboardInterrupt

    def prepare() -> None:
        # In a thread of its own: what the run has locked it may keep until it is interrupted.
        canceling = threading.Thread(target=cancel, daemon=True)
        canceling.start()
        canceling.join(_SECONDS_TO_PREPARE)
        is_known.set()

    before = {number: signal.signal(number, interrupt) for number in stop_signals()}
    try:
        with stoppable(prepare=prepare):
            yield
    except KeyboardInterrupt:
        # Of a run that had not started, Dagster has not recorded the end.
        with suppress(Exception):
            if (run := instance.get_run_by_id(run_id)) and not run.is_finished:
                instance.report_run_canceled(run)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outcome(result: "dg.ExecuteInProcessResult") -> RunOutcome:
    import dagster as dg

    from devin_pipeline.orchestration.run_metadata import ASK_NO_MORE, REPORTS_WAIT, days_not_read

    bad_days: dict[str, str] = {}
    reasons: list[str] = []
    waits: list[str] = []
    is_final = False
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data.user_failure_data
            if failure and (days := days_not_read(failure.metadata)):
                bad_days |= days
            elif failure and REPORTS_WAIT in failure.metadata:
                waits.append(failure.description or "")
            elif failure:
                reasons.append(failure.description or event.step_key or "")
                is_final = is_final or ASK_NO_MORE in failure.metadata
            else:
                error = event.step_failure_data.error
                cause = error.cause if error and error.cause else error
                # Dagster begins with the class of an error, which of ours says nothing to a person.
                reason = (
                    re.sub(r"^devin_pipeline\.[\w.]+: ", "", cause.message.strip()) if cause else "no reason is known"
                )
                reasons.append(f"{event.step_key}: {reason}")
    evaluations = result.get_asset_check_evaluations()
    warnings: list[str] = []
    for evaluation in evaluations:
        if not evaluation.passed:
            found = f"{evaluation.description} ({evaluation.check_name} of {evaluation.asset_key.to_user_string()})"
            if evaluation.severity == dg.AssetCheckSeverity.ERROR:
                reasons.append(f"a check failed: {found}")
            else:
                warnings.append(found)
    return RunOutcome(
        succeeded=result.success,
        days_not_read=bad_days,
        reason=next(iter([*reasons, *waits]), ""),
        is_final=is_final,
        warnings=warnings,
        checks=len(evaluations),
        reports_wait=waits[0] if waits and not (bad_days or reasons) else "",
    )


def run_ranges(runs: Sequence[Sequence[date]], tags: Mapping[str, str]) -> tuple[dict[date, str], str]:
    """Run the job over each range; the days that could not be made and why, and why reports wait in the end."""
    from devin_pipeline.billing_calendar import contiguous
    from devin_pipeline.orchestration.run_metadata import BACKFILL

    failed: dict[date, str] = {}
    reports_wait = ""
    waiting = [list(run) for run in runs]
    total = sum(map(len, runs))
    with days_shown(total) as shown:
        while waiting:
            days = waiting.pop(0)
            shown.begin(days, len(settings().feeds) + BUILDING_STEPS)
            outcome = run_job(days, BACKFILL, tags=tags)
            bad = {date.fromisoformat(day): reason for day, reason in outcome.days_not_read.items()}
            if outcome.succeeded or outcome.reports_wait:
                reports_wait = outcome.reports_wait
                shown.end(days, "done, but reports wait" if reports_wait else "done", outcome.warnings, made=True)
            elif bad:
                failed |= bad
                shown.end(sorted(bad), "not read", made=False)
                # The days that were read whole are in raw; what follows from them is still to be made.
                waiting[:0] = [list(group) for group in contiguous(day for day in days if day not in bad)]
            else:
                failed |= dict.fromkeys(days, outcome.reason)
                shown.end(days, "failed", made=False)
                if outcome.is_final:
                    failed |= {day: outcome.reason for run in waiting for day in run}
                    break
    return failed, reports_wait


def rebuild_days(
    days: Sequence[date], trigger: str, shown: DaysShown | None = None, *, with_usage_report: bool = True
) -> RunOutcome:
    """Build again what follows from the raw tables on these days; the outcome of the last run, or of one that failed.

    Reports come with the last run: over days of which some are still to be built, they would not be written.
    """
    from devin_pipeline.billing_calendar import contiguous
    from devin_pipeline.reports import DUCKDB_CATALOG
    from devin_pipeline.usage_report import USAGE_REPORT

    runs = [
        group[start : start + DAYS_PER_RUN]
        for group in contiguous(days)
        for start in range(0, len(group), DAYS_PER_RUN)
    ]
    derived = [table.name for table in DERIVED_TABLES]
    reports = [*(table.name for table in REPORT_TABLES), DUCKDB_CATALOG]
    if with_usage_report and settings().stored_report != "none":
        reports.append(USAGE_REPORT)
    for run in runs:
        is_last = run is runs[-1]
        if shown:
            shown.begin(run, BUILDING_STEPS)
        outcome = run_job(run, trigger, only=[*derived, *reports] if is_last else derived)
        is_done = outcome.succeeded or (is_last and bool(outcome.reports_wait))
        if shown:
            shown.end(run, "done" if is_done else "failed", outcome.warnings, made=is_done)
        if not is_done:
            break
    return outcome


def reports_waiting(why: str) -> Failed:
    """The error of a run that made its days and no reports."""
    return Failed("The days were stored, but reports were not written", why, "Run the command named above")


def dg_command(first: date, last: date) -> str:
    """Dagster's own command for a run over a range."""
    return f"{settings_shown()} {typed(f'dg launch --job refresh --partition-range {first}...{last}')}"


def settings_shown() -> str:
    """The settings a command of Dagster's needs; all of the demo's, whose keys are not secret."""
    names = [name for name in sorted(os.environ) if name.startswith("DEVIN_")] if settings().is_demo else []
    return " ".join(f"{name}={shlex.quote(os.environ[name])}" for name in [*names, "DAGSTER_HOME"])


def warn_of_dotenv() -> None:
    """Say that a .env here would override the settings of Dagster's own command."""
    if Path(".env").exists():
        click.echo("  (Move .env away before you run it: dg lets what stands there override these settings.)")
