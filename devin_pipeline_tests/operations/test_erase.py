"""Erasure through the command: nothing of the erased is left in any byte of the lake, and the spend is."""

import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from copy import copy
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from devin_pipeline import doctor
from devin_pipeline.cli import main
from devin_pipeline.definitions import pipeline
from devin_pipeline.emulator import Enterprise, Session
from devin_pipeline.lake import Lake, StoredFile
from devin_pipeline.operations.erase import erased as erasing
from devin_pipeline.operations.erase import old_files_with_persons
from devin_pipeline.operations.repair import repair
from devin_pipeline.operations.verify import repair_commands, verify
from devin_pipeline.orchestration.partitions import range_tags
from devin_pipeline.settings import Settings
from devin_pipeline.tables import ALL_TABLES, RAW, RAW_SESSION_TABLES, SESSION_TABLES, SESSIONS, TABLES, Table
from devin_pipeline_tests.harness import PipelineHarness, differences, open_harness, the_last_days

pytestmark = pytest.mark.notices("pieces of text in the log")


def places_holding(harness: PipelineHarness, *words: str) -> list[str]:
    """Files of the lake and of DAGSTER_HOME in whose bytes, or in whose values, a word occurs."""
    folders = (Path(harness.lake.uri), Path(os.environ["DAGSTER_HOME"]))
    found = []
    for file in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        # SQLite and logs are as they are; of Parquet, named by a version or not, the values count.
        texts = [file.read_bytes()]
        if ".parquet" in file.name:
            with suppress(pa.ArrowInvalid):
                texts.append(repr(pq.ParquetFile(file).read().to_pylist()).encode())
        if file.suffix == ".duckdb":
            with duckdb.connect(str(file), read_only=True) as catalog:
                texts.append(repr(catalog.sql("select sql from duckdb_views()").fetchall()).encode())
        found += [f"{file.name}: {word}" for word in words if any(word.encode() in text for text in texts)]
    return found


def spend(harness: PipelineHarness) -> list[tuple[object, ...]]:
    """ACUs of every table that has them, by columns that do not say who."""
    with harness.lake.connect() as connection:
        return [
            tuple(row.values())
            for query in (
                "select day, org_id, sum(sessions), sum(acus) from acu_daily group by all order by all",
                "from acu_daily_by_tag order by all",
                "from acu_daily_by_repository order by all",
                "select week, org_id, sum(acus) from acu_weekly group by all order by all",
                "select * exclude (first_session_id) from pull_requests order by all",
                "from acus_per_merged_pull_request order by all",
            )
            for row in connection.rows(query).to_pylist()
        ]


def run_forget(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["forget", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def one_with_a_child_and_an_analysis(harness: PipelineHarness) -> Session:
    return next(s for s in harness.enterprise.sessions if s.child_session_ids and s.user_id and s.acus)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PipelineHarness:
    """A lake of two days, made once."""
    enterprise = Enterprise.synthetic(seed=11, sessions=60, days=2)
    with ExitStack() as opened, pytest.MonkeyPatch.context() as patch:
        harness = open_harness(opened, patch, tmp_path_factory.mktemp("made"), enterprise, the_last_days(2))
        for number, session in enumerate(enterprise.sessions):
            session.title = f"canarytitle{number}x"
            session.initial_user_message = f"canaryprompt{number}x"
        harness.build()
        # A second version of each, so that there are older ones, and older files, to be rid of.
        for number, session in enumerate(enterprise.sessions):
            session.title = f"canarysecond{number}x"
            session.acus = (session.acus or Decimal(0)) + 1
        harness.build()
        return harness


@pytest.fixture
def harness(made: PipelineHarness, copied: Callable[[PipelineHarness], PipelineHarness]) -> PipelineHarness:
    return copied(made)


@pytest.mark.notices("files that were checked against older entries of the erasure list only")
def test_an_erased_session_and_then_an_erased_user_are_nowhere_and_their_spend_is(harness: PipelineHarness) -> None:
    session = one_with_a_child_and_an_analysis(harness)
    number = harness.enterprise.sessions.index(session)
    words = (session.session_id, *(f"canary{what}{number}x" for what in ("title", "prompt", "second")))
    before = spend(harness)
    assert {place.split(": ")[1] for place in places_holding(harness, *words)} == set(words)

    assert "from 1 stored session," in run_forget("--session", f"devin-{session.session_id}")
    assert places_holding(harness, *words) == []
    assert spend(harness) == before
    with duckdb.connect(f"{harness.lake.uri}/devin.duckdb", read_only=True) as catalog:
        assert catalog.sql("select count(*) from sessions").fetchall() == [(60,)]

    user = next(s.user_id for s in harness.enterprise.sessions if s.user_id and s is not session)
    theirs = [n for n, s in enumerate(harness.enterprise.sessions) if s.user_id == user]
    of_user = [user, *(f"canary{what}{n}x" for n in theirs for what in ("title", "prompt", "second"))]
    assert places_holding(harness, user) != []
    run_forget("--user", user)
    assert places_holding(harness, *of_user) == []
    assert spend(harness) == before
    assert verify(harness.lake, 8).is_clean

    # It stays in force: what changes is stored, and what is erased is not.
    for n in (*theirs, number):
        harness.enterprise.sessions[n].acus = Decimal(1)
    harness.enterprise.add_analyses(5)
    harness.build()
    assert places_holding(harness, *words, *of_user) == []
    pseudonyms = {row["user_id"] for row in harness.rows("sessions") if row["user_id"]}
    assert sum(name.startswith("forgotten-") for name in pseudonyms) == 2
    assert sum(row["acus"] or 0 for row in harness.rows("acu_daily")) == sum(
        s.acus or 0 for s in harness.enterprise.sessions
    )


def test_without_text_every_figure_is_as_with_it_and_no_file_holds_any(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {name: len(harness.rows(name)) for name in (table.name for table in ALL_TABLES)}
    before = spend(harness)
    lengths = [len(row["title"] or "") for row in harness.rows("sessions")]
    monkeypatch.setenv("DEVIN_TEXT", "none")
    assert "from 60 stored sessions" in run_forget("--text")
    assert places_holding(harness, "canary") == []
    assert spend(harness) == before
    assert verify(harness.lake, 8).is_clean
    assert {name: len(harness.rows(name)) for name in figures} == figures
    assert [len(row["title"] or "") for row in harness.rows("sessions")] == lengths

    # With `full` the newest text comes back, and no version with it.
    monkeypatch.setenv("DEVIN_TEXT", "full")
    harness.build()
    assert {name: len(harness.rows(name)) for name in figures} == figures
    assert differences(harness).keys() <= {"raw_session_insights_v2", "raw_sessions_v3", "raw_session_insights_v3"}


@pytest.mark.parametrize(
    ("arguments", "text", "expected"),
    [
        ((), "", "takes --user and --session, or --text"),
        (("--user", "a", "--text"), "none", "takes --user and --session, or --text"),
        (("--user", "a", "--user", " "), "", "hat is not an id"),
        (("--text",), "full", "Set DEVIN_TEXT=none"),
        (("--session", "devin-"), "", "hat is not an id"),
        (("--user", "a"), "some", "t is neither full nor none"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused(
    arguments: tuple[str, ...], text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("DEVIN_TEXT", text)
    result = CliRunner().invoke(main, ["forget", *arguments])
    assert result.exit_code == 2
    assert expected in result.output
    assert not (tmp_path / "lake").exists()


# What comes back


class Erased:
    """A lake of three days with a user who was erased, and what it was before that."""

    def __init__(self, harness: PipelineHarness, folder: Path) -> None:
        self.harness = harness
        for number, session in enumerate(harness.enterprise.sessions):
            session.title = session.initial_user_message = f"canary{number}x"
        # An item in the quarantine is of a user, too.
        self.user = next(s.user_id for s in harness.enterprise.sessions if s.user_id and s.acus)
        at = harness.enterprise.sessions[0].created_at
        owed = '{"session_id": "owed", "created_at": %d, "acus_consumed": -1, "user_id": "%s", "title": "canaryowed"}'
        harness.enterprise.insert_verbatim("sessions_v3", at, owed % (at.timestamp(), self.user))
        assert run("backfill", "--from", str(harness.days[0]), "--to", str(harness.days[-1])).exit_code == 0
        self.backup = folder / "backup"
        shutil.copytree(harness.lake.uri, self.backup)
        theirs = [n for n, s in enumerate(harness.enterprise.sessions) if s.user_id == self.user]
        self.words = [self.user, "canaryowed", *(f"canary{n}x" for n in theirs)]
        self.days = sorted({row["day"] for row in harness.rows("sessions") if row["user_id"] == self.user})
        self.spend = spend(harness)
        assert len({place.split(": ")[1] for place in places_holding(harness, *self.words)}) == len(self.words)
        run_forget("--user", self.user)
        self.require_nowhere()

    def require_nowhere(self, tables: Sequence[Table] = ALL_TABLES) -> None:
        """Nothing is left of the user and nothing else is lost; some tables are verified, or all."""
        assert places_holding(self.harness, *self.words) == []
        assert spend(self.harness) == self.spend
        assert verify(self.harness.lake, 8, tables=tables).is_clean
        assert erasure_list().outcome == "ok"

    def put_back(self, *tables: str) -> None:
        """Put tables back as they were before the user was erased."""
        for table in tables:
            shutil.rmtree(f"{self.harness.lake.uri}/{table}")
            shutil.copytree(self.backup / table, f"{self.harness.lake.uri}/{table}")


@pytest.fixture(scope="module")
def erased_once(tmp_path_factory: pytest.TempPathFactory) -> Erased:
    folder = tmp_path_factory.mktemp("erased")
    with ExitStack() as opened, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        enterprise = Enterprise.synthetic(seed=11, sessions=40, days=3)
        return Erased(open_harness(opened, patch, folder, enterprise, the_last_days(3)), folder)


@pytest.fixture
def erased(
    erased_once: Erased,
    copied: Callable[[PipelineHarness], PipelineHarness],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Erased:
    monkeypatch.chdir(tmp_path)
    ours = copy(erased_once)
    ours.harness = copied(erased_once.harness)
    return ours


def erasure_list() -> doctor.CheckResult:
    (finding,) = (finding for finding in doctor.lake.findings(Settings()) if finding.name == "erasure_list")
    return finding


def backfill_of_another_day(erased: Erased) -> None:
    # Of a day on which the user has nothing, if there is one: all days are erased.
    day = next((str(day) for day in erased.harness.days if day not in erased.days), str(erased.harness.days[-1]))
    run("backfill", "--from", day, "--to", day)


def rebuild_of_one_day(erased: Erased) -> None:
    day = str(erased.harness.days[0])
    run("rebuild", "--from", day, "--to", day)


def run_of_derived_tables(erased: Erased) -> None:
    """As the Dagster UI runs some assets."""
    keys = [dg.AssetKey(table.name) for table in SESSION_TABLES]
    day = erased.harness.days[1]
    job = pipeline(Settings()).resolve_implicit_global_asset_job_def()
    tags = range_tags(day, day)
    job.execute_in_process(instance=erased.harness.instance, asset_selection=keys, tags=tags, raise_on_error=False)


def repair_one_day(erased: Erased) -> None:
    """Of a day of a restored table whose file is damaged, so that only `--repair` reads what is left of it."""
    repair_damaged(erased, erased.days[:1])


def repair_damaged(erased: Erased, days: Sequence[date]) -> None:
    damage(erased.harness, days)
    result = run("backfill", "--from", str(days[0]), "--to", str(days[-1]), "--repair")
    assert result.exit_code == 0, result.output


def damage(harness: PipelineHarness, days: Sequence[date]) -> Sequence[StoredFile]:
    """Change bytes of a column in each file of some days."""
    files = list(harness.lake.as_stored(TABLES["raw_sessions_v3"]).stored_files(days))
    for file in files:
        content = bytearray(Path(file.path).read_bytes())
        place = pq.read_metadata(file.path).row_group(0).column(0).data_page_offset
        content[place : place + 8] = (byte ^ 255 for byte in content[place : place + 8])
        Path(file.path).write_bytes(content)
    return files


def repair_all(erased: Erased) -> None:
    """Runs refuse tables that lack versions until this."""
    repair(erased.harness.lake, erased.harness.days, 8, keeps_text=True)
    erased.harness.build()


def maintain(_: Erased) -> None:
    run("maintain")


RESTORED = [*(table.name for table in RAW_SESSION_TABLES), "raw_quarantine"]


def test_rows_that_a_backup_restores_are_named(erased: Erased) -> None:
    erased.put_back(*RESTORED)
    assert places_holding(erased.harness, *erased.words) != []
    result = run("verify")
    assert result.exit_code == 1
    findings = verify(erased.harness.lake, 8, tables=[RAW[name] for name in RESTORED]).findings
    named = {(f.table.name, f.day) for f in findings if f.is_of_persons}
    assert named >= {(table, day) for table in RESTORED[1:-1] for day in erased.days}
    assert "raw_quarantine" in {name for name, _ in named}
    assert "To repair:\n  devin-pipeline maintain\n" in result.output
    assert any(finding.lost_versions for finding in findings)
    (finding,) = (finding for finding in doctor.examine(Settings()) if finding.name == "erasure_list")
    assert (finding.outcome, finding.todo) == ("failed", "devin-pipeline maintain")
    assert str(erased.days[0]) in finding.found
    assert erased.user not in result.output + finding.found


@pytest.mark.parametrize(
    "command",
    [backfill_of_another_day, rebuild_of_one_day, run_of_derived_tables, repair_one_day, maintain],
    ids=lambda command: command.__name__,
)
def test_rows_that_a_backup_restores_are_erased_by_every_run(erased: Erased, command: Callable[[Erased], None]) -> None:
    erased.put_back(*RESTORED)
    assert places_holding(erased.harness, *erased.words) != []
    command(erased)
    assert places_holding(erased.harness, *erased.words) == []
    repair_all(erased)
    erased.require_nowhere([*(RAW[name] for name in RESTORED), *SESSION_TABLES])


@pytest.mark.notices("rows that a backup brings back")
@pytest.mark.parametrize(
    "tables",
    [["sessions"], ["acu_monthly"], ["acu_daily", "session_issues"]],
    ids=lambda tables: tables[0],
)
def test_derived_tables_and_reports_that_a_backup_restores_are_rebuilt(erased: Erased, tables: Sequence[str]) -> None:
    erased.put_back(*tables)
    assert not verify(erased.harness.lake, 8, tables=[TABLES[name] for name in tables]).is_clean
    assert erasure_list().outcome == "failed"
    # As `backfill_of_another_day`, without Dagster.
    day = next((day for day in erased.harness.days if day not in erased.days), erased.harness.days[-1])
    replace(erased.harness.run_without_dagster(), days=[day])()
    assert places_holding(erased.harness, *erased.words) == []
    erased.require_nowhere()


@pytest.mark.notices("rows that a backup brings back")
def test_a_whole_lake_that_a_backup_restores_is_rebuilt(erased: Erased) -> None:
    erased.put_back(*(table.name for table in ALL_TABLES if (erased.backup / table.name).exists()))
    assert not verify(erased.harness.lake, 8).is_clean
    assert erasure_list().outcome == "failed"
    backfill_of_another_day(erased)
    assert places_holding(erased.harness, *erased.words) == []
    # Raw tables lack versions.
    days = erased.harness.days
    repaired = run("backfill", "--from", str(days[0]), "--to", str(days[-1]), "--repair")
    assert repaired.exit_code == 0, repaired.output
    erased.require_nowhere()


def test_files_that_a_backup_restores_next_to_a_newer_log_are_named_and_deleted(erased: Erased) -> None:
    table = RAW["raw_sessions_v3"]
    shutil.copytree(erased.backup / table.name, f"{erased.harness.lake.uri}/{table.name}", dirs_exist_ok=True)
    assert places_holding(erased.harness, *erased.words) != []
    report = verify(erased.harness.lake, 8)
    (first, *_) = report.findings
    assert (first.table, first.is_of_persons) == (table, True)
    assert first.path in old_files_with_persons(erased.harness.lake, table)
    assert "devin-pipeline maintain" in repair_commands(erased.harness.lake, report, demo=False)
    maintain(erased)
    erased.require_nowhere()


def test_an_unchanged_day_costs_no_look_at_files_that_were_checked(
    erased: Erased, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of raw files nor of derived ones; a new file is looked at once."""
    looked_at: list[tuple[str, int]] = []
    erased.harness.build()

    def redacting(lake: Lake, table: object, redaction: object, days: object, *more: object, **how: object) -> object:
        looked_at.append((getattr(table, "name", ""), len(set(days))))  # type: ignore[call-overload]
        return redact(lake, table, redaction, days, *more, **how)  # type: ignore[arg-type]

    from devin_pipeline.raw.erasure import redact

    monkeypatch.setattr("devin_pipeline.operations.erase.redact", redacting)
    versions = erased.harness.versions()
    assert erased.harness.run().success
    assert looked_at == []
    assert erased.harness.versions() == versions
    lake = erased.harness.lake
    assert not any(lake.unchecked(lake.snapshot(table), lake.erasure_list()) for table in ALL_TABLES)
    session = erased.harness.enterprise.sessions[0]
    session.acus = (session.acus or Decimal(0)) + 1
    erased.harness.build()
    assert sorted(looked_at) == sorted((table.name, 1) for table in RAW_SESSION_TABLES)


@pytest.mark.notices("an erasure while a step is under way")
def test_what_a_step_writes_of_what_it_read_before_an_erasure_is_erased_when_it_ends(harness: PipelineHarness) -> None:
    user = next(s.user_id for s in harness.enterprise.sessions if s.user_id)
    read_before = harness.lake.snapshot(SESSIONS).rows()
    with erasing(harness.lake, 8):
        run_forget("--user", user)
        harness.lake.replace_days(SESSIONS, harness.days, read_before)
        assert places_holding(harness, user) != []
    assert places_holding(harness, user) == []
    assert verify(harness.lake, 8).is_clean


@pytest.mark.notices("persons in the damaged file that a repair replaces")
def test_a_file_that_was_damaged_before_an_erasure_goes_with_its_repair(harness: PipelineHarness) -> None:
    """The erasure could not read it, so it may hold persons in the bytes that are left. No run need follow."""
    table = TABLES["raw_sessions_v3"]
    user = next(s.user_id for s in harness.enterprise.sessions if s.user_id)
    damaged = {file.path for file in damage(harness, harness.days[:1])}
    assert run("forget", "--user", user).exit_code == 1
    assert damaged <= {file.path for file in harness.lake.as_stored(table).stored_files()}
    repair(harness.lake, harness.days[:1], 8, keeps_text=True)
    assert not any(Path(path).exists() for path in damaged)


def test_a_damaged_day_of_a_restored_table_keeps_no_run_from_erasing_the_others(erased: Erased) -> None:
    table = TABLES["raw_sessions_v3"]
    erased.put_back(table.name)
    (file,) = (file for file in erased.harness.lake.as_stored(table).stored_files() if file.day == erased.days[0])
    Path(file.path).write_bytes(b"")
    day = next(day for day in erased.harness.days if day != file.day)
    assert run("backfill", "--from", str(day), "--to", str(day)).exit_code == 1
    assert places_holding(erased.harness, *erased.words) == []
    assert not any(finding.is_of_persons for finding in verify(erased.harness.lake, 8).findings)


# What no version names


def as_a_killed_run_leaves_it(harness: PipelineHarness, user: str, name: str = "part-00000-killed.parquet") -> Path:
    """A file of the day of a user's session that was written and never committed."""
    table = TABLES["raw_sessions_v3"]
    day = next(row["day"] for row in harness.rows("sessions") if row["user_id"] == user)
    (file,) = (file for file in harness.lake.snapshot(table).stored_files() if file.day == day)
    return Path(shutil.copy(file.path, Path(file.path).parent / name))


def make_older(file: Path, seconds: float = 2 * 3600) -> None:
    os.utime(file, (time.time() - seconds,) * 2)


# Delta writes a file under a name with a # first, which its own vacuum passes over.
@pytest.mark.notices("files of a killed run that forget leaves")
def test_forget_never_says_gone_while_a_file_of_a_killed_run_remains(harness: PipelineHarness) -> None:
    user = next(s.user_id for s in harness.enterprise.sessions if s.user_id)
    names = {"part-00000-killed.parquet", "part-00000-killed.parquet#1"}
    left = [as_a_killed_run_leaves_it(harness, user, name) for name in sorted(names)]
    result = run("forget", "--user", user)
    assert result.exit_code == 1
    assert "2 files of unfinished writes may still hold text" in result.output
    assert set(re.findall(r"part-00000-killed\.parquet(?:#1)?", result.output)) == names
    assert "Run the same command again after 2" in result.output
    assert {place.split(": ")[0] for place in places_holding(harness, user)} == names

    for file in left:
        make_older(file)
    assert "from" in run_forget("--user", user)
    assert places_holding(harness, user) == []


def test_what_a_killed_run_left_is_deleted_by_later_runs_too(harness: PipelineHarness, tmp_path: Path) -> None:
    user = next(s.user_id for s in harness.enterprise.sessions if s.user_id)
    left = as_a_killed_run_leaves_it(harness, user)
    assert run("forget", "--user", user).exit_code == 1
    make_older(left)
    assert erasure_list().outcome == "warning"
    as_it_was = shutil.copytree(harness.lake.uri, tmp_path / "as it was")

    assert harness.run(harness.days[:1]).success
    assert places_holding(harness, user) == []
    assert erasure_list().outcome == "ok"

    shutil.rmtree(harness.lake.uri)
    shutil.copytree(as_it_was, harness.lake.uri)
    assert erasure_list().outcome == "warning"
    assert run("maintain").exit_code == 0
    assert places_holding(harness, user) == []
    assert erasure_list().outcome == "ok"


def test_several_users_and_sessions_are_erased_in_one_call(harness: PipelineHarness) -> None:
    session = one_with_a_child_and_an_analysis(harness)
    users = sorted({s.user_id for s in harness.enterprise.sessions if s.user_id and s is not session})[:3]
    before = spend(harness)
    words = [f"--user={user}" for user in users]
    theirs = sum(s.user_id in users or s is session for s in harness.enterprise.sessions)
    assert f"from {theirs} stored sessions" in run_forget(*words, "--session", session.session_id)
    number = harness.enterprise.sessions.index(session)
    assert places_holding(harness, *users, session.session_id, f"canarytitle{number}x") == []
    assert spend(harness) == before
    assert verify(harness.lake, 8).is_clean
    # Days whose tables have other rows than Dagster knows would be taken for unread.
    result = run(
        "backfill", "--from", str(harness.days[0]), "--to", str(harness.days[-1]), "--dry-run", "--only-missing"
    )
    assert result.exit_code == 0


def test_a_damaged_day_is_named_instead_of_called_erased(harness: PipelineHarness) -> None:
    user = next(s.user_id for s in harness.enterprise.sessions if s.user_id)
    (file, *_) = harness.lake.snapshot(TABLES["raw_sessions_v3"]).stored_files()
    Path(file.path).write_bytes(b"")
    result = run("forget", "--user", user)
    assert result.exit_code == 1
    assert f"rebuilt: raw_sessions_v3 {file.day}" in result.output
    assert "are gone" not in result.output
