"""The checks of every docker-bridge lab. They follow from the options and the networks of the containers. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.resources import IP, Interface
from labctl.core.scenario_types import Check, Expect, PublishedPort, Scenario, See
from labctl.core.sentence import sentence
from labctl.models.lib.docker_hosts import BridgeNetwork
from labctl.models.lib.docker_iptables import CHAINS_OF_RELEASE, RANDOM_MAC_RELEASES, Chains28
from labctl.models.lib.docker_mode_checks import closed_port, is_closed, open_ports
from labctl.models.lib.docker_networks import (
    DEFAULT_NETWORK,
    container_endpoints,
    container_programs,
    host_endpoints,
    network_owners,
)


def docker0_checks(scenario: Scenario, networks_by_name: dict[str, BridgeNetwork]) -> Iterator[Check]:
    """Two containers of one host reach each other over docker0, or iptables separates them."""
    for node in scenario.nodes:
        shared = [
            name
            for name, ends in container_endpoints(node, networks_by_name).items()
            if ends and ends[0].network == networks_by_name[DEFAULT_NETWORK]
        ]
        if len(shared) > 1:
            yield _docker0_check(shared[0], shared[1], scenario.options.icc)
            break


def shared_port_checks(scenario: Scenario) -> Iterator[Check]:
    """A container in another machine's network uses the ports of that network."""
    for node in scenario.nodes:
        shared = network_owners(node)
        for name, owner, ports in container_programs(node, dict(node.settings)):
            if name in shared and ports:
                port = ports[0]
                say = sentence(
                    "{name} uses the network of {owner}, where no other program can listen on port {port}",
                    name=name,
                    owner=owner,
                    port=port,
                )
                yield Check(say, "taken", owner, owner, port.port, protocol=port.protocol, origin="model")


def _docker0_check(one: str, other: str, icc: bool) -> Check:
    target, source = Interface(other, "eth0"), Interface(one, "eth0")
    if icc:
        sees = (See(target, src=one, dst=other, ttl=64),)
        say = sentence("containers of one host reach each other over docker0, with no router between them")
        return Check(say, "ping", one, other, sees=sees, origin="model")
    sees_dropped = (See(source, src=one, dst=other, direction="out"), See(target, dst=other, negate=True))
    say = sentence("containers of one host share docker0, but iptables drops packets between them")
    return Check(say, "ping", one, other, expect="fail", sees=sees_dropped, origin="model")


def cross_network_checks(scenario: Scenario, networks_by_name: dict[str, BridgeNetwork]) -> Iterator[Check]:
    """Whether containers of the host's other networks reach a published port. With docker-proxy they do. Without it,
    the translated packet is dropped between the networks, except in 29, which accepts and masquerades it: there the
    network of the caller must be masqueraded. A routed network has no port of the host."""
    options = scenario.options
    open_to_all = options.userland_proxy or CHAINS_OF_RELEASE[options.release].SERVES_OTHER_NETWORKS
    for node in scenario.nodes:
        listening_machines = {home for _, home, listens in container_programs(node, dict(node.settings)) if listens}
        endpoints = host_endpoints(node, networks_by_name)
        # a container's name means its address on eth0, and the check is about its packets by the default route
        ends = [(item.container, item.endpoint) for item in endpoints if item.device == "eth0" and item.default_route]
        members = {(item.container, item.endpoint.network) for item in endpoints}
        checked_protocols: set[str] = set()
        for name, end in ends:
            if not end.ports or end.network.internal or end.network.gateway_mode_ipv4 == "routed":
                continue
            callers = (
                other
                for other, endpoint in ends
                if _is_masqueraded(endpoint.network) and (other, end.network) not in members
            )
            caller = next(callers, None)
            for port in end.ports if caller is not None and name not in listening_machines else ():
                where = _bound_at(port, end.network)
                at_host = where is None or where in options.underlay
                if port.protocol == "udp" and where is None and options.release not in RANDOM_MAC_RELEASES:
                    continue  # docker-proxy answers from a wrong address (moby 48571)
                if caller is not None and at_host and port.protocol not in checked_protocols:
                    checked_protocols.add(port.protocol)
                    yield _cross_network_check(node.name, caller, name, end.network, port, open_to_all)


def _bound_at(port: PublishedPort, net: BridgeNetwork) -> IP | None:
    """The address of the host where a port is published; None for all IPv4 addresses."""
    where = port.address or net.host_binding
    return None if where is None or (where.version == 4 and where.is_unspecified) else where


def _is_masqueraded(net: BridgeNetwork) -> bool:
    """Whether packets that leave a network get another source."""
    is_nat = net.gateway_mode_ipv4 in ("nat", "nat-unprotected")
    return net.masquerade and not net.internal and is_nat and net.host_ipv4 is None


def _cross_network_check(
    host: str, caller: str, name: str, net: BridgeNetwork, port: PublishedPort, reachable: bool
) -> Check:
    target, bridge, source = Interface(name, "eth0"), Interface(host, net.device), Interface(caller, "eth0")
    server = (name, port.port)
    sees: tuple[See, ...] = (See(target, src=str(bridge), dst=name),)
    say = sentence(
        "the host's other networks reach a published {protocol} port, and are seen with the bridge's address",
        protocol=port.protocol,
    )
    if not reachable:
        sees = (See(source, src=caller, direction="out"), See(target, src=caller, negate=True))
        say = sentence(
            "without docker-proxy, the host's other networks do not reach a published {protocol} port",
            protocol=port.protocol,
        )
    return Check(
        say, port.protocol, caller, host, port.host_port, "reply" if reachable else "timeout",
        server=server, sees=sees, origin="model",
    )  # fmt: skip


def masquerade_checks(scenario: Scenario, networks_by_name: dict[str, BridgeNetwork]) -> Iterator[Check]:
    """A network without masquerading: its containers keep their addresses outside. An answer needs a route to them,
    and a host up to 26, or an open way: else later ones drop every packet to a container's address that comes from
    outside, also an answer.
    """
    options = scenario.options
    guarded = issubclass(CHAINS_OF_RELEASE[options.release], Chains28)
    if all(net.masquerade for net in networks_by_name.values()):
        return
    for number, node in enumerate(scenario.nodes):
        for item in host_endpoints(node, networks_by_name):
            name, net = item.container, item.endpoint.network
            if net.masquerade or net.internal or item.device != "eth0" or not item.default_route:
                continue
            routed = options.routed and number == 0
            answered = routed and not (guarded and is_closed(net, scenario))
            sees = (See(Interface(node.name, "eth0"), src=name, dst="internet", direction="out"),)
            say = sentence("outside, a container of a network without masquerading has its own address")
            expect: Expect = "reply" if answered else "fail"
            if not answered:
                say = sentence(
                    "outside, a container of a network without masquerading has its own address, so no answer finds it"
                )
            if routed and not answered:
                say = sentence(
                    "outside, a container of a network without masquerading has its own address, and the host drops the"
                    " answers to it"
                )
            yield Check(say, "ping", name, "internet", expect=expect, sees=sees, origin="model")
            return


def routed_access_checks(scenario: Scenario, networks_by_name: dict[str, BridgeNetwork]) -> Iterator[Check]:
    """What an outside machine with a route to the containers reaches. Up to 26, only the policy of FORWARD protects
    them, but not a published port at the container's address. Internal networks are closed in every release.
    """
    options = scenario.options
    if not options.routed or not scenario.nodes:
        return
    first = scenario.nodes[0]  # the host that the route leads through
    endpoints_of = container_endpoints(first, networks_by_name)
    ends = [(name, endpoints[0]) for name, endpoints in endpoints_of.items() if endpoints]
    guarded = issubclass(CHAINS_OF_RELEASE[options.release], Chains28)
    reachable = [
        (name, end)
        for name, end in ends
        if not end.network.internal and (not guarded or is_closed(end.network, scenario))
    ]
    if reachable and (guarded or options.forward_policy == "DROP"):
        name, end = reachable[0]
        say = sentence("a packet from outside to a container's address reaches the host, which drops it")
        sees = _sees_dropped(first.name, end.network, name)
        yield Check(say, "ping", "internet", name, expect="fail", sees=sees, origin="model")
    for name, end in reachable:
        port = next((port for port in end.ports if port.protocol == "tcp"), None)
        if port is not None and guarded:
            say = sentence("from outside, a published port is open at the host's address only, not at the container's")
            sees = _sees_dropped(first.name, end.network, name)
            yield Check(say, "tcp", "internet", name, port.port, expect="timeout", sees=sees, origin="model")
            break
    for name, end in ends:
        if end.network.internal and end.network.gateway_mode_ipv4 != "isolated":
            say = sentence(
                "an internal network cannot be reached from outside, even by a machine that has a route to it"
            )
            sees = _sees_dropped(first.name, end.network, name)
            yield Check(say, "tcp", "internet", name, 5432, expect="timeout", sees=sees, origin="model")
            break


def routed_network_checks(scenario: Scenario, networks_by_name: dict[str, BridgeNetwork]) -> Iterator[Check]:
    """What an outside machine with a route to the containers reaches in a network with the gateway mode `routed`: the
    published ports of its containers, at their own addresses, and no other port."""
    if not scenario.options.routed or not scenario.nodes:
        return
    first = scenario.nodes[0]
    for name, ends in container_endpoints(first, networks_by_name).items():
        ports = open_ports(ends[0]) if ends else []
        if not ports or ends[0].network.gateway_mode_ipv4 != "routed":
            continue
        say = sentence("from outside, a published port of a routed network is open at the container's address")
        sees = (See(Interface(name, "eth0"), src="internet", dst=name),)
        server = (name, ports[0])
        yield Check(say, "tcp", "internet", name, ports[0], "reply", server=server, sees=sees, origin="model")
        closed = closed_port(ports)
        say = sentence("from outside, the other ports of a routed network are closed: its last rule drops the packet")
        dropped = _sees_dropped(first.name, ends[0].network, name)
        yield Check(say, "tcp", "internet", name, closed, expect="timeout", sees=dropped, origin="model")
        return


def internal_network_checks(scenario: Scenario, networks_by_name: dict[str, BridgeNetwork]) -> Iterator[Check]:
    """With the backend nftables, a container of an internal network reaches a published port at its own bridge: the
    first rule of the forward chain looks at where the packet goes, and there it is accepted. iptables drops it."""
    if scenario.options.firewall_backend != "nftables":
        return
    for node in scenario.nodes:
        listening = {home for _, home, listens in container_programs(node, dict(node.settings)) if listens}
        ends = {name: ends[0] for name, ends in container_endpoints(node, networks_by_name).items() if ends}
        caller = next((name for name, end in ends.items() if end.network.internal and _has_gateway(end.network)), None)
        for name, end in ends.items():
            is_nat = not end.network.internal and end.network.gateway_mode_ipv4 != "routed"
            everywhere = (one for one in end.ports if one.protocol == "tcp" and _bound_at(one, end.network) is None)
            port = next(everywhere, None)
            if caller is None or port is None or not is_nat or name in listening:
                continue
            say = sentence(
                "an internal network reaches a published port at its own bridge: the rules of the port's network come"
                " first, and accept the packet"
            )
            at = f"{node.name}/{ends[caller].network.device}"
            sees = (See(Interface(name, "eth0"), src=caller, dst=name),)
            server = (name, port.port)
            yield Check(say, "tcp", caller, at, port.host_port, "reply", server=server, sees=sees, origin="model")
            return


def _has_gateway(net: BridgeNetwork) -> bool:
    """Whether the bridge has an address: not in an isolated network."""
    return net.gateway_mode_ipv4 != "isolated"


def _sees_dropped(host: str, net: BridgeNetwork, name: str) -> tuple[See, See]:
    """A packet from the internet enters the host and does not leave it towards the container."""
    card, bridge = Interface(host, "eth0"), Interface(host, net.device)
    return See(card, src="internet", dst=name, direction="in"), See(bridge, dst=name, negate=True)
