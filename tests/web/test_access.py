"""Who may use the API, from where, and what may be scheduled over it."""

from __future__ import annotations

import base64
import json
import logging
import sys
import types
from typing import Any

import pytest
from quart import Quart, request

from quart_sched.auth import Authorization, HTTPAuth, HTTPBasicAuth, HTTPBearerAuth, get_authorization_header
from quart_sched.errors import FunctionNotAllowed
from quart_sched.web.dashboard.routes import ROUTES
from quart_sched.web.endpoints import OPERATIONS
from quart_sched.web.security import allowed_function


async def tick() -> None: ...


@pytest.fixture
def app() -> Quart:
    application = Quart("access_app")
    application.config.update(SCHEDULER_API_ENABLED=True, TESTING=True)
    return application


@pytest.fixture
async def client(scheduler, app, serve):
    scheduler.add_job("job", tick, trigger="interval", hours=1)
    async with serve(scheduler, app) as test_client:
        yield test_client


def basic(username: str, password: str, encoding: str = "utf-8") -> dict[str, str]:
    token = base64.b64encode(f"{username}:{password}".encode(encoding)).decode()
    return {"Authorization": f"Basic {token}"}


# Authentication


async def test_basic_credentials_reach_the_callback(client, scheduler):
    seen: list[Authorization] = []
    scheduler.auth = HTTPBasicAuth()

    @scheduler.authenticate
    def judge(auth: Authorization) -> bool:
        seen.append(auth)
        return auth["password"] == "ütf:8"

    assert (await client.get("/scheduler", headers=basic("guest", "ütf:8"))).status_code == 200
    assert (await client.get("/scheduler", headers=basic("guest", "ütf:8", "latin-1"))).status_code == 200
    assert (await client.get("/scheduler", headers=basic("guest", "wrong"))).status_code == 401
    assert seen[0] == {"username": "guest", "password": "ütf:8"}
    assert seen[0].auth_type == "basic"


@pytest.mark.parametrize(
    "header", [None, "", "Basic", "Basic ", "Basic %%%", "Basic Z3Vlc3Q=", "Bearer abc", "Basic \u00fc", "Digest x"]
)
async def test_without_valid_credentials_the_answer_is_401_and_says_how(client, scheduler, header):
    scheduler.auth = HTTPBasicAuth()
    scheduler.authenticate(lambda auth: True)
    response = await client.get("/scheduler", headers={} if header is None else {"Authorization": header})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Basic realm="Authentication Required", charset="UTF-8"'
    assert json.loads(await response.get_data()) == {"error_message": "Access Denied"}


async def test_a_bearer_token_reaches_an_async_callback(client, scheduler):
    scheduler.auth = HTTPBearerAuth()

    @scheduler.authenticate
    async def judge(auth: Authorization) -> bool:
        return auth.auth_type == "bearer" and auth["token"] == "secret"

    assert (await client.get("/scheduler", headers={"Authorization": "Bearer secret"})).status_code == 200
    response = await client.get("/scheduler", headers={"Authorization": "Bearer other"})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer ")


async def test_a_scheme_of_ones_own_may_be_async(client, scheduler):
    class Cookie(HTTPAuth):
        async def get_authorization(self) -> Authorization | None:
            return Authorization("cookie", value=request.cookies["key"]) if "key" in request.cookies else None

    scheduler.auth = Cookie()
    scheduler.authenticate(lambda auth: auth["value"] == "right")
    assert (await client.get("/scheduler", headers={"Cookie": "key=right"})).status_code == 200
    response = await client.get("/scheduler")
    assert response.status_code == 401
    assert "WWW-Authenticate" not in response.headers


async def test_a_scheme_without_a_challenge_is_refused_without_one(client, scheduler):
    class Key:
        def get_authorization(self) -> Authorization | None:
            return Authorization("key", value=request.cookies["key"]) if "key" in request.cookies else None

    scheduler.auth = Key()
    scheduler.authenticate(lambda auth: auth["value"] == "right")
    assert (await client.get("/scheduler", headers={"Cookie": "key=right"})).status_code == 200
    for headers in ({}, {"Cookie": "key=wrong"}):
        response = await client.get("/scheduler", headers=headers)
        assert response.status_code == 401
        assert "WWW-Authenticate" not in response.headers
        assert json.loads(await response.get_data()) == {"error_message": "Access Denied"}


async def test_a_scheme_written_for_flask_apscheduler_reads_the_header_as_there(client, scheduler):
    class Key(HTTPAuth):
        def get_authorization(self) -> Authorization | None:
            header = get_authorization_header()
            return Authorization("key", value=header[1]) if header is not None and header[0] == b"key" else None

    scheduler.auth = Key()
    scheduler.authenticate(lambda auth: auth["value"] == "a b \xe9".encode())
    for header, status in (("KEY  a b \xe9", 200), ("Key a", 401), ("Key", 401), ("Other a b", 401), ("", 401)):
        assert (await client.get("/scheduler", headers={"Authorization": header})).status_code == status, header
    assert (await client.get("/scheduler")).status_code == 401


async def test_a_scheme_that_defines_nothing_says_so(app):
    async with app.test_request_context("/"):
        with pytest.raises(NotImplementedError, match="HTTPAuth has to define get_authorization"):
            HTTPAuth().get_authorization()


async def test_auth_without_a_callback_lets_nobody_in_and_logs_why(client, scheduler, caplog):
    scheduler.auth = HTTPBasicAuth()
    assert (await client.get("/scheduler", headers=basic("a", "b"))).status_code == 401
    assert "authenticate" in caplog.text


async def test_auth_may_come_from_the_configuration(scheduler, app, serve):
    async with serve(scheduler, app, SCHEDULER_AUTH=HTTPBasicAuth()) as client:
        assert (await client.get("/scheduler")).status_code == 401


# Rights


@pytest.mark.parametrize(
    ("verdict", "allowed"),
    [
        (True, {"read", "operate", "admin"}),
        ({"read"}, {"read"}),
        ({"read", "operate"}, {"read", "operate"}),
        (frozenset({"admin"}), {"admin"}),
        (["read"], {"read"}),
        ({"user": 5}, {"read", "operate", "admin"}),
    ],
)
async def test_the_callback_grants_rights(client, scheduler, verdict, allowed):
    scheduler.auth = HTTPBearerAuth()
    scheduler.authenticate(lambda auth: verdict)
    headers = {"Authorization": "Bearer x"}
    asked = {
        "read": await client.get("/scheduler/jobs", headers=headers),
        "operate": await client.post("/scheduler/jobs/job/pause", headers=headers),
        "admin": await client.delete("/scheduler/jobs/job", headers=headers),
    }
    for right, response in asked.items():
        if right in allowed:
            assert response.status_code in (200, 204)
        else:
            assert response.status_code == 403
            assert repr(right) in json.loads(await response.get_data())["error_message"]


@pytest.mark.parametrize("verdict", [False, None, set()])
async def test_a_falsy_verdict_is_401(client, scheduler, verdict):
    scheduler.auth = HTTPBearerAuth()
    scheduler.authenticate(lambda auth: verdict)
    assert (await client.get("/scheduler", headers={"Authorization": "Bearer x"})).status_code == 401


@pytest.mark.parametrize("verdict", ["admin", {"root"}])
async def test_a_verdict_that_means_nothing_is_a_bug_of_the_app(client, scheduler, app, verdict):
    errors: list[Exception] = []

    @app.errorhandler(TypeError)
    async def note(error: TypeError) -> tuple[str, int]:
        errors.append(error)
        return "", 500

    scheduler.auth = HTTPBearerAuth()
    scheduler.authenticate(lambda auth: verdict)
    assert (await client.get("/scheduler", headers={"Authorization": "Bearer x"})).status_code == 500
    assert "The authenticate function returned" in str(errors[0])


def test_every_endpoint_has_its_right(scheduler, app):
    app.config["SCHEDULER_METRICS_ENABLED"] = True
    app.config["SCHEDULER_DASHBOARD_ENABLED"] = True
    scheduler.init_app(app)
    endpoints = {name.removeprefix("scheduler.") for name in app.view_functions if name.startswith("scheduler.")}
    dashboard = {f"dashboard_{route.name}" for route in ROUTES}
    assert endpoints == {operation.endpoint for operation in OPERATIONS} | dashboard
    assert len(endpoints) >= 17


# Origin


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 204),
        ({"Origin": "http://localhost"}, 204),
        ({"Origin": "http://localhost:80"}, 204),
        ({"Origin": "http://localhost:8080"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "https://admin.example"}, 204),
        ({"Sec-Fetch-Site": "same-origin"}, 204),
        ({"Sec-Fetch-Site": "none"}, 204),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}, 403),
        ({"Host": "127.0.0.1:5000"}, 204),
        ({"Host": "192.0.2.7"}, 204),
        ({"Host": "[::1]:5000"}, 204),
        ({"Host": "app.localhost:5000"}, 204),
        ({"Host": "admin.example:8443"}, 204),
        ({"Host": "rebound.example"}, 403),
        ({"Host": "rebound.example", "Origin": "http://rebound.example"}, 403),
        ({"Host": "localhost:80", "Origin": "https://localhost"}, 204),
        # Names that no host should have, and those of a network of containers often do.
        ({"Host": "my_app:5000"}, 403),
        ({"Host": "own_admin:5000"}, 204),
        ({"Host": "own_admin:5000", "Origin": "http://own_admin:5000"}, 204),
        ({"Host": "own_admin:5000", "Origin": "http://own_admin"}, 204),
        ({"Host": "own_admin:5000", "Origin": "http://my_app:5000"}, 403),
        ({"Host": "own_admin:5000", "Origin": "null"}, 403),
        ({"Host": "localhost:0", "Origin": "null"}, 403),
        ({"Host": "", "Origin": "null"}, 403),
        ({"Host": "", "Origin": "http://"}, 403),
    ],
    ids=str,
)
async def test_other_origins_and_foreign_host_names_change_nothing(scheduler, app, serve, headers, status):
    async with serve(scheduler, app, SCHEDULER_TRUSTED_HOSTS=["admin.example", "own_admin"]) as client:
        assert (await client.post("/scheduler/pause", headers=headers)).status_code == status
        assert scheduler.state == (2 if status == 204 else 1)
        assert (await client.get("/scheduler", headers=headers)).status_code == 200


async def test_the_refusal_says_which_setting_admits_the_host(client):
    response = await client.post("/scheduler/pause", headers={"Host": "rebound.example"})
    assert "SCHEDULER_TRUSTED_HOSTS" in json.loads(await response.get_data())["error_message"]


@pytest.mark.parametrize("host", ["scheduler.example", "my_app:5000", "bücher.example", "scheduler.example:0", ""])
async def test_with_authentication_the_host_name_does_not_matter_but_the_origin_does(client, scheduler, host):
    scheduler.auth = HTTPBearerAuth()
    scheduler.authenticate(lambda auth: True)
    headers = {"Authorization": "Bearer x", "Host": host}
    assert (await client.post("/scheduler/pause", headers=headers)).status_code == 204
    for origin in ("https://evil.example", "null", "", "http://"):
        refused = await client.post("/scheduler/pause", headers=headers | {"Origin": origin})
        assert refused.status_code == 403
    if host:
        own = await client.post("/scheduler/pause", headers=headers | {"Origin": f"http://{host}"})
        assert own.status_code == 204


async def test_the_server_name_is_our_own(scheduler, app, serve):
    async with serve(scheduler, app, SERVER_NAME="jobs.example:5000") as client:
        response = await client.post("/scheduler/pause", headers={"Host": "jobs.example:5000"})
        assert response.status_code == 204


@pytest.mark.parametrize(("debug", "auth", "warns"), [(False, None, 1), (True, None, 0), (False, HTTPBasicAuth(), 0)])
async def test_an_open_api_warns_once_at_start(scheduler, app, serve, caplog, debug, auth, warns):
    caplog.set_level(logging.WARNING)
    app.debug = debug
    async with serve(scheduler, app, TESTING=False, SCHEDULER_AUTH=auth):
        pass
    assert len([r for r in caplog.records if "without authentication" in r.message]) == warns


# Functions


@pytest.fixture
def package():
    """An app's package: `shop` with `shop.web`, which imports things, beside another package."""
    modules = {name: types.ModuleType(name) for name in ("shop", "shop.web", "shop.jobs", "other")}
    modules["shop"].__path__ = []
    for module in modules.values():
        module.__file__ = "x.py"
        exec("def own(): ...\nasync def own_async(): ...\nclass Thing:\n    def __call__(self): ...", vars(module))
    vars(modules["shop.web"])["borrowed"] = vars(modules["other"])["own"]
    vars(modules["shop.web"])["json"] = json
    vars(modules["shop.web"])["instance"] = modules["shop.web"].Thing()
    sys.modules |= modules
    yield modules
    for name in modules:
        del sys.modules[name]


@pytest.fixture
def shop(scheduler, package):
    application = Quart("access_app")
    application.import_name = "shop.web"
    scheduler.init_app(application)
    return scheduler


@pytest.mark.parametrize("ref", ["shop.web:own", "shop.web:own_async", "shop.jobs:own", "shop:own"])
def test_functions_of_the_apps_own_package_may_be_scheduled(shop, package, ref):
    module, _, name = ref.partition(":")
    assert allowed_function(shop, ref) is getattr(package[module], name)


@pytest.mark.parametrize(
    "ref",
    [
        "os:system",
        "other:own",
        "shop.web:borrowed",
        "shop.web:json",
        "shop.web:json.dumps",
        "shop.web:Thing",
        "shop.web:Thing.__call__",
        "shop.web:instance",
        "shop.web:__builtins__",
        "shop.web:missing",
        "shop.unloaded:own",
        "shopping:own",
        "antigravity:fly",
        "shop.web",
        "",
        ":",
        "shop.web:",
    ],
)
def test_nothing_else_may_and_nothing_is_imported(shop, ref):
    before = set(sys.modules)
    with pytest.raises(FunctionNotAllowed, match="SCHEDULER_API_ALLOWED_FUNCS"):
        allowed_function(shop, ref)
    assert set(sys.modules) == before


def test_functions_that_the_code_made_jobs_of_may_be_scheduled(shop, package):
    shop.add_job("declared", package["other"].own, trigger="interval", hours=1)
    with pytest.raises(FunctionNotAllowed):
        allowed_function(shop, "other:own")  # added for this app alone, as the API itself does
    shop.task("interval", id="task", hours=1)(package["other"].own)
    assert allowed_function(shop, "other:own") is package["other"].own


def test_configured_functions_may_be_scheduled(scheduler, package):
    app = Quart("access_app")
    app.config["JOBS"] = [{"id": "job", "func": "other:own", "trigger": "interval", "hours": 1}]
    scheduler.init_app(app)
    assert allowed_function(scheduler, "other:own") is package["other"].own
    scheduler.init_app(Quart("another"))
    with pytest.raises(FunctionNotAllowed):
        allowed_function(scheduler, "other:own")


def test_patterns_replace_the_rule(scheduler, package):
    app = Quart("access_app")
    app.import_name = "shop.web"
    app.config["SCHEDULER_API_ALLOWED_FUNCS"] = ["other:own*", "unloaded:*"]
    scheduler.init_app(app)
    assert allowed_function(scheduler, "other:own_async") is package["other"].own_async
    for ref in ("shop.web:own", "other:Thing", "unloaded:own"):
        with pytest.raises(FunctionNotAllowed, match="does not admit"):
            allowed_function(scheduler, ref)


def test_a_star_admits_everything_imports_included(scheduler):
    app = Quart("access_app")
    app.config["SCHEDULER_API_ALLOWED_FUNCS"] = ["*"]
    scheduler.init_app(app)
    sys.modules.pop("this", None)
    assert callable(allowed_function(scheduler, "colorsys:rgb_to_hls"))


def test_a_single_module_app_admits_its_own_functions_alone(scheduler, package):
    app = Quart("access_app")
    app.import_name = "other"
    scheduler.init_app(app)
    assert allowed_function(scheduler, "other:own")
    with pytest.raises(FunctionNotAllowed):
        allowed_function(scheduler, "shop:own")


def test_the_main_script_is_meant_by_its_own_name(scheduler, monkeypatch):
    main = types.ModuleType("__main__")
    main.__file__ = "/srv/run.py"
    exec("def own(): ...", vars(main))
    monkeypatch.setitem(sys.modules, "__main__", main)
    app = Quart("access_app")
    app.import_name = "__main__"
    scheduler.init_app(app)
    assert allowed_function(scheduler, "run:own") is main.own


async def test_a_function_that_is_not_allowed_is_422(client, scheduler):
    data: dict[str, Any] = {"id": "new", "func": "os:system", "args": ["true"], "trigger": "interval", "hours": 1}
    response = await client.post("/scheduler/jobs", data=json.dumps(data))
    assert response.status_code == 422
    response = await client.patch("/scheduler/jobs/job", data=json.dumps({"func": "os:system"}))
    assert response.status_code == 422
    assert scheduler.get_job("new") is None
    assert scheduler.get_job("job").func is tick
