"""Where Dagster's home may be."""

from pathlib import Path

import dagster as dg
import pytest

from devin_pipeline.cli.environment import prepare_dagster_home, use_dagster_home
from devin_pipeline.cli.errors import Failed


def test_every_character_that_is_not_refused_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    accepted = "".join(chr(code) for code in range(1, 0x80) if chr(code) not in "?%/") + "ü😀"
    home = tmp_path.joinpath(*(accepted[n : n + 25] for n in range(0, len(accepted), 25)))
    use_dagster_home(home)
    prepare_dagster_home()
    with dg.DagsterInstance.get() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("x"))
        assert instance.get_latest_materialization_event(dg.AssetKey("x"))
    assert {path.name for path in home.iterdir()} >= {"dagster.yaml", "history"}
    assert [path.name for path in tmp_path.iterdir()] == [accepted[:25]]


@pytest.mark.parametrize("name", ["?", "a?", "%41", "a%"])
def test_what_a_url_of_sqlite_does_not_take_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Failed) as refused:
        use_dagster_home(tmp_path / name)
    assert refused.value.exit_code == 2
