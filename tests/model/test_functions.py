"""Functions as jobs: references, and which kind of callable runs where."""

from __future__ import annotations

import functools
import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any

import pytest

from quart_sched.errors import InvalidDefinition
from quart_sched.model.functions import (
    check_call,
    default_id,
    describe,
    main_module_name,
    reference,
    resolve,
    runs_on_loop,
)


async def coroutine() -> None: ...


def function() -> None: ...


def generator():
    yield


async def async_generator():
    yield


class Thing:
    async def method(self) -> None: ...

    def plain(self) -> None: ...

    @staticmethod
    async def static() -> None: ...

    @classmethod
    async def cls_method(cls) -> None: ...

    def generates(self):
        yield


class AsyncCallable:
    async def __call__(self) -> None: ...


class PlainCallable:
    def __call__(self) -> None: ...


class GeneratorCallable:
    def __call__(self):
        yield


@functools.wraps(coroutine)
def wrapper() -> Any:
    return coroutine()


thing = Thing()


@pytest.mark.parametrize(
    "func",
    [coroutine, functools.partial(coroutine), functools.partial(functools.partial(thing.method)), thing.method,
     Thing.static, Thing.cls_method, AsyncCallable(), functools.partial(AsyncCallable()), wrapper],
    ids=repr,
)  # fmt: skip
def test_coroutines_run_on_the_loop(func: Any) -> None:
    assert runs_on_loop(func)


@pytest.mark.parametrize(
    "func",
    [function, functools.partial(function), thing.plain, PlainCallable(), Thing, print, lambda: coroutine()],
    ids=repr,
)
def test_all_else_runs_in_a_thread(func: Any) -> None:
    assert not runs_on_loop(func)


@pytest.mark.parametrize(
    "func",
    [generator, async_generator, functools.partial(generator), thing.generates, GeneratorCallable(),
     functools.wraps(generator)(lambda: None)],
    ids=repr,
)  # fmt: skip
def test_generators_are_refused(func: Any) -> None:
    with pytest.raises(InvalidDefinition, match="is a generator function"):
        runs_on_loop(func)


def test_a_reference_resolves_to_what_it_names() -> None:
    assert resolve("json:dumps") is __import__("json").dumps
    assert resolve("collections:OrderedDict.fromkeys")


@pytest.mark.parametrize(
    ("ref", "text"),
    [
        ("", "is no reference"),
        ("json", "is no reference"),
        (":dumps", "is no reference"),
        ("json:", "is no reference"),
        ("no_such_module:f", "cannot import 'no_such_module'"),
        ("json:nothing", "'json' has no 'nothing'"),
        ("json:dumps.nothing", "'json' has no 'dumps.nothing'"),
        ("json:__name__", "is str, not callable"),
        ("..:f", "cannot import"),
    ],
)
def test_a_reference_that_does_not_resolve_says_why(ref: str, text: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        resolve(ref)
    assert caught.value.field == "func"
    assert text in str(caught.value)


def test_a_module_that_fails_while_it_is_imported_is_no_crash(tmp_path, monkeypatch) -> None:
    (tmp_path / "exploding_jobs.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidDefinition, match="division by zero"):
        resolve("exploding_jobs:f")


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"__file__": "/srv/run.py", "__spec__": None}, "run"),
        ({"__file__": "C:\\srv\\run.py", "__spec__": None}, "run"),
        ({"__file__": "/usr/bin/hypercorn", "__spec__": None}, None),
        ({"__spec__": None}, None),
        ({"__spec__": ModuleSpec("pkg.run", None)}, "pkg.run"),
    ],
)
def test_the_main_script_is_found_under_its_own_name(monkeypatch, attributes, name) -> None:
    main = types.ModuleType("__main__")
    vars(main).update(attributes, add=function)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert main_module_name() == name
    if name:
        assert resolve(f"{name}:add") is function
        assert name not in sys.modules


def test_references_and_names_of_every_kind() -> None:
    assert reference(function) == f"{__name__}:function"
    assert reference(thing.plain) == f"{__name__}:Thing.plain"
    for nameless in (lambda: None, functools.partial(function)):
        assert reference(nameless) is None
        assert describe(nameless) == repr(nameless)
    assert default_id(function) == f"{__name__}:function"
    assert default_id(functools.partial(thing.plain)) == f"{__name__}:Thing.plain"
    assert default_id(AsyncCallable()) == f"{__name__}:AsyncCallable"


def test_arguments_that_do_not_fit_are_refused() -> None:
    check_call(lambda a, b=1: None, (1,), {"b": 2})
    with pytest.raises(InvalidDefinition, match="args: do not fit"):
        check_call(function, (1,), {})
