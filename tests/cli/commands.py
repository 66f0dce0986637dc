"""`quart scheduler ...` within the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result
from quart import Quart

from quart_sched import APScheduler

Declare = Callable[[APScheduler], None]


def build(store: Any, declare: Declare | None = None, **config: Any) -> tuple[Quart, APScheduler]:
    """Return an app with this store, and its scheduler."""
    app = Quart(__name__)
    settings = {"SCHEDULER_JOBSTORES": {"default": store}, "SCHEDULER_TIMEZONE": "UTC", "TESTING": True}
    app.config.update(settings | config)
    scheduler = APScheduler(app=app)
    if declare is not None:
        declare(scheduler)
    return app, scheduler


def sql(file: Path) -> dict[str, Any]:
    """Return an entry of SCHEDULER_JOBSTORES."""
    return {"type": "sqlalchemy", "url": f"sqlite:///{file}", "table_prefix": "qs_"}


def deploy(store: Any, declare: Declare | None = None, **config: Any) -> None:
    """Serve for a moment, in which what is declared comes into the store."""
    app, scheduler = build(store, declare, **config)
    scheduler.start(paused=True)

    async def serve() -> None:
        async with app.test_app():
            await scheduler.aio.get_jobs()

    asyncio.run(serve())


def invoke(app: Quart, *args: str, **options: Any) -> Result:
    """Run a command; whatever goes wrong has to be told, not raised."""
    result = app.test_cli_runner().invoke(args=["scheduler", *args], **options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert "Traceback" not in result.stderr
    return result
