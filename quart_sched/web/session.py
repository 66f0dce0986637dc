"""The login of a browser by bearer token: a cookie that stands in for the header, which a browser cannot send.

The cookie holds the token itself, signed with the app's secret key, since every process has to be able to have it
judged anew with each request: it is never worth more than the token is by then. No script can read it, another site
can make the browser send it only by a link that is followed, which changes nothing, and it ends after `LIFETIME`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itsdangerous import BadSignature, URLSafeTimedSerializer
from quart import Response, request

if TYPE_CHECKING:
    from ..extension import APScheduler

COOKIE = "quart_sched_login"
LIFETIME = 12 * 3600
"""Seconds for which a login holds."""


def recall(front: APScheduler) -> None:
    """Let the request carry the token of its cookie, unless it brings credentials of its own."""
    given = request.cookies.get(COOKIE)
    signer = _signer(front)
    if given is None or signer is None or "Authorization" in request.headers:
        return
    try:
        token = signer.loads(given, max_age=LIFETIME)
    except BadSignature:
        return
    present(str(token))


def present(token: str) -> None:
    """Let the request carry this token, as if it had come in its header."""
    request.headers["Authorization"] = f"Bearer {token}"


def is_possible(front: APScheduler) -> bool:
    """Tell whether a login can be kept, which needs a SECRET_KEY of the app."""
    return _signer(front) is not None


def remember(front: APScheduler, response: Response, token: str) -> None:
    """Let the browser keep the token."""
    signer = _signer(front)
    assert signer is not None
    _set(front, response, signer.dumps(token), LIFETIME)


def forget(front: APScheduler, response: Response) -> None:
    """Let the browser forget it."""
    _set(front, response, "", 0)


def _set(front: APScheduler, response: Response, value: str, seconds: int) -> None:
    path = f"{request.root_path}{front.api_prefix}" or "/"
    response.set_cookie(
        COOKIE, value, max_age=seconds, path=path, httponly=True, samesite="Lax", secure=request.is_secure
    )


def _signer(front: APScheduler) -> URLSafeTimedSerializer | None:
    app = front.app
    if app is None or not app.secret_key:
        return None
    # The last key signs; the ones before it are still good for reading.
    keys = [*(app.config.get("SECRET_KEY_FALLBACKS") or ()), app.secret_key]
    return URLSafeTimedSerializer(keys, salt="quart_sched.login")
