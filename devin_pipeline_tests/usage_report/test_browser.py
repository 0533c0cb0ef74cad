"""The report in a real browser: drawn whole in every look, alone, and safe from the text it shows."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped] # it ships no types

from devin_pipeline.lake import Lake
from devin_pipeline.usage_report import Appearance, Question, Report, build_report
from devin_pipeline.usage_report.text import UNKNOWN
from devin_pipeline_tests.usage_report.conftest import Opens, Reports, in_another_look
from devin_pipeline_tests.usage_report.lakes import KINDS, NASTY, chunks, enterprise, of_kind

# In one process, for the browser and the reports that tests share.
pytestmark = pytest.mark.xdist_group("usage_report")
SECTIONS = (
    *("causes", "time", "outcome", "bill", "week", "size", "organization", "user", "playbook_id", "category", "origin"),
    *("repository", "tag", "prompts", "feedback", "issue", "action_item", "definitions"),
)
CHARTS = ["time", "outcome", "bill", "week", "size", "state", "issue"]
MOST_BYTES = 1_500_000
# Vega makes forms of its own, for what a chart may be asked.
FORBIDDEN = (
    *("iframe", "object", "base", "form:not(.vega-bindings)", "input", "link", "main meta", "math", "img", "b"),
    *("a:not([href^='#'])", "[onclick]", "[onerror]", "[onfocus]", "[onload]", "[onmouseover]", "[onpointerenter]"),
)


def saved(folder: Path, report: Report) -> Path:
    path = folder / "report.html"
    path.write_text(report.html)
    assert len(report.html.encode()) < MOST_BYTES
    return path


def built(lake: Lake, question: Question | None = None) -> Report:
    return build_report(lake, question or Question(), Appearance(), 8)


@pytest.mark.parametrize("look", ["light", "dark", "print", "400 pixels"])
def test_every_section_is_shown_and_nothing_else_is_asked_for(
    look: str, reports: Reports, tmp_path: Path, opened: Opens
) -> None:
    report = opened(saved(tmp_path, reports()), width=400 if look == "400 pixels" else 1280, is_dark=look == "dark")
    page = report.page
    if look == "print":
        page.emulate_media(media="print")
        # On paper nobody can open one.
        assert all(text.is_visible() for text in page.locator("#prompts .prompt-text").all())
    assert (report.seen, report.asked) == ([], [])
    assert [name for name in SECTIONS if not page.locator(f"#{name} h2").is_visible()] == []
    assert [name for name in CHARTS if page.locator(f"[data-chart=spec-{name}] svg").count() != 1] == []
    assert page.locator("[data-chart] svg path, [data-chart] svg rect").count() > 100
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
    narrow = page.evaluate(
        "[...document.querySelectorAll('.chart svg')].filter(e => e.getBoundingClientRect().width < 200).length"
    )
    assert narrow == 0


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(is_dark: bool, reports: Reports, tmp_path: Path, opened: Opens) -> None:
    # The page forbids what axe needs to run; it reads the same elements without that.
    html = reports().html
    start = html.index('<meta http-equiv="Content-Security-Policy"')
    (tmp_path / "open.html").write_text(html[:start] + html[html.index(">", start) + 1 :])
    found = Axe().run(opened(tmp_path / "open.html", is_dark=is_dark).page)
    serious = [
        (each["id"], each["nodes"][0]["html"][:200])
        for each in found.response["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_the_pictures_of_a_report_for_mail_need_no_script(reports: Reports, tmp_path: Path, opened: Opens) -> None:
    path = saved(tmp_path, reports(appearance=Appearance(static=True)))
    assert "<script" not in path.read_text()
    report = opened(path)
    assert (report.seen, report.asked) == ([], [])
    assert report.page.locator(".chart svg").count() == len(CHARTS)


@pytest.mark.parametrize("part", range(4))
def test_no_text_of_the_api_is_anything_but_text(part: int, tmp_path: Path, opened: Opens) -> None:
    assert len(NASTY) >= 200
    texts = list(chunks(NASTY, 4))[part]
    lake = enterprise(tmp_path / "lake", days=28, sessions_a_day=32, organizations=4, texts=texts, every=4)
    scripted = built(lake)
    for made in (scripted, in_another_look(scripted, Appearance(static=True))):
        report = opened(saved(tmp_path, made), width=400)
        page = report.page
        assert (report.seen, report.asked) == ([], []), made.appearance
        assert [name for name in SECTIONS if name != "causes" and page.locator(f"#{name} h2").count() != 1] == []
        elements = ", ".join(FORBIDDEN)
        assert page.locator(elements).count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
        # What is under the pointer is shown in a box of its own.
        for chart in page.locator("[data-chart]").all():
            chart.locator(".role-mark path").first.dispatch_event("mousemove")
            assert page.locator(elements).count() == 0
        assert (report.seen, report.asked) == ([], [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_lake_of_any_shape_is_drawn_whole(kind: str, tmp_path: Path, opened: Opens) -> None:
    lake, question = of_kind(kind, tmp_path / "lake")
    report = opened(saved(tmp_path, built(lake, question)))
    assert (report.seen, report.asked) == ([], [])
    series = report.page.locator("#time .legend li").count()
    organizations = KINDS[kind][2]
    assert series == (13 if organizations > 12 else organizations)
    bars = report.page.locator("[data-chart=spec-time] .mark-rect path").count()
    # By week where there are more days than can be seen apart.
    assert bars <= series * 160


def test_a_lake_whose_days_had_no_session_says_so(tmp_path: Path, opened: Opens) -> None:
    lake, question = of_kind("empty", tmp_path / "lake")
    report = opened(saved(tmp_path, built(lake, question)))
    assert (report.seen, report.asked) == ([], [])
    assert report.page.locator("#time .note").inner_text() == "No session was created in the period."
    assert report.page.locator(".kpi strong").first.inner_text() == UNKNOWN
