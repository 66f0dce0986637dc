"""What can go wrong with a database."""

from __future__ import annotations

from ...errors import SchedulerError


class DatabaseFailure(Exception):
    """A statement failed. `unknown` tells that it was a commit, which may have gone through all the same."""

    def __init__(self, message: str, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.unknown = unknown


class SchemaProblem(SchedulerError):
    """The tables are missing, or of a version that this code does not know. The message says what to do."""

    status = 503


def first_line(error: Exception) -> str:
    """Say what went wrong in one line, without the statement and its values."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {cause}".splitlines()[0]
