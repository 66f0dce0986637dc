"""What a deploy would do to the stored jobs, found out without writing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidDefinition
from ...model.jobs import READ_ONLY, ScheduledJob, to_wire
from ...model.triggers import spec_of
from .changes import Changes
from .reconcile import Declaration, Prune, Reconciled, decide, declarations_hash

_MOVES = ("next_run_time", *READ_ONLY)
"""Keys of a job's JSON that differ without anybody having declared anything else."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What would change of a job: the key in its JSON with what stands there now and then.

    `modified` tells that the job was edited since it was last declared, which the deploy would undo.
    """

    keys: dict[str, tuple[Any, Any]]
    modified: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """What a deploy would come to, once no process with other code is left."""

    result: Reconciled
    made: dict[str, ScheduledJob]
    """The jobs that would be added, changed or restored."""
    differences: dict[str, Difference] = field(default_factory=dict)
    """Of the jobs that would be changed."""


def of_nothing(declared: Sequence[Declaration]) -> Preview:
    """Return the preview where there are no tables yet."""
    found = Preview(Reconciled(declarations_hash(declared)), {})
    for entry in declared:
        try:
            found.made[entry.id] = entry.make()
            found.result.added.append(entry.id)
        except InvalidDefinition as error:
            found.result.invalid[entry.id] = str(error)
    return found


def preview(changes: Changes, declared: Sequence[Declaration], prune: Prune) -> Preview:
    """Compare what is declared with what is stored, as `reconcile` does for the only version of the code."""
    own = {entry.id for entry in declared}
    decision = decide(changes, declared, prune, in_force=True, living=own)
    triggers = {entry.id: entry.trigger_hash for entry in declared}
    differences = {}
    for job_id in decision.result.changed:
        row, job = decision.before[job_id], decision.made[job_id]
        keys = _differences(changes.show(row), job, same_trigger=row.trig_hash == triggers[job_id])
        differences[job_id] = Difference(keys, bool(row.modified))
    return Preview(decision.result, decision.made, differences)


def _differences(before: ScheduledJob, after: ScheduledJob, *, same_trigger: bool) -> dict[str, tuple[Any, Any]]:
    after._jobstore_alias = before._jobstore_alias  # Without one it would show what is declared alone.
    old, new = ({key: value for key, value in to_wire(job).items() if key not in _MOVES} for job in (before, after))
    spec = spec_of(after.trigger)
    of_trigger = {*spec.to_dict(), *spec_of(before.trigger).to_dict()}
    keys = {key: (old.get(key), new.get(key)) for key in (*new, *old) if old.get(key) != new.get(key)}
    if same_trigger:
        # What was left open in it was filled in when it was declared first, and is again now.
        return {key: values for key, values in keys.items() if key not in of_trigger}
    if keys.keys() & of_trigger - {spec.open_start}:
        keys.pop(spec.open_start, None)
    return keys
