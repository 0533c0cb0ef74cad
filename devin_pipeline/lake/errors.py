"""What the lake refuses, each saying what, why and what to do.

LakeError
├── WrongLake: the lake belongs to another kind, host, scope or day hour
├── UnusableLocation: a path that Delta or DuckDB would not take literally
├── TooManyConflicts: other writers kept winning the race for the same days
├── NotReadOnly: a query that would write or change settings
└── QueryFailed: a query that DuckDB could not run
"""


class LakeError(Exception):
    """A refusal of the lake.

    Attributes:
        what: What could not be done.
        why: Why not.
        todo: What to do about it.
    """

    def __init__(self, what: str, why: str, todo: str) -> None:
        super().__init__(f"{what}: {why}. {todo}")
        self.what = what
        self.why = why
        self.todo = todo


class WrongLake(LakeError):
    """The lake belongs to another kind, host, scope or day hour than this run."""


class UnusableLocation(LakeError):
    """A path that Delta or DuckDB would not take literally."""


class TooManyConflicts(LakeError):
    """Other writers kept winning the race for the same days."""


class NotReadOnly(LakeError):
    """A query that would write or change settings."""


class QueryFailed(LakeError):
    """A query that DuckDB could not run."""
