"""Finds the commands: each is a file of this folder with a function of the file's name, loaded when it is called.

So a new command is one new file, and no command waits for what others need. What a command does, does not belong here.
"""

import ast
import os
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from devin_pipeline.cli.errors import Commands, Failed

_FOLDER = Path(__file__).parent


class _CommandFiles(Mapping[str, click.Command]):
    """The commands by their names; the names are had without loading any."""

    def __getitem__(self, name: str) -> click.Command:
        if name not in {file.stem for file in _files()}:
            raise KeyError(name)
        command = getattr(import_module(f"{__package__}.{name}"), name, None)
        if not isinstance(command, click.Command):
            raise KeyError(name)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(_descriptions())

    def __len__(self) -> int:
        return len(_descriptions())


class LazyCommands(Commands):
    """The commands of this folder."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands = _CommandFiles()  # type: ignore[assignment] # nothing is added to them

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the first sentence of each, without loading them."""
        descriptions = _descriptions()
        width = formatter.width - 6 - max(map(len, descriptions))
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, click.Command(name, help=text).get_short_help_str(width))
                    for name, text in sorted(descriptions.items())
                ]
            )


@cache
def _descriptions() -> dict[str, str]:
    """The docstring of each command, by its name."""
    return {
        node.name: ast.get_docstring(node) or ""
        for file in _files()
        for node in ast.parse(file.read_bytes()).body
        if isinstance(node, ast.FunctionDef) and node.name == file.stem
        if any(ast.unparse(decorator).startswith("click.command(") for decorator in node.decorator_list)
    }


def _files() -> list[Path]:
    return list(_FOLDER.glob("[!_]*.py"))


@click.group(cls=LazyCommands)
@click.version_option(package_name="devin-pipeline")
def main() -> None:
    """Where do our ACUs go, and which prompts should we fix."""
    from dotenv import load_dotenv

    try:
        load_dotenv(Path(".env"))
    except (OSError, ValueError) as error:
        why = "it is not UTF-8" if isinstance(error, ValueError) else os.strerror(error.errno or 0)
        raise Failed("The file .env cannot be read", why, "Correct it, or move it away", 2) from None
