"""What is printed: aligned, no wider than the terminal, and without what would steer it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from datetime import timedelta

import click
import pytest

from quart_sched.cli import tables
from tests.conftest import START

Printed = Callable[[], list[str]]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Printed:
    monkeypatch.setenv("COLUMNS", "60")
    return lambda: capsys.readouterr().out.splitlines()


def test_columns_are_aligned(printed):
    tables.table(("JOB", "STATE"), [("a", "paused"), ("longer", "broken")])
    assert printed() == ["JOB     STATE", "a       paused", "longer  broken"]


def test_below_a_row_stand_lines_with_their_indentation(printed):
    tables.table(("JOB", "STATE"), [("a", "failed"), ("b", "failed")], ["one\n  two\x1b[31m\n\tthree", ""])
    expected = ["a    failed", "  one", "    two\N{REPLACEMENT CHARACTER}[31m", " " * 10 + "three", "b    failed"]
    assert printed()[1:] == expected


def test_wide_characters_take_two_columns_and_combining_ones_none(printed):
    tables.table(("JOB", "STATE"), [("日本", "paused"), ("e\u0301", "paused"), ("four", "paused")])
    assert printed()[1:] == ["日本  paused", "e\u0301     paused", "four  paused"]


def test_no_line_is_wider_than_the_terminal(printed):
    tables.table(("JOB", "STATE", "ERROR"), [("x" * 100, "paused", "y" * 300), ("short", "paused", "z")])
    lines = printed()
    assert all(len(line) <= 60 for line in lines)
    assert "…" in lines[1]
    assert "  paused  " in lines[1]
    assert lines[2].startswith("short ")


def test_a_long_cell_is_looked_through_but_a_few_times(printed, monkeypatch):
    looked = 0

    def combining(char: str) -> int:
        nonlocal looked
        looked += 1
        return 0

    monkeypatch.setattr(tables.unicodedata, "combining", combining)
    tables.table(("ERROR",), [("日" * 2000,)])
    assert printed()[1] == "日" * 29 + "…"
    assert looked < 10_000


def test_what_does_not_go_to_a_terminal_is_whole(printed, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    tables.table(("JOB", "ERROR"), [("x" * 100, "y" * 300)])
    assert printed()[1] == f"{'x' * 100}  {'y' * 300}"


def test_what_would_steer_a_terminal_is_not_printed(printed):
    tables.table(("JOB",), [("a\x1b[31m\nb\u202ec\x9b",)])
    tables.facts([("name", "a\x1b]0;title\x07\nb")])
    tables.echo_json({"name": "a\x1b[31m\u202e\x9b\ud800"})
    text = "\n".join(printed())
    assert all(char.isprintable() or char == "\n" for char in text)


def test_json_says_what_was_there(printed):
    for value in ("plain", "日本", "a\x1b[31m\u202e", "half \ud800"):
        tables.echo_json({"name": value})
        assert json.loads("\n".join(printed())) == {"name": value}


def test_an_output_that_cannot_show_a_character_gets_another(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    tables.table(("JOB",), [("日本",)])
    sys.stdout.flush()
    assert raw.getvalue() == b"JOB\n??\n"


def test_json_keeps_what_the_output_cannot_show(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="iso-8859-1"))
    for name in ("日本", "é"):
        tables.echo_json([name])
    sys.stdout.flush()
    assert raw.getvalue().decode("iso-8859-1").split() == ["[", '"\\u65e5\\u672c"', "]", "[", '"é"', "]"]


def test_colour_is_for_terminals_and_for_who_wants_it(monkeypatch):
    shown: list[bool | None] = []
    monkeypatch.setattr(click, "echo", lambda text, color: shown.append(color))
    monkeypatch.delenv("NO_COLOR", raising=False)
    tables.echo(click.style("a", fg="red"))
    monkeypatch.setenv("NO_COLOR", "1")
    tables.echo(click.style("a", fg="red"))
    assert shown == [None, False]


def test_without_a_terminal_there_is_no_colour(printed):
    tables.table(("STATE",), [("paused",)])
    assert printed() == ["STATE", "paused"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "now"),
        (-0.4, "now"),
        (5, "in 5 s"),
        (99, "in 99 s"),
        (180, "in 3 min"),
        (-180, "3 min ago"),
        (3600 * 5, "in 5 h"),
        (-86400 * 12, "12 d ago"),
        (99.6, "in 2 min"),
        (86400 * 400, "in 400 d"),
    ],
)
def test_times_are_relative_in_their_greatest_unit(seconds, expected):
    assert tables.relative(START + timedelta(seconds=seconds), START) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(None, "-"), (0.0004, "0.000 s"), (3.0031, "3.003 s"), (75.44, "75.4 s")]
)
def test_durations(seconds, expected):
    assert tables.duration(seconds) == expected
