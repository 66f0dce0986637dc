"""The idempotency keys of all processes, kept in `meta`."""

from __future__ import annotations

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from ...model.idempotency import KEPT, RunRequest
from .dialects import Dialect
from .statements import text

_KEPT_US = int(KEPT.total_seconds() * 1e6)


def run_of(conn: Connection, dialect: Dialect, request: RunRequest, run_id: str, now: int) -> str:
    """Return the run that was started for the request before; for a new one remember and return `run_id`.

    Raises IdempotencyKeyReused.
    """
    key, p = f"idem:{request.key}", dialect.prefix
    values = {"k": key, "v": f"{request.asked} {run_id}", "now": now, "old": now - _KEPT_US}
    conn.execute(text(f"DELETE FROM {p}meta WHERE k = :k AND at_us <= :old"), values)
    select = text(f"SELECT v FROM {p}meta WHERE k = :k")
    if (kept := conn.scalar(select, values)) is None:
        try:
            with conn.begin_nested():
                conn.execute(text(f"INSERT INTO {p}meta (k, v, at_us) VALUES (:k, :v, :now)"), values)
        except IntegrityError:
            # In this moment, another process has.
            kept = conn.scalar(select, values)
        else:
            return run_id
    asked, _, earlier = str(kept).partition(" ")
    request.check(asked)
    return earlier


def forget_old(conn: Connection, dialect: Dialect, now: int) -> None:
    """Delete the keys that are older than they are kept."""
    statement = f"DELETE FROM {dialect.prefix}meta WHERE k LIKE 'idem:%' AND at_us <= :old"
    conn.execute(text(statement), {"old": now - _KEPT_US})
