"""`quart scheduler db ...`: the tables of a SQL store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from quart.cli import ScriptInfo, pass_script_info

from ..errors import SchedulerError
from .app import load
from .messages import Refused, ask, line
from .options import refuse_url

if TYPE_CHECKING:
    from ..stores.sql.database import Database
    from ..stores.sql.importer import ImportResult

db = click.Group("db", help="Look after the tables of a SQL store.")
_store_option = click.option(
    "--store", "alias", metavar="ALIAS", default="default", show_default=True, help="The store in SCHEDULER_JOBSTORES."
)


@db.command("sql")
@_store_option
@pass_script_info
def db_sql(info: ScriptInfo, alias: str) -> None:
    """Print the SQL that makes the tables, for somebody to run who may; nothing is connected."""
    with _database(info, alias) as database:
        from ..stores.sql.schema import ddl

        click.echo(ddl(database.engine, database.prefix), nl=False)


@db.command("upgrade")
@_store_option
@pass_script_info
def db_upgrade(info: ScriptInfo, alias: str) -> None:
    """Make the tables, or bring them up to date.

    What is up to date already is left alone, and several processes may do this at once.
    """
    with _database(info, alias) as database:
        before = database.schema.version()
        version = database.schema.upgrade()
        database.schema.open()
        done = "made" if before is None else "up to date" if before == version else f"upgraded from version {before}"
        click.echo(f"Tables {database.prefix}* in {database.url}: {done}, version {version}")


@db.command("import")
@_store_option
@click.option("--table", default="apscheduler_jobs", show_default=True, help="APScheduler's table, with its schema.")
@click.option("--from", "source_url", metavar="URL", help="Where the table is, if not in the store's own database.")
@click.option("--yes", is_flag=True, help="Do not ask: you trust whoever could write to the table.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing. This unpickles too.")
@pass_script_info
def db_import(info: ScriptInfo, alias: str, table: str, source_url: str | None, yes: bool, dry_run: bool) -> None:
    """Take over the jobs of APScheduler's own SQLAlchemyJobStore.

    They keep their next fire and their pause. Jobs whose id is there already, or was imported before, are left alone.
    So is the old table: stop what still runs jobs out of it, else they run twice.

    Its jobs are pickles, and reading them runs whatever code the writer of the table put there.
    """
    with _database(info, alias) as database:
        from ..stores.sql.address import shown
        from ..stores.sql.importer import import_pickled, read_pickled

        jobs = read_pickled(database, table, source_url)
        where = shown(source_url) if source_url is not None else database.url
        if jobs and not yes:
            ask(
                f"The table {table} in {where} holds pickled jobs ({len(jobs)}), "
                "and reading them runs the code of whoever wrote them.",
                "Do you trust whoever could write to the table?",
                otherwise="give --yes if you trust whoever could write to the table",
            )
        scheduler = load(info).scheduler
        results = import_pickled(database, jobs, scheduler=scheduler, dry_run=dry_run)
    _report(results, dry_run=dry_run)
    if any(result.outcome == "refused" for result in results):
        raise click.exceptions.Exit(1)


@contextmanager
def _database(info: ScriptInfo, alias: str) -> Iterator[Database]:
    """Yield the database of the SQL store `alias`; what goes wrong with it ends the command with one line."""
    refuse_url(click.get_current_context())
    slots = load(info).scheduler.catalogue.slots
    if alias not in slots:
        known = ", ".join(map(repr, sorted(slots)))
        raise Refused(f"There is no store {alias!r}; expected one of {known}")
    store = slots[alias].store
    try:
        from sqlalchemy.exc import SQLAlchemyError

        from ..stores.sql.database import Database
        from ..stores.sql.failures import DatabaseFailure
    except ImportError:
        raise _no_sql(alias, store) from None
    database = getattr(store, "database", None)
    if not isinstance(database, Database):
        raise _no_sql(alias, store)
    try:
        yield database
    except DatabaseFailure as error:
        again = "; it may have been done all the same, so run this again" if error.unknown else ""
        raise click.ClickException(line(f"{database.url}: {error}{again}")) from None
    except (SchedulerError, SQLAlchemyError) as error:
        raise click.ClickException(line(str(error))) from None
    finally:
        database.dispose()


def _no_sql(alias: str, store: Any) -> Refused:
    entry = f'{{"{alias}": {{"type": "sqlalchemy", "url": ...}}}}'
    return Refused(f"The store {alias!r} is a {type(store).__name__}; expected SCHEDULER_JOBSTORES = {entry}")


def _report(results: Sequence[ImportResult], *, dry_run: bool) -> None:
    """Print what became of each job, and how many there were of each."""
    imported = "would be imported" if dry_run else "imported"
    words = {"imported": imported, "present": "already there", "refused": "refused"}
    rows = [("JOB", "RESULT", "REASON")]
    rows += [(line(result.job_id), words[result.outcome], line(result.reason or "")) for result in results]
    widths = [max(len(row[index]) for row in rows) for index in (0, 1)]
    for job_id, word, reason in rows if results else ():
        click.echo(f"{job_id:<{widths[0]}}  {word:<{widths[1]}}  {reason}".rstrip())
    counts = {outcome: sum(result.outcome == outcome for result in results) for outcome in words}
    click.echo(", ".join(f"{counts[outcome]} {word}" for outcome, word in words.items()))
