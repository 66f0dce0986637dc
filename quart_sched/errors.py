"""What can go wrong. Each error knows the HTTP status that the REST API answers it with."""

from __future__ import annotations

from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.schedulers import SchedulerAlreadyRunningError, SchedulerNotRunningError


class SchedulerError(Exception):
    """The root of quart_sched's errors; `status` is the HTTP status of the API's answer."""

    status = 500

    def __str__(self) -> str:
        # Some of the APScheduler errors below are KeyErrors, whose str() is a repr.
        return str(self.args[0]) if self.args else type(self).__name__


class ConfigError(SchedulerError, ValueError):
    """A configuration value is wrong; the message names the key, the value and what was expected."""


class InvalidDefinition(SchedulerError, ValueError):
    """A job, trigger or argument is not well formed. `field` is the path of the offending key."""

    status = 400

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class RunTimedOut(SchedulerError, TimeoutError):
    """A run took longer than its job's `timeout`."""


class BadRequest(SchedulerError):
    """The request as a whole cannot be understood, for example because its body is not JSON."""

    status = 400


class AuthenticationRequired(SchedulerError):
    """No credentials came with the request, or they were not accepted."""

    status = 401


class Forbidden(SchedulerError):
    """The caller may not do this: a missing right, or a request from another origin."""

    status = 403


class RunNotFound(SchedulerError):
    """No run has this id, or its record has been pruned."""

    status = 404

    def __init__(self, run_id: str) -> None:
        super().__init__(f"Run {run_id} not found")
        self.run_id = run_id


class RunFailed(SchedulerError):
    """The awaited run did not succeed, and what its job raised is not raised again.

    It is not at hand, since the job ran for an earlier request, or it is no Exception, an exit for example; it is the
    cause then.
    """

    def __init__(self, run_id: str, outcome: str, reason: str) -> None:
        super().__init__(f"Run {run_id} {outcome}" + (f": {reason}" if reason else ""))
        self.run_id = run_id
        self.outcome = outcome


class IdempotencyKeyReused(SchedulerError):
    """The idempotency key has been used for another request within the last 24 hours."""

    status = 422

    def __init__(self) -> None:
        super().__init__(
            "The Idempotency-Key was used for another request within the last 24 hours: another job, or other "
            "arguments; expected a new key for a new request"
        )


class RunOver(SchedulerError):
    """The run has ended already, so that it cannot be cancelled any more."""

    status = 409

    def __init__(self, run_id: str, outcome: str) -> None:
        super().__init__(f"Run {run_id} is over: {outcome}")
        self.run_id = run_id
        self.outcome = outcome


class JobNotFound(SchedulerError, JobLookupError):
    """No job has this id. It is a JobLookupError of APScheduler's too."""

    status = 404

    def __init__(self, job_id: str) -> None:
        Exception.__init__(self, f"Job {job_id} not found")
        self.job_id = job_id


class DuplicateJob(SchedulerError, ConflictingIdError):
    """A job with this id exists already. It is a ConflictingIdError of APScheduler's too."""

    status = 409

    def __init__(self, job_id: str, where: str = "") -> None:
        origin = f" ({where})" if where else ""
        Exception.__init__(
            self, f"Job {job_id} already exists{origin}. Choose another id, or pass replace_existing=True to replace it"
        )
        self.job_id = job_id


class DeclaredJob(SchedulerError):
    """The code declares this job, which is in an SQL store, so that it would come back at the next start."""

    status = 409

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"Job {job_id} is declared in the code and would come back; pause it, or take it out of the code"
        )
        self.job_id = job_id


class NotStored(SchedulerError):
    """The code declares this job, and no process has brought it into the SQL store that it is meant for yet."""

    status = 409

    def __init__(self, job_id: str) -> None:
        super().__init__(f"Job {job_id} is declared, but not in the store yet: the next process that starts adds it")
        self.job_id = job_id


class JobChangedMeanwhile(SchedulerError):
    """The job is not any more as the caller saw it, who asked that it be changed only then."""

    status = 412

    def __init__(self, job_id: str) -> None:
        super().__init__(f"Job {job_id} has been changed meanwhile; read it again")
        self.job_id = job_id


class AlreadyRunning(SchedulerError, SchedulerAlreadyRunningError):
    """The scheduler has been started before."""

    status = 400

    def __init__(self) -> None:
        Exception.__init__(self, "Scheduler is already running")


class NotRunning(SchedulerError, SchedulerNotRunningError):
    """The scheduler is not running, so there is nothing to pause, resume or shut down."""

    status = 400

    def __init__(self) -> None:
        Exception.__init__(self, "Scheduler is not running")


class NoEventLoop(SchedulerError, RuntimeError):
    """A verb that needs a running event loop was called where there is none, as `run_job` before the server runs."""


class FunctionNotAllowed(SchedulerError):
    """This function may not be scheduled over REST."""

    status = 422


class OverlapForbidden(SchedulerError):
    """The job runs already, as often as its max_instances allows. `run_ids` are the runs in the way."""

    status = 409

    def __init__(self, job_id: str, run_ids: list[str]) -> None:
        super().__init__(
            f"Job {job_id} is already running ({', '.join(run_ids)}) and its max_instances forbids another"
        )
        self.job_id = job_id
        self.run_ids = run_ids


class StoreUnavailable(SchedulerError):
    """A job store cannot be reached, or failed. Nothing is known to have changed."""

    status = 503

    def __init__(self, alias: str, cause: BaseException) -> None:
        super().__init__(f'Job store "{alias}" is not available: {type(cause).__name__}: {cause}')
        self.alias = alias


class Draining(SchedulerError):
    """The process is shutting down and takes no new runs."""

    status = 503


class RunCancelled(SchedulerError):
    """The awaited run was cancelled before it finished, for example by the shutdown's deadline."""


TOLD = (SchedulerError, JobLookupError, ConflictingIdError)
"""What users are told of; APScheduler's own come straight out of a store in which somebody else was faster."""


def answer_to(error: Exception) -> tuple[int, str]:
    """Return the HTTP status and the message of one of these."""
    if isinstance(error, SchedulerError):
        return error.status, str(error)
    return 404 if isinstance(error, JobLookupError) else 409, str(error.args[0])
