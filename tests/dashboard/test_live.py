"""Live pages: what happens is seen without asking for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dashboard.conftest import View, Visitor
from tests.dashboard.site import HOSTILE, Site

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parametrize("view", [View("desktop", "light"), View("phone", "dark")], ids=str, indirect=True),
]


def listening(visitor: Visitor) -> Any:
    visitor.page.locator("#live[data-state=live]").wait_for()
    return visitor.page


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


def test_a_page_stays_live_over_the_end_of_a_stream(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"long-{visitor.view}")
    visitor.open(f"{site.ui}/job?id={job_id}")
    page = listening(visitor)
    page.wait_for_timeout(11_000)  # each stream ends by itself within ten seconds, and the browser comes again
    site.ask(site.scheduler.aio.pause_job(job_id))
    page.locator("#a-resume").wait_for()
