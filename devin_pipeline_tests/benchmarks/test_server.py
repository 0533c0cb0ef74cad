import json
from collections import Counter
from collections.abc import Iterator
from datetime import date

import pytest

from devin_pipeline.billing_calendar import days_between, starts_at
from devin_pipeline.devin_api import FEEDS, DevinClient, Feed, Window
from devin_pipeline.devin_api.endpoints import SESSION_INSIGHTS_V2
from devin_pipeline_tests.benchmarks.bill import ORGANIZATIONS, SERVICE_USERS, USERS
from devin_pipeline_tests.benchmarks.server import V2_KEY, V3_KEY, Latency, Server, serving
from devin_pipeline_tests.devin_api.scripted import read_all

LAST_DAY = date(2026, 3, 18)
DAYS = days_between(date(2026, 3, 12), LAST_DAY)
SESSIONS = 950  # five pages


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(SESSIONS, len(DAYS), LAST_DAY, texts=64) as running:
        yield running


@pytest.mark.parametrize("feed", FEEDS, ids=[feed.name for feed in FEEDS])
def test_every_session_is_returned_once_whatever_the_windows(server: Server, feed: Feed) -> None:
    returned: Counter[str | None] = Counter()
    with DevinClient(base_url=server.url, v2_key=V2_KEY, v3_key=V3_KEY) as client:
        for days in (DAYS[:1], DAYS[1:]):
            listing = read_all(client, feed, [Window(starts_at(day, 8), starts_at(day, 8, after=1)) for day in days])
            assert not listing.failures
            returned.update(item.session_id for item in listing.items if item.rejection_reason is None)
    assert len(returned) == SESSIONS
    assert set(returned.values()) == {1}


def test_everybody_is_listed_and_billed_for_each_day_in_both_versions_of_the_api(server: Server) -> None:
    first = Window(starts_at(DAYS[0], 8), starts_at(DAYS[0], 8, after=1))
    window = Window(starts_at(DAYS[0], 8), starts_at(DAYS[-1], 8, after=1))
    with DevinClient(base_url=server.url, v2_key=V2_KEY, v3_key=V3_KEY) as client:
        listings = [client.directory("organizations"), client.directory("users"), client.directory("service_users")]
        assert [len(listing.entries) for listing in listings] == [ORGANIZATIONS, USERS, SERVICE_USERS]
        organizations = [entry.object_id for entry in listings[0].entries]
        assert len(client.directory("organization_limits", organizations).entries) == ORGANIZATIONS
        assert len(client.directory("organization_playbooks", organizations).entries) == ORGANIZATIONS
        users = [entry.object_id for entry in listings[1].entries]
        bills = list(client.consumption("user", users, window))
        ((_, of_v2),) = client.consumption_v2([first])
    assert {len(bill.days) for bill in bills} == {len(DAYS)}
    billed = {bill.scope_id: bill.days[0].acus for bill in bills if bill.days[0].acus}
    assert 0 < len(billed) < len(users)
    assert billed == {user_id: acus for user_id, acus in (of_v2.by_user or {}).items() if user_id in users}


def test_the_log_says_what_was_asked_and_how_long_it_had_to_wait(server: Server) -> None:
    server.take(Latency(3, 3))
    server.log()
    with DevinClient(base_url=server.url, v2_key=V2_KEY) as client:
        listing = read_all(
            client, SESSION_INSIGHTS_V2, [Window(starts_at(DAYS[0], 8), starts_at(DAYS[-1], 8, after=1))]
        )
    log = server.log()
    assert log.requests == listing.requests
    assert log.bytes_sent == listing.bytes_read
    assert log.waited_seconds == pytest.approx(0.003 * log.requests)
    assert server.log().requests == 0


def test_a_changed_session_is_returned_changed_and_no_other(server: Server) -> None:
    window = [Window(starts_at(DAYS[0], 8), starts_at(DAYS[-1], 8, after=1))]
    with DevinClient(base_url=server.url, v2_key=V2_KEY) as client:
        before = {item.payload for item in read_all(client, SESSION_INSIGHTS_V2, window).items}
        server.change(DAYS[3])
        after = {item.payload for item in read_all(client, SESSION_INSIGHTS_V2, window).items}
    assert [json.loads(item)["session_id"] for item in after - before] == [
        json.loads(item)["session_id"] for item in before - after
    ]
    assert len(after - before) == 1
