"""The short form of the fault tests: each fault, on all databases at the same time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.accounts import Report, table
from tests.faults.fleet import Size
from tests.faults.trials import FAULTS, Fault, attempt
from tests.servers.databases import DATABASES, Database

pytestmark = pytest.mark.integration

SIZE = Size(seconds=10, processes=3, jobs=30)
TRIALS = [(fault, kind) for fault in FAULTS for kind in DATABASES if fault.sqlite or kind != "sqlite"]


class Trials:
    """Runs the trials of a fault when the first of them is asked for."""

    def __init__(self, databases: dict[str, Database], folder: Path) -> None:
        self.databases = databases
        self.folder = folder
        self.results: dict[str, dict[str, Report | BaseException]] = {}

    def report(self, fault: Fault, kind: str) -> Report:
        if fault.name not in self.results:
            self.results[fault.name] = asyncio.run(self._all(fault))
        result = self.results[fault.name][kind]
        if isinstance(result, BaseException):
            raise result
        return result

    async def _all(self, fault: Fault) -> dict[str, Report | BaseException]:
        databases = {kind: database for kind, database in self.databases.items() if (fault, kind) in TRIALS}
        attempts = (attempt(fault, database, SIZE, self.folder) for database in databases.values())
        return dict(zip(databases, await asyncio.gather(*attempts, return_exceptions=True), strict=True))

    def table(self) -> str:
        """All reports, as the long form prints them."""
        return table(
            (DATABASES[kind].label, fault, result)
            for fault, results in self.results.items()
            for kind, result in results.items()
            if isinstance(result, Report)
        )


@pytest.fixture(scope="module")
def trials(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    with ExitStack() as stack:
        installed = {kind: cls for kind, cls in DATABASES.items() if cls.missing() is None}
        databases = {kind: stack.enter_context(cls()) for kind, cls in installed.items()}
        trials = Trials(databases, tmp_path_factory.mktemp("faults"))
        yield trials
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n\n{trials.table()}")


@pytest.mark.parametrize(("fault", "kind"), TRIALS, ids=[f"{fault.name}-{kind}" for fault, kind in TRIALS])
def test_each_fire_starts_once_and_is_accounted_for(trials, fault, kind):
    if (reason := DATABASES[kind].missing()) is not None:
        assert os.environ.get("REQUIRE_SERVICES") != "1", reason
        pytest.skip(reason)
    report = trials.report(fault, kind)
    assert report.problems == []
    assert (report.duplicates, report.unaccounted) == (0, 0)
    assert report.expected == SIZE.jobs * SIZE.seconds
