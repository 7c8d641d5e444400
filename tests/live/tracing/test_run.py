"""A trace on a live machine: under load, interrupted, killed, without tracefs, and what it leaves behind: nothing."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from labctl.errors import LockError
from labctl.kernel.firewall import backend
from labctl.kernel.host import lab_state, paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import nft_tables
from labctl.kernel.rule_trace import nflog, trace_setup, tracefs
from labctl.lab import lifecycle
from labctl.tracing import instruments
from tests.support import forked
from tests.support.trace_cases import LABS
from tests.support.traces import broken, trace_lab, traced

pytestmark = pytest.mark.firewall

LAB = "traced-road"  # no other test has a lab of this name: tracing instances of all workers lie side by side
NODES = ("h1", "r1", "r2", "h2")
FLOOD = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, 10, 3)
sock.connect((sys.argv[1], 9))
data = bytes(int(sys.argv[2]))
print("begun", flush=True)
while True:
    for _ in range(1000):
        try:
            sock.send(data)
        except OSError:
            pass
"""


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lifecycle.Definition]:
    with trace_lab(tmp_path_factory.mktemp("road"), LABS["road"], LAB) as definition:
        yield definition


@pytest.fixture(autouse=True)
def mended(road: lifecycle.Definition) -> Iterator[None]:
    yield
    lifecycle.up(road)


def needs_nf_log() -> None:
    """Only with legacy tables does a trace change a setting, by which the tests see that it has begun."""
    if backend.backend_of(LAB) == "nft":
        pytest.skip("nf_tables reports rules without nf_log")


@contextmanager
def flood(address: str, size: int) -> Iterator[None]:
    """Datagrams from h1 as fast as they go."""
    words = ["ip", "netns", "exec", paths.netns_name(LAB, "h1"), sys.executable, "-c", FLOOD, address, str(size)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def instances() -> list[str]:
    root = tracefs._open()
    try:
        return [name for name in os.listdir(f"/proc/self/fd/{root}/instances") if name.startswith(f"labctl-{LAB}-")]
    finally:
        os.close(root)


def settings() -> dict[str, object]:
    """What a trace changes while it runs, and what it must never change."""
    found: dict[str, object] = {"records": sorted(path.name for path in paths.state_dir().glob(".trace*"))}
    with NetnsThread() as inside:
        for node in NODES:
            path = paths.netns_path(LAB, node)
            found[node] = (inside.run(path, nflog.read_loggers), inside.run(path, nft_tables.tables))
    root = tracefs._open()
    try:
        for name in ("trace_clock", "tracing_on", "set_event", "current_tracer", "buffer_size_kb"):
            found[name] = Path(f"/proc/self/fd/{root}/{name}").read_text()
    finally:
        os.close(root)
    found["instances"] = instances()
    found["mounts"] = Path("/proc/self/mounts").read_text()
    found["machine"] = nflog.read_loggers()
    return found


def test_a_trace_leaves_nothing_behind() -> None:
    before = settings()
    traced(LAB, "h1 h2")

    assert settings() == before


def test_a_trace_that_cannot_begin_leaves_nothing_behind() -> None:
    """The tracing instance exists before the names are looked up."""
    before = settings()
    words = [forked.labctl_program(), "trace", "-l", LAB, "h1", "no-such-machine"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert done.returncode == 2, done.stderr
    assert "no-such-machine" in done.stderr
    assert settings() == before


def test_under_load_on_the_same_path_the_right_packet_is_blamed() -> None:
    """The flood has the probe's length and its way, and is dropped where the probe is, for another reason."""
    broken(LAB, "r2: ip link set h2 mtu 1280")
    broken(LAB, "r2: iptables-legacy -t raw -A PREROUTING -p udp --dport 9 -j DROP")
    named = 0
    with flood("10.2.0.2", 1400):
        until = time.monotonic() + 60
        for number in itertools.count(1):
            if number > 12 and (named or time.monotonic() > until):
                break
            _, story = traced(LAB, "h1 h2 --size 1400")
            kernel = [note.text for note in story.facts if note.label == "kernel"]
            assert story.why is not None, story
            assert story.why.kind == "too-big", story
            assert all("PKT_TOO_BIG" in text for text in kernel), kernel
            named += len(kernel)
            assert not any(note.label == "rule" for leg in story.legs for step in leg.steps for note in step.notes)
    assert named >= 1, f"the kernel's reason was found in none of {number - 1} traces"  # how often hangs on the load


def test_under_load_a_delivered_probe_is_told_whole() -> None:
    broken(LAB, "r2: iptables-legacy -t raw -A PREROUTING -p udp --dport 9 -j DROP")
    with flood("10.2.0.2", 61):
        for probe in ("h1 h2", "h1 h2 --udp 53 --listen", "h1 h2 --tcp 80 --listen") * 2:
            _, story = traced(LAB, probe)
            assert story.verdict == "answered", story
            assert [step.node for step in story.legs[0].steps] == list(NODES)
            assert [step.node for step in story.legs[1].steps] == list(reversed(NODES))


def test_under_load_a_rule_of_the_flood_is_not_the_probes() -> None:
    broken(LAB, "r2: iptables-legacy -t raw -A PREROUTING -p udp --dport 9 -j DROP")
    broken(LAB, "h2: ip route del default")
    with flood("10.2.0.2", 61):
        _, story = traced(LAB, "h1 h2")

    assert story.why is not None
    assert story.why.kind == "no-route-back"


def test_without_tracefs_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(trace_setup, "Tracing", refuse)
    broken(LAB, "r2: sysctl -qw net.ipv4.ip_forward=0")
    _, story = traced(LAB, "h1 h2")

    assert story.why is not None
    assert story.why.kind == "forwarding-off"
    assert "the kernel's drops cannot be observed: Operation not permitted" in story.unknown


def test_without_nf_tables_counters_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(instruments, "ProbeMarkTable", refuse)
    broken(LAB, "r2: iptables-legacy -I FORWARD -d 10.2.0.2 -j DROP")
    _, story = traced(LAB, "h1 h2")

    assert story.why is not None
    assert story.why.kind == "rule"
    assert any("filter/FORWARD rule 1: -d 10.2.0.2/32 -j DROP" in note.text for note in story.facts)
    assert any("in r2 are known only by their counters" in text for text in story.unknown)


def started(*words: str) -> subprocess.Popen[str]:
    """`labctl trace` waiting for a neighbour that never answers, with all its instruments set up. It is stopped there
    (SIGSTOP), so that the tests do not race with its end: a real start, because the signal must reach it itself."""
    command = [sys.executable, "-m", "labctl", "trace", "-l", LAB, "h1", "10.2.0.77", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 10
    with NetnsThread() as inside:
        path = paths.netns_path(LAB, "r2")
        while (
            inside.run(path, nflog.read_loggers)["ip"] != "nfnetlink_log"
            or not inside.run(path, nft_tables.tables)
            or not any(name.endswith(f"-{process.pid}") for name in instances())
        ):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGSTOP)
    assert process.poll() is None
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_trace_leaves_nothing_behind(number: signal.Signals, code: int) -> None:
    needs_nf_log()
    before = settings()
    process = started()
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=20)

    assert process.returncode == code, err
    assert settings() == before


@pytest.mark.parametrize("verb", ["list-as-root: status", "exec h1 -- true"])
def test_what_a_killed_trace_left_is_swept_by_the_next_command(verb: str) -> None:
    needs_nf_log()
    before = settings()
    process = started()
    process.kill()
    process.communicate()
    assert settings() != before
    words = verb.split(": ")[-1].split()
    done = subprocess.run(
        [forked.labctl_program(), *words[:1], "-l", LAB, *words[1:]],
        capture_output=True,
        text=True,
        check=True,
    )

    assert f"a trace of lab {LAB} was killed; removed what it left: " in done.stderr
    assert "nf_log in r1, r2;" in done.stderr
    assert "a tracing instance" in done.stderr
    assert settings() == before


def test_a_running_trace_is_not_swept() -> None:
    needs_nf_log()
    process = started()
    done = subprocess.run([forked.labctl_program(), "status", "-l", LAB], capture_output=True, text=True, check=False)
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=20)

    assert "was killed" not in done.stderr
    assert process.returncode == 1
    assert "r2/h2 gets no answer for 10.2.0.77" in out


def test_traces_at_one_time_are_told_whole_one_after_the_other() -> None:
    """The kernel gives a namespace's rule reports to one reader, and a trace puts back who that was."""
    broken(LAB, "r2: iptables-legacy -I FORWARD -d 10.2.0.2 -j DROP")
    before = settings()
    words = [forked.labctl_program(), "trace", "-l", LAB, "h1", "h2"]
    traces = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = [trace.communicate(timeout=40)[0] for trace in traces]

    for text in told:
        assert "why       a rule of FORWARD in r2 dropped the request" in text, text
        assert "rule   filter/FORWARD rule 1: -d 10.2.0.2/32 -j DROP" in text, text
        assert "unknown" not in text, text
    assert settings() == before


def test_a_trace_waits_for_who_holds_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_state, "lock", partial(lab_state.lock, timeout_s=0.1))
    with lab_state.lock(LAB), pytest.raises(LockError, match=rf"lab {LAB} is held by .*pid"):
        traced(LAB, "h1 h2")


def test_the_command_line_prints_one_document_and_keeps_the_packets(tmp_path: Path) -> None:
    file = tmp_path / "packets.pcapng"
    words = ["trace", "-l", LAB, "h1", "h2", "--json", "--pcap", str(file)]
    done = subprocess.run([forked.labctl_program(), *words], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)

    assert document["verdict"] == "answered"
    assert [step["node"] for step in document["story"]["legs"][0]["steps"]] == list(NODES)
    assert file.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    assert b"h1/eth0" in file.read_bytes()
