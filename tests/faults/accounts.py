"""The accounts: what was to fire, what the jobs wrote that they did, and what the history says about it.

What is expected is reckoned from the triggers and what happened is read from the jobs' own files, so that the history
is on trial here and not a witness.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Fire = tuple[str, int]
"""The job's id and when it was due, in microseconds since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`jobs` that all fire each second, `seconds` times, from `first_us` on."""

    jobs: Sequence[str]
    first_us: int
    seconds: int

    def fires(self) -> list[Fire]:
        return [(job, self.first_us + second * 1_000_000) for job in self.jobs for second in range(self.seconds)]

    def say(self, what: str, found: Iterable[object]) -> list[str]:
        """Say what was found how often, with examples; nothing where nothing was."""
        examples = sorted(found, key=str)
        return [f"{len(examples)} x {what}: {', '.join(map(self._name, examples[:3]))}"] if examples else []

    def _name(self, found: object) -> str:
        match found:
            case (str(job), int(at)):
                return f"{job} at +{(at - self.first_us) / 1e6:g} s"
            case _:
                return str(found)


@dataclass(frozen=True, slots=True)
class Note:
    """One line that a job wrote: `what` is start or end, `at` is in seconds since 1970 UTC."""

    what: str
    fire: Fire
    fire_id: str
    run_id: str
    attempt: int
    pid: int
    at: float

    @classmethod
    def read(cls, text: str) -> Iterator[Note]:
        """Read a file's start and end lines. A last line that its writer did not get to finish is none."""
        for line in text.split("\n")[:-1]:
            words = line.split(" ")
            if words[0] in ("start", "end"):
                what, job, sched_us, fire_id, run_id, attempt, pid, at = words
                yield cls(what, (job, int(sched_us)), fire_id, run_id, int(attempt), int(pid), float(at))


@dataclass(frozen=True, slots=True)
class Record:
    """A row of the history."""

    run_id: str
    job_id: str
    sched_us: int
    first_us: int | None
    fires: int | None
    outcome: str
    final: int
    attempt: int

    @property
    def range(self) -> tuple[int, int]:
        """The first and the last fire that it stands for."""
        return (self.sched_us if self.first_us is None else self.first_us), self.sched_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a fault excuses."""

    may_lose: bool = False
    """A process died or stood still: what it had under way may be lost."""
    reruns: bool = False
    """The jobs run again after a crash: then nothing may be lost after all."""


@dataclass(frozen=True, slots=True)
class Report:
    """One line of the table, and all that is wrong with it. Latencies are in seconds."""

    expected: int
    started: int
    duplicates: int
    never_started: int
    unfinished: int
    missed: int
    lost: int
    unaccounted: int
    p50: float
    p99: float
    problems: list[str] = field(default_factory=list)


COLUMNS = (
    *("expected", "started", "duplicates", "never started", "unfinished", "recorded missed", "recorded lost"),
    *("unaccounted", "start p50 ms", "start p99 ms"),
)


def audit(schedule: Schedule, notes: Iterable[Note], records: Sequence[Record], live: int, rules: Rules) -> Report:
    """Hold the notes and the records against the schedule.

    `live` is how many runs are still under way, or wait, when all should be quiet.
    """
    notes = list(notes)
    expected = schedule.fires()
    starts = [note for note in notes if note.what == "start"]
    started = {note.fire for note in starts} & set(expected)
    ended = {note.fire for note in notes if note.what == "end"}
    outcomes = _outcomes(schedule, records)

    attempts = Counter((note.fire, note.attempt) for note in starts)
    run_ids = Counter(run_id for run_id, *_ in {(note.run_id, note.fire, note.attempt) for note in starts})
    excused = {"missed", "lost", "coalesced", "skipped"}
    unaccounted = [fire for fire in expected if fire not in started and not excused & set(outcomes[fire])]
    unfinished = started - ended
    lags = sorted(note.at - note.fire[1] / 1e6 for note in starts if note.attempt == 1)

    problems = [
        *schedule.say("attempt that started more than once", _repeated(attempts)),
        *schedule.say("run_id that stands for several attempts", _repeated(run_ids)),
        *schedule.say("start of a fire that was not expected", {note.fire for note in starts} - set(expected)),
        *schedule.say("fire that neither started nor is recorded as anything that excuses it", unaccounted),
        *schedule.say(
            "fire that did not finish and is not recorded as lost or missed",
            [fire for fire in unfinished if not rules.reruns and not {"lost", "missed"} & set(outcomes[fire])],
        ),
        *schedule.say("fire that no attempt finished", set(expected) - ended if rules.reruns else ()),
        *schedule.say("fire covered by no final record", [fire for fire in expected if not outcomes[fire]]),
        *schedule.say("fire covered by several final records", [fire for fire in expected if len(outcomes[fire]) > 1]),
        *schedule.say("fire recorded as succeeded that never finished", _with(outcomes, "succeeded") - ended),
        *schedule.say(
            "fire that finished and is recorded otherwise",
            [fire for fire in ended if not set(outcomes[fire]) <= {"succeeded", "lost"}],
        ),
        *schedule.say("fire recorded as lost", () if rules.may_lose and not rules.reruns else _with(outcomes, "lost")),
        *schedule.say("fire that was in time and was not run", _with(outcomes, "missed", "skipped", "coalesced")),
        *_ranges(schedule, records),
        *schedule.say("run still under way", range(live)),
    ]
    return Report(
        expected=len(expected),
        started=len(started),
        duplicates=attempts.total() - len(attempts),
        never_started=len(expected) - len(started),
        unfinished=len(unfinished),
        missed=len(_with(outcomes, "missed")),
        lost=len(_with(outcomes, "lost")),
        unaccounted=len(unaccounted),
        p50=percentile(lags, 50),
        p99=percentile(lags, 99),
        problems=problems,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of all do not exceed; NaN where there are none."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else math.nan


def _outcomes(schedule: Schedule, records: Iterable[Record]) -> dict[Fire, list[str]]:
    """By fire, the outcomes of the final records that cover it: it is to be exactly one."""
    ranges: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.final:
            ranges[record.job_id].append(record)
    found: dict[Fire, list[str]] = defaultdict(list)
    for job, at in schedule.fires():
        found[job, at] = [record.outcome for record in ranges[job] if record.range[0] <= at <= record.range[1]]
    return found


def _ranges(schedule: Schedule, records: Iterable[Record]) -> list[str]:
    """Final records begin and end with an expected fire, and count those in between."""
    expected = set(schedule.fires())
    wrong = []
    for record in records:
        first, last = record.range
        within = (last - first) // 1_000_000 + 1
        bounds = {(record.job_id, first), (record.job_id, last)}
        if record.final and (not bounds <= expected or record.fires not in (None, within)):
            wrong.append((record.job_id, first, last, record.fires))
    return schedule.say("record whose range is not one of the schedule's", wrong)


def _with(outcomes: dict[Fire, list[str]], *wanted: str) -> set[Fire]:
    return {fire for fire, found in outcomes.items() if set(wanted) & set(found)}


def _repeated(counts: Counter[Any]) -> list[Any]:
    return [item for item, count in counts.items() if count > 1]


def table(reports: Iterable[tuple[str, str, Report]]) -> str:
    """Return (database, fault, report) lines as a Markdown table, and below it what is wrong."""
    lines = [f"| database | fault | {' | '.join(COLUMNS)} |", "|---|---|" + "---|" * len(COLUMNS)]
    problems = []
    for database, fault, report in reports:
        counts = (
            *(report.expected, report.started, report.duplicates, report.never_started, report.unfinished),
            *(report.missed, report.lost, report.unaccounted),
            *(f"{lag * 1000:.0f}" for lag in (report.p50, report.p99)),
        )
        lines.append(f"| {database} | {fault} | {' | '.join(map(str, counts))} |")
        problems += [f"- {database}, {fault}: {problem}" for problem in report.problems]
    return "\n".join(lines + (["", "Wrong:", *problems] if problems else []))
