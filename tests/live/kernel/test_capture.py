"""capture: the frames of every device in one stream, as lines and as a file that Wireshark's own program reads."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from labctl.kernel.capture.stream import Capture
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from tests.support.paths import ROOT

LABCTL = [sys.executable, "-m", "labctl"]


@pytest.fixture(scope="module")
def kubenet() -> Iterator[None]:
    lifecycle.up(lifecycle.define("kubenet"))
    yield
    lifecycle.down("kubenet")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LABCTL, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)


def ping(node: str, target: str) -> None:
    words = ["ip", "netns", "exec", paths.netns_name("kubenet", node), "ping", "-c", "1", "-W", "5", target]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def started(*words: str) -> subprocess.Popen[str]:
    """A capture that is listening."""
    child = subprocess.Popen([*LABCTL, "capture", *words], cwd=ROOT, stdout=-1, stderr=-1, text=True)
    assert child.stderr is not None
    assert child.stderr.readline().startswith("capturing")
    return child


@pytest.mark.usefixtures("kubenet")
def test_one_ping_is_seen_at_every_device_in_order_and_with_its_translations() -> None:
    child = started("--filter", "icmp")
    ping("a", "203.0.113.1")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    hops = [(line.split()[1], line.split()[2], line.split()[3]) for line in out.splitlines() if "request" in line]
    names = [at for at, _, _ in hops]

    assert child.returncode == 0
    assert "0 lost by the kernel" in err
    assert [at for at in names if "veth" not in at] == [
        "a/eth0", "node1/cbr0", "node1/eth0", "fabric/node1", "fabric/pip", "internet/eth0",
    ]  # fmt: skip
    assert [who for at, _, who in hops if at in ("a/eth0", "node1/cbr0")] == ["a", "a"]
    assert [who for at, _, who in hops if at in ("node1/eth0", "fabric/node1")] == ["node1", "node1"]
    assert [way for at, way, _ in hops if at in ("node1/eth0", "fabric/node1")] == [">", "<"]
    assert out.splitlines() == sorted(out.splitlines(), key=lambda line: line.split()[0])


@pytest.mark.usefixtures("kubenet")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_a_whole_file(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "x.pcapng"
    child = started("node1", "-w", str(file))
    ping("a", "10.244.1.2")
    child.send_signal(number)
    child.communicate(timeout=30)

    assert child.returncode == 0
    assert file.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    assert b"node1/cbr0" in file.read_bytes()
    assert b"node2/cbr0" not in file.read_bytes()


@pytest.mark.usefixtures("kubenet")
def test_wiresharks_own_program_reads_names_directions_and_whole_checksums(tmp_path: Path) -> None:
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("no tshark here: scripts/test installs it as root where there is apt-get")
    file = tmp_path / "x.pcapng"
    child = started("a/eth0", "node1/cbr0", "-w", str(file), "--filter", "tcp")
    listener = "import socket; s = socket.create_server(('', 8080)); print(flush=True); s.accept()[0].send(b'hi')"
    inside = ["ip", "netns", "exec", paths.netns_name("kubenet", "c"), sys.executable, "-c", listener]
    server = subprocess.Popen(inside, stdout=-1)
    assert server.stdout is not None
    server.stdout.readline()
    client = "import socket; s = socket.create_connection(('10.244.1.2', 8080)); assert s.recv(9) == b'hi'"
    run_in = ["ip", "netns", "exec", paths.netns_name("kubenet", "a"), sys.executable, "-c", client]
    subprocess.run(run_in, check=True)
    server.communicate(timeout=10)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    fields = ["frame.interface_name", "ip.src_host", "tcp.checksum.status", "frame.packet_flags_direction"]
    words = [tshark, "-r", str(file), "-NnN", "-T", "json", "-o", "tcp.check_checksum:TRUE"]
    words += [word for field in fields for word in ("-e", field)]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path)}, check=True)
    rows = [row["_source"]["layers"] for row in json.loads(done.stdout)]

    assert {row["frame.interface_name"][0] for row in rows} == {"a/eth0", "node1/cbr0"}
    assert {row["ip.src_host"][0] for row in rows} == {"a", "c"}
    assert {row["tcp.checksum.status"][0] for row in rows} == {"1"}  # good, every one of them
    assert len({row["frame.packet_flags_direction"][0] for row in rows}) == 2


@pytest.mark.usefixtures("kubenet")
def test_one_device_is_the_real_tcpdump_and_says_how_it_is_called() -> None:
    if shutil.which("tcpdump") is None:
        pytest.skip("no tcpdump here")
    child = subprocess.Popen([*LABCTL, "capture", "node1/eth0", "-c", "1"], cwd=ROOT, stdout=-1, stderr=-1, text=True)
    assert child.stderr is not None
    said = child.stderr.readline()
    heard = list(takewhile(lambda line: "listening on eth0" not in line, iter(child.stderr.readline, "")))
    assert child.poll() is None, "".join(heard)
    ping("a", "10.244.1.2")
    out, _ = child.communicate(timeout=30)

    assert said == "ip netns exec labctl.kubenet.node1 tcpdump -n -l -e -i eth0 -c 1\n"
    assert len(out.splitlines()) == 1


@pytest.mark.usefixtures("kubenet")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("node1/eth9",), "did you mean eth0?"),
        (("nodd1",), "did you mean node1?"),
        (("--json",), "it is a stream, not a document"),
        (("-w", "/nonexistent/x"), "cannot write /nonexistent/x"),
        (("--filter", "foo bar"), "--filter 'foo bar'"),
        (("-c", "0"), "'0' is not a whole number of at least 1"),
    ],
)
def test_bad_words_are_usage_errors(words: tuple[str, ...], said: str) -> None:
    done = run("capture", *words)
    assert done.returncode == 2
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("kubenet")
def test_frames_that_the_kernel_could_not_hand_over_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.kernel.capture.tap.RCVBUF_BYTES", 1)  # the kernel makes it its least
    with Capture("kubenet", ["node1"]) as ears:
        for _ in range(40):
            ping("a", "10.244.1.2")
        got = list(ears.rest())
        assert ears.lost_frames()["node1"] > 0
        assert got


@pytest.mark.usefixtures("kubenet")
def test_a_pipe_that_closes_ends_it_in_silence() -> None:
    script = f"{sys.executable} -m labctl capture --filter icmp | head -n 1"
    child = subprocess.Popen(["sh", "-c", script], cwd=ROOT, stdout=-1, stderr=-1, text=True)
    assert child.stderr is not None
    child.stderr.readline()
    ping("a", "10.244.1.2")
    ping("a", "10.244.1.2")
    out, err = child.communicate(timeout=30)

    assert len(out.splitlines()) == 1
    assert "Traceback" not in err
    assert "Broken" not in err


@pytest.mark.usefixtures("kubenet")
def test_checks_keep_their_packets_and_a_failed_one_names_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "packets"
    route = ["ip", "-n", paths.netns_name("kubenet", "fabric"), "route", "del", "10.244.1.0/24", "table", "100"]
    subprocess.run(route, check=True)
    try:
        done = run("check", "-k", "each other's address", "--pcap", str(folder))
        told = run("check", "-k", "each other's address", "--pcap", str(folder), "--json")
    finally:
        run("up", "kubenet")
    (file,) = folder.iterdir()

    assert file.name == "01-pods-of-different-nodes-see-each-other-s-address.pcapng"
    assert f"    packets: {file}" in done.stdout.splitlines()
    assert json.loads(told.stdout)["checks"][0]["pcap"] == str(file)
    assert file.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    assert run("check", "--pcap", str(file)).returncode == 2


@pytest.mark.usefixtures("kubenet")
@pytest.mark.parametrize("more", ["", "-w -"])
def test_a_pipe_that_closes_ends_it_even_if_nothing_passes(more: str) -> None:
    script = f"{sys.executable} -m labctl capture {more} --filter 'udp port 9' | true"
    done = subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30)

    assert "0 frames captured, 0 lost by the kernel" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def test_it_ends_with_its_lab_and_says_so() -> None:
    run("up", "docker-bridge")
    child = started("-l", "docker-bridge", "host1")
    run("down", "docker-bridge")
    _, err = child.communicate(timeout=30)

    assert child.returncode == 0
    assert "labctl: the lab docker-bridge is gone" in err.splitlines()


@pytest.mark.usefixtures("kubenet")
def test_a_full_disk_is_told_and_ends_it() -> None:
    done = run("capture", "-l", "kubenet", "-w", "/dev/full", "--seconds", "1")

    assert done.returncode == 3
    assert "cannot write /dev/full: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("kubenet")
def test_a_filter_for_one_device_is_checked_as_for_all() -> None:
    done = run("capture", "-l", "kubenet", "node1/eth0", "--filter", "foo bar")

    assert done.returncode == 2
    assert "--filter 'foo bar'" in done.stderr
