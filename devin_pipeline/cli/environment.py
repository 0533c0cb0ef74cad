"""Where a command works: settings, DAGSTER_HOME, the lake, and the demo's emulator."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from devin_pipeline.cli.errors import Failed
from devin_pipeline.lake import Lake, NotWritten
from devin_pipeline.lake.atomic import create_file, write_file
from devin_pipeline.shell import pipeline_command, shipped
from devin_pipeline.tables import ALL_TABLES

if TYPE_CHECKING:
    from devin_pipeline.emulator import EmulatorServer
    from devin_pipeline.settings import Settings

_DEMO_LAKE = Path("data/demo")
_DEMO_HOME = Path(".dagster_home_demo")
DEMO_DAYS = 84
DEMO_SESSIONS_PER_DAY = 20
# Of the enterprise that the same arguments make; earlier ones had no number.
DEMO_VERSION = 2
DEMO_NOTICE = "DEMO DATA: synthetic sessions of the bundled emulator, not your organization's usage."


def settings() -> "Settings":
    """The settings as the environment has them now."""
    # Not above: it takes a third of the time in which `--help` answers.
    from devin_pipeline.settings import Settings

    return Settings()


def use_demo_environment() -> None:
    """Point every setting at the demo's own lake and DAGSTER_HOME; nothing of the live settings is left."""
    for name in [name for name in os.environ if name.startswith("DEVIN_")]:
        del os.environ[name]
    os.environ |= {"DEVIN_PIPELINE_DEMO": "1", "DEVIN_LAKE": str(_DEMO_LAKE.absolute())}
    use_dagster_home(_DEMO_HOME)


def use_live_environment() -> None:
    """Point DAGSTER_HOME and DEVIN_LAKE at where the settings say, as absolute paths."""
    os.environ["DEVIN_LAKE"] = Lake(settings().DEVIN_LAKE).uri
    use_dagster_home(Path(settings().DAGSTER_HOME))


def use_dagster_home(home: Path) -> None:
    """Set DAGSTER_HOME to a folder, as an absolute path."""
    try:
        path = str(home.expanduser().absolute())
    except RuntimeError:
        raise _unusable_home(home, "its ~ names a user whose home is not known") from None
    # It becomes part of a URL of SQLite's.
    if unusable := sorted(set(path) & set("?%")):
        raise _unusable_home(home, f"Dagster's databases do not take {' '.join(unusable)} in a path as it is")
    os.environ["DAGSTER_HOME"] = path


def _unusable_home(home: Path, why: str) -> Failed:
    return Failed(f"DAGSTER_HOME cannot be {home}", why, "Set it to a folder of letters, digits, - and _", 2)


def prepare_dagster_home() -> None:
    """Make DAGSTER_HOME with the shipped dagster.yaml, if it is new. The first thing a command writes."""
    home = Path(os.environ["DAGSTER_HOME"])
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            # Whole or not at all: with half of it, Dagster would not start in this home again.
            create_file(str(home), "dagster.yaml", shipped("dagster.yaml").read_bytes())
    except (OSError, NotWritten) as error:
        raise Failed(
            f"DAGSTER_HOME cannot be made in {home}",
            error.why if isinstance(error, NotWritten) else os.strerror(error.errno or 0),
            "Make room there, or set DAGSTER_HOME to a folder of yours",
        ) from None


def initialize_instance() -> None:
    """Have Dagster make its databases in a new DAGSTER_HOME now, before processes of its own open them."""
    from devin_pipeline.dagster_server.dagster_home import dagster_instance

    with dagster_instance():
        pass


def open_lake(demo: bool) -> Lake:
    """The demo's lake, or the one of the settings, if it can be looked into."""
    lake = Lake(str(_DEMO_LAKE) if demo else settings().DEVIN_LAKE)
    lake.require_readable()
    return lake


def open_filled_lake(demo: bool) -> Lake:
    """The same, if a run has written to it."""
    lake = open_lake(demo)
    # Where lake.json is missing, the tables show that there is one.
    if lake.identity is not None or any(lake.snapshot(table).version is not None for table in ALL_TABLES):
        return lake
    if demo:
        why, todo = (
            "no demo was run in this folder",
            f"Go to the folder of the demo, or run it here: `{pipeline_command('demo')}`",
        )
    else:
        command = pipeline_command("backfill --from DAY --to DAY")
        why = "no run has written there. DEVIN_LAKE says where a lake is; without it, `data` in the current folder"
        todo = f"Go to the folder of the lake, set DEVIN_LAKE to it, or fill a new one: `{command}`"
        if (_DEMO_LAKE / "lake.json").exists():
            todo = f"For the lake of the demo, add --demo. {todo}"
    # guard: a lake that is not there | raise Failed(f"There is no lake in {lake.uri}", why, todo, 2) -> return lake
    raise Failed(f"There is no lake in {lake.uri}", why, todo, 2)


def has_dagster_home(demo: bool) -> bool:
    """Point DAGSTER_HOME at the demo's, or the one of the settings; False where no run has been recorded."""
    use_dagster_home(_DEMO_HOME if demo else Path(settings().DAGSTER_HOME))
    return (Path(os.environ["DAGSTER_HOME"]) / "dagster.yaml").exists()


def has_desktop() -> bool:
    """Whether somebody sits in front of this machine, as far as that can be seen."""
    if "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())


def print_demo_notice(demo: bool) -> None:
    """Say on stderr that what follows is made up, if it is."""
    if demo:
        click.echo(DEMO_NOTICE, err=True)


class DemoEnterprise(msgspec.Struct, frozen=True):
    """What makes the demo's enterprise the same again, for `ui --demo` after `demo`."""

    sessions: int
    days: int
    seed: int
    ends_at: datetime
    version: int = 1

    @staticmethod
    def file() -> Path:
        """Where `demo` keeps it."""
        return _DEMO_HOME / "enterprise.json"

    def store(self) -> None:
        """Keep it for `ui --demo`."""
        write_file(str(self.file().parent.absolute()), self.file().name, msgspec.json.encode(self))

    @contextmanager
    def served(self) -> Iterator["EmulatorServer"]:
        """The emulator over this enterprise, with the environment pointing at it."""
        from devin_pipeline.emulator import EmulatorServer, demo_enterprise

        enterprise = demo_enterprise(seed=self.seed, sessions=self.sessions, days=self.days, ends_at=self.ends_at)
        with EmulatorServer(enterprise) as server:
            os.environ |= {
                "DEVIN_API_URL": server.url,
                "DEVIN_V2_API_KEY": server.v2_key,
                "DEVIN_V3_API_KEY": server.v3_key,
                "DEVIN_START_DATE": self.first_day.isoformat(),
            }
            yield server

    @property
    def first_day(self) -> date:
        """The first billing day with sessions."""
        return self.last_day - timedelta(days=self.days - 1)

    @property
    def last_day(self) -> date:
        """The billing day that had begun when the enterprise was made."""
        from devin_pipeline.billing_calendar import day_of

        return day_of(self.ends_at, 8)


def last_demo_enterprise() -> DemoEnterprise:
    """The enterprise of the last `demo`, or a new one."""
    if DemoEnterprise.file().exists():
        try:
            stored = msgspec.json.decode(DemoEnterprise.file().read_bytes(), type=DemoEnterprise)
        except (msgspec.DecodeError, OSError):
            raise Failed(
                "The demo's enterprise cannot be read",
                f"{DemoEnterprise.file()} is damaged, or this user may not read it",
                f"Run the demo again: `{pipeline_command('demo')}`",
                2,
            ) from None
        if stored.version == DEMO_VERSION:
            return stored
        raise Failed(
            "The demo's sessions are not those of this version",
            "an earlier one made them, so all of its lake would count as unlisted",
            f"Run the demo again: `{pipeline_command('demo')}`",
            2,
        )
    enterprise = DemoEnterprise(DEMO_DAYS * DEMO_SESSIONS_PER_DAY, DEMO_DAYS, 7, datetime.now(UTC), DEMO_VERSION)
    enterprise.store()
    return enterprise
