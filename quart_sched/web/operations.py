"""Operations: what the REST API offers, as data from which its routes, its checks and its description are made."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from quart import Response

from ..errors import BadRequest, InvalidDefinition, SchedulerError
from ..model.fields import Field, Schema, text
from .security import Right

View = Callable[..., Awaitable[Response | dict[str, Any]]]
"""Answers with a response, or with what is to be its JSON.

It is called with the front and, by name, with what stands in the path, the query and the headers; and with `body`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A body of JSON: an object. `parse` gets it, an empty one where an optional body is left out."""

    schema: Schema
    examples: Mapping[str, Any]
    parse: Callable[[dict[str, Any]], Any] = dict
    required: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation answers with: JSON unless `media_types` are others, or nothing where there is no schema.

    `headers` are those that it may have, by name with what they say.
    """

    description: str
    schema: Schema | None = None
    example: Any = None
    media_types: tuple[str, ...] = ("application/json",)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One endpoint of the API.

    `right` is None where it answers everybody. `query` holds the parameters that it takes, and any other is refused;
    None leaves a query aside, as Flask-APScheduler's endpoints do, and `lenient` one that has none of the parameters.
    `needed` are those that the view cannot do without. `raises` are the errors that it answers with, besides those of
    everyone: a caller that may not, and a request that cannot be understood.
    """

    endpoint: str
    method: Literal["GET", "POST", "PATCH", "PUT", "DELETE"]
    rule: str
    right: Right | None
    view: View
    summary: str
    description: str = ""
    query: Mapping[str, Field] | None = None
    lenient: bool = False
    needed: tuple[str, ...] = ()
    headers: Mapping[str, Field] | None = None
    body: Body | None = None
    answers: Mapping[int, Answer]
    raises: tuple[type[SchedulerError], ...] = ()

    @property
    def path(self) -> str:
        """The rule, as OpenAPI writes it."""
        return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", self.rule)

    @property
    def path_parameters(self) -> dict[str, Field]:
        """The parameters in the path."""
        return {name: PATH_PARAMETERS[name] for name in re.findall(r"{(\w+)}", self.path)}

    @property
    def errors(self) -> tuple[type[SchedulerError], ...]:
        """All that it raises, but for what the caller may not do."""
        unreadable: tuple[type[SchedulerError], ...] = ()
        if self.query is not None or self.headers or self.body:
            unreadable = (InvalidDefinition,)
        if self.body:
            unreadable += (BadRequest,)
        return tuple(dict.fromkeys(unreadable + self.raises))


DONE: Mapping[int, Answer] = {204: Answer("Done")}
"""What one answers with that has nothing to say."""

PATH_PARAMETERS: Mapping[str, Field] = {
    "job_id": Field(text().parse, {"type": "string", "pattern": "^[^/]", "examples": ["tick"]}).about(
        "The id of a job. Slashes in it may stand as they are."
    ),
    "run_id": Field(text().parse, {"type": "string", "pattern": "^[^/]+$"}).about("The id of a run."),
}
