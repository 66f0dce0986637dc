"""APScheduler: the extension that a Quart app holds. A thin front over the engine."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from apscheduler.events import EVENT_ALL
from apscheduler.job import Job
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.base import STATE_STOPPED
from apscheduler.triggers.base import BaseTrigger
from quart import Quart

from .aio import AioVerbs
from .config import Settings
from .engine.clock import Clock
from .engine.declarations import Origin
from .engine.history_ring import HistoryRing
from .engine.listeners import Listener
from .engine.overdue import Hook as OverdueHook
from .engine.performer import Hook
from .engine.scheduler import Scheduler
from .errors import ConfigError, InvalidDefinition, SchedulerError
from .integrations import Integrations
from .late import LateCommand
from .lifespan import Lifespan
from .model.fields import wrong
from .model.functions import default_id, describe
from .model.jobs import POSITIONAL, JobDefinition

if TYPE_CHECKING:
    from datetime import datetime

    from .metrics import Metrics
    from .testing import VirtualTime

F = TypeVar("F", bound=Callable[..., Any])


class APScheduler:
    """Schedules jobs inside a Quart app.

    ::

        scheduler = APScheduler()

        @scheduler.task("interval", id="tick", seconds=3)
        async def tick(): ...

        scheduler.init_app(app)
        scheduler.start()

    The plain methods may be called from any thread. In coroutines prefer those of `aio`, which never block the loop;
    `run_job` of a job in an SQL store works there by `aio` alone.
    """

    def __init__(self, scheduler: AsyncIOScheduler | Quart | None = None, app: Quart | None = None) -> None:
        """Take an AsyncIOScheduler to build on (None: a new one), and an app for `init_app`; or the app alone."""
        if isinstance(scheduler, Quart):
            scheduler, app = None, scheduler
        self._scheduler = _own(scheduler)
        self._host_name = socket.gethostname().lower()
        self.lifespan = Lifespan(self)
        """What ties it to the app that serves."""
        self.authentication_callback: Callable[..., Any] | None = None
        self.settings = Settings.from_mapping({})
        self._integrations = Integrations(self._scheduler)
        self.aio = AioVerbs(self)
        """The same verbs as coroutines."""

        self.allowed_hosts: list[str] = ["*"]
        self.auth: Any = None
        self.api_enabled = False
        self.api_prefix = "/scheduler"
        self.endpoint_prefix = "scheduler."
        self.app: Quart | None = None
        if app is not None:
            self.init_app(app)

    # What it is

    @property
    def host_name(self) -> str:
        """This machine's name, in lower case."""
        return self._host_name

    @property
    def running(self) -> bool:
        """Whether the scheduler has started in this process, be it paused."""
        return bool(self._scheduler.running)

    @property
    def state(self) -> int:
        """STATE_STOPPED, STATE_RUNNING or STATE_PAUSED."""
        return int(self._scheduler.state)

    @property
    def scheduler(self) -> Scheduler:
        """The AsyncIOScheduler underneath."""
        return self._scheduler

    @property
    def history(self) -> HistoryRing:
        """What became of the last fires of this process."""
        return self._scheduler.history

    @property
    def clock(self) -> Clock:
        """The time that the scheduler goes by: real, or that of the virtual_time block. Jobs may sleep by it."""
        return self._scheduler.clock.current

    @property
    def origin(self) -> Origin:
        """Whether a job that is added now belongs to an app, or outlives a change of app."""
        return "unbound" if self.app is None else "app"

    @property
    def is_allowed_host(self) -> bool:
        """Whether this host may start the scheduler."""
        return "*" in self.allowed_hosts or self.host_name in (host.lower() for host in self.allowed_hosts)

    @property
    def metrics(self) -> Metrics | None:
        """What counts for ``/metrics``; None without SCHEDULER_METRICS_ENABLED."""
        return self._integrations.metrics

    # Set-up

    def init_app(self, app: Quart) -> None:
        """Bind the scheduler to `app` and read its configuration.

        Attributes set before are defaults under the configuration. On another app than before, the jobs begin anew:
        those declared by decorator, and the new app's own. Raises ConfigError or DuplicateJob, and SchedulerError
        where the app so far is still serving; then nothing has changed.
        """
        if not isinstance(app, Quart):
            raise ConfigError(f"init_app got {app!r}; expected a Quart app")
        self._scheduler.leave_closed_loop()
        if self.lifespan.serving not in (None, app):
            raise SchedulerError(
                f"This scheduler serves the app {self.lifespan.serving!r}; it can be bound to another when that ends"
            )
        holder = app.extensions.get("apscheduler", self)
        if holder is not self:
            raise ConfigError(f"The app {app.name!r} has a scheduler already, {holder!r}; one app takes one")
        settings = Settings.from_mapping(
            app.config,
            api_enabled=self.api_enabled,
            api_prefix=self.api_prefix,
            endpoint_prefix=self.endpoint_prefix,
            allowed_hosts=self.allowed_hosts,
            auth=self.auth,
            **self._scheduler.own_settings,
        )
        views = _views(settings)
        for part in views:
            part.present(app, settings)  # raises before anything is changed
        rebind = self.app is not None and self.app is not app
        if not self._scheduler.running:
            integrations = Integrations.make(self._scheduler, settings, None if rebind else self._integrations)
            self._scheduler.install(settings, rebind=rebind)
            self._scheduler.catalogue.bound = True
            self._integrations.remove()
            self._integrations = integrations
            integrations.install()
        self.settings = settings
        self.api_enabled, self.api_prefix = settings.api_enabled, settings.api_prefix
        self.endpoint_prefix, self.auth = settings.endpoint_prefix, settings.auth
        self.allowed_hosts = list(settings.allowed_hosts)
        if rebind:
            self.lifespan.requested = None
        self.app = self._scheduler.performer.app = app
        app.apscheduler = self  # type: ignore[attr-defined]  # as Flask-APScheduler does
        app.extensions["apscheduler"] = self
        self.lifespan.hook(app)
        if "scheduler" not in app.cli.commands:  # an app may have a command of that name
            app.cli.add_command(LateCommand("scheduler"))
        for part in views:
            part.register(app, self)

    def task(self, trigger: Any, *args: Any, **options: Any) -> Callable[[F], F]:
        """Declare the decorated function as a job; takes the trigger with its fields, and the options of `add_job`.

        Without an `id` the job is called ``module:qualname``. After the start it takes over the job that a persistent
        store has of it. Raises InvalidDefinition or DuplicateJob at once.
        """
        if trigger is not None and not isinstance(trigger, str | Mapping | BaseTrigger):
            # Without parentheses the decorator gets the function here, which would never be scheduled.
            wrong("trigger", trigger, 'a kind of trigger, as in @scheduler.task("interval", seconds=3)')
        given = dict(zip(POSITIONAL, args, strict=False)) | options

        def decorate(func: F) -> F:
            job_id = given.get("id") or default_id(func)
            try:
                definition = JobDefinition.parse(
                    {**given, "id": job_id, "func": func, "trigger": trigger}, named_after="func"
                )
            except InvalidDefinition as error:
                # The line that the traceback shows is that of the decorator, of which a module may have many.
                raise InvalidDefinition(error.field, f"{error.problem} (in the job {describe(func)})") from None
            self._scheduler.call_sync(partial(self._scheduler.catalogue.add, definition, origin="task"))
            return func

        return decorate

    def authenticate(self, func: F) -> F:
        """Register the function, sync or async, that judges a request's credentials.

        It gets an Authorization and returns True, or a set out of "read", "operate", "admin".
        """
        self.authentication_callback = _checked("authenticate", func)
        return func

    def before_run(self, hook: Hook) -> Hook:
        """Call `hook`, sync or async, before each run, in its app context. A hook that raises fails the run.

        Around a coroutine job a plain hook is called on the loop, and must be quick; around a plain function it is
        called in that one's thread.
        """
        self._scheduler.performer.before_run.append(_checked("before_run", hook))
        return hook

    def after_run(self, hook: Hook) -> Hook:
        """Call `hook`, sync or async, after each run; the last registered is called first.

        Also after a run that failed, be it because a `before_run` hook raised: what that one was to set up may not be
        there. A plain hook is called where one of `before_run` is.
        """
        self._scheduler.performer.after_run.append(_checked("after_run", hook))
        return hook

    def on_overdue(self, hook: OverdueHook) -> OverdueHook:
        """Call `hook`, sync or async, with an Overdue, when a job has not succeeded in time.

        That is once until the job succeeds again; with a store that processes share, in one of them. The hook runs in
        the app's context, a plain function in a thread of its own. See the job option `overdue_after`.
        """
        self._scheduler.watch.hooks.append(_checked("on_overdue", hook))
        return hook

    # Life cycle

    def start(self, paused: bool = False) -> None:
        """Start; before the app serves this is remembered, and carried out in each serving process.

        With `paused`, no job fires until `resume`. On a host that is not among the allowed ones this does nothing but
        say so in the log. Raises AlreadyRunning.
        """
        self.lifespan.start(paused)

    def shutdown(self, wait: bool = True) -> None:
        """Stop firing. On the loop's own thread this begins and returns; elsewhere it waits for the running jobs.

        They get SCHEDULER_SHUTDOWN_TIMEOUT seconds, then they are cancelled; without `wait` they are left alone.
        Raises NotRunning, but not while the app shuts down, which has ended the scheduler already.
        """
        if not self.lifespan.withdraw():
            self._scheduler.shutdown(wait)

    def pause(self) -> None:
        """Stop firing until `resume`, in all processes that share a store. Raises NotRunning."""
        if not self.lifespan.note_pause(True):
            self._scheduler.pause()

    def resume(self) -> None:
        """Fire again, in all processes that share a store. Raises NotRunning."""
        if not self.lifespan.note_pause(False):
            self._scheduler.resume()

    def virtual_time(
        self, start: datetime | str | None = None, *, inline: bool = False, patience: float = 10.0
    ) -> VirtualTime:
        """Let the scheduler live in virtual time for a block: ``async with scheduler.virtual_time() as clock``.

        ``await clock.advance(hours=24)`` runs all that comes due, in order and without waiting; `clock.fires` lists
        what ran. The block begins at `start`, read in SCHEDULER_TIMEZONE where it is naive, or now. It starts the
        scheduler where it is not running, and then stops it at the end. With `inline`, a job that is due when it is
        added runs within ``await scheduler.aio.add_job(...)``. For threads, sockets and the like time stands still, for
        up to `patience` real seconds of silence. Raises VirtualTimeError where a block cannot begin.
        """
        from .testing import virtual_time

        return virtual_time(self, start=start, inline=inline, patience=patience)

    # Verbs

    def add_listener(self, callback: Listener, mask: int = EVENT_ALL) -> None:
        """Call `callback`, sync or async, on the loop with each of APScheduler's events whose code is in `mask`.

        The events are those of this process. A plain function must be quick.
        """
        self._scheduler.add_listener(_checked("add_listener", callback), mask)

    def remove_listener(self, callback: Listener) -> None:
        """Forget a listener."""
        self._scheduler.remove_listener(callback)

    def add_job(self, id: str, func: Any, **options: Any) -> Job:
        """Add a job, or declare it before the start.

        With an SQL store it is added, too, while the app serves without a start: other processes run it.
        `func` is a callable or ``"module:name"``; the options are `trigger` with its fields, args, kwargs, name,
        misfire_grace_time (seconds), coalesce, max_instances, next_run_time, timeout (seconds), retry (a Retry, or its
        fields in a dict), overlap ("skip", "queue" with max_queue, or "replace"), run_on_start, on_crash ("lost", or
        "rerun" to start a run again whose process died), overdue_after (seconds after a fire within which the job is to
        succeed), description, tags, executor, jobstore, replace_existing.
        Raises InvalidDefinition or DuplicateJob.
        """
        definition = JobDefinition.parse({**options, "id": id, "func": func})
        catalogue = self._scheduler.catalogue
        return self._scheduler.call_sync(partial(catalogue.add, definition, origin=self.origin))

    def remove_job(self, id: str, jobstore: str | None = None) -> None:
        """Remove the job; a run under way goes on.

        Raises JobNotFound, or DeclaredJob where it is in an SQL store and the code declares it.
        """
        self._scheduler.remove_job(id, jobstore)

    def remove_all_jobs(self, jobstore: str | None = None) -> None:
        """Remove the jobs of one store, or of all; those that the code declares stay in an SQL store."""
        self._scheduler.remove_all_jobs(jobstore)

    def get_job(self, id: str, jobstore: str | None = None) -> Job | None:
        """Return the job, or None."""
        return self._scheduler.get_job(id, jobstore)

    def get_jobs(self, jobstore: str | None = None) -> list[Job]:
        """Return all jobs: those that wait for the start, then by time of their next fire, paused ones last."""
        return self._scheduler.get_jobs(jobstore)

    def modify_job(self, id: str, jobstore: str | None = None, **changes: Any) -> Job:
        """Change a job: all of it or, where something is wrong, nothing. Raises JobNotFound or InvalidDefinition."""
        return self._scheduler.modify_job(id, jobstore, **changes)

    def pause_job(self, id: str, jobstore: str | None = None) -> Job:
        """Keep the job from firing until it is resumed. Raises JobNotFound."""
        return self._scheduler.pause_job(id, jobstore)

    def resume_job(self, id: str, jobstore: str | None = None) -> Job | None:
        """Take the job's schedule up again; None where it is over and the job was removed. Raises JobNotFound."""
        return self._scheduler.resume_job(id, jobstore)

    def run_job(self, id: str, jobstore: str | None = None) -> Any:
        """Run the job once beside its schedule, also a paused one.

        In the loop's own thread this returns a RunHandle to await, or raises SchedulerError where the job is in an SQL
        store: use ``await aio.run_job(id)`` there. In other threads it waits for the run and returns its record, or
        raises what the job raised, RunFailed for an exit. Raises NoEventLoop before the server runs, JobNotFound,
        InvalidDefinition, OverlapForbidden or Draining.
        """
        return self._scheduler.by_hand.run_sync(id, jobstore)


def _views(settings: Settings) -> list[ModuleType]:
    """Return the modules of the views that the settings ask for."""
    # Imported where there is an app to serve: a module that only declares jobs needs none of it.
    from .web import api

    if not settings.dashboard_enabled:
        return [api]
    from .web import dashboard

    return [api, dashboard]


def _checked(where: str, func: F) -> F:
    """Return a function that is registered, which would else be called only much later. Raises InvalidDefinition."""
    if not callable(func):
        wrong(where, func, "a function")
    return func


def _own(scheduler: Any) -> Scheduler:
    if scheduler is None:
        return Scheduler()
    if isinstance(scheduler, Scheduler):
        return scheduler
    if type(scheduler) is AsyncIOScheduler:
        if scheduler.state != STATE_STOPPED:
            raise ConfigError("scheduler is an AsyncIOScheduler that runs already; pass it before it is started")
        return Scheduler.adopt(scheduler)
    name = f"{type(scheduler).__module__}.{type(scheduler).__qualname__}"
    raise ConfigError(
        f"scheduler is a {name}; expected an AsyncIOScheduler, since jobs run on the event loop. "
        "To change its behaviour, subclass quart_sched.Scheduler"
    )
