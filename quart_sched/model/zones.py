"""Zones: which one a trigger goes by, what it is called, and moments in it."""

from __future__ import annotations

from datetime import UTC, datetime, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from apscheduler.util import convert_to_datetime

from ..errors import InvalidDefinition
from .unrestorable import as_stored


def zone_of(trigger: Any) -> tzinfo | None:
    """Return the zone whose clock a trigger goes by: a combined one's is that of its first part; None without any."""
    trigger = as_stored(trigger)
    parts = getattr(trigger, "triggers", None)
    if parts:
        return zone_of(parts[0])
    zone = getattr(trigger, "timezone", None) or getattr(getattr(trigger, "run_date", None), "tzinfo", None)
    # One of the user's own may call anything its time zone.
    return zone if isinstance(zone, tzinfo) else None


def canonical_zone(zone: tzinfo) -> tzinfo:
    """Return the one object that stands for this zone, so that equal zones are equal."""
    if zone is UTC:
        return UTC
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if name == "UTC" or zone == UTC:
        return UTC
    return ZoneInfo(name) if isinstance(name, str) and not isinstance(zone, ZoneInfo) else zone


def zone_name(zone: tzinfo) -> str:
    """Return the name by which the wire knows `zone`."""
    if (key := getattr(zone, "key", None)) is not None:
        return str(key)
    if isinstance(zone, timezone):
        return "UTC" if zone == UTC else datetime(2000, 1, 1, tzinfo=zone).isoformat()[19:]
    return str(zone)


def in_zone(moment: datetime, zone: tzinfo) -> datetime:
    """Return an aware moment in `zone`, or as it is where the calendar ends there before.

    A trigger of the user's own may fire at the very end of the calendar: that is not to keep others from being shown.
    """
    try:
        return moment.astimezone(zone)
    except OverflowError:
        return moment


def localize(key: str, moment: datetime, zone: tzinfo) -> datetime:
    """Return a moment in `zone`, whose clock a naive one was read from.

    Raises InvalidDefinition, which names the `key`, where the calendar ends there before.
    """
    try:
        if moment.tzinfo is not None:
            # By way of UTC: within one zone astimezone leaves a time that the clocks skip as it is.
            return moment.astimezone(UTC).astimezone(zone)
        localized: datetime = convert_to_datetime(moment, zone, key)
        return localized
    except (OverflowError, ValueError, OSError) as error:
        raise InvalidDefinition(key, f"is {moment.isoformat()}, out of range in {zone_name(zone)}: {error}") from error
