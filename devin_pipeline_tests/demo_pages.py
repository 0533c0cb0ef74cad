"""What the pages show of the demo: the output of their queries, and pictures of its report.

`uv run python -m devin_pipeline_tests.demo_pages` writes both again; Chromium draws the pictures.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from datetime import UTC, datetime, timedelta
from pathlib import Path

from click.testing import CliRunner
from playwright.sync_api import Browser, sync_playwright

from devin_pipeline.billing_calendar import day_of, days_between
from devin_pipeline.cli import main
from devin_pipeline.cli.environment import _DEMO_LAKE, DEMO_DAYS, DEMO_SESSIONS_PER_DAY
from devin_pipeline.devin_api import FEED_BY_TABLE
from devin_pipeline.emulator import EmulatorServer, demo_enterprise
from devin_pipeline.usage_report import Appearance, build_report
from devin_pipeline_tests.dagster_server.conftest import CHROMIUM
from devin_pipeline_tests.runs import Run
from devin_pipeline_tests.usage_report.conftest import DRAWN
from devin_pipeline_tests.usage_report.lakes import KINDS, of_kind

PROJECT = Path(__file__).parents[1]
PICTURES = PROJECT / "docs" / "pictures"
AT = datetime(2026, 11, 29, 2, 0, tzinfo=UTC)
"""When the demo was run whose figures the pages show."""

_SHOWN = re.compile(r'(query --demo "(.*?)"\n```\n\n```text\n)(.*?)```', re.DOTALL)


def build(folder: Path) -> None:
    """Build the lake of that demo in a folder in which commands then find it."""
    last = day_of(AT, 8)
    days = days_between(last - timedelta(days=DEMO_DAYS - 1), last)
    enterprise = demo_enterprise(seed=7, sessions=DEMO_DAYS * DEMO_SESSIONS_PER_DAY, days=DEMO_DAYS, ends_at=AT)
    with EmulatorServer(enterprise) as server:
        lake = str(folder / _DEMO_LAKE)
        Run(server.url, server.v2_key, server.v3_key, lake, [*FEED_BY_TABLE], days, "demo", True, AT)()


def pages() -> list[Path]:
    """The pages that show what a query prints."""
    return [
        page for page in (PROJECT / "README.md", *sorted(PROJECT.glob("docs/*.md"))) if _SHOWN.search(page.read_text())
    ]


def outputs(text: str) -> Iterator[tuple[str, str]]:
    """Each query of a page, and what the page says that it prints."""
    for match in _SHOWN.finditer(text):
        yield match[2], match[3]


def printed(select: str) -> str:
    """What a query prints in the current folder's demo."""
    result = CliRunner().invoke(main, ["query", "--demo", select])
    assert result.exit_code == 0, result.output
    return "".join(f"{line.rstrip()}\n" for line in result.stdout.splitlines())


def _write_outputs() -> None:
    for page in pages():
        page.write_text(_SHOWN.sub(lambda match: f"{match[1]}{printed(match[2])}```", page.read_text()))


def _write_pictures(folder: Path) -> None:
    """The first screen of the demo's report, in both looks, and of reports about lakes of other shapes."""
    result = CliRunner().invoke(main, ["report", "--demo", "--output", str(folder / "demo.html")])
    assert result.exit_code == 0, result.output
    for kind in ("empty", *KINDS):
        lake, question = of_kind(kind, folder / kind)
        (folder / f"{kind}.html").write_text(build_report(lake, question, Appearance(), 8).html)
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name in ("demo", "empty", *KINDS):
            _picture(browser, folder / f"{name}.html", PICTURES / f"report-{name}.png")
        _picture(browser, folder / "demo.html", PICTURES / "report-demo-dark.png", is_dark=True)
        browser.close()


def _picture(browser: Browser, report: Path, picture: Path, *, is_dark: bool = False) -> None:
    page = browser.new_page(
        viewport={"width": 1200, "height": 1130}, color_scheme="dark" if is_dark else "light", device_scale_factor=0.75
    )
    page.goto(report.as_uri())
    page.wait_for_function(DRAWN)
    page.screenshot(path=picture)
    page.close()


def write() -> None:
    """Write all that pages show of the demo."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        build(Path(folder))
        _write_outputs()
        _write_pictures(Path(folder))


if __name__ == "__main__":
    write()
