"""Runs the job `refresh` in this process, stoppable at any moment, and says what it came to."""

import os
import re
import select
import shlex
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import click

from devin_pipeline.cli.endings import end_now, stop_now, stop_signals
from devin_pipeline.cli.stage import settings
from devin_pipeline.lake import LakeError
from devin_pipeline.shell import typed

if TYPE_CHECKING:
    import dagster as dg

_SECONDS_TO_STOP = 8.0
_SECONDS_TO_PREPARE = 3.0
_REMINDERS = 3
_SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class Outcome:
    """What a run of the job over some days came to.

    Attributes:
        succeeded: Everything was made.
        days_not_read: Why each day that the API did not tell could not be read, by day.
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
) -> Outcome:
    """Run `refresh` over neighbouring days in this process, with DAGSTER_HOME.

    Args:
        days: The days.
        trigger: What started it.
        only: Some of its assets; all when left out.
        tags: Further tags of the run.
    """
    from devin_pipeline.asset_facts import TRIGGER
    from devin_pipeline.dagster_server.dagster_home import dagster_instance
    from devin_pipeline.dagster_server.in_process_run import run_in_process
    from devin_pipeline.definitions import pipeline
    from devin_pipeline.partitions import range_tags
    from devin_pipeline.schedules import REFRESH

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


@contextmanager
def stoppable(
    seconds: float = _SECONDS_TO_STOP,
    *,
    prepare: Callable[[], object] | None = None,
    limit_met: Callable[[], LakeError | None] = lambda: None,
    cut_off: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP stop what runs inside, and cut off what does not stop by itself.

    Dagster takes an interrupt for a failure of the run, and goes on. While DuckDB or Delta works, none gets through.
    Cutting off is safe: what is published is published in one commit each, and a killed run in the middle of one.

    Args:
        seconds: How long it may take to stop.
        prepare: Called before what runs inside is interrupted, where handlers of its own wait for that.
        limit_met: Asked ten times a second; an error cuts off what runs inside, and is shown.
        cut_off: Called before this process is ended.
    """
    asked, ask = socket.socketpair()
    ask.setblocking(False)
    ended = threading.Event()
    main_thread = threading.get_ident()

    def stop_is_asked(seconds: float = 0) -> bool:
        return bool(select.select([asked], [], [], seconds)[0])

    def see_to_it() -> None:
        with asked, ask:
            while not stop_is_asked(_SECONDS_BETWEEN_LOOKS):
                if ended.is_set():
                    return
                if limit := limit_met():
                    cut_off()
                    end_now((limit.what, limit.why, limit.todo))
            deadline = time.monotonic() + seconds
            if prepare:
                prepare()
                if not ended.is_set():
                    signal.pthread_kill(main_thread, signal.SIGINT)
            between = (deadline - time.monotonic()) / _REMINDERS
            for _ in range(_REMINDERS):
                if ended.wait(between):
                    return
                # Again: Python drops an interrupt that arrives while it collects garbage.
                # guard: an interrupt that got lost
                signal.pthread_kill(main_thread, signal.SIGINT)
            cut_off()
            # guard: what heeds no interrupt
            stop_now()

    # Written to by the signal itself, whoever handles it and whatever keeps Python busy.
    before = signal.set_wakeup_fd(ask.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=see_to_it, daemon=True).start()
    try:
        try:
            yield
        except Exception:
            # DuckDB, for one, makes an error of its own of an interrupt.
            if not stop_is_asked():
                raise
        # guard: a stop taken for a failed run
        if stop_is_asked():
            raise KeyboardInterrupt
    finally:
        ended.set()
        signal.set_wakeup_fd(before)


def _outcome(result: "dg.ExecuteInProcessResult") -> Outcome:
    import dagster as dg

    from devin_pipeline.asset_facts import ASK_NO_MORE, REPORTS_WAIT, days_not_read

    bad_days: dict[str, str] = {}
    reasons: list[str] = []
    waits: list[str] = []
    is_final = False
    for event in result.all_events:
        if event.is_step_failure:
            told = event.step_failure_data.user_failure_data
            if told and (days := days_not_read(told.metadata)):
                bad_days |= days
            elif told and REPORTS_WAIT in told.metadata:
                waits.append(told.description or "")
            elif told:
                reasons.append(told.description or event.step_key or "")
                is_final = is_final or ASK_NO_MORE in told.metadata
            else:
                error = event.step_failure_data.error
                cause = error.cause if error and error.cause else error
                # Dagster begins with the class of an error, which of ours says nothing to a person.
                reason = re.sub(r"^devin_pipeline\.[\w.]+: ", "", cause.message.strip()) if cause else "no reason told"
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
    return Outcome(
        succeeded=result.success,
        days_not_read=bad_days,
        reason=next(iter([*reasons, *waits]), ""),
        is_final=is_final,
        warnings=warnings,
        checks=len(evaluations),
        reports_wait=waits[0] if waits and not (bad_days or reasons) else "",
    )


def dg_command(first: date, last: date) -> str:
    """Dagster's own command for a run over a range."""
    return f"{settings_shown()} {typed(f'dg launch --job refresh --partition-range {first}...{last}')}"


def settings_shown() -> str:
    """The settings a command of Dagster's needs; all of the demo's, whose keys are no secrets."""
    names = [name for name in sorted(os.environ) if name.startswith("DEVIN_")] if settings().is_demo else []
    return " ".join(f"{name}={shlex.quote(os.environ[name])}" for name in [*names, "DAGSTER_HOME"])


def warn_of_dotenv() -> None:
    """Say that a .env here would override the settings of Dagster's own command."""
    if Path(".env").exists():
        click.echo("  (Move .env away before you run it: dg lets what stands there override these settings.)")
