"""The section of the bill: what is billed next to what sessions consumed, and what it says where neither is known."""

import re
import shutil
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from devin_pipeline.billing_calendar import starts_at
from devin_pipeline.lake import BillNote, Lake
from devin_pipeline.reports.publishing import publish_report
from devin_pipeline.tables import RAW_CONSUMPTION, TABLES
from devin_pipeline.usage_report import Appearance, Question, Report, build_report
from devin_pipeline.usage_report.bill import (
    NO_BILL,
    OTHER_PRODUCTS,
    RESIDUAL,
    REST,
    SESSIONS,
    UNKNOWN_CONSUMPTION,
    bill_over_time,
    why_no_bill,
)
from devin_pipeline.usage_report.figures import read_figures
from devin_pipeline_tests.tables.rows import Row
from devin_pipeline_tests.usage_report.conftest import Opens, Reports
from devin_pipeline_tests.usage_report.lakes import LAST, enterprise, write

# In one process, for the reports that tests share.
pytestmark = pytest.mark.xdist_group("usage_report")
DAYS = [LAST - timedelta(days=n) for n in range(6)][::-1]
EXACT, MORE, NO_PRODUCTS, BROKEN, OPEN, NOT_LISTED = DAYS[0], DAYS[1], DAYS[2], DAYS[3], DAYS[4], DAYS[5]
ALL = Question(DAYS[0], LAST)


def session(day: date, acus: int, org_id: str = "o") -> Row:
    name = f"{org_id}-{day}"
    at = starts_at(day, 8) + timedelta(hours=1)
    return {
        "day": day,
        "session_id": name,
        "org_id": org_id,
        "state": "finished",
        "acus": Decimal(acus),
        "created_at": at,
    }


def billed(day: date, acus: int, product: str = "devin", org_id: str | None = None) -> Row:
    whose = ("enterprise", "(enterprise)") if org_id is None else ("organization", org_id)
    return {"day": day, "scope": whose[0], "scope_id": whose[1], "product": product, "acus": Decimal(acus)}


def lake_of(folder: Path, consumption: list[Row], sessions: list[Row], scope: str = "enterprise") -> Lake:
    spent = [
        {name: each[name] for name in ("day", "session_id", "acus")}
        | {"consumed_day": each["day"], "attribution_method": "single_day"}
        for each in sessions
    ]
    return write(folder, DAYS, scope, sessions=sessions, consumption_daily=consumption, session_acus_by_day=spent)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A day of each kind."""
    consumption = [
        *(billed(EXACT, 10), billed(EXACT, 3, "review"), billed(MORE, 8), billed(NO_PRODUCTS, 12, "(all)")),
        *(billed(BROKEN, 7), billed(OPEN, 9)),
    ]
    consumed = dict(zip(DAYS, (10, 10, 10, 0, 4, 2), strict=True))
    sessions = [session(day, acus) for day, acus in consumed.items()]
    return lake_of(tmp_path_factory.mktemp("odd") / "lake", consumption, sessions)


@pytest.fixture(scope="module")
def report_of_odd(odd: Lake) -> Report:
    return build_report(odd, ALL, Appearance(), 8)


def words_of(html: str) -> str:
    """The words of the section."""
    (found,) = re.findall(r'<section class="card wide" id="bill".*?</section>', html, re.DOTALL)
    return " ".join(re.sub("<script.*?</script>|<[^>]+>", "", found, flags=re.DOTALL).split())


def test_each_day_is_stacked_by_what_is_known_of_it(report_of_odd: Report) -> None:
    times = {time.time: time for time in bill_over_time(report_of_odd.figures)}
    bands = {day: {band: acus for band, acus in time.bands.items() if acus} for day, time in times.items()}
    assert bands == {
        EXACT: {SESSIONS: 10, OTHER_PRODUCTS: 3},
        # More was consumed than billed.
        MORE: {SESSIONS: 10, RESIDUAL: -2},
        NO_PRODUCTS: {SESSIONS: 10, REST: 2},
        BROKEN: {UNKNOWN_CONSUMPTION: 7},
        OPEN: {SESSIONS: 4, RESIDUAL: 5},
        NOT_LISTED: {NO_BILL: 2},
    }
    # Of a day that is not closed the residual is drawn, but no figure yet.
    assert [times[day].residual for day in DAYS] == [0, -2, None, None, None, None]
    assert [day for day in DAYS if not times[day].is_closed] == [OPEN]
    assert times[BROKEN].consumed is None


def test_the_section_says_what_came_of_each_day(report_of_odd: Report, tmp_path: Path, opened: Opens) -> None:
    html = report_of_odd.html
    words = words_of(html)
    assert (
        "Days by their residual: 1 exact, 1 above 5 %, 1 not closed yet, 1 with a bill that names no products, "
        "1 without ACUs of sessions, 1 without a bill." in words
    )
    assert words.count("On 1 of these days Devin's API gives 0 ACUs for every session") == 1
    assert "Pale days are not closed" in words
    assert "On closed days the residual is -2.0 (-11.1 %)" in words
    assert re.search(r"residual <data[^>]*>-2.0</data>", html.partition('class="grid"')[0])
    (tmp_path / "odd.html").write_text(html)
    page = opened(tmp_path / "odd.html").page
    assert page.locator("#bill .legend li").count() == 6
    pale = page.locator("[data-chart=spec-bill] .mark-rect path[opacity='0.45']")
    assert pale.count() > 0


def test_what_is_stacked_is_what_was_billed_on_every_day(usual: Lake) -> None:
    for org_id in (None, "org-1"):
        figures = read_figures(usual, Question(LAST - timedelta(days=80), LAST, org_id), 8)
        times = bill_over_time(figures)
        assert len(times) == 81
        assert [time.time for time in times if sum(time.bands.values()) != time.billed] == []
        assert sum(time.billed or 0 for time in times) == figures.totals["billed_acus"].value
        rows = usual.query("select * from reconciliation_daily where is_closed").to_pylist()
        residuals = {row["day"]: row["residual_acus"] for row in rows if row["org_id"] == (org_id or "(enterprise)")}
        assert [time.time for time in times if time.residual != residuals.get(time.time)] == []
        assert {time.bands[RESIDUAL] < 0 for time in times} == {True, False}


def test_an_organization_has_its_own_bill(reports: Reports) -> None:
    report = reports(Question(org_id="org-1"))
    billed_to_all = reports().figures.totals["billed_acus"].value or 0
    assert 0 < (report.figures.totals["billed_acus"].value or 0) < billed_to_all
    assert "By product" in words_of(report.html)


def test_a_lake_of_one_organization_shows_its_bill_unasked(tmp_path: Path) -> None:
    consumption = [billed(EXACT, 11, org_id="o")]
    lake = lake_of(tmp_path / "lake", consumption, [session(EXACT, 10)], scope="o")
    figures = read_figures(lake, ALL, 8)
    assert (figures.totals["billed_acus"].value, figures.totals["residual_acus"].value) == (11, 1)
    assert figures.groups["product"][0].key == ("devin",)


def test_weeks_are_the_sums_of_their_days(tmp_path: Path) -> None:
    lake = enterprise(tmp_path / "lake", days=140, sessions_a_day=3, organizations=2, every=5)
    question = Question(LAST - timedelta(days=139), LAST)
    report = build_report(lake, question, Appearance(), 8)
    figures = report.figures
    times = bill_over_time(figures)
    assert {time.time.weekday() for time in times} == {0}
    for name, measure in (("billed", "billed_acus"), ("residual", "residual_acus")):
        assert sum(getattr(time, name) or 0 for time in times) == figures.totals[measure].value
    assert re.search(r"\d{3} whose bill was not asked for", words_of(report.html))


def test_a_lake_without_a_bill_says_why(tmp_path: Path) -> None:
    lake = write(tmp_path / "lake", DAYS, sessions=[session(EXACT, 10)])
    html = build_report(lake, ALL, Appearance(), 8).html
    said = "The bill No bill was read for these days. Find the reason: uv run devin-pipeline doctor"
    assert words_of(html) == said
    assert html.count('<section class="card kpi">') == 6
    other_days = why_no_bill(read_figures(lake, ALL, 9))
    assert other_days is not None
    assert other_days.startswith(
        "No bill is read: bills are of days that begin at 08:00 UTC, and those of this lake begin"
    )


def test_a_bill_that_never_names_products_has_no_residual(tmp_path: Path) -> None:
    lake = lake_of(tmp_path / "lake", [billed(EXACT, 12, "(all)")], [session(EXACT, 10)])
    html = build_report(lake, ALL, Appearance(), 8).html
    assert "Sessions consumed 10.0 ACUs on these days. The bill names no products" in words_of(html)
    assert "On closed days" not in words_of(html)


def test_a_key_that_may_not_read_the_bill_is_said(tmp_path: Path) -> None:
    lake = lake_of(tmp_path / "lake", [], [session(EXACT, 10)])
    assert "The API lists no bill for these days." in words_of(build_report(lake, ALL, Appearance(), 8).html)
    lake.note_bill(RAW_CONSUMPTION, ["enterprise"], BillNote(refused={"enterprise": 403}))
    publish_report(lake, TABLES["reconciliation_daily"])
    assert "The key may not read the bill." in words_of(build_report(lake, ALL, Appearance(), 8).html)


def test_a_damaged_bill_costs_its_section_and_no_other(odd: Lake, tmp_path: Path) -> None:
    shutil.copytree(odd.uri, tmp_path / "lake")
    lake = Lake(str(tmp_path / "lake"))
    for file in lake.snapshot(TABLES["reconciliation_daily"]).stored_files():
        Path(file.path).write_bytes(b"")
    html = build_report(lake, ALL, Appearance(), 8).html
    assert "The table reconciliation_daily cannot be read" in words_of(html)
    assert html.count('<section class="card kpi">') == 6
