"""Pauses: which of them hold in a process, and what a resume ends."""

from __future__ import annotations

from quart_sched.engine.pauses import Pauses


def held(pauses: Pauses) -> tuple[bool, bool]:
    return pauses.hold, pauses.only_own


def test_without_shared_stores_a_pause_is_that_of_the_process() -> None:
    pauses = Pauses()
    pauses.switch(True, shared=(), changed=False)
    assert held(pauses) == (True, True)
    pauses.switch(False, shared=(), changed=False)
    assert held(pauses) == (False, False)


def test_with_a_shared_store_a_pause_is_that_of_the_store_and_ends_wherever_it_is_resumed() -> None:
    pauses = Pauses()
    pauses.switch(True, shared=("default",), changed=True)
    assert held(pauses) == (True, False)
    assert pauses.hear("default", False)
    assert held(pauses) == (False, False)


def test_a_resume_ends_the_pause_of_all_first_and_that_of_the_process_next() -> None:
    pauses = Pauses()
    pauses.own = True
    pauses.switch(True, shared=("default",), changed=True)
    pauses.switch(False, shared=("default",), changed=True)
    assert held(pauses) == (True, True)
    pauses.switch(False, shared=("default",), changed=False)
    assert held(pauses) == (False, False)


def test_a_pause_of_the_process_outlasts_those_of_the_stores() -> None:
    pauses = Pauses()
    pauses.own = True
    assert pauses.hear("default", True)
    assert held(pauses) == (True, False)
    pauses.forget_stores()
    assert held(pauses) == (True, True)


def test_each_store_has_its_own_pause_and_says_what_is_news_once() -> None:
    pauses = Pauses()
    assert [pauses.hear(alias, True) for alias in ("one", "two", "one")] == [True, True, False]
    assert [pauses.hear(alias, False) for alias in ("one", "one")] == [True, False]
    assert held(pauses) == (True, False)
    assert pauses.hear("two", False)
    assert held(pauses) == (False, False)
