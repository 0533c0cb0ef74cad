"""Settings from the environment: what they turn on, what is refused, and that keys stay where they are."""

from pathlib import Path

import pytest

from devin_pipeline.definitions import pipeline
from devin_pipeline.errors import ConfigurationError
from devin_pipeline.lake import Lake, WrongLake
from devin_pipeline.orchestration.resources import DevinApiResource, LakeResource, devin_api_resource, lake_resource
from devin_pipeline.settings import Settings
from devin_pipeline.tables import MONEY_TABLES

pytestmark = pytest.mark.notices("a key typed into the Dagster UI")

V2_KEY = "apk_user_" + "a" * 40
V3_KEY = "cog_" + "b" * 40
ALL = ["raw_session_insights_v2", "raw_sessions_v3", "raw_session_insights_v3"]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("V2_API_KEY", "V3_API_KEY", "FEEDS", "API_URL", "ORG_ID", "LAKE", "PIPELINE_DEMO"):
        monkeypatch.delenv(f"DEVIN_{name}", raising=False)


def set_keys(monkeypatch: pytest.MonkeyPatch, v2: str | None = V2_KEY, v3: str | None = V3_KEY) -> None:
    for name, value in (("V2", v2), ("V3", v3)):
        if value is not None:
            monkeypatch.setenv(f"DEVIN_{name}_API_KEY", value)


@pytest.mark.parametrize(
    ("v2", "v3", "feeds"),
    [(V2_KEY, V3_KEY, ALL), (V2_KEY, None, ALL[:1]), (None, V3_KEY, ALL[1:]), (None, None, []), (" ", "", [])],
)
def test_the_keys_turn_the_feeds_on(
    v2: str | None, v3: str | None, feeds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keys(monkeypatch, v2, v3)
    assert Settings().feeds == feeds
    assert Settings().key_is_set("DEVIN_V2_API_KEY") == (v2 == V2_KEY)


@pytest.mark.parametrize(
    ("named", "feeds"),
    [
        ("raw_sessions_v3", ["raw_sessions_v3"]),
        (" raw_session_insights_v3 ,raw_session_insights_v2,", ["raw_session_insights_v2", "raw_session_insights_v3"]),
        ("raw_sessions_v3,raw_sessions_v3", ["raw_sessions_v3"]),
        ("", ALL),
        (" , ", ALL),
    ],
)
def test_feeds_named_are_read_and_no_others(named: str, feeds: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)
    monkeypatch.setenv("DEVIN_FEEDS", named)
    assert Settings().feeds == feeds


@pytest.mark.parametrize(
    "named", ["sessions_v3", "RAW_SESSIONS_V3", "raw_sessions_v3 raw_session_insights_v3", "raw_quarantine"]
)
def test_a_feed_there_is_not_is_refused_with_those_there_are(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)
    monkeypatch.setenv("DEVIN_FEEDS", named)
    with pytest.raises(ConfigurationError) as refused:
        _ = Settings().feeds
    assert repr(named) in refused.value.what
    assert refused.value.todo == f"Use some of {', '.join([*ALL, *(table.name for table in MONEY_TABLES)])}"


def test_a_feed_whose_key_is_not_set_is_refused_naming_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch, v2=None)
    monkeypatch.setenv("DEVIN_FEEDS", "raw_sessions_v3,raw_session_insights_v2")
    with pytest.raises(ConfigurationError, match="raw_session_insights_v2: its key DEVIN_V2_API_KEY is not set"):
        _ = Settings().feeds


def test_nothing_to_read_is_refused_with_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="neither DEVIN_V3_API_KEY nor DEVIN_V2_API_KEY is set"):
        Settings().require_usable()


@pytest.mark.parametrize(("v2", "v3"), [(V2_KEY, V3_KEY), (V2_KEY, None), (None, V3_KEY)])
def test_good_settings_are_accepted(v2: str | None, v3: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch, v2, v3)
    Settings().require_usable()


def test_a_key_of_the_other_kind_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch, v2=V3_KEY, v3=None)
    with pytest.raises(ConfigurationError) as refused:
        Settings().require_usable()
    assert "DEVIN_V2_API_KEY" in str(refused.value)
    assert V3_KEY not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://api.devin.ai", "ftp://api.devin.ai", "api.devin.ai", "https://", "http://10.0.0.1"]
)
def test_an_address_no_key_may_be_sent_to_is_refused_before_any_request(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keys(monkeypatch)
    monkeypatch.setenv("DEVIN_API_URL", url)
    with pytest.raises(ConfigurationError, match="DEVIN_API_URL cannot be used"):
        Settings().require_usable()


def test_the_api_is_devins_unless_another_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().api_url == "https://api.devin.ai"
    monkeypatch.setenv("DEVIN_API_URL", "http://127.0.0.1:8123/")
    assert Settings().api_url == "http://127.0.0.1:8123"


def test_a_resource_shows_no_key() -> None:
    resource = DevinApiResource(base_url="https://api.devin.ai", v2_key=V2_KEY, v3_key=V3_KEY, org_id="org-1")
    for shown in (repr(resource), str(resource), f"{resource}", repr([resource]), repr({"api": resource})):
        assert "org-1" in shown
        assert V2_KEY not in shown
        assert V3_KEY not in shown


def test_the_resource_of_the_environment_names_the_keys_and_holds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch, v2=None)
    monkeypatch.setenv("DEVIN_ORG_ID", "org-1")
    resource = devin_api_resource(Settings())
    assert (resource.base_url, resource.org_id, resource.v2_key) == ("https://api.devin.ai", "org-1", None)
    assert resource.v3_key == "DEVIN_V3_API_KEY"
    assert V3_KEY not in repr(vars(resource))


def test_a_url_that_carries_a_password_by_mistake_is_held_by_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVIN_API_URL", "https://user:hunter2@api.devin.ai")
    resource = devin_api_resource(Settings())
    assert "hunter2" not in repr(vars(resource)) + repr(resource) + repr(lake_resource(Settings()))


def test_the_dagster_ui_masks_what_is_typed_in_place_of_a_keys_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)
    schema = pipeline(Settings()).resolve_job_def("refresh").resource_defs["devin_api"].config_schema
    fields = getattr(schema.config_type, "fields", {})
    assert {name for name in fields if fields[name].is_secret} == {"v2_key", "v3_key"}


@pytest.mark.parametrize(
    ("settings", "kind", "host", "scope"),
    [
        ({}, "live", "api.devin.ai", "enterprise"),
        ({"DEVIN_ORG_ID": "org-1"}, "live", "api.devin.ai", "org-1"),
        ({"DEVIN_API_URL": "https://Devin.Example.com:8443/x"}, "live", "devin.example.com", "enterprise"),
        ({"DEVIN_API_URL": "http://127.0.0.1:9", "DEVIN_PIPELINE_DEMO": "1"}, "demo", "127.0.0.1", "enterprise"),
        ({"DEVIN_PIPELINE_DEMO": "0"}, "live", "api.devin.ai", "enterprise"),
    ],
)
def test_the_lake_is_that_of_the_settings(
    settings: dict[str, str], kind: str, host: str, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    identity = lake_resource(Settings(DEVIN_DAY_STARTS_AT_UTC_HOUR="0")).identity
    assert (identity.kind, identity.host, identity.scope, identity.day_starts_at_utc_hour) == (kind, host, scope, 0)


def test_a_lake_is_claimed_once_there_is_something_to_write_and_then_refused_under_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_LAKE", str(tmp_path / "lake"))
    ours: LakeResource = lake_resource(Settings())
    assert ours.open().identity is None
    assert not (tmp_path / "lake").exists()
    ours.open().claim(ours.identity)
    assert ours.open().identity == ours.identity == Lake(ours.uri).identity
    with pytest.raises(WrongLake, match="day_starts_at_utc_hour is 8, not 0"):
        lake_resource(Settings(DEVIN_DAY_STARTS_AT_UTC_HOUR="0")).open()
    monkeypatch.setenv("DEVIN_ORG_ID", "org-1")
    with pytest.raises(WrongLake, match="scope is 'enterprise', not 'org-1'"):
        lake_resource(Settings()).open()
