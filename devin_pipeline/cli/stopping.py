"""Lets a person or the system stop what a command does, at any moment."""

import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from devin_pipeline.cli.errors import abort, abort_with
from devin_pipeline.errors import Problem

_SECONDS_TO_STOP = 8.0
_REMINDERS = 3
_SECONDS_BETWEEN_LOOKS = 0.1


@contextmanager
def stoppable(
    seconds: float = _SECONDS_TO_STOP,
    *,
    prepare: Callable[[], object] | None = None,
    limit_met: Callable[[], Problem | None] = lambda: None,
    cut_off: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP stop what runs inside, and cut off what does not stop by itself.

    Dagster takes an interrupt for a failure of the run, and goes on. While DuckDB or Delta works, none gets through.
    Cutting off is safe: what is published is published in one commit each, and a killed run in the middle of one.

    Args:
        seconds: How long it may take to stop.
        prepare: Called before what runs inside is interrupted, where handlers of its own wait for that.
        limit_met: Asked ten times a second; an error cuts off what runs inside, and is shown.
        cut_off: Called before this process is ended.
    """
    asked, ask = socket.socketpair()
    ask.setblocking(False)
    ended = threading.Event()
    main_thread = threading.get_ident()

    def stop_is_asked(seconds: float = 0) -> bool:
        return bool(select.select([asked], [], [], seconds)[0])

    def see_to_it() -> None:
        with asked, ask:
            while not stop_is_asked(_SECONDS_BETWEEN_LOOKS):
                if ended.is_set():
                    return
                if limit := limit_met():
                    cut_off()
                    abort_with((limit.what, limit.why, limit.todo))
            deadline = time.monotonic() + seconds
            if prepare:
                prepare()
                if not ended.is_set():
                    signal.pthread_kill(main_thread, signal.SIGINT)
            between = (deadline - time.monotonic()) / _REMINDERS
            for _ in range(_REMINDERS):
                if ended.wait(between):
                    return
                # Again: Python drops an interrupt that arrives while it collects garbage.
                # guard: an interrupt that got lost
                signal.pthread_kill(main_thread, signal.SIGINT)
            cut_off()
            # guard: what heeds no interrupt
            abort()

    # Written to by the signal itself, whatever handles it and whatever keeps Python busy.
    before = signal.set_wakeup_fd(ask.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=see_to_it, daemon=True).start()
    try:
        try:
            yield
        except Exception:
            # DuckDB, for one, makes an error of its own of an interrupt.
            if not stop_is_asked():
                raise
        # guard: a stop taken for a failed run
        if stop_is_asked():
            raise KeyboardInterrupt
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
