"""The history kept in memory: a ring of final records."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from ..model.events import Event, RunEnded
from ..model.runs import RunRecord


class HistoryRing:
    """The last `size` final records, oldest first. A reader of the event stream."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._records: OrderedDict[str, RunRecord] = OrderedDict()
        self._lapses: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunEnded):
            self._add(event.record)

    def __len__(self) -> int:
        return len(self._records)

    def records(self, job_id: str | None = None) -> list[RunRecord]:
        """Return the records, oldest first; of one job where `job_id` is given."""
        if job_id is None:
            return list(self._records.values())
        return [record for record in list(self._records.values()) if record.job_id == job_id]

    def get(self, run_id: str) -> RunRecord | None:
        """Return the record of this run, or None where there is none (any more)."""
        return self._records.get(run_id)

    def _add(self, record: RunRecord) -> None:
        if record.outcome in ("missed", "coalesced"):
            previous = self._records.get(self._lapses.get(record.job_id, ""))
            if previous is not None and previous.outcome == record.outcome:
                record = _merge(previous, record)
            self._lapses[record.job_id] = record.run_id
        else:
            self._lapses.pop(record.job_id, None)
        self._records[record.run_id] = record
        if len(self._records) > self.size:
            _, dropped = self._records.popitem(last=False)
            if self._lapses.get(dropped.job_id) == dropped.run_id:
                del self._lapses[dropped.job_id]


def _merge(earlier: RunRecord, later: RunRecord) -> RunRecord:
    fires = None if earlier.fires is None or later.fires is None else earlier.fires + later.fires
    first = earlier.first_scheduled_at or earlier.scheduled_at
    return replace(later, run_id=earlier.run_id, fire_id=earlier.fire_id, first_scheduled_at=first, fires=fires)
