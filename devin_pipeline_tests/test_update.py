"""A lake that an earlier version of the code wrote is read, refreshed, verified and rebuilt as if this one had."""

import json
import os
import tarfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import devin_pipeline.derived.queries as derived
from devin_pipeline.cli import main
from devin_pipeline.derived.queries import EqualCode, code_of
from devin_pipeline.devin_api import FEED_BY_TABLE
from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline.lake import Lake
from devin_pipeline.operations.verify import verify
from devin_pipeline.tables import ALL_TABLES, TABLES

# Three days, read twice from the emulator: sessions that grew and one that was deleted in between, odd items.
LAKE = Path(__file__).parent / "lakes" / "before_plain_words.tar.gz"
FIRST, LAST = date(2026, 1, 5), date(2026, 1, 7)
EQUAL_CODE = json.loads((Path(derived.__file__).parent / "equal_code.json").read_text())
with tarfile.open(LAKE) as archive:
    STORED_THEN = [table for table in ALL_TABLES if f"lake/{table.name}" in archive.getnames()]


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """The lake, next to an API that returns just what it was read from."""
    with tarfile.open(LAKE) as archive:
        archive.extractall(tmp_path, filter="data")
    lake = Lake(str(tmp_path / "lake"))
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DEVIN_")]:
        monkeypatch.delenv(name)
    with EmulatorServer(as_stored(lake)) as server:
        for name, value in {
            "DEVIN_API_URL": server.url,
            "DEVIN_V2_API_KEY": server.v2_key,
            "DEVIN_V3_API_KEY": server.v3_key,
            "DEVIN_LAKE": lake.uri,
            "DEVIN_START_DATE": "2026-01-01",
            "DAGSTER_HOME": str(tmp_path / "home"),
        }.items():
            monkeypatch.setenv(name, value)
        yield lake


def as_stored(lake: Lake) -> Enterprise:
    """An enterprise of the items that the lake holds as listed now."""
    enterprise = Enterprise.synthetic(seed=1, sessions=0, days=3, ends_at=datetime(2026, 1, 8, 7, tzinfo=UTC))
    for name, feed in FEED_BY_TABLE.items():
        latest: dict[str, dict[str, Any]] = {}
        for row in lake.snapshot(TABLES[name]).rows().to_pylist():
            if row["fetched_at"] >= latest.get(row["session_id"], row)["fetched_at"]:
                latest[row["session_id"]] = row
        for row in latest.values():
            if row["is_listed"]:
                enterprise.insert_verbatim(feed.name, row["created_at"], row["payload"])
    for row in lake.snapshot(TABLES["raw_quarantine"]).rows().to_pylist():
        enterprise.insert_verbatim(
            FEED_BY_TABLE[row["feed"]].name, datetime(2026, 1, 6, 12, tzinfo=UTC), row["payload"]
        )
    return enterprise


def contents(lake: Lake) -> dict[str, tuple[int | None, list[dict[str, Any]]]]:
    snapshots = [lake.snapshot(table) for table in STORED_THEN]
    return {each.table.name: (each.version, each.rows().to_pylist()) for each in snapshots}


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_its_rows_stay_byte_for_byte_and_nothing_is_written_while_the_api_returns_the_same(lake: Lake) -> None:
    before = contents(lake)
    assert all(rows for _, rows in before.values())
    assert verify(lake, 8, tables=STORED_THEN).is_clean
    refreshed = run("backfill", "--from", str(FIRST), "--to", str(LAST))
    assert refreshed.exit_code == 0, refreshed.output
    assert contents(lake) == before
    # What is built again from raw is what was stored: it is compared, found equal and not written.
    rebuilt = run("rebuild")
    assert rebuilt.exit_code == 0, rebuilt.output
    assert contents(lake) == before
    verified = json.loads(run("verify", "--json").stdout)
    assert verified["findings"] == []


@pytest.mark.parametrize("name", EQUAL_CODE)
def test_the_code_of_each_derived_table_is_one_that_was_shown_to_build_the_same_rows(name: str) -> None:
    """Where this fails and the test above passes, `python -m devin_pipeline_tests.lakes` writes the new digest.

    Where rows are meant to change, it is the old fingerprints that go, and the changelog asks for a `rebuild`.
    """
    assert EqualCode(**EQUAL_CODE[name]).code == code_of(TABLES[name])
