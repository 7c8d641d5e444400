"""Faults of connection tracking: stale entries, packets that are not tracked, packets that it calls invalid."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.observations import Flow
from labctl.core.resources import IP, Chain
from labctl.core.scenario_types import PortRange
from labctl.core.sentence import sentence
from labctl.core.snat_ports import matching_rules, snat_ports
from labctl.faults.chain_changes import insert_rule
from labctl.faults.claimed_paths import (
    ClaimedPath,
    claimed_paths,
    namespaces_by_role,
    passing,
    paths_through,
    probes,
    text_of,
)
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects
from labctl.faults.rule_walk import source_nat_rule

TCP, UDP = 6, 17
FIRST_USER = 20_000  # the first source port of the connections that use all ports of a block
MAX_FLOWS = 64  # of one fault, which lists each of them
PORT, SOURCE_PORT = 8080, 40_000  # of the flow with a stale entry


def _translated_paths(objects: LabObjects, ns: str) -> tuple[ClaimedPath, ...]:
    """Claimed pings from pods to the outside whose source is translated there."""

    def outward(one: ClaimedPath) -> bool:
        return objects.is_leaf(one.source) and not objects.is_leaf(one.target_ns) and one.probe == "ping"

    paths = paths_through(objects, ns, "routed", keep=outward)
    return tuple(one for one in paths if source_nat_rule(objects, ns, one) is not None)


def _not_translated_before(objects: LabObjects, ns: str, one: ClaimedPath) -> bool:
    """Whether the packet still has its pod's address when it comes to a namespace."""
    on = objects.topology.machines[one.source].on
    return on is None or on == ns or source_nat_rule(objects, on, one) is None


def _notrack(objects: LabObjects) -> Iterator[Fault]:
    """The replies are not tracked where the request was translated, so nothing gives them the pod's address back."""
    for ns in namespaces_by_role(objects):
        paths = _translated_paths(objects, ns)
        if not paths:
            continue
        target = paths[0].target_ip
        change = insert_rule(objects, ns, "raw", "PREROUTING", f"-s {target}/32 -j CT --notrack")
        causes = (ExpectedCause(("not-untranslated",), (ns, "notrack")),)
        symptoms = (
            ExpectedCause(
                ("not-untranslated", "no-route", "neighbour", "rule", "forwarding-off", "closed-port"), (ns,)
            ),
        )
        traffic = probes(one for one in paths if one.target_ip == target)
        yield Fault("notrack-replies", f"{ns}/raw/PREROUTING", (change,), causes, traffic, symptoms)


def _notrack_source(objects: LabObjects) -> Iterator[Fault]:
    """The requests are not tracked, so no NAT rule is asked for them."""
    for ns in namespaces_by_role(objects):
        paths = [one for one in _translated_paths(objects, ns) if _not_translated_before(objects, ns, one)]
        if not paths:
            continue
        source = text_of(objects, paths[0].source)
        change = insert_rule(objects, ns, "raw", "PREROUTING", f"-s {source} -j CT --notrack")
        kinds = (
            "no-route",
            "no-route-back",
            "reject-route",
            "rule",
            "rp-filter",
            "neighbour",
            "notrack",
            "ttl",
            "loop",
        )
        causes = (
            ExpectedCause(kinds, (ns, "kept the source")),
            ExpectedCause(("rule",), (ns, "does not track the request")),  # a firewall drops the reply as INVALID
            ExpectedCause(("answered",), ("source unchanged",)),
        )
        symptoms = (ExpectedCause(kinds, (source.partition("/")[0],)), ExpectedCause(("rule",), ("reply",)))
        traffic = probes(one for one in paths if one.source == paths[0].source)
        name = f"{ns}/raw/PREROUTING/{paths[0].source}"
        yield Fault("notrack-source", name, (change,), causes, traffic, symptoms)


def _drop_invalid(objects: LabObjects) -> Iterator[Fault]:
    """A firewall that sees the replies of connections only: their requests are not tracked."""
    for ns in namespaces_by_role(objects):
        paths = paths_through(
            objects, ns, "routed", keep=lambda one: objects.is_leaf(one.source) and objects.is_leaf(one.target_ns)
        )
        if not paths or source_nat_rule(objects, ns, paths[0]) is not None:
            continue
        source = text_of(objects, paths[0].source)
        changes = (
            insert_rule(objects, ns, "raw", "PREROUTING", f"-s {source} -j CT --notrack"),
            insert_rule(objects, ns, "filter", "FORWARD", "-m conntrack --ctstate INVALID -j DROP"),
        )
        causes = (ExpectedCause(("rule",), (ns, "FORWARD", "does not track the request")),)
        traffic = probes((one for one in paths if one.source == paths[0].source), protocols=("icmp", "tcp"))
        yield Fault("drop-invalid", f"{ns}/filter/FORWARD", changes, causes, traffic)


def _address_towards(objects: LabObjects, one: ClaimedPath) -> IP | None:
    """The address that a probe's source sends with: that of the target's network, else its main one."""
    near = (item.addr.ip for item in objects.addresses(one.source) if one.target_ip in item.addr.network)
    return next(near, objects.topology.address_of(one.source, one.target_ip.version))


def _stale_entry(objects: LabObjects) -> Iterator[Fault]:
    """The flow began before there was a rule that translates its source."""
    for ns in namespaces_by_role(objects):
        for one in _translated_paths(objects, ns):
            source = _address_towards(objects, one)
            if source is None or not _not_translated_before(objects, ns, one):
                continue
            flow = Flow(ns, UDP, source, one.target_ip, SOURCE_PORT, PORT, one.target_ip, source, PORT, SOURCE_PORT)
            causes = (ExpectedCause(("stale-conntrack",), (ns,)), ExpectedCause(("answered",), ("source unchanged",)))
            kinds = ("no-route", "no-route-back", "rule", "rp-filter", "neighbour", "ttl", "loop")
            symptoms = (ExpectedCause(kinds, (str(source),)), ExpectedCause(("rule",), ("reply",)))
            traffic = probes((one,), protocols=("udp",), port=PORT, sport=SOURCE_PORT)
            name = f"{ns}/conntrack/{one.source}"
            yield Fault("conntrack-stale", name, (), causes, traffic, symptoms, (flow,))


def _stale_dnat_entry(objects: LabObjects) -> Iterator[Fault]:
    """The flow began before its port was published, so it goes to the machine itself."""
    for one in claimed_paths(objects):
        ns = one.target_ns
        source = _address_towards(objects, one)
        if one.server is None or one.probe != "udp" or one.port is None or source is None or ns == one.source:
            continue
        if passing(objects, ns, one) != "routed" or one.target_ip.version != 4:
            continue
        flow = Flow(
            ns, UDP, source, one.target_ip, SOURCE_PORT, one.port, one.target_ip, source, one.port, SOURCE_PORT
        )  # fmt: skip
        causes = (ExpectedCause(("stale-conntrack",), (ns,)),)
        symptoms = (ExpectedCause(("closed-port",), (ns, str(one.port))),)
        traffic = probes((one,), sport=SOURCE_PORT)
        name = f"{ns}/conntrack/{one.source}"
        yield Fault("conntrack-stale-dnat", name, (), causes, traffic, symptoms, (flow,))


def _used_ports(objects: LabObjects) -> Iterator[Fault]:
    """Connections of a node have every port that source NAT may give it towards one destination."""
    for ns in namespaces_by_role(objects):
        chain = objects.chain(ns, "nat", "POSTROUTING")
        for one in claimed_paths(objects) if chain is not None else ():
            if one.probe != "tcp" or one.port is None or one.server is not None or one.target_ip.version != 4:
                continue
            found = _port_block(objects, chain, one) if passing(objects, ns, one) == "routed" else None
            if found is None:
                continue
            source, address, ports = found
            used = range(ports.first, ports.last + 1)
            flows = tuple(
                Flow(ns, TCP, source, one.target_ip, sport, one.port, one.target_ip, address, one.port, port)
                for sport, port in enumerate(used, FIRST_USER)
            )
            causes = (ExpectedCause(("snat-port-exhaustion",), (ns, str(address))),)
            traffic = probes((one,), protocols=("tcp",))
            yield Fault("snat-ports-used", f"{ns}/conntrack/{one.source}", (), causes, traffic, (), flows)


def _port_block(objects: LabObjects, chain: Chain | None, one: ClaimedPath) -> tuple[IP, IP, PortRange] | None:
    """The source that the chain's namespace sees of a TCP probe, and the address and the few ports that it gets."""
    machine = objects.topology.machines.get(one.source)
    sources = [objects.topology.address_of(name, 4) for name in (one.source, machine.on if machine else None) if name]
    for source in (ip for ip in sources if ip is not None):
        for _, _, rule in matching_rules((chain,) if chain is not None else (), source, "tcp"):
            given = snat_ports(rule)
            if given is not None and given.address is not None and len(given.ports) <= MAX_FLOWS:
                return source, given.address, given.ports
    return None


KINDS: tuple[FaultKind, ...] = (
    FaultKind(
        "notrack-replies",
        sentence("A rule in the table raw excludes replies from connection tracking (CT --notrack)."),
        sentence("The translation of the source is not undone, so replies end at the machine that translated."),
        _notrack,
    ),
    FaultKind(
        "notrack-source",
        sentence("A rule in the table raw excludes the packets of one pod from connection tracking (CT --notrack)."),
        sentence("No NAT rule is asked for packets that are not tracked, so they keep the pod's address."),
        _notrack_source,
    ),
    FaultKind(
        "drop-invalid",
        sentence(
            "A firewall drops packets in the state INVALID, and does not track the requests that the replies belong to."
        ),
        sentence("Requests arrive, and their replies end at the firewall."),
        _drop_invalid,
    ),
    FaultKind(
        "conntrack-stale",
        sentence("Conntrack has an entry of a UDP flow that began before its source was translated."),
        sentence("Datagrams of that flow, with its fixed source port, are never translated; all others are."),
        _stale_entry,
        unnoticed=sentence("Checks send from a new source port each time, so no probe belongs to the flow."),
    ),
    FaultKind(
        "conntrack-stale-dnat",
        sentence("Conntrack has an entry of a UDP flow that began before its port was published."),
        sentence(
            "Datagrams of that flow go to the machine itself instead of the container; those of new flows arrive."
        ),
        _stale_dnat_entry,
        unnoticed=sentence("Checks send from a new source port each time, so no probe belongs to the flow."),
    ),
    FaultKind(
        "snat-ports-used",
        sentence("Connections of one node use all source ports that a load balancer gives it, to one destination."),
        sentence(
            "A new connection of its pods to that destination times out; those to others and those of other nodes work."
        ),
        _used_ports,
    ),
)
