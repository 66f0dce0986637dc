"""Changes: who did what to the jobs and to the scheduler, and when."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self, get_args

from . import pages
from .actor import NAMELESS
from .fields import Field, Schema, record, ref, text, wrong

Action = Literal[
    "add", "import", "declare", "modify", "pause", "resume", "prune", "remove", "broken", "mended", "start", "stop"
]
"""`declare`: the code declares it so; `prune`: the code declares it no more; `broken`: nobody can run it; `mended`: it
can be run again; `start` and `stop` are those of the scheduler in this process."""


class Change(NamedTuple):
    """Something was changed: a job, or where `job_id` is None the scheduler as a whole.

    `actor` is a user's name or one of `NAMELESS`; None where it is not known. `version` is the job's from then on.
    `detail` says more: the keys that were modified, why a job is broken.
    """

    at: datetime
    actor: str | None
    action: Action
    job_id: str | None = None
    version: int | None = None
    detail: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "at": self.at.isoformat(),
            "actor": self.actor,
            "action": self.action,
            "job_id": self.job_id,
            "version": self.version,
            "detail": self.detail,
        }


CHANGE: Schema = record(
    {
        "at": ref("Moment"),
        "actor": {"type": ["string", "null"], "description": f"A user, or one of {', '.join(NAMELESS)}."},
        "action": {"enum": [*get_args(Action)]},
        "job_id": {"type": ["string", "null"], "description": "Null for the scheduler as a whole."},
        "version": {"type": ["integer", "null"], "description": "The job's from then on."},
        "detail": {"type": ["string", "null"], "description": "What was modified, or why a job is broken."},
    }
)
"""The JSON Schema of what `Change.to_wire` returns."""


class Place(NamedTuple):
    """The place of a change in the list: by time, then by the list that it stands in, and by its number there."""

    at_us: int
    source: str
    number: int

    def encode(self) -> str:
        """Return the place as the opaque text that clients send back."""
        return pages.pack(f"{self.at_us} {self.number} {self.source}")

    @classmethod
    def decode(cls, text: Any) -> Self:
        """Return the place that `encode` made the text of. Raises InvalidDefinition."""
        if isinstance(text, cls):
            return text
        if match := _PLACE.fullmatch(pages.unpack(text)):
            place = cls(int(match[1]), match[3], int(match[2]))
            if place.encode() == text:
                return place
        wrong("cursor", text, "the `next` of a page of changes")


_PLACE = re.compile(r"(-?[0-9]{1,18}) ([0-9]{1,18}) (.*)", re.DOTALL)

QUERY: Mapping[str, Field] = {
    "job_id": text(0, expected="the id of a job").about("Changes of this job alone."),
    "limit": pages.LIMIT,
    "cursor": pages.cursor(Place.decode),
}
"""What can be asked of the list, by key of a query."""

Placed = tuple[Place, Change]


class ChangePage(NamedTuple):
    """Some changes, newest first, and the cursor that leads on from there: None where there are no more."""

    items: tuple[Change, ...]
    next: str | None


class ChangeQuery(NamedTuple):
    """Which changes to list, newest first: of one job, or of all and of the scheduler as a whole.

    `before` is the place where the page before ended.
    """

    job_id: str | None = None
    limit: int = 50
    before: Place | None = None

    @classmethod
    def parse(cls, job_id: Any, limit: Any, cursor: Any) -> Self:
        """Take Python's objects or text. Raises InvalidDefinition naming the key, the value and what was expected."""
        given = {"job_id": job_id, "limit": limit, "cursor": cursor}
        job_id, limit, before = (
            None if value is None and key != "limit" else QUERY[key](key, value) for key, value in given.items()
        )
        return cls(job_id, limit, before)

    def select(self, found: Iterable[Placed]) -> ChangePage:
        """Return the page, out of at least one more change of each list than it has room for."""
        ordered = sorted(found, key=lambda placed: placed[0], reverse=True)
        items = ordered[: self.limit]
        more = items[-1][0].encode() if len(ordered) > self.limit else None
        return ChangePage(tuple(change for _, change in items), more)


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Return the keys whose values differ, for a person; None where there are none."""
    return ", ".join(key for key in {**before, **after} if before.get(key) != after.get(key)) or None
