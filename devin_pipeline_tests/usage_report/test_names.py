"""Organizations, people and playbooks are called by their names; their ids can still be found."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.lake import Connection
from devin_pipeline.tables import TABLES
from devin_pipeline.usage_report import Appearance, Question, build_report, dearest_causes
from devin_pipeline.usage_report.figures import read_figures
from devin_pipeline.usage_report.names import Names, read_names
from devin_pipeline_tests.tables.rows import Row, rows_of
from devin_pipeline_tests.usage_report.conftest import Reports
from devin_pipeline_tests.usage_report.lakes import LAST, write
from devin_pipeline_tests.usage_report.test_bill import session

# In one process, for the reports that tests share.
pytestmark = pytest.mark.xdist_group("usage_report")
AT = starts_at(LAST, 8, after=1)


def names_of(**tables: list[Row]) -> Names:
    with Connection() as connection:
        for name in ("organizations", "users", "playbooks"):
            connection.register(name, rows_of(TABLES[name], tables.get(name, [])))
        return read_names(connection, TABLES, AT)


def organization(org_id: str, name: str | None, days: int = -10) -> Row:
    return {"org_id": org_id, "name": name, "valid_from": AT + timedelta(days=days)}


def test_the_name_is_that_of_the_end_of_the_period_else_the_one_known_last() -> None:
    names = names_of(
        organizations=[
            *(organization("a", "Old", -20), organization("a", "Valid"), organization("a", "New", 1)),
            *(organization("b", "First", 1), organization("b", "Last", 2)),
        ]
    )
    assert [names.shown("org_id", each) for each in ("a", "b", "c", None)] == ["Valid", "Last", "c", "(none)"]


def test_what_is_blank_or_missing_has_no_name_and_stands_for_itself() -> None:
    blank = [organization(str(n), name) for n, name in enumerate(["xxxx", "xx xx", "x", "", None, " "])]
    names = names_of(organizations=[*blank, organization("pseudonym", "xylophone")])
    assert [names.shown("org_id", row["org_id"]) for row in blank] == [row["org_id"] for row in blank]
    assert names.shown("org_id", "pseudonym") == "xylophone"


def test_one_name_of_several_comes_with_what_distinguishes_them() -> None:
    users = [
        {"user_id": "1", "name": "Kim", "email": "kim@a.example", "kind": "user"},
        {"user_id": "2", "name": "Kim", "email": "xxxxxxxx", "kind": "user"},
        {"user_id": "3", "name": "Kim", "kind": "service_user"},
        {"user_id": "4", "name": "Lee", "email": "lee@a.example", "kind": "user"},
        {"user_id": "5", "name": "y" * 59, "email": "5@a.example", "kind": "user"},
        {"user_id": "6", "name": "y" * 59, "email": "6@a.example", "kind": "user"},
    ]
    names = names_of(users=[{**row, "valid_from": AT} for row in users])
    shown = [names.shown("user_id", row["user_id"]) for row in users]
    assert shown == ["Kim (kim@a.example)", "Kim (2)", "Kim (3)", "Lee", "5", "6"]


def test_a_name_is_never_taken_for_another_id_or_for_others() -> None:
    names = names_of(organizations=[organization("a", "b"), organization("b", "others"), organization("c", "(none)")])
    assert [names.shown("org_id", each) for each in "abc"] == ["b (a)", "others (b)", "(none) (c)"]


def test_names_stand_in_every_section_with_their_ids(reports: Reports) -> None:
    html = reports().html
    for section, id_, name in (
        *(("organization", "org-0", "Team 0"), ("size", "org-1", "Team 1"), ("user", "user-5", "Person 5")),
        *(("playbook_id", "playbook-1", "Raise coverage"), ("prompts", "user-5", "Person 5")),
    ):
        (part,) = re.findall(rf'<section class="[^"]*" id="{section}".*?</section>', html, re.DOTALL)
        assert f'<bdi title="{id_}">{name}</bdi>' in part, section
    assert "<bdi>org-3</bdi>" in html
    assert "Renamed" not in html
    assert '<bdi title="org-1">Team 1</bdi>' in reports(Question(org_id="org-1")).html
    assert re.search(r'<bdi title="user-([01])">Kim \(user-\1\)</bdi>', html)


def test_what_stands_out_is_called_by_its_name(tmp_path: Path) -> None:
    burns = [session(LAST, 20, "a") | {"playbook_id": "p", "session_id": f"a-{n}"} for n in range(3)]
    works = [session(LAST, 20, "b") | {"session_id": "b"}]
    link = {"day": LAST, "session_id": "b", "url": "https://h/o/r/pull/1", "number": 1, "state": "merged"}
    title = {"playbook_id": "p", "title": "Upgrade", "valid_from": AT}
    lake = write(tmp_path / "lake", [LAST], sessions=burns + works, session_pull_requests=[link], playbooks=[title])
    (cause,) = dearest_causes(read_figures(lake, Question(), 8))
    assert (cause.name, cause.key) == ("Playbook Upgrade", "p")


def test_masked_users_have_no_names(reports: Reports) -> None:
    html = reports(appearance=Appearance(masks_users=True)).html
    assert [word for word in ("Kim", "Person", "user-") if word in html] == []
    assert "Team 0" in html


def test_a_lake_without_names_shows_ids(tmp_path: Path) -> None:
    lake = write(tmp_path / "lake", [LAST], sessions=[session(LAST, 3)])
    assert "<bdi>o</bdi>" in build_report(lake, Question(), Appearance(), 8).html
