"""A matrix of policies, measured on a running lab, with rules that stand for a policy engine's."""

from __future__ import annotations

import errno
import json
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

import labctl
from labctl.cli import main
from labctl.kernel.host.paths import netns_path
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.probes.port_pairs import PortPairs
from labctl.running_lab import RunningLab

LAB = "pairs"
SCENARIO = """
model: kubenet
nodes:
  node1: {pods: {a: , b: {containers: ['web:80']}}}
  node2: {pods: [c]}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with labctl.up(SCENARIO, name=LAB) as running:
        yield running


def measured(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, str], dict[str, str]]:
    """The exit code, and what each pair met, with its detail."""
    capsys.readouterr()
    code = main(["-l", LAB, "policy", "matrix", "--live", "--json", *words])
    pairs = json.loads(capsys.readouterr().out)["pairs"]
    names = [f"{one['source'][-1]}{one['target'][-1]}" for one in pairs]
    found = {name: one["measured"] for name, one in zip(names, pairs, strict=True)}
    return code, found, {name: one["detail"] for name, one in zip(names, pairs, strict=True)}


def sctp_sockets() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).close()
    except OSError as error:
        return error.errno not in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT)
    return True


@pytest.mark.parametrize("words", [("--port", "80"), ("--port", "81"), ("--port", "53", "--protocol", "udp")])
def test_an_open_lab_connects_every_pair(lab: RunningLab, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """Port 80 is that of a program in b, which answers itself."""
    code, found, _ = measured(capsys, *words)

    assert (code, set(found.values())) == (0, {"connected"})
    assert len(found) == 6


def test_what_rules_do_is_told_apart(lab: RunningLab, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = lab["a"].address, lab["b"].address
    rules = (
        ("node1", f"FORWARD -p tcp --dport 80 -s {a} -j DROP"),
        ("node1", f"FORWARD -p tcp --dport 80 -s {b} -j REJECT"),
        ("node2", "FORWARD -p udp --dport 80 -j REJECT --reject-with icmp-admin-prohibited"),
    )
    for node, rule in rules:
        assert lab[node].run(f"iptables -I {rule}").ok
    try:
        code, found, why = measured(capsys, "--port", "80")
        udp_code, udp, _ = measured(capsys, "--port", "80", "--protocol", "udp")
    finally:
        for node, rule in rules:
            assert lab[node].run(f"iptables -D {rule}").ok

    assert (code, udp_code) == (1, 1)
    assert why["ab"] == ""  # no planned rule of this lab drops: the silence is not explained, and the pair asked twice
    assert found == {
        "ab": "timeout",
        "ac": "timeout",
        "ba": "refused",
        "bc": "refused",
        "ca": "connected",
        "cb": "connected",
    }
    assert udp == {"ab": "connected", "ba": "connected", **dict.fromkeys(("ac", "bc", "ca", "cb"), "unreachable")}


class Claim:
    """Evidence that calls every silent pair dropped, `delay_s` after it is asked for."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.asked: list[int] = []

    def begin(self) -> None:
        self.asked = []

    def explain(self, without_connection: int) -> str:
        self.asked.append(without_connection)
        time.sleep(self.delay_s)
        return "dropped"


@pytest.mark.parametrize(("delay_s", "answer"), [(0.3, ("connected", "")), (0.0, ("timeout", "dropped"))])
def test_an_answer_that_comes_while_evidence_is_read_refutes_it(
    lab: RunningLab, delay_s: float, answer: tuple[str, str]
) -> None:
    """A program in b answers after 0.1 s."""
    claim = Claim(delay_s)
    with NetnsThread() as thread:
        server = thread.run(netns_path(LAB, "b"), socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        with server, PortPairs(LAB, "udp", 70, thread) as pairs:
            server.bind(("", 70))

            def serve() -> None:
                data, peer = server.recvfrom(100)
                time.sleep(0.1)
                server.sendto(data, peer)

            serving = threading.Thread(target=serve)
            serving.start()
            answers = pairs.ask([("a", "b", ip_address(lab["b"].address))], claim)
            serving.join()

    assert (answers["a", "b"], claim.asked) == (answer, [1])


def test_a_protocol_that_the_kernel_lacks_is_missing(lab: RunningLab, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["-l", LAB, "policy", "matrix", "--live", "--port", "90", "--protocol", "sctp"])
    text = capsys.readouterr()

    if sctp_sockets():
        assert (code, "6 connect" in text.out) == (0, True)
    else:
        assert (code, "this kernel has no SCTP sockets" in text.err) == (4, True)
