"""APScheduler's own job stores, made to keep what they cannot restore."""

from __future__ import annotations

import inspect
import logging
import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import maybe_ref

from ..errors import ConfigError, InvalidDefinition
from ..model.policies import Policy, policy_of
from ..model.unrestorable import Unrestorable
from .memory import MemoryStore

if TYPE_CHECKING:
    from .sql.history import SqlHistory

log = logging.getLogger("quart_sched")

_SQL_OPTIONS = ("url", "table_prefix", "create_tables", "engine_options")
_PICKLING = "apscheduler.jobstores.sqlalchemy:SQLAlchemyJobStore"
_PICKLING_OPTIONS = ("engine", "metadata", "pickle_protocol", "tablename", "tableschema")


def make_store(key: str, entry: Any) -> BaseJobStore:
    """Make the store that a `SCHEDULER_JOBSTORES` entry asks for: instance, `type` or `class`. Raises ConfigError."""
    if isinstance(entry, BaseJobStore):
        return entry
    options = dict(entry)
    kind, cls = options.pop("type", None), options.pop("class", None)
    known = {"memory", *BaseScheduler._jobstore_plugins}
    if kind is not None and (not isinstance(kind, str) or kind not in known):
        raise ConfigError(f"{key} has type {kind!r}; expected one of {', '.join(sorted(map(repr, known)))}")
    if kind == "memory" and options:
        raise ConfigError(f"{key} has {', '.join(map(repr, options))} beside type 'memory', which takes no options")
    try:
        if kind == "sqlalchemy":
            return _sql_store(key, options)
        store_class = BaseScheduler._jobstore_plugins[kind].load() if kind not in (None, "memory") else maybe_ref(cls)
        if kind == "memory" or store_class is MemoryJobStore:
            store_class = MemoryStore
        if not (inspect.isclass(store_class) and issubclass(store_class, BaseJobStore)):
            raise ConfigError(f"{key} has class {cls!r}; expected a subclass of apscheduler's BaseJobStore")
        return store_class(**options)
    except ConfigError:
        raise
    except ImportError as error:
        raise ConfigError(f"{key} has type {kind!r}, whose library is not installed: {error}") from error
    except Exception as error:
        # A store's constructor parses its own options, and raises its library's own errors. Of a class whose library is
        # not installed APScheduler says no more than that it cannot be imported.
        reason = error.__cause__ if isinstance(error.__cause__, ImportError) else error
        raise ConfigError(f"{key} cannot be made into a job store: {type(reason).__name__}: {reason}") from error


def _sql_store(key: str, options: dict[str, Any]) -> BaseJobStore:
    try:
        from .sql.store import SqlStore
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "sqlalchemy":
            raise
        raise ConfigError(
            f"{key} has type 'sqlalchemy', which needs SQLAlchemy: pip install 'quart-sched[sql]'"
        ) from error
    for name in options:
        if name not in _SQL_OPTIONS:
            hint = f'. APScheduler\'s own store, which takes it, is {{"class": "{_PICKLING}"}}'
            raise ConfigError(
                f"{key} has the option {name!r}; expected {', '.join(map(repr, _SQL_OPTIONS))}"
                f"{hint if name in _PICKLING_OPTIONS else ''}"
            )
    if "url" not in options:
        raise ConfigError(f"{key} has no url; expected one such as 'sqlite:///jobs.db'")
    return SqlStore(**options, key=key)


def make_history(key: str, entry: Mapping[str, Any]) -> SqlHistory:
    """Make the run history that a `SCHEDULER_HISTORY` entry asks for. Raises ConfigError."""
    options = {name: value for name, value in entry.items() if name != "type"}
    store: Any = _sql_store(key, options)
    history: SqlHistory = store.history
    return history


def keep_unrestorable(store: BaseJobStore) -> None:
    """Make `store` return a placeholder for each job that it cannot restore.

    APScheduler's stores delete such a row, for everybody, because one process has a broken import. All of them restore
    through `_reconstitute_job`; a store that does not is left as it is.
    """
    restore = getattr(store, "_reconstitute_job", None)
    if restore is None or getattr(restore, "keeps_unrestorable", False):
        return
    reported: set[str] = set()

    def keeping(job_state: Any) -> Job:
        try:
            return restore(job_state)
        except Exception as error:
            # Unpickling and importing run code of the user's: anything may come out.
            job = _placeholder(store, job_state, f"{type(error).__name__}: {error}")
            if job.id not in reported:
                reported.add(job.id)
                log.exception(
                    'Job "%s" of store "%s" cannot be restored: it is kept and does not run', job.id, store._alias
                )
            return job

    keeping.keeps_unrestorable = True  # type: ignore[attr-defined]  # a mark on our own function
    store._reconstitute_job = keeping


def _placeholder(store: BaseJobStore, job_state: Any, reason: str) -> Job:
    try:
        state = pickle.loads(job_state)
    except Exception:
        state = None  # Not even its arguments or trigger can be loaded, so that it has no name for us.
    known: Mapping[str, Any] = state if isinstance(state, Mapping) else {}
    job = Job.__new__(Job)
    job.id = known.get("id", "?")
    job.name = known.get("name") or job.id
    job.func = job.func_ref = known.get("func")
    job.args, job.kwargs = known.get("args", ()), known.get("kwargs", {})
    stored = known.get("trigger")
    job.trigger = Unrestorable(reason, stored if isinstance(stored, BaseTrigger) else None)
    job.executor = known.get("executor", "default")
    job.misfire_grace_time, job.coalesce, job.max_instances = 1, True, 1
    job.next_run_time = known.get("next_run_time")
    job._scheduler, job._jobstore_alias = store._scheduler, store._alias
    return job


def unrestorable_reason(job: Job) -> str | None:
    """Return why the store could not restore `job`; None for a job in order."""
    # Asked for each fire, and triggers have an abstract base class, by which a check by isinstance is dear.
    return job.trigger.reason if type(job.trigger) is Unrestorable else None


def check_plain(policy: Policy, alias: str) -> None:
    """Raise InvalidDefinition for a job whose options go beyond what APScheduler's own stores can keep."""
    for key, value in policy.given().items():
        raise InvalidDefinition(
            key, f'is {value!r}, which store "{alias}" of APScheduler\'s cannot keep; use the memory or the SQL store'
        )


def check_storable(job: Job, alias: str) -> None:
    """Raise InvalidDefinition, saying why and what to do, where a store that pickles cannot keep `job`."""
    check_plain(policy_of(job), alias)
    if job.func_ref is None:
        raise InvalidDefinition(
            "func",
            f'{job.func!r} has no importable name, so store "{alias}" cannot keep it; '
            "use a function at the top of a module, or the memory store",
        )
    try:
        owner = job.func.__self__ if inspect.ismethod(job.func) else None
        pickle.dumps((job.trigger, job.args, job.kwargs, owner))
    except Exception as error:
        # Pickling runs the arguments' own code.
        raise InvalidDefinition("args", f'cannot be kept in store "{alias}": {error}') from error
