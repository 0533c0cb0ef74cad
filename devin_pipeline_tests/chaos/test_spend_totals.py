"""Every spend total is exact, and the same in whatever order and with however many threads it is summed."""

import random
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from devin_pipeline.derived import queries as derived
from devin_pipeline.lake import Connection
from devin_pipeline.reports import queries as reports
from devin_pipeline.tables import REPORT_TABLES, ROLLUP_TABLES, TABLES
from devin_pipeline_tests.tables.rows import DAY, NOON, Row, rows_of

pytestmark = pytest.mark.notices("spend summed as floats")

RUNS = 20
MOST_THREADS = 8
DAYS = [DAY + timedelta(days=n) for n in range(10)]
MICRO = Decimal("0.000001")


def enterprise(sessions: int) -> tuple[list[Row], list[Row]]:
    """Sessions with ACUs of every size, none or unknown, and the pull requests they link.

    Those of one organization on one day add up to more digits than a float holds.
    """
    rng = random.Random(7)
    rows: list[Row] = []
    links: list[Row] = []
    for n in range(sessions):
        is_heavy = n % 10 == 0
        used = None if n % 50 == 1 else rng.randrange(10 ** (15 if is_heavy else rng.randrange(1, 15))) * MICRO
        tags = ["heavy"] if is_heavy else [f"t{rng.randrange(40)}" for _ in range(rng.randrange(4))]
        common: Row = {"day": rng.choice(DAYS), "session_id": f"s{n}", "org_id": f"o{rng.randrange(5)}"}
        if is_heavy:
            common |= {"day": DAY, "org_id": "heavy"}
        rows.append(common | {"acus": used, "tags": tags, "user_id": None if is_heavy else f"u{rng.randrange(90)}"})
        for ordinal in range(rng.randrange(3)):
            number = rng.randrange(2_000)
            links.append(
                common
                | {
                    "ordinal": ordinal,
                    "url": f"https://h/o/r{number % 9}/pull/{number}",
                    "repository": f"o/r{number % 9}",
                }
                | {"session_created_at": NOON, "state": "merged", "acus_share": used if ordinal == 0 else None}
            )
    return rows, links


def shuffled(rows: pa.Table, seed: int) -> pa.Table:
    """The rows in another order, in batches small enough that each thread gets some."""
    order = random.Random(seed).sample(range(rows.num_rows), rows.num_rows)
    return pa.Table.from_batches(rows.take(order).to_batches(max_chunksize=250))


REACHED = {"session_pull_requests", *(table.name for table in (*ROLLUP_TABLES, *REPORT_TABLES[:4]))}
OF_COHORTS = [table for table in REPORT_TABLES if set(table.inputs) <= REACHED]
"""The reports of the ACUs of sessions by the day on which these were created."""


def totals(sessions: pa.Table, links: pa.Table, threads: int) -> dict[str, pa.Table]:
    """The rows of every rollup and report, made of these rows by so many threads."""
    made: dict[str, pa.Table] = {}
    with Connection() as connection:
        connection._duckdb.execute(f"set threads = {threads}")
        try:
            for name, rows in {"sessions": sessions, "session_pull_requests": links}.items():
                connection.register(name, rows)
            connection.register("prompt_feedback", TABLES["prompt_feedback"].schema.empty_table())
            for table in (*ROLLUP_TABLES, *OF_COHORTS):
                of_days = table in ROLLUP_TABLES
                made[table.name] = (
                    derived.select(connection, table, DAYS) if of_days else reports.select(connection, table)
                )
                connection.register(table.name, made[table.name])
        finally:
            connection._duckdb.execute("reset threads")
    return made


def test_every_spend_total_is_exact_and_the_same_in_any_order_with_any_number_of_threads(
    figure: Callable[[str], None],
) -> None:
    rows, linked = enterprise(3_000)
    sessions, links = rows_of(TABLES["sessions"], rows), rows_of(TABLES["session_pull_requests"], linked)
    # Counted in whole micro-ACUs, by Python.
    spent = sum(int(row["acus"] / MICRO) for row in rows if row["acus"] is not None) * MICRO
    first: dict[str, pa.Table] = {}
    for run in range(RUNS):
        made = totals(shuffled(sessions, run), shuffled(links, run), run % MOST_THREADS + 1)
        first = first or made
        for name, table in made.items():
            assert table.equals(first[name]), (name, run)
    for name in (*(table.name for table in ROLLUP_TABLES), "acu_weekly", "acu_monthly"):
        assert pc.sum(first[name].column(TABLES[name].acus_column)).as_py() == spent, name
    figure(
        f"{len(first)} tables of spend over {len(rows)} sessions, made {RUNS} times in another order by 1 to "
        f"{MOST_THREADS} threads: equal to the last digit, and {spent} ACUs in each rollup as Python counts them."
    )
