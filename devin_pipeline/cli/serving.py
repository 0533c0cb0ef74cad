"""What the commands that serve until they are stopped have in common."""

import signal
import threading

from devin_pipeline.cli.errors import Failed, stop_signals


def unusable_port(port: int, error: OSError) -> Failed:
    """The error of a port that cannot be had."""
    return Failed(f"Port {port} cannot be used", error.strerror or "it is taken", "Choose another --port", 2)


def stop_on_signal() -> threading.Event:
    """Set when the user or the system asks us to stop.

    A handler of our own also matters to children: Dagster would inherit a shell's ignored SIGINT and never stop.
    """
    stopped = threading.Event()
    for number in stop_signals():
        signal.signal(number, lambda *_: stopped.set())
    return stopped
