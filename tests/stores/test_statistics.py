"""Statistics of a history: the same from the ring in memory, SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quart_sched.engine.history import Histories
from quart_sched.engine.history_ring import HistoryRing
from quart_sched.model.ids import first_id
from quart_sched.model.instants import micros
from quart_sched.model.runs import OUTCOMES, RunRecord
from quart_sched.model.stretches import Stretch, StretchQuery
from quart_sched.stores.sql.database import Database
from quart_sched.stores.sql.history import SqlHistory
from tests.stores.cluster import KINDS, drop_tables, reachable

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
JOBS = ("job", "日本", "%' OR 1=1 --", "gone")


@pytest.fixture(scope="module", params=["memory", *KINDS])
def empty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A history of each kind, and the records that are to be written into it."""
    if request.param == "memory":
        yield HistoryRing(100_000)
        return
    url, prefix = reachable(request.param, tmp_path_factory.mktemp("statistics")), f"t{uuid.uuid4().hex[:10]}_"
    history = SqlHistory(Database("test", url, prefix, create_tables=True, engine_options={}))
    yield history
    history.close()
    drop_tables(url, prefix)


def records() -> list[RunRecord]:
    chance = random.Random(7)
    found = []
    for number in range(400):
        at = NOW - timedelta(seconds=chance.randrange(0, 86_400), microseconds=chance.randrange(10**6))
        run_id = f"{first_id(micros(at))[:24]}{number:012x}"
        outcome: Any = chance.choice(OUTCOMES)
        started = at + timedelta(milliseconds=5) if outcome not in ("missed", "skipped", "coalesced") else None
        finished = None if started is None else started + timedelta(microseconds=chance.randrange(1, 10**7))
        job_id = chance.choice(JOBS[:3])
        found.append(RunRecord(run_id, run_id, job_id, at, outcome, "schedule", "h:1", 1, started, finished))
    return found


RECORDS = records()


@pytest.fixture(scope="module")
def history(empty: Any) -> Any:
    if isinstance(empty, HistoryRing):
        for record in RECORDS:
            # Not as events: a ring takes successive missed fires together, which is not what is looked at here.
            empty._records[record.run_id] = record
    else:
        empty.write(RECORDS)
    return empty


def expected(query: StretchQuery) -> list[Stretch]:
    """Count by hand."""
    found: dict[tuple[str, int, str], list[RunRecord]] = {}
    for record in RECORDS:
        job_id = "" if query.job_ids is None else record.job_id
        if query.since <= record.scheduled_at < query.until and (not job_id or job_id in (query.job_ids or ())):
            bucket = (micros(record.scheduled_at) - micros(query.since)) // query.width_us
            found.setdefault((job_id, bucket, record.outcome), []).append(record)
    stretches = []
    for (job_id, bucket, outcome), runs in sorted(found.items()):
        durations = [run.duration for run in runs if run.duration is not None]
        first = min(micros(run.started_at or run.scheduled_at) for run in runs)
        last = max(micros(run.finished_at or run.scheduled_at) for run in runs)
        run_id = max(run.run_id for run in runs) if job_id else None
        longest = max(durations, default=0.0)
        stretches.append(
            Stretch(job_id, bucket, outcome, len(runs), len(durations), sum(durations), longest, first, last, run_id)
        )
    return stretches


def told(stretch: Stretch, *, times: bool) -> tuple[Any, ...]:
    ends = (stretch.first_us, stretch.last_us) if times else ()
    seconds = (round(stretch.seconds, 6), round(stretch.longest, 6))
    return (
        stretch.job_id,
        stretch.bucket,
        stretch.outcome,
        stretch.runs,
        stretch.timed,
        *seconds,
        stretch.run_id,
        *ends,
    )


@pytest.mark.parametrize("buckets", [1, 7, 48])
@pytest.mark.parametrize("hours", [1, 6.5, 24, 100])
def test_runs_are_counted_by_stretch_and_outcome(history: Any, hours: float, buckets: int) -> None:
    query = StretchQuery.parse(NOW - timedelta(hours=hours), NOW, buckets)
    found = [told(one, times=False) for one in Histories([history]).stretches(query)]
    assert found == [told(one, times=False) for one in expected(query)]


@pytest.mark.parametrize("job_ids", [JOBS, JOBS[:1], JOBS[3:], ()])
def test_runs_are_counted_for_each_of_some_jobs(history: Any, job_ids: tuple[str, ...]) -> None:
    query = StretchQuery.parse(NOW - timedelta(hours=20), NOW, 30, job_ids)
    found = [told(one, times=True) for one in Histories([history]).stretches(query)]
    assert found == [told(one, times=True) for one in expected(query)]


@pytest.mark.parametrize("count", [1, 5, 1000])
def test_the_last_runs_of_each_job_come_newest_first(history: Any, count: int) -> None:
    found = Histories([history]).latest(JOBS, count)
    assert list(found) == list(JOBS)
    for job_id in JOBS:
        mine = [run for run in RECORDS if run.job_id == job_id]
        mine.sort(key=lambda run: (run.scheduled_at, run.run_id), reverse=True)
        assert [run.run_id for run in found[job_id]] == [run.run_id for run in mine[:count]]


def test_the_last_outcome_is_that_of_the_newest_run(history: Any) -> None:
    newest = {}
    for run in sorted(RECORDS, key=lambda run: (run.scheduled_at, run.run_id)):
        newest[run.job_id] = run.outcome
    assert Histories([history]).last_outcomes(JOBS) == newest
    assert Histories([history]).last_outcomes([]) == {}


def test_several_histories_are_counted_together() -> None:
    early, late = HistoryRing(100), HistoryRing(100)
    given: list[tuple[HistoryRing, int, Any]] = [(late, 5, "failed"), (early, 50, "succeeded"), (early, 40, "failed")]
    for ring, minute, outcome in given:
        at = NOW - timedelta(minutes=minute)
        run_id = first_id(micros(at))
        ring.add(RunRecord(run_id, run_id, "job", at, outcome, "schedule", "h:1", 1, at, at + timedelta(seconds=2)))
    both = Histories([late, early])
    query = StretchQuery.parse(NOW - timedelta(hours=1), NOW, 1)
    assert [(one.outcome, one.runs, one.seconds) for one in both.stretches(query)] == [
        ("failed", 2, 4),
        ("succeeded", 1, 2),
    ]
    assert [run.outcome for run in both.latest(["job"], 5)["job"]] == ["failed", "failed", "succeeded"]
    assert both.last_outcomes(["job"]) == {"job": "failed"}
