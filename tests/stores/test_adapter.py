"""APScheduler's own stores, and what we keep them from doing."""

from __future__ import annotations

import functools
import pickle
import sqlite3
import sys
import threading
import types
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apscheduler.job import Job
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger
from quart import Quart

from quart_sched import APScheduler, Scheduler
from quart_sched.errors import ConfigError, InvalidDefinition, StoreUnavailable
from quart_sched.model.jobs import state_of
from quart_sched.model.triggers import spec_of
from quart_sched.stores.adapter import check_storable, keep_unrestorable, make_store, unrestorable_reason
from quart_sched.stores.memory import MemoryStore
from quart_sched.stores.slot import Slot
from quart_sched.stores.sql.store import SqlStore
from tests.conftest import clock
from tests.names import shown

__all__ = ["clock"]

PICKLING = "apscheduler.jobstores.sqlalchemy:SQLAlchemyJobStore"


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
        ({"type": "sqlalchemy", "url": "sqlite:///jobs.db"}, SqlStore),
        ({"class": PICKLING, "url": "sqlite://"}, SQLAlchemyJobStore),
        ({"class": SQLAlchemyJobStore, "url": "sqlite://"}, SQLAlchemyJobStore),
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


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"type": "filesystem"}, "has type 'filesystem'; expected one of 'etcd', 'memory', 'mongodb'"),
        ({"class": None}, "has class None; expected a subclass of apscheduler's BaseJobStore"),
        ({"class": dict}, "has class <class 'dict'>; expected a subclass"),
        ({"class": "json:dumps"}, "has class 'json:dumps'; expected a subclass"),
        ({"class": "no reference"}, "cannot be made into a job store: ValueError"),
        ({"class": "nowhere:Store"}, "cannot be made into a job store: ModuleNotFoundError: No module named 'nowhere'"),
        ({"class": "json:Nothing"}, "cannot be made into a job store: LookupError"),
        ({"type": "memory", "size": 5}, "has 'size' beside type 'memory', which takes no options"),
        ({"class": PICKLING}, "cannot be made into a job store: ValueError"),
        ({"class": PICKLING, "url": "nonsense"}, "cannot be made into a job store: ArgumentError"),
    ],
    ids=shown,
)
def test_a_wrong_entry_is_named_with_what_was_expected(entry, expected):
    with pytest.raises(ConfigError) as caught:
        make_store("KEY", entry)
    assert str(caught.value).startswith("KEY ")
    assert expected in str(caught.value)


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymongo", None)
    monkeypatch.delitem(sys.modules, "apscheduler.jobstores.mongodb", raising=False)
    with pytest.raises(ConfigError, match="KEY has type 'mongodb', whose library is not installed"):
        make_store("KEY", {"type": "mongodb"})


def test_the_library_of_a_class_that_is_missing_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sqlalchemy"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, PICKLING.partition(":")[0])
    with pytest.raises(ConfigError, match="ImportError: SQLAlchemyJobStore requires SQLAlchemy installed"):
        make_store("KEY", {"class": PICKLING, "url": "sqlite://"})


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
    stores = {"default": {"class": PICKLING, "url": "sqlite://"}}
    async with serve(scheduler, app, SCHEDULER_JOBSTORES=stores):
        with pytest.raises(InvalidDefinition, match=text):
            await scheduler.aio.add_job("job", func, args=args, trigger="interval", hours=1)
        assert await scheduler.aio.get_jobs() == []


async def test_a_bound_method_can_be_kept(scheduler, app, serve):
    stores = {"default": {"class": PICKLING, "url": "sqlite://"}}
    async with serve(scheduler, app, SCHEDULER_JOBSTORES=stores):
        await scheduler.aio.add_job("job", Holder().method, trigger="interval", hours=1)
        assert (await scheduler.aio.get_job("job")).id == "job"


def test_a_lambda_is_refused_at_declaration_too(scheduler, app):
    app.config["SCHEDULER_JOBSTORES"] = {"default": {"class": PICKLING, "url": "sqlite://"}}
    scheduler.init_app(app)
    with pytest.raises(InvalidDefinition, match="no importable name"):
        scheduler.add_job("job", lambda: None, trigger="interval", hours=1)


def job_of(func: Any, args: tuple[Any, ...] = (), trigger: Any = None) -> Job:
    return Job(
        Scheduler(timezone="UTC"),
        id="job",
        func=func,
        args=args,
        kwargs={},
        trigger=trigger or IntervalTrigger(hours=1, start_date=datetime(2026, 3, 2, tzinfo=UTC), timezone=UTC),
        executor="default",
        misfire_grace_time=1,
        coalesce=True,
        max_instances=1,
        next_run_time=None,
    )


class RedisLike(MemoryJobStore):
    """A store of APScheduler's kind that is not ours."""


class OwnTrigger(BaseTrigger):
    def get_next_fire_time(self, previous_fire_time: Any, now: Any) -> None: ...


@pytest.mark.parametrize("func", [tick, "json:dumps", Holder().method, print], ids=shown)
def test_what_has_a_name_and_can_be_pickled_is_storable(func):
    check_storable(job_of(func, (1,) if isinstance(func, str) else ()), "second")


def test_what_is_not_storable_names_the_store_and_what_to_do():
    stuck = Holder()
    stuck.lock = threading.Lock()

    class Local(OwnTrigger):
        """Of a function, so that no other process could find it."""

    wrong: list[tuple[Any, str]] = [
        (
            job_of(lambda: None),
            'func: .*<lambda>.* no importable name, so store "second" cannot keep it; use a func',
        ),
        (job_of(functools.partial(tick)), "func: .*no importable name"),
        (job_of(takes_one, (threading.Lock(),)), 'args: cannot be kept in store "second": .*lock'),
        (job_of(stuck.method), "args: cannot be kept in store"),
        (job_of(tick, trigger=Local()), "args: cannot be kept in store"),
    ]
    for job, text in wrong:
        with pytest.raises(InvalidDefinition, match=text):
            check_storable(job, "second")
    check_storable(job_of(tick, trigger=OwnTrigger()), "second")


async def test_a_store_of_apschedulers_keeps_no_options_beyond_its_own(scheduler, app, serve):
    stores = {"second": {"type": "memory"}, "foreign": RedisLike()}
    async with serve(scheduler, app, SCHEDULER_JOBSTORES=stores):
        options: dict[str, Any] = {"trigger": "interval", "hours": 1, "on_crash": "rerun"}
        with pytest.raises(InvalidDefinition, match=r"on_crash: is .rerun., which store .foreign. .* cannot keep"):
            await scheduler.aio.add_job("job", tick, jobstore="foreign", **options)
        assert (await scheduler.aio.add_job("job", tick, jobstore="second", **options)).policy.on_crash == "rerun"
        assert await scheduler.aio.get_jobs("foreign") == []


# What cannot be restored


class Restoring(MemoryJobStore):
    """A store that restores as APScheduler's stores do, from a pickled state."""

    def _reconstitute_job(self, job_state: bytes) -> Job:
        state = pickle.loads(job_state)
        job = Job.__new__(Job)
        job.__setstate__(state)
        job._scheduler, job._jobstore_alias = self._scheduler, self._alias
        return job


@pytest.fixture
def restoring():
    store = Restoring()
    store.start(Scheduler(timezone="UTC"), "second")
    keep_unrestorable(store)
    return store


def test_a_job_in_order_is_restored_as_ever(restoring):
    job = restoring._reconstitute_job(pickle.dumps(job_of(tick).__getstate__()))
    assert (job.id, job.func) == ("job", tick)
    assert unrestorable_reason(job) is None


def test_a_placeholder_keeps_what_is_known_and_never_fires(restoring, caplog):
    due = datetime(2026, 3, 2, tzinfo=UTC)
    state = job_of(tick).__getstate__() | {
        "func": "nowhere:report",
        "name": "Report",
        "args": (1,),
        "next_run_time": due,
    }
    job = restoring._reconstitute_job(pickle.dumps(state))
    assert (job.id, job.name, job.func_ref, job.args, job.next_run_time) == (
        "job",
        "Report",
        "nowhere:report",
        (1,),
        due,
    )
    assert (job._jobstore_alias, job.executor) == ("second", "default")
    assert "LookupError" in (unrestorable_reason(job) or "")
    assert job.trigger.get_next_fire_time(None, due) is None
    assert spec_of(job.trigger) == spec_of(job_of(tick).trigger)
    assert state_of(job, unrestorable_reason(job)) == "broken"
    assert 'Job "job" of store "second" cannot be restored' in caplog.text


@pytest.mark.parametrize("state", [b"no pickle", pickle.dumps([1]), pickle.dumps(None), b""], ids=shown)
def test_a_state_that_says_nothing_still_gives_a_placeholder(restoring, state):
    job = restoring._reconstitute_job(state)
    assert (job.id, job.name, job.func_ref, job.args, job.kwargs, job.next_run_time) == ("?", "?", None, (), {}, None)
    assert unrestorable_reason(job)


def test_each_lost_job_is_logged_once_however_often_it_is_read(restoring, caplog):
    for job_id in ("a", "b", "a", "a"):
        restoring._reconstitute_job(pickle.dumps({"version": 1, "id": job_id, "func": "nowhere:x"}))
    assert caplog.text.count("cannot be restored: it is kept and does not run") == 2


def test_a_store_is_taught_once(restoring):
    taught = restoring._reconstitute_job
    keep_unrestorable(restoring)
    assert restoring._reconstitute_job is taught


def test_a_store_that_restores_nothing_is_left_as_it_is():
    store = MemoryStore()
    before = dict(vars(store))
    keep_unrestorable(store)
    assert vars(store) == before


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
        "SCHEDULER_JOBSTORES": {"default": {"class": PICKLING, "url": f"sqlite:///{path}"}},
        "SCHEDULER_API_ENABLED": True,
    }

    def make() -> APScheduler:
        scheduler = APScheduler(Scheduler(timezone="UTC"))
        clock.join(scheduler)
        return scheduler

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
            await clock.advance(seconds=10)
            await second.scheduler.call(lambda: None, blocking=True)
        [shown] = await (await client.get("/scheduler/jobs")).get_json()
        assert (shown["id"], shown["state"], shown["func"]) == ("report", "broken", "deployed_jobs:report")
        assert "LookupError" in shown["broken"]
        assert shown["trigger_description"] == "every 10 seconds"
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
            await clock.advance(seconds=10)
            await third.scheduler.call(lambda: None, blocking=True)
        assert third.history.records("report")


async def test_a_job_that_cannot_even_be_unpickled_is_kept(scheduler, app, serve, clock, tmp_path):
    path = tmp_path / "jobs.db"
    config = {"SCHEDULER_JOBSTORES": {"default": {"class": PICKLING, "url": f"sqlite:///{path}"}}}
    async with serve(scheduler, app, **config):
        await scheduler.aio.get_jobs()
    due = (datetime(2026, 3, 2, tzinfo=UTC) - timedelta(days=1)).timestamp()
    with sqlite3.connect(path) as connection:
        connection.execute("insert into apscheduler_jobs values (?, ?, ?)", ("odd", due, b"no pickle"))
        state = pickle.dumps({"version": 99, "id": "newer", "func": "os:getcwd"})
        connection.execute("insert into apscheduler_jobs values (?, ?, ?)", ("newer", due, state))
    connection.close()
    async with app.test_app():
        await clock.advance(seconds=5)
        jobs = {job.id: job for job in await scheduler.aio.get_jobs()}
        assert set(jobs) == {"?", "newer"}
        assert "version 99" in scheduler.scheduler.catalogue.broken_reason(jobs["newer"])
        await scheduler.aio.remove_job("newer")
    assert set(rows(path)) == {"odd"}


async def test_a_declaration_replaces_what_cannot_be_restored(scheduler, app, serve, deployed, clock, tmp_path):
    path = tmp_path / "jobs.db"
    config = {"SCHEDULER_JOBSTORES": {"default": {"class": PICKLING, "url": f"sqlite:///{path}"}}}
    async with serve(scheduler, app, **config):
        await scheduler.aio.add_job("report", "deployed_jobs:report", trigger="interval", seconds=10)
    del deployed.report
    second = APScheduler(Scheduler(timezone="UTC"))
    clock.join(second)
    second.task("interval", id="report", seconds=20)(tick)
    async with serve(second, Quart("redeclared"), **config):
        job = await second.aio.get_job("report")
        assert (job.func, job.trigger.interval_length) == (tick, 20)


# Schedules that are over


async def test_a_declared_schedule_that_is_over_is_no_pause_and_goes_on_when_it_is_corrected(
    clock, serve, tmp_path, caplog
):
    config = {"SCHEDULER_JOBSTORES": {"default": {"class": PICKLING, "url": f"sqlite:///{tmp_path / 'jobs.db'}"}}}

    async def deploy(**trigger: Any) -> Job | None:
        scheduler = APScheduler(Scheduler(timezone="UTC"))
        clock.join(scheduler)
        scheduler.task(id="report", **trigger)(tick)
        async with serve(scheduler, Quart("deploy"), **config):
            return await scheduler.aio.get_job("report")

    assert await deploy(trigger="cron", hour=3, end_date="2026-03-01") is None
    assert 'Job "report" is declared, but its trigger has no fire left' in caplog.text
    assert (await deploy(trigger="cron", hour=3)).next_run_time == datetime(2026, 3, 3, 3, tzinfo=UTC)
    assert await deploy(trigger="cron", day=31, month=2) is None
    assert (await deploy(trigger="cron", hour=4)).next_run_time == datetime(2026, 3, 3, 4, tzinfo=UTC)


async def test_a_task_whose_schedule_is_over_may_be_imported_after_the_start(scheduler, app, serve, caplog):
    async with serve(scheduler, app):
        scheduler.task("cron", id="late", hour=3, end_date="2026-03-01")(tick)
        assert scheduler.get_job("late") is None
    assert 'Job "late" is declared, but its trigger has no fire left' in caplog.text


async def test_a_job_that_waits_takes_no_trigger_without_a_fire_either(scheduler, app, serve):
    async with serve(scheduler, app, start=False):
        scheduler.add_job("job", tick, trigger="cron", hour=3)
        with pytest.raises(InvalidDefinition, match="no fire left"):
            await scheduler.aio.modify_job("job", trigger="cron", day=31, month=2)
        assert spec_of((await scheduler.aio.get_job("job")).trigger).to_dict()["hour"] == "3"
