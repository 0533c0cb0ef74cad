"""How a command ends: errors as three lines, exit codes, and stopping at once."""

import atexit
import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import click

from devin_pipeline.errors import Problem
from devin_pipeline.shell import typed, with_command_last


class Failed(Problem):
    """The work failed, or the call was wrong."""

    def __init__(self, what: str, why: str, todo: str, exit_code: int = 1) -> None:
        super().__init__(what, why, todo)
        self.exit_code = exit_code


class Commands(click.Group):
    """Shows every expected error as three lines, and exits as the module says."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the words of a call as UTF-8."""
        return super().parse_args(ctx, in_utf8(args))

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the command of this process and exit."""
        for number in stop_signals():
            signal.signal(number, signal.default_int_handler)
        try:
            super().main(*args, **kwargs | {"standalone_mode": False})
        except Problem as error:
            _exit((error.what, error.why, error.todo), error.exit_code)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "devin-pipeline"
            _exit(("This command cannot be run", error.format_message(), f"See `{typed(f'{command} --help')}`"), 2)
        except (click.Abort, KeyboardInterrupt):
            abort()
        except OSError as error:
            if error.errno is None:
                raise
            if not _output_is_lost():
                _exit(_lines_of(error), 1)
            # What is left of it is written, and spoken of, by `exit_process`.
            sys.exit(1)
        except Exception as error:
            why = _why_dagster_keeps_no_records(error)
            if why is None:
                raise
            todo = "Make room there, or set DAGSTER_HOME to another folder, then run it again. The lake is unchanged"
            _exit((f"Dagster cannot keep its records in {os.environ['DAGSTER_HOME']}", why, todo), 1)
        sys.exit(0)


def _lines_of(error: OSError) -> tuple[str, str, str]:
    named = " and ".join(
        os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)
    )
    what = f"{named} cannot be used" if named else "A file or connection cannot be used"
    return what, os.strerror(error.errno or 0), "Correct that, then run it again; what is stored is unchanged"


def _output_is_lost() -> bool:
    """True when stdout takes no more of what is to be written there."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _why_dagster_keeps_no_records(error: Exception) -> str | None:
    """What the database of Dagster's records says, if the error is its."""
    # Nobody else here uses it, and commands that need no Dagster start without.
    sqlalchemy = sys.modules.get("sqlalchemy.exc")
    # guard: records of Dagster's that do not fit on the disk
    #   | sqlalchemy is None or not isinstance(error, sqlalchemy.DBAPIError) -> True
    if sqlalchemy is None or not isinstance(error, sqlalchemy.DBAPIError):
        return None
    return f"its database says: {error.orig}".partition("\n")[0]


def _exit(lines: Sequence[str], code: int) -> NoReturn:
    print_error(lines)
    sys.exit(code)


def print_error(lines: Sequence[str]) -> None:
    """Write the lines of an error to stderr, each as a sentence, if anybody can still read it."""
    with suppress(OSError):
        for line in lines:
            text = " ".join(line.splitlines())
            sentence = with_command_last(text) or text + ("" if text.endswith((".", "!", "?")) else ".")
            # An address stays as it is.
            is_address = "://" in sentence.partition(" ")[0]
            click.echo(sentence if is_address else sentence[:1].upper() + sentence[1:], err=True)


def open_closed_streams() -> None:
    """Put something in place of standard streams that were closed when the process began.

    A file opened later would get their numbers, and what is printed would be written into it. Nothing can be written to
    the stdout that is put there: printing to it fails, as on a full disk.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # Gets the lowest number that is free, which is this one.
            # guard: a file opened in place of a closed stdout
            os.open(os.devnull, mode)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - for as long as the process lives


def exit_process(code: int) -> NoReturn:
    """End this process, its work done, and leave it to the system to take its memory apart.

    Python would look through all that Dagster has loaded, several times: half a second after a backfill.
    """
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except OSError as error:
        code = 1
        # A reader of the output that has had enough, as `head` has, needs no message.
        if not isinstance(error, BrokenPipeError):
            print_error(truncated(error))
    os._exit(code)


def truncated(error: OSError) -> tuple[str, str, str]:
    """The lines of an error that stdout gave when it was written to."""
    todo = "Keep its output open" if error.errno == errno.EBADF else "Free space"
    return "The output was truncated", f"it could not be written ({error.strerror})", f"{todo}, then run it again"


def stop_signals() -> list[signal.Signals]:
    """The signals that ask a command to stop; that its terminal is closed is one of them, unless `nohup` ignores it."""
    is_kept = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    # guard: a command that nohup keeps running | *([] if is_kept else [signal.SIGHUP]) -> signal.SIGHUP
    # guard: a closed terminal | *([] if is_kept else [signal.SIGHUP])
    return [signal.SIGINT, signal.SIGTERM, *([] if is_kept else [signal.SIGHUP])]


def abort() -> NoReturn:
    """End this process at once, saying so; whatever hangs is left behind."""
    abort_with(("Interrupted", "it was asked to stop", "Run the same command again to resume"))


def abort_with(lines: Sequence[str]) -> NoReturn:
    """End this process at once with the lines of an error; whatever hangs is left behind."""
    print_error(lines)
    # Not `sys.exit`: Python would wait for the threads of requests that hang.
    os._exit(1)


def in_utf8(words: Sequence[str]) -> list[str]:
    """The words of a call, whose bytes are UTF-8 whatever encoding the environment names.

    Raises:
        click.UsageError: The bytes of one are not.
    """
    try:
        return [os.fsencode(word).decode() for word in words]
    except UnicodeError:
        raise click.UsageError("a word of it is not UTF-8") from None


def show_any_character() -> None:
    """Have this process, and those it starts, show an escape for a character that their terminal or file cannot."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # guard: characters that a terminal lacks
            stream.reconfigure(errors="backslashreplace")
            os.environ["PYTHONIOENCODING"] = f"{stream.encoding}:backslashreplace"
