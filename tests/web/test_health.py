"""Health: what probes are told, with the API on and off, and in an outage."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from quart import Quart

from quart_sched import APScheduler, Scheduler
from quart_sched.auth import HTTPBearerAuth
from quart_sched.engine.pump import Pump
from quart_sched.errors import StoreUnavailable
from tests.conftest import eventually, settle
from tests.servers.proxy import Proxy
from tests.stores.cluster import URLS, Process, drop_tables, reachable
from tests.stores.conftest import cluster, cluster_clock, tables
from tests.stores.peers import at, outage

__all__ = ["cluster", "cluster_clock", "tables"]


async def job() -> None: ...


async def fails() -> None:
    raise LookupError("not there")


async def ask(client: Any, what: str, **headers: str) -> tuple[int, Any]:
    response = await client.get(f"/scheduler/health/{what}", headers=headers)
    assert response.headers["Cache-Control"] == "no-store"
    return response.status_code, await response.get_json()


async def live(process: Process) -> int:
    return (await ask(process.client, "live"))[0]


async def ready(process: Process) -> tuple[int, str, list[str]]:
    status, body = await ask(process.client, "ready")
    return status, body["status"], body["reasons"]


# When they are there


@pytest.mark.parametrize("api", [True, False])
async def test_both_are_there_whether_or_not_the_api_is(scheduler, app, serve, api):
    async with serve(scheduler, app, SCHEDULER_API_ENABLED=api) as client:
        worker = scheduler.scheduler.runner.worker
        answer = {"status": "ok", "reasons": [], "worker": worker}
        assert await ask(client, "live") == (200, answer)
        assert await ask(client, "ready") == (200, answer)
        assert (await client.get("/scheduler/jobs")).status_code == (200 if api else 404)
        assert (await client.head("/scheduler/health/ready")).status_code == 200
        assert (await client.post("/scheduler/health/ready")).status_code == 405


async def test_they_move_with_the_prefix_and_can_be_turned_off(scheduler, serve):
    async with serve(scheduler, Quart("moved"), SCHEDULER_API_PREFIX="/jobs/") as client:
        assert (await client.get("/jobs/health/live")).status_code == 200
    async with serve(scheduler, Quart("off"), SCHEDULER_HEALTH_ENABLED=False, SCHEDULER_API_ENABLED=True) as client:
        assert (await client.get("/jobs/health/live")).status_code == 404
        assert (await client.get("/jobs")).status_code == 200


async def test_strangers_are_told_the_status_alone(scheduler, app, serve):
    rights: dict[str, Any] = {"reader": {"read"}, "operator": {"operate"}, "all": True}
    scheduler.auth = HTTPBearerAuth()
    scheduler.authenticate(lambda auth: rights.get(auth["token"]))
    async with serve(scheduler, app) as client:
        for what in ("live", "ready"):
            for token in ("", "wrong", "operator"):
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                assert await ask(client, what, **headers) == (200, {"status": "ok"})
            for token in ("reader", "all"):
                _, body = await ask(client, what, Authorization=f"Bearer {token}")
                assert body.keys() == {"status", "reasons", "worker"}


async def broken(auth: Any) -> bool:
    raise LookupError("the users are away")


async def hangs(auth: Any) -> bool:
    await asyncio.Event().wait()
    return True


@pytest.mark.parametrize(("judge", "logged"), [(broken, "the users are away"), (hangs, "TimeoutError")])
async def test_a_process_is_alive_even_if_the_apps_own_authentication_fails(
    scheduler, app, serve, clock, caplog, judge, logged
):
    scheduler.auth = HTTPBearerAuth()
    scheduler.authenticate(judge)
    async with serve(scheduler, app) as client:
        for count, what in enumerate(("live", "ready"), 1):
            asking = asyncio.create_task(ask(client, what, Authorization="Bearer x"))
            await clock.advance(seconds=1)
            assert asking.done()
            assert await asking == (200, {"status": "ok"})
            warnings = [record for record in caplog.records if record.levelname == "WARNING"]
            assert [logged in record.getMessage() for record in warnings] == [True] * count


# Failing


async def test_a_scheduler_that_is_not_running_is_alive_and_not_ready(scheduler, app, serve):
    async with serve(scheduler, app, start=False) as client:
        assert (await ask(client, "live"))[0] == 200
        status, body = await ask(client, "ready")
        assert (status, body["status"], body["reasons"]) == (503, "failing", ["The scheduler is not running"])
        await scheduler.aio.start(paused=True)
        assert (await ask(client, "ready"))[0] == 200


async def test_a_pause_is_told_and_nothing_is_wrong_with_it(scheduler, app, serve):
    async with serve(scheduler, app) as client:
        await scheduler.aio.pause()
        status, body = await ask(client, "ready")
        assert (status, body["status"]) == (200, "ok")
        assert body["reasons"] == ["The scheduler is paused: no job fires until it is resumed"]
        await scheduler.aio.resume()
        assert (await ask(client, "ready"))[1]["reasons"] == []


async def test_a_pause_of_all_is_told_apart_from_that_of_one_process(cluster):
    one = await cluster.start()
    two = await cluster.start(paused=True)
    own = "This process was started paused, and fires no job"
    assert (await ready(one), await ready(two)) == ((200, "ok", []), (200, "ok", [own]))
    await one.aio.pause()
    await cluster.advance(2)
    told = (200, "ok", ["The scheduler is paused: no job fires until it is resumed"])
    assert (await ready(one), await ready(two)) == (told, told)


async def test_on_a_host_that_may_not_start_it_a_stopped_scheduler_is_as_it_should_be(scheduler, app, serve):
    async with serve(scheduler, app, SCHEDULER_ALLOWED_HOSTS=["elsewhere"]) as client:
        assert not scheduler.running
        assert (await ask(client, "ready"))[0] == 200


async def test_a_process_that_shuts_down_is_not_ready_and_alive(scheduler, app, serve):
    async with serve(scheduler, app) as client:
        scheduler.scheduler.hold()
        status, body = await ask(client, "ready")
        assert (status, body["reasons"]) == (503, ["The process is shutting down"])
        assert (await ask(client, "live"))[0] == 200


async def test_a_pump_that_hangs_is_noticed_and_one_that_waits_is_fine(scheduler, app, serve, clock):
    scheduler.add_job("job", job, trigger="interval", hours=10)
    async with serve(scheduler, app) as client:
        await clock.advance(seconds=7200)
        assert (await ask(client, "live"))[0] == 200
        [pump] = scheduler.scheduler.pumps
        goes_on = asyncio.Event()
        original = pump._turn

        async def hangs() -> float:
            await goes_on.wait()
            return await original()

        pump._turn = hangs
        pump.wake()
        await clock.advance(seconds=59)
        assert (await ask(client, "live"))[0] == 200
        await clock.advance(seconds=2)
        status, body = await ask(client, "live")
        assert (status, body["status"]) == (503, "failing")
        assert body["reasons"] == ['The pump of job store "default" has been at one step for 61 s']
        assert (await ask(client, "ready"))[0] == 503
        goes_on.set()
        await settle()
        assert (await ask(client, "live"))[0] == 200


async def test_a_pump_that_waits_for_room_does_not_hang(scheduler, app, serve, clock):
    gate = asyncio.Event()
    scheduler.add_job("waits", gate.wait, trigger="date", run_date=at(1))
    scheduler.add_job("job", job, trigger="date", run_date=at(1), misfire_grace_time=None)
    async with serve(scheduler, app, SCHEDULER_MAX_RUNS=1) as client:
        await clock.advance(seconds=1000)
        assert (await ask(client, "live"))[0] == 200
        gate.set()


async def test_a_pump_that_is_gone_is_noticed(scheduler, app, serve):
    async with serve(scheduler, app) as client:
        [pump] = scheduler.scheduler.pumps
        assert isinstance(pump, Pump)
        assert pump._task is not None
        pump._task.cancel()
        await settle()
        status, body = await ask(client, "live")
        assert (status, body["reasons"]) == (503, ['The pump of job store "default" has ended'])
        pump._task = None  # for the shutdown


# Degraded


async def test_an_overdue_job_makes_it_degraded_until_it_succeeds(scheduler, app, serve, clock):
    scheduler.add_job("job", fails, trigger="interval", seconds=10, start_date=at(10))
    async with serve(scheduler, app, SCHEDULER_API_ENABLED=True) as client:
        await clock.advance(seconds=100)
        status, body = await ask(client, "ready")
        assert (status, body["status"]) == (200, "degraded")
        [reason] = body["reasons"]
        assert reason.startswith('Job "job" is overdue: its fire at 2026-03-02 12:00:10+00:00 has not led to a success')
        assert (await (await client.get("/scheduler")).get_json())["degraded"] == [reason]
        assert (await ask(client, "live"))[0] == 200
        scheduler.modify_job("job", func=job)
        await clock.advance(seconds=10)
        assert (await ask(client, "ready"))[1]["status"] == "ok"


async def test_of_many_overdue_jobs_some_are_named(scheduler, app, serve, clock):
    for number in range(25):
        scheduler.add_job(f"job{number}", fails, trigger="date", run_date=at(10))
    async with serve(scheduler, app) as client:
        await clock.advance(seconds=100)
        reasons = (await ask(client, "ready"))[1]["reasons"]
    assert len(reasons) == 21
    assert reasons[-1] == "5 more jobs are overdue"


async def test_an_outage_of_the_database_makes_it_degraded_and_kills_nobody(cluster):
    def declare(scheduler: Any) -> None:
        scheduler.add_job("job", job, trigger="interval", seconds=10, start_date=at(10))

    process = await cluster.start(declare)
    assert await ready(process) == (200, "ok", [])
    with outage(process.slot.store.database):
        await cluster.advance(300)
        status, word, reasons = await ready(process)
        assert (status, word) == (200, "degraded")
        assert reasons == ['Job store "default" is not available: DatabaseFailure: connection refused']
        assert await live(process) == 200
    for _ in range(20):
        # What did not succeed for so long is overdue, until it does and somebody looks.
        await cluster.advance(10)
        if (await ready(process))[1] == "ok":
            break
    assert await ready(process) == (200, "ok", [])


@pytest.mark.integration
async def test_a_server_that_is_gone_makes_it_degraded_and_one_that_comes_back_makes_it_well(app, serve):
    url, prefix = URLS["postgresql"].replace("127.0.0.1/", "127.0.0.1:5432/"), f"t{uuid.uuid4().hex[:10]}_"
    reachable("postgresql", Path())
    scheduler = APScheduler(Scheduler())
    proxy = Proxy(5432)
    config = {"SCHEDULER_POLL_INTERVAL": 0.1, "SCHEDULER_HEARTBEAT": 0.2, "SCHEDULER_LEASE": 1}
    try:
        with proxy:
            config["SCHEDULER_JOBSTORES"] = {
                "default": {"type": "sqlalchemy", "url": proxy.through(url), "table_prefix": prefix}
            }
            serving = serve(scheduler, app, **config)
            client = await serving.__aenter__()
            await becomes(client, "ok")
        await becomes(client, "degraded")
        assert (await ask(client, "live"))[0] == 200
        [reason] = (await ask(client, "ready"))[1]["reasons"]
        assert reason.startswith('Job store "default" is not available: ')
        with proxy:
            await becomes(client, "ok")
            await serving.__aexit__(None, None, None)
    finally:
        drop_tables(url, prefix)


async def becomes(client: Any, status: str) -> None:
    deadline = time.monotonic() + 20
    while (answer := await ask(client, "ready"))[1]["status"] != status:
        assert answer[0] == 200
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.02)


async def test_a_database_call_that_hangs_for_long_is_noticed(cluster):
    process = await cluster.start()
    [pump] = process.pumps
    goes_on = threading.Event()
    pump._thread.submit(goes_on.wait)
    cluster.processes.remove(process)  # whose rest nobody should wait for
    try:
        await cluster.clock.advance(seconds=59)
        assert await live(process) == 200
        await cluster.clock.advance(seconds=10)
        status, body = await ask(process.client, "live")
        assert (status, body["status"]) == (503, "failing")
    finally:
        goes_on.set()
        cluster.processes.append(process)
    await cluster.rest()
    assert await live(process) == 200


async def test_a_history_that_cannot_be_written_makes_it_degraded(scheduler, app, serve, clock, tmp_path):
    scheduler.add_job("job", job, trigger="interval", seconds=10, start_date=at(10))
    url = f"sqlite:///{tmp_path / 'history.db'}"
    async with serve(scheduler, app, SCHEDULER_HISTORY={"type": "sqlalchemy", "url": url}) as client:
        writer = scheduler.scheduler.history_writer
        with outage(writer.history.database):
            await clock.advance(seconds=11)
            await eventually(lambda: writer.away)
            status, body = await ask(client, "ready")
        assert (status, body["status"]) == (200, "degraded")
        assert body["reasons"] == ["The run history is not written: 1 records wait for its database"]


async def test_a_store_of_apschedulers_own_that_fails_makes_it_degraded(scheduler, app, serve):
    async with serve(scheduler, app) as client:
        slot = scheduler.scheduler.catalogue.slots["default"]
        slot.failing = StoreUnavailable("default", ConnectionError("refused"))
        slot.failing.__cause__ = ConnectionError("refused")
        status, body = await ask(client, "ready")
        assert (status, body["reasons"]) == (200, ['Job store "default" is not available: ConnectionError: refused'])
