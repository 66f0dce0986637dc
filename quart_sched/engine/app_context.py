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

# Whom the signals know, live.
_pushed, _tearing_down, _popped = (
    signal.receivers for signal in (appcontext_pushed, appcontext_tearing_down, appcontext_popped)
)


def is_quiet(app: Quart) -> bool:
    """Tell whether `async with app.app_context()` would do no more than set a variable.

    That is so where no functions or signals are to be called, and Quart's own methods are not overridden.
    """
    kind = type(app)
    return (
        _cv_app is not None
        and not _is_watched(app)
        and kind.app_context is Quart.app_context
        and kind.do_teardown_appcontext is Quart.do_teardown_appcontext
    )


def enter(app: Quart) -> Token[AppContext] | None:
    """Enter a new context of the app, and return what `leave` needs; None, having done nothing, if it is not quiet."""
    return _cv_app.set(AppContext(app)) if is_quiet(app) else None


def left(app: Quart, token: Token[AppContext]) -> bool:
    """Leave the context again, and tell whether that is all: `leave` is to be awaited if it is not quiet any more."""
    if _is_watched(app):
        return False
    _cv_app.reset(token)
    return True


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
    return bool(app.teardown_appcontext_funcs or _pushed or _tearing_down or _popped)
