"""Moments as microseconds since 1970."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quart_sched.model.instants import micros, moment

EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_in_microseconds_is_exact(at: datetime) -> None:
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros(at)) == at


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_comes_back_as_it_was(at: datetime) -> None:
    assert moment(micros(at)) == at


@pytest.mark.parametrize(
    ("at", "zone", "read"),
    [
        (datetime(9999, 12, 31, 23, tzinfo=UTC), EAST, datetime(9999, 12, 31, 23, tzinfo=UTC)),
        (datetime(1, 1, 1, tzinfo=UTC), WEST, datetime(1, 1, 1, tzinfo=UTC)),
        (datetime(9999, 12, 31, 23, tzinfo=WEST), UTC, datetime.max.replace(tzinfo=UTC)),
        (datetime(1, 1, 1, tzinfo=EAST), UTC, datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_beyond_the_calendar_it_is_read_as_its_end(at: datetime, zone: timezone, read: datetime) -> None:
    assert moment(micros(at), zone) == read
