"""Serves the stand-in for Devin's API."""

import click

from devin_pipeline.cli.environment import DEMO_NOTICE
from devin_pipeline.cli.serving import stop_on_signal, unusable_port


@click.command()
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535))
@click.option("--sessions", default=600, show_default=True, type=click.IntRange(0, 1_000_000))
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 2000))
@click.option("--seed", default=7, show_default=True)
@click.option(
    "--faults",
    default=0.0,
    metavar="RATE",
    type=click.FloatRange(0, 1),
    help="Share of requests that get a faulty response.",
)
@click.option("--fault-seed", default=7, show_default=True, help="Seed of the choice of faults.")
def emulator(port: int, sessions: int, days: int, seed: int, faults: float, fault_seed: int) -> None:
    """Serve the stand-in Devin API on loopback, for any client, until it is stopped."""
    from devin_pipeline.emulator import EmulatorServer, Enterprise, FaultScript

    enterprise = Enterprise.synthetic(seed=seed, sessions=sessions, days=days)
    # Only now: a large enterprise takes a minute, which an interrupt ends.
    stopped = stop_on_signal()
    server = EmulatorServer(enterprise, port=port)
    server.script(FaultScript.seeded(fault_seed, rate=faults) if faults else None)
    try:
        server.start()
    except OSError as error:
        raise unusable_port(port, error) from None
    try:
        click.echo(DEMO_NOTICE)
        click.echo(f"export DEVIN_API_URL={server.url}")
        click.echo(f"export DEVIN_V2_API_KEY={server.v2_key}")
        click.echo(f"export DEVIN_V3_API_KEY={server.v3_key}")
        click.echo("Change what it returns: POST /_emulator/evolve. Stop it with Ctrl-C.")
        stopped.wait()
    finally:
        server.stop()
