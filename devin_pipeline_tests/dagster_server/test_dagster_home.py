"""A new DAGSTER_HOME and a new lake that several processes open in the same moment; and a home that was broken so."""

import fcntl
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from devin_pipeline.cli import main
from devin_pipeline.cli.environment import initialize_instance
from devin_pipeline.doctor import examine
from devin_pipeline.settings import Settings
from devin_pipeline_tests.cli.running import Running, run
from devin_pipeline_tests.harness import PipelineHarness, differences

MakeHarness = Callable[..., PipelineHarness]
DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")


def revisions(home: Path) -> dict[str, list[str]]:
    found = {}
    for name in DATABASES:
        with closing(sqlite3.connect(home / name)) as stored:
            found[name] = [row[0] for row in stored.execute("select version_num from alembic_version")]
    return found


def home_of_environment() -> Path:
    return Path(os.environ["DAGSTER_HOME"])


@pytest.mark.parametrize("turn", range(2))
def test_backfills_that_open_a_new_home_and_a_new_lake_at_once_all_succeed_now_and_later(
    make_harness: MakeHarness, tmp_path: Path, turn: int
) -> None:
    harness = make_harness("v3", sessions=60, days=4, seed=turn)
    days = harness.days[:3]
    words = [["backfill", "--from", str(day), "--to", str(day)] for day in days]
    with ExitStack() as all_of_them:
        running = [all_of_them.enter_context(Running(*command, folder=tmp_path)) for command in words]
        outputs = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    assert all(len(found) == 1 for found in revisions(home_of_environment()).values())
    later = run(*words[0], folder=tmp_path)
    assert later.returncode == 0, later.stderr
    harness.refresh()
    assert differences(harness) == {}


@pytest.mark.newest_dagster
@pytest.mark.parametrize("databases", [DATABASES[:1], DATABASES[1:2], DATABASES])
def test_a_home_with_two_revisions_is_recognised_and_opens_again_with_all_it_holds(
    make_harness: MakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: tuple[str, ...]
) -> None:
    from dagster._core.storage.sqlite import LAST_KNOWN_STAMPED_SQLITE_ALEMBIC_REVISION

    monkeypatch.chdir(tmp_path)
    harness = make_harness("v3", sessions=20, days=2)
    words = ["backfill", "--from", str(harness.days[0]), "--to", str(harness.days[0])]
    assert CliRunner().invoke(main, words).exit_code == 0
    home = home_of_environment()
    for name in databases:
        with closing(sqlite3.connect(home / name, isolation_level=None)) as stored:
            stored.execute("insert into alembic_version values (?)", (LAST_KNOWN_STAMPED_SQLITE_ALEMBIC_REVISION,))

    failed = CliRunner().invoke(main, words)
    assert failed.exit_code == 1
    assert len(failed.stderr.strip().splitlines()[-3:]) == 3
    assert all(name in failed.stderr for name in databases), failed.stderr
    (finding,) = [each for each in examine(Settings()) if each.name == "DAGSTER_HOME"]
    assert finding.outcome == "failed"
    command = re.search(r"python -c .*", finding.todo)
    assert command is not None
    assert command[0] in failed.stderr
    subprocess.run([sys.executable, *shlex.split(command[0])[1:]], check=True)

    assert CliRunner().invoke(main, words).exit_code == 0
    with closing(sqlite3.connect(home / "history/runs.db")) as stored:
        assert stored.execute("select count(*) from runs").fetchone() == (2,)


@pytest.mark.notices("two processes that make Dagster's databases at once")
def test_a_process_waits_while_another_one_makes_the_databases_of_the_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with (tmp_path / ".opening").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        opening = threading.Thread(target=initialize_instance)
        opening.start()
        opening.join(2)
        assert opening.is_alive()
        assert not (tmp_path / "history").exists()
        fcntl.flock(lock, fcntl.LOCK_UN)
        opening.join(60)
    assert all(len(found) == 1 for found in revisions(tmp_path).values())
