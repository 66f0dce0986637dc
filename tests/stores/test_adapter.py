"""APScheduler's own stores, and what we keep them from doing."""

from __future__ import annotations

import pickle
import sqlite3
import sys
import types
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from quart import Quart

from quart_sched import APScheduler, Scheduler
from quart_sched.errors import ConfigError, InvalidDefinition, StoreUnavailable
from quart_sched.stores.adapter import make_store
from quart_sched.stores.memory import MemoryStore
from quart_sched.stores.slot import Slot


async def tick() -> None: ...


def takes_one(value: Any) -> None: ...


class Holder:
    def method(self) -> None: ...


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("not for keeping")


# Making


@pytest.mark.parametrize(
    ("entry", "cls"),
    [
        ({"type": "memory"}, MemoryStore),
        ({"class": "apscheduler.jobstores.memory:MemoryJobStore"}, MemoryStore),
        ({"class": MemoryStore}, MemoryStore),
        ({"type": "sqlalchemy", "url": "sqlite://"}, SQLAlchemyJobStore),
        ({"class": "apscheduler.jobstores.sqlalchemy:SQLAlchemyJobStore", "url": "sqlite://"}, SQLAlchemyJobStore),
    ],
)
def test_a_store_is_made_by_type_or_class(entry, cls):
    before = dict(entry)
    assert type(make_store("KEY", entry)) is cls
    assert entry == before


def test_an_instance_is_used_as_it_is():
    store = MemoryJobStore()
    assert make_store("KEY", store) is store


def test_a_store_of_a_type_that_is_no_str_is_named():
    with pytest.raises(ConfigError, match="KEY has type"):
        make_store("KEY", {"type": ["memory"]})


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymongo", None)
    monkeypatch.delitem(sys.modules, "apscheduler.jobstores.mongodb", raising=False)
    with pytest.raises(ConfigError, match="KEY has type 'mongodb', whose library is not installed"):
        make_store("KEY", {"type": "mongodb"})


# Slots


def test_what_the_driver_raises_says_which_store_and_why():
    slot = Slot("second", MemoryJobStore())
    with pytest.raises(StoreUnavailable, match='Job store "second" is not available: OSError: disk full'), slot.use():
        raise OSError("disk full")
    assert slot.error == "OSError: disk full"
    with slot.use():
        pass
    assert slot.error is None


# What cannot be kept


@pytest.mark.parametrize(
    ("func", "args", "text"),
    [
        (lambda: None, (), "func: .*no importable name.*top of a module, or the memory store"),
        (takes_one, (Unpicklable(),), "args: .*cannot be kept in store"),
    ],
)
async def test_a_job_that_the_store_cannot_keep_is_refused_when_it_is_added(scheduler, app, serve, func, args, text):
    stores = {"default": {"type": "sqlalchemy", "url": "sqlite://"}}
    async with serve(scheduler, app, SCHEDULER_JOBSTORES=stores):
        with pytest.raises(InvalidDefinition, match=text):
            await scheduler.aio.add_job("job", func, args=args, trigger="interval", hours=1)
        assert await scheduler.aio.get_jobs() == []


async def test_a_bound_method_can_be_kept(scheduler, app, serve):
    stores = {"default": {"type": "sqlalchemy", "url": "sqlite://"}}
    async with serve(scheduler, app, SCHEDULER_JOBSTORES=stores):
        await scheduler.aio.add_job("job", Holder().method, trigger="interval", hours=1)
        assert (await scheduler.aio.get_job("job")).id == "job"


def test_a_lambda_is_refused_at_declaration_too(scheduler, app):
    app.config["SCHEDULER_JOBSTORES"] = {"default": {"type": "sqlalchemy", "url": "sqlite://"}}
    scheduler.init_app(app)
    with pytest.raises(InvalidDefinition, match="no importable name"):
        scheduler.add_job("job", lambda: None, trigger="interval", hours=1)


# What cannot be restored


@pytest.fixture
def deployed():
    """A module with a job's function, as one version of the code has it."""
    module = types.ModuleType("deployed_jobs")
    exec("async def report(): ...", vars(module))
    sys.modules["deployed_jobs"] = module
    yield module
    sys.modules.pop("deployed_jobs", None)


def rows(path: Any) -> dict[str, Any]:
    with sqlite3.connect(path) as connection:
        found = dict(connection.execute("select id, job_state from apscheduler_jobs").fetchall())
    connection.close()
    return found


async def test_a_job_whose_function_is_gone_is_kept_shown_and_runs_again_with_its_code(
    clock, serve, deployed, tmp_path, caplog
):
    path = tmp_path / "jobs.db"
    config: dict[str, Any] = {
        "SCHEDULER_JOBSTORES": {"default": {"type": "sqlalchemy", "url": f"sqlite:///{path}"}},
        "SCHEDULER_API_ENABLED": True,
    }

    def make() -> APScheduler:
        return APScheduler(Scheduler(clock=clock, timezone="UTC"))

    first = make()
    async with serve(first, Quart("old_code"), **config):
        await first.aio.add_job(
            "report", "deployed_jobs:report", trigger="interval", seconds=10, misfire_grace_time=None
        )
    state = rows(path)["report"]

    del deployed.report
    second = make()
    async with serve(second, Quart("new_code"), **config) as client:
        for _ in range(3):
            await clock.advance(10)
            await second.scheduler.call(lambda: None, blocking=True)
        [shown] = await (await client.get("/scheduler/jobs")).get_json()
        assert (shown["id"], shown["state"], shown["func"]) == ("report", "broken", "deployed_jobs:report")
        assert "LookupError" in shown["broken"]
        for method, url in (("POST", "/scheduler/jobs/report/run"), ("POST", "/scheduler/jobs/report/resume")):
            assert (await client.open(url, method=method)).status_code == 400
        assert (await client.patch("/scheduler/jobs/report", json={"name": "x"})).status_code == 400
        assert second.history.records() == []
    assert rows(path)["report"] == state
    assert caplog.text.count("cannot be restored") == 1

    exec("async def report(): ...", vars(deployed))
    third = make()
    async with serve(third, Quart("old_code_again"), **config):
        for _ in range(5):
            await clock.advance(10)
            await third.scheduler.call(lambda: None, blocking=True)
        assert third.history.records("report")


async def test_a_job_that_cannot_even_be_unpickled_is_kept(scheduler, app, serve, clock, tmp_path):
    path = tmp_path / "jobs.db"
    config = {"SCHEDULER_JOBSTORES": {"default": {"type": "sqlalchemy", "url": f"sqlite:///{path}"}}}
    async with serve(scheduler, app, **config):
        await scheduler.aio.get_jobs()
    due = (datetime(2026, 3, 2, tzinfo=UTC) - timedelta(days=1)).timestamp()
    with sqlite3.connect(path) as connection:
        connection.execute("insert into apscheduler_jobs values (?, ?, ?)", ("odd", due, b"no pickle"))
        state = pickle.dumps({"version": 99, "id": "newer", "func": "os:getcwd"})
        connection.execute("insert into apscheduler_jobs values (?, ?, ?)", ("newer", due, state))
    connection.close()
    async with app.test_app():
        await clock.advance(5)
        jobs = {job.id: job for job in await scheduler.aio.get_jobs()}
        assert set(jobs) == {"?", "newer"}
        assert "version 99" in scheduler.scheduler.catalogue.broken_reason(jobs["newer"])
        await scheduler.aio.remove_job("newer")
    assert set(rows(path)) == {"odd"}


async def test_a_declaration_replaces_what_cannot_be_restored(scheduler, app, serve, deployed, clock, tmp_path):
    path = tmp_path / "jobs.db"
    config = {"SCHEDULER_JOBSTORES": {"default": {"type": "sqlalchemy", "url": f"sqlite:///{path}"}}}
    async with serve(scheduler, app, **config):
        await scheduler.aio.add_job("report", "deployed_jobs:report", trigger="interval", seconds=10)
    del deployed.report
    second = APScheduler(Scheduler(clock=clock, timezone="UTC"))
    second.task("interval", id="report", seconds=20)(tick)
    async with serve(second, Quart("redeclared"), **config):
        job = await second.aio.get_job("report")
        assert (job.func, job.trigger.interval_length) == (tick, 20)
