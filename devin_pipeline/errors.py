"""Errors a person can meet: each says what happened, why, and what to do.

Problem
├── ConfigurationError: a setting or an option that cannot be used
├── ValidationFailed: rows about to be written contradict what they are built from
├── devin_api.DevinError: what keeps a request from being answered
├── lake.LakeError: what the lake refuses
└── … of single rooms

What a command prints is `what`, `why` and `todo` on a line each; its exit code is the error's.
"""


class Problem(Exception):
    """The base of these errors.

    Attributes:
        what: What happened.
        why: Why.
        todo: What to do about it; a command to run, if there is one, comes last.
        exit_code: Of a command that it ends: 1 when the work failed, 2 when the call or the configuration was wrong.
    """

    exit_code = 1

    def __init__(self, what: str, why: str, todo: str) -> None:
        super().__init__(what, why, todo)
        self.what = what
        self.why = why
        self.todo = todo

    def __str__(self) -> str:
        return f"{self.what}: {self.why}. {self.todo}"


class ConfigurationError(Problem):
    """A setting or an option that cannot be used."""

    exit_code = 2


class ValidationFailed(Problem):
    """Rows about to be written contradict what they are built from; none of them was written."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why, "What was stored before stays. Run it again; if it fails again, report this text")
