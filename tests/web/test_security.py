"""Where requests may come from, and by which name a function may be meant: the finer points."""

from __future__ import annotations

import json
import sys
import types

import pytest
from quart import Quart

from quart_sched.auth import HTTPBasicAuth
from quart_sched.errors import FunctionNotAllowed
from quart_sched.web.security import allowed_function


@pytest.fixture
def app() -> Quart:
    application = Quart("security_app")
    application.config.update(SCHEDULER_API_ENABLED=True, TESTING=True)
    return application


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        # Plain HTTP and HTTPS of one host are two origins, which only the browser can tell apart.
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 204),
        # A proxy hides the name and the scheme that the browser knows.
        ({"Origin": "https://public.example", "Sec-Fetch-Site": "same-origin"}, 204),
        ({"Origin": "https://localhost"}, 204),
        # A page with the policy no-referrer sends no origin, a sandboxed one has none.
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 204),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://admin.example:8443", "Sec-Fetch-Site": "cross-site"}, 204),
        ({"Sec-Fetch-Site": "nonsense"}, 403),
        ({"Sec-Fetch-Site": ""}, 403),
    ],
    ids=str,
)
async def test_the_browsers_own_verdict_counts_before_the_origin(scheduler, app, serve, headers, status):
    async with serve(scheduler, app, SCHEDULER_TRUSTED_HOSTS=["admin.example"]) as client:
        response = await client.post("/scheduler/pause", headers=headers)
        assert response.status_code == status
        if status == 403:
            assert "SCHEDULER_TRUSTED_HOSTS" in json.loads(await response.get_data())["error_message"]


async def test_what_the_browser_says_does_not_make_a_foreign_host_name_ours(scheduler, app, serve):
    headers = {"Host": "rebound.example", "Origin": "http://rebound.example", "Sec-Fetch-Site": "same-origin"}
    async with serve(scheduler, app) as client:
        assert (await client.post("/scheduler/pause", headers=headers)).status_code == 403


async def test_the_log_says_once_that_nobody_judges_the_credentials(scheduler, app, serve, caplog):
    async with serve(scheduler, app, SCHEDULER_AUTH=HTTPBasicAuth()) as client:
        for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Basic YTpi"}):
            assert (await client.get("/scheduler", headers=headers)).status_code == 401
    assert caplog.text.count("no function judges the credentials") == 1


@pytest.fixture
def main(monkeypatch):
    module = types.ModuleType("__main__")
    module.__file__ = "/srv/run.py"
    exec("def own(): ...", vars(module))
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


@pytest.mark.parametrize("pattern", ["run:*", "__main__:own"])
@pytest.mark.parametrize("ref", ["run:own", "__main__:own"])
def test_a_pattern_may_use_either_name_of_the_main_script(scheduler, app, main, pattern, ref):
    app.config["SCHEDULER_API_ALLOWED_FUNCS"] = [pattern]
    scheduler.init_app(app)
    assert allowed_function(scheduler, ref) is main.own


@pytest.mark.parametrize("patterns", [None, ["odd:*"]])
def test_what_is_no_module_has_no_functions(scheduler, app, monkeypatch, patterns):
    monkeypatch.setitem(sys.modules, "odd", object())
    app.config["SCHEDULER_API_ALLOWED_FUNCS"] = patterns
    scheduler.init_app(app)
    with pytest.raises(FunctionNotAllowed):
        allowed_function(scheduler, "odd:own")
