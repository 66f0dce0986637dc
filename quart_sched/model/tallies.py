"""Tallies: counters and histograms as plain numbers, which go into a database as JSON and add up over processes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

Numbers = dict[str, dict[str, list[float]]]
"""By family and key, numbers that add up one by one: a counter has one, a histogram its sum and one for each bucket."""

OTHER = "_other"
"""The job for which all those are counted that are too many to have a label of their own."""


class Tally:
    """Counts. Not thread-safe."""

    def __init__(self) -> None:
        self.numbers: Numbers = {}

    def count(self, family: str, key: str, amount: float = 1) -> None:
        """Add to a counter."""
        keys = self.numbers.setdefault(family, {})
        if (numbers := keys.get(key)) is None:
            keys[key] = [amount]
        else:
            numbers[0] += amount

    def observe(self, family: str, key: str, value: float, bounds: Sequence[float]) -> None:
        """Add a value to a histogram with these upper bounds, to which one without a bound comes."""
        keys = self.numbers.setdefault(family, {})
        if (numbers := keys.get(key)) is None:
            numbers = keys[key] = [0.0] * (len(bounds) + 2)
        numbers[0] += value
        numbers[1 + bisect_left(bounds, value)] += 1

    def take(self) -> Numbers:
        """Return what was counted, and begin anew."""
        numbers, self.numbers = self.numbers, {}
        return numbers


def add_up(parts: Iterable[Mapping[str, Mapping[str, Sequence[float]]]]) -> Numbers:
    """Return the sum of some numbers, in the order in which families and keys first occur.

    What does not fit to what came before it, out of a version with other buckets, is left out.
    """
    total: Numbers = {}
    for part in parts:
        for family, keys in part.items():
            sums = total.setdefault(family, {})
            for key, numbers in keys.items():
                if (so_far := sums.get(key)) is None:
                    sums[key] = list(numbers)
                elif len(so_far) == len(numbers):
                    for index, number in enumerate(numbers):
                        so_far[index] += number
    return total


def run_key(job: str, outcome: str) -> str:
    """Return the key under which runs are counted by job and outcome."""
    return f"{outcome} {job}"


def split_run_key(key: str) -> tuple[str, str]:
    """Return job and outcome of a key."""
    outcome, _, job = key.partition(" ")
    return job, outcome


def fold(numbers: Numbers, by_job: Iterable[str], by_run: Iterable[str], limit: int) -> Numbers:
    """Return the numbers with what belongs to any but the first `limit` jobs counted for OTHER.

    `by_job` are the families whose key is a job, `by_run` those whose key is a `run_key`.
    """
    jobs: dict[str, None] = {}
    by_job, by_run = tuple(by_job), tuple(by_run)
    for family in by_run:
        jobs |= dict.fromkeys(split_run_key(key)[0] for key in numbers.get(family, ()))
    for family in by_job:
        jobs |= dict.fromkeys(numbers.get(family, ()))
    jobs.pop(OTHER, None)
    if len(jobs) <= limit:
        return numbers
    kept = set(list(jobs)[:limit])

    def folded(key: str, *, run: bool) -> str:
        if not run:
            return key if key in kept else OTHER
        job, outcome = split_run_key(key)
        return key if job in kept else run_key(OTHER, outcome)

    return add_up(
        {family: {folded(key, run=family in by_run) if family in (*by_job, *by_run) else key: some}}
        for family, keys in numbers.items()
        for key, some in keys.items()
    )
