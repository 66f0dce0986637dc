"""The dashboard's words: the same in each language, and no word of a page outside of them."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter
from typing import get_args

import pytest

from quart_sched.model.changes import Action
from quart_sched.model.explanation import Verdict
from quart_sched.model.listing import JOB_STATES, SORTS
from quart_sched.model.runs import OUTCOMES, STATES, Cause
from quart_sched.web.dashboard import words
from quart_sched.web.dashboard.forms import KINDS, LAYOUT
from quart_sched.web.dashboard.timeline import SPANS

FOLDER = Path(words.__file__).parents[1]
TEMPLATES = sorted((FOLDER / "templates").glob("*.html"))


def test_each_language_has_every_text() -> None:
    english = words.LANGUAGES["en"]
    for language, texts in words.LANGUAGES.items():
        assert texts.keys() == english.keys(), language
        assert all(texts.values())


def test_each_text_takes_the_same_values() -> None:
    def values(text: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    for key, text in words.LANGUAGES["en"].items():
        if key in ("form.kwargs_hint", "form.json_trigger_hint"):
            continue  # braces of JSON, given no values
        for language, texts in words.LANGUAGES.items():
            assert values(texts[key]) == values(text), (language, key)


def used() -> set[str]:
    """Return the keys that templates and views name."""
    sources = [path.read_text(encoding="utf-8") for path in (*TEMPLATES, *FOLDER.glob("*.py"))]
    pattern = r"""\bt\(\s*["']([a-z_]+\.[a-z_A-Z]+)["']|Flash\(\s*f?["']([a-z_.]+)["']|["'](error\.[a-z]+)["']"""
    return {next(filter(None, found)) for source in sources for found in re.findall(pattern, source)}


def test_every_key_that_is_used_has_words() -> None:
    names = {
        *(f"state.{name}" for name in (*OUTCOMES, *STATES, *JOB_STATES, "stopped")),
        *(f"meaning.{name}" for name in (*OUTCOMES, *STATES)),
        *(f"sort.{name}" for name in SORTS),
        *(f"span.{name}" for name in SPANS),
        *(f"kind.{name}" for name in KINDS),
        *(f"field.{name}" for names in LAYOUT.values() for name in names),
        *(f"cause.{name}" for name in get_args(Cause)),
        *(f"verdict.{name}" for name in get_args(Verdict)),
        *(f"change.{name}" for name in get_args(Action)),
    }
    missing = {
        key for key in used() | names if key not in words.LANGUAGES["en"] and not key.endswith((".html", ".", "_"))
    }
    assert missing == set()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_no_words_of_its_own(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    source = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", "", source, flags=re.DOTALL)
    text = re.sub(r"<code>app\.secret_key</code>|<[^>]*>", " ", source)
    assert re.findall(r"[A-Za-z]{2,}", text) == []
    for name in ("title", "alt", "placeholder", "aria-label"):
        assert re.findall(rf'\b{name}="[^"]*[A-Za-z]{{2,}}', source) == []


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "de,zh;q=0.5,en;q=0.4", "zh"),
        (None, "en-GB,zh;q=0.5", "en"),
        (None, "zh;q=0", "en"),
        (None, "zh;q=x,;;,", "en"),
        ("zh", "en", "zh"),
        ("xx", "zh", "zh"),
    ],
)
def test_the_language_is_the_chosen_one_or_the_first_that_the_browser_accepts(
    chosen: str | None, accepted: str, language: str
) -> None:
    assert words.choose(chosen, accepted) == language
