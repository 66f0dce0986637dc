"""The accounts find out each thing that can go wrong, on made-up notes and records."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.accounts import Note, Record, Rules, Schedule, audit, percentile, table

SCHEDULE = Schedule(["a", "b"], 1_000_000_000, 3)


def run(job: str, second: int, *, attempt: int = 1, run_id: str = "", late: float = 0.01) -> list[Note]:
    """The start and the end of one run."""
    sched_us = SCHEDULE.first_us + second * 1_000_000
    name = f"{job}{second}"
    fields = (job, sched_us), name, run_id or f"{name}.{attempt}", attempt, 1
    at = sched_us / 1e6 + late
    return [Note("start", *fields, at), Note("end", *fields, at + 0.1)]


def record(job: str, second: int, outcome: str = "succeeded", **changes: Any) -> Record:
    sched_us = SCHEDULE.first_us + second * 1_000_000
    return replace(Record(f"{job}{second}.1", job, sched_us, None, 1, outcome, True, 1), **changes)


ALL = [(job, second) for job in "ab" for second in range(3)]
NOTES = [note for fire in ALL for note in run(*fire)]
RECORDS = [record(*fire) for fire in ALL]


def without(*fire: Any) -> tuple[list[Note], list[Record]]:
    name = "{}{}".format(*fire)
    return [n for n in NOTES if n.fire_id != name], [r for r in RECORDS if r.run_id != f"{name}.1"]


def test_where_all_went_well_there_is_nothing_to_say():
    report = audit(SCHEDULE, NOTES, RECORDS, 0, Rules())
    assert (report.expected, report.started, report.problems) == (6, 6, [])
    assert (report.duplicates, report.never_started, report.unfinished, report.unaccounted) == (0, 0, 0, 0)
    assert report.p50 == pytest.approx(0.01)


@pytest.mark.parametrize("again", [run("a", 1), run("a", 1, run_id="another")])
def test_a_fire_that_started_twice_is_a_duplicate(again):
    report = audit(SCHEDULE, [*NOTES, *again], RECORDS, 0, Rules(may_lose=True))
    assert report.duplicates == 1
    assert "started more than once" in report.problems[0]


def test_another_attempt_is_no_duplicate_but_has_a_run_id_of_its_own():
    records = [*RECORDS, record("a", 1, "lost", run_id="a1.0", final=False)]
    report = audit(SCHEDULE, [*NOTES, *run("a", 1, attempt=2)], records, 0, Rules(reruns=True))
    assert (report.duplicates, report.problems) == (0, [])
    report = audit(SCHEDULE, [*NOTES, *run("a", 1, attempt=2, run_id="a1.1")], records, 0, Rules(reruns=True))
    assert "run_id" in report.problems[0]


def test_a_fire_that_nobody_knows_of_is_unaccounted_for():
    report = audit(SCHEDULE, *without("b", 1), 0, Rules(may_lose=True))
    assert (report.never_started, report.unaccounted) == (1, 1)
    assert len(report.problems) == 2  # nor does any record cover it


@pytest.mark.parametrize("outcome", ["missed", "lost"])
def test_a_fire_that_did_not_start_is_accounted_for_by_a_range_that_covers_it(outcome):
    notes = [note for note in NOTES if note.fire[0] == "a"]
    covering = record("b", 2, outcome, first_us=SCHEDULE.first_us, fires=3)
    report = audit(SCHEDULE, notes, [*RECORDS[:3], covering], 0, Rules(may_lose=True))
    assert (report.never_started, report.unaccounted) == (3, 0)
    assert (report.missed, report.lost) == ((3, 0) if outcome == "missed" else (0, 3))
    # Nothing was late here, so that a missed fire is one too many; a lost one is excused by the crash.
    assert len(report.problems) == (1 if outcome == "missed" else 0)


def test_a_lost_fire_is_one_too_many_where_no_process_died():
    notes, records = without("a", 0)
    report = audit(SCHEDULE, notes, [*records, record("a", 0, "lost")], 0, Rules())
    assert report.problems == ["1 x fire recorded as lost: a at +0 s"]


def test_a_fire_that_did_not_finish_has_to_be_recorded_so_or_run_again():
    notes, records = without("a", 0)
    begun = [*notes, run("a", 0)[0]]
    excused = audit(SCHEDULE, begun, [*records, record("a", 0, "lost")], 0, Rules(may_lose=True))
    assert (excused.unfinished, excused.problems) == (1, [])
    wrong = audit(SCHEDULE, begun, RECORDS, 0, Rules(may_lose=True))
    assert len(wrong.problems) == 2  # not recorded as lost, and recorded as succeeded
    lost = audit(SCHEDULE, begun, [*records, record("a", 0, "lost")], 0, Rules(may_lose=True, reruns=True))
    assert any("no attempt finished" in problem for problem in lost.problems)
    rerun = audit(SCHEDULE, [*begun, *run("a", 0, attempt=2)], RECORDS, 0, Rules(may_lose=True, reruns=True))
    assert (rerun.unfinished, rerun.problems) == (0, [])


def test_records_have_to_cover_each_fire_exactly_once():
    twice = audit(SCHEDULE, NOTES, [*RECORDS, record("a", 1, "lost", run_id="x")], 0, Rules(may_lose=True))
    assert any("several final records" in problem for problem in twice.problems)
    gap = audit(SCHEDULE, NOTES, RECORDS[1:], 0, Rules())
    assert any("no final record" in problem for problem in gap.problems)
    attempts = audit(SCHEDULE, NOTES, [*RECORDS, record("a", 1, "lost", run_id="x", final=False)], 0, Rules())
    assert attempts.problems == []


@pytest.mark.parametrize(
    "changes",
    [{"fires": 3}, {"sched_us": 1_000_500_000}, {"first_us": 999_000_000, "fires": 3}, {"first_us": 999_000_000}],
)
def test_a_range_has_to_begin_and_end_with_a_fire_and_to_count_right(changes):
    report = audit(SCHEDULE, NOTES, [*RECORDS[:1], record("a", 1, "succeeded", **changes), *RECORDS[2:]], 0, Rules())
    assert any("range" in problem for problem in report.problems)


def test_what_finished_cannot_be_recorded_as_failed_and_a_success_has_to_have_finished():
    failed = audit(SCHEDULE, NOTES, [record("a", 0, "failed"), *RECORDS[1:]], 0, Rules())
    assert any("recorded otherwise" in problem for problem in failed.problems)
    late = audit(SCHEDULE, NOTES, [record("a", 0, "lost"), *RECORDS[1:]], 0, Rules(may_lose=True))
    assert late.problems == []  # it was taken for dead, and finished after all
    notes, _ = without("a", 0)
    claimed = audit(SCHEDULE, notes, RECORDS, 0, Rules(may_lose=True))
    assert any("never finished" in problem for problem in claimed.problems)


def test_starts_outside_the_schedule_and_runs_that_stay_under_way_are_found():
    report = audit(SCHEDULE, [*NOTES, *run("a", 3)], RECORDS, 2, Rules())
    assert any("not expected" in problem for problem in report.problems)
    assert any(problem.startswith("2 x run still under way") for problem in report.problems)


def test_notes_are_read_but_for_a_line_that_was_cut_short():
    text = "loaded 7 99.5\nstart a 1000000000 f r 1 7 1000.25\nend a 1000000000 f r 1 7 1000.5\nstart b 10000"
    start, end = Note.read(text)
    assert start == Note("start", ("a", 1_000_000_000), "f", "r", 1, 7, 1000.25)
    assert end.what == "end"


def test_percentiles_are_values_that_were_seen():
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (50, 99, 100)
    assert percentile([3.0], 99) == 3
    assert math.isnan(percentile([], 50))


def test_the_table_has_a_line_for_each_trial_and_says_below_what_is_wrong():
    good, bad = (audit(SCHEDULE, NOTES, RECORDS, live, Rules()) for live in (0, 1))
    assert "Wrong" not in table([("SQLite", "none", good)])
    lines = table([("SQLite", "none", good), ("MariaDB", "cut", bad)]).splitlines()
    assert lines[2] == "| SQLite | none | 6 | 6 | 0 | 0 | 0 | 0 | 0 | 0 | 10 | 10 |"
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert lines[-1].startswith("- MariaDB, cut: 1 x run still under way")
