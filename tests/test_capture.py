"""capture: frames of every device in one stream, as lines and as a file that Wireshark's own program reads."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from labctl.core.resources import Interface
from labctl.core.scenario_types import Check
from labctl.errors import UsageError
from labctl.kernel.capture.stream import Capture, compile_filter
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.packets.checksum import fill_checksums
from labctl.packets.decode import Frame
from labctl.packets.pcapng import Writer, pcapng
from labctl.report.capture_lines import frame_line
from labctl.report.output_files import pcap_writer
from tests.test_decode import arp, ethernet, ipv4, ipv6, tcp, udp, vxlan

ROOT = Path(__file__).parent.parent
LABCTL = [sys.executable, "-m", "labctl"]
HERE = Interface("node1", "eth0")
NAMES = {IPv4Address("10.0.0.1"): "a", IPv4Address("10.0.0.2"): "c"}
SYN = 2


def frame(data: bytes, way: str = "in", when: int = 1_000_000_000, **more: object) -> Frame:
    return Frame(HERE, when, way, data, **more)  # type: ignore[arg-type]


# ---- without root ------------------------------------------------------------------------------------


def checked(segment: bytes, ends: bytes, protocol: int) -> int:
    """What the receiver of a segment computes: 0xffff if it is whole."""
    data = ends + struct.pack("!II", len(segment), protocol) + segment
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize("payload", [b"", b"odd", b"even"])
@pytest.mark.parametrize("kind", ["tcp4", "udp4", "tcp6", "vlan"])
def test_checksums_that_nobody_computed_are_filled_in(kind: str, payload: bytes) -> None:
    segment = udp(payload) if kind == "udp4" else tcp(SYN, 7) + payload
    protocol = 17 if kind == "udp4" else 6
    if kind == "tcp6":
        whole, head, ends = ethernet(0x86DD, ipv6(6, segment)), 54, slice(22, 54)
    else:
        whole, head, ends = ethernet(0x0800, ipv4(protocol, segment)), 34, slice(26, 34)
    if kind == "vlan":
        whole = whole[:12] + struct.pack("!HH", 0x8100, 7) + whole[12:]
        head, ends = head + 4, slice(30, 38)
    done = fill_checksums(whole)

    assert checked(done[head:], done[ends], protocol) == 0xFFFF
    assert done[: head + 6] == whole[: head + 6]
    assert len(done) == len(whole)


def test_the_checksum_inside_a_tunnel_is_filled_in_and_the_outer_left_out() -> None:
    inner = ethernet(0x0800, ipv4(6, tcp(SYN, 7)))
    whole = ethernet(0x0800, ipv4(17, vxlan(inner)))
    done = fill_checksums(whole)
    start = len(whole) - len(inner)

    assert done[:start] == whole[:start]
    assert checked(done[start + 34 :], done[start + 26 : start + 34], 6) == 0xFFFF


@pytest.mark.parametrize(
    "data", [b"", bytes(14), ethernet(0x0800, ipv4(6, tcp(SYN, 1)))[:40], arp(1, "10.0.0.1", "10.0.0.2")]
)
def test_what_is_cut_short_or_has_none_stays_as_it_is(data: bytes) -> None:
    assert fill_checksums(data) == data


def test_a_fragment_keeps_its_bytes() -> None:
    whole = bytearray(ethernet(0x0800, ipv4(17, udp(b"part"))))
    whole[20:22] = struct.pack("!H", 0x2000)
    assert fill_checksums(bytes(whole)) == bytes(whole)


def test_a_growing_file_is_the_whole_one() -> None:
    frames = [frame(ethernet(0x0800, ipv4(17, udp(b"x"))), when=when, checksum_partial=True) for when in (1, 2, 3)]
    writer = Writer()
    grown = writer.begin(NAMES) + b"".join(writer.add(one) for one in frames)

    assert grown == pcapng(frames, NAMES)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (ethernet(0x0800, ipv4(6, tcp(SYN, 1))), "a:40000 > c:80  tcp SYN  ttl 63"),
        (ethernet(0x0800, ipv4(17, udp(b"abc"))), "a:40000 > c:53  udp, 3 bytes  ttl 63"),
        (ethernet(0x0800, ipv4(17, vxlan(ethernet(0x0800, ipv4(6, tcp(SYN, 1)))))), "tcp SYN  ttl 63, vxlan 42"),
        (ethernet(0x88CC, b"x"), "ethertype 0x88cc, 15 bytes"),
    ],
)
def test_a_line_says_who_what_and_how(data: bytes, told: str) -> None:
    line = frame_line(frame(data, "out", protocol=0x88CC), NAMES, 12)
    assert "  node1/eth0   >  " in line
    assert told in line


def test_a_filter_that_is_none_is_refused_in_tcpdumps_words() -> None:
    if shutil.which("tcpdump") is None:
        pytest.skip("no tcpdump here")
    assert compile_filter("  ") is None
    assert len(compile_filter("icmp") or b"") % 8 == 0
    with pytest.raises(UsageError, match="--filter 'foo bar'"):
        compile_filter("foo bar")


# ---- in real namespaces ------------------------------------------------------------------------------


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


@pytest.mark.root
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


@pytest.mark.root
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


@pytest.mark.root
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


@pytest.mark.root
@pytest.mark.usefixtures("kubenet")
def test_one_device_is_the_real_tcpdump_and_says_how_it_is_called() -> None:
    if shutil.which("tcpdump") is None:
        pytest.skip("no tcpdump here")
    child = subprocess.Popen([*LABCTL, "capture", "node1/eth0", "-c", "1"], cwd=ROOT, stdout=-1, stderr=-1, text=True)
    assert child.stderr is not None
    said = child.stderr.readline()
    while "listening on eth0" not in child.stderr.readline():
        pass
    ping("a", "10.244.1.2")
    out, _ = child.communicate(timeout=30)

    assert said == "ip netns exec labctl.kubenet.node1 tcpdump -n -l -e -i eth0 -c 1\n"
    assert len(out.splitlines()) == 1


@pytest.mark.root
@pytest.mark.usefixtures("kubenet")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("node1/eth9",), "did you mean eth0?"),
        (("nodd1",), "did you mean node1?"),
        (("--json",), "it is a stream, not a document"),
        (("-w", "/nonexistent/x"), "cannot write /nonexistent/x"),
        (("--filter", "foo bar"), "--filter 'foo bar'"),
        (("-c", "0"), "0 is not in the range"),
    ],
)
def test_bad_words_are_usage_errors(words: tuple[str, ...], said: str) -> None:
    done = run("capture", *words)
    assert done.returncode == 2
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.root
@pytest.mark.usefixtures("kubenet")
def test_frames_that_the_kernel_could_not_hand_over_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.kernel.capture.tap.RCVBUF_BYTES", 1)  # the kernel makes it its least
    with Capture("kubenet", ["node1"]) as ears:
        for _ in range(40):
            ping("a", "10.244.1.2")
        got = list(ears.rest())
        assert ears.lost_frames()["node1"] > 0
        assert got


@pytest.mark.root
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


@pytest.mark.root
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


@pytest.mark.root
@pytest.mark.usefixtures("kubenet")
@pytest.mark.parametrize("more", ["", "-w -"])
def test_a_pipe_that_closes_ends_it_even_if_nothing_passes(more: str) -> None:
    script = f"{sys.executable} -m labctl capture {more} --filter 'udp port 9' | true"
    done = subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30)

    assert "0 frames captured, 0 lost by the kernel" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def test_packets_that_cannot_be_kept_are_complained_of_and_the_next_are_kept(tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "packets"
    keep = pcap_writer(str(folder), said.append)
    folder.rmdir()
    assert keep(Check("one", "ping", "a", "b"), b"1") == ""
    folder.mkdir()
    assert Path(keep(Check("two", "ping", "a", "b"), b"2")).read_bytes() == b"2"
    assert len(said) == 1
    assert "01-one.pcapng: No such file or directory" in said[0]


@pytest.mark.root
def test_it_ends_with_its_lab_and_says_so() -> None:
    run("up", "docker-bridge")
    child = started("-l", "docker-bridge", "host1")
    run("down", "docker-bridge")
    _, err = child.communicate(timeout=30)

    assert child.returncode == 0
    assert "labctl: the lab docker-bridge is gone" in err.splitlines()


@pytest.mark.root
@pytest.mark.usefixtures("kubenet")
def test_a_full_disk_is_told_and_ends_it() -> None:
    done = run("capture", "-l", "kubenet", "-w", "/dev/full", "--seconds", "1")

    assert done.returncode == 3
    assert "cannot write /dev/full: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.root
@pytest.mark.usefixtures("kubenet")
def test_a_filter_for_one_device_is_checked_as_for_all() -> None:
    done = run("capture", "-l", "kubenet", "node1/eth0", "--filter", "foo bar")

    assert done.returncode == 2
    assert "--filter 'foo bar'" in done.stderr
