"""The page of `labctl view` in a browser, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROJECTOR = {"width": 1280, "height": 720}
TIMEOUT_MS = 60_000  # a loaded machine is read for drift less often
DRAWN = 'g[data-machine="a"]'  # is there as soon as kubenet is drawn


class LabPages:
    """Opens a page in new browser contexts, and collects the errors that it reports. A context manager."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser = browser
        self.address = address
        self.errors: list[str] = []
        self._contexts: list[Any] = []

    def __enter__(self) -> LabPages:
        return self

    def __exit__(self, *_: object) -> None:
        for context in self._contexts:
            context.close()

    def open(self, **options: Any) -> Page:
        """The page in a new context, drawn. Options are those of a Playwright context, and `address`."""
        page = self.new(**{key: value for key, value in options.items() if key != "address"})
        page.goto(options.get("address", self.address))
        page.wait_for_selector(DRAWN)
        return page

    def new(self, **options: Any) -> Page:
        """An empty page in a new context."""
        context = self.browser.new_context(**{"viewport": PROJECTOR, "locale": "en-GB", **options})
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        return page


def click_machine(page: Page, name: str) -> None:
    """Click the name of a machine in the drawing: devices cover its middle."""
    page.locator(f'g[data-machine="{name}"] > text.t').click()


def wait_for_sentence(page: Page, text: str, timeout_ms: int = TIMEOUT_MS) -> None:
    """Wait until the live region says something that contains this text."""
    page.locator('[role="log"]').get_by_text(text).first.wait_for(state="attached", timeout=timeout_ms)
