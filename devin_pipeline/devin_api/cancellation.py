"""Whether what is under way is still wanted."""

import threading
import weakref


class CancelToken(threading.Event):
    """Set once a read, or a part of it, is to end; setting that of the whole sets those of its parts."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: weakref.WeakSet[CancelToken] = weakref.WeakSet()

    def part(self) -> "CancelToken":
        """Return the token of a part of it."""
        part = CancelToken()
        self._parts.add(part)
        if self.is_set():
            part.set()
        return part

    def set(self) -> None:
        """Cancel it and all its parts."""
        super().set()
        for part in list(self._parts):
            part.set()
