"""`python -m devin_pipeline.dagster_server.child SECONDS MODULE …`: runs a Python module until its standard input ends.

That is a pipe whose other end the parent holds: it ends when the parent closes it, and however the parent itself ends.
"""

import os
import runpy
import signal
import sys
import threading
import time

_STANDARD_INPUT = 0


_stopping = threading.Event()


def _stop_with_input(main_thread: int, seconds: float) -> None:
    """Stop this process once its input has ended; if that takes longer than given, kill it with all it started."""
    # guard: processes that outlive the ui | os.read(_STANDARD_INPUT, 1024) -> threading.Event().wait()
    while os.read(_STANDARD_INPUT, 1024):
        pass
    _stopping.set()
    # This thread might get it otherwise, and the main one wait on.
    signal.pthread_kill(main_thread, signal.SIGTERM)
    if seconds:
        time.sleep(seconds)
        os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    allowed, module = sys.argv[1:3]
    del sys.argv[1:3]
    threading.Thread(target=_stop_with_input, args=(threading.get_ident(), float(allowed)), daemon=True).start()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except BaseException as error:
        # That of being stopped says nothing to a person.
        if isinstance(error, SystemExit) or not _stopping.is_set():
            raise
    finally:
        if _stopping.is_set():
            # A code server that is stopped while it starts leaves its own child behind.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.killpg(os.getpgrp(), signal.SIGTERM)
