"""The scheduler of a server that runs, over its REST API."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ..engine.threads import DaemonPool
from ..errors import RunNotFound, SchedulerError
from .backends import Wire
from .messages import Refused

# What the commands need of an answer, which another API under the same paths, as Flask-APScheduler's, may lack.
_JOB = ("id", "state", "trigger_description")
_NEXT = ("items", "paused", "state", "reason")
_RECORD = ("run_id", "outcome", "final", "attempts", "duration", "error")
_BACKFILL = ("items", "left_out", "dry_run")


class ServerProblem(SchedulerError):
    """The server cannot be reached, or refuses; the message is its own where it gave one."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would turn a change into a question, and might lead the credentials astray."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Remote:
    """A Backend, which asks a server."""

    ends_runs = False

    def __init__(self, url: str, *, timeout: float, environ: Mapping[str, str] = os.environ) -> None:
        """Take the address of the API, as http://host:port/scheduler, and the credentials out of the environment.

        They are QUART_SCHED_TOKEN, or QUART_SCHED_USER and QUART_SCHED_PASSWORD. `timeout` is in seconds, for each
        request. Raises Refused.
        """
        self._url = _checked(url)
        self._timeout = timeout
        self._authorization = _authorization(environ)
        self._opener = urllib.request.build_opener(_NoRedirects)
        # A daemon thread: Ctrl-C need not wait for a server that does not answer.
        self._thread = DaemonPool("quart-sched-http")

    def close(self) -> None:
        """End the thread, with the request under way if there is one."""
        self._thread.stop()

    async def jobs(self) -> list[Wire]:
        found = await self._ask("GET", "/jobs")
        if not isinstance(found, list):
            raise ServerProblem(self._strange())
        return [self._with(_JOB, job) for job in found]

    async def job(self, job_id: str) -> Wire:
        return self._with(_JOB, await self._ask("GET", f"/jobs/{_part(job_id)}"))

    async def next_fires(self, job_id: str, count: int) -> Wire:
        return self._with(_NEXT, await self._ask("GET", f"/jobs/{_part(job_id)}/next", count=count))

    async def runs(self, job_id: str | None, outcome: str | None, limit: int) -> Wire:
        path = "/runs" if job_id is None else f"/jobs/{_part(job_id)}/runs"
        return self._with(("items",), await self._ask("GET", path, outcome=outcome, limit=limit))

    async def record(self, run_id: str) -> Wire:
        status, found = await self._answer("GET", f"/runs/{_part(run_id)}")
        if status == 404 and _message(found) is not None:
            raise RunNotFound(run_id)
        return self._with(_RECORD, self._accepted(status, found))

    @asynccontextmanager
    async def running(self, job_id: str, arguments: Wire) -> AsyncIterator[str]:
        started = await self._ask("POST", f"/jobs/{_part(job_id)}/run", arguments or None, wait=0)
        yield self._with(("run_id",), started)["run_id"]

    async def is_stranded(self, record: Wire) -> bool:
        return False  # the server that has begun it goes on with it

    @asynccontextmanager
    async def filling(self, job_id: str, request: Wire) -> AsyncIterator[Wire]:
        yield self._with(_BACKFILL, await self._ask("POST", f"/jobs/{_part(job_id)}/backfill", request))

    async def pause(self, job_id: str) -> Wire:
        return self._with(_JOB, await self._ask("POST", f"/jobs/{_part(job_id)}/pause"))

    async def resume(self, job_id: str) -> Wire:
        return self._with(_JOB, await self._ask("POST", f"/jobs/{_part(job_id)}/resume"))

    async def remove(self, job_id: str) -> None:
        await self._ask("DELETE", f"/jobs/{_part(job_id)}")

    async def set_paused(self, paused: bool) -> None:
        await self._ask("POST", "/pause" if paused else "/resume")

    async def paused(self) -> bool:
        _, found = await self._answer("GET", "")
        return isinstance(found, dict) and found.get("state") == "paused"

    async def explain(self, job_id: str, at: str) -> Wire:
        return self._with(("description",), await self._ask("GET", f"/jobs/{_part(job_id)}/explain", at=at))

    async def health(self) -> Wire:
        status, found = await self._answer("GET", "/health/ready")
        # One that is failing answers 503, so that a load balancer leaves it alone.
        if status in (200, 503) and isinstance(found, dict) and isinstance(found.get("status"), str):
            return found
        raise ServerProblem(self._refusal(status, found))

    # The parts of them

    def _with(self, keys: Sequence[str], answer: Any) -> Wire:
        """Return an object that has these keys. Raises ServerProblem for what another API answers with."""
        if not isinstance(answer, dict) or not answer.keys() >= set(keys):
            raise ServerProblem(self._strange())
        return answer

    async def _ask(self, method: str, path: str, body: Wire | None = None, **query: Any) -> Any:
        """Return the JSON of the answer, None where it has no content. Raises ServerProblem."""
        return self._accepted(*await self._answer(method, path, body, **query))

    def _accepted(self, status: int, data: Any) -> Any:
        if status < 300 and not isinstance(data, bytes):
            return data
        raise ServerProblem(self._refusal(status, data))

    async def _answer(self, method: str, path: str, body: Wire | None = None, **query: Any) -> tuple[int, Any]:
        """Return the answer's status and its JSON, or its content where that is none. Raises ServerProblem."""
        given = {key: value for key, value in query.items() if value is not None}
        address = f"{self._url}{path}" + (f"?{urlencode(given)}" if given else "")
        content_type = {} if body is None else {"Content-Type": "application/json"}
        headers = {"Accept": "application/json", **content_type}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, data, headers, method=method)
        if self._authorization is not None:
            request.add_unredirected_header("Authorization", self._authorization)
        status, content = await asyncio.wrap_future(self._thread.submit(partial(self._send, request)))
        try:
            return status, json.loads(content) if content.strip() else None
        except ValueError:
            return status, content

    def _send(self, request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except TimeoutError:
            raise ServerProblem(f"{self._url} did not answer within {self._timeout:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise ServerProblem(f"{self._url} did not answer within {self._timeout:g} s") from None
            said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            raise ServerProblem(f"Cannot reach {self._url}: {said}. Is the server running?") from None

    def _refusal(self, status: int, data: Any) -> str:
        message = _message(data)
        if message is None:
            return self._strange(status)
        hint = " (401): give credentials in QUART_SCHED_USER and QUART_SCHED_PASSWORD, or QUART_SCHED_TOKEN"
        return message + (hint if status == 401 else "")

    def _strange(self, status: int = 200) -> str:
        name = http.client.responses.get(status, "")
        return (
            f"{self._url} answers {status} {name}, not as quart_sched's API does; expected its address, "
            "as http://127.0.0.1:5000/scheduler, of an app with SCHEDULER_API_ENABLED = True"
        )


def _message(data: Any) -> str | None:
    """Return what an answer of the API says that went wrong, None where it is no such answer."""
    message = data.get("error_message") if isinstance(data, dict) else None
    return message if isinstance(message, str) else None


def _part(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 0) >= 0
    except ValueError:
        raise Refused(f"--url is {url!r}; expected an address as http://127.0.0.1:5000/scheduler") from None
    if parts.username is not None or parts.password is not None:
        raise Refused("--url has credentials in it; give them in QUART_SCHED_USER and QUART_SCHED_PASSWORD")
    if not known or parts.query or parts.fragment or not url.isascii() or any(c.isspace() for c in url):
        raise Refused(f"--url is {url!r}; expected an address as http://127.0.0.1:5000/scheduler")
    return url.rstrip("/")


def _authorization(environ: Mapping[str, str]) -> str | None:
    """Return the header's value. Raises Refused, without saying what is secret."""
    token, user = environ.get("QUART_SCHED_TOKEN"), environ.get("QUART_SCHED_USER")
    password = environ.get("QUART_SCHED_PASSWORD")
    if token and user:
        raise Refused("Both QUART_SCHED_TOKEN and QUART_SCHED_USER are set; expected one of them")
    if token:
        if not (token.isascii() and token.isprintable()):
            raise Refused("QUART_SCHED_TOKEN holds what no header can; expected ASCII text on one line")
        return f"Bearer {token}"
    if not user:
        if password:
            raise Refused("QUART_SCHED_PASSWORD is set, but QUART_SCHED_USER is not")
        return None
    if ":" in user:
        raise Refused("QUART_SCHED_USER has a colon in it, which Basic authentication does not allow")
    pair = f"{user}:{password or ''}".encode("utf-8", "surrogateescape")
    return f"Basic {base64.b64encode(pair).decode()}"
