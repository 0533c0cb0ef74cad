"""How far a run is: its steps report days as they store them, to whatever follows it in the same process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_Follower = Callable[[str, float], None]
_followers: list[_Follower] = []


def report(step: str, days: int, of_days: int) -> None:
    """Report how many of its days a step has stored."""
    for follower in _followers:
        follower(step, days / of_days)


@contextmanager
def followed(by: _Follower) -> Iterator[None]:
    """Pass on what is reported meanwhile: the step, and the share of its days that it has stored."""
    _followers.append(by)
    try:
        yield
    finally:
        _followers.remove(by)
