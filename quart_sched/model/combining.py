"""Any of several triggers, compared by when they fire and not by what the clock on the wall then shows."""

from __future__ import annotations

from datetime import datetime

from apscheduler.triggers.combining import OrTrigger

from .jitter import put_off


class EarliestOrTrigger(OrTrigger):
    """An OrTrigger that loses no fire when clocks go back.

    Within one zone APScheduler's own compares times on the wall. Of two fires in the hour that comes twice it may take
    the later one, and goes on behind that.
    """

    __slots__ = ()

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the earliest of the triggers' next fires; None where all have ended."""
        found = (trigger.get_next_fire_time(previous_fire_time, now) for trigger in self.triggers)
        earliest = min((fire for fire in found if fire is not None), key=datetime.timestamp, default=None)
        return put_off(self, earliest, now)
