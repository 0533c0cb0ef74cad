"""Settings are declared once, read in two places only, and never show a key."""

import ast
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from devin_pipeline.billing_calendar import day_of
from devin_pipeline.definitions import pipeline
from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline.errors import ConfigurationError
from devin_pipeline.lake import Lake
from devin_pipeline.orchestration.partitions import range_tags
from devin_pipeline.settings import V3_KEY, Settings
from devin_pipeline.tables import TABLES

PACKAGE = Path(__file__).parent.parent / "devin_pipeline"
KEY = "cog_" + "a1b2" * 10


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name, raising=False)


def test_a_setting_that_is_empty_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(name, "")
    assert Settings() == Settings.model_construct(_fields_set=set(), **_defaults())


def _defaults() -> dict[str, object]:
    return {name: field.default for name, field in Settings.model_fields.items()}


def test_a_variable_of_other_letters_is_another_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("devin_lake", "elsewhere")
    assert Settings().DEVIN_LAKE == "data"


def test_a_given_setting_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVIN_LAKE", "elsewhere")
    assert Settings(DEVIN_LAKE="here").DEVIN_LAKE == "here"


def test_no_key_or_password_shows_in_a_repr() -> None:
    settings = Settings(DEVIN_V3_API_KEY=KEY, DEVIN_API_URL="https://user:hunter2@api.devin.ai")  # type: ignore[arg-type]
    for shown in (repr(settings), str(settings), repr({"settings": settings})):
        assert KEY not in shown
        assert "hunter2" not in shown


def test_a_key_that_is_not_set_is_read_from_its_mounted_file_each_time(tmp_path: Path) -> None:
    settings = Settings(DEVIN_SECRETS_DIR=str(tmp_path))
    assert settings.feeds == []
    (tmp_path / V3_KEY).write_text(f"{KEY}\n")
    assert settings.feeds == ["raw_sessions_v3", "raw_session_insights_v3"]
    settings.require_usable()
    (tmp_path / V3_KEY).write_text(KEY[::-1])
    assert settings.key(V3_KEY) == KEY[::-1]
    assert Settings(DEVIN_SECRETS_DIR=str(tmp_path), DEVIN_V3_API_KEY=KEY).key(V3_KEY) == KEY  # type: ignore[arg-type]


def test_a_folder_or_file_of_secrets_that_cannot_be_read_is_refused_without_its_content(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read from DEVIN_SECRETS_DIR: No such file or directory"):
        Settings(DEVIN_SECRETS_DIR=str(tmp_path / "none")).require_usable()
    (tmp_path / V3_KEY).write_bytes(b"cog_\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"cannot be read from DEVIN_SECRETS_DIR: it is not text\. Set it to"):
        Settings(DEVIN_SECRETS_DIR=str(tmp_path)).require_usable()
    (tmp_path / V3_KEY).unlink()
    (tmp_path / V3_KEY).mkdir(mode=stat.S_IRWXU)
    with pytest.raises(ConfigurationError, match="Is a directory"):
        Settings(DEVIN_SECRETS_DIR=str(tmp_path)).require_usable()


def test_one_process_may_hold_two_pipelines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, unusable in {"DEVIN_LAKE": "/dev/null/lake", "DEVIN_V3_API_KEY": KEY, "DEVIN_API_URL": "ftp://x"}.items():
        monkeypatch.setenv(name, unusable)
    stored = {}
    with dg.DagsterInstance.ephemeral() as instance:
        for hour in (8, 20):
            enterprise = Enterprise.synthetic(seed=hour, sessions=12, days=2)
            day = day_of(datetime.now(UTC), hour) - timedelta(days=1)
            with EmulatorServer(enterprise) as server:
                settings = Settings(
                    DEVIN_LAKE=str(tmp_path / str(hour)),
                    DEVIN_API_URL=server.url,
                    DEVIN_V3_API_KEY=server.v3_key,  # type: ignore[arg-type]
                    DEVIN_DAY_STARTS_AT_UTC_HOUR=str(hour),
                    DEVIN_START_DATE=(day - timedelta(days=1)).isoformat(),
                    DEVIN_FEEDS="raw_sessions_v3",
                )
                result = (
                    pipeline(settings)
                    .resolve_job_def("refresh")
                    .execute_in_process(
                        instance=instance,
                        tags=range_tags(day, day),
                        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                    )
                )
                assert result.success
            lake = Lake(str(tmp_path / str(hour)))
            assert lake.identity is not None
            assert lake.identity.day_starts_at_utc_hour == hour
            rows = lake.snapshot(TABLES["sessions"]).rows().to_pylist()
            assert {day_of(row["created_at"], hour) for row in rows} == {day}
            stored[hour] = {row["session_id"] for row in rows}
    assert stored[8]
    assert stored[20]
    assert stored[8].isdisjoint(stored[20])


def test_the_environment_is_read_for_settings_by_the_command_line_and_the_definitions_only() -> None:
    readers: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(file.read_text())):
            makes_settings = isinstance(node, ast.Call) and ast.unparse(node.func) == "Settings" and not node.keywords
            reads = isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")
            if makes_settings or reads:
                readers.setdefault(room, set()).add("settings" if makes_settings else "environment")
    assert {room for room, what in readers.items() if "settings" in what} == {"definitions.py", "cli/environment.py"}
    # Dagster's own folder, temporary folders, proxies and certificates are not settings of ours.
    rooms = {room.partition("/")[0] for room in readers if not room.startswith(("cli/", "definitions"))}
    assert rooms == {"dagster_server", "devin_api"}
