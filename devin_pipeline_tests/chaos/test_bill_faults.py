"""Faults of the API and of the network while lists and the bill are read: nothing lost, nothing made up, no 0 for null.

Reads go through the client and landing over real sockets; waits between tries pass at once. What is true at any time is
what an undisturbed lake holds that is read from the same enterprise.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from devin_pipeline.billing_calendar import days_between
from devin_pipeline.derived.publishing import publish_session_tables
from devin_pipeline.devin_api import DevinError
from devin_pipeline.emulator import EmulatorServer, Enterprise, FaultScript, Posting
from devin_pipeline.emulator.faults import LIES, REFUSALS, TRANSIENT, Status
from devin_pipeline.lake import Lake
from devin_pipeline.operations.verify import verify
from devin_pipeline.tables import MONEY_TABLES, TABLES, RawTable
from devin_pipeline_tests.bill import ENDS_AT, LAST, V3, Reading, Row, enterprise_of, summed
from devin_pipeline_tests.conftest import Dose, Figure
from devin_pipeline_tests.harness import comparable
from devin_pipeline_tests.runs import HOUR, Run, publish, read_feed, read_money

DAYS = days_between(LAST - timedelta(days=4), LAST)
READS_IN_A_WORLD = 8
ALONE = tuple(Status(status) for status in (403, 404, 405, 410))
# Each kind of read: what its requests meet, and at what rate.
SCRIPTS = (
    ("passing", 0.1, TRANSIENT),
    ("passing", 0.3, TRANSIENT),
    ("lies", 0.3, (*TRANSIENT, *LIES)),
    ("refusals of one thing each", 0.2, ALONE),
    ("refusals", 0.02, REFUSALS),
)

Key = tuple[object, ...]
Listed = Mapping[Key, str]


@dataclass
class Counts:
    """What all worlds together came to."""

    faults: Counter[str] = field(default_factory=Counter)
    whole: Counter[str] = field(default_factory=Counter)
    ended_early: Counter[str] = field(default_factory=Counter)
    entries: int = 0


def listed(lake: Lake, table: RawTable) -> Listed:
    """What a raw table holds now, as sent, by the object it is about."""
    latest: dict[Key, Row] = {}
    for row in sorted(lake.snapshot(table).rows().to_pylist(), key=lambda row: row["fetched_at"]):
        latest[tuple(row[name] for name in table.object_key)] = row
    return {key: row["payload"] for key, row in latest.items() if row["is_listed"]}


def billed(lake: Lake) -> Mapping[Key, Decimal]:
    rows: list[Row] = lake.snapshot(TABLES["consumption_daily"]).rows().to_pylist()
    return summed(rows, ("day", "scope", "scope_id"))


class World:
    """An enterprise that changes, a server that fails, a lake that follows it, and one that nothing disturbs."""

    def __init__(self, seed: int, counts: Counts, folder: Path) -> None:
        self.random = random.Random(seed)
        self.counts = counts
        self.server = EmulatorServer(
            enterprise_of(seed, sessions=15, days=len(DAYS) - 1), largest_page=self.random.choice((3, 5, 20))
        )
        self.folder = folder

    @property
    def enterprise(self) -> Enterprise:
        return self.server.enterprise

    def live(self, wanted: int) -> None:
        """Read once without faults, then as every script has it or until enough were met, then without any again."""
        server = self.server
        run = Run(server.url, server.v2_key, server.v3_key, str(self.folder / "lake"), V3, DAYS, reads_bill=True)
        self.read = Reading(server, Lake(run.lake), run)
        apart = run.into(self.folder / "undisturbed")
        self.undisturbed = Reading(server, Lake(apart.lake), apart)
        run()
        self.undisturbed.run()
        for number in range(READS_IN_A_WORLD):
            if number % 3 == 2:
                self.change()
                self.undisturbed.run()
            if self.counts.faults.total() >= wanted and number >= len(SCRIPTS):
                break
            how, rate, kinds = SCRIPTS[number % len(SCRIPTS)]
            self.meet(how, FaultScript.seeded(self.random.randrange(2**32), rate=rate, kinds=kinds))
        self.quiet()

    def change(self) -> None:
        """Something happens in the enterprise, as between two reads."""
        enterprise, chance = self.enterprise, self.random
        enterprise.grow_acus(3, at=ENDS_AT)
        session = chance.choice(enterprise.sessions)
        enterprise.bill.post(Posting(chance.choice(DAYS[1:]), "review", Decimal("1.25"), org_id=session.org_id))
        directory = enterprise.directory
        member = directory.members[chance.choice(sorted(directory.members))]
        member.name = f"{member.name} II"
        enterprise.rename_organization(session.org_id, f"Another {chance.randrange(1_000)}")

    def meet(self, how: str, script: FaultScript) -> None:
        """A read under a script; what it stored is compared with what was there and what is true."""
        lake = self.read.lake
        with self.read.run.client() as client:
            read_feed(client, lake, V3[0], DAYS)
            publish_session_tables(lake, DAYS, HOUR)
        before = {table: listed(lake, table) for table in MONEY_TABLES}
        billed_before = billed(lake)
        self.server.script(script)
        try:
            with self.read.run.client() as client:
                read_money(client, lake, DAYS)
            is_whole = True
        except DevinError:
            is_whole = False
        finally:
            self.server.script(None)
        self.counts.faults += script.sent
        (self.counts.whole if is_whole else self.counts.ended_early)[how] += 1
        for table in MONEY_TABLES:
            now, true = listed(lake, table), listed(self.undisturbed.lake, table)
            self.counts.entries += len(now)
            lost = {key for key in before[table].keys() & true.keys() if key not in now}
            made_up = {
                key
                for key, payload in now.items()
                # An organization without limits may be answered so; nobody could notice that it is not the truth.
                if payload not in (before[table].get(key), true.get(key), "{}")
            }
            assert (lost, made_up) == (set(), set()), table.name
            if is_whole and how == "passing":
                assert {key for key in true if now.get(key) not in (true[key], "{}")} == set(), table.name
        publish(lake, DAYS)
        true_bill = billed(self.undisturbed.lake)
        for key, acus in billed(lake).items():
            assert acus in (billed_before.get(key), true_bill.get(key)), key

    def quiet(self) -> None:
        """After a read without faults every table is as if there never had been any."""
        self.read.run()
        self.undisturbed.run()
        for name in ("consumption_daily", "session_acus_by_day", "acu_consumed_daily", "reconciliation_daily"):
            columns = TABLES[name].schema.names
            here, there = (comparable(each.rows(name), columns) for each in (self.read, self.undisturbed))
            assert here == there, name
        assert verify(self.read.lake, 8).is_clean


def test_no_entry_is_lost_or_made_up_whatever_is_answered_about_lists_and_the_bill(dose: Dose, figure: Figure) -> None:
    counts, wanted, seed = Counts(), dose(10_000), 0
    while counts.faults.total() < wanted:
        seed += 1
        with TemporaryDirectory() as folder:
            world = World(seed, counts, Path(folder))
            with world.server:
                world.live(wanted)
    assert counts.whole["passing"]
    assert counts.whole["refusals of one thing each"]
    figure(
        f"{counts.faults.total()} HTTP faults of {len(counts.faults)} kinds while lists and the bill were read in "
        f"{seed} enterprises: {counts.entries} entries checked, none lost, none made up; reads that ended whole: "
        + ", ".join(f"{how} {whole} of {whole + counts.ended_early[how]}" for how, whole in counts.whole.items())
    )
