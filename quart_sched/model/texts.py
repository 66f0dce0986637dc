"""Texts that come in: whether they can be encoded, and JSON of the strict kind."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def is_unicode(text: str) -> bool:
    """Tell whether the text can be encoded: it has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_json(text: str, **hooks: Any) -> Any:
    """Return what a JSON text says; `hooks` are those of `json.loads`. Raises ValueError, also for NaN and Infinity."""
    return json.loads(text, parse_constant=_refuse, **hooks)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
