"""Dagster's page for one person at one machine: behind a guard, with the code server and the daemon beside it.

What a browser may ask of the page, and the processes that make it up, live here. What the pipeline does, does not.
"""

from devin_pipeline.page.guard import Guard
from devin_pipeline.page.services import DaemonRuns, NoFolderForSocket, StoppedByItself, right_to_daemon, run_until

__all__ = ["DaemonRuns", "Guard", "NoFolderForSocket", "StoppedByItself", "right_to_daemon", "run_until"]
