"""Circumstances: how it stood with a job, its scheduler and their processes at some moment of the past."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apscheduler.triggers.base import BaseTrigger

from .changes import Change

_ADDED = frozenset({"add", "import"})
_PAUSE_ENDS = frozenset({"resume", "remove", *_ADDED})
_PRUNE_ENDS = frozenset({"declare", "resume", "remove", *_ADDED})
_BREAK_ENDS = frozenset({"mended", "resume", "remove", *_ADDED})


@dataclass(frozen=True, slots=True)
class Hold:
    """Something that keeps jobs from firing, from `since` up to `until` exclusively; None where that is not known.

    `until` None also stands for what still lasts. `by` is who brought it about, `reason` why.
    """

    since: datetime | None
    until: datetime | None = None
    by: str | None = None
    reason: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return its times as the API shows them."""
        return {
            key: None if at is None else at.isoformat() for key, at in (("since", self.since), ("until", self.until))
        }


@dataclass(frozen=True, slots=True)
class Circumstances:
    """How it stood at a moment.

    `trigger` is the job's at that moment; None where nobody knows. A job that was not there has `added` or `removed`,
    or both: the change that brought it later, and the one that had taken it away before. `pruned` is the pause of a
    declared job that the code declares no more, `down` the time in which no process took fires. `breaks` is when it was
    next noticed that nobody can run the job, which takes a while: fires before that have waited in vain.
    """

    trigger: BaseTrigger | None = None
    added: Change | None = None
    removed: Change | None = None
    job_pause: Hold | None = None
    pruned: Hold | None = None
    broken: Hold | None = None
    breaks: Hold | None = None
    scheduler_pause: Hold | None = None
    down: Hold | None = None

    @property
    def absent(self) -> bool:
        """Whether the job was not there."""
        return self.added is not None or self.removed is not None


def circumstances(
    at: datetime,
    of_job: Sequence[Change],
    of_scheduler: Sequence[Change],
    *,
    trigger: BaseTrigger | None,
    down: Hold | None,
) -> Circumstances:
    """Tell how it stood at the aware moment `at` from the changes before and behind it, oldest first."""
    last = next((each for each in reversed(of_job) if each.at <= at and each.action in {*_ADDED, "remove"}), None)
    removed = last if last is not None and last.action == "remove" else None
    following = next((each for each in of_job if each.at > at), None)
    # Where the next change is none that brings it, the job was there, and what brought it is not known any more.
    comes = following is not None and following.action in _ADDED and (last is None or removed is not None)
    return Circumstances(
        trigger,
        following if comes else None,
        removed,
        hold_at(at, of_job, "pause", _PAUSE_ENDS),
        hold_at(at, of_job, "prune", _PRUNE_ENDS),
        hold_at(at, of_job, "broken", _BREAK_ENDS),
        None if following is None else hold_at(following.at, of_job, "broken", _BREAK_ENDS),
        hold_at(at, of_scheduler, "pause", frozenset({"resume", "start", "stop"})),
        down,
    )


def hold_at(at: datetime, changes: Iterable[Change], begin: str, ends: frozenset[str]) -> Hold | None:
    """Return what an action `begin` had brought about by `at`, and none of `ends` had ended; None where nothing."""
    held: Change | None = None
    for change in changes:
        if change.at > at:
            if held is not None and change.action in ends:
                return Hold(held.at, change.at, held.actor, held.detail)
        elif change.action in ends:
            held = None
        elif change.action == begin and held is None:
            held = change
    return None if held is None else Hold(held.at, None, held.actor, held.detail)


def down_at(at: datetime, sessions: Iterable[tuple[datetime, datetime | None]]) -> Hold | None:
    """Return the time around `at` in which none of the `sessions` lasted, each from its start to its end, if any.

    None where one did.
    """
    since, until = None, None
    for start, end in sessions:
        if start > at:
            until = start if until is None else min(until, start)
        elif end is None or end > at:
            return None
        else:
            since = end if since is None else max(since, end)
    return Hold(since, until)
