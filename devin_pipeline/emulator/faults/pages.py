"""Faults of what a page says: pages that contradict themselves, each other or the query."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from typing import Literal

import msgspec

from devin_pipeline.emulator.faults.exchange import Exchange, Page, Params
from devin_pipeline.emulator.faults.responses import Fault

_Edit = Callable[[Page], bool]


@dataclasses.dataclass(frozen=True)
class Edited(Fault):
    """A page that says something untrue.

    Args:
        name: What it is counted as.
        edit: Changes the page; False when the page leaves no room for it.
    """

    name: str
    edit: _Edit

    @property
    def kind(self) -> str:
        """Its name."""
        return self.name

    async def spoil(self, exchange: Exchange) -> bool:
        """Send the page as edited."""
        page = await exchange.page()
        if page is None or not self.edit(page):
            return False
        await exchange.answer_page(page)
        return True


@dataclasses.dataclass(frozen=True)
class Misheard(Fault):
    """The honest answer to another query than was asked.

    Args:
        name: What it is counted as.
        hear: Gives the query answered; None when this one leaves no room for it.
        echoes: True when a v2 page claims to start and end where it was asked to.
    """

    name: str
    hear: Callable[[Params], Params | None]
    echoes: bool = False

    @property
    def kind(self) -> str:
        """Its name."""
        return self.name

    async def spoil(self, exchange: Exchange) -> bool:
        """Answer what was not asked."""
        heard = self.hear(exchange.params)
        page = None if heard is None else await exchange.page(heard)
        if page is None:
            return False
        if self.echoes and page.is_v2:
            page.fields["skip"] = int(page.asked["skip"])
        await exchange.answer_page(page)
        return True


@dataclasses.dataclass(frozen=True)
class WhereListed(Fault):
    """Another fault, for each page that lists one of some sessions; all other pages are honest.

    Args:
        session_ids: The sessions, as the listing names them.
        fault: What its pages meet.
    """

    session_ids: frozenset[str]
    fault: Fault

    @property
    def kind(self) -> str:
        """That of the fault."""
        return self.fault.kind

    async def spoil(self, exchange: Exchange) -> bool:
        """Have the fault answer if one of the sessions is listed."""
        page = await exchange.page()
        if page is None:
            return False
        listed = {msgspec.json.decode(item, type=_Named).session_id for item in page.items}
        return bool(listed & self.session_ids) and await self.fault.spoil(exchange)


class _Named(msgspec.Struct):
    session_id: str | None = None


@dataclasses.dataclass(frozen=True)
class TwoAtOnce(Fault):
    """A page and the one after it as one: more items than asked for."""

    kind: str = "more items than asked for"

    async def spoil(self, exchange: Exchange) -> bool:
        """Send both, if there are two."""
        page = await exchange.page()
        if page is None or not page.has_more:
            return False
        if page.is_v2:
            params = _with(exchange.params, "skip", str(page.fields["skip"] + page.fields["limit"]))
        else:
            params = _with(exchange.params, "after", page.fields["end_cursor"])
        following = await exchange.page(params)
        if following is None:
            return False
        page.items += following.items
        if not page.is_v2:
            page.fields = following.fields
        await exchange.answer_page(page)
        return True


def _with(params: Params, name: str, value: str) -> Params:
    return [*((key, old) for key, old in params if key != name), (name, value)]


def _set(field: str, value: object, *, of: Literal["v2", "v3", "both"] = "both", more: bool = False) -> _Edit:
    """Set a field of the envelope, where the page has it (and, if so asked, is not the last)."""

    def edit(page: Page) -> bool:
        if field not in page.fields or (more and not page.has_more) or of not in ("both", "v2" if page.is_v2 else "v3"):
            return False
        page.fields[field] = value
        return True

    return edit


def _total_is_larger(page: Page) -> bool:
    if page.is_counted:
        page.fields["total"] += 1
    return page.is_counted


def _says_it_is_the_last(page: Page) -> bool:
    if not (page.has_more and page.is_counted):
        return False
    page.fields |= {page.more: False, "next_cursor" if page.is_v2 else "end_cursor": None}
    return True


def _says_that_more_follow(page: Page) -> bool:
    if page.has_more or not page.is_v2:
        return False
    page.fields |= {"has_more": True, "next_cursor": page.fields["skip"] + page.fields["limit"]}
    return True


def _more_is_text(page: Page) -> bool:
    page.fields[page.more] = str(page.has_more).lower()
    return True


def _more_is_missing(page: Page) -> bool:
    # On v3 that means the last page: a client without a total cannot know better.
    if not page.is_v2 and page.has_more and not page.is_counted:
        return False
    del page.fields[page.more]
    return True


def _is_empty(page: Page) -> bool:
    if page.is_v2:
        page.items, page.fields["has_more"] = [], True
        return True
    after = page.asked.get("after")
    start = json.dumps([2**53, ""]) if after is None else base64.b64decode(after).decode()
    if len(start) > 2_000:
        return False
    # Another spelling of the same place: the client that goes on there misses nothing.
    page.items, page.fields["has_next_page"] = [], True
    page.fields["end_cursor"] = base64.b64encode(f"{start}    ".encode()).decode()
    return True


def _cursor_repeats(page: Page) -> bool:
    if page.is_v2 or not page.has_more or "after" not in page.asked:
        return False
    page.fields["end_cursor"] = page.asked["after"]
    return True


def _items_are_left_out(page: Page) -> bool:
    if not page.is_counted or not page.items:
        return False
    page.items = page.items[: len(page.items) // 2]
    return True


def _an_item_comes_twice(page: Page) -> bool:
    page.items = [*page.items, *page.items[:1]]
    return len(page.items) > 1


def _next_cursor(value: object) -> _Edit:
    return _set("next_cursor", value, of="v2", more=True)


def _fewer(params: Params) -> Params | None:
    name = "limit" if "limit" in dict(params) else "first"
    asked = int(dict(params).get(name, "0"))
    return _with(params, name, str(asked // 2)) if asked > 1 else None


def _from_the_start(params: Params) -> Params | None:
    left = [(name, value) for name, value in params if name not in ("skip", "after")]
    return left if dict(params).get("skip", "0") != "0" or "after" in dict(params) else None


def _everything(params: Params) -> Params | None:
    left = [(name, value) for name, value in params if not name.startswith(("created_", "updated_"))]
    return left if left != params else None


LIES: tuple[Fault, ...] = (
    TwoAtOnce(),
    Misheard("fewer items than asked for", _fewer),
    Misheard("the place asked for is ignored", _from_the_start),
    Misheard("the place asked for is ignored, and claimed", _from_the_start, echoes=True),
    Misheard("the window asked for is ignored", _everything),
    Edited("an empty page with more to come", _is_empty),
    Edited("a cursor comes again", _cursor_repeats),
    Edited("more to come, and no cursor", _set("end_cursor", None, of="v3", more=True)),
    Edited("next_cursor is null", _next_cursor(None)),
    Edited("next_cursor is 0", _next_cursor(0)),
    Edited("next_cursor jumps", _next_cursor(10**6)),
    Edited("next_cursor is text", _next_cursor("200")),
    Edited("the total is larger", _total_is_larger),
    Edited("the total is null", _set("total", None)),
    Edited("the total is negative", _set("total", -1)),
    Edited("the total is text", _set("total", "12")),
    Edited("the last page too early", _says_it_is_the_last),
    Edited("more to come after the last page", _says_that_more_follow),
    Edited("whether more follow is text", _more_is_text),
    Edited("whether more follow is missing", _more_is_missing),
    Edited("items are left out", _items_are_left_out),
    Edited("an item comes twice", _an_item_comes_twice),
)
"""Pages that contradict themselves, each other or the query (H26-H35, H39).

What nobody could notice is left out: items missing from a listing that states no total.
"""
