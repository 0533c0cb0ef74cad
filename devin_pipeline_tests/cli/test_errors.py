"""How every command ends in a place that is not as it should be: by an exit code and three lines, not a traceback."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from devin_pipeline.cli import main
from devin_pipeline.emulator import EmulatorServer, Enterprise
from devin_pipeline_tests.dagster_server.running import free_port
from devin_pipeline_tests.harness import the_last_days
from devin_pipeline_tests.lake.test_disk import NOBODY
from devin_pipeline_tests.runs import Run

pytestmark = pytest.mark.slow

COMMAND = str(Path(sys.executable).with_name("devin-pipeline"))
DAY = the_last_days(2)[0]
RANGE = ["--from", str(DAY), "--to", str(DAY)]
WORDS = {
    "backfill": ["backfill", *RANGE],
    "demo": ["demo", "--days", "1"],
    "doctor": ["doctor"],
    "emulator": ["emulator", "--port", "0", "--sessions", "5", "--days", "2"],
    "forget": ["forget", "--user", "somebody"],
    "maintain": ["maintain"],
    "query": ["query", "select '\U0001f642' as mood, count(*) as sessions from sessions"],
    "rebuild": ["rebuild"],
    "tables": ["tables"],
    "ui": ["ui", "--port", "{port}"],
    "report": ["report"],
    "verify": ["verify"],
}
# These go on until they are stopped, once they have said so.
SERVING = {"emulator": "Stop it with Ctrl-C", "ui": "stop it with Ctrl-C"}

DONE = (0, "")
# Who has closed a pipe has had enough.
QUIET = (1, "")
NO_LAKE, GARBLED = "The lake cannot be in", "The lake's identity cannot be read"
PROXY, HOME, LEFT = "No connection can be prepared", "DAGSTER_HOME cannot be made", "Some tables were skipped"
NO_OUTPUT = "The output was truncated"
CHECK, PROXIES = "failed    lake:", "failed    proxies_and_certificates:"


@dataclass
class Case:
    """Where a command runs, and as what."""

    folder: Path
    environment: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)
    before: Sequence[str] = ()

    @property
    def lakes(self) -> list[Path]:
        """Of the settings, and of the demo."""
        return [self.folder / "lake", self.folder / "data" / "demo"]


def unreadable_lake(case: Case) -> None:
    for lake in case.lakes:
        lake.chmod(0)


def garbled_lake_json(case: Case) -> None:
    for lake in case.lakes:
        (lake / "lake.json").write_bytes(b'{"kind": "li\xff')


def full_disk(case: Case) -> None:
    # As in `no_file_beyond`, in a process of its own: no file may grow beyond so little.
    case.options["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))


def closed_stdout(case: Case) -> None:
    case.before = ["sh", "-c", 'exec "$0" "$@" >&-', *case.before]


def closed_pipe(case: Case) -> None:
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as deaf:
        deaf.wait()
        assert deaf.stdin is not None
        case.options["stdout"] = os.dup(deaf.stdin.fileno())


def odd_proxy(case: Case) -> None:
    case.environment |= {"ALL_PROXY": "foo://x", "DEVIN_API_URL": "https://127.0.0.1:9"}


def socks_proxy_and_odd_encoding(case: Case) -> None:
    """Neither keeps a command from anything: no proxy is asked on the way to this machine."""
    case.environment |= {"ALL_PROXY": "socks5h://127.0.0.1:9", "PYTHONIOENCODING": "ascii"}


CONDITIONS: dict[str, Callable[[Case], None]] = {
    "unreadable lake": unreadable_lake,
    "garbled lake.json": garbled_lake_json,
    "full disk": full_disk,
    "closed stdout": closed_stdout,
    "closed pipe": closed_pipe,
    "odd proxy": odd_proxy,
    "socks proxy, odd encoding": socks_proxy_and_odd_encoding,
}

NO_DOCUMENT = "The report was not written"

# The exit code, and how the first of the three lines begins; the doctor's is its first check that failed. In the order
# of CONDITIONS.
TABLE: dict[str, Sequence[tuple[int, str]]] = {
    "backfill": [(2, NO_LAKE), (1, GARBLED), (1, HOME), DONE, DONE, (2, PROXY), DONE],
    "demo": [(2, NO_LAKE), (1, GARBLED), (1, HOME), (1, NO_OUTPUT), QUIET, DONE, DONE],
    "doctor": [(1, CHECK), (1, CHECK), (1, "failed    lake_is_w"), (1, NO_OUTPUT), QUIET, (1, PROXIES), DONE],
    "emulator": [DONE, DONE, DONE, (1, NO_OUTPUT), QUIET, DONE, DONE],
    "forget": [(2, NO_LAKE), (1, GARBLED), (1, HOME), (1, NO_OUTPUT), QUIET, DONE, DONE],
    "maintain": [(2, NO_LAKE), (1, GARBLED), (1, LEFT), (1, NO_OUTPUT), QUIET, DONE, DONE],
    "query": [(2, NO_LAKE), (1, GARBLED), DONE, (1, NO_OUTPUT), QUIET, DONE, DONE],
    "rebuild": [(2, NO_LAKE), (1, GARBLED), (1, HOME), DONE, DONE, DONE, DONE],
    "report": [(2, NO_LAKE), (1, GARBLED), (1, NO_DOCUMENT), (1, NO_OUTPUT), QUIET, DONE, DONE],
    "tables": [(2, NO_LAKE), (1, GARBLED), DONE, (1, NO_OUTPUT), QUIET, DONE, DONE],
    "ui": [DONE, DONE, (1, HOME), (1, NO_OUTPUT), QUIET, DONE, DONE],
    "verify": [(2, NO_LAKE), (1, GARBLED), DONE, (1, NO_OUTPUT), QUIET, DONE, DONE],
}


@pytest.fixture(scope="session")
def prepared() -> Iterator[tuple[Path, EmulatorServer]]:
    """A lake of one day, in a folder that anybody may look into, and the emulator it was read from."""
    with (
        EmulatorServer(Enterprise.synthetic(seed=11, sessions=20, days=2)) as server,
        tempfile.TemporaryDirectory() as f,
    ):
        Path(f).chmod(0o755)
        Run(server.url, server.v2_key, server.v3_key, f"{f}/lake", ["raw_sessions_v3"], [DAY])()
        yield Path(f), server


@pytest.fixture
def case(prepared: tuple[Path, EmulatorServer]) -> Iterator[Case]:
    """A copy of that lake for the settings and one for the demo, both of a user whom permissions stop."""
    folder, server = prepared
    with tempfile.TemporaryDirectory(dir=folder) as place:
        case = Case(
            Path(place),
            {
                "PATH": os.environ["PATH"],
                "HOME": place,
                "DEVIN_LAKE": f"{place}/lake",
                "DAGSTER_HOME": f"{place}/home",
                "DEVIN_API_URL": server.url,
                "DEVIN_V3_API_KEY": server.v3_key,
                "DEVIN_START_DATE": str(DAY),
            },
            {"stdout": subprocess.PIPE},
        )
        for lake in case.lakes:
            shutil.copytree(folder / "lake", lake)
        demo = case.lakes[1] / "lake.json"
        demo.write_text(demo.read_text().replace('"live"', '"demo"'))
        if os.getuid() == 0:
            case.before = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
            for path in (Path(place), *Path(place).rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        yield case
        subprocess.run(["chmod", "-R", "u+rwX", place], check=True)


def run(case: Case, command: str) -> tuple[int, str, str]:
    words = [*case.before, COMMAND, *(word.format(port=free_port()) for word in WORDS[command])]
    with subprocess.Popen(
        words, cwd=case.folder, env=case.environment, stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
        **case.options,
    ) as running:  # fmt: skip
        output = ""
        if command in SERVING and running.stdout is not None:
            while line := running.stdout.readline():
                output += line
                if SERVING[command] in line:
                    running.send_signal(signal.SIGTERM)
                    break
        try:
            rest, errors = running.communicate(timeout=120)
        finally:
            running.kill()
    return running.returncode, output + (rest or ""), errors


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("command", main.commands)
def test_a_command_that_cannot_do_its_work_says_so_in_three_lines_and_never_by_a_traceback(
    case: Case, command: str, condition: str
) -> None:
    if command == "ui":
        # It starts processes, and the Python of the tests may be where nobody else may look.
        case.before = []
    CONDITIONS[condition](case)
    code, output, errors = run(case, command)
    require_ending(code, output, errors, dict(zip(CONDITIONS, TABLE[command], strict=True))[condition])


def require_ending(code: int, output: str, errors: str, ending: tuple[int, str]) -> None:
    assert "Traceback" not in output + errors
    failed = [line for line in output.splitlines() if line.startswith("failed ")]
    lines = failed[:1] or ([] if code == 0 else errors.splitlines()[-3:])
    assert (code, "".join(lines[:1])[: len(ending[1])]) == ending, output + errors
    assert len(lines) == (0 if ending in (DONE, QUIET) else 1 if failed else 3)
    assert failed or all(line.endswith((".", "!", "?")) or ": devin-pipeline " in line for line in lines)


# A disk or volume that fails in the middle of a read. No such disk is at hand, so the C library is made to fail.
FAILING_READS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    char link[64], path[4096] = {0};
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0 || !strstr(path, getenv("FAILING"))) return 0;
    errno = atoi(getenv("FAILS_WITH"));
    return 1;
}
#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
ssize_t read(int fd, void *to, size_t n) { REAL(read); return fails(fd) ? -1 : real(fd, to, n); }
ssize_t pread(int fd, void *to, size_t n, off_t at) { REAL(pread); return fails(fd) ? -1 : real(fd, to, n, at); }
ssize_t pread64(int fd, void *to, size_t n, off64_t at) { REAL(pread64); return fails(fd) ? -1 : real(fd, to, n, at); }
"""
NOT_MADE = "1 of 1 days were not made"
IN_LOG, IN_RAW, IN_NOTES = "/_delta_log/", "/raw_sessions_v3/day=", "/made_of/"


@pytest.fixture(scope="session")
def failing_reads(prepared: tuple[Path, EmulatorServer]) -> Path:
    """A library that makes reads fail."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    library = prepared[0] / "failing_reads.so"
    words = ["cc", "-shared", "-fPIC", "-x", "c", "-o", str(library), "-", "-ldl"]
    subprocess.run(words, input=FAILING_READS, text=True, check=True)
    return library


READS: list[tuple[str, str, tuple[int, str]]] = [
    *((command, "lake.json", (1, "/")) for command in ("query", "verify", "maintain", "forget", "backfill")),
    ("doctor", "lake.json", (1, CHECK)),
    *((command, IN_LOG, (1, "The log of ")) for command in ("query", "tables", "verify", "forget", "rebuild")),
    ("maintain", IN_LOG, (1, LEFT)),
    ("backfill", IN_LOG, (1, NOT_MADE)),
    ("query", "/sessions/day=", (1, "/")),
    ("backfill", IN_RAW, (1, NOT_MADE)),
    ("rebuild", IN_RAW, (1, "Not everything was rebuilt")),
    ("rebuild", IN_NOTES, (1, "/")),
]


@pytest.mark.parametrize(
    ("number", "command", "where", "ending"),
    [
        *((errno.EIO, *each) for each in READS),
        # The other error of a volume, once in each place.
        *(
            (errno.ESTALE, *each)
            for each in {where: (command, where, ending) for command, where, ending in READS}.values()
        ),
    ],
)
def test_a_read_that_fails_half_way_gets_three_lines_with_the_systems_words(
    case: Case, failing_reads: Path, command: str, where: str, ending: tuple[int, str], number: int
) -> None:
    case.environment |= {"LD_PRELOAD": str(failing_reads), "FAILING": where, "FAILS_WITH": str(number)}
    code, output, errors = run(case, command)
    require_ending(code, output, errors, ending)
    assert os.strerror(number) in output + errors
    assert "rm -r" not in output + errors
