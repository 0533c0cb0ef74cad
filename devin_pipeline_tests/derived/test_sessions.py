"""One row per session: its state and how its values are written."""

import json

from devin_pipeline_tests.derived.builders import derived, only, version
from devin_pipeline_tests.tables.rows import DAY, NOON, acus

STATES = [
    ("exit", None, "finished"),
    ("exit", "waiting_for_user", "finished"),
    ("running", "finished", "finished"),
    ("suspended", "finished", "finished"),
    ("error", "finished", "finished"),
    ("running", "waiting_for_user", "waiting"),
    ("running", "waiting_for_approval", "waiting"),
    ("suspended", "waiting_for_user", "waiting"),
    ("new", None, "running"),
    ("claimed", None, "running"),
    ("running", "working", "running"),
    ("running", "some_new_detail", "running"),
    ("resuming", None, "running"),
    ("suspended", "inactivity", "suspended"),
    ("suspended", None, "suspended"),
    ("error", "error", "error"),
    ("blocked", None, "other:blocked"),
    ("Exit", None, "other:Exit"),
    ("", None, "other:"),
    (None, None, "other:"),
    (None, "finished", "finished"),
    (None, "waiting_for_user", "waiting"),
    (None, "working", "other:"),
]


def test_the_state_is_the_first_that_fits() -> None:
    versions = [
        version(f"s{place:02}", status=status, status_detail=detail) for place, (status, detail, _) in enumerate(STATES)
    ]
    rows = derived("sessions", v3=versions)
    assert [(row["status"], row["status_detail"], row["state"]) for row in rows] == STATES


def test_a_session_with_every_field() -> None:
    fields = {
        "url": "https://app.devin.ai/sessions/a",
        "org_id": "org-1",
        "user_id": "auth0|1",
        "service_user_id": "su",
        "title": "T",
        "tags": ["b", "a", "b"],
        "child_session_ids": ["devin-c", "d", "devin-devin-e"],
        "parent_session_id": "devin-p",
        "status": "running",
        "status_detail": "working",
        "origin": "slack",
        "category": "bug_fixing",
        "subcategory": "sub",
        "playbook_id": "pb",
        "is_archived": False,
        "session_size": "m",
        "num_user_messages": 0,
        "num_devin_messages": 7,
        "structured_output": {"x": 1},
        "analysis": {"issues": []},
    }
    row = only(derived("sessions", insights=[version(payload=json.dumps(fields), acus=acus("0.000001"))]))
    renamed = {"url", "analysis"}
    assert row == {name: value for name, value in fields.items() if name not in renamed} | {
        "day": DAY,
        "session_id": "a",
        "session_url": "https://app.devin.ai/sessions/a",
        "child_session_ids": ["c", "d", "devin-e"],
        "parent_session_id": "p",
        "state": "running",
        "is_listed": True,
        "created_at": NOON,
        "updated_at": NOON,
        "acus": acus("0.000001"),
        "initial_user_message": None,
        "structured_output": '{"x":1}',
        "has_analysis": True,
        "first_seen_at": NOON,
        "last_changed_at": NOON,
        "versions": 1,
        "feeds": ["raw_session_insights_v3"],
    }


def test_lists_are_never_null() -> None:
    sent: list[object] = [None, [], [None]]
    versions = [version(f"s{n}", tags=tags, child_session_ids=tags) for n, tags in enumerate(sent)]
    rows = derived("sessions", v3=versions)
    assert [(row["tags"], row["child_session_ids"]) for row in rows] == [([], [])] * 3


def test_tags_that_are_not_text_are_stored_as_json() -> None:
    rows = derived("sessions", v3=[version("a", tags=["x", 5, 1.5, True, {"k": [1]}, None, "x"])])
    assert only(rows)["tags"] == ["x", "5", "1.5", "true", '{"k":[1]}', "x"]


def test_unknown_acus_stay_unknown_and_none_stay_none() -> None:
    rows = derived("sessions", v3=[version("a"), version("b", acus=acus("0"))])
    assert [row["acus"] for row in rows] == [None, acus("0")]
