"""Live pages: what happens is seen without asking for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from quart_sched.model import listing
from quart_sched.stores.sql.failures import DatabaseFailure
from quart_sched.web import events
from tests.dashboard.conftest import View, Visitor
from tests.dashboard.site import HOSTILE, Site, past_runs

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parametrize("view", [View("desktop", "light"), View("phone", "dark")], ids=str, indirect=True),
]


def listening(visitor: Visitor) -> Any:
    visitor.page.locator("#live[data-state=live]").wait_for()
    return visitor.page


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def hold(page: Any, address: str) -> list[Any]:
    """Return where the next request to an address is kept, until it is answered here."""
    held: list[Any] = []
    page.route(address, lambda route: route.fallback() if held else held.append(route))
    return held


def wait_until(page: Any, condition: Callable[[], Any]) -> None:
    """Wait for what the browser tells."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        page.wait_for_timeout(20)


UNANSWERED = ["ERR_CONNECTION_REFUSED", "htmx:afterRequest", "htmx:sendError"]
"""What the browser, and htmx, say of a request that is not answered."""


def test_the_page_of_a_job_follows_its_state_and_its_runs(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"live-{visitor.view}")
    visitor.open(f"{site.ui}/job?id={job_id}")
    page = listening(visitor)
    site.ask(site.scheduler.aio.pause_job(job_id))
    page.locator("#a-resume").wait_for()
    site.ask(site.scheduler.aio.resume_job(job_id))
    page.locator("#a-pause").wait_for()
    site.run(job_id)
    page.locator("#runs tbody tr").wait_for()
    assert page.locator("#runs tbody tr").count() == 1


def test_the_page_of_a_job_says_that_it_is_gone_once_its_schedule_is_over(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"once-{visitor.view}", trigger="date", run_date=datetime.now(UTC) + timedelta(hours=1))
    visitor.open(f"{site.ui}/job?id={job_id}")
    page = listening(visitor)
    assert page.locator("#coming .fires li").count() == 1
    site.ask(site.scheduler.aio.modify_job(job_id, next_run_time=datetime.now(UTC)))
    page.locator("#runs tbody tr").wait_for()
    page.locator("#head", has_text="There is no such job any more.").wait_for()
    assert page.locator("#head button").count() == 0
    page.locator("#coming .fires").wait_for(state="detached")
    page.locator("#durations .summary").wait_for()


def test_the_overview_shows_what_starts_and_what_fails(site: Site, visitor: Visitor) -> None:
    waiting, failing = site.add(f"starts-{visitor.view}", "wait_long"), site.add(f"fails-{visitor.view}", "fail")
    visitor.open(site.ui + "/")
    page = listening(visitor)
    handle = site.ask(site.scheduler.aio.run_job(waiting))
    page.locator("section[aria-labelledby=running-h]").get_by_text(waiting).wait_for()
    site.run(failing)
    page.locator("section[aria-labelledby=troubles-h]").get_by_text(failing).wait_for()
    site.ask(site.scheduler.aio.cancel_run(handle.run_id))
    page.locator("section[aria-labelledby=running-h]").get_by_text(waiting).wait_for(state="detached")


def test_a_row_of_the_list_follows_and_keeps_what_was_chosen(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"row-{visitor.view}")
    visitor.open(f"{site.ui}/jobs?search={job_id}")
    page = listening(visitor)
    box = page.locator(f"tr[data-job='{job_id}'] input[type=checkbox]")
    box.check()
    site.ask(site.scheduler.aio.pause_job(job_id))
    page.locator(f"tr[data-job='{job_id}'] .s-paused").wait_for()
    assert box.is_checked()
    assert page.locator("[data-chosen]").inner_text() == "1 ✓"
    assert page.locator("#all").is_checked()
    page.get_by_role("button", name="Resume").last.click()
    page.locator(f"tr[data-job='{job_id}']").get_by_role("button", name="Pause").wait_for()
    assert box.is_checked()
    held = hold(page, "**/jobs?*one=*")
    site.ask(site.scheduler.aio.pause_job(job_id))
    wait_until(page, lambda: held)
    box.uncheck()
    held[0].continue_()
    page.locator(f"tr[data-job='{job_id}'] .s-paused").wait_for()
    assert not box.is_checked()
    assert page.locator("[data-chosen]").inner_text() == ""


def test_all_rows_that_change_at_once_follow(site: Site, visitor: Visitor) -> None:
    name = f"crowd-{visitor.view}"
    ids = [site.add(f"{name}-{number}") for number in range(6)]
    visitor.open(f"{site.ui}/jobs?search={name}")
    page = listening(visitor)

    async def pause() -> None:
        await asyncio.gather(*(site.scheduler.aio.pause_job(job_id) for job_id in ids))

    site.ask(pause())
    for job_id in ids:
        page.locator(f"tr[data-job='{job_id}'] .s-paused").wait_for()


@pytest.mark.parametrize("failure", ["no answer", "proxy", "store"])
def test_a_row_that_could_not_be_fetched_is_fetched_again(site: Site, visitor: Visitor, failure: str) -> None:
    job_id = site.add(f"retried-{failure}-{visitor.view}")
    visitor.excused += UNANSWERED
    visitor.expect_status(502)
    visitor.expect_status(503)
    visitor.open(f"{site.ui}/jobs?search={job_id}")
    page = listening(visitor)
    refused = []

    def refuse(route: Any) -> None:
        refused.append(route)
        if failure == "no answer":
            route.abort("connectionrefused")
        elif failure == "proxy":
            route.fulfill(status=502, body="Bad Gateway")
        else:
            route.fulfill(status=503, headers={"HX-Reswap": "none"})

    page.route("**/jobs?*one=*", refuse, times=1)
    site.ask(site.scheduler.aio.pause_job(job_id))
    wait_until(page, lambda: refused)
    page.locator(f"tr[data-job='{job_id}'] .s-paused").wait_for(timeout=12_000)
    assert page.locator("#flash").inner_text() == ""


def test_log_lines_appear_while_the_run_writes_them(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"logs-{visitor.view}", "write_on_demand")
    handle = site.ask(site.scheduler.aio.run_job(job_id))
    visitor.open(f"{site.ui}/run?id={handle.run_id}")
    page = listening(visitor)
    for line in ("the first line", HOSTILE, "the last line"):
        site.say(line)
        page.locator("#log", has_text=line).wait_for()
    assert page.locator("#log img").count() == 0
    visitor.shoot("run-log-live")
    site.say(None)
    page.locator("h1 .s-succeeded").wait_for()
    assert HOSTILE in page.locator("#log").inner_text()
    assert page.locator("#a-cancel").count() == 0


def test_log_lines_stay_when_the_rest_of_the_page_is_fetched_anew(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"logs-stay-{visitor.view}", "write_on_demand")
    handle = site.ask(site.scheduler.aio.run_job(job_id))
    visitor.open(f"{site.ui}/run?id={handle.run_id}")
    page = listening(visitor)
    site.say("the first line")
    page.locator("#log", has_text="the first line").wait_for()
    page.evaluate(
        "new Promise(done => { document.body.addEventListener('htmx:afterRequest', done, {once: true});"
        " htmx.trigger('#facts', 'refresh'); })"
    )
    assert page.locator("#log").inner_text().count("the first line") == 1
    site.say("the last line")
    page.locator("#log", has_text="the last line").wait_for()
    assert page.locator("#log").inner_text().count("the first line") == 1
    site.say(None)
    page.locator("h1 .s-succeeded").wait_for()
    assert page.locator("#log").inner_text().count("the first line") == 1


def test_who_reads_further_up_in_a_log_stays_there(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"logs-place-{visitor.view}", "write_on_demand")
    handle = site.ask(site.scheduler.aio.run_job(job_id))
    visitor.open(f"{site.ui}/run?id={handle.run_id}")
    page = listening(visitor)
    site.say("\n".join(f"line {number}" for number in range(200)))
    page.locator("#log", has_text="line 199").wait_for()
    for place in (300, 0, 100_000):
        page.evaluate("place => { document.getElementById('log').scrollTop = place; }", place)
        there = page.evaluate("document.getElementById('log').scrollTop")
        page.wait_for_timeout(1100)  # until the countdown says something else
        page.evaluate("window.before = document.getElementById('log'); htmx.trigger('#facts', 'refresh')")
        page.wait_for_function("() => window.before !== document.getElementById('log')")
        assert page.evaluate("document.getElementById('log').scrollTop") == there
    page.evaluate("document.getElementById('log').scrollTop = 300")
    site.say(None)
    page.locator("h1 .s-succeeded").wait_for()
    assert page.evaluate("document.getElementById('log').scrollTop") == 300


def test_a_button_that_is_pressed_while_its_part_is_fetched_anew_is_not_lost(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"press-{visitor.view}")
    visitor.open(f"{site.ui}/job?id={job_id}")
    page = listening(visitor)
    button = page.locator("#a-pause")
    button.hover()
    with page.expect_response(lambda response: "part=head" in response.url):
        page.mouse.down()
        site.ask(site.scheduler.aio.modify_job(job_id, name="Renamed"))
    page.wait_for_timeout(100)  # until what was answered is in the page, or would be
    page.mouse.up()
    page.locator("#a-resume").wait_for()
    page.get_by_text("Renamed").first.wait_for()
    assert site.job(job_id).next_run_time is None


def test_a_list_says_that_jobs_were_added_and_shows_them_when_asked(site: Site, visitor: Visitor) -> None:
    name = f"fresh-{visitor.view}"
    site.add(f"{name}-a")
    with visitor.page.expect_response(lambda response: "part=list" in response.url):
        visitor.open(f"{site.ui}/jobs?search={name}")
    page = listening(visitor)
    page.locator("#rows input[type=checkbox]").check()
    offer = page.get_by_role("button", name="Jobs were added: show them")
    assert not offer.is_visible()
    top = page.locator("#rows tr").bounding_box()
    site.add(f"{name}-b")
    offer.wait_for()
    assert page.locator("#rows tr[data-job]").count() == 1, "nothing moves before it is asked for"
    assert page.locator("#rows tr").first.bounding_box() == top
    assert page.locator("#rows input[type=checkbox]").is_checked()
    offer.click()
    page.locator(f"tr[data-job='{name}-b']").wait_for()
    assert page.locator("#rows tr[data-job]").count() == 2
    assert not offer.is_visible()
    site.ask(site.scheduler.aio.remove_job(f"{name}-b"))
    page.locator(f"tr[data-job='{name}-b']").wait_for(state="detached")


def test_new_runs_come_by_themselves_unless_somebody_reads_further_down(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"flowing-{visitor.view}")
    site.write(past_runs(job_id, 45, timedelta(minutes=1), seed=11))
    visitor.open(f"{site.ui}/runs?job_id={job_id}")
    page = listening(visitor)
    rows = page.locator("table.runs tbody tr")
    site.run(job_id)
    rows.nth(45).wait_for()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    place = page.evaluate("scrollY")
    run = site.run(job_id)
    offer = page.get_by_role("button", name="There are newer runs: show them")
    offer.wait_for()
    assert rows.count() == 46
    assert page.evaluate("scrollY") == place
    offer.click()
    page.locator(f"table.runs a[href*='{run.run_id}']").wait_for()
    assert rows.count() == 47


def test_the_page_of_a_job_says_since_when_it_is_overdue(
    tmp_path: Path, browser: Any, view: View, visitor: Visitor
) -> None:
    late = Site(tmp_path, SCHEDULER_OVERDUE_GRACE=1)
    try:
        late.add("late", "fail", trigger="interval", seconds=1, overdue_after=1)
        visitor.open(f"{late.ui}/job?id=late")
        page = listening(visitor)
        page.get_by_text("This job is overdue").wait_for(timeout=20_000)
        [alarm] = late.scheduler.scheduler.watch.overdue
        shown = page.locator("#head .alarm time").first.get_attribute("datetime")
        assert datetime.fromisoformat(shown) == alarm.expected_at
        assert "No success is on record." in page.locator("#head .alarm").inner_text()
    finally:
        visitor.page.goto("about:blank")
        late.close()


def test_a_page_says_that_the_server_is_gone_and_is_live_again_when_it_is_back(
    site: Site, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LIFETIME", 0.5)
    job_id = site.add(f"gone-{visitor.view}")
    visitor.excused.append("ERR_CONNECTION_REFUSED")
    visitor.expect_status(502)
    visitor.open(f"{site.ui}/job?id={job_id}")
    page = listening(visitor)
    page.route("**/ui/events", lambda route: route.abort("connectionrefused"))
    page.locator("#live[data-state=waiting]", has_text="connecting").wait_for()
    page.unroute_all()
    listening(visitor)
    page.route("**/ui/events", lambda route: route.fulfill(status=502, body="Bad Gateway"))
    page.locator("#live[data-state=off]", has_text="off").wait_for()
    page.unroute_all()
    listening(visitor)
    site.ask(site.scheduler.aio.pause_job(job_id))
    page.locator("#a-resume").wait_for()


def test_what_a_proxy_says_in_the_place_of_the_server_replaces_nothing(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"proxied-{visitor.view}")
    visitor.expect_status(502)
    visitor.open(f"{site.ui}/job?id={job_id}")
    page = listening(visitor)

    def away(route: Any) -> None:
        route.fulfill(status=502, content_type="text/html", body="<h1>502 Bad Gateway</h1>")

    page.route("**/job?*part=head*", away)
    with page.expect_response(lambda response: response.status == 502):
        site.ask(site.scheduler.aio.pause_job(job_id))
    page.wait_for_timeout(100)  # until what was answered is in the page, or would be
    assert page.locator("#a-pause").is_visible()
    page.unroute_all()
    page.locator("#a-resume").wait_for()
    assert page.get_by_text("Bad Gateway").count() == 0


def test_a_row_stays_and_the_page_tells_it_when_a_proxy_has_refused_a_click(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"refused-{visitor.view}")
    visitor.expect_status(503)
    visitor.open(f"{site.ui}/jobs?search={job_id}")
    page = listening(visitor)
    page.route("**/job/pause", lambda route: route.fulfill(status=503, body="Service Unavailable"))
    page.locator(f"tr[data-job='{job_id}']").get_by_role("button", name="Pause").click()
    page.locator("#flash", has_text="That did not work (503)").wait_for()
    page.unroute_all()
    page.locator(f"tr[data-job='{job_id}']").get_by_role("button", name="Pause").click()
    page.locator(f"tr[data-job='{job_id}'] .s-paused").wait_for()
    assert page.get_by_text("That did not work").count() == 0


def test_a_click_that_is_not_answered_is_told(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"unanswered-{visitor.view}")
    visitor.excused += UNANSWERED
    for address in ("**/job/pause", "**/jobs?*state=paused*"):
        visitor.open(f"{site.ui}/jobs?search={job_id}")
        page = listening(visitor)
        page.route(address, lambda route: route.abort("connectionrefused"))
        if address == "**/job/pause":
            page.locator(f"tr[data-job='{job_id}']").get_by_role("button", name="Pause").click()
        else:
            page.locator("select[name=state]").select_option("paused")
        page.locator("#flash", has_text="That did not work").wait_for()


def test_a_click_that_was_refused_is_told_though_its_row_has_changed_meanwhile(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"changed-{visitor.view}")
    visitor.expect_status(502)
    visitor.open(f"{site.ui}/jobs?search={job_id}")
    page = listening(visitor)
    held, row = hold(page, "**/job/pause"), hold(page, "**/jobs?*one=*")
    site.ask(site.scheduler.aio.modify_job(job_id, name="Before"))
    wait_until(page, lambda: row)
    page.locator(f"tr[data-job='{job_id}']").get_by_role("button", name="Pause").click()
    wait_until(page, lambda: held)
    row[0].continue_()
    site.ask(site.scheduler.aio.modify_job(job_id, name="After"))
    page.wait_for_timeout(2000)  # until the row would have been exchanged
    held[0].fulfill(status=502, body="Bad Gateway")
    page.locator("#flash", has_text="That did not work (502)").wait_for()
    page.locator(f"tr[data-job='{job_id}']", has_text="After").wait_for()


def test_the_short_gap_between_two_streams_is_not_told(
    site: Site, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LIFETIME", 0.2)
    visitor.open(f"{site.ui}/jobs")
    page = listening(visitor)
    page.evaluate(
        "window.states = []; new MutationObserver(() => states.push(document.getElementById('live').dataset.state))"
        ".observe(document.getElementById('live'), {attributes: true})"
    )
    page.wait_for_timeout(4000)
    assert set(page.evaluate("states")) == {"live"}


def test_a_page_stays_live_over_the_end_of_a_stream(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"long-{visitor.view}")
    visitor.open(f"{site.ui}/job?id={job_id}")
    page = listening(visitor)
    page.wait_for_timeout(11_000)  # each stream ends by itself within ten seconds, and the browser comes again
    site.ask(site.scheduler.aio.pause_job(job_id))
    page.locator("#a-resume").wait_for()


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Site]:
    """A site of the test's own, whose job fires each second."""
    made = Site(tmp_path)
    made.add("often", "count", trigger="interval", seconds=1)
    yield made
    made.close()


def away(*_: Any, **__: Any) -> Any:
    raise DatabaseFailure("disk I/O error")


@pytest.mark.parametrize("path", ["/", "/job?id=often", "/jobs"])
def test_an_open_page_says_that_the_store_is_away_and_that_it_is_back(
    own_site: Site, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    visitor.expect_status(503)
    visitor.page.clock.install()
    visitor.open(own_site.ui + path)
    page = listening(visitor)
    slot = own_site.scheduler.scheduler.catalogue.slots["default"]
    monkeypatch.setattr(slot.store.database, "transact", away)
    eventually(lambda: slot.trouble)
    page.clock.run_for(20_000)
    page.locator("#alarms .alarm", has_text='Job store "default" is not available').wait_for()
    monkeypatch.undo()
    eventually(lambda: not slot.trouble)
    page.clock.run_for(20_000)
    page.get_by_text("is not available").wait_for(state="detached")
    page.goto("about:blank")


@pytest.mark.parametrize("path", ["/job?id=often", "/jobs"])
def test_what_no_event_tells_is_seen_before_long(
    own_site: Site, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(listing, "OVERDUE", timedelta(seconds=4))
    visitor.page.clock.install()
    visitor.open(own_site.ui + path)
    page = listening(visitor)
    own_site.ask(own_site.scheduler.aio.pause())
    page.locator("#alarms", has_text="The scheduler is paused").wait_for()
    page.wait_for_timeout(6000)  # until nothing is on its way any more, and the next fire has been due for a while
    assert page.locator(".s-overdue.badge").count() == 0
    page.clock.run_for(20_000)
    page.locator(".s-overdue.badge").first.wait_for()
    page.goto("about:blank")


def wait_for_focus(page: Any, address: str) -> None:
    """Wait until what leads to this address has the focus."""
    page.wait_for_function(
        "address => (document.activeElement.getAttribute('href') ?? document.activeElement.form?.action)"
        "?.endsWith(address)",
        arg=address,
    )


def turn(page: Any, *, away: bool) -> None:
    """Bring the page into the background, or back into sight, as far as it can tell."""
    page.evaluate(
        "away => { Object.defineProperty(document, 'hidden', {configurable: true, get: () => away});"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        away,
    )


def test_a_page_in_the_background_holds_no_connection_and_catches_up_when_it_is_seen(
    site: Site, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LIFETIME", 0.3)
    job_id = site.add(f"background-{visitor.view}")
    streams: list[str] = []
    visitor.page.on("request", lambda request: streams.append(request.url) if "/ui/events" in request.url else None)
    for path in (f"/job?id={job_id}", f"/jobs?search={job_id}"):
        site.ask(site.scheduler.aio.resume_job(job_id))
        visitor.open(site.ui + path)
        page = listening(visitor)
        turn(page, away=True)
        page.wait_for_timeout(100)
        streams.clear()
        site.ask(site.scheduler.aio.pause_job(job_id))
        page.wait_for_timeout(2000)
        assert streams == []
        turn(page, away=False)
        page.locator(".badge.s-paused").wait_for()
        assert streams != []
        assert not page.get_by_role("button", name="Jobs were added: show them").is_visible()


def test_a_list_that_was_opened_in_the_background_shows_what_has_happened_since(site: Site, visitor: Visitor) -> None:
    name = f"behind-{visitor.view}"
    job_id = site.add(f"{name}-a")
    visitor.page.add_init_script("Object.defineProperty(document, 'hidden', {configurable: true, get: () => true})")
    visitor.open(f"{site.ui}/jobs?search={name}")
    site.ask(site.scheduler.aio.pause_job(job_id))
    site.add(f"{name}-b")
    turn(visitor.page, away=False)
    visitor.page.locator(f"tr[data-job='{job_id}'] .s-paused").wait_for()
    visitor.page.locator(f"tr[data-job='{name}-b']").wait_for()


def test_a_list_that_begins_further_down_is_fetched_anew_from_there(site: Site, visitor: Visitor) -> None:
    name = f"offset-{visitor.view}"
    ids = [site.add(f"{name}-{number}") for number in range(2)]
    with visitor.page.expect_response(lambda response: "part=list" in response.url):
        visitor.open(f"{site.ui}/jobs?search={name}&offset=1")
    page = visitor.page
    page.wait_for_timeout(100)  # until what was answered is in the page
    assert [row.get_attribute("data-job") for row in page.locator("#rows tr[data-job]").all()] == ids[1:]


def test_the_focus_stays_on_what_is_fetched_anew(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"focus-{visitor.view}")
    visitor.open(f"{site.ui}/job?id={job_id}")
    page = listening(visitor)
    page.get_by_role("link", name="Change", exact=True).focus()
    site.ask(site.scheduler.aio.modify_job(job_id, name="Renamed"))
    page.locator("h1", has_text="Renamed").wait_for()
    wait_for_focus(page, f"/job/edit?id={job_id}")
    visitor.open(f"{site.ui}/jobs?search={job_id}")
    page = listening(visitor)
    row = page.locator(f"tr[data-job='{job_id}']")
    for key, action in (("Enter", "resume"), ("Space", "pause")):
        if action == "resume":
            row.get_by_role("button", name="Pause").focus()
        page.keyboard.press(key)
        wait_for_focus(page, f"/job/{action}")
    site.ask(site.scheduler.aio.modify_job(job_id, name="Another"))
    row.get_by_text("Another").wait_for()
    wait_for_focus(page, "/job/pause")
    row.get_by_role("checkbox").focus()
    site.ask(site.scheduler.aio.modify_job(job_id, name="A third"))
    row.get_by_text("A third").wait_for()
    page.wait_for_function("id => document.activeElement.value === id", arg=job_id)


def test_a_button_of_a_row_works_as_often_as_it_is_pressed(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"pressed-{visitor.view}")
    visitor.open(f"{site.ui}/jobs?search={job_id}")
    listening(visitor)
    row = visitor.page.locator(f"tr[data-job='{job_id}']")
    for _ in range(3):
        row.get_by_role("button", name="Pause").click()
        row.get_by_role("button", name="Resume").click()
    row.get_by_role("button", name="Pause").wait_for()


def test_a_list_that_was_read_before_a_change_and_comes_after_it_is_made_good(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"overtaken-{visitor.view}")
    visitor.open(f"{site.ui}/jobs?search={job_id}")
    page = listening(visitor)
    held = hold(page, "**/jobs?*part=list*")
    page.evaluate("htmx.trigger('#list', 'refresh')")
    wait_until(page, lambda: held)
    as_it_was = held[0].fetch()
    site.ask(site.scheduler.aio.pause_job(job_id))
    page.wait_for_timeout(2000)  # until the event is there, and the row would have been fetched
    held[0].fulfill(response=as_it_was)
    page.locator(f"tr[data-job='{job_id}']").get_by_role("button", name="Resume").wait_for()


def test_a_list_that_comes_when_somebody_reads_further_down_by_then_moves_nothing(site: Site, visitor: Visitor) -> None:
    name = f"lengthy-{visitor.view}"
    for number in range(70):
        site.add(f"{name}-{number:02d}")
    page = visitor.page
    held = hold(page, "**/jobs?*part=list*")
    visitor.open(f"{site.ui}/jobs?search={name}&sort=id")
    wait_until(page, lambda: held)
    rows = page.locator("#rows tr[data-job]")
    page.locator("tr.more").scroll_into_view_if_needed()
    rows.nth(69).wait_for()
    place = page.evaluate("scrollY")
    site.ask(site.scheduler.aio.pause_job(f"{name}-69"))
    held[0].fulfill(response=held[0].fetch())
    page.get_by_role("button", name="Jobs were added: show them").wait_for()
    assert (rows.count(), page.evaluate("scrollY")) == (70, place)
    rows.nth(69).scroll_into_view_if_needed()
    rows.nth(69).get_by_role("button", name="Resume").wait_for()


def test_the_list_shows_what_was_filtered_for_last(site: Site, visitor: Visitor) -> None:
    name = f"filtered-{visitor.view}"
    active, paused = site.add(f"{name}-a"), site.add(f"{name}-b")
    site.ask(site.scheduler.aio.pause_job(paused))
    visitor.open(f"{site.ui}/jobs?search={name}")
    page = listening(visitor)
    earlier = hold(page, "**/jobs?*part=list*")
    page.evaluate("htmx.trigger('#list', 'refresh')")
    wait_until(page, lambda: earlier)
    later = hold(page, "**/jobs?*state=paused*")
    page.locator("select[name=state]").select_option("paused")
    wait_until(page, lambda: later)
    for route in (earlier[0], later[0]):
        route.fulfill(response=route.fetch())
        page.wait_for_timeout(100)  # until what was answered is in the page, or would be
    page.locator(f"tr[data-job='{active}']").wait_for(state="detached")
    page.wait_for_function("() => location.search.includes('state=paused')")
    assert page.locator(f"tr[data-job='{paused}']").is_visible()


def test_a_part_that_was_read_before_a_change_and_comes_after_it_is_made_good(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"outrun-{visitor.view}", "write_on_demand")
    with visitor.page.expect_response(lambda response: "part=head" in response.url):
        visitor.open(f"{site.ui}/job?id={job_id}")
    page = listening(visitor)
    held = hold(page, "**/job?*part=head*")
    site.ask(site.scheduler.aio.run_job(job_id))
    wait_until(page, lambda: held)
    as_it_was = held[0].fetch()
    assert "s-running" in as_it_was.text()
    site.say(None)
    page.locator("#runs tbody .s-succeeded").wait_for()  # its event is there
    page.wait_for_timeout(500)
    held[0].fulfill(response=as_it_was)
    page.locator("#head .s-succeeded").wait_for(timeout=4000)
    assert page.locator("#head .s-running").count() == 0


def test_a_table_that_was_opened_stays_open(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"table-{visitor.view}")
    visitor.open(site.ui + "/")
    page = listening(visitor)
    page.locator("#charts summary").click()
    page.evaluate("document.querySelector('#charts .scroll').scrollTop = 40")
    before = page.locator("#charts .summary").inner_text()
    site.run(job_id)
    page.wait_for_function(
        "before => document.querySelector('#charts .summary').innerText !== before", arg=before, timeout=20_000
    )
    assert page.evaluate("document.querySelector('#charts details').open")
    assert page.evaluate("document.querySelector('#charts .scroll').scrollTop") == 40


def test_what_waits_until_a_choice_is_made_is_shown_then(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"waits-{visitor.view}", "write_on_demand")
    visitor.open(f"{site.ui}/job?id={job_id}")
    page = listening(visitor)
    site.ask(site.scheduler.aio.run_job(job_id))
    page.locator("#runs tbody .s-running").wait_for()
    page.locator("#runs-outcome").focus()
    site.say(None)
    page.locator("#head .s-succeeded").wait_for()
    page.wait_for_timeout(3500)  # until the list of runs would have been fetched
    assert page.locator("#runs tbody .s-running").count() == 1, "what is chosen in stays as it is"
    page.locator("#runs-outcome").blur()
    page.locator("#runs tbody .s-succeeded").wait_for(timeout=4000)
