"""APScheduler's own stores, on a real Redis and on SQLite files, used by one process."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from quart import Quart
from redis.backoff import NoBackoff
from redis.retry import Retry

from quart_sched import APScheduler

pytestmark = pytest.mark.integration

PICKLING = "apscheduler.jobstores.sqlalchemy:SQLAlchemyJobStore"
REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
runs: list[str] = []


async def coroutine(name: str = "coroutine") -> None:
    runs.append(name)


def function(name: str = "function") -> None:
    runs.append(name)


@pytest.fixture(autouse=True)
def _forget() -> None:
    runs.clear()


@pytest.fixture
def redis_options() -> Iterator[dict[str, Any]]:
    client = redis.Redis.from_url(REDIS_URL)
    try:
        client.ping()
    except redis.ConnectionError as error:
        if os.environ.get("REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(f"no Redis at {REDIS_URL}: {error}")
    keys = {"jobs_key": f"test.jobs.{uuid.uuid4()}", "run_times_key": f"test.run_times.{uuid.uuid4()}"}
    connection = client.connection_pool.connection_kwargs
    yield keys | {"host": connection["host"], "port": connection["port"], "db": connection["db"]}
    client.delete(*keys.values())
    client.close()


_FORMS = [
    (store, form)
    for store in ("redis", "sqlite file", "sqlite memory")
    for form in ("type", "class", "instance")
    if store == "redis" or form != "type"  # the type "sqlalchemy" is a store of our own
]


@pytest.fixture(params=_FORMS, ids="-".join)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """An entry of SCHEDULER_JOBSTORES, in each form and for each store."""
    kind, form = request.param
    if kind == "redis":
        cls, options = RedisJobStore, request.getfixturevalue("redis_options")
    else:
        url = f"sqlite:///{tmp_path / 'jobs.db'}" if kind == "sqlite file" else "sqlite://"
        cls, options = SQLAlchemyJobStore, {"url": url}
    if form == "instance":
        return cls(**options)
    return options | ({"type": kind} if form == "type" else {"class": f"{cls.__module__}:{cls.__name__}"})


def make(entry: Any, **config: Any) -> tuple[APScheduler, Quart]:
    app = Quart("stored_app")
    app.config.update(SCHEDULER_JOBSTORES={"default": entry}, SCHEDULER_API_ENABLED=True, TESTING=True, **config)
    scheduler = APScheduler(app=app)
    scheduler.start()
    return scheduler, app


async def eventually(condition: Any, timeout: float = 10) -> Any:
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)
    return value


async def test_jobs_fire_and_every_store_call_is_made_in_one_thread(store):
    scheduler, app = make(store)
    used: set[int] = set()
    instance = scheduler.scheduler.catalogue.slots["default"].store
    for name in (
        "get_due_jobs",
        "get_next_run_time",
        "update_job",
        "add_job",
        "lookup_job",
        "get_all_jobs",
        "remove_job",
    ):
        original = getattr(instance, name)

        def note(*args: Any, original: Any = original) -> Any:
            used.add(threading.get_ident())
            return original(*args)

        setattr(instance, name, note)
    async with app.test_app() as test_app:
        client = test_app.test_client()
        await scheduler.aio.add_job("coroutine", coroutine, trigger="interval", seconds=0.1)
        await asyncio.to_thread(scheduler.add_job, "function", function, trigger="interval", seconds=0.1)
        await eventually(lambda: {"coroutine", "function"} <= set(runs))
        jobs = await (await client.get("/scheduler/jobs")).get_json()
        assert sorted(job["id"] for job in jobs) == ["coroutine", "function"]
        assert (await client.post("/scheduler/jobs/coroutine/pause")).status_code == 200
        assert (await scheduler.aio.get_job("coroutine")).next_run_time is None
        assert (await client.delete("/scheduler/jobs/function")).status_code == 204
        await scheduler.aio.remove_all_jobs()
    assert len(used) == 1
    assert threading.get_ident() not in used


@pytest.fixture(params=["redis", "sqlite"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """A store that outlives the process."""
    if request.param == "sqlite":
        return {"class": PICKLING, "url": f"sqlite:///{tmp_path / 'jobs.db'}"}
    return {"type": "redis", **request.getfixturevalue("redis_options")}


async def test_a_restart_keeps_next_fires_and_pauses_and_updates_what_was_declared_otherwise(kept):
    def declare(scheduler: APScheduler, changed: dict[str, Any]) -> None:
        scheduler.add_job("same", coroutine, trigger="interval", hours=6)
        scheduler.add_job("paused", coroutine, trigger="interval", hours=6)
        scheduler.add_job("changed", coroutine, trigger="interval", **changed)

    scheduler, app = make(kept)
    declare(scheduler, {"hours": 6})
    async with app.test_app():
        await eventually(lambda: not len(scheduler.scheduler.catalogue.declarations))
        await scheduler.aio.pause_job("paused")
        before = {job.id: job.next_run_time for job in await scheduler.aio.get_jobs()}

    scheduler, app = make(kept)
    declare(scheduler, {"hours": 1})
    async with app.test_app():
        await eventually(lambda: not len(scheduler.scheduler.catalogue.declarations))
        after = {job.id: job.next_run_time for job in await scheduler.aio.get_jobs()}
        assert after["same"] == before["same"]
        assert after["paused"] is None
        assert after["changed"] < before["changed"]
        await scheduler.aio.remove_all_jobs()


async def test_a_slow_store_does_not_hold_up_the_loop(tmp_path):
    scheduler, app = make({"class": PICKLING, "url": f"sqlite:///{tmp_path / 'jobs.db'}"})
    instance = scheduler.scheduler.catalogue.slots["default"].store
    original = instance.get_due_jobs

    def slow(now: Any) -> Any:
        time.sleep(0.3)
        return original(now)

    instance.get_due_jobs = slow
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - last)
            last = time.perf_counter()

    async with app.test_app():
        await scheduler.aio.add_job("job", coroutine, trigger="interval", seconds=0.1, misfire_grace_time=None)
        beating = asyncio.create_task(beat())
        await eventually(lambda: len(runs) >= 3)
        await scheduler.aio.get_jobs()
        beating.cancel()
    assert longest < 0.2  # a call on the loop would have held it for 0.3 s


async def test_a_store_that_is_down_at_start_is_said_so_and_taken_up_when_it_is_there(tmp_path):
    folder = tmp_path / "later"
    scheduler, app = make({"class": PICKLING, "url": f"sqlite:///{folder / 'jobs.db'}"}, SCHEDULER_POLL_INTERVAL=0.05)
    scheduler.add_job("declared", coroutine, trigger="interval", seconds=0.1)
    async with app.test_app() as test_app:
        client = test_app.test_client()
        slot = scheduler.scheduler.catalogue.slots["default"]
        await eventually(lambda: slot.error)
        info = await (await client.get("/scheduler")).get_json()
        assert info["running"]
        assert not info["jobstores"]["default"]["available"]
        assert "unable to open database file" in info["jobstores"]["default"]["error"]
        for method, path in (("GET", "/jobs"), ("DELETE", "/jobs/x"), ("POST", "/jobs/x/run")):
            response = await client.open(f"/scheduler{path}", method=method)
            assert response.status_code == 503
            assert "default" in (await response.get_json())["error_message"]
        folder.mkdir()
        await eventually(lambda: len(runs) >= 2)
        info = await (await client.get("/scheduler")).get_json()
        assert info["jobstores"]["default"] == {"available": True, "error": None}


async def test_a_redis_that_does_not_answer_leaves_the_app_serving():
    scheduler, app = make({"type": "redis", "port": 1, "retry": Retry(NoBackoff(), 0)})

    @app.get("/")
    async def index() -> str:
        return "served"

    async with app.test_app() as test_app:
        client = test_app.test_client()
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/scheduler/jobs")).status_code == 503
        await eventually(lambda: scheduler.scheduler.catalogue.slots["default"].error)
