"""Statements, and many rows in one call, which each kind of database takes in its own way."""

from __future__ import annotations

import pytest

from quart_sched.model.state import MAX_DEFINITION

pytestmark = pytest.mark.integration  # there is a database in each


def test_rows_that_are_too_many_for_one_packet_are_changed_all_the_same(peer):
    one = peer()
    for job_id in "abc":
        one.add(job_id)
    # Each of these characters becomes four on its way to MySQL, which takes 16 MB at once.
    large = '"' * MAX_DEFINITION
    database = one.store.database
    rows = [("a", large), ("b", large), ("c", "{}")]
    database.transact(lambda tx: tx.update("jobs", "id", ("definition",), rows, also="version = version + 1"))
    found = one.query("SELECT id, LENGTH(definition) AS size, version FROM {p}jobs ORDER BY id")
    assert found == [("a", len(large), 2), ("b", len(large), 2), ("c", 2, 2)]


def test_statements_may_say_what_some_drivers_take_for_a_mark(peer):
    one = peer()
    query = "SELECT '%s 50%% a:b' AS said, k FROM {p}meta WHERE k LIKE 'pause%' AND k <> :other"
    assert one.query(query, other="%(other)s ? :other") == [("%s 50%% a:b", "paused")]


def test_a_statement_is_executed_for_each_row(peer):
    one = peer()
    for job_id in "abc":
        one.add(job_id)
    statement = f"UPDATE {one.prefix}jobs SET last_us = ? WHERE id = ? AND id LIKE '%'"
    one.store.database.transact(lambda tx: tx.execute_many(statement, [(1, "a"), (2, "b")]))
    assert one.query("SELECT id, last_us FROM {p}jobs ORDER BY id") == [("a", 1), ("b", 2), ("c", None)]
