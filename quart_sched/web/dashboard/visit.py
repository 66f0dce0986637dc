"""A visit: one request for a page, with who asks, in which language, and what the page is made with."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from string import Formatter
from typing import TYPE_CHECKING, Any

from apscheduler.triggers.base import BaseTrigger
from jinja2 import Environment, PackageLoader, StrictUndefined
from quart import Response, request, url_for

from ...engine.slices import Slices
from ...errors import InvalidDefinition
from ...model.clock_marks import ClockMark
from .. import session
from ..answers import sendable
from ..scheduler import STATES
from ..security import Right
from . import shown, words

if TYPE_CHECKING:
    from ...extension import APScheduler

THEMES = ("auto", "light", "dark")
_LANGUAGE, _THEME, _FLASH = "quart_sched_language", "quart_sched_theme", "quart_sched_flash"
_YEAR = 366 * 86_400
_PACKAGE = "quart_sched.web.dashboard"


@cache
def _environment() -> Environment:
    # An environment of its own: an app may have given its templates other delimiters, or no escaping.
    environment = Environment(
        loader=PackageLoader(_PACKAGE, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= shown.GLOBALS
    environment.filters |= shown.FILTERS
    return environment


@cache
def _version(filename: str) -> str:
    """Return what changes with the file's content, so that browsers may keep it for ever."""
    return sha256(files(_PACKAGE).joinpath("static", filename).read_bytes()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Flash:
    """What the last action did, told on the next page; `params` are shown as text."""

    key: str
    params: Mapping[str, Any]
    failed: bool = False


def unbroken(text: str) -> str:
    """Return what a field of a form held: browsers send each line break as two characters."""
    return str(text).replace("\r\n", "\n")


class Visit:
    """What a view gets: the request's caller, and the means to answer."""

    def __init__(self, front: APScheduler, rights: frozenset[str]) -> None:
        self.front = front
        self.rights = rights
        self.language = words.choose(request.cookies.get(_LANGUAGE), request.headers.get("Accept-Language", ""))
        theme = request.cookies.get(_THEME, "auto")
        self.theme = theme if theme in THEMES else "auto"
        self.flash: Flash | None = None
        self.away: set[str] = set()
        """Why something is left out of the page, though it belongs there."""
        self.aio = front.aio.leaving_out(self.away)
        self._words = words.LANGUAGES[self.language]

    @property
    def partial(self) -> bool:
        """Whether a script asks, for a part of the page that it has."""
        return request.headers.get("HX-Request") == "true"

    @property
    def part(self) -> str | None:
        """The name of the part that is asked for."""
        return request.args.get("part") if self.partial else None

    @property
    def posted(self) -> bool:
        """Whether a form was sent."""
        return request.method == "POST"

    @property
    def here(self) -> str:
        """The address of this page; where a form alone leads to it, that of the overview."""
        if request.url_rule is None or "GET" not in (request.url_rule.methods or ()):
            return self.url("overview")
        return self.asked

    @property
    def asked(self) -> str:
        """The address that was asked for."""
        return request.root_path + request.full_path.rstrip("?")

    @property
    def logged_in(self) -> bool:
        """Whether a cookie stands in for credentials, so that there is a way to log out."""
        return session.COOKIE in request.cookies and self.front.auth is not None

    @property
    def scheduler_state(self) -> str:
        """Whether the scheduler runs in this process, as one of the states that the words know."""
        return STATES[self.front.state]

    @property
    def known(self) -> dict[str, str]:
        """All words of the visitor's language, by key."""
        return self._words

    def counted(self, counts: Mapping[str, int]) -> str:
        """Return how many runs ended how, in words."""
        return ", ".join(f"{count} {self.t(f'state.{outcome}')}" for outcome, count in counts.items()) or "0"

    def describe(self, trigger: BaseTrigger) -> str:
        """Return when a trigger fires, in words: in English where there are none in the visitor's language."""
        return words.describe(trigger, self.language)

    def clocks(self, change: ClockMark, at: datetime) -> str:
        """Return what a clock change does to the fire `at`."""
        return words.clocks(change, at, self.language)

    def wrong(self, problem: str | InvalidDefinition) -> tuple[str, str]:
        """Return what is wrong with a field, and the language that this is in."""
        return words.wrong(problem, self.language)

    def may(self, right: Right) -> bool:
        """Tell whether the caller has this right."""
        return right in self.rights

    def t(self, key: str, **params: Any) -> str:
        """Return the words for `key` in the visitor's language."""
        text = self._words[key]
        return text.format(**params) if params else text

    def url(self, name: str, **query: Any) -> str:
        """Return the address of one of the dashboard's endpoints; what is None or empty is left out."""
        given = {key: value for key, value in query.items() if value not in (None, "")}
        given = {key: sendable(value) if isinstance(value, str) else value for key, value in given.items()}
        return url_for(f"{self.front.endpoint_prefix}dashboard_{name}", **given)

    def asset(self, filename: str) -> str:
        """Return the address of a file of ours, which changes when the file does."""
        return self.url("static", filename=filename, v=_version(filename))

    async def render(self, template: str, /, **context: Any) -> str:
        """Return the text of a template, written in slices: a long page must not hold up the jobs."""
        endpoint = (request.endpoint or "").removeprefix(f"{self.front.endpoint_prefix}dashboard_")
        given = {
            "visit": self, "t": self.t, "url": self.url, "may": self.may, "asset": self.asset, "front": self.front,
            "endpoint": endpoint, "now": self.front.scheduler.clock.now(), "language": self.language,
            "theme": self.theme, "languages": words.NAMES, **context,
        }  # fmt: skip
        parts = []
        slices = Slices()
        for part in _environment().get_template(template).generate(given):
            parts.append(part)
            await slices.give_way()
        return sendable("".join(parts))

    async def page(self, template: str, code: int = 200, /, **context: Any) -> Response:
        """Answer with a page, which tells what the last action did."""
        told = self.flash or _read_flash(request.cookies.get(_FLASH))
        response = Response(await self.render(template, flash=told, **context), code, mimetype="text/html")
        if _FLASH in request.cookies:
            self._cookie(response, _FLASH, "", 0)
        return response

    async def fragment(self, template: str, code: int = 200, /, **context: Any) -> Response:
        """Answer with a part of a page."""
        return Response(await self.render(template, flash=self.flash, **context), code, mimetype="text/html")

    def redirect(self, address: str, told: Flash | None = None) -> Response:
        """Send the browser to another page, which will tell what was done."""
        response = Response("", 303, headers={"Location": address})
        if told is not None:
            text = json.dumps([told.key, dict(told.params), told.failed])
            self._cookie(response, _FLASH, base64.urlsafe_b64encode(text.encode()).decode(), 60)
        return response

    def prefer(self, response: Response, language: str | None, theme: str | None) -> None:
        """Let the browser keep what the visitor chose, as far as it is known here."""
        if language in words.LANGUAGES:
            self._cookie(response, _LANGUAGE, language, _YEAR)
        if theme in THEMES:
            self._cookie(response, _THEME, theme, _YEAR)

    def _cookie(self, response: Response, name: str, value: str, seconds: int) -> None:
        path = self.url("overview")
        response.set_cookie(
            name, value, max_age=seconds, path=path, httponly=True, samesite="Lax", secure=request.is_secure
        )


def _read_flash(text: str | None) -> Flash | None:
    if text is None:
        return None
    try:
        key, params, failed = json.loads(base64.urlsafe_b64decode(text))
        wording = words.LANGUAGES["en"][key]
        wanted = {name: str(params[name]) for _, name, *_ in Formatter().parse(wording) if name is not None}
        wording.format(**wanted)
    except (ValueError, TypeError, LookupError, RecursionError):
        return None  # whatever it is, it is not of ours
    return Flash(key, wanted, bool(failed))
