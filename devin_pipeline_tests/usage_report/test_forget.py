"""Reports in the lake show nobody who was erased."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from devin_pipeline.cli import main
from devin_pipeline.lake import Connection, Lake, Unfinished
from devin_pipeline.tables import SESSIONS
from devin_pipeline.usage_report import Appearance, Question, Report, make_report, write_report
from devin_pipeline_tests.harness import PipelineHarness

# In one process, for the lake that all copy.
pytestmark = pytest.mark.xdist_group("reports_of_persons")


@pytest.mark.notices("a report with what was erased")
@pytest.mark.notices("a report that is written while an erasure ends")
def test_no_report_stays_whether_an_erasure_is_stopped_at_its_end_or_another_process_writes_one_then(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.lake.write_document("report.html", b"of before", "The report")
    notes = Lake.note_unfinished_erasure
    seen: list[bool] = []

    def note(lake: Lake, unfinished: Unfinished | None) -> None:
        if unfinished is not None and unfinished.is_purged:
            seen.append(lake.has_document("report.html"))
            lake.write_document("report.html", b"of before", "The report")
        notes(lake, unfinished)

    monkeypatch.setattr(Lake, "note_unfinished_erasure", note)
    user = next(session.user_id for session in harness.enterprise.sessions if session.user_id)
    result = CliRunner().invoke(main, ["forget", "--user", user])
    assert result.exit_code == 0, result.output
    assert seen == [False]
    assert not harness.lake.has_document("report.html")


def test_forget_deletes_every_report_and_writes_the_stored_one_again(
    harness: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEVIN_REPORT")
    folder = Path(harness.lake.uri, "documents")
    for options in ([], ["--static"]):
        result = CliRunner().invoke(main, ["report", *options])
        assert result.exit_code == 0, result.output
    assert len(list(folder.iterdir())) == 2
    user = next(
        session.user_id
        for session in harness.enterprise.sessions
        if session.user_id and session.user_id in (folder / "usage_report.html").read_text()
    )
    result = CliRunner().invoke(main, ["forget", "--user", user])
    assert result.exit_code == 0, result.output
    (stored,) = folder.iterdir()
    assert stored.name == "usage_report.html"
    assert user not in stored.read_text()


@pytest.mark.notices("a report of what was erased while it was made")
def test_a_report_of_what_was_read_before_an_erasure_is_made_again(harness: PipelineHarness) -> None:
    users = {session.user_id for session in harness.enterprise.sessions if session.user_id}
    forgotten: list[str] = []

    def write(report: Report) -> str:
        if not forgotten:
            forgotten.append(next(user for user in users if user in report.html))
            result = CliRunner().invoke(main, ["forget", "--user", forgotten[0]])
            assert result.exit_code == 0, result.output
        return write_report(harness.lake, report)

    _, path = make_report(harness.lake, Question(), Appearance(), 8, write)
    assert forgotten[0] not in Path(path).read_text()


@pytest.mark.notices("files that an erasure deletes meanwhile")
def test_a_report_whose_files_an_erasure_deletes_is_read_again(harness: PipelineHarness) -> None:
    reads = 0
    lake = harness.lake
    user = next(session.user_id for session in harness.enterprise.sessions if session.user_id)

    def read() -> int:
        nonlocal reads
        reads += 1
        query = lake.cached_snapshot(SESSIONS).query()
        with Connection() as connection:
            if reads == 1:
                result = CliRunner().invoke(main, ["forget", "--user", user])
                assert result.exit_code == 0, result.output
            return int(connection.rows(query).num_rows)

    assert lake.retry_until_inputs_stable([SESSIONS], None, read) == len(harness.rows("sessions"))
    assert reads == 2
