import base64
import gc
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from devin_pipeline.emulator import EmulatorServer, Enterprise, Feed

ENDS_AT = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)
DAY = datetime(2026, 3, 11, 8, tzinfo=UTC)
V2 = "/v2/enterprise/sessions/insights"
V3 = "/v3/enterprise/sessions"
V3_INSIGHTS = "/v3/enterprise/sessions/insights"
Params = Sequence[tuple[str, str]]


def small_enterprise() -> Enterprise:
    return Enterprise.synthetic(sessions=500, days=20, ends_at=ENDS_AT)


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatorServer]:
    """Shared by the tests that change nothing."""
    with EmulatorServer(small_enterprise()) as running:
        yield running


@pytest.fixture
def own() -> Iterator[EmulatorServer]:
    """A test's own, to change at will."""
    with EmulatorServer(small_enterprise()) as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client() as open_client:
        yield open_client


def ask(client: httpx.Client, server: EmulatorServer, path: str, params: Params | None = None) -> httpx.Response:
    key = server.v2_key if path.startswith("/v2") else server.v3_key
    return client.get(server.url + path, params=[*(params or [])], headers={"Authorization": f"Bearer {key}"})


def every_v3_item(
    client: httpx.Client, server: EmulatorServer, path: str, params: Params | None = None, first: int = 200
) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    page: dict[str, Any] = {"has_next_page": True, "end_cursor": None}
    while page["has_next_page"]:
        cursor = [("after", page["end_cursor"])] if page["end_cursor"] else []
        page = ask(client, server, path, [*(params or []), ("first", str(first)), *cursor]).json()
        items += page["items"]
    assert page["end_cursor"] is None
    return items


def every_v2_item(client: httpx.Client, server: EmulatorServer, params: Params) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    skip: int | None = 0
    while skip is not None:
        page = ask(client, server, V2, [*params, ("limit", "200"), ("skip", str(skip))]).json()
        items += page["items"]
        skip = page["next_cursor"]
        assert page["has_more"] == (skip is not None)
    assert page["total"] == len(items)
    return items


def epoch(instant: datetime) -> str:
    return str(int(instant.timestamp()))


def iso(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def test_each_key_opens_its_own_version_only(client: httpx.Client, server: EmulatorServer) -> None:
    statuses = {
        (path, name): client.get(
            server.url + path, headers={"Authorization": f"Bearer {key}"} if key else {}
        ).status_code
        for path in (V2, V3, V3_INSIGHTS, "/v3/self")
        for name, key in {
            "v2": server.v2_key,
            "v3": server.v3_key,
            "limited v2": server.limited_v2_key,
            "limited v3": server.limited_v3_key,
            "unknown": "cog_unknown",
            "none": "",
        }.items()
    }
    assert {status for (path, name), status in statuses.items() if name in ("unknown", "none")} == {401}
    assert [statuses[V2, name] for name in ("v2", "v3", "limited v2", "limited v3")] == [200, 401, 403, 401]
    assert [statuses[V3, name] for name in ("v2", "v3", "limited v2", "limited v3")] == [401, 200, 401, 403]
    assert [statuses[V3_INSIGHTS, name] for name in ("v2", "v3", "limited v2", "limited v3")] == [401, 200, 401, 403]
    assert [statuses["/v3/self", name] for name in ("v2", "v3", "limited v2", "limited v3")] == [401, 200, 401, 200]


def test_a_refusal_has_its_reason_as_detail(client: httpx.Client, server: EmulatorServer) -> None:
    for response in (
        client.get(server.url + V2),
        client.get(server.url + "/no"),
        client.post(server.url + V2),
        ask(client, server, V2 + "/"),
    ):
        assert isinstance(response.json()["detail"], str)
        assert response.headers["X-Devin-Emulator"] == "1"
        assert response.headers["Date"]


def test_keys_have_the_prefixes_of_their_families_and_stay_the_same_for_a_seed(server: EmulatorServer) -> None:
    twin = EmulatorServer(Enterprise())
    assert server.v2_key.startswith("apk_user_")
    assert server.v3_key.startswith("cog_")
    assert (server.v2_key, server.v3_key) == (twin.v2_key, twin.v3_key)
    assert EmulatorServer(Enterprise(seed=8)).v3_key != server.v3_key


def test_self_returns_a_service_user_of_the_whole_enterprise(client: httpx.Client, server: EmulatorServer) -> None:
    owner = ask(client, server, "/v3/self").json()
    assert owner["principal_type"] == "service_user"
    assert owner["org_id"] is None


@pytest.mark.parametrize("size", ["7", "200"])
def test_v2_pages_give_every_item_once_newest_first(client: httpx.Client, server: EmulatorServer, size: str) -> None:
    items: list[str] = []
    skip: int | None = 0
    while skip is not None:
        page = ask(client, server, V2, [("limit", size), ("skip", str(skip))]).json()
        assert (page["limit"], page["skip"]) == (int(size), skip)
        items += [item["session_id"] for item in page["items"]]
        skip = page["next_cursor"]
    assert items == [json.loads(text)["session_id"] for text in server.enterprise.items("session_insights_v2")]
    assert page["total"] == len(items)


def test_a_page_behind_the_end_is_empty(client: httpx.Client, server: EmulatorServer) -> None:
    page = ask(client, server, V2, [("skip", "100000")]).json()
    assert (page["items"], page["has_more"], page["next_cursor"]) == ([], False, None)


@pytest.mark.parametrize("path", [V3, V3_INSIGHTS])
def test_v3_cursors_give_every_item_once_newest_first(client: httpx.Client, server: EmulatorServer, path: str) -> None:
    items = every_v3_item(client, server, path, [("include_deleted_orgs", "true")], first=9)
    feed: Feed = "sessions_v3" if path == V3 else "session_insights_v3"
    assert items == [json.loads(text) for text in server.enterprise.items(feed)]


def test_v3_cursors_contain_an_equals_sign_and_totals_come_with_insights_only(
    client: httpx.Client, server: EmulatorServer
) -> None:
    cursor: str | None = None
    for _ in range(20):
        page = ask(client, server, V3, [("first", "5"), *([("after", cursor)] if cursor else [])]).json()
        cursor = page["end_cursor"]
        assert cursor is not None
        assert "=" in cursor
        assert page["total"] is None
    assert ask(client, server, V3_INSIGHTS).json()["total"] == len(
        server.enterprise.items("session_insights_v3", include_deleted_orgs=False)
    )


def test_cursors_stay_put_and_offsets_shift_when_a_session_comes_in_between(
    client: httpx.Client, own: EmulatorServer
) -> None:
    v3 = ask(client, own, V3, [("first", "10")]).json()
    v2 = ask(client, own, V2, [("limit", "10")]).json()
    own.enterprise.add_session(created_at=ENDS_AT)
    v3_next = ask(client, own, V3, [("first", "10"), ("after", v3["end_cursor"])]).json()
    v2_next = ask(client, own, V2, [("limit", "10"), ("skip", "10")]).json()
    assert not {item["session_id"] for item in v3["items"]} & {item["session_id"] for item in v3_next["items"]}
    assert v2_next["items"][0] == v2["items"][-1]


def test_a_cursor_survives_the_deletion_of_the_session_it_points_at(client: httpx.Client, own: EmulatorServer) -> None:
    before = every_v3_item(client, own, V3)
    page = ask(client, own, V3, [("first", "10")]).json()
    own.enterprise.delete_session(page["items"][-1]["session_id"])
    following = ask(client, own, V3, [("first", "10"), ("after", page["end_cursor"])]).json()
    assert following["items"] == before[10:20]


def test_v3_windows_are_half_open(client: httpx.Client, own: EmulatorServer) -> None:
    end = DAY + timedelta(days=1)
    at_start = own.enterprise.add_session(created_at=DAY, v3_prefixed=False)
    at_end = own.enterprise.add_session(created_at=end, v3_prefixed=False)
    window = [("created_after", epoch(DAY)), ("created_before", epoch(end))]
    items = every_v3_item(client, own, V3, window)
    ids = {item["session_id"] for item in items}
    assert at_start.session_id in ids
    assert at_end.session_id not in ids
    assert all(DAY.timestamp() <= item["created_at"] < end.timestamp() for item in items)


def test_v3_windows_tile_the_whole_listing(client: httpx.Client, server: EmulatorServer) -> None:
    tiles = []
    for day in range(20, -1, -1):
        start = datetime(2026, 2, 27, 8, tzinfo=UTC) + timedelta(days=day)
        window = [("created_after", epoch(start)), ("created_before", epoch(start + timedelta(days=1)))]
        tiles += every_v3_item(client, server, V3, window)
    assert tiles == every_v3_item(client, server, V3)


def test_v2_includes_the_end_of_its_window(client: httpx.Client, own: EmulatorServer) -> None:
    end = DAY + timedelta(days=1)
    at_end = own.enterprise.add_session(created_at=end)
    behind = own.enterprise.add_session(created_at=end + timedelta(microseconds=1))
    items = every_v2_item(client, own, [("created_date_from", iso(DAY)), ("created_date_to", iso(end))])
    ids = {item["session_id"] for item in items}
    assert at_end.session_id in ids
    assert behind.session_id not in ids
    assert len(ids) > 5


def test_update_windows_select_by_update(client: httpx.Client, own: EmulatorServer) -> None:
    later = ENDS_AT + timedelta(hours=1)
    grown = set(own.enterprise.grow_acus(4, at=later))
    v3 = every_v3_item(client, own, V3, [("updated_after", epoch(later))])
    v2 = every_v2_item(client, own, [("updated_date_from", iso(later)), ("updated_date_to", iso(later))])
    assert {item["session_id"].removeprefix("devin-") for item in v3} == grown
    assert {item["session_id"] for item in v2} == grown
    assert every_v3_item(client, own, V3, [("updated_after", epoch(later)), ("updated_before", epoch(later))]) == []


@pytest.mark.parametrize(
    ("parameter", "attribute"),
    [
        ("org_ids", "org_id"),
        ("user_ids", "user_id"),
        ("service_user_ids", "service_user_id"),
        ("playbook_id", "playbook_id"),
        ("schedule_id", "schedule_id"),
        ("category", "category"),
        ("origins", "origin"),
    ],
)
def test_v3_filters_select_exactly_what_they_name(
    client: httpx.Client, server: EmulatorServer, parameter: str, attribute: str
) -> None:
    sessions = [each for each in server.enterprise.sessions if server.enterprise.has_organization(each.org_id)]
    value = next(getattr(each, attribute) for each in sessions if getattr(each, attribute))
    expected = [each.session_id for each in sessions if getattr(each, attribute) == value]
    for path in (V3, V3_INSIGHTS):
        items = every_v3_item(client, server, path, [(parameter, value)])
        assert [item["session_id"].removeprefix("devin-") for item in items] == expected


def test_repeated_keys_mean_any_of_them_and_a_comma_is_part_of_the_value(
    client: httpx.Client, server: EmulatorServer
) -> None:
    items = every_v3_item(client, server, V3, [("tags", "auth"), ("tags", "on-call")])
    assert items
    assert all({"auth", "on-call"} & set(item["tags"]) for item in items)
    assert {"Auth"} not in [set(item["tags"]) for item in items]
    assert every_v3_item(client, server, V3, [("tags", "auth,on-call")]) == []


def test_repositories_are_a_filter_only(client: httpx.Client, server: EmulatorServer) -> None:
    name = server.enterprise.sessions[0].repo_names[0]
    items = every_v3_item(client, server, V3, [("repo_names", name), ("repo_names", "nobody/nothing")])
    assert items
    assert all("repo_names" not in item for item in items)


def test_sessions_are_found_by_id_with_and_without_prefix(client: httpx.Client, server: EmulatorServer) -> None:
    one, other = server.enterprise.sessions[:2]
    for path in (V2, V3):
        page = ask(
            client, server, path, [("session_ids", one.session_id), ("session_ids", f"devin-{other.session_id}")]
        )
        found = [item["session_id"].removeprefix("devin-") for item in page.json()["items"]]
        assert found == [one.session_id, other.session_id]


def test_v2_filters_by_user_and_organization(client: httpx.Client, server: EmulatorServer) -> None:
    session = next(each for each in server.enterprise.sessions if each.user_id)
    items = every_v2_item(client, server, [("user_ids", str(session.user_id)), ("org_ids", session.org_id)])
    assert {(item["user_id"], item["org_id"]) for item in items} == {(session.user_id, session.org_id)}


def test_unknown_parameters_are_ignored(client: httpx.Client, server: EmulatorServer) -> None:
    params = [("time_after", epoch(DAY)), ("order", "asc"), ("limit", "0")]
    assert ask(client, server, V3, params).json() == ask(client, server, V3).json()


def test_deleted_organizations_are_shown_to_v3_on_request_only(client: httpx.Client, server: EmulatorServer) -> None:
    deleted = next(each.org_id for each in server.enterprise.organizations if each.is_deleted)
    assert deleted not in {item["org_id"] for item in every_v3_item(client, server, V3)}
    shown = every_v3_item(client, server, V3, [("include_deleted_orgs", "true")])
    assert deleted in {item["org_id"] for item in shown}
    assert deleted not in {item["org_id"] for item in every_v2_item(client, server, [])}


def test_organization_twins_return_one_organization(client: httpx.Client, server: EmulatorServer) -> None:
    org_id = server.enterprise.sessions[0].org_id
    deleted = next(each.org_id for each in server.enterprise.organizations if each.is_deleted)
    for twin in (
        "/v2/enterprise/organizations/{}/sessions",
        "/v2/enterprise/organizations/{}/sessions/insights",
        "/v3/organizations/{}/sessions",
        "/v3/organizations/{}/sessions/insights",
    ):
        page = ask(client, server, twin.format(org_id), [("org_ids", "ignored")]).json()
        assert {item["org_id"] for item in page["items"]} == {org_id}
        assert page["total"] >= len(page["items"])
        assert ask(client, server, twin.format(deleted)).status_code == 404
        assert ask(client, server, twin.format("org-nobody")).status_code == 404


@pytest.mark.parametrize(
    ("path", "name", "value", "kind"),
    [
        (V2, "limit", "201", "less_than_equal"),
        (V2, "limit", "0", "greater_than_equal"),
        (V2, "skip", "-1", "greater_than_equal"),
        (V2, "skip", "1.5", "int_parsing"),
        (V2, "created_date_from", "yesterday", "datetime_from_date_parsing"),
        (V2, "created_date_to", "2026-02-30T00:00:00Z", "datetime_from_date_parsing"),
        (V2, "updated_date_from", "99999999999999999999", "datetime_from_date_parsing"),
        (V2, "updated_date_to", "2026-01-01T00:00:00 00:00", "datetime_from_date_parsing"),
        (V3, "first", "201", "less_than_equal"),
        (V3, "first", "x", "int_parsing"),
        (V3, "created_after", "2026-01-01", "int_parsing"),
        (V3, "updated_before", "", "int_parsing"),
        (V3, "origins", "webapp,slack", "enum"),
        (V3, "category", "fun", "enum"),
        (V3, "include_deleted_orgs", "perhaps", "bool_parsing"),
        (V3, "after", "not base64", "value_error"),
        (V3, "after", base64.b64encode(b"[]").decode(), "value_error"),
    ],
)
def test_bad_values_are_refused_as_the_framework_does(
    client: httpx.Client, server: EmulatorServer, path: str, name: str, value: str, kind: str
) -> None:
    response = ask(client, server, path, [(name, value)])
    assert response.status_code == 422
    (mistake,) = response.json()["detail"]
    assert mistake["loc"][:2] == ["query", name]
    assert (mistake["type"], mistake["input"]) == (kind, value)
    assert mistake["msg"]
    assert response.headers["X-Devin-Emulator"] == "1"


def test_offsets_are_understood_in_v2_instants(client: httpx.Client, server: EmulatorServer) -> None:
    spellings = ("2026-03-11T08:00:00Z", "2026-03-11T09:00:00+01:00", "2026-03-11T08:00:00", epoch(DAY))
    totals = {ask(client, server, V2, [("created_date_from", each)]).json()["total"] for each in spellings}
    assert len(totals) == 1
    assert 0 < totals.pop() < 500


def test_pages_are_compressed_when_the_client_accepts_it(client: httpx.Client, server: EmulatorServer) -> None:
    plain = client.get(
        server.url + V3, headers={"Authorization": f"Bearer {server.v3_key}", "Accept-Encoding": "identity"}
    )
    packed = client.get(
        server.url + V3, headers={"Authorization": f"Bearer {server.v3_key}", "Accept-Encoding": "gzip"}
    )
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.content == packed.content
    assert packed.num_bytes_downloaded < len(plain.content)


def test_a_verbatim_item_is_sent_character_for_character_inside_its_window(
    client: httpx.Client, own: EmulatorServer
) -> None:
    text = '{"session_id":"x","acus_consumed":NaN,"title":"\\ud800"}'
    feeds: tuple[Feed, ...] = ("session_insights_v2", "sessions_v3", "session_insights_v3")
    for feed in feeds:
        own.enterprise.insert_verbatim(feed, DAY + timedelta(hours=1), text)
    inside = [("created_after", epoch(DAY)), ("created_before", epoch(DAY + timedelta(days=1)))]
    outside = [("created_after", epoch(DAY - timedelta(days=1))), ("created_before", epoch(DAY))]
    for path in (V3, V3_INSIGHTS):
        assert text in ask(client, own, path, inside).text
        assert text not in ask(client, own, path, outside).text
    window = [("created_date_from", iso(DAY)), ("created_date_to", iso(DAY + timedelta(days=1)))]
    assert text in ask(client, own, V2, window).text
    assert text not in ask(client, own, V2, [*window, ("user_ids", "x")]).text


def test_an_edit_shows_in_the_next_answer(client: httpx.Client, own: EmulatorServer) -> None:
    assert ask(client, own, V3, [("first", "1")]).json()["items"][0].get("title") != "edited"
    own.enterprise.sessions[0].title = "edited"
    assert ask(client, own, V3, [("first", "1")]).json()["items"][0]["title"] == "edited"


def test_edits_while_listings_are_served_are_all_returned_in_the_end(client: httpx.Client, own: EmulatorServer) -> None:
    problems: list[int] = []

    def read() -> None:
        with httpx.Client() as reader:
            problems.extend(
                status
                for _ in range(15)
                if (status := ask(reader, own, V3_INSIGHTS, [("first", "200")]).status_code) != 200
            )

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    sessions = [each for each in own.enterprise.sessions if own.enterprise.has_organization(each.org_id)][:50]
    turn = 0
    while any(reader.is_alive() for reader in readers):
        turn += 1
        for session in sessions:
            session.title = f"turn {turn}"
    for reader in readers:
        reader.join()
    items = ask(client, own, V3_INSIGHTS, [("first", "50")]).json()["items"]
    assert [item["title"] for item in items] == [f"turn {turn}"] * 50
    assert problems == []


def test_requests_are_recorded_without_their_keys(client: httpx.Client, own: EmulatorServer) -> None:
    ask(client, own, V3, [("tags", "a"), ("tags", "b")])
    client.get(own.url + V2, headers={"Authorization": f"Bearer {own.limited_v2_key}"})
    first, second = own.requests
    assert (first.method, first.path, first.query) == ("GET", V3, (("tags", "a"), ("tags", "b")))
    assert (first.status, first.key_kind, second.status, second.key_kind) == (200, "v3", 403, "limited_v2")
    assert own.v3_key not in repr(own.requests)
    own.forget_requests()
    assert own.requests == []


def evolve(client: httpx.Client, server: EmulatorServer, key: str, body: object) -> httpx.Response:
    content = body if isinstance(body, str) else json.dumps(body)
    return client.post(server.url + "/_emulator/evolve", content=content, headers={"Authorization": f"Bearer {key}"})


def test_the_enterprise_evolves_on_request(client: httpx.Client, own: EmulatorServer) -> None:
    gone = own.enterprise.sessions[0].session_id
    org_id = own.enterprise.sessions[0].org_id
    body = {
        "grow_acus": 5,
        "merge_pull_requests": 3,
        "add_analyses": 4,
        "delete_sessions": [gone],
        "delete_organizations": [org_id],
    }
    for key in (own.v2_key, own.v3_key):
        response = evolve(client, own, key, {"grow_acus": 1})
        assert (response.status_code, len(response.json()["grow_acus"])) == (200, 1)
    affected = evolve(client, own, own.v3_key, body).json()
    assert list(affected) == list(body)
    assert (len(affected["grow_acus"]), len(affected["add_analyses"]), affected["delete_sessions"]) == (5, 4, [gone])
    assert affected["delete_organizations"]
    items = {item["session_id"].removeprefix("devin-") for item in every_v3_item(client, own, V3)}
    assert not items & {gone, *affected["delete_organizations"]}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{",
        {"grow": 1},
        {"grow_acus": -1},
        {"grow_acus": True},
        {"delete_sessions": "x"},
        {"grow_acus": 3, "delete_sessions": ["x"]},
        {"grow_acus": 3, "delete_organizations": ["x"]},
    ],
)
def test_an_unknown_change_is_refused_whole_saying_what_is_accepted(
    client: httpx.Client, server: EmulatorServer, body: object
) -> None:
    before = server.enterprise.items("sessions_v3")
    response = evolve(client, server, server.v3_key, body)
    assert response.status_code == 422
    assert "merge_pull_requests" in response.json()["detail"][0]["msg"]
    assert server.enterprise.items("sessions_v3") == before


def test_only_the_two_admin_keys_may_change_the_enterprise(client: httpx.Client, server: EmulatorServer) -> None:
    keys = (server.limited_v2_key, server.limited_v3_key, "cog_x")
    assert [evolve(client, server, key, {"grow_acus": 1}).status_code for key in keys] == [403, 403, 401]


def test_it_stops_at_once_and_gives_its_port_back() -> None:
    server = EmulatorServer(Enterprise())
    server.start()
    port = int(server.url.rpartition(":")[2])
    with httpx.Client() as client:
        assert ask(client, server, V3).json()["items"] == []
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 1
    server.stop()
    gc.collect()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    with EmulatorServer(Enterprise(), port=port) as again:
        assert again.url == f"http://127.0.0.1:{port}"
        with pytest.raises(OSError, match="in use"):
            EmulatorServer(Enterprise(), port=port).start()


def test_a_slow_response_does_not_keep_it_from_stopping() -> None:
    server = EmulatorServer(Enterprise(), latency_seconds=30)
    server.start()
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(b"GET /v3/self HTTP/1.1\r\nHost: x\r\n\r\n")
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 2


def test_it_can_be_stopped_before_anyone_asked() -> None:
    with EmulatorServer(Enterprise()) as server:
        assert server.url
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.url


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::"])  # noqa: S104 - the mistake under test
def test_it_refuses_to_be_reachable_from_elsewhere(host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        EmulatorServer(Enterprise(), host=host)


def test_latency_delays_each_answer() -> None:
    with EmulatorServer(Enterprise(), latency_seconds=0.05) as server, httpx.Client() as client:
        started = time.monotonic()
        ask(client, server, V3)
        assert time.monotonic() - started >= 0.05
