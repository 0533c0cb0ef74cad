"""Reports of many rows: written in key order, found right by `verify`; and a report whose input moves meanwhile."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from devin_pipeline.lake import Lake, rows_by_arrow
from devin_pipeline.operations.verify import Finding, verify
from devin_pipeline.reports import publishing, queries
from devin_pipeline.reports.publishing import publish_report
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.tables.rows import DAY, acus, rows_of

pytestmark = pytest.mark.notices("order: right rows in another order, taken for wrong ones")

ACU_DAILY, ACU_MONTHLY = TABLES["acu_daily"], TABLES["acu_monthly"]
ROWS = 295_114
# DuckDB gives so many rows at once.
BATCH = 122_880
SEVERAL_DAYS = 10


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """One with `acu_daily` of so many users that the month has as many rows."""
    lake = Lake(str(tmp_path_factory.mktemp("many") / "lake"))
    (first,) = rows_of(ACU_DAILY, [{"org_id": "a", "acus": acus("1.5"), "sessions": 1}]).to_pylist()
    schema = ACU_DAILY.schema
    columns = {name: pa.repeat(pa.scalar(value, schema.field(name).type), ROWS) for name, value in first.items()}
    days = [DAY + timedelta(days=number * SEVERAL_DAYS // ROWS) for number in range(ROWS)]
    # The order of users is not that of days.
    users = pa.array([f"{number * 7_919 % ROWS:06}" for number in range(ROWS)])
    rows = pa.table(columns | {"day": pa.array(days, pa.date32()), "user_id": users}, schema)
    lake.replace_days(ACU_DAILY, sorted(set(days)), rows)
    publish_report(lake, ACU_MONTHLY)
    return lake


def found_by_verify(lake: Lake) -> list[Finding]:
    return verify(lake, 8, tables=[ACU_MONTHLY]).findings


def stored_as_written(lake: Lake) -> pa.Table:
    return pa.concat_tables(rows_by_arrow(ACU_MONTHLY, file) for file in lake.snapshot(ACU_MONTHLY).stored_files())


@pytest.mark.notices("an input that moves after the rows of a report were read")
def test_a_report_whose_input_moves_just_after_it_was_read_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(str(tmp_path / "lake"))

    def write(spent: str) -> None:
        rows = rows_of(ACU_DAILY, [{"org_id": "a", "acus": acus(spent), "sessions": 1}])
        lake.replace_days(ACU_DAILY, [DAY], rows)

    def select_and_write(*given: Any) -> pa.Table:
        rows = queries.select(*given)
        # As another run does in this moment.
        write("2")
        return rows

    write("1")
    monkeypatch.setattr(publishing, "select", select_and_write)
    publish_report(lake, ACU_MONTHLY)
    assert lake.snapshot(ACU_MONTHLY).rows().column("acus").to_pylist() == [acus("2")]


def test_a_report_of_many_rows_is_written_in_key_order_and_verified(lake: Lake) -> None:
    stored = stored_as_written(lake)
    assert stored.num_rows == ROWS > 2 * BATCH
    assert stored.equals(lake.snapshot(ACU_MONTHLY).rows())
    assert found_by_verify(lake) == []


@pytest.mark.parametrize("is_right", [True, False], ids=["the same rows", "one row changed"])
def test_a_report_in_another_order_is_wrong_only_if_its_rows_are(lake: Lake, is_right: bool) -> None:
    rows = lake.snapshot(ACU_MONTHLY).rows()
    in_other_order = [rows.slice(0, BATCH), rows.slice(2 * BATCH), rows.slice(BATCH, BATCH)]
    if not is_right:
        (last,) = rows.slice(ROWS - 1).to_pylist()
        changed = pa.Table.from_pylist([last | {"acus": acus("1.500001")}], rows.schema)
        in_other_order[1] = pa.concat_tables([rows.slice(2 * BATCH, ROWS - 2 * BATCH - 1), changed])
    location = Path(lake.location(ACU_MONTHLY))
    write_deltalake(location, pa.concat_tables(in_other_order).combine_chunks(), mode="overwrite")
    assert not stored_as_written(lake).equals(rows)
    expected = [] if is_right else ["its rows are not what the derived tables give"]
    assert [finding.what for finding in found_by_verify(lake)] == expected
    lake.replace_all(ACU_MONTHLY, rows)
    assert stored_as_written(lake).equals(rows)
