"""Slots: the job stores of a scheduler, and what is done with all of those that processes share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..model.overdue import Overdue
from ..stores.slot import Slot

if TYPE_CHECKING:
    from ..stores.sql.workers import Worker
    from .scheduler import Scheduler


class Slots(dict[str, Slot]):
    """The stores by alias; they stay those that are given.

    What uses the shared ones opens them, and raises StoreUnavailable.
    """

    def __init__(self, scheduler: Scheduler, slots: Mapping[str, Slot]) -> None:
        super().__init__(slots)
        self._scheduler = scheduler
        self.shared: Sequence[Slot] = [slot for slot in slots.values() if slot.shared]
        """Those that other processes may use too."""
        self.blocking = any(slot.blocking for slot in slots.values())
        """Whether any of them does I/O, so that verbs have to go to the store thread."""
        self.foreign = any(slot.blocking and not slot.shared for slot in slots.values())
        """Whether any is APScheduler's own, which bears one thread alone."""

    def is_own(self, alias: str | None) -> bool:
        """Tell whether this process alone has the runs of that store, which need not be there any more."""
        slot = self.get(alias or "")
        return slot is None or not slot.shared

    @property
    def troubles(self) -> dict[str, str]:
        """What is the matter with stores that are not available, by their alias."""
        return {alias: trouble for alias, slot in self.items() if (trouble := slot.trouble)}

    def opened_shared(self) -> Iterator[Slot]:
        """Open the shared stores, one after the other as they are asked for."""
        for slot in self.shared:
            slot.open(self._scheduler)
            yield slot

    def workers(self) -> list[Worker]:
        """Return the processes that share a store with this one, itself among them."""
        found: list[Worker] = []
        for slot in self.opened_shared():
            found += slot.do(lambda store: store.workers())
        return found

    def overdue(self) -> list[Overdue]:
        """Return what the processes that share the stores have found to be overdue."""
        found: list[Overdue] = []
        for slot in self.opened_shared():
            found += slot.do(lambda store: store.overdue.known())
        return found

    def paused(self) -> bool:
        """Tell whether one of the shared stores is paused, for all its processes."""
        return any(slot.do(lambda store: store.poll().paused) for slot in self.opened_shared())

    def set_paused(self, paused: bool) -> bool:
        """Pause or resume the shared stores, for all their processes; tell whether that changed anything."""
        changed = False
        for slot in self.opened_shared():
            changed |= slot.do(lambda store: store.set_paused(paused))
        return changed
