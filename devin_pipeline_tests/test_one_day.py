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
from devin_pipeline.derived.publishing import publish_spend
from devin_pipeline.emulator.sessions import PullRequest
from devin_pipeline.lake import Lake
from devin_pipeline.operations.verify import verify
from devin_pipeline.raw.sessions import landing
from devin_pipeline.tables import RAW_SESSION_TABLES, SESSION_ACUS_BY_DAY
from devin_pipeline_tests.harness import PipelineHarness, differences, warnings
from devin_pipeline_tests.runs import Run, counted_twice, publish, read_feed

MakeHarness = Callable[..., PipelineHarness]


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def with_two_sessions(make_harness: MakeHarness, keys: str) -> PipelineHarness:
    """Two sessions of 5 and 1 ACUs on the second day, the first with a merged pull request."""
    harness = make_harness(keys, sessions=0, days=3)
    noon = starts_at(harness.days[1], 8) + timedelta(hours=4)
    link = PullRequest("https://github.com/o/r/pull/1", "merged")
    fields: dict[str, Any] = {"org_id": "org-1", "updated_at": noon}
    harness.enterprise.add_session(
        session_id="moves", created_at=noon, acus=Decimal(5), pull_requests=(link,), **fields
    )
    harness.enterprise.add_session(session_id="stays", created_at=noon, acus=Decimal(1), pull_requests=(), **fields)
    return harness


def move(harness: PipelineHarness, days: int, **changes: object) -> None:
    """Have the API correct when a session was created."""
    session = harness.enterprise.session("moves")
    session.created_at += timedelta(days=days)
    for name, value in changes.items():
        setattr(session, name, value)


def figures(harness: PipelineHarness) -> dict[str, tuple[object, object]]:
    """The sessions and ACUs that rollups and reports add up to, and those of the pull request."""
    (pull_request,) = harness.rows("pull_requests")
    (per_week,) = [row for row in harness.rows("acus_per_merged_pull_request") if row["merged_pull_requests"]]
    return {
        **{
            name: (sum(row["sessions"] for row in harness.rows(name)), sum(row["acus"] for row in harness.rows(name)))
            for name in ("acu_daily", "acu_weekly", "acu_monthly")
        },
        "pull_requests": (pull_request["sessions"], pull_request["acus"]),
        "acus_per_merged_pull_request": (per_week["merged_pull_requests"], per_week["acus_of_merging_sessions"]),
    }


def expected(of_all: int, of_merging: int) -> dict[str, tuple[object, object]]:
    names = ("acu_daily", "acu_weekly", "acu_monthly", "pull_requests", "acus_per_merged_pull_request")
    return {name: (2, Decimal(of_all)) if name.startswith("acu_") else (1, Decimal(of_merging)) for name in names}


@pytest.mark.parametrize("keys", ["v2", "v3", "both"])
def test_a_session_that_moved_counts_once_when_both_days_are_read_again(make_harness: MakeHarness, keys: str) -> None:
    harness = with_two_sessions(make_harness, keys)
    harness.build()
    assert figures(harness) == expected(6, 5)
    move(harness, 1)
    harness.build()
    assert figures(harness) == expected(6, 5)
    assert differences(harness) == {}
    assert counted_twice(harness.lake) == []
    versions = harness.versions()
    harness.build()
    assert harness.versions() == versions


@pytest.mark.notices("the day that lost a session is built again")
def test_a_run_over_the_new_day_alone_ends_the_old_one_and_builds_it_again(make_harness: MakeHarness) -> None:
    harness = with_two_sessions(make_harness, "both")
    harness.build()
    move(harness, 1, acus=Decimal(7), updated_at=datetime.now(UTC))
    new_day = harness.days[2:]
    result = harness.run(new_day)
    assert result.success
    assert warnings(result) == set()
    assert figures(harness) == expected(8, 7)
    listed = {row["session_id"]: (row["day"], row["is_listed"]) for row in harness.rows("sessions")}
    assert listed == {"moves": (harness.days[2], True), "stays": (harness.days[1], True)}
    for feed in harness.feeds:
        harness.oracle.observe(feed, new_day, harness.listed(feed), datetime.now(UTC))
    assert differences(harness) == {}
    assert verify(harness.lake, 8).is_clean
    # Dagster shows that the other day was built again.
    built = harness.instance.fetch_materializations(dg.AssetKey("acu_daily"), limit=9).records
    assert {record.partition_key for record in built} == {day.isoformat() for day in harness.days[1:]}


def test_a_session_that_moves_back_and_on_and_vanishes_counts_once_all_the_way(make_harness: MakeHarness) -> None:
    harness = with_two_sessions(make_harness, "both")
    harness.build()
    for days in (1, -1, -1, 2):
        move(harness, days)
        harness.build()
        assert figures(harness) == expected(6, 5)
    assert differences(harness) == {}
    harness.enterprise.delete_session("moves")
    harness.build()
    assert figures(harness) == expected(6, 5)
    assert differences(harness) == {}
    assert verify(harness.lake, 8).is_clean


def disagree(harness: PipelineHarness, updated_at: str = "T07:59:59.7Z") -> tuple[date, date]:
    """One session at a day's edge: v2 sends fractions of a second, v3 rounds up to the next day."""
    edge = starts_at(harness.days[1], 8)
    before = edge - timedelta(milliseconds=300)
    text = f"{before:%Y-%m-%d}T07:59:59.7Z"
    fields = {"session_id": "edge", "org_id": "org-1", "acus_consumed": 3, "title": "edge", "status": "exit"}
    v2 = {"created_at": text, "updated_at": f"{before:%Y-%m-%d}{updated_at}", "initial_user_message": "From v2."}
    v3 = {"created_at": int(edge.timestamp()), "updated_at": int(edge.timestamp()), "category": "other"}
    harness.enterprise.insert_verbatim("session_insights_v2", before, json.dumps(fields | v2))
    harness.enterprise.insert_verbatim("sessions_v3", edge, json.dumps(fields | v3))
    harness.enterprise.insert_verbatim("session_insights_v3", edge, json.dumps(fields | v3))
    return harness.days[0], harness.days[1]


@pytest.mark.parametrize("newer", ["v3", "v2"])
def test_feeds_that_disagree_about_the_day_count_a_session_once_and_no_run_flips_it(
    make_harness: MakeHarness, newer: str
) -> None:
    harness = make_harness("both", sessions=0, days=3)
    before, after = disagree(harness, "T07:59:59.7Z" if newer == "v3" else "T23:00:00Z")
    harness.build()
    assert differences(harness) == {}
    (session,) = harness.rows("sessions")
    assert session["day"] == (after if newer == "v3" else before)
    assert (session["initial_user_message"], session["category"]) == ("From v2.", "other")
    assert [row["acus"] for row in harness.rows("acu_daily")] == [Decimal(3)]
    assert verify(harness.lake, 8).is_clean
    stored = harness.everything()
    for days in ([before], [after], [before, after], harness.days):
        harness.run_without_dagster(days)()
    result = harness.run([before, after])
    assert (result.success, warnings(result) & {"sessions_stay_in_one_day"}) == (True, set())
    assert harness.everything() == stored


def test_days_around_one_with_sessions_in_common_get_none_of_its_spend(make_harness: MakeHarness) -> None:
    harness = make_harness("both", sessions=0, days=3)
    disagree(harness)
    harness.enterprise.add_session(created_at=starts_at(harness.days[2], 8) + timedelta(hours=1))
    harness.build()
    spend = harness.rows("session_acus_by_day")
    assert [row["day"] for row in spend] == harness.days[1:]
    around = [harness.days[0], harness.days[2]]
    harness.lake.invalidate(around)
    assert publish_spend(harness.lake, around, 8, SESSION_ACUS_BY_DAY).days == around
    assert harness.rows("session_acus_by_day") == spend


@pytest.mark.notices("feeds that disagree about the day")
def test_a_change_in_either_feed_reaches_the_day_that_counts(make_harness: MakeHarness) -> None:
    harness = make_harness("both", sessions=0, days=3)
    before, after = disagree(harness)
    harness.build()
    harness.enterprise.remove_verbatim("session_insights_v2")
    edge = starts_at(after, 8) - timedelta(milliseconds=300)
    fields = {"session_id": "edge", "org_id": "org-1", "acus_consumed": 4, "initial_user_message": "Changed."}
    times = {"created_at": edge.isoformat(), "updated_at": (edge + timedelta(hours=9)).isoformat()}
    harness.enterprise.insert_verbatim("session_insights_v2", edge, json.dumps(fields | times))
    assert harness.run([before]).success
    (session,) = harness.rows("sessions")
    assert (session["day"], session["acus"], session["initial_user_message"]) == (before, Decimal(4), "Changed.")
    assert [(row["day"], row["acus"]) for row in harness.rows("acu_daily")] == [(before, Decimal(4))]
    assert sum(row["acus"] for row in harness.rows("acu_monthly")) == Decimal(4)
    assert verify(harness.lake, 8).is_clean


def land_as_before(harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Land what the server lists as code without `moved_to` did: a session stays on the day it left."""
    with monkeypatch.context() as changed:
        changed.setattr(landing, "with_moves", lambda _, added, *__: (added.drop_columns(["is_new"]), set()))
        server = harness.server
        run = Run(server.url, server.v2_key, server.v3_key, harness.lake.uri, harness.feeds, harness.days)
        with run.client() as client:
            for feed in harness.feeds:
                read_feed(client, harness.lake, feed, harness.days)
    # Each day by itself, too.
    for day in harness.days:
        publish(harness.lake, [day])


def test_a_lake_that_holds_a_session_on_two_days_is_named_by_verify_and_put_right_by_rebuild(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = with_two_sessions(make_harness, "both")
    harness.build()
    move(harness, 1)
    land_as_before(harness, monkeypatch)
    assert sum(row["acus"] for row in harness.rows("acu_daily")) == 11

    verdict = verify(harness.lake, 8)
    assert {finding.day for finding in verdict.findings} <= set(harness.days[1:])
    assert {finding.table.name for finding in verdict.findings} >= set(harness.feeds)
    assert verdict.damaged_days() == {}
    shown = run("verify")
    assert shown.exit_code == 1
    assert f"devin-pipeline rebuild --from {harness.days[1]} --to {harness.days[2]}" in shown.stdout
    assert "backfill" not in shown.stdout

    rebuilt = run("rebuild", "--from", harness.days[1].isoformat(), "--to", harness.days[1].isoformat())
    assert rebuilt.exit_code == 0, rebuilt.output
    assert figures(harness) == expected(6, 5)
    assert run("verify").exit_code == 0
    assert counted_twice(harness.lake) == []


def test_feeds_that_disagreed_before_are_named_by_verify_and_put_right_by_rebuild(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness("both", sessions=0, days=3)
    _, after = disagree(harness)
    with monkeypatch.context() as changed:
        # No look at other days: each day is built of what it holds.
        changed.setattr(Lake, "note_links", lambda *_: None)
        for day in harness.days:
            harness.run_without_dagster([day])()
    assert sum(row["acus"] for row in harness.rows("acu_daily")) == 6
    shown = run("verify")
    assert shown.exit_code == 1
    assert "devin-pipeline rebuild" in shown.stdout
    assert run("rebuild").exit_code == 0
    assert [(row["day"], row["acus"]) for row in harness.rows("acu_daily")] == [(after, Decimal(3))]
    assert run("verify").exit_code == 0


def test_a_loss_of_the_notes_of_days_with_sessions_in_common_is_put_right_by_rebuild(make_harness: MakeHarness) -> None:
    harness = with_two_sessions(make_harness, "both")
    harness.build()
    move(harness, 1)
    harness.build()
    stored = harness.everything()
    notes = Path(harness.lake.uri) / "linked_days"
    shutil.rmtree(notes)
    notes.mkdir()
    (notes / "2026-01-01_2026-01-02 (copy).json").write_text("")
    assert run("verify").exit_code == 0
    assert run("rebuild").exit_code == 0
    assert harness.everything() == stored
    assert run("verify").exit_code == 0


def damage(harness: PipelineHarness, day: date) -> None:
    for table in RAW_SESSION_TABLES:
        for file in harness.lake.snapshot(table).stored_files([day]):
            path = Path(file.path)
            path.write_bytes(path.read_bytes()[: file.size // 2])


@pytest.mark.parametrize("how", ["run", "rebuild"])
def test_a_damaged_day_holds_back_no_day_that_has_sessions_in_common_with_it(
    make_harness: MakeHarness, how: str
) -> None:
    harness = with_two_sessions(make_harness, "v3")
    harness.build()
    move(harness, 1)
    harness.build()
    damage(harness, harness.days[1])
    harness.enterprise.session("moves").acus = Decimal(8)
    if how == "run":
        result = harness.run(harness.days[2:])
        assert result.success, [event.message for event in result.all_events if event.is_failure]
        assert {row["acus"] for row in harness.rows("sessions") if row["day"] == harness.days[2]} == {Decimal(8)}
    else:
        assert f"--from {harness.days[1]} --to {harness.days[1]} --repair" in run("rebuild").stderr
        return
    days = ["--from", str(harness.days[0]), "--to", str(harness.days[2])]
    assert run("backfill", *days, "--repair").exit_code == 0
    assert figures(harness) == expected(9, 8)
    assert run("verify").exit_code == 0


def test_a_session_whose_new_day_is_lost_counts_where_it_was(make_harness: MakeHarness) -> None:
    harness = with_two_sessions(make_harness, "v3")
    harness.build()
    move(harness, 1)
    harness.build()
    damage(harness, harness.days[2])
    harness.enterprise.delete_session("moves")
    days = ["--from", str(harness.days[1]), "--to", str(harness.days[2])]
    assert run("backfill", *days, "--repair").exit_code == 0
    assert figures(harness) == expected(6, 5)
    assert run("verify").exit_code == 0


def test_a_rebuild_of_a_day_builds_the_day_a_session_left_before_the_start_date(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = with_two_sessions(make_harness, "v3")
    harness.build()
    move(harness, 1)
    land_as_before(harness, monkeypatch)
    monkeypatch.setenv("DEVIN_START_DATE", str(harness.days[2]))
    rebuilt = run("rebuild", "--from", str(harness.days[2]))
    assert rebuilt.exit_code == 0, rebuilt.output
    assert figures(harness) == expected(6, 5)


def test_repair_of_the_day_a_session_left_does_not_restore_it(make_harness: MakeHarness) -> None:
    harness = with_two_sessions(make_harness, "v3")
    harness.build()
    move(harness, 1)
    harness.build()
    damage(harness, harness.days[1])
    day = harness.days[1].isoformat()
    repaired = run("backfill", "--from", day, "--to", day, "--repair")
    assert repaired.exit_code == 0, repaired.output
    assert figures(harness) == expected(6, 5)
    assert run("verify").exit_code == 0
