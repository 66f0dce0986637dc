"""The log lines of a run: taken where they are written, through the context, so that threads and child tasks count."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import wraps
from logging import Logger, LogRecord
from typing import ClassVar

from ..model.arguments import bounded_repr


class RunLog:
    """The log lines that one run wrote, at most `limit` bytes of UTF-8. Safe from any thread.

    `level` stands in for the root logger's: a logger that has no level of its own, nor from an ancestor below the root,
    brings what is at `level` or above. What `fields` returns becomes attributes of the records, for formatters.
    """

    __slots__ = ("_admitted", "_closed", "_fields", "_limit", "_lines", "_missing", "_size", "level")

    # Of all logs: one for each would cost each run more than they ever wait for each other. Reentrant: a signal handler
    # or a finalizer may write a line while its thread is in here.
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, limit: int, level: int, fields: Callable[[], Mapping[str, object]] = dict) -> None:
        # One is made for each run, most of which write nothing: all that only lines need is made with the first.
        self.level = level
        self._fields = fields
        self._limit = limit
        self._lines: list[bytes] | None = None
        self._size = 0
        self._missing = 0
        self._closed = False
        self._admitted: set[tuple[Logger, int]] | None = None

    def stamp(self, record: LogRecord) -> None:
        """Let the record say of which run it is, unless it does already."""
        for name, value in self._fields().items():
            record.__dict__.setdefault(name, value)

    def append(self, record: LogRecord) -> None:
        """Add the line, formatted now, as its arguments may change later. It is counted alone once the log is full."""
        if self._closed:
            return
        line = b"" if self._missing else _format(record)[: self._limit + 1].encode(errors="backslashreplace")
        with self._lock:
            if self._closed:
                return
            if self._missing:
                self._missing += 1
                return
            if self._lines is None:
                self._lines = []
            self._lines.append(line)
            self._size += len(line) + 1
            if self._size - 1 > self._limit:
                self._cut(self._lines)

    def text(self) -> str | None:
        """Return the lines, or None where there are none. If some did not fit, the last line says how many."""
        with self._lock:
            # A character that was cut in half is left off here.
            return b"\n".join(self._all())[: self._limit].decode(errors="ignore") or None

    def lines(self, start: int) -> list[str]:
        """Return the lines that there are by now, without the first `start` of them; one may have several rows."""
        with self._lock:
            return [line.decode(errors="ignore") for line in self._all()[start:]]

    def close(self) -> str | None:
        """Return the lines, and take no more: what tasks and threads write that outlive the run goes nowhere."""
        self._closed = True
        return None if self._lines is None else self.text()

    def admits(self, logger: Logger, level: int) -> bool:
        """Tell whether to write a line that is for this log alone. A full log refuses and counts it: that costs less.

        To be asked only where `logger` itself would not write it.
        """
        if self._closed or level < self.level or not self.wants(logger, level):
            return False
        if self._missing:
            with self._lock:
                self._missing += 1
            return False
        if self._admitted is None:
            self._admitted = set()
        self._admitted.add((logger, level))
        return True

    def wants(self, logger: Logger, level: int) -> bool:
        """Tell whether lines of that level belong here by the loggers' own levels and what is disabled."""
        if logger.disabled or logger.manager.disable >= level:
            return False
        root = logger.manager.root
        ancestor: Logger | None = logger
        while ancestor is not None and ancestor is not root:
            if ancestor.level:
                return level >= ancestor.level
            ancestor = ancestor.parent
        return level >= self.level

    def admitted(self, logger: Logger, level: int) -> bool:
        """Tell whether such lines exist because this log asked for them, so that no handler should see them."""
        return self._admitted is not None and (logger, level) in self._admitted

    def _all(self) -> list[bytes]:
        lines = self._lines or []
        return [*lines, self._notice(self._missing)] if self._missing else lines

    def _cut(self, lines: list[bytes]) -> None:
        """Make room for the notice: drop lines from the end, and put back the head of the last that was dropped."""
        room = self._limit - len(self._notice(10**12))
        line = b""
        while lines and self._size > room:
            self._missing += 1
            line = lines.pop()
            self._size -= len(line) + 1
        head = line[: max(room - self._size - 1, 0)]
        if head:
            lines.append(head)
            self._size += len(head) + 1

    def _notice(self, missing: int) -> bytes:
        return b"[the log is full at %d bytes; lines missing or cut: %d]" % (self._limit, missing)


_run_log: ContextVar[RunLog | None] = ContextVar("quart_sched.run_log", default=None)


def _forget() -> None:
    RunLog._lock = threading.RLock()
    _run_log.set(None)


if hasattr(os, "register_at_fork"):
    # A forked child has a mere copy of the log, and the lock perhaps as held by a thread that the child does not have.
    os.register_at_fork(after_in_child=_forget)


def attach(run_log: RunLog) -> None:
    """Bring what is logged in this context to `run_log`, also from tasks and threads that take the context with them.

    To be called in a context that was made for one run alone.
    """
    _run_log.set(run_log)


class LogCapture:
    """Brings the records of every logger to the log of the run in whose context they are written.

    Handlers see what they would see without it, even where a run asks for a lower level than the root logger's. It
    works as long as any capture is installed in the process.
    """

    _installed: ClassVar[set[LogCapture]] = set()
    _undo: ClassVar[list[Callable[[], None]]] = []
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def install(self) -> None:
        """Take effect; again is no error."""
        with self._lock:
            if not self._installed:
                self._undo.append(_wrap())
            self._installed.add(self)

    def remove(self) -> None:
        """Leave logging as it was, unless another capture is installed. What others wrapped around it since stays."""
        with self._lock:
            if self in self._installed:
                self._installed.remove(self)
                if not self._installed:
                    self._undo.pop()()


def _wrap() -> Callable[[], None]:
    """Wrap two methods of every logger; return what takes that back."""
    live = True
    is_enabled_for = Logger.isEnabledFor
    call_handlers = Logger.callHandlers
    get = _run_log.get

    @wraps(is_enabled_for)
    def wider_is_enabled_for(logger: Logger, level: int) -> bool:
        # The logger's own answer comes first: it is the one that may enter the logger's cache of levels.
        if is_enabled_for(logger, level):
            return True
        run_log = get()
        return run_log is not None and live and run_log.admits(logger, level)

    @wraps(call_handlers)
    def capturing_call_handlers(logger: Logger, record: LogRecord) -> None:
        run_log = get()
        if run_log is None or not live:
            call_handlers(logger, record)
            return
        run_log.stamp(record)
        # Meanwhile nothing is captured: the arguments' own code may log while they are formatted, and the logger, whose
        # class may have a rule of its own, is to answer as it would without us.
        token = _run_log.set(None)
        try:
            if run_log.wants(logger, record.levelno):
                run_log.append(record)
            shown = not run_log.admitted(logger, record.levelno) or logger.isEnabledFor(record.levelno)
        finally:
            _run_log.reset(token)
        if shown:
            call_handlers(logger, record)

    # In this order, and back in the other: a line that is for a run's log alone must not get past the handlers' gate.
    wrappers: list[tuple[str, Callable[..., object], Callable[..., object]]] = [
        ("callHandlers", capturing_call_handlers, call_handlers),
        ("isEnabledFor", wider_is_enabled_for, is_enabled_for),
    ]
    for name, wrapper, _ in wrappers:
        setattr(Logger, name, wrapper)

    def unwrap() -> None:
        nonlocal live
        # A wrapper that is in another's hands stays, and does nothing any more.
        live = False
        for name, wrapper, original in reversed(wrappers):
            if getattr(Logger, name) is wrapper:
                setattr(Logger, name, original)

    return unwrap


def _format(record: LogRecord) -> str:
    try:
        message = record.getMessage()
    except Exception as error:
        message = f"the message {bounded_repr(record.msg)} could not be formatted: {bounded_repr(error)}"
    try:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        text = f"{moment} {record.levelname} {record.name}: {message}{_details(record)}"
    except Exception as error:
        text = f"a line could not be formatted: {bounded_repr(error)}"
    # PostgreSQL's text cannot hold NUL.
    return text.replace("\0", "\\0")


def _details(record: LogRecord) -> str:
    """The traceback and the stack that belong to the record, each on lines of its own."""
    details = ""
    if record.exc_info and record.exc_info[0] is not None:
        details = "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
    elif record.exc_text:
        details = f"\n{record.exc_text}"
    return f"{details}\n{record.stack_info}" if record.stack_info else details
