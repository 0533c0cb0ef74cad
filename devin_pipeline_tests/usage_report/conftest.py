"""A browser without the network, and lakes that several tests read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from devin_pipeline.lake import Lake
from devin_pipeline_tests.dagster_server.conftest import CHROMIUM
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


@pytest.fixture
def opened(browser: Browser) -> Iterator["Opens"]:
    opens = Opens(browser)
    yield opens
    for page in opens.pages:
        page.close()


class Opens:
    """Opens reports."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.pages: list[Page] = []

    def __call__(self, path: Path, *, width: int = 1280, is_dark: bool = False) -> Opened:
        page = self._browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if is_dark else "light"
        )
        self.pages.append(page)
        opened = Opened(page)
        own = path.absolute().as_uri()
        page.on("console", lambda message: opened.seen.append(message.text))
        page.on("pageerror", lambda error: opened.seen.append(str(error)))
        page.on("dialog", lambda dialog: opened.seen.append(dialog.message))
        page.on("dialog", lambda dialog: dialog.dismiss())
        page.on("request", lambda request: opened.asked.extend({request.url} - {own}))
        page.goto(own)
        page.wait_for_function(DRAWN)
        return opened


@pytest.fixture(scope="session")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Twelve weeks of an enterprise with a few organizations."""
    return enterprise(tmp_path_factory.mktemp("usual") / "lake", days=84, sessions_a_day=12, organizations=4)
