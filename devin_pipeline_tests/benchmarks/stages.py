"""The stages of the pipeline, each to be run in a process of its own: `STAGES` names them."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import httpx
import msgspec

from devin_pipeline.billing_calendar import days_between, starts_at
from devin_pipeline.devin_api.batches import PAGES_PER_BATCH
from devin_pipeline.devin_api.paging import PAGE_SIZE
from devin_pipeline.lake import Lake
from devin_pipeline.raw.sessions.moved_sessions import HeldSessions
from devin_pipeline.tables import SESSIONS, Table
from devin_pipeline_tests.benchmarks import ours
from devin_pipeline_tests.benchmarks.measuring import Cost, Place, Work, measured, run_named_work
from devin_pipeline_tests.benchmarks.recipes import RECIPES
from devin_pipeline_tests.benchmarks.server import V2_KEY, V2_PATH, Server
from devin_pipeline_tests.benchmarks.sessions import DAY_STARTS_AT_UTC_HOUR

SESSIONS_ASKED = 10_000
"""For the days of how many sessions is asked: what a refresh asks for in some weeks."""


class _Skimmed(msgspec.Struct):
    """A page of which each item is passed over once: no parser could do less, and find where an item ends."""

    items: list[msgspec.Raw]


_SKIMMED = msgspec.json.Decoder(_Skimmed)


def fetch(place: Place, cost: Cost) -> None:
    """Read all days in one go, write nothing."""
    with ours.client(place.url) as client, measured(cost):
        sessions = sum(len(listing.items) for listing, _ in ours.read(client, _days(place)))
    cost.facts["sessions"] = sessions


def land(place: Place, cost: Cost) -> None:
    """From bytes of pages in memory to committed raw versions."""
    floor = Cost()
    every_day = _days(place)
    held = HeldSessions()
    # As many days at once as a batch of the client covers.
    at_once = max(1, len(every_day) * PAGES_PER_BATCH * PAGE_SIZE // place.sessions)
    for start in range(0, len(every_day), at_once):
        days = every_day[start : start + at_once]
        bodies = _bodies(place.url, days)
        with measured(floor):
            for body in bodies:
                _SKIMMED.decode(body)
        with measured(cost):
            listing = ours.decode(bodies)
            ours.land_days(_lake(place), listing, days, held)
    cost.facts |= {"sessions": ours.rows(_lake(place), ours.RAW), "skimming seconds": floor.cpu_seconds}


def read_into_raw(place: Place, cost: Cost) -> None:
    """From the API to committed raw versions."""
    with measured(cost):
        ours.read_into(_lake(place), place.url, _days(place))
    cost.facts["sessions"] = ours.rows(_lake(place), ours.RAW)


def derive(place: Place, cost: Cost) -> None:
    """From raw to all derived tables."""
    with measured(cost):
        ours.derive(_lake(place), _days(place))
    cost.facts["sessions"] = ours.rows(_lake(place), SESSIONS)


def report(place: Place, cost: Cost) -> None:
    """From derived tables to all reports of sessions."""
    for table in ours.REPORTS:
        alone = Cost()
        with measured(cost), measured(alone):
            ours.report(_lake(place), table)
        cost.facts[f"{table.name} seconds"] = alone.wall_seconds


def read_all_bills(place: Place, cost: Cost) -> None:
    """From the API to committed raw versions of the lists and the bills of all people, as a backfill does."""
    with measured(cost):
        ours.read_bill_into(_lake(place), place.url, _days(place), everybody=True)


def read_bills(place: Place, cost: Cost) -> None:
    """The same of people with use only, as a refresh does."""
    with measured(cost):
        ours.read_bill_into(_lake(place), place.url, _days(place), everybody=False)


def fetch_bills(place: Place, cost: Cost) -> None:
    """Read what a refresh does of the lists and the bill, write nothing."""
    lake = _lake(place)
    with ours.client(place.url) as client, measured(cost):
        ours.read_lists_and_bill(lake, client, _days(place), everybody=False)


def read_session_days(place: Place, cost: Cost) -> None:
    """On which days the dearest sessions consumed their ACUs, from the API to committed raw versions."""
    with measured(cost):
        cost.facts["sessions asked"] = ours.read_session_days_into(_lake(place), place.url, SESSIONS_ASKED)


def prepare_bill_reports(place: Place, _: Cost) -> None:
    """What the reports of the bill need to know besides tables."""
    ours.prepare_bill_reports(_lake(place), _days(place))


def backfill(place: Place, cost: Cost) -> None:
    """The command, from its start to its end."""
    with measured(cost):
        ours.backfill(place.folder, place.url, place.start, _days(place))
    cost.facts["sessions"] = ours.rows(_lake(place), SESSIONS)


def backfill_later(place: Place, cost: Cost) -> None:
    """The command where Dagster's storage is there already, as it is for any but the first one."""
    before = place.folder / "before"
    before.mkdir()
    ours.backfill(before, place.url, place.start, [place.last])
    (before / "home").rename(place.folder / "home")
    # What that asked is none of this stage's.
    Server(place.url, 0).log()
    backfill(place, cost)


def _days(place: Place) -> list[date]:
    return days_between(place.first, place.last)


def _lake(place: Place) -> Lake:
    return Lake(str(place.folder / "lake"))


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


def _spend(table: Table) -> Work:
    def derive(place: Place, cost: Cost) -> None:
        with measured(cost):
            ours.derive_spend(_lake(place), table, _days(place))

    return derive


def _one_report(table: Table) -> Work:
    def build(place: Place, cost: Cost) -> None:
        with measured(cost):
            ours.report(_lake(place), table)
        cost.facts["rows"] = ours.rows(_lake(place), table)

    return build


def _query(recipe: str) -> Work:
    def ask(place: Place, cost: Cost) -> None:
        lake = _lake(place)
        with measured(cost):
            result = lake.query(RECIPES[recipe])
        assert result.num_rows, f"{recipe}: no rows"
        warm = [Cost() for _ in range(5)]
        for each in warm:
            with measured(each):
                lake.query(RECIPES[recipe])
        middle = sorted(warm, key=lambda each: each.wall_seconds)[2]
        cost.facts |= {"warm seconds": middle.wall_seconds, "warm CPU seconds": middle.cpu_seconds}

    return ask


STAGES: Mapping[str, Work] = {
    "fetch": fetch,
    "bytes → raw": land,
    "API → raw": read_into_raw,
    "raw → derived": derive,
    "derived → reports": report,
    "all bills → raw": read_all_bills,
    "bills → raw": read_bills,
    "fetch bills": fetch_bills,
    "session days → raw": read_session_days,
    **{f"raw → {table.name}": _spend(table) for table in ours.SPEND},
    "prepare reports of the bill": prepare_bill_reports,
    **{f"report: {table.name}": _one_report(table) for table in ours.BILL_REPORTS},
    "backfill": backfill,
    "backfill, not the first": backfill_later,
    **{f"query: {recipe}": _query(recipe) for recipe in RECIPES},
}


if __name__ == "__main__":
    run_named_work(STAGES)
