"""Commands as processes of their own: what they print, in bytes, and how they end."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("devin-pipeline"))
SETTINGS_OF_PYTHON = ("PYTHONIOENCODING", "PYTHONUTF8", "PYTHONCOERCECLOCALE", "LC_ALL", "LANG", "LC_CTYPE")


def environment(**settings: str) -> dict[str, str]:
    """Our environment without what it says about encodings, and these settings."""
    inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS_OF_PYTHON}
    # The code next to these tests, wherever the command is installed from.
    return inherited | {"PYTHONPATH": str(Path(__file__).parents[2])} | settings


def run(
    *words: str | bytes, folder: Path, env: Mapping[str, str] | None = None, given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    return subprocess.run(
        [COMMAND, *words],
        cwd=folder,
        env=env or environment(),
        input=given,
        capture_output=True,
        check=False,
        timeout=120,
    )
