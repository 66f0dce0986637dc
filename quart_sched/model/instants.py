"""Moments as microseconds since 1970, which databases and ids hold exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Return an aware moment as microseconds since 1970, exactly."""
    return (moment - EPOCH) // _MICROSECOND


def moment(us: int, zone: tzinfo = UTC) -> datetime:
    """Return microseconds since 1970 as an aware moment in `zone`; beyond the calendar, as its end."""
    return in_zone(EPOCH + timedelta(microseconds=min(max(us, _FIRST), _LAST)), zone)


def in_zone(moment: datetime, zone: tzinfo) -> datetime:
    """Return an aware moment in `zone`, or as it is where the calendar ends there before.

    A trigger of the user's own may fire at the very end of the calendar: that is not to keep others from being shown.
    """
    try:
        return moment.astimezone(zone)
    except OverflowError:
        return moment


_FIRST, _LAST = micros(datetime.min.replace(tzinfo=UTC)), micros(datetime.max.replace(tzinfo=UTC))
