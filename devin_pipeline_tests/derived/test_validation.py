"""Validation before the commit: rows that contradict their inputs are not written."""

import pyarrow as pa
import pytest

from devin_pipeline.derived.queries import assert_publishable
from devin_pipeline.errors import ValidationFailed
from devin_pipeline.lake import Connection
from devin_pipeline.tables import RAW_SESSION_TABLES, ROLLUP_TABLES, SESSIONS, Table
from devin_pipeline_tests.tables.rows import acus, rows_of

ACUS = {"acu_daily": "acus", "acu_daily_by_tag": "acus_split", "acu_daily_by_repository": "acus_split"}


def validate(table: Table, rows: pa.Table, **inputs: pa.Table) -> None:
    with Connection() as connection:
        for name, given in inputs.items():
            connection.register(name, given)
        assert_publishable(connection, table, rows, 8)


@pytest.mark.notices("validation: a rollup that does not add up")
@pytest.mark.parametrize("table", ROLLUP_TABLES, ids=lambda table: table.name)
def test_a_rollup_that_does_not_add_up_to_its_sessions_is_not_written(table: Table) -> None:
    sessions = rows_of(SESSIONS, [{"session_id": "a", "org_id": "o", "acus": acus("1")}])
    validate(table, rows_of(table, [{"org_id": "o", ACUS[table.name]: acus("1")}]), sessions=sessions)
    for wrong in ("0.999999", "1.000001"):
        with pytest.raises(ValidationFailed, match="acus_add_up"):
            validate(table, rows_of(table, [{"org_id": "o", ACUS[table.name]: acus(wrong)}]), sessions=sessions)


def test_sessions_that_lack_one_or_have_one_twice_or_on_another_day_are_not_written() -> None:
    raw = {table.name: rows_of(table, [{"session_id": "a"}]) for table in RAW_SESSION_TABLES}
    right = rows_of(SESSIONS, [{"session_id": "a"}])
    validate(SESSIONS, right, **raw)
    for rows, check in (
        (right.slice(0, 0), "every_raw_session_is_derived"),
        (pa.concat_tables([right, right]), "session_ids_are_unique"),
    ):
        with pytest.raises(ValidationFailed, match=check):
            validate(SESSIONS, rows, **raw)
