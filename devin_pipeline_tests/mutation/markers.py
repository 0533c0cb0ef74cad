"""Finds the guards marked in the code and makes the mutant of each: the source without it.

    # guard: NAME               the condition of the `if`, `elif` or `while` below is False; another statement is `pass`
    # guard: NAME | OLD         OLD, the first one below, is removed
    # guard: NAME | OLD -> NEW  OLD, the first one below, is replaced by NEW

SQL marks its guards with `-- guard:`. A long marker goes on in lines that begin with `#   ` or `--   `.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MARKER = re.compile(r"(?:#|--) guard: (.+)")
_GOES_ON = re.compile(r"(?:#|--)   (\S.*)")
_COMMENT = re.compile(r"\s*(?:#|--)")


@dataclass(frozen=True)
class Guard:
    """A guard of the code.

    Attributes:
        name: What it guards against; unique.
        file: Its file, relative to the package.
        line: The first line of code below its marker, counted from 1.
        old: The text that is replaced, the first one from that line on; None for the rule of the statement.
        new: What replaces it.
    """

    name: str
    file: Path
    line: int
    old: str | None
    new: str

    def mutant(self, source: str) -> str:
        """The source without the guard.

        Raises:
            ValueError: Nothing below the marker is code that it could mark.
        """
        begin = sum(map(len, source.splitlines(keepends=True)[: self.line - 1]))
        if self.old is None:
            start, end, new = self._statement(source)
        else:
            start, new = source.find(self.old, begin), self.new
            end = start + len(self.old)
            if start < 0 or source.count("\n", begin, start) > _LINES_BELOW:
                raise ValueError(f"{self.file}:{self.line}: {self.name}: {self.old!r} is not below its marker")
        return source[:start] + new + source[end:]

    def _statement(self, source: str) -> tuple[int, int, str]:
        statements = [
            node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt) and node.lineno == self.line
        ]
        if not statements:
            raise ValueError(f"{self.file}:{self.line}: {self.name}: no statement begins below its marker")
        statement = min(statements, key=lambda node: node.col_offset)
        has_condition = isinstance(statement, ast.If | ast.While)
        part: ast.stmt | ast.expr = statement.test if isinstance(statement, ast.If | ast.While) else statement
        lines = source.splitlines(keepends=True)

        def offset(line: int, column: int) -> int:
            # Columns of the syntax tree are counted in bytes.
            return sum(map(len, lines[: line - 1])) + len(lines[line - 1].encode()[:column].decode())

        start, end = offset(part.lineno, part.col_offset), offset(part.end_lineno or 0, part.end_col_offset or 0)
        return start, end, "False" if has_condition else "pass"


_LINES_BELOW = 5


def guards_of(package: Path) -> list[Guard]:
    """The guards marked in the Python and SQL files of a package, by file and line."""
    files = [*package.rglob("*.py"), *package.rglob("*.sql")]
    return [guard for file in sorted(files) for guard in _guards_in(file.relative_to(package), file.read_text())]


def _guards_in(file: Path, source: str) -> Iterator[Guard]:
    comments = _comments(source) if file.suffix == ".py" else dict(enumerate(map(str.strip, source.splitlines()), 1))
    lines = source.splitlines()
    for line, comment in comments.items():
        if marker := _MARKER.fullmatch(comment):
            text, below = marker[1], line + 1
            while goes_on := _GOES_ON.fullmatch(comments.get(below, "")):
                text, below = f"{text} {goes_on[1]}", below + 1
            while below <= len(lines) and _COMMENT.match(lines[below - 1]):
                below += 1
            name, has_text, replaced = text.partition(" | ")
            old, _, new = replaced.partition(" -> ")
            yield Guard(name, file, below, old if has_text else None, new)


def _comments(source: str) -> dict[int, str]:
    """The comments that have a line of their own, by line; what only looks like one within a string is none."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string
        for token in tokens
        if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip()
    }
