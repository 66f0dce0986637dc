"""Connections to the database: none is left open, and none is used again that may be lost or within a transaction."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import sqlalchemy as sa

from quart_sched.stores.sql.database import Database
from quart_sched.stores.sql.failures import DatabaseFailure
from quart_sched.stores.sql.history import SqlHistory
from quart_sched.stores.sql.transaction import Transaction
from quart_sched.stores.sql.wakeups import Wakeups
from tests.stores.cluster import KINDS, reachable

pytestmark = pytest.mark.integration  # there is a database in each


def database(url: str, prefix: str, **connect_args: Any) -> Database:
    return Database("KEY", url, prefix, create_tables=True, engine_options={"connect_args": connect_args})


def closed_by(database: Database) -> list[Any]:
    """A list to which each connection is added when it is closed."""
    closed: list[Any] = []
    sa.event.listen(database.engine, "close", lambda connection, _: closed.append(connection))
    return closed


def driver_connection(tx: Transaction) -> Any:
    return tx.connection.connection.driver_connection


def test_a_connection_that_is_in_use_when_all_are_closed_is_closed_after_it(database_url, table_prefix):
    own = database(database_url, table_prefix)
    closed = closed_by(own)

    def op(tx: Transaction) -> Any:
        own.dispose()
        return driver_connection(tx)

    connection = own.transact(op)
    assert connection in closed


def test_what_comes_late_leaves_no_connection_open(database_url, table_prefix):
    own = database(database_url, table_prefix)
    closed = closed_by(own)
    own.transact(driver_connection)
    own.dispose()
    late = own.transact(driver_connection)
    assert late in closed
    own.resume()
    kept = own.transact(driver_connection)
    assert own.transact(driver_connection) is kept
    assert kept not in closed
    own.dispose()
    assert kept in closed


def test_a_store_and_a_history_that_are_used_again_keep_their_connections_again(peer):
    one = peer()
    own = one.store.database
    one.slot.close()
    one.slot.open(one.scheduler)
    assert own.transact(driver_connection) is own.transact(driver_connection)
    history = SqlHistory(own)
    history.close()
    history.write([])
    assert own.transact(driver_connection) is own.transact(driver_connection)
    history.close()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_connection_that_is_lost_on_its_way_back_is_nobodys_trouble(kind, tmp_path, caplog):
    url = reachable(kind, tmp_path)
    own = database(url, "t_")
    server = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")

    def cut(connection: Any, *_: Any) -> None:
        mysql = kind == "mysql"
        session = connection.thread_id() if mysql else connection.info.backend_pid
        end = "KILL CONNECTION {}" if mysql else "SELECT pg_terminate_backend({})"
        with server.connect() as conn:
            conn.execute(sa.text(end.format(session)))

    sa.event.listen(own.engine, "reset", cut)
    assert own.query("SELECT 1 AS n") == [(1,)]
    sa.event.remove(own.engine, "reset", cut)
    assert own.query("SELECT 2 AS n") == [(2,)]
    assert caplog.records == []
    own.dispose()


def test_a_server_that_does_not_answer_any_more_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("quart_sched.stores.sql.mysql._ANSWER_TIMEOUT", 0.2)
    own = database(reachable("mysql", tmp_path), "t_")
    with pytest.raises(DatabaseFailure, match="Lost connection"):
        own.query("SELECT SLEEP(2)")
    assert own.query("SELECT 1 AS n") == [(1,)]
    own.dispose()


def test_a_server_that_is_gone_while_something_is_sent_to_it_is_not_waited_for_without_end(tmp_path):
    own = database(reachable("postgresql", tmp_path), "t_")
    with socket.socket(fileno=own.transact(lambda tx: driver_connection(tx).fileno())) as connection:
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 25_000
        connection.detach()
    own.dispose()


def test_the_isolation_of_transactions_is_ours_whatever_the_server_has_been_set_to(tmp_path):
    options = "-c default_transaction_isolation=serializable"
    own = database(reachable("postgresql", tmp_path), "t_", options=options, autocommit=True)
    asked = "SELECT current_setting('transaction_isolation'), txid_current()"
    first, second = own.transact(lambda tx: [driver_connection(tx).execute(asked).fetchone() for _ in range(2)])
    assert first[0] == "read committed"
    assert first == second, "one transaction, and none for each statement"
    own.dispose()


@pytest.mark.parametrize("failing", ["do_rollback", "do_commit"])
def test_a_connection_whose_transaction_could_not_be_ended_is_not_used_again(
    database_url, table_prefix, failing, monkeypatch
):
    own = database(database_url, table_prefix)
    closed = closed_by(own)
    used: list[Any] = []

    def op(tx: Transaction) -> None:
        used.append(driver_connection(tx))
        if failing == "do_rollback":
            raise LookupError

    def fail(_: Any) -> None:
        raise dialect.loaded_dbapi.OperationalError("not now")

    dialect = own.engine.dialect
    own.query("SELECT 1 AS n")
    with monkeypatch.context() as patch:
        patch.setattr(dialect, failing, fail)
        with pytest.raises(DatabaseFailure, match="not now") as caught:
            own.transact(op)
    assert caught.value.unknown == (failing == "do_commit")
    assert used == closed
    own.dispose()


def test_a_connection_that_cannot_listen_is_closed(tmp_path):
    own = database(reachable("postgresql", tmp_path), "t_")
    made: list[Any] = []
    sa.event.listen(own.engine, "connect", lambda connection, _: made.append(connection))
    with pytest.raises(Exception, match="syntax error"):
        Wakeups(own, 'no"channel')
    assert [connection.closed for connection in made] == [True]
    own.dispose()
