"""Who changes something: told to the store with each change, for its list of changes."""

from __future__ import annotations

from contextvars import ContextVar

current_actor: ContextVar[str] = ContextVar("quart_sched.actor", default="code")
"""A user's name, or "api", "dashboard", "code" or "cli" where there is none."""
