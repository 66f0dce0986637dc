"""What stands in for the trigger of a job that cannot be loaded."""

from __future__ import annotations

from datetime import datetime

from apscheduler.triggers.base import BaseTrigger


class Unrestorable(BaseTrigger):
    """Stands in for the trigger of a job that its store could not restore, and never fires; `reason` says why.

    `stored` is the job's own trigger, to be shown, where that could be read.
    """

    __slots__ = ("reason", "stored")

    def __init__(self, reason: str, stored: BaseTrigger | None = None) -> None:
        self.reason = reason
        self.stored = stored

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> None:
        """Never fires."""

    def __str__(self) -> str:
        return "unknown"


def as_stored(trigger: BaseTrigger) -> BaseTrigger:
    """Return the trigger to show: what it stands in for, where it stands in for one."""
    return trigger.stored or trigger if type(trigger) is Unrestorable else trigger
