"""How values are shown: times, durations, outcomes and arguments, as text that templates escape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from statistics import median
from typing import Any

from ...model import arguments
from ...model.runs import RunRecord
from ...model.zones import in_zone, zone_name, zone_of
from ..answers import dump

SYMBOLS = {
    "succeeded": "✓", "failed": "✕", "timed_out": "◔", "cancelled": "⊘", "missed": "◌", "skipped": "↷",
    "coalesced": "≡", "lost": "?", "running": "▶", "queued": "…", "retry_wait": "↻", "scheduled": "●", "paused": "‖",
    "broken": "⚠", "overdue": "!", "pending": "○", "ended": "■",
}  # fmt: skip
"""Each outcome and state has a shape besides its colour."""


def wall(moment: datetime, zone: tzinfo | None = None) -> str:
    """Return the time on a clock in `zone`, to the second."""
    return (moment if zone is None else in_zone(moment, zone)).strftime("%Y-%m-%d %H:%M:%S")


def iso(moment: datetime) -> str:
    """Return the moment for a script to read."""
    return in_zone(moment, UTC).isoformat()


def seconds(value: float | None) -> str:
    """Return a duration in the two units that suit its size; a dash where there is none."""
    if value is None:
        return "\N{EN DASH}"
    if 0 < value < 0.00995:
        return f"{value * 1000:.1f} ms"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    first = next(index for index, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number)


def distance(moment: datetime, now: datetime) -> str:
    """Return how far a moment is from now, without saying whether before or behind."""
    return seconds(abs(round((moment - now).total_seconds()))) if moment != now else "0 s"


def as_json(value: Any) -> str:
    """Return an argument as the JSON that the forms take."""
    return dump(arguments.show(value))


def data(value: Any) -> str:
    """Return plain data for a script to read out of an attribute."""
    return dump(value, separators=(",", ":"))


def sparkline(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Return the bars of the last runs, oldest first, each with its height in percent, and what they say."""
    ordered = list(reversed(runs))
    durations = [run.duration for run in ordered if run.duration is not None]
    tallest = max(durations, default=0.0) or 1.0
    bars = [
        {"outcome": run.outcome, "height": 12 + 88 * (run.duration or 0.0) / tallest, "seconds": run.duration}
        for run in ordered
    ]
    good = sum(run.outcome == "succeeded" for run in ordered)
    return {"bars": bars, "good": good, "count": len(ordered), "median": median(durations) if durations else None}


def int_time(moment: datetime) -> int:
    """Return the moment in seconds since 1970, as the charts take it."""
    return int(moment.timestamp())


FILTERS: dict[str, Callable[..., Any]] = {"int_time": int_time, "pair": lambda value: (value, value)}
GLOBALS: dict[str, Callable[..., Any] | dict[str, str]] = {
    "wall": wall, "iso": iso, "zone_of": zone_of, "seconds": seconds, "distance": distance, "as_json": as_json,
    "data": data, "sparkline": sparkline, "zone_name": zone_name, "SYMBOLS": SYMBOLS,
}  # fmt: skip
