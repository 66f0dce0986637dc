"""Logging in with a real browser, by token and by Basic, and what each may then see and do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.dashboard.conftest import View, Visitor
from tests.dashboard.site import Site
from tests.dashboard.test_pages import check

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parametrize("view", [View("desktop", "light"), View("phone", "dark")], ids=str, indirect=True),
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that wants a token."""
    made = Site(tmp_path_factory.mktemp("guarded"), auth="bearer")
    made.add("job")
    yield made
    made.close()


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that wants name and password."""
    made = Site(tmp_path_factory.mktemp("basic"), auth="basic")
    made.add("job")
    yield made
    made.close()


def log_in(visitor: Visitor, token: str) -> None:
    visitor.page.locator("#f-token").fill(token)
    visitor.page.get_by_role("button", name="Log in").click()


def test_a_token_lets_in_once_and_for_all_pages(guarded: Site, visitor: Visitor) -> None:
    page = visitor.page
    visitor.expect_status(401)
    visitor.open(f"{guarded.ui}/job?id=job")
    assert page.get_by_role("heading", level=1).inner_text() == "Log in"
    check(visitor, "login")
    log_in(visitor, "nobody")
    assert "is not accepted" in page.locator("#problem-token").inner_text()
    check(visitor, "login-refused")
    log_in(visitor, "operator")
    page.wait_for_url("**/job?id=job")
    page.locator("#a-pause").click()
    page.locator("#a-resume").wait_for()
    assert guarded.job("job").next_run_time is None
    guarded.ask(guarded.scheduler.aio.resume_job("job"))
    assert page.evaluate("document.cookie") == "", "no script can read the login"
    [cookie] = [one for one in visitor.context.cookies() if one["name"] == "quart_sched_login"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("heading", name="Log in").wait_for()
    visitor.open(f"{guarded.ui}/")
    assert page.locator("#f-token").count() == 1


@pytest.mark.parametrize("name", ["reader", "operator", "boss"])
def test_one_sees_only_what_one_may_do(guarded: Site, visitor: Visitor, name: str) -> None:
    page = visitor.page
    visitor.open(guarded.ui + "/")
    log_in(visitor, name)
    page.get_by_role("heading", name="Overview").wait_for()
    seen = {}
    for path in ("/", "/jobs", "/job?id=job"):
        visitor.open(guarded.ui + path)
        seen[path] = page.locator("main button:visible, main a.button:visible").all_inner_texts()
        check(visitor, f"{name}{path.partition('?')[0].replace('/', '-')}")
    acts = [text for texts in seen.values() for text in texts if text not in ("Show", "Explain")]
    words = {word for text in acts for word in ("Pause", "Run now", "Remove", "Change", "Add a job") if word in text}
    assert (
        words
        == {
            "reader": set(),
            "operator": {"Pause", "Run now"},
            "boss": {"Pause", "Run now", "Remove", "Change", "Add a job"},
        }[name]
    )


def test_basic_is_asked_by_the_browser_itself(basic: Site, browser: Any, view: View) -> None:
    visitor = Visitor(browser, view, "basic", http_credentials={"username": "boss", "password": "boss"})
    visitor.open(f"{basic.ui}/job?id=job")
    visitor.page.locator("#a-pause").click()
    visitor.page.get_by_text("Paused by boss").wait_for()
    assert basic.job("job").paused_by == "boss"
    basic.ask(basic.scheduler.aio.resume_job("job"))
    visitor.close()


def test_a_link_on_another_site_leads_to_the_page_without_another_login(
    guarded: Site, browser: Any, view: View
) -> None:
    visitor = Visitor(browser, view, "linked")
    page = visitor.page
    visitor.open(guarded.ui + "/")
    log_in(visitor, "boss")
    page.get_by_role("heading", name="Overview").wait_for()
    page.get_by_label("Language").select_option("zh")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("heading", name="概览").wait_for()
    link = f'<link rel="icon" href="data:,"><a href="{guarded.ui}/job?id=job">The job failed</a>'
    page.route("**/foreign", lambda route: route.fulfill(body=link, content_type="text/html"))
    visitor.excused.append("localhost")
    page.goto(f"http://localhost:{guarded.port}/foreign")
    page.unroute_all(behavior="wait")
    page.get_by_text("The job failed").click()
    page.locator("#a-pause", has_text="暂停").wait_for()
    visitor.close()


def test_a_form_on_another_site_changes_nothing(guarded: Site, browser: Any, view: View) -> None:
    visitor = Visitor(browser, view, "foreign")
    visitor.open(guarded.ui + "/")
    log_in(visitor, "boss")
    visitor.page.get_by_role("heading", name="Overview").wait_for()
    # The same server under another name is another site to the browser.
    form = (
        '<link rel="icon" href="data:,">'  # else the browser asks the server for one, sooner or later
        f'<form method="post" action="{guarded.ui}/job/pause"><input name="id" value="job"><button>Go</button></form>'
    )
    visitor.page.route("**/foreign", lambda route: route.fulfill(body=form, content_type="text/html"))
    visitor.excused += ["status of 403", "status of 303", "localhost", "status of 401"]
    visitor.page.goto(f"http://localhost:{guarded.port}/foreign")
    # As long as there is a route every request goes by way of the test, also those under way when the visit ends.
    visitor.page.unroute_all(behavior="wait")
    visitor.page.get_by_role("button", name="Go").click()
    visitor.page.get_by_role("heading", name="Not allowed").wait_for()
    assert guarded.job("job").next_run_time is not None
    visitor.close()


def test_a_login_that_ends_leaves_what_is_being_filled_in(guarded: Site, visitor: Visitor) -> None:
    page, context = visitor.page, visitor.context
    visitor.expect_status(401)
    page.clock.install()
    visitor.open(f"{guarded.ui}/add?func=tests.dashboard.site:send_invoices")
    log_in(visitor, "boss")
    page.locator("#f-id").fill("half")
    # More than once: what was told must not be taken for what is shown already.
    for _ in range(2):
        context.clear_cookies(name="quart_sched_login")
        page.clock.run_for(20_000)
        page.get_by_text("Your login has ended.").wait_for()
        assert page.locator("#f-id").input_value() == "half"
        with context.expect_page() as opened:
            page.locator("#log-in").click()
        opened.value.locator("#f-token").fill("boss")
        opened.value.get_by_role("button", name="Log in").click()
        opened.value.get_by_role("heading", name="Add a job").wait_for()
        assert opened.value.url.endswith("/add?func=tests.dashboard.site:send_invoices")
        opened.value.close()
        page.clock.run_for(20_000)
        page.get_by_text("Your login has ended.").wait_for(state="detached")
    assert page.locator("#f-id").input_value() == "half"
    page.goto("about:blank")


def test_a_form_that_is_sent_after_the_end_of_the_login_can_be_sent_again(guarded: Site, visitor: Visitor) -> None:
    page, context = visitor.page, visitor.context
    visitor.expect_status(401)
    job_id = f"late-{visitor.view}"
    visitor.open(f"{guarded.ui}/add?func=tests.dashboard.site:send_invoices")
    log_in(visitor, "boss")
    page.locator("#f-id").fill(job_id)
    context.clear_cookies(name="quart_sched_login")
    page.locator(".job-form button.primary").click()
    page.get_by_role("heading", name="Please log in").wait_for()
    check(visitor, "login-ended")
    with context.expect_page() as opened:
        page.locator("#log-in").click()
    opened.value.locator("#f-token").fill("boss")
    opened.value.get_by_role("button", name="Log in").click()
    opened.value.get_by_role("heading", name="Add a job").wait_for()
    page.locator("#send-again").click()
    page.wait_for_url(f"**/job?id={job_id}")
