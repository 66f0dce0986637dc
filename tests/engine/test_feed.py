"""The feed: batches, positions, gaps, and streams that are resumed without loss or repetition."""

from __future__ import annotations

import random
from typing import Any

import pytest

from quart_sched.engine.feed import BACKLOG, RESUMABLE, Feed, Position, Stream
from quart_sched.model.news import RESET, News, of_log

SECOND = 1_000_000
START_US = 1_000 * SECOND
RUN = "01a20dc5-88ca-7d61-b336-a606787398e3"


def run(number: int, job_id: str = "job", run_id: str = RUN) -> News:
    return News("run", {"job_id": job_id, "run_id": run_id, "n": number})


@pytest.fixture
def feed() -> Feed:
    made = Feed("")
    made.begin("epoch", START_US, high=0)
    return made


def stream(
    feed: Feed, last_id: str | None = None, *, job_id: str | None = None, run_id: str | None = None,
    asked: list[str] | None = None,
) -> Stream:  # fmt: skip
    """A stream that has begun."""
    asks = [] if asked is None else asked
    made = Stream(feed, last_id, job_id, run_id, asks.append)
    feed.streams.add(made)
    made.begin()
    return made


def add(feed: Feed, number: int, *news: News, at: float = 0.0) -> None:
    feed.complete(START_US + int(at * SECOND))
    feed.add(number, START_US + int(at * SECOND), news or (run(number),))


def told(stream: Stream) -> list[Any]:
    """The kinds of what is told, runs by their number."""
    found = []
    while items := stream.take():
        found += [data.get("n", kind) for kind, data, _ in items]
    return found


def resumed(feed: Feed, at: Stream | str | None) -> list[Any]:
    last_id = at.last_id if isinstance(at, Stream) else at
    return told(stream(feed, last_id))


# Begin and resume


def test_a_stream_begins_with_a_reset_and_tells_what_comes_then(feed):
    add(feed, 1)
    one = stream(feed)
    add(feed, 2)
    assert told(one) == ["reset", 2]
    assert told(one) == []


def test_a_stream_is_resumed_behind_what_it_has_told(feed):
    one = stream(feed)
    add(feed, 1)
    add(feed, 2)
    told(one)
    add(feed, 3)
    assert resumed(feed, one.last_id) == [3]


def test_it_is_resumed_in_the_middle_of_a_batch(feed):
    one = stream(feed)
    add(feed, 1, run(1), run(2), run(3))
    ids = {data.get("n"): place for _, data, place in one.take()}
    assert resumed(feed, ids[1]) == [2, 3]
    assert resumed(feed, ids[3]) == []


def test_what_is_taken_in_parts_is_told_once(feed):
    one = stream(feed)
    add(feed, 1, run(1), run(2), run(3))
    add(feed, 2, run(4))
    found = []
    while items := one.take(2):
        assert len(items) <= 2
        found += [data.get("n", kind) for kind, data, _ in items]
    assert found == ["reset", 1, 2, 3, 4]


def test_the_id_moves_on_with_what_a_filter_leaves_out(feed):
    one = stream(feed, job_id="other")
    for number in range(1, 4):
        add(feed, number)
    assert told(one) == ["reset"]
    assert resumed(feed, one.last_id) == []


@pytest.mark.parametrize(
    "last_id",
    ["", "1", "x" * 5000, "epoch.1.2", "other.1000000000.0..._0", "epoch.1000000000.0.1__2.._0", "\0", "ä", None],
)
def test_an_id_that_is_not_known_here_starts_anew(feed, last_id):
    add(feed, 1)
    assert resumed(feed, last_id) == ["reset"]


def test_a_stream_that_ended_too_long_ago_starts_anew(feed):
    one = stream(feed)
    told(one)
    place = one.last_id
    add(feed, 1, at=RESUMABLE)
    assert resumed(feed, place) == [1]
    add(feed, 2, at=RESUMABLE + 0.1)
    assert resumed(feed, place) == ["reset"]


def test_a_stream_of_before_it_was_known_that_anybody_listens_starts_anew(feed):
    place = stream(feed).last_id
    feed.begin("epoch", START_US + SECOND, high=0, since_us=START_US + SECOND)
    assert resumed(feed, place) == ["reset"]


def test_so_many_news_are_kept_and_what_came_before_is_not_known(feed):
    one = stream(feed, job_id="rare")
    told(one)
    place = one.last_id
    for number in range(1, 30):
        add(feed, number, *(run(n) for n in range(200)))
    assert sum(len(batch.news) for batch in feed._batches) <= 5000
    assert told(stream(feed, place, job_id="rare")) == ["reset"]


def test_old_batches_are_dropped(feed):
    for number in range(1, 1000):
        add(feed, number, at=float(number))
    assert len(feed._batches) < 340


# Late commits


def test_a_batch_with_a_lower_number_that_comes_late_is_told(feed):
    one = stream(feed)
    found = told(one)
    for number in (1, 3, 2, 5, 4):
        add(feed, number)
        found += told(one)
    assert found == ["reset", 1, 3, 2, 5, 4]
    assert feed.gaps == {}


def test_a_stream_that_was_resumed_gets_what_was_late_and_nothing_twice(feed):
    one = stream(feed)
    add(feed, 1)
    add(feed, 3)
    told(one)
    place = one.last_id
    add(feed, 2)
    add(feed, 4)
    assert resumed(feed, place) == [2, 4]


def test_a_stream_is_resumed_where_the_rows_were_seen_in_another_order(feed):
    here, there = feed, Feed("")
    there.begin("epoch", START_US, high=0)
    one = stream(here)
    for number in (1, 2, 4):
        add(here, number)
    told(one)
    two = stream(there, one.last_id)
    for number in (1, 4, 3, 2, 5):
        add(there, number)
    assert told(two) == [3, 5]


def test_a_number_that_never_comes_is_given_up(feed):
    add(feed, 1)
    add(feed, 3)
    assert set(feed.gaps) == {2}
    add(feed, 4, at=11)
    assert set(feed.gaps) == set()
    add(feed, 1000, at=12)
    assert len(feed.gaps) == 100


def test_the_same_batch_again_is_not_told_again(feed):
    one = stream(feed)
    add(feed, 1)
    add(feed, 1)
    assert told(one) == ["reset", 1]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_order_and_wherever_it_ends_each_is_told_once(seed):
    chance = random.Random(seed)
    feeds = []
    order = list(range(1, 60))
    for _ in range(3):
        # Each process sees the rows a little out of order, and another one is asked each time.
        seen = sorted(order, key=lambda number: number + chance.uniform(0, 6))
        feed = Feed("")
        feed.begin("epoch", START_US, high=0)
        feeds.append((feed, seen))
    found: list[Any] = []
    last_id = stream(feeds[0][0]).last_id
    while any(seen for _, seen in feeds) or chance.random() < 0.7:
        feed, _ = chance.choice(feeds)
        one = stream(feed, last_id)
        for other, seen in feeds:
            for number in seen[: (count := chance.randrange(8))]:
                add(other, number, run(10 * number), run(10 * number + 1))
            del seen[:count]
        for _, data, place in one.take(chance.randrange(1, 12)):
            found.append(data.get("n", "reset"))
            last_id = place
        feed.streams.discard(one)
    final = stream(feeds[0][0], last_id)
    found += told(final)
    assert "reset" not in found
    assert sorted(found) == sorted(n for number in order for n in (10 * number, 10 * number + 1))


# Bounds


def test_a_stream_that_falls_behind_starts_anew(feed):
    one = stream(feed)
    told(one)
    for number in range(1, BACKLOG + 3):
        add(feed, number)
    assert told(one) == ["reset", BACKLOG + 2]
    add(feed, BACKLOG + 3)
    assert told(one) == [BACKLOG + 3]


def test_what_it_did_not_ask_for_does_not_put_a_stream_behind(feed):
    one = stream(feed, job_id="rare")
    for number in range(1, 2 * BACKLOG):
        add(feed, number)
    add(feed, 2 * BACKLOG, run(7, "rare"))
    assert told(one) == ["reset", 7]


# Filters


def test_a_stream_tells_what_it_was_asked_for(feed):
    everything = [
        run(1), run(2, "other", "another"), News("job", {"job_id": "job", "action": "added"}),
        News("job", {"job_id": "other", "action": "removed"}), News("scheduler", {"action": "paused"}), RESET,
        of_log(RUN, "job", 0, ["line"]), of_log("another", "other", 0, ["line"]),
    ]  # fmt: skip

    def found(**filters: Any) -> list[Any]:
        one = stream(feed, **filters)
        one.take()
        one.offer(type(feed._batches[0])(10**6, START_US, tuple(everything)))
        return [(kind, data.get("job_id")) if kind != "log" else (kind, data["run_id"]) for kind, data, _ in one.take()]

    add(feed, 1)
    common = [("scheduler", None), ("reset", None)]
    assert found() == [("run", "job"), ("run", "other"), ("job", "job"), ("job", "other"), *common]
    assert found(job_id="job") == [("run", "job"), ("job", "job"), *common]
    assert found(run_id=RUN) == [("run", "job"), *common, ("log", RUN)]
    assert found(run_id=RUN, job_id="other") == [("job", "other"), *common, ("log", RUN)]


# Logs


def lines(stream: Stream) -> list[tuple[int, str]]:
    return [(data["line"], data["text"]) for kind, data, _ in stream.take() if kind == "log"]


def test_each_line_of_a_log_is_told_once(feed):
    asked: list[str] = []
    one = stream(feed, run_id=RUN, asked=asked)
    assert asked == [RUN]
    add(feed, 1, of_log(RUN, "job", 0, ["a", "b"]))
    add(feed, 2, of_log(RUN, "job", 2, ["c"]))
    assert lines(one) == [(0, "a\nb"), (2, "c")]
    # Told again from the beginning, as another one asked for it.
    two = stream(feed, one.last_id, run_id=RUN, asked=asked)
    add(feed, 3, of_log(RUN, "job", 0, ["a", "b", "c", "d"]))
    assert lines(one) == lines(two) == [(3, "d")]
    assert asked == [RUN]


def test_a_log_that_others_have_been_following_is_asked_for_anew(feed):
    asked: list[str] = []
    one = stream(feed, run_id=RUN, asked=asked)
    add(feed, 1, of_log(RUN, "job", 5, ["f"]))
    assert lines(one) == []
    assert asked == [RUN, RUN]
    add(feed, 2, of_log(RUN, "job", 0, ["a", "b", "c", "d", "e", "f"]))
    assert lines(one) == [(0, "a\nb\nc\nd\ne\nf")]


def test_the_place_in_one_log_is_none_in_another(feed):
    one = stream(feed, run_id=RUN)
    add(feed, 1, of_log(RUN, "job", 0, ["a", "b"]))
    one.take()
    asked: list[str] = []
    other = stream(feed, one.last_id, run_id="another", asked=asked)
    assert asked == ["another"]
    add(feed, 2, of_log("another", "job", 0, ["x"]))
    assert lines(other) == [(0, "x")]


def test_a_position_is_read_as_it_was_written():
    position = Position("0-a", 12, 345, {3, 17, 200}, {346: 4, 17: 1}, "ff00", 7)
    assert Position.decode(position.encode()) == position
