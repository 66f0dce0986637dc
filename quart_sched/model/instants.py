"""Moments as microseconds since 1970, which databases and ids hold exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from .zones import in_zone

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Return an aware moment as microseconds since 1970, exactly."""
    return (moment - EPOCH) // _MICROSECOND


def moment(us: int, zone: tzinfo = UTC) -> datetime:
    """Return microseconds since 1970 as an aware moment in `zone`; beyond the calendar, as its end."""
    return in_zone(EPOCH + timedelta(microseconds=min(max(us, _FIRST), _LAST)), zone)


_FIRST, _LAST = micros(datetime.min.replace(tzinfo=UTC)), micros(datetime.max.replace(tzinfo=UTC))
