"""The outbox: what happened in this process and is to be told, made small by leaving out what is outdated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..model.events import Event, JobChanged, RunEnded, RunReturned, RunSubmitted, RunWaits, SchedulerChanged
from ..model.news import RESET, News, of_job, of_log, of_scheduler
from ..model.runs import Run, RunRecord, standing, to_wire
from .runner import Runner

LIMIT = 200
"""News that are told at once; when there are more, `reset` takes their place."""

_Entry = News | RunRecord | Run


@dataclass(slots=True)
class _Followed:
    """A run whose log is wanted while it is written."""

    asked: int
    line: int = 0
    run: Run | None = None
    """The run, while it is under way here."""

    def news(self) -> list[News]:
        if self.run is None or self.run.log is None:
            return []
        lines = self.run.log.lines(self.line)
        start, self.line = self.line, self.line + len(lines)
        return [of_log(self.run.run_id, self.run.job_id, start, lines)] if lines else []


class Outbox:
    """Of each run and job the latest news alone, in the order in which they came."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._followed: dict[str, _Followed] = {}
        self._last_lines: list[News] = []
        self._lost = False

    def hear(self, event: Event) -> None:
        """Take in what happened."""
        match event:
            case RunSubmitted(run, _):
                self._put("run", run.run_id, run)
                if (followed := self._followed.get(run.run_id)) is not None:
                    followed.run = run
            case RunReturned(run, _):
                self._put("run", run.run_id, standing(run, "queued", "")._replace(started_at=None))
                if (followed := self._followed.get(run.run_id)) is not None:
                    followed.run = None
            case RunEnded(record, _):
                self._end_log(record)
                self._put("run", record.run_id, record)
            case RunWaits(record, _):
                self._put("run", record.run_id, record)
            case JobChanged():
                self._put("job", event.job_id, of_job(event))
            case SchedulerChanged():
                if (news := of_scheduler(event, self._runner.worker)) is RESET:
                    self.lose()
                elif news is not None:
                    self._put("scheduler", news.data["action"], news)

    def _put(self, kind: str, key: str, entry: _Entry) -> None:
        if self._lost:
            return
        # What came later stands further behind, also where it takes the place of something.
        self._entries.pop((kind, key), None)
        self._entries[kind, key] = entry
        if len(self._entries) > LIMIT:
            self.lose()

    def lose(self) -> None:
        """Tell the readers to read everything again, in place of what there is to be told."""
        self._entries.clear()
        self._lost = True

    def clear(self) -> None:
        """Tell nothing of all this."""
        self._entries.clear()
        self._last_lines.clear()
        self._lost = False

    def __bool__(self) -> bool:
        """Whether there may be something to tell."""
        return bool(self._entries or self._last_lines or self._lost or self._is_followed())

    def _is_followed(self) -> bool:
        return any(followed.run is not None for followed in self._followed.values())

    def take(self, unwritten: Callable[[str], bool] = lambda run_id: False) -> list[News]:
        """Return what is to be told, but the ends of runs that are `unwritten`: who reads of them is to find them."""
        news, self._last_lines = self._last_lines, []
        for followed in self._followed.values():
            news += followed.news()
        if self._lost:
            self._lost = False
            return [*news, RESET]
        entries, self._entries = self._entries, {}
        for key, entry in entries.items():
            if isinstance(entry, RunRecord) and unwritten(entry.run_id):
                self._entries[key] = entry
            else:
                news.append(self._news(entry))
        return news

    def _news(self, entry: _Entry) -> News:
        if isinstance(entry, News):
            return entry
        if isinstance(entry, Run):
            # Only now, as a task that was made a moment ago has begun meanwhile.
            entry = standing(entry, "queued" if entry.started_at is None else "running", self._runner.worker)
        return News("run", to_wire(entry))

    # Logs

    def follow(self, runs: Mapping[str, int]) -> None:
        """Tell what these runs log, and no others: each from its first line on when its number is a new one."""
        for run_id in self._followed.keys() - runs.keys():
            del self._followed[run_id]
        for run_id, asked in runs.items():
            followed = self._followed.get(run_id)
            if followed is None:
                self._followed[run_id] = _Followed(asked)
            elif followed.asked != asked:
                followed.asked, followed.line = asked, 0
        if any(followed.run is None for followed in self._followed.values()):
            for run in self._runner.under_way.runs():
                if (followed := self._followed.get(run.run_id)) is not None:
                    followed.run = run

    def _end_log(self, record: RunRecord) -> None:
        """Put aside what a run has logged at last."""
        followed = self._followed.get(record.run_id)
        if followed is None:
            return
        if followed.run is None and record.log:
            self._last_lines.append(of_log(record.run_id, record.job_id, 0, record.log.split("\n")))
        self._last_lines += followed.news()
        followed.run = None
