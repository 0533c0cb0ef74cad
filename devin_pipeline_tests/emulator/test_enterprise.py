import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, get_args

import pytest

from devin_pipeline.devin_api import FEEDS as DECLARED
from devin_pipeline.emulator import Enterprise, Feed, PullRequest, Session, v2_insights_item, v3_insights_item, v3_item

ENDS_AT = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)
FEEDS: tuple[Feed, ...] = get_args(Feed)


@pytest.fixture
def enterprise() -> Enterprise:
    """A test's own, to change at will."""
    return Enterprise.synthetic(sessions=200, ends_at=ENDS_AT)


@pytest.fixture(scope="module")
def untouched() -> Enterprise:
    """Shared by the tests that change nothing."""
    return Enterprise.synthetic(ends_at=ENDS_AT)


def parsed(enterprise: Enterprise, feed: Feed) -> dict[str, dict[str, Any]]:
    items = [json.loads(text, parse_float=Decimal) for text in enterprise.items(feed)]
    return {item["session_id"].removeprefix("devin-"): item for item in items}


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text.split(".")[0].removesuffix("Z") + "+00:00").timestamp())


def walk(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(each)


@pytest.mark.parametrize("feed", FEEDS)
def test_equal_arguments_give_byte_identical_items(untouched: Enterprise, feed: Feed) -> None:
    assert Enterprise.synthetic(ends_at=ENDS_AT).items(feed) == untouched.items(feed)
    assert Enterprise.synthetic(ends_at=ENDS_AT, seed=8).items(feed) != untouched.items(feed)


def test_sessions_fill_every_billing_day_up_to_the_end_and_none_is_in_the_future(untouched: Enterprise) -> None:
    created = [session.created_at for session in untouched.sessions]
    first_day = datetime(2026, 2, 17, 8, tzinfo=UTC)
    assert len(created) == 600
    assert {(instant - timedelta(hours=8)).date() for instant in created} == {
        (first_day + timedelta(days=day)).date() for day in range(30)
    }
    assert max(created) < ENDS_AT
    assert all(s.updated_at is not None and s.created_at <= s.updated_at < ENDS_AT for s in untouched.sessions)


def test_without_an_end_the_newest_session_is_from_today() -> None:
    before = datetime.now(UTC)
    newest = Enterprise.synthetic(sessions=100, days=3).sessions[0]
    assert before - timedelta(days=1, minutes=1) < newest.created_at <= datetime.now(UTC)


def test_weekends_are_quieter_than_weekdays() -> None:
    sessions = Enterprise.synthetic(sessions=1500, days=28, ends_at=ENDS_AT).sessions
    per_weekday = [0] * 7
    for session in sessions:
        per_weekday[(session.created_at - timedelta(hours=8)).weekday()] += 1
    assert max(per_weekday[5:]) < min(per_weekday[:5]) / 2


def test_a_tiny_enterprise_of_one_day_that_has_just_begun_is_possible() -> None:
    day_start = datetime(2026, 3, 18, 8, tzinfo=UTC)
    assert Enterprise.synthetic(sessions=5, days=1, ends_at=day_start).sessions == []
    sessions = Enterprise.synthetic(sessions=5, days=1, ends_at=day_start + timedelta(seconds=3)).sessions
    assert [day_start <= session.created_at < day_start + timedelta(seconds=3) for session in sessions] == [True] * 5


def test_both_versions_return_the_same_session_at_the_same_second(untouched: Enterprise) -> None:
    v2, v3 = parsed(untouched, "session_insights_v2"), parsed(untouched, "session_insights_v3")
    hidden = {organization.org_id for organization in untouched.organizations if organization.is_deleted}
    assert set(v3) - set(v2) == {session_id for session_id, item in v3.items() if item["org_id"] in hidden} != set()
    for session_id, item in v2.items():
        twin = v3[session_id]
        assert seconds(item["created_at"]) == twin["created_at"]
        assert seconds(item["updated_at"]) == twin["updated_at"]
        assert item.get("acus_consumed") == twin.get("acus_consumed")
        links = [
            (link.get("pr_url") or link["url"], link.get("pr_state", link.get("state")))
            for link in item["pull_requests"]
        ]
        assert links == [(link["pr_url"], link["pr_state"]) for link in twin["pull_requests"]]
    assert {"." in item["created_at"] for item in v2.values()} == {True, False}


def test_ids_come_with_and_without_prefix_in_v3_and_bare_in_v2(untouched: Enterprise) -> None:
    v2 = [json.loads(text)["session_id"] for text in untouched.items("session_insights_v2")]
    v3 = [json.loads(text)["session_id"] for text in untouched.items("sessions_v3")]
    assert not any(session_id.startswith("devin-") for session_id in v2)
    assert {session_id.startswith("devin-") for session_id in v3} == {True, False}


def test_pull_requests_come_in_all_four_shapes(untouched: Enterprise) -> None:
    shapes = {
        feed: {frozenset(link) for item in parsed(untouched, feed).values() for link in item["pull_requests"]}
        for feed in FEEDS
    }
    assert shapes["session_insights_v2"] >= {
        frozenset({"url", "state"}),
        frozenset({"pr_url", "pr_state", "state"}),
        frozenset({"pr_url", "state"}),
    }
    assert shapes["sessions_v3"] == shapes["session_insights_v3"] == {frozenset({"pr_url", "pr_state"})}


def test_pull_requests_are_shared_stateless_decorated_and_not_always_pull_requests(untouched: Enterprise) -> None:
    links = [link for session in untouched.sessions for link in session.pull_requests]
    urls = [link.url for link in links]
    assert len(set(urls)) < len(urls)
    assert None in {link.state for link in links}
    for part in ("github.com", "gitlab.com", "bitbucket.org", "?", "#", "/files"):
        assert any(part in url for url in urls), part
    assert any(url.endswith("/") for url in urls)
    assert not all("/pull" in url or "/merge_requests/" in url for url in urls)


def test_acus_are_skewed_and_have_at_most_six_decimals(untouched: Enterprise) -> None:
    texts = [json.loads(text, parse_float=Decimal, parse_int=Decimal) for text in untouched.items("sessions_v3")]
    acus = [item["acus_consumed"] for item in texts if item.get("acus_consumed") is not None]
    exponents = [each.as_tuple().exponent for each in acus]
    assert min(exponent for exponent in exponents if isinstance(exponent, int)) == -6
    assert 0 in acus
    assert sorted(acus)[len(acus) // 2] < sum(acus) / len(acus)
    assert all(0 <= each <= 60 for each in acus)
    assert any("acus_consumed" not in item for item in texts) or any(item["acus_consumed"] is None for item in texts)


def test_people_and_services_start_sessions(untouched: Enterprise) -> None:
    for session in untouched.sessions:
        assert (session.user_id is None) != (session.service_user_id is None)
        assert session.user_id is None or "|" in session.user_id
    assert {session.user_id is None for session in untouched.sessions} == {True, False}


def test_fields_that_nobody_documents_occur_on_request_only(untouched: Enterprise) -> None:
    odd = Enterprise.synthetic(ends_at=ENDS_AT, has_odd_fields=True)
    feeds: tuple[Feed, ...] = ("session_insights_v2", "sessions_v3", "session_insights_v3")
    for feed, declared in zip(feeds, DECLARED, strict=True):
        assert declared.name == feed
        names = {name for item in parsed(untouched, feed).values() for name in item}
        assert names <= declared.fields
        names = {name for item in parsed(odd, feed).values() for name in item}
        assert names - declared.fields == {"x_beta_score", "x_beta_notes"}
    newer = {"automation_id", "devin_mode", "security_profile"}
    assert newer <= {name for item in parsed(untouched, "sessions_v3").values() for name in item}


def test_nulls_missing_keys_and_hostile_texts_all_occur(untouched: Enterprise) -> None:
    items = list(parsed(untouched, "session_insights_v3").values())
    assert {"missing" if "title" not in item else type(item["title"]).__name__ for item in items} == {
        "missing",
        "NoneType",
        "str",
    }
    assert {
        "missing" if "analysis" not in item else json.dumps(item["analysis"], default=str)[:2] for item in items
    } >= {
        "missing",
        "nu",
        "{}",
    }
    strings = list(walk(items))
    for oddity in ("\u0000", "\n", '"', "<script>", "![](", "\u202e", "\u200d"):
        assert any(oddity in each for each in strings), oddity
    assert any(each.startswith("=") for each in strings)
    assert any(len(each) == 300 for each in strings)
    assert any(len(set(item["tags"])) < len(item["tags"]) for item in items)
    assert any(item.get("parent_session_id") for item in items)
    assert any(item.get("structured_output") for item in items)
    assert any(item["status"] == "running" and item.get("status_detail") == "working" for item in items)


def test_each_version_returns_an_analysis_in_its_own_vocabulary(untouched: Enterprise) -> None:
    v2 = [
        item["session_analysis"]
        for item in parsed(untouched, "session_insights_v2").values()
        if item.get("session_analysis")
    ]
    v3 = [item["analysis"] for item in parsed(untouched, "session_insights_v3").values() if item.get("analysis")]
    assert not any("classification" in analysis or "note_usage" in analysis for analysis in v2)
    assert any(analysis.get("classification") for analysis in v3)
    assert any(analysis.get("note_usage") for analysis in v3)
    assert not any("color" in step for analysis in v2 for step in analysis.get("timeline") or [])
    assert any("color" in step for analysis in v3 for step in analysis.get("timeline") or [])
    assert all("id" in issue for analysis in v3 for issue in analysis.get("issues") or [])
    assert {"id" in issue for analysis in v2 for issue in analysis.get("issues") or []} == {True, False}


def test_the_plain_v3_listing_carries_neither_analysis_nor_messages(untouched: Enterprise) -> None:
    for item in parsed(untouched, "sessions_v3").values():
        assert not {"analysis", "num_user_messages", "session_size", "initial_user_message"} & set(item)


def test_an_edited_session_is_returned_as_edited(enterprise: Enterprise) -> None:
    session = enterprise.sessions[5]
    before = enterprise.items("sessions_v3")
    session.title = "edited"
    session.acus = Decimal("0.000001")
    after = enterprise.items("sessions_v3")
    assert [index for index, (old, new) in enumerate(zip(before, after, strict=True)) if old != new] == [5]
    assert '"acus_consumed":0.000001' in after[5]


def test_a_session_moved_in_time_is_listed_where_it_now_belongs(enterprise: Enterprise) -> None:
    session = enterprise.sessions[-1]
    session.created_at = ENDS_AT
    assert enterprise.sessions[0] is session


def test_an_instant_without_zone_is_refused(enterprise: Enterprise) -> None:
    with pytest.raises(ValueError, match="time zone"):
        enterprise.sessions[0].created_at = datetime(2026, 1, 1)  # noqa: DTZ001 - the mistake under test


def test_growing_acus_raises_them_and_moves_updated_at(enterprise: Enterprise) -> None:
    before = {session.session_id: session.acus for session in enterprise.sessions}
    grown = enterprise.grow_acus(7, at=ENDS_AT + timedelta(hours=1))
    assert len(set(grown)) == 7
    for session in enterprise.sessions:
        if session.session_id in grown:
            assert (session.acus or 0) > (before[session.session_id] or 0)
            assert session.updated_at == ENDS_AT + timedelta(hours=1)
        else:
            assert session.acus == before[session.session_id]


def test_merging_reaches_every_session_that_links_the_pull_request(enterprise: Enterprise) -> None:
    one, other, *_ = [each for each in enterprise.sessions if enterprise.has_organization(each.org_id)]
    for session in enterprise.sessions:
        session.pull_requests = ()
    one.pull_requests = other.pull_requests = (PullRequest("https://github.com/a/b/pull/1", "open"),)
    assert set(enterprise.merge_pull_requests(3)) == {one.session_id, other.session_id}
    assert one.pull_requests[0].state == other.pull_requests[0].state == "merged"
    assert enterprise.merge_pull_requests(3) == []


def test_analyses_arrive_late_and_move_updated_at_for_half_of_them(enterprise: Enterprise) -> None:
    at = ENDS_AT + timedelta(hours=1)
    analysed = enterprise.add_analyses(10, at=at)
    sessions = [enterprise.session(session_id) for session_id in analysed]
    assert all(session.analysis for session in sessions)
    assert sum(session.updated_at == at for session in sessions) == 5


def test_equal_changes_on_equal_enterprises_choose_the_same_sessions(enterprise: Enterprise) -> None:
    twin = Enterprise.synthetic(sessions=200, ends_at=ENDS_AT)
    for each in (enterprise, twin):
        each.grow_acus(5, at=ENDS_AT)
        each.merge_pull_requests(5, at=ENDS_AT)
        each.add_analyses(5, at=ENDS_AT)
        each.add_session(created_at=ENDS_AT - timedelta(days=1))
    assert enterprise.items("session_insights_v3") == twin.items("session_insights_v3")
    assert enterprise.items("session_insights_v2") == twin.items("session_insights_v2")


def test_a_deleted_session_is_listed_nowhere(enterprise: Enterprise) -> None:
    gone = enterprise.sessions[3].session_id
    assert enterprise.delete_session(f"devin-{gone}") == [gone]
    assert all(gone not in parsed(enterprise, feed) for feed in FEEDS)
    with pytest.raises(KeyError):
        enterprise.delete_session(gone)


def test_a_deleted_organization_stays_visible_only_to_those_who_ask(enterprise: Enterprise) -> None:
    org_id = enterprise.sessions[0].org_id
    hidden = enterprise.delete_organization(org_id)
    assert hidden
    assert set(hidden) <= set(parsed(enterprise, "sessions_v3"))
    assert not set(hidden) & set(parsed(enterprise, "session_insights_v2"))
    assert not any(org_id in text for text in enterprise.items("sessions_v3", include_deleted_orgs=False))


def test_an_added_session_has_the_attributes_given() -> None:
    enterprise = Enterprise()
    session = enterprise.add_session(created_at=ENDS_AT, acus=Decimal("1.25"), title=None, tags=("a", "a"))
    assert enterprise.sessions == [session]
    assert v3_item(session)["acus_consumed"] == Decimal("1.25")
    assert v3_insights_item(session)["created_at"] == int(ENDS_AT.timestamp())
    assert v2_insights_item(session)["created_at"] == "2026-03-18T15:30:00Z"
    assert v2_insights_item(session)["tags"] == ["a", "a"]
    with pytest.raises(TypeError, match="colour"):
        enterprise.add_session(created_at=ENDS_AT, colour="red")


def test_a_verbatim_item_is_sent_as_it_is_by_its_feed_only(enterprise: Enterprise) -> None:
    text = '{"acus_consumed": NaN, "title": "\\ud800"}'
    enterprise.insert_verbatim("sessions_v3", ENDS_AT - timedelta(days=2), text)
    assert text in enterprise.items("sessions_v3")
    assert text not in enterprise.items("session_insights_v3")
    enterprise.remove_verbatim("sessions_v3")
    assert text not in enterprise.items("sessions_v3")


def test_sessions_may_be_written_by_hand() -> None:
    session = Session(
        "a" * 32, "org-1", ENDS_AT, ENDS_AT.replace(microsecond=250_000), omitted_when_null=frozenset({"title"})
    )
    item = v2_insights_item(session)
    assert "title" not in item
    assert item["updated_at"] == "2026-03-18T15:30:00.250Z"
    assert Enterprise(sessions=[session]).items("sessions_v3") != []
