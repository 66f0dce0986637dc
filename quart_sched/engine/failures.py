"""The failures of a pump: how long it waits after each, and what the log says of them."""

from __future__ import annotations

import logging

from ..errors import SchedulerError
from ..stores.slot import Slot

log = logging.getLogger("quart_sched")

_LONGEST_BACKOFF = 30.0


class Failures:
    """The failures in a row of the pump of one store, the last of which its `failing` shows."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._in_a_row = 0

    def add(self, error: Exception, interval: float, longest: float = _LONGEST_BACKOFF) -> float:
        """Take note of a failure, and return the seconds until the next attempt.

        They double with each from `interval` on, up to `longest`. The log tells of the first failure, with its
        traceback where it is none that is to be expected, and then of each that doubles their number: an outage of a
        night is no reason to fill the disk.
        """
        self._in_a_row += 1
        self._slot.failing = error
        number = self._in_a_row
        delay: float = min(interval * 2 ** min(number - 1, 10), longest)
        if number.bit_count() == 1:
            show = error if number == 1 and not isinstance(error, SchedulerError) else None
            report = log.error if number == 1 else log.warning
            report("%s; trying again in %g s (failure %d)", error, delay, number, exc_info=show)
        return delay

    def end(self) -> None:
        """Take note of a turn that went well."""
        if self._in_a_row:
            log.info('The pump of job store "%s" goes on after %d failures', self._slot.alias, self._in_a_row)
            self._in_a_row = 0
        # Whatever the pump before this one may have left there: the slot outlives a stop and a start.
        self._slot.failing = None
