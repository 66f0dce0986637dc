"""Which stretches of time can be asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quart_sched.errors import InvalidDefinition
from quart_sched.model.stretches import StretchQuery

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((NOW, NOW, 1), "until: is"),
        ((NOW, NOW - timedelta(1), 1), "expected a time after since"),
        ((NOW, NOW + timedelta(1), 0), "buckets: is 0; expected a whole number from 1 to 1000"),
        ((NOW, NOW + timedelta(1), 1001), "buckets: is 1001"),
        ((NOW, NOW + timedelta(1), True), "buckets: is True"),
        ((NOW, NOW + timedelta(1), "5"), "buckets: is '5'"),
        ((NOW.replace(tzinfo=None), NOW, 5), "since: is datetime"),
        (("yesterday", NOW, 5), "since: is 'yesterday'; expected an aware datetime"),
        ((NOW, NOW + timedelta(microseconds=3), 4), "until"),
    ],
)
def test_what_cannot_be_counted_is_named(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidDefinition, match=message):
        StretchQuery.parse(*values)


def test_stretches_cover_the_whole_time() -> None:
    query = StretchQuery.parse(NOW, NOW + timedelta(microseconds=10), 3)
    assert query.width_us == 4
    assert query.begins(2) == NOW + timedelta(microseconds=8)
