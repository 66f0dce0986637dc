"""Several processes that share a store, simulated in one: each has a scheduler, an app and a session of its own."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from quart import Quart
from sqlalchemy.exc import OperationalError

from quart_sched import APScheduler, Scheduler
from quart_sched.model.runs import RunRecord
from quart_sched.stores.sql import schema
from quart_sched.stores.sql.database import Database
from quart_sched.stores.sql.transaction import Transaction

URLS = {
    "postgresql": os.environ.get("POSTGRESQL_URL", "postgresql+psycopg://postgres@127.0.0.1/test"),
    "mysql": os.environ.get("MYSQL_URL", "mysql+pymysql://root@127.0.0.1/test"),
}
SQLITE = pytest.param("sqlite", marks=pytest.mark.integration)
KINDS = [
    SQLITE,
    pytest.param("postgresql", marks=pytest.mark.integration),
    pytest.param("mysql", marks=pytest.mark.integration),
]

Declare = Callable[[APScheduler], Any]


def reachable(kind: str, folder: Path) -> str:
    """Return the URL of a database of this kind; skip the test where there is none."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'jobs.db'}"
    url = URLS[kind]
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        engine.connect().close()
    except OperationalError as error:
        if os.environ.get("REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(f"no database at {url}: {error}")
    return url


def drop_tables(url: str, prefix: str) -> None:
    """Remove every table whose name begins with `prefix`."""
    if url.startswith("sqlite"):
        return  # The file is the test's own.
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as conn:
        for name in sa.inspect(conn).get_table_names():
            if name.startswith(prefix):
                conn.execute(sa.text(f"DROP TABLE {name}"))


class Tables:
    """One set of tables for each kind of database, which tests use one after the other: making them takes long."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Database] = {}

    def empty(self, kind: str) -> dict[str, Any]:
        """Return an entry of SCHEDULER_JOBSTORES whose tables are as if they were new."""
        if (database := self._made.get(kind)) is None:
            url, prefix = reachable(kind, self._folder), f"t{uuid.uuid4().hex[:10]}_"
            options = {} if kind == "sqlite" else {"poolclass": sa.NullPool}
            database = self._made[kind] = Database("", url, prefix, create_tables=True, engine_options=options)
            database.schema.open()
        else:
            database.transact(self._clear)
        url = database.engine.url.render_as_string(hide_password=False)
        return {"type": "sqlalchemy", "url": url, "table_prefix": database.prefix}

    @staticmethod
    def _clear(tx: Transaction) -> None:
        for table in schema.metadata(tx.prefix).tables:
            tx.execute(f"DELETE FROM {table}")
        for statement in schema.first_rows(tx.prefix):
            tx.execute(statement)

    def drop(self) -> None:
        """Remove them."""
        for database in self._made.values():
            url = database.engine.url.render_as_string(hide_password=False)
            database.dispose()
            drop_tables(url, database.prefix)


class Process:
    """One process: `scheduler`, its `app`, and a `client` of its REST API."""

    def __init__(self, scheduler: APScheduler, app: Quart, test_app: Any) -> None:
        self.scheduler = scheduler
        self.aio = scheduler.aio
        self.app = app
        self.test_app = test_app
        self.client = test_app.test_client()

    @property
    def slot(self) -> Any:
        return self.scheduler.scheduler.catalogue.slots["default"]

    @property
    def pumps(self) -> set[Any]:
        engine = self.scheduler.scheduler
        return {*engine._pumps, *engine._clusters.values()}

    async def rest(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Return the status and the JSON of the answer to a request below ``/scheduler``."""
        response = await self.client.open(f"/scheduler{path}", method=method, **options)
        return response.status_code, await response.get_json() if response.status_code != 204 else None

    async def job(self, job_id: str) -> Any:
        """Return the job as the API shows it."""
        status, shown = await self.rest("GET", f"/jobs/{job_id}")
        assert status == 200, shown
        return shown

    async def ids(self) -> list[str]:
        """Return the ids of all jobs in their order."""
        return [job.id for job in await self.aio.get_jobs()]

    async def records(self, job_id: str) -> list[RunRecord]:
        """Return what became of the job's fires, the earliest first."""
        return list(reversed((await self.aio.runs(job_id, limit=500)).items))

    async def outcomes(self, job_id: str) -> list[str]:
        """Return the outcome of each record."""
        return [record.outcome for record in await self.records(job_id)]


class Cluster:
    """The processes on one store, and their common time."""

    def __init__(self, clock: Any, entry: dict[str, Any]) -> None:
        self.clock = clock
        self.entry = entry
        self.config: dict[str, Any] = {}
        """Settings of every process that starts."""
        self.processes: list[Process] = []
        self._killed: list[Process] = []

    async def start(self, declare: Declare | None = None, *, paused: bool = False, **config: Any) -> Process:
        """Start a process that serves, with the jobs that `declare` adds before; return it when it is at rest.

        A `paused` one takes part without claiming.
        """
        scheduler = APScheduler(Scheduler(clock=self.clock))
        app = Quart(f"process_{len(self.processes)}")
        settings = {
            "SCHEDULER_TIMEZONE": "UTC", "SCHEDULER_API_ENABLED": True, "SCHEDULER_API_ALLOWED_FUNCS": ["*"],
            "SCHEDULER_JOBSTORES": {"default": self.entry}, "TESTING": True,
        }  # fmt: skip
        app.config.update(settings | self.config | config)
        scheduler.init_app(app)
        if declare is not None:
            declare(scheduler)
        scheduler.start(paused)
        test_app = app.test_app()
        await test_app.startup()
        process = Process(scheduler, app, test_app)
        self.processes.append(process)
        await self.rest()
        return process

    async def stop(self, process: Process) -> None:
        """End a process in order, and let the others take note."""
        self.processes.remove(process)
        await process.test_app.shutdown()
        await self.poll()

    async def restart(self, process: Process, declare: Declare | None = None, **config: Any) -> Process:
        """End a process and start another in its place."""
        await self.stop(process)
        return await self.start(declare, **config)

    def kill(self, process: Process) -> None:
        """Let a process do nothing more, as if it had died."""
        self.processes.remove(process)
        self._killed.append(process)
        for pump in process.pumps:
            pump._task.cancel()

    async def close(self) -> None:
        """End all processes."""
        for process in self._killed:
            process.slot.session = None
        for process in [*self.processes, *self._killed]:
            await process.test_app.shutdown()
        self.processes.clear()

    # Time

    def _at_rest(self) -> bool:
        waiting = {event for _, event in self.clock._waiting if not event.is_set()}
        return all(pump._wake in waiting for process in self.processes for pump in process.pumps)

    async def rest(self, timeout: float = 20.0) -> None:
        """Wait, in real time, until every process has done what there is to do by now."""
        deadline = time.monotonic() + timeout
        calm = 0
        while calm < 3:
            assert time.monotonic() < deadline, "the processes do not come to rest"
            for _ in range(5):
                await asyncio.sleep(0)
            if self._at_rest():
                calm += 1
            else:
                calm = 0
                await asyncio.sleep(0.001)

    async def advance(self, seconds: float) -> None:
        """Let time go on, and the processes do at each moment what is due then.

        Of several processes, one may find what is due in another's hands and look again some milliseconds later: go on
        a little beyond the last fire that counts.
        """
        await self.rest()
        target = self.clock.now() + timedelta(seconds=seconds)
        while due := [entry for entry in self.clock._waiting if entry[0] <= target]:
            moment = min(entry[0] for entry in due)
            self.clock._now = max(self.clock._now, moment)
            for entry in due:
                if entry[0] <= self.clock._now:
                    entry[1].set()
            await self.rest()
        self.clock._now = target
        await self.rest()

    async def jump(self, seconds: float) -> None:
        """Let all processes sleep for a while, and wake up together."""
        self.clock.jump(seconds)
        await self.poll()

    async def poll(self) -> None:
        """Let every process look at the store."""
        await self.rest()
        for process in self.processes:
            for pump in process.pumps:
                pump.wake()
        await self.rest()

    # The tables

    def query(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Run a statement, in which {p} is the tables' prefix; return its rows."""
        engine = sa.create_engine(self.entry["url"], poolclass=sa.NullPool)
        with engine.begin() as conn:
            result = conn.execute(sa.text(statement.format(p=self.entry["table_prefix"])), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    def contents(self, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
        """Return all rows of some tables, to compare them."""
        return {table: sorted(self.query(f"SELECT * FROM {{p}}{table}"), key=repr) for table in tables}
