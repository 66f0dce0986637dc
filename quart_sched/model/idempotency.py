"""Idempotency keys: a request that is sent again, after its answer was lost, does not run a job a second time."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from ..errors import IdempotencyKeyReused
from .fields import field
from .overrides import Overrides

KEPT = timedelta(hours=24)
"""How long the run of a key is remembered."""
_KEY = re.compile("[!-~]([ -~]{0,253}[!-~])?")


def _key(value: Any) -> str:
    if not isinstance(value, str) or not _KEY.fullmatch(value):
        raise ValueError
    return value


KEY = field(_key, "1 to 255 printable ASCII characters", {"type": "string", "pattern": f"^{_KEY.pattern}$"})
"""What a client makes up."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A request to run a job once, under the key that its client made up for it.

    `key` and `asked` are hashes: of the key, and of what it stands for.
    """

    key: str
    asked: str

    @classmethod
    def parse(cls, key: Any, job_id: str, overrides: Overrides) -> Self:
        """Take a key of 1 to 255 printable ASCII characters. Raises InvalidDefinition."""
        key = KEY("Idempotency-Key", key)
        text = overrides.dump()
        asked = json.dumps([job_id, None if text is None else json.loads(text)], sort_keys=True)
        return cls(_hash(key), _hash(asked))

    def check(self, asked: str) -> None:
        """Raise IdempotencyKeyReused unless the key stood for the same request before."""
        if asked != self.asked:
            raise IdempotencyKeyReused


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:48]
