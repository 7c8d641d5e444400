"""The page of a drawing in a browser: what its script does, without an error and without the network.

Needs playwright and a Chromium: that of the system, or the one that `playwright install chromium` fetched.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import labctl
from labctl.drawing.from_lab import draw
from labctl.drawing.html import details, page_lines
from tests.support import chromium
from tests.support.drawings import large

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested in a browser by playwright")
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        try:
            found = started.chromium.launch(executable_path=BROWSER, args=chromium.ARGUMENTS)
        except playwright.Error as error:
            pytest.skip(f"no Chromium for playwright: {str(error).splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a large lab. No test changes it."""
    lab = large(30, 10)
    drawing = draw(lab)
    written = tmp_path_factory.mktemp("page") / "lab.html"
    written.write_text("\n".join(page_lines(drawing, details(lab, drawing))))
    return written


@pytest.fixture
def page(browser: Any, file: Path) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 1280, "height": 720})
    mistakes: list[str] = []
    requests: list[str] = []
    opened.on("pageerror", lambda error: mistakes.append(str(error)))
    opened.on("console", lambda message: mistakes.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(file.as_uri())
    yield opened
    assert mistakes == []
    assert {one.partition("#")[0] for one in requests} == {file.as_uri()}
    opened.close()


def view(page: Any) -> list[float]:
    """Left, top, width and height of what is shown."""
    return [float(one) for one in page.get_attribute("main > svg", "viewBox").split()]


@pytest.mark.parametrize(("height", "is_whole"), [(660, True), (400, False)])
def test_it_begins_whole_if_the_texts_stay_large_enough(
    browser: Any, tmp_path: Path, height: int, is_whole: bool
) -> None:
    lab = labctl.load("kubenet").compiled
    drawing = draw(lab)
    file = tmp_path / "lab.html"
    file.write_text("\n".join(page_lines(drawing, details(lab, drawing))))
    opened = browser.new_page(viewport={"width": 1280, "height": height})
    opened.goto(file.as_uri())
    shown, lowest = opened.evaluate(
        "[document.querySelector('main').getBoundingClientRect().bottom,"
        " document.querySelector('#machine-node1').getBoundingClientRect().bottom]"
    )
    opened.close()
    assert (lowest < shown) == is_whole


def test_a_number_opens_and_closes_in_place(page: Any) -> None:
    assert page.locator("svg [data-machine=p3-7]").count() == 0
    page.click("[data-pods=node3]")
    assert page.locator("svg [data-machine=p3-7]").count() == 1
    assert page.get_attribute("[data-pods=node3]", "aria-expanded") == "true"
    node, part = (page.locator(f"svg {kind}[data-machine=node3] > rect").first for kind in ("> ", ".details "))
    assert part.bounding_box()["x"] == pytest.approx(node.bounding_box()["x"], abs=1)

    page.keyboard.press("Enter")  # the button that closes it has the focus
    assert page.locator(".details").count() == 0
    assert page.get_attribute("[data-pods=node3]", "aria-expanded") == "false"


def test_a_part_has_parts_and_all_close_together(page: Any) -> None:
    page.focus("[data-pods='21 other nodes']")
    page.keyboard.press("Enter")
    page.locator(".details [data-pods=node25]").focus()
    page.keyboard.press("Enter")
    assert page.locator("svg [data-machine=p25-9]").count() == 1

    page.click("button[data-work=close]")
    assert page.locator(".details").count() == 0


def test_it_moves_and_zooms(page: Any) -> None:
    start = view(page)
    page.mouse.move(600, 400)
    page.mouse.down()
    page.mouse.move(700, 450, steps=4)
    page.mouse.up()
    moved = view(page)
    assert moved[0] < start[0]
    assert moved[1] < start[1]
    assert moved[2:] == start[2:]

    page.click("button[data-work=in]")
    assert view(page)[2] < moved[2]
    page.focus("main")
    page.keyboard.press("0")
    x, y, width, height = view(page)
    assert (x, y) == (0, 0)
    assert f"0 0 {width:.0f} {height:.0f}" == f"0 0 {width:g} {height:g}", "the whole drawing, as it was written"


def test_colours_are_chosen_and_paper_is_light(page: Any) -> None:
    def colour() -> str:
        return str(page.evaluate("getComputedStyle(document.querySelector('.page')).fill"))

    light = colour()
    for expected in (light, "dark", light):  # light, dark, and again that of the system
        page.click("button[data-work=colours]")
        assert (colour() == light) is (expected == light)
    page.click("button[data-work=colours]")
    page.click("button[data-work=colours]")
    page.emulate_media(media="print")
    assert colour() == light
    assert not page.is_visible("header")


def test_the_address_opens_a_node(page: Any) -> None:
    page.evaluate("location.hash = 'node5'")
    page.reload()
    page.wait_for_selector("svg [data-machine=p5-0]")
