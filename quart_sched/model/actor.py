"""Who changes something: told to the store with each change, for its list of changes."""

from __future__ import annotations

from contextvars import ContextVar

NAMELESS = ("api", "dashboard", "cli", "code", "deploy", "import")
"""Who it was where no user has a name: `deploy` stands for what came with the code, `import` for the import of jobs."""

current_actor: ContextVar[str] = ContextVar("quart_sched.actor", default="code")
"""A user's name, or one of `NAMELESS`."""
