"""Felix's firewall on a node: its chains in every table, and the IP sets that they match. Pure.

A packet is accepted by a mark. A pod's chain sets the mark and returns, so that a packet passes both the sender's chain
(`cali-fw-`) and the receiver's (`cali-tw-`). The end of FORWARD accepts packets with the mark. For a pod without
policies its profiles set the mark. Policies come before the profiles: `Endpoint.ingress` and `Endpoint.egress` name
their chains in order.

Follows projectcalico/calico 3.31: felix/rules/static.go, endpoints.go, dispatch.go, nat.go, rule_defs.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from labctl.core.resources import IpSet, Resource
from labctl.models.lib import calico_rule_hash, primitives

ACCEPT, PASS, SCRATCH, ALL = 0x10000, 0x20000, 0x40000, 0xF0000  # Felix's bits of a packet's mark
PROFILES = ("kns.default", "ksa.default.default")  # of the pod's namespace (allows all), and of its service account
MASQ, POOLS, HOSTS, VTEPS = (
    f"cali40{name}" for name in ("masq-ipam-pools", "all-ipam-pools", "all-hosts-net", "all-vxlan-net")
)
VXLAN, IPIP = "vxlan.calico", "tunl0"
_ACCEPTED = f"-m mark --mark {ACCEPT:#x}/{ACCEPT:#x}"
_HOST_ENDPOINT = f'-m comment --comment "Host endpoint policy accepted packet." {_ACCEPTED} -j '


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod for Felix: the node's device to it, and the chains of the policies that select it, by direction."""

    device: str
    ingress: tuple[str, ...] = ()
    egress: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Felix:
    """Felix's input for one node: the tunnel device or None, the pods, the addresses of all hosts (`hosts`) and of the
    other hosts (`others`)."""

    node: str
    tunnel: str | None
    endpoints: tuple[Endpoint, ...]
    hosts: tuple[str, ...]
    others: tuple[str, ...]
    pool: str
    masquerade: bool = True
    spare_hosts: bool = False  # pods keep their addresses towards hosts
    to_host: str = "ACCEPT"  # DefaultEndpointToHostAction


def firewall(felix: Felix) -> Iterator[Resource]:
    """All of Felix's chains and IP sets on a node."""
    yield from _sets(felix)
    yield from _raw(felix)
    yield from _mangle(felix.node)
    yield from _nat(felix)
    yield from _input(felix)
    yield from _forward(felix.node)
    yield from _output(felix)
    yield from _workloads(felix)


def _sets(felix: Felix) -> Iterator[Resource]:
    yield IpSet(felix.node, MASQ, members=(felix.pool,) if felix.masquerade else ())
    yield IpSet(felix.node, POOLS, members=(felix.pool,))
    if felix.tunnel == VXLAN:
        yield IpSet(felix.node, VTEPS, members=tuple(sorted(felix.others)))
    if felix.tunnel == IPIP or felix.spare_hosts:
        yield IpSet(felix.node, HOSTS, members=tuple(sorted(felix.hosts)))


def _raw(felix: Felix) -> Iterator[Resource]:
    """Tunnel packets are not tracked; a packet from a pod must have a source address that is routed to that pod."""
    node = felix.node
    untracked = ("-p udp -m udp --dport 4789 -j CT --notrack",) if felix.tunnel == VXLAN else ()
    allow, from_pod = f"{_ACCEPTED} -j ACCEPT", f"-m mark --mark {SCRATCH:#x}/{SCRATCH:#x}"
    yield _chain(node, "raw", "PREROUTING", "-j cali-PREROUTING")
    yield _chain(node, "raw", "OUTPUT", "-j cali-OUTPUT")
    yield _chain(
        node, "raw", "cali-PREROUTING", _clear(ALL), *untracked,
        f"-i cali+ -j MARK --set-xmark {SCRATCH:#x}/{SCRATCH:#x}",
        f"{from_pod} -j cali-rpf-skip",
        f"{from_pod} -m rpfilter --validmark --invert -j DROP",
        f"-m mark --mark 0x0/{SCRATCH:#x} -j cali-from-host-endpoint",
        allow,
    )  # fmt: skip
    yield _chain(node, "raw", "cali-OUTPUT", _clear(ALL), "-j cali-to-host-endpoint", *untracked, allow)
    for name in ("rpf-skip", "from-host-endpoint", "to-host-endpoint"):
        yield _chain(node, "raw", f"cali-{name}")


def _mangle(node: str) -> Iterator[Resource]:
    """For host policies, of which there are none: known connections and accepted packets pass."""
    known = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    yield _chain(node, "mangle", "PREROUTING", "-j cali-PREROUTING")
    yield _chain(node, "mangle", "POSTROUTING", "-j cali-POSTROUTING")
    first = (known, f"{_ACCEPTED} -j ACCEPT", "-j cali-from-host-endpoint", f"{_HOST_ENDPOINT}ACCEPT")
    yield _chain(node, "mangle", "cali-PREROUTING", *first)
    translated = "-m conntrack --ctstate DNAT -j cali-to-host-endpoint"
    last = (f"{_ACCEPTED} -j RETURN", _clear(ALL), translated, f"{_HOST_ENDPOINT}RETURN")
    yield _chain(node, "mangle", "cali-POSTROUTING", *last)
    for way in ("from", "to"):
        yield _chain(node, "mangle", f"cali-{way}-host-endpoint")


def _nat(felix: Felix) -> Iterator[Resource]:
    """natOutgoing, and the tunnel device's address as source of what the node itself sends into the tunnel."""
    node, tunnel, others = felix.node, [], ""
    if felix.tunnel is not None:
        wrong = "-m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL"
        tunnel.append(f"-o {felix.tunnel} {wrong} -j MASQUERADE --random-fully")
    if felix.spare_hosts:
        others = f" -m set ! --match-set {HOSTS} dst"
    for hook in ("PREROUTING", "OUTPUT"):
        yield _chain(node, "nat", hook, f"-j cali-{hook}")
        yield _chain(node, "nat", f"cali-{hook}", "-j cali-fip-dnat")
    yield _chain(node, "nat", "POSTROUTING", "-j cali-POSTROUTING")
    yield _chain(node, "nat", "cali-POSTROUTING", "-j cali-fip-snat", "-j cali-nat-outgoing", *tunnel)
    for name in ("dnat", "snat"):
        yield _chain(node, "nat", f"cali-fip-{name}")
    outgoing = f"-m set --match-set {MASQ} src -m set ! --match-set {POOLS} dst{others} -j MASQUERADE --random-fully"
    yield _chain(node, "nat", "cali-nat-outgoing", *((outgoing,) if felix.masquerade else ()))


def _input(felix: Felix) -> Iterator[Resource]:
    """Tunnel packets are accepted from other nodes only; packets from a pod to the node pass the pod's chain."""
    node = felix.node
    guards: tuple[str, ...] = ()
    if felix.tunnel == VXLAN:
        port, local = "-m multiport --dports 4789", "-m addrtype --dst-type LOCAL"
        known = f"{_about('Allow IPv4 VXLAN packets from allowed hosts')} {port} -m set --match-set {VTEPS} src {local}"
        other = f"{_about('Drop IPv4 VXLAN packets from non-allowed hosts')} {port} {local}"
        guards = (f"-p udp {known} -j ACCEPT", f"-p udp {other} -j DROP")
    elif felix.tunnel == IPIP:
        known = f"{_about('Allow IPIP packets from Calico hosts')} -m set --match-set {HOSTS} src"
        other = _about("Drop IPIP packets from non-Calico hosts")
        guards = (f"-p ipencap {known} -m addrtype --dst-type LOCAL -j ACCEPT", f"-p ipencap {other} -j DROP")
    yield _chain(node, "filter", "INPUT", "-j cali-INPUT")
    mine = (*guards, "-i cali+ -g cali-wl-to-host", f"{_ACCEPTED} -j ACCEPT", _clear(ALL), "-j cali-from-host-endpoint")
    yield _chain(node, "filter", "cali-INPUT", *mine, f"{_HOST_ENDPOINT}ACCEPT")
    yield _chain(node, "filter", "cali-from-host-endpoint")
    action = f"{_about('Configured DefaultEndpointToHostAction')} -j {felix.to_host}"
    yield _chain(node, "filter", "cali-wl-to-host", "-j cali-from-wl-dispatch", action)


def _forward(node: str) -> Iterator[Resource]:
    accepted = f"{_about('Policy explicitly accepted packet.')} {_ACCEPTED} -j ACCEPT"
    yield _chain(node, "filter", "FORWARD", "-j cali-FORWARD")  # at the head of FORWARD; the next ones at its end
    last = (accepted, f"-j MARK --set-xmark {ACCEPT:#x}/{ACCEPT:#x}")
    yield primitives.chain(
        node, "filter", "FORWARD", *calico_rule_hash.marked(f"FORWARD{calico_rule_hash.APPENDED}", last)
    )
    yield _chain(
        node, "filter", "cali-FORWARD", _clear(ALL & ~ACCEPT),
        f"-m mark --mark 0x0/{ACCEPT:#x} -j cali-from-hep-forward",
        "-i cali+ -j cali-from-wl-dispatch", "-o cali+ -j cali-to-wl-dispatch",
        "-j cali-to-hep-forward", "-j cali-cidr-block",
    )  # fmt: skip
    for name in ("from-hep-forward", "to-hep-forward", "cidr-block"):
        yield _chain(node, "filter", f"cali-{name}")


def _output(felix: Felix) -> Iterator[Resource]:
    """Packets from the node itself to pods are not filtered; its tunnel packets to other nodes are allowed."""
    node = felix.node
    allowed: tuple[str, ...] = ()
    if felix.tunnel == VXLAN:
        why = _about("Allow IPv4 VXLAN packets to other allowed hosts")
        where = f"-m multiport --dports 4789 -m addrtype --src-type LOCAL -m set --match-set {VTEPS} dst"
        allowed = (f"-p udp {why} {where} -j ACCEPT",)
    elif felix.tunnel == IPIP:
        why, where = _about("Allow IPIP packets to other Calico hosts"), f"-m set --match-set {HOSTS} dst"
        allowed = (f"-p ipencap {why} {where} -m addrtype --src-type LOCAL -j ACCEPT",)
    yield _chain(node, "filter", "OUTPUT", "-j cali-OUTPUT")
    yield _chain(
        node, "filter", "cali-OUTPUT", f"{_ACCEPTED} -j ACCEPT", "-o cali+ -j RETURN", *allowed, _clear(ALL),
        "-m conntrack ! --ctstate DNAT -j cali-to-host-endpoint", f"{_HOST_ENDPOINT}ACCEPT",
    )  # fmt: skip
    yield _chain(node, "filter", "cali-to-host-endpoint")


def _workloads(felix: Felix) -> Iterator[Resource]:
    """The pods' chains, the profiles' chains, and the tree of dispatch chains that selects a pod's chain by device."""
    node = felix.node
    devices = sorted(endpoint.device for endpoint in felix.endpoints)
    for way, flag, own in (("from", "-i", "cali-fw-"), ("to", "-o", "cali-tw-")):
        for name, rules in dispatch(f"cali-{way}-wl-dispatch", flag, own, devices):
            yield _chain(node, "filter", name, *rules)
    for endpoint in felix.endpoints:
        yield _chain(node, "filter", f"cali-tw-{endpoint.device}", *_pod("pri", endpoint.ingress))
        yield _chain(node, "filter", f"cali-fw-{endpoint.device}", *_pod("pro", endpoint.egress, _NO_TUNNELS))
    if not felix.endpoints:
        return
    for way, name in (("ingress", "pri"), ("egress", "pro")):
        allow, empty = (f"cali-{name}-{profile}" for profile in PROFILES)
        about, nothing = (_about(f"Profile {profile} {way}") for profile in PROFILES)
        mark = f"{about} -j MARK --set-xmark {ACCEPT:#x}/{ACCEPT:#x}"
        yield _chain(node, "filter", allow, mark, f"{_ACCEPTED} -j RETURN")
        yield _chain(node, "filter", empty, nothing)


def dispatch(root: str, flag: str, own: str, devices: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The dispatch chains that lead to a pod's chain by its device, the root first; `devices` must be sorted.

    Devices that share one letter after the common prefix get a separate chain, so that many pods need few steps.
    """
    unknown = f"{_about('Unknown interface')} -j DROP"
    common = len(_common(devices))
    rules, children = [], []
    for head, some in groupby(devices, lambda device: device[: common + 1]):
        each = [f"{flag} {device} -g {own}{device}" for device in some]
        if len(each) > 1:
            child = f"{root}-{head[common:]}"
            rules.append(f"{flag} {head}+ -g {child}")
            children.append((child, [*each, unknown]))
        else:
            rules += each
    yield root, [*rules, unknown]
    yield from children


def _common(devices: Sequence[str]) -> str:
    """The common prefix of the sorted names."""
    if not devices:
        return ""
    first, last = devices[0], devices[-1]
    same = next((at for at, (one, two) in enumerate(zip(first, last, strict=False)) if one != two), len(first))
    return first[:same]


_NO_TUNNELS = (
    '-p udp -m comment --comment "Drop VXLAN encapped packets originating in workloads"'
    " -m multiport --dports 4789 -j DROP",
    '-p ipencap -m comment --comment "Drop IPinIP encapped packets originating in workloads" -j DROP',
)


def _pod(profiles: str, policies: Iterable[str], guards: Iterable[str] = ()) -> Iterator[str]:
    """A pod's chain in one direction: known connections pass, then come its policies (if any), then its profiles."""
    yield "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    yield "-m conntrack --ctstate INVALID -j DROP"
    yield _clear(ACCEPT | PASS)
    yield from guards
    unsettled, policies = f"-m mark --mark 0x0/{PASS:#x}", tuple(policies)
    if policies:
        yield f"{_about('Start of tier default')} {_clear(PASS)}"
        for policy in policies:
            yield f"{unsettled} -j {policy}"
            yield f"{_about('Return if policy accepted')} {_ACCEPTED} -j RETURN"
        yield f"{_about('End of tier default. Drop if no policies passed packet')} {unsettled} -j DROP"
    for profile in PROFILES:
        yield f"-j cali-{profiles}-{profile}"
        yield f"{_about('Return if profile accepted')} {_ACCEPTED} -j RETURN"
    yield f"{_about('Drop if no profiles matched')} -j DROP"


def _chain(node: str, table: str, name: str, *rules: str) -> Resource:
    """A chain of which each rule has Felix's `cali:HASH` comment."""
    return primitives.chain(node, table, name, *calico_rule_hash.marked(name, rules))


def _clear(bits: int) -> str:
    return f"-j MARK --set-xmark 0x0/{bits:#x}"


def _about(text: str) -> str:
    return f'-m comment --comment "{text}"'
