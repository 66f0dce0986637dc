from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.programs import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """A folder with an app; its processes end with the test."""
    made = Folder(tmp_path)
    yield made
    made.close()
