"""Jobs that a process, or none, can load: kept, shown with the reason, left to those that can, and taken up again."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from quart_sched import APScheduler
from quart_sched.errors import InvalidDefinition
from quart_sched.stores.sql import loader
from quart_sched.stores.sql.loader import JobLoader

pytestmark = pytest.mark.integration  # there is a database in each

ran: list[str] = []
REASON = "func: 'deployed' has no 'report'"


async def job(name: str = "job") -> None:
    ran.append(name)


@pytest.fixture(autouse=True)
def _afresh(cluster: Any) -> None:
    ran.clear()
    # Much time passes here, and little happens.
    cluster.config["SCHEDULER_POLL_INTERVAL"] = 5


@pytest.fixture
def deployed() -> Iterator[types.ModuleType]:
    """A module with a job's function, as one version of the code has it."""
    module = types.ModuleType("deployed")
    vars(module)["ran"] = ran
    redeploy(module)
    sys.modules["deployed"] = module
    yield module
    del sys.modules["deployed"]


def redeploy(module: Any) -> None:
    """Put the function into the code."""
    exec("async def report(name='report'):\n    ran.append(name)", vars(module))


def at(clock: Any, seconds: float) -> datetime:
    moment: datetime = clock._origin + timedelta(seconds=seconds)
    return moment


async def add_report(process: Any, **options: Any) -> None:
    given = {"trigger": "interval", "seconds": 10, "misfire_grace_time": None} | options
    await process.aio.add_job("report", "deployed:report", **given)


def stored(cluster: Any, job_id: str = "report") -> tuple[Any, ...]:
    """Return whether the job is marked as broken for all, and its next fire in the books."""
    [row] = cluster.query("SELECT broken_us, next_us FROM {p}jobs WHERE id = :id", id=job_id)
    return row[0] is not None, row[1] is not None


def edit(cluster: Any, change: Callable[[dict[str, Any]], Any], job_id: str = "report") -> None:
    """Let newer code write the job's definition."""
    [(text,)] = cluster.query("SELECT definition FROM {p}jobs WHERE id = :id", id=job_id)
    definition = json.loads(text)
    change(definition)
    values = {"text": json.dumps(definition), "id": job_id}
    cluster.query("UPDATE {p}jobs SET definition = :text, version = version + 1 WHERE id = :id", **values)


# A function that is gone


async def test_a_job_whose_function_is_gone_is_kept_and_shown_with_the_reason_and_the_others_run(cluster, deployed):
    one = await cluster.start()
    await add_report(one, args=["x"], name="Report", max_instances=3)
    await one.aio.add_job("other", job, trigger="interval", seconds=10)
    before = await one.job("report")
    del deployed.report
    one = await cluster.restart(one)
    await cluster.advance(25)
    shown = await one.job("report")
    assert (shown["state"], shown["broken"]) == ("broken", REASON)
    for key in before.keys() - {"state", "next_run_time"}:
        assert shown[key] == before[key], key
    assert (shown["trigger"], shown["trigger_description"]) == ("interval", "every 10 seconds")
    told = await one.aio.explain("report", at(cluster.clock, 10))
    assert (told.verdict, "broken" in told.description) == ("broken", True)
    assert sorted(await one.ids()) == ["other", "report"]
    assert ran == ["job", "job"]
    assert stored(cluster) == (False, True)


async def test_a_module_that_cannot_be_imported_is_a_reason_too(cluster, deployed, monkeypatch):
    one = await cluster.start()
    await add_report(one)
    monkeypatch.setitem(sys.modules, "deployed", None)
    one = await cluster.restart(one)
    await cluster.advance(10)
    assert "cannot import 'deployed'" in (await one.job("report"))["broken"]


async def test_after_a_minute_it_is_marked_as_broken_for_all_and_said_so_once(cluster, deployed, caplog):
    one = await cluster.start()
    await add_report(one)
    del deployed.report
    one = await cluster.restart(one)
    await cluster.advance(69)
    assert stored(cluster) == (False, True)
    await cluster.advance(40)
    assert stored(cluster) == (True, False)
    assert caplog.text.count(f'Job "report" is broken and does not run: {REASON}') == 1
    two = await cluster.start()
    for process in (one, two):
        shown = await process.job("report")
        assert (shown["state"], shown["broken"], shown["next_run_time"]) == ("broken", REASON, None)
    await cluster.advance(60)
    assert caplog.text.count("is broken and does not run") == 1
    assert [action for (action,) in cluster.query("SELECT action FROM {p}changes ORDER BY id")] == ["add", "broken"]


async def test_what_nobody_may_claim_is_not_marked(cluster, deployed):
    one = await cluster.start()
    await add_report(one)
    del deployed.report
    one = await cluster.restart(one)
    await cluster.advance(9)
    await one.aio.pause()
    await cluster.advance(300)
    assert stored(cluster) == (False, True), "paused, it says nothing about who could load it"
    await one.aio.resume()
    await cluster.advance(50)
    assert stored(cluster) == (False, True)
    await cluster.advance(60)
    assert stored(cluster) == (True, False)


async def test_it_is_said_at_once_and_once_why_due_jobs_do_not_run(cluster, deployed, caplog):
    one = await cluster.start()
    await add_report(one)
    await one.aio.add_job("again", "deployed:report", trigger="interval", seconds=10)
    del deployed.report
    one = await cluster.restart(one)
    await cluster.advance(9)
    assert "cannot run" not in caplog.text
    await cluster.advance(16)
    said = [record for record in caplog.records if "cannot run" in record.message]
    assert [(record.levelname, REASON in record.message) for record in said] == [("ERROR", True)]
    assert "as 1 more, is due, and this process cannot run it" in said[0].message
    await cluster.advance(100)
    assert caplog.text.count("cannot run") == 1


async def test_it_comes_back_by_itself_when_the_code_can_load_it_and_its_fires_are_accounted_for(
    cluster, clock, deployed
):
    one = await cluster.start()
    await add_report(one, seconds=11, misfire_grace_time=1)
    await cluster.advance(11)
    del deployed.report
    one = await cluster.restart(one, SCHEDULER_POLL_INTERVAL=1)
    await cluster.advance(111)
    assert stored(cluster)[0]
    redeploy(deployed)
    await cluster.advance(40)
    assert (stored(cluster), (await one.job("report"))["state"]) == ((False, True), "scheduled")
    records = await one.records("report")
    assert [record.outcome for record in records[:2]] == ["succeeded", "missed"]
    lapse, after = records[1], records[2:]
    assert (lapse.first_scheduled_at, lapse.scheduled_at, lapse.fires) == (at(clock, 22), at(clock, 121), 10)
    assert [(record.outcome, record.scheduled_at) for record in after] == [
        ("succeeded", at(clock, seconds)) for seconds in (132, 143, 154)
    ]
    assert len(ran) == 4


async def test_it_comes_back_before_it_is_marked_when_the_code_can_load_it(cluster, deployed):
    one = await cluster.start()
    await add_report(one)
    del deployed.report
    one = await cluster.restart(one)
    await cluster.advance(15)
    redeploy(deployed)
    await cluster.advance(30)
    assert len(ran) > 0
    assert await one.outcomes("report") == ["coalesced", *["succeeded"] * len(ran)]


async def test_new_code_takes_it_up_at_its_start(cluster, deployed):
    one = await cluster.start()
    await add_report(one)
    del deployed.report
    one = await cluster.restart(one)
    await cluster.advance(120)
    assert stored(cluster)[0]
    redeploy(deployed)
    await cluster.restart(one)
    await cluster.advance(1)
    assert (stored(cluster), len(ran)) == ((False, True), 1)


async def test_a_broken_job_can_be_paused_and_stays_so_when_it_is_whole_again(cluster, deployed):
    one = await cluster.start()
    await add_report(one)
    del deployed.report
    one = await cluster.restart(one)
    await cluster.advance(120)
    status, shown = await one.rest("POST", "/jobs/report/pause")
    assert (status, shown["state"], bool(shown["paused_by"])) == (200, "broken", True)
    redeploy(deployed)
    one = await cluster.restart(one)
    await cluster.advance(20)
    shown = await one.job("report")
    assert (shown["state"], bool(shown["paused_by"]), ran) == ("paused", True, [])
    await one.aio.resume_job("report")
    await cluster.advance(10)
    assert len(ran) > 0


# What waits of a job whose function is gone


RETRIED = {"retry": {"attempts": 5, "delay": 60}}
DAY = 86_400


@pytest.fixture
def failing(deployed: types.ModuleType) -> types.ModuleType:
    """The same module, whose function fails."""
    exec("async def report():\n    raise ValueError('not yet')", vars(deployed))
    return deployed


async def test_a_job_of_which_only_a_retry_is_due_is_marked_too_and_comes_back(cluster, failing, caplog):
    one = await cluster.start()
    await add_report(one, seconds=3600, start_date=at(cluster.clock, 10), **RETRIED)
    await cluster.advance(11)
    await one.aio.pause_job("report")
    del failing.report
    one = await cluster.restart(one)
    await cluster.advance(70)
    assert "is due, and this process cannot run it: " + REASON in caplog.text
    assert stored(cluster) == (False, False)
    await cluster.advance(120)
    assert stored(cluster) == (True, False)
    redeploy(failing)
    await cluster.advance(40)
    assert (await one.outcomes("report"), stored(cluster)) == (["failed", "succeeded"], (False, False))
    assert (await one.aio.resume_job("report")).next_run_time == at(cluster.clock, 3610)


async def test_what_waits_of_a_job_that_is_over_is_said_so_and_comes_back(cluster, failing, caplog):
    one = await cluster.start()
    await one.aio.add_job("report", "deployed:report", trigger="date", run_date=at(cluster.clock, 10), **RETRIED)
    await cluster.advance(11)
    del failing.report
    one = await cluster.restart(one)
    await cluster.advance(70)
    await cluster.jump(3600)
    await cluster.advance(100)
    assert caplog.text.count("is due, and this process cannot run it: " + REASON) == 1
    redeploy(failing)
    await cluster.advance(40)
    assert await one.outcomes("report") == ["failed", "succeeded"]


@pytest.mark.parametrize("over", ["ended", "pruned"])
async def test_what_has_waited_for_a_day_of_a_job_that_is_over_is_given_up(cluster, failing, caplog, over):
    trigger = {"trigger": "date", "run_date": at(cluster.clock, 10)}
    if over == "pruned":
        trigger = {"trigger": "interval", "hours": 1, "start_date": at(cluster.clock, 10)}
    job = {"id": "report", "func": "deployed:report", **trigger, **RETRIED}
    one = await cluster.start((lambda scheduler: scheduler.add_job(**job)) if over == "pruned" else None)
    if over == "ended":
        await one.aio.add_job(**job)
    await cluster.advance(11)
    del failing.report
    one = await cluster.restart(one)
    await cluster.advance(100)
    await cluster.jump(DAY - 100)
    assert await one.outcomes("report") == ["failed", "retry_wait"]
    heard = []
    one.scheduler.add_listener(heard.append)
    await cluster.advance(200)
    _, last = await one.records("report")
    told = f"Its job could not be run: {REASON}"
    assert (last.outcome, last.final, last.error_type, last.error_message) == ("cancelled", True, "JobBroken", told)
    assert f'A run of job "report" is given up. {told}' in caplog.text
    await cluster.jump(DAY)
    await cluster.advance(100)
    assert cluster.query("SELECT id FROM {p}jobs") == ([] if over == "ended" else [("report",)])
    assert cluster.query("SELECT run_id FROM {p}live") == []


@pytest.mark.parametrize("seconds", [15, 120], ids=["here", "for-all"])
async def test_a_broken_job_can_be_removed_and_not_resumed_run_or_changed(cluster, deployed, seconds):
    one = await cluster.start()
    await add_report(one)
    del deployed.report
    one = await cluster.restart(one)
    await cluster.advance(seconds)
    for method, path in (("POST", "/run"), ("POST", "/resume"), ("PATCH", "")):
        status, answer = await one.rest(method, f"/jobs/report{path}", **({"json": {"name": "x"}} if not path else {}))
        assert (status, REASON in answer["error_message"]) == (400, True)
    with pytest.raises(InvalidDefinition, match="is broken"):
        await one.aio.run_job("report")
    assert (await one.rest("DELETE", "/jobs/report"))[0] == 204
    assert await one.ids() == []


async def test_what_is_shown_of_a_broken_job_can_be_replaced_by_a_whole_one(cluster, deployed):
    one = await cluster.start()
    await add_report(one)
    await add_report(one, replace_existing=True)
    del deployed.report
    one = await cluster.restart(one)
    await cluster.advance(120)
    await one.aio.add_job("report", job, trigger="interval", seconds=10, replace_existing=True)
    await cluster.advance(10)
    assert ((await one.job("report"))["state"], ran) == ("scheduled", ["job"])


async def test_a_paused_job_stays_paused_when_it_is_replaced_while_it_is_broken(cluster, deployed):
    one = await cluster.start()
    await add_report(one)
    await one.aio.pause_job("report")
    del deployed.report
    one = await cluster.restart(one)
    await one.aio.add_job("report", job, trigger="interval", seconds=10, replace_existing=True)
    assert (await one.job("report"))["state"] == "paused"


async def test_broken_jobs_do_not_fill_the_claims(cluster, deployed):
    one = await cluster.start()
    for number in range(120):
        await one.aio.add_job(f"report-{number}", "deployed:report", trigger="interval", seconds=5)
    edit_all = "UPDATE {p}jobs SET definition = REPLACE(definition, :old, :new) WHERE id LIKE 'report-1%'"
    cluster.query(edit_all, old='"executor":"default"', new='"executor":"absent"')
    await one.aio.add_job("last", job, trigger="interval", seconds=7)
    del deployed.report
    one = await cluster.restart(one)
    await cluster.advance(7)
    assert ran == ["job"]
    assert [record.scheduled_at for record in await one.records("last")] == [at(cluster.clock, 7)]


# Old and new code at once


@pytest.fixture
def fails_in(monkeypatch: pytest.MonkeyPatch) -> set[Any]:
    """The processes whose code lacks the module `deployed`."""
    without: set[Any] = set()
    learn, load = JobLoader.learn, JobLoader.load
    resolve = loader.resolve
    current: list[Any] = []

    def failing(ref: str) -> Any:
        if ref.startswith("deployed:") and current[-1] in without:
            raise InvalidDefinition("func", "'deployed' is not in this code")
        return resolve(ref)

    def within(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: JobLoader, *args: Any) -> Any:
            current.append(self._scheduler)
            try:
                return method(self, *args)
            finally:
                current.pop()

        return call

    monkeypatch.setattr(loader, "resolve", failing)
    monkeypatch.setattr(JobLoader, "learn", within(learn))
    monkeypatch.setattr(JobLoader, "load", within(load))
    return without


async def test_in_a_rolling_deploy_the_new_code_runs_what_the_old_cannot_load(cluster, deployed, fails_in, caplog):
    old, new = await cluster.start(), await cluster.start()
    fails_in.add(old.scheduler.scheduler)
    await add_report(new)
    for process in (old, new):
        await process.aio.add_job(f"job-{id(process)}", job, trigger="interval", seconds=10)
    await cluster.advance(205)
    assert (ran.count("report"), ran.count("job")) == (20, 40)
    assert stored(cluster) == (False, True)
    assert (await new.job("report"))["state"] == "scheduled"
    assert set(await new.outcomes("report")) == {"succeeded"}
    assert "cannot run" not in caplog.text
    assert [action for (action,) in cluster.query("SELECT action FROM {p}changes")] == ["add"] * 3


async def test_in_a_rolling_deploy_new_code_that_comes_late_still_gets_the_job(cluster, deployed, fails_in):
    old = await cluster.start()
    await add_report(old)
    fails_in.add(old.scheduler.scheduler)
    old.slot.store.loader._good.clear()
    await cluster.advance(45)
    assert (ran, stored(cluster)) == ([], (False, True))
    new = await cluster.start()
    await cluster.advance(60)
    assert ran.count("report") > 0
    assert stored(cluster) == (False, True)
    assert set(await new.outcomes("report")) == {"coalesced", "succeeded"}


# Definitions of newer code


def newer_trigger(definition: dict[str, Any]) -> None:
    definition["trigger"] = {"trigger": "lunar", "phase": "full"}


def newer_option(definition: dict[str, Any]) -> None:
    definition["priority"] = 5


def newer_argument(definition: dict[str, Any]) -> None:
    definition["args"] = [{"$complex": [1, 2]}]


def another_executor(definition: dict[str, Any]) -> None:
    definition["executor"] = "gpu"


NEWER = [
    (newer_trigger, "lunar"),
    (newer_option, "priority: stands in the stored job and is not known here: newer code has written it"),
    (newer_argument, "$complex"),
    (another_executor, 'there is no executor "gpu"'),
]
UNKNOWN = ("unknown", "unknown")
EVERY_10_S = ("interval", "every 10 seconds")


@pytest.mark.parametrize(("change", "reason"), NEWER, ids=[change.__name__ for change, _ in NEWER])
async def test_what_newer_code_has_written_is_kept_shown_and_marked_and_comes_back(
    cluster, deployed, caplog, change, reason
):
    one = await cluster.start()
    await add_report(one)
    await one.aio.add_job("other", job, trigger="interval", seconds=10)
    [(text,)] = cluster.query("SELECT definition FROM {p}jobs WHERE id = 'report'")
    edit(cluster, change)
    await cluster.advance(15)
    shown = await one.job("report")
    assert (shown["state"], reason in shown["broken"]) == ("broken", True)
    known = UNKNOWN if change is newer_trigger else EVERY_10_S
    assert (shown["trigger"], shown["trigger_description"]) == known
    assert stored(cluster) == (False, True)
    await cluster.advance(90)
    assert stored(cluster) == (True, False)
    assert caplog.text.count('Job "report" is broken and does not run') == 1
    assert ran == ["job"] * 10
    await cluster.advance(90)
    assert stored(cluster) == (True, False)
    assert caplog.text.count('Job "report" is broken and does not run') == 1
    cluster.query("UPDATE {p}jobs SET definition = :text, version = version + 1 WHERE id = 'report'", text=text)
    await cluster.advance(35)
    assert stored(cluster) == (False, True)
    assert "report" in ran


@pytest.mark.parametrize("definition", ["", "no json", "[]", "{}", '{"name": 5}'], ids=repr)
async def test_a_definition_that_is_damaged_is_kept_and_the_job_can_be_removed(cluster, deployed, definition):
    one = await cluster.start()
    await add_report(one)
    await one.aio.add_job("other", job, trigger="interval", seconds=10)
    cluster.query("UPDATE {p}jobs SET definition = :text, version = 2 WHERE id = 'report'", text=definition)
    await cluster.advance(120)
    shown = await one.job("report")
    assert (shown["state"], shown["id"], shown["func"]) == ("broken", "report", "deployed:report")
    assert ran == ["job"] * 12
    entries = (await one.aio.job_page()).items
    assert [(entry.id, entry.state) for entry, _ in entries] == [("other", "scheduled"), ("report", "broken")]
    assert (await one.rest("DELETE", "/jobs/report"))[0] == 204


async def test_a_job_for_an_executor_that_another_process_has_runs_there(cluster):
    executors = {"gpu": {"type": "threadpool", "max_workers": 1}}
    one = await cluster.start()
    two = await cluster.start(SCHEDULER_EXECUTORS=executors)
    await two.aio.add_job("job", job, trigger="interval", seconds=10, executor="gpu")
    await cluster.advance(105)
    assert ran == ["job"] * 10
    assert stored(cluster, "job") == (False, True)
    assert (await one.rest("POST", "/jobs/job/run"))[0] == 400
    assert (await two.rest("POST", "/jobs/job/run"))[0] == 200


async def test_a_job_whose_executor_is_changed_to_one_that_is_there_runs_at_once(cluster, deployed):
    one = await cluster.start()
    await add_report(one)
    edit(cluster, another_executor)
    await cluster.advance(15)
    assert ran == []
    status, shown = await one.rest("PATCH", "/jobs/report", json={"executor": "default"})
    assert (status, shown["state"]) == (200, "scheduled")
    await cluster.advance(1)
    assert ran == ["report"]


# A trigger that raises


class Raises(Exception):
    pass


@pytest.fixture
def failing_plan(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The ids of jobs whose trigger raises."""
    from quart_sched.engine import rounds

    failing: set[str] = set()
    plan = rounds.plan

    def planning(job: Any, now: datetime, **options: Any) -> Any:
        if job.id in failing:
            raise Raises("no idea\0")
        return plan(job, now, **options)

    monkeypatch.setattr(rounds, "plan", planning)
    return failing


async def test_a_job_whose_trigger_raises_is_marked_at_once_and_gets_another_chance_at_a_start(
    cluster, failing_plan, caplog
):
    one = await cluster.start()
    for job_id in ("bad", "good"):
        await one.aio.add_job(job_id, job, args=[job_id], trigger="interval", seconds=10)
    failing_plan.add("bad")
    await cluster.advance(50)
    shown = await one.job("bad")
    assert shown["version"] == 2
    assert (shown["state"], shown["broken"][:36]) == (
        "broken",
        "its trigger raised Raises: no idea\N{REPLACEMENT CHARACTER}",
    )
    assert caplog.text.count('Job "bad" is broken and does not run: its trigger raised Raises: no idea') == 1
    assert ran == ["good"] * 5
    failing_plan.clear()
    await cluster.advance(40)
    assert "bad" not in ran
    await cluster.restart(one)
    await cluster.advance(10)
    assert "bad" in ran


async def test_another_trigger_mends_a_job_whose_trigger_raised(cluster, failing_plan):
    one = await cluster.start()
    await one.aio.add_job("bad", job, trigger="interval", seconds=10)
    failing_plan.add("bad")
    await cluster.advance(10)
    failing_plan.clear()
    assert (await one.job("bad"))["state"] == "broken"
    status, shown = await one.rest("PATCH", "/jobs/bad", json={"trigger": "interval", "seconds": 5})
    assert (status, shown["state"]) == (200, "scheduled")
    await cluster.advance(5)
    assert ran == ["job"]


async def test_a_change_of_a_broken_job_that_leaves_its_trigger_is_no_pause(cluster, failing_plan):
    one = await cluster.start()
    await one.aio.add_job("bad", job, trigger="interval", seconds=10)
    failing_plan.add("bad")
    await cluster.advance(10)
    failing_plan.clear()
    status, shown = await one.rest("PATCH", "/jobs/bad", json={"name": "New"})
    assert (status, shown["state"], shown["paused_by"]) == (200, "broken", None)
    one = await cluster.restart(one)
    await cluster.advance(10)
    assert ((await one.job("bad"))["state"], len(ran) > 0) == ("scheduled", True)


# Declared jobs


async def test_a_declared_job_that_old_code_cannot_load_is_left_to_the_new(cluster, deployed, fails_in):
    def declare(scheduler: APScheduler) -> None:
        scheduler.add_job("report", "deployed:report", trigger="interval", seconds=10)

    old = await cluster.start()
    fails_in.add(old.scheduler.scheduler)
    await cluster.advance(1)
    new = await cluster.start(declare)
    await cluster.advance(105)
    assert ran == ["report"] * 10
    assert (stored(cluster), (await new.job("report"))["source"]) == ((False, True), "declared")
    await cluster.stop(new)
    assert (await old.job("report"))["paused_by"] == "prune"
