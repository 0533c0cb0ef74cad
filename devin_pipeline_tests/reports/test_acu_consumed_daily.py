"""Who consumed ACUs on which day: rows in, rows out."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings

import devin_pipeline
from devin_pipeline.lake import Connection
from devin_pipeline.tables import TABLES
from devin_pipeline.tables.derived import SESSION_ACUS_BY_DAY
from devin_pipeline.tables.reports import ACU_CONSUMED_DAILY
from devin_pipeline_tests.derived import spend
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, Row, acus, rows_of

QUERY = (Path(devin_pipeline.__file__).parent / "reports" / "reconciliation" / "acu_consumed_daily.sql").read_text()


def acu_consumed_daily(acus_by_day: Sequence[Row], sessions: Sequence[Row]) -> list[Row]:
    with Connection() as connection:
        connection.register("session_acus_by_day", rows_of(SESSION_ACUS_BY_DAY, acus_by_day))
        connection.register("sessions", rows_of(TABLES["sessions"], sessions))
        rows: list[Row] = connection.rows(QUERY).cast(ACU_CONSUMED_DAILY.schema).to_pylist()
    return rows


def consumed(session_id: str, used: str, method: str = "version_delta", **values: object) -> Row:
    return {
        "session_id": session_id,
        "consumed_day": DAY,
        "attribution_method": method,
        "acus": acus(used),
    } | values


def figures(*rows: Row) -> list[tuple[object, object, object]]:
    """Of sessions of one group."""
    ids = sorted({row["session_id"] for row in rows})
    found = acu_consumed_daily(rows, [{"session_id": session_id} for session_id in ids])
    return [(row["day"], row["acus"], row["sessions_active"]) for row in found]


def test_acus_count_on_the_day_they_were_consumed_whenever_the_session_was_created() -> None:
    rows = consumed("a", "1"), consumed("a", "2", consumed_day=NEXT_DAY), consumed("b", "4", consumed_day=NEXT_DAY)
    assert figures(*rows) == [(DAY, acus("1"), 1), (NEXT_DAY, acus("6"), 2)]


def test_each_dimension_keeps_groups_apart_its_null_included() -> None:
    names = ("org_id", "user_id", "service_user_id", "origin", "category", "playbook_id")
    sessions: list[Row] = [{"session_id": "none"}, *({"session_id": name, name: "x"} for name in names)]
    rows = acu_consumed_daily([consumed(session["session_id"], "1") for session in sessions], sessions)
    assert [tuple(row[name] for name in names) for row in rows] == [
        tuple("x" if name == only else None for name in names) for only in (*names, None)
    ]
    assert {(row["acus"], row["sessions_active"]) for row in rows} == {(acus("1"), 1)}


def test_a_session_is_active_once_however_many_methods_say_so() -> None:
    assert figures(consumed("a", "1"), consumed("a", "2", "remainder")) == [(DAY, acus("3"), 1)]


@pytest.mark.notices("a session of no ACUs counted as active")
def test_a_session_that_consumed_nothing_is_not_active_and_its_group_has_a_row() -> None:
    assert figures(consumed("a", "0", "single_day")) == [(DAY, acus("0"), 0)]
    assert figures(consumed("a", "0", "single_day"), consumed("b", "1")) == [(DAY, acus("1"), 1)]


def test_a_group_that_nets_to_something_negative_or_nothing_has_a_row() -> None:
    assert figures(consumed("a", "1"), consumed("b", "-3")) == [(DAY, acus("-2"), 1)]
    assert figures(consumed("a", "3"), consumed("a", "-3", "remainder")) == [(DAY, acus("0"), 0)]
    assert figures(consumed("a", "3"), consumed("b", "-3")) == [(DAY, acus("0"), 1)]


@settings(max_examples=40, deadline=None)
@given(spend.worlds(spend.some_money, 30))
def test_any_consumption_is_as_computed_in_plain_python_and_adds_up(world: spend.MoneyWorld) -> None:
    rows = acu_consumed_daily(world.acus_by_day, world.sessions)
    assert rows == spend.acu_consumed_daily(world.acus_by_day, world.sessions)
    assert sum(row["acus"] for row in rows) == sum(row["acus"] for row in world.acus_by_day)
