"""Addresses of databases: what may stand in one, how it is shown, and the options of the engine beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from ...errors import ConfigError

DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
"""The driver for each kind of database."""
EXTRAS = {"sqlite": "sql", "postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}
"""The extra of this package that brings the driver."""
_ASYNC = {"aiosqlite", "asyncpg", "psycopg_async", "aiomysql", "asyncmy"}


def parse_url(key: str, url: Any) -> URL:
    """Return the address of a store, with the driver that is used for its kind. Raises ConfigError, naming `key`."""
    if not isinstance(url, str | URL):
        raise ConfigError(f"{key} has an url of type {type(url).__name__}; expected one such as 'sqlite:///jobs.db'")
    try:
        parsed = make_url(url)
        if "@" in (parsed.host or ""):
            raise ValueError("the password ends there")
    except (ArgumentError, ValueError):
        # What cannot be parsed may have a password anywhere.
        raise ConfigError(
            f"{key} has an url that cannot be read; expected one such as 'sqlite:///jobs.db', or "
            "'postgresql+psycopg://user:password@host:5432/database' with @ : / in the password written as %40 %3A %2F"
        ) from None
    kind, _, driver = parsed.drivername.partition("+")
    kind = "postgresql" if kind == "postgres" else kind
    if kind not in DRIVERS:
        raise ConfigError(
            f"{key} has the url {shown(parsed)}; expected sqlite://, postgresql+psycopg:// or mysql+pymysql://"
        )
    if driver not in ("", DRIVERS[kind]):
        threads = ", as the store works in threads of its own and never on the event loop"
        raise ConfigError(
            f"{key} has the url {shown(parsed)}; expected the driver {kind}+{DRIVERS[kind]}://"
            f"{threads if driver in _ASYNC else ''}"
        )
    name = parsed.database or ""
    if kind == "sqlite" and (not name or ":memory:" in name or parsed.query.get("mode") == "memory"):
        raise ConfigError(
            f"{key} has the url {shown(parsed)}, a database in memory, which ends with the process; expected a file "
            'such as sqlite:///jobs.db, or {"type": "memory"}'
        )
    return parsed.set(drivername=f"{kind}+{DRIVERS[kind]}")


def shown(url: str | URL) -> str:
    """Return an address without what is secret in it."""
    url = make_url(url)
    query = {name: "..." if "pass" in name.lower() else value for name, value in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True)


def names_missing_file(url: URL) -> bool:
    """Tell whether an address names a file of SQLite's that is not there, which to connect would make."""
    file = url.database or ""
    return url.get_backend_name() == "sqlite" and not file.startswith("file:") and not Path(file).is_file()


def merged_options(key: str, ours: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the engine: `ours`, and over them those that the user gave. Raises ConfigError."""
    if "isolation_level" in given:
        raise ConfigError(f"{key} has the engine option 'isolation_level', which is not to be chosen: leave it out")
    connect_args = given.get("connect_args", {})
    if not isinstance(connect_args, Mapping):
        raise ConfigError(f"{key} has connect_args of type {type(connect_args).__name__}; expected a dict")
    merged = {**ours, **given, "connect_args": {**ours["connect_args"], **connect_args}}
    if "poolclass" in given and "pool_timeout" not in given:
        merged.pop("pool_timeout", None)  # pools that make no one wait do not take it
    return merged
