"""The idempotency keys of all processes, kept in `meta`."""

from __future__ import annotations

from sqlalchemy.exc import IntegrityError

from ...model.idempotency import KEPT, RunRequest
from .transaction import Transaction

_KEPT_US = int(KEPT.total_seconds() * 1e6)


def run_of(tx: Transaction, request: RunRequest, run_id: str) -> str:
    """Return the run that was started for the request before; for a new one remember and return `run_id`.

    Raises IdempotencyKeyReused.
    """
    key, p = f"idem:{request.key}", tx.prefix
    tx.execute(f"DELETE FROM {p}meta WHERE k = :k AND at_us <= :old", k=key, old=tx.now - _KEPT_US)
    select = f"SELECT v FROM {p}meta WHERE k = :k"
    if (kept := tx.scalar(select, k=key)) is None:
        try:
            with tx.savepoint():
                tx.insert("meta", ("k", "v", "at_us"), [(key, f"{request.asked} {run_id}", tx.now)])
        except IntegrityError:
            # In this moment, another process has.
            kept = tx.scalar(select, k=key)
        else:
            return run_id
    asked, _, earlier = str(kept).partition(" ")
    request.check(asked)
    return earlier


def forget_old(tx: Transaction) -> None:
    """Delete the keys that are older than they are kept."""
    tx.execute(f"DELETE FROM {tx.prefix}meta WHERE k LIKE 'idem:%' AND at_us <= :old", old=tx.now - _KEPT_US)
