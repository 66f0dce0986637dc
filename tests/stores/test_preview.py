"""The preview of a deploy: it says what the deploy then does, and writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from quart import Quart

from quart_sched import APScheduler, Scheduler
from quart_sched.engine import deployment
from quart_sched.errors import StoreUnavailable
from quart_sched.stores.sql.preview import Preview
from quart_sched.stores.sql.reconcile import Reconciled
from tests.stores.cluster import Cluster, Declare
from tests.stores.test_reconcile import declares

TABLES = ("jobs", "changes", "decls", "runs", "live", "workers", "meta", "events")
EVERY_HOUR = {"trigger": "interval", "hours": 1}


def preview(cluster: Cluster, declare: Declare | None = None, **config: Any) -> Preview:
    """Return what a deploy of this code would come to, found out by a process that does nothing else."""
    scheduler = APScheduler(Scheduler(clock=cluster.clock))
    app = Quart("preview")
    settings = {"SCHEDULER_TIMEZONE": "UTC", "SCHEDULER_JOBSTORES": {"default": cluster.entry}}
    app.config.update(settings | cluster.config | config)
    scheduler.init_app(app)
    if declare is not None:
        declare(scheduler)
    catalogue = scheduler.scheduler.catalogue
    slot, open_ = catalogue.slots["default"], set[Any]()
    sa.event.listen(slot.store.database.engine, "connect", lambda connection, _: open_.add(connection))
    sa.event.listen(slot.store.database.engine, "close", lambda connection, _: open_.discard(connection))
    try:
        return deployment.preview(scheduler.scheduler, slot)
    finally:
        catalogue.close_stores()
        assert not open_


def told(result: Reconciled) -> dict[str, Any]:
    return {
        name: sorted(getattr(result, name)) for name in ("added", "changed", "pruned", "restored", "refused", "invalid")
    }


BEFORE = {
    "same": {},
    "options": {"args": (1,)},
    "trigger": {},
    "gone": {},
    "paused": {"args": (1,)},
}
AFTER = {
    "same": {},
    "options": {"args": (2,), "name": "New"},
    "trigger": EVERY_HOUR,
    "paused": {"args": (2,)},
    "new": {"trigger": "cron", "hour": 3},
    "taken": {},
}


@pytest.mark.parametrize("prune", ["pause", "remove", "keep"])
async def test_a_preview_says_what_the_deploy_then_does(cluster, monkeypatch, prune):
    cluster.config["SCHEDULER_PRUNE"] = prune
    one = await cluster.start(declares(**BEFORE))
    await one.aio.pause_job("paused")
    await one.aio.add_job("taken", elsewhere, trigger="interval", seconds=30)
    await cluster.stop(one)
    found = preview(cluster, declares(**AFTER))
    done: list[Reconciled] = []
    store = type(one.slot.store)
    real = store.reconcile

    def watched(self: Any, *args: Any, **options: Any) -> Reconciled:
        done.append(real(self, *args, **options))
        return done[-1]

    monkeypatch.setattr(store, "reconcile", watched)
    await cluster.start(declares(**AFTER))
    assert told(found.result) == told(done[0])
    assert told(found.result) == {
        "added": ["new"],
        "changed": ["options", "paused", "trigger"],
        "pruned": [] if prune == "keep" else ["gone"],
        "restored": [],
        "refused": ["taken"],
        "invalid": [],
    }


def elsewhere() -> None: ...


async def test_a_preview_writes_nothing(cluster):
    one = await cluster.start(declares(**BEFORE))
    await cluster.stop(one)
    before = cluster.contents(*TABLES)
    statements: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement.split(maxsplit=1)[0].upper())

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        preview(cluster, declares(**AFTER), SCHEDULER_PRUNE="remove")
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert set(statements) <= {"SELECT", "BEGIN", "PRAGMA", "SHOW", "DESCRIBE"}
    assert cluster.contents(*TABLES) == before


async def test_a_preview_of_the_same_code_is_empty(cluster):
    one = await cluster.start(declares(**BEFORE))
    found = preview(cluster, declares(**BEFORE))
    assert not any(told(found.result).values())
    await cluster.stop(one)
    assert preview(cluster, declares(**BEFORE)) == found


async def test_the_keys_that_differ_are_told_with_both_values(cluster):
    await cluster.start(declares(**BEFORE))
    found = preview(cluster, declares(**AFTER)).differences
    assert found["options"].keys == {"name": ("options", "New"), "args": ([1], [2])}
    assert found["trigger"].keys == {"seconds": (10, None), "hours": (None, 1)}
    assert not found["options"].modified


async def test_a_trigger_whose_start_alone_differs_is_told_by_it(cluster, clock):
    fixed = {"trigger": "interval", "seconds": 10, "start_date": clock.now()}
    await cluster.start(declares(a={}))
    keys = preview(cluster, declares(a=fixed)).differences["a"].keys
    assert list(keys) == ["start_date"]


async def test_an_edit_that_the_deploy_would_undo_is_told(cluster):
    one = await cluster.start(declares(a={"args": (1,)}))
    await one.aio.modify_job("a", name="Edited")
    assert not any(told(preview(cluster, declares(a={"args": (1,)})).result).values())
    difference = preview(cluster, declares(a={"args": (2,)})).differences["a"]
    assert difference.modified
    assert difference.keys == {"args": ([1], [2]), "name": ("Edited", "a")}


async def test_what_is_declared_again_after_a_prune_would_be_restored(cluster):
    one = await cluster.start(declares(a={}, b={}))
    await cluster.restart(one, declares(a={}))
    assert told(preview(cluster, declares(a={}, b={})).result)["restored"] == ["b"]


async def test_a_declaration_that_cannot_be_stored_is_told_with_the_reason(cluster):
    """Its parts agree on no moment, which shows when the first fire is looked for."""
    never = {
        "trigger": "and",
        "triggers": [{"trigger": "cron", "hour": 3}, {"trigger": "cron", "hour": 4, "minute": 30}],
    }
    await cluster.start(declares(a={}))
    result = preview(cluster, declares(a={}, bad=never)).result
    assert "gives no next fire" in result.invalid["bad"]
    assert result.added == []


async def test_what_other_living_code_declares_would_be_pruned_once_it_is_gone(cluster):
    await cluster.start(declares(a={}, b={}))
    assert preview(cluster, declares(a={})).result.pruned == ["b"]


def test_without_tables_everything_would_be_added_and_no_file_is_made(tmp_path: Path, clock: Any):
    file = tmp_path / "none.db"
    cluster = Cluster(clock, {"type": "sqlalchemy", "url": f"sqlite:///{file}", "table_prefix": "t_"})
    found = preview(cluster, declares(**AFTER))
    assert told(found.result)["added"] == sorted(AFTER)
    assert found.made["new"].func.__name__ == "job"
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_away_is_told(tmp_path: Path, clock: Any):
    url = "postgresql+psycopg://me:secret@127.0.0.1:1/db"
    with pytest.raises(StoreUnavailable):
        preview(Cluster(clock, {"type": "sqlalchemy", "url": url}), declares(a={}))
