"""Opens the Dagster UI, with a daemon."""

import os
import shlex
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click

from devin_pipeline.cli.environment import (
    DemoEnterprise,
    initialize_instance,
    last_demo_enterprise,
    prepare_dagster_home,
    print_demo_notice,
    use_demo_environment,
    use_live_environment,
)
from devin_pipeline.cli.errors import Failed
from devin_pipeline.cli.runner import dg_command, settings_shown, warn_of_dotenv
from devin_pipeline.cli.serving import stop_on_signal, unusable_port
from devin_pipeline.shell import shipped, typed


@click.command()
@click.option("--demo", is_flag=True, help="The demo's Dagster, with the emulator running.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--read-only", is_flag=True, help="The Dagster UI alone, read-only: it changes nothing, and no daemon runs."
)
def ui(demo: bool, port: int, read_only: bool) -> None:
    """Open the Dagster UI and its daemon on loopback, until stopped.

    It responds to its own tabs and programs on this machine; what other sites make a browser send, it refuses.
    """
    from devin_pipeline.dagster_server.code_location import CODE_LOCATION, DEFINITIONS
    from devin_pipeline.dagster_server.processes import NoFolderForSocket, StoppedByItself, run_until

    enterprise: DemoEnterprise | None = None
    if demo:
        use_demo_environment()
        prepare_dagster_home()
        enterprise = last_demo_enterprise()
    else:
        use_live_environment()
        prepare_dagster_home()
    with ExitStack() as held:
        locked = None if read_only else held.enter_context(_only_daemon(port))
        _require_free(port)
        initialize_instance()
        stopped = stop_on_signal()
        if enterprise:
            held.enter_context(enterprise.served())
        if not read_only:
            # Without a daemon of ours, that of another deployment may be at work.
            held.enter_context(_dead_runs_failed())
        print_demo_notice(demo)
        click.echo(f"Dagster's own command, without the guard: {_ui_command(port, read_only)}")
        if enterprise:
            click.echo("In another shell, a run: " + dg_command(enterprise.last_day, enterprise.last_day))
            warn_of_dotenv()
        click.echo("The Dagster UI starts, which may take a minute; stop it with Ctrl-C.")
        try:
            still_busy = run_until(
                stopped,
                module=DEFINITIONS,
                location=CODE_LOCATION,
                port=port,
                read_only=read_only,
                locked=locked,
                when_ready=lambda: click.echo(f"It is ready: open http://127.0.0.1:{port}"),
            )
        except StoppedByItself as error:
            why = "it was not ready in time" if error.exit_code is None else f"exit code {error.exit_code}"
            raise Failed(f"{error.name} ended unexpectedly", why, "See its last lines above") from None
        except NoFolderForSocket:
            raise Failed(
                "Dagster's processes have no place for their socket",
                "the path of no folder for temporary files is short enough, or none can be written",
                "Set TMPDIR to a folder with a path of up to 70 letters and digits",
                2,
            ) from None
    if still_busy:
        click.echo("The code server is still busy, perhaps with a run; it ends when that is done.", err=True)


@contextmanager
def _only_daemon(port: int) -> Iterator[int | None]:
    from devin_pipeline.dagster_server.processes import DaemonRuns, right_to_daemon

    with ExitStack() as held:
        try:
            locked = held.enter_context(right_to_daemon(port))
        except DaemonRuns as error:
            raise Failed(
                f"The Dagster UI of {os.environ['DAGSTER_HOME']} is open already"
                + (f", at {error.url}" if error.url else ""),
                "a second daemon would start each run that is due a second time",
                "Open that address, or stop it first; `--read-only` opens another one that changes nothing",
                2,
            ) from None
        yield locked


@contextmanager
def _dead_runs_failed() -> Iterator[None]:
    from devin_pipeline.dagster_server.dagster_home import dagster_instance
    from devin_pipeline.dagster_server.dead_runs import dead_runs_failed

    with dagster_instance() as instance, dead_runs_failed(instance):
        yield


def _ui_command(port: int, read_only: bool) -> str:
    """Dagster's own command for its UI, with the daemon or for reading only."""
    if read_only:
        workspace = shlex.quote(str(shipped("workspace.yaml")))
        return f"{settings_shown()} {typed(f'dagster-webserver --read-only -w {workspace} -p {port}')}"
    return f"{settings_shown()} {typed(f'dg dev --port {port}')}"


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        # As the webserver binds it: connections that are still closing do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise unusable_port(port, error) from None
