"""The page in a browser, on a real lab: checks, traces, faults, captures, and what happens around it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import labctl
from tests.support import forked
from tests.support.lab_page import DRAWN, LabPages, click_machine, wait_for_sentence

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

    from tests.support.page_server import PageServer

playwright = pytest.importorskip("playwright.sync_api")

# every verb that the page says is running, and whether its button can be pressed meanwhile
WATCH_BUSY = """() => {
  window.busy = new Set();
  new MutationObserver(() => {
    const verb = document.querySelector(".pill.calm")?.textContent;
    if (verb) busy.add(`${verb}, ${document.querySelector("#panel button.main").disabled ? "disabled" : "enabled"}`);
  }).observe(document.body, {subtree: true, childList: true, attributes: true});
}"""
MAX_LOOKS = 2000  # at the packet while it moves
NO_ROUTE = "node2 has no route to 10.244.0.2 (a) in table main"
# every state that each check has
WATCH_CHECKS = """() => {
  const items = [...document.querySelectorAll("#panel li")];
  window.seen = items.map(() => []);
  const note = (changes) => changes.forEach(({target}) => seen[items.indexOf(target)].push(target.className));
  items.forEach((item) => new MutationObserver(note).observe(item, {attributeFilter: ["class"]}));
}"""


@pytest.fixture
def pages(browser: Browser, page_address: str) -> Iterator[LabPages]:
    """Opens the page; at the end, the lab is as it is defined."""
    with LabPages(browser, page_address) as opened:
        yield opened
    labctl.up("kubenet")


def run(*words: str) -> str:
    done = subprocess.run([forked.labctl_program(), *words], check=True, capture_output=True, text=True)
    return done.stdout


def start_trace(page: Page, source: str, target: str) -> None:
    page.get_by_role("tab", name="Trace").click()
    click_machine(page, source)
    click_machine(page, target)
    page.get_by_role("button", name="Trace", exact=True).click()
    page.get_by_role("region", name="Player of the trace").wait_for()


def middle(box: dict[str, float] | None) -> tuple[float, float]:
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def is_inside(point: tuple[float, float], locator: Locator) -> bool:
    box = locator.bounding_box()
    assert box is not None
    return box["x"] <= point[0] <= box["x"] + box["width"] and box["y"] <= point[1] <= box["y"] + box["height"]


def test_checks_run_to_their_results_and_show_their_evidence(pages: LabPages) -> None:
    page = pages.open()
    items = page.get_by_role("tabpanel").get_by_role("listitem")
    assert items.count() == 8
    assert items.first.inner_text().startswith("not run")
    page.evaluate(WATCH_CHECKS)
    page.get_by_role("button", name="Run all checks").click()
    page.get_by_text("8 of 8 passed").first.wait_for()
    assert page.evaluate("seen") == [["item running", "item pass"]] * 8
    first = items.first
    assert first.inner_text().startswith("pass")
    first.locator("summary").click()
    assert "64 bytes from 10.244.0.3" in first.locator("pre").inner_text()
    assert pages.errors == []


def test_a_failed_check_leads_to_the_place_of_the_loss(pages: LabPages, page_server: PageServer) -> None:
    page = pages.open(reduced_motion="reduce")
    code, _ = page_server.post("break", fault="route-missing", object="node2/0.0.0.0/0")
    assert code == 200
    page.get_by_role("button", name="Run all checks").click()
    failed = page.locator("li.fail", has_text="pods of different nodes see each other's address")
    failed.wait_for(timeout=60_000)
    assert "the reply was last seen entering node2" in failed.inner_text()
    page.get_by_text("Checks are running").first.wait_for(state="detached")
    failed.get_by_role("button", name="Trace a → c").click()
    player = page.get_by_role("region", name="Player of the trace")
    loss = page.locator(".loss")
    for _ in range(6):  # 5 hops of the request, then the reply
        player.get_by_role("button", name="Step forward").click()
    assert NO_ROUTE in player.inner_text()
    assert loss.locator("text").text_content() == "Lost here"
    assert is_inside(middle(loss.locator("circle").bounding_box()), page.locator('[data-device="node2/cbr0"]'))
    assert page.locator(".lost[data-machine]").get_attribute("data-machine") == "node2"
    wait_for_sentence(page, f"Lost here: the reply was last seen entering node2/cbr0: {NO_ROUTE}")
    page.get_by_role("tab", name="Break, 1 fault").click()
    page.get_by_role("button", name="Fix: route-missing on node2/0.0.0.0/0").click()
    page.get_by_text("route-missing on node2/0.0.0.0/0 is fixed").first.wait_for()
    page.get_by_text("as defined", exact=True).wait_for()
    assert pages.errors == []


def test_the_packet_goes_from_device_to_device_and_its_addresses_change_where_nat_is(pages: LabPages) -> None:
    page = pages.open(reduced_motion="reduce")
    start_trace(page, "a", "internet")
    packet = page.locator(".packet")
    places = (
        ("a/eth0", "10.244.0.2 → 203.0.113.1"),
        ("node1/eth0", "10.224.0.4 → 203.0.113.1"),
        ("fabric/pip", "203.0.113.50 → 203.0.113.1"),
        ("internet/eth0", "203.0.113.50 → 203.0.113.1"),
        ("internet/eth0", "203.0.113.1 → 203.0.113.50"),
        ("fabric/node1", "203.0.113.1 → 10.224.0.4"),
        ("node1/veth86f7e437", "203.0.113.1 → 10.244.0.2"),
        ("a/eth0", "203.0.113.1 → 10.244.0.2"),
    )
    for number, (device, addresses) in enumerate(places):
        if number:
            page.get_by_role("button", name="Step forward").click()
        page.get_by_text(f"{number + 1} / 8").wait_for()
        page.wait_for_timeout(50)
        assert packet.locator("text").text_content() == addresses
        at = middle(packet.locator(".dot").bounding_box())
        assert is_inside(at, page.locator(f'[data-device="{device}"]')), device
    page.get_by_role("button", name="Step back").click()
    page.get_by_text("7 / 8").wait_for()
    assert pages.errors == []


def test_a_playing_trace_goes_on_by_itself_and_stops_at_the_end(pages: LabPages) -> None:
    page = pages.open()
    page.keyboard.press("2")
    page.get_by_role("combobox", name="From").select_option("a")
    page.get_by_role("combobox", name="To", exact=True).select_option("b")
    page.get_by_role("button", name="Trace", exact=True).click()
    player = page.get_by_role("region", name="Player of the trace")
    player.get_by_role("combobox", name="Speed").select_option("2")
    player.get_by_role("button", name="Pause").wait_for()
    steps, trails = 6, set()
    for _ in range(MAX_LOOKS):
        trails.add(page.locator(".trail").get_attribute("points"))
        if not player.get_by_role("button", name="Pause").count():
            break
    assert len(trails) > steps + 1, "the packet jumps from one step to the next"  # and it begins without a trail
    player.get_by_role("button", name="Play").wait_for()
    assert player.get_by_text(f"{steps} / {steps}").is_visible()
    assert "Answered" in player.inner_text()


def test_all_viewers_see_a_trace_a_fault_and_who_is_busy(pages: LabPages) -> None:
    teacher, projector = pages.open(), pages.open(reduced_motion="reduce")
    start_trace(teacher, "c", "vm")
    wait_for_sentence(projector, "request: c, eth0, 10.244.1.2 → 10.225.0.4")
    teacher.get_by_role("tab", name="Break").click()
    teacher.get_by_role("searchbox").fill("forwarding-off")
    teacher.get_by_role("combobox", name="Object of forwarding-off").select_option("node1")
    teacher.get_by_role("button", name="Break: forwarding-off").click()
    projector.get_by_role("tab", name="Break, 1 fault").wait_for()
    projector.get_by_role("tab", name=re.compile(r"Drift, \d+ difference")).wait_for()
    teacher.get_by_role("button", name="Fix everything").click()
    projector.get_by_role("tab", name="Break", exact=True).wait_for()
    teacher.get_by_role("tab", name="Checks").click()
    projector.evaluate(WATCH_BUSY)
    teacher.get_by_role("button", name="Run all checks").click()
    wait_for_sentence(projector, "Checks are done: 8 of 8 passed.")
    projector.get_by_text("labctl check is running").wait_for(state="detached")
    assert "labctl check is running, disabled" in projector.evaluate("[...busy]")
    assert projector.get_by_role("button", name="Run all checks").is_enabled()
    assert pages.errors == []


def test_a_hidden_fault_is_not_named(pages: LabPages) -> None:
    page = pages.open()
    page.get_by_role("tab", name="Break").click()
    page.get_by_role("button", name="Random, hidden fault").click()
    page.get_by_text("A hidden fault: find it.").wait_for()
    assert page.get_by_role("button", name="Fix: ").count() == 0
    page.get_by_role("button", name="Fix everything").click()
    page.get_by_text("is fixed").first.wait_for()


def test_captured_packets_flow_until_stop(pages: LabPages) -> None:
    page = pages.open()
    page.get_by_role("tab", name="Capture").click()
    page.get_by_role("combobox", name="Where").select_option("node1/eth0")
    page.get_by_role("textbox", name="Filter").fill("icmp")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("button", name="Stop").wait_for()
    run("exec", "a", "--", "ping", "-c", "2", "-i", "0.2", "internet")
    page.get_by_text("4 packets", exact=True).wait_for()
    lines = page.get_by_role("list", name="Captured packets").get_by_role("listitem").all_inner_texts()
    assert len(lines) == 4
    assert "node1/eth0 >  node1 > internet  echo request" in lines[0]
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Start").wait_for()
    run("exec", "a", "--", "ping", "-c", "1", "internet")
    page.wait_for_timeout(500)
    assert page.get_by_text("4 packets", exact=True).is_visible()
    assert pages.errors == []


def test_what_the_server_refuses_is_shown_with_its_hint(pages: LabPages) -> None:
    page = pages.open()
    page.get_by_role("tab", name="Capture").click()
    page.get_by_role("textbox", name="Filter").fill("icmp and (")
    page.get_by_role("button", name="Start").click()
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "can't parse filter expression" in alert.inner_text()
    assert "man pcap-filter" in alert.inner_text()
    alert.get_by_role("button", name="Close").click()
    alert.wait_for(state="detached")


def test_tables_mark_what_has_changed(pages: LabPages) -> None:
    page = pages.open()
    page.keyboard.press("3")
    click_machine(page, "node1")
    page.get_by_role("heading", name="iptables -t nat").wait_for()
    assert page.locator("tr.changed").count() == 0
    run("exec", "a", "--", "ping", "-c", "1", "internet")
    page.get_by_role("button", name="Read again").click()
    changed = page.locator("tr.changed", has_text="MASQUERADE")
    changed.first.wait_for()


def test_the_page_connects_again_when_the_server_answers_again(pages: LabPages) -> None:
    page = pages.new()
    page.route("**/events", lambda route: route.abort())
    page.goto(pages.address)
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "The server does not answer" in alert.inner_text()
    page.unroute("**/events")
    page.wait_for_selector(DRAWN)
    alert.wait_for(state="detached")
    assert page.get_by_role("button", name="Run all checks").is_enabled()


def test_a_lab_that_is_gone_is_said_and_its_return_seen(pages: LabPages) -> None:
    page = pages.open()
    labctl.down("kubenet")
    page.get_by_text("This lab is no longer there").wait_for()
    assert page.get_by_role("button", name="Run all checks").is_disabled()
    assert page.locator(DRAWN).is_visible(), "the last picture stays"
    labctl.up("kubenet")
    page.get_by_text("This lab is no longer there").wait_for(state="detached")
    page.get_by_role("button", name="Run all checks").click()
    page.get_by_text("8 of 8 passed").first.wait_for()


def test_the_wheel_zooms_and_a_drag_moves_the_drawing(pages: LabPages) -> None:
    page = pages.open()
    machine = page.locator('g[data-machine="node1"]')
    before = machine.bounding_box()
    assert before is not None
    at = middle(before)
    page.mouse.move(*at)
    page.mouse.wheel(0, -400)
    page.wait_for_function("w => document.querySelector('.stage').shadowRoot.querySelector('#machine-node1')"
                           ".getBoundingClientRect().width > w * 1.3", arg=before["width"])  # fmt: skip
    zoomed = middle(machine.bounding_box())
    page.mouse.down()
    page.mouse.move(at[0] + 80, at[1] - 40, steps=4)
    page.mouse.up()
    moved = middle(machine.bounding_box())
    assert (round(moved[0] - zoomed[0]), round(moved[1] - zoomed[1])) == (80, -40)
    assert page.get_by_role("tab", name="Checks").get_attribute("aria-selected") == "true", "a drag is not a click"
    page.keyboard.press("0")
    after = machine.bounding_box()
    assert after is not None
    assert after == pytest.approx(before, abs=4)  # the frame below the pointer is thicker


def test_a_device_says_why_it_is_there_and_what_breaks_without_it(pages: LabPages) -> None:
    page = pages.open()
    page.locator('[data-device="node1/cbr0"]').click()
    reasons = page.locator(".reasons")
    reasons.get_by_role("heading", name="Why is it here?").wait_for()
    assert reasons.get_by_role("combobox", name="Device").input_value() == "node1/cbr0"
    first, *others = reasons.locator(".reason").all()
    assert "It connects the pods of node1, as a switch" in first.inner_text()
    assert "made by the kubelet (kubenet)" in first.inner_text()
    assert len(others) == 1
    assert "address 10.244.0.1/24" in others[0].inner_text()
    first.locator("summary").click()
    first.get_by_text("bridge-down").wait_for()
    assert "ip link add cbr0" in first.locator("pre").inner_text()
    reasons.get_by_role("combobox", name="Device").select_option(label="the whole machine")
    assert reasons.locator(".reason").count() > 30
    click_machine(page, "vm")
    page.get_by_text("vm, vm, 10.225.0.4").wait_for()
    assert "node1" not in reasons.inner_text()
    assert pages.errors == []


def test_an_exported_file_plays_its_traces_without_a_server(pages: LabPages, tmp_path: Path) -> None:
    file = tmp_path / "kubenet.html"
    run("view", "--export", str(file), "--record")
    page = pages.new(reduced_motion="reduce", offline=True)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector(DRAWN)
    page.get_by_text("8 of 8 passed").first.wait_for()
    assert [tab.strip() for tab in page.get_by_role("tab").all_inner_texts()] == ["Checks", "Trace", "Machine", "Drift"]
    assert page.get_by_role("button", name="Run all checks").count() == 0
    page.get_by_role("tab", name="Trace").click()
    page.get_by_role("button", name="ping a → internet").click()
    for _ in range(3):
        page.get_by_role("button", name="Step forward").click()
    wait_for_sentence(page, "Step 4 of 8, request: internet, eth0, 203.0.113.50 → 203.0.113.1")
    click_machine(page, "node1")
    page.get_by_role("heading", name="iptables -t nat").wait_for()
    page.get_by_text("Why is it here?").click()
    page.get_by_text("It connects the pods of node1, as a switch").wait_for()
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert pages.errors == []
