"""The names of parametrised tests."""

from __future__ import annotations

import re


def shown(value: object) -> str:
    """`value` as Python shows it, without its address: the name is the same in every process that runs the tests."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
