"""What the tests of the stores share: databases, table names of the test's own, and clusters of processes on them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.stores.cluster import KINDS, Cluster, Tables, drop_tables, reachable
from tests.stores.manual_clock import ManualClock
from tests.stores.peers import Peer


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of each kind of database in turn; skipped where there is none, unless REQUIRE_SERVICES is 1."""
    return reachable(request.param, tmp_path)


@pytest.fixture
def table_prefix(database_url: str) -> Iterator[str]:
    """What the names of the test's tables begin with; they are dropped when it is over."""
    prefix = f"t{uuid.uuid4().hex[:10]}_"
    yield prefix
    drop_tables(database_url, prefix)


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tables]:
    """Tables that are emptied between tests."""
    made = Tables(tmp_path_factory.mktemp("tables"))
    yield made
    made.drop()


@pytest.fixture
def cluster_clock() -> ManualClock:
    """The time of the processes that share a store."""
    return ManualClock()


@pytest.fixture
def clock(cluster_clock: ManualClock) -> ManualClock:
    return cluster_clock


@pytest.fixture(params=KINDS)
async def cluster(request: pytest.FixtureRequest, tables: Tables, cluster_clock: ManualClock) -> AsyncIterator[Cluster]:
    """Processes that share an SQL store, on each kind of database in turn."""
    processes = Cluster(cluster_clock, tables.empty(request.param))
    yield processes
    await processes.close()


@pytest.fixture(params=KINDS)
def peer(request: pytest.FixtureRequest, tables: Tables, clock: ManualClock) -> Iterator[Callable[[], Peer]]:
    """Makes processes that share one store and one clock, on each kind of database in turn."""
    entry = tables.empty(request.param)
    peers: list[Peer] = []

    def make() -> Peer:
        peers.append(Peer(entry["url"], entry["table_prefix"], clock))
        return peers[-1]

    yield make
    for one in peers:
        one.close()
