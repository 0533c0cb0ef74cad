"""The stages of the pipeline, each to be run in a process of its own: `STAGES` names them.

Run as a module, it is told on its standard input which stage, where and of which days, and prints what it cost.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import httpx
import msgspec

from devin_pipeline.devin_api.client import PAGES_OF_A_LISTING
from devin_pipeline.devin_api.paging import PAGE_SIZE
from devin_pipeline.lake import Lake
from devin_pipeline.partitions import days_between, starts_at
from devin_pipeline_tests.benchmarks import ours
from devin_pipeline_tests.benchmarks.measuring import Cost, measured
from devin_pipeline_tests.benchmarks.recipes import RECIPES
from devin_pipeline_tests.benchmarks.server import V2_KEY, V2_PATH
from devin_pipeline_tests.benchmarks.sessions import DAY_STARTS_AT_UTC_HOUR


class _Skimmed(msgspec.Struct):
    """A page of which each item is passed over once: no parser could do less, and tell where an item ends."""

    items: list[msgspec.Raw]


_SKIMMED = msgspec.json.Decoder(_Skimmed)


@dataclass(frozen=True)
class Place:
    """Where a stage works, and of which days.

    Attributes:
        url: The server.
        folder: Holds the lake as `lake`, and whatever else the stage writes.
        first_day: The first day of the sessions.
        days: The days to work on, oldest first.
        sessions: How many sessions the server tells of all its days.
    """

    url: str
    folder: Path
    first_day: date
    days: Sequence[date]
    sessions: int

    @property
    def lake(self) -> Lake:
        """The lake in the folder."""
        return Lake(str(self.folder / "lake"))


def fetch(place: Place, cost: Cost) -> None:
    """Read all days in one go, write nothing."""
    with ours.client(place.url) as client, measured(cost):
        sessions = sum(len(listing.items) for listing, _ in ours.read(client, place.days))
    cost.facts["sessions"] = sessions


def land(place: Place, cost: Cost) -> None:
    """From bytes of pages in memory to committed raw versions."""
    sessions, floor = 0, Cost()
    # As many days at once as a listing of the client tells of.
    at_once = max(1, len(place.days) * PAGES_OF_A_LISTING * PAGE_SIZE // place.sessions)
    for start in range(0, len(place.days), at_once):
        days = place.days[start : start + at_once]
        bodies = _bodies(place.url, days)
        with measured(floor):
            for body in bodies:
                _SKIMMED.decode(body)
        with measured(cost):
            listing = ours.decode(bodies)
            ours.land_days(place.lake, listing, days)
        sessions += len(listing.items)
    cost.facts |= {"sessions": sessions, "skimming seconds": floor.cpu_seconds}


def read_into_raw(place: Place, cost: Cost) -> None:
    """From the API to committed raw versions."""
    with measured(cost):
        ours.read_into(place.lake, place.url, place.days)


def derive(place: Place, cost: Cost) -> None:
    """From raw to all derived tables."""
    with measured(cost):
        ours.derive(place.lake, place.days)


def report(place: Place, cost: Cost) -> None:
    """From derived tables to all reports."""
    for table in ours.REPORTS:
        alone = Cost()
        with measured(cost), measured(alone):
            ours.report(place.lake, table)
        cost.facts[f"{table.name} seconds"] = alone.wall_seconds


def backfill(place: Place, cost: Cost) -> None:
    """The command, from its start to its end."""
    with measured(cost):
        ours.backfill(place.folder, place.url, place.first_day, place.days)


def _bodies(url: str, days: Sequence[date]) -> list[bytes]:
    window = {
        "created_date_from": starts_at(days[0], DAY_STARTS_AT_UTC_HOUR).isoformat(),
        # v2's upper bound is inclusive.
        "created_date_to": (starts_at(days[-1], DAY_STARTS_AT_UTC_HOUR, after=1) - timedelta(seconds=1)).isoformat(),
    }
    bodies: list[bytes] = []
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {V2_KEY}"}, trust_env=False) as client:
        more, skip = True, 0
        while more:
            params: dict[str, str | int] = {"skip": skip, "limit": 200, **window}
            body = client.get(V2_PATH, params=params).content
            bodies.append(body)
            more, skip = body.startswith(b'{"has_more":true'), skip + 200
    return bodies


def _query(recipe: str) -> Callable[[Place, Cost], None]:
    def ask(place: Place, cost: Cost) -> None:
        lake = place.lake
        with measured(cost):
            answer = lake.answer(RECIPES[recipe])
        assert answer.num_rows, f"{recipe}: no rows"
        warm = [Cost() for _ in range(5)]
        for each in warm:
            with measured(each):
                lake.answer(RECIPES[recipe])
        middle = sorted(warm, key=lambda each: each.wall_seconds)[2]
        cost.facts |= {"warm seconds": middle.wall_seconds, "warm CPU seconds": middle.cpu_seconds}

    return ask


STAGES: dict[str, Callable[[Place, Cost], None]] = {
    "fetch": fetch,
    "bytes → raw": land,
    "API → raw": read_into_raw,
    "raw → derived": derive,
    "derived → reports": report,
    "backfill": backfill,
    **{f"query: {recipe}": _query(recipe) for recipe in RECIPES},
}


def main() -> None:
    """Run one stage as told on standard input, and print what it cost."""
    told = json.load(sys.stdin)
    first, last = date.fromisoformat(told["from"]), date.fromisoformat(told["to"])
    place = Place(
        told["url"],
        Path(told["folder"]),
        date.fromisoformat(told["first_day"]),
        days_between(first, last),
        told["sessions"],
    )
    cost = Cost()
    STAGES[told["stage"]](place, cost)
    sys.stdout.write(json.dumps(asdict(cost)) + "\n")


if __name__ == "__main__":
    main()
