"""quart_sched: schedules jobs inside Quart applications, on the event loop."""

from apscheduler.schedulers.base import STATE_PAUSED, STATE_RUNNING, STATE_STOPPED

from . import auth
from .engine.handles import RunHandle
from .engine.performer import current_run
from .engine.scheduler import Scheduler
from .errors import SchedulerError
from .extension import APScheduler
from .model.overdue import Overdue
from .model.policies import Retry
from .model.runs import RunRecord

__version__ = "0.1.0"
__all__ = [
    "STATE_PAUSED",
    "STATE_RUNNING",
    "STATE_STOPPED",
    "APScheduler",
    "Overdue",
    "Retry",
    "RunHandle",
    "RunRecord",
    "Scheduler",
    "SchedulerError",
    "auth",
    "current_run",
]
