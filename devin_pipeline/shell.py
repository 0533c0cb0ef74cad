"""Commands in messages, and what a checkout and an installed wheel differ in: how they are typed, where files are."""

import re
from pathlib import Path

PROGRAM = "devin-pipeline"

_PACKAGE = Path(__file__).parent
_COMMAND_AT_THE_END = re.compile(r"(.+?)`([^`]+)`")


def typed(command: str) -> str:
    """A command of this environment. In a checkout, uv finds it by the current folder."""
    return f"uv run {command}" if _is_in_checkout() else command


def pipeline_command(words: str) -> str:
    """A command of the pipeline, as `verify` or `rebuild --from 2026-01-31`."""
    return typed(f"{PROGRAM} {words}")


def with_command_last(text: str) -> str | None:
    """A text that ends with a command in backticks, and now with the command as it is pasted; None for any other."""
    found = _COMMAND_AT_THE_END.fullmatch(text)
    # guard: a full stop behind a command | found else -> False else
    return f"{found[1].rstrip(' :')}: {found[2]}" if found else None


def shipped(name: str) -> Path:
    """A file that is next to the package in a checkout, and inside it when it was installed as a wheel."""
    return next(folder / name for folder in (_PACKAGE, _PACKAGE.parent) if (folder / name).exists())


def _is_in_checkout() -> bool:
    try:
        return (_PACKAGE.parent / "uv.lock").is_file() and Path.cwd().is_relative_to(_PACKAGE.parent)
    except OSError:
        return False
