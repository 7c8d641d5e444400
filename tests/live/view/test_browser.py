"""The page in a browser, on a real lab: a packet ends where it ends, drift turns red, and a file needs no server."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import labctl
from tests.support import forked
from tests.support.page_server import IS_BUILT, STATIC, PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MAX_PAGE_BYTES = 500_000  # of the whole page with the state of a lab, compressed
pytestmark = pytest.mark.skipif(not IS_BUILT, reason="the page is not built: scripts/build-view builds it")


@pytest.fixture
def page(browser: Browser, page_address: str) -> Iterator[Page]:
    """The page in a new window; at the end it has reported no error, and asked nobody else for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 720}, reduced_motion="reduce")
    shown, problems = context.new_page(), []
    shown.on("pageerror", lambda error: problems.append(str(error)))
    shown.on("request", lambda request: None if request.url.startswith(page_address) else problems.append(request.url))
    shown.goto(page_address)
    shown.wait_for_selector('g[data-machine="a"]')
    yield shown
    context.close()
    labctl.up("kubenet")
    assert [one for one in problems if not one.startswith("data:")] == []


def exec_in(*words: str) -> None:
    subprocess.run([forked.labctl_program(), "exec", *words], check=True, stdout=subprocess.DEVNULL)


def choose_by_keyboard(page: Page, label: str, machine: str) -> None:
    page.get_by_role("combobox", name=label, exact=True).focus()
    page.keyboard.type(machine)


def trace_by_keyboard(page: Page, source: str, target: str) -> None:
    """Ask for a trace without a mouse."""
    page.get_by_role("tab", name="Trace").focus()
    page.keyboard.press("Enter")
    choose_by_keyboard(page, "From", source)
    choose_by_keyboard(page, "To", target)
    page.get_by_role("button", name="Trace", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_role("region", name="Player of the trace").wait_for()


def wait_for_last_place(page: Page, machine: str) -> None:
    """Go to the last step, and wait until the packet is at this machine: the page draws a step after the key."""
    slider = page.get_by_role("slider", name="Steps of the trace")
    slider.focus()
    page.keyboard.press("End")
    page.locator(f'[data-machine="{machine}"][aria-label*="the packet is here"]').wait_for()
    assert slider.evaluate("slider => slider.value === slider.max")


def test_a_trace_by_keyboard_comes_back_to_its_sender(page: Page) -> None:
    trace_by_keyboard(page, "a", "internet")

    wait_for_last_place(page, "a")


def test_a_lost_packet_stays_where_it_was_lost(page: Page) -> None:
    exec_in("fabric", "--", "ip", "route", "del", "10.244.1.0/24", "table", "100")
    trace_by_keyboard(page, "a", "c")

    wait_for_last_place(page, "fabric")
    page.get_by_text("fabric has no route to 10.244.1.2").first.wait_for()


def test_drift_that_a_shell_makes_turns_red_and_its_repair_ends_that(page: Page) -> None:
    marked = page.locator('g[data-device="node1/eth0"].drifted, g[data-device="node1/eth0"][class*="drift"]')
    exec_in("node1", "--", "ip", "link", "set", "eth0", "mtu", "1400")
    marked.first.wait_for(timeout=20_000)
    page.get_by_role("tab", name=re.compile("Drift")).click()
    page.get_by_text("mtu is 1400").first.wait_for()
    labctl.up("kubenet")
    marked.first.wait_for(state="detached", timeout=20_000)


def test_checks_turn_green(page: Page) -> None:
    page.get_by_role("button", name="Run all checks").click()
    page.get_by_text("8 of 8 passed", exact=True).wait_for(timeout=60_000)


def test_what_one_viewer_asks_all_see(page: Page, page_server: PageServer) -> None:
    page_server.post("trace", **{"from": "b", "to": "vm"})
    player = page.get_by_role("region", name="Player of the trace")
    player.get_by_text("10.244.0.3 → 10.225.0.4").wait_for(timeout=20_000)


def test_an_exported_file_needs_no_server(browser: Browser, page_server: PageServer, tmp_path: Path) -> None:
    file = tmp_path / "kubenet.html"
    words = [forked.labctl_program(), "view", "--export", str(file), "--record", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"lab": "kubenet", "file": str(file), "traces": 5}
    text = file.read_text()
    for secret in (page_server.path.strip("/"), str(Path.home()), str(tmp_path), str(STATIC)):
        assert secret not in text
    context = browser.new_context(offline=True, reduced_motion="reduce")
    shown, requests, problems = context.new_page(), [], []
    shown.on("request", lambda request: requests.append(request.url))
    shown.on("pageerror", lambda error: problems.append(str(error)))
    shown.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    shown.goto(file.as_uri())
    shown.get_by_text("8 of 8 passed", exact=True).wait_for()
    shown.get_by_role("tab", name="Trace").click()
    shown.get_by_role("button", name=re.compile("a (→|->) internet")).click()
    wait_for_last_place(shown, "a")
    context.close()

    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert problems == []
    assert len(gzip.compress(text.encode())) < MAX_PAGE_BYTES


def test_the_whole_page_is_small(page_server: PageServer) -> None:
    parts = [page_server.request("GET", name)[1] for name in ("", "view.js", "view.css")]
    parts.append(json.dumps(page_server.request("GET", "state")[1]))

    assert all(len(part) > 300 for part in parts)
    assert sum(len(gzip.compress(part.encode())) for part in parts) < MAX_PAGE_BYTES
