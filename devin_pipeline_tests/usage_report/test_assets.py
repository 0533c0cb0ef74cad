"""Every run writes the report about the newest days, as DEVIN_REPORT says."""

from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from devin_pipeline.cli import main
from devin_pipeline.definitions import pipeline
from devin_pipeline.settings import Settings
from devin_pipeline.usage_report import STORED_REPORT, USAGE_REPORT
from devin_pipeline_tests.conftest import MakeHarness
from devin_pipeline_tests.harness import PipelineHarness
from devin_pipeline_tests.orchestration.test_run_log import log_of

# In one process, for the lake that some copy.
pytestmark = pytest.mark.xdist_group("reports_of_persons")


def run(*words: str) -> Result:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return result


def stored(harness: PipelineHarness) -> str:
    return Path(harness.lake.document_uri(STORED_REPORT)).read_text(encoding="utf-8")


def write_in_a_run(harness: PipelineHarness) -> dg.ExecuteInProcessResult:
    """A run of nothing but the report."""
    return (
        pipeline(Settings())
        .resolve_job_def("refresh")
        .execute_in_process(
            instance=harness.instance,
            partition_key=str(harness.days[0]),
            asset_selection=[dg.AssetKey(USAGE_REPORT)],
        )
    )


def suggested(harness: PipelineHarness) -> list[str]:
    """Prompts that analyses suggest, as they appear in a page."""
    rows = harness.lake.query(
        "select suggested_prompt from prompt_suggestions where suggested_prompt <> ''"
    ).to_pylist()
    return [row["suggested_prompt"][:20] for row in rows if row["suggested_prompt"][:20].replace(" ", "").isalnum()]


def test_a_run_writes_the_report_and_records_where_and_about_what(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness(sessions=30, days=3)
    monkeypatch.delenv("DEVIN_REPORT")
    result = harness.refresh()
    (event,) = result.asset_materializations_for_node(USAGE_REPORT)
    figures = {name: entry.value for name, entry in event.metadata.items()}
    assert figures["file"] == f"{harness.lake.uri}/documents/{STORED_REPORT}"
    assert figures["bytes"] == len(stored(harness).encode())
    assert figures["with_text"] is True
    assert (figures["first_day"], figures["last_day"]) == (str(harness.days[0]), str(harness.days[1]))
    assert any(line.startswith(f"{USAGE_REPORT}: {harness.days[0]} … ") for line in log_of(harness, result))
    assert any(prompt in stored(harness) for prompt in suggested(harness))
    # `rebuild` may change every figure, so it writes the page again.
    harness.lake.delete_documents()
    run("rebuild", "--from", str(harness.days[0]), "--to", str(harness.days[-1]))
    assert stored(harness)


def test_without_text_prompts_are_in_no_report_that_a_run_or_forget_writes(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_REPORT", "no-text")
    assert write_in_a_run(harness).success
    prompts = suggested(harness)
    assert prompts
    assert not any(prompt in stored(harness) for prompt in prompts)
    assert stored(harness).count("This report was made without prompts and what analyses say of them.") == 3
    feedback = {row["summary"] for row in harness.rows("prompt_feedback") if row["summary"]}
    assert feedback
    assert not any(summary in stored(harness) for summary in feedback)
    user = next(session.user_id for session in harness.enterprise.sessions if session.user_id)
    run("forget", "--user", user)
    assert not any(prompt in stored(harness) for prompt in prompts)
    # A person who asks for the text gets it, in a file of its own.
    path = run("report").stdout.strip()
    assert not path.endswith(STORED_REPORT)
    assert run("report", "--no-text").stdout.strip().endswith(f"/{STORED_REPORT}")


def test_turned_off_there_is_no_asset_and_forget_leaves_no_report(harness: PipelineHarness) -> None:
    assert not _has_report_asset()
    run("report")
    user = next(session.user_id for session in harness.enterprise.sessions if session.user_id)
    run("forget", "--user", user)
    assert not harness.lake.has_document(STORED_REPORT)


def _has_report_asset() -> bool:
    return dg.AssetKey(USAGE_REPORT) in pipeline(Settings()).resolve_asset_graph().get_all_asset_keys()


def test_asked_for_before_any_day_was_read_nothing_is_written_and_the_run_succeeds(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness(sessions=0, days=2)
    monkeypatch.delenv("DEVIN_REPORT")
    result = write_in_a_run(harness)
    assert result.success
    assert f"{USAGE_REPORT}: not written, since no day at all has been read." in log_of(harness, result)
    assert not harness.lake.has_document(STORED_REPORT)


def test_a_report_that_cannot_be_written_costs_no_day_and_says_why(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness(sessions=10, days=2)
    monkeypatch.delenv("DEVIN_REPORT")
    Path(harness.lake.uri).mkdir()
    Path(harness.lake.uri, "documents").write_text("in its place")
    result = CliRunner().invoke(main, ["backfill", "--from", str(harness.days[0]), "--to", str(harness.days[1])])
    assert result.exit_code == 1
    assert "The days were stored, but reports were not written." in result.output
    assert "The report" in result.output.splitlines()[-2]
    assert harness.rows("acu_weekly")
    assert "done, but reports wait" in result.output


def test_text_that_was_not_stored_is_no_prompt_to_fix(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness(sessions=20, days=2)
    monkeypatch.delenv("DEVIN_REPORT")
    monkeypatch.setenv("DEVIN_TEXT", "none")
    harness.refresh()
    assert harness.rows("prompt_suggestions")
    assert "No analysis of these sessions suggests a better prompt" in stored(harness)
    assert "With <code>DEVIN_TEXT=none</code> no text is stored" in stored(harness)
