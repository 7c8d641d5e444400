"""The checks of docker-bridge labs that follow from gateway modes, trusted interfaces and IPv6. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.resources import Interface
from labctl.core.scenario_types import Check, Scenario, ScenarioNode, See
from labctl.core.sentence import sentence
from labctl.models.lib import docker_underlay
from labctl.models.lib.docker_hosts import BridgeNetwork, Endpoint
from labctl.models.lib.docker_networks import container_endpoints, container_programs, host_endpoints

Networks = dict[str, BridgeNetwork]


def direct_access_checks(scenario: Scenario, networks_by_name: Networks) -> Iterator[Check]:
    """What an outside machine with a route to the containers reaches where the way is open: every port of a network in
    the mode `nat-unprotected`; the published ports of one that trusts the host's card, or with direct routing."""
    options = scenario.options
    if not options.routed or not scenario.nodes:
        return
    first = scenario.nodes[0]
    listening = _listening(first)
    told: set[str] = set()
    for name, ends in container_endpoints(first, networks_by_name).items():
        net = ends[0].network if ends else None
        if net is None or net.internal or name in listening:
            continue
        published = open_ports(ends[0])
        port, say = 0, ""
        if net.gateway_mode_ipv4 == "nat-unprotected":
            port = closed_port(published)
            say = sentence("from outside, every port of an unprotected network is open at the container's address")
        elif published and net.gateway_mode_ipv4 == "nat" and not is_closed(net, scenario):
            port = published[0]
            say = sentence("the host trusts packets from outside: a published port is open at the container's address")
        if say and say not in told:
            told.add(say)
            sees = (See(Interface(name, "eth0"), src="internet", dst=name),)
            yield Check(say, "tcp", "internet", name, port, server=(name, port), sees=sees, origin="model")


def is_closed(net: BridgeNetwork, scenario: Scenario) -> bool:
    """Whether the host drops packets from outside to the addresses of a network's containers (in 28 and 29)."""
    return net.gateway_mode_ipv4 == "nat" and not scenario.options.allow_direct_routing and not trusts_outside(net)


def open_ports(end: Endpoint) -> list[int]:
    """The TCP ports of a container that are published for its IPv4 address."""
    return [
        port.port
        for port in end.ports
        if port.protocol == "tcp" and (port.address is None or port.address.version == 4)
    ]


def closed_port(published: list[int]) -> int:
    """A port that is not published."""
    return next(port for port in range(80, 81 + len(published)) if port not in published)


def trusts_outside(net: BridgeNetwork) -> bool:
    """Whether packets from the host's card may go straight to the containers of a network."""
    return "eth0" in net.trusted_host_interfaces


def isolated_network_checks(scenario: Scenario, networks_by_name: Networks) -> Iterator[Check]:
    """An isolated network has no gateway: its containers reach each other, and the host reaches none of them."""
    for node in scenario.nodes:
        members: dict[BridgeNetwork, list[str]] = {}
        for name, ends in container_endpoints(node, networks_by_name).items():
            if ends and ends[0].network.gateway_mode_ipv4 == "isolated":
                members.setdefault(ends[0].network, []).append(name)
        for net, names in members.items():
            say = sentence("the bridge of an isolated network has no address: the host does not reach its containers")
            sees: tuple[See, ...] = (See(Interface(node.name, net.device), dst=names[0], negate=True),)
            yield Check(say, "ping", node.name, names[0], expect="fail", sees=sees, origin="model")
            if len(names) > 1 and net.icc:
                say = sentence("containers of an isolated network reach each other, on their bridge")
                sees = (See(Interface(names[1], "eth0"), src=names[0], dst=names[1], ttl=64),)
                yield Check(say, "ping", names[0], names[1], sees=sees, origin="model")
            return


def ipv6_checks(scenario: Scenario, networks_by_name: Networks) -> Iterator[Check]:
    """A container with IPv6 reaches the internet, masqueraded or with its own address; clients outside reach its
    published ports at the host's IPv6 address."""
    options = scenario.options
    for number, node in enumerate(scenario.nodes):
        host_address = str(docker_underlay.host_address_ipv6(options.underlay_ipv6, number))
        items = host_endpoints(node, networks_by_name)
        ends = [(item.container, item.device, item.endpoint) for item in items if item.default_route6]
        nat = [item for item in ends if item[2].network.masquerade and item[2].network.gateway_mode_ipv6 != "routed"]
        if nat:
            name, _, end = nat[0]
            yield _way_out_check(scenario, node.name, name, end, host_address, routed=options.routed and not number)
        yield from _ipv6_port_check(scenario, node, ends, host_address)
        if nat:
            return


def _way_out_check(
    scenario: Scenario, host: str, name: str, end: Endpoint, host_address: str, *, routed: bool
) -> Check:
    """The source of a container's packets outside. `routed` is whether an answer finds a container's own address."""
    target = str(scenario.options.internet_ipv6)
    if _has_ip6tables(scenario) and end.network.host_ipv6 is not None:
        host_address = str(end.network.host_ipv6)
    if _has_ip6tables(scenario):
        say = sentence("outside, a container with IPv6 has the address of its host: Docker masquerades IPv6, too")
        sees: tuple[See, ...] = (See(Interface("internet", "eth0"), src=host_address, dst=target),)
        return Check(say, "ping", name, target, sees=sees, origin="model")
    say = sentence("outside, a container with IPv6 has its own address: this release has no rules for IPv6")
    sees = (See(Interface(host, "eth0"), src=str(end.address6), dst=target, direction="out"),)
    return Check(say, "ping", name, target, expect="reply" if routed else "fail", sees=sees, origin="model")


def _ipv6_port_check(
    scenario: Scenario, node: ScenarioNode, ends: list[tuple[str, str, Endpoint]], host_address: str
) -> Iterator[Check]:
    """A client outside reaches the first published port that is bound at all IPv6 addresses of the host."""
    listening = _listening(node)
    for name, device, end in ends if _has_ip6tables(scenario) else ():
        if end.network.gateway_mode_ipv6 == "routed" or end.network.host_binding is not None or name in listening:
            continue
        port = next((one for one in end.ports6 if one.protocol == "tcp" and str(one.address) in ("None", "::")), None)
        if port is not None:
            say = sentence("a client outside reaches a published port over IPv6, and keeps its address")
            at = Interface(name, device)
            client = scenario.options.underlay_ipv6.network_address + 1  # the address next to the host
            sees = (See(at, src=str(client), dst=str(end.address6)),)
            yield Check(
                say,
                "tcp",
                "internet",
                host_address,
                port.host_port,
                server=(name, port.port),
                sees=sees,
                origin="model",
            )
            return


def _has_ip6tables(scenario: Scenario) -> bool:
    """Whether the release has rules for IPv6: those up to 26 have none, unless one asks for an experiment."""
    return scenario.options.release in ("28", "29")


def _listening(node: ScenarioNode) -> set[str]:
    """The machines with programs that listen already: a check starts no server there."""
    return {home for _, home, listens in container_programs(node, dict(node.settings)) if listens}
