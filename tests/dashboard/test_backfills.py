"""Past fires that are run after all, and runs that are run again: what happens is read from the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.dashboard.conftest import View, Visitor
from tests.dashboard.site import Site
from tests.dashboard.test_actions import eventually
from tests.dashboard.test_login import log_in
from tests.dashboard.test_pages import check

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parametrize("view", [View("desktop", "light"), View("phone", "dark")], ids=str, indirect=True),
]

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that wants a token."""
    made = Site(tmp_path_factory.mktemp("guarded"), auth="bearer")
    yield made
    made.close()


def days_ago(days: int) -> str:
    """Return midnight so many days ago, as one types it."""
    return f"{datetime.now(BERLIN).date() - timedelta(days=days)} 00:00"


def test_past_fires_are_shown_first_and_run_once_that_is_confirmed(site: Site, visitor: Visitor) -> None:
    page = visitor.page
    job_id = site.add(f"nightly-{visitor.view}")
    visitor.open(f"{site.ui}/job?id={job_id}")
    page.get_by_role("link", name="Run past fires").click()
    page.locator("#f-start").fill(days_ago(4))
    page.locator("#f-end").fill(days_ago(1))
    page.locator("#show-fires").click()
    page.get_by_role("heading", name="Fires that would run: 3").wait_for()
    expected = site.ask(site.scheduler.aio.backfill(job_id, days_ago(4), days_ago(1), dry_run=True))
    times = [at.astimezone(UTC) for at, _ in expected.items]
    shown = page.locator("#fires dl time").evaluate_all("times => times.map(time => time.dateTime)")
    assert [datetime.fromisoformat(text) for text in shown] == [times[0], times[-1]]
    check(visitor, "backfill")
    assert site.runs(job_id) == [], "nothing is run before it is confirmed"
    page.locator("#confirm").click()
    page.get_by_text(f"Past fires of {job_id} that run now: 3").wait_for()
    runs = eventually(lambda: [run for run in [site.runs(job_id)] if [one.final for one in run] == [True] * 3])[0]
    assert [run.scheduled_at.astimezone(UTC) for run in reversed(runs)] == times
    assert {(run.cause, run.outcome) for run in runs} == {("backfill", "succeeded")}
    page.locator("table.runs tbody tr").nth(2).wait_for()
    assert page.locator("table.runs tbody tr").count() == 3


def test_fires_that_have_succeeded_are_left_out_unless_they_are_wanted(site: Site, visitor: Visitor) -> None:
    page = visitor.page
    job_id = site.add(f"done-{visitor.view}")
    site.ask(site.scheduler.aio.backfill(job_id, days_ago(3), days_ago(1)))
    eventually(lambda: [run.outcome for run in site.runs(job_id)] == ["succeeded"] * 2)
    visitor.open(f"{site.ui}/job/backfill?id={job_id}")
    page.locator("#f-start").fill(days_ago(3))
    page.locator("#f-end").fill(days_ago(1))
    page.locator("#show-fires").click()
    page.get_by_text("no fire of that span needs a run").wait_for()
    assert page.locator("#confirm").count() == 0
    page.get_by_label("Also those that have succeeded").check()
    page.locator("#show-fires").click()
    page.locator("#confirm").click()
    page.get_by_text("that run now: 2").wait_for()
    eventually(lambda: [run.outcome for run in site.runs(job_id)] == ["succeeded"] * 4)


def test_the_form_says_beside_the_field_which_span_makes_no_sense(site: Site, visitor: Visitor) -> None:
    page = visitor.page
    job_id = site.add(f"odd-{visitor.view}")
    visitor.expect_status(400)
    visitor.open(f"{site.ui}/job/backfill?id={job_id}")
    for field, text, words in (
        ("start", "", "is missing"),
        ("start", "soon", "ISO 8601"),
        ("end", "2999-01-01", "not in the future"),
        ("concurrency", "1000", "from 1 to 100"),
    ):
        page.locator("#f-start").fill(days_ago(4))
        page.locator("#f-end").fill("")
        page.locator(f"#f-{field}").fill(text)
        page.locator("#show-fires").click()
        page.locator(f"#problem-{field}", has_text=words).wait_for()
        assert page.locator(f"#f-{field}").input_value() == text, "what was typed is kept"
    assert site.runs(job_id) == []


def test_what_did_not_run_is_run_from_where_it_is_explained(site: Site, visitor: Visitor) -> None:
    page = visitor.page
    job_id = site.add(f"held-back-{visitor.view}", trigger="interval", seconds=1)
    site.ask(site.scheduler.aio.pause_job(job_id))
    fire = site.job(job_id).trigger.start_date
    while fire <= datetime.now(UTC):
        fire += timedelta(seconds=1)
    eventually(lambda: site.ask(site.scheduler.aio.explain(job_id, fire)).verdict == "job_paused")
    visitor.open(f"{site.ui}/job?id={job_id}&at={fire.isoformat().replace('+', '%2B')}")
    page.get_by_text("The job was paused.").wait_for()
    page.get_by_role("link", name="Run what did not run").click()
    page.locator("#show-fires").click()
    page.get_by_role("heading", name="Fires that would run: 1").wait_for()
    page.locator("#confirm").click()
    page.get_by_text("that run now: 1").wait_for()
    [run] = eventually(lambda: [run for run in site.runs(job_id) if run.cause == "backfill" and run.final])
    assert run.scheduled_at.astimezone(UTC) == fire.astimezone(UTC)
    site.ask(site.scheduler.aio.remove_job(job_id))


# Runs again


def test_a_run_is_run_again_with_the_arguments_that_it_had(site: Site, visitor: Visitor) -> None:
    page = visitor.page
    job_id = site.add(f"again-{visitor.view}", kwargs={"customer": "ACME"})
    first = site.ask(_run(site, job_id, kwargs={"customer": "Umbrella", "copies": 2}))
    visitor.open(f"{site.ui}/run?id={first.run_id}")
    assert "Umbrella" in page.locator("dl.facts").inner_text()
    check(visitor, "run-overrides")
    page.locator("#a-again").click()
    page.wait_for_url(lambda url: "/run?id=" in url and first.run_id not in url)
    second = eventually(lambda: next((run for run in site.runs(job_id) if run.final and run != first), None))
    record = site.ask(site.scheduler.aio.run(second.run_id))
    assert json.loads(record.overrides) == {"kwargs": {"customer": "Umbrella", "copies": 2}}
    assert record.result == "'Umbrella 2 False'"
    assert site.job(job_id).kwargs == {"customer": "ACME"}


def test_other_arguments_than_the_jobs_need_the_right_admin(guarded: Site, browser: Any, view: View) -> None:
    job_id = guarded.add(f"again-{view}")
    with_others = guarded.ask(_run(guarded, job_id, kwargs={"customer": "Umbrella"}))
    without = guarded.ask(_run(guarded, job_id))
    visitor = Visitor(browser, view, "operator")
    page = visitor.page
    visitor.open(f"{guarded.ui}/run?id={with_others.run_id}")
    log_in(visitor, "operator")
    page.get_by_text("To run it again with these needs the right admin.").wait_for()
    assert page.locator("#a-again").count() == 0
    visitor.open(f"{guarded.ui}/run?id={without.run_id}")
    page.locator("#a-again").click()
    page.wait_for_url(lambda url: "/run?id=" in url and without.run_id not in url)
    eventually(lambda: [run.final for run in guarded.runs(job_id)] == [True] * 3)
    visitor.close()


async def _run(site: Site, job_id: str, **given: Any) -> Any:
    handle = await site.scheduler.aio.run_job(job_id, **given)
    return await handle.wait()
