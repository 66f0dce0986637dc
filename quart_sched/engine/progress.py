"""Progress: whether a pump gets on, or hangs in one of its steps."""

from __future__ import annotations

from .clock import Clock


class Progress:
    """Knows since when a step of a turn has been under way."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None

    def step(self) -> None:
        """Take note that a step begins."""
        self._since = self._clock.monotonic()

    def rest(self) -> None:
        """Take note that there is nothing to do but wait."""
        self._since = None

    @property
    def seconds(self) -> float:
        """For how many seconds the step under way has lasted; 0 where there is none."""
        return 0.0 if self._since is None else self._clock.monotonic() - self._since
