"""Logging in and out, the visitor's preferences, and the files that pages need before anybody has logged in."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from quart import Response, abort, request
from quart.globals import request_ctx

from ...auth import HTTPBearerAuth
from ...errors import AuthenticationRequired
from .. import security, session
from .visit import Visit

_TOKEN = re.compile(r"[!-~]{1,4096}")
_PAGE = re.compile(r"(?:[\w-]+(?:/[\w-]+)*)?(?:\?[!-~]*)?", re.ASCII)
"""What may follow the address of the overview: no way up and out of the dashboard, and nothing that ends a header."""
_KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"


async def challenge(visit: Visit, error: AuthenticationRequired) -> Response:
    """Answer a request without credentials: with the login page where a token is wanted, else as the scheme asks."""
    if _takes_tokens(visit):
        return await _lead_to_login(visit, error)
    response = await visit.page("error.html", 401, title="error.login", message=str(error), status=401)
    if header := security.challenge_of(visit.front.auth):
        response.headers["WWW-Authenticate"] = header
    return response


async def _lead_to_login(visit: Visit, error: AuthenticationRequired) -> Response:
    """Lead to the login and from there back to the page; nothing that was entered meanwhile is to be lost."""
    address = visit.url("login", next=_page_of_script(visit) if visit.partial else visit.here)
    if visit.partial and visit.posted:
        return Response("", 401, headers={"HX-Redirect": address})
    if visit.partial:
        # Mostly the page asks by itself, while somebody reads or fills in a form: it stays, and tells it.
        response = await visit.fragment("login_ended.html", 401, address=address)
        response.headers["HX-Reswap"] = "none"
        return response
    if visit.posted:
        kept = {"kept": await request.form, "log_in": address}
        return await visit.page("error.html", 401, title="error.login", message=str(error), status=401, **kept)
    return visit.redirect(address)


def _page_of_script(visit: Visit) -> str:
    """Return the address of the page that a script is on; where a form alone leads to it, that of the overview."""
    address = request.headers.get("HX-Current-URL", "").partition("://")[2].partition("#")[0]
    page = _own(visit, "/" + address.partition("/")[2])
    path = page.removeprefix(request.root_path).partition("?")[0]
    adapter = request_ctx.url_adapter
    return page if adapter is not None and adapter.test(path, "GET") else visit.url("overview")


def _takes_tokens(visit: Visit) -> bool:
    auth = visit.front.auth
    return isinstance(auth, HTTPBearerAuth) or security.challenge_of(auth).lower().startswith("bearer")


async def log_in(visit: Visit) -> Response:
    """Ask for a token; keep it, signed, in a cookie of the browser if it is accepted."""
    goal = _own(visit, request.args.get("next", ""))
    if visit.front.auth is None:
        return visit.redirect(goal)
    possible = session.is_possible(visit.front)
    if request.method == "GET" or not possible:
        status = 200 if possible else 503
        return await visit.page("login.html", status, possible=possible, error=None, goal=goal)
    token = (await request.form).get("token", "").strip()
    try:
        if not _TOKEN.fullmatch(token):
            raise AuthenticationRequired
        session.present(token)
        await security.rights_of_caller(visit.front)
    except AuthenticationRequired:
        return await visit.page("login.html", 401, possible=True, error="login.refused", goal=goal)
    response = visit.redirect(goal)
    session.remember(visit.front, response, token)
    return response


async def log_out(visit: Visit) -> Response:
    """Let the browser forget the token."""
    response = visit.redirect(visit.url("login" if visit.front.auth is not None else "overview"))
    session.forget(visit.front, response)
    return response


async def prefer(visit: Visit) -> Response:
    """Keep the language or the colours that the visitor chose."""
    form = await request.form
    response = visit.redirect(_own(visit, form.get("next", "")))
    visit.prefer(response, form.get("language"), form.get("theme"))
    return response


async def static(visit: Visit, **arguments: Any) -> Response:
    """Answer with a file of ours, out of memory: there are few, and a client that leaves lets none of them open."""
    known = _files().get(arguments["filename"])
    if known is None:
        abort(404)
    content, kind = known
    response = Response(content, mimetype=kind)
    if "v" in request.args:
        response.headers["Cache-Control"] = _FOREVER
    return response


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Return the content and the type of each file, by its path."""
    folder = Path(__file__).parent / "static"
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), _KINDS.get(path.suffix, "text/plain"))
        for path in folder.rglob("*")
        if path.is_file()
    }


def _own(visit: Visit, address: str) -> str:
    """Return the address if it is a page of the dashboard, else that of the overview: nobody is sent elsewhere."""
    overview = visit.url("overview")
    own = address.startswith(overview) and _PAGE.fullmatch(address.removeprefix(overview))
    return address if own else overview
