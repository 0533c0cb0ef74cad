"""How messages hold commands: spelled in one place, and in backticks, so that they can be printed on their own."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from devin_pipeline import shell
from devin_pipeline.cli.errors import print_error
from devin_pipeline.shell import with_command_last

pytestmark = pytest.mark.notices("a full stop behind a command")

PACKAGE = Path(shell.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
SPELLERS = {"pipeline_command", "typed"}
PROGRAMS = ("devin-pipeline ", "uv run ", "dg launch", "dg dev", "dagster-webserver ", "dagster-daemon ")


def docstrings(tree: ast.AST) -> set[ast.AST]:
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef))
    return {node.body[0].value for node in nodes if node.body and isinstance(node.body[0], ast.Expr)}


# There may be settings before it.
IN_ITS_PLACE = re.compile(r"(?:^|`|\n  )(?:(?:DAGSTER_HOME=)?<value> )?<command>(?=`|\n|$)")


def shown(part: ast.expr) -> str:
    """A part of a text: as it is, or in place of a value what kind of one it is."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    value = part.value if isinstance(part, ast.FormattedValue) else part
    return "<command>" if is_spelled(value) else "<value>"


def is_spelled(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SPELLERS


def texts(tree: ast.AST) -> Iterator[str]:
    """Every text of a module, but for its docstrings and what is spelled as a command."""
    left_out = docstrings(tree) | {inner for node in ast.walk(tree) if is_spelled(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in left_out:
            yield node.value


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_no_message_spells_a_command_by_itself(module: Path) -> None:
    if module.name == "shell.py":
        return
    found = [text for text in texts(ast.parse(module.read_text())) if any(program in text for program in PROGRAMS)]
    # In `devin.duckdb`, which says the same in whatever folder it is written.
    assert [text for text in found if "with DEVIN_LAKE set to it" not in text] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_a_command_within_a_message_is_in_backticks_or_on_a_line_of_its_own(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.JoinedStr):
            text = "".join(map(shown, node.values))
            assert text.count("<command>") == len(IN_ITS_PLACE.findall(text)), ast.unparse(node)


def test_a_command_at_the_end_of_an_error_has_neither_backticks_nor_a_full_stop(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_error(("what failed", "`x` is why", "run this again: `devin-pipeline rebuild --to 2026-11-02`"))
    assert capsys.readouterr().err.splitlines() == [
        "What failed.",
        "`x` is why.",
        "Run this again: devin-pipeline rebuild --to 2026-11-02",
    ]
    assert with_command_last("Run `demo`") == "Run: demo"
    assert with_command_last("`demo` needs none") is None
