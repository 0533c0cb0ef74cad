"""What an answer of the bill, or a list, left out: whether that may be believed.

A roster that was cut short looks like people who left, and a bill that was cut short like days that cost nothing.
"""

from collections.abc import Sequence

import pyarrow as pa

from devin_pipeline.lake import Connection, Lake
from devin_pipeline.tables import Partition, RawTable

# Of so many that were listed before, more than half left out are not believed.
LEAST_LISTED = 10

_SHRUNK = """
    with
    listed as (
        select {key}
        from known
        qualify row_number() over (partition by {key} order by fetched_at desc) = 1 and is_listed
    )

    select {by}, count(*) as listed_before, count(items.is_listed_now) as listed_now
    from listed
    inner join answered using ({by})
    left join items using ({key})
    group by {by}
    having count(*) >= {least} and 2 * count(items.is_listed_now) < count(*)
    order by {by}
"""


def shrunk(
    lake: Lake,
    table: RawTable,
    items: pa.Table,
    answered: pa.Table,
    by: Sequence[str],
    partitions: Sequence[Partition] | None,
) -> pa.Table:
    """Answers that leave out more than half of what was listed before: `by`, `listed_before` and `listed_now`.

    Args:
        lake: The lake.
        table: A raw table of versions.
        items: What was returned, with the columns of the table's key but `fetched_at`.
        answered: What was answered, as values of the columns `by`.
        by: The columns of the key that identify one answer.
        partitions: What the answers are about; None for all.
    """
    key = ", ".join(table.object_key)
    with Connection() as connection:
        columns = f"{key}, fetched_at, is_listed"
        connection.create_table("known", f"select {columns} from ({lake.cached_snapshot(table).query(partitions)})")  # noqa: S608 - our own names
        now = items.select(list(table.object_key)).append_column("is_listed_now", pa.array([True] * items.num_rows))
        connection.register("items", now)
        connection.register("answered", answered)
        return connection.rows(_SHRUNK.format(key=key, by=", ".join(by), least=LEAST_LISTED))
