"""Pauses: whether a process is to fire, by a pause of its own and by those of the stores that processes share."""

from __future__ import annotations

from collections.abc import Collection

ALL_PAUSED = "The scheduler is paused: no job fires until it is resumed"
"""What a person is told while a pause of all holds."""


class Pauses:
    """The pauses that hold in one process. They may be changed from any thread."""

    def __init__(self) -> None:
        self.own = False
        """Whether this process alone fires nothing, whatever the others do."""
        self._stores: set[str] = set()

    @property
    def hold(self) -> bool:
        """Whether nothing is to fire here."""
        return self.own or bool(self._stores)

    @property
    def only_own(self) -> bool:
        """Whether nothing is to fire here while others may go on."""
        return self.own and not self._stores

    def switch(self, paused: bool, *, shared: Collection[str], changed: bool) -> None:
        """Take note that it was paused or resumed through this process, with its `shared` stores if it has any.

        A pause is then one of the stores, which another process may end. A resume ends that, or, where it has not
        `changed` them, as they were not paused, this process's own.
        """
        if paused and not shared:
            self.own = True
        elif not paused and not changed:
            self.own = False
        self._stores = set(shared) if paused else set()

    def hear(self, alias: str, paused: bool) -> bool:
        """Take note of what a shared store says, whoever paused or resumed it; tell whether that is news."""
        if paused == (alias in self._stores):
            return False
        (self._stores.add if paused else self._stores.discard)(alias)
        return True

    def forget_stores(self) -> None:
        """Take no store for paused before it says so again."""
        self._stores.clear()
