"""Moments as microseconds since 1970, which databases and ids hold exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Return an aware moment as microseconds since 1970, exactly."""
    return (moment - EPOCH) // _MICROSECOND


def moment(us: int, zone: tzinfo = UTC) -> datetime:
    """Return microseconds since 1970 as an aware moment in `zone`."""
    return (EPOCH + timedelta(microseconds=us)).astimezone(zone)
