"""How values and text of the API are written on a page."""

import difflib
import re
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from markupsafe import Markup, escape

from devin_pipeline.tables.measures import Unit

UNKNOWN = "\N{EN DASH}"
NONE = "(none)"

MOST_CHARACTERS_OF_A_LABEL = 60
# What HTML cannot hold, what ends a line, and what changes the direction of others or is not seen at all.
_UNSHOWN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CODE = re.compile("`([^`]*)`")
_WORDS = re.compile(r"\s+|[^\s]+")
_MOST_WORDS_COMPARED = 1_500


def number(value: Decimal | float | None, unit: Unit) -> str:
    """A value with as many digits as a person needs: whole from 1,000 on, else one digit; shares in per cent."""
    if value is None:
        return UNKNOWN
    exact = Decimal(str(value))
    if unit == "share":
        return f"{_rounded(exact * 100, 1):,} %"
    if unit in ("sessions", "users", "pull requests", "items", "days"):
        return f"{int(exact):,}"
    rounded = _rounded(exact, 1)
    return f"{rounded if abs(rounded) < 1_000 else _rounded(exact, 0):,}"


def change(now: Decimal | float | None, before: Decimal | float | None) -> Decimal | None:
    """By what share a value changed; None where there is nothing to compare with."""
    if now is None or not before:
        return None
    return (Decimal(str(now)) - Decimal(str(before))) / Decimal(str(before))


def percent(share: Decimal) -> str:
    """A change in whole per cent with its sign."""
    return f"{_signed(_rounded(share * 100, 0))} %"


def points(now: Decimal, before: Decimal) -> str:
    """The difference of two shares in percentage points: of a rate, per cent of per cent would mislead."""
    return f"{_signed(_rounded((now - before) * 100, 1))} points"


def _signed(number: Decimal) -> str:
    return f"{number:+,}".replace("-", "\N{MINUS SIGN}") if number else "\N{PLUS-MINUS SIGN}0"


def shown(text: str | None) -> str:
    """Text of the API for a page: what cannot be seen, or turns others around, is replaced by `�`."""
    return _SURROGATE.sub("\ufffd", _UNSHOWN.sub("\ufffd", text or ""))


def code(sentence: str) -> Markup:
    """A sentence of ours for a page: what stands in backticks is code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(sentence))))  # noqa: S704 - it is escaped


def label(value: object) -> str:
    """The key of a group in a line: `(none)` for null, and the beginning of a long text."""
    if value is None:
        return NONE
    if isinstance(value, date):
        return str(value)
    text = " ".join(shown(str(value)).split())
    return text if len(text) <= MOST_CHARACTERS_OF_A_LABEL else f"{text[: MOST_CHARACTERS_OF_A_LABEL - 1]}…"


def difference(before: str, after: str) -> tuple[list[tuple[bool, str]], list[tuple[bool, str]]]:
    """Two texts in pieces, each with whether the other text lacks it; compared word by word."""
    old, new = (_WORDS.findall(shown(text)) for text in (before, after))
    if max(len(old), len(new)) > _MOST_WORDS_COMPARED:
        return [(False, shown(before))], [(False, shown(after))]
    of_old: list[tuple[bool, str]] = []
    of_new: list[tuple[bool, str]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        for pieces, words in ((of_old, old[a:b]), (of_new, new[c:d])):
            if words:
                pieces.append((kind != "equal", "".join(words)))
    return of_old, of_new


def _rounded(value: Decimal, digits: int) -> Decimal:
    # Adding 0 takes the sign from a zero.
    return value.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP) + 0
