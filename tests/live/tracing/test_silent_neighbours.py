"""A neighbour that does not answer is told before the kernel gives up, but not while an answer may still come."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from labctl.core.resources import Interface
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.packets.decode import Frame
from labctl.tracing.diagnosis import diagnose
from tests.support.trace_cases import LABS
from tests.support.traces import broken, trace_lab, traced, traced_frames

LAB = "silent-road"
ETH_P_ARP = 0x0806
ARPOP_REQUEST = b"\0\1"
# answers the ARP question for 10.2.0.2 with the given number, counted from 1; 0: none
ANSWERER = """
import socket, struct, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
sock.bind(("eth0", 0x0806))
mac, ip, number = sock.getsockname()[4], socket.inet_aton("10.2.0.2"), int(sys.argv[1])
print("begun", flush=True)
while True:
    frame = sock.recv(2048)
    if frame[20:22] == b"\\0\\1" and frame[38:42] == ip:
        number -= 1
        if number == 0:
            head = frame[6:12] + mac + frame[12:20] + b"\\0\\2"
            sock.send(head + mac + ip + frame[22:32])
"""


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lifecycle.Definition]:
    with trace_lab(tmp_path_factory.mktemp("road"), LABS["road"], LAB) as definition:
        yield definition


@pytest.fixture(autouse=True)
def silent(road: lifecycle.Definition) -> Iterator[None]:
    """h2 receives the questions of r2 for its address, but its kernel does not answer them."""
    broken(LAB, "h2: sysctl -qw net.ipv4.conf.all.arp_ignore=8")
    broken(LAB, "h2: ip neigh flush all")  # or it would ask r2, which learns its address by that
    broken(LAB, "r2: ip neigh flush all")
    yield
    lifecycle.up(road)


def questions(frames: list[Frame]) -> int:
    """How often r2 asked for the MAC address of the target."""
    asked = (frame for frame in frames if (frame.at, frame.direction) == (Interface("r2", "h2"), "out"))
    return sum(frame.protocol == ETH_P_ARP and frame.data[20:22] == ARPOP_REQUEST for frame in asked)


@contextmanager
def answerer(number: int) -> Iterator[None]:
    words = ["ip", "netns", "exec", paths.netns_name(LAB, "h2"), sys.executable, "-c", ANSWERER, str(number)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def test_two_questions_without_an_answer_are_enough() -> None:
    """The kernel asks three times before it gives up. A trace that has too little of a processor sees the third one."""
    for _ in range(3):
        broken(LAB, "h2: ip neigh flush all")
        broken(LAB, "r2: ip neigh flush all")
        evidence, frames = traced_frames(LAB, "h1 h2")
        if questions(frames) == 2:
            break
    story = diagnose(evidence)

    assert questions(frames) == 2
    assert story.verdict == "lost"
    assert story.why is not None
    assert "h2 has the address 10.2.0.2" in story.why.sentence
    assert "arp_ignore = 8" in story.why.sentence
    assert not story.unknown
    kernel = [note.text for note in story.facts if note.label in ("kernel", "icmp")]
    assert any("NEIGH_FAILED" in text for text in kernel), kernel
    assert any("(r2) reported to 10.1.0.2 (h1): host unreachable" in text for text in kernel), kernel


def test_nothing_of_a_lost_probe_is_left_for_the_next_trace() -> None:
    traced(LAB, "h1 10.2.0.77")
    broken(LAB, "h2: sysctl -qw net.ipv4.conf.all.arp_ignore=0")
    evidence, story = traced(LAB, "h1 h2")

    assert story.verdict == "answered"
    assert {one.ip for one in evidence.neighbour_observations} == {ip_address("10.2.0.2")}
    assert not any("DestUnreach" in name for state in evidence.namespaces for name in state.counters)


@pytest.mark.parametrize("number", [2, 3])
def test_a_program_may_answer_late(number: int) -> None:
    """A program that has too little of a processor answers when the kernel has given up: then it is tried again."""
    for _ in range(3):
        broken(LAB, "r2: ip neigh flush all")
        with answerer(number):
            evidence, frames = traced_frames(LAB, "h1 h2")
        if diagnose(evidence).verdict == "answered":
            break

    assert diagnose(evidence).verdict == "answered"
    assert questions(frames) == number


def test_while_a_program_may_answer_the_trace_waits_for_the_kernel() -> None:
    with answerer(0):
        evidence, frames = traced_frames(LAB, "h1 h2")

    assert diagnose(evidence).verdict == "lost"
    assert questions(frames) == 3
