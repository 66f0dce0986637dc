"""Log records say of which run they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from quart_sched.logs import FIELDS, RunFilter
from tests.conftest import eventually
from tests.stores.peers import at

log = logging.getLogger("app.jobs")


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def handler() -> Iterator[Kept]:
    made = Kept()
    log.addHandler(made)
    log.setLevel(logging.INFO)
    yield made
    log.removeHandler(made)
    log.setLevel(logging.NOTSET)


async def job() -> None:
    log.info("in a job")


def plain() -> None:
    log.info("in a thread", extra={"run_id": "of my own"})


async def fails() -> None:
    raise LookupError("not there")


async def test_what_a_job_logs_carries_the_ids_of_its_run(scheduler, app, serve, clock, handler):
    scheduler.add_job("job", job, trigger="date", run_date=at(10))
    async with serve(scheduler, app):
        await clock.advance(seconds=10)
        [run] = scheduler.history.records()
    [record] = handler.records
    assert (record.job_id, record.run_id, record.attempt) == ("job", run.run_id, 1)


@pytest.mark.parametrize("kept", [0, 1000])
async def test_the_filter_does_so_whether_or_not_logs_are_kept(scheduler, app, serve, clock, handler, kept):
    handler.addFilter(RunFilter())
    scheduler.add_job("job", job, trigger="date", run_date=at(10))
    scheduler.add_job("plain", plain, trigger="date", run_date=at(20))
    log.info("outside")
    async with serve(scheduler, app, SCHEDULER_LOG_BYTES=kept):
        await clock.advance(seconds=20)
        first, _ = await eventually(lambda: len(scheduler.history.records()) == 2 and scheduler.history.records())
    outside, inside, thread = handler.records
    assert [getattr(outside, name) for name in FIELDS] == [None, None, None]
    assert (inside.job_id, inside.run_id, inside.attempt) == ("job", first.run_id, 1)
    assert (thread.job_id, thread.run_id) == ("plain", "of my own")
    formatted = logging.Formatter("%(job_id)s %(attempt)s %(message)s").format(inside)
    assert formatted == "job 1 in a job"


async def test_our_own_records_about_a_run_carry_its_ids(scheduler, app, serve, clock, caplog):
    scheduler.add_job("job", fails, trigger="date", run_date=at(10))
    scheduler.add_job("slow", fails, trigger="interval", seconds=10, start_date=at(15), coalesce=False)
    async with serve(scheduler, app, SCHEDULER_LOG_BYTES=0):
        await clock.advance(seconds=11)
        [run] = scheduler.history.records()
        clock.suspend(seconds=30)
        scheduler.scheduler.wakeup()
        await clock.advance(seconds=1)
    [error] = [record for record in caplog.records if record.getMessage() == 'Job "job" raised an exception']
    assert (error.job_id, error.run_id, error.attempt) == ("job", run.run_id, 1)
    missed = [record for record in caplog.records if "missed its fire" in record.getMessage()]
    assert {record.job_id for record in missed} == {"slow"}
    assert all(record.run_id for record in missed)
