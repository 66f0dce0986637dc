"""Arguments as form fields: one for each parameter of the function, and back."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidDefinition
from ...model import arguments
from ...model.functions import JobFunction
from .shown import as_json

_TEXTS = ("str", "str | None", "Optional[str]", "None | str")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter of a job's function, as a form shows it."""

    name: str
    kind: Any
    """One of inspect.Parameter's kinds."""
    annotation: str
    default: str | None
    """As JSON, or its repr; None where it has none."""

    @property
    def key(self) -> str:
        """The name of the form's field."""
        return f"a.{self.name}"

    @property
    def is_text(self) -> bool:
        """Whether what is typed is the value itself, and not JSON."""
        return self.annotation in _TEXTS and not self.is_rest

    @property
    def is_flag(self) -> bool:
        """Whether it is true or false."""
        return self.annotation == "bool" and not self.is_rest

    @property
    def is_rest(self) -> bool:
        """Whether it takes any number of arguments."""
        return self.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

    @property
    def required(self) -> bool:
        """Whether the function cannot be called without it."""
        return self.default is None and not self.is_rest


def fields_of(func: JobFunction | None) -> list[Field] | None:
    """Return a field for each parameter; None where the function does not tell its signature."""
    if func is None:
        return None
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        return None
    return [
        Field(
            parameter.name,
            parameter.kind,
            _annotation(parameter.annotation),
            None if parameter.default is parameter.empty else as_json(parameter.default),
        )
        for parameter in parameters
    ]


def _annotation(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).removeprefix("typing.")


def filled(func: JobFunction | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, str]:
    """Return what the fields hold for a job with these arguments.

    Where one of them would not come back out of its field as it is, all stand as JSON under `args` and `kwargs`.
    """
    fields = fields_of(func)
    try:
        if func is None or fields is None:
            raise TypeError
        bound = inspect.signature(func).bind_partial(*args, **kwargs).arguments
        if not all(_comes_back(bound[field.name]) for field in fields if field.is_text and field.name in bound):
            raise TypeError
    except TypeError:
        return {"args": as_json(list(args)), "kwargs": as_json(dict(kwargs))}
    return {
        field.key: value if field.is_text and isinstance(value, str) and value else as_json(value)
        for field in fields
        if field.name in bound
        for value in [list(bound[field.name]) if field.kind is inspect.Parameter.VAR_POSITIONAL else bound[field.name]]
    }


def _comes_back(value: Any) -> bool:
    """Tell whether the field of a text gives this value back: browsers take line breaks away, and blanks are empty."""
    if not isinstance(value, str) or value == '""' or _CONTROLS.search(value):
        return False
    return value == "" or bool(value.strip())


def read(
    given: Callable[[str], str], func: JobFunction | None, *, positional: int = 0
) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, str]]:
    """Return the arguments that a form holds, and by field what is wrong.

    The first `positional` ones are passed by position, the others by name where the function allows it.
    """
    fields = fields_of(func)
    if fields is None:
        return _read_plain(given)
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for field in fields:
        try:
            value, is_given = _value(field, given(field.key))
        except InvalidDefinition as error:
            problems[field.key] = error.problem
        else:
            if is_given:
                values[field.name] = value
    return (*_placed(fields, values, positional), problems)


def _placed(fields: list[Field], values: Mapping[str, Any], positional: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    kinds = inspect.Parameter
    rest: list[Any] = next(
        (values[f.name] for f in fields if f.kind is kinds.VAR_POSITIONAL and values.get(f.name)), []
    )
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    in_place = True
    for index, field in enumerate(fields):
        by_place = field.kind is kinds.POSITIONAL_ONLY or (
            field.kind is kinds.POSITIONAL_OR_KEYWORD and (index < positional or bool(rest))
        )
        if field.name not in values:
            in_place = False
        elif field.kind is kinds.VAR_KEYWORD:
            kwargs |= values[field.name]
        elif by_place and in_place:
            args.append(values[field.name])
        elif field.kind is not kinds.VAR_POSITIONAL:
            kwargs[field.name] = values[field.name]
    return (*args, *rest), kwargs


def _value(field: Field, text: str) -> tuple[Any, bool]:
    """Return what a field holds, and whether it holds anything."""
    if not text.strip():
        if field.required and not field.is_text:
            raise InvalidDefinition(field.key, "is missing")
        return "", field.required
    if field.is_text:
        return ("" if text == '""' else text), True
    value = decoded(field.key, text)
    if field.kind is inspect.Parameter.VAR_POSITIONAL and not isinstance(value, list):
        raise InvalidDefinition(field.key, f"is {text}; expected a JSON list")
    if field.kind is inspect.Parameter.VAR_KEYWORD and not isinstance(value, dict):
        raise InvalidDefinition(field.key, f"is {text}; expected a JSON object")
    expected: dict[str, tuple[Any, str]] = {
        "int": (int, "a whole number"),
        "float": ((int, float), "a number"),
        "bool": (bool, "true or false"),
    }
    kind, words = (object, "") if field.is_rest else expected.get(field.annotation, (object, ""))
    if not isinstance(value, kind) or (isinstance(value, bool) and field.annotation in ("int", "float")):
        raise InvalidDefinition(field.key, f"is {text}; expected {words}")
    return value, True


def _read_plain(given: Callable[[str], str]) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, str]]:
    problems: dict[str, str] = {}
    found: dict[str, Any] = {"args": [], "kwargs": {}}
    for key, kind, words in (("args", list, "a JSON list"), ("kwargs", dict, "a JSON object")):
        text = given(key)
        if text.strip():
            try:
                value = decoded(key, text)
                if not isinstance(value, kind):
                    raise InvalidDefinition(key, f"is {text}; expected {words}")
                found[key] = value
            except InvalidDefinition as error:
                problems[key] = error.problem
    return tuple(found["args"]), found["kwargs"], problems


def decoded(key: str, text: str) -> Any:
    """Return the value of tagged JSON text. Raises InvalidDefinition."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        shown = text if len(text) <= 100 else f"{text[:99]}…"
        raise InvalidDefinition(key, f'is {shown}; expected JSON, such as 42, "text", true or [1, 2]') from None
    return arguments.decode(value, where=key)
