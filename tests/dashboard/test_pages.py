"""Each page in a real browser, at desktop and phone width, light and dark: whole, accessible and quiet."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.conftest import Visitor
from tests.dashboard.site import HOSTILE, Site, past_runs

pytestmark = pytest.mark.integration

AXE = (Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def check(visitor: Visitor, name: str) -> None:
    """The page fits the screen, and axe-core finds nothing serious."""
    page = visitor.page
    visitor.shoot(name)
    # Evaluated by the browser's debugger: the page's own policy would not let it in.
    page.evaluate(AXE)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    serious = [
        (violation["id"], [node["html"][:200] for node in violation["nodes"][:3]])
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == []
    wide, screen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= screen, "the page has to be scrolled sideways"


PAGES = {
    "overview": "/",
    "overview-7d": "/?span=7d",
    "overview-15m": "/?span=15m",
    "jobs": "/jobs",
    "jobs-filtered": "/jobs?search=mail&state=scheduled&tag=mail&sort=name&descending=1",
    "jobs-none": "/jobs?search=nothing-like-it",
    "job": "/job?id=invoices",
    "job-interval": "/job?id=sync",
    "job-paused": "/job?id=rates",
    "runs": "/runs",
    "runs-failed": "/runs?outcome=failed&job_id=rates",
    "changes": "/changes",
    "add": "/add",
    "add-function": "/add?func=tests.dashboard.site:report",
    "edit": "/job/edit?id=reports",
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_accessible_and_quiet(site: Site, visitor: Visitor, name: str) -> None:
    assert visitor.open(site.ui + PAGES[name]).status == 200
    assert visitor.page.locator("h1").count() == 1
    check(visitor, name)


def test_the_page_of_a_failed_run_shows_its_output_as_text(site: Site, visitor: Visitor) -> None:
    site.add("hostile", "fail", name=HOSTILE, args=[], description=HOSTILE, tags=["<b>bold</b>"])
    run = site.run("hostile")
    visitor.open(f"{site.ui}/run?id={run.run_id}")
    page = visitor.page
    assert HOSTILE in page.locator("pre.code").inner_text()
    assert HOSTILE in page.locator("#log").inner_text()
    assert HOSTILE in page.locator(".alarm").inner_text()
    check(visitor, "run-failed")
    for path in ("/job?id=hostile", "/jobs?search=hostile", "/", "/job/edit?id=hostile", "/runs?job_id=hostile"):
        visitor.open(site.ui + path)
        assert page.locator("img[src=x], main b:text('bold')").count() == 0
        assert "owned" not in page.title() or HOSTILE in page.title()
    assert HOSTILE in page.evaluate(f"fetch('{site.ui}/job?id=hostile').then(r => r.text()).then(t => new DOMParser()"
                                    ".parseFromString(t, 'text/html').querySelector('h1').textContent)")  # fmt: skip


def test_the_page_of_a_run_under_way_offers_to_cancel_it(site: Site, visitor: Visitor) -> None:
    site.add("waiting", "wait_long")
    handle = site.ask(site.scheduler.aio.run_job("waiting"))
    try:
        visitor.open(f"{site.ui}/run?id={handle.run_id}")
        assert visitor.page.get_by_role("button", name="Cancel the run").is_visible()
        check(visitor, "run-live")
    finally:
        site.ask(site.scheduler.aio.cancel_run(handle.run_id))
        site.ask(_ended(handle))


async def _ended(handle: Any) -> None:
    await handle.wait()


def test_an_unknown_id_gives_a_page(site: Site, visitor: Visitor) -> None:
    visitor.expect_status(404)
    for path in ("/job?id=nothing", "/run?id=nothing", "/job/edit?id=nothing", "/job", "/run?id=%00"):
        assert visitor.open(site.ui + path).status == 404
        assert visitor.page.get_by_role("heading", level=1).inner_text() == "Not found"
    check(visitor, "not-found")


def test_a_job_that_is_gone_still_shows_its_runs(site: Site, visitor: Visitor) -> None:
    gone = f"removed-{visitor.view}"
    site.write(past_runs(gone, 3, timedelta(hours=1), seed=hash(gone), bad=0))
    visitor.expect_status(404)
    assert visitor.open(f"{site.ui}/job?id={gone}").status == 404
    assert visitor.page.locator("table.runs tbody tr").count() == 3
    check(visitor, "job-gone")


def test_the_page_of_a_job_says_why_it_did_not_run(site: Site, visitor: Visitor) -> None:
    page = visitor.page
    visitor.open(f"{site.ui}/job?id=invoices")
    page.locator("#f-at").fill("2026-01-15 04:00")
    page.get_by_role("button", name="Explain").click()
    page.locator(".answer").wait_for()
    explained = site.ask(site.scheduler.aio.explain("invoices", "2026-01-15 04:00"))
    assert explained.description in page.locator(".answer").inner_text()
    check(visitor, "job-why")
    at = site.job("invoices").next_run_time.isoformat()
    page.locator("#f-at").fill(at)
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("It is still to come.").wait_for()
    visitor.expect_status(400)
    page.locator("#f-at").fill("at night")
    page.get_by_role("button", name="Explain").click()
    page.locator("#problem-at").wait_for()
    assert page.locator("#f-at").input_value() == "at night"


def test_the_page_of_a_paused_job_says_who_paused_it_and_what_that_means(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"held-{visitor.view}")
    at = site.job(job_id).next_run_time.isoformat()
    visitor.open(f"{site.ui}/job?id={job_id}")
    visitor.page.locator("#a-pause").click()
    visitor.page.get_by_text("Paused by dashboard").wait_for()
    visitor.open(f"{site.ui}/job?id={job_id}&at={at.replace('+', '%2B')}")
    answer = visitor.page.locator(".answer").inner_text()
    assert site.ask(site.scheduler.aio.explain(job_id, at)).description in answer
    changes = visitor.page.locator("section[aria-labelledby=changes-h] tbody tr")
    assert "paused" in changes.first.inner_text()
    visitor.open(f"{site.ui}/changes?job_id={job_id}")
    assert visitor.page.locator("tbody tr").count() == len(site.ask(site.scheduler.aio.changes(job_id)).items)
    check(visitor, "changes-of-a-job")


def test_the_time_line_has_a_lane_for_each_job_and_can_be_zoomed(site: Site, visitor: Visitor) -> None:
    page = visitor.page
    site.run("sync")
    visitor.open(f"{site.ui}/?span=6h&search=sync")
    lanes = page.locator(".lane")
    assert lanes.count() == 1
    six_hours = lanes.locator(".mark").count()
    assert six_hours >= 30
    assert lanes.locator(".coming").count() >= 8
    page.get_by_role("link", name="15 minutes").click()
    page.wait_for_url("**span=15m**")
    assert page.locator(".lane").count() == 1
    assert 1 <= page.locator(".lane .mark").count() < six_hours
    page.get_by_role("link", name="7 days").click()
    page.wait_for_url("**span=7d**")
    assert page.locator(".lane .mark.o-failed").count() >= 1


def test_charts_have_a_table_beside_them(site: Site, visitor: Visitor) -> None:
    page = visitor.page
    visitor.open(site.ui + "/")
    page.wait_for_function("document.querySelectorAll('.chart canvas').length === 2")
    page.get_by_text("Show as a table").click()
    assert page.locator("#charts tbody tr").count() > 10
    visitor.open(f"{site.ui}/job?id=sync")
    # A part that is fetched anew has its chart a moment later.
    page.wait_for_function("document.querySelectorAll('.chart canvas').length === 1")


def test_times_are_shown_in_the_jobs_zone_and_in_the_viewers(site: Site, visitor: Visitor) -> None:
    visitor.open(f"{site.ui}/job?id=invoices")
    first = visitor.page.locator(".fires li").first.inner_text()
    assert "02:30:00 Europe/Berlin" in first
    assert "09:30:00 your time" in first or "08:30:00 your time" in first  # Shanghai, in winter or summer
    assert " in " in f" {first.replace('your time', '')} "


def test_pages_work_in_chinese_and_remember_it(site: Site, browser: Any, view: Any) -> None:
    visitor = Visitor(browser, view, "chinese", locale="zh-CN")
    visitor.open(site.ui + "/")
    assert visitor.page.locator("h1").inner_text() == "概览"
    check(visitor, "overview-chinese")
    visitor.open(f"{site.ui}/jobs")
    check(visitor, "jobs-chinese")
    visitor.page.get_by_label("语言").select_option("en")
    visitor.page.get_by_role("button", name="应用").click()
    visitor.page.get_by_role("heading", name="Jobs").wait_for()
    visitor.open(site.ui + "/")
    assert visitor.page.locator("h1").inner_text() == "Overview"
    visitor.close()


def test_the_colours_can_be_chosen(site: Site, visitor: Visitor) -> None:
    page = visitor.page
    visitor.open(f"{site.ui}/runs")
    chosen = "light" if visitor.view.scheme == "dark" else "dark"
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_label("Colours").select_option(chosen)
    page.get_by_role("button", name="Apply").click()
    page.locator(f"html[data-theme={chosen}]").wait_for()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
