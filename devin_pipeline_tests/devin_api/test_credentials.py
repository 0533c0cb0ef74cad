import pickle

import pytest

from devin_pipeline.devin_api import (
    DevinClient,
    KeyKind,
    check_key,
    check_organization,
    check_url,
    masked,
)
from devin_pipeline.devin_api.credentials import Secret
from devin_pipeline.errors import ConfigurationError
from devin_pipeline_tests.devin_api.scripted import V2_KEY, V3_KEY

pytestmark = pytest.mark.notices(
    "a key of the wrong kind",
    "a key over plain http",
    "a host that only looks like loopback",
    "white space around a key",
    "an organization that is a path",
    "a key in a pickle",
    "a key shown whole",
)


@pytest.mark.parametrize(("kind", "key"), [("v2", V2_KEY), ("v3", V3_KEY)])
def test_a_key_is_stripped_of_what_surrounds_it(kind: KeyKind, key: str) -> None:
    assert check_key(kind, f" {key}\r\n") == key


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("v2", V3_KEY, "belongs in DEVIN_V3_API_KEY"),
        ("v3", V2_KEY, "belongs in DEVIN_V2_API_KEY"),
        ("v2", "apk_canary1", "organization's service key"),
        ("v3", "apk_canary1", "organization's service key"),
        ("v3", "", "it is empty"),
        ("v2", " \n", "it is empty"),
        ("v3", "cog_canary 1", "white space"),
        ("v3", "cog_canary\n1", "white space"),
        ("v3", "cog_canaryé", "characters that no key has"),
        ("v2", "apk_user_", "shape of a key"),
        ("v3", "cog_", "shape of a key"),
        ("v3", '"cog_canary1"', "shape of a key"),
        ("v3", "Bearer canary1", "white space"),
        ("v3", "cog_canary\x00", "shape of a key"),
    ],
)
def test_a_key_that_cannot_work_is_refused_without_being_shown(kind: KeyKind, value: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        check_key(kind, value)
    assert "canary" not in str(caught.value)
    assert caught.value.what == f"DEVIN_{kind.upper()}_API_KEY cannot be used"


def test_the_client_checks_its_keys_before_any_socket_opens() -> None:
    with pytest.raises(ConfigurationError, match="belongs in DEVIN_V3_API_KEY"):
        DevinClient(v2_key=V3_KEY)
    with pytest.raises(ConfigurationError, match="it is empty"):
        DevinClient(v3_key="")


def test_a_secret_shows_itself_only_when_asked_by_name() -> None:
    secret = Secret("canary")
    assert "canary" not in f"{secret} {secret!r}"
    assert secret.reveal() == "canary"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://api.devin.ai", "https://api.devin.ai"),
        (" https://API.devin.ai/\n", "https://api.devin.ai"),
        ("https://gate.example:8443/devin/", "https://gate.example:8443/devin"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:80/", "http://[::1]:80"),
        ("http://localhost:3000", "http://localhost:3000"),
    ],
)
def test_an_address_a_key_may_be_sent_to_is_accepted(given: str, url: str) -> None:
    assert check_url(given) == url


@pytest.mark.parametrize(
    "given",
    [
        "",
        "api.devin.ai",
        "http://api.devin.ai",
        "http://localhost.evil.com",
        "http://127.0.0.1.evil.com",
        "http://127.0.0.1@evil.com",
        "http://0.0.0.0",
        "http://127.1",
        "http://[::ffff:127.0.0.1]",
        "https://canary@api.devin.ai",
        "https://me:canary@api.devin.ai",
        "https://@api.devin.ai",
        "https://api.devin.ai?key=canary",
        "https://api.devin.ai/?",
        "https://api.devin.ai/#",
        "https://api.devin.ai\\@evil.com",
        "https://api.devin.ai:99999",
        "https://api.devin.ai:0",
        "https://api.devin.ai:x",
        "https://",
        "https:///v3",
        "https://[::1",
        "https://api.dev in.ai",
        "https://api.devin\n.ai",
        "https://äpi.devin.ai",
        "https://api.devin.ai/v3",
        "https://api.devin.ai/v3beta1/enterprise",
        "https://api.devin.ai/../x",
        "ftp://api.devin.ai",
        "file:///etc/passwd",
        "HTTP://127.0.0.1%2eevil.com",
    ],
)
def test_any_other_address_is_refused_without_being_shown(given: str) -> None:
    with pytest.raises(ConfigurationError, match="DEVIN_API_URL cannot be used") as caught:
        check_url(given)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("given", ["", " ", "..", ".", "org a", "a/b", "a?b", "a%2fb", "org\x00", "ö", "o" * 201])
def test_an_organization_that_cannot_be_part_of_a_path_is_refused(given: str) -> None:
    with pytest.raises(ConfigurationError, match="DEVIN_ORG_ID"):
        check_organization(given)
    assert check_organization(" org-1_a|b\n") == "org-1_a|b"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("cog_" + "a" * 40 + "3f9a", "cog_…3f9a"),
        (" apk_user_" + "a" * 40 + "3f9a\n", "apk_user_…3f9a"),
        ("cog_" + "a" * 28 + "3f9a", "cog_…3f9a"),
        ("cog_" + "a" * 14 + "9a", "cog_…9a"),
        ("cog_3f9a", "cog_…"),
        ("apk_" + "a" * 40, "apk_…"),
        ("cog_" + "a" * 40 + " 3f9a", "cog_…"),
        ("cog_" + "ä" * 40, "cog_…"),
        ("password" * 10, "…"),
        ("", "…"),
    ],
)
def test_a_key_is_shown_by_its_kind_and_at_most_its_last_four_characters(given: str, shown: str) -> None:
    assert masked(given) == shown
