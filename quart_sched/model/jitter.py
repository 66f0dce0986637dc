"""Jitter: fires put off at random, by elapsed time and not by the clock on the wall."""

from __future__ import annotations

from datetime import UTC, datetime

from apscheduler.triggers.base import BaseTrigger


def put_off(trigger: BaseTrigger, fire: datetime | None, now: datetime) -> datetime | None:
    """Return a fire of the trigger, put off by its jitter."""
    if fire is None or not trigger.jitter:
        return fire
    # In UTC, as a moment more on the wall may be an hour less, or more, where clocks go back.
    later: datetime = trigger._apply_jitter(fire.astimezone(UTC), trigger.jitter, now)
    return later.astimezone(fire.tzinfo)
