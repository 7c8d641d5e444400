"""What the tests of the page share: a lab with its page, and a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import labctl
from tests.support import chromium
from tests.support.page_server import IS_BUILT, PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """The page of a running kubenet."""
    labctl.up("kubenet")
    try:
        with PageServer(tmp_path_factory.mktemp("page") / "static") as server:
            yield server
    finally:
        labctl.down("kubenet")


@pytest.fixture(scope="module")
def page_address(page_server: PageServer) -> str:
    """The address of the built page of kubenet."""
    if not IS_BUILT:
        pytest.skip("the page is not built: scripts/build-view builds it")
    return page_server.address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=chromium.ARGUMENTS)
        try:
            yield started
        finally:
            started.close()
