"""The books of a claim: what it is going to write about the jobs that are due, and what it tells of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from ...model.ids import new_id
from ...model.instants import micros, moment
from ...model.jobs import ScheduledJob
from ...model.planning import Plan, take_up_behind
from ...model.runs import Outcome, Run, RunRecord, overlap_error, standing
from .changes import Entry, write_down
from .loader import for_run
from .overlap import Overlap
from .rows import LIVE_COLUMNS, RUN_COLUMNS, clean, live_row, run_row
from .transaction import Transaction
from .workers import Session


@dataclass(slots=True)
class Claimed:
    """Fires of one job that this process runs one after the other."""

    job: ScheduledJob
    runs: list[Run]


class Books:
    """The rows that `me` is going to write at `now`, and what they come to.

    `claimed` are fires that run; `waiting` are new runs that wait for a place; `records` are fires that are accounted
    for without a run; `ended` are jobs whose schedule is over; `broken` are the ids and reasons of those whose trigger
    raised.
    """

    def __init__(self, me: Session, now: int) -> None:
        self.claimed: list[Claimed] = []
        self.waiting: list[RunRecord] = []
        self.records: list[RunRecord] = []
        self.ended: list[str] = []
        self.broken: list[tuple[str, str]] = []
        self._me, self._now, self._at = me, now, moment(now)
        self._live: list[tuple[Any, ...]] = []
        self._runs: list[tuple[Any, ...]] = []
        self._jobs: list[tuple[Any, ...]] = []
        self._marks: list[tuple[Any, ...]] = []
        self._changes: list[Entry] = []

    def move_on(self, row: Any, job: ScheduledJob) -> None:
        """Take a job behind its last fire that somebody has set back by hand: no fire is consumed twice."""
        fire = take_up_behind(job.trigger, moment(row.last_us))
        following = None if fire is None else micros(fire)
        self._jobs.append((row.id, following, row.last_us, None if following is not None else self._now))
        if following is None:
            self.ended.append(row.id)

    def enter(self, row: Any, job: ScheduledJob, plan: Plan, overlap: Overlap | None) -> None:
        """Take in the plan for one job; without an `overlap` its fires run."""
        last = plan.fires[-1] if plan.fires else plan.lapses[-1].last
        following = None if plan.next is None else micros(plan.next)
        job.next_run_time = plan.next
        self._jobs.append((row.id, following, micros(last), None if following is not None else self._now))
        if following is None:
            self.ended.append(row.id)
        for lapse in plan.lapses:
            self._account(row, lapse.outcome, lapse.first, lapse.last, lapse.fires)
        fires = plan.fires
        if overlap is not None:
            # Of those that may replace a run the last counts, of those that queue the first.
            places, replaces = overlap.places, job.policy.overlap == "replace"
            fires = plan.fires[-places:] if replaces and places else plan.fires[:places]
            why = overlap_error(overlap.running)
            # By timestamps, as times on the wall come twice when clocks go back.
            placed = {fire.timestamp() for fire in fires}
            for fire in plan.fires:
                if fire.timestamp() not in placed:
                    self._account(row, "skipped", None, fire, 1, why)
        runs = [Run(for_run(job), fire, "schedule") for fire in fires]
        for run in runs:
            enter = partial(
                live_row, row, run.run_id, sched_us=micros(run.scheduled_at), cause="schedule",
                on_crash=job.policy.on_crash, scheduled=True,
            )  # fmt: skip
            if overlap is None:
                self._live.append(
                    enter(batch_id=runs[0].run_id, state="running", owner=self._me.id, claimed_us=self._now)
                )
            else:
                self._live.append(enter(state="queued", due_us=self._now))
                self.waiting.append(standing(run, "queued", ""))
        if runs and overlap is None:
            self.claimed.append(Claimed(job, runs))

    def mark(self, row: Any, reason: str) -> None:
        """Take in that a job is broken."""
        kept = clean(reason)
        self.broken.append((row.id, reason))
        self._marks.append((row.id, None, row.next_us, self._now, kept))
        self._changes.append(Entry("broken", row.id, row.version + 1, None, kept))

    def write(self, tx: Transaction) -> None:
        """Write it all down."""
        tx.insert("live", LIVE_COLUMNS, self._live)
        tx.insert("runs", RUN_COLUMNS, self._runs)
        tx.update("jobs", "id", ("next_us", "last_us", "ended_us"), self._jobs, also="fence = fence + 1")
        columns = ("next_us", "held_us", "broken_us", "broken_reason")
        tx.update("jobs", "id", columns, self._marks, also="version = version + 1")
        write_down(tx, self._changes)

    def _account(
        self,
        row: Any,
        outcome: Outcome,
        first: datetime | None,
        last: datetime,
        fires: int | None,
        why: tuple[str, str] | None = None,
    ) -> None:
        """Account for fires that will not run."""
        run_id = new_id()
        kind, message = why or (None, None)
        record = RunRecord(
            run_id, run_id, row.id, last, outcome, "schedule", self._me.worker, finished_at=self._at,
            error_type=kind, error_message=message, first_scheduled_at=first, fires=fires,
        )  # fmt: skip
        self.records.append(record)
        self._runs.append(run_row(record, self._me.id, row.version, row.func))
