"""A matrix of policies, measured on a running lab, with rules that stand for a policy engine's."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Iterator

import pytest

import labctl
from labctl.cli import main
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


def test_a_protocol_that_the_kernel_lacks_is_missing(lab: RunningLab, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["-l", LAB, "policy", "matrix", "--live", "--port", "90", "--protocol", "sctp"])
    text = capsys.readouterr()

    if sctp_sockets():
        assert (code, "6 connect" in text.out) == (0, True)
    else:
        assert (code, "this kernel has no SCTP sockets" in text.err) == (4, True)
