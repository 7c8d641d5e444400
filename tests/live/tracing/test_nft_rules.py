"""Packets that rules of nft tables drop, reject or rewrite: the trace names table, chain, handle, text and element."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

import labctl
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import nft_tables
from labctl.running_lab import RunningLab

ROUTED = """
name: traced-nft
model: raw
namespaces: [a, r, b, c]
links:
  - {veth: [a/eth0, r/a]}
  - {bridge: r/br0}
  - {veth: [b/eth0, {at: r/b, master: br0}]}
  - {veth: [c/eth0, {at: r/c, master: br0}]}
addresses:
  a/eth0: [10.0.1.2/24, fd00:1::2/64]
  r/a: [10.0.1.1/24, fd00:1::1/64]
  r/br0: [10.0.2.1/24, fd00:2::1/64]
  b/eth0: [10.0.2.2/24, fd00:2::2/64]
  c/eth0: [10.0.2.3/24, fd00:2::3/64]
routes:
  a: [default via 10.0.1.1, default via fd00:1::1]
  b: [default via 10.0.2.1, default via fd00:2::1]
  c: [default via 10.0.2.1]
sysctls: {r: {net.ipv4.ip_forward: 1, net.ipv6.conf.all.forwarding: 1}}
firewall: {r: {filter: {FORWARD: [-p udp --dport 9 -j DROP, -j ACCEPT]}}}
"""


@dataclass(frozen=True)
class Case:
    """Rules of a machine, a probe, and what the trace says about it."""

    text: str
    said: tuple[str, ...]
    machine: str = "r"
    source: str = "a"
    target: str = "b"
    probe: dict[str, Any] = field(default_factory=dict)
    verdict: str = "lost"


def _chain(family: str, hook: str, rules: str, kind: str = "filter", policy: str = "accept", more: str = "") -> str:
    return f"table {family} t {{\n{more}\nchain c {{\ntype {kind} hook {hook}; policy {policy};\n{rules}\n}}\n}}\n"


CASES = {
    "forward": Case(
        _chain("inet", "forward priority -10", "tcp dport 80 accept\nicmp type echo-request counter drop"),
        ("a rule of inet t/c in r dropped the request", "inet t/c handle 3: icmp type echo-request counter drop",
         "nft -a list chain inet t c"),
    ),
    "policy": Case(
        _chain("inet", "forward priority filter", "ct state established accept", policy="drop"),
        ("the policy of inet t/c in r dropped the request", "r: inet t/c policy drop"),
    ),
    "input": Case(
        _chain("ip", "input priority filter", "ip protocol icmp drop"),
        ("a rule of ip t/c in b dropped the request", "ip t/c handle 2: ip protocol icmp drop"), "b",
    ),
    "output": Case(
        _chain("inet", "output priority filter", "udp dport 53 drop"),
        ("the firewall of a dropped the request before it left: a rule of inet t/c",), "a", probe={"udp": 53},
    ),
    "prerouting": Case(
        _chain("ip", "prerouting priority raw", "ip daddr 10.0.2.0/24 drop"),
        ("a rule of ip t/c in r dropped the request", "hooks  prerouting: ip t/c (-300) drop"),
    ),
    "postrouting": Case(
        _chain("inet", "postrouting priority srcnat - 5", 'oifname "br0" drop'),
        ("a rule of inet t/c in r dropped the request", 'inet t/c handle 2: oifname "br0" drop',
         "forward: iptables filter/FORWARD (0) accept; postrouting: inet t/c (95) drop"),
    ),
    "ingress": Case(
        _chain("netdev", 'ingress device "a" priority 0', "ip protocol icmp drop"),
        ("a rule of netdev t/c in r dropped the request", "hooks  ingress: netdev t/c (0) drop"),
    ),
    "bridge": Case(
        _chain("bridge", "forward priority filter", "ip protocol icmp drop"),
        ("a rule of bridge t/c in r dropped the request", "nft -a list chain bridge t c"), source="c",
    ),
    "vmap": Case(
        _chain("ip", "forward priority filter", "oifname vmap @m", more="chain x {\ntcp dport 80 accept\ndrop\n}\n"
               'map m {\ntype ifname : verdict\nelements = { "br0" : jump x, "a" : accept }\n}'),
        ("a rule of ip t/x in r dropped the request", 'oifname vmap @m (element "br0" : jump x)'),
    ),
    "vmap drop": Case(
        _chain("inet", "forward priority filter", "ip saddr . meta l4proto vmap { 10.0.1.2 . icmp : drop, "
               "10.0.1.3 . icmp : accept }"),
        ("a rule of inet t/c in r dropped the request", "(element 10.0.1.2 . icmp : drop)"),
    ),
    "set": Case(
        _chain("ip", "forward priority filter", "ip daddr @bad drop", more="set bad {\ntype ipv4_addr\nflags interval\n"
               "elements = { 10.0.2.0-10.0.2.9, 10.0.3.0/24 }\n}"),
        ("ip daddr @bad drop (element 10.0.2.0-10.0.2.9)",),
    ),
    "reject": Case(
        _chain("inet", "forward priority filter", "tcp dport { 80, 90 } reject with tcp reset"),
        ("a rule of inet t/c in r rejected the request", "tcp dport { 80, 90 } reject with tcp reset"),
        probe={"tcp": 80}, verdict="refused",
    ),
    "dnat by a map": Case(
        _chain("ip", "prerouting priority dstnat", "dnat to tcp dport map @m", "nat", more="map m {\n"
               "type inet_service : ipv4_addr . inet_service\nelements = { 80 : 10.0.2.77 . 8080, 81 : 10.0.2.2 . 80 }"
               "\n}"),
        ("r rewrites 10.0.2.2 to the backend 10.0.2.77", "dnat ip to tcp dport map @m (element 80 : 10.0.2.77 . 8080)",
         "nft -a list chain ip t c"), probe={"tcp": 80},
    ),
    "dnat to nobody": Case(
        _chain("ip", "prerouting priority dstnat", "ip daddr 10.0.2.2 dnat to 10.9.9.9", "nat"),
        ("10.9.9.9", "ip t/c handle 2: ip daddr 10.0.2.2 dnat to 10.9.9.9"),
    ),
    "masquerade": Case(
        _chain("ip", "postrouting priority srcnat", 'oifname "br0" masquerade', "nat"),
        ("source rewritten: 10.0.1.2 > 10.0.2.1", "postrouting: ip t/c (100) masquerade"), verdict="answered",
    ),
    "iptables accepts, nft drops": Case(
        _chain("ip", "forward priority 10", "counter drop"),
        ("a rule of ip t/c in r dropped the request, although filter/FORWARD rule 2 had accepted it: an accept ends "
         "only its own base chain", "forward: iptables filter/FORWARD (0) accept, ip t/c (10) drop"),
    ),
    "nft accepts, iptables drops": Case(
        _chain("ip", "forward priority -10", "udp dport 9 accept"),
        ("a rule of FORWARD in r dropped the request, although ip t/c handle 2 had accepted it",
         "forward: ip t/c (-10) accept, iptables filter/FORWARD (0) drop"), probe={"udp": 9},
    ),
    "nft accepts, nft drops": Case(
        "table ip u {\nchain f {\ntype filter hook forward priority 5; policy accept;\nip saddr 10.0.1.2 accept\n}\n}\n"
        + _chain("inet", "forward priority 6", "meta l4proto icmp drop"),
        ("although ip u/f handle 2 had accepted it", "ip u/f (5) accept, inet t/c (6) drop"),
    ),
    "conntrack": Case(
        _chain("inet", "forward priority filter", "ct state new drop"),
        ("inet t/c handle 2: ct state new drop",),
    ),
    "IPv6": Case(
        _chain("inet", "forward priority filter", "ip6 daddr fd00:2::/64 drop"),
        ("a rule of inet t/c in r dropped the request", "ip6 daddr fd00:2::/64 drop"), target="fd00:2::2",
    ),
    "neighbour discovery": Case(
        _chain("ip6", "input priority filter", "icmpv6 type nd-neighbor-solicit drop"),
        ("a rule of ip6 t/c in r dropped the neighbour solicitation of c for fd00:2::1",), source="c",
        target="fd00:2::1",
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=["legacy", "nft"])
def lab(request: pytest.FixtureRequest) -> Iterator[RunningLab]:
    """A router between a machine and a bridge with two others, with each back end of iptables."""
    from tests.support import kernels

    if problem := kernels.backend_problem(request.param):
        pytest.skip(problem)
    with labctl.up(ROUTED, name=f"traced-nft-{request.param}", firewall=request.param) as lab:
        yield lab


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_the_rule_that_decided_is_named(lab: RunningLab, case: Case) -> None:
    path = paths.netns_path(lab.name, case.machine)
    before = _tables(lab, case.machine)
    done = _nft(path, case.text)
    if done.returncode:
        pytest.skip(f"the kernel or nft refuses it: {done.stderr.splitlines()[0]}")
    try:
        traced = lab.trace(case.source, case.target, **case.probe)
        assert sorted(_tables(lab, case.machine)) == sorted({*before, *_tables_of(case.text)}), "the trace left a table"
    finally:
        _nft(path, "".join(f"delete table {' '.join(one)}\n" for one in _tables_of(case.text)))
    assert traced.verdict == case.verdict, str(traced)
    assert [words for words in case.said if words not in str(traced)] == [], str(traced)


def _nft(path: object, text: str) -> subprocess.CompletedProcess[str]:
    command = ["nsenter", f"--net={path}", "nft", "-f", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=20)


def _tables(lab: RunningLab, node: str) -> tuple[tuple[str, str], ...]:
    with NetnsThread() as inside:
        return inside.run(paths.netns_path(lab.name, node), nft_tables.tables)


def _tables_of(text: str) -> set[tuple[str, str]]:
    words = (line.split() for line in text.splitlines() if line.startswith("table "))
    return {(one[1], one[2]) for one in words}
