"""The browser: Chromium at desktop and phone width, light and dark; whatever it complains of fails the test."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.dashboard.site import Site, past_runs

FOLDER = Path(__file__).parent
ARTEFACTS = FOLDER / "artefacts"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
]


@dataclass(frozen=True)
class View:
    """What the visitor sees the pages with."""

    device: str
    scheme: str

    @property
    def options(self) -> dict[str, Any]:
        size = {"width": 1280, "height": 900} if self.device == "desktop" else {"width": 390, "height": 844}
        return {"viewport": size, "color_scheme": self.scheme, "has_touch": self.device == "phone"}

    def __str__(self) -> str:
        return f"{self.device}-{self.scheme}"


VIEWS = [View(device, scheme) for device in ("desktop", "phone") for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium for the module. Where there is none the test is skipped, unless REQUIRE_SERVICES is 1."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        message = "there is no chromium; apt-get install chromium"
        pytest.fail(message) if os.environ.get("REQUIRE_SERVICES") == "1" else pytest.skip(message)
    sync_api = pytest.importorskip("playwright.sync_api")
    # Its loop counts as running in this thread until it is stopped: no coroutine test can share a module with it.
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose jobs have a past."""
    made = Site(tmp_path_factory.mktemp("site"))
    furnish(made)
    yield made
    made.close()


def furnish(site: Site) -> None:
    """Give the site jobs of all kinds, with runs of the last days."""
    site.add("invoices", name="Send the invoices", tags=["billing", "mail"], description="Each night, to all customers")
    site.add("newsletter", trigger="crontab", expression="0 9 * * mon", tags=["mail"], timezone="America/New_York")
    site.add("sync", "count", trigger="interval", minutes=10, tags=["etl"])
    site.add("rates", trigger="interval", minutes=3, tags=["etl"], next_run_time=None)
    site.add("reports", "report", trigger="calendarinterval", months=1, hour=6, args=[3], tags=["billing", "t" * 64])
    site.write(past_runs("invoices", 6, timedelta(hours=24), seed=5, bad=0.4))
    site.write(past_runs("sync", 300, timedelta(minutes=10), seed=2))
    site.write(past_runs("rates", 120, timedelta(minutes=3), seed=3, bad=0.25))


@pytest.fixture(params=VIEWS, ids=str)
def view(request: pytest.FixtureRequest) -> View:
    """Each way to look at the pages in turn."""
    return request.param  # type: ignore[no-any-return]


class Visitor:
    """A page in the browser. What it says in the console, and where it sends requests, is held against it."""

    def __init__(self, browser: Any, view: View, name: str, **options: Any) -> None:
        self.view = view
        self._name = name
        self.context = browser.new_context(
            **{"timezone_id": "Asia/Shanghai", "locale": "en-GB"} | view.options | options
        )
        self.context.set_default_timeout(8000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.excused: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        self.page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        if urlsplit(request.url).hostname != "127.0.0.1" and not request.url.startswith("data:"):
            self.complaints.append(f"request to {request.url}")

    def open(self, address: str) -> Any:
        """Go to a page, and wait until it has settled."""
        response = self.page.goto(address)
        self.page.wait_for_load_state("load")
        return response

    def shoot(self, name: str) -> None:
        """Keep a picture of the page."""
        ARTEFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=ARTEFACTS / f"{name}-{self.view}.png", full_page=True)

    def expect_status(self, status: int) -> None:
        """Excuse what the browser says of a page that is answered with this status on purpose."""
        self.excused.append(f"status of {status}")

    def close(self) -> None:
        """End the visit; raise where there was anything to complain of."""
        self.context.close()
        left = [said for said in self.complaints if not any(re.search(pattern, said) for pattern in self.excused)]
        assert left == []


@pytest.fixture
def visitor(browser: Any, view: View, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """Somebody with a browser."""
    visit = Visitor(browser, view, request.node.name)
    yield visit
    visit.close()
