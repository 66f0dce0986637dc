"""Functions as jobs: references, and which kind of callable runs where."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import json
import sys
import types
from collections.abc import Callable, Iterator
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
from tests.names import shown


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


class StaticCallable:
    @staticmethod
    async def __call__() -> None: ...


class ClassCallable:
    @classmethod
    async def __call__(cls) -> None: ...


class PartialCallable:
    __call__ = functools.partial(coroutine)


class WrappedCallable:
    @functools.wraps(AsyncCallable.__call__)
    def __call__(self) -> Any:
        return coroutine()


class Partials:
    async def method(self, number: int) -> None: ...

    with_one = functools.partialmethod(method, 1)


class AsyncMeta(type):
    async def __call__(cls) -> None: ...


class Made(metaclass=AsyncMeta):
    """Calling it is no coroutine call that could be seen; the runner awaits what comes back."""


@functools.wraps(wrapper)
def wrapper_of_wrapper() -> Any:
    return wrapper()


class AsyncGeneratorCallable:
    async def __call__(self):
        yield


thing = Thing()


@pytest.mark.parametrize(
    "func",
    [coroutine, functools.partial(coroutine), functools.partial(functools.partial(thing.method)), thing.method,
     Thing.static, Thing.cls_method, AsyncCallable(), functools.partial(AsyncCallable()), wrapper,
     wrapper_of_wrapper, functools.partial(wrapper), StaticCallable(), ClassCallable(), PartialCallable(),
     WrappedCallable(), Partials().with_one, functools.lru_cache(coroutine), AsyncCallable().__call__],
    ids=shown,
)  # fmt: skip
def test_coroutines_run_on_the_loop(func: Any) -> None:
    assert runs_on_loop(func)


@pytest.mark.parametrize(
    "func",
    [function, functools.partial(function), thing.plain, PlainCallable(), Thing, print, lambda: coroutine(), len,
     [].append, functools.partial(Thing), AsyncCallable, Made, functools.lru_cache(function)],
    ids=shown,
)  # fmt: skip
def test_all_else_runs_in_a_thread(func: Any) -> None:
    assert not runs_on_loop(func)


def test_a_wrapper_that_runs_the_coroutine_itself_goes_to_a_thread_once_it_does_not_show_what_it_wraps() -> None:
    @functools.wraps(coroutine)
    def runs() -> None:
        asyncio.run(coroutine())

    assert runs_on_loop(runs)
    del runs.__wrapped__
    assert not runs_on_loop(runs)


@pytest.mark.parametrize(
    "func",
    [generator, async_generator, functools.partial(generator), thing.generates, GeneratorCallable(),
     AsyncGeneratorCallable(), functools.partial(async_generator),
     functools.wraps(generator)(lambda: None)],
    ids=shown,
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


@pytest.fixture
def module(tmp_path, monkeypatch) -> Iterator[Callable[[str], str]]:
    """Write a module that can be imported for this test; gives its name."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def write(source: str) -> str:
        names.append(f"jobs_of_a_test_{len(names)}")
        (tmp_path / f"{names[-1]}.py").write_text(source)
        importlib.invalidate_caches()
        return names[-1]

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("1 / 0", "division by zero"),
        ("def f(:", "invalid syntax"),
        ("import no_such_library", "No module named 'no_such_library'"),
        ("raise AttributeError('odd')", "odd"),
        ("raise RuntimeError('not configured')", "not configured"),
    ],
)
def test_a_module_that_fails_while_it_is_imported_is_no_crash(module, source, text) -> None:
    name = module(source)
    with pytest.raises(InvalidDefinition, match=f"func: cannot import '{name}' of '{name}:f': .*{text}"):
        resolve(f"{name}:f")


def test_a_script_that_exits_while_it_is_imported_is_no_crash(module) -> None:
    name = module("import sys; sys.exit(3)")
    with pytest.raises(InvalidDefinition, match=r"cannot import .*: it exits with 3"):
        resolve(f"{name}:f")


def test_an_interrupt_is_no_wrong_reference(module) -> None:
    name = module("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        resolve(f"{name}:f")


def test_a_lazy_import_that_fails_is_no_crash(module) -> None:
    name = module("def __getattr__(name): raise ImportError('redis is not installed')")
    with pytest.raises(InvalidDefinition, match="cannot give 'f': ImportError: redis is not installed"):
        resolve(f"{name}:f")


def test_an_attribute_that_exits_is_no_crash(module) -> None:
    name = module("import sys\n\ndef __getattr__(name): sys.exit('usage: ...')")
    with pytest.raises(InvalidDefinition, match="SystemExit: usage"):
        resolve(f"{name}:f")


def test_a_module_is_imported_once(module) -> None:
    name = module("def f(): ...")
    assert resolve(f"{name}:f") is resolve(f"{name}:f") is sys.modules[name].f


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"__file__": "/srv/run.py", "__spec__": None}, "run"),
        ({"__file__": "C:\\srv\\run.py", "__spec__": None}, "run"),
        ({"__file__": "/usr/bin/hypercorn", "__spec__": None}, None),
        ({"__spec__": None}, None),
        ({"__file__": None}, None),
        ({"__file__": "/srv/my.jobs.py", "__spec__": None}, "my.jobs"),
        ({"__file__": "/srv/pkg/run.py", "__spec__": ModuleSpec("pkg.run", None)}, "pkg.run"),
        ({"__spec__": ModuleSpec("pkg.__main__", None)}, "pkg.__main__"),
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


def test_other_modules_are_not_taken_for_the_main_script(monkeypatch) -> None:
    main = types.ModuleType("__main__")
    vars(main).update(__file__="/srv/json_.py", __spec__=None, dumps=function)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert resolve("json:dumps") is json.dumps
    assert resolve("__main__:dumps") is function


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
    check_call(thing.plain, (), {})
    check_call(functools.partial(lambda a, b: None, 1), (2,), {})
    check_call(lambda a, b=1: None, (1, 2), {})
    check_call(lambda *a, b=1: None, (1, 2), {})
    check_call(dict, (1, 2, 3), {"any": 1})  # a builtin without a signature may take anything
    with pytest.raises(InvalidDefinition, match=f"args: do not fit {__name__}:function: "):
        check_call(function, (1,), {})
    with pytest.raises(InvalidDefinition, match=r"args: do not fit .*: .*b"):
        check_call(lambda a, b: None, (1,), {})
    with pytest.raises(InvalidDefinition, match=r"args: do not fit .*nobody"):
        check_call(function, (), {"nobody": 1})
    with pytest.raises(InvalidDefinition, match=r"args: do not fit .*: .*longer"):
        check_call(lambda a, b=1: None, (1, 2, 3), {})
    with pytest.raises(InvalidDefinition, match=r"args: do not fit .*: .*b"):
        check_call(lambda a, *, b: None, (1,), {})


def test_a_signature_that_a_function_is_given_counts() -> None:
    def work(one: int = 0) -> None: ...

    work.__signature__ = inspect.signature(lambda one: None)  # as decorators do
    check_call(work, (1,), {})
    with pytest.raises(InvalidDefinition, match="args: do not fit"):
        check_call(work, (), {})
