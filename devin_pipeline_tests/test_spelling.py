"""The spell list finds the words that the glossary bans, wherever a word can be."""

import re
import subprocess
from pathlib import Path

import pytest
from codespell_lib import main as codespell

PROJECT = Path(__file__).parent.parent
BANNED = [line.partition("->")[0] for line in (PROJECT / ".ci/words.txt").read_text().splitlines()]
WORD = BANNED[0]

PLACES = {
    "function.py": f"def {WORD}_sessions() -> None: ...",
    "private_name.py": f"_{WORD} = 1",
    "class_name.py": f"class Was{WORD.title()}Session: ...",
    "constant.py": f"SESSIONS_{WORD.upper()} = 1",
    "camel_case.json": f'{{"{WORD}Sessions": 1}}',
    "docstring.py": f'"""{WORD.title()} by a feed."""',
    "message.py": rf'raise ValueError("Nothing was\n{WORD} of it")',
    "regular_expression.py": rf'match=r"\b{WORD}\b"',
    "comment.sql": f"-- What was {WORD}, newest first.",
    "column.sql": f"select sessions.{WORD}_acus from sessions",
    "sentence.md": f"An item holds what it is *{WORD}*.",
    ".hidden": f"# What is {WORD}",
    f"name_of_what_is_{WORD}.sql": "select 1",
}


def found(patch: pytest.MonkeyPatch, output: pytest.CaptureFixture[str], *files: str) -> list[str]:
    """Check some files as CI does, with the settings of this project."""
    patch.chdir(PROJECT)
    code = codespell(*files)
    lines = output.readouterr().out.splitlines()
    assert bool(code) == bool(lines)
    return lines


def test_a_banned_word_is_found_wherever_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in PLACES.items():
        (tmp_path / name).write_text(f"{content}\n")
    lines = found(monkeypatch, capsys, str(tmp_path))
    assert all(f" {WORD} ==> " in line.lower() for line in lines)
    assert sorted(Path(line.split(":")[0]).name for line in lines) == sorted(PLACES)


def test_every_banned_word_is_found_with_those_to_use_and_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "all.md"
    file.write_text("".join(f"{word}\n" for word in BANNED))
    lines = [re.fullmatch(r".+: (\w+) ==> \S.*\S  \| \S+.*", line) for line in found(monkeypatch, capsys, str(file))]
    assert [line and line[1] for line in lines] == BANNED


def test_a_word_that_only_holds_a_banned_one_and_a_digest_pass(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "some.py"
    file.write_text(f'{WORD}o = "x{WORD}"  # 0ded0afe0caf\n')
    assert found(monkeypatch, capsys, str(file)) == []


def test_the_project_holds_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    files = subprocess.check_output(["git", "ls-files"], cwd=PROJECT, text=True).splitlines()
    assert files
    assert found(monkeypatch, capsys, *files) == []
