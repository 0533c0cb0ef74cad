"""Within a feed a session belongs to exactly one day, whatever the API makes of its creation time."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from devin_pipeline.lake import Lake, Rewrite
from devin_pipeline.raw.row_hash import with_row_hash
from devin_pipeline.raw.row_integrity import damaged_days
from devin_pipeline.raw.sessions.moved_sessions import HeldSessions, days_held, settle
from devin_pipeline.raw.versions import rewrite_with
from devin_pipeline.tables import RAW
from devin_pipeline_tests.raw.sessions.test_landing import SECOND, Feed, item
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, after

V3 = RAW["raw_sessions_v3"]
A_DAY = 24 * 60 * 60
DAY_AFTER = NEXT_DAY + timedelta(days=1)


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed(Lake(str(tmp_path)))


def on_next_day(session_id: str = "a", **fields: object) -> str:
    return item(session_id, created_at=SECOND + A_DAY, **fields)


def history(feed: Feed, session_id: str = "a") -> list[tuple[date, str]]:
    """Each row of a session in the order fetched, by its day: `listed`, `gone`, or where it moved."""
    rows = sorted(feed.rows(), key=lambda row: (row["fetched_at"], row["is_listed"]))
    return [
        (row["day"], "listed" if row["is_listed"] else f"to {row['moved_to']}" if row["moved_to"] else "gone")
        for row in rows
        if row["session_id"] == session_id
    ]


def test_a_session_that_a_read_of_both_days_finds_on_the_other_one_moves(feed: Feed) -> None:
    feed.read(item("a"), item("b"), days=(DAY, NEXT_DAY))
    landed = feed.read(on_next_day("a"), item("b"), hours=1, days=(DAY, NEXT_DAY))
    assert history(feed) == [(DAY, "listed"), (DAY, f"to {NEXT_DAY}"), (NEXT_DAY, "listed")]
    assert landed.figures(DAY)["unlisted"] == 0
    assert feed.lake.links() == {DAY: {NEXT_DAY}, NEXT_DAY: {DAY}}
    version = feed.lake.snapshot(V3).version
    feed.read(on_next_day("a"), item("b"), hours=2, days=(DAY, NEXT_DAY))
    assert feed.lake.snapshot(V3).version == version


@pytest.mark.notices("the day a session left")
@pytest.mark.parametrize("was_missed", [False, True])
def test_a_read_of_the_new_day_alone_ends_the_old_one(feed: Feed, was_missed: bool) -> None:
    feed.read(item("a"), item("b"))
    if was_missed:
        feed.read(item("b"), hours=1)
    feed.read(on_next_day("a"), hours=2, days=(NEXT_DAY,))
    missed = [(DAY, "gone")] if was_missed else []
    assert history(feed) == [(DAY, "listed"), *missed, (DAY, f"to {NEXT_DAY}"), (NEXT_DAY, "listed")]
    assert history(feed, "b") == [(DAY, "listed")]
    assert damaged_days(feed.lake.snapshot(V3), [DAY, NEXT_DAY], 8) == {}


def test_a_read_of_the_old_day_alone_leaves_the_session_there_until_it_is_found(feed: Feed) -> None:
    feed.read(item("a"))
    feed.read(hours=1)
    assert history(feed) == [(DAY, "listed"), (DAY, "gone")]


def test_a_session_may_move_back_and_on(feed: Feed) -> None:
    both = (DAY, NEXT_DAY)
    feed.read(item("a"), days=both)
    feed.read(on_next_day("a"), hours=1, days=both)
    feed.read(item("a"), hours=2, days=(DAY,))
    feed.read(item("a", created_at=SECOND + 2 * A_DAY), hours=3, days=(DAY_AFTER,))
    assert history(feed) == [
        (DAY, "listed"),
        (DAY, f"to {NEXT_DAY}"),
        (NEXT_DAY, "listed"),
        (NEXT_DAY, f"to {DAY}"),
        (DAY, "listed"),
        (DAY, f"to {DAY_AFTER}"),
        (DAY_AFTER, "listed"),
    ]
    # What follows from the last day follows from all days that have versions of it.
    assert feed.lake.links()[DAY_AFTER] == {DAY, NEXT_DAY}


def test_a_session_that_vanishes_where_it_moved_to_stays_there(feed: Feed) -> None:
    both = (DAY, NEXT_DAY)
    feed.read(item("a"), days=both)
    feed.read(on_next_day("a"), hours=1, days=both)
    feed.read(hours=2, days=both)
    assert history(feed)[-1] == (NEXT_DAY, "gone")
    assert days_held(feed.lake.snapshot(V3), ["a", "x"]) == {"a": {NEXT_DAY}}


def test_a_session_moves_within_the_parts_of_one_read(feed: Feed) -> None:
    feed.held = HeldSessions()
    feed.read(item("a"), item("b"))
    feed.read(on_next_day("c"), days=(NEXT_DAY,))
    feed.read(item("b", created_at=SECOND + 2 * A_DAY), days=(DAY_AFTER,))
    assert sorted(history(feed, "b")) == [(DAY, "listed"), (DAY, f"to {DAY_AFTER}"), (DAY_AFTER, "listed")]
    assert history(feed, "c") == [(NEXT_DAY, "listed")]


@pytest.mark.notices("what another run stored between two parts of a read")
@pytest.mark.parametrize("days_before", [1, 2])
def test_a_session_moves_that_another_run_landed_between_two_parts_of_a_read(feed: Feed, days_before: int) -> None:
    another_run = Feed(feed.lake)
    feed.held = HeldSessions()
    for number in range(days_before):
        day = NEXT_DAY + timedelta(days=1 + number)
        feed.read(item(f"of {day}", created_at=SECOND + (2 + number) * A_DAY), days=(day,))
        another_run.read(item("a"), item(f"{number}"), hours=number)
    feed.read(on_next_day("a"), hours=3, days=(NEXT_DAY,))
    assert history(feed) == [(DAY, "listed"), (DAY, f"to {NEXT_DAY}"), (NEXT_DAY, "listed")]


@pytest.mark.notices("what another run stored before a part of a stored day")
def test_a_session_moves_that_another_run_landed_before_a_part_of_a_stored_day(feed: Feed) -> None:
    feed.held = HeldSessions()
    later = [item(name, created_at=SECOND + 2 * A_DAY) for name in ("b", "c")]
    feed.read(later[0], days=(DAY_AFTER,))
    Feed(feed.lake).read(item("a"))
    feed.read(*later, hours=1, days=(DAY_AFTER,))
    feed.read(on_next_day("a"), hours=2, days=(NEXT_DAY,))
    assert history(feed) == [(DAY, "listed"), (DAY, f"to {NEXT_DAY}"), (NEXT_DAY, "listed")]


@pytest.mark.notices("a newer read of the day a session seems to have left")
def test_a_later_read_of_the_old_day_wins_over_an_earlier_one_of_the_new_day(feed: Feed) -> None:
    feed.read(item("a"), hours=3)
    feed.read(on_next_day("a"), on_next_day("b"), hours=2, days=(NEXT_DAY,))
    assert history(feed) == [(DAY, "listed")]
    assert history(feed, "b") == [(NEXT_DAY, "listed")]


def test_a_move_in_the_middle_of_a_read_is_one(feed: Feed) -> None:
    feed.read(item("a"), hours=1)
    # Another part of the same read, which began in the same moment.
    landed = feed.read(on_next_day("a"), hours=1, days=(NEXT_DAY,))
    assert days_held(feed.lake.snapshot(V3), ["a"]) == {"a": {NEXT_DAY}}
    assert (landed.moved, landed.figures(NEXT_DAY)["new_versions"]) == ({DAY: 1}, 1)


def test_a_damaged_day_does_not_hold_back_the_day_a_session_moved_to(feed: Feed) -> None:
    feed.read(item("a"), item("b"))
    [file] = feed.lake.snapshot(V3).files([DAY])
    intact = Path(file).read_bytes()
    Path(file).write_bytes(intact[: len(intact) // 2])
    feed.read(on_next_day("a"), hours=1, days=(NEXT_DAY,))
    assert days_held(feed.lake.snapshot(V3), ["a"]) == {"a": {NEXT_DAY}}
    # The repaired day is read again, and finds where its session is.
    Path(file).write_bytes(intact)
    feed.read(item("b"), hours=2)
    assert history(feed) == [(DAY, "listed"), (NEXT_DAY, "listed"), (DAY, f"to {NEXT_DAY}")]


@pytest.mark.notices("a damaged day that a session left")
def test_a_day_whose_payloads_alone_are_damaged_is_not_written_over_for_a_session_that_left_it(feed: Feed) -> None:
    feed.read(item("a"), item("b"))
    [file] = feed.lake.snapshot(V3).files([DAY])
    intact = Path(file).read_bytes()
    # What a move is recognised by can still be read.
    group = pq.read_metadata(file).row_group(0)
    payload = next(
        column for column in map(group.column, range(group.num_columns)) if column.path_in_schema == "payload"
    )
    start = payload.data_page_offset
    Path(file).write_bytes(
        intact[:start] + bytes(byte ^ 255 for byte in intact[start : start + 8]) + intact[start + 8 :]
    )
    feed.read(on_next_day("a"), hours=1, days=(NEXT_DAY,))
    assert feed.lake.snapshot(V3).files([DAY]) == [file]
    assert days_held(feed.lake.snapshot(V3), ["a"]) == {"a": {DAY, NEXT_DAY}}
    Path(file).write_bytes(intact)
    feed.read(item("b"), hours=2)
    assert history(feed) == [(DAY, "listed"), (NEXT_DAY, "listed"), (DAY, f"to {NEXT_DAY}")]


def test_two_runs_that_land_a_session_on_two_days_at_once_leave_it_on_one(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed.read(item("z"), days=(DAY, NEXT_DAY))
    rewrite = Lake.rewrite
    others = [lambda: feed.read(on_next_day("a"), hours=2, days=(NEXT_DAY,))]

    def rewrite_second(lake: Lake, table: object, plan: object) -> object:
        def planned_first(snapshot: object) -> Rewrite | None:
            planned: Rewrite | None = plan(snapshot)  # type: ignore[operator]
            # Between the plan and its commit the other run commits.
            if others:
                others.pop()()
            return planned

        return rewrite(lake, table, planned_first)  # type: ignore[arg-type]

    monkeypatch.setattr(Lake, "rewrite", rewrite_second)
    feed.read(item("a"), item("z"), hours=1)
    assert days_held(feed.lake.snapshot(V3), ["a"]) == {"a": {NEXT_DAY}}


@pytest.mark.notices("a session that two runs land on two days at once")
def test_two_runs_that_are_the_first_to_write_a_table_leave_a_session_on_one_day(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [lambda: feed.read(on_next_day("a"), hours=1, days=(NEXT_DAY,))]

    def written_second(*words: Any, **options: Any) -> None:
        # Between the creation of the table and its first rows the other run commits.
        if others:
            others.pop()()
        write_deltalake(*words, **options)

    monkeypatch.setattr("devin_pipeline.lake.lake.write_deltalake", written_second)
    feed.read(item("a"))
    assert days_held(feed.lake.snapshot(V3), ["a"]) == {"a": {NEXT_DAY}}


def test_settling_leaves_a_session_on_the_day_with_its_latest_version(feed: Feed) -> None:
    both = (DAY, NEXT_DAY)
    feed.read(item("a"), item("b"), days=both)
    # As versions of the pipeline before `moved_to` landed it: on both days.
    feed.read(on_next_day("x"), hours=1, days=(NEXT_DAY,))
    rows = feed.lake.snapshot(V3).rows([NEXT_DAY])
    twice = rows.set_column(1, "session_id", [["a"]])
    feed.lake.rewrite(V3, lambda snapshot: rewrite_with(snapshot, V3, with_row_hash(V3, twice)))
    assert days_held(feed.lake.snapshot(V3), ["a"]) == {"a": {DAY, NEXT_DAY}}
    assert settle(feed.lake, V3, 8) == {DAY}
    assert days_held(feed.lake.snapshot(V3), ["a", "b"]) == {"a": {NEXT_DAY}, "b": {DAY}}
    assert feed.lake.links() == {DAY: {NEXT_DAY}, NEXT_DAY: {DAY}}
    assert settle(feed.lake, V3, 8) == set()
    assert feed.rows()[-1]["fetched_at"] < after(10_000)


def test_a_session_that_no_day_holds_any_more_counts_again_where_its_versions_are(feed: Feed) -> None:
    feed.read(item("a"), item("b"), days=(DAY, NEXT_DAY))
    feed.read(on_next_day("a"), item("b"), hours=1, days=(DAY, NEXT_DAY))
    feed.lake.rewrite(V3, lambda _: Rewrite([NEXT_DAY], V3.schema.empty_table()))
    assert days_held(feed.lake.snapshot(V3), ["a"]) == {}
    assert settle(feed.lake, V3, 8) == {DAY}
    assert history(feed) == [(DAY, "listed"), (DAY, f"to {NEXT_DAY}"), (DAY, "gone")]
    assert settle(feed.lake, V3, 8) == set()


def test_a_moved_to_that_no_landing_writes_is_found(feed: Feed) -> None:
    feed.read(item("a"), days=(DAY, NEXT_DAY))
    feed.read(on_next_day("a"), hours=1, days=(DAY, NEXT_DAY))
    rows = feed.lake.snapshot(V3).rows([DAY])
    place = rows.column_names.index("moved_to")
    for moved_to in ([NEXT_DAY, NEXT_DAY], [None, DAY]):
        wrong = with_row_hash(V3, rows.set_column(place, rows.schema.field(place), [moved_to]))
        feed.lake.replace_days(V3, [DAY], wrong)
        assert damaged_days(feed.lake.snapshot(V3), [DAY], 8).keys() == {DAY}
