"""The feed: what happened lately, and the streams that clients follow it by and can resume.

News come in batches, each with a number. With a shared store that is the number of a row, and a row that was committed
late has a lower one than some that were seen before: the numbers in between that are not there yet are gaps.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from ..model.news import RESET, News

RESUMABLE = 300.0
"""Seconds for which a stream that has ended can be resumed."""
BACKLOG = 500
"""News that a stream may be behind with; beyond that it starts anew."""
_LEEWAY = 30.0
"""Seconds for which batches are kept beyond that: a stream may be so much behind when it ends."""
_SIZE = 5000
"""News that are kept, at most."""
_LATE = 10.0
"""Seconds after which a number that has not come up will not: its transaction was rolled back."""
_GAPS = 100


class Batch(NamedTuple):
    """News that were told together."""

    number: int
    at_us: int
    news: tuple[News, ...]


@dataclass(slots=True)
class Position:
    """What a stream has told, for the client to say when it comes again.

    That is every batch up to `high` but those in `gaps`, and of the batches in `parts` so many news; of the log that it
    follows, the lines before `line`. `at_us` is when that was all there was.
    """

    epoch: str
    at_us: int
    high: int
    gaps: set[int] = field(default_factory=set)
    parts: dict[int, int] = field(default_factory=dict)
    log: str = ""
    line: int = 0

    def encode(self) -> str:
        """Return the position as the opaque text that clients send back."""
        gaps = "_".join(map(str, sorted(self.gaps)))
        parts = "_".join(f"{number}-{told}" for number, told in self.parts.items())
        return f"{self.epoch}.{self.at_us}.{self.high}.{gaps}.{parts}.{self.log}_{self.line}"

    @classmethod
    def decode(cls, text: str | None) -> Self | None:
        """Return the position that `encode` made the text of; None for any other text."""
        match = _POSITION.fullmatch(text or "")
        if match is None:
            return None
        gaps = {int(number) for number in match[4].split("_") if number}
        parts = {int(number): int(told) for number, told in re.findall(r"(\d+)-(\d+)", match[5])}
        return cls(match[1], int(match[2]), int(match[3]), gaps, parts, match[6], int(match[7]))

    def covers(self, number: int) -> bool:
        """Tell whether all of this batch has been told."""
        return number <= self.high and number not in self.gaps

    def cover(self, number: int, gaps: Iterable[int]) -> None:
        """Take note that all of this batch has been told; `gaps` are numbers that are still to come."""
        self.parts.pop(number, None)
        if number > self.high:
            self.gaps.update(gap for gap in gaps if self.high < gap < number)
            self.high = number
        else:
            self.gaps.discard(number)


_NUMBER = r"([0-9]{1,18})"
_POSITION = re.compile(
    rf"([0-9a-z-]{{1,36}})\.{_NUMBER}\.{_NUMBER}\.((?:[0-9]{{1,18}}(?:_[0-9]{{1,18}}){{0,{2 * _GAPS}}})?)"
    rf"\.((?:[0-9]{{1,18}}-[0-9]{{1,9}}(?:_[0-9]{{1,18}}-[0-9]{{1,9}}){{0,{_GAPS}}})?)\.([0-9a-f]{{0,8}})_{_NUMBER}"
)


class Stream:
    """One client's way through the feed: what it is still to be told. To be used on the loop alone."""

    def __init__(
        self, feed: Feed, last_id: str | None, job_id: str | None, run_id: str | None, follow: Callable[[str], None]
    ) -> None:
        """Tell of one job or run alone where that is given; `follow` is called to have a run's log told from line 0."""
        self.run_id = run_id
        self.changed = asyncio.Event()
        """Set when there is something to take, or no more to come."""
        self.closed = False
        self._feed = feed
        self._job_id = job_id
        self._last = Position.decode(last_id)
        self._log = "" if run_id is None else f"{zlib.crc32(run_id.encode(errors='replace')):x}"
        self._follow = follow
        self._position: Position | None = None
        self._queue: deque[Batch] = deque()
        """In the order of their numbers, or an id could claim what is further behind."""
        self._behind = 0
        self._reset = False

    def begin(self) -> None:
        """Go on where the client was, or start anew where it is not known what came since. The feed is complete."""
        backlog = None if self._last is None else self._feed.since(self._last)
        if self._last is None or backlog is None:
            self.reset()
            return
        waiting = {batch.number for batch in backlog} | self._feed.gaps.keys()
        gaps = {gap for gap in self._last.gaps if gap in waiting or gap > self._feed.high}
        same_log = self._last.log == self._log
        self._position = replace(
            self._last, gaps=gaps, parts=dict(self._last.parts), log=self._log, line=self._last.line if same_log else 0
        )
        if not same_log:
            self._ask()
        for batch in sorted(backlog):
            self.offer(batch)
        self.changed.set()

    def reset(self) -> None:
        """Start anew: the client is to read everything again."""
        feed = self._feed
        self._queue.clear()
        self._behind, self._reset = 0, True
        self._position = Position(feed.epoch, feed.at_us, feed.high, set(feed.gaps), log=self._log)
        self._ask()
        self.changed.set()

    def restart(self) -> None:
        """Start anew, unless it has not begun."""
        if self._position is not None:
            self.reset()

    def _ask(self) -> None:
        if self.run_id is not None:
            self._follow(self.run_id)

    def offer(self, batch: Batch) -> None:
        """Take in what is to be told."""
        if self._position is None or self._position.covers(batch.number):
            return
        place = len(self._queue)
        while place and self._queue[place - 1].number > batch.number:
            place -= 1
        self._queue.insert(place, batch)
        self._behind += sum(map(self._wants, batch.news[self._position.parts.get(batch.number, 0) :]))
        if self._behind > BACKLOG:
            self.reset()
        elif self._behind:
            self.changed.set()

    def close(self) -> None:
        """Let no more come; what is there can still be taken."""
        self.closed = True
        self.changed.set()

    @property
    def last_id(self) -> str | None:
        """Where the client can go on by now; None before the feed is complete."""
        if self._position is None:
            return None
        if not self._queue:
            self._position.at_us = self._feed.at_us
        return self._position.encode()

    def take(self, limit: int = 100) -> list[tuple[str, dict[str, Any], str]]:
        """Return what is to be told next, at most so much: kind, data, and the id to go on from behind it."""
        self.changed.clear()
        taken: list[tuple[str, dict[str, Any], str]] = []
        if (position := self._position) is None:
            return taken
        if self._reset:
            self._reset = False
            taken.append((RESET.kind, RESET.data, position.encode()))
        while self._queue:
            batch = self._queue[0]
            for index, news in enumerate(batch.news):
                if index < position.parts.get(batch.number, 0) or not self._wants(news):
                    continue
                if len(taken) == limit:
                    self.changed.set()
                    return taken
                self._behind -= 1
                position.parts[batch.number] = index + 1
                data = news.data if news.kind != "log" else self._next_lines(news.data, position)
                if data is not None:
                    taken.append((news.kind, data, position.encode()))
            self._queue.popleft()
            position.cover(batch.number, self._feed.gaps)
            position.at_us = max(position.at_us, batch.at_us)
        return taken

    def _wants(self, news: News) -> bool:
        """Tell whether the client asked for this. The scheduler concerns every job."""
        if news.kind in ("reset", "scheduler"):
            return True
        if news.kind == "log":
            return self.run_id is not None and news.data["run_id"] == self.run_id
        if self._job_id is not None and news.data["job_id"] != self._job_id:
            return False
        if news.kind == "job":
            return self._job_id is not None or self.run_id is None
        return self.run_id is None or news.data["run_id"] == self.run_id

    def _next_lines(self, data: dict[str, Any], position: Position) -> dict[str, Any] | None:
        """Return the lines that the client has not been told yet, as they are told; None where there are none."""
        start, lines = data["line"], data["lines"]
        if start > position.line:
            # Others have been following before, or some were lost: the log is to come again.
            self._ask()
            return None
        new = lines[position.line - start :]
        if not new:
            return None
        first, position.line = position.line, start + len(lines)
        return {"run_id": data["run_id"], "job_id": data["job_id"], "line": first, "text": "\n".join(new)}


class Feed:
    """The batches of the last minutes, and who follows them. `epoch` names where the numbers come from."""

    def __init__(self, epoch: str) -> None:
        self.streams: set[Stream] = set()
        self.epoch = epoch
        self.at_us = 0
        """Up to when everything is there."""
        self.high = 0
        self.gaps: dict[int, int] = {}
        """Numbers that have not come up, with when that was noticed first, in microseconds."""
        self._since_us = 0
        self._floor = 0
        self._batches: deque[Batch] = deque()
        self._size = 0

    def begin(self, epoch: str, at_us: int, *, high: int, floor: int = 0, since_us: int = 0) -> None:
        """Forget everything. Batches up to `high` do not come any more.

        Of those up to `floor`, and of what was before `since_us`, it is not known what they were.
        """
        self.epoch, self.at_us, self.high = epoch, at_us, high
        self._floor, self._since_us = floor, since_us
        self.gaps.clear()
        self._batches.clear()
        self._size = 0

    def add(self, number: int, at_us: int, news: tuple[News, ...]) -> None:
        """Take in a batch and tell the streams."""
        if number > self.high:
            for gap in range(max(self.high + 1, number - _GAPS), number):
                self.gaps[gap] = self.at_us
            self.high = number
        elif self.gaps.pop(number, None) is None:
            return
        batch = Batch(number, at_us, news)
        self._batches.append(batch)
        self._size += len(news)
        while self._size > _SIZE:
            self._drop()
        for stream in self.streams:
            stream.offer(batch)

    def complete(self, at_us: int) -> None:
        """Take note that everything up to a time is there."""
        self.at_us = max(self.at_us, at_us)
        for gap in [gap for gap, since in self.gaps.items() if since < at_us - _LATE * 1e6]:
            del self.gaps[gap]
        for gap in sorted(self.gaps)[:-_GAPS]:
            del self.gaps[gap]
        while self._batches and self._batches[0].at_us < at_us - (RESUMABLE + _LEEWAY) * 1e6:
            self._drop()

    def _drop(self) -> None:
        dropped = self._batches.popleft()
        self._size -= len(dropped.news)
        self._floor = max(self._floor, dropped.number)

    def since(self, position: Position) -> list[Batch] | None:
        """Return what came after a position; None where that is not known."""
        oldest = max(self._since_us, self.at_us - int(RESUMABLE * 1e6))
        if position.epoch != self.epoch or position.at_us < oldest or position.high < self._floor:
            return None
        return [batch for batch in self._batches if not position.covers(batch.number)]
