"""`quart scheduler plan`: what a deploy of this code would do to the stored jobs."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from quart.cli import ScriptInfo

from ..engine import deployment
from ..model.descriptions import describe
from ..stores.slot import Slot
from . import tables
from .app import load
from .messages import line, note, told
from .options import refuse_url

if TYPE_CHECKING:
    from ..extension import APScheduler
    from ..stores.sql.preview import Preview

CHANGES = ("added", "changed", "restored", "pruned")
PROBLEMS = ("refused", "invalid")
_SIGNS = {"added": "+", "changed": "~", "restored": "+", "pruned": "-", "refused": "!", "invalid": "!"}
_COLOURS = {"+": "green", "~": "yellow", "-": "red", "!": "red"}


@click.command("plan")
@click.option("--check", is_flag=True, help="Exit with 2 where the deploy would change anything.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plan(ctx: click.Context, check: bool, as_json: bool) -> None:
    """Show what a deploy of this code would add, change, pause or remove; nothing is written.

    It is compared with what is stored as if no process with other code were left. Exits with 1 where a declared job
    cannot be stored.
    """
    refuse_url(ctx)
    front = load(ctx.ensure_object(ScriptInfo))
    with told():
        found = asyncio.run(_plan(front))
    if as_json:
        tables.echo_json(found)
    else:
        _print(found)
    if any(found[kind] for kind in PROBLEMS):
        raise click.exceptions.Exit(1)
    if check and any(found[kind] for kind in CHANGES):
        raise click.exceptions.Exit(2)


async def _plan(front: APScheduler) -> dict[str, Any]:
    scheduler = front.scheduler
    found: dict[str, Any] = {kind: [] for kind in (*CHANGES, *PROBLEMS)}
    found |= {"unchanged": 0, "prune": scheduler.settings.prune}
    try:
        for slot in scheduler.catalogue.slots.values():
            if slot.shared:
                _add(found, slot, await scheduler.call(partial(deployment.preview, scheduler, slot)), front)
            else:
                note(f"The store {slot.alias!r} is used by one process alone, which adds its jobs when it starts.")
    finally:
        await scheduler.close()
    return found


def _add(found: dict[str, Any], slot: Slot, preview: Preview, front: APScheduler) -> None:
    result = preview.result
    for kind in ("added", "restored"):
        for job_id in getattr(result, kind):
            trigger = describe(preview.made[job_id].trigger)
            found[kind].append({"id": job_id, "jobstore": slot.alias, "trigger_description": trigger})
    for job_id, difference in preview.differences.items():
        keys = {key: {"from": before, "to": after} for key, (before, after) in difference.keys.items()}
        found["changed"].append(
            {"id": job_id, "jobstore": slot.alias, "modified": difference.modified, "changes": keys}
        )
    found["pruned"] += [{"id": job_id, "jobstore": slot.alias} for job_id in result.pruned]
    taken = "its id is that of a job that was added at run time: remove that one first"
    found["refused"] += [{"id": job_id, "jobstore": slot.alias, "reason": taken} for job_id in result.refused]
    found["invalid"] += [
        {"id": job_id, "jobstore": slot.alias, "reason": reason} for job_id, reason in result.invalid.items()
    ]
    concerned = (*result.added, *result.changed, *result.restored, *result.refused, *result.invalid)
    found["unchanged"] += len(front.scheduler.catalogue.declarations.all(slot.alias)) - len(concerned)


def _print(found: dict[str, Any]) -> None:
    pruned = {"pause": "would be paused", "remove": "would be removed"}.get(found["prune"], "")
    for kind in (*CHANGES, *PROBLEMS):
        for job in found[kind]:
            said = {
                "added": f"would be added: {job.get('trigger_description')}",
                "changed": "would be changed" + (", and lose what was edited" if job.get("modified") else ""),
                "restored": "is declared again, and would fire again",
                "pruned": f"is declared no longer, and {pruned}",
                "refused": f"cannot be added: {job.get('reason')}",
                "invalid": f"cannot be scheduled: {job.get('reason')}",
            }[kind]
            sign = _SIGNS[kind]
            tables.echo(click.style(line(f"{sign} {job['id']} {said}"), fg=_COLOURS[sign]))
            for key, values in job.get("changes", {}).items():
                before, after = tables.compact(values["from"]), tables.compact(values["to"])
                tables.echo("    " + line(f"{key}: {before} -> {after}"))
    counts = ", ".join(f"{len(found[kind])} {kind}" for kind in (*CHANGES, *PROBLEMS) if found[kind])
    tables.echo(f"{counts or 'Nothing would change'}; {found['unchanged']} unchanged")
