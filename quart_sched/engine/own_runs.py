"""The runs that a shared store knows as this process's own, from their claim until their end is written down."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

from ..model.events import Event, RunEnded, RunLeft, RunReturned
from ..model.instants import micros
from ..model.runs import RunRecord
from ..stores.sql.rounds import Work

ENDINGS = 250
"""Records that are written in one transaction."""
_OUTPUT = 1_000_000
"""Characters of what they put out, about: turned into text for the database in one go, which holds up the loop."""
TOGETHER = 50_000
"""Microseconds for which an end may wait for the next claim: a transaction for both costs little more than for one."""


class OwnRuns:
    """The own runs in the store `alias`. A container of their ids, which may be asked from any thread."""

    KINDS = (RunEnded, RunLeft, RunReturned)
    """What it is to be told of."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self.held: set[str] = set()
        """Runs that are on this process's hands, until their end is written down."""
        self.endings: dict[str, RunRecord] = {}
        """Ends that are yet to be written down."""
        self.returned: set[str] = set()
        """Runs that were never begun here, to be given back."""
        self.left: set[str] = set()
        """Runs that had ended busy, and hold no instance any more."""
        self.write_by = float("inf")
        """When the ends have to be written down, in microseconds since 1970: before anything hangs on one of them."""

    def __contains__(self, run_id: object) -> bool:
        return run_id in self.held or run_id in self.endings or run_id in self.returned

    @property
    def unwritten(self) -> bool:
        """Whether there is anything that the store does not know yet."""
        return bool(self.endings or self.returned or self.left)

    def hear(self, event: Event) -> bool:
        """Take note of what happened to a run; tell whether it was one of these."""
        if isinstance(event, RunEnded) and event.jobstore == self._alias and event.record.run_id in self.held:
            self._take(event)
        elif isinstance(event, RunLeft) and event.run_id in self.held:
            self.left.add(event.run_id)
        elif isinstance(event, RunReturned) and event.run.run_id in self.held:
            self.returned.add(event.run.run_id)
        else:
            return False
        return True

    def _take(self, event: RunEnded) -> None:
        record = event.record
        self.endings[record.run_id] = record
        # Until its job's next fire another process counts it among the instances.
        upcoming = None if event.job is None else event.job.next_run_time
        wanted = [micros(moment) for moment in (record.retry_at, upcoming) if moment is not None]
        ended = record.finished_at or record.scheduled_at
        self.write_by = min(self.write_by, micros(ended) + TOGETHER, *wanted)

    def freed(self, start: int = 0) -> list[RunRecord]:
        """Return the ends, from the one at `start` on, of runs that hold no instance any more.

        One that ended `busy` holds it until its function has left its thread.
        """
        ends = islice(self.endings.values(), start, None)
        return [record for record in ends if not record.busy or record.run_id in self.left]

    def next_endings(self) -> list[RunRecord]:
        """Return what ended and is to be written down, as much of it as makes a transaction of moderate size."""
        chosen: list[RunRecord] = []
        size = 0
        for record in islice(self.endings.values(), ENDINGS):
            size += sum(len(text) for text in (record.log, record.traceback, record.error_message) if text)
            if chosen and size > _OUTPUT:
                break
            chosen.append(record)
        return chosen

    def written(self, work: Work, late: Collection[str]) -> None:
        """Let go of what a round has written down; the `late` ones had been lost before."""
        for record in work.endings:
            self.endings.pop(record.run_id, None)
            if not record.busy or record.run_id in late:
                self.held.discard(record.run_id)
        for run_id in (*work.returned, *work.left):
            self.held.discard(run_id)
            self.returned.discard(run_id)
            self.left.discard(run_id)
        if not self.endings:
            self.write_by = float("inf")

    def give_up(self) -> set[str]:
        """Forget them all; return those that were on this process's hands."""
        held, self.held = self.held, set()
        self.endings.clear()
        self.write_by = float("inf")
        self.returned.clear()
        self.left.clear()
        return held
