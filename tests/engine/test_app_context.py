"""A run's app context: what Quart's own does, whether or not anybody waits to be told of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from quart import Quart, current_app, g, has_app_context
from quart.ctx import AppContext
from quart.signals import appcontext_popped, appcontext_pushed, appcontext_tearing_down

from quart_sched import APScheduler
from quart_sched.engine.app_context import enter, leave

SIGNALS = (appcontext_pushed, appcontext_tearing_down, appcontext_popped)
seen: list[Any] = []


async def job(fail: bool = False) -> None:
    seen.append((current_app.name, hasattr(g, "mark")))
    g.mark = True
    if fail:
        raise ValueError("as it is told")


async def run(scheduler: APScheduler, **options: Any) -> None:
    scheduler.add_job("job", job, trigger="interval", hours=1, **options)
    await (await scheduler.aio.run_job("job"))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    seen.clear()


async def test_each_run_has_a_context_of_its_own_and_leaves_it(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        before = has_app_context()
        await run(scheduler)
        await (await scheduler.aio.run_job("job"))
        assert has_app_context() == before
    assert seen == [(app.name, False)] * 2


@pytest.mark.parametrize("fail", [False, True])
async def test_teardown_functions_are_called_with_what_the_job_raised(scheduler, app, serve, clock, fail):
    @app.teardown_appcontext
    async def close(error: BaseException | None) -> None:
        seen.append((current_app.name, hasattr(g, "mark"), str(error)))

    async with serve(scheduler, app):
        with suppress(ValueError):
            await run(scheduler, args=(fail,))
    assert (app.name, True, "as it is told" if fail else "None") in seen


async def test_the_signals_are_sent_to_who_listens(scheduler, app, serve, clock):
    async def hear(sender: Quart, **_: Any) -> None:
        seen.append("signal")

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", hours=1)
        for signal in SIGNALS:
            seen.clear()
            with signal.connected_to(hear, app):
                await (await scheduler.aio.run_job("job"))
            assert "signal" in seen


async def close(error: BaseException | None) -> None:
    seen.append(("closed", hasattr(g, "mark"), str(error)))


async def popped(sender: Quart, **_: Any) -> None:
    seen.append("popped")


@pytest.fixture
def listen(app) -> Iterator[Callable[[], None]]:
    """Have the functions above called from now on."""

    def begin() -> None:
        app.teardown_appcontext_funcs.append(close)
        appcontext_popped.connect(popped, app)

    yield begin
    appcontext_popped.disconnect(popped, app)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("fail", [False, True])
async def test_what_is_registered_while_a_job_runs_is_called_at_its_end(
    scheduler, app, serve, clock, listen, plain, fail
):
    def function() -> None:
        g.mark = True
        listen()
        if fail:
            raise ValueError("as it is told")

    async def coroutine() -> None:
        function()

    async with serve(scheduler, app):
        scheduler.add_job("job", function if plain else coroutine, trigger="interval", hours=1)
        await clock.advance(hours=1)
        [record] = scheduler.scheduler.history.records()
        app.teardown_appcontext_funcs.remove(close)
    assert record.outcome == ("failed" if fail else "succeeded")
    assert seen[:2] == [("closed", True, "as it is told" if fail else "None"), "popped"]


async def test_what_is_registered_while_a_plain_function_waits_for_a_thread_is_called_at_its_end(
    scheduler, app, serve, clock, listen
):
    app.config["SCHEDULER_MAX_THREADS"] = 1
    gate = threading.Event()

    def waits() -> str:
        g.mark = True
        return current_app.name

    async with serve(scheduler, app):
        scheduler.add_job("busy", lambda: gate.wait(10), trigger="interval", hours=1)
        scheduler.add_job("waits", waits, trigger="interval", hours=1)
        busy = await scheduler.aio.run_job("busy")
        handle = await scheduler.aio.run_job("waits")
        listen()
        gate.set()
        await busy
        assert (await handle).result == repr(app.name)
        app.teardown_appcontext_funcs.remove(close)
    assert ("closed", True, "None") in seen


async def test_nothing_is_awaited_where_nobody_waits_to_be_told():
    for signal in SIGNALS:
        signal._clear_state()  # A signal remembers receivers that are gone.
    app = Quart("plain")
    token = enter(app)
    assert token is not None
    assert current_app.name == "plain"
    await leave(app, token)
    assert not has_app_context()


async def test_an_app_with_a_context_of_its_own_gets_it(serve, clock):
    class OwnApp(Quart):
        def app_context(self) -> AppContext:
            seen.append("own")
            return super().app_context()

    app = OwnApp("own")
    assert enter(app) is None
    scheduler = APScheduler(app=app)
    async with serve(scheduler, app):
        seen.clear()
        await run(scheduler)
        assert seen == ["own", ("own", False)]
