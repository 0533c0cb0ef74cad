"""Every number of a report is what the query of its measure gives; what is missing or damaged is said."""

import json
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.cli import main
from devin_pipeline.lake import Connection, Lake
from devin_pipeline.tables import RAW_SESSION_TABLES, TABLES
from devin_pipeline.tables.measures import MEASURES, Period
from devin_pipeline.usage_report import Appearance, Question, build_report, dearest_causes
from devin_pipeline.usage_report.errors import NoDays
from devin_pipeline.usage_report.figures import missing_in_words, read_figures
from devin_pipeline.usage_report.text import UNKNOWN, change, difference, label, number, percent, points, shown
from devin_pipeline_tests.tables.rows import Row
from devin_pipeline_tests.usage_report.conftest import Reports
from devin_pipeline_tests.usage_report.lakes import LAST, write

# In one process, for the reports that tests share.
pytestmark = pytest.mark.xdist_group("usage_report")
FIRST = LAST - timedelta(days=83)


class _Numbers(HTMLParser):
    """The elements of a page that hold a number, with their text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str], str]] = []
        self._open: dict[str, str] | None = None

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag == "data":
            self._open = {name: value or "" for name, value in attrs}

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.found.append((self._open, data))

    def handle_endtag(self, tag: str) -> None:
        if tag == "data":
            self._open = None


def numbers(html: str) -> list[tuple[dict[str, str], str]]:
    parser = _Numbers()
    parser.feed(html)
    return parser.found


def query_of(attributes: dict[str, str]) -> str:
    """What a number's measure publishes for its period, organization and groups."""
    period = Period(date.fromisoformat(attributes["data-from"]), date.fromisoformat(attributes["data-to"]))
    by = list(json.loads(attributes.get("data-by", "{}")))
    return MEASURES[attributes["data-measure"]].query(period, org_id=attributes.get("data-org"), by=by)


def questions() -> list[Question]:
    rng = random.Random(18)
    chosen = []
    for org_id in (None, "org-0", None, "org-3", "org-1"):
        first = FIRST + timedelta(days=rng.randrange(40))
        chosen.append(Question(first, first + timedelta(days=rng.randrange(1, 40)), org_id))
    return chosen


@pytest.fixture(scope="module")
def usual_rows(usual: Lake) -> Iterator[Connection]:
    """The whole rows of every table that a measure reads, read once for all queries."""
    with usual.connect() as connection:
        for name in sorted({name for measure in MEASURES.values() for name in measure.tables}):
            connection.cache_columns(name, "*")
        yield connection


@pytest.mark.parametrize("question", questions(), ids=str)
def test_every_number_is_what_its_query_gives_to_the_last_digit(
    question: Question, usual: Lake, reports: Reports, usual_rows: Connection
) -> None:
    found = numbers(reports(question).html)
    assert len(found) > 150
    answers: dict[str, list[Row]] = {}
    checked = set()
    for attributes, _ in found:
        query = query_of(attributes)
        if query not in answers:
            # A connection for each, as `query` opens it, takes a while: a few are asked in that way, too.
            answers[query] = usual_rows.rows(query).to_pylist()
            assert len(answers) % 30 or usual.query(query).to_pylist() == answers[query]
    for attributes, text in found:
        measure = MEASURES[attributes["data-measure"]]
        key = json.loads(attributes.get("data-by", "{}"))
        rows = answers[query_of(attributes)]
        values = [row[measure.name] for row in rows if all(_as_text(row[name]) == key[name] for name in key)]
        # A group without rows of its own has no value of this measure.
        (value,) = values or [None]
        assert text == number(value, measure.unit), (attributes, value)
        assert attributes["title"].startswith(measure.title)
        checked.add(measure.name)
    assert {"acus", "merge_rate", "active_users", "acus_split_by_tag", "sessions_with_issue", "action_items"} <= checked
    of_bill = {"billed_acus", "billed_acus_by_product", "consumed_acus", "residual_share", "attribution_coverage"}
    assert of_bill | {"days_asked_for", "residual_acus", "billed_acus_of_products_with_sessions"} <= checked
    assert (question.org_id is None) == all("data-org" not in attributes for attributes, _ in found)


def _as_text(value: object) -> str | None:
    return None if value is None else str(value)


def test_the_queries_of_a_page_are_run_by_the_command_query(usual: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVIN_LAKE", usual.uri)
    for name in ("acus", "acus_per_merged_pull_request", "active_users"):
        query = MEASURES[name].query(Period(FIRST, LAST), org_id="org-0")
        printed = json.loads(CliRunner().invoke(main, ["query", "--format", "json", query]).stdout)
        assert float(printed[0][name]) == float(usual.query(query).to_pylist()[0][name])


def test_a_report_is_of_the_last_four_weeks_compared_with_the_four_before(reports: Reports) -> None:
    figures = reports().figures
    assert figures.period == Period(LAST - timedelta(days=27), LAST)
    assert figures.before == Period(LAST - timedelta(days=55), LAST - timedelta(days=28))
    assert figures.trend.first_day.weekday() == 0
    assert figures.coverage.present == 28


def test_a_period_that_is_not_over_is_compared_at_equal_elapsed_days(tmp_path: Path) -> None:
    days = [LAST - timedelta(days=n) for n in range(10)]
    lake = write(tmp_path, days, sessions=[_session(days[-1]), _session(LAST)])
    lake.note_read(RAW_SESSION_TABLES[0], days, starts_at(LAST, 8, after=2))
    figures = read_figures(lake, Question(LAST - timedelta(days=2), LAST + timedelta(days=3)), 8)
    # Three of six days have passed; so three of the six before count.
    assert figures.before == Period(LAST - timedelta(days=8), LAST - timedelta(days=6))
    assert figures.coverage.missing == [LAST + timedelta(days=n) for n in (1, 2, 3)]


def test_nothing_is_compared_with_days_that_are_not_there(reports: Reports) -> None:
    report = reports(Question(FIRST, FIRST + timedelta(days=6)))
    assert (report.figures.before, report.figures.earlier) == (None, {})
    assert "Nothing to compare with" in report.html


def test_a_day_that_was_not_over_when_it_was_read_is_not_the_last_of_a_report(tmp_path: Path) -> None:
    days = [LAST - timedelta(days=1), LAST]
    lake = write(tmp_path, days, sessions=[_session(day) for day in days])
    lake.note_read(RAW_SESSION_TABLES[0], days, starts_at(LAST, 8) + timedelta(hours=3))
    figures = read_figures(lake, Question(), 8)
    assert (figures.period.last_day, figures.coverage.is_over) == (LAST - timedelta(days=1), True)
    asked = read_figures(lake, Question(LAST, LAST), 8)
    assert (asked.coverage.through, asked.coverage.is_over) == (LAST, False)


def test_what_was_nothing_before_is_compared_and_a_rate_in_points(tmp_path: Path) -> None:
    days = [LAST - timedelta(days=1), LAST]
    sessions = [_session(day, name=f"{day}") for day in days]
    links = [
        {"day": day, "session_id": f"{day}", "url": f"https://h/o/r/pull/{day}", "number": n, "state": state}
        for n, (day, state) in enumerate(zip(days, ("closed", "merged"), strict=True))
    ]
    lake = write(tmp_path, days, sessions=sessions, session_pull_requests=links)
    html = build_report(lake, Question(LAST, LAST), Appearance(), 8).html
    headlines = re.findall(r'<section class="card kpi">(.*?)</section>', html, re.DOTALL)
    texts = [" ".join(re.sub("<[^>]+>", " ", each).split()) for each in headlines]
    assert "Merged pull requests 1 from 0" in texts
    assert "Merge rate 100.0 % +100.0 points from 0.0 %" in texts


def test_a_damaged_day_that_no_figure_reads_costs_nothing(tmp_path: Path) -> None:
    days = [LAST - timedelta(days=200), LAST]
    lake = write(tmp_path, days, sessions=[_session(day, name=f"{day}") for day in days])
    (old,) = (file for file in lake.snapshot(TABLES["acu_daily"]).stored_files() if file.day == days[0])
    Path(old.path).write_bytes(b"")
    figures = read_figures(lake, Question(LAST, LAST), 8)
    assert (figures.unreadable, figures.totals["acus"].value) == ({}, Decimal(1))


def test_days_that_are_not_there_are_named_and_nothing_is_written(usual: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVIN_LAKE", usual.uri)
    result = CliRunner().invoke(main, ["report", "--from", "2020-01-01", "--to", "2020-01-31"])
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        "No report was written.",
        f"No day from 2020-01-01 to 2020-01-31 has been read; the lake has days from {FIRST} to {LAST}.",
        f"Ask for days from {FIRST} to {LAST}, or read others first: "
        "uv run devin-pipeline backfill --from DAY --to DAY",
    ]
    assert not (Path(usual.uri) / "documents").exists()


def test_days_that_are_not_there_are_in_the_demo_to_be_read_by_nothing() -> None:
    error = NoDays(FIRST, FIRST, (LAST, LAST), is_demo=True)
    assert error.todo == f"Ask for days from {LAST} to {LAST}"
    assert NoDays(None, None, None, is_demo=True).todo == "Run the demo: `uv run devin-pipeline demo`"


def test_an_organization_that_is_not_there_is_refused_and_others_are_named(
    usual: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_LAKE", usual.uri)
    result = CliRunner().invoke(main, ["report", "--org", "elsewhere"])
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        "No report was written.",
        "The lake has no session of the organization 'elsewhere'.",
        "Ask for one of org-0, org-1, org-2, org-3.",
    ]
    assert not (Path(usual.uri) / "documents").exists()


def test_without_a_desktop_nothing_is_opened_and_the_path_is_there(
    small: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEVIN_LAKE", small.uri)
    monkeypatch.setenv("SSH_CONNECTION", "elsewhere")
    result = CliRunner().invoke(main, ["report", "--open", "--output", str(tmp_path / "report.html")])
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}/report.html\n")
    assert result.stderr == "There is no browser here that could be started: open the file in one.\n"


def test_a_damaged_table_costs_its_sections_and_no_other(small: Lake, tmp_path: Path) -> None:
    shutil.copytree(small.uri, tmp_path / "lake")
    lake = Lake(str(tmp_path / "lake"))
    for file in lake.snapshot(TABLES["session_issues"]).stored_files():
        Path(file.path).write_bytes(b"")
    report = build_report(lake, Question(), Appearance(), 8)
    assert "The table session_issues cannot be read" in report.html
    assert report.figures.groups["issue"] == []
    assert report.figures.groups["category"] != []
    assert "session_issues" in report.warnings[0]


def test_users_may_have_numbers_and_prompts_may_be_left_out(reports: Reports) -> None:
    whole = reports().html
    shared = reports(appearance=Appearance(masks_users=True, with_text=False)).html
    assert ("user-" in whole, "fix the login in auth.py" in whole.replace("<ins>", "").replace("</ins>", "")) == (
        True,
        True,
    )
    assert [word for word in ("user-", "fix the", "in auth.py", "Too vague") if word in shared] == []
    assert "User 1" in shared


def test_a_report_is_named_for_what_it_shows_and_goes_where_it_is_asked_to(
    small: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVIN_LAKE", small.uri)
    names = []
    for options in ([], ["--org", "org-0"], ["--org", "org-1"], ["--no-text", "--mask-users"]):
        result = CliRunner().invoke(main, ["report", *options])
        assert result.exit_code == 0, result.output
        names.append(Path(result.stdout.strip()).relative_to(Path(small.uri, "documents")).name)
    period = f"{LAST}_{LAST}"
    assert (names[0], names[3]) == ("usage_report.html", f"usage_report_{period}_masked_no-text.html")
    assert len({name for name in names if name.startswith(f"usage_report_{period}_organization-")}) == 2
    elsewhere = tmp_path / "report.html"
    result = CliRunner().invoke(main, ["report", "--to", str(LAST + timedelta(days=1)), "--output", str(elsewhere)])
    assert (result.exit_code, result.stdout) == (0, f"{elsewhere}\n")
    assert result.stderr == f"Warning: these days have not been read: {LAST + timedelta(days=1)}\n"
    assert elsewhere.read_text().startswith("<!doctype html>")
    shutil.rmtree(Path(small.uri, "documents"))


def test_the_dearest_causes_are_those_that_merge_less_than_all_do(tmp_path: Path) -> None:
    sessions = [
        *(_session(LAST, name=f"bad-{n}", playbook_id="burns", category="other", acus=20) for n in range(4)),
        *(_session(LAST, name=f"good-{n}", playbook_id="works", category="bug_fixing", acus=5) for n in range(4)),
    ]
    links = [
        {"day": LAST, "session_id": f"good-{n}", "url": f"https://h/o/r/pull/{n}", "number": n, "state": "merged"}
        for n in range(4)
    ]
    lake = write(tmp_path, [LAST], sessions=sessions, session_pull_requests=links)
    causes = dearest_causes(read_figures(lake, Question(), 8))
    # Not its category too: nothing of that is left without the playbook.
    assert [(cause.name, cause.without.value, cause.share.value) for cause in causes] == [
        ("Playbook burns", Decimal(80), Decimal(1))
    ]


def test_a_cause_is_found_in_what_those_before_it_leave_and_names_its_issues(tmp_path: Path) -> None:
    sessions = [
        *(_session(LAST, name=f"a-{n}", playbook_id="burns", category="upgrades", acus=20) for n in range(4)),
        # With those of the playbook, three in five of the upgrades are not merged; without them, all are.
        *(_session(LAST, name=f"b-{n}", category="upgrades", acus=10) for n in range(4)),
        *(_session(LAST, name=f"c-{n}", category="research", origin="slack", acus=9) for n in range(3)),
        *(_session(LAST, name=f"d-{n}", category="bug_fixing", acus=10) for n in range(6)),
    ]
    merged = [session["session_id"] for session in sessions if session["session_id"][0] in "bd"]
    links = [
        {"day": LAST, "session_id": name, "url": f"https://h/o/r/pull/{n}", "number": n, "state": "merged"}
        for n, name in enumerate(merged)
    ]
    issues = [
        {"day": LAST, "session_id": f"a-{n}", "ordinal": ordinal, "label": name}
        for n in range(4)
        for ordinal, name in enumerate(["Access", "Testing"][: 1 + n % 2])
    ]
    lake = write(tmp_path, [LAST], sessions=sessions, session_pull_requests=links, session_issues=issues)
    causes = dearest_causes(read_figures(lake, Question(), 8))
    assert [cause.name for cause in causes] == ["Playbook burns", "Category research"]
    assert [(name, sessions.value) for name, sessions in causes[0].issues] == [("Access", 4), ("Testing", 2)]
    assert causes[1].issues == []


def test_of_causes_that_cost_about_as_much_the_one_of_which_least_was_merged_is_named(tmp_path: Path) -> None:
    sessions = [
        *(_session(LAST, name=f"a-{n}", playbook_id="burns", category="upgrades", acus=20) for n in range(4)),
        # The other upgrades are a little worse than all the rest, so that the category costs most.
        *(_session(LAST, name=f"b-{n}", category="upgrades", acus=10) for n in range(5)),
        *(_session(LAST, name=f"d-{n}", category="bug_fixing", acus=20) for n in range(10)),
    ]
    merged = ["b-0", "b-1", *(f"d-{n}" for n in range(8))]
    links = [
        {"day": LAST, "session_id": name, "url": f"https://h/o/r/pull/{n}", "number": n, "state": "merged"}
        for n, name in enumerate(merged)
    ]
    lake = write(tmp_path, [LAST], sessions=sessions, session_pull_requests=links)
    figures = read_figures(lake, Question(), 8)
    general = Decimal(150) / 330
    assert 110 - general * 130 > 80 - general * 80
    assert dearest_causes(figures)[0].name == "Playbook burns"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (Decimal("12.25"), "ACUs", "12.3"),
        (Decimal("999.95"), "ACUs", "1,000"),
        (Decimal("2470.5"), "ACUs", "2,471"),
        (Decimal("0.8315"), "share", "83.2 %"),
        (1234567, "sessions", "1,234,567"),
        (None, "ACUs each", UNKNOWN),
        (Decimal("-0.04"), "ACUs", "0.0"),
    ],
)
def test_a_number_has_the_digits_a_person_needs(value: Decimal | None, unit: str, text: str) -> None:
    assert number(value, unit) == text  # type: ignore[arg-type]


def test_a_change_has_its_sign_and_is_nothing_without_something_to_compare_with() -> None:
    assert percent(change(Decimal(107), 100) or Decimal(0)) == "+7 %"
    assert percent(change(89, 100) or Decimal(0)) == "\N{MINUS SIGN}11 %"
    assert percent(Decimal("-0.003")) == "±0 %"
    assert points(Decimal("0.758"), Decimal("0.7562")) == "+0.2 points"
    assert points(Decimal("0.75"), Decimal("0.75")) == "±0 points"
    assert [change(None, 1), change(1, None), change(1, 0)] == [None, None, None]


def test_what_cannot_be_seen_is_replaced_and_labels_are_cut() -> None:
    assert shown("a\u0000b\u202ec\u200bd\ud800") == "a\ufffdb\ufffdc\ufffdd\ufffd"
    assert label("x" * 10_000) == "x" * 59 + "…"
    assert (label(None), label(LAST)) == ("(none)", str(LAST))


def test_a_difference_marks_words() -> None:
    before, after = difference("fix the bug", "fix the login bug")
    assert [text for differs, text in before if differs] == []
    assert "".join(text for _, text in before) == "fix the bug"
    assert "".join(text for _, text in after) == "fix the login bug"
    assert "".join(text for differs, text in after if differs).strip() == "login"


def _session(day: date, name: str = "", acus: int = 1, **values: object) -> Row:
    created = starts_at(day, 8) + timedelta(hours=1)
    return {
        **{"day": day, "session_id": name or str(day), "state": "finished", "acus": Decimal(acus)},
        **{"created_at": created, "org_id": "o", **values},
    }


def test_of_many_days_that_are_missing_the_newest_ranges_are_named() -> None:
    few = [date(2026, 11, 3), date(2026, 11, 7), date(2026, 11, 8)]
    assert missing_in_words(few) == "2026-11-03, 2026-11-07 … 2026-11-08"
    every_second = [date(2026, 1, 1) + timedelta(days=2 * n) for n in range(20)]
    assert missing_in_words(every_second) == f"{', '.join(map(str, every_second[-6:]))}, and 14 days before"
