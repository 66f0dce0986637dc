"""Jobs as JSON text: what one process writes another loads as an equal job, and what cannot be held is refused."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import random
import sys
import types
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import IntEnum
from importlib.machinery import ModuleSpec
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given, settings
from hypothesis import strategies as st

from quart_sched import Scheduler
from quart_sched.errors import InvalidDefinition
from quart_sched.model import state
from quart_sched.model.jobs import JobDefinition, ScheduledJob, to_wire
from quart_sched.model.trigger_parser import parse_trigger
from quart_sched.model.triggers import spec_of
from tests.names import shown

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
SCHEDULER = Scheduler(timezone="UTC")
fewer = settings(max_examples=60)
DEFAULTS = {"misfire_grace_time": 1, "coalesce": True, "max_instances": 1}


async def tick(*args: Any, **kwargs: Any) -> None: ...


async def other(*args: Any, **kwargs: Any) -> None: ...


def replaced() -> None: ...


early = replaced


def replaced() -> None: ...  # type: ignore[no-redef]  # that is what is tested


class Thing:
    def method(self) -> None: ...

    @classmethod
    def cls_method(cls) -> None: ...

    @staticmethod
    def static() -> None: ...

    def __call__(self) -> None: ...


class Child(Thing): ...


class Meta(type):
    def meta_method(cls) -> None: ...


class Made(metaclass=Meta): ...


@functools.lru_cache
def cached() -> None: ...


@functools.wraps(tick)
def wrapper() -> None: ...


thing = Thing()
partial_tick = functools.partial(tick, 1)


def nested() -> Any:
    def inner() -> None: ...

    return inner


def every(seconds: float = 5, **options: Any) -> IntervalTrigger:
    return IntervalTrigger(seconds=seconds, **{"start_date": NOW, "timezone": UTC, **options})


def make(cls: Any = ScheduledJob, **options: Any) -> Any:
    given: dict[str, Any] = {"id": "job", "func": tick, "args": (), "kwargs": {}, "trigger": every()}
    given |= {"executor": "default", "next_run_time": NOW, **DEFAULTS}
    return cls(SCHEDULER, **{**given, **options})


def reload(job: Job) -> ScheduledJob:
    loaded = state.load(job.id, state.dump(job), SCHEDULER)
    loaded.next_run_time = job.next_run_time
    return loaded


def changed(**changes: Any) -> str:
    """The text of a job, with some of its keys changed; None leaves a key out."""
    stored = {**json.loads(state.dump(make())), **changes}
    return json.dumps({key: value for key, value in stored.items() if value is not None})


# There and back


def facts(job: Any) -> dict[str, Any]:
    """Everything about a job, so that True is not 1 and nan is nan."""
    plain = {key: getattr(job, key) for key in ("id", "name", "func", "executor", "max_instances", "next_run_time")}
    # Outside of a repeated hour a fold says nothing.
    exact = {key: repr(getattr(job, key)).replace(", fold=1", "") for key in ("args", "kwargs")}
    exact |= {key: repr(getattr(job, key)) for key in ("misfire_grace_time", "coalesce", "policy")}
    return {**plain, **exact, "trigger": inside(job.trigger)}


def inside(trigger: Any) -> Any:
    if isinstance(trigger, AndTrigger | OrTrigger):
        return isinstance(trigger, AndTrigger), trigger.jitter, [inside(part) for part in trigger.triggers]
    if isinstance(trigger, CronTrigger):
        return str(trigger), trigger.start_date, trigger.end_date, str(trigger.timezone), trigger.jitter
    return trigger.__getstate__()


def fires(trigger: BaseTrigger) -> list[datetime]:
    """The first fires of a trigger, with the same luck for each."""
    random.seed(7)
    found: list[datetime] = []
    while len(found) < 3:
        fire = trigger.get_next_fire_time(found[-1] if found else None, found[-1] if found else NOW)
        if fire is None:
            break
        found.append(fire)
    return found


zones = st.sampled_from([UTC, BERLIN, ZoneInfo("America/St_Johns"), timezone(timedelta(hours=8, seconds=30))])
moments = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=zones, allow_imaginary=False)
texts = st.text(st.characters()).filter(lambda text: json.loads(json.dumps(text)) == text)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.binary()
    | st.datetimes()
    | moments
    | st.dates()
    | st.times()
    | st.times(timezones=st.just(UTC))
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def written(draw: Any, kind: str, required: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Draw a trigger as its author wrote it, some of its options left out."""
    drawn = {key: draw(st.none() | strategy) for key, strategy in more.items()}
    given = {key: draw(strategy) for key, strategy in required.items()}
    return {"trigger": kind, **given, **{key: value for key, value in drawn.items() if value is not None}}


jitters = st.integers(0, 1000) | st.floats(0, 1000)
common = {"timezone": zones, "jitter": jitters}
starts = st.datetimes(datetime(2020, 1, 1), datetime(2027, 1, 1), timezones=zones)
ends = st.datetimes(datetime(2028, 1, 1), datetime(2090, 1, 1), timezones=zones)
simple = (
    written("date", {}, run_date=starts, timezone=zones)
    | written("interval", {"seconds": st.integers(1, 9) | st.floats(0.001, 9)}, hours=st.integers(1, 99), **common)
    | written("interval", {"days": st.integers(1, 99)}, start_date=starts, end_date=ends, **common)
    | written(
        "cron",
        {"hour": st.sampled_from([3, "9-17", "*/6"])},
        day=st.sampled_from(["last", "1st mon", "*/5"]),
        day_of_week=st.sampled_from(["mon-fri", "0"]),
        minute=st.sampled_from([0, "*/5"]),
        start_date=starts,
        end_date=ends,
        **common,
    )
    | written(
        "calendarinterval",
        {"months": st.integers(1, 5)},
        days=st.integers(1, 9),
        hour=st.integers(0, 23),
        start_date=st.dates(date(2020, 1, 1), date(2027, 1, 1)),
        end_date=st.dates(date(2028, 1, 1), date(2090, 1, 1)),
        **common,
    )
)
triggers = st.recursive(
    simple,
    lambda inner: (
        written("or", {"triggers": st.lists(inner, min_size=1, max_size=3)}, jitter=jitters)
        | written("and", {"triggers": st.lists(inner, min_size=1, max_size=3)}, jitter=jitters)
    ),
    max_leaves=4,
)


@fewer
@given(
    st.lists(values, max_size=4).map(tuple),
    st.dictionaries(texts, values, max_size=3),
    triggers,
    zones,
    st.fixed_dictionaries(
        {
            "name": st.text(st.characters(), min_size=1),
            "executor": st.sampled_from(["default", "pool"]),
            "misfire_grace_time": st.none() | st.integers(1, 10**9),
            "coalesce": st.booleans(),
            "max_instances": st.integers(1, 10**9),
            "next_run_time": st.none() | moments,
            "on_crash": st.sampled_from(["lost", "rerun"]),
        }
    ),
)
def test_what_is_dumped_loads_as_an_equal_job(
    args: tuple[Any, ...], kwargs: dict[str, Any], data: dict[str, Any], zone: tzinfo, options: dict[str, Any]
) -> None:
    options["name"] = json.loads(json.dumps(options["name"]))
    job = make(args=args, kwargs=kwargs, trigger=parse_trigger(data).build(zone, NOW), **options)
    text = state.dump(job)
    back = state.load("job", text, SCHEDULER)
    back.next_run_time = job.next_run_time
    assert facts(back) == facts(job)
    assert spec_of(back.trigger) == spec_of(job.trigger)
    assert state.dump(back) == text
    assert text.isascii()
    assert text.isprintable()


@fewer
@given(simple, zones)
def test_a_loaded_trigger_fires_when_the_dumped_one_does(data: dict[str, Any], zone: tzinfo) -> None:
    job = make(trigger=parse_trigger(data).build(zone, NOW))
    assert fires(reload(job).trigger) == fires(job.trigger)


def test_the_start_of_an_interval_that_was_derived_from_the_present_stays() -> None:
    job = make(trigger=parse_trigger({"trigger": "interval", "hours": 6}).build(BERLIN, NOW))
    back = reload(job)
    assert back.trigger.start_date == NOW + timedelta(hours=6)
    assert back.trigger.start_date.tzinfo is BERLIN


def test_the_text_has_everything_but_the_id_and_the_next_fire() -> None:
    assert json.loads(state.dump(make(name="a name", args=(1, (2,)), kwargs={"$x": b"b"}, on_crash="rerun"))) == {
        "name": "a name",
        "func": f"{__name__}:tick",
        "args": [1, {"$tuple": [2]}],
        "kwargs": {"$x": {"$bytes": "Yg=="}},
        "trigger": {"trigger": "interval", "start_date": NOW.isoformat(), "seconds": 5, "timezone": "UTC"},
        "executor": "default",
        "misfire_grace_time": 1,
        "coalesce": True,
        "max_instances": 1,
        "on_crash": "rerun",
    }
    assert ", " not in state.dump(make())


def test_a_job_of_apschedulers_own_class_is_lost_in_a_crash() -> None:
    assert reload(make(Job)).policy.on_crash == "lost"


def test_a_loaded_job_is_ready_to_be_shown_and_run() -> None:
    job = reload(make(args=(1,)))
    assert (job.func, job.func_ref, job.pending, job._scheduler) == (tick, f"{__name__}:tick", True, SCHEDULER)
    assert (job.version, job.broken, job.next_run_time) == (0, None, NOW)
    assert to_wire(job) == to_wire(make(args=(1,)))


def test_the_types_of_the_contract_are_all_held() -> None:
    held: tuple[Any, ...] = (None, True, 1, 1.5, math.inf, "s", [1], (1, (2,)), {"k": {"$tuple": 1}}, NOW, NOW.date())
    held += (NOW.replace(tzinfo=BERLIN), datetime(2026, 1, 1), time(12), timedelta(1, 2, 3), Decimal("1.10"), b"\0")
    held += (UUID(int=5), "\0", "\ud800", "é", 10**3000)
    back = reload(make(args=held))
    assert (back.args, [type(value) for value in back.args]) == (held, [type(value) for value in held])
    assert math.isnan(reload(make(args=(math.nan,))).args[0])


@pytest.mark.parametrize("text", ["\0", "\ud800", "a\0b\udc00c", "\n\u2028é😀"], ids=ascii)
def test_the_text_is_plain_whatever_stands_in_the_arguments(text: str) -> None:
    job = make(name=text, args=(text, {text: text}), kwargs={text: [text]})
    dumped = state.dump(job)
    assert dumped.isascii()
    assert dumped.isprintable()
    assert facts(reload(job)) == facts(job)


# What cannot be held


class Level(IntEnum):
    HIGH = 3


class Custom(BaseTrigger):
    def get_next_fire_time(self, previous_fire_time: Any, now: Any) -> None: ...


class Nightly(CronTrigger):
    """Fires as it likes."""


class TwoHours(tzinfo):
    """Like a zone, but for what it calls itself."""

    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(hours=2)

    def dst(self, when: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, when: datetime | None) -> str:
        return "two"

    def __str__(self) -> str:
        return "UTC+02:00"


class Nowhere(TwoHours):
    def __str__(self) -> str:
        return "nowhere in particular"


class Odd(tzinfo):
    def utcoffset(self, when: datetime | None) -> None: ...


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"args": (0, {"x": object()})}, r"args\[1\]\.x: is <object object at .*, a object; expected None, bool, int"),
        ({"args": ([{1, 2}],)}, r"args\[0\]\[0\]: is {1, 2}, a set; expected"),
        ({"kwargs": {"level": (Level.HIGH,)}}, r"kwargs\.level\[0\]: is <Level.HIGH: 3>, a Level; expected"),
        ({"args": (10**5000,)}, r"args\[0\]: is <int whose repr raised ValueError>, .*of up to 4,000 digits"),
        ({"args": (time(12, tzinfo=BERLIN),)}, r"args\[0\]: is datetime\.time\(12, 0, tz.*of a fixed offset or none"),
        ({"args": (datetime(2026, 1, 1, tzinfo=Odd()),)}, r"args\[0\]: is datetime.datetime"),
        ({"args": (datetime(1, 1, 1, tzinfo=BERLIN),)}, r"args\[0\]: is '\$datetime' of '0001-01-01.*, which is none"),
        (
            {"kwargs": {"at": datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN)}},
            r"kwargs\.at: is .* 2, 30, .*and would come back as .* 3, 30,",
        ),
        ({"args": ("\ud83d\ude00",)}, r"args\[0\]: is '\\ud83d\\ude00', and would come back as '😀'"),
        ({"trigger": Custom()}, "trigger: is <.*Custom object.*, a trigger class of your own, .*or the memory store"),
        ({"trigger": Nightly()}, "trigger: is .*, a trigger class of your own"),
        (
            {"trigger": OrTrigger([every(), AndTrigger([every(), Custom()])])},
            r"trigger\.triggers\[1\]\.triggers\[1\]: is .*, a trigger class of your own",
        ),
        ({"trigger": every(5e9)}, r"trigger\.weeks: makes an interval of .*; expected one between"),
        ({"trigger": every(5, jitter=math.nan)}, r"trigger\.jitter: is nan; expected a number"),
        ({"trigger": OrTrigger([])}, r"trigger\.triggers: is \[\]; expected a list of 1 to 20 triggers"),
        ({"trigger": every(timezone=Nowhere())}, r"trigger\.timezone: is 'nowhere"),
        ({"trigger": every(timezone=TwoHours())}, "trigger: is .*, and would come back as another"),
        ({"trigger": every(jitter=False)}, r"trigger\.jitter: is False"),
        ({"func": lambda *args: None}, "func: .*a lambda has no name"),
    ],
    ids=lambda value: ascii(value) if isinstance(value, str) else "",
)
def test_what_cannot_be_held_is_refused_with_its_place(options: dict[str, Any], text: str) -> None:
    job = make(**options)
    for refusing in (state.dump, state.check):
        with pytest.raises(InvalidDefinition, match=f"^{text}"):
            refusing(job)


def test_a_job_can_be_checked_while_its_options_are_open() -> None:
    job = ScheduledJob(SCHEDULER, id="job", func=tick, args=(), kwargs={}, trigger=every(), executor="default")
    state.check(job)
    with pytest.raises(AttributeError, match="misfire_grace_time"):
        state.dump(job)


# Functions


@pytest.mark.parametrize(
    ("func", "ref"),
    [
        (tick, f"{__name__}:tick"),
        (Thing.static, f"{__name__}:Thing.static"),
        (Thing.cls_method, f"{__name__}:Thing.cls_method"),
        (Child.static, f"{__name__}:Thing.static"),
        (Child.cls_method, f"{__name__}:Child.cls_method"),
        (Thing.method, f"{__name__}:Thing.method"),
        (Made.meta_method, f"{__name__}:Made.meta_method"),
        (Thing, f"{__name__}:Thing"),
        (cached, f"{__name__}:cached"),
        (json.dumps, "json:dumps"),
        (print, "builtins:print"),
        (dict.fromkeys, "builtins:dict.fromkeys"),
    ],
    ids=shown,
)
def test_a_function_that_other_processes_find_has_a_reference(func: Any, ref: str) -> None:
    assert state.function_ref(func) == ref
    needs_one = func in (Thing.method, dict.fromkeys, json.dumps)
    assert reload(make(func=func, args=(None,) if needs_one else ())).func == func


@pytest.mark.parametrize(
    ("func", "problem"),
    [
        (lambda: None, "a lambda has no name"),
        (nested(), "it is made inside of a function"),
        (partial_tick, "a partial has no name, but its arguments can go into the job's args and kwargs"),
        (thing, "it is an object, not a function with a name"),
        (thing.method, "it is bound to an object that exists here alone"),
        (thing.__call__, "it is bound to an object that exists here alone"),
        ([].append, "it is bound to an object that exists here alone"),
        (random.random, "it is bound to an object that exists here alone"),
        (early, f"'replaced' in '{__name__}' is another object by now"),
        (wrapper, f"'tick' in '{__name__}' is another object by now"),
    ],
    ids=shown,
)
def test_a_function_that_no_other_process_finds_is_refused_with_what_to_do(func: Any, problem: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        state.function_ref(func)
    assert caught.value.field == "func"
    assert f"cannot be loaded by other processes: {problem}; use a function at the top" in str(caught.value)
    assert str(caught.value).endswith("or the memory store")


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """A module that is loaded, with a function `work`."""
    name = "module_of_a_test"
    loaded = types.ModuleType(name)
    loaded.__spec__ = ModuleSpec(name, None)
    exec("def work(): ...\nclass Group:\n    def work(): ...", vars(loaded))
    sys.modules[name] = loaded
    yield loaded
    sys.modules.pop(name, None)


def test_a_function_whose_name_is_gone_is_refused(module) -> None:
    work = module.work
    assert state.function_ref(work) == "module_of_a_test:work"
    del module.work
    with pytest.raises(InvalidDefinition, match="'module_of_a_test' has no 'work'"):
        state.function_ref(work)
    del sys.modules["module_of_a_test"]
    with pytest.raises(InvalidDefinition, match="no module 'module_of_a_test' is loaded"):
        state.function_ref(work)


def test_a_function_is_taken_while_its_module_is_still_being_imported(tmp_path, monkeypatch) -> None:
    # Looked at in another thread, which must not wait for the import to end.
    source = """
from concurrent.futures import ThreadPoolExecutor
from quart_sched.model.state import function_ref

def declare(func):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function_ref, func).result(timeout=5)

@declare
def work(): ...

@declare
def work(): ...
"""
    (tmp_path / "imported_by_a_test.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "imported_by_a_test", raising=False)
    assert __import__("imported_by_a_test").work == "imported_by_a_test:work"
    del sys.modules["imported_by_a_test"]


def test_a_name_beyond_what_the_store_holds_is_refused(module) -> None:
    name = "w" * state.MAX_REF
    exec(f"def {name}(): ...", vars(module))
    with pytest.raises(InvalidDefinition, match="its name is longer than 512 characters"):
        state.function_ref(getattr(module, name))


@pytest.fixture
def main(monkeypatch) -> types.ModuleType:
    """A main script /srv/run.py with a function `work`."""
    script = types.ModuleType("__main__")
    vars(script).update(__file__="/srv/run.py", __spec__=None)
    exec("def work(): ...", vars(script))
    monkeypatch.setitem(sys.modules, "__main__", script)
    return script


def test_a_function_of_the_main_script_goes_by_the_name_that_others_import(main) -> None:
    assert state.function_ref(main.work) == "run:work"
    job = make(func=main.work)
    assert json.loads(state.dump(job))["func"] == "run:work"
    assert reload(job).func is main.work
    assert "run" not in sys.modules
    main.__spec__ = ModuleSpec("pkg.run", None)
    assert state.function_ref(main.work) == "pkg.run:work"


def test_the_main_script_is_known_in_a_spawned_process_too(main, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "__mp_main__", main)
    main.work.__module__ = "__mp_main__"
    assert state.function_ref(main.work) == "run:work"


def test_a_function_of_the_main_script_may_still_wait_for_its_name(main) -> None:
    work = main.work
    del main.work
    assert state.function_ref(work) == "run:work"
    main.work = tick
    with pytest.raises(InvalidDefinition, match="'work' in '__main__' is another object by now"):
        state.function_ref(work)


@pytest.mark.parametrize("file", [None, "/usr/bin/hypercorn", "/srv/my.jobs.py"])
def test_a_function_of_a_program_without_an_importable_name_is_refused(main, file) -> None:
    main.__file__ = file
    with pytest.raises(InvalidDefinition, match="the program that it belongs to cannot be imported by name; use a"):
        state.function_ref(main.work)


# What cannot be loaded


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "job: is stored as '', which is no JSON: "),
        ('{"name": "x"', "job: is stored as .*, which is no JSON: "),
        ("[" * 100_000, "job: is stored as .*, which is no JSON: "),
        ("[]", r"job: is stored as '\[\]'; expected a JSON object"),
        (changed(args=None), "args: is missing in the stored job"),
        (changed(args={"$tuple": []}), r"args: is {'\$tuple': \[\]} in the stored job"),
        (changed(coalesce=1), "coalesce: is 1 in the stored job"),
        (changed(func=5), "func: is 5 in the stored job"),
        (changed(colour=5), "colour: stands in the stored job and is not known here: newer code has written it"),
        (changed(on_crash="mourn"), "on_crash: is 'mourn'; expected 'lost' or 'rerun'"),
        (changed(func="no_such_module:f"), "func: cannot import 'no_such_module'"),
        (changed(func=f"{__name__}:gone"), f"func: '{__name__}' has no 'gone'"),
        (changed(func="nonsense"), "func: 'nonsense' is no reference"),
        (changed(trigger={"trigger": "moon"}), r"trigger\.trigger: is 'moon'; expected one of date, interval"),
        (changed(trigger={"trigger": "cron", "eon": 1}), r"trigger\.eon: is no field of the trigger 'cron'"),
        (changed(trigger={}), r"trigger\.trigger: is None; expected one of"),
        (changed(args=[{"$complex": [1, 2]}]), r"args\[0\]: has the key '\$complex'; expected one of \$tuple"),
        (changed(kwargs={"k": [{"$uuid": 5}]}), r"kwargs\.k\[0\]: is '\$uuid' of 5, which is none"),
    ],
    ids=lambda value: value[:60],
)
def test_a_text_that_cannot_be_loaded_says_why(text: str, problem: str) -> None:
    with pytest.raises(InvalidDefinition, match=f"^{problem}"):
        state.load("job", text, SCHEDULER)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("trigger"), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from([*json.loads(state.dump(make()))])


@fewer
@given(st.dictionaries(keys, json_values | simple.map(lambda data: json.loads(json.dumps(data, default=str)))))
def test_whatever_stands_in_the_store_loads_or_says_why_and_can_be_shown(data: dict[str, Any]) -> None:
    text = changed(**data)
    with contextlib.suppress(InvalidDefinition):
        state.load("job", text, SCHEDULER)
    job = state.sketch("job", text, SCHEDULER, "why")
    job.broken = "why"
    job._jobstore_alias = "default"
    assert json.dumps(to_wire(job))


def test_a_job_that_cannot_be_loaded_is_shown_as_far_as_it_is_known() -> None:
    text = changed(func="gone:work", name="a name", args=[{"$date": "2026-01-01"}, {"$new": 1}], colour=5, coalesce=0)
    job = state.sketch("job", text, SCHEDULER, "why")
    assert (job.id, job.name, job.func_ref) == ("job", "a name", "gone:work")
    assert spec_of(job.trigger) == spec_of(make().trigger)
    assert job.trigger.get_next_fire_time(None, datetime.now(UTC)) is None
    assert (job.args, job.coalesce, job.policy.on_crash) == ((date(2026, 1, 1), {"$new": 1}), True, "lost")
    for nothing in ("", "[]", "{}"):
        job = state.sketch("job", nothing, SCHEDULER, "why")
        assert (job.id, job.name, job.func_ref, job.args, job.kwargs) == ("job", "job", None, (), {})
        assert str(job.trigger) == "unknown"


# Declarations


def definition(**options: Any) -> JobDefinition:
    return JobDefinition.parse({"id": "job", "func": tick, "trigger": "interval", "hours": 6, **options})


def options_of(**options: Any) -> str:
    return state.options_hash(definition(**options), DEFAULTS)


def trigger_of(zone: tzinfo = UTC, **options: Any) -> str:
    data = {"id": "job", "func": tick, **(options or {"trigger": "interval", "hours": 6})}
    return state.trigger_hash(JobDefinition.parse(data), zone)


def test_a_hash_is_the_same_in_every_process() -> None:
    digest = hashlib.sha256(b'[{"hours": 6, "trigger": "interval"}, "UTC"]').hexdigest()
    assert trigger_of() == digest[:32]
    assert len(options_of()) == 32


def test_the_same_words_make_the_same_hash() -> None:
    assert trigger_of() == trigger_of(trigger="interval", minutes=360) == trigger_of(trigger="interval", hours=6.0)
    assert trigger_of(trigger="cron", hour=3) == trigger_of(trigger="cron", hour="3")
    assert trigger_of(BERLIN) == trigger_of(ZoneInfo.no_cache("Europe/Berlin"))
    assert options_of(kwargs={"a": 1, "b": 2}) == options_of(kwargs={"b": 2, "a": 1})
    assert options_of(args=[1]) == options_of(args=(1,))
    assert options_of(jobstore="second", replace_existing=True) == options_of()


def test_a_start_that_was_left_out_is_no_part_of_the_hash() -> None:
    hashes = {trigger_of(trigger=kind, **every) for kind, every in (("interval", {"hours": 6}), ("date", {}))}
    assert trigger_of() in hashes
    assert trigger_of(trigger="interval", hours=6, start_date=NOW) not in hashes
    assert trigger_of(trigger="calendarinterval", days=1) == trigger_of(trigger="calendarinterval", days=1)


def test_what_was_written_otherwise_makes_another_trigger() -> None:
    others = {
        trigger_of(),
        trigger_of(BERLIN),
        trigger_of(trigger="interval", hours=7),
        trigger_of(trigger="interval", hours=6, jitter=1),
        trigger_of(trigger="interval", hours=6, timezone="UTC"),
        trigger_of(trigger="interval", hours=6, start_date="2026-01-01"),
        trigger_of(trigger="cron", hour=6),
        trigger_of(trigger="date"),
        trigger_of(trigger="or", triggers=[{"trigger": "interval", "hours": 6}]),
        trigger_of(trigger="and", triggers=[{"trigger": "interval", "hours": 6}]),
    }
    assert len(others) == 10


def test_what_was_written_otherwise_makes_other_options() -> None:
    written: list[dict[str, Any]] = [
        {},
        {"func": other},
        {"name": "a name"},
        {"executor": "pool"},
        {"on_crash": "rerun"},
        {"misfire_grace_time": 5},
        {"misfire_grace_time": None},
        {"coalesce": False},
        {"max_instances": 2},
        {"next_run_time": None},
        {"next_run_time": NOW},
        {"next_run_time": datetime(2026, 3, 2, 12)},
        {"kwargs": {"k": 1}},
        {"kwargs": {"k": True}},
        *({"args": [value]} for value in (True, 1, 1.0, "1", Decimal(1), (1,), [1], None, b"1", math.nan)),
        {"args": [[False]]},
        {"args": [[0]]},
    ]
    assert len({options_of(**options) for options in written}) == len(written)


def test_a_default_that_is_given_is_no_other_option() -> None:
    assert options_of(misfire_grace_time=1, coalesce=True, max_instances=1) == options_of()
    assert state.options_hash(definition(), DEFAULTS | {"coalesce": False}) == options_of(coalesce=False)


def test_what_cannot_be_dumped_has_no_hash() -> None:
    with pytest.raises(InvalidDefinition, match=r"func: .* a lambda has no name"):
        options_of(func=lambda: None)
    with pytest.raises(InvalidDefinition, match=r"args\[0\]: is <object"):
        options_of(args=[object()])
    with pytest.raises(InvalidDefinition, match=r"trigger\.triggers\[0\]: is .*, a trigger class of your own"):
        trigger_of(trigger="or", triggers=[Custom()])


# Ids


@pytest.mark.parametrize("job_id", ["a", "x" * 191, "😀" * 191, " a b", "module:Class.task", "é/ü", "a\u00a0b"])
def test_an_id_that_every_database_can_keep_is_taken(job_id: str) -> None:
    assert state.check_id(job_id) is None


@pytest.mark.parametrize(
    ("job_id", "expected"),
    [
        ("x" * 192, "at most 191 characters"),
        ("a\0", "text without NUL characters"),
        ("a\ud800b", "text without NUL characters and halves of surrogate pairs"),
        ("a ", "no blanks at its end"),
        ("a\n", "no blanks at its end"),
        ("a\u00a0", "no blanks at its end"),
        (" ", "no blanks at its end"),
    ],
    ids=lambda value: ascii(shown(value)),
)
def test_an_id_that_a_database_would_lose_or_mix_up_is_refused(job_id: str, expected: str) -> None:
    with pytest.raises(InvalidDefinition, match=f"^id: is .*; expected {expected}") as caught:
        state.check_id(job_id)
    assert caught.value.field == "id"
    assert len(str(caught.value)) < 400
