"""The time line: one lane for each job, with its past runs and its fires to come, placed in percent of the width."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from ...model.forecast import Forecast
from ...model.instants import EPOCH, moment
from ...model.listing import JobEntry, JobPage
from ...model.runs import RunRecord
from ...model.stretches import Stretch
from .shown import iso

SPANS = {
    "15m": timedelta(minutes=15), "1h": timedelta(hours=1), "6h": timedelta(hours=6), "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}  # fmt: skip
_TICKS = {
    "15m": timedelta(minutes=5), "1h": timedelta(minutes=15), "6h": timedelta(hours=2), "24h": timedelta(hours=6),
    "7d": timedelta(days=2),
}  # fmt: skip
_FUTURE = 0.25
"""How far the line reaches ahead, as a share of how far it reaches back."""
_NARROWEST = 0.6
"""Percent of the width that can still be seen and hit on a phone."""
_SLACK = timedelta(minutes=1)
_ORDER = ("coalesced", "skipped", "succeeded", "cancelled", "missed", "lost", "timed_out", "failed")
"""What is drawn first; what matters more is drawn over it."""


@dataclass(frozen=True, slots=True)
class Window:
    """What the time line shows: from `since` to `until`, with `now` in between."""

    since: datetime
    now: datetime
    until: datetime
    span: str
    buckets: int = 240

    @classmethod
    def around(cls, now: datetime, span: str) -> Self:
        """Return the window that looks back one of SPANS, and a quarter of it ahead."""
        now = now.astimezone(UTC)
        return cls(now - SPANS[span], now, now + SPANS[span] * _FUTURE, span)

    def percent(self, moment: datetime) -> float:
        """Return where a moment lies, from 0 to 100."""
        share = (moment - self.since) / (self.until - self.since)
        return round(100 * min(max(share, 0.0), 1.0), 3)

    @property
    def ticks(self) -> list[dict[str, Any]]:
        """The marks of the axis, at round times."""
        step = _TICKS[self.span]
        first = EPOCH + ((self.since - EPOCH) // step + 1) * step
        moments = []
        while first < self.until:
            moments.append({"at": first, "x": self.percent(first)})
            first += step
        return moments


@dataclass(frozen=True, slots=True)
class Mark:
    """Something in a lane. Several runs of one outcome that lie close together are one mark of their `count`."""

    x: float
    width: float
    outcome: str
    count: int
    run_id: str | None
    begin: datetime
    end: datetime

    @property
    def around(self) -> dict[str, str]:
        """The filters of a list of runs that has these: the fire may have been due a while before its run began."""
        return {"since": iso(self.begin - _SLACK), "until": iso(self.end + _SLACK)}


@dataclass(frozen=True, slots=True)
class Lane:
    """One job's line."""

    entry: JobEntry
    job: Any
    marks: list[Mark]
    coming: list[float]
    counts: Mapping[str, int]
    more_coming: bool


def lanes(
    window: Window,
    page: JobPage,
    stretches: Iterable[Stretch],
    coming: Mapping[str, Forecast],
    under_way: Sequence[RunRecord],
) -> list[Lane]:
    """Return a lane for each job of the page."""
    by_job: dict[str, list[Stretch]] = defaultdict(list)
    for stretch in stretches:
        by_job[stretch.job_id].append(stretch)
    found = []
    for entry, job in page.items:
        mine = sorted(
            by_job[entry.id], key=lambda stretch: _ORDER.index(stretch.outcome) if stretch.outcome in _ORDER else 0
        )
        marks = [_of_stretch(window, stretch) for stretch in mine]
        marks += [_of_run(window, run) for run in under_way if run.job_id == entry.id and run.started_at is not None]
        counts: Counter[str] = Counter()
        for stretch in mine:
            counts[stretch.outcome] += stretch.runs
        forecast = coming.get(entry.id)
        fires = [] if forecast is None else sorted({round(window.percent(fire.at), 1) for fire in forecast.items})
        found.append(Lane(entry, job, marks, fires, dict(counts), forecast is not None and forecast.truncated))
    return found


def _of_stretch(window: Window, stretch: Stretch) -> Mark:
    begin = moment(stretch.first_us)
    end = max(begin, moment(stretch.last_us))
    return _mark(window, begin, end, stretch.outcome, stretch.runs, stretch.run_id if stretch.runs == 1 else None)


def _of_run(window: Window, run: RunRecord) -> Mark:
    begin = run.started_at or run.scheduled_at
    return _mark(window, begin, max(begin, window.now), "running", 1, run.run_id)


def _mark(window: Window, begin: datetime, end: datetime, outcome: str, count: int, run_id: str | None) -> Mark:
    left, right = window.percent(begin), window.percent(end)
    width = max(right - left, _NARROWEST)
    return Mark(min(left, 100 - width), round(width, 3), outcome, count, run_id, begin, end)
