"""What needs a library of its own, and so is imported only where a setting asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .config import Settings
from .engine.scheduler import Scheduler
from .errors import ConfigError

if TYPE_CHECKING:
    from .metrics import Metrics
    from .tracing import Tracing


@dataclass(slots=True)
class Integrations:
    """The metrics and the traces of a scheduler, where it has them."""

    scheduler: Scheduler
    metrics: Metrics | None = None
    tracing: Tracing | None = None

    @classmethod
    def make(cls, scheduler: Scheduler, settings: Settings, present: Integrations | None) -> Integrations:
        """Make what the settings ask for, out of what is `present`. Raises ConfigError where a library is missing."""
        made = cls(scheduler)
        if settings.metrics_enabled:
            try:
                from .metrics import Metrics
            except ImportError as error:
                raise _missing(error, "SCHEDULER_METRICS_ENABLED", "prometheus_client", "metrics") from error
            made.metrics = present.metrics if present is not None else None
            made.metrics = made.metrics or Metrics(scheduler)
        if settings.traces_enabled:
            try:
                from .tracing import Tracing
            except ImportError as error:
                raise _missing(error, "SCHEDULER_TRACES_ENABLED", "opentelemetry", "otel") from error
            made.tracing = Tracing(scheduler)
        return made

    def install(self) -> None:
        """Let them take part in what the scheduler does."""
        if self.metrics is not None:
            self.scheduler.stream.subscribe(self.metrics, *self.metrics.KINDS)
            self.scheduler.companions.append(self.metrics)
        self.scheduler.trace(self.tracing)
        if self.tracing is not None:
            self.scheduler.stream.subscribe(self.tracing, *self.tracing.KINDS)

    def remove(self) -> None:
        """Take that back."""
        for part in (self.metrics, self.tracing):
            if part is not None:
                self.scheduler.stream.unsubscribe(part)
        self.scheduler.companions = [one for one in self.scheduler.companions if one is not self.metrics]
        self.scheduler.trace(None)


def _missing(error: ImportError, key: str, library: str, extra: str) -> Exception:
    if (error.name or "").partition(".")[0] != library:
        return error
    return ConfigError(f"{key} is True, which needs {library}: pip install 'quart-sched[{extra}]'")
