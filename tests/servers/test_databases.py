"""The private servers: they keep what was committed, can be cut off, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.servers.databases import DATABASES, Server, SQLite, listens

pytestmark = pytest.mark.integration
SERVERS = [kind for kind, cls in DATABASES.items() if issubclass(cls, Server)]


@pytest.fixture(scope="module", params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    kind = str(request.param)
    if (reason := DATABASES[kind].missing()) is not None:
        assert os.environ.get("REQUIRE_SERVICES") != "1", reason
        pytest.skip(reason)
    return kind


@pytest.fixture(scope="module")
def server(kind: str) -> Iterator[Server]:
    with DATABASES[kind]() as database:
        assert isinstance(database, Server)
        yield database


@pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
def test_what_was_committed_is_there_after_a_restart_on_the_same_port(server, crash):
    engine = sa.create_engine(server.create("crashed" if crash else "restarted"), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (x INTEGER)"))
        connection.execute(sa.text("INSERT INTO t VALUES (7)"))
    server.stop(crash=crash)
    assert not listens(server.port)
    with pytest.raises(sa.exc.OperationalError), engine.connect():
        pass
    server.start()
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT x FROM t")).scalar() == 7


def test_connections_to_one_database_are_cut_and_those_to_another_are_left_alone(server):
    cut, spared = (sa.create_engine(server.create(name)) for name in ("one", "other"))
    with cut.connect() as ended, spared.connect() as kept:
        for connection in (ended, kept):
            connection.execute(sa.text("SELECT 1"))
        assert server.cut("one") == 1
        with pytest.raises(sa.exc.OperationalError):
            ended.execute(sa.text("SELECT 1"))
        assert kept.execute(sa.text("SELECT 1")).scalar() == 1
    cut.dispose()
    spared.dispose()


def test_nothing_is_left_when_the_test_is_over(kind):
    with DATABASES[kind]() as server:
        pid = server._process.pid
    assert not listens(server.port)
    assert not Path(f"/proc/{pid}").exists()
    assert not server.folder.exists()


def test_a_server_does_not_outlive_whoever_started_it(kind):
    code = f"""
        import os
        from tests.servers.databases import DATABASES
        server = DATABASES[{kind!r}]().__enter__()
        print(server.port, server.folder, flush=True)
        os.kill(os.getpid(), 9)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    port, folder = done.stdout.split()
    try:
        deadline = time.monotonic() + 10
        while listens(int(port)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


def test_a_held_sqlite_file_lets_no_other_writer_in():
    with SQLite() as database:
        url = database.create("held")
        engine = sa.create_engine(url, connect_args={"timeout": 0})
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE t (x INTEGER)"))
        begin = time.monotonic()
        database.hold(url, 0.2)
        assert time.monotonic() - begin >= 0.2
        with engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (1)"))
        engine.dispose()
