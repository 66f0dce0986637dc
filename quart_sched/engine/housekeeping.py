"""Housekeeping: what is old enough is deleted from a shared store, by one of its processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from ..stores.slot import Slot

if TYPE_CHECKING:
    from .scheduler import Scheduler

log = logging.getLogger("quart_sched")

HOUSE_INTERVAL = 60.0
"""Seconds between looks for what is old enough to be deleted."""
_PAUSE = 0.005
"""Seconds between batches of deletions, in which others get at the tables."""


async def keep_house(scheduler: Scheduler, slot: Slot, closing: Callable[[], bool]) -> None:
    """Clear up what is older than SCHEDULER_HISTORY_DAYS, if this is the process whose turn it is.

    It breaks off when the pump is `closing`.
    """
    store: Any = slot.store
    session = slot.session
    in_threads = partial(scheduler.call, blocking=True)
    try:
        if session is not None and await in_threads(partial(store.house.take_turn, session, 2 * HOUSE_INTERVAL)):
            before = scheduler.clock.now() - timedelta(days=scheduler.settings.history_days)
            await in_threads(partial(store.house.clear_up, before))
            await in_threads(store.tallies.compact)
            prune = partial(in_threads, partial(store.history.prune, before))
            while not closing() and await prune():  # noqa: ASYNC110  # lets others in
                await asyncio.sleep(_PAUSE)
    except Exception as error:
        # It is tried again in a minute, and nothing else depends on it.
        log.warning("Old records could not be deleted: %s", error)
