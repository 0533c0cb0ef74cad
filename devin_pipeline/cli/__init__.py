"""The commands: thin wrappers that set the stage (settings, DAGSTER_HOME, emulator) and let Dagster do the work.

Exit codes: 0 done, 1 the work failed, 2 the call or the configuration is wrong. An error is three lines: what, why,
what to do.
"""

from devin_pipeline.cli.commands import main

__all__ = ["main"]
