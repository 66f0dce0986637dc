"""A one-off import of the jobs in the table of APScheduler 3's own SQLAlchemyJobStore.

It keeps each job as a pickle, and to unpickle is to run whatever code the writer of the table put there: the user has
to want that. The table is only read.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from apscheduler.triggers.base import BaseTrigger
from sqlalchemy import Connection, Engine, column, create_engine, inspect, make_url, select
from sqlalchemy import table as table_clause
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchTableError, SQLAlchemyError

from ...errors import ConfigError, InvalidDefinition, SchedulerError
from ...model import state
from ...model.actor import current_actor
from ...model.arguments import bounded_repr
from ...model.jobs import DEFAULTED, JobDefinition, ScheduledJob
from .address import DRIVERS, names_missing_file, shown
from .changes import NEW_JOB, Entry, new_row, write_down
from .database import Database
from .failures import DatabaseFailure, first_line
from .transaction import Transaction

TABLE = "apscheduler_jobs"
"""What APScheduler calls its table where it is told nothing else."""
_COLUMNS = ("id", "next_run_time", "job_state")
_FIELDS = ("func", "trigger", "executor", "args", "kwargs", "name", *DEFAULTED)
_ATTEMPTS = 5

Known = dict[str, str | None]
"""Ids of jobs that are not to be imported, and what there is to say about each."""


class SourceProblem(SchedulerError):
    """The table to import from is not there, or cannot be read."""


@dataclass(frozen=True, slots=True)
class PickledJob:
    """A row of APScheduler's table, not unpickled."""

    id: str
    paused: bool
    state: Any


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of one job: imported, present and so left alone, or refused; `reason` says more about the latter."""

    job_id: str
    outcome: Literal["imported", "present", "refused"]
    reason: str | None = None


def import_jobs(
    database: Database, table: str = TABLE, source_url: str | None = None, *, scheduler: Any
) -> list[ImportResult]:
    """Import the jobs of APScheduler's `table`; this unpickles them, and so runs the code of whoever wrote it.

    The table is looked for in `database`, or at the SQLAlchemy URL `source_url`; a name may have its schema before a
    dot. `scheduler` is the engine, whose code and executors the jobs need. Jobs keep their next fire and their pause.
    Raises ConfigError, SourceProblem, SchemaProblem or DatabaseFailure, and then nothing was imported.
    """
    return import_pickled(database, read_pickled(database, table, source_url), scheduler=scheduler)


# Reading


def read_pickled(database: Database, table: str = TABLE, source_url: str | None = None) -> list[PickledJob]:
    """Return the rows of APScheduler's `table` by id; nothing is unpickled.

    Raises ConfigError, SourceProblem or DatabaseFailure.
    """
    if source_url is None:
        return database.transact(lambda tx: _read(tx.connection, table), write=False)
    engine = _engine(source_url)
    try:
        with engine.connect() as conn:
            return _read(conn, table)
    except SQLAlchemyError as error:
        raise SourceProblem(f"{shown(engine.url)}: {first_line(error)}") from error
    finally:
        engine.dispose()


def _engine(source_url: str) -> Engine:
    """Return an engine for any kind of database that SQLAlchemy knows. Raises ConfigError or SourceProblem."""
    try:
        url = make_url(source_url)
        kind = "postgresql" if url.drivername == "postgres" else url.drivername
        if kind in DRIVERS:
            url = url.set(drivername=f"{kind}+{DRIVERS[kind]}")
        engine = create_engine(url)
    except (ArgumentError, ValueError, TypeError) as error:
        raise ConfigError(f"The source's url is none: {first_line(error)}") from None
    except ImportError as error:
        raise ConfigError(f"The source {shown(url)} needs a driver that is not installed: {error}") from error
    if engine.dialect.is_async:
        raise ConfigError(f"The source {shown(url)} has an asynchronous driver; expected a synchronous one")
    if names_missing_file(url):
        raise SourceProblem(f"There is no file {url.database!r}, which {shown(url)} names")
    return engine


def _read(conn: Connection, table: str) -> list[PickledJob]:
    schema, _, name = table.rpartition(".")
    where = shown(conn.engine.url)
    try:
        columns = {entry["name"] for entry in inspect(conn).get_columns(name, schema=schema or None)}
    except NoSuchTableError:
        raise SourceProblem(f"There is no table {table} in {where}") from None
    if not columns.issuperset(_COLUMNS):
        raise SourceProblem(
            f"The table {table} in {where} has the columns {', '.join(sorted(columns))}; "
            f"expected one of APScheduler's SQLAlchemyJobStore, with {', '.join(_COLUMNS)}"
        )
    source = table_clause(name, *map(column, _COLUMNS), schema=schema or None)
    rows = conn.execute(select(source).order_by(source.c.id))
    return [PickledJob(str(row.id), row.next_run_time is None, row.job_state) for row in rows]


# Importing


def import_pickled(
    database: Database, jobs: Sequence[PickledJob], *, scheduler: Any, dry_run: bool = False
) -> list[ImportResult]:
    """Unpickle those of `jobs` that are not in the store, and insert what can be in one transaction.

    With `dry_run` nothing is written, not even missing tables made. Raises SchemaProblem or DatabaseFailure.
    """
    if not dry_run:
        database.schema.open()
    database.clock = scheduler.clock
    declared = scheduler.catalogue.declarations
    present: Known = {job.id: _DECLARED[job.paused] for job in jobs if job.id in declared}
    present |= database.transact(_known, write=False)
    converted: dict[str, ScheduledJob] = {}
    refused: dict[str, str] = {}
    for job in jobs:
        if job.id not in present:
            try:
                converted[job.id] = _convert(job, scheduler)
            except SchedulerError as error:
                refused[job.id] = str(error)
    if converted and not dry_run:
        present |= _insert(database, converted)
    return [_result(job.id, present, refused) for job in jobs]


_DECLARED = {
    False: "the code declares it",
    True: "the code declares it; it is paused in the old table, which is not taken over",
}


def _result(job_id: str, present: Known, refused: Mapping[str, str]) -> ImportResult:
    if job_id in present:
        return ImportResult(job_id, "present", present[job_id])
    return ImportResult(job_id, "refused" if job_id in refused else "imported", refused.get(job_id))


def _known(tx: Transaction) -> Known:
    """Return the jobs that are there, and those that were: what ended or was removed must not come back."""
    if not inspect(tx.connection).has_table(f"{tx.prefix}jobs"):
        return {}
    imported = tx.rows(f"SELECT job_id FROM {tx.prefix}changes WHERE action = 'import'")
    known: Known = {row.job_id: "it was imported before, and has ended or been removed since" for row in imported}
    return known | {row.id: None for row in tx.rows(f"SELECT id FROM {tx.prefix}jobs")}


def _insert(database: Database, jobs: Mapping[str, ScheduledJob]) -> Known:
    """Insert the jobs whose ids are still free; return those that were not."""

    def insert(tx: Transaction) -> Known:
        known = _known(tx)
        taken = {job_id: known[job_id] for job_id in jobs if job_id in known}
        rows = [new_row(job, tx.now, "added", None, None) for job_id, job in jobs.items() if job_id not in taken]
        tx.insert("jobs", NEW_JOB, rows)
        write_down(tx, [Entry("import", row[0], 1, row[4]) for row in rows])
        return taken

    token = current_actor.set("import")
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return database.transact(insert)
            except DatabaseFailure as error:
                # Somebody else has just added a job of the same id.
                if attempt == _ATTEMPTS or not isinstance(error.__cause__, IntegrityError):
                    raise
    finally:
        current_actor.reset(token)
    raise AssertionError("unreachable")


def _convert(job: PickledJob, scheduler: Any) -> ScheduledJob:
    """Return the job as our store keeps it. Raises InvalidDefinition where it cannot, or this process not load it."""
    try:
        made = _job(job, scheduler)
        state.dump(made)
        return made
    except SchedulerError:
        raise
    except (Exception, SystemExit) as error:
        # Triggers and arguments may be the user's own objects, with code of their own.
        raise InvalidDefinition("job_state", f"cannot be read: {type(error).__name__}: {error}") from error


def _job(job: PickledJob, scheduler: Any) -> ScheduledJob:
    state.check_id(job.id)
    fields = _unpickle(job)
    moment = fields["next_run_time"]
    if moment is not None and not (isinstance(moment, datetime) and moment.utcoffset() is not None):
        raise InvalidDefinition("next_run_time", f"is {bounded_repr(moment)}; expected an aware datetime, or None")
    if not isinstance(fields["func"], str):
        raise InvalidDefinition("func", f"is {bounded_repr(fields['func'])}; expected 'module:name'")
    if not isinstance(fields["trigger"], BaseTrigger):
        raise InvalidDefinition("trigger", f"is {bounded_repr(fields['trigger'])}; expected a trigger of APScheduler's")
    parsed = JobDefinition.parse({"id": job.id, **{name: fields[name] for name in _FIELDS}})
    executors = scheduler.runner.executors
    if parsed.executor not in executors:
        expected = ", ".join(map(repr, sorted(executors)))
        raise InvalidDefinition("executor", f"is {parsed.executor!r}; expected one of {expected}")
    made = ScheduledJob(
        scheduler,
        id=job.id,
        func=parsed.func,
        trigger=fields["trigger"],
        **{name: getattr(parsed, name) for name in _FIELDS if name not in ("func", "trigger")},
    )
    # As it was: its offset may belong to the second of two hours of the same name.
    made.next_run_time = moment
    return made


def _unpickle(job: PickledJob) -> Mapping[str, Any]:
    """Return the state of the job, which is of the first version and whole."""
    try:
        fields = pickle.loads(job.state)
    except (Exception, SystemExit) as error:
        # Unpickling imports modules and runs code: anything may come out.
        raise InvalidDefinition("job_state", f"cannot be unpickled: {type(error).__name__}: {error}") from error
    if not isinstance(fields, Mapping):
        raise InvalidDefinition("job_state", f"is {bounded_repr(fields)}; expected the state of a job")
    if fields.get("version", 1) != 1:
        raise InvalidDefinition("job_state", f"has the version {bounded_repr(fields['version'])}; expected 1")
    missing = {"id", "next_run_time", *_FIELDS} - fields.keys()
    if missing:
        raise InvalidDefinition("job_state", f"has no {', '.join(sorted(missing))}")
    if fields["id"] != job.id:
        raise InvalidDefinition("id", f"is {bounded_repr(fields['id'])} in the state, but {job.id!r} in the table")
    return fields
