"""Keys and prompts, driven through every fault with every logger at DEBUG, stay out of every place something stays in.

A probe is one situation (a fault, a bad key, a run), one sink and one kind of canary, looked for in every spelling.
"""

import base64
import dataclasses
import hashlib
import json
import logging
import os
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from devin_pipeline.automation.sensors import late_updates
from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.cli import main
from devin_pipeline.devin_api import DevinClient, DevinError, Feed, Window
from devin_pipeline.devin_api.endpoints import SESSION_INSIGHTS_V2, SESSION_INSIGHTS_V3, SESSIONS_V3
from devin_pipeline.emulator import EmulatorServer, Enterprise, FaultScript
from devin_pipeline.emulator.faults import LIES, REFUSALS, TRANSIENT, Body, Echo, Fault, Silence, Status, Trickle
from devin_pipeline.errors import ConfigurationError
from devin_pipeline.orchestration.resources import DevinApiResource, devin_api_resource
from devin_pipeline.settings import Settings
from devin_pipeline_tests.chaos.sinks import (
    Sinks,
    every_logger_at_debug,
    files,
    forms,
    found,
    full_text_of,
    graphql_dump,
)
from devin_pipeline_tests.cli.running import run
from devin_pipeline_tests.conftest import Dose, Figure
from devin_pipeline_tests.harness import set_environment, the_last_days

DAYS = the_last_days(2)
PERSON = "auth0|5f1d7e2c9b3a"
WINDOWS = [Window(starts_at(day, 8), starts_at(day, 8, after=1)) for day in DAYS]
FEEDS: tuple[Feed, ...] = (SESSION_INSIGHTS_V2, SESSIONS_V3, SESSION_INSIGHTS_V3)


def canary(where: str) -> str:
    token = hashlib.sha256(where.encode()).hexdigest()[:16]
    return f'{token} opens "{where}" in C:\\new + é, is = secret'


WHERE = (
    *("title", "message", "analysis", "suggestion", "output", "extra", "quarantine", "echo"),
    *("name", "e-mail", "playbook", "instructions"),
)
PROMPTS = {where: canary(where) for where in WHERE}
PROMPT_SPELLINGS = [*PROMPTS.values(), *(text.split()[0] for text in PROMPTS.values())]

ECHOES = tuple(Echo(status, PROMPTS["echo"]) for status in (200, 400, 401, 403, 404, 409, 418, 422, 429, 500, 503))
QUICK = tuple(
    dataclasses.replace(fault, seconds=0.05) if isinstance(fault, Silence | Trickle) else fault for fault in TRANSIENT
)
FAULTS: tuple[Fault, ...] = (*REFUSALS, *QUICK, *LIES, *ECHOES, Body("a prompt", PROMPTS["echo"].encode()))


def enterprise_with_canaries(seed: int) -> Enterprise:
    """Every session, person and playbook carries every canary."""
    enterprise = Enterprise.synthetic(seed=seed, sessions=30, days=len(DAYS))
    for session in enterprise.sessions:
        session.title = PROMPTS["title"]
        session.initial_user_message = PROMPTS["message"]
        session.structured_output = {"output": [PROMPTS["output"]]}
        session.extras = {"x_notes": {"nested": [PROMPTS["extra"]]}}
        session.analysis = {
            "issues": [{"id": "i1", "issue": PROMPTS["analysis"], "impact": PROMPTS["analysis"], "label": "x"}],
            "suggested_prompt": {
                "original_prompt": PROMPTS["suggestion"],
                "suggested_prompt": PROMPTS["suggestion"],
                "feedback_items": [{"issue_id": "i1", "summary": PROMPTS["suggestion"], "details": "x"}],
            },
        }
    for member in enterprise.directory.members.values():
        member.name, member.email = PROMPTS["name"], PROMPTS["e-mail"]
    for playbook in enterprise.directory.playbooks.values():
        playbook.title, playbook.body = PROMPTS["playbook"], PROMPTS["instructions"]
    return enterprise


@dataclasses.dataclass
class Probes:
    """Counts what was searched, and fails at the first hit."""

    keys: Sequence[str]
    count: int = 0
    situations: int = 0

    def search(self, situation: str, sinks: Sinks, *, prompts_in: Callable[[str], bool] = lambda sink: False) -> None:
        """Look for keys in every sink and for prompts in all but those that may hold them."""
        without_prompts = {name: content for name, content in sinks.items() if not prompts_in(name)}
        self.situations += 1
        self.count += len(sinks) + len(without_prompts)
        assert found(sinks, self.keys) == [], situation
        assert found(without_prompts, PROMPT_SPELLINGS) == [], situation


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatorServer]:
    # Several pages: what repeats, jumps or shrinks between pages needs two of them.
    with EmulatorServer(enterprise_with_canaries(5), largest_page=7) as running:
        yield running


# Whatever the API returns


def test_no_fault_makes_the_client_reveal_a_key_or_a_prompt(
    server: EmulatorServer, dose: Dose, figure: Figure, capfd: pytest.CaptureFixture[str]
) -> None:
    probes = Probes([server.v2_key, server.v3_key])
    chosen = random.Random(7).sample(FAULTS, max(12, dose(len(FAULTS))))
    asks = {feed.name: partial(ask_for_sessions, feed=feed) for feed in FEEDS} | {"the bill": ask_for_the_bill}
    for fault in chosen:
        for asked, ask in asks.items():
            with every_logger_at_debug() as log:
                shown = asked_under(server, fault, ask)
            # Whatever their level: httpx writes whole URLs, and with them the users somebody filters by.
            assert [line for line in log.written if line.startswith(("httpx", "httpcore"))] == []
            log_text = "\n".join(log.written).encode()
            probes.search(f"{fault.kind}, {asked}", {"log": log_text, "errors and reprs": "\n".join(shown).encode()})
    out, err = capfd.readouterr()
    probes.search("all faults", {"stdout": out.encode(), "stderr": err.encode()})
    figure(f"{probes.count} leak probes of the client under {len(chosen)} faults: 0 hits for keys and prompts")


def asked_under(server: EmulatorServer, fault: Fault, ask: Callable[[DevinClient, list[str]], None]) -> list[str]:
    """What errors and reprs show after a read in which the first six requests, or all, meet a fault."""
    shown: list[str] = []
    server.script(FaultScript.of(dict.fromkeys(range(0 if fault in (*LIES, *ECHOES) else 1, 8), fault)))
    with DevinClient(
        base_url=server.url,
        v2_key=server.v2_key,
        v3_key=server.v3_key,
        timeout_seconds=5,
        sleep=lambda _: None,
    ) as client:
        # Once more, as somebody might who looks for the cause of a failure.
        for name in list(logging.root.manager.loggerDict):
            logging.getLogger(name).setLevel(logging.DEBUG)
        ask(client, shown)
        shown += [repr(client), str(client), repr(vars(client))]
    server.script(None)
    return shown


def ask_for_sessions(client: DevinClient, shown: list[str], feed: Feed) -> None:
    try:
        for listing in client.read(feed, WINDOWS):
            shown += [repr(listing), *(full_text_of(error) for error in listing.failures.values())]
    except DevinError as error:
        shown.append(full_text_of(error))
    try:
        client.updated_in(feed, WINDOWS[-1], max_pages=3, deadline_seconds=5)
    except DevinError as error:
        shown.append(full_text_of(error))


def ask_for_the_bill(client: DevinClient, shown: list[str]) -> None:
    asks: list[Callable[[], object]] = [
        lambda: client.directory("users"),
        lambda: client.directory("playbooks"),
        lambda: client.directory("cycles", version="v2"),
        lambda: list(client.consumption("enterprise", [], WINDOWS[0])),
        lambda: list(client.consumption("user", [PERSON], WINDOWS[0])),
        lambda: list(client.consumption_v2(WINDOWS)),
        lambda: client.counts(WINDOWS[0], deadline_seconds=5),
    ]
    for ask in asks:
        try:
            shown.append(repr(ask()))
        except DevinError as error:
            shown.append(full_text_of(error))


BAD_KEYS = {
    "a newline inside": "{prefix}live\nkey0123456789abcdef",
    "a space inside": "{prefix}live key0123456789abcdef",
    "a letter no key has": "{prefix}livekéy0123456789abcdef",
    "quotes": '"{prefix}livekey0123456789abcdef"',
    "a header after it": "{prefix}livekey0123456789abcdef\r\nX-Other: 1",
    "no prefix": "livekey0123456789abcdef",
    "the other kind": "{other}livekey0123456789abcdef",
    "an organization's": "apk_livekey0123456789abcdef",
}


def test_no_bad_key_is_in_the_error_that_refuses_it(
    server: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    figure: Figure,
    capfd: pytest.CaptureFixture[str],
) -> None:
    probes = Probes([])
    server.forget_requests()
    set_environment(monkeypatch, server, tmp_path, "neither", DAYS[0])
    for shape, pattern in BAD_KEYS.items():
        for version, prefix, other in (("v2", "apk_user_", "cog_"), ("v3", "cog_", "apk_user_")):
            key = pattern.format(prefix=prefix, other=other)
            with every_logger_at_debug() as log:
                resource = DevinApiResource(base_url=server.url, **{f"{version}_key": key})
                shown = [full_text_of(refusal(resource)), repr(resource), str(resource)]
                monkeypatch.setenv(f"DEVIN_{version.upper()}_API_KEY", key)
                result = CliRunner().invoke(main, ["backfill", "--from", str(DAYS[0]), "--to", str(DAYS[-1])])
            monkeypatch.delenv(f"DEVIN_{version.upper()}_API_KEY")
            assert result.exit_code == 2
            # Also a part of it would be too much.
            probes.keys = [key, "livekey0123456789abcdef", "key0123456789abcdef"]
            sinks = {"log": "\n".join(log.written).encode(), "errors and reprs": "\n".join(shown).encode()}
            probes.search(f"{shape}, {version}", sinks | {"the command": result.output.encode()})
    out, err = capfd.readouterr()
    probes.search("all bad keys", {"stdout": out.encode(), "stderr": err.encode()})
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []
    figure(f"{probes.count} leak probes of {len(BAD_KEYS)} bad keys: 0 hits")


def refusal(resource: DevinApiResource) -> ConfigurationError:
    try:
        resource.client().close()
    except ConfigurationError as error:
        return error
    raise AssertionError("a bad key was accepted")


# Whatever a run leaves behind


DEBUG_LOGS = """
python_logs:
  python_log_level: DEBUG
  managed_python_loggers: [root, httpx, httpcore, dagster]
"""

PASSING = tuple(fault for fault in QUICK if not (isinstance(fault, Status) and fault.retry_after))


def scripts_of_runs() -> Iterator[tuple[str, FaultScript]]:
    """Runs that publish in spite of faults, and runs that fail in every way a response can make them."""
    for seed in range(1_000):
        once = {2: ECHOES[seed % len(ECHOES)], 4: Echo(500, PROMPTS["echo"])}
        yield f"{once[2].kind} once", FaultScript.of(once)
        yield "faults by chance", FaultScript.seeded(seed, rate=0.15, kinds=(*PASSING, *LIES))
        yield "refusals by chance", FaultScript.seeded(seed, rate=0.2, kinds=(*REFUSALS, *ECHOES[:6]))


@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")  # Dagster's own, of its own
@pytest.mark.parametrize("kept", ["none", "full"])
def test_no_run_leaves_a_key_anywhere_nor_a_prompt_outside_the_lake_nor_under_none_inside(
    server: EmulatorServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dose: Dose, figure: Figure, kept: str
) -> None:
    probes = Probes([server.v2_key, server.v3_key])
    wanted = dose(1_000)
    set_environment(monkeypatch, server, tmp_path, "both", DAYS[0], reads_bill=True)
    monkeypatch.setenv("DEVIN_TEXT", kept)
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((Path(__file__).parents[2] / "dagster.yaml").read_text() + DEBUG_LOGS)
    runs = 0
    for how, script in scripts_of_runs():
        server.enterprise.remove_verbatim("sessions_v3")
        odd = {"session_id": runs, "created_at": int(WINDOWS[0].start.timestamp()), "title": PROMPTS["quarantine"]}
        server.enterprise.insert_verbatim("sessions_v3", WINDOWS[0].start, json.dumps(odd))
        server.script(script)
        done = run("backfill", "--from", str(DAYS[0]), "--to", str(DAYS[-1]), folder=tmp_path, env=dict(os.environ))
        server.script(None)
        runs += 1
        assert done.returncode in (0, 1), done.stderr.decode()
        probes.search(f"{how}, {kept}: the command", {"stdout": done.stdout, "stderr": done.stderr})
        if probes.count + 40 >= wanted or runs % 5 == 0:
            break
    with dg.DagsterInstance.get() as instance:
        probes.search("the sensor", {"tick": tick_under(server, instance)})
        probes.search("the Dagster UI", graphql_dump(instance))
    left = files(tmp_path)
    probes.search("what is left", left, prompts_in=lambda sink: kept == "full" and sink.startswith("lake/"))
    if kept == "full":
        in_the_lake = {name: content for name, content in left.items() if name.startswith("lake/")}
        assert found(in_the_lake, [PROMPTS["message"]]) != []
        assert found(in_the_lake, [PROMPTS["name"]]) != []
    figure(f"{probes.count} leak probes after {runs} runs with DEVIN_TEXT={kept}: 0 hits for keys and prompts")


def tick_under(server: EmulatorServer, instance: dg.DagsterInstance) -> bytes:
    """What the sensor makes of an API that quotes keys and prompts."""
    shown: list[str] = []
    for echo in ECHOES:
        server.script(FaultScript.of({0: echo}))
        cursor = json.dumps({"until": (datetime.now(UTC) - timedelta(hours=1)).isoformat()})
        resources = {"devin_api": devin_api_resource(Settings())}
        with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
            try:
                shown.append(repr(late_updates(Settings())(context)))
            except DevinError as error:
                shown.append(full_text_of(error))
    server.script(None)
    return "\n".join(shown).encode()


# That a leak would be found


@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")  # Dagster's own, of its own
def test_what_is_planted_in_any_kind_of_sink_is_found(
    server: EmulatorServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = PROMPTS["message"]

    def finds(sinks: Sinks) -> bool:
        return found(sinks, [secret]) != []

    spellings = forms(secret)
    assert all(finds({"anything": b"before" + spelling + b"after"}) for spelling in spellings.values())
    for shift in range(7):
        packed = base64.b64encode(b"b" * shift + secret.encode() + b"after")
        assert finds({"base64": packed})
        assert finds({"base64": base64.urlsafe_b64encode(base64.b64decode(packed))})
    assert not finds({"anything": secret[:-1].encode()})

    def fails() -> None:
        here = secret
        raise ValueError(f"{len(here)} characters are too many")

    with every_logger_at_debug() as log:
        logging.getLogger("urllib3").debug("%s came", {"title": secret})
        logging.getLogger("dagster").debug("nothing came", extra={"title": secret})
    assert [finds({"log": written.encode()}) for written in log.written] == [True, True]
    with pytest.raises(ValueError, match="too many") as caught:
        fails()
    assert finds({"errors": full_text_of(caught.value).encode()})

    lake = tmp_path / "lake"
    lake.mkdir()
    pq.write_table(pa.table({"payload": [["x", secret]]}), lake / "part.parquet", compression="zstd")
    with closing(sqlite3.connect(tmp_path / "events.db")) as events:
        events.execute("create table events (number integer, event text)")
        # Longer than a page of the file, so that the canary may be split over two of them.
        events.executemany("insert into events values (?, ?)", [(n, "x" * n + secret) for n in range(4_000, 4_100)])
        events.commit()
    with duckdb.connect(str(tmp_path / "devin.duckdb")) as catalog:
        catalog.execute(f"create view titles as select {quoted(secret)} as title")
    (tmp_path / "stdout").write_text(json.dumps({"title": secret}))
    left = files(tmp_path)
    for name in ("lake/part.parquet, its values", "events.db, its rows", "devin.duckdb, its views", "stdout"):
        assert finds({name: left[name]}), name

    set_environment(monkeypatch, server, tmp_path, "v3", DAYS[0])

    @dg.op
    def leak() -> None:
        raise dg.Failure(secret, metadata={"title": secret})

    @dg.job
    def leaks() -> None:
        leak()

    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.get() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("sessions", metadata={"title": secret}))
        leaks.execute_in_process(instance=instance, raise_on_error=False)
        dump = graphql_dump(instance)
    assert {name for name, text in dump.items() if finds({name: text})} >= {
        "GraphQL runsOrError",
        "GraphQL assetNodes",
        "GraphQL assetsOrError",
    }


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
