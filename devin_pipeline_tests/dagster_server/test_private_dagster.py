"""What the pipeline uses of Dagster that is not public: in two places only, and all of it is there in this version."""

import ast
import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster_webserver.webserver import DagsterWebserver

import devin_pipeline
from devin_pipeline.dagster_server.event_log_storage import SqliteEventLog
from devin_pipeline.dagster_server.webserver import GuardedWebserver

PACKAGE = Path(devin_pipeline.__file__).parent
PLACES = ["dagster_server", "orchestration/run_metadata.py"]

pytestmark = pytest.mark.newest_dagster


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Each module that is imported, and what of it; nothing for a module as a whole."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def is_private(module: str, name: str) -> bool:
    """Whether an import reaches behind what Dagster publishes: `dagster`, less names that begin with `_`."""
    distribution, *path = module.split(".")
    return distribution.startswith("dagster") and (
        distribution != "dagster" or any(part.startswith("_") for part in (*path, name))
    )


def private_uses(source: str) -> list[str]:
    """The private imports of a module, and where it reaches into objects of others or replaces their methods."""
    tree = ast.parse(source)
    found = [f"{module} {name}".strip() for module, name in imported(tree) if is_private(module, name)]
    if not any(module.partition(".")[0] == "dagster" for module, _ in imported(tree)):
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "os", "reader")
            is_of_super = isinstance(node.value, ast.Call)
            if not (is_own or is_of_super or node.attr in ("_replace", "_asdict")):
                found.append(ast.unparse(node))
    return found + [line.strip() for line in source.splitlines() if "type: ignore[method-assign" in line]


def census() -> dict[str, list[str]]:
    """The private uses of each module of the product that has any."""
    uses = {str(file.relative_to(PACKAGE)): private_uses(file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))}
    return {file: found for file, found in uses.items() if found}


def test_what_dagster_does_not_publish_is_used_in_two_places_only() -> None:
    elsewhere = {file: found for file, found in census().items() if not file.startswith(tuple(PLACES))}
    assert elsewhere == {}, f"Only {' and '.join(PLACES)} may rely on private parts of Dagster: move these there"
    assert all(any(file.startswith(place) for file in census()) for place in PLACES)


@pytest.mark.parametrize(
    "line",
    [
        "from dagster._core.events import DagsterEvent",
        "import dagster._core",
        "from dagster import _check",
        "if TYPE_CHECKING:\n    from dagster._core.scheduler.instigation import InstigatorState",
        "import dagster_webserver",
        "from dagster_graphql import DagsterGraphQLClient",
        "import dagster as dg\nprint(instance._event_buffer)",
        "import dagster as dg\ninstance.get = get  # type: ignore[method-assign]",
    ],
)
def test_a_private_use_in_a_third_place_is_noticed(line: str) -> None:
    assert private_uses(line)


@pytest.mark.parametrize("line", ["import dagster as dg", "import devin_pipeline.dagster_server", "self._instance._x"])
def test_a_public_use_is_not(line: str) -> None:
    assert private_uses(line) == []


def test_every_private_part_of_dagster_that_is_imported_is_there() -> None:
    missing = []
    for file in census():
        for module, name in imported(ast.parse((PACKAGE / file).read_text())):
            if is_private(module, name) and not is_there(module, name):
                missing.append(f"{file}: {module} {name}")
    assert missing == [], f"Dagster {dg.__version__} has moved or removed what we use of it"


def is_there(module: str, name: str) -> bool:
    try:
        return not name or hasattr(import_module(module), name)
    except ImportError:
        return False


@pytest.mark.parametrize(
    ("ours", "dagsters", "own"),
    [
        (SqliteEventLog, SqliteEventLogStorage, {"__init__", "from_config_value"}),
        (GuardedWebserver, DagsterWebserver, {"__init__"}),
    ],
)
def test_what_we_override_takes_the_parameters_that_dagsters_own_takes(
    ours: type, dagsters: type, own: set[str]
) -> None:
    for name, method in vars(ours).items():
        theirs = getattr(dagsters, name, None)
        if isinstance(method, FunctionType) and name not in own and (theirs or not name.startswith("_")):
            assert theirs, f"Dagster {dg.__version__} has no {dagsters.__name__}.{name} any more"
            assert parameters(method) == parameters(theirs), f"{dagsters.__name__}.{name} takes other parameters"


def parameters(method: Callable[..., object]) -> list[str]:
    return list(inspect.signature(method).parameters)


def test_methods_that_we_replace_on_objects_of_dagsters_are_there() -> None:
    assert "remote_job_origin" in inspect.signature(dg.DagsterInstance.create_run_for_job).parameters
    with dg.DagsterInstance.ephemeral() as instance:
        assert parameters(instance.compute_log_manager.capture_logs) == ["log_key"]
        assert instance._event_buffer == {}
