"""The drain: lets the runs under way end when the scheduler stops, and gives up those that take too long."""

from __future__ import annotations

import asyncio
import logging

from ..errors import Draining, RunCancelled
from ..model.runs import Run
from .batches import Batch
from .executors import ForeignExecutor
from .runner import Runner

log = logging.getLogger("quart_sched")

CANCEL_GRACE = 0.5
"""Seconds that a cancelled job has to clean up. Together with the default drain it fits into Quart's test_app."""


async def drain(runner: Runner, timeout: float, generation: int, caller: Run | None = None) -> None:
    """Wait up to `timeout` seconds for the runs under way, then cancel them and record them so.

    Runs of a later `generation` are none of its business. The run that itself waits for the drain, the `caller`, goes
    on; only nothing follows it. A plain function cannot be stopped: its run is recorded and its thread left behind, a
    daemon.
    """
    runner.waiting.drop("this process was shut down before its time", generation=generation)
    running = runner.under_way.all()
    batches = [batch for batch in running if not batch.done and batch.generation <= generation]
    for batch in batches:
        batch.last = True
        batch.given_up = batch.given_up or batch.current is caller
        _hand_back(runner, batch)
    batches = [batch for batch in batches if batch.current is not caller]
    if not await _wait(batches, timeout):
        return
    late = [batch for batch in batches if not batch.done]
    log.warning("Cancelling %d job run(s) that did not end within %.1f s", len(late), timeout)
    for batch in late:
        batch.current.cancelled = batch.stopped = batch.given_up = True
        runner.stop(batch)
    await _wait(late, CANCEL_GRACE)
    for batch in late:
        if batch.ended:
            batch.done = True  # What is left of it is a function that had been given up before.
            runner.drop_rest(batch)
        if not batch.done:
            runner.finish(batch, batch.current, "cancelled", error=RunCancelled("did not end when it was cancelled"))
            if isinstance(batch.executor, ForeignExecutor):
                batch.executor.kill(batch.generation)
            elif batch.task is not None:
                batch.task.cancel()
    await asyncio.sleep(0)


def _hand_back(runner: Runner, batch: Batch) -> None:
    """Return to a shared store what this process has claimed and not begun, so that another one can run it."""
    if not batch.claimed:
        return
    runner.drop_rest(batch)
    call = batch.call
    if call is not None and call.begins_run and call.withdraw():
        # Its function waits for a thread still. What is left of its task, if it has one, is the wrapping.
        batch.done = True
        runner.drop(batch, batch.current)
        if batch.waiter is not None and not batch.waiter.done():
            batch.waiter.set_exception(Draining(f"Run {batch.current.run_id} was handed back at the shutdown"))
            batch.waiter.exception()
        if batch.task is not None:
            batch.task.cancel()
        runner.release(batch)


async def _wait(batches: list[Batch], timeout: float) -> bool:
    """Wait for the batches to end; tell whether any is left."""
    waiters = []
    for batch in batches:
        if not batch.done:
            batch.waiter = batch.waiter or asyncio.get_running_loop().create_future()
            waiters.append(batch.waiter)
    if not waiters:
        return False
    _, pending = await asyncio.wait(waiters, timeout=timeout)
    return bool(pending)
