"""Every read while days, a report and `devin.duckdb` are published over and over sees one version, and no error.

In version k every ACU is k, so that rows of two versions in one result show.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import duckdb
import pyarrow.compute as pc
from deltalake import DeltaTable

from devin_pipeline.lake import Lake, write_catalog
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.conftest import Dose, Figure
from devin_pipeline_tests.tables.rows import DAY, rows_of

ACU_DAILY = TABLES["acu_daily"]
ACU_WEEKLY = TABLES["acu_weekly"]
DAYS = [DAY + timedelta(days=n) for n in range(3)]
ORGANIZATIONS = [f"org-{n}" for n in range(5)]

_SECONDS_AT_MOST = 300

# What a read returns: least and greatest ACUs, and rows, of the days' table and of the report's.
Totals = list[tuple[Decimal, Decimal, int]]
_ASKED = [f"select min(acus), max(acus), count(*) from {table}" for table in ("acu_daily", "acu_weekly")]
_WHOLE = [len(DAYS) * len(ORGANIZATIONS), len(ORGANIZATIONS)]


def publish(lake: Lake, version: int) -> None:
    acus = Decimal(version)
    days = [{"day": day, "org_id": org, "acus": acus} for day in DAYS for org in ORGANIZATIONS]
    lake.replace_days(ACU_DAILY, DAYS, rows_of(ACU_DAILY, days))
    lake.replace_all(ACU_WEEKLY, rows_of(ACU_WEEKLY, [{"org_id": org, "acus": acus} for org in ORGANIZATIONS]))
    write_catalog(lake)


def keep_publishing(uri: str, stop: Event, sender: Connection) -> None:
    lake = Lake(uri)
    version = 1
    while not stop.is_set():
        version += 1
        publish(lake, version)
        if version % 10 == 0:
            for table in (ACU_DAILY, ACU_WEEKLY):
                DeltaTable(lake.location(table)).vacuum(dry_run=False)
    sender.send(version)


# The doors


def through_views(lake: Lake) -> Iterator[Totals]:
    while True:
        with lake.connect([ACU_DAILY, ACU_WEEKLY]) as connection:
            yield [tuple(connection.rows(query).to_pylist()[0].values()) for query in _ASKED]


def through_the_query_door(lake: Lake) -> Iterator[Totals]:
    while True:
        yield [tuple(lake.query(query).to_pylist()[0].values()) for query in _ASKED]


def through_devin_duckdb(lake: Lake) -> Iterator[Totals]:
    while True:
        with duckdb.connect(f"{lake.uri}/devin.duckdb", read_only=True) as opened:
            yield [opened.execute(query).fetchall()[0] for query in _ASKED]


def through_devin_duckdb_left_open(lake: Lake) -> Iterator[Totals]:
    while True:
        with duckdb.connect(f"{lake.uri}/devin.duckdb", read_only=True) as opened:
            for _ in range(20):
                yield [opened.execute(query).fetchall()[0] for query in _ASKED]


def through_delta(lake: Lake) -> Iterator[Totals]:
    while True:
        tables = (DeltaTable(lake.location(table)).to_pyarrow_table() for table in (ACU_DAILY, ACU_WEEKLY))
        yield [(pc.min(table["acus"]).as_py(), pc.max(table["acus"]).as_py(), table.num_rows) for table in tables]


DOORS: list[Callable[[Lake], Iterator[Totals]]] = [
    through_views,
    through_the_query_door,
    through_devin_duckdb,
    through_devin_duckdb_left_open,
    through_delta,
]


def read(door: Callable[[Lake], Iterator[Totals]], uri: str, reads: int, sender: Connection) -> None:
    """Send every result, or the error that ended it. So many, and on until a second version of each table was seen."""
    results: list[Totals] = []
    until = time.monotonic() + _SECONDS_AT_MOST
    try:
        for result in door(Lake(uri)):
            results.append(result)
            is_seen_moving = all(before != now for before, now in zip(results[0], result, strict=True))
            if (len(results) >= reads and is_seen_moving) or time.monotonic() > until:
                break
        sender.send(results)
    except Exception as error:  # whatever it is, it is what the test looks for
        sender.send(f"{door.__name__}: {error!r}")


def test_every_read_during_constant_publishing_sees_one_version_and_no_error(
    tmp_path: Path, dose: Dose, figure: Figure
) -> None:
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["devin_pipeline_tests.runs"])
    lake = Lake(str(tmp_path / "lake"))
    publish(lake, 1)
    reads_of_a_door = -(-dose(1000) // len(DOORS))
    stop = forks.Event()
    versions, pipe = forks.Pipe(duplex=False)
    writer = forks.Process(target=keep_publishing, args=(lake.uri, stop, pipe))
    writer.start()
    results: dict[str, list[Totals]] = {}
    try:
        readers = []
        for door in DOORS:
            receiver, sender = forks.Pipe(duplex=False)
            process = forks.Process(target=read, args=(door, lake.uri, reads_of_a_door, sender))
            process.start()
            readers.append((door.__name__, receiver, process))
        for name, receiver, process in readers:
            assert receiver.poll(_SECONDS_AT_MOST + 60)
            result = receiver.recv()
            assert not isinstance(result, str), result
            results[name] = result
            process.join()
    finally:
        stop.set()
        assert versions.poll(_SECONDS_AT_MOST)
        published = versions.recv()
        writer.join()

    seen = set()
    for name, result in results.items():
        assert len(result) >= reads_of_a_door
        for table, rows in enumerate(_WHOLE):
            of_table = [totals[table] for totals in result]
            assert [totals for totals in of_table if totals != (totals[0], totals[0], rows)] == [], f"{name}: mixed"
            in_order = [least for least, _, _ in of_table]
            assert in_order == sorted(in_order), f"{name}: back to an older version"
            assert len(set(in_order)) > 1, f"{name}: nothing was published meanwhile"
            seen.update(in_order)
    figure(
        f"{sum(map(len, results.values()))} reads through {len(results)} doors while {published} versions were "
        f"published: 0 errors, 0 mixed, {len(seen)} versions seen"
    )
