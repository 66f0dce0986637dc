"""Job definitions: parsed at the edge, wrong input named, and shown as the API shows them."""

from __future__ import annotations

import copy
import functools
import json
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from quart_sched import Scheduler
from quart_sched.errors import InvalidDefinition
from quart_sched.model.jobs import (
    READ_ONLY,
    UNSET,
    JobChanges,
    JobDefinition,
    ScheduledJob,
    from_wire,
    positive_int,
    state_of,
    to_wire,
)
from quart_sched.model.policies import Policy
from quart_sched.model.triggers import Cron, Date, Interval
from tests.names import shown

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SCHEDULER = Scheduler(timezone="UTC")


async def tick(count: int = 1, *, loud: bool = False) -> None: ...


def generator():
    yield


BASE: dict[str, Any] = {"id": "job", "func": tick, "trigger": "interval", "seconds": 5}


def parse(**options: Any) -> JobDefinition:
    return JobDefinition.parse({**BASE, **options})


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in BASE.items() if name != key}


# Definitions


def test_what_was_left_out_stays_open() -> None:
    definition = parse()
    assert (definition.id, definition.func, definition.trigger) == ("job", tick, Interval(timedelta(seconds=5)))
    assert (definition.args, definition.kwargs) == ((), {})
    assert (definition.executor, definition.jobstore, definition.replace_existing) == ("default", "default", False)
    assert definition.policy == Policy()
    for option in ("misfire_grace_time", "coalesce", "max_instances", "next_run_time"):
        assert getattr(definition, option) is UNSET
    assert repr(UNSET) == "<unset>"


def test_every_option_is_read() -> None:
    definition = parse(
        name="a name",
        args=[3],
        kwargs={"loud": True},
        misfire_grace_time=30,
        coalesce=False,
        max_instances=4,
        next_run_time=NOW,
        on_crash="rerun",
        executor="pool",
        jobstore="second",
        replace_existing=True,
    )
    assert (definition.name, definition.args, definition.kwargs) == ("a name", (3,), {"loud": True})
    assert (definition.misfire_grace_time, definition.coalesce, definition.max_instances) == (30, False, 4)
    assert (definition.next_run_time, definition.executor, definition.jobstore) == (NOW, "pool", "second")
    assert definition.policy.on_crash == "rerun"
    assert definition.replace_existing


def test_none_is_a_value_of_its_own() -> None:
    definition = parse(misfire_grace_time=None, next_run_time=None, args=None, kwargs=None)
    assert (definition.misfire_grace_time, definition.next_run_time) == (None, None)
    assert (definition.args, definition.kwargs) == ((), {})


def test_a_definition_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        parse().name = "other"  # type: ignore[misc]  # that is what is tested


def test_what_is_parsed_stays_as_it_was() -> None:
    data = {**without("seconds"), "trigger": {"type": "interval", "seconds": 5}, "args": [1], "kwargs": {"loud": True}}
    before = copy.deepcopy(data)
    definition = JobDefinition.parse(data)
    definition.kwargs["loud"] = False
    assert data == before


def test_a_job_without_a_name_has_its_id_or_its_functions() -> None:
    assert parse().name == "job"
    assert parse(name=None).name == "job"
    assert JobDefinition.parse(BASE, named_after="func").name is None
    assert JobDefinition.parse({**BASE, "name": "given"}, named_after="func").name == "given"


@pytest.mark.parametrize("func", [tick, "json:dumps", functools.partial(tick, 1), lambda: None, print], ids=shown)
def test_a_function_may_be_any_callable_or_a_reference(func: Any) -> None:
    args = (1,) if func == "json:dumps" else ()
    assert parse(func=func, args=args).func is (json.dumps if isinstance(func, str) else func)


@pytest.mark.parametrize("args", [[1], (1,), {1}, iter([1])], ids=shown)
def test_positional_arguments_may_be_any_collection(args: Any) -> None:
    assert parse(args=args).args == (1,)


# Triggers


def test_a_job_without_a_trigger_runs_once_at_once() -> None:
    assert JobDefinition.parse({"id": "job", "func": tick}).trigger == Date()


def test_a_run_date_alone_is_a_date_trigger() -> None:
    definition = JobDefinition.parse({"id": "job", "func": tick, "run_date": NOW})
    assert definition.trigger == Date(NOW)


def test_the_older_form_of_a_trigger_as_a_dict_is_still_read() -> None:
    definition = JobDefinition.parse({"id": "job", "func": tick, "trigger": {"type": "cron", "hour": 3}})
    assert definition.trigger == Cron(hour="3")
    assert JobDefinition.parse({"id": "job", "func": tick, "trigger": {"run_date": NOW}}).trigger == Date(NOW)


def test_a_trigger_object_is_taken_with_what_it_holds() -> None:
    trigger = IntervalTrigger(seconds=7, start_date=NOW, timezone=UTC)
    definition = JobDefinition.parse({"id": "job", "func": tick, "trigger": trigger})
    assert definition.trigger == Interval(timedelta(seconds=7), start_date=NOW, timezone=UTC)


@pytest.mark.parametrize(
    ("options", "field", "problem"),
    [
        ({"trigger": None, "seconds": 5}, "seconds", "is a field of a trigger, but no 'trigger' is given"),
        ({"trigger": "rocket"}, "trigger", "is 'rocket'; expected one of date, interval"),
        ({"trigger": 5}, "trigger", "is 5; expected one of"),
        ({"secnods": 5}, "secnods", "is not known; did you mean 'seconds'?"),
        ({"max_instance": 5}, "max_instance", "is not known; did you mean 'max_instances'?"),
        ({"qqqq": 5}, "qqqq", "is not known"),
        ({"hour": 5}, "hour", "is no field of the trigger 'interval'"),
        ({"seconds": "often"}, "seconds", "is 'often'"),
        ({"trigger": CronTrigger(timezone=UTC)}, "seconds", "cannot be given beside a trigger object"),
    ],
    ids=shown,
)
def test_a_wrong_trigger_is_named(options: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        JobDefinition.parse({**BASE, **options})
    assert caught.value.field == field
    assert problem in str(caught.value)


# Wrong values

WRONG = [
    ("id", None, "is None; expected a non-empty string"),
    ("id", "", "is ''; expected a non-empty string"),
    ("id", 5, "is 5; expected a non-empty string"),
    ("func", None, "is None; expected a callable or 'module:name'"),
    ("func", 5, "is 5; expected a callable or 'module:name'"),
    ("func", "json", "is no reference; expected 'module:name'"),
    ("func", generator, "is a generator function"),
    ("name", "", "expected a non-empty string"),
    ("name", 5, "expected a non-empty string"),
    ("args", "abc", "is 'abc'; expected a list of positional arguments"),
    ("args", b"abc", "expected a list of positional arguments"),
    ("args", {"a": 1}, "expected a list of positional arguments"),
    ("args", 5, "is 5; expected a list of positional arguments"),
    ("args", [1, 2, 3], "do not fit"),
    ("kwargs", [1], "is [1]; expected keyword arguments by name"),
    ("kwargs", {5: 1}, "expected keyword arguments by name"),
    ("misfire_grace_time", 0, "is 0; expected whole seconds of at least 1, or null for no limit"),
    ("misfire_grace_time", 1.5, "expected whole seconds"),
    ("misfire_grace_time", "5", "expected whole seconds"),
    ("misfire_grace_time", True, "expected whole seconds"),
    ("coalesce", 1, "is 1; expected true or false"),
    ("coalesce", None, "is None; expected true or false"),
    ("max_instances", 0, "is 0; expected a whole number of at least 1"),
    ("max_instances", None, "expected a whole number of at least 1"),
    ("max_instances", 10**9 + 1, "expected a whole number of at least 1"),
    ("next_run_time", "someday", "is 'someday'"),
    ("next_run_time", 5, "is 5"),
    ("next_run_time", "9999-12-31T23:59:59Z", "is 9999-12-31T23:59:59+00:00, out of range in some time zones"),
    ("next_run_time", "0001-01-01T00:00:00+14:00", "out of range in some time zones"),
    ("on_crash", "x", "is 'x'; expected 'lost' or 'rerun'"),
    ("on_crash", None, "is None; expected 'lost' or 'rerun'"),
    ("on_crash", True, "is True; expected 'lost' or 'rerun'"),
    ("on_crash", ["lost"], "is ['lost']; expected 'lost' or 'rerun'"),
    ("executor", None, "expected a non-empty string"),
    ("jobstore", 5, "expected a non-empty string"),
    ("replace_existing", "yes", "is 'yes'; expected true or false"),
]


@pytest.mark.parametrize(("key", "value", "problem"), WRONG, ids=lambda value: shown(value)[:30])
def test_a_wrong_value_names_the_key_the_value_and_what_was_expected(key: str, value: Any, problem: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        parse(**{key: value})
    assert caught.value.field == key
    assert problem in str(caught.value)
    assert caught.value.status == 400


def test_arguments_that_do_not_fit_the_function_are_refused() -> None:
    with pytest.raises(InvalidDefinition, match=r"args: do not fit .*:tick: .*quiet"):
        parse(kwargs={"quiet": True})


@pytest.mark.parametrize("key", ["id", "func"])
def test_a_job_needs_an_id_and_a_function(key: str) -> None:
    with pytest.raises(InvalidDefinition, match=f"{key}: is missing; expected"):
        JobDefinition.parse(without(key))


def test_numbers_are_bounded_on_both_sides() -> None:
    assert positive_int("key", 1) == 1
    assert positive_int("key", 10**9) == 10**9
    assert repr(positive_int("key", 2.0)) == "2"  # JSON does not tell them apart
    for wrong in (0, 10**9 + 1, 1.5, True, "1", None):
        with pytest.raises(InvalidDefinition, match="key: is"):
            positive_int("key", wrong)


# Changes


def test_only_what_is_given_changes() -> None:
    changes = JobChanges.parse("job", {"name": "new", "misfire_grace_time": None})
    assert (changes.trigger, changes.fields) == (None, {"name": "new", "misfire_grace_time": None})
    assert JobChanges.parse("job", {}) == JobChanges()


def test_a_change_may_bring_a_trigger_and_a_function() -> None:
    changes = JobChanges.parse("job", {"trigger": "interval", "seconds": 7, "func": "json:dumps"})
    assert changes.trigger == Interval(timedelta(seconds=7))
    assert changes.fields == {"func": json.dumps}
    assert JobChanges.parse("job", {"func": tick}).fields == {"func": tick}
    assert JobChanges.parse("job", {"on_crash": "rerun"}).fields == {"on_crash": "rerun"}


def test_the_id_among_the_changes_must_be_the_jobs_own() -> None:
    assert JobChanges.parse("job", {"id": "job", "name": "new"}).fields == {"name": "new"}
    with pytest.raises(InvalidDefinition, match="id: is 'other', but the job is 'job' and an id cannot be changed"):
        JobChanges.parse("job", {"id": "other"})


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"func": 5}, "func", "is 5; expected a callable or 'module:name'"),
        ({"func": "json:nothing"}, "func", "has no 'nothing'"),
        ({"jobstore": "second"}, "jobstore", "is not known"),
        ({"replace_existing": True}, "replace_existing", "is not known"),
        ({"seconds": 5}, "seconds", "no 'trigger' is given"),
        ({"coalesce": "no"}, "coalesce", "expected true or false"),
        ({"on_crash": "no"}, "on_crash", "expected 'lost' or 'rerun'"),
    ],
    ids=shown,
)
def test_a_wrong_change_is_named(changes: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        JobChanges.parse("job", changes)
    assert caught.value.field == field
    assert problem in str(caught.value)


# On the wire


def make(trigger: BaseTrigger, *, cls: type = ScheduledJob, jobstore: str | None = "default", **options: Any) -> Any:
    given: dict[str, Any] = {
        "id": "job",
        "func": tick,
        "args": (1,),
        "kwargs": {"loud": True},
        "misfire_grace_time": 1,
        "coalesce": True,
        "max_instances": 1,
        "executor": "default",
        "next_run_time": NOW,
    }
    job = cls(SCHEDULER, trigger=trigger, **{**given, **options})
    job._jobstore_alias = jobstore
    return job


def every(seconds: int) -> IntervalTrigger:
    return IntervalTrigger(seconds=seconds, start_date=NOW, timezone=UTC)


def test_a_job_is_shown_with_flask_apschedulers_keys_in_its_order_then_ours() -> None:
    shown = to_wire(make(every(5), name="a name"))
    assert list(shown) == [
        *("id", "name", "func", "args", "kwargs", "trigger", "start_date", "seconds", "timezone"),
        *("misfire_grace_time", "max_instances", "next_run_time", "coalesce", "run_on_start", "overlap"),
        *("max_queue", "on_crash", "timeout", "retry", "overdue_after", "description", "tags", "executor", "jobstore"),
        *("trigger_description", "state"),
    ]
    assert (shown["id"], shown["name"], shown["func"]) == ("job", "a name", f"{__name__}:tick")
    assert (shown["args"], shown["kwargs"]) == ([1], {"loud": True})
    assert (shown["trigger"], shown["seconds"], shown["timezone"]) == ("interval", 5, "UTC")
    assert (shown["next_run_time"], shown["state"], shown["jobstore"]) == (NOW.isoformat(), "scheduled", "default")
    assert json.loads(json.dumps(shown)) == shown


def test_a_paused_job_has_no_next_run_time() -> None:
    shown = to_wire(make(every(5), next_run_time=None))
    assert (shown["next_run_time"], shown["state"]) == (None, "paused")


def test_a_pending_job_leaves_out_what_is_still_open() -> None:
    shown = to_wire(make(every(5), jobstore=None))
    assert not shown.keys() & {"misfire_grace_time", "max_instances", "next_run_time", "coalesce"}
    assert (shown["state"], shown["jobstore"], shown["on_crash"]) == ("pending", None, "lost")


def test_a_broken_job_is_shown_with_the_reason() -> None:
    shown = to_wire(make(every(5)), broken="no such function")
    assert (shown["state"], shown["broken"]) == ("broken", "no such function")
    assert "broken" not in to_wire(make(every(5)))
    job = make(every(5))
    job.broken = "newer code"
    shown = to_wire(job)
    assert (shown["state"], shown["broken"]) == ("broken", "newer code")


def test_what_only_a_shared_store_knows_is_shown_of_its_jobs_alone() -> None:
    job = make(every(5), on_crash="rerun")
    assert not to_wire(job).keys() & {"source", "modified", "paused_by", "version"}
    job.version, job.source, job.modified, job.paused_by = 3, "declared", True, "prune"
    shown = to_wire(job)
    assert list(shown)[-18:] == [
        *(
            "coalesce",
            "run_on_start",
            "overlap",
            "max_queue",
            "on_crash",
            "timeout",
            "retry",
            "overdue_after",
            "description",
            "tags",
        ),
        *("executor", "jobstore"),
        *("trigger_description", "state", "source", "modified", "paused_by", "version"),
    ]
    assert (shown["source"], shown["modified"], shown["paused_by"], shown["version"]) == ("declared", True, "prune", 3)
    assert shown["on_crash"] == "rerun"


def test_a_job_out_of_apschedulers_own_stores_is_shown_without_what_they_do_not_keep() -> None:
    shown = to_wire(make(every(5), cls=Job))
    assert not shown.keys() & {"on_crash", "source", "version"}
    assert shown["state"] == "scheduled"


def test_what_a_shared_store_shows_can_be_sent_back() -> None:
    job = make(every(5), on_crash="rerun")
    job.version, job.source, job.broken = 3, "declared", "newer code"
    shown = to_wire(job)
    assert shown.keys() >= {*READ_ONLY}
    assert JobChanges.from_wire(shown, shown, lambda ref: tick).fields == {}
    assert JobDefinition.parse(from_wire(shown)).policy.on_crash == "rerun"
    changes = JobChanges.from_wire(shown | {"on_crash": "lost"}, shown, lambda ref: tick)
    assert changes.fields == {"on_crash": "lost"}
    with pytest.raises(InvalidDefinition, match="version: is 2; it is read-only, and 3"):
        JobChanges.from_wire({"version": 2}, shown, lambda ref: tick)


# Jobs


def test_a_job_knows_nothing_of_a_shared_store_until_it_comes_from_one() -> None:
    for job in (make(every(5)), ScheduledJob.__new__(ScheduledJob)):
        assert (job.broken, job.paused_by, job.last_fire, job.modified) == (None, None, None, False)
        assert (job.source, job.version, job.incarnation, job.policy.on_crash) == ("added", 0, "", "lost")


def test_a_job_is_changed_as_a_whole_or_not_at_all() -> None:
    job = make(every(5), on_crash="rerun")
    job._modify(name="other")
    assert (job.name, job.policy.on_crash) == ("other", "rerun")
    with pytest.raises(AttributeError, match="A job has no unknown that could be changed"):
        job._modify(on_crash="lost", name="third", unknown=1)
    assert (job.name, job.policy.on_crash) == ("other", "rerun")
    job._modify(on_crash="lost", name="third")
    assert (job.name, job.policy.on_crash) == ("third", "lost")


async def test_a_job_that_waits_can_be_changed_until_it_is_stored(scheduler, app, serve) -> None:
    scheduler.add_job("job", tick, trigger="interval", seconds=5, on_crash="rerun")
    waiting = scheduler.get_job("job")
    assert (type(waiting), waiting.policy.on_crash) == (ScheduledJob, "rerun")
    scheduler.modify_job("job", name="other")
    assert (waiting.name, waiting.policy.on_crash) == ("other", "rerun")
    scheduler.modify_job("job", on_crash="lost")
    assert waiting.policy.on_crash == "lost"
    scheduler.modify_job("job", on_crash="rerun")
    async with serve(scheduler, app):
        job = await scheduler.aio.get_job("job")
        assert (type(job), job.policy.on_crash) == (ScheduledJob, "rerun")
        await scheduler.aio.modify_job("job", on_crash="lost")
        assert (await scheduler.aio.get_job("job")).policy.on_crash == "lost"


async def test_the_decorator_and_the_configuration_take_on_crash(scheduler, app, serve) -> None:
    scheduler.task("interval", id="decorated", seconds=5, on_crash="rerun")(tick)
    jobs = [{"id": "configured", "func": tick, "trigger": "interval", "seconds": 5, "on_crash": "rerun"}]
    async with serve(scheduler, app, JOBS=jobs):
        assert {job.policy.on_crash for job in await scheduler.aio.get_jobs()} == {"rerun"}


def test_a_process_pool_refuses_to_run_a_job_again(scheduler, app) -> None:
    app.config["SCHEDULER_EXECUTORS"] = {"pool": {"type": "processpool", "max_workers": 1}}
    scheduler.init_app(app)
    options: dict[str, Any] = {"trigger": "interval", "seconds": 5, "executor": "pool"}
    with pytest.raises(InvalidDefinition, match="on_crash: is 'rerun', which does not apply to a process pool"):
        scheduler.add_job("job", print, on_crash="rerun", **options)
    assert scheduler.add_job("job", print, **options).policy.on_crash == "lost"
    with pytest.raises(InvalidDefinition, match="executor: 'pool' is a process pool, which cannot run the coroutine"):
        scheduler.add_job("other", tick, **options)


def test_arguments_that_json_lacks_are_tagged_and_others_only_shown() -> None:
    shown = to_wire(make(every(5), args=(NOW,), kwargs={"loud": {1, 2}}))
    assert shown["args"] == [{"$datetime": NOW.isoformat()}]
    assert shown["kwargs"] == {"loud": {"$repr": "{1, 2}"}}


def test_a_function_without_an_importable_name_is_shown_as_null() -> None:
    assert to_wire(make(every(5), func=lambda count, loud: None))["func"] is None


def test_what_is_shown_can_be_parsed_again() -> None:
    job = make(CronTrigger(hour="3", timezone="Europe/Berlin"), coalesce=False, misfire_grace_time=None)
    shown = {key: value for key, value in to_wire(job).items() if key not in READ_ONLY}
    definition = JobDefinition.parse(shown)
    assert definition.func is tick
    assert definition.trigger.to_dict() == {"trigger": "cron", "hour": "3", "timezone": "Europe/Berlin"}
    assert (definition.coalesce, definition.misfire_grace_time, definition.next_run_time) == (False, None, NOW)


@pytest.mark.parametrize(
    ("options", "broken", "state"),
    [
        ({}, None, "scheduled"),
        ({"next_run_time": None}, None, "paused"),
        ({}, "why", "broken"),
        ({"next_run_time": None}, "why", "broken"),
        ({"jobstore": None}, "why", "pending"),
    ],
)
def test_one_word_says_how_a_job_stands(options: dict[str, Any], broken: str | None, state: str) -> None:
    assert state_of(make(every(5), **options), broken) == state
