"""The commands: thin wrappers that set the stage (settings, DAGSTER_HOME, emulator) and let Dagster do the work.

Exit codes: 0 done, 1 the work failed, 2 the call or the configuration is wrong. An error is three lines: what, why,
what to do.
"""

import csv
import io
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click
import msgspec
import pyarrow as pa
from dotenv import load_dotenv
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable
from rich.text import Text

from devin_pipeline.devin_api import DevinError, Misconfigured
from devin_pipeline.lake import Kind, Lake, LakeError, NotReadOnly, UnusableLocation, WrongLake
from devin_pipeline.tables import ALL_TABLES, TABLES, Table

if TYPE_CHECKING:
    import dagster as dg

    from devin_pipeline import verification
    from devin_pipeline.doctor import Finding, Outcome
    from devin_pipeline.emulator import EmulatorServer

_PACKAGE = Path(__file__).parent
_DEMO_LAKE = Path("data/demo")
_DEMO_HOME = Path(".dagster_home_demo")
_DAYS_PER_RUN = 31
_SECONDS_TO_STOP = 8.0
_REMINDERS = 3
_DEMO_DAYS = 14
_DEMO_SESSIONS_PER_DAY = 20
_DEMO_NOTICE = "DEMO DATA: synthetic sessions of the bundled emulator, not your organization's usage."


class Failed(Exception):
    """The work failed, or the call was wrong.

    Attributes:
        lines: What, why, what to do.
        exit_code: 1 for the work, 2 for the call or the configuration.
    """

    def __init__(self, what: str, why: str, todo: str, exit_code: int = 1) -> None:
        super().__init__(what)
        self.lines = (what, why, todo)
        self.exit_code = exit_code


class _Commands(click.Group):
    """Shows every expected error as three lines, and exits as the module says."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the command of this process and exit."""
        from devin_pipeline.partitions import BadSetting

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            super().main(*args, **kwargs | {"standalone_mode": False})
        except Failed as error:
            _exit(error.lines, error.exit_code)
        except (Misconfigured, WrongLake, UnusableLocation, NotReadOnly, BadSetting) as error:
            _exit((error.what, error.why, error.todo), 2)
        except (DevinError, LakeError) as error:
            _exit((error.what, error.why, error.todo), 1)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "devin-pipeline"
            _exit(("This call cannot be run", error.format_message(), f"See `{command} --help`"), 2)
        except (click.Abort, KeyboardInterrupt):
            _stop_now()
        sys.exit(0)


def _exit(lines: Sequence[str], code: int) -> NoReturn:
    _tell(lines)
    sys.exit(code)


def _tell(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(line[:1].upper() + line[1:] + ("" if line.endswith((".", "!", "?")) else "."), err=True)


def _stop_now() -> NoReturn:
    _tell(("Stopped", "you asked for it", "Run the same command again to go on"))
    # Not `sys.exit`: Python would wait for the threads of requests that hang.
    os._exit(1)


@click.group(cls=_Commands)
@click.version_option(package_name="devin-pipeline")
def main() -> None:
    """Where do our ACUs go, and which prompts should we fix."""
    load_dotenv(Path(".env"))


# Setting the stage


def _demo_stage() -> None:
    """Point every setting at the demo's own lake and DAGSTER_HOME; nothing of the live settings is left."""
    for name in [name for name in os.environ if name.startswith("DEVIN_")]:
        del os.environ[name]
    os.environ |= {"DEVIN_PIPELINE_DEMO": "1", "DEVIN_LAKE": str(_DEMO_LAKE.absolute())}
    _use_dagster_home(_DEMO_HOME)


def _live_stage() -> None:
    os.environ["DEVIN_LAKE"] = Lake(os.environ.get("DEVIN_LAKE") or "data").uri
    _use_dagster_home(Path(os.environ.get("DAGSTER_HOME") or ".dagster_home"))


def _use_dagster_home(home: Path) -> None:
    os.environ["DAGSTER_HOME"] = str(home.expanduser().absolute())


def _prepare_dagster_home() -> None:
    """Make DAGSTER_HOME with the shipped dagster.yaml, if it is new. The first thing a command writes."""
    home = Path(os.environ["DAGSTER_HOME"])
    settings = home / "dagster.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not settings.exists():
            # Copied aside and moved: with half of it, Dagster would not start in this home again.
            new = home / f".dagster.yaml.{os.getpid()}"
            shutil.copyfile(_shipped("dagster.yaml"), new)
            new.replace(settings)
    except OSError as error:
        raise Failed(
            f"DAGSTER_HOME cannot be made in {home}",
            os.strerror(error.errno or 0),
            "Make room there, or set DAGSTER_HOME to a folder of yours",
        ) from None


def _shipped(name: str) -> Path:
    """A file that lies beside the package in a clone, and inside it when it was installed as a wheel."""
    return next(folder / name for folder in (_PACKAGE, _PACKAGE.parent) if (folder / name).exists())


def _lake(demo: bool) -> Lake:
    return Lake(str(_DEMO_LAKE) if demo else os.environ.get("DEVIN_LAKE") or "data")


def _say_demo(demo: bool) -> None:
    if demo:
        click.echo(_DEMO_NOTICE, err=True)


class _DemoEnterprise(msgspec.Struct, frozen=True):
    """What makes the demo's enterprise the same again, for `ui --demo` after `demo`."""

    sessions: int
    days: int
    seed: int
    ends_at: datetime

    @staticmethod
    def file() -> Path:
        return _DEMO_HOME / "enterprise.json"

    @contextmanager
    def served(self) -> Iterator["EmulatorServer"]:
        """The emulator over this enterprise, with the environment pointing at it."""
        from devin_pipeline.emulator import EmulatorServer, Enterprise

        enterprise = Enterprise.synthetic(seed=self.seed, sessions=self.sessions, days=self.days, ends_at=self.ends_at)
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
        from devin_pipeline.partitions import day_of

        return day_of(self.ends_at, 8)


# Running the job


@dataclass(frozen=True)
class _Outcome:
    """What a run of the job over some days came to.

    Attributes:
        succeeded: Everything was made.
        days_not_read: Why each day that the API did not tell could not be read, by day.
        reason: Why the run failed, when not for single days.
        is_final: True when asking for other days would fail alike.
        warnings: Checks that found something without stopping the run.
        checks: Checks that ran.
    """

    succeeded: bool
    days_not_read: dict[str, str]
    reason: str
    is_final: bool
    warnings: list[str]
    checks: int


def _run_job(days: Sequence[date], trigger: str, *, without_raw: bool = False) -> _Outcome:
    """Run `refresh`, or what of it follows from raw, over neighbouring days in this process, with DAGSTER_HOME."""
    import dagster as dg

    from devin_pipeline.asset_facts import TRIGGER
    from devin_pipeline.definitions import pipeline
    from devin_pipeline.partitions import range_tags
    from devin_pipeline.reports import DUCKDB_CATALOG
    from devin_pipeline.schedules import REFRESH

    made_of_raw = [*(table.name for table in ALL_TABLES if table.layer != "raw"), DUCKDB_CATALOG]
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.get() as instance, _stoppable():
        result = (
            pipeline()
            .resolve_job_def(REFRESH)
            .execute_in_process(
                run_config=quiet,
                instance=instance,
                tags=range_tags(days[0], days[-1]) | {TRIGGER: trigger},
                raise_on_error=False,
                asset_selection=[dg.AssetKey(name) for name in made_of_raw] if without_raw else None,
            )
        )
    return _outcome(result)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop what runs inside, and cut off what does not stop by itself.

    Dagster takes an interrupt for a failure of the run, and goes on. While DuckDB or Delta works, none gets through.
    Cutting off is safe: what is published is published in one commit each, and a killed run in the middle of one.
    """
    asked, ask = socket.socketpair()
    ask.setblocking(False)
    ended = threading.Event()
    main_thread = threading.get_ident()

    def stop_is_asked(seconds: float = 0) -> bool:
        return bool(select.select([asked], [], [], seconds)[0])

    def see_to_it() -> None:
        with asked, ask:
            while not stop_is_asked(0.5):
                if ended.is_set():
                    return
            for _ in range(_REMINDERS):
                if ended.wait(_SECONDS_TO_STOP / _REMINDERS):
                    return
                # Again: Python drops an interrupt that arrives while it collects garbage.
                signal.pthread_kill(main_thread, signal.SIGINT)
            _stop_now()

    # Written to by the signal itself, whoever handles it and whatever keeps Python busy.
    before = signal.set_wakeup_fd(ask.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=see_to_it, daemon=True).start()
    try:
        yield
        if stop_is_asked():
            raise KeyboardInterrupt
    finally:
        ended.set()
        signal.set_wakeup_fd(before)


def _outcome(result: "dg.ExecuteInProcessResult") -> _Outcome:
    import dagster as dg

    from devin_pipeline.asset_facts import ASK_NO_MORE, days_not_read

    bad_days: dict[str, str] = {}
    reasons: list[str] = []
    is_final = False
    for event in result.all_events:
        if event.is_step_failure:
            told = event.step_failure_data.user_failure_data
            if told and (days := days_not_read(told.metadata)):
                bad_days |= days
            elif told:
                reasons.append(told.description or event.step_key or "")
                is_final = is_final or ASK_NO_MORE in told.metadata
            else:
                error = event.step_failure_data.error
                cause = error.cause if error and error.cause else error
                reasons.append(f"{event.step_key}: {(cause.message if cause else 'no reason told').strip()}")
    evaluations = result.get_asset_check_evaluations()
    failed = {
        f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}": evaluation.severity
        for evaluation in evaluations
        if not evaluation.passed
    }
    reasons += [f"this check failed: {name}" for name, how in failed.items() if how == dg.AssetCheckSeverity.ERROR]
    return _Outcome(
        succeeded=result.success,
        days_not_read=bad_days,
        reason=reasons[0] if reasons else "",
        is_final=is_final,
        warnings=[name for name, how in failed.items() if how == dg.AssetCheckSeverity.WARN],
        checks=len(evaluations),
    )


def _dg_command(first: date, last: date) -> str:
    """Dagster's own command for a run over a range."""
    return f"{_settings()} uv run dg launch --job refresh --partition-range {first}...{last}"


def _settings() -> str:
    """The settings a command of Dagster's needs; all of the demo's, whose keys are no secrets."""
    from devin_pipeline.resources import is_demo

    names = [name for name in sorted(os.environ) if name.startswith("DEVIN_")] if is_demo() else []
    return " ".join(f"{name}={shlex.quote(os.environ[name])}" for name in [*names, "DAGSTER_HOME"])


def _warn_of_dotenv() -> None:
    if Path(".env").exists():
        click.echo("  (Move .env away before you run it: dg lets what stands there override these settings.)")


# Commands


@main.command()
@click.option("--days", default=_DEMO_DAYS, show_default=True, type=click.IntRange(1, 400), help="Days of sessions.")
def demo(days: int) -> None:
    """Run the whole pipeline on the bundled emulator. Needs no key."""
    from devin_pipeline.asset_facts import DEMO
    from devin_pipeline.partitions import days_between

    _demo_stage()
    _prepare_dagster_home()
    lake = _lake(demo=True)
    if lake.identity is not None and lake.identity.kind == "demo":
        # The emulator's sessions are of today: yesterday's demo would stand beside them as vanished.
        shutil.rmtree(lake.uri)
    enterprise = _DemoEnterprise(days * _DEMO_SESSIONS_PER_DAY, days, 7, datetime.now(UTC))
    enterprise.file().write_bytes(msgspec.json.encode(enterprise))
    click.echo(_DEMO_NOTICE)
    with enterprise.served():
        run = days_between(enterprise.first_day, enterprise.last_day)
        click.echo(f"Running the job `refresh` over {days} days. While the emulator serves, Dagster's own command is:")
        click.echo(f"  {_dg_command(run[0], run[-1])}")
        _warn_of_dotenv()
        outcome = _run_job(run, DEMO)
        if not outcome.succeeded:
            raise Failed(
                "The demo failed", outcome.reason or "a step failed", "Look at the run: uv run devin-pipeline ui --demo"
            )
        click.echo(f"Done: {outcome.checks} checks ran, {len(outcome.warnings)} warn of something.")
        for warning in outcome.warnings:
            click.echo(f"  warns: {warning}")
    _show(_demo_summary(lake), "table")
    click.echo(
        f"""
The lake:        {lake.uri}
For DuckDB:      {lake.uri}/devin.duckdb
Dagster's home:  {os.environ["DAGSTER_HOME"]}

Next:
  uv run devin-pipeline query --demo "from prompt_feedback limit 5"
  uv run devin-pipeline tables --demo
  uv run devin-pipeline ui --demo"""
    )


def _demo_summary(lake: Lake) -> pa.Table:
    with lake.connect([TABLES["acu_daily"]]) as reader:
        return reader.rows(
            """
            select
                org_id as organization,
                sum(sessions)::bigint as sessions,
                sum(acus) as acus,
                sum(merged_pull_request_links)::bigint as merged_pull_requests,
                sum(analysed_sessions)::bigint as analysed_sessions,
                sum(feedback_items)::bigint as feedback_items
            from acu_daily
            group by org_id
            order by acus desc nulls last, org_id
            """
        )


@main.command()
@click.option("--from", "first", required=True, metavar="DAY", help="First billing day, as 2026-01-31.")
@click.option("--to", "last", required=True, metavar="DAY", help="Last billing day, included.")
@click.option(
    "--days-per-run", default=_DAYS_PER_RUN, show_default=True, type=click.IntRange(1, 366), help="Days of one run."
)
@click.option("--only-missing", is_flag=True, help="Leave out days that have been made already.")
@click.option("--dry-run", is_flag=True, help="Show the runs, start none.")
@click.option("--repair", is_flag=True, help="First save what can be saved of damaged raw days; see `verify`.")
def backfill(first: str, last: str, days_per_run: int, only_missing: bool, dry_run: bool, repair: bool) -> None:
    """Read a range of days and rebuild what follows from it.

    With --repair, damaged days of the raw tables keep every row that is still sound, get back what files of older
    versions hold, and are then read again. What neither has is lost if the API no longer tells it.
    """
    from devin_pipeline.partitions import contiguous

    if repair and (only_missing or dry_run):
        raise Failed(
            "This call cannot be run", "--repair changes what is stored of every day", "Give it without the others", 2
        )
    _live_stage()
    days = _days_to_backfill(first, last, only_missing)
    runs = [
        group[start : start + days_per_run]
        for group in contiguous(days)
        for start in range(0, len(group), days_per_run)
    ]
    if not runs:
        click.echo("Nothing is missing.")
        return
    if dry_run:
        for run in runs:
            click.echo(f"{run[0]} … {run[-1]}  {len(run)} days  {_dg_command(run[0], run[-1])}")
        return
    _prepare_dagster_home()
    if repair:
        _salvage(days)
    click.echo(f"{len(days)} days in {len(runs)} runs. The first as Dagster's own command:", err=True)
    click.echo(f"  {_dg_command(runs[0][0], runs[0][-1])}", err=True)
    failed = _run_all(runs)
    if failed:
        rest = contiguous(failed)
        commands = [
            f"uv run devin-pipeline backfill --from {days[0]} --to {days[-1]} --days-per-run {days_per_run}"
            for days in rest
        ]
        first_failed = rest[0][0]
        raise Failed(
            f"{len(failed)} of {len(days)} days were not made; they keep their last good version",
            f"{first_failed}: {failed[first_failed]}",
            "For the rest: " + " && ".join(commands),
        )


def _salvage(days: Sequence[date]) -> None:
    """Make damaged raw days sound again, and tell what became of each."""
    from devin_pipeline.partitions import day_starts_at_utc_hour
    from devin_pipeline.resources import keeps_text, lake_resource
    from devin_pipeline.salvaging import salvage

    hour = day_starts_at_utc_hour()
    salvaged = salvage(lake_resource(hour).open(), days, hour, keeps_text=keeps_text())
    for each in salvaged:
        click.echo(
            f"{each.table.name} {each.day}: {each.kept} rows kept, {each.brought_back} brought back from older files, "
            f"{each.lost} lost",
            err=True,
        )
    if not salvaged:
        click.echo("No raw day is damaged.", err=True)


def _days_to_backfill(first: str, last: str, only_missing: bool) -> list[date]:
    """The days of the range, checked against the partitions, the configuration and the lake."""
    from devin_pipeline.asset_facts import days_made
    from devin_pipeline.partitions import a_date, day_of, day_starts_at_utc_hour, days_between, start_date
    from devin_pipeline.resources import lake_resource, require_configuration

    first_day, last_day = a_date(first, "--from"), a_date(last, "--to")
    hour = day_starts_at_utc_hour()
    earliest, latest = start_date(), day_of(datetime.now(UTC), hour)
    if first_day > last_day:
        raise Failed("The range is empty", f"{first_day} comes after {last_day}", "Swap --from and --to", 2)
    if first_day < earliest or last_day > latest:
        raise Failed(
            f"{first_day} … {last_day} lies outside the partitions",
            f"they go from {earliest} (DEVIN_START_DATE) to {latest}, the day that has begun",
            "Choose days between these, or set DEVIN_START_DATE",
            2,
        )
    require_configuration()
    lake = lake_resource(hour)
    Lake(lake.uri).require_identity(lake.identity)
    days = days_between(first_day, last_day)
    if only_missing:
        made = days_made(days, Lake(lake.uri), hour)
        days = [day for day in days if day not in made]
    return days


def _run_all(runs: Sequence[Sequence[date]]) -> dict[date, str]:
    """Run the job over each range; the days that could not be made, and why."""
    from devin_pipeline.asset_facts import BACKFILL
    from devin_pipeline.partitions import contiguous

    failed: dict[date, str] = {}
    waiting = [list(run) for run in runs]
    total = sum(map(len, runs))
    with _progress(total) as told:
        while waiting:
            days = waiting.pop(0)
            outcome = _run_job(days, BACKFILL)
            bad = {date.fromisoformat(day): reason for day, reason in outcome.days_not_read.items()}
            if outcome.succeeded:
                told(days, "done", outcome.warnings)
            elif bad:
                failed |= bad
                told(sorted(bad), "not read")
                # The days that were read whole are in raw; what follows from them is still to be made.
                waiting[:0] = [list(group) for group in contiguous(day for day in days if day not in bad)]
            else:
                failed |= dict.fromkeys(days, outcome.reason)
                told(days, "failed")
                if outcome.is_final:
                    failed |= {day: outcome.reason for run in waiting for day in run}
                    break
    return failed


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A bar on a terminal, a line per range elsewhere."""
    if not sys.stderr.isatty():
        done = 0

        def tell(days: Sequence[date], how: str, warnings: Sequence[str] = ()) -> None:
            nonlocal done
            done += len(days)
            click.echo(f"[{done}/{total} days] {days[0]} … {days[-1]}  {how}", err=True)
            for warning in warnings:
                click.echo(f"  warns: {warning}", err=True)

        yield tell
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("days"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("backfill", total=total)

        def advance(days: Sequence[date], how: str, warnings: Sequence[str] = ()) -> None:
            for line in (f"{days[0]} … {days[-1]}  {how}", *(f"  warns: {warning}" for warning in warnings)):
                progress.console.print(line, markup=False, highlight=False)
            progress.advance(task, len(days))

        yield advance


@main.command()
@click.argument("sql")
@click.option("--format", "shape", default="table", show_default=True, type=click.Choice(["table", "csv", "json"]))
@click.option("--demo", is_flag=True, help="Ask the demo's lake.")
def query(sql: str, shape: str, demo: bool) -> None:
    """Ask the lake one SELECT. `devin-pipeline tables` lists what there is."""
    lake = _lake(demo)
    _say_demo(demo)
    if lake.identity is None:
        click.echo(f"No run has written to {lake.uri} yet: every table is empty.", err=True)
    _show(lake.answer(sql), shape)


@main.command()
@click.option("--demo", is_flag=True, help="Of the demo's lake.")
def tables(demo: bool) -> None:
    """List the tables: name, grain, rows, days."""
    lake = _lake(demo)
    _say_demo(demo)
    rows = []
    for table in ALL_TABLES:
        files = lake.snapshot(table).stored_files()
        days = sorted({file.day for file in files if file.day is not None})
        rows.append(
            {
                "table": table.name,
                "grain": table.grain,
                "rows": sum(file.rows for file in files),
                "days": len(days) if table.by_day else None,
                "first_day": days[0] if days else None,
                "last_day": days[-1] if days else None,
            }
        )
    _show(pa.Table.from_pylist(rows), "table")


@main.command()
@click.option("--from", "first", metavar="DAY", help="Look at no day before it.")
@click.option("--to", "last", metavar="DAY", help="Look at no day after it.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--demo", is_flag=True, help="Of the demo's lake.")
def verify(first: str | None, last: str | None, as_json: bool, demo: bool) -> None:
    """Prove what is stored: logs, files, raw rows, and every other row by making it again.

    Names what is damaged and the commands that heal it. Changes nothing and asks nothing of the API. Exit code 0 when
    all is sound, 1 when something is not.
    """
    from devin_pipeline import verification
    from devin_pipeline.partitions import a_date, day_starts_at_utc_hour

    first_day = a_date(first, "--from") if first else None
    last_day = a_date(last, "--to") if last else None
    if first_day and last_day and first_day > last_day:
        raise Failed("The range is empty", f"{first_day} comes after {last_day}", "Swap --from and --to", 2)
    lake = _lake(demo)
    _say_demo(demo)
    identity = lake.identity
    hour = identity.day_starts_at_utc_hour if identity else day_starts_at_utc_hour()
    verdict = verification.verify(lake, hour, first=first_day, last=last_day)
    findings = pa.Table.from_pylist(
        [
            {
                "table": finding.table.name,
                "day": finding.day,
                "what": finding.what,
                "file": finding.path and finding.path.removeprefix(f"{lake.uri}/"),
            }
            for finding in verdict.findings
        ],
        pa.schema([("table", pa.string()), ("day", pa.date32()), ("what", pa.string()), ("file", pa.string())]),
    )
    unjudged = _by_table(verdict.unjudged)
    heal = _healing(lake, verdict, demo)
    if as_json:
        told = {
            "lake": lake.uri,
            "files": verdict.files,
            "rows": verdict.rows,
            "days": len(verdict.days),
            "findings": findings.to_pylist(),
            "unjudged": unjudged,
            "written_meanwhile": [table.name for table in verdict.written_meanwhile],
            "heal": heal,
        }
        click.echo(_json(told))
    else:
        _tell_verdict(verdict, findings, unjudged, heal)
    if not verdict.is_clean:
        sys.exit(1)


def _tell_verdict(
    verdict: "verification.Verdict", findings: pa.Table, unjudged: Mapping[str, str], heal: Sequence[str]
) -> None:
    if findings.num_rows:
        _draw(findings, sys.stdout)
    for days in dict.fromkeys(unjudged.values()):
        names = ", ".join(name for name, of_table in unjudged.items() if of_table == days)
        click.echo(f"Not judged, because what they are made of is damaged: {names}" + (f" ({days})" if days else ""))
    if verdict.written_meanwhile:
        names = ", ".join(table.name for table in verdict.written_meanwhile)
        click.echo(f"Another run wrote {names} meanwhile: what is said of these, and of what follows, may be old.")
    looked_at = f"{verdict.files} files, {verdict.rows} rows, {len(verdict.days)} days"
    if verdict.is_clean:
        click.echo(f"All is sound: {looked_at}.")
        return
    click.echo(f"{findings.num_rows} findings in {looked_at}. What heals them:")
    for command in heal:
        click.echo(f"  {command}")


def _by_table(unjudged: Sequence[tuple[Table, date | None]]) -> dict[str, str]:
    """The days of each table, as ranges."""
    from devin_pipeline.partitions import contiguous

    days: dict[str, set[date]] = {}
    for table, day in unjudged:
        days.setdefault(table.name, set()).update([day] if day else [])
    return {
        name: ", ".join(f"{some[0]} … {some[-1]}" if len(some) > 1 else str(some[0]) for some in contiguous(of_table))
        for name, of_table in days.items()
    }


def _healing(lake: Lake, verdict: "verification.Verdict", demo: bool) -> list[str]:
    """What to do about the findings: commands, oldest days first, after what must be done by hand."""
    from devin_pipeline.partitions import contiguous

    if verdict.findings and demo:
        return ["uv run devin-pipeline demo"]
    by_hand = []
    days = verdict.damaged_days()
    for finding in verdict.findings:
        if finding.is_of_log and finding.table.layer == "raw":
            by_hand.append(
                f"put {lake.location(finding.table)} back from a backup: the API may not tell all of it again"
            )
        elif finding.is_of_log:
            by_hand.append(f"rm -r {shlex.quote(lake.location(finding.table))}")
            days = dict.fromkeys(verdict.stored_days, False) | days
        elif finding.day is None and not days:
            # Reports are made by every run.
            days = dict.fromkeys(verdict.stored_days[-1:], False)
    commands = [
        f"uv run devin-pipeline backfill --from {some[0]} --to {some[-1]}" + (" --repair" if repair else "")
        for repair in (True, False)
        for some in contiguous(day for day, is_raw in days.items() if is_raw == repair)
    ]
    return [*dict.fromkeys(by_hand), *commands]


@main.command()
@click.option("--user", metavar="ID", help="A user, by the id the API tells.")
@click.option("--session", metavar="ID", help="A session, and for this session its user.")
@click.option("--text", is_flag=True, help="All free text of everybody; needs DEVIN_TEXT=none.")
def forget(user: str | None, session: str | None, text: bool) -> None:
    """Remove text and identity from every version and file; the spend stays, under a pseudonym.

    A forgotten user or session stays forgotten in whatever is read later. This cannot be undone.
    """
    from devin_pipeline import forgetting
    from devin_pipeline.devin_api import canonical_id
    from devin_pipeline.partitions import day_starts_at_utc_hour
    from devin_pipeline.resources import keeps_text, lake_resource

    if (user is not None) + (session is not None) + text != 1:
        raise Failed("This call cannot be run", "it takes one of --user, --session and --text", "Name one", 2)
    if text and keeps_text():
        raise Failed(
            "All text is to stay", "DEVIN_TEXT is full, so the next read would bring it back", "Set DEVIN_TEXT=none", 2
        )
    kind: Kind = "session" if session is not None else "user"
    identifier = canonical_id((session or "").strip()) if session is not None else (user or "").strip()
    if not (text or identifier):
        raise Failed("This call cannot be run", "that is no id", "Give the id as the API tells it", 2)
    _live_stage()
    resource = lake_resource(day_starts_at_utc_hour())
    lake = resource.open()
    lake.claim(resource.identity)
    _prepare_dagster_home()
    if identifier:
        removed = forgetting.forget(lake, kind, identifier, keeps_text=keeps_text(), make_anew=_make_anew)
    else:
        removed = forgetting.forget_text(lake, make_anew=_make_anew)
    click.echo(f"Text and identity are gone from {removed.sessions} stored sessions, on {len(removed.days)} days.")
    if not text:
        click.echo("Later reads keep them out. Devin itself, backups and copies elsewhere are not changed.")


def _make_anew(days: Sequence[date]) -> None:
    """Make derived tables and reports of these days from what raw holds."""
    from devin_pipeline.partitions import contiguous

    for group in contiguous(days):
        for start in range(0, len(group), _DAYS_PER_RUN):
            outcome = _run_job(group[start : start + _DAYS_PER_RUN], "forget", without_raw=True)
            if not outcome.succeeded:
                raise Failed(
                    "What follows from the raw tables was not made anew; raw is redacted already",
                    outcome.reason or "a step failed",
                    "Run the same command again when the reason is gone",
                )


@main.command()
@click.option("--json", "as_json", is_flag=True, help="All findings as one JSON document.")
@click.option("--demo", is_flag=True, help="Of the demo, with the emulator running meanwhile.")
def doctor(as_json: bool, demo: bool) -> None:
    """Look at settings, keys, API, lake and Dagster, and say what to do. Changes nothing."""
    from devin_pipeline.doctor import Finding, examine

    enterprise: _DemoEnterprise | None = None
    if demo:
        if not _DemoEnterprise.file().exists():
            raise Failed("There is no demo to look at", "none was run here", "Run `uv run devin-pipeline demo`", 2)
        _demo_stage()
        enterprise = _demo_enterprise()
    else:
        _use_dagster_home(Path(os.environ.get("DAGSTER_HOME") or ".dagster_home"))
    _say_demo(demo)
    findings: list[Finding] = []
    with enterprise.served() if enterprise else nullcontext():
        for finding in examine():
            findings.append(finding)
            if not as_json:
                _show_finding(finding)
    if as_json:
        click.echo(_json({"checks": findings}))
    else:
        outcomes = Counter(finding.outcome for finding in findings)
        click.echo(", ".join(f"{outcomes[name]} {name}" for name in _COLOURS if outcomes[name]) + ".")
    if any(finding.outcome == "failed" for finding in findings):
        sys.exit(1)


_COLOURS: "dict[Outcome, str | None]" = {
    "ok": "green",
    "warning": "yellow",
    "failed": "red",
    "skipped": None,
    "not told": None,
}


def _show_finding(finding: "Finding") -> None:
    mark = click.style(f"{finding.outcome:8}", fg=_COLOURS[finding.outcome])
    click.echo(f"{mark}  {_printable(f'{finding.name} {finding.subject}'.strip() + ': ' + finding.found)}")
    if finding.todo:
        click.echo(f"{'':10}→ {_printable(finding.todo)}")


@main.command()
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535))
@click.option("--sessions", default=600, show_default=True, type=click.IntRange(0, 1_000_000))
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 2000))
@click.option("--seed", default=7, show_default=True)
@click.option(
    "--faults", default=0.0, metavar="RATE", type=click.FloatRange(0, 1), help="Share of requests answered wrongly."
)
@click.option("--fault-seed", default=7, show_default=True, help="Which of them, and how.")
def emulator(port: int, sessions: int, days: int, seed: int, faults: float, fault_seed: int) -> None:
    """Serve the stand-in Devin API on loopback, for any client, until it is stopped."""
    from devin_pipeline.emulator import EmulatorServer, Enterprise, FaultScript

    stopped = _stop_on_signal()
    enterprise = Enterprise.synthetic(seed=seed, sessions=sessions, days=days)
    server = EmulatorServer(enterprise, port=port)
    server.script(FaultScript.seeded(fault_seed, rate=faults) if faults else None)
    try:
        server.start()
    except OSError as error:
        raise _unusable(port, error) from None
    try:
        click.echo(_DEMO_NOTICE)
        click.echo(f"export DEVIN_API_URL={server.url}")
        click.echo(f"export DEVIN_V2_API_KEY={server.v2_key}")
        click.echo(f"export DEVIN_V3_API_KEY={server.v3_key}")
        click.echo("Change what it tells: POST /_emulator/evolve. Stop it with Ctrl-C.")
        stopped.wait()
    finally:
        server.stop()


@main.command()
@click.option("--demo", is_flag=True, help="The demo's Dagster, with the emulator running beside it.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--read-only", is_flag=True, help="The page alone, for looking: it changes nothing, and no daemon runs.")
def ui(demo: bool, port: int, read_only: bool) -> None:
    """Open Dagster's page and its daemon on loopback, until stopped.

    The page answers its own tabs and programs on this machine; what other sites make a browser send it refuses.
    """
    from devin_pipeline.page import StoppedByItself, run_until

    _require_free(port)
    enterprise: _DemoEnterprise | None = None
    if demo:
        _demo_stage()
        _prepare_dagster_home()
        enterprise = _demo_enterprise()
    else:
        _live_stage()
        _prepare_dagster_home()
    stopped = _stop_on_signal()
    with enterprise.served() if enterprise else nullcontext():
        _say_demo(demo)
        click.echo(f"Dagster's own command, without the guard: {_page_command(port, read_only)}")
        if enterprise:
            click.echo("In another shell, a run: " + _dg_command(enterprise.last_day, enterprise.last_day))
            _warn_of_dotenv()
        click.echo(f"Opening http://127.0.0.1:{port} … stop it with Ctrl-C.")
        try:
            still_busy = run_until(
                stopped,
                module="devin_pipeline.definitions",
                location="devin_pipeline",
                port=port,
                read_only=read_only,
            )
        except StoppedByItself as error:
            why = "it was not ready in time" if error.exit_code is None else f"exit code {error.exit_code}"
            raise Failed(f"{error.name} stopped by itself", why, "Its last lines above say more") from None
    if still_busy:
        click.echo("The code server is not done yet, perhaps because of a run; it ends by itself.", err=True)


def _page_command(port: int, read_only: bool) -> str:
    """Dagster's own command for a page, with the daemon or for reading only."""
    if read_only:
        workspace = shlex.quote(str(_shipped("workspace.yaml")))
        return f"{_settings()} uv run dagster-webserver --read-only -w {workspace} -p {port}"
    return f"{_settings()} uv run dg dev --port {port}"


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        # As the page binds it: connections that are still closing do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise _unusable(port, error) from None


def _unusable(port: int, error: OSError) -> Failed:
    return Failed(f"Port {port} cannot be used", error.strerror or "it is taken", "Choose another --port", 2)


def _demo_enterprise() -> _DemoEnterprise:
    """The enterprise of the last `demo`, or a new one."""
    if _DemoEnterprise.file().exists():
        return msgspec.json.decode(_DemoEnterprise.file().read_bytes(), type=_DemoEnterprise)
    enterprise = _DemoEnterprise(_DEMO_DAYS * _DEMO_SESSIONS_PER_DAY, _DEMO_DAYS, 7, datetime.now(UTC))
    enterprise.file().write_bytes(msgspec.json.encode(enterprise))
    return enterprise


def _stop_on_signal() -> threading.Event:
    """Set when the user or the system asks us to stop.

    A handler of our own also matters to children: Dagster would inherit a shell's ignored SIGINT and never stop.
    """
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    return stopped


# Showing rows

_NUMBERS = (pa.types.is_integer, pa.types.is_decimal, pa.types.is_floating)
_JSON = msgspec.json.Encoder(decimal_format="number")


def _show(rows: pa.Table, shape: str) -> None:
    if shape == "json":
        click.echo(_json(rows.to_pylist()))
    elif shape == "csv":
        sys.stdout.write(_csv_line(rows.column_names))
        sys.stdout.writelines(_csv_line(row.values()) for row in rows.to_pylist())
    else:
        _draw(rows, sys.stdout)


def _draw(rows: pa.Table, to: IO[str]) -> None:
    console = Console(file=to, width=None if to.isatty() else 200)
    table = RichTable(box=None, header_style="bold")
    for field in rows.schema:
        is_number = (
            pa.types.is_integer(field.type) or pa.types.is_decimal(field.type) or pa.types.is_floating(field.type)
        )
        table.add_column(field.name, justify="right" if is_number else "left", overflow="fold")
    for row in rows.to_pylist():
        table.add_row(*(Text(_printable(_plain(value))) for value in row.values()))
    console.print(table)


def _json(value: object) -> str:
    """JSON with decimals as numbers with all their digits, dates and instants in ISO form."""
    return _JSON.encode(value).decode()


def _plain(value: object) -> str:
    """One value as text: nothing for null, JSON for lists and structs."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, list | dict):
        return _json(value)
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _csv_line(values: Iterable[object]) -> str:
    line = io.StringIO(newline="")
    # Ending its lines with CR LF, the writer also quotes text with a lone CR, which would start a row of its own.
    csv.writer(line).writerow(map(_harmless, values))
    return line.getvalue().removesuffix("\r\n") + "\n"


# A spreadsheet runs what starts with one of these (OWASP, "CSV Injection"), also behind what it strips or hides.
_FORMULA = re.compile(r"""[\s"'\x00-\x1f\u200b-\u200f\u2060\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]""")


def _harmless(value: object) -> str:
    """One value as text that no spreadsheet runs as a formula; numbers stay numbers."""
    text = _plain(value)
    return f"'{text}" if isinstance(value, str | bytes) and _FORMULA.match(text) else text


def _printable(text: str) -> str:
    # Text of the API could hold escape sequences that a terminal would obey.
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
