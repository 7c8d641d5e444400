"""Felix's firewall on a node: its chains in every table, and the IP sets that they match. Pure.

A packet is accepted by a mark. A pod's chain sets the mark and returns, so that a packet passes both the sender's chain
(`cali-fw-`) and the receiver's (`cali-tw-`). The end of FORWARD accepts packets with the mark. For a pod without
policies its profiles set the mark. Policies come before the profiles, in tiers: `WorkloadEndpoint.ingress` and `egress`
name their chains in order.

Follows projectcalico/calico 3.31: felix/rules/static.go, endpoints.go, dispatch.go, nat.go, rule_defs.go.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby

from labctl.core.resources import IpSet, Resource
from labctl.models.lib import calico_reasons, calico_rule_hash, primitives

MARK_ACCEPT, MARK_PASS, MARK_SCRATCH, MARK_ALL = 0x10000, 0x20000, 0x40000, 0xF0000  # Felix's bits of a packet's mark
PROFILES = ("kns.default", "ksa.default.default")  # of the pod's namespace (allows all), and of its service account
MASQ_POOLS_SET, ALL_POOLS_SET, ALL_HOSTS_SET, ALL_VTEPS_SET = (
    f"cali40{name}" for name in ("masq-ipam-pools", "all-ipam-pools", "all-hosts-net", "all-vxlan-net")
)
MAX_CHAIN_NAME = 28
VXLAN_DEVICE, IPIP_DEVICE = "vxlan.calico", "tunl0"
_MATCH_ACCEPT = f"-m mark --mark {MARK_ACCEPT:#x}/{MARK_ACCEPT:#x}"
_HOST_ENDPOINT_ACCEPTED = f'-m comment --comment "Host endpoint policy accepted packet." {_MATCH_ACCEPT} -j '


@dataclass(frozen=True, slots=True)
class PolicyTier:
    """A tier with policies for a pod in one direction: their chains in order. `drops` is what happens at its end to a
    packet that none of them decided: it is dropped, or goes on to the next tier."""

    name: str
    chains: tuple[str, ...]
    drops: bool = True


@dataclass(frozen=True, slots=True)
class WorkloadEndpoint:
    """A pod for Felix: the node's device to it, the tiers with policies that select it, by direction, and the profiles
    of its namespace and of its service account."""

    device: str
    ingress: tuple[PolicyTier, ...] = ()
    egress: tuple[PolicyTier, ...] = ()
    profiles: tuple[str, str] = PROFILES


@dataclass(frozen=True, slots=True)
class FelixConfig:
    """Felix's input for one node: the tunnel device or None, the pods, the addresses of all hosts and of the other
    hosts. Where Calico only enforces policies, there is no pool (""), and pods' devices have another prefix."""

    node: str
    tunnel_device: str | None
    endpoints: tuple[WorkloadEndpoint, ...]
    host_addresses: tuple[str, ...]
    other_host_addresses: tuple[str, ...]
    ip_pool: str
    nat_outgoing: bool = True
    exclude_hosts: bool = False  # pods keep their addresses towards hosts
    endpoint_to_host_action: str = "ACCEPT"  # DefaultEndpointToHostAction
    interface_prefix: str = "cali"  # InterfacePrefix: that of the devices to pods
    mangle_allow_action: str = "ACCEPT"  # IptablesMangleAllowAction: RETURN where others have rules in mangle, too
    max_chain_name: int = MAX_CHAIN_NAME  # longer names are digests


def firewall(config: FelixConfig) -> Iterator[Resource]:
    """All of Felix's chains and IP sets on a node."""
    yield from _ip_sets(config)
    yield from _raw(config)
    yield from _mangle(config)
    yield from _nat(config)
    yield from _input(config)
    yield from _forward(config)
    yield from _output(config)
    yield from workload_chains(config)


def _ip_sets(felix: FelixConfig) -> Iterator[Resource]:
    pool = (felix.ip_pool,)
    masqueraded = pool if felix.nat_outgoing else ()
    yield IpSet(felix.node, MASQ_POOLS_SET, members=masqueraded, why=calico_reasons.MASQ_POOLS)
    yield IpSet(felix.node, ALL_POOLS_SET, members=pool if felix.ip_pool else (), why=calico_reasons.ALL_POOLS)
    if felix.tunnel_device == VXLAN_DEVICE:
        others = tuple(sorted(felix.other_host_addresses))
        yield IpSet(felix.node, ALL_VTEPS_SET, members=others, why=calico_reasons.ALL_VTEPS)
    if felix.tunnel_device == IPIP_DEVICE or felix.exclude_hosts:
        hosts = tuple(sorted(felix.host_addresses))
        yield IpSet(felix.node, ALL_HOSTS_SET, members=hosts, why=calico_reasons.ALL_HOSTS)


def _raw(felix: FelixConfig) -> Iterator[Resource]:
    """Tunnel packets are not tracked; a packet from a pod must have a source address that is routed to that pod."""
    node = felix.node
    untracked = ("-p udp -m udp --dport 4789 -j CT --notrack",) if felix.tunnel_device == VXLAN_DEVICE else ()
    allow, from_pod = f"{_MATCH_ACCEPT} -j ACCEPT", f"-m mark --mark {MARK_SCRATCH:#x}/{MARK_SCRATCH:#x}"
    yield _chain(node, "raw", "PREROUTING", "-j cali-PREROUTING")
    yield _chain(node, "raw", "OUTPUT", "-j cali-OUTPUT")
    yield _chain(
        node, "raw", "cali-PREROUTING", _clear(MARK_ALL), *untracked,
        f"-i {felix.interface_prefix}+ -j MARK --set-xmark {MARK_SCRATCH:#x}/{MARK_SCRATCH:#x}",
        f"{from_pod} -j cali-rpf-skip",
        f"{from_pod} -m rpfilter --validmark --invert -j DROP",
        f"-m mark --mark 0x0/{MARK_SCRATCH:#x} -j cali-from-host-endpoint",
        allow,
    )  # fmt: skip
    yield _chain(node, "raw", "cali-OUTPUT", _clear(MARK_ALL), "-j cali-to-host-endpoint", *untracked, allow)
    for name in ("rpf-skip", "from-host-endpoint", "to-host-endpoint"):
        yield _chain(node, "raw", f"cali-{name}")


def _mangle(felix: FelixConfig) -> Iterator[Resource]:
    """For host policies, of which there are none: known connections and accepted packets pass."""
    node, allow = felix.node, felix.mangle_allow_action
    known_connections = f"-m conntrack --ctstate RELATED,ESTABLISHED -j {allow}"
    yield _chain(node, "mangle", "PREROUTING", "-j cali-PREROUTING")
    yield _chain(node, "mangle", "POSTROUTING", "-j cali-POSTROUTING")
    prerouting = (
        known_connections,
        f"{_MATCH_ACCEPT} -j {allow}",
        "-j cali-from-host-endpoint",
        f"{_HOST_ENDPOINT_ACCEPTED}{allow}",
    )
    yield _chain(node, "mangle", "cali-PREROUTING", *prerouting)
    translated = "-m conntrack --ctstate DNAT -j cali-to-host-endpoint"
    postrouting = (f"{_MATCH_ACCEPT} -j RETURN", _clear(MARK_ALL), translated, f"{_HOST_ENDPOINT_ACCEPTED}RETURN")
    yield _chain(node, "mangle", "cali-POSTROUTING", *postrouting)
    for direction in ("from", "to"):
        yield _chain(node, "mangle", f"cali-{direction}-host-endpoint")


def _nat(felix: FelixConfig) -> Iterator[Resource]:
    """natOutgoing, and the tunnel device's address as source of what the node itself sends into the tunnel."""
    node, tunnel_rules, not_to_hosts = felix.node, [], ""
    if felix.tunnel_device is not None:
        other_source = "-m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL"
        tunnel_rules.append(f"-o {felix.tunnel_device} {other_source} -j MASQUERADE --random-fully")
    if felix.exclude_hosts:
        not_to_hosts = f" -m set ! --match-set {ALL_HOSTS_SET} dst"
    for hook in ("PREROUTING", "OUTPUT"):
        yield _chain(node, "nat", hook, f"-j cali-{hook}")
        yield _chain(node, "nat", f"cali-{hook}", "-j cali-fip-dnat")
    yield _chain(node, "nat", "POSTROUTING", "-j cali-POSTROUTING")
    yield _chain(node, "nat", "cali-POSTROUTING", "-j cali-fip-snat", "-j cali-nat-outgoing", *tunnel_rules)
    for name in ("dnat", "snat"):
        yield _chain(node, "nat", f"cali-fip-{name}")
    outgoing = (
        f"-m set --match-set {MASQ_POOLS_SET} src -m set ! --match-set {ALL_POOLS_SET} dst{not_to_hosts} -j"
        " MASQUERADE --random-fully"
    )
    yield _chain(node, "nat", "cali-nat-outgoing", *((outgoing,) if felix.nat_outgoing else ()))


def _input(felix: FelixConfig) -> Iterator[Resource]:
    """Tunnel packets are accepted from other nodes only; packets from a pod to the node pass the pod's chain."""
    node = felix.node
    guards: tuple[str, ...] = ()
    if felix.tunnel_device == VXLAN_DEVICE:
        port, local = "-m multiport --dports 4789", "-m addrtype --dst-type LOCAL"
        accepted = (
            f"{_comment('Allow IPv4 VXLAN packets from allowed hosts')} {port} -m set --match-set"
            f" {ALL_VTEPS_SET} src {local}"
        )
        dropped = f"{_comment('Drop IPv4 VXLAN packets from non-allowed hosts')} {port} {local}"
        guards = (f"-p udp {accepted} -j ACCEPT", f"-p udp {dropped} -j DROP")
    elif felix.tunnel_device == IPIP_DEVICE:
        accepted = f"{_comment('Allow IPIP packets from Calico hosts')} -m set --match-set {ALL_HOSTS_SET} src"
        dropped = _comment("Drop IPIP packets from non-Calico hosts")
        guards = (f"-p ipencap {accepted} -m addrtype --dst-type LOCAL -j ACCEPT", f"-p ipencap {dropped} -j DROP")
    yield _chain(node, "filter", "INPUT", "-j cali-INPUT")
    rules = (
        *guards,
        f"-i {felix.interface_prefix}+ -g cali-wl-to-host",
        f"{_MATCH_ACCEPT} -j ACCEPT",
        _clear(MARK_ALL),
        "-j cali-from-host-endpoint",
    )
    yield _chain(node, "filter", "cali-INPUT", *rules, f"{_HOST_ENDPOINT_ACCEPTED}ACCEPT")
    yield _chain(node, "filter", "cali-from-host-endpoint")
    action = f"{_comment('Configured DefaultEndpointToHostAction')} -j {felix.endpoint_to_host_action}"
    yield _chain(node, "filter", "cali-wl-to-host", "-j cali-from-wl-dispatch", action)


def _forward(felix: FelixConfig) -> Iterator[Resource]:
    node, prefix = felix.node, felix.interface_prefix
    accepted = f"{_comment('Policy explicitly accepted packet.')} {_MATCH_ACCEPT} -j ACCEPT"
    yield _chain(node, "filter", "FORWARD", "-j cali-FORWARD")  # at the head of FORWARD; the next ones at its end
    accept_rules = (accepted, f"-j MARK --set-xmark {MARK_ACCEPT:#x}/{MARK_ACCEPT:#x}")
    yield primitives.chain(
        node,
        "filter",
        "FORWARD",
        *calico_rule_hash.with_hash_comments(f"FORWARD{calico_rule_hash.APPEND_SUFFIX}", accept_rules),
        shapes=calico_reasons.RULES,
    )
    yield _chain(
        node, "filter", "cali-FORWARD", _clear(MARK_ALL & ~MARK_ACCEPT),
        f"-m mark --mark 0x0/{MARK_ACCEPT:#x} -j cali-from-hep-forward",
        f"-i {prefix}+ -j cali-from-wl-dispatch", f"-o {prefix}+ -j cali-to-wl-dispatch",
        "-j cali-to-hep-forward", "-j cali-cidr-block",
    )  # fmt: skip
    for name in ("from-hep-forward", "to-hep-forward", "cidr-block"):
        yield _chain(node, "filter", f"cali-{name}")


def _output(felix: FelixConfig) -> Iterator[Resource]:
    """Packets from the node itself to pods are not filtered; its tunnel packets to other nodes are allowed."""
    node = felix.node
    allowed: tuple[str, ...] = ()
    if felix.tunnel_device == VXLAN_DEVICE:
        comment = _comment("Allow IPv4 VXLAN packets to other allowed hosts")
        match = f"-m multiport --dports 4789 -m addrtype --src-type LOCAL -m set --match-set {ALL_VTEPS_SET} dst"
        allowed = (f"-p udp {comment} {match} -j ACCEPT",)
    elif felix.tunnel_device == IPIP_DEVICE:
        comment, match = _comment("Allow IPIP packets to other Calico hosts"), f"-m set --match-set {ALL_HOSTS_SET} dst"
        allowed = (f"-p ipencap {comment} {match} -m addrtype --src-type LOCAL -j ACCEPT",)
    yield _chain(node, "filter", "OUTPUT", "-j cali-OUTPUT")
    yield _chain(
        node, "filter", "cali-OUTPUT", f"{_MATCH_ACCEPT} -j ACCEPT", f"-o {felix.interface_prefix}+ -j RETURN",
        *allowed, _clear(MARK_ALL), "-m conntrack ! --ctstate DNAT -j cali-to-host-endpoint",
        f"{_HOST_ENDPOINT_ACCEPTED}ACCEPT",
    )  # fmt: skip
    yield _chain(node, "filter", "cali-to-host-endpoint")


def workload_chains(felix: FelixConfig) -> Iterator[Resource]:
    """The pods' chains, the profiles' chains, and the tree of dispatch chains that selects a pod's chain by device."""
    node = felix.node
    devices = sorted(endpoint.device for endpoint in felix.endpoints)
    for direction, flag, prefix in (("from", "-i", "cali-fw-"), ("to", "-o", "cali-tw-")):
        for name, rules in dispatch_chains(f"cali-{direction}-wl-dispatch", flag, prefix, devices):
            yield _chain(node, "filter", name, *rules)
    for one in felix.endpoints:
        to_pod = _endpoint_chain_rules(felix, "pri", one.profiles, one.ingress)
        yield _chain(node, "filter", f"cali-tw-{one.device}", *to_pod)
        from_pod = _endpoint_chain_rules(felix, "pro", one.profiles, one.egress, _DROP_TUNNELS)
        yield _chain(node, "filter", f"cali-fw-{one.device}", *from_pod)
    for profiles in dict.fromkeys(one.profiles for one in felix.endpoints):
        for direction, name in (("ingress", "pri"), ("egress", "pro")):
            allow, empty = (length_limited_name(f"cali-{name}-", one, felix.max_chain_name) for one in profiles)
            allow_comment, empty_comment = (_comment(f"Profile {profile} {direction}") for profile in profiles)
            mark = f"{allow_comment} -j MARK --set-xmark {MARK_ACCEPT:#x}/{MARK_ACCEPT:#x}"
            yield _chain(node, "filter", allow, mark, f"{_MATCH_ACCEPT} -j RETURN")
            yield _chain(node, "filter", empty, empty_comment)


def dispatch_chains(root: str, flag: str, chain_prefix: str, devices: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The dispatch chains that lead to a pod's chain by its device, the root first; `devices` must be sorted.

    Devices that share one letter after the common prefix get a separate chain, so that many pods need few steps.
    """
    unknown = f"{_comment('Unknown interface')} -j DROP"
    common = len(common_prefix(devices))
    rules, children = [], []
    for prefix, group in groupby(devices, lambda device: device[: common + 1]):
        rules_of_group = [f"{flag} {device} -g {chain_prefix}{device}" for device in group]
        if len(rules_of_group) > 1:
            child = f"{root}-{prefix[common:]}"
            rules.append(f"{flag} {prefix}+ -g {child}")
            children.append((child, [*rules_of_group, unknown]))
        else:
            rules += rules_of_group
    yield root, [*rules, unknown]
    yield from children


def common_prefix(devices: Sequence[str]) -> str:
    """The common prefix of the sorted names."""
    if not devices:
        return ""
    first, last = devices[0], devices[-1]
    length = next((at for at, (one, two) in enumerate(zip(first, last, strict=False)) if one != two), len(first))
    return first[:length]


_DROP_TUNNELS = (
    '-p udp -m comment --comment "Drop VXLAN encapped packets originating in workloads"'
    " -m multiport --dports 4789 -j DROP",
    '-p ipencap -m comment --comment "Drop IPinIP encapped packets originating in workloads" -j DROP',
)


def _endpoint_chain_rules(
    felix: FelixConfig,
    kind: str,
    profiles: Iterable[str],
    tiers: Iterable[PolicyTier],
    first_rules: Iterable[str] = (),
) -> Iterator[str]:
    """A pod's chain in one direction: known connections pass, then come its policies by tiers, then its profiles."""
    yield "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    yield "-m conntrack --ctstate INVALID -j DROP"
    yield _clear(MARK_ACCEPT | MARK_PASS)
    yield from first_rules
    undecided = f"-m mark --mark 0x0/{MARK_PASS:#x}"
    for tier in tiers:
        yield f"{_comment(f'Start of tier {tier.name}')} {_clear(MARK_PASS)}"
        for policy in tier.chains:
            yield f"{undecided} -j {policy}"
            yield f"{_comment('Return if policy accepted')} {_MATCH_ACCEPT} -j RETURN"
        if tier.drops:
            yield f"{_comment(f'End of tier {tier.name}. Drop if no policies passed packet')} {undecided} -j DROP"
    for profile in profiles:
        yield f"-j {length_limited_name(f'cali-{kind}-', profile, felix.max_chain_name)}"
        yield f"{_comment('Return if profile accepted')} {_MATCH_ACCEPT} -j RETURN"
    yield f"{_comment('Drop if no profiles matched')} -j DROP"


def length_limited_name(prefix: str, suffix: str, limit: int = MAX_CHAIN_NAME) -> str:
    """The name of a chain: prefix and suffix, or a digest of the suffix if that is too long for a chain."""
    if len(prefix + suffix) <= limit:
        return prefix + suffix
    digest = urlsafe_b64encode(sha256(suffix.encode()).digest()).decode()
    return f"{prefix}_{digest}"[:limit]


def policy_chain(node: str, name: str, *rules: str) -> Resource:
    """A chain of a policy, in the filter table. Its rules have Felix's comments."""
    return _chain(node, "filter", name, *rules)


def _chain(node: str, table: str, name: str, *rules: str) -> Resource:
    """A chain of which each rule has Felix's `cali:HASH` comment."""
    texts = calico_rule_hash.with_hash_comments(name, rules)
    return primitives.chain(node, table, name, *texts, shapes=calico_reasons.RULES)


def _clear(bits: int) -> str:
    return f"-j MARK --set-xmark 0x0/{bits:#x}"


def _comment(text: str) -> str:
    return f'-m comment --comment "{text}"'
