"""What is measured against what: the API next to its peers, a lake of any size, the bill, the command over a year."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4

from devin_pipeline.billing_calendar import days_between, newest_closed_day
from devin_pipeline_tests.benchmarks import ours, peers, stages
from devin_pipeline_tests.benchmarks.measuring import Cost, Disk, Place, in_own_process
from devin_pipeline_tests.benchmarks.recipes import RECIPES
from devin_pipeline_tests.benchmarks.rows import Row, compared, middle
from devin_pipeline_tests.benchmarks.server import Latency, Server, serving
from devin_pipeline_tests.benchmarks.sessions import DAY_STARTS_AT_UTC_HOUR

NO_LATENCY = Latency(0, 0)
USUAL = Latency(50, 150)
LATENCIES = (NO_LATENCY, Latency(50, 50), Latency(150, 150), USUAL)
STAGES = ("fetch", "raw", "backfill", "peers", "derive", "reports", "query", "refresh", "bill")

REFRESHED_DAYS = 35
_ACTIVE_PEOPLE = 600


@dataclass(frozen=True)
class Bench:
    """A server, a folder to work in, and what to call with rows as they come.

    Attributes:
        server: Serves the sessions.
        sessions: How many there are.
        days: The billing days they are in, oldest first.
        folder: An empty folder, to leave lakes in.
        wanted: The stages to measure.
        repeat: How often each comparison with a peer is made; its median counts.
        on_row: Called with each row.
    """

    server: Server
    sessions: int
    days: Sequence[date]
    folder: Path
    wanted: frozenset[str]
    repeat: int
    on_row: Callable[[Row], None]

    def measure(
        self,
        stage: str,
        folder: str,
        latency: Latency = NO_LATENCY,
        *,
        day: date | None = None,
        name: str = "",
        limit: Callable[[float, Cost], float] | None = None,
    ) -> Row:
        """Do a stage or a peer in a process of its own, and give what it took.

        Args:
            stage: Its name.
            folder: Name of the folder it works in; what is there it finds.
            latency: How slowly the server answers.
            day: The one day to work on; all when left out.
            name: What to call it, when not by its own name.
            limit: From the latencies added up, and the cost, to the least seconds it could take.
        """
        is_peer = stage in peers.PEERS
        place = Place(
            url=self.server.url,
            folder=self.folder / folder,
            start=self.days[0],
            first=day or self.days[0],
            last=day or self.days[-1],
            sessions=self.sessions,
        )
        written = place.folder if is_peer else place.folder / "lake"
        place.folder.mkdir(exist_ok=True)
        before = Disk.of(written)
        self.server.take(latency)
        self.server.log()
        cost = in_own_process((peers if is_peer else stages).__name__, stage, place)
        log = self.server.log()
        if (found := cost.facts.get("sessions")) is not None and found != self.sessions:
            raise RuntimeError(f"{stage} found {found:.0f} of {self.sessions} sessions")
        after = Disk.of(written)
        row = Row(
            stage=name or stage,
            latency=str(latency) if log.requests else "",
            sessions=self.sessions,
            days=len(self.days),
            wall_seconds=cost.wall_seconds,
            cpu_seconds=cost.cpu_seconds,
            peak_bytes=cost.peak_bytes,
            disk_bytes=after.bytes_of() - before.bytes_of(),
            written_bytes=after.bytes_since(before),
            requests=log.requests,
            in_flight=log.in_flight,
            commits=after.commits_since(before),
            limit_seconds=limit(log.waited_seconds, cost) if limit else None,
            facts=cost.facts | {"server CPU seconds": log.cpu_seconds, "bytes sent": log.bytes_sent},
        )
        self.on_row(row)
        return row

    def in_empty_folders(
        self, stage: str, latency: Latency, limit: Callable[[float, Cost], float] | None = None
    ) -> Row:
        """Measure in an empty folder each time, as often as comparisons are repeated."""
        # Not removed in between: ext4 makes files more slowly just after thousands went, a tenth of a backfill's time.
        return middle([self.measure(stage, f"empty-{uuid4().hex}", latency, limit=limit) for _ in range(self.repeat)])


def api(bench: Bench) -> list[Row]:
    """From the API to tables, next to the peers on the same server."""
    rows = []
    if "fetch" in bench.wanted:
        for latency in LATENCIES:
            row = bench.measure("fetch", "empty", latency, limit=_least_waiting if latency != NO_LATENCY else None)
            rows.append(row)
    if "raw" in bench.wanted:
        rows.append(bench.in_empty_folders("bytes → raw", NO_LATENCY, lambda _, cost: cost.facts["skimming seconds"]))
    others = {peer: bench.in_empty_folders(peer, USUAL) for peer in peers.PEERS if "peers" in bench.wanted}
    whole = [
        bench.in_empty_folders(stage, USUAL, _least_waiting)
        for stage, part in (
            ("API → raw", "raw"),
            ("backfill", "backfill"),
            ("backfill, not the first", "backfill"),
        )
        if part in bench.wanted
    ]
    if not others:
        return [*rows, *whole]
    return [*rows, *compared([*others.values(), *whole], others[peers.DLT], others[peers.DLT_BY_MONTH])]


def lake(bench: Bench) -> list[Row]:
    """What follows from raw, what is asked of it, and what a refresh costs."""
    if not bench.wanted & {"derive", "reports", "query", "refresh", "bill"}:
        return []
    rows = [bench.measure("API → raw", "lake"), bench.measure("raw → derived", "lake")]
    rows.append(bench.measure("derived → reports", "lake"))
    if "bill" in bench.wanted:
        rows += _billed(bench)
    if "query" in bench.wanted:
        for recipe in RECIPES:
            rows += _cold_and_warm(bench.measure(f"query: {recipe}", "lake"))
    if "refresh" in bench.wanted:
        rows += _refreshed(bench)
    return rows


def bill(bench: Bench) -> list[Row]:
    """The lists and the bill of the last weeks: first of all people, then again of those with use."""
    if "bill" not in bench.wanted:
        return []
    first = bench.measure("all bills → raw", "bill", USUAL)
    fetched = [bench.measure("fetch bills", "bill", latency, limit=_least_waiting) for latency in LATENCIES[1:]]
    again = bench.measure("bills → raw", "bill", USUAL, name="bills → raw, unchanged")
    # No session is read into this lake.
    return [replace(row, disk_bytes=0) for row in (first, *fetched, again)]


def command(bench: Bench) -> list[Row]:
    """The command over all days, fetch to reports."""
    return [bench.measure("backfill", "backfill", USUAL, limit=_least_waiting)] if "backfill" in bench.wanted else []


def run(
    part: Callable[[Bench], list[Row]],
    sessions: int,
    days: int,
    folder: Path,
    *,
    stages_wanted: Iterable[str] = STAGES,
    repeat: int = 1,
    compresses: bool = False,
    on_row: Callable[[Row], None],
) -> list[Row]:
    """Measure a part with a server of its own.

    Args:
        part: `api`, `lake`, `bill` or `command`.
        sessions: How many.
        days: Over how many billing days, up to the last that is over.
        folder: Where lakes are left.
        stages_wanted: Some of `STAGES`.
        repeat: How often each comparison with a peer is made.
        compresses: Whether the server compresses its responses.
        on_row: Called with each row.
    """
    last = newest_closed_day(datetime.now(UTC), DAY_STARTS_AT_UTC_HOUR)
    works_in = folder / f"{part.__name__}-{sessions}-{days}"
    works_in.mkdir(parents=True)
    people = _ACTIVE_PEOPLE if part is bill else None
    with serving(sessions, days, last, compresses=compresses, people=people) as server:
        billing_days = days_between(date.fromordinal(last.toordinal() - days + 1), last)
        return part(Bench(server, sessions, billing_days, works_in, frozenset(stages_wanted), repeat, on_row))


def _least_waiting(waited_seconds: float, _: Cost) -> float:
    return waited_seconds / ours.IN_FLIGHT


def _cold_and_warm(row: Row) -> list[Row]:
    warm = replace(
        row,
        stage=f"{row.stage}, again",
        wall_seconds=row.facts["warm seconds"],
        cpu_seconds=row.facts["warm CPU seconds"],
    )
    return [row, warm]


def _billed(bench: Bench) -> list[Row]:
    stages_of_raw = ("all bills → raw", "session days → raw", *(f"raw → {table.name}" for table in ours.SPEND))
    rows = [bench.measure(stage, "lake") for stage in stages_of_raw]
    bench.measure("prepare reports of the bill", "lake")
    return [*rows, *(bench.measure(f"report: {table.name}", "lake") for table in ours.BILL_REPORTS)]


def _refreshed(bench: Bench) -> list[Row]:
    newest = bench.days[-1]
    # A Wednesday: a Sunday of a small enterprise may have no session.
    middle_day = next(day for day in bench.days[len(bench.days) // 2 :] if day.weekday() == 2)
    # So that Dagster's storage and the catalogue exist, as before any but the first run.
    bench.measure("backfill", "lake", day=newest, name="refresh, the first run of Dagster")
    unchanged = bench.measure("backfill", "lake", day=newest, name="refresh, an unchanged day")
    bench.server.change(middle_day)
    changed = bench.measure("backfill", "lake", day=middle_day, name="refresh, one changed session")
    # Per session of the lake, what one day takes says nothing.
    return [replace(row, disk_bytes=0) for row in (unchanged, changed)]
