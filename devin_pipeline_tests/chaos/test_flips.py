"""Single bits flipped at random in data files: whatever changes a value or breaks a file is named and rebuilt.

What a flip did is judged by Arrow's plain reading before and after, the footer's statistics included.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from devin_pipeline.operations.repair import repair
from devin_pipeline.operations.verify import verify
from devin_pipeline.tables import ALL_TABLES
from devin_pipeline_tests.conftest import Dose, Figure
from devin_pipeline_tests.harness import PipelineHarness, rebuild

MakeHarness = Callable[..., PipelineHarness]


@pytest.fixture
def harness(make_harness: MakeHarness) -> PipelineHarness:
    harness = make_harness("both", sessions=60, days=3, reads_bill=True)
    harness.build()
    # Newer versions, a tombstone, and older files of the same days.
    harness.enterprise.grow_acus(30)
    harness.enterprise.add_analyses(10)
    harness.enterprise.delete_session(harness.enterprise.sessions[0].session_id)
    harness.build()
    return harness


def content_of(file: Path) -> object:
    """All that Arrow reads in a file; the error's name when it cannot."""
    try:
        parquet = pq.ParquetFile(file)
        rows = parquet.read()
        values = [(field.name, str(field.type)) for field in rows.schema], rows.to_pylist()
        return values, [statistics(parquet, n) for n in range(parquet.metadata.num_columns)]
    except Exception as error:
        return type(error).__name__


def statistics(parquet: pq.ParquetFile, number: int) -> object:
    column = parquet.metadata.row_group(0).column(number)
    if column.physical_type != parquet.metadata.schema.column(number).physical_type:
        # Asked for its statistics, Arrow would end the process.
        return "types disagree"
    found = column.statistics
    if found is None:
        return None
    return (
        found.has_min_max and (found.min, found.max),
        found.null_count if found.has_null_count else None,
    )


def is_less(before: object, after: object) -> bool:
    """True when `after` has the same rows and only has fewer statistics, none of them false."""
    if not (isinstance(before, tuple) and isinstance(after, tuple)) or before[0] != after[0]:
        return False
    pairs = zip(before[1], after[1], strict=True)
    return all(
        new is None or (isinstance(new, tuple) and all(n in (o, None, False) for o, n in zip(old, new, strict=True)))
        for old, new in pairs
    )


def test_every_flipped_bit_that_changes_a_value_or_breaks_a_file_is_named_and_rebuilt(
    harness: PipelineHarness, dose: Dose, figure: Figure, tmp_path: Path
) -> None:
    chance = random.Random(7)
    whole = tmp_path / "whole"
    shutil.copytree(harness.lake.uri, whole)
    files = [(table, file) for table in ALL_TABLES for file in harness.lake.snapshot(table).stored_files()]
    count: Counter[tuple[bool, bool]] = Counter()
    missed: list[tuple[str, int, int]] = []
    wanted = dose(200)
    while count[True, True] + len(missed) < wanted and count.total() < 10 * wanted:
        table, file = chance.choice(files)
        path = Path(file.path)
        content = bytearray(path.read_bytes())
        before, rows = content_of(path), harness.rows(table.name)
        place, bit = chance.randrange(len(content)), chance.randrange(8)
        content[place] ^= 1 << bit
        path.write_bytes(content)
        after = content_of(path)
        harms = after != before and not is_less(before, after)
        verdict = verify(harness.lake, 8, first=file.day, last=file.day, tables=[table])
        named = any((finding.table, finding.day) == (table, file.day) for finding in verdict.findings)
        count[harms, named] += 1
        if harms and not named:
            missed.append((file.path, place, bit))
        days = [file.day] if file.day else []
        if table.layer == "raw":
            repair(harness.lake, days, 8, keeps_text=True)
        else:
            rebuild(harness.lake, table, days)
        assert verify(harness.lake, 8, first=file.day, last=file.day, tables=[table]).is_clean
        if table.layer != "raw":
            assert harness.rows(table.name) == rows
        shutil.rmtree(harness.lake.uri)
        shutil.copytree(whole, harness.lake.uri)
    assert missed == []
    assert count[True, True] == wanted
    figure(
        f"{count.total()} single-bit flips in data files: {wanted} changed a value or broke the file, each of them "
        f"named by verify and rebuilt; {count.total() - wanted} changed nothing that is read, {count[False, True]} of "
        "them named all the same"
    )
