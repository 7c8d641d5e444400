"""A lesson on the page: its steps as `labctl learn` has them, in English and Japanese, and no barrier."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import labctl
from tests.live.view.test_page_access import AXE, violations
from tests.support import forked
from tests.support.lab_page import LabPages, wait_for_sentence
from tests.support.page_server import IS_BUILT, PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api")

NAME = "two-ends"
FILE = Path(__file__).parents[2] / "data" / "lessons" / f"{NAME}.yaml"
DRAWN = 'g[data-machine="host"]'


def learn(*words: str) -> dict[str, Any]:
    """The document of `labctl learn`."""
    command = [forked.labctl_program(), "learn", *words, "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture
def lesson() -> Iterator[dict[str, Any]]:
    if not IS_BUILT:
        pytest.skip("the page is not built: scripts/build-view builds it")
    yield learn(str(FILE), "--restart")
    labctl.down(NAME)


def opened(pages: LabPages, **options: Any) -> Page:
    page = pages.new(reduced_motion="reduce", **options)
    page.goto(pages.address)
    page.wait_for_selector(DRAWN)
    page.locator("#lesson-step").wait_for()
    return page


def current_step() -> Any:
    return learn(str(FILE), "--step")["step"]


def test_all_steps_of_a_lesson(lesson: dict[str, Any], browser: Browser, tmp_path: Path) -> None:
    with PageServer(tmp_path, "-l", NAME) as server, LabPages(browser, server.address) as pages:
        page = opened(pages)
        assert page.get_by_role("tab", name="Learn").get_attribute("aria-selected") == "true"
        assert page.get_by_role("heading", name=lesson["title"]).count() == 1
        count = lesson["progress"]["steps"]
        seen = set()
        for number in range(1, count + 1):
            page.locator("#lesson-step", has_text=f"Step {number} of {count}").wait_for()
            step = current_step()
            assert step["number"] == number
            seen.add(step["kind"])
            if step["kind"] == "predict":
                assert page.locator(".question button.main").is_disabled()
                page.get_by_label("Your prediction").fill("lost")
                page.keyboard.press("Enter")
            else:
                page.locator(".question button.main").click()
        page.locator("#lesson-step", has_text="This is the end of the lesson").wait_for()
        assert current_step() is None
        assert {"run", "predict", "claim"} <= seen
        wait_for_sentence(page, "This is the end of the lesson")
        assert page.evaluate("document.activeElement.id") == "lesson-step", "the focus is where one reads on"
        page.get_by_role("button", name="Back", exact=True).click()
        page.locator("#lesson-step", has_text=f"Step {count} of {count}").wait_for()
        assert current_step()["number"] == count
        assert pages.errors == []


def test_what_happened_is_on_every_screen_and_a_wrong_answer_is_refused(
    lesson: dict[str, Any], browser: Browser, tmp_path: Path
) -> None:
    with PageServer(tmp_path, "-l", NAME) as server, LabPages(browser, server.address) as pages:
        page, other = opened(pages), opened(pages)
        while (step := current_step())["kind"] != "predict":
            page.locator(".question button.main").click()
            page.locator("#lesson-step", has_text=f"Step {step['number'] + 1} of").wait_for()
        other.locator("#lesson-step", has_text=f"Step {step['number']} of").wait_for()
        page.get_by_label("Your prediction").fill("no such word")
        page.keyboard.press("Enter")
        page.get_by_role("alert").wait_for()
        assert current_step()["number"] == step["number"]
        page.get_by_label("Your prediction").fill("lost")
        page.keyboard.press("Enter")
        for one in (page, other):
            outcome = one.locator(".outcome", has_text=f"What happened in step {step['number']}")
            outcome.wait_for()
            assert outcome.locator(".verdict").inner_text().startswith(("Right.", "Not so."))
        assert page.get_by_role("region", name="Player of the trace").count() == 1, "its packet is in the drawing"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("code", ["en", "ja"])
def test_axe_finds_no_barrier_in_a_lesson(
    lesson: dict[str, Any], browser: Browser, tmp_path: Path, scheme: str, code: str
) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: scripts/build-view --test installs it")
    with PageServer(tmp_path, "--lang", code, "-l", NAME) as server, LabPages(browser, server.address) as pages:
        page = opened(pages, color_scheme=scheme)
        page.evaluate(AXE.read_text())
        title = learn(str(FILE), "--step", "--lang", code)["title"]
        assert page.get_by_role("heading", name=title).count() == 1
        found = []
        for number in range(1, lesson["progress"]["steps"] + 1):
            page.locator("#lesson-step", has_text=str(number)).wait_for()
            found += violations(page)
            if current_step()["kind"] == "predict":
                page.locator(".question input").fill("lost")
            page.locator(".question button.main").click()
            page.locator(f".outcome[aria-label*='{number}']").wait_for()
        found += violations(page)
        assert found == []


def test_the_page_of_another_lab_lists_the_lessons(browser: Browser, page_address: str) -> None:
    with LabPages(browser, page_address) as pages:
        page = pages.open()
        page.keyboard.press("7")
        page.get_by_text("This lab is not that of a lesson.").wait_for()
        assert "sudo labctl learn one-cable" in page.get_by_role("tabpanel").inner_text()
        assert pages.errors == []
