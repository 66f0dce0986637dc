"""The API's description: it is valid, whole, and says what is so."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import re
import sys
import types
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from quart import Quart

from quart_sched import errors
from quart_sched.auth import HTTPAuth, HTTPBasicAuth, HTTPBearerAuth
from quart_sched.web import openapi
from quart_sched.web.endpoints import OPERATIONS
from quart_sched.web.operations import Operation
from tests.web.test_events import events

DOCUMENT = openapi.describe(OPERATIONS, prefix="/scheduler", auth=HTTPBasicAuth())
DESCRIBED = {
    item["operationId"]: (path, method, item)
    for path, methods in DOCUMENT["paths"].items()
    for method, item in methods.items()
}


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """A validator of a schema that refers to the document's components."""
    return Draft202012Validator(schema | {"components": DOCUMENT["components"]})


async def talks() -> None:
    logging.getLogger(__name__).warning("told")
    await asyncio.sleep(2)


async def tick(*args: Any, **kwargs: Any) -> str:
    return "done"


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("app")
    module.tick = module.report = tick  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "app", module)


@pytest.fixture
def app(functions: None) -> Quart:
    application = Quart("openapi_app")
    application.config.update(
        SCHEDULER_API_ENABLED=True, SCHEDULER_METRICS_ENABLED=True, SCHEDULER_API_ALLOWED_FUNCS=["app:*"], TESTING=True
    )
    return application


@pytest.fixture
async def client(scheduler, app, serve):
    async with serve(scheduler, app) as test_client:
        yield test_client


async def send(client: Any, method: str, path: str, data: Any = None) -> tuple[int, Any]:
    response = await client.open(path, method=method, data=json.dumps(data) if data is not None else None)
    text = await response.get_data()
    return response.status_code, json.loads(text) if text else None


# The document


@pytest.mark.parametrize(("prefix", "auth"), [("/scheduler", HTTPBasicAuth()), ("", None)], ids=["secured", "open"])
def test_the_document_is_valid(prefix: str, auth: HTTPAuth | None) -> None:
    OpenAPIV31SpecValidator(openapi.describe(OPERATIONS, prefix=prefix, auth=auth)).validate()


async def test_it_is_served_as_it_is_described_and_made_once(client, monkeypatch):
    response = await client.get("/scheduler/openapi.json")
    text = await response.get_data()
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert json.loads(text) == json.loads(json.dumps(openapi.describe(OPERATIONS, prefix="/scheduler")))
    monkeypatch.setattr(openapi, "describe", None)
    assert await (await client.get("/scheduler/openapi.json")).get_data() == text


async def test_an_app_that_is_mounted_says_where(client):
    assert (await send(client, "GET", "/scheduler/openapi.json"))[1]["servers"] == [{"url": "/"}]
    mounted = await client.get("/outer/scheduler/openapi.json", scope_base={"root_path": "/outer"})
    assert json.loads(await mounted.get_data())["servers"] == [{"url": "/outer"}]


async def test_it_needs_the_right_to_read(scheduler, app, serve):
    scheduler.authenticate(lambda _: {"operate"})
    async with serve(scheduler, app, SCHEDULER_AUTH=HTTPBearerAuth()) as client:
        assert (await client.get("/scheduler/openapi.json")).status_code == 401
        response = await client.get("/scheduler/openapi.json", headers={"Authorization": "Bearer x"})
        assert response.status_code == 403
        scheduler.authenticate(lambda _: {"read"})
        response = await client.get("/scheduler/openapi.json", headers={"Authorization": "Bearer x"})
        assert json.loads(await response.get_data())["components"]["securitySchemes"] == {
            "login": {"type": "http", "scheme": "bearer"}
        }


def test_a_scheme_of_the_apps_own_is_named_by_its_challenge() -> None:
    class Digest(HTTPAuth):
        def get_authenticate_header(self) -> str:
            return 'Digest realm="jobs"'

    def scheme(auth: Any) -> Any:
        return openapi.describe(OPERATIONS, prefix="", auth=auth)["components"]["securitySchemes"]["login"]

    assert scheme(Digest()) == {"type": "http", "scheme": "digest"}
    assert scheme(HTTPAuth())["type"] == "apiKey"
    assert "securitySchemes" not in openapi.describe(OPERATIONS, prefix="")["components"]


@pytest.mark.parametrize("prefix", ["/scheduler", "/api/cron", ""])
def test_every_route_is_in_it_and_nothing_else(scheduler, app, prefix):
    app.config["SCHEDULER_API_PREFIX"] = prefix
    scheduler.init_app(app)
    routes = set()
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("scheduler."):
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
            routes |= {(path, method) for method in rule.methods - {"HEAD", "OPTIONS"}}
    document = openapi.describe(OPERATIONS, prefix=prefix)
    assert routes == {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    assert len(routes) == len(OPERATIONS)


# Errors


def test_every_error_that_a_client_can_meet_is_described() -> None:
    kinds = {
        kind
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, errors.SchedulerError) and kind.status != 500
    }
    everyones = {errors.AuthenticationRequired, errors.Forbidden}
    assert {kind for operation in OPERATIONS for kind in operation.errors} | everyones == kinds


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.endpoint)
def test_errors_stand_at_their_status_with_an_example(operation: Operation) -> None:
    answers = DESCRIBED[operation.endpoint][2]["responses"]
    everyones = (errors.AuthenticationRequired, errors.Forbidden) if operation.right is not None else ()
    for kind in (*operation.errors, *everyones):
        examples = answers[str(kind.status)]["content"]["application/json"]["examples"]
        assert examples[kind.__name__]["value"]["error_message"]
    assert ("401" in answers) == (operation.right is not None)
    assert "401" not in answers or "WWW-Authenticate" in answers["401"]["headers"]
    assert ("413" in answers) == (operation.body is not None)


def test_what_everybody_may_ask_knows_no_credentials() -> None:
    document = openapi.describe(OPERATIONS, prefix="")
    for methods in document["paths"].values():
        for method, item in methods.items():
            assert "401" not in item["responses"]
            assert ("403" in item["responses"]) == (method != "get"), item["operationId"]


# Examples


def described_examples() -> list[Any]:
    found = []
    for name, (_, _, item) in DESCRIBED.items():
        places = [(f"{name} {status}", answer) for status, answer in item["responses"].items()]
        places.append((f"{name} body", item.get("requestBody", {})))
        for where, place in places:
            for media in place.get("content", {}).values():
                values = [example["value"] for example in media.get("examples", {}).values()]
                values += [media["example"]] if "example" in media else []
                found += [pytest.param(media["schema"], value, id=f"{where} {n}") for n, value in enumerate(values)]
    return found


@pytest.mark.parametrize(("schema", "value"), described_examples())
def test_examples_are_valid(schema: dict[str, Any], value: Any) -> None:
    validator(schema).validate(value)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.endpoint)
def test_there_is_an_example_wherever_there_is_a_body(operation: Operation) -> None:
    item = DESCRIBED[operation.endpoint][2]
    places = [*item["responses"].values(), item.get("requestBody", {})]
    medias = [media for place in places for media in place.get("content", {}).values()]
    assert all(media.get("example") or media.get("examples") for media in medias) or operation.endpoint == "get_openapi"


def bodies() -> list[Any]:
    found = []
    for name, (path, method, item) in DESCRIBED.items():
        content = item.get("requestBody", {}).get("content", {}).get("application/json", {})
        for title, example in content.get("examples", {}).items():
            found.append(pytest.param(name, path, method.upper(), example["value"], id=f"{name} {title}"))
    return found


@pytest.mark.parametrize(("endpoint", "path", "method", "body"), bodies())
async def test_what_an_example_is_answered_with_is_described(client, scheduler, endpoint, path, method, body):
    if endpoint != "add_job":
        await scheduler.aio.add_job("tick", tick, trigger="interval", seconds=3)
    if endpoint == "start_scheduler":
        await scheduler.aio.shutdown()
    status, answer = await send(client, method, path.replace("{job_id}", "tick"), body)
    assert status in (200, 202, 204), answer
    described = DESCRIBED[endpoint][2]["responses"][str(status)]
    assert (answer is None) == ("content" not in described)
    if answer is not None:
        validator(described["content"]["application/json"]["schema"]).validate(answer)


async def test_what_a_stream_tells_is_described(client, scheduler, clock):
    schema = DOCUMENT["components"]["schemas"]["Event"]
    async with events(client) as stream:
        seen = await stream.events()
        await scheduler.aio.add_job("tick", tick, trigger="interval", seconds=3)
        await scheduler.aio.pause_job("tick")
        await (await scheduler.aio.run_job("tick"))
        await scheduler.aio.add_job("talks", talks, trigger="interval", hours=1)
        handle = await scheduler.aio.run_job("talks")
        await clock.advance(seconds=0.25)
        async with events(client, f"?run_id={handle.run_id}") as log:
            await clock.advance(seconds=1)
            seen += await log.events()
        await scheduler.aio.pause()
        await clock.advance(seconds=1)
        seen += await stream.events()
    for event in seen:
        shown = {"event": event.kind, "id": event.id, "data": json.dumps(event.data)}
        validator(schema).validate(shown)
        (form,) = (form for form in schema["anyOf"] if validator(form).is_valid(shown))
        validator(form["properties"]["data"]["contentSchema"]).validate(event.data)
    assert {event.kind for event in seen} == {"reset", "job", "run", "scheduler", "log"}


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/audit", "/jobs?limit=1", "/jobs/tick/explain?at=now"]
)
async def test_what_is_read_is_described(client, scheduler, clock, path):
    await scheduler.aio.add_job("tick", tick, trigger="interval", seconds=3)
    await scheduler.aio.add_job("other", tick, trigger="interval", seconds=3)
    at = clock.now().isoformat().replace("+", "%2B")
    status, answer = await send(client, "GET", f"/scheduler{path.replace('now', at)}")
    described = DOCUMENT["paths"]["/scheduler" + path.partition("?")[0].replace("tick", "{job_id}")]["get"]
    assert status == 200
    validator(described["responses"]["200"]["content"]["application/json"]["schema"]).validate(answer)


async def test_metrics_are_of_a_type_that_is_described(client):
    described = DESCRIBED["get_metrics"][2]["responses"]["200"]["content"]
    for accept in ("text/plain", "application/openmetrics-text", "*/*"):
        response = await client.get("/scheduler/metrics", headers={"Accept": accept})
        assert (response.status_code, response.mimetype in described) == (200, True)


async def test_health_and_metrics_are_in_it_where_they_are_there(scheduler, app, serve):
    async with serve(scheduler, app, SCHEDULER_METRICS_ENABLED=False, SCHEDULER_HEALTH_ENABLED=False) as client:
        _, document = await send(client, "GET", "/scheduler/openapi.json")
    assert not [path for path in document["paths"] if "health" in path or "metrics" in path]
    assert "/scheduler/events" in document["paths"]


def test_health_may_be_asked_with_credentials_or_without_and_everything_else_with() -> None:
    for operation in OPERATIONS:
        item = DESCRIBED[operation.endpoint][2]
        assert ("security" in item) == (operation.right is None)
        assert item.get("security", [{}, {"login": []}]) == [{}, {"login": []}]
    assert {operation.endpoint for operation in OPERATIONS if operation.right is None} == {
        "get_health_live",
        "get_health_ready",
    }
