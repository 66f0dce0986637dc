"""The pytest plugin: the fixtures `virtual_scheduler` and `virtual_clock`, and the marker `virtual_time`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from quart_sched import APScheduler
    from quart_sched.testing import VirtualClock

_OLDEST = (0, 26)
"""The first pytest-asyncio that tells in which loop a test is going to run."""
_asyncio_fixture: Any = None
try:
    import pytest_asyncio

    _asyncio_version = version("pytest-asyncio")
except ImportError:  # the tests run with anyio's plugin
    _asyncio_version = ""
else:
    # pytest imports this in every project, so that one with an older version must not fail here.
    if tuple(map(int, _asyncio_version.split(".")[:2])) >= _OLDEST:
        _asyncio_fixture = pytest_asyncio.fixture

_SCOPES = ("function", "class", "module", "package", "session")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "virtual_time(start=None, inline=False, patience=10.0): how the fixture virtual_scheduler enters virtual time.",
    )


@pytest.fixture
def virtual_scheduler(request: pytest.FixtureRequest) -> APScheduler:
    """An APScheduler in virtual time, on a loop whose sleeps are virtual: that of the fixture `app`, or a new one.

    Its clock is `virtual_scheduler.clock`. For asynchronous tests, of pytest-asyncio or of anyio's plugin.
    """
    if "anyio_backend" in request.fixturenames:
        entered = "_virtual_time_anyio"
    elif _asyncio_version and (marker := request.node.get_closest_marker("asyncio")) is not None:
        if _asyncio_fixture is None:
            oldest = ".".join(map(str, _OLDEST))
            pytest.fail(
                f"The fixture virtual_scheduler needs pytest-asyncio {oldest} or newer; this is {_asyncio_version}",
                pytrace=False,
            )
        scope = marker.kwargs.get("loop_scope") or marker.kwargs.get("scope")
        entered = f"_virtual_time_{scope or request.config.getini('asyncio_default_test_loop_scope')}"
    else:
        pytest.fail(
            "The fixture virtual_scheduler is for asynchronous tests: make the test an `async def`, and have it run by "
            "pytest-asyncio (@pytest.mark.asyncio, or asyncio_mode = auto) or by anyio's plugin (@pytest.mark.anyio)",
            pytrace=False,
        )
    scheduler: APScheduler = request.getfixturevalue(entered)
    return scheduler


@pytest.fixture
def virtual_clock(virtual_scheduler: APScheduler) -> VirtualClock:
    """The VirtualClock that `virtual_scheduler` goes by."""
    clock: VirtualClock = virtual_scheduler.clock  # type: ignore[assignment]  # a Clock otherwise
    return clock


@pytest.fixture
def _virtual_time_target(request: pytest.FixtureRequest) -> APScheduler:
    from quart_sched import APScheduler

    try:
        app = request.getfixturevalue("app")
    except pytest.FixtureLookupError as error:
        if error.argname != "app":
            raise
        return APScheduler()
    # What Quart's `app.test_app()` gives has the app inside.
    scheduler = getattr(getattr(app, "app", app), "extensions", {}).get("apscheduler")
    if not isinstance(scheduler, APScheduler):
        pytest.fail(
            f"The fixture app gives {app!r}, which has no scheduler of quart_sched; let it call scheduler.init_app, or "
            "have the test enter `async with scheduler.virtual_time() as clock` itself",
            pytrace=False,
        )
    return scheduler


@asynccontextmanager
async def _entered(request: pytest.FixtureRequest, scheduler: APScheduler) -> AsyncIterator[APScheduler]:
    import asyncio

    from quart_sched.testing import VirtualEventLoop

    marker = request.node.get_closest_marker("virtual_time")
    options = {} if marker is None else marker.kwargs
    with VirtualEventLoop.adopt(asyncio.get_running_loop()):
        async with scheduler.virtual_time(*(() if marker is None else marker.args), **options):
            yield scheduler


@pytest.fixture
async def _virtual_time_anyio(
    request: pytest.FixtureRequest, anyio_backend_name: str, _virtual_time_target: APScheduler
) -> AsyncIterator[APScheduler]:
    async with _entered(request, _virtual_time_target) as scheduler:
        yield scheduler


def _in_loop_of(scope: str) -> Any:
    # An asynchronous fixture has to be set up in the loop that the test will run in.
    @_asyncio_fixture(name=f"_virtual_time_{scope}", loop_scope=scope)  # type: ignore[untyped-decorator]
    async def entered(request: pytest.FixtureRequest, _virtual_time_target: APScheduler) -> AsyncIterator[APScheduler]:
        async with _entered(request, _virtual_time_target) as scheduler:
            yield scheduler

    return entered


if _asyncio_fixture is not None:
    for _scope in _SCOPES:
        globals()[f"_virtual_time_{_scope}"] = _in_loop_of(_scope)
