"""The accounts: the record of each fire, made once it is known what became of it, and told to all who read events."""

from __future__ import annotations

import logging
import traceback
from datetime import datetime, timedelta
from typing import Any

from apscheduler.job import Job

from ..model.arguments import bounded_repr
from ..model.events import RunEnded, RunWaits
from ..model.ids import new_id
from ..model.runs import MESSAGE_LIMIT, Outcome, Run, RunRecord, waiting
from .clock import Clock
from .stream import EventStream

log = logging.getLogger("quart_sched")

_TRACEBACK_LIMIT = 20_000
_RESULT_LIMIT = 1_000


class Accounts:
    """Accounts for the fires that this process, `worker`, runs or decides on."""

    def __init__(self, clock: Clock, stream: EventStream) -> None:
        self.worker = ""
        self._clock = clock
        self._stream = stream

    def end(
        self,
        run: Run,
        jobstore: str | None,
        outcome: Outcome,
        *,
        result: Any = None,
        error: BaseException | None = None,
        retry_in: float | None = None,
        busy: bool = False,
        why: tuple[str, str] | None = None,
    ) -> RunEnded:
        """Account for a run that has ended, or will not begin.

        `why` is the type and message of an error that nobody raised; where `retry_in` is given, another attempt follows
        in so many seconds; `busy` tells that its function is still in its thread.
        """
        now = self._clock.now()
        kind, message = why or (None, None)
        if error is not None:
            kind, message = type(error).__name__, _message(error)
        # In the order of its fields, as by their names it would take twice as long.
        record = RunRecord(
            run.run_id,
            run.fire_id,
            run.job.id,
            run.scheduled_at,
            outcome,
            run.cause,
            self.worker,
            run.attempt,
            run.started_at,
            now,
            kind,
            message,
            None if error is None else _format(error),
            None if result is None else bounded_repr(result, _RESULT_LIMIT),
            None,  # first_scheduled_at
            1,  # fires
            retry_in is None,  # final
            None if run.log is None else run.log.close(),
            None if retry_in is None else now + timedelta(seconds=retry_in),
            busy,
            run.overrides,
        )
        ended = RunEnded(record, jobstore, result, error, run.job)
        self._stream.emit(ended)
        # They hold each other, and what is in no circle is freed without the garbage collector.
        run.log = None
        return ended

    def lapse(self, job: Job, outcome: Outcome, first: datetime, last: datetime, fires: int | None) -> None:
        """Account for fires that will not run: missed, or coalesced into a later one."""
        run_id = new_id()
        record = RunRecord(
            run_id, run_id, job.id, last, outcome, "schedule", self.worker, finished_at=self._clock.now(),
            first_scheduled_at=first, fires=fires,
        )  # fmt: skip
        self.tell(record, job._jobstore_alias, job)

    def tell(self, record: RunRecord, jobstore: str | None, job: Job | None = None) -> None:
        """Tell of fires that are accounted for without a run here."""
        if record.outcome == "missed":
            fires = record.fires or "many"
            fields = {"job_id": record.job_id, "run_id": record.run_id}
            text = 'Job "%s" missed its fire at %s (%s in all)'
            log.warning(text, record.job_id, record.scheduled_at, fires, extra=fields)
        self._stream.emit(RunEnded(record, jobstore, job=job))

    def wait(self, run: Run, jobstore: str | None) -> None:
        """Tell of a run that waits for its time or its place."""
        self._stream.emit(RunWaits(waiting(run, self.worker), jobstore))


def _message(error: BaseException) -> str:
    try:
        return str(error)[:MESSAGE_LIMIT]
    except (Exception, SystemExit) as failure:
        # The class is the user's own, and the run has to end all the same.
        return f"its __str__ raised {type(failure).__name__}"


def _format(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except (Exception, SystemExit) as failure:
        # As above: it looks at attributes that the class may compute, or may have put something odd into.
        where = "".join(traceback.format_tb(error.__traceback__))
        text = f"{where}{type(error).__name__} (showing it raised {type(failure).__name__})\n"
    return text[-_TRACEBACK_LIMIT:]
