"""The checks of every podman lab. They follow from the options and the networks of the containers. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.resources import IP, Interface
from labctl.core.scenario_types import Check, Expect, PublishedPort, Scenario, ScenarioNode, See
from labctl.core.sentence import sentence
from labctl.models.lib import docker_underlay
from labctl.models.lib.docker_networks import container_programs
from labctl.models.lib.netavark_nft import leads_to
from labctl.models.lib.podman_networks import BridgeNetwork, Endpoint, host_endpoints

PROBED = ("tcp", "udp")  # the protocols that labctl has clients for


def checks(scenario: Scenario, nets: dict[str, BridgeNetwork]) -> Iterator[Check]:
    """All checks: of the first containers, or ports, that fit."""
    ends_of = {node.name: host_endpoints(node, nets) for node in scenario.nodes}
    yield from _first(_neighbour_check(node, ends_of[node.name]) for node in scenario.nodes)
    yield from _first(_internet_check(scenario, number, node, ends_of) for number, node in enumerate(scenario.nodes))
    yield from _first(_internal_check(ends_of[node.name]) for node in scenario.nodes)
    yield from _port_checks(scenario, ends_of)
    yield from _network_checks(scenario, ends_of)
    yield from _routed_checks(scenario, ends_of)


def _first(found: Iterator[Check | None]) -> Iterator[Check]:
    """The first that there is."""
    check = next((one for one in found if one is not None), None)
    if check is not None:
        yield check


def _single(ends: tuple[Endpoint, ...]) -> list[Endpoint]:
    """The endpoints of containers with one network: their name means their address in it."""
    containers = [end.container for end in ends]
    return [end for end in ends if containers.count(end.container) == 1]


def _neighbour_check(node: ScenarioNode, ends: tuple[Endpoint, ...]) -> Check | None:
    """Two containers of one network."""
    alone = _single(ends)
    for number, one in enumerate(alone):
        other = next((end for end in alone[number + 1 :] if end.network == one.network), None)
        if other is not None:
            say = sentence("containers of one network reach each other over its bridge, with no router between them")
            target = Interface(other.container, other.device)
            sees = (See(target, src=one.container, dst=other.container, ttl=64),)
            return Check(say, "ping", one.container, other.container, sees=sees, origin="model")
    return None


def _internet_check(
    scenario: Scenario, number: int, node: ScenarioNode, ends_of: dict[str, tuple[Endpoint, ...]]
) -> Check | None:
    """Outside, a container is seen with an address of the host, or the one that its network asks for."""
    options = scenario.options
    for end in _single(ends_of[node.name]):
        net = end.network
        if net.internal or not net.default_route or end.addresses[0].version != 4:
            continue
        own = docker_underlay.host_address(options.underlay, number)
        source: IP = next((one for one in net.outbound if one.version == 4), own)
        say = sentence("outside, a container has the address of its host")
        if source != own:
            say = sentence("outside, a container has the address {address}, which its network asks for", address=source)
        expect: Expect = "reply" if source == own else "fail"
        sees = (See(Interface(node.name, "eth0"), src=str(source), dst="internet", ttl=63, direction="out"),)
        return Check(say, "ping", end.container, "internet", expect=expect, sees=sees, origin="model")
    return None


def _internal_check(ends: tuple[Endpoint, ...]) -> Check | None:
    """A container on internal networks only has no way out."""
    external = {end.container for end in ends if not end.network.internal}
    inside = next((end for end in ends if end.container not in external and end.addresses[0].version == 4), None)
    if inside is None:
        return None
    say = sentence("a container on an internal network has no route to the internet")
    return Check(say, "ping", inside.container, "internet", expect="fail", origin="model")


def _port_checks(scenario: Scenario, ends_of: dict[str, tuple[Endpoint, ...]]) -> Iterator[Check]:
    """Published ports: from outside, and from the host itself at 127.0.0.1. One check for each protocol."""
    seen: set[tuple[str, str]] = set()
    for node in scenario.nodes:
        listening = {home for _, home, ports in container_programs(node, dict(node.settings)) if ports}
        for end, port in _published(ends_of[node.name]):
            if port.protocol not in PROBED or end.container in listening:
                continue
            if _is_open_outside(port, scenario) and ("outside", port.protocol) not in seen:
                seen.add(("outside", port.protocol))
                yield _outside_check(node.name, end, port)
            if _is_open_inside(port) and ("inside", port.protocol) not in seen:
                seen.add(("inside", port.protocol))
                yield _loopback_check(node.name, end, port)


def _published(ends: tuple[Endpoint, ...]) -> Iterator[tuple[Endpoint, PublishedPort]]:
    """Published IPv4 ports, each with the endpoint that it leads to: that in the container's first external network."""
    served: set[str] = set()
    for end in ends:
        ipv4 = next((address for address in end.addresses if address.version == 4), None)
        if end.network.internal or ipv4 is None or end.container in served:
            continue
        served.add(end.container)
        yield from ((end, port) for port in end.ports if leads_to(port, ipv4))


def _is_open_outside(port: PublishedPort, scenario: Scenario) -> bool:
    return port.address is None or port.address.is_unspecified or port.address in scenario.options.underlay


def _is_open_inside(port: PublishedPort) -> bool:
    return port.address is None or port.address.is_unspecified or port.address.is_loopback


def _outside_check(host: str, end: Endpoint, port: PublishedPort) -> Check:
    card = Interface(end.container, end.device)
    sees = (See(card, src=str(Interface("internet", "eth0")), dst=str(card), ttl=63),)
    say = sentence(
        "a client outside reaches a published {protocol} port, and keeps its address", protocol=port.protocol
    )
    server = (end.container, port.port)
    return Check(say, port.protocol, "internet", host, port.host_port, server=server, sees=sees, origin="model")


def _loopback_check(host: str, end: Endpoint, port: PublishedPort) -> Check:
    card, bridge = Interface(end.container, end.device), Interface(host, end.network.device)
    target = "127.0.0.1" if port.address is None or port.address.is_unspecified else str(port.address)
    say = sentence(
        "the host reaches a published {protocol} port at {address}, and is seen with the bridge's address",
        protocol=port.protocol,
        address=target,
    )
    sees = (See(card, src=str(bridge), dst=str(card)),)
    server = (end.container, port.port)
    return Check(say, port.protocol, host, target, port.host_port, server=server, sees=sees, origin="model")


def _network_checks(scenario: Scenario, ends_of: dict[str, tuple[Endpoint, ...]]) -> Iterator[Check]:
    """Whether two networks of a host reach each other: one check for each pair of kinds of isolation."""
    seen: set[tuple[str, str]] = set()
    for node in scenario.nodes:
        external = [
            end for end in _single(ends_of[node.name]) if not end.network.internal and end.addresses[0].version == 4
        ]
        for one in external:
            for other in external:
                kinds = (one.network.isolate, other.network.isolate)
                if one.network == other.network or not one.network.default_route or kinds in seen:
                    continue
                if not other.network.default_route:
                    continue  # no answer finds its way
                seen.add(kinds)
                yield _network_check(node.name, one, other)


def _network_check(host: str, one: Endpoint, other: Endpoint) -> Check:
    here, there = one.network.isolate, other.network.isolate
    source, target = Interface(one.container, one.device), Interface(other.container, other.device)
    bridge = Interface(host, other.network.device)
    if here == "strict" or "false" not in (here, there):
        say = sentence(
            "the host drops packets from a network with isolate={here} to one with isolate={there}",
            here=here,
            there=there,
        )
        sees: tuple[See, ...] = (
            See(source, src=one.container, dst=other.container, direction="out"),
            See(bridge, dst=other.container, negate=True),
        )
        return Check(say, "ping", one.container, other.container, expect="fail", sees=sees, origin="model")
    if there == "strict":
        say = sentence(
            "a packet from a network without isolation reaches one with isolate=strict, and the answer is dropped"
        )
        sees = (See(target, src=str(bridge), dst=other.container),)
        return Check(say, "ping", one.container, other.container, expect="fail", sees=sees, origin="model")
    say = sentence(
        "a container of a network with isolate={here} reaches one with isolate={there}, and is seen with the address of"
        " that bridge",
        here=here,
        there=there,
    )
    sees = (See(target, src=str(bridge), dst=other.container, ttl=63),)
    return Check(say, "ping", one.container, other.container, sees=sees, origin="model")


def _routed_checks(scenario: Scenario, ends_of: dict[str, tuple[Endpoint, ...]]) -> Iterator[Check]:
    """What an outside machine with a route to the containers reaches: everything that is not in an internal network."""
    if not scenario.options.routed or not scenario.nodes:
        return
    node = scenario.nodes[0]
    for end in _single(ends_of[node.name]):
        net = end.network
        if not net.internal and net.default_route and end.addresses[0].version == 4:
            say = sentence(
                "a machine outside with a route to a container reaches all its ports, also without `publish`"
            )
            card = Interface(end.container, end.device)
            sees = (See(card, src="internet", dst=end.container, ttl=63),)
            yield Check(say, "tcp", "internet", end.container, 5432, sees=sees, origin="model")
            return
