"""Verification and repair: damaged files, rows and logs of every kind of table, and lakes that are intact."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from deltalake import write_deltalake

from devin_pipeline.billing_calendar import day_of
from devin_pipeline.cli import main
from devin_pipeline.devin_api import content_hash
from devin_pipeline.emulator import Enterprise
from devin_pipeline.lake import Connection, Damaged, Lake, read_verified
from devin_pipeline.lake.connection import Params
from devin_pipeline.operations.repair import repair
from devin_pipeline.operations.verify import VerificationReport, repair_commands, verify
from devin_pipeline.raw.row_hash import with_row_hash
from devin_pipeline.raw.row_integrity import problems_of
from devin_pipeline.tables import (
    DERIVED_TABLES,
    RAW_QUARANTINE,
    RAW_SESSION_TABLES,
    REPORT_TABLES,
    SESSION_TABLES,
    TABLES,
    Table,
)
from devin_pipeline.tables.raw import RAW_SESSIONS_V3
from devin_pipeline_tests.harness import PipelineHarness, Row, open_harness, rebuild, set_environment, the_last_days
from devin_pipeline_tests.tables.rows import DAY, NOON, acus, after, row

RAW = RAW_SESSIONS_V3
SESSIONS, ROLLUP, REPORT = (TABLES[n] for n in ("sessions", "acu_daily", "acu_weekly"))
PULL_REQUESTS = TABLES["pull_requests"]
SECRET = "canaryprompt"

# One worker makes the lake that all copy.
pytestmark = pytest.mark.xdist_group("made")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineHarness]:
    """A lake of three days, read twice, so that raw has new versions, a tombstone and older files; made once."""
    folder = tmp_path_factory.mktemp("made")
    days = the_last_days(3)
    with ExitStack() as opened:
        patch = opened.enter_context(pytest.MonkeyPatch.context())
        enterprise = Enterprise.synthetic(seed=11, sessions=60, days=len(days))
        for session in enterprise.sessions:
            session.title = session.initial_user_message = SECRET
        harness = open_harness(opened, patch, folder, enterprise, days)
        harness.build()
        enterprise.grow_acus(30)
        enterprise.delete_session(enterprise.sessions[0].session_id)
        harness.build()
        yield harness


@pytest.fixture
def harness(made: PipelineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineHarness:
    """A copy of the lake for one test, and the environment pointing at it."""
    shutil.copytree(made.lake.uri, tmp_path / "lake")
    set_environment(monkeypatch, made.server, tmp_path, "both", made.days[0])
    monkeypatch.chdir(tmp_path)
    return replace(made, lake=Lake(str(tmp_path / "lake")))


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def looked_at(harness: PipelineHarness, **more: Any) -> VerificationReport:
    return verify(harness.lake, 8, **more)


def named(verdict: VerificationReport) -> set[tuple[str, date | None]]:
    return {(finding.table.name, finding.day) for finding in verdict.findings}


def file_of(harness: PipelineHarness, table: Table, day: date | None) -> Path:
    (file,) = (file for file in harness.lake.snapshot(table).stored_files() if file.day == day)
    return Path(file.path)


# Damage to files


def delete(file: Path, _: Path) -> None:
    file.unlink()


def truncate(file: Path, _: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def empty(file: Path, _: Path) -> None:
    file.write_bytes(b"")


def take_all_columns(file: Path, _: Path) -> None:
    pq.write_table(pa.table({}), file)


def garble(file: Path, _: Path) -> None:
    """The header of a page, which no reader gets past; a byte of a value might leave the other rows intact.

    Done twice, it is undone.
    """
    column = pq.read_metadata(file).row_group(0).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(file.read_bytes())
    content[start : start + 8] = (byte ^ 255 for byte in content[start : start + 8])
    file.write_bytes(content)


def swap(file: Path, other: Path) -> None:
    shutil.copy(other, file)


def lie_in_the_footer(file: Path, _: Path) -> None:
    """Another least or greatest value, as long as the true one, in the footer only."""
    statistics = pq.read_metadata(file).row_group(0).column(0).statistics
    content = file.read_bytes()
    value = statistics.min_raw if isinstance(statistics.min_raw, bytes) else statistics.min_raw.encode()
    place = content.rindex(value)
    file.write_bytes(content[:place] + bytes([value[0] + 1]) + content[place + 1 :])


Damage = Callable[[Path, Path], None]
DAMAGES = [delete, truncate, empty, take_all_columns, garble, swap, lie_in_the_footer]


def test_damaged_files_of_derived_tables_and_reports_are_rebuilt_by_the_backfill_that_is_printed(
    harness: PipelineHarness,
) -> None:
    before = harness.everything()
    day = harness.days[1]
    stored = {
        table.name for table in TABLES.values() for f in harness.lake.snapshot(table).stored_files() if f.day == day
    }
    tables = [table for table in DERIVED_TABLES if table.name in stored]
    assert len(tables) > 7
    reports = {
        table: harness.lake.snapshot(table).stored_files()[0] for table in REPORT_TABLES if harness.rows(table.name)
    }
    assert len(reports) > 4
    for number, table in enumerate(tables):
        other = SESSIONS if table != SESSIONS else ROLLUP
        DAMAGES[number % len(DAMAGES)](file_of(harness, table, day), file_of(harness, other, harness.days[0]))
    for file in reports.values():
        truncate(Path(file.path), Path())

    result = run("verify", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert {(finding["table"], finding["day"]) for finding in report["findings"]} == {
        (table.name, str(day)) for table in tables
    } | {(table.name, file.day and str(file.day)) for table, file in reports.items()}
    command = f"backfill --from {harness.days[0]} --to {day}"
    assert report["repair_commands"] == [f"devin-pipeline {command}"]
    assert SECRET not in result.output
    repaired = run(*command.split())
    assert repaired.exit_code == 0, repaired.output
    assert looked_at(harness).is_clean
    assert harness.everything() == before


@pytest.mark.notices("damage: a footer that lies", "damage: a file no reader takes, when made again")
@pytest.mark.parametrize("table", [SESSIONS, PULL_REQUESTS], ids=lambda table: table.name)
def test_making_a_table_again_replaces_a_damaged_file(harness: PipelineHarness, table: Table) -> None:
    before = harness.rows(table.name)
    for damages in batches(table):
        days = harness.days if table.by_day else [None]
        damaged = dict(zip(days, damages, strict=False))
        for day, damage in damaged.items():
            damage(file_of(harness, table, day), file_of(harness, TABLES["session_timeline"], harness.days[0]))
        assert named(looked_at(harness, tables=[table])) == {(table.name, day) for day in damaged}, damages
        rebuild(harness.lake, table, harness.days[: len(damages)])
        assert harness.rows(table.name) == before, damages
    assert looked_at(harness, tables=[table]).is_clean


def batches(table: Table) -> Sequence[Sequence[Damage]]:
    """All kinds of damage, in groups that find room in one lake at once: one on each of the two whole days."""
    count = 2 if table.by_day else 1
    return [DAMAGES[start : start + count] for start in range(0, len(DAMAGES), count)]


@pytest.mark.parametrize("table", [RAW, RAW_QUARANTINE], ids=lambda table: table.name)
def test_a_damaged_raw_file_is_named_by_table_and_day(harness: PipelineHarness, table: Table) -> None:
    if table == RAW_QUARANTINE:
        items = [row(RAW_QUARANTINE, {"day": day, "feed": RAW.name, "payload": "{}"}) for day in harness.days]
        items = [item | {"content_hash": HASH_OF_NOTHING} for item in items]
        rows = with_row_hash(RAW_QUARANTINE, pa.Table.from_pylist(items, RAW_QUARANTINE.schema))
        harness.lake.replace_days(RAW_QUARANTINE, harness.days, rows)
    assert looked_at(harness, tables=[table]).is_clean
    files = {day: file_of(harness, table, day) for day in harness.days}
    contents = {file: file.read_bytes() for file in files.values()}
    for damages in batches(table):
        damaged = dict(zip(harness.days, damages, strict=False))
        for day, damage in damaged.items():
            damage(files[day], files[harness.days[2]])
        verdict = looked_at(harness, tables=[table])
        assert named(verdict) == {(table.name, day) for day in damaged}, damages
        assert {finding.path for finding in verdict.findings} == {str(files[day]) for day in damaged}
        for file, content in contents.items():
            file.write_bytes(content)


@pytest.mark.notices("damage: a file of another size")
def test_a_file_with_the_same_rows_that_is_not_the_one_written_is_named(harness: PipelineHarness) -> None:
    file = file_of(harness, RAW, harness.days[0])
    pq.write_table(pq.ParquetFile(file).read(), file)
    (finding,) = looked_at(harness, tables=[RAW]).findings
    assert "bytes, where the log says" in finding.what


@pytest.mark.notices("damage: another number of rows")
def test_a_log_with_another_number_of_rows_is_named(harness: PipelineHarness) -> None:
    rows = harness.lake.snapshot(REPORT).stored_files()[0].rows
    entry = last_entry(harness, REPORT)
    entry.write_text(entry.read_text().replace(f'\\"numRecords\\":{rows}', f'\\"numRecords\\":{rows + 1}'))
    (finding,) = looked_at(harness, tables=[REPORT]).findings
    assert finding.what == f"it has {rows} rows, where the log says {rows + 1}"


@pytest.mark.notices("damage: a renamed column")
def test_a_column_whose_name_changed_is_named_though_every_value_is_there(harness: PipelineHarness) -> None:
    # To a reader it would be a file from before the column.
    file = file_of(harness, RAW, harness.days[0])
    pq.write_table(pq.ParquetFile(file).read().rename_columns({"row_hash": "rov_hash"}), file)
    stored = next(f for f in harness.lake.snapshot(RAW).stored_files() if f.day == harness.days[0])
    with pytest.raises(Damaged, match="its columns are not the table's: rov_hash"):
        read_verified(RAW, stored._replace(size=file.stat().st_size))


HASH_OF_NOTHING = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


# Damage to rows of intact files


def write_again(harness: PipelineHarness, table: Table, day: date, change: Callable[[Row], Row]) -> None:
    """A day rewritten with its first row changed, past everything that would refuse it."""
    first, *others = harness.lake.snapshot(table).rows([day]).to_pylist()
    rows = pa.Table.from_pylist([change(first), *others], table.schema)
    write_deltalake(
        harness.lake.location(table), rows, mode="overwrite", predicate=f"day = '{day}'", schema_mode="merge"
    )


@pytest.mark.notices("damage: a derived row unlike its inputs")
def test_a_derived_row_that_is_not_what_its_inputs_give_is_named_and_rebuilt(harness: PipelineHarness) -> None:
    before = harness.everything()
    changed = {SESSIONS: harness.days[0], ROLLUP: harness.days[1]}
    for table, day in changed.items():
        write_again(harness, table, day, lambda row: row | {"acus": Decimal(1_000)})
    verdict = looked_at(harness)
    assert named(verdict) == {(table.name, day) for table, day in changed.items()}
    assert all("its rows are not what" in finding.what for finding in verdict.findings)
    for table, day in changed.items():
        rebuild(harness.lake, table, [day])
    assert looked_at(harness, tables=list(changed)).is_clean
    assert harness.everything() == before


@pytest.mark.notices("damage: a report unlike its inputs")
def test_a_report_that_is_not_what_its_inputs_give_is_named(harness: PipelineHarness) -> None:
    rows = harness.lake.snapshot(REPORT).rows()
    harness.lake.replace_all(REPORT, rows.slice(1))
    assert named(looked_at(harness)) == {("acu_weekly", None)}
    assert named(looked_at(harness, tables=[REPORT])) == {("acu_weekly", None)}


@pytest.mark.notices("damage: what follows from it is not blamed")
def test_a_raw_row_that_changed_is_named_and_what_follows_from_it_is_not_blamed(harness: PipelineHarness) -> None:
    write_again(harness, RAW, harness.days[0], lambda row: row | {"payload": "{}"})
    verdict = looked_at(harness, tables=[RAW, SESSIONS, TABLES["prompt_feedback"]])
    assert named(verdict) == {("raw_sessions_v3", harness.days[0])}
    assert "1 of " in verdict.findings[0].what
    assert {day for _, day in verdict.not_checked} == {harness.days[0]}
    assert {table.name for table, _ in verdict.not_checked} >= {"sessions", "prompt_feedback"}
    output = run("verify").output
    assert "\n1 finding in " in output
    assert "Not checked, because their inputs are damaged: sessions, " in output


@pytest.mark.notices("damage: a raw row twice")
def test_a_raw_row_that_is_stored_twice_is_named(harness: PipelineHarness) -> None:
    rows = harness.lake.snapshot(RAW).rows([harness.days[0]])
    harness.lake.replace_days(RAW, harness.days[:1], pa.concat_tables([rows, rows.slice(0, 1)]))
    (finding,) = looked_at(harness, tables=[RAW]).findings
    assert finding.what.endswith("rows: a row with the key of another")


def version(**values: object) -> Row:
    """A version of a session with its row hash, as in `payload` unless given otherwise."""
    payload = '{"acus_consumed":1.5,"created_at":1764590400,"session_id":"devin-a","updated_at":1764594000}'
    content = {"content_hash": "aad2", "payload": payload}
    columns = {
        "session_id": "a",
        "updated_at": after(1),
        "acus": acus("1.5"),
        "is_listed": True,
        "fetched_at": after(2),
    }
    found = row(RAW, content | columns | {"created_at": NOON} | values)
    return dict(with_row_hash(RAW, pa.Table.from_pylist([found], RAW.schema)).to_pylist()[0])


def fault_of(row: Row) -> str | None:
    return problems_of(RAW, pa.Table.from_pylist([row], RAW.schema), 8)[0]


@pytest.mark.notices("damage: a raw row's hash")
def test_an_intact_version_has_no_fault_and_any_change_of_it_has() -> None:
    hash_ = content_hash(version()["payload"].encode())
    intact = version(content_hash=hash_)
    assert fault_of(intact) is None
    assert fault_of(version(content_hash=hash_, redacted="ids")) is None
    tombstone = {"content_hash": None, "payload": None, "acus": None, "is_listed": False}
    assert fault_of(version(**tombstone)) is None
    for name in RAW.column_names:
        changed = intact | {name: "x" if isinstance(intact[name], str) else None}
        if name == "redacted":
            changed = intact | {name: "text"}
        if name == "moved_to":
            changed = intact | {name: DAY + timedelta(days=1)}
        if name not in ("day", "created_at"):
            assert fault_of(changed) == "its values do not give its row_hash"


@pytest.mark.notices("damage: an instant beyond the calendar")
def test_an_instant_that_no_calendar_has_costs_its_row_and_no_other() -> None:
    intact = version(content_hash=content_hash(version()["payload"].encode()))
    rows = pa.Table.from_pylist([intact] * 3, RAW.schema)
    for name in ("created_at", "fetched_at", "day"):
        place = rows.schema.get_field_index(name)
        kind = rows.schema.field(name).type
        number = pa.int32() if pa.types.is_date32(kind) else pa.int64()
        numbers = rows.column(name).combine_chunks().view(number).to_pylist()
        numbers[1] = 2**30 if pa.types.is_date32(kind) else 2**62
        flipped = rows.set_column(place, rows.schema.field(name), pa.array(numbers, number).view(kind))
        assert problems_of(RAW, flipped, 8) == [None, "an instant or day that no calendar has", None]


@pytest.mark.notices("damage: a payload unlike its content hash", "damage: key columns unlike the payload")
@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({}, "its payload does not give its content_hash"),
        ({"content_hash": None}, "a version without content"),
        ({"payload": None}, "a version without content"),
        ({"day": DAY + timedelta(days=1)}, "its created_at is outside its day"),
        ({"is_listed": False}, "a tombstone with content"),
        ({"moved_to": DAY}, "a version that says its session moved to another day"),
        ({"redacted": "text", "payload": "{"}, "its payload is not JSON"),
        ({"redacted": "ids", "session_id": "b"}, "its payload has another session_id"),
        ({"redacted": "ids", "created_at": after(1)}, "its payload has another created_at"),
        ({"redacted": "ids", "updated_at": None}, "its payload has another updated_at"),
        ({"redacted": "ids", "acus": acus("1.6")}, "its payload has another acus"),
    ],
)
def test_a_row_that_contradicts_its_payload_is_faulty_with_and_without_a_row_hash(values: Row, fault: str) -> None:
    assert fault_of(version(**values)) == fault
    without_hash = version(**values) | {"row_hash": None}
    assert fault_of(without_hash) == fault


# Damaged raw days: an ordinary run leaves them alone, --repair saves what can be saved


def backfill(harness: PipelineHarness, *words: str) -> Result:
    return run("backfill", "--from", str(harness.days[0]), "--to", str(harness.days[-1]), *words)


def test_an_ordinary_run_leaves_an_unreadable_raw_day_alone_and_rebuilds_the_other_days(
    harness: PipelineHarness,
) -> None:
    # The last day, so that the others are neighbours.
    day = harness.days[-1]
    file = file_of(harness, RAW, day)
    truncate(file, file)
    broken = file.read_bytes()
    harness.enterprise.grow_acus(60)
    result = backfill(harness)
    assert result.exit_code == 1
    assert "1 of 3 days were not made" in result.stderr, result.stderr
    assert "devin-pipeline verify" in result.stderr
    assert SECRET not in result.output
    assert file_of(harness, RAW, day) == file
    assert file.read_bytes() == broken
    assert named(looked_at(harness)) == {(RAW.name, day)}


@pytest.mark.notices("damage: rows that are not intact, repaired", "damage: rows of older files, repaired")
def test_repair_keeps_intact_rows_and_restores_the_damaged_one_from_an_older_file(harness: PipelineHarness) -> None:
    before = harness.everything()
    write_again(harness, RAW, harness.days[0], lambda row: row | {"payload": "{}"})
    report = looked_at(harness, tables=[RAW])
    day = harness.days[0]
    assert repair_commands(harness.lake, report, demo=False) == [
        f"devin-pipeline backfill --from {day} --to {day} --repair"
    ]
    rows = harness.lake.snapshot(RAW).rows([harness.days[0]]).num_rows
    (saved,) = repair(harness.lake, harness.days, 8, keeps_text=True)
    assert (saved.table, saved.day, saved.kept, saved.brought_back, saved.lost) == (
        RAW,
        harness.days[0],
        rows - 1,
        1,
        0,
    )
    assert looked_at(harness, tables=[RAW]).is_clean
    # What follows from it, too, which was not made again.
    assert harness.everything() == before


def test_repair_of_a_raw_day_keeps_what_only_older_files_hold_and_says_what_is_lost(harness: PipelineHarness) -> None:
    deleted = next(row for row in harness.rows("sessions") if not row["is_listed"])
    day = deleted["day"]
    listed = [session for session in harness.enterprise.sessions if day_of(session.created_at, 8) == day]
    spent = sum(session.acus or 0 for session in listed) + (deleted["acus"] or 0)
    stored = harness.lake.snapshot(RAW).rows([day]).num_rows
    delete(file_of(harness, RAW, day), Path())
    result = run("verify")
    assert f"backfill --from {day} --to {day} --repair" in result.output
    done = run("backfill", "--from", str(day), "--to", str(day), "--repair")
    assert done.exit_code == 0, done.output
    counts = re.search(rf"{RAW.name} {day}: 0 rows kept, (\d+) brought back from older files, (\d+) lost", done.stderr)
    assert counts is not None
    assert int(counts[1]) > 0 < int(counts[2])
    assert int(counts[1]) + int(counts[2]) == stored
    assert looked_at(harness).is_clean
    assert deleted["session_id"] in {row["session_id"] for row in harness.rows("sessions")}
    assert sum(row["acus"] or 0 for row in harness.rows("acu_daily") if row["day"] == day) == spent


def test_a_repaired_day_is_intact_and_its_rows_are_those_that_were(harness: PipelineHarness) -> None:
    table = Path(harness.lake.location(RAW))
    backup = shutil.copytree(table, table.parent.parent / "backup")
    before = {day: harness.lake.snapshot(RAW).rows([day]).to_pylist() for day in harness.days}
    for damages in batches(RAW):
        damaged = dict(zip(harness.days, damages, strict=False))
        for day, damage in damaged.items():
            damage(file_of(harness, RAW, day), file_of(harness, RAW, harness.days[2]))
        results = repair(harness.lake, harness.days, 8, keeps_text=True)
        assert [(saved.table, saved.day) for saved in results] == [(RAW, day) for day in damaged], damages
        for saved, (day, damage) in zip(results, damaged.items(), strict=True):
            rows = harness.lake.snapshot(RAW).rows([day]).to_pylist()
            assert all(row in before[day] for row in rows)
            assert saved.kept == (len(before[day]) if damage == lie_in_the_footer else 0)
            assert (saved.kept + saved.brought_back, saved.lost) == (len(rows), len(before[day]) - len(rows))
        assert looked_at(harness, tables=[RAW]).is_clean
        assert repair(harness.lake, harness.days, 8, keeps_text=True) == []
        shutil.rmtree(table)
        shutil.copytree(backup, table)
        shutil.rmtree(Path(harness.lake.uri, "last_versions"))


@pytest.mark.notices("damage: text that is to be gone, repaired")
def test_text_that_is_to_be_gone_is_not_restored(harness: PipelineHarness) -> None:
    write_again(harness, RAW, harness.days[0], lambda row: row | {"payload": "{}"})
    repair(harness.lake, harness.days, 8, keeps_text=False)
    payloads = harness.lake.snapshot(RAW).rows([harness.days[0]]).column("payload").to_pylist()
    assert len(payloads) > 10
    assert not any(SECRET in payload for payload in payloads if payload)


# Damaged logs


def last_entry(harness: PipelineHarness, table: Table) -> Path:
    return max(Path(harness.lake.location(table), "_delta_log").glob("*.json"))


def garble_entry(harness: PipelineHarness, table: Table) -> None:
    last_entry(harness, table).write_text('{"add":{"path":')


def empty_entry(harness: PipelineHarness, table: Table) -> None:
    last_entry(harness, table).write_text("")


def lose_entry(harness: PipelineHarness, table: Table) -> None:
    min(Path(harness.lake.location(table), "_delta_log").glob("*.json")).unlink()


def lose_log(harness: PipelineHarness, table: Table) -> None:
    shutil.rmtree(Path(harness.lake.location(table), "_delta_log"))


@pytest.mark.notices("damage: an emptied log entry")
@pytest.mark.parametrize("damage", [garble_entry, empty_entry, lose_entry, lose_log])
def test_a_broken_log_is_named_with_the_command_that_repairs_it(
    harness: PipelineHarness, damage: Callable[[PipelineHarness, Table], None]
) -> None:
    before = harness.rows("sessions")
    damage(harness, SESSIONS)
    report = looked_at(harness, tables=[SESSIONS])
    assert named(report) == {("sessions", None)}
    assert repair_commands(harness.lake, report, demo=False) == [
        f"rm -r {harness.lake.location(SESSIONS)}",
        f"devin-pipeline backfill --from {harness.days[0]} --to {harness.days[-1]}",
    ]
    shutil.rmtree(harness.lake.location(SESSIONS))
    rebuild(harness.lake, SESSIONS, harness.days)
    assert looked_at(harness, tables=[SESSIONS]).is_clean
    assert harness.rows("sessions") == before


def test_verify_prints_the_commands_that_repair_a_broken_log(harness: PipelineHarness) -> None:
    lose_log(harness, SESSIONS)
    result = run("verify")
    assert result.exit_code == 1
    assert f"  rm -r {harness.lake.location(SESSIONS)}\n" in result.output
    assert f"  devin-pipeline backfill --from {harness.days[0]} --to {harness.days[-1]}\n" in result.output


@pytest.mark.notices("damage: files without their log")
@pytest.mark.parametrize("damage", [garble_entry, lose_entry, lose_log])
def test_a_table_whose_log_is_broken_cannot_be_opened(
    harness: PipelineHarness, damage: Callable[[PipelineHarness, Table], None]
) -> None:
    damage(harness, RAW)
    with pytest.raises(Damaged, match="backup"):
        harness.lake.snapshot(RAW)
    assert named(looked_at(harness)) == {(RAW.name, None)}


def test_a_run_writes_nothing_to_a_raw_table_whose_log_is_broken(harness: PipelineHarness) -> None:
    lose_log(harness, RAW)
    files = sorted(Path(harness.lake.location(RAW)).rglob("*"))
    assert backfill(harness).exit_code == 1
    assert sorted(Path(harness.lake.location(RAW)).rglob("*")) == files
    (command,) = repair_commands(harness.lake, looked_at(harness, tables=[RAW]), demo=False)
    assert command.startswith(f"restore {harness.lake.location(RAW)} from a backup")


# Lakes that are intact


def test_a_lake_is_intact_before_and_after_a_backfill_that_keeps_no_text(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("verify")
    assert result.exit_code == 0
    assert result.output.startswith("Everything is intact: ")
    monkeypatch.setenv("DEVIN_TEXT", "none")
    harness.enterprise.grow_acus(5)
    done = backfill(harness, "--repair")
    assert done.exit_code == 0
    assert "No raw day is damaged" in done.stderr
    assert looked_at(harness).is_clean


def test_a_lake_from_before_row_hash_is_intact_and_gets_hashes_where_it_is_written_again(
    harness: PipelineHarness,
) -> None:
    for table in RAW_SESSION_TABLES:
        rows = harness.lake.snapshot(table).rows().drop_columns(["row_hash", "redacted"])
        shutil.rmtree(harness.lake.location(table))
        write_deltalake(harness.lake.location(table), rows, partition_by=["day"])
    shutil.rmtree(Path(harness.lake.uri, "last_versions"))
    assert looked_at(harness, tables=[*RAW_SESSION_TABLES, *SESSION_TABLES]).is_clean
    garble(file_of(harness, RAW, harness.days[0]), Path())
    assert named(looked_at(harness, tables=RAW_SESSION_TABLES)) == {(RAW.name, harness.days[0])}
    garble(file_of(harness, RAW, harness.days[0]), Path())
    grown = {session_id.removeprefix("devin-") for session_id in harness.enterprise.grow_acus(60)}
    assert repair(harness.lake, harness.days, 8, keeps_text=True) == []
    harness.build()
    assert looked_at(harness).is_clean
    rows = harness.rows(RAW.name)
    # All but, perhaps, the day that has just begun: what few sessions it has may have no ACUs yet.
    written = {row["day"] for row in rows if row["session_id"] in grown}
    assert written >= set(harness.days[:-1])
    assert all(row["row_hash"] for row in rows if row["day"] in written)


def test_an_empty_lake_is_intact(tmp_path: Path) -> None:
    assert verify(Lake(str(tmp_path / "lake")), 8).is_clean
    assert not (tmp_path / "lake").exists()


# The command


def test_verify_prints_json_and_looks_at_the_days_asked_for(harness: PipelineHarness) -> None:
    delete(file_of(harness, SESSIONS, harness.days[0]), Path())
    delete(file_of(harness, SESSIONS, harness.days[2]), Path())
    report = json.loads(run("verify", "--json", "--to", str(harness.days[1])).stdout)
    file = file_of(harness, SESSIONS, harness.days[0]).relative_to(harness.lake.uri)
    assert report["findings"] == [
        {"table": "sessions", "day": str(harness.days[0]), "what": "it is missing", "file": str(file)}
    ]
    assert report["repair_commands"] == [f"devin-pipeline backfill --from {harness.days[0]} --to {harness.days[0]}"]
    assert report["not_checked"].keys() >= {"acu_daily"}
    assert run("verify", "--from", str(harness.days[1]), "--to", str(harness.days[1])).exit_code == 0
    both = run("verify").output
    assert both.count("devin-pipeline backfill") == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["verify", "--from", "today"], "not a date"),
        (["verify", "--from", "2026-01-02", "--to", "2026-01-01"], "comes after"),
        (["backfill", "--from", "2026-01-01", "--to", "2026-01-02", "--repair", "--dry-run"], "--repair"),
    ],
)
def test_a_wrong_call_gets_three_lines_and_exit_2(harness: PipelineHarness, words: Sequence[str], says: str) -> None:
    result = run(*words)
    assert (result.exit_code, len(result.stderr.strip().splitlines())) == (2, 3)
    assert says in result.stderr


def test_what_another_run_writes_meanwhile_is_reported(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied = harness.lake.snapshot(SESSIONS).rows([harness.days[0]]).slice(0, 0)
    read = Connection.rows

    def write_first(connection: Connection, query: str, params: Params | None = None) -> pa.Table:
        monkeypatch.setattr(Connection, "rows", read)
        harness.lake.replace_days(SESSIONS, harness.days[:1], emptied)
        return connection.rows(query, params)

    monkeypatch.setattr(Connection, "rows", write_first)
    verdict = looked_at(harness, tables=[SESSIONS])
    assert verdict.is_clean
    assert verdict.changed_during_check == [SESSIONS]
    assert named(looked_at(harness, tables=[SESSIONS])) == {("sessions", harness.days[0])}
