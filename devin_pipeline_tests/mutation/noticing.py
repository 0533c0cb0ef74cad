"""Finds the tests that name the guards without which they fail."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path


def noticing_tests(folder: Path) -> dict[str, list[str]]:
    """The tests that notice each guard's removal, as pytest names them, relative to the folder of tests."""
    tests = defaultdict(list)
    for file in sorted(folder.rglob("test_*.py")):
        for node in ast.parse(file.read_text()).body:
            test = file.relative_to(folder).as_posix()
            marks: list[ast.expr] = []
            if isinstance(node, ast.FunctionDef):
                test, marks = f"{test}::{node.name}", node.decorator_list
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
                marks = node.value.elts if isinstance(node.value, ast.List) else [node.value]
            for name in _noticed(marks):
                tests[name].append(test)
    return dict(tests)


def _noticed(marks: list[ast.expr]) -> Iterator[str]:
    for mark in marks:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.notices":
            yield from (ast.literal_eval(name) for name in mark.args)
