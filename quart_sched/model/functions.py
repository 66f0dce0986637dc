"""Functions as jobs: from reference to callable and back, and where each kind of callable runs."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

from apscheduler.util import check_callable_args, obj_to_ref

from ..errors import InvalidDefinition

JobFunction = Callable[..., Any]


def resolve(ref: str) -> JobFunction:
    """Return the callable that `ref` (``"module:name"`` or ``"module:Class.method"``) names, importing the module.

    The main script's own module name means ``__main__``: under ``python run.py`` the reference ``run:add`` finds
    the running script instead of importing it a second time. Raises InvalidDefinition where there is no such callable.
    """
    module_name, _, path = ref.partition(":")
    if not module_name or not path:
        raise InvalidDefinition("func", f"{ref!r} is no reference; expected 'module:name'")
    try:
        target: Any = _module(module_name)
    except (Exception, SystemExit) as error:
        # Whatever the module raises while it is imported, and a script without a main guard may exit.
        reason = f"it exits with {error}" if isinstance(error, SystemExit) else error
        raise InvalidDefinition("func", f"cannot import {module_name!r} of {ref!r}: {reason}") from error
    for name in path.split("."):
        try:
            target = getattr(target, name)
        except AttributeError:
            raise InvalidDefinition("func", f"{module_name!r} has no {path!r}") from None
        except (Exception, SystemExit) as error:
            # A module's __getattr__ may import, and a class's attribute be computed.
            raise InvalidDefinition(
                "func", f"{module_name!r} cannot give {path!r}: {type(error).__name__}: {error}"
            ) from error
    if not callable(target):
        raise InvalidDefinition("func", f"{ref!r} is {type(target).__name__}, not callable")
    return target  # type: ignore[no-any-return]  # callable() does not narrow Any


def _module(name: str) -> ModuleType:
    return sys.modules["__main__"] if name == main_module_name() else importlib.import_module(name)


def main_module_name() -> str | None:
    """The name under which the running script would be imported, or None where it is no importable module."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None) or ""
    stem, _, suffix = file.replace("\\", "/").rpartition("/")[2].rpartition(".")
    return stem if suffix == "py" else None


def reference(func: JobFunction) -> str | None:
    """Return ``"module:name"`` for `func`, or None where it has none (lambda, partial, nested function)."""
    try:
        # Interned, as one function may have a great many jobs, each of which keeps this text.
        return sys.intern(str(obj_to_ref(func)))
    except (ValueError, TypeError, AttributeError):
        return None


def default_id(func: JobFunction) -> str:
    """Return ``module:qualname``, the id of a task that was given none."""
    target = _unwrap(func)
    qualname = getattr(target, "__qualname__", type(target).__qualname__)
    return f"{getattr(target, '__module__', type(target).__module__)}:{qualname}"


def runs_on_loop(func: JobFunction) -> bool:
    """Tell whether calling `func` gives a coroutine, so that it runs on the event loop instead of in a thread.

    Sees through partials, bound methods, objects with an async ``__call__`` and ``functools.wraps`` wrappers. A plain
    wrapper is taken to return the coroutine of what it wraps; one that runs it by itself, with ``asyncio.run``, cannot
    be told from that and belongs in a thread: without its ``__wrapped__`` it is put there.
    Raises InvalidDefinition for generator functions, sync and async: calling one runs none of its code.
    """
    if type(func) is FunctionType and not func.__dict__:
        # Most are plain: nothing is marked or wrapped, and the code alone tells.
        flags = func.__code__.co_flags
        if not flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
            return bool(flags & inspect.CO_COROUTINE)
    target = inspect.unwrap(_unwrap(func))
    if not inspect.isroutine(target) and not inspect.isclass(target):
        target = inspect.unwrap(_unwrap(type(target).__call__))
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise InvalidDefinition(
            "func", f"{describe(func)} is a generator function; a job must be a function or coroutine"
        )
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(func)


def _unwrap(func: Any) -> Any:
    while isinstance(func, partial) or inspect.ismethod(func):
        func = func.func if isinstance(func, partial) else func.__func__
    return func


def describe(func: JobFunction) -> str:
    """Name `func` for a message."""
    return reference(func) or repr(func)


def check_call(func: JobFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise InvalidDefinition unless `func` can be called with these arguments."""
    if _takes_plainly(func, args, kwargs):
        return
    try:
        check_callable_args(func, args, kwargs)
    except ValueError as error:
        raise InvalidDefinition("args", f"do not fit {describe(func)}: {error}") from error


def _takes_plainly(func: JobFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell by the counts alone whether a plain function takes these positional arguments; False leaves it open.

    That is what most jobs are, and costs a tenth of looking at the signature.
    """
    if kwargs or type(func) is not FunctionType or hasattr(func, "__signature__"):
        return False
    code, optional = func.__code__, func.__defaults__ or ()
    return not code.co_kwonlyargcount and code.co_argcount - len(optional) <= len(args) <= code.co_argcount
