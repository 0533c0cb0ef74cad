"""A browser without the network, and lakes that several tests read."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from devin_pipeline.emulator import Enterprise
from devin_pipeline.lake import Lake
from devin_pipeline.usage_report import Appearance, Question, Report, build_report
from devin_pipeline.usage_report.page import write_page
from devin_pipeline_tests.dagster_server.conftest import CHROMIUM
from devin_pipeline_tests.harness import PipelineHarness, open_harness, the_last_days
from devin_pipeline_tests.usage_report.lakes import enterprise

DRAWN = "document.querySelectorAll('[data-chart]').length === document.querySelectorAll('[data-drawn]').length"
"""What is true of a page once it has drawn every chart."""


# Not of the session: while Playwright runs, no other event loop can run in the thread, as some tests of commands need.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed to look at the report with")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@dataclass
class Opened:
    """A report in the browser, and what it did besides being shown.

    Attributes:
        page: The page, once every chart is drawn.
        seen: What it wrote to the console, what its policy refused among it, and dialogs it opened.
        asked: Addresses it asked for, its own aside.
    """

    page: Page
    seen: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


class Opens:
    """Opens reports, one after the other: a further page of the browser's would take three times as long."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._opened = Opened(page)
        self._own = ""
        page.on("console", lambda message: self._opened.seen.append(message.text))
        page.on("pageerror", lambda error: self._opened.seen.append(str(error)))
        page.on("dialog", lambda dialog: self._opened.seen.append(dialog.message))
        page.on("dialog", lambda dialog: dialog.dismiss())
        page.on("request", lambda request: self._opened.asked.extend({request.url} - {self._own}))

    def __call__(self, path: Path, *, width: int = 1280, is_dark: bool = False) -> Opened:
        # What the report before still does is not of this one.
        self._own = "about:blank"
        self._page.goto(self._own)
        self._page.set_viewport_size({"width": width, "height": 900})
        self._page.emulate_media(media="screen", color_scheme="dark" if is_dark else "light")
        self._own = path.absolute().as_uri()
        self._opened = Opened(self._page)
        self._page.goto(self._own)
        self._page.wait_for_function(DRAWN)
        return self._opened


@pytest.fixture(scope="module")
def opened(browser: Browser) -> Opens:
    return Opens(browser.new_page())


@pytest.fixture(scope="session")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Twelve weeks of an enterprise with a few organizations."""
    return enterprise(tmp_path_factory.mktemp("usual") / "lake", days=84, sessions_a_day=12, organizations=4)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """One day of two organizations."""
    return enterprise(tmp_path_factory.mktemp("small") / "lake", days=1, sessions_a_day=9, organizations=2)


class Reports:
    """Reports about a lake that nobody changes, each made once; looks that show the same figures are of one reading."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._made: dict[tuple[Question, Appearance], Report] = {}

    def __call__(self, question: Question | None = None, appearance: Appearance | None = None) -> Report:
        asked = question or Question(), appearance or Appearance()
        if asked not in self._made:
            self._made[asked] = self._make(*asked)
        return self._made[asked]

    def _make(self, question: Question, appearance: Appearance) -> Report:
        if appearance == Appearance() or not appearance.with_text:
            return build_report(self._lake, question, appearance, 8)
        return in_another_look(self(question), appearance)


def in_another_look(report: Report, appearance: Appearance) -> Report:
    """The report that `build_report` makes, of figures that were read before."""
    return Report(report.figures, appearance, write_page(report.figures, appearance))


@pytest.fixture(scope="session")
def reports(usual: Lake) -> Reports:
    """Reports about the usual lake."""
    return Reports(usual)


@pytest.fixture(scope="session")
def made_by_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineHarness]:
    """A lake that a run filled, made once."""
    days = the_last_days(2)
    with ExitStack() as opened:
        patch = opened.enter_context(pytest.MonkeyPatch.context())
        enterprise = Enterprise.synthetic(seed=11, sessions=30, days=len(days))
        harness = open_harness(opened, patch, tmp_path_factory.mktemp("made_by_run"), enterprise, days)
        harness.build_unobserved()
        yield harness


@pytest.fixture
def harness(made_by_run: PipelineHarness, copied: Callable[[PipelineHarness], PipelineHarness]) -> PipelineHarness:
    """A copy of the lake for one test, and the environment pointing at it."""
    return copied(made_by_run)
