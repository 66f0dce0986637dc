"""The idempotency keys of this process, for jobs in stores that no other process shares."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model.idempotency import RunRequest

_MOST = 10_000
"""Keys that are remembered at once."""


class IdempotencyKeys:
    """Remembers for 24 hours which run a key stands for; of more than 10,000 keys the oldest are forgotten first."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, tuple[str, str, datetime]] = OrderedDict()

    def run_of(self, request: RunRequest, now: datetime) -> str | None:
        """Return the run that was started for the request; None for a new one. Raises IdempotencyKeyReused."""
        from ..model.idempotency import KEPT

        while self._keys and next(iter(self._keys.values()))[2] <= now - KEPT:
            self._keys.popitem(last=False)
        if (known := self._keys.get(request.key)) is None:
            return None
        request.check(known[0])
        return known[1]

    def keep(self, request: RunRequest, run_id: str, now: datetime) -> None:
        """Remember the run of a new request."""
        self._keys[request.key] = (request.asked, run_id, now)
        if len(self._keys) > _MOST:
            self._keys.popitem(last=False)
