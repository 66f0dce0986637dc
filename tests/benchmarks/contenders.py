"""The schedulers that are compared, behind the one interface that the benchmarks use.

APScheduler 4 is not among them: its alpha has the same distribution and module name as APScheduler 3, on which
quart_sched and Flask-APScheduler stand, so that both cannot be installed in one environment.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar

import sqlalchemy as sa
from apscheduler import events
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.executors.pool import ThreadPoolExecutor as APSThreadPool
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from quart import Quart

from quart_sched import APScheduler

from . import score

THREADS = 20
SLICE = 0.002
"""Seconds after which sliced raw asyncio lets others have their turn."""


OF_RUNS = events.EVENT_JOB_SUBMITTED | events.EVENT_JOB_EXECUTED | events.EVENT_JOB_ERROR | events.EVENT_JOB_MISSED


@dataclass(frozen=True)
class Plan:
    """What all contenders are given alike."""

    body: str = "async"
    """Which job: "async", "sync" or "sleep"."""
    grace: bool = False
    """Whether the scheduler's default limit of lateness is in force; else there is none."""
    url: str | None = None
    """The database; None is memory."""
    history: bool = True
    """Whether quart_sched keeps what became of the runs, as it does by default."""
    events: bool = True
    """Whether somebody listens to what APScheduler tells of each run."""


def moment(at: float) -> datetime:
    """Return the time that many seconds after 1970, UTC."""
    return datetime.fromtimestamp(at, UTC)


class Contender:
    """A scheduler beside a Quart app. Jobs are added before it starts."""

    bodies: ClassVar[dict[str, Callable[[int], Any]]] = {}
    drifts: ClassVar[bool] = False
    scheduler: Any = None
    """One that tells of its runs as APScheduler does, if it does."""
    keeps_records = False
    """Whether it writes down in a database what became of each run."""

    def __init__(self, plan: Plan) -> None:
        """Set up, in a running loop."""
        self.plan = plan
        self.app = Quart("bench")
        self.app.config["SCHEDULER_TIMEZONE"] = "UTC"

        @self.app.get("/")
        async def hello() -> str:
            return "hello"

        self.set_up()
        if plan.events and self.scheduler is not None:
            self.scheduler.add_listener(hear, OF_RUNS)

    def set_up(self) -> None:
        """Make the scheduler."""

    @property
    def body(self) -> Callable[[int], Any]:
        """The job's function."""
        return self.bodies[self.plan.body]

    def interval(self, number: int, first: float, every: float) -> None:
        """Add a job that is due at `first` and then each `every` seconds."""
        raise NotImplementedError

    def cron(self, number: int, at: datetime) -> None:
        """Add a job that is due each day at this time."""
        raise NotImplementedError

    def reschedule(self, number: int, every: float) -> None:
        """Give a job another interval."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start, in the app that serves; return when the jobs are in the store."""

    async def stop(self) -> None:
        """Stop what has been started."""

    async def recorded(self, runs: int) -> None:
        """Return when what became of so many runs has been written down, where it is."""


def hear(event: Any) -> None:
    """Listen, and do nothing."""


class Nothing(Contender):
    """The app without any scheduler."""

    def interval(self, number: int, first: float, every: float) -> None:
        """Leave it out."""


class Ours(Contender):
    """quart_sched."""

    bodies = {"async": score.in_context, "sync": score.sync_in_context, "sleep": score.sleeps}

    def set_up(self) -> None:
        config = self.app.config
        config.update(SCHEDULER_MAX_THREADS=THREADS, SCHEDULER_API_ENABLED=True)
        if not self.plan.grace:
            config["SCHEDULER_JOB_DEFAULTS"] = {"misfire_grace_time": None}
        if not self.plan.history:
            config.update(no_history())
        if self.plan.url is not None:
            config["SCHEDULER_JOBSTORES"] = {"default": {"type": "sqlalchemy", "url": self.plan.url}}
        self.scheduler = APScheduler(app=self.app)
        self.keeps_records = self.plan.url is not None and self.plan.history
        self._jobs = 0

    def interval(self, number: int, first: float, every: float) -> None:
        self._add(number, trigger="interval", seconds=every, start_date=moment(first))

    def cron(self, number: int, at: datetime) -> None:
        self._add(number, trigger="cron", hour=at.hour, minute=at.minute, second=at.second)

    def _add(self, number: int, **trigger: Any) -> None:
        self._jobs += 1
        self.scheduler.add_job(str(number), self.body, args=(number,), **trigger)

    def reschedule(self, number: int, every: float) -> None:
        self.scheduler.modify_job(str(number), trigger="interval", seconds=every)

    async def start(self) -> None:
        self.scheduler.start()
        while self.plan.url is not None and len(await self.scheduler.aio.get_jobs()) < self._jobs:
            await asyncio.sleep(0.1)

    async def recorded(self, runs: int) -> None:
        if self.keeps_records:
            await asyncio.to_thread(_wait_for_records, str(self.plan.url), runs)


def no_history() -> dict[str, Any]:
    """The settings with which nothing is kept of runs."""
    return {"SCHEDULER_HISTORY_SIZE": 0, "SCHEDULER_LOG_BYTES": 0}


class APSchedulerAsync(Contender):
    """APScheduler 3's AsyncIOScheduler. Plain functions get as many threads as the others'."""

    bodies = {"async": score.enters_context, "sync": score.sync_without_context, "sleep": score.sleeps}

    def set_up(self) -> None:
        asynchronous = self.plan.body == "async"
        options: dict[str, Any] = {
            "executors": {"default": AsyncIOExecutor() if asynchronous else APSThreadPool(THREADS)},
            "jobstores": {"default": SQLAlchemyJobStore(self.plan.url)} if self.plan.url else {},
            "job_defaults": {} if self.plan.grace else {"misfire_grace_time": None},
        }
        self.scheduler = AsyncIOScheduler(timezone="UTC", **options)

    def interval(self, number: int, first: float, every: float) -> None:
        self._add(number, "interval", seconds=every, start_date=moment(first))

    def cron(self, number: int, at: datetime) -> None:
        self._add(number, "cron", hour=at.hour, minute=at.minute, second=at.second)

    def _add(self, number: int, trigger: str, **fields: Any) -> None:
        self.scheduler.add_job(self.body, trigger, id=str(number), args=(number,), **fields)

    def reschedule(self, number: int, every: float) -> None:
        self.scheduler.reschedule_job(str(number), trigger="interval", seconds=every)

    async def start(self) -> None:
        self.scheduler.start()

    async def stop(self) -> None:
        self.scheduler.shutdown(wait=False)
        await asyncio.sleep(0)


class FlaskAPScheduler(APSchedulerAsync):
    """Flask-APScheduler on its BackgroundScheduler, whose jobs are plain functions in threads."""

    bodies = dict.fromkeys(("async", "sync"), score.sync_enters_context) | {"sleep": score.sleeps}

    def set_up(self) -> None:
        import flask
        from flask_apscheduler import APScheduler as Extension

        flask_app = flask.Flask("bench")
        flask_app.config.update(
            SCHEDULER_TIMEZONE="UTC",
            SCHEDULER_API_ENABLED=True,
            SCHEDULER_EXECUTORS={"default": {"type": "threadpool", "max_workers": THREADS}},
            SCHEDULER_JOB_DEFAULTS={} if self.plan.grace else {"misfire_grace_time": None},
        )
        if self.plan.url:
            flask_app.config["SCHEDULER_JOBSTORES"] = {"default": SQLAlchemyJobStore(self.plan.url)}
        self.flask_app = flask_app
        self.scheduler = Extension(app=flask_app)

    def _add(self, number: int, trigger: str, **fields: Any) -> None:
        self.scheduler.add_job(str(number), self.body, trigger=trigger, args=(number,), **fields)

    def reschedule(self, number: int, every: float) -> None:
        self.scheduler.modify_job(str(number), trigger="interval", seconds=every)


class RawAsyncio(Contender):
    """loop.call_at and create_task: the limit."""

    bodies = {"async": score.enters_context, "sync": score.sync_without_context, "sleep": score.sleeps}

    def set_up(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: list[tuple[float, float, int]] = []
        self._pool = ThreadPoolExecutor(THREADS)

    def interval(self, number: int, first: float, every: float) -> None:
        self._jobs.append((self._loop.time() + first - time.time(), every, number))

    async def start(self) -> None:
        for at, every, number in self._jobs:
            self._loop.call_at(at, self._fire, at, every, number)

    def _fire(self, at: float, every: float, number: int) -> None:
        self._loop.call_at(at + every, self._fire, at + every, every, number)
        self._run(number)

    def _run(self, number: int) -> None:
        if self.plan.body == "async":
            # The loop itself holds a task that has yet to run, and these do not wait.
            self._loop.create_task(self.body(number))
        else:
            self._loop.run_in_executor(self._pool, self.body, number)

    async def stop(self) -> None:
        self._pool.shutdown()


class SlicedAsyncio(RawAsyncio):
    """One heap, and slices after which others have their turn."""

    async def start(self) -> None:
        heapq.heapify(self._jobs)
        self._task = self._loop.create_task(self._go_on())

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._jobs[0][0] - self._loop.time()))
            end = time.perf_counter() + SLICE
            while self._jobs[0][0] <= self._loop.time() and time.perf_counter() < end:
                at, every, number = self._jobs[0]
                heapq.heapreplace(self._jobs, (at + every, every, number))
                self._run(number)

    async def stop(self) -> None:
        self._task.cancel()
        await super().stop()


class QuartTasks(Contender):
    """quart-tasks. A task's next run is one period after its last, so that its times drift."""

    bodies = {"async": score.in_context, "sync": score.sync_in_context}
    drifts = True

    def set_up(self) -> None:
        from quart_tasks import MemoryStore
        from quart_tasks import QuartTasks as Extension

        self._store = MemoryStore()
        self._tasks = Extension(self.app, store=self._store)
        self._last: dict[str, datetime] = {}
        # Started by hand, so that this is done at the same moment as with the others.
        self.app.config["QUART_TASKS_WHILST_SERVING"] = False

    def interval(self, number: int, first: float, every: float) -> None:
        period = timedelta(seconds=every)
        self._last[str(number)] = moment(first) - period
        self._tasks.add_periodic_task(partial(self.body, number), period, name=str(number))

    def cron(self, number: int, at: datetime) -> None:
        expression = f"{at.minute} {at.hour} * * * {at.second}"
        self._tasks.add_cron_task(partial(self.body, number), expression, name=str(number))

    async def start(self) -> None:
        for name, last in self._last.items():
            await self._store.set(name, last)
        self.app.add_background_task(self._tasks.run)
        # Until each task has found out when it is due.
        for _ in range(5):
            await asyncio.sleep(0)


class Aiocron(Contender):
    """aiocron, which has nothing but cron expressions."""

    bodies = {"async": score.enters_context}

    def set_up(self) -> None:
        self._crons: list[Any] = []

    def cron(self, number: int, at: datetime) -> None:
        import aiocron

        expression = f"{at.second} {at.minute} {at.hour} * * *"
        self._crons.append(aiocron.crontab(expression, self.body, (number,), start=False, tz=UTC))

    async def start(self) -> None:
        for cron in self._crons:
            cron.start()

    async def stop(self) -> None:
        for cron in self._crons:
            cron.stop()


CONTENDERS: dict[str, type[Contender]] = {
    "none": Nothing,
    "raw asyncio": RawAsyncio,
    "raw asyncio, sliced": SlicedAsyncio,
    "quart_sched": Ours,
    "AsyncIOScheduler": APSchedulerAsync,
    "Flask-APScheduler": FlaskAPScheduler,
    "quart-tasks": QuartTasks,
    "aiocron": Aiocron,
}


@asynccontextmanager
async def serving(contender: Contender) -> AsyncIterator[None]:
    """Start the contender within the app's life, and stop it."""
    async with contender.app.test_app():
        await contender.start()
        try:
            yield
        finally:
            await contender.stop()


def _wait_for_records(url: str, runs: int) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    deadline = time.monotonic() + 60
    with engine.connect() as connection:
        while (found := connection.scalar(sa.text("SELECT count(*) FROM quart_sched_runs"))) != runs:
            if found > runs or time.monotonic() > deadline:
                raise RuntimeError(f"{runs} jobs ran, and {found} runs are on record")
            time.sleep(0.005)
    engine.dispose()
