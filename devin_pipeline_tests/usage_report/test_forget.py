"""Reports in the lake show nobody who was erased."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from devin_pipeline.cli import main
from devin_pipeline_tests.conftest import MakeHarness


@pytest.mark.notices("a report with what was erased")
def test_forget_deletes_every_report_and_writes_the_stored_one_again(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness(keys="both", sessions=60, days=4)
    monkeypatch.delenv("DEVIN_REPORT")
    harness.build()
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
