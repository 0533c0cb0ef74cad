"""The documents are true: what they say of tables, commands, settings and schedules, their links and their examples."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from dotenv import dotenv_values

from devin_pipeline.cli import main
from devin_pipeline.cli.environment import _DEMO_HOME, use_live_environment
from devin_pipeline.dagster_server.code_location import CODE_LOCATION, DEFINITIONS
from devin_pipeline.settings import Settings
from devin_pipeline.tables import ALL_TABLES
from devin_pipeline_tests import demo_pages
from devin_pipeline_tests.documents import COMMAND, DOCUMENTS, PROJECT, definitions, document

NOT_FOR_PERSONS = {"DEVIN_PIPELINE_DEMO"}
PAGES = sorted(
    path.relative_to(PROJECT).as_posix()
    for pattern in ("*.md", "docs/*.md", "devin_pipeline_tests/*.md")
    for path in PROJECT.glob(pattern)
)
of_the_demo = pytest.mark.xdist_group("documents")


def text_of(page: str) -> str:
    return (PROJECT / page).read_text()


def rows(page: str, section: str) -> dict[str, str]:
    """First and second cell of each row of the first table after a heading."""
    text = text_of(page).split(f"\n## {section}\n")[-1]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    cells = [line.strip("| \n").split(" | ") for line in table.group().splitlines()[2:]]
    return {cell[0].strip("`"): cell[1] for cell in cells}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lake of the demo."""
    folder = tmp_path_factory.mktemp("documents")
    demo_pages.build(folder)
    return folder


@pytest.mark.parametrize("path", DOCUMENTS)
def test_what_is_generated_is_what_the_code_says(path: str) -> None:
    assert text_of(path) == document(path), f"{path} is stale, or was edited by hand. Run: {COMMAND}"


def test_the_readme_is_short() -> None:
    # 150 lines with the 18 tables and 11 commands of its first version; a new one brings its row.
    rows_of_tables_and_commands = len(ALL_TABLES) + len(main.commands)
    assert len(text_of("README.md").splitlines()) - rows_of_tables_and_commands <= 150 - 18 - 11


def test_every_table_is_in_the_readme_with_its_grain() -> None:
    assert rows("README.md", "Tables") == {
        f"[`{table.name}`](docs/tables.md#{table.name})": table.grain.removeprefix("One row per ").removesuffix(".")
        for table in ALL_TABLES
    }


def test_every_table_and_column_is_in_the_page_of_tables() -> None:
    text = text_of("docs/tables.md")
    for table in ALL_TABLES:
        section = text.partition(f"\n### `{table.name}`\n")[2].partition("\n#")[0]
        assert table.grain in section
        assert re.findall(r"^\| `([a-z_0-9]+)` \| .+ \| .+\. \|$", section, re.MULTILINE) == table.column_names


def test_every_command_is_in_the_readme_and_in_the_page_of_operations() -> None:
    assert set(rows("README.md", "Commands")) == set(main.commands)
    assert set(rows("docs/operations.md", "Commands")) == set(main.commands)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_that_a_page_names_exists(page: str) -> None:
    for command, words in re.findall(r"devin-pipeline ([a-z][a-z-]*)([^`\n]*)", text_of(page)):
        known = {option for parameter in main.commands[command].params for option in parameter.opts}
        named = {word for word in re.sub(r"\"[^\"]*\"|#.*", "", words).split() if word.startswith("--")}
        assert named - {"--help"} <= known, (command, words)


def test_every_setting_is_documented_and_every_one_that_is_named_is_declared() -> None:
    code = "".join(path.read_text() for path in (PROJECT / "devin_pipeline").rglob("*.py"))
    named = set(re.findall(r"\"(DEVIN_[A-Z0-9_]+|DAGSTER_HOME)\"", code))
    for page in PAGES:
        named |= set(re.findall(r"\bDEVIN_[A-Z0-9_]+", text_of(page)))
    assert named <= set(Settings.model_fields)
    assert set(rows("docs/configuration.md", "Settings")) == set(Settings.model_fields) - NOT_FOR_PERSONS


def test_the_example_of_settings_has_each_with_its_default(tmp_path: Path) -> None:
    example = tmp_path / ".env"
    example.write_text(re.sub(r"^# ([A-Z0-9_]+=)", r"\1", text_of(".env.example"), flags=re.MULTILINE))
    defaults = {name: field.default or "" for name, field in Settings.model_fields.items()}
    assert dotenv_values(example) == {name: defaults[name] for name in defaults.keys() - NOT_FOR_PERSONS}
    assert set(dotenv_values(PROJECT / ".env.example")) == {"DEVIN_V2_API_KEY", "DEVIN_V3_API_KEY"}


def test_every_job_schedule_and_sensor_is_in_the_page_of_operations() -> None:
    loaded = definitions()
    defined = {each.name: "job" for each in loaded.jobs or ()}
    defined |= {each.name: "schedule" for each in loaded.schedules or ()}
    defined |= {each.name: "sensor" for each in loaded.sensors or ()}
    assert rows("docs/operations.md", "Schedules, sensors and backfills") == defined


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_every_check_that_a_page_names_exists(page: str) -> None:
    checks = {key.name for each in definitions().asset_checks or () for key in each.check_keys}
    assert set(re.findall(r"\bcheck\s+`([a-z_]+)`", text_of(page))) <= checks


def test_every_room_is_in_the_page_of_the_architecture() -> None:
    found = " ".join(rows("docs/architecture.md", "Rooms and layers"))
    package = PROJECT / "devin_pipeline"
    rooms = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    modules = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"[a-z_]+(?:/|\.py)", found)) == rooms | modules


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text_of(page)):
        path, _, anchor = target.partition("#")
        file = (PROJECT / page).parent / path if path else PROJECT / page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}, target


@pytest.mark.parametrize("page", [*PAGES, ".env.example"])
def test_no_page_names_a_path_of_one_machine(page: str) -> None:
    assert re.findall(r"(?<![\w.])/(?:tmp|home|root|work|Users|var)/\S*", text_of(page)) == []


@of_the_demo
@pytest.mark.parametrize("page", demo_pages.pages(), ids=lambda page: page.name)
def test_queries_print_what_a_page_shows(page: Path, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    shown = list(demo_pages.outputs(page.read_text()))
    assert len(shown) == page.read_text().count('query --demo "')
    for select, output in shown:
        assert demo_pages.printed(select) == output, "uv run python -m devin_pipeline_tests.demo_pages"


@of_the_demo
@pytest.mark.parametrize("page", [page for page in PAGES if "```sql" in text_of(page)])
def test_every_query_of_a_page_runs(page: str, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    for block in re.findall(r"```sql\n(.*?)```", text_of(page), re.DOTALL):
        for select in block.split(";\n")[:-1]:
            result = CliRunner().invoke(main, ["query", "--demo", "--format", "csv", select])
            assert result.exit_code == 0, result.output
            assert len(result.stdout.splitlines()) > 1, select


def test_the_changelog_promises_something_for_each_table() -> None:
    promises = "".join(f"`{each}`" for each in rows("CHANGELOG.md", "Compatibility"))
    assert re.findall(r"`([a-z_0-9]+)`", promises) == [table.name for table in ALL_TABLES]


def test_the_newest_release_of_the_changelog_is_the_version_of_the_project() -> None:
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]
    sections = re.findall(r"^## (.+)$", text_of("CHANGELOG.md"), re.MULTILINE)
    assert sections[sections.index("Unreleased") + 1].split()[0] == version


def test_dagsters_own_commands_get_the_home_that_ours_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = text_of("docs/configuration.md")
    (exported,) = re.findall(r'^export DAGSTER_HOME="\$PWD/(.+)"$', text, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    for name in ("DAGSTER_HOME", "DEVIN_LAKE"):
        monkeypatch.setenv(name, "")
    use_live_environment()
    assert os.environ["DAGSTER_HOME"] == str(tmp_path / exported)
    assert f"The demo's is `{_DEMO_HOME}`" in text


def test_the_two_commands_of_a_fresh_machine_are_there_and_ci_calls_them() -> None:
    assert "pip install uv && uv run devin-pipeline demo\n" in text_of("README.md")
    assert "pip install uv && uv run pytest\n" in text_of("README.md")
    ci = text_of(".ci/run")
    assert "uv run pytest" in ci
    assert "uv run devin-pipeline demo" in ci


def test_dagster_reports_its_use_to_nobody_and_git_takes_neither_keys_nor_rows() -> None:
    assert "telemetry:\n  enabled: false\n" in text_of("dagster.yaml")
    for path in (
        ".env",
        "data/raw_sessions_v3/part.parquet",
        ".dagster_home/history.db",
        ".dagster_home_demo/x",
        ".tmp_dagster_home_1/x",
    ):
        ignored = subprocess.run(["git", "check-ignore", "-q", path], cwd=PROJECT, check=False)
        assert ignored.returncode == 0, path


def test_workspace_and_pyproject_name_the_code_location_alike() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["tool"]["dg"]["project"]
    workspace = text_of("workspace.yaml")
    assert f"location_name: {project['code_location_name']}\n" in workspace
    assert f"module_name: {project['code_location_target_module']}\n" in workspace
    assert (project["code_location_name"], project["code_location_target_module"]) == (CODE_LOCATION, DEFINITIONS)
