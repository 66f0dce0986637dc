"""A site with a scheduler and its dashboard, behind a real server in a thread: what the browser's tests look at."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart

from quart_sched import APScheduler
from quart_sched.auth import Authorization, HTTPAuth, HTTPBasicAuth, HTTPBearerAuth
from quart_sched.model.ids import first_id
from quart_sched.model.instants import micros
from quart_sched.model.runs import RunRecord
from tests.servers.ports import free_port

T = TypeVar("T")

HOSTILE = '<script>document.title = "owned"</script><img src=x onerror=alert(1)>"\'&amp;'
"""Text that must be shown as it stands."""
PASSWORDS = {"reader": {"read"}, "operator": {"read", "operate"}, "boss": {"read", "operate", "admin"}}
"""Who may do what; names are their own passwords and tokens."""

log = logging.getLogger("site")


async def send_invoices(customer: str = "all", copies: int = 1, dry_run: bool = False) -> str:
    """Answer at once."""
    log.info("sent %d invoices to %s", copies, customer)
    return f"{customer} {copies} {dry_run}"


async def report(month: int, *sections: str, title: str = "Report", **options: Any) -> None:
    """Take all kinds of arguments."""


async def wait_long() -> None:
    """Run until cancelled."""
    log.info("waiting %s", HOSTILE)
    await asyncio.sleep(3600)


async def fail() -> None:
    """Fail with a message that a page must not take for markup."""
    log.warning("about to fail %s", HOSTILE)
    raise ValueError(HOSTILE)


said: asyncio.Queue[str | None] = asyncio.Queue()


async def write_on_demand() -> None:
    """Write what the test says to the log, until it has nothing more to say."""
    while (line := await said.get()) is not None:
        log.info("%s", line)


def count() -> int:
    """Run in a thread."""
    return 1


class Names(HTTPAuth):
    """Takes names over Basic, or as tokens."""

    def __init__(self, bearer: bool) -> None:
        self._scheme: HTTPAuth = HTTPBearerAuth() if bearer else HTTPBasicAuth()

    def get_authorization(self) -> Any:
        return self._scheme.get_authorization()

    def get_authenticate_header(self) -> str | None:
        return self._scheme.get_authenticate_header()


def judge(auth: Authorization) -> set[str]:
    """Return the rights of a name."""
    return PASSWORDS.get(auth.get("token") or auth["username"], set())


class Site:
    """An app that serves. Verbs run on its loop by way of `ask`."""

    def __init__(self, folder: Path, *, auth: str | None = None, sql: bool = True, **config: Any) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.ui = f"{self.address}/scheduler/ui"
        app = Quart("tests.dashboard.site")
        app.config.update(
            SCHEDULER_DASHBOARD_ENABLED=True,
            SCHEDULER_API_ENABLED=True,
            SCHEDULER_TIMEZONE="Europe/Berlin",
            SCHEDULER_POLL_INTERVAL=0.2,
            SCHEDULER_SHUTDOWN_TIMEOUT=0.2,
            TESTING=True,
            SECRET_KEY="of the tests",
        )
        self.database = folder / "site.sqlite3"
        if sql:
            app.config["SCHEDULER_JOBSTORES"] = {"default": {"type": "sqlalchemy", "url": f"sqlite:///{self.database}"}}
        if auth is not None:
            app.config["SCHEDULER_AUTH"] = Names(auth == "bearer")
        app.config.update(config)
        self.scheduler = APScheduler(app=app)
        self.scheduler.authenticate(judge)
        self.scheduler.start()
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(20), "the server does not start"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        config = Config()
        config.bind = [f"127.0.0.1:{self.port}"]
        config.accesslog = config.errorlog = None
        config.graceful_timeout = 0.5
        self._app.before_serving(self._announce)
        await serve(self._app, config, shutdown_trigger=self._stop.wait)

    async def _announce(self) -> None:
        async def wait() -> None:
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    self._ready.set()
                    return

        self._waiting = asyncio.create_task(wait())

    def close(self) -> None:
        """Stop serving."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server does not stop"

    def ask(self, verb: Coroutine[Any, Any, T]) -> T:
        """Return what a verb of `scheduler.aio` returns."""
        return asyncio.run_coroutine_threadsafe(verb, self._loop).result(20)

    def add(self, job_id: str, func: Any = "send_invoices", **options: Any) -> str:
        """Add a job that does not fire by itself, unless the options say otherwise; return its id."""
        given = {"trigger": "cron", "hour": 2, "minute": 30, "timezone": "Europe/Berlin"} | options
        if "trigger" in options:
            given = options
        self.ask(self.scheduler.aio.add_job(job_id, f"tests.dashboard.site:{func}", replace_existing=True, **given))
        return job_id

    def job(self, job_id: str) -> Any:
        """Return the job as the store has it."""
        return self.ask(self.scheduler.aio.get_job(job_id))

    def runs(self, job_id: str) -> list[RunRecord]:
        """Return the job's runs as the store has them, newest first."""
        return list(self.ask(self.scheduler.aio.runs(job_id)).items)

    def run(self, job_id: str) -> RunRecord:
        """Run a job to its end; return what is on record of it."""

        async def perform() -> RunRecord:
            handle = await self.scheduler.aio.run_job(job_id)
            await handle.wait()
            # What ended is written down a moment later.
            while (record := await self.scheduler.aio.run(handle.run_id)) is None or record.finished_at is None:
                await asyncio.sleep(0.02)
            return record

        return self.ask(perform())

    def say(self, line: str | None) -> None:
        """Let `write_on_demand` write a line, or end."""
        self._loop.call_soon_threadsafe(said.put_nowait, line)

    def write(self, records: list[RunRecord]) -> None:
        """Put runs of the past on record."""
        store = self.scheduler.scheduler.catalogue.slots["default"].store
        self.ask(self.scheduler.scheduler.call(lambda: store.history.write(records), blocking=True))


def past_runs(job_id: str, count: int, every: timedelta, *, seed: int = 1, bad: float = 0.1) -> list[RunRecord]:
    """Return runs of the past, some of which went wrong."""
    chance = random.Random(seed)
    now = datetime.now(UTC)
    records = []
    for number in range(1, count + 1):
        at = now - number * every
        run_id = f"{first_id(micros(at))[:24]}{chance.getrandbits(48):012x}"
        wrong = chance.random() < bad
        outcome: Any = chance.choice(["failed", "failed", "timed_out", "missed", "skipped"]) if wrong else "succeeded"
        started = None if outcome in ("missed", "skipped") else at + timedelta(milliseconds=4)
        finished = None if started is None else started + timedelta(seconds=chance.lognormvariate(0.5, 0.6))
        failed = outcome == "failed"
        records.append(
            RunRecord(
                run_id, run_id, job_id, at, outcome, "schedule", "web-1:4711", 1, started, finished,
                "ConnectionError" if failed else None, "mail.example.org does not answer" if failed else None,
                f"Traceback (most recent call last):\n  …\nConnectionError: {HOSTILE}" if failed else None,
                log=f"connecting\n{HOSTILE}\n" if failed else None,
            )
        )  # fmt: skip
    return records
