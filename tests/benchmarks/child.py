"""One contender in a process of its own: ``python -m tests.benchmarks.child module contender parameters``.

The same for all: nothing is logged that nobody reads, and neither garbage collector nor event loop are set in any way.
"""

from __future__ import annotations

import json
import logging
import sys

from .harness import TOO_SLOW, TooSlow, evaluate


def main() -> None:
    """Print the figures as JSON."""
    module, contender, params = sys.argv[1:]
    logging.disable(logging.WARNING)
    try:
        figures = evaluate(module, contender, json.loads(params))
    except TooSlow:
        sys.exit(TOO_SLOW)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
