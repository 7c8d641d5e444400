"""The page for everybody: with the keyboard alone, with a screen reader, in light and dark, with less motion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import labctl
from labctl.translation import language
from tests.support import forked
from tests.support.lab_page import DRAWN, PROJECTOR, LabPages, wait_for_sentence
from tests.support.page_server import PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api")

AXE = Path(os.environ.get("LABCTL_VIEW_BUILD", f"{sys.prefix}-view")) / "node_modules" / "axe-core" / "axe.min.js"
TABS = ("Checks", "Trace", "Machine", "Drift", "Capture", "Break", "Learn")
MOST_TAB_STOPS = 80
# what has the focus, and whether its look says so; a machine of the drawing has a thicker frame
FOCUSED = """() => {
  let element = document.activeElement;
  while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
  if (!element || element === document.body) return null;
  const style = getComputedStyle(element);
  const frame = element.querySelector?.(":scope > .f");
  const group = element.type === "radio" ? getComputedStyle(element.closest("fieldset")) : style;
  const visible = frame ? getComputedStyle(frame).strokeWidth === "3.5px" : group.outlineStyle !== "none";
  const isLine = element.getAttribute("role") === "separator" && style.backgroundImage !== "none";
  const name = element.getAttribute("aria-label") ?? element.innerText ?? "";
  return {name: name || element.closest("label")?.innerText || element.id, visible: visible || isLine};
}"""


@pytest.fixture
def pages(browser: Browser, page_address: str) -> Iterator[LabPages]:
    """Opens the page; at the end, it has reported no error."""
    with LabPages(browser, page_address) as opened:
        yield opened
        assert opened.errors == []


def focus_machine(page: Page, name: str) -> None:
    page.locator(f'g[data-machine="{name}"]').focus()


def focused_machine(page: Page) -> str | None:
    return page.evaluate("document.querySelector('.stage').shadowRoot.activeElement?.dataset.machine ?? null")


def test_tab_reaches_everything_and_the_focus_is_visible(pages: LabPages) -> None:
    page = pages.open()
    stops = []
    for _ in range(MOST_TAB_STOPS):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUSED)
        if stop is None:
            break
        stops.append(stop)
    assert [stop["name"] for stop in stops if not stop["visible"]] == []
    names = " | ".join(stop["name"] for stop in stops)
    for name in ("Keys and help", "Zoom in", "Width of the side panel", "Checks", "Run all checks"):
        assert name in names
    machines = [stop["name"] for stop in stops if "10.2" in stop["name"] or "203.0" in stop["name"]]
    assert len(machines) == 1, "the drawing is one stop: arrow keys go on"


def test_arrow_keys_go_between_machines_and_enter_shows_the_tables(pages: LabPages) -> None:
    page = pages.open()
    focus_machine(page, "a")
    page.keyboard.press("ArrowRight")
    assert focused_machine(page) == "b"
    page.keyboard.press("ArrowUp")
    assert focused_machine(page) == "node1"
    page.keyboard.press("Enter")
    assert page.get_by_role("tab", name="Machine").get_attribute("aria-selected") == "true"
    page.get_by_role("heading", name="iptables -t nat").wait_for()
    assert page.get_by_role("cell", name="10.244.0.0/24").first.is_visible()
    assert focused_machine(page) == "node1"


def test_a_packet_is_traced_with_the_keyboard_alone(pages: LabPages) -> None:
    page = pages.open(reduced_motion="reduce")
    page.keyboard.press("2")
    focus_machine(page, "a")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowUp")
    while focused_machine(page) != "internet":
        before = focused_machine(page)
        page.keyboard.press("ArrowUp")
        assert focused_machine(page) != before
    page.keyboard.press("Enter")
    assert page.get_by_role("combobox", name="From").input_value() == "a"
    assert page.get_by_role("combobox", name="To", exact=True).input_value() == "internet"
    page.get_by_role("button", name="Trace", exact=True).focus()
    page.keyboard.press("Enter")
    wait_for_sentence(page, "Step 1 of 8, request: a, eth0, 10.244.0.2 → 203.0.113.1")
    page.keyboard.press(".")
    wait_for_sentence(page, "Address translation: 10.244.0.2 → 203.0.113.1 becomes 10.224.0.4 → 203.0.113.1.")
    assert page.locator(".packet text").inner_html() == "10.224.0.4 → 203.0.113.1"
    for _ in range(6):
        page.keyboard.press(".")
    wait_for_sentence(page, "Answered: answered after")


def test_shortcut_keys_do_nothing_while_a_text_is_typed_and_can_be_switched_off(pages: LabPages) -> None:
    page = pages.open()
    page.keyboard.press("6")
    search = page.get_by_role("searchbox")
    search.fill("")
    search.press("1")
    assert page.get_by_role("tab", name="Break").get_attribute("aria-selected") == "true"
    assert search.input_value() == "1"
    search.blur()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    dialog.get_by_role("checkbox").uncheck()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    page.keyboard.press("1")
    assert page.get_by_role("tab", name="Break").get_attribute("aria-selected") == "true"
    page.reload()
    page.wait_for_selector(DRAWN)
    page.keyboard.press("2")
    assert page.get_by_role("tab", name="Checks").get_attribute("aria-selected") == "true"


def test_arrow_keys_change_tabs_and_the_width_of_the_panel(pages: LabPages) -> None:
    page = pages.open()
    page.get_by_role("tab", name="Checks").focus()
    page.keyboard.press("ArrowDown")
    assert page.get_by_role("tab", name="Trace").get_attribute("aria-selected") == "true"
    page.keyboard.press("End")
    assert page.get_by_role("tab", name="Learn").get_attribute("aria-selected") == "true"
    before = page.get_by_role("complementary").bounding_box()
    page.get_by_role("separator").focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    after = page.get_by_role("complementary").bounding_box()
    assert before is not None
    assert after is not None
    assert after["width"] > before["width"] + 80


def test_a_screen_reader_finds_landmarks_and_machines_by_name(pages: LabPages) -> None:
    page = pages.open()
    for role in ("banner", "main", "complementary"):
        assert page.get_by_role(role).count() == 1, role
    assert page.get_by_role("heading", level=1).inner_text() == "kubenet"
    assert page.locator("html").get_attribute("lang") == "en"
    drawing = page.get_by_role("main")
    for name in (
        "a, pod on node1, 10.244.0.2",
        "node2, node, 10.224.0.5 10.244.1.1",
        "vm, vm, 10.225.0.4",
    ):
        assert drawing.get_by_role("button", name=name, exact=True).count() == 1, name
    assert page.get_by_role("tablist").get_by_role("tab").count() == len(TABS)


def test_the_live_region_says_the_results_of_checks_and_drift(pages: LabPages) -> None:
    page = pages.open()
    page.get_by_role("button", name="Run all checks").click()
    wait_for_sentence(page, "pass: pods of different nodes see each other's address")
    wait_for_sentence(page, "Checks are done: 8 of 8 passed.")
    delete_route = [forked.labctl_program(), "exec", "node2", "--", "ip", "route", "del", "default"]
    subprocess.run(delete_route, check=True)
    try:
        wait_for_sentence(page, "Drift on node2: missing route default via 10.224.0.1 dev eth0")
        assert page.get_by_role("tab", name="Drift, 1 difference").count() == 1
        (marked,) = page.locator(".drift").all()
        assert marked.text_content() == "default via 10.224.0.1 dev eth0", "the route is marked, and not its device"
        assert page.get_by_role("button", name="node2, node").locator(".drift").count() == 1
        assert "line-through" in marked.evaluate("line => getComputedStyle(line).textDecoration")
        colour = "element => getComputedStyle(element).fill"
        assert marked.evaluate(colour) == page.locator(".badge .shape").first.evaluate(colour)
        assert page.get_by_role("button", name="node2, node").get_attribute("aria-label") == (
            "node2, node, 10.224.0.5 10.244.1.1, drift: missing route default via 10.224.0.1 dev eth0"
        )
    finally:
        labctl.up("kubenet")
    wait_for_sentence(page, "No difference from the definition any more.")


def test_the_page_is_in_the_language_of_the_server(browser: Browser, page_address: str, tmp_path: Path) -> None:
    if not (language.DIRECTORY / "ja").is_dir():
        pytest.skip("there is no Japanese catalogue")
    with PageServer(tmp_path, "--lang", "ja") as server, LabPages(browser, server.address) as opened:
        page = opened.open(locale="en-GB")
        assert page.locator("html").get_attribute("lang") == "ja"
        assert page.get_by_role("tab", name="チェック").count() == 1
        page.get_by_role("button", name="すべてチェック").click()
        wait_for_sentence(page, "チェックが終わりました。8 件中 8 件合格です。")
        page.keyboard.press("?")
        page.get_by_role("dialog", name="キー").wait_for()
        assert opened.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(pages: LabPages, scheme: str) -> None:
    """axe-core looks for missing names, wrong roles, and text with too little contrast."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: scripts/build-view --test installs it")
    page = pages.open(color_scheme=scheme, reduced_motion="reduce")
    page.evaluate(AXE.read_text())
    page.get_by_role("button", name="Run all checks").click()
    page.get_by_text("8 of 8 passed").first.wait_for()
    page.get_by_role("tab", name="Trace").click()
    page.get_by_role("combobox", name="From").select_option("a")
    page.get_by_role("combobox", name="To", exact=True).select_option("internet")
    page.get_by_role("button", name="Trace", exact=True).click()
    page.get_by_role("button", name="Step forward").click()
    focus_machine(page, "node1")
    found = {}
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(300)
        found[tab] = violations(page)
        if tab == "Machine":
            page.get_by_role("combobox", name="Machine").select_option("node1")
            page.get_by_text("Why is it here?").click()
            page.locator(".reason summary").first.click()
            page.wait_for_timeout(500)
            found["reasons"] = violations(page)
    page.keyboard.press("?")
    found["help"] = violations(page)
    assert {tab: lines for tab, lines in found.items() if lines} == {}


def violations(page: Page) -> list[str]:
    """What axe-core finds on the page as it is, one line for each element.

    The frame of a machine has its routes beside its name. They are not its label: a name with all routes would be long.
    """
    answer = page.evaluate("axe.run({resultTypes: ['violations']})")
    assert len(answer["passes"]) > 10
    return [
        f"{one['id']}: {json.dumps(node['target'])} {node['failureSummary']}"
        for one in answer["violations"]
        for node in one["nodes"]
        if one["id"] != "label-content-name-mismatch" or "machine-" not in str(node["target"])
    ]


def test_light_and_dark_follow_the_system_and_the_button_changes_them(pages: LabPages) -> None:
    page = pages.open(color_scheme="dark")
    page.evaluate(
        "window.look = () => getComputedStyle(document.documentElement).backgroundColor + getComputedStyle("
        "document.querySelector('.stage').shadowRoot.querySelector('[data-machine=node1] rect')).fill"
    )
    dark = page.evaluate("look()")
    page.emulate_media(color_scheme="light")
    page.wait_for_timeout(200)
    light = page.evaluate("look()")
    assert len(set(dark.split("rgb")[1:] + light.split("rgb")[1:])) == 4
    page.get_by_role("button", name="Colours: automatic").click()  # light
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(200)
    assert page.evaluate("look()") == light
    page.get_by_role("button", name="Colours: light").click()  # dark
    page.emulate_media(color_scheme="light")
    page.wait_for_function("dark => look() === dark", arg=dark)
    page.reload()
    page.get_by_role("button", name="Colours: dark").wait_for()


def test_with_less_motion_the_packet_does_not_move_by_itself(pages: LabPages) -> None:
    page = pages.open(reduced_motion="reduce")
    page.keyboard.press("2")
    page.get_by_role("combobox", name="From").select_option("a")
    page.get_by_role("combobox", name="To", exact=True).select_option("c")
    page.get_by_role("button", name="Trace", exact=True).click()
    packet = page.locator(".packet")
    packet.wait_for()
    first = packet.get_attribute("transform")
    page.wait_for_timeout(4000)
    assert packet.get_attribute("transform") == first
    page.get_by_role("button", name="Step forward").click()
    page.wait_for_timeout(100)
    second = packet.get_attribute("transform")
    assert second != first
    page.wait_for_timeout(500)
    assert packet.get_attribute("transform") == second


def test_everything_fits_a_projector_and_a_small_window(pages: LabPages) -> None:
    for size in (PROJECTOR, {"width": 1920, "height": 1080}, {"width": 640, "height": 900}):
        page = pages.open(viewport=size)
        overflow = page.evaluate("[document.body.scrollWidth - innerWidth, document.body.scrollHeight - innerHeight]")
        assert max(overflow) <= 0, size
        for name in ("a", "internet", "node2"):
            box = page.locator(f'g[data-machine="{name}"]').bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= size["width"]
