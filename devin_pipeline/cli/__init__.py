"""The commands: thin wrappers that set the environment (settings, DAGSTER_HOME, emulator) and call what does the work.

Exit codes: 0 done, 1 the work failed, 2 the call or the configuration is wrong. An error is three lines: what, why,
what to do.
"""

import gc
from typing import NoReturn

from devin_pipeline.cli.errors import exit_process, open_closed_streams, show_any_character
from devin_pipeline.cli.group import main

__all__ = ["command", "main"]

_OBJECTS_BETWEEN_LOOKS = 500_000


def command() -> NoReturn:
    """Run the command `devin-pipeline`, which is all this process is for."""
    open_closed_streams()
    # Most of what the collector would look through, again and again, comes with Dagster and stays to the end.
    gc.set_threshold(_OBJECTS_BETWEEN_LOOKS)
    show_any_character()
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    exit_process(code)
