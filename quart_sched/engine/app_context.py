"""The app's context around a run: Quart's own, entered and left at once where nobody waits to be told of it."""

from __future__ import annotations

import sys
from contextvars import Token

from quart import Quart
from quart.ctx import AppContext
from quart.signals import appcontext_popped, appcontext_pushed, appcontext_tearing_down

try:
    from quart.globals import _cv_app
except ImportError:  # Quart has another way by now: its own, which is always good, only slower.
    _cv_app = None  # type: ignore[assignment]


def enter(app: Quart) -> Token[AppContext] | None:
    """Enter a new context of the app, and return what `leave` needs.

    It returns None, having done nothing, where `async with app.app_context()` would do more than set a variable: where
    functions or signals are to be called, or Quart's own methods are overridden.
    """
    if _cv_app is None or _is_watched(app):
        return None
    kind = type(app)
    if kind.app_context is not Quart.app_context or kind.do_teardown_appcontext is not Quart.do_teardown_appcontext:
        return None
    return _cv_app.set(AppContext(app))


async def leave(app: Quart, token: Token[AppContext]) -> None:
    """Leave the context again. Those are called that have come to be registered meanwhile."""
    try:
        if _is_watched(app):
            await app.do_teardown_appcontext(sys.exc_info()[1])
    finally:
        _cv_app.reset(token)
    if appcontext_popped.receivers:
        await appcontext_popped.send_async(app, _sync_wrapper=app.ensure_async)  # type: ignore[arg-type]


def _is_watched(app: Quart) -> bool:
    return bool(
        app.teardown_appcontext_funcs
        or appcontext_pushed.receivers
        or appcontext_tearing_down.receivers
        or appcontext_popped.receivers
    )
