"""Raw tables whose newest log entries are lost: named, written over by nothing, and repaired from files still there."""

import json
import multiprocessing
import re
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from deltalake import DeltaTable

from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.cli import main
from devin_pipeline.devin_api import SessionBatch, content_hash
from devin_pipeline.devin_api.pages import cursor_page
from devin_pipeline.emulator import Enterprise
from devin_pipeline.lake import Lake, Rewrite, Snapshot, TooManyConflicts, VersionsLost
from devin_pipeline.operations.maintain import maintain
from devin_pipeline.operations.repair import repair
from devin_pipeline.operations.verify import verify
from devin_pipeline.raw.row_hash import with_row_hash
from devin_pipeline.raw.sessions.landing import land
from devin_pipeline.tables import RAW_QUARANTINE, TABLES, Table
from devin_pipeline.tables.raw import RAW_SESSIONS_V3
from devin_pipeline_tests.harness import PipelineHarness, open_harness, the_last_days
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, NOON, acus, after

RAW = RAW_SESSIONS_V3
SECOND = int(NOON.timestamp())


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def log_of(lake: Lake, table: Table = RAW) -> Path:
    return Path(lake.location(table), "_delta_log")


def lose_newest_entries(lake: Lake, count: int = 1, table: Table = RAW) -> None:
    for entry in sorted(log_of(lake, table).glob("*.json"))[-count:]:
        entry.unlink()


# Through the commands


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PipelineHarness:
    """Two days of one session of 6 ACUs, and one of 45 that a later run has read; made once."""
    days = the_last_days(2)
    enterprise = Enterprise.synthetic(seed=11, sessions=0, days=2)
    with ExitStack() as opened, pytest.MonkeyPatch.context() as patch:
        harness = open_harness(opened, patch, tmp_path_factory.mktemp("made"), enterprise, days, "v3")
        created = starts_at(days[0], 8) + timedelta(hours=1)
        enterprise.add_session(created_at=created, acus=acus("6"), session_id="stays")
        harness.build()
        enterprise.add_session(created_at=created, acus=acus("45"), session_id="vanishes")
        harness.build()
        assert spent(harness) == acus("51")
        return harness


@pytest.fixture
def harness(
    made: PipelineHarness,
    copied: Callable[[PipelineHarness], PipelineHarness],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> PipelineHarness:
    monkeypatch.chdir(tmp_path)
    return copied(made)


def backfill(harness: PipelineHarness, *words: str) -> Result:
    return run("backfill", "--from", str(harness.days[0]), "--to", str(harness.days[-1]), *words)


def spent(harness: PipelineHarness) -> object:
    return sum(row["acus"] for row in harness.rows("acu_daily"))


@pytest.mark.notices("lost versions: a raw table that is older than it was")
@pytest.mark.parametrize("tables", [["raw_sessions_v3"], ["raw_sessions_v3", "raw_session_insights_v3"]], ids=len)
def test_a_lost_log_entry_of_a_session_that_was_deleted_since_costs_no_acu(
    harness: PipelineHarness, tables: list[str]
) -> None:
    versions = harness.versions()
    for name in tables:
        lose_newest_entries(harness.lake, table=TABLES[name])
    harness.enterprise.delete_session("vanishes")
    files = {name: sorted(Path(harness.lake.uri, name).rglob("*")) for name in tables}

    refused = backfill(harness)
    assert refused.exit_code == 1
    assert any(f"The table {name} is older than what was last written to it" in refused.stderr for name in tables)
    lost = versions["raw_sessions_v3"]
    assert lost is not None
    assert f"ends at version {lost - 1}, but version {lost} was written" in refused.stderr
    command = f"backfill --from {harness.days[0]} --to {harness.days[0]} --repair"
    assert command in refused.stderr
    assert {name: sorted(Path(harness.lake.uri, name).rglob("*")) for name in tables} == files
    assert spent(harness) == acus("51")

    verified = run("verify", "--json")
    assert verified.exit_code == 1
    findings = json.loads(verified.stdout)
    assert [finding["table"] for finding in findings["findings"]] == sorted(tables, key=list(TABLES).index)
    assert "sessions" in findings["not_checked"]
    assert findings["repair_commands"] == [f"devin-pipeline {command}"]
    examined = json.loads(run("doctor", "--json").stdout)["checks"]
    named = {check["subject"]: check for check in examined if check["name"] == "last_version"}
    assert [subject for subject, check in named.items() if check["outcome"] == "failed"] == findings_of(findings)
    assert command in named["raw_sessions_v3"]["todo"]

    repaired = run(*command.split())
    assert repaired.exit_code == 0, repaired.output
    assert f"raw_sessions_v3 {harness.days[0]}: 1 rows kept, 1 brought back from older files, 0 lost" in repaired.stderr
    assert spent(harness) == acus("51")
    assert {row["session_id"]: row["is_listed"] for row in harness.rows("sessions")} == {
        "stays": True,
        "vanishes": False,
    }
    assert verify(harness.lake, 8).is_clean
    harness.build()
    assert spent(harness) == acus("51")


def findings_of(report: dict[str, list[dict[str, str]]]) -> list[str]:
    return [finding["table"] for finding in report["findings"]]


@pytest.mark.parametrize(
    "words",
    [["rebuild"], ["forget", "--session", "stays"], ["maintain"], ["query", "from sessions, raw_sessions_v3"]],
    ids=lambda words: words[0],
)
def test_every_command_that_needs_a_raw_table_refuses_one_that_is_older_than_it_was(
    harness: PipelineHarness, words: list[str]
) -> None:
    lose_newest_entries(harness.lake)
    files = sorted(Path(harness.lake.location(RAW)).rglob("*"))
    refused = run(*words)
    assert refused.exit_code == 1
    assert "The table raw_sessions_v3 is older than what was last written to it" in refused.stderr
    if words[0] == "forget":
        # What is stored is erased all the same, and what is lost stays where `--repair` finds it.
        assert repair(harness.lake, harness.days, 8, keeps_text=True)
        harness.build()
    else:
        assert sorted(Path(harness.lake.location(RAW)).rglob("*")) == files
    assert spent(harness) == acus("51")


def test_a_refused_run_asks_the_api_for_nothing(harness: PipelineHarness) -> None:
    for name in harness.feeds:
        lose_newest_entries(harness.lake, table=TABLES[name])
    harness.server.forget_requests()
    assert backfill(harness).exit_code == 1
    assert harness.server.requests == []


# Of one table


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def item(session_id: str, title: str = "", day: date = DAY) -> str:
    created = SECOND + (day - DAY).days * 86_400
    return json.dumps({"session_id": session_id, "created_at": created, "title": title})


def read(lake: Lake, *items: str, hours: float) -> None:
    page = cursor_page(f'{{"items": [{",".join(items)}]}}'.encode(), now=after(10_000))
    land(lake, RAW, SessionBatch(items=page.items), [DAY, NEXT_DAY], after(hours), 8)


def history(lake: Lake) -> list[tuple[str, datetime, str | None]]:
    rows = lake.snapshot(RAW).rows().to_pylist()
    return [(r["session_id"], r["fetched_at"], r["payload"] and json.loads(r["payload"])["title"]) for r in rows]


def noted(lake: Lake) -> int:
    return int(Path(lake.uri, "last_versions", f"{RAW.name}.json").read_text())


def is_clean(lake: Lake) -> bool:
    return verify(lake, 8, tables=[RAW, RAW_QUARANTINE]).is_clean


@pytest.mark.notices("lost versions: noted after a commit", "lost versions: days outside the range that is repaired")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_repair_restores_what_several_lost_versions_added_on_any_day(lake: Lake, count: int) -> None:
    read(lake, item("a", "first"), hours=1)
    read(lake, item("a", "second"), hours=2)
    read(lake, item("a", "second"), item("b", "of the next day", NEXT_DAY), hours=3)
    read(lake, item("b", "of the next day", NEXT_DAY), hours=4)
    before = lake.snapshot(RAW).rows()
    lose_newest_entries(lake, count)
    with pytest.raises(VersionsLost, match=f"--from {DAY} --to {NEXT_DAY} --repair"):
        lake.snapshot(RAW)
    # Whatever days are given: what is accepted is the whole table.
    assert repair(lake, [DAY], 8, keeps_text=True)
    assert lake.snapshot(RAW).rows() == before
    assert noted(lake) == lake.snapshot(RAW).version
    assert is_clean(lake)
    assert repair(lake, [DAY, NEXT_DAY], 8, keeps_text=True) == []


@pytest.mark.parametrize("lost", [1, 3])
@pytest.mark.parametrize("keeps", ["checkpoint", "its name", "nothing"])
def test_lost_entries_are_recognised_and_repaired_whatever_is_left_of_checkpoints(
    lake: Lake, lost: int, keeps: str
) -> None:
    for hour in range(5):
        read(lake, item("a", str(hour)), hours=hour)
        if hour == 3:
            DeltaTable(lake.location(RAW)).create_checkpoint()
    before = lake.snapshot(RAW).rows()
    lose_newest_entries(lake, lost)
    if keeps != "checkpoint":
        for checkpoint in log_of(lake).glob("*.checkpoint.parquet"):
            checkpoint.unlink()
    if keeps == "nothing":
        (log_of(lake) / "_last_checkpoint").unlink()
    with pytest.raises(VersionsLost):
        lake.snapshot(RAW)
    assert [finding.lost_versions for finding in verify(lake, 8).findings] == [True]
    repair(lake, [DAY], 8, keeps_text=True)
    assert lake.snapshot(RAW).rows() == before
    assert is_clean(lake)


@pytest.mark.notices("lost versions: noted after a run was killed before it could")
def test_a_note_that_is_behind_or_missing_or_damaged_raises_no_alarm_and_the_next_run_corrects_it(lake: Lake) -> None:
    note = Path(lake.uri, "last_versions", f"{RAW.name}.json")
    read(lake, item("a", "first"), hours=1)
    written = noted(lake)
    read(lake, item("a", "second"), hours=2)
    for content in (str(written), "", "[]", "-1", "1e400", None):
        note.unlink()
        if content is not None:
            note.write_text(content)
        opened_elsewhere = Lake(lake.uri)
        assert is_clean(opened_elsewhere)
        read(opened_elsewhere, item("a", "second"), hours=3)
        assert noted(lake) == lake.snapshot(RAW).version == written + 1


def test_an_unchanged_read_writes_no_note(lake: Lake) -> None:
    read(lake, item("a"), hours=1)
    note = Path(lake.uri, "last_versions", f"{RAW.name}.json")
    before = note.stat()
    read(lake, item("a"), hours=2)
    assert (note.stat().st_ino, note.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def add_versions(folder: str, session_id: str, count: int) -> None:
    lake = Lake(folder)
    for number in range(count):
        day = DAY if session_id == "a" else NEXT_DAY
        page = cursor_page(f'{{"items": [{item(session_id, str(number), day)}]}}'.encode(), now=after(10_000))
        landed = False
        while not landed:
            with suppress(TooManyConflicts):
                land(lake, RAW, SessionBatch(items=page.items), [day], after(number), 8)
                landed = True


def test_two_processes_that_write_and_one_that_looks_on_never_take_a_table_for_older_than_it_was(lake: Lake) -> None:
    spawned = multiprocessing.get_context("spawn")
    writers = [spawned.Process(target=add_versions, args=(lake.uri, name, 15)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    # Until the first of them writes, there is nothing to look at.
    while not log_of(lake).exists() and any(writer.is_alive() for writer in writers):
        time.sleep(0.01)
    while any(writer.is_alive() for writer in writers):
        lake.snapshot(RAW)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(history(lake)) == 30
    version = lake.snapshot(RAW).version
    assert version is not None
    assert noted(lake) >= version - 1


@pytest.mark.notices("lost versions: an emptied newest entry")
@pytest.mark.parametrize("count", [1, 2])
def test_emptied_newest_entries_are_lost_ones(lake: Lake, count: int) -> None:
    for hour in range(4):
        read(lake, item("a", str(hour)), hours=hour)
    before = lake.snapshot(RAW).rows()
    for entry in sorted(log_of(lake).glob("*.json"))[-count:]:
        entry.write_bytes(b"")
    with pytest.raises(VersionsLost):
        read(lake, item("a", "4"), hours=4)
    repair(lake, [DAY], 8, keeps_text=True)
    assert lake.snapshot(RAW).rows() == before
    assert is_clean(lake)


@pytest.mark.parametrize("put_back", [True, False], ids=["from a backup", "not at all"])
def test_a_table_put_back_from_a_backup_or_not_at_all_is_named_until_it_is_accepted(lake: Lake, put_back: bool) -> None:
    read(lake, item("a", "first"), hours=1)
    folder = Path(lake.location(RAW))
    backup = shutil.copytree(folder, folder.parent.parent / "backup")
    before = history(lake)
    read(lake, item("a", "second"), hours=2)
    shutil.rmtree(folder)
    if put_back:
        shutil.copytree(backup, folder)
    for look in (lake.snapshot, lake.cached_snapshot):
        with pytest.raises(VersionsLost):
            look(RAW)
    assert repair(lake, [DAY], 8, keeps_text=True) == []
    assert history(lake) == (before if put_back else [])
    assert is_clean(lake)
    read(lake, item("a", "third"), hours=3)
    assert noted(lake) == lake.snapshot(RAW).version


def test_repair_restores_nobody_who_was_erased(lake: Lake) -> None:
    read(lake, item("a"), hours=1)
    read(lake, item("a"), item("erased", "canarytitle"), hours=2)
    lose_newest_entries(lake)
    pseudonym = lake.add_to_erasure_list([("session", "erased")]).pseudonym("session", "erased")
    repair(lake, [DAY], 8, keeps_text=True)
    assert {session_id for session_id, *_ in history(lake)} == {"a", pseudonym}
    assert "canarytitle" not in repr(lake.snapshot(RAW).rows().to_pylist())
    assert is_clean(lake)


def test_repair_of_a_version_that_erased_somebody_erases_them_again(lake: Lake) -> None:
    read(lake, item("a"), item("erased", "canarytitle"), hours=2)
    pseudonym = lake.add_to_erasure_list([("session", "erased")]).pseudonym("session", "erased")
    read(lake, item("a", "newer"), item("erased", "canarytitle"), hours=3)
    lose_newest_entries(lake)
    repair(lake, [DAY], 8, keeps_text=True)
    rows = lake.snapshot(RAW).rows().to_pylist()
    assert pseudonym in {row["session_id"] for row in rows}


@pytest.mark.notices("lost versions: what a killed run left")
def test_repair_leaves_out_what_a_killed_run_wrote_and_later_reads_did_not_find(lake: Lake) -> None:
    read(lake, item("a", "first"), hours=1)
    read(lake, item("a", "of a killed run"), hours=2)
    lose_newest_entries(lake)
    Path(lake.uri, "last_versions", f"{RAW.name}.json").write_text("1")
    read(lake, item("a", "third"), hours=3)
    read(lake, item("a", "fourth"), hours=4)
    before = history(lake)
    lose_newest_entries(lake)
    repair(lake, [DAY], 8, keeps_text=True)
    assert history(lake) == before


@pytest.mark.notices("lost versions: rows without a row hash")
def test_repair_restores_only_rows_whose_row_hash_is_intact(lake: Lake) -> None:
    def with_changed_row(snapshot: Snapshot) -> Rewrite:
        rows = snapshot.rows().to_pylist()
        newer = {"fetched_at": after(2), "session_id": "b"}
        new = with_row_hash(RAW, pa.Table.from_pylist([rows[0] | newer], RAW.schema)).to_pylist()
        of_c = {"session_id": "c", "payload": item("c"), "content_hash": content_hash(item("c").encode())}
        no_hash = [rows[0] | newer | of_c | {"row_hash": None}]
        return Rewrite([DAY], pa.Table.from_pylist([*rows, new[0] | {"acus": acus("9")}, *no_hash], RAW.schema))

    read(lake, item("a"), hours=1)
    before = history(lake)
    lake.rewrite(RAW, with_changed_row)
    lose_newest_entries(lake)
    assert repair(lake, [DAY], 8, keeps_text=True) == []
    assert history(lake) == before


def test_lost_entries_of_the_quarantine_are_named_and_repaired(lake: Lake) -> None:
    read(lake, '{"session_id": 1}', hours=1)
    read(lake, '{"session_id": 2}', hours=2)
    before = lake.snapshot(RAW_QUARANTINE).rows()
    assert before.num_rows == 2
    lose_newest_entries(lake, table=RAW_QUARANTINE)
    with pytest.raises(VersionsLost):
        read(lake, '{"session_id": 3}', hours=3)
    repair(lake, [DAY], 8, keeps_text=True)
    assert lake.snapshot(RAW_QUARANTINE).rows() == before


def test_files_of_lost_versions_are_not_deleted_by_maintenance(lake: Lake) -> None:
    read(lake, item("a", "first"), hours=1)
    read(lake, item("a", "second"), hours=2)
    before = history(lake)
    lose_newest_entries(lake)
    assert re.search("is older than what was last written", " ".join(maintain(lake, 8).left))
    repair(lake, [DAY], 8, keeps_text=True)
    assert history(lake) == before
