"""One row per session and pull request it links: what its URL says, and its share of the session's ACUs."""

import pytest

from devin_pipeline_tests.derived.telling import columns, derived, only, version
from devin_pipeline_tests.tables.rows import NOON, Row, acus, after

_SAME = "as sent"

# As sent → url, host, repository, number.
URLS: list[tuple[str, str | None, str | None, str | None, int | None]] = [
    ("https://github.com/o/r/pull/1", _SAME, "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/1/", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/1//", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/1/files", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/1/files/", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/1/commits", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/1?diff=split", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/1#issuecomment-9", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/1/files?w=1#diff", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("HTTPS://GitHub.COM/O/R/pull/1", "https://github.com/O/R/pull/1", "github.com", "O/R", 1),
    ("https://ghe.example:8443/o/r/pull/2", _SAME, "ghe.example:8443", "o/r", 2),
    ("https://github.com/o/r/pulls/7", _SAME, "github.com", "o/r", 7),
    ("https://gitlab.com/g/p/-/merge_requests/3", _SAME, "gitlab.com", "g/p", 3),
    (
        "https://gl.com/g/s/t/p/-/merge_requests/3/diffs",
        "https://gl.com/g/s/t/p/-/merge_requests/3",
        "gl.com",
        "g/s/t/p",
        3,
    ),
    ("https://gitlab.com/g/p/merge_requests/3", _SAME, "gitlab.com", "g/p", 3),
    ("https://bitbucket.org/w/r/pull-requests/4", _SAME, "bitbucket.org", "w/r", 4),
    ("https://bitbucket.org/w/r/pull-requests/4/overview", _SAME, "bitbucket.org", "w/r", 4),
    ("https://github.com/o/pull/pull/5", _SAME, "github.com", "o/pull", 5),
    ("https://github.com/o/files/pull/5", _SAME, "github.com", "o/files", 5),
    ("https://github.com/o/r/pull/new", _SAME, "github.com", None, None),
    ("https://github.com/o/r/pull/12x", _SAME, "github.com", None, None),
    ("https://github.com/o/r/tree/main", _SAME, "github.com", None, None),
    ("https://dev.azure.com/o/p/_git/r/pullrequest/6", _SAME, "dev.azure.com", None, None),
    ("https://example.com", _SAME, "example.com", None, None),
    ("https://example.com/?x#y", "https://example.com", "example.com", None, None),
    ("github.com/o/r/pull/1", _SAME, None, None, None),
    ("not a url", _SAME, None, None, None),
    ("#fragment", None, None, None, None),
    ("", None, None, None, None),
]

# As sent → url, state.
SHAPES: list[tuple[Row, str | None, str | None]] = [
    ({"url": "https://h/u", "state": "Open"}, "https://h/u", "open"),
    ({"pr_url": "https://h/p", "pr_state": "MERGED"}, "https://h/p", "merged"),
    ({"pr_url": "https://h/p", "pr_state": "merged", "state": "open"}, "https://h/p", "merged"),
    ({"pr_url": "https://h/p", "state": "closed"}, "https://h/p", "closed"),
    ({"pr_url": "https://h/p", "url": "https://h/u"}, "https://h/p", None),
    ({"pr_url": "", "url": "https://h/u"}, "https://h/u", None),
    ({"pr_url": None, "url": "https://h/u", "pr_state": None, "state": "draft"}, "https://h/u", "draft"),
    ({"state": "open"}, None, "open"),
    ({}, None, None),
]


def links(*sent: object, acus_told: str | None = None) -> list[Row]:
    used = None if acus_told is None else acus(acus_told)
    return derived("session_pull_requests", v3=[version(pull_requests=list(sent), acus=used)])


def pull(number: int, state: str | None = "open", repository: str = "o/r") -> Row:
    return {"pr_url": f"https://github.com/{repository}/pull/{number}", "pr_state": state}


def shares(*sent: object, acus_told: str | None) -> list[object]:
    return [row["acus_share"] for row in links(*sent, acus_told=acus_told)]


def test_urls_are_normalised_and_name_their_repository_and_number() -> None:
    rows = links(*({"url": sent} for sent, *_ in URLS))
    assert columns(rows, "url", "host", "repository", "number") == [
        (sent if url is _SAME else url, *told) for sent, url, *told in URLS
    ]
    assert [row["ordinal"] for row in rows] == list(range(len(URLS)))


def test_every_shape_of_a_pull_request_is_read() -> None:
    rows = links(*(sent for sent, *_ in SHAPES))
    assert columns(rows, "url", "state") == [tuple(told) for _, *told in SHAPES]


def test_a_link_carries_its_sessions_organization_and_instants() -> None:
    versions = [version(pull_requests=[pull(1)], org_id="org-1", updated_at=after(2))]
    row = only(derived("session_pull_requests", v3=versions))
    assert (row["org_id"], row["session_created_at"], row["session_updated_at"]) == ("org-1", NOON, after(2))
    assert row["acus_share"] is None


def test_links_come_from_the_newest_telling_of_any_feed() -> None:
    rows = derived(
        "session_pull_requests",
        insights=[version(pull_requests=[pull(1)])],
        v2=[version(updated_at=after(1), pull_requests=[{"url": "https://github.com/o/r/pull/2", "state": "merged"}])],
    )
    assert columns(rows, "number", "state") == [(2, "merged")]


def test_no_links_are_no_rows() -> None:
    versions = [version("a"), version("b", pull_requests=None), version("c", pull_requests=[])]
    assert derived("session_pull_requests", v3=versions) == []


def test_items_that_are_null_are_left_out_and_the_others_keep_their_place() -> None:
    assert columns(links(None, pull(1), None, pull(2)), "ordinal", "number") == [(1, 1), (3, 2)]


def test_shares_are_truncated_and_the_remainder_goes_to_the_first() -> None:
    told = shares(pull(1), pull(2), pull(3), acus_told="1.000001")
    assert told == [acus("0.333335"), acus("0.333333"), acus("0.333333")]


@pytest.mark.parametrize(
    ("used", "told"),
    [
        ("0", ["0", "0", "0"]),
        ("0.000001", ["0.000001", "0", "0"]),
        ("999999", ["333333"] * 3),
        ("999999999.999999", ["333333333.333333"] * 3),
        (None, [None, None, None]),
    ],
)
def test_shares_add_up_to_what_the_session_used(used: str | None, told: list[str | None]) -> None:
    expected = [None if text is None else acus(text) for text in told]
    assert shares(pull(1), pull(2), pull(3), acus_told=used) == expected


def test_a_pull_request_linked_twice_has_one_share_on_its_first_row() -> None:
    again = {"url": "https://GITHUB.com/o/r/pull/1/files?x"}
    assert shares(pull(1), again, pull(2), acus_told="3") == [acus("1.5"), None, acus("1.5")]


def test_a_link_without_url_has_no_share_and_leaves_the_remainder_to_the_first_that_has_one() -> None:
    assert shares({"state": "open"}, pull(1), pull(2), acus_told="0.000003") == [
        None,
        acus("0.000002"),
        acus("0.000001"),
    ]
    assert shares({}, acus_told="1") == [None]


def test_sessions_share_apart_from_each_other() -> None:
    rows = derived(
        "session_pull_requests",
        v3=[
            version("a", pull_requests=[pull(1)], acus=acus("1")),
            version("b", pull_requests=[pull(1), pull(2)], acus=acus("1")),
        ],
    )
    assert columns(rows, "session_id", "ordinal", "acus_share") == [
        ("a", 0, acus("1")),
        ("b", 0, acus("0.5")),
        ("b", 1, acus("0.5")),
    ]
