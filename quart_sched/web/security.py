"""Who may call the API, from where, and which functions it may schedule."""

from __future__ import annotations

import inspect
import ipaddress
import logging
import sys
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from fnmatch import fnmatchcase
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

from quart import request

from ..errors import AuthenticationRequired, Forbidden, FunctionNotAllowed, InvalidDefinition
from ..model.actor import current_actor
from ..model.functions import JobFunction, main_module_name, resolve, runs_on_loop
from . import session

if TYPE_CHECKING:
    from ..extension import APScheduler

log = logging.getLogger("quart_sched")

Right = Literal["read", "operate", "admin"]
_ALL: frozenset[str] = frozenset({"read", "operate", "admin"})
_PORTS = {"http": ":80", "https": ":443"}

_rights_now: ContextVar[frozenset[str]] = ContextVar("quart_sched.rights")

_without_judge: WeakSet[APScheduler] = WeakSet()
"""Those of which the log says already that nobody judges the credentials."""


async def check_caller(front: APScheduler, right: Right | None, *, actor: str = "api") -> frozenset[str]:
    """Return the caller's rights. Raises AuthenticationRequired or Forbidden unless `right` is among them.

    Changes are made in the name of the user, or of `actor` where the credentials have no name. Where `right` is None,
    which lets everybody in, nobody is asked who he is, and has no rights.
    """
    current_actor.set(actor)
    check_origin(front)
    if right is None:
        return frozenset()
    rights = await rights_of_caller(front)
    _rights_now.set(rights)
    check_right(right)
    return rights


def check_right(right: Right) -> None:
    """Raise Forbidden unless the caller of the request under way has this right."""
    if right not in _rights_now.get():
        raise Forbidden(f"This needs the right {right!r}, which the credentials do not carry")


async def rights_of_caller(front: APScheduler) -> frozenset[str]:
    """Return what the request's credentials allow: everything, where there is no authentication.

    Raises AuthenticationRequired.
    """
    if front.auth is None:
        return _ALL
    session.recall(front)
    if front.authentication_callback is None:
        if front not in _without_judge:
            _without_judge.add(front)
            log.error("SCHEDULER_AUTH is set, but no function judges the credentials: register one with authenticate")
        raise AuthenticationRequired("Access Denied")
    credentials = front.auth.get_authorization()
    if inspect.isawaitable(credentials):
        credentials = await credentials
    if credentials is None:
        raise AuthenticationRequired("Access Denied")
    verdict = front.authentication_callback(credentials)
    if inspect.isawaitable(verdict):
        verdict = await verdict
    if isinstance(verdict, str):
        raise TypeError(f"The authenticate function returned the str {verdict!r}; expected True or a set of rights")
    if not verdict:
        raise AuthenticationRequired("Access Denied")
    if isinstance(credentials, Mapping) and credentials.get("username"):
        current_actor.set(str(credentials["username"]))
    if not isinstance(verdict, set | frozenset | list | tuple):
        return _ALL  # any other truthy value counts as True, as it always did
    unknown = {*verdict} - _ALL
    if unknown:
        raise TypeError(f"The authenticate function returned {verdict!r}; expected rights out of {sorted(_ALL)}")
    return frozenset(verdict)


def challenge_of(auth: Any) -> str:
    """Return the value of ``WWW-Authenticate`` for a request without credentials; "" where there is to be none.

    A scheme of the app's own need not be an HTTPAuth: what it must have is `get_authorization` alone.
    """
    return auth.get_authenticate_header() or "" if hasattr(auth, "get_authenticate_header") else ""


def check_origin(front: APScheduler) -> None:
    """Refuse what a page of another site makes a browser send, and what reaches us under a name that is not ours.

    Requests that change nothing may come from anywhere. Raises Forbidden.
    """
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    # The header as it came: Werkzeug makes an empty string of names that are not quite proper, as `my_app` is not.
    host = request.headers.get("Host", "").lower().removesuffix(_PORTS.get(request.scheme, ""))
    origin = request.headers.get("Origin")
    scheme, _, netloc = (origin or "").lower().partition("://")
    if (site := request.headers.get("Sec-Fetch-Site")) is not None:
        same = site in ("same-origin", "none")  # The browser's own verdict, which knows the scheme and sees no proxy.
    else:
        # The scheme does not count: a proxy that ends TLS hides it from us.
        port = _PORTS.get(scheme, "")
        # An opaque origin, which is sent as "null", has no host, and is not that of a request without one.
        same = origin is None or (netloc != "" and netloc.removesuffix(port) == host.removesuffix(port))
    if not same and _hostname(netloc) not in front.settings.trusted_hosts:
        raise Forbidden(
            f"Requests from {origin or 'other sites'} may not change anything; "
            "SCHEDULER_TRUSTED_HOSTS admits other hosts"
        )
    if front.auth is None and not _is_our_name(front, _hostname(host)):
        raise Forbidden(
            f"Without authentication nothing can be changed under the host name {host}; add it to "
            "SCHEDULER_TRUSTED_HOSTS, or set SCHEDULER_AUTH"
        )


def _is_our_name(front: APScheduler, name: str) -> bool:
    server_name = front.app.config.get("SERVER_NAME") if front.app else None
    if name == "localhost" or name.endswith(".localhost") or name in front.settings.trusted_hosts:
        return True
    if server_name and name == _hostname(server_name.lower()):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True  # a foreign page cannot make its own name an address


def _hostname(host: str) -> str:
    """Return `host` without its port, in lower case."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() else host.lower()


def allowed_function(front: APScheduler, ref: str) -> JobFunction:
    """Return the function that `ref` names if it may be scheduled over REST. Raises FunctionNotAllowed.

    Nothing is imported and no attribute but the one name is looked at, unless the app has allowed everything.
    """
    patterns = front.settings.api_allowed_funcs
    if patterns is not None and "*" in patterns:
        return resolve(ref)
    module_name, _, name = ref.partition(":")
    main = main_module_name()
    if module_name == main:
        module_name = "__main__"
    registered = front.scheduler.catalogue.declarations.registered.get(f"{module_name}:{name}")
    if registered is not None and patterns is None:
        return registered
    module = sys.modules.get(module_name)
    # Anything may stand in sys.modules, also what has no names to look at.
    func = vars(module).get(name) if isinstance(module, ModuleType) else None
    if patterns is not None:
        # The main script goes by two names.
        refs = {f"{module_name}:{name}"} | ({f"{main}:{name}"} if module_name == "__main__" else set())
        admitted = callable(func) and any(fnmatchcase(alias, pattern) for alias in refs for pattern in patterns)
    else:
        own = isinstance(func, FunctionType) and (func.__module__, func.__qualname__) == (module_name, name)
        admitted = own and _in_package(front, module_name)
    if not admitted or not callable(func):
        raise FunctionNotAllowed(
            f"{ref!r} may not be scheduled over REST: it is neither the function of a declared job, nor a function "
            "defined in the app's own package; SCHEDULER_API_ALLOWED_FUNCS admits others"
            if patterns is None
            else f"{ref!r} may not be scheduled over REST: SCHEDULER_API_ALLOWED_FUNCS does not admit it, or no module "
            "that is loaded has it"
        )
    return func  # type: ignore[no-any-return]  # callable() does not narrow Any


def allowed_functions(front: APScheduler) -> list[str]:
    """Return references to the functions that may be scheduled over REST, as far as they can be listed.

    Private ones are left out, and what a pattern admits besides functions; those may be scheduled all the same.
    """
    patterns = front.settings.api_allowed_funcs
    found = {
        ref for ref in front.scheduler.catalogue.declarations.registered if patterns is None or _matches(ref, patterns)
    }
    for module_name, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType):
            continue
        if patterns is None and not _in_package(front, module_name):
            continue
        for name, func in list(vars(module).items()):
            ref = f"{module_name}:{name}"
            own = isinstance(func, FunctionType) and (func.__module__, func.__qualname__) == (module_name, name)
            if own and not name.startswith("_") and (patterns is None or _matches(ref, patterns)) and _is_job(func):
                found.add(ref)
    return sorted(found)


def _matches(ref: str, patterns: Collection[str]) -> bool:
    # Everything is more than anybody can choose from.
    return any(fnmatchcase(ref, pattern) for pattern in patterns if pattern != "*")


def _is_job(func: FunctionType) -> bool:
    try:
        runs_on_loop(func)
    except InvalidDefinition:
        return False
    return True


def _in_package(front: APScheduler, module_name: str) -> bool:
    """Tell whether the module belongs to the app: to the nearest package of its module that has a file."""
    root = front.app.import_name if front.app is not None else "__main__"
    if not hasattr(sys.modules.get(root), "__path__"):
        parent = root.rpartition(".")[0]
        if getattr(sys.modules.get(parent), "__file__", None) is None:
            return module_name == root
        root = parent
    return module_name == root or module_name.startswith(f"{root}.")
