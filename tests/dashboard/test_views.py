"""The dashboard without a browser: who may do what, from where, and what is answered to what makes no sense."""

from __future__ import annotations

import asyncio
import base64
import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from zoneinfo import ZoneInfo

import pytest
from quart import Quart, request

from quart_sched import APScheduler
from quart_sched.aio import AioVerbs
from quart_sched.auth import HTTPBasicAuth, HTTPBearerAuth
from quart_sched.errors import ConfigError
from quart_sched.model.ids import first_id
from quart_sched.model.instants import micros
from quart_sched.model.runs import RunRecord
from quart_sched.stores.sql.failures import DatabaseFailure
from quart_sched.web import session
from quart_sched.web.dashboard.routes import POLICY, ROUTES
from quart_sched.web.security import allowed_functions
from tests.dashboard import site
from tests.dashboard.site import HOSTILE, PASSWORDS, judge

UI = "/scheduler/ui"
RIGHTS_OF = {"reader": {"read"}, "operator": {"read", "operate"}, "boss": {"read", "operate", "admin"}}


@pytest.fixture
def app() -> Quart:
    application = Quart("tests.dashboard.site")
    application.config.update(SCHEDULER_DASHBOARD_ENABLED=True, TESTING=True, SECRET_KEY="key")
    return application


@pytest.fixture
async def client(scheduler, app, serve):
    scheduler.add_job("job", site.send_invoices, trigger="cron", hour=3, kwargs={"customer": "ACME"})
    async with serve(scheduler, app) as test_client:
        yield test_client


def basic(name: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{name}'.encode()).decode()}"}


async def text(response: Any) -> str:
    return await response.get_data(as_text=True)  # type: ignore[no-any-return]


# Whether it is there


async def test_without_the_setting_there_is_no_dashboard(scheduler, serve):
    async with serve(scheduler, Quart("plain"), SCHEDULER_API_ENABLED=True) as client:
        assert (await client.get(f"{UI}/")).status_code == 404


async def test_the_dashboard_needs_no_api(client):
    assert (await client.get("/scheduler/jobs")).status_code == 404
    assert (await client.get(f"{UI}/jobs")).status_code == 200


async def test_times_are_shown_in_the_zone_of_the_trigger(scheduler, app, serve):
    part = {"trigger": "cron", "hour": 9, "timezone": "Europe/Berlin"}
    scheduler.add_job("job", site.send_invoices, trigger="or", triggers=[part], kwargs={"customer": "ACME"})
    async with serve(scheduler, app, SCHEDULER_TIMEZONE="UTC") as client:
        for path in ("jobs", "job?id=job"):
            page = await text(await client.get(f"{UI}/{path}"))
            assert re.search(r"\d 09:00:00 Europe/Berlin", page), path


async def test_the_address_follows_the_prefix(scheduler, serve, app):
    async with serve(scheduler, app, SCHEDULER_API_PREFIX="/admin/cron") as client:
        page = await text(await client.get("/admin/cron/ui/"))
        assert 'href="/admin/cron/ui/jobs"' in page
        assert (await client.get("/admin/cron/ui")).status_code in (301, 308)


async def test_an_app_with_such_an_endpoint_is_told(scheduler, app):
    app.config["SCHEDULER_API_ENABLED"] = True
    app.add_url_rule("/mine", "scheduler.dashboard_jobs", lambda: "mine")
    before = [*app.url_map.iter_rules()]
    with pytest.raises(ConfigError, match="SCHEDULER_ENDPOINT_PREFIX"):
        scheduler.init_app(app)
    assert scheduler.app is None
    assert [*app.url_map.iter_rules()] == before


async def test_other_templates_and_delimiters_of_the_app_change_nothing(scheduler, serve):
    class Other(Quart):
        jinja_options = {"variable_start_string": "[[", "variable_end_string": "]]", "autoescape": False}

    app = Other("other")
    scheduler.add_job("job", site.send_invoices, name=HOSTILE, trigger="cron", hour=3)
    async with serve(scheduler, app, SCHEDULER_DASHBOARD_ENABLED=True) as client:
        page = await text(await client.get(f"{UI}/jobs"))
        assert "{{" not in page
        assert "<script>document" not in page
        assert "&lt;script&gt;document" in page


async def test_it_warns_where_nobody_has_to_log_in(scheduler, caplog):
    app = Quart("open")
    app.config.update(SCHEDULER_DASHBOARD_ENABLED=True)
    scheduler.init_app(app)
    scheduler.start()
    async with app.test_app():
        pass
    assert "dashboard is enabled without authentication" in caplog.text


# What browsers may do with it


async def test_every_answer_has_the_policy(client):
    assert "unsafe" not in POLICY
    for path in ("/", "/jobs", "/job?id=none", "/add", "/static/dashboard.css", "/static/none.js"):
        response = await client.get(UI + path)
        assert response.headers["Content-Security-Policy"] == POLICY
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "same-origin"


async def test_pages_are_not_kept_and_files_are(client):
    page = await client.get(f"{UI}/")
    assert page.headers["Cache-Control"] == "no-store"
    address = next(line.split('"')[3] for line in (await text(page)).splitlines() if "dashboard.css" in line)
    assert "immutable" in (await client.get(address)).headers["Cache-Control"]
    for wrong in ("../routes.py", "..%2froutes.py", "none"):
        assert (await client.get(f"{UI}/static/{wrong}")).status_code == 404


async def test_pages_hold_no_inline_script_or_style(client):
    for path in ("/", "/jobs", "/job?id=job", "/runs", "/add?func=tests.dashboard.site:report", "/job/edit?id=job"):
        page = await text(await client.get(UI + path))
        assert " style=" not in page
        assert "<style" not in page
        assert " onclick" not in page
        assert page.count("<script") == page.count("<script src=")


# Rights


def test_nothing_is_changed_with_the_right_to_read_and_only_logging_in_needs_none():
    assert {route.name for route in ROUTES if not route.right} == {"login", "logout", "preferences", "static"}
    for route in ROUTES:
        if "POST" in route.methods:
            assert route.right != "read", route.name


@pytest.mark.parametrize("name", PASSWORDS)
async def test_each_may_do_what_the_rights_say(client, scheduler, name):
    scheduler.auth = HTTPBasicAuth()
    scheduler.authenticate(judge)
    for route in (route for route in ROUTES if route.right):
        for method in route.methods:
            headers, query = basic(name), {"id": "none"}
            response = await client.open(UI + route.rule, method=method, headers=headers, query_string=query)
            assert (response.status_code != 403) == (route.right in RIGHTS_OF[name]), (route.name, method)


async def test_pages_show_only_the_actions_that_one_may_use(client, scheduler):
    scheduler.auth = HTTPBasicAuth()
    scheduler.authenticate(judge)
    for path in ("/", "/jobs", "/job?id=job", "/runs"):
        seen = {name: await text(await client.get(UI + path, headers=basic(name))) for name in PASSWORDS}
        assert 'method="post"' not in seen["reader"].replace('<form method="post" action="/scheduler/ui/pref', "")
        assert "/ui/add" not in seen["reader"] + seen["operator"]
        assert "/ui/add" in seen["boss"]
        assert "job/remove" not in seen["operator"]
        assert 'value="remove"' not in seen["operator"]
    operator = await text(await client.get(f"{UI}/job?id=job", headers=basic("operator")))
    assert "job/pause" in operator
    assert "job/edit" not in operator


async def test_removing_in_bulk_needs_the_right_to_remove(client, scheduler):
    scheduler.auth = HTTPBasicAuth()
    scheduler.authenticate(judge)
    form = {"action": "remove", "id": "job", "confirmed": "1"}
    assert (await client.post(f"{UI}/jobs/bulk", form=form, headers=basic("operator"))).status_code == 403
    assert await scheduler.aio.get_job("job") is not None
    assert (await client.post(f"{UI}/jobs/bulk", form=form, headers=basic("boss"))).status_code == 303
    assert await scheduler.aio.get_job("job") is None


async def test_an_action_on_several_jobs_leads_back_to_the_list_as_it_was_searched(client, scheduler):
    query = "search=jo%26b&state=paused&sort=name&descending=1"
    page = await text(await client.get(f"{UI}/jobs?{query}"))
    bulk = page.partition('id="bulk"')[2].partition("</form>")[0]
    kept = re.findall('type="hidden" name="(.*?)" value="(.*?)"', bulk)
    assert kept == [("search", "jo&amp;b"), ("state", "paused"), ("sort", "name"), ("descending", "1")]
    for form in ({}, {"id": "job"}, {"id": "job", "confirmed": "1"}):
        sent = {"action": "pause", "search": "jo&b", "state": "paused", "sort": "name", "descending": "1"} | form
        answer = await client.post(f"{UI}/jobs/bulk", form=sent)
        if answer.status_code == 200:
            assert [*re.findall('name="(search|state|sort|descending)"', await text(answer))] == [
                name for name, _ in kept
            ]
        else:
            assert answer.location == f"{UI}/jobs?{query}"
    assert (await scheduler.aio.get_job("job")).next_run_time is None
    hostile = {"action": "pause", "id": "job", "confirmed": "1", "search": "//evil.example/\r\nX: y", "next": "//evil"}
    assert (await client.post(f"{UI}/jobs/bulk", form=hostile)).location.startswith(f"{UI}/jobs?search=//evil")


async def test_changes_from_another_origin_are_refused(client, scheduler):
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        response = await client.post(f"{UI}/job/pause", form={"id": "job"}, headers=headers)
        assert response.status_code == 403
        response = await client.post(f"{UI}/login", form={"token": "boss"}, headers=headers)
        assert response.status_code == 403
    assert (await scheduler.aio.get_job("job")).next_run_time is not None


async def test_nothing_is_changed_by_a_get(client, scheduler):
    for route in ROUTES:
        if route.methods == ("POST",):
            assert (await client.get(UI + route.rule, query_string={"id": "job"})).status_code == 405, route.name


async def test_an_imported_function_is_not_offered_nor_taken(client, scheduler):
    functions = allowed_functions(scheduler)
    assert "tests.dashboard.site:report" in functions
    assert not any("serve" in name or "HTTPAuth" in name for name in functions)
    response = await client.post(f"{UI}/add", form={"func": "os:system", "id": "x", "kind": "interval"})
    assert response.status_code == 422
    assert "may not be scheduled" in await text(response)
    assert await scheduler.aio.get_job("x") is None


# Logging in


async def test_basic_asks_the_browser(client, scheduler):
    scheduler.auth = HTTPBasicAuth()
    scheduler.authenticate(judge)
    response = await client.get(f"{UI}/")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic")
    assert "text/html" in response.headers["Content-Type"]


async def test_a_scheme_without_a_challenge_gives_a_page(client, scheduler):
    class Key:
        def get_authorization(self) -> None:
            return None

    scheduler.auth = Key()
    scheduler.authenticate(judge)
    response = await client.get(f"{UI}/")
    assert response.status_code == 401
    assert "WWW-Authenticate" not in response.headers
    assert "Please log in" in await text(response)


@pytest.fixture
def bearer(client, scheduler):
    scheduler.auth = HTTPBearerAuth()
    scheduler.authenticate(judge)
    return client


async def test_a_token_is_asked_for_once(bearer):
    response = await bearer.get(f"{UI}/job?id=job")
    assert response.status_code == 303
    login = response.headers["Location"]
    assert (await bearer.get(login)).status_code == 200
    response = await bearer.post(login, form={"token": "boss"})
    assert (response.status_code, response.headers["Location"]) == (303, f"{UI}/job?id=job")
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/scheduler" in cookie
    assert (await bearer.get(f"{UI}/job?id=job")).status_code == 200
    assert (await bearer.post(f"{UI}/job/pause", form={"id": "job"})).status_code == 303


async def test_the_cookie_is_secure_where_the_connection_is(bearer):
    async with bearer.app.test_app():
        client = bearer.app.test_client()
        response = await client.post(f"{UI}/login", form={"token": "boss"}, scheme="https")
        assert "Secure" in response.headers["Set-Cookie"]


async def test_a_wrong_token_is_told_beside_the_field(bearer):
    for token in ("wrong", "", "two words", "new\nline", "x" * 5000, "ä"):
        response = await bearer.post(f"{UI}/login", form={"token": token})
        assert response.status_code == 401
        assert 'id="problem-token"' in await text(response)
        assert session.COOKIE not in response.headers.get("Set-Cookie", "")


async def test_a_token_that_is_taken_back_ends_the_login(bearer, scheduler):
    await bearer.post(f"{UI}/login", form={"token": "operator"})
    assert (await bearer.get(f"{UI}/")).status_code == 200
    scheduler.authenticate(lambda auth: {"read"} if auth["token"] == "operator" else None)
    assert (await bearer.post(f"{UI}/job/pause", form={"id": "job"})).status_code == 403
    scheduler.authenticate(lambda auth: None)
    assert (await bearer.get(f"{UI}/")).status_code == 303


async def test_a_forged_or_old_cookie_is_none(bearer, app, monkeypatch):
    await bearer.post(f"{UI}/login", form={"token": "boss"})
    other = app.test_client()
    other.set_cookie("localhost", session.COOKIE, "ImJvc3Mi.forged.signature", path="/scheduler")
    assert (await other.get(f"{UI}/")).status_code == 303
    monkeypatch.setattr(session, "LIFETIME", -1)
    assert (await bearer.get(f"{UI}/")).status_code == 303


async def test_logging_out_forgets_the_token(bearer):
    await bearer.post(f"{UI}/login", form={"token": "boss"})
    assert "logout" in await text(await bearer.get(f"{UI}/"))
    assert (await bearer.post(f"{UI}/logout")).status_code == 303
    assert (await bearer.get(f"{UI}/")).status_code == 303


async def test_without_a_secret_key_the_page_says_so(bearer, app):
    app.secret_key = None
    for response in (await bearer.get(f"{UI}/login"), await bearer.post(f"{UI}/login", form={"token": "boss"})):
        assert response.status_code == 503
        assert "app.secret_key" in await text(response)


@pytest.mark.parametrize(
    "goal",
    [
        "https://evil.example/",
        "//evil.example",
        "/other",
        "/scheduler/ui/..//evil",
        "/scheduler/ui/../../elsewhere",
        "/scheduler/ui/..",
        "/scheduler/ui/job/%2e%2E/../..",
        "/scheduler/ui/?a=\r\nSet-Cookie: x=y",
        "/scheduler/ui/?\nx",
        "/scheduler/ui/?a=\x00",
        "/scheduler/ui/?a=\x85",
        "/scheduler/ui/\n",
        "\\\\x",
    ],
)
async def test_nobody_is_sent_elsewhere(bearer, goal):
    response = await bearer.post(f"{UI}/login", form={"token": "boss"}, query_string={"next": goal})
    assert response.headers["Location"] == f"{UI}/"
    response = await bearer.post(f"{UI}/preferences", form={"next": goal, "language": "zh"})
    assert response.headers["Location"] == f"{UI}/"


def page_after_preferences(page: str) -> str:
    """Return where the footer's form leads back to."""
    form = page.partition('class="preferences"')[2]
    return html.unescape(form.partition('name="next" value="')[2].partition('"')[0])


async def test_language_and_colours_can_be_chosen_before_logging_in(bearer):
    login = (await bearer.get(f"{UI}/job?id=job")).location
    back = page_after_preferences(await text(await bearer.get(login)))
    assert back == login
    chosen = await bearer.post(f"{UI}/preferences", form={"next": back, "language": "zh", "theme": "dark"})
    assert (chosen.status_code, chosen.location) == (303, login)
    page = await text(await bearer.get(login))
    assert '<html lang="zh" data-theme="dark">' in page
    response = await bearer.post(login, form={"token": "boss"})
    assert response.location == f"{UI}/job?id=job"


async def test_preferences_never_lead_to_an_address_that_takes_forms_alone(client):
    for rule, form in (
        ("/jobs/bulk", {"action": "pause", "id": "job"}),
        ("/job/remove", {"id": "job"}),
        ("/job/pause", {"id": "none"}),
        ("/job/start-with?id=job", {"a.copies": "many"}),
    ):
        back = page_after_preferences(await text(await client.post(UI + rule, form=form)))
        assert back == (UI + rule if "start-with" in rule else f"{UI}/")
        assert (await client.get(back)).status_code == 200


@pytest.mark.parametrize(
    ("page", "goal"),
    [
        (f"http://localhost{UI}/job?id=job#runs", f"{UI}/job?id=job"),
        (f"http://localhost{UI}/jobs/bulk", f"{UI}/"),
        ("http://localhost/elsewhere", f"{UI}/"),
        ("http://[", f"{UI}/"),
        ("", f"{UI}/"),
    ],
)
async def test_a_script_without_login_leads_back_to_its_page(bearer, page, goal):
    script = {"HX-Request": "true", "HX-Current-URL": page}
    login = f"{UI}/login?next={quote(goal, safe='/?')}"
    response = await bearer.get(f"{UI}/?part=now", headers=script)
    assert (response.status_code, response.headers["HX-Reswap"]) == (401, "none")
    assert "HX-Redirect" not in response.headers
    told = await text(response)
    assert "Your login has ended." in told
    assert html.unescape(re.findall(r'id="log-in" href="([^"]*)"', told)[0]) == login
    response = await bearer.post(f"{UI}/job/pause", form={"id": "job"}, headers=script)
    assert (response.status_code, response.headers["HX-Redirect"]) == (401, login)


async def test_a_form_is_kept_when_the_login_has_ended(bearer, scheduler):
    form = {"func": f"{site.__name__}:send_invoices", "id": "new", "kind": "interval", "t.interval.hours": "1"}
    form |= {"description": 'two\r\nlines <"&', "o.overlap": "skip", "o.max_instances": "1", "o.max_queue": "1"}
    form |= {"o.on_crash": "lost"}
    response = await bearer.post(f"{UI}/add", form=form)
    assert response.status_code == 401
    page = (await text(response)).partition("<main")[2].partition("</main>")[0]
    assert re.findall(r'id="log-in" href="([^"]*)"', page) == [f"{UI}/login?next={quote(f'{UI}/add', safe='/')}"]
    assert re.findall(r'<form method="post" action="([^"]*)"', page) == [f"{UI}/add"]
    kept = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', page)
    assert {name: html.unescape(value) for name, value in kept} == form
    await bearer.post(f"{UI}/login", form={"token": "boss"})
    assert (await bearer.post(f"{UI}/add", form=form)).status_code == 303
    assert await scheduler.aio.get_job("new") is not None


async def test_what_another_site_sends_without_login_is_not_kept(bearer):
    response = await bearer.post(f"{UI}/job/remove", form={"id": "job"}, headers={"Origin": "https://evil.example"})
    assert response.status_code == 403
    assert 'value="job"' not in await text(response)


async def test_the_login_opens_the_api_too_with_no_more_than_the_token(scheduler, serve, app):
    scheduler.authenticate(judge)
    config: dict[str, Any] = {"SCHEDULER_API_ENABLED": True, "SCHEDULER_AUTH": HTTPBearerAuth()}
    async with serve(scheduler, app, **config) as client:
        assert (await client.get("/scheduler/jobs")).status_code == 401
        await client.post(f"{UI}/login", form={"token": "reader"})
        assert (await client.get("/scheduler/jobs")).status_code == 200
        assert (await client.post("/scheduler/pause")).status_code == 403
        header = {"Authorization": "Bearer nobody"}
        assert (await client.get("/scheduler/jobs", headers=header)).status_code == 401


# What makes no sense


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/?span=forever", 400),
        ("/?lanes=-1", 400),
        ("/?lanes=x", 400),
        ("/jobs?state=odd", 400),
        ("/jobs?offset=-1", 400),
        ("/jobs?sort=colour", 400),
        ("/jobs?tag=none&search=%00", 200),
        ("/runs?since=yesterday", 400),
        ("/runs?outcome=odd", 400),
        ("/runs?cursor=odd", 400),
        ("/job?id=job&outcome=odd", 400),
        ("/job?id=job&cursor=odd", 400),
        ("/job?id=none", 404),
        ("/job", 404),
        ("/run?id=none", 404),
        ("/run", 404),
        ("/job/edit?id=none", 404),
        ("/job?id=job&at=soon", 400),
        ("/job?id=job&at=2026-01-01", 200),
        ("/job?id=job&at=", 200),
        ("/job/backfill?id=none", 404),
        ("/job/backfill?id=job&start=odd", 200),
        ("/changes?cursor=odd", 400),
        ("/changes?job_id=none", 200),
        ("/preview?kind=odd", 200),
        ("/preview?kind=json&t.json=[", 200),
        ("/preview?kind=interval&t.interval.seconds=1e999", 200),
        ("/add?func=none", 422),
        ("/add?func=:", 422),
    ],
)
async def test_what_makes_no_sense_gives_a_page(client, path, status):
    response = await client.get(UI + path)
    assert response.status_code == status
    assert "<h1>" in await text(response) or path.startswith("/preview")


@pytest.mark.parametrize(
    ("rule", "form", "status"),
    [
        ("/job/pause", {}, 400),
        ("/job/pause", {"id": "none"}, 404),
        ("/job/start", {"id": "none"}, 404),
        ("/job/remove", {"id": "none"}, 404),
        ("/job/remove", {"id": "none", "confirmed": "1"}, 404),
        ("/jobs/bulk", {"action": "explode", "id": "job"}, 400),
        ("/run/cancel", {"id": "none"}, 404),
        ("/run/again", {"id": "none"}, 404),
        ("/scheduler", {"action": "explode"}, 400),
        ("/job/edit?id=job", {"kind": "odd"}, 400),
        ("/job/edit?id=job", {"kind": "keep", "a.copies": "[" * 5000}, 400),
        ("/job/edit?id=job", {"kind": "keep", "o.max_instances": "1", "o.max_queue": "1", "o.overlap": "skip"}, 412),
        ("/job/start-with?id=job", {"a.copies": "many"}, 400),
        ("/job/backfill?id=none", {"start": "2026-01-01"}, 404),
        ("/job/backfill?id=job", {}, 400),
        ("/job/backfill?id=job", {"start": "2026-01-01", "end": "2025-01-01", "confirmed": "1"}, 400),
        ("/job/backfill?id=job", {"start": "1990-01-01", "confirmed": "1"}, 400),
        ("/job/backfill?id=job", {"start": "2026-01-01", "concurrency": "many"}, 400),
        ("/job/edit?id=job", {"kind": "keep", "o.max_instances": "1", "o.overdue_after": "0"}, 400),
        ("/add", {}, 400),
    ],
)
async def test_a_form_that_makes_no_sense_is_refused(client, rule, form, status):
    assert (await client.post(UI + rule, form=form)).status_code == status


THREADS, PROCESSES = {"type": "threadpool"}, {"type": "processpool", "max_workers": 1}
NO_COMMON_FIRE = """{"trigger": "and", "triggers": [
    {"trigger": "interval", "seconds": 10, "start_date": "2026-01-01T00:00:00"},
    {"trigger": "interval", "seconds": 10, "start_date": "2026-01-01T00:00:05"}]}"""


@pytest.mark.parametrize(
    ("executors", "more", "place", "words"),
    [
        (
            {"default": THREADS, "pool": PROCESSES},
            {"executor": "pool"},
            'id="problem-executor"',
            "is a process pool, which cannot run",
        ),
        (
            {"default": PROCESSES},
            {},
            'class="alarm"',
            "executor: &#39;default&#39; is a process pool, which cannot run",
        ),
        ({"default": THREADS}, {"kind": "json", "t.json": NO_COMMON_FIRE}, 'id="problem-kind"', "no fire in common"),
    ],
    ids=["a choice", "no choice", "trigger"],
)
async def test_each_mistake_in_a_new_job_is_shown_in_its_place(scheduler, serve, app, executors, more, place, words):
    async with serve(scheduler, app, SCHEDULER_EXECUTORS=executors) as client:
        form = {"func": f"{site.__name__}:send_invoices", "id": "new", "kind": "interval", "t.interval.hours": "1"}
        response = await client.post(f"{UI}/add", form=form | {"o.max_instances": "1", "o.max_queue": "1"} | more)
        assert response.status_code == 400
        problem = (await text(response)).partition(place)[2].partition("</p>")[0]
        assert words in problem


async def test_a_fire_in_the_hour_that_comes_twice_is_the_one_that_is_run_after_all(client, scheduler):
    scheduler.add_job("twice", site.send_invoices, trigger="cron", minute=50, timezone="Europe/Berlin")
    fire = datetime(2025, 10, 26, 1, 50, tzinfo=UTC)
    at = fire.astimezone(ZoneInfo("Europe/Berlin"))
    scheduler.scheduler.history.add(RunRecord("run", "run", "twice", at, "missed", "schedule", "h:1", finished_at=fire))
    page = html.unescape(
        await text(await client.get(f"{UI}/job", query_string={"id": "twice", "at": fire.isoformat()}))
    )
    [link] = re.findall(r'href="([^"]*/job/backfill\?[^"]*start=[^"]*)"', page)
    assert parse_qs(urlsplit(link).query) == {
        "id": ["twice"],
        "start": ["2025-10-26T01:50:00+00:00"],
        "end": ["2025-10-26T01:50:00.001000+00:00"],
    }


CHINESE = {"Accept-Language": "zh-CN"}


async def test_a_chinese_page_says_in_chinese_why_a_job_did_not_run(client, scheduler):
    for at in ("2026-01-01T03:00:00", "2999-01-01", ""):
        page = await text(await client.get(f"{UI}/job", query_string={"id": "job", "at": at}, headers=CHINESE))
        assert not re.search(r"\b(The|the|job|is|was|expected)\b", _words(page)), at
    found = await scheduler.aio.explain("job", "2026-01-01T03:00:00")
    english = await text(await client.get(f"{UI}/job?id=job&at=2026-01-01T03:00:00"))
    assert found.description in html.unescape(english)


async def test_a_chinese_form_says_in_chinese_what_is_wrong(client):
    form = {"kind": "cron", "t.cron.hour": "25", "a.copies": "many", "o.timeout": "-1", "o.max_instances": "0"}
    page = await text(await client.post(f"{UI}/job/edit?id=job", form=form, headers=CHINESE))
    problems = re.findall(r'class="problem"[^>]*>.*?<span lang="(\w+)">(.*?)</span>', page)
    assert len(problems) == 4
    assert {language for language, _ in problems} == {"zh"}
    page = await text(await client.post(f"{UI}/job/backfill?id=job", form={"start": "soon"}, headers=CHINESE))
    assert "应为 日期和时间" in page


def _words(page: str) -> str:
    """Return what the box of the explanation says."""
    box = page[page.index('id="why"') :]
    return re.sub(r"<[^>]*>", " ", box[: box.index("</section>")])


async def test_a_run_that_had_other_arguments_is_not_run_again_without_the_right_to_give_them(client, scheduler):
    scheduler.auth = HTTPBasicAuth()
    scheduler.authenticate(judge)
    record = await (await scheduler.aio.run_job("job", kwargs={"customer": "Umbrella"}))
    again = f"{UI}/run/again"
    response = await client.post(again, form={"id": record.run_id}, headers=basic("operator"))
    assert response.status_code == 403
    assert len((await scheduler.aio.runs("job")).items) == 1
    response = await client.post(again, form={"id": record.run_id}, headers=basic("boss"))
    assert response.status_code == 303


async def test_a_backfill_in_two_steps_runs_what_was_shown(client, scheduler, clock):
    form = {"start": (clock.now() - timedelta(days=3)).isoformat(), "concurrency": "1"}
    page = await text(await client.post(f"{UI}/job/backfill?id=job", form=form))
    assert (await scheduler.aio.runs("job")).items == ()
    confirmed = page[page.index('name="confirmed"') :]
    shown = dict(re.findall(r'name="(\w+)" value="([^"]*)"', confirmed)) | {"confirmed": "1"}
    await clock.advance(days=1)  # a fire that has come meanwhile was not shown
    response = await client.post(f"{UI}/job/backfill?id=job", form=shown)
    assert response.status_code == 303
    await clock.advance(seconds=1)
    runs = (await scheduler.aio.runs("job")).items
    assert sum(run.cause == "backfill" for run in runs) == 3
    seen = await text(await client.get(response.headers["Location"]))
    assert all(run.run_id in seen for run in runs if run.cause == "backfill")


async def test_to_a_script_a_refusal_is_a_message_alone(client):
    response = await client.post(f"{UI}/job/pause", form={"id": "none"}, headers={"HX-Request": "true"})
    assert response.status_code == 404
    assert response.headers["HX-Reswap"] == "none"
    page = await text(response)
    assert "Job none not found" in page
    assert "<html" not in page


async def test_a_refusal_leads_back_and_is_told_in_the_visitors_language(client, scheduler):
    await scheduler.aio.add_job("long", site.wait_long, trigger="cron", hour=3)
    await scheduler.aio.run_job("long")
    response = await client.post(f"{UI}/job/start", form={"id": "long"}, headers={"Accept-Language": "zh"})
    assert response.status_code == 409
    page = await text(response)
    assert f'href="{UI}/job?id=long"' in page
    assert "作业 long 已在运行" in page


async def test_the_list_of_older_runs_stays_as_it_is_while_the_job_runs(client, scheduler):
    for _ in range(16):
        await (await scheduler.aio.run_job("job"))
    for _ in range(2):
        page = await text(await client.get(f"{UI}/job?id=job"))
        assert 'hx-get="/scheduler/ui/job?id=job&amp;part=runs"' in page
        [older] = re.findall(r'href="([^"]*cursor=[^"]*)"', page)
        page = await text(await client.get(html.unescape(older)))
        assert page.count('aria-label="succeeded: job') >= 1
        assert "part=runs" not in page
        if await scheduler.aio.get_job("job"):
            await scheduler.aio.remove_job("job")  # its runs are still there


@pytest.mark.parametrize("ran", [True, False])
async def test_the_parts_of_an_open_page_say_that_its_job_is_gone(client, scheduler, ran):
    if ran:
        await (await scheduler.aio.run_job("job")).wait()
    await scheduler.aio.remove_job("job")
    parts = {}
    for name in ("head", "coming", "durations", "runs"):
        response = await client.get(f"{UI}/job?id=job&part={name}", headers={"HX-Request": "true"})
        assert response.status_code == 200, name
        parts[name] = await text(response)
        assert f'hx-get="{UI}/job?id=job&amp;part={name}"' in parts[name], "it may be added again"
    assert "There is no such job any more." in parts["head"]
    assert "<button" not in parts["head"]
    assert "There are none." in parts["coming"]
    assert ("no runs yet" in parts["durations"], "No runs." in parts["runs"]) == (not ran, not ran)


@pytest.mark.parametrize("part", ["&part=head", ""])
async def test_a_job_that_goes_while_its_page_is_made_is_gone(client, scheduler, monkeypatch, part):
    await (await scheduler.aio.run_job("job")).wait()
    next_fires = AioVerbs.next_fires

    async def late(self: AioVerbs, job_id: str, count: int) -> Any:
        await scheduler.aio.remove_job(job_id)
        return await next_fires(self, job_id, count)

    monkeypatch.setattr(AioVerbs, "next_fires", late)
    response = await client.get(f"{UI}/job?id=job{part}", headers={"HX-Request": "true"} if part else {})
    assert response.status_code == (200 if part else 404)
    assert "There is no such job any more." in await text(response)


async def test_a_row_that_is_fetched_anew_leaves_the_message_of_the_last_action_alone(client):
    script = {"HX-Request": "true"}
    row = await text(await client.post(f"{UI}/job/pause", form={"id": "job"}, headers=script))
    assert 'id="flash"' in row
    assert 'id="flash"' not in await text(await client.get(f"{UI}/jobs?one=job", headers=script))


async def test_halves_of_surrogate_pairs_are_shown_as_question_marks(client, scheduler):
    half = "half \ud800"
    await scheduler.aio.add_job(
        "odd", site.send_invoices, trigger="cron", hour=3, kwargs={"customer": half}, name=half, description=half,
        tags=[half],
    )  # fmt: skip
    await (await scheduler.aio.run_job("odd")).wait()
    for path in ("/", "/jobs", "/job?id=odd", "/job/edit?id=odd", "/job/start-with?id=odd"):
        response = await client.get(UI + path)
        assert response.status_code == 200, path
        assert "half ?" in await text(response), path


async def test_a_job_that_waits_for_the_start_has_its_store_on_its_page(scheduler, serve, app):
    scheduler.add_job("job", site.count, trigger="cron", hour=3, jobstore="other")
    stores = {"default": {"type": "memory"}, "other": {"type": "memory"}}
    async with serve(scheduler, app, start=False, SCHEDULER_JOBSTORES=stores) as client:
        assert 'store "other"' in html.unescape(await text(await client.get(f"{UI}/job?id=job")))


def filled_in(page: str) -> dict[str, str]:
    """Return what a browser would send of the form on a page."""
    form: dict[str, str] = {}
    for tag in re.findall(r"<input[^>]*>", page):
        given = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if "name" in given and (given.get("type") not in ("checkbox", "radio") or "checked" in tag):
            form[given["name"]] = html.unescape(given.get("value", ""))
    for name, value in re.findall(r'<textarea[^>]*name="([^"]+)"[^>]*>(.*?)</textarea>', page, re.DOTALL):
        form[name] = html.unescape(value).removeprefix("\n").replace("\n", "\r\n")
    for name, options in re.findall(r'<select[^>]*name="([^"]+)"[^>]*>(.*?)</select>', page, re.DOTALL):
        chosen = re.search(r'value="([^"]*)"[^>]* selected', options) or re.search(r'value="([^"]*)"', options)
        form[name] = html.unescape(chosen[1]) if chosen is not None else ""
    return form


def takes_anything(what: Any, *more: Any, size: int = 3) -> None: ...


@pytest.mark.parametrize("func", [takes_anything, min], ids=["fields", "json"])
async def test_a_job_with_an_object_among_its_arguments_can_be_changed(client, scheduler, app, func):
    await scheduler.aio.add_job("odd", func, args=[app, 2], trigger="cron", hour=3)
    form = filled_in(await text(await client.get(f"{UI}/job/edit?id=odd")))
    saved = await client.post(f"{UI}/job/edit?id=odd", form=form | {"o.max_instances": "4"})
    assert saved.status_code == 303, re.findall(r'class="problem".*', await text(saved))
    job = await scheduler.aio.get_job("odd")
    assert (job.max_instances, job.args, job.kwargs) == (4, (app, 2), {})
    form = filled_in(await text(await client.get(f"{UI}/job/edit?id=odd")))
    changed = {"a.more": "[3]"} if func is takes_anything else {"args": "[3]"}
    assert (await client.post(f"{UI}/job/edit?id=odd", form=form | changed)).status_code == (
        400 if func is takes_anything else 303
    )


async def test_any_id_has_its_page(client, scheduler):
    for job_id in ("..", "a/b/pause", "a?b#c&d=e", "日本", HOSTILE, " "):
        await scheduler.aio.add_job(job_id, site.count, trigger="cron", hour=3)
        response = await client.get(f"{UI}/job", query_string={"id": job_id})
        assert response.status_code == 200, job_id
        assert (await client.post(f"{UI}/job/pause", form={"id": job_id})).status_code == 303
        assert (await scheduler.aio.get_job(job_id)).next_run_time is None


async def test_what_browsers_make_of_an_odd_id_leads_to_its_job(client, scheduler):
    for job_id in ("two\nlines", " lead", "trail "):
        await scheduler.aio.add_job(job_id, site.count, trigger="cron", hour=3)
        await (await scheduler.aio.run_job(job_id)).wait()
        sent = job_id.replace("\n", "\r\n")
        assert (await client.post(f"{UI}/job/pause", form={"id": sent})).status_code == 303
        assert (await scheduler.aio.get_job(job_id)).next_run_time is None
        await client.post(f"{UI}/jobs/bulk", form={"id": sent, "action": "resume", "confirmed": "1"})
        assert (await scheduler.aio.get_job(job_id)).next_run_time is not None
        for path, row in (("/runs", 'aria-label="succeeded'), ("/changes", 'data-label="Who"')):
            page = await text(await client.get(UI + path, query_string={"job_id": job_id}))
            assert row in page, (path, job_id)


async def test_a_forged_message_is_shown_as_text_or_not_at_all(client):
    messages = (
        b'["none", {}, false]',
        b'["flash.paused", {}, false]',
        b'["flash.paused", {"x": 1}, false]',
        b'["flash.paused", {"id": 1, "key": 2, "self": 3}, false]',
        b'["flash.paused", [], false]',
        b'["form.kwargs_hint", {"\\"name\\"": 1}, false]',
        b'[["flash.paused"], {}, false]',
        b'["flash.failed", {"message": ' + b"[" * 2000 + b"]" * 2000 + b"}, true]",
    )
    for value in ("x", "ééé", *(base64.urlsafe_b64encode(message).decode() for message in messages)):
        headers = {"Cookie": f"quart_sched_flash={value}"}
        assert (await client.get(f"{UI}/", headers=headers)).status_code == 200
    forged = base64.urlsafe_b64encode(b'["flash.failed", {"message": "<b>x</b>"}, true]').decode()
    page = await text(await client.get(f"{UI}/", headers={"Cookie": f"quart_sched_flash={forged}"}))
    assert "&lt;b&gt;x" in page


async def test_a_broken_job_is_shown_and_can_be_removed(scheduler, serve, app, tmp_path):
    app.config["SCHEDULER_JOBSTORES"] = {"default": {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path / 'db'}"}}
    async with serve(scheduler, app) as client:
        await scheduler.aio.add_job("odd", site.count, trigger="cron", hour=3)
        store = scheduler.scheduler.catalogue.slots["default"].store
        store.database.transact(
            lambda tx: tx.execute("UPDATE quart_sched_jobs SET func = 'no.module:f', definition = '{}'")
        )
        page = await text(await client.get(f"{UI}/job?id=odd"))
        assert "s-broken" in page
        assert "job/pause" not in page
        assert (await client.get(f"{UI}/jobs")).status_code == 200
        assert (await client.get(f"{UI}/job/edit?id=odd")).status_code == 200
        assert (await client.post(f"{UI}/job/remove", form={"id": "odd", "confirmed": "1"})).status_code == 303
        assert await scheduler.aio.get_job("odd") is None


async def test_removing_is_not_offered_where_the_code_declares_the_job(scheduler, serve, app, tmp_path):
    app.config["SCHEDULER_JOBSTORES"] = {"default": {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path / 'db'}"}}
    scheduler.add_job("declared", site.count, trigger="cron", hour=3)
    async with serve(scheduler, app) as client:
        await scheduler.aio.add_job("added", site.count, trigger="cron", hour=3)
        assert "a-remove" in await text(await client.get(f"{UI}/job?id=added"))
        page = await text(await client.get(f"{UI}/job?id=declared"))
        assert "a-remove" not in page
        assert "take it out of the code" in page
        refused = await client.post(f"{UI}/job/remove", form={"id": "declared"})
        assert (refused.status_code, "declared in the code" in await text(refused)) == (409, True)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        both = await client.post(f"{UI}/jobs/bulk", data="action=remove&id=added&id=declared", headers=form)
        confirm = await text(both)
        assert re.findall('name="id" value="(.*?)"', confirm) == ["added"]
        assert "stay until they are taken out of it: <code>declared</code>" in confirm
        none = await client.post(f"{UI}/jobs/bulk", form={"action": "remove", "id": "declared"})
        assert none.status_code == 303
        assert "declared in the code" in await text(await client.get(none.location))


async def test_a_store_that_is_away_gives_a_page(scheduler, serve, app, tmp_path, monkeypatch):
    app.config["SCHEDULER_JOBSTORES"] = {"default": {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path / 'db'}"}}
    async with serve(scheduler, app) as client:
        store = scheduler.scheduler.catalogue.slots["default"].store
        await scheduler.aio.get_jobs()

        def fail(*_: Any, **__: Any) -> Any:
            raise DatabaseFailure("disk I/O error")

        monkeypatch.setattr(store.database, "transact", fail)
        for path in ("/", "/jobs", "/runs", "/changes", "/job?id=job", "/run?id=x"):
            response = await client.get(UI + path)
            assert response.status_code == (503 if "id=" in path else 200), path
            page = html.unescape(await text(response))
            assert 'Job store "default" is not available:<' in page, path
        monkeypatch.undo()


@pytest.mark.parametrize("kind", ["memory", "sqlalchemy"])
async def test_one_store_of_several_that_is_away_leaves_the_pages_of_the_others(
    scheduler, serve, app, tmp_path, monkeypatch, kind
):
    away = {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path / 'other'}"}
    default = {"memory": {"type": kind}, "sqlalchemy": {"type": kind, "url": f"sqlite:///{tmp_path / 'default'}"}}[kind]
    app.config["SCHEDULER_JOBSTORES"] = {"default": default, "away": away}
    async with serve(scheduler, app) as client:
        for alias in ("default", "away"):
            await scheduler.aio.add_job(f"in-{alias}", site.count, trigger="cron", hour=3, jobstore=alias)
            await (await scheduler.aio.run_job(f"in-{alias}")).wait()
        alarm = 'Job store "away" is not available:<'
        paths = ("/", "/jobs", "/runs", "/changes", "/job?id=in-default", "/job?id=in-default&at=", "/?part=alarms")
        script = {"HX-Request": "true"}
        for path in paths:
            page = html.unescape(await text(await client.get(UI + path, headers=script if "part" in path else {})))
            assert alarm not in page

        def fail(*_: Any, **__: Any) -> Any:
            raise DatabaseFailure("disk I/O error")

        monkeypatch.setattr(scheduler.scheduler.catalogue.slots["away"].store.database, "transact", fail)
        for path in paths:
            response = await client.get(UI + path, headers=script if "part" in path else {})
            page = html.unescape(await text(response))
            assert response.status_code == 200, path
            assert f"{alarm}/b> <code>DatabaseFailure: disk I/O error</code> What is kept there is left out" in page, (
                path
            )
            assert "in-default" in page or path == "/?part=alarms", path
        for path in ("/job?id=in-away", "/run?id=none"):
            assert (await client.get(UI + path)).status_code == 503, path
        assert (await client.get(f"{UI}/jobs?one=in-away", headers=script)).status_code == 503, "its row is to stay"
        monkeypatch.undo()
        assert "in-away" in await text(await client.get(f"{UI}/jobs"))
        assert alarm not in html.unescape(await text(await client.get(f"{UI}/?part=alarms", headers=script)))


@pytest.mark.parametrize("rule", ["/add", "/job/edit?id=job", "/job/start-with?id=job"])
async def test_a_form_is_kept_while_the_store_is_away(scheduler, serve, app, tmp_path, monkeypatch, rule):
    app.config["SCHEDULER_JOBSTORES"] = {"default": {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path / 'db'}"}}
    async with serve(scheduler, app) as client:
        await scheduler.aio.add_job("job", site.send_invoices, trigger="cron", hour=3)
        store = scheduler.scheduler.catalogue.slots["default"].store

        def fail(*_: Any, **__: Any) -> Any:
            raise DatabaseFailure("disk I/O error")

        form = {"func": f"{site.__name__}:send_invoices", "id": "new", "kind": "interval", "t.interval.hours": "1"}
        form |= {"description": 'two\r\nlines <"&', "a.customer": "ACME", "name": "Renamed", "o.overlap": "skip"}
        form |= {"o.max_instances": "1", "o.max_queue": "1", "o.on_crash": "lost"}
        form["tag"] = scheduler.aio.tag(await scheduler.aio.get_job("job"))
        monkeypatch.setattr(store.database, "transact", fail)
        response = await client.post(UI + rule, form=form)
        assert response.status_code == 503
        page = (await text(response)).partition("<main")[2].partition("</main>")[0]
        assert html.unescape(re.findall(r'<form method="post" action="([^"]*)"', page)[0]) == UI + rule
        kept = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', page)
        assert {name: html.unescape(value) for name, value in kept} == form
        monkeypatch.undo()
        assert (await client.post(UI + rule, form=form)).status_code == 303


async def test_a_label_that_no_script_rewrites_names_the_zone_of_its_time(client, scheduler):
    await scheduler.aio.add_job("failing", site.fail, trigger="cron", hour=3)
    await scheduler.aio.add_job("long", site.wait_long, trigger="cron", hour=3)
    await (await scheduler.aio.run_job("failing")).wait()
    await scheduler.aio.run_job("long")
    for path, least in (("/", 3), ("/runs", 2), ("/job?id=failing", 2), ("/job?id=job&at=2026-01-01T04:00:00", 1)):
        page = await text(await client.get(UI + path))
        page = re.sub("<time.*?</time>|<input[^>]*>", "", page)
        times = re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(.{0,4})", page)
        assert len(times) >= least, path
        assert {*times} == {" UTC"}, path


async def test_each_page_says_that_the_scheduler_does_not_run(client, scheduler):
    paths = ("/", "/jobs", "/job?id=job", "/runs", "/changes", "/add", "/?part=alarms")
    paused = "The scheduler is paused: no job fires until it is resumed."
    for is_paused in (True, False):
        await (scheduler.aio.pause() if is_paused else scheduler.aio.resume())
        for path in paths:
            page = await text(await client.get(UI + path, headers={"HX-Request": "true"} if "part" in path else {}))
            assert (paused in page) == is_paused, path
    page = await text(await client.get(f"{UI}/job?id=job"))
    for part in ("alarms", "head", "coming"):
        assert re.search(rf'id="{part}"[^>]*data-live="[^"]*scheduler', page), part


async def test_a_job_that_fails_all_the_time_hides_no_other_and_each_outcome_is_counted(client, scheduler, clock):
    now = clock.now()
    ago = [("noisy", "failed", timedelta(minutes=minute)) for minute in range(1, 1000)]
    ago += [("nightly", "failed", timedelta(hours=23)), ("noisy", "missed", timedelta(minutes=90))]
    ago += [("older", "failed", timedelta(hours=25)), ("sound", "succeeded", timedelta(hours=1))]
    for number, (job_id, outcome, distance) in enumerate(sorted(ago, key=lambda one: one[2], reverse=True)):
        at = now - distance
        run_id = f"{first_id(micros(at))[:24]}{number:012x}"
        scheduler.scheduler.history.add(
            RunRecord(run_id, run_id, job_id, at, outcome, "schedule", "h:1", 1, at, at, "ValueError", f"error of {at}")
        )
    page = await text(await client.get(f"{UI}/"))
    listed = page.partition('id="troubles-h"')[2].partition("</section>")[0]
    assert re.findall(r"<b>(.*?)</b></a>", listed) == ["noisy", "noisy", "nightly"]
    assert re.findall(r'outcome=(\w+)&amp;since=[^"]*">(.*?)<', listed) == [("failed", "999 times")]
    assert f"error of {now - timedelta(minutes=1)}" in listed


async def test_the_time_that_a_view_takes_is_not_the_loops(client, scheduler):
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(tick())
    await client.get(f"{UI}/")
    task.cancel()
    assert ticks > 3


async def test_an_app_behind_a_path_links_within_it(scheduler, app, serve):
    seen: list[str] = []

    @app.before_request
    def note() -> None:
        seen.append(request.root_path)

    scheduler.add_job("job", site.count, trigger="cron", hour=3)
    async with serve(scheduler, app):
        client = app.test_client()
        page = await text(await client.get(f"/behind{UI}/jobs", root_path="/behind"))
    assert seen == ["/behind"]
    assert 'href="/behind/scheduler/ui/job?id=job"' in page
    assert page_after_preferences(page) == "/behind/scheduler/ui/jobs"


async def test_behind_a_path_a_login_and_preferences_lead_back_to_the_page(bearer):
    behind = {"root_path": "/behind"}
    page = f"/behind{UI}/job?id=job"
    login = (await bearer.get(page, **behind)).location
    assert login.startswith(f"/behind{UI}/login?next=")
    assert (await bearer.post(login, form={"token": "boss"}, **behind)).location == page
    chosen = await bearer.post(f"/behind{UI}/preferences", form={"next": page, "language": "zh"}, **behind)
    assert chosen.location == page


async def test_a_second_init_app_adds_no_second_set_of_routes(app: Quart) -> None:
    scheduler = APScheduler(app=app)
    before = len(list(app.url_map.iter_rules()))
    scheduler.init_app(app)
    assert len(list(app.url_map.iter_rules())) == before
