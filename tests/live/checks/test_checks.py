"""Checks against real packets: what passes, what each fault turns it into, and that nothing is left behind."""

from __future__ import annotations

import errno
import math
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Literal

import pytest

from labctl.checks import attempt, runner
from labctl.checks.evidence import CheckEvidence
from labctl.checks.verdict import evaluate_mesh
from labctl.core.neighbour_presets import NeighbourPresets
from labctl.core.resources import Address, Interface, Link, Netns, Plan, Route
from labctl.core.results import Outcome, PairCounts
from labctl.core.scenario_types import Check, Lab, Machine, See
from labctl.kernel.capture import tcpdump
from labctl.kernel.capture.tap import Taps
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.probes import clients, echo_batch, mesh, mesh_sockets, neighbours, unused_ids
from labctl.kernel.probes.listener import Listener

pytestmark = pytest.mark.firewall

LAB = "t"
NAMES = ("a", "b", "c", "node1")
CABLES = {"a/eth0": "node1/va", "b/eth0": "node1/vb", "c/eth0": "node1/vc"}
ADDRESSES = {
    "a/eth0": ("10.9.1.2/24", "2001:db8:1::2/64"),
    "b/eth0": ("10.9.1.3/24", "2001:db8:1::3/64"),
    "node1/br0": ("10.9.1.1/24", "2001:db8:1::1/64"),
    "node1/vc": ("10.9.2.1/24", "2001:db8:2::1/64"),
    "c/eth0": ("10.9.2.2/24", "2001:db8:2::2/64"),
}
GATEWAYS = {"a": ("10.9.1.1", "2001:db8:1::1"), "b": ("10.9.1.1", "2001:db8:1::1"), "c": ("10.9.2.1", "2001:db8:2::1")}
PING = Check("a reaches c", "ping", "a", "c", within=2)
FAIL = replace(PING, expect="fail", within=0.3)
TCP = Check("a reaches c by tcp", "tcp", "a", "c", 8080, within=2)
UDP = replace(TCP, probe="udp", port=5353)
NEEDS_IPTABLES = pytest.mark.skipif(not shutil.which("iptables-legacy"), reason="iptables-legacy is not installed")
NEEDS_TCPDUMP = pytest.mark.skipif(not shutil.which("tcpdump"), reason="tcpdump is not installed")


def sh(line: str) -> None:
    subprocess.run(line, shell=True, check=True, capture_output=True, timeout=20)


def ip(node: str, words: str) -> None:
    sh(f"ip -n {paths.netns_name(LAB, node)} {words}")


def inside(node: str, words: str) -> None:
    sh(f"ip netns exec {paths.netns_name(LAB, node)} {words}")


def firewall(node: str, words: str, program: str = "iptables-legacy") -> None:
    os.environ.setdefault("XTABLES_LOCKFILE", os.devnull)
    inside(node, f"{program} {words}")


def port(text: str) -> Interface:
    ns, dev = text.split("/")
    return Interface(ns, dev)


def see(at: str, src: str | None = None, dst: str | None = None, **more: object) -> See:
    return See(port(at), src, dst, **more)  # type: ignore[arg-type]


def plan() -> Plan:
    links = [Link(Interface("node1", "br0"), "bridge", autoconf=True)]
    for one, other in CABLES.items():
        master = "br0" if other != "node1/vc" else None
        ends = ((port(one), port(other), None), (port(other), port(one), master))
        links += [Link(at, "veth", peer, above, autoconf=True) for at, peer, above in ends]
    addresses = (Address(port(at), ip_interface(text)) for at, texts in ADDRESSES.items() for text in texts)
    routes = (default_route(name, gateway) for name, gateways in GATEWAYS.items() for gateway in gateways)
    return (*(Netns(name) for name in NAMES), *links, *addresses, *routes)


def default_route(name: str, gateway: str) -> Route:
    everything = ip_network("::/0" if ":" in gateway else "0.0.0.0/0")
    return Route(name, everything, ip_address(gateway), "eth0")


def routeless(*names: str) -> Plan:
    """The plan of a lab in which these have no default route by IPv4."""
    return tuple(item for item in plan() if item not in [default_route(name, GATEWAYS[name][0]) for name in names])


def the_lab(*chosen: Check, planned: Plan = ()) -> Lab:
    roles = {name: "node" if name == "node1" else "pod" for name in NAMES}
    own = {at.split("/")[0]: tuple(ip_interface(text).ip for text in texts) for at, texts in ADDRESSES.items()}
    own["node1"] = (ip_address("10.9.1.1"), ip_address("2001:db8:1::1"), ip_address("10.9.2.1"))
    machines = (Machine(name, roles[name], own[name], None) for name in NAMES)  # type: ignore[arg-type]
    return Lab(LAB, "raw", planned or plan(), tuple(machines), chosen)


def outcome(check: Check, planned: Plan = ()) -> Outcome:
    return runner.run(the_lab(check, planned=planned)).outcomes[0]


def text(found: Outcome) -> str:
    return "\n".join(found.evidence)


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    """Pods a and b on a bridge of node1, pod c behind a separate device: two subnets, one router."""
    for name in NAMES:
        sh(f"ip netns add {paths.netns_name(LAB, name)}")
        ip(name, "link set lo up")
        inside(name, "sysctl -qw net.ipv6.conf.default.accept_dad=0")  # or link-local addresses take a second
    ip("node1", "link add br0 type bridge")
    for one, other in CABLES.items():
        near, far = port(one), port(other)
        there = paths.netns_name(LAB, far.ns)
        ip(near.ns, f"link add {near.dev} type veth peer name {far.dev} netns {there}")
        ip(near.ns, f"link set {near.dev} up")
        ip(far.ns, f"link set {far.dev} {'master br0' if far.dev != 'vc' else ''} up")
    ip("node1", "link set br0 up")
    for at, texts in ADDRESSES.items():
        for address in texts:
            ip(port(at).ns, f"addr add {address} dev {port(at).dev} {'nodad' if ':' in address else ''}")
    for name, gateways in GATEWAYS.items():
        for gateway in gateways:
            ip(name, f"route add default via {gateway}")
    inside("node1", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    inside("node1", "sh -c 'echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables || true'")
    yield
    for name in NAMES:
        subprocess.run(["ip", "netns", "del", paths.netns_name(LAB, name)], capture_output=True, check=False)


# ---- what passes -------------------------------------------------------------------------------------

SIX = "2001:db8:2::2"


@pytest.mark.parametrize(
    ("check", "line"),
    [
        (replace(PING, sees=(see("c/eth0", "a", "c", ttl=63, direction="in"),)), "entering c/eth0: 10.9.1.2 >"),
        (replace(PING, target=SIX, sees=(see("c/eth0", "a", SIX, ttl=63),)), "entering c/eth0: 2001:db8:1::2 >"),
        (replace(PING, sees=(see("a/eth0", "c", "a", packet="reply", ttl=63),)), "entering a/eth0: 10.9.2.2 >"),
        (replace(TCP, sees=(see("node1/vc", "a", "c", direction="out"),)), "leaving node1/vc: 10.9.1.2 >"),
        (replace(TCP, target=SIX, sees=(see("node1/br0", "a", direction="in"),)), "entering node1/br0: 2001"),
        (replace(UDP, sees=(see("c/eth0", "a", packet="reply"), see("c/eth0", "a"))[1:]), "entering c/eth0"),
        (replace(UDP, target=SIX, sees=(see("a/eth0", SIX, packet="reply"),)), "entering a/eth0: 2001:db8:2::2 >"),
        (replace(PING, target="node1/vc"), "64 bytes from 10.9.2.1"),
        (replace(UDP, target="node1/vc"), "own listener answered"),
        (replace(PING, target="a"), "64 bytes from 10.9.1.2"),
    ],
)
def test_what_is_true_passes_and_shows_its_packet(check: Check, line: str) -> None:
    found = outcome(check)

    assert found.verdict == "pass", text(found)
    assert line in text(found)
    assert found.sightings
    assert found.command.startswith(paths.command_prefix("t") + " ")


def test_all_pairs_pass_in_both_families() -> None:
    lab = the_lab(Check("all", "mesh", groups=((("a", "b", "c", "node1"), ("a", "b", "c")),), within=2))
    swapped = tuple(replace(machine, addresses=machine.addresses[1::-1]) for machine in lab.machines[:3])
    for machines in (lab.machines, (*swapped, lab.machines[3])):
        found = runner.run(replace(lab, machines=machines)).outcomes[0]

        assert found.verdict == "pass", text(found)
        assert found.evidence == ("9 of 9 pairs: replied, seen with own address",)


def test_a_run_tells_each_outcome_and_reports_all() -> None:
    told: list[Outcome] = []
    report = runner.run(the_lab(PING, TCP), "tcp a", told.append)

    assert [item.check for item in told] == [TCP]
    assert report.outcomes == tuple(told)
    assert report.verdict == "pass"


# ---- what the kernel remembers -------------------------------------------------------------------------

REMEMBER = "-t nat -{} POSTROUTING -o vc -j MASQUERADE"


@NEEDS_IPTABLES
@pytest.mark.parametrize(
    "check",
    [
        Check("all", "mesh", groups=((("a", "b"), ("a", "b", "c")),), within=0.3),
        replace(PING, sees=(see("c/eth0", "a"),)),
        replace(TCP, sees=(see("c/eth0", "a"),)),
        replace(UDP, sees=(see("c/eth0", "a"),)),
    ],
    ids=lambda check: check.probe,
)
def test_a_rule_made_or_removed_right_after_a_run_is_met_by_the_next(check: Check) -> None:
    firewall("node1", "-t nat -A POSTROUTING -s 203.0.113.0/24 -j MASQUERADE")  # from now on flows are remembered
    verdicts = [outcome(check).verdict]
    for verb in "ADAD":
        firewall("node1", REMEMBER.format(verb))
        verdicts.append(outcome(check).verdict)

    assert verdicts == ["pass", "fail", "pass", "fail", "pass"]


def test_no_probe_of_a_process_looks_like_another() -> None:
    numbers = unused_ids.UnusedIds(10, 109)
    first = [numbers.next_id() for _ in range(100)]

    assert sorted(first) == list(range(10, 110))
    assert [numbers.next_id() for _ in range(100)] == first
    taken = {mesh.ICMP_IDS.next_id() for _ in range(500)}
    used = set()
    with NetnsThread() as entering:
        for _ in range(3):
            with mesh.Mesh(LAB, entering, {"c": ip_address("10.9.2.2")}, lambda name: ()) as pairs:
                pairs.ask([("a", ("c",)), ("b", ("c",))], math.inf)
                used |= {int.from_bytes(head[4:6], "big") for head in pairs._prefixes.values()}
    assert len(used) == 6
    assert not used & taken


# ---- translation -------------------------------------------------------------------------------------


@NEEDS_IPTABLES
def test_a_masquerade_is_proven_and_its_absence_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    worn = replace(PING, within=10, sees=(see("c/eth0", "node1/vc", "c"), see("c/eth0", "a", negate=True)))
    bare = outcome(replace(worn, sees=worn.sees[:1]))
    monkeypatch.setattr(attempt, "UNMET_SEE_TIMEOUT_S", 10)
    showing = outcome(replace(worn, sees=worn.sees[1:]))
    firewall("node1", "-t nat -A POSTROUTING -o vc -j MASQUERADE")
    covered = outcome(worn)

    assert bare.verdict == "fail"
    assert "expected at c/eth0: src node1/vc (10.9.2.1), dst c (10.9.2.2)" in text(bare)
    assert "seen entering c/eth0: 10.9.1.2 > 10.9.2.2 ttl 63" in text(bare)
    assert bare.seconds < 8, "an unmet see is believed after a few probes"
    assert showing.verdict == "fail"
    assert "not expected: at c/eth0: src a (10.9.1.2)" in text(showing)
    assert showing.seconds < 8, "what was seen was true: no other probe can mend it"
    assert covered.verdict == "pass", text(covered)
    assert "not seen at c/eth0: src a (10.9.1.2); the packet itself was seen entering c/eth0: 10.9.2.1" in text(covered)


@NEEDS_IPTABLES
def test_a_mesh_fails_where_a_pod_is_seen_with_another_address() -> None:
    firewall("node1", "-t nat -A POSTROUTING -o vc -j MASQUERADE")
    found = outcome(Check("all", "mesh", groups=((("a", "b"), ("a", "b", "c")),), within=0.5))

    assert found.verdict == "fail"
    assert "2 of 4 pairs" in text(found)
    assert "a -> c (10.9.2.2): replied, seen there as 10.9.2.1, which is not a's own" in text(found)


def test_a_mesh_with_a_dead_pod_fails_and_says_where_the_probe_ended() -> None:
    ip("b", "link set eth0 down")
    found = outcome(Check("all", "mesh", groups=((("a",), ("b", "c")),), within=0.3))

    assert found.verdict == "fail"
    assert "1 of 2 pairs" in text(found)
    assert "a -> b (10.9.1.3): no reply, never seen there" in text(found)


def test_a_packet_in_a_tunnel_is_seen_as_tunnelled() -> None:
    ip("a", "link add vx0 type vxlan id 7 dstport 4789 remote 10.9.2.2 local 10.9.1.2")
    ip("c", "link add vx0 type vxlan id 7 dstport 4789 remote 10.9.1.2 local 10.9.2.2")
    for node, last in (("a", 1), ("c", 2)):
        ip(node, f"addr add 172.20.0.{last}/24 dev vx0")
        ip(node, "link set vx0 up")
    inner = replace(PING, target="172.20.0.2")
    inside_it = outcome(replace(inner, sees=(see("node1/vc", "172.20.0.1", encap="vxlan"), see("c/vx0", encap="none"))))
    outside_it = outcome(replace(inner, sees=(see("node1/vc", "172.20.0.1", encap="none"),)))

    assert inside_it.verdict == "pass", text(inside_it)
    assert "in vxlan 7" in text(inside_it)
    assert outside_it.verdict == "fail"


# ---- refusals and silence ----------------------------------------------------------------------------


@NEEDS_IPTABLES
@pytest.mark.parametrize("check", [TCP, UDP])
def test_reply_refusal_and_silence_are_told_apart(check: Check) -> None:
    three = [replace(check, expect=expect, within=0.4) for expect in ("reply", "refused", "timeout")]

    def verdicts() -> list[str]:
        return [outcome(item).verdict for item in three]

    assert verdicts() == ["pass", "pass", "fail"]
    firewall("node1", f"-A FORWARD -p {check.probe} -j DROP")
    assert verdicts() == ["fail", "fail", "pass"]
    firewall("node1", "-F FORWARD")
    reject = "--reject-with tcp-reset" if check.probe == "tcp" else ""
    firewall("node1", f"-A FORWARD -p {check.probe} -j REJECT {reject}")
    assert verdicts() == ["fail", "pass", "fail"]


@NEEDS_IPTABLES
def test_a_silent_drop_says_where_the_probe_ended() -> None:
    firewall("node1", "-A FORWARD -p icmp -j DROP")
    found = outcome(replace(FAIL, sees=(see("node1/br0", "a"), see("node1/vc", dst="c", negate=True))))

    assert found.verdict == "pass", text(found)
    assert "the request was last seen entering node1/br0" in text(found)
    assert outcome(replace(PING, within=0.3)).verdict == "fail"


def test_an_unreachable_network_is_named_with_who_said_so() -> None:
    ip("node1", "route add unreachable 198.51.100.0/24")
    unreachable = Route("node1", ip_network("198.51.100.0/24"), kind="unreachable")
    found = outcome(replace(FAIL, target="198.51.100.9"), (*plan(), unreachable))

    assert found.verdict == "pass", text(found)
    assert "icmp: 10.9.1.1 reported to 10.9.1.2: host unreachable" in text(found)


def test_a_reply_lost_on_its_way_back_is_told_as_such() -> None:
    ip("c", "route del default")
    found = outcome(FAIL, routeless("c"))

    assert found.verdict == "pass", text(found)
    assert "the request was last seen entering c/eth0" in text(found)


@pytest.mark.parametrize("target", ["10.9.1.77", "2001:db8:1::77"])
def test_an_address_that_nobody_has_is_asked_for_in_vain(target: str) -> None:
    found = outcome(replace(FAIL, target=target))

    assert found.verdict == "pass", text(found)
    assert f"a/eth0 asked for the MAC address of {target} and got no answer" in text(found)
    ip("node1", "link set br0 down")
    assert outcome(replace(FAIL, target=target)).verdict == "inconclusive"


LOSE_ONE = "limit rate 1/day burst 1 packets counter drop"
WAYS_TO_LOSE = {
    "the gateway's answer": ("node1", "arp", "arp operation reply", "c"),
    "the answer to the router": ("c", "arp", "arp operation reply", "c"),
    "an IPv6 answer": ("node1", "ip6", "icmpv6 type nd-neighbor-advert", SIX),
}


@pytest.mark.parametrize("check", [FAIL, replace(FAIL, within=None), replace(TCP, expect="timeout", within=None)])
@pytest.mark.parametrize("way", WAYS_TO_LOSE)
def test_a_single_lost_question_for_a_mac_address_does_not_pass(way: str, check: Check) -> None:
    node, family, match, target = WAYS_TO_LOSE[way]
    inside(node, f"nft add table {family} lossy")
    inside(node, f"nft add chain {family} lossy output '{{ type filter hook output priority 0; }}'")
    inside(node, f"nft add rule {family} lossy output {match} {LOSE_ONE}")
    found = outcome(replace(check, target=target))

    assert found.verdict == "fail", text(found)
    assert "got a reply" in text(found)
    assert "packets 1 " in subprocess.check_output(
        ["ip", "netns", "exec", paths.netns_name(LAB, node), "nft", "list", "table", family, "lossy"], text=True
    )


def test_a_source_without_a_route_does_not_even_send() -> None:
    ip("a", "route del default")
    found = outcome(FAIL, routeless("a"))

    assert found.verdict == "pass"
    assert "the kernel of a did not send it: ping: connect: Network is unreachable" in text(found)


def test_a_reply_where_none_may_be_fails_at_once() -> None:
    found = outcome(replace(FAIL, within=10))

    assert found.verdict == "fail"
    assert found.seconds < 8


# ---- the dead prove nothing --------------------------------------------------------------------------


def _gone() -> None:
    sh(f"ip netns del {paths.netns_name(LAB, 'c')}")


FAULTS: dict[str, tuple[Callable[[], None], str, str]] = {
    "target's device down": (lambda: ip("c", "link set eth0 down"), "fail", "c/eth0 is down"),
    "target's address gone": (lambda: ip("c", "addr flush dev eth0"), "fail", "c does not have its address"),
    "target gone": (_gone, "fail", "there is no namespace labctl.t.c"),
    "source's device down": (lambda: ip("a", "link set eth0 down"), "fail", "a/eth0 is down"),
    "router's device down": (lambda: ip("node1", "link set br0 down"), "inconclusive", "node1/br0 is down"),
    "target's tap deaf": (lambda: ip("c", "link set lo down"), "inconclusive", "its lo is down"),
}


WAYS: dict[str, tuple[str, str]] = {
    "source's address gone": (
        "-n {a} addr del 10.9.1.2/24 dev eth0",
        "a is not as planned: missing address 10.9.1.2/24",
    ),
    "source's route gone": ("-n {a} route del default", "a is not as planned: missing route default via 10.9.1.1"),
    "router's address gone": ("-n {node1} addr del 10.9.1.1/24 dev br0", "node1 is not as planned: missing address"),
    "router's far address gone": ("-n {node1} addr del 10.9.2.1/24 dev vc", "missing address 10.9.2.1/24 dev vc"),
    "target's way back gone": ("-n {c} route del default", "c is not as planned: missing route default via 10.9.2.1"),
    "a hole on the way": ("-n {node1} route add blackhole 10.9.2.2", "extra route blackhole 10.9.2.2"),
    "a rule on the way": ("-n {node1} rule add pref 9 prohibit", "extra rule pref 9"),
    "source's way by IPv6 gone": ("-n {a} -6 route del default", "a is not as planned: missing route default via 2001"),
    "a link moved": ("-n {node1} link set va nomaster", "changed link va: master was none, should be br0"),
}


@NEEDS_IPTABLES
@pytest.mark.parametrize("way", WAYS)
def test_nothing_passes_by_the_silence_of_a_broken_road(way: str) -> None:
    """The firewall permits everything here: a check that passes reports success on a broken path."""
    words, told = WAYS[way]
    sh(f"ip {words.format(**{name: paths.netns_name(LAB, name) for name in NAMES})}")
    for check in (FAIL, replace(TCP, expect="timeout", within=0.3)):
        found = outcome(replace(check, target=SIX) if "IPv6" in way else check)

        assert found.verdict in ("inconclusive", "fail"), text(found)
        assert check.probe != "ping" or told in text(found), text(found)


BLOCK = "xfrm policy add dir in action block src {0} dst {0}"  # the kernel drops it: no firewall, and in no plan


@NEEDS_IPTABLES
@pytest.mark.parametrize("words", ["", "-A INPUT -p sctp -j DROP", "-A INPUT -s 192.0.2.1 -j DROP", "-P FORWARD DROP"])
def test_a_target_that_is_deaf_does_not_pass_as_one_that_drops(words: str) -> None:
    if words:
        firewall("c", words)
    inside("c", "sysctl -qw net.ipv4.icmp_echo_ignore_all=1")
    ip("c", BLOCK.format("0.0.0.0/0"))
    for check in (FAIL, replace(TCP, expect="timeout", within=0.3), replace(UDP, expect="timeout", within=0.3)):
        found = outcome(check)

        assert found.verdict == "inconclusive", text(found)
        assert "the request was last seen entering c/eth0" in text(found)
        assert "the request entered c, which did not answer, and nothing there shows that it was dropped" in text(found)


@NEEDS_IPTABLES
@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (("-A INPUT -p {0} -j DROP",), "-A INPUT -p {0} -j DROP"),
        (("-N deny", "-A deny -j DROP", "-A INPUT ! -p sctp -j deny"), "-A deny -j DROP"),
        (("-P INPUT DROP",), "-P INPUT DROP"),
        (("-t raw -A PREROUTING -i eth0 -p {0} -j DROP",), "-A PREROUTING -i eth0 -p {0} -j DROP"),
    ],
    ids=["rule", "own chain", "policy", "raw"],
)
@pytest.mark.parametrize("six", [False, True], ids=["4", "6"])
def test_a_drop_at_the_target_names_the_rule_that_counted_it(rules: tuple[str, ...], told: str, six: bool) -> None:
    program = "ip6tables-legacy" if six else "iptables-legacy"
    talk = [f"-A INPUT -p ipv6-icmp --icmpv6-type {kind} -j ACCEPT" for kind in (135, 136) if six]  # of neighbours
    for check in (FAIL, replace(TCP, expect="timeout", within=0.3), replace(UDP, expect="timeout", within=0.3)):
        protocol = check.probe if check.probe != "ping" else ("ipv6-icmp" if six else "icmp")
        if "raw" in rules[0] and protocol == "ipv6-icmp":
            continue  # it would drop the neighbours' talk as well
        for rule in (*talk, *rules):
            firewall("c", rule.format(protocol), program)
        found = outcome(replace(check, target=SIX if six else "c"))
        for words in ("-F", "-X", "-P INPUT ACCEPT", "-t raw -F"):
            firewall("c", words, program)

        assert found.verdict == "pass", text(found)
        assert f"dropped in c by {program.split('-')[0]} -t " in text(found)
        assert told.format(protocol) in text(found)


@NEEDS_IPTABLES
def test_what_is_sent_on_to_a_deaf_machine_does_not_pass_either() -> None:
    firewall("node1", "-t nat -A PREROUTING -d 10.9.1.1 -j DNAT --to-destination 10.9.2.2")
    published = replace(FAIL, target="node1")
    assert outcome(published).verdict == "fail", "c answers"
    inside("c", "sysctl -qw net.ipv4.icmp_echo_ignore_all=1")
    deaf = outcome(published)
    firewall("node1", "-A FORWARD -o vc -j DROP")
    dropped = outcome(published)

    assert deaf.verdict == "inconclusive", text(deaf)
    assert "the request entered c, which did not answer" in text(deaf)
    assert dropped.verdict == "pass", text(dropped)
    assert "dropped in node1 by iptables -t filter -A FORWARD -o vc -j DROP" in text(dropped)


def test_what_is_broken_beside_the_road_does_not_matter() -> None:
    inside("node1", "sysctl -qw net.ipv4.ip_forward=0")
    ip("b", "route del default")

    assert outcome(FAIL).verdict == "pass"


def test_a_silence_is_as_long_as_asked_for_and_a_second_unless_asked() -> None:
    inside("node1", "sysctl -qw net.ipv4.ip_forward=0")
    asked = outcome(replace(FAIL, within=1.6))
    usual = outcome(replace(FAIL, within=None))

    assert (asked.verdict, usual.verdict) == ("pass", "pass"), text(asked)
    assert asked.seconds >= 1.6
    assert 1 <= usual.seconds < 4, "to wait for an answer, 5 seconds are usual"


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_passes_by_the_silence_of_the_dead(fault: str) -> None:
    work, verdict, words = FAULTS[fault]
    inside("node1", "sysctl -qw net.ipv4.ip_forward=0")
    assert outcome(FAIL).verdict == "pass"
    work()
    found = outcome(FAIL)

    assert found.verdict == verdict, text(found)
    assert words in text(found)


def test_a_source_that_is_gone_fails_every_check() -> None:
    sh(f"ip netns del {paths.netns_name(LAB, 'a')}")

    for check in (PING, FAIL, TCP, replace(UDP, expect="timeout")):
        found = outcome(check)
        assert found.verdict == "fail"
        assert "there is no namespace labctl.t.a" in text(found)


def test_nobody_else_may_answer_for_the_target() -> None:
    ip("node1", "addr add 10.9.2.2/32 dev lo")
    found = outcome(replace(PING, within=0.3))

    assert found.verdict == "fail"
    assert "something else answered for c: the request never entered c" in text(found)


def test_lost_frames_make_it_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([{}, *[{"node1": 2}] * 50])
    monkeypatch.setattr(Taps, "losses", lambda self: next(counts))
    found = outcome(replace(PING, within=0.3))

    assert found.verdict == "inconclusive"
    assert "2 frames were lost by the tap in node1" in text(found)


def test_a_tap_that_overflows_counts_what_it_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.kernel.capture.tap.RCVBUF_BYTES", 4096)
    with NetnsThread() as entering, Taps(LAB, ["a", "c"], entering) as taps:
        marker = (b"labc" + b"abcd").hex()
        inside("a", f"ping -n -q -c 200 -i 0 -p {marker} 10.9.2.2")
        lost = taps.losses()

    assert lost["a"] > 0


EVERY_PAIR = Check("all", "mesh", groups=((("a", "b"), ("a", "b", "c")),), within=0.3)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOBUFS, "neighbour table full? see labctl doctor"), (errno.EAGAIN, "see labctl doctor")],
)
def test_a_pair_that_the_machine_had_no_room_for_is_inconclusive(
    number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echo_batch, "send_messages", lambda fd, address, count: -number)
    found = outcome(EVERY_PAIR)

    assert found.verdict == "inconclusive", text(found)
    assert words in text(found)


def test_a_mesh_whose_buffers_overflow_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_sockets, "RCVBUF_BYTES", 1)
    monkeypatch.setattr(mesh.Mesh, "_read", lambda self, tools, number: None)  # no thread empties the buffers
    counts = PairCounts(1, 1, 1)
    targets = {"c": ip_address("10.9.2.2")}
    with NetnsThread() as entering, mesh.Mesh(LAB, entering, targets, lambda name: ()) as pairs:
        pairs.ask([("a", ("c",))], math.inf)
        before = pairs.result()
        inside("a", "ping -q -c 60 -i 0.002 10.9.2.2")
        after = pairs.result()
        pairs._sockets._limit = 1
        pairs._sockets.open([("b", 4)])
        closed = pairs.result()

    assert evaluate_mesh(before, counts)[0] == "fail"
    for lost in (after, closed):
        assert evaluate_mesh(lost, counts)[0] == "inconclusive"
        assert "packets were lost by the socket in" in str(lost.bad[0])


def test_a_member_that_cannot_be_entered_is_inconclusive_and_one_that_is_wrong_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = mesh_sockets.raw_socket

    def shut(version: int) -> object:
        if os.stat("/proc/thread-self/ns/net").st_ino == os.stat(paths.netns_path(LAB, "b")).st_ino:
            raise OSError(errno.EMFILE, "Too many open files")
        return made(version)

    monkeypatch.setattr(mesh_sockets, "raw_socket", shut)
    found = outcome(EVERY_PAIR)
    ip("c", "link set eth0 down")
    worse = outcome(EVERY_PAIR)

    assert found.verdict == "inconclusive", text(found)
    assert "cannot create a socket in b: Too many open files; see labctl doctor" in text(found)
    assert worse.verdict == "fail"
    assert worse.evidence[1].startswith("a -> c (10.9.2.2): no reply, never seen there")


# ---- readiness, listeners, tools ---------------------------------------------------------------------


def test_a_target_that_starts_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ip("c", "link set eth0 down")
    launch, launched = attempt.CheckAttempt._send_probe, []

    def launch_and_begin(self: attempt.CheckAttempt) -> CheckEvidence | None:
        launched.append(self)
        if len(launched) == 3:
            ip("c", "link set eth0 up")
            ip("c", "route add default via 10.9.2.1")
        return launch(self)

    monkeypatch.setattr(attempt.CheckAttempt, "_send_probe", launch_and_begin)
    found = outcome(replace(PING, within=20))

    assert found.verdict == "pass", text(found)
    assert len(launched) >= 3


def test_a_port_in_use_is_told_and_its_owner_answers() -> None:
    path = paths.netns_path(LAB, "c")
    with NetnsThread() as entering:
        taken = entering.run(path, _listening, 8080)
    found = outcome(TCP)
    taken.close()

    assert found.verdict == "pass", text(found)
    assert "labctl could not listen on tcp port 8080 of c: a process listens there already" in text(found)


def _listening(number: int):  # type: ignore[no-untyped-def]
    import socket

    sock = socket.socket()
    sock.bind(("", number))
    sock.listen()
    return sock


def test_any_mark_comes_back_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt.secrets, "token_bytes", lambda size: b"?!?!"[:size].ljust(size, b"?"))

    assert outcome(UDP).verdict == "pass"
    assert outcome(TCP).verdict == "pass"


PUBLISHED = Check("a reaches c behind node1", "tcp", "a", "node1", 8080, server=("c", 80), within=1)
TRANSLATION = "-t nat -A PREROUTING -d 10.9.1.1 -p {} --dport 8080 -j DNAT --to-destination {}"


@NEEDS_IPTABLES
@pytest.mark.parametrize("probe", ["tcp", "udp"])
def test_a_translated_port_is_answered_where_the_check_says(probe: Literal["tcp", "udp"]) -> None:
    firewall("node1", TRANSLATION.format(probe, "10.9.2.2:80"))
    sees = (see("node1/br0", "a", "node1", direction="in"), see("c/eth0", "a", "c", ttl=63))

    assert outcome(replace(PUBLISHED, probe=probe, sees=sees)).verdict == "pass"


@NEEDS_IPTABLES
def test_a_translation_to_somebody_else_does_not_pass() -> None:
    firewall("node1", TRANSLATION.format("udp", "10.9.1.3:80"))
    firewall("node1", "-t nat -A POSTROUTING -o br0 -j MASQUERADE")
    with NetnsThread() as rooms:
        wrong = rooms.run(paths.netns_path(LAB, "b"), Listener, "udp", 4, 80)
        running = threading.Event()
        server = threading.Thread(target=serve, args=(wrong, running))
        server.start()
        found = outcome(replace(PUBLISHED, probe="udp"))
        running.set()
        server.join()
        wrong.close()

    assert found.verdict == "fail"
    assert "the request never entered c" in text(found)


@NEEDS_IPTABLES
def test_a_port_that_the_source_itself_translates_is_followed() -> None:
    firewall("node1", "-t nat -A OUTPUT -d 127.0.0.1 -p tcp --dport 8080 -j DNAT --to-destination 10.9.2.2:80")
    firewall("node1", "-t nat -A POSTROUTING -o vc -m addrtype --src-type LOCAL -j MASQUERADE")
    inside("node1", "sysctl -qw net.ipv4.conf.vc.route_localnet=1")
    found = outcome(replace(PUBLISHED, source="node1", target="127.0.0.1", sees=(see("c/eth0", "10.9.2.1", "c"),)))

    assert found.verdict == "pass", text(found)
    assert found.command.endswith("trace node1 127.0.0.1 --tcp 8080")


def serve(listener: Listener, done: threading.Event) -> None:
    """Answer until `done` is set."""
    while not done.is_set():
        poll = select.poll()
        for fd, events in listener.fds():
            poll.register(fd, events)
        poll.poll(20)
        listener.step()


def test_without_a_listener_a_port_is_closed() -> None:
    assert outcome(replace(TCP, listen=False, within=0.3)).verdict == "fail"
    assert outcome(replace(TCP, listen=False, expect="refused")).verdict == "pass"


def test_without_ping_an_echo_of_our_own_takes_over_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "ping_program", lambda: None)
    for target in ("c", SIX):
        found = outcome(replace(PING, target=target, sees=(see("c/eth0", "a", ttl=63),)))

        assert found.verdict == "pass", text(found)
        assert "ping is not installed" in text(found)
    inside("node1", "sysctl -qw net.ipv4.ip_forward=0")
    assert outcome(FAIL).verdict == "pass"


def test_only_iputils_ping_can_carry_a_mark() -> None:
    clients.ping_program.cache_clear()
    assert clients.ping_program() == shutil.which("ping")


@NEEDS_TCPDUMP
def test_tcpdump_sees_what_the_taps_see() -> None:
    both = replace(
        PING,
        via="tcpdump",
        sees=(see("c/eth0", "a", "c", ttl=63, direction="in"), see("node1/vc", "node1", negate=True)),
    )
    found = outcome(both)
    wrong = outcome(replace(both, sees=(see("c/eth0", "a", ttl=64),)))

    assert found.verdict == "pass", text(found)
    assert "tcpdump: entering c/eth0: 10.9.1.2 > 10.9.2.2 ttl 63" in text(found)
    assert wrong.verdict == "fail"
    assert "seen entering c/eth0: 10.9.1.2 > 10.9.2.2 ttl 63" in text(wrong)


@NEEDS_TCPDUMP
@pytest.mark.parametrize("at", ["a/eth0", "node1/va", "node1/br0", "node1/vc", "c/eth0"])
@pytest.mark.parametrize("target", ["c", SIX])
@pytest.mark.parametrize("check", [PING, TCP, UDP], ids=lambda check: check.probe)
def test_tcpdump_sees_every_probe_everywhere_and_which_way_it_goes(check: Check, target: str, at: str) -> None:
    """The first request of a flow: a TCP segment that enters has another time stamp for each listener."""
    way, back = ("out", "in") if at in ("a/eth0", "node1/vc") else ("in", "out")
    there = see(at, "a", target, direction=way)
    answer = see(at, target, "a", direction=back, packet="reply")
    wrong = see(at, "a", target, direction=back, negate=True)
    found = outcome(replace(check, target=target, via="tcpdump", within=1, sees=(there, answer, wrong)))

    assert found.verdict == "pass", text(found)
    assert text(found).count("tcpdump: ") == 2


@NEEDS_TCPDUMP
def test_tcpdump_that_cannot_prove_that_it_missed_nothing_is_no_witness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tcpdump.Tcpdump, "wait_until_complete", lambda self: "tcpdump did not process all packets in time"
    )
    found = outcome(replace(PING, via="tcpdump", within=0.3, sees=(see("c/eth0", "a"),)))

    assert found.verdict == "inconclusive"
    assert "tcpdump at c/eth0: tcpdump did not process all packets in time" in text(found)


@NEEDS_TCPDUMP
def test_a_tcpdump_that_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    path = paths.netns_path(LAB, "c")
    with NetnsThread() as entering:
        dump = entering.run(path, tcpdump.Tcpdump, shutil.which("tcpdump"), Interface("c", "eth0"))
        dump.wait_ready()
        inside("a", "ping -c 1 10.9.2.2")
        assert dump.wait_until_complete() is None
        assert len(dump.packets) >= 2
        monkeypatch.setattr(tcpdump, "TIMEOUT_S", 0.2)
        dump._child.send_signal(signal.SIGSTOP)
        assert dump.wait_until_complete() == "tcpdump no longer answers"
        dump.close()


@NEEDS_TCPDUMP
def test_tcpdump_that_cannot_start_says_why() -> None:
    found = outcome(replace(PING, via="tcpdump", sees=(see("c/eth9", "a"),)))

    assert found.verdict == "inconclusive"
    assert "cannot start tcpdump at c/eth9" in text(found)


def test_without_tcpdump_a_check_that_asks_for_it_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "tcpdump_program", lambda: None)
    found = outcome(replace(PING, via="tcpdump", sees=(see("c/eth0", "a"),)))

    assert found.verdict == "skip"
    assert "tcpdump is not installed" in text(found)


@NEEDS_TCPDUMP
def test_what_was_seen_is_kept_as_a_file_that_tcpdump_reads(tmp_path: Path) -> None:
    file = tmp_path / "check.pcapng"
    runner.run(
        the_lab(PING, Check("all", "mesh", groups=((("a",), ("b",)),))), save_pcap=lambda _, data: _keep(file, data)
    )
    shown = subprocess.run(["tcpdump", "-nr", str(file)], capture_output=True, text=True, check=True).stdout
    lines = [line for line in shown.splitlines() if "ICMP echo re" in line]

    assert len([line for line in lines if "10.9.1.2 > 10.9.2.2: ICMP echo request" in line]) == 5
    assert len([line for line in lines if "10.9.2.2 > 10.9.1.2: ICMP echo reply" in line]) == 5
    assert b"node1/br0" in file.read_bytes()


def _keep(file: Path, data: bytes) -> str:
    assert not file.exists(), "one file for one check, and none for a mesh"
    file.write_bytes(data)
    return str(file)


# ---- nothing is left ---------------------------------------------------------------------------------


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _children() -> str:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read()


def test_nothing_is_left_after_a_run_or_an_interrupt() -> None:
    lab = the_lab(PING, TCP, replace(PING, via="tcpdump", sees=(see("c/eth0", "a"),)))
    runner.run(lab)
    here, began = (_open_files(), threading.active_count(), _children()), time.monotonic()

    def interrupt(_: Outcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(lab, progress=interrupt)
    runner.run(lab)

    assert time.monotonic() - began < 30
    assert (_open_files(), threading.active_count(), _children()) == here


def test_preset_neighbours_live_as_long_as_the_check_and_leave_others_alone() -> None:
    ip("a", "neigh add 10.9.1.3 lladdr 02:00:00:00:00:99 dev eth0 nud permanent")
    lab = the_lab()
    wanted = (
        NeighbourPresets(lab).needed(address for machine in lab.machines for address in machine.addresses[:1]).presets
    )

    def entries() -> set[str]:
        return {line.strip() for name in NAMES for line in neighbour_lines(name)}

    before = entries()
    with NetnsThread() as entering, neighbours.TemporaryNeighbours(LAB, entering, max_files=2) as made:
        made.add(wanted[:3])
        made.add(wanted)
        during = entries()

    assert any(line.startswith("10.9.1.2 dev br0") and "PERMANENT" in line for line in during)
    assert {line for line in during if "10.9.1.3 dev eth0" in line} == {
        "10.9.1.3 dev eth0 lladdr 02:00:00:00:00:99 PERMANENT"
    }
    assert made.entry_count == len(wanted) - 1
    assert entries() == before


def neighbour_lines(name: str) -> list[str]:
    words = ["ip", "-n", paths.netns_name(LAB, name), "neigh"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if "PERMANENT" in line]
