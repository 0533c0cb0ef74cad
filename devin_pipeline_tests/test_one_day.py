"""A session counts on exactly one day: when the API corrects its creation time, and when feeds disagree about it."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.cli import main
from devin_pipeline.emulator.sessions import PullRequest
from devin_pipeline.lake import Lake
from devin_pipeline.operations.verify import verify
from devin_pipeline.raw import landing
from devin_pipeline.tables import RAW_SESSION_TABLES
from devin_pipeline_tests.runs import Run, counted_twice, publish, read_feed
from devin_pipeline_tests.stage import Stage, differences, warnings

MakeStage = Callable[..., Stage]


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def with_two_sessions(make_stage: MakeStage, keys: str) -> Stage:
    """Two sessions of 5 and 1 ACUs on the second day, the first with a merged pull request."""
    stage = make_stage(keys, sessions=0, days=3)
    noon = starts_at(stage.days[1], 8) + timedelta(hours=4)
    link = PullRequest("https://github.com/o/r/pull/1", "merged")
    told: dict[str, Any] = {"org_id": "org-1", "updated_at": noon}
    stage.enterprise.add_session(session_id="moves", created_at=noon, acus=Decimal(5), pull_requests=(link,), **told)
    stage.enterprise.add_session(session_id="stays", created_at=noon, acus=Decimal(1), pull_requests=(), **told)
    return stage


def move(stage: Stage, days: int, **told: object) -> None:
    """Have the API correct when a session was created."""
    session = stage.enterprise.session("moves")
    session.created_at += timedelta(days=days)
    for name, value in told.items():
        setattr(session, name, value)


def figures(stage: Stage) -> dict[str, tuple[object, object]]:
    """The sessions and ACUs that rollups and reports add up to, and those of the pull request."""
    (pull_request,) = stage.rows("pull_requests")
    (per_week,) = [row for row in stage.rows("acus_per_merged_pull_request") if row["merged_pull_requests"]]
    return {
        **{
            name: (sum(row["sessions"] for row in stage.rows(name)), sum(row["acus"] for row in stage.rows(name)))
            for name in ("acu_daily", "acu_weekly", "acu_monthly")
        },
        "pull_requests": (pull_request["sessions"], pull_request["acus"]),
        "acus_per_merged_pull_request": (per_week["merged_pull_requests"], per_week["acus_of_merging_sessions"]),
    }


def expected(of_all: int, of_merging: int) -> dict[str, tuple[object, object]]:
    names = ("acu_daily", "acu_weekly", "acu_monthly", "pull_requests", "acus_per_merged_pull_request")
    return {name: (2, Decimal(of_all)) if name.startswith("acu_") else (1, Decimal(of_merging)) for name in names}


@pytest.mark.parametrize("keys", ["v2", "v3", "both"])
def test_a_session_that_moved_counts_once_when_both_days_are_read_again(make_stage: MakeStage, keys: str) -> None:
    stage = with_two_sessions(make_stage, keys)
    stage.make()
    assert figures(stage) == expected(6, 5)
    move(stage, 1)
    stage.make()
    assert figures(stage) == expected(6, 5)
    assert differences(stage) == {}
    assert counted_twice(stage.lake) == []
    versions = stage.versions()
    stage.make()
    assert stage.versions() == versions


@pytest.mark.notices("the day that lost a session is built again")
@pytest.mark.parametrize("keys", ["v3", "both"])
def test_a_run_over_the_new_day_alone_ends_the_old_one_and_builds_it_again(make_stage: MakeStage, keys: str) -> None:
    stage = with_two_sessions(make_stage, keys)
    stage.refresh()
    move(stage, 1, acus=Decimal(7), updated_at=datetime.now(UTC))
    new_day = stage.days[2:]
    result = stage.run(new_day)
    assert result.success
    assert warnings(result) == set()
    assert figures(stage) == expected(8, 7)
    listed = {row["session_id"]: (row["day"], row["is_listed"]) for row in stage.rows("sessions")}
    assert listed == {"moves": (stage.days[2], True), "stays": (stage.days[1], True)}
    for feed in stage.feeds:
        stage.oracle.observe(feed, new_day, stage.listed(feed), datetime.now(UTC))
    assert differences(stage) == {}
    assert verify(stage.lake, 8).is_clean
    # Dagster shows that the other day was built again.
    built = stage.instance.fetch_materializations(dg.AssetKey("acu_daily"), limit=2).records
    assert {record.partition_key for record in built} == {day.isoformat() for day in stage.days[1:]}


def test_a_session_that_moves_back_and_on_and_vanishes_counts_once_all_the_way(make_stage: MakeStage) -> None:
    stage = with_two_sessions(make_stage, "both")
    stage.make()
    for days in (1, -1, -1, 2):
        move(stage, days)
        stage.make()
        assert figures(stage) == expected(6, 5)
    assert differences(stage) == {}
    stage.enterprise.delete_session("moves")
    stage.make()
    assert figures(stage) == expected(6, 5)
    assert differences(stage) == {}
    assert verify(stage.lake, 8).is_clean


def disagree(stage: Stage, updated_at: str = "T07:59:59.7Z") -> tuple[date, date]:
    """One session at a day's edge: v2 sends fractions of a second, v3 rounds up to the next day."""
    edge = starts_at(stage.days[1], 8)
    before = edge - timedelta(milliseconds=300)
    text = f"{before:%Y-%m-%d}T07:59:59.7Z"
    told = {"session_id": "edge", "org_id": "org-1", "acus_consumed": 3, "title": "edge", "status": "exit"}
    v2 = {"created_at": text, "updated_at": f"{before:%Y-%m-%d}{updated_at}", "initial_user_message": "From v2."}
    v3 = {"created_at": int(edge.timestamp()), "updated_at": int(edge.timestamp()), "category": "other"}
    stage.enterprise.insert_verbatim("session_insights_v2", before, json.dumps(told | v2))
    stage.enterprise.insert_verbatim("sessions_v3", edge, json.dumps(told | v3))
    stage.enterprise.insert_verbatim("session_insights_v3", edge, json.dumps(told | v3))
    return stage.days[0], stage.days[1]


@pytest.mark.parametrize("newer", ["v3", "v2"])
def test_feeds_that_disagree_about_the_day_count_a_session_once_and_no_run_flips_it(
    make_stage: MakeStage, newer: str
) -> None:
    stage = make_stage("both", sessions=0, days=3)
    before, after = disagree(stage, "T07:59:59.7Z" if newer == "v3" else "T23:00:00Z")
    (stage.run if newer == "v3" else stage.make)()
    stage.observe()
    stage.oracle = type(stage.oracle)()
    stage.observe()
    assert differences(stage) == {}
    (session,) = stage.rows("sessions")
    assert session["day"] == (after if newer == "v3" else before)
    assert (session["initial_user_message"], session["category"]) == ("From v2.", "other")
    assert [row["acus"] for row in stage.rows("acu_daily")] == [Decimal(3)]
    assert verify(stage.lake, 8).is_clean
    stored = stage.everything()
    for days in ([before], [after], [before, after], stage.days):
        result = stage.run(days)
        assert (result.success, warnings(result) & {"sessions_stay_in_one_day"}) == (True, set())
    assert stage.everything() == stored


@pytest.mark.notices("feeds that disagree about the day")
def test_a_change_in_either_feed_reaches_the_day_that_counts(make_stage: MakeStage) -> None:
    stage = make_stage("both", sessions=0, days=3)
    before, after = disagree(stage)
    stage.make()
    stage.enterprise.remove_verbatim("session_insights_v2")
    edge = starts_at(after, 8) - timedelta(milliseconds=300)
    told = {"session_id": "edge", "org_id": "org-1", "acus_consumed": 4, "initial_user_message": "Changed."}
    times = {"created_at": edge.isoformat(), "updated_at": (edge + timedelta(hours=9)).isoformat()}
    stage.enterprise.insert_verbatim("session_insights_v2", edge, json.dumps(told | times))
    assert stage.run([before]).success
    (session,) = stage.rows("sessions")
    assert (session["day"], session["acus"], session["initial_user_message"]) == (before, Decimal(4), "Changed.")
    assert [(row["day"], row["acus"]) for row in stage.rows("acu_daily")] == [(before, Decimal(4))]
    assert sum(row["acus"] for row in stage.rows("acu_monthly")) == Decimal(4)
    assert verify(stage.lake, 8).is_clean


def land_as_before(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Land what the server lists as code without `moved_to` did: a session stays on the day it left."""
    with monkeypatch.context() as changed:
        changed.setattr(landing, "with_moves", lambda _, added, *__: (added.drop_columns(["is_new"]), set()))
        server = stage.server
        run = Run(server.url, server.v2_key, server.v3_key, stage.lake.uri, stage.feeds, stage.days)
        with run.client() as client:
            for feed in stage.feeds:
                read_feed(client, stage.lake, feed, stage.days)
    # Each day by itself, too.
    for day in stage.days:
        publish(stage.lake, [day])


@pytest.mark.parametrize("keys", ["v3", "both"])
def test_a_lake_that_holds_a_session_on_two_days_is_named_by_verify_and_put_right_by_rebuild(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch, keys: str
) -> None:
    stage = with_two_sessions(make_stage, keys)
    stage.make()
    move(stage, 1)
    land_as_before(stage, monkeypatch)
    assert sum(row["acus"] for row in stage.rows("acu_daily")) == 11

    verdict = verify(stage.lake, 8)
    assert {finding.day for finding in verdict.findings} <= set(stage.days[1:])
    assert {finding.table.name for finding in verdict.findings} >= set(stage.feeds)
    assert verdict.damaged_days() == {}
    shown = run("verify")
    assert shown.exit_code == 1
    assert f"devin-pipeline rebuild --from {stage.days[1]} --to {stage.days[2]}" in shown.stdout
    assert "backfill" not in shown.stdout

    rebuilt = run("rebuild", "--from", stage.days[1].isoformat(), "--to", stage.days[1].isoformat())
    assert rebuilt.exit_code == 0, rebuilt.output
    assert figures(stage) == expected(6, 5)
    assert run("verify").exit_code == 0
    assert counted_twice(stage.lake) == []


def test_feeds_that_disagreed_before_are_named_by_verify_and_put_right_by_rebuild(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage("both", sessions=0, days=3)
    _, after = disagree(stage)
    with monkeypatch.context() as changed:
        # No look at other days: each day is built of what it holds.
        changed.setattr(Lake, "note_links", lambda *_: None)
        for day in stage.days:
            assert stage.run([day]).success
    assert sum(row["acus"] for row in stage.rows("acu_daily")) == 6
    shown = run("verify")
    assert shown.exit_code == 1
    assert "devin-pipeline rebuild" in shown.stdout
    assert run("rebuild").exit_code == 0
    assert [(row["day"], row["acus"]) for row in stage.rows("acu_daily")] == [(after, Decimal(3))]
    assert run("verify").exit_code == 0


def test_a_loss_of_the_notes_of_days_with_sessions_in_common_is_put_right_by_rebuild(make_stage: MakeStage) -> None:
    stage = with_two_sessions(make_stage, "both")
    stage.make()
    move(stage, 1)
    stage.make()
    stored = stage.everything()
    notes = Path(stage.lake.uri) / "linked_days"
    shutil.rmtree(notes)
    notes.mkdir()
    (notes / "2026-01-01_2026-01-02 (copy).json").write_text("")
    assert run("verify").exit_code == 0
    assert run("rebuild").exit_code == 0
    assert stage.everything() == stored
    assert run("verify").exit_code == 0


def damage(stage: Stage, day: date) -> None:
    for table in RAW_SESSION_TABLES:
        for file in stage.lake.snapshot(table).stored_files([day]):
            path = Path(file.path)
            path.write_bytes(path.read_bytes()[: file.size // 2])


@pytest.mark.parametrize("how", ["run", "rebuild"])
def test_a_damaged_day_holds_back_no_day_that_has_sessions_in_common_with_it(make_stage: MakeStage, how: str) -> None:
    stage = with_two_sessions(make_stage, "v3")
    stage.make()
    move(stage, 1)
    stage.make()
    damage(stage, stage.days[1])
    stage.enterprise.session("moves").acus = Decimal(8)
    if how == "run":
        result = stage.run(stage.days[2:])
        assert result.success, [event.message for event in result.all_events if event.is_failure]
        assert {row["acus"] for row in stage.rows("sessions") if row["day"] == stage.days[2]} == {Decimal(8)}
    else:
        assert f"--from {stage.days[1]} --to {stage.days[1]} --repair" in run("rebuild").stderr
    days = ["--from", str(stage.days[0]), "--to", str(stage.days[2])]
    assert run("backfill", *days, "--repair").exit_code == 0
    assert figures(stage) == expected(9, 8)
    assert run("verify").exit_code == 0


def test_a_session_whose_new_day_is_lost_counts_where_it_was(make_stage: MakeStage) -> None:
    stage = with_two_sessions(make_stage, "v3")
    stage.make()
    move(stage, 1)
    stage.make()
    damage(stage, stage.days[2])
    stage.enterprise.delete_session("moves")
    days = ["--from", str(stage.days[1]), "--to", str(stage.days[2])]
    assert run("backfill", *days, "--repair").exit_code == 0
    assert figures(stage) == expected(6, 5)
    assert run("verify").exit_code == 0


def test_a_rebuild_of_a_day_builds_the_day_a_session_left_before_the_start_date(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = with_two_sessions(make_stage, "v3")
    stage.make()
    move(stage, 1)
    land_as_before(stage, monkeypatch)
    monkeypatch.setenv("DEVIN_START_DATE", str(stage.days[2]))
    rebuilt = run("rebuild", "--from", str(stage.days[2]))
    assert rebuilt.exit_code == 0, rebuilt.output
    assert figures(stage) == expected(6, 5)


def test_repair_of_the_day_a_session_left_does_not_bring_it_back(make_stage: MakeStage) -> None:
    stage = with_two_sessions(make_stage, "v3")
    stage.make()
    move(stage, 1)
    stage.make()
    damage(stage, stage.days[1])
    day = stage.days[1].isoformat()
    repaired = run("backfill", "--from", day, "--to", day, "--repair")
    assert repaired.exit_code == 0, repaired.output
    assert figures(stage) == expected(6, 5)
    assert run("verify").exit_code == 0
