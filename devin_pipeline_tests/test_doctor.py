"""The doctor: what it finds when all is well, and which one check reports each thing that is not."""

import base64
import json
import logging
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.types import DaemonHeartbeat
from dagster_shared.error import SerializableErrorInfo

from devin_pipeline.billing_calendar import day_of
from devin_pipeline.cli import main
from devin_pipeline.doctor import CheckResult, examine
from devin_pipeline.lake import Lake, LakeIdentity
from devin_pipeline.settings import Settings
from devin_pipeline.tables import MONEY_TABLES, ROLLUP_TABLES, SESSIONS, TABLES
from devin_pipeline.usage_report import STORED_REPORT
from devin_pipeline_tests.devin_api.scripted import (
    V2_KEY,
    V3_KEY,
    Asked,
    Reply,
    Served,
    Session,
    days,
    honest_v2,
    honest_v3,
    json_reply,
    page_v3,
    reset,
    serving,
    sessions,
)
from devin_pipeline_tests.harness import PipelineHarness
from devin_pipeline_tests.tables.rows import rows_of

pytestmark = pytest.mark.notices(
    "a check that stops the others",
    "a schedule that was switched off",
    "a clock that is behind",
    "a filter of updates that is ignored",
    "a page that comes in another order",
    "a window that includes its end",
    "a hole between days",
    "a daemon that is silent",
    "days another lake has",
)

RAW_SESSIONS_V3 = TABLES["raw_sessions_v3"]
MakeHarness = Callable[..., PipelineHarness]
Found = dict[tuple[str, str], CheckResult]
Answering = Callable[[Asked], Reply]

PROJECT = Path(__file__).parent.parent
FEEDS = ("raw_session_insights_v2", "raw_sessions_v3", "raw_session_insights_v3")
OWNER: dict[str, object] = {"principal_type": "service_user", "service_user_name": "reader", "org_id": None}
OVER = days(4, datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=10))
OF_V2, OF_V3 = sessions(40, OVER, "v2"), sessions(40, OVER, "v3")


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def found() -> Found:
    return {(each.name, each.subject): each for each in examine(Settings())}


def outcomes(findings: Found, outcome: str) -> set[tuple[str, str]]:
    return {key for key, finding in findings.items() if finding.outcome == outcome}


@pytest.fixture
def harness(make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PipelineHarness:
    """An emulator with six days of sessions, both keys; commands run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEVIN_TEXT", raising=False)
    return make_harness("both", sessions=60, days=6)


def honest(asked: Asked) -> Reply:
    if asked.path == "/v3/self":
        return json_reply(OWNER)
    return honest_v2(OF_V2, asked) if asked.path.startswith("/v2/") else honest_v3(OF_V3, asked)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Serve a script while a `with` block lasts, with every setting pointing at it."""
    monkeypatch.chdir(tmp_path)

    @contextmanager
    def serve(script: Answering = honest, *, clock: datetime | None = None) -> Iterator[Served]:
        with serving(script, clock=clock or datetime.now(UTC)) as served:
            for name in ("FEEDS", "ORG_ID", "DAY_STARTS_AT_UTC_HOUR", "PIPELINE_DEMO", "TEXT", "START_DATE"):
                monkeypatch.delenv(f"DEVIN_{name}", raising=False)
            for name, value in {
                "DEVIN_API_URL": served.url,
                "DEVIN_V2_API_KEY": V2_KEY,
                "DEVIN_V3_API_KEY": V3_KEY,
                "DEVIN_LAKE": str(tmp_path / "lake"),
                "DAGSTER_HOME": str(tmp_path / "home"),
            }.items():
                monkeypatch.setenv(name, value)
            yield served

    return serve


# When all is well


def test_what_is_missing_is_named_with_the_command_that_adds_it(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = found()["closed_days", ""]
    assert (missing.outcome, missing.found.startswith("none of ")) == ("warning", True)
    assert list(tmp_path.iterdir()) == []

    first = str(harness.days[0])
    assert run("backfill", "--from", first, "--to", first).exit_code == 0
    before = sorted(path.relative_to(harness.lake.uri) for path in Path(harness.lake.uri).rglob("*"))
    result = run("doctor", "--json")
    assert result.exit_code == 1, result.output
    checks = {(check["name"], check["subject"]): check for check in json.loads(result.stdout)["checks"]}
    assert [key for key, check in checks.items() if check["outcome"] == "failed"] == [("closed_days", "")]
    gap = checks["closed_days", ""]
    assert f" are not made: {harness.days[1]} … " in gap["found"]
    assert set(gap) == {"name", "subject", "outcome", "found", "todo"}
    with monkeypatch.context() as unset:
        unset.delenv("DEVIN_START_DATE")
        # No day before the first one made was asked for.
        assert found()["closed_days", ""].todo == gap["todo"]

    assert run(*shlex.split(gap["todo"].removeprefix("devin-pipeline "))).exit_code == 0
    result = run("doctor")
    assert result.exit_code == 0, result.output
    findings = found()
    assert outcomes(findings, "failed") == set()
    assert outcomes(findings, "warning") == set()
    assert outcomes(findings, "unknown") == {("owner", "DEVIN_V2_API_KEY")}
    of_the_bill = {(check, table.name) for check in ("bill", "refusals") for table in MONEY_TABLES}
    assert outcomes(findings, "skipped") == {("daemon", ""), *of_the_bill}
    assert "service_user analytics pipeline" in findings["owner", "DEVIN_V3_API_KEY"].found
    assert {findings["created_window", feed].found.split(":")[0] for feed in FEEDS} == {"[start, end]", "[start, end)"}
    # It looked, and changed nothing.
    after = sorted(path.relative_to(harness.lake.uri) for path in Path(harness.lake.uri).rglob("*"))
    assert set(before) <= set(after)
    assert not [path for path in after if "written" in path.name]

    # Days before the first one made, which nobody asked for.
    monkeypatch.delenv("DEVIN_START_DATE")
    asked_for = found()["closed_days", ""]
    assert (asked_for.outcome, f" from {first} to " in asked_for.found) == ("ok", True)
    monkeypatch.setenv("DEVIN_START_DATE", str(harness.days[0] - timedelta(days=1)))
    assert found()["closed_days", ""].outcome == "warning"


def test_a_line_per_check_says_what_was_found_and_the_next_what_to_do(scripted: Callable[..., Any]) -> None:
    strange: dict[str, object] = OWNER | {"service_user_name": "\x1b[2Jreader\nok  all"}
    with scripted(lambda asked: json_reply(strange) if asked.path == "/v3/self" else honest(asked)):
        result = run("doctor")
    assert result.exit_code == 0, result.output
    shown = result.stdout.splitlines()
    assert all(re.match(r"(ok|warning|failed|skipped|unknown) +\S|          → \S", line) for line in shown[:-1])
    assert re.fullmatch(r"\d+ ok, 1 warning, \d+ skipped, \d+ unknown\.", shown[-1])
    assert "service_user \\x1b[2Jreader\\nok  all, of the whole enterprise" in result.stdout
    assert "key DEVIN_V3_API_KEY: cog_…89 has the shape of a key" in result.stdout
    assert "key DEVIN_V2_API_KEY: apk_user_…89 has" in result.stdout


def test_the_demo_is_looked_at_only_once_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("doctor", "--demo")
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])


# The keys and what they open


def test_of_limited_keys_the_missing_permission_is_named(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_V2_API_KEY", harness.server.limited_v2_key)
    monkeypatch.setenv("DEVIN_V3_API_KEY", harness.server.limited_v3_key)
    findings = found()
    assert outcomes(findings, "failed") == {("endpoint", feed) for feed in FEEDS}
    for feed in FEEDS[1:]:
        assert "403" in findings["endpoint", feed].found
        assert "ViewAccountSessions" in findings["endpoint", feed].todo
    assert "Enterprise Admin" in findings["endpoint", FEEDS[0]].todo
    assert "newcomer without permissions" in findings["owner", "DEVIN_V3_API_KEY"].found
    assert {findings["pages_and_windows", feed].outcome for feed in FEEDS} == {"skipped"}
    assert run("doctor").exit_code == 1


def test_an_unknown_key_and_an_endpoint_that_is_gone_are_distinguished(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(lambda asked: Reply(status=404 if asked.path.endswith("/insights") else 401)):
        findings = found()
    assert "does not know the key in DEVIN_V3_API_KEY, or it has expired" in findings["endpoint", FEEDS[1]].found
    assert "is gone" in findings["endpoint", FEEDS[2]].found
    assert findings["owner", "DEVIN_V3_API_KEY"].outcome == "unknown"


def test_swapped_keys_are_sent_nowhere_and_the_variables_they_belong_in_are_named(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_V2_API_KEY", harness.server.v3_key)
    monkeypatch.setenv("DEVIN_V3_API_KEY", harness.server.v2_key)
    findings = found()
    assert outcomes(findings, "failed") == {("key", "DEVIN_V2_API_KEY"), ("key", "DEVIN_V3_API_KEY")}
    assert "belongs in DEVIN_V3_API_KEY" in findings["key", "DEVIN_V2_API_KEY"].todo
    assert f"cog_…{harness.server.v3_key[-4:]}" in findings["key", "DEVIN_V2_API_KEY"].found
    assert harness.server.requests == []


def test_without_a_key_the_rest_is_looked_at_and_what_to_set_is_named(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DEVIN_V2_API_KEY", "DEVIN_V3_API_KEY"):
        monkeypatch.delenv(name)
    findings = found()
    assert outcomes(findings, "failed") == {("feeds", "")}
    assert findings["feeds", ""].todo == "Set one or both"
    assert findings["lake_is_writable", ""].outcome == "ok"


def test_a_feed_that_is_left_out_is_asked_once_and_never_fails(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_V2_API_KEY", harness.server.limited_v2_key)
    monkeypatch.setenv("DEVIN_FEEDS", "raw_sessions_v3")
    findings = found()
    assert outcomes(findings, "failed") == set()
    assert findings["endpoint", FEEDS[0]].outcome == findings["endpoint", FEEDS[2]].outcome == "skipped"
    assert "it would fail: the key in DEVIN_V2_API_KEY lacks the permission" in findings["endpoint", FEEDS[0]].found
    assert "it would answer" in findings["endpoint", FEEDS[2]].found
    assert len([request for request in harness.server.requests if request.path.endswith("/insights")]) == 2


def test_one_organization_is_asked_through_its_own_endpoints(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    org_id = harness.enterprise.organizations[0].org_id
    monkeypatch.setenv("DEVIN_ORG_ID", org_id)
    assert outcomes(found(), "failed") == set()
    assert all(org_id in request.path for request in harness.server.requests if request.path != "/v3/self")


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        ({"principal_type": "pat_user", "org_id": None}, "no service user"),
        ({"principal_type": "service_user", "org_id": "org-1"}, "organization org-1 only"),
    ],
)
def test_a_key_of_a_person_or_of_one_organization_gets_a_warning(
    scripted: Callable[..., Any], owner: dict[str, object], expected: str
) -> None:
    with scripted(lambda asked: json_reply(owner) if asked.path == "/v3/self" else honest(asked)):
        finding = found()["owner", "DEVIN_V3_API_KEY"]
    assert finding.outcome == "warning"
    assert expected in finding.found
    assert "DEVIN_V3_API_KEY" in finding.todo


@pytest.mark.parametrize(
    ("setting", "value", "check"),
    [
        ("DEVIN_API_URL", "http://api.devin.ai", ("address", "")),
        ("DEVIN_API_URL", "https://[", ("address", "")),
        ("DEVIN_ORG_ID", "a/b", ("scope", "")),
        ("DEVIN_FEEDS", "raw_sessions_v4", ("feeds", "")),
        ("DEVIN_START_DATE", "2026-02-30", ("days", "")),
        ("DEVIN_DAY_STARTS_AT_UTC_HOUR", "24", ("days", "")),
        ("DEVIN_KEEP_RUNS_DAYS", "0", ("old_runs", "")),
        ("DEVIN_TEXT", "some", ("text", "")),
        ("DEVIN_REPORT", "some", ("stored_report", "")),
        ("DEVIN_LAKE", "100%", ("lake", "")),
        ("DEVIN_LAKE", "/etc/hostname/lake", ("lake", "")),
    ],
)
def test_a_setting_that_cannot_be_used_fails_its_check_and_stops_no_other(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, check: tuple[str, str]
) -> None:
    monkeypatch.setenv(setting, value)
    findings = found()
    assert findings[check].outcome == "failed"
    assert findings[check].todo
    others = {"address", "key", "feeds", "scope", "days", "endpoint", "lake", "text", "closed_days", "DAGSTER_HOME"}
    assert others <= {name for name, _ in findings}
    assert run("doctor").exit_code == 1


def test_a_report_that_is_stored_though_runs_write_none_any_more_gets_a_warning(harness: PipelineHarness) -> None:
    assert found()["stored_report", ""].outcome == "ok"
    path = harness.lake.write_document(STORED_REPORT, b"old", "The report")
    finding = found()["stored_report", ""]
    assert (finding.outcome, finding.todo) == ("warning", f"Delete {path}")
    Path(path).unlink()


def test_an_api_that_does_not_answer_fails_its_endpoints_and_nothing_else(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.server.stop()
    findings = found()
    assert outcomes(findings, "failed") == {("endpoint", feed) for feed in FEEDS}
    assert "Check DEVIN_API_URL and the network" in findings["endpoint", FEEDS[0]].todo
    assert findings["clock", ""].outcome == "unknown"


@pytest.mark.parametrize(
    ("variable", "value"), [("ALL_PROXY", "foo://hunter2"), ("no_proxy", "host:hunter2"), ("SSL_CERT_FILE", "/hunter2")]
)
def test_a_proxy_or_certificates_that_cannot_be_used_fail_a_check_by_the_variables_name(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("DEVIN_API_URL", "https://127.0.0.1:9")
    monkeypatch.setenv(variable, value)
    findings = found()
    failed = findings["proxies_and_certificates", ""]
    assert (failed.outcome, variable in failed.found, variable in failed.todo) == ("failed", True, True)
    assert findings["endpoint", ""].outcome == "skipped"
    assert "hunter2" not in repr(findings)
    # The others are made.
    assert findings["lake_is_writable", ""].outcome == "ok"


def test_proxies_and_certificates_that_can_be_used_pass_their_check(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found()["proxies_and_certificates", ""].outcome == "ok"
    monkeypatch.setenv("ALL_PROXY", "socks5h://127.0.0.1:9")
    monkeypatch.setenv("DEVIN_API_URL", "https://api.devin.invalid")
    findings = found()
    assert findings["proxies_and_certificates", ""].outcome == "ok"
    assert "to the proxy of ALL_PROXY" in findings["endpoint", FEEDS[0]].found


# What the API does


@pytest.mark.parametrize(
    ("behind", "outcome", "expected"),
    [
        (timedelta(seconds=50), "ok", ""),
        (timedelta(seconds=-50), "ok", ""),
        (timedelta(seconds=75), "warning", "s ahead of the API's"),
        (timedelta(hours=-1), "warning", "s behind the API's"),
    ],
)
def test_a_clock_that_is_off_by_more_than_a_minute_gets_a_warning(
    scripted: Callable[..., Any], behind: timedelta, outcome: str, expected: str
) -> None:
    with scripted(clock=datetime.now(UTC) - behind):
        finding = found()["clock", ""]
    assert finding.outcome == outcome
    assert expected in finding.found


def test_a_server_that_sends_no_time_leaves_the_clock_unknown(scripted: Callable[..., Any]) -> None:
    def without_date(asked: Asked) -> Reply:
        body = honest(asked).body

        def instead(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )

        return Reply(instead=instead)

    with scripted(without_date):
        findings = found()
    assert findings["clock", ""].outcome == "unknown"
    assert outcomes(findings, "failed") == set()


def of_sessions_v3(reply: Callable[[Asked, Sequence[Session]], Reply]) -> Answering:
    """Honest, but for what the plain v3 feed returns."""
    return lambda asked: reply(asked, OF_V3) if asked.path == "/v3/enterprise/sessions" else honest(asked)


def with_total(asked: Asked, every: Sequence[Session], more: int) -> Reply:
    page = json.loads(honest_v3(every, asked).body)
    return json_reply(page | {"total": page["total"] + more if page["total"] else 0})


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (lambda asked, every: page_v3(every[: int(asked.one("first"))]), "sessions created in 2015"),
        (
            lambda asked, every: page_v3(every[:5]) if "updated_after" in asked.query else honest_v3(every, asked),
            "sessions updated in 2015",
        ),
        (
            lambda asked, every: (
                honest_v3(every, asked) if int(asked.one("created_before", "0")) < 1_500_000_000 else page_v3(every[:9])
            ),
            "outside the hour",
        ),
        (lambda asked, every: with_total(asked, every, 3), "are stated for an hour that lists"),
    ],
)
def test_a_filter_that_does_not_filter_fails(
    scripted: Callable[..., Any], reply: Callable[[Asked, Sequence[Session]], Reply], says: str
) -> None:
    with scripted(of_sessions_v3(reply)):
        findings = found()
    assert findings["filter", FEEDS[1]].outcome == "failed"
    assert says in findings["filter", FEEDS[1]].found
    assert findings["filter", FEEDS[2]].outcome == "ok"


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (lambda asked, every: honest_v3(every[:: (-1) ** asked.number], asked), "with other sessions"),
        (
            lambda asked, every: honest_v3([*every[:10][:: (-1) ** asked.number], *every[10:]], asked),
            "in another order",
        ),
    ],
)
def test_a_page_that_comes_otherwise_the_second_time_gets_a_warning(
    scripted: Callable[..., Any], reply: Callable[[Asked, Sequence[Session]], Reply], says: str
) -> None:
    with scripted(of_sessions_v3(reply)):
        findings = found()
    assert findings["page_is_stable", FEEDS[1]].outcome == "warning"
    assert says in findings["page_is_stable", FEEDS[1]].found
    assert "newest first" in findings["page_is_stable", FEEDS[2]].found


def moved(asked: Asked, by: int, bounds: Sequence[str]) -> Asked:
    """The request as a server understands it whose bounds are a second elsewhere."""
    query = {
        name: [str(int(values[0]) + by)] if name.endswith(tuple(bounds)) else values
        for name, values in asked.query.items()
    }
    return Asked(asked.number, asked.path, query, asked.headers)


@pytest.mark.parametrize(
    ("bounds", "outcome", "expected"),
    [
        ([], "ok", "[start, end): half-open"),
        (["ed_before"], "ok", "[start, end]: its end belongs to it too"),
        (["created_after", "created_before"], "failed", "its start does not belong to it"),
    ],
)
def test_how_a_window_ends_is_reported_and_one_that_loses_its_start_fails(
    scripted: Callable[..., Any], bounds: Sequence[str], outcome: str, expected: str
) -> None:
    with scripted(of_sessions_v3(lambda asked, every: honest_v3(every, moved(asked, 1, bounds)))):
        findings = found()
    assert findings["created_window", FEEDS[1]].outcome == outcome
    assert expected in findings["created_window", FEEDS[1]].found
    # The end of a v2 window is not documented; the script takes it as inclusive.
    assert "[start, end]" in findings["created_window", FEEDS[0]].found


def test_sessions_without_a_usable_id_or_under_another_in_v2_are_reported(scripted: Callable[..., Any]) -> None:
    others = [session | {"session_id": f"other-{n}"} for n, session in enumerate(OF_V2)]

    def script(asked: Asked) -> Reply:
        if asked.path.startswith("/v2/"):
            return honest_v2(others, asked)
        nameless = [session | {"session_id": ""} if n % 10 == 3 else session for n, session in enumerate(OF_V3)]
        return honest_v3(nameless, asked) if asked.path == "/v3/enterprise/sessions" else honest(asked)

    with scripted(script):
        findings = found()
    assert findings["ids_match_across_versions", ""].outcome == "failed"
    assert findings["items", FEEDS[1]].outcome == "warning"
    assert "2 of 20 sessions cannot be placed: session_id is not usable (2)" in findings["items", FEEDS[1]].found
    assert findings["items", FEEDS[2]].outcome == "ok"


def test_an_enterprise_without_sessions_is_well_and_what_cannot_be_seen_is_unknown(
    scripted: Callable[..., Any],
) -> None:
    def script(asked: Asked) -> Reply:
        if asked.path == "/v3/self":
            return json_reply(OWNER)
        return honest_v2([], asked) if asked.path.startswith("/v2/") else honest_v3([], asked)

    with scripted(script):
        findings = found()
    assert outcomes(findings, "failed") == set()
    for check in ("page_is_stable", "items", "created_window", "updated_window"):
        assert findings[check, FEEDS[1]].outcome == "unknown"
    assert findings["filter", FEEDS[1]].outcome == "ok"


# The lake


def test_a_lake_of_others_is_reported_and_not_written(scripted: Callable[..., Any], tmp_path: Path) -> None:
    theirs = LakeIdentity(kind="live", host="127.0.0.1", scope="org-1", day_starts_at_utc_hour=8)
    Lake(str(tmp_path / "lake")).claim(theirs)
    with scripted():
        findings = found()
    assert outcomes(findings, "failed") == {("lake", "")}
    assert "scope is 'org-1', not 'enterprise'" in findings["lake", ""].found
    assert {findings[name, ""].outcome for name in ("lake_is_writable", "disk", "closed_days")} == {"skipped"}


def test_a_lake_on_a_full_disk_fails(scripted: Callable[..., Any], tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with scripted():
        # Every write to a file fails, as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            findings = found()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert outcomes(findings, "failed") == {("lake_is_writable", "")}
    assert "free space" in findings["lake_is_writable", ""].todo
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lake_mode", "table_mode", "file_mode", "text", "outcome"),
    [
        (0o755, 0o755, 0o644, "full", "warning"),
        (0o755, 0o700, 0o644, "full", "ok"),
        (0o755, 0o755, 0o600, "full", "ok"),
        (0o700, 0o755, 0o644, "full", "ok"),
        (0o755, 0o755, 0o644, "none", "ok"),
    ],
)
def test_prompts_that_others_may_read_get_a_warning(
    scripted: Callable[..., Any],
    harness: PipelineHarness,
    monkeypatch: pytest.MonkeyPatch,
    lake_mode: int,
    table_mode: int,
    file_mode: int,
    text: str,
    outcome: str,
) -> None:
    # pytest's own folders are closed to others.
    with tempfile.TemporaryDirectory() as folder, scripted():
        lake = Path(folder) / "lake"
        Lake(str(lake)).replace_days(SESSIONS, harness.days[:1], rows_of(SESSIONS, [{"day": harness.days[0]}]))
        for file in (lake / "sessions").rglob("*.parquet"):
            file.chmod(file_mode)
        (lake / "sessions").chmod(table_mode)
        for opened in (lake, Path(folder)):
            opened.chmod(lake_mode)
        monkeypatch.setenv("DEVIN_LAKE", str(lake))
        monkeypatch.setenv("DEVIN_TEXT", text)
        finding = found()["lake_permissions", ""]
    assert finding.outcome == outcome
    assert (f"chmod 700 {lake}" in finding.todo) == (outcome == "warning")
    assert ("files of sessions," in finding.found) == (outcome == "warning")


def test_what_is_stored_of_prompts_is_reported_plainly(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stored(redacted: str | None) -> None:
        version = {"day": harness.days[0], "payload": "{}", "redacted": redacted}
        harness.lake.replace_days(RAW_SESSIONS_V3, [harness.days[0]], rows_of(RAW_SESSIONS_V3, [version]))

    stored(None)
    assert "prompts, titles and analyses are stored as sent" in found()["text", ""].found
    monkeypatch.setenv("DEVIN_TEXT", "none")
    kept = found()["text", ""]
    assert (kept.outcome, kept.todo) == ("warning", "Remove it: devin-pipeline forget --text")
    assert "but 1 versions stored before" in kept.found
    stored("text")
    assert found()["text", ""].outcome == "ok"


def test_a_disk_that_is_nearly_full_gets_a_warning(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(2**40, 2**40 - 2**29, 2**29))
    with scripted():
        finding = found()["disk", ""]
    assert (finding.outcome, finding.found) == ("warning", "0.5 GiB are free")


# Dagster


@pytest.fixture
def home(scripted: Callable[..., Any], tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "home").mkdir()
    shutil.copyfile(PROJECT / "dagster.yaml", tmp_path / "home" / "dagster.yaml")
    with scripted():
        for name in ("DEVIN_V2_API_KEY", "DEVIN_V3_API_KEY"):
            del os.environ[name]
        with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
            yield instance


def test_a_new_home_has_everything_on_and_no_daemon(home: dg.DagsterInstance) -> None:
    findings = found()
    assert findings["schedule", "daily_refresh"].outcome == findings["sensor", "late_updates"].outcome == "ok"
    assert findings["daemon", ""].outcome == "skipped"
    assert findings["last_run", ""].outcome == "skipped"


@pytest.mark.parametrize("status", [InstigatorStatus.STOPPED, InstigatorStatus.RUNNING])
def test_a_schedule_that_was_switched_off_or_whose_tick_failed_gets_a_warning(
    home: dg.DagsterInstance, status: InstigatorStatus
) -> None:
    location = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(module_name="devin_pipeline.definitions"), location_name="devin_pipeline"
    )
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), "daily_refresh")
    state = home.add_instigator_state(
        InstigatorState(origin, InstigatorType.SCHEDULE, status, ScheduleInstigatorData("30 8 * * *"))
    )
    home.create_tick(
        TickData(
            instigator_origin_id=state.instigator_origin_id,
            instigator_name="daily_refresh",
            instigator_type=InstigatorType.SCHEDULE,
            status=TickStatus.FAILURE,
            timestamp=datetime(2026, 1, 31, 8, 30, tzinfo=UTC).timestamp(),
            selector_id=state.selector_id,
            error=SerializableErrorInfo("a canary prompt", [], None),
        )
    )
    findings = found()
    assert findings["schedule", "daily_refresh"].outcome == "warning"
    is_off = status is InstigatorStatus.STOPPED
    reason = "it is off" if is_off else "its last tick failed, at 2026-01-31 08:30 UTC"
    assert reason in findings["schedule", "daily_refresh"].found
    assert "devin-pipeline ui" in findings["schedule", "daily_refresh"].todo
    assert findings["sensor", "late_updates"].outcome == "ok"
    assert "canary" not in repr(findings)


@pytest.mark.parametrize(("ago", "outcome"), [(timedelta(seconds=40), "ok"), (timedelta(days=3), "warning")])
def test_a_daemon_is_alive_while_its_heart_beats(home: dg.DagsterInstance, ago: timedelta, outcome: str) -> None:
    home.add_daemon_heartbeat(DaemonHeartbeat((datetime.now(UTC) - ago).timestamp(), "SENSOR", "some-id"))
    finding = found()["daemon", ""]
    assert finding.outcome == outcome
    assert ("no heartbeat since" in finding.found) == (outcome == "warning")


def test_a_hole_between_days_fails_and_history_that_was_never_asked_for_does_not(
    home: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    today = day_of(datetime.now(UTC), 8)
    first = today - timedelta(days=30)
    monkeypatch.setenv("DEVIN_START_DATE", first.isoformat())
    lake = Lake(str(tmp_path / "lake"))

    def make(start: int, end: int, *, of: Lake = lake) -> None:
        for table in ROLLUP_TABLES:
            for n in range(start, end):
                day = (first + timedelta(days=n)).isoformat()
                metadata: dict[str, str | int] = {"dagster/uri": of.location(table), "dagster/partition_row_count": 0}
                home.report_runless_asset_event(dg.AssetMaterialization(table.name, partition=day, metadata=metadata))

    make(0, 31, of=Lake(str(tmp_path / "another")))
    assert found()["closed_days", ""].found.startswith("none of ")
    make(20, 31)
    missing = found()["closed_days", ""]
    assert (missing.outcome, missing.found.startswith("20 of ")) == ("warning", True)
    make(10, 11)
    missing = found()["closed_days", ""]
    assert missing.outcome == "failed"
    hole = f"{first} … {first + timedelta(days=9)}, {first + timedelta(days=11)} … {first + timedelta(days=19)}"
    assert missing.found.endswith(f" are not made: {hole}")
    todo = f"backfill --from {first} --to {first + timedelta(days=19)} --only-missing"
    assert missing.todo == f"devin-pipeline {todo}"
    make(0, 20)
    assert found()["closed_days", ""].outcome == "ok"


def test_a_last_run_that_failed_gets_a_warning(home: dg.DagsterInstance) -> None:
    @dg.op
    def fails() -> None:
        raise ValueError("a canary prompt")

    @dg.job
    def refresh() -> None:
        fails()

    refresh.execute_in_process(instance=home, raise_on_error=False)
    findings = found()
    assert findings["last_run", ""].outcome == "warning"
    assert "canary" not in repr(findings)


def test_a_home_that_dagster_cannot_open_fails_and_the_rest_is_looked_at(
    scripted: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("storage: nonsense")
    with scripted():
        findings = found()
    assert ("DAGSTER_HOME", "") in outcomes(findings, "failed")
    assert findings["lake", ""].outcome == "ok"


# What it never says


def test_no_key_is_in_anything_it_prints_logs_or_gives(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    keys = f"{V2_KEY} {V3_KEY}"
    echoed = [{"loc": ["query", keys], "msg": keys, "input": keys}]
    faults = [
        *(Reply(keys.encode(), status, {"Location": f"/{V3_KEY}"}) for status in (200, 302, 401, 403, 404, 429, 500)),
        json_reply({"detail": keys}, 403),
        json_reply({"detail": keys}),
        Reply(instead=reset),
        Reply(b"\x1f\x8bnonsense" + keys.encode(), headers={"Content-Encoding": "gzip"}),
    ]
    own = [json_reply({"detail": [echoed[0] | {"loc": [key], "msg": key}]}, 422) for key in (V2_KEY, V3_KEY)]
    scripts: list[Answering] = [honest, *(lambda asked, fault=fault: fault for fault in faults)]
    scripts.append(lambda asked: own["/v3/" in asked.path])
    outputs: list[str] = []
    for script in scripts:
        with scripted(script):
            for words in (["doctor"], ["doctor", "--json"]):
                result = run(*words)
                outputs += [result.output, repr(result.exception)]
    for bad in (f"{V2_KEY} x", f"{V3_KEY}ä", f'"{V3_KEY}"', V3_KEY.removeprefix("cog_")):
        with scripted():
            monkeypatch.setenv("DEVIN_V2_API_KEY", bad)
            monkeypatch.setenv("DEVIN_V3_API_KEY", bad)
            outputs.append(run("doctor").output)
    text = "\n".join([*outputs, caplog.text])
    assert len(outputs) > 25
    for key in (V2_KEY, V3_KEY):
        secret = key.removeprefix("apk_user_").removeprefix("cog_")
        for form in (key, secret, quote(key), base64.b64encode(key.encode()).decode(), secret[-5:]):
            assert form not in text


def test_it_is_one_of_the_commands_that_start_without_dagster() -> None:
    """The module is loaded by its command only: the others are quick to start."""
    code = (
        "import sys, devin_pipeline.cli; sys.exit('dagster' in sys.modules or 'devin_pipeline.doctor' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.notices("sessions that Devin counts and nobody stored")
def test_what_devin_counts_is_set_next_to_what_is_stored(make_harness: MakeHarness) -> None:
    harness = make_harness("v3", sessions=120, days=10)
    assert found()["counts", ""].outcome == "unknown"
    harness.build()
    said = found()["counts", ""]
    assert said.outcome == "ok"
    counts = re.search(r"counts (\d+) sessions and (\d+) pull .* stored are (\d+) and (\d+)\.", said.found)
    assert counts is not None
    assert counts[1] == counts[3] != "0"
    assert counts[2] == counts[4] != "0"

    for _ in range(5):
        harness.enterprise.add_session(created_at=datetime.now(UTC) - timedelta(days=4))
    missing = found()["counts", ""]
    assert missing.outcome == "warning"
    assert "devin-pipeline backfill --from " in missing.todo
    harness.server.billing.refused = {"metrics": 403}
    refused = found()["counts", ""]
    assert (refused.outcome, "(403)" in refused.found) == ("skipped", True)
