"""The trials: a fleet, a fault in the middle of its work, and the accounts of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.accounts import Report, Rules, audit
from tests.faults.fleet import LEAD, Fleet, Process, Size, TooSlow
from tests.servers.databases import Database, Server, SQLite
from tests.servers.proxy import Proxy

Act = Callable[[Fleet, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a fleet in the middle of its window."""

    name: str
    act: Act
    rules: Rules = field(default_factory=Rules)
    sqlite: bool = True
    """Whether there is such a thing with SQLite."""
    proxied: bool = False
    """Whether it acts on a proxy in front of the database."""


async def nothing(fleet: Fleet, database: Database) -> None:
    """All goes well."""


async def kill(fleet: Fleet, database: Database) -> None:
    """A process with runs under way is gone."""
    fleet.dies(await fleet.busy())


async def stand_still(fleet: Fleet, database: Database) -> None:
    """A process with runs under way stops for longer than its lease, and goes on."""
    process = await fleet.busy()
    process.send(signal.SIGSTOP)
    await asyncio.sleep(2 * fleet.size.lease)
    process.send(signal.SIGCONT)


async def stand_still_in_a_claim(fleet: Fleet, database: Database) -> None:
    """A process stops for longer than its lease while it has locked what is due, and goes on."""
    for second in range(fleet.size.seconds // 5, fleet.size.seconds * 7 // 10):
        await fleet.moment(second)
        if (victim := await _stopped_in_a_claim(fleet, database)) is not None:
            break
    else:
        raise RuntimeError("no process was met within a claim")
    await asyncio.sleep(2 * fleet.size.lease)
    victim.send(signal.SIGCONT)


async def _stopped_in_a_claim(fleet: Fleet, database: Database) -> Process | None:
    """Take all processes forward by two milliseconds at a time until one has locked what is due, and stop that one."""

    async def locked() -> bool:
        return isinstance(database, SQLite) or await asyncio.to_thread(fleet.due_is_locked)

    victim = None
    for _ in range(100):
        fleet.send(signal.SIGSTOP)
        within = await asyncio.to_thread(database.writers, fleet.url) if await locked() else []
        # Who has only asked for locks just now may still be seen among those that have some.
        if victim := next((process for pid in within for process in fleet.processes if process.pid == pid), None):
            break
        fleet.send(signal.SIGCONT)
        await asyncio.sleep(0.002)
    for process in fleet.processes:
        if process is not victim:
            process.send(signal.SIGCONT)
    await asyncio.sleep(0.1)
    if victim is None or await locked():
        return victim
    victim.send(signal.SIGCONT)  # it was another that had
    return None


async def restart(fleet: Fleet, database: Database) -> None:
    """The database is away for longer than the lease; a SQLite file is locked for 1.5 seconds."""
    await _outage(fleet, database, crash=False)


async def crash(fleet: Fleet, database: Database) -> None:
    """The database crashes and is back after the lease."""
    await _outage(fleet, database, crash=True)


async def _outage(fleet: Fleet, database: Database, *, crash: bool) -> None:
    await fleet.busy()
    if isinstance(database, SQLite):
        await asyncio.to_thread(database.hold, fleet.url, 1.5)
    elif isinstance(database, Server):
        await asyncio.to_thread(database.stop, crash=crash)
        await asyncio.sleep(1.25 * fleet.size.lease)
        database.launch()
        await asyncio.to_thread(database.wait)


async def cut(fleet: Fleet, database: Database) -> None:
    """All connections break, again and again, while claims and records are on their way."""
    assert isinstance(database, Server)
    name = fleet.url.rpartition("/")[2]
    begin = fleet.size.seconds // 5
    for second in range(begin, begin + 5):
        await fleet.moment(second + 0.002 * (second - begin))
        for _ in range(3):
            await asyncio.to_thread(database.cut, name)


async def lose_answers(fleet: Fleet, proxy: Proxy) -> None:
    """Claims and records are committed, and the answers are lost with the connection."""
    begin = fleet.size.seconds // 5
    for second in range(begin, begin + 5):
        await fleet.moment(second + 0.8)
        proxy.lose_answer()  # of a claim of the next second
        await fleet.moment(second + 1.02)
        proxy.lose_answer()


async def roll(fleet: Fleet, database: Database) -> None:
    """Each process in turn is ended in good order, and another takes its place."""
    for process in list(fleet.processes):
        await fleet.replace(process)


FAULTS = [
    Fault("none", nothing),
    Fault("kill -9 of one", kill, Rules(may_lose=True)),
    Fault("kill -9 of one, rerun", kill, Rules(may_lose=True, reruns=True)),
    Fault("SIGSTOP of one beyond the lease", stand_still, Rules(may_lose=True)),
    Fault("SIGSTOP of one within a claim", stand_still_in_a_claim, Rules(may_lose=True)),
    Fault("database restarted or locked", restart),
    Fault("database crashed", crash, sqlite=False),
    Fault("connections cut", cut, sqlite=False),
    Fault("answers to commits lost", lose_answers, sqlite=False, proxied=True),
    Fault("rolling restart", roll),
]


async def attempt(fault: Fault, database: Database, size: Size, folder: Path) -> Report:
    """Run one trial and return its report. On a machine that has too much to do it begins anew, with more time."""
    for lead in (LEAD, 3 * LEAD):
        try:
            return await _attempt(fault, database, size, folder, lead)
        except TooSlow:
            continue
    return await _attempt(fault, database, size, folder, 9 * LEAD)


async def _attempt(fault: Fault, database: Database, size: Size, folder: Path, lead: float) -> Report:
    name = f"trial_{FAULTS.index(fault)}_{lead:.0f}"
    on_crash = "rerun" if fault.rules.reruns else "lost"
    url = database.create(name)
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(database.port)) if fault.proxied and isinstance(database, Server) else None
        through = proxy.through(url) if proxy is not None else url
        fleet = Fleet(folder / database.kind / name, url, size, on_crash=on_crash, lead=lead, through=through)
        async with fleet.serving():
            await fleet.moment(size.seconds // 5 + 0.1)
            await fault.act(fleet, proxy or database)
            await fleet.quiet()
            records, live, to_come, here = fleet.records(), fleet.live(), fleet.to_come(), fleet.here()
    report = audit(fleet.schedule(), fleet.notes(), records, live, fault.rules)
    report.problems.extend(fleet.problems)
    if to_come:
        report.problems.append(f"{to_come} jobs were not claimed up to their end in time")
    if here != len(fleet.processes):
        report.problems.append(f"{here} processes take part at the end, but {len(fleet.processes)} serve")
    if left := fleet.here():
        report.problems.append(f"{left} processes ended and are not recorded as gone")
    report.problems.extend(fleet.complaints())
    return report
