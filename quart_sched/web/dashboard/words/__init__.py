"""The dashboard's words, by language. Each module has a `WORDS` of the same keys."""

from __future__ import annotations

import logging
from datetime import datetime, tzinfo

from apscheduler.triggers.base import BaseTrigger

from ....errors import InvalidDefinition
from ....model import descriptions
from ....model.clock_marks import ClockMark
from ....model.explanation import Explanation
from ....model.runs import RunRecord
from . import en, explanations_zh, problems_zh, triggers_zh, zh

log = logging.getLogger("quart_sched")

LANGUAGES: dict[str, dict[str, str]] = {"en": en.WORDS, "zh": zh.WORDS}
NAMES = {"en": "English", "zh": "中文"}


def choose(chosen: str | None, accepted: str) -> str:
    """Return the language that was chosen, else the first of those that the browser accepts, else English."""
    if chosen in LANGUAGES:
        return chosen
    weighted: list[tuple[float, int, str]] = []
    for position, entry in enumerate(accepted.split(",")[:20]):
        name, _, quality = entry.strip().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            continue
        weighted.append((-weight, position, name.strip().lower().partition("-")[0]))
    return next((name for weight, _, name in sorted(weighted) if weight < 0 and name in LANGUAGES), "en")


def describe(trigger: BaseTrigger, language: str) -> str:
    """Return when a trigger fires, in words: in English where the language has none for it. Never raises."""
    try:
        text = triggers_zh.describe(trigger) if language == "zh" else None
    except Exception:
        # A trigger of a shape that nobody has thought of must not keep its job from being shown.
        log.debug("No Chinese words for %r", trigger, exc_info=True)
        text = None
    return text or descriptions.describe(trigger)


def explain(found: Explanation, zone: tzinfo, last: RunRecord | None, language: str) -> str:
    """Return what happened to a fire, in times of `zone`; `last` is the record of the last of its runs."""
    return explanations_zh.explain(found, zone, last) if language == "zh" else found.description


def clocks(change: ClockMark, at: datetime, language: str) -> str:
    """Return what a clock change does to the fire `at`."""
    return explanations_zh.mark(change, at) if language == "zh" else change.description


def wrong(problem: str | InvalidDefinition, language: str) -> tuple[str, str]:
    """Return what is wrong with a field, and the language that this is in: English where there is no other."""
    field, text = (f"{problem.field}: ", problem.problem) if isinstance(problem, InvalidDefinition) else ("", problem)
    told = problems_zh.tell(text) if language == "zh" else None
    return (field + text, "en") if told is None else (field + told, language)
