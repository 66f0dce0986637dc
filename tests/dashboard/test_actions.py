"""Each action in a real browser; what it did is read from the store, not from the page."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from quart_sched.model.triggers import spec_of
from tests.dashboard.conftest import View, Visitor
from tests.dashboard.site import Site

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parametrize("view", [View("desktop", "light"), View("phone", "dark")], ids=str, indirect=True),
]

_numbers = count(1)


@pytest.fixture
def job_id(site: Site) -> str:
    """A job of the test's own."""
    return site.add(f"job-{next(_numbers)}", kwargs={"customer": "ACME"})


def eventually(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value


def row(visitor: Visitor, job_id: str) -> Any:
    return visitor.page.locator(f"tr[data-job='{job_id}']")


# In the list of jobs


def test_a_job_is_paused_and_resumed_in_its_row(site: Site, visitor: Visitor, job_id: str) -> None:
    visitor.open(f"{site.ui}/jobs?search={job_id}")
    row(visitor, job_id).get_by_role("button", name="Pause").click()
    row(visitor, job_id).get_by_role("button", name="Resume").wait_for()
    assert site.job(job_id).next_run_time is None
    visitor.page.get_by_text(f"{job_id} is paused.").wait_for()
    visitor.shoot("row-paused")
    row(visitor, job_id).get_by_role("button", name="Resume").click()
    row(visitor, job_id).get_by_role("button", name="Pause").wait_for()
    assert site.job(job_id).next_run_time is not None


def test_a_job_is_run_from_its_row(site: Site, visitor: Visitor, job_id: str) -> None:
    visitor.open(f"{site.ui}/jobs?search={job_id}")
    row(visitor, job_id).get_by_role("button", name="Run now").click()
    visitor.page.get_by_text(f"{job_id} was started.").wait_for()
    assert eventually(lambda: [run.outcome for run in site.runs(job_id)] == ["succeeded"])
    assert site.runs(job_id)[0].cause == "manual"


@pytest.mark.parametrize("action", ["Pause", "Resume", "Run now", "Remove"])
def test_several_jobs_are_chosen_and_changed_once_that_is_confirmed(site: Site, visitor: Visitor, action: str) -> None:
    name = f"bulk{next(_numbers)}"
    ids = [site.add(f"{name}-{n}") for n in range(4)]
    if action == "Resume":
        for job_id in ids:
            site.ask(site.scheduler.aio.pause_job(job_id))
    visitor.open(f"{site.ui}/jobs?search={name}")
    for job_id in ids[:3]:
        row(visitor, job_id).get_by_role("checkbox").check()
    visitor.page.locator("#bulk").get_by_role("button", name=action).click()
    visitor.page.get_by_role("heading", name="(3)").wait_for()
    visitor.shoot(f"confirm-{action.partition(' ')[0].lower()}")
    before = [site.job(job_id) for job_id in ids]
    assert all(before), "nothing is done before it is confirmed"
    assert not any(site.runs(job_id) for job_id in ids)
    visitor.page.locator("#confirm").click()
    visitor.page.locator(".flash.good").wait_for()
    jobs = [site.job(job_id) for job_id in ids]
    if action == "Pause":
        assert [job.next_run_time is None for job in jobs] == [True, True, True, False]
    elif action == "Resume":
        assert [job.next_run_time is None for job in jobs] == [False, False, False, True]
    elif action == "Remove":
        assert [job is None for job in jobs] == [True, True, True, False]
    else:
        assert eventually(lambda: [len(site.runs(job_id)) for job_id in ids] == [1, 1, 1, 0])


def test_all_that_is_shown_can_be_chosen_at_once(site: Site, visitor: Visitor) -> None:
    name = f"all{next(_numbers)}"
    ids = [site.add(f"{name}-{n}") for n in range(3)]
    visitor.open(f"{site.ui}/jobs?search={name}")
    everything = visitor.page.get_by_label("all shown")
    everything.check()
    row(visitor, ids[0]).get_by_role("checkbox").uncheck()
    assert not everything.is_checked()
    row(visitor, ids[0]).get_by_role("checkbox").check()
    assert everything.is_checked()
    visitor.page.locator("#bulk").get_by_role("button", name="Pause").click()
    visitor.page.locator("#confirm").click()
    visitor.page.locator(".flash.good").wait_for()
    assert [site.job(job_id).next_run_time for job_id in ids] == [None] * 3


def test_a_bulk_action_says_what_did_not_work(site: Site, visitor: Visitor, job_id: str) -> None:
    gone = site.add(f"{job_id}-gone")
    visitor.open(f"{site.ui}/jobs?search={job_id}")
    visitor.page.get_by_label("all shown").check()
    visitor.page.locator("#bulk").get_by_role("button", name="Pause").click()
    site.ask(site.scheduler.aio.remove_job(gone))
    visitor.page.locator("#confirm").click()
    told = visitor.page.locator(".flash.bad").inner_text()
    assert "Done for 1, failed for 1" in told
    assert gone in told
    assert site.job(job_id).next_run_time is None


def test_jobs_are_searched_filtered_and_sorted(site: Site, visitor: Visitor) -> None:
    name = f"find{next(_numbers)}"
    site.add(f"{name}-b", tags=[name], name="Beta")
    site.add(f"{name}-a", tags=[name, "other"], name="Alpha")
    site.ask(site.scheduler.aio.pause_job(f"{name}-a"))
    page = visitor.page
    visitor.open(f"{site.ui}/jobs")
    page.locator("#search").fill(name)
    page.get_by_text("Jobs: 2", exact=True).wait_for()
    page.locator("select[name=sort]").select_option("name")
    eventually(lambda: ids(page) == [f"{name}-a", f"{name}-b"])
    page.get_by_label("reversed").check()
    eventually(lambda: ids(page) == [f"{name}-b", f"{name}-a"])
    page.locator("select[name=state]").select_option("paused")
    eventually(lambda: ids(page) == [f"{name}-a"])
    page.locator("select[name=state]").select_option("")
    page.locator("select[name=tag]").select_option("other")
    eventually(lambda: ids(page) == [f"{name}-a"])
    site.run(f"{name}-a")
    page.locator("select[name=outcome]").select_option("succeeded")
    eventually(lambda: ids(page) == [f"{name}-a"])
    page.locator("select[name=outcome]").select_option("failed")
    page.get_by_text("No job matches").wait_for()
    assert f"search={name}" in page.url, "the address keeps what was asked"


def ids(page: Any) -> list[str]:
    return page.locator("#rows tr[data-job]").evaluate_all("rows => rows.map(row => row.dataset.job)")  # type: ignore[no-any-return]


def test_a_long_list_goes_on_when_it_is_scrolled(site: Site, visitor: Visitor) -> None:
    name = "long"
    if site.job(f"{name}-119") is None:
        for n in range(120):
            site.add(f"{name}-{n:03d}")
    page = visitor.page
    visitor.open(f"{site.ui}/jobs?search={name}-&sort=id")
    assert len(ids(page)) == 50
    for expected in (100, 120):
        page.locator("tr.more").scroll_into_view_if_needed()
        eventually(lambda expected=expected: len(ids(page)) == expected)
    assert ids(page) == [f"{name}-{n:03d}" for n in range(120)]


# On the page of a job


def test_a_job_is_paused_and_resumed_on_its_page(site: Site, visitor: Visitor, job_id: str) -> None:
    visitor.open(f"{site.ui}/job?id={job_id}")
    visitor.page.locator("#a-pause").click()
    visitor.page.locator("#a-resume").wait_for()
    assert site.job(job_id).next_run_time is None
    visitor.shoot("job-paused-now")
    visitor.page.locator("#a-resume").click()
    visitor.page.locator("#a-pause").wait_for()
    assert site.job(job_id).next_run_time is not None


def test_a_job_is_run_on_its_page_which_shows_the_run(site: Site, visitor: Visitor, job_id: str) -> None:
    visitor.open(f"{site.ui}/job?id={job_id}")
    visitor.page.locator("#a-run").click()
    visitor.page.wait_for_url("**/run?id=*")
    [run] = eventually(lambda: [run for run in site.runs(job_id) if run.final])
    assert visitor.page.url.endswith(run.run_id)
    assert (run.outcome, run.cause) == ("succeeded", "manual")


def test_a_job_is_removed_once_that_is_confirmed(site: Site, visitor: Visitor, job_id: str) -> None:
    visitor.open(f"{site.ui}/job?id={job_id}")
    visitor.page.locator("#a-remove").click()
    visitor.page.get_by_role("heading", name=f"Remove {job_id} for good?").wait_for()
    assert site.job(job_id) is not None
    visitor.page.locator("#confirm").click()
    visitor.page.get_by_text(f"{job_id} is removed.").wait_for()
    assert site.job(job_id) is None


def test_a_run_is_cancelled_and_run_again(site: Site, visitor: Visitor) -> None:
    job_id = site.add(f"long-{next(_numbers)}-run", "wait_long")
    handle = site.ask(site.scheduler.aio.run_job(job_id))
    visitor.open(f"{site.ui}/run?id={handle.run_id}")
    visitor.page.locator("#a-cancel").click()
    visitor.page.get_by_text("The run was asked to stop.").wait_for()
    assert eventually(lambda: site.runs(job_id)[0].outcome == "cancelled")
    visitor.open(f"{site.ui}/run?id={handle.run_id}")
    visitor.shoot("run-cancelled")
    visitor.page.locator("#a-again").click()
    visitor.page.locator("#a-cancel").wait_for()
    second = eventually(lambda: next((run for run in site.runs(job_id) if run.outcome == "running"), None))
    assert visitor.page.url.endswith(second.run_id)
    site.ask(site.scheduler.aio.cancel_run(second.run_id))
    assert eventually(lambda: [run.outcome for run in site.runs(job_id)] == ["cancelled", "cancelled"])


def test_a_job_is_run_with_other_arguments(site: Site, visitor: Visitor, job_id: str) -> None:
    page = visitor.page
    visitor.expect_status(400)
    visitor.open(f"{site.ui}/job?id={job_id}")
    page.get_by_role("link", name="Run with other arguments").click()
    page.locator("[name='a.customer']").fill("Umbrella")
    page.locator("[name='a.copies']").fill("two")
    page.locator("#save").click()
    page.locator("[id='problem-a.copies']").wait_for()
    visitor.shoot("run-with-wrong")
    assert site.runs(job_id) == []
    page.locator("[name='a.copies']").fill("2")
    page.locator("#save").click()
    page.wait_for_url("**/run?id=*")
    [run] = eventually(lambda: [run for run in site.runs(job_id) if run.final])
    assert site.ask(site.scheduler.aio.run(run.run_id)).result == "'Umbrella 2 False'"
    assert site.job(job_id).kwargs == {"customer": "ACME"}, "the job itself stays as it is"


# Forms


def test_trigger_and_arguments_of_a_job_are_changed(site: Site, visitor: Visitor, job_id: str) -> None:
    page = visitor.page
    visitor.open(f"{site.ui}/job/edit?id={job_id}")
    assert page.locator("[name='a.customer']").input_value() == "ACME"
    assert page.locator("[name='t.cron.hour']").input_value() == "2"
    page.locator("[name='a.customer']").fill("Umbrella")
    page.locator("[name='a.copies']").fill("3")
    page.locator("[name='a.dry_run']").select_option("true")
    page.get_by_label("Crontab line").check()
    page.locator("[name='t.crontab.expression']").fill("15 4 * * mon-fri")
    page.locator("#preview li", has_text="04:15:00 Europe/Berlin").nth(9).wait_for()
    visitor.shoot("edit-preview")
    page.locator("#save").click()
    page.get_by_text(f"{job_id} is changed.").wait_for()
    job = site.job(job_id)
    assert job.kwargs == {"customer": "Umbrella", "copies": 3, "dry_run": True}
    assert spec_of(job.trigger).to_dict()["expression"] == "15 4 * * mon-fri"
    assert (job.next_run_time.hour, job.next_run_time.minute) == (4, 15)


def test_what_is_saved_as_it_was_changes_nothing(site: Site, visitor: Visitor, job_id: str) -> None:
    before = site.job(job_id)
    visitor.open(f"{site.ui}/job/edit?id={job_id}")
    visitor.page.locator("#save").click()
    visitor.page.get_by_text(f"{job_id} is changed.").wait_for()
    after = site.job(job_id)
    assert (after.version, after.next_run_time, after.kwargs) == (before.version, before.next_run_time, before.kwargs)


def test_what_is_hard_to_show_comes_back_as_it_was(site: Site, visitor: Visitor, job_id: str) -> None:
    site.add(
        job_id,
        kwargs={"customer": "two\nlines"},
        description="\nfirst\n\n  third",
        tags=["a, b"],
        retry={"attempts": 3, "delay": 1209600, "jitter": 0.1234567},
    )
    before = site.job(job_id)
    visitor.open(f"{site.ui}/job/edit?id={job_id}")
    visitor.page.locator("#save").click()
    visitor.page.get_by_text(f"{job_id} is changed.").wait_for()
    after = site.job(job_id)
    assert (after.version, after.kwargs, after.policy) == (before.version, before.kwargs, before.policy)
    visitor.open(f"{site.ui}/job/start-with?id={job_id}")
    visitor.page.locator("#save").click()
    visitor.page.wait_for_url("**/run?id=*")
    [run] = eventually(lambda: [run for run in site.runs(job_id) if run.final])
    assert site.ask(site.scheduler.aio.run(run.run_id)).result == repr("two\nlines 1 False")


def test_arguments_that_are_taken_out_of_the_json_are_left_to_the_function(
    site: Site, visitor: Visitor, job_id: str
) -> None:
    site.add(job_id, kwargs={"customer": "two\nlines"})
    visitor.open(f"{site.ui}/job/edit?id={job_id}")
    visitor.page.locator("[name=args]").fill("")
    visitor.page.locator("[name=kwargs]").fill("")
    visitor.page.locator("#save").click()
    visitor.page.get_by_text(f"{job_id} is changed.").wait_for()
    assert (site.job(job_id).args, site.job(job_id).kwargs) == ((), {})


def test_a_form_leaves_open_what_a_waiting_job_leaves_to_the_scheduler(tmp_path: Path, visitor: Visitor) -> None:
    waiting = Site(tmp_path, sql=False, SCHEDULER_ALLOWED_HOSTS=["another"])
    try:
        waiting.add("job")
        visitor.open(f"{waiting.ui}/job/edit?id=job")
        visitor.page.locator("[name=name]").fill("Renamed")
        visitor.page.locator("#save").click()
        visitor.page.get_by_text("job is changed.").wait_for()
        job = waiting.job("job")
        assert (job.pending, job.name) == (True, "Renamed")
        assert not any(hasattr(job, name) for name in ("misfire_grace_time", "max_instances", "coalesce"))
    finally:
        visitor.page.goto("about:blank")
        waiting.close()


def test_a_form_says_beside_the_field_what_is_wrong(site: Site, visitor: Visitor, job_id: str) -> None:
    page = visitor.page
    visitor.expect_status(400)
    before = site.job(job_id)
    visitor.open(f"{site.ui}/job/edit?id={job_id}")
    page.locator("[name='a.copies']").fill("many")
    page.locator("[name='t.cron.hour']").fill("25")
    page.get_by_text("More options").click()
    page.locator("[name='o.timeout']").fill("-1")
    page.locator("#save").click()
    page.get_by_text("Nothing was saved. Wrong fields: 3.").wait_for()
    for name, words in (("a.copies", "expected JSON"), ("t.cron.hour", "maximum value (23)"), ("o.timeout", "above 0")):
        field = page.locator(f"[name='{name}']")
        assert field.get_attribute("aria-invalid") == "true"
        assert words in page.locator(f"[id='problem-{name}']").inner_text()
    assert page.locator("[name='a.copies']").input_value() == "many", "what was typed is kept"
    visitor.shoot("edit-wrong")
    assert site.job(job_id).version == before.version


def test_a_job_that_somebody_else_changed_meanwhile_is_not_overwritten(
    site: Site, visitor: Visitor, job_id: str
) -> None:
    visitor.expect_status(412)
    visitor.open(f"{site.ui}/job/edit?id={job_id}")
    site.ask(site.scheduler.aio.modify_job(job_id, name="By another"))
    visitor.page.locator("[name='name']").fill("Mine")
    visitor.page.locator("#save").click()
    visitor.page.get_by_text("Somebody has changed this job").wait_for()
    assert site.job(job_id).name == "By another"


def test_a_job_is_added(site: Site, visitor: Visitor) -> None:
    page = visitor.page
    job_id = f"added-{next(_numbers)}"
    visitor.open(f"{site.ui}/add")
    page.locator("select[name=func]").select_option("tests.dashboard.site:report")
    page.get_by_role("button", name="Continue").click()
    page.locator("[name='id']").fill(job_id)
    page.locator("[name='tags']").fill("new, month")
    page.locator("[name='a.month']").fill("3")
    page.locator("[name='a.sections']").fill('["sales", "costs"]')
    page.locator("[name='a.options']").fill('{"draft": true}')
    page.get_by_label("Cron fields").check()
    page.locator("[name='t.cron.hour']").fill("6")
    page.locator("[name='t.cron.timezone']").fill("America/New_York")
    page.locator("#preview li", has_text="06:00:00 America/New_York").nth(9).wait_for()
    page.get_by_text("More options").click()
    page.locator("[name='o.timeout']").fill("90")
    page.locator("[name='o.retry.attempts']").fill("3")
    visitor.shoot("add-filled")
    page.locator("#save").click()
    page.get_by_text(f"{job_id} is added.").wait_for()
    job = site.job(job_id)
    assert (job.args, job.kwargs) == ((3, "sales", "costs"), {"draft": True})
    assert (job.policy.timeout, job.policy.retry.attempts, job.policy.tags) == (90, 3, ("new", "month"))
    assert spec_of(job.trigger).to_dict()["timezone"] == "America/New_York"


def test_a_job_is_not_added_as_long_as_something_is_wrong(site: Site, visitor: Visitor, job_id: str) -> None:
    page = visitor.page
    visitor.expect_status(400)
    visitor.expect_status(409)
    visitor.open(f"{site.ui}/add?func=tests.dashboard.site:report")
    page.locator("[name='t.interval.minutes']").fill("")
    page.locator("#save").click()
    page.get_by_text("Nothing was saved.").wait_for()
    assert "is missing" in page.locator("#problem-id").inner_text()
    assert "is missing" in page.locator("[id='problem-a.month']").inner_text()
    assert "interval of nothing" in page.locator("[id='problem-t.interval.seconds']").inner_text()
    visitor.shoot("add-wrong")
    page.locator("[name='id']").fill(job_id)
    page.locator("[name='a.month']").fill("1")
    page.locator("[name='t.interval.minutes']").fill("5")
    page.locator("#save").click()
    page.locator("#problem-id").wait_for()
    assert "already exists" in page.locator("#problem-id").inner_text()
    assert site.job(job_id).func_ref.endswith("send_invoices")


# The scheduler


def test_the_scheduler_is_paused_and_resumed(site: Site, visitor: Visitor) -> None:
    page = visitor.page
    visitor.open(site.ui + "/")
    page.get_by_role("button", name="Pause the scheduler").click()
    page.get_by_text("no job fires until it is resumed").wait_for()
    assert site.ask(_paused(site))
    visitor.shoot("scheduler-paused")
    page.get_by_role("button", name="Resume the scheduler").click()
    page.get_by_role("button", name="Pause the scheduler").wait_for()
    assert not site.ask(_paused(site))


async def _paused(site: Site) -> bool:
    scheduler = site.scheduler.scheduler
    poll = await scheduler.call(lambda: scheduler.catalogue.slots["default"].store.poll(), blocking=True)
    return bool(poll.paused)


# By keyboard, and without script


def test_a_job_is_paused_by_keyboard_alone(site: Site, visitor: Visitor, job_id: str) -> None:
    page = visitor.page
    visitor.open(f"{site.ui}/job?id={job_id}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(30):
        if page.evaluate("document.activeElement.id") == "a-pause":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#a-resume").wait_for()
    assert site.job(job_id).next_run_time is None


def test_a_form_that_is_sent_twice_acts_once(site: Site, visitor: Visitor, job_id: str) -> None:
    page = visitor.page
    sent: list[str] = []
    page.on("request", lambda request: request.method == "POST" and sent.append(request.url.rpartition("/ui/")[2]))

    def twice(button: str) -> None:
        page.locator(button).wait_for()
        # Sought each time, for a part that is fetched anew has another one.
        page.evaluate(
            "button => { const press = () => document.querySelector(button)?.click();"
            " press(); setTimeout(press, 10); }",
            button,
        )

    visitor.open(f"{site.ui}/job?id={job_id}")
    twice("#a-run")
    page.get_by_text(f"{job_id} was started.").wait_for()
    added = f"added-{next(_numbers)}"
    visitor.open(f"{site.ui}/add?func=tests.dashboard.site:send_invoices")
    page.locator("[name='id']").fill(added)
    twice("#save")
    page.get_by_text(f"{added} is added.").wait_for()
    page.locator("#a-remove").click()
    twice("#confirm")
    page.get_by_text(f"{added} is removed.").wait_for()
    visitor.open(f"{site.ui}/jobs?search={job_id}")
    row(visitor, job_id).get_by_role("button", name="Run now").dblclick()
    page.get_by_text(f"{job_id} was started.").wait_for()
    assert sent == ["job/start", "add", "job/remove", "job/remove", "job/start"]
    assert len(site.runs(job_id)) == 2


def test_a_button_works_again_where_the_browser_has_opened_the_answer_elsewhere(
    site: Site, visitor: Visitor, job_id: str
) -> None:
    page = visitor.page
    page.clock.install()
    visitor.open(f"{site.ui}/job?id={job_id}")
    with visitor.context.expect_page() as opened:
        page.locator("#a-run").click(modifiers=["ControlOrMeta"])
    opened.value.get_by_text(f"{job_id} was started.").wait_for()
    opened.value.close()
    page.clock.run_for(5000)
    page.locator("#a-run").click()
    page.get_by_text(f"{job_id} was started.").wait_for()
    assert len(site.runs(job_id)) == 2


def test_a_button_works_again_where_its_answer_was_not_waited_for(site: Site, visitor: Visitor, job_id: str) -> None:
    page = visitor.page
    held: list[Any] = []

    def give_up(button: str) -> None:
        held.clear()
        page.route(re.compile("/job/pause|/jobs/bulk"), lambda route: held.append(route))
        # By the page itself, as it answers nobody else while it is about to be left.
        page.evaluate(
            "button => { setTimeout(() => document.querySelector(button).click()); setTimeout(() => stop(), 1000); }",
            button,
        )
        page.wait_for_timeout(1500)
        assert held
        page.unroute_all()

    def press(button: str) -> None:
        page.evaluate("button => { setTimeout(() => document.querySelector(button)?.click()); }", button)
        page.wait_for_timeout(200)

    visitor.open(f"{site.ui}/jobs?search={job_id}")
    row(visitor, job_id).get_by_role("checkbox").check()
    give_up("#bulk button[value=pause]")
    press("#bulk button[value=run]")
    page.locator("#confirm", has_text="Run now").wait_for()
    visitor.open(f"{site.ui}/job?id={job_id}")
    give_up("#a-pause")
    eventually(lambda: press("#a-pause") or page.locator("#a-resume").count())


def test_a_choice_with_the_arrow_keys_sends_no_form(site: Site, visitor: Visitor, job_id: str) -> None:
    page = visitor.page
    for path, name in (("/add", "func"), (f"/job?id={job_id}", "outcome"), (f"/job?id={job_id}", "theme")):
        visitor.open(site.ui + path)
        choice = page.locator(f"select[name={name}]")
        choice.focus()
        before = choice.input_value()
        page.keyboard.press("ArrowDown")
        page.wait_for_timeout(300)  # until the page would be another one
        assert choice.input_value() != before
        assert page.evaluate("document.activeElement.name") == name


def test_everything_works_without_script(site: Site, browser: Any, view: Any, job_id: str) -> None:
    visitor = Visitor(browser, view, "no script", java_script_enabled=False)
    page = visitor.page
    visitor.open(f"{site.ui}/jobs?search={job_id}")
    row(visitor, job_id).get_by_role("button", name="Pause").click()
    page.get_by_text(f"{job_id} is paused.").wait_for()
    assert site.job(job_id).next_run_time is None
    visitor.open(f"{site.ui}/job/edit?id={job_id}")
    page.locator("[name='t.cron.hour']").fill("7")
    page.get_by_role("button", name="Preview the fires").click()
    page.get_by_text("at 07:30").first.wait_for()
    assert spec_of(site.job(job_id).trigger).to_dict()["hour"] == "2"
    page.locator("#save").click()
    page.get_by_text(f"{job_id} is changed.").wait_for()
    assert spec_of(site.job(job_id).trigger).to_dict()["hour"] == "7"
    visitor.open(f"{site.ui}/add")
    page.locator("select[name=func]").select_option("tests.dashboard.site:report")
    page.get_by_role("button", name="Continue").click()
    page.locator("[name='a.month']").wait_for()
    visitor.close()
