"""The tables of the lists, from hand-written and random histories of `raw_directory`."""

import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import devin_pipeline
from devin_pipeline.lake import Connection
from devin_pipeline.tables import DIRECTORY_TABLES, RAW_DIRECTORY
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, Row, after, rows_of

_FOLDER = Path(devin_pipeline.__file__).parent / "reports" / "directory"
_TABLES = {table.name: table for table in DIRECTORY_TABLES}
KINDS = (
    *("organizations", "users", "idp_users", "service_users", "playbooks", "organization_playbooks", "cycles"),
    *("enterprise_limits", "organization_limits", "user_limits", "usage_tiers"),
)


def version(kind: str, object_id: str, hours: float, payload: object = None, **values: object) -> Row:
    """A version of an entry, so many hours after noon; without a payload, a tombstone. Text is a payload as sent."""
    sent = payload if payload is None or isinstance(payload, str) else json.dumps(payload)
    key = {"kind": kind, "object_id": object_id, "fetched_at": after(hours)}
    return key | {"is_listed": payload is not None, "payload": sent} | values


def report(
    name: str, rows: Iterable[Row], *, kinds_read: Collection[str] = KINDS, today: date | None = DAY
) -> list[Row]:
    table = _TABLES[name]
    with Connection() as connection:
        connection.register("raw_directory", rows_of(RAW_DIRECTORY, rows))
        connection.register("_kinds_read", pa.table({"kind": pa.array(sorted(kinds_read), pa.string())}))
        connection.register("_facts", pa.table({"today": pa.array([today], pa.date32())}))
        connection.create_view("_directory_versions", (_FOLDER / "_directory_versions.sql").read_text())
        built = connection.rows((_FOLDER / f"{name}.sql").read_text())
    assert built.column_names == table.column_names
    cast = built.cast(table.schema)
    assert cast.equals(cast.sort_by(table.key_order)), "rows are in key order"
    found: list[Row] = cast.to_pylist()
    return found


def shown(rows: Iterable[Row], *names: str) -> list[Any]:
    """Some columns of the rows; instants as hours after noon."""
    return [tuple(_short(row[name]) for name in names) for row in rows]


def _short(value: object) -> object:
    return (value - after(0)) / timedelta(hours=1) if isinstance(value, datetime) else value


SPAN = ("valid_from", "valid_to", "is_current", "is_listed")


# Rows of history


@pytest.mark.notices("organizations: a row per change")
def test_a_new_row_begins_only_where_a_shown_column_changes() -> None:
    payload = {"org_id": "o", "name": "A", "max_cycle_acu_limit": 5, "max_session_acu_limit": None}
    rows = report(
        "organizations",
        [
            version("organizations", "o", 0, payload),
            version("organizations", "o", 1, payload | {"updated_at": 1}),
            version("organizations", "o", 2, payload | {"name": "B"}),
            version("organizations", "o", 3, payload | {"name": "B", "max_session_acu_limit": 0}),
            version("organizations", "o", 4, payload | {"name": "B", "max_session_acu_limit": 0, "x": 1}),
            version("organizations", "o", 5, payload | {"name": None, "max_session_acu_limit": 0}),
            version("organizations", "p", 6, {}),
        ],
    )
    assert shown(rows, "org_id", "name", "max_cycle_acu_limit", "max_session_acu_limit", *SPAN) == [
        ("o", "A", 5, None, 0, 2, False, True),
        ("o", "B", 5, None, 2, 3, False, True),
        ("o", "B", 5, 0, 3, 5, False, True),
        ("o", None, 5, 0, 5, None, True, True),
        ("p", None, None, None, 6, None, True, True),
    ]


def test_what_vanished_keeps_its_last_row_which_alone_says_that_it_is_not_listed() -> None:
    rows = [
        version("organizations", "o", 0, {"name": "A"}),
        version("organizations", "o", 1, {"name": "B"}),
        version("organizations", "o", 2),
    ]
    names = ("name", *SPAN)
    gone = [("A", 0, 1, False, True), ("B", 1, None, True, False)]
    assert shown(report("organizations", rows), *names) == gone
    back = [*rows, version("organizations", "o", 3, {"name": "B"})]
    assert shown(report("organizations", back), *names) == [gone[0], ("B", 1, None, True, True)]
    changed = [*rows, version("organizations", "o", 3, {"name": "C"})]
    assert shown(report("organizations", changed), *names) == [
        gone[0],
        ("B", 1, 3, False, True),
        ("C", 3, None, True, True),
    ]


def test_what_was_never_listed_has_no_row() -> None:
    for name, kind in (("organizations", "organizations"), ("users", "users"), ("acu_limits", "user_limits")):
        assert report(name, [version(kind, "a", 0)]) == []
    assert all(report(name, []) == [] for name in _TABLES)


# Values of another type


@pytest.mark.parametrize(
    ("sent", "limit"),
    [
        *(("5", 5), ("0", 0), ('"5"', 5), ("5.0", 5), ('"5.0"', 5), ("5e1", 50), ("-1", -1)),
        *(("null", None), ('"many"', None), ("true", None), ("[5]", None), ('{"a": 5}', None), ('""', None)),
        *(("1e300", None), ("9" * 30, None), ("NaN", None), ("Infinity", None), ('"NaN"', None)),
    ],
)
def test_a_limit_is_read_from_text_and_floats_and_unknown_otherwise(sent: str, limit: int | None) -> None:
    (row,) = report("organizations", [version("organizations", "o", 0, f'{{"max_cycle_acu_limit": {sent}}}')])
    assert row["max_cycle_acu_limit"] == limit
    (row,) = report("acu_limits", [version("usage_tiers", "t", 0, f'{{"cycle_acu_limit": {sent}}}')])
    assert row["cycle_acu_limit"] == limit


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        *(
            (r'"\ud800x"', "\ufffdx"),
            (r'"\ud83d\ude00\udc00"', "\U0001f600\ufffd"),
            (r'"\\ud800\ud800"', "\\ud800\ufffd"),
        ),
        *((r'"\"\ud800\n"', '"\ufffd\n'), ("5", "5"), ("true", "true"), ("null", None), ('""', ""), ('"é ü"', "é ü")),
    ],
)
def test_a_name_is_read_whatever_it_is_sent_as(sent: str, name: str | None) -> None:
    (row,) = report("organizations", [version("organizations", "o", 0, f'{{"name": {sent}}}')])
    assert row["name"] == name


@pytest.mark.parametrize("payload", ["", "{", "[]", '"a"', "5", "null", r'{"name": "\ud800"', r"\u", "[" * 5_000])
def test_a_payload_that_is_no_object_is_a_row_of_nulls(payload: str) -> None:
    (row,) = report("organizations", [version("organizations", "o", 0, payload)])
    assert (row["name"], row["is_listed"]) == (None, True)
    (row,) = report("users", [version("users", "u", 0, payload)])
    assert (row["name"], row["email"], row["idp_groups"]) == (None, None, [])
    (row,) = report("playbooks", [version("playbooks", "p", 0, payload)])
    assert (row["title"], row["body_hash"], row["body_length"]) == (None, None, None)
    assert report("billing_cycles", [version("cycles", "c", 0, payload)]) == []
    assert [row["cycle_acu_limit"] for row in report("acu_limits", [version("usage_tiers", "t", 0, payload)])] == [None]


# Users


@pytest.mark.notices("users: the list of users comes first")
def test_who_is_in_both_lists_is_one_user_whose_columns_are_merged() -> None:
    rows = [
        version("users", "u", 0, {"email": "u@x", "name": None}),
        version("idp_users", "u", 0, {"email": "idp@x", "name": "U", "idp_role_assignments": []}),
    ]
    (row,) = report("users", rows)
    assert (row["email"], row["name"], row["idp_groups"], row["kind"]) == ("u@x", "U", [], "user")


@pytest.mark.notices("users: listed while any list has them")
def test_a_user_is_listed_while_any_list_has_them() -> None:
    rows = [
        version("users", "u", 0, {"name": "U"}),
        version("idp_users", "u", 1, {"name": "U", "idp_role_assignments": []}),
        version("users", "u", 2),
    ]
    assert shown(report("users", rows), "name", *SPAN) == [("U", 0, None, True, True)]
    rows.append(version("idp_users", "u", 3))
    assert shown(report("users", rows), "name", *SPAN) == [("U", 0, None, True, False)]
    rows.append(version("service_users", "u", 4, {"name": "U"}))
    assert shown(report("users", rows), "kind", "name", *SPAN) == [
        ("user", "U", 0, 4, False, True),
        ("service_user", "U", 4, None, True, True),
    ]


def test_who_moves_from_one_list_to_the_other_is_shown_as_the_list_that_has_them() -> None:
    rows = [
        version("users", "u", 0, {"name": "Old", "email": "old@x"}),
        version("idp_users", "u", 1, {"name": "New", "idp_role_assignments": [{"idp_group_name": "g"}]}),
        version("users", "u", 2),
    ]
    assert shown(report("users", rows), "name", "email", "idp_groups", "valid_from") == [
        ("Old", "old@x", [], 0),
        ("Old", "old@x", ["g"], 1),
        ("New", None, ["g"], 2),
    ]


def test_groups_are_distinct_and_sorted() -> None:
    groups = [*({"idp_group_name": name, "org_id": None} for name in ("b", "a", "ä", "B", "b", None)), {}, 5, None]
    (row,) = report("users", [version("idp_users", "u", 0, {"idp_role_assignments": groups})])
    assert row["idp_groups"] == ["B", "a", "b", "ä"]


@pytest.mark.notices("users: groups of a list that was never read")
@pytest.mark.parametrize(
    ("kind", "payload", "is_read", "groups"),
    [
        ("users", {}, True, []),
        ("users", {}, False, None),
        ("idp_users", {"idp_role_assignments": []}, True, []),
        ("idp_users", {"idp_role_assignments": "g"}, True, None),
        ("idp_users", {"idp_role_assignments": {"idp_group_name": "g"}}, True, None),
        ("idp_users", {"idp_role_assignments": None}, True, None),
        ("idp_users", {}, True, None),
        ("service_users", {}, True, []),
        ("service_users", {}, False, []),
    ],
)
def test_groups_are_none_where_there_are_none_and_null_where_that_is_not_known(
    kind: str, payload: Row, is_read: bool, groups: list[str] | None
) -> None:
    kinds = KINDS if is_read else set(KINDS) - {"idp_users"}
    (row,) = report("users", [version(kind, "u", 0, payload)], kinds_read=kinds)
    assert row["idp_groups"] == groups


def test_groups_that_become_unreadable_are_a_new_row() -> None:
    sent: list[object] = [[], "g", [], [{"idp_group_name": "g"}]]
    rows = [version("idp_users", "u", n, {"idp_role_assignments": groups}) for n, groups in enumerate(sent)]
    assert [row["idp_groups"] for row in report("users", rows)] == [[], None, [], ["g"]]


def test_a_service_user_is_a_user_without_an_email() -> None:
    (row,) = report("users", [version("service_users", "s", 0, {"service_user_id": "s", "name": "S", "email": "e@x"})])
    assert row == {
        "user_id": "s",
        "valid_from": after(0),
        "email": None,
        "name": "S",
        "idp_groups": [],
        "kind": "service_user",
        "valid_to": None,
        "is_current": True,
        "is_listed": True,
    }


def test_an_erased_person_is_shown_as_stored() -> None:
    rows = [
        version("users", "erased-1", 0, {"user_id": "erased-1", "email": "erased-1", "name": "xxx"}, redacted="text"),
        version("users", "erased-1", 1, {"user_id": "erased-1"}, redacted="text"),
    ]
    assert shown(report("users", rows), "user_id", "email", "name") == [
        ("erased-1", "erased-1", "xxx"),
        ("erased-1", None, None),
    ]


# Playbooks


def playbook(**values: object) -> Row:
    return {"title": "T", "access_type": "org", "org_id": "o", "body": "é 👍", **values}


def test_the_hash_of_a_playbook_is_of_its_text_in_utf_8_and_its_length_is_in_characters() -> None:
    (row,) = report("playbooks", [version("playbooks", "p", 0, playbook())])
    assert row["body_hash"] == hashlib.sha256("é 👍".encode()).hexdigest()
    assert row["body_length"] == 3
    assert (row["title"], row["access_type"], row["org_id"]) == ("T", "org", "o")


@pytest.mark.notices("playbooks: the hash of a blanked text")
def test_a_playbook_whose_text_is_blanked_has_no_hash_but_its_length() -> None:
    rows = [
        version("playbooks", "p", 0, playbook(body="xxx", title="x"), redacted="text"),
        # Another text of the same length.
        version("playbooks", "p", 1, playbook(body="xxx", title="x"), redacted="text"),
        version("playbooks", "p", 2, playbook(body="new", title="x"), redacted="ids"),
    ]
    assert shown(report("playbooks", rows), "title", "body_length", "valid_from", "body_hash") == [
        ("x", 3, 0, None),
        ("x", 3, 2, hashlib.sha256(b"new").hexdigest()),
    ]


def test_a_playbook_is_listed_while_the_enterprise_or_any_organization_lists_it() -> None:
    rows = [
        version("playbooks", "p", 0, playbook()),
        version("organization_playbooks", "o/p", 0, playbook()),
        version("organization_playbooks", "q/p", 0, playbook()),
        version("playbooks", "p", 1),
        version("organization_playbooks", "o/p", 2),
    ]
    assert shown(report("playbooks", rows), "playbook_id", *SPAN) == [("p", 0, None, True, True)]
    rows.append(version("organization_playbooks", "q/p", 3))
    assert shown(report("playbooks", rows), "playbook_id", *SPAN) == [("p", 0, None, True, False)]


def test_of_lists_that_have_a_playbook_the_one_that_changed_last_counts_and_at_once_the_enterprises() -> None:
    rows = [
        version("organization_playbooks", "a/p", 0, playbook(title="of an organization")),
        version("playbooks", "p", 0, playbook(title="of the enterprise")),
        version("organization_playbooks", "a/p", 1, playbook(title="later")),
        version("playbooks", "p", 2),
    ]
    assert shown(report("playbooks", rows), "title", *SPAN) == [
        ("of the enterprise", 0, 1, False, True),
        ("later", 1, None, True, True),
    ]


# Billing cycles


def seconds(day: date, hour: int = 8) -> int:
    return int(datetime(day.year, day.month, day.day, hour, tzinfo=UTC).timestamp())


def test_a_cycle_is_read_as_v3_and_as_v2_send_it() -> None:
    sent = [
        {"after": seconds(date(2025, 9, 16)), "before": float(seconds(date(2025, 10, 16)))},
        {"after": str(seconds(date(2025, 10, 16))), "before": f"{seconds(date(2025, 11, 16))}.0"},
        {"start": "2025-11-16T08:00:00Z", "end": "2025-12-16T09:00:00.5+01:00"},
    ]
    rows = report("billing_cycles", [version("cycles", str(n), 0, payload) for n, payload in enumerate(sent)])
    assert [(row["first_day"], row["last_day"], row["is_current"]) for row in rows] == [
        (date(2025, 9, 16), date(2025, 10, 15), False),
        (date(2025, 10, 16), date(2025, 11, 15), False),
        (date(2025, 11, 16), date(2025, 12, 16), True),
    ]
    assert rows[1]["cycle_start"] == rows[0]["cycle_end"] == datetime(2025, 10, 16, 8, tzinfo=UTC)
    assert rows[2]["cycle_end"] == datetime(2025, 12, 16, 8, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.notices("billing_cycles: the last day")
@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        (8, 8, date(2025, 12, 1), date(2025, 12, 1)),
        (7, 9, date(2025, 11, 30), date(2025, 12, 2)),
        (0, 0, date(2025, 11, 30), date(2025, 12, 1)),
    ],
)
def test_days_of_a_cycle_are_billing_days(start: int, end: int, first: date, last: date) -> None:
    payload = {"after": seconds(DAY, start), "before": seconds(NEXT_DAY, end)}
    (row,) = report("billing_cycles", [version("cycles", "c", 0, payload)])
    assert (row["first_day"], row["last_day"]) == (first, last)


@pytest.mark.parametrize("today", [*(date(2025, 11, n) for n in (15, 16, 22, 23, 29, 30)), DAY, None])
def test_the_current_cycle_holds_today_and_of_two_begins_later(today: date | None) -> None:
    cycles = [(date(2025, 11, 16), date(2025, 11, 30)), (date(2025, 11, 23), date(2025, 12, 1))]
    rows = [
        version("cycles", str(n), 0, {"after": seconds(start), "before": seconds(end)})
        for n, (start, end) in enumerate(cycles)
    ]
    holding = [start for start, end in cycles if today and start <= today < end]
    found = [row["first_day"] for row in report("billing_cycles", rows, today=today) if row["is_current"]]
    assert found == holding[-1:]


def test_of_a_cycle_the_latest_version_counts_and_one_that_vanished_stays() -> None:
    start, end = seconds(DAY), seconds(NEXT_DAY)
    rows = [
        version("cycles", "a", 0, {"after": start, "before": end}),
        version("cycles", "a", 1, {"after": start, "before": end + 86_400}),
        version("cycles", "a", 2),
        version("cycles", "b", 0, {"after": start - 86_400, "before": start}),
        # The same cycle, as the other version of the API spells it.
        version("cycles", "c", 1, {"start": "2025-11-30T08:00:00Z", "end": "2025-12-01T08:00:00Z"}),
        *(version("cycles", f"odd {n}", 0, odd) for n, odd in enumerate(_NO_CYCLES)),
    ]
    assert shown(report("billing_cycles", rows), "first_day", "last_day", "is_current") == [
        (DAY - timedelta(days=1), DAY - timedelta(days=1), False),
        (DAY, NEXT_DAY, True),
    ]


_NO_CYCLES: tuple[Row, ...] = (
    {"after": seconds(DAY)},
    {"after": seconds(DAY), "before": seconds(DAY)},
    {"after": seconds(DAY), "before": "infinity"},
    {"after": "-infinity", "before": seconds(DAY)},
    {"after": "soon", "before": seconds(DAY)},
    {"after": -1, "before": seconds(DAY)},
    {"after": 1e18, "before": 1e19},
    {"after": seconds(DAY), "before": "290000-01-01T00:00:00Z"},
    {"after": "0001-01-01 (BC) 00:00:00", "before": seconds(DAY)},
    {"after": [seconds(DAY)], "before": seconds(NEXT_DAY)},
)


def test_a_listed_cycle_is_current_rather_than_one_that_vanished() -> None:
    day = seconds(DAY)
    rows = [
        version("cycles", "a", 0, {"after": day - 86_400, "before": day + 86_400}),
        version("cycles", "b", 0, {"after": day, "before": day + 86_400}),
        version("cycles", "b", 1),
    ]
    assert [row["is_current"] for row in report("billing_cycles", rows)] == [True, False]


# Limits


def test_every_limit_has_its_scope_kind_and_source() -> None:
    cap = {"cycle_acu_limit": 5}
    rows = report(
        "acu_limits",
        [
            version("enterprise_limits", "enterprise", 0, cap | {"scope": "enterprise"}),
            version("enterprise_limits", "organization/o", 0, {"cycle_acu_limit": 0, "scope": "org", "org_id": "o"}),
            version("enterprise_limits", "u", 0, cap | {"scope": "user", "user_id": "u"}),
            version("organization_limits", "o", 0, {"org_id": "o", "cloud_agent": cap}),
            version("user_limits", "u", 0, {"user_id": "u", "local_agent": cap, "cloud_agent": None}),
            version("usage_tiers", "t", 0, {"tier_id": "t"}),
        ],
    )
    devin = "/v3/enterprise/consumption/acu-limits/devin"
    organization = "/v3beta1/enterprise/organizations/{org_id}/consumption/acu-limits"
    assert shown(rows, "scope", "scope_id", "limit_kind", "cycle_acu_limit", "source") == [
        ("enterprise", "(enterprise)", "devin", 5, devin),
        ("organization", "o", "cloud_agent", 5, organization),
        ("organization", "o", "devin", 0, devin),
        ("organization", "o", "local_agent", None, organization),
        ("tier", "t", "tier", None, "/v3beta1/enterprise/usage-policies/tiers"),
        ("user", "u", "devin", 5, devin),
        ("user", "u", "local_agent", 5, "/v3beta1/enterprise/users/consumption/acu-limits"),
    ]


@pytest.mark.notices("acu_limits: a removed limit")
@pytest.mark.parametrize("kind", ["enterprise_limits", "organization_limits", "user_limits", "usage_tiers"])
def test_a_removed_limit_is_closed_and_begins_a_new_row_when_it_comes_back(kind: str) -> None:
    object_id = "enterprise" if kind == "enterprise_limits" else "a"
    payload = {"cycle_acu_limit": 5, "cloud_agent": {"cycle_acu_limit": 5}}
    rows = [version(kind, object_id, 0, payload), version(kind, object_id, 2)]
    names = ("cycle_acu_limit", "valid_from", "valid_to", "is_current")

    def found() -> list[Any]:
        return shown([row for row in report("acu_limits", rows) if row["limit_kind"] != "local_agent"], *names)

    assert found() == [(5, 0, 2, False)]
    rows.append(version(kind, object_id, 3, payload))
    assert found() == [(5, 0, 2, False), (5, 3, None, True)]


def test_a_limit_absent_from_an_answer_limits_no_organization_and_is_none_of_a_user() -> None:
    sent: list[Row] = [{"cloud_agent": {"cycle_acu_limit": 5}}, {"local_agent": {"cycle_acu_limit": 1}}, {}]
    rows = [
        version(kind, kind, n, each) for kind in ("organization_limits", "user_limits") for n, each in enumerate(sent)
    ]
    names = ("scope", "limit_kind", "cycle_acu_limit", "valid_from", "valid_to", "is_current")
    assert shown(report("acu_limits", rows), *names) == [
        ("organization", "cloud_agent", 5, 0, 1, False),
        ("organization", "cloud_agent", None, 1, None, True),
        ("organization", "local_agent", None, 0, 1, False),
        ("organization", "local_agent", 1, 1, 2, False),
        ("organization", "local_agent", None, 2, None, True),
        ("user", "cloud_agent", 5, 0, 1, False),
        ("user", "local_agent", 1, 1, 2, False),
    ]


def test_a_limit_of_a_user_that_cannot_be_read_is_there_and_unknown() -> None:
    payload = {"cloud_agent": {"cycle_acu_limit": "lots"}, "local_agent": {"cycle_acu_limit": None}}
    rows = report("acu_limits", [version("user_limits", "u", 0, payload)])
    assert shown(rows, "limit_kind", "cycle_acu_limit") == [("cloud_agent", None)]


# Random histories, against plain Python

Shown = tuple[Any, ...]
Event = tuple[datetime, Shown | None]


def histories(
    objects: Sequence[tuple[str, str]], entries: Mapping[str, Sequence[tuple[object, Shown]]]
) -> st.SearchStrategy[list[tuple[Row, Shown | None]]]:
    """Versions and tombstones of some objects, each with what is to be read of it."""

    def of_object(kind: str, object_id: str) -> st.SearchStrategy[list[tuple[Row, Shown | None]]]:
        at_an_hour = st.dictionaries(
            st.integers(0, 5), st.one_of(st.none(), st.sampled_from(entries[kind])), max_size=5
        )
        return at_an_hour.map(
            lambda found: [
                (version(kind, object_id, hours, entry and entry[0]), entry and entry[1])
                for hours, entry in found.items()
            ]
        )

    lists = st.tuples(*(of_object(*each) for each in objects))
    return lists.map(lambda found: list(itertools.chain(*found))).flatmap(st.permutations)


def spans(events: Iterable[Event], *, stays: bool) -> list[tuple[Shown, datetime, datetime | None]]:
    """Spans in which the same was shown. What vanished stays as it was known last, or ends."""
    found: list[list[Any]] = []
    for at, now in events:
        if now is None and (stays or not found):
            continue
        if found and found[-1][2] is None and found[-1][0] != now:
            found[-1][2] = at
        if now is not None and (not found or found[-1][2] is not None):
            found.append([now, at, None])
    return [(what, begin, end) for what, begin, end in found]


def assert_spans(
    rows: Sequence[Row],
    key: Sequence[str],
    columns: Sequence[str],
    instants: Iterable[datetime],
    said: Callable[[tuple[Any, ...], datetime], Shown | None],
) -> None:
    """Spans of an object adjoin, one is current, and names at an instant are those that raw had last."""
    objects = {tuple(row[name] for name in key) for row in rows}
    for each in objects:
        own = [row for row in rows if tuple(row[name] for name in key) == each]
        assert [row["valid_to"] for row in own] == [*(row["valid_from"] for row in own[1:]), None]
        assert [row["is_current"] for row in own] == [False] * (len(own) - 1) + [True]
        assert all(row["is_listed"] for row in own[:-1])
        for at in instants:
            valid = [
                row for row in own if row["valid_from"] <= at and (row["valid_to"] is None or at < row["valid_to"])
            ]
            assert [tuple(row[name] for name in columns) for row in valid] == [
                now for now in [said(each, at)] if now is not None
            ]


INSTANTS = [after(hours) for hours in range(6)]
_LIMITS = [(5, 5), ("5", 5), (5.0, 5), (0, 0), (None, None), ("many", None), ([5], None)]
_NAMES = [("A", "A"), ("B", "B"), ("", ""), (None, None), (7, "7")]
_ORGANIZATIONS: list[tuple[object, Shown]] = [
    ({"name": name, "max_cycle_acu_limit": cycle, "max_session_acu_limit": 1}, (read, limit, 1))
    for (name, read), (cycle, limit) in itertools.product(_NAMES, _LIMITS)
]


@settings(max_examples=60, deadline=None)
@given(histories([("organizations", "a"), ("organizations", "b")], {"organizations": _ORGANIZATIONS}))
def test_organizations_of_any_history_are_as_plain_python_has_them(history: list[tuple[Row, Shown | None]]) -> None:
    columns = ("name", "max_cycle_acu_limit", "max_session_acu_limit")
    rows = report("organizations", [row for row, _ in history])
    expected = []
    for org_id in ("a", "b"):
        own = sorted((row["fetched_at"], what) for row, what in history if row["object_id"] == org_id)
        found = spans(own, stays=True)
        for what, begin, end in found:
            is_listed = end is not None or own[-1][1] is not None
            expected.append((org_id, begin, what, end, end is None, is_listed))
    assert [
        (
            row["org_id"],
            row["valid_from"],
            tuple(row[name] for name in columns),
            row["valid_to"],
            row["is_current"],
            row["is_listed"],
        )
        for row in rows
    ] == expected

    def said(key: tuple[Any, ...], at: datetime) -> Shown | None:
        listed = [(row["fetched_at"], what) for row, what in history if what and row["object_id"] == key[0]]
        return max(((when, what) for when, what in listed if when <= at), default=(at, None), key=lambda e: e[0])[1]

    assert_spans(rows, ["org_id"], columns, INSTANTS, said)


def _groups(value: object) -> list[str] | None:
    return sorted({each["idp_group_name"] for each in value}) if isinstance(value, list) else None


_GROUPS: list[object] = [[], [{"idp_group_name": "g"}], [{"idp_group_name": n} for n in "hgh"], "g", None]
_PEOPLE: dict[str, list[tuple[object, Shown]]] = {
    "users": [
        ({"name": name, "email": email}, (email, read, None))
        for (name, read), email in itertools.product(_NAMES, ("a@x", None))
    ],
    "idp_users": [
        ({"name": name, "email": "b@x", "idp_role_assignments": groups}, ("b@x", read, _groups(groups)))
        for (name, read), groups in itertools.product(_NAMES, _GROUPS)
    ],
    "service_users": [({"name": name, "email": "c@x"}, (None, read, [])) for name, read in _NAMES],
}
_LISTS_OF_PEOPLE = ("users", "idp_users", "service_users")


@settings(max_examples=60, deadline=None)
@given(
    histories([(kind, person) for person in ("u", "v") for kind in _LISTS_OF_PEOPLE], _PEOPLE),
    st.booleans(),
)
def test_users_of_any_history_are_as_plain_python_has_them(
    history: list[tuple[Row, Shown | None]], is_read: bool
) -> None:
    def state(person: str, at: datetime) -> Shown | None:
        """What the lists that have a person at an instant come to; None when none has."""
        found: dict[str, Shown] = {}
        for kind in _LISTS_OF_PEOPLE:
            own = [
                e for e in history if (e[0]["kind"], e[0]["object_id"]) == (kind, person) and e[0]["fetched_at"] <= at
            ]
            if own and (latest := max(own, key=lambda e: e[0]["fetched_at"])[1]):
                found[kind] = latest
        if not found:
            return None
        email, name = (next((e[n] for e in found.values() if e[n] is not None), None) for n in (0, 1))
        if list(found) == ["service_users"]:
            return None, name, [], "service_user"
        groups = found["idp_users"][2] if "idp_users" in found else []
        return email, name, groups if is_read else None, "user"

    kinds = KINDS if is_read else set(KINDS) - {"idp_users"}
    rows = report("users", [row for row, _ in history], kinds_read=kinds)
    columns = ("email", "name", "idp_groups", "kind")
    expected = []
    for person in ("u", "v"):
        events = [(at, state(person, at)) for at in INSTANTS]
        for what, begin, end in spans(events, stays=True):
            expected.append((person, begin, what, end, end is not None or events[-1][1] is not None))
    assert [
        (row["user_id"], row["valid_from"], tuple(row[name] for name in columns), row["valid_to"], row["is_listed"])
        for row in rows
    ] == expected

    def said(key: tuple[Any, ...], at: datetime) -> Shown | None:
        known = [now for now in (state(key[0], each) for each in INSTANTS if each <= at) if now is not None]
        return known[-1] if known else None

    assert_spans(rows, ["user_id"], columns, INSTANTS, said)


_BODIES = [("a", "a"), ("é", "é"), ("ab", "ab"), (None, None)]
_PLAYBOOKS: list[tuple[object, Shown]] = [
    (
        {"title": title, "access_type": "org", "org_id": None, "body": body},
        (read, "org", None, text and hashlib.sha256(text.encode()).hexdigest(), None if text is None else len(text)),
    )
    for (title, read), (body, text) in itertools.product(_NAMES, _BODIES)
]


@settings(max_examples=60, deadline=None)
@given(
    histories(
        [("playbooks", "p"), ("organization_playbooks", "a/p"), ("organization_playbooks", "b/p"), ("playbooks", "q")],
        {"playbooks": _PLAYBOOKS, "organization_playbooks": _PLAYBOOKS},
    )
)
def test_playbooks_of_any_history_are_as_plain_python_has_them(history: list[tuple[Row, Shown | None]]) -> None:
    places = {("playbooks", "p"): 0, ("organization_playbooks", "a/p"): 1, ("organization_playbooks", "b/p"): 2}

    def said(key: tuple[Any, ...], at: datetime) -> Shown | None:
        listed = [
            (row["fetched_at"], -places.get((row["kind"], row["object_id"]), 0), what)
            for row, what in history
            if what and row["object_id"].rpartition("/")[2] == key[0] and row["fetched_at"] <= at
        ]
        return max(listed)[2] if listed else None

    rows = report("playbooks", [row for row, _ in history])
    columns = ("title", "access_type", "org_id", "body_hash", "body_length")
    expected = []
    for playbook_id in ("p", "q"):
        latest: dict[Any, tuple[datetime, bool]] = {}
        for row, what in history:
            if row["object_id"].rpartition("/")[2] == playbook_id:
                place = (row["kind"], row["object_id"])
                latest[place] = max(latest.get(place, (after(-1), False)), (row["fetched_at"], what is not None))
        is_listed = any(is_in for _, is_in in latest.values())
        for what, begin, end in spans([(at, said((playbook_id,), at)) for at in INSTANTS], stays=True):
            expected.append((playbook_id, begin, what, end, end is not None or is_listed))
    assert [
        (row["playbook_id"], row["valid_from"], tuple(row[name] for name in columns), row["valid_to"], row["is_listed"])
        for row in rows
    ] == expected
    assert_spans(rows, ["playbook_id"], columns, INSTANTS, said)


_CAPS: list[tuple[object, Shown]] = [({"cycle_acu_limit": sent}, (read,)) for sent, read in _LIMITS]
_AGENTS: list[tuple[object, Shown]] = [
    ({name: {"cycle_acu_limit": value} for name, value in agents.items()}, (agents,))
    for agents in ({}, {"cloud_agent": 5}, {"cloud_agent": 0, "local_agent": 5}, {"local_agent": "5"})
]


@settings(max_examples=60, deadline=None)
@given(
    histories(
        [
            *(("enterprise_limits", "enterprise"), ("enterprise_limits", "organization/o"), ("enterprise_limits", "x")),
            *(("organization_limits", "o"), ("user_limits", "u"), ("usage_tiers", "t")),
        ],
        {
            "enterprise_limits": _CAPS,
            "usage_tiers": _CAPS,
            "organization_limits": _AGENTS,
            "user_limits": _AGENTS,
        },
    )
)
def test_limits_of_any_history_are_as_plain_python_has_them(history: list[tuple[Row, Shown | None]]) -> None:
    limits: dict[tuple[str, str, str], list[Event]] = {}
    for row, what in sorted(history, key=lambda each: each[0]["fetched_at"]):
        kind, object_id, at = row["kind"], row["object_id"], row["fetched_at"]
        if kind in ("organization_limits", "user_limits"):
            for agent in ("cloud_agent", "local_agent"):
                scope = kind.removesuffix("_limits")
                agents: Row = what[0] if what else {}
                value = agents.get(agent)
                is_there = what and (scope == "organization" or value is not None)
                now = (None if value is None else int(value),) if is_there else None
                limits.setdefault((scope, object_id, agent), []).append((at, now))
        elif kind == "usage_tiers":
            limits.setdefault(("tier", object_id, "tier"), []).append((at, what))
        else:
            scope, _, id_ = ("user", "", "x") if object_id == "x" else object_id.partition("/")
            sent = json.loads(row["payload"] or "{}").get("cycle_acu_limit")
            now = None if scope == "user" and sent is None else what
            limits.setdefault((scope, id_ or "(enterprise)", "devin"), []).append((at, now))
    rows = report("acu_limits", [row for row, _ in history])
    assert [
        (
            (row["scope"], row["scope_id"], row["limit_kind"]),
            row["valid_from"],
            row["cycle_acu_limit"],
            row["valid_to"],
            row["is_current"],
        )
        for row in rows
    ] == [
        (key, begin, limit, end, end is None)
        for key in sorted(limits)
        for (limit,), begin, end in spans(limits[key], stays=False)
    ]
