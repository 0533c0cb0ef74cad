"""Runs a job in this process as a run of the code location, which a person at the terminal may stop.

Which job, and what its end means, does not belong here.
"""

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import dagster as dg

from devin_pipeline.dagster_server.code_location import origin_of


def run_in_process(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    run_id: str,
    *,
    tags: Mapping[str, str],
    only: Sequence[str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run a job, or some of its assets, without anything on the terminal.

    Args:
        instance: Dagster's records. Later runs of this object name the same origin.
        job: The job.
        run_id: The id of the run.
        tags: Its tags.
        only: Some of its assets; all when left out.
    """
    # `execute_in_process` has no parameter for it.
    # guard: a run of a command without a code location | , remote_job_origin=origin_of(job.name)
    create_run = partial(instance.create_run_for_job, remote_job_origin=origin_of(job.name))
    instance.create_run_for_job = create_run  # type: ignore[method-assign]
    _shield_log_processes(instance)
    return job.execute_in_process(
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        run_id=run_id,
        instance=instance,
        tags=dict(tags),
        raise_on_error=False,
        asset_selection=None if only is None else [dg.AssetKey(name) for name in only],
    )


def _shield_log_processes(instance: dg.DagsterInstance) -> None:
    """Keep Ctrl-C from the processes that copy the output of steps: they would print a traceback each."""
    logs = instance.compute_log_manager
    capture = logs.capture_logs

    @contextmanager
    def capture_logs(log_key: Sequence[str]) -> Iterator[object]:
        with ExitStack() as captured:
            # They inherit which signals are blocked.
            # guard: Ctrl-C at the processes that copy the output of steps | signal.SIGINT
            before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            try:
                context = captured.enter_context(capture(log_key))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield context

    logs.capture_logs = capture_logs  # type: ignore[method-assign, assignment]
