"""Overrides: other arguments for one run of a job than those that its definition has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from apscheduler.job import Job

from ..errors import InvalidDefinition
from . import jobs
from .arguments import decode
from .fields import Field, unknown
from .functions import check_call
from .jobs import ScheduledJob, copy_with, from_wire, keywords, positional
from .state import lossless


class Overrides(NamedTuple):
    """Arguments for one run, which take the place of the job's own; what is None stays as the job has it."""

    args: tuple[Any, ...] | None = None
    kwargs: dict[str, Any] | None = None

    @classmethod
    def parse(cls, args: Any = None, kwargs: Any = None) -> Self:
        """Take Python's objects. Raises InvalidDefinition."""
        return cls(
            None if args is None else positional("args", args), None if kwargs is None else keywords("kwargs", kwargs)
        )

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> Self:
        """Take a JSON body with `args` (a list) and `kwargs` (an object), or neither. Raises InvalidDefinition."""
        for key in body:
            if key not in FIELDS:
                unknown(key, body[key], FIELDS)
        return cls.parse(**from_wire(body))

    def __bool__(self) -> bool:
        return self.args is not None or self.kwargs is not None

    def apply(self, job: Job) -> Job:
        """Return the job with these arguments, for a run of its own."""
        if not self:
            return job
        args = job.args if self.args is None else self.args
        run = copy_with(job, args=args, kwargs=job.kwargs if self.kwargs is None else self.kwargs)
        if isinstance(run, ScheduledJob):
            run.overridden = self._shown()
        return run

    def check(self, job: Job) -> None:
        """Raise InvalidDefinition where the job's function does not take these arguments."""
        if self:
            run = self.apply(job)
            check_call(run.func, run.args, run.kwargs)

    def dump(self) -> str | None:
        """Return them as JSON text for `load`; None where there are none. Raises InvalidDefinition."""
        if not self:
            return None
        given: dict[str, Any] = {}
        if self.args is not None:
            given["args"] = [lossless(value, f"args[{index}]") for index, value in enumerate(self.args)]
        if self.kwargs is not None:
            given["kwargs"] = {key: lossless(value, f"kwargs.{key}") for key, value in self.kwargs.items()}
        return json.dumps(given, separators=(",", ":"))

    def _shown(self) -> str | None:
        """Return the text for the record of a run; None for what a memory store takes and JSON cannot hold."""
        try:
            return self.dump()
        except InvalidDefinition:
            return None

    @classmethod
    def load(cls, text: str | None) -> Self:
        """Return what `dump` made the text of. Raises InvalidDefinition for a value of newer code."""
        if text is None:
            return cls()
        given = json.loads(text)
        args, kwargs = given.get("args"), given.get("kwargs")
        return cls(
            None if args is None else tuple(decode(value, where=f"args[{n}]") for n, value in enumerate(args)),
            None if kwargs is None else {key: decode(value, where=f"kwargs.{key}") for key, value in kwargs.items()},
        )


FIELDS: Mapping[str, Field] = {key: jobs.FIELDS[key] for key in ("args", "kwargs")}
"""By key of a request."""
NO_OVERRIDES = Overrides()
