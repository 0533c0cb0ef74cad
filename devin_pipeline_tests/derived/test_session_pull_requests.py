"""One row per session and pull request it links: what its URL says, and its share of the session's ACUs."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devin_pipeline.lake import Connection
from devin_pipeline.reports.queries import select
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.derived.builders import columns, derived, only, version
from devin_pipeline_tests.tables.rows import NOON, Row, acus, after, rows_of

_SAME = "as sent"

# As sent → url, host, repository, number.
URLS: list[tuple[str, str | None, str | None, str | None, int | None]] = [
    ("https://github.com/o/r/pull/1", _SAME, "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/1/", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/1//", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com//o/r//pull/1", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/1?diff=split", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/1#issuecomment-9", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/1/files?w=1#diff", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/1.diff", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com/o/r/pull/0012/files", "https://github.com/o/r/pull/0012", "github.com", "o/r", 12),
    ("HTTPS://GitHub.COM/O/R/Pull/1/Files", "HTTPS://GitHub.COM/O/R/Pull/1", "github.com", "o/r", 1),
    ("https://jane:hunter2@github.com/o/r/pull/1", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://github.com:443/o/r/pull/1", _SAME, "github.com", "o/r", 1),
    ("http://ghe.example:80/o/r/pull/2", _SAME, "ghe.example", "o/r", 2),
    ("https://ghe.example:8443/o/r/pull/2", _SAME, "ghe.example:8443", "o/r", 2),
    ("https://github.com/o/r/pulls/7", _SAME, "github.com", "o/r", 7),
    ("https://gitea.example/o/r/pulls/7", _SAME, "gitea.example", "o/r", 7),
    ("https://git.example/gitea/o/r/pulls/7", _SAME, "git.example", "o/r", 7),
    ("https://gitea.example/api/v1/repos/O/R/pulls/7", _SAME, "gitea.example", "o/r", 7),
    (
        "https://api.github.com/repos/O/R/pulls/7/files",
        "https://api.github.com/repos/O/R/pulls/7",
        "github.com",
        "o/r",
        7,
    ),
    ("https://ghe.example/api/v3/repos/o/r/pulls/7", _SAME, "ghe.example", "o/r", 7),
    ("https://gitlab.com/g/p/-/merge_requests/3", _SAME, "gitlab.com", "g/p", 3),
    (
        "https://gl.com/G/s/t/P/-/merge_requests/3/diffs",
        "https://gl.com/G/s/t/P/-/merge_requests/3",
        "gl.com",
        "g/s/t/p",
        3,
    ),
    ("https://gitlab.com/g/p/merge_requests/3", _SAME, "gitlab.com", "g/p", 3),
    ("https://gitlab.com/api/v4/projects/g%2Fs%2Fp/merge_requests/3", _SAME, "gitlab.com", "g/s/p", 3),
    ("https://gitlab.com/api/v4/projects/278964/merge_requests/3", _SAME, "gitlab.com", None, None),
    ("https://bitbucket.org/w/r/pull-requests/4", _SAME, "bitbucket.org", "w/r", 4),
    (
        "https://bitbucket.org/w/r/pull-requests/4/overview",
        "https://bitbucket.org/w/r/pull-requests/4",
        "bitbucket.org",
        "w/r",
        4,
    ),
    ("https://api.bitbucket.org/2.0/repositories/W/R/pullrequests/4", _SAME, "bitbucket.org", "w/r", 4),
    ("https://bb.example/projects/KEY/repos/Name/pull-requests/8", _SAME, "bb.example", "key/name", 8),
    ("https://bb.example/users/JANE/repos/Name/pull-requests/8", _SAME, "bb.example", "~jane/name", 8),
    ("https://bb.example/projects/~JANE/repos/Name/pull-requests/8", _SAME, "bb.example", "~jane/name", 8),
    ("https://bb.example/bitbucket/projects/KEY/repos/Name/pull-requests/8", _SAME, "bb.example", "key/name", 8),
    ("https://bb.example/rest/api/1.0/projects/KEY/repos/Name/pull-requests/8", _SAME, "bb.example", "key/name", 8),
    ("https://bb.example/rest/api/1.0/users/Jane/repos/Name/pull-requests/8", _SAME, "bb.example", "~jane/name", 8),
    ("https://dev.azure.com/acme/Payments/_git/api/pullrequest/12", _SAME, "dev.azure.com", "acme/payments/api", 12),
    (
        "https://acme@dev.azure.com/acme/My%20Pay/_git/a%2Eb/pullrequest/12?_a=files",
        "https://dev.azure.com/acme/My%20Pay/_git/a%2Eb/pullrequest/12",
        "dev.azure.com",
        "acme/my pay/a.b",
        12,
    ),
    ("https://dev.azure.com/acme/_git/api/pullrequest/12", _SAME, "dev.azure.com", "acme/api/api", 12),
    (
        "https://dev.azure.com/acme/Pay/_apis/git/repositories/api/pullRequests/12",
        _SAME,
        "dev.azure.com",
        "acme/pay/api",
        12,
    ),
    ("https://acme.visualstudio.com/Pay/_git/api/pullrequest/12", _SAME, "dev.azure.com", "acme/pay/api", 12),
    (
        "https://acme.visualstudio.com/DefaultCollection/Pay/_git/api/pullrequest/12",
        _SAME,
        "dev.azure.com",
        "acme/pay/api",
        12,
    ),
    ("https://acme.visualstudio.com/_git/api/pullrequest/12", _SAME, "dev.azure.com", "acme/api/api", 12),
    (
        "https://acme.visualstudio.com/DefaultCollection/_git/api/pullrequest/12",
        _SAME,
        "dev.azure.com",
        "acme/api/api",
        12,
    ),
    (
        "https://acme.visualstudio.com/Pay/_apis/git/repositories/api/pullRequests/12",
        _SAME,
        "dev.azure.com",
        "acme/pay/api",
        12,
    ),
    ("https://tfs.example/tfs/Coll/Pay/_git/api/pullrequest/12", _SAME, "tfs.example", "coll/pay/api", 12),
    ("https://tfs.example:8080/Coll/Pay/_git/api/pullrequest/12", _SAME, "tfs.example:8080", "coll/pay/api", 12),
    ("https://tfs.example/tfs/Coll/_git/api/pullrequest/12", _SAME, "tfs.example", "coll/api/api", 12),
    ("https://github.com/%C3%96l/r/pull/5", _SAME, "github.com", "öl/r", 5),
    ("https://github.com/o/%ff/pull/5", _SAME, "github.com", "o/%ff", 5),
    ("https://github.com/o/pull/pull/5", _SAME, "github.com", "o/pull", 5),
    ("https://github.com/o/files/pull/5", _SAME, "github.com", "o/files", 5),
    ("https://github.com/o/r/pull/9223372036854775807", _SAME, "github.com", "o/r", 9223372036854775807),
    ("https://github.com/o/r/pull/9223372036854775808", _SAME, "github.com", None, None),
    ("https://github.com/o/r/pull/new", _SAME, "github.com", None, None),
    ("https://github.com/o/r/pull/12x", _SAME, "github.com", None, None),
    ("https://github.com/r/pull/12", _SAME, "github.com", None, None),
    ("https://github.com/o/r/tree/main", _SAME, "github.com", None, None),
    ("https://u@GitHub.com:443/o/r/tree/Main/?x#y", "https://github.com/o/r/tree/Main", "github.com", None, None),
    ("https://dev.azure.com/acme/Pay/_apis/git/pullrequests/12", _SAME, "dev.azure.com", None, None),
    ("https://dev.azure.com/acme/_apis/git/pullrequests/12", _SAME, "dev.azure.com", None, None),
    (
        "https://github.com/acme/web/pull/7/files/src/pull/9",
        "https://github.com/acme/web/pull/7",
        "github.com",
        "acme/web",
        7,
    ),
    (
        "https://github.com/acme/web/pull/7/_git/x/pullrequest/9",
        "https://github.com/acme/web/pull/7",
        "github.com",
        "acme/web",
        7,
    ),
    (
        "https://gitlab.com/g/n/-/merge_requests/7/diffs/x/y/pull/3",
        "https://gitlab.com/g/n/-/merge_requests/7",
        "gitlab.com",
        "g/n",
        7,
    ),
    (" https://github.com/o/r/pull/1 ", "https://github.com/o/r/pull/1", "github.com", "o/r", 1),
    ("https://dev.azure.com/_git/api/pullrequest/12", _SAME, "dev.azure.com", None, None),
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


def links(*sent: object, acus_sent: str | None = None) -> list[Row]:
    used = None if acus_sent is None else acus(acus_sent)
    return derived("session_pull_requests", v3=[version(pull_requests=list(sent), acus=used)])


def pull(number: int, state: str | None = "open", repository: str = "o/r") -> Row:
    return {"pr_url": f"https://github.com/{repository}/pull/{number}", "pr_state": state}


def shares(*sent: object, acus_sent: str | None) -> list[object]:
    return [row["acus_share"] for row in links(*sent, acus_sent=acus_sent)]


def test_urls_are_normalised_and_name_their_repository_and_number() -> None:
    rows = links(*({"url": sent} for sent, *_ in URLS))
    assert columns(rows, "url", "host", "repository", "number") == [
        (sent if url is _SAME else url, *parts) for sent, url, *parts in URLS
    ]
    assert [row["ordinal"] for row in rows] == list(range(len(URLS)))


def test_every_shape_of_a_pull_request_is_read() -> None:
    rows = links(*(sent for sent, *_ in SHAPES))
    assert columns(rows, "url", "state") == [tuple(expected) for _, *expected in SHAPES]


def test_a_link_carries_its_sessions_organization_and_instants() -> None:
    versions = [version(pull_requests=[pull(1)], org_id="org-1", updated_at=after(2))]
    row = only(derived("session_pull_requests", v3=versions))
    assert (row["org_id"], row["session_created_at"], row["session_updated_at"]) == ("org-1", NOON, after(2))
    assert row["acus_share"] is None


def test_links_come_from_the_latest_version_of_any_feed() -> None:
    rows = derived(
        "session_pull_requests",
        insights=[version(pull_requests=[pull(1)])],
        v2=[version(updated_at=after(1), pull_requests=[{"url": "https://github.com/o/r/pull/2", "state": "merged"}])],
    )
    assert columns(rows, "number", "state") == [(2, "merged")]


def test_no_links_make_no_rows() -> None:
    versions = [version("a"), version("b", pull_requests=None), version("c", pull_requests=[])]
    assert derived("session_pull_requests", v3=versions) == []


def test_items_that_are_null_are_left_out_and_the_others_keep_their_place() -> None:
    assert columns(links(None, pull(1), None, pull(2)), "ordinal", "number") == [(1, 1), (3, 2)]


def test_shares_are_truncated_and_the_remainder_goes_to_the_first() -> None:
    found = shares(pull(1), pull(2), pull(3), acus_sent="1.000001")
    assert found == [acus("0.333335"), acus("0.333333"), acus("0.333333")]


@pytest.mark.parametrize(
    ("used", "texts"),
    [
        ("0", ["0", "0", "0"]),
        ("0.000001", ["0.000001", "0", "0"]),
        ("999999", ["333333"] * 3),
        ("999999999.999999", ["333333333.333333"] * 3),
        (None, [None, None, None]),
    ],
)
def test_shares_add_up_to_what_the_session_used(used: str | None, texts: list[str | None]) -> None:
    expected = [None if text is None else acus(text) for text in texts]
    assert shares(pull(1), pull(2), pull(3), acus_sent=used) == expected


def test_a_pull_request_linked_twice_has_one_share_on_its_first_row() -> None:
    again = {"url": "https://GITHUB.com/o/r/pull/1/files?x"}
    assert shares(pull(1), again, pull(2), acus_sent="3") == [acus("1.5"), None, acus("1.5")]


def test_a_link_without_url_has_no_share_and_leaves_the_remainder_to_the_first_that_has_one() -> None:
    assert shares({"state": "open"}, pull(1), pull(2), acus_sent="0.000003") == [
        None,
        acus("0.000002"),
        acus("0.000001"),
    ]
    assert shares({}, acus_sent="1") == [None]


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


TABS = (
    *("", "/", "/files", "/files/", "/changes", "/checks", "/commits", "/commits/0a1b2c", "/conflicts", "/diffs"),
    *(
        "/pipelines",
        "/overview",
        "/activity",
        "?diff=split",
        "#issuecomment-9",
        "/files?w=1#diff-3",
        "?_a=files",
        ".diff",
    ),
)

# How one pull request may be written: from organization, project, repository and number.
_WEB = "https://github.com/{0}/{2}/pull/{3}"
FORMS: dict[str, tuple[str, ...]] = {
    "github.com": (_WEB, "http://GitHub.com:80/{0}/{2}/pulls/{3}", "https://api.github.com/repos/{0}/{2}/pulls/{3}"),
    "ghe.example": ("https://ghe.example/{0}/{2}/pull/{3}", "https://u:p@ghe.example/api/v3/repos/{0}/{2}/pulls/{3}"),
    "gitlab.com": (
        "https://gitlab.com/{0}/{1}/{2}/-/merge_requests/{3}",
        "https://gitlab.com:443/{0}/{1}/{2}/merge_requests/{3}",
        "https://gitlab.com/api/v4/projects/{0}%2F{1}%2F{2}/merge_requests/{3}",
    ),
    "bitbucket.org": (
        "https://bitbucket.org/{0}/{2}/pull-requests/{3}",
        "https://api.bitbucket.org/2.0/repositories/{0}/{2}/pullrequests/{3}",
    ),
    "bb.example": (
        "https://bb.example/projects/{1}/repos/{2}/pull-requests/{3}",
        "https://bb.example/rest/api/1.0/projects/{1}/repos/{2}/pull-requests/{3}",
    ),
    "dev.azure.com": (
        "https://dev.azure.com/{0}/{1}/_git/{2}/pullrequest/{3}",
        "https://{0}@dev.azure.com/{0}/{1}/_git/{2}/pullrequest/{3}",
        "https://{0}.visualstudio.com/{1}/_git/{2}/pullrequest/{3}",
        "https://{0}.visualstudio.com/DefaultCollection/{1}/_git/{2}/pullrequest/{3}",
        "https://dev.azure.com/{0}/{1}/_apis/git/repositories/{2}/pullRequests/{3}",
    ),
    "tfs.example": (
        "https://tfs.example/tfs/{0}/{1}/_git/{2}/pullrequest/{3}",
        "https://tfs.example/{0}/{1}/_git/{2}/pullrequest/{3}",
    ),
}

_CHANGES: tuple[Callable[[str], str], ...] = (str, str.lower, str.upper, str.swapcase)
_NAMES = st.sampled_from(("acme", "web", "pull", "files", "a-b", "x.y", "n_1", "7"))


@st.composite
def _linked(draw: st.DrawFn) -> tuple[tuple[str, int, int], str]:
    """A pull request as host, repository (by its place among the names) and number, and one way to write it."""
    host = draw(st.sampled_from(sorted(FORMS)))
    name, number = draw(_NAMES), draw(st.integers(1, 3))
    form = draw(st.sampled_from(FORMS[host]))
    written = form.format("acme", "Pay", name, number) + draw(st.sampled_from(TABS))
    change = draw(st.sampled_from(_CHANGES))
    return (host, hash(name), number), change(written)


@settings(max_examples=60, deadline=None)
@given(st.lists(_linked(), min_size=1, max_size=30))
def test_a_pull_request_is_one_row_in_any_form_tab_and_case_on_every_host(
    linked: list[tuple[tuple[str, int, int], str]],
) -> None:
    rows = links(*({"url": address, "state": "merged"} for _, address in linked), acus_sent="1")
    found = {(row["host"], row["repository"], row["number"]) for row in rows}
    assert {row["host"] for row in rows} == {host for (host, _, _), _ in linked}
    assert len(found) == len({identity for identity, _ in linked})
    with Connection() as connection:
        connection.register("session_pull_requests", rows_of(TABLES["session_pull_requests"], rows))
        report = select(connection, TABLES["pull_requests"])
    assert report.num_rows == len(found)
    assert sum(report.column("acus").to_pylist()) == acus("1")


def test_three_pull_requests_linked_by_fourteen_of_their_tabs_are_three() -> None:
    tabs = ("", "/changes", "/checks", "/commits/x", "/overview", "/pipelines", "/files")
    sent = [f"{_WEB.format('acme', '', 'web', 7)}{tab}" for tab in tabs]
    sent += [
        f"{FORMS['gitlab.com'][0].format('acme', 'pay', 'api', 8)}{tab}"
        for tab in ("", "/diffs", "/pipelines", "/commits")
    ]
    sent += [
        f"{FORMS['dev.azure.com'][0].format('acme', 'Payments', 'api', 12)}{tab}" for tab in ("", "?_a=files", "/")
    ]
    assert len(sent) == 14
    versions = [
        version(f"s{place:02}", pull_requests=[{"url": url, "state": "merged"}], acus=acus("1"))
        for place, url in enumerate(sent)
    ]
    rows = derived("session_pull_requests", v3=versions)
    with Connection() as connection:
        connection.register("session_pull_requests", rows_of(TABLES["session_pull_requests"], rows))
        report = select(connection, TABLES["pull_requests"]).to_pylist()
    assert sorted(columns(report, "host", "repository", "number", "sessions", "acus")) == [
        ("dev.azure.com", "acme/payments/api", 12, 3, acus("3")),
        ("github.com", "acme/web", 7, 7, acus("7")),
        ("gitlab.com", "acme/pay/api", 8, 4, acus("4")),
    ]
