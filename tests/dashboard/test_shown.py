"""How values are shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from quart_sched.model.runs import RunRecord
from quart_sched.web.dashboard.shown import distance, seconds, sparkline
from quart_sched.web.dashboard.timeline import SPANS, Window

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0.0, "0 ms"), (0.0004, "0.4 ms"), (0.00999, "10 ms"),
        (0.0123, "12 ms"), (0.9996, "1.0 s"), (59.94, "59.9 s"), (59.96, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"), (3605, "1 h"), (3660, "1 h 1 min"), (90_061, "1 d 1 h"), (86_400 * 400, "400 d"),
    ],
)  # fmt: skip
def test_a_duration_has_at_most_two_units_that_follow_each_other(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_a_distance_is_the_same_before_and_behind() -> None:
    assert distance(NOW + timedelta(hours=2), NOW) == distance(NOW - timedelta(hours=2), NOW) == "2 h"
    assert distance(NOW, NOW) == "0 s"


def test_bars_are_as_high_as_their_runs_took_long() -> None:
    runs = [
        RunRecord(f"{n}", f"{n}", "job", NOW, outcome, "schedule", "h:1", 1, started, finished)  # type: ignore[arg-type]
        for n, outcome, started, finished in (
            (3, "missed", None, None),
            (2, "failed", NOW, NOW + timedelta(seconds=4)),
            (1, "succeeded", NOW, NOW + timedelta(seconds=2)),
        )
    ]
    line = sparkline(runs)
    assert [(bar["outcome"], bar["height"]) for bar in line["bars"]] == [
        ("succeeded", 56),
        ("failed", 100),
        ("missed", 12),
    ]
    assert (line["good"], line["count"], line["median"]) == (1, 3, 3)
    assert sparkline([])["median"] is None


@pytest.mark.parametrize("span", SPANS)
def test_a_window_shows_now_at_four_fifths_and_round_times(span: str) -> None:
    window = Window.around(NOW, span)
    assert window.percent(window.now) == 80
    assert window.percent(window.since - timedelta(days=1)) == 0
    assert window.percent(window.until + timedelta(days=1)) == 100
    assert 3 <= len(window.ticks) <= 8
    assert all(tick["at"].minute % 5 == 0 and tick["at"].second == 0 for tick in window.ticks)
