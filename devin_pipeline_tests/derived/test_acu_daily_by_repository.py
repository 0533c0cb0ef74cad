"""Per repository: ACUs of the sessions that link it, and shares that add up to the day."""

import pytest

from devin_pipeline_tests.derived.builders import columns, only, rolled_up
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, Row, acus


def links(session_id: str, *repositories: str | None, **values: object) -> list[Row]:
    return [
        {"session_id": session_id, "ordinal": n, "host": "h", "repository": repository, **values}
        for n, repository in enumerate(repositories)
    ]


def by_repository(sessions: list[Row], pull_requests: list[Row]) -> dict[str, tuple[object, ...]]:
    rows = rolled_up("acu_daily_by_repository", sessions=sessions, session_pull_requests=pull_requests)
    return {row["repository"]: (row["sessions"], row["acus_touching"], row["acus_split"]) for row in rows}


def test_shares_are_truncated_and_the_remainder_goes_to_the_first_repository_linked() -> None:
    sessions: list[Row] = [{"session_id": "a", "acus": acus("0.000005")}]
    assert by_repository(sessions, links("a", "z/z", "a/a", "z/z", "m/m")[::-1]) == {
        "z/z": (1, acus("0.000005"), acus("0.000003")),
        "a/a": (1, acus("0.000005"), acus("0.000001")),
        "m/m": (1, acus("0.000005"), acus("0.000001")),
    }


def test_links_of_no_known_form_count_as_none_next_to_others() -> None:
    sessions: list[Row] = [{"session_id": "a", "acus": acus("1")}, {"session_id": "b", "acus": acus("2")}]
    assert by_repository(sessions, links("a", None, "o/r", None)) == {
        "(none)": (2, acus("3"), acus("2.5")),
        "o/r": (1, acus("1"), acus("0.5")),
    }


def test_repositories_of_one_name_on_two_hosts_are_two() -> None:
    sessions: list[Row] = [{"session_id": "a", "acus": acus("1")}, {"session_id": "b", "acus": acus("2")}]
    pull_requests = links("a", "acme/web") + links("b", "acme/web", None, host="i")
    rows = rolled_up("acu_daily_by_repository", sessions=sessions, session_pull_requests=pull_requests)
    assert columns(rows, "host", "repository", "sessions", "acus_split") == [
        ("(none)", "(none)", 1, acus("1")),
        ("h", "acme/web", 1, acus("1")),
        ("i", "acme/web", 1, acus("1")),
    ]


def test_unknown_acus_stay_unknown() -> None:
    sessions: list[Row] = [{"session_id": "a"}, {"session_id": "b", "acus": acus("1")}]
    assert by_repository(sessions, links("a", "o/r", "o/s") + links("b", "o/s")) == {
        "o/r": (1, None, None),
        "o/s": (2, acus("1"), acus("1")),
    }


def test_organizations_and_days_are_kept_apart() -> None:
    sessions: list[Row] = [
        {"session_id": "a", "org_id": "o", "acus": acus("1")},
        {"session_id": "a", "org_id": "o", "day": NEXT_DAY, "acus": acus("2")},
        {"session_id": "b", "org_id": "p", "day": NEXT_DAY.replace(day=3)},
    ]
    rows = rolled_up(
        "acu_daily_by_repository", [DAY, NEXT_DAY], sessions=sessions, session_pull_requests=links("a", "o/r")
    )
    assert columns(rows, "day", "org_id", "repository", "acus_split") == [
        (DAY, "o", "o/r", acus("1")),
        (NEXT_DAY, "o", "(none)", acus("2")),
    ]


@pytest.mark.parametrize(
    "used",
    [
        "999999.999999",
        "1000000",
    ],
)
def test_a_session_may_have_used_very_much(used: str) -> None:
    row = only(rolled_up("acu_daily_by_repository", sessions=[{"session_id": "a", "acus": acus(used)}]))
    assert row["acus_split"] == acus(used)
