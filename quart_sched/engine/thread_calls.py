"""Calls on their way into a thread and back."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any

from .stream import Mailbox


class ThreadCall:
    """What is called in a thread, within a context. It can be withdrawn as long as no thread has taken it."""

    __slots__ = ("_mailbox", "_ticket", "begins_run", "context", "ended", "on_end")

    def __init__(self, mailbox: Mailbox, context: Context | None, *, begins_run: bool) -> None:
        self._mailbox = mailbox
        # list.pop is atomic: whoever gets the ticket, thread or drain, has the call.
        self._ticket = [True]
        self.context = context
        """None stands for a new one, which is made in the thread: many calls may wait for one."""
        self.begins_run = begins_run
        """Whether nothing of the run has been done before it."""
        self.ended = False
        self.on_end: Callable[[], None] | None = None

    def call(self) -> Any:
        """What is to be called, in the thread."""
        raise NotImplementedError

    def done(self, error: BaseException | None, result: Any) -> None:
        """Take, on the loop, what `call` raised, or None and what it returned."""
        raise NotImplementedError

    def withdraw(self) -> bool:
        """Take the call back; False when a thread has begun it, or is through with it and has not said so yet."""
        try:
            self._ticket.pop()
        except IndexError:
            return False
        return True

    def __call__(self) -> None:
        try:
            self._ticket.pop()
        except IndexError:
            return
        if self.context is None:
            self.context = Context()
        try:
            result = self.context.run(self.call)
        except BaseException as error:
            # StopIteration cannot be raised into a coroutine.
            failure = RuntimeError(f"the job raised {error!r}") if isinstance(error, StopIteration) else error
            self._mailbox.post(partial(self._end, failure, None))
        else:
            self._mailbox.post(partial(self._end, None, result))

    def _end(self, error: BaseException | None, result: Any) -> None:
        self.ended = True
        self.done(error, result)
        if self.on_end is not None:
            self.on_end()
