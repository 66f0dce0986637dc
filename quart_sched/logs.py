"""Log records that say of which run they are."""

from __future__ import annotations

from logging import Filter, LogRecord

from .engine.performer import the_run

FIELDS = ("job_id", "run_id", "attempt")


class RunFilter(Filter):
    """Gives every record `job_id`, `run_id` and `attempt`, None outside of jobs. To be added to a handler.

    ::

        handler.addFilter(RunFilter())
        handler.setFormatter(logging.Formatter("%(levelname)s %(job_id)s %(run_id)s %(message)s"))

    Records that a job writes while its log is captured (SCHEDULER_LOG_BYTES above 0) have these attributes without it.
    What a record says itself, through `extra`, stays.
    """

    def filter(self, record: LogRecord) -> bool:
        """Add the attributes; let every record through."""
        run = the_run()
        for name in FIELDS:
            if name not in record.__dict__:
                setattr(record, name, None if run is None else getattr(run, name))
        return True
