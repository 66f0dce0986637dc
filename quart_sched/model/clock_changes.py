"""Clock changes: when a zone's clocks go forward or back, and which times on the wall are then skipped or repeated."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

_SECOND = timedelta(seconds=1)
_STRIDE = timedelta(hours=12)  # no zone ever changed its clocks twice within that


class ClockChange(NamedTuple):
    """A change of a zone's clocks at the moment `at`, in UTC: its offset is `before`, and from then on `after`."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def forward(self) -> bool:
        """Whether the clocks go forward and skip times, instead of back."""
        return self.after > self.before

    @property
    def wall(self) -> tuple[datetime, datetime]:
        """The naive times, from the first up to the second exclusively, that are skipped, or come twice."""
        reached, resumed = (self.at.replace(tzinfo=None) + offset for offset in (self.before, self.after))
        return (reached, resumed) if self.forward else (resumed, reached)


def change_around(wall: datetime, zone: tzinfo) -> ClockChange | None:
    """Return the clock change that skips or repeats the naive time `wall` in `zone`; None for a time like any other."""
    # The two sides of a change tell by `fold` (PEP 495): it is 0 for the time before, 1 for that after.
    before, after = (_offset(wall.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    if before == after:
        return None
    first, last = sorted(wall.replace(tzinfo=UTC, fold=0, microsecond=0) - offset for offset in (before, after))
    return _narrowed(first, last, zone)


def changes_between(begin: datetime, end: datetime, zone: tzinfo) -> Iterator[ClockChange]:
    """Return the clock changes of `zone` after `begin` and up to `end`, of which each is an aware time."""
    # Offsets change at whole seconds.
    first, stop = (moment.astimezone(UTC).replace(microsecond=0) for moment in (begin, end))
    while first < stop:
        last = min(first + _STRIDE, stop)
        if _offset(first.astimezone(zone)) != _offset(last.astimezone(zone)):
            yield _narrowed(first, last, zone)
        first = last


def _narrowed(first: datetime, last: datetime, zone: tzinfo) -> ClockChange:
    """Return the one change after `first` and up to `last`, whole seconds in UTC."""
    before, after = (_offset(moment.astimezone(zone)) for moment in (first, last))
    while last - first > _SECOND:
        middle = first + (last - first) // (2 * _SECOND) * _SECOND
        if _offset(middle.astimezone(zone)) == before:
            first = middle
        else:
            last = middle
    return ClockChange(last, before, after)


def _offset(moment: datetime) -> timedelta:
    offset = moment.utcoffset()
    assert offset is not None  # the zone of an aware time
    return offset
