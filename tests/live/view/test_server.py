"""`labctl view` on a real lab: what the page gets, and what is left when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import labctl
from labctl.kernel.host import paths
from tests.support import forked
from tests.support.machine import changed, fingerprint
from tests.support.page_server import PageServer

VIEWERS = 30
PATIENCE_S = 3  # seconds for which the server waits for requests that are not answered


@pytest.fixture(autouse=True)
def repaired(page_server: PageServer) -> Iterator[None]:
    """Every test begins with the lab as it is defined."""
    yield
    labctl.up("kubenet")
    assert page_server.request("GET", "state")[1]["drift"] == []


def run(*words: str) -> None:
    subprocess.run([forked.labctl_program(), "exec", *words], check=True, stdout=subprocess.DEVNULL)


def workers(server: PageServer) -> list[int]:
    """The child processes of the server."""
    text = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in text.split()]


def test_the_state_has_the_drawing_machines_and_checks(page_server: PageServer) -> None:
    with page_server.events() as events:
        code, state = page_server.request("GET", "state")
        while not state["faults"]:  # they take long on a busy machine, and come later then
            state |= events.wait("state")

    assert (code, state["lab"], state["model"]) == (200, "kubenet", "kubenet")
    assert 'data-machine="node1"' in state["svg"]
    assert {"name": "a", "role": "pod", "node": "node1", "within": None, "addresses": ["10.244.0.2"]} in state[
        "machines"
    ]
    assert {"name": "a", "text": "a (10.244.0.2)"} in state["targets"]
    assert "node1/eth0" in state["points"]
    assert (state["drift"], state["broken"], state["busy"], state["ended"]) == ([], [], None, False)
    assert {check["state"] for check in state["checks"]} == {"unknown"}
    assert "route-missing" in {fault["id"] for fault in state["faults"]}


def test_a_trace_is_its_steps_and_all_viewers_get_it(page_server: PageServer) -> None:
    with page_server.events() as events:
        code, trace = page_server.post("trace", **{"from": "a", "to": "internet"})
        seen = events.wait("trace")

    assert (code, trace["verdict"]) == (200, "answered")
    assert seen == trace
    there = [step for step in trace["steps"] if step["leg"] == "request"]
    assert [step["machine"] for step in there] == ["a", "node1", "fabric", "internet"]
    assert [step["cable"] for step in there[1:]] == [
        f"a/eth0 node1/{there[1]['device']}".replace("node1/node1/", "node1/"),
        "fabric/node1 node1/eth0",
        "fabric/pip internet/eth0",
    ]
    assert there[1]["nat"]["before"] == "10.244.0.2 > 203.0.113.1"
    assert there[1]["nat"]["after"] == "10.224.0.4 > 203.0.113.1"
    assert not any(step["lost"] for step in trace["steps"])


def test_a_lost_packet_ends_where_it_was_lost(page_server: PageServer) -> None:
    code, broken = page_server.post("break", fault="forwarding-off", object="node1")
    assert (code, broken["broken"][0]["id"]) == (200, "forwarding-off")
    _, trace = page_server.post("trace", **{"from": "a", "to": "c"})

    assert trace["verdict"] == "lost"
    assert [step["machine"] for step in trace["steps"] if step["lost"]] == ["node1"]
    assert "IPv4 forwarding is off" in trace["steps"][-1]["cause"]
    assert page_server.post("fix")[1]["broken"] == []


def test_checks_turn_green_one_after_the_other(page_server: PageServer) -> None:
    with page_server.events() as events:
        assert page_server.post("check")[0] == 202
        assert events.wait("busy") == {"verb": "check"}
        seen = []
        while len(seen) < 16:
            check = events.wait("check")
            seen.append((check["id"], check["state"]))
        assert events.wait("busy") is None

    assert seen == [(str(number), state) for number in range(8) for state in ("running", "pass")]
    assert {check["state"] for check in page_server.request("GET", "state")[1]["checks"]} == {"pass"}


def test_one_verb_works_at_a_time_and_tables_can_be_read_meanwhile(page_server: PageServer, tmp_path: Path) -> None:
    page_server.post("break", fault="forwarding-off", object="node1")  # so that checks wait for answers
    with PageServer(tmp_path / "static") as server, server.events() as events:
        server.post("check")
        events.wait("check")
        code, refused = server.post("trace", **{"from": "a", "to": "c"})
        shown, machine = server.request("GET", "machine/node1")
        assert server.request("GET", "state")[1]["busy"] == {"verb": "check"}

    assert (code, refused["error"]) == (409, "check runs")
    assert shown == 200
    assert {"links", "addresses", "routes"} <= {table["title"].split(" ")[0] for table in machine["tables"]}


def test_another_process_that_works_on_the_lab_is_named(page_server: PageServer) -> None:
    from labctl.kernel.host import lab_state

    with lab_state.lock("kubenet"):
        code, refused = page_server.post("trace", **{"from": "a", "to": "c"})

    assert code == 409
    assert f"(pid {os.getpid()}) works on the lab" in refused["error"]


def test_drift_and_its_end_are_events(page_server: PageServer) -> None:
    with page_server.events() as events:
        assert events.wait("state")["drift"] == []
        run("node1", "--", "ip", "link", "set", "eth0", "mtu", "1400")
        drift = events.wait("drift")
        run("node1", "--", "ip", "link", "set", "eth0", "mtu", "1500")
        assert events.wait("drift") == []

    assert [(one["machine"], one["device"], one["kind"]) for one in drift] == [("node1", "node1/eth0", "changed")]


def test_a_trace_of_another_process_is_no_drift(page_server: PageServer) -> None:
    with page_server.events() as events:
        events.wait("state")
        for _ in range(6):
            subprocess.run([forked.labctl_program(), "trace", "a", "internet"], check=True, stdout=subprocess.DEVNULL)
            page_server.post("trace", **{"from": "a", "to": "internet"})

        assert "drift" not in set(events.names())


def test_a_hidden_fault_is_not_named_until_it_is_fixed(page_server: PageServer) -> None:
    code, broken = page_server.post("break", random=True)
    assert (code, broken["broken"]) == (200, [{"hidden": True}])
    state = page_server.request("GET", "state")[1]
    assert (state["broken"], state["drift"]) == ([{"hidden": True}], [])
    assert " is fixed" in page_server.post("fix")[1]["text"]


def test_a_capture_flows_until_it_is_stopped(page_server: PageServer) -> None:
    with page_server.events() as events:
        code, running = page_server.post("capture", point="node1/eth0", filter="icmp")
        assert (code, running["running"]) == (200, True)
        assert page_server.post("capture")[0] == 409
        run("a", "--", "ping", "-c", "1", "c")
        lines = events.wait("capture") and events.wait("capture")["lines"]
        assert len(workers(page_server)) == 3
        assert page_server.request("DELETE", "capture")[0] == 200
        assert events.wait("capture") == {"running": False, "why": "stopped"}

    assert "node1/eth0" in lines[0]
    assert "a > c  echo request" in lines[0]
    assert len(workers(page_server)) == 2


def test_a_capture_that_no_page_shows_ends(page_server: PageServer) -> None:
    with page_server.events():
        page_server.post("capture")
    deadline = time.monotonic() + 15
    while page_server.request("GET", "state")[1]["capture"]["running"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_filter_that_tcpdump_refuses_is_an_error(page_server: PageServer) -> None:
    code, refused = page_server.post("capture", filter="icmp and and")

    assert (code, refused["kind"]) == (400, "usage")
    assert "syntax error" in refused["error"]
    assert page_server.request("GET", "state")[1]["capture"]["running"] is False


def test_unknown_names_have_a_suggestion(page_server: PageServer) -> None:
    code, refused = page_server.post("trace", **{"from": "a", "to": "node3"})
    assert (code, "node1" in refused["hint"]) == (400, True)
    code, refused = page_server.request("GET", "machine/nod1")
    assert (code, refused["hint"].startswith("did you mean node1?")) == (404, True)
    code, refused = page_server.post("break", fault="rout-missing")
    assert (code, "route-missing" in refused["hint"]) == (400, True)


def test_thirty_viewers_are_fed_by_one_look(page_server: PageServer) -> None:
    streams = [page_server.events() for _ in range(VIEWERS)]
    try:
        assert len(workers(page_server)) == 2
        run("node1", "--", "ip", "route", "add", "198.51.100.0/24", "dev", "eth0")
        drifts = [one.wait("drift") for one in streams]
        trace = page_server.post("trace", **{"from": "a", "to": "c"})[1]
        assert [one.wait("trace")["id"] for one in streams] == [trace["id"]] * VIEWERS
    finally:
        for one in streams:
            one.__exit__()

    assert all(drift == drifts[0] for drift in drifts)
    assert drifts[0][0]["kind"] == "extra"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_end_during_a_trace_and_a_capture_leaves_nothing(
    page_server: PageServer, tmp_path: Path, number: signal.Signals
) -> None:
    with PageServer(tmp_path / "static") as server, server.events() as events:
        server.post("capture")
        server.post("check")
        events.wait("check")
        children = workers(server)
        code, errors = server.stop(number)
        events.wait("closed")

    assert (code, errors) == (0, "")
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    assert labctl.RunningLab("kubenet").status() == ()


def test_the_end_interrupts_a_trace_that_somebody_waits_for(page_server: PageServer, tmp_path: Path) -> None:
    with PageServer(tmp_path / "static") as server, server.events() as events, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.post, "trace", **{"from": "internet", "to": "c"})
        while events.wait("busy") is None:
            pass
        begun = time.monotonic()
        code, errors = server.stop()
        took_s = time.monotonic() - begun
        status, answer = waiting.result()

    assert (code, errors) == (0, "")
    assert took_s < PATIENCE_S
    assert (status, answer["kind"]) == (500, "ended")
    assert labctl.RunningLab("kubenet").status() == ()


@pytest.mark.parametrize(
    "request_text",
    ["nonsense\r\n\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"],
)
def test_a_strange_request_prints_nothing(page_server: PageServer, tmp_path: Path, request_text: str) -> None:
    with PageServer(tmp_path / "static") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(request_text.encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 4")
        assert server.stop() == (0, "")


def test_a_killed_server_leaves_no_process(page_server: PageServer, tmp_path: Path) -> None:
    with PageServer(tmp_path / "static") as server, server.events() as events:
        server.post("check")
        events.wait("check")
        children = workers(server)
        server.process.kill()
        deadline = time.monotonic() + 10
        while left := [pid for pid in children if Path(f"/proc/{pid}").exists()]:
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


def test_the_end_of_the_lab_and_its_return_are_events(tmp_path: Path) -> None:
    labctl.up("docker-bridge", name="gone")
    with PageServer(tmp_path / "static", "gone") as server, server.events() as events:
        events.wait("state")
        labctl.down("gone")
        assert events.wait("end") == {"lab": "gone"}
        code, refused = server.post("trace", **{"from": "c1", "to": "c2"})
        assert (code, refused["error"]) == (410, "the lab gone does not run any more")
        assert server.request("GET", "state")[1]["ended"] is True
        labctl.up("docker-bridge", name="gone", set={"hosts.host1.containers": ["c1", "c2", "c3"]})
        state = events.wait("state")
        assert "c3" in {machine["name"] for machine in state["machines"]}
        assert server.post("trace", **{"from": "c1", "to": "c3"})[1]["verdict"] == "answered"
    labctl.down("gone")


def test_the_three_laws_hold_for_a_lab_that_is_watched(tmp_path: Path) -> None:
    before = fingerprint()
    lab = labctl.up("kubenet", name="watched")
    with PageServer(tmp_path / "static", "watched") as server, server.events() as events:
        server.post("capture")
        server.post("trace", **{"from": "a", "to": "internet"})
        assert lab.status() == ()
        assert labctl.up("kubenet", name="watched").result.changes == ()  # type: ignore[union-attr]
        assert set(labctl.down("watched")) == {"a", "b", "c", "fabric", "internet", "node1", "node2", "vm"}
        events.wait("end")
        assert server.stop() == (0, "")

    assert changed(before, fingerprint()) == {}
    assert "watched" not in paths.labs()


def test_it_listens_on_the_loopback_address_only(page_server: PageServer) -> None:
    listening = subprocess.run(["ss", "-Htlnp"], capture_output=True, text=True, check=True).stdout
    own = [line.split()[3] for line in listening.splitlines() if f"pid={page_server.process.pid}," in line]

    assert own == [f"127.0.0.1:{page_server.port}"]
    command_line = Path(f"/proc/{page_server.process.pid}/cmdline").read_text()
    assert page_server.path.strip("/") not in command_line
