"""The pytest plugin: the fixtures as users' tests take them, with pytest-asyncio in both its modes, and with anyio."""

from __future__ import annotations

import os
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]

CONFTEST = """
import asyncio
import pytest
from quart import Quart, current_app
from quart_sched import APScheduler


def create_app():
    app = Quart("shop")
    app.config["SCHEDULER_TIMEZONE"] = "Europe/Berlin"
    app.reports = []
    scheduler = APScheduler(app=app)

    @scheduler.task("cron", id="report", hour=7)
    async def send_report():
        await asyncio.sleep(30)
        current_app.reports.append(scheduler.clock.now().isoformat())

    scheduler.start()
    return app


@pytest.fixture
def app():
    return create_app()
"""

TESTS = """
import asyncio
import pytest
from quart_sched.testing import VirtualEventLoop

{mark}


@pytest.mark.virtual_time(start="2026-03-28")
async def test_the_report_goes_out_every_morning(app, virtual_scheduler, virtual_clock):
    assert app.extensions["apscheduler"] is virtual_scheduler
    assert virtual_scheduler.clock is virtual_clock
    assert isinstance(asyncio.get_running_loop(), VirtualEventLoop)
    await virtual_clock.advance(days=2)
    assert [fire.outcome for fire in virtual_clock.fires] == ["succeeded"] * 2
    # The clocks have gone forward on the 29th.
    assert app.reports == ["2026-03-28T06:00:30+00:00", "2026-03-29T05:00:30+00:00"]


@pytest.mark.virtual_time(inline=True)
async def test_an_order_is_confirmed_at_once(virtual_scheduler, app):
    async def confirm():
        app.reports.append("confirmed")

    await virtual_scheduler.aio.add_job("confirm", confirm, trigger="date")
    assert app.reports == ["confirmed"]


async def test_it_is_served_too(app, virtual_scheduler):
    async with app.test_app() as served:
        assert (await served.test_client().get("/")).status_code == 404
        await virtual_scheduler.clock.advance(days=1, minutes=1)
        assert len(app.reports) == 1


async def test_afterwards_the_loop_is_an_ordinary_one():
    assert not isinstance(asyncio.get_running_loop(), VirtualEventLoop)
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder of a user's tests, from which pytest is run in this process."""
    pytester.makeconftest(CONFTEST)
    return pytester


def outcomes(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    # Where the package was installed before it had a plugin, pytest does not find it by itself.
    installed = any(point.value == "quart_sched.testing.plugin" for point in entry_points(group="pytest11"))
    plugin = () if installed else ("-p", "quart_sched.testing.plugin")
    return pytester.runpytest_inprocess("-W", "error", "--strict-markers", *plugin, *options)


ASYNCIO = ("-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function")


@pytest.mark.parametrize(("mode", "scope"), [("auto", "function"), ("strict", "module")])
def test_with_pytest_asyncio(run, mode, scope):
    mark = f"pytestmark = pytest.mark.asyncio(loop_scope={scope!r})" if mode == "strict" else ""
    run.makepyfile(TESTS.replace("{mark}", mark))
    result = outcomes(run, *ASYNCIO, "-o", f"asyncio_mode={mode}", "-o", f"asyncio_default_test_loop_scope={scope}")
    result.assert_outcomes(passed=4)


def test_with_anyios_plugin(run):
    mark = "pytestmark = pytest.mark.anyio\n\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'"
    run.makepyfile(TESTS.replace("{mark}", mark))
    result = outcomes(run, *ASYNCIO, "-o", "asyncio_mode=strict")
    result.assert_outcomes(passed=4)


def test_without_an_app_fixture_it_is_a_new_scheduler(pytester):
    pytester.makepyfile("""
        async def test_a_new_one(virtual_scheduler, virtual_clock):
            ran = []
            virtual_scheduler.add_job("job", lambda: ran.append(1), trigger="interval", minutes=20)
            await virtual_clock.advance(hours=1)
            assert ran == [1, 1, 1]
    """)
    outcomes(pytester, *ASYNCIO, "-o", "asyncio_mode=auto").assert_outcomes(passed=1)


def test_the_scheduler_of_an_app_that_is_served_is_found(run):
    run.makepyfile("""
        import pytest
        import pytest_asyncio
        from conftest import create_app

        @pytest_asyncio.fixture(name="app")
        async def _app():
            app = create_app()
            async with app.test_app() as test_app:
                yield test_app

        @pytest.mark.virtual_time(start="2026-03-28")
        async def test_the_report_goes_out(app, virtual_scheduler, virtual_clock):
            assert app.app.extensions["apscheduler"] is virtual_scheduler
            await virtual_clock.advance(days=1)
            assert app.app.reports == ["2026-03-28T06:00:30+00:00"]
    """)
    outcomes(run, *ASYNCIO, "-o", "asyncio_mode=auto").assert_outcomes(passed=1)


def test_an_app_fixture_without_a_scheduler_is_told(pytester):
    pytester.makepyfile("""
        import pytest
        from quart import Quart

        @pytest.fixture
        def app():
            return Quart("shop")

        async def test_it(virtual_scheduler):
            pass
    """)
    result = outcomes(pytester, *ASYNCIO, "-o", "asyncio_mode=auto")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*The fixture app gives <Quart 'shop'>, which has no scheduler of quart_sched; *"])


def test_an_app_fixture_that_cannot_be_made_is_not_passed_over(pytester):
    pytester.makepyfile("""
        import pytest

        @pytest.fixture
        def app(no_such_fixture):
            return None

        async def test_it(virtual_scheduler):
            pass
    """)
    result = outcomes(pytester, *ASYNCIO, "-o", "asyncio_mode=auto")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'no_such_fixture' not found*"])


def test_a_test_that_is_not_asynchronous_is_told_so(pytester):
    pytester.makepyfile("def test_it(virtual_scheduler): pass")
    result = outcomes(pytester, *ASYNCIO, "-o", "asyncio_mode=auto")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*The fixture virtual_scheduler is for asynchronous tests: make the test an `async def`*"]
    )


def test_an_older_pytest_asyncio_harms_nothing_and_is_told(pytester, monkeypatch):
    folder = pytester.mkdir("old") / "pytest_asyncio-0.25.3.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-asyncio\nVersion: 0.25.3\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder.parent), *filter(None, sys.path)]))
    pytester.makepyfile("""
        async def test_another():
            pass

        async def test_it(virtual_scheduler):
            pass
    """)
    result = pytester.runpytest_subprocess(*ASYNCIO, "-o", "asyncio_mode=auto")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*virtual_scheduler needs pytest-asyncio 0.26 or newer; this is 0.25.3*"])


def test_a_test_that_hangs_on_virtual_time_is_told_so(pytester):
    pytester.makepyfile("""
        import asyncio, pytest

        @pytest.mark.virtual_time(patience=0.1)
        async def test_it(virtual_scheduler):
            await asyncio.sleep(1)
    """)
    result = outcomes(pytester, *ASYNCIO, "-o", "asyncio_mode=auto")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*VirtualTimeError: test_it (*.py:5) waits for time to pass, but virtual time stands still*"]
    )


def test_pytest_finds_the_plugin_in_the_installed_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["pytest11"] == {"quart_sched": "quart_sched.testing.plugin"}
    assert [point.name for point in entry_points(group="pytest11") if point.value == "quart_sched.testing.plugin"]
