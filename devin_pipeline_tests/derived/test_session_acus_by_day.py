"""On which days sessions consumed their ACUs: rows in, rows out."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings

import devin_pipeline
from devin_pipeline.lake import Connection
from devin_pipeline.tables import RAW, RAW_SESSION_TABLES, TABLES
from devin_pipeline.tables.derived import SESSION_ACUS_BY_DAY
from devin_pipeline.tables.raw import RAW_SESSION_CONSUMPTION
from devin_pipeline_tests.derived import spend
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, NOON, Row, acus, after, rows_of

QUERY = (Path(devin_pipeline.__file__).parent / "derived" / "spend" / "session_acus_by_day.sql").read_text()
THIRD_DAY, FOURTH_DAY = DAY + timedelta(days=2), DAY + timedelta(days=3)
INSIGHTS_V2, SESSIONS_V3, INSIGHTS_V3 = (table.name for table in RAW_SESSION_TABLES)


def session_acus_by_day(
    sessions: Sequence[Row],
    versions: Mapping[str, Sequence[Row]],
    answers: Sequence[Row] = (),
    *,
    hour: int = 8,
    days: tuple[date, date] = (DAY, FOURTH_DAY),
    zone: str = "UTC",
) -> list[Row]:
    with Connection() as connection:
        connection._duckdb.execute(f"set TimeZone = '{zone}'")
        connection.register("sessions", rows_of(TABLES["sessions"], sessions))
        for feed in RAW_SESSION_TABLES:
            connection.register(feed.name, rows_of(RAW[feed.name], versions.get(feed.name, ())))
        connection.register("raw_session_consumption", rows_of(RAW_SESSION_CONSUMPTION, answers))
        params = {"first_day": days[0], "last_day": days[1], "hour": hour}
        rows: list[Row] = connection.rows(QUERY, params).cast(SESSION_ACUS_BY_DAY.schema).to_pylist()
    return rows


ON_THIRD_DAY = after(50)


def session(used: str | None = "5", updated_at: datetime | None = ON_THIRD_DAY, **values: object) -> Row:
    return {"session_id": "a", "acus": None if used is None else acus(used), "updated_at": updated_at} | values


def version(hours: float | None, used: str | None, **values: object) -> Row:
    """A version updated so many hours after noon, and fetched then."""
    return {
        "session_id": "a",
        "updated_at": None if hours is None else after(hours),
        "fetched_at": after(hours or 0),
        "acus": None if used is None else acus(used),
    } | values


def answer(*days: tuple[date, str], asked_at: str | None = "5", **values: object) -> Row:
    """What the API answers of a session's days."""
    entries = ", ".join(
        f'{{"date": {int(datetime(day.year, day.month, day.day, 8, tzinfo=UTC).timestamp())}, "acus": {used}}}'
        for day, used in days
    )
    return {
        "session_id": "a",
        "session_acus": None if asked_at is None else acus(asked_at),
        "payload": f'{{"total_acus": 0, "consumption_by_date": [{entries}]}}',
    } | values


def parts(
    of: Row, versions: Sequence[Row] = (), answers: Sequence[Row] = (), *, hour: int = 8
) -> list[tuple[date, str, object]]:
    """The rows of one session; its versions are of one feed."""
    rows = session_acus_by_day([of], {SESSIONS_V3: versions}, answers, hour=hour)
    assert all((row["day"], row["session_id"]) == (DAY, "a") for row in rows)
    assert sum(row["acus"] for row in rows) == of["acus"]
    return [(row["consumed_day"], row["attribution_method"], row["acus"]) for row in rows]


THREE_DAYS = [version(0, "1"), version(24, "3.5"), version(48, "5")]


def test_a_session_of_three_days_consumes_on_each_what_it_grew_by() -> None:
    assert parts(session(), THREE_DAYS) == [
        (DAY, "version_delta", acus("1")),
        (NEXT_DAY, "version_delta", acus("2.5")),
        (THIRD_DAY, "version_delta", acus("1.5")),
    ]


def test_the_apis_own_days_go_before_any_other_method() -> None:
    answered = [answer((DAY, "4"), (THIRD_DAY, "1"))]
    assert parts(session(), THREE_DAYS, answered) == [
        (DAY, "api_daily", acus("4")),
        (THIRD_DAY, "api_daily", acus("1")),
    ]
    assert parts(session(updated_at=after(1)), (), answered)[0] == (DAY, "api_daily", acus("4"))


def test_a_session_created_and_updated_in_one_billing_day_consumed_all_on_it() -> None:
    ends = after(20) - timedelta(microseconds=1)
    assert parts(session(updated_at=ends), [version(0, "1"), version(1, "5")]) == [(DAY, "single_day", acus("5"))]


def test_a_billing_day_ends_at_eight_whatever_the_date_in_utc() -> None:
    # Two dates of UTC and one billing day; then one date of UTC and two billing days.
    assert parts(session(updated_at=after(13)))[0][:2] == (DAY, "single_day")
    assert parts(session(updated_at=after(20)))[0][:2] == (NEXT_DAY, "updated_day")
    versions = [version(19.9, "1"), version(20, "5")]
    assert [day for day, _, _ in parts(session(), versions)] == [DAY, NEXT_DAY]


def test_another_hour_moves_the_days() -> None:
    assert parts(session(updated_at=after(13)), hour=0)[0][:2] == (NEXT_DAY, "updated_day")
    assert parts(session(updated_at=after(13)), hour=13)[0][:2] == (DAY, "single_day")


def test_the_only_amount_known_is_consumed_on_the_day_of_the_update() -> None:
    expected = [(THIRD_DAY, "updated_day", acus("5"))]
    assert parts(session()) == expected
    assert parts(session(), [version(0, "5"), version(30, "5")]) == expected
    assert parts(session(), [version(0, None), version(30, "5")]) == expected


def test_a_session_without_an_update_consumed_all_on_the_day_it_was_created() -> None:
    expected = [(DAY, "created_day", acus("5"))]
    assert parts(session(updated_at=None)) == expected
    assert parts(session(updated_at=None), [version(None, "1"), version(30, "5")]) == expected


def test_equal_neighbours_are_one_version_of_the_day_of_the_first() -> None:
    versions = [version(0, "1"), version(24, "1"), version(48, "5"), version(72, "5")]
    assert parts(session(), versions) == [
        (DAY, "version_delta", acus("1")),
        (THIRD_DAY, "version_delta", acus("4")),
    ]


def test_a_fall_is_a_negative_row() -> None:
    versions = [version(0, "6"), version(24, "4"), version(48, "5")]
    assert parts(session(), versions) == [
        (DAY, "version_delta", acus("6")),
        (NEXT_DAY, "version_delta", acus("-2")),
        (THIRD_DAY, "version_delta", acus("1")),
    ]


def test_growths_of_one_day_are_one_row_and_a_day_of_none_has_no_row() -> None:
    versions = [version(0, "1"), version(1, "2"), version(24, "3"), version(25, "2"), version(48, "5")]
    assert parts(session(), versions) == [
        (DAY, "version_delta", acus("2")),
        (THIRD_DAY, "version_delta", acus("3")),
    ]


def test_a_first_version_of_no_acus_has_no_row() -> None:
    assert parts(session(), [version(0, "0"), version(24, "5")]) == [(NEXT_DAY, "version_delta", acus("5"))]


@pytest.mark.notices("ACUs of a tombstone")
def test_tombstones_are_skipped() -> None:
    versions = [version(0, "1"), version(24, "3", is_listed=False), version(48, "5")]
    assert parts(session(), versions) == [
        (DAY, "version_delta", acus("1")),
        (THIRD_DAY, "version_delta", acus("4")),
    ]


@pytest.mark.notices("versions in the order they were fetched")
def test_versions_count_in_the_order_of_their_updates_then_of_their_reads() -> None:
    late = [version(24, "3.5", fetched_at=after(100)), version(0, "1"), version(48, "5")]
    assert parts(session(), late) == parts(session(), THREE_DAYS)
    same = [version(0, "2", fetched_at=after(60)), version(0, "1", fetched_at=after(50)), version(48, "5")]
    assert parts(session(), same) == [
        (DAY, "version_delta", acus("2")),
        (THIRD_DAY, "version_delta", acus("3")),
    ]


def test_versions_of_all_feeds_and_days_are_one_history() -> None:
    rows = session_acus_by_day(
        [session()],
        {
            INSIGHTS_V2: [version(24, "3.5", day=NEXT_DAY)],
            SESSIONS_V3: [version(0, "1", day=DAY - timedelta(days=40)), version(48, "4")],
            INSIGHTS_V3: [version(48, "5")],
        },
    )
    assert [(row["consumed_day"], row["acus"]) for row in rows] == [
        (DAY, acus("1")),
        (NEXT_DAY, acus("2.5")),
        (THIRD_DAY, acus("1.5")),
    ]


def test_of_versions_of_one_instant_the_richest_feed_is_the_last() -> None:
    rows = session_acus_by_day(
        [session("5")], {INSIGHTS_V3: [version(24, "5")], SESSIONS_V3: [version(24, "4"), version(0, "1")]}
    )
    assert [row["attribution_method"] for row in rows] == ["version_delta", "version_delta"]


@pytest.mark.notices("what a method leaves of a session's ACUs")
def test_what_the_versions_leave_is_a_remainder_on_the_last_day_of_consumption() -> None:
    versions = [version(0, "1"), version(24, "3"), version(48, "2")]
    assert parts(session("7"), versions) == [
        (DAY, "version_delta", acus("1")),
        (NEXT_DAY, "remainder", acus("5")),
        (NEXT_DAY, "version_delta", acus("2")),
        (THIRD_DAY, "version_delta", acus("-1")),
    ]


def test_a_remainder_may_be_negative() -> None:
    assert parts(session("2"), (), [answer((DAY, "1"), (NEXT_DAY, "2.000001"), asked_at="3")]) == [
        (DAY, "api_daily", acus("1")),
        (NEXT_DAY, "api_daily", acus("2.000001")),
        (NEXT_DAY, "remainder", acus("-1.000001")),
    ]


@pytest.mark.notices("ACUs consumed after the answer")
def test_what_was_consumed_since_the_answer_is_a_remainder_on_the_day_of_the_update() -> None:
    answered = answer((DAY, "1"), (NEXT_DAY, "2"), asked_at="3")
    assert parts(session("5"), (), [answered])[-1] == (THIRD_DAY, "remainder", acus("2"))
    assert parts(session("5", updated_at=None), (), [answered])[-1] == (NEXT_DAY, "remainder", acus("2"))


@pytest.mark.parametrize("asked_at", ["5", "6", None])
def test_what_an_answer_of_now_leaves_is_a_remainder_on_its_last_day(asked_at: str | None) -> None:
    assert parts(session(), (), [answer((DAY, "1"), (NEXT_DAY, "2"), asked_at=asked_at)]) == [
        (DAY, "api_daily", acus("1")),
        (NEXT_DAY, "api_daily", acus("2")),
        (NEXT_DAY, "remainder", acus("2")),
    ]


def test_a_remainder_of_no_day_is_on_the_day_of_the_update() -> None:
    answered = answer((DAY, "-1"))
    assert parts(session(), (), [answered])[-1] == (THIRD_DAY, "remainder", acus("6"))
    assert parts(session(updated_at=None), (), [answered])[-1] == (DAY, "remainder", acus("6"))


@pytest.mark.notices("an answer of zeros believed")
@pytest.mark.parametrize(
    "answered",
    [
        answer(),
        answer((DAY, "0"), (NEXT_DAY, "0.0")),
        answer((DAY, "null"), (NEXT_DAY, '"5"'), (THIRD_DAY, "true")),
        answer(payload='{"consumption_by_date": [{"date": "2025-12-01", "acus": 5}, {"acus": 5}, null, 5]}'),
        answer(payload='{"consumption_by_date": null}'),
        answer(payload='{"total_acus": 5}'),
        answer(payload="[]"),
        answer(payload=None),
    ],
)
def test_an_answer_that_says_nothing_of_any_day_counts_as_not_had(answered: Row) -> None:
    assert parts(session(), THREE_DAYS, [answered]) == parts(session(), THREE_DAYS)


def test_days_of_no_acus_in_an_answer_have_no_row() -> None:
    answered = answer((DAY, "0"), (NEXT_DAY, "5"), (THIRD_DAY, "0.0000001"))
    assert parts(session(), (), [answered]) == [(NEXT_DAY, "api_daily", acus("5"))]


def test_an_answers_amounts_are_exact_and_its_days_may_repeat() -> None:
    answered = answer((DAY, "2.5e0"), (DAY, "1e-6"), (NEXT_DAY, "0.12345649999999999999999"))
    assert parts(session(), (), [answered]) == [
        (DAY, "api_daily", acus("2.500001")),
        (NEXT_DAY, "api_daily", acus("0.123456")),
        (NEXT_DAY, "remainder", acus("2.376543")),
    ]


@pytest.mark.notices("an older answer")
def test_the_newest_answer_counts_whichever_day_it_is_stored_on() -> None:
    older = answer((DAY, "5"))
    newer = answer((NEXT_DAY, "5"), day=DAY - timedelta(days=9), fetched_at=after(1))
    gone = answer(day=NEXT_DAY, fetched_at=after(2), is_listed=False)
    assert parts(session(), (), [newer, older]) == [(NEXT_DAY, "api_daily", acus("5"))]
    assert parts(session(), (), [newer, gone, older]) == [(THIRD_DAY, "updated_day", acus("5"))]


@pytest.mark.parametrize(
    ("of", "versions", "answers", "method"),
    [
        (session("0"), [], [answer((NEXT_DAY, "0"))], "api_daily"),
        (session("0"), [], [answer((NEXT_DAY, "3"))], "api_daily"),
        (session("0"), [], [answer()], "updated_day"),
        (session("0", updated_at=NOON), [], [], "single_day"),
        (session("0"), [version(0, "0"), version(24, "3"), version(48, "0")], [], "version_delta"),
        (session("0"), [version(0, "0"), version(24, "0")], [], "updated_day"),
        (session("0", updated_at=None), [], [], "created_day"),
    ],
)
def test_a_session_of_no_acus_has_one_row_on_the_day_it_was_created(
    of: Row, versions: list[Row], answers: list[Row], method: str
) -> None:
    assert parts(of, versions, answers) == [(DAY, method, acus("0"))]


def test_a_session_of_unknown_acus_has_no_row() -> None:
    rows = session_acus_by_day([session(None)], {SESSIONS_V3: THREE_DAYS}, [answer((DAY, "5"))])
    assert rows == []


def test_only_sessions_of_the_days_asked_for_have_rows_and_those_of_others_are_not_mixed_up() -> None:
    sessions = [session(), session(session_id="b", day=NEXT_DAY), session(session_id="c", day=DAY - timedelta(days=1))]
    versions = [*THREE_DAYS, version(0, "2", session_id="b"), version(49, "5", session_id="b")]
    rows = session_acus_by_day(sessions, {SESSIONS_V3: versions}, days=(NEXT_DAY, NEXT_DAY))
    assert [(row["session_id"], row["day"], row["consumed_day"], row["acus"]) for row in rows] == [
        ("b", NEXT_DAY, DAY, acus("2")),
        ("b", NEXT_DAY, THIRD_DAY, acus("3")),
    ]


@pytest.mark.notices("days in the zone of the connection")
def test_the_zone_of_the_connection_does_not_matter() -> None:
    answered = [answer((DAY, "5"), session_id="b")]
    sessions = [session(updated_at=after(20)), session(session_id="b")]
    here = session_acus_by_day(sessions, {SESSIONS_V3: [version(0, "1"), version(15, "5")]}, answered)
    there = session_acus_by_day(
        sessions, {SESSIONS_V3: [version(0, "1"), version(15, "5")]}, answered, zone="Pacific/Kiritimati"
    )
    assert here == there


@settings(max_examples=40, deadline=None)
@given(spend.worlds(spend.some_sessions, 30))
def test_the_days_of_any_sessions_are_as_computed_in_plain_python_and_add_up(world: spend.SessionWorld) -> None:
    rows = session_acus_by_day(world.sessions, world.versions, world.answers)
    assert rows == spend.session_acus_by_day(world.sessions, world.versions, world.answers)
    for a_session in world.sessions:
        of_session = [row["acus"] for row in rows if row["session_id"] == a_session["session_id"]]
        assert (sum(of_session) if of_session else None) == a_session["acus"]
