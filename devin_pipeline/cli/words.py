"""What a person typed, as the commands take it: text that begins with a dash, in a file or on standard input."""

import sys
from datetime import date
from itertools import islice
from pathlib import Path

import click

from devin_pipeline.cli.errors import Failed


class TakesText(click.Command):
    """A command whose argument is text, also when it begins with a dash, as a comment of SQL does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move what is text behind `--`, where click takes it as it is; every other word stays an option or a typo."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        names = {name for option in options for name in option.opts}
        followed = {name for option in options if not option.is_flag for name in option.opts}
        typed, texts = list[str](), list[str]()
        words = iter(args)
        for word in words:
            if word == "--":
                texts += words
            # guard: text that begins with a dash
            elif _is_text(word, names):
                texts.append(word)
            else:
                typed.append(word)
                typed += islice(words, 1 if word in followed else 0)
        return super().parse_args(ctx, [*typed, "--", *texts] if texts else typed)


def _is_text(word: str, options: set[str]) -> bool:
    """True for a word with a dash that is not an option: none has a space or a new line, but in its value."""
    # guard: a typo taken for text | and any(map(str.isspace, word))
    return word.startswith("-") and any(map(str.isspace, word)) and word.partition("=")[0] not in options


def sql_of(sql: str | None, file: str | None) -> str:
    """The text of a query: what was typed, a file's, or for `-` that of standard input.

    Raises:
        click.UsageError: It is in none of these, or in two.
        Failed: It cannot be read, is not UTF-8 or is empty.
    """
    if (sql is None) == (file is None):
        raise click.UsageError("it takes one SELECT: as SQL, - for standard input, or --file with a path")
    if sql is not None and sql != "-":
        return sql
    is_input = "-" in (sql, file)
    name = "standard input" if is_input else str(file)
    try:
        text = (_standard_input() if is_input else Path(str(file)).read_bytes()).decode("utf-8-sig")
    except UnicodeError:
        raise Failed(f"No query can be read from {name}", "it is not UTF-8", "Save it as UTF-8", 2) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it cannot be read"
        raise Failed(f"No query can be read from {name}", why, "Give a file with one SELECT, in UTF-8", 2) from None
    if not text.strip():
        raise Failed(f"No query can be read from {name}", "it is empty", "Give one SELECT, in UTF-8", 2)
    return text


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise ValueError("it is closed")
    return sys.stdin.buffer.read()


def range_given(first: str | None, last: str | None) -> tuple[date | None, date | None]:
    """The days of `--from` and `--to`, each None where it is not given."""
    from devin_pipeline.settings import a_date

    first_day = a_date(first, "--from") if first else None
    last_day = a_date(last, "--to") if last else None
    if first_day and last_day and first_day > last_day:
        raise Failed("The range is empty", f"{first_day} comes after {last_day}", "Swap --from and --to", 2)
    return first_day, last_day
